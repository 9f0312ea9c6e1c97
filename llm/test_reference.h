/* SPDX-License-Identifier: Apache-2.0
 *
 * test_reference.h - the transformer of every family once more, slowly and in float64, from the weights of test_gguf.h;
 * and how far the engine is from it.
 */
#ifndef LLM_TEST_REFERENCE_H
#define LLM_TEST_REFERENCE_H

#include "test_gguf.h"

#include "model.h"

enum { TOKENS = 23, WIDEST = 160 };

static const int32_t tokens[TOKENS] = {1,   5,   262, 263, 264, 270, 271, 1,   80,  90,  100, 288,
                                       289, 290, 259, 260, 33,  34,  35,  280, 281, 282, 283};

static inline double weight(const struct tg_shape *s, const char *name, size_t row, size_t column)
{
    tg_value_fn *value = s->value ? s->value : tg_random;
    float v = value(s->value_ctx, name, row, column);

    if (s->type == GGUF_TENSOR_F16 && strstr(name, ".weight") && !strstr(name, "norm") && !strstr(name, "rope"))
        v = half_to_f32(half_from_f32(v));
    return (double)v;
}

static inline void ref_norm(const struct tg_shape *s, const char *name, size_t n, const double *x, double *out)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] / sqrt(sum / (double)n + (double)1e-5f) * weight(s, name, 0, i);
}

/* Rows of a tensor from `first` on; `bias` (NULL: none) is indexed by the same rows. */
static inline void ref_mul(const struct tg_shape *s, const char *name, const char *bias, size_t first, size_t rows,
                           size_t columns, const double *x, double *out)
{
    for (size_t r = 0; r < rows; r++) {
        out[r] = bias ? weight(s, bias, 0, first + r) : 0;
        for (size_t c = 0; c < columns; c++)
            out[r] += weight(s, name, first + r, c) * x[c];
    }
}

/* ---- rotary positions -------------------------------------------------------------------------------------------- */

/* The place among the pairs of one that turns `turns` times within the first context. */
static inline double ref_yarn_place(const struct tg_shape *s, double turns)
{
    return tg_rope_dims(s) * log(s->n_ctx_orig / (turns * 2 * 3.14159265358979323846)) / (2 * log(10000.0));
}

static inline double ref_angle(const struct tg_shape *s, size_t pos, size_t pair)
{
    const double dims = tg_rope_dims(s), factor = s->rope_factor > 0 ? (double)s->rope_factor : 1;
    double angle = (double)pos * pow(10000.0, -2.0 * (double)pair / dims);

    if (s->rope_freqs)
        angle /= weight(s, "rope_freqs.weight", 0, pair);
    if (s->rope_factors)
        angle /=
            weight(s, s->n_ctx > s->n_ctx_orig ? "rope_factors_long.weight" : "rope_factors_short.weight", 0, pair);
    if (!s->rope_type || strcmp(s->rope_type, "yarn") != 0)
        return s->rope_type && strcmp(s->rope_type, "none") == 0 ? angle : angle / factor;
    double low = floor(ref_yarn_place(s, s->beta_fast > 0 ? (double)s->beta_fast : 32));
    double high = ceil(ref_yarn_place(s, s->beta_slow > 0 ? (double)s->beta_slow : 1));
    low = low < 0 ? 0 : low;
    high = high > dims - 1 ? dims - 1 : high;
    if (low >= high)
        high = low + 0.001;
    double slow = ((double)pair - low) / (high - low);
    slow = slow < 0 ? 0 : slow > 1 ? 1 : slow;
    const double keep = (1 - slow) * (s->yarn_ext > 0 ? (double)s->yarn_ext : 1);
    return angle / factor * (1 - keep) + angle * keep;
}

static inline double ref_magnitude(const struct tg_shape *s)
{
    const double attn = s->rope_attn > 0 ? (double)s->rope_attn : 1;

    if (!s->rope_type || strcmp(s->rope_type, "yarn") != 0)
        return attn;
    return attn * (s->yarn_attn > 0 ? (double)s->yarn_attn : 0.1 * log((double)s->rope_factor) + 1);
}

