/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_attn.h - the inner loops of attention over one page of the KV cache, one table an instruction set.
 *
 * A page of one kv head is first turned to float in scratch memory, then met by tiles of up to LLM_ATTN_TILE queries
 * that share this head: scores, online softmax, weighted values. What is computed for a query, and in which order, does
 * not depend on what else is in its tile, and a page that it sees nothing of leaves it as it was.
 */
#ifndef LLM_KERN_ATTN_H
#define LLM_KERN_ATTN_H

#include <stddef.h>
#include <stdint.h>

#include "kernels.h"

enum {
    LLM_ATTN_TILE = 8,
    LLM_ATTN_PAGE = 32, /* positions */
    LLM_ATTN_LANES = 16 /* partial sums of a query's weights */
};

/* Queries, and what they have gathered so far. */
struct llm_attn_tile {
    size_t count;
    const float *q; /* [d][LLM_ATTN_TILE], times the scale; zero beyond count */
    float *o;       /* [LLM_ATTN_TILE][width] weighted values, not divided by the sum of the weights */
    float max[LLM_ATTN_TILE];
    float sum[LLM_ATTN_TILE][LLM_ATTN_LANES];
    int lo[LLM_ATTN_TILE], hi[LLM_ATTN_TILE]; /* positions of the page at hand that the query sees, both inclusive */
};

/* A page of one kv head as floats. */
struct llm_attn_page {
    float *k;     /* [d][LLM_ATTN_PAGE] */
    float *v;     /* [LLM_ATTN_PAGE][width], zero from d on */
    size_t d;     /* of a head */
    size_t width; /* d rounded up to LLM_ATTN_PAGE */
};

struct llm_attn_kernels {
    const char *name;
    void (*load_f16)(const uint8_t *head, struct llm_attn_page *out);
    void (*load_int8)(const uint8_t *head, struct llm_attn_page *out);
    /* softcap: scores become cap * tanh(score / cap); 0: they do not */
    void (*meet)(const struct llm_attn_page *page, float softcap, struct llm_attn_tile *tile);
};

/* The table that goes with a table of products, of those that this CPU has. */
const struct llm_attn_kernels *llm_attn_pick(const struct llm_kernels *kernels);
void llm_attn_begin(struct llm_attn_tile *tile, size_t count, size_t width);
/* The sum of query i's weights. */
float llm_attn_sum(const struct llm_attn_tile *tile, size_t i);

extern const struct llm_attn_kernels llm_attn_portable;
#if defined(__x86_64__)
extern const struct llm_attn_kernels llm_attn_avx2, llm_attn_avx512;
#endif

#endif
