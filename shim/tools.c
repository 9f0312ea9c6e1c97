/* SPDX-License-Identifier: Apache-2.0
 *
 * tools.c - what an answer has to look like and which functions it may call: response_format, tools, tool_choice, in
 * the spellings of chats and of responses.
 *
 * In:   their JSON values (hostile)
 * Out:  fields of struct shim_req, or a refusal that names the place
 * Not:  no judgement of schemas: the worker, which has to keep to them, refuses what it cannot
 */
#include <stdio.h>
#include <string.h>

#include "shim/read.h"

/* ---- formats ---------------------------------------------------------------------------------------------------- */

/* "name" is a label; "strict" makes no difference, since every answer is kept to its schema. */
dbe_err shim_read_schema(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    static const char *const known[] = {"type", "name", "schema", "strict", "description"};
    char where[SHIM_PARAM_MAX_BYTES], name[SHIM_TOOL_NAME_MAX_BYTES + 1];
    const char *key;
    const json_t *value;
    bool strict;

    if (!json_is_object(v))
        return shim_wrong_type(p, param, "an object", v);
    json_object_foreach((json_t *)(uintptr_t)v, key, value)
    {
        (void)snprintf(where, sizeof where, "%.40s.%.40s", param, key);
        if (!shim_is_one_of(key, known, BASE_ARRAY_LEN(known)))
            return shim_unknown(p, where);
        if (strcmp(key, "strict") == 0 && !json_is_null(value))
            DBE_TRY(shim_read_bool(value, where, &strict, p));
        if (strcmp(key, "description") == 0 && !json_is_null(value))
            DBE_TRY(shim_read_text(value, where, &req->format_note, p));
    }
    (void)snprintf(where, sizeof where, "%.40s.name", param);
    DBE_TRY(shim_read_name(json_object_get(v, "name"), where, name, sizeof name, p));
    (void)snprintf(where, sizeof where, "%.40s.schema", param);
    value = json_object_get(v, "schema");
    if (!json_is_object(value))
        return shim_wrong_type(p, where, "an object", value);
    req->format = "json_schema";
    return shim_read_json(value, &req->schema, p);
}

dbe_err shim_read_response_format(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    static const char *const types[] = {"text", "json_object", "json_schema"};
    char where[SHIM_PARAM_MAX_BYTES];
    const char *type = NULL;

    if (!json_is_object(v))
        return shim_wrong_type(p, param, "an object", v);
    (void)snprintf(where, sizeof where, "%s.type", param);
    DBE_TRY(shim_read_word(json_object_get(v, "type"), where, types, BASE_ARRAY_LEN(types), &type, p));
    if (json_object_size(v) > (type == types[2] ? 2 : 1))
        return shim_problem_set(p, 400, "unknown_parameter", param, "'%s' holds more than its type asks for.", param);
    if (type != types[2]) {
        req->format = type == types[0] ? "" : type;
        return DBE_OK;
    }
    (void)snprintf(where, sizeof where, "%s.json_schema", param);
    return shim_read_schema(json_object_get(v, "json_schema"), where, req, p);
}

/* ---- functions -------------------------------------------------------------------------------------------------- */

static dbe_err read_tool_name(const json_t *v, const char *where, char **ret, struct shim_problem *p)
{
    char name[SHIM_TOOL_NAME_MAX_BYTES + 1];

    DBE_TRY(shim_read_name(v, where, name, sizeof name, p));
    if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != strlen(name))
        return shim_problem_set(p, 400, "invalid_value", where,
                                "Invalid '%s': letters, digits, underscores and hyphens are allowed.", where);
    return shim_read_text(v, where, ret, p);
}

dbe_err shim_read_function(const json_t *v, const char *param, const char *const *also, size_t also_count,
                           struct shim_req *req, struct shim_problem *p)
{
    static const char *const known[] = {"name", "description", "parameters", "strict"};
    char where[SHIM_PARAM_MAX_BYTES];
    const char *key;
    const json_t *value;
    struct shim_tool *tool = NULL;
    bool strict;

