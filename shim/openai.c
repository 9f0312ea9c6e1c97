/* SPDX-License-Identifier: Apache-2.0
 *
 * openai.c - a chat completion request: JSON text to struct shim_chat_req, every parameter obeyed or refused by name.
 *
 * In:   body bytes (hostile)
 * Out:  struct shim_chat_req, or a struct shim_problem that names the parameter
 * Not:  knows no mesh and no HTTP
 *
 * Reading order: the two tables at the bottom (`readers` are obeyed, `neutrals` are accepted where they change
 * nothing), then up.
 */
#include "shim/openai.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- small readers ---------------------------------------------------------------------------------------------- */

static const char *type_word(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a decimal number";
    case JSON_NULL: return "null";
    case JSON_TRUE:
    case JSON_FALSE: break;
    }
    return "a boolean";
}

static dbe_err wrong_type(struct shim_problem *p, const char *param, const char *expected, const json_t *v)
{
    return shim_problem_set(p, 400, "invalid_type", param, "Invalid type for '%s': expected %s, but got %s instead.",
                            param, expected, type_word(v));
}

static dbe_err unsupported(struct shim_problem *p, const char *param)
{
    return shim_problem_set(p, 400, "unsupported_parameter", param,
                            "Unsupported parameter: '%s' is not supported with this value by this service.", param);
}

static dbe_err no_memory(struct shim_problem *p)
{
    (void)shim_problem_set(p, 503, "out_of_memory", NULL, "The service has no memory for this request at the moment.");
    p->retry_after_s = 1;
    return DBE_E_NOMEM;
}

static dbe_err read_number(const json_t *v, const char *param, double min, double max, double *ret,
                           struct shim_problem *p)
{
    if (!json_is_number(v))
        return wrong_type(p, param, "a number", v);
    double number = json_number_value(v);
    if (!isfinite(number) || number < min || number > max)
        return shim_problem_set(p, 400, "invalid_value", param, "Invalid '%s': must be between %g and %g.", param, min,
                                max);
    *ret = number;
    return DBE_OK;
}

static dbe_err read_bool(const json_t *v, const char *param, bool *ret, struct shim_problem *p)
{
    if (!json_is_boolean(v))
        return wrong_type(p, param, "a boolean", v);
    *ret = json_is_true(v);
    return DBE_OK;
}

static dbe_err copy_text(const json_t *v, char **ret, struct shim_problem *p)
{
    char *copy = base_strdup(json_string_value(v));

    if (copy == NULL)
        return no_memory(p);
    *ret = copy;
    return DBE_OK;
}

/* ---- messages --------------------------------------------------------------------------------------------------- */

/* Text of a content array: parts of type "text", joined as they stand. */
static dbe_err join_parts(const json_t *parts, const char *param, char **ret, struct shim_problem *p)
{
    struct base_buf text;
    char where[SHIM_PARAM_MAX_BYTES];
    dbe_err err = DBE_OK;

    if (json_array_size(parts) == 0 || json_array_size(parts) > SHIM_CONTENT_PARTS_MAX)
        return shim_problem_set(p, 400, "invalid_value", param, "Invalid '%s': 1 to %d parts are allowed.", param,
                                SHIM_CONTENT_PARTS_MAX);
    base_buf_init(&text, SHIM_BODY_MAX_BYTES);
    for (size_t i = 0; i < json_array_size(parts) && err == DBE_OK; i++) {
        const json_t *part = json_array_get(parts, i), *type = json_object_get(part, "type"),
                     *words = json_object_get(part, "text");
        (void)snprintf(where, sizeof where, "%.60s[%zu]", param, i);
        if (!json_is_object(part))
            err = wrong_type(p, where, "an object", part);
        else if (!json_is_string(type) || strcmp(json_string_value(type), "text") != 0)
            err = shim_problem_set(p, 400, "unsupported_value", where,
                                   "Invalid '%s': only parts of type 'text' are supported.", where);
        else if (!json_is_string(words) || json_object_size(part) != 2)
            err = shim_problem_set(p, 400, "invalid_value", where,
                                   "Invalid '%s': a text part holds 'type' and the string 'text'.", where);
        else
            base_buf_bytes(&text, json_string_value(words), json_string_length(words));
    }
    if (err == DBE_OK && text.err != DBE_OK)
        err = no_memory(p);
    if (err == DBE_OK) {
        char *copy = base_strdup(base_buf_cstr(&text));
        if (copy == NULL)
            err = no_memory(p);
        else
            *ret = copy;
    }
    base_buf_free(&text);
    return err;
}

