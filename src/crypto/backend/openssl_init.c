/* SPDX-License-Identifier: Apache-2.0
 *
 * openssl_init.c - checks which OpenSSL is really there and fetches every algorithm once; the backend's row.
 *
 * In:   the libcrypto of this process   Out: osl_algs
 * Does: refuses a library that is older than 3.5 or than the headers this was built with: OpenSSL 3.0 and 3.5 share
 *       their SONAME, so the loader may have found another one.
 * Not:  no configuration file is read: what algorithms mean is not a matter of the host's openssl.cnf.
 */
#include "crypto/backend/openssl.h"

#include <openssl/crypto.h>
#include <openssl/opensslv.h>

#if OPENSSL_VERSION_NUMBER < 0x30500000L
#error "OpenSSL 3.5 or later is needed (ML-KEM, ML-DSA)"
#endif

struct osl_algs osl_algs;

dbe_err osl_fail(dbe_err err)
{
    ERR_clear_error();
    return err;
}

static dbe_err check_version(struct dbe_diag *diag)
{
    unsigned found = (OPENSSL_version_major() << 8) | OPENSSL_version_minor();
    unsigned built = (OPENSSL_VERSION_MAJOR << 8) | OPENSSL_VERSION_MINOR;

    if (OPENSSL_version_major() != OPENSSL_VERSION_MAJOR || found < built)
        return dbe_fail(diag, DBE_E_UNSUPPORTED, "OpenSSL", 0,
                        "this program was built with OpenSSL %s and found %s at run time; link or load the one it was "
                        "built with",
                        OPENSSL_VERSION_STR, OpenSSL_version(OPENSSL_VERSION_STRING));
    return DBE_OK;
}

static EVP_PKEY *make_p384(void)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char[]){"P-384"}, 0),
        OSSL_PARAM_construct_end(),
    };

    if (ctx == NULL || EVP_PKEY_paramgen_init(ctx) != 1 || EVP_PKEY_CTX_set_params(ctx, params) != 1 ||
        EVP_PKEY_paramgen(ctx, &pkey) != 1)
        pkey = NULL;
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

/* ML-KEM has no fetched handle in the calls that use it; ask for it all the same, so that its absence is found here. */
static bool has_mlkem(void)
{
    EVP_KEM *kem = EVP_KEM_fetch(NULL, "ML-KEM-1024", NULL);
    bool there = kem != NULL;

    EVP_KEM_free(kem);
    return there;
}

static bool has_x25519(void)
{
    EVP_KEYEXCH *exchange = EVP_KEYEXCH_fetch(NULL, "X25519", NULL);
    bool there = exchange != NULL;

    EVP_KEYEXCH_free(exchange);
    return there;
}

static const char *fetch_all(struct osl_algs *a)
{
    if (a->sha3_512 == NULL && (a->sha3_512 = EVP_MD_fetch(NULL, "SHA3-512", NULL)) == NULL)
        return "SHA3-512";
    if (a->aes_256_gcm == NULL && (a->aes_256_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL)) == NULL)
        return "AES-256-GCM";
    if (a->mldsa87 == NULL && (a->mldsa87 = EVP_SIGNATURE_fetch(NULL, "ML-DSA-87", NULL)) == NULL)
        return "ML-DSA-87";
    if (!has_mlkem())
        return "ML-KEM-1024";
    if (!has_x25519())
        return "X25519";
    if (a->p384 == NULL && (a->p384 = make_p384()) == NULL)
        return "P-384";
    return NULL;
}

static dbe_err openssl_init(struct dbe_diag *diag)
{
    if (osl_algs.ready)
        return DBE_OK;
    DBE_TRY(check_version(diag));
    if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
        return osl_fail(dbe_fail(diag, DBE_E_CRYPTO, "OpenSSL", 0, "the library did not initialise"));

    const char *missing = fetch_all(&osl_algs);

    if (missing != NULL)
        return osl_fail(dbe_fail(diag, DBE_E_UNSUPPORTED, "OpenSSL", 0, "%s offers no %s",
                                 OpenSSL_version(OPENSSL_VERSION), missing));
    osl_algs.ready = true;
    return DBE_OK;
}

static const char *openssl_version(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}

const struct crypto_backend crypto_openssl = {
    .name = "openssl",
    .version = openssl_version,
    .init = openssl_init,
    .ecdh = {&osl_p384, &osl_x25519},
    .kem = {&osl_mlkem1024},
    .sig = {&osl_mldsa87},
    .aead = {&osl_aes_256_gcm},
};
