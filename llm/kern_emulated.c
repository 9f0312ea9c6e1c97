/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_emulated.c - for tests: the kernel files of AVX-VNNI and AVX-512 compiled once more on the SIMDe emulation of
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

/* Loads that widen 16 small values, by the size and kind of these. */
enum { KERN_HALVES, KERN_WORDS, KERN_INT8S, KERN_BYTES };

static inline simde__m512i kern_widen(const uint8_t *p, int kind)
{
    int32_t v[16];
    uint16_t h;
    float f;

    for (size_t i = 0; i < 16; i++) {
        if (kind == KERN_INT8S || kind == KERN_BYTES) {
            v[i] = kind == KERN_BYTES ? p[i] : (int8_t)p[i];
            continue;
        }
        memcpy(&h, p + i * sizeof h, sizeof h);
        f = half_to_f32(h);
        memcpy(&v[i], &f, sizeof f);
        if (kind == KERN_WORDS)
            v[i] = h;
    }
    return simde_mm512_loadu_si512(v);
}
#define KERN_HALF16(p) simde_mm512_castsi512_ps(kern_widen((p), KERN_HALVES))
#define KERN_WORD16(p) kern_widen((p), KERN_WORDS)
#define KERN_WIDEN_INT8(p) kern_widen((p), KERN_INT8S)
#define KERN_WIDEN_BYTES(p) kern_widen((p), KERN_BYTES)

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
static inline simde__m512i kern_srai(simde__m512i v, unsigned n)
{
    int32_t x[16];

    simde_mm512_storeu_si512(x, v);
    for (size_t i = 0; i < 16; i++)
        x[i] >>= n;
    return simde_mm512_loadu_si512(x);
}
static inline float kern_reduce_max(simde__m512 v)
{
    float x[16], top;

    simde_mm512_storeu_ps(x, v);
    top = x[0];
    for (size_t i = 1; i < 16; i++)
        top = x[i] > top ? x[i] : top;
    return top;
}
#undef _mm512_reduce_max_ps
#define _mm512_reduce_max_ps(v) kern_reduce_max(v)
#undef _mm512_srai_epi32
#define _mm512_srai_epi32(v, n) kern_srai((v), (n))
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps(v) kern_cvtepi32_ps(v)

#ifdef KERN_TILES
#include <math.h>

#include "tile_emulated.h"

static inline simde__m512i kern_bf16_32(simde__m512 low, simde__m512 high, size_t apart)
{
    float f[32];
    uint16_t out[32];

    simde_mm512_storeu_ps(f, low);
    simde_mm512_storeu_ps(f + 16, high);
    for (size_t i = 0; i < 32; i++)
        out[apart == 1 ? i : i % 16 * 2 + i / 16] = tile_emulated_bf16(f[i]);
    return simde_mm512_loadu_si512(out);
}
/* the emulation rounds twice */
static inline simde__m512 kern_fmadd(simde__m512 a, simde__m512 b, simde__m512 c)
{
    float x[16], y[16], z[16];

    simde_mm512_storeu_ps(x, a);
    simde_mm512_storeu_ps(y, b);
    simde_mm512_storeu_ps(z, c);
    for (size_t i = 0; i < 16; i++)
        z[i] = fmaf(x[i], y[i], z[i]);
    return simde_mm512_loadu_ps(z);
}
#undef _mm512_fmadd_ps
#define _mm512_fmadd_ps(a, b, c) kern_fmadd((a), (b), (c))
#define KERN_BF16_32(low, high) kern_bf16_32((low), (high), 1)
#define KERN_BF16_PAIRS(even, odd) kern_bf16_32((even), (odd), 2)
#endif

#include KERN_SOURCE
