/* SPDX-License-Identifier: Apache-2.0
 *
 * seal.c - which way keys are sealed, where the passphrase comes from, and the row without a seal.
 *
 * In:   dbe_keys_set_seal, DSMIL_PASSPHRASE_FILE, DSMIL_TPM    Out: a row of struct key_seal_ops, a passphrase
 * Does: keeps secrets in memory that is locked, left out of dumps and wiped. A file says itself how it is sealed, so
 *       that keys of all rows may lie in one store.
 * Does not: ask on a terminal, nor take a secret from an argument or an environment variable.
 */
#include "seal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>

static const char clause[] = "sealed key";

enum { TCTI_MAX_BYTES = 512 };

static const struct key_seal_ops *const rows[] = {&seal_plain, &seal_passphrase, &seal_tpm};

/* Set before threads start, read afterwards. */
static struct {
    struct dbe_seal how;
    char passphrase_file[PATH_MAX], tpm[TCTI_MAX_BYTES];
} set;

dbe_err dbe_keys_set_seal(const struct dbe_seal *how, struct dbe_diag *diag)
{
    if (how == NULL) {
        memset(&set, 0, sizeof set);
        return DBE_OK;
    }
    if ((unsigned)how->kind > DBE_SEAL_TPM || (how->pcrs & ~(uint32_t)SEAL_TPM_PCRS_ALL) != 0)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "there is no such way of sealing, or no such register");
    if ((how->passphrase_file != NULL && strlen(how->passphrase_file) >= sizeof set.passphrase_file) ||
        (how->tpm != NULL && strlen(how->tpm) >= sizeof set.tpm))
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "the path of the passphrase or of the TPM is too long");
    memset(&set, 0, sizeof set);
    set.how = *how;
    if (how->passphrase_file != NULL) {
        (void)snprintf(set.passphrase_file, sizeof set.passphrase_file, "%s", how->passphrase_file);
        set.how.passphrase_file = set.passphrase_file;
    }
    if (how->tpm != NULL) {
        (void)snprintf(set.tpm, sizeof set.tpm, "%s", how->tpm);
        set.how.tpm = set.tpm;
    }
    return DBE_OK;
}

/* NULL where it is unset or empty. */
static const char *env(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

const char *seal_tcti(void)
{
    return set.how.tpm != NULL ? set.how.tpm : env("DSMIL_TPM");
}

const struct key_seal_ops *seal_row_of(const uint8_t *text, size_t len)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++)
        if (len >= strlen(rows[i]->begins) && memcmp(text, rows[i]->begins, strlen(rows[i]->begins)) == 0)
            return rows[i];
    return NULL;
}

struct seal_how seal_choose(const uint8_t *like, size_t len)
{
    struct seal_how how = {set.how.kind, set.how.pcrs};
    const struct key_seal_ops *row = like != NULL ? seal_row_of(like, len) : NULL;
    struct seal_tpm_file file;
    struct base_buf bytes;

    if (how.kind != DBE_SEAL_AUTO)
        return how;
    if (row == NULL) {
        how.kind = env("DSMIL_TPM") != NULL               ? DBE_SEAL_TPM
                   : env("DSMIL_PASSPHRASE_FILE") != NULL ? DBE_SEAL_PASSPHRASE
                                                          : DBE_SEAL_PLAIN;
        return how;
    }
    how.kind = row->kind;
    if (row->kind != DBE_SEAL_TPM)
        return how;
    base_buf_init(&bytes, SEAL_TEXT_MAX_BYTES);
    if (seal_tpm_read(like, len, &bytes, &file) == DBE_OK)
        how.pcrs = file.pcrs;
    base_buf_free(&bytes);
    return how;
}

dbe_err seal_key(const struct crypto_key *key, const struct seal_how *how, struct base_buf *out,
                 struct dbe_diag *diag)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++)
        if (rows[i]->kind == how->kind)
            return rows[i]->seal(key, how, out, diag);
    return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "there is no such way of sealing");
}

dbe_err seal_open(const uint8_t *text, size_t len, const char *file, struct crypto_key **ret, struct dbe_diag *diag)
{
    const struct key_seal_ops *row = seal_row_of(text, len);

    if (row == NULL)
        return dbe_fail(diag, DBE_E_CONFIG, clause, 0,
                        "%.100s is damaged or holds no ML-DSA-87 key: move it away and issue again", file);
    return row->open(text, len, file, ret, diag);
}

/* ---- passphrases ------------------------------------------------------------------------------------------------- */

static dbe_err passphrase_from_file(const char *path, char *mem, size_t *ret_len, struct dbe_diag *diag)
{
    struct base_buf b;
    struct dbe_diag why = {0};

    base_buf_init_fixed(&b, mem, DBE_PASSPHRASE_MAX_BYTES);
    dbe_err err = base_file_read_private(path, DBE_PASSPHRASE_MAX_BYTES, &b, &why);
    if (err == DBE_E_PERMISSION)
        return dbe_fail(diag, err, clause, 0, "%.70s is not yours or is readable by others: run chmod 600 %.70s", path,
                        path);
    if (err == DBE_E_TOO_LARGE)
        return dbe_fail(diag, err, clause, 0, "%.120s: a passphrase has at most %d bytes", path,
                        DBE_PASSPHRASE_MAX_BYTES);
    if (err != DBE_OK)
        return dbe_fail(diag, err, clause, 0, "the passphrase's file cannot be read: %.130s", why.text);
    if (b.len > 0 && mem[b.len - 1] == '\n')
        b.len--;
    *ret_len = b.len;
    return DBE_OK;
}

