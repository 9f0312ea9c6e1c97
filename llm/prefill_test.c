/* SPDX-License-Identifier: Apache-2.0
 *
 * prefill_test.c - tables with a way of their own for rows of prompts (AMX): against sums in double, to the bit against
 * themselves in other batches and on other numbers of threads; and the emulation of tiles that stands for a processor.
 *
 * A table of this CPU takes part by itself. The tile unit takes part emulated, with vectors of this CPU where it has
 * them and with emulated ones where the build could have these.
 */
#include "test_gguf.h"
#include "test_random.h"

#include "kernels.h"
#include "matrix.h"

#ifdef LLM_TEST_TILES
#include "kern_x86.h"
#include "tile_emulated.h"

llm_prefill_fn llm_tiles_amx_prefill, llm_emulated_amx_prefill;
void llm_tiles_amx_to_bf16(const float *x, size_t tokens, size_t columns, uint16_t *out);
void llm_emulated_amx_to_bf16(const float *x, size_t tokens, size_t columns, uint16_t *out);
#ifdef LLM_TEST_EMULATED
extern const struct llm_kernels llm_emulated_avx512;
#endif
#endif

enum { TABLES_MAX = 4 };

static size_t tables(struct llm_kernels out[TABLES_MAX])
{
    size_t n = 0;

    for (const struct llm_kernels *const *k = llm_kernels_all(); *k; k++)
        if ((*k)->usable() && (*k)->prefill)
            out[n++] = **k;
#ifdef LLM_TEST_TILES
    if (llm_kernels_avx512.usable() && __builtin_cpu_supports("avx512bf16")) {
        out[n] = llm_kernels_avx512;
        out[n].name = "amx, tiles emulated";
        out[n].prefill_types = KERN_AMX_TYPES;
        out[n].prefill = llm_tiles_amx_prefill;
        out[n++].to_bf16 = llm_tiles_amx_to_bf16;
    }
#ifdef LLM_TEST_EMULATED
    out[n] = llm_emulated_avx512;
    out[n].name = "amx, all emulated";
    out[n].prefill_types = KERN_AMX_TYPES;
    out[n].prefill = llm_emulated_amx_prefill;
    out[n++].to_bf16 = llm_emulated_amx_to_bf16;
#endif
#endif
    return n;
}

static void no_fault(void)
{
#ifdef LLM_TEST_TILES
    const char *why = tile_emulated_fault();

    if (why)
        fail_msg("%s", why);
    assert_false(tile_emulated_live()); /* no call leaves tiles behind */
#endif
}

static void fill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = random_f32() * (random_u32() % 50 == 0 ? 20.0f : 1.0f); /* some stand out, as activations do */
}

static const uint32_t types[] = {GGUF_TENSOR_F16,  GGUF_TENSOR_BF16, GGUF_TENSOR_Q8_0, GGUF_TENSOR_Q4_0,
                                 GGUF_TENSOR_Q4_K, GGUF_TENSOR_Q5_K, GGUF_TENSOR_Q6_K};

/* Where a block keeps binary16 scales. */
static bool is_scale(uint32_t type, size_t at)
{
    if (type == GGUF_TENSOR_Q4_K || type == GGUF_TENSOR_Q5_K)
        return at == 0 || at == 2;
    return at == (type == GGUF_TENSOR_Q6_K ? 208 : 0);
}

/* A tensor's bytes: random quants and values, scales of any size but finite. */
static void weights(uint32_t type, size_t rows, size_t columns, struct base_buf *out)
{
    const struct quant_type *q = quant_type(type);

    base_buf_init(out, TG_MAX);
    for (size_t i = 0; i < rows * columns / q->values; i++) {
        if (type == GGUF_TENSOR_F16)
            tg_le(out, half_from_f32(random_f32()), 2);
        else if (type == GGUF_TENSOR_BF16)
            tg_le(out, (uint64_t)(random_u32() & 1) << 15 | (0x3e00 + random_u32() % 512), 2);
        else
            for (size_t at = 0; at < q->bytes;)
                if (is_scale(type, at)) {
                    tg_le(out, half_from_f32(0.01f * random_f32()), 2);
                    at += 2;
                } else {
                    base_buf_u8(out, (uint8_t)random_u32());
                    at++;
                }
    }
    assert_int_equal(out->err, DBE_OK);
}

static void load(const struct llm_kernels *k, uint32_t type, size_t rows, size_t columns, struct llm_matrix *out)
{
    struct base_buf data;

    weights(type, rows, columns, &data);
    struct gguf g = {.fd = -1, .mem = data.data, .size = data.len};
    struct gguf_tensor t = {.name = "w", .type = type, .n_dims = 2, .dims = {columns, rows, 1, 1}, .bytes = data.len};
    assert_int_equal(llm_matrix_load(&g, &t, k, out, NULL), DBE_OK);
    base_buf_free(&data);
}

