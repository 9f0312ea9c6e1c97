/* SPDX-License-Identifier: Apache-2.0
 *
 * responses_in.c - what POST /v1/responses spells differently from a chat: input items, instructions, text.format.
 *
 * In:   JSON values (hostile)
 * Out:  the same messages as a chat's, and the members that a response repeats
 * Not:  no store: nothing is kept, so that an item cannot be referred to later (docs/openai.md)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/read.h"

static const char *const part_types[] = {"input_text", "text", "output_text", "refusal"};

static dbe_err read_content(const json_t *v, const char *where, char **ret, struct shim_problem *p)
{
    if (json_is_array(v))
        return shim_read_parts(v, where, part_types, BASE_ARRAY_LEN(part_types), ret, p);
    if (v != NULL && !json_is_string(v))
        return shim_wrong_type(p, where, "a string or an array of text parts", v);
    return shim_read_text(v, where, ret, p);
}

/* Members beside those of `known`: an item that this service made carries an id and a status, and nulls. */
static dbe_err check_members(const json_t *v, const char *where, const char *const *known, size_t count,
                             struct shim_problem *p)
{
    static const char *const marks[] = {"id", "status", "type"};
    char at[SHIM_PARAM_MAX_BYTES];
    const char *key;
    const json_t *value;

    json_object_foreach((json_t *)(uintptr_t)v, key, value)
    {
        (void)snprintf(at, sizeof at, "%.40s.%.40s", where, key);
        if (shim_is_one_of(key, known, count) || json_is_null(value))
            continue;
        if (!shim_is_one_of(key, marks, BASE_ARRAY_LEN(marks)))
            return shim_unknown(p, at);
        if (!json_is_string(value))
            return shim_wrong_type(p, at, "a string", value);
    }
    return DBE_OK;
}

/* ---- items ------------------------------------------------------------------------------------------------------ */

static dbe_err read_item_message(const json_t *v, const char *where, struct shim_req *req, struct shim_problem *p)
{
    static const char *const known[] = {"role", "content"}, *const roles[] = {"system", "user", "assistant",
                                                                              "developer"};
    char at[SHIM_PARAM_MAX_BYTES];
    const char *role = NULL;
    struct shim_message *m = NULL;

    DBE_TRY(check_members(v, where, known, BASE_ARRAY_LEN(known), p));
    (void)snprintf(at, sizeof at, "%.60s.role", where);
    DBE_TRY(shim_read_word(json_object_get(v, "role"), at, roles, BASE_ARRAY_LEN(roles), &role, p));
    DBE_TRY(shim_add_message(req, &m, p));
    m->role = role == roles[1] ? SHIM_ROLE_USER : role == roles[2] ? SHIM_ROLE_ASSISTANT : SHIM_ROLE_SYSTEM;
    (void)snprintf(at, sizeof at, "%.60s.content", where);
    return read_content(json_object_get(v, "content"), at, &m->content, p);
}

/* A call belongs to the answer before it, if that is the last message. */
static dbe_err read_item_call(const json_t *v, const char *where, struct shim_req *req, struct shim_problem *p)
{
    static const char *const known[] = {"call_id", "name", "arguments"};
    struct shim_message *m = req->message_count > 0 ? &req->messages[req->message_count - 1] : NULL;
    struct shim_call *call = NULL;

    DBE_TRY(check_members(v, where, known, BASE_ARRAY_LEN(known), p));
    if (m == NULL || m->role != SHIM_ROLE_ASSISTANT) {
        DBE_TRY(shim_add_message(req, &m, p));
        m->role = SHIM_ROLE_ASSISTANT;
        m->content = base_strdup("");
        if (m->content == NULL)
            return shim_no_memory(p);
    }
    DBE_TRY(shim_add_call(m, &call, where, p));
    DBE_TRY(shim_read_text(json_object_get(v, "call_id"), where, &call->id, p));
    DBE_TRY(shim_read_text(json_object_get(v, "name"), where, &call->name, p));
    return shim_read_text(json_object_get(v, "arguments"), where, &call->arguments, p);
}

static dbe_err read_item_output(const json_t *v, const char *where, struct shim_req *req, struct shim_problem *p)
{
    static const char *const known[] = {"call_id", "output"};
    struct shim_message *m = NULL;

    DBE_TRY(check_members(v, where, known, BASE_ARRAY_LEN(known), p));
    DBE_TRY(shim_add_message(req, &m, p));
    m->role = SHIM_ROLE_TOOL;
    DBE_TRY(shim_read_text(json_object_get(v, "call_id"), where, &m->call_id, p));
    return read_content(json_object_get(v, "output"), where, &m->content, p);
}

static dbe_err read_item(const json_t *v, const char *where, struct shim_req *req, struct shim_problem *p)
{
    const json_t *type = json_object_get(v, "type");
    char at[SHIM_PARAM_MAX_BYTES];

    if (!json_is_object(v))
        return shim_wrong_type(p, where, "an object", v);
    if (type == NULL || shim_is_text(type, "message"))
        return read_item_message(v, where, req, p);
    if (shim_is_text(type, "function_call"))
        return read_item_call(v, where, req, p);
    if (shim_is_text(type, "function_call_output"))
        return read_item_output(v, where, req, p);
    (void)snprintf(at, sizeof at, "%.60s.type", where);
    return shim_problem_set(p, 400, "unsupported_value", at,
                            "Invalid '%s': 'message', 'function_call' and 'function_call_output' are supported.", at);
}

