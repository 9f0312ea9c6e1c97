/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels.c - the list of kernel tables and the portable one, which is the reference for all others.
 */
#include "kernels.h"

#include "kern_math.h"

/* ---- portable ---------------------------------------------------------------------------------------------------- */

enum { ROWS = 8, TOKENS = 8 };

/* acc[r] += the block's products with one token. */
static void block_q(uint32_t type, const struct panel_block *w, const struct llm_q8 *x, float acc[ROWS])
{
    const size_t halves = type == GGUF_TENSOR_Q6_K ? 2 : 1, groups = PANEL_GROUPS / halves;

    for (size_t h = 0; h < halves; h++) {
        int32_t sum[ROWS] = {0};
        for (size_t g = h * groups; g < (h + 1) * groups; g++)
            for (size_t r = 0; r < ROWS; r++)
                for (size_t k = 0; k < 4; k++)
                    sum[r] += (int32_t)w->w[g][r][k] * x->q[g * 4 + k];
        for (size_t r = 0; r < ROWS; r++)
            acc[r] += (float)sum[r] * (w->s[h][r] * x->d);
    }
    for (size_t r = 0; r < ROWS && (type == GGUF_TENSOR_Q4_K || type == GGUF_TENSOR_Q5_K); r++)
        acc[r] -= w->m[r] * x->sum;
}

static void gemm_q(uint32_t type, const uint8_t *w, size_t panels, size_t rows_left, size_t columns,
                   const struct llm_q8 *x, size_t tokens, float *y, size_t y_stride)
{
    const size_t bytes = panel_bytes(type, ROWS, columns), blocks = columns / LLM_Q8_BLOCK;

    for (size_t p = 0; p < panels; p++) {
        const size_t rows = rows_left - p * ROWS < ROWS ? rows_left - p * ROWS : ROWS;
        for (size_t t = 0; t < tokens; t += TOKENS) {
            const size_t now = tokens - t < TOKENS ? tokens - t : TOKENS;
            float acc[TOKENS][ROWS] = {0};
            for (size_t b = 0; b < blocks; b++) {
                struct panel_block block;
                panel_unpack(type, 0, ROWS, w + p * bytes, b, 0, ROWS, &block);
                for (size_t i = 0; i < now; i++)
                    block_q(type, &block, x + (t + i) * blocks + b, acc[i]);
            }
            for (size_t i = 0; i < now; i++)
                memcpy(y + (t + i) * y_stride + p * ROWS, acc[i], rows * sizeof(float));
        }
    }
}

static float load_f(uint32_t type, const uint8_t *p)
{
    uint32_t bits = 0;
    uint16_t h;
    float f;

    if (type == GGUF_TENSOR_F32) {
        memcpy(&f, p, sizeof f);
        return f;
    }
    memcpy(&h, p, sizeof h);
    if (type == GGUF_TENSOR_F16)
        return half_to_f32(h);
    bits = (uint32_t)h << 16;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void gemm_f(uint32_t type, const uint8_t *w, size_t panels, size_t rows_left, size_t columns, const float *x,
                   size_t tokens, float *y, size_t y_stride)
{
    const size_t bytes = panel_bytes(type, ROWS, columns), size = type == GGUF_TENSOR_F32 ? 4 : 2;

    for (size_t p = 0; p < panels; p++) {
        const size_t rows = rows_left - p * ROWS < ROWS ? rows_left - p * ROWS : ROWS;
        for (size_t t = 0; t < tokens; t++) {
            float acc[ROWS] = {0};
            for (size_t c = 0; c < columns; c++)
                for (size_t r = 0; r < ROWS; r++)
                    acc[r] += load_f(type, w + p * bytes + (c * ROWS + r) * size) * x[t * columns + c];
            memcpy(y + t * y_stride + p * ROWS, acc, rows * sizeof(float));
        }
    }
}

static void quantise(const float *x, size_t tokens, size_t blocks, struct llm_q8 *out)
{
    kern_quantise(kern_quantise_block, x, tokens, blocks, 1, out);
}

static void to_f16(const float *x, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = half_from_f32(x[i]);
}

static void silu_mul(float *gate, const float *up, size_t n)
{
    kern_silu_mul(gate, up, n);
}

static void gelu_mul(float *gate, const float *up, size_t n)
{
    kern_gelu_mul(gate, up, n);
}

static void rms_norm(const float *x, const float *weight, size_t n, float eps, float *out)
{
    kern_rms_norm(x, weight, n, eps, out);
}

static bool always(void)
{
    return true;
}

const struct llm_kernels llm_kernels_portable = {
    .name = "portable",
    .rows = ROWS,
    .usable = always,
    .tile = 1,
    .gemm_q = gemm_q,
    .gemm_f = gemm_f,
    .quantise = quantise,
    .to_f16 = to_f16,
    .silu_mul = silu_mul,
    .gelu_mul = gelu_mul,
    .rms_norm = rms_norm,
};

/* ---- choice ------------------------------------------------------------------------------------------------------ */

const struct llm_kernels *const *llm_kernels_all(void)
{
    static const struct llm_kernels *const all[] = {
#if defined(__x86_64__)
        &llm_kernels_amx,
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
