/* SPDX-License-Identifier: Apache-2.0
 *
 * matrix.h - a weight matrix packed for the chosen kernels, and products with it.
 */
#ifndef LLM_MATRIX_H
#define LLM_MATRIX_H

#include "arena.h"
#include "gguf.h"
#include "kernels.h"
#include "pool.h"

struct llm_matrix {
    uint32_t type; /* enum gguf_tensor_type */
    size_t rows, columns;
    size_t panels, panel_bytes;
    uint8_t *data; /* aligned to LLM_PANEL_ALIGN */
    void *raw;     /* what is freed; NULL: of an arena */
};

/* What matrices are packed for, by whom, and where to; and what is kept between two of them. */
struct llm_loading {
    const struct llm_kernels *k;
    struct llm_pool *pool;   /* that runs nothing else; NULL: the caller alone */
    struct llm_arena *arena; /* a matrix that it has no room for, or all for NULL, have memory of their own */
    uint8_t *bufs;           /* [threads][buf_bytes] of a file; begin with NULL and 0 */
    size_t buf_bytes;
};
void llm_loading_free(struct llm_loading *how);

/* Read tensor `t` (two dimensions) and pack it. A value that is not finite is refused. E_MODEL, E_IO, E_NOMEM. */
dbe_err llm_matrix_load(const struct gguf *g, const struct gguf_tensor *t, const struct llm_kernels *k,
                        struct llm_matrix *out, struct dbe_diag *diag) DBE_MUST_CHECK;
/* The same of `rows` rows from `first_row` on: one of several matrices that a tensor holds. */
dbe_err llm_matrix_load_rows(const struct gguf *g, const struct gguf_tensor *t, size_t first_row, size_t rows,
                             struct llm_loading *how, struct llm_matrix *out, struct dbe_diag *diag) DBE_MUST_CHECK;
void llm_matrix_free(struct llm_matrix *m); /* before its arena */
size_t llm_matrix_bytes(const struct llm_matrix *m);
/* One row as floats (the embedding of a token). */
void llm_matrix_row(const struct llm_matrix *m, const struct llm_kernels *k, size_t row, float *out);

/* Activations of a batch in all forms: x[tokens][columns], and q8[tokens][columns / 32] where a quantised matrix of the
 * products wants it, and bf16[llm_prefill_values()] where the table's way of prefill does (llm_mul makes both). The
 * first `decode` tokens are computed as decode rows, the others as rows of prompts; bf16 may be NULL: all are as
 * decode. */
struct llm_acts {
    const float *x;
    struct llm_q8 *q8;
    size_t tokens, columns;
    uint16_t *bf16;
    size_t decode;
};

enum { LLM_MUL_MAX = 3 };

/* Up to three products of the same activations in one job: y[i][tokens][m[i]->rows]. */
struct llm_mul {
    const struct llm_matrix *m[LLM_MUL_MAX];
    float *y[LLM_MUL_MAX];
    size_t count;
    const struct llm_matrix *next[LLM_MUL_MAX]; /* of the products after these, or NULL: not known */
};
void llm_mul(const struct llm_kernels *k, struct llm_pool *pool, const struct llm_mul *mul,
             const struct llm_acts *acts);

#endif
