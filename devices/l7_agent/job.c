/* SPDX-License-Identifier: Apache-2.0
 *
 * job.c - one task of the agent, from its first call of the model to its result.
 *
 *   ASK -> CHECK -> REPLY       CHECK -> ASK again, a few times, if the result is not valid
 *
 * In:   a task that was read, answers of the router
 * Out:  L7_CHAT_REQ to the router, under the labels and for the tenant of the task; L7_AGENT_RESULT, or a refusal
 * Not:  no text of a task in a log.
 *
 * Reading order: agent_job_ask, take_answer.
 */
#include "devices/l7_agent/agent.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dbe/payload.h"
#include "policy/policy.h"

enum {
    CALL_TLV_ROOM_BYTES = 1024,
    CLAIM_LIFETIME_MS = 60 * 60 * 1000,
    CLAIM_EARLY_MS = 1000, /* clocks of two processes of one host */
    ANSWER_MAX_BYTES = 1024 * 1024,
};

/* ---- the end of a task ------------------------------------------------------------------------------------------ */

static void job_free(struct agent_job *job)
{
    struct agent *a = job->agent;

    for (size_t i = 0; i < job->request->n_parameters; i++)
        if (job->request->parameters[i]->value != protobuf_c_empty_string)
            base_wipe(job->request->parameters[i]->value, strlen(job->request->parameters[i]->value));
    dsmil__l7_agent_task__free_unpacked(job->request, NULL);
    base_buf_free(&job->prompt);
    base_buf_free(&job->schema);
    *job = (struct agent_job){0};
    a->running--;
    agent_tell_status(a, false);
}

void agent_job_fail(struct agent_job *job, dbe_err err, const char *rule, const char *reason)
{
    struct agent *a = job->agent;

    a->refused++;
    svc_refuse(a->svc, job->req, err, rule, reason);
    job_free(job);
}

void agent_job_gone(void *user, struct svc_req *req, dbe_err why)
{
    struct agent_job *job = user;
    struct agent *a = job->agent;

    a->cancelled++;
    svc_log(a->svc, SVC_INFO, req, "task left by its caller: %s", dbe_err_name(why));
    if (job->calling)
        svc_call_cancel(a->svc, a->router, job->call_id);
    job_free(job);
}

static void succeed(struct agent_job *job, const Dsmil__L7ChatResponse *r)
{
    struct agent *a = job->agent;
    Dsmil__L7AgentResult result = DSMIL__L7_AGENT_RESULT__INIT;
    Dsmil__Usage usage = DSMIL__USAGE__INIT;

    result.status = (char *)(uintptr_t) "ok"; /* packing only reads */
    result.result = r->choices[0]->message->content;
    result.model = r->model;
    result.steps = job->steps;
    usage.prompt_tokens = job->prompt_tokens;
    usage.completion_tokens = job->answer_tokens;
    usage.total_tokens = job->prompt_tokens + job->answer_tokens;
    result.usage = &usage;
    size_t len = dsmil__l7_agent_result__get_packed_size(&result);
    uint8_t *packed = base_alloc(1, len);
    dbe_err err = packed == NULL ? DBE_E_NOMEM : DBE_OK;
    if (err == DBE_OK) {
        (void)dsmil__l7_agent_result__pack(&result, packed);
        svc_log(a->svc, SVC_INFO, job->req,
                "task %s done: steps=%" PRIu32 " prompt_tokens=%" PRIu32 " answer_tokens=%" PRIu32,
                job->task.kind->name, job->steps, job->prompt_tokens, job->answer_tokens);
        err = svc_reply(a->svc, job->req, DBE_MSG_L7_AGENT_RESULT, packed, len, true);
    }
    base_free(packed);
    if (err != DBE_OK)
        agent_job_fail(job, err, NULL, NULL);
    else
        job_free(job);
}

/* ---- asking the model ------------------------------------------------------------------------------------------- */

