/* SPDX-License-Identifier: Apache-2.0
 *
 * suite.c - the registry of suites: which algorithms stand behind a number on the wire.
 *
 * A suite is one row here and one ops struct for each algorithm that is new. A row names the ops of OpenSSL, which is
 * the default; crypto_init may put those of another backend that have the same name in their place. There is no suite
 * without ML-KEM and ML-DSA: every row's KEM is post-quantum and signatures are ML-DSA-87 in all of them. Best first.
 */
#include "crypto/backend/openssl.h"

#include <string.h>

/* Written by crypto_suites_resolve alone, before threads. */
static struct crypto_suite rows[] = {
    {
        .id = CRYPTO_SUITE_1,
        .name = "P384-MLKEM1024-MLDSA87-AES256GCM-SHA3-512",
        .ecdh = &osl_p384,
        .kem = &osl_mlkem1024,
        .sig = &osl_mldsa87,
        .aead = &osl_aes_256_gcm,
    },
    /* For those who have many channels to open: its Diffie-Hellman costs a tenth. */
    {
        .id = CRYPTO_SUITE_2,
        .name = "X25519-MLKEM1024-MLDSA87-AES256GCM-SHA3-512",
        .ecdh = &osl_x25519,
        .kem = &osl_mlkem1024,
        .sig = &osl_mldsa87,
        .aead = &osl_aes_256_gcm,
    },
};
static const struct crypto_suite *const suites[] = {&rows[0], &rows[1]};
_Static_assert(BASE_ARRAY_LEN(suites) == BASE_ARRAY_LEN(rows), "every row has its place in the list");

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

/* Put that of a backend's ops which does the same algorithm as `slot` in its place; what the backend lacks stays. */
#define REPLACE(slot, backend, ops)                                                                                    \
    do {                                                                                                               \
        for (size_t at_ = 0; (backend) != NULL && (backend)->ops[at_] != NULL; at_++) {                                \
            if (strcmp((slot)->name, (backend)->ops[at_]->name) == 0)                                                  \
                (slot) = (backend)->ops[at_];                                                                          \
        }                                                                                                              \
    } while (0)

void crypto_suites_resolve(const struct crypto_choice *choice)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        REPLACE(rows[i].ecdh, choice->ecdh, ecdh);
        REPLACE(rows[i].kem, choice->kem, kem);
        REPLACE(rows[i].sig, choice->sig, sig);
        REPLACE(rows[i].aead, choice->aead, aead);
    }
}
