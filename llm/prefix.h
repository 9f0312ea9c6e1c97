/* SPDX-License-Identifier: Apache-2.0
 *
 * prefix.h - the prefix cache: full pages of prompts that were computed before, for whoever has the same salt.
 *
 * A page is found by the salt and all tokens from the beginning of the text up to its end, compared exactly, never by
 * a hash alone. Who has another salt never meets it; without a salt nothing is shared or kept. Only pages that were
 * computed as prefill rows may be put in: then a text is the same to the bit with and without the cache.
 * Cached pages that no sequence holds count as free: an admission that needs their room drops those used least lately,
 * wiped, before it is refused.
 *
 * Use, in a session:
 *   llm_prefix_admit   at admission, in place of llm_kv_init: reserves, and starts with what is cached;
 *   llm_prefix_take    before each prefill chunk: what others have computed since (cheap when there is nothing);
 *   llm_prefix_put     after each prefill chunk: makes this session's full pages known;
 *   llm_kv_free        as ever.
 * All but the admission want model->step held, because they change the pages of a sequence; all take the pool's lock.
 */
#ifndef LLM_PREFIX_H
#define LLM_PREFIX_H

#include "kv.h"

/* As llm_kv_init(model, capacity, out, diag), with the longest cached beginning of the prompt `tokens` in it:
 * *ret_reused tokens, a multiple of LLM_KV_PAGE and at most count - 1, need not be computed. Pages that are shared do
 * not count again. `salt`: LLM_SALT_BYTES, or NULL: nothing is shared. */
dbe_err llm_prefix_admit(struct llm_model *model, const uint8_t *salt, const int32_t *tokens, size_t count,
                         uint32_t capacity, struct llm_kv *out, uint32_t *ret_reused,
                         struct dbe_diag *diag) DBE_MUST_CHECK;

/* A sequence whose first `done` tokens of the prompt are computed (0 at first): if the cache knows a longer beginning,
 * its pages replace the sequence's own ones, which go back to the budget. Returns the tokens that need not be computed:
 * `done`, or more, then a multiple of LLM_KV_PAGE and at most count - 1. */
uint32_t llm_prefix_take(struct llm_model *model, const uint8_t *salt, const int32_t *tokens, size_t count,
                         uint32_t done, struct llm_kv *kv);

/* Make the full pages of the first `done` tokens known, all of them computed as prefill rows. A page that the cache has
 * already replaces the sequence's own. NULL salt: does nothing. */
void llm_prefix_put(struct llm_model *model, const uint8_t *salt, const int32_t *tokens, uint32_t done,
                    struct llm_kv *kv);

/* Drop all that is cached and not in use. */
void llm_prefix_clear(struct llm_model *model);
struct llm_prefix_stats llm_prefix_stats(struct llm_model *model);

#endif
