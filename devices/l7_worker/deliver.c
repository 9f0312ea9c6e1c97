/* SPDX-License-Identifier: Apache-2.0
 *
 * deliver.c - from the engine's news to messages: a request's parts, each an answer of its own.
 *
 * In:   jobs with text or a result     Out: L7_CHAT_RESP, whole or in chunks; L7_EMBED_RESP; refusals
 * Does: a caller that reads slowly makes its own session pause
 */
#include "devices/l7_worker/worker.h"
#include "policy/policy.h"

#include <stdio.h>
#include <string.h>

void worker_refuse(struct worker *w, struct svc_req *req, dbe_err err, const char *reason)
{
    w->refused++;
    svc_refuse(w->svc, req, err, NULL, reason != NULL && reason[0] != '\0' ? reason : NULL);
}

void worker_req_free(struct worker_req *wr)
{
    for (uint32_t i = 0; i < wr->count; i++) {
        struct worker_part *part = &wr->parts[i];
        if (part->job != NULL)
            engine_cancel(part->job);
        base_buf_free(&part->text);
        base_buf_free(&part->probs);
        base_buf_free(&part->call);
    }
    if (wr->forming != NULL)
        aside_cancel(wr->forming);
    if (wr->begun < wr->count)
        wr->chat.free_owned(wr->chat.owned);
    worker_private_free(&wr->private);
    base_free(wr->parts);
    wr->forming = NULL;
    wr->parts = NULL;
    wr->count = wr->begun = 0;
    wr->req = NULL;
}

void worker_give_up(struct worker_req *wr, dbe_err err, const char *reason)
{
    struct svc_req *req = wr->req;
    struct worker *w = wr->worker;

    worker_req_free(wr);
    worker_load_changed(w);
    worker_refuse(w, req, err, reason);
}

static bool is_over(const struct worker_req *wr)
{
    for (uint32_t i = 0; i < wr->count; i++)
        if (!wr->parts[i].ended)
            return false;
    return true;
}

/* Tokens of a prompt count once, as they were computed; answers together; the time is that of the slowest. */
static struct engine_result totals_of(const struct worker_req *wr)
{
    struct engine_result all = wr->parts[0].result;

    for (uint32_t i = 1; i < wr->count; i++) {
        const struct engine_result *r = &wr->parts[i].result;
        if (i % wr->n == 0) { /* the first of another prompt */
            all.prompt_tokens += r->prompt_tokens;
            all.cached_tokens += r->cached_tokens;
        }
        all.answer_tokens += r->answer_tokens;
        all.total_ns = BASE_MAX(all.total_ns, r->total_ns);
    }
    return all;
}

static dbe_err send_vectors(struct worker *w, struct worker_req *wr, const struct engine_result *totals)
{
    struct worker_answer answer = {.totals = totals, .model = w->model_name, .device = DEVICE};

    base_buf_clear(&w->packed);
    DBE_TRY(worker_answer_pack_embed(&answer, &wr->parts[0].text, wr->input_count, &w->packed));
    DBE_TRY(worker_seal(&wr->private, DBE_MSG_L7_EMBED_RESP, totals, &w->packed));
    return svc_reply(w->svc, wr->req, DBE_MSG_L7_EMBED_RESP, w->packed.data, w->packed.len, true);
}

/* The receipt of a complete answer, if one is wanted; its text is still in the part. */
static dbe_err sign_receipt(struct worker *w, struct worker_req *wr, struct base_buf *out)
{
    const struct pol_policy *policy = svc_policy(w->svc);
    struct e2e_receipt r = {.time_ms = base_wall_ms()};

    memcpy(r.request_id, svc_req_id(wr->req), sizeof r.request_id);
    memcpy(r.model_digest, w->model_digest, sizeof r.model_digest);
    memcpy(r.policy_digest, policy->digest, sizeof r.policy_digest);
    (void)snprintf(r.model, sizeof r.model, "%s", w->model_name);
    (void)snprintf(r.quantisation, sizeof r.quantisation, "%s", llm_model_info(w->model)->quantisation);
    return worker_receipt_end(&wr->private, &r, &wr->parts[0].result, &wr->parts[0].call, svc_credential(w->svc), out);
}

/* Send what parts `from` to `to` have to say. With `totals` it is the end of the request. */
static dbe_err send_parts(struct worker *w, struct worker_req *wr, uint32_t from, uint32_t to,
                          const struct engine_result *totals)
{
    struct worker_choice choices[WORKER_ANSWERS_MAX];
    struct worker_answer answer = {.choices = choices,
                                   .count = to - from,
                                   .totals = totals,
                                   .model = w->model_name,
                                   .fingerprint = w->fingerprint,
                                   .llm = w->model,
                                   .device = DEVICE};

    for (uint32_t i = from; i < to; i++) {
        struct worker_part *p = &wr->parts[i];
        choices[i - from] = (struct worker_choice){
            i, &p->text, &p->probs, &p->call, &p->called, p->ended ? &p->result : NULL, p->behind};
    }
    struct base_buf receipt;
    base_buf_init(&receipt, E2E_RECEIPT_MAX_BYTES);
    base_buf_clear(&w->packed);
    dbe_err err = worker_receipt_text(&wr->private, &wr->parts[from].text); /* of the one that there is then */
    if (err == DBE_OK && totals != NULL)
        err = sign_receipt(w, wr, &receipt);
    answer.receipt = &receipt;
    if (err == DBE_OK)
        err = worker_answer_pack(&answer, &w->packed);
    base_buf_free(&receipt);
    if (err == DBE_OK)
        err = worker_seal(&wr->private, DBE_MSG_L7_CHAT_RESP, totals, &w->packed);
    DBE_TRY(err);
    for (uint32_t i = from; i < to; i++) {
        base_buf_clear(&wr->parts[i].text);
        base_buf_clear(&wr->parts[i].probs);
    }
    return svc_reply(w->svc, wr->req, DBE_MSG_L7_CHAT_RESP, w->packed.data, w->packed.len, totals != NULL);
}

