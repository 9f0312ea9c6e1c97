/* SPDX-License-Identifier: Apache-2.0
 *
 * store.c - Device 14's log on the disk: opened, committed, put away; and those who wait for it, answered.
 *
 * In:   records that were added, an operator's orders    Out: acknowledgements, once the records are synced
 *
 * What comes in one turn of the loop is written and synced together, so that a busy mesh costs few syncs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/audit/audit.h"
#include "dsmil.pb-c.h"

void audit_dev_complain(struct audit_device *d, const char *what, dbe_err err, const struct dbe_diag *diag)
{
    svc_log(d->svc, SVC_ERROR, NULL, "%s: %s", what, diag->text[0] != '\0' ? diag->text : dbe_err_text(err));
}

/* ---- opening ------------------------------------------------------------------------------------------------- */

static void say_opened(struct audit_device *d, const struct audit_recovery *found)
{
    if (found->state > 0)
        svc_log(d->svc, SVC_INFO, NULL,
                "the audit log has %" PRIu64 " entries; %" PRIu64 " of them were read, after the checkpoint of %" PRIu64
                "; `dsmil audit verify` checks all",
                found->entries, found->read, found->state);
    else
        svc_log(
            d->svc, found->why[0] != '\0' ? SVC_WARN : SVC_INFO, NULL,
            "the audit log has %" PRIu64 " entries; all that are not archived, %" PRIu64 ", were read and checked%s%s",
            found->entries, found->read, found->why[0] != '\0' ? ": the saved state was not used: " : "", found->why);
}

dbe_err audit_dev_open(struct audit_device *d, struct dbe_diag *diag)
{
    struct audit_log_config config = {.dir = d->dir,
                                      .origin = d->origin,
                                      .segment_max_bytes = d->segment_mib * 1024 * 1024,
                                      .key = audit_certs_find,
                                      .key_ctx = &d->certs};
    struct audit_recovery found;
    char words[96];

    DBE_TRY(audit_log_open(&config, &d->log, &found, diag));
    d->entries = found.entries;
    d->bytes = audit_log_bytes(d->log);
    d->archived = audit_log_first(d->log);
    d->saved = found.state;
    d->saved_ns = svc_now_ns(d->svc);
    say_opened(d, &found);
    if (found.torn_bytes + found.torn_checkpoint_bytes == 0)
        return DBE_OK;
    snprintf(words, sizeof words, "cut behind entry %" PRIu64 "; of the checkpoints %" PRIu64 " bytes", found.entries,
             found.torn_checkpoint_bytes);
    svc_audit_event(d->svc, AUDIT_TORN, DBE_OK, NULL, (uint32_t)found.torn_bytes, words);
    svc_log(d->svc, SVC_WARN, NULL, "an unfinished line of %" PRIu64 " bytes was cut off: %s", found.torn_bytes, words);
    return DBE_OK;
}

/* ---- committing ---------------------------------------------------------------------------------------------- */

static void answer(struct audit_device *d, struct audit_waiting *w)
{
    Dsmil__AuditAck ack = DSMIL__AUDIT_ACK__INIT;
    const char *sender = dbe_peer_identity(svc_req_peer(w->req))->spiffe_id;
    uint8_t packed[AUDIT_NOTE_MAX + 256], root[AUDIT_HASH_BYTES];
    struct audit_text note;
    uint64_t noted;

    audit_log_head(d->log, &ack.size, root);
    note = audit_log_note(d->log, &noted);
    ack.run = (ProtobufCBinaryData){sizeof w->run, w->run};
    ack.next = audit_log_next(d->log, sender, w->run);
    ack.root = (ProtobufCBinaryData){sizeof root, root};
    if (noted > w->has_checkpoint)
        ack.checkpoint = (ProtobufCBinaryData){note.len, (uint8_t *)(uintptr_t)note.at}; /* packing only reads */
    size_t len = dsmil__audit_ack__get_packed_size(&ack);
    if (len <= sizeof packed) {
        dsmil__audit_ack__pack(&ack, packed);
        if (svc_reply(d->svc, w->req, DBE_MSG_AUDIT_ACK, packed, len, true) == DBE_OK)
            return;
    }
    svc_refuse(d->svc, w->req, DBE_E_LIMIT, NULL, NULL); /* it comes again, and is known again */
}

void audit_dev_settle(struct audit_device *d, dbe_err err)
{
    bool own = d->own_waits;
    uint64_t next = 0;

    if (err == DBE_OK && own)
        next = audit_log_next(d->log, svc_identity(d->svc)->spiffe_id, d->own_run);
    d->own_waits = false;
    while (d->waiting_count > 0) {
        struct audit_waiting w = d->waiting[--d->waiting_count];
        svc_req_on_gone(w.req, NULL);
        if (err == DBE_OK)
            answer(d, &w);
        else
            svc_refuse(d->svc, w.req, DBE_E_UNAVAILABLE, NULL, "the audit log cannot be written");
    }
    if (own && err == DBE_OK)
        svc_audit_stored(d->svc, next);
    else if (own)
        svc_audit_failed(d->svc);
}

