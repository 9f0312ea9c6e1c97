/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_emulated.c - for tests: the AVX-VNNI and AVX-512 kernel files compiled once more on the SIMDe emulation of
 * those instructions (Debian's libsimde-dev), so that their logic is tested on CPUs that lack them.
 *
 * The build names the kernel file in KERN_SOURCE and renames its table.
 */
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wpsabi"
#include <immintrin.h> /* first: afterwards its names are the emulation's */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

#include "half.h"

#define KERN_EMULATED
#define KERN_TARGET
#define KERN_DPBUSD_256(acc, w, x) simde_mm256_dpbusd_epi32((acc), (w), (x))
#define KERN_DPBUSD_512(acc, w, x) simde_mm512_dpbusd_epi32((acc), (w), (x))

static inline simde__m512 kern_half16(const uint8_t *p)
{
    float f[16];
    uint16_t h;

    for (size_t i = 0; i < 16; i++) {
        memcpy(&h, p + i * sizeof h, sizeof h);
        f[i] = half_to_f32(h);
    }
    return simde_mm512_loadu_ps(f);
}
#define KERN_HALF16(p) kern_half16(p)

/* not in every version of the emulation */
static inline simde__m512 kern_cvtepi32_ps(simde__m512i v)
{
    int32_t in[16];
    float out[16];

    simde_mm512_storeu_si512(in, v);
    for (size_t i = 0; i < 16; i++)
        out[i] = (float)in[i];
    return simde_mm512_loadu_ps(out);
}
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps(v) kern_cvtepi32_ps(v)

#include KERN_SOURCE
