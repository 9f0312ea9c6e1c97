/* SPDX-License-Identifier: Apache-2.0
 *
 * panel.c - see panel.h.
 */
#include "panel.h"

#include <math.h>
#include <string.h>

#include "half.h"

#define LOW_NIBBLES 0x0f0f0f0fu

static uint32_t word_at(const uint8_t *p)
{
    uint32_t w;

    memcpy(&w, p, sizeof w);
    return w;
}

static void put_word(uint8_t *p, uint32_t w)
{
    memcpy(p, &w, sizeof w);
}

static float half_at(const uint8_t *p)
{
    uint16_t h;

    memcpy(&h, p, sizeof h);
    return half_to_f32(h);
}

static bool half_finite(const uint8_t *p)
{
    return (p[1] & 0x7c) != 0x7c;
}

/* ---- packing ----------------------------------------------------------------------------------------------------- */

/* All rows block by block: each line of the panel is written once, in order. */
static size_t pack_q8_0(uint8_t bias, size_t rows, size_t blocks, uint8_t *panel, size_t count, const uint8_t *src,
                        size_t src_step)
{
    const size_t unit = panel_unit_blocks(GGUF_TENSOR_Q8_0, rows);
    const uint32_t flip = bias * 0x01010101u;
    size_t good = count;

    for (size_t b = 0; b < blocks; b++, src += 34) {
        uint8_t *scales = panel + panel_unit_at(GGUF_TENSOR_Q8_0, rows, b) + b % unit * rows * 2;
        uint8_t *q = panel + panel_values_at(GGUF_TENSOR_Q8_0, rows, b);
        for (size_t r = 0; r < count; r++) {
            if (!half_finite(src + r * src_step) && r < good)
                good = r;
            memcpy(scales + r * 2, src + r * src_step, 2);
        }
        for (size_t g = 0; g < PANEL_GROUPS; g++)
            for (size_t r = 0; r < count; r++)
                put_word(q + (g * rows + r) * 4, word_at(src + r * src_step + 2 + g * 4) ^ flip);
    }
    return good;
}

static bool pack_q4_0(size_t rows, size_t blocks, uint8_t *panel, size_t r, const uint8_t *src)
{
    const size_t unit = panel_unit_blocks(GGUF_TENSOR_Q4_0, rows);
    bool ok = true;

    for (size_t b = 0; b < blocks; b++, src += 18) {
        uint8_t *q = panel + panel_values_at(GGUF_TENSOR_Q4_0, rows, b);
        ok = ok && half_finite(src);
        memcpy(panel + panel_unit_at(GGUF_TENSOR_Q4_0, rows, b) + (b % unit * rows + r) * 2, src, 2);
        for (size_t i = 0; i < 4; i++)
            put_word(q + (i * rows + r) * 4, word_at(src + 2 + i * 4));
    }
    return ok;
}

/* 256 values of Q4_K or Q5_K; `fifth` is NULL for the former. `step` is the distance of packed blocks. */
static bool pack_k45(size_t rows, uint8_t *scales, uint8_t *q, size_t step, size_t r, const uint8_t *src,
                     const uint8_t *fifth, const uint8_t *nibbles)
{
    uint8_t sc[QUANT_SUBS], mins[QUANT_SUBS];

    quant_k_scales(src + 4, sc, mins);
    memcpy(scales + r * 2, src, 2);
    memcpy(scales + (rows + r) * 2, src + 2, 2);
    for (size_t sub = 0; sub < QUANT_SUBS; sub++, q += step) {
        const uint8_t *from = nibbles + sub / 2 * 32;
        const size_t shift = sub % 2 * 4;
        scales[rows * 4 + sub * rows + r] = sc[sub];
        scales[rows * 12 + sub * rows + r] = mins[sub];
        for (size_t i = 0; i < 4; i++)
            put_word(q + (i * rows + r) * 4, (word_at(from + i * 4) >> shift & LOW_NIBBLES) |
                                                 (word_at(from + 16 + i * 4) >> shift & LOW_NIBBLES) << 4);
        if (!fifth)
            continue;
        uint32_t bits = 0;
        for (size_t g = 0; g < PANEL_GROUPS; g++)
            bits |= (word_at(fifth + g * 4) >> sub & 0x01010101u) << g;
        put_word(q + (4 * rows + r) * 4, bits);
    }
    return half_finite(src) && half_finite(src + 2);
}

