/* SPDX-License-Identifier: Apache-2.0
 *
 * prompts.c - the prompts of a completion, and tokens in place of texts: JSON to struct shim_req.
 *
 * In:   values of "prompt" and "input" (hostile)
 * Out:  messages or lists of tokens, or a refusal that names the place
 * Not:  no vocabulary: whether a model has these tokens, its worker knows
 */
#include <stdio.h>

#include "shim/read.h"

bool shim_is_tokens(const json_t *v)
{
    const json_t *first = json_array_get(v, 0);

    return json_is_integer(first) || json_is_array(first);
}

static dbe_err read_list(const json_t *v, const char *where, struct shim_tokens *ret, struct shim_problem *p)
{
    char at[SHIM_PARAM_MAX_BYTES];
    const size_t count = json_array_size(v);

    if (!json_is_array(v))
        return shim_wrong_type(p, where, "an array of tokens", v);
    if (count == 0)
        return shim_problem_set(p, 400, "empty_array", where, "Invalid '%s': at least one token is expected.", where);
    ret->ids = base_alloc(count, sizeof *ret->ids);
    if (ret->ids == NULL)
        return shim_no_memory(p);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(at, sizeof at, "%.60s[%zu]", where, i);
        DBE_TRY(shim_read_count(json_array_get(v, i), at, 0, INT32_MAX, &ret->ids[i], p));
    }
    ret->count = count;
    return DBE_OK;
}

dbe_err shim_read_tokens(const json_t *v, const char *param, size_t max, struct shim_req *req, struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];
    const bool one = json_is_integer(json_array_get(v, 0));
    const size_t count = one ? 1 : json_array_size(v);

    if (count > max)
        return shim_problem_set(p, 400, "array_above_max_length", param, "Invalid '%s': at most %zu are allowed.",
                                param, max);
    req->tokens = base_alloc(count, sizeof *req->tokens);
    if (req->tokens == NULL)
        return shim_no_memory(p);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(where, sizeof where, one ? "%s" : "%s[%zu]", param, i);
        req->token_count = i + 1;
        DBE_TRY(read_list(one ? v : json_array_get(v, i), where, &req->tokens[i], p));
    }
    return DBE_OK;
}

static dbe_err read_one(const json_t *v, const char *where, struct shim_req *req, struct shim_problem *p)
{
    struct shim_message *m = NULL;

    DBE_TRY(shim_add_message(req, &m, p));
    m->role = SHIM_ROLE_USER;
    return shim_read_text(v, where, &m->content, p);
}

dbe_err shim_read_prompt(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];

    if (shim_is_tokens(v))
        return shim_read_tokens(v, param, SHIM_CHOICES_MAX, req, p);
    if (!json_is_array(v))
        return read_one(v, param, req, p);
    if (json_array_size(v) == 0 || json_array_size(v) > SHIM_CHOICES_MAX)
        return shim_problem_set(p, 400, json_array_size(v) == 0 ? "empty_array" : "array_above_max_length", param,
                                "Invalid '%s': 1 to %d prompts are allowed.", param, SHIM_CHOICES_MAX);
    for (size_t i = 0; i < json_array_size(v); i++) {
        (void)snprintf(where, sizeof where, "%s[%zu]", param, i);
        DBE_TRY(read_one(json_array_get(v, i), where, req, p));
    }
    return DBE_OK;
}
