/* SPDX-License-Identifier: Apache-2.0
 *
 * openai.h - OpenAI's chat completion API as data: request JSON in, answer JSON out, errors in its shape.
 *
 * In:   bytes of a request body; what the mesh answered
 * Out:  struct shim_chat_req; JSON text in a base_buf
 * Not:  no socket, no clock, no mesh, no policy, no log. Pure functions: safe from any thread on their own arguments.
 *
 * The rule for parameters: what changes the answer is obeyed or refused with a 400 that names it; only what has no
 * effect on the answer is accepted and ignored (docs/openai.md lists each one).
 */
#ifndef SHIM_OPENAI_H
#define SHIM_OPENAI_H

#include "base/base.h"

enum {
    SHIM_BODY_MAX_BYTES = 1024 * 1024,
    SHIM_ANSWER_MAX_BYTES = 8 * 1024 * 1024, /* one JSON answer; escaping may grow text sixfold */
    SHIM_JSON_DEPTH_MAX = 32,
    SHIM_MESSAGES_MAX = 512,
    SHIM_CONTENT_PARTS_MAX = 256,
    SHIM_STOP_MAX = 4,
    SHIM_STOP_MAX_BYTES = 256,
    SHIM_MODEL_MAX_BYTES = 128,
    SHIM_PARAM_MAX_BYTES = 96,
    SHIM_HOPS_MAX = 8,
};

/* ---- refusals --------------------------------------------------------------------------------------------------- */

/* One refusal, as HTTP status and as OpenAI's error object. */
struct shim_problem {
    int status;
    const char *type, *code;          /* static; code NULL is written as null */
    char param[SHIM_PARAM_MAX_BYTES]; /* "" is written as null */
    char message[256];
    uint32_t retry_after_s; /* 0: no Retry-After */
};

/* Fill `p`; `param` may be NULL. Returns E_ARGUMENT, so that a reader can write `return shim_problem_set(...)`. */
dbe_err shim_problem_set(struct shim_problem *p, int status, const char *code, const char *param, const char *fmt, ...)
    DBE_PRINTF(5, 6);
/* What an error of the mesh means over HTTP. `reason` and `rule` (each may be NULL) come from its ERROR message. */
void shim_problem_of_mesh(struct shim_problem *p, dbe_err err, const char *reason, const char *rule,
                          uint32_t retry_after_ms);
/* {"error":{...}}; the request id goes into it when given. */
void shim_problem_json(struct base_buf *out, const struct shim_problem *p, const char *request_id);

/* ---- request ---------------------------------------------------------------------------------------------------- */

enum shim_role { SHIM_ROLE_SYSTEM, SHIM_ROLE_USER, SHIM_ROLE_ASSISTANT };
const char *shim_role_name(enum shim_role role);

struct shim_chat_message {
    enum shim_role role;
    char *content; /* owned, UTF-8 without NUL */
};

struct shim_chat_req {
    char model[SHIM_MODEL_MAX_BYTES + 1]; /* "" when the client named none */
    struct shim_chat_message *messages;
    size_t message_count;
    bool has_temperature, has_top_p, has_max_tokens, has_seed;
    double temperature, top_p;
    uint32_t max_tokens;
    uint64_t seed; /* two's complement of a negative one */
    char *stop[SHIM_STOP_MAX];
    size_t stop_count;
    bool stream, include_usage;
};

/* Parse and check a whole body. On error `ret` is empty and `p` says what to answer (E_ARGUMENT, E_NOMEM). */
dbe_err shim_chat_req_parse(const char *body, size_t len, struct shim_chat_req *ret,
                            struct shim_problem *p) DBE_MUST_CHECK;
void shim_chat_req_free(struct shim_chat_req *req); /* wipes the texts; takes an empty one */

/* ---- models ----------------------------------------------------------------------------------------------------- */

enum { SHIM_MODELS_MAX = 32 };
struct shim_model {
    char id[SHIM_MODEL_MAX_BYTES + 1], profile[65];
    uint64_t created_unix;
    uint32_t context_tokens, device_id;
};
struct shim_models {
    struct shim_model list[SHIM_MODELS_MAX];
    size_t count;
};
/* L7_PROFILE for the name a client gave: a served id, else a row of the alias table; no name: the only one served.
 * E_ARGUMENT: `p` is a 404 model_not_found or a 400. */
dbe_err shim_models_resolve(const struct shim_models *models, const char *name, const char **ret_profile,
                            struct shim_problem *p) DBE_MUST_CHECK;
void shim_models_json(struct base_buf *out, const struct shim_models *models);
void shim_model_json(struct base_buf *out, const struct shim_model *model);
const struct shim_model *shim_models_find(const struct shim_models *models, const char *id); /* NULL: not served */

/* ---- answers ---------------------------------------------------------------------------------------------------- */

struct shim_hop {
    uint32_t device;
    const char *name;
    uint32_t elapsed_us; /* with what the hops behind it took */
    const char *suite;   /* of the channel that its answer came by; NULL: HTTP */
};
/* The "dsmil" object: which way an answer came, and under which labels. */
struct shim_trace {
    char request_id[37];
    struct shim_hop hops[SHIM_HOPS_MAX];
    size_t hop_count;
    const char *suite; /* of the channel to the router */
    uint64_t handshake_us;
    const char *classification, *roe_level, *tenant;
    uint32_t compartments; /* mask */
};

struct shim_answer {
    const char *model; /* what really answered */
    uint64_t created_unix;
    const char *content;
    size_t content_len;
    const char *finish_reason; /* "stop", "length" */
    uint32_t prompt_tokens, completion_tokens;
};
/* A whole chat.completion object. */
void shim_answer_json(struct base_buf *out, const struct shim_answer *a, const struct shim_trace *trace);
void shim_usage_json(struct base_buf *out, uint32_t prompt_tokens, uint32_t completion_tokens);
void shim_trace_json(struct base_buf *out, const struct shim_trace *trace);

#endif
