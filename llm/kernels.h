/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels.h - the inner loops, one table an instruction set, chosen at run time.
 *
 * Weights are packed in panels of `rows` output rows, so that one vector register holds the same position of all rows
 * of a panel and sums never cross lanes:
 *   Q8_0  [blocks][rows] binary16 scales, padded to 64 bytes, then [blocks][8][rows][4] int8 (^ bias)
 *   F16   [columns][rows] binary16
 *   F32   [columns][rows] float
 * Activations meet Q8_0 weights quantised in blocks of 32 as well. The integer sums of a block are exact in every
 * table, and every (row, token) result is summed over the blocks in the same order whatever the number of tokens, so
 * prefill and decode agree to the bit, and tables agree up to float rounding.
 */
#ifndef LLM_KERNELS_H
#define LLM_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LLM_Q8_BLOCK = 32, LLM_PANEL_ALIGN = 64, LLM_PANEL_ROWS_MAX = 16, LLM_SCRATCH_BYTES = 64 << 10 };

/* One block of quantised activations. */
struct llm_q8 {
    int8_t q[LLM_Q8_BLOCK]; /* in [-127, 127] */
    float d;                /* value = q * d */
    int32_t corr;           /* -128 * sum(q): takes a biased weight's offset back */
};

/* y[t * y_stride + row] for all rows of `panels` consecutive panels (rows_left bounds the last) and `tokens` tokens. */
typedef void llm_gemm_q8_fn(const uint8_t *w, size_t panels, size_t rows_left, size_t blocks, const struct llm_q8 *x,
                            size_t tokens, float *y, size_t y_stride);
typedef void llm_gemm_f_fn(const uint8_t *w, size_t panels, size_t rows_left, size_t columns, const float *x,
                           size_t tokens, float *y, size_t y_stride);

struct llm_kernels;
/* The same of rows of a prompt, where a table has another way for many tokens at once: activations are bfloat16,
 * x[tokens][columns]; `type` is the weights' (enum gguf_tensor_type) in this table's packed form. `scratch` has
 * LLM_SCRATCH_BYTES, aligned to 64. A result must not depend on `tokens` or on the other tokens. */
typedef void llm_prefill_fn(const struct llm_kernels *k, uint32_t type, const uint8_t *w, size_t panels,
                            size_t rows_left, size_t columns, const uint16_t *x, size_t tokens, float *y,
                            size_t y_stride, void *scratch);

struct llm_kernels {
    const char *name;
    unsigned rows;        /* of a panel */
    uint8_t bias;         /* 0 or 0x80: xored into int8 weights when packed, making them unsigned */
    bool (*usable)(void); /* does this CPU (and its system) have it? */
    llm_gemm_q8_fn *gemm_q8;
    llm_gemm_f_fn *gemm_f16;
    llm_gemm_f_fn *gemm_f32;
    uint64_t prefill_types;                                   /* bit `type`: `prefill` takes it */
    llm_prefill_fn *prefill;                                  /* or NULL: prompts are computed as all else is */
    void (*to_bf16)(const float *x, size_t n, uint16_t *out); /* not NULL where prefill is not */
    void (*quantise)(const float *x, size_t blocks, struct llm_q8 *out);
    /* attention of one head over `count` cached positions of `d` values each: out[p] = scale * (k[p] . q) ... */
    void (*scores_f16)(const uint16_t *k, const float *q, size_t count, size_t d, float scale, float *out);
    /* ... and out[c] = sum over p of w[p] * v[p][c] */
    void (*mix_f16)(const uint16_t *v, const float *w, size_t count, size_t d, float *out);
    void (*to_f16)(const float *x, size_t n, uint16_t *out);
    void (*softmax)(float *x, size_t n);                      /* in place; n >= 1 */
    void (*silu_mul)(float *gate, const float *up, size_t n); /* gate = gate * sigmoid(gate) * up */
};

/* The table called `name`, or the best of this CPU for NULL; NULL when there is none such here. */
const struct llm_kernels *llm_kernels_pick(const char *name);
/* All tables built in, best first, NULL-terminated. */
const struct llm_kernels *const *llm_kernels_all(void);

/* Bytes of one panel. */
size_t llm_panel_bytes_q8(const struct llm_kernels *k, size_t blocks);
size_t llm_panel_bytes_f(const struct llm_kernels *k, size_t columns, size_t value_bytes);

extern const struct llm_kernels llm_kernels_portable;
#if defined(__x86_64__)
extern const struct llm_kernels llm_kernels_avx2, llm_kernels_avxvnni, llm_kernels_avx512;
#endif

#endif
