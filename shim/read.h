/* SPDX-License-Identifier: Apache-2.0
 *
 * read.h - readers of single JSON values of a request, each with the refusal that names the parameter. Internal to the
 * request side of the shim.
 *
 * `param` is the parameter's name for the client. Outputs stay as they are on error; `p` is filled then.
 */
#ifndef SHIM_READ_H
#define SHIM_READ_H

#include <jansson.h>

#include "shim/openai.h"

typedef dbe_err shim_read_fn(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p);

dbe_err shim_wrong_type(struct shim_problem *p, const char *param, const char *expected, const json_t *v);
dbe_err shim_unsupported(struct shim_problem *p, const char *param);
dbe_err shim_unknown(struct shim_problem *p, const char *param);
dbe_err shim_missing(struct shim_problem *p, const char *param);
dbe_err shim_no_memory(struct shim_problem *p);

dbe_err shim_read_number(const json_t *v, const char *param, double min, double max, double *ret,
                         struct shim_problem *p) DBE_MUST_CHECK;
dbe_err shim_read_count(const json_t *v, const char *param, uint32_t min, uint32_t max, uint32_t *ret,
                        struct shim_problem *p) DBE_MUST_CHECK;
dbe_err shim_read_bool(const json_t *v, const char *param, bool *ret, struct shim_problem *p) DBE_MUST_CHECK;
/* A copy to be freed by the caller. */
dbe_err shim_read_text(const json_t *v, const char *param, char **ret, struct shim_problem *p) DBE_MUST_CHECK;
/* Into `ret` of `cap` bytes, NUL included; at least one byte. */
dbe_err shim_read_name(const json_t *v, const char *param, char *ret, size_t cap,
                       struct shim_problem *p) DBE_MUST_CHECK;
/* JSON text of a value, compact. */
dbe_err shim_read_json(const json_t *v, char **ret, struct shim_problem *p) DBE_MUST_CHECK;
/* One of `count` words; `ret` is the word of the list. */
dbe_err shim_read_word(const json_t *v, const char *param, const char *const *words, size_t count, const char **ret,
                       struct shim_problem *p) DBE_MUST_CHECK;
/* Text of an array of parts {"type": TYPE, "text": ...} of one of these types, joined as they stand. Other members of
 * a part may be there where they are null or empty. */
dbe_err shim_read_parts(const json_t *parts, const char *param, const char *const *types, size_t count, char **ret,
                        struct shim_problem *p) DBE_MUST_CHECK;
bool shim_is_text(const json_t *v, const char *text);
/* The key is one of these. */
bool shim_is_one_of(const char *key, const char *const *names, size_t count);

/* ---- values.c, messages.c, prompts.c, tools.c, responses_in.c: rows of params.def name these --------------------- */

shim_read_fn shim_read_model, shim_read_temperature, shim_read_top_p, shim_read_frequency_penalty,
    shim_read_presence_penalty, shim_read_max_tokens, shim_read_seed, shim_read_stop, shim_read_stream,
    shim_read_stream_options, shim_read_dsmil, shim_read_n, shim_read_logit_bias, shim_read_logprobs,
    shim_read_top_logprobs, shim_read_completion_logprobs, shim_read_parallel, shim_read_cache_key, shim_read_user,
    shim_read_safety_identifier, shim_read_metadata, shim_read_echo, shim_read_include, shim_read_inputs,
    shim_read_encoding;

shim_read_fn shim_read_messages, shim_read_prompt, shim_read_response_format, shim_read_tools, shim_read_tool_choice,
    shim_read_input, shim_read_instructions, shim_read_text_form, shim_read_response_tools,
    shim_read_response_tool_choice;
/* Room for one more of `what` in a list that grows to `max`, zeroed. `list` points to the list's pointer. */
dbe_err shim_add(void *list, size_t *count, size_t max, size_t size, const char *param, const char *what, void *ret,
                 struct shim_problem *p) DBE_MUST_CHECK;
/* Room for one more message, zeroed. */
dbe_err shim_add_message(struct shim_req *req, struct shim_message **ret, struct shim_problem *p) DBE_MUST_CHECK;
dbe_err shim_add_call(struct shim_message *m, struct shim_call **ret, const char *param,
                      struct shim_problem *p) DBE_MUST_CHECK;
/* Every result of a tool answers a call that came before. */
dbe_err shim_check_results(const struct shim_req *req, struct shim_problem *p) DBE_MUST_CHECK;
/* Numbers of tokens: [1, 2], or several lists of them. Nothing else is looked at. */
bool shim_is_tokens(const json_t *v);
/* These as lists; one alone is a list of lists. At most `max` lists. */
dbe_err shim_read_tokens(const json_t *v, const char *param, size_t max, struct shim_req *req,
                         struct shim_problem *p) DBE_MUST_CHECK;
/* A schema object {"name", "schema", "strict", "description"} of a json_schema format. */
dbe_err shim_read_schema(const json_t *v, const char *param, struct shim_req *req,
                         struct shim_problem *p) DBE_MUST_CHECK;
bool shim_has_tool(const struct shim_req *req, const char *name);
/* Leave out the tools that `allowed` does not name, if it names any. */
void shim_keep_allowed(struct shim_req *req);
void shim_tool_free(struct shim_tool *tool); /* wipes it; it is zeroed */
/* A function {"name", "description", "parameters", "strict"}; members of `also` may stand beside. */
dbe_err shim_read_function(const json_t *v, const char *param, const char *const *also, size_t also_count,
                           struct shim_req *req, struct shim_problem *p) DBE_MUST_CHECK;
/* Members that a response repeats. */
dbe_err shim_said_of(const json_t *root, struct shim_req *req, struct shim_problem *p) DBE_MUST_CHECK;

#endif
