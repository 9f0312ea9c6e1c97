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
    PAUSE_FIRST = 8,
    PAUSE_MAX = 64,
    NEAR = LLM_DRAFTS_MAX + 1, /* tokens that a draft model reads in the pass that draws, at most */
    ODDS_MEMORY = 32           /* tests from which on old ones count half */
};
_Static_assert(LLM_GUESS_FOUR - LLM_GUESS_TWO == GRAM_MAX - GRAM_MIN, "each length of a match has its odds");

/* Costs of rows, in passes of one row; measured with INT8 weights on two cores with AVX-512, and less where there are
 * more cores for the same memory. Of one answer: of the first draft beside what every one costs, and of every one. */
static const float FIRST_COST = 0.15f, ROW_COST = 0.1f;
/* Of several: of a row more up to FEW_ROWS of them, which mostly wait for memory, and of one beyond, which computes. */
static const float FEW_COST = 0.06f, BUSY_COST = 0.11f;
enum { FEW_ROWS = 8 };
/* A draft model that is not smaller than this share of the model counts as of this share: it was asked for. */
static const float MODEL_COST_MAX = 0.5f;

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

dbe_err llm_draft_fits(const struct llm_model *m, const struct llm_model *draft, struct dbe_diag *diag)
{
    if (draft == m)
        return dbe_fail(diag, DBE_E_ARGUMENT, "draft", 0, "the draft model must be another than the model");
    if (draft->shape.n_vocab != m->shape.n_vocab || !same_vocabulary(&draft->vocab, &m->vocab))
        return dbe_fail(diag, DBE_E_ARGUMENT, "draft", 0, "the draft model has another vocabulary than the model");
    return DBE_OK;
}

static dbe_err take_draft_model(const struct llm_model *m, struct llm_model *draft, uint32_t tokens_max,
                                struct llm_spec *s, struct dbe_diag *diag)
{
    DBE_TRY(llm_draft_fits(m, draft, diag));
    DBE_TRY(llm_kv_init(draft, BASE_MIN(tokens_max, draft->shape.n_ctx), &s->kv, diag));
    s->draft = draft;
    s->model_cost = (float)draft->info.pass_bytes / (float)BASE_MAX(m->info.pass_bytes, UINT64_C(1));
    s->model_cost = BASE_MIN(s->model_cost, MODEL_COST_MAX);
    s->joined = llm_batch_join(draft, 1, NULL) == DBE_OK;
    return s->joined ? DBE_OK : dbe_fail(diag, DBE_E_NOMEM, "draft", 0, "no memory for the draft model's logits");
}

dbe_err llm_spec_init(const struct llm_model *m, const struct llm_session_params *p, uint32_t tokens_max,
                      struct llm_spec *out, struct dbe_diag *diag)
{
    struct llm_spec s = {.lookup = p->lookup_tokens};
    dbe_err err = DBE_OK;

    for (size_t i = 0; i < BASE_ARRAY_LEN(s.odds); i++) { /* hopeful, less so of the shortest match */
        const uint32_t right = i == LLM_GUESS_TWO ? 1 : 2;
        s.odds[i] = (struct llm_odds){.right = right, .tested = right + 1, .next_pause = PAUSE_FIRST};
    }
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

/* ---- how many ---------------------------------------------------------------------------------------------------- */

/* Of drafts, in passes without any: of the first one, beside that of every one. */
struct cost {
    float first, each;
};

/* Where each of `answers` sessions gets one draft more. */
static struct cost cost_of(uint32_t answers)
{
    if (answers <= 1)
        return (struct cost){FIRST_COST, ROW_COST};
    const uint32_t few = BASE_MIN(answers, (uint32_t)FEW_ROWS);
    const float pass = 1 + FIRST_COST + (float)(few - 1) * FEW_COST + (float)(answers - few) * BUSY_COST;

