/* SPDX-License-Identifier: Apache-2.0
 *
 * log.c - the log's one writer: lines are gathered, written and synced together; a failed write leaves nothing behind.
 *
 * In:   records of senders    Out: segments, checkpoints
 * Not:  it decides neither when to commit nor when to sign; it knows no clock.
 *
 * `now` is what the next commit makes durable, `durable` what is: a commit copies one to the other, in whichever
 * direction the disk decides.
 */
#include "audit/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct head {
    struct audit_tree tree;
    uint8_t last[AUDIT_HASH_BYTES];
};

struct audit_log {
    char dir[AUDIT_PATH_MAX], origin[AUDIT_ORIGIN_MAX];
    uint64_t segment_max, segment_bytes, bytes;
    int lock_fd, fd, checkpoints_fd; /* -1: none */
    uint64_t checkpoints_bytes, note_size;
    struct head now, durable;
    uint8_t root[AUDIT_HASH_BYTES]; /* of durable */
    struct audit_senders *senders;
    struct base_buf pending, note;
    bool failed;
};

static const char clause[] = "audit 4";

static dbe_err sys_fail(struct dbe_diag *diag, const char *what, const char *path)
{
    return dbe_fail(diag, DBE_E_IO, clause, 0, "cannot %s %.110s: %s", what, path, strerror(errno));
}

static dbe_err path_of(const struct audit_log *log, const char *name, char ret[AUDIT_PATH_MAX])
{
    return snprintf(ret, AUDIT_PATH_MAX, "%s/%s", log->dir, name) < AUDIT_PATH_MAX ? DBE_OK : DBE_E_TOO_LARGE;
}

static dbe_err sync_dir(const struct audit_log *log, struct dbe_diag *diag)
{
    BASE_AUTO_CLOSE int fd = open(log->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL))
        return sys_fail(diag, "sync", log->dir);
    return DBE_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------- */

static dbe_err take_lock(struct audit_log *log, struct dbe_diag *diag)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[AUDIT_PATH_MAX];

    DBE_TRY(path_of(log, "lock", path));
    log->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log->lock_fd < 0)
        return sys_fail(diag, "open", path);
    if (fcntl(log->lock_fd, F_SETLK, &fl) != 0)
        return dbe_fail(diag, DBE_E_EXISTS, clause, 0, "another process writes the audit log in %.120s", log->dir);
    return DBE_OK;
}

static dbe_err open_append(const struct audit_log *log, const char *name, int *ret, struct dbe_diag *diag)
{
    char path[AUDIT_PATH_MAX];

    DBE_TRY(path_of(log, name, path));
    *ret = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return *ret >= 0 ? DBE_OK : sys_fail(diag, "open", path);
}

static dbe_err new_segment(struct audit_log *log, struct dbe_diag *diag)
{
    char name[AUDIT_SEGMENT_NAME];

    snprintf(name, sizeof name, "%020" PRIu64 ".log", log->durable.tree.size);
    if (log->fd >= 0)
        close(log->fd);
    log->fd = -1;
    DBE_TRY(open_append(log, name, &log->fd, diag));
    log->segment_bytes = 0;
    return sync_dir(log, diag);
}

/* Opening reads everything: chain, tree, senders, and that each checkpoint is of this log. */
struct opening {
    struct audit_log *log;
    const char *at, *end; /* notes that are still to come */
    struct audit_note note;
    bool have_note;
    uint64_t torn_bytes;
    struct dbe_diag *diag;
};

/* The next checkpoint; what is left behind the last whole one was torn. */
static dbe_err next_note(struct opening *o)
{
    size_t len;

    o->have_note = false;
    if (o->at == o->end)
        return DBE_OK;
    if (audit_note_get(o->at, (size_t)(o->end - o->at), &o->note, &len) != DBE_OK) {
        o->torn_bytes = (uint64_t)(o->end - o->at);
        if (o->torn_bytes >= AUDIT_NOTE_MAX || o->end[-1] == '\n')
            return dbe_fail(o->diag, DBE_E_MALFORMED, clause, 0, "the file of checkpoints is damaged: verify the log");
        return DBE_OK;
    }
    base_buf_clear(&o->log->note);
    base_buf_bytes(&o->log->note, o->at, len);
    o->log->note_size = o->note.checkpoint.size;
    o->at += len;
    o->have_note = true;
    return o->log->note.err;
}

