/* SPDX-License-Identifier: Apache-2.0
 *
 * openssl_kem.c - ML-KEM-1024 (FIPS 203) by OpenSSL.
 *
 * Does: key generation from the 64-byte seed d || z, encapsulation with the check of the encapsulation key of section
 *       7.2, decapsulation with implicit rejection (section 6.3: a wrong ciphertext gives a wrong secret, no error).
 */
#include "crypto/backend/openssl.h"

struct crypto_kem_key {
    EVP_PKEY *pkey;
};

static void mlkem_key_free(struct crypto_kem_key *dk)
{
    if (dk == NULL)
        return;
    EVP_PKEY_free(dk->pkey); /* wipes the private part */
    base_free(dk);
}

static dbe_err wrap(EVP_PKEY *pkey, struct crypto_kem_key **ret)
{
    struct crypto_kem_key *dk = base_alloc(1, sizeof *dk);

    if (dk == NULL) {
        EVP_PKEY_free(pkey);
        return DBE_E_NOMEM;
    }
    dk->pkey = pkey;
    *ret = dk;
    return DBE_OK;
}

static dbe_err mlkem_from_seed(const uint8_t seed[CRYPTO_MLKEM_SEED_BYTES], struct crypto_kem_key **ret, uint8_t *ek)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "ML-KEM-1024", NULL);
    EVP_PKEY *pkey = NULL;
    size_t len = 0;
    bool ok;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_ML_KEM_SEED, (void *)(uintptr_t)seed,
                                          CRYPTO_MLKEM_SEED_BYTES),
        OSSL_PARAM_construct_end(),
    };

    ok = ctx != NULL && EVP_PKEY_keygen_init(ctx) == 1 && EVP_PKEY_CTX_set_params(ctx, params) == 1 &&
         EVP_PKEY_generate(ctx, &pkey) == 1 &&
         EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, ek, CRYPTO_MLKEM1024_EK_BYTES, &len) == 1 &&
         len == CRYPTO_MLKEM1024_EK_BYTES;
    EVP_PKEY_CTX_free(ctx);
    if (!ok) {
        EVP_PKEY_free(pkey);
        return osl_fail(DBE_E_CRYPTO);
    }
    return wrap(pkey, ret);
}

static dbe_err mlkem_from_dk(const uint8_t *dk, size_t len, struct crypto_kem_key **ret)
{
    EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key_ex(NULL, "ML-KEM-1024", NULL, dk, len);

    if (pkey == NULL)
        return osl_fail(DBE_E_MALFORMED);
    return wrap(pkey, ret);
}

static dbe_err mlkem_keygen(struct crypto_kem_key **ret, uint8_t *ek)
{
    uint8_t seed[CRYPTO_MLKEM_SEED_BYTES];
    dbe_err err = osl_algs.ready ? base_random(seed, sizeof seed) : DBE_E_STATE;

    if (err == DBE_OK)
        err = mlkem_from_seed(seed, ret, ek);
    base_wipe(seed, sizeof seed);
    return err;
}

static dbe_err mlkem_encaps_m(const uint8_t *ek, const uint8_t m[CRYPTO_MLKEM_M_BYTES], uint8_t *ct, uint8_t *ss)
{
    EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key_ex(NULL, "ML-KEM-1024", NULL, ek, CRYPTO_MLKEM1024_EK_BYTES);
    EVP_PKEY_CTX *ctx;
    size_t ct_len = CRYPTO_MLKEM1024_CT_BYTES, ss_len = CRYPTO_KEM_SS_BYTES;
    bool ok;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_KEM_PARAM_IKME, (void *)(uintptr_t)m, CRYPTO_MLKEM_M_BYTES),
        OSSL_PARAM_construct_end(),
    };

    if (pkey == NULL) /* FIPS 203 section 7.2, modulus check */
        return osl_fail(DBE_E_MALFORMED);
    ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    ok = ctx != NULL && EVP_PKEY_encapsulate_init(ctx, params) == 1 &&
         EVP_PKEY_encapsulate(ctx, ct, &ct_len, ss, &ss_len) == 1 && ct_len == CRYPTO_MLKEM1024_CT_BYTES &&
         ss_len == CRYPTO_KEM_SS_BYTES;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    if (ok)
        return DBE_OK;
    base_wipe(ss, CRYPTO_KEM_SS_BYTES);
    return osl_fail(DBE_E_CRYPTO);
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
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, dk->pkey, NULL);
    size_t len = CRYPTO_KEM_SS_BYTES;
    bool ok;

    ok = ctx != NULL && EVP_PKEY_decapsulate_init(ctx, NULL) == 1 &&
         EVP_PKEY_decapsulate(ctx, ss, &len, ct, CRYPTO_MLKEM1024_CT_BYTES) == 1 && len == CRYPTO_KEM_SS_BYTES;
    EVP_PKEY_CTX_free(ctx);
    if (ok)
        return DBE_OK;
    base_wipe(ss, CRYPTO_KEM_SS_BYTES);
    return osl_fail(DBE_E_CRYPTO);
}

const struct crypto_kem osl_mlkem1024 = {
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
