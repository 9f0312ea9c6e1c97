/* SPDX-License-Identifier: Apache-2.0
 *
 * loop.h - one event loop (epoll) a thread: descriptors, timers, signals, wake-ups from other threads.
 *
 * Threads: everything on the loop's own thread, except base_loop_wake.
 * Callbacks may add, change and remove watches and timers, their own included.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include "base/base.h"

struct dbe_loop;
struct base_watch;
struct base_timer;

enum { BASE_LOOP_READ = 1, BASE_LOOP_WRITE = 2, BASE_LOOP_HANGUP = 4 };
enum {
    BASE_LOOP_WATCHES_MAX = 65536,
    BASE_LOOP_TIMERS_MAX = 65536,
    BASE_LOOP_BUF_BYTES = 128 * 1024, /* a receive buffer that the loop lends                  */
    BASE_LOOP_BUFS_KEPT = 4,          /* as many stay with the loop when they are given back   */
    BASE_LOOP_HOTS_MAX = 16,          /* sources that are asked before the loop sleeps         */
};

typedef void base_watch_fn(void *ctx, int fd, unsigned events);
typedef void base_timer_fn(void *ctx);
typedef void base_signal_fn(void *ctx, int signo);

dbe_err base_loop_new(struct dbe_loop **ret) DBE_MUST_CHECK;
void    base_loop_free(struct dbe_loop *loop); /* takes NULL; watches and timers go with it */

/* Call `fn` when `fd` is ready for `events` (BASE_LOOP_READ | _WRITE); hang-up and error are always reported.
 * The loop does not own `fd`; free the watch before closing it. E_LIMIT beyond BASE_LOOP_WATCHES_MAX, E_EXISTS if
 * `fd` has a watch already. */
dbe_err base_loop_watch(struct dbe_loop *loop, int fd, unsigned events, base_watch_fn *fn, void *ctx,
                        struct base_watch **ret) DBE_MUST_CHECK;
dbe_err base_watch_events(struct base_watch *watch, unsigned events) DBE_MUST_CHECK;
void    base_watch_free(struct base_watch *watch); /* takes NULL; no callback follows */

/* A timer that is not armed. E_LIMIT beyond BASE_LOOP_TIMERS_MAX. */
dbe_err base_loop_timer(struct dbe_loop *loop, base_timer_fn *fn, void *ctx, struct base_timer **ret) DBE_MUST_CHECK;
void    base_timer_set(struct base_timer *timer, uint64_t deadline_mono_ns); /* fires once; 0 disarms */
void    base_timer_free(struct base_timer *timer);                           /* takes NULL */

/* Deliver `signo` through the loop (signalfd); blocks its normal delivery in the calling thread, and leaves it blocked
 * when the loop is freed. Block it before other threads start; a child process inherits the mask and must reset it. */
dbe_err base_loop_signal(struct dbe_loop *loop, int signo, base_signal_fn *fn, void *ctx) DBE_MUST_CHECK;

/* From any thread: make `fn` of base_loop_on_wake run soon on the loop's thread. Wake-ups coalesce. */
void base_loop_wake(struct dbe_loop *loop);
void base_loop_on_wake(struct dbe_loop *loop, base_timer_fn *fn, void *ctx); /* one for the loop */

/* ---- sources that are asked before the loop sleeps ------------------------------------------------------------ */

/* A source that was busy just now and probably is again: a socket in a conversation, a ring in shared memory. A turn
 * that may wait yields the processor once and asks its hot sources before it asks the kernel, which saves a system
 * call and a wake-up on either side of a conversation. Whether that pays is measured as it goes: while it does not,
 * the loop sleeps at once and tries again only now and then. Every watched descriptor gets its turn within 64 turns
 * or 200 us. The struct is the owner's; the owner sets the first five members and nothing else. */
struct base_hot {
    bool (*poll)(void *ctx); /* do what there is to do; true if there was something. May free its own source   */
    void (*rest)(void *ctx); /* it is not asked any more: from now on an event must make a watched descriptor
                                ready; for one that came meanwhile it sets a timer of its own. Calls nobody,
                                frees nothing; may be NULL                                                     */
    void *ctx;
    uint64_t spin_ns;        /* the loop may yield this long for it before it sleeps; 0: once                  */
    bool cheap;              /* asking costs no system call: it is asked before the first yield as well        */
    struct dbe_loop *loop;   /* the loop's: NULL while it is not hot                                           */
    unsigned dry;            /* the loop's: asked in vain so often                                             */
};

/* Ask `hot` from now on. Where there is no place for one more its rest is called at once. Nothing if it is hot. */
void base_loop_hot(struct dbe_loop *loop, struct base_hot *hot);
/* Ask it no more; rest is not called. Before the owner frees it. */
void base_hot_cool(struct base_hot *hot);
/* Let the loop yield for at most `max_ns` before it sleeps, whatever its hot sources allow. 0, the default: once. What
 * it costs: up to that much processor time after each burst of events; what it gains: a wake-up from sleep, which
 * across processors takes ten times as long as the message. */
void base_loop_spin(struct dbe_loop *loop, uint64_t max_ns);

/* ---- receive buffers that the sources of a loop share ------------------------------------------------------------ */

/* BASE_LOOP_BUF_BYTES of memory, not zeroed; NULL when there is none. Give it back as soon as it is empty. */
void *base_loop_buf_take(struct dbe_loop *loop);
void  base_loop_buf_give(struct dbe_loop *loop, void *buf); /* takes NULL */

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* Run until base_loop_stop. E_IO if epoll fails. */
dbe_err base_loop_run(struct dbe_loop *loop) DBE_MUST_CHECK;
/* One turn: wait at most `timeout_ms` (-1: until something happens), run what is due. */
dbe_err base_loop_turn(struct dbe_loop *loop, int timeout_ms) DBE_MUST_CHECK;
void    base_loop_stop(struct dbe_loop *loop);
/* The epoll descriptor, for a caller who has a loop of their own: when readable, call base_loop_turn(loop, 0). From the
 * first call on every turn leaves its hot sources at rest, so that the caller may sleep on the descriptor. */
int     base_loop_fd(struct dbe_loop *loop);
/* Nanoseconds until the next timer, UINT64_MAX if none is armed. */
uint64_t base_loop_next_ns(const struct dbe_loop *loop);

#endif
