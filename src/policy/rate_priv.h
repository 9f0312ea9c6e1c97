/* SPDX-License-Identifier: Apache-2.0
 *
 * rate_priv.h - the accounts of tenants as rate.c counts in them and rate_keep.c keeps them over a restart.
 */
#ifndef POLICY_RATE_PRIV_H
#define POLICY_RATE_PRIV_H

#include "policy/rate.h"

enum { RING_MAX = POL_RATE_SLOTS + 1 };
#define AMOUNT_MAX (UINT64_C(1) << 48) /* no sum of these overflows while a request takes a nanosecond */

struct window {
    uint64_t window_ms, slot_ms; /* 0: not in use */
    uint64_t ring;               /* slots in use: a window's, and the one that is being filled */
    uint64_t head;               /* number of the newest slot */
    uint64_t sum;
    uint64_t slots[RING_MAX]; /* by number, modulo ring */
};

struct account {
    char tenant[DBE_TENANT_MAX_BYTES + 1];
    uint64_t serial;
    uint32_t layout, parallel;
    uint64_t kv_bytes;
    struct window requests, tokens;
};

struct pol_rates {
    struct account *accounts[POL_ACCOUNTS_MAX];
    uint64_t last_ms, time_ms; /* what the clock said last; our own time, which never goes back */
    uint64_t next_serial, changes;
    bool started;
};

void rate_advance(struct pol_rates *r, uint64_t now_ms);
/* An empty window of this length, at this time of our own. */
void rate_shape(struct window *w, uint64_t window_ms, uint64_t time_ms);
/* Slots that are a window old leave. */
void rate_roll(struct window *w, uint64_t time_ms);
/* Is this slot still in the window? */
bool rate_holds(const struct window *w, uint64_t slot);
/* An account without use in this place. NULL: no memory. */
struct account *rate_account_new(struct pol_rates *r, size_t at, const char *tenant);

#endif
