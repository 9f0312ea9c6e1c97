/* SPDX-License-Identifier: Apache-2.0
 *
 * openssl_hash.c - SHA3-512 (FIPS 202), HMAC-SHA3-512 (RFC 2104) and HKDF-SHA3-512 (RFC 5869) by OpenSSL.
 *
 * Not: nothing here is on a message's path; each call may allocate inside the library.
 */
#include "crypto/backend/openssl.h"

struct crypto_hash {
    EVP_MD_CTX *md;
};

dbe_err crypto_hash_new(struct crypto_hash **ret)
{
    struct crypto_hash *h;

    if (!osl_algs.ready)
        return DBE_E_STATE;
    h = base_alloc(1, sizeof *h);
    if (h == NULL)
        return DBE_E_NOMEM;
    h->md = EVP_MD_CTX_new();
    if (h->md == NULL || EVP_DigestInit_ex2(h->md, osl_algs.sha3_512, NULL) != 1) {
        crypto_hash_free(h);
        return osl_fail(DBE_E_CRYPTO);
    }
    *ret = h;
    return DBE_OK;
}

void crypto_hash_free(struct crypto_hash *h)
{
    if (h == NULL)
        return;
    EVP_MD_CTX_free(h->md);
    base_free(h);
}

dbe_err crypto_hash_update(struct crypto_hash *h, const void *data, size_t len)
{
    if (EVP_DigestUpdate(h->md, data, len) != 1)
        return osl_fail(DBE_E_CRYPTO);
    return DBE_OK;
}

dbe_err crypto_hash_peek(const struct crypto_hash *h, uint8_t out[CRYPTO_HASH_BYTES])
{
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    bool ok;

    ok = copy != NULL && EVP_MD_CTX_copy_ex(copy, h->md) == 1 && EVP_DigestFinal_ex(copy, out, NULL) == 1;
    EVP_MD_CTX_free(copy);
    return ok ? DBE_OK : osl_fail(DBE_E_CRYPTO);
}

dbe_err crypto_sha3_512(const void *data, size_t len, uint8_t out[CRYPTO_HASH_BYTES])
{
    if (!osl_algs.ready)
        return DBE_E_STATE;
    if (EVP_Digest(data, len, out, NULL, osl_algs.sha3_512, NULL) != 1)
        return osl_fail(DBE_E_CRYPTO);
    return DBE_OK;
}

dbe_err crypto_hmac(const void *key, size_t key_len, const void *data, size_t len, uint8_t out[CRYPTO_HASH_BYTES])
{
    EVP_MAC_CTX *ctx;
    size_t got = 0;
    bool ok;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA3-512"}, 0),
        OSSL_PARAM_construct_end(),
    };

    if (!osl_algs.ready)
        return DBE_E_STATE;
    ctx = EVP_MAC_CTX_new(osl_algs.hmac);
    /* NULL would mean "the key set before": an empty key is a key too. */
    ok = ctx != NULL && EVP_MAC_init(ctx, key_len > 0 ? key : (const uint8_t *)"", key_len, params) == 1 &&
         EVP_MAC_update(ctx, data, len) == 1 && EVP_MAC_final(ctx, out, &got, CRYPTO_HASH_BYTES) == 1 &&
         got == CRYPTO_HASH_BYTES;
    EVP_MAC_CTX_free(ctx);
    if (ok)
        return DBE_OK;
    base_wipe(out, CRYPTO_HASH_BYTES);
    return osl_fail(DBE_E_CRYPTO);
}

/* RFC 5869 section 2.2: extract is HMAC(salt, IKM); an absent salt is HashLen zeros, which HMAC's padding makes of an
 * empty key. */
dbe_err crypto_hkdf_extract(const void *salt, size_t salt_len, const void *ikm, size_t ikm_len,
                            uint8_t prk[CRYPTO_HASH_BYTES])
{
    return crypto_hmac(salt, salt_len, ikm, ikm_len, prk);
}

dbe_err crypto_hkdf_expand(const uint8_t prk[CRYPTO_HASH_BYTES], const void *info, size_t info_len, void *out,
                           size_t out_len)
{
    EVP_KDF_CTX *ctx;
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    bool ok;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char[]){"SHA3-512"}, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)prk, CRYPTO_HASH_BYTES),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)info, info_len),
        OSSL_PARAM_construct_end(),
    };

    if (!osl_algs.ready)
        return DBE_E_STATE;
    if (out_len == 0 || out_len > 255 * (size_t)CRYPTO_HASH_BYTES)
        return DBE_E_ARGUMENT;
    if (info_len == 0)
        params[3] = OSSL_PARAM_construct_end();
    ctx = EVP_KDF_CTX_new(osl_algs.hkdf);
    ok = ctx != NULL && EVP_KDF_derive(ctx, out, out_len, params) == 1;
    EVP_KDF_CTX_free(ctx);
    if (ok)
        return DBE_OK;
    base_wipe(out, out_len);
    return osl_fail(DBE_E_CRYPTO);
}
