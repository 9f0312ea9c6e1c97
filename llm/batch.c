/* SPDX-License-Identifier: Apache-2.0
 *
 * batch.c - one forward pass for many sessions: who gets which rows, and what becomes of their logits.
 *
 * In:   sessions. Out: pieces, errors.
 *
 * Reading order: llm_batch_step -> enter, plan (plan_decode, grant, plan_prompts), llm_forward, settle. Rows of answers
 * come first and each has its logits in the shared buffer, one behind the other, so that the output matrix runs over
 * all of them at once. What room is left belongs to prompts. It is granted a page at a time to the salt, and of its
 * sessions to the one, that was served longest ago: who asks for much does not push aside who asks for little.
 */
#include "batch.h"

#include <string.h>

#include "prefix.h"

enum {
    PREFILL_BESIDE_DECODE = 128, /* rows of prompts in a pass that others wait for with a token each */
    GUESSED_ROWS = 32            /* up to which a pass has rows of guesses */
};
_Static_assert(LLM_SESSIONS_MAX + GUESSED_ROWS <= LLM_BATCH_LOGITS_MAX, "every answer has its logits");

/* A session in this pass. */
struct slot {
    struct llm_session *s;
    size_t index;          /* of the caller's arrays */
    uint32_t tenant;       /* index of the first slot with this salt */
    uint32_t first, count; /* rows */
    float *logits;         /* of its first row that wants some; NULL: none does */
    struct llm_piece piece;
    dbe_err err;
    bool waits; /* another one computes its next page */
};

struct llm_batch {
    struct llm_row rows[LLM_BATCH_MAX];
    struct slot slots[LLM_SESSIONS_MAX];
    uint64_t served[LLM_SESSIONS_MAX]; /* of a tenant: its latest turn */
    size_t slot_count, row_count, logits_used;
    uint64_t clock; /* grants so far */
    float *logits;  /* [logits_rows][n_vocab] */
    uint32_t logits_rows;
    uint64_t joined;                 /* rows that sessions asked for */
    struct sampler_scratch *scratch; /* [threads] */
    struct llm_trie *trie; /* of the vocabulary, and masks, [threads][mask_words]; NULL until a grammar came */
    uint32_t *masks;
    size_t mask_words;
    unsigned threads;
    pthread_mutex_t lock; /* guards in_pass of sessions, and: */
    size_t live;          /* sessions of the pass that are not cancelled */
    atomic_bool stop;     /* none is left */
};

/* ---- life -------------------------------------------------------------------------------------------------------- */

dbe_err llm_batch_new(struct llm_model *m, struct llm_batch **ret)
{
    struct llm_batch *b = base_alloc(1, sizeof *b);

    if (!b)
        return DBE_E_NOMEM;
    pthread_mutex_init(&b->lock, NULL);
    b->threads = llm_pool_threads(m->pool);
    b->scratch = base_alloc(b->threads, sizeof *b->scratch);
    for (unsigned i = 0; i < b->threads; i++)
        if (!b->scratch || llm_sampler_scratch_init(m->shape.n_vocab, &b->scratch[i]) != DBE_OK) {
            llm_batch_free(b);
            return DBE_E_NOMEM;
        }
    *ret = b;
    return DBE_OK;
}

void llm_batch_free(struct llm_batch *b)
{
    if (!b)
        return;
    for (unsigned i = 0; b->scratch && i < b->threads; i++)
        llm_sampler_scratch_fini(&b->scratch[i]);
    base_free(b->scratch);
    base_free(b->masks);
    llm_trie_free(b->trie);
    base_free(b->logits);
    pthread_mutex_destroy(&b->lock);
    base_free(b);
}

/* Room for `rows` rows of logits at least; what they hold is of no use between two passes. */
static dbe_err grow_logits(struct llm_model *m, uint64_t rows)
{
    struct llm_batch *b = m->batch;
    uint32_t want = BASE_MAX(b->logits_rows, 1U);

    rows = BASE_MIN(rows, (uint64_t)LLM_BATCH_LOGITS_MAX);
    while (want < rows)
        want *= 2;
    if (want == b->logits_rows)
        return DBE_OK;
    float *logits = base_alloc((size_t)want * m->shape.n_vocab, sizeof *logits);
    if (!logits)
        return DBE_E_NOMEM;
    base_free(b->logits);
    b->logits = logits;
    b->logits_rows = want;
    return DBE_OK;
}

