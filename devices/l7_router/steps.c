/* SPDX-License-Identifier: Apache-2.0
 *
 * steps.c - one chat request from the moment policy has allowed it.
 *
 *   (RECV, CLAIM, POLICY: the runtime's pol_decide)
 *   SELECT -> FORWARD -> AWAIT -> RELAY -> DONE        AWAIT and RELAY repeat while the answer streams
 *      any -> REFUSE -> DONE                            no worker, worker died, deadline, slow caller
 *
 * In:   L7_CHAT_REQ; answers of the worker; the caller's leaving
 * Out:  the worker's answers with a new header, or one ERROR
 * Not:  payloads are passed on and never decoded
 */
#include "devices/l7_router/router.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef enum router_step step_fn(struct router_job *job, const struct dbe_msg *msg);

static void walk(struct router_job *job, enum router_step step, const struct dbe_msg *msg);

static enum router_step refuse(struct router_job *job, dbe_err err, const char *reason, const char *status)
{
    job->err = err;
    job->reason = reason;
    job->status = status;
    return ROUTER_REFUSE;
}

/* ---- what comes in while a job waits ---------------------------------------------------------------------------- */

/* One answer of the worker, or the end of the call. */
static void on_answer(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct router_job *job = ctx;

    if (msg != NULL) {
        job->last = last;
        job->status = msg->type == DBE_MSG_ERROR ? "error" : "ok";
        walk(job, ROUTER_RELAY, msg);
        return;
    }
    job->last = true; /* the call has ended: there is nothing to cancel */
    if (err == DBE_E_TIMEOUT)
        walk(job, refuse(job, DBE_E_TIMEOUT, NULL, "timeout"), NULL);
    else
        walk(job, refuse(job, DBE_E_UNAVAILABLE, "the worker went away before its answer was complete", "unavailable"),
             NULL);
}

/* The caller cancelled, its deadline passed or its channel ended: `req` is gone when this returns. */
static void on_gone(void *user, struct svc_req *req, dbe_err why)
{
    struct router_job *job = user;

    (void)req;
    job->status = why == DBE_E_TIMEOUT ? "timeout" : "cancelled";
    job->router->cancelled++;
    walk(job, ROUTER_DONE, NULL);
}

/* ---- steps ------------------------------------------------------------------------------------------------------ */

static enum router_step step_select(struct router_job *job, const struct dbe_msg *msg)
{
    struct router *r = job->router;
    dbe_err err = dbe_tlv_text(msg, DBE_TLV_L7_PROFILE, job->profile, sizeof job->profile);

    if (err == DBE_E_NOT_FOUND)
        (void)snprintf(job->profile, sizeof job->profile, "%s", r->default_profile);
    else if (err != DBE_OK)
        return refuse(job, err, NULL, "error");
    err = router_select(r->workers, r->worker_count, job->profile, &job->worker);
    switch (err) {
    case DBE_OK: break;
    case DBE_E_PROFILE: return refuse(job, err, NULL, "denied");
    case DBE_E_LIMIT: return refuse(job, err, "all workers of this profile are busy", "limited");
    default: return refuse(job, err, "no worker of this profile is up", "unavailable");
    }
    job->link = r->links[job->worker];
    return ROUTER_FORWARD;
}

static enum router_step step_forward(struct router_job *job, const struct dbe_msg *msg)
{
    dbe_err err = svc_forward(job->svc, job->req, msg, job->link, on_answer, job, &job->call_id);

    if (err != DBE_OK)
        return refuse(job, dbe_err_class(err) == DBE_CLASS_PEER ? DBE_E_UNAVAILABLE : err, NULL, "error");
    job->forwarded = true;
    job->router->workers[job->worker].in_flight++;
    job->router->in_flight++;
    svc_req_on_gone(job->req, on_gone);
    return ROUTER_AWAIT;
}

static enum router_step step_relay(struct router_job *job, const struct dbe_msg *msg)
{
    dbe_err err = svc_relay(job->svc, job->req, msg, job->last);