static dbe_err read_role(const json_t *v, const char *param, enum shim_role *ret, struct shim_problem *p)
{
    static const struct {
        const char *name;
        enum shim_role role;
    } roles[] = {
        {"system", SHIM_ROLE_SYSTEM},
        {"developer", SHIM_ROLE_SYSTEM},
        {"user", SHIM_ROLE_USER},
        {"assistant", SHIM_ROLE_ASSISTANT},
    };

    if (v == NULL)
        return shim_problem_set(p, 400, "missing_required_parameter", param, "Missing required parameter: '%s'.",
                                param);
    if (!json_is_string(v))
        return wrong_type(p, param, "a string", v);
    for (size_t i = 0; i < BASE_ARRAY_LEN(roles); i++) {
        if (strcmp(json_string_value(v), roles[i].name) == 0) {
            *ret = roles[i].role;
            return DBE_OK;
        }
    }
    return shim_problem_set(p, 400, "invalid_value", param,
                            "Invalid '%s': supported values are 'system', 'developer', 'user' and 'assistant'.", param);
}

/* Fields of a message other than role and content: an answer sent back to us carries several of them as null. */
static dbe_err check_message_fields(const json_t *message, size_t index, struct shim_problem *p)
{
    static const char *const known[] = {"name",          "refusal", "tool_calls", "tool_call_id",
                                        "function_call", "audio",   "annotations"};
    char where[SHIM_PARAM_MAX_BYTES];
    const char *key;
    const json_t *value;

    json_object_foreach((json_t *)message, key, value)
    {
        if (strcmp(key, "role") == 0 || strcmp(key, "content") == 0)
            continue;
        (void)snprintf(where, sizeof where, "messages[%zu].%.60s", index, key);
        for (size_t i = 0; i < BASE_ARRAY_LEN(known); i++) {
            if (strcmp(key, known[i]) != 0)
                continue;
            if (!json_is_null(value) && !(json_is_array(value) && json_array_size(value) == 0))
                return unsupported(p, where);
            key = NULL;
            break;
        }
        if (key != NULL)
            return shim_problem_set(p, 400, "unknown_parameter", where, "Unknown parameter: '%s'.", where);
    }
    return DBE_OK;
}

static dbe_err read_message(const json_t *v, size_t index, struct shim_chat_message *ret, struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];

    (void)snprintf(where, sizeof where, "messages[%zu]", index);
    if (!json_is_object(v))
        return wrong_type(p, where, "an object", v);
    (void)snprintf(where, sizeof where, "messages[%zu].role", index);
    DBE_TRY(read_role(json_object_get(v, "role"), where, &ret->role, p));
    DBE_TRY(check_message_fields(v, index, p));

    const json_t *content = json_object_get(v, "content");
    (void)snprintf(where, sizeof where, "messages[%zu].content", index);
    if (content == NULL)
        return shim_problem_set(p, 400, "missing_required_parameter", where, "Missing required parameter: '%s'.",
                                where);
    if (json_is_string(content))
        return copy_text(content, &ret->content, p);
    if (json_is_array(content))
        return join_parts(content, where, &ret->content, p);
    return wrong_type(p, where, "a string or an array of text parts", content);
}

static dbe_err read_messages(const json_t *v, const char *param, struct shim_chat_req *req, struct shim_problem *p)
{
    size_t count = json_array_size(v);

    if (!json_is_array(v))
        return wrong_type(p, param, "an array of messages", v);
    if (count == 0 || count > SHIM_MESSAGES_MAX)
        return shim_problem_set(p, 400, count == 0 ? "empty_array" : "array_above_max_length", param,
                                "Invalid '%s': 1 to %d messages are allowed.", param, SHIM_MESSAGES_MAX);
    req->messages = base_alloc(count, sizeof *req->messages);
    if (req->messages == NULL)
        return no_memory(p);
    req->message_count = count;
    for (size_t i = 0; i < count; i++)
        DBE_TRY(read_message(json_array_get(v, i), i, &req->messages[i], p));
    return DBE_OK;
}

/* ---- the other parameters --------------------------------------------------------------------------------------- */

static dbe_err read_model(const json_t *v, const char *param, struct shim_chat_req *req, struct shim_problem *p)
{
    if (!json_is_string(v))
        return wrong_type(p, param, "a string", v);
    if (json_string_length(v) == 0 || json_string_length(v) > SHIM_MODEL_MAX_BYTES)
        return shim_problem_set(p, 400, "invalid_value", param, "Invalid '%s': 1 to %d bytes are allowed.", param,
                                SHIM_MODEL_MAX_BYTES);
    memcpy(req->model, json_string_value(v), json_string_length(v) + 1);
    return DBE_OK;
}

