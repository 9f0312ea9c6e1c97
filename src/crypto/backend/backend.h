/* SPDX-License-Identifier: Apache-2.0
 *
 * backend.h - a library that does some of the primitives, and the table of those in this build.
 *
 * OpenSSL is the reference: it does every algorithm, a suite's row names its ops, and keys and certificates are read
 * and written by it alone. Another backend lists replacements; crypto_init puts those that were chosen into the suites
 * by the algorithm's name. Included by src/crypto and its tests and benchmark alone.
 */
#ifndef CRYPTO_BACKEND_BACKEND_H
#define CRYPTO_BACKEND_BACKEND_H

#include "crypto/crypto.h"

enum { CRYPTO_BACKEND_OPS_MAX = 4 };

struct crypto_backend {
    const char *name;                       /* as in DSMIL_CRYPTO: "oqs" */
    const char *(*version)(void);           /* for people; any time */
    dbe_err (*init)(struct dbe_diag *diag); /* before its ops are used; idempotent, not thread-safe */
    /* What it does, ended by NULL. */
    const struct crypto_ecdh *ecdh[CRYPTO_BACKEND_OPS_MAX + 1];
    const struct crypto_kem *kem[CRYPTO_BACKEND_OPS_MAX + 1];
    const struct crypto_sig *sig[CRYPTO_BACKEND_OPS_MAX + 1];
    const struct crypto_aead *aead[CRYPTO_BACKEND_OPS_MAX + 1];
};

extern const struct crypto_backend crypto_openssl;
#ifdef CRYPTO_HAVE_IPSECMB
extern const struct crypto_backend crypto_ipsecmb;
#endif
#ifdef CRYPTO_HAVE_OQS
extern const struct crypto_backend crypto_oqs;
#endif

/* All of this build, OpenSSL first; returns their count. */
size_t crypto_backends(const struct crypto_backend *const **ret);
/* NULL if this build has none of that name. */
const struct crypto_backend *crypto_backend(const char *name);

/* The backend of each slot; NULL: OpenSSL. */
struct crypto_choice {
    const struct crypto_backend *ecdh, *kem, *sig, *aead;
};
/* Read "slot=backend,...". `where` goes into the diag as its clause. Errors as dbe_crypto_select. */
dbe_err crypto_choice_parse(const char *spec, const char *where, struct crypto_choice *ret,
                            struct dbe_diag *diag) DBE_MUST_CHECK;
/* Put the chosen ops into every suite (suite.c). */
void crypto_suites_resolve(const struct crypto_choice *choice);
/* The signature ops that keys made from now on are used with (key.c). */
void crypto_key_use(const struct crypto_sig *sig);
/* `key` once more, used by other ops: for tests and benchmarks that hold one backend against another. */
dbe_err crypto_key_with(const struct crypto_key *key, const struct crypto_sig *sig,
                        struct crypto_key **ret) DBE_MUST_CHECK;

#endif
