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
 * In:   requests of the mesh; answers of workers; the caller's leaving; changes of workers
 * Out:  the worker's answers with a new header, or one ERROR
 * Not:  payloads are passed on and never decoded, but that of an ERROR, whose code decides whether another worker is
 *       asked
 */
#include "devices/l7_router/router.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "audit/audit.h"
#include "dbe/payload.h"
#include "dsmil.pb-c.h"

#define LIMITS_RULE "tenant-limits"

typedef enum router_step step_fn(struct router_job *job, const struct dbe_msg *msg);

static void walk(struct router_job *job, enum router_step step, const struct dbe_msg *msg);

static enum router_step refuse(struct router_job *job, dbe_err err, const char *reason, const char *status)
{
    job->err = err;
    job->reason = reason;
    job->status = status;
    return ROUTER_REFUSE;
}

/* ---- what a job holds ------------------------------------------------------------------------------------------- */

/* Keep the message, should it have to be sent later or again. False: there is no memory for it. */
static bool keep(struct router_job *job, const struct dbe_msg *msg)
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

static void let_go(struct router_job *job)
{
    if (job->kept == NULL)
        return;
    job->router->kept_bytes -= job->kept_len;
    base_wipe(job->kept, job->kept_len); /* a prompt */
    base_free(job->kept);
    job->kept = NULL;
}

/* The request has left its worker, one way or another. */
static void leave_worker(struct router_job *job, enum breaker_outcome outcome)
{
    struct router *r = job->router;
    struct router_worker *w = &r->workers[job->worker];
    const uint64_t now = svc_now_ns(job->svc);

    if (!job->forwarded)
        return;
    job->forwarded = false;
    w->in_flight--;
    r->in_flight--;
    if (!job->last) /* ended by our side: the worker still computes */
        svc_call_cancel(job->svc, job->link, job->call_id);
    breaker_end(&w->breaker, &r->config.breaker, job->ticket, outcome, now);
    if (outcome == BREAKER_OK && strcmp(job->status, "ok") == 0)
        pace_note(&job->profile->pace, (double)(now - job->sent_ns) / (double)BASE_NS_PER_MS);
}

static void leave_queue(struct router_job *job)
{
    if (job->place.tenant == NULL)
        return;
    fair_remove(&job->profile->queue, &job->place);
    job->router->queued--;
}

/* Places that the profile's workers have together. */
static uint64_t places(const struct router *r, const struct router_profile *p)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < r->worker_count; i++) {
        const struct router_worker *w = &r->workers[i];
        if (w->tasks == p->task && w->up && w->ready && router_serves(w, p->name))
            sum += BASE_MAX(w->sessions != 0 ? w->sessions : w->max_requests, 1u);
    }
    return sum;
}

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

static struct router_want want_of(const struct router_job *job)
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

/* ---- a worker failed -------------------------------------------------------------------------------------------- */

/* Nothing of the answer was relayed, so that another worker may give it: the caller cannot tell. */
static enum router_step try_another(struct router_job *job, enum breaker_outcome outcome, dbe_err err,
                                    const char *reason)
{
    struct router *r = job->router;

    leave_worker(job, outcome);
    job->tried |= 1u << job->worker;
    if (job->only != 0 || job->relayed || job->kept == NULL || job->attempts >= r->config.attempts ||
        svc_req_deadline_ns(job->req) <= svc_now_ns(job->svc))
        return refuse(job, err, reason, err == DBE_E_TIMEOUT ? "timeout" : "unavailable");
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

/* ---- what comes in while a job waits ---------------------------------------------------------------------------- */

/* Go on with what was kept. */
static void walk_kept(struct router_job *job, enum router_step step)
{
    struct dbe_msg msg;

    if (step == ROUTER_SELECT && dbe_msg_decode(job->kept, job->kept_len, &msg, NULL) != DBE_OK)
        step = refuse(job, DBE_E_STATE, NULL, "error"); /* it was decoded when it came */
    walk(job, step, step == ROUTER_SELECT ? &msg : NULL);
}

/* Would another worker take it now? One that answers with an error of its own is the better end, if not. */
static bool has_another(struct router_job *job)
{
    struct router *r = job->router;
    struct router_want want = want_of(job);
    size_t row;

    want.tried |= 1u << job->worker;
    return job->kept != NULL && !job->relayed && job->attempts < r->config.attempts &&
           router_select(r->workers, r->worker_count, &want, &row) == DBE_OK;
}

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
        walk(job, refuse(job, DBE_E_TIMEOUT, NULL, "timeout"), NULL);
    else
        walk_kept(job,
                  try_another(job, outcome, DBE_E_UNAVAILABLE, "the worker went away before its answer was complete"));
}

