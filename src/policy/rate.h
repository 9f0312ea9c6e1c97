/* SPDX-License-Identifier: Apache-2.0
 *
 * rate.h - what each tenant may still use: requests and tokens within a sliding window, requests at once, bytes of KV
 * cache. One account a tenant, reserved before a request is let in, settled with the real count when it ends.
 *
 * In:   limits of the policy (pol_limits), the tenant, an upper bound of what the request will take, the time
 * Out:  a ticket, or which limit says no and when to come again
 * Not:  no clock, no I/O, no log, no queue. It allocates only an account at a tenant's first limited request.
 * Threads: none; one owner.
 *
 * Promises (rate_test.c holds them against a model for random sequences):
 * - Within any window of the limit's length no more than its count is granted. Not half a window twice, as with
 *   counters that start anew each minute, nor a burst on top, as with buckets.
 * - retry_after_ms is never early, and late by POL_RATE_UNIT_MS or a window's 3600th part at most: whoever comes then,
 *   and nobody else meanwhile, is let in.
 * - What was reserved and not used comes back, exactly; a ticket counts once, whatever is done with it.
 * - Time that goes back stands still instead; time that leaps ahead is time that passed.
 * - What was kept and taken up again (rate_keep.c) counts as if nobody had stopped. Of more than POL_RATE_KEPT_SLOTS
 *   parts in use some leave later, by a window's POL_RATE_KEPT_SLOTSth part at most, and none earlier.
 */
#ifndef POLICY_RATE_H
#define POLICY_RATE_H

#include "policy/policy.h"

enum {
    POL_ACCOUNTS_MAX = 256,  /* tenants with limits that have used something within their windows */
    POL_RATE_SLOTS = 3600,   /* parts that a window is counted in */
    POL_RATE_UNIT_MS = 1000, /* of the Retry-After header */
    POL_RATE_KEPT_SLOTS = 128, /* of a window, at most, in what is kept */
    POL_RATE_KEPT_MAX_BYTES = 2 * 1024 * 1024,
};

struct pol_rates;
dbe_err pol_rates_new(struct pol_rates **ret) DBE_MUST_CHECK;
void    pol_rates_free(struct pol_rates *rates); /* takes NULL */

/* What one request holds. Zeroed: nothing. Copy it freely, settle it once. */
struct pol_ticket {
    uint16_t account; /* index + 1; 0: no limit applied */
    uint32_t layout;  /* of the account's windows when it was reserved */
    uint64_t serial, request_slot, token_slot, tokens, kv_bytes;
};

struct pol_refusal {
    const char *limit;          /* "requests", "tokens", "parallel", "kv"; "tenants": no account is free */
    uint64_t    retry_after_ms; /* 0: never, the request is larger than the limit. Where others must end first, which
                                   no clock tells: one unit */
    char        reason[128];    /* for people */
};

/* Let a request in that takes at most `tokens` and `kv_bytes`. All limits hold, or nothing was reserved. E_LIMIT with
 * `why`; E_NOMEM. `limits` is looked at each time, so a changed policy binds the next request. */
dbe_err pol_rate_reserve(struct pol_rates *rates, const char *tenant, const struct pol_limits *limits, uint64_t tokens,
                         uint64_t kv_bytes, uint64_t now_ms, struct pol_ticket *ret,
                         struct pol_refusal *why) DBE_MUST_CHECK;

/* The request ended and took `tokens`: the rest comes back. More than was reserved counts as well. The ticket is empty
 * then; an empty one does nothing. */
void pol_rate_settle(struct pol_rates *rates, struct pol_ticket *ticket, uint64_t tokens, uint64_t now_ms);

/* The request was never served: all of it comes back, the request itself as well. */
void pol_rate_refund(struct pol_rates *rates, struct pol_ticket *ticket, uint64_t now_ms);

/* What a tenant has in use: within its windows, and right now. Zeros for one without an account. */
struct pol_usage {
    uint64_t requests, tokens, kv_bytes;
    uint32_t parallel;
};
void pol_rate_usage(struct pol_rates *rates, const char *tenant, uint64_t now_ms, struct pol_usage *ret);

/* ---- over a restart ----------------------------------------------------------------------------- */

/* When something is kept, or taken up. Within one boot the monotonic clock tells what passed, whatever was done to the
 * wall clock meanwhile. */
struct pol_rate_time {
    uint8_t  boot[16]; /* of this boot of the machine; zeros: unknown */
    uint64_t mono_ms;  /* the same that pol_rate_reserve is given */
    uint64_t wall_ms;
};
/* Counts every reservation and its end: while it stays, there is nothing new to keep. */
uint64_t pol_rates_changes(const struct pol_rates *rates);
/* Append what every tenant has used within its windows; what is reserved counts as used, requests at once and KV bytes
 * end with the process. Errors of `out`, E_CRYPTO. */
dbe_err  pol_rates_keep(struct pol_rates *rates, const struct pol_rate_time *now, struct base_buf *out) DBE_MUST_CHECK;
/* Take it up again, into accounts that nobody has used yet. A wall clock behind the kept one: no time passed.
 * E_MALFORMED: it is not whole, or says what cannot be; E_NOMEM. Nobody has used anything then. */
dbe_err  pol_rates_take_up(struct pol_rates *rates, const struct pol_rate_time *now, const void *bytes, size_t len,
                           struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
