/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_amx.c - rows of prompts on AMX, the tile unit of Sapphire Rapids and later (table "amx"; all else in it is that
 * of kern_avx512.c).
 *
 * The tile unit multiplies 16 times as many pairs a clock as the vector unit, but only dense ones: a sum cannot be
 * scaled every 32 columns, as quantised types want it, without losing nearly all of that. So a slab of two panels is
 * turned into bfloat16 once (value = quant * scale, rounded to nearest even), and then meets all tokens of the batch.
 *
 * Loops, outside in: slabs of SLAB columns (of which the activations of 512 tokens stay in the second-level cache),
 * pairs of panels (32 rows; converted, the slab of one stays in the first-level cache), 32 tokens, 32 columns: 2 by 2
 * tiles of sums, kept in y between slabs. A float goes through memory unchanged and a tile's rows know nothing of each
 * other, so a token's result depends on its own activations and the weights alone.
 *
 * The compilers' tile intrinsics do not say that they read memory: settle() stands wherever tiles follow stores.
 */
#if defined(__x86_64__)
#ifndef KERN_EMULATED
#define KERN_AVX512 "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c"
#define KERN_HALF16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define KERN_WORD16(p) _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define KERN_WIDEN_INT8(p) _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define KERN_WIDEN_BYTES(p) _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))
/* 16 lanes of a pair: `even` in the low half, `odd` in the high one */
#define KERN_BF16_PAIRS(even, odd) pairs((even), (odd))
/* 32 values one after the other */
#define KERN_BF16_32(low, high) ((__m512i)_mm512_cvtne2ps_pbh((high), (low)))
#ifdef KERN_TILES /* for tests: tiles emulated, vectors not */
#include "tile_emulated.h"
#define KERN_TARGET __attribute__((target(KERN_AVX512)))
#else
#define KERN_TARGET __attribute__((target(KERN_AVX512 ",amx-tile,amx-bf16")))
#define KERN_TILE_CONFIG(config) _tile_loadconfig(config)
#define KERN_TILE_RELEASE() _tile_release()
#define KERN_TILE_ZERO(t) _tile_zero(t)
#define KERN_TILE_LOAD(t, p, stride) _tile_loadd(t, (p), (stride))
#define KERN_TILE_STREAM(t, p, stride) _tile_stream_loadd(t, (p), (stride))
#define KERN_TILE_STORE(t, p, stride) _tile_stored(t, (p), (stride))
#define KERN_TILE_DOT(c, a, b) _tile_dpbf16ps(c, a, b)
#endif
#endif

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kern_x86.h"

#define INLINE static inline KERN_TARGET __attribute__((always_inline))

enum {
    ROWS = 16,                           /* of a panel, and of every tile */
    STEP = LLM_PREFILL_STEP,             /* columns of a tile */
    TOKENS = LLM_PREFILL_TOKENS,         /* tokens of a tile */
    TILE = 1024,                         /* bytes of a tile */
    SLAB = 512,                          /* columns */
    SLAB_BYTES = SLAB / STEP * 2 * TILE, /* two panels' */
    LINE = 64
};
_Static_assert((size_t)SLAB_BYTES + 4 * TILE <= LLM_SCRATCH_BYTES, "a slab and four tiles of sums");

#include "kern_amx_tile.h"

