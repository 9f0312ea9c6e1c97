/* SPDX-License-Identifier: Apache-2.0
 *
 * openai.h - OpenAI's API as data: request JSON in, answer JSON out, errors in its shape.
 *
 * In:   bytes of a request body; what the mesh answered
 * Out:  struct shim_req; JSON text in a base_buf
 * Not:  no socket, no clock, no mesh, no policy, no log. Pure functions: safe from any thread on their own arguments.
 *
 * The rule for parameters: each property of OpenAI's schema is a row of params.def: obeyed, or accepted at the one
 * value that asks for what happens anyway, or refused with a 400 that names it. Nothing is ignored.
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
    SHIM_N_MAX = 8,        /* answers to one prompt */
    SHIM_CHOICES_MAX = 32, /* of a request in all */
    SHIM_TOP_LOGPROBS_MAX = 20,
    SHIM_BIASES_MAX = 1024,
    SHIM_TOOLS_MAX = 64,
    SHIM_TOOL_NAME_MAX_BYTES = 64,
    SHIM_CALLS_MAX = 64, /* of one message */
    SHIM_CACHE_KEY_MAX_BYTES = 128,
    SHIM_INPUTS_MAX = 2048,
    SHIM_MESSAGE_ID_BYTES = 64,
    SHIM_VECTORS_ANSWER_MAX_BYTES = 64 * 1024 * 1024,
};

/* ---- refusals --------------------------------------------------------------------------------------------------- */

/* One refusal, as HTTP status and as OpenAI's error object. */
struct shim_problem {
    int status;
    const char *type, *code;          /* static; code NULL is written as null */
    char param[SHIM_PARAM_MAX_BYTES]; /* "" is written as null */
    char message[256];
    uint32_t retry_after_s;  /* 0: no Retry-After */
    uint32_t retry_after_ms; /* 0: not known that well */
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

/* What a request asks for, and so which shape its answer has. */
enum shim_kind { SHIM_CHAT, SHIM_COMPLETION, SHIM_EMBEDDING, SHIM_RESPONSE };

enum shim_role { SHIM_ROLE_SYSTEM, SHIM_ROLE_USER, SHIM_ROLE_ASSISTANT, SHIM_ROLE_TOOL };
const char *shim_role_name(enum shim_role role);

/* All texts of a request are owned by it: UTF-8 without NUL. */
struct shim_call {
    char *id, *name, *arguments;
};
struct shim_message {
    enum shim_role role;
    char *content;
    struct shim_call *calls; /* of an assistant */
    size_t call_count;
    char *call_id; /* of a tool's result, else NULL */
};
struct shim_tool {
    char *name, *description, *parameters; /* the last a JSON schema; "": none */
};
struct shim_tokens { /* of the model's own vocabulary */
    uint32_t *ids;
    size_t count;
};
struct shim_bias {
    uint32_t token;
    float bias;
};

struct shim_req {
    enum shim_kind kind;
    char model[SHIM_MODEL_MAX_BYTES + 1]; /* "" when the client named none */
    struct shim_message *messages;        /* of a completion: its prompts */
    size_t message_count;
    struct shim_tokens *tokens; /* prompts or inputs in place of texts */
    size_t token_count;
    bool has_temperature, has_top_p, has_max_tokens, has_seed;
    double temperature, top_p, frequency_penalty, presence_penalty;
    uint32_t max_tokens;
    uint64_t seed; /* two's complement of a negative one */
    char *stop[SHIM_STOP_MAX];
    size_t stop_count;
    bool stream, include_usage;
    uint32_t n; /* answers, at least 1 */
    struct shim_bias *biases;
    size_t bias_count;
    bool logprobs;
    uint32_t top_logprobs;
    const char *format; /* static: "" text, "json_object", "json_schema" */
    char *schema;       /* with json_schema */
    struct shim_tool *tools;
    size_t tool_count;
    bool single_call;        /* parallel_tool_calls: false */
    const char *tool_choice; /* static: "" auto, "none", "required", "function" */
    char tool_name[SHIM_TOOL_NAME_MAX_BYTES + 1];
    char **allowed; /* of the tools, those that may be called; the others are left out */
    size_t allowed_count;
    char cache_key[SHIM_CACHE_KEY_MAX_BYTES + 1];
    char *user, *safety_identifier;   /* who of the client's users asks, or NULL: for the log, as a digest */
    char *format_note, *instructions; /* what the JSON is for; of a response: both are told to the model */
    bool echo;                        /* a completion says its prompt first */
    char **inputs;                    /* of an embedding */
    size_t input_count;
    bool base64;
    char *said;           /* members that the answer repeats, JSON, each with a comma before it; or NULL */
    bool receipt, sealed; /* "dsmil": a receipt is wanted; the prompt has to be sealed to the worker */
    bool payload;         /* "dsmil": nothing is asked: tell the message's payload, so that persons can approve it */
    char *roe_token;      /* "dsmil": base64url, not looked into; or NULL */
};

/* Parse and check a whole body. On error `ret` is empty and `p` says what to answer (E_ARGUMENT, E_NOMEM). */
dbe_err shim_req_parse(enum shim_kind kind, const char *body, size_t len, struct shim_req *ret,
                       struct shim_problem *p) DBE_MUST_CHECK;
void shim_req_free(struct shim_req *req); /* wipes the texts; takes an empty one */

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
    uint32_t compartments;                    /* mask */
    bool sealed;                              /* the router could read nothing */
    const uint8_t *receipt, *receipt_request; /* the second: the payload that it is about; NULL: none was asked for */
    size_t receipt_len, receipt_request_len;
};

