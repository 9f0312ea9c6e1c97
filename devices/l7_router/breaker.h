/* SPDX-License-Identifier: Apache-2.0
 *
 * breaker.h - may a worker that failed be tried again? A circuit breaker as a pure state machine.
 *
 *   CLOSED --failures in a row--> OPEN --time--> HALF_OPEN --a probe succeeds--> CLOSED
 *                                   ^                |
 *                                   +--a probe fails-+   each time twice as long, up to a maximum
 *
 * In:   requests that begin and how they end; the time
 * Out:  whether one more may be sent
 * Not:  no clock, no worker. What counts as a failure is the caller's: a deadline that the asker set is none.
 */
#ifndef L7_ROUTER_BREAKER_H
#define L7_ROUTER_BREAKER_H

#include "base/base.h"

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };
enum breaker_outcome { BREAKER_OK, BREAKER_FAILED, BREAKER_UNKNOWN }; /* UNKNOWN: left before there was an outcome */

struct breaker_config {
    uint64_t failures;             /* in a row that open it; at least 1 */
    uint64_t open_ms, open_max_ms; /* how long at first, and at most */
    uint64_t probes;               /* at once while half open; at least 1 */
};

struct breaker { /* zeroed is closed */
    enum breaker_state state;
    uint64_t failures; /* in a row, while closed */
    uint64_t probing;  /* on their way, while half open */
    uint64_t open_for_ms, until_ns;
    uint64_t round;  /* changes with the state: what began before it says nothing about now */
    uint64_t opened; /* how often, ever */
};

bool breaker_allows(const struct breaker *b, const struct breaker_config *config, uint64_t now_ns);
/* A request is sent, which breaker_allows allowed. Returns the ticket that its end takes. */
uint64_t breaker_begin(struct breaker *b, const struct breaker_config *config, uint64_t now_ns);
void breaker_end(struct breaker *b, const struct breaker_config *config, uint64_t ticket, enum breaker_outcome outcome,
                 uint64_t now_ns);
/* A failure of no single request, such as a channel that went down: one, however many requests went with it. */
void breaker_fail(struct breaker *b, const struct breaker_config *config, uint64_t now_ns);
const char *breaker_state_name(enum breaker_state state);

#endif
