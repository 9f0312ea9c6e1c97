/* SPDX-License-Identifier: Apache-2.0
 *
 * engine.c - the worker's computing thread and the hand-over between it and the event loop.
 *
 *   submit -> QUEUED -> ADMITTED -> RUNNING -> ENDED -> taken
 *                (render, KV budget)  (passes)    each may be cancelled
 *
 * In:   chats          Out: news (jobs with text or a result)
 * Not:  no DBE, no policy about parameters: the caller has checked them
 *
 * One mutex guards everything that both threads see; it is never held during a pass of the model.
 */
#include "devices/l7_worker/engine.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "devices/l7_worker/says.h"

enum { OPEN_END_TOKENS_MIN = 1024, ENGINE_PROBS_MAX_BYTES = 32 * 1024 * 1024 };

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
    bool retry; /* a session ended: a job that found the KV budget used up may be admitted now */
    struct job_list queue;
    uint32_t queued;
    struct engine_job *running[ENGINE_SESSIONS_MAX];
    uint32_t running_count;
    struct engine_job *news, *news_tail, *postponed;
};

/* ---- jobs and their lists; all under the lock ------------------------------------------------------------------- */

static void job_free(struct engine_job *job)
{
    job->chat.free_owned(job->chat.owned);
    llm_tokens_free(&job->prompt);
    engine_says_free(&job->says);
    base_buf_free(&job->text);
    base_buf_free(&job->probs);
    base_buf_free(&job->call);
    base_free(job);
}

static void queue_push(struct engine *e, struct engine_job *job, bool front)
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

static void queue_remove(struct engine *e, struct engine_job *job)
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

static void news_push(struct engine_job *job)
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

static void news_remove(struct engine_job *job)
{
    struct engine *e = job->engine;

    unlink_news(job->place == PLACE_POSTPONED ? &e->postponed : &e->news, job);
    job->place = PLACE_NONE;
    e->news_tail = e->news;
    while (e->news_tail != NULL && e->news_tail->next_news != NULL)
        e->news_tail = e->news_tail->next_news;
}

/* Keeps the order of the others, so that turns stay fair. */
static void running_remove(struct engine *e, const struct engine_job *job)
{
    for (uint32_t i = 0; i < e->running_count; i++) {
        if (e->running[i] != job)
            continue;
        e->running_count--;
        memmove(&e->running[i], &e->running[i + 1], (e->running_count - i) * sizeof e->running[0]);
        return;
    }
}

/* ---- engine's thread: admission --------------------------------------------------------------------------------- */

static uint64_t passes_so_far(const struct engine *e)
{
    struct llm_model_stats stats;

    llm_model_stats(e->params.model, &stats);
    return stats.passes;
}

/* Count what a session did before it goes. The prompt of a job is that of its first one. */
static void note_session(struct engine_job *job, const struct llm_session *session)
{
    if (session == NULL)
        return;
    if (job->prompt_tokens == 0) {
        job->prompt_tokens = llm_session_prompt_tokens(session);
        job->cached_tokens = llm_session_cached_tokens(session);
    }
    job->answered += llm_session_answer_tokens(session);
}

/* The job is over. Called without the lock; the job may be gone afterwards. */
static void end_job(struct engine_job *job, dbe_err err, const char *reason, enum llm_finish finish)
{
    struct engine *e = job->engine;

    (void)pthread_mutex_lock(&e->lock);
    struct llm_session *session = job->session;
    job->session = NULL;
    (void)pthread_mutex_unlock(&e->lock);
    note_session(job, session);
    llm_session_free(session);

    (void)pthread_mutex_lock(&e->lock);
    running_remove(e, job); /* from here on it is the owner's */
    e->retry = true;
    job->state = JOB_ENDED;
    job->result.err = err;
    job->result.finish = finish;
    job->result.prompt_tokens = job->prompt_tokens;
    job->result.cached_tokens = job->cached_tokens;
    job->result.answer_tokens = job->answered;
    job->result.total_ns = base_mono_ns() - job->submitted_ns;
    job->result.passes = job->result.first_token_ns != 0 ? passes_so_far(e) - job->passes_before : 0;
    (void)snprintf(job->result.reason, sizeof job->result.reason, "%s", reason);
    bool abandoned = job->abandoned;
    if (!abandoned)
        news_push(job);
    (void)pthread_mutex_unlock(&e->lock);
    if (abandoned)
        job_free(job);
    else
        e->params.wake(e->params.ctx);
}

/* New tokens of a chat that names no number: what its context leaves, but no more KV memory than its share, so that
 * one such chat does not hold up all others. 0 leaves it to the model. */