static inline void ref_rope(const struct tg_shape *s, size_t pos, double *x, size_t heads)
{
    const size_t d = tg_head_dim(s), half = tg_rope_dims(s) / 2;
    const double mag = ref_magnitude(s);

    for (size_t h = 0; h < heads; h++)
        for (size_t i = 0; i < half; i++) {
            const size_t first = h * d + (tg_is(s, "llama") ? 2 * i : i),
                         second = first + (tg_is(s, "llama") ? 1 : half);
            const double angle = ref_angle(s, pos, i), a = x[first], b = x[second];
            x[first] = mag * (a * cos(angle) - b * sin(angle));
            x[second] = mag * (a * sin(angle) + b * cos(angle));
        }
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

struct ref_cache {
    double k[TOKENS][WIDEST], v[TOKENS][WIDEST];
};

static inline double ref_cap(double x, double cap)
{
    return cap > 0 ? cap * tanh(x / cap) : x;
}

static inline bool ref_sees(const struct tg_shape *s, unsigned layer, size_t pos, size_t t)
{
    const unsigned every = s->window_every ? s->window_every : tg_is(s, "gemma2") ? 2 : 0;

    if (s->window == 0 || (every != 0 && (layer + 1) % every == 0))
        return true;
    return t + s->window > pos;
}

static inline void ref_attend(const struct tg_shape *s, unsigned layer, const struct ref_cache *cache, size_t pos,
                              const double *q, double *out)
{
    const size_t d = tg_head_dim(s), group = s->n_heads / s->n_kv_heads;
    const bool gemma2_27b = tg_is(s, "gemma2") && s->n_layers == 46; /* the one that scales by width / heads */
    const double root = sqrt(gemma2_27b ? s->n_embd / s->n_heads : (double)d);
    double p[TOKENS];

    for (size_t h = 0; h < s->n_heads; h++) {
        const size_t at = h / group * d;
        double max = -INFINITY, sum = 0;
        for (size_t t = 0; t <= pos; t++) {
            double dot = 0;
            for (size_t i = 0; i < d; i++)
                dot += q[h * d + i] * cache->k[t][at + i] / root;
            p[t] = ref_sees(s, layer, pos, t) ? ref_cap(dot, (double)s->attn_softcap) : -INFINITY;
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

struct ref_name {
    char text[64];
};

#define REF(part) ref_name(&(struct ref_name){{0}}, layer, part)
static inline const char *ref_name(struct ref_name *n, unsigned layer, const char *part)
{
    snprintf(n->text, sizeof n->text, "blk.%u.%s", layer, part);
    return n->text;
}

static inline void ref_qkv(const struct tg_shape *s, unsigned layer, const double *h, double *q, double *k, double *v)
{
    const size_t n = s->n_embd, rows = s->n_heads * tg_head_dim(s), kv = s->n_kv_heads * tg_head_dim(s);

    if (s->fused) {
        const char *bias = s->biases ? REF("attn_qkv.bias") : NULL;
        ref_mul(s, REF("attn_qkv.weight"), bias, 0, rows, n, h, q);
        ref_mul(s, REF("attn_qkv.weight"), bias, rows, kv, n, h, k);
        ref_mul(s, REF("attn_qkv.weight"), bias, rows + kv, kv, n, h, v);
    } else {
        ref_mul(s, REF("attn_q.weight"), s->biases ? REF("attn_q.bias") : NULL, 0, rows, n, h, q);
        ref_mul(s, REF("attn_k.weight"), s->biases ? REF("attn_k.bias") : NULL, 0, kv, n, h, k);
        ref_mul(s, REF("attn_v.weight"), s->biases ? REF("attn_v.bias") : NULL, 0, kv, n, h, v);
    }
    for (size_t i = 0; tg_is(s, "qwen3") && i < s->n_heads; i++)
        ref_norm(s, REF("attn_q_norm.weight"), tg_head_dim(s), q + i * tg_head_dim(s), q + i * tg_head_dim(s));
    for (size_t i = 0; tg_is(s, "qwen3") && i < s->n_kv_heads; i++)
        ref_norm(s, REF("attn_k_norm.weight"), tg_head_dim(s), k + i * tg_head_dim(s), k + i * tg_head_dim(s));
}

static inline void ref_ffn(const struct tg_shape *s, unsigned layer, const double *h, double *out)
{
    const bool bias = s->biases && tg_is(s, "llama"), phi = tg_is(s, "phi3");
    double gate[WIDEST], up[WIDEST];

    ref_mul(s, phi ? REF("ffn_up.weight") : REF("ffn_gate.weight"), bias ? REF("ffn_gate.bias") : NULL, 0, s->n_ff,
            s->n_embd, h, gate);
    ref_mul(s, REF("ffn_up.weight"), bias ? REF("ffn_up.bias") : NULL, phi ? s->n_ff : 0, s->n_ff, s->n_embd, h, up);
    for (size_t i = 0; i < s->n_ff; i++) {
        const double x = gate[i];
        if (tg_is(s, "gemma2"))
            gate[i] = 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x))) * up[i];
        else
            gate[i] = x / (1 + exp(-x)) * up[i];
    }
    ref_mul(s, REF("ffn_down.weight"), bias ? REF("ffn_down.bias") : NULL, 0, s->n_embd, s->n_ff, gate, out);
}

static inline void ref_layer(const struct tg_shape *s, unsigned layer, size_t pos, struct ref_cache *cache, double *x)
{
    const size_t n = s->n_embd;
    double h[WIDEST], q[WIDEST], a[WIDEST], out[WIDEST];

    ref_norm(s, REF("attn_norm.weight"), n, x, h);
    ref_qkv(s, layer, h, q, cache->k[pos], cache->v[pos]);
    ref_rope(s, pos, q, s->n_heads);
    ref_rope(s, pos, cache->k[pos], s->n_kv_heads);
    ref_attend(s, layer, cache, pos, q, a);
    ref_mul(s, REF("attn_output.weight"), s->biases && tg_is(s, "llama") ? REF("attn_output.bias") : NULL, 0, n,
            s->n_heads * tg_head_dim(s), a, out);
    if (tg_is(s, "gemma2"))
        ref_norm(s, REF("post_attention_norm.weight"), n, out, out);
    for (size_t i = 0; i < n; i++)
        x[i] += out[i];
    ref_norm(s, REF("ffn_norm.weight"), n, x, h);
    ref_ffn(s, layer, h, out);
    if (tg_is(s, "gemma2"))
        ref_norm(s, REF("post_ffw_norm.weight"), n, out, out);
    for (size_t i = 0; i < n; i++)
        x[i] += out[i];
}
#undef REF

/* logits[TOKENS][TG_SPM_COUNT]; states (may be NULL) [TOKENS][n_embd]: what the output matrix multiplies. */
static inline void reference(const struct tg_shape *s, double *logits, double *states)
{
    struct ref_cache *cache = base_alloc(s->n_layers, sizeof *cache);
    double x[WIDEST], h[WIDEST];

    for (size_t pos = 0; pos < TOKENS; pos++) {
        for (size_t i = 0; i < s->n_embd; i++)
            x[i] = weight(s, "token_embd.weight", (size_t)tokens[pos], i) * (tg_is(s, "gemma2") ? sqrt(s->n_embd) : 1);
        for (unsigned layer = 0; layer < s->n_layers; layer++)
            ref_layer(s, layer, pos, &cache[layer], x);
        ref_norm(s, "output_norm.weight", s->n_embd, x, h);
        if (states)
            memcpy(states + pos * s->n_embd, h, s->n_embd * sizeof *h);
        double *to = logits + pos * TG_SPM_COUNT;
        ref_mul(s, s->tied ? "token_embd.weight" : "output.weight",
                s->biases && tg_is(s, "qwen2") ? "output.bias" : NULL, 0, TG_SPM_COUNT, s->n_embd, h, to);
        for (size_t i = 0; i < TG_SPM_COUNT; i++)
            to[i] = ref_cap(to[i], (double)s->final_softcap);
    }
    base_free(cache);
}

/* ---- comparisons ------------------------------------------------------------------------------------------------- */

static inline float *run_logits(const struct tg_shape *s, const struct llm_model_params *params)
{
    struct llm_model *m = tg_load(s, params);
    float *out = base_alloc(TOKENS * TG_SPM_COUNT, sizeof *out);

    assert_int_equal(llm_logits(m, tokens, TOKENS, out, NULL), DBE_OK);
    assert_int_equal(llm_model_kv_used_bytes(m), 0);
    llm_model_free(m);
    return out;
}

/* |got - want| / |want|, over all logits. */
static inline double distance(const float *got, const double *want)
{
    double diff = 0, norm = 0;

    for (size_t i = 0; i < TOKENS * TG_SPM_COUNT; i++) {
        diff += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return sqrt(diff / norm);
}

static inline void expect_close(const struct tg_shape *s, double bound)
{
    double *want = base_alloc(TOKENS * TG_SPM_COUNT, sizeof *want);

    reference(s, want, NULL);
    for (const struct llm_kernels *const *k = llm_kernels_all(); *k; k++) {
        const struct llm_model_params params = {.threads = 2, .kernel = (*k)->name};
        if (!(*k)->usable())
            continue;
        float *got = run_logits(s, &params);
        /* a table that rounds weights and activations of prompts to 8 bits: 2^-8 each at most */
        const double allowed = BASE_MAX(bound, (*k)->prefill_types >> s->type & 1 ? 2e-2 : 0);
        const double d = distance(got, want);
        if (!(d <= allowed))
            fail_msg("%s: %g from the reference, %g allowed", (*k)->name, d, allowed);
        base_free(got);
    }
    base_free(want);
}

#endif
