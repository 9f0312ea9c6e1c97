/* SPDX-License-Identifier: Apache-2.0
 *
 * forward.c - the LLaMA transformer over a batch of rows, and the KV cache.
 *
 * In:   rows (token, position, cache). Out: cache entries and logits of the rows that want them.
 * Not:  no sampling, no text, no allocation but for the caches.
 *
 * Reading order: llm_forward -> layer_attention, layer_ffn. Rows of several sequences may share a pass: all products
 * with weights run over the whole batch, only attention looks at a row's own cache.
 */
#include <math.h>

#include "model.h"

/* ---- memory ------------------------------------------------------------------------------------------------------ */

dbe_err llm_work_init(struct llm_model *m)
{
    const struct llm_shape *s = &m->shape;
    struct llm_work *w = &m->work;
    const size_t heads = (size_t)s->n_heads * s->head_dim, kv = (size_t)s->n_kv_heads * s->head_dim;
    const size_t widest = BASE_MAX(BASE_MAX((size_t)s->n_embd, (size_t)s->n_ff), heads);

    w->x = base_alloc((size_t)s->n_embd * LLM_BATCH_MAX, sizeof(float));
    w->h = base_alloc((size_t)s->n_embd * LLM_BATCH_MAX, sizeof(float));
    w->q = base_alloc(heads * LLM_BATCH_MAX, sizeof(float));
    w->k = base_alloc(kv * LLM_BATCH_MAX, sizeof(float));
    w->v = base_alloc(kv * LLM_BATCH_MAX, sizeof(float));
    w->a = base_alloc(heads * LLM_BATCH_MAX, sizeof(float));
    w->gate = base_alloc((size_t)s->n_ff * LLM_BATCH_MAX, sizeof(float));
    w->up = base_alloc((size_t)s->n_ff * LLM_BATCH_MAX, sizeof(float));
    w->rope = base_alloc((size_t)s->rope_dims * LLM_BATCH_MAX, sizeof(float));
    w->scores = base_alloc((size_t)s->n_ctx * llm_pool_threads(m->pool), sizeof(float));
    w->q8 = base_alloc((widest / LLM_Q8_BLOCK + 1) * LLM_BATCH_MAX, sizeof(struct llm_q8));
    if (!w->x || !w->h || !w->q || !w->k || !w->v || !w->a || !w->gate || !w->up || !w->rope || !w->scores || !w->q8)
        return DBE_E_NOMEM;
    return DBE_OK;
}

void llm_work_free(struct llm_work *w)
{
    void *all[] = {w->x, w->h, w->q, w->k, w->v, w->a, w->gate, w->up, w->rope, w->scores, w->q8};

    for (size_t i = 0; i < BASE_ARRAY_LEN(all); i++)
        base_free(all[i]);
    *w = (struct llm_work){0};
}

dbe_err llm_kv_init(struct llm_model *m, uint32_t capacity, struct llm_kv *out, struct dbe_diag *diag)
{
    const uint64_t bytes = llm_session_kv_bytes(m, capacity);
    uint64_t used = atomic_load(&m->kv_used);

    do {
        if (bytes > m->info.kv_budget_bytes - used)
            return dbe_fail(diag, DBE_E_LIMIT, "kv budget", 0,
                            "%u tokens need %llu bytes of KV cache, %llu of %llu are free", capacity,
                            (unsigned long long)bytes, (unsigned long long)(m->info.kv_budget_bytes - used),
                            (unsigned long long)m->info.kv_budget_bytes);
    } while (!atomic_compare_exchange_weak(&m->kv_used, &used, used + bytes));
    struct llm_kv kv = {.capacity = capacity, .bytes = bytes};
    kv.k = base_alloc((size_t)bytes / 2, 1);
    kv.v = base_alloc((size_t)bytes / 2, 1);
    if (!kv.k || !kv.v) {
        llm_kv_free(m, &kv);
        return dbe_fail(diag, DBE_E_NOMEM, "kv budget", 0, "no memory for %llu bytes of KV cache",
                        (unsigned long long)bytes);
    }
    *out = kv;
    return DBE_OK;
}

