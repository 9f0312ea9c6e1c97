/* SPDX-License-Identifier: Apache-2.0
 *
 * steps.c - one request from the moment policy has allowed it.
 *
 *   (RECV, CLAIM, POLICY: the runtime's pol_decide)
 *   ADMIT -> SELECT -> FORWARD -> AWAIT -> RELAY -> DONE    AWAIT and RELAY repeat while the answer streams
 *              |  ^       |         |
 *              v  |       +----<----+     a worker failed and nothing was relayed yet: another one
 *             QUEUE                       no place: wait for one
 *      any -> REFUSE -> DONE              no worker, worker died, waited too long, slow caller
 *
 * In:   requests of the mesh; from failover.c and waiting.c, how they go on
 * Out:  the worker's answers with a new header, or one ERROR
 * Not:  payloads are passed on and never decoded. What a request holds: job.c
 */
#include "devices/l7_router/walk.h"

#include <stdio.h>
#include <string.h>

#include "audit/audit.h"

#define LIMITS_RULE "tenant-limits"

typedef enum router_step step_fn(struct router_job *job, const struct dbe_msg *msg);

/* ---- to a worker ------------------------------------------------------------------------------------------------ */

/* The profile's row; one that a worker serves gets one with its first request. NULL: nobody serves it. */
static struct router_profile *profile_named(struct router *r, const char *name, bool task)
{
    bool served = false;

    for (size_t i = 0; i < r->profile_count; i++)
        if (r->profiles[i].task == task && strcmp(r->profiles[i].name, name) == 0)
            return &r->profiles[i];
    for (size_t i = 0; i < r->worker_count; i++)
        served = served || (r->workers[i].tasks == task && router_serves(&r->workers[i], name));
    if (!served || r->profile_count == ROUTER_PROFILES_MAX)
        return NULL;
    struct router_profile *p = &r->profiles[r->profile_count++];
    (void)snprintf(p->name, sizeof p->name, "%s", name);
    p->task = task;
    return p;
}

/* What the tenant may still use, after policy and before a place is looked for. */
static enum router_step take_quota(struct router_job *job, const struct dbe_msg *msg)
{
    dbe_err err = router_quota_take(job, msg);

    if (err != DBE_OK) {
        job->limited = job->hold.why.limit != NULL;
        if (job->limited) /* policy's, though it is asked here: who used up what belongs into the log */
            svc_audit_req(job->svc, AUDIT_LIMIT, job->req, err, LIMITS_RULE, job->hold.why.reason);
        return job_refuse(job, err, job->limited ? job->hold.why.reason : NULL, "limited");
    }
    return job_must_wait(job) ? ROUTER_QUEUE : ROUTER_SELECT;
}

/* Profile and limits. */
static enum router_step step_admit(struct router_job *job, const struct dbe_msg *msg)
{
    struct router *r = job->router;
    const bool task = msg->type == DBE_MSG_L7_AGENT_TASK;
    char name[ROUTER_PROFILE_MAX_BYTES + 1];
    dbe_err err = task ? DBE_E_NOT_FOUND : dbe_tlv_text(msg, DBE_TLV_L7_PROFILE, name, sizeof name);

    if (err == DBE_E_NOT_FOUND) /* a task's profile is that of the agent's own calls */
        (void)snprintf(name, sizeof name, "%s", task ? ROUTER_TASK_PROFILE : r->config.default_profile);
    else if (err != DBE_OK)
        return job_refuse(job, err, NULL, "error");
    err = dbe_tlv_u8(msg, DBE_TLV_SEALED_TO, &job->only);
    if (err != DBE_OK && err != DBE_E_NOT_FOUND)
        return job_refuse(job, err, NULL, "error");
    if (err == DBE_OK && job->only == 0) /* no worker is device 0 */
        return job_refuse(job, DBE_E_RANGE, "sealed to a device that is no worker", "error");
    job->profile = profile_named(r, name, task);
    if (job->profile == NULL)
        return job_refuse(job, DBE_E_PROFILE, NULL, "denied");
    return take_quota(job, msg);
}

