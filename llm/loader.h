/* SPDX-License-Identifier: Apache-2.0
 *
 * loader.h - what the parts of model loading share: shape.c reads keys, weights.c tensors, model.c calls both.
 */
#ifndef LLM_LOADER_H
#define LLM_LOADER_H

#include "model.h"

enum { LOADER_TYPES = 64 };

struct loader {
    const struct gguf *g;
    struct llm_model *m;
    struct dbe_diag *diag;
    struct llm_loading how;       /* to pack matrices */
    bool *taken;                  /* [tensors] */
    uint64_t bytes[LOADER_TYPES]; /* of them, by type */
    char key[GGUF_NAME_MAX + 1];
};

/* Find the family, and refuse what no family of ours computes. */
dbe_err llm_load_arch(struct loader *l) DBE_MUST_CHECK;
/* The shape, but for the windows of layers. The vocabulary is there already. */
dbe_err llm_load_shape(struct loader *l, uint32_t n_ctx_max) DBE_MUST_CHECK;
/* The windows of layers, which are there already. */
dbe_err llm_load_windows(struct loader *l) DBE_MUST_CHECK;
/* Keys about rotary positions: all of *how but `divide`. */
dbe_err llm_load_rope_scaling(struct loader *l, struct llm_rope_scaling *how) DBE_MUST_CHECK;
/* Whether longrope's factors for long contexts are the ones to use. */
dbe_err llm_load_rope_is_long(struct loader *l, bool *ret) DBE_MUST_CHECK;

/* Are the largest tensors as the shape says? Asked before memory to work in is allocated by the shape: a file that asks
 * for much must be large itself. */
dbe_err llm_expect_weights(struct loader *l) DBE_MUST_CHECK;
/* All tensors; one that nothing asked for is refused. */
dbe_err llm_load_weights(struct loader *l) DBE_MUST_CHECK;
void llm_layer_free(struct llm_layer *layer);

#endif