static bool pack_k6(size_t rows, uint8_t *scales, uint8_t *q, size_t r, const uint8_t *src)
{
    memcpy(scales + r * 2, src + 208, 2);
    for (size_t i = 0; i < QUANT_SUPER / 16; i++)
        scales[rows * 2 + i * rows + r] = src[192 + i];
    for (size_t sub = 0; sub < QUANT_SUBS; sub++, q += rows * 24) {
        const uint8_t *low = src + sub / 4 * 64 + sub % 2 * 32, *pairs = src + 128 + sub / 4 * 32;
        const size_t shift = sub % 4 / 2 * 4;
        uint32_t upper[2] = {0, 0};
        for (size_t i = 0; i < 4; i++)
            put_word(q + (i * rows + r) * 4, (word_at(low + i * 4) >> shift & LOW_NIBBLES) |
                                                 (word_at(low + 16 + i * 4) >> shift & LOW_NIBBLES) << 4);
        for (size_t g = 0; g < PANEL_GROUPS; g++)
            upper[g / 4] |= (word_at(pairs + g * 4) >> (sub % 4 * 2) & 0x03030303u) << (g % 4 * 2);
        put_word(q + (4 * rows + r) * 4, upper[0]);
        put_word(q + (5 * rows + r) * 4, upper[1]);
    }
    return half_finite(src + 208);
}

static bool pack_k(uint32_t type, size_t rows, size_t columns, uint8_t *panel, size_t r, const uint8_t *src)
{
    const size_t step = rows * panel_block_bytes(type);
    bool ok = true;

    for (size_t i = 0; i < columns / QUANT_SUPER; i++) {
        uint8_t *scales = panel + panel_unit_at(type, rows, i * QUANT_SUBS);
        uint8_t *q = panel + panel_values_at(type, rows, i * QUANT_SUBS);
        if (type == GGUF_TENSOR_Q4_K)
            ok = pack_k45(rows, scales, q, step, r, src, NULL, src + 16) && ok;
        else if (type == GGUF_TENSOR_Q5_K)
            ok = pack_k45(rows, scales, q, step, r, src, src + 16, src + 48) && ok;
        else
            ok = pack_k6(rows, scales, q, r, src) && ok;
        src += quant_type(type)->bytes;
    }
    return ok;
}

/* Row `r` of a panel. False: a value is not finite. */
static bool pack_row(uint32_t type, size_t rows, size_t columns, uint8_t *panel, size_t r, const uint8_t *src)
{
    if (panel_is_float(type)) {
        if (type == GGUF_TENSOR_F32)
            for (size_t c = 0; c < columns; c++)
                memcpy(panel + (c * rows + r) * 4, src + c * 4, 4);
        else
            for (size_t c = 0; c < columns; c++)
                memcpy(panel + (c * rows + r) * 2, src + c * 2, 2);
        return quant_row_finite(type, src, columns);
    }
    if (type == GGUF_TENSOR_Q4_0)
        return pack_q4_0(rows, columns / LLM_Q8_BLOCK, panel, r, src);
    return pack_k(type, rows, columns, panel, r, src);
}

size_t panel_pack(uint32_t type, uint8_t bias, size_t rows, size_t columns, uint8_t *panel, size_t count,
                  const uint8_t *src, size_t src_step)
{
    if (type == GGUF_TENSOR_Q8_0)
        return pack_q8_0(bias, rows, columns / LLM_Q8_BLOCK, panel, count, src, src_step);
    for (size_t r = 0; r < count; r++)
        if (!pack_row(type, rows, columns, panel, r, src + r * src_step))
            return r;
    return count;
}

