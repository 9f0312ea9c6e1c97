/* SPDX-License-Identifier: Apache-2.0
 *
 * model.c - from a checked GGUF container to a model that can run: shape, tensors, vocabulary, threads.
 *
 * What the file says about its shape is bounded first; every tensor must then have exactly the dimensions that the
 * shape asks for, and a tensor that nothing asks for is refused, because it would mean something that is not computed.
 */
#include "model.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "chat.h"

struct loader {
    const struct gguf *g;
    struct llm_model *m;
    struct dbe_diag *diag;
    size_t used;       /* tensors */
    uint64_t bytes[3]; /* by type: F32, F16, Q8_0 */
};

/* ---- shape ------------------------------------------------------------------------------------------------------- */

static dbe_err bounded(struct loader *l, const char *key, uint32_t max, uint32_t *ret)
{
    uint32_t v;

    DBE_TRY(gguf_get_u32(l->g, key, &v, l->diag));
    if (v == 0 || v > max)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key %s: %u is not from 1 to %u", key, v, max);
    *ret = v;
    return DBE_OK;
}

static dbe_err bounded_or(struct loader *l, const char *key, uint32_t absent, uint32_t max, uint32_t *ret)
{
    if (gguf_find(l->g, key))
        return bounded(l, key, max, ret);
    *ret = absent;
    return DBE_OK;
}

static dbe_err check_arch(struct loader *l)
{
    const char *arch;
    size_t len;
    uint32_t experts;

    DBE_TRY(gguf_get_str_or_null(l->g, "general.architecture", &arch, &len, l->diag));
    if (!arch)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key general.architecture: missing");
    if (len != 5 || memcmp(arch, "llama", 5) != 0)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0,
                        "key general.architecture: \"%.*s\" is not supported; llama is", (int)BASE_MIN(len, 40U), arch);
    DBE_TRY(gguf_get_u32_or(l->g, "llama.expert_count", 0, &experts, l->diag));
    if (experts != 0)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0,
                        "key llama.expert_count: mixtures of experts are not supported");
    return DBE_OK;
}

static dbe_err load_heads(struct loader *l)
{
    struct llm_shape *s = &l->m->shape;
    uint32_t value_length;

    DBE_TRY(bounded(l, "llama.attention.head_count", LLM_HEADS_MAX, &s->n_heads));
    DBE_TRY(bounded_or(l, "llama.attention.head_count_kv", s->n_heads, LLM_HEADS_MAX, &s->n_kv_heads));
    if (s->n_heads % s->n_kv_heads != 0)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0,
                        "key llama.attention.head_count_kv: %u does not divide the %u heads", s->n_kv_heads,
                        s->n_heads);
    if (s->n_embd % s->n_heads != 0 && !gguf_find(l->g, "llama.attention.key_length"))
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0,
                        "key llama.embedding_length: %u is not a multiple of the %u heads", s->n_embd, s->n_heads);
    DBE_TRY(bounded_or(l, "llama.attention.key_length", s->n_embd / s->n_heads, LLM_HEAD_DIM_MAX, &s->head_dim));
    DBE_TRY(bounded_or(l, "llama.attention.value_length", s->head_dim, LLM_HEAD_DIM_MAX, &value_length));
    if (value_length != s->head_dim)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0,
                        "key llama.attention.value_length: %u differs from the key length %u", value_length,
                        s->head_dim);
    DBE_TRY(bounded_or(l, "llama.rope.dimension_count", s->head_dim, s->head_dim, &l->m->rope.dims));
    if (l->m->rope.dims % 2 != 0)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key llama.rope.dimension_count: %u is odd", l->m->rope.dims);
    s->attn_scale = 1.0f / sqrtf((float)s->head_dim);
    s->embd_scale = 1;
    return DBE_OK;
}

