/* SPDX-License-Identifier: Apache-2.0
 *
 * spec.h - guesses at the next tokens of an answer, so that one pass may give several.
 *
 * In:   the tokens so far. Out: drafts, which the pass computes behind the last token.
 * Not:  no say in the text: each draft is compared with what the session samples itself in its place, and all from the
 *       first that differs are dropped. A wrong guess costs a row of a pass, never a letter.
 *
 * Two sources: look-up (what followed the last few tokens when they stood in the text before) and, where that finds
 * nothing, a small model with the same vocabulary. That one draws with the session's own sampler, so that where both
 * models think alike they also draw alike.
 */
#ifndef LLM_SPEC_H
#define LLM_SPEC_H

#include "model.h"
#include "sampler.h"

enum { LLM_DRAFT_DEFAULT = 4 }; /* by a model, a step */

struct llm_spec {
    uint32_t lookup, model_drafts; /* most a step, from either source; 0: off */
    uint32_t most;                 /* look-up at present: less when it guesses badly */
    uint32_t pause, next_pause;    /* steps to come without look-up; how many after the next bad guess */
    uint32_t count;
    bool looked_up; /* the drafts' source */
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

/* Guess up to `most` tokens behind tokens[0..count). Nobody holds the model's step nor the draft's. */
void llm_spec_guess(struct llm_spec *spec, const int32_t *tokens, uint32_t count, uint32_t most,
                    const struct llm_sampler *sampler, const atomic_bool *cancel);
/* Let the draft model read a part of a prompt of `count` tokens ahead of the first guess. */
void llm_spec_follow(struct llm_spec *spec, const int32_t *tokens, uint32_t count, const atomic_bool *cancel);
/* Of `tried` drafts behind the first `count` tokens, `right` were. */
void llm_spec_learn(struct llm_spec *spec, uint32_t count, uint32_t tried, uint32_t right);

#endif
