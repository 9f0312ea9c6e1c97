/* SPDX-License-Identifier: Apache-2.0
 *
 * revoke.c - the mesh's revocation list: in the key store, in a trust anchor, and who is put on it.
 *
 * In:   names, serial numbers, lists from files and peers    Out: <dir>/ca.crl, struct dbe_trust with its list
 * Does: writes a list whole or not at all, with a number above that of the list before it.
 * Does not: tell peers (the node layer does), nor ever take anybody off a list.
 */
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "issue.h"

static const char clause[] = "revocation list";

static const struct {
    enum dbe_revoke_reason reason;
    const char *name;
} reasons[] = {
    {DBE_REVOKE_UNSPECIFIED, "unspecified"},
    {DBE_REVOKE_KEY_COMPROMISE, "key-compromise"},
    {DBE_REVOKE_CA_COMPROMISE, "ca-compromise"},
    {DBE_REVOKE_AFFILIATION_CHANGED, "affiliation-changed"},
    {DBE_REVOKE_SUPERSEDED, "superseded"},
    {DBE_REVOKE_CESSATION, "cessation"},
    {DBE_REVOKE_HOLD, "hold"},
    {DBE_REVOKE_PRIVILEGE_WITHDRAWN, "privilege-withdrawn"},
    {DBE_REVOKE_AA_COMPROMISE, "aa-compromise"},
};

const char *dbe_revoke_reason_name(enum dbe_revoke_reason reason)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(reasons); i++)
        if (reasons[i].reason == reason)
            return reasons[i].name;
    return "unknown";
}

dbe_err dbe_revoke_reason_named(const char *name, enum dbe_revoke_reason *ret)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(reasons); i++) {
        if (strcmp(reasons[i].name, name) == 0) {
            *ret = reasons[i].reason;
            return DBE_OK;
        }
    }
    return DBE_E_NOT_FOUND;
}

/* ---- the list of a trust anchor ---------------------------------------------------------------------------------- */

dbe_err dbe_trust_set_revocations(struct dbe_trust *trust, const uint8_t *der, size_t len, struct dbe_diag *diag)
{
    struct crl *crl = NULL;

    /* The list that everybody passes on comes back often: it costs no signature check. */
    if (trust->revoked != NULL && len == trust->revoked->der_len && memcmp(der, trust->revoked->der, len) == 0)
        return dbe_fail(diag, DBE_E_EXISTS, clause, 0, "list %llu is the one held",
                        (unsigned long long)trust->revoked->number);
    DBE_TRY(crl_read(trust, der, len, &crl, diag));
    if (trust->revoked != NULL && crl->number <= trust->revoked->number) {
        dbe_err err = dbe_fail(diag, DBE_E_EXISTS, clause, 0, "list %llu is not newer than %llu, which is held",
                               (unsigned long long)crl->number, (unsigned long long)trust->revoked->number);
        crl_free(crl);
        return err;
    }
    crl_free(trust->revoked);
    trust->revoked = crl;
    return DBE_OK;
}

void dbe_trust_revocations(const struct dbe_trust *trust, const uint8_t **ret_der, size_t *ret_len,
                           uint64_t *ret_number)
{
    const struct crl *crl = trust->revoked;

    if (ret_der != NULL)
        *ret_der = crl != NULL ? crl->der : NULL;
    if (ret_len != NULL)
        *ret_len = crl != NULL ? crl->der_len : 0;
    if (ret_number != NULL)
        *ret_number = crl != NULL ? crl->number : 0;
}

size_t dbe_trust_revoked_count(const struct dbe_trust *trust)
{
    return trust->revoked != NULL ? trust->revoked->count : 0;
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

dbe_err dbe_trust_load_revocations(struct dbe_trust *trust, const char *dir, struct dbe_diag *diag)
{
    char path[PATH_MAX];
    struct dbe_diag why = {0};
    struct base_buf der;

    if (dbe_keys_path(dir, "ca", "crl", path, sizeof path) != DBE_OK)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "the path of the key store is too long");
    base_buf_init(&der, DBE_CRL_MAX_BYTES);
    dbe_err err = base_file_read(path, DBE_CRL_MAX_BYTES, &der, &why);
    if (err == DBE_OK)
        err = dbe_trust_set_revocations(trust, der.data, der.len, &why);
    base_buf_free(&der);
    if (err == DBE_E_CERT)
        return dbe_fail(diag, err, clause, 0, "%.70s: %.60s; put back a good one: dsmil keys bundle import", path,
                        why.text);
    return err == DBE_OK ? DBE_OK : dbe_fail(diag, err, clause, 0, "%s", why.text);
}

static dbe_err write_list(const char *dir, const uint8_t *der, size_t len, struct dbe_diag *diag)
{
    char path[PATH_MAX];

    DBE_TRY(dbe_keys_path(dir, "ca", "crl", path, sizeof path));
    return base_file_write(path, der, len, 0644, diag);
}

dbe_err keys_save_list(const char *dir, const uint8_t *der, size_t len, struct dbe_diag *diag)
{
    struct dbe_trust *trust = NULL;
    struct dbe_diag ignored;

    DBE_TRY(keys_load_ca(dir, &trust, diag));
    dbe_err err = dbe_trust_load_revocations(trust, dir, &ignored);
    /* A damaged file counts as none: this is how a good one takes its place. */
    if (err == DBE_OK || err == DBE_E_NOT_FOUND || err == DBE_E_CERT || err == DBE_E_TOO_LARGE)
        err = dbe_trust_set_revocations(trust, der, len, diag);
    else
        err = dbe_fail(diag, err, clause, 0, "%s", ignored.text);
    if (err == DBE_OK)
        err = write_list(dir, der, len, diag);
    dbe_trust_free(trust);
    return err;
}

