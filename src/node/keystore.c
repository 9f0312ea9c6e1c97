/* SPDX-License-Identifier: Apache-2.0
 *
 * keystore.c - files of the key store: names, modes, PEM, reading, listing.
 *
 * In:   <dir>/<name>.key (0600, sealed as seal.h says), <dir>/<name>.crt (PEM), ca.key, ca.crt
 * Out:  keys, certificates
 * Does: refuses a directory or key that others could read, and says which command mends it.
 * Does not: make or sign anything (issue.c).
 */
#include "keystore.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "cert.h"
#include "seal.h"

static const char clause[] = "key store";

dbe_err dbe_keys_path(const char *dir, const char *name, const char *suffix, char *ret, size_t cap)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t len = strlen(name);

    if (len == 0 || len > KEYS_NAME_MAX_BYTES || name[0] == '.' || strspn(name, allowed) != len)
        return DBE_E_ARGUMENT;
    int n = snprintf(NULL, 0, "%s/%s.%s", dir, name, suffix);
    if (n < 0 || (size_t)n >= cap)
        return DBE_E_TOO_LARGE;
    (void)snprintf(ret, cap, "%s/%s.%s", dir, name, suffix);
    return DBE_OK;
}

static dbe_err path_of(const char *dir, const char *name, const char *suffix, char ret[PATH_MAX], struct dbe_diag *diag)
{
    dbe_err err = dbe_keys_path(dir, name, suffix, ret, PATH_MAX);

    if (err == DBE_E_ARGUMENT)
        return dbe_fail(diag, err, clause, 0, "\"%.70s\" is no name: 1 to %d letters, digits, . _ - are allowed", name,
                        KEYS_NAME_MAX_BYTES);
    return err == DBE_OK ? DBE_OK : dbe_fail(diag, err, clause, 0, "the path of the key store is too long");
}

dbe_err keys_check_dir(const char *dir, struct dbe_diag *diag)
{
    struct stat st;

    if (stat(dir, &st) != 0 && errno == ENOENT)
        return dbe_fail(diag, DBE_E_NOT_FOUND, clause, 0, "there is no key store in %.100s: run dsmil keys init", dir);
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
        return dbe_fail(diag, DBE_E_IO, clause, 0, "%.120s is no directory that can be read", dir);
    if (st.st_uid != geteuid())
        return dbe_fail(diag, DBE_E_PERMISSION, clause, 0, "%.100s belongs to user %u: a key store must be your own",
                        dir, st.st_uid);
    if ((st.st_mode & 077) != 0)
        return dbe_fail(diag, DBE_E_PERMISSION, clause, 0, "%.70s is open to others: run chmod 700 %.70s", dir, dir);
    return DBE_OK;
}

dbe_err keys_read_key_text(const char *dir, const char *name, const char *suffix, struct base_buf *out,
                           struct dbe_diag *diag)
{
    char path[PATH_MAX];

    DBE_TRY(path_of(dir, name, suffix, path, diag));
    dbe_err err = base_file_read_private(path, KEYS_FILE_MAX_BYTES, out, diag);
    if (err == DBE_E_PERMISSION)
        return dbe_fail(diag, err, clause, 0, "%.70s is not yours or is readable by others: run chmod 600 %.70s", path,
                        path);
    if (err == DBE_E_NOT_FOUND)
        return dbe_fail(diag, err, clause, 0, "%.120s is missing: run dsmil keys issue", path);
    return err;
}

dbe_err keys_read_key(const char *dir, const char *name, const char *suffix, struct crypto_key **ret,
                      struct dbe_diag *diag)
{
    char path[PATH_MAX];
    struct base_buf text;

