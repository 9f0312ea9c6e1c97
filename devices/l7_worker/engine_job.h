/* SPDX-License-Identifier: Apache-2.0
 *
 * engine_job.h - the engine from the inside: its jobs, and who passes them to whom. engine.c has the owner's side,
 * engine_job.c jobs and their lists, engine_admit.c how a job begins and ends, engine_turn.c the computing thread.
 *
 *   submit -> QUEUED -> ADMITTED -> RUNNING -> ENDED -> taken
 *                (render, KV budget)  (passes)    each may be cancelled
 *
 * One mutex guards everything that both threads see; it is never held during a pass of the model.
 */
#ifndef L7_WORKER_ENGINE_JOB_H
#define L7_WORKER_ENGINE_JOB_H

#include <pthread.h>

#include "devices/l7_worker/engine.h"
#include "devices/l7_worker/says.h"

enum job_state { JOB_QUEUED, JOB_ADMITTED, JOB_RUNNING, JOB_ENDED };
enum job_place { PLACE_NONE, PLACE_NEWS, PLACE_POSTPONED };

struct engine_job {
    struct engine *engine;
    void *user;
    struct engine_chat chat;
    uint64_t submitted_ns;
    uint64_t passes_before;   /* its first token */
    struct llm_tokens prompt; /* engine's thread only, as are the next seven */
    struct engine_says says;
    size_t embedded;                                 /* inputs done */
    uint32_t prompt_tokens, cached_tokens, answered; /* of sessions before the present one */
    bool calling;
    /* under the lock */
    enum job_state state;
    enum job_place place;
    bool abandoned; /* cancelled: the engine's thread ends and frees it */
    struct llm_session *session;
    struct base_buf text, probs, call;
    struct engine_result result;
    struct engine_job *next, *next_news;
};

struct job_list {
    struct engine_job *head, *tail;
};

struct engine {
    struct engine_params params;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;
    /* under the lock */
    bool stop;
    bool admitting; /* a job is between the queue and those that run; it has its place all the while */
    bool retry;     /* a session ended: a job that found the KV budget used up may be admitted now */
    struct job_list queue;
    uint32_t queued;
    struct engine_job *running[ENGINE_SESSIONS_MAX];
    uint32_t running_count;
    struct engine_job *news, *news_tail, *postponed;
};

/* ---- engine_job.c: jobs and their lists; all under the lock ------------------------------------------------------ */

void engine_job_free(struct engine_job *job); /* one that is in no list */
void engine_queue_push(struct engine *e, struct engine_job *job, bool front);
void engine_queue_remove(struct engine *e, struct engine_job *job);
void engine_news_push(struct engine_job *job); /* unless it is there, or postponed */
void engine_news_remove(struct engine_job *job);
/* Keeps the order of the others, so that turns stay fair. */
void engine_running_remove(struct engine *e, const struct engine_job *job);
/* Replace what `to` holds. E_NOMEM. */
dbe_err engine_copy_tokens(const struct llm_tokens *from, struct llm_tokens *to) DBE_MUST_CHECK;
/* Text that nobody fetches: the session waits, and costs the others nothing. */
bool engine_job_is_paused(const struct engine_job *job);

/* ---- engine_admit.c: the engine's thread ------------------------------------------------------------------------- */

uint64_t engine_passes(const struct engine *e); /* of the model so far */
/* Take the queue's head into the running ones. Holds the lock when called and when it returns. */
void engine_admit_next(struct engine *e);
/* The answer said the mark: what follows is made anew, behind it and by the grammar. Its prompt is a cached one.
 * E_CONTEXT: no token is left for it. Without the lock. */
dbe_err engine_begin_call(struct engine_job *job, struct dbe_diag *diag) DBE_MUST_CHECK;
/* The job is over. Called without the lock; the job may be gone afterwards. */
void engine_job_end(struct engine_job *job, dbe_err err, const char *reason, enum llm_finish finish);

/* ---- engine_turn.c: the engine's thread itself; `arg` is the engine ---------------------------------------------- */

void *engine_compute(void *arg);

#endif
