/* SPDX-License-Identifier: Apache-2.0
 *
 * tools.c - see tools.h: requests to messages in the form of the model's family.
 *
 *   text     system message: functions between <tools>, calls between <tool_call>, results between <tool_response>
 *   llama 3  the first user message has the functions; a call is {"name", "parameters"}; a result has a role of its own
 *   mistral  lists of JSON behind control tokens
 */
#include "devices/l7_worker/tools.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX_BYTES = 2 * 1024 * 1024, MISTRAL_ID_BYTES = 9 };
/* As templates write JSON: spaces behind commas and colons. */
enum { TEMPLATE_JSON = JSON_REAL_PRECISION(15) | JSON_ENCODE_ANY };

bool worker_tools_offered(const Dsmil__L7ChatRequest *r)
{
    return r->n_tools > 0 && strcmp(r->tool_choice, "none") != 0;
}

enum llm_tools worker_tools_form(const Dsmil__L7ChatRequest *r, enum llm_tools form)
{
    const bool free_choice = r->tool_choice[0] == '\0' || strcmp(r->tool_choice, "auto") == 0;
    bool user = false;

    for (size_t i = 0; i < r->n_messages; i++)
        user |= strcmp(r->messages[i]->role, "user") == 0;
    if (worker_tools_offered(r) && !user) /* the families' own forms stand beside a user's message */
        return LLM_TOOLS_TEXT;
    /* Under a grammar the answer is JSON or a call: the families' own would be JSON as well, or begin with a token that
     * no grammar makes. */
    return r->format[0] != '\0' && worker_tools_offered(r) && free_choice ? LLM_TOOLS_TEXT : form;
}

struct worker_tool_style worker_tool_style_of(const struct llm_model *model)
{
    struct worker_tool_style style = {.form = llm_chat_tools(model)};

    style.system = llm_chat_system(model, &style.system_len);
    return style;
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

/* Append a value as templates write it; takes it over. */
static void put_json(struct base_buf *out, json_t *v, size_t flags)
{
    char *text = v != NULL ? json_dumps(v, flags | TEMPLATE_JSON) : NULL;

    if (text != NULL)
        base_buf_str(out, text);
    else if (out->err == DBE_OK)
        out->err = DBE_E_NOMEM;
    free(text); /* jansson's */
    json_decref(v);
}

/* A text of JSON the same way; one that is none stays as it is. */
static void put_json_text(struct base_buf *out, const char *text)
{
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);

    if (v != NULL)
        put_json(out, v, 0);
    else
        base_buf_str(out, text);
}

static json_t *tool_json(const Dsmil__Tool *t)
{
    const char *text = t->parameters[0] != '\0' ? t->parameters : "{\"type\":\"object\",\"properties\":{}}";
    json_t *parameters = json_loads(text, 0, NULL), *function = json_pack("{s:s}", "name", t->name);

    if (t->description[0] != '\0')
        (void)json_object_set_new(function, "description", json_string(t->description));
    if (parameters != NULL) /* the grammar refuses it otherwise */
        (void)json_object_set_new(function, "parameters", parameters);
    return json_pack("{s:s, s:o}", "type", "function", "function", function);
}

static void put_call(struct base_buf *out, const Dsmil__ToolCall *call, const char *key)
{
    base_buf_str(out, "{\"name\": ");
    base_json_str(out, call->name, strlen(call->name));
    base_buf_fmt(out, ", \"%s\": ", key);
    put_json_text(out, call->arguments[0] != '\0' ? call->arguments : "{}");
}

/* ---- functions -------------------------------------------------------------------------------------------------- */

static void describe_text(const Dsmil__L7ChatRequest *r, struct base_buf *out)
{
    base_buf_str(out, "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
                      "You are provided with function signatures within <tools></tools> XML tags:\n<tools>");
    for (size_t i = 0; i < r->n_tools; i++) {
        base_buf_u8(out, '\n');
        put_json(out, tool_json(r->tools[i]), 0);
    }
    base_buf_str(out, "\n</tools>\n\nFor each function call, return a json object with function name and arguments "
                      "within <tool_call></tool_call> XML tags:\n<tool_call>"
                      "\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>");
}

