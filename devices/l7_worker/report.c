/* SPDX-License-Identifier: Apache-2.0
 *
 * report.c - what a worker says of itself and of what it did: its status to those who watch, metrics, a line in the log
 * for each chat.
 *
 * In:   ended chats, a tick a second, L7_MODEL_STATUS     Out: L7_MODEL_STATUS, metrics, log
 * Not:  no text of a chat in a log, ever
 */
#include "devices/l7_worker/worker.h"

#include <inttypes.h>
#include <stdio.h>

#include "dsmil.pb-c.h"

/* ---- the end of a chat, in words and numbers -------------------------------------------------------------------- */

void worker_count_outcome(struct worker *w, const char *status, uint64_t total_ns)
{
    char labels[160];

    (void)snprintf(labels, sizeof labels, "device_id=\"%d\",profile=\"%s\",status=\"%s\"", DEVICE, w->profile, status);
    svc_count(w->svc, "dsmil_l7_requests_total", labels, 1);
    (void)snprintf(labels, sizeof labels, "device_id=\"%d\",profile=\"%s\"", DEVICE, w->profile);
    svc_observe(w->svc, "dsmil_l7_latency_seconds", labels, (double)total_ns / (double)BASE_NS_PER_S);
}

void worker_tell_end(struct worker *w, const struct svc_req *req, const struct engine_result *r)
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
    worker_count_outcome(w, r->err == DBE_OK ? "ok" : "error", r->total_ns);
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

/* ---- what it serves, and its load ------------------------------------------------------------------------------- */

void worker_load_changed(struct worker *w)
{
    base_timer_set(w->notice, svc_now_ns(w->svc) + WORKER_NOTICE_MS * (uint64_t)BASE_NS_PER_MS);
}

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
    status.active_requests = load.running + load.queued + aside_count(w->aside);
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

void worker_tell_status(struct worker *w, bool with_card, bool last)
{
    if (pack_status(w, with_card) == DBE_OK)
        svc_watchers_tell(w->svc, &w->watchers, DBE_MSG_L7_MODEL_STATUS, w->packed.data, w->packed.len, last);
}

void worker_on_notice(void *ctx)
{
    worker_tell_status(ctx, false, false); /* many a second: the card comes with the ticks */
}

dbe_err worker_on_model_status(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    struct worker *w = state;

    DBE_TRY(pack_status(w, true));
    return svc_watchers_answer(svc, &w->watchers, req, msg, w->packed.data, w->packed.len);
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

void worker_tick(struct svc *svc, void *state)
{
    struct worker *w = state;
    const struct llm_model_info *info = llm_model_info(w->model);
    struct engine_load load = engine_load(w->engine);

    w->running = load.running;
    w->queued = load.queued;
    w->forming = aside_count(w->aside);
    w->kv_used = llm_model_kv_used_bytes(w->model);
    watch_model(w);
    svc_count(svc, "dsmil_l7_memory_used_bytes", WORKER_LABEL,
              info->weights_bytes + info->workspace_bytes + w->kv_used);
    if (worker_keys_tick(&w->keys, svc_credential(svc), base_wall_ms()) != DBE_OK)
        svc_log(svc, SVC_ERROR, NULL, "no new key for sealed prompts could be made; the one before stays");
    worker_tell_status(w, true, false);
}
