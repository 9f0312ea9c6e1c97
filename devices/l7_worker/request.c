/* SPDX-License-Identifier: Apache-2.0
 *
 * request.c - L7ChatRequest and L7EmbedRequest in, what the engine takes out. Every field is checked here, whatever
 * the gateway checked before.
 */
#include "devices/l7_worker/request.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "crypto/crypto.h"
#include "dbe/payload.h"
#include "devices/l7_worker/tools.h"

/* What the engine's chats point into. Several answers to one request share it. */
struct owned {
    atomic_uint holders; /* freed in either thread */
    Dsmil__L7ChatRequest *request;
    Dsmil__L7EmbedRequest *embed;
    struct worker_prompt prompt;
    struct llm_grammar *grammar;
    struct engine_call call;
    struct llm_logit_bias *biases;
    struct llm_tokens *tokens; /* views into the request */
    const char *stops[WORKER_STOP_MAX];
};

static void wipe_text(char *text)
{
    if (text != protobuf_c_empty_string)
        base_wipe(text, strlen(text));
}

static void free_requests(struct owned *o)
{
    if (o->request != NULL) {
        for (size_t i = 0; i < o->request->n_messages; i++)
            wipe_text(o->request->messages[i]->content);
        dsmil__l7_chat_request__free_unpacked(o->request, NULL);
    }
    if (o->embed != NULL) {
        for (size_t i = 0; i < o->embed->n_input; i++)
            wipe_text(o->embed->input[i]);
        dsmil__l7_embed_request__free_unpacked(o->embed, NULL);
    }
}

static void owned_free(void *ptr)
{
    struct owned *o = ptr;

    if (atomic_fetch_sub(&o->holders, 1) != 1)
        return;
    worker_prompt_free(&o->prompt);
    llm_grammar_free(o->grammar);
    llm_grammar_free((struct llm_grammar *)(uintptr_t)o->call.grammar);
    base_free((void *)(uintptr_t)o->call.names);
    base_free(o->biases);
    base_free(o->tokens);
    free_requests(o);
    base_free(o);
}

void worker_request_hold(const struct engine_chat *chat)
{
    struct owned *o = chat->owned;

    (void)atomic_fetch_add(&o->holders, 1);
}

/* ---- request ---------------------------------------------------------------------------------------------------- */

static dbe_err read_stops(const Dsmil__L7ChatRequest *r, const char **ret, const char **reason)
{
    *reason = "stop: at most 4 sequences of 1 to 256 bytes";
    if (r->n_stop > WORKER_STOP_MAX)
        return DBE_E_RANGE;
    for (size_t i = 0; i < r->n_stop; i++) {
        size_t len = strlen(r->stop[i]);
        if (len == 0 || len > LLM_STOP_BYTES_MAX)
            return DBE_E_RANGE;
        if (!base_utf8_valid(r->stop[i], len))
            return DBE_E_UTF8;
        ret[i] = r->stop[i];
    }
    return DBE_OK;
}

static dbe_err read_sampling(const Dsmil__L7ChatRequest *r, const struct worker_defaults *defaults,
                             struct llm_session_params *ret, const char **reason)
{
    ret->temperature = r->has_temperature_case != 0 ? r->temperature : defaults->temperature;
    ret->top_p = r->has_top_p_case != 0 ? r->top_p : defaults->top_p;
    *reason = "temperature: 0 to 2";
    if (!isfinite(ret->temperature) || ret->temperature < 0.0f || ret->temperature > 2.0f)
        return DBE_E_RANGE;
    *reason = "top_p: above 0, at most 1";
    if (!isfinite(ret->top_p) || ret->top_p <= 0.0f || ret->top_p > 1.0f)
        return DBE_E_RANGE;
    *reason = "echo: only where a text is continued";
    if (r->echo && !r->raw)
        return DBE_E_RANGE;
    *reason = "max_tokens: at least 1, or 0 with echo";
    ret->prompt_only = r->has_max_tokens_case != 0 && r->max_tokens == 0;
    if (ret->prompt_only && !r->echo)
        return DBE_E_RANGE;
    ret->max_tokens = r->has_max_tokens_case != 0 ? r->max_tokens : 0;
    ret->frequency_penalty = r->frequency_penalty;
    ret->presence_penalty = r->presence_penalty;
    *reason = "logprobs: at most 20 alternatives";
    if (r->logprobs > LLM_LOGPROBS_MAX)
        return DBE_E_RANGE;
    ret->logprobs = r->logprobs;
    *reason = "no random seed";
    if (r->has_seed_case != 0)
        ret->seed = r->seed;
    else
        DBE_TRY(base_random(&ret->seed, sizeof ret->seed));
    return DBE_OK;
}

