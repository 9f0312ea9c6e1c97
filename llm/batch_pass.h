/* SPDX-License-Identifier: Apache-2.0
 *
 * batch_pass.h - one forward pass for many sessions, from the inside: batch.c has its frame, batch_plan.c who gets
 * which rows, batch_settle.c what becomes of their logits.
 */
#ifndef LLM_BATCH_PASS_H
#define LLM_BATCH_PASS_H

#include "batch.h"

enum { BATCH_GUESSED_ROWS = 32 }; /* up to which a pass has rows of guesses */
_Static_assert(LLM_SESSIONS_MAX + BATCH_GUESSED_ROWS <= LLM_BATCH_LOGITS_MAX, "every answer has its logits");

/* A session in this pass. */
struct batch_slot {
    struct llm_session *s;
    size_t index;                   /* of the caller's arrays */
    uint32_t tenant;                /* index of the first slot with this salt */
    uint32_t first, count;          /* rows */
    float *logits;                  /* of its first row that wants some; NULL: none does */
    uint32_t echo_from, echo_count; /* tokens of its prompt that are told now */
    struct llm_piece piece;
    dbe_err err;
    bool waits; /* another one computes its next page */
};

struct llm_batch {
    struct llm_row rows[LLM_BATCH_MAX];
    struct batch_slot slots[LLM_SESSIONS_MAX];
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

static inline bool batch_in_prompt(const struct llm_session *s)
{
    return s->prefilled < s->prompt_count;
}

/* Guess what comes after the last tokens of answers. Before the model's step is taken: a draft model has a step of its
 * own. */
void batch_guess(struct llm_session *const *sessions, size_t count);
/* Rows for the last token of each answer, and guesses at those that follow; then rows of prompts. */
void batch_plan_decode(struct llm_model *m);
void batch_plan_prompts(struct llm_model *m);
/* For the pool: take the tokens of slots [begin, end) after the pass. Each samples by itself. */
void batch_settle(void *model, size_t begin, size_t end, unsigned thread);
/* Fill in the probabilities of prompts that are told. After batch_settle: the logits of answers are not needed any
 * more, and their room serves. */
void batch_score(struct llm_model *m);

#endif
