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

/* A session begins, which wants up to `rows` logits a pass: their memory is there from now on. E_NOMEM. */
dbe_err llm_batch_join(struct llm_session *session, uint32_t rows) DBE_MUST_CHECK;
/* Takes one that never joined. */
void llm_batch_leave(struct llm_session *session);
void llm_batch_cancel(struct llm_session *session);

#endif