/* y[tokens][rows], of which the first `decode` tokens are computed as decode rows. */
static void product(const struct llm_kernels *k, unsigned threads, const struct llm_matrix *m, const float *x,
                    size_t tokens, size_t decode, float *y)
{
    struct llm_pool *pool;
    struct llm_q8 *q8 = base_alloc(tokens * (m->columns / 32 + 1), sizeof *q8);
    uint16_t *bf16 = base_alloc(llm_prefill_values(tokens - decode, m->columns) + 1, sizeof *bf16);

    assert_int_equal(llm_pool_new(threads, &pool), DBE_OK);
    llm_mul(
        k, pool, &(struct llm_mul){.m = {m}, .y = {y}, .count = 1},
        &(struct llm_acts){.x = x, .q8 = q8, .tokens = tokens, .columns = m->columns, .bf16 = bf16, .decode = decode});
    llm_pool_free(pool);
    base_free(q8);
    base_free(bf16);
    no_fault();
}

static double bf16(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
    memcpy(&f, &bits, sizeof bits);
    return (double)f;
}

/* Two bounds. Against operands rounded as the table says, only sums in float differ: columns * 2^-23 of the summed
 * magnitudes. Against the operands themselves, each of two roundings to 8 bits adds 2^-8 of these. */
static void check(const struct llm_kernels *k, uint32_t type, size_t rows, size_t columns, size_t tokens)
{
    struct llm_matrix m;
    float *x = base_alloc(tokens * columns, sizeof *x), *y = base_alloc(tokens * rows, sizeof *y);
    float *w = base_alloc(columns, sizeof *w);

    load(k, type, rows, columns, &m);
    fill(x, tokens * columns);
    product(k, 1, &m, x, tokens, 0, y);
    for (size_t r = 0; r < rows; r++) {
        llm_matrix_row(&m, k, r, w);
        for (size_t t = 0; t < tokens; t++) {
            double rounded = 0, exact = 0, magnitude = 0;
            for (size_t c = 0; c < columns; c++) {
                const double e = (double)w[c] * (double)x[t * columns + c];
                rounded += bf16(w[c]) * bf16(x[t * columns + c]);
                exact += e;
                magnitude += fabs(e);
            }
            const double got = (double)y[t * rows + r], sums = (double)columns * 0x1p-23 * magnitude + 1e-30;
            if (!(fabs(got - rounded) <= sums) || !(fabs(got - exact) <= sums + magnitude * 0x1.02p-7))
                fail_msg("%s type %u %zux%zu token %zu row %zu: %g, rounded %g, exact %g", k->name, type, rows, columns,
                         t, r, got, rounded, exact);
        }
    }
    llm_matrix_free(&m);
    base_free(x);
    base_free(y);
    base_free(w);
}

static void products_are_right(void **state)
{
    static const size_t sizes[][3] = {{1, 256, 1},    {16, 256, 16}, {33, 512, 17}, {32, 768, 32},
                                      {47, 1280, 33}, {7, 256, 70},  {64, 512, 49}, {80, 256, 15}};
    struct llm_kernels all[TABLES_MAX];
    const size_t n = tables(all);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        for (size_t t = 0; t < BASE_ARRAY_LEN(types); t++)
            for (size_t s = 0; s < BASE_ARRAY_LEN(sizes); s++)
                check(&all[i], types[t], sizes[s][0], sizes[s][1], sizes[s][2]);
        check(&all[i], GGUF_TENSOR_Q8_0, 20, 32, 5);
        check(&all[i], GGUF_TENSOR_Q8_0, 20, 544, 5); /* a step beyond a slab */
        check(&all[i], GGUF_TENSOR_F16, 18, 1, 3);
        check(&all[i], GGUF_TENSOR_F16, 18, 33, 18);
        check(&all[i], GGUF_TENSOR_F16, 40, 527, 3);
        check(&all[i], GGUF_TENSOR_BF16, 40, 35, 3);
        check(&all[i], GGUF_TENSOR_Q4_0, 40, 544, 3);
    }
}

/* A row's result depends neither on the rows beside it, nor on where a prompt was cut, nor on threads; and decode rows
 * of the same batch are computed as ever. */
static void batches_change_nothing(void **state)
{
    enum { ROWS = 203, COLUMNS = 768, TOKENS = 75, DECODE = 5 };
    static const size_t cuts[] = {1, 16, 31, 32, 33, 48, 74};
    struct llm_kernels all[TABLES_MAX];
    const size_t n = tables(all);
    float *x = base_alloc(TOKENS * COLUMNS, sizeof *x);
    float *one = base_alloc(TOKENS * ROWS, sizeof *one), *other = base_alloc(TOKENS * ROWS, sizeof *other);

    (void)state;
    fill(x, TOKENS * COLUMNS);
    for (size_t i = 0; i < n; i++)
        for (size_t t = 0; t < BASE_ARRAY_LEN(types); t++) {
            struct llm_matrix m;
            load(&all[i], types[t], ROWS, COLUMNS, &m);
            product(&all[i], 1, &m, x, TOKENS, 0, one);
            for (size_t c = 0; c < BASE_ARRAY_LEN(cuts); c++) {
                const size_t cut = cuts[c];
                product(&all[i], 1 + (unsigned)c % 3, &m, x, cut, 0, other);
                product(&all[i], 1, &m, x + cut * COLUMNS, TOKENS - cut, 0, other + cut * ROWS);
                assert_memory_equal(one, other, TOKENS * ROWS * sizeof *one);
            }
            product(&all[i], 3, &m, x, TOKENS, DECODE, other);
            assert_memory_equal(one + DECODE * ROWS, other + DECODE * ROWS, (TOKENS - DECODE) * ROWS * sizeof *one);
            product(&all[i], 1, &m, x, DECODE, DECODE, one);
            assert_memory_equal(one, other, DECODE * ROWS * sizeof *one);
            llm_matrix_free(&m);
        }
    base_free(x);
    base_free(one);
    base_free(other);
}

