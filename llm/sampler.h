/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler.h - picks the next token from logits. Pure: the same logits, parameters and state give the same token.
 *
 * Order: temperature, softmax, top-k, top-p, draw. Temperature 0 takes the highest logit, the lowest id of equals.
 * The generator is SplitMix64 (Steele, Lea, Flood 2014) started at the seed, one draw a token; a draw is the top 24
 * bits times 2^-24. Logits that are not numbers are never picked unless all are.
 */
#ifndef LLM_SAMPLER_H
#define LLM_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

struct sampler_candidate {
    float p;
    int32_t id;
};

struct llm_sampler {
    float temperature, top_p;
    uint32_t top_k;
    uint64_t state;
};

/* `scratch` has room for n candidates. n >= 1. */
int32_t llm_sample(struct llm_sampler *s, const float *logits, size_t n, struct sampler_candidate *scratch);

#endif
