/* SPDX-License-Identifier: Apache-2.0
 *
 * audit.c - the queue of records for Device 14 (spec audit 2); audit_record.c makes them.
 *
 * In:   records                                 Out: batches on the link "audit", or to the device's own log
 * Not:  no disk on the way of a request. Records wait in a bounded queue until they are acknowledged as synced; what
 *       does not fit is counted, and one gap record stands for it. Refusals and events have a share of the queue that
 *       no flood of permitted messages can take.
 */
#include "runtime/audit.h"

#include <string.h>

#include "dbe/payload.h"
#include "dsmil.pb-c.h"
#include "runtime/priv.h"

/* ---- the queue ----------------------------------------------------------------------------------------------- */

/* Bytes of the record at `p`, whose form we made ourselves. */
static size_t record_len(const uint8_t *p)
{
    size_t at = AUDIT_RECORD_FIXED;

    for (int i = 0; i < 4; i++)
        at += (size_t)p[at] + 1;
    return at;
}

/* The queue is a ring of whole records: `wrap` is where the first part ends while the second, from 0 on, is in use. */
static size_t queued(const struct svc_audit *a)
{
    return a->wrapped ? a->wrap - a->begin + a->end : a->end - a->begin;
}

/* Where the next record can stand in one piece; NULL: nowhere. Nothing is moved. */
static uint8_t *place(struct svc_audit *a)
{
    if (a->begin == a->end && !a->wrapped)
        a->begin = a->end = 0;
    if (!a->wrapped && a->end + AUDIT_RECORD_MAX > SVC_AUDIT_RING_BYTES && a->begin > AUDIT_RECORD_MAX) {
        a->wrapped = true;
        a->wrap = a->end;
        a->end = 0;
    }
    size_t limit = a->wrapped ? a->begin - 1 : SVC_AUDIT_RING_BYTES; /* a full ring does not look empty */
    return a->end + AUDIT_RECORD_MAX <= limit ? a->queue + a->end : NULL;
}

static bool append(struct svc_audit *a, const struct audit_record *r, size_t limit)
{
    uint8_t *to = queued(a) + AUDIT_RECORD_MAX <= limit ? place(a) : NULL;

    if (to == NULL)
        return false;
    a->end += audit_record_write(r, to);
    return true;
}

/* The front, as far as it lies in one piece. */
static size_t front_len(const struct svc_audit *a)
{
    return (a->wrapped ? a->wrap : a->end) - a->begin;
}

static void drop_front(struct svc_audit *a, size_t len)
{
    a->begin += len;
    if (a->wrapped && a->begin == a->wrap) {
        a->wrapped = false;
        a->begin = 0;
    }
}

/* One record for all that was lost since the last that was kept: its number is that of the last of them. */
static bool append_gap(struct svc_audit *a, uint64_t now_ms)
{
    struct audit_record gap = {.kind = AUDIT_GAP, .seq = a->next - 1, .time_ms = now_ms};

    if (a->gap == 0)
        return true;
    gap.count = (uint32_t)BASE_MIN(a->gap, (uint64_t)UINT32_MAX);
    if (!append(a, &gap, SVC_AUDIT_QUEUE_BYTES))
        return false;
    a->gap = 0;
    return true;
}

static void flush_in(struct svc_audit *a, uint64_t ms)
{
    uint64_t at = base_mono_ns() + BASE_MAX(ms * BASE_NS_PER_MS, (uint64_t)1);

    if (a->flush_at != 0 && a->flush_at <= at)
        return;
    a->flush_at = at;
    base_timer_set(a->timer, at);
}

void svc_audit_put(struct svc *svc, struct audit_record *r)
{
    struct svc_audit *a = svc->audit;
    bool security = r->code != DBE_OK || audit_kind_security(r->kind);
    size_t limit = security ? SVC_AUDIT_QUEUE_BYTES : SVC_AUDIT_QUEUE_BYTES - SVC_AUDIT_RESERVED_BYTES;

    if (a == NULL)
        return;
    r->time_ms = base_wall_ms();
    if (queued(a) + 2 * AUDIT_RECORD_MAX > limit || !append_gap(a, r->time_ms)) {
        a->gap++;
        a->lost++;
        a->next++;
        return;
    }
    r->seq = a->next++;
    if (!append(a, r, limit)) { /* the room was asked for above */
        a->gap++;
        a->lost++;
        return;
    }
    a->records++;
    bool much = queued(a) >= SVC_AUDIT_FLUSH_BYTES;
    if (!a->in_flight && (a->flush_at == 0 || (much && !a->urgent && a->backoff_ms == 0))) { /* no clock for each */
        flush_in(a, much ? 0 : SVC_AUDIT_DELAY_MS);
        a->urgent = much;
    }
}

