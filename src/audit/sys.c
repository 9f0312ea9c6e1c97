/* SPDX-License-Identifier: Apache-2.0
 *
 * sys.c - the three operations that can lose a record: write, sync, cut. A test makes the n-th of them fail.
 */
#include <errno.h>
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

dbe_err audit_sys_write(int fd, const void *data, size_t len)
{
    if (!fails())
        return write_all(fd, data, len);
    DBE_TRY(write_all(fd, data, len / 2)); /* a disk that fills up takes what still fits */
    errno = fail_with;
    return DBE_E_IO;
}

dbe_err audit_sys_sync(int fd)
{
    return !fails() && fdatasync(fd) == 0 ? DBE_OK : DBE_E_IO;
}

dbe_err audit_sys_cut(int fd, uint64_t len)
{
    return !fails() && ftruncate(fd, (off_t)len) == 0 ? DBE_OK : DBE_E_IO;
}
