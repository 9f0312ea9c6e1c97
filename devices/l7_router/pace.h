/* SPDX-License-Identifier: Apache-2.0
 *
 * pace.h - how fast are requests of a profile served, and when is it worth asking again? Pure.
 *
 * In:   how long each answered request took at its worker
 * Out:  milliseconds after which one more than those that wait has a place
 */
#ifndef L7_ROUTER_PACE_H
#define L7_ROUTER_PACE_H

#include "base/base.h"

enum { PACE_RETRY_MIN_MS = 50, PACE_RETRY_MAX_MS = 60000, PACE_RETRY_UNKNOWN_MS = 1000 };

struct pace {       /* zeroed: nothing measured */
    double mean_ms; /* of the last requests, the newest weighing most */
};

void pace_note(struct pace *p, double took_ms);
/* `waiting` stand before the asker and `at_once` are served together. */
uint32_t pace_retry_ms(const struct pace *p, size_t waiting, uint64_t at_once);

#endif