INLINE void settle(void)
{
    __asm__ volatile("" ::: "memory");
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

/* Tiles 0 to 3: sums of (tokens, panel) = 00 01 10 11; 4 and 5: activations; 6 and 7: weights. All have 16 rows of 64
 * bytes; what lies beyond the last token or column is zero in memory. */
static const struct {
    uint8_t palette, start, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
} config __attribute__((aligned(64))) = {
    .palette = 1,
    .colsb = {LINE, LINE, LINE, LINE, LINE, LINE, LINE, LINE},
    .rows = {ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS},
};
_Static_assert(sizeof config == 64, "as the instruction reads it");

/* The numbers of tiles are part of the instructions: `i` is a constant wherever these two are used. */
INLINE void tile_load(size_t i, const void *p, size_t stride)
{
    if (i == 0)
        KERN_TILE_LOAD(0, p, stride);
    else if (i == 1)
        KERN_TILE_LOAD(1, p, stride);
    else if (i == 2)
        KERN_TILE_LOAD(2, p, stride);
    else
        KERN_TILE_LOAD(3, p, stride);
}

INLINE void tile_store(size_t i, void *p, size_t stride)
{
    if (i == 0)
        KERN_TILE_STORE(0, p, stride);
    else if (i == 1)
        KERN_TILE_STORE(1, p, stride);
    else if (i == 2)
        KERN_TILE_STORE(2, p, stride);
    else
        KERN_TILE_STORE(3, p, stride);
}

/* Where sums belong: y[tokens][rows], `stride` floats from token to token. What does not fill a tile goes through
 * `edge`, which has room for all four. */
struct place {
    float *y;
    size_t stride, tokens, rows;
    float *edge;
};

INLINE bool fills(const struct place *p, size_t i)
{
    return p->tokens >= (i / 2 + 1) * TOKENS && p->rows >= (i % 2 + 1) * ROWS;
}

/* Between y and the edge, as much as there is of tile i. */
static void edge_copy(const struct place *p, size_t i, bool in)
{
    const size_t t = i / 2 * TOKENS, r = i % 2 * ROWS;
    const size_t bytes = (p->rows - r < ROWS ? p->rows - r : ROWS) * sizeof(float);
    float *edge = p->edge + i * TOKENS * ROWS;

    for (size_t j = t; j < p->tokens && j < t + TOKENS; j++, edge += ROWS)
        if (in)
            memcpy(edge, p->y + j * p->stride + r, bytes);
        else
            memcpy(p->y + j * p->stride + r, edge, bytes);
}

INLINE void sums_in(const struct place *p, size_t i)
{
    if (fills(p, i)) {
        tile_load(i, p->y + i / 2 * TOKENS * p->stride + i % 2 * ROWS, p->stride * sizeof(float));
        return;
    }
    edge_copy(p, i, true);
    settle();
    tile_load(i, p->edge + i * TOKENS * ROWS, LINE);
}

INLINE void sums_out(const struct place *p, size_t i)
{
    if (fills(p, i)) {
        tile_store(i, p->y + i / 2 * TOKENS * p->stride + i % 2 * ROWS, p->stride * sizeof(float));
        return;
    }
    tile_store(i, p->edge + i * TOKENS * ROWS, LINE);
    settle();
    edge_copy(p, i, false);
}

/* A slab of `tall` tiles of tokens by `wide` panels (each 1 or 2, constants) is added to the sums, or begins them.
 * The activations stream past the first-level cache, where the weights stay. */
INLINE void block(const struct place *p, const uint8_t *x, size_t x_tile, const uint8_t *w, size_t steps, bool first,
                  size_t tall, size_t wide)
{
    KERN_TILE_ZERO(0);
    KERN_TILE_ZERO(1);
    KERN_TILE_ZERO(2);
    KERN_TILE_ZERO(3);
    for (size_t i = 0; i < 4 && !first; i++)
        if (i / 2 < tall && i % 2 < wide)
            sums_in(p, i);
    for (size_t s = 0; s < steps; s++, x += TILE, w += 2 * TILE) {
        KERN_TILE_STREAM(4, x, LINE);
        KERN_TILE_LOAD(6, w, LINE);
        KERN_TILE_DOT(0, 4, 6);
        if (tall == 2) {
            KERN_TILE_STREAM(5, x + x_tile, LINE);
            KERN_TILE_DOT(2, 5, 6);
        }
        if (wide == 2) {
            KERN_TILE_LOAD(7, w + TILE, LINE);
            KERN_TILE_DOT(1, 4, 7);
            if (tall == 2)
                KERN_TILE_DOT(3, 5, 7);
        }
    }
    for (size_t i = 0; i < 4; i++)
        if (i / 2 < tall && i % 2 < wide)
            sums_out(p, i);
}

static KERN_TARGET void block_22(const struct place *p, const uint8_t *x, size_t x_tile, const uint8_t *w, size_t steps,
                                 bool first)
{
    block(p, x, x_tile, w, steps, first, 2, 2);
}

static KERN_TARGET void block_12(const struct place *p, const uint8_t *x, size_t x_tile, const uint8_t *w, size_t steps,
                                 bool first)
{
    block(p, x, x_tile, w, steps, first, 1, 2);
}

static KERN_TARGET void block_21(const struct place *p, const uint8_t *x, size_t x_tile, const uint8_t *w, size_t steps,
                                 bool first)
{
    block(p, x, x_tile, w, steps, first, 2, 1);
}

static KERN_TARGET void block_11(const struct place *p, const uint8_t *x, size_t x_tile, const uint8_t *w, size_t steps,
                                 bool first)
{
    block(p, x, x_tile, w, steps, first, 1, 1);
}

/* One call's product; the slab at hand begins at column `first`. */
struct product {
    tile_fn *tile;
    const uint8_t *w; /* the pair of panels at hand */
    uint32_t type;
    size_t panel_bytes, columns, first, steps;
    const uint8_t *x;
    size_t x_tile;       /* bytes of all columns of 16 tokens */
    uint8_t *slab;       /* the pair's weights, converted: [steps][2 panels][TILE] */
    const uint8_t *next; /* the next pair's part of this slab, or NULL */
};

/* Where block `b`'s unit and its values begin in a panel. */
static size_t unit_at(const struct product *m, size_t b)
{
    return panel_is_float(m->type) ? 0 : panel_unit_at(m->type, ROWS, b);
}

static size_t values_at(const struct product *m, size_t b)
{
    return panel_is_float(m->type) ? b * ROWS * STEP * sizeof(uint16_t) : panel_values_at(m->type, ROWS, b);
}

static KERN_TARGET void convert(const struct product *m, size_t wide)
{
    const size_t begin = m->first / STEP;

    for (size_t i = 0; i < wide; i++) {
        const uint8_t *panel = m->w + i * m->panel_bytes;
        for (size_t s = 0; s < m->steps; s++)
            m->tile(panel + unit_at(m, begin + s), panel + values_at(m, begin + s), m->columns, begin + s,
                    m->slab + (s * 2 + i) * TILE);
    }
    settle();
}

/* The next pair's weights come from memory while tiles are multiplied: part `i` of `parts`. */
INLINE void fetch_ahead(const struct product *m, size_t i, size_t parts)
{
    const size_t begin = m->first / STEP, lines = (values_at(m, begin + m->steps) - values_at(m, begin)) / LINE;

    for (size_t n = lines * i / parts; m->next && n < lines * (i + 1) / parts; n++) {
        _mm_prefetch((const char *)m->next + n * LINE, _MM_HINT_T1);
        _mm_prefetch((const char *)m->next + m->panel_bytes + n * LINE, _MM_HINT_T1);
    }
}

/* A pair of panels, or a last single one, with all tokens; p->y and p->rows are the pair's. */
static KERN_TARGET void pair(const struct product *m, struct place *p, size_t tokens)
{
    const size_t wide = p->rows > ROWS ? 2 : 1, parts = (tokens + 2 * TOKENS - 1) / (2 * TOKENS);
    const uint8_t *x = m->x + m->first / STEP * TILE;
    float *y = p->y;

    convert(m, wide);
    for (size_t i = 0; i < parts; i++, x += 2 * m->x_tile, p->y += 2 * TOKENS * p->stride) {
        p->tokens = tokens - i * 2 * TOKENS;
        fetch_ahead(m, i, parts);
        if (p->tokens > TOKENS && wide == 2)
            block_22(p, x, m->x_tile, m->slab, m->steps, m->first == 0);
        else if (wide == 2)
            block_12(p, x, m->x_tile, m->slab, m->steps, m->first == 0);
        else if (p->tokens > TOKENS)
            block_21(p, x, m->x_tile, m->slab, m->steps, m->first == 0);
        else
            block_11(p, x, m->x_tile, m->slab, m->steps, m->first == 0);
    }
    p->y = y;
}

/* ---- the table's slots ------------------------------------------------------------------------------------------- */

KERN_TARGET void kern_amx_prefill(const struct llm_kernels *k, uint32_t type, const uint8_t *w, size_t panels,
                                  size_t rows_left, size_t columns, const uint16_t *x, size_t tokens, float *y,
                                  size_t y_stride, void *scratch)
{
    struct product m = {
        .tile = tile_of(type), .type = type, .columns = columns, .x = (const uint8_t *)x, .slab = scratch};
    struct place p = {.stride = y_stride, .edge = (float *)(void *)(m.slab + SLAB_BYTES)};
    const size_t steps = (columns + STEP - 1) / STEP;

    (void)k;
    m.panel_bytes = panel_bytes(type, ROWS, columns);
    m.x_tile = steps * TILE;
    memset(p.edge, 0, 4 * TILE); /* what is beyond the last row or token must not hold what is not a number */
    KERN_TILE_CONFIG(&config);
    for (; m.first < columns; m.first += SLAB) {
        m.steps = steps - m.first / STEP < SLAB / STEP ? steps - m.first / STEP : SLAB / STEP;
        for (size_t i = 0; i < panels; i += 2) {
            m.w = w + i * m.panel_bytes;
            m.next = panels - i >= 4 ? m.w + 2 * m.panel_bytes + unit_at(&m, m.first / STEP) : NULL;
            p.y = y + i * ROWS;
            p.rows = rows_left - i * ROWS;
            if (panels - i == 1 && p.rows > ROWS)
                p.rows = ROWS; /* the next panel is another call's */
            pair(&m, &p, tokens);
        }
    }
    KERN_TILE_RELEASE(); /* a thread with tiles in use is dear to switch */
}

KERN_TARGET void kern_amx_to_bf16(const float *x, size_t tokens, size_t columns, uint16_t *out)
{
    const size_t steps = (columns + STEP - 1) / STEP;
    float last[STEP] = {0};

    for (size_t t = 0; t < tokens; t++) {
        uint16_t *to = out + (t / TOKENS * steps * TOKENS + t % TOKENS) * STEP;
        for (size_t s = 0; s < steps; s++, to += TOKENS * STEP) {
            const float *from = x + t * columns + s * STEP;
            if (columns - s * STEP < STEP) {
                memcpy(last, from, (columns - s * STEP) * sizeof *last);
                from = last;
            }
            _mm512_storeu_si512((void *)to, KERN_BF16_32(_mm512_loadu_ps(from), _mm512_loadu_ps(from + STEP / 2)));
        }
    }
    for (size_t t = tokens; t % TOKENS != 0; t++)
        for (size_t s = 0; s < steps; s++)
            memset(out + ((t / TOKENS * steps + s) * TOKENS + t % TOKENS) * STEP, 0, STEP * sizeof *out);
}

/* AMX with its system's consent: tiles are 8 KB of state a thread, so Linux hands them out on request only. The request
 * holds for the process, threads and forks included; it is refused where an alternate signal stack is too small. */
bool kern_amx_usable(void)
{
    enum { REQUEST = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d, a71, xcr0, high;

    if (!kern_x86_cpu().avx512vnni) /* XGETBV is there */
        return false;
    __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    if ((xcr0 >> 17 & 3) != 3 || !__get_cpuid_count(7, 1, &a71, &b, &c, &d) || !(a71 >> 5 & 1)) /* AVX512-BF16 */
        return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) /* AMX-BF16, AMX-TILE */
        return false;
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}
#else
typedef int kern_amx_is_for_x86;
#endif
