/* SPDX-License-Identifier: Apache-2.0
 *
 * router.h - state of the layer 7 router, shared by its files: router.c (tables, life), status.c (workers), steps.c,
 * job.c, failover.c, waiting.c (one request; walk.h), config.c (l7_router.yaml).
 */
#ifndef L7_ROUTER_ROUTER_H
#define L7_ROUTER_ROUTER_H

#include "devices/l7_router/accounts.h"
#include "devices/l7_router/config.h"
#include "devices/l7_router/fair.h"
#include "devices/l7_router/quota.h"
#include "devices/l7_router/pace.h"
#include "devices/l7_router/select.h"
#include "devices/l7_router/share.h"
#include "runtime/svc.h"

enum {
    ROUTER_JOBS_MAX = 4096,                   /* requests between ADMIT and DONE */
    ROUTER_STATUS_MAX_BYTES = 256 * 1024,     /* of what we say that we serve, with all cards */
    ROUTER_KEPT_MAX_BYTES = 64 * 1024 * 1024, /* messages kept to wait, or to be sent again */
};

#define ROUTER_TASK_PROFILE "agent" /* that agents serve: tasks go by their kind, not by a profile of theirs */

struct router;

/* The walk of one request; steps.c draws it. */
enum router_step {
    ROUTER_ADMIT,   /* profile; limits */
    ROUTER_SELECT,  /* profile -> worker */
    ROUTER_QUEUE,   /* no place: wait for one */
    ROUTER_FORWARD, /* send it there */
    ROUTER_AWAIT,   /* nothing to do until an answer, an end, a place or the caller's leaving */
    ROUTER_RELAY,   /* pass one answer on */
    ROUTER_REFUSE,  /* say why there is none */
    ROUTER_DONE,    /* count, give the slot back */
};

struct router_profile { /* requests of one profile and kind */
    char name[ROUTER_PROFILE_MAX_BYTES + 1];
    bool task;
    struct fair_queue queue;
    struct share_table shares; /* places that tenants hold */
    struct pace pace;
};

struct router_job {
    struct svc *svc;
    struct router *router;
    struct svc_req *req;
    struct svc_link *link; /* set by SELECT */
    size_t worker;         /* row; valid once forwarded */
    uint64_t call_id;      /* valid once forwarded */
    uint64_t ticket;       /* of the worker's breaker; valid once forwarded */
    struct share *share;   /* that its place counts in; valid once forwarded */
    enum router_step step;
    bool used, forwarded, relayed, last;
    dbe_err err;        /* what REFUSE says */
    const char *reason; /* static, may be NULL */
    const char *status; /* label of dsmil_l7_requests_total; static */
    uint64_t begin_ns, sent_ns, queued_ns;
    struct router_profile *profile; /* NULL: not known yet, or unknown */
    struct fair_entry place;        /* in the profile's queue */
    struct router_hold hold;        /* of the tenant's limits */
    bool limited;                   /* refused by one of them */
    uint8_t only;                   /* device of the worker that the payload is sealed to; 0: any */
    uint32_t tried;                 /* rows that failed */
    uint32_t attempts;              /* times it was sent to a worker */
    enum breaker_outcome outcome;   /* of the last message */
    uint8_t *kept;                  /* the request's message, while it may have to be sent later or again */
    size_t kept_len;
    struct router_job *next_free;
};

/* The question to one worker that stays open: its status as a stream. */
struct router_watch {
    struct svc *svc;
    struct router *router;
    bool open, stalled, told; /* told: it has said once how it is */
    uint64_t call_id, heard_ns;
};

struct router {
    struct router_worker workers[ROUTER_WORKERS_MAX];
    struct svc_link *links[ROUTER_WORKERS_MAX]; /* NULL: no address configured */
    struct router_watch watches[ROUTER_WORKERS_MAX];
    size_t worker_count;
    bool settled;                 /* all workers that are there have said how they are; stays so */
    bool changed;                 /* what we serve, since we said it last */
    struct svc_watchers watchers; /* of it */
    struct base_buf packed;       /* as it is told; kept for its memory */
    struct router_profile profiles[ROUTER_PROFILES_MAX];
    size_t profile_count;
    struct pol_rates *rates;             /* what tenants use */
    struct router_accounts accounts;     /* the same, over a restart */
    struct router_job *jobs, *free_jobs; /* ROUTER_JOBS_MAX */
    size_t jobs_begun;                   /* those beyond were never used */
    size_t kept_bytes;
    bool dispatching;
    struct base_timer *queue_timer;
    struct router_config config;
    struct router_file file;
    uint64_t chats, embeddings, tasks; /* that policy allowed */
    uint64_t refused, cancelled, in_flight, queued, rejected, expired, failovers, not_kept;
    uint64_t reloads, reloads_refused; /* counters, too */
};

extern const struct svc_device l7_router_device;

/* Handler of L7_POLICY_CHECK. */
dbe_err router_on_policy_check(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg);

/* ---- steps.c ---------------------------------------------------------------------------------------------------- */

/* Handler of every request that a worker or an agent answers. */
dbe_err router_on_request(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg);
const char *router_step_name(enum router_step step);

/* ---- failover.c ------------------------------------------------------------------------------------------------- */

/* The worker in `row` has stalled: its requests go to another, or are refused; nobody waits as long as it may take. */
void router_abandon(struct router *r, size_t row);

/* ---- waiting.c -------------------------------------------------------------------------------------------------- */

/* Something has changed: whoever waits and now has a place goes on, whoever waits too long is told. */
void router_dispatch(struct router *r);
void router_on_queue_timer(void *ctx);

/* ---- status.c --------------------------------------------------------------------------------------------------- */

void router_status_tick(struct svc *svc, struct router *r);
void router_status_link(struct svc *svc, struct router *r, const struct svc_link *link, bool up);
/* One that answers chats is ready, and at the start nobody is waited for any more. */
bool router_status_ready(const struct router *r);
void router_status_drain(struct svc *svc, struct router *r);
void router_status_free(struct router *r);
/* Handler of L7_MODEL_STATUS: models of all workers that are up; as a stream to who wants to watch. */
dbe_err router_on_model_status(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg);

#endif