static uint32_t open_end_tokens(const struct engine *e, size_t prompt_count)
{
    const struct llm_model_info *info = llm_model_info(e->params.model);
    uint64_t total = info->kv_budget_bytes / BASE_MAX(info->kv_bytes_per_token, UINT64_C(1));
    uint64_t want = BASE_MIN(BASE_MAX(total / e->params.sessions_max, prompt_count + OPEN_END_TOKENS_MIN), total);

    return want >= info->n_ctx || want <= prompt_count ? 0 : (uint32_t)(want - prompt_count);
}

static dbe_err render(struct engine_job *job, struct dbe_diag *diag)
{
    const struct engine_chat *c = &job->chat;
    const struct llm_model *model = job->engine->params.model;

    if (c->raw)
        DBE_TRY(llm_tokenize(model, c->messages[0].text, c->messages[0].text_len, LLM_TOKENIZE_BOS, &job->prompt));
    else
        DBE_TRY(llm_chat_render(model, c->messages, c->count, &job->prompt, diag));
    job->calling = c->call_at_once;
    if (c->call_at_once) /* the model is led to the call: it goes on behind the mark */
        DBE_TRY(engine_mark(model, c->call_mark, &job->prompt));
    return DBE_OK;
}

/* Render and reserve. E_LIMIT is no end while other sessions hold the budget: it then waits for one of them to end. */
static dbe_err admit(struct engine_job *job, struct llm_session **ret, struct dbe_diag *diag)
{
    struct llm_session_params params = job->chat.params;

    if (job->prompt.count == 0)
        DBE_TRY(render(job, diag));
    params.salt = job->chat.shares ? job->chat.salt : NULL;
    if (params.max_tokens == 0)
        params.max_tokens = open_end_tokens(job->engine, job->prompt.count);
    if (job->calling) {
        params.grammar = job->chat.call_grammar;
        params.stop_count = 0;
        params.logprobs = 0;
    }
    return llm_session_new(job->engine->params.model, job->prompt.ids, job->prompt.count, &params, ret, diag);
}

/* The answer said the mark: what follows is made anew, behind it and by the grammar. Its prompt is a cached one. */
static dbe_err begin_call(struct engine_job *job, struct dbe_diag *diag)
{
    struct engine *e = job->engine;
    struct llm_session *old, *session = NULL;
    const struct llm_model *model = e->params.model;

    (void)pthread_mutex_lock(&e->lock);
    old = job->session;
    job->session = NULL;
    (void)pthread_mutex_unlock(&e->lock);
    note_session(job, old);
    llm_session_free(old);
    if (job->chat.params.max_tokens != 0) {
        if (job->answered >= job->chat.params.max_tokens)
            return DBE_E_CONTEXT;
        job->chat.params.max_tokens -= job->answered;
    }
    DBE_TRY(llm_tokenize(model, (const char *)job->says.whole.data, job->says.whole.len, 0, &job->prompt));
    DBE_TRY(engine_mark(model, job->chat.call_mark, &job->prompt));
    job->calling = true;
    DBE_TRY(admit(job, &session, diag));
    (void)pthread_mutex_lock(&e->lock);
    job->session = session;
    if (job->abandoned)
        llm_session_cancel(session);
    (void)pthread_mutex_unlock(&e->lock);
    return DBE_OK;
}

/* Take the queue's head into the running ones. Holds the lock when called and when it returns. */
static void admit_next(struct engine *e)
{
    struct engine_job *job = e->queue.head;
    struct llm_session *session = NULL;
    struct dbe_diag diag = {0};

    queue_remove(e, job);
    job->state = JOB_ADMITTED;
    (void)pthread_mutex_unlock(&e->lock);
    dbe_err err = job->chat.inputs != NULL ? DBE_OK : admit(job, &session, &diag);
    if (err == DBE_E_LIMIT && e->running_count > 0) { /* running_count changes in this thread only */
        (void)pthread_mutex_lock(&e->lock);
        e->retry = false;
        bool abandoned = job->abandoned;
        if (!abandoned)
            queue_push(e, job, true);
        else
            job_free(job);
        return;
    }
    if (err != DBE_OK) {
        end_job(job, err, diag.text, LLM_FINISH_NONE);
        (void)pthread_mutex_lock(&e->lock);
        return;
    }
    (void)pthread_mutex_lock(&e->lock);
    job->session = session;
    job->state = JOB_RUNNING;
    job->result.queued_ns = base_mono_ns() - job->submitted_ns;
    e->running[e->running_count++] = job;
}