static dbe_err load_shape(struct loader *l, uint32_t n_ctx_max)
{
    struct llm_shape *s = &l->m->shape;

    DBE_TRY(bounded(l, "llama.context_length", UINT32_MAX, &s->n_ctx));
    s->n_ctx = BASE_MIN(s->n_ctx, (uint32_t)LLM_CTX_MAX);
    if (n_ctx_max != 0)
        s->n_ctx = BASE_MIN(s->n_ctx, n_ctx_max);
    DBE_TRY(bounded(l, "llama.embedding_length", LLM_EMBD_MAX, &s->n_embd));
    DBE_TRY(bounded(l, "llama.block_count", LLM_LAYERS_MAX, &s->n_layers));
    DBE_TRY(bounded(l, "llama.feed_forward_length", LLM_FF_MAX, &s->n_ff));
    DBE_TRY(load_heads(l));
    DBE_TRY(gguf_get_f32(l->g, "llama.attention.layer_norm_rms_epsilon", &s->rms_eps, l->diag));
    if (!(s->rms_eps > 0 && s->rms_eps < 1))
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0,
                        "key llama.attention.layer_norm_rms_epsilon: %g is not between 0 and 1", (double)s->rms_eps);
    s->n_vocab = (uint32_t)l->m->vocab.count;
    return DBE_OK;
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

static const struct gguf_tensor *take(struct loader *l, const char *name)
{
    const struct gguf_tensor *t = gguf_tensor_find(l->g, name);

    if (t) {
        l->used++;
        l->bytes[t->type == GGUF_TENSOR_F32 ? 0 : t->type == GGUF_TENSOR_F16 ? 1 : 2] += t->bytes;
        uint64_t values = 1;
        for (uint32_t i = 0; i < t->n_dims; i++)
            values *= t->dims[i];
        l->m->info.n_params += values;
    }
    return t;
}

static dbe_err expect_dims(struct loader *l, const struct gguf_tensor *t, const char *name, uint64_t columns,
                           uint64_t rows)
{
    if (!t)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "tensor %s: missing", name);
    if (t->dims[0] != columns || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", (size_t)t->offset,
                        "tensor %s: has %llu x %llu values, the shape asks for %llu x %llu", name,
                        (unsigned long long)t->dims[0], (unsigned long long)t->dims[1], (unsigned long long)columns,
                        (unsigned long long)rows);
    return DBE_OK;
}

static dbe_err load_matrix(struct loader *l, const char *name, uint64_t columns, uint64_t rows, struct llm_matrix *out)
{
    const struct gguf_tensor *t = take(l, name);

    DBE_TRY(expect_dims(l, t, name, columns, rows));
    DBE_TRY(llm_matrix_load(l->g, t, l->m->kernels, out, l->diag));
    l->m->info.weights_bytes += llm_matrix_bytes(out);
    return DBE_OK;
}

static dbe_err load_vector(struct loader *l, const char *name, uint64_t count, float **ret)
{
    const struct gguf_tensor *t = take(l, name);

    DBE_TRY(expect_dims(l, t, name, count, 1));
    if (t->type != GGUF_TENSOR_F32)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", (size_t)t->offset, "tensor %s: is %s, F32 expected", name,
                        gguf_type_name(t->type));
    *ret = base_alloc((size_t)count, sizeof(float));
    if (!*ret)
        return dbe_fail(l->diag, DBE_E_NOMEM, "model", 0, "tensor %s: no memory", name);
    DBE_TRY(gguf_read(l->g, t, 0, *ret, (size_t)t->bytes, l->diag));
    for (size_t i = 0; i < count; i++)
        if (!isfinite((*ret)[i]))
            return dbe_fail(l->diag, DBE_E_MODEL, "model", (size_t)t->offset, "tensor %s: value %zu is not finite",
                            name, i);
    l->m->info.weights_bytes += t->bytes;
    return DBE_OK;
}