    if (err == DBE_OK)
        return job->last ? ROUTER_DONE : ROUTER_AWAIT;
    /* An answer with a hole in it is worse than none. */
    return refuse(job, err, err == DBE_E_LIMIT ? "the caller reads too slowly" : NULL, "error");
}

static enum router_step step_refuse(struct router_job *job, const struct dbe_msg *msg)
{
    (void)msg;
    job->router->refused++;
    svc_log(job->svc, SVC_WARN, job->req, "chat refused: %s, profile %s: %s", dbe_err_name(job->err), job->profile,
            job->reason != NULL ? job->reason : dbe_err_text(job->err));
    svc_refuse(job->svc, job->req, job->err, NULL, job->reason);
    return ROUTER_DONE;
}

/* Labels name only profiles that a row of ours serves: a caller cannot grow the metrics. */
static void count(const struct router_job *job)
{
    const char *profile = "unknown";
    char labels[160];

    for (size_t i = 0; i < job->router->worker_count; i++)
        if (router_serves(&job->router->workers[i], job->profile))
            profile = job->profile;
    (void)snprintf(labels, sizeof labels, "device_id=\"43\",profile=\"%s\",status=\"%s\"", profile, job->status);
    svc_count(job->svc, "dsmil_l7_requests_total", labels, 1);
    (void)snprintf(labels, sizeof labels, "device_id=\"43\",profile=\"%s\"", profile);
    svc_observe(job->svc, "dsmil_l7_latency_seconds", labels,
                (double)(svc_now_ns(job->svc) - job->begin_ns) / (double)BASE_NS_PER_S);
}

static enum router_step step_done(struct router_job *job, const struct dbe_msg *msg)
{
    (void)msg;
    if (job->forwarded) {
        job->router->workers[job->worker].in_flight--;
        job->router->in_flight--;
        if (!job->last) /* ended by our side: the worker still computes */
            svc_call_cancel(job->svc, job->link, job->call_id);
    }
    count(job);
    memset(job, 0, sizeof *job);
    return ROUTER_DONE;
}

static const struct {
    const char *name;
    step_fn *run;
} steps[] = {
    [ROUTER_SELECT] = {"SELECT", step_select}, [ROUTER_FORWARD] = {"FORWARD", step_forward},
    [ROUTER_AWAIT] = {"AWAIT", NULL},          [ROUTER_RELAY] = {"RELAY", step_relay},
    [ROUTER_REFUSE] = {"REFUSE", step_refuse}, [ROUTER_DONE] = {"DONE", step_done},
};

/* Run steps until the job has to wait or is done; it is gone then. */
static void walk(struct router_job *job, enum router_step step, const struct dbe_msg *msg)
{
    for (;;) {
        BASE_INVARIANT(job->used);
        job->step = step;
        if (step == ROUTER_AWAIT)
            return;
        step = steps[step].run(job, msg);
        if (!job->used)
            return;
    }
}

void router_abandon(struct router *r, size_t row)
{
    for (size_t i = 0; i < ROUTER_JOBS_MAX; i++) {
        struct router_job *job = &r->jobs[i];
        if (job->used && job->forwarded && job->worker == row && job->step == ROUTER_AWAIT)
            walk(job, refuse(job, DBE_E_UNAVAILABLE, "the worker has stalled", "unavailable"), NULL);
    }
}

const char *router_step_name(enum router_step step)
{
    return steps[step].name;
}

dbe_err router_on_chat(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    struct router *r = state;

    r->requests++;
    for (size_t i = 0; i < ROUTER_JOBS_MAX; i++) {
        struct router_job *job = &r->jobs[i];
        if (job->used)
            continue;
        *job = (struct router_job){
            .svc = svc, .router = r, .req = req, .used = true, .status = "error", .begin_ns = svc_now_ns(svc)};
        svc_req_set_user(req, job);
        walk(job, ROUTER_SELECT, msg);
        return DBE_OK;
    }
    return DBE_E_LIMIT;
}
