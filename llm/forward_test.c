/* SPDX-License-Identifier: Apache-2.0
 *
 * forward_test.c - the transformer against a slow float64 reference written here, in all shapes that are supported,
 * and the promises of llm.h: prefill equals decode, threads and neighbours change nothing.
 */
#include "test_gguf.h"

#include "model.h"

enum { TOKENS = 23, WIDEST = 128 };

static const int32_t tokens[TOKENS] = {1,   5,   262, 263, 264, 270, 271, 1,   80,  90,  100, 288,
                                       289, 290, 259, 260, 33,  34,  35,  280, 281, 282, 283};

/* ---- reference --------------------------------------------------------------------------------------------------- */

static double weight(const struct tg_shape *s, const char *name, size_t row, size_t column)
{
    tg_value_fn *value = s->value ? s->value : tg_random;
    float v = value(s->value_ctx, name, row, column);

    if (s->type == GGUF_TENSOR_F16 && !strstr(name, "norm") && !strstr(name, "freqs"))
        v = half_to_f32(half_from_f32(v));
    return (double)v;
}

static void ref_norm(const struct tg_shape *s, const char *name, const double *x, double *out)
{
    double sum = 0;

    for (size_t i = 0; i < s->n_embd; i++)
        sum += x[i] * x[i];
    for (size_t i = 0; i < s->n_embd; i++)
        out[i] = x[i] / sqrt(sum / s->n_embd + (double)1e-5f) * weight(s, name, 0, i);
}

static void ref_mul(const struct tg_shape *s, const char *name, size_t rows, size_t columns, const double *x,
                    double *out)
{
    for (size_t r = 0; r < rows; r++) {
        out[r] = 0;
        for (size_t c = 0; c < columns; c++)
            out[r] += weight(s, name, r, c) * x[c];
    }
}

static void ref_rope(const struct tg_shape *s, size_t pos, double *x, size_t heads)
{
    const size_t d = s->n_embd / s->n_heads;

    for (size_t h = 0; h < heads; h++)
        for (size_t i = 0; i < d / 2; i++) {
            double angle = (double)pos * pow(10000.0, -2.0 * (double)i / (double)d);
            if (s->rope_freqs)
                angle /= weight(s, "rope_freqs.weight", 0, i);
            const double a = x[h * d + 2 * i], b = x[h * d + 2 * i + 1];
            x[h * d + 2 * i] = a * cos(angle) - b * sin(angle);
            x[h * d + 2 * i + 1] = a * sin(angle) + b * cos(angle);
        }
}

struct ref_cache {
    double k[TOKENS][WIDEST], v[TOKENS][WIDEST];
};

static void ref_attend(const struct tg_shape *s, const struct ref_cache *cache, size_t pos, const double *q,
                       double *out)
{
    const size_t d = s->n_embd / s->n_heads, group = s->n_heads / s->n_kv_heads;
    double p[TOKENS];

    for (size_t h = 0; h < s->n_heads; h++) {
        const size_t at = h / group * d;
        double max = -INFINITY, sum = 0;
        for (size_t t = 0; t <= pos; t++) {
            p[t] = 0;
            for (size_t i = 0; i < d; i++)
                p[t] += q[h * d + i] * cache->k[t][at + i] / sqrt((double)d);
            max = fmax(max, p[t]);
        }
        for (size_t t = 0; t <= pos; t++)
            sum += p[t] = exp(p[t] - max);
        for (size_t i = 0; i < d; i++) {
            out[h * d + i] = 0;
            for (size_t t = 0; t <= pos; t++)
                out[h * d + i] += p[t] / sum * cache->v[t][at + i];
        }
    }
}

static void ref_layer(const struct tg_shape *s, unsigned layer, size_t pos, struct ref_cache *cache, double *x)
{
    const size_t n = s->n_embd, kv = n / s->n_heads * s->n_kv_heads;
    double h[WIDEST], q[WIDEST], a[WIDEST], gate[WIDEST], up[WIDEST], out[WIDEST];
    char name[64];

#define REF_NAME(part) (snprintf(name, sizeof name, "blk.%u." part ".weight", layer), name)
    ref_norm(s, REF_NAME("attn_norm"), x, h);
    ref_mul(s, REF_NAME("attn_q"), n, n, h, q);
    ref_mul(s, REF_NAME("attn_k"), kv, n, h, cache->k[pos]);
    ref_mul(s, REF_NAME("attn_v"), kv, n, h, cache->v[pos]);
    ref_rope(s, pos, q, s->n_heads);
    ref_rope(s, pos, cache->k[pos], s->n_kv_heads);
    ref_attend(s, cache, pos, q, a);
    ref_mul(s, REF_NAME("attn_output"), n, n, a, out);
    for (size_t i = 0; i < n; i++)
        x[i] += out[i];
    ref_norm(s, REF_NAME("ffn_norm"), x, h);
    ref_mul(s, REF_NAME("ffn_gate"), s->n_ff, n, h, gate);
    ref_mul(s, REF_NAME("ffn_up"), s->n_ff, n, h, up);
    for (size_t i = 0; i < s->n_ff; i++)
        gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    ref_mul(s, REF_NAME("ffn_down"), n, s->n_ff, gate, out);
    for (size_t i = 0; i < n; i++)
        x[i] += out[i];
#undef REF_NAME
}

