/* SPDX-License-Identifier: Apache-2.0
 *
 * loop_priv.h - the timers, hot sources and buffers of a loop, shared by loop*.c. Private to this room.
 */
#ifndef BASE_LOOP_PRIV_H
#define BASE_LOOP_PRIV_H

#include "base/loop.h"

/* Binary heap by deadline. `all` holds every timer, so that the loop can free them; `heap` has room for all of them,
 * which is why arming cannot fail. */
struct loop_timers {
    struct base_timer **heap;
    struct base_timer *all;
    size_t armed, count, cap;
};

/* Hot sources (loop_hot.c) and whether asking them pays. */
struct loop_hots {
    struct base_hot *list[BASE_LOOP_HOTS_MAX];
    size_t count;
    uint64_t spin_ns;
    unsigned misses;         /* in a row                                                 */
    unsigned skip;           /* sleep at once that many times more                       */
    unsigned turns;          /* since the kernel was asked                               */
    uint64_t asked_ns;       /* when it was                                              */
};

struct loop_bufs {
    void *kept[BASE_LOOP_BUFS_KEPT];
    size_t count;
};

/* Where the turn goes on after its hot sources were asked. */
enum loop_hot_next {
    LOOP_HOT_DONE,   /* there was something: the turn is over but for the timers */
    LOOP_HOT_GLANCE, /* the others' turn: ask the kernel without waiting        */
    LOOP_HOT_SLEEP,  /* nothing: every source is at rest, wait in the kernel     */
};

/* Ask hot sources, yielding in between, for a turn that may wait `max_ns`. `*now_ns` is the time before and after. */
enum loop_hot_next loop_hots_ask(struct loop_hots *h, uint64_t max_ns, uint64_t *now_ns);
/* Put every source to rest. */
void loop_hots_rest(struct loop_hots *h);
struct loop_hots *loop_hots_of(struct dbe_loop *loop);
struct loop_bufs *loop_bufs_of(struct dbe_loop *loop);
void loop_bufs_fini(struct loop_bufs *b);

dbe_err loop_timer_new(struct loop_timers *t, base_timer_fn *fn, void *ctx, struct base_timer **ret) DBE_MUST_CHECK;
void loop_timers_fire(struct loop_timers *t, uint64_t now_ns);
/* Nanoseconds from `now_ns` until the next one; UINT64_MAX if none is armed. */
uint64_t loop_timers_next_ns(const struct loop_timers *t, uint64_t now_ns);
void loop_timers_fini(struct loop_timers *t);

#endif
