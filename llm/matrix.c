/* SPDX-License-Identifier: Apache-2.0
 *
 * matrix.c - packing weights into panels at load, and sharing out products over the pool; see matrix.h.
 */
#include "matrix.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>

#include "half.h"

enum {
    HUGE_BYTES = 2 << 20,
    SERIAL_MACS = 256 << 10, /* below this a hand-over to another thread costs more than it saves */
    TOKEN_BLOCK = 64         /* tokens whose activations should stay in the second-level cache */
};

/* ---- packing ----------------------------------------------------------------------------------------------------- */

static size_t value_bytes(uint32_t type)
{
    return type == GGUF_TENSOR_F16 ? sizeof(uint16_t) : sizeof(float);
}

static size_t row_bytes(const struct llm_matrix *m)
{
    if (m->type == GGUF_TENSOR_Q8_0)
        return m->columns / GGUF_Q8_0_VALUES * GGUF_Q8_0_BYTES;
    return m->columns * value_bytes(m->type);
}

static bool half_finite(const uint8_t *p)
{
    return (p[1] & 0x7c) != 0x7c;
}

static bool pack_row_q8(const struct llm_matrix *m, const struct llm_kernels *k, uint8_t *panel, size_t r,
                        const uint8_t *src)
{
    const size_t blocks = m->columns / LLM_Q8_BLOCK;
    uint8_t *q = panel + m->panel_bytes - blocks * k->rows * LLM_Q8_BLOCK;
    const uint32_t flip = k->bias * 0x01010101u;

    for (size_t b = 0; b < blocks; b++, src += GGUF_Q8_0_BYTES) {
        if (!half_finite(src))
            return false;
        memcpy(panel + (b * k->rows + r) * 2, src, 2);
        for (size_t g = 0; g < LLM_Q8_BLOCK / 4; g++) {
            uint32_t four;
            memcpy(&four, src + 2 + g * 4, 4);
            four ^= flip;
            memcpy(q + ((b * (LLM_Q8_BLOCK / 4) + g) * k->rows + r) * 4, &four, 4);
        }
    }
    return true;
}

static bool pack_row_f(const struct llm_matrix *m, const struct llm_kernels *k, uint8_t *panel, size_t r,
                       const uint8_t *src)
{
    const size_t size = value_bytes(m->type);

    for (size_t c = 0; c < m->columns; c++, src += size) {
        float f = 0;
        if (size == sizeof(float))
            memcpy(&f, src, sizeof f);
        if (size == sizeof(float) ? !isfinite(f) : !half_finite(src))
            return false;
        memcpy(panel + (c * k->rows + r) * size, src, size);
    }
    return true;
}

/* Rows that only fill the last panel: zero, in the packed form. */
static void pack_padding(const struct llm_matrix *m, const struct llm_kernels *k, uint8_t *panel, size_t r)
{
    const size_t blocks = m->columns / LLM_Q8_BLOCK;

    if (m->type != GGUF_TENSOR_Q8_0 || k->bias == 0)
        return; /* fresh memory is zero */
    uint8_t *q = panel + m->panel_bytes - blocks * k->rows * LLM_Q8_BLOCK;
    for (size_t i = 0; i < blocks * (LLM_Q8_BLOCK / 4); i++)
        memset(q + (i * k->rows + r) * 4, k->bias, 4);
}

static dbe_err matrix_alloc(struct llm_matrix *m, const char *name, struct dbe_diag *diag)
{
    const size_t bytes = llm_matrix_bytes(m);

    m->raw = base_alloc(bytes + LLM_PANEL_ALIGN, 1);
    if (!m->raw)
        return dbe_fail(diag, DBE_E_NOMEM, "model", 0, "tensor %s: no memory for %zu bytes", name, bytes);
    const size_t off = (LLM_PANEL_ALIGN - (uintptr_t)m->raw % LLM_PANEL_ALIGN) % LLM_PANEL_ALIGN;
    m->data = (uint8_t *)m->raw + off;
    if (bytes >= 2 * HUGE_BYTES) { /* fewer page walks when every weight is read for every token */
        const size_t skip = (HUGE_BYTES - (uintptr_t)m->data % HUGE_BYTES) % HUGE_BYTES;
        (void)madvise(m->data + skip, (bytes - skip) / HUGE_BYTES * HUGE_BYTES, MADV_HUGEPAGE);
    }
    return DBE_OK;
}