dbe_err worker_begin_part(struct worker *w, struct worker_req *wr)
{
    struct worker_part *part = &wr->parts[wr->begun];
    struct engine_chat chat = wr->chat;
    const bool more = wr->begun + 1 < wr->count;

    part->wr = wr;
    part->index = wr->begun;
    base_buf_init(&part->text, ENGINE_ANSWER_MAX_BYTES + 1);
    base_buf_init(&part->probs, ENGINE_PROBS_MAX_BYTES);
    base_buf_init(&part->call, ENGINE_ANSWER_MAX_BYTES);
    worker_request_prompt(&chat, wr->begun, wr->n);
    chat.stream = wr->stream || (wr->begun == 0 && more); /* its first text brings on the others */
    if (more)
        worker_request_hold(&chat);
    dbe_err err = engine_submit(w->engine, &chat, part, &part->job);
    if (err == DBE_OK)
        wr->begun++;
    else if (more)
        chat.free_owned(chat.owned);
    return err;
}

/* The first answer has begun, so that its prompt is in the prefix cache: the others begin from there. */
static dbe_err begin_others(struct worker *w, struct worker_req *wr)
{
    while (wr->begun < wr->count)
        DBE_TRY(worker_begin_part(w, wr));
    return DBE_OK;
}

/* Is there a whole call that has not been sent? One ends with a brace, or with a mark that does not. */
static dbe_err has_calls(const struct worker_part *part, bool *ret)
{
    const char *unsent = (const char *)part->call.data + part->called;
    const size_t len = part->call.len - part->called;
    struct worker_calls calls = {0};

    if (len > 0 && memrchr(unsent, '}', len) != NULL)
        DBE_TRY(worker_calls_read(unsent, len, &calls));
    *ret = calls.count > 0;
    worker_calls_free(&calls);
    return DBE_OK;
}

static dbe_err take_news(struct worker *w, struct worker_part *part)
{
    struct worker_req *wr = part->wr;
    const struct engine_extras extras = {&part->probs, &part->call};

    part->ended = engine_take(part->job, &part->text, &extras, &part->result);
    if (part->ended) {
        part->job = NULL;
        worker_tell_end(w, wr->req, &part->result);
        DBE_TRY(part->result.err);
        DBE_TRY(worker_calls_settle(&part->text, &part->call, part->called, &part->result, &part->behind));
    }
    DBE_TRY(begin_others(w, wr));
    DBE_TRY(part->text.err);
    DBE_TRY(part->probs.err);
    if (is_over(wr)) {
        const struct engine_result totals = totals_of(wr);
        DBE_TRY(wr->embed    ? send_vectors(w, wr, &totals)
                : wr->stream ? send_parts(w, wr, part->index, part->index + 1, &totals)
                             : send_parts(w, wr, 0, wr->count, &totals));
        worker_req_free(wr);
        worker_load_changed(w);
        return DBE_OK;
    }
    if (!wr->stream)
        return DBE_OK;
    bool more = part->ended || part->text.len > 0;
    if (!more)
        DBE_TRY(has_calls(part, &more));
    return more ? send_parts(w, wr, part->index, part->index + 1, NULL) : DBE_OK;
}

/* One job has text or a result. */
static void deliver(struct worker *w, struct engine_job *job)
{
    struct worker_part *part = engine_job_user(job);
    struct worker_req *wr = part->wr;

    if (wr->stream && svc_req_queued_bytes(wr->req) > WORKER_QUEUED_HIGH_BYTES) {
        engine_postpone(job);
        base_timer_set(w->postpone, svc_now_ns(w->svc) + WORKER_POSTPONE_MS * (uint64_t)BASE_NS_PER_MS);
        return;
    }
    dbe_err err = take_news(w, part);
    if (err != DBE_OK) { /* a hole in an answer is worse than its end */
        char reason[sizeof part->result.reason] = "";
        if (part->ended && part->result.err != DBE_OK)
            memcpy(reason, part->result.reason, sizeof reason);
        else if (err == DBE_E_TOO_LARGE)
            (void)snprintf(
                reason, sizeof reason,
                "the answers and their probabilities have no room in one message; ask about less at once, or stream");
        worker_give_up(wr, err, reason);
    }
}

void worker_wake(struct svc *svc, void *state)
{
    struct worker *w = state;
    struct engine_job *job;

    (void)svc;
    worker_formed(w);
    while (w->engine != NULL && (job = engine_news(w->engine)) != NULL)
        deliver(w, job);
}

void worker_on_postponed(void *ctx)
{
    struct worker *w = ctx;

    engine_postponed(w->engine);
    worker_wake(w->svc, w);
}
