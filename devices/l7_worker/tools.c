/* SPDX-License-Identifier: Apache-2.0
 *
 * tools.c - see tools.h.
 */
#include "devices/l7_worker/tools.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX_BYTES = 2 * 1024 * 1024, REF_MAX_BYTES = 512, WALK_DEPTH_MAX = 64 };

/* ---- messages --------------------------------------------------------------------------------------------------- */

bool worker_tools_offered(const Dsmil__L7ChatRequest *r)
{
    return r->n_tools > 0 && strcmp(r->tool_choice, "none") != 0;
}

static bool good_name(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len <= WORKER_TOOL_NAME_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == len;
}

static void describe_tools(const Dsmil__L7ChatRequest *r, struct base_buf *out)
{
    base_buf_str(out, "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
                      "You are provided with function signatures within <tools></tools> XML tags:\n<tools>");
    for (size_t i = 0; i < r->n_tools; i++) {
        const Dsmil__Tool *t = r->tools[i];
        base_buf_str(out, "\n{\"type\": \"function\", \"function\": {\"name\": ");
        base_json_str(out, t->name, strlen(t->name));
        base_buf_str(out, ", \"description\": ");
        base_json_str(out, t->description, strlen(t->description));
        base_buf_str(out, ", \"parameters\": ");
        base_buf_str(out, t->parameters[0] != '\0' ? t->parameters : "{\"type\": \"object\", \"properties\": {}}");
        base_buf_str(out, "}}");
    }
    base_buf_str(out, "\n</tools>\n\nFor each function call, return a json object with function name and arguments "
                      "within <tool_call></tool_call> XML tags:\n" WORKER_CALL_MARK
                      "\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>");
}

static void write_call(struct base_buf *out, const Dsmil__ToolCall *call)
{
    if (out->len > 0)
        base_buf_u8(out, '\n');
    base_buf_str(out, WORKER_CALL_MARK "\n{\"name\": ");
    base_json_str(out, call->name, strlen(call->name));
    base_buf_str(out, ", \"arguments\": ");
    base_buf_str(out, call->arguments[0] != '\0' ? call->arguments : "{}");
    base_buf_str(out, "}\n</tool_call>");
}

/* Add a message of text that is made here. */
static dbe_err add_made(struct worker_prompt *p, const char *role, struct base_buf *text)
{
    char *copy = text->err == DBE_OK ? base_strdup(base_buf_cstr(text)) : NULL;

    if (copy == NULL)
        return text->err != DBE_OK ? text->err : DBE_E_NOMEM;
    p->made[p->made_count++] = copy;
    p->messages[p->count++] = (struct llm_message){role, copy, strlen(copy)};
    return DBE_OK;
}

/* Results of tools that follow each other go to the model as one message. Returns how many there were. */
static size_t write_results(const Dsmil__L7ChatRequest *r, size_t from, struct base_buf *out)
{
    size_t i = from;

    for (; i < r->n_messages && strcmp(r->messages[i]->role, "tool") == 0; i++) {
        base_buf_str(out, out->len > 0 ? "\n<tool_response>\n" : "<tool_response>\n");
        base_buf_str(out, r->messages[i]->content);
        base_buf_str(out, "\n</tool_response>");
    }
    return i - from;
}

static dbe_err add_message(struct worker_prompt *p, const Dsmil__L7ChatRequest *r, size_t *i, struct base_buf *text)
{
    const Dsmil__ChatMessage *m = r->messages[*i];

    base_buf_clear(text);
    if (strcmp(m->role, "tool") == 0) {
        *i += write_results(r, *i, text) - 1;
        return add_made(p, "user", text);
    }
    if (m->n_tool_calls > 0) {
        base_buf_str(text, m->content);
        for (size_t c = 0; c < m->n_tool_calls; c++)
            write_call(text, m->tool_calls[c]);
        return add_made(p, m->role, text);
    }
    if (*i == 0 && worker_tools_offered(r) && strcmp(m->role, "system") == 0) {
        base_buf_str(text, m->content);
        base_buf_str(text, "\n\n");
        describe_tools(r, text);
        return add_made(p, m->role, text);
    }
    p->messages[p->count++] = (struct llm_message){m->role, m->content, strlen(m->content)};
    return DBE_OK;
}

