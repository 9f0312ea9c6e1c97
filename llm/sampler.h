/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler.h - picks the next token from logits. Pure: the same logits, parameters, noted tokens and position give the
 * same token.
 *
 * In:   logits, what is allowed (a bit set, say a grammar's), the tokens so far.
 * Out:  a token, and when asked log-probabilities.
 * Not:  no grammar, no text, no model.
 *
 * Order: biases, penalties, mask, temperature, top-k, top-p (of what top-k left), min-p, draw. Temperature 0 takes the
 * highest logit after the mask, the lowest id of equals. Presence and frequency penalties count the answer alone, as
 * OpenAI's do; the repetition penalty applies to tokens of the prompt and of the answer, as is usual for it.
 * The draw depends on the seed and the position in the answer alone (SplitMix64, Steele, Lea, Flood 2014; the top 24
 * bits times 2^-24), so checking a guessed token needs no copy of the state: sample, and note what was sampled.
 * Logits that are not finite are never picked unless all are.
 */
#ifndef LLM_SAMPLER_H
#define LLM_SAMPLER_H

#include "llm.h"

struct sampler_candidate {
    float z; /* logit after biases and penalties */
    int32_t id;
};

struct sampler_seen {
    int32_t id;
    uint32_t answer; /* times in the answer; 0: in the prompt alone */
};

struct llm_sampler {
    float temperature, top_p, min_p, repetition, presence, frequency;
    uint32_t top_k, logprobs, n_vocab;
    uint64_t seed, position; /* position: tokens of the answer so far */
    struct llm_logit_bias *biases;
    size_t bias_count;
    struct sampler_seen *seen; /* NULL: no penalty needs it; in the order of first appearance */
    uint32_t *slots;           /* open addressing, index into seen + 1; 0: free */
    uint32_t seen_count, seen_max, slot_mask;
};

/* Working memory for logits of up to n tokens; may be shared by samplers that take turns. */
struct sampler_scratch {
    size_t n;
    float *z, *p;                   /* [n], rounded up to whole blocks */
    float *tops;                    /* the best of each block */
    struct sampler_candidate *list; /* [n] */
};
dbe_err llm_sampler_scratch_init(size_t n, struct sampler_scratch *out) DBE_MUST_CHECK;
void llm_sampler_scratch_fini(struct sampler_scratch *scratch); /* takes a zeroed one */

/* Check and copy what of the parameters is for sampling. `tokens_max`: tokens of prompt and answer together that will
 * be noted at most. E_ARGUMENT names the parameter; E_NOMEM. */
dbe_err llm_sampler_init(const struct llm_session_params *params, uint32_t n_vocab, size_t tokens_max,
                         struct llm_sampler *out, struct dbe_diag *diag) DBE_MUST_CHECK;
void llm_sampler_fini(struct llm_sampler *s); /* takes a zeroed one */

/* Count a token of the prompt or, moving on by one position, of the answer. */
void llm_sampler_note(struct llm_sampler *s, int32_t id, bool is_prompt);

/* Pick from n <= scratch->n logits, n >= 1. `allowed` has a bit for each token (bit i % 32 of word i / 32), NULL: all
 * are allowed; at least one must be. The caller notes the token. */
void llm_sample(const struct llm_sampler *s, const float *logits, size_t n, const uint32_t *allowed,
                struct sampler_scratch *scratch, struct llm_token_prob *out);
/* What the logits say of a token that stands already; the sampler was made with logprobs. */
void llm_score(const struct llm_sampler *s, const float *logits, size_t n, int32_t id, struct sampler_scratch *scratch,
               struct llm_token_prob *out);

#endif
