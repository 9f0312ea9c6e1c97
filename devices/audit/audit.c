/* SPDX-License-Identifier: Apache-2.0
 *
 * audit.c - Device 14: takes the records of all services, keeps the log, signs its heads. Its life, and its table.
 *
 * In:   AUDIT_RECORDS of authenticated peers, and the own runtime's records (take.c); orders of its operator
 * Out:  lines on the disk; AUDIT_ACK once they are synced (store.c); checkpoints (checkpoint.c)
 */
#include "devices/audit/audit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void on_commit(void *ctx)
{
    audit_dev_commit(ctx);
}

static dbe_err init(struct svc *svc, void *state, struct dbe_diag *diag)
{
    struct audit_device *d = state;

    d->svc = svc;
    if (d->dir[0] == '\0')
        return dbe_fail(diag, DBE_E_CONFIG, "audit-dir", 0, "say where the audit log lies: --audit-dir DIR");
    snprintf(d->origin, sizeof d->origin, "%.120s/audit/%u", svc_identity(svc)->mesh, svc_identity(svc)->device);
    DBE_TRY(base_loop_timer(svc_loop(svc), on_commit, d, &d->timer));
    audit_dev_keys(d);
    DBE_TRY(audit_dev_open(d, diag));
    DBE_TRY(audit_dev_adopt(d, diag));
    d->checkpoint_ns = svc_now_ns(svc);
    svc_audit_set_sink(svc, audit_dev_own_records, d);
    return DBE_OK;
}

/* After a sync that failed only the files can tell what they hold: they are read anew. */
static void tick(struct svc *svc, void *state)
{
    struct audit_device *d = state;
    struct dbe_diag diag = {0};

    if (d->log == NULL || audit_log_failed(d->log)) {
        audit_dev_settle(d, DBE_E_UNAVAILABLE);
        audit_log_close(d->log);
        d->log = NULL;
        dbe_err err = audit_dev_open(d, &diag);
        if (err != DBE_OK)
            audit_dev_complain(d, "the audit log cannot be opened", err, &diag);
        else
            svc_log(svc, SVC_INFO, NULL, "the audit log was opened anew");
        d->broken = err != DBE_OK;
    }
    audit_dev_checkpoint_if_due(d);
    audit_dev_retention(d);
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
    svc_dumpf(out, "archived: %" PRIu64 " entries; state saved at %" PRIu64 "\n", d->archived, d->saved);
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
        audit_dev_checkpoint(d, true);
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
    NUMBER("retention-days", "days", 0, 0, 36500, retention_days, true,
           "closed segments that are wholly older are put into the archive; 0: nothing is"),
    {.kind = SVC_PARAM_END},
};

#define COUNTER(name_, kind_, field_, doc_)                                                                            \
    {                                                                                                                  \
        name_, doc_, "device_id=\"14\"", kind_, offsetof(struct audit_device, field_)                                  \
    }

static const struct svc_counter counters[] = {
    COUNTER("dsmil_audit_entries", SVC_GAUGE, entries, "entries of the log"),
    COUNTER("dsmil_audit_archived_entries", SVC_GAUGE, archived, "of these, put into the archive"),
    COUNTER("dsmil_audit_bytes", SVC_GAUGE, bytes, "bytes of the log"),
    COUNTER("dsmil_audit_stored_total", SVC_COUNTER, stored, "records written and synced"),
    COUNTER("dsmil_audit_batches_total", SVC_COUNTER, batches, "batches of records taken"),
    COUNTER("dsmil_audit_refused_total", SVC_COUNTER, refused, "batches whose tag or form was wrong"),
    COUNTER("dsmil_audit_missing_total", SVC_COUNTER, missing, "records that never came, by their numbers"),
    COUNTER("dsmil_audit_checkpoints_total", SVC_COUNTER, checkpoints, "checkpoints signed"),
    COUNTER("dsmil_audit_write_failures_total", SVC_COUNTER, write_failures, "commits that failed"),
    {.name = NULL},
};

static const struct svc_route routes[] = {{DBE_MSG_AUDIT_RECORDS, audit_dev_on_records}, {0, NULL}};

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
    .order = audit_dev_order,
    .dump = dump,
    .fini = fini,
};

#ifndef DSMIL_TEST
SVC_MAIN(audit_device)
#endif