/* One answer of the worker, or the end of the call. */
static void on_answer(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct router_job *job = ctx;
    struct router *r = job->router;

    job->last = last;
    job->outcome = BREAKER_OK;
    if (msg == NULL) {
        call_ended(job, err);
    } else if (msg->type == DBE_MSG_ERROR && is_workers_own(msg, &job->outcome) && has_another(job)) {
        walk_kept(job, try_another(job, job->outcome, DBE_E_UNAVAILABLE, "the worker could not take it"));
    } else {
        job->status = msg->type == DBE_MSG_ERROR ? "error" : "ok";
        walk(job, ROUTER_RELAY, msg);
    }
    router_dispatch(r);
}

/* The caller cancelled, its deadline passed or its channel ended: `req` is gone when this returns. */
static void on_gone(void *user, struct svc_req *req, dbe_err why)
{
    struct router_job *job = user;
    struct router *r = job->router;

    (void)req;
    job->status = why == DBE_E_TIMEOUT ? "timeout" : "cancelled";
    r->cancelled++;
    walk(job, ROUTER_DONE, NULL);
    router_dispatch(r);
}

/* ---- steps ------------------------------------------------------------------------------------------------------ */

/* What the tenant may still use, after policy and before a place is looked for. */
static enum router_step take_quota(struct router_job *job, const struct dbe_msg *msg)
{
    dbe_err err = router_quota_take(job, msg);

    if (err != DBE_OK) {
        job->limited = job->hold.why.limit != NULL;
        if (job->limited) /* policy's, though it is asked here: who used up what belongs into the log */
            svc_audit_req(job->svc, AUDIT_LIMIT, job->req, err, LIMITS_RULE, job->hold.why.reason);
        return refuse(job, err, job->limited ? job->hold.why.reason : NULL, "limited");
    }
    return job->profile->queue.count > 0 ? ROUTER_QUEUE : ROUTER_SELECT; /* nobody overtakes those that wait */
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
        return refuse(job, err, NULL, "error");
    err = dbe_tlv_u8(msg, DBE_TLV_SEALED_TO, &job->only);
    if (err != DBE_OK && err != DBE_E_NOT_FOUND)
        return refuse(job, err, NULL, "error");
    if (err == DBE_OK && job->only == 0) /* no worker is device 0 */
        return refuse(job, DBE_E_RANGE, "sealed to a device that is no worker", "error");
    job->profile = profile_named(r, name, task);
    if (job->profile == NULL)
        return refuse(job, DBE_E_PROFILE, NULL, "denied");
    return take_quota(job, msg);
}

static enum router_step step_select(struct router_job *job, const struct dbe_msg *msg)
{
    struct router *r = job->router;
    struct router_want want = want_of(job);
    dbe_err err = router_select(r->workers, r->worker_count, &want, &job->worker);

    (void)msg;
    switch (err) {
    case DBE_OK: job->link = r->links[job->worker]; return ROUTER_FORWARD;
    case DBE_E_PROFILE: return refuse(job, err, NULL, "denied");
    case DBE_E_LIMIT: job->reason = "all workers of this profile are busy"; break;
    default:
        job->reason =
            job->only != 0 ? "the worker that the prompt is sealed to is not up" : "no worker of this profile is up";
        break;
    }
    job->err = err;
    return ROUTER_QUEUE;
}

static struct router_job *job_of(struct fair_entry *place)
{
    return (struct router_job *)(void *)((uint8_t *)place - offsetof(struct router_job, place));
}

static void arm_queue_timer(struct router *r)
{
    uint64_t next = UINT64_MAX;

    for (size_t i = 0; i < r->profile_count; i++) {
        const struct router_profile *p = &r->profiles[i];
        if (p->queue.oldest != NULL)
            next = BASE_MIN(next, job_of(p->queue.oldest)->queued_ns +
                                      router_config_limits(&r->config, p->name)->wait_ms * BASE_NS_PER_MS);
    }
    base_timer_set(r->queue_timer, next == UINT64_MAX ? 0 : next);
}

static enum router_step step_queue(struct router_job *job, const struct dbe_msg *msg)
{
    struct router *r = job->router;
    const struct router_limits *limits = router_config_limits(&r->config, job->profile->name);
    struct fair_entry *evicted = NULL;

    if (job->err == DBE_OK) { /* behind others, who know why they wait */
        job->err = DBE_E_LIMIT;
        job->reason = "all workers of this profile are busy";
    }
    job->status = job->err == DBE_E_LIMIT ? "limited" : "unavailable";
    if (limits->overload == ROUTER_OVERLOAD_REJECT || !keep(job, msg) ||
        fair_push(&job->profile->queue, limits->max, svc_req_labels(job->req)->tenant, &job->place, &evicted) !=
            DBE_OK) {
        r->rejected++;
        return ROUTER_REFUSE;
    }
    job->queued_ns = svc_now_ns(job->svc);
    r->queued++;
    if (evicted != NULL) {
        struct router_job *other = job_of(evicted);
        r->queued--;
        r->rejected++;
        walk(other, refuse(other, DBE_E_LIMIT, "others of your tenant wait already", "limited"), NULL);
    }
    arm_queue_timer(r);
    return ROUTER_AWAIT;
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
        (void)keep(job, msg); /* without it there is no second try, and that is all */
    dbe_err err = svc_forward(job->svc, job->req, msg, job->link, on_answer, job, &job->call_id);
    if (err != DBE_OK && dbe_err_class(err) != DBE_CLASS_PEER && err != DBE_E_UNAVAILABLE)
        return refuse(job, err, NULL, "error");
    job->tried |= err != DBE_OK ? 1u << job->worker : 0;
    if (err != DBE_OK)
        return job->kept != NULL ? ROUTER_SELECT : refuse(job, DBE_E_UNAVAILABLE, NULL, "unavailable");
    job->sent_ns = svc_now_ns(job->svc);
    job->ticket = breaker_begin(&w->breaker, &r->config.breaker, job->sent_ns);
    job->forwarded = true;
    job->last = false;
    job->attempts++;
    w->in_flight++;
    r->in_flight++;
    if (!has_spare(job))
        let_go(job); /* it waited, and `msg` was in it */
    return ROUTER_AWAIT;
}

