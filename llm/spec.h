/* SPDX-License-Identifier: Apache-2.0
 *
 * spec.h - guesses at the next tokens of an answer, so that one pass may give several.
 *
 * In:   the tokens so far. Out: drafts, which the pass computes behind the last token.
 * Not:  no say in the text: each draft is compared with what the session samples itself in its place, and all from the
 *       first that differs are dropped. A wrong guess costs a row of a pass, never a letter.
 *
 * Two sources: look-up (what followed the last few tokens when they stood in the text before, or what comes next in a
 * text that the answer has been copying) and, where that finds nothing or does worse, a small model with the same
 * vocabulary. That one draws with the session's own sampler, so that where both models think alike they also draw
 * alike; many sessions with one draft model share its passes.
 *
 * How many drafts a step are worth their rows follows from how many of that kind were right so far (struct llm_odds).
 */
#ifndef LLM_SPEC_H
#define LLM_SPEC_H

#include "model.h"
#include "sampler.h"

enum { LLM_DRAFT_DEFAULT = 4 }; /* by a model, a step */

/* Where drafts come from: after 2, 3 or 4 equal tokens; behind a token that differed; a model. */
enum llm_guess { LLM_GUESS_TWO, LLM_GUESS_THREE, LLM_GUESS_FOUR, LLM_GUESS_BEHIND, LLM_GUESS_MODEL, LLM_GUESSES };

/* How a kind of guesses has done, old ones counting less: right ones of those that were put to the test. */
struct llm_odds {
    uint32_t right, tested;
    uint32_t pause, next_pause; /* turns to come without; how many when it is found not worth a row once more */
};

struct llm_spec {
    uint32_t lookup, model_drafts; /* most a step, from either source; 0: off */
    float model_cost;              /* of a pass of the draft model, in passes of the model */
    struct llm_odds odds[LLM_GUESSES];
    enum llm_guess kind; /* of the drafts */
    uint32_t from;       /* where in the text the looked-up drafts stand */
    uint32_t behind;     /* where the text that was being copied goes on; 0: none was */
    uint32_t count;
    int32_t drafts[LLM_DRAFTS_MAX];
    struct llm_model *draft;
    struct llm_kv kv; /* of the draft model */
    uint32_t done;    /* tokens in it */
    bool joined;
};

/* Checks the parameters. `tokens_max`: of prompt and answer. E_ARGUMENT, E_LIMIT (the draft model's KV budget),
 * E_NOMEM. */
dbe_err llm_spec_init(const struct llm_model *model, const struct llm_session_params *params, uint32_t tokens_max,
                      struct llm_spec *out, struct dbe_diag *diag) DBE_MUST_CHECK;
void llm_spec_fini(struct llm_spec *spec); /* takes a zeroed one */
uint32_t llm_spec_most(const struct llm_spec *spec);

/* What a session asks for before a pass. */
struct llm_ask {
    struct llm_spec *spec;
    const int32_t *tokens;
    uint32_t count; /* tokens so far */
    uint32_t most;  /* drafts; 0: none, but its draft model reads on, ahead of the first guess */
    const struct llm_sampler *sampler;
};
/* Guess behind the tokens of each of `count` <= LLM_SESSIONS_MAX sessions, `answers` of which will have a row in the
 * pass. Nobody holds the model's step nor a draft model's. */
void llm_spec_guess(struct llm_ask *asks, size_t count, uint32_t answers);
/* Of `tried` drafts behind the first `count` tokens, `right` were. */
void llm_spec_learn(struct llm_spec *spec, uint32_t count, uint32_t tried, uint32_t right);

#endif