    if (!json_is_object(v))
        return shim_wrong_type(p, param, "an object", v);
    DBE_TRY(shim_add(&req->tools, &req->tool_count, SHIM_TOOLS_MAX, sizeof *tool, "tools", "tools", &tool, p));
    json_object_foreach((json_t *)(uintptr_t)v, key, value)
    {
        (void)snprintf(where, sizeof where, "%.50s.%.40s", param, key);
        if (!shim_is_one_of(key, known, BASE_ARRAY_LEN(known))) {
            if (!shim_is_one_of(key, also, also_count))
                return shim_unknown(p, where);
        } else if (json_is_null(value) || strcmp(key, "name") == 0) {
            continue;
        } else if (strcmp(key, "description") == 0) {
            DBE_TRY(shim_read_text(value, where, &tool->description, p));
        } else if (strcmp(key, "strict") == 0) {
            DBE_TRY(shim_read_bool(value, where, &strict, p)); /* calls keep to their schema in any case */
        } else {
            if (!json_is_object(value))
                return shim_wrong_type(p, where, "an object", value);
            DBE_TRY(shim_read_json(value, &tool->parameters, p));
        }
    }
    (void)snprintf(where, sizeof where, "%.50s.name", param);
    return read_tool_name(json_object_get(v, "name"), where, &tool->name, p);
}

static dbe_err check_tool_type(const json_t *v, const char *where, struct shim_problem *p)
{
    char at[SHIM_PARAM_MAX_BYTES];

    if (!json_is_object(v))
        return shim_wrong_type(p, where, "an object", v);
    (void)snprintf(at, sizeof at, "%.80s.type", where);
    if (!shim_is_text(json_object_get(v, "type"), "function"))
        return shim_problem_set(p, 400, "unsupported_value", at, "Invalid '%s': only 'function' is supported.", at);
    return DBE_OK;
}

dbe_err shim_read_tools(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];

    if (!json_is_array(v))
        return shim_wrong_type(p, param, "an array of tools", v);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *tool = json_array_get(v, i);
        (void)snprintf(where, sizeof where, "%s[%zu]", param, i);
        DBE_TRY(check_tool_type(tool, where, p));
        if (json_object_size(tool) != 2)
            return shim_problem_set(p, 400, "unknown_parameter", where, "A tool holds 'type' and 'function'.");
        (void)snprintf(where, sizeof where, "%s[%zu].function", param, i);
        DBE_TRY(shim_read_function(json_object_get(tool, "function"), where, NULL, 0, req, p));
    }
    return DBE_OK;
}

dbe_err shim_read_response_tools(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    static const char *const type[] = {"type"};
    char where[SHIM_PARAM_MAX_BYTES];

    if (!json_is_array(v))
        return shim_wrong_type(p, param, "an array of tools", v);
    for (size_t i = 0; i < json_array_size(v); i++) {
        (void)snprintf(where, sizeof where, "%s[%zu]", param, i);
        DBE_TRY(check_tool_type(json_array_get(v, i), where, p));
        DBE_TRY(shim_read_function(json_array_get(v, i), where, type, 1, req, p));
    }
    return DBE_OK;
}

/* ---- the choice among them -------------------------------------------------------------------------------------- */

/* Chats say a function's name in an object of its own, responses beside the type. */
static const json_t *named_of(const json_t *v, bool nested)
{
    return json_object_get(nested ? json_object_get(v, "function") : v, "name");
}

/* One of the tools that may be called. */
static dbe_err read_allowed_tool(const json_t *v, const char *where, bool nested, struct shim_req *req,
                                 struct shim_problem *p)
{
    char at[SHIM_PARAM_MAX_BYTES];
    char **name = NULL;

