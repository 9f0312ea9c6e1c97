/* SPDX-License-Identifier: Apache-2.0
 *
 * accept.c - a request of the router on its way to the engine: opened, checked, given a slot; and left by its caller.
 *
 * In:   L7_CHAT_REQ, L7_EMBED_REQ     Out: jobs of the engine, refusals
 */
#include "devices/l7_worker/worker.h"

static void on_gone(void *user, struct svc_req *req, dbe_err why)
{
    struct worker_req *wr = user;
    struct worker *w = wr->worker;

    w->cancelled++;
    worker_count_outcome(w, why == DBE_E_TIMEOUT ? "timeout" : "cancelled", svc_req_elapsed_us(req) * BASE_NS_PER_US);
    svc_log(w->svc, SVC_INFO, req, "chat left by its caller: %s", dbe_err_name(why));
    worker_req_free(wr);
    worker_load_changed(w);
}

static struct worker_req *free_slot(struct worker *w)
{
    for (size_t i = 0; i < WORKER_REQS_MAX; i++)
        if (w->reqs[i].req == NULL)
            return &w->reqs[i];
    return NULL;
}

struct counts { /* of answers: to all prompts, and to each */
    uint32_t all, each;
};

/* Hand a checked request to the engine. On error what it owns is freed. */
static dbe_err begin(struct worker *w, struct worker_req *wr, const struct engine_chat *chat,
                     const struct counts *counts)
{
    struct worker_part *parts = base_alloc(counts->all, sizeof *parts);

    if (parts == NULL) {
        chat->free_owned(chat->owned);
        return DBE_E_NOMEM;
    }
    *wr = (struct worker_req){.worker = w,
                              .stream = chat->stream,
                              .embed = chat->input_count > 0,
                              .chat = *chat,
                              .count = counts->all,
                              .n = counts->each,
                              .input_count = chat->input_count,
                              .parts = parts};
    dbe_err err = worker_begin_part(w, wr);
    if (err != DBE_OK)
        worker_req_free(wr);
    return err;
}

static struct worker_defaults defaults_of(const struct worker *w)
{
    return (struct worker_defaults){(float)w->temperature, (float)w->top_p, llm_model_info(w->model)->n_vocab,
                                    worker_tool_style_of(w->model)};
}

static dbe_err read_clear(struct worker *w, struct svc_req *req, const void *payload, size_t len,
                          struct worker_private *private, struct engine_chat *ret, struct counts *ret_counts,
                          const char **reason)
{
    const struct worker_defaults defaults = defaults_of(w);
    const struct pol_labels *labels = svc_req_labels(req);
    struct worker_request request;

    DBE_TRY(worker_request_read(payload, len, &defaults, &request, reason));
    request.chat.params.lookup_tokens = (uint32_t)w->lookup;
    request.chat.params.draft = w->draft;
    *ret_counts = (struct counts){request.count, request.n};
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
                         struct worker_private *private, struct engine_chat *ret, struct counts *ret_counts,
                         const char **reason)
{
    struct base_buf plain;

    if (!worker_is_sealed(msg))
        return read_clear(w, req, msg->payload, msg->payload_len, private, ret, ret_counts, reason);
    base_buf_init(&plain, WORKER_REQUEST_MAX_BYTES);
    dbe_err err = worker_open(&w->keys, msg, svc_req_labels(req), DEVICE, svc_req_id(req), base_wall_ms(), &plain,
                              private, reason);
    if (err == DBE_OK)
        err = read_clear(w, req, plain.data, plain.len, private, ret, ret_counts, reason);
    base_buf_free(&plain); /* wiped */
    return err;
}

dbe_err worker_on_request(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    struct worker *w = state;
    struct worker_req *wr = free_slot(w);
    struct engine_chat chat;
    struct worker_private private = {0};
    struct counts counts = {1, 1};
    const struct worker_defaults defaults = defaults_of(w);
    const char *reason = "the queue is full; try again later";
    dbe_err err = DBE_E_LIMIT;

    (void)svc;
    w->requests++;
    if (wr != NULL)
        err = msg->type == DBE_MSG_L7_EMBED_REQ && !worker_is_sealed(msg)
                  ? worker_request_read_embed(msg->payload, msg->payload_len, &defaults, &chat, &reason)
                  : read_chat(w, req, msg, &private, &chat, &counts, &reason);
    if (err == DBE_OK) {
        err = begin(w, wr, &chat, &counts);
        reason = err == DBE_E_LIMIT ? "the queue is full; try again later" : NULL;
    }
    if (err != DBE_OK) {
        worker_private_free(&private);
        worker_count_outcome(w, err == DBE_E_LIMIT ? "limited" : "error", 0);
        worker_refuse(w, req, err, reason);
        return DBE_OK;
    }
    wr->req = req;
    wr->private = private;
    worker_load_changed(w);
    svc_req_set_user(req, wr);
    svc_req_on_gone(req, on_gone);
    return DBE_OK;
}
