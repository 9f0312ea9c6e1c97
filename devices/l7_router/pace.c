/* SPDX-License-Identifier: Apache-2.0
 *
 * pace.c - see pace.h. Pure.
 */
#include "devices/l7_router/pace.h"

#define WEIGHT 0.125 /* of the newest request */

void pace_note(struct pace *p, double took_ms)
{
    if (took_ms < 0)
        return;
    p->mean_ms = p->mean_ms > 0 ? p->mean_ms + WEIGHT * (took_ms - p->mean_ms) : took_ms;
}

uint32_t pace_retry_ms(const struct pace *p, size_t waiting, uint64_t at_once)
{
    double ms = p->mean_ms * ((double)waiting + 1) / (double)BASE_MAX(at_once, (uint64_t)1);

    if (!(p->mean_ms > 0))
        return PACE_RETRY_UNKNOWN_MS;
    if (ms >= PACE_RETRY_MAX_MS)
        return PACE_RETRY_MAX_MS;
    return BASE_MAX((uint32_t)ms, (uint32_t)PACE_RETRY_MIN_MS);
}
