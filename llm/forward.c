/* SPDX-License-Identifier: Apache-2.0
 *
 * forward.c - the transformer of every family (arch.h) over a batch of rows.
 *
 * In:   rows (token, position, cache). Out: cache entries and logits of the rows that want them.
 * Not:  no sampling, no text, no allocation.
 *
 * Reading order: llm_forward -> layers -> layer_attention, layer_ffn. Rows of several sequences may share a pass: all
 * products with weights run over the whole batch, only attention looks at a row's own cache. What lies between two
 * products works on each row by itself (a struct rows_job), shared out over the pool.
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
    w->attn = take(w, llm_attend_floats(s) * llm_pool_threads(m->pool), sizeof(float));
    w->q8 = take(w, (widest / LLM_Q8_BLOCK + 1) * LLM_BATCH_MAX, sizeof(struct llm_q8));
    if (!w->x || !w->h || !w->q || !w->k || !w->v || !w->a || !w->gate || !w->up || !w->rope || !w->attn || !w->q8)
        return DBE_E_NOMEM;
    if (m->kernels->prefill) {
        w->bf16 = take(w, llm_prefill_values(LLM_BATCH_MAX, widest), sizeof(uint16_t));
        if (!w->bf16)
            return DBE_E_NOMEM;
    }
    return DBE_OK;
}

void llm_work_free(struct llm_work *w)
{
    void *all[] = {w->x, w->h, w->q, w->k, w->v, w->a, w->gate, w->up, w->rope, w->attn, w->q8, w->bf16};

    for (size_t i = 0; i < BASE_ARRAY_LEN(all); i++)
        base_free(all[i]);
    *w = (struct llm_work){0};
}

static const struct llm_matrix *output_matrix(const struct llm_model *m)
{
    return m->output.data ? &m->output : &m->embd;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static void add(float *restrict x, const float *restrict y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

struct rows_job {
    struct llm_model *m;
    const struct llm_row *rows;
    const struct llm_layer *layer;
    const float *norm; /* of the block's input, or what comes after it */
    const float *bias, *post_norm;
    float *out; /* [count][n_embd] */
};

static void run_rows(struct rows_job *job, size_t count, llm_pool_fn *fn)
{
    enum { GRAIN_VALUES = 16384 }; /* less is not worth a hand-over to another thread */

    llm_pool_run(job->m->pool, count, GRAIN_VALUES / job->m->shape.n_embd, fn, job);
}

/* The rows' embeddings and the angles of their positions, and the first layer's input. */
static void begin_rows(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct rows_job *job = ctx;
    struct llm_model *m = job->m;
    const size_t n = m->shape.n_embd;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        float *x = m->work.x + r * n;
        llm_matrix_row(&m->embd, m->kernels, (size_t)job->rows[r].token, x);
        for (size_t i = 0; i < n; i++)
            x[i] *= m->shape.embd_scale;
        m->kernels->rms_norm(x, job->norm, n, m->shape.rms_eps, m->work.h + r * n);
        llm_rope_fill(&m->rope, job->rows[r].pos, m->work.rope + r * m->rope.dims);
    }
}

/* Add a block's output in work.h to the residual stream, and normalise that: the next block's input. */
static void end_rows(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct rows_job *job = ctx;
    const struct llm_model *m = job->m;
    const size_t n = m->shape.n_embd;
    const float eps = m->shape.rms_eps;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        float *x = m->work.x + r * n, *h = m->work.h + r * n;
        if (job->bias)
            add(h, job->bias, n);
        if (job->post_norm)
            m->kernels->rms_norm(h, job->post_norm, n, eps, h);
        add(x, h, n);
        if (job->norm)
            m->kernels->rms_norm(x, job->norm, n, eps, h);
    }
}

static void norm_rows(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct rows_job *job = ctx;
    const struct llm_model *m = job->m;
    const size_t n = m->shape.n_embd;

    (void)thread;
    for (size_t r = begin; r < end; r++)
        m->kernels->rms_norm(m->work.x + r * n, m->output_norm, n, m->shape.rms_eps, job->out + r * n);
}

/* ---- attention --------------------------------------------------------------------------------------------------- */

