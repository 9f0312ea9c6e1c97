/* SPDX-License-Identifier: Apache-2.0
 *
 * select.c - least loaded healthy worker of a profile. Pure. A request never changes its profile here: no worker, no
 * answer.
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

uint64_t router_capacity(const struct router_worker *worker, uint64_t ahead)
{
    const uint64_t max = worker->max_requests != 0 ? worker->max_requests : UINT64_MAX;

    return worker->sessions != 0 ? BASE_MIN(max, worker->sessions + ahead) : max;
}

uint64_t router_places(const struct router_worker *workers, size_t count, const char *profile, bool task)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++) {
        const struct router_worker *w = &workers[i];
        if (w->tasks == task && w->up && w->ready && router_serves(w, profile))
            sum += BASE_MAX(w->sessions != 0 ? w->sessions : w->max_requests, 1u);
    }
    return sum;
}

/* Others may send it requests, too: what it reports counts if it is more than we know of. */
static uint64_t load_of(const struct router_worker *worker)
{
    return BASE_MAX(worker->in_flight, worker->reported);
}

/* Compare load / sessions without dividing; a worker that named neither number counts as one of 1. */
static bool less_loaded(const struct router_worker *a, const struct router_worker *b)
{
    uint64_t a_max = BASE_MAX(a->sessions != 0 ? a->sessions : a->max_requests, 1u);
    uint64_t b_max = BASE_MAX(b->sessions != 0 ? b->sessions : b->max_requests, 1u);

    return load_of(a) * b_max < load_of(b) * a_max;
}

dbe_err router_select(const struct router_worker *workers, size_t count, const struct router_want *want,
                      size_t *ret_index)
{
    const struct router_worker *best = NULL;
    bool configured = false, up = false;

    for (size_t i = 0; i < count; i++) {
        const struct router_worker *w = &workers[i];
        if (w->tasks != want->task || !router_serves(w, want->profile))
            continue;
        configured = true;
        if ((want->only != 0 && w->device != want->only) || !w->up || !w->ready || (want->tried >> i & 1) != 0 ||
            !breaker_allows(&w->breaker, want->breaker, want->now_ns))
            continue;
        up = true;
        if (w->in_flight < router_capacity(w, want->ahead) && (best == NULL || less_loaded(w, best)))
            best = w;
    }
    if (best == NULL)
        return !configured ? DBE_E_PROFILE : up ? DBE_E_LIMIT : DBE_E_UNAVAILABLE;
    *ret_index = (size_t)(best - workers);
    return DBE_OK;
}
