/* SPDX-License-Identifier: Apache-2.0
 *
 * fair.h - who is next? A bounded queue that takes turns between tenants.
 *
 * In:   entries with their tenant
 * Out:  the next one: tenants in turns, each tenant's own in their order; who may not go now is passed over. When it is
 *       full, the newest entry of whoever waits with most has to go, which may be the one that comes
 * Not:  no clock, no memory of its own: entries are part of what waits
 */
#ifndef L7_ROUTER_FAIR_H
#define L7_ROUTER_FAIR_H

#include "base/base.h"
#include "dbe/limits.h"

enum { FAIR_TENANTS_MAX = 64 }; /* that wait at once in one queue */

struct fair_tenant;

struct fair_entry {                     /* lives in what waits, as long as it does */
    struct fair_tenant *tenant;         /* NULL: waits nowhere */
    struct fair_entry *next, *prev;     /* of its tenant */
    struct fair_entry *younger, *older; /* of all */
};

struct fair_tenant {
    char name[DBE_TENANT_MAX_BYTES + 1];
    struct fair_entry *head, *tail;
    size_t count;
    struct fair_tenant *next, *prev; /* the circle of those that wait */
};

struct fair_queue { /* zeroed is empty */
    struct fair_tenant tenants[FAIR_TENANTS_MAX];
    struct fair_tenant *turn; /* whose entry is next; NULL: nobody waits */
    struct fair_entry *oldest, *youngest;
    size_t count;
};

/* Take an entry in. E_LIMIT: it has to go itself. `ret_evicted` is NULL, or the entry that had to go for it and waits
 * no more. */
dbe_err fair_push(struct fair_queue *q, size_t max, const char *tenant, struct fair_entry *entry,
                  struct fair_entry **ret_evicted) DBE_MUST_CHECK;
/* May the tenant have its turn now? */
typedef bool fair_may_fn(const void *ctx, const char *tenant);
/* The next one whose tenant may have its turn, which is not taken out; NULL: nobody waits who may. */
struct fair_entry *fair_next(const struct fair_queue *q, fair_may_fn *may, const void *ctx);
/* Take out what fair_next gave: its tenant has had its turn. */
void fair_take(struct fair_queue *q, struct fair_entry *entry);
/* Take this one out, wherever it stands. */
void fair_remove(struct fair_queue *q, struct fair_entry *entry);

#endif