static dbe_err pack_all(const struct gguf *g, const struct gguf_tensor *t, size_t first, const struct llm_kernels *k,
                        struct llm_matrix *m, struct dbe_diag *diag)
{
    const size_t bytes = row_bytes(m);
    BASE_AUTO_FREE uint8_t *buf = base_alloc(bytes, k->rows);

    if (!buf)
        return dbe_fail(diag, DBE_E_NOMEM, "model", 0, "tensor %s: no memory", t->name);
    for (size_t p = 0; p < m->panels; p++) {
        const size_t rows = BASE_MIN(m->rows - p * k->rows, (size_t)k->rows);
        uint8_t *panel = m->data + p * m->panel_bytes;
        DBE_TRY(gguf_read(g, t, ((uint64_t)p * k->rows + first) * bytes, buf, rows * bytes, diag));
        for (size_t r = 0; r < rows; r++) {
            const uint8_t *src = buf + r * bytes;
            if (!(m->type == GGUF_TENSOR_Q8_0 ? pack_row_q8(m, k, panel, r, src) : pack_row_f(m, k, panel, r, src)))
                return dbe_fail(diag, DBE_E_MODEL, "model", (size_t)t->offset,
                                "tensor %s: row %zu holds a value that is not finite", t->name,
                                first + p * k->rows + r);
        }
        for (size_t r = rows; r < k->rows; r++)
            pack_padding(m, k, panel, r);
    }
    return DBE_OK;
}

dbe_err llm_matrix_load_rows(const struct gguf *g, const struct gguf_tensor *t, size_t first_row, size_t rows,
                             const struct llm_kernels *k, struct llm_matrix *out, struct dbe_diag *diag)
{
    struct llm_matrix m = {.type = t->type, .rows = rows, .columns = (size_t)t->dims[0]};
    dbe_err err;

    m.panels = (m.rows + k->rows - 1) / k->rows;
    m.panel_bytes = t->type == GGUF_TENSOR_Q8_0 ? llm_panel_bytes_q8(k, m.columns / LLM_Q8_BLOCK)
                                                : llm_panel_bytes_f(k, m.columns, value_bytes(t->type));
    err = matrix_alloc(&m, t->name, diag);
    if (err == DBE_OK)
        err = pack_all(g, t, first_row, k, &m, diag);
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
    return llm_matrix_load_rows(g, t, 0, (size_t)t->dims[1], k, out, diag);
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
    const uint8_t *panel = m->data + row / k->rows * m->panel_bytes;
    const size_t r = row % k->rows, blocks = m->columns / LLM_Q8_BLOCK, size = value_bytes(m->type);
    uint16_t h;

    if (m->type != GGUF_TENSOR_Q8_0) {
        for (size_t c = 0; c < m->columns; c++) {
            if (size == sizeof(float)) {
                memcpy(&out[c], panel + (c * k->rows + r) * size, size);
            } else {
                memcpy(&h, panel + (c * k->rows + r) * size, size);
                out[c] = half_to_f32(h);
            }
        }
        return;
    }
    const uint8_t *q = panel + m->panel_bytes - blocks * k->rows * LLM_Q8_BLOCK;
    for (size_t c = 0; c < m->columns; c++) {
        const size_t b = c / LLM_Q8_BLOCK, g = c % LLM_Q8_BLOCK / 4;
        memcpy(&h, panel + (b * k->rows + r) * 2, 2);
        const uint8_t v = q[((b * (LLM_Q8_BLOCK / 4) + g) * k->rows + r) * 4 + c % 4] ^ k->bias;
        out[c] = half_to_f32(h) * (float)(int8_t)v;
    }
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

struct job {
    const struct llm_kernels *k;
    const struct llm_mul *mul;
    const struct llm_acts *acts;
    size_t prefill; /* tokens from here on go the table's own way of prefill, where it takes the matrix's type */
};

static bool takes_prefill(const struct llm_kernels *k, uint32_t type)
{
    return type < 64 && (k->prefill_types >> type & 1) != 0;
}

/* Tokens from `t` to `end`. */
static void mul_panels(const struct llm_kernels *k, const struct llm_matrix *m, size_t first, size_t panels,
                       const struct llm_acts *a, size_t t, size_t end, float *y)
{
    const uint8_t *w = m->data + first * m->panel_bytes;
    const size_t rows = m->rows - first * k->rows;

    for (; t < end; t += TOKEN_BLOCK) {
        const size_t n = BASE_MIN(end - t, (size_t)TOKEN_BLOCK);
        float *to = y + t * m->rows + first * k->rows;
        if (m->type == GGUF_TENSOR_Q8_0)
            k->gemm_q8(w, panels, rows, m->columns / LLM_Q8_BLOCK, a->q8 + t * (m->columns / LLM_Q8_BLOCK), n, to,
                       m->rows);
        else if (m->type == GGUF_TENSOR_F16)
            k->gemm_f16(w, panels, rows, m->columns, a->x + t * a->columns, n, to, m->rows);
        else
            k->gemm_f32(w, panels, rows, m->columns, a->x + t * a->columns, n, to, m->rows);
    }
}

/* The tokens from j->prefill on. */
static void prefill_panels(const struct job *j, const struct llm_matrix *m, size_t first, size_t panels, float *y)
{
    _Alignas(LLM_PANEL_ALIGN) uint8_t scratch[LLM_SCRATCH_BYTES];
    const struct llm_acts *a = j->acts;

    j->k->prefill(j->k, m->type, m->data + first * m->panel_bytes, panels, m->rows - first * j->k->rows, m->columns,
                  a->bf16 + j->prefill * a->columns, a->tokens - j->prefill,
                  y + j->prefill * m->rows + first * j->k->rows, m->rows, scratch);
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
            const size_t direct = takes_prefill(j->k, m->type) ? j->prefill : j->acts->tokens;
            mul_panels(j->k, m, first, last - first, j->acts, 0, direct, j->mul->y[i]);
            if (direct < j->acts->tokens)
                prefill_panels(j, m, first, last - first, j->mul->y[i]);
            begin = base + last;
        }
        base += m->panels;
    }
}

