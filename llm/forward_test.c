/* SPDX-License-Identifier: Apache-2.0
 *
 * forward_test.c - the transformer of LLaMA against a slow float64 reference, in all shapes that are supported, and
 * the promises of llm.h: prefill equals decode, threads and neighbours change nothing.
 */
#include "test_reference.h"

static void float_models_follow_the_reference(void **state)
{
    struct tg_shape s = tg_defaults();

    (void)state;
    expect_close(&s, 1e-3); /* keys and values are kept as binary16: 2^-11 each */
    s.n_kv_heads = 4;
    expect_close(&s, 1e-3);
    s.n_kv_heads = 1;
    s.tied = true;
    expect_close(&s, 1e-3);
    s.rope_freqs = true;
    s.n_embd = 48;
    s.n_ff = 80;
    s.n_heads = 6;
    s.n_kv_heads = 3;
    expect_close(&s, 1e-3);
    s.type = GGUF_TENSOR_F16;
    expect_close(&s, 1e-3);
    s = tg_defaults();
    s.n_embd = 128;
    s.n_heads = 2;
    s.n_kv_heads = 1;
    s.n_ff = 96;
    s.type = GGUF_TENSOR_F16;
    expect_close(&s, 1e-3);
}

static void rope_freqs_matter(void **state)
{
    struct tg_shape s = tg_defaults();
    double *want = base_alloc(TOKENS * TG_SPM_COUNT, sizeof *want);

    (void)state;
    reference(&s, want, NULL);
    s.rope_freqs = true;
    float *got = run_logits(&s, NULL);
    assert_true(distance(got, want) > 1e-3);
    base_free(got);
    base_free(want);
}

static void q8_is_close(void **state)
{
    struct tg_shape s = tg_defaults();

    (void)state;
    s.type = GGUF_TENSOR_Q8_0;
    expect_close(&s, 5e-2); /* weights and activations both rounded to 8 bits */
    s.n_embd = 96;
    s.n_heads = 3;
    s.n_kv_heads = 3;
    expect_close(&s, 5e-2); /* weights and activations both rounded to 8 bits */
}

static void threads_change_nothing(void **state)
{
    static const uint32_t types[] = {GGUF_TENSOR_Q8_0, GGUF_TENSOR_F16, GGUF_TENSOR_F32};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(types); i++) {
        struct tg_shape s = tg_defaults();
        s.type = types[i];
        s.n_embd = 128;
        s.n_ff = 640; /* enough work that it is shared out */
        float *one = run_logits(&s, &(struct llm_model_params){.threads = 1});
        for (unsigned threads = 2; threads <= 5; threads += 3) {
            float *more = run_logits(&s, &(struct llm_model_params){.threads = threads});
            assert_memory_equal(one, more, TOKENS * TG_SPM_COUNT * sizeof *one);
            base_free(more);
        }
        base_free(one);
    }
}

/* Logits of all tokens in chunks of 1 to `most`, beside rows of another sequence where there is room for them. */
static void run_chunks(struct llm_model *m, uint32_t most, bool prefill, float *got)
{
    struct llm_kv a, b;

    assert_int_equal(llm_kv_init(m, TOKENS, &a, NULL), DBE_OK);
    assert_int_equal(llm_kv_init(m, TOKENS, &b, NULL), DBE_OK);
    for (uint32_t at = 0, n; at < TOKENS; at += n) {
        struct llm_row rows[16];
        n = BASE_MIN(at % most + 1, TOKENS - at);
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = (struct llm_row){&a, at + i, tokens[at + i], got + (at + i) * TG_SPM_COUNT, prefill};
            rows[n + i] = (struct llm_row){&b, at + i, tokens[TOKENS - 1 - at - i], NULL, prefill};
        }
        assert_int_equal(llm_forward(m, rows, most > 1 ? 2 * n : n, NULL), DBE_OK);
    }
    llm_kv_free(m, &a);
    llm_kv_free(m, &b);
}

/* One row at a time, in uneven chunks beside rows of another sequence, or all at once: the same bits, of rows of a
 * prompt as of others. */
static void chunks_and_neighbours_change_nothing(void **state)
{
    struct tg_shape s = tg_defaults();
    struct llm_model *m;
    float *one = base_alloc(TOKENS * TG_SPM_COUNT, sizeof *one), *got = base_alloc(TOKENS * TG_SPM_COUNT, sizeof *got);
    float *all;

    (void)state;
    s.type = GGUF_TENSOR_Q8_0;
    all = run_logits(&s, NULL);
    m = tg_load(&s, NULL);
    for (int prefill = 0; prefill < 2; prefill++) {
        run_chunks(m, 1, prefill, one);
        run_chunks(m, 7, prefill, got);
        assert_memory_equal(got, one, TOKENS * TG_SPM_COUNT * sizeof *got);
    }
    assert_memory_equal(got, all, TOKENS * TG_SPM_COUNT * sizeof *got); /* llm_logits computes rows of a prompt */
    llm_model_free(m);
    base_free(all);
    base_free(one);
    base_free(got);
}

static void cancel_and_bounds(void **state)
{
    struct tg_shape s = tg_defaults();
    struct llm_model *m = tg_load(&s, NULL);
    struct llm_kv kv;
    atomic_bool cancel = true;

    (void)state;
    assert_int_equal(llm_kv_init(m, 4, &kv, NULL), DBE_OK);
    assert_int_equal(llm_forward(m, &(struct llm_row){&kv, 0, 1, NULL, false}, 1, &cancel), DBE_E_CANCELLED);
    assert_int_equal(llm_forward(m, &(struct llm_row){&kv, 4, 1, NULL, false}, 1, NULL), DBE_E_STATE);
    llm_kv_free(m, &kv);
    llm_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_models_follow_the_reference),
        cmocka_unit_test(rope_freqs_matter),
        cmocka_unit_test(q8_is_close),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(chunks_and_neighbours_change_nothing),
        cmocka_unit_test(cancel_and_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
