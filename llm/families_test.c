/* SPDX-License-Identifier: Apache-2.0
 *
 * families_test.c - every family of models against the float64 reference, with all that its files may say; and that
 * what a file says matters.
 */
#include "test_reference.h"

/* Keys and values are kept as binary16: 2^-11 each. */
#define CLOSE 1e-3

static struct tg_shape family(const char *arch)
{
    struct tg_shape s = tg_defaults();

    s.arch = arch;
    if (strcmp(arch, "gemma2") == 0) {
        s.tied = true;
        s.n_layers = 3;
        s.head_dim = 16;
        s.attn_softcap = 2;
        s.final_softcap = 5;
        s.window = 6;
    }
    if (strcmp(arch, "qwen3") == 0)
        s.head_dim = 24;
    if (strcmp(arch, "phi3") == 0)
        s.fused = true;
    if (strcmp(arch, "qwen2") == 0)
        s.biases = true;
    return s;
}

/* Close to the reference, and farther from what the engine computes for `other`. */
static void expect_matters(const struct tg_shape *s, const struct tg_shape *other)
{
    double *want = base_alloc(TOKENS * TG_SPM_COUNT, sizeof *want);
    float *got;

    expect_close(s, CLOSE);
    reference(s, want, NULL);
    got = run_logits(other, NULL);
    assert_true(distance(got, want) > 5 * CLOSE);
    base_free(got);
    base_free(want);
}

static void families_follow_the_reference(void **state)
{
    static const char *const archs[] = {"llama", "qwen2", "qwen3", "gemma2", "phi3"};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(archs); i++) {
        struct tg_shape s = family(archs[i]);
        expect_close(&s, CLOSE);
        s.tied = true;
        expect_close(&s, CLOSE);
        s.n_kv_heads = 1;
        s.type = GGUF_TENSOR_F16;
        expect_close(&s, CLOSE);
    }
}

static void biases_and_fused_tensors(void **state)
{
    static const char *const archs[] = {"llama", "qwen2", "qwen3", "phi3"};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(archs); i++) {
        struct tg_shape s = family(archs[i]), without;
        s.biases = true;
        without = s;
        without.biases = false;
        expect_matters(&s, &without);
        s.fused = !s.fused;
        expect_close(&s, CLOSE);
        s.n_kv_heads = 4;
        expect_close(&s, CLOSE);
    }
}

static void windows(void **state)
{
    static const char *const archs[] = {"llama", "phi3", "gemma2"};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(archs); i++) {
        struct tg_shape s = family(archs[i]), wider;
        for (s.window = 1; s.window < 12; s.window += 5) {
            wider = s;
            wider.window++;
            expect_matters(&s, &wider);
        }
        s.window = TOKENS;
        expect_close(&s, CLOSE);
    }
    struct tg_shape s = family("gemma2"), other = s;
    s.window_every = 3;
    expect_matters(&s, &other);
}

static void soft_caps(void **state)
{
    struct tg_shape s = family("gemma2"), other = s;

    (void)state;
    other.attn_softcap = 50;
    expect_matters(&s, &other);
    other = s;
    other.final_softcap = 30;
    expect_matters(&s, &other);
    s.n_layers = 46; /* 27B */
    expect_close(&s, CLOSE);
}

/* Each scaling on both kinds of pairs. */
static void rope_scalings(void **state)
{
    static const char *const archs[] = {"llama", "qwen2"};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(archs); i++) {
        const struct tg_shape plain = family(archs[i]);
        struct tg_shape s = plain, other;
        s.rope_factor = 4; /* without a type: linear */
        expect_matters(&s, &plain);
        s.rope_type = "linear";
        expect_close(&s, CLOSE);
        s.rope_type = "none";
        expect_close(&s, CLOSE);
        s.rope_type = "yarn";
        s.n_ctx_orig = 16;
        expect_matters(&s, &plain);
        other = s;
        s.beta_fast = 3;
        s.beta_slow = 0.25f;
        expect_matters(&s, &other);
        other = s;
        s.yarn_ext = 0.5f;
        expect_matters(&s, &other);
        other = s;
        s.yarn_attn = 1.5f;
        expect_matters(&s, &other);
        other = s;
        s.rope_attn = 1.25f;
        expect_matters(&s, &other);
    }
}

