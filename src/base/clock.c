/* SPDX-License-Identifier: Apache-2.0
 *
 * clock.c - the only place that reads the time. Out: monotonic nanoseconds and Unix milliseconds, or what a test put
 * in their place. Does not sleep and keeps no time zone.
 */
#include "base/base.h"

#include <time.h>

static struct base_clock_ops clock_ops; /* a NULL slot: the system's clock */

static uint64_t read_clock(clockid_t id, uint64_t per_second, uint64_t ns_per_unit)
{
    struct timespec ts = {0};

    BASE_INVARIANT(clock_gettime(id, &ts) == 0);
    return (uint64_t)ts.tv_sec * per_second + (uint64_t)ts.tv_nsec / ns_per_unit;
}

uint64_t base_mono_ns(void)
{
    return clock_ops.mono_ns != NULL ? clock_ops.mono_ns(clock_ops.ctx) : read_clock(CLOCK_MONOTONIC, BASE_NS_PER_S, 1);
}

uint64_t base_wall_ms(void)
{
    return clock_ops.wall_ms != NULL ? clock_ops.wall_ms(clock_ops.ctx)
                                     : read_clock(CLOCK_REALTIME, 1000, BASE_NS_PER_MS);
}

void base_clock_set(const struct base_clock_ops *ops)
{
    clock_ops = ops != NULL ? *ops : (struct base_clock_ops){0};
}
