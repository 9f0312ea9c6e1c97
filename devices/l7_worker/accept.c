/* SPDX-License-Identifier: Apache-2.0
 *
 * accept.c - a request of the router on its way to the engine: opened, checked, given a slot, its schemas translated
 * beside the loop; and left by its caller.
 *
 * In:   L7_CHAT_REQ, L7_EMBED_REQ     Out: jobs of the engine, refusals
 */
#include "devices/l7_worker/worker.h"

#include "audit/audit.h"

#define QUEUE_FULL "the queue is full; try again later"

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

/* Hand a request that is ready to the engine, which owns what it owns then, also on error. */
static dbe_err begin(struct worker *w, struct worker_req *wr, const struct worker_request *request)
{
    const struct engine_chat *chat = &request->chat;

    wr->parts = base_alloc(request->count, sizeof *wr->parts);
    if (wr->parts == NULL) {
        chat->free_owned(chat->owned);
        return DBE_E_NOMEM;
    }
    wr->stream = chat->stream;
    wr->embed = chat->input_count > 0;
    wr->chat = *chat;
    wr->count = request->count;
    wr->n = request->n;
    wr->input_count = chat->input_count;
    return worker_begin_part(w, wr);
}

/* ---- schemas, translated beside the loop ------------------------------------------------------------------------- */

static dbe_err form(void *arg, struct dbe_diag *diag)
{
    return worker_request_form(arg, diag);
}

static void drop_request(void *arg)
{
    struct worker_request *request = arg;

    request->chat.free_owned(request->chat.owned);
    base_free(request);
}

/* What it owns is the job's or gone when this returns. */
static dbe_err form_aside(struct worker *w, struct worker_req *wr, const struct worker_request *request)
{
    struct worker_request *copy = base_alloc(1, sizeof *copy);
    dbe_err err = DBE_E_NOMEM;

    if (copy != NULL) {
        *copy = *request;
        const struct aside_work work = {form, drop_request, copy, svc_req_labels(wr->req)->tenant};
        err = aside_submit(w->aside, &work, wr, &wr->forming);
    }
    if (err != DBE_OK) {
        base_free(copy);
        request->chat.free_owned(request->chat.owned);
    }
    return err;
}

static void formed(struct worker *w, struct aside_job *job)
{
    struct worker_req *wr = aside_job_user(job);
    struct dbe_diag diag = {0};
    void *arg = NULL;

    wr->forming = NULL;
    dbe_err err = aside_take(job, &arg, &diag);
    struct worker_request request = *(struct worker_request *)arg;
    base_free(arg);
    if (err != DBE_OK)
        request.chat.free_owned(request.chat.owned);
    else
        err = begin(w, wr, &request);
    if (err == DBE_OK)
        return;
    worker_count_outcome(w, err == DBE_E_LIMIT ? "limited" : "error", 0);
    worker_give_up(wr, err, err == DBE_E_LIMIT ? QUEUE_FULL : diag.text);
}

