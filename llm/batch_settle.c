/* SPDX-License-Identifier: Apache-2.0
 *
 * batch_settle.c - what becomes of a pass's logits: tokens, text, the ends of answers.
 *
 * In:   logits of each session's rows. Out: its piece, or its error.
 */
#include "batch_pass.h"

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
static void take_tokens(struct llm_model *m, struct batch_slot *t, const struct tools *tools)
{
    struct llm_session *s = t->s;
    const uint32_t before = s->prompt_count + s->answered, tried = s->answered > 0 ? t->count - 1 : 0;
    uint32_t right = 0, n = 0;

    base_buf_clear(&s->text.out);
    do {
        t->err = next_token(s, t->logits + (size_t)n * m->shape.n_vocab, tools, &s->probs[n]);
        if (t->err != DBE_OK)
            return;
        accept_token(s, s->probs[n].id, &t->piece);
        right += n < tried && s->probs[n].id == s->spec.drafts[n];
    } while (right > n++ && !s->done);
    llm_spec_learn(&s->spec, before, tried, right);
    t->piece.probs = s->probs;
    t->piece.prob_count = n;
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
        if (b->slots[i].logits && b->slots[i].err == DBE_OK)
            take_tokens(m, &b->slots[i], &tools);
}
