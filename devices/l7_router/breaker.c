/* SPDX-License-Identifier: Apache-2.0
 *
 * breaker.c - see breaker.h. Pure.
 */
#include "devices/l7_router/breaker.h"

static void enter(struct breaker *b, enum breaker_state state)
{
    b->state = state;
    b->failures = 0;
    b->probing = 0;
    b->round++;
}

static void open(struct breaker *b, uint64_t for_ms, uint64_t now_ns)
{
    enter(b, BREAKER_OPEN);
    b->open_for_ms = for_ms;
    b->until_ns = now_ns + for_ms * BASE_NS_PER_MS;
    b->opened++;
}

bool breaker_allows(const struct breaker *b, const struct breaker_config *config, uint64_t now_ns)
{
    switch (b->state) {
    case BREAKER_CLOSED: return true;
    case BREAKER_OPEN: return now_ns >= b->until_ns;
    case BREAKER_HALF_OPEN: return b->probing < config->probes;
    }
    return false;
}

uint64_t breaker_begin(struct breaker *b, const struct breaker_config *config, uint64_t now_ns)
{
    BASE_INVARIANT(breaker_allows(b, config, now_ns));
    if (b->state == BREAKER_OPEN)
        enter(b, BREAKER_HALF_OPEN);
    if (b->state == BREAKER_HALF_OPEN)
        b->probing++;
    return b->round;
}

static void end_probe(struct breaker *b, const struct breaker_config *config, enum breaker_outcome outcome,
                      uint64_t now_ns)
{
    if (outcome == BREAKER_OK) {
        enter(b, BREAKER_CLOSED);
        b->open_for_ms = 0;
    } else if (outcome == BREAKER_FAILED) {
        open(b, BASE_MIN(2 * b->open_for_ms, config->open_max_ms), now_ns);
    } else {
        b->probing--;
    }
}

void breaker_end(struct breaker *b, const struct breaker_config *config, uint64_t ticket, enum breaker_outcome outcome,
                 uint64_t now_ns)
{
    if (ticket != b->round || b->state == BREAKER_OPEN)
        return;
    if (b->state == BREAKER_HALF_OPEN)
        end_probe(b, config, outcome, now_ns);
    else if (outcome == BREAKER_OK)
        b->failures = 0;
    else if (outcome == BREAKER_FAILED && ++b->failures >= config->failures)
        open(b, config->open_ms, now_ns);
}

void breaker_fail(struct breaker *b, const struct breaker_config *config, uint64_t now_ns)
{
    breaker_end(b, config, b->round, BREAKER_FAILED, now_ns);
}

const char *breaker_state_name(enum breaker_state state)
{
    static const char *const names[] = {"closed", "open", "half-open"};

    return names[state];
}
