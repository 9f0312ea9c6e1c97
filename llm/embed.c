/* SPDX-License-Identifier: Apache-2.0
 *
 * embed.c - one vector for a whole text: the last states of its tokens, pooled as the model says, of length 1.
 */
#include <math.h>

#include "model.h"

/* The part of the pooled vector that positions [at, at + count) of `total` give. */
static void pool(enum llm_pooling how, const float *states, size_t at, size_t count, size_t total, size_t n,
                 double *sum)
{
    const size_t first = how == LLM_POOL_LAST ? total - 1 : 0, end = how == LLM_POOL_FIRST ? 1 : total;

    for (size_t r = 0; r < count; r++)
        for (size_t i = 0; at + r >= first && at + r < end && i < n; i++)
            sum[i] += (double)states[r * n + i];
}

static dbe_err embed_batches(struct llm_model *m, struct llm_kv *kv, const int32_t *tokens, size_t count, float *states,
                             double *sum)
{
    struct llm_row rows[LLM_BATCH_MAX];

    for (size_t at = 0; at < count; at += LLM_BATCH_MAX) {
        const size_t n = BASE_MIN(count - at, (size_t)LLM_BATCH_MAX);
        for (size_t i = 0; i < n; i++)
            rows[i] = (struct llm_row){kv, (uint32_t)(at + i), tokens[at + i], NULL, true};
        DBE_TRY(llm_forward_states(m, rows, n, states));
        pool(m->pooling, states, at, n, count, m->shape.n_embd, sum);
    }
    return DBE_OK;
}

/* Zero where the model gave nothing of a finite length. */
static void normalise(const double *sum, size_t n, float *out)
{
    double squares = 0;

    for (size_t i = 0; i < n; i++)
        squares += sum[i] * sum[i];
    const double scale = squares > 0 && isfinite(squares) ? 1 / sqrt(squares) : 0;
    for (size_t i = 0; i < n; i++)
        out[i] = scale > 0 ? (float)(sum[i] * scale) : 0.0f;
}

dbe_err llm_embed(struct llm_model *m, const int32_t *tokens, size_t count, float *out, struct dbe_diag *diag)
{
    const size_t n = m->shape.n_embd;
    struct llm_kv kv;
    dbe_err err;

    if (count == 0)
        return dbe_fail(diag, DBE_E_ARGUMENT, "tokens", 0, "no token");
    if (count > m->shape.n_ctx)
        return dbe_fail(diag, DBE_E_CONTEXT, "tokens", 0, "%zu tokens exceed the context of %u", count, m->shape.n_ctx);
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= m->shape.n_vocab)
            return dbe_fail(diag, DBE_E_ARGUMENT, "tokens", i, "token %d is not in the vocabulary", tokens[i]);
    BASE_AUTO_FREE float *states = base_alloc(BASE_MIN(count, (size_t)LLM_BATCH_MAX) * n, sizeof *states);
    BASE_AUTO_FREE double *sum = base_alloc(n, sizeof *sum);
    if (!states || !sum)
        return dbe_fail(diag, DBE_E_NOMEM, "tokens", 0, "no memory");
    DBE_TRY(llm_kv_init(m, (uint32_t)count, &kv, diag));
    pthread_mutex_lock(&m->step);
    err = embed_batches(m, &kv, tokens, count, states, sum);
    pthread_mutex_unlock(&m->step);
    llm_kv_free(m, &kv);
    if (err == DBE_OK)
        normalise(sum, n, out);
    return err;
}