static dbe_err read_biases(struct owned *o, struct llm_session_params *ret, const char **reason)
{
    const Dsmil__L7ChatRequest *r = o->request;

    *reason = "logit_bias: at most 1024 tokens";
    if (r->n_logit_bias > LLM_BIASES_MAX)
        return DBE_E_RANGE;
    if (r->n_logit_bias == 0)
        return DBE_OK;
    *reason = NULL;
    o->biases = base_alloc(r->n_logit_bias, sizeof *o->biases);
    if (o->biases == NULL)
        return DBE_E_NOMEM;
    *reason = "logit_bias: the model has no such token";
    for (size_t i = 0; i < r->n_logit_bias; i++) {
        if (r->logit_bias[i]->token > INT32_MAX)
            return DBE_E_RANGE;
        o->biases[i] = (struct llm_logit_bias){(int32_t)r->logit_bias[i]->token, r->logit_bias[i]->bias};
    }
    ret->biases = o->biases;
    ret->bias_count = r->n_logit_bias;
    return DBE_OK;
}

/* What the answer has to look like, when it is no call. */
static dbe_err make_format(struct owned *o, struct dbe_diag *diag)
{
    const Dsmil__L7ChatRequest *r = o->request;
    const struct llm_grammar_frame or_call = {"", "", "", 1, o->call.mark};
    const bool schema = strcmp(r->format, "json_schema") == 0;
    struct dbe_diag why = {0};

    if (r->format[0] == '\0')
        return DBE_OK;
    if (!schema && strcmp(r->format, "json_object") != 0)
        return dbe_fail(diag, DBE_E_RANGE, NULL, 0, "response_format: text, json_object or json_schema");
    dbe_err err = llm_grammar_framed(schema ? r->schema : NULL, strlen(r->schema), &or_call, &o->grammar, &why);
    if (err != DBE_E_ARGUMENT && err != DBE_E_TOO_LARGE)
        return err;
    return dbe_fail(diag, DBE_E_RANGE, NULL, 0, "response_format: %.170s", why.text);
}

/* Which tools it may call instead. */
static dbe_err make_calls(struct owned *o, enum llm_tools form, struct dbe_diag *diag)
{
    const Dsmil__L7ChatRequest *r = o->request;

    return worker_tools_offered(r) ? worker_tools_call(r, worker_tools_form(r, form), &o->call, diag) : DBE_OK;
}

dbe_err worker_request_form(struct worker_request *request, struct dbe_diag *diag)
{
    struct owned *o = request->chat.owned;

    DBE_TRY(make_calls(o, request->tools, diag));
    DBE_TRY(make_format(o, diag));
    request->chat.call = o->call;
    request->chat.params.grammar = o->grammar;
    request->formed = true;
    return DBE_OK;
}

/* Lists of tokens in place of texts; they are the client's word, and ids of any vocabulary look alike. */
static dbe_err read_tokens(struct owned *o, Dsmil__TokenList *const *lists, size_t count, uint32_t vocab,
                           const char *field, const char **reason)
{
    static char words[128];

    *reason = NULL;
    o->tokens = base_alloc(count, sizeof *o->tokens);
    if (o->tokens == NULL)
        return DBE_E_NOMEM;
    for (size_t i = 0; i < count; i++) {
        *reason = words;
        (void)snprintf(words, sizeof words, "%s: a list of no tokens", field);
        if (lists[i]->n_ids == 0)
            return DBE_E_RANGE;
        for (size_t k = 0; k < lists[i]->n_ids; k++) {
            if (lists[i]->ids[k] < vocab)
                continue;
            (void)snprintf(words, sizeof words, "%s: token %u is not in the model's vocabulary of %u", field,
                           lists[i]->ids[k], vocab);
            return DBE_E_RANGE;
        }
        o->tokens[i] = (struct llm_tokens){.ids = (int32_t *)lists[i]->ids, .count = lists[i]->n_ids};
    }
    return DBE_OK;
}

