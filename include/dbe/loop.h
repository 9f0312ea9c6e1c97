/* SPDX-License-Identifier: Apache-2.0
 *
 * loop.h - the event loop that nodes live in: run it, or drive it from a loop of your own.
 *
 * A program without a loop calls dbe_loop_run. One with a loop of its own - poll, epoll, libuv, asyncio - watches
 * dbe_loop_fd for reading, and wakes up at the latest after dbe_loop_next_ns; on either it calls dbe_loop_turn(loop, 0)
 * and asks dbe_loop_next_ns again:
 *
 *     struct pollfd p = {.fd = dbe_loop_fd(loop), .events = POLLIN};
 *     uint64_t ns = dbe_loop_next_ns(loop);
 *     poll(&p, 1, ns == UINT64_MAX ? -1 : (int)((ns + 999999) / 1000000));
 *     err = dbe_loop_turn(loop, 0);
 *
 * Threads: a loop and everything in it belong to one thread at a time; dbe_loop_wake alone may be called from any, and
 * from a signal handler. Callbacks run inside dbe_loop_run and dbe_loop_turn, on the thread that called these. They may
 * call every function of this header except dbe_loop_free; timers and watches may free themselves in their callback.
 * Memory: what a function returns through `ret` belongs to the caller, who frees it with the function named beside it;
 * freeing the loop frees its timers and watches as well. Nodes are freed before their loop.
 */
#ifndef DBE_LOOP_H
#define DBE_LOOP_H

#include <stdint.h>

#include "dbe/err.h"

DBE_BEGIN_DECLS

struct dbe_loop;
struct dbe_timer;
struct dbe_watch;

/* Make a loop. Takes three descriptors of the process.
 * E_NOMEM. E_IO: the process or the system has no descriptor left. `ret` is untouched on error. */
dbe_err dbe_loop_new(struct dbe_loop **ret) DBE_MUST_CHECK;

/* Free a loop with its timers and watches. Takes NULL. Not from one of its callbacks. */
void dbe_loop_free(struct dbe_loop *loop);

/* Run until dbe_loop_stop is called; one that was called before counts, and is used up. E_IO: the kernel refuses to
 * wait, which no retry mends. */
dbe_err dbe_loop_run(struct dbe_loop *loop) DBE_MUST_CHECK;

/* Wait for at most `timeout_ms` milliseconds (0: not at all; -1: until something happens) and run the callbacks of what
 * is ready and due. Returns after one round even where more is ready. E_IO as dbe_loop_run. */
dbe_err dbe_loop_turn(struct dbe_loop *loop, int timeout_ms) DBE_MUST_CHECK;

/* Make dbe_loop_run return after the present turn. */
void dbe_loop_stop(struct dbe_loop *loop);

/* The descriptor that is readable when a turn has something to do (epoll(7)). The loop's own: do not close it, nor
 * change what it watches. */
int dbe_loop_fd(struct dbe_loop *loop);

/* Nanoseconds until the next timer is due: 0 when one is due already, UINT64_MAX when none is armed. Nodes arm timers
 * of their own; ask again after every turn and after every call into a node. */
uint64_t dbe_loop_next_ns(const struct dbe_loop *loop);

/* Let a turn that may wait yield the processor for at most `max_ns` before it sleeps. 0, the default: hardly ever. It
 * costs up to that much processor time after each burst of events, and saves the wake-up from sleep, which across
 * processors takes many times as long as a message. Some 50 us suit a conversation that must be fast. */
void dbe_loop_spin(struct dbe_loop *loop, uint64_t max_ns);

/* Nanoseconds of the clock that deadlines are told by: CLOCK_MONOTONIC. Any thread. */
uint64_t dbe_now_ns(void);

/* ---- timers --------------------------------------------------------------------------------------------------- */

typedef void dbe_timer_fn(void *ctx);

/* Make a timer, not armed. E_NOMEM; E_LIMIT: a loop has at most 65536. */
dbe_err dbe_loop_timer(struct dbe_loop *loop, dbe_timer_fn *fn, void *ctx, struct dbe_timer **ret) DBE_MUST_CHECK;

/* Call `fn` once, in the first turn at or after `deadline_ns` (dbe_now_ns); 0: not at all. Setting it again moves it.
 * For a timer that repeats, set it in its callback. */
void dbe_timer_set(struct dbe_timer *timer, uint64_t deadline_ns);
void dbe_timer_free(struct dbe_timer *timer); /* takes NULL */

/* ---- descriptors of the caller ---------------------------------------------------------------------------------- */

enum {
    DBE_LOOP_READ = 1,  /* readable, or at its end                                   */
    DBE_LOOP_WRITE = 2, /* writable                                                  */
    DBE_LOOP_HANGUP = 4 /* told, never asked for: the other end is gone, or an error */
};

typedef void dbe_watch_fn(void *ctx, int fd, unsigned events);

/* Call `fn` whenever `fd` is ready for one of `events`, as long as it is (level-triggered). The descriptor stays the
 * caller's; free the watch before closing it. E_EXISTS: it is watched already. E_LIMIT, E_NOMEM, E_IO. */
dbe_err dbe_loop_watch(struct dbe_loop *loop, int fd, unsigned events, dbe_watch_fn *fn, void *ctx,
                       struct dbe_watch **ret) DBE_MUST_CHECK;
/* Wait for other events from now on. E_IO. */
dbe_err dbe_watch_events(struct dbe_watch *watch, unsigned events) DBE_MUST_CHECK;
void    dbe_watch_free(struct dbe_watch *watch); /* takes NULL */

/* ---- other threads ---------------------------------------------------------------------------------------------- */

/* From any thread, or from a signal handler: make the function of dbe_loop_on_wake run soon, on the loop's thread.
 * Wake-ups that come before it has run are one. */
void dbe_loop_wake(struct dbe_loop *loop);
/* Set that function; NULL: none. A loop has one. */
void dbe_loop_on_wake(struct dbe_loop *loop, dbe_timer_fn *fn, void *ctx);

DBE_END_DECLS

#endif
