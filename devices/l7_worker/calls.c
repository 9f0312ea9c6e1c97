/* SPDX-License-Identifier: Apache-2.0
 *
 * calls.c - see tools.h: what calls of tools have to look like, and which stand in an answer.
 *
 * In:   tools with their schemas, text of a model (both hostile)     Out: a grammar; calls
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/l7_worker/tools.h"

enum { REF_MAX_BYTES = 512, WALK_DEPTH_MAX = 64 };

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

/* Add {"name": ..., KEY: ...} of one tool to `list`, and the schema of its arguments to `defs`. */
static dbe_err add_schema(const Dsmil__Tool *t, const char *key, json_t *list, json_t *defs, struct dbe_diag *diag)
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
    json_t *schema = json_pack("{s:s, s:{s:{s:s}, s:{s:s}}, s:[s,s], s:b}", "type", "object", "properties", "name",
                               "const", t->name, key, "$ref", ref, "required", "name", key, "additionalProperties", 0);
    bool ok = json_object_set_new(defs, name, parameters) == 0; /* takes it in any case */
    return json_array_append_new(list, schema) == 0 && ok ? DBE_OK : DBE_E_NOMEM;
}

/* A call in this form, or of Mistral's the list of them. Takes both over. */
static char *schema_of(enum llm_tools form, json_t *list, json_t *defs, uint32_t max)
{
    const bool mistral = form == LLM_TOOLS_MISTRAL || form == LLM_TOOLS_MISTRAL_SPACED;
    json_t *whole = mistral ? json_pack("{s:o, s:s, s:i, s:i, s:{s:o}}", "$defs", defs, "type", "array", "minItems", 1,
                                        "maxItems", (int)max, "items", "anyOf", list)
                            : json_pack("{s:o, s:o}", "$defs", defs, "anyOf", list);
    char *text = whole != NULL ? json_dumps(whole, JSON_COMPACT) : NULL;

    json_decref(whole);
    return text;
}

static dbe_err make_grammar(const Dsmil__L7ChatRequest *r, enum llm_tools form, uint32_t max, struct llm_grammar **ret,
                            struct dbe_diag *diag)
{
    static const struct llm_grammar_frame frames[] = {
        [LLM_TOOLS_TEXT] = {"", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>", 1, NULL},
        [LLM_TOOLS_LLAMA3] = {"", "", "", 1, NULL},
        [LLM_TOOLS_MISTRAL] = {"", "", "", 1, NULL},
        [LLM_TOOLS_MISTRAL_SPACED] = {" ", "", "", 1, NULL}};
    const bool one = strcmp(r->tool_choice, "function") == 0;
    struct llm_grammar_frame frame = frames[form];
    struct dbe_diag why = {0};
    json_t *list = json_array(), *defs = json_object();
    dbe_err err = list == NULL || defs == NULL ? DBE_E_NOMEM : DBE_OK;

    for (size_t i = 0; i < r->n_tools && err == DBE_OK; i++)
        if (!one || strcmp(r->tools[i]->name, r->tool_name) == 0)
            err = add_schema(r->tools[i], form == LLM_TOOLS_LLAMA3 ? "parameters" : "arguments", list, defs, diag);
    if (err != DBE_OK) {
        json_decref(list);
        json_decref(defs);
        return err;
    }
    if (form == LLM_TOOLS_TEXT)
        frame.max = max;
    char *text = schema_of(form, list, defs, max);
    err = text == NULL ? DBE_E_NOMEM : llm_grammar_framed(text, strlen(text), &frame, ret, &why);
    if (err == DBE_E_ARGUMENT || err == DBE_E_TOO_LARGE)
        err = dbe_fail(diag, DBE_E_RANGE, "tools", 0, "tools: %.160s", why.text);
    free(text); /* jansson's */
    return err;
}

dbe_err worker_tools_call(const Dsmil__L7ChatRequest *r, enum llm_tools form, struct engine_call *ret,
                          struct dbe_diag *diag)
{
    static const struct {
        const char *mark, *lead;
    } marks[] = {[LLM_TOOLS_TEXT] = {"<tool_call>", "\n"},
                 [LLM_TOOLS_LLAMA3] = {"", ""},
                 [LLM_TOOLS_MISTRAL] = {"[TOOL_CALLS]", ""},
                 [LLM_TOOLS_MISTRAL_SPACED] = {"[TOOL_CALLS]", ""}};
    const bool named = strcmp(r->tool_choice, "function") == 0; /* asks for that call, not for more of it */
    const uint32_t max = r->single_call || r->receipt || named ? 1 : WORKER_CALLS_MAX;
    struct engine_call call = {.mark = marks[form].mark, .lead = marks[form].lead, .first = r->format[0] != '\0'};
    struct llm_grammar *grammar = NULL;
    const char **names = base_alloc(r->n_tools, sizeof *names);