/* Checkpoints of the size that the tree has now. */
static dbe_err match_notes(struct opening *o)
{
    uint8_t root[AUDIT_HASH_BYTES];
    uint64_t size = o->log->now.tree.size;

    while (o->have_note && o->note.checkpoint.size <= size) {
        DBE_TRY(audit_tree_root(&o->log->now.tree, root));
        if (o->note.checkpoint.size != size || memcmp(root, o->note.checkpoint.root, sizeof root) != 0)
            return dbe_fail(o->diag, DBE_E_MALFORMED, clause, 0,
                            "the log is not the one of checkpoint %" PRIu64 ": verify it", o->note.checkpoint.size);
        DBE_TRY(next_note(o));
    }
    return DBE_OK;
}

static dbe_err on_entry(void *ctx, const struct audit_line *line, const char *text, size_t len,
                        const uint8_t leaf[AUDIT_HASH_BYTES])
{
    struct opening *o = ctx;
    uint64_t missing;

    (void)text;
    o->log->bytes += len + 1;
    DBE_TRY(audit_tree_add(&o->log->now.tree, leaf));
    (void)audit_senders_judge(o->log->senders, line->sender, line->run, line->kind, line->seq, line->count, &missing);
    return match_notes(o);
}

static dbe_err cut_torn(struct audit_log *log, const struct audit_scan_end *end, struct dbe_diag *diag)
{
    if (end->segment[0] == '\0')
        return new_segment(log, diag);
    DBE_TRY(open_append(log, end->segment, &log->fd, diag));
    log->segment_bytes = end->segment_bytes;
    if (end->torn_bytes == 0)
        return DBE_OK;
    if (audit_sys_cut(log->fd, end->segment_bytes) != DBE_OK || audit_sys_sync(log->fd) != DBE_OK)
        return sys_fail(diag, "cut the unfinished line off", end->segment);
    return DBE_OK;
}

static dbe_err cut_checkpoints(struct audit_log *log, const struct opening *o, uint64_t total, struct dbe_diag *diag)
{
    DBE_TRY(open_append(log, "checkpoints", &log->checkpoints_fd, diag));
    log->checkpoints_bytes = total - o->torn_bytes;
    if (o->torn_bytes == 0)
        return DBE_OK;
    if (audit_sys_cut(log->checkpoints_fd, log->checkpoints_bytes) != DBE_OK ||
        audit_sys_sync(log->checkpoints_fd) != DBE_OK)
        return sys_fail(diag, "cut the unfinished note off", "checkpoints");
    return DBE_OK;
}

static dbe_err recover(struct audit_log *log, const struct base_buf *notes, struct audit_recovery *found,
                       struct dbe_diag *diag)
{
    struct opening o = {.log = log, .diag = diag};
    struct audit_scan_end end;
    struct audit_finding f = {0};

    o.at = (const char *)notes->data;
    o.end = o.at + notes->len;
    DBE_TRY(next_note(&o));
    DBE_TRY(match_notes(&o)); /* one of an empty log */
    DBE_TRY(audit_scan(log->dir, on_entry, &o, &end, &f, diag));
    if (o.have_note)
        return dbe_fail(diag, DBE_E_MALFORMED, clause, 0,
                        "the log ends after %" PRIu64 " entries, but a checkpoint covers %" PRIu64 ": verify it",
                        end.entries, o.note.checkpoint.size);
    DBE_TRY(cut_torn(log, &end, diag));
    DBE_TRY(cut_checkpoints(log, &o, notes->len, diag));
    memcpy(log->now.last, end.last, sizeof end.last);
    *found = (struct audit_recovery){end.entries, end.torn_bytes, o.torn_bytes};
    return DBE_OK;
}

static dbe_err open_all(struct audit_log *log, struct audit_recovery *found, struct dbe_diag *diag)
{
    struct base_buf notes = {0};

    DBE_TRY(base_mkdirs(log->dir, 0700, diag));
    DBE_TRY(take_lock(log, diag));
    DBE_TRY(audit_senders_new(&log->senders));
    dbe_err err = audit_read_checkpoints(log->dir, &notes, diag);
    if (err == DBE_OK)
        err = recover(log, &notes, found, diag);
    base_buf_free(&notes);
    DBE_TRY(err);
    audit_senders_commit(log->senders);
    log->durable = log->now;
    DBE_TRY(audit_tree_root(&log->durable.tree, log->root));
    return sync_dir(log, diag);
}

