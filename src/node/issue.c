/* SPDX-License-Identifier: Apache-2.0
 *
 * issue.c - makes the mesh CA and the credentials of nodes.
 *
 * In:   what an operator asks for    Out: files of the key store, or a credential in memory
 * Does: holds a lock on the directory, so that two runs together make one CA; writes the key before the certificate,
 *       and takes up a key whose certificate a killed run did not reach, so that no key is ever written over.
 * Does not: revoke or renew (revoke.c, renew.c).
 */
#include "dbe/identity.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "issue.h"
#include "profile.h"
#include "seal.h"

static const char clause[] = "key store";

/* "<anything>.key.a1B2c3": what base_file_write leaves of a file of ours when it is killed. */
static bool is_debris(const char *file)
{
    static const char *const suffixes[] = {".key", ".crt", ".crl", ".ak", ".key.next", ".crt.next"};
    enum { TEMP_CHARS = 6 };
    size_t len = strlen(file);
    const char *dot = strrchr(file, '.');

    if (dot == NULL || (size_t)(file + len - dot) != 1 + TEMP_CHARS)
        return false;
    for (size_t i = 0; i < BASE_ARRAY_LEN(suffixes); i++) {
        size_t n = strlen(suffixes[i]);
        if ((size_t)(dot - file) > n && memcmp(dot - n, suffixes[i], n) == 0)
            return true;
    }
    return false;
}

/* With the lock held nobody writes here: what half-written files are left, keys among them, go. */
static void sweep(const char *dir)
{
    DIR *d = opendir(dir);

    if (d == NULL)
        return;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        if (is_debris(e->d_name))
            (void)unlinkat(dirfd(d), e->d_name, 0);
    (void)closedir(d);
}

dbe_err keys_lock(const char *dir, int *ret_fd, struct dbe_diag *diag)
{
    int rc;

    DBE_TRY(keys_check_dir(dir, diag));
    BASE_AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return dbe_fail(diag, DBE_E_IO, clause, 0, "cannot open %.140s", dir);
    do
        rc = flock(fd, LOCK_EX);
    while (rc != 0 && errno == EINTR);
    if (rc != 0)
        return dbe_fail(diag, DBE_E_IO, clause, 0, "cannot lock %.140s", dir);
    sweep(dir);
    *ret_fd = fd;
    fd = -1;
    return DBE_OK;
}

bool keys_file_there(const char *dir, const char *name, const char *suffix)
{
    char path[PATH_MAX];

    return dbe_keys_path(dir, name, suffix, path, sizeof path) == DBE_OK && access(path, F_OK) == 0;
}

/* How the key that is replaced is sealed counts for the new one. */
static struct seal_how seal_of_old(const char *dir, const char *name)
{
    struct seal_how how;
    struct base_buf old;

    base_buf_init(&old, KEYS_FILE_MAX_BYTES);
    if (keys_read_key_text(dir, name, "key", &old, NULL) == DBE_OK)
        how = seal_choose(old.data, old.len);
    else
        how = seal_choose(NULL, 0);
    base_buf_free(&old); /* wipes */
    return how;
}

