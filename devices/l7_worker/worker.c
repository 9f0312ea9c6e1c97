/* SPDX-License-Identifier: Apache-2.0
 *
 * worker.c - a language model worker of layer 7: device 47, or another by instance.h.
 *
 * In:   L7_CHAT_REQ, L7_EMBED_REQ and L7_MODEL_STATUS, from the router
 * Out:  L7_CHAT_RESP, whole or in chunks; L7_EMBED_RESP; L7_MODEL_STATUS
 * Does: loads one model, hands chats to the engine's thread and sends what it tells; a caller that reads slowly makes
 *       its own session pause, one that leaves ends it
 * Not:  no text of a chat in a log, ever; no arithmetic here (engine.c, llm/)
 *
 * Reading order: tables at the bottom, on_request, deliver.      Source: 001 section 3.2.
 * Tests: request_test.c, engine_test.c, model_file_test.c
 */
#include "devices/l7_worker/worker.h"
#include "policy/policy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dbe/payload.h"
#include "dsmil.pb-c.h"

/* The load is another: those who watch hear of it soon. */
static void load_changed(struct worker *w)
{
    base_timer_set(w->notice, svc_now_ns(w->svc) + WORKER_NOTICE_MS * (uint64_t)BASE_NS_PER_MS);
}

/* ---- the end of a chat, in words and numbers -------------------------------------------------------------------- */

static void count_outcome(struct worker *w, const char *status, uint64_t total_ns)
{
    char labels[160];

    (void)snprintf(labels, sizeof labels, "device_id=\"%d\",profile=\"%s\",status=\"%s\"", DEVICE, w->profile, status);
    svc_count(w->svc, "dsmil_l7_requests_total", labels, 1);
    (void)snprintf(labels, sizeof labels, "device_id=\"%d\",profile=\"%s\"", DEVICE, w->profile);
    svc_observe(w->svc, "dsmil_l7_latency_seconds", labels, (double)total_ns / (double)BASE_NS_PER_S);
}

