/* SPDX-License-Identifier: Apache-2.0
 *
 * params.c - a request: JSON text to struct shim_req, every parameter obeyed or refused by name.
 *
 * In:   body bytes (hostile)
 * Out:  struct shim_req, or a struct shim_problem that names the parameter
 * Not:  knows no mesh and no HTTP
 *
 * Reading order: params.def, read_parameter, shim_req_parse, then up. Readers: values.c, messages.c, prompts.c,
 * tools.c, responses_in.c.
 */
#include <stdio.h>
#include <string.h>

#include "shim/read.h"

enum { COMPLETION_TOKENS_DEFAULT = 16 }; /* OpenAI's for /v1/completions */

/* ---- values that ask for what happens anyway -------------------------------------------------------------------- */

enum neutral {
    NEVER,
    IS_FALSE,
    IS_ONE,
    TEXT_ONLY,
    EMPTY_TEXT,
    NO_TIER,
    IS_NONE,
    IS_MEDIUM,
    IS_DISABLED,
    IN_MEMORY,
    NO_EFFORT,
    NO_OBFUSCATION
};

/* {"effort": "none"}, or members that are null. */
static bool no_effort(const json_t *v)
{
    const char *key;
    const json_t *value;

    if (!json_is_object(v))
        return false;
    json_object_foreach((json_t *)(uintptr_t)v, key, value)
    {
        bool known = shim_is_text(value, "none") && strcmp(key, "effort") == 0;
        if (!known && !json_is_null(value))
            return false;
    }
    return true;
}

static bool is_neutral(enum neutral when, const json_t *v)
{
    switch (when) {
    case NEVER: return false;
    case IS_FALSE: return json_is_false(v);
    case IS_ONE: return json_is_integer(v) && json_integer_value(v) == 1;
    case TEXT_ONLY: return json_array_size(v) == 1 && shim_is_text(json_array_get(v, 0), "text");
    case EMPTY_TEXT: return shim_is_text(v, "");
    case NO_TIER: return shim_is_text(v, "auto") || shim_is_text(v, "default");
    case IS_NONE: return shim_is_text(v, "none");
    case IS_MEDIUM: return shim_is_text(v, "medium");
    case IS_DISABLED: return shim_is_text(v, "disabled");
    case IN_MEMORY: return shim_is_text(v, "in_memory");
    case NO_EFFORT: return no_effort(v);
    case NO_OBFUSCATION:
        return json_is_object(v) && json_object_size(v) == (json_object_get(v, "include_obfuscation") != NULL) &&
               !json_is_true(json_object_get(v, "include_obfuscation"));
    }
    return false;
}

/* A known parameter with the wrong type of value is told so, rather than called unsupported. */
static dbe_err check_neutral(enum neutral when, const char *name, const json_t *v, struct shim_problem *p)
{
    if (is_neutral(when, v))
        return DBE_OK;
    if (when == IS_FALSE && !json_is_boolean(v))
        return shim_wrong_type(p, name, "a boolean", v);
    if (when == IS_ONE && !json_is_integer(v))
        return shim_wrong_type(p, name, "an integer", v);
    return shim_unsupported(p, name);
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

static const struct row {
    enum shim_kind kind;
    const char *name;
    shim_read_fn *read; /* NULL: see `when` */
    enum neutral when;
} rows[] = {
#define ROW_HONOURED(read) read, NEVER
#define ROW_ONLY(when) NULL, when
#define ROW_REFUSED(when) NULL, when
#define CHAT(name, verdict, how) {SHIM_CHAT, #name, ROW_##verdict(how)},
#define COMPLETION(name, verdict, how) {SHIM_COMPLETION, #name, ROW_##verdict(how)},
#define EMBEDDING(name, verdict, how) {SHIM_EMBEDDING, #name, ROW_##verdict(how)},
#define RESPONSE(name, verdict, how) {SHIM_RESPONSE, #name, ROW_##verdict(how)},
#include "shim/params.def"
#undef CHAT
#undef COMPLETION
#undef EMBEDDING
#undef RESPONSE
};

/* What has to be there, beside the model, which may be left out while there is one. */
static const char *required_of(enum shim_kind kind)
{
    switch (kind) {
    case SHIM_CHAT: return "messages";
    case SHIM_COMPLETION: return "prompt";
    case SHIM_EMBEDDING:
    case SHIM_RESPONSE: break;
    }
    return "input";
}

static dbe_err read_parameter(const char *key, const json_t *v, struct shim_req *req, struct shim_problem *p)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        if (row->kind != req->kind || strcmp(key, row->name) != 0)
            continue;
        if (json_is_null(v) && strcmp(key, "model") != 0 && strcmp(key, required_of(req->kind)) != 0)
            return DBE_OK; /* null stands for absent, except where a value is required */
        return row->read != NULL ? row->read(v, row->name, req, p) : check_neutral(row->when, row->name, v, p);
    }
    return shim_unknown(p, key);
}

/* ---- what parameters mean together ------------------------------------------------------------------------------ */

static dbe_err combination(struct shim_problem *p, const char *param, const char *rule)
{
    return shim_problem_set(p, 400, "invalid_parameter_combination", param, "%s", rule);
}

/* What tool_choice names has to be there. */
static dbe_err check_tool_choice(const struct shim_req *req, struct shim_problem *p)
{
    bool there = strcmp(req->tool_choice, "function") != 0 || shim_has_tool(req, req->tool_name);

    if (req->tool_choice[0] != '\0' && strcmp(req->tool_choice, "none") != 0 && req->tool_count == 0)
        return combination(p, "tool_choice", "'tool_choice' is only allowed when 'tools' are specified.");
    for (size_t i = 0; i < req->allowed_count; i++)
        there = there && shim_has_tool(req, req->allowed[i]);
    return there ? DBE_OK : combination(p, "tool_choice", "'tool_choice' names a function that is not among 'tools'.");
}

