/* SPDX-License-Identifier: Apache-2.0
 *
 * request.c - L7ChatRequest in, L7ChatResponse out. Every field is checked here, whatever the gateway checked before.
 */
#include "devices/l7_worker/request.h"

#include <math.h>
#include <string.h>

#include "crypto/crypto.h"
#include "dbe/payload.h"
#include "dsmil.pb-c.h"

/* What the engine's chat points into. */
struct owned {
    Dsmil__L7ChatRequest *request;
    const char *stops[WORKER_STOP_MAX];
    struct llm_message messages[];
};

static void owned_free(void *ptr)
{
    struct owned *o = ptr;

    for (size_t i = 0; i < o->request->n_messages; i++)
        if (o->request->messages[i]->content != protobuf_c_empty_string)
            base_wipe(o->request->messages[i]->content, strlen(o->request->messages[i]->content));
    dsmil__l7_chat_request__free_unpacked(o->request, NULL);
    base_free(o);
}

/* ---- request ---------------------------------------------------------------------------------------------------- */

static bool known_role(const char *role)
{
    return strcmp(role, "system") == 0 || strcmp(role, "user") == 0 || strcmp(role, "assistant") == 0;
}

static dbe_err read_messages(const Dsmil__L7ChatRequest *r, struct llm_message *ret, const char **reason)
{
    for (size_t i = 0; i < r->n_messages; i++) {
        const Dsmil__ChatMessage *m = r->messages[i];
        *reason = "messages: a role is system, user or assistant";
        if (!known_role(m->role))
            return DBE_E_RANGE;
        *reason = "messages: content is not UTF-8";
        if (!base_utf8_valid(m->content, strlen(m->content)))
            return DBE_E_UTF8;
        ret[i] = (struct llm_message){m->role, m->content, strlen(m->content)};
    }
    return DBE_OK;
}

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
    *reason = "max_tokens: at least 1";
    if (r->has_max_tokens_case != 0 && r->max_tokens == 0)
        return DBE_E_RANGE;
    ret->max_tokens = r->has_max_tokens_case != 0 ? r->max_tokens : 0;
    *reason = "no random seed";
    if (r->has_seed_case != 0)
        ret->seed = r->seed;
    else
        DBE_TRY(base_random(&ret->seed, sizeof ret->seed));
    return DBE_OK;
}

dbe_err worker_request_read(const void *payload, size_t len, const struct worker_defaults *defaults,
                            struct engine_chat *ret, const char **ret_reason)
{
    struct engine_chat chat = {.free_owned = owned_free};
    const char *reason = "the request is too large";

    *ret_reason = reason;
    if (len > WORKER_REQUEST_MAX_BYTES)
        return DBE_E_TOO_LARGE;
    *ret_reason = "the payload is no L7ChatRequest";
    static struct dbe_diag diag;
    dbe_err sound = dbe_payload_check(DBE_MSG_L7_CHAT_REQ, payload, len, &diag);
    if (sound != DBE_OK) { /* before memory is asked for; protobuf-c asks for much */
        *ret_reason = sound == DBE_E_RANGE ? diag.text : *ret_reason;
        return sound;
    }
    Dsmil__L7ChatRequest *request = dsmil__l7_chat_request__unpack(NULL, len, payload);
    if (request == NULL)
        return DBE_E_MALFORMED;
    *ret_reason = "messages: 1 to 512";
    if (request->n_messages == 0 || request->n_messages > WORKER_MESSAGES_MAX) {
        dsmil__l7_chat_request__free_unpacked(request, NULL);
        return DBE_E_RANGE;
    }
    struct owned *o = base_alloc(1, sizeof *o + request->n_messages * sizeof o->messages[0]);
    if (o == NULL) {
        dsmil__l7_chat_request__free_unpacked(request, NULL);
        *ret_reason = NULL;
        return DBE_E_NOMEM;
    }
    o->request = request;
    dbe_err err = read_messages(request, o->messages, &reason);
    if (err == DBE_OK)
        err = read_stops(request, o->stops, &reason);
    if (err == DBE_OK)
        err = read_sampling(request, defaults, &chat.params, &reason);
    if (err != DBE_OK) {
        owned_free(o);
        *ret_reason = reason;
        return err;
    }
    chat.owned = o;
    chat.messages = o->messages;
    chat.count = request->n_messages;
    chat.params.stops = o->stops;
    chat.params.stop_count = request->n_stop;
    chat.stream = request->stream != 0;
    *ret = chat;
    return DBE_OK;
}

dbe_err worker_request_share(const struct worker_share *share, struct engine_chat *ret)
{
    static const char domain[] = "DSMIL L7 shared prompts"; /* with its NUL, so that no tenant runs into it */
    uint8_t in[sizeof domain + 5 + DBE_TENANT_MAX_BYTES], digest[CRYPTO_HASH_BYTES];
    const size_t tenant = strlen(share->tenant);
    size_t len = sizeof domain;

    ret->shares = false;
    if (tenant == 0 || tenant > DBE_TENANT_MAX_BYTES)
        return DBE_OK;
    memcpy(in, domain, len);
    for (int i = 0; i < 4; i++)
        in[len++] = (uint8_t)(share->compartments >> (8 * i));
    in[len++] = share->classification;
    memcpy(in + len, share->tenant, tenant);
    DBE_TRY(crypto_sha3_512(in, len + tenant, digest));
    memcpy(ret->salt, digest, sizeof ret->salt);
    ret->shares = true;
    return DBE_OK;
}

/* ---- answer ----------------------------------------------------------------------------------------------------- */

static void remove_nuls(struct base_buf *text)
{
    size_t to = 0;

    for (size_t from = 0; from < text->len; from++)
        if (text->data[from] != '\0')
            text->data[to++] = text->data[from];
    text->len = to;
}

static float ms_of(uint64_t ns)
{
    return (float)((double)ns / (double)BASE_NS_PER_MS);
}

dbe_err worker_answer_pack(const struct worker_answer *answer, struct base_buf *out)
{
    Dsmil__L7ChatResponse response = DSMIL__L7_CHAT_RESPONSE__INIT;
    Dsmil__Choice choice = DSMIL__CHOICE__INIT, *choices[] = {&choice};
    Dsmil__ChatMessage message = DSMIL__CHAT_MESSAGE__INIT;
    Dsmil__Usage usage = DSMIL__USAGE__INIT;
    char assistant[] = "assistant", stop[] = "stop", length[] = "length";

    remove_nuls(answer->text);
    message.role = assistant;
    message.content = (char *)(uintptr_t)base_buf_cstr(answer->text);
    choice.message = &message;
    response.n_choices = 1;
    response.choices = choices;
    response.model = (char *)(uintptr_t)answer->model;
    response.device_id = answer->device;
    if (answer->result != NULL) {
        const struct engine_result *r = answer->result;
        choice.finish_reason = r->finish == LLM_FINISH_LENGTH ? length : stop;
        usage.prompt_tokens = r->prompt_tokens;
        usage.completion_tokens = r->answer_tokens;
        usage.total_tokens = r->prompt_tokens + r->answer_tokens;
        response.usage = &usage;
        response.latency_ms = ms_of(r->total_ns);
        response.ttft_ms = ms_of(r->first_token_ns);
    }
    if (answer->text->err != DBE_OK)
        return answer->text->err;
    void *room = base_buf_grow(out, dsmil__l7_chat_response__get_packed_size(&response));
    if (room == NULL)
        return out->err;
    (void)dsmil__l7_chat_response__pack(&response, room);
    return DBE_OK;
}
