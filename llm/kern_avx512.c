/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_avx512.c - kernels for AVX-512 with VNNI: panels of 16 rows, tiles of 1 panel by up to 8 tokens.
 *
 * As in kern_avxvnni.c, weights are packed with 128 added and the accumulator takes that back. The vector kernels
 * (softmax and so on) are those of AVX2, which such a CPU has as well.
 */
#if defined(__x86_64__)
#ifndef KERN_EMULATED
#define KERN_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")))
#define KERN_DPBUSD_512(acc, w, x) _mm512_dpbusd_epi32((acc), (w), (x))
#define KERN_HALF16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#endif

#include <immintrin.h>
#include <string.h>

#include "kern_x86.h"

enum { ROWS = 16, TILE = 8, F_PANELS = 2, GROUPS = LLM_Q8_BLOCK / 4, AHEAD = 2048 };

static inline KERN_TARGET __m512i broadcast4(const int8_t *p)
{
    int32_t v;

    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

static inline KERN_TARGET __attribute__((always_inline)) void q8_tile(const uint8_t *w, size_t blocks,
                                                                      const struct llm_q8 *x, size_t tokens, float *out)
{
    const uint8_t *scales = w;
    const uint8_t *q = w + (blocks * ROWS * 2 + LLM_PANEL_ALIGN - 1) / LLM_PANEL_ALIGN * LLM_PANEL_ALIGN;
    __m512 sum[TILE];

    for (size_t t = 0; t < tokens; t++)
        sum[t] = _mm512_setzero_ps();
    for (size_t b = 0; b < blocks; b++) {
        __m512i acc[TILE];
        for (size_t t = 0; t < tokens; t++)
            acc[t] = _mm512_set1_epi32(x[t * blocks + b].corr);
        for (size_t g = 0; g < GROUPS; g++) {
            const __m512i wv = _mm512_loadu_si512((const void *)(q + g * 64));
            for (size_t t = 0; t < tokens; t++)
                acc[t] = KERN_DPBUSD_512(acc[t], wv, broadcast4(x[t * blocks + b].q + g * 4));
            if (tokens == 1)
                _mm_prefetch((const char *)q + AHEAD + g * 64, _MM_HINT_T0);
        }
        const __m512 d = KERN_HALF16(scales);
        for (size_t t = 0; t < tokens; t++)
            sum[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[t]), _mm512_mul_ps(d, _mm512_set1_ps(x[t * blocks + b].d)),
                                     sum[t]);
        q += GROUPS * 64;
        scales += ROWS * 2;
    }
    for (size_t t = 0; t < tokens; t++)
        _mm512_storeu_ps(out + t * ROWS, sum[t]);
}

static KERN_TARGET void gemm_q8(const uint8_t *w, size_t panels, size_t rows_left, size_t blocks,
                                const struct llm_q8 *x, size_t tokens, float *y, size_t y_stride)
{
    const size_t scales = (blocks * ROWS * 2 + LLM_PANEL_ALIGN - 1) / LLM_PANEL_ALIGN * LLM_PANEL_ALIGN;
    const size_t bytes = scales + blocks * ROWS * LLM_Q8_BLOCK;
    float out[TILE * ROWS];

    for (size_t p = 0; p < panels; p++, w += bytes) {
        const size_t rows = rows_left - p * ROWS < ROWS ? rows_left - p * ROWS : ROWS;
        for (size_t t = 0, step; t < tokens; t += step) {
            step = tokens - t >= TILE ? TILE : tokens - t >= 4 ? 4 : 1;
            if (step == TILE)
                q8_tile(w, blocks, x + t * blocks, TILE, out);
            else if (step == 4)
                q8_tile(w, blocks, x + t * blocks, 4, out);
            else
                q8_tile(w, blocks, x + t * blocks, 1, out);
            for (size_t i = 0; i < step; i++)
                memcpy(y + (t + i) * y_stride + p * ROWS, out + i * ROWS, rows * sizeof(float));
        }
    }
}

static inline KERN_TARGET __attribute__((always_inline)) __m512 load16(const uint8_t *w, size_t size)
{
    if (size == sizeof(uint16_t))
        return KERN_HALF16(w);
    return _mm512_loadu_ps((const void *)w);
}

static inline KERN_TARGET __attribute__((always_inline)) void f_tile(const uint8_t *w, size_t columns, const float *x,
                                                                     size_t tokens, size_t size, float *out)
{
    __m512 sum[TILE];

    for (size_t t = 0; t < tokens; t++)
        sum[t] = _mm512_setzero_ps();
    for (size_t c = 0; c < columns; c++) {
        const __m512 wv = load16(w + c * ROWS * size, size);
        for (size_t t = 0; t < tokens; t++)
            sum[t] = _mm512_fmadd_ps(wv, _mm512_set1_ps(x[t * columns + c]), sum[t]);
    }
    for (size_t t = 0; t < tokens; t++)
        _mm512_storeu_ps(out + t * ROWS, sum[t]);
}

static inline KERN_TARGET __attribute__((always_inline)) void gemm_f(const uint8_t *w, size_t panels, size_t rows_left,
                                                                     size_t columns, const float *x, size_t tokens,
                                                                     float *y, size_t y_stride, size_t size)
{
    const size_t bytes = (columns * ROWS * size + LLM_PANEL_ALIGN - 1) / LLM_PANEL_ALIGN * LLM_PANEL_ALIGN;
    float out[TILE * ROWS];

    for (size_t p = 0; p < panels; p++, w += bytes) {
        const size_t rows = rows_left - p * ROWS < ROWS ? rows_left - p * ROWS : ROWS;
        for (size_t t = 0, step; t < tokens; t += step) {
            step = tokens - t >= TILE ? TILE : 1;
            if (step == TILE)
                f_tile(w, columns, x + t * columns, TILE, size, out);
            else
                f_tile(w, columns, x + t * columns, 1, size, out);
            for (size_t i = 0; i < step; i++)
                memcpy(y + (t + i) * y_stride + p * ROWS, out + i * ROWS, rows * sizeof(float));
        }
    }
}

static KERN_TARGET void gemm_f16(const uint8_t *w, size_t panels, size_t rows_left, size_t columns, const float *x,
                                 size_t tokens, float *y, size_t y_stride)
{
    gemm_f(w, panels, rows_left, columns, x, tokens, y, y_stride, sizeof(uint16_t));
}

static KERN_TARGET void gemm_f32(const uint8_t *w, size_t panels, size_t rows_left, size_t columns, const float *x,
                                 size_t tokens, float *y, size_t y_stride)
{
    gemm_f(w, panels, rows_left, columns, x, tokens, y, y_stride, sizeof(float));
}

static bool usable(void)
{
    return kern_x86_cpu().avx512vnni;
}

const struct llm_kernels llm_kernels_avx512 = {
    .name = "avx512-vnni",
    .rows = ROWS,
    .bias = 0x80,
    .usable = usable,
    .gemm_q8 = gemm_q8,
    .gemm_f16 = gemm_f16,
    .gemm_f32 = gemm_f32,
    KERN_AVX2_SLOTS,
};
#else
typedef int kern_avx512_is_for_x86;
#endif
