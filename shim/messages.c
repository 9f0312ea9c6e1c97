/* SPDX-License-Identifier: Apache-2.0
 *
 * messages.c - the messages of a chat: JSON to struct shim_message.
 *
 * In:   values of "messages" (hostile)
 * Out:  messages, or a refusal that names the place
 */
#include <stdio.h>
#include <string.h>

#include "shim/read.h"

static const char *const part_types[] = {"text", "refusal"};

const char *shim_role_name(enum shim_role role)
{
    static const char *const names[] = {"system", "user", "assistant", "tool"};

    return names[role];
}

dbe_err shim_add_message(struct shim_req *req, struct shim_message **ret, struct shim_problem *p)
{
    return shim_add(&req->messages, &req->message_count, SHIM_MESSAGES_MAX, sizeof **ret, "messages", "messages", ret,
                    p);
}

dbe_err shim_add_call(struct shim_message *m, struct shim_call **ret, const char *param, struct shim_problem *p)
{
    return shim_add(&m->calls, &m->call_count, SHIM_CALLS_MAX, sizeof **ret, param, "calls", ret, p);
}

static dbe_err read_role(const json_t *v, const char *param, enum shim_role *ret, struct shim_problem *p)
{
    static const struct {
        const char *name;
        enum shim_role role;
    } roles[] = {
        {"system", SHIM_ROLE_SYSTEM},       {"developer", SHIM_ROLE_SYSTEM}, {"user", SHIM_ROLE_USER},
        {"assistant", SHIM_ROLE_ASSISTANT}, {"tool", SHIM_ROLE_TOOL},
    };

    if (!json_is_string(v))
        return shim_wrong_type(p, param, "a string", v);
    for (size_t i = 0; i < BASE_ARRAY_LEN(roles); i++) {
        if (strcmp(json_string_value(v), roles[i].name) == 0) {
            *ret = roles[i].role;
            return DBE_OK;
        }
    }
    return shim_problem_set(p, 400, "invalid_value", param,
                            "Invalid '%s': supported values are 'system', 'developer', 'user', 'assistant' and 'tool'.",
                            param);
}

/* ---- calls and results ------------------------------------------------------------------------------------------ */

static dbe_err read_call(const json_t *v, const char *where, struct shim_call *ret, struct shim_problem *p)
{
    const json_t *function = json_object_get(v, "function");
    char at[SHIM_PARAM_MAX_BYTES];

    if (!json_is_object(v))
        return shim_wrong_type(p, where, "an object", v);
    (void)snprintf(at, sizeof at, "%.80s.type", where);
    if (!shim_is_text(json_object_get(v, "type"), "function"))
        return shim_problem_set(p, 400, "unsupported_value", at, "Invalid '%s': only 'function' is supported.", at);
    (void)snprintf(at, sizeof at, "%.80s.id", where);
    DBE_TRY(shim_read_text(json_object_get(v, "id"), at, &ret->id, p));
    (void)snprintf(at, sizeof at, "%.80s.function", where);
    if (!json_is_object(function))
        return shim_wrong_type(p, at, "an object", function);
    DBE_TRY(shim_read_text(json_object_get(function, "name"), at, &ret->name, p));
    return shim_read_text(json_object_get(function, "arguments"), at, &ret->arguments, p);
}

static dbe_err read_calls(const json_t *v, const char *where, struct shim_message *m, struct shim_problem *p)
{
    char at[SHIM_PARAM_MAX_BYTES];
    struct shim_call *call = NULL;

    if (json_is_null(v))
        return DBE_OK;
    if (!json_is_array(v))
        return shim_wrong_type(p, where, "an array of calls", v);
    for (size_t i = 0; i < json_array_size(v); i++) {
        (void)snprintf(at, sizeof at, "%.70s[%zu]", where, i);
        DBE_TRY(shim_add_call(m, &call, where, p));
        DBE_TRY(read_call(json_array_get(v, i), at, call, p));
    }
    return DBE_OK;
}

/* The call that a result names: of the last messages before it that made calls. */
static const struct shim_call *call_of(const struct shim_req *req, size_t before, const char *id)
{
    for (size_t i = before; i > 0; i--) {
        const struct shim_message *m = &req->messages[i - 1];
        for (size_t c = 0; c < m->call_count; c++)
            if (strcmp(m->calls[c].id, id) == 0)
                return &m->calls[c];
    }
    return NULL;
}

dbe_err shim_check_results(const struct shim_req *req, struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];

    for (size_t i = 0; i < req->message_count; i++) {
        const struct shim_message *m = &req->messages[i];
        if (m->role != SHIM_ROLE_TOOL || call_of(req, i, m->call_id) != NULL)
            continue;
        (void)snprintf(where, sizeof where, "messages[%zu].tool_call_id", i);
        return shim_problem_set(p, 400, "invalid_value", where,
                                "Invalid '%s': no call with this id was made before this message.", where);
    }
    return DBE_OK;
}

