/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_attn_avx512.c - attention over a page with AVX-512.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#include "kern_attn.h"

#ifndef KERN_EMULATED
#define KERN_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#define KERN_HALF16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define KERN_WIDEN_INT8(p) _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#endif
#define V __m512
#define V_LANES 16
#define V_LOAD(p) _mm512_loadu_ps(p)
#define V_STORE(p, v) _mm512_storeu_ps((p), (v))
#define V_SET(x) _mm512_set1_ps(x)
#define V_MUL(a, b) _mm512_mul_ps((a), (b))
#define V_FMA(a, b, c) _mm512_fmadd_ps((a), (b), (c))
#define V_HALF(p) KERN_HALF16(p)
#define V_INT8(p) _mm512_cvtepi32_ps(KERN_WIDEN_INT8(p))
#define V_MAX(a, b) _mm512_max_ps((a), (b))
#define V_GREATEST(v) _mm512_reduce_max_ps(v)
#define ATTN_ROWS 8
#include "kern_attn_impl.h"

const struct llm_attn_kernels llm_attn_avx512 = {"avx512", attn_load_f16, attn_load_int8, attn_meet};
#else
typedef int kern_attn_avx512_is_for_x86;
#endif
