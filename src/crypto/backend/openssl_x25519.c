/* SPDX-License-Identifier: Apache-2.0
 *
 * openssl_x25519.c - ephemeral Diffie-Hellman on Curve25519 (RFC 7748) by OpenSSL.
 *
 * In:   public values of 32 bytes, any of them: clamping and the top bit are X25519's own business (section 5)
 * Does: draws the private key from base_random; refuses a peer whose value gives the all-zero secret (section 6.1),
 *       which is what the points of small order give and no honest peer ever sends.
 * Not:  keys that live longer than one handshake.
 */
#include "crypto/backend/openssl.h"

#define X25519 "X25519"

struct crypto_ecdh_key {
    EVP_PKEY *pkey;
};

static void x25519_key_free(struct crypto_ecdh_key *key)
{
    if (key == NULL)
        return;
    EVP_PKEY_free(key->pkey); /* wipes the private part */
    base_free(key);
}

static dbe_err x25519_from_private(const uint8_t *d, struct crypto_ecdh_key **ret)
{
    struct crypto_ecdh_key *key = base_alloc(1, sizeof *key);

    if (key == NULL)
        return DBE_E_NOMEM;
    key->pkey = EVP_PKEY_new_raw_private_key_ex(NULL, X25519, NULL, d, CRYPTO_X25519_BYTES);
    if (key->pkey == NULL) {
        base_free(key);
        return osl_fail(DBE_E_CRYPTO);
    }
    *ret = key;
    return DBE_OK;
}

static dbe_err x25519_keygen(struct crypto_ecdh_key **ret, uint8_t *pub)
{
    uint8_t d[CRYPTO_X25519_BYTES];
    struct crypto_ecdh_key *key = NULL;
    size_t len = CRYPTO_X25519_BYTES;
    dbe_err err = osl_algs.ready ? base_random(d, sizeof d) : DBE_E_STATE;

    if (err == DBE_OK)
        err = x25519_from_private(d, &key);
    base_wipe(d, sizeof d);
    if (err == DBE_OK && EVP_PKEY_get_raw_public_key(key->pkey, pub, &len) != 1) {
        x25519_key_free(key);
        err = osl_fail(DBE_E_CRYPTO);
    }
    if (err == DBE_OK)
        *ret = key;
    return err;
}

static dbe_err x25519_derive(const struct crypto_ecdh_key *key, const uint8_t *peer_pub, uint8_t *ss)
{
    EVP_PKEY *peer = EVP_PKEY_new_raw_public_key_ex(NULL, X25519, NULL, peer_pub, CRYPTO_X25519_BYTES);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
    size_t len = CRYPTO_X25519_BYTES;
    bool usable, ok;

    usable =
        peer != NULL && ctx != NULL && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer_ex(ctx, peer, 0) == 1;
    ok = usable && EVP_PKEY_derive(ctx, ss, &len) == 1 && len == CRYPTO_X25519_BYTES; /* fails on the zero secret */
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(peer);
    if (ok)
        return DBE_OK;
    base_wipe(ss, CRYPTO_X25519_BYTES);
    return osl_fail(usable ? DBE_E_MALFORMED : DBE_E_CRYPTO);
}

const struct crypto_ecdh osl_x25519 = {
    .name = X25519,
    .pub_bytes = CRYPTO_X25519_BYTES,
    .ss_bytes = CRYPTO_X25519_BYTES,
    .keygen = x25519_keygen,
    .derive = x25519_derive,
    .from_private = x25519_from_private,
    .key_free = x25519_key_free,
};