static dbe_err read_temperature(const json_t *v, const char *param, struct shim_chat_req *req, struct shim_problem *p)
{
    DBE_TRY(read_number(v, param, 0.0, 2.0, &req->temperature, p));
    req->has_temperature = true;
    return DBE_OK;
}

static dbe_err read_top_p(const json_t *v, const char *param, struct shim_chat_req *req, struct shim_problem *p)
{
    DBE_TRY(read_number(v, param, 0.0, 1.0, &req->top_p, p));
    req->has_top_p = true;
    return DBE_OK;
}

/* max_tokens and its newer name: both at once leave open which one is meant. */
static dbe_err read_max_tokens(const json_t *v, const char *param, struct shim_chat_req *req, struct shim_problem *p)
{
    if (!json_is_integer(v))
        return wrong_type(p, param, "an integer", v);
    if (json_integer_value(v) < 1 || json_integer_value(v) > INT32_MAX)
        return shim_problem_set(p, 400, "invalid_value", param, "Invalid '%s': must be between 1 and %d.", param,
                                INT32_MAX);
    if (req->has_max_tokens)
        return shim_problem_set(p, 400, "invalid_parameter_combination", param,
                                "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.");
    req->max_tokens = (uint32_t)json_integer_value(v);
    req->has_max_tokens = true;
    return DBE_OK;
}

static dbe_err read_seed(const json_t *v, const char *param, struct shim_chat_req *req, struct shim_problem *p)
{
    if (!json_is_integer(v))
        return wrong_type(p, param, "an integer", v);
    req->seed = (uint64_t)json_integer_value(v);
    req->has_seed = true;
    return DBE_OK;
}

static dbe_err read_stop_one(const json_t *v, const char *param, struct shim_chat_req *req, struct shim_problem *p)
{
    if (!json_is_string(v))
        return wrong_type(p, param, "a string", v);
    if (json_string_length(v) == 0 || json_string_length(v) > SHIM_STOP_MAX_BYTES)
        return shim_problem_set(p, 400, "invalid_value", param, "Invalid '%s': a stop sequence has 1 to %d bytes.",
                                param, SHIM_STOP_MAX_BYTES);
    DBE_TRY(copy_text(v, &req->stop[req->stop_count], p));
    req->stop_count++;
    return DBE_OK;
}

static dbe_err read_stop(const json_t *v, const char *param, struct shim_chat_req *req, struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];

    if (json_is_string(v))
        return read_stop_one(v, param, req, p);
    if (!json_is_array(v))
        return wrong_type(p, param, "a string or an array of strings", v);
    if (json_array_size(v) == 0 || json_array_size(v) > SHIM_STOP_MAX)
        return shim_problem_set(p, 400, "invalid_value", param, "Invalid '%s': 1 to %d stop sequences are allowed.",
                                param, SHIM_STOP_MAX);
    for (size_t i = 0; i < json_array_size(v); i++) {
        (void)snprintf(where, sizeof where, "%s[%zu]", param, i);
        DBE_TRY(read_stop_one(json_array_get(v, i), where, req, p));
    }
    return DBE_OK;
}

static dbe_err read_stream(const json_t *v, const char *param, struct shim_chat_req *req, struct shim_problem *p)
{
    return read_bool(v, param, &req->stream, p);
}

static dbe_err read_stream_options(const json_t *v, const char *param, struct shim_chat_req *req,
                                   struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];
    const char *key;
    const json_t *value;
    bool obfuscate = false;

    if (!json_is_object(v))
        return wrong_type(p, param, "an object", v);
    json_object_foreach((json_t *)v, key, value)
    {
        (void)snprintf(where, sizeof where, "%s.%.60s", param, key);
        if (strcmp(key, "include_usage") == 0)
            DBE_TRY(read_bool(value, where, &req->include_usage, p));
        else if (strcmp(key, "include_obfuscation") == 0)
            DBE_TRY(read_bool(value, where, &obfuscate, p));
        else
            return shim_problem_set(p, 400, "unknown_parameter", where, "Unknown parameter: '%s'.", where);
        if (obfuscate)
            return unsupported(p, where);
    }
    return DBE_OK;
}

/* ---- tables ----------------------------------------------------------------------------------------------------- */

