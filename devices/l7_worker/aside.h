/* SPDX-License-Identifier: Apache-2.0
 *
 * aside.h - work that would hold up the event loop, done beside it in one thread: in turns of those it is for, with a
 * bound on what waits.
 *
 * In:   a function and what it works on     Out: its error and reason, told through the owner's loop
 * Not:  it knows nothing of what is done
 *
 * Threads: every function on the owner's thread, the same one always. `wake` and `run` are called from the other.
 */
#ifndef L7_WORKER_ASIDE_H
#define L7_WORKER_ASIDE_H

#include "base/base.h"

enum { ASIDE_QUEUE_MAX = 1024, ASIDE_WHO_MAX = 64 };

struct aside;
struct aside_job;

struct aside_params {
    uint32_t queue_max; /* jobs that are not done; a quarter of them, and at least one, for each that they are for */
    void (*wake)(void *ctx); /* there is news: call aside_news soon. Any thread. */
    void *ctx;
};

struct aside_work {
    dbe_err (*run)(void *arg, struct dbe_diag *diag); /* in the other thread */
    void (*drop)(void *arg);                          /* of a job that nobody takes; in either thread */
    void *arg;
    const char *who; /* for whom it is done; copied, up to ASIDE_WHO_MAX bytes of it */
};

dbe_err aside_new(const struct aside_params *params, struct aside **ret) DBE_MUST_CHECK;
/* Waits for what is being done; drops everything. Takes NULL. */
void aside_free(struct aside *aside);

/* Queue a piece of work. On success work->arg is the job's; on error it stays the caller's. E_LIMIT: too many wait, of
 * all or of this one; E_NOMEM. */
dbe_err aside_submit(struct aside *aside, const struct aside_work *work, void *user,
                     struct aside_job **ret) DBE_MUST_CHECK;
/* Nobody wants it any more; the job is gone for the caller when this returns. */
void aside_cancel(struct aside_job *job);

/* Next job that is done, NULL when there is none now. It stays so until it is taken or cancelled. */
struct aside_job *aside_news(const struct aside *aside);
void *aside_job_user(const struct aside_job *job);
/* What `run` returned, and its diag (may be NULL). The job is gone, and `*ret_arg` the caller's again. */
dbe_err aside_take(struct aside_job *job, void **ret_arg, struct dbe_diag *diag) DBE_MUST_CHECK;
uint32_t aside_count(const struct aside *aside); /* jobs that are not done */

#endif
