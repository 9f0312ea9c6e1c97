/* SPDX-License-Identifier: Apache-2.0
 *
 * renew.c - a new key and certificate for an identity that has one, and the question whether one is good.
 *
 * In:   the key store    Out: <name>.key and <name>.crt, changed together
 *
 * Two files cannot be replaced in one step, so the new pair is written beside the old one first, and what a killed run
 * leaves says by itself how far it came:
 *
 *   key.next   crt.next   state                        a reader takes       the next writer
 *   there      -          began                        old pair             clears
 *   there      there      new pair complete            old pair, or the     clears, or completes if the old
 *                                                      new if it is revoked certificate is revoked
 *   -          there      new key in place             new pair             completes
 *
 * Does not: read a passphrase or decide how keys are sealed (seal.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "issue.h"
#include "profile.h"

static const char clause[] = "key store";

enum { STEP_KEY = 1, STEP_CERT, STEP_REVOKE, STEP_SWAP_KEY, STEP_SWAP_CERT, STEP_DONE };

void (*keys_step_hook)(int step);

static void step(int which)
{
    if (keys_step_hook != NULL)
        keys_step_hook(which);
}

/* <name>.<suffix>.next becomes <name>.<suffix>, durably. */
static dbe_err swap_in(const char *dir, const char *name, const char *suffix, struct dbe_diag *diag)
{
    char from[PATH_MAX], to[PATH_MAX], next[16];

    (void)snprintf(next, sizeof next, "%s.next", suffix);
    DBE_TRY(dbe_keys_path(dir, name, next, from, sizeof from));
    DBE_TRY(dbe_keys_path(dir, name, suffix, to, sizeof to));
    if (rename(from, to) != 0)
        return dbe_fail(diag, DBE_E_IO, clause, 0, "cannot replace %.120s: error %d", to, errno);
    BASE_AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL))
        return dbe_fail(diag, DBE_E_IO, clause, 0, "cannot sync %.120s", dir);
    return DBE_OK;
}

/* The certificate goes first: a new key alone means that nothing has begun. */
static void clear_next(const char *dir, const char *name)
{
    static const char *const suffixes[] = {"crt.next", "key.next"};
    char path[PATH_MAX];

    for (size_t i = 0; i < BASE_ARRAY_LEN(suffixes); i++)
        if (dbe_keys_path(dir, name, suffixes[i], path, sizeof path) == DBE_OK)
            (void)unlink(path);
}

/* Is <name>.crt on the list? */
static bool old_is_revoked(const char *dir, const char *name, const struct dbe_trust *trust)
{
    struct dbe_identity id = {0};
    struct base_buf der;

    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    dbe_err err = keys_read_cert(dir, name, trust, &id, NULL, &der, NULL);
    base_buf_free(&der);
    return err == DBE_OK && crl_find(trust->revoked, id.serial, id.serial_len) != NULL;
}

dbe_err keys_settle(const char *dir, const char *name, const struct dbe_trust *trust, struct dbe_diag *diag)
{
    bool key = keys_file_there(dir, name, "key.next"), crt = keys_file_there(dir, name, "crt.next");

    if (!crt && !key)
        return DBE_OK;
    if (!crt || (key && !old_is_revoked(dir, name, trust))) {
        clear_next(dir, name);
        return DBE_OK;
    }
    if (key)
        DBE_TRY(swap_in(dir, name, "key", diag));
    return swap_in(dir, name, "crt", diag);
}

/* ---- renewing ---------------------------------------------------------------------------------------------------- */

static dbe_err make_next(const char *dir, const char *name, const struct keys_signer *s, const struct dbe_identity *id,
                         struct dbe_diag *diag)
{
    struct crypto_key *key = NULL;
    struct base_buf der;

    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    dbe_err err = crypto_key_generate(&key);
    if (err == DBE_OK)
        err = cert_make_node(s->trust, s->key, key, id, &der);
    if (err != DBE_OK)
        err = dbe_fail(diag, err, clause, 0, "cannot make a new key and certificate for %.100s", name);
    step(STEP_KEY);
    if (err == DBE_OK)
        err = keys_write_key(dir, name, "key.next", key, diag);
    step(STEP_CERT);
    if (err == DBE_OK)
        err = keys_write_cert(dir, name, "crt.next", &der, diag);
    base_buf_free(&der);
    crypto_key_free(key);
    return err;
}

static dbe_err revoke_replaced(const char *dir, const struct keys_signer *s, const struct dbe_identity *old,
                               const struct dbe_renew *what, struct dbe_diag *diag)
{
    if (!what->revoke_old || crl_find(s->trust->revoked, old->serial, old->serial_len) != NULL)
        return DBE_OK;
    return keys_revoke_serial(dir, s, old->serial, old->serial_len,
                              what->reason == DBE_REVOKE_UNSPECIFIED ? DBE_REVOKE_SUPERSEDED : what->reason, diag);
}