struct reader_row { /* parameters that are obeyed */
    const char *name;
    dbe_err (*read)(const json_t *v, const char *param, struct shim_chat_req *req, struct shim_problem *p);
};
static const struct reader_row readers[] = {
    {"model", read_model},
    {"messages", read_messages},
    {"temperature", read_temperature},
    {"top_p", read_top_p},
    {"max_tokens", read_max_tokens},
    {"max_completion_tokens", read_max_tokens},
    {"seed", read_seed},
    {"stop", read_stop},
    {"stream", read_stream},
    {"stream_options", read_stream_options},
};

/* Parameters that are not implemented. The value in the row, if it has one, asks for what happens anyway and is
 * accepted. */
enum neutral {
    NEVER,
    ANY_STRING,
    STRING_MAP,
    IS_FALSE,
    IS_ZERO,
    IS_ONE,
    EMPTY_OBJECT,
    TEXT_FORMAT,
    TEXT_ONLY,
    NO_TIER
};
struct neutral_row {
    const char *name;
    enum neutral when;
};
static const struct neutral_row neutrals[] = {
    /* carry nothing that an answer depends on; they go nowhere */
    {"user", ANY_STRING},
    {"safety_identifier", ANY_STRING},
    {"prompt_cache_key", ANY_STRING},
    {"metadata", STRING_MAP},
    {"store", IS_FALSE},
    {"service_tier", NO_TIER},
    /* neutral at one value */
    {"n", IS_ONE},
    {"frequency_penalty", IS_ZERO},
    {"presence_penalty", IS_ZERO},
    {"logit_bias", EMPTY_OBJECT},
    {"logprobs", IS_FALSE},
    {"response_format", TEXT_FORMAT},
    {"modalities", TEXT_ONLY},
    /* not supported with any value */
    {"top_logprobs", NEVER},
    {"tools", NEVER},
    {"tool_choice", NEVER},
    {"parallel_tool_calls", NEVER},
    {"functions", NEVER},
    {"function_call", NEVER},
    {"audio", NEVER},
    {"prediction", NEVER},
    {"reasoning_effort", NEVER},
    {"verbosity", NEVER},
    {"web_search_options", NEVER},
    {"moderation", NEVER},
    {"prompt_cache_retention", NEVER},
    {"prompt_cache_options", NEVER},
};

static bool is_text(const json_t *v, const char *text)
{
    return json_is_string(v) && strcmp(json_string_value(v), text) == 0;
}

static bool is_string_map(const json_t *v)
{
    const char *key;
    const json_t *value;

    if (!json_is_object(v) || json_object_size(v) > 16)
        return false;
    json_object_foreach((json_t *)v, key, value) if (!json_is_string(value)) return false;
    return true;
}

static bool is_neutral(enum neutral when, const json_t *v)
{
    switch (when) {
    case NEVER: return false;
    case ANY_STRING: return json_is_string(v);
    case STRING_MAP: return is_string_map(v);
    case IS_FALSE: return json_is_false(v);
    case IS_ZERO: return json_is_number(v) && json_number_value(v) == 0.0;
    case IS_ONE: return json_is_integer(v) && json_integer_value(v) == 1;
    case EMPTY_OBJECT: return json_is_object(v) && json_object_size(v) == 0;
    case TEXT_FORMAT: return json_object_size(v) == 1 && is_text(json_object_get(v, "type"), "text");
    case TEXT_ONLY: return json_array_size(v) == 1 && is_text(json_array_get(v, 0), "text");
    case NO_TIER: return is_text(v, "auto") || is_text(v, "default");
    }
    return false;
}

/* A known parameter with the wrong type of value is told so, rather than called unsupported. */
static dbe_err check_neutral(const struct neutral_row *row, const json_t *v, struct shim_problem *p)
{
    if (is_neutral(row->when, v))
        return DBE_OK;
    switch (row->when) {
    case ANY_STRING: return wrong_type(p, row->name, "a string", v);
    case STRING_MAP: return wrong_type(p, row->name, "an object of at most 16 strings", v);
    case IS_FALSE:
        if (!json_is_boolean(v))
            return wrong_type(p, row->name, "a boolean", v);
        break;
    case IS_ZERO:
        if (!json_is_number(v))
            return wrong_type(p, row->name, "a number", v);
        break;
    case IS_ONE:
        if (!json_is_integer(v))
            return wrong_type(p, row->name, "an integer", v);
        break;
    default: break;
    }
    return unsupported(p, row->name);
}

