/* SPDX-License-Identifier: Apache-2.0
 *
 * openssl_ecdh.c - ephemeral ECDH on P-384 (NIST SP 800-56A, SEC 1) by OpenSSL.
 *
 * Does: public values are uncompressed points of 97 bytes and nothing else; a peer's point is checked to lie on the
 *       curve (SP 800-56A section 5.6.2.3.4, enough for a curve of cofactor 1); the secret is the x coordinate.
 */
#include "crypto/backend/openssl.h"

enum { P384_IKM_BYTES = 64, P384_UNCOMPRESSED = 0x04 };

struct crypto_ecdh_key {
    EVP_PKEY *pkey;
};

static void p384_key_free(struct crypto_ecdh_key *key)
{
    if (key == NULL)
        return;
    EVP_PKEY_free(key->pkey); /* wipes the private part */
    base_free(key);
}

static dbe_err wrap(EVP_PKEY *pkey, struct crypto_ecdh_key **ret)
{
    struct crypto_ecdh_key *key = base_alloc(1, sizeof *key);

    if (key == NULL) {
        EVP_PKEY_free(pkey);
        return DBE_E_NOMEM;
    }
    key->pkey = pkey;
    *ret = key;
    return DBE_OK;
}

/* Key pair from random input keying material, as RFC 9180 section 7.1.3 derives it. */
static dbe_err from_ikm(const uint8_t ikm[P384_IKM_BYTES], struct crypto_ecdh_key **ret, uint8_t *pub)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, osl_algs.p384, NULL);
    EVP_PKEY *pkey = NULL;
    size_t len = 0;
    bool ok;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_DHKEM_IKM, (void *)(uintptr_t)ikm, P384_IKM_BYTES),
        OSSL_PARAM_construct_end(),
    };

    ok = ctx != NULL && EVP_PKEY_keygen_init(ctx) == 1 && EVP_PKEY_CTX_set_params(ctx, params) == 1 &&
         EVP_PKEY_generate(ctx, &pkey) == 1 &&
         EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, pub, CRYPTO_P384_PUB_BYTES, &len) ==
             1 &&
         len == CRYPTO_P384_PUB_BYTES && pub[0] == P384_UNCOMPRESSED;
    EVP_PKEY_CTX_free(ctx);
    if (!ok) {
        EVP_PKEY_free(pkey);
        return osl_fail(DBE_E_CRYPTO);
    }
    return wrap(pkey, ret);
}

static dbe_err p384_keygen(struct crypto_ecdh_key **ret, uint8_t *pub)
{
    uint8_t ikm[P384_IKM_BYTES];
    dbe_err err = osl_algs.ready ? base_random(ikm, sizeof ikm) : DBE_E_STATE;

    if (err == DBE_OK)
        err = from_ikm(ikm, ret, pub);
    base_wipe(ikm, sizeof ikm);
    return err;
}

static dbe_err p384_from_private(const uint8_t *d, struct crypto_ecdh_key **ret)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY *pkey = NULL;
    uint8_t little[CRYPTO_P384_SS_BYTES]; /* OSSL_PARAM integers are in native order */
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char[]){"P-384"}, 0),
        OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PRIV_KEY, little, sizeof little),
        OSSL_PARAM_construct_end(),
    };
    bool ok;

    for (size_t i = 0; i < sizeof little; i++)
        little[i] = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? d[sizeof little - 1 - i] : d[i];
    ok =
        ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1 && EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_KEYPAIR, params) == 1;
    base_wipe(little, sizeof little);
    EVP_PKEY_CTX_free(ctx);
    if (!ok) {
        EVP_PKEY_free(pkey);
        return osl_fail(DBE_E_MALFORMED);
    }
    return wrap(pkey, ret);
}

/* The peer's point as a key, NULL if it is not a valid point. */
static EVP_PKEY *peer_of(const uint8_t *peer_pub)
{
    EVP_PKEY *peer = EVP_PKEY_new();
    EVP_PKEY_CTX *ctx = NULL;
    bool ok;

    ok = peer_pub[0] == P384_UNCOMPRESSED && peer != NULL && EVP_PKEY_copy_parameters(peer, osl_algs.p384) == 1 &&
         EVP_PKEY_set1_encoded_public_key(peer, peer_pub, CRYPTO_P384_PUB_BYTES) == 1 &&
         (ctx = EVP_PKEY_CTX_new_from_pkey(NULL, peer, NULL)) != NULL && EVP_PKEY_public_check_quick(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    if (!ok) {
        EVP_PKEY_free(peer);
        return NULL;
    }
    return peer;
}

static dbe_err p384_derive(const struct crypto_ecdh_key *key, const uint8_t *peer_pub, uint8_t *ss)
{
    EVP_PKEY *peer = peer_of(peer_pub);
    EVP_PKEY_CTX *ctx;
    size_t len = CRYPTO_P384_SS_BYTES;
    bool ok;

    if (peer == NULL)
        return osl_fail(DBE_E_MALFORMED);
    ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
    ok = ctx != NULL && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer_ex(ctx, peer, 0) == 1 &&
         EVP_PKEY_derive(ctx, ss, &len) == 1 && len == CRYPTO_P384_SS_BYTES;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(peer);
    if (ok)
        return DBE_OK;
    base_wipe(ss, CRYPTO_P384_SS_BYTES);
    return osl_fail(DBE_E_CRYPTO);
}

const struct crypto_ecdh osl_p384 = {
    .name = "P-384",
    .pub_bytes = CRYPTO_P384_PUB_BYTES,
    .ss_bytes = CRYPTO_P384_SS_BYTES,
    .keygen = p384_keygen,
    .derive = p384_derive,
    .from_private = p384_from_private,
    .key_free = p384_key_free,
};