    DBE_TRY(path_of(dir, name, suffix, path, diag));
    void *mem = base_secret_alloc(KEYS_FILE_MAX_BYTES);
    if (mem == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory to read %.120s", path);
    base_buf_init_fixed(&text, mem, KEYS_FILE_MAX_BYTES);
    dbe_err err = keys_read_key_text(dir, name, suffix, &text, diag);
    if (err == DBE_OK)
        err = seal_open(text.data, text.len, path, ret, diag);
    base_secret_free(mem, KEYS_FILE_MAX_BYTES);
    return err;
}

/* One CERTIFICATE block of a PEM file as DER; what stands around it is for people. */
static dbe_err pem_to_der(const struct base_buf *pem, struct base_buf *der)
{
    BIO *bio = BIO_new_mem_buf(pem->data, (int)pem->len);
    unsigned char *data = NULL;
    long len = 0;
    dbe_err err = DBE_E_CERT;

    if (bio != NULL && PEM_bytes_read_bio(&data, &len, NULL, PEM_STRING_X509, bio, NULL, NULL) == 1) {
        base_buf_bytes(der, data, (size_t)len);
        err = der->err;
    }
    OPENSSL_free(data);
    BIO_free(bio);
    ERR_clear_error();
    return err;
}

dbe_err keys_read_cert_file(const char *path, struct base_buf *ret_der, struct dbe_diag *diag)
{
    enum { DER_SEQUENCE = 0x30 };
    struct base_buf file;

    base_buf_init(&file, KEYS_FILE_MAX_BYTES);
    dbe_err err = base_file_read(path, KEYS_FILE_MAX_BYTES, &file, diag);
    if (err == DBE_OK && file.len > 0 && file.data[0] == DER_SEQUENCE) {
        base_buf_bytes(ret_der, file.data, file.len);
        err = ret_der->err;
    } else if (err == DBE_OK) {
        err = pem_to_der(&file, ret_der);
    } else {
        base_buf_free(&file);
        return err;
    }
    base_buf_free(&file);
    return err == DBE_OK ? DBE_OK : dbe_fail(diag, err, clause, 0, "%.120s holds no certificate", path);
}

dbe_err keys_read_cert_der(const char *dir, const char *name, const char *suffix, struct base_buf *der,
                           struct dbe_diag *diag)
{
    char path[PATH_MAX];
    struct base_buf pem;

    DBE_TRY(path_of(dir, name, suffix, path, diag));
    base_buf_init(&pem, KEYS_FILE_MAX_BYTES);
    dbe_err err = base_file_read(path, KEYS_FILE_MAX_BYTES, &pem, diag);
    if (err == DBE_E_NOT_FOUND)
        err = dbe_fail(diag, err, clause, 0, "%.120s is missing: run dsmil keys %s", path,
                       strcmp(name, "ca") == 0 ? "init" : "issue");
    if (err == DBE_OK) {
        err = pem_to_der(&pem, der);
        if (err != DBE_OK)
            err = dbe_fail(diag, err, clause, 0, "%.120s is damaged or holds no certificate in PEM", path);
    }
    base_buf_free(&pem);
    return err;
}

dbe_err keys_read_cert_at(const char *dir, const char *name, const char *suffix, const struct dbe_trust *trust,
                          struct dbe_identity *ret, uint8_t *ret_pk, struct base_buf *ret_der, struct dbe_diag *diag)
{
    X509 *x = NULL;

