/* SPDX-License-Identifier: Apache-2.0
 *
 * seal_passphrase.c - keys under a passphrase: PKCS#8 EncryptedPrivateKeyInfo (RFC 5958), PBES2 (RFC 8018) with scrypt
 * and AES-256-CBC, as `openssl pkey` reads it.
 *
 * In:   a key and a passphrase    Out: PEM, or the key
 * Does not: detect every change of the file by itself (CBC has no tag): that a key belongs to its certificate is
 *       checked by whoever loads both.
 */
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>

#include "seal.h"

static const char clause[] = "sealed key";

enum { IV_BYTES = 16 };

/* AlgorithmIdentifier of PBES2 with our parameters. */
static dbe_err make_scheme(X509_ALGOR **ret)
{
    uint8_t salt[SEAL_SALT_BYTES], iv[IV_BYTES];

    DBE_TRY(base_random(salt, sizeof salt));
    DBE_TRY(base_random(iv, sizeof iv));
    *ret = PKCS5_pbe2_set_scrypt(EVP_aes_256_cbc(), salt, sizeof salt, iv, SEAL_SCRYPT_N, SEAL_SCRYPT_R,
                                 SEAL_SCRYPT_P);
    return *ret != NULL ? DBE_OK : DBE_E_CRYPTO;
}

static dbe_err encrypt(const uint8_t *der, size_t len, const char *pass, size_t pass_len, struct base_buf *out)
{
    const unsigned char *at = der;
    PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)len);
    X509_ALGOR *scheme = NULL;
    X509_SIG *sealed = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    long n = 0;
    dbe_err err = info == NULL || bio == NULL ? DBE_E_NOMEM : make_scheme(&scheme);

    if (err == DBE_OK) {
        sealed = PKCS8_set0_pbe(pass, (int)pass_len, info, scheme); /* takes the scheme if it succeeds */
        err = DBE_E_CRYPTO;
        if (sealed != NULL && PEM_write_bio_PKCS8(bio, sealed) == 1 && (n = BIO_get_mem_data(bio, &text)) > 0) {
            base_buf_bytes(out, text, (size_t)n);
            err = out->err;
        }
    }
    if (sealed == NULL)
        X509_ALGOR_free(scheme);
    X509_SIG_free(sealed);
    BIO_free(bio);
    PKCS8_PRIV_KEY_INFO_free(info); /* wipes */
    ERR_clear_error();
    return err;
}

static dbe_err passphrase_seal(const struct crypto_key *key, const struct seal_how *how, struct base_buf *out,
                               struct dbe_diag *diag)
{
    uint8_t *der = NULL;
    char *pass = NULL;
    size_t len = 0, pass_len = 0;

    (void)how;
    DBE_TRY(seal_get_passphrase("the key", &pass, &pass_len, diag));
    dbe_err err = seal_to_der(key, &der, &len);
    if (err == DBE_OK)
        err = encrypt(der, len, pass, pass_len, out);
    base_secret_free(der, SEAL_TEXT_MAX_BYTES);
    base_secret_free(pass, DBE_PASSPHRASE_MAX_BYTES);
    return err == DBE_OK ? DBE_OK : dbe_fail(diag, err, clause, 0, "cannot seal the key under the passphrase");
}

/* The plain PKCS#8, or NULL: another passphrase. */
static PKCS8_PRIV_KEY_INFO *decrypt(X509_SIG *sealed, const char *pass, size_t pass_len)
{
    return PKCS8_decrypt_ex(sealed, pass, (int)pass_len, NULL, NULL);
}

static dbe_err open_info(PKCS8_PRIV_KEY_INFO *info, struct crypto_key **ret)
{
    uint8_t *der = base_secret_alloc(SEAL_TEXT_MAX_BYTES);
    unsigned char *at = der;
    dbe_err err = DBE_E_NOMEM;

    if (der != NULL) {
        int n = i2d_PKCS8_PRIV_KEY_INFO(info, NULL);
        err = DBE_E_MALFORMED;
        if (n > 0 && n <= SEAL_TEXT_MAX_BYTES && i2d_PKCS8_PRIV_KEY_INFO(info, &at) == n)
            err = seal_from_der(der, (size_t)n, ret);
    }
    base_secret_free(der, SEAL_TEXT_MAX_BYTES);
    return err;
}

static dbe_err passphrase_open(const uint8_t *text, size_t len, const char *file, struct crypto_key **ret,
                               struct dbe_diag *diag)
{
    char *pass = NULL;
    size_t pass_len = 0;

    DBE_TRY(seal_get_passphrase(file, &pass, &pass_len, diag));
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    X509_SIG *sealed = bio != NULL ? PEM_read_bio_PKCS8(bio, NULL, NULL, NULL) : NULL;
    PKCS8_PRIV_KEY_INFO *info = sealed != NULL ? decrypt(sealed, pass, pass_len) : NULL;
    dbe_err err = sealed == NULL ? DBE_E_CONFIG : info == NULL ? DBE_E_SEALED : open_info(info, ret);
    base_secret_free(pass, DBE_PASSPHRASE_MAX_BYTES);
    PKCS8_PRIV_KEY_INFO_free(info); /* wipes */
    X509_SIG_free(sealed);
    BIO_free(bio);
    ERR_clear_error();
    if (err == DBE_OK || err == DBE_E_NOMEM)
        return err == DBE_OK ? DBE_OK : dbe_fail(diag, err, clause, 0, "no memory to open %.120s", file);
    if (err == DBE_E_CONFIG)
        return dbe_fail(diag, err, clause, 0, "%.120s is damaged: put back a copy, or move it away and issue again",
                        file);
    return dbe_fail(diag, DBE_E_SEALED, clause, 0, "the passphrase does not open %.120s", file);
}

const struct key_seal_ops seal_passphrase = {DBE_SEAL_PASSPHRASE, "passphrase",
                                             "-----BEGIN ENCRYPTED PRIVATE KEY-----\n", passphrase_seal,
                                             passphrase_open};