static void run_quantise(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct job *j = ctx;
    const size_t blocks = j->acts->columns / LLM_Q8_BLOCK;

    (void)thread;
    for (size_t t = begin; t < end; t++)
        j->k->quantise(j->acts->x + t * j->acts->columns, blocks, j->acts->q8 + t * blocks);
}

/* Items are the tokens from j->prefill on. */
static void run_to_bf16(void *ctx, size_t begin, size_t end, unsigned thread)
{
    const struct job *j = ctx;
    const struct llm_acts *a = j->acts;
    const size_t at = (j->prefill + begin) * a->columns;

    (void)thread;
    j->k->to_bf16(a->x + at, (end - begin) * a->columns, a->bf16 + at);
}

void llm_mul(const struct llm_kernels *k, struct llm_pool *pool, const struct llm_mul *mul, const struct llm_acts *acts)
{
    struct job j = {k, mul, acts, k->prefill && acts->bf16 ? BASE_MIN(acts->decode, acts->tokens) : acts->tokens};
    size_t panels = 0, q8 = 0; /* q8: tokens that are wanted quantised */
    bool bf16 = false;

    for (size_t i = 0; i < mul->count; i++) {
        const bool prefill = takes_prefill(k, mul->m[i]->type);
        panels += mul->m[i]->panels;
        bf16 = bf16 || prefill;
        if (mul->m[i]->type == GGUF_TENSOR_Q8_0)
            q8 = BASE_MAX(q8, prefill ? j.prefill : acts->tokens);
    }
    llm_pool_run(pool, q8, 16, run_quantise, &j);
    if (bf16)
        llm_pool_run(pool, acts->tokens - j.prefill, 16, run_to_bf16, &j);
    const size_t macs = panels * k->rows * acts->columns * acts->tokens;
    const size_t pieces = (size_t)llm_pool_threads(pool) * 4;
    const size_t grain = macs < SERIAL_MACS ? panels : BASE_MAX((panels + pieces - 1) / pieces, (size_t)1);
    llm_pool_run(pool, panels, grain, run_panels, &j);
}
