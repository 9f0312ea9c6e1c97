/* SPDX-License-Identifier: Apache-2.0
 *
 * session.c - one generation: admission, and what may be asked of it.
 *
 * In:   a prompt of token ids and sampling parameters. Out: pieces of text.
 * Not:  no passes (batch.c), no text (text.c).
 */
#include <string.h>

#include "batch.h"
#include "echo.h"
#include "prefix.h"

/* ---- admission --------------------------------------------------------------------------------------------------- */

uint64_t llm_session_kv_bytes(const struct llm_model *m, size_t n_tokens)
{
    return llm_kv_bytes(&m->kv_pool, n_tokens);
}

static dbe_err check_prompt(const struct llm_model *m, const int32_t *prompt, size_t count,
                            const struct llm_session_params *p, struct dbe_diag *diag)
{
    const uint32_t answer = p->prompt_only ? 0 : BASE_MAX(p->max_tokens, 1U);

    if (p->prompt_only && p->max_tokens > 0)
        return dbe_fail(diag, DBE_E_ARGUMENT, "max_tokens", 0, "max_tokens must be 0 where there is no answer");
    if (count == 0)
        return dbe_fail(diag, DBE_E_ARGUMENT, "prompt", 0, "the prompt has no tokens");
    if (count > m->shape.n_ctx || answer > m->shape.n_ctx - count)
        return dbe_fail(diag, DBE_E_CONTEXT, "prompt", 0,
                        "a prompt of %zu tokens and an answer of %u do not fit into the context of %u", count, answer,
                        m->shape.n_ctx);
    for (size_t i = 0; i < count; i++)
        if (prompt[i] < 0 || (uint32_t)prompt[i] >= m->shape.n_vocab)
            return dbe_fail(diag, DBE_E_ARGUMENT, "prompt", i, "token %d is not in the vocabulary of %u", prompt[i],
                            m->shape.n_vocab);
    return DBE_OK;
}

/* What of the parameters is for sampling and for text is checked where it is used. */
static dbe_err session_fill(struct llm_session *s, const int32_t *prompt, const struct llm_session_params *p,
                            struct dbe_diag *diag)
{
    const size_t tokens = (size_t)s->prompt_count + s->max_tokens;

    DBE_TRY(llm_text_init(p->stops, p->stop_count, &s->text, diag));
    DBE_TRY(llm_sampler_init(p, s->model->shape.n_vocab, tokens, &s->sampler, diag));
    for (uint32_t i = 0; i < s->prompt_count; i++)
        llm_sampler_note(&s->sampler, prompt[i], true);
    if (p->grammar && (llm_grammar_state_new(p->grammar, &s->grammar) != DBE_OK || llm_batch_masks(s->model) != DBE_OK))
        return dbe_fail(diag, DBE_E_NOMEM, "grammar", 0, "no memory for a grammar");
    if (!p->prompt_only) /* guesses are for answers */
        DBE_TRY(llm_spec_init(s->model, p, (uint32_t)tokens, &s->spec, diag));
    const uint32_t rows = 1 + llm_spec_most(&s->spec);
    s->tokens = base_alloc(tokens, sizeof *s->tokens);
    s->probs = base_alloc(rows + llm_echo_probs(s), sizeof *s->probs);
    if (!s->tokens || !s->probs || llm_batch_join(s->model, rows, &s->turn) != DBE_OK)
        return dbe_fail(diag, DBE_E_NOMEM, "session", 0, "no memory for a session");
    s->joined = rows;
    memcpy(s->tokens, prompt, s->prompt_count * sizeof *prompt);
    DBE_TRY(llm_echo_init(s, diag));
    /* what is cached has no logits */
    DBE_TRY(llm_prefix_admit(s->model, s->scored ? NULL : p->salt, prompt, s->prompt_count, (uint32_t)tokens, &s->kv,
                             &s->prefilled, diag));
    s->cached = s->prefilled;
    return DBE_OK;
}