void audit_dev_commit(struct audit_device *d)
{
    struct dbe_diag diag = {0};
    uint64_t before = svc_now_ns(d->svc), size;
    uint8_t root[AUDIT_HASH_BYTES];
    char labels[] = "device_id=\"14\"";

    d->due = false;
    dbe_err err = d->log != NULL ? audit_log_commit(d->log, &diag) : DBE_E_IO;
    svc_observe(d->svc, "dsmil_audit_sync_seconds", labels, (double)(svc_now_ns(d->svc) - before) / 1e9);
    if (err == DBE_OK) {
        audit_log_head(d->log, &size, root);
        d->stored += size - d->entries;
        d->entries = size;
        d->bytes = audit_log_bytes(d->log);
        if (d->broken)
            svc_log(d->svc, SVC_INFO, NULL, "the audit log can be written again");
        d->broken = false;
    } else {
        d->write_failures++;
        if (!d->broken)
            audit_dev_complain(d, "records are not acknowledged and stay with their senders", err, &diag);
        d->broken = true;
    }
    audit_dev_settle(d, err);
    audit_dev_checkpoint_if_due(d);
}

void audit_dev_commit_soon(struct audit_device *d)
{
    if (d->due)
        return;
    d->due = true;
    base_timer_set(d->timer, svc_now_ns(d->svc) + 1);
}

/* ---- the archive --------------------------------------------------------------------------------------------- */

dbe_err audit_dev_archive(struct audit_device *d, const struct audit_before *before, struct base_buf *said,
                          struct dbe_diag *diag)
{
    uint64_t upto, from, size;
    uint8_t root[AUDIT_HASH_BYTES];

    if (d->log == NULL || audit_log_failed(d->log))
        return dbe_fail(diag, DBE_E_UNAVAILABLE, "audit 10", 0, "the audit log cannot be written");
    audit_dev_commit(d);
    from = audit_log_first(d->log);
    DBE_TRY(audit_log_archivable(d->log, before, &upto, diag));
    DBE_TRY(audit_dev_adopt(d, diag));
    DBE_TRY(audit_log_archive(d->log, upto, svc_identity(d->svc)->spiffe_id, &d->signer, base_wall_ms(), diag));
    audit_log_head(d->log, &size, root);
    d->checkpoints++;
    d->entries = d->saved = size;
    d->bytes = audit_log_bytes(d->log);
    d->archived = upto;
    base_buf_fmt(said, "entries %" PRIu64 " to %" PRIu64 " lie in %s/" AUDIT_ARCHIVE " now", from, upto - 1, d->dir);
    svc_log(d->svc, SVC_INFO, NULL, "archive: %s", base_buf_cstr(said));
    return DBE_OK;
}

void audit_dev_retention(struct audit_device *d)
{
    const uint64_t keep_ms = d->retention_days * 86400 * 1000, now_ms = base_wall_ms();
    const struct audit_before before = {.by_time = true, .value = now_ms - BASE_MIN(keep_ms, now_ms)};
    struct dbe_diag diag = {0};
    struct base_buf said;

    if (d->retention_days == 0 || svc_now_ns(d->svc) < d->retention_ns)
        return;
    d->retention_ns = svc_now_ns(d->svc) + (uint64_t)AUDIT_RETENTION_S * BASE_NS_PER_S;
    base_buf_init(&said, 2 * AUDIT_PATH_MAX);
    dbe_err err = audit_dev_archive(d, &before, &said, &diag);
    base_buf_free(&said);
    if (err != DBE_OK && err != DBE_E_NOT_FOUND)
        audit_dev_complain(d, "what is old could not be archived", err, &diag);
}

/* archive?value=entry:N or time:UNIX-MS */
dbe_err audit_dev_order(struct svc *svc, void *state, const char *what, const char *value, struct base_buf *said,
                        struct dbe_diag *diag)
{
    static const char entry[] = "entry:", at[] = "time:";
    struct audit_before before = {.by_time = strncmp(value, at, sizeof at - 1) == 0};
    const char *digits = value + (before.by_time ? sizeof at - 1 : sizeof entry - 1);

    (void)svc;
    if (strcmp(what, "archive") != 0)
        return dbe_fail(diag, DBE_E_NOT_FOUND, NULL, 0, "the audit log knows one order: archive");
    if ((!before.by_time && strncmp(value, entry, sizeof entry - 1) != 0) || digits[0] == '\0' ||
        strspn(digits, "0123456789") != strlen(digits) || strlen(digits) > 19)
        return dbe_fail(diag, DBE_E_ARGUMENT, NULL, 0, "say what is to be archived: entry:N or time:UNIX-MS");
    before.value = strtoull(digits, NULL, 10);
    return audit_dev_archive(state, &before, said, diag);
}
