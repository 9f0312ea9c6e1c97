/* SPDX-License-Identifier: Apache-2.0
 *
 * oqs.c - ML-KEM-1024 (FIPS 203) and ML-DSA-87 (FIPS 204) by liboqs.
 *
 * Does: draws every fresh secret from base_random and hands it over, through the calls that take it where liboqs has
 *       such, else through its generator hook, which gives what this thread was just fed and nothing else.
 * Not:  key generation for ML-DSA, PEM and X.509: a key's life is OpenSSL's. liboqs works on the caller's stack, some
 *       hundred KiB of it.
 */
#include "crypto/backend/backend.h"
#include "crypto/secret.h"

#include <string.h>

#include <oqs/oqs.h>

_Static_assert(OQS_KEM_ml_kem_1024_length_public_key == CRYPTO_MLKEM1024_EK_BYTES, "FIPS 203 table 3");
_Static_assert(OQS_KEM_ml_kem_1024_length_ciphertext == CRYPTO_MLKEM1024_CT_BYTES, "FIPS 203 table 3");
_Static_assert(OQS_KEM_ml_kem_1024_length_keypair_seed == CRYPTO_MLKEM_SEED_BYTES, "FIPS 203 section 7.1");
_Static_assert(OQS_KEM_ml_kem_1024_length_encaps_seed == CRYPTO_MLKEM_M_BYTES, "FIPS 203 section 7.2");
_Static_assert(OQS_SIG_ml_dsa_87_length_public_key == CRYPTO_MLDSA87_PK_BYTES, "FIPS 204 table 2");
_Static_assert(OQS_SIG_ml_dsa_87_length_secret_key == CRYPTO_MLDSA87_SK_BYTES, "FIPS 204 table 2");
_Static_assert(OQS_SIG_ml_dsa_87_length_signature == CRYPTO_MLDSA87_SIG_BYTES, "FIPS 204 table 2");

/* ---- randomness ------------------------------------------------------------------------------------------------- */

/* What liboqs may draw in the call that this thread is in. */
static _Thread_local struct {
    const uint8_t *at;
    size_t left;
    bool wanted_more;
} feed;

static void draw(uint8_t *out, size_t len)
{
    if (len > feed.left) {
        feed.wanted_more = true;
        base_wipe(out, len);
        return;
    }
    memcpy(out, feed.at, len);
    feed.at += len;
    feed.left -= len;
}

static void feed_begin(const uint8_t *bytes, size_t len)
{
    feed.at = bytes;
    feed.left = len;
    feed.wanted_more = false;
}

/* True if the call drew exactly what it was given. */
static bool feed_end(void)
{
    bool ok = feed.left == 0 && !feed.wanted_more;

    feed.at = NULL;
    feed.left = 0;
    return ok;
}

/* ---- ML-KEM-1024 ------------------------------------------------------------------------------------------------ */

struct crypto_kem_key {
    uint8_t dk[OQS_KEM_ml_kem_1024_length_secret_key];
};

static void mlkem_key_free(struct crypto_kem_key *dk)
{
    crypto_secret_free(dk);
}

static dbe_err mlkem_from_seed(const uint8_t seed[CRYPTO_MLKEM_SEED_BYTES], struct crypto_kem_key **ret, uint8_t *ek)
{
    struct crypto_kem_key *dk = crypto_secret_alloc(sizeof *dk);

    if (dk == NULL)
        return DBE_E_NOMEM;
    if (OQS_KEM_ml_kem_1024_keypair_derand(ek, dk->dk, seed) != OQS_SUCCESS) {
        mlkem_key_free(dk);
        return DBE_E_CRYPTO;
    }
    *ret = dk;
    return DBE_OK;
}

static dbe_err mlkem_keygen(struct crypto_kem_key **ret, uint8_t *ek)
{
    uint8_t seed[CRYPTO_MLKEM_SEED_BYTES];
    dbe_err err = base_random(seed, sizeof seed);

    if (err == DBE_OK)
        err = mlkem_from_seed(seed, ret, ek);
    base_wipe(seed, sizeof seed);
    return err;
}

static dbe_err mlkem_encaps_m(const uint8_t *ek, const uint8_t m[CRYPTO_MLKEM_M_BYTES], uint8_t *ct, uint8_t *ss)
{
    if (OQS_KEM_ml_kem_1024_encaps_derand(ct, ss, ek, m) == OQS_SUCCESS)
        return DBE_OK;
    base_wipe(ss, CRYPTO_KEM_SS_BYTES);
    return DBE_E_MALFORMED; /* FIPS 203 section 7.2, modulus check: nothing else of it can fail */
}

static dbe_err mlkem_encaps(const uint8_t *ek, uint8_t *ct, uint8_t *ss)
{
    uint8_t m[CRYPTO_MLKEM_M_BYTES];
    dbe_err err = base_random(m, sizeof m);

    if (err == DBE_OK)
        err = mlkem_encaps_m(ek, m, ct, ss);
    base_wipe(m, sizeof m);
    return err;
}