/* How many prompts there are, and how many answers to each. */
static dbe_err read_counts(const Dsmil__L7ChatRequest *r, struct worker_request *ret, const char **reason)
{
    const size_t prompts = r->raw ? r->n_messages + r->n_prompts : 1;

    *reason = r->raw ? "prompt: 1 to 32, all as text or all as tokens" : "messages: 1 to 512";
    if (r->raw ? prompts == 0 || prompts > WORKER_ANSWERS_MAX || (r->n_messages > 0 && r->n_prompts > 0)
               : r->n_messages == 0 || r->n_messages > WORKER_MESSAGES_MAX || r->n_prompts > 0)
        return DBE_E_RANGE;
    *reason = "n: at most 8, and at most 32 answers to all prompts together";
    ret->n = BASE_MAX(r->n, 1U);
    if (ret->n > WORKER_N_MAX || ret->n * prompts > WORKER_ANSWERS_MAX)
        return DBE_E_RANGE;
    ret->count = ret->n * (uint32_t)prompts;
    *reason = "tools: not where a text is continued";
    if (r->raw && worker_tools_offered(r))
        return DBE_E_RANGE;
    *reason = "receipt: for one answer alone";
    return r->receipt && ret->count > 1 ? DBE_E_RANGE : DBE_OK;
}

/* Probabilities of long prompts, many at once, find no room in one answer: better said before they are computed. */
static dbe_err check_echo(const Dsmil__L7ChatRequest *r, uint32_t n, const char **reason)
{
    uint64_t count = 0;

    for (size_t i = 0; r->echo && !r->stream && r->logprobs > 0 && i < r->n_prompts; i++)
        count += (uint64_t)r->prompts[i]->n_ids * n * (1 + r->logprobs);
    *reason = "logprobs: more than one answer has room for; ask about fewer or shorter prompts at once, or stream";
    return count <= DBE_PAYLOAD_ELEMENTS_MAX ? DBE_OK : DBE_E_TOO_LARGE;
}

static dbe_err fill(struct owned *o, const struct worker_defaults *defaults, struct worker_request *ret,
                    const char **reason)
{
    const Dsmil__L7ChatRequest *r = o->request;
    struct engine_chat *chat = &ret->chat;

    *reason = "a sealed prompt that does not say so";
    if (r->sealed.len > 0)
        return DBE_E_AUTH;
    DBE_TRY(read_counts(r, ret, reason));
    ret->receipt = r->receipt != 0;
    *reason = "prompt_cache_key: at most 128 bytes";
    if (strlen(r->cache_key) > WORKER_CACHE_KEY_MAX)
        return DBE_E_RANGE;
    if (r->n_prompts > 0)
        DBE_TRY(read_tokens(o, r->prompts, r->n_prompts, defaults->vocab, "prompt", reason));
    DBE_TRY(check_echo(r, ret->n, reason));
    DBE_TRY(worker_tools_render(r, &defaults->tools, &o->prompt, reason));
    DBE_TRY(read_stops(r, o->stops, reason));
    DBE_TRY(read_sampling(r, defaults, &chat->params, reason));
    DBE_TRY(read_biases(o, &chat->params, reason));
    ret->tools = defaults->tools.form;
    ret->formed = r->format[0] == '\0' && !worker_tools_offered(r);
    chat->messages = o->prompt.messages;
    chat->count = o->prompt.count;
    chat->params.stops = o->stops;
    chat->params.stop_count = r->n_stop;
    chat->stream = r->stream != 0;
    chat->raw = r->raw != 0;
    chat->echo = r->echo != 0;
    chat->tokens = o->tokens;
    ret->cache_key = r->cache_key;
    return DBE_OK;
}

/* Before memory is asked for; protobuf-c asks for much. */
static dbe_err check_payload(uint8_t type, const void *payload, size_t len, const char *what, const char **ret_reason)
{
    static struct dbe_diag diag;

    *ret_reason = "the request is too large";
    if (len > WORKER_REQUEST_MAX_BYTES)
        return DBE_E_TOO_LARGE;
    *ret_reason = what;
    dbe_err sound = dbe_payload_check(type, payload, len, &diag);
    if (sound == DBE_E_RANGE)
        *ret_reason = diag.text;
    return sound;
}

static struct owned *owned_new(const char **ret_reason)
{
    struct owned *o = base_alloc(1, sizeof *o);

    if (o == NULL)
        *ret_reason = NULL;
    else
        atomic_init(&o->holders, 1);
    return o;
}

