/* SPDX-License-Identifier: Apache-2.0
 *
 * io.c - writes to sockets, with a hook that makes the n-th one fail. In: bytes. Out: as many as the socket took,
 * errno. Does not queue, wait or frame.
 */
#include "base/io.h"

#include <errno.h>
#include <stdatomic.h>

/* `at` is 0 outside tests: a write then costs one load more. */
struct failure {
    _Atomic uint64_t calls, at;
};

static struct failure sends, connects;
static _Atomic int send_how;

static void fail_at(struct failure *f, uint64_t nth)
{
    atomic_store(&f->calls, 0);
    atomic_store(&f->at, nth);
}

static bool must_fail(struct failure *f)
{
    uint64_t at = atomic_load_explicit(&f->at, memory_order_relaxed);

    return at != 0 && atomic_fetch_add_explicit(&f->calls, 1, memory_order_relaxed) + 1 == at;
}

void base_fail_send_at(uint64_t nth, enum base_fail_how how)
{
    atomic_store(&send_how, (int)how);
    fail_at(&sends, nth);
}

void base_fail_connect_at(uint64_t nth)
{
    fail_at(&connects, nth);
}

uint64_t base_send_count(void)
{
    return atomic_load(&sends.calls);
}

uint64_t base_connect_count(void)
{
    return atomic_load(&connects.calls);
}

bool base_send_must_fail(enum base_fail_how *ret_how)
{
    if (!must_fail(&sends))
        return false;
    *ret_how = (enum base_fail_how)atomic_load(&send_how);
    return true;
}

bool base_connect_must_fail(void)
{
    return must_fail(&connects);
}

/* What a failing write does in place of the real one. Partial: the caller's message, one byte of it. */
static ssize_t fail_send(int fd, const struct msghdr *msg, enum base_fail_how how)
{
    if (how == BASE_FAIL_PARTIAL && msg->msg_iovlen > 0)
        return send(fd, msg->msg_iov[0].iov_base, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    errno = how == BASE_FAIL_GONE ? EPIPE : EAGAIN;
    return -1;
}

ssize_t base_sendmsg(int fd, const struct msghdr *msg)
{
    enum base_fail_how how;
    ssize_t n;

    if (base_send_must_fail(&how))
        return fail_send(fd, msg, how);
    do
        n = sendmsg(fd, msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n;
}

ssize_t base_send(int fd, const void *data, size_t len)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    const struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    enum base_fail_how how;
    ssize_t n;

    if (base_send_must_fail(&how))
        return fail_send(fd, &msg, how);
    do
        n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n;
}
