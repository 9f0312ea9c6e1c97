/* SPDX-License-Identifier: Apache-2.0
 *
 * loop.c - the event loop as the library's users see it (dbe/loop.h): the same loop, under names that stay.
 *
 * Does not: add anything. A public timer is a timer of base/loop.h, a public watch one of its watches.
 */
#include "dbe/loop.h"

#include "base/loop.h"

_Static_assert((int)DBE_LOOP_READ == (int)BASE_LOOP_READ && (int)DBE_LOOP_WRITE == (int)BASE_LOOP_WRITE &&
                   (int)DBE_LOOP_HANGUP == (int)BASE_LOOP_HANGUP,
               "events have the same bits on both sides");

dbe_err dbe_loop_new(struct dbe_loop **ret)
{
    return base_loop_new(ret);
}

void dbe_loop_free(struct dbe_loop *loop)
{
    base_loop_free(loop);
}

dbe_err dbe_loop_run(struct dbe_loop *loop)
{
    return base_loop_run(loop);
}

dbe_err dbe_loop_turn(struct dbe_loop *loop, int timeout_ms)
{
    return base_loop_turn(loop, timeout_ms);
}

void dbe_loop_stop(struct dbe_loop *loop)
{
    base_loop_stop(loop);
}

int dbe_loop_fd(struct dbe_loop *loop)
{
    return base_loop_fd(loop);
}

uint64_t dbe_loop_next_ns(const struct dbe_loop *loop)
{
    return base_loop_next_ns(loop);
}

void dbe_loop_spin(struct dbe_loop *loop, uint64_t max_ns)
{
    base_loop_spin(loop, max_ns);
}

uint64_t dbe_now_ns(void)
{
    return base_mono_ns();
}

dbe_err dbe_loop_timer(struct dbe_loop *loop, dbe_timer_fn *fn, void *ctx, struct dbe_timer **ret)
{
    struct base_timer *timer = NULL;

    DBE_TRY(base_loop_timer(loop, fn, ctx, &timer));
    *ret = (struct dbe_timer *)timer;
    return DBE_OK;
}

void dbe_timer_set(struct dbe_timer *timer, uint64_t deadline_ns)
{
    base_timer_set((struct base_timer *)timer, deadline_ns);
}

void dbe_timer_free(struct dbe_timer *timer)
{
    base_timer_free((struct base_timer *)timer);
}

dbe_err dbe_loop_watch(struct dbe_loop *loop, int fd, unsigned events, dbe_watch_fn *fn, void *ctx,
                       struct dbe_watch **ret)
{
    struct base_watch *watch = NULL;

    DBE_TRY(base_loop_watch(loop, fd, events, fn, ctx, &watch));
    *ret = (struct dbe_watch *)watch;
    return DBE_OK;
}

dbe_err dbe_watch_events(struct dbe_watch *watch, unsigned events)
{
    return base_watch_events((struct base_watch *)watch, events);
}

void dbe_watch_free(struct dbe_watch *watch)
{
    base_watch_free((struct base_watch *)watch);
}

void dbe_loop_wake(struct dbe_loop *loop)
{
    base_loop_wake(loop);
}

void dbe_loop_on_wake(struct dbe_loop *loop, dbe_timer_fn *fn, void *ctx)
{
    base_loop_on_wake(loop, fn, ctx);
}
