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
#include "audit/log_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char clause[] = "audit 4";

dbe_err audit_log_sys_fail(struct dbe_diag *diag, const char *what, const char *path)
{
    return dbe_fail(diag, DBE_E_IO, clause, 0, "cannot %s %.110s: %s", what, path, strerror(errno));
}

/* ---- segments ------------------------------------------------------------------------------------------------ */

static dbe_err open_append(const struct audit_log *log, enum audit_file kind, uint64_t first, int *ret,
                           struct dbe_diag *diag)
{
    char path[AUDIT_PATH_MAX];

    DBE_TRY(audit_file_path(log->dir, kind, first, path));
    *ret = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return *ret >= 0 ? DBE_OK : audit_log_sys_fail(diag, "open", path);
}

static void take_fd(int *to, int *from)
{
    if (*to >= 0)
        close(*to);
    *to = *from;
    *from = -1;
}

/* The segment and its checkpoints, made if they are not there. On an error the log goes on with what it had. */
dbe_err audit_log_open_segment(struct audit_log *log, uint64_t first, struct dbe_diag *diag)
{
    BASE_AUTO_CLOSE int fd = -1, notes_fd = -1;

    DBE_TRY(open_append(log, AUDIT_FILE_NOTES, first, &notes_fd, diag));
    DBE_TRY(open_append(log, AUDIT_FILE_LOG, first, &fd, diag));
    if (audit_sys_sync_dir(log->dir) != DBE_OK)
        return audit_log_sys_fail(diag, "sync", log->dir);
    take_fd(&log->fd, &fd);
    take_fd(&log->notes_fd, &notes_fd);
    log->segment = first;
    log->segment_bytes = log->notes_bytes = 0;
    return DBE_OK;
}

/* Where it begins is written first: a segment never lacks that. */
static dbe_err new_segment(struct audit_log *log, struct dbe_diag *diag)
{
    struct audit_base base = {.tree = log->durable.tree};
    char name[AUDIT_NAME_MAX];
    struct base_buf text;

    memcpy(base.last, log->durable.last, sizeof base.last);
    audit_file_name(AUDIT_FILE_BASE, base.tree.size, name);
    base_buf_init(&text, AUDIT_NOTE_MAX);
    audit_base_put(&base, &text);
    dbe_err err = text.err;
    if (err == DBE_OK)
        err = audit_sys_replace(log->dir, name, text.data, text.len, diag);
    base_buf_free(&text);
    DBE_TRY(err);
    return audit_log_open_segment(log, base.tree.size, diag);
}

void audit_log_close(struct audit_log *log)
{
    if (log == NULL)
        return;
    if (log->fd >= 0)
        close(log->fd);
    if (log->notes_fd >= 0)
        close(log->notes_fd);
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
    if (audit_sys_write(log->fd, log->pending.data, log->pending.len) != DBE_OK) {
        dbe_err err = audit_log_sys_fail(diag, "write the audit log in", log->dir);
        log->failed = audit_sys_cut(log->fd, log->segment_bytes) != DBE_OK;
        return err;
    }
    if (audit_sys_sync(log->fd) != DBE_OK) {
        log->failed = true;
        return audit_log_sys_fail(diag, "sync the audit log in", log->dir);
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

uint64_t audit_log_first(const struct audit_log *log)
{
    return log->first;
}

uint64_t audit_log_next(const struct audit_log *log, const char *sender, const uint8_t run[AUDIT_RUN_BYTES])
{
    return audit_senders_next(log->senders, sender, run);
}

/* ---- checkpoints --------------------------------------------------------------------------------------------- */

static dbe_err write_note(struct audit_log *log, const struct base_buf *note, struct dbe_diag *diag)
{
    if (audit_sys_write(log->notes_fd, note->data, note->len) == DBE_OK && audit_sys_sync(log->notes_fd) == DBE_OK)
        return DBE_OK;
    dbe_err err = audit_log_sys_fail(diag, "write checkpoints in", log->dir);
    log->failed = audit_sys_cut(log->notes_fd, log->notes_bytes) != DBE_OK;
    return err;
}

dbe_err audit_log_checkpoint(struct audit_log *log, const struct audit_signer *signer, uint64_t time_ms,
                             struct dbe_diag *diag)
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
    DBE_TRY(signer->sign(signer->ctx, AUDIT_CHECKPOINT_CTX, text.data, text.len, sig));
    base_buf_init(&note, AUDIT_NOTE_MAX);
    dbe_err err = audit_note_put(&c, signer->key_id, sig, &note);
    if (err == DBE_OK)
        err = write_note(log, &note, diag);
    if (err != DBE_OK) {
        base_buf_free(&note);
        return err;
    }
    log->note_segment = log->segment;
    log->note_at = log->notes_bytes;
    log->notes_bytes += note.len;
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
