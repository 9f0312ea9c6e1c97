/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_avx512.c - kernels for AVX-512 with VNNI: panels of 16 rows, tiles of 1 panel by up to 12 tokens.
 *
 * As in kern_avxvnni.c, weights are packed with 128 added and the accumulator takes that back. The vector kernels
 * (norms and so on) are those of AVX2, which such a CPU has as well.
 */
#if defined(__x86_64__)
#ifndef KERN_EMULATED
#define KERN_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")))
#define KERN_DPBUSD_512(acc, w, x) _mm512_dpbusd_epi32((acc), (w), (x))
#define KERN_HALF16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define KERN_WORD16(p) _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define KERN_WIDEN_INT8(p) _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define KERN_WIDEN_BYTES(p) _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#endif

#include <immintrin.h>
#include <string.h>

#include "kern_x86.h"

enum { Q_ROWS = 16, F_TILE = 8 };
#define Q_TILE 12
#define Q_BIASED 1
#define VI __m512i
#define VF __m512
#define VI_LOAD(p) _mm512_loadu_si512((const void *)(p))
#define VI_SET1(v) _mm512_set1_epi32(v)
#define VI_AND(a, b) _mm512_and_si512((a), (b))
#define VI_OR(a, b) _mm512_or_si512((a), (b))
#define VI_ADD(a, b) _mm512_add_epi32((a), (b))
#define VI_SUB(a, b) _mm512_sub_epi32((a), (b))
#define VI_SRL(a, n) _mm512_srli_epi32((a), (n))
#define VI_SLL(a, n) _mm512_slli_epi32((a), (n))
#define VI_SRA(a, n) _mm512_srai_epi32((a), (n))
#define VF_SET1(v) _mm512_set1_ps(v)
#define VF_MUL(a, b) _mm512_mul_ps((a), (b))
#define VF_FMADD(a, b, c) _mm512_fmadd_ps((a), (b), (c))
#define VF_FNMADD(a, b, c) _mm512_fnmadd_ps((a), (b), (c))
#define VF_OF(v) _mm512_cvtepi32_ps(v)
#define VF_STORE(p, v) _mm512_storeu_ps((p), (v))
#define Q_HALVES(p) KERN_HALF16(p)
#define Q_INT8S(p) KERN_WIDEN_INT8(p)
#define Q_BYTES(p) KERN_WIDEN_BYTES(p)
#define Q_DOT_U(acc, w, x) KERN_DPBUSD_512((acc), (w), (x))
#define Q_DOT_S(acc, w, x) Q_DOT_U((acc), (w), (x)) /* never: weights are biased */

#include "kern_x86_q.h"

static KERN_TARGET void quantise(const float *x, size_t tokens, size_t blocks, struct llm_q8 *out)
{
    kern_avx2_quantise(x, tokens, blocks, Q_TILE, out);
}

static inline KERN_TARGET __attribute__((always_inline)) __m512 load16(const uint8_t *w, uint32_t type)
{
    if (type == GGUF_TENSOR_F16)
        return KERN_HALF16(w);
    if (type == GGUF_TENSOR_BF16)
        return _mm512_castsi512_ps(_mm512_slli_epi32(KERN_WORD16(w), 16));
    return _mm512_loadu_ps((const void *)w);
}

static inline KERN_TARGET __attribute__((always_inline)) void f_tile(const uint8_t *w, size_t columns, const float *x,
                                                                     size_t tokens, uint32_t type, float *out)
{
    __m512 sum[F_TILE];

    for (size_t t = 0; t < tokens; t++)
        sum[t] = _mm512_setzero_ps();
    for (size_t c = 0; c < columns; c++) {
        const __m512 wv = load16(w + c * Q_ROWS * kern_float_bytes(type), type);
        for (size_t t = 0; t < tokens; t++)
            sum[t] = _mm512_fmadd_ps(wv, _mm512_set1_ps(x[t * columns + c]), sum[t]);
    }
    for (size_t t = 0; t < tokens; t++)
        _mm512_storeu_ps(out + t * Q_ROWS, sum[t]);
}

static inline KERN_TARGET __attribute__((always_inline)) void f_gemm(const uint8_t *w, size_t panels, size_t rows_left,
                                                                     size_t columns, const float *x, size_t tokens,
                                                                     float *y, size_t y_stride, uint32_t type)
{
    const size_t bytes = panel_bytes(type, Q_ROWS, columns);
    float out[F_TILE * Q_ROWS];

    for (size_t p = 0; p < panels; p++, w += bytes) {
        const size_t rows = rows_left - p * Q_ROWS < Q_ROWS ? rows_left - p * Q_ROWS : Q_ROWS;
        for (size_t t = 0, step; t < tokens; t += step) {
            step = tokens - t >= F_TILE ? F_TILE : 1;
            if (step == F_TILE)
                f_tile(w, columns, x + t * columns, F_TILE, type, out);
            else
                f_tile(w, columns, x + t * columns, 1, type, out);
            for (size_t i = 0; i < step; i++)
                memcpy(y + (t + i) * y_stride + p * Q_ROWS, out + i * Q_ROWS, rows * sizeof(float));
        }
    }
}

KERN_GEMM_F(static, gemm_f)

static bool usable(void)
{
    return kern_x86_cpu().avx512vnni;
}

/* Slots that both tables of this file fill alike. */
#define SLOTS                                                                                                          \
    .rows = Q_ROWS, .bias = 0x80, .tile = Q_TILE, .gemm_q = gemm_q, .gemm_f = gemm_f, .quantise = quantise,            \
    KERN_AVX2_SLOTS

const struct llm_kernels llm_kernels_avx512 = {.name = "avx512-vnni", .usable = usable, SLOTS};

#ifndef KERN_EMULATED
const struct llm_kernels llm_kernels_amx = {
    .name = "amx",
    .usable = kern_amx_usable,
    .prefill_types = KERN_AMX_TYPES,
    .prefill = kern_amx_prefill,
    .to_bf16 = kern_amx_to_bf16,
    SLOTS,
};
#endif
#else
typedef int kern_avx512_is_for_x86;
#endif
