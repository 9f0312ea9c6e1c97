/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_cert.c - certificates and their parts, as a peer could send them.
 *
 * First byte: 0 a whole certificate; 1 edits (offset u16, value u8) to a good one, which must then be refused unless
 * nothing changed; 2 a SPIFFE id; 3 the ceilings' DER. What is accepted must write back to the same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "node/cert.h"
#include "node/profile.h"

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
    struct crypto_key *ca_key = NULL, *key = NULL;
    struct base_buf ca;
    X509 *x = NULL;
    struct dbe_identity id = {.mesh = "fuzz.test",
                              .device = DBE_DEV_EXTENDED_ANALYTICS,
                              .layer = DBE_LAYER_EXTENDED,
                              .role = DBE_ROLE_ROUTER,
                              .compartments = DBE_COMPARTMENT_SOC,
                              .not_before_ms = now_ms - 1000,
                              .not_after_ms = now_ms + 1000000};

    base_buf_init(&ca, DBE_CERT_MAX_BYTES);
    base_buf_init(&good, DBE_CERT_MAX_BYTES);
    require(crypto_init(NULL) == DBE_OK && profile_write_spiffe(&id, NULL) == DBE_OK);
    require(crypto_key_generate(&ca_key) == DBE_OK && crypto_key_generate(&key) == DBE_OK);
    require(cert_make_ca(ca_key, "fuzz.test", now_ms - 1000, now_ms + 1000000, &ca) == DBE_OK);
    require(cert_parse(ca.data, ca.len, &x, NULL) == DBE_OK && cert_read_ca(x, &trust, NULL) == DBE_OK);
    require(cert_make_node(&trust, ca_key, key, &id, &good) == DBE_OK);
    base_buf_free(&ca);
    crypto_key_free(ca_key);
    crypto_key_free(key);
}

static void whole(const uint8_t *data, size_t size)
{
    struct dbe_identity id;
    struct dbe_diag diag;

    /* Nobody without the CA's key makes one that verifies. */
    require(dbe_trust_verify(&trust, data, size, now_ms, &id, NULL, &diag) != DBE_OK ||
            (size == good.len && memcmp(data, good.data, size) == 0));
}

static void edited(const uint8_t *data, size_t size)
{
    static uint8_t copy[DBE_CERT_MAX_BYTES];

    memcpy(copy, good.data, good.len);
    for (size_t i = 0; i + 3 <= size; i += 3)
        copy[base_get_u16(data + i) % good.len] = data[i + 2];
    whole(copy, good.len);
}

static void name(const uint8_t *data, size_t size)
{
    struct dbe_identity id = {0};
    struct dbe_diag diag;

    if (profile_read_spiffe(data, size, &id, &diag) == DBE_OK)
        require(strlen(id.spiffe_id) == size && memcmp(id.spiffe_id, data, size) == 0);
}

static void ceiling(const uint8_t *data, size_t size)
{
    struct dbe_identity id = {0};
    struct dbe_diag diag;
    uint8_t again[PROFILE_CEILING_MAX_BYTES];

    if (profile_read_ceiling(data, size, &id, &diag) == DBE_OK)
        require(profile_write_ceiling(&id, again) == size && memcmp(again, data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[])(const uint8_t *, size_t) = {whole, edited, name, ceiling};

    if (good.len == 0)
        make_good();
    if (size > 0 && data[0] < BASE_ARRAY_LEN(kinds))
        kinds[data[0]](data + 1, size - 1);
    return 0;
}