/* ---- engine's thread: steps ------------------------------------------------------------------------------------- */

/* Text that nobody fetches: the session waits, and costs the others nothing. */
static bool is_paused(const struct engine_job *job)
{
    return job->chat.stream && !job->abandoned && job->text.len >= job->engine->params.pause_bytes;
}

/* Put what a pass gave to what waits for the owner. Without the lock when called and when it returns. */
static dbe_err take_piece(struct engine_job *job, const struct llm_piece *piece, bool *ret_call)
{
    struct engine *e = job->engine;

    *ret_call = false;
    dbe_err err = job->calling ? DBE_OK : engine_says_more(&job->says, e->params.model, piece, ret_call);
    (void)pthread_mutex_lock(&e->lock);
    if (job->result.first_token_ns == 0 && (job->answered > 0 || llm_session_answer_tokens(job->session) > 0)) {
        job->result.first_token_ns = base_mono_ns() - job->submitted_ns;
        job->passes_before = passes_so_far(e);
    }
    if (job->calling) {
        base_buf_bytes(&job->call, piece->text, piece->text_len);
    } else {
        base_buf_bytes(&job->text, job->says.text.data, job->says.text.len);
        base_buf_bytes(&job->probs, job->says.probs.data, job->says.probs.len);
    }
    if (err == DBE_OK)
        err = job->text.err != DBE_OK ? job->text.err : job->probs.err != DBE_OK ? job->probs.err : job->call.err;
    (void)pthread_mutex_unlock(&e->lock);
    return err;
}

/* What a pass gave for one session. Called without the lock; the job may be gone afterwards. */
static void tell_step(struct engine_job *job, dbe_err err, const struct llm_piece *piece)
{
    struct engine *e = job->engine;
    struct dbe_diag diag = {0};
    enum llm_finish finish = LLM_FINISH_NONE;
    bool call = false;

    if (err == DBE_OK)
        err = take_piece(job, piece, &call);
    if (err == DBE_OK && call) {
        err = begin_call(job, &diag);
        if (err == DBE_E_CONTEXT) { /* nothing is left for a call: the answer ends for want of room */
            err = DBE_OK;
            finish = LLM_FINISH_LENGTH;
        }
    } else if (err == DBE_OK && piece->done) {
        finish = piece->finish;
    }
    if (err != DBE_OK || finish != LLM_FINISH_NONE) {
        end_job(job, err, diag.text, finish);
        return;
    }
    (void)pthread_mutex_lock(&e->lock);
    bool tell = job->chat.stream && job->text.len > 0 && !job->abandoned;
    if (tell)
        news_push(job);
    (void)pthread_mutex_unlock(&e->lock);
    if (tell)
        e->params.wake(e->params.ctx);
}

/* One text of a job that wants vectors. */
static void embed_next(struct engine_job *job)
{
    struct engine *e = job->engine;
    const struct llm_model_info *info = llm_model_info(e->params.model);
    const char *input = job->chat.inputs[job->embedded];
    struct dbe_diag diag = {0};
    float *vector = base_alloc(info->n_embd, sizeof *vector);

    job->prompt.count = 0;
    dbe_err err = vector == NULL ? DBE_E_NOMEM
                                 : llm_tokenize(e->params.model, input, strlen(input), LLM_TOKENIZE_BOS, &job->prompt);
    if (err == DBE_OK)
        err = llm_embed(e->params.model, job->prompt.ids, job->prompt.count, vector, &diag);
    if (err == DBE_OK) {
        job->prompt_tokens += (uint32_t)job->prompt.count;
        (void)pthread_mutex_lock(&e->lock);
        base_buf_bytes(&job->text, vector, info->n_embd * sizeof *vector);
        err = job->abandoned ? DBE_E_CANCELLED : job->text.err;
        (void)pthread_mutex_unlock(&e->lock);
    }
    base_free(vector);
    if (err != DBE_OK || ++job->embedded == job->chat.input_count)
        end_job(job, err, diag.text, LLM_FINISH_STOP);
}

/* Each job with texts to embed does one of them. Holds the lock when called and when it returns. */
static void embed_all(struct engine *e)
{
    struct engine_job *jobs[ENGINE_SESSIONS_MAX];
    size_t count = 0;

    for (uint32_t i = 0; i < e->running_count; i++)
        if (e->running[i]->chat.inputs != NULL)
            jobs[count++] = e->running[i];
    (void)pthread_mutex_unlock(&e->lock);
    for (size_t i = 0; i < count; i++)
        embed_next(jobs[i]);
    (void)pthread_mutex_lock(&e->lock);
}

