/* SPDX-License-Identifier: Apache-2.0
 *
 * req_life.c - requests that are being served: the list of them, their deadlines, their ends.
 *
 * In:   requests that were admitted (req.c); last answers and refusals (answer.c); the callers' leaving; the clock
 * Out:  the device is told of who is gone; one log line and the counters for each request that ended
 * Not:  what a request may do, and who handles it: req.c
 *
 * A request ends once: finished (last answer, refusal) or gone (cancelled, late, channel down).
 */
#include "runtime/crash.h"
#include "runtime/priv.h"

/* Counters of a request that ended with `code`. */
static void count_end(struct svc *svc, const struct svc_req *req, dbe_err code)
{
    const char *status = code == DBE_OK ? "ok" : dbe_err_name(code), *device = svc->metrics.device_id;
    double seconds = (double)svc_req_elapsed_us(req) / 1e6;
    char labels[SVC_LABELS_MAX];

    svc_labels(labels, "device_id", device, "status", status, NULL);
    svc_metric_add(&svc->metrics, SVC_M_dsmil_device_requests_total, labels, 1);
    svc_labels(labels, "device_id", device, "operation", svc_msg_name(req->type), NULL);
    svc_metric_observe(&svc->metrics, SVC_M_dsmil_device_latency_seconds, labels, seconds);
    svc_labels(labels, "node", svc->node_name, "device_id", device, "msg_type", svc_msg_name(req->type), NULL);
    svc_metric_observe(&svc->metrics, SVC_M_dbe_message_latency_seconds, labels, seconds);
    if (code == DBE_OK)
        return;
    svc_labels(labels, "device_id", device, "error_type", status, NULL);
    svc_metric_add(&svc->metrics, SVC_M_dsmil_device_errors_total, labels, 1);
    svc_count_error(svc, code);
}

static void log_end(struct svc *svc, const struct svc_req *req, dbe_err code, const char *reason)
{
    const struct svc_field fields[] = {
        {.key = "msg_type", .text = svc_msg_name(req->type)},
        {.key = "status", .text = code == DBE_OK ? "ok" : dbe_err_name(code)},
        {.key = "device_id_src", .number = req->src_device},
        {.key = "elapsed_us", .number = svc_req_elapsed_us(req)},
        {.key = "reason", .text = reason},
    };
    const struct svc_event e = {.type = "request",
                                .request_id = req->id,
                                .tenant = req->labels.tenant,
                                .fields = fields,
                                .field_count = reason != NULL ? 5 : 4};
    bool routine = code == DBE_OK && req->type != DBE_MSG_L7_CHAT_REQ && req->type != DBE_MSG_L7_EMBED_REQ &&
                   req->type != DBE_MSG_L7_AGENT_TASK;
    enum svc_level level = routine ? SVC_DEBUG : code == DBE_OK || code == DBE_E_CANCELLED ? SVC_INFO : SVC_WARN;

    svc_log_event(svc, level, &e, "%s %s", svc_msg_name(req->type), code == DBE_OK ? "answered" : dbe_err_text(code));
}

void svc_reqs_arm(struct svc *svc)
{
    uint64_t next = UINT64_MAX;

    for (const struct svc_req *r = svc->reqs; r != NULL; r = r->next)
        next = BASE_MIN(next, r->deadline_ns);
    base_timer_set(svc->deadline_timer, next == UINT64_MAX ? 0 : BASE_MAX(next, (uint64_t)1));
}

void svc_req_link(struct svc *svc, struct svc_req *req)
{
    req->next = svc->reqs;
    req->prev = &svc->reqs;
    if (req->next != NULL)
        req->next->prev = &req->next;
    svc->reqs = req;
    svc->req_count++;
    svc_reqs_arm(svc);
}

void svc_req_end(struct svc_req *req, dbe_err code, const char *reason)
{
    struct svc *svc = req->svc;

    svc_crash_note("a request ended; number: its error", req->id, (uint64_t)code);
    count_end(svc, req, code);
    log_end(svc, req, code, reason);
    *req->prev = req->next;
    if (req->next != NULL)
        req->next->prev = req->prev;
    svc->req_count--;
    if (svc->handling == req)
        svc->handling = NULL;
    base_free(req);
}

void svc_req_gone(struct svc_req *req, dbe_err why)
{
    void (*on_gone)(void *, struct svc_req *, dbe_err) = req->on_gone;

    req->gone = true;
    req->on_gone = NULL;
    if (on_gone != NULL)
        on_gone(req->user, req, why);
    svc_req_end(req, why, NULL);
}

void svc_reqs_end(struct svc *svc, struct dbe_peer *peer, dbe_err why)
{
    for (;;) { /* a callback may end others: look from the start each time */
        struct svc_req *req = svc->reqs;
        while (req != NULL && (req->gone || (peer != NULL && req->peer != peer)))
            req = req->next;
        if (req == NULL)
            return;
        svc_req_gone(req, why);
    }
}

void svc_reqs_deadline(void *ctx)
{
    struct svc *svc = ctx;
    uint64_t now = base_mono_ns();

    for (;;) {
        struct svc_req *req = svc->reqs;
        while (req != NULL && (req->gone || req->deadline_ns > now))
            req = req->next;
        if (req == NULL)
            break;
        if (req->answers && svc_send_error(svc, req->peer, req->correlation, req->id, &req->labels,
                                           &(struct svc_refusal){.code = DBE_E_TIMEOUT}, NULL) != DBE_OK)
            svc_count_error(svc, DBE_E_LIMIT);
        svc_req_gone(req, DBE_E_TIMEOUT);
    }
    svc_reqs_arm(svc);
}
