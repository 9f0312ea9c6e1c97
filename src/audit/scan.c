/* SPDX-License-Identifier: Apache-2.0
 *
 * scan.c - the log read from its first entry to its last: every line in its place, every link of the chain.
 *
 * In:   a directory whose files nobody vouches for    Out: each entry in turn; where the chain breaks, and how
 * Not:  no signatures (verify.c).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

static dbe_err read_segment(struct reader *r, const char *dir, const char *name)
{
    char path[AUDIT_PATH_MAX];
    uint64_t first = strtoull(name, NULL, 10);

    int after = r->resume ? strcmp(name, r->end.segment) : 1;

    if (after < 0)
        return DBE_OK;
    r->resume = false;
    if (r->end.torn_bytes > 0)
        return broken(r, r->end.entries, "cut off at the end of %s, and %s follows", r->end.segment, name);
    if (after > 0 && first != r->end.entries)
        return broken(r, r->end.entries, "missing: the next file is %s", name);
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return dbe_fail(r->diag, DBE_E_ARGUMENT, "audit 4", 0, "the directory's path is too long");
    BASE_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return dbe_fail(r->diag, DBE_E_IO, "audit 4", 0, "%.120s: %s", path, strerror(errno));
    memcpy(r->end.segment, name, AUDIT_SEGMENT_NAME);
    if (after > 0)
        r->end.segment_bytes = 0;
    else if (lseek(fd, (off_t)r->end.segment_bytes, SEEK_SET) < 0)
        return dbe_fail(r->diag, DBE_E_IO, "audit 4", 0, "%.120s: %s", path, strerror(errno));
    return read_fd(r, fd, name);
}

static int is_segment(const struct dirent *d)
{
    return strlen(d->d_name) == AUDIT_SEGMENT_NAME - 1 && strspn(d->d_name, "0123456789") == 20 &&
           strcmp(d->d_name + 20, ".log") == 0;
}

dbe_err audit_scan(const char *dir, audit_scan_fn *fn, void *ctx, struct audit_scan_end *ret, struct audit_finding *f,
                   struct dbe_diag *diag)
{
    *ret = (struct audit_scan_end){0};
    return audit_scan_more(dir, fn, ctx, ret, f, diag);
}

dbe_err audit_scan_more(const char *dir, audit_scan_fn *fn, void *ctx, struct audit_scan_end *end,
                        struct audit_finding *f, struct dbe_diag *diag)
{
    struct reader r = {.f = f, .diag = diag, .fn = fn, .ctx = ctx, .end = *end, .resume = end->segment[0] != '\0'};
    struct dirent **names = NULL;
    int count = scandir(dir, &names, is_segment, alphasort);
    dbe_err err = DBE_OK;

    if (count < 0)
        return dbe_fail(diag, errno == ENOENT ? DBE_E_NOT_FOUND : DBE_E_IO, "audit 4", 0, "%.120s: %s", dir,
                        strerror(errno));
    r.end.torn_bytes = 0;
    r.buf = base_alloc(1, READ_BYTES + AUDIT_LINE_MAX + 1);
    if (r.buf == NULL)
        err = dbe_fail(diag, DBE_E_NOMEM, "audit 4", 0, "no memory to read the log");
    for (int i = 0; i < count && err == DBE_OK; i++)
        err = read_segment(&r, dir, names[i]->d_name);
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    base_free(r.buf);
    *end = r.end; /* also on error: how far it went */
    return err;
}

dbe_err audit_read_checkpoints(const char *dir, struct base_buf *out, struct dbe_diag *diag)
{
    char path[AUDIT_PATH_MAX];

    if (snprintf(path, sizeof path, "%s/checkpoints", dir) >= (int)sizeof path)
        return dbe_fail(diag, DBE_E_ARGUMENT, "audit 4", 0, "the directory's path is too long");
    dbe_err err = base_file_read(path, AUDIT_CHECKPOINTS_MAX_BYTES, out, diag);
    return err == DBE_E_NOT_FOUND ? DBE_OK : err;
}
