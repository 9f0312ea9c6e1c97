/* SPDX-License-Identifier: Apache-2.0
 *
 * select.h - which worker answers a request for a profile? A pure decision over a table.
 *
 * In:   the table of workers, kept up to date from links, L7_MODEL_STATUS and the ends of requests; what is asked for
 * Out:  a row, or the reason why there is none
 * Not:  no links, no clock, no message
 */
#ifndef L7_ROUTER_SELECT_H
#define L7_ROUTER_SELECT_H

#include "devices/l7_router/breaker.h"

enum { ROUTER_WORKERS_MAX = 8, ROUTER_MODELS_MAX = 8, ROUTER_PROFILE_MAX_BYTES = 64, ROUTER_MODEL_ID_MAX_BYTES = 128 };

struct router_model {
    char id[ROUTER_MODEL_ID_MAX_BYTES + 1], profile[ROUTER_PROFILE_MAX_BYTES + 1];
    char architecture[33], quantization[33];
    uint64_t parameters, created_unix, kv_bytes_per_token;
    uint32_t context_tokens, device_id;
};

struct router_worker {
    const char *name; /* of the neighbour */
    uint8_t device;
    char profile[ROUTER_PROFILE_MAX_BYTES + 1]; /* what it is configured for; holds until it has said what it serves */
    bool tasks;                                 /* an agent: takes tasks and no other request */
    bool up;                                    /* its channel stands */
    bool ready;                                 /* it said so, and lately */
    uint32_t in_flight;                         /* requests of ours */
    uint32_t reported;                          /* requests that it has from all, as it said last */
    uint32_t max_requests;                      /* running and queued together; 0: not said yet */
    uint32_t sessions;                          /* of these, served at once; 0: not said */
    struct breaker breaker;
    struct router_model models[ROUTER_MODELS_MAX]; /* last that it said */
    size_t model_count;
    uint8_t *card; /* of its key for sealed prompts, as it came: the router cannot make one; NULL: not told yet */
    size_t card_len;
};

struct router_want {
    const char *profile;
    bool task;
    uint8_t only;   /* device of the one worker that can open it; 0: any */
    uint32_t tried; /* bits of rows that are out of the question */
    uint64_t ahead; /* requests given to a worker beyond those that it serves at once */
    uint64_t now_ns;
    const struct breaker_config *breaker;
};

/* Row of the least loaded healthy worker for `want`; the first of equals. It never goes to another profile, however
 * idle that is.
 * E_PROFILE: none is configured for it. E_UNAVAILABLE: those that are, are down, broken or tried. E_LIMIT: all that are
 * up are full. */
dbe_err router_select(const struct router_worker *workers, size_t count, const struct router_want *want,
                      size_t *ret_index) DBE_MUST_CHECK;
/* Does this row serve the profile? What it reported counts; before that, what it is configured for. */
bool router_serves(const struct router_worker *worker, const char *profile);
/* Places that the healthy workers of a profile have together: what they serve at once. */
uint64_t router_places(const struct router_worker *workers, size_t count, const char *profile, bool task);
/* Requests that may be at the worker at once. */
uint64_t router_capacity(const struct router_worker *worker, uint64_t ahead);

#endif