static dbe_err check_messages(const Dsmil__L7ChatRequest *r, const char **reason)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};

    for (size_t i = 0; i < r->n_messages; i++) {
        const Dsmil__ChatMessage *m = r->messages[i];
        bool known = false;
        for (size_t k = 0; k < BASE_ARRAY_LEN(roles); k++)
            known |= strcmp(m->role, roles[k]) == 0;
        *reason = "messages: a role is system, user, assistant or tool";
        if (!known)
            return DBE_E_RANGE;
        *reason = "messages: only an assistant calls tools, at most 64 at once, with names of 1 to 64 letters";
        if (m->n_tool_calls > (strcmp(m->role, "assistant") == 0 ? WORKER_TOOLS_MAX : 0))
            return DBE_E_RANGE;
        for (size_t c = 0; c < m->n_tool_calls; c++)
            if (!good_name(m->tool_calls[c]->name))
                return DBE_E_RANGE;
        *reason = "messages: content is not UTF-8";
        if (!base_utf8_valid(m->content, strlen(m->content)))
            return DBE_E_UTF8;
    }
    return DBE_OK;
}

static dbe_err check_tools(const Dsmil__L7ChatRequest *r, const char **reason)
{
    static const char *const choices[] = {"", "auto", "none", "required", "function"};
    bool known = false, named = strcmp(r->tool_choice, "function") != 0;

    for (size_t i = 0; i < r->n_tools; i++) {
        *reason = "tools: a name has 1 to 64 letters, digits, _ or -";
        if (!good_name(r->tools[i]->name))
            return DBE_E_RANGE;
        named |= strcmp(r->tools[i]->name, r->tool_name) == 0;
    }
    for (size_t i = 0; i < BASE_ARRAY_LEN(choices); i++)
        known |= strcmp(r->tool_choice, choices[i]) == 0;
    *reason = "tool_choice: auto, none, required or the name of one of the tools";
    return known && named && (r->n_tools > 0 || strcmp(r->tool_choice, "required") != 0) ? DBE_OK : DBE_E_RANGE;
}

dbe_err worker_tools_render(const Dsmil__L7ChatRequest *r, struct worker_prompt *ret, const char **ret_reason)
{
    struct worker_prompt p = {0};
    struct base_buf text;
    dbe_err err = DBE_OK;

    DBE_TRY(check_messages(r, ret_reason));
    DBE_TRY(check_tools(r, ret_reason));
    *ret_reason = NULL;
    p.messages = base_alloc(r->n_messages + 1, sizeof *p.messages);
    p.made = base_alloc(r->n_messages + 1, sizeof *p.made);
    if (p.messages == NULL || p.made == NULL) {
        worker_prompt_free(&p);
        return DBE_E_NOMEM;
    }
    base_buf_init(&text, TEXT_MAX_BYTES);
    if (worker_tools_offered(r) && strcmp(r->messages[0]->role, "system") != 0) {
        describe_tools(r, &text);
        err = add_made(&p, "system", &text);
    }
    for (size_t i = 0; i < r->n_messages && err == DBE_OK; i++)
        err = add_message(&p, r, &i, &text);
    base_buf_free(&text);
    if (err != DBE_OK)
        worker_prompt_free(&p);
    else
        *ret = p;
    return err;
}

void worker_prompt_free(struct worker_prompt *p)
{
    for (size_t i = 0; i < p->made_count; i++) {
        base_wipe(p->made[i], strlen(p->made[i]));
        base_free(p->made[i]);
    }
    base_free(p->made);
    base_free(p->messages);
    memset(p, 0, sizeof *p);
}

/* ---- grammar ---------------------------------------------------------------------------------------------------- */

/* References of a function's schema point into a larger one now. */
static bool move_refs(json_t *v, const char *prefix, unsigned depth)
{
    const char *key;
    json_t *value;
    void *next;
    size_t i;

    if (depth == 0)
        return false;
    json_object_foreach_safe(v, next, key, value)
    {
        char moved[REF_MAX_BYTES];
        if (strcmp(key, "$ref") != 0 || !json_is_string(value) || json_string_value(value)[0] != '#') {
            if (!move_refs(value, prefix, depth - 1))
                return false;
            continue;
        }
        int n = snprintf(moved, sizeof moved, "%s%s", prefix, json_string_value(value) + 1);
        if (n < 0 || (size_t)n >= sizeof moved || json_object_set_new(v, key, json_string(moved)) != 0)
            return false;
    }
    json_array_foreach(v, i, value) if (!move_refs(value, prefix, depth - 1)) return false;
    return true;
}

