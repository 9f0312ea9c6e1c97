/* SPDX-License-Identifier: Apache-2.0
 *
 * share.h - how many places of a profile does each tenant hold, and may it hold one more?
 *
 * A tenant that holds most of a profile's places keeps out everybody who comes later for as long as its answers take,
 * however fair the turns are. So some places are kept for those who hold few.
 *
 * In:   tenants whose requests go to a worker and leave it
 * Out:  a row of the table for each, with what it holds; the most that one may hold
 * Not:  who waits for a place, and in which order: fair.h
 */
#ifndef L7_ROUTER_SHARE_H
#define L7_ROUTER_SHARE_H

#include "base/base.h"
#include "dbe/limits.h"

enum { SHARE_TENANTS_MAX = 64 }; /* that hold places of one profile at once; more share a row */

struct share {
    char name[DBE_TENANT_MAX_BYTES + 1];
    uint64_t held;
};

struct share_table { /* zeroed is empty; the last row is that of all who find none */
    struct share rows[SHARE_TENANTS_MAX + 1];
};

/* Take a place for the tenant. The row that is returned, which is never NULL, is what share_give_back takes. */
struct share *share_take(struct share_table *t, const char *tenant);
void share_give_back(struct share *row);
/* Places that the tenant holds. */
uint64_t share_held(const struct share_table *t, const char *tenant);
/* Places that one tenant may hold when `reserve_percent` of `places` are kept from it. UINT64_MAX: any number, since
 * there are too few to keep one. */
uint64_t share_limit(uint64_t places, uint64_t reserve_percent);

#endif