    return (struct cost){0, (float)answers * BUSY_COST / pass};
}

/* Drafts that are worth the most: with n of them a pass gives 1 + p + ... + p^n tokens on average, and costs
 * 1 + cost.first + n * cost.each. `ret_rate`: tokens for the cost of a pass without. */
static uint32_t worth(const struct llm_odds *o, struct cost cost, uint32_t most, float *ret_rate)
{
    const float p = (float)o->right / (float)o->tested;
    float power = 1, tokens = 1;
    uint32_t best = 0;

    *ret_rate = 1;
    for (uint32_t n = 1; n <= most; n++) {
        power *= p;
        tokens += power;
        const float rate = tokens / (1 + cost.first + (float)n * cost.each);
        if (rate > *ret_rate) {
            *ret_rate = rate;
            best = n;
        }
    }
    return best;
}

/* The same in practice: what is not worth a row is tried with one draft now and then. */
static uint32_t how_many(struct llm_odds *o, struct cost cost, uint32_t most)
{
    float rate;

    if (o->pause > 0) {
        o->pause--;
        return 0;
    }
    const uint32_t n = worth(o, cost, most, &rate);
    if (n > 0 || most == 0)
        return n;
    o->pause = o->next_pause;
    o->next_pause = BASE_MIN(2 * o->next_pause, (uint32_t)PAUSE_MAX);
    return 1;
}

static void learn(struct llm_odds *o, uint32_t tried, uint32_t right)
{
    if (o->pause > 0 && right > 0) { /* a try that was right: more of them, and what was wrong before is forgotten */
        o->pause = 0;
        o->next_pause = PAUSE_FIRST;
        if (2 * o->right < o->tested)
            *o = (struct llm_odds){.right = 1, .tested = 2, .next_pause = PAUSE_FIRST};
    }
    o->right += right;
    o->tested += right + (right < tried);
    if (o->tested > ODDS_MEMORY) {
        o->right /= 2;
        o->tested /= 2;
    }
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
static uint32_t find_earlier(const int32_t *tokens, uint32_t count, uint32_t *ret_len)
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
    *ret_len = best_len;
    return best;
}

static bool likelier(const struct llm_odds *a, const struct llm_odds *b)
{
    return a->right * b->tested > b->right * a->tested;
}

/* Choose the place to copy from, and of what kind it is; 0: none. */
static uint32_t find_place(const struct llm_spec *s, const int32_t *tokens, uint32_t count, enum llm_guess *ret_kind)
{
    uint32_t len = 0;
    const uint32_t at = count > GRAM_MIN ? find_earlier(tokens, count, &len) : 0;

    if (at > 0)
        *ret_kind = LLM_GUESS_TWO + (len - GRAM_MIN);
    if (s->behind == 0 || s->behind >= count || (at > 0 && !likelier(&s->odds[LLM_GUESS_BEHIND], &s->odds[*ret_kind])))
        return at;
    *ret_kind = LLM_GUESS_BEHIND;
    return s->behind;
}

/* Copy unless a model that guesses does better, by `model_rate` tokens for the cost of a pass. */
static void look_up(const struct llm_ask *a, struct cost cost, float model_rate)
{
    struct llm_spec *s = a->spec;
    const uint32_t most = BASE_MIN(a->most, s->lookup);
    enum llm_guess kind = LLM_GUESS_TWO;
    float rate;

    const uint32_t at = most > 0 ? find_place(s, a->tokens, a->count, &kind) : 0;
    if (at == 0)
        return;
    worth(&s->odds[kind], cost, most, &rate);
    if (rate < model_rate)
        return;
    const uint32_t n = how_many(&s->odds[kind], cost, most);
    /* where the copy runs into the end it goes round: the drafts repeat what lies between */
    for (uint32_t i = 0; i < n; i++)
        s->drafts[s->count++] = a->tokens[at + i % (a->count - at)];
    s->from = at;
    s->kind = kind;
}

/* ---- a model ----------------------------------------------------------------------------------------------------- */

/* A session that a draft model's passes draw for. */
struct drawer {
    struct llm_spec *spec;
    struct llm_sampler sampler; /* shares the session's counts, and notes nothing in them */
    uint32_t most;
    float *logits;
};

/* Sessions of one draft model; its step is held. */
struct drawing {
    struct llm_model *draft;
    struct llm_loan loan;
    size_t drawer_count, row_count;
    struct drawer drawers[LLM_SESSIONS_MAX];
    struct llm_row rows[LLM_BATCH_MAX];
    struct llm_spec *owners[LLM_BATCH_MAX]; /* of the rows */
};

static uint32_t unread(const struct llm_ask *a)
{
    return a->count - a->spec->done;
}

static void add_rows(struct drawing *d, struct llm_spec *s, const int32_t *tokens, uint32_t n, bool prefill)
{
    for (uint32_t i = 0; i < n; i++) {
        d->owners[d->row_count] = s;
        d->rows[d->row_count++] = (struct llm_row){&s->kv, s->done + i, tokens[i], NULL, prefill};
    }
    s->done += n; /* taken back where the pass fails */
}

/* A draft of a model costs a pass of that model, too. */
static struct cost with_model(const struct llm_spec *s, struct cost cost)
{
    return (struct cost){cost.first, cost.each + s->model_cost};
}

/* Those that are up to date draw. */
static void add_drawer(struct drawing *d, const struct llm_ask *a, struct cost cost)
{
    struct llm_spec *s = a->spec;
    const uint32_t n = unread(a), most = BASE_MIN(a->most, s->model_drafts);

    if (n > NEAR && s->odds[LLM_GUESS_MODEL].pause > 0)
        s->odds[LLM_GUESS_MODEL].pause--; /* it has not read what came in the meantime: that first, then a try */
    if (n > NEAR || a->count + most > s->kv.capacity || d->row_count + n > LLM_BATCH_MAX)
        return;
    const uint32_t want = how_many(&s->odds[LLM_GUESS_MODEL], with_model(s, cost), most);
    if (want == 0)
        return;
    struct drawer *to = &d->drawers[d->drawer_count];
    *to = (struct drawer){s, *a->sampler, want, d->loan.logits + d->drawer_count * d->draft->shape.n_vocab};
    to->sampler.logprobs = 0;
    d->drawer_count++;
    add_rows(d, s, a->tokens + s->done, n, false);
    d->rows[d->row_count - 1].logits = to->logits;
}

/* The others read on, as far as there is room. */
static void add_reader(struct drawing *d, const struct llm_ask *a)
{
    struct llm_spec *s = a->spec;
    const uint32_t n = unread(a), room = LLM_BATCH_MAX - (uint32_t)d->row_count;

    if ((a->most > 0 && n <= NEAR) || a->count > s->kv.capacity || s->odds[LLM_GUESS_MODEL].pause > 0)
        return;
    add_rows(d, s, a->tokens + s->done, BASE_MIN(n, room), true);
}

static void draw(void *ctx, size_t begin, size_t end, unsigned thread)
{
    struct drawing *d = ctx;
    struct llm_token_prob drawn;

    for (size_t i = begin; i < end; i++) {
        struct drawer *w = &d->drawers[i];
        if (w->spec->count >= w->most)
            continue;
        llm_sample(&w->sampler, w->logits, d->draft->shape.n_vocab, NULL, &d->loan.scratch[thread], &drawn);
        w->sampler.position++;
        w->spec->drafts[w->spec->count++] = drawn.id;
    }
}

/* Each draft is the next pass's row, but for the last one. */
static void plan_next(struct drawing *d)
{
    d->row_count = 0;
    for (size_t i = 0; i < d->drawer_count; i++) {
        struct drawer *w = &d->drawers[i];
        if (w->spec->count >= w->most)
            continue;
        add_rows(d, w->spec, &w->spec->drafts[w->spec->count - 1], 1, false);
        d->rows[d->row_count - 1].logits = w->logits;
    }
}

static void forget_rows(const struct drawing *d)
{
    for (size_t r = 0; r < d->row_count; r++)
        d->owners[r]->done = BASE_MIN(d->owners[r]->done, d->rows[r].pos);
}

/* All passes of the draft model of asks[first], for all asks with that model. */
static void ask_model(struct llm_ask *asks, size_t first, size_t count, uint32_t answers)
{
    struct drawing d = {.draft = asks[first].spec->draft};
    const struct cost cost = cost_of(answers);

    pthread_mutex_lock(&d.draft->step);
    d.loan = llm_batch_lend(d.draft->batch);
    for (size_t i = first; i < count; i++)
        if (asks[i].spec->draft == d.draft && asks[i].spec->count == 0 && asks[i].most > 0)
            add_drawer(&d, &asks[i], cost);
    for (size_t i = first; i < count; i++)
        if (asks[i].spec->draft == d.draft && asks[i].spec->count == 0)
            add_reader(&d, &asks[i]);
    while (d.row_count > 0) {
        if (llm_forward(d.draft, d.rows, d.row_count, NULL) != DBE_OK) {
            forget_rows(&d); /* fewer drafts, or none */
            break;
        }
        llm_pool_run(d.draft->pool, d.drawer_count, 1, draw, &d);
        plan_next(&d);
    }
    pthread_mutex_unlock(&d.draft->step);
}

/* ---- both -------------------------------------------------------------------------------------------------------- */

void llm_spec_guess(struct llm_ask *asks, size_t count, uint32_t answers)
{
    const struct cost cost = cost_of(answers);

    for (size_t i = 0; i < count; i++) {
        struct llm_spec *s = asks[i].spec;
        float model_rate = 0;
        s->count = 0;
        s->kind = LLM_GUESS_MODEL;
        s->done = BASE_MIN(s->done, asks[i].count - (asks[i].most > 0)); /* the last one must be read to draw */
        if (s->draft && s->odds[LLM_GUESS_MODEL].pause == 0)
            worth(&s->odds[LLM_GUESS_MODEL], with_model(s, cost), BASE_MIN(asks[i].most, s->model_drafts), &model_rate);
        look_up(&asks[i], cost, model_rate);
    }
    for (size_t i = 0; i < count; i++) {
        bool asked = !asks[i].spec->draft;
        for (size_t j = 0; j < i && !asked; j++)
            asked = asks[j].spec->draft == asks[i].spec->draft;
        if (!asked)
            ask_model(asks, i, count, answers);
    }
}

void llm_spec_learn(struct llm_spec *s, uint32_t count, uint32_t tried, uint32_t right)
{
    const bool copied = tried > 0 && s->kind != LLM_GUESS_MODEL;

    if (s->draft) /* what it computed behind wrong drafts is overwritten */
        s->done = BASE_MIN(s->done, count + right);
    /* a text that is copied goes on behind a token that differed; one whose very next token differs is another text,
     * unless much of it was equal before */
    if (copied && right == 0 && s->kind != LLM_GUESS_FOUR)
        s->behind = 0;
    else if (copied)
        s->behind = s->from + right + 1;
    else if (s->behind > 0)
        s->behind += right + 1;
    if (tried > 0)
        learn(&s->odds[s->kind], tried, right);
}
