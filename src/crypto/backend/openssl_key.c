/* SPDX-License-Identifier: Apache-2.0
 *
 * openssl_key.c - ML-DSA-87 keys and signatures (FIPS 204) by OpenSSL; PKCS#8 PEM.
 *
 * Does: a key is imported once and kept loaded (an import costs as much as a verification); signing is hedged with
 *       32 bytes of base_random.
 * Not:  no files, no passphrases: an encrypted PEM is refused, nobody is ever asked on a terminal.
 */
#include "crypto/backend/openssl.h"

#include <stdatomic.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/pem.h>

#define MLDSA "ML-DSA-87"

enum { CTX_MAX_BYTES = 255, PEM_MAX_BYTES = 64 * 1024 };

struct crypto_key {
    atomic_uint refs;
    EVP_PKEY *pkey;
    bool is_private;
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
};

/* Takes `pkey`. */
static dbe_err wrap(EVP_PKEY *pkey, bool is_private, struct crypto_key **ret)
{
    struct crypto_key *key = base_alloc(1, sizeof *key);
    size_t len = sizeof key->pk;

    if (key == NULL) {
        EVP_PKEY_free(pkey);
        return DBE_E_NOMEM;
    }
    atomic_init(&key->refs, 1);
    key->pkey = pkey;
    key->is_private = is_private;
    if (EVP_PKEY_get_raw_public_key(pkey, key->pk, &len) != 1 || len != sizeof key->pk) {
        crypto_key_free(key);
        return ossl_fail(DBE_E_MALFORMED);
    }
    *ret = key;
    return DBE_OK;
}

dbe_err crypto_key_generate(struct crypto_key **ret)
{
    uint8_t seed[OSSL_MLDSA_RND_BYTES]; /* FIPS 204 section 6.1: xi */
    EVP_PKEY_CTX *ctx = NULL;
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_ML_DSA_SEED, seed, sizeof seed),
        OSSL_PARAM_construct_end(),
    };
    bool ok;

    if (!ossl_algs.ready)
        return DBE_E_STATE;
    DBE_TRY(base_random(seed, sizeof seed));
    ctx = EVP_PKEY_CTX_new_from_name(NULL, MLDSA, NULL);
    ok = ctx != NULL && EVP_PKEY_keygen_init(ctx) == 1 && EVP_PKEY_CTX_set_params(ctx, params) == 1 &&
         EVP_PKEY_generate(ctx, &pkey) == 1;
    base_wipe(seed, sizeof seed);
    EVP_PKEY_CTX_free(ctx);
    if (!ok) {
        EVP_PKEY_free(pkey);
        return ossl_fail(DBE_E_CRYPTO);
    }
    return wrap(pkey, true, ret);
}

dbe_err crypto_key_from_public(const uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], struct crypto_key **ret)
{
    EVP_PKEY *pkey;

    if (!ossl_algs.ready)
        return DBE_E_STATE;
    pkey = EVP_PKEY_new_raw_public_key_ex(NULL, MLDSA, NULL, pk, CRYPTO_MLDSA87_PK_BYTES);
    if (pkey == NULL)
        return ossl_fail(DBE_E_MALFORMED);
    return wrap(pkey, false, ret);
}

static int no_passphrase(char *buf, int size, int rwflag, void *u)
{
    (void)buf, (void)size, (void)rwflag, (void)u;
    return -1;
}

dbe_err crypto_key_from_pem(const void *pem, size_t len, struct crypto_key **ret)
{
    BIO *bio;
    EVP_PKEY *pkey;

    if (!ossl_algs.ready)
        return DBE_E_STATE;
    if (len == 0 || len > PEM_MAX_BYTES)
        return DBE_E_MALFORMED;
    bio = BIO_new_mem_buf(pem, (int)len);
    if (bio == NULL)
        return ossl_fail(DBE_E_NOMEM);
    pkey = PEM_read_bio_PrivateKey_ex(bio, NULL, no_passphrase, NULL, NULL, NULL);
    BIO_free(bio);
    ERR_clear_error(); /* the decoders leave their failed attempts even when one succeeds */
    if (pkey == NULL || EVP_PKEY_is_a(pkey, MLDSA) != 1) {
        EVP_PKEY_free(pkey);
        return ossl_fail(DBE_E_MALFORMED);
    }
    return wrap(pkey, true, ret);
}

