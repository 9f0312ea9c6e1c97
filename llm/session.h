/* SPDX-License-Identifier: Apache-2.0
 *
 * session.h - a session inside the engine: what batch.c moves on and session.c hands out.
 */
#ifndef LLM_SESSION_H
#define LLM_SESSION_H

#include "grammar.h"
#include "sampler.h"
#include "spec.h"
#include "text.h"

struct llm_session {
    struct llm_model *model;
    struct llm_kv kv;
    int32_t *tokens; /* [prompt_count + max_tokens]: the prompt, then the answer; the last one is not computed yet */
    uint32_t prompt_count, prefilled, answered, max_tokens;
    uint32_t cached; /* of the prefilled ones, not computed by this session */
    uint32_t chunk;  /* prompt tokens a pass at most */
    struct llm_sampler sampler;
    struct llm_spec spec;
    struct llm_grammar_state *grammar; /* NULL: the answer is free */
    struct llm_token_prob *probs;      /* of this step's tokens: prompt, then [1 + drafts] */
    struct llm_text text;
    enum llm_echo echo;
    bool scored, prompt_only; /* scored: the prompt's tokens are told with their probabilities */
    uint32_t echoed, lead_at; /* tokens of the prompt told so far; the one whose first byte is not */
    uint8_t salt[LLM_SALT_BYTES];
    bool has_salt, ignore_eos, done;
    uint64_t turn;   /* when rows of its prompt were computed last, in the clock of the batch */
    uint32_t joined; /* rows of logits asked for in the batch */
    bool in_pass;    /* under the batch's lock */
    atomic_bool cancel;
};

#endif
