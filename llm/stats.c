/* SPDX-License-Identifier: Apache-2.0
 *
 * stats.c - what a model has computed so far, for whoever watches it. Reading it stops nobody.
 */
#include "model.h"
#include "prefix.h"

void llm_count_pass(struct llm_model *m, const struct llm_row *rows, size_t count)
{
    size_t decode = 0;

    while (decode < count && !rows[decode].prefill)
        decode++;
    atomic_fetch_add(&m->counts.passes, 1);
    atomic_fetch_add(&m->counts.decode_passes, decode > 0);
    atomic_fetch_add(&m->counts.decode_rows, decode);
    atomic_fetch_add(&m->counts.prefill_rows, count - decode);
}

void llm_model_stats(struct llm_model *m, struct llm_model_stats *ret)
{
    const struct llm_prefix_stats prefix = llm_prefix_stats(m);

    *ret = (struct llm_model_stats){.passes = atomic_load(&m->counts.passes),
                                    .decode_passes = atomic_load(&m->counts.decode_passes),
                                    .decode_rows = atomic_load(&m->counts.decode_rows),
                                    .prefill_rows = atomic_load(&m->counts.prefill_rows),
                                    .prefix_lookups = prefix.lookups,
                                    .prefix_hits = prefix.hits,
                                    .prefix_reused_tokens = prefix.reused_tokens,
                                    .prefix_cached_bytes = prefix.cached_bytes};
}
