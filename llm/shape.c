/* SPDX-License-Identifier: Apache-2.0
 *
 * shape.c - what the keys of a model file say: its family, its shape, its rotary positions.
 *
 * In:   a checked container; its numbers are hostile and bounded here, before anything is allocated by them.
 * Out:  model->arch, shape, the windows of layers.
 * Not:  no tensors (weights.c).
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "loader.h"

/* ---- keys -------------------------------------------------------------------------------------------------------- */

/* The family's key of this name; good until the next call. */
static const char *key_of(struct loader *l, const char *name)
{
    snprintf(l->key, sizeof l->key, "%s.%s", l->m->arch->name, name);
    return l->key;
}

static dbe_err bounded(struct loader *l, const char *name, uint32_t max, uint32_t *ret)
{
    const char *key = key_of(l, name);
    uint32_t v;

    DBE_TRY(gguf_get_u32(l->g, key, &v, l->diag));
    if (v == 0 || v > max)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: %u is not from 1 to %u", key, v, max);
    *ret = v;
    return DBE_OK;
}

static dbe_err bounded_or(struct loader *l, const char *name, uint32_t absent, uint32_t max, uint32_t *ret)
{
    if (gguf_find(l->g, key_of(l, name)))
        return bounded(l, name, max, ret);
    *ret = absent;
    return DBE_OK;
}

static dbe_err float_or(struct loader *l, const char *name, float absent, float *ret)
{
    return gguf_get_f32_or(l->g, key_of(l, name), absent, ret, l->diag);
}

/* ---- family ------------------------------------------------------------------------------------------------------ */

/* Keys of other families' arithmetic: a file that has one means something that is not computed. */
static dbe_err refuse_keys(struct loader *l)
{
    static const char *const never[] = {"attention.clamp_kqv",      "attention.max_alibi_bias",
                                        "attention.scale",          "attention.temperature_length",
                                        "attention.key_length_swa", "attention.value_length_swa",
                                        "embedding_scale",          "logit_scale",
                                        "residual_scale",           "rope.dimension_sections",
                                        "rope.dimension_count_swa", "rope.freq_base_swa",
                                        "rope.scaling.alpha",       "rope.scaling.yarn_log_multiplier"};
    static const char *const softcaps[] = {"attn_logit_softcapping", "final_logit_softcapping"};
    uint32_t experts;
    bool causal;

    for (size_t i = 0; i < BASE_ARRAY_LEN(never); i++)
        if (gguf_find(l->g, key_of(l, never[i])))
            return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: is not supported", l->key);
    for (size_t i = 0; i < BASE_ARRAY_LEN(softcaps) && !(l->m->arch->flags & LLM_ARCH_SOFTCAP); i++)
        if (gguf_find(l->g, key_of(l, softcaps[i])))
            return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: not a key of this family", l->key);
    DBE_TRY(gguf_get_u32_or(l->g, key_of(l, "expert_count"), 0, &experts, l->diag));
    if (experts != 0)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: mixtures of experts are not supported", l->key);
    DBE_TRY(gguf_get_bool_or(l->g, key_of(l, "attention.causal"), true, &causal, l->diag));
    if (!causal)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: only causal attention is supported", l->key);
    return DBE_OK;
}

dbe_err llm_load_arch(struct loader *l)
{
    const char *arch;
    size_t len;

    DBE_TRY(gguf_get_str_or_null(l->g, "general.architecture", &arch, &len, l->diag));
    if (!arch)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key general.architecture: missing");
    l->m->arch = llm_arch_find(arch, len);
    if (!l->m->arch)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key general.architecture: \"%.*s\" is not supported; %s are",
                        (int)BASE_MIN(len, 40U), arch, llm_arch_names());
    return refuse_keys(l);
}

/* ---- shape ------------------------------------------------------------------------------------------------------- */