dbe_err audit_log_open(const struct audit_log_config *config, struct audit_log **ret, struct audit_recovery *ret_found,
                       struct dbe_diag *diag)
{
    struct audit_log *log = base_alloc(1, sizeof *log);
    struct audit_recovery found;

    if (log == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory for the audit log");
    log->lock_fd = log->fd = log->checkpoints_fd = -1;
    log->segment_max = config->segment_max_bytes;
    base_buf_init(&log->pending, AUDIT_PENDING_MAX_BYTES);
    base_buf_init(&log->note, AUDIT_NOTE_MAX);
    bool fits = snprintf(log->dir, sizeof log->dir, "%s", config->dir) < (int)sizeof log->dir - AUDIT_SEGMENT_NAME &&
                snprintf(log->origin, sizeof log->origin, "%s", config->origin) < (int)sizeof log->origin;
    dbe_err err = fits ? open_all(log, &found, diag)
                       : dbe_fail(diag, DBE_E_CONFIG, clause, 0, "the audit log's path or origin is too long");
    if (err != DBE_OK) {
        audit_log_close(log);
        return err;
    }
    *ret = log;
    *ret_found = found;
    return DBE_OK;
}

void audit_log_close(struct audit_log *log)
{
    if (log == NULL)
        return;
    if (log->fd >= 0)
        close(log->fd);
    if (log->checkpoints_fd >= 0)
        close(log->checkpoints_fd);
    if (log->lock_fd >= 0)
        close(log->lock_fd);
    audit_senders_free(log->senders);
    base_buf_free(&log->pending);
    base_buf_free(&log->note);
    base_free(log);
}

/* ---- adding -------------------------------------------------------------------------------------------------- */

static void rollback(struct audit_log *log)
{
    base_buf_clear(&log->pending);
    log->now = log->durable;
    audit_senders_rollback(log->senders);
}

/* On an error nothing was added. */
static dbe_err add_line(struct audit_log *log, const struct audit_entry *e)
{
    size_t before = log->pending.len;
    uint8_t leaf[AUDIT_HASH_BYTES];
    dbe_err err = audit_line_put(e, &log->pending);

    if (err == DBE_OK)
        err = audit_leaf_hash(log->pending.data + before, log->pending.len - before, leaf);
    if (err == DBE_OK) {
        base_buf_u8(&log->pending, '\n');
        err = log->pending.err;
    }
    if (err == DBE_OK)
        err = audit_tree_add(&log->now.tree, leaf);
    if (err != DBE_OK) {
        log->pending.len = before;
        log->pending.err = DBE_OK;
        return err == DBE_E_TOO_LARGE ? DBE_E_LIMIT : err;
    }
    memcpy(log->now.last, leaf, sizeof leaf);
    return DBE_OK;
}

dbe_err audit_log_add(struct audit_log *log, const char *sender, const uint8_t run[AUDIT_RUN_BYTES],
                      const struct audit_record *record, uint64_t stored_ms, uint64_t *ret_missing)
{
    struct audit_entry e = {.index = log->now.tree.size, .stored_ms = stored_ms, .sender = sender, .record = *record};
    struct audit_text who = {sender, strlen(sender)};

    if (log->failed)
        return DBE_E_IO;
    if (log->pending.len + AUDIT_LINE_MAX > AUDIT_PENDING_MAX_BYTES)
        return DBE_E_LIMIT;
    *ret_missing = 0;
    if (audit_senders_judge(log->senders, who, run, record->kind, record->seq, record->count, ret_missing) ==
        AUDIT_AGAIN)
        return DBE_OK;
    memcpy(e.prev, log->now.last, sizeof e.prev);
    memcpy(e.run, run, sizeof e.run);
    dbe_err err = add_line(log, &e);
    if (err != DBE_OK)
        rollback(log);
    return err;
}

/* ---- committing ---------------------------------------------------------------------------------------------- */

/* A sync that failed may have thrown dirty pages away: only a new look at the files tells what they hold. */
static dbe_err write_pending(struct audit_log *log, struct dbe_diag *diag)
{
    if (log->segment_bytes > 0 && log->segment_bytes + log->pending.len > log->segment_max)
        DBE_TRY(new_segment(log, diag));
    if (log->fd < 0)
        return dbe_fail(diag, DBE_E_IO, clause, 0, "the audit log has no file to write to");
    if (audit_sys_write(log->fd, log->pending.data, log->pending.len) != DBE_OK) {
        dbe_err err = sys_fail(diag, "write the audit log in", log->dir);
        log->failed = audit_sys_cut(log->fd, log->segment_bytes) != DBE_OK;
        return err;
    }
    if (audit_sys_sync(log->fd) != DBE_OK) {
        log->failed = true;
        return sys_fail(diag, "sync the audit log in", log->dir);
    }
    return DBE_OK;
}

dbe_err audit_log_commit(struct audit_log *log, struct dbe_diag *diag)
{
    uint8_t root[AUDIT_HASH_BYTES];

    if (log->failed)
        return dbe_fail(diag, DBE_E_IO, clause, 0, "the audit log failed and must be opened anew");
    if (log->pending.len == 0) {
        audit_senders_commit(log->senders);
        return DBE_OK;
    }
    dbe_err err = audit_tree_root(&log->now.tree, root);
    if (err == DBE_OK)
        err = write_pending(log, diag);
    if (err != DBE_OK) {
        rollback(log);
        return err;
    }
    log->segment_bytes += log->pending.len;
    log->bytes += log->pending.len;
    memcpy(log->root, root, sizeof root);
    log->durable = log->now;
    audit_senders_commit(log->senders);
    base_buf_clear(&log->pending);
    return DBE_OK;
}

bool audit_log_failed(const struct audit_log *log)
{
    return log->failed;
}

void audit_log_head(const struct audit_log *log, uint64_t *ret_size, uint8_t ret_root[AUDIT_HASH_BYTES])
{
    *ret_size = log->durable.tree.size;
    memcpy(ret_root, log->root, AUDIT_HASH_BYTES);
}

uint64_t audit_log_bytes(const struct audit_log *log)
{
    return log->bytes;
}

uint64_t audit_log_next(const struct audit_log *log, const char *sender, const uint8_t run[AUDIT_RUN_BYTES])
{
    return audit_senders_next(log->senders, sender, run);
}

/* ---- checkpoints --------------------------------------------------------------------------------------------- */

static dbe_err write_note(struct audit_log *log, const struct base_buf *note, struct dbe_diag *diag)
{
    if (audit_sys_write(log->checkpoints_fd, note->data, note->len) == DBE_OK &&
        audit_sys_sync(log->checkpoints_fd) == DBE_OK)
        return DBE_OK;
    dbe_err err = sys_fail(diag, "write checkpoints in", log->dir);
    log->failed = audit_sys_cut(log->checkpoints_fd, log->checkpoints_bytes) != DBE_OK;
    return err;
}

dbe_err audit_log_checkpoint(struct audit_log *log, const uint8_t key_id[AUDIT_KEY_ID_BYTES], audit_sign_fn *sign,
                             void *ctx, uint64_t time_ms, struct dbe_diag *diag)
{
    struct audit_checkpoint c = {.size = log->durable.tree.size, .time_ms = time_ms};
    uint8_t body[AUDIT_BODY_MAX], sig[CRYPTO_MLDSA87_SIG_BYTES];
    struct base_buf text, note;

    if (log->failed)
        return dbe_fail(diag, DBE_E_IO, clause, 0, "the audit log failed and must be opened anew");
    snprintf(c.origin, sizeof c.origin, "%s", log->origin);
    memcpy(c.root, log->root, sizeof c.root);
    base_buf_init_fixed(&text, body, sizeof body);
    DBE_TRY(audit_checkpoint_put(&c, &text));
    DBE_TRY(sign(ctx, text.data, text.len, sig));
    base_buf_init(&note, AUDIT_NOTE_MAX);
    dbe_err err = audit_note_put(&c, key_id, sig, &note);
    if (err == DBE_OK)
        err = write_note(log, &note, diag);
    if (err != DBE_OK) {
        base_buf_free(&note);
        return err;
    }
    log->checkpoints_bytes += note.len;
    log->note_size = c.size;
    base_buf_free(&log->note);
    log->note = note;
    return DBE_OK;
}

struct audit_text audit_log_note(const struct audit_log *log, uint64_t *ret_size)
{
    *ret_size = log->note_size;
    return (struct audit_text){(const char *)log->note.data, log->note.len};
}
