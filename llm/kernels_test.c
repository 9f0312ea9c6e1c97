/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels_test.c - every kernel table against the portable one, on random data and on extremes.
 *
 * Tables of instructions that this CPU lacks take part where the build could emulate them (LLM_TEST_EMULATED).
 */
#include "test_gguf.h"
#include "test_random.h"

#include "kernels.h"
#include "matrix.h"

#ifdef LLM_TEST_EMULATED
extern const struct llm_kernels llm_emulated_avxvnni, llm_emulated_avx512;
#endif

enum { TABLES_MAX = 8 };

static size_t tables(const struct llm_kernels *out[TABLES_MAX])
{
    size_t n = 0;

    for (const struct llm_kernels *const *k = llm_kernels_all(); *k; k++)
        if ((*k)->usable() && *k != &llm_kernels_portable)
            out[n++] = *k;
#ifdef LLM_TEST_EMULATED
    out[n++] = &llm_emulated_avxvnni;
    out[n++] = &llm_emulated_avx512;
#endif
    return n;
}

/* A container of one tensor around `data`, enough for llm_matrix_load. */
static void load(const struct llm_kernels *k, uint32_t type, size_t rows, size_t columns, const struct base_buf *data,
                 struct llm_matrix *out)
{
    struct gguf g = {.fd = -1, .mem = data->data, .size = data->len};
    struct gguf_tensor t = {.name = "w", .type = type, .n_dims = 2, .dims = {columns, rows, 1, 1}, .bytes = data->len};

    assert_int_equal(llm_matrix_load(&g, &t, k, out, NULL), DBE_OK);
}

enum fill { FILL_RANDOM, FILL_LOW, FILL_HIGH, FILL_MIXED, FILL_MAX };

static const uint32_t weight_types[] = {GGUF_TENSOR_Q8_0, GGUF_TENSOR_Q4_0, GGUF_TENSOR_Q4_K, GGUF_TENSOR_Q5_K,
                                        GGUF_TENSOR_Q6_K, GGUF_TENSOR_F16,  GGUF_TENSOR_BF16, GGUF_TENSOR_F32};

/* A scale as binary16: of either sign, about 0.01. */
static void put_scale(uint8_t *at, bool both_signs)
{
    const float sign = both_signs && random_u32() % 2 ? -1.0f : 1.0f;
    const uint16_t h = half_from_f32(sign * 0.01f * (random_f32() + 1.5f));

    memcpy(at, &h, sizeof h);
}

static void fill_block(uint32_t type, enum fill fill, uint8_t *block, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        const uint8_t low = type == GGUF_TENSOR_Q8_0 ? 0x80 : 0, high = type == GGUF_TENSOR_Q8_0 ? 0x7f : 0xff;
        block[i] = fill == FILL_LOW     ? low
                   : fill == FILL_HIGH  ? high
                   : fill == FILL_MIXED ? (i % 2 ? low : high)
                                        : (uint8_t)random_u32();
    }
    put_scale(type == GGUF_TENSOR_Q6_K ? block + 208 : block, fill == FILL_RANDOM);
    if (type == GGUF_TENSOR_Q4_K || type == GGUF_TENSOR_Q5_K)
        put_scale(block + 2, fill == FILL_RANDOM);
}

static void fill_weights(uint32_t type, enum fill fill, size_t count, struct base_buf *out)
{
    const struct quant_type *q = quant_type(type);
    uint8_t block[256];

    base_buf_init(out, TG_MAX);
    for (size_t i = 0; i < count; i += q->values) {
        const float f = random_f32();
        const uint16_t h = half_from_f32(f);
        memcpy(block, &f, sizeof f);
        if (type == GGUF_TENSOR_F16)
            memcpy(block, &h, sizeof h);
        else if (type == GGUF_TENSOR_BF16)
            memmove(block, block + 2, 2);
        else if (type != GGUF_TENSOR_F32)
            fill_block(type, fill, block, q->bytes);
        base_buf_bytes(out, block, q->bytes);
    }
    assert_int_equal(out->err, DBE_OK);
}