static dbe_err read_parameter(const char *key, const json_t *v, struct shim_chat_req *req, struct shim_problem *p)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(readers); i++)
        if (strcmp(key, readers[i].name) == 0) /* null stands for absent, except where a value is required */
            return json_is_null(v) && i >= 2 ? DBE_OK : readers[i].read(v, readers[i].name, req, p);
    for (size_t i = 0; i < BASE_ARRAY_LEN(neutrals); i++)
        if (strcmp(key, neutrals[i].name) == 0)
            return json_is_null(v) ? DBE_OK : check_neutral(&neutrals[i], v, p);
    return shim_problem_set(p, 400, "unknown_parameter", key, "Unknown parameter: '%.64s'.", key);
}

/* ---- the body --------------------------------------------------------------------------------------------------- */

/* The JSON library recurses, so nesting is counted before it sees the text. Brackets inside strings do not count. */
static bool too_deep(const char *body, size_t len)
{
    size_t depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        char c = body[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > SHIM_JSON_DEPTH_MAX)
                return true;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return false;
}

/* Say where the text breaks, never what stands there: messages of the library quote the text. */
static dbe_err refuse_json(const json_error_t *e, struct shim_problem *p)
{
    char key[SHIM_PARAM_MAX_BYTES] = "";

    switch (json_error_code(e)) {
    case json_error_out_of_memory: return no_memory(p);
    case json_error_duplicate_key:
        (void)sscanf(e->text, "duplicate object key near '\"%63[A-Za-z0-9_]", key);
        return shim_problem_set(p, 400, "duplicate_parameter", key,
                                "The JSON body names a key twice at line %d, column %d.", e->line, e->column);
    case json_error_invalid_utf8:
        return shim_problem_set(p, 400, "invalid_utf8", NULL, "The body is not well-formed UTF-8 at byte %d.",
                                e->position);
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return shim_problem_set(p, 400, "invalid_json", NULL,
                                "The JSON body holds a NUL character at line %d, column %d.", e->line, e->column);
    default:
        return shim_problem_set(p, 400, "invalid_json", NULL, "The body is not valid JSON at line %d, column %d.",
                                e->line, e->column);
    }
}

static dbe_err read_body(const json_t *root, struct shim_chat_req *req, struct shim_problem *p)
{
    const char *key;
    const json_t *value;

    if (!json_is_object(root))
        return shim_problem_set(p, 400, "invalid_type", NULL, "The JSON body must be an object.");
    json_object_foreach((json_t *)root, key, value) DBE_TRY(read_parameter(key, value, req, p));
    if (req->messages == NULL)
        return shim_problem_set(p, 400, "missing_required_parameter", "messages",
                                "Missing required parameter: 'messages'.");
    const json_t *options = json_object_get(root, "stream_options");
    if (options != NULL && !json_is_null(options) && !req->stream)
        return shim_problem_set(p, 400, "invalid_parameter_combination", "stream_options",
                                "The 'stream_options' parameter is only allowed when 'stream' is true.");
    return DBE_OK;
}

dbe_err shim_chat_req_parse(const char *body, size_t len, struct shim_chat_req *ret, struct shim_problem *p)
{
    json_error_t e;
    struct shim_chat_req req = {0};

    memset(ret, 0, sizeof *ret);
    if (len > SHIM_BODY_MAX_BYTES)
        return shim_problem_set(p, 413, "request_too_large", NULL, "The body is larger than %d bytes.",
                                SHIM_BODY_MAX_BYTES);
    if (too_deep(body, len))
        return shim_problem_set(p, 400, "invalid_json", NULL, "The JSON body is nested more than %d levels deep.",
                                SHIM_JSON_DEPTH_MAX);
    json_t *root = json_loadb(body, len, JSON_REJECT_DUPLICATES, &e);
    if (root == NULL)
        return refuse_json(&e, p);
    dbe_err err = read_body(root, &req, p);
    json_decref(root);
    if (err != DBE_OK)
        shim_chat_req_free(&req);
    else
        *ret = req;
    return err;
}

static void free_text(char *text)
{
    if (text != NULL)
        base_wipe(text, strlen(text));
    base_free(text);
}

void shim_chat_req_free(struct shim_chat_req *req)
{
    for (size_t i = 0; i < req->message_count; i++)
        free_text(req->messages[i].content);
    base_free(req->messages);
    for (size_t i = 0; i < req->stop_count; i++)
        free_text(req->stop[i]);
    memset(req, 0, sizeof *req);
}

const char *shim_role_name(enum shim_role role)
{
    static const char *const names[] = {"system", "user", "assistant"};

    return names[role];
}