/* Floats stay floats: a matrix of F32 is multiplied as in decode. */
static void floats_are_not_rounded(void **state)
{
    struct llm_kernels all[TABLES_MAX];
    const size_t n = tables(all);

    (void)state;
    for (size_t i = 0; i < n; i++)
        assert_true((all[i].prefill_types >> GGUF_TENSOR_F32 & 1) == 0);
}

static void rows_round_to_even(void **state)
{
    struct llm_kernels all[TABLES_MAX];
    const size_t n = tables(all);
    uint16_t out[16 * 32];
    float x[2] = {0x1.01p0f, 0x1.03p0f}; /* both half-way: to 1 and to 1 + 2^-6 */

    (void)state;
    for (size_t i = 0; i < n; i++) {
        memset(out, 0xff, sizeof out);
        all[i].to_bf16(x, 2, 1, out);
        assert_int_equal(out[0], 0x3f80);
        assert_int_equal(out[32], 0x3f82);
        for (size_t j = 0; j < BASE_ARRAY_LEN(out); j++)
            assert_true(j % 32 == 0 && j <= 32 ? true : out[j] == 0);
    }
}

#ifdef LLM_TEST_TILES
struct tile_config {
    uint8_t palette, start, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
};

static void expect_fault(void)
{
    assert_non_null(tile_emulated_fault());
}

/* The emulation refuses what a processor refuses: else a test on it would prove nothing. */
static void emulation_faults(void **state)
{
    const struct tile_config good = {.palette = 1, .colsb = {8, 8, 8, 64}, .rows = {2, 2, 2, 16}};
    struct tile_config c;
    uint8_t memory[16 * 64] = {0};

    (void)state;
    tile_emulated_zero(0);
    expect_fault(); /* nothing is configured */
    for (int i = 0; i < 5; i++) {
        c = good;
        c.palette = i == 0 ? 2 : 1;
        c.rows[0] = i == 1 ? 17 : i == 4 ? 0 : 2;
        c.colsb[1] = i == 2 ? 65 : 8;
        c.reserved[13] = i == 3;
        tile_emulated_config(&c);
        expect_fault();
        assert_false(tile_emulated_live());
    }
    tile_emulated_config(&good);
    tile_emulated_dot_bf16(0, 1, 1);
    expect_fault();
    tile_emulated_dot_bf16(0, 1, 3);
    expect_fault();
    tile_emulated_load(4, memory, 64);
    expect_fault();
    tile_emulated_store(7, memory, 64);
    expect_fault();
    tile_emulated_dot_bf16(0, 1, 2);
    assert_null(tile_emulated_fault());
    tile_emulated_release();
    tile_emulated_dot_bf16(0, 1, 2);
    expect_fault();
}

/* 2 rows of 2 pairs by 2 pairs of 2 columns, by hand; the third product is below the least normal number. */
static void emulation_multiplies(void **state)
{
    const struct tile_config config = {.palette = 1, .colsb = {8, 8, 8}, .rows = {2, 2, 2}};
    const float a[2][4] = {{1, 2, 3, 4}, {0.5f, -1, 0, 0x1p-127f}}, b[2][4] = {{1, 10, 2, 20}, {3, 30, 4, 1}};
    uint16_t ta[2][4], tb[2][4];
    float c[2][2] = {{1, 2}, {3, 4}};

    (void)state;
    for (size_t i = 0; i < 8; i++) {
        ta[i / 4][i % 4] = tile_emulated_bf16(a[i / 4][i % 4]);
        tb[i / 4][i % 4] = tile_emulated_bf16(b[i / 4][i % 4]);
    }
    tile_emulated_config(&config);
    tile_emulated_load(0, c, 8);
    tile_emulated_load(1, ta, 8);
    tile_emulated_load(2, tb, 8);
    tile_emulated_dot_bf16(0, 1, 2);
    tile_emulated_store(0, c, 8);
    tile_emulated_release();
    no_fault();
    assert_true(c[0][0] == 1 + 1 + 20 + 9 + 120 && c[0][1] == 2 + 2 + 40 + 12 + 4);
    assert_true(c[1][0] == 3 + 0.5f - 10 && c[1][1] == 4 + 1 - 20);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_right),     cmocka_unit_test(batches_change_nothing),
        cmocka_unit_test(floats_are_not_rounded), cmocka_unit_test(rows_round_to_even),
#ifdef LLM_TEST_TILES
        cmocka_unit_test(emulation_faults),       cmocka_unit_test(emulation_multiplies),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
