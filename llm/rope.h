/* SPDX-License-Identifier: Apache-2.0
 *
 * rope.h - rotary positions: which frequencies a model turns its queries and keys with, and the turning.
 */
#ifndef LLM_ROPE_H
#define LLM_ROPE_H

#include <stdbool.h>
#include <stdint.h>

#include "dbe/err.h"

/* Which two values of a head make a pair. */
enum llm_rope_kind {
    LLM_ROPE_NORM, /* (2i, 2i + 1) */
    LLM_ROPE_NEOX  /* (i, i + dims / 2) */
};

struct llm_rope {
    enum llm_rope_kind kind;
    uint32_t dims;    /* even; values of a head beyond them are not turned */
    double *inv_freq; /* [dims / 2] radians a position */
    float scale;      /* of cosine and sine */
};

/* How a model's context was stretched beyond the one it was trained with first. */
struct llm_rope_scaling {
    float base;                 /* of the frequencies: base ^ (-2i / dims) */
    float factor;               /* how many times longer the context became */
    float attn_factor;          /* of cosine and sine */
    const float *divide;        /* [dims / 2] divisors of the frequencies (LLaMA 3, longrope); NULL: all 1 */
    bool yarn;                  /* turn fast pairs as ever, slow ones `factor` times slower, and mix between them */
    float ext_factor;           /* yarn: how much of this mixing */
    float yarn_attn;            /* yarn: takes the place of 1 + 0.1 ln(factor); 0: does not */
    float beta_fast, beta_slow; /* yarn: turns within n_ctx_orig that pairs count as fast or slow from */
    uint32_t n_ctx_orig;        /* yarn: the first context */
};

/* Fill inv_freq (a new array) and scale; kind and dims are set. E_MODEL: a number is out of range. E_NOMEM. */
dbe_err llm_rope_init(struct llm_rope *rope, const struct llm_rope_scaling *how, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Cosines, then sines of the angles at a position: cs[2][dims / 2]. */
void llm_rope_fill(const struct llm_rope *rope, uint32_t pos, float *cs);
/* Turn one head in place. */
void llm_rope_rotate(const struct llm_rope *rope, float *head, const float *cs);

#endif
