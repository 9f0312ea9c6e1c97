/* SPDX-License-Identifier: Apache-2.0
 *
 * attention_test.c - attention over pages against a float64 reference, for every kernel table, both types of cache,
 * windows and soft caps; and that cuts, threads and neighbours change no bit. The table of AVX-512 takes part on other
 * CPUs where the build could emulate it (LLM_TEST_EMULATED).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "model.h"

#ifdef LLM_TEST_EMULATED
extern const struct llm_attn_kernels llm_emulated_attn_avx512;
#endif

enum { POSITIONS = 150, HEADS_MAX = 12, DIM_MAX = 80 };

struct shape {
    uint32_t heads, kv_heads, dim, window;
    float softcap;
    const char *type;
};

static const struct shape shapes[] = {
    {4, 2, 16, 0, 0, "f16"},  {4, 4, 8, 0, 0, "f16"},   {8, 1, 64, 0, 0, "f16"},   {12, 1, 80, 0, 0, "f16"},
    {6, 2, 48, 5, 0, "f16"},  {6, 2, 48, 64, 0, "f16"}, {3, 3, 40, 33, 20, "f16"}, {9, 3, 32, 1, 0, "f16"},
    {4, 2, 16, 0, 0, "int8"}, {8, 1, 64, 0, 0, "int8"}, {6, 2, 44, 40, 0, "int8"}, {3, 3, 80, 0, 30, "int8"},
};

/* Queries, keys and values of all positions, [position][head][dim]. */
static float q[POSITIONS * HEADS_MAX * DIM_MAX], k[POSITIONS * HEADS_MAX * DIM_MAX], v[POSITIONS * HEADS_MAX * DIM_MAX];

static void fill(float *x, size_t n, uint32_t seed, float scale)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = ((float)(seed >> 8) / 8388608.0f - 1.0f) * scale;
    }
}

#define EMULATED "emulated"

/* Names of all tables that can run here; NULL ends them. */
static const char *const *tables(void)
{
    static const char *names[16];
    size_t n = 0;

    for (const struct llm_kernels *const *t = llm_kernels_all(); *t; t++)
        if ((*t)->usable())
            names[n++] = (*t)->name;
#ifdef LLM_TEST_EMULATED
    names[n++] = EMULATED;
#endif
    names[n] = NULL;
    return names;
}

static void pick(struct llm_model *m, const char *kernel)
{
#ifdef LLM_TEST_EMULATED
    if (kernel && strcmp(kernel, EMULATED) == 0) {
        m->kernels = &llm_kernels_portable;
        m->attn = &llm_emulated_attn_avx512;
        return;
    }
#endif
    m->kernels = llm_kernels_pick(kernel);
    m->attn = llm_attn_pick(m->kernels);
}

/* A model that has what attention needs, and no more. */
static struct llm_model *model_new(const struct shape *s, const char *kernel, unsigned threads)
{
    struct llm_model *m = base_alloc(1, sizeof *m);
    const struct llm_model_params params = {.kv_type = s->type};

    m->shape = (struct llm_shape){.n_ctx = 4096,
                                  .n_layers = 2,
                                  .n_heads = s->heads,
                                  .n_kv_heads = s->kv_heads,
                                  .head_dim = s->dim,
                                  .attn_scale = 1.0f / sqrtf((float)s->dim),
                                  .attn_softcap = s->softcap};
    pick(m, kernel);
    m->layers = base_alloc(2, sizeof *m->layers);
    m->layers[1].window = s->window;
    m->info.kv_budget_bytes = 64 << 20;
    assert_int_equal(llm_pool_new(threads, &m->pool), DBE_OK);
    assert_int_equal(llm_kv_pool_init(m, &params, NULL), DBE_OK);
    m->work.q = base_alloc((size_t)LLM_BATCH_MAX * s->heads * s->dim, sizeof(float));
    m->work.a = base_alloc((size_t)LLM_BATCH_MAX * s->heads * s->dim, sizeof(float));
    m->work.k = base_alloc((size_t)LLM_BATCH_MAX * s->kv_heads * s->dim, sizeof(float));
    m->work.v = base_alloc((size_t)LLM_BATCH_MAX * s->kv_heads * s->dim, sizeof(float));
    m->work.attn = base_alloc(llm_attend_floats(&m->shape) * threads, sizeof(float));
    return m;
}

