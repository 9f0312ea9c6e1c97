/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_x86_v8.h - the vectors of kern_x86_q.h with 8 lanes, for tables of 256 bits.
 */
#include <immintrin.h>

enum { Q_ROWS = 8 };
#define Q_TILE 6
#define VI __m256i
#define VF __m256
#define VI_LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define VI_SET1(v) _mm256_set1_epi32(v)
#define VI_AND(a, b) _mm256_and_si256((a), (b))
#define VI_OR(a, b) _mm256_or_si256((a), (b))
#define VI_ADD(a, b) _mm256_add_epi32((a), (b))
#define VI_SUB(a, b) _mm256_sub_epi32((a), (b))
#define VI_SRL(a, n) _mm256_srli_epi32((a), (n))
#define VI_SLL(a, n) _mm256_slli_epi32((a), (n))
#define VI_SRA(a, n) _mm256_srai_epi32((a), (n))
#define VF_SET1(v) _mm256_set1_ps(v)
#define VF_MUL(a, b) _mm256_mul_ps((a), (b))
#define VF_FMADD(a, b, c) _mm256_fmadd_ps((a), (b), (c))
#define VF_FNMADD(a, b, c) _mm256_fnmadd_ps((a), (b), (c))
#define VF_OF(v) _mm256_cvtepi32_ps(v)
#define VF_STORE(p, v) _mm256_storeu_ps((p), (v))
#define Q_HALVES(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define Q_INT8S(p) _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p)))
#define Q_BYTES(p) _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p)))
