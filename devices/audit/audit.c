/* SPDX-License-Identifier: Apache-2.0
 *
 * audit.c - Device 14: takes the records of all services, keeps the log, signs its heads.
 *
 * In:   AUDIT_RECORDS of authenticated peers, and the own runtime's records
 * Out:  lines on the disk; AUDIT_ACK once they are synced; checkpoints
 * Not:  it judges no record and drops none: what it cannot keep it does not acknowledge, and the sender keeps it.
 *
 * What comes in one turn of the loop is written and synced together, so that a busy mesh costs few syncs.
 */
#include "devices/audit/audit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dbe/payload.h"
#include "dsmil.pb-c.h"

/* ---- keys ---------------------------------------------------------------------------------------------------- */

static dbe_err sign(void *ctx, const void *msg, size_t len, uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES])
{
    const struct audit_device *d = ctx;

    return dbe_credential_sign(d->credential, AUDIT_CHECKPOINT_CTX, msg, len, sig);
}

/* The certificate that checkpoints are signed under lies beside them, so that they can be verified years later. A
 * renewed one has a key, and so a file, of its own. */
static dbe_err adopt_credential(struct audit_device *d, struct dbe_diag *diag)
{
    const struct dbe_credential *cred = svc_credential(d->svc);
    char path[AUDIT_PATH_MAX], hex[2 * AUDIT_KEY_ID_BYTES + 1];
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES];
    const uint8_t *der;
    size_t len;

    if (cred == d->credential)
        return DBE_OK;
    DBE_TRY(svc_public_key(d->svc, pk));
    DBE_TRY(audit_key_id(d->origin, pk, d->key_id));
    base_hex(d->key_id, sizeof d->key_id, hex);
    snprintf(path, sizeof path, "%.900s/certs", d->dir);
    DBE_TRY(base_mkdirs(path, 0700, diag));
    snprintf(path, sizeof path, "%.900s/certs/%s.der", d->dir, hex);
    dbe_credential_cert(cred, &der, &len);
    if (access(path, F_OK) != 0)
        DBE_TRY(base_file_write(path, der, len, 0600, diag));
    d->credential = cred;
    return DBE_OK;
}

static void complain(struct audit_device *d, const char *what, dbe_err err, const struct dbe_diag *diag)
{
    svc_log(d->svc, SVC_ERROR, NULL, "%s: %s", what, diag->text[0] != '\0' ? diag->text : dbe_err_text(err));
}

static void checkpoint(struct audit_device *d)
{
    uint64_t size, noted;
    uint8_t root[AUDIT_HASH_BYTES];
    struct dbe_diag diag = {0};

    audit_log_head(d->log, &size, root);
    (void)audit_log_note(d->log, &noted);
    d->checkpoint_ns = svc_now_ns(d->svc);
    if (size == noted)
        return;
    dbe_err err = adopt_credential(d, &diag);
    if (err == DBE_OK)
        err = audit_log_checkpoint(d->log, d->key_id, sign, d, base_wall_ms(), &diag);
    if (err == DBE_OK)
        d->checkpoints++;
    else
        complain(d, "no checkpoint", err, &diag);
}

static void checkpoint_if_due(struct audit_device *d)
{
    uint64_t size, noted, age_ns = svc_now_ns(d->svc) - d->checkpoint_ns;
    uint8_t root[AUDIT_HASH_BYTES];

    if (d->log == NULL || audit_log_failed(d->log))
        return;
    audit_log_head(d->log, &size, root);
    (void)audit_log_note(d->log, &noted);
    if (size - noted >= d->checkpoint_entries || (size > noted && age_ns >= d->checkpoint_s * BASE_NS_PER_S))
        checkpoint(d);
}

/* ---- opening ------------------------------------------------------------------------------------------------- */

static dbe_err open_log(struct audit_device *d, struct dbe_diag *diag)
{
    struct audit_log_config config = {
        .dir = d->dir, .origin = d->origin, .segment_max_bytes = d->segment_mib * 1024 * 1024};
    struct audit_recovery found;
    char words[96];

    DBE_TRY(audit_log_open(&config, &d->log, &found, diag));
    d->entries = found.entries;
    svc_log(d->svc, SVC_INFO, NULL, "the audit log has %" PRIu64 " entries", found.entries);
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

static void settle(struct audit_device *d, dbe_err err)
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

static void commit(struct audit_device *d)
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
            complain(d, "records are not acknowledged and stay with their senders", err, &diag);
        d->broken = true;
    }
    settle(d, err);
    checkpoint_if_due(d);
}