static void model_end(struct llm_model *m)
{
    assert_int_equal(atomic_load(&m->kv_pool.used), 0);
    llm_kv_pool_free(&m->kv_pool);
    llm_pool_free(m->pool);
    base_free(m->work.q);
    base_free(m->work.a);
    base_free(m->work.k);
    base_free(m->work.v);
    base_free(m->work.attn);
    base_free(m->layers);
    base_free(m);
}

/* Positions [from, from + n) of a sequence as rows [at, at + n) of a pass. */
static void put_rows(struct llm_model *m, struct llm_kv *kv, uint32_t from, size_t n, struct llm_row *rows, size_t at)
{
    const size_t qn = (size_t)m->shape.n_heads * m->shape.head_dim,
                 kn = (size_t)m->shape.n_kv_heads * m->shape.head_dim;

    memcpy(m->work.q + at * qn, q + from * qn, n * qn * sizeof *q);
    memcpy(m->work.k + at * kn, k + from * kn, n * kn * sizeof *k);
    memcpy(m->work.v + at * kn, v + from * kn, n * kn * sizeof *v);
    for (size_t i = 0; i < n; i++)
        rows[at + i] = (struct llm_row){.kv = kv, .pos = from + (uint32_t)i};
}

/* All positions in chunks; outputs of the layer with the window into out. With `neighbour`, a second sequence runs
 * along, some positions behind. */
static void run(const struct shape *s, const char *kernel, unsigned threads, uint32_t chunk, bool neighbour, float *out)
{
    struct llm_model *m = model_new(s, kernel, threads);
    const size_t n_out = (size_t)s->heads * s->dim;
    struct llm_row rows[LLM_BATCH_MAX];
    struct llm_kv kv, other;

    assert_int_equal(llm_kv_init(m, POSITIONS, &kv, NULL), DBE_OK);
    assert_int_equal(llm_kv_init(m, POSITIONS, &other, NULL), DBE_OK);
    for (uint32_t at = 0, n; at < POSITIONS; at += n) {
        size_t before = 0;
        n = BASE_MIN(BASE_MIN(chunk, POSITIONS - at), LLM_BATCH_MAX / 2U);
        if (neighbour) {
            before = BASE_MIN(n, 3U);
            put_rows(m, &other, at / 2, before, rows, 0);
        }
        put_rows(m, &kv, at, n, rows, before);
        llm_attend(m, rows, before + n, 1);
        memcpy(out + at * n_out, m->work.a + before * n_out, n * n_out * sizeof *out);
    }
    llm_kv_free(m, &kv);
    llm_kv_free(m, &other);
    model_end(m);
}

static void reference(const struct shape *s, double *out)
{
    const size_t group = s->heads / s->kv_heads, d = s->dim;
    static double p[POSITIONS];

    for (size_t pos = 0; pos < POSITIONS; pos++)
        for (size_t h = 0; h < s->heads; h++, out += d) {
            const size_t first = s->window != 0 && pos >= s->window ? pos + 1 - s->window : 0;
            double max = -INFINITY, sum = 0;
            for (size_t t = first; t <= pos; t++) {
                p[t] = 0;
                for (size_t c = 0; c < d; c++)
                    p[t] += (double)q[(pos * s->heads + h) * d + c] * (double)k[(t * s->kv_heads + h / group) * d + c];
                p[t] /= sqrt((double)d);
                if (s->softcap > 0)
                    p[t] = (double)s->softcap * tanh(p[t] / (double)s->softcap);
                max = fmax(max, p[t]);
            }
            for (size_t t = first; t <= pos; t++)
                sum += p[t] = exp(p[t] - max);
            for (size_t c = 0; c < d; c++) {
                out[c] = 0;
                for (size_t t = first; t <= pos; t++)
                    out[c] += p[t] / sum * (double)v[(t * s->kv_heads + h / group) * d + c];
            }
        }
}

