/* SPDX-License-Identifier: Apache-2.0
 *
 * open.c - the log opened by its writer: from the state at its last checkpoint, or from its first entry (spec audit
 * 4.4, 4.9).
 *
 * In:   a directory whose files nobody vouches for    Out: the writer's memory of it; an unfinished line is cut
 * Not:  what lies before the state is not read again: that is for the verifier.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/log_priv.h"

static const char clause[] = "audit 4";

struct opening {
    struct audit_log *log;
    const struct audit_log_config *config;
    struct audit_recovery *found;
    struct audit_notes *notes;
    struct audit_note note; /* the next one */
    bool have_note;
    struct audit_scan_end end;
    struct dbe_diag *diag;
};

static dbe_err take_lock(struct audit_log *log, struct dbe_diag *diag)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[AUDIT_PATH_MAX];

    (void)snprintf(path, sizeof path, "%.*s/lock", AUDIT_PATH_MAX - AUDIT_NAME_MAX, log->dir);
    log->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log->lock_fd < 0)
        return audit_log_sys_fail(diag, "open", path);
    if (fcntl(log->lock_fd, F_SETLK, &fl) != 0)
        return dbe_fail(diag, DBE_E_EXISTS, clause, 0, "another process writes the audit log in %.120s", log->dir);
    return DBE_OK;
}

/* Logs were made with one file of checkpoints once: it is the first segment's. */
static void rename_old(const struct audit_log *log)
{
    char from[AUDIT_PATH_MAX], to[AUDIT_PATH_MAX];

    (void)snprintf(from, sizeof from, "%.*s/checkpoints", AUDIT_PATH_MAX - AUDIT_NAME_MAX, log->dir);
    if (audit_file_path(log->dir, AUDIT_FILE_NOTES, 0, to) == DBE_OK && access(to, F_OK) != 0)
        (void)!rename(from, to);
}

/* The next checkpoint; what is left behind the last whole one was torn. */
static dbe_err next_note(struct opening *o)
{
    struct audit_text text;
    dbe_err err = audit_notes_next(o->notes, &o->note, &text, o->diag);

    o->have_note = err == DBE_OK;
    if (err == DBE_E_NOT_FOUND)
        return DBE_OK;
    DBE_TRY(err);
    base_buf_clear(&o->log->note);
    base_buf_bytes(&o->log->note, text.at, text.len);
    o->log->note_size = o->note.checkpoint.size;
    audit_notes_place(o->notes, &o->log->note_segment, &o->log->note_at);
    o->log->note_at -= text.len;
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

    (void)text, (void)len;
    o->found->read++;
    DBE_TRY(audit_tree_add(&o->log->now.tree, leaf));
    (void)audit_senders_judge(o->log->senders, line->sender, line->run, line->kind, line->seq, line->count, &missing);
    return match_notes(o);
}

/* ---- from the state, or from the beginning -------------------------------------------------------------------- */

/* Entries before the first segment are elsewhere only if Device 14 signed that it put them there. */
static dbe_err check_beginning(struct opening *o, uint64_t first)
{
    struct audit_archived a = {0};
    struct dbe_diag why = {0};
    dbe_err err = DBE_E_NOT_FOUND;

    if (o->config->key != NULL)
        err = audit_archived_read(o->log->dir, o->config->key, o->config->key_ctx, &a, &why);
    if (err == DBE_OK && strcmp(a.origin, o->log->origin) != 0)
        err = dbe_fail(&why, DBE_E_MALFORMED, clause, 0, "the statement of the archive is another log's");
    if (err == DBE_OK)
        o->log->archived = a;
    if (first == 0 && err != DBE_E_NOMEM) /* nothing is missing, whatever is said of it */
        return DBE_OK;
    if (err == DBE_E_NOT_FOUND || (err == DBE_OK && a.size < first))
        return dbe_fail(o->diag, DBE_E_MALFORMED, clause, 0,
                        "entries %" PRIu64 " to %" PRIu64 " are missing, and were not archived: verify the log", a.size,
                        first - 1);
    return err == DBE_OK ? DBE_OK : dbe_fail(o->diag, err, why.clause, why.offset, "%s", why.text);
}

