/* SPDX-License-Identifier: Apache-2.0
 *
 * job.c - what one request holds: its message, its worker, its place in the queue.
 *
 * In:   steps of its walk (steps.c, failover.c, waiting.c)
 * Out:  the counters of the router and of the worker's breaker go along
 * Not:  no step is decided here
 */
#include "devices/l7_router/walk.h"

#include <string.h>

enum router_step job_refuse(struct router_job *job, dbe_err err, const char *reason, const char *status)
{
    job->err = err;
    job->reason = reason;
    job->status = status;
    return ROUTER_REFUSE;
}

bool job_keep(struct router_job *job, const struct dbe_msg *msg)
{
    struct router *r = job->router;

    if (job->kept != NULL)
        return true;
    uint8_t *copy = r->kept_bytes + msg->len <= ROUTER_KEPT_MAX_BYTES ? base_alloc(1, msg->len) : NULL;
    if (copy == NULL) {
        r->not_kept++;
        return false;
    }
    memcpy(copy, msg->bytes, msg->len);
    job->kept = copy;
    job->kept_len = msg->len;
    r->kept_bytes += msg->len;
    return true;
}

void job_let_go(struct router_job *job)
{
    if (job->kept == NULL)
        return;
    job->router->kept_bytes -= job->kept_len;
    base_wipe(job->kept, job->kept_len); /* a prompt */
    base_free(job->kept);
    job->kept = NULL;
}

void job_leave_worker(struct router_job *job, enum breaker_outcome outcome)
{
    struct router *r = job->router;
    struct router_worker *w = &r->workers[job->worker];
    const uint64_t now = svc_now_ns(job->svc);

    if (!job->forwarded)
        return;
    job->forwarded = false;
    share_give_back(job->share);
    w->in_flight--;
    r->in_flight--;
    if (!job->last) /* ended by our side: the worker still computes */
        svc_call_cancel(job->svc, job->link, job->call_id);
    breaker_end(&w->breaker, &r->config.breaker, job->ticket, outcome, now);
    if (outcome == BREAKER_OK && strcmp(job->status, "ok") == 0)
        pace_note(&job->profile->pace, (double)(now - job->sent_ns) / (double)BASE_NS_PER_MS);
}

void job_leave_queue(struct router_job *job)
{
    if (job->place.tenant == NULL)
        return;
    fair_remove(&job->profile->queue, &job->place);
    job->router->queued--;
}

struct router_want job_want(const struct router_job *job)
{
    const struct router *r = job->router;

    return (struct router_want){.profile = job->profile->name,
                                .task = job->profile->task,
                                .only = job->only,
                                .tried = job->tried,
                                .ahead = r->config.ahead,
                                .now_ns = svc_now_ns(job->svc),
                                .breaker = &r->config.breaker};
}
