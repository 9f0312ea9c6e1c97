/* SPDX-License-Identifier: Apache-2.0
 *
 * budget.c - what a model takes of the memory that its caller grants, known before a weight is read.
 *
 * In:   a checked file, the parameters, the working memory as it was allocated. Out: yes, or a refusal with numbers.
 * Not:  no admission of sessions; the KV budget that is charged here as a whole is theirs to divide (kv.c).
 */
#include <math.h>

#include "batch.h"
#include "sampler.h"

enum { PACKING_SHARE = 32 }; /* rows are padded to whole panels: at most a 32nd more than in the file */
#define KV_BUDGET_DEFAULT (UINT64_C(1) << 30)

uint64_t llm_kv_budget(const struct llm_model_params *params)
{
    return params->kv_budget_bytes ? params->kv_budget_bytes : KV_BUDGET_DEFAULT;
}

static uint64_t weights_bytes(const struct gguf *g)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < g->tensor_count; i++)
        sum += g->tensors[i].bytes; /* each lies within the file: no overflow */
    return sum + sum / PACKING_SHARE;
}

uint64_t llm_workspace_bytes(const struct llm_model *m)
{
    const uint64_t sampling = 3 * sizeof(float) + sizeof(struct sampler_candidate);

    return m->work.bytes + LLM_BATCH_LOGITS_MAX * sizeof(float) * (uint64_t)m->shape.n_vocab +
           llm_pool_threads(m->pool) * sampling * m->shape.n_vocab;
}

dbe_err llm_budget_check(const struct llm_model *m, const struct gguf *g, const struct llm_model_params *params,
                         struct dbe_diag *diag)
{
    const uint64_t weights = weights_bytes(g), work = llm_workspace_bytes(m), kv = llm_kv_budget(params);
    const uint64_t budget = params->memory_budget_bytes;

    if (budget == 0 || (weights <= budget && work <= budget - weights && kv <= budget - weights - work))
        return DBE_OK;
    return dbe_fail(diag, DBE_E_LIMIT, "memory budget", 0,
                    "weights of %llu, workspace of %llu and KV budget of %llu bytes exceed the memory budget of %llu",
                    (unsigned long long)weights, (unsigned long long)work, (unsigned long long)kv,
                    (unsigned long long)budget);
}

float llm_retention_of(const struct gguf *g)
{
    float share;

    if (gguf_get_f32_or(g, "dsmil.retention.top1", NAN, &share, NULL) != DBE_OK || !(share >= 0 && share <= 1))
        return NAN;
    return share;
}
