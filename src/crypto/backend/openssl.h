/* SPDX-License-Identifier: Apache-2.0
 *
 * openssl.h - what the files of the OpenSSL backend share: the algorithms fetched by crypto_init, the error idiom,
 * and entry points with given randomness that the known-answer tests use. Included by src/crypto alone.
 *
 * Randomness: every fresh secret (ML-KEM seed and message, ECDH private key, ML-DSA rnd) is drawn from base_random
 * and handed to the library, so that one place fails, is counted and can be replaced. The library's own generator
 * serves blinding only.
 */
#ifndef CRYPTO_BACKEND_OPENSSL_H
#define CRYPTO_BACKEND_OPENSSL_H

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "crypto/crypto.h"

/* Fetched once; read-only afterwards. */
struct ossl_algs {
    EVP_MD *sha3_512;
    EVP_MAC *hmac;
    EVP_KDF *hkdf;
    EVP_CIPHER *aes_256_gcm;
    EVP_SIGNATURE *mldsa87;
    EVP_PKEY *p384; /* group parameters alone: making the group anew costs more than copying it */
    bool ready;
};
extern struct ossl_algs ossl_algs;

enum { OSSL_MLKEM_SEED_BYTES = 64, OSSL_MLKEM_M_BYTES = 32, OSSL_MLDSA_RND_BYTES = 32 };

/* Empty the library's error queue and pass `err` on: what is left there would be read as the next caller's error. */
dbe_err ossl_fail(dbe_err err);

/* Deterministic forms; the ops draw the random argument and call these. */
dbe_err ossl_mlkem1024_from_seed(const uint8_t seed[OSSL_MLKEM_SEED_BYTES], struct crypto_kem_key **ret,
                                 uint8_t *ek) DBE_MUST_CHECK;
dbe_err ossl_mlkem1024_from_dk(const uint8_t *dk, size_t len, struct crypto_kem_key **ret) DBE_MUST_CHECK;
dbe_err ossl_mlkem1024_encaps_m(const uint8_t *ek, const uint8_t m[OSSL_MLKEM_M_BYTES], uint8_t *ct,
                                uint8_t *ss) DBE_MUST_CHECK;
dbe_err ossl_mldsa87_sign_rnd(const struct crypto_key *key, const void *ctx, size_t ctx_len, const void *msg,
                              size_t len, const uint8_t rnd[OSSL_MLDSA_RND_BYTES],
                              uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES]) DBE_MUST_CHECK;
dbe_err ossl_mldsa87_verify_ctx(const struct crypto_key *key, const void *ctx, size_t ctx_len, const void *msg,
                                size_t len, const uint8_t *sig, size_t sig_len) DBE_MUST_CHECK;

/* The ops of this backend, for suite.c. */
extern const struct crypto_kem ossl_mlkem1024;
extern const struct crypto_ecdh ossl_p384;
extern const struct crypto_ecdh ossl_ecdh_x25519;
extern const struct crypto_aead ossl_aes_256_gcm;

#endif