void llm_kv_free(struct llm_model *m, struct llm_kv *kv)
{
    if (kv->k)
        base_wipe(kv->k, (size_t)kv->bytes / 2);
    if (kv->v)
        base_wipe(kv->v, (size_t)kv->bytes / 2);
    base_free(kv->k);
    base_free(kv->v);
    atomic_fetch_sub(&m->kv_used, kv->bytes);
    *kv = (struct llm_kv){0};
}

/* ---- small steps ------------------------------------------------------------------------------------------------- */

/* out = x / rms(x) * weight; eight partial sums so that it is fast and the order is fixed. */
static void rms_norm(const float *x, const float *weight, size_t n, float eps, float *out)
{
    enum { LANES = 8 };
    float part[LANES] = {0}, sum = 0;
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            part[j] += x[i + j] * x[i + j];
    for (size_t j = 0; j < LANES; j++)
        sum += part[j];
    for (; i < n; i++)
        sum += x[i] * x[i];
    const float scale = 1.0f / sqrtf(sum / (float)n + eps);
    for (i = 0; i < n; i++)
        out[i] = x[i] * scale * weight[i];
}

static void norm_rows(const struct llm_model *m, const float *weight, size_t count)
{
    for (size_t r = 0; r < count; r++)
        rms_norm(m->work.x + r * m->shape.n_embd, weight, m->shape.n_embd, m->shape.rms_eps,
                 m->work.h + r * m->shape.n_embd);
}

