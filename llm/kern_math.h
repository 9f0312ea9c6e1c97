/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_math.h - exp, SiLU, GELU, RMS norm and quantisation written once, branch-free, so that each kernel file compiles
 * them for its own instruction set. KERN_TARGET is that file's function attribute. The build says -fno-trapping-math:
 * without it the compiler keeps the bounds of kern_exp as branches and makes no vectors of the loops around it.
 */
#ifndef LLM_KERN_MATH_H
#define LLM_KERN_MATH_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "half.h"
#include "kernels.h"

#ifndef KERN_TARGET
#define KERN_TARGET
#endif

/* e^x with a relative error below 2e-7; x is clamped to [-87, 88]. Range reduction by ln 2, then degree 6. */
static inline KERN_TARGET float kern_exp(float x)
{
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: rounds to an integer in the low bits */
    const float n = shifted - 12582912.0f;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.3888889e-3f;
    int32_t bits;
    float scale;

    p = p * r + 8.3333333e-3f;
    p = p * r + 4.1666667e-2f;
    p = p * r + 1.6666667e-1f;
    p = p * r + 5.0000000e-1f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (int32_t)(((uint32_t)bits - 0x4b400000u + 127u) << 23);
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

static inline KERN_TARGET void kern_silu_mul(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = gate[i] / (1.0f + kern_exp(-gate[i])) * up[i];
}

/* GELU in its form with tanh: x * sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 x^3)). */
static inline KERN_TARGET void kern_gelu_mul(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float x = gate[i], inner = 1.5957691216f * (x + 0.044715f * x * x * x);
        gate[i] = x / (1.0f + kern_exp(-inner)) * up[i];
    }
}

/* Sums in lanes, so that there are vectors of them and yet one order in every table. */
static inline KERN_TARGET void kern_rms_norm(const float *x, const float *weight, size_t n, float eps, float *out)
{
    enum { LANES = 32 };
    float part[LANES] = {0}, sum = 0;
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            part[j] += x[i + j] * x[i + j];
    for (size_t j = 0; j < LANES; j++)
        sum += part[j];
    for (; i < n; i++)
        sum += x[i] * x[i];
    const float scale = 1.0f / sqrtf(sum / (float)n + eps);
    for (i = 0; i < n; i++)
        out[i] = x[i] * scale * weight[i];
}

/* One block: d = amax / 127, ties to even. What is not finite becomes zero: a hostile model gives nonsense, no more. */
static inline KERN_TARGET void kern_quantise_block(const float *x, struct llm_q8 *out)
{
    float amax = 0, id;
    int32_t sum[2] = {0, 0};

    for (size_t i = 0; i < LLM_Q8_BLOCK; i++) {
        const float a = fabsf(x[i]);
        amax = a > amax ? a : amax;
    }
    id = amax > 1e-30f && amax <= FLT_MAX ? 127.0f / amax : 0.0f;
    for (size_t i = 0; i < LLM_Q8_BLOCK; i++) {
        float v = x[i] * id;
        v = v <= 127.0f ? v : 127.0f; /* a NaN ends here too */
        v = v >= -127.0f ? v : -127.0f;
        const float shifted = v + 12582912.0f;
        int32_t bits;
        memcpy(&bits, &shifted, sizeof bits);
        bits -= 0x4b400000;
        out->q[i] = (int8_t)bits;
        sum[i / (LLM_Q8_BLOCK / 2)] += bits;
    }
    out->d = id > 0 ? amax / 127.0f : 0.0f;
    out->corr = -128 * (sum[0] + sum[1]);
    out->half = -32 * sum[0];
    out->sum = out->d * (float)(sum[0] + sum[1]);
}

/* Put token `t`'s block into the block of a tile of `n` tokens. */
static inline KERN_TARGET void kern_interleave(const struct llm_q8 *in, size_t n, size_t t, uint8_t *tile)
{
    for (size_t g = 0; g < PANEL_GROUPS; g++)
        memcpy(tile + (g * n + t) * 4, in->q + g * 4, 4);
    tile += n * LLM_Q8_BLOCK + t * 4;
    memcpy(tile, &in->d, 4);
    memcpy(tile + n * 4, &in->corr, 4);
    memcpy(tile + n * 8, &in->half, 4);
    memcpy(tile + n * 12, &in->sum, 4);
}

typedef void kern_quantise_fn(const float *x, struct llm_q8 *out);

/* All blocks in tiles; `block` is what kern_quantise_block does, in the best way that the including file has. */
static inline KERN_TARGET __attribute__((always_inline)) void
kern_quantise(kern_quantise_fn *block, const float *x, size_t tokens, size_t blocks, size_t tile, struct llm_q8 *out)
{
    struct llm_q8 one;

    for (size_t t = 0, n; t < tokens; t += n) {
        n = llm_tile(tile, tokens - t);
        for (size_t b = 0; b < blocks; b++)
            for (size_t i = 0; i < n; i++) {
                block(x + ((t + i) * blocks + b) * LLM_Q8_BLOCK, &one);
                kern_interleave(&one, n, i, (uint8_t *)(out + t * blocks + b * n));
            }
    }
}

#endif
