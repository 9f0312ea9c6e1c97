/* SPDX-License-Identifier: Apache-2.0
 *
 * values.c - parameters that are one value or a small object each: numbers, words, switches, biases, texts to embed.
 *
 * In:   their JSON values (hostile); rows of params.def name the readers
 * Out:  fields of struct shim_req, or a refusal that names the parameter
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/read.h"

dbe_err shim_read_model(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    return shim_read_name(v, param, req->model, sizeof req->model, p);
}

dbe_err shim_read_temperature(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    DBE_TRY(shim_read_number(v, param, 0.0, 2.0, &req->temperature, p));
    req->has_temperature = true;
    return DBE_OK;
}

dbe_err shim_read_top_p(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    DBE_TRY(shim_read_number(v, param, 0.0, 1.0, &req->top_p, p));
    req->has_top_p = true;
    return DBE_OK;
}

dbe_err shim_read_frequency_penalty(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    return shim_read_number(v, param, -2.0, 2.0, &req->frequency_penalty, p);
}

dbe_err shim_read_presence_penalty(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    return shim_read_number(v, param, -2.0, 2.0, &req->presence_penalty, p);
}

/* max_tokens and its newer name: both at once leave open which one is meant. A completion may ask for 0 with 'echo'. */
dbe_err shim_read_max_tokens(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    if (req->has_max_tokens)
        return shim_problem_set(p, 400, "invalid_parameter_combination", param,
                                "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.");
    DBE_TRY(shim_read_count(v, param, req->kind == SHIM_COMPLETION ? 0 : 1, INT32_MAX, &req->max_tokens, p));
    req->has_max_tokens = true;
    return DBE_OK;
}

dbe_err shim_read_seed(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    if (!json_is_integer(v))
        return shim_wrong_type(p, param, "an integer", v);
    req->seed = (uint64_t)json_integer_value(v);
    req->has_seed = true;
    return DBE_OK;
}

static dbe_err read_stop_one(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    char name[SHIM_STOP_MAX_BYTES + 1];

    DBE_TRY(shim_read_name(v, param, name, sizeof name, p));
    DBE_TRY(shim_read_text(v, param, &req->stop[req->stop_count], p));
    req->stop_count++;
    return DBE_OK;
}

dbe_err shim_read_stop(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];

    if (json_is_string(v))
        return read_stop_one(v, param, req, p);
    if (!json_is_array(v))
        return shim_wrong_type(p, param, "a string or an array of strings", v);
    if (json_array_size(v) == 0 || json_array_size(v) > SHIM_STOP_MAX)
        return shim_problem_set(p, 400, "invalid_value", param, "Invalid '%s': 1 to %d stop sequences are allowed.",
                                param, SHIM_STOP_MAX);
    for (size_t i = 0; i < json_array_size(v); i++) {
        (void)snprintf(where, sizeof where, "%s[%zu]", param, i);
        DBE_TRY(read_stop_one(json_array_get(v, i), where, req, p));
    }
    return DBE_OK;
}

dbe_err shim_read_stream(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    return shim_read_bool(v, param, &req->stream, p);
}

dbe_err shim_read_stream_options(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];
    const char *key;
    const json_t *value;
    bool obfuscate = false;

    if (!json_is_object(v))
        return shim_wrong_type(p, param, "an object", v);
    json_object_foreach((json_t *)(uintptr_t)v, key, value)
    {
        (void)snprintf(where, sizeof where, "%s.%.60s", param, key);
        if (strcmp(key, "include_usage") == 0)
            DBE_TRY(shim_read_bool(value, where, &req->include_usage, p));
        else if (strcmp(key, "include_obfuscation") == 0)
            DBE_TRY(shim_read_bool(value, where, &obfuscate, p));
        else
            return shim_unknown(p, where);
        if (obfuscate)
            return shim_unsupported(p, where);
    }
    return DBE_OK;
}

/* What OpenAI does not have: "dsmil": {"receipt": true, "sealed": true, ...}. */
dbe_err shim_read_dsmil(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];
    const char *key;
    const json_t *value;

    if (!json_is_object(v))
        return shim_wrong_type(p, param, "an object", v);
    json_object_foreach((json_t *)(uintptr_t)v, key, value)
    {
        (void)snprintf(where, sizeof where, "%s.%.60s", param, key);
        if (strcmp(key, "receipt") == 0)
            DBE_TRY(shim_read_bool(value, where, &req->receipt, p));
        else if (strcmp(key, "sealed") == 0)
            DBE_TRY(shim_read_bool(value, where, &req->sealed, p));
        else if (strcmp(key, "payload") == 0)
            DBE_TRY(shim_read_bool(value, where, &req->payload, p));
        else if (strcmp(key, "roe_token") == 0 && !json_is_null(value))
            DBE_TRY(shim_read_text(value, where, &req->roe_token, p));
        else if (!json_is_null(value))
            return shim_unknown(p, where);
    }
    return DBE_OK;
}

