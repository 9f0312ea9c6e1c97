/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_attn_avx2.c - attention over a page with AVX2, FMA and F16C.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#include "kern_attn.h"

#define KERN_TARGET __attribute__((target("avx2,fma,f16c")))
#define V __m256
#define V_LANES 8
#define V_LOAD(p) _mm256_loadu_ps(p)
#define V_STORE(p, v) _mm256_storeu_ps((p), (v))
#define V_SET(x) _mm256_set1_ps(x)
#define V_MUL(a, b) _mm256_mul_ps((a), (b))
#define V_FMA(a, b, c) _mm256_fmadd_ps((a), (b), (c))
#define V_HALF(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define V_INT8(p) _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p))))
#define ATTN_ROWS 4

static inline KERN_TARGET float greatest(__m256 v)
{
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
#define V_MAX(a, b) _mm256_max_ps((a), (b))
#define V_GREATEST(v) greatest(v)

#include "kern_attn_impl.h"

const struct llm_attn_kernels llm_attn_avx2 = {"avx2", attn_load_f16, attn_load_int8, attn_meet};
#else
typedef int kern_attn_avx2_is_for_x86;
#endif