    if (names == NULL)
        return DBE_E_NOMEM;
    for (size_t i = 0; i < r->n_tools; i++)
        names[call.name_count++] = r->tools[i]->name;
    dbe_err err = make_grammar(r, form, max, &grammar, diag);
    if (err != DBE_OK) {
        base_free(names);
        return err;
    }
    call.names = names;
    call.grammar = grammar;
    call.at_once = named || strcmp(r->tool_choice, "required") == 0;
    *ret = call;
    return DBE_OK;
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

static dbe_err name_call(struct worker_call *call)
{
    uint8_t random[12];
    char hex[2 * sizeof random + 1];

    DBE_TRY(base_random(random, sizeof random));
    base_hex(random, sizeof random, hex);
    (void)snprintf(call->id, sizeof call->id, "call_%s", hex);
    return DBE_OK;
}

static void free_call(struct worker_call *call)
{
    base_free(call->name);
    base_free(call->arguments);
    memset(call, 0, sizeof *call);
}

/* E_NOT_FOUND: the object is no call. */
static dbe_err add_call(const json_t *v, struct worker_calls *ret)
{
    const json_t *said = json_object_get(v, "arguments");
    const char *name = json_string_value(json_object_get(v, "name"));
    struct worker_call call = {0};

    if (said == NULL)
        said = json_object_get(v, "parameters");
    if (name == NULL || !json_is_object(said) || ret->count == WORKER_CALLS_MAX)
        return DBE_E_NOT_FOUND;
    char *arguments = json_dumps(said, JSON_COMPACT);
    if (arguments != NULL) {
        call.name = base_strdup(name);
        call.arguments = base_strdup(arguments);
    }
    free(arguments); /* jansson's */
    dbe_err err = call.name == NULL || call.arguments == NULL ? DBE_E_NOMEM : name_call(&call);
    if (err != DBE_OK)
        free_call(&call);
    else
        ret->list[ret->count++] = call;
    return err;
}

/* An object, or a list of which every element is a call. */
static dbe_err add_calls(const json_t *v, struct worker_calls *ret)
{
    const size_t before = ret->count;
    dbe_err err = DBE_OK;

    if (!json_is_array(v))
        return add_call(v, ret);
    for (size_t i = 0; i < json_array_size(v) && err == DBE_OK; i++)
        err = add_call(json_array_get(v, i), ret);
    while (err != DBE_OK && ret->count > before)
        free_call(&ret->list[--ret->count]);
    return err;
}

/* Marks and white space between calls. */
static size_t skip(const char *text, size_t len)
{
    static const char *const marks[] = {"<tool_call>", "</tool_call>", "[TOOL_CALLS]", " ", "\n"};
    size_t at = 0, before;

    do {
        before = at;
        for (size_t i = 0; i < BASE_ARRAY_LEN(marks); i++) {
            const size_t n = strlen(marks[i]);
            if (len - at >= n && memcmp(text + at, marks[i], n) == 0)
                at += n;
        }
    } while (at > before);
    return at;
}

dbe_err worker_calls_read(const char *text, size_t len, struct worker_calls *ret)
{
    struct worker_calls calls = {0};
    json_error_t where;
    dbe_err err = DBE_OK;

    for (size_t at = skip(text, len); at < len && err == DBE_OK;) {
        json_t *v = json_loadb(text + at, len - at, JSON_DISABLE_EOF_CHECK, &where);
        err = v != NULL ? add_calls(v, &calls) : DBE_E_NOT_FOUND;
        json_decref(v);
        if (err == DBE_OK) {
            at += (size_t)where.position;
            at += skip(text + at, len - at);
            calls.end = at;
        }
    }
    if (err != DBE_OK && err != DBE_E_NOT_FOUND) {
        worker_calls_free(&calls);
        return err;
    }
    *ret = calls;
    return DBE_OK;
}

void worker_calls_free(struct worker_calls *calls)
{
    for (size_t i = 0; i < calls->count; i++)
        free_call(&calls->list[i]);
    memset(calls, 0, sizeof *calls);
}

static bool begins(const char *mark, const char *text, size_t len)
{
    return len <= strlen(mark) && memcmp(text, mark, len) == 0;
}

dbe_err worker_calls_settle(struct base_buf *text, struct base_buf *call, size_t called, struct engine_result *result,
                            size_t *ret_behind)
{
    struct worker_calls calls = {0};
    size_t behind = 0;

    if (call->len == 0) {
        *ret_behind = 0;
        return DBE_OK;
    }
    DBE_TRY(worker_calls_read((const char *)call->data + called, call->len - called, &calls));
    size_t end = called + calls.end;
    if (end > 0)
        end += skip((const char *)call->data + end, call->len - end);
    const char *rest = (const char *)call->data + end;
    /* behind a whole call a mark that was cut is no text of the model's */
    if (end > 0 && begins("</tool_call>", rest, call->len - end))
        result->finish = LLM_FINISH_STOP;
    else if (end == 0 || !begins("<tool_call>", rest, call->len - end))
        behind = call->len - end;
    base_buf_bytes(text, rest, behind);
    call->len = end;
    worker_calls_free(&calls);
    DBE_TRY(text->err);
    *ret_behind = end > 0 ? behind : 0;
    return DBE_OK;
}
