/* SPDX-License-Identifier: Apache-2.0
 *
 * log.h - the log as files: the one who writes it, and whoever reads it (docs/spec/audit-v1.md, section 4).
 *
 *   <dir>/lock                                held by the writer
 *   <dir>/00000000000000004096.log            a segment: lines, the first has the index of the name
 *   <dir>/00000000000000004096.base           the tree of the entries before it
 *   <dir>/00000000000000004096.checkpoints    signed notes of the time when it was the last, one behind the other
 *   <dir>/state                               what the writer knew at the last of them that it saved
 *   <dir>/certs/<key id>.der                  certificates that the notes were signed under
 *   <dir>/archived, <dir>/archive/            what was put away, signed; and the files themselves
 *
 * Threads: an object belongs to one thread. What is acknowledged has been synced; a kill at any moment leaves at most
 * an unfinished last line.
 */
#ifndef AUDIT_LOG_H
#define AUDIT_LOG_H

#include "audit/audit.h"

#define AUDIT_ARCHIVE "archive"

enum {
    AUDIT_NAME_MAX = 33, /* 20 digits, ".checkpoints", NUL */
    AUDIT_PATH_MAX = 1024,
    AUDIT_FILES_MAX = 1 << 20,
    AUDIT_PENDING_MAX_BYTES = 32 * 1024 * 1024, /* lines between two commits */
};

/* ---- files (files.c) --------------------------------------------------------------------------------------------- */

struct audit_place { /* where a log lies */
    const char *dir, *archive; /* archive: NULL: none, or it is not wanted */
};
enum audit_file { AUDIT_FILE_LOG, AUDIT_FILE_BASE, AUDIT_FILE_NOTES };
struct audit_list { /* in the order of `first` */
    struct audit_listed {
        uint64_t first;
        const char *dir; /* of the place */
    } *files;
    size_t count, cap;
};
void audit_file_name(enum audit_file kind, uint64_t first, char ret[AUDIT_NAME_MAX]);
dbe_err audit_file_path(const char *dir, enum audit_file kind, uint64_t first, char ret[AUDIT_PATH_MAX]) DBE_MUST_CHECK;
/* E_NOT_FOUND: no such directory; E_IO, E_NOMEM. */
dbe_err audit_list(const struct audit_place *place, enum audit_file kind, struct audit_list *ret,
                   struct dbe_diag *diag) DBE_MUST_CHECK;
void audit_list_free(struct audit_list *list);
/* The archive that lies in the log's own directory; NULL: there is none. */
const char *audit_find_archive(const char *dir, char path[AUDIT_PATH_MAX]);

/* ---- where a segment begins, and what was put away (base.c) ----------------------------------------------------- */

struct audit_base {
    struct audit_tree tree;         /* of the entries before */
    uint8_t last[AUDIT_HASH_BYTES]; /* leaf hash of the last of them */
};
void audit_base_put(const struct audit_base *b, struct base_buf *out);
dbe_err audit_base_get(const char *text, size_t len, struct audit_base *ret, size_t *ret_len) DBE_MUST_CHECK;
dbe_err audit_base_read(const char *dir, uint64_t first, struct audit_base *ret, struct dbe_diag *diag) DBE_MUST_CHECK;

struct audit_archived { /* Device 14 says: entries 0 to size - 1 were put away, and entry `record` tells of it */
    char origin[AUDIT_ORIGIN_MAX];
    uint64_t size, record, time_ms;
    uint8_t root[AUDIT_HASH_BYTES]; /* of the tree of `size` */
    size_t body_len;                /* what is signed */
    uint8_t key_id[AUDIT_KEY_ID_BYTES], sig[CRYPTO_MLDSA87_SIG_BYTES];
};
dbe_err audit_archived_put(const struct audit_archived *a, const struct audit_signer *signer,
                           struct base_buf *out) DBE_MUST_CHECK;
