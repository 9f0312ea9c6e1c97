/* SPDX-License-Identifier: Apache-2.0
 *
 * attention.c - the write into the KV cache, and attention of each row over its own cache.
 *
 * In:   work.q and work.k (both rotated) and work.v of the rows. Out: cache entries at the rows' positions, work.a.
 *
 * Rows of one sequence that follow each other are a span. The queries of a span that share a kv head (all heads of its
 * group, row by row) are cut into blocks; a block reads each page once and lets tiles of queries meet it (kern_attn.h).
 * Pages come in the order of their positions for every query, whatever the cut, so that results do not depend on it.
 */
#include "model.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "kern_attn.h"

enum {
    BLOCK_TILES = 16,
    BLOCK = BLOCK_TILES * LLM_ATTN_TILE, /* queries */
    SMALL_WORK = 1 << 16,                /* products of a query and a key that are not worth a second thread */
    STORE_ROWS = LLM_KV_PAGE
};
_Static_assert((int)LLM_KV_PAGE == (int)LLM_ATTN_PAGE, "kernels work on whole pages of the cache");

struct span {
    size_t row, count; /* rows */
    size_t end;        /* of its items, counted over all spans */
};

struct attention {
    struct llm_model *m;
    const struct llm_row *rows;
    uint32_t layer;
    size_t span_count;
    struct span spans[LLM_BATCH_MAX];
};

static size_t padded(size_t d)
{
    return (d + LLM_ATTN_PAGE - 1) / LLM_ATTN_PAGE * LLM_ATTN_PAGE;
}

size_t llm_attend_floats(const struct llm_shape *s)
{
    /* a page's keys and values, the block's queries and outputs */
    return (LLM_ATTN_PAGE + BLOCK) * ((size_t)s->head_dim + padded(s->head_dim));
}

static uint8_t *kv_head(const struct llm_model *m, const struct llm_kv_page *page, uint32_t layer, size_t head)
{
    return page->data + ((size_t)layer * m->shape.n_kv_heads + head) * m->kv_pool.head_bytes;
}

/* ---- storing ----------------------------------------------------------------------------------------------------- */

/* What is not finite would reach queries that must not see it, as 0 times infinity: it becomes the greatest value, or
 * 0.
 */
static void finite_f16(uint16_t *h, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned mag = h[i] & 0x7fffu;
        const unsigned kept = mag < 0x7c00u ? mag : mag == 0x7c00u ? 0x7bffu : 0;
        h[i] = (uint16_t)((h[i] & 0x8000u) | kept);
    }
}

static void store_f16(const struct llm_model *m, const float *k, const float *v, size_t slot, uint8_t *head)
{
    const size_t d = m->shape.head_dim;
    uint16_t h[LLM_HEAD_DIM_MAX];
    uint8_t *values = head + d * LLM_KV_PAGE * sizeof *h;

    m->kernels->to_f16(k, d, h);
    finite_f16(h, d);
    for (size_t i = 0; i < d; i++)
        memcpy(head + (i * LLM_KV_PAGE + slot) * sizeof *h, &h[i], sizeof *h);
    m->kernels->to_f16(v, d, h);
    finite_f16(h, d);
    memcpy(values + slot * d * sizeof *h, h, d * sizeof *h);
}

/* Values become q * scale with q from -127 to 127; all zero where one is not finite. Returns the scale. */
static float quantise(const float *x, size_t n, int8_t *q)
{
    float amax = 0;

    for (size_t i = 0; i < n; i++)
        amax = fabsf(x[i]) <= amax ? amax : fabsf(x[i]); /* a NaN stays */
    const bool usable = amax > 1e-30f && amax <= FLT_MAX;
    for (size_t i = 0; i < n; i++)
        q[i] = usable ? (int8_t)lrintf(x[i] * (127.0f / amax)) : 0;
    return usable ? amax / 127.0f : 0;
}