static void prepare_heads(const struct llm_model *m, float *heads, size_t count, const float *norm, const float *cs)
{
    const size_t d = m->shape.head_dim;

    for (size_t h = 0; h < count; h++) {
        if (norm)
            m->kernels->rms_norm(heads + h * d, norm, d, m->shape.rms_eps, heads + h * d);
        llm_rope_rotate(&m->rope, heads + h * d, cs);
    }
}

/* What is done to the rows' queries, keys and values between their products and attention. */
static void prepare_rows(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct rows_job *job = ctx;
    const struct llm_model *m = job->m;
    const struct llm_layer *l = job->layer;
    const size_t heads = (size_t)m->shape.n_heads * m->shape.head_dim;
    const size_t kv = (size_t)m->shape.n_kv_heads * m->shape.head_dim;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        const float *cs = m->work.rope + r * m->rope.dims;
        if (l->qkv_bias) {
            add(m->work.q + r * heads, l->qkv_bias, heads);
            add(m->work.k + r * kv, l->qkv_bias + heads, kv);
            add(m->work.v + r * kv, l->qkv_bias + heads + kv, kv);
        }
        prepare_heads(m, m->work.q + r * heads, m->shape.n_heads, l->q_norm, cs);
        prepare_heads(m, m->work.k + r * kv, m->shape.n_kv_heads, l->k_norm, cs);
    }
}

static void layer_attention(struct llm_model *m, const struct llm_row *rows, size_t count, uint32_t layer)
{
    const struct llm_shape *s = &m->shape;
    const struct llm_layer *l = &m->layers[layer];
    struct llm_work *w = &m->work;
    struct rows_job job = {.m = m, .layer = l, .bias = l->o_bias, .post_norm = l->attn_post_norm, .norm = l->ffn_norm};

    llm_mul(m->kernels, m->pool, &(struct llm_mul){{&l->q, &l->k, &l->v}, {w->q, w->k, w->v}, 3, {&l->o}},
            &(struct llm_acts){w->h, w->q8, count, s->n_embd, w->bf16, w->decode});
    run_rows(&job, count, prepare_rows);
    llm_attend(m, rows, count, layer);
    llm_mul(m->kernels, m->pool, &(struct llm_mul){{&l->o}, {w->h}, 1, {&l->gate, &l->up}},
            &(struct llm_acts){w->a, w->q8, count, (size_t)s->n_heads * s->head_dim, w->bf16, w->decode});
    run_rows(&job, count, end_rows);
}

/* ---- feed-forward ------------------------------------------------------------------------------------------------ */

static void activate_rows(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct rows_job *job = ctx;
    const struct llm_model *m = job->m;
    const size_t n = m->shape.n_ff;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        float *gate = m->work.gate + r * n, *up = m->work.up + r * n;
        if (job->layer->gate_bias)
            add(gate, job->layer->gate_bias, n);
        if (job->layer->up_bias)
            add(up, job->layer->up_bias, n);
        if (m->arch->activation == LLM_ACT_GELU)
            m->kernels->gelu_mul(gate, up, n);
        else
            m->kernels->silu_mul(gate, up, n);
    }
}

