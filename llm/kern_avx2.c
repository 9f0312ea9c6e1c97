/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_avx2.c - kernels for AVX2 with FMA and F16C, and the detection of x86 features.
 *
 * int8 products: maddubs wants one unsigned operand, so the weight's sign moves to the activation. |-128| is 128 as an
 * unsigned byte and activations stay in [-127, 127], so pairs reach at most 2 * 128 * 127 = 32512: nothing saturates.
 */
#if defined(__x86_64__)
#define KERN_TARGET __attribute__((target("avx2,fma,f16c")))
#define KERN_PREPARE(w) _mm256_abs_epi8(w)
#define KERN_START(corr) ((void)(corr), _mm256_setzero_si256())
#define KERN_DOT4(acc, w, absw, x)                                                                                     \
    _mm256_add_epi32((acc), _mm256_madd_epi16(_mm256_maddubs_epi16((absw), _mm256_sign_epi8((x), (w))),               \
                                              _mm256_set1_epi16(1)))

#include "kern_x86.h"
#include "kern_math.h"
#include "kern_x86_q8.h"

#include <cpuid.h>

/* ---- float matrices ---------------------------------------------------------------------------------------------- */

enum { F_ROWS = 8, F_TILE = 4, F_PANELS = 2 };

static inline KERN_TARGET __attribute__((always_inline)) __m256 load8(const uint8_t *w, size_t size)
{
    if (size == sizeof(uint16_t))
        return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)w));
    return _mm256_load_ps((const float *)(const void *)w);
}

/* `panels` (at most 4) by `tokens` (at most 4), at most 8 products in all; constants in every call. */
static inline KERN_TARGET __attribute__((always_inline)) void f_tile(const uint8_t *w, size_t bytes, size_t panels,
                                                                     size_t columns, const float *x, size_t tokens,
                                                                     size_t size, float *out)
{
    __m256 sum[8];

    for (size_t i = 0; i < panels * tokens; i++)
        sum[i] = _mm256_setzero_ps();
    for (size_t c = 0; c < columns; c++) {
        for (size_t p = 0; p < panels; p++) {
            const __m256 wv = load8(w + p * bytes + c * F_ROWS * size, size);
            for (size_t t = 0; t < tokens; t++)
                sum[t * panels + p] = _mm256_fmadd_ps(wv, _mm256_set1_ps(x[t * columns + c]), sum[t * panels + p]);
        }
    }
    for (size_t i = 0; i < panels * tokens; i++)
        _mm256_storeu_ps(out + i * F_ROWS, sum[i]);
}

static inline KERN_TARGET __attribute__((always_inline)) void f_panels(const uint8_t *w, size_t bytes, size_t panels,
                                                                       size_t rows, size_t columns, const float *x,
                                                                       size_t tokens, float *y, size_t y_stride,
                                                                       size_t size)
{
    float out[8 * F_ROWS];

    for (size_t t = 0, step; t < tokens; t += step) {
        step = tokens - t >= F_TILE && panels <= F_PANELS ? F_TILE : 1;
        if (step == F_TILE)
            f_tile(w, bytes, panels, columns, x + t * columns, F_TILE, size, out);
        else
            f_tile(w, bytes, panels, columns, x + t * columns, 1, size, out);
        for (size_t i = 0; i < step; i++)
            memcpy(y + (t + i) * y_stride, out + i * panels * F_ROWS, rows * sizeof(float));
    }
}

static inline KERN_TARGET __attribute__((always_inline)) void gemm_f(const uint8_t *w, size_t panels, size_t rows_left,
                                                                     size_t columns, const float *x, size_t tokens,
                                                                     float *y, size_t y_stride, size_t size)
{
    const size_t bytes = (columns * F_ROWS * size + LLM_PANEL_ALIGN - 1) / LLM_PANEL_ALIGN * LLM_PANEL_ALIGN;

    while (panels > 0) {
        const size_t now = tokens == 1 && panels >= 4 ? 4 : panels >= F_PANELS ? F_PANELS : 1;
        const size_t rows = rows_left < now * F_ROWS ? rows_left : now * F_ROWS;
        if (now == 4)
            f_panels(w, bytes, 4, rows, columns, x, 1, y, y_stride, size);
        else if (now == F_PANELS)
            f_panels(w, bytes, F_PANELS, rows, columns, x, tokens, y, y_stride, size);
        else
            f_panels(w, bytes, 1, rows, columns, x, tokens, y, y_stride, size);
        panels -= now;
        w += now * bytes;
        y += rows;
        rows_left -= rows;
    }
}