static void rope_factors(void **state)
{
    static const char *const archs[] = {"llama", "phi3"};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(archs); i++) {
        const struct tg_shape plain = family(archs[i]);
        struct tg_shape s = plain;
        s.rope_type = "longrope";
        s.rope_factors = true;
        s.rope_attn = 1.2f;
        s.n_ctx_orig = 64; /* as long as the context: the short factors */
        expect_matters(&s, &plain);
        s.n_ctx_orig = 32;
        expect_close(&s, CLOSE);
    }
    struct tg_shape s = family("llama");
    s.rope_freqs = true;
    expect_close(&s, CLOSE);
}

static void partial_rope(void **state)
{
    static const char *const archs[] = {"llama", "phi3"};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(archs); i++) {
        struct tg_shape s = family(archs[i]), all = s;
        s.rope_dims = 6;
        expect_matters(&s, &all);
    }
}

/* |got - want| for vectors of length 1, the wanted one pooled from the reference's states. */
static double embedding_distance(const struct tg_shape *s, size_t first, size_t end, const float *got)
{
    double *logits = base_alloc(TOKENS * TG_SPM_COUNT, sizeof *logits), want[WIDEST] = {0}, norm = 0, diff = 0;
    double *states = base_alloc(TOKENS * (size_t)s->n_embd, sizeof *states);

    reference(s, logits, states);
    for (size_t t = first; t < end; t++)
        for (size_t i = 0; i < s->n_embd; i++)
            want[i] += states[t * s->n_embd + i];
    for (size_t i = 0; i < s->n_embd; i++)
        norm += want[i] * want[i];
    for (size_t i = 0; i < s->n_embd; i++)
        diff += pow(want[i] / sqrt(norm) - (double)got[i], 2);
    base_free(logits);
    base_free(states);
    return sqrt(diff);
}

static void embeddings(void **state)
{
    static const struct {
        uint32_t pooling;
        size_t first, end;
    } cases[] = {{0, 0, TOKENS}, {1, 0, TOKENS}, {2, 0, 1}, {3, TOKENS - 1, TOKENS}};
    static const char *const archs[] = {"llama", "qwen3", "gemma2"};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(archs) * BASE_ARRAY_LEN(cases); i++) {
        struct tg_shape s = family(archs[i / BASE_ARRAY_LEN(cases)]);
        const size_t c = i % BASE_ARRAY_LEN(cases);
        float got[WIDEST];
        s.pooling = cases[c].pooling;
        struct llm_model *m = tg_load(&s, NULL);
        assert_int_equal(llm_embed(m, tokens, TOKENS, got, NULL), DBE_OK);
        assert_int_equal(llm_model_kv_used_bytes(m), 0);
        assert_true(embedding_distance(&s, cases[c].first, cases[c].end, got) < CLOSE);
        llm_model_free(m);
    }
}

/* More tokens than one pass takes. */
static void long_embeddings(void **state)
{
    enum { LONG = LLM_BATCH_MAX + 77 };
    struct tg_shape s = family("llama");
    int32_t text[LONG];
    float *all = base_alloc((size_t)LONG * s.n_embd, sizeof *all), got[WIDEST], last[WIDEST];

    (void)state;
    s.n_ctx = LONG;
    s.n_layers = 1;
    for (size_t i = 0; i < LONG; i++)
        text[i] = (int32_t)(i * 7 % TG_SPM_COUNT);
    for (s.pooling = 1; s.pooling <= 3; s.pooling += 2) {
        struct llm_model *m = tg_load(&s, NULL);
        assert_int_equal(llm_embed(m, text, LONG, s.pooling == 1 ? got : last, NULL), DBE_OK);
        llm_model_free(m);
    }
    s.pooling = 0;
    struct llm_model *m = tg_load(&s, NULL);
    struct llm_kv kv;
    double sum[WIDEST] = {0}, end[WIDEST], norm[2] = {0}, diff = 0;
    assert_int_equal(llm_kv_init(m, LONG, &kv, NULL), DBE_OK);
    for (uint32_t i = 0; i < LONG; i++) { /* one by one */
        assert_int_equal(llm_forward_states(m, &(struct llm_row){&kv, i, text[i], NULL, true}, 1, all + i * s.n_embd),
                         DBE_OK);
        for (size_t k = 0; k < s.n_embd; k++)
            sum[k] += (double)(end[k] = (double)all[i * s.n_embd + k]);
    }
    for (size_t k = 0; k < s.n_embd; k++) {
        norm[0] += sum[k] * sum[k];
        norm[1] += end[k] * end[k];
    }
    for (size_t k = 0; k < s.n_embd; k++)
        diff += fabs(sum[k] / sqrt(norm[0]) - (double)got[k]) + fabs(end[k] / sqrt(norm[1]) - (double)last[k]);
    assert_true(diff < 1e-4);
    llm_kv_free(m, &kv);
    llm_model_free(m);
    base_free(all);
}

