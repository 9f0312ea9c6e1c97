/* SPDX-License-Identifier: Apache-2.0
 *
 * select.c - least loaded worker of a profile. Pure. A request never changes its profile here: no worker, no answer.
 */
#include "devices/l7_router/select.h"

#include <string.h>

bool router_serves(const struct router_worker *worker, const char *profile)
{
    for (size_t i = 0; i < worker->model_count; i++)
        if (strcmp(worker->models[i].profile, profile) == 0)
            return true;
    return worker->model_count == 0 && strcmp(worker->profile, profile) == 0;
}

/* Compare in_flight / max_requests without dividing; a worker that named no maximum counts as one of 1. */
static bool less_loaded(const struct router_worker *a, const struct router_worker *b)
{
    uint64_t a_max = BASE_MAX(a->max_requests, 1u), b_max = BASE_MAX(b->max_requests, 1u);

    return a->in_flight * b_max < b->in_flight * a_max;
}

static bool is_full(const struct router_worker *worker)
{
    return worker->max_requests != 0 && worker->in_flight >= worker->max_requests;
}

dbe_err router_select(const struct router_worker *workers, size_t count, const char *profile, size_t *ret_index)
{
    const struct router_worker *best = NULL;
    bool configured = false, up = false;

    for (size_t i = 0; i < count; i++) {
        const struct router_worker *w = &workers[i];
        if (!router_serves(w, profile))
            continue;
        configured = true;
        if (!w->up || !w->ready)
            continue;
        up = true;
        if (!is_full(w) && (best == NULL || less_loaded(w, best)))
            best = w;
    }
    if (best == NULL)
        return !configured ? DBE_E_PROFILE : up ? DBE_E_LIMIT : DBE_E_UNAVAILABLE;
    *ret_index = (size_t)(best - workers);
    return DBE_OK;
}
