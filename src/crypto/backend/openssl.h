/* SPDX-License-Identifier: Apache-2.0
 *
 * openssl.h - what the files of the OpenSSL backend share: the algorithms fetched by its init and the error idiom. Its
 * names begin with osl_, for ossl_ is what OpenSSL calls its own. Included by src/crypto alone.
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
#include <openssl/params.h>

#include "crypto/backend/backend.h"

/* Fetched once; read-only afterwards. */
struct osl_algs {
    EVP_MD *sha3_512;
    EVP_CIPHER *aes_256_gcm;
    EVP_SIGNATURE *mldsa87;
    EVP_PKEY *p384; /* group parameters alone: making the group anew costs more than copying it */
    bool ready;
};
extern struct osl_algs osl_algs;

/* Empty the library's error queue and pass `err` on: what is left there would be read as the next caller's error. */
dbe_err osl_fail(dbe_err err);

/* Its ops. */
extern const struct crypto_ecdh osl_p384, osl_x25519;
extern const struct crypto_kem osl_mlkem1024;
extern const struct crypto_sig osl_mldsa87;
extern const struct crypto_aead osl_aes_256_gcm;

#endif
