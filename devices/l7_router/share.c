/* SPDX-License-Identifier: Apache-2.0
 *
 * share.c - see share.h. Pure.
 */
#include "devices/l7_router/share.h"

#include <stdio.h>
#include <string.h>

static size_t row_of(const struct share_table *t, const char *tenant)
{
    for (size_t i = 0; i < SHARE_TENANTS_MAX; i++)
        if (t->rows[i].held > 0 && strcmp(t->rows[i].name, tenant) == 0)
            return i;
    return SHARE_TENANTS_MAX;
}

struct share *share_take(struct share_table *t, const char *tenant)
{
    size_t i = row_of(t, tenant);

    for (size_t n = 0; n < SHARE_TENANTS_MAX && i == SHARE_TENANTS_MAX; n++)
        if (t->rows[n].held == 0)
            i = n;
    if (i < SHARE_TENANTS_MAX && t->rows[i].held == 0)
        (void)snprintf(t->rows[i].name, sizeof t->rows[i].name, "%s", tenant);
    t->rows[i].held++;
    return &t->rows[i];
}

void share_give_back(struct share *row)
{
    BASE_INVARIANT(row->held > 0);
    row->held--;
}

uint64_t share_held(const struct share_table *t, const char *tenant)
{
    return t->rows[row_of(t, tenant)].held;
}

uint64_t share_limit(uint64_t places, uint64_t reserve_percent)
{
    const uint64_t kept = places / 100 * reserve_percent + places % 100 * reserve_percent / 100;

    return kept > 0 ? places - kept : UINT64_MAX;
}
