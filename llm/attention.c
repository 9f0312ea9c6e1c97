/* SPDX-License-Identifier: Apache-2.0
 *
 * attention.c - the write into the KV cache, and attention of each row over its own cache.
 *
 * In:   work.q and work.k (both rotated) and work.v of the rows. Out: cache entries at the rows' positions, work.a.
 */
#include <math.h>

#include "model.h"

struct attention {
    struct llm_model *m;
    const struct llm_row *rows;
    uint32_t layer;
};

static size_t kv_at(const struct llm_shape *s, const struct llm_kv *kv, uint32_t layer, uint32_t head)
{
    return ((size_t)layer * s->n_kv_heads + head) * kv->capacity * s->head_dim;
}

/* Put a row's keys and values into the cache. */
static void store_row(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct attention *at = ctx;
    const struct llm_model *m = at->m;
    const struct llm_shape *s = &m->shape;
    const size_t d = s->head_dim;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        const struct llm_row *row = &at->rows[r];
        for (uint32_t h = 0; h < s->n_kv_heads; h++) {
            const size_t to = kv_at(s, row->kv, at->layer, h) + row->pos * d;
            m->kernels->to_f16(m->work.k + (r * s->n_kv_heads + h) * d, d, row->kv->k + to);
            m->kernels->to_f16(m->work.v + (r * s->n_kv_heads + h) * d, d, row->kv->v + to);
        }
    }
}

/* One item is one head of one row. */
static void attend(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct attention *at = ctx;
    const struct llm_model *m = at->m;
    const struct llm_shape *s = &m->shape;
    const struct llm_kernels *kern = m->kernels;
    const size_t d = s->head_dim;
    const uint32_t window = m->layers[at->layer].window;
    float *scores = m->work.scores + (size_t)thread * s->n_ctx;

    for (size_t i = begin; i < end; i++) {
        const size_t r = i / s->n_heads, h = i % s->n_heads;
        const struct llm_row *row = &at->rows[r];
        const size_t from = kv_at(s, row->kv, at->layer, (uint32_t)(h / (s->n_heads / s->n_kv_heads)));
        const float *q = m->work.q + i * d;
        float *out = m->work.a + i * d;
        const size_t first = window != 0 && row->pos >= window ? row->pos + 1 - window : 0, seen = row->pos + 1 - first;
        kern->scores_f16(row->kv->k + from + first * d, q, seen, d, s->attn_scale, scores);
        if (s->attn_softcap > 0)
            for (size_t p = 0; p < seen; p++)
                scores[p] = s->attn_softcap * tanhf(scores[p] / s->attn_softcap);
        kern->softmax(scores, seen);
        kern->mix_f16(row->kv->v + from + first * d, scores, seen, d, out);
    }
}

void llm_attend(struct llm_model *m, const struct llm_row *rows, size_t count, uint32_t layer)
{
    const struct llm_shape *s = &m->shape;
    struct attention at = {m, rows, layer};
    size_t work = 0;

    llm_pool_run(m->pool, count, 16, store_row, &at);
    for (size_t r = 0; r < count; r++)
        work += (size_t)(rows[r].pos + 1) * s->head_dim;
    /* one piece where the whole is too little to share out */
    const size_t items = count * s->n_heads;
    llm_pool_run(m->pool, items, work * s->n_heads < 16384 ? items : BASE_MAX(items / 64, (size_t)1), attend, &at);
}
