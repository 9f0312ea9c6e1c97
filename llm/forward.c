/* SPDX-License-Identifier: Apache-2.0
 *
 * forward.c - the LLaMA transformer over a batch of rows.
 *
 * In:   rows (token, position, cache). Out: cache entries and logits of the rows that want them.
 * Not:  no sampling, no text, no allocation.
 *
 * Reading order: llm_forward -> layer_attention, layer_ffn. Rows of several sequences may share a pass: all products
 * with weights run over the whole batch, only attention looks at a row's own cache.
 */
#include <math.h>

#include "model.h"

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static void *take(struct llm_work *w, size_t count, size_t size)
{
    w->bytes += (uint64_t)count * size;
    return base_alloc(count, size);
}

dbe_err llm_work_init(struct llm_model *m)
{
    const struct llm_shape *s = &m->shape;
    struct llm_work *w = &m->work;
    const size_t heads = (size_t)s->n_heads * s->head_dim, kv = (size_t)s->n_kv_heads * s->head_dim;
    const size_t widest = BASE_MAX(BASE_MAX((size_t)s->n_embd, (size_t)s->n_ff), heads);

    w->x = take(w, (size_t)s->n_embd * LLM_BATCH_MAX, sizeof(float));
    w->h = take(w, (size_t)s->n_embd * LLM_BATCH_MAX, sizeof(float));
    w->q = take(w, heads * LLM_BATCH_MAX, sizeof(float));
    w->k = take(w, kv * LLM_BATCH_MAX, sizeof(float));
    w->v = take(w, kv * LLM_BATCH_MAX, sizeof(float));
    w->a = take(w, heads * LLM_BATCH_MAX, sizeof(float));
    w->gate = take(w, (size_t)s->n_ff * LLM_BATCH_MAX, sizeof(float));
    w->up = take(w, (size_t)s->n_ff * LLM_BATCH_MAX, sizeof(float));
    w->rope = take(w, (size_t)m->rope.dims * LLM_BATCH_MAX, sizeof(float));
    w->scores = take(w, (size_t)s->n_ctx * llm_pool_threads(m->pool), sizeof(float));
    w->q8 = take(w, (widest / LLM_Q8_BLOCK + 1) * LLM_BATCH_MAX, sizeof(struct llm_q8));
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
    for (size_t r = 0; r < count; r++)
        llm_rope_fill(&m->rope, rows[r].pos, m->work.rope + r * m->rope.dims);
}

/* Rotate the queries and keys of rows by their positions. */
static void rotate_rows(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct llm_model *m = ctx;
    const struct llm_shape *s = &m->shape;
    const size_t d = s->head_dim;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        const float *cs = m->work.rope + r * m->rope.dims;
        for (uint32_t h = 0; h < s->n_heads; h++)
            llm_rope_rotate(&m->rope, m->work.q + (r * s->n_heads + h) * d, cs);
        for (uint32_t h = 0; h < s->n_kv_heads; h++)
            llm_rope_rotate(&m->rope, m->work.k + (r * s->n_kv_heads + h) * d, cs);
    }
}

/* ---- attention --------------------------------------------------------------------------------------------------- */

static void layer_attention(struct llm_model *m, const struct llm_row *rows, size_t count, uint32_t layer)
{
    const struct llm_shape *s = &m->shape;
    const struct llm_layer *l = &m->layers[layer];
    struct llm_work *w = &m->work;

    norm_rows(m, l->attn_norm, count);
    llm_mul(m->kernels, m->pool, &(struct llm_mul){{&l->q, &l->k, &l->v}, {w->q, w->k, w->v}, 3},
            &(struct llm_acts){w->h, w->q8, count, s->n_embd});
    llm_pool_run(m->pool, count, 16, rotate_rows, m);
    llm_attend(m, rows, count, layer);
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
