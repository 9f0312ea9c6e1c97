/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_x86_q.h - products of quantised weights, a template for vectors of 8 or 16 lanes of 32 bits, a lane a row. The
 * including file defines
 *   KERN_TARGET                 function attribute
 *   Q_ROWS, Q_TILE              lanes; tokens of a tile
 *   Q_BIASED                    whether Q8_0 weights are unsigned, with 128 added
 *   VI, VF                      integer and float vectors
 *   VI_..., VF_..., Q_HALVES    their operations; loads of Q_ROWS binary16, int8 or bytes as vectors
 *   Q_DOT_U(acc, w, x)          acc[i] += dot of the four unsigned bytes of lane i of w with the four int8 of x
 *   Q_DOT_S(acc, w, x)          the same of signed bytes of w, where weights are not biased
 * and gets gemm_q(). A tile is 1 panel by up to Q_TILE tokens, its integer and float sums in registers.
 */
#include <string.h>

#define Q_INLINE static inline KERN_TARGET __attribute__((always_inline))

Q_INLINE VI q_broadcast(const uint8_t *p)
{
    int32_t v;

    memcpy(&v, p, sizeof v);
    return VI_SET1(v);
}

Q_INLINE VF q_broadcast_f(const uint8_t *p)
{
    float v;

    memcpy(&v, p, sizeof v);
    return VF_SET1(v);
}

/* Bit `g` of each byte to bit 4. Shifts are constants, which a build without optimisation insists on. */
Q_INLINE VI q_fifth(VI bits, size_t g)
{
    switch (g) {
    case 0: return VI_SLL(bits, 4);
    case 1: return VI_SLL(bits, 3);
    case 2: return VI_SLL(bits, 2);
    case 3: return VI_SLL(bits, 1);
    case 4: return bits;
    case 5: return VI_SRL(bits, 1);
    case 6: return VI_SRL(bits, 2);
    default: return VI_SRL(bits, 3);
    }
}

/* Bits 2(g % 4) and the next of each byte to bits 4 and 5. */
Q_INLINE VI q_pair(VI bits, size_t g)
{
    switch (g % 4) {
    case 0: return VI_SLL(bits, 4);
    case 1: return VI_SLL(bits, 2);
    case 2: return bits;
    default: return VI_SRL(bits, 2);
    }
}

/* Group `g` of a block as unsigned bytes (Q8_0: as packed). */
Q_INLINE VI q_group(uint32_t type, const uint8_t *q, size_t g)
{
    enum { VECTOR = Q_ROWS * 4 };

    if (type == GGUF_TENSOR_Q8_0)
        return VI_LOAD(q + g * VECTOR);
    VI v = VI_LOAD(q + g % 4 * VECTOR);
    v = VI_AND(g < 4 ? v : VI_SRL(v, 4), VI_SET1(0x0f0f0f0f));
    if (type == GGUF_TENSOR_Q5_K)
        v = VI_OR(v, VI_AND(q_fifth(VI_LOAD(q + 4 * VECTOR), g), VI_SET1(0x10101010)));
    else if (type == GGUF_TENSOR_Q6_K)
        v = VI_OR(v, VI_AND(q_pair(VI_LOAD(q + (4 + g / 4) * VECTOR), g), VI_SET1(0x30303030)));
    return v;
}

/* First value of an accumulator of block bytes `x` of a tile of `n`, token `t`, half `h`: what makes sums with unsigned
 * weights those with the true ones. */
Q_INLINE VI q_start(uint32_t type, const uint8_t *x, size_t n, size_t t, size_t h)
{
    const uint8_t *corr = x + n * (LLM_Q8_BLOCK + 4) + t * 4;

    if (type == GGUF_TENSOR_Q8_0 && Q_BIASED)
        return q_broadcast(corr);
    if (type == GGUF_TENSOR_Q4_0)
        return VI_SRA(q_broadcast(corr), 4);
    if (type == GGUF_TENSOR_Q6_K && h == 0)
        return q_broadcast(corr + n * 4);
    if (type == GGUF_TENSOR_Q6_K)
        return VI_SUB(VI_SRA(q_broadcast(corr), 2), q_broadcast(corr + n * 4));
    return VI_SET1(0);
}

/* Scales of block `sub` of a unit, half `h`. */
Q_INLINE VF q_scale(uint32_t type, const uint8_t *unit, size_t sub, size_t h)
{
    if (panel_scale_bytes(type) == 2)
        return Q_HALVES(unit + sub * Q_ROWS * 2);
    if (type == GGUF_TENSOR_Q6_K)
        return VF_MUL(Q_HALVES(unit), VF_OF(Q_INT8S(unit + Q_ROWS * 2 + (sub * 2 + h) * Q_ROWS)));
    return VF_MUL(Q_HALVES(unit), VF_OF(Q_BYTES(unit + Q_ROWS * 4 + sub * Q_ROWS)));
}

