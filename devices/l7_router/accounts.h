/* SPDX-License-Identifier: Apache-2.0
 *
 * accounts.h - what tenants have used, in a file, so that a restart of the router gives nobody a second allowance.
 *
 * In:   the file that --accounts names (none: nothing is kept), read once at the start
 * Out:  accounts as they were; the file, replaced as a whole once a second while something changes, and at the end
 * Not:  no rule and no format: policy/rate.h
 *
 * A router that is killed forgets the last second at most. The replacement does not wait for the disk, as requests wait
 * for this thread: after a power cut the file may be older, or damaged. A damaged file is told of and put aside, and
 * everybody starts with a full allowance: one allowance more is the most that anyone gains, while refusing every tenant
 * for as long as the longest window would make an outage of a bad block.
 */
#ifndef L7_ROUTER_ACCOUNTS_H
#define L7_ROUTER_ACCOUNTS_H

#include "policy/rate.h"
#include "runtime/svc.h"

enum { ROUTER_ACCOUNTS_PATH_MAX = 1024, ROUTER_ACCOUNTS_EVERY_MS = 1000 };

struct router_accounts {
    char path[ROUTER_ACCOUNTS_PATH_MAX]; /* a parameter; "": keep nothing */
    uint8_t boot[16];
    uint64_t kept_changes, kept_ns;
    bool open, failing;
    uint64_t failures; /* a counter */
};

/* Read the file. Nothing that it holds keeps a router from starting. E_NOMEM. */
dbe_err router_accounts_open(struct svc *svc, struct router_accounts *a, struct pol_rates *rates) DBE_MUST_CHECK;
/* Write what has changed, if it is time. */
void router_accounts_tick(struct svc *svc, struct router_accounts *a, struct pol_rates *rates);
/* Write what has changed, durably. Takes one that was never opened. */
void router_accounts_close(struct svc *svc, struct router_accounts *a, struct pol_rates *rates);

#endif
