/* SPDX-License-Identifier: Apache-2.0
 *
 * spec.c - see spec.h.
 */
#include "spec.h"

#include <string.h>

#include "batch.h"

enum {
    GRAM_MAX = 4, /* tokens that must have stood in the text before, at best */
    GRAM_MIN = 2,
    LOOK_BACK_MAX = 1 << 16, /* tokens searched */
    PAUSE_FIRST = 2,
    PAUSE_MAX = 64,
    FOLLOW_ROWS = 128 /* tokens that the draft model reads a step when it is behind */
};

/* ---- life -------------------------------------------------------------------------------------------------------- */

static bool same_vocabulary(const struct llm_vocab *a, const struct llm_vocab *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->tokens[i].name_len != b->tokens[i].name_len ||
            memcmp(a->tokens[i].name, b->tokens[i].name, a->tokens[i].name_len) != 0)
            return false;
    return true;
}

static dbe_err take_draft_model(const struct llm_model *m, struct llm_model *draft, uint32_t tokens_max,
                                struct llm_spec *s, struct dbe_diag *diag)
{
    if (draft == m)
        return dbe_fail(diag, DBE_E_ARGUMENT, "draft", 0, "the draft model must be another than the model");
    if (draft->shape.n_vocab != m->shape.n_vocab || !same_vocabulary(&draft->vocab, &m->vocab))
        return dbe_fail(diag, DBE_E_ARGUMENT, "draft", 0, "the draft model has another vocabulary than the model");
    DBE_TRY(llm_kv_init(draft, BASE_MIN(tokens_max, draft->shape.n_ctx), &s->kv, diag));
    s->draft = draft;
    s->joined = llm_batch_join(draft, 1, NULL) == DBE_OK;
    return s->joined ? DBE_OK : dbe_fail(diag, DBE_E_NOMEM, "draft", 0, "no memory for the draft model's logits");
}

dbe_err llm_spec_init(const struct llm_model *m, const struct llm_session_params *p, uint32_t tokens_max,
                      struct llm_spec *out, struct dbe_diag *diag)
{
    struct llm_spec s = {.lookup = p->lookup_tokens, .most = p->lookup_tokens, .next_pause = PAUSE_FIRST};
    dbe_err err = DBE_OK;

    if (p->lookup_tokens > LLM_DRAFTS_MAX || p->draft_tokens > LLM_DRAFTS_MAX)
        return dbe_fail(diag, DBE_E_ARGUMENT, p->lookup_tokens > LLM_DRAFTS_MAX ? "lookup_tokens" : "draft_tokens", 0,
                        "%s must be at most %d", p->lookup_tokens > LLM_DRAFTS_MAX ? "lookup_tokens" : "draft_tokens",
                        LLM_DRAFTS_MAX);
    if (!p->draft && p->draft_tokens > 0)
        return dbe_fail(diag, DBE_E_ARGUMENT, "draft_tokens", 0, "draft_tokens without a draft model");
    if (p->draft) {
        s.model_drafts = p->draft_tokens ? p->draft_tokens : LLM_DRAFT_DEFAULT;
        err = take_draft_model(m, p->draft, tokens_max, &s, diag);
    }
    if (err != DBE_OK)
        llm_spec_fini(&s);
    else
        *out = s;
    return err;
}

void llm_spec_fini(struct llm_spec *s)
{
    if (!s->draft)
        return;
    if (s->joined)
        llm_batch_leave(s->draft, 1);
    llm_kv_free(s->draft, &s->kv);
    base_wipe(s->drafts, sizeof s->drafts);
    s->draft = NULL;
}

uint32_t llm_spec_most(const struct llm_spec *s)
{
    return BASE_MAX(s->lookup, s->model_drafts);
}

/* ---- look-up ----------------------------------------------------------------------------------------------------- */

/* Tokens that stand equally before `at` and before the end. */
static uint32_t equal_before(const int32_t *tokens, uint32_t count, uint32_t at)
{
    uint32_t n = 0;

    while (n < GRAM_MAX && n < at && tokens[at - 1 - n] == tokens[count - 1 - n])
        n++;
    return n;
}

/* Where the last tokens stood before: the latest of the longest matches. 0: nowhere. */
static uint32_t find_earlier(const int32_t *tokens, uint32_t count)
{
    const uint32_t stop = count > LOOK_BACK_MAX ? count - LOOK_BACK_MAX : 0;
    uint32_t best = 0, best_len = GRAM_MIN - 1;

    for (uint32_t at = count - 1; at > stop && best_len < GRAM_MAX; at--) {
        const uint32_t len = tokens[at - 1] == tokens[count - 1] ? equal_before(tokens, count, at) : 0;
        if (len > best_len) {
            best = at;
            best_len = len;
        }
    }
    return best;
}

