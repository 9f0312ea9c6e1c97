/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_x86_q8.h - the Q8_0 product on 256-bit vectors, a template: the including file defines
 *   KERN_TARGET          function attribute
 *   KERN_DOT4(acc, w, s) acc[i] += dot of the four int8 of weight lane i with the four of activation lane i;
 *                        `s` is the same vector prepared by KERN_PREPARE(w)
 *   KERN_PREPARE(w)      once a weight vector, shared by all tokens of a tile
 *   KERN_START(corr)     first value of an accumulator
 * and gets gemm_q8(). A panel has 8 rows; a tile is 1 panel by up to 4 tokens, which fills the 16 registers.
 */
#include <immintrin.h>
#include <string.h>

enum { Q8_ROWS = 8, Q8_TILE = 4, Q8_GROUPS = LLM_Q8_BLOCK / 4, Q8_AHEAD = 1024 };

static inline KERN_TARGET __m256i q8_broadcast4(const int8_t *p)
{
    int32_t v;

    memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
}

/* `tokens` is a constant in every call, so the arrays live in registers. */
static inline KERN_TARGET __attribute__((always_inline)) void q8_tile(const uint8_t *w, size_t blocks,
                                                                      const struct llm_q8 *x, size_t tokens, float *out)
{
    const uint8_t *scales = w;
    const uint8_t *q = w + (blocks * Q8_ROWS * 2 + LLM_PANEL_ALIGN - 1) / LLM_PANEL_ALIGN * LLM_PANEL_ALIGN;
    __m256 sum[Q8_TILE];

    for (size_t t = 0; t < tokens; t++)
        sum[t] = _mm256_setzero_ps();
    for (size_t b = 0; b < blocks; b++) {
        __m256i acc[Q8_TILE];
        for (size_t t = 0; t < tokens; t++)
            acc[t] = KERN_START(x[t * blocks + b].corr);
        for (size_t g = 0; g < Q8_GROUPS; g++) {
            const __m256i wv = _mm256_load_si256((const __m256i *)(const void *)(q + g * 32));
            const __m256i prepared = KERN_PREPARE(wv);
            (void)prepared;
            for (size_t t = 0; t < tokens; t++)
                acc[t] = KERN_DOT4(acc[t], wv, prepared, q8_broadcast4(x[t * blocks + b].q + g * 4));
            if (tokens == 1 && g % 2 == 0)
                _mm_prefetch((const char *)q + Q8_AHEAD + g * 32, _MM_HINT_T0);
        }
        const __m256 d = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)scales));
        for (size_t t = 0; t < tokens; t++)
            sum[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[t]), _mm256_mul_ps(d, _mm256_set1_ps(x[t * blocks + b].d)),
                                     sum[t]);
        q += Q8_GROUPS * 32;
        scales += Q8_ROWS * 2;
    }
    for (size_t t = 0; t < tokens; t++)
        _mm256_storeu_ps(out + t * Q8_ROWS, sum[t]);
}

static KERN_TARGET void gemm_q8(const uint8_t *w, size_t panels, size_t rows_left, size_t blocks,
                                const struct llm_q8 *x, size_t tokens, float *y, size_t y_stride)
{
    const size_t scales = (blocks * Q8_ROWS * 2 + LLM_PANEL_ALIGN - 1) / LLM_PANEL_ALIGN * LLM_PANEL_ALIGN;
    const size_t bytes = scales + blocks * Q8_ROWS * LLM_Q8_BLOCK;
    float out[Q8_TILE * Q8_ROWS];

    for (size_t p = 0; p < panels; p++, w += bytes) {
        const size_t rows = rows_left - p * Q8_ROWS < Q8_ROWS ? rows_left - p * Q8_ROWS : Q8_ROWS;
        for (size_t t = 0, step; t < tokens; t += step) {
            step = tokens - t >= Q8_TILE ? Q8_TILE : 1;
            if (step == Q8_TILE)
                q8_tile(w, blocks, x + t * blocks, Q8_TILE, out);
            else
                q8_tile(w, blocks, x + t * blocks, 1, out);
            for (size_t i = 0; i < step; i++)
                memcpy(y + (t + i) * y_stride + p * Q8_ROWS, out + i * Q8_ROWS, rows * sizeof(float));
        }
    }
}
