/* SPDX-License-Identifier: Apache-2.0
 *
 * echo.h - a prompt that is told before the answer to it, token by token.
 *
 * In:   a session whose prompt is being computed. Out: text, and which tokens it is of.
 * Not:  no logits, no probabilities (batch_settle.c).
 */
#ifndef LLM_ECHO_H
#define LLM_ECHO_H

#include "session.h"

enum { LLM_ECHO_ROWS = 32 }; /* of logits at once: enough to read the output matrix once for many */

/* Places in session->probs that a step may need for tokens of the prompt. */
size_t llm_echo_probs(const struct llm_session *s);
/* The session has its tokens and parameters. E_TOO_LARGE: they stand for too many bytes; E_NOMEM. */
dbe_err llm_echo_init(struct llm_session *s, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Give the text of the prompt's tokens before `end` out that was not told before. */
void llm_echo_tell(struct llm_session *s, uint32_t end);

#endif
