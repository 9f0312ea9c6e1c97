/* SPDX-License-Identifier: Apache-2.0
 *
 * batch.h - what sessions of a model share while one forward pass moves many of them on.
 *
 * In:   sessions. Out: for each a piece of text, or its own error.
 * Not:  no admission, no text, no weights.
 */
#ifndef LLM_BATCH_H
#define LLM_BATCH_H

#include "session.h"

enum { LLM_BATCH_LOGITS_MAX = 2 * LLM_SESSIONS_MAX }; /* rows of logits of one pass */

struct llm_batch;

/* `model`: shape and pool stand. E_NOMEM. */
dbe_err llm_batch_new(struct llm_model *model, struct llm_batch **ret) DBE_MUST_CHECK;
void llm_batch_free(struct llm_batch *batch); /* takes NULL */

/* Somebody begins who wants up to `rows` logits a pass: their memory is there from now on. `ret_turn` (may be NULL):
 * the time in the batch's clock. E_NOMEM. */
dbe_err llm_batch_join(struct llm_model *model, uint32_t rows, uint64_t *ret_turn) DBE_MUST_CHECK;
void llm_batch_leave(struct llm_model *model, uint32_t rows);
/* Somebody comes with a grammar: what masks need is there from now on. E_NOMEM. */
dbe_err llm_batch_masks(struct llm_model *model) DBE_MUST_CHECK;
/* Somebody comes whose prompt is to be told with probabilities: that many rows of logits are there from now on, shared
 * by all who do so. E_NOMEM. */
dbe_err llm_batch_room(struct llm_model *model, uint32_t rows) DBE_MUST_CHECK;
void llm_batch_cancel(struct llm_session *session);

/* The rows of logits that were joined for, and memory to sample from them, of each thread of the model's pool; for one
 * who has joined and as long as he holds the model's step. */
struct llm_loan {
    float *logits;
    struct sampler_scratch *scratch;
};
struct llm_loan llm_batch_lend(const struct llm_batch *batch);

#endif
