/* SPDX-License-Identifier: Apache-2.0
 *
 * openssl_key.c - the life of ML-DSA-87 keys (FIPS 204): made, read from and written to PKCS#8 PEM, shared, freed; and
 * the calls that sign and verify with whichever backend was chosen.
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

enum { PEM_MAX_BYTES = 64 * 1024 };

struct crypto_key {
    atomic_uint refs;
    bool is_private;
    const struct crypto_sig *sig; /* who uses it */
    struct crypto_sig_key *own;   /* its form of the key */
    _Atomic(EVP_PKEY *) native;   /* a private key's always, a public one's when it is first asked for */
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
};

static const struct crypto_sig *sig_in_use = &osl_mldsa87;

void crypto_key_use(const struct crypto_sig *sig)
{
    sig_in_use = sig;
}

/* Takes `native`, which may be NULL: then `pk` is the key. */
static dbe_err wrap(EVP_PKEY *native, const uint8_t *pk, bool is_private, const struct crypto_sig *sig,
                    struct crypto_key **ret)
{
    struct crypto_key *key = base_alloc(1, sizeof *key);
    size_t len = sizeof key->pk;
    dbe_err err = DBE_OK;

    if (key == NULL) {
        EVP_PKEY_free(native);
        return DBE_E_NOMEM;
    }
    atomic_init(&key->refs, 1);
    atomic_init(&key->native, native);
    key->is_private = is_private;
    key->sig = sig;
    if (native == NULL)
        memcpy(key->pk, pk, sizeof key->pk);
    else if (EVP_PKEY_get_raw_public_key(native, key->pk, &len) != 1 || len != sizeof key->pk)
        err = osl_fail(DBE_E_MALFORMED);
    if (err == DBE_OK)
        err = sig->load(key, &key->own);
    if (err == DBE_OK)
        *ret = key;
    else
        crypto_key_free(key);
    return err;
}

dbe_err crypto_key_generate(struct crypto_key **ret)
{
    uint8_t seed[CRYPTO_MLDSA_SEED_BYTES]; /* FIPS 204 section 6.1: xi */
    EVP_PKEY_CTX *ctx = NULL;
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_ML_DSA_SEED, seed, sizeof seed),
        OSSL_PARAM_construct_end(),
    };
    bool ok;

    if (!osl_algs.ready)
        return DBE_E_STATE;
    DBE_TRY(base_random(seed, sizeof seed));
    ctx = EVP_PKEY_CTX_new_from_name(NULL, MLDSA, NULL);
    ok = ctx != NULL && EVP_PKEY_keygen_init(ctx) == 1 && EVP_PKEY_CTX_set_params(ctx, params) == 1 &&
         EVP_PKEY_generate(ctx, &pkey) == 1;
    base_wipe(seed, sizeof seed);
    EVP_PKEY_CTX_free(ctx);
    if (!ok) {
        EVP_PKEY_free(pkey);
        return osl_fail(DBE_E_CRYPTO);
    }
    return wrap(pkey, NULL, true, sig_in_use, ret);
}

dbe_err crypto_key_from_public(const uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], struct crypto_key **ret)
{
    if (!osl_algs.ready)
        return DBE_E_STATE;
    return wrap(NULL, pk, false, sig_in_use, ret);
}

dbe_err crypto_key_from_native(void *pkey, struct crypto_key **ret)
{
    if (!osl_algs.ready)
        return DBE_E_STATE;
    if (pkey == NULL || EVP_PKEY_is_a(pkey, MLDSA) != 1)
        return osl_fail(DBE_E_MALFORMED);
    if (EVP_PKEY_up_ref(pkey) != 1)
        return osl_fail(DBE_E_NOMEM);
    return wrap(pkey, NULL, false, sig_in_use, ret);
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

    if (!osl_algs.ready)
        return DBE_E_STATE;
    if (len == 0 || len > PEM_MAX_BYTES)
        return DBE_E_MALFORMED;
    bio = BIO_new_mem_buf(pem, (int)len);
    if (bio == NULL)
        return osl_fail(DBE_E_NOMEM);
    pkey = PEM_read_bio_PrivateKey_ex(bio, NULL, no_passphrase, NULL, NULL, NULL);
    BIO_free(bio);
    ERR_clear_error(); /* the decoders leave their failed attempts even when one succeeds */
    if (pkey == NULL || EVP_PKEY_is_a(pkey, MLDSA) != 1) {
        EVP_PKEY_free(pkey);
        return osl_fail(DBE_E_MALFORMED);
    }
    return wrap(pkey, NULL, true, sig_in_use, ret);
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
    if (bio != NULL && PEM_write_bio_PKCS8PrivateKey(bio, atomic_load(&key->native), NULL, NULL, 0, NULL, NULL) == 1 &&
        (len = BIO_get_mem_data(bio, &text)) > 0) {
        base_buf_bytes(out, text, (size_t)len);
        err = out->err;
    }
    BIO_free(bio);
    return err == DBE_OK ? DBE_OK : osl_fail(err);
}