dbe_err worker_request_read(const void *payload, size_t len, const struct worker_defaults *defaults,
                            struct worker_request *ret, const char **ret_reason)
{
    struct worker_request request = {.chat.free_owned = owned_free};
    const char *reason = NULL;

    DBE_TRY(check_payload(DBE_MSG_L7_CHAT_REQ, payload, len, "the payload is no L7ChatRequest", ret_reason));
    struct owned *o = owned_new(ret_reason);
    if (o == NULL)
        return DBE_E_NOMEM;
    o->request = dsmil__l7_chat_request__unpack(NULL, len, payload);
    dbe_err err = o->request == NULL ? DBE_E_MALFORMED : fill(o, defaults, &request, &reason);
    if (err != DBE_OK) {
        owned_free(o);
        *ret_reason = reason;
        return err;
    }
    request.chat.owned = o;
    *ret = request;
    return DBE_OK;
}

static dbe_err fill_embed(struct owned *o, uint32_t vocab, const char **reason)
{
    const Dsmil__L7EmbedRequest *r = o->embed;

    *reason = "sealed texts that do not say so";
    if (r->sealed.len > 0)
        return DBE_E_AUTH;
    *reason = "input: 1 to 2048, all as text or all as tokens";
    if ((r->n_input == 0) == (r->n_tokens == 0))
        return DBE_E_RANGE;
    if (r->n_tokens > 0)
        return read_tokens(o, r->tokens, r->n_tokens, vocab, "input", reason);
    for (size_t i = 0; i < r->n_input; i++) {
        *reason = "input: a text is empty or not UTF-8";
        if (r->input[i][0] == '\0')
            return DBE_E_RANGE;
        if (!base_utf8_valid(r->input[i], strlen(r->input[i])))
            return DBE_E_UTF8;
    }
    return DBE_OK;
}

dbe_err worker_request_read_embed(const void *payload, size_t len, const struct worker_defaults *defaults,
                                  struct engine_chat *ret, const char **ret_reason)
{
    DBE_TRY(check_payload(DBE_MSG_L7_EMBED_REQ, payload, len, "the payload is no L7EmbedRequest", ret_reason));
    struct owned *o = owned_new(ret_reason);
    if (o == NULL)
        return DBE_E_NOMEM;
    o->embed = dsmil__l7_embed_request__unpack(NULL, len, payload);
    dbe_err err = o->embed == NULL ? DBE_E_MALFORMED : fill_embed(o, defaults->vocab, ret_reason);
    if (err != DBE_OK) {
        owned_free(o);
        return err;
    }
    *ret = (struct engine_chat){.inputs = o->tokens == NULL ? (const char *const *)o->embed->input : NULL,
                                .input_count = o->tokens == NULL ? o->embed->n_input : o->embed->n_tokens,
                                .tokens = o->tokens,
                                .owned = o,
                                .free_owned = owned_free};
    return DBE_OK;
}

void worker_request_prompt(struct engine_chat *chat, uint32_t index, uint32_t n)
{
    chat->params.seed += index % n;
    if (!chat->raw)
        return;
    if (chat->tokens != NULL)
        chat->tokens += index / n;
    else
        chat->messages += index / n;
    chat->count = 1;
}

dbe_err worker_request_share(const struct worker_share *share, struct engine_chat *ret)
{
    static const char domain[] = "DSMIL L7 shared prompts"; /* with its NUL, so that no tenant runs into it */
    uint8_t in[sizeof domain + 6 + DBE_TENANT_MAX_BYTES + WORKER_CACHE_KEY_MAX], digest[CRYPTO_HASH_BYTES];
    const char *key_text = share->cache_key != NULL ? share->cache_key : "";
    const size_t tenant = strlen(share->tenant), key = strlen(key_text);
    size_t len = sizeof domain;

    ret->shares = false;
    if (tenant == 0 || tenant > DBE_TENANT_MAX_BYTES || key > WORKER_CACHE_KEY_MAX)
        return DBE_OK;
    memcpy(in, domain, len);
    for (int i = 0; i < 4; i++)
        in[len++] = (uint8_t)(share->compartments >> (8 * i));
    in[len++] = share->classification;
    memcpy(in + len, share->tenant, tenant);
    len += tenant;
    in[len++] = '\0'; /* a tenant's name holds none */
    memcpy(in + len, key_text, key);
    DBE_TRY(crypto_sha3_512(in, len + key, digest));
    memcpy(ret->salt, digest, sizeof ret->salt);
    ret->shares = true;
    return DBE_OK;
}