    DBE_TRY(check_tool_type(v, where, p));
    if (json_object_size(v) != 2)
        return shim_problem_set(p, 400, "unknown_parameter", where, "'%s' names a type and a function.", where);
    (void)snprintf(at, sizeof at, "%.80s.name", where);
    DBE_TRY(shim_add(&req->allowed, &req->allowed_count, SHIM_TOOLS_MAX, sizeof *name, where, "tools", &name, p));
    return read_tool_name(named_of(v, nested), at, name, p);
}

/* {"mode": "auto" or "required", "tools": [...]}: of the request's tools, these alone may be called. */
static dbe_err read_allowed(const json_t *v, const char *param, bool nested, struct shim_req *req,
                            struct shim_problem *p)
{
    static const char *const modes[] = {"auto", "required"};
    const size_t members = nested ? 2 : 3; /* without its own object the type stands beside them */
    const json_t *tools = json_object_get(v, "tools");
    char where[SHIM_PARAM_MAX_BYTES];

    if (!json_is_object(v))
        return shim_wrong_type(p, param, "an object", v);
    (void)snprintf(where, sizeof where, "%.60s.mode", param);
    DBE_TRY(shim_read_word(json_object_get(v, "mode"), where, modes, BASE_ARRAY_LEN(modes), &req->tool_choice, p));
    (void)snprintf(where, sizeof where, "%.60s.tools", param);
    if (!json_is_array(tools) || json_array_size(tools) == 0)
        return shim_wrong_type(p, where, "an array of one tool or more", tools);
    if (json_object_size(v) != members)
        return shim_problem_set(p, 400, "unknown_parameter", param, "'%s' holds a mode and tools.", param);
    for (size_t i = 0; i < json_array_size(tools); i++) {
        (void)snprintf(where, sizeof where, "%.60s.tools[%zu]", param, i);
        DBE_TRY(read_allowed_tool(json_array_get(tools, i), where, nested, req, p));
    }
    return DBE_OK;
}

/* A word, or an object that names one function or several. */
static dbe_err read_choice(const json_t *v, const char *param, bool nested, struct shim_req *req,
                           struct shim_problem *p)
{
    static const char *const words[] = {"auto", "none", "required"};
    const bool some = shim_is_text(json_object_get(v, "type"), "allowed_tools");
    char where[SHIM_PARAM_MAX_BYTES];

    if (json_is_string(v))
        return shim_read_word(v, param, words, BASE_ARRAY_LEN(words), &req->tool_choice, p);
    if (!json_is_object(v))
        return shim_wrong_type(p, param, "a string or an object", v);
    if (some && !nested)
        return read_allowed(v, param, nested, req, p);
    if (!some)
        DBE_TRY(check_tool_type(v, param, p));
    if (json_object_size(v) != 2)
        return shim_problem_set(p, 400, "unknown_parameter", param, "'%s' holds a type and what it names.", param);
    (void)snprintf(where, sizeof where, "%.60s.%s", param, some ? "allowed_tools" : "name");
    if (some)
        return read_allowed(json_object_get(v, "allowed_tools"), where, nested, req, p);
    req->tool_choice = "function";
    return shim_read_name(named_of(v, nested), where, req->tool_name, sizeof req->tool_name, p);
}

dbe_err shim_read_tool_choice(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    return read_choice(v, param, true, req, p);
}

dbe_err shim_read_response_tool_choice(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    return read_choice(v, param, false, req, p);
}

bool shim_has_tool(const struct shim_req *req, const char *name)
{
    for (size_t i = 0; i < req->tool_count; i++)
        if (strcmp(req->tools[i].name, name) == 0)
            return true;
    return false;
}

void shim_keep_allowed(struct shim_req *req)
{
    const char *const *allowed = (const char *const *)req->allowed;
    size_t kept = 0;

    if (req->allowed_count == 0)
        return;
    for (size_t i = 0; i < req->tool_count; i++) {
        if (shim_is_one_of(req->tools[i].name, allowed, req->allowed_count))
            req->tools[kept++] = req->tools[i];
        else
            shim_tool_free(&req->tools[i]);
    }
    req->tool_count = kept;
}
