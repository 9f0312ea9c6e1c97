/* SPDX-License-Identifier: Apache-2.0
 *
 * quants_test.c - rows of every type against values known beforehand; scales that are not finite; row lengths.
 */
#include "test_gguf.h"

#include "quants.h"

struct known {
    size_t at;
    float value;
};

/* Byte i of a block is 73 i + 29; scales are 0.5, dmin is 0.25. The values were computed by an implementation of the
 * formats in another language. */
static const struct {
    uint32_t type;
    size_t values, bytes;
    struct known known[16];
    size_t count;
    double sum;
} cases[] = {
    {GGUF_TENSOR_Q8_0, 32, 34, {{0, -40.5f}, {1, -4.0f}, {15, -5.0f}, {16, 31.5f}, {31, -61.0f}}, 5, -216.0},
    {GGUF_TENSOR_Q4_0, 32, 18, {{0, 3.5f}, {1, 0.0f}, {15, -1.0f}, {16, 1.0f}, {31, 3.5f}}, 5, 1.5},
    {GGUF_TENSOR_Q4_K,
     256,
     144,
     {{0, -2.75f},
      {1, -6.25f},
      {15, -7.25f},
      {16, -2.75f},
      {31, -7.25f},
      {32, 38.5f},
      {63, 28.5f},
      {64, 109.75f},
      {95, 24.25f},
      {127, 140.0f},
      {128, 156.5f},
      {160, 226.75f},
      {200, 135.25f},
      {233, 12.5f},
      {255, 22.5f}},
     15,
     19500.0},
    {GGUF_TENSOR_Q5_K,
     256,
     176,
     {{0, 5.25f},
      {1, -6.25f},
      {15, -7.25f},
      {16, 5.25f},
      {31, -7.25f},
      {32, 48.5f},
      {63, 38.5f},
      {64, 261.75f},
      {95, 176.25f},
      {127, 168.0f},
      {128, 156.5f},
      {160, 260.75f},
      {200, 607.25f},
      {233, 16.5f},
      {255, 26.5f}},
     15,
     41652.0},
    {GGUF_TENSOR_Q6_K,
     256,
     210,
     {{0, 52.5f},
      {1, -105.0f},
      {15, 490.0f},
      {16, -57.0f},
      {31, -532.0f},
      {32, 1609.5f},
      {63, 432.0f},
      {64, -7.5f},
      {95, 1147.0f},
      {127, 270.0f},
      {128, -55.5f},
      {160, -1058.5f},
      {200, -803.0f},
      {233, 296.0f},
      {255, 90.0f}},
     15,
     7266.0},
};

static void make_block(size_t c, uint8_t *block)
{
    for (size_t i = 0; i < cases[c].bytes; i++)
        block[i] = (uint8_t)(i * 73 + 29);
    uint8_t *d = block + (cases[c].type == GGUF_TENSOR_Q6_K ? 208 : 0);
    d[0] = 0;
    d[1] = 0x38;
    if (cases[c].type == GGUF_TENSOR_Q4_K || cases[c].type == GGUF_TENSOR_Q5_K) {
        d[2] = 0;
        d[3] = 0x34;
    }
}

static void known_blocks(void **state)
{
    uint8_t two[2 * 256];
    float out[2 * QUANT_SUPER];

    (void)state;
    for (size_t c = 0; c < BASE_ARRAY_LEN(cases); c++) {
        const struct quant_type *t = quant_type(cases[c].type);
        double sum = 0;
        assert_int_equal(t->values, cases[c].values);
        assert_int_equal(t->bytes, cases[c].bytes);
        assert_int_equal(quant_row_bytes(cases[c].type, 2 * cases[c].values), 2 * cases[c].bytes);
        make_block(c, two);
        memcpy(two + t->bytes, two, t->bytes);
        quant_row_f32(cases[c].type, two, 2 * (size_t)t->values, out);
        for (size_t i = 0; i < cases[c].count; i++)
            assert_true(out[cases[c].known[i].at] == cases[c].known[i].value);
        for (size_t i = 0; i < t->values; i++)
            sum += (double)out[i];
        assert_true(sum == cases[c].sum);
        assert_memory_equal(out, out + t->values, t->values * sizeof *out);
    }
}

static void plain_values(void **state)
{
    const uint8_t f32[] = {0, 0, 0xc0, 0x3f}, f16[] = {0, 0x3e}, bf16[] = {0xc0, 0x3f};
    float out;

    (void)state;
    quant_row_f32(GGUF_TENSOR_F32, f32, 1, &out);
    assert_true(out == 1.5f);
    quant_row_f32(GGUF_TENSOR_F16, f16, 1, &out);
    assert_true(out == 1.5f);
    quant_row_f32(GGUF_TENSOR_BF16, bf16, 1, &out);
    assert_true(out == 1.5f);
}

/* A scale that is infinite or NaN is seen in any block of the row. */
static void scales_must_be_finite(void **state)
{
    static const uint16_t bad[] = {0x7c00, 0xfc00, 0x7e01};
    uint8_t two[2 * 256];

    (void)state;
    for (size_t c = 0; c < BASE_ARRAY_LEN(cases); c++)
        for (size_t b = 0; b < BASE_ARRAY_LEN(bad); b++)
            for (size_t block = 0; block < 2; block++) {
                make_block(c, two);
                make_block(c, two + cases[c].bytes);
                assert_true(quant_row_finite(cases[c].type, two, 2 * cases[c].values));
                uint8_t *at = two + block * cases[c].bytes;
                at += cases[c].type == GGUF_TENSOR_Q6_K ? 208 : cases[c].type == GGUF_TENSOR_Q4_K ? 2 : 0;
                memcpy(at, &bad[b], sizeof bad[b]);
                assert_false(quant_row_finite(cases[c].type, two, 2 * cases[c].values));
            }
    assert_false(quant_row_finite(GGUF_TENSOR_F32, (const uint8_t[]){0, 0, 0x80, 0x7f}, 1));
    assert_false(quant_row_finite(GGUF_TENSOR_F16, (const uint8_t[]){1, 0x7c}, 1));
    assert_false(quant_row_finite(GGUF_TENSOR_BF16, (const uint8_t[]){0x80, 0xff}, 1));
    assert_true(quant_row_finite(GGUF_TENSOR_BF16, (const uint8_t[]){0x7f, 0x7f}, 1));
}

static void other_types_are_none(void **state)
{
    (void)state;
    for (uint32_t type = 0; type < 256; type++) {
        const bool ours = type <= 2 || type == 8 || (type >= 12 && type <= 14) || type == 30;
        assert_int_equal(quant_type(type) != NULL, ours);
        assert_int_equal(quant_row_bytes(type, 256) != 0, ours);
    }
    assert_null(quant_type(UINT32_MAX));
    assert_false(quant_row_finite(3, (const uint8_t[]){0}, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_blocks),
        cmocka_unit_test(plain_values),
        cmocka_unit_test(scales_must_be_finite),
        cmocka_unit_test(other_types_are_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