static void store_int8(const struct llm_model *m, const float *k, const float *v, size_t slot, uint8_t *head)
{
    const size_t d = m->shape.head_dim;
    int8_t q[LLM_HEAD_DIM_MAX];
    uint8_t *values = head + d * LLM_KV_PAGE, *scales = values + d * LLM_KV_PAGE;

    const float k_scale = quantise(k, d, q);
    for (size_t i = 0; i < d; i++)
        head[i * LLM_KV_PAGE + slot] = (uint8_t)q[i];
    const float v_scale = quantise(v, d, q);
    memcpy(values + slot * d, q, d);
    memcpy(scales + slot * sizeof k_scale, &k_scale, sizeof k_scale);
    memcpy(scales + (LLM_KV_PAGE + slot) * sizeof v_scale, &v_scale, sizeof v_scale);
}

static void store_rows(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct attention *at = ctx;
    const struct llm_model *m = at->m;
    const struct llm_shape *s = &m->shape;

    (void)thread;
    for (size_t r = begin; r < end; r++) {
        const struct llm_row *row = &at->rows[r];
        const struct llm_kv_page *page = row->kv->pages[row->pos / LLM_KV_PAGE];
        for (size_t h = 0; h < s->n_kv_heads; h++) {
            const size_t from = (r * s->n_kv_heads + h) * s->head_dim;
            uint8_t *to = kv_head(m, page, at->layer, h);
            (m->kv_pool.type == LLM_KV_F16 ? store_f16 : store_int8)(m, m->work.k + from, m->work.v + from,
                                                                     row->pos % LLM_KV_PAGE, to);
        }
    }
}

/* ---- attending --------------------------------------------------------------------------------------------------- */

/* Queries of one kv head and what they see. */
struct block {
    const struct attention *at;
    const struct span *span;
    size_t head, first, count; /* kv head; queries, counted over the span */
    struct llm_attn_page page;
    struct llm_attn_tile tiles[BLOCK_TILES];
    int32_t from[BLOCK], to[BLOCK]; /* first and last position that each query sees */
};

/* Where the query's head begins in work.q and work.a. */
static size_t query_at(const struct block *b, size_t query)
{
    const struct llm_shape *s = &b->at->m->shape;
    const size_t group = s->n_heads / s->n_kv_heads;

    return ((b->span->row + query / group) * s->n_heads + b->head * group + query % group) * s->head_dim;
}

static void find_seen(struct block *b, uint32_t window)
{
    const struct llm_shape *s = &b->at->m->shape;

    for (size_t i = 0; i < b->count; i++) {
        const uint32_t pos = b->at->rows[b->span->row + (b->first + i) / (s->n_heads / s->n_kv_heads)].pos;
        b->from[i] = window != 0 && pos >= window ? (int32_t)(pos + 1 - window) : 0;
        b->to[i] = (int32_t)pos;
    }
}

static void begin_tiles(struct block *b, float *q, float *o)
{
    const struct llm_shape *s = &b->at->m->shape;

    for (size_t i = 0; i < b->count; i += LLM_ATTN_TILE, q += LLM_ATTN_TILE * b->page.d) {
        struct llm_attn_tile *t = &b->tiles[i / LLM_ATTN_TILE];
        memset(q, 0, LLM_ATTN_TILE * b->page.d * sizeof *q);
        t->q = q;
        t->o = o + i * b->page.width;
        llm_attn_begin(t, BASE_MIN(b->count - i, (size_t)LLM_ATTN_TILE), b->page.width);
        for (size_t j = 0; j < t->count; j++) {
            const float *from = b->at->m->work.q + query_at(b, b->first + i + j);
            for (size_t c = 0; c < b->page.d; c++)
                q[c * LLM_ATTN_TILE + j] = from[c] * s->attn_scale;
        }
    }
}

/* What of the page that begins at `start` each query of a tile sees; false: nothing. */
static bool see(const struct block *b, size_t first, int32_t start, struct llm_attn_tile *t)
{
    bool any = false;

    for (size_t j = 0; j < t->count; j++) {
        t->lo[j] = BASE_MAX(b->from[first + j] - start, 0);
        t->hi[j] = BASE_MIN(b->to[first + j] - start, LLM_KV_PAGE - 1);
        any |= t->lo[j] <= t->hi[j];
    }
    return any;
}

