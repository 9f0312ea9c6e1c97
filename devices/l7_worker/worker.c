/* SPDX-License-Identifier: Apache-2.0
 *
 * worker.c - a language model worker of layer 7: device 47, or another by instance.h.
 *
 * In:   L7_CHAT_REQ, L7_EMBED_REQ and L7_MODEL_STATUS, from the router
 * Out:  L7_CHAT_RESP, whole or in chunks; L7_EMBED_RESP; L7_MODEL_STATUS
 * Does: loads one model, hands chats to the engine's thread and sends what it
 *       tells; a caller that leaves ends its own
 * Not:  no text of a chat in a log, ever; no arithmetic here (engine.c, llm/)
 *
 * Reading order: tables at the bottom, accept.c, deliver.c, report.c.      Source: 001 section 3.2.
 * Tests: request_test.c, tools_test.c, answer_test.c, engine_test.c, engine_says_test.c, model_file_test.c
 */
#include "devices/l7_worker/worker.h"

#include <inttypes.h>

#include "dbe/payload.h"

static void wake_loop(void *ctx)
{
    svc_wake(ctx);
}

static dbe_err worker_init(struct svc *svc, void *state, struct dbe_diag *diag)
{
    struct worker *w = state;

    w->svc = svc;
    w->created_unix = base_wall_ms() / 1000;
    base_buf_init(&w->packed, DBE_PAYLOAD_MAX_BYTES);
    DBE_TRY(worker_keys_tick(&w->keys, svc_credential(svc), base_wall_ms()));
    DBE_TRY(worker_load_model(w, diag));
    DBE_TRY(worker_load_draft(w, diag));
    DBE_TRY(base_loop_timer(svc_loop(svc), worker_on_postponed, w, &w->postpone));
    DBE_TRY(base_loop_timer(svc_loop(svc), worker_on_notice, w, &w->notice));
    struct engine_params params = {.model = w->model,
                                   .sessions_max = (uint32_t)w->max_sessions,
                                   .queue_max = (uint32_t)w->queue_max,
                                   .wake = wake_loop,
                                   .ctx = svc};
    const struct aside_params aside = {.queue_max = WORKER_FORMING_MAX, .wake = wake_loop, .ctx = svc};
    DBE_TRY(aside_new(&aside, &w->aside));
    return engine_new(&params, &w->engine);
}

static void worker_drain(struct svc *svc, void *state)
{
    struct worker *w = state;

    (void)svc;
    w->draining = true;
    worker_tell_status(w, false, true);
}

static void worker_dump(const void *state, struct svc_dump *out)
{
    const struct worker *w = state;

    svc_dumpf(out, "model=%s running=%" PRIu64 " queued=%" PRIu64, w->model_name, w->running, w->queued);
    for (size_t i = 0; i < WORKER_REQS_MAX; i++)
        if (w->reqs[i].req != NULL)
            svc_dumpf(out, "request slot=%zu stream=%d forming=%d elapsed_us=%" PRIu64, i, w->reqs[i].stream,
                      w->reqs[i].forming != NULL, svc_req_elapsed_us(w->reqs[i].req));
}

static void worker_fini(struct svc *svc, void *state)
{
    struct worker *w = state;

    (void)svc;
    for (size_t i = 0; i < WORKER_REQS_MAX; i++)
        if (w->reqs[i].req != NULL)
            worker_req_free(&w->reqs[i]);
    engine_free(w->engine);
    aside_free(w->aside);
    w->engine = NULL;
    w->aside = NULL;
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
    {DBE_MSG_L7_CHAT_REQ, worker_on_request},
    {DBE_MSG_L7_EMBED_REQ, worker_on_request},
    {DBE_MSG_L7_MODEL_STATUS, worker_on_model_status},
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
     .def = 32,
     .min = 1,
     .max = ENGINE_SESSIONS_MAX,
     FIELD(max_sessions),
     .doc = "chats computed together, as far as the KV budget holds them; further ones wait"},
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

#define LABELLED(metric, words, labels, how, f)                                                                        \
    {                                                                                                                  \
        metric, words, WORKER_LABEL labels, how, offsetof(struct worker, f)                                            \
    }
#define COUNTER(metric, words, how, f) LABELLED(metric, words, "", how, f)
#define BY_KIND(name, f)                                                                                               \
    LABELLED("dsmil_l7_worker_requests_total", "requests received, by kind", ",kind=\"" name "\"", SVC_COUNTER, f)
static const struct svc_counter counters[] = {
    BY_KIND("chat", chats),
    BY_KIND("embedding", embeddings),
    COUNTER("dsmil_l7_worker_refused_total", "of these, refused or failed", SVC_COUNTER, refused),
    COUNTER("dsmil_l7_worker_sealed_refused_total", "sealed prompts that did not open", SVC_COUNTER, unopened),
    COUNTER("dsmil_l7_worker_cancelled_total", "of these, left by their caller", SVC_COUNTER, cancelled),
    COUNTER("dsmil_l7_prompt_tokens_total", "tokens of prompts of ended requests", SVC_COUNTER, prompt_tokens),
    COUNTER("dsmil_l7_worker_sessions", "chats being computed", SVC_GAUGE, running),
    COUNTER("dsmil_l7_worker_queued", "chats that wait", SVC_GAUGE, queued),
    COUNTER("dsmil_l7_worker_forming", "chats whose schemas are being translated", SVC_GAUGE, forming),
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