static dbe_err renew_files(const char *dir, const char *name, const struct keys_signer *s,
                           const struct dbe_identity *old, const struct dbe_renew *what, struct dbe_diag *diag)
{
    uint64_t now_ms = base_wall_ms();
    uint64_t days = what->valid_days == 0 ? KEYS_DAYS_DEFAULT : what->valid_days;
    struct dbe_identity id = *old;

    id.not_before_ms = BASE_MAX(now_ms - KEYS_BACKDATE_MS, s->trust->not_before_ms);
    id.not_after_ms = BASE_MIN(now_ms + days * KEYS_MS_PER_DAY, s->trust->not_after_ms);
    DBE_TRY(profile_check(&id, diag));
    dbe_err err = make_next(dir, name, s, &id, diag);
    step(STEP_REVOKE);
    if (err == DBE_OK)
        err = revoke_replaced(dir, s, old, what, diag);
    if (err != DBE_OK) {
        clear_next(dir, name);
        return err;
    }
    step(STEP_SWAP_KEY);
    DBE_TRY(swap_in(dir, name, "key", diag));
    step(STEP_SWAP_CERT);
    DBE_TRY(swap_in(dir, name, "crt", diag));
    step(STEP_DONE);
    return DBE_OK;
}

static dbe_err renew_locked(const char *dir, const char *name, const struct dbe_renew *what, struct dbe_diag *diag)
{
    struct keys_signer s = {0};
    struct dbe_identity old = {0};
    struct base_buf der;

    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    dbe_err err = keys_signer_load(dir, &s, diag);
    if (err == DBE_OK)
        err = keys_settle(dir, name, s.trust, diag);
    if (err == DBE_OK)
        err = keys_read_cert(dir, name, s.trust, &old, NULL, &der, diag);
    if (err == DBE_OK)
        err = renew_files(dir, name, &s, &old, what, diag);
    base_buf_free(&der);
    keys_signer_fini(&s);
    return err;
}

dbe_err dbe_keys_renew(const char *dir, const char *name, const struct dbe_renew *what, struct dbe_diag *diag)
{
    static const struct dbe_renew plain = {0};
    char path[PATH_MAX];
    BASE_AUTO_CLOSE int lock = -1;

    if (what == NULL)
        what = &plain;
    if (strcmp(name, "ca") == 0)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "a mesh's CA is not renewed: make a new mesh");
    if (dbe_keys_path(dir, name, "crt.next", path, sizeof path) != DBE_OK)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "\"%.70s\" is no name, or the path is too long", name);
    DBE_TRY(keys_check_days(what->valid_days, diag));
    if (strcmp(dbe_revoke_reason_name(what->reason), "unknown") == 0)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "there is no reason %d for a revocation", (int)what->reason);
    DBE_TRY(crypto_init(diag));
    DBE_TRY(keys_lock(dir, &lock, diag));
    return renew_locked(dir, name, what, diag);
}

/* ---- verifying --------------------------------------------------------------------------------------------------- */

/* With its key here, a name is what dbe_credential_load makes of it; without, its certificate alone is judged. */
static dbe_err verify_name(const char *dir, const char *name, const struct dbe_trust *trust, struct dbe_identity *ret,
                           struct dbe_diag *diag)
{
    struct dbe_credential *cred = NULL;
    struct base_buf der;

    if (keys_file_there(dir, name, "key")) {
        DBE_TRY(dbe_credential_load(dir, name, &cred, diag));
        *ret = *dbe_credential_identity(cred);
        dbe_credential_free(cred);
        return DBE_OK;
    }
    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    dbe_err err = keys_read_cert(dir, name, trust, ret, NULL, &der, diag);
    base_buf_free(&der);
    return err == DBE_OK ? cert_check_standing(trust, ret, base_wall_ms(), diag) : err;
}

static dbe_err verify_file(const char *path, const struct dbe_trust *trust, struct dbe_identity *ret,
                           struct dbe_diag *diag)
{
    struct base_buf der;

    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    dbe_err err = keys_read_cert_file(path, &der, diag);
    if (err == DBE_OK)
        err = dbe_trust_verify(trust, der.data, der.len, base_wall_ms(), ret, NULL, diag);
    base_buf_free(&der);
    return err;
}

dbe_err dbe_keys_verify(const char *dir, const char *name_or_path, struct dbe_identity *ret, struct dbe_diag *diag)
{
    struct dbe_trust *trust = NULL;
    struct dbe_identity id = {0};

    DBE_TRY(dbe_trust_load(dir, &trust, diag));
    bool is_name = strchr(name_or_path, '/') == NULL && keys_file_there(dir, name_or_path, "crt") &&
                   strcmp(name_or_path, "ca") != 0;
    dbe_err err = is_name ? verify_name(dir, name_or_path, trust, &id, diag)
                          : verify_file(name_or_path, trust, &id, diag);
    dbe_trust_free(trust);
    if (err == DBE_OK && ret != NULL)
        *ret = id;
    return err;
}