static dbe_err load_layer(struct loader *l, uint32_t index)
{
    const struct llm_shape *s = &l->m->shape;
    struct llm_layer *y = &l->m->layers[index];
    const uint64_t heads = (uint64_t)s->n_heads * s->head_dim, kv = (uint64_t)s->n_kv_heads * s->head_dim;
    const struct {
        const char *name;
        uint64_t columns, rows;
        struct llm_matrix *matrix;
        float **vector;
    } parts[] = {
        {"attn_norm", s->n_embd, 1, NULL, &y->attn_norm}, {"attn_q", s->n_embd, heads, &y->q, NULL},
        {"attn_k", s->n_embd, kv, &y->k, NULL},           {"attn_v", s->n_embd, kv, &y->v, NULL},
        {"attn_output", heads, s->n_embd, &y->o, NULL},   {"ffn_norm", s->n_embd, 1, NULL, &y->ffn_norm},
        {"ffn_gate", s->n_embd, s->n_ff, &y->gate, NULL}, {"ffn_up", s->n_embd, s->n_ff, &y->up, NULL},
        {"ffn_down", s->n_ff, s->n_embd, &y->down, NULL},
    };
    char name[GGUF_NAME_MAX + 1];

    for (size_t i = 0; i < BASE_ARRAY_LEN(parts); i++) {
        snprintf(name, sizeof name, "blk.%u.%s.weight", index, parts[i].name);
        if (parts[i].matrix)
            DBE_TRY(load_matrix(l, name, parts[i].columns, parts[i].rows, parts[i].matrix));
        else
            DBE_TRY(load_vector(l, name, parts[i].columns, parts[i].vector));
    }
    return DBE_OK;
}

/* ---- rotary embedding -------------------------------------------------------------------------------------------- */

static dbe_err rope_scale(struct loader *l, float *ret)
{
    const char *type;
    size_t len;

    DBE_TRY(gguf_get_str_or_null(l->g, "llama.rope.scaling.type", &type, &len, l->diag));
    *ret = 1;
    if (!type || (len == 4 && memcmp(type, "none", 4) == 0))
        return gguf_get_f32_or(l->g, "llama.rope.scale_linear", 1, ret, l->diag);
    if (len != 6 || memcmp(type, "linear", 6) != 0)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0,
                        "key llama.rope.scaling.type: \"%.*s\" is not supported; none and linear are",
                        (int)BASE_MIN(len, 32U), type);
    return gguf_get_f32_or(l->g, "llama.rope.scaling.factor", 1, ret, l->diag);
}

static dbe_err load_rope(struct loader *l)
{
    struct llm_rope *rope = &l->m->rope;
    const size_t half = rope->dims / 2;
    float base, factor;
    BASE_AUTO_FREE float *freqs = NULL;

    DBE_TRY(gguf_get_f32_or(l->g, "llama.rope.freq_base", 10000.0f, &base, l->diag));
    DBE_TRY(rope_scale(l, &factor));
    if (!(base >= 1 && base <= 1e12f) || !(factor >= 1e-3f && factor <= 1e6f))
        return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "key llama.rope: base %g or factor %g is out of range",
                        (double)base, (double)factor);
    if (gguf_tensor_find(l->g, "rope_freqs.weight"))
        DBE_TRY(load_vector(l, "rope_freqs.weight", half, &freqs));
    rope->inv_freq = base_alloc(half, sizeof *rope->inv_freq);
    if (!rope->inv_freq)
        return dbe_fail(l->diag, DBE_E_NOMEM, "model", 0, "no memory");
    rope->scale = 1;
    for (size_t i = 0; i < half; i++) {
        const double divide = freqs ? (double)freqs[i] * (double)factor : (double)factor;
        if (!(divide >= 1e-6 && divide <= 1e9))
            return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "tensor rope_freqs.weight: value %zu is out of range", i);
        rope->inv_freq[i] = pow((double)base, -2.0 * (double)i / (double)rope->dims) / divide;
    }
    return DBE_OK;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

/* Every tensor was taken once under its own name, so counting suffices to see that none is left. */
static dbe_err refuse_unused(struct loader *l)
{
    static const char *const known[] = {"token_embd.weight", "output.weight", "output_norm.weight",
                                        "rope_freqs.weight"};

    if (l->used == l->g->tensor_count)
        return DBE_OK;
    for (size_t i = 0; i < l->g->tensor_count; i++) {
        const char *name = l->g->tensors[i].name;
        bool found = false;
        unsigned layer;
        int end = 0;
        for (size_t k = 0; k < BASE_ARRAY_LEN(known); k++)
            found = found || strcmp(name, known[k]) == 0;
        if (sscanf(name, "blk.%u.%n", &layer, &end) == 1 && end > 0 && layer < l->m->shape.n_layers) {
            static const char *const parts[] = {"attn_norm.weight", "attn_q.weight",      "attn_k.weight",
                                                "attn_v.weight",    "attn_output.weight", "ffn_norm.weight",
                                                "ffn_gate.weight",  "ffn_up.weight",      "ffn_down.weight"};
            for (size_t k = 0; k < BASE_ARRAY_LEN(parts); k++)
                found = found || strcmp(name + end, parts[k]) == 0;
        }
        if (!found)
            return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "tensor %s: unknown for this architecture", name);
    }
    return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "a tensor is named in two ways");
}

