/* SPDX-License-Identifier: Apache-2.0
 *
 * says.h - what may be told of a growing answer: text up to the place where a call of a tool begins, and the
 * probabilities of the tokens of that text.
 *
 * In:   the pieces of one session     Out: text and probabilities that can be told now
 * Does: holds back what may be the beginning of the mark, and the probabilities of what is held back
 * Not:  no thread, no session: pure but for memory
 */
#ifndef L7_WORKER_SAYS_H
#define L7_WORKER_SAYS_H

#include "base/base.h"
#include "devices/l7_worker/engine.h"

struct engine_says {
    const struct engine_call *call;     /* how one begins; NULL: never; borrowed */
    bool wants_probs, all_probs, begun; /* all: of tokens without text, too; begun: more than white space was told */
    struct base_buf whole;              /* text so far without what is held; kept only with a mark */
    struct base_buf held;               /* text that may begin the mark */
    struct base_buf waits;              /* struct llm_token_prob whose text has not been told */
    uint64_t told, counted;             /* bytes of text told; bytes of tokens whose probabilities were */
    struct base_buf text, probs;        /* of the last call: to be told now */
};

void engine_says_init(struct engine_says *s, const struct engine_call *call, bool wants_probs, bool all_probs);
void engine_says_free(struct engine_says *s); /* takes a zeroed one */
/* Take a piece; `text` and `probs` are replaced. `ret_call`: the mark was said, and nothing of it or behind it is told.
 * E_NOMEM, E_TOO_LARGE. */
dbe_err engine_says_more(struct engine_says *s, const struct llm_model *model, const struct llm_piece *piece,
                         bool *ret_call) DBE_MUST_CHECK;
/* Append the tokens of a call's mark and lead. */
dbe_err engine_mark(const struct llm_model *model, const struct engine_call *call,
                    struct llm_tokens *out) DBE_MUST_CHECK;

#endif