static void what_cannot_be_embedded(void **state)
{
    struct tg_shape s = family("llama");
    struct llm_model *m = tg_load(&s, NULL);
    int32_t many[65] = {0};
    float out[WIDEST] = {42};

    (void)state;
    assert_int_equal(llm_embed(m, many, 0, out, NULL), DBE_E_ARGUMENT);
    assert_int_equal(llm_embed(m, many, BASE_ARRAY_LEN(many), out, NULL), DBE_E_CONTEXT);
    assert_int_equal(llm_embed(m, &(int32_t){TG_SPM_COUNT}, 1, out, NULL), DBE_E_ARGUMENT);
    assert_int_equal(llm_embed(m, &(int32_t){-1}, 1, out, NULL), DBE_E_ARGUMENT);
    for (unsigned n = 1; n <= 2; n++) {
        base_fail_alloc_at(n);
        assert_int_equal(llm_embed(m, many, 3, out, NULL), DBE_E_NOMEM);
        base_fail_alloc_at(0);
    }
    assert_true(out[0] == 42.0f);
    llm_model_free(m);
}

static void expect_refused(const struct tg_shape *s, const char *says)
{
    struct base_buf file;
    struct llm_model *m;
    struct dbe_diag diag = {0};

    tg_build(s, &file, NULL);
    assert_int_equal(llm_model_load_mem(file.data, file.len, NULL, &m, &diag), DBE_E_MODEL);
    if (!strstr(diag.text, says))
        fail_msg("\"%s\" does not say \"%s\"", diag.text, says);
    base_buf_free(&file);
}

static void what_a_family_does_not_have_is_refused(void **state)
{
    struct tg_shape s = family("qwen2");

    (void)state;
    s.window = 8;
    expect_refused(&s, "key qwen2.attention.sliding_window");
    s = family("llama");
    s.attn_softcap = 10;
    expect_refused(&s, "key llama.attn_logit_softcapping");
    s.attn_softcap = 0;
    s.window_every = 2;
    expect_refused(&s, "key llama.attention.sliding_window_pattern");
    s = family("qwen3");
    s.rope_freqs = true;
    expect_refused(&s, "tensor rope_freqs.weight: unknown");
    s = family("gemma2");
    s.tied = false;
    expect_refused(&s, "tensor output.weight: unknown");
    s = family("gemma2");
    s.rope_factors = true;
    expect_refused(&s, "tensor rope_factors_long.weight: unknown");
    s = family("phi3");
    s.extra_tensor = "blk.1.ffn_gate.weight";
    expect_refused(&s, "tensor blk.1.ffn_gate.weight: unknown");
}

static void hostile_numbers_are_refused(void **state)
{
    struct tg_shape s = family("llama");

    (void)state;
    s.rope_type = "dynamic";
    expect_refused(&s, "key llama.rope.scaling.type: \"dynamic\"");
    s.rope_type = "yarn";
    s.n_ctx_orig = 16;
    s.rope_factor = 1e30f;
    expect_refused(&s, "rope: scaling factor");
    s.rope_factor = 4;
    s.beta_fast = INFINITY;
    expect_refused(&s, "rope: yarn beta_fast");
    s.beta_fast = 0;
    s.rope_attn = 1e-30f;
    expect_refused(&s, "rope: attention factor");
    s = family("gemma2");
    s.final_softcap = 1e-30f;
    expect_refused(&s, "key gemma2.final_logit_softcapping");
    s = family("llama");
    s.rope_dims = 7;
    expect_refused(&s, "key llama.rope.dimension_count: 7 is odd");
    s.rope_dims = 0;
    s.pooling = 4;
    expect_refused(&s, "key llama.pooling_type: 4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_follow_the_reference),
        cmocka_unit_test(biases_and_fused_tensors),
        cmocka_unit_test(windows),
        cmocka_unit_test(soft_caps),
        cmocka_unit_test(rope_scalings),
        cmocka_unit_test(rope_factors),
        cmocka_unit_test(partial_rope),
        cmocka_unit_test(embeddings),
        cmocka_unit_test(long_embeddings),
        cmocka_unit_test(what_cannot_be_embedded),
        cmocka_unit_test(what_a_family_does_not_have_is_refused),
        cmocka_unit_test(hostile_numbers_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
