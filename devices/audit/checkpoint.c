/* SPDX-License-Identifier: Apache-2.0
 *
 * checkpoint.c - Device 14's signatures: whose key, under which certificate, and when.
 *
 * In:   the service's credential, the log's head    Out: checkpoints and states; certificates beside the log
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "devices/audit/audit.h"

static dbe_err sign(void *ctx, const char *use, const void *msg, size_t len, uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    const struct audit_device *d = ctx;

    return dbe_credential_sign(d->credential, use, msg, len, sig);
}

/* A certificate beside the log: of this mesh, and of the log's device. */
static dbe_err judge(void *ctx, const uint8_t *der, size_t len, uint64_t time_ms, char ret_origin[AUDIT_ORIGIN_MAX],
                     uint8_t ret_pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag)
{
    const struct audit_device *d = ctx;
    struct dbe_identity id;

    DBE_TRY(dbe_trust_verify(svc_trust(d->svc), der, len, time_ms, &id, ret_pk, diag));
    if (id.role != DBE_ROLE_AUDIT)
        return dbe_fail(diag, DBE_E_CERT, "audit 7.4", 0, "%.80s may not sign for an audit log", id.spiffe_id);
    (void)snprintf(ret_origin, AUDIT_ORIGIN_MAX, "%.120s/audit/%u", id.mesh, id.device);
    return DBE_OK;
}

void audit_dev_keys(struct audit_device *d)
{
    d->certs = (struct audit_certs){.dir = d->dir, .judge = judge, .ctx = d};
    d->signer.sign = sign;
    d->signer.ctx = d;
}

/* The certificate that checkpoints are signed under lies beside them, so that they can be verified years later. A
 * renewed one has a key, and so a file, of its own. */
dbe_err audit_dev_adopt(struct audit_device *d, struct dbe_diag *diag)
{
    const struct dbe_credential *cred = svc_credential(d->svc);
    char path[AUDIT_PATH_MAX];
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    const uint8_t *der;
    size_t len;

    if (cred == d->credential)
        return DBE_OK;
    DBE_TRY(svc_public_key(d->svc, pk));
    DBE_TRY(audit_key_id(d->origin, pk, d->signer.key_id));
    snprintf(path, sizeof path, "%.900s/certs", d->dir);
    DBE_TRY(base_mkdirs(path, 0700, diag));
    DBE_TRY(audit_certs_path(d->dir, d->signer.key_id, path));
    dbe_credential_cert(cred, &der, &len);
    if (access(path, F_OK) != 0)
        DBE_TRY(base_file_write(path, der, len, 0600, diag));
    if (d->log != NULL)
        DBE_TRY(audit_log_restate(d->log, &d->signer, base_wall_ms(), diag));
    d->credential = cred;
    return DBE_OK;
}

/* Without a state the next start reads more; that is worth a word and nothing else. */
static void save(struct audit_device *d, uint64_t size)
{
    struct dbe_diag diag = {0};
    dbe_err err = audit_log_save(d->log, &d->signer, base_wall_ms(), &diag);

    d->saved_ns = svc_now_ns(d->svc);
    if (err == DBE_OK)
        d->saved = size;
    else if (err != DBE_E_STATE)
        audit_dev_complain(d, "no state is saved, so that the next start reads more", err, &diag);
}

void audit_dev_checkpoint(struct audit_device *d, bool now)
{
    uint64_t size, noted;
    uint8_t root[AUDIT_HASH_BYTES];
    struct dbe_diag diag = {0};
    dbe_err err = DBE_OK;

    audit_log_head(d->log, &size, root);
    (void)audit_log_note(d->log, &noted);
    d->checkpoint_ns = svc_now_ns(d->svc);
    if (size != noted) {
        err = audit_dev_adopt(d, &diag);
        if (err == DBE_OK)
            err = audit_log_checkpoint(d->log, &d->signer, base_wall_ms(), &diag);
        d->checkpoints += err == DBE_OK;
    }
    if (err != DBE_OK)
        audit_dev_complain(d, "no checkpoint", err, &diag);
    else if (size != d->saved && (now || size - d->saved >= AUDIT_SAVE_ENTRIES ||
                                  svc_now_ns(d->svc) - d->saved_ns >= (uint64_t)AUDIT_SAVE_S * BASE_NS_PER_S))
        save(d, size);
}

void audit_dev_checkpoint_if_due(struct audit_device *d)
{
    uint64_t size, noted, age_ns = svc_now_ns(d->svc) - d->checkpoint_ns;
    uint8_t root[AUDIT_HASH_BYTES];

    if (d->log == NULL || audit_log_failed(d->log))
        return;
    audit_log_head(d->log, &size, root);
    (void)audit_log_note(d->log, &noted);
    if (size - noted >= d->checkpoint_entries || (size > noted && age_ns >= d->checkpoint_s * BASE_NS_PER_S))
        audit_dev_checkpoint(d, false);
}