static dbe_err begin_with_state(struct opening *o, const struct audit_state *st)
{
    const struct audit_place place = {.dir = o->log->dir};
    uint8_t root[AUDIT_HASH_BYTES];

    o->log->now.tree = st->base.tree;
    DBE_TRY(audit_notes_open(&place, st->segment, st->note_at, &o->notes, o->diag));
    DBE_TRY(next_note(o));
    DBE_TRY(audit_tree_root(&st->base.tree, root));
    if (!o->have_note || o->note.checkpoint.size != st->base.tree.size ||
        memcmp(o->note.checkpoint.root, root, sizeof root) != 0)
        return dbe_fail(o->diag, DBE_E_MALFORMED, clause, 0, "no checkpoint is that of the state");
    DBE_TRY(audit_note_verify(&o->note, o->config->key, o->config->key_ctx, o->diag));
    o->end = (struct audit_scan_end){.entries = st->base.tree.size,
                                     .have_segment = true,
                                     .segment = st->segment,
                                     .segment_bytes = st->segment_bytes};
    memcpy(o->end.last, st->base.last, sizeof o->end.last);
    return match_notes(o);
}

static dbe_err begin_anew(struct opening *o, const struct audit_base *base)
{
    const struct audit_place place = {.dir = o->log->dir};

    o->log->now.tree = base->tree;
    if (base->tree.size > 0)
        audit_senders_set_late(o->log->senders);
    DBE_TRY(audit_notes_open(&place, 0, 0, &o->notes, o->diag));
    do /* those of archived entries may not be moved yet */
        DBE_TRY(next_note(o));
    while (o->have_note && o->note.checkpoint.size < base->tree.size);
    return match_notes(o); /* one of an empty log */
}

static dbe_err scan(struct opening *o)
{
    const struct audit_place place = {.dir = o->log->dir};
    struct audit_finding f = {0};

    DBE_TRY(audit_scan_more(&place, on_entry, o, &o->end, &f, o->diag));
    if (o->have_note)
        return dbe_fail(o->diag, DBE_E_MALFORMED, clause, 0,
                        "the log ends after %" PRIu64 " entries, but a checkpoint covers %" PRIu64 ": verify it",
                        o->end.entries, o->note.checkpoint.size);
    return DBE_OK;
}

/* What an attempt left in memory. */
static dbe_err forget(struct opening *o)
{
    struct audit_log *log = o->log;

    audit_notes_close(o->notes);
    o->notes = NULL;
    o->have_note = false;
    log->now = (struct audit_head){0};
    log->note_size = log->note_segment = log->note_at = 0;
    base_buf_clear(&log->note);
    audit_senders_free(log->senders);
    log->senders = NULL;
    *o->found = (struct audit_recovery){0};
    return audit_senders_new(&log->senders);
}

static dbe_err try_state(struct opening *o)
{
    struct audit_state st;
    dbe_err err = audit_state_read(o->config, &st, o->log->senders, o->diag);

    if (err == DBE_OK)
        err = begin_with_state(o, &st);
    if (err == DBE_OK)
        err = scan(o);
    if (err == DBE_OK)
        o->found->state = st.base.tree.size;
    return err;
}

static dbe_err read_log(struct opening *o)
{
    const struct audit_place place = {.dir = o->log->dir};
    struct audit_base base;
    struct audit_finding f = {0};
    struct dbe_diag why = {0}, *diag = o->diag;

    DBE_TRY(audit_scan_begin(&place, &o->end, &base, &f, diag));
    o->log->first = base.tree.size;
    DBE_TRY(check_beginning(o, base.tree.size));
    if (o->config->key != NULL) {
        struct audit_scan_end begin = o->end;
        o->diag = &why;
        dbe_err err = try_state(o);
        o->diag = diag;
        if (err == DBE_OK || err == DBE_E_NOMEM)
            return err == DBE_OK ? DBE_OK : dbe_fail(diag, err, clause, 0, "no memory to read the audit log");
        DBE_TRY(forget(o));
        o->end = begin;
        (void)snprintf(o->found->why, sizeof o->found->why, "%s", why.text);
    }
    DBE_TRY(begin_anew(o, &base));
    return scan(o);
}

/* ---- what is cut ---------------------------------------------------------------------------------------------- */

