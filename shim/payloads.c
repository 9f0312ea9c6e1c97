/* SPDX-License-Identifier: Apache-2.0
 *
 * payloads.c - see payloads.h.
 */
#include "shim/payloads.h"

#include <string.h>

#include "dbe/payload.h"

#define WRITABLE(text) ((char *)(uintptr_t)(text)) /* protobuf-c's structs are not const, its packer is */

/* ---- requests --------------------------------------------------------------------------------------------------- */

struct shim_packing {
    Dsmil__L7ChatRequest request;
    Dsmil__L7EmbedRequest embed;
    Dsmil__ChatMessage *messages, **message_list;
    Dsmil__ToolCall *calls, **call_list;
    Dsmil__Tool tools[SHIM_TOOLS_MAX], *tool_list[SHIM_TOOLS_MAX];
    Dsmil__LogitBias *biases, **bias_list;
    Dsmil__TokenList *tokens, **token_list;
};

static char *or_empty(char *text)
{
    return text != NULL ? text : WRITABLE("");
}

static size_t calls_of(const struct shim_req *req)
{
    size_t count = 0;

    for (size_t i = 0; i < req->message_count; i++)
        count += req->messages[i].call_count;
    return count;
}

static void pack_messages(const struct shim_req *req, struct shim_packing *p)
{
    size_t call = 0;

    for (size_t i = 0; i < req->message_count; i++) {
        const struct shim_message *from = &req->messages[i];
        Dsmil__ChatMessage *to = p->message_list[i] = &p->messages[i];
        dsmil__chat_message__init(to);
        to->role = WRITABLE(shim_role_name(from->role));
        to->content = from->content;
        to->tool_call_id = or_empty(from->call_id);
        to->tool_calls = &p->call_list[call];
        to->n_tool_calls = from->call_count;
        for (size_t c = 0; c < from->call_count; c++, call++) {
            p->call_list[call] = &p->calls[call];
            dsmil__tool_call__init(&p->calls[call]);
            p->calls[call].id = from->calls[c].id;
            p->calls[call].name = from->calls[c].name;
            p->calls[call].arguments = from->calls[c].arguments;
        }
    }
    p->request.messages = p->message_list;
    p->request.n_messages = req->message_count;
}

static void pack_tools(const struct shim_req *req, struct shim_packing *p)
{
    for (size_t i = 0; i < req->tool_count; i++) {
        p->tool_list[i] = &p->tools[i];
        dsmil__tool__init(&p->tools[i]);
        p->tools[i].name = req->tools[i].name;
        p->tools[i].description = or_empty(req->tools[i].description);
        p->tools[i].parameters = or_empty(req->tools[i].parameters);
    }
    p->request.tools = p->tool_list;
    p->request.n_tools = req->tool_count;
    p->request.single_call = req->single_call;
    p->request.tool_choice = WRITABLE(req->tool_choice);
    p->request.tool_name = WRITABLE(req->tool_name);
}

static void pack_sampling(const struct shim_req *req, struct shim_packing *p)
{
    Dsmil__L7ChatRequest *r = &p->request;

    if (req->has_temperature) {
        r->has_temperature_case = DSMIL__L7_CHAT_REQUEST__HAS_TEMPERATURE_TEMPERATURE;
        r->temperature = (float)req->temperature;
    }
    if (req->has_top_p) { /* 0 means the likeliest token alone, and the mesh's range is open at 0 */
        r->has_top_p_case = DSMIL__L7_CHAT_REQUEST__HAS_TOP_P_TOP_P;
        r->top_p = BASE_MAX((float)req->top_p, 1e-6f);
    }
    if (req->has_max_tokens) {
        r->has_max_tokens_case = DSMIL__L7_CHAT_REQUEST__HAS_MAX_TOKENS_MAX_TOKENS;
        r->max_tokens = req->max_tokens;
    }
    if (req->has_seed) {
        r->has_seed_case = DSMIL__L7_CHAT_REQUEST__HAS_SEED_SEED;
        r->seed = req->seed;
    }
    r->frequency_penalty = (float)req->frequency_penalty;
    r->presence_penalty = (float)req->presence_penalty;
    for (size_t i = 0; i < req->bias_count; i++) {
        p->bias_list[i] = &p->biases[i];
        dsmil__logit_bias__init(&p->biases[i]);
        p->biases[i].token = req->biases[i].token;
        p->biases[i].bias = req->biases[i].bias;
    }
    r->logit_bias = p->bias_list;
    r->n_logit_bias = req->bias_count;
    r->logprobs = req->logprobs ? req->top_logprobs + 1 : 0;
}