/* ---- a message -------------------------------------------------------------------------------------------------- */

/* The name on a tool's result says again which function was called; other names are not told to a model. */
static dbe_err check_name(const json_t *v, const char *where, const struct shim_req *req, const struct shim_message *m,
                          struct shim_problem *p)
{
    if (json_is_null(v))
        return DBE_OK;
    const struct shim_call *call =
        m->role == SHIM_ROLE_TOOL && m->call_id != NULL ? call_of(req, req->message_count - 1, m->call_id) : NULL;
    return call != NULL && shim_is_text(v, call->name) ? DBE_OK : shim_unsupported(p, where);
}

/* Fields other than role and content. An answer that is sent back carries several of them as null. */
static dbe_err read_fields(const json_t *v, size_t index, const struct shim_req *req, struct shim_message *m,
                           struct shim_problem *p)
{
    static const char *const empty[] = {"refusal", "function_call", "audio", "annotations"};
    char where[SHIM_PARAM_MAX_BYTES];
    const char *key;
    const json_t *value;

    json_object_foreach((json_t *)(uintptr_t)v, key, value)
    {
        (void)snprintf(where, sizeof where, "messages[%zu].%.60s", index, key);
        if (strcmp(key, "role") == 0 || strcmp(key, "content") == 0 || strcmp(key, "tool_call_id") == 0)
            continue;
        if (strcmp(key, "name") == 0)
            DBE_TRY(check_name(value, where, req, m, p));
        else if (strcmp(key, "tool_calls") == 0 && m->role == SHIM_ROLE_ASSISTANT)
            DBE_TRY(read_calls(value, where, m, p));
        else if (!shim_is_one_of(key, empty, BASE_ARRAY_LEN(empty)))
            return shim_unknown(p, where);
        else if (!json_is_null(value) && !(json_is_array(value) && json_array_size(value) == 0))
            return shim_unsupported(p, where);
    }
    return DBE_OK;
}

static dbe_err read_content(const json_t *v, const char *where, struct shim_message *m, struct shim_problem *p)
{
    if (m->call_count > 0 && (v == NULL || json_is_null(v))) {
        m->content = base_strdup("");
        return m->content != NULL ? DBE_OK : shim_no_memory(p);
    }
    if (json_is_array(v))
        return shim_read_parts(v, where, part_types, m->role == SHIM_ROLE_ASSISTANT ? 2 : 1, &m->content, p);
    if (v != NULL && !json_is_string(v))
        return shim_wrong_type(p, where, "a string or an array of text parts", v);
    return shim_read_text(v, where, &m->content, p);
}

static dbe_err read_message(const json_t *v, size_t index, struct shim_req *req, struct shim_problem *p)
{
    char where[SHIM_PARAM_MAX_BYTES];
    struct shim_message *m = NULL;

    DBE_TRY(shim_add_message(req, &m, p));
    (void)snprintf(where, sizeof where, "messages[%zu]", index);
    if (!json_is_object(v))
        return shim_wrong_type(p, where, "an object", v);
    (void)snprintf(where, sizeof where, "messages[%zu].role", index);
    DBE_TRY(read_role(json_object_get(v, "role"), where, &m->role, p));
    const json_t *id = json_object_get(v, "tool_call_id");
    (void)snprintf(where, sizeof where, "messages[%zu].tool_call_id", index);
    if (m->role == SHIM_ROLE_TOOL)
        DBE_TRY(shim_read_text(id, where, &m->call_id, p));
    else if (id != NULL && !json_is_null(id))
        return shim_unsupported(p, where);
    DBE_TRY(read_fields(v, index, req, m, p));
    (void)snprintf(where, sizeof where, "messages[%zu].content", index);
    return read_content(json_object_get(v, "content"), where, m, p);
}

dbe_err shim_read_messages(const json_t *v, const char *param, struct shim_req *req, struct shim_problem *p)
{
    size_t count = json_array_size(v);

    if (!json_is_array(v))
        return shim_wrong_type(p, param, "an array of messages", v);
    if (count == 0 || count > SHIM_MESSAGES_MAX)
        return shim_problem_set(p, 400, count == 0 ? "empty_array" : "array_above_max_length", param,
                                "Invalid '%s': 1 to %d messages are allowed.", param, SHIM_MESSAGES_MAX);
    for (size_t i = 0; i < count; i++)
        DBE_TRY(read_message(json_array_get(v, i), i, req, p));
    return shim_check_results(req, p);
}