static void fill_acts(enum fill fill, float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = fill == FILL_LOW     ? -3.0f
               : fill == FILL_HIGH  ? 3.0f
               : fill == FILL_MIXED ? (i % 2 ? 3.0f : -3.0f)
                                    : random_f32();
}

/* y[tokens][rows] = x * w^T with table `k` on `threads` threads. */
static void product(const struct llm_kernels *k, unsigned threads, uint32_t type, size_t rows, size_t columns,
                    const struct base_buf *w, const float *x, size_t tokens, float *y)
{
    struct llm_matrix m;
    struct llm_pool *pool;
    struct llm_q8 *q8 = base_alloc(tokens * (columns / 32 + 1), sizeof *q8);

    load(k, type, rows, columns, w, &m);
    assert_int_equal(llm_pool_new(threads, &pool), DBE_OK);
    llm_mul(k, pool, &(struct llm_mul){.m = {&m}, .y = {y}, .count = 1},
            &(struct llm_acts){.x = x, .q8 = q8, .tokens = tokens, .columns = columns});
    llm_pool_free(pool);
    llm_matrix_free(&m);
    base_free(q8);
}

/* The sum of the magnitudes of what is summed, and what it comes to, in double: `row` of the file's bytes. */
static void reference(uint32_t type, const uint8_t *row, const float *x, size_t columns, double *ret, double *ret_bound)
{
    float *w = base_alloc(columns, sizeof *w);
    struct llm_q8 q;
    double sum = 0, all = 0;

    quant_row_f32(type, row, columns, w);
    for (size_t c = 0; c < columns; c++) {
        double a = (double)x[c];
        if (!panel_is_float(type)) {
            if (c % 32 == 0)
                llm_kernels_portable.quantise(x + c, 1, 1, &q);
            a = (double)q.q[c % 32] * (double)q.d;
        }
        sum += a * (double)w[c];
        all += fabs(a * (double)w[c]);
    }
    base_free(w);
    *ret = sum;
    *ret_bound = all * 1e-5 + 1e-5;
}

static void check_product(const struct llm_kernels *k, uint32_t type, enum fill fill, size_t rows, size_t columns,
                          size_t tokens)
{
    struct base_buf w;
    float *x = base_alloc(tokens * columns, sizeof *x), *got = base_alloc(tokens * rows, sizeof *got);
    double want, bound;

    fill_weights(type, fill, rows * columns, &w);
    fill_acts(fill, x, tokens * columns);
    product(k, 1, type, rows, columns, &w, x, tokens, got);
    for (size_t i = 0; i < tokens * rows; i++) {
        reference(type, w.data + i % rows * quant_row_bytes(type, columns), x + i / rows * columns, columns, &want,
                  &bound);
        if (!(fabs((double)got[i] - want) <= bound))
            fail_msg("%s type %u fill %d %zux%zu token %zu row %zu: %g, reference %g", k->name, type, (int)fill, rows,
                     columns, i / rows, i % rows, (double)got[i], want);
    }
    base_buf_free(&w);
    base_free(x);
    base_free(got);
}

static void products_agree(void **state)
{
    static const size_t sizes[][3] = {{1, 32, 1},   {8, 32, 1},   {16, 64, 4},  {17, 96, 5},  {7, 160, 13},
                                      {33, 256, 8}, {64, 320, 3}, {100, 64, 9}, {40, 32, 70}, {19, 512, 27}};
    const struct llm_kernels *all[TABLES_MAX];
    size_t n = tables(all);

    (void)state;
    all[n++] = &llm_kernels_portable;
    for (size_t i = 0; i < n; i++)
        for (size_t t = 0; t < BASE_ARRAY_LEN(weight_types); t++)
            for (int fill = FILL_RANDOM; fill < FILL_MAX; fill++)
                for (size_t s = 0; s < BASE_ARRAY_LEN(sizes); s++) {
                    const size_t unit = quant_type(weight_types[t])->values;
                    check_product(all[i], weight_types[t], (enum fill)fill, sizes[s][0],
                                  (sizes[s][1] + unit - 1) / unit * unit, sizes[s][2]);
                }
}

