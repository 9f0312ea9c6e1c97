/* SPDX-License-Identifier: Apache-2.0
 *
 * scan.c - the log read from its first entry to its last: every line in its place, every link of the chain.
 *
 * In:   a directory whose files nobody vouches for    Out: each entry in turn; where the chain breaks, and how
 * Not:  no signatures (verify.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/log.h"

enum { READ_BYTES = 256 * 1024 };

void audit_found(struct audit_finding *f, enum audit_wrong what, uint64_t entry, const char *fmt, ...)
{
    va_list ap;

    if (f->what != AUDIT_RIGHT)
        return;
    f->what = what;
    f->entry = entry;
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, ap);
    va_end(ap);
}

struct reader {
    struct audit_scan_end end;
    struct audit_finding *f;
    struct dbe_diag *diag;
    audit_scan_fn *fn;
    void *ctx;
    uint8_t *buf; /* READ_BYTES, and what was left of the block before */
    bool resume;  /* until the segment where the scan before ended */
};

static dbe_err broken(struct reader *r, uint64_t entry, const char *fmt, ...) DBE_PRINTF(3, 4);
static dbe_err broken(struct reader *r, uint64_t entry, const char *fmt, ...)
{
    char text[160];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    audit_found(r->f, AUDIT_WRONG_CHAIN, entry, "entry %" PRIu64 ": %s", entry, text);
    return dbe_fail(r->diag, DBE_E_MALFORMED, "audit 4", 0, "%s", r->f->text);
}

static dbe_err read_line(struct reader *r, const char *text, size_t len)
{
    uint64_t at = r->end.entries;
    struct audit_line line;
    struct dbe_diag why = {0};
    uint8_t leaf[AUDIT_HASH_BYTES];

    if (len > AUDIT_LINE_MAX || audit_line_get(text, len, &line, &why) != DBE_OK)
        return broken(r, at, "no line of an audit log, from byte %zu on", why.offset);
    if (line.index != at)
        return broken(r, at, "entry %" PRIu64 " stands here: removed, inserted or moved", line.index);
    if (memcmp(line.prev, r->end.last, sizeof line.prev) != 0)
        return at == 0 ? broken(r, 0, "it names an entry before it")
                       : broken(r, at - 1, "changed: entry %" PRIu64 " was written after another one", at);
    DBE_TRY(audit_leaf_hash(text, len, leaf));
    memcpy(r->end.last, leaf, sizeof leaf);
    r->end.entries++;
    return r->fn != NULL ? r->fn(r->ctx, &line, text, len, leaf) : DBE_OK;
}

/* Whole lines of `len` bytes; returns how many bytes they took. */
static dbe_err read_lines(struct reader *r, const uint8_t *data, size_t len, size_t *ret_done)
{
    size_t done = 0;
    const uint8_t *feed;

    while (done < len && (feed = memchr(data + done, '\n', len - done)) != NULL) {
        size_t n = (size_t)(feed - (data + done));
        DBE_TRY(read_line(r, (const char *)data + done, n));
        done += n + 1;
    }
    *ret_done = done;
    return DBE_OK;
}