static void reference(const struct tg_shape *s, double *logits)
{
    struct ref_cache *cache = base_alloc(s->n_layers, sizeof *cache);
    double x[WIDEST], h[WIDEST];

    for (size_t pos = 0; pos < TOKENS; pos++) {
        for (size_t i = 0; i < s->n_embd; i++)
            x[i] = weight(s, "token_embd.weight", (size_t)tokens[pos], i);
        for (unsigned layer = 0; layer < s->n_layers; layer++)
            ref_layer(s, layer, pos, &cache[layer], x);
        ref_norm(s, "output_norm.weight", x, h);
        ref_mul(s, s->tied ? "token_embd.weight" : "output.weight", TG_SPM_COUNT, s->n_embd, h,
                logits + pos * TG_SPM_COUNT);
    }
    base_free(cache);
}

/* ---- comparisons ------------------------------------------------------------------------------------------------- */

static float *run_logits(const struct tg_shape *s, const struct llm_model_params *params)
{
    struct llm_model *m = tg_load(s, params);
    float *out = base_alloc(TOKENS * TG_SPM_COUNT, sizeof *out);

    assert_int_equal(llm_logits(m, tokens, TOKENS, out, NULL), DBE_OK);
    assert_int_equal(llm_model_kv_used_bytes(m), 0);
    llm_model_free(m);
    return out;
}

/* |got - want| / |want|, over all logits. */
static double distance(const float *got, const double *want)
{
    double diff = 0, norm = 0;

    for (size_t i = 0; i < TOKENS * TG_SPM_COUNT; i++) {
        diff += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return sqrt(diff / norm);
}

static void expect_close(const struct tg_shape *s, double bound)
{
    double *want = base_alloc(TOKENS * TG_SPM_COUNT, sizeof *want);

    reference(s, want);
    for (const struct llm_kernels *const *k = llm_kernels_all(); *k; k++) {
        const struct llm_model_params params = {.threads = 2, .kernel = (*k)->name};
        if (!(*k)->usable())
            continue;
        float *got = run_logits(s, &params);
        const double d = distance(got, want);
        if (!(d <= bound))
            fail_msg("%s: %g from the reference, %g allowed", (*k)->name, d, bound);
        base_free(got);
    }
    base_free(want);
}

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
    reference(&s, want);
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

/* One row at a time, or in uneven chunks, or beside rows of another sequence: the same bits. */
static void chunks_and_neighbours_change_nothing(void **state)
{
    struct tg_shape s = tg_defaults();
    struct llm_model *m;
    struct llm_kv a, b;
    float *want, *got = base_alloc(TOKENS * TG_SPM_COUNT, sizeof *got);

    (void)state;
    s.type = GGUF_TENSOR_Q8_0;
    want = run_logits(&s, NULL);
    m = tg_load(&s, NULL);
    assert_int_equal(llm_kv_init(m, TOKENS, &a, NULL), DBE_OK);
    assert_int_equal(llm_kv_init(m, TOKENS, &b, NULL), DBE_OK);
    for (uint32_t at = 0, n; at < TOKENS; at += n) {
        struct llm_row rows[16];
        n = BASE_MIN(at % 7 + 1, TOKENS - at);
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = (struct llm_row){&a, at + i, tokens[at + i], got + (at + i) * TG_SPM_COUNT, false};
            rows[n + i] = (struct llm_row){&b, at + i, tokens[TOKENS - 1 - at - i], NULL, false};
        }
        assert_int_equal(llm_forward(m, rows, 2 * n, NULL), DBE_OK);
    }
    assert_memory_equal(got, want, TOKENS * TG_SPM_COUNT * sizeof *got);
    llm_kv_free(m, &a);
    llm_kv_free(m, &b);
    llm_model_free(m);
    base_free(want);
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