/* A claim for the tenant of the task, with its labels as ceilings: what the agent asks can be no more than the task. */
static dbe_err make_claim(const struct agent *a, const struct svc_req *req, uint8_t *out, size_t cap, size_t *ret_len)
{
    const struct pol_labels *labels = svc_req_labels(req);
    const bool exercise = labels->classification == DBE_CLSF_TS_SIM;
    const uint64_t now_ms = base_wall_ms();
    struct dbe_peer *peer = svc_link_peer(a->router);
    struct pol_claim claim = {.client = "agent-48",
                              .roe_levels = (uint8_t)(1u << labels->roe_level),
                              .classification_max = exercise ? DBE_CLSF_UNCLAS : labels->classification,
                              .exercise = exercise,
                              .compartments = labels->compartments,
                              .not_before_ms = now_ms - CLAIM_EARLY_MS,
                              .not_after_ms = now_ms - CLAIM_EARLY_MS + CLAIM_LIFETIME_MS};

    if (peer == NULL)
        return DBE_E_UNAVAILABLE;
    (void)snprintf(claim.tenant, sizeof claim.tenant, "%s", labels->tenant);
    DBE_TRY(dbe_peer_channel_binding(peer, claim.channel_binding));
    return pol_claim_issue(&claim, svc_credential(a->svc), out, cap, ret_len);
}

static void put_labels(struct dbe_builder *b, const struct pol_labels *labels)
{
    dbe_build_text(b, DBE_TLV_TENANT_ID, labels->tenant);
    dbe_build_u32(b, DBE_TLV_COMPARTMENT_MASK, labels->compartments);
    dbe_build_u8(b, DBE_TLV_CLASSIFICATION, labels->classification);
    dbe_build_u8(b, DBE_TLV_ROE_LEVEL, labels->roe_level);
}

static dbe_err build_call(const struct agent_job *job, const Dsmil__L7ChatRequest *chat, uint8_t *out, size_t cap,
                          size_t *ret_len)
{
    const uint64_t now_ns = svc_now_ns(job->agent->svc);
    uint8_t id[16], claim[DBE_CLAIM_MAX_BYTES];
    struct dbe_builder b;
    size_t claim_len;

    if (job->deadline_ns <= now_ns)
        return DBE_E_TIMEOUT;
    DBE_TRY(base_uuid(id));
    DBE_TRY(make_claim(job->agent, job->req, claim, sizeof claim, &claim_len));
    dbe_build_begin(&b, out, cap, DBE_MSG_L7_CHAT_REQ, DBE_FLAG_REPLAY_PROTECTED, dbe_correlation_of(id));
    put_labels(&b, svc_req_labels(job->req));
    dbe_build_layer_path(&b, NULL, DBE_LAYER_EXTENDED);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, AGENT_DEVICE);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, AGENT_ROUTER_DEVICE);
    dbe_build_timestamp_ms(&b, base_wall_ms());
    dbe_build_bytes(&b, DBE_TLV_L7_CLAIM_TOKEN, claim, claim_len);
    if (job->profile[0] != '\0')
        dbe_build_text(&b, DBE_TLV_L7_PROFILE, job->profile);
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, id, sizeof id);
    dbe_build_u32(&b, DBE_TLV_TIMEOUT_MS, (uint32_t)((job->deadline_ns - now_ns) / BASE_NS_PER_MS));
    void *room = dbe_build_payload_room(&b, dsmil__l7_chat_request__get_packed_size(chat));
    if (room != NULL)
        (void)dsmil__l7_chat_request__pack(chat, room);
    return dbe_build_end(&b, ret_len);
}

static void on_answer(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err);

/* One call of the model. The first time it says what it finds likeliest; later ones must differ, so they are drawn. */
dbe_err agent_job_ask(struct agent_job *job)
{
    struct agent *a = job->agent;
    Dsmil__ChatMessage system = DSMIL__CHAT_MESSAGE__INIT, user = DSMIL__CHAT_MESSAGE__INIT;
    Dsmil__ChatMessage *messages[] = {&system, &user};
    Dsmil__L7ChatRequest chat = DSMIL__L7_CHAT_REQUEST__INIT;
    size_t len = 0;

    system.role = (char *)(uintptr_t) "system"; /* packing only reads */
    system.content = (char *)(uintptr_t)base_buf_cstr(&job->prompt);
    user.role = (char *)(uintptr_t) "user";
    user.content = (char *)(uintptr_t)job->task.text;
    chat.n_messages = BASE_ARRAY_LEN(messages);
    chat.messages = messages;
    chat.format = (char *)(uintptr_t) "json_schema";
    chat.schema = (char *)(uintptr_t)base_buf_cstr(&job->schema);
    chat.has_max_tokens_case = DSMIL__L7_CHAT_REQUEST__HAS_MAX_TOKENS_MAX_TOKENS;
    chat.max_tokens = (uint32_t)a->answer_tokens;
    chat.has_temperature_case = DSMIL__L7_CHAT_REQUEST__HAS_TEMPERATURE_TEMPERATURE;
    chat.temperature = job->steps == 0 ? 0.0f : 0.7f;
    chat.has_seed_case = DSMIL__L7_CHAT_REQUEST__HAS_SEED_SEED;
    chat.seed = job->steps;
    const size_t cap =
        DBE_HEADER_BYTES + CALL_TLV_ROOM_BYTES + DBE_CLAIM_MAX_BYTES + dsmil__l7_chat_request__get_packed_size(&chat);
    uint8_t *bytes = base_alloc(1, cap);
    if (bytes == NULL)
        return DBE_E_NOMEM;
    dbe_err err = build_call(job, &chat, bytes, cap, &len);
    if (err == DBE_OK)
        err = svc_call_message(a->svc, a->router, bytes, len, job->deadline_ns, on_answer, job, &job->call_id);
    base_wipe(bytes, cap);
    base_free(bytes);
    job->calling = err == DBE_OK;
    job->steps += err == DBE_OK;
    a->calls += err == DBE_OK;
    return err;
}

