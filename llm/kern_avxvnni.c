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
#define KERN_PREPARE(w) (w)
#define KERN_START(corr) _mm256_set1_epi32(corr)
#define KERN_DOT4(acc, w, same, x) KERN_DPBUSD_256((acc), (w), (x))

#include "kern_x86.h"
#include "kern_x86_q8.h"

static bool usable(void)
{
    return kern_x86_cpu().avxvnni;
}

const struct llm_kernels llm_kernels_avxvnni = {
    .name = "avx-vnni",
    .rows = Q8_ROWS,
    .bias = 0x80,
    .usable = usable,
    .gemm_q8 = gemm_q8,
    .gemm_f16 = kern_avx2_gemm_f16,
    .gemm_f32 = kern_avx2_gemm_f32,
    KERN_AVX2_SLOTS,
};
#else
typedef int kern_avxvnni_is_for_x86;
#endif