static void describe_llama3(const Dsmil__L7ChatRequest *r, struct base_buf *out)
{
    base_buf_str(out, "Given the following functions, please respond with a JSON for a function call "
                      "with its proper arguments that best answers the given prompt.\n\n"
                      "Respond in the format {\"name\": function name, \"parameters\": dictionary of argument name and "
                      "its value}.Do not use variables.\n\n");
    for (size_t i = 0; i < r->n_tools; i++) {
        put_json(out, tool_json(r->tools[i]), JSON_INDENT(4));
        base_buf_str(out, "\n\n");
    }
}

static void describe_mistral(const Dsmil__L7ChatRequest *r, struct base_buf *out)
{
    base_buf_u8(out, '[');
    for (size_t i = 0; i < r->n_tools; i++) {
        base_buf_str(out, i > 0 ? ", " : "");
        put_json(out, tool_json(r->tools[i]), 0);
    }
    base_buf_u8(out, ']');
}

/* ---- calls and results ------------------------------------------------------------------------------------------ */

/* Mistral's templates take ids of nine letters and digits, and clients send what they like. */
static void put_mistral_id(struct base_buf *out, const char *id)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    if (strlen(id) == MISTRAL_ID_BYTES && strspn(id, digits) == MISTRAL_ID_BYTES) {
        base_buf_str(out, id);
        return;
    }
    for (const char *at = id; *at != '\0'; at++)
        h = (h ^ (uint8_t)*at) * UINT64_C(0x100000001b3);
    for (size_t i = 0; i < MISTRAL_ID_BYTES; i++, h /= sizeof digits - 1)
        base_buf_u8(out, (uint8_t)digits[h % (sizeof digits - 1)]);
}

static void write_calls(const Dsmil__ChatMessage *m, enum llm_tools form, struct base_buf *out)
{
    const bool mistral = form == LLM_TOOLS_MISTRAL || form == LLM_TOOLS_MISTRAL_SPACED;

    base_buf_str(out, mistral ? "[" : "");
    for (size_t c = 0; c < m->n_tool_calls; c++) {
        if (mistral || form == LLM_TOOLS_LLAMA3)
            base_buf_str(out, c == 0 ? "" : mistral ? ", " : "; ");
        else
            base_buf_str(out, out->len > 0 ? "\n<tool_call>\n" : "<tool_call>\n");
        put_call(out, m->tool_calls[c], form == LLM_TOOLS_LLAMA3 ? "parameters" : "arguments");
        if (mistral) {
            base_buf_str(out, ", \"id\": \"");
            put_mistral_id(out, m->tool_calls[c]->id);
            base_buf_u8(out, '"');
        }
        base_buf_str(out, form == LLM_TOOLS_TEXT ? "}\n</tool_call>" : "}");
    }
    base_buf_str(out, mistral ? "]" : "");
}

static void write_result(const Dsmil__ChatMessage *m, enum llm_tools form, struct base_buf *out)
{
    if (form == LLM_TOOLS_TEXT) {
        base_buf_str(out, out->len > 0 ? "\n<tool_response>\n" : "<tool_response>\n");
        base_buf_str(out, m->content);
        base_buf_str(out, "\n</tool_response>");
    } else if (form == LLM_TOOLS_LLAMA3) {
        put_json(out, json_string(m->content), 0);
    } else {
        json_t *v = json_loads(m->content, JSON_DECODE_ANY, NULL);
        base_buf_str(out, "{\"content\": ");
        put_json(out, v != NULL ? v : json_string(m->content), 0);
        base_buf_str(out, ", \"call_id\": \"");
        put_mistral_id(out, m->tool_call_id);
        base_buf_str(out, "\"}");
    }
}

/* ---- messages --------------------------------------------------------------------------------------------------- */

/* What the messages of one request are made with. */
struct render {
    const Dsmil__L7ChatRequest *r;
    enum llm_tools form;
    bool told; /* the functions stand in a message */
    struct worker_prompt p;
    struct base_buf text;
};

/* Add a message of the text that was made. */
static dbe_err add_made(struct render *w, const char *role)
{
    char *copy = w->text.err == DBE_OK ? base_strdup(base_buf_cstr(&w->text)) : NULL;

    if (copy == NULL)
        return w->text.err != DBE_OK ? w->text.err : DBE_E_NOMEM;
    w->p.made[w->p.made_count++] = copy;
    w->p.messages[w->p.count++] = (struct llm_message){role, copy, strlen(copy)};
    base_buf_clear(&w->text);
    return DBE_OK;
}

