/* SPDX-License-Identifier: Apache-2.0
 *
 * take.c - records as they come to Device 14: of peers, under their tag, and its own.
 *
 * In:   AUDIT_RECORDS of authenticated peers, and the own runtime's records    Out: what the next commit writes
 * Not:  it judges no record and drops none: what it cannot keep it does not acknowledge, and the sender keeps it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dbe/payload.h"
#include "devices/audit/audit.h"
#include "dsmil.pb-c.h"

/* All of a batch is read before any of it is added. What Device 14 alone can know, nobody else tells it. */
static dbe_err check(const uint8_t *bytes, size_t len)
{
    struct audit_record r;
    size_t one;

    for (size_t at = 0; at < len; at += one) {
        DBE_TRY(audit_record_get(bytes + at, len - at, &r, &one));
        if (audit_kind_own(r.kind))
            return DBE_E_DENIED;
    }
    return len > 0 && len <= AUDIT_BATCH_MAX_BYTES ? DBE_OK : DBE_E_MALFORMED;
}

static void report_missing(struct audit_device *d, const char *sender, uint64_t seq, uint64_t missing)
{
    char words[AUDIT_DETAIL_MAX + 1];

    d->missing += missing;
    snprintf(words, sizeof words, "%.180s: before its number %" PRIu64, sender, seq);
    svc_audit_event(d->svc, AUDIT_MISSING, DBE_OK, NULL, (uint32_t)BASE_MIN(missing, (uint64_t)UINT32_MAX), words);
}

static dbe_err add(struct audit_device *d, const char *sender, const uint8_t run[AUDIT_RUN_BYTES], const uint8_t *bytes,
                   size_t len)
{
    struct audit_record r;
    uint64_t missing, now_ms = base_wall_ms();
    size_t one;

    if (d->log == NULL || audit_log_failed(d->log))
        return DBE_E_UNAVAILABLE;
    for (size_t at = 0; at < len; at += one) {
        DBE_TRY(audit_record_get(bytes + at, len - at, &r, &one));
        dbe_err err = audit_log_add(d->log, sender, run, &r, now_ms, &missing);
        if (err == DBE_E_LIMIT) { /* full: what is there first */
            audit_dev_commit(d);
            err = audit_log_add(d->log, sender, run, &r, now_ms, &missing);
        }
        DBE_TRY(err);
        if (missing > 0)
            report_missing(d, sender, r.seq, missing);
    }
    return DBE_OK;
}

static dbe_err tag_ok(const struct dbe_peer *peer, const Dsmil__AuditRecords *p)
{
    uint8_t k_log[32], tag[AUDIT_TAG_BYTES];

    if (p->run.len != AUDIT_RUN_BYTES || p->tag.len != sizeof tag)
        return DBE_E_MALFORMED;
    DBE_TRY(dbe_peer_log_key(peer, k_log));
    dbe_err err = audit_batch_tag(k_log, p->run.data, p->tag.data, p->records.data, p->records.len, tag);
    base_wipe(k_log, sizeof k_log);
    DBE_TRY(err);
    return base_equal_ct(tag, p->tag.data, sizeof tag) ? check(p->records.data, p->records.len) : DBE_E_AUTH;
}

static void on_gone(void *user, struct svc_req *req, dbe_err why)
{
    struct audit_device *d = user;

    (void)why;
    for (size_t i = 0; i < d->waiting_count; i++)
        if (d->waiting[i].req == req) {
            d->waiting[i] = d->waiting[--d->waiting_count];
            return;
        }
}

static dbe_err take(struct audit_device *d, struct svc_req *req, const Dsmil__AuditRecords *p)
{
    const struct dbe_peer *peer = svc_req_peer(req);

    if (d->waiting_count == AUDIT_WAITING_MAX)
        return DBE_E_LIMIT;
    dbe_err err = tag_ok(peer, p);
    if (err != DBE_OK) {
        d->refused++;
        svc_audit_event(d->svc, AUDIT_MALFORMED, err, peer, 0, "a batch of audit records");
        return err;
    }
    err = add(d, dbe_peer_identity(peer)->spiffe_id, p->run.data, p->records.data, p->records.len);
    if (err != DBE_OK) { /* what was added before it is void, also of others: they send it again */
        audit_dev_settle(d, err);
        return DBE_E_UNAVAILABLE;
    }
    struct audit_waiting *w = &d->waiting[d->waiting_count++];
    w->req = req;
    w->has_checkpoint = p->checkpoint_size;
    memcpy(w->run, p->run.data, sizeof w->run);
    svc_req_set_user(req, d);
    svc_req_on_gone(req, on_gone);
    d->batches++;
    audit_dev_commit_soon(d);
    return DBE_OK;
}

dbe_err audit_dev_on_records(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    Dsmil__AuditRecords *p = NULL;

    (void)svc;
    DBE_TRY(dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL));
    p = dsmil__audit_records__unpack(NULL, msg->payload_len, msg->payload);
    if (p == NULL)
        return DBE_E_NOMEM;
    dbe_err err = take(state, req, p);
    dsmil__audit_records__free_unpacked(p, NULL);
    return err;
}

dbe_err audit_dev_own_records(void *ctx, const uint8_t run[8], const void *records, size_t len)
{
    struct audit_device *d = ctx;

    memcpy(d->own_run, run, sizeof d->own_run);
    dbe_err err = add(d, svc_identity(d->svc)->spiffe_id, run, records, len);
    if (err != DBE_OK) {
        audit_dev_settle(d, err);
        return err;
    }
    d->own_waits = true;
    audit_dev_commit_soon(d);
    return DBE_OK;
}
