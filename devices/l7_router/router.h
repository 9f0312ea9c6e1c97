/* SPDX-License-Identifier: Apache-2.0
 *
 * router.h - state of the layer 7 router, shared by its two files: router.c (workers, table) and steps.c (one request).
 */
#ifndef L7_ROUTER_ROUTER_H
#define L7_ROUTER_ROUTER_H

#include "devices/l7_router/select.h"
#include "runtime/svc.h"

enum { ROUTER_JOBS_MAX = 512 }; /* requests between FORWARD and DONE */

struct router;

/* The walk of one chat request; steps.c draws it. */
enum router_step {
    ROUTER_SELECT,  /* profile -> worker */
    ROUTER_FORWARD, /* send it there */
    ROUTER_AWAIT,   /* nothing to do until an answer, an end or the caller's leaving */
    ROUTER_RELAY,   /* pass one answer on */
    ROUTER_REFUSE,  /* say why there is none */
    ROUTER_DONE,    /* count, give the slot back */
};

struct router_job {
    struct svc *svc;
    struct router *router;
    struct svc_req *req;
    struct svc_link *link; /* set by SELECT */
    size_t worker;         /* row; valid once forwarded */
    uint64_t call_id;      /* valid once forwarded */
    enum router_step step;
    bool used, forwarded, last;
    dbe_err err;        /* what REFUSE says */
    const char *reason; /* static, may be NULL */
    const char *status; /* label of dsmil_l7_requests_total; static */
    uint64_t begin_ns;
    char profile[ROUTER_PROFILE_MAX_BYTES + 1];
};

/* The question to one worker that is on its way. */
struct router_ask {
    struct svc *svc;
    struct router *router;
    bool open;
    unsigned missed; /* questions in a row without an answer in time */
};

struct router {
    struct router_worker workers[ROUTER_WORKERS_MAX];
    struct svc_link *links[ROUTER_WORKERS_MAX]; /* NULL: no address configured */
    struct router_ask asks[ROUTER_WORKERS_MAX];
    size_t worker_count;
    struct router_job jobs[ROUTER_JOBS_MAX];
    char default_profile[ROUTER_PROFILE_MAX_BYTES + 1]; /* parameter */
    uint64_t requests, refused, cancelled, in_flight;   /* counters */
};

extern const struct svc_device l7_router_device;

/* Handler of L7_CHAT_REQ. */
dbe_err router_on_chat(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg);
/* Refuse every job that waits for the worker in `row`: it has stalled, and their callers need not wait as long. */
void router_abandon(struct router *r, size_t row);
const char *router_step_name(enum router_step step);

#endif
