/* SPDX-License-Identifier: Apache-2.0
 *
 * audit.h - what Device 14 holds.
 */
#ifndef DEVICES_AUDIT_AUDIT_H
#define DEVICES_AUDIT_AUDIT_H

#include "audit/log.h"
#include "runtime/svc.h"

enum {
    AUDIT_WAITING_MAX = 1024, /* batches between two commits */
    AUDIT_LINGER_MS = 3000,   /* a stopping log waits so long for the last records of others */
    AUDIT_LINGER_POLL_MS = 20,
    AUDIT_SAVE_ENTRIES = 16384, /* the state is saved after so many entries, */
    AUDIT_SAVE_S = 60,          /* or so long after the last time, with the next checkpoint */
    AUDIT_RETENTION_S = 3600,   /* how often is looked for what is old enough for the archive */
};

struct audit_waiting { /* a batch that is answered when it is on the disk */
    struct svc_req *req;
    uint8_t run[AUDIT_RUN_BYTES];
    uint64_t has_checkpoint; /* size of the last one that its sender has */
};

struct audit_device {
    /* parameters */
    char dir[AUDIT_PATH_MAX];
    uint64_t segment_mib, checkpoint_entries, checkpoint_s, retention_days;
    /* counters */
    uint64_t entries, bytes, stored, batches, refused, missing, checkpoints, write_failures, archived;

    struct svc *svc;
    struct audit_log *log; /* NULL: could not be opened anew */
    char origin[AUDIT_ORIGIN_MAX];
    const struct dbe_credential *credential; /* whose certificate lies beside the log */
    struct audit_certs certs;
    struct audit_signer signer;
    uint8_t own_run[AUDIT_RUN_BYTES];
    struct base_timer *timer, *linger;
    bool due, broken, own_waits;
    uint64_t checkpoint_ns, linger_until_ns, saved_ns, saved, retention_ns;
    struct audit_waiting waiting[AUDIT_WAITING_MAX];
    size_t waiting_count;
};

extern const struct svc_device audit_device;

void audit_dev_complain(struct audit_device *d, const char *what, dbe_err err, const struct dbe_diag *diag);

/* ---- keys and checkpoints (checkpoint.c) --------------------------------------------------------------------- */

void audit_dev_keys(struct audit_device *d); /* once, before the log is opened */
/* Sign with the service's credential, which may be another than the last time. */
dbe_err audit_dev_adopt(struct audit_device *d, struct dbe_diag *diag) DBE_MUST_CHECK;
void audit_dev_checkpoint(struct audit_device *d, bool save);
void audit_dev_checkpoint_if_due(struct audit_device *d);

/* ---- the log on the disk (store.c) --------------------------------------------------------------------------- */

dbe_err audit_dev_open(struct audit_device *d, struct dbe_diag *diag) DBE_MUST_CHECK;
void audit_dev_commit(struct audit_device *d);
void audit_dev_commit_soon(struct audit_device *d);
/* Answer who waits: it is on the disk, or it is not. */
void audit_dev_settle(struct audit_device *d, dbe_err err);
/* Put away what `before` says, as far as segments are closed; a line for people into `said`. */
dbe_err audit_dev_archive(struct audit_device *d, const struct audit_before *before, struct base_buf *said,
                          struct dbe_diag *diag) DBE_MUST_CHECK;
void audit_dev_retention(struct audit_device *d); /* what the parameter asks for, now and then */
dbe_err audit_dev_order(struct svc *svc, void *state, const char *what, const char *value, struct base_buf *said,
                        struct dbe_diag *diag);

/* ---- records (take.c) ---------------------------------------------------------------------------------------- */

dbe_err audit_dev_on_records(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg);
dbe_err audit_dev_own_records(void *ctx, const uint8_t run[8], const void *records, size_t len);

#endif