/* ---- unpacking --------------------------------------------------------------------------------------------------- */

static void unpack_scales(uint32_t type, size_t rows, const uint8_t *panel, size_t b, size_t r, struct panel_block *out)
{
    const uint8_t *unit = panel + panel_unit_at(type, rows, b);
    const size_t sub = b % panel_unit_blocks(type, rows);

    out->m[r] = 0;
    if (panel_scale_bytes(type) == 2) {
        out->s[0][r] = out->s[1][r] = half_at(unit + (sub * rows + r) * 2);
    } else if (type == GGUF_TENSOR_Q6_K) {
        for (size_t h = 0; h < 2; h++)
            out->s[h][r] = half_at(unit + r * 2) * (float)(int8_t)unit[rows * 2 + (sub * 2 + h) * rows + r];
    } else {
        out->s[0][r] = out->s[1][r] = half_at(unit + r * 2) * (float)unit[rows * 4 + sub * rows + r];
        out->m[r] = half_at(unit + (rows + r) * 2) * (float)unit[rows * 12 + sub * rows + r];
    }
}

/* Value 4g + k of row `r`. */
static int8_t unpack_value(uint32_t type, uint8_t bias, size_t rows, const uint8_t *q, size_t r, size_t g, size_t k)
{
    if (type == GGUF_TENSOR_Q8_0)
        return (int8_t)(q[(g * rows + r) * 4 + k] ^ bias);
    const int nibble = q[(g % 4 * rows + r) * 4 + k] >> (g / 4 * 4) & 15;
    if (type == GGUF_TENSOR_Q4_0)
        return (int8_t)(nibble - 8);
    if (type == GGUF_TENSOR_Q5_K)
        return (int8_t)(nibble | (q[(4 * rows + r) * 4 + k] >> g & 1) << 4);
    if (type == GGUF_TENSOR_Q6_K)
        return (int8_t)((nibble | (q[((4 + g / 4) * rows + r) * 4 + k] >> (g % 4 * 2) & 3) << 4) - 32);
    return (int8_t)nibble;
}

void panel_unpack(uint32_t type, uint8_t bias, size_t rows, const uint8_t *panel, size_t b, size_t first, size_t end,
                  struct panel_block *out)
{
    const uint8_t *q = panel + panel_values_at(type, rows, b);

    for (size_t r = first; r < end; r++) {
        unpack_scales(type, rows, panel, b, r, out);
        for (size_t g = 0; g < PANEL_GROUPS; g++)
            for (size_t k = 0; k < 4; k++)
                out->w[g][r][k] = unpack_value(type, bias, rows, q, r, g, k);
    }
}

static void float_row(uint32_t type, size_t rows, size_t columns, const uint8_t *panel, size_t r, float *out)
{
    for (size_t c = 0; c < columns; c++) {
        uint32_t bits = 0;
        if (type == GGUF_TENSOR_F16) {
            out[c] = half_at(panel + (c * rows + r) * 2);
            continue;
        }
        if (type == GGUF_TENSOR_F32)
            bits = word_at(panel + (c * rows + r) * 4);
        else
            memcpy((uint8_t *)&bits + 2, panel + (c * rows + r) * 2, 2); /* bfloat16: the upper half of a float */
        memcpy(&out[c], &bits, sizeof bits);
    }
}

void panel_row_f32(uint32_t type, uint8_t bias, size_t rows, size_t columns, const uint8_t *panel, size_t r, float *out)
{
    struct panel_block block;

    if (panel_is_float(type)) {
        float_row(type, rows, columns, panel, r, out);
        return;
    }
    for (size_t b = 0; b < columns / LLM_Q8_BLOCK; b++) {
        panel_unpack(type, bias, rows, panel, b, r, r + 1, &block);
        for (size_t i = 0; i < LLM_Q8_BLOCK; i++)
            *out++ = block.s[i / 16][r] * (float)block.w[i / 4][r][i % 4] - block.m[r];
    }
}
