/* SPDX-License-Identifier: Apache-2.0
 *
 * failover.c - what comes from outside while a request waits: answers, a worker's end, the caller's leaving. A request
 * of which nothing was answered yet goes to another worker.
 *
 * In:   answers of workers, and ends of calls; the caller's leaving; a worker that stalls (status.c)
 * Out:  the walk goes on: with the answer, with another worker, or with a refusal
 * Not:  payloads are not decoded, but that of an ERROR, whose code decides whether another worker is asked
 */
#include "devices/l7_router/walk.h"

#include <string.h>

#include "dbe/payload.h"
#include "dsmil.pb-c.h"

/* ---- a worker failed -------------------------------------------------------------------------------------------- */

/* Nothing of the answer was relayed, so that another worker may give it: the caller cannot tell. */
static enum router_step try_another(struct router_job *job, enum breaker_outcome outcome, dbe_err err,
                                    const char *reason)
{
    struct router *r = job->router;

    job_leave_worker(job, outcome);
    job->tried |= 1u << job->worker;
    if (job->only != 0 || job->relayed || job->kept == NULL || job->attempts >= r->config.attempts ||
        svc_req_deadline_ns(job->req) <= svc_now_ns(job->svc))
        return job_refuse(job, err, reason, err == DBE_E_TIMEOUT ? "timeout" : "unavailable");
    r->failovers++;
    svc_log(job->svc, SVC_WARN, job->req, "worker %s failed (%s); trying another", r->workers[job->worker].name,
            reason);
    return ROUTER_SELECT;
}

/* Is this ERROR of a worker about the worker, not about the request? Then another may do better. */
static bool is_workers_own(const struct dbe_msg *msg, enum breaker_outcome *ret)
{
    Dsmil__ErrorReply *e = NULL;

    if (msg->type == DBE_MSG_ERROR && dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) == DBE_OK)
        e = dsmil__error_reply__unpack(NULL, msg->payload_len, msg->payload);
    if (e == NULL)
        return false;
    const struct dbe_err_row *row = e->code <= INT32_MAX ? dbe_reg_err((int)e->code) : NULL;
    const enum dbe_err_class class = row != NULL ? dbe_err_class((dbe_err)row->err) : DBE_CLASS_DROP;
    const bool busy = e->code == DBE_E_LIMIT || e->code == DBE_E_UNAVAILABLE || e->code == DBE_E_AGAIN;
    const bool broken = class == DBE_CLASS_FATAL || class == DBE_CLASS_LOCAL || e->code == DBE_E_NOMEM;

    dsmil__error_reply__free_unpacked(e, NULL);
    *ret = broken ? BREAKER_FAILED : BREAKER_UNKNOWN;
    return busy || broken;
}

/* Would another worker take it now? One that answers with an error of its own is the better end, if not. */
static bool has_another(struct router_job *job)
{
    struct router *r = job->router;
    struct router_want want = job_want(job);
    size_t row;

    want.tried |= 1u << job->worker;
    return job->kept != NULL && !job->relayed && job->attempts < r->config.attempts &&
           router_select(r->workers, r->worker_count, &want, &row) == DBE_OK;
}

/* ---- what comes in ---------------------------------------------------------------------------------------------- */

/* The call has ended without an answer: there is nothing to cancel. */
static void call_ended(struct router_job *job, dbe_err err)
{
    /* A channel that went down counts once, whatever went with it (status.c); the caller's deadline not at all. */
    enum breaker_outcome outcome =
        dbe_err_class(err) == DBE_CLASS_PEER || err == DBE_E_TIMEOUT ? BREAKER_UNKNOWN : BREAKER_FAILED;

    job->outcome = outcome;
    if (err == DBE_E_CLOSED) /* calls hear of it before the link does: nothing more for this worker */
        job->router->workers[job->worker].ready = false;
    if (err == DBE_E_TIMEOUT)
        job_walk(job, job_refuse(job, DBE_E_TIMEOUT, NULL, "timeout"), NULL);
    else
        job_walk_kept(
            job, try_another(job, outcome, DBE_E_UNAVAILABLE, "the worker went away before its answer was complete"));
}

void job_on_answer(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct router_job *job = ctx;
    struct router *r = job->router;

    job->last = last;
    job->outcome = BREAKER_OK;
    if (msg == NULL) {
        call_ended(job, err);
    } else if (msg->type == DBE_MSG_ERROR && is_workers_own(msg, &job->outcome) && has_another(job)) {
        job_walk_kept(job, try_another(job, job->outcome, DBE_E_UNAVAILABLE, "the worker could not take it"));
    } else {
        job->status = msg->type == DBE_MSG_ERROR ? "error" : "ok";
        job_walk(job, ROUTER_RELAY, msg);
    }
    router_dispatch(r);
}

void job_on_gone(void *user, struct svc_req *req, dbe_err why)
{
    struct router_job *job = user;
    struct router *r = job->router;

    (void)req;
    job->status = why == DBE_E_TIMEOUT ? "timeout" : "cancelled";
    r->cancelled++;
    job_walk(job, ROUTER_DONE, NULL);
    router_dispatch(r);
}

void router_abandon(struct router *r, size_t row)
{
    for (size_t i = 0; i < r->jobs_begun; i++) {
        struct router_job *job = &r->jobs[i];
        if (job->used && job->forwarded && job->worker == row && job->step == ROUTER_AWAIT)
            job_walk_kept(job, try_another(job, BREAKER_FAILED, DBE_E_UNAVAILABLE, "the worker has stalled"));
    }
    router_dispatch(r);
}
