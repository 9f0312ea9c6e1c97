/* SPDX-License-Identifier: Apache-2.0
 *
 * rope.h - rotary positions: which frequencies a model turns its queries and keys with, and the turning.
 */
#ifndef LLM_ROPE_H
#define LLM_ROPE_H

#include <stdint.h>

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

/* Cosine and sine of the angles at a position: cs[dims / 2][2]. */
void llm_rope_fill(const struct llm_rope *rope, uint32_t pos, float *cs);
/* Turn one head in place. */
void llm_rope_rotate(const struct llm_rope *rope, float *head, const float *cs);

#endif
