/* SPDX-License-Identifier: Apache-2.0
 *
 * loop_priv.h - the timers of a loop, shared by loop.c and loop_timer.c. Private to this room.
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

dbe_err loop_timer_new(struct loop_timers *t, base_timer_fn *fn, void *ctx, struct base_timer **ret) DBE_MUST_CHECK;
void loop_timers_fire(struct loop_timers *t);
uint64_t loop_timers_next_ns(const struct loop_timers *t);
void loop_timers_fini(struct loop_timers *t);

#endif
