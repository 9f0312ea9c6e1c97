/* SPDX-License-Identifier: Apache-2.0
 *
 * rope.c - rotary positions; see rope.h.
 *
 * In:   how a model's frequencies are made; a position, a head. Out: the head turned by it.
 */
#include "rope.h"

#include <math.h>

#include "base/base.h"

/* ---- frequencies ------------------------------------------------------------------------------------------------- */

static dbe_err in_range(const char *what, float v, double min, double max, struct dbe_diag *diag)
{
    if ((double)v >= min && (double)v <= max)
        return DBE_OK;
    return dbe_fail(diag, DBE_E_MODEL, "model", 0, "rope: %s %g is not from %g to %g", what, (double)v, min, max);
}

static dbe_err check(const struct llm_rope *rope, const struct llm_rope_scaling *how, struct dbe_diag *diag)
{
    DBE_TRY(in_range("frequency base", how->base, 1, 1e12, diag));
    DBE_TRY(in_range("scaling factor", how->factor, 1e-3, 1e6, diag));
    DBE_TRY(in_range("attention factor", how->attn_factor, 1e-3, 1e3, diag));
    for (uint32_t i = 0; how->divide && i < rope->dims / 2; i++)
        DBE_TRY(in_range("divisor of a frequency", how->divide[i], 1e-6, 1e9, diag));
    if (!how->yarn)
        return DBE_OK;
    DBE_TRY(in_range("frequency base of yarn", how->base, 1.001, 1e12, diag));
    DBE_TRY(in_range("yarn extrapolation factor", how->ext_factor, 0, 1, diag));
    if (how->yarn_attn != 0)
        DBE_TRY(in_range("yarn attention factor", how->yarn_attn, 1e-3, 1e3, diag));
    DBE_TRY(in_range("yarn beta_fast", how->beta_fast, 1e-3, 1e6, diag));
    return in_range("yarn beta_slow", how->beta_slow, 1e-3, 1e6, diag);
}

/* The pair that makes `turns` full turns within the first context, as a fraction of pairs. */
static double yarn_pair(const struct llm_rope *rope, const struct llm_rope_scaling *how, float turns)
{
    const double pi = acos(-1.0);

    return rope->dims * log(how->n_ctx_orig / ((double)turns * 2 * pi)) / (2 * log((double)how->base));
}

/* How much a pair keeps of its own frequency: 1 for fast ones, 0 for slow ones. */
static double yarn_keep(const struct llm_rope *rope, const struct llm_rope_scaling *how, uint32_t pair)
{
    const double low = fmax(0, floor(yarn_pair(rope, how, how->beta_fast)));
    const double high = fmin(rope->dims - 1.0, ceil(yarn_pair(rope, how, how->beta_slow)));
    const double y = (pair - low) / fmax(0.001, high - low);

    return (1 - fmin(1, fmax(0, y))) * (double)how->ext_factor;
}

dbe_err llm_rope_init(struct llm_rope *rope, const struct llm_rope_scaling *how, struct dbe_diag *diag)
{
    double *freq;

    DBE_TRY(check(rope, how, diag));
    freq = base_alloc(rope->dims / 2, sizeof *freq);
    if (!freq)
        return dbe_fail(diag, DBE_E_NOMEM, "model", 0, "no memory");
    for (uint32_t i = 0; i < rope->dims / 2; i++) {
        const double own = pow((double)how->base, -2.0 * i / rope->dims) / (how->divide ? (double)how->divide[i] : 1);
        const double keep = how->yarn ? yarn_keep(rope, how, i) : 0;
        freq[i] = own / (double)how->factor * (1 - keep) + own * keep;
    }
    rope->inv_freq = freq;
    rope->scale = how->attn_factor;
    if (how->yarn && how->yarn_attn != 0)
        rope->scale *= how->yarn_attn;
    else if (how->yarn && how->ext_factor != 0 && how->factor > 1)
        rope->scale *= (float)(1 + 0.1 * log((double)how->factor));
    return DBE_OK;
}

/* ---- turning ----------------------------------------------------------------------------------------------------- */

void llm_rope_fill(const struct llm_rope *rope, uint32_t pos, float *cs)
{
    const size_t half = rope->dims / 2;

    for (size_t i = 0; i < half; i++) {
        const double angle = (double)pos * rope->inv_freq[i];
        cs[i] = (float)cos(angle) * rope->scale;
        cs[half + i] = (float)sin(angle) * rope->scale;
    }
}

static void rotate_halves(float *restrict first, float *restrict second, const float *restrict cs, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        const float a = first[i], b = second[i];
        first[i] = a * cs[i] - b * cs[half + i];
        second[i] = a * cs[half + i] + b * cs[i];
    }
}

static void rotate_neighbours(float *restrict head, const float *restrict cs, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        const float a = head[2 * i], b = head[2 * i + 1];
        head[2 * i] = a * cs[i] - b * cs[half + i];
        head[2 * i + 1] = a * cs[half + i] + b * cs[i];
    }
}

void llm_rope_rotate(const struct llm_rope *rope, float *head, const float *cs)
{
    if (rope->kind == LLM_ROPE_NORM)
        rotate_neighbours(head, cs, rope->dims / 2);
    else
        rotate_halves(head, head + rope->dims / 2, cs, rope->dims / 2);
}