static enum router_step step_select(struct router_job *job, const struct dbe_msg *msg)
{
    struct router *r = job->router;
    struct router_want want = job_want(job);
    dbe_err err = router_select(r->workers, r->worker_count, &want, &job->worker);

    (void)msg;
    switch (err) {
    case DBE_OK: job->link = r->links[job->worker]; return ROUTER_FORWARD;
    case DBE_E_PROFILE: return job_refuse(job, err, NULL, "denied");
    case DBE_E_LIMIT: job->reason = "all workers of this profile are busy"; break;
    default:
        job->reason =
            job->only != 0 ? "the worker that the prompt is sealed to is not up" : "no worker of this profile is up";
        break;
    }
    job->err = err;
    return ROUTER_QUEUE;
}

/* Is there another worker that could take the request, should this one fail? */
static bool has_spare(const struct router_job *job)
{
    const struct router *r = job->router;

    for (size_t i = 0; i < r->worker_count && job->only == 0; i++)
        if (i != job->worker && r->workers[i].tasks == job->profile->task && (job->tried >> i & 1) == 0 &&
            router_serves(&r->workers[i], job->profile->name))
            return true;
    return false;
}

static enum router_step step_forward(struct router_job *job, const struct dbe_msg *msg)
{
    struct router *r = job->router;
    struct router_worker *w = &r->workers[job->worker];

    if (has_spare(job))
        (void)job_keep(job, msg); /* without it there is no second try, and that is all */
    dbe_err err = svc_forward(job->svc, job->req, msg, job->link, job_on_answer, job, &job->call_id);
    if (err != DBE_OK && dbe_err_class(err) != DBE_CLASS_PEER && err != DBE_E_UNAVAILABLE)
        return job_refuse(job, err, NULL, "error");
    job->tried |= err != DBE_OK ? 1u << job->worker : 0;
    if (err != DBE_OK)
        return job->kept != NULL ? ROUTER_SELECT : job_refuse(job, DBE_E_UNAVAILABLE, NULL, "unavailable");
    job->sent_ns = svc_now_ns(job->svc);
    job->ticket = breaker_begin(&w->breaker, &r->config.breaker, job->sent_ns);
    job->forwarded = true;
    job->last = false;
    job->attempts++;
    job->share = share_take(&job->profile->shares, svc_req_labels(job->req)->tenant);
    w->in_flight++;
    r->in_flight++;
    if (!has_spare(job))
        job_let_go(job); /* it waited, and `msg` was in it */
    return ROUTER_AWAIT;
}

/* ---- to the caller ---------------------------------------------------------------------------------------------- */

static enum router_step step_relay(struct router_job *job, const struct dbe_msg *msg)
{
    if (job->last)
        router_quota_note(job, msg);
    dbe_err err = svc_relay(job->svc, job->req, msg, job->last);

    if (err == DBE_OK && !job->relayed) { /* from here on no other worker can answer */
        job->relayed = true;
        job_let_go(job);
    }
    if (err == DBE_OK)
        return job->last ? ROUTER_DONE : ROUTER_AWAIT;
    /* An answer with a hole in it is worse than none. */
    return job_refuse(job, err, err == DBE_E_LIMIT ? "the caller reads too slowly" : NULL, "error");
}

static enum router_step step_refuse(struct router_job *job, const struct dbe_msg *msg)
{
    struct router *r = job->router;
    const struct router_profile *p = job->profile;
    uint32_t retry_ms = 0;

    (void)msg;
    if (job->limited)
        retry_ms = (uint32_t)BASE_MIN(job->hold.why.retry_after_ms, (uint64_t)UINT32_MAX);
    else if (p != NULL && (job->err == DBE_E_LIMIT || job->err == DBE_E_UNAVAILABLE))
        retry_ms =
            pace_retry_ms(&p->pace, p->queue.count, router_places(r->workers, r->worker_count, p->name, p->task));
    r->refused++;
    svc_log(job->svc, SVC_WARN, job->req, "refused: %s, profile %s: %s", dbe_err_name(job->err),
            p != NULL ? p->name : "unknown", job->reason != NULL ? job->reason : dbe_err_text(job->err));
    svc_refuse_for(job->svc, job->req, job->err, job->limited ? LIMITS_RULE : NULL, job->reason, retry_ms);
    return ROUTER_DONE;
}

