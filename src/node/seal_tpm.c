/* SPDX-License-Identifier: Apache-2.0
 *
 * seal_tpm.c - keys that only this machine's TPM opens: a random key-encryption key is sealed in the TPM, the private
 * key is wrapped under it with AES-256-GCM, both lie in one file.
 *
 * In:   a key; or the file's text    Out: the file's text; or the key
 *
 *   version u8 = 1 | registers u32 | public u16 + bytes | private u16 + bytes | iv 12 | wrapped u32 + bytes (tag last)
 *
 * All that stands before the iv is authenticated with the wrapped key. Network byte order.
 * Does not: talk to the TPM itself (tpm.c).
 */
#include <string.h>

#include "armour.h"
#include "seal.h"
#include "tpm.h"

static const char clause[] = "sealed key";
static const char label[] = "DSMIL TPM SEALED KEY";

/* ---- the file ---------------------------------------------------------------------------------------------------- */

dbe_err seal_tpm_parse(const uint8_t *bytes, size_t len, struct seal_tpm_file *ret)
{
    struct base_cur c = base_cur_of(bytes, len);
    struct seal_tpm_file f = {0};

    if (base_cur_u8(&c) != SEAL_TPM_VERSION)
        c.bad = true;
    f.pcrs = base_cur_u32(&c);
    f.pub_len = base_cur_u16(&c);
    f.pub = base_cur_bytes(&c, f.pub_len);
    f.priv_len = base_cur_u16(&c);
    f.priv = base_cur_bytes(&c, f.priv_len);
    f.aad_len = base_cur_offset(&c);
    f.iv = base_cur_bytes(&c, CRYPTO_AEAD_IV_BYTES);
    f.sealed_len = base_cur_u32(&c);
    f.sealed = base_cur_bytes(&c, f.sealed_len);
    if (base_cur_end(&c) != DBE_OK || (f.pcrs & ~(uint32_t)SEAL_TPM_PCRS_ALL) != 0 || f.pub_len == 0 ||
        f.pub_len > SEAL_TPM_BLOB_MAX_BYTES || f.priv_len == 0 || f.priv_len > SEAL_TPM_BLOB_MAX_BYTES ||
        f.sealed_len <= CRYPTO_AEAD_TAG_BYTES)
        return DBE_E_MALFORMED;
    *ret = f;
    return DBE_OK;
}

dbe_err seal_tpm_read(const uint8_t *text, size_t len, struct base_buf *out, struct seal_tpm_file *ret)
{
    struct base_cur c = base_cur_of(text, len);

    DBE_TRY(armour_take(&c, label, out));
    DBE_TRY(base_cur_end(&c));
    return seal_tpm_parse(out->data, out->len, ret);
}

/* ---- wrapping ---------------------------------------------------------------------------------------------------- */

static const struct crypto_aead *aead(void)
{
    return crypto_suite(CRYPTO_SUITE_1)->aead;
}

/* Append iv and wrapped `der` to the header in `b`. */
static dbe_err wrap(struct base_buf *b, const uint8_t kek[SEAL_KEY_BYTES], const uint8_t *der, size_t len)
{
    struct crypto_aead_ctx *ctx = NULL;
    uint8_t iv[CRYPTO_AEAD_IV_BYTES];
    size_t aad_len = b->len;

    DBE_TRY(base_random(iv, sizeof iv));
    base_buf_bytes(b, iv, sizeof iv);
    base_buf_u32(b, (uint32_t)(len + CRYPTO_AEAD_TAG_BYTES));
    uint8_t *at = base_buf_grow(b, len + CRYPTO_AEAD_TAG_BYTES);
    if (at == NULL)
        return b->err;
    DBE_TRY(aead()->new_ctx(kek, true, &ctx));
    dbe_err err = aead()->seal(ctx, iv, b->data, aad_len, der, len, at);
    aead()->free_ctx(ctx);
    return err;
}

static dbe_err unwrap(const uint8_t *bytes, const struct seal_tpm_file *f, const uint8_t kek[SEAL_KEY_BYTES],
                      struct crypto_key **ret)
{
    struct crypto_aead_ctx *ctx = NULL;
    uint8_t *der = base_secret_alloc(SEAL_TEXT_MAX_BYTES);
    dbe_err err = der == NULL                               ? DBE_E_NOMEM
                  : f->sealed_len > SEAL_TEXT_MAX_BYTES ? DBE_E_AUTH
                                                            : aead()->new_ctx(kek, false, &ctx);

    if (err == DBE_OK)
        err = aead()->open(ctx, f->iv, bytes, f->aad_len, f->sealed, f->sealed_len, der);
    if (err == DBE_OK)
        err = seal_from_der(der, f->sealed_len - CRYPTO_AEAD_TAG_BYTES, ret);
    if (ctx != NULL)
        aead()->free_ctx(ctx);
    base_secret_free(der, SEAL_TEXT_MAX_BYTES);
    return err;
}