dbe_err shim_read_n(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    return shim_read_count(v, param, 1, SHIM_N_MAX, &req->n, p);
}

/* {"token id": bias}; ids are those of the model's own vocabulary. */
dbe_err shim_read_logit_bias(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];
    const char *key;
    const json_t *value;
    double bias = 0;

    if (!json_is_object(v))
        return shim_wrong_type(p, param, "an object", v);
    if (json_object_size(v) > SHIM_BIASES_MAX)
        return shim_problem_set(p, 400, "invalid_value", param, "Invalid '%s': at most %d tokens are allowed.", param,
                                SHIM_BIASES_MAX);
    req->biases = base_alloc(json_object_size(v) + 1, sizeof *req->biases);
    if (req->biases == NULL)
        return shim_no_memory(p);
    json_object_foreach((json_t *)(uintptr_t)v, key, value)
    {
        (void)snprintf(where, sizeof where, "%s.%.60s", param, key);
        size_t digits = strspn(key, "0123456789");
        if (digits == 0 || digits > 9 || key[digits] != '\0')
            return shim_problem_set(p, 400, "invalid_value", where, "Invalid '%s': a token's number is expected.",
                                    where);
        DBE_TRY(shim_read_number(value, where, -100, 100, &bias, p));
        req->biases[req->bias_count++] = (struct shim_bias){(uint32_t)strtoul(key, NULL, 10), (float)bias};
    }
    return DBE_OK;
}

dbe_err shim_read_logprobs(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    return shim_read_bool(v, param, &req->logprobs, p);
}

dbe_err shim_read_top_logprobs(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    return shim_read_count(v, param, 0, SHIM_TOP_LOGPROBS_MAX, &req->top_logprobs, p);
}

/* Here a number: 0 still asks for the chosen tokens'. */
dbe_err shim_read_completion_logprobs(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    req->logprobs = true;
    return shim_read_count(v, param, 0, 5, &req->top_logprobs, p);
}

dbe_err shim_read_parallel(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    bool parallel = true;

    DBE_TRY(shim_read_bool(v, param, &parallel, p));
    req->single_call = !parallel;
    return DBE_OK;
}

dbe_err shim_read_cache_key(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    return shim_read_name(v, param, req->cache_key, sizeof req->cache_key, p);
}

dbe_err shim_read_user(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    return shim_read_text(v, param, &req->user, p);
}

dbe_err shim_read_safety_identifier(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    return shim_read_text(v, param, &req->safety_identifier, p);
}

/* Comes back with the answer (shim_said_of). */
dbe_err shim_read_metadata(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    const char *key;
    const json_t *value;
    bool ok = json_is_object(v) && json_object_size(v) <= 16;

    (void)req;
    json_object_foreach((json_t *)(uintptr_t)v, key, value) ok = ok && json_is_string(value);
    return ok ? DBE_OK : shim_wrong_type(p, param, "an object of at most 16 strings", v);
}

dbe_err shim_read_echo(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    return shim_read_bool(v, param, &req->echo, p);
}

dbe_err shim_read_instructions(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    return shim_read_text(v, param, &req->instructions, p);
}

dbe_err shim_read_include(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];

    if (!json_is_array(v))
        return shim_wrong_type(p, param, "an array of strings", v);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *what = json_array_get(v, i);
        (void)snprintf(where, sizeof where, "%s[%zu]", param, i);
        if (shim_is_text(what, "message.output_text.logprobs"))
            req->logprobs = true;
        else if (!shim_is_text(what, "reasoning.encrypted_content")) /* an answer has no reasoning items */
            return shim_unsupported(p, where);
    }
    return DBE_OK;
}

dbe_err shim_read_inputs(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];
    size_t count = json_is_array(v) ? json_array_size(v) : 1;

    if (shim_is_tokens(v))
        return shim_read_tokens(v, param, SHIM_INPUTS_MAX, req, p);
    if (count == 0 || count > SHIM_INPUTS_MAX)
        return shim_problem_set(p, 400, "invalid_value", param, "Invalid '%s': 1 to %d texts are allowed.", param,
                                SHIM_INPUTS_MAX);
    req->inputs = base_alloc(count, sizeof *req->inputs);
    if (req->inputs == NULL)
        return shim_no_memory(p);
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_is_array(v) ? json_array_get(v, i) : v;
        (void)snprintf(where, sizeof where, json_is_array(v) ? "%s[%zu]" : "%s", param, i);
        DBE_TRY(shim_read_text(one, where, &req->inputs[i], p));
        req->input_count = i + 1;
        if (req->inputs[i][0] == '\0')
            return shim_problem_set(p, 400, "invalid_value", where, "Invalid '%s': the text is empty.", where);
    }
    return DBE_OK;
}

dbe_err shim_read_encoding(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    static const char *const words[] = {"float", "base64"};
    const char *word = NULL;

    DBE_TRY(shim_read_word(v, param, words, BASE_ARRAY_LEN(words), &word, p));
    req->base64 = word == words[1];
    return DBE_OK;
}