dbe_err audit_archived_get(const char *text, size_t len, struct audit_archived *ret) DBE_MUST_CHECK;
/* Read and verify the statement of `dir`. E_NOT_FOUND: there is none; E_MALFORMED, E_AUTH, or what `key` says. */
dbe_err audit_archived_read(const char *dir, audit_key_fn *key, void *ctx, struct audit_archived *ret,
                            struct dbe_diag *diag) DBE_MUST_CHECK;
/* Is `sender` the Device 14 whose log has this origin? */
bool audit_is_own(const char *origin, struct audit_text sender);

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
/* The log's beginning is elsewhere: of a run that is not known, nothing counts as missing before its first number. */
void audit_senders_set_late(struct audit_senders *s);
bool audit_senders_late(const struct audit_senders *s);
/* As lines "run HEX NEXT SENDER", the one that was silent longest first; and one of them taken up again. */
void audit_senders_put(const struct audit_senders *s, struct base_buf *out);
void audit_senders_restore(struct audit_senders *s, struct audit_text sender, const uint8_t run[AUDIT_RUN_BYTES],
                           uint64_t next);
/* The number that the run's next record should have; 0 for an unknown run. */
uint64_t audit_senders_next(const struct audit_senders *s, const char *sender, const uint8_t run[AUDIT_RUN_BYTES]);

/* ---- certificates (certs.c) -------------------------------------------------------------------------------------- */

/* Judge a certificate at a time: for which origin may it sign ("" for none is an error), and its key. */
typedef dbe_err audit_cert_fn(void *ctx, const uint8_t *der, size_t len, uint64_t time_ms,
                              char ret_origin[AUDIT_ORIGIN_MAX], uint8_t ret_pk[CRYPTO_MLDSA87_PK_BYTES],
                              struct dbe_diag *diag);
struct audit_certs {
    const char *dir; /* of the log */
    audit_cert_fn *judge;
    void *ctx;
};
audit_key_fn audit_certs_find; /* ctx: a struct audit_certs */
dbe_err audit_certs_path(const char *dir, const uint8_t key_id[AUDIT_KEY_ID_BYTES],
                         char ret[AUDIT_PATH_MAX]) DBE_MUST_CHECK;

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
    uint8_t last[AUDIT_HASH_BYTES];  /* leaf hash of the last entry */
    uint64_t torn_bytes;             /* behind the last line feed */
    uint64_t segment, segment_bytes; /* the last one, and its whole lines */
    bool have_segment;
};
/* Where the log of `place` begins: with entry 0, or behind what was put away: then `ret_base` is the tree of that, and
 * only a root that was signed tells whether it is right. E_MALFORMED: `f` tells why nothing can be said. */