static dbe_err mlkem_decaps(const struct crypto_kem_key *dk, const uint8_t *ct, uint8_t *ss)
{
    if (OQS_KEM_ml_kem_1024_decaps(ss, ct, dk->dk) == OQS_SUCCESS)
        return DBE_OK;
    base_wipe(ss, CRYPTO_KEM_SS_BYTES);
    return DBE_E_CRYPTO;
}

/* liboqs checks the key's hash in decapsulation alone: do one, of anything. */
static dbe_err mlkem_from_dk(const uint8_t *bytes, size_t len, struct crypto_kem_key **ret)
{
    uint8_t ct[CRYPTO_MLKEM1024_CT_BYTES] = {0}, ss[CRYPTO_KEM_SS_BYTES];
    struct crypto_kem_key *dk;

    if (len != sizeof dk->dk)
        return DBE_E_MALFORMED;
    dk = crypto_secret_alloc(sizeof *dk);
    if (dk == NULL)
        return DBE_E_NOMEM;
    memcpy(dk->dk, bytes, len);
    if (mlkem_decaps(dk, ct, ss) != DBE_OK) {
        mlkem_key_free(dk);
        return DBE_E_MALFORMED;
    }
    base_wipe(ss, sizeof ss);
    *ret = dk;
    return DBE_OK;
}

static const struct crypto_kem oqs_mlkem1024 = {
    .name = "ML-KEM-1024",
    .ek_bytes = CRYPTO_MLKEM1024_EK_BYTES,
    .ct_bytes = CRYPTO_MLKEM1024_CT_BYTES,
    .ss_bytes = CRYPTO_KEM_SS_BYTES,
    .keygen = mlkem_keygen,
    .encaps = mlkem_encaps,
    .decaps = mlkem_decaps,
    .key_free = mlkem_key_free,
    .from_seed = mlkem_from_seed,
    .encaps_m = mlkem_encaps_m,
    .from_dk = mlkem_from_dk,
};

/* ---- ML-DSA-87 -------------------------------------------------------------------------------------------------- */

struct crypto_sig_key {
    uint8_t pk[OQS_SIG_ml_dsa_87_length_public_key];
    uint8_t sk[]; /* of a private key */
};

static dbe_err mldsa_load(const struct crypto_key *key, struct crypto_sig_key **ret)
{
    bool is_private = crypto_key_is_private(key);
    struct crypto_sig_key *own = crypto_secret_alloc(sizeof *own + (is_private ? CRYPTO_MLDSA87_SK_BYTES : 0));
    dbe_err err;

    if (own == NULL)
        return DBE_E_NOMEM;
    err = crypto_key_public(key, own->pk);
    if (err == DBE_OK && is_private)
        err = crypto_key_secret(key, own->sk);
    if (err == DBE_OK)
        *ret = own;
    else
        crypto_secret_free(own);
    return err;
}

static void mldsa_unload(struct crypto_sig_key *own)
{
    crypto_secret_free(own);
}

static dbe_err mldsa_sign(const struct crypto_sig_key *own, const void *ctx, size_t ctx_len, const void *msg,
                          size_t len, const uint8_t rnd[CRYPTO_MLDSA_RND_BYTES], uint8_t *sig)
{
    size_t sig_len = CRYPTO_MLDSA87_SIG_BYTES;
    bool ok;

    feed_begin(rnd, CRYPTO_MLDSA_RND_BYTES);
    ok = OQS_SIG_ml_dsa_87_sign_with_ctx_str(sig, &sig_len, msg, len, ctx, ctx_len, own->sk) == OQS_SUCCESS &&
         sig_len == CRYPTO_MLDSA87_SIG_BYTES;
    if (feed_end() && ok)
        return DBE_OK;
    base_wipe(sig, CRYPTO_MLDSA87_SIG_BYTES);
    return DBE_E_CRYPTO;
}

static dbe_err mldsa_verify(const struct crypto_sig_key *own, const void *ctx, size_t ctx_len, const void *msg,
                            size_t len, const uint8_t *sig)
{
    bool ok = OQS_SIG_ml_dsa_87_verify_with_ctx_str(msg, len, sig, CRYPTO_MLDSA87_SIG_BYTES, ctx, ctx_len, own->pk) ==
              OQS_SUCCESS;

    return ok ? DBE_OK : DBE_E_AUTH;
}

static const struct crypto_sig oqs_mldsa87 = {
    .name = "ML-DSA-87",
    .pk_bytes = CRYPTO_MLDSA87_PK_BYTES,
    .sig_bytes = CRYPTO_MLDSA87_SIG_BYTES,
    .load = mldsa_load,
    .unload = mldsa_unload,
    .sign = mldsa_sign,
    .verify = mldsa_verify,
};

/* ---- the backend ------------------------------------------------------------------------------------------------ */

static const char *oqs_version(void)
{
    return "liboqs " OQS_VERSION_TEXT;
}

static dbe_err oqs_init(struct dbe_diag *diag)
{
    (void)diag;
    OQS_init();
    OQS_randombytes_custom_algorithm(draw);
    return DBE_OK;
}

const struct crypto_backend crypto_oqs = {
    .name = "oqs",
    .version = oqs_version,
    .init = oqs_init,
    .kem = {&oqs_mlkem1024},
    .sig = {&oqs_mldsa87},
};
