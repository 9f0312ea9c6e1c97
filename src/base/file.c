/* SPDX-License-Identifier: Apache-2.0
 *
 * file.c - whole files: bounded reads, private reads, atomic writes, directories. In: paths from our own configuration.
 * Out: bytes, or an error whose diagnostic names the path and what the system said. Does not watch, lock or map files.
 */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_CHUNK_BYTES = 65536 };

/* The error of the last system call on `path`, said in full. Reads errno before anything can change it. */
static dbe_err sys_fail(struct dbe_diag *diag, const char *doing, const char *path)
{
    int code = errno;
    dbe_err err = code == ENOENT ? DBE_E_NOT_FOUND : code == ENOMEM ? DBE_E_NOMEM : DBE_E_IO;
    char text[96];

    return dbe_fail(diag, err, NULL, 0, "%s %.90s: %s", doing, path, strerror_r(code, text, sizeof text));
}

/* One read into `out`; *ret_done at the end of the file. */
static dbe_err read_some(int fd, const char *path, size_t max, size_t before, struct base_buf *out, bool *ret_done,
                         struct dbe_diag *diag)
{
    size_t have = out->len - before, want = BASE_MIN((size_t)FILE_CHUNK_BYTES, max - have + 1);
    uint8_t *at;
    ssize_t got;

    if (want > out->max - out->len) /* the buffer's own maximum: one byte more shows that the file is longer */
        want = out->max - out->len;
    if (want == 0) {
        uint8_t probe;
        got = read(fd, &probe, 1);
    } else {
        at = base_buf_grow(out, want);
        if (at == NULL)
            return dbe_fail(diag, out->err, NULL, 0, "no memory to read %.90s", path);
        got = read(fd, at, want);
        out->len -= want - (got > 0 ? (size_t)got : 0);
    }
    if (got < 0)
        return errno == EINTR ? DBE_OK : sys_fail(diag, "cannot read", path);
    if (out->len - before > max || (want == 0 && got > 0))
        return dbe_fail(diag, DBE_E_TOO_LARGE, NULL, 0, "%.90s is larger than the permitted %zu bytes", path,
                        BASE_MIN(max, out->max - before));
    *ret_done = got == 0;
    return DBE_OK;
}

static dbe_err read_all(int fd, const char *path, size_t max, struct base_buf *out, struct dbe_diag *diag)
{
    size_t before = out->len;
    bool done = false, had_memory = out->data != NULL;
    dbe_err err = out->err;

    while (err == DBE_OK && !done)
        err = read_some(fd, path, max, before, out, &done, diag);
    if (err == DBE_OK)
        return DBE_OK;
    if (had_memory) {
        base_wipe(out->data + before, out->cap - before); /* it may be half of a key */
        out->len = before;
    } else {
        base_buf_free(out);
    }
    return err;
}

static dbe_err file_open(const char *path, int *ret_fd, struct stat *ret_st, struct dbe_diag *diag)
{
    /* O_NONBLOCK: a FIFO in the place of a file must not hang us before we can refuse it */
    BASE_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0)
        return sys_fail(diag, "cannot open", path);
    if (!S_ISREG(st.st_mode))
        return dbe_fail(diag, DBE_E_IO, NULL, 0, "%.90s is not a regular file", path);
    *ret_fd = fd;
    *ret_st = st;
    fd = -1;
    return DBE_OK;
}