static dbe_err write_key(const char *dir, const char *name, const char *suffix, const struct crypto_key *key,
                         const struct seal_how *how, struct dbe_diag *diag)
{
    char path[PATH_MAX];
    struct base_buf text;

    DBE_TRY(dbe_keys_path(dir, name, suffix, path, sizeof path));
    void *mem = base_secret_alloc(KEYS_FILE_MAX_BYTES);
    if (mem == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory to write %.120s", path);
    base_buf_init_fixed(&text, mem, KEYS_FILE_MAX_BYTES);
    dbe_err err = seal_key(key, how, &text, diag);
    if (err == DBE_OK)
        err = base_file_write(path, text.data, text.len, 0600, diag);
    base_secret_free(mem, KEYS_FILE_MAX_BYTES);
    return err;
}

dbe_err keys_write_key(const char *dir, const char *name, const char *suffix, const struct crypto_key *key,
                       struct dbe_diag *diag)
{
    const struct seal_how how = seal_of_old(dir, name);

    return write_key(dir, name, suffix, key, &how, diag);
}

dbe_err dbe_keys_seal(const char *dir, const char *name, struct dbe_diag *diag)
{
    const struct seal_how how = seal_choose(NULL, 0);
    struct crypto_key *key = NULL;
    BASE_AUTO_CLOSE int lock = -1;

    DBE_TRY(crypto_init(diag));
    DBE_TRY(keys_lock(dir, &lock, diag));
    DBE_TRY(keys_read_key(dir, name, "key", &key, diag));
    dbe_err err = write_key(dir, name, "key", key, &how, diag);
    crypto_key_free(key);
    return err;
}

dbe_err dbe_keys_seal_kind(const char *dir, const char *name, enum dbe_seal_kind *ret, struct dbe_diag *diag)
{
    struct base_buf text;

    DBE_TRY(keys_check_dir(dir, diag));
    base_buf_init(&text, KEYS_FILE_MAX_BYTES);
    dbe_err err = keys_read_key_text(dir, name, "key", &text, diag);
    const struct key_seal_ops *row = err == DBE_OK ? seal_row_of(text.data, text.len) : NULL;
    base_buf_free(&text); /* wipes */
    if (err == DBE_OK && row == NULL)
        return dbe_fail(diag, DBE_E_CONFIG, clause, 0, "%.60s.key is damaged or holds no key", name);
    if (err == DBE_OK)
        *ret = row->kind;
    return err;
}

dbe_err keys_write_cert(const char *dir, const char *name, const char *suffix, const struct base_buf *der,
                        struct dbe_diag *diag)
{
    char path[PATH_MAX];
    char *text = NULL;
    long len = 0;

    DBE_TRY(dbe_keys_path(dir, name, suffix, path, sizeof path));
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = bio != NULL && PEM_write_bio(bio, PEM_STRING_X509, "", der->data, (long)der->len) > 0 &&
              (len = BIO_get_mem_data(bio, &text)) > 0;
    dbe_err err = ok ? base_file_write(path, text, (size_t)len, 0644, diag)
                     : dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory to write %.120s", path);
    BIO_free(bio);
    ERR_clear_error();
    return err;
}

/* The key of `name`: the one on disk if there is one (left by an interrupted run, or kept for a new certificate), else
 * a new one, written before anybody relies on it. */
static dbe_err key_of(const char *dir, const char *name, struct crypto_key **ret, struct dbe_diag *diag)
{
    struct crypto_key *key = NULL;

    if (keys_file_there(dir, name, "key"))
        return keys_read_key(dir, name, "key", ret, diag);
    dbe_err err = crypto_key_generate(&key);
    if (err != DBE_OK)
        return dbe_fail(diag, err, clause, 0, "cannot make a key for %.100s", name);
    err = keys_write_key(dir, name, "key", key, diag);
    if (err != DBE_OK) {
        crypto_key_free(key);
        return err;
    }
    *ret = key;
    return DBE_OK;
}

dbe_err keys_check_days(uint32_t days, struct dbe_diag *diag)
{
    return days <= KEYS_DAYS_MAX
               ? DBE_OK
               : dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "at most %d days of validity are possible", KEYS_DAYS_MAX);
}

/* ---- CA -------------------------------------------------------------------------------------------------------- */

static dbe_err make_ca(const char *dir, const char *mesh, uint32_t days, struct dbe_diag *diag)
{
    uint64_t now_ms = base_wall_ms();
    struct crypto_key *key = NULL;
    struct base_buf der;

    DBE_TRY(key_of(dir, "ca", &key, diag));
    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    dbe_err err = cert_make_ca(key, mesh, now_ms - KEYS_BACKDATE_MS, now_ms + days * KEYS_MS_PER_DAY, &der);
    if (err != DBE_OK)
        err = dbe_fail(diag, err, clause, 0, "cannot make the CA certificate");
    else
        err = keys_write_cert(dir, "ca", "crt", &der, diag);
    base_buf_free(&der);
    crypto_key_free(key);
    return err;
}

dbe_err dbe_keys_init(const char *dir, const char *mesh, uint32_t valid_days, struct dbe_diag *diag)
{
    BASE_AUTO_CLOSE int lock = -1;

    if (!profile_mesh_valid(mesh))
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0,
                        "\"%.60s\" is no mesh name: 1 to %d of a-z 0-9 . - _ are allowed", mesh,
                        DBE_MESH_NAME_MAX_BYTES - 1);
    DBE_TRY(keys_check_days(valid_days, diag));
    DBE_TRY(crypto_init(diag));
    DBE_TRY(base_mkdirs(dir, 0700, diag));
    DBE_TRY(keys_lock(dir, &lock, diag));
    if (keys_file_there(dir, "ca", "crt"))
        return dbe_fail(diag, DBE_E_EXISTS, clause, 0, "%.120s already holds a mesh CA, which is never overwritten",
                        dir);
    return make_ca(dir, mesh, valid_days == 0 ? 10 * 365 : valid_days, diag);
}

/* ---- nodes ----------------------------------------------------------------------------------------------------- */

void keys_signer_fini(struct keys_signer *s)
{
    dbe_trust_free(s->trust);
    crypto_key_free(s->key);
}