/* Labels name only profiles that a row of ours serves: a caller cannot grow the metrics. */
static void count(const struct router_job *job)
{
    const char *profile = job->profile != NULL ? job->profile->name : "unknown";
    char labels[160];

    (void)snprintf(labels, sizeof labels, "device_id=\"43\",profile=\"%s\",status=\"%s\"", profile, job->status);
    svc_count(job->svc, "dsmil_l7_requests_total", labels, 1);
    (void)snprintf(labels, sizeof labels, "device_id=\"43\",profile=\"%s\"", profile);
    svc_observe(job->svc, "dsmil_l7_latency_seconds", labels,
                (double)(svc_now_ns(job->svc) - job->begin_ns) / (double)BASE_NS_PER_S);
}

static enum router_step step_done(struct router_job *job, const struct dbe_msg *msg)
{
    struct router *r = job->router;

    (void)msg;
    job_leave_queue(job);
    job_leave_worker(job, job->last ? job->outcome : BREAKER_UNKNOWN);
    router_quota_end(job);
    job_let_go(job);
    count(job);
    *job = (struct router_job){.next_free = r->free_jobs};
    r->free_jobs = job;
    return ROUTER_DONE;
}

/* ---- the walk --------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    step_fn *run;
} steps[] = {
    [ROUTER_ADMIT] = {"ADMIT", step_admit},     [ROUTER_SELECT] = {"SELECT", step_select},
    [ROUTER_QUEUE] = {"QUEUE", job_step_queue}, [ROUTER_FORWARD] = {"FORWARD", step_forward},
    [ROUTER_AWAIT] = {"AWAIT", NULL},           [ROUTER_RELAY] = {"RELAY", step_relay},
    [ROUTER_REFUSE] = {"REFUSE", step_refuse},  [ROUTER_DONE] = {"DONE", step_done},
};

void job_walk(struct router_job *job, enum router_step step, const struct dbe_msg *msg)
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

void job_walk_kept(struct router_job *job, enum router_step step)
{
    struct dbe_msg msg;

    if (step == ROUTER_SELECT && dbe_msg_decode(job->kept, job->kept_len, &msg, NULL) != DBE_OK)
        step = job_refuse(job, DBE_E_STATE, NULL, "error"); /* it was decoded when it came */
    job_walk(job, step, step == ROUTER_SELECT ? &msg : NULL);
}

const char *router_step_name(enum router_step step)
{
    return steps[step].name;
}

/* ---- beginning -------------------------------------------------------------------------------------------------- */

static struct router_job *job_new(struct router *r)
{
    struct router_job *job = r->free_jobs;

    if (job != NULL)
        r->free_jobs = job->next_free;
    else if (r->jobs_begun < ROUTER_JOBS_MAX)
        job = &r->jobs[r->jobs_begun++];
    return job;
}

static void count_kind(struct router *r, uint8_t type)
{
    r->chats += type == DBE_MSG_L7_CHAT_REQ;
    r->embeddings += type == DBE_MSG_L7_EMBED_REQ;
    r->tasks += type == DBE_MSG_L7_AGENT_TASK;
}

dbe_err router_on_request(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    struct router *r = state;
    struct router_job *job = job_new(r);

    count_kind(r, msg->type);
    if (job == NULL)
        return DBE_E_LIMIT;
    *job = (struct router_job){
        .svc = svc, .router = r, .req = req, .used = true, .status = "error", .begin_ns = svc_now_ns(svc)};
    svc_req_set_user(req, job);
    svc_req_on_gone(req, job_on_gone);
    job_walk(job, ROUTER_ADMIT, msg);
    return DBE_OK;
}
