/* SPDX-License-Identifier: Apache-2.0
 *
 * engine_job.c - jobs of the engine, and the lists that they stand in. All under the engine's lock.
 */
#include "devices/l7_worker/engine_job.h"

#include <string.h>

void engine_job_free(struct engine_job *job)
{
    job->chat.free_owned(job->chat.owned);
    llm_tokens_free(&job->prompt);
    engine_says_free(&job->says);
    base_buf_free(&job->text);
    base_buf_free(&job->probs);
    base_buf_free(&job->call);
    base_free(job);
}

void engine_queue_push(struct engine *e, struct engine_job *job, bool front)
{
    job->next = front ? e->queue.head : NULL;
    if (front)
        e->queue.head = job;
    else if (e->queue.tail != NULL)
        e->queue.tail->next = job;
    else
        e->queue.head = job;
    if (!front || e->queue.tail == NULL)
        e->queue.tail = job;
    job->state = JOB_QUEUED;
    e->queued++;
}

void engine_queue_remove(struct engine *e, struct engine_job *job)
{
    struct engine_job *before = NULL;

    for (struct engine_job *at = e->queue.head; at != job; at = at->next)
        before = at;
    if (before != NULL)
        before->next = job->next;
    else
        e->queue.head = job->next;
    if (e->queue.tail == job)
        e->queue.tail = before;
    job->next = NULL;
    e->queued--;
}

void engine_news_push(struct engine_job *job)
{
    struct engine *e = job->engine;

    if (job->place != PLACE_NONE)
        return;
    job->place = PLACE_NEWS;
    job->next_news = NULL;
    if (e->news_tail != NULL)
        e->news_tail->next_news = job;
    else
        e->news = job;
    e->news_tail = job;
}

static void unlink_news(struct engine_job **list, struct engine_job *job)
{
    while (*list != NULL && *list != job)
        list = &(*list)->next_news;
    if (*list == job)
        *list = job->next_news;
    job->next_news = NULL;
}

void engine_news_remove(struct engine_job *job)
{
    struct engine *e = job->engine;

    unlink_news(job->place == PLACE_POSTPONED ? &e->postponed : &e->news, job);
    job->place = PLACE_NONE;
    e->news_tail = e->news;
    while (e->news_tail != NULL && e->news_tail->next_news != NULL)
        e->news_tail = e->news_tail->next_news;
}

void engine_running_remove(struct engine *e, const struct engine_job *job)
{
    for (uint32_t i = 0; i < e->running_count; i++) {
        if (e->running[i] != job)
            continue;
        e->running_count--;
        memmove(&e->running[i], &e->running[i + 1], (e->running_count - i) * sizeof e->running[0]);
        return;
    }
}

bool engine_job_is_paused(const struct engine_job *job)
{
    return job->chat.stream && !job->abandoned &&
           (job->text.len >= job->engine->params.pause_bytes || job->probs.len >= ENGINE_PROBS_PAUSE_BYTES);
}

dbe_err engine_copy_tokens(const struct llm_tokens *from, struct llm_tokens *to)
{
    int32_t *ids = base_alloc(BASE_MAX(from->count, (size_t)1), sizeof *ids);

    if (ids == NULL)
        return DBE_E_NOMEM;
    memcpy(ids, from->ids, from->count * sizeof *ids);
    llm_tokens_free(to);
    *to = (struct llm_tokens){ids, from->count, BASE_MAX(from->count, (size_t)1)};
    return DBE_OK;
}
