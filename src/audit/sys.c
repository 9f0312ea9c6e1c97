/* SPDX-License-Identifier: Apache-2.0
 *
 * sys.c - the operations that can lose a record: write, sync, cut, rename. A test makes the n-th of them fail, or the
 * process end there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "audit/log.h"

static uint64_t fail_at, count;
static int fail_with;

void audit_sys_fail_at(uint64_t nth, int error)
{
    fail_at = nth;
    fail_with = error;
    count = 0;
}

uint64_t audit_sys_count(void)
{
    return count;
}

static bool fails(void)
{
    count++;
    if (fail_at == 0 || count != fail_at)
        return false;
    errno = fail_with;
    if (fail_with == AUDIT_SYS_KILL)
        _exit(AUDIT_SYS_KILL);
    return true;
}

static dbe_err write_all(int fd, const uint8_t *at, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return DBE_E_IO;
        at += n;
        len -= (size_t)n;
    }
    return DBE_OK;
}

/* A disk that fills up takes what still fits; a process that is killed may have written as much. */
dbe_err audit_sys_write(int fd, const void *data, size_t len)
{
    bool last = fail_at != 0 && count + 1 == fail_at;

    if (last)
        (void)write_all(fd, data, len / 2);
    return fails() ? DBE_E_IO : write_all(fd, data, len);
}

dbe_err audit_sys_sync(int fd)
{
    return !fails() && fdatasync(fd) == 0 ? DBE_OK : DBE_E_IO;
}

dbe_err audit_sys_cut(int fd, uint64_t len)
{
    return !fails() && ftruncate(fd, (off_t)len) == 0 ? DBE_OK : DBE_E_IO;
}

dbe_err audit_sys_rename(const char *from, const char *to)
{
    return !fails() && rename(from, to) == 0 ? DBE_OK : DBE_E_IO;
}

dbe_err audit_sys_sync_dir(const char *dir)
{
    BASE_AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd >= 0 && (fsync(fd) == 0 || errno == EINVAL) ? DBE_OK : DBE_E_IO;
}

dbe_err audit_sys_replace(const char *dir, const char *name, const void *data, size_t len, struct dbe_diag *diag)
{
    char temp[AUDIT_PATH_MAX], path[AUDIT_PATH_MAX];
    dbe_err err = DBE_E_IO;

    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path ||
        snprintf(temp, sizeof temp, "%s/%s.new", dir, name) >= (int)sizeof temp)
        return DBE_E_TOO_LARGE;
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0) {
        err = audit_sys_write(fd, data, len);
        if (err == DBE_OK)
            err = audit_sys_sync(fd);
        int before = errno;
        close(fd);
        errno = before;
    }
    if (err == DBE_OK)
        err = audit_sys_rename(temp, path);
    if (err == DBE_OK)
        err = audit_sys_sync_dir(dir);
    return err == DBE_OK ? DBE_OK : dbe_fail(diag, err, "audit 4", 0, "cannot write %.120s: %s", path, strerror(errno));
}