Q_INLINE VF q_min(const uint8_t *unit, size_t sub)
{
    return VF_MUL(Q_HALVES(unit + Q_ROWS * 2), VF_OF(Q_BYTES(unit + Q_ROWS * 12 + sub * Q_ROWS)));
}

/* Vectors that pass here are loaded in this order: the CPU's own prefetch follows memory best from the front to the
 * back. Prefetches of ours, at whatever distance, were slower than none. */
Q_INLINE VI q_in_order(VI v)
{
#ifndef KERN_EMULATED
    __asm__ volatile("" : "+x"(v));
#endif
    return v;
}

/* A tile of many tokens computes longer on each line of weights than memory takes for the next one, but the processor
 * looks too little ahead to fetch meanwhile: it would wait, then compute. So such tiles ask early. With fewer tokens
 * lines are asked for fast enough, and hints were in the way. */
enum { Q_AHEAD_TOKENS = 6, Q_AHEAD_BYTES = 4096, Q_LINE = 64 };

/* Ask for what part `i` of PANEL_GROUPS of the block that lies so far ahead of `q` brings. */
Q_INLINE void q_ahead(uint32_t type, const uint8_t *q, size_t i)
{
    const size_t bytes = Q_ROWS * panel_block_bytes(type);
    const size_t from = i * bytes / PANEL_GROUPS, to = (i + 1) * bytes / PANEL_GROUPS;
    const size_t line = (from + Q_LINE - 1) / Q_LINE * Q_LINE;

    if (line < to)
        __builtin_prefetch((const void *)((uintptr_t)q + Q_AHEAD_BYTES + line)); /* maybe behind the weights */
}

/* Add the products of block `sub` of a unit with the `n` tokens of a tile to their sums. */
Q_INLINE void q_block(uint32_t type, const uint8_t *unit, size_t sub, const uint8_t *x, size_t n, VF sum[Q_TILE])
{
    const uint8_t *q = unit + panel_unit_values(type, Q_ROWS) + sub * Q_ROWS * panel_block_bytes(type);
    const size_t halves = type == GGUF_TENSOR_Q6_K ? 2 : 1, groups = PANEL_GROUPS / halves;
    /* with few tokens several accumulators each: a chain of eight products would be waited for */
    const size_t chains = n == 1 ? 4 : n <= 3 ? 2 : 1;

    for (size_t h = 0; h < halves; h++) {
        VI acc[Q_TILE];
        for (size_t t = 0; t < n * chains; t++)
            acc[t] = t < n ? q_start(type, x, n, t, h) : VI_SET1(0);
        for (size_t i = 0; i < groups; i++) {
            /* groups that share their bytes follow each other */
            const size_t g = type == GGUF_TENSOR_Q8_0 ? i : halves == 2 ? h * groups + i : i / 2 + i % 2 * 4;
            if (n >= Q_AHEAD_TOKENS)
                q_ahead(type, q, h * groups + i);
            const VI group = q_group(type, q, g), w = n == 1 && type == GGUF_TENSOR_Q8_0 ? q_in_order(group) : group;
            for (size_t t = 0; t < n; t++) {
                const VI four = q_broadcast(x + (g * n + t) * 4);
                const size_t to = i % chains * n + t;
                acc[to] = type == GGUF_TENSOR_Q8_0 && !Q_BIASED ? Q_DOT_S(acc[to], w, four) : Q_DOT_U(acc[to], w, four);
            }
        }
        for (size_t c = chains / 2; c > 0; c /= 2)
            for (size_t t = 0; t < n * c; t++)
                acc[t] = VI_ADD(acc[t], acc[t + n * c]);
        const VF s = q_scale(type, unit, sub, h);
        for (size_t t = 0; t < n; t++)
            sum[t] = VF_FMADD(VF_OF(acc[t]), VF_MUL(s, q_broadcast_f(x + n * LLM_Q8_BLOCK + t * 4)), sum[t]);
    }
    if (type == GGUF_TENSOR_Q4_K || type == GGUF_TENSOR_Q5_K) {
        const VF m = q_min(unit, sub);
        for (size_t t = 0; t < n; t++)
            sum[t] = VF_FNMADD(m, q_broadcast_f(x + n * (LLM_Q8_BLOCK + 12) + t * 4), sum[t]);
    }
}