dbe_err audit_scan_begin(const struct audit_place *place, struct audit_scan_end *ret, struct audit_base *ret_base,
                         struct audit_finding *f, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Go on from there, or from where a scan before ended, in order. E_MALFORMED: the chain is broken, `f` tells where;
 * E_IO, E_NOMEM: diag. `end` is moved on as far as it went, also on an error. */
dbe_err audit_scan_more(const struct audit_place *place, audit_scan_fn *fn, void *ctx, struct audit_scan_end *end,
                        struct audit_finding *f, struct dbe_diag *diag) DBE_MUST_CHECK;

/* ---- checkpoints, one after the other (notes.c) ------------------------------------------------------------------ */

struct audit_notes;
/* All of them; or those from byte `offset` of the file of segment `first` on. */
dbe_err audit_notes_open(const struct audit_place *place, uint64_t first, uint64_t offset, struct audit_notes **ret,
                         struct dbe_diag *diag) DBE_MUST_CHECK;
/* E_NOT_FOUND: that was the last; E_MALFORMED: what follows is no checkpoint. Valid until the next call. */
dbe_err audit_notes_next(struct audit_notes *n, struct audit_note *ret, struct audit_text *ret_text,
                         struct dbe_diag *diag) DBE_MUST_CHECK;
/* The file of the last one, and where it ends in it. */
void audit_notes_place(const struct audit_notes *n, uint64_t *ret_first, uint64_t *ret_pos);
uint64_t audit_notes_torn(const struct audit_notes *n); /* bytes of an unfinished one behind the last */
void audit_notes_close(struct audit_notes *n);          /* takes NULL */

/* ---- writing (log.c, open.c, state.c, archive.c) ---------------------------------------------------------------- */

struct audit_log;
struct audit_log_config {
    const char *dir, *origin; /* copied */
    uint64_t segment_max_bytes;
    audit_key_fn *key; /* whose signatures count; NULL: nobody's, so that all is read, and from entry 0 on */
    void *key_ctx;
};
struct audit_recovery { /* what an opening found */
    uint64_t entries, torn_bytes, torn_checkpoint_bytes;
    uint64_t state, read; /* the state at so many entries was trusted, and so many were read */
    char why[192];        /* why a state was not trusted; "": it was, or there was none */
};
/* Open or make the log: reads what came after its saved state, or all of it, and cuts an unfinished last line.
 * E_EXISTS: another process writes it. E_MALFORMED: it is damaged, and nothing is added to a damaged log; diag names
 * the entry. */
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
dbe_err audit_log_checkpoint(struct audit_log *log, const struct audit_signer *signer, uint64_t time_ms,
                             struct dbe_diag *diag) DBE_MUST_CHECK;
/* Save what is known at the last checkpoint, so that the next opening begins there. E_STATE: the head has none. */
dbe_err audit_log_save(struct audit_log *log, const struct audit_signer *signer, uint64_t time_ms,
                       struct dbe_diag *diag) DBE_MUST_CHECK;
/* The last note, empty when there is none yet; valid until the next checkpoint. */
struct audit_text audit_log_note(const struct audit_log *log, uint64_t *ret_size);

struct audit_before { /* what an operator wants to be put away: all before an entry, or before a time (Unix ms) */
    bool by_time;
    uint64_t value;
};
/* Up to which entry closed segments can go. E_NOT_FOUND: none. */
dbe_err audit_log_archivable(const struct audit_log *log, const struct audit_before *before, uint64_t *ret,
                             struct dbe_diag *diag) DBE_MUST_CHECK;
/* Put entries before `upto` away, where a segment begins: a record of `sender`, a checkpoint, a statement, the files.
 * Nothing may wait for a commit. After an error the same call may be made again. */
dbe_err audit_log_archive(struct audit_log *log, uint64_t upto, const char *sender, const struct audit_signer *signer,
                          uint64_t time_ms, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Sign the statement of what was put away again if another key did: whoever renews a key and revokes the old one still
 * has an archive. */
dbe_err audit_log_restate(struct audit_log *log, const struct audit_signer *signer, uint64_t time_ms,
                          struct dbe_diag *diag) DBE_MUST_CHECK;
uint64_t audit_log_first(const struct audit_log *log); /* the first entry that is here */

/* ---- the operating system, with failures on demand (sys.c) ------------------------------------------------------- */

dbe_err audit_sys_write(int fd, const void *data, size_t len); /* all of it; E_IO with errno */
dbe_err audit_sys_sync(int fd);
dbe_err audit_sys_cut(int fd, uint64_t len);
dbe_err audit_sys_rename(const char *from, const char *to);
dbe_err audit_sys_sync_dir(const char *dir);
/* A file whole or not at all: three of the above. */
dbe_err audit_sys_replace(const char *dir, const char *name, const void *data, size_t len,
                          struct dbe_diag *diag) DBE_MUST_CHECK;
/* For tests: the n-th of these from now on fails with `error`, a write after half of its bytes; 0: none. With
 * AUDIT_SYS_KILL the process ends there, with that as its exit code. */
enum { AUDIT_SYS_KILL = 137 };
void audit_sys_fail_at(uint64_t nth, int error);
uint64_t audit_sys_count(void);

#endif
