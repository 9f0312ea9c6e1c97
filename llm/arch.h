/* SPDX-License-Identifier: Apache-2.0
 *
 * arch.h - the families of models that are computed, one row each: what sets one transformer apart from another.
 *
 * A row drives what the file must hold (shape.c, weights.c) and what is computed (forward.c). What a file asks for
 * beyond its row is refused by name.
 */
#ifndef LLM_ARCH_H
#define LLM_ARCH_H

#include <stddef.h>

#include "rope.h"

enum llm_activation {
    LLM_ACT_SILU, /* x * sigmoid(x) */
    LLM_ACT_GELU  /* its approximation by tanh */
};

enum llm_arch_flags {
    LLM_ARCH_QK_NORM = 1 << 0,      /* each head of queries and keys is normalised before it is turned */
    LLM_ARCH_POST_NORM = 1 << 1,    /* what a block gives is normalised before it is added */
    LLM_ARCH_EMBD_SCALE = 1 << 2,   /* embeddings times the root of their width */
    LLM_ARCH_SOFTCAP = 1 << 3,      /* of attention scores and of logits */
    LLM_ARCH_WINDOW = 1 << 4,       /* attention.sliding_window: of all layers ... */
    LLM_ARCH_WINDOW_EVERY = 1 << 5, /* ... or of all but each sliding_window_pattern-th; its absence means defaults */
    LLM_ARCH_FUSED_FFN = 1 << 6,    /* ffn_up holds the gate's rows, then its own */
    LLM_ARCH_TIED = 1 << 7,         /* always: an output matrix of its own does not exist */
    LLM_ARCH_BLOCK_BIAS = 1 << 8,   /* attn_output and the feed-forward may have biases */
    LLM_ARCH_OUTPUT_BIAS = 1 << 9,  /* the output matrix may have one */
    LLM_ARCH_ROPE_FREQS = 1 << 10,  /* rope_freqs may divide frequencies (LLaMA 3) */
    LLM_ARCH_ROPE_FACTORS = 1 << 11 /* rope_factors_long and _short may (longrope) */
};

struct llm_arch {
    const char *name; /* general.architecture, and the prefix of its keys */
    enum llm_rope_kind rope;
    enum llm_activation activation;
    unsigned flags; /* enum llm_arch_flags */
};

/* NULL: not one that is computed. */
const struct llm_arch *llm_arch_find(const char *name, size_t len);
/* "llama, qwen2, ..." for people. */
const char *llm_arch_names(void);

#endif
