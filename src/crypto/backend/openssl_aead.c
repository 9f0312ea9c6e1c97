/* SPDX-License-Identifier: Apache-2.0
 *
 * openssl_aead.c - AES-256-GCM (NIST SP 800-38D) by OpenSSL, one context per key and direction.
 *
 * Does: the key schedule is made once; a record costs an IV-only reset. Nothing is allocated per record.
 * Not:  it does not know which IVs were used: that each is new is the record layer's invariant.
 */
#include "crypto/backend/openssl.h"

#include <limits.h>
#include <string.h>

struct crypto_aead_ctx {
    EVP_CIPHER_CTX *evp;
    bool seal;
};

static void gcm_free(struct crypto_aead_ctx *ctx)
{
    if (ctx == NULL)
        return;
    EVP_CIPHER_CTX_free(ctx->evp); /* wipes the key schedule */
    base_free(ctx);
}

static dbe_err gcm_new(const uint8_t key[CRYPTO_AEAD_KEY_BYTES], bool seal, struct crypto_aead_ctx **ret)
{
    struct crypto_aead_ctx *ctx;

    if (!osl_algs.ready)
        return DBE_E_STATE;
    ctx = base_alloc(1, sizeof *ctx);
    if (ctx == NULL)
        return DBE_E_NOMEM;
    ctx->seal = seal;
    ctx->evp = EVP_CIPHER_CTX_new();
    if (ctx->evp == NULL || EVP_CipherInit_ex2(ctx->evp, osl_algs.aes_256_gcm, key, NULL, seal ? 1 : 0, NULL) != 1) {
        gcm_free(ctx);
        return osl_fail(DBE_E_CRYPTO);
    }
    *ret = ctx;
    return DBE_OK;
}

static bool feed(EVP_CIPHER_CTX *evp, const uint8_t *iv, const void *aad, size_t aad_len, const void *in, size_t len,
                 uint8_t *out)
{
    int n = 0;

    if (EVP_CipherInit_ex2(evp, NULL, NULL, iv, -1, NULL) != 1)
        return false;
    if (aad_len > 0 && EVP_CipherUpdate(evp, NULL, &n, aad, (int)aad_len) != 1)
        return false;
    return len == 0 || (EVP_CipherUpdate(evp, out, &n, in, (int)len) == 1 && (size_t)n == len);
}

static dbe_err gcm_seal(struct crypto_aead_ctx *ctx, const uint8_t iv[CRYPTO_AEAD_IV_BYTES], const void *aad,
                        size_t aad_len, const void *in, size_t len, uint8_t *out)
{
    /* Asked for as a parameter: the control call that does the same costs a tenth of a small record more. */
    OSSL_PARAM tag[] = {
        OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, out + len, CRYPTO_AEAD_TAG_BYTES),
        OSSL_PARAM_construct_end(),
    };
    int n = 0;

    if (!ctx->seal)
        return DBE_E_STATE;
    if (len > INT_MAX - CRYPTO_AEAD_TAG_BYTES || aad_len > INT_MAX)
        return DBE_E_TOO_LARGE;
    if (feed(ctx->evp, iv, aad, aad_len, in, len, out) && EVP_CipherFinal_ex(ctx->evp, out + len, &n) == 1 &&
        EVP_CIPHER_CTX_get_params(ctx->evp, tag) == 1)
        return DBE_OK;
    base_wipe(out, len + CRYPTO_AEAD_TAG_BYTES);
    return osl_fail(DBE_E_CRYPTO);
}

static dbe_err gcm_open(struct crypto_aead_ctx *ctx, const uint8_t iv[CRYPTO_AEAD_IV_BYTES], const void *aad,
                        size_t aad_len, const void *in, size_t len, uint8_t *out)
{
    uint8_t tag[CRYPTO_AEAD_TAG_BYTES], none[CRYPTO_AEAD_TAG_BYTES];
    size_t text_len;
    int n = 0;

    if (ctx->seal)
        return DBE_E_STATE;
    if (len < CRYPTO_AEAD_TAG_BYTES)
        return DBE_E_AUTH;
    if (len > INT_MAX || aad_len > INT_MAX)
        return DBE_E_TOO_LARGE;
    text_len = len - CRYPTO_AEAD_TAG_BYTES;
    memcpy(tag, (const uint8_t *)in + text_len, sizeof tag); /* before an `out` over `in` can reach it */
    if (feed(ctx->evp, iv, aad, aad_len, in, text_len, out) &&
        EVP_CIPHER_CTX_ctrl(ctx->evp, EVP_CTRL_AEAD_SET_TAG, CRYPTO_AEAD_TAG_BYTES, tag) == 1 &&
        EVP_CipherFinal_ex(ctx->evp, none, &n) == 1)
        return DBE_OK;
    base_wipe(out, text_len); /* plain text that nobody vouches for */
    return osl_fail(DBE_E_AUTH);
}

const struct crypto_aead osl_aes_256_gcm = {
    .name = "AES-256-GCM",
    .new_ctx = gcm_new,
    .free_ctx = gcm_free,
    .seal = gcm_seal,
    .open = gcm_open,
};
