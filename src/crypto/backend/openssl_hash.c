/* SPDX-License-Identifier: Apache-2.0
 *
 * openssl_hash.c - SHA3-512 (FIPS 202) by OpenSSL, and HMAC (RFC 2104) and HKDF (RFC 5869) with it.
 *
 * Not: nothing here is on a message's path; each call may allocate inside the library.
 */
#include "crypto/backend/openssl.h"

#include <string.h>

enum { SHA3_512_BLOCK_BYTES = 72 }; /* the rate, FIPS 202 section 6.1 and table 3 */

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

/* What is hashed one after the other. */
struct piece {
    const void *at;
    size_t len;
};

/* One of HMAC's two hashes: a block of the key, then the pieces. */
static bool hash_keyed(EVP_MD_CTX *md, const uint8_t block[SHA3_512_BLOCK_BYTES], const struct piece *pieces,
                       size_t count, uint8_t out[CRYPTO_HASH_BYTES])
{
    bool ok =
        EVP_DigestInit_ex2(md, osl_algs.sha3_512, NULL) == 1 && EVP_DigestUpdate(md, block, SHA3_512_BLOCK_BYTES) == 1;

    for (size_t i = 0; i < count && ok; i++)
        ok = EVP_DigestUpdate(md, pieces[i].at, pieces[i].len) == 1;
    return ok && EVP_DigestFinal_ex(md, out, NULL) == 1;
}

/* RFC 2104 section 2 in the library's hash. Its own HMAC does the same and looks the hash up by its name in every call,
 * which takes longer than hashing: a handshake makes some twenty of these on each side. */
static dbe_err hmac(const void *key, size_t key_len, const struct piece *pieces, size_t count,
                    uint8_t out[CRYPTO_HASH_BYTES])
{
    uint8_t inner[SHA3_512_BLOCK_BYTES] = {0}, outer[SHA3_512_BLOCK_BYTES], digest[CRYPTO_HASH_BYTES];
    EVP_MD_CTX *md = NULL;
    dbe_err err = DBE_OK;

    if (!osl_algs.ready)
        return DBE_E_STATE;
    if (key_len > sizeof inner)
        err = crypto_sha3_512(key, key_len, inner);
    else if (key_len > 0)
        memcpy(inner, key, key_len);
    for (size_t i = 0; i < sizeof inner; i++) {
        outer[i] = inner[i] ^ 0x5c;
        inner[i] ^= 0x36;
    }
    if (err == DBE_OK && ((md = EVP_MD_CTX_new()) == NULL || !hash_keyed(md, inner, pieces, count, digest) ||
                          !hash_keyed(md, outer, &(struct piece){digest, sizeof digest}, 1, out)))
        err = osl_fail(DBE_E_CRYPTO);
    EVP_MD_CTX_free(md); /* wipes its state */
    base_wipe(inner, sizeof inner);
    base_wipe(outer, sizeof outer);
    base_wipe(digest, sizeof digest);
    if (err != DBE_OK)
        base_wipe(out, CRYPTO_HASH_BYTES);
    return err;
}

dbe_err crypto_hmac(const void *key, size_t key_len, const void *data, size_t len, uint8_t out[CRYPTO_HASH_BYTES])
{
    return hmac(key, key_len, &(struct piece){data, len}, 1, out);
}

/* RFC 5869 section 2.2: extract is HMAC(salt, IKM); an absent salt is HashLen zeros, which HMAC's padding makes of an
 * empty key. */
dbe_err crypto_hkdf_extract(const void *salt, size_t salt_len, const void *ikm, size_t ikm_len,
                            uint8_t prk[CRYPTO_HASH_BYTES])
{
    return crypto_hmac(salt, salt_len, ikm, ikm_len, prk);
}

/* RFC 5869 section 2.3: T(i) = HMAC(PRK, T(i - 1) | info | i), from T(0), which is empty. */
dbe_err crypto_hkdf_expand(const uint8_t prk[CRYPTO_HASH_BYTES], const void *info, size_t info_len, void *out,
                           size_t out_len)
{
    uint8_t t[CRYPTO_HASH_BYTES], i = 1;
    struct piece pieces[] = {{t, 0}, {info, info_len}, {&i, 1}};
    dbe_err err = DBE_OK;

    if (!osl_algs.ready)
        return DBE_E_STATE;
    if (out_len == 0 || out_len > 255 * (size_t)CRYPTO_HASH_BYTES)
        return DBE_E_ARGUMENT;
    for (size_t done = 0; done < out_len && err == DBE_OK; done += sizeof t, i++) {
        err = hmac(prk, CRYPTO_HASH_BYTES, pieces, BASE_ARRAY_LEN(pieces), t);
        memcpy((uint8_t *)out + done, t, BASE_MIN(out_len - done, sizeof t));
        pieces[0].len = sizeof t;
    }
    base_wipe(t, sizeof t);
    if (err != DBE_OK)
        base_wipe(out, out_len);
    return err;
}