static dbe_err file_read(const char *path, size_t max, bool private, struct base_buf *out, struct dbe_diag *diag)
{
    BASE_AUTO_CLOSE int fd = -1;
    struct stat st = {0};

    DBE_TRY(file_open(path, &fd, &st, diag));
    if (private && st.st_uid != geteuid())
        return dbe_fail(diag, DBE_E_PERMISSION, NULL, 0, "%.90s belongs to user %u, not to user %u", path, st.st_uid,
                        geteuid());
    if (private && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return dbe_fail(diag, DBE_E_PERMISSION, NULL, 0, "%.90s is open to others (mode %04o); run chmod 600 on it",
                        path, st.st_mode & 07777U);
    if (out->data == NULL && out->max == 0)
        base_buf_init(out, max);
    return read_all(fd, path, max, out, diag);
}

dbe_err base_file_read(const char *path, size_t max, struct base_buf *out, struct dbe_diag *diag)
{
    return file_read(path, max, false, out, diag);
}

dbe_err base_file_read_private(const char *path, size_t max, struct base_buf *out, struct dbe_diag *diag)
{
    return file_read(path, max, true, out, diag);
}

/* Fill the temporary file. */
static dbe_err write_temp(int fd, const char *path, const void *data, size_t len, unsigned mode, struct dbe_diag *diag)
{
    const uint8_t *at = data;

    if (fchmod(fd, (mode_t)mode) != 0)
        return sys_fail(diag, "cannot set the mode of", path);
    while (len > 0) {
        ssize_t done = write(fd, at, len);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return sys_fail(diag, "cannot write", path);
        at += done;
        len -= (size_t)done;
    }
    return DBE_OK;
}

/* Make the rename itself durable. */
static dbe_err sync_parent(const char *path, struct dbe_diag *diag)
{
    char dir[PATH_MAX];
    char *slash;
    BASE_AUTO_CLOSE int fd = -1;

    (void)snprintf(dir, sizeof dir, "%s", path);
    slash = strrchr(dir, '/');
    if (slash == NULL)
        (void)snprintf(dir, sizeof dir, ".");
    else
        slash[slash == dir ? 1 : 0] = '\0';
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL)) /* EINVAL: a file system that has no such thing */
        return sys_fail(diag, "cannot sync", dir);
    return DBE_OK;
}

static dbe_err replace(const char *path, const void *data, size_t len, unsigned mode, bool durable,
                       struct dbe_diag *diag)
{
    char temp[PATH_MAX];
    BASE_AUTO_CLOSE int fd = -1;
    dbe_err err;
    int n = snprintf(temp, sizeof temp, "%s.XXXXXX", path);

    if (n < 0 || (size_t)n >= sizeof temp)
        return dbe_fail(diag, DBE_E_ARGUMENT, NULL, 0, "path of %zu bytes is too long", strlen(path));
    fd = mkostemp(temp, O_CLOEXEC); /* beside the target: rename works only within one file system */
    if (fd < 0)
        return sys_fail(diag, "cannot create a file beside", path);
    err = write_temp(fd, temp, data, len, mode, diag);
    if (err == DBE_OK && durable && fsync(fd) != 0)
        err = sys_fail(diag, "cannot sync", temp);
    if (err == DBE_OK && rename(temp, path) != 0)
        err = sys_fail(diag, "cannot replace", path);
    if (err != DBE_OK) {
        (void)unlink(temp);
        return err;
    }
    return durable ? sync_parent(path, diag) : DBE_OK;
}

dbe_err base_file_write(const char *path, const void *data, size_t len, unsigned mode, struct dbe_diag *diag)
{
    return replace(path, data, len, mode, true, diag);
}

dbe_err base_file_replace(const char *path, const void *data, size_t len, unsigned mode, struct dbe_diag *diag)
{
    return replace(path, data, len, mode, false, diag);
}

/* One level; that it is there already is fine if it is a directory. */
static dbe_err make_dir(const char *path, unsigned mode, struct dbe_diag *diag)
{
    struct stat st;

    if (mkdir(path, (mode_t)mode) == 0)
        return DBE_OK;
    if (errno != EEXIST && errno != EISDIR && errno != EROFS && errno != EACCES && errno != EPERM)
        return sys_fail(diag, "cannot make directory", path);
    int code = errno; /* a directory that exists counts even where we could not have made it */
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return DBE_OK;
    errno = code == EEXIST ? ENOTDIR : code;
    return sys_fail(diag, "cannot make directory", path);
}

dbe_err base_mkdirs(const char *path, unsigned mode, struct dbe_diag *diag)
{
    char part[PATH_MAX];
    int n = snprintf(part, sizeof part, "%s", path);

    if (n <= 0 || (size_t)n >= sizeof part)
        return dbe_fail(diag, DBE_E_ARGUMENT, NULL, 0, "path of %zu bytes cannot be made", strlen(path));
    for (char *p = part + 1; *p != '\0'; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        DBE_TRY(make_dir(part, mode, diag));
        *p = '/';
    }
    return make_dir(part, mode, diag);
}
