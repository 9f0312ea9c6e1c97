/* SPDX-License-Identifier: Apache-2.0
 *
 * notes.c - the checkpoints of a log, one after the other, in memory that does not grow with their number.
 *
 * In:   files that nobody vouches for    Out: notes, as they stand; what is unfinished at the end
 * Not:  no signature is checked here.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/log.h"

enum { NOTE_LINES = 6 };

struct audit_notes {
    struct audit_list files;
    size_t next;        /* file */
    int fd;             /* -1: none is open */
    bool ended;         /* nothing more is in it */
    uint64_t torn, pos; /* pos: where in its file `at` is */
    size_t at, have;
    char buf[2 * AUDIT_NOTE_MAX];
};

dbe_err audit_notes_open(const struct audit_place *place, uint64_t first, uint64_t offset, struct audit_notes **ret,
                         struct dbe_diag *diag)
{
    struct audit_notes *n = base_alloc(1, sizeof *n);
    dbe_err err;

    if (n == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, "audit 7.5", 0, "no memory to read checkpoints");
    n->fd = -1;
    err = audit_list(place, AUDIT_FILE_NOTES, &n->files, diag);
    while (err == DBE_OK && n->next < n->files.count && n->files.files[n->next].first < first)
        n->next++;
    if (err == DBE_OK && offset > 0) {
        char path[AUDIT_PATH_MAX];
        if (n->next == n->files.count || n->files.files[n->next].first != first)
            err = dbe_fail(diag, DBE_E_NOT_FOUND, "audit 7.5", 0, "the checkpoints of segment %" PRIu64 " are gone",
                           first);
        else
            err = audit_file_path(n->files.files[n->next++].dir, AUDIT_FILE_NOTES, first, path);
        if (err == DBE_OK &&
            ((n->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0 || lseek(n->fd, (off_t)offset, SEEK_SET) < 0))
            err = dbe_fail(diag, DBE_E_IO, "audit 7.5", 0, "%.120s: %s", path, strerror(errno));
        n->pos = offset;
    }
    if (err != DBE_OK) {
        audit_notes_close(n);
        return err;
    }
    *ret = n;
    return DBE_OK;
}

/* The file that was read is done, and another begins. */
static dbe_err next_file(struct audit_notes *n, struct dbe_diag *diag)
{
    const struct audit_listed *file = &n->files.files[n->next++];
    char path[AUDIT_PATH_MAX];

    if (n->fd >= 0)
        close(n->fd);
    DBE_TRY(audit_file_path(file->dir, AUDIT_FILE_NOTES, file->first, path));
    n->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    n->ended = false;
    n->pos = 0;
    return n->fd >= 0 ? DBE_OK : dbe_fail(diag, DBE_E_IO, "audit 7.5", 0, "%.120s: %s", path, strerror(errno));
}

static dbe_err fill(struct audit_notes *n, struct dbe_diag *diag)
{
    memmove(n->buf, n->buf + n->at, n->have - n->at);
    n->have -= n->at;
    n->at = 0;
    while (!n->ended && n->have < sizeof n->buf) {
        ssize_t got = read(n->fd, n->buf + n->have, sizeof n->buf - n->have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return dbe_fail(diag, DBE_E_IO, "audit 7.5", 0, "cannot read checkpoints: %s", strerror(errno));
        n->have += (size_t)got;
        n->ended = got == 0;
    }
    return DBE_OK;
}

/* Is this the beginning of a note that was not written to its end? */
static bool unfinished(const struct audit_notes *n)
{
    size_t feeds = 0;

    for (size_t i = n->at; i < n->have; i++)
        feeds += n->buf[i] == '\n';
    return feeds < NOTE_LINES && n->have - n->at < AUDIT_NOTE_MAX && n->next == n->files.count;
}

dbe_err audit_notes_next(struct audit_notes *n, struct audit_note *ret, struct audit_text *ret_text,
                         struct dbe_diag *diag)
{
    size_t len;

    while (n->fd < 0 || n->at == n->have) {
        if (n->fd < 0 || n->ended) {
            if (n->next == n->files.count)
                return DBE_E_NOT_FOUND;
            DBE_TRY(next_file(n, diag));
        }
        DBE_TRY(fill(n, diag));
    }
    if (n->have - n->at < AUDIT_NOTE_MAX && !n->ended)
        DBE_TRY(fill(n, diag));
    if (audit_note_get(n->buf + n->at, n->have - n->at, ret, &len) != DBE_OK) {
        if (!unfinished(n))
            return dbe_fail(diag, DBE_E_MALFORMED, "audit 7.5", 0,
                            "the file of checkpoints is damaged: verify the log");
        n->torn = n->have - n->at;
        return DBE_E_NOT_FOUND;
    }
    *ret_text = (struct audit_text){n->buf + n->at, len};
    n->at += len;
    n->pos += len;
    return DBE_OK;
}

void audit_notes_place(const struct audit_notes *n, uint64_t *ret_first, uint64_t *ret_pos)
{
    *ret_first = n->files.files[n->next - 1].first;
    *ret_pos = n->pos;
}

uint64_t audit_notes_torn(const struct audit_notes *n)
{
    return n->torn;
}

void audit_notes_close(struct audit_notes *n)
{
    if (n == NULL)
        return;
    if (n->fd >= 0)
        close(n->fd);
    audit_list_free(&n->files);
    base_free(n);
}
