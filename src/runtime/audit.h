/* SPDX-License-Identifier: Apache-2.0
 *
 * audit.h - the runtime's side of the audit log: the queue of records that Device 14 has not acknowledged, and the
 * anchor, which is what this service remembers of the log. Nobody outside src/runtime includes it.
 */
#ifndef RUNTIME_AUDIT_H
#define RUNTIME_AUDIT_H

#include <pthread.h>
#include <stdatomic.h>

#include "audit/audit.h"
#include "runtime/priv.h"

#define SVC_AUDIT_LINK "audit"

enum {
    SVC_AUDIT_QUEUE_BYTES = 4 * 1024 * 1024,
    SVC_AUDIT_RING_BYTES = SVC_AUDIT_QUEUE_BYTES + 8 * AUDIT_RECORD_MAX, /* and what stays empty where it wraps */
    SVC_AUDIT_RESERVED_BYTES = 1024 * 1024,                              /* of it, for refusals and events alone */
    SVC_AUDIT_FLUSH_BYTES = 64 * 1024,                                   /* so much does not wait */
    SVC_AUDIT_DELAY_MS = 10,                                             /* records gather so long */
    SVC_AUDIT_RETRY_MIN_MS = 100,
    SVC_AUDIT_RETRY_MAX_MS = 2000,
    SVC_AUDIT_TIMEOUT_MS = 15000, /* a disk may take its time */
    SVC_AUDIT_SEQ_AT = 16,        /* offset of a record's sequence */
    SVC_ANCHOR_PERIOD_MS = 5000,  /* the anchor's file is written at most so often */
    SVC_ANCHOR_FILE_MAX = 2 * AUDIT_NOTE_MAX,
};

/* The newest head and checkpoint, and the thread that writes them: a disk never stands on a request's way. */
struct svc_anchor {
    struct audit_anchor now;
    char note[AUDIT_NOTE_MAX];
    uint64_t note_size; /* entries that the note covers */
    bool dirty, frozen; /* frozen: a conflict was found and put aside */
    uint64_t written_ns;
    pthread_t thread;
    bool started; /* the thread wants to be joined */
    atomic_bool busy;
    uint8_t file[SVC_ANCHOR_FILE_MAX]; /* the thread's, while busy */
    size_t file_len;
    char path[SVC_PATH_MAX + 16];
};

struct svc_audit {
    struct svc_link *link; /* NULL: none, or the records have a sink */
    svc_audit_sink *sink;
    void *sink_ctx;
    uint8_t run[AUDIT_RUN_BYTES];
    uint64_t next; /* number of the next record */
    uint64_t gap;  /* records lost since the last that was kept */
    uint64_t records, lost, failures;
    uint8_t *queue;
    size_t begin, end, wrap; /* what waits, in the queue */
    bool wrapped;
    bool in_flight;       /* a batch from the front is not yet acknowledged: */
    size_t flight_len;    /* its bytes, */
    uint64_t flight_next; /* and the number behind its last record */
    bool urgent;          /* the timer is set for at once */
    uint64_t backoff_ms, flush_at;
    struct base_timer *timer;
    uint8_t packed[AUDIT_BATCH_MAX_BYTES + 256];
    struct svc_anchor anchor;
};

/* ---- life ---------------------------------------------------------------------------------------------------- */

dbe_err svc_audit_open(struct svc *svc) DBE_MUST_CHECK;
void svc_audit_flush(struct svc *svc);
void svc_audit_close(struct svc *svc);
void svc_audit_link_up(struct svc *svc, const struct svc_link *link);
bool svc_audit_idle(const struct svc *svc); /* nothing waits that somebody would take */
void svc_audit_refresh(struct svc *svc);    /* counters, for who asks */
void svc_audit_channel(struct svc_peer *sp);
/* What policy decided about a message of `peer` (kind: DECISION or ANSWER). */
void svc_audit_decision(struct svc *svc, uint8_t kind, const struct dbe_peer *peer, const struct dbe_msg *msg,
                        const struct pol_verdict *v);
/* The ROE token of a message was used (DBE_OK) or refused; `why` may be NULL. Its identifier is recorded, nothing
 * else of it. */
void svc_audit_roe(struct svc *svc, const struct dbe_peer *peer, const struct dbe_msg *msg, dbe_err code,
                   const char *why);
/* Number and time are filled in. */
void svc_audit_put(struct svc *svc, struct audit_record *r);

/* ---- anchor (anchor.c) --------------------------------------------------------------------------------------- */

dbe_err svc_anchor_open(struct svc *svc) DBE_MUST_CHECK;
void svc_anchor_take(struct svc *svc, uint64_t size, const uint8_t root[AUDIT_HASH_BYTES], const char *note,
                     size_t note_len);
uint64_t svc_anchor_note_size(const struct svc *svc);
void svc_anchor_close(struct svc *svc);

#endif