void worker_formed(struct worker *w)
{
    struct aside_job *job;

    while (w->aside != NULL && (job = aside_news(w->aside)) != NULL)
        formed(w, job);
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

static struct worker_defaults defaults_of(const struct worker *w)
{
    return (struct worker_defaults){(float)w->temperature, (float)w->top_p, llm_model_info(w->model)->n_vocab,
                                    worker_tool_style_of(w->model)};
}

static dbe_err read_clear(struct worker *w, struct svc_req *req, const void *payload, size_t len,
                          struct worker_private *private, struct worker_request *ret, const char **reason)
{
    const struct worker_defaults defaults = defaults_of(w);
    const struct pol_labels *labels = svc_req_labels(req);
    struct worker_request request;

    DBE_TRY(worker_request_read(payload, len, &defaults, &request, reason));
    request.chat.params.lookup_tokens = (uint32_t)w->lookup;
    request.chat.params.draft = w->draft;
    *reason = NULL;
    dbe_err err = worker_request_share(
        &(struct worker_share){labels->tenant, labels->compartments, labels->classification, request.cache_key},
        &request.chat);
    if (err == DBE_OK && request.receipt)
        err = worker_receipt_begin(private, payload, len);
    if (err != DBE_OK)
        request.chat.free_owned(request.chat.owned);
    else
        *ret = request;
    return err;
}

/* A prompt that was changed on its way, or comes again, or hides that it is sealed. */
static void note_unopened(struct worker *w, const struct svc_req *req, dbe_err err, const char *reason)
{
    w->unopened++;
    svc_audit_req(w->svc, AUDIT_SEALED, req, err, "sealed", reason);
}

static dbe_err read_by_type(struct worker *w, struct svc_req *req, const struct dbe_msg *msg,
                            struct worker_private *private, struct worker_request *ret, const char **reason)
{
    const struct worker_defaults defaults = defaults_of(w);

    return msg->type == DBE_MSG_L7_EMBED_REQ
               ? worker_request_read_embed(msg->payload, msg->payload_len, &defaults, &ret->chat, reason)
               : read_clear(w, req, msg->payload, msg->payload_len, private, ret, reason);
}

static dbe_err read_request(struct worker *w, struct svc_req *req, const struct dbe_msg *msg,
                            struct worker_private *private, struct worker_request *ret, const char **reason)
{
    struct dbe_msg inner = *msg;
    bool opened = true;
    struct base_buf plain;
    dbe_err err = DBE_OK;

    base_buf_init(&plain, WORKER_REQUEST_MAX_BYTES);
    if (worker_is_sealed(msg)) {
        err = worker_open(&w->keys, msg, svc_req_labels(req), DEVICE, svc_req_id(req), base_wall_ms(), &plain, private,
                          reason);
        opened = err == DBE_OK;
        inner.payload = plain.data;
        inner.payload_len = plain.len;
    }
    if (err == DBE_OK)
        err = read_by_type(w, req, &inner, private, ret, reason);
    if (err == DBE_OK && private->talk != NULL && ret->count > private->answers) {
        ret->chat.free_owned(ret->chat.owned);
        *reason = "n: more answers than the sealed request says in clear";
        err = DBE_E_AUTH;
    }
    if (!opened || err == DBE_E_AUTH)
        note_unopened(w, req, err, *reason);
    base_buf_free(&plain); /* wiped */
    return err;
}

/* On its way to the engine, in a slot of its own. On error the slot may still hold something. */
static dbe_err take_request(struct worker *w, struct worker_req *wr, const struct dbe_msg *msg, const char **reason)
{
    struct worker_request request = {.count = 1, .n = 1, .formed = true};
    dbe_err err = read_request(w, wr->req, msg, &wr->private, &request, reason);

    if (err != DBE_OK)
        return err;
    err = request.formed ? begin(w, wr, &request) : form_aside(w, wr, &request);
    *reason = err != DBE_E_LIMIT ? NULL : request.formed ? QUEUE_FULL : "too many schemas wait; try again later";
    return err;
}

dbe_err worker_on_request(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    struct worker *w = state;
    struct worker_req *wr = free_slot(w);
    const char *reason = QUEUE_FULL;
    dbe_err err = DBE_E_LIMIT;

    (void)svc;
    w->chats += msg->type == DBE_MSG_L7_CHAT_REQ;
    w->embeddings += msg->type == DBE_MSG_L7_EMBED_REQ;
    if (wr != NULL) {
        *wr = (struct worker_req){.worker = w, .req = req};
        err = take_request(w, wr, msg, &reason);
    }
    if (err != DBE_OK) {
        if (wr != NULL)
            worker_req_free(wr);
        worker_count_outcome(w, err == DBE_E_LIMIT ? "limited" : "error", 0);
        worker_refuse(w, req, err, reason);
        return DBE_OK;
    }
    worker_load_changed(w);
    svc_req_set_user(req, wr);
    svc_req_on_gone(req, on_gone);
    return DBE_OK;
}
