/* SPDX-License-Identifier: Apache-2.0
 *
 * archive.c - closed segments put away (spec audit 10): first a record in the log, then a checkpoint over it, then a
 * signed statement, and only then are files moved. Whatever of it was interrupted, an opening finishes, or the
 * next archive does anew.
 *
 * In:   an operator's decision: which entries    Out: <dir>/archive, from where they may be carried away
 * Not:  nothing is deleted, and no segment goes that is written to or that no checkpoint covers.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/log_priv.h"

static const char clause[] = "audit 10";

/* ---- which ------------------------------------------------------------------------------------------------------ */

/* The time that a segment's first line says it was stored at, as it stands there. */
static dbe_err first_stored(const char *dir, uint64_t first, char ret[32])
{
    static const char word[] = ",\"stored\":\"";
    char path[AUDIT_PATH_MAX], front[512];

    DBE_TRY(audit_file_path(dir, AUDIT_FILE_LOG, first, path));
    BASE_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t got = fd >= 0 ? read(fd, front, sizeof front - 1) : -1;
    if (got <= 0)
        return DBE_E_IO;
    front[got] = '\0';
    const char *at = strstr(front, word);
    if (at == NULL || strlen(at) < sizeof word - 1 + AUDIT_TIME_CHARS)
        return DBE_E_MALFORMED;
    memcpy(ret, at + sizeof word - 1, AUDIT_TIME_CHARS);
    ret[AUDIT_TIME_CHARS] = '\0';
    return DBE_OK;
}

/* May everything below `first`, where a segment begins, be put away? Times are compared as text: they have one form. */
static bool may_go(const struct audit_log *log, uint64_t first, const struct audit_before *before)
{
    char stored[32], limit[32];
    struct audit_base base;

    if (first <= log->first || first > log->note_size || audit_base_read(log->dir, first, &base, NULL) != DBE_OK)
        return false;
    if (!before->by_time)
        return first <= before->value;
    audit_time_text(before->value, limit);
    return first_stored(log->dir, first, stored) == DBE_OK && strcmp(stored, limit) < 0;
}

dbe_err audit_log_archivable(const struct audit_log *log, const struct audit_before *before, uint64_t *ret,
                             struct dbe_diag *diag)
{
    const struct audit_place place = {.dir = log->dir};
    struct audit_list list;
    uint64_t upto = 0;

    DBE_TRY(audit_list(&place, AUDIT_FILE_LOG, &list, diag));
    for (size_t i = list.count; i > 0 && upto == 0; i--)
        if (may_go(log, list.files[i - 1].first, before))
            upto = list.files[i - 1].first;
    audit_list_free(&list);
    if (upto == 0)
        return dbe_fail(diag, DBE_E_NOT_FOUND, clause, 0,
                        "no closed segment that a checkpoint covers lies wholly before that");
    *ret = upto;
    return DBE_OK;
}

/* ---- moving ----------------------------------------------------------------------------------------------------- */

static dbe_err move_kind(struct audit_log *log, enum audit_file kind, uint64_t below, struct dbe_diag *diag)
{
    const struct audit_place place = {.dir = log->dir};
    char from[AUDIT_PATH_MAX], to[AUDIT_PATH_MAX], archive[AUDIT_PATH_MAX];
    struct audit_list list;
    struct stat st;
    dbe_err err = DBE_OK;

    (void)snprintf(archive, sizeof archive, "%.*s/" AUDIT_ARCHIVE, AUDIT_PATH_MAX - AUDIT_NAME_MAX, log->dir);
    DBE_TRY(audit_list(&place, kind, &list, diag));
    for (size_t i = 0; i < list.count && list.files[i].first < below && err == DBE_OK; i++) {
        uint64_t first = list.files[i].first;
        if (audit_file_path(log->dir, kind, first, from) != DBE_OK ||
            audit_file_path(archive, kind, first, to) != DBE_OK || stat(from, &st) != 0 ||
            audit_sys_rename(from, to) != DBE_OK)
            err = audit_log_sys_fail(diag, "move into the archive", from);
        else if (kind == AUDIT_FILE_LOG)
            log->bytes -= BASE_MIN((uint64_t)st.st_size, log->bytes);
    }
    audit_list_free(&list);
    return err;
}