/* Threads share out the packing of a matrix of several reads; what is reported is the first bad row all the same. */
static void loading_is_shared(void **state)
{
    enum { ROWS = 1500, COLUMNS = 2048 };
    const struct llm_kernels *k = &llm_kernels_portable;
    struct base_buf w;
    struct llm_pool *pool;
    struct llm_matrix one, many;
    struct dbe_diag diag = {0};

    (void)state;
    fill_weights(GGUF_TENSOR_Q8_0, FILL_RANDOM, ROWS * COLUMNS, &w);
    const struct gguf g = {.fd = -1, .mem = w.data, .size = w.len};
    const struct gguf_tensor t = {
        .name = "w", .type = GGUF_TENSOR_Q8_0, .n_dims = 2, .dims = {COLUMNS, ROWS, 1, 1}, .bytes = w.len};
    assert_int_equal(llm_pool_new(3, &pool), DBE_OK);
    assert_int_equal(llm_matrix_load(&g, &t, k, &one, NULL), DBE_OK);
    struct llm_loading how = {.k = k, .pool = pool};
    assert_int_equal(llm_matrix_load_rows(&g, &t, 0, ROWS, &how, &many, NULL), DBE_OK);
    assert_memory_equal(one.data, many.data, llm_matrix_bytes(&one));
    llm_matrix_free(&many);
    llm_matrix_free(&one);
    assert_int_equal(llm_matrix_load_rows(&g, &t, 7, 9, &how, &one, NULL), DBE_OK);
    float row[2][COLUMNS];
    llm_matrix_row(&one, k, 8, row[0]);
    quant_row_f32(t.type, w.data + 15 * quant_row_bytes(t.type, COLUMNS), COLUMNS, row[1]);
    assert_memory_equal(row[0], row[1], sizeof row[0]);
    llm_matrix_free(&one);
    for (size_t r = 1499; r >= 633; r -= 433) {
        w.data[r * quant_row_bytes(t.type, COLUMNS) + 1] = 0x7c;
        assert_int_equal(llm_matrix_load_rows(&g, &t, 0, ROWS, &how, &many, &diag), DBE_E_MODEL);
    }
    assert_non_null(strstr(diag.text, "row 633 "));
    llm_loading_free(&how);
    llm_pool_free(pool);
    base_buf_free(&w);
}

/* Matrices lie in their arena one behind the other; one that it has no room for has memory of its own. */
static void matrices_share_an_arena(void **state)
{
    enum { ROWS = 40, COLUMNS = 2048 };
    const struct llm_kernels *k = &llm_kernels_portable;
    struct llm_arena arena;
    struct llm_loading how = {.k = k, .arena = &arena};
    struct llm_matrix all[60];
    struct base_buf w;
    size_t used = 0;

    (void)state;
    fill_weights(GGUF_TENSOR_Q8_0, FILL_RANDOM, ROWS * COLUMNS, &w);
    const struct gguf g = {.fd = -1, .mem = w.data, .size = w.len};
    const struct gguf_tensor t = {
        .name = "w", .type = GGUF_TENSOR_Q8_0, .n_dims = 2, .dims = {COLUMNS, ROWS, 1, 1}, .bytes = w.len};
    assert_int_equal(llm_arena_init(&arena, w.len * 20), DBE_OK);
    assert_true((uintptr_t)arena.at % (2 << 20) == 0 && arena.left >= w.len * 20);
    const size_t left = arena.left;
    uint8_t *at = arena.at;
    for (size_t i = 0; i < BASE_ARRAY_LEN(all); i++) {
        assert_int_equal(llm_matrix_load_rows(&g, &t, 0, ROWS, &how, &all[i], NULL), DBE_OK);
        assert_memory_equal(all[i].data, all[0].data, llm_matrix_bytes(&all[0]));
        if (all[i].raw)
            continue;
        assert_ptr_equal(all[i].data, at + used);
        used += llm_matrix_bytes(&all[i]);
    }
    assert_true(used <= left && left - used == arena.left && left - used < llm_matrix_bytes(&all[0]));
    assert_true(all[0].raw == NULL && all[BASE_ARRAY_LEN(all) - 1].raw != NULL);
    assert_null(llm_arena_take(&arena, SIZE_MAX));
    assert_int_equal(llm_arena_init(&(struct llm_arena){0}, SIZE_MAX), DBE_E_NOMEM);
    for (size_t i = 0; i < BASE_ARRAY_LEN(all); i++)
        llm_matrix_free(&all[i]);
    llm_loading_free(&how);
    llm_arena_free(&arena);
    base_buf_free(&w);
}

