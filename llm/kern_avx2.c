/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_avx2.c - kernels for AVX2 with FMA and F16C, and the detection of x86 features.
 *
 * int8 products: maddubs wants one unsigned operand, so the weight's sign moves to the activation. |-128| is 128 as an
 * unsigned byte and activations stay in [-127, 127], so pairs reach at most 2 * 128 * 127 = 32512: nothing saturates.
 */
#if defined(__x86_64__)
#define KERN_TARGET __attribute__((target("avx2,fma,f16c")))
#define Q_BIASED 0
#define Q_DOT_U(acc, w, x) dot_pairs((acc), _mm256_maddubs_epi16((w), (x)))
#define Q_DOT_S(acc, w, x) dot_pairs((acc), _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8((x), (w))))

#include <immintrin.h>

static inline KERN_TARGET __attribute__((always_inline)) __m256i dot_pairs(__m256i acc, __m256i pairs)
{
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    /* keeps the compiler from turning the chain of sums into a tree, which needs more registers than there are */
    __asm__("" : "+x"(acc));
    return acc;
}

#include "kern_x86.h"
#include "kern_math.h"
#include "kern_x86_v8.h"
#include "kern_x86_q.h"

#include <cpuid.h>

/* ---- float matrices ---------------------------------------------------------------------------------------------- */

enum { F_ROWS = 8, F_TILE = 4, F_PANELS = 2 };

static inline KERN_TARGET __attribute__((always_inline)) __m256 load8(const uint8_t *w, uint32_t type)
{
    const __m128i *halves = (const __m128i *)(const void *)w;

    if (type == GGUF_TENSOR_F16)
        return _mm256_cvtph_ps(_mm_load_si128(halves));
    if (type == GGUF_TENSOR_BF16)
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_load_si128(halves)), 16));
    return _mm256_load_ps((const float *)(const void *)w);
}

/* `panels` (at most 4) by `tokens` (at most 4), at most 8 products in all; constants in every call. */
static inline KERN_TARGET __attribute__((always_inline)) void f_tile(const uint8_t *w, size_t bytes, size_t panels,
                                                                     size_t columns, const float *x, size_t tokens,
                                                                     uint32_t type, float *out)
{
    __m256 sum[8];

    for (size_t i = 0; i < panels * tokens; i++)
        sum[i] = _mm256_setzero_ps();
    for (size_t c = 0; c < columns; c++) {
        for (size_t p = 0; p < panels; p++) {
            const __m256 wv = load8(w + p * bytes + c * F_ROWS * kern_float_bytes(type), type);
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
                                                                       uint32_t type)
{
    float out[8 * F_ROWS];

    for (size_t t = 0, step; t < tokens; t += step) {
        step = tokens - t >= F_TILE && panels <= F_PANELS ? F_TILE : 1;
        if (step == F_TILE)
            f_tile(w, bytes, panels, columns, x + t * columns, F_TILE, type, out);
        else
            f_tile(w, bytes, panels, columns, x + t * columns, 1, type, out);
        for (size_t i = 0; i < step; i++)
            memcpy(y + (t + i) * y_stride, out + i * panels * F_ROWS, rows * sizeof(float));
    }
}

static inline KERN_TARGET __attribute__((always_inline)) void f_gemm(const uint8_t *w, size_t panels, size_t rows_left,
                                                                     size_t columns, const float *x, size_t tokens,
                                                                     float *y, size_t y_stride, uint32_t type)
{
    const size_t bytes = panel_bytes(type, F_ROWS, columns);

    while (panels > 0) {
        const size_t now = tokens == 1 && panels >= 4 ? 4 : panels >= F_PANELS ? F_PANELS : 1;
        const size_t rows = rows_left < now * F_ROWS ? rows_left : now * F_ROWS;
        if (now == 4)
            f_panels(w, bytes, 4, rows, columns, x, 1, y, y_stride, type);
        else if (now == F_PANELS)
            f_panels(w, bytes, F_PANELS, rows, columns, x, tokens, y, y_stride, type);
        else
            f_panels(w, bytes, 1, rows, columns, x, tokens, y, y_stride, type);
        panels -= now;
        w += now * bytes;
        y += rows;
        rows_left -= rows;
    }
}

KERN_GEMM_F(, kern_avx2_gemm_f)

/* ---- vectors ----------------------------------------------------------------------------------------------------- */

/* What kern_quantise_block does, with the same roundings. */
static inline KERN_TARGET __attribute__((always_inline)) void quantise_block(const float *x, struct llm_q8 *out)
{
    const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)), most = _mm256_set1_ps(127.0f);
    __m256 v[4], top = _mm256_setzero_ps();
    __m256i q[4];

    for (size_t i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(x + i * 8);
        top = _mm256_max_ps(_mm256_and_ps(v[i], no_sign), top); /* keeps `top` where the other is NaN */
    }
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(top), _mm256_extractf128_ps(top, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_shuffle_ps(m, m, 1));
    const float amax = _mm_cvtss_f32(m), id = amax > 1e-30f && amax <= FLT_MAX ? 127.0f / amax : 0.0f;
    const __m256 scale = _mm256_set1_ps(id);
    for (size_t i = 0; i < 4; i++) {
        v[i] = _mm256_max_ps(_mm256_min_ps(_mm256_mul_ps(v[i], scale), most), _mm256_sub_ps(_mm256_setzero_ps(), most));
        q[i] = _mm256_cvtps_epi32(v[i]);
    }
    __m256i sums = _mm256_hadd_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
    sums = _mm256_hadd_epi32(sums, sums);
    const __m128i both = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    const int32_t first = _mm_cvtsi128_si32(both), all = first + _mm_extract_epi32(both, 1);
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    _mm256_storeu_si256((__m256i *)(void *)out->q,
                        _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    out->d = id > 0 ? amax / 127.0f : 0.0f;
    out->corr = -128 * all;
    out->half = -32 * first;
    out->sum = out->d * (float)all;
}

KERN_TARGET void kern_avx2_quantise(const float *x, size_t tokens, size_t blocks, size_t tile, struct llm_q8 *out)
{
    kern_quantise(quantise_block, x, tokens, blocks, tile, out);
}

static KERN_TARGET void quantise(const float *x, size_t tokens, size_t blocks, struct llm_q8 *out)
{
    kern_avx2_quantise(x, tokens, blocks, Q_TILE, out);
}

KERN_TARGET void kern_avx2_to_f16(const float *x, size_t n, uint16_t *out)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(out + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        out[i] = half_from_f32(x[i]);
}

KERN_TARGET void kern_avx2_silu_mul(float *gate, const float *up, size_t n)
{
    kern_silu_mul(gate, up, n);
}

KERN_TARGET void kern_avx2_gelu_mul(float *gate, const float *up, size_t n)
{
    kern_gelu_mul(gate, up, n);
}

KERN_TARGET void kern_avx2_rms_norm(const float *x, const float *weight, size_t n, float eps, float *out)
{
    kern_rms_norm(x, weight, n, eps, out);
}

/* ---- detection --------------------------------------------------------------------------------------------------- */

struct kern_x86_cpu kern_x86_cpu(void)
{
    struct kern_x86_cpu cpu = {0};
    unsigned a, b, c, d, b7, c7, d7, a71, xcr0, high;

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
    .rows = Q_ROWS,
    .usable = usable,
    .tile = Q_TILE,
    .gemm_q = gemm_q,
    .gemm_f = kern_avx2_gemm_f,
    .quantise = quantise,
    KERN_AVX2_SLOTS,
};
#else
typedef int kern_avx2_is_for_x86; /* a translation unit must not be empty */
#endif