static void add_as_it_is(struct render *w, const Dsmil__ChatMessage *m)
{
    w->p.messages[w->p.count++] = (struct llm_message){m->role, m->content, strlen(m->content)};
}

/* Results that follow each other go to the model as one message where they have no role of their own. */
static dbe_err add_results(struct render *w, size_t *i)
{
    const Dsmil__L7ChatRequest *r = w->r;

    write_result(r->messages[*i], w->form, &w->text);
    if (w->form != LLM_TOOLS_TEXT)
        return add_made(w, "tool");
    for (; *i + 1 < r->n_messages && strcmp(r->messages[*i + 1]->role, "tool") == 0; (*i)++)
        write_result(r->messages[*i + 1], w->form, &w->text);
    return add_made(w, "user");
}

static dbe_err add_calls(struct render *w, const Dsmil__ChatMessage *m)
{
    const bool apart = w->form == LLM_TOOLS_MISTRAL || w->form == LLM_TOOLS_MISTRAL_SPACED;

    if (apart && m->content[0] != '\0')
        add_as_it_is(w, m);
    else if (!apart)
        base_buf_str(&w->text, m->content);
    if (w->form == LLM_TOOLS_LLAMA3 && m->content[0] != '\0')
        base_buf_u8(&w->text, '\n');
    write_calls(m, w->form, &w->text);
    return add_made(w, apart ? "calls" : m->role);
}

static dbe_err add_message(struct render *w, size_t *i)
{
    const Dsmil__ChatMessage *m = w->r->messages[*i];

    if (strcmp(m->role, "tool") == 0)
        return add_results(w, i);
    if (m->n_tool_calls > 0)
        return add_calls(w, m);
    if (!w->told && w->form == LLM_TOOLS_TEXT && *i == 0 && strcmp(m->role, "system") == 0) {
        base_buf_str(&w->text, m->content);
        base_buf_str(&w->text, "\n\n");
        describe_text(w->r, &w->text);
        w->told = true;
        return add_made(w, m->role);
    }
    if (!w->told && w->form == LLM_TOOLS_LLAMA3 && strcmp(m->role, "user") == 0) {
        describe_llama3(w->r, &w->text);
        base_buf_str(&w->text, m->content);
        w->told = true;
        return add_made(w, m->role);
    }
    add_as_it_is(w, m);
    return DBE_OK;
}

/* What tells of the functions before all messages. */
static dbe_err announce(struct render *w, const struct worker_tool_style *style)
{
    if (w->form == LLM_TOOLS_LLAMA3)
        return add_made(w, "tools");
    if (w->form != LLM_TOOLS_TEXT) {
        describe_mistral(w->r, &w->text);
        w->told = true;
        return add_made(w, "tools");
    }
    if (strcmp(w->r->messages[0]->role, "system") == 0)
        return DBE_OK;
    if (style->system != NULL) {
        base_buf_bytes(&w->text, style->system, style->system_len);
        base_buf_str(&w->text, "\n\n");
    }
    describe_text(w->r, &w->text);
    w->told = true;
    return add_made(w, "system");
}

static bool good_name(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len <= WORKER_TOOL_NAME_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == len;
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

dbe_err worker_tools_render(const Dsmil__L7ChatRequest *r, const struct worker_tool_style *style,
                            struct worker_prompt *ret, const char **ret_reason)
{
    struct render w = {.r = r, .form = worker_tools_form(r, style->form), .told = !worker_tools_offered(r)};
    dbe_err err = DBE_OK;

    DBE_TRY(check_messages(r, ret_reason));
    DBE_TRY(check_tools(r, ret_reason));
    *ret_reason = NULL;
    w.p.messages = base_alloc(2 * r->n_messages + 1, sizeof *w.p.messages);
    w.p.made = base_alloc(2 * r->n_messages + 1, sizeof *w.p.made);
    if (w.p.messages == NULL || w.p.made == NULL) {
        worker_prompt_free(&w.p);
        return DBE_E_NOMEM;
    }
    base_buf_init(&w.text, TEXT_MAX_BYTES);
    if (!w.told)
        err = announce(&w, style);
    for (size_t i = 0; i < r->n_messages && err == DBE_OK; i++)
        err = add_message(&w, &i);
    base_buf_free(&w.text);
    if (err != DBE_OK)
        worker_prompt_free(&w.p);
    else
        *ret = w.p;
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