/* `type` and `n` are constants in every call, so the arrays live in registers. */
Q_INLINE void q_tile(uint32_t type, const uint8_t *panel, size_t columns, const struct llm_q8 *tile, size_t n,
                     float out[Q_TILE * Q_ROWS])
{
    const size_t blocks = columns / LLM_Q8_BLOCK, of_unit = panel_unit_blocks(type, Q_ROWS);
    const size_t unit_bytes = panel_unit_at(type, Q_ROWS, of_unit), x_step = n * sizeof *tile;
    const uint8_t *x = (const uint8_t *)tile, *unit = panel;
    VF sum[Q_TILE];
    size_t b = 0;

    for (size_t t = 0; t < n; t++)
        sum[t] = VF_SET1(0);
    for (; b + of_unit <= blocks; b += of_unit, unit += unit_bytes)
        for (size_t sub = 0; sub < of_unit; sub++, x += x_step)
            q_block(type, unit, sub, x, n, sum);
    for (size_t sub = 0; b + sub < blocks; sub++, x += x_step)
        q_block(type, unit, sub, x, n, sum);
    for (size_t t = 0; t < n; t++)
        VF_STORE(out + t * Q_ROWS, sum[t]);
}

/* All tokens with `rows` rows of one panel. */
Q_INLINE void q_panel(uint32_t type, const uint8_t *w, size_t rows, size_t columns, const struct llm_q8 *x,
                      size_t tokens, float *y, size_t y_stride)
{
    const size_t blocks = columns / LLM_Q8_BLOCK;
    float out[Q_TILE * Q_ROWS];

    _Static_assert(Q_TILE == 6 || (Q_TILE > LLM_TILE_ANY && LLM_TILE_ANY == 8), "every tile has its case");
    for (size_t t = 0, n; t < tokens; t += n) {
        n = llm_tile(Q_TILE, tokens - t);
        switch (n) {
        case 1: q_tile(type, w, columns, x + t * blocks, 1, out); break;
        case 2: q_tile(type, w, columns, x + t * blocks, 2, out); break;
        case 3: q_tile(type, w, columns, x + t * blocks, 3, out); break;
        case 4: q_tile(type, w, columns, x + t * blocks, 4, out); break;
        case 5: q_tile(type, w, columns, x + t * blocks, 5, out); break;
#if Q_TILE > 8
        case 6: q_tile(type, w, columns, x + t * blocks, 6, out); break;
        case 7: q_tile(type, w, columns, x + t * blocks, 7, out); break;
        case 8: q_tile(type, w, columns, x + t * blocks, 8, out); break;
#endif
        default: q_tile(type, w, columns, x + t * blocks, Q_TILE, out); break;
        }
        for (size_t i = 0; i < n; i++)
            memcpy(y + (t + i) * y_stride, out + i * Q_ROWS, rows * sizeof(float));
    }
}

Q_INLINE void q_panels(uint32_t type, const uint8_t *w, size_t panels, size_t rows_left, size_t columns,
                       const struct llm_q8 *x, size_t tokens, float *y, size_t y_stride)
{
    const size_t bytes = panel_bytes(type, Q_ROWS, columns);

    for (size_t p = 0; p < panels; p++) {
        const size_t rows = rows_left - p * Q_ROWS < Q_ROWS ? rows_left - p * Q_ROWS : Q_ROWS;
        q_panel(type, w + p * bytes, rows, columns, x, tokens, y + p * Q_ROWS, y_stride);
    }
}

#define Q_GEMM(name, type)                                                                                             \
    static KERN_TARGET __attribute__((noinline)) void name(const uint8_t *w, size_t panels, size_t rows_left,          \
                                                           size_t columns, const struct llm_q8 *x, size_t tokens,      \
                                                           float *y, size_t y_stride)                                  \
    {                                                                                                                  \
        q_panels(type, w, panels, rows_left, columns, x, tokens, y, y_stride);                                         \
    }

Q_GEMM(gemm_q8_0, GGUF_TENSOR_Q8_0)
Q_GEMM(gemm_q4_0, GGUF_TENSOR_Q4_0)
Q_GEMM(gemm_q4_k, GGUF_TENSOR_Q4_K)
Q_GEMM(gemm_q5_k, GGUF_TENSOR_Q5_K)
Q_GEMM(gemm_q6_k, GGUF_TENSOR_Q6_K)

static KERN_TARGET void gemm_q(uint32_t type, const uint8_t *w, size_t panels, size_t rows_left, size_t columns,
                               const struct llm_q8 *x, size_t tokens, float *y, size_t y_stride)
{
    switch (type) {
    case GGUF_TENSOR_Q8_0: gemm_q8_0(w, panels, rows_left, columns, x, tokens, y, y_stride); break;
    case GGUF_TENSOR_Q4_0: gemm_q4_0(w, panels, rows_left, columns, x, tokens, y, y_stride); break;
    case GGUF_TENSOR_Q4_K: gemm_q4_k(w, panels, rows_left, columns, x, tokens, y, y_stride); break;
    case GGUF_TENSOR_Q5_K: gemm_q5_k(w, panels, rows_left, columns, x, tokens, y, y_stride); break;
    default: gemm_q6_k(w, panels, rows_left, columns, x, tokens, y, y_stride); break;
    }
}
