/* SPDX-License-Identifier: Apache-2.0
 *
 * aside.c - see aside.h.
 *
 *   submit -> WAITS -> RUNS -> DONE -> taken; each may be cancelled
 *
 * Turns: a job's number is one more than the number of the last one of its own, or than that of the one which was begun
 * last, whichever is higher; the lowest is next. So whoever brings one job waits for one of each other, however many
 * they brought.
 */
#include "devices/l7_worker/aside.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum { NICE = 5 }; /* the model's threads go first */

enum job_state { JOB_WAITS, JOB_RUNS, JOB_DONE };

struct aside_job {
    struct aside *aside;
    struct aside_work work;
    char who[ASIDE_WHO_MAX + 1];
    void *user;
    uint64_t turn;
    enum job_state state;
    bool abandoned; /* cancelled while it ran: the other thread drops it */
    dbe_err err;
    struct dbe_diag diag;
    struct aside_job *next;
};

struct aside {
    struct aside_params params;
    pthread_t thread;
    pthread_mutex_t lock; /* of all below; not held while work is done */
    pthread_cond_t change;
    bool stop, started;
    struct aside_job *jobs; /* all, in the order they came */
    uint64_t turn;          /* of the job begun last */
};

static void job_drop(struct aside_job *job)
{
    job->work.drop(job->work.arg);
    base_free(job);
}

/* Under the lock. */
static void unlink_job(struct aside_job *job)
{
    struct aside_job **at = &job->aside->jobs;

    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
}

/* Under the lock; NULL: nothing waits. */
static struct aside_job *next_job(const struct aside *a)
{
    struct aside_job *best = NULL;

    for (struct aside_job *job = a->jobs; job != NULL; job = job->next)
        if (job->state == JOB_WAITS && (best == NULL || job->turn < best->turn))
            best = job;
    return best;
}

/* Holds the lock when called and when it returns. */
static void run_job(struct aside *a, struct aside_job *job)
{
    job->state = JOB_RUNS;
    a->turn = job->turn;
    (void)pthread_mutex_unlock(&a->lock);
    const dbe_err err = job->work.run(job->work.arg, &job->diag);
    (void)pthread_mutex_lock(&a->lock);
    job->err = err;
    job->state = JOB_DONE;
    const bool abandoned = job->abandoned;
    if (abandoned)
        unlink_job(job);
    (void)pthread_mutex_unlock(&a->lock);
    if (abandoned)
        job_drop(job);
    else
        a->params.wake(a->params.ctx);
    (void)pthread_mutex_lock(&a->lock);
}

static void *work(void *arg)
{
    struct aside *a = arg;
    struct aside_job *job;

    (void)setpriority(PRIO_PROCESS, 0, NICE); /* of this thread; where it cannot be, everything works all the same */
    (void)pthread_mutex_lock(&a->lock);
    a->started = true;
    (void)pthread_cond_broadcast(&a->change);
    while (!a->stop) {
        job = next_job(a);
        if (job != NULL)
            run_job(a, job);
        else
            (void)pthread_cond_wait(&a->change, &a->lock);
    }
    (void)pthread_mutex_unlock(&a->lock);
    return NULL;
}

/* ---- owner's thread --------------------------------------------------------------------------------------------- */

dbe_err aside_new(const struct aside_params *params, struct aside **ret)
{
    if (params->queue_max < 1 || params->queue_max > ASIDE_QUEUE_MAX)
        return DBE_E_ARGUMENT;
    struct aside *a = base_alloc(1, sizeof *a);
    if (a == NULL)
        return DBE_E_NOMEM;
    a->params = *params;
    (void)pthread_mutex_init(&a->lock, NULL);
    (void)pthread_cond_init(&a->change, NULL);
    if (pthread_create(&a->thread, NULL, work, a) != 0) {
        (void)pthread_cond_destroy(&a->change);
        (void)pthread_mutex_destroy(&a->lock);
        base_free(a);
        return DBE_E_NOMEM;
    }
    (void)pthread_mutex_lock(&a->lock);
    while (!a->started) /* what a thread does at its start, a sandbox that is entered later would not let it */
        (void)pthread_cond_wait(&a->change, &a->lock);
    (void)pthread_mutex_unlock(&a->lock);
    *ret = a;
    return DBE_OK;
}