static dbe_err check_combinations(const json_t *root, const struct shim_req *req, struct shim_problem *p)
{
    const json_t *options = json_object_get(root, "stream_options"), *top = json_object_get(root, "top_logprobs");

    if (options != NULL && !json_is_null(options) && !req->stream)
        return combination(p, "stream_options",
                           "The 'stream_options' parameter is only allowed when 'stream' is true.");
    if (req->kind == SHIM_CHAT && top != NULL && !json_is_null(top) && !req->logprobs)
        return combination(p, "top_logprobs", "The 'top_logprobs' parameter is only allowed when 'logprobs' is true.");
    DBE_TRY(check_tool_choice(req, p));
    if (req->kind == SHIM_COMPLETION && req->n * (req->message_count + req->token_count) > SHIM_CHOICES_MAX)
        return shim_problem_set(p, 400, "array_above_max_length", "prompt",
                                "Invalid 'prompt': at most %d answers to all prompts together are allowed.",
                                SHIM_CHOICES_MAX);
    if (req->kind == SHIM_EMBEDDING && req->receipt)
        return combination(p, "dsmil.receipt", "Receipts are for answers, and vectors have none.");
    if (req->has_max_tokens && req->max_tokens == 0 && !req->echo) /* an answer of nothing: see shim_read_max_tokens */
        return shim_problem_set(p, 400, "invalid_value", "max_tokens",
                                "Invalid 'max_tokens': 0 is less than the minimum of 1 without 'echo'.");
    return DBE_OK;
}

/* Put a text at the head of the system message, or make one. */
static dbe_err instruct(struct shim_req *req, const char *text, bool before, struct shim_problem *p)
{
    struct shim_message *m = NULL;

    if (req->message_count == 0 || req->messages[0].role != SHIM_ROLE_SYSTEM) {
        DBE_TRY(shim_add_message(req, &m, p));
        memmove(&req->messages[1], &req->messages[0], (req->message_count - 1) * sizeof *m);
        req->messages[0] = (struct shim_message){.role = SHIM_ROLE_SYSTEM, .content = base_strdup(text)};
        return req->messages[0].content != NULL ? DBE_OK : shim_no_memory(p);
    }
    m = &req->messages[0];
    size_t cap = strlen(text) + strlen(m->content) + 3;
    char *both = base_alloc(cap, 1);
    if (both == NULL)
        return shim_no_memory(p);
    (void)snprintf(both, cap, "%s\n\n%s", before ? text : m->content, before ? m->content : text);
    base_wipe(m->content, strlen(m->content));
    base_free(m->content);
    m->content = both;
    return DBE_OK;
}

static dbe_err complete(const json_t *root, struct shim_req *req, struct shim_problem *p)
{
    if (req->kind == SHIM_COMPLETION && !req->has_max_tokens) {
        req->has_max_tokens = true;
        req->max_tokens = COMPLETION_TOKENS_DEFAULT;
    }
    if (req->instructions != NULL)
        DBE_TRY(instruct(req, req->instructions, true, p));
    if (req->format_note != NULL && req->format_note[0] != '\0')
        DBE_TRY(instruct(req, req->format_note, false, p));
    return req->kind == SHIM_CHAT || req->kind == SHIM_RESPONSE ? shim_said_of(root, req, p) : DBE_OK;
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
    char key[SHIM_PARAM_MAX_BYTES] = "", end;

    switch (json_error_code(e)) {
    case json_error_out_of_memory: return shim_no_memory(p);
    case json_error_duplicate_key:
        if (sscanf(e->text, "duplicate object key near '\"%63[A-Za-z0-9_]%c", key, &end) != 2 || end != '"')
            key[0] = '\0'; /* spelt with escapes, or long */
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

static dbe_err read_body(const json_t *root, struct shim_req *req, struct shim_problem *p)
{
    const char *key;
    const json_t *value;

    if (!json_is_object(root))
        return shim_problem_set(p, 400, "invalid_type", NULL, "The body must be an object.");
    json_object_foreach((json_t *)(uintptr_t)root, key, value) DBE_TRY(read_parameter(key, value, req, p));
    if (json_object_get(root, required_of(req->kind)) == NULL)
        return shim_missing(p, required_of(req->kind));
    DBE_TRY(check_combinations(root, req, p));
    shim_keep_allowed(req);
    return complete(root, req, p);
}

dbe_err shim_req_parse(enum shim_kind kind, const char *body, size_t len, struct shim_req *ret, struct shim_problem *p)
{
    json_error_t e;
    struct shim_req req = {.kind = kind, .n = 1, .format = "", .tool_choice = ""};

    memset(ret, 0, sizeof *ret);
    if (len > SHIM_BODY_MAX_BYTES)
        return shim_problem_set(p, 413, "request_too_large", NULL, "The body is larger than %d bytes.",
                                SHIM_BODY_MAX_BYTES);
    if (len == 0)
        return shim_problem_set(p, 400, "invalid_json", NULL, "The body is empty.");
    if (too_deep(body, len))
        return shim_problem_set(p, 400, "invalid_json", NULL, "The JSON body is nested more than %d levels deep.",
                                SHIM_JSON_DEPTH_MAX);
    json_t *root = json_loadb(body, len, JSON_REJECT_DUPLICATES, &e);
    if (root == NULL)
        return refuse_json(&e, p);
    dbe_err err = read_body(root, &req, p);
    json_decref(root);
    if (err != DBE_OK)
        shim_req_free(&req);
    else
        *ret = req;
    return err;
}