static dbe_err load_heads(struct loader *l)
{
    struct llm_shape *s = &l->m->shape;
    uint32_t value_length;

    DBE_TRY(bounded(l, "attention.head_count", LLM_HEADS_MAX, &s->n_heads));
    DBE_TRY(bounded_or(l, "attention.head_count_kv", s->n_heads, LLM_HEADS_MAX, &s->n_kv_heads));
    if (s->n_heads % s->n_kv_heads != 0)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: %u does not divide the %u heads",
                        key_of(l, "attention.head_count_kv"), s->n_kv_heads, s->n_heads);
    if (s->n_embd % s->n_heads != 0 && !gguf_find(l->g, key_of(l, "attention.key_length")))
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: %u is not a multiple of the %u heads",
                        key_of(l, "embedding_length"), s->n_embd, s->n_heads);
    DBE_TRY(bounded_or(l, "attention.key_length", s->n_embd / s->n_heads, LLM_HEAD_DIM_MAX, &s->head_dim));
    DBE_TRY(bounded_or(l, "attention.value_length", s->head_dim, LLM_HEAD_DIM_MAX, &value_length));
    if (value_length != s->head_dim)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: %u differs from the key length %u",
                        key_of(l, "attention.value_length"), value_length, s->head_dim);
    l->m->rope.kind = l->m->arch->rope;
    DBE_TRY(bounded_or(l, "rope.dimension_count", s->head_dim, s->head_dim, &l->m->rope.dims));
    if (l->m->rope.dims % 2 != 0)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: %u is odd", key_of(l, "rope.dimension_count"),
                        l->m->rope.dims);
    return DBE_OK;
}

static dbe_err load_softcap(struct loader *l, const char *name, float absent, float *ret)
{
    float v;

    DBE_TRY(float_or(l, name, absent, &v));
    if (!(v >= 0.01f && v <= 1e6f))
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: %g is out of range", key_of(l, name), (double)v);
    *ret = v;
    return DBE_OK;
}

/* Constants of the arithmetic that follow from the family. */
static dbe_err load_scales(struct loader *l)
{
    enum { GEMMA2_27B_LAYERS = 46 }; /* the one size whose queries are scaled by width / heads; no key says so */
    struct llm_shape *s = &l->m->shape;
    const unsigned flags = l->m->arch->flags;

    s->attn_scale = 1.0f / sqrtf((float)s->head_dim);
    s->embd_scale = flags & LLM_ARCH_EMBD_SCALE ? sqrtf((float)s->n_embd) : 1.0f;
    if (!(flags & LLM_ARCH_SOFTCAP))
        return DBE_OK;
    if (s->n_layers == GEMMA2_27B_LAYERS && s->n_embd >= s->n_heads)
        s->attn_scale = 1.0f / sqrtf((float)(s->n_embd / s->n_heads));
    DBE_TRY(load_softcap(l, "attn_logit_softcapping", 50, &s->attn_softcap));
    return load_softcap(l, "final_logit_softcapping", 30, &s->final_softcap);
}

static dbe_err load_pooling(struct loader *l)
{
    uint32_t pooling = 0;

    DBE_TRY(gguf_get_u32_or(l->g, key_of(l, "pooling_type"), LLM_POOL_MEAN, &pooling, l->diag));
    if (pooling > LLM_POOL_LAST)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: %u is not supported; 0 to %d are", l->key, pooling,
                        LLM_POOL_LAST);
    l->m->pooling = pooling == 0 ? LLM_POOL_MEAN : (enum llm_pooling)pooling;
    return DBE_OK;
}

dbe_err llm_load_shape(struct loader *l, uint32_t n_ctx_max)
{
    enum {
        WIDER_MAX = 64
    }; /* than the residual stream; no model comes near. A small file must not ask for much memory */
    struct llm_shape *s = &l->m->shape;

    DBE_TRY(bounded(l, "context_length", UINT32_MAX, &s->n_ctx));
    s->n_ctx = BASE_MIN(s->n_ctx, (uint32_t)LLM_CTX_MAX);
    if (n_ctx_max != 0)
        s->n_ctx = BASE_MIN(s->n_ctx, n_ctx_max);
    DBE_TRY(bounded(l, "embedding_length", LLM_EMBD_MAX, &s->n_embd));
    DBE_TRY(bounded(l, "block_count", LLM_LAYERS_MAX, &s->n_layers));
    DBE_TRY(bounded(l, "feed_forward_length", LLM_FF_MAX, &s->n_ff));
    DBE_TRY(load_heads(l));
    if (s->n_ff / WIDER_MAX > s->n_embd || (uint64_t)s->n_heads * s->head_dim / WIDER_MAX > s->n_embd)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0,
                        "key %s: %u is too little for %u heads of %u and %u inner values",
                        key_of(l, "embedding_length"), s->n_embd, s->n_heads, s->head_dim, s->n_ff);
    DBE_TRY(gguf_get_f32(l->g, key_of(l, "attention.layer_norm_rms_epsilon"), &s->rms_eps, l->diag));
    if (!(s->rms_eps > 0 && s->rms_eps < 1))
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: %g is not between 0 and 1", l->key,
                        (double)s->rms_eps);
    s->n_vocab = (uint32_t)l->m->vocab.count;
    DBE_TRY(load_pooling(l));
    return load_scales(l);
}