dbe_err dbe_keys_save_revocations(const char *dir, const uint8_t *der, size_t len, struct dbe_diag *diag)
{
    BASE_AUTO_CLOSE int lock = -1;

    DBE_TRY(crypto_init(diag));
    DBE_TRY(keys_lock(dir, &lock, diag));
    return keys_save_list(dir, der, len, diag);
}

/* ---- revoking ---------------------------------------------------------------------------------------------------- */

dbe_err keys_revoke_serial(const char *dir, const struct keys_signer *s, const uint8_t *serial, size_t len,
                           enum dbe_revoke_reason reason, struct dbe_diag *diag)
{
    const struct crl *old = s->trust->revoked;
    const struct crl_entry *there = crl_find(old, serial, len);
    size_t count = old != NULL ? old->count : 0;
    struct base_buf der;
    char when[24];

    if (there != NULL) {
        cert_time_text(there->revoked_ms, when);
        return dbe_fail(diag, DBE_E_EXISTS, clause, 0, "this certificate was revoked on %s (%s)", when,
                        dbe_revoke_reason_name(there->reason));
    }
    if (count >= DBE_REVOKED_MAX)
        return dbe_fail(diag, DBE_E_LIMIT, clause, 0, "the list is full (%d entries): make a new mesh",
                        DBE_REVOKED_MAX);
    BASE_AUTO_FREE struct crl_entry *entries = base_alloc(count + 1, sizeof *entries);
    if (entries == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory for the revocation list");
    if (count > 0)
        memcpy(entries, old->entries, count * sizeof *entries);
    entries[count] = (struct crl_entry){
        .serial_len = (uint8_t)len, .reason = (uint8_t)reason, .revoked_ms = base_wall_ms()};
    memcpy(entries[count].serial, serial, len);
    base_buf_init(&der, DBE_CRL_MAX_BYTES);
    dbe_err err = crl_make(s->trust, s->key, entries, count + 1, old != NULL ? old->number + 1 : 1, base_wall_ms(),
                           &der);
    if (err != DBE_OK)
        err = dbe_fail(diag, err, clause, 0, "cannot make the revocation list");
    else
        err = write_list(dir, der.data, der.len, diag);
    base_buf_free(&der);
    return err;
}

/* "4FA0..." or "4f:a0:..." to a magnitude. False: no serial number. */
static bool read_serial(const char *text, uint8_t ret[CRL_SERIAL_MAX_BYTES], size_t *ret_len)
{
    uint8_t bytes[CRL_SERIAL_MAX_BYTES];
    char hex[2 * CRL_SERIAL_MAX_BYTES + 1];
    size_t n = 0, skip = 0;

    for (; *text != '\0'; text++) {
        if (*text == ':' && n > 0 && n % 2 == 0 && text[1] != '\0')
            continue;
        if (n == sizeof hex - 1)
            return false;
        hex[n++] = *text;
    }
    hex[n] = '\0';
    if (n < 2 || n % 2 != 0 || base_unhex(hex, bytes, n / 2) != DBE_OK)
        return false;
    n /= 2;
    while (skip + 1 < n && bytes[skip] == 0)
        skip++;
    *ret_len = n - skip;
    memcpy(ret, bytes + skip, n - skip);
    return true;
}

/* What the operator named: a file of the store, or a number. */
static dbe_err serial_of(const char *dir, const char *what, const struct dbe_trust *trust,
                         uint8_t ret[CRL_SERIAL_MAX_BYTES], size_t *ret_len, struct dbe_diag *diag)
{
    struct dbe_identity id = {0};
    struct base_buf der;

    if (strcmp(what, "ca") == 0)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "the CA cannot revoke itself: make a new mesh");
    if (!keys_file_there(dir, what, "crt")) {
        if (read_serial(what, ret, ret_len))
            return DBE_OK;
        return dbe_fail(diag, DBE_E_NOT_FOUND, clause, 0,
                        "\"%.60s\" is neither a certificate in %.60s nor a serial number in hex", what, dir);
    }
    base_buf_init(&der, DBE_CERT_MAX_BYTES);
    dbe_err err = keys_read_cert(dir, what, trust, &id, NULL, &der, diag);
    base_buf_free(&der);
    if (err == DBE_OK) {
        memcpy(ret, id.serial, id.serial_len);
        *ret_len = id.serial_len;
    }
    return err;
}

dbe_err dbe_keys_revoke(const char *dir, const char *name_or_serial, enum dbe_revoke_reason reason,
                        struct dbe_diag *diag)
{
    uint8_t serial[CRL_SERIAL_MAX_BYTES];
    size_t len = 0;
    struct keys_signer s = {0};
    BASE_AUTO_CLOSE int lock = -1;

    if (strcmp(dbe_revoke_reason_name(reason), "unknown") == 0)
        return dbe_fail(diag, DBE_E_ARGUMENT, clause, 0, "there is no reason %d for a revocation", (int)reason);
    DBE_TRY(crypto_init(diag));
    DBE_TRY(keys_lock(dir, &lock, diag));
    dbe_err err = keys_signer_load(dir, &s, diag);
    if (err == DBE_OK)
        err = serial_of(dir, name_or_serial, s.trust, serial, &len, diag);
    if (err == DBE_OK)
        err = keys_revoke_serial(dir, &s, serial, len, reason, diag);
    keys_signer_fini(&s);
    return err;
}