static Dsmil__TokenList **pack_tokens(const struct shim_req *req, struct shim_packing *p)
{
    for (size_t i = 0; i < req->token_count; i++) {
        p->token_list[i] = &p->tokens[i];
        dsmil__token_list__init(&p->tokens[i]);
        p->tokens[i].ids = req->tokens[i].ids;
        p->tokens[i].n_ids = req->tokens[i].count;
    }
    return p->token_list;
}

static void pack_chat(const struct shim_req *req, struct shim_packing *p)
{
    Dsmil__L7ChatRequest *r = &p->request;

    dsmil__l7_chat_request__init(r);
    pack_messages(req, p);
    pack_tools(req, p);
    pack_sampling(req, p);
    r->model = WRITABLE(req->model);
    r->n_stop = req->stop_count;
    r->stop = (char **)(uintptr_t)req->stop;
    r->stream = req->stream;
    r->n = req->n > 1 ? req->n : 0;
    r->format = WRITABLE(req->format);
    r->schema = or_empty(req->schema);
    r->raw = req->kind == SHIM_COMPLETION;
    r->echo = req->echo;
    r->prompts = pack_tokens(req, p);
    r->n_prompts = req->token_count;
    r->cache_key = WRITABLE(req->cache_key);
    r->receipt = req->receipt;
}

dbe_err shim_pack(const struct shim_req *req, struct shim_packing **ret, const ProtobufCMessage **ret_payload)
{
    struct shim_packing *p = base_alloc(1, sizeof *p);
    const size_t calls = calls_of(req);

    if (p == NULL)
        return DBE_E_NOMEM;
    p->tokens = base_alloc(req->token_count + 1, sizeof *p->tokens);
    p->token_list = base_alloc(req->token_count + 1, sizeof *p->token_list);
    if (p->tokens == NULL || p->token_list == NULL) {
        shim_packing_free(p);
        return DBE_E_NOMEM;
    }
    if (req->kind == SHIM_EMBEDDING) {
        dsmil__l7_embed_request__init(&p->embed);
        p->embed.tokens = pack_tokens(req, p);
        p->embed.n_tokens = req->token_count;
        p->embed.model = WRITABLE(req->model);
        p->embed.input = req->inputs;
        p->embed.n_input = req->input_count;
        *ret_payload = &p->embed.base;
        *ret = p;
        return DBE_OK;
    }
    p->messages = base_alloc(req->message_count + 1, sizeof *p->messages);
    p->message_list = base_alloc(req->message_count + 1, sizeof *p->message_list);
    p->calls = base_alloc(calls + 1, sizeof *p->calls);
    p->call_list = base_alloc(calls + 1, sizeof *p->call_list);
    p->biases = base_alloc(req->bias_count + 1, sizeof *p->biases);
    p->bias_list = base_alloc(req->bias_count + 1, sizeof *p->bias_list);
    if (p->messages == NULL || p->message_list == NULL || p->calls == NULL || p->call_list == NULL ||
        p->biases == NULL || p->bias_list == NULL) {
        shim_packing_free(p);
        return DBE_E_NOMEM;
    }
    pack_chat(req, p);
    *ret_payload = &p->request.base;
    *ret = p;
    return DBE_OK;
}

