/* SPDX-License-Identifier: Apache-2.0
 *
 * matrix.c - packing weights into panels at load, and sharing out products over the pool; see matrix.h.
 */
#include "matrix.h"

#include <pthread.h>

enum {
    READ_BYTES = 256 << 10,  /* of a file at a time, about: it stays in the second-level cache until it is packed */
    SERIAL_MACS = 256 << 10, /* below this a hand-over to another thread costs more than it saves */
    PREFILL_PANELS = 16,     /* of a piece of rows of prompts, where there are enough for all threads */
    AHEAD_TOKENS = 4,        /* up to which products wait for memory more than they compute */
    AHEAD_BYTES = 512 << 10, /* of the next weights, for a thread that waits */
    CACHE_BYTES = 256 << 10  /* of weights, and of activations, to stay in the second-level cache */
};

/* ---- packing ----------------------------------------------------------------------------------------------------- */

static dbe_err matrix_alloc(struct llm_matrix *m, struct llm_arena *arena, const char *name, struct dbe_diag *diag)
{
    const size_t bytes = llm_matrix_bytes(m);

    m->data = arena ? llm_arena_take(arena, bytes) : NULL;
    if (m->data)
        return DBE_OK;
    m->raw = base_alloc(bytes + LLM_PANEL_ALIGN, 1);
    if (!m->raw)
        return dbe_fail(diag, DBE_E_NOMEM, "model", 0, "tensor %s: no memory for %zu bytes", name, bytes);
    m->data = (uint8_t *)m->raw + (LLM_PANEL_ALIGN - (uintptr_t)m->raw % LLM_PANEL_ALIGN) % LLM_PANEL_ALIGN;
    return DBE_OK;
}

struct packing {
    const struct gguf *g;
    const struct gguf_tensor *t;
    const struct llm_loading *how;
    struct llm_matrix *m;
    size_t first_row, row_bytes, panels; /* panels: of one read */
    pthread_mutex_t lock;
    size_t failed; /* the first read that failed; SIZE_MAX: none */
    dbe_err err;
    struct dbe_diag diag;
};

/* Read number `i` into `buf`, and from there into its panels. */
static dbe_err pack_read(const struct packing *j, size_t i, uint8_t *buf, struct dbe_diag *diag)
{
    const struct llm_matrix *m = j->m;
    const size_t high = j->how->k->rows, begin = i * j->panels * high;
    const size_t end = BASE_MIN(begin + j->panels * high, m->rows);

    DBE_TRY(gguf_read(j->g, j->t, (uint64_t)(j->first_row + begin) * j->row_bytes, buf, (end - begin) * j->row_bytes,
                      diag));
    for (size_t r = begin, n; r < end; r += n, buf += n * j->row_bytes) {
        n = BASE_MIN(end - r, high);
        const size_t good = panel_pack(m->type, j->how->k->bias, high, m->columns, m->data + r / high * m->panel_bytes,
                                       n, buf, j->row_bytes);
        if (good < n)
            return dbe_fail(diag, DBE_E_MODEL, "model", (size_t)j->t->offset,
                            "tensor %s: row %zu holds a value that is not finite", j->t->name, j->first_row + r + good);
    }
    return DBE_OK;
}

static void run_packing(void *ctx, size_t begin, size_t end, unsigned thread)
{
    struct packing *j = ctx;
    struct dbe_diag diag = {0};

    for (size_t i = begin; i < end; i++) {
        const dbe_err err = pack_read(j, i, j->how->bufs + thread * j->how->buf_bytes, &diag);
        if (err == DBE_OK)
            continue;
        pthread_mutex_lock(&j->lock);
        if (i < j->failed) { /* what is reported does not depend on which thread was first */
            j->failed = i;
            j->err = err;
            j->diag = diag;
        }
        pthread_mutex_unlock(&j->lock);
        return;
    }
}

/* Room for `bytes` of a file for each thread; kept from one matrix to the next. */
static dbe_err grow_bufs(struct llm_loading *how, size_t bytes)
{
    if (bytes <= how->buf_bytes)
        return DBE_OK;
    llm_loading_free(how);
    how->bufs = base_alloc(bytes, how->pool ? llm_pool_threads(how->pool) : 1);
    if (!how->bufs)
        return DBE_E_NOMEM;
    how->buf_bytes = bytes;
    return DBE_OK;
}

static dbe_err pack_all(struct packing *j, struct llm_loading *how, struct dbe_diag *diag)
{
    const size_t panel = how->k->rows * j->row_bytes;

    j->panels = BASE_MIN(BASE_MAX(READ_BYTES / panel, (size_t)1), j->m->panels);
    if (grow_bufs(how, j->panels * panel) != DBE_OK)
        return dbe_fail(diag, DBE_E_NOMEM, "model", 0, "tensor %s: no memory", j->t->name);
    const size_t reads = (j->m->panels + j->panels - 1) / j->panels;
    if (how->pool)
        llm_pool_run(how->pool, reads, 1, run_packing, j);
    else
        run_packing(j, 0, reads, 0);
    if (j->err != DBE_OK && diag)
        *diag = j->diag;
    return j->err;
}

