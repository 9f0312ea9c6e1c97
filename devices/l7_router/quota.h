/* SPDX-License-Identifier: Apache-2.0
 *
 * quota.h - a tenant's limits at the router: reserved when a request comes in, settled when it is done.
 *
 * In:   the policy in force, a request's message and tenant, what workers say of their models, the last answer
 * Out:  let in, or which limit says no and when to come again (policy/rate.h keeps the accounts)
 * Not:  no refusal of its own: the walk of the request says it.
 */
#ifndef L7_ROUTER_QUOTA_H
#define L7_ROUTER_QUOTA_H

#include "policy/rate.h"

struct router_job;
struct dbe_msg;

struct router_hold { /* what one request holds of its tenant's limits */
    struct pol_ticket ticket;
    struct pol_refusal why; /* where it was refused */
    uint64_t tokens;        /* of the answer, where `told` */
    bool told;
};

/* Reserve for a request of a known profile. E_LIMIT, E_TOO_LARGE (it never fits): `hold.why` has the words; E_NOMEM. */
dbe_err router_quota_take(struct router_job *job, const struct dbe_msg *msg) DBE_MUST_CHECK;
/* The last message of an answer: it says how many tokens there were. */
void router_quota_note(struct router_job *job, const struct dbe_msg *msg);
/* The request is done. */
void router_quota_end(struct router_job *job);

#endif