/* A packed row comes out as the file's row does. */
static void rows_come_back(void **state)
{
    enum { ROWS = 21, COLUMNS = 512 };
    const struct llm_kernels *all[TABLES_MAX];
    size_t n = tables(all);
    float want[COLUMNS], got[COLUMNS];

    (void)state;
    all[n++] = &llm_kernels_portable;
    for (size_t i = 0; i < n; i++)
        for (size_t t = 0; t < BASE_ARRAY_LEN(weight_types); t++) {
            const uint32_t type = weight_types[t];
            struct base_buf w;
            struct llm_matrix m;
            fill_weights(type, FILL_RANDOM, ROWS * COLUMNS, &w);
            load(all[i], type, ROWS, COLUMNS, &w, &m);
            for (size_t r = 0; r < ROWS; r++) {
                quant_row_f32(type, w.data + r * quant_row_bytes(type, COLUMNS), COLUMNS, want);
                llm_matrix_row(&m, all[i], r, got);
                assert_memory_equal(want, got, sizeof want);
            }
            assert_true((double)m.panel_bytes * 16 <= (double)w.len / ROWS * 1.03 * all[i]->rows * 16 + 64 * 16);
            llm_matrix_free(&m);
            base_buf_free(&w);
        }
}

static void integer_sums_are_exact(void **state)
{
    enum { ROWS = 24, COLUMNS = 64 };
    const struct llm_kernels *all[TABLES_MAX];
    size_t n = tables(all);
    struct base_buf w;
    float x[COLUMNS], got[ROWS];

    (void)state;
    all[n++] = &llm_kernels_portable;
    base_buf_init(&w, TG_MAX);
    for (size_t i = 0; i < ROWS * COLUMNS; i++) {
        if (i % 32 == 0)
            tg_le(&w, half_from_f32(0.5f), 2);
        base_buf_u8(&w, i % 3 == 0 ? 0x80 : (uint8_t)(i * 37));
    }
    for (size_t i = 0; i < COLUMNS; i++)
        x[i] = i % 32 == 0 ? 127.0f : (float)((int)(i * 29 % 255) - 127); /* amax 127: the scale is 1 */
    for (size_t t = 0; t < n; t++) {
        product(all[t], 1, GGUF_TENSOR_Q8_0, ROWS, COLUMNS, &w, x, 1, got);
        for (size_t r = 0; r < ROWS; r++) {
            long want = 0;
            for (size_t c = 0; c < COLUMNS; c++) {
                const size_t i = r * COLUMNS + c;
                want += (i % 3 == 0 ? -128 : (int8_t)(uint8_t)(i * 37)) * (long)x[c];
            }
            assert_true(got[r] == 0.5f * (float)want);
        }
    }
    base_buf_free(&w);
}

static void threads_and_batches_change_nothing(void **state)
{
    enum { ROWS = 203, COLUMNS = 512, TOKENS = 37 };
    const struct llm_kernels *all[TABLES_MAX];
    size_t n = tables(all);
    static float x[TOKENS * COLUMNS], one[TOKENS * ROWS], other[TOKENS * ROWS];

    (void)state;
    all[n++] = &llm_kernels_portable;
    for (size_t t = 0; t < n; t++)
        for (size_t i = 0; i < BASE_ARRAY_LEN(weight_types); i++) {
            const uint32_t type = weight_types[i];
            struct base_buf w;
            fill_weights(type, FILL_RANDOM, ROWS * COLUMNS, &w);
            fill_acts(FILL_RANDOM, x, TOKENS * COLUMNS);
            product(all[t], 1, type, ROWS, COLUMNS, &w, x, TOKENS, one);
            product(all[t], 3, type, ROWS, COLUMNS, &w, x, TOKENS, other);
            assert_memory_equal(one, other, sizeof one);
            for (size_t k = 0; k < TOKENS; k += 9) {
                product(all[t], 2, type, ROWS, COLUMNS, &w, x + k * COLUMNS, 1, other);
                assert_memory_equal(one + k * ROWS, other, ROWS * sizeof *other);
            }
            base_buf_free(&w);
        }
}