static dbe_err load_weights(struct loader *l)
{
    struct llm_model *m = l->m;
    const struct llm_shape *s = &m->shape;

    m->layers = base_alloc(s->n_layers, sizeof *m->layers);
    if (!m->layers)
        return dbe_fail(l->diag, DBE_E_NOMEM, "model", 0, "no memory");
    DBE_TRY(load_rope(l));
    DBE_TRY(load_vector(l, "output_norm.weight", s->n_embd, &m->output_norm));
    DBE_TRY(load_matrix(l, "token_embd.weight", s->n_embd, s->n_vocab, &m->embd));
    if (gguf_tensor_find(l->g, "output.weight"))
        DBE_TRY(load_matrix(l, "output.weight", s->n_embd, s->n_vocab, &m->output));
    for (uint32_t i = 0; i < s->n_layers; i++)
        DBE_TRY(load_layer(l, i));
    return refuse_unused(l);
}

static void fill_info(struct loader *l, const struct llm_model_params *params)
{
    struct llm_model_info *i = &l->m->info;
    const struct llm_shape *s = &l->m->shape;
    const size_t most = l->bytes[2] >= l->bytes[1] && l->bytes[2] >= l->bytes[0] ? 2
                        : l->bytes[1] >= l->bytes[0]                             ? 1
                                                                                 : 0;
    const char *name;
    size_t len;

    snprintf(i->arch, sizeof i->arch, "llama");
    snprintf(i->quantisation, sizeof i->quantisation, "%s", most == 2 ? "Q8_0" : most == 1 ? "F16" : "F32");
    snprintf(i->chat_template, sizeof i->chat_template, "%s", llm_chat_name(llm_chat_detect(&l->m->vocab)));
    snprintf(i->tokenizer, sizeof i->tokenizer, "%s", l->m->vocab.kind == VOCAB_SPM ? "llama" : "gpt2");
    snprintf(i->kernel, sizeof i->kernel, "%s", l->m->kernels->name);
    if (gguf_get_str_or_null(l->g, "general.name", &name, &len, NULL) == DBE_OK && name && len < sizeof i->name &&
        base_utf8_valid(name, len))
        memcpy(i->name, name, len);
    i->threads = llm_pool_threads(l->m->pool);
    i->n_ctx = s->n_ctx;
    i->n_vocab = s->n_vocab;
    i->n_embd = s->n_embd;
    i->n_layers = s->n_layers;
    i->n_heads = s->n_heads;
    i->n_kv_heads = s->n_kv_heads;
    i->head_dim = s->head_dim;
    i->n_ff = s->n_ff;
    i->kv_bytes_per_token = (uint64_t)s->n_layers * s->n_kv_heads * s->head_dim * 2 * sizeof(uint16_t);
    i->kv_budget_bytes = llm_kv_budget(params);
    i->workspace_bytes = l->m->work.bytes;
    i->retention_top1 = llm_retention_of(l->g);
}

static dbe_err load_all(const struct gguf *g, const struct llm_model_params *params, struct llm_model *m,
                        struct dbe_diag *diag)
{
    struct loader l = {.g = g, .m = m, .diag = diag};