static dbe_err cut(int fd, uint64_t torn, uint64_t len, const char *what, struct dbe_diag *diag)
{
    if (torn == 0 || (audit_sys_cut(fd, len) == DBE_OK && audit_sys_sync(fd) == DBE_OK))
        return DBE_OK;
    return audit_log_sys_fail(diag, "cut off the end of the", what);
}

static dbe_err open_end(struct opening *o)
{
    struct audit_log *log = o->log;
    uint64_t torn = audit_notes_torn(o->notes);
    struct stat st;

    DBE_TRY(audit_log_open_segment(log, o->end.segment, o->diag));
    log->segment_bytes = o->end.segment_bytes;
    DBE_TRY(cut(log->fd, o->end.torn_bytes, log->segment_bytes, "segment", o->diag));
    if (fstat(log->notes_fd, &st) != 0)
        return audit_log_sys_fail(o->diag, "look at the checkpoints in", log->dir);
    log->notes_bytes = (uint64_t)st.st_size - torn;
    DBE_TRY(cut(log->notes_fd, torn, log->notes_bytes, "checkpoints", o->diag));
    o->found->entries = o->end.entries;
    o->found->torn_bytes = o->end.torn_bytes;
    o->found->torn_checkpoint_bytes = torn;
    return DBE_OK;
}

static dbe_err measure(struct audit_log *log, struct dbe_diag *diag)
{
    const struct audit_place place = {.dir = log->dir};
    char path[AUDIT_PATH_MAX];
    struct audit_list list;
    struct stat st;

    DBE_TRY(audit_list(&place, AUDIT_FILE_LOG, &list, diag));
    log->bytes = 0;
    for (size_t i = 0; i < list.count; i++)
        if (audit_file_path(log->dir, AUDIT_FILE_LOG, list.files[i].first, path) == DBE_OK && stat(path, &st) == 0)
            log->bytes += (uint64_t)st.st_size;
    audit_list_free(&list);
    return DBE_OK;
}

static dbe_err open_all(struct opening *o)
{
    struct audit_log *log = o->log;

    DBE_TRY(base_mkdirs(log->dir, 0700, o->diag));
    DBE_TRY(take_lock(log, o->diag));
    rename_old(log);
    DBE_TRY(audit_senders_new(&log->senders));
    DBE_TRY(read_log(o));
    memcpy(log->now.last, o->end.last, sizeof log->now.last);
    DBE_TRY(open_end(o));
    audit_senders_commit(log->senders);
    log->durable = log->now;
    DBE_TRY(audit_tree_root(&log->durable.tree, log->root));
    if (log->archived.size > 0) /* one that was interrupted is finished */
        DBE_TRY(audit_log_move(log, log->archived.size, o->diag));
    DBE_TRY(measure(log, o->diag));
    return audit_sys_sync_dir(log->dir) == DBE_OK ? DBE_OK : audit_log_sys_fail(o->diag, "sync", log->dir);
}

dbe_err audit_log_open(const struct audit_log_config *config, struct audit_log **ret, struct audit_recovery *ret_found,
                       struct dbe_diag *diag)
{
    struct audit_log *log = base_alloc(1, sizeof *log);
    struct audit_recovery found = {0};
    struct opening o = {.log = log, .config = config, .found = &found, .diag = diag};

    if (log == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, clause, 0, "no memory for the audit log");
    log->lock_fd = log->fd = log->notes_fd = -1;
    log->segment_max = config->segment_max_bytes;
    base_buf_init(&log->pending, AUDIT_PENDING_MAX_BYTES);
    base_buf_init(&log->note, AUDIT_NOTE_MAX);
    bool fits = snprintf(log->dir, sizeof log->dir, "%s", config->dir) < AUDIT_PATH_MAX - 2 * AUDIT_NAME_MAX &&
                snprintf(log->origin, sizeof log->origin, "%s", config->origin) < (int)sizeof log->origin;
    dbe_err err =
        fits ? open_all(&o) : dbe_fail(diag, DBE_E_CONFIG, clause, 0, "the audit log's path or origin is too long");
    audit_notes_close(o.notes);
    if (err != DBE_OK) {
        audit_log_close(log);
        return err;
    }
    *ret = log;
    *ret_found = found;
    return DBE_OK;
}
