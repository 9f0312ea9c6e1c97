/* SPDX-License-Identifier: Apache-2.0
 *
 * engine_turn.c - the engine's computing thread: turn after turn, a forward pass for all jobs that run.
 *
 * In:   running jobs     Out: their text, their vectors, their ends
 */
#include "devices/l7_worker/engine_job.h"

#include <string.h>

/* Put what a pass gave to what waits for the owner. Without the lock when called and when it returns. */
static dbe_err take_piece(struct engine_job *job, const struct llm_piece *piece, bool *ret_call)
{
    struct engine *e = job->engine;

    *ret_call = false;
    dbe_err err = job->calling ? DBE_OK : engine_says_more(&job->says, e->params.model, piece, ret_call);
    (void)pthread_mutex_lock(&e->lock);
    if (job->result.first_token_ns == 0 && (job->answered > 0 || llm_session_answer_tokens(job->session) > 0)) {
        job->result.first_token_ns = base_mono_ns() - job->submitted_ns;
        job->passes_before = engine_passes(e);
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

/* What was held back for a call is no call; it is not lost. */
static void keep_held(struct engine_job *job)
{
    (void)pthread_mutex_lock(&job->engine->lock);
    base_buf_bytes(&job->call, job->says.held.data, job->says.held.len);
    (void)pthread_mutex_unlock(&job->engine->lock);
}

/* Of a pass, that is said of a grammar alone: it leaves more ways to go on than are followed. Its sender is told so. */
static dbe_err of_pass(dbe_err err, struct dbe_diag *diag)
{
    return err != DBE_E_TOO_LARGE
               ? err
               : dbe_fail(diag, DBE_E_RANGE, NULL, 0,
                          "the schema of the answer or of a tool leaves too many ways to read one text; a pattern that "
                          "repeats a repetition is a likely cause");
}

/* Of what came of a pass: it does not end the engine that one answer is larger than is kept of any. */
static dbe_err of_piece(dbe_err err, struct dbe_diag *diag)
{
    return err != DBE_E_TOO_LARGE
               ? err
               : dbe_fail(diag, err, NULL, 0,
                          "more than %d MiB of text or %d MiB of probabilities in one answer; with echo, ask about "
                          "shorter prompts",
                          ENGINE_ANSWER_MAX_BYTES >> 20, ENGINE_PROBS_MAX_BYTES >> 20);
}

/* What a pass gave for one session. Called without the lock; the job may be gone afterwards. */
static void tell_step(struct engine_job *job, dbe_err err, const struct llm_piece *piece)
{
    struct engine *e = job->engine;
    struct dbe_diag diag = {0};
    enum llm_finish finish = LLM_FINISH_NONE;
    bool call = false;

    err = of_pass(err, &diag);
    if (err == DBE_OK)
        err = of_piece(take_piece(job, piece, &call), &diag);
    if (err == DBE_OK && call) {
        err = engine_begin_call(job, &diag);
        if (err == DBE_E_CONTEXT) { /* nothing is left for a call: the answer ends for want of room */
            err = DBE_OK;
            finish = LLM_FINISH_LENGTH;
            keep_held(job);
        }
    } else if (err == DBE_OK && piece->done) {
        finish = piece->finish;
    }
    if (err != DBE_OK || finish != LLM_FINISH_NONE) {
        engine_job_end(job, err, diag.text, finish);
        return;
    }
    (void)pthread_mutex_lock(&e->lock);
    bool tell = job->chat.stream && (job->text.len > 0 || job->call.len > 0 || engine_job_is_paused(job)) &&
                !job->abandoned; /* also when it pauses for the probabilities of tokens that have no text */
    if (tell)
        engine_news_push(job);
    (void)pthread_mutex_unlock(&e->lock);
    if (tell)
        e->params.wake(e->params.ctx);
}

/* One text of a job that wants vectors. */
static void embed_next(struct engine_job *job)
{
    struct engine *e = job->engine;
    const struct llm_model_info *info = llm_model_info(e->params.model);
    const char *input = job->chat.inputs != NULL ? job->chat.inputs[job->embedded] : "";
    struct dbe_diag diag = {0};
    float *vector = base_alloc(info->n_embd, sizeof *vector);

    job->prompt.count = 0;
    dbe_err err = vector == NULL ? DBE_E_NOMEM
                  : job->chat.tokens != NULL
                      ? engine_copy_tokens(&job->chat.tokens[job->embedded], &job->prompt)
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
        engine_job_end(job, err, diag.text, LLM_FINISH_STOP);
}

/* Each job with texts to embed does one of them. Holds the lock when called and when it returns. */
static void embed_all(struct engine *e)
{
    struct engine_job *jobs[ENGINE_SESSIONS_MAX];
    size_t count = 0;

    for (uint32_t i = 0; i < e->running_count; i++)
        if (e->running[i]->chat.input_count > 0)
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
        if (!engine_job_is_paused(e->running[i]) && e->running[i]->chat.input_count == 0) {
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
        if (!engine_job_is_paused(e->running[i]))
            return true;
    return false;
}

/* One turn: admit who fits, one pass for all. Holds the lock when called and when it returns. */
static void turn(struct engine *e)
{
    while (e->queue.head != NULL && e->running_count < e->params.sessions_max && !e->stop &&
           (e->running_count == 0 || e->retry))
        engine_admit_next(e);
    if (!e->stop && e->running_count > 0)
        step_all(e);
    if (!e->stop)
        embed_all(e);
}

void *engine_compute(void *arg)
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