dbe_err crypto_key_to_pem(const struct crypto_key *key, struct base_buf *out)
{
    BIO *bio;
    char *text = NULL;
    long len;
    dbe_err err = DBE_E_CRYPTO;

    if (!key->is_private)
        return DBE_E_ARGUMENT;
    bio = BIO_new(BIO_s_secmem()); /* wiped when freed */
    if (bio != NULL && PEM_write_bio_PKCS8PrivateKey(bio, key->pkey, NULL, NULL, 0, NULL, NULL) == 1 &&
        (len = BIO_get_mem_data(bio, &text)) > 0) {
        base_buf_bytes(out, text, (size_t)len);
        err = out->err;
    }
    BIO_free(bio);
    return err == DBE_OK ? DBE_OK : ossl_fail(err);
}

dbe_err crypto_key_public(const struct crypto_key *key, uint8_t pk[CRYPTO_MLDSA87_PK_BYTES])
{
    memcpy(pk, key->pk, sizeof key->pk);
    return DBE_OK;
}

bool crypto_key_is_private(const struct crypto_key *key)
{
    return key->is_private;
}

struct crypto_key *crypto_key_ref(struct crypto_key *key)
{
    atomic_fetch_add_explicit(&key->refs, 1, memory_order_relaxed);
    return key;
}

void crypto_key_free(struct crypto_key *key)
{
    if (key == NULL || atomic_fetch_sub_explicit(&key->refs, 1, memory_order_acq_rel) != 1)
        return;
    EVP_PKEY_free(key->pkey); /* wipes the private part */
    base_free(key);
}

void *crypto_key_native(const struct crypto_key *key)
{
    return key->pkey;
}

dbe_err ossl_mldsa87_sign_rnd(const struct crypto_key *key, const void *ctx, size_t ctx_len, const void *msg,
                              size_t len, const uint8_t rnd[OSSL_MLDSA_RND_BYTES],
                              uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    EVP_PKEY_CTX *pctx;
    size_t sig_len = CRYPTO_MLDSA87_SIG_BYTES;
    bool ok;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_SIGNATURE_PARAM_CONTEXT_STRING, (void *)(uintptr_t)ctx, ctx_len),
        OSSL_PARAM_construct_octet_string(OSSL_SIGNATURE_PARAM_TEST_ENTROPY, (void *)(uintptr_t)rnd,
                                          OSSL_MLDSA_RND_BYTES),
        OSSL_PARAM_construct_end(),
    };

    if (!key->is_private || ctx_len > CTX_MAX_BYTES)
        return DBE_E_ARGUMENT;
    pctx = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
    ok = pctx != NULL && EVP_PKEY_sign_message_init(pctx, ossl_algs.mldsa87, params) == 1 &&
         EVP_PKEY_sign(pctx, sig, &sig_len, msg, len) == 1 && sig_len == CRYPTO_MLDSA87_SIG_BYTES;
    EVP_PKEY_CTX_free(pctx);
    if (ok)
        return DBE_OK;
    base_wipe(sig, CRYPTO_MLDSA87_SIG_BYTES);
    return ossl_fail(DBE_E_CRYPTO);
}

dbe_err crypto_sign(const struct crypto_key *key, const char *ctx, const void *msg, size_t len,
                    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    uint8_t rnd[OSSL_MLDSA_RND_BYTES];
    dbe_err err = base_random(rnd, sizeof rnd);

    if (err == DBE_OK)
        err = ossl_mldsa87_sign_rnd(key, ctx, strlen(ctx), msg, len, rnd, sig);
    base_wipe(rnd, sizeof rnd);
    return err;
}

dbe_err ossl_mldsa87_verify_ctx(const struct crypto_key *key, const void *ctx, size_t ctx_len, const void *msg,
                                size_t len, const uint8_t *sig, size_t sig_len)
{
    EVP_PKEY_CTX *pctx;
    bool usable, ok;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_SIGNATURE_PARAM_CONTEXT_STRING, (void *)(uintptr_t)ctx, ctx_len),
        OSSL_PARAM_construct_end(),
    };

    if (ctx_len > CTX_MAX_BYTES)
        return DBE_E_ARGUMENT;
    if (sig_len != CRYPTO_MLDSA87_SIG_BYTES)
        return DBE_E_AUTH;
    pctx = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
    usable = pctx != NULL && EVP_PKEY_verify_message_init(pctx, ossl_algs.mldsa87, params) == 1;
    ok = usable && EVP_PKEY_verify(pctx, sig, sig_len, msg, len) == 1;
    EVP_PKEY_CTX_free(pctx);
    if (ok)
        return DBE_OK;
    return ossl_fail(usable ? DBE_E_AUTH : DBE_E_CRYPTO);
}

dbe_err crypto_verify(const struct crypto_key *key, const char *ctx, const void *msg, size_t len, const uint8_t *sig,
                      size_t sig_len)
{
    return ossl_mldsa87_verify_ctx(key, ctx, strlen(ctx), msg, len, sig, sig_len);
}
