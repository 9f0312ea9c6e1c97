/* SPDX-License-Identifier: Apache-2.0
 *
 * engine_admit.c - how a job of the engine begins and ends: its prompt rendered, its KV memory reserved, its call of a
 * tool begun, its result told.
 *
 * In:   queued jobs, in the engine's thread     Out: running ones, ended ones
 */
#include "devices/l7_worker/engine_job.h"

#include <stdio.h>

enum { OPEN_END_TOKENS_MIN = 1024 };

uint64_t engine_passes(const struct engine *e)
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

void engine_job_end(struct engine_job *job, dbe_err err, const char *reason, enum llm_finish finish)
{
    struct engine *e = job->engine;

    (void)pthread_mutex_lock(&e->lock);
    struct llm_session *session = job->session;
    job->session = NULL;
    (void)pthread_mutex_unlock(&e->lock);
    note_session(job, session);
    llm_session_free(session);

    (void)pthread_mutex_lock(&e->lock);
    engine_running_remove(e, job); /* from here on it is the owner's */
    e->retry = true;
    job->state = JOB_ENDED;
    job->result.err = err;
    job->result.finish = finish;
    job->result.prompt_tokens = job->prompt_tokens;
    job->result.cached_tokens = job->cached_tokens;
    job->result.answer_tokens = job->answered;
    job->result.total_ns = base_mono_ns() - job->submitted_ns;
    job->result.passes = job->result.first_token_ns != 0 ? engine_passes(e) - job->passes_before : 0;
    (void)snprintf(job->result.reason, sizeof job->result.reason, "%s", reason);
    bool abandoned = job->abandoned;
    if (!abandoned)
        engine_news_push(job);
    (void)pthread_mutex_unlock(&e->lock);
    if (abandoned)
        engine_job_free(job);
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

    if (c->raw && c->tokens != NULL)
        DBE_TRY(engine_copy_tokens(c->tokens, &job->prompt));
    else if (c->raw)
        DBE_TRY(llm_tokenize(model, c->messages[0].text, c->messages[0].text_len, LLM_TOKENIZE_BOS, &job->prompt));
    else
        DBE_TRY(llm_chat_render(model, c->messages, c->count, &job->prompt, diag));
    job->calling = c->call.at_once;
    /* the model is led to the call: it goes on behind the mark */
    return c->call.at_once ? engine_mark(model, &c->call, &job->prompt) : DBE_OK;
}

/* Render and reserve. E_LIMIT is no end while other sessions hold the budget: it then waits for one of them to end. */
static dbe_err admit(struct engine_job *job, struct llm_session **ret, struct dbe_diag *diag)
{
    struct llm_session_params params = job->chat.params;

    if (job->prompt.count == 0)
        DBE_TRY(render(job, diag));
    params.salt = job->chat.shares ? job->chat.salt : NULL;
    if (job->chat.echo)
        params.echo = job->chat.tokens != NULL ? LLM_ECHO_TOKENS : LLM_ECHO_TEXT;
    if (params.max_tokens == 0 && !params.prompt_only)
        params.max_tokens = open_end_tokens(job->engine, job->prompt.count);
    if (job->calling) {
        params.grammar = job->chat.call.grammar;
        params.stop_count = 0;
        params.logprobs = 0;
    }
    return llm_session_new(job->engine->params.model, job->prompt.ids, job->prompt.count, &params, ret, diag);
}

/* A call begins, with what the model did not say itself. Under the lock. */
static void note_call(struct engine_job *job)
{
    base_buf_str(&job->call, job->chat.call.mark);
    base_buf_str(&job->call, job->chat.call.lead);
}

dbe_err engine_begin_call(struct engine_job *job, struct dbe_diag *diag)
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
    DBE_TRY(engine_mark(model, &job->chat.call, &job->prompt));
    job->calling = true;
    DBE_TRY(admit(job, &session, diag));
    (void)pthread_mutex_lock(&e->lock);
    note_call(job);
    job->session = session;
    if (job->abandoned)
        llm_session_cancel(session);
    (void)pthread_mutex_unlock(&e->lock);
    return DBE_OK;
}

void engine_admit_next(struct engine *e)
{
    struct engine_job *job = e->queue.head;
    struct llm_session *session = NULL;
    struct dbe_diag diag = {0};

    engine_queue_remove(e, job);
    job->state = JOB_ADMITTED;
    e->admitting = true;
    (void)pthread_mutex_unlock(&e->lock);
    dbe_err err = job->chat.input_count > 0 ? DBE_OK : admit(job, &session, &diag);
    (void)pthread_mutex_lock(&e->lock);
    e->admitting = false;
    if (err == DBE_E_LIMIT && e->running_count > 0) {
        e->retry = false;
        bool abandoned = job->abandoned;
        if (!abandoned)
            engine_queue_push(e, job, true);
        else
            engine_job_free(job);
        return;
    }
    if (err != DBE_OK) {
        (void)pthread_mutex_unlock(&e->lock);
        engine_job_end(job, err, diag.text, LLM_FINISH_NONE);
        (void)pthread_mutex_lock(&e->lock);
        return;
    }
    if (job->calling)
        note_call(job);
    job->session = session;
    job->state = JOB_RUNNING;
    job->result.queued_ns = base_mono_ns() - job->submitted_ns;
    e->running[e->running_count++] = job;
}