dbe_err seal_get_passphrase(const char *file, char **ret, size_t *ret_len, struct dbe_diag *diag)
{
    const char *path = set.how.passphrase_file;
    size_t len = 0;
    dbe_err err;

    if (path == NULL && set.how.passphrase == NULL)
        path = env("DSMIL_PASSPHRASE_FILE");
    if (path == NULL && set.how.passphrase == NULL)
        return dbe_fail(diag, DBE_E_SEALED, clause, 0,
                        "%.80s needs a passphrase: let DSMIL_PASSPHRASE_FILE name a file that holds it", file);
    char *mem = base_secret_alloc(DBE_PASSPHRASE_MAX_BYTES);
    if (mem == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory for a passphrase");
    if (path != NULL)
        err = passphrase_from_file(path, mem, &len, diag);
    else
        err = set.how.passphrase(set.how.ctx, file, mem, DBE_PASSPHRASE_MAX_BYTES, &len);
    if (err == DBE_OK && (len == 0 || len > DBE_PASSPHRASE_MAX_BYTES))
        err = dbe_fail(diag, DBE_E_SEALED, clause, 0, "the passphrase for %.100s is empty", file);
    else if (err != DBE_OK && path == NULL)
        err = dbe_fail(diag, err, clause, 0, "nobody gave the passphrase for %.100s", file);
    if (err != DBE_OK) {
        base_secret_free(mem, DBE_PASSPHRASE_MAX_BYTES);
        return err;
    }
    *ret = mem;
    *ret_len = len;
    return DBE_OK;
}

/* ---- PKCS#8 ------------------------------------------------------------------------------------------------------ */

dbe_err seal_to_der(const struct crypto_key *key, uint8_t **ret, size_t *ret_len)
{
    uint8_t *text = base_secret_alloc(SEAL_TEXT_MAX_BYTES), *der = base_secret_alloc(SEAL_TEXT_MAX_BYTES);
    unsigned char *data = NULL;
    long len = 0;
    struct base_buf pem;
    BIO *bio = NULL;
    dbe_err err = DBE_E_NOMEM;

    if (text == NULL || der == NULL)
        goto out;
    base_buf_init_fixed(&pem, text, SEAL_TEXT_MAX_BYTES);
    err = crypto_key_to_pem(key, &pem);
    if (err != DBE_OK)
        goto out;
    err = DBE_E_CRYPTO;
    bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    if (bio == NULL || PEM_bytes_read_bio_secmem(&data, &len, NULL, PEM_STRING_PKCS8INF, bio, NULL, NULL) != 1 ||
        len > SEAL_TEXT_MAX_BYTES)
        goto out;
    memcpy(der, data, (size_t)len);
    *ret = BASE_TAKE(der);
    *ret_len = (size_t)len;
    err = DBE_OK;
out:
    OPENSSL_secure_clear_free(data, (size_t)len);
    BIO_free(bio);
    ERR_clear_error();
    base_secret_free(text, SEAL_TEXT_MAX_BYTES);
    base_secret_free(der, SEAL_TEXT_MAX_BYTES);
    return err;
}

dbe_err seal_from_der(const uint8_t *der, size_t len, struct crypto_key **ret)
{
    BIO *bio = BIO_new(BIO_s_secmem()); /* wiped when freed */
    char *text = NULL;
    long n = 0;
    dbe_err err = DBE_E_NOMEM;

    if (bio != NULL && PEM_write_bio(bio, PEM_STRING_PKCS8INF, "", der, (long)len) > 0 &&
        (n = BIO_get_mem_data(bio, &text)) > 0)
        err = crypto_key_from_pem(text, (size_t)n, ret);
    BIO_free(bio);
    ERR_clear_error();
    return err;
}

/* ---- the row without a seal -------------------------------------------------------------------------------------- */

static dbe_err plain_seal(const struct crypto_key *key, const struct seal_how *how, struct base_buf *out,
                          struct dbe_diag *diag)
{
    (void)how;
    dbe_err err = crypto_key_to_pem(key, out);

    return err == DBE_OK ? DBE_OK : dbe_fail(diag, err, clause, 0, "cannot encode the key");
}

static dbe_err plain_open(const uint8_t *text, size_t len, const char *file, struct crypto_key **ret,
                          struct dbe_diag *diag)
{
    dbe_err err = crypto_key_from_pem(text, len, ret);

    return err == DBE_OK ? DBE_OK
                         : dbe_fail(diag, err == DBE_E_NOMEM ? err : DBE_E_CONFIG, clause, 0,
                                    "%.100s is damaged or holds no ML-DSA-87 key: move it away and issue again", file);
}

const struct key_seal_ops seal_plain = {DBE_SEAL_PLAIN, "plain", "-----BEGIN PRIVATE KEY-----\n", plain_seal,
                                        plain_open};