static void on_commit(void *ctx)
{
    commit(ctx);
}

static void commit_soon(struct audit_device *d)
{
    if (d->due)
        return;
    d->due = true;
    base_timer_set(d->timer, svc_now_ns(d->svc) + 1);
}

/* ---- records ------------------------------------------------------------------------------------------------- */

/* All of a batch is read before any of it is added. */
static dbe_err check(const uint8_t *bytes, size_t len)
{
    struct audit_record r;
    size_t one;

    for (size_t at = 0; at < len; at += one)
        DBE_TRY(audit_record_get(bytes + at, len - at, &r, &one));
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
            commit(d);
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
        settle(d, err);
        return DBE_E_UNAVAILABLE;
    }
    struct audit_waiting *w = &d->waiting[d->waiting_count++];
    w->req = req;
    w->has_checkpoint = p->checkpoint_size;
    memcpy(w->run, p->run.data, sizeof w->run);
    svc_req_set_user(req, d);
    svc_req_on_gone(req, on_gone);
    d->batches++;
    commit_soon(d);
    return DBE_OK;
}

static dbe_err on_records(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
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

static dbe_err own_records(void *ctx, const uint8_t run[8], const void *records, size_t len)
{
    struct audit_device *d = ctx;

    memcpy(d->own_run, run, sizeof d->own_run);
    dbe_err err = add(d, svc_identity(d->svc)->spiffe_id, run, records, len);
    if (err != DBE_OK) {
        settle(d, err);
        return err;
    }
    d->own_waits = true;
    commit_soon(d);
    return DBE_OK;
}

/* ---- life ---------------------------------------------------------------------------------------------------- */

static dbe_err init(struct svc *svc, void *state, struct dbe_diag *diag)
{
    struct audit_device *d = state;

    d->svc = svc;
    if (d->dir[0] == '\0')
        return dbe_fail(diag, DBE_E_CONFIG, "audit-dir", 0, "say where the audit log lies: --audit-dir DIR");
    snprintf(d->origin, sizeof d->origin, "%.120s/audit/%u", svc_identity(svc)->mesh, svc_identity(svc)->device);
    DBE_TRY(base_loop_timer(svc_loop(svc), on_commit, d, &d->timer));
    DBE_TRY(open_log(d, diag));
    d->bytes = audit_log_bytes(d->log);
    DBE_TRY(adopt_credential(d, diag));
    d->checkpoint_ns = svc_now_ns(svc);
    svc_audit_set_sink(svc, own_records, d);
    return DBE_OK;
}

/* After a sync that failed only the files can tell what they hold: they are read anew. */
static void tick(struct svc *svc, void *state)
{
    struct audit_device *d = state;
    struct dbe_diag diag = {0};

    if (d->log == NULL || audit_log_failed(d->log)) {
        settle(d, DBE_E_UNAVAILABLE);
        audit_log_close(d->log);
        d->log = NULL;
        dbe_err err = open_log(d, &diag);
        if (err != DBE_OK)
            complain(d, "the audit log cannot be opened", err, &diag);
        else
            svc_log(svc, SVC_INFO, NULL, "the audit log was opened anew");
        d->broken = err != DBE_OK;
    }
    checkpoint_if_due(d);
}

static bool ready(const struct svc *svc, const void *state)
{
    const struct audit_device *d = state;

    (void)svc;
    return d->log != NULL && !d->broken;
}

/* Services that stop with us send their last records; we go when they are gone, or do not go. */
static void on_linger(void *ctx)
{
    struct audit_device *d = ctx;
    uint64_t now = svc_now_ns(d->svc);

    if (svc_peer_count(d->svc) > 0 && now < d->linger_until_ns) {
        base_timer_set(d->linger, now + (uint64_t)AUDIT_LINGER_POLL_MS * BASE_NS_PER_MS);
        return;
    }
    svc_release(d->svc);
}

static void drain(struct svc *svc, void *state)
{
    struct audit_device *d = state;

    if (base_loop_timer(svc_loop(svc), on_linger, d, &d->linger) != DBE_OK)
        return;
    svc_hold(svc);
    d->linger_until_ns = svc_now_ns(svc) + (uint64_t)AUDIT_LINGER_MS * BASE_NS_PER_MS;
    base_timer_set(d->linger, svc_now_ns(svc) + 1);
}

static void dump(const void *state, struct svc_dump *out)
{
    const struct audit_device *d = state;

    svc_dumpf(out, "log: %s, %" PRIu64 " entries, %" PRIu64 " bytes%s\n", d->dir, d->entries, d->bytes,
              d->broken ? ", cannot be written" : "");
    svc_dumpf(out, "batches: %" PRIu64 ", refused %" PRIu64 ", waiting %zu\n", d->batches, d->refused,
              d->waiting_count);
    svc_dumpf(out, "checkpoints: %" PRIu64 "; records missing: %" PRIu64 "; write failures: %" PRIu64 "\n",
              d->checkpoints, d->missing, d->write_failures);
}

static void fini(struct svc *svc, void *state)
{
    struct audit_device *d = state;
    struct dbe_diag diag = {0};

    (void)svc;
    if (d->log != NULL && !audit_log_failed(d->log) && audit_log_commit(d->log, &diag) == DBE_OK)
        checkpoint(d);
    audit_log_close(d->log);
    d->log = NULL;
    base_timer_free(d->timer);
    base_timer_free(d->linger);
    d->timer = d->linger = NULL;
}

#define NUMBER(key_, unit_, def_, min_, max_, field_, reload_, doc_)                                                   \
    {                                                                                                                  \
        .key = key_, .unit = unit_, .kind = SVC_PARAM_UINT, .def = def_, .min = min_, .max = max_,                     \
        .offset = offsetof(struct audit_device, field_), .size = 8, .doc = doc_, .reload = reload_                     \
    }

static const struct svc_param params[] = {
    {.key = "audit-dir",
     .unit = "DIR",
     .kind = SVC_PARAM_TEXT,
     .def_text = "",
     .offset = offsetof(struct audit_device, dir),
     .size = AUDIT_PATH_MAX,
     .doc = "where the log lies; made if it is not there"},
    NUMBER("segment-mib", "MiB", 64, 1, 4096, segment_mib, false, "a new file begins when one would grow beyond this"),
    NUMBER("checkpoint-entries", "N", 4096, 1, 1e9, checkpoint_entries, true, "a checkpoint is signed after so many"),
    NUMBER("checkpoint-seconds", "s", 60, 1, 86400, checkpoint_s, true, "and at the latest so long after the last"),
    {.kind = SVC_PARAM_END},
};

#define COUNTER(name_, kind_, field_, doc_)                                                                            \
    {                                                                                                                  \
        name_, doc_, "device_id=\"14\"", kind_, offsetof(struct audit_device, field_)                                  \
    }

static const struct svc_counter counters[] = {
    COUNTER("dsmil_audit_entries", SVC_GAUGE, entries, "entries of the log"),
    COUNTER("dsmil_audit_bytes", SVC_GAUGE, bytes, "bytes of the log"),
    COUNTER("dsmil_audit_stored_total", SVC_COUNTER, stored, "records written and synced"),
    COUNTER("dsmil_audit_batches_total", SVC_COUNTER, batches, "batches of records taken"),
    COUNTER("dsmil_audit_refused_total", SVC_COUNTER, refused, "batches whose tag or form was wrong"),
    COUNTER("dsmil_audit_missing_total", SVC_COUNTER, missing, "records that never came, by their numbers"),
    COUNTER("dsmil_audit_checkpoints_total", SVC_COUNTER, checkpoints, "checkpoints signed"),
    COUNTER("dsmil_audit_write_failures_total", SVC_COUNTER, write_failures, "commits that failed"),
    {.name = NULL},
};

static const struct svc_route routes[] = {{DBE_MSG_AUDIT_RECORDS, on_records}, {0, NULL}};

const struct svc_device audit_device = {
    .device_id = DBE_DEV_AUDIT_LOGGER,
    .layer = DBE_LAYER_SYSTEM,
    .role = DBE_ROLE_AUDIT,
    .name = "audit",
    .purpose = "keeps the mesh's audit log and signs its heads",
    .state_size = sizeof(struct audit_device),
    .routes = routes,
    .params = params,
    .counters = counters,
    .init = init,
    .tick = tick,
    .ready = ready,
    .drain = drain,
    .dump = dump,
    .fini = fini,
};

#ifndef DSMIL_TEST
SVC_MAIN(audit_device)
#endif