dbe_err llm_batch_join(struct llm_model *m, uint32_t rows, uint64_t *ret_turn)
{
    struct llm_batch *b = m->batch;
    dbe_err err;

    pthread_mutex_lock(&m->step);
    err = grow_logits(m, b->joined + rows);
    if (err == DBE_OK) {
        b->joined += rows;
        if (ret_turn)
            *ret_turn = b->clock;
    }
    pthread_mutex_unlock(&m->step);
    return err;
}

void llm_batch_leave(struct llm_model *m, uint32_t rows)
{
    pthread_mutex_lock(&m->step);
    m->batch->joined -= rows;
    pthread_mutex_unlock(&m->step);
}

dbe_err llm_batch_masks(struct llm_model *m)
{
    struct llm_batch *b = m->batch;
    dbe_err err = DBE_OK;

    pthread_mutex_lock(&m->step);
    b->mask_words = (m->shape.n_vocab + 31) / 32;
    if (!b->trie)
        err = llm_trie_new(&m->vocab, &b->trie);
    if (!b->masks)
        b->masks = base_alloc(b->mask_words * b->threads, sizeof *b->masks);
    pthread_mutex_unlock(&m->step);
    return err == DBE_OK && !b->masks ? DBE_E_NOMEM : err;
}

struct llm_loan llm_batch_lend(const struct llm_batch *b)
{
    return (struct llm_loan){b->logits, b->scratch};
}

/* ---- cancellation ------------------------------------------------------------------------------------------------ */

void llm_batch_cancel(struct llm_session *s)
{
    struct llm_batch *b = s->model->batch;

    pthread_mutex_lock(&b->lock);
    atomic_store(&s->cancel, true);
    if (s->in_pass) {
        s->in_pass = false;
        if (--b->live == 0)
            atomic_store(&b->stop, true);
    }
    pthread_mutex_unlock(&b->lock);
}

/* Take the sessions that can go on into the pass, and say of the others why not. */
static void enter(struct llm_batch *b, struct llm_session *const *sessions, size_t count, dbe_err *errs)
{
    b->slot_count = b->row_count = b->logits_used = 0;
    pthread_mutex_lock(&b->lock);
    b->live = 0;
    atomic_store(&b->stop, false);
    for (size_t i = 0; i < count; i++) {
        struct llm_session *s = sessions[i];
        errs[i] = atomic_load(&s->cancel) ? DBE_E_CANCELLED : s->done || s->in_pass ? DBE_E_STATE : DBE_OK;
        if (errs[i] != DBE_OK)
            continue;
        s->in_pass = true;
        b->live++;
        b->slots[b->slot_count++] = (struct slot){.s = s, .index = i, .piece = {.text = ""}};
    }
    pthread_mutex_unlock(&b->lock);
}

static void leave_pass(struct llm_batch *b)
{
    pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < b->slot_count; i++) {
        if (!b->slots[i].s->in_pass)
            b->slots[i].err = DBE_E_CANCELLED;
        b->slots[i].s->in_pass = false;
    }
    pthread_mutex_unlock(&b->lock);
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static bool in_prompt(const struct llm_session *s)
{
    return s->prefilled < s->prompt_count;
}

static float *take_logits(struct llm_model *m)
{
    return m->batch->logits + m->batch->logits_used++ * m->shape.n_vocab;
}

/* What a session asks of guesses; false: nothing. `share`: rows that it may have for them. */
static bool asks_for(struct llm_session *s, uint32_t share, struct llm_ask *out)
{
    s->spec.count = 0;
    if (s->done || atomic_load(&s->cancel) || llm_spec_most(&s->spec) == 0)
        return false;
    *out = (struct llm_ask){&s->spec, s->tokens, s->prompt_count + s->answered, 0, &s->sampler};
    if (in_prompt(s))
        return s->spec.draft != NULL;
    out->most = BASE_MIN(share, s->max_tokens - s->answered - 1);
    return out->most > 0;
}

/* Guess what comes after the last tokens of answers. Many answers in a pass use the machine well without guesses, so
 * they share a number of rows for these. Before the model's step is taken: a draft model has a step of its own. */