static dbe_err read_fd(struct reader *r, int fd, const char *name)
{
    size_t have = 0, done = 0;
    ssize_t n;

    while ((n = read(fd, r->buf + have, READ_BYTES)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return dbe_fail(r->diag, DBE_E_IO, "audit 4", 0, "%s: %s", name, strerror(errno));
        have += (size_t)n;
        DBE_TRY(read_lines(r, r->buf, have, &done));
        r->end.segment_bytes += done;
        have -= done;
        memmove(r->buf, r->buf + done, have);
        if (have > AUDIT_LINE_MAX)
            return broken(r, r->end.entries, "a line longer than any entry");
    }
    r->end.torn_bytes = have;
    return DBE_OK;
}

/* Open the segment and go to where reading begins. */
static dbe_err open_segment(struct reader *r, const struct audit_listed *file, bool begun, int *ret)
{
    char path[AUDIT_PATH_MAX], archive[AUDIT_PATH_MAX];
    struct stat st;

    DBE_TRY(audit_file_path(file->dir, AUDIT_FILE_LOG, file->first, path));
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT && audit_find_archive(file->dir, archive) != NULL) { /* it was put away just now */
        DBE_TRY(audit_file_path(archive, AUDIT_FILE_LOG, file->first, path));
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    }

    if (fd < 0 || fstat(fd, &st) != 0 || (begun && lseek(fd, (off_t)r->end.segment_bytes, SEEK_SET) < 0)) {
        dbe_err err = dbe_fail(r->diag, DBE_E_IO, "audit 4", 0, "%.120s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return err;
    }
    if (begun && (uint64_t)st.st_size < r->end.segment_bytes) {
        close(fd);
        return broken(r, r->end.entries, "the file was cut before it: %.100s", path);
    }
    *ret = fd;
    return DBE_OK;
}

static dbe_err read_segment(struct reader *r, const struct audit_listed *file)
{
    char name[AUDIT_NAME_MAX];
    bool begun = r->resume && file->first == r->end.segment;

    audit_file_name(AUDIT_FILE_LOG, file->first, name);
    if (r->end.torn_bytes > 0)
        return broken(r, r->end.entries, "cut off at the end of a file, and %s follows", name);
    if ((r->resume && !begun) || (!begun && file->first != r->end.entries))
        return broken(r, r->end.entries, "missing: the next file is %s", name);
    r->resume = false;
    BASE_AUTO_CLOSE int fd = -1;
    DBE_TRY(open_segment(r, file, begun, &fd));
    r->end.segment = file->first;
    r->end.have_segment = true;
    if (!begun)
        r->end.segment_bytes = 0;
    return read_fd(r, fd, name);
}

static dbe_err first_segment(const struct audit_place *place, struct audit_listed *ret, struct dbe_diag *diag)
{
    struct audit_list list;

    DBE_TRY(audit_list(place, AUDIT_FILE_LOG, &list, diag));
    *ret = list.count > 0 ? list.files[0] : (struct audit_listed){0};
    audit_list_free(&list);
    return DBE_OK;
}

dbe_err audit_scan_begin(const struct audit_place *place, struct audit_scan_end *ret, struct audit_base *ret_base,
                         struct audit_finding *f, struct dbe_diag *diag)
{
    struct audit_scan_end end = {0};
    struct audit_base base = {0};
    struct audit_listed first, now;
    struct dbe_diag why = {0};
    dbe_err err = DBE_OK;

    DBE_TRY(first_segment(place, &now, diag));
    do { /* anew if it was put away in the meantime */
        first = now;
        err = first.first > 0 ? audit_base_read(first.dir, first.first, &base, &why) : DBE_OK;
        if (err == DBE_E_NOT_FOUND)
            DBE_TRY(first_segment(place, &now, diag));
    } while (err == DBE_E_NOT_FOUND && now.first > first.first);
    if (err == DBE_E_NOT_FOUND || err == DBE_E_MALFORMED) {
        audit_found(f, AUDIT_WRONG_CHAIN, 0,
                    "entry 0: missing: the log begins with entry %" PRIu64 ", and what came before it is not known",
                    first.first);
        return dbe_fail(diag, DBE_E_MALFORMED, "audit 4", 0, "%s", f->text);
    }
    if (err != DBE_OK)
        return dbe_fail(diag, err, why.clause, why.offset, "%s", why.text);
    end.entries = base.tree.size;
    memcpy(end.last, base.last, sizeof end.last);
    *ret = end;
    *ret_base = base;
    return DBE_OK;
}

/* The segments; if the one to go on from was put away since the scan began, with the archive. */
static dbe_err list_from(const struct audit_place *place, const struct audit_scan_end *end,
                         char archive[AUDIT_PATH_MAX], struct audit_list *ret, struct dbe_diag *diag)
{
    struct audit_place both = *place;

    DBE_TRY(audit_list(place, AUDIT_FILE_LOG, ret, diag));
    if (ret->count == 0 || ret->files[0].first <= (end->have_segment ? end->segment : end->entries) ||
        place->archive != NULL || (both.archive = audit_find_archive(place->dir, archive)) == NULL)
        return DBE_OK;
    audit_list_free(ret);
    return audit_list(&both, AUDIT_FILE_LOG, ret, diag);
}

dbe_err audit_scan_more(const struct audit_place *place, audit_scan_fn *fn, void *ctx, struct audit_scan_end *end,
                        struct audit_finding *f, struct dbe_diag *diag)
{
    struct reader r = {.f = f, .diag = diag, .fn = fn, .ctx = ctx, .end = *end, .resume = end->have_segment};
    char archive[AUDIT_PATH_MAX];
    struct audit_list list;

    DBE_TRY(list_from(place, end, archive, &list, diag));
    dbe_err err = DBE_OK;
    r.end.torn_bytes = 0;
    r.buf = base_alloc(1, READ_BYTES + AUDIT_LINE_MAX + 1);
    if (r.buf == NULL)
        err = dbe_fail(diag, DBE_E_NOMEM, "audit 4", 0, "no memory to read the log");
    const uint64_t from = end->have_segment ? end->segment : end->entries;
    for (size_t i = 0; i < list.count && err == DBE_OK; i++)
        if (list.files[i].first >= from)
            err = read_segment(&r, &list.files[i]);
    if (err == DBE_OK && r.resume)
        err = broken(&r, r.end.entries, "missing, as the file that it stood in");
    audit_list_free(&list);
    base_free(r.buf);
    *end = r.end; /* also on error: how far it went */
    return err;
}