dbe_err llm_load_windows(struct loader *l)
{
    const unsigned flags = l->m->arch->flags;
    uint32_t window = 0, every = 0;

    DBE_TRY(gguf_get_u32_or(l->g, key_of(l, "attention.sliding_window"), flags & LLM_ARCH_WINDOW_EVERY ? 4096 : 0,
                            &window, l->diag));
    if (window >= l->m->shape.n_ctx) /* all that a context holds */
        window = 0;
    if (window != 0 && !(flags & (LLM_ARCH_WINDOW | LLM_ARCH_WINDOW_EVERY)))
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: not a key of this family", l->key);
    DBE_TRY(bounded_or(l, "attention.sliding_window_pattern", flags & LLM_ARCH_WINDOW_EVERY ? 2 : 0, LLM_LAYERS_MAX,
                       &every));
    if (every != 0 && !(flags & LLM_ARCH_WINDOW_EVERY))
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: not a key of this family", l->key);
    for (uint32_t i = 0; i < l->m->shape.n_layers; i++)
        l->m->layers[i].window = every != 0 && i % every == every - 1 ? 0 : window;
    return DBE_OK;
}

/* ---- rotary positions -------------------------------------------------------------------------------------------- */

static dbe_err scaling_type(struct loader *l, const char **ret)
{
    static const char *const known[] = {"none", "linear", "yarn", "longrope"};
    const char *type;
    size_t len;

    DBE_TRY(gguf_get_str_or_null(l->g, key_of(l, "rope.scaling.type"), &type, &len, l->diag));
    *ret = known[1]; /* a factor without a type is a linear one */
    for (size_t i = 0; type && i < BASE_ARRAY_LEN(known); i++)
        if (strlen(known[i]) == len && memcmp(type, known[i], len) == 0) {
            *ret = known[i];
            return DBE_OK;
        }
    if (type)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0,
                        "key %s: \"%.*s\" is not supported; none, linear, yarn and longrope are", l->key,
                        (int)BASE_MIN(len, 32U), type);
    return DBE_OK;
}

static dbe_err first_context(struct loader *l, uint32_t *ret)
{
    DBE_TRY(bounded(l, "context_length", UINT32_MAX, ret));
    return bounded_or(l, "rope.scaling.original_context_length", *ret, UINT32_MAX, ret);
}

dbe_err llm_load_rope_scaling(struct loader *l, struct llm_rope_scaling *how)
{
    const char *type;

    DBE_TRY(scaling_type(l, &type));
    DBE_TRY(float_or(l, "rope.freq_base", 10000, &how->base));
    how->factor = 1;
    if (strcmp(type, "none") != 0) {
        DBE_TRY(float_or(l, "rope.scale_linear", 1, &how->factor)); /* the key's old name */
        DBE_TRY(float_or(l, "rope.scaling.factor", how->factor, &how->factor));
    }
    if (how->factor == 0) /* written for "none" */
        how->factor = 1;
    DBE_TRY(float_or(l, "rope.scaling.attn_factor", 1, &how->attn_factor));
    how->yarn = strcmp(type, "yarn") == 0;
    DBE_TRY(float_or(l, "rope.scaling.yarn_ext_factor", 1, &how->ext_factor));
    DBE_TRY(float_or(l, "rope.scaling.yarn_attn_factor", 0, &how->yarn_attn));
    DBE_TRY(float_or(l, "rope.scaling.yarn_beta_fast", 32, &how->beta_fast));
    DBE_TRY(float_or(l, "rope.scaling.yarn_beta_slow", 1, &how->beta_slow));
    return first_context(l, &how->n_ctx_orig);
}

dbe_err llm_load_rope_is_long(struct loader *l, bool *ret)
{
    uint32_t first = 0;

    DBE_TRY(first_context(l, &first));
    *ret = l->m->shape.n_ctx > first;
    return DBE_OK;
}