dbe_err shim_read_input(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];
    struct shim_message *m = NULL;

    if (json_is_string(v)) {
        DBE_TRY(shim_add_message(req, &m, p));
        m->role = SHIM_ROLE_USER;
        return shim_read_text(v, param, &m->content, p);
    }
    if (!json_is_array(v))
        return shim_wrong_type(p, param, "a string or an array of items", v);
    if (json_array_size(v) == 0 || json_array_size(v) > SHIM_MESSAGES_MAX)
        return shim_problem_set(p, 400, json_array_size(v) == 0 ? "empty_array" : "array_above_max_length", param,
                                "Invalid '%s': 1 to %d items are allowed.", param, SHIM_MESSAGES_MAX);
    for (size_t i = 0; i < json_array_size(v); i++) {
        (void)snprintf(where, sizeof where, "%s[%zu]", param, i);
        DBE_TRY(read_item(json_array_get(v, i), where, req, p));
    }
    return shim_check_results(req, p);
}

/* ---- text ------------------------------------------------------------------------------------------------------- */

dbe_err shim_read_text_form(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    const json_t *format = json_object_get(v, "format"), *value;
    const char *key;
    char where[SHIM_PARAM_MAX_BYTES];

    if (!json_is_object(v))
        return shim_wrong_type(p, param, "an object", v);
    json_object_foreach((json_t *)(uintptr_t)v, key, value)
    {
        (void)snprintf(where, sizeof where, "%s.%.60s", param, key);
        if (strcmp(key, "format") == 0)
            continue;
        if (strcmp(key, "verbosity") != 0)
            return shim_unknown(p, where);
        if (!json_is_null(value) && !shim_is_text(value, "medium"))
            return shim_unsupported(p, where);
    }
    (void)snprintf(where, sizeof where, "%s.format", param);
    if (format == NULL || json_is_null(format))
        return DBE_OK;
    if (shim_is_text(json_object_get(format, "type"), "json_schema")) /* its members stand beside the type */
        return shim_read_schema(format, where, req, p);
    return shim_read_response_format(format, where, req, p);
}

/* ---- what a response repeats ------------------------------------------------------------------------------------ */

/* One member, as the client said it or as it is by default (NULL: left out). */
static bool say(struct base_buf *out, const json_t *v, const char *key, const char *otherwise)
{
    char *text = v != NULL && !json_is_null(v) ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

    if (v != NULL && !json_is_null(v) && text == NULL)
        return false;
    if (text != NULL || otherwise != NULL) {
        base_buf_fmt(out, ",\"%s\":", key);
        base_buf_str(out, text != NULL ? text : otherwise);
    }
    free(text); /* jansson's */
    return true;
}

/* Functions as they are understood: strict, and with parameters. */
static bool say_tools(struct base_buf *out, const json_t *tools)
{
    json_t *copy = json_is_array(tools) ? json_deep_copy(tools) : json_array(), *tool;
    bool ok = copy != NULL;
    size_t i;

    json_array_foreach(copy, i, tool)
    {
        if (json_object_get(tool, "parameters") == NULL)
            ok = ok && json_object_set_new(tool, "parameters", json_null()) == 0;
        if (!json_is_boolean(json_object_get(tool, "strict")))
            ok = ok && json_object_set_new(tool, "strict", json_true()) == 0;
    }
    ok = ok && say(out, copy, "tools", NULL);
    json_decref(copy);
    return ok;
}

dbe_err shim_said_of(const json_t *root, struct shim_req *req, struct shim_problem *p)
{
    static const struct {
        const char *key, *otherwise;
    } of_response[] = {
        {"instructions", "null"},
        {"metadata", "{}"},
        {"tool_choice", "\"auto\""},
        {"temperature", "null"},
        {"top_p", "null"},
        {"max_output_tokens", "null"},
        {"top_logprobs", "0"},
        {"parallel_tool_calls", "true"},
        {"text", "{\"format\":{\"type\":\"text\"}}"},
        {"truncation", "\"disabled\""},
        {"user", NULL},
        {"safety_identifier", NULL},
        {"prompt_cache_key", NULL},
    };
    struct base_buf out;
    bool ok = true;

    base_buf_init(&out, SHIM_ANSWER_MAX_BYTES);
    if (req->kind == SHIM_RESPONSE) {
        for (size_t i = 0; i < BASE_ARRAY_LEN(of_response) && ok; i++)
            ok = say(&out, json_object_get(root, of_response[i].key), of_response[i].key, of_response[i].otherwise);
        ok = ok && say_tools(&out, json_object_get(root, "tools"));
        base_buf_str(&out, ",\"reasoning\":{\"effort\":null,\"summary\":null},\"store\":false,\"background\":false,"
                           "\"previous_response_id\":null,\"service_tier\":\"default\"");
    } else {
        if (json_object_size(json_object_get(root, "metadata")) > 0)
            ok = say(&out, json_object_get(root, "metadata"), "metadata", NULL);
        if (json_is_string(json_object_get(root, "service_tier")))
            base_buf_str(&out, ",\"service_tier\":\"default\"");
    }
    if (ok && out.err == DBE_OK && out.len > 0)
        req->said = base_strdup(base_buf_cstr(&out));
    ok = ok && out.err == DBE_OK && (out.len == 0 || req->said != NULL);
    base_buf_free(&out);
    return ok ? DBE_OK : shim_no_memory(p);
}
