/* SPDX-License-Identifier: Apache-2.0
 *
 * io.h - writing to sockets, and a way for tests to make the n-th write or the n-th step of a connection fail.
 *
 * Threads: thread-safe; the hooks are set before threads start.
 */
#ifndef BASE_IO_H
#define BASE_IO_H

#include <sys/socket.h>
#include <sys/types.h>

#include "base/base.h"

/* sendmsg that does not wait, raises no SIGPIPE and goes on after a signal. Bytes taken, or -1 and errno. */
ssize_t base_sendmsg(int fd, const struct msghdr *msg);
/* The same for one piece. */
ssize_t base_send(int fd, const void *data, size_t len);

/* How a write that is made to fail does it. */
enum base_fail_how {
    BASE_FAIL_AGAIN,   /* takes nothing for now                */
    BASE_FAIL_PARTIAL, /* takes the first byte                 */
    BASE_FAIL_GONE,    /* the other end is gone                */
};

/* Make the n-th write from now on - to a socket or a ring - fail, once; 0 never. The same for the n-th system call
 * that makes a connection or its memory, which then finds no descriptor or memory left. For tests. */
void base_fail_send_at(uint64_t nth, enum base_fail_how how);
void base_fail_connect_at(uint64_t nth);
/* Calls since the last base_fail_..._at with an n other than 0; nothing is counted otherwise. */
uint64_t base_send_count(void);
uint64_t base_connect_count(void);

/* For those who write or connect by other means: count one; true if it is the one that shall fail. */
bool base_send_must_fail(enum base_fail_how *ret_how);
bool base_connect_must_fail(void);

#endif