/* Add {"name": ..., "arguments": ...} of one tool to `list`, and the schema of its arguments to `defs`. */
static dbe_err add_schema(const Dsmil__Tool *t, json_t *list, json_t *defs, struct dbe_diag *diag)
{
    const char *text = t->parameters[0] != '\0' ? t->parameters : "{\"type\":\"object\",\"properties\":{}}";
    json_t *parameters = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    char name[16], ref[32];

    (void)snprintf(name, sizeof name, "f%zu", json_array_size(list));
    (void)snprintf(ref, sizeof ref, "#/$defs/%s", name);
    if (parameters == NULL || !json_is_object(parameters) || !move_refs(parameters, ref, WALK_DEPTH_MAX)) {
        json_decref(parameters);
        return dbe_fail(diag, DBE_E_RANGE, "tools", 0, "tools: the parameters of %.64s are no JSON schema", t->name);
    }
    json_t *schema =
        json_pack("{s:s, s:{s:{s:s}, s:{s:s}}, s:[s,s], s:b}", "type", "object", "properties", "name", "const", t->name,
                  "arguments", "$ref", ref, "required", "name", "arguments", "additionalProperties", 0);
    bool ok = json_object_set_new(defs, name, parameters) == 0; /* takes it in any case */
    return json_array_append_new(list, schema) == 0 && ok ? DBE_OK : DBE_E_NOMEM;
}

dbe_err worker_tools_grammar(const Dsmil__L7ChatRequest *r, struct llm_grammar **ret, struct dbe_diag *diag)
{
    const bool one = strcmp(r->tool_choice, "function") == 0;
    json_t *list = json_array(), *defs = json_object(), *whole = NULL;
    char *text = NULL;
    struct dbe_diag why = {0};
    dbe_err err = list == NULL || defs == NULL ? DBE_E_NOMEM : DBE_OK;

    for (size_t i = 0; i < r->n_tools && err == DBE_OK; i++)
        if (!one || strcmp(r->tools[i]->name, r->tool_name) == 0)
            err = add_schema(r->tools[i], list, defs, diag);
    if (err == DBE_OK) {
        whole = json_pack("{s:O, s:O}", "$defs", defs, "anyOf", list);
        text = whole != NULL ? json_dumps(whole, JSON_COMPACT) : NULL;
        err = text == NULL ? DBE_E_NOMEM : llm_grammar_schema(text, strlen(text), ret, &why);
        if (err == DBE_E_ARGUMENT || err == DBE_E_TOO_LARGE)
            err = dbe_fail(diag, DBE_E_RANGE, "tools", 0, "tools: %.160s", why.text);
    }
    free(text); /* jansson's */
    json_decref(whole);
    json_decref(list);
    json_decref(defs);
    return err;
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

static bool name_call(struct worker_call *call)
{
    uint8_t random[12];
    char hex[2 * sizeof random + 1];

    if (base_random(random, sizeof random) != DBE_OK)
        return false;
    base_hex(random, sizeof random, hex);
    (void)snprintf(call->id, sizeof call->id, "call_%s", hex);
    return true;
}

bool worker_call_read(const char *text, size_t len, struct worker_call *ret)
{
    struct worker_call call = {0};
    json_t *root = json_loadb(text, len, JSON_DISABLE_EOF_CHECK, NULL);
    const char *name = json_string_value(json_object_get(root, "name"));
    char *arguments = json_dumps(json_object_get(root, "arguments"), JSON_COMPACT);

    if (name != NULL && arguments != NULL && name_call(&call)) {
        call.name = base_strdup(name);
        call.arguments = base_strdup(arguments);
    }
    free(arguments);
    json_decref(root);
    if (call.name == NULL || call.arguments == NULL) {
        worker_call_free(&call);
        return false;
    }
    *ret = call;
    return true;
}

void worker_call_free(struct worker_call *call)
{
    base_free(call->name);
    base_free(call->arguments);
    memset(call, 0, sizeof *call);
}
