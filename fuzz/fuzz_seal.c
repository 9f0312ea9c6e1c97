/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_seal.c - files of sealed keys: the armour around them and what a TPM's file holds.
 *
 * First byte: 0 armour, which must write back to the same text; 1 the bytes of a TPM's file, whose parts must lie
 * within them; 2 the text of such a file.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "node/armour.h"
#include "node/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char label[] = "DSMIL TPM SEALED KEY";

static void require(bool cond)
{
    if (!cond)
        abort();
}

static void armour(const uint8_t *data, size_t size)
{
    struct base_cur c = base_cur_of(data, size);
    struct base_buf bytes, again;

    base_buf_init(&bytes, SEAL_TEXT_MAX_BYTES);
    base_buf_init(&again, 2 * SEAL_TEXT_MAX_BYTES);
    if (armour_take(&c, label, &bytes) == DBE_OK) {
        armour_put(&again, label, bytes.data, bytes.len);
        require(again.len == base_cur_offset(&c) && memcmp(again.data, data, again.len) == 0);
    }
    base_buf_free(&bytes);
    base_buf_free(&again);
}

static void within(const uint8_t *at, size_t n, const uint8_t *data, size_t size)
{
    require(at >= data && at <= data + size && n <= (size_t)(data + size - at));
}

static void check(const struct seal_tpm_file *f, const uint8_t *data, size_t size)
{
    within(f->pub, f->pub_len, data, size);
    within(f->priv, f->priv_len, data, size);
    within(f->iv, CRYPTO_AEAD_IV_BYTES, data, size);
    within(f->sealed, f->sealed_len, data, size);
    require(f->aad_len < size && f->pub_len <= SEAL_TPM_BLOB_MAX_BYTES && f->priv_len <= SEAL_TPM_BLOB_MAX_BYTES);
}

static void parts(const uint8_t *data, size_t size)
{
    struct seal_tpm_file f;

    if (seal_tpm_parse(data, size, &f) == DBE_OK)
        check(&f, data, size);
}

static void text(const uint8_t *data, size_t size)
{
    struct seal_tpm_file f;
    struct base_buf bytes;

    base_buf_init(&bytes, SEAL_TEXT_MAX_BYTES);
    if (seal_tpm_read(data, size, &bytes, &f) == DBE_OK)
        check(&f, bytes.data, bytes.len);
    base_buf_free(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[])(const uint8_t *, size_t) = {armour, parts, text};

    if (size > 0 && data[0] < BASE_ARRAY_LEN(kinds))
        kinds[data[0]](data + 1, size - 1);
    return 0;
}
