/* SPDX-License-Identifier: Apache-2.0
 *
 * waiting.c - requests without a place: into their profile's queue, and on from there.
 *
 * In:   the walk's step QUEUE; whatever may have made a place; the queue's timer
 * Out:  one that got a place goes on with SELECT; one that waited too long, or has no room to wait, is refused
 * Not:  whose turn it is: fair.c; how much one may hold: share.c
 */
#include "devices/l7_router/walk.h"

/* ---- who may go on ---------------------------------------------------------------------------------------------- */

struct shares { /* of a profile, as things are */
    const struct share_table *table;
    uint64_t limit; /* places that one tenant may hold */
};

static struct shares shares_now(const struct router *r, const struct router_profile *p)
{
    const uint64_t places = router_places(r->workers, r->worker_count, p->name, p->task);

    return (struct shares){&p->shares, share_limit(places, r->config.reserve_percent)};
}

static bool may_hold_more(const void *ctx, const char *tenant)
{
    const struct shares *s = ctx;

    return s->limit == UINT64_MAX || share_held(s->table, tenant) < s->limit;
}

bool job_must_wait(struct router_job *job)
{
    const struct router_profile *p = job->profile;
    const struct shares shares = shares_now(job->router, p);

    if (may_hold_more(&shares, svc_req_labels(job->req)->tenant))
        return fair_next(&p->queue, may_hold_more, &shares) != NULL; /* nobody overtakes those that could go on */
    job->err = DBE_E_LIMIT;
    job->reason = "your tenant holds all places that one tenant may hold";
    return true;
}

/* ---- into the queue --------------------------------------------------------------------------------------------- */

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

enum router_step job_step_queue(struct router_job *job, const struct dbe_msg *msg)
{
    struct router *r = job->router;
    const struct router_limits *limits = router_config_limits(&r->config, job->profile->name);
    struct fair_entry *evicted = NULL;

    if (job->err == DBE_OK) { /* behind others, who know why they wait */
        job->err = DBE_E_LIMIT;
        job->reason = "all workers of this profile are busy";
    }
    job->status = job->err == DBE_E_LIMIT ? "limited" : "unavailable";
    if (limits->overload == ROUTER_OVERLOAD_REJECT || !job_keep(job, msg) ||
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
        job_walk(other, job_refuse(other, DBE_E_LIMIT, "others of your tenant wait already", "limited"), NULL);
    }
    arm_queue_timer(r);
    return ROUTER_AWAIT;
}

/* ---- out of it -------------------------------------------------------------------------------------------------- */

static void expire(struct router *r, struct router_profile *p)
{
    const uint64_t wait_ns = router_config_limits(&r->config, p->name)->wait_ms * BASE_NS_PER_MS;

    while (p->queue.oldest != NULL) {
        struct router_job *job = job_of(p->queue.oldest);
        if (svc_now_ns(job->svc) < job->queued_ns + wait_ns)
            return;
        r->expired++;
        job_leave_queue(job);
        job_walk(job, ROUTER_REFUSE, NULL);
    }
}

/* The next of those that wait, if there is a place for it. */
static bool serve_next(struct router *r, struct router_profile *p)
{
    const struct shares shares = shares_now(r, p);
    struct fair_entry *next = fair_next(&p->queue, may_hold_more, &shares);
    size_t row;

    if (next == NULL)
        return false;
    struct router_job *job = job_of(next);
    struct router_want want = job_want(job);
    want.tried = 0;
    if (router_select(r->workers, r->worker_count, &want, &row) != DBE_OK)
        return false;
    fair_take(&p->queue, next);
    r->queued--;
    job->err = DBE_OK;
    job->tried = 0; /* what failed before may be well again */
    job_walk_kept(job, ROUTER_SELECT);
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