static void add_rows(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

static void fill_rope(struct llm_model *m, const struct llm_row *rows, size_t count)
{
    const size_t half = m->shape.rope_dims / 2;

    for (size_t r = 0; r < count; r++) {
        float *cs = m->work.rope + r * half * 2;
        for (size_t i = 0; i < half; i++) {
            const double angle = (double)rows[r].pos * m->inv_freq[i];
            cs[2 * i] = (float)cos(angle);
            cs[2 * i + 1] = (float)sin(angle);
        }
    }
}

/* Rotate adjacent pairs (2i, 2i + 1), as GGUF stores LLaMA's queries and keys. */
static void rotate(float *head, const float *cs, size_t dims)
{
    for (size_t i = 0; i < dims; i += 2) {
        const float a = head[i], b = head[i + 1];
        head[i] = a * cs[i] - b * cs[i + 1];
        head[i + 1] = a * cs[i + 1] + b * cs[i];
    }
}

/* ---- attention --------------------------------------------------------------------------------------------------- */

struct attention {
    struct llm_model *m;
    const struct llm_row *rows;
    uint32_t layer;
};

static size_t kv_at(const struct llm_shape *s, const struct llm_kv *kv, uint32_t layer, uint32_t head)
{
    return ((size_t)layer * s->n_kv_heads + head) * kv->capacity * s->head_dim;
}

/* Rotate a row's queries and keys and put its keys and values into the cache. */
static void store_row(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct attention *at = ctx;
    const struct llm_model *m = at->m;
    const struct llm_shape *s = &m->shape;
    const size_t d = s->head_dim;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        const struct llm_row *row = &at->rows[r];
        const float *cs = m->work.rope + r * s->rope_dims;
        for (uint32_t h = 0; h < s->n_heads; h++)
            rotate(m->work.q + (r * s->n_heads + h) * d, cs, s->rope_dims);
        for (uint32_t h = 0; h < s->n_kv_heads; h++) {
            float *k = m->work.k + (r * s->n_kv_heads + h) * d;
            const size_t to = kv_at(s, row->kv, at->layer, h) + row->pos * d;
            rotate(k, cs, s->rope_dims);
            m->kernels->to_f16(k, d, row->kv->k + to);
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
    const float scale = 1.0f / sqrtf((float)d);
    float *scores = m->work.scores + (size_t)thread * s->n_ctx;

    for (size_t i = begin; i < end; i++) {
        const size_t r = i / s->n_heads, h = i % s->n_heads;
        const struct llm_row *row = &at->rows[r];
        const size_t from = kv_at(s, row->kv, at->layer, (uint32_t)(h / (s->n_heads / s->n_kv_heads)));
        const float *q = m->work.q + i * d;
        float *out = m->work.a + i * d;
        const size_t seen = (size_t)row->pos + 1;
        kern->scores_f16(row->kv->k + from, q, seen, d, scale, scores);
        kern->softmax(scores, seen);
        kern->mix_f16(row->kv->v + from, scores, seen, d, out);
    }
}

static void layer_attention(struct llm_model *m, const struct llm_row *rows, size_t count, uint32_t layer)
{
    const struct llm_shape *s = &m->shape;
    const struct llm_layer *l = &m->layers[layer];
    struct llm_work *w = &m->work;
    struct attention at = {m, rows, layer};
    size_t work = 0;

    norm_rows(m, l->attn_norm, count);
    llm_mul(m->kernels, m->pool, &(struct llm_mul){{&l->q, &l->k, &l->v}, {w->q, w->k, w->v}, 3},
            &(struct llm_acts){w->h, w->q8, count, s->n_embd});
    llm_pool_run(m->pool, count, 16, store_row, &at);
    for (size_t r = 0; r < count; r++)
        work += (size_t)(rows[r].pos + 1) * s->head_dim;
    /* one piece where the whole is too little to share out */
    const size_t items = count * s->n_heads;
    llm_pool_run(m->pool, items, work * s->n_heads < 16384 ? items : BASE_MAX(items / 64, (size_t)1), attend, &at);
    llm_mul(m->kernels, m->pool, &(struct llm_mul){{&l->o}, {w->h}, 1},
            &(struct llm_acts){w->a, w->q8, count, (size_t)s->n_heads * s->head_dim});
    add_rows(w->x, w->h, count * s->n_embd);
}

/* ---- feed-forward ------------------------------------------------------------------------------------------------ */

static void swiglu_rows(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct llm_model *m = ctx;
    const size_t n = m->shape.n_ff;

    (void)thread;
    for (size_t r = begin; r < end; r++)
        m->kernels->silu_mul(m->work.gate + r * n, m->work.up + r * n, n);
}

static void layer_ffn(struct llm_model *m, size_t count, uint32_t layer)
{
    const struct llm_shape *s = &m->shape;
    const struct llm_layer *l = &m->layers[layer];
    struct llm_work *w = &m->work;

    norm_rows(m, l->ffn_norm, count);
    llm_mul(m->kernels, m->pool, &(struct llm_mul){{&l->gate, &l->up}, {w->gate, w->up}, 2},
            &(struct llm_acts){w->h, w->q8, count, s->n_embd});
    llm_pool_run(m->pool, count, 4, swiglu_rows, m);
    llm_mul(m->kernels, m->pool, &(struct llm_mul){{&l->down}, {w->h}, 1},
            &(struct llm_acts){w->gate, w->q8, count, s->n_ff});
    add_rows(w->x, w->h, count * s->n_embd);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static void rows_logits(struct llm_model *m, const struct llm_row *rows, size_t count)
{
    const struct llm_matrix *out = m->output.data ? &m->output : &m->embd;
    const size_t n = m->shape.n_embd;

    for (size_t r = 0; r < count; r++) {
        if (!rows[r].logits)
            continue;
        /* rows whose logits follow each other in memory go through the weights together */
        size_t run = 1;
        while (r + run < count && rows[r + run].logits == rows[r].logits + run * m->shape.n_vocab)
            run++;
        for (size_t i = 0; i < run; i++)
            rms_norm(m->work.x + (r + i) * n, m->output_norm, n, m->shape.rms_eps, m->work.h + i * n);
        llm_mul(m->kernels, m->pool, &(struct llm_mul){{out}, {rows[r].logits}, 1},
                &(struct llm_acts){m->work.h, m->work.q8, run, n});
        r += run - 1;
    }
}

dbe_err llm_forward(struct llm_model *m, const struct llm_row *rows, size_t count, const atomic_bool *cancel)
{
    if (count > LLM_BATCH_MAX)
        return DBE_E_STATE;
    for (size_t r = 0; r < count; r++) {
        if (rows[r].pos >= rows[r].kv->capacity || rows[r].pos >= m->shape.n_ctx)
            return DBE_E_STATE;
        llm_matrix_row(&m->embd, m->kernels, (size_t)rows[r].token, m->work.x + r * m->shape.n_embd);
    }
    fill_rope(m, rows, count);
    for (uint32_t layer = 0; layer < m->shape.n_layers; layer++) {
        if (cancel && atomic_load(cancel))
            return DBE_E_CANCELLED;
        layer_attention(m, rows, count, layer);
        layer_ffn(m, count, layer);
    }
    rows_logits(m, rows, count);
    return DBE_OK;
}
