/* SPDX-License-Identifier: Apache-2.0
 *
 * request.h - an L7ChatRequest payload, checked, as the engine takes it; and answers as payloads.
 *
 * Pure: no svc, no model. Payloads come from the mesh and are hostile all the same.
 */
#ifndef L7_WORKER_REQUEST_H
#define L7_WORKER_REQUEST_H

#include "devices/l7_worker/engine.h"

enum {
    WORKER_REQUEST_MAX_BYTES = 2 * 1024 * 1024,
    WORKER_MESSAGES_MAX = 512,
    WORKER_STOP_MAX = 4,
};

struct worker_defaults { /* for what a request leaves open */
    float temperature, top_p;
};

/* Decode and check. `ret->owned` holds the decoded request; whoever submits it hands it on. An absent seed is drawn.
 * E_TOO_LARGE, E_MALFORMED, E_RANGE, E_UTF8, E_NOMEM, E_RANDOM; `ret_reason` (valid until the next
 * call) names the field. */
dbe_err worker_request_read(const void *payload, size_t len, const struct worker_defaults *defaults,
                            struct engine_chat *ret, const char **ret_reason) DBE_MUST_CHECK;

/* Who may share what is computed of prompts: requests of one tenant with the same compartments and classification. */
struct worker_share {
    const char *tenant; /* "": unknown, shares with nobody */
    uint32_t compartments;
    uint8_t classification;
};
/* Sets ret->shares and ret->salt. Errors are those of the hash. */
dbe_err worker_request_share(const struct worker_share *share, struct engine_chat *ret) DBE_MUST_CHECK;

struct worker_answer {
    struct base_buf *text;              /* consumed: NULs, which protobuf text cannot carry here, are removed */
    const struct engine_result *result; /* NULL: more follows */
    const char *model;
    uint8_t device;
};
/* Append the packed L7ChatResponse. E_NOMEM, E_TOO_LARGE. */
dbe_err worker_answer_pack(const struct worker_answer *answer, struct base_buf *out) DBE_MUST_CHECK;

#endif