static void guess(struct llm_session *const *sessions, size_t count)
{
    struct llm_ask asks[LLM_SESSIONS_MAX];
    uint32_t answers = 0;
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        answers += !in_prompt(sessions[i]) && !sessions[i]->done;
    const uint32_t share = answers < GUESSED_ROWS ? (GUESSED_ROWS - answers) / BASE_MAX(answers, 1U) : 0;
    for (size_t i = 0; i < count; i++)
        n += asks_for(sessions[i], share, &asks[n]);
    llm_spec_guess(asks, n, answers);
}

/* The last token of each answer, and guesses at those that follow. */
static void plan_decode(struct llm_model *m)
{
    struct llm_batch *b = m->batch;

    for (size_t i = 0; i < b->slot_count; i++) {
        struct slot *t = &b->slots[i];
        struct llm_session *s = t->s;
        if (in_prompt(s))
            continue;
        const uint32_t pos = s->prompt_count + s->answered - 1;
        t->first = (uint32_t)b->row_count;
        t->count = 1 + s->spec.count;
        for (uint32_t r = 0; r < t->count; r++) {
            float *logits = take_logits(m);
            t->logits = r == 0 ? logits : t->logits;
            b->rows[b->row_count++] =
                (struct llm_row){&s->kv, pos + r, r == 0 ? s->tokens[pos] : s->spec.drafts[r - 1], logits, false};
        }
    }
}

static bool same_salt(const struct llm_session *a, const struct llm_session *b)
{
    return a->has_salt == b->has_salt && memcmp(a->salt, b->salt, sizeof a->salt) == 0;
}

/* Does `other` compute the page that `slot` needs next, so that it can be shared? The one that is ahead computes; of
 * equals the first. */
static bool computes_for(const struct slot *other, const struct slot *slot)
{
    const struct llm_session *o = other->s, *s = slot->s;
    const uint32_t page = s->prefilled / LLM_KV_PAGE * LLM_KV_PAGE, end = page + LLM_KV_PAGE;

    if (!s->has_salt || o == s || o->prefilled >= end || o->prompt_count < end || s->prompt_count <= end)
        return false;
    if (o->prefilled < s->prefilled || (o->prefilled == s->prefilled && other > slot))
        return false;
    return same_salt(o, s) && memcmp(o->tokens, s->tokens, end * sizeof *s->tokens) == 0;
}

static void take_cached(struct llm_model *m, struct llm_session *s)
{
    const uint32_t done = llm_prefix_take(m, s->salt, s->tokens, s->prompt_count, s->prefilled, &s->kv);

    s->cached += done - s->prefilled;
    s->prefilled = done;
}

/* Take what the prefix cache has for sessions in their prompts, and find their tenants. */
static void look_at_prompts(struct llm_model *m)
{
    struct llm_batch *b = m->batch;

    for (uint32_t i = 0; i < b->slot_count; i++) {
        struct llm_session *s = b->slots[i].s;
        if (in_prompt(s) && s->has_salt)
            take_cached(m, s);
    }
    for (uint32_t i = 0; i < b->slot_count; i++) {
        struct slot *t = &b->slots[i];
        for (t->tenant = 0; t->tenant < i && !same_salt(b->slots[t->tenant].s, t->s);)
            t->tenant++;
        b->served[i] = 0;
        b->served[t->tenant] = BASE_MAX(b->served[t->tenant], t->s->turn);
        for (uint32_t j = 0; in_prompt(t->s) && j < b->slot_count && !t->waits; j++)
            t->waits = computes_for(&b->slots[j], t);
    }
}

/* Who gets the next rows: of the salts, then of the sessions, the one served longest ago. NULL: nobody needs any. */
static struct slot *next_prompt(struct llm_batch *b)
{
    struct slot *best = NULL;

    for (size_t i = 0; i < b->slot_count; i++) {
        struct slot *t = &b->slots[i];
        if (!in_prompt(t->s) || t->waits || t->count >= BASE_MIN(t->s->chunk, t->s->prompt_count - t->s->prefilled))
            continue;
        if (!best || b->served[t->tenant] < b->served[best->tenant] ||
            (t->tenant == best->tenant && t->s->turn < best->s->turn))
            best = t;
    }
    return best;
}