    DBE_TRY(keys_read_cert_der(dir, name, suffix, ret_der, diag));
    DBE_TRY(cert_parse(ret_der->data, ret_der->len, &x, diag));
    dbe_err err = cert_read_node(trust, x, ret, ret_pk, diag);
    X509_free(x);
    return err;
}

dbe_err keys_read_cert(const char *dir, const char *name, const struct dbe_trust *trust, struct dbe_identity *ret,
                       uint8_t *ret_pk, struct base_buf *ret_der, struct dbe_diag *diag)
{
    return keys_read_cert_at(dir, name, "crt", trust, ret, ret_pk, ret_der, diag);
}

dbe_err keys_load_ca(const char *dir, struct dbe_trust **ret, struct dbe_diag *diag)
{
    struct base_buf der;
    X509 *x = NULL;
    struct dbe_trust *trust = NULL;

    DBE_TRY(crypto_init(diag));
    DBE_TRY(keys_check_dir(dir, diag));
    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    dbe_err err = keys_read_cert_der(dir, "ca", "crt", &der, diag);
    if (err == DBE_OK)
        err = cert_parse(der.data, der.len, &x, diag);
    if (err == DBE_OK && (trust = base_alloc(1, sizeof *trust)) == NULL)
        err = dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory for the CA certificate");
    if (err == DBE_OK)
        err = cert_read_ca(x, trust, diag);
    base_buf_free(&der);
    if (err != DBE_OK) {
        base_free(trust);
        X509_free(x);
        return err;
    }
    *ret = trust;
    return DBE_OK;
}

/* <dir>/pcrs.policy, if it is there. */
static dbe_err load_pcr_policy(const char *dir, struct dbe_trust *trust, struct dbe_diag *diag)
{
    char path[PATH_MAX];
    struct base_buf text;

    DBE_TRY(path_of(dir, "pcrs", "policy", path, diag));
    base_buf_init(&text, PCR_POLICY_MAX_BYTES);
    dbe_err err = base_file_read(path, PCR_POLICY_MAX_BYTES, &text, diag);
    if (err == DBE_OK)
        err = dbe_trust_set_pcr_policy(trust, base_buf_cstr(&text), text.len, diag);
    base_buf_free(&text);
    return err == DBE_E_NOT_FOUND ? DBE_OK : err;
}

dbe_err dbe_trust_load(const char *dir, struct dbe_trust **ret, struct dbe_diag *diag)
{
    struct dbe_trust *trust = NULL;
    struct dbe_diag why = {0};

    DBE_TRY(keys_load_ca(dir, &trust, diag));
    dbe_err err = dbe_trust_load_revocations(trust, dir, &why);
    if (err == DBE_OK || err == DBE_E_NOT_FOUND)
        err = load_pcr_policy(dir, trust, &why);
    if (err == DBE_OK) {
        *ret = trust;
        return DBE_OK;
    }
    dbe_trust_free(trust);
    return dbe_fail(diag, err, why.clause, why.offset, "%s", why.text);
}

/* ---- listing --------------------------------------------------------------------------------------------------- */

bool keys_expires_soon(const struct dbe_identity *id, uint64_t now_ms)
{
    return now_ms > id->not_after_ms || id->not_after_ms - now_ms < (id->not_after_ms - id->not_before_ms) / 3;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

dbe_err keys_collect(const char *dir, char **names, size_t *ret_count, struct dbe_diag *diag)
{
    static const char suffix[] = ".crt";
    dbe_err err = DBE_OK;
    size_t count = 0;
    DIR *d = opendir(dir);

    if (d == NULL)
        return dbe_fail(diag, DBE_E_IO, clause, 0, "cannot read %.140s", dir);
    for (struct dirent *e = readdir(d); e != NULL && err == DBE_OK; e = readdir(d)) {
        size_t len = strlen(e->d_name), stem = len - BASE_MIN(len, sizeof suffix - 1);
        if (stem == 0 || stem > KEYS_NAME_MAX_BYTES || e->d_name[0] == '.' || strcmp(e->d_name + stem, suffix) != 0 ||
            (stem == 2 && memcmp(e->d_name, "ca", 2) == 0))
            continue;
        if (count == KEYS_LIST_MAX)
            err = dbe_fail(diag, DBE_E_LIMIT, clause, 0, "there are more than %d certificates", KEYS_LIST_MAX);
        else if ((names[count] = base_strdup(e->d_name)) == NULL)
            err = dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory to list the certificates");
        else
            names[count++][stem] = '\0';
    }
    (void)closedir(d);
    qsort(names, count, sizeof *names, by_name);
    *ret_count = count;
    return err;
}

/* A machine without the CA's key has nodes' certificates from a bundle: their keys lie elsewhere. */
static bool key_there(const char *dir, const char *name)
{
    char path[PATH_MAX];

    if (dbe_keys_path(dir, name, "key", path, sizeof path) == DBE_OK && access(path, F_OK) == 0)
        return true;
    return dbe_keys_path(dir, "ca", "key", path, sizeof path) == DBE_OK && access(path, F_OK) != 0;
}

static void list_one(const char *dir, const char *name, const struct dbe_trust *trust, dbe_keys_list_fn *fn, void *ctx)
{
    struct dbe_diag diag = {0};
    struct dbe_identity id = {0};
    struct base_buf der;
    uint64_t now_ms = base_wall_ms();
    char when[24];

    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    dbe_err err = keys_read_cert(dir, name, trust, &id, NULL, &der, &diag);
    bool readable = err == DBE_OK;
    base_buf_free(&der);
    if (err == DBE_OK)
        err = cert_check_standing(trust, &id, now_ms, &diag);
    if (err == DBE_OK && !key_there(dir, name))
        err = dbe_fail(&diag, DBE_E_NOT_FOUND, clause, 0, "%s.key is missing", name);
    if (err == DBE_OK && keys_expires_soon(&id, now_ms)) {
        cert_time_text(id.not_after_ms, when);
        (void)dbe_fail(&diag, DBE_OK, clause, 0, "expires soon (%s): issue it again", when);
    }
    fn(ctx, name, readable ? &id : NULL, err, diag.text[0] != '\0' ? diag.text : NULL);
}

dbe_err dbe_keys_list(const char *dir, dbe_keys_list_fn *fn, void *ctx, struct dbe_diag *diag)
{
    struct dbe_trust *trust = NULL;
    size_t count = 0;

    DBE_TRY(dbe_trust_load(dir, &trust, diag));
    char **names = base_alloc(KEYS_LIST_MAX, sizeof *names);
    dbe_err err = names == NULL ? dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory to list the certificates")
                                : keys_collect(dir, names, &count, diag);
    for (size_t i = 0; i < count; i++) {
        if (err == DBE_OK)
            list_one(dir, names[i], trust, fn, ctx);
        base_free(names[i]);
    }
    base_free(names);
    dbe_trust_free(trust);
    return err;
}
