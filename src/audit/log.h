/* SPDX-License-Identifier: Apache-2.0
 *
 * log.h - the log as files: the one who writes it, and whoever reads it (docs/spec/audit-v1.md, section 4).
 *
 *   <dir>/lock                        held by the writer
 *   <dir>/00000000000000000000.log    a segment: lines, the first has the index of the name
 *   <dir>/checkpoints                 signed notes, one behind the other
 *   <dir>/certs/<key id>.crt          certificates that the notes were signed under
 *
 * Threads: an object belongs to one thread. What is acknowledged has been synced; a kill at any moment leaves at most
 * an unfinished last line.
 */
#ifndef AUDIT_LOG_H
#define AUDIT_LOG_H

#include "audit/audit.h"

enum {
    AUDIT_SEGMENT_NAME = 25, /* 20 digits, ".log", NUL */
    AUDIT_PATH_MAX = 1024,
    AUDIT_CHECKPOINTS_MAX_BYTES = 1 << 30,
    AUDIT_PENDING_MAX_BYTES = 32 * 1024 * 1024, /* lines between two commits */
};

/* ---- senders (senders.c): whose records have come up to which number ------------------------------------------- */

struct audit_senders;
enum audit_seen { AUDIT_NEW, AUDIT_AGAIN };
dbe_err audit_senders_new(struct audit_senders **ret) DBE_MUST_CHECK;
void audit_senders_free(struct audit_senders *s); /* takes NULL */
/* Judge the next record of a run: is it one that was there already; `ret_missing`: how many before it never came. */
enum audit_seen audit_senders_judge(struct audit_senders *s, struct audit_text sender,
                                    const uint8_t run[AUDIT_RUN_BYTES], uint8_t kind, uint64_t seq, uint64_t count,
                                    uint64_t *ret_missing);
void audit_senders_commit(struct audit_senders *s);   /* what was judged since counts */
void audit_senders_rollback(struct audit_senders *s); /* it does not */
/* The number that the run's next record should have; 0 for an unknown run. */
uint64_t audit_senders_next(const struct audit_senders *s, const char *sender, const uint8_t run[AUDIT_RUN_BYTES]);

/* ---- reading (scan.c) ------------------------------------------------------------------------------------------- */

/* What is wrong, for people and for exit codes. */
enum audit_wrong {
    AUDIT_RIGHT,
    AUDIT_WRONG_CHAIN,     /* an entry was changed, removed, inserted or moved */
    AUDIT_WRONG_SIGNATURE, /* a checkpoint is not signed by device 14 of this mesh */
    AUDIT_WRONG_ANCHOR,    /* the log, or a checkpoint, is not the one that somebody saw */
};
struct audit_finding {
    enum audit_wrong what;
    uint64_t entry; /* the first that is affected */
    char text[256];
};
void audit_found(struct audit_finding *f, enum audit_wrong what, uint64_t entry, const char *fmt, ...)
    DBE_PRINTF(4, 5); /* the first finding stays */

/* One entry whose place in the chain is right. Anything but DBE_OK ends the scan and is handed on. */
typedef dbe_err audit_scan_fn(void *ctx, const struct audit_line *line, const char *text, size_t len,
                              const uint8_t leaf[AUDIT_HASH_BYTES]);
struct audit_scan_end {
    uint64_t entries;
    uint8_t last[AUDIT_HASH_BYTES];   /* leaf hash of the last entry */
    uint64_t torn_bytes;              /* behind the last line feed */
    char segment[AUDIT_SEGMENT_NAME]; /* the last; "": there is none */
    uint64_t segment_bytes;           /* of its whole lines */
};
/* Read the whole log of `dir` in order. E_MALFORMED: the chain is broken, `f` tells where; E_IO, E_NOMEM: diag. */
dbe_err audit_scan(const char *dir, audit_scan_fn *fn, void *ctx, struct audit_scan_end *ret, struct audit_finding *f,
                   struct dbe_diag *diag) DBE_MUST_CHECK;
/* Go on from where the scan that left `end` did, for whoever follows a log that grows. */
dbe_err audit_scan_more(const char *dir, audit_scan_fn *fn, void *ctx, struct audit_scan_end *end,
                        struct audit_finding *f, struct dbe_diag *diag) DBE_MUST_CHECK;
/* The file of checkpoints; a missing one is an empty one. */
dbe_err audit_read_checkpoints(const char *dir, struct base_buf *out, struct dbe_diag *diag) DBE_MUST_CHECK;

/* ---- writing (log.c) --------------------------------------------------------------------------------------------- */

struct audit_log;
struct audit_log_config {
    const char *dir, *origin; /* copied */
    uint64_t segment_max_bytes;
};
struct audit_recovery { /* what an opening found */
    uint64_t entries, torn_bytes, torn_checkpoint_bytes;
};
/* Open or make the log: reads all of it, and cuts an unfinished last line. E_EXISTS: another process writes it.
 * E_MALFORMED: it is damaged, and nothing is added to a damaged log; diag names the entry. */
dbe_err audit_log_open(const struct audit_log_config *config, struct audit_log **ret, struct audit_recovery *ret_found,
                       struct dbe_diag *diag) DBE_MUST_CHECK;
void audit_log_close(struct audit_log *log); /* takes NULL; what was not committed is gone */
/* Add a record to what the next commit writes. A record that was added before is passed over. E_LIMIT: commit first,
 * nothing changed. After any other error all that was added since the last commit is void. */
dbe_err audit_log_add(struct audit_log *log, const char *sender, const uint8_t run[AUDIT_RUN_BYTES],
                      const struct audit_record *record, uint64_t stored_ms, uint64_t *ret_missing) DBE_MUST_CHECK;
/* Write and sync what was added: all of it, or none. After E_IO the log is as it was before, and may be tried again,
 * unless audit_log_failed. */
dbe_err audit_log_commit(struct audit_log *log, struct dbe_diag *diag) DBE_MUST_CHECK;
bool audit_log_failed(const struct audit_log *log); /* for good: open it anew */
/* What is on the disk. */
void audit_log_head(const struct audit_log *log, uint64_t *ret_size, uint8_t ret_root[AUDIT_HASH_BYTES]);
uint64_t audit_log_bytes(const struct audit_log *log);
/* The number that a run's next record should have, by what is on the disk. */
uint64_t audit_log_next(const struct audit_log *log, const char *sender, const uint8_t run[AUDIT_RUN_BYTES]);
/* Sign the head and keep the note. */
typedef dbe_err audit_sign_fn(void *ctx, const void *msg, size_t len, uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES]);
dbe_err audit_log_checkpoint(struct audit_log *log, const uint8_t key_id[AUDIT_KEY_ID_BYTES], audit_sign_fn *sign,
                             void *ctx, uint64_t time_ms, struct dbe_diag *diag) DBE_MUST_CHECK;
/* The last note, empty when there is none yet; valid until the next checkpoint. */
struct audit_text audit_log_note(const struct audit_log *log, uint64_t *ret_size);

/* ---- the operating system, with failures on demand (sys.c) ------------------------------------------------------- */

dbe_err audit_sys_write(int fd, const void *data, size_t len); /* all of it; E_IO with errno */
dbe_err audit_sys_sync(int fd);
dbe_err audit_sys_cut(int fd, uint64_t len);
/* For tests: the n-th of these from now on fails with `error`, a write after half of its bytes; 0: none. */
void audit_sys_fail_at(uint64_t nth, int error);
uint64_t audit_sys_count(void);

#endif
