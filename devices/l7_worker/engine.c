/* SPDX-License-Identifier: Apache-2.0
 *
 * engine.c - the owner's side of the engine: what the event loop hands to the computing thread and fetches from it.
 *
 * In:   chats          Out: news (jobs with text or a result)
 * Not:  no DBE, no policy about parameters: the caller has checked them
 */
#include "devices/l7_worker/engine_job.h"

dbe_err engine_new(const struct engine_params *params, struct engine **ret)
{
    if (params->sessions_max < 1 || params->sessions_max > ENGINE_SESSIONS_MAX || params->queue_max > ENGINE_QUEUE_MAX)
        return DBE_E_ARGUMENT;
    struct engine *e = base_alloc(1, sizeof *e);
    if (e == NULL)
        return DBE_E_NOMEM;
    e->params = *params;
    if (e->params.pause_bytes == 0)
        e->params.pause_bytes = ENGINE_TEXT_PAUSE_BYTES;
    e->retry = true;
    (void)pthread_mutex_init(&e->lock, NULL);
    (void)pthread_cond_init(&e->work, NULL);
    if (pthread_create(&e->thread, NULL, engine_compute, e) != 0) {
        base_free(e);
        return DBE_E_NOMEM;
    }
    *ret = e;
    return DBE_OK;
}

void engine_free(struct engine *e)
{
    struct engine_job *job;

    if (e == NULL)
        return;
    (void)pthread_mutex_lock(&e->lock);
    e->stop = true;
    for (uint32_t i = 0; i < e->running_count; i++)
        if (e->running[i]->session != NULL)
            llm_session_cancel(e->running[i]->session);
    (void)pthread_cond_signal(&e->work);
    (void)pthread_mutex_unlock(&e->lock);
    (void)pthread_join(e->thread, NULL);

    for (uint32_t i = 0; i < e->running_count; i++) {
        job = e->running[i];
        if (job->place != PLACE_NONE)
            engine_news_remove(job);
        llm_session_free(job->session);
        engine_job_free(job);
    }
    while ((job = e->queue.head) != NULL) {
        engine_queue_remove(e, job);
        engine_job_free(job);
    }
    while ((job = e->news != NULL ? e->news : e->postponed) != NULL) {
        engine_news_remove(job);
        engine_job_free(job);
    }
    (void)pthread_cond_destroy(&e->work);
    (void)pthread_mutex_destroy(&e->lock);
    base_free(e);
}

dbe_err engine_submit(struct engine *e, const struct engine_chat *chat, void *user, struct engine_job **ret)
{
    struct engine_job *job = base_alloc(1, sizeof *job);

    if (job == NULL)
        return DBE_E_NOMEM;
    job->engine = e;
    job->user = user;
    job->chat = *chat;
    job->submitted_ns = base_mono_ns();
    base_buf_init(&job->text, ENGINE_ANSWER_MAX_BYTES);
    base_buf_init(&job->probs, ENGINE_PROBS_MAX_BYTES);
    base_buf_init(&job->call, ENGINE_ANSWER_MAX_BYTES);
    engine_says_init(&job->says, chat->call.mark != NULL && !chat->call.at_once ? &job->chat.call : NULL,
                     chat->params.logprobs > 0, chat->echo);
    (void)pthread_mutex_lock(&e->lock);
    bool full = e->queued + e->admitting + e->running_count >= e->params.sessions_max + e->params.queue_max;
    if (!full) {
        engine_queue_push(e, job, false);
        (void)pthread_cond_signal(&e->work);
    }
    (void)pthread_mutex_unlock(&e->lock);
    if (full) {
        engine_says_free(&job->says);
        base_free(job);
        return DBE_E_LIMIT;
    }
    *ret = job;
    return DBE_OK;
}

void engine_cancel(struct engine_job *job)
{
    struct engine *e = job->engine;
    bool ours = false;

    (void)pthread_mutex_lock(&e->lock);
    if (job->place != PLACE_NONE)
        engine_news_remove(job);
    if (job->state == JOB_QUEUED) {
        engine_queue_remove(e, job);
        ours = true;
    } else if (job->state == JOB_ENDED) {
        ours = true;
    } else {
        job->abandoned = true;
        job->place = PLACE_NONE;
        if (job->session != NULL)
            llm_session_cancel(job->session);
        (void)pthread_cond_signal(&e->work); /* it may be paused */
    }
    (void)pthread_mutex_unlock(&e->lock);
    if (ours)
        engine_job_free(job);
}

struct engine_job *engine_news(struct engine *e)
{
    (void)pthread_mutex_lock(&e->lock);
    struct engine_job *job = e->news;
    if (job != NULL)
        engine_news_remove(job);
    (void)pthread_mutex_unlock(&e->lock);
    return job;
}

void *engine_job_user(const struct engine_job *job)
{
    return job->user;
}

static void move_to(struct base_buf *to, struct base_buf *from)
{
    if (to != NULL)
        base_buf_bytes(to, from->data, from->len);
    base_buf_clear(from);
}

bool engine_take(struct engine_job *job, struct base_buf *text, const struct engine_extras *extras,
                 struct engine_result *ret)
{
    struct engine *e = job->engine;

    (void)pthread_mutex_lock(&e->lock);
    bool ended = job->state == JOB_ENDED, was_paused = engine_job_is_paused(job);
    if (ended || job->chat.stream) {
        move_to(text, &job->text);
        move_to(extras != NULL ? extras->probs : NULL, &job->probs);
        move_to(extras != NULL ? extras->call : NULL, &job->call);
    }
    if (ended) {
        *ret = job->result;
        if (job->place != PLACE_NONE)
            engine_news_remove(job);
    } else if (was_paused) {
        (void)pthread_cond_signal(&e->work);
    }
    (void)pthread_mutex_unlock(&e->lock);
    if (ended)
        engine_job_free(job);
    return ended;
}

void engine_postpone(struct engine_job *job)
{
    struct engine *e = job->engine;

    (void)pthread_mutex_lock(&e->lock);
    if (job->place == PLACE_NEWS)
        engine_news_remove(job);
    job->place = PLACE_POSTPONED;
    job->next_news = e->postponed;
    e->postponed = job;
    (void)pthread_mutex_unlock(&e->lock);
}

void engine_postponed(struct engine *e)
{
    (void)pthread_mutex_lock(&e->lock);
    while (e->postponed != NULL) {
        struct engine_job *job = e->postponed;
        engine_news_remove(job);
        engine_news_push(job);
    }
    (void)pthread_mutex_unlock(&e->lock);
}

struct engine_load engine_load(const struct engine *e)
{
    struct engine *mutable = (struct engine *)(uintptr_t)e;

    (void)pthread_mutex_lock(&mutable->lock);
    struct engine_load load = {e->running_count + e->admitting, e->queued};
    (void)pthread_mutex_unlock(&mutable->lock);
    return load;
}