dbe_err keys_signer_load(const char *dir, struct keys_signer *s, struct dbe_diag *diag)
{
    uint8_t in_key[CRYPTO_MLDSA87_PK_BYTES], in_cert[CRYPTO_MLDSA87_PK_BYTES];
    size_t len = sizeof in_cert;

    DBE_TRY(dbe_trust_load(dir, &s->trust, diag));
    DBE_TRY(keys_read_key(dir, "ca", "key", &s->key, diag));
    DBE_TRY(crypto_key_public(s->key, in_key));
    if (EVP_PKEY_get_raw_public_key(X509_get0_pubkey(s->trust->ca), in_cert, &len) != 1 || len != sizeof in_cert ||
        memcmp(in_cert, in_key, sizeof in_key) != 0)
        return dbe_fail(diag, DBE_E_CONFIG, clause, 0, "ca.key is not the key of ca.crt");
    if (base_wall_ms() > s->trust->not_after_ms)
        return dbe_fail(diag, DBE_E_EXPIRED, clause, 0, "the mesh CA's certificate has expired: make a new mesh");
    return DBE_OK;
}

/* What the certificate will say. `valid_ms` is cut at the end of the CA's own validity. */
static dbe_err identity_of(const struct dbe_issue *what, const struct dbe_trust *trust, uint64_t valid_ms,
                           struct dbe_identity *ret, struct dbe_diag *diag)
{
    uint64_t now_ms = base_wall_ms();
    struct dbe_identity id = {
        .device = what->device,
        .role = what->role,
        .layer = what->layer != 0 ? what->layer : profile_layer_of(what->device, what->role),
        .classification_max = what->ceilings_set ? what->classification_max : (uint8_t)DBE_CLSF_SECRET,
        .compartments = what->ceilings_set ? what->compartments : (uint32_t)PROFILE_DEFAULT_COMPARTMENTS,
        .exercise = what->exercise,
        .not_before_ms = BASE_MAX(now_ms - KEYS_BACKDATE_MS, trust->not_before_ms),
        .not_after_ms = BASE_MIN(now_ms + valid_ms, trust->not_after_ms),
    };

    memcpy(id.mesh, trust->mesh, sizeof id.mesh);
    DBE_TRY(profile_write_spiffe(&id, diag));
    dbe_err err = profile_check(&id, diag);
    if (err != DBE_OK)
        return (id.compartments & DBE_COMPARTMENT_KINETIC) != 0 ? DBE_E_KINETIC : DBE_E_ARGUMENT;
    *ret = id;
    return DBE_OK;
}

static dbe_err default_name(const struct dbe_issue *what, char ret[KEYS_NAME_MAX_BYTES + 1], struct dbe_diag *diag)
{
    const struct dbe_role_row *role = dbe_reg_role(what->role);

    if (what->name != NULL && (strlen(what->name) > KEYS_NAME_MAX_BYTES || strcmp(what->name, "ca") == 0))
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "\"%.70s\" cannot be the name of a node", what->name);
    if (what->name == NULL && role == NULL)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "there is no role %u", what->role);
    if (what->name != NULL)
        (void)snprintf(ret, KEYS_NAME_MAX_BYTES + 1, "%s", what->name);
    else
        (void)snprintf(ret, KEYS_NAME_MAX_BYTES + 1, "%s-%u", role->path, what->device);
    return DBE_OK;
}

static bool same_node(const struct dbe_identity *a, const struct dbe_identity *b)
{
    return strcmp(a->spiffe_id, b->spiffe_id) == 0;
}

/* May `name` be (re)issued? Only when nothing valid would be replaced: no certificate, or one of the same node that is
 * in the last third of its life or past it. */
static dbe_err check_replace(const char *dir, const char *name, const struct keys_signer *s,
                             const struct dbe_identity *id, struct dbe_diag *diag)
{
    struct dbe_identity old = {0};
    struct base_buf der;
    struct dbe_diag why = {0};
    char when[24];

    if (!keys_file_there(dir, name, "crt") || !keys_file_there(dir, name, "key"))
        return DBE_OK;
    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    dbe_err err = keys_read_cert(dir, name, s->trust, &old, NULL, &der, &why);
    base_buf_free(&der);
    if (err != DBE_OK)
        return dbe_fail(diag, DBE_E_EXISTS, clause, 0, "%.50s.crt is there but cannot be used (%.80s): move it away",
                        name, why.text);
    if (crl_find(s->trust->revoked, old.serial, old.serial_len) != NULL)
        return dbe_fail(diag, DBE_E_EXISTS, clause, 0, "%.50s was revoked: run dsmil keys renew %.50s", name, name);
    if (same_node(&old, id) && keys_expires_soon(&old, base_wall_ms()))
        return DBE_OK;
    cert_time_text(old.not_after_ms, when);
    return dbe_fail(diag, DBE_E_EXISTS, clause, 0,
                    "%.50s is there already, valid until %s; to issue it again remove %.50s.crt", name, when, name);
}

