/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels.h - the inner loops, one table an instruction set, chosen at run time.
 *
 * Weights are packed as panel.h says. Activations meet quantised weights quantised in blocks of 32 as well. The integer
 * sums of a block are exact in every table, and every (row, token) result is summed over the blocks in the same order
 * whatever the number of tokens, so prefill and decode agree to the bit, and tables agree up to float rounding.
 */
#ifndef LLM_KERNELS_H
#define LLM_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "panel.h"

enum { LLM_SCRATCH_BYTES = 64 << 10 };

/* One block of quantised activations. What is here for one token, a table interleaves for a tile of several: the bytes
 * of a tile of n tokens begin where its first token's blocks would; each of its blocks is [8 groups][n][4] int8, then
 * each other field [n] (kern_math.h). */
struct llm_q8 {
    int8_t q[LLM_Q8_BLOCK]; /* in [-127, 127] */
    float d;                /* value = q * d */
    int32_t corr;           /* -128 * sum(q): takes a biased weight's offset back */
    int32_t half;           /* -32 * sum of the first 16 q */
    float sum;              /* d * sum(q) */
};

enum { LLM_TILE_ANY = 8 };

/* Tokens are cut into tiles of `tile`, and what is left is one tile, or two halves above LLM_TILE_ANY tokens; tokens of
 * a product are those of a quantisation, or begin and end at multiples of `tile` in it. */
static inline size_t llm_tile(size_t tile, size_t left)
{
    return left >= tile ? tile : left <= LLM_TILE_ANY ? left : (left + 1) / 2;
}

/* y[t * y_stride + row] for all rows of `panels` consecutive panels (rows_left bounds the last) and `tokens` tokens. */
typedef void llm_gemm_q_fn(uint32_t type, const uint8_t *w, size_t panels, size_t rows_left, size_t columns,
                           const struct llm_q8 *x, size_t tokens, float *y, size_t y_stride);
typedef void llm_gemm_f_fn(uint32_t type, const uint8_t *w, size_t panels, size_t rows_left, size_t columns,
                           const float *x, size_t tokens, float *y, size_t y_stride);

enum { LLM_PREFILL_TOKENS = 16, LLM_PREFILL_STEP = 32 };

/* Values of the activations of `tokens` in tiles. */
static inline size_t llm_prefill_values(size_t tokens, size_t columns)
{
    return (tokens + LLM_PREFILL_TOKENS - 1) / LLM_PREFILL_TOKENS * LLM_PREFILL_TOKENS *
           ((columns + LLM_PREFILL_STEP - 1) / LLM_PREFILL_STEP * LLM_PREFILL_STEP);
}

struct llm_kernels;
/* The same of rows of a prompt, where a table has another way for many tokens at once: activations are bfloat16 in
 * tiles, x[tokens / 16][columns / 32][16][32], both rounded up and filled with zeros, so that all threads read them in
 * sequence whatever the number of columns. `type` is the weights' (enum gguf_tensor_type) in this table's packed form.
 * `scratch` has LLM_SCRATCH_BYTES, aligned to 64. A result must not depend on `tokens` or on the other tokens. */
typedef void llm_prefill_fn(const struct llm_kernels *k, uint32_t type, const uint8_t *w, size_t panels,
                            size_t rows_left, size_t columns, const uint16_t *x, size_t tokens, float *y,
                            size_t y_stride, void *scratch);

struct llm_kernels {
    const char *name;
    unsigned rows;           /* of a panel */
    uint8_t bias;            /* 0 or 0x80: xored into int8 weights when packed, making them unsigned */
    bool (*usable)(void);    /* does this CPU (and its system) have it? */
    unsigned tile;           /* tokens of a tile of quantised activations */
    llm_gemm_q_fn *gemm_q;   /* of quantised types */
    llm_gemm_f_fn *gemm_f;   /* of F32, F16, BF16 */
    uint64_t prefill_types;  /* bit `type`: `prefill` takes it */
    llm_prefill_fn *prefill; /* or NULL: prompts are computed as all else is */
    /* x[tokens][columns] in tiles; not NULL where prefill is not */
    void (*to_bf16)(const float *x, size_t tokens, size_t columns, uint16_t *out);
    void (*quantise)(const float *x, size_t tokens, size_t blocks, struct llm_q8 *out); /* in tiles */
    void (*to_f16)(const float *x, size_t n, uint16_t *out);
    void (*silu_mul)(float *gate, const float *up, size_t n); /* gate = gate * sigmoid(gate) * up */
    void (*gelu_mul)(float *gate, const float *up, size_t n); /* gate = GELU(gate) * up, GELU in its form with tanh */
    /* out = x / rms(x) * weight, in place if need be */
    void (*rms_norm)(const float *x, const float *weight, size_t n, float eps, float *out);
};

/* The table called `name`, or the best of this CPU for NULL; NULL when there is none such here. */
const struct llm_kernels *llm_kernels_pick(const char *name);
/* All tables built in, best first, NULL-terminated. */
const struct llm_kernels *const *llm_kernels_all(void);

extern const struct llm_kernels llm_kernels_portable;
#if defined(__x86_64__)
extern const struct llm_kernels llm_kernels_avx2, llm_kernels_avxvnni, llm_kernels_avx512, llm_kernels_amx;
#endif

#endif