dbe_err llm_matrix_load_rows(const struct gguf *g, const struct gguf_tensor *t, size_t first_row, size_t rows,
                             struct llm_loading *how, struct llm_matrix *out, struct dbe_diag *diag)
{
    struct llm_matrix m = {.type = t->type, .rows = rows, .columns = (size_t)t->dims[0]};
    struct packing j = {.g = g, .t = t, .how = how, .m = &m, .first_row = first_row, .failed = SIZE_MAX, .err = DBE_OK};
    dbe_err err;

    m.panels = (m.rows + how->k->rows - 1) / how->k->rows;
    m.panel_bytes = panel_bytes(t->type, how->k->rows, m.columns);
    j.row_bytes = quant_row_bytes(t->type, m.columns);
    pthread_mutex_init(&j.lock, NULL);
    err = matrix_alloc(&m, how->arena, t->name, diag);
    if (err == DBE_OK)
        err = pack_all(&j, how, diag);
    pthread_mutex_destroy(&j.lock);
    if (err != DBE_OK) {
        llm_matrix_free(&m);
        return err;
    }
    *out = m;
    return DBE_OK;
}

dbe_err llm_matrix_load(const struct gguf *g, const struct gguf_tensor *t, const struct llm_kernels *k,
                        struct llm_matrix *out, struct dbe_diag *diag)
{
    struct llm_loading how = {.k = k};
    const dbe_err err = llm_matrix_load_rows(g, t, 0, (size_t)t->dims[1], &how, out, diag);

    llm_loading_free(&how);
    return err;
}

void llm_loading_free(struct llm_loading *how)
{
    base_free(how->bufs);
    how->bufs = NULL;
    how->buf_bytes = 0;
}

void llm_matrix_free(struct llm_matrix *m)
{
    base_free(m->raw);
    *m = (struct llm_matrix){0};
}

size_t llm_matrix_bytes(const struct llm_matrix *m)
{
    return m->panels * m->panel_bytes;
}

void llm_matrix_row(const struct llm_matrix *m, const struct llm_kernels *k, size_t row, float *out)
{
    panel_row_f32(m->type, k->bias, k->rows, m->columns, m->data + row / k->rows * m->panel_bytes, row % k->rows, out);
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

struct job {
    const struct llm_kernels *k;
    const struct llm_mul *mul;
    const struct llm_acts *acts;
    size_t prefill; /* tokens from here on go the table's own way of prefill, where it takes the matrix's type */
};

/* Tokens of a block: a multiple of the tile. */
static size_t token_block(const struct llm_kernels *k, size_t columns)
{
    return BASE_MAX(CACHE_BYTES / (columns * sizeof(float) / 2), (size_t)k->tile) / k->tile * k->tile;
}

static bool takes_prefill(const struct llm_kernels *k, uint32_t type)
{
    return type < 64 && (k->prefill_types >> type & 1) != 0;
}

/* Tokens from `begin` to `end`, in blocks whose activations stay in the cache. */
static void mul_panels(const struct llm_kernels *k, const struct llm_matrix *m, size_t first, size_t panels,
                       const struct llm_acts *a, size_t begin, size_t end, float *y)
{
    const size_t rows = m->rows - first * k->rows, blocks = m->columns / LLM_Q8_BLOCK;
    const uint8_t *w = m->data + first * m->panel_bytes;

    for (size_t t = begin, n; t < end; t += n) {
        n = BASE_MIN(end - t, token_block(k, m->columns));
        float *to = y + t * m->rows + first * k->rows;
        if (panel_is_float(m->type))
            k->gemm_f(m->type, w, panels, rows, m->columns, a->x + t * a->columns, n, to, m->rows);
        else
            k->gemm_q(m->type, w, panels, rows, m->columns, a->q8 + t * blocks, n, to, m->rows);
    }
}

/* The same in groups of panels that stay in the cache over all tokens. */
static void mul_groups(const struct llm_kernels *k, const struct llm_matrix *m, size_t first, size_t panels,
                       const struct llm_acts *a, size_t begin, size_t end, float *y)
{
    const size_t group = end - begin <= k->tile ? panels : BASE_MAX(CACHE_BYTES / m->panel_bytes, (size_t)1);

    for (size_t n; panels > 0; panels -= n, first += n) {
        n = BASE_MIN(group, panels);
        mul_panels(k, m, first, n, a, begin, end, y);
    }
}

/* The tokens from j->prefill on. */
static void prefill_panels(const struct job *j, const struct llm_matrix *m, size_t first, size_t panels, float *y)
{
    _Alignas(LLM_PANEL_ALIGN) uint8_t scratch[LLM_SCRATCH_BYTES];
    const struct llm_acts *a = j->acts;

    j->k->prefill(j->k, m->type, m->data + first * m->panel_bytes, panels, m->rows - first * j->k->rows, m->columns,
                  a->bf16, a->tokens - j->prefill, y + j->prefill * m->rows + first * j->k->rows, m->rows, scratch);
}

/* Items are the panels of all matrices, one after the other. */
static void run_panels(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct job *j = ctx;
    size_t base = 0;

    (void)thread;
    for (size_t i = 0; i < j->mul->count && begin < end; i++) {
        const struct llm_matrix *m = j->mul->m[i];
        if (begin < base + m->panels) {
            const size_t first = begin - base, last = BASE_MIN(end - base, m->panels);
            mul_groups(j->k, m, first, last - first, j->acts, 0, j->prefill, j->mul->y[i]);
            if (j->prefill == j->acts->tokens)
                ;
            else if (takes_prefill(j->k, m->type))
                prefill_panels(j, m, first, last - first, j->mul->y[i]);
            else
                mul_groups(j->k, m, first, last - first, j->acts, j->prefill, j->acts->tokens, j->mul->y[i]);
            begin = base + last;
        }
        base += m->panels;
    }
}

static size_t tiles(const struct llm_kernels *k, size_t tokens)
{
    return (tokens + k->tile - 1) / k->tile;
}

/* Items are tiles of the tokens before j->prefill, then of those from it on. */
static void run_quantise(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct job *j = ctx;
    const struct llm_acts *a = j->acts;
    const size_t blocks = a->columns / LLM_Q8_BLOCK, tile = j->k->tile, early = tiles(j->k, j->prefill);

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const size_t t = i < early ? i * tile : j->prefill + (i - early) * tile;
        const size_t n = BASE_MIN((i < early ? j->prefill : a->tokens) - t, tile);
        j->k->quantise(a->x + t * a->columns, n, blocks, a->q8 + t * blocks);
    }
}

