/* SPDX-License-Identifier: Apache-2.0
 *
 * panel.h - how weights are packed: panels of R output rows, so that one vector register holds the same position of all
 * rows of a panel and sums never cross lanes. A quantised panel is a row of units, each its scales, then its values, so
 * that products read memory as one stream, from the front to the back:
 *   Q8_0  a unit is of 64 / 2R blocks: [blocks][R] binary16; [blocks][8 groups][R][4] int8 (^ bias)
 *   Q4_0  the same; values are [blocks][4][R][4] bytes: low nibbles are group i, high ones group i + 4
 *   Q4_K  of 256 columns: binary16 d[R] and dmin[R], bytes scale[8][R] and minimum[8][R]; values as those of Q4_0
 *   Q5_K  the same; after a block's nibbles [R][4]: bit g of byte k is the fifth bit of value 4g + k
 *   Q6_K  of 256 columns: binary16 d[R], int8 scale[16][R]; after a block's nibbles [2][R][4]: bits 2(g % 4) and the
 *         next of byte k of word g / 4 are the upper bits of value 4g + k
 *   F32, F16, BF16  [columns][R]
 * Blocks are of 32 columns, groups of 4. A weight keeps the bits of the file; only 6-bit scales are widened to bytes.
 *
 * In: rows as in the file. Out: panels; a block of a panel as small integers. Not: no products (kernels.h).
 */
#ifndef LLM_PANEL_H
#define LLM_PANEL_H

#include "quants.h"

enum { LLM_Q8_BLOCK = 32, LLM_PANEL_ALIGN = 64, LLM_PANEL_ROWS_MAX = 16, PANEL_GROUPS = LLM_Q8_BLOCK / 4 };

static inline bool panel_is_float(uint32_t type)
{
    return type == GGUF_TENSOR_F32 || type == GGUF_TENSOR_F16 || type == GGUF_TENSOR_BF16;
}

/* Bytes of a row's scales: of a block of 32 for Q8_0 and Q4_0, of 256 values for the others. */
static inline size_t panel_scale_bytes(uint32_t type)
{
    return type == GGUF_TENSOR_Q6_K ? 18 : type == GGUF_TENSOR_Q4_K || type == GGUF_TENSOR_Q5_K ? 20 : 2;
}

/* Bytes of a row's 32 values. */
static inline size_t panel_block_bytes(uint32_t type)
{
    return type == GGUF_TENSOR_Q8_0 ? 32 : type == GGUF_TENSOR_Q6_K ? 24 : type == GGUF_TENSOR_Q5_K ? 20 : 16;
}

/* Blocks of a unit. */
static inline size_t panel_unit_blocks(uint32_t type, size_t rows)
{
    return panel_scale_bytes(type) == 2 ? LLM_PANEL_ALIGN / (2 * rows) : QUANT_SUBS;
}

/* Where a unit's values begin in it; one that is cut short has room for all its scales, too. */
static inline size_t panel_unit_values(uint32_t type, size_t rows)
{
    return panel_scale_bytes(type) == 2 ? LLM_PANEL_ALIGN : rows * panel_scale_bytes(type);
}

/* Where the unit of block `b` of a quantised panel begins. */
static inline size_t panel_unit_at(uint32_t type, size_t rows, size_t b)
{
    const size_t blocks = panel_unit_blocks(type, rows);

    return b / blocks * (panel_unit_values(type, rows) + blocks * rows * panel_block_bytes(type));
}

/* Where the values of block `b` begin. */
static inline size_t panel_values_at(uint32_t type, size_t rows, size_t b)
{
    return panel_unit_at(type, rows, b) + panel_unit_values(type, rows) +
           b % panel_unit_blocks(type, rows) * rows * panel_block_bytes(type);
}

static inline size_t panel_bytes(uint32_t type, size_t rows, size_t columns)
{
    const size_t blocks = columns / LLM_Q8_BLOCK;
    const size_t bytes = panel_is_float(type)
                             ? columns * rows * (type == GGUF_TENSOR_F32 ? 4 : 2)
                             : panel_values_at(type, rows, blocks - 1) + rows * panel_block_bytes(type);

    return (bytes + LLM_PANEL_ALIGN - 1) / LLM_PANEL_ALIGN * LLM_PANEL_ALIGN;
}

/* Put `count` rows, `src_step` bytes apart, into a panel of zeros for `rows`. Returns how many came before the first
 * that holds a value which is not finite. */
size_t panel_pack(uint32_t type, uint8_t bias, size_t rows, size_t columns, uint8_t *panel, size_t count,
                  const uint8_t *src, size_t src_step);

/* One block of 32 columns: value = s[half of 16] * w - m. */
struct panel_block {
    int8_t w[PANEL_GROUPS][LLM_PANEL_ROWS_MAX][4];
    float s[2][LLM_PANEL_ROWS_MAX], m[LLM_PANEL_ROWS_MAX];
};
/* Rows `first` to `end` of block `b` of a quantised panel. */
void panel_unpack(uint32_t type, uint8_t bias, size_t rows, const uint8_t *panel, size_t b, size_t first, size_t end,
                  struct panel_block *out);
/* Row `r` of a panel of any type as floats. */
void panel_row_f32(uint32_t type, uint8_t bias, size_t rows, size_t columns, const uint8_t *panel, size_t r,
                   float *out);

#endif