static void tell_end(struct worker *w, const struct svc_req *req, const struct engine_result *r)
{
    uint64_t decode_ns = r->total_ns - r->first_token_ns;
    double per_s = r->answer_tokens > 1 && decode_ns > 0
                       ? (double)(r->answer_tokens - 1) * (double)BASE_NS_PER_S / (double)decode_ns
                       : 0.0;
    double moved = (double)(r->passes * llm_model_info(w->model)->pass_bytes);
    double read = decode_ns > 0 ? moved * 1e9 / (double)decode_ns / (double)BASE_MAX(w->read_bytes_per_s, 1U) : 0.0;

    w->prompt_tokens += r->prompt_tokens;
    if (per_s > 0)
        w->tokens_per_s = (uint64_t)(per_s + 0.5);
    if (r->answer_tokens > 0)
        svc_observe(w->svc, "dsmil_l7_first_token_seconds", WORKER_LABEL,
                    (double)r->first_token_ns / (double)BASE_NS_PER_S);
    svc_count(w->svc, "dsmil_l7_tokens_generated_total", WORKER_LABEL, r->answer_tokens);
    count_outcome(w, r->err == DBE_OK ? "ok" : "error", r->total_ns);
    if (r->err != DBE_OK)
        svc_log(w->svc, SVC_WARN, req, "chat ended with %s: %s", dbe_err_name(r->err), r->reason);
    else
        svc_log(w->svc, SVC_INFO, req,
                "chat done: prompt_tokens=%" PRIu32 " answer_tokens=%" PRIu32
                " ttft_ms=%.1f tokens_per_s=%.1f of_read_bandwidth=%.3f queued_ms=%.1f "
                "finish=%s",
                r->prompt_tokens, r->answer_tokens, (double)r->first_token_ns / 1e6, per_s, read,
                (double)r->queued_ns / 1e6, r->finish == LLM_FINISH_LENGTH ? "length" : "stop");
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

static void refuse(struct worker *w, struct svc_req *req, dbe_err err, const char *reason)
{
    w->refused++;
    svc_refuse(w->svc, req, err, NULL, reason != NULL && reason[0] != '\0' ? reason : NULL);
}

/* The slot is free again; jobs that still run are ended. */
static void free_req(struct worker_req *wr)
{
    for (uint32_t i = 0; i < wr->count; i++) {
        struct worker_part *part = &wr->parts[i];
        if (part->job != NULL)
            engine_cancel(part->job);
        base_buf_free(&part->text);
        base_buf_free(&part->probs);
        base_buf_free(&part->call);
    }
    if (wr->begun < wr->count)
        wr->chat.free_owned(wr->chat.owned);
    worker_private_free(&wr->private);
    base_free(wr->parts);
    wr->parts = NULL;
    wr->count = 0;
    wr->req = NULL;
}

static void give_up(struct worker_req *wr, dbe_err err, const char *reason)
{
    struct svc_req *req = wr->req;
    struct worker *w = wr->worker;

    free_req(wr);
    load_changed(w);
    refuse(w, req, err, reason);
}

static bool is_over(const struct worker_req *wr)
{
    for (uint32_t i = 0; i < wr->count; i++)
        if (!wr->parts[i].ended)
            return false;
    return true;
}

/* Prompt tokens count once, as they were computed; answers together; the time is that of the slowest. */
static struct engine_result totals_of(const struct worker_req *wr)
{
    struct engine_result all = wr->parts[0].result;

    for (uint32_t i = 1; i < wr->count; i++) {
        const struct engine_result *r = &wr->parts[i].result;
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
    return svc_reply(w->svc, wr->req, DBE_MSG_L7_EMBED_RESP, w->packed.data, w->packed.len, true);
}

/* The receipt of a complete answer, if one is wanted; its text is still in the part. */
static dbe_err sign_receipt(struct worker *w, struct worker_req *wr, struct base_buf *out)
{
    const struct pol_policy *policy = svc_policy(w->svc);
    struct e2e_receipt r = {.time_ms = base_wall_ms(), .policy_epoch = policy->epoch};

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
        choices[i - from] = (struct worker_choice){i, &p->text, &p->probs, &p->call, p->ended ? &p->result : NULL};
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
        err = worker_seal(&wr->private, totals, &w->packed);
    DBE_TRY(err);
    for (uint32_t i = from; i < to; i++) {
        base_buf_clear(&wr->parts[i].text);
        base_buf_clear(&wr->parts[i].probs);
    }
    return svc_reply(w->svc, wr->req, DBE_MSG_L7_CHAT_RESP, w->packed.data, w->packed.len, totals != NULL);
}

static dbe_err begin_part(struct worker *w, struct worker_req *wr)
{
    struct worker_part *part = &wr->parts[wr->begun];
    struct engine_chat chat = wr->chat;
    const bool more = wr->begun + 1 < wr->count;

    part->wr = wr;
    part->index = wr->begun;
    base_buf_init(&part->text, ENGINE_ANSWER_MAX_BYTES + 1);
    base_buf_init(&part->probs, WORKER_PROBS_MAX_BYTES);
    base_buf_init(&part->call, ENGINE_ANSWER_MAX_BYTES);
    chat.params.seed += wr->begun;                        /* each answer its own, and the first as if it were alone */
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
        DBE_TRY(begin_part(w, wr));
    return DBE_OK;
}

static dbe_err take_news(struct worker *w, struct worker_part *part)
{
    struct worker_req *wr = part->wr;
    const struct engine_extras extras = {&part->probs, &part->call};

    part->ended = engine_take(part->job, &part->text, &extras, &part->result);
    if (part->ended) {
        part->job = NULL;
        tell_end(w, wr->req, &part->result);
        DBE_TRY(part->result.err);
    }
    DBE_TRY(begin_others(w, wr));
    DBE_TRY(part->text.err);
    if (is_over(wr)) {
        const struct engine_result totals = totals_of(wr);
        DBE_TRY(wr->embed    ? send_vectors(w, wr, &totals)
                : wr->stream ? send_parts(w, wr, part->index, part->index + 1, &totals)
                             : send_parts(w, wr, 0, wr->count, &totals));
        free_req(wr);
        load_changed(w);
        return DBE_OK;
    }
    return wr->stream && (part->ended || part->text.len > 0) ? send_parts(w, wr, part->index, part->index + 1, NULL)
                                                             : DBE_OK;
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
        give_up(wr, err, reason);
    }
}

static void worker_wake(struct svc *svc, void *state)
{
    struct worker *w = state;
    struct engine_job *job;

    (void)svc;
    while (w->engine != NULL && (job = engine_news(w->engine)) != NULL)
        deliver(w, job);
}

static void on_postponed(void *ctx)
{
    struct worker *w = ctx;

    engine_postponed(w->engine);
    worker_wake(w->svc, w);
}

static void wake_loop(void *ctx)
{
    svc_wake(ctx);
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static void on_gone(void *user, struct svc_req *req, dbe_err why)
{
    struct worker_req *wr = user;
    struct worker *w = wr->worker;

    w->cancelled++;
    count_outcome(w, why == DBE_E_TIMEOUT ? "timeout" : "cancelled", svc_req_elapsed_us(req) * BASE_NS_PER_US);
    svc_log(w->svc, SVC_INFO, req, "chat left by its caller: %s", dbe_err_name(why));
    free_req(wr);
    load_changed(w);
}

static struct worker_req *free_slot(struct worker *w)
{
    for (size_t i = 0; i < WORKER_REQS_MAX; i++)
        if (w->reqs[i].req == NULL)
            return &w->reqs[i];
    return NULL;
}

/* Hand a checked request to the engine. On error what it owns is freed. */
static dbe_err begin(struct worker *w, struct worker_req *wr, const struct engine_chat *chat, uint32_t count)
{
    struct worker_part *parts = base_alloc(count, sizeof *parts);

    if (parts == NULL) {
        chat->free_owned(chat->owned);
        return DBE_E_NOMEM;
    }
    *wr = (struct worker_req){.worker = w,
                              .stream = chat->stream,
                              .embed = chat->inputs != NULL,
                              .chat = *chat,
                              .count = count,
                              .input_count = chat->input_count,
                              .parts = parts};
    dbe_err err = begin_part(w, wr);
    if (err != DBE_OK)
        free_req(wr);
    return err;
}

static dbe_err read_clear(struct worker *w, struct svc_req *req, const void *payload, size_t len,
                          struct worker_private *private, struct engine_chat *ret, uint32_t *ret_count,
                          const char **reason)
{
    struct worker_defaults defaults = {(float)w->temperature, (float)w->top_p};
    const struct pol_labels *labels = svc_req_labels(req);
    struct worker_request request;

    DBE_TRY(worker_request_read(payload, len, &defaults, &request, reason));
    request.chat.params.lookup_tokens = (uint32_t)w->lookup;
    request.chat.params.draft = w->draft;
    *ret_count = request.n;
    *reason = NULL;
    dbe_err err = worker_request_share(
        &(struct worker_share){labels->tenant, labels->compartments, labels->classification, request.cache_key},
        &request.chat);
    if (err == DBE_OK && request.receipt)
        err = worker_receipt_begin(private, payload, len);
    if (err != DBE_OK)
        request.chat.free_owned(request.chat.owned);
    else
        *ret = request.chat;
    return err;
}

static dbe_err read_chat(struct worker *w, struct svc_req *req, const struct dbe_msg *msg,
                         struct worker_private *private, struct engine_chat *ret, uint32_t *ret_count,
                         const char **reason)
{
    struct base_buf plain;

    if (!worker_is_sealed(msg))
        return read_clear(w, req, msg->payload, msg->payload_len, private, ret, ret_count, reason);
    base_buf_init(&plain, WORKER_REQUEST_MAX_BYTES);
    dbe_err err = worker_open(&w->keys, msg, svc_req_labels(req), DEVICE, svc_req_id(req), base_wall_ms(), &plain,
                              private, reason);
    if (err == DBE_OK)
        err = read_clear(w, req, plain.data, plain.len, private, ret, ret_count, reason);
    base_buf_free(&plain); /* wiped */
    return err;
}

static dbe_err on_request(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    struct worker *w = state;
    struct worker_req *wr = free_slot(w);
    struct engine_chat chat;
    struct worker_private private = {0};
    uint32_t count = 1;
    const char *reason = "the queue is full; try again later";
    dbe_err err = DBE_E_LIMIT;

    (void)svc;
    w->requests++;
    if (wr != NULL)
        err = msg->type == DBE_MSG_L7_EMBED_REQ && !worker_is_sealed(msg)
                  ? worker_request_read_embed(msg->payload, msg->payload_len, &chat, &reason)
                  : read_chat(w, req, msg, &private, &chat, &count, &reason);
    if (err == DBE_OK) {
        err = begin(w, wr, &chat, count);
        reason = err == DBE_E_LIMIT ? "the queue is full; try again later" : NULL;
    }
    if (err != DBE_OK) {
        worker_private_free(&private);
        count_outcome(w, err == DBE_E_LIMIT ? "limited" : "error", 0);
        refuse(w, req, err, reason);
        return DBE_OK;
    }
    wr->req = req;
    wr->private = private;
    load_changed(w);
    svc_req_set_user(req, wr);
    svc_req_on_gone(req, on_gone);
    return DBE_OK;
}

/* ---- what it serves, and its load ------------------------------------------------------------------------------- */

/* Our status as it is now, into `packed`. */
static dbe_err pack_status(struct worker *w, bool with_card)
{
    const struct llm_model_info *info = llm_model_info(w->model);
    struct engine_load load = engine_load(w->engine);
    Dsmil__L7ModelStatus status = DSMIL__L7_MODEL_STATUS__INIT;
    Dsmil__ModelInfo model = DSMIL__MODEL_INFO__INIT, *models[] = {&model};

    model.id = w->model_name;
    model.profile = w->profile;
    model.architecture = (char *)(uintptr_t)info->arch;
    model.quantization = (char *)(uintptr_t)info->quantisation;
    model.parameters = info->n_params;
    model.context_tokens = info->n_ctx;
    model.kv_bytes_per_token = info->kv_bytes_per_token;
    model.created_unix = w->created_unix;
    model.device_id = DEVICE;
    status.n_models = 1;
    status.models = models;
    status.active_requests = load.running + load.queued;
    status.max_requests = (uint32_t)(w->max_sessions + w->queue_max);
    status.sessions = (uint32_t)w->max_sessions;
    status.memory_used_bytes = info->weights_bytes + info->workspace_bytes + llm_model_kv_used_bytes(w->model);
    status.memory_limit_bytes = w->memory_limit;
    status.ready = !w->draining;
    ProtobufCBinaryData card;
    if (with_card && w->keys.current != NULL) {
        const uint8_t *bytes;
        e2e_key_card(w->keys.current, &bytes, &card.len);
        card.data = (uint8_t *)(uintptr_t)bytes;
        status.n_cards = 1;
        status.cards = &card;
    }
    base_buf_clear(&w->packed);
    void *room = base_buf_grow(&w->packed, dsmil__l7_model_status__get_packed_size(&status));
    if (room == NULL)
        return w->packed.err;
    (void)dsmil__l7_model_status__pack(&status, room);
    return DBE_OK;
}

static void tell_status(struct worker *w, bool with_card, bool last)
{
    if (pack_status(w, with_card) == DBE_OK)
        svc_watchers_tell(w->svc, &w->watchers, DBE_MSG_L7_MODEL_STATUS, w->packed.data, w->packed.len, last);
}

static void on_notice(void *ctx)
{
    tell_status(ctx, false, false); /* many a second: the card comes with the ticks */
}

static dbe_err on_model_status(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    struct worker *w = state;

    DBE_TRY(pack_status(w, true));
    return svc_watchers_answer(svc, &w->watchers, req, msg, w->packed.data, w->packed.len);
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static dbe_err worker_init(struct svc *svc, void *state, struct dbe_diag *diag)
{
    struct worker *w = state;

    w->svc = svc;
    w->created_unix = base_wall_ms() / 1000;
    base_buf_init(&w->packed, DBE_PAYLOAD_MAX_BYTES);
    DBE_TRY(worker_keys_tick(&w->keys, svc_credential(svc), base_wall_ms()));
    DBE_TRY(worker_load_model(w, diag));
    DBE_TRY(worker_load_draft(w, diag));
    DBE_TRY(base_loop_timer(svc_loop(svc), on_postponed, w, &w->postpone));
    DBE_TRY(base_loop_timer(svc_loop(svc), on_notice, w, &w->notice));
    struct engine_params params = {.model = w->model,
                                   .sessions_max = (uint32_t)w->max_sessions,
                                   .queue_max = (uint32_t)w->queue_max,
                                   .wake = wake_loop,
                                   .ctx = svc};
    return engine_new(&params, &w->engine);
}

/* What the model did since the last tick: the share of the memory's bandwidth it read weights with, rows a pass. */
static void watch_model(struct worker *w)
{
    const uint64_t now = svc_now_ns(w->svc), took = now - w->ticked_ns;
    struct llm_model_stats s;

    llm_model_stats(w->model, &s);
    const uint64_t decode_passes = s.decode_passes - w->stats.decode_passes,
                   rows = s.decode_rows - w->stats.decode_rows;
    const double moved = (double)(s.passes - w->stats.passes) * (double)llm_model_info(w->model)->pass_bytes;
    if (w->ticked_ns != 0 && took > 0 && w->read_bytes_per_s > 0)
        w->read_percent =
            (uint64_t)(100 * moved * (double)BASE_NS_PER_S / (double)took / (double)w->read_bytes_per_s + 0.5);
    w->batch_rows = decode_passes > 0 ? (rows + decode_passes / 2) / decode_passes : 0;
    w->stats = s;
    w->ticked_ns = now;
}

static void worker_tick(struct svc *svc, void *state)
{
    struct worker *w = state;
    const struct llm_model_info *info = llm_model_info(w->model);
    struct engine_load load = engine_load(w->engine);

    w->running = load.running;
    w->queued = load.queued;
    w->kv_used = llm_model_kv_used_bytes(w->model);
    watch_model(w);
    svc_count(svc, "dsmil_l7_memory_used_bytes", WORKER_LABEL,
              info->weights_bytes + info->workspace_bytes + w->kv_used);
    if (worker_keys_tick(&w->keys, svc_credential(svc), base_wall_ms()) != DBE_OK)
        svc_log(svc, SVC_ERROR, NULL, "no new key for sealed prompts could be made; the one before stays");
    tell_status(w, true, false);
}

static void worker_drain(struct svc *svc, void *state)
{
    struct worker *w = state;

    (void)svc;
    w->draining = true;
    tell_status(w, false, true);
}

static void worker_dump(const void *state, struct svc_dump *out)
{
    const struct worker *w = state;

    svc_dumpf(out, "model=%s running=%" PRIu64 " queued=%" PRIu64, w->model_name, w->running, w->queued);
    for (size_t i = 0; i < WORKER_REQS_MAX; i++)
        if (w->reqs[i].req != NULL)
            svc_dumpf(out, "request slot=%zu stream=%d elapsed_us=%" PRIu64, i, w->reqs[i].stream,
                      svc_req_elapsed_us(w->reqs[i].req));
}

static void worker_fini(struct svc *svc, void *state)
{
    struct worker *w = state;

    (void)svc;
    for (size_t i = 0; i < WORKER_REQS_MAX; i++)
        if (w->reqs[i].parts != NULL)
            free_req(&w->reqs[i]);
    engine_free(w->engine);
    w->engine = NULL;
    worker_keys_free(&w->keys);
    llm_model_free(w->model);
    llm_model_free(w->draft);
    w->model = w->draft = NULL;
    base_timer_free(w->postpone);
    base_timer_free(w->notice);
    w->postpone = w->notice = NULL;
    base_buf_free(&w->packed);
}

/* ---- the device, declared --------------------------------------------------------------------------------------- */

static const struct svc_route routes[] = {
    {DBE_MSG_L7_CHAT_REQ, on_request},
    {DBE_MSG_L7_EMBED_REQ, on_request},
    {DBE_MSG_L7_MODEL_STATUS, on_model_status},
    {0, NULL},
};

#define FIELD(f) .offset = offsetof(struct worker, f), .size = sizeof((struct worker *)0)->f
static const struct svc_param params[] = {
    {.key = "model",
     .unit = "file",
     .kind = SVC_PARAM_TEXT,
     .def_text = "",
     FIELD(model_path),
     .doc = "GGUF file; required"},
    {.key = "draft-model",
     .unit = "file",
     .kind = SVC_PARAM_TEXT,
     .def_text = "",
     FIELD(draft_path),
     .doc = "smaller GGUF file of the same vocabulary that guesses tokens ahead; answers stay the same"},
    {.key = "model-name",
     .unit = "name",
     .kind = SVC_PARAM_TEXT,
     .def_text = "",
     FIELD(model_name),
     .doc = "name for clients; default: the one in the file"},
    {.key = "profile",
     .unit = "profile",
     .kind = SVC_PARAM_TEXT,
     .def_text = WORKER_PROFILE,
     FIELD(profile),
     .doc = "L7_PROFILE that selects this worker"},
    {.key = "threads",
     .unit = "threads",
     .kind = SVC_PARAM_UINT,
     .def = 0,
     .min = 0,
     .max = LLM_THREADS_MAX,
     FIELD(threads),
     .doc = "threads that compute; 0: one a CPU"},
    {.key = "memory-budget-mib",
     .unit = "MiB",
     .kind = SVC_PARAM_UINT,
     .def = WORKER_MEMORY_MIB,
     .min = 1,
     .max = 1 << 24,
     FIELD(memory_budget_mib),
     .doc = "memory of the device: a model whose weights, workspace and KV budget exceed it is refused"},
    {.key = "kv-budget-mib",
     .unit = "MiB",
     .kind = SVC_PARAM_UINT,
     .def = WORKER_KV_MIB,
     .min = 1,
     .max = 1 << 20,
     FIELD(kv_budget_mib),
     .doc = "memory for the KV caches of all sessions"},
    {.key = "kv-type",
     .unit = "type",
     .kind = SVC_PARAM_TEXT,
     .def_text = "f16",
     FIELD(kv_type),
     .doc = "values of the KV caches: f16, or int8 for half the memory"},
    {.key = "max-sessions",
     .unit = "sessions",
     .kind = SVC_PARAM_UINT,
     .def = 8,
     .min = 1,
     .max = ENGINE_SESSIONS_MAX,
     FIELD(max_sessions),
     .doc = "chats computed in turns"},
    {.key = "queue-max",
     .unit = "chats",
     .kind = SVC_PARAM_UINT,
     .def = 64,
     .min = 0,
     .max = ENGINE_QUEUE_MAX,
     FIELD(queue_max),
     .doc = "chats that wait; further ones are refused with E_LIMIT"},
    {.key = "ctx-max",
     .unit = "tokens",
     .kind = SVC_PARAM_UINT,
     .def = 0,
     .min = 0,
     .max = 1 << 20,
     FIELD(ctx_max),
     .doc = "cap on the context of a chat; 0: what the model was trained for"},
    {.key = "lookup",
     .unit = "tokens",
     .kind = SVC_PARAM_UINT,
     .def = 4,
     .min = 0,
     .max = LLM_DRAFTS_MAX,
     FIELD(lookup),
     .doc = "tokens guessed ahead from what the text said before; answers stay the same; 0: none"},
    {.key = "temperature",
     .unit = "0..2",
     .kind = SVC_PARAM_DOUBLE,
     .def = 0.7,
     .min = 0,
     .max = 2,
     FIELD(temperature),
     .doc = "of a request that names none"},
    {.key = "top-p",
     .unit = "0..1",
     .kind = SVC_PARAM_DOUBLE,
     .def = 1.0,
     .min = 0.001,
     .max = 1,
     FIELD(top_p),
     .doc = "of a request that names none"},
    {0},
};

#define COUNTER(metric, words, how, f)                                                                                 \
    {                                                                                                                  \
        metric, words, WORKER_LABEL, how, offsetof(struct worker, f)                                                   \
    }
static const struct svc_counter counters[] = {
    COUNTER("dsmil_l7_worker_chat_total", "chat requests received", SVC_COUNTER, requests),
    COUNTER("dsmil_l7_worker_refused_total", "of these, refused or failed", SVC_COUNTER, refused),
    COUNTER("dsmil_l7_worker_cancelled_total", "of these, left by their caller", SVC_COUNTER, cancelled),
    COUNTER("dsmil_l7_prompt_tokens_total", "tokens of prompts of ended chats", SVC_COUNTER, prompt_tokens),
    COUNTER("dsmil_l7_worker_sessions", "chats being computed", SVC_GAUGE, running),
    COUNTER("dsmil_l7_worker_queued", "chats that wait", SVC_GAUGE, queued),
    COUNTER("dsmil_l7_tokens_per_second", "speed of the last answer after its first token", SVC_GAUGE, tokens_per_s),
    COUNTER("dsmil_l7_memory_limit_bytes", "memory of the device", SVC_GAUGE, memory_limit),
    COUNTER("dsmil_l7_kv_used_bytes", "KV caches that chats hold", SVC_GAUGE, kv_used),
    COUNTER("dsmil_l7_kv_limit_bytes", "KV caches that chats may hold together", SVC_GAUGE, kv_limit),
    COUNTER("dsmil_l7_passes_total", "forward passes, each of which reads the weights once", SVC_COUNTER, stats.passes),
    COUNTER("dsmil_l7_decode_rows_total", "tokens of answers in these", SVC_COUNTER, stats.decode_rows),
    COUNTER("dsmil_l7_prefill_rows_total", "tokens of prompts in these", SVC_COUNTER, stats.prefill_rows),
    COUNTER("dsmil_l7_batch_size", "answers a pass, on average over the last second", SVC_GAUGE, batch_rows),
    COUNTER("dsmil_l7_prefix_lookups_total", "prompts looked up in the prefix cache", SVC_COUNTER,
            stats.prefix_lookups),
    COUNTER("dsmil_l7_prefix_hits_total", "of these, prompts that began with cached pages", SVC_COUNTER,
            stats.prefix_hits),
    COUNTER("dsmil_l7_prefix_reused_tokens_total", "tokens that were not computed again", SVC_COUNTER,
            stats.prefix_reused_tokens),
    COUNTER("dsmil_l7_prefix_cached_bytes", "pages in the prefix cache", SVC_GAUGE, stats.prefix_cached_bytes),
    COUNTER("dsmil_l7_read_bandwidth_bytes", "bytes a second that memory can be read with, measured at start",
            SVC_GAUGE, read_bytes_per_s),
    COUNTER("dsmil_l7_read_bandwidth_used_percent", "of these, weights read in the last second", SVC_GAUGE,
            read_percent),
    {0},
};

extern const struct svc_device l7_worker_device;
const struct svc_device l7_worker_device = {
    .device_id = DEVICE,
    .layer = 7,
    .role = DBE_ROLE_WORKER,
    .name = WORKER_NAME,
    .purpose = "answer chats with a language model that runs on this machine",
    .state_size = sizeof(struct worker),
    .routes = routes,
    .params = params,
    .counters = counters,
    .init = worker_init,
    .tick = worker_tick,
    .wake = worker_wake,
    .drain = worker_drain,
    .dump = worker_dump,
    .fini = worker_fini,
};

#ifndef DSMIL_TEST
SVC_MAIN(l7_worker_device)
#endif
