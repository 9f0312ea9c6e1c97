/* SPDX-License-Identifier: Apache-2.0
 *
 * log_priv.h - what the parts of the writer share: opening (open.c), adding (log.c), state and archive. Nobody else
 * includes it.
 */
#ifndef AUDIT_LOG_PRIV_H
#define AUDIT_LOG_PRIV_H

#include "audit/log.h"

struct audit_head {
    struct audit_tree tree;
    uint8_t last[AUDIT_HASH_BYTES];
};

struct audit_log {
    char dir[AUDIT_PATH_MAX], origin[AUDIT_ORIGIN_MAX];
    uint64_t segment_max, bytes;
    uint64_t first;                  /* entry of the first segment that is here */
    uint64_t segment, segment_bytes; /* the last: its first entry, its length */
    int lock_fd, fd, notes_fd;       /* -1: none */
    uint64_t notes_bytes, note_size; /* of the last segment's checkpoints; entries that the last one covers */
    uint64_t note_segment, note_at;  /* where it lies: its file, its first byte */
    struct audit_head now, durable;
    uint8_t root[AUDIT_HASH_BYTES]; /* of durable */
    struct audit_senders *senders;
    struct base_buf pending, note;
    struct audit_archived archived; /* what was put away, as it is signed for; size 0: nothing */
    bool failed;
};

dbe_err audit_log_sys_fail(struct dbe_diag *diag, const char *what, const char *path);
dbe_err audit_log_open_segment(struct audit_log *log, uint64_t first, struct dbe_diag *diag) DBE_MUST_CHECK;

/* What the writer knew at a checkpoint (state.c). */
struct audit_state {
    struct audit_base base; /* all entries that the checkpoint covers */
    uint64_t segment, segment_bytes, note_at;
    bool late;
};
dbe_err audit_state_get(const char *text, size_t len, const char *origin, audit_key_fn *key, void *ctx,
                        struct audit_state *ret, struct audit_senders *senders, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Read the state file; the senders' numbers go into `senders`, also on error. */
dbe_err audit_state_read(const struct audit_log_config *c, struct audit_state *ret, struct audit_senders *senders,
                         struct dbe_diag *diag) DBE_MUST_CHECK;
/* Move what a statement says is archived; what is moved already is passed over (archive.c). */
dbe_err audit_log_move(struct audit_log *log, uint64_t below, struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