/* One pass over all that do not pause. Holds the lock when called and when it returns. */
static void step_all(struct engine *e)
{
    struct engine_job *jobs[ENGINE_SESSIONS_MAX];
    struct llm_session *sessions[ENGINE_SESSIONS_MAX];
    struct llm_piece pieces[ENGINE_SESSIONS_MAX];
    dbe_err errs[ENGINE_SESSIONS_MAX];
    size_t count = 0;

    for (uint32_t i = 0; i < e->running_count; i++)
        if (!is_paused(e->running[i]) && e->running[i]->chat.inputs == NULL) {
            jobs[count] = e->running[i];
            sessions[count++] = e->running[i]->session;
        }
    if (count == 0)
        return;
    (void)pthread_mutex_unlock(&e->lock);
    dbe_err err = llm_batch_step(e->params.model, sessions, count, pieces, errs);
    for (size_t i = 0; i < count; i++)
        tell_step(jobs[i], err != DBE_OK ? err : errs[i], &pieces[i]);
    (void)pthread_mutex_lock(&e->lock);
}

/* Anything to compute now? Under the lock. */
static bool has_work(const struct engine *e)
{
    if (e->queue.head != NULL && e->running_count < e->params.sessions_max && (e->running_count == 0 || e->retry))
        return true;
    for (uint32_t i = 0; i < e->running_count; i++)
        if (!is_paused(e->running[i]))
            return true;
    return false;
}

/* One turn: admit who fits, one pass for all. Holds the lock when called and when it returns. */
static void turn(struct engine *e)
{
    while (e->queue.head != NULL && e->running_count < e->params.sessions_max && !e->stop &&
           (e->running_count == 0 || e->retry))
        admit_next(e);
    if (!e->stop && e->running_count > 0)
        step_all(e);
    if (!e->stop)
        embed_all(e);
}

static void *compute(void *arg)
{
    struct engine *e = arg;

    (void)pthread_mutex_lock(&e->lock);
    while (!e->stop) {
        if (has_work(e))
            turn(e);
        else
            (void)pthread_cond_wait(&e->work, &e->lock);
    }
    (void)pthread_mutex_unlock(&e->lock);
    return NULL;
}

/* ---- owner's thread --------------------------------------------------------------------------------------------- */

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
    if (pthread_create(&e->thread, NULL, compute, e) != 0) {
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
            news_remove(job);
        llm_session_free(job->session);
        job_free(job);
    }
    while ((job = e->queue.head) != NULL) {
        queue_remove(e, job);
        job_free(job);
    }
    while ((job = e->news != NULL ? e->news : e->postponed) != NULL) {
        news_remove(job);
        job_free(job);
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
    engine_says_init(&job->says, chat->call_at_once ? NULL : chat->call_mark, chat->params.logprobs > 0);
    (void)pthread_mutex_lock(&e->lock);
    bool full = e->queued + e->running_count >= e->params.sessions_max + e->params.queue_max;
    if (!full) {
        queue_push(e, job, false);
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
        news_remove(job);
    if (job->state == JOB_QUEUED) {
        queue_remove(e, job);
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
        job_free(job);
}

struct engine_job *engine_news(struct engine *e)
{
    (void)pthread_mutex_lock(&e->lock);
    struct engine_job *job = e->news;
    if (job != NULL)
        news_remove(job);
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
    bool ended = job->state == JOB_ENDED, was_paused = is_paused(job);
    if (ended || job->chat.stream) {
        move_to(text, &job->text);
        move_to(extras != NULL ? extras->probs : NULL, &job->probs);
    }
    if (ended)
        move_to(extras != NULL ? extras->call : NULL, &job->call);
    if (ended) {
        *ret = job->result;
        if (job->place != PLACE_NONE)
            news_remove(job);
    } else if (was_paused) {
        (void)pthread_cond_signal(&e->work);
    }
    (void)pthread_mutex_unlock(&e->lock);
    if (ended)
        job_free(job);
    return ended;
}

void engine_postpone(struct engine_job *job)
{
    struct engine *e = job->engine;

    (void)pthread_mutex_lock(&e->lock);
    if (job->place == PLACE_NEWS)
        news_remove(job);
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
        news_remove(job);
        news_push(job);
    }
    (void)pthread_mutex_unlock(&e->lock);
}

struct engine_load engine_load(const struct engine *e)
{
    struct engine *mutable = (struct engine *)(uintptr_t)e;

    (void)pthread_mutex_lock(&mutable->lock);
    struct engine_load load = {e->running_count, e->queued};
    (void)pthread_mutex_unlock(&mutable->lock);
    return load;
}
