/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_avxvnni.c - kernels for CPUs with AVX-VNNI and no AVX-512 (12th generation Core and later).
 *
 * vpdpbusd multiplies unsigned by signed bytes without saturating. Weights are packed with 128 added; the accumulator
 * starts at -128 * sum(activations), so the sum comes out exact.
 */
#if defined(__x86_64__)
#ifndef KERN_EMULATED
#define KERN_TARGET __attribute__((target("avx2,fma,f16c,avxvnni")))
#define KERN_DPBUSD_256(acc, w, x) _mm256_dpbusd_avx_epi32((acc), (w), (x))
#endif
#define Q_BIASED 1
#define Q_DOT_U(acc, w, x) KERN_DPBUSD_256((acc), (w), (x))
#define Q_DOT_S(acc, w, x) Q_DOT_U((acc), (w), (x)) /* never: weights are biased */

#include "kern_x86.h"
#include "kern_x86_v8.h"
#include "kern_x86_q.h"

static KERN_TARGET void quantise(const float *x, size_t tokens, size_t blocks, struct llm_q8 *out)
{
    kern_avx2_quantise(x, tokens, blocks, Q_TILE, out);
}

static bool usable(void)
{
    return kern_x86_cpu().avxvnni;
}

const struct llm_kernels llm_kernels_avxvnni = {
    .name = "avx-vnni",
    .rows = Q_ROWS,
    .bias = 0x80,
    .usable = usable,
    .tile = Q_TILE,
    .gemm_q = gemm_q,
    .gemm_f = kern_avx2_gemm_f,
    .quantise = quantise,
    KERN_AVX2_SLOTS,
};
#else
typedef int kern_avxvnni_is_for_x86;
#endif