    m->kernels = llm_kernels_pick(params->kernel);
    if (!m->kernels)
        return dbe_fail(diag, DBE_E_ARGUMENT, "kernel", 0, "kernel \"%.40s\" is not one of this machine",
                        params->kernel);
    if (params->threads > LLM_THREADS_MAX)
        return dbe_fail(diag, DBE_E_ARGUMENT, "threads", 0, "%u threads, at most %d", params->threads, LLM_THREADS_MAX);
    DBE_TRY(check_arch(&l));
    DBE_TRY(llm_vocab_load(g, &m->vocab, diag));
    DBE_TRY(load_shape(&l, params->n_ctx_max));
    dbe_err err = llm_pool_new(params->threads ? params->threads : llm_pool_cpus(), &m->pool);
    if (err == DBE_OK)
        err = llm_work_init(m);
    if (err != DBE_OK)
        return dbe_fail(diag, err, "model", 0, "no memory or threads to run the model");
    DBE_TRY(llm_budget_check(m, g, params, diag));
    DBE_TRY(load_weights(&l));
    fill_info(&l, params);
    return DBE_OK;
}

/* Takes the reader over. */
static dbe_err load_from(struct gguf *g, const struct llm_model_params *params, struct llm_model **ret,
                         struct dbe_diag *diag)
{
    static const struct llm_model_params defaults = {0};
    struct llm_model *m = base_alloc(1, sizeof *m);
    dbe_err err;

    if (!m) {
        gguf_close(g);
        return dbe_fail(diag, DBE_E_NOMEM, "model", 0, "no memory");
    }
    pthread_mutex_init(&m->step, NULL);
    err = load_all(g, params ? params : &defaults, m, diag);
    gguf_close(g);
    if (err != DBE_OK) {
        llm_model_free(m);
        return err;
    }
    *ret = m;
    return DBE_OK;
}

dbe_err llm_model_load(const char *path, const struct llm_model_params *params, struct llm_model **ret,
                       struct dbe_diag *diag)
{
    struct gguf *g;

    DBE_TRY(gguf_open(path, &g, diag));
    return load_from(g, params, ret, diag);
}

dbe_err llm_model_load_mem(const void *data, size_t len, const struct llm_model_params *params, struct llm_model **ret,
                           struct dbe_diag *diag)
{
    struct gguf *g;

    DBE_TRY(gguf_open_mem(data, len, &g, diag));
    return load_from(g, params, ret, diag);
}

void llm_model_free(struct llm_model *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; m->layers && i < m->shape.n_layers; i++) {
        struct llm_layer *y = &m->layers[i];
        struct llm_matrix *all[] = {&y->q, &y->k, &y->v, &y->o, &y->gate, &y->up, &y->down};
        for (size_t k = 0; k < BASE_ARRAY_LEN(all); k++)
            llm_matrix_free(all[k]);
        base_free(y->attn_norm);
        base_free(y->ffn_norm);
    }
    base_free(m->layers);
    base_free(m->output_norm);
    base_free(m->rope.inv_freq);
    llm_matrix_free(&m->embd);
    llm_matrix_free(&m->output);
    llm_work_free(&m->work);
    llm_pool_free(m->pool);
    llm_vocab_free(&m->vocab);
    pthread_mutex_destroy(&m->step);
    base_free(m);
}

const struct llm_model_info *llm_model_info(const struct llm_model *m)
{
    return &m->info;
}

uint64_t llm_model_kv_used_bytes(const struct llm_model *m)
{
    return atomic_load(&m->kv_used);
}

/* ---- the vocabulary's public face -------------------------------------------------------------------------------- */

dbe_err llm_tokenize(const struct llm_model *m, const char *text, size_t len, unsigned flags, struct llm_tokens *out)
{
    const size_t before = out->count;
    const dbe_err err = llm_vocab_tokenize_flags(&m->vocab, text, len, flags, out);

    if (err != DBE_OK)
        out->count = before;
    return err;
}

const char *llm_token_bytes(const struct llm_model *m, int32_t id, size_t *ret_len)
{
    if (id < 0 || (size_t)id >= m->vocab.count) {
        *ret_len = 0;
        return "";
    }
    *ret_len = m->vocab.tokens[id].text_len;
    return m->vocab.tokens[id].text;
}

const char *llm_token_name(const struct llm_model *m, int32_t id, size_t *ret_len)
{
    if (id < 0 || (size_t)id >= m->vocab.count)
        return NULL;
    *ret_len = m->vocab.tokens[id].name_len;
    return m->vocab.tokens[id].name;
}