/* Segments go first: what is left behind of their other files is passed over by readers. */
dbe_err audit_log_move(struct audit_log *log, uint64_t below, struct dbe_diag *diag)
{
    char archive[AUDIT_PATH_MAX];

    (void)snprintf(archive, sizeof archive, "%.*s/" AUDIT_ARCHIVE, AUDIT_PATH_MAX - AUDIT_NAME_MAX, log->dir);
    DBE_TRY(base_mkdirs(archive, 0700, diag));
    DBE_TRY(move_kind(log, AUDIT_FILE_LOG, below, diag));
    log->first = BASE_MAX(log->first, below);
    DBE_TRY(move_kind(log, AUDIT_FILE_BASE, below, diag));
    DBE_TRY(move_kind(log, AUDIT_FILE_NOTES, below, diag));
    if (audit_sys_sync_dir(archive) != DBE_OK || audit_sys_sync_dir(log->dir) != DBE_OK)
        return audit_log_sys_fail(diag, "sync", archive);
    return DBE_OK;
}

/* ---- the three signatures before it --------------------------------------------------------------------------- */

static dbe_err add_record(struct audit_log *log, const char *sender, uint64_t upto, const uint8_t *root,
                          uint64_t time_ms, struct dbe_diag *diag)
{
    struct audit_record r = {.kind = AUDIT_ARCHIVED, .time_ms = time_ms};
    char words[AUDIT_DETAIL_MAX + 1], hex[2 * AUDIT_HASH_BYTES + 1];
    uint8_t run[AUDIT_RUN_BYTES];
    uint64_t missing;

    DBE_TRY(base_random(run, sizeof run)); /* a run of its own, of one record */
    base_hex(root, AUDIT_HASH_BYTES, hex);
    (void)snprintf(words, sizeof words, "entries %" PRIu64 " to %" PRIu64 "; root of those before: %s", log->first,
                   upto - 1, hex);
    r.count = (uint32_t)BASE_MIN(upto - log->first, (uint64_t)UINT32_MAX);
    r.detail = (struct audit_text){words, strlen(words)};
    DBE_TRY(audit_log_add(log, sender, run, &r, time_ms, &missing));
    return audit_log_commit(log, diag);
}

static dbe_err write_statement(struct audit_log *log, const struct audit_archived *a, const struct audit_signer *signer,
                               struct dbe_diag *diag)
{
    struct base_buf text;

    base_buf_init(&text, AUDIT_NOTE_MAX);
    dbe_err err = audit_archived_put(a, signer, &text);
    if (err == DBE_OK)
        err = audit_sys_replace(log->dir, "archived", text.data, text.len, diag);
    base_buf_free(&text);
    DBE_TRY(err);
    log->archived = *a;
    memcpy(log->archived.key_id, signer->key_id, sizeof log->archived.key_id);
    return DBE_OK;
}

dbe_err audit_log_restate(struct audit_log *log, const struct audit_signer *signer, uint64_t time_ms,
                          struct dbe_diag *diag)
{
    struct audit_archived a = log->archived;

    if (a.size == 0 || memcmp(a.key_id, signer->key_id, sizeof a.key_id) == 0)
        return DBE_OK;
    a.time_ms = time_ms;
    return write_statement(log, &a, signer, diag);
}

dbe_err audit_log_archive(struct audit_log *log, uint64_t upto, const char *sender, const struct audit_signer *signer,
                          uint64_t time_ms, struct dbe_diag *diag)
{
    struct audit_archived a = {.size = upto, .time_ms = time_ms};
    struct audit_base base;

    if (upto <= log->first || upto > log->note_size)
        return dbe_fail(diag, DBE_E_RANGE, clause, 0, "entries before %" PRIu64 " cannot be put away", upto);
    if (log->pending.len > 0)
        return dbe_fail(diag, DBE_E_STATE, clause, 0, "records wait to be written");
    DBE_TRY(audit_base_read(log->dir, upto, &base, diag));
    DBE_TRY(audit_tree_root(&base.tree, a.root));
    DBE_TRY(add_record(log, sender, upto, a.root, time_ms, diag));
    a.record = log->durable.tree.size - 1;
    (void)snprintf(a.origin, sizeof a.origin, "%s", log->origin);
    DBE_TRY(audit_log_checkpoint(log, signer, time_ms, diag));
    DBE_TRY(audit_log_save(log, signer, time_ms, diag)); /* an older one may lie in what goes */
    DBE_TRY(write_statement(log, &a, signer, diag));
    return audit_log_move(log, upto, diag);
}