static void layer_ffn(struct llm_model *m, size_t count, uint32_t layer)
{
    const struct llm_shape *s = &m->shape;
    const struct llm_layer *l = &m->layers[layer];
    struct llm_work *w = &m->work;
    struct rows_job job = {.m = m, .layer = l, .bias = l->down_bias, .post_norm = l->ffn_post_norm};

    llm_mul(m->kernels, m->pool, &(struct llm_mul){{&l->gate, &l->up}, {w->gate, w->up}, 2, {&l->down}},
            &(struct llm_acts){w->h, w->q8, count, s->n_embd, w->bf16, w->decode});
    run_rows(&job, count, activate_rows);
    struct llm_mul down = {{&l->down}, {w->h}, 1, {output_matrix(m)}};
    if (layer + 1 < s->n_layers) {
        const struct llm_layer *next = l + 1;
        down = (struct llm_mul){{&l->down}, {w->h}, 1, {&next->q, &next->k, &next->v}};
        job.norm = next->attn_norm;
    }
    llm_mul(m->kernels, m->pool, &down, &(struct llm_acts){w->gate, w->q8, count, s->n_ff, w->bf16, w->decode});
    run_rows(&job, count, end_rows);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

struct logits_job {
    const struct llm_model *m;
    float *logits;
};

/* Items are logits of all rows of a run. */
static void finish_logits(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct logits_job *job = ctx;
    const float cap = job->m->shape.final_softcap, *bias = job->m->output_bias;

    (void)thread;
    for (size_t i = begin; bias && i < end; i++)
        job->logits[i] += bias[i % job->m->shape.n_vocab];
    for (size_t i = begin; cap > 0 && i < end; i++)
        job->logits[i] = cap * tanhf(job->logits[i] / cap);
}

/* Logits of `count` rows whose normalised states lie in work.h. */
static void mul_logits(struct llm_model *m, size_t count, float *logits)
{
    llm_mul(m->kernels, m->pool,
            &(struct llm_mul){{output_matrix(m)}, {logits}, 1, {&m->layers[0].q, &m->layers[0].k, &m->layers[0].v}},
            &(struct llm_acts){m->work.h, m->work.q8, count, m->shape.n_embd, NULL, count});
    if (m->output_bias || m->shape.final_softcap > 0)
        llm_pool_run(m->pool, count * m->shape.n_vocab, 4096, finish_logits, &(struct logits_job){m, logits});
}

static void rows_logits(struct llm_model *m, const struct llm_row *rows, size_t count)
{
    const size_t n = m->shape.n_embd, n_vocab = m->shape.n_vocab;

    for (size_t r = 0; r < count;) {
        float *logits = rows[r].logits;
        size_t run = 0;
        if (!logits) {
            r++;
            continue;
        }
        /* rows whose logits follow each other in memory go through the weights together */
        for (; r < count && (!rows[r].logits || rows[r].logits == logits + run * n_vocab); r++)
            if (rows[r].logits)
                m->kernels->rms_norm(m->work.x + r * n, m->output_norm, n, m->shape.rms_eps, m->work.h + run++ * n);
        mul_logits(m, run, logits);
    }
}

void llm_forward_logits(struct llm_model *m, size_t first, size_t count, float *out)
{
    const size_t n = m->shape.n_embd;

    for (size_t r = 0; r < count; r++)
        m->kernels->rms_norm(m->work.x + (first + r) * n, m->output_norm, n, m->shape.rms_eps, m->work.h + r * n);
    mul_logits(m, count, out);
}

/* All layers: leaves the rows' states in work.x. */
static dbe_err layers(struct llm_model *m, const struct llm_row *rows, size_t count, const atomic_bool *cancel)
{
    struct rows_job job = {.m = m, .rows = rows, .norm = m->layers[0].attn_norm};

    if (count > LLM_BATCH_MAX)
        return DBE_E_STATE;
    for (size_t r = 0; r < count; r++)
        if (rows[r].pos >= rows[r].kv->capacity || rows[r].pos >= m->shape.n_ctx)
            return DBE_E_STATE;
    for (m->work.decode = 0; m->work.decode < count && !rows[m->work.decode].prefill;)
        m->work.decode++;
    run_rows(&job, count, begin_rows);
    for (uint32_t layer = 0; layer < m->shape.n_layers; layer++) {
        if (cancel && atomic_load(cancel))
            return DBE_E_CANCELLED;
        layer_attention(m, rows, count, layer);
        layer_ffn(m, count, layer);
    }
    return DBE_OK;
}

dbe_err llm_forward(struct llm_model *m, const struct llm_row *rows, size_t count, const atomic_bool *cancel)
{
    DBE_TRY(layers(m, rows, count, cancel));
    rows_logits(m, rows, count);
    llm_count_pass(m, rows, count);
    return DBE_OK;
}

dbe_err llm_forward_states(struct llm_model *m, const struct llm_row *rows, size_t count, float *out)
{
    DBE_TRY(layers(m, rows, count, NULL));
    run_rows(&(struct rows_job){.m = m, .out = out}, count, norm_rows);
    llm_count_pass(m, rows, count);
    return DBE_OK;
}