static void look_up(struct llm_spec *s, const int32_t *tokens, uint32_t count, uint32_t most)
{
    if (s->pause > 0) {
        s->pause--;
        return;
    }
    const uint32_t at = count > GRAM_MIN ? find_earlier(tokens, count) : 0;
    if (at == 0)
        return;
    /* where the copy runs into the end it goes round: the drafts repeat what lies between */
    for (uint32_t i = 0; i < BASE_MIN(most, s->most); i++)
        s->drafts[s->count++] = tokens[at + i % (count - at)];
    s->looked_up = true;
}

/* ---- a model ----------------------------------------------------------------------------------------------------- */

/* Rows for tokens [done, done + n); the draft's step is held. */
static dbe_err draft_pass(struct llm_spec *s, const int32_t *tokens, uint32_t n, float *logits,
                          const atomic_bool *cancel)
{
    struct llm_row rows[FOLLOW_ROWS];

    for (uint32_t i = 0; i < n; i++)
        rows[i] = (struct llm_row){&s->kv, s->done + i, tokens[i], i + 1 == n ? logits : NULL, n > LLM_DRAFTS_MAX + 1};
    DBE_TRY(llm_forward(s->draft, rows, n, cancel));
    s->done += n;
    return DBE_OK;
}

void llm_spec_follow(struct llm_spec *s, const int32_t *tokens, uint32_t count, const atomic_bool *cancel)
{
    if (!s->draft || count > s->kv.capacity || s->done >= count)
        return;
    pthread_mutex_lock(&s->draft->step);
    /* what could not be computed is tried again; without it there are no drafts */
    (void)draft_pass(s, tokens + s->done, BASE_MIN(count - s->done, (uint32_t)FOLLOW_ROWS), NULL, cancel);
    pthread_mutex_unlock(&s->draft->step);
}

static void ask_model(struct llm_spec *s, const int32_t *tokens, uint32_t count, uint32_t most,
                      const struct llm_sampler *sampler, const atomic_bool *cancel)
{
    struct llm_sampler draw = *sampler; /* shares its counts, and notes nothing in them */
    struct llm_token_prob drawn;
    dbe_err err;

    s->done = BASE_MIN(s->done, count - 1); /* a pass that failed left more */
    if (s->done + FOLLOW_ROWS < count) {
        llm_spec_follow(s, tokens, count, cancel);
        return;
    }
    if (count + most > s->kv.capacity)
        return;
    draw.logprobs = 0;
    pthread_mutex_lock(&s->draft->step);
    const struct llm_loan loan = llm_batch_lend(s->draft->batch);
    err = draft_pass(s, tokens + s->done, count - s->done, loan.logits, cancel);
    while (err == DBE_OK && s->count < most) {
        llm_sample(&draw, loan.logits, s->draft->shape.n_vocab, NULL, loan.scratch, &drawn);
        s->drafts[s->count++] = drawn.id;
        draw.position++;
        if (s->count < most)
            err = draft_pass(s, &s->drafts[s->count - 1], 1, loan.logits, cancel);
    }
    pthread_mutex_unlock(&s->draft->step);
}

/* ---- both -------------------------------------------------------------------------------------------------------- */

void llm_spec_guess(struct llm_spec *s, const int32_t *tokens, uint32_t count, uint32_t most,
                    const struct llm_sampler *sampler, const atomic_bool *cancel)
{
    s->count = 0;
    s->looked_up = false;
    if (s->lookup > 0 && most > 0)
        look_up(s, tokens, count, most);
    if (s->count == 0 && s->draft && most > 0)
        ask_model(s, tokens, count, BASE_MIN(most, s->model_drafts), sampler, cancel);
}

void llm_spec_learn(struct llm_spec *s, uint32_t count, uint32_t tried, uint32_t right)
{
    if (s->draft) /* what it computed behind wrong drafts is overwritten */
        s->done = BASE_MIN(s->done, count + right);
    if (!s->looked_up || tried == 0)
        return;
    if (right == tried) {
        s->most = BASE_MIN(2 * s->most, s->lookup);
        s->next_pause = PAUSE_FIRST;
    } else if (right == 0 && s->most > 1) {
        s->most /= 2;
    } else if (right == 0) {
        s->pause = s->next_pause;
        s->next_pause = BASE_MIN(2 * s->next_pause, (uint32_t)PAUSE_MAX);
    }
}
