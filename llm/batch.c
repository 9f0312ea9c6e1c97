/* SPDX-License-Identifier: Apache-2.0
 *
 * batch.c - one forward pass for many sessions: its memory, who takes part, what it does in turn.
 *
 * In:   sessions. Out: pieces, errors.
 * Not:  who gets which rows (batch_plan.c), what becomes of their logits (batch_settle.c).
 *
 * Reading order: llm_batch_step -> batch_guess, enter, pass.
 */
#include "batch_pass.h"
#include "prefix.h"

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

dbe_err llm_batch_room(struct llm_model *m, uint32_t rows)
{
    pthread_mutex_lock(&m->step);
    dbe_err err = grow_logits(m, rows);
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
        b->slots[b->slot_count++] = (struct batch_slot){.s = s, .index = i, .piece = {.text = ""}};
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

/* ---- the pass ---------------------------------------------------------------------------------------------------- */

static void note_prompts(struct llm_model *m)
{
    struct llm_batch *b = m->batch;

    for (size_t i = 0; i < b->slot_count; i++) {
        struct llm_session *s = b->slots[i].s;
        if (!batch_in_prompt(s) || b->slots[i].count == 0)
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

    batch_plan_decode(m);
    batch_plan_prompts(m);
    if (b->row_count > 0)
        err = llm_forward(m, b->rows, b->row_count, &b->stop);
    if (err == DBE_OK)
        note_prompts(m);
    leave_pass(b);
    for (size_t i = 0; err != DBE_OK && i < b->slot_count; i++)
        b->slots[i].err = err;
    llm_pool_run(m->pool, b->slot_count, 1, batch_settle, m);
    batch_score(m);
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
    batch_guess(sessions, count);
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