void shim_packing_free(struct shim_packing *p)
{
    if (p == NULL)
        return;
    base_free(p->messages);
    base_free(p->message_list);
    base_free(p->calls);
    base_free(p->call_list);
    base_free(p->biases);
    base_free(p->bias_list);
    base_free(p->tokens);
    base_free(p->token_list);
    base_free(p);
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

/* No more than there is, and no part of a character (the text is UTF-8). */
static bool can_be_behind(const char *content, size_t behind)
{
    const size_t len = strlen(content);

    return behind <= len && ((uint8_t)content[len - behind] & 0xC0) != 0x80;
}

static dbe_err take_choices(struct shim_taken *t)
{
    const Dsmil__L7ChatResponse *r = t->response;
    size_t probs = 0, calls = 0;

    for (size_t i = 0; i < r->n_choices; i++) {
        if (r->choices[i]->message == NULL || r->choices[i]->index >= SHIM_CHOICES_MAX ||
            !can_be_behind(r->choices[i]->message->content, r->choices[i]->behind_calls))
            return DBE_E_MALFORMED;
        calls += r->choices[i]->message->n_tool_calls;
        for (size_t k = 0; k < r->choices[i]->n_logprobs; k++)
            probs += 1 + r->choices[i]->logprobs[k]->n_top;
    }
    t->probs = base_alloc(probs + 1, sizeof *t->probs);
    t->calls = base_alloc(calls + 1, sizeof *t->calls);
    return t->probs != NULL && t->calls != NULL ? DBE_OK : DBE_E_NOMEM;
}

static struct shim_prob prob_of(ProtobufCBinaryData token, float logprob)
{
    return (struct shim_prob){
        .token = token.data != NULL ? (const char *)token.data : "", .len = token.len, .logprob = logprob};
}

/* Tokens first, then the alternatives of all of them. Returns how many places were used. */
static size_t fill_probs(const Dsmil__Choice *from, struct shim_prob *to)
{
    size_t used = from->n_logprobs;

    for (size_t i = 0; i < from->n_logprobs; i++) {
        const Dsmil__TokenLogprob *p = from->logprobs[i];
        to[i] = prob_of(p->token, p->logprob);
        to[i].first = p->first != 0;
        to[i].top = &to[used];
        to[i].top_count = p->n_top;
        for (size_t k = 0; k < p->n_top; k++)
            to[used++] = prob_of(p->top[k]->token, p->top[k]->logprob);
    }
    return used;
}

static void fill_choices(struct shim_taken *t)
{
    struct shim_prob *probs = t->probs;
    struct shim_call *calls = t->calls;

    for (size_t i = 0; i < t->response->n_choices; i++) {
        const Dsmil__Choice *from = t->response->choices[i];
        struct shim_choice *to = &t->choices[i];
        to->index = from->index;
        to->content = from->message->content;
        to->content_len = strlen(to->content);
        to->behind_len = from->behind_calls;
        to->finish_reason = from->finish_reason[0] != '\0' ? from->finish_reason : NULL;
        to->probs = probs;
        to->prob_count = from->n_logprobs;
        probs += fill_probs(from, probs);
        to->calls = calls;
        to->call_count = from->message->n_tool_calls;
        for (size_t k = 0; k < to->call_count; k++) {
            Dsmil__ToolCall *call = from->message->tool_calls[k];
            *calls++ = (struct shim_call){call->id, call->name, call->arguments};
        }
    }
}

static dbe_err take_chat(const struct dbe_msg *msg, struct shim_taken *t)
{
    Dsmil__L7ChatResponse *r = dsmil__l7_chat_response__unpack(NULL, msg->payload_len, msg->payload);

    t->response = r;
    if (r == NULL || r->n_choices == 0 || r->n_choices > SHIM_CHOICES_MAX)
        return DBE_E_MALFORMED;
    DBE_TRY(take_choices(t));
    fill_choices(t);
    t->answer = (struct shim_answer){
        .model = r->model, .fingerprint = r->fingerprint, .choices = t->choices, .choice_count = r->n_choices};
    if (r->usage != NULL) {
        t->answer.prompt_tokens = r->usage->prompt_tokens;
        t->answer.cached_tokens = r->usage->cached_tokens;
        t->answer.completion_tokens = r->usage->completion_tokens;
    }
    return DBE_OK;
}

static dbe_err take_vectors(const struct dbe_msg *msg, struct shim_taken *t)
{
    Dsmil__L7EmbedResponse *r = dsmil__l7_embed_response__unpack(NULL, msg->payload_len, msg->payload);

    t->embedded = r;
    if (r == NULL || r->n_data == 0 || r->n_data > SHIM_INPUTS_MAX)
        return DBE_E_MALFORMED;
    t->values = base_alloc(r->n_data, sizeof *t->values);
    t->bytes = base_alloc(r->n_data, sizeof *t->bytes);
    if (t->values == NULL || t->bytes == NULL)
        return DBE_E_NOMEM;
    for (size_t i = 0; i < r->n_data; i++) {
        t->values[i] = r->data[i]->values.data;
        t->bytes[i] = r->data[i]->values.len;
        if (t->bytes[i] == 0 || t->bytes[i] % sizeof(float) != 0)
            return DBE_E_MALFORMED;
    }
    t->vectors = (struct shim_vectors){.model = r->model,
                                       .values = t->values,
                                       .bytes = t->bytes,
                                       .count = r->n_data,
                                       .prompt_tokens = r->usage != NULL ? r->usage->prompt_tokens : 0};
    return DBE_OK;
}

dbe_err shim_take(const struct dbe_msg *msg, struct shim_taken **ret)
{
    if (dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) != DBE_OK)
        return DBE_E_MALFORMED;
    struct shim_taken *t = base_alloc(1, sizeof *t);
    if (t == NULL)
        return DBE_E_NOMEM;
    dbe_err err = msg->type == DBE_MSG_L7_EMBED_RESP ? take_vectors(msg, t) : take_chat(msg, t);
    if (err != DBE_OK)
        shim_taken_free(t);
    else
        *ret = t;
    return err;
}

void shim_taken_free(struct shim_taken *t)
{
    if (t == NULL)
        return;
    if (t->response != NULL)
        dsmil__l7_chat_response__free_unpacked(t->response, NULL);
    if (t->embedded != NULL)
        dsmil__l7_embed_response__free_unpacked(t->embedded, NULL);
    base_free(t->probs);
    base_free(t->calls);
    base_free(t->values);
    base_free(t->bytes);
    base_free(t);
}
