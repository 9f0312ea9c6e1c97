/* SPDX-License-Identifier: Apache-2.0
 *
 * select.h - which worker answers a request for a profile? A pure decision over a table.
 *
 * In:   the table of workers, kept up to date from links and L7_MODEL_STATUS; a profile
 * Out:  a row, or the reason why there is none
 * Not:  no links, no clock, no message
 */
#ifndef L7_ROUTER_SELECT_H
#define L7_ROUTER_SELECT_H

#include "base/base.h"

enum { ROUTER_WORKERS_MAX = 8, ROUTER_MODELS_MAX = 8, ROUTER_PROFILE_MAX_BYTES = 64, ROUTER_MODEL_ID_MAX_BYTES = 128 };

struct router_model {
    char id[ROUTER_MODEL_ID_MAX_BYTES + 1], profile[ROUTER_PROFILE_MAX_BYTES + 1];
    char architecture[33], quantization[33];
    uint64_t parameters, created_unix;
    uint32_t context_tokens, device_id;
};

struct router_worker {
    const char *name;      /* of the neighbour */
    const char *profile;   /* what it is configured for; holds until it has said what it serves */
    bool up;               /* its channel stands */
    bool ready;            /* it said so */
    uint32_t in_flight;    /* requests of ours */
    uint32_t max_requests; /* running and queued together; 0: not said yet */
    struct router_model models[ROUTER_MODELS_MAX]; /* last that it said */
    size_t model_count;
};

/* Row of the least loaded worker that serves `profile`; the first of equals.
 * E_PROFILE: none is configured for it. E_UNAVAILABLE: those that are, are down. E_LIMIT: all that are up are full. */
dbe_err router_select(const struct router_worker *workers, size_t count, const char *profile,
                      size_t *ret_index) DBE_MUST_CHECK;
/* Does this row serve the profile? What it reported counts; before that, what it is configured for. */
bool router_serves(const struct router_worker *worker, const char *profile);

#endif