KERN_TARGET void kern_avx2_gemm_f16(const uint8_t *w, size_t panels, size_t rows_left, size_t columns, const float *x,
                                    size_t tokens, float *y, size_t y_stride)
{
    gemm_f(w, panels, rows_left, columns, x, tokens, y, y_stride, sizeof(uint16_t));
}

KERN_TARGET void kern_avx2_gemm_f32(const uint8_t *w, size_t panels, size_t rows_left, size_t columns, const float *x,
                                    size_t tokens, float *y, size_t y_stride)
{
    gemm_f(w, panels, rows_left, columns, x, tokens, y, y_stride, sizeof(float));
}

/* ---- vectors --------------------------------------------------------------------------------------------------------- */

KERN_TARGET void kern_avx2_quantise(const float *x, size_t blocks, struct llm_q8 *out)
{
    kern_quantise(x, blocks, out);
}

KERN_TARGET float kern_avx2_dot_f16(const uint16_t *a, const float *b, size_t n)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0;
    size_t i = 0;
    float  lanes[8], sum = 0;

    for (; i + 16 <= n; i += 16) {
        s0 = _mm256_fmadd_ps(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(a + i))),
                             _mm256_loadu_ps(b + i), s0);
        s1 = _mm256_fmadd_ps(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(a + i + 8))),
                             _mm256_loadu_ps(b + i + 8), s1);
    }
    _mm256_storeu_ps(lanes, _mm256_add_ps(s0, s1));
    for (; i < n; i++)
        sum += half_to_f32(a[i]) * b[i];
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7])) + sum;
}

KERN_TARGET void kern_avx2_axpy_f16(float *y, const uint16_t *x, float scale, size_t n)
{
    const __m256 s = _mm256_set1_ps(scale);
    size_t       i = 0;

    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_fmadd_ps(s, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(x + i))),
                                                _mm256_loadu_ps(y + i)));
    for (; i < n; i++)
        y[i] += scale * half_to_f32(x[i]);
}

KERN_TARGET void kern_avx2_to_f16(const float *x, size_t n, uint16_t *out)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(out + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        out[i] = half_from_f32(x[i]);
}

KERN_TARGET void kern_avx2_softmax(float *x, size_t n)
{
    kern_softmax(x, n);
}

KERN_TARGET void kern_avx2_silu_mul(float *gate, const float *up, size_t n)
{
    kern_silu_mul(gate, up, n);
}

/* ---- detection ---------------------------------------------------------------------------------------------------------- */

struct kern_x86_cpu kern_x86_cpu(void)
{
    struct kern_x86_cpu cpu = {0};
    unsigned            a, b, c, d, b7, c7, d7, a71, xcr0, high;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return cpu;
    __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    if ((xcr0 & 0x6u) != 0x6u || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) /* SSE and AVX state */
        return cpu;
    cpu.avx2 = (c & bit_AVX) && (c & bit_FMA) && (c & bit_F16C) && (b7 & bit_AVX2);
    if (!__get_cpuid_count(7, 1, &a71, &b, &c, &d))
        a71 = 0;
    cpu.avxvnni = cpu.avx2 && (a71 & 1u << 4);
    cpu.avx512vnni = cpu.avx2 && (xcr0 & 0xe0u) == 0xe0u && (b7 & bit_AVX512F) && (b7 & bit_AVX512BW) &&
                     (b7 & bit_AVX512DQ) && (b7 & bit_AVX512VL) && (c7 & bit_AVX512VNNI);
    return cpu;
}

static bool usable(void)
{
    return kern_x86_cpu().avx2;
}

const struct llm_kernels llm_kernels_avx2 = {
    .name = "avx2",
    .rows = Q8_ROWS,
    .usable = usable,
    .gemm_q8 = gemm_q8,
    .gemm_f16 = kern_avx2_gemm_f16,
    .gemm_f32 = kern_avx2_gemm_f32,
    .quantise = kern_avx2_quantise,
    .dot_f16 = kern_avx2_dot_f16,
    .axpy_f16 = kern_avx2_axpy_f16,
    .to_f16 = kern_avx2_to_f16,
    .softmax = kern_avx2_softmax,
    .silu_mul = kern_avx2_silu_mul,
};
#else
typedef int kern_avx2_is_for_x86; /* a translation unit must not be empty */
#endif
