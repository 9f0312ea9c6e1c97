/* SPDX-License-Identifier: Apache-2.0
 *
 * arena.h - one block of memory for all matrices of a model, in huge pages where the system has them.
 *
 * Decoding reads every weight for each token, which takes some 15 % longer in small pages: page walks. A matrix with
 * memory of its own has small pages at both ends, or only such; and small pages take longer to make.
 */
#ifndef LLM_ARENA_H
#define LLM_ARENA_H

#include "base/base.h"

struct llm_arena {
    uint8_t *at; /* what is free */
    size_t left;
    void *raw; /* what is freed */
};

/* Zeroed, not touched. E_NOMEM. */
dbe_err llm_arena_init(struct llm_arena *a, size_t bytes) DBE_MUST_CHECK;
void llm_arena_free(struct llm_arena *a);
/* `bytes` from the front, aligned to ARENA_ALIGN; NULL: so much is not left. */
uint8_t *llm_arena_take(struct llm_arena *a, size_t bytes);

enum { ARENA_ALIGN = 64 };

#endif