/* The result was not valid: the model ran out of tokens in the middle of it, or worse. */
static void try_again(struct agent_job *job, const char *why)
{
    struct agent *a = job->agent;

    a->invalid++;
    if (job->steps >= a->steps_max || job->prompt_tokens + job->answer_tokens >= a->tokens_max) {
        agent_job_fail(job, DBE_E_LIMIT, NULL, "the model gave no valid result within the task's steps and tokens");
        return;
    }
    svc_log(a->svc, SVC_INFO, job->req, "step %" PRIu32 " gave no valid result: %s", job->steps, why);
    dbe_err err = agent_job_ask(job);
    if (err != DBE_OK)
        agent_job_fail(job, err, NULL, NULL);
}

static void take_answer(struct agent_job *job, const struct dbe_msg *msg)
{
    Dsmil__L7ChatResponse *r = NULL;
    struct dbe_diag diag = {0};

    if (msg->type == DBE_MSG_L7_CHAT_RESP && msg->payload_len <= ANSWER_MAX_BYTES &&
        dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) == DBE_OK)
        r = dsmil__l7_chat_response__unpack(NULL, msg->payload_len, msg->payload);
    if (r == NULL || r->n_choices != 1 || r->choices[0]->message == NULL) {
        agent_job_fail(job, DBE_E_MALFORMED, NULL, "the router's answer cannot be read");
    } else {
        const char *text = r->choices[0]->message->content;
        if (r->usage != NULL) {
            job->prompt_tokens += r->usage->prompt_tokens;
            job->answer_tokens += r->usage->completion_tokens;
        }
        dbe_err err = agent_result_check(base_buf_cstr(&job->schema), job->schema.len, text, strlen(text), &diag);
        if (err == DBE_OK)
            succeed(job, r);
        else
            try_again(job, diag.text);
    }
    if (r != NULL)
        dsmil__l7_chat_response__free_unpacked(r, NULL);
}

/* A refusal of our call is the task's: same code, same rule. */
static void take_refusal(struct agent_job *job, const struct dbe_msg *msg)
{
    Dsmil__ErrorReply *e = NULL;

    if (dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) == DBE_OK)
        e = dsmil__error_reply__unpack(NULL, msg->payload_len, msg->payload);
    const struct dbe_err_row *row = e != NULL && e->code <= INT32_MAX ? dbe_reg_err((int)e->code) : NULL;
    const bool utf8 =
        e != NULL && base_utf8_valid(e->reason, strlen(e->reason)) && base_utf8_valid(e->rule, strlen(e->rule));
    agent_job_fail(job, row != NULL && row->err != DBE_OK ? (dbe_err)row->err : DBE_E_UNAVAILABLE,
                   utf8 && e->rule[0] != '\0' ? e->rule : NULL, utf8 && e->reason[0] != '\0' ? e->reason : NULL);
    if (e != NULL)
        dsmil__error_reply__free_unpacked(e, NULL);
}

static void on_answer(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct agent_job *job = ctx;
    struct agent *a = job->agent;

    if (msg != NULL && !last) { /* nobody asked for a stream */
        svc_call_cancel(a->svc, a->router, job->call_id);
        job->calling = false;
        agent_job_fail(job, DBE_E_PROTOCOL, NULL, "the router streams what was asked for whole");
        return;
    }
    job->calling = false;
    if (msg == NULL)
        agent_job_fail(job, err == DBE_E_TIMEOUT ? err : DBE_E_UNAVAILABLE, NULL,
                       err == DBE_E_TIMEOUT ? NULL : "the router went away");
    else if (msg->type == DBE_MSG_ERROR)
        take_refusal(job, msg);
    else
        take_answer(job, msg);
}