static void meet_pages(struct block *b)
{
    const struct llm_model *m = b->at->m;
    const struct llm_kv *kv = b->at->rows[b->span->row].kv;

    for (int32_t p = b->from[0] / LLM_KV_PAGE; p <= b->to[b->count - 1] / LLM_KV_PAGE; p++) {
        const uint8_t *head = kv_head(m, kv->pages[p], b->at->layer, b->head);
        (m->kv_pool.type == LLM_KV_F16 ? m->attn->load_f16 : m->attn->load_int8)(head, &b->page);
        for (size_t i = 0; i < b->count; i += LLM_ATTN_TILE) {
            struct llm_attn_tile *t = &b->tiles[i / LLM_ATTN_TILE];
            if (see(b, i, p * LLM_KV_PAGE, t))
                m->attn->meet(&b->page, m->shape.attn_softcap, t);
        }
    }
}

static void end_tiles(const struct block *b)
{
    for (size_t i = 0; i < b->count; i++) {
        const struct llm_attn_tile *t = &b->tiles[i / LLM_ATTN_TILE];
        const float *o = t->o + i % LLM_ATTN_TILE * b->page.width;
        const float inverse = 1.0f / llm_attn_sum(t, i % LLM_ATTN_TILE);
        float *out = b->at->m->work.a + query_at(b, b->first + i);
        for (size_t c = 0; c < b->page.d; c++)
            out[c] = o[c] * inverse;
    }
}

/* One item is one kv head and one block of a span; blocks of late positions, which see the most, come first. */
static void attend(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct attention *at = ctx;
    const struct llm_shape *s = &at->m->shape;
    const size_t d = s->head_dim, width = padded(d), group = s->n_heads / s->n_kv_heads;
    float *scratch = at->m->work.attn + (size_t)thread * llm_attend_floats(s);
    const struct span *span = at->spans;
    struct block b; /* large, filled below */

    b.at = at;
    b.page = (struct llm_attn_page){.d = d, .width = width, .k = scratch};
    b.page.v = b.page.k + d * LLM_ATTN_PAGE;
    float *q = b.page.v + width * LLM_ATTN_PAGE, *o = q + d * BLOCK;
    for (size_t i = begin; i < end; i++) {
        while (i >= span->end)
            span++;
        const size_t left = span->end - i - 1, queries = span->count * group;
        b.span = span;
        b.head = left % s->n_kv_heads;
        b.first = left / s->n_kv_heads * BLOCK;
        b.count = BASE_MIN(queries - b.first, (size_t)BLOCK);
        find_seen(&b, at->m->layers[at->layer].window);
        begin_tiles(&b, q, o);
        meet_pages(&b);
        end_tiles(&b);
    }
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

/* Cuts the rows into spans; returns the products of a query and a key in all. */
static uint64_t find_spans(struct attention *at, size_t count)
{
    const struct llm_shape *s = &at->m->shape;
    uint64_t work = 0;
    size_t items = 0;

    for (size_t r = 0, n; r < count; r += n) {
        const struct llm_row *first = &at->rows[r];
        work += first->pos + 1;
        for (n = 1; r + n < count && first[n].kv == first->kv && first[n].pos == first->pos + n; n++)
            work += first[n].pos + 1;
        items += (n * (s->n_heads / s->n_kv_heads) + BLOCK - 1) / BLOCK * s->n_kv_heads;
        at->spans[at->span_count++] = (struct span){r, n, items};
    }
    return work * s->n_heads;
}

void llm_attend(struct llm_model *m, const struct llm_row *rows, size_t count, uint32_t layer)
{
    struct attention at = {.m = m, .rows = rows, .layer = layer};

    if (count == 0)
        return;
    for (size_t r = 0; r < count; r++)
        rows[r].kv->pages[rows[r].pos / LLM_KV_PAGE]->written = true;
    const uint64_t work = find_spans(&at, count);
    const size_t items = at.spans[at.span_count - 1].end;
    llm_pool_run(m->pool, count, STORE_ROWS, store_rows, &at);
    llm_pool_run(m->pool, items, work * m->shape.head_dim < SMALL_WORK ? items : 1, attend, &at);
}