/* With what->attest: make the attestation key and name it. */
static dbe_err attest(const char *dir, const char *name, const struct dbe_issue *what, struct dbe_identity *id,
                      struct dbe_diag *diag)
{
    struct node_ak ak;

    if (!what->attest)
        return DBE_OK;
    DBE_TRY(ak_of(dir, name, what->quote_pcrs, &ak, diag));
    DBE_TRY(evidence_sha256(ak.point, sizeof ak.point, id->ak_sha256));
    id->attested = true;
    return DBE_OK;
}

static dbe_err issue_files(const char *dir, const char *name, const struct keys_signer *s,
                           const struct dbe_issue *what, struct dbe_identity *id, struct dbe_diag *diag)
{
    struct crypto_key *key = NULL;
    struct base_buf der;

    DBE_TRY(keys_settle(dir, name, s->trust, diag));
    DBE_TRY(check_replace(dir, name, s, id, diag));
    DBE_TRY(attest(dir, name, what, id, diag));
    DBE_TRY(key_of(dir, name, &key, diag));
    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    dbe_err err = cert_make_node(s->trust, s->key, key, id, &der);
    if (err != DBE_OK)
        err = dbe_fail(diag, err, clause, 0, "cannot make the certificate of %.100s", name);
    else
        err = keys_write_cert(dir, name, "crt", &der, diag);
    base_buf_free(&der);
    crypto_key_free(key);
    return err;
}

dbe_err dbe_keys_issue(const char *dir, const struct dbe_issue *what, struct dbe_diag *diag)
{
    char name[KEYS_NAME_MAX_BYTES + 1], path[PATH_MAX];
    struct keys_signer s = {0};
    struct dbe_identity id;
    BASE_AUTO_CLOSE int lock = -1;

    DBE_TRY(default_name(what, name, diag));
    if (dbe_keys_path(dir, name, "crt", path, sizeof path) != DBE_OK)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "\"%.70s\" is no name, or the path is too long", name);
    DBE_TRY(keys_check_days(what->valid_days, diag));
    DBE_TRY(crypto_init(diag));
    DBE_TRY(keys_lock(dir, &lock, diag));
    uint64_t days = what->valid_days == 0 ? KEYS_DAYS_DEFAULT : what->valid_days;
    dbe_err err = keys_signer_load(dir, &s, diag);
    if (err == DBE_OK)
        err = identity_of(what, s.trust, days * KEYS_MS_PER_DAY, &id, diag);
    if (err == DBE_OK)
        err = issue_files(dir, name, &s, what, &id, diag);
    keys_signer_fini(&s);
    return err;
}

static dbe_err issue_memory(const struct keys_signer *s, const struct dbe_identity *id, struct dbe_credential *cred,
                            struct dbe_diag *diag)
{
    struct base_buf der;

    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    dbe_err err = crypto_key_generate(&cred->key);
    if (err == DBE_OK)
        err = cert_make_node(s->trust, s->key, cred->key, id, &der);
    if (err == DBE_OK)
        err = dbe_trust_verify(s->trust, der.data, der.len, base_wall_ms(), &cred->id, NULL, diag);
    else
        (void)dbe_fail(diag, err, clause, 0, "cannot make the short-lived credential of %.100s", id->spiffe_id);
    if (err != DBE_OK) {
        base_buf_free(&der);
        return err;
    }
    cred->der = der.data; /* the buffer's memory is the credential's now */
    cred->der_len = der.len;
    return DBE_OK;
}

dbe_err dbe_keys_issue_ephemeral(const char *dir, const struct dbe_issue *what, uint64_t valid_ms,
                                 struct dbe_credential **ret, struct dbe_diag *diag)
{
    struct keys_signer s = {0};
    struct dbe_identity id;

    if (valid_ms == 0 || valid_ms > KEYS_DAYS_MAX * KEYS_MS_PER_DAY)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "a validity of %llu ms is not possible",
                        (unsigned long long)valid_ms);
    DBE_TRY(crypto_init(diag));
    struct dbe_credential *cred = base_alloc(1, sizeof *cred);
    if (cred == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory for a credential");
    dbe_err err = keys_signer_load(dir, &s, diag);
    if (err == DBE_OK)
        err = identity_of(what, s.trust, valid_ms, &id, diag);
    if (err == DBE_OK)
        err = issue_memory(&s, &id, cred, diag);
    keys_signer_fini(&s);
    if (err != DBE_OK) {
        dbe_credential_free(cred);
        return err;
    }
    *ret = cred;
    return DBE_OK;
}
