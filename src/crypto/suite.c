/* SPDX-License-Identifier: Apache-2.0
 *
 * suite.c - the registry of suites: which algorithms stand behind a number on the wire.
 *
 * A suite is one row here and one ops struct for each algorithm that is new. There is no suite without ML-KEM and
 * ML-DSA: every row's KEM is post-quantum and signatures are ML-DSA-87 in all of them. Best first.
 */
#include "crypto/backend/openssl.h"

static const struct crypto_suite suite_1 = {
    .id = CRYPTO_SUITE_1,
    .name = "P384-MLKEM1024-MLDSA87-AES256GCM-SHA3-512",
    .ecdh = &ossl_p384,
    .kem = &ossl_mlkem1024,
    .aead = &ossl_aes_256_gcm,
};

/* The handshake for those who have many channels to open: its Diffie-Hellman costs a tenth. */
static const struct crypto_suite suite_2 = {
    .id = CRYPTO_SUITE_2,
    .name = "X25519-MLKEM1024-MLDSA87-AES256GCM-SHA3-512",
    .ecdh = &ossl_ecdh_x25519,
    .kem = &ossl_mlkem1024,
    .aead = &ossl_aes_256_gcm,
};

static const struct crypto_suite *const suites[] = {&suite_1, &suite_2};

const struct crypto_suite *crypto_suite(uint16_t id)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(suites); i++)
        if (suites[i]->id == id)
            return suites[i];
    return NULL;
}

size_t crypto_suites(const struct crypto_suite *const **ret)
{
    *ret = suites;
    return BASE_ARRAY_LEN(suites);
}
