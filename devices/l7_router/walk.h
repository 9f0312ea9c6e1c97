/* SPDX-License-Identifier: Apache-2.0
 *
 * walk.h - what the files of one request's walk share: steps.c (the walk), job.c (what a request holds), failover.c
 * (what comes in meanwhile), waiting.c (the queue). All of it runs on the service's thread.
 *
 * A function that walks may end the job: its caller looks at it no more.
 */
#ifndef L7_ROUTER_WALK_H
#define L7_ROUTER_WALK_H

#include "devices/l7_router/router.h"

/* ---- steps.c ---------------------------------------------------------------------------------------------------- */

/* Run steps until the job has to wait or is done; it is gone then. `msg`: what the step works on; NULL: nothing. */
void job_walk(struct router_job *job, enum router_step step, const struct dbe_msg *msg);
/* The same with the message that was kept, where `step` is SELECT; else with none. */
void job_walk_kept(struct router_job *job, enum router_step step);

/* ---- job.c ------------------------------------------------------------------------------------------------------ */

/* Set what REFUSE shall say, and go there. `reason` and `status` are static; `reason` may be NULL. */
enum router_step job_refuse(struct router_job *job, dbe_err err, const char *reason, const char *status);
/* Keep the message, should it have to be sent later or again. False: there is no memory for it. */
bool job_keep(struct router_job *job, const struct dbe_msg *msg);
/* Wipe and free what was kept, if anything. */
void job_let_go(struct router_job *job);
/* The request has left its worker, one way or another. Takes one that is at none. */
void job_leave_worker(struct router_job *job, enum breaker_outcome outcome);
/* Out of its profile's queue. Takes one that is in none. */
void job_leave_queue(struct router_job *job);
/* What it asks of a worker. Points into the job. */
struct router_want job_want(const struct router_job *job);

/* ---- failover.c ------------------------------------------------------------------------------------------------- */

/* One answer of the worker, or the end of the call: `ctx` is the job. */
void job_on_answer(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err);
/* The caller cancelled, its deadline passed or its channel ended: `req` is gone when this returns. */
void job_on_gone(void *user, struct svc_req *req, dbe_err why);

/* ---- waiting.c -------------------------------------------------------------------------------------------------- */

/* Has it to wait, whether or not a worker has a place: because its tenant holds all that it may, or behind others? */
bool job_must_wait(struct router_job *job);
/* The step QUEUE: AWAIT, or REFUSE where there is no room to wait. */
enum router_step job_step_queue(struct router_job *job, const struct dbe_msg *msg);

#endif