dbe_err crypto_key_with(const struct crypto_key *key, const struct crypto_sig *sig, struct crypto_key **ret)
{
    EVP_PKEY *native = crypto_key_native(key);

    if (native == NULL || EVP_PKEY_up_ref(native) != 1)
        return osl_fail(DBE_E_NOMEM);
    return wrap(native, NULL, key->is_private, sig, ret);
}

dbe_err crypto_key_public(const struct crypto_key *key, uint8_t pk[CRYPTO_MLDSA87_PK_BYTES])
{
    memcpy(pk, key->pk, sizeof key->pk);
    return DBE_OK;
}

dbe_err crypto_key_secret(const struct crypto_key *key, uint8_t sk[CRYPTO_MLDSA87_SK_BYTES])
{
    size_t len = CRYPTO_MLDSA87_SK_BYTES;

    if (!key->is_private)
        return DBE_E_ARGUMENT;
    if (EVP_PKEY_get_raw_private_key(atomic_load(&key->native), sk, &len) == 1 && len == CRYPTO_MLDSA87_SK_BYTES)
        return DBE_OK;
    base_wipe(sk, CRYPTO_MLDSA87_SK_BYTES);
    return osl_fail(DBE_E_CRYPTO);
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
    if (key->own != NULL)
        key->sig->unload(key->own);
    EVP_PKEY_free(atomic_load(&key->native)); /* wipes the private part */
    base_free(key);
}

/* Threads that ask at once may each make one; one of them is kept. */
void *crypto_key_native(const struct crypto_key *key)
{
    _Atomic(EVP_PKEY *) *at = &((struct crypto_key *)(uintptr_t)key)->native;
    EVP_PKEY *native = atomic_load(at), *made;

    if (native != NULL)
        return native;
    made = EVP_PKEY_new_raw_public_key_ex(NULL, MLDSA, NULL, key->pk, sizeof key->pk);
    if (made == NULL)
        ERR_clear_error();
    else if (atomic_compare_exchange_strong(at, &native, made))
        return made;
    EVP_PKEY_free(made);
    return native;
}

/* ---- signing ---------------------------------------------------------------------------------------------------- */

dbe_err crypto_sign_rnd(const struct crypto_key *key, const void *ctx, size_t ctx_len, const void *msg, size_t len,
                        const uint8_t rnd[CRYPTO_MLDSA_RND_BYTES], uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    if (!key->is_private || ctx_len > CRYPTO_SIG_CTX_MAX_BYTES)
        return DBE_E_ARGUMENT;
    return key->sig->sign(key->own, ctx, ctx_len, msg, len, rnd, sig);
}

dbe_err crypto_sign(const struct crypto_key *key, const char *ctx, const void *msg, size_t len,
                    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    uint8_t rnd[CRYPTO_MLDSA_RND_BYTES];
    dbe_err err = base_random(rnd, sizeof rnd);

    if (err == DBE_OK)
        err = crypto_sign_rnd(key, ctx, strlen(ctx), msg, len, rnd, sig);
    base_wipe(rnd, sizeof rnd);
    return err;
}

dbe_err crypto_verify_ctx(const struct crypto_key *key, const void *ctx, size_t ctx_len, const void *msg, size_t len,
                          const uint8_t *sig, size_t sig_len)
{
    if (ctx_len > CRYPTO_SIG_CTX_MAX_BYTES)
        return DBE_E_ARGUMENT;
    if (sig_len != key->sig->sig_bytes)
        return DBE_E_AUTH;
    return key->sig->verify(key->own, ctx, ctx_len, msg, len, sig);
}

dbe_err crypto_verify(const struct crypto_key *key, const char *ctx, const void *msg, size_t len, const uint8_t *sig,
                      size_t sig_len)
{
    return crypto_verify_ctx(key, ctx, strlen(ctx), msg, len, sig, sig_len);
}