void aside_free(struct aside *a)
{
    if (a == NULL)
        return;
    (void)pthread_mutex_lock(&a->lock);
    a->stop = true;
    (void)pthread_cond_broadcast(&a->change);
    (void)pthread_mutex_unlock(&a->lock);
    (void)pthread_join(a->thread, NULL);
    while (a->jobs != NULL) {
        struct aside_job *job = a->jobs;
        a->jobs = job->next;
        job_drop(job);
    }
    (void)pthread_cond_destroy(&a->change);
    (void)pthread_mutex_destroy(&a->lock);
    base_free(a);
}

/* Put it behind the others, with its turn. Under the lock; false: too many are not done. */
static bool enqueue(struct aside *a, struct aside_job *job)
{
    struct aside_job **end = &a->jobs;
    uint32_t all = 0, own = 0;

    job->turn = a->turn + 1;
    for (; *end != NULL; end = &(*end)->next) {
        const bool same = strcmp((*end)->who, job->who) == 0;
        all += (*end)->state != JOB_DONE;
        own += same && (*end)->state != JOB_DONE;
        if (same && (*end)->turn >= job->turn)
            job->turn = (*end)->turn + 1;
    }
    if (all >= a->params.queue_max || own >= BASE_MAX(a->params.queue_max / 4, 1U))
        return false;
    *end = job;
    return true;
}

dbe_err aside_submit(struct aside *a, const struct aside_work *piece, void *user, struct aside_job **ret)
{
    struct aside_job *job = base_alloc(1, sizeof *job);

    if (job == NULL)
        return DBE_E_NOMEM;
    job->aside = a;
    job->work = *piece;
    job->user = user;
    (void)snprintf(job->who, sizeof job->who, "%s", piece->who);
    job->work.who = job->who;
    (void)pthread_mutex_lock(&a->lock);
    const bool queued = enqueue(a, job);
    if (queued)
        (void)pthread_cond_broadcast(&a->change);
    (void)pthread_mutex_unlock(&a->lock);
    if (!queued) {
        base_free(job);
        return DBE_E_LIMIT;
    }
    *ret = job;
    return DBE_OK;
}

void aside_cancel(struct aside_job *job)
{
    struct aside *a = job->aside;

    (void)pthread_mutex_lock(&a->lock);
    const bool runs = job->state == JOB_RUNS;
    if (runs)
        job->abandoned = true;
    else
        unlink_job(job);
    (void)pthread_mutex_unlock(&a->lock);
    if (!runs)
        job_drop(job);
}

struct aside_job *aside_news(const struct aside *a)
{
    struct aside *mutable = (struct aside *)(uintptr_t)a;

    (void)pthread_mutex_lock(&mutable->lock);
    struct aside_job *job = a->jobs;
    while (job != NULL && (job->state != JOB_DONE || job->abandoned))
        job = job->next;
    (void)pthread_mutex_unlock(&mutable->lock);
    return job;
}

void *aside_job_user(const struct aside_job *job)
{
    return job->user;
}

dbe_err aside_take(struct aside_job *job, void **ret_arg, struct dbe_diag *diag)
{
    const dbe_err err = job->err;

    (void)pthread_mutex_lock(&job->aside->lock);
    unlink_job(job);
    (void)pthread_mutex_unlock(&job->aside->lock);
    *ret_arg = job->work.arg;
    if (diag != NULL)
        *diag = job->diag;
    base_free(job);
    return err;
}

uint32_t aside_count(const struct aside *a)
{
    struct aside *mutable = (struct aside *)(uintptr_t)a;
    uint32_t count = 0;

    (void)pthread_mutex_lock(&mutable->lock);
    for (const struct aside_job *job = a->jobs; job != NULL; job = job->next)
        count += job->state != JOB_DONE && !job->abandoned;
    (void)pthread_mutex_unlock(&mutable->lock);
    return count;
}
