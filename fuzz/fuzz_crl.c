/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_crl.c - revocation lists, as a peer could send them.
 *
 * First byte: 0 a whole list, whose form alone is judged; 1 the signed part of one, which is wrapped here so that the
 * fuzzer need not find lengths; 2 edits (offset u16, value u8) to a good list, which must then be refused unless
 * nothing changed. What is accepted is sorted, has no serial twice, and each entry is found again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "node/cert.h"
#include "node/crl.h"
#include "node/der.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint64_t now_ms = UINT64_C(1800000000000);
static struct dbe_trust trust;
static struct base_buf good;

static void require(bool cond)
{
    if (!cond)
        abort();
}

static void make_good(void)
{
    struct crypto_key *ca_key = NULL;
    struct crl_entry entries[] = {{{0x41, 1}, 2, DBE_REVOKE_KEY_COMPROMISE, now_ms}, {{0x41, 2}, 2, 0, now_ms}};
    struct base_buf ca;
    X509 *x = NULL;

    base_buf_init(&ca, DBE_CERT_MAX_BYTES);
    base_buf_init(&good, DBE_CRL_MAX_BYTES);
    require(crypto_init(NULL) == DBE_OK && crypto_key_generate(&ca_key) == DBE_OK);
    require(cert_make_ca(ca_key, "fuzz.test", now_ms - 1000, now_ms + 1000000, &ca) == DBE_OK);
    require(cert_parse(ca.data, ca.len, &x, NULL) == DBE_OK && cert_read_ca(x, &trust, NULL) == DBE_OK);
    require(crl_make(&trust, ca_key, entries, BASE_ARRAY_LEN(entries), 7, now_ms, &good) == DBE_OK);
    base_buf_free(&ca);
    crypto_key_free(ca_key);
}

static void whole(const uint8_t *data, size_t size)
{
    struct crl *crl = NULL;
    struct dbe_diag diag;

    if (crl_parse(data, size, &crl, &diag) != DBE_OK)
        return;
    require(crl->number > 0 && crl->count <= DBE_REVOKED_MAX && crl->der_len == size);
    for (size_t i = 0; i < crl->count; i++) {
        require(i == 0 || crl_entry_order(&crl->entries[i - 1], &crl->entries[i]) < 0);
        require(crl_find(crl, crl->entries[i].serial, crl->entries[i].serial_len) == &crl->entries[i]);
    }
    crl_free(crl);
}

static void wrapped(const uint8_t *data, size_t size)
{
    static const uint8_t algorithm[] = {0x30, 0x0B, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                        0x65, 0x03, 0x04, 0x03, 0x13};
    static const uint8_t bits[1 + CRYPTO_MLDSA87_SIG_BYTES];
    struct base_buf content, list;

    base_buf_init(&content, DBE_CRL_MAX_BYTES);
    base_buf_init(&list, DBE_CRL_MAX_BYTES);
    der_put(&content, DER_SEQ, data, size);
    base_buf_bytes(&content, algorithm, sizeof algorithm);
    der_put(&content, DER_BITS, bits, sizeof bits);
    der_put(&list, DER_SEQ, content.data, content.len);
    if (content.err == DBE_OK && list.err == DBE_OK)
        whole(list.data, list.len);
    base_buf_free(&content);
    base_buf_free(&list);
}

static void edited(const uint8_t *data, size_t size)
{
    struct dbe_diag diag;
    struct crl *crl = NULL;
    uint8_t *copy = malloc(good.len);

    require(copy != NULL);
    memcpy(copy, good.data, good.len);
    for (size_t i = 0; i + 3 <= size; i += 3)
        copy[base_get_u16(data + i) % good.len] = data[i + 2];
    bool same = memcmp(copy, good.data, good.len) == 0;
    require((crl_read(&trust, copy, good.len, &crl, &diag) == DBE_OK) == same);
    crl_free(crl);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[])(const uint8_t *, size_t) = {whole, wrapped, edited};

    if (good.len == 0)
        make_good();
    if (size > 0 && data[0] < BASE_ARRAY_LEN(kinds))
        kinds[data[0]](data + 1, size - 1);
    return 0;
}
