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
};

struct audit_waiting { /* a batch that is answered when it is on the disk */
    struct svc_req *req;
    uint8_t run[AUDIT_RUN_BYTES];
    uint64_t has_checkpoint; /* size of the last one that its sender has */
};

struct audit_device {
    /* parameters */
    char dir[AUDIT_PATH_MAX];
    uint64_t segment_mib, checkpoint_entries, checkpoint_s;
    /* counters */
    uint64_t entries, bytes, stored, batches, refused, missing, checkpoints, write_failures;

    struct svc *svc;
    struct audit_log *log; /* NULL: could not be opened anew */
    char origin[AUDIT_ORIGIN_MAX];
    const struct dbe_credential *credential; /* whose certificate lies beside the log */
    uint8_t key_id[AUDIT_KEY_ID_BYTES], own_run[AUDIT_RUN_BYTES];
    struct base_timer *timer, *linger;
    bool due, broken, own_waits;
    uint64_t checkpoint_ns, linger_until_ns;
    struct audit_waiting waiting[AUDIT_WAITING_MAX];
    size_t waiting_count;
};

extern const struct svc_device audit_device;

#endif