/* ---- the row ----------------------------------------------------------------------------------------------------- */

static dbe_err seal_in_tpm(uint32_t pcrs, const uint8_t *kek, struct tpm_blob *ret, struct dbe_diag *diag)
{
    struct tpm *tpm = NULL;

    DBE_TRY(tpm_open(seal_tcti(), &tpm, diag));
    dbe_err err = tpm_seal(tpm, pcrs, kek, ret, diag);
    tpm_close(tpm);
    return err;
}

static dbe_err put_file(const struct crypto_key *key, uint32_t pcrs, const struct tpm_blob *blob, const uint8_t *kek,
                        struct base_buf *out)
{
    uint8_t *der = NULL;
    size_t len = 0;
    struct base_buf b;

    DBE_TRY(seal_to_der(key, &der, &len));
    base_buf_init(&b, SEAL_TEXT_MAX_BYTES);
    base_buf_u8(&b, SEAL_TPM_VERSION);
    base_buf_u32(&b, pcrs);
    base_buf_u16(&b, (uint16_t)blob->pub_len);
    base_buf_bytes(&b, blob->pub, blob->pub_len);
    base_buf_u16(&b, (uint16_t)blob->priv_len);
    base_buf_bytes(&b, blob->priv, blob->priv_len);
    dbe_err err = b.err != DBE_OK ? b.err : wrap(&b, kek, der, len);
    base_secret_free(der, SEAL_TEXT_MAX_BYTES);
    if (err == DBE_OK) {
        armour_put(out, label, b.data, b.len);
        err = out->err;
    }
    base_buf_free(&b);
    return err;
}

static dbe_err tpm_row_seal(const struct crypto_key *key, const struct seal_how *how, struct base_buf *out,
                            struct dbe_diag *diag)
{
    struct tpm_blob blob;
    uint8_t *kek = base_secret_alloc(SEAL_KEY_BYTES);
    dbe_err err = kek == NULL ? DBE_E_NOMEM : base_random(kek, SEAL_KEY_BYTES);

    if (err != DBE_OK)
        (void)dbe_fail(diag, err, clause, 0, "no memory or randomness to seal a key");
    else if ((err = seal_in_tpm(how->pcrs, kek, &blob, diag)) == DBE_OK &&
             (err = put_file(key, how->pcrs, &blob, kek, out)) != DBE_OK)
        (void)dbe_fail(diag, err, clause, 0, "cannot wrap the key");
    base_secret_free(kek, SEAL_KEY_BYTES);
    return err;
}

static dbe_err open_with_tpm(const struct seal_tpm_file *f, uint8_t kek[SEAL_KEY_BYTES], const char *file,
                             struct dbe_diag *diag)
{
    struct tpm_blob blob = {.pub_len = f->pub_len, .priv_len = f->priv_len};
    struct tpm *tpm = NULL;
    struct dbe_diag why = {0};

    memcpy(blob.pub, f->pub, f->pub_len);
    memcpy(blob.priv, f->priv, f->priv_len);
    dbe_err err = tpm_open(seal_tcti(), &tpm, &why);
    if (err == DBE_OK)
        err = tpm_unseal(tpm, f->pcrs, &blob, kek, &why);
    tpm_close(tpm);
    return err == DBE_OK ? DBE_OK : dbe_fail(diag, err, clause, 0, "%.70s: %.115s", file, why.text);
}

static dbe_err tpm_row_open(const uint8_t *text, size_t len, const char *file, struct crypto_key **ret,
                            struct dbe_diag *diag)
{
    struct seal_tpm_file f;
    struct base_buf bytes;
    uint8_t *kek = base_secret_alloc(SEAL_KEY_BYTES);
    dbe_err err;

    base_buf_init(&bytes, SEAL_TEXT_MAX_BYTES);
    if (kek == NULL)
        err = dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory to open a key");
    else if ((err = seal_tpm_read(text, len, &bytes, &f)) != DBE_OK)
        err = dbe_fail(diag, err == DBE_E_MALFORMED ? DBE_E_CONFIG : err, clause, 0,
                       "%.120s is damaged: put back a copy, or move it away and issue again", file);
    else if ((err = open_with_tpm(&f, kek, file, diag)) == DBE_OK &&
             (err = unwrap(bytes.data, &f, kek, ret)) != DBE_OK)
        err = dbe_fail(diag, err == DBE_E_NOMEM ? err : DBE_E_CONFIG, clause, 0,
                       "%.120s was changed after it was sealed: put back a copy", file);
    base_buf_free(&bytes);
    base_secret_free(kek, SEAL_KEY_BYTES);
    return err;
}

const struct key_seal_ops seal_tpm = {DBE_SEAL_TPM, "TPM", "-----BEGIN DSMIL TPM SEALED KEY-----\n", tpm_row_seal,
                                      tpm_row_open};
