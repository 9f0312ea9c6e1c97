/* SPDX-License-Identifier: Apache-2.0
 *
 * rope.c - rotary positions; see rope.h.
 *
 * In:   a position, a head. Out: the head turned by it.
 */
#include "rope.h"

#include <math.h>
#include <stddef.h>

void llm_rope_fill(const struct llm_rope *rope, uint32_t pos, float *cs)
{
    for (size_t i = 0; i < rope->dims / 2; i++) {
        const double angle = (double)pos * rope->inv_freq[i];
        cs[2 * i] = (float)cos(angle) * rope->scale;
        cs[2 * i + 1] = (float)sin(angle) * rope->scale;
    }
}

void llm_rope_rotate(const struct llm_rope *rope, float *head, const float *cs)
{
    const size_t half = rope->dims / 2;

    for (size_t i = 0; i < half; i++) {
        float *first = rope->kind == LLM_ROPE_NORM ? head + 2 * i : head + i;
        float *second = rope->kind == LLM_ROPE_NORM ? head + 2 * i + 1 : head + half + i;
        const float a = *first, b = *second;
        *first = a * cs[2 * i] - b * cs[2 * i + 1];
        *second = a * cs[2 * i + 1] + b * cs[2 * i];
    }
}
