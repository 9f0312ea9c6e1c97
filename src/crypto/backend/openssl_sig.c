/* SPDX-License-Identifier: Apache-2.0
 *
 * openssl_sig.c - ML-DSA-87 signatures (FIPS 204) by OpenSSL, on keys of openssl_key.c.
 *
 * Its own form of a key is OpenSSL's handle, with one more reference.
 */
#include "crypto/backend/openssl.h"

static EVP_PKEY *pkey_of(const struct crypto_sig_key *own)
{
    return (EVP_PKEY *)(uintptr_t)own;
}

static dbe_err mldsa_load(const struct crypto_key *key, struct crypto_sig_key **ret)
{
    EVP_PKEY *pkey = crypto_key_native(key);

    if (pkey == NULL || EVP_PKEY_up_ref(pkey) != 1)
        return osl_fail(DBE_E_NOMEM);
    *ret = (struct crypto_sig_key *)(void *)pkey;
    return DBE_OK;
}

static void mldsa_unload(struct crypto_sig_key *own)
{
    EVP_PKEY_free(pkey_of(own));
}

static dbe_err mldsa_sign(const struct crypto_sig_key *own, const void *ctx, size_t ctx_len, const void *msg,
                          size_t len, const uint8_t rnd[CRYPTO_MLDSA_RND_BYTES], uint8_t *sig)
{
    EVP_PKEY_CTX *pctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey_of(own), NULL);
    size_t sig_len = CRYPTO_MLDSA87_SIG_BYTES;
    bool ok;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_SIGNATURE_PARAM_CONTEXT_STRING, (void *)(uintptr_t)ctx, ctx_len),
        OSSL_PARAM_construct_octet_string(OSSL_SIGNATURE_PARAM_TEST_ENTROPY, (void *)(uintptr_t)rnd,
                                          CRYPTO_MLDSA_RND_BYTES),
        OSSL_PARAM_construct_end(),
    };

    ok = pctx != NULL && EVP_PKEY_sign_message_init(pctx, osl_algs.mldsa87, params) == 1 &&
         EVP_PKEY_sign(pctx, sig, &sig_len, msg, len) == 1 && sig_len == CRYPTO_MLDSA87_SIG_BYTES;
    EVP_PKEY_CTX_free(pctx);
    if (ok)
        return DBE_OK;
    base_wipe(sig, CRYPTO_MLDSA87_SIG_BYTES);
    return osl_fail(DBE_E_CRYPTO);
}

static dbe_err mldsa_verify(const struct crypto_sig_key *own, const void *ctx, size_t ctx_len, const void *msg,
                            size_t len, const uint8_t *sig)
{
    EVP_PKEY_CTX *pctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey_of(own), NULL);
    bool usable, ok;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_SIGNATURE_PARAM_CONTEXT_STRING, (void *)(uintptr_t)ctx, ctx_len),
        OSSL_PARAM_construct_end(),
    };

    usable = pctx != NULL && EVP_PKEY_verify_message_init(pctx, osl_algs.mldsa87, params) == 1;
    ok = usable && EVP_PKEY_verify(pctx, sig, CRYPTO_MLDSA87_SIG_BYTES, msg, len) == 1;
    EVP_PKEY_CTX_free(pctx);
    if (ok)
        return DBE_OK;
    return osl_fail(usable ? DBE_E_AUTH : DBE_E_CRYPTO);
}

const struct crypto_sig osl_mldsa87 = {
    .name = "ML-DSA-87",
    .pk_bytes = CRYPTO_MLDSA87_PK_BYTES,
    .sig_bytes = CRYPTO_MLDSA87_SIG_BYTES,
    .load = mldsa_load,
    .unload = mldsa_unload,
    .sign = mldsa_sign,
    .verify = mldsa_verify,
};
