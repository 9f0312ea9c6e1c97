/* SPDX-License-Identifier: Apache-2.0
 *
 * shm_area.c - shared memory of one connection: made by the listening side, passed over the Unix socket, checked by
 * the connecting side before it is mapped. In: a connected socket. Out: a mapping. Does not read or write the rings.
 *
 * A mapping whose file is cut short kills whoever touches it (SIGBUS). So the memory is a memfd sealed against that,
 * and one that is not, or that stands on huge pages, which may run out, is refused.
 */
#include "shm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/io.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

enum { SHM_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

/* Room for one descriptor beside the bytes; more than one is cut off and closed by the kernel. */
union shm_control {
    struct cmsghdr head;
    uint8_t bytes[CMSG_SPACE(sizeof(int))];
};

static dbe_err why(int code)
{
    return code == EMFILE || code == ENFILE    ? DBE_E_LIMIT
           : code == ENOMEM || code == ENOBUFS ? DBE_E_NOMEM
           : code == EPIPE || code == ECONNRESET ? DBE_E_CLOSED
                                                 : DBE_E_IO;
}

static dbe_err map(int memfd, struct shm_area *ret)
{
    void *at = base_connect_must_fail()
                   ? MAP_FAILED
                   : mmap(NULL, SHM_AREA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);

    if (at == MAP_FAILED)
        return DBE_E_NOMEM;
    (void)madvise(at, SHM_AREA_BYTES, MADV_DONTDUMP); /* what is in there is sealed, and the dump would be large */
    ret->map = at;
    return DBE_OK;
}

/* ---- the listening side ---------------------------------------------------------------------------------------- */

static dbe_err make_memfd(int *ret_fd)
{
    const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    BASE_AUTO_CLOSE int fd = base_connect_must_fail() ? -1 : memfd_create("dsmil-shm", flags | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("dsmil-shm", flags); /* before Linux 6.3 */
    if (fd < 0)
        return why(errno);
    if (ftruncate(fd, SHM_AREA_BYTES) != 0 || fcntl(fd, F_ADD_SEALS, SHM_SEALS) != 0)
        return why(errno);
    *ret_fd = fd;
    fd = -1;
    return DBE_OK;
}

static dbe_err send_hello(int fd, int memfd)
{
    struct shm_hello hello = {.magic = SHM_MAGIC, .version = SHM_VERSION, .ring_bytes = SHM_RING_BYTES};
    struct iovec iov = {.iov_base = &hello, .iov_len = sizeof hello};
    union shm_control control = {0};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof memfd)};
    memcpy(CMSG_DATA(c), &memfd, sizeof memfd);
    ssize_t n = base_sendmsg(fd, &msg);
    if (n < 0)
        return why(errno);
    return n == (ssize_t)sizeof hello ? DBE_OK : DBE_E_IO; /* the first bytes on a fresh socket: all or nothing */
}

dbe_err shm_area_offer(int fd, struct shm_area *ret)
{
    BASE_AUTO_CLOSE int memfd = -1;
    struct shm_area area = {0};

    DBE_TRY(make_memfd(&memfd));
    DBE_TRY(map(memfd, &area));
    dbe_err err = send_hello(fd, memfd);
    if (err != DBE_OK) {
        shm_area_free(&area);
        return err;
    }
    *ret = area;
    return DBE_OK;
}

/* ---- the connecting side --------------------------------------------------------------------------------------- */

/* The one descriptor of a message, -1 if there is none. */
static int take_fd(struct msghdr *msg)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);
    int fd = -1;

    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

static dbe_err receive_hello(int fd, int *ret_memfd)
{
    struct shm_hello hello = {0};
    struct iovec iov = {.iov_base = &hello, .iov_len = sizeof hello};
    union shm_control control = {0};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.bytes};
    ssize_t n;

    do
        n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? DBE_E_AGAIN : DBE_E_CLOSED;
    if (n == 0)
        return DBE_E_CLOSED;
    BASE_AUTO_CLOSE int memfd = take_fd(&msg);
    if (n != (ssize_t)sizeof hello || hello.magic != SHM_MAGIC || hello.version != SHM_VERSION ||
        hello.ring_bytes != SHM_RING_BYTES || memfd < 0 || (msg.msg_flags & MSG_CTRUNC) != 0)
        return DBE_E_PROTOCOL;
    *ret_memfd = memfd;
    memfd = -1;
    return DBE_OK;
}

/* Nobody may be able to take the memory away from under the mapping. */
static dbe_err check_memfd(int memfd)
{
    struct stat st;
    struct statfs fs;
    int seals = fcntl(memfd, F_GET_SEALS);

    if (seals < 0 || (seals & SHM_SEALS) != SHM_SEALS)
        return DBE_E_PROTOCOL;
    if (fstat(memfd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size != SHM_AREA_BYTES)
        return DBE_E_PROTOCOL;
    return fstatfs(memfd, &fs) == 0 && fs.f_type == TMPFS_MAGIC ? DBE_OK : DBE_E_PROTOCOL;
}

dbe_err shm_area_take(int fd, struct shm_area *ret)
{
    BASE_AUTO_CLOSE int memfd = -1;

    DBE_TRY(receive_hello(fd, &memfd));
    DBE_TRY(check_memfd(memfd));
    return map(memfd, ret);
}

/* ---- both ------------------------------------------------------------------------------------------------------ */

void shm_area_free(struct shm_area *area)
{
    if (area->map != NULL)
        (void)munmap(area->map, SHM_AREA_BYTES);
    area->map = NULL;
}

void shm_area_ends(const struct shm_area *area, bool listening, struct shm_writer *ret_w, struct shm_reader *ret_r)
{
    struct shm_dir *dirs = (struct shm_dir *)(void *)area->map;
    uint8_t *rings = area->map + SHM_CONTROL_BYTES;
    const size_t out = listening ? 0 : 1, in = 1 - out;

    _Static_assert(2 * sizeof(struct shm_dir) <= SHM_CONTROL_BYTES, "both directions' positions lie in one page");
    *ret_w = (struct shm_writer){.dir = &dirs[out], .data = rings + out * SHM_RING_BYTES, .size = SHM_RING_BYTES};
    *ret_r = (struct shm_reader){.dir = &dirs[in], .data = rings + in * SHM_RING_BYTES, .size = SHM_RING_BYTES};
}