static bool near(float got, double want, double relative, double absolute)
{
    return fabs((double)got - want) <= relative * fabs(want) + absolute;
}

static void vectors_agree(void **state)
{
    enum { N = 29 * 92 };
    const struct llm_kernels *all[TABLES_MAX], *p = &llm_kernels_portable;
    const size_t n = tables(all);
    float x[N], a[N], b[N];
    uint16_t h[N], h2[N];

    (void)state;
    for (size_t t = 0; t < n; t++) {
        const struct llm_kernels *k = all[t];
        fill_acts(FILL_RANDOM, x, N);
        p->to_f16(x, N, h);
        k->to_f16(x, N, h2);
        assert_memory_equal(h, h2, sizeof h);
        void (*const muls[][2])(float *, const float *, size_t) = {{p->silu_mul, k->silu_mul},
                                                                   {p->gelu_mul, k->gelu_mul}};
        for (size_t i = 0; i < BASE_ARRAY_LEN(muls); i++) {
            memcpy(a, x, sizeof a);
            memcpy(b, x, sizeof b);
            muls[i][0](a, x, N);
            muls[i][1](b, x, N);
            for (size_t j = 0; j < N; j++)
                assert_true(near(b[j], (double)a[j], 1e-6, 1e-9));
        }
        for (size_t len = 1; len <= N; len = len * 3 + 1) {
            p->rms_norm(x, x + N - len, len, 1e-5f, a);
            k->rms_norm(x, x + N - len, len, 1e-5f, b);
            for (size_t j = 0; j < len; j++)
                assert_true(near(b[j], (double)a[j], 1e-6, 0));
        }
        struct llm_q8 q[2][N / 32];
        p->quantise(x, 1, N / 32, q[0]);
        k->quantise(x, 1, N / 32, q[1]);
        assert_memory_equal(q[0], q[1], sizeof q[0]);
    }
}

/* Against doubles; also where e^x is out of a float's range. */
static void activations_are_right(void **state)
{
    enum { N = 81 };
    const struct llm_kernels *all[TABLES_MAX];
    size_t n = tables(all);
    float x[N], up[N], silu[N], gelu[N];

    (void)state;
    all[n++] = &llm_kernels_portable;
    for (int i = 0; i < N; i++) {
        x[i] = (float)(i - 40) * (i % 5 == 0 ? 5.1f : 0.17f);
        up[i] = 0.5f;
    }
    for (size_t t = 0; t < n; t++) {
        memcpy(silu, x, sizeof x);
        memcpy(gelu, x, sizeof x);
        all[t]->silu_mul(silu, up, N);
        all[t]->gelu_mul(gelu, up, N);
        for (int i = 0; i < N; i++) {
            const double v = (double)x[i];
            assert_true(near(silu[i], 0.5 * v / (1 + exp(-v)), 1e-5, 1e-35));
            assert_true(
                near(gelu[i], 0.25 * v * (1 + tanh(sqrt(2 / acos(-1.0)) * (v + 0.044715 * v * v * v))), 2e-5, 1e-6));
        }
    }
}

static void norms_are_right(void **state)
{
    enum { N = 1061 };
    const struct llm_kernels *all[TABLES_MAX];
    size_t n = tables(all);
    static float x[N], weight[N], out[N];

    (void)state;
    all[n++] = &llm_kernels_portable;
    fill_acts(FILL_RANDOM, x, N);
    fill_acts(FILL_RANDOM, weight, N);
    for (size_t t = 0; t < n; t++)
        for (size_t len = 1; len <= N; len += len < 70 ? 1 : 331) {
            double sum = 0;
            for (size_t i = 0; i < len; i++)
                sum += (double)x[i] * (double)x[i];
            const double scale = 1 / sqrt(sum / (double)len + 1e-6);
            all[t]->rms_norm(x, weight, len, 1e-6f, out);
            for (size_t i = 0; i < len; i++)
                assert_true(near(out[i], (double)x[i] * scale * (double)weight[i], 1e-6, 0));
            memcpy(out, x, sizeof x);
            all[t]->rms_norm(out, weight, len, 1e-6f, out);
            for (size_t i = 0; i < len; i++)
                assert_true(near(out[i], (double)x[i] * scale * (double)weight[i], 1e-6, 0));
        }
}