static void fill_all(void)
{
    fill(q, BASE_ARRAY_LEN(q), 1, 4);
    fill(k, BASE_ARRAY_LEN(k), 2, 2);
    fill(v, BASE_ARRAY_LEN(v), 3, 1);
}

static void every_table_follows_the_reference(void **state)
{
    static double want[POSITIONS * HEADS_MAX * DIM_MAX];
    static float got[POSITIONS * HEADS_MAX * DIM_MAX];

    (void)state;
    fill_all();
    for (size_t i = 0; i < BASE_ARRAY_LEN(shapes); i++) {
        const struct shape *s = &shapes[i];
        const size_t n = (size_t)POSITIONS * s->heads * s->dim;
        reference(s, want);
        for (const char *const *t = tables(); *t; t++) {
            double diff = 0, norm = 0;
            run(s, *t, 2, POSITIONS, false, got);
            for (size_t j = 0; j < n; j++) {
                diff += ((double)got[j] - want[j]) * ((double)got[j] - want[j]);
                norm += want[j] * want[j];
            }
            /* binary16 rounds by 2^-11, 8 bits by 1/254 of the greatest value of a head */
            const double bound = strcmp(s->type, "f16") == 0 ? 1e-3 : 2e-2, is = sqrt(diff / norm);
            if (!(is < bound))
                fail_msg("shape %zu, %s: %g from the reference", i, *t, is);
        }
    }
}

static void cuts_threads_and_neighbours_change_nothing(void **state)
{
    static float want[POSITIONS * HEADS_MAX * DIM_MAX], got[POSITIONS * HEADS_MAX * DIM_MAX];
    static const uint32_t chunks[] = {7, 1, 32, 45};

    (void)state;
    fill_all();
    for (size_t i = 0; i < BASE_ARRAY_LEN(shapes); i++) {
        const struct shape *s = &shapes[i];
        for (const char *const *t = tables(); *t; t++) {
            run(s, *t, 1, POSITIONS, false, want);
            for (size_t c = 0; c < BASE_ARRAY_LEN(chunks); c++) {
                run(s, *t, 1 + (unsigned)c % 3, chunks[c], c % 2 == 1, got);
                assert_memory_equal(want, got, (size_t)POSITIONS * s->heads * s->dim * sizeof *want);
            }
        }
    }
}

/* What later positions hold must not reach earlier ones, however the rows are cut, and be it infinite. */
static void nothing_leaks_from_what_is_hidden(void **state)
{
    static float want[POSITIONS * HEADS_MAX * DIM_MAX], got[POSITIONS * HEADS_MAX * DIM_MAX];
    static const size_t picked[] = {0, 9};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(picked); i++) {
        const struct shape *s = &shapes[picked[i]];
        const size_t kn = (size_t)s->kv_heads * s->dim, bytes = 100 * (size_t)s->heads * s->dim * sizeof *want;
        fill_all();
        run(s, NULL, 1, POSITIONS, false, want);
        for (size_t j = 100 * kn; j < POSITIONS * kn; j++) {
            k[j] = j % 3 == 0 ? NAN : INFINITY;
            v[j] = j % 2 == 0 ? -INFINITY : 1e30f;
        }
        run(s, NULL, 1, POSITIONS, false, got);
        assert_memory_equal(want, got, bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_follows_the_reference),
        cmocka_unit_test(cuts_threads_and_neighbours_change_nothing),
        cmocka_unit_test(nothing_leaks_from_what_is_hidden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
