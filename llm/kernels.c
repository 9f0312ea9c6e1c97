/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels.c - the list of kernel tables and the portable one, which is the reference for all others.
 */
#include "kernels.h"

#include "kern_math.h"

size_t llm_panel_bytes_q8(const struct llm_kernels *k, size_t blocks)
{
    const size_t scales = blocks * k->rows * sizeof(uint16_t);

    return (scales + LLM_PANEL_ALIGN - 1) / LLM_PANEL_ALIGN * LLM_PANEL_ALIGN + blocks * k->rows * LLM_Q8_BLOCK;
}

size_t llm_panel_bytes_f(const struct llm_kernels *k, size_t columns, size_t value_bytes)
{
    return (columns * k->rows * value_bytes + LLM_PANEL_ALIGN - 1) / LLM_PANEL_ALIGN * LLM_PANEL_ALIGN;
}

/* ---- portable ---------------------------------------------------------------------------------------------------- */

enum { ROWS = 8 };

static void panel_q8(const uint8_t *w, size_t blocks, const struct llm_q8 *x, float acc[ROWS])
{
    const uint8_t *scales = w;
    const int8_t *q =
        (const int8_t *)w + llm_panel_bytes_q8(&llm_kernels_portable, blocks) - blocks * ROWS * LLM_Q8_BLOCK;

    for (size_t r = 0; r < ROWS; r++)
        acc[r] = 0;
    for (size_t b = 0; b < blocks; b++, q += ROWS * LLM_Q8_BLOCK, scales += ROWS * sizeof(uint16_t)) {
        int32_t sum[ROWS] = {0};
        for (size_t g = 0; g < LLM_Q8_BLOCK / 4; g++)
            for (size_t r = 0; r < ROWS; r++)
                for (size_t j = 0; j < 4; j++)
                    sum[r] += (int32_t)q[(g * ROWS + r) * 4 + j] * x[b].q[g * 4 + j];
        for (size_t r = 0; r < ROWS; r++) {
            uint16_t h;
            memcpy(&h, scales + r * sizeof h, sizeof h);
            acc[r] += (float)sum[r] * (half_to_f32(h) * x[b].d);
        }
    }
}

static void gemm_q8(const uint8_t *w, size_t panels, size_t rows_left, size_t blocks, const struct llm_q8 *x,
                    size_t tokens, float *y, size_t y_stride)
{
    const size_t bytes = llm_panel_bytes_q8(&llm_kernels_portable, blocks);

    for (size_t p = 0; p < panels; p++) {
        const size_t rows = rows_left - p * ROWS < ROWS ? rows_left - p * ROWS : ROWS;
        for (size_t t = 0; t < tokens; t++) {
            float acc[ROWS];
            panel_q8(w + p * bytes, blocks, x + t * blocks, acc);
            memcpy(y + t * y_stride + p * ROWS, acc, rows * sizeof(float));
        }
    }
}

static float load_f16(const uint8_t *p)
{
    uint16_t h;

    memcpy(&h, p, sizeof h);
    return half_to_f32(h);
}

static float load_f32(const uint8_t *p)
{
    float f;

    memcpy(&f, p, sizeof f);
    return f;
}

static inline void gemm_f(const uint8_t *w, size_t panels, size_t rows_left, size_t columns, const float *x,
                          size_t tokens, float *y, size_t y_stride, size_t size, float (*load)(const uint8_t *))
{
    const size_t bytes = llm_panel_bytes_f(&llm_kernels_portable, columns, size);

    for (size_t p = 0; p < panels; p++) {
        const size_t rows = rows_left - p * ROWS < ROWS ? rows_left - p * ROWS : ROWS;
        for (size_t t = 0; t < tokens; t++) {
            float acc[ROWS] = {0};
            for (size_t c = 0; c < columns; c++)
                for (size_t r = 0; r < ROWS; r++)
                    acc[r] += load(w + p * bytes + (c * ROWS + r) * size) * x[t * columns + c];
            memcpy(y + t * y_stride + p * ROWS, acc, rows * sizeof(float));
        }
    }
}

static void gemm_f16(const uint8_t *w, size_t panels, size_t rows_left, size_t columns, const float *x, size_t tokens,
                     float *y, size_t y_stride)
{
    gemm_f(w, panels, rows_left, columns, x, tokens, y, y_stride, sizeof(uint16_t), load_f16);
}

static void gemm_f32(const uint8_t *w, size_t panels, size_t rows_left, size_t columns, const float *x, size_t tokens,
                     float *y, size_t y_stride)
{
    gemm_f(w, panels, rows_left, columns, x, tokens, y, y_stride, sizeof(float), load_f32);
}

static void quantise(const float *x, size_t blocks, struct llm_q8 *out)
{
    kern_quantise(x, blocks, out);
}

static void scores_f16(const uint16_t *k, const float *q, size_t count, size_t d, float scale, float *out)
{
    for (size_t p = 0; p < count; p++, k += d) {
        float sum = 0;
        for (size_t c = 0; c < d; c++)
            sum += half_to_f32(k[c]) * q[c];
        out[p] = sum * scale;
    }
}

static void mix_f16(const uint16_t *v, const float *w, size_t count, size_t d, float *out)
{
    memset(out, 0, d * sizeof *out);
    for (size_t p = 0; p < count; p++, v += d)
        for (size_t c = 0; c < d; c++)
            out[c] += w[p] * half_to_f32(v[c]);
}

static void to_f16(const float *x, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = half_from_f32(x[i]);
}

static void softmax(float *x, size_t n)
{
    kern_softmax(x, n);
}

static void silu_mul(float *gate, const float *up, size_t n)
{
    kern_silu_mul(gate, up, n);
}

static bool always(void)
{
    return true;
}

const struct llm_kernels llm_kernels_portable = {
    .name = "portable",
    .rows = ROWS,
    .usable = always,
    .gemm_q8 = gemm_q8,
    .gemm_f16 = gemm_f16,
    .gemm_f32 = gemm_f32,
    .quantise = quantise,
    .scores_f16 = scores_f16,
    .mix_f16 = mix_f16,
    .to_f16 = to_f16,
    .softmax = softmax,
    .silu_mul = silu_mul,
};

/* ---- choice ------------------------------------------------------------------------------------------------------ */

const struct llm_kernels *const *llm_kernels_all(void)
{
    static const struct llm_kernels *const all[] = {
#if defined(__x86_64__)
        &llm_kernels_avx512,
        &llm_kernels_avxvnni,
        &llm_kernels_avx2,
#endif
        &llm_kernels_portable,
        NULL
    };

    return all;
}

const struct llm_kernels *llm_kernels_pick(const char *name)
{
    for (const struct llm_kernels *const *k = llm_kernels_all(); *k; k++)
        if ((!name || strcmp(name, (*k)->name) == 0) && (*k)->usable())
            return *k;
    return NULL;
}