/* Share `room` rows out. */
static void grant(struct llm_batch *b, uint32_t room)
{
    struct slot *t;

    while (room > 0 && (t = next_prompt(b)) != NULL) {
        const uint32_t most = BASE_MIN(t->s->chunk, t->s->prompt_count - t->s->prefilled) - t->count;
        const uint32_t n = BASE_MIN(BASE_MIN(most, (uint32_t)LLM_KV_PAGE), room);
        t->count += n;
        room -= n;
        t->s->turn = b->served[t->tenant] = ++b->clock;
    }
}

static void plan_prompts(struct llm_model *m)
{
    struct llm_batch *b = m->batch;
    const uint32_t room = LLM_BATCH_MAX - (uint32_t)b->row_count;

    look_at_prompts(m);
    grant(b, b->row_count > 0 ? BASE_MIN(room, (uint32_t)PREFILL_BESIDE_DECODE) : room);
    for (size_t i = 0; i < b->slot_count; i++) {
        struct slot *t = &b->slots[i];
        struct llm_session *s = t->s;
        if (!in_prompt(s) || t->count == 0)
            continue;
        t->first = (uint32_t)b->row_count;
        for (uint32_t r = 0; r < t->count; r++) {
            const uint32_t pos = s->prefilled + r;
            if (pos + 1 == s->prompt_count)
                t->logits = take_logits(m);
            b->rows[b->row_count++] = (struct llm_row){&s->kv, pos, s->tokens[pos], NULL, true};
        }
        b->rows[b->row_count - 1].logits = t->logits;
    }
}

/* ---- after the pass ---------------------------------------------------------------------------------------------- */

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
static void take_tokens(struct llm_model *m, struct slot *t, const struct tools *tools)
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

/* Items are sessions: each samples by itself, so they share the pool. */
static void settle(void *ctx, size_t begin, size_t end, unsigned thread)
{
    struct llm_model *m = ctx;
    struct llm_batch *b = m->batch;
    const struct tools tools = {&b->scratch[thread], b->masks ? b->masks + thread * b->mask_words : NULL};

    for (size_t i = begin; i < end; i++)
        if (b->slots[i].logits && b->slots[i].err == DBE_OK)
            take_tokens(m, &b->slots[i], &tools);
}

static void note_prompts(struct llm_model *m)
{
    struct llm_batch *b = m->batch;

    for (size_t i = 0; i < b->slot_count; i++) {
        struct llm_session *s = b->slots[i].s;
        if (!in_prompt(s) || b->slots[i].count == 0)
            continue;
        s->prefilled += b->slots[i].count;
        if (s->has_salt)
            llm_prefix_put(m, s->salt, s->tokens, s->prefilled, &s->kv);
    }
}

static void pass(struct llm_model *m)
{
    struct llm_batch *b = m->batch;
    dbe_err err = DBE_OK;

    plan_decode(m);
    plan_prompts(m);
    if (b->row_count > 0)
        err = llm_forward(m, b->rows, b->row_count, &b->stop);
    if (err == DBE_OK)
        note_prompts(m);
    leave_pass(b);
    for (size_t i = 0; err != DBE_OK && i < b->slot_count; i++)
        b->slots[i].err = err;
    llm_pool_run(m->pool, b->slot_count, 1, settle, m);
}

dbe_err llm_batch_step(struct llm_model *m, struct llm_session *const *sessions, size_t count, struct llm_piece *pieces,
                       dbe_err *errs)
{
    struct llm_batch *b = m->batch;

    if (count > LLM_SESSIONS_MAX)
        return DBE_E_ARGUMENT;
    for (size_t i = 0; i < count; i++)
        if (sessions[i]->model != m)
            return DBE_E_ARGUMENT;
    guess(sessions, count);
    pthread_mutex_lock(&m->step);
    enter(b, sessions, count, errs);
    pass(m);
    for (size_t i = 0; i < b->slot_count; i++) {
        errs[b->slots[i].index] = b->slots[i].err;
        if (b->slots[i].err == DBE_OK)
            pieces[b->slots[i].index] = b->slots[i].piece;
    }
    pthread_mutex_unlock(&m->step);
    return DBE_OK;
}