dbe_err llm_session_new(struct llm_model *m, const int32_t *prompt, size_t count,
                        const struct llm_session_params *params, struct llm_session **ret, struct dbe_diag *diag)
{
    static const struct llm_session_params defaults = {0};
    const struct llm_session_params *p = params ? params : &defaults;
    struct llm_session *s;
    dbe_err err;

    DBE_TRY(check_prompt(m, prompt, count, p, diag));
    s = base_alloc(1, sizeof *s);
    if (!s)
        return dbe_fail(diag, DBE_E_NOMEM, "session", 0, "no memory for a session");
    s->model = m;
    s->prompt_count = (uint32_t)count;
    s->max_tokens = p->max_tokens || p->prompt_only ? p->max_tokens : m->shape.n_ctx - (uint32_t)count;
    s->prompt_only = p->prompt_only;
    s->echo = p->echo;
    s->scored = p->echo != LLM_ECHO_NONE && p->logprobs > 0;
    s->chunk = p->prefill_chunk ? BASE_MIN(p->prefill_chunk, (uint32_t)LLM_BATCH_MAX) : LLM_BATCH_MAX;
    s->ignore_eos = p->ignore_eos;
    s->has_salt = p->salt != NULL;
    if (p->salt)
        memcpy(s->salt, p->salt, sizeof s->salt);
    err = session_fill(s, prompt, p, diag);
    if (err != DBE_OK) {
        llm_session_free(s);
        return err;
    }
    *ret = s;
    return DBE_OK;
}

void llm_session_free(struct llm_session *s)
{
    if (!s)
        return;
    if (s->joined > 0)
        llm_batch_leave(s->model, s->joined);
    llm_spec_fini(&s->spec);
    llm_kv_free(s->model, &s->kv);
    if (s->tokens)
        base_wipe(s->tokens, ((size_t)s->prompt_count + s->max_tokens) * sizeof *s->tokens);
    base_free(s->tokens);
    base_free(s->probs);
    llm_sampler_fini(&s->sampler);
    llm_grammar_state_free(s->grammar);
    llm_text_fini(&s->text);
    base_wipe(s->salt, sizeof s->salt);
    base_free(s);
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

dbe_err llm_session_step(struct llm_session *s, struct llm_piece *out)
{
    struct llm_piece piece;
    dbe_err err = DBE_OK;

    DBE_TRY(llm_batch_step(s->model, &s, 1, &piece, &err));
    DBE_TRY(err);
    *out = piece;
    return DBE_OK;
}

void llm_session_cancel(struct llm_session *s)
{
    llm_batch_cancel(s);
}

uint32_t llm_session_prompt_tokens(const struct llm_session *s)
{
    return s->prompt_count;
}

uint32_t llm_session_prefilled_tokens(const struct llm_session *s)
{
    return s->prefilled;
}

uint32_t llm_session_cached_tokens(const struct llm_session *s)
{
    return s->cached;
}

uint32_t llm_session_answer_tokens(const struct llm_session *s)
{
    return s->answered;
}

/* ---- logits ------------------------------------------------------------------------------------------------------ */

static dbe_err logits_batches(struct llm_model *m, struct llm_kv *kv, const int32_t *tokens, size_t count, float *out)
{
    struct llm_row rows[LLM_BATCH_MAX];

    for (size_t at = 0; at < count; at += LLM_BATCH_MAX) {
        const size_t n = BASE_MIN(count - at, (size_t)LLM_BATCH_MAX);
        for (size_t i = 0; i < n; i++)
            rows[i] = (struct llm_row){kv, (uint32_t)(at + i), tokens[at + i], out + (at + i) * m->shape.n_vocab, true};
        DBE_TRY(llm_forward(m, rows, n, NULL));
    }
    return DBE_OK;
}

dbe_err llm_logits(struct llm_model *m, const int32_t *tokens, size_t count, float *out, struct dbe_diag *diag)
{
    struct llm_kv kv;
    dbe_err err;

    if (count > m->shape.n_ctx)
        return dbe_fail(diag, DBE_E_CONTEXT, "tokens", 0, "%zu tokens exceed the context of %u", count, m->shape.n_ctx);
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= m->shape.n_vocab)
            return dbe_fail(diag, DBE_E_ARGUMENT, "tokens", i, "token %d is not in the vocabulary", tokens[i]);
    DBE_TRY(llm_kv_init(m, (uint32_t)count, &kv, diag));
    pthread_mutex_lock(&m->step);
    err = logits_batches(m, &kv, tokens, count, out);
    pthread_mutex_unlock(&m->step);
    llm_kv_free(m, &kv);
    return err;
}
