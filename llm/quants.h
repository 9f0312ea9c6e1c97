/* SPDX-License-Identifier: Apache-2.0
 *
 * quants.h - the tensor types that the engine reads: sizes, names, and rows as floats.
 *
 * In:   rows as they lie in a GGUF file. Out: exact values as floats; whether all scales are finite.
 * Not:  no packed form (panel.h), no products.
 *
 * Values of a block, by the ggml project's formats (all little endian):
 *   Q8_0  32: binary16 d, 32 int8                                          d * q
 *   Q4_0  32: binary16 d, 16 bytes: low nibbles the first 16, high the others   d * (q - 8)
 *   Q4_K 256: binary16 d, dmin, 12 bytes of 6-bit scales and minima of 8 sub-blocks, 128 bytes of nibbles
 *   Q5_K 256: the same with 32 bytes of fifth bits before the nibbles      d * scale * q - dmin * minimum
 *   Q6_K 256: 128 bytes of nibbles, 64 of upper bit pairs, 16 int8 scales, binary16 d   d * scale * (q - 32)
 */
#ifndef LLM_QUANTS_H
#define LLM_QUANTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers of tensor types as in the file. */
enum gguf_tensor_type {
    GGUF_TENSOR_F32 = 0,
    GGUF_TENSOR_F16 = 1,
    GGUF_TENSOR_Q4_0 = 2,
    GGUF_TENSOR_Q8_0 = 8,
    GGUF_TENSOR_Q4_K = 12,
    GGUF_TENSOR_Q5_K = 13,
    GGUF_TENSOR_Q6_K = 14,
    GGUF_TENSOR_BF16 = 30
};

enum { QUANT_BLOCK = 32, QUANT_SUPER = 256, QUANT_SUBS = QUANT_SUPER / QUANT_BLOCK };

struct quant_type {
    const char *name;
    unsigned values, bytes; /* of a block; a row is a whole number of them */
};

/* NULL: not one of ours. `type` as in the file (enum gguf_tensor_type). */
const struct quant_type *quant_type(uint32_t type);
/* 0 for a type that is not ours. */
size_t quant_row_bytes(uint32_t type, size_t columns);
/* Is every value of the row finite? */
bool quant_row_finite(uint32_t type, const uint8_t *row, size_t columns);
void quant_row_f32(uint32_t type, const uint8_t *row, size_t columns, float *out);

/* Scales and minima of the 8 sub-blocks of Q4_K and Q5_K. */
void quant_k_scales(const uint8_t packed[12], uint8_t scales[QUANT_SUBS], uint8_t mins[QUANT_SUBS]);

#endif