/* ---- acknowledgements ---------------------------------------------------------------------------------------- */

void svc_audit_stored(struct svc *svc, uint64_t next)
{
    struct svc_audit *a = svc->audit;

    if (a->in_flight && a->flight_len <= front_len(a) && a->flight_next == next)
        drop_front(a, a->flight_len); /* all of it, as a rule: it is not looked at again */
    while (queued(a) > 0 && base_get_u64(a->queue + a->begin + SVC_AUDIT_SEQ_AT) < next)
        drop_front(a, record_len(a->queue + a->begin));
    a->in_flight = false;
    a->flight_len = 0;
    a->backoff_ms = 0;
    if (queued(a) > 0)
        flush_in(a, 0);
}

void svc_audit_failed(struct svc *svc)
{
    struct svc_audit *a = svc->audit;

    a->in_flight = false;
    a->failures++;
    a->backoff_ms =
        a->backoff_ms == 0 ? SVC_AUDIT_RETRY_MIN_MS : BASE_MIN(2 * a->backoff_ms, (uint64_t)SVC_AUDIT_RETRY_MAX_MS);
    flush_in(a, a->backoff_ms);
}

static void take_ack(struct svc *svc, const struct dbe_msg *msg)
{
    Dsmil__AuditAck *ack = NULL;
    struct svc_audit *a = svc->audit;

    if (dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) == DBE_OK)
        ack = dsmil__audit_ack__unpack(NULL, msg->payload_len, msg->payload);
    if (ack == NULL || ack->run.len != sizeof a->run || memcmp(ack->run.data, a->run, sizeof a->run) != 0 ||
        ack->root.len != AUDIT_HASH_BYTES) {
        svc_count_error(svc, DBE_E_MALFORMED);
        svc_audit_failed(svc);
    } else {
        svc_anchor_take(svc, ack->size, ack->root.data, (const char *)ack->checkpoint.data, ack->checkpoint.len);
        svc_audit_stored(svc, ack->next);
    }
    if (ack != NULL)
        dsmil__audit_ack__free_unpacked(ack, NULL);
}

static void on_ack(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct svc *svc = ctx;

    (void)last, (void)err;
    if (msg == NULL || msg->type != DBE_MSG_AUDIT_ACK)
        svc_audit_failed(svc);
    else
        take_ack(svc, msg);
}

/* ---- sending ------------------------------------------------------------------------------------------------- */

/* As many whole records from the front as one message takes; and the number behind the last of them. */
static size_t batch_len(const struct svc_audit *a, uint64_t *ret_next)
{
    size_t len = 0, last = 0, one, all = front_len(a);

    if (!a->wrapped && a->gap == 0 && all <= AUDIT_BATCH_MAX_BYTES) { /* all there is: nobody has to look */
        *ret_next = a->next;
        return all;
    }
    while (len < all && (one = record_len(a->queue + a->begin + len)) + len <= AUDIT_BATCH_MAX_BYTES) {
        last = len;
        len += one;
    }
    *ret_next = base_get_u64(a->queue + a->begin + last + SVC_AUDIT_SEQ_AT) + 1;
    return len;
}

static dbe_err send_batch(struct svc *svc, size_t len)
{
    struct svc_audit *a = svc->audit;
    Dsmil__AuditRecords p = DSMIL__AUDIT_RECORDS__INIT;
    uint8_t k_log[32], nonce[CRYPTO_AEAD_IV_BYTES], tag[AUDIT_TAG_BYTES];

    DBE_TRY(base_random(nonce, sizeof nonce));
    DBE_TRY(dbe_peer_log_key(a->link->peer, k_log));
    dbe_err err = audit_batch_tag(k_log, a->run, nonce, a->queue + a->begin, len, tag);
    base_wipe(k_log, sizeof k_log);
    DBE_TRY(err);
    p.run = (ProtobufCBinaryData){sizeof a->run, a->run};
    p.records = (ProtobufCBinaryData){len, a->queue + a->begin};
    p.tag = (ProtobufCBinaryData){sizeof tag, tag};
    p.checkpoint_size = svc_anchor_note_size(svc);
    size_t packed = dsmil__audit_records__get_packed_size(&p);
    if (packed > sizeof a->packed)
        return DBE_E_TOO_LARGE;
    dsmil__audit_records__pack(&p, a->packed);
    uint64_t deadline = base_mono_ns() + (uint64_t)SVC_AUDIT_TIMEOUT_MS * BASE_NS_PER_MS;
    return svc_call(svc, a->link, DBE_MSG_AUDIT_RECORDS, a->packed, packed, deadline, on_ack, svc, NULL);
}