static enum router_step step_relay(struct router_job *job, const struct dbe_msg *msg)
{
    if (job->last)
        router_quota_note(job, msg);
    dbe_err err = svc_relay(job->svc, job->req, msg, job->last);

    if (err == DBE_OK && !job->relayed) { /* from here on no other worker can answer */
        job->relayed = true;
        let_go(job);
    }
    if (err == DBE_OK)
        return job->last ? ROUTER_DONE : ROUTER_AWAIT;
    /* An answer with a hole in it is worse than none. */
    return refuse(job, err, err == DBE_E_LIMIT ? "the caller reads too slowly" : NULL, "error");
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
        retry_ms = pace_retry_ms(&p->pace, p->queue.count, places(r, p));
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
    leave_queue(job);
    leave_worker(job, job->last ? job->outcome : BREAKER_UNKNOWN);
    router_quota_end(job);
    let_go(job);
    count(job);
    *job = (struct router_job){.next_free = r->free_jobs};
    r->free_jobs = job;
    return ROUTER_DONE;
}

static const struct {
    const char *name;
    step_fn *run;
} steps[] = {
    [ROUTER_ADMIT] = {"ADMIT", step_admit},    [ROUTER_SELECT] = {"SELECT", step_select},
    [ROUTER_QUEUE] = {"QUEUE", step_queue},    [ROUTER_FORWARD] = {"FORWARD", step_forward},
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

const char *router_step_name(enum router_step step)
{
    return steps[step].name;
}

/* ---- those that wait -------------------------------------------------------------------------------------------- */

static void expire(struct router *r, struct router_profile *p)
{
    const uint64_t wait_ns = router_config_limits(&r->config, p->name)->wait_ms * BASE_NS_PER_MS;

    while (p->queue.oldest != NULL) {
        struct router_job *job = job_of(p->queue.oldest);
        if (svc_now_ns(job->svc) < job->queued_ns + wait_ns)
            return;
        r->expired++;
        leave_queue(job);
        walk(job, ROUTER_REFUSE, NULL);
    }
}

/* The next of those that wait, if there is a place for it. */
static bool serve_next(struct router *r, struct router_profile *p)
{
    size_t row;

    if (p->queue.oldest == NULL)
        return false;
    struct router_want want = want_of(job_of(p->queue.oldest));
    want.tried = 0;
    if (router_select(r->workers, r->worker_count, &want, &row) != DBE_OK)
        return false;
    struct router_job *job = job_of(fair_pop(&p->queue));
    r->queued--;
    job->err = DBE_OK;
    job->tried = 0; /* what failed before may be well again */
    walk_kept(job, ROUTER_SELECT);
    return true;
}

void router_dispatch(struct router *r)
{
    if (r->dispatching || r->queued == 0)
        return;
    r->dispatching = true;
    for (size_t i = 0; i < r->profile_count; i++) {
        struct router_profile *p = &r->profiles[i];
        expire(r, p);
        for (size_t n = p->queue.count; n > 0 && serve_next(r, p); n--)
            ;
    }
    r->dispatching = false;
    arm_queue_timer(r);
}

void router_on_queue_timer(void *ctx)
{
    router_dispatch(ctx);
}

void router_abandon(struct router *r, size_t row)
{
    for (size_t i = 0; i < r->jobs_begun; i++) {
        struct router_job *job = &r->jobs[i];
        if (job->used && job->forwarded && job->worker == row && job->step == ROUTER_AWAIT)
            walk_kept(job, try_another(job, BREAKER_FAILED, DBE_E_UNAVAILABLE, "the worker has stalled"));
    }
    router_dispatch(r);
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

dbe_err router_on_request(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    struct router *r = state;
    struct router_job *job = job_new(r);

    r->requests++;
    if (job == NULL)
        return DBE_E_LIMIT;
    *job = (struct router_job){
        .svc = svc, .router = r, .req = req, .used = true, .status = "error", .begin_ns = svc_now_ns(svc)};
    svc_req_set_user(req, job);
    svc_req_on_gone(req, on_gone);
    walk(job, ROUTER_ADMIT, msg);
    return DBE_OK;
}
