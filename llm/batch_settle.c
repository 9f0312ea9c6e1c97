/* SPDX-License-Identifier: Apache-2.0
 *
 * batch_settle.c - what becomes of a pass's logits: tokens, text, the ends of answers.
 *
 * In:   logits of each session's rows. Out: its piece, or its error.
 */
#include "batch_pass.h"

#include <math.h>

#include "echo.h"

static void finish(struct llm_session *s, enum llm_finish why, struct llm_piece *piece)
{
    s->done = true;
    piece->done = true;
    piece->finish = why;
}

/* Take the new token in: its text, and whether it was the last. */
static void accept_token(struct llm_session *s, int32_t id, struct llm_piece *piece)
{
    const struct vocab_token *t = &s->model->vocab.tokens[id];
    bool end = !s->ignore_eos && llm_vocab_is_eog(&s->model->vocab, id);

    s->tokens[s->prompt_count + s->answered++] = id;
    llm_sampler_note(&s->sampler, id, false);
    if (!end && llm_text_add(&s->text, t->text, t->text_len)) {
        finish(s, LLM_FINISH_STOP, piece);
        return;
    }
    if (s->grammar && !end) /* a token that the mask did not allow was the only one: there is no more to say */
        end = !llm_grammar_accept(s->grammar, t->text, t->text_len) ||
              (!s->ignore_eos && llm_grammar_is_over(s->grammar));
    if (end || s->answered >= s->max_tokens) {
        llm_text_end(&s->text);
        finish(s, end ? LLM_FINISH_STOP : LLM_FINISH_LENGTH, piece);
    }
}

struct tools { /* of a thread */
    struct sampler_scratch *scratch;
    uint32_t *mask;
};

static dbe_err next_token(struct llm_session *s, const float *logits, const struct tools *tools,
                          struct llm_token_prob *ret)
{
    const uint32_t n_vocab = s->model->shape.n_vocab;

    if (s->grammar)
        DBE_TRY(llm_grammar_mask(s->grammar, s->model->batch->trie, n_vocab, tools->mask));
    llm_sample(&s->sampler, logits, n_vocab, s->grammar ? tools->mask : NULL, tools->scratch, ret);
    return DBE_OK;
}

/* Sample behind the last token, and as long as that is what was guessed, behind the guess. */
static dbe_err take_tokens(struct llm_model *m, struct batch_slot *t, const struct tools *tools)
{
    struct llm_session *s = t->s;
    struct llm_token_prob *probs = s->probs + t->piece.prob_count;
    const uint32_t before = s->prompt_count + s->answered, tried = s->answered > 0 ? t->count - 1 : 0;
    uint32_t right = 0, n = 0;

    do {
        DBE_TRY(next_token(s, t->logits + (size_t)n * m->shape.n_vocab, tools, &probs[n]));
        accept_token(s, probs[n].id, &t->piece);
        right += n < tried && probs[n].id == s->spec.drafts[n];
    } while (right > n++ && !s->done);
    llm_spec_learn(&s->spec, before, tried, right);
    t->piece.prob_count += n;
    return DBE_OK;
}

/* The tokens of the prompt that can be told by now. Each but the first needs the logits of the one before it. */
static void tell_prompt(struct batch_slot *t)
{
    struct llm_session *s = t->s;

    t->echo_from = s->echoed;
    if (s->echo != LLM_ECHO_NONE)
        llm_echo_tell(s, BASE_MIN(s->prefilled + 1, s->prompt_count));
    t->echo_count = s->echoed - t->echo_from;
    t->piece.prob_count = s->scored ? t->echo_count : 0;
}

static void settle(struct llm_model *m, struct batch_slot *t, const struct tools *tools)
{
    struct llm_session *s = t->s;

    base_buf_clear(&s->text.out);
    tell_prompt(t);
    if (t->logits)
        t->err = take_tokens(m, t, tools);
    if (t->err != DBE_OK)
        return;
    if (s->prompt_only && !batch_in_prompt(s)) {
        llm_text_end(&s->text);
        finish(s, LLM_FINISH_LENGTH, &t->piece);
    }
    t->piece.probs = s->probs;
    t->err = llm_text_error(&s->text);
    t->piece.text_len = s->text.out.len;
    t->piece.text = s->text.out.len > 0 ? (const char *)s->text.out.data : "";
}

void batch_settle(void *ctx, size_t begin, size_t end, unsigned thread)
{
    struct llm_model *m = ctx;
    struct llm_batch *b = m->batch;
    const struct tools tools = {&b->scratch[thread], b->masks ? b->masks + thread * b->mask_words : NULL};

    for (size_t i = begin; i < end; i++)
        if (b->slots[i].err == DBE_OK)
            settle(m, &b->slots[i], &tools);
}

/* ---- prompts that are told --------------------------------------------------------------------------------------- */

struct score_job {
    struct llm_model *m;
    const struct llm_session *s;
    uint32_t token; /* the first one, of the prompt */
    struct llm_token_prob *out;
};

/* Items are rows of logits. */
static void score_rows(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct score_job *job = ctx;
    const struct llm_batch *b = job->m->batch;
    const size_t n_vocab = job->m->shape.n_vocab;

    for (size_t i = begin; i < end; i++) {
        const uint32_t at = job->token + (uint32_t)i;
        llm_score(&job->s->sampler, b->logits + i * n_vocab, n_vocab, job->s->tokens[at], &b->scratch[thread],
                  &job->out[i]);
        job->out[i].lead = at == job->s->lead_at;
    }
}

/* The output matrix runs over a few rows at a time, so that the room for logits does not grow with prompts. */
static void score(struct llm_model *m, struct batch_slot *t)
{
    struct llm_session *s = t->s;
    const uint32_t end = t->echo_from + t->echo_count, before = s->prefilled - t->count;
    uint32_t at = t->echo_from;

    if (at == 0 && end > 0) {
        s->probs[0] = (struct llm_token_prob){.id = s->tokens[0], .logprob = NAN, .lead = s->lead_at == 0};
        at = 1;
    }
    while (at < end && !atomic_load(&s->cancel)) {
        const uint32_t n = BASE_MIN(end - at, (uint32_t)LLM_ECHO_ROWS);
        llm_forward_logits(m, t->first + at - 1 - before, n, m->batch->logits);
        llm_pool_run(m->pool, n, 1, score_rows, &(struct score_job){m, s, at, s->probs + (at - t->echo_from)});
        at += n;
    }
    if (at < end)
        t->err = DBE_E_CANCELLED;
}

void batch_score(struct llm_model *m)
{
    struct llm_batch *b = m->batch;

    for (size_t i = 0; i < b->slot_count; i++)
        if (b->slots[i].s->scored && b->slots[i].err == DBE_OK)
            score(m, &b->slots[i]);
}