/* What a writer of answers has to know of the request. */
struct shim_style {
    enum shim_kind kind;
    bool logprobs, include_usage;
    uint32_t top_logprobs;
    bool echo;  /* a completion's answers begin with their prompts, and may be as long */
    char *said; /* owned: see shim_req */
};
/* Takes `said` out of `req`. */
void shim_style_of(struct shim_req *req, struct shim_style *ret);
void shim_style_free(struct shim_style *style);

/* Texts of an answer end with the callback that told them. Bytes of a token may be a part of a character. */
struct shim_prob {
    const char *token;
    size_t len;
    float logprob;
    bool first;                  /* of a prompt: it has none, and no alternatives */
    const struct shim_prob *top; /* likeliest first */
    size_t top_count;
};
struct shim_choice { /* whole, or what came since the last time */
    uint32_t index;
    const char *content;
    size_t content_len, behind_len; /* the second: of the first, bytes at its end that stand behind the calls */
    const char *finish_reason;      /* "stop", "length", "tool_calls"; NULL: more follows */
    const struct shim_prob *probs;
    size_t prob_count;
    const struct shim_call *calls;
    size_t call_count;
};
struct shim_answer {
    const char *model, *fingerprint; /* what really answered */
    uint64_t created_unix;
    const struct shim_choice *choices;
    size_t choice_count;
    uint32_t prompt_tokens, cached_tokens, completion_tokens;
};
/* The words before a choice's calls and those behind them, each with the probabilities of the tokens that begin in it.
 * Where no calls stand between them, all are before. */
void shim_choice_split(const struct shim_choice *c, struct shim_choice *ret_before, struct shim_choice *ret_behind);
/* A whole chat.completion, text_completion or response object. */
void shim_answer_json(struct base_buf *out, const struct shim_style *style, const struct shim_answer *a,
                      const struct shim_trace *trace);
void shim_usage_json(struct base_buf *out, enum shim_kind kind, const struct shim_answer *a);
void shim_compartments_json(struct base_buf *out, uint32_t mask); /* names in a list */
void shim_trace_json(struct base_buf *out, const struct shim_trace *trace);
/* Members of a "choices" element; and one token's probability as /v1/responses and chats tell it. */
void shim_prob_json(struct base_buf *out, const struct shim_prob *prob, uint32_t top);
/* The list of a chunk with one call, the answer's `index`th. */
void shim_call_delta_json(struct base_buf *out, const struct shim_call *call, size_t index);
/* Characters of UTF-8, as clients count them; also of a text that begins or ends within one. */
size_t shim_characters(const char *bytes, size_t len);
/* {"tokens":...} of a completion; `offset`: where the first token's text begins, in characters. */
void shim_completion_probs_json(struct base_buf *out, const struct shim_prob *probs, size_t count, uint32_t top,
                                size_t offset);

/* Vectors of an embedding request, float32 little-endian. */
struct shim_vectors {
    const char *model;
    const uint8_t *const *values;
    const size_t *bytes;
    size_t count;
    uint32_t prompt_tokens;
};
void shim_vectors_json(struct base_buf *out, const struct shim_vectors *v, bool base64, const struct shim_trace *trace);

/* ---- responses ------------------------------------------------------------------------------------------------- */

/* Members of a response object from "id" on, without braces. `status`: "in_progress", "completed", "incomplete",
 * "failed"; the output is that of `a` (NULL: empty). */
void shim_response_json(struct base_buf *out, const struct shim_style *style, const struct shim_trace *trace,
                        const char *model, uint64_t created_unix, const char *status, const struct shim_answer *a);
/* The same with output items that are JSON already. */
void shim_response_items_json(struct base_buf *out, const struct shim_style *style, const struct shim_trace *trace,
                              const char *model, uint64_t created_unix, const char *status, const char *items,
                              const struct shim_answer *a);
/* Of the first message of a response, or of another that is its `item`th item, from 0. */
void shim_response_message_id(char ret[SHIM_MESSAGE_ID_BYTES], const char *request_id, bool first, size_t item);
/* An output item: a message with this text, or a call. */
void shim_response_message_json(struct base_buf *out, const char *message_id, const char *status, const char *text,
                                size_t len, const char *probs_json);
void shim_response_call_json(struct base_buf *out, const char *request_id, size_t index, const char *status,
                             const struct shim_call *call, bool with_arguments);
/* Status of an answer that ended so. */
const char *shim_response_status(const char *finish_reason);

#endif