/* Tiles of every table are the portable blocks, interleaved. */
static void tiles_hold_the_blocks(void **state)
{
    enum { TOKENS = 43, BLOCKS = 3 };
    const struct llm_kernels *all[TABLES_MAX];
    const size_t n = tables(all);
    static float x[TOKENS * BLOCKS * 32];
    static struct llm_q8 plain[TOKENS * BLOCKS], tiled[TOKENS * BLOCKS];

    (void)state;
    fill_acts(FILL_RANDOM, x, TOKENS * BLOCKS * 32);
    x[5] = 1e-38f;
    x[77] = NAN;
    x[500] = INFINITY;
    llm_kernels_portable.quantise(x, TOKENS, BLOCKS, plain);
    for (size_t k = 0; k < n; k++) {
        all[k]->quantise(x, TOKENS, BLOCKS, tiled);
        for (size_t t = 0, width; t < TOKENS; t += width) {
            width = llm_tile(all[k]->tile, TOKENS - t);
            for (size_t i = 0; i < width * BLOCKS; i++) {
                const uint8_t *block = (const uint8_t *)(tiled + t * BLOCKS + i / width * width);
                const struct llm_q8 *want = &plain[(t + i % width) * BLOCKS + i / width];
                for (size_t w = 0; w < sizeof *want / 4; w++)
                    assert_memory_equal(block + (w * width + i % width) * 4, (const uint8_t *)want + w * 4, 4);
            }
        }
    }
}

static void quantiser_takes_anything(void **state)
{
    const struct llm_kernels *all[TABLES_MAX];
    size_t n = tables(all);
    float x[32];
    struct llm_q8 q;

    (void)state;
    all[n++] = &llm_kernels_portable;
    for (size_t t = 0; t < n; t++) {
        memset(x, 0, sizeof x);
        all[t]->quantise(x, 1, 1, &q);
        assert_true(q.d == 0 && q.q[0] == 0 && q.corr == 0);
        for (size_t i = 0; i < 32; i++)
            x[i] = i == 3 ? NAN : i == 4 ? INFINITY : 1.0f;
        all[t]->quantise(x, 1, 1, &q);
        for (size_t i = 0; i < 32; i++)
            assert_true(q.q[i] >= -127);
        for (size_t i = 0; i < 32; i++)
            x[i] = 1e-38f;
        all[t]->quantise(x, 1, 1, &q);
        assert_true(q.d == 0);
    }
}

static void halves_are_exact(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float f = half_to_f32((uint16_t)h);
        if ((h & 0x7c00) == 0x7c00 && (h & 0x3ff))
            assert_true(isnan(f));
        else
            assert_int_equal(half_from_f32(f), h);
    }
    assert_int_equal(half_from_f32(65519.0f), 0x7bff);
    assert_int_equal(half_from_f32(65520.0f), 0x7c00);
    assert_int_equal(half_from_f32(2049.0f), 0x6800);  /* tie to even: 2048 */
    assert_int_equal(half_from_f32(2051.0f), 0x6802);  /* tie to even: 2052 */
    assert_int_equal(half_from_f32(0x1p-25f), 0x0000); /* half of the least subnormal, ties to zero */
    assert_int_equal(half_from_f32(0x1.8p-25f), 0x0001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_agree),
        cmocka_unit_test(loading_is_shared),
        cmocka_unit_test(matrices_share_an_arena),
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(integer_sums_are_exact),
        cmocka_unit_test(threads_and_batches_change_nothing),
        cmocka_unit_test(vectors_agree),
        cmocka_unit_test(activations_are_right),
        cmocka_unit_test(norms_are_right),
        cmocka_unit_test(tiles_hold_the_blocks),
        cmocka_unit_test(quantiser_takes_anything),
        cmocka_unit_test(halves_are_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
