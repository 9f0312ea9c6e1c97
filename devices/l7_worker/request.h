/* SPDX-License-Identifier: Apache-2.0
 *
 * request.h - L7ChatRequest and L7EmbedRequest payloads, checked, as the engine takes them.
 *
 * Pure: no svc, no model. Payloads come from the mesh and are hostile all the same.
 */
#ifndef L7_WORKER_REQUEST_H
#define L7_WORKER_REQUEST_H

#include "devices/l7_worker/tools.h"

enum {
    WORKER_REQUEST_MAX_BYTES = 2 * 1024 * 1024,
    WORKER_MESSAGES_MAX = 512,
    WORKER_STOP_MAX = 4,
    WORKER_N_MAX = 8,        /* answers to one prompt */
    WORKER_ANSWERS_MAX = 32, /* of a request in all */
    WORKER_CACHE_KEY_MAX = 128,
};

struct worker_defaults { /* for what a request leaves open */
    float temperature, top_p;
    uint32_t vocab; /* tokens that the model has */
    struct worker_tool_style tools;
};

struct worker_request {
    struct engine_chat chat;
    uint32_t count, n;     /* answers that are wanted: in all, and to each prompt */
    const char *cache_key; /* "": none; belongs to chat.owned */
    bool receipt;          /* it is to be signed what was answered; there is one answer then */
    bool formed;           /* false: worker_request_form has to follow before the chat is submitted */
    enum llm_tools tools;  /* how the model calls them */
};

/* Decode and check. `ret->chat.owned` holds the decoded request; whoever submits it hands it on. An absent seed is
 * drawn. E_TOO_LARGE, E_MALFORMED, E_RANGE, E_UTF8, E_NOMEM, E_RANDOM; E_AUTH: it is sealed, which somebody hid;
 * `ret_reason` (valid until the next call) names the field. */
dbe_err worker_request_read(const void *payload, size_t len, const struct worker_defaults *defaults,
                            struct worker_request *ret, const char **ret_reason) DBE_MUST_CHECK;
/* Make the grammars of a request's answer and calls, which takes long where a schema is made for that: a tenth of a
 * second each, in any one thread. E_RANGE (diag names the field, and the place in a schema), E_NOMEM. */
dbe_err worker_request_form(struct worker_request *request, struct dbe_diag *diag) DBE_MUST_CHECK;
/* worker_request_read for an L7EmbedRequest. */
dbe_err worker_request_read_embed(const void *payload, size_t len, const struct worker_defaults *defaults,
                                  struct engine_chat *ret, const char **ret_reason) DBE_MUST_CHECK;
/* What answer `index` of several is made of: its prompt, and a seed of its own; the first to a prompt has the
 * request's. */
void worker_request_prompt(struct engine_chat *chat, uint32_t index, uint32_t n);
/* One more job will own what `chat` owns, and free it. Before the first is submitted or while one is alive. */
void worker_request_hold(const struct engine_chat *chat);

/* Who may share what is computed of prompts: requests of one tenant with the same compartments and classification, and
 * of these only those that gave the same key. */
struct worker_share {
    const char *tenant; /* "": unknown, shares with nobody */
    uint32_t compartments;
    uint8_t classification;
    const char *cache_key;
};
/* Sets ret->shares and ret->salt. Errors are those of the hash. */
dbe_err worker_request_share(const struct worker_share *share, struct engine_chat *ret) DBE_MUST_CHECK;

#endif