/* Items are tiles of the tokens from j->prefill on. */
static void run_to_bf16(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct job *j = ctx;
    const struct llm_acts *a = j->acts;
    const size_t first = begin * LLM_PREFILL_TOKENS, last = BASE_MIN(end * LLM_PREFILL_TOKENS, a->tokens - j->prefill);

    (void)thread;
    j->k->to_bf16(a->x + (j->prefill + first) * a->columns, last - first, a->columns,
                  a->bf16 + llm_prefill_values(first, a->columns));
}

/* Panels handed out at once. Threads that are slower than others should get fewer, so pieces are small; but rows of
 * prompts read all activations again for each piece, and by pairs of panels. */
static size_t panel_grain(size_t panels, size_t threads, bool prefill)
{
    const size_t fine = BASE_MAX((panels + threads * 32 - 1) / (threads * 32), (size_t)1);
    const size_t coarse = BASE_MIN((panels + threads - 1) / threads, (size_t)PREFILL_PANELS);

    return prefill ? (BASE_MAX(fine, coarse) + 1) / 2 * 2 : fine;
}

/* Let threads that wait for the products after these have a look at their weights. */
static void expect_next(struct llm_pool *pool, const struct llm_mul *mul, size_t tokens)
{
    const size_t threads = llm_pool_threads(pool);
    size_t panels = 0;

    for (size_t i = 0; i < LLM_MUL_MAX && mul->next[i]; i++)
        panels += mul->next[i]->panels;
    for (size_t t = 1; t < threads; t++) {
        size_t first = panels * t / threads, i = 0;
        if (panels == 0 || tokens > AHEAD_TOKENS) {
            llm_pool_expect(pool, (unsigned)t, NULL, 0);
            continue;
        }
        for (; first >= mul->next[i]->panels; i++)
            first -= mul->next[i]->panels;
        const struct llm_matrix *m = mul->next[i];
        llm_pool_expect(pool, (unsigned)t, m->data + first * m->panel_bytes,
                        BASE_MIN((m->panels - first) * m->panel_bytes, (size_t)AHEAD_BYTES));
    }
}

void llm_mul(const struct llm_kernels *k, struct llm_pool *pool, const struct llm_mul *mul, const struct llm_acts *acts)
{
    struct job j = {k, mul, acts, k->prefill && acts->bf16 ? BASE_MIN(acts->decode, acts->tokens) : acts->tokens};
    size_t panels = 0, q8 = 0; /* q8: tiles that are wanted quantised */
    bool bf16 = false;

    for (size_t i = 0; i < mul->count; i++) {
        const bool prefill = takes_prefill(k, mul->m[i]->type);
        panels += mul->m[i]->panels;
        bf16 = bf16 || prefill;
        if (!panel_is_float(mul->m[i]->type))
            q8 = BASE_MAX(q8, tiles(k, j.prefill) + (prefill ? 0 : tiles(k, acts->tokens - j.prefill)));
    }
    expect_next(pool, mul, acts->tokens);
    llm_pool_run(pool, q8, 2, run_quantise, &j);
    if (bf16)
        llm_pool_run(pool, (acts->tokens - j.prefill + LLM_PREFILL_TOKENS - 1) / LLM_PREFILL_TOKENS, 1, run_to_bf16,
                     &j);
    const size_t macs = panels * k->rows * acts->columns * acts->tokens;
    const size_t grain = panel_grain(panels, llm_pool_threads(pool), bf16 && j.prefill < acts->tokens);
    llm_pool_run(pool, panels, macs < SERIAL_MACS ? panels : grain, run_panels, &j);
}