static void flush(void *ctx)
{
    struct svc *svc = ctx;
    struct svc_audit *a = svc->audit;
    dbe_err err;

    a->flush_at = 0;
    a->urgent = false;
    if (a->in_flight || (a->sink == NULL && (a->link == NULL || a->link->peer == NULL)))
        return; /* an acknowledgement, or the link coming up, calls again */
    (void)append_gap(a, base_wall_ms());
    if (queued(a) == 0)
        return;
    size_t len = batch_len(a, &a->flight_next);
    a->in_flight = true;
    a->flight_len = len;
    if (a->sink != NULL)
        err = a->sink(a->sink_ctx, a->run, a->queue + a->begin, len);
    else
        err = send_batch(svc, len);
    if (err != DBE_OK)
        svc_audit_failed(svc);
}

void svc_audit_link_up(struct svc *svc, const struct svc_link *link)
{
    struct svc_audit *a = svc->audit;

    if (a == NULL || link != a->link)
        return;
    a->backoff_ms = 0;
    flush_in(a, 0);
}

bool svc_audit_idle(const struct svc *svc)
{
    const struct svc_audit *a = svc->audit;

    if (a == NULL || (a->link != NULL && a->link->peer == NULL))
        return true; /* nobody would take it */
    return queued(a) == 0 && a->gap == 0;
}

/* ---- life ---------------------------------------------------------------------------------------------------- */

dbe_err svc_audit_open(struct svc *svc)
{
    struct svc_audit *a = base_alloc(1, sizeof *a);

    if (a == NULL)
        return DBE_E_NOMEM;
    svc->audit = a;
    a->link = svc_link_named(svc, SVC_AUDIT_LINK);
    a->queue = base_alloc(1, SVC_AUDIT_RING_BYTES);
    if (a->queue == NULL)
        return DBE_E_NOMEM;
    DBE_TRY(base_random(a->run, sizeof a->run));
    DBE_TRY(base_loop_timer(svc->loop, flush, svc, &a->timer));
    return svc_anchor_open(svc);
}

void svc_audit_set_sink(struct svc *svc, svc_audit_sink *sink, void *ctx)
{
    svc->audit->sink = sink;
    svc->audit->sink_ctx = ctx;
    flush_in(svc->audit, 0);
}

/* Hand what is left to the own log, which is still open. */
void svc_audit_flush(struct svc *svc)
{
    if (svc->audit == NULL || svc->audit->sink == NULL)
        return;
    svc->audit->in_flight = false; /* what is on its way comes again, and is known again */
    flush(svc);
}

void svc_audit_close(struct svc *svc)
{
    struct svc_audit *a = svc->audit;

    if (a == NULL)
        return;
    svc_anchor_close(svc);
    base_timer_free(a->timer);
    base_free(a->queue);
    base_free(a);
    svc->audit = NULL;
}

void svc_audit_refresh(struct svc *svc)
{
    const struct svc_audit *a = svc->audit;
    char labels[SVC_LABELS_MAX];

    if (a == NULL)
        return;
    svc_labels(labels, "device_id", svc->metrics.device_id, NULL);
    svc_metric_set_counter(&svc->metrics, SVC_M_dsmil_audit_records_total, labels, a->records);
    svc_metric_set_counter(&svc->metrics, SVC_M_dsmil_audit_lost_total, labels, a->lost);
    svc_metric_set_counter(&svc->metrics, SVC_M_dsmil_audit_send_failures_total, labels, a->failures);
    svc_metric_set(&svc->metrics, SVC_M_dsmil_audit_queue_bytes, labels, (double)queued(a));
}
