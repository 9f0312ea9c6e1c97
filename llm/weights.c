/* SPDX-License-Identifier: Apache-2.0
 *
 * weights.c - the tensors of a model file, by the names and dimensions that its family and shape ask for.
 *
 * In:   a checked container, a bounded shape. Out: the model's matrices, vectors and rotary frequencies.
 *
 * Every tensor must have exactly the dimensions that the shape asks for, and one that nothing asks for is refused,
 * because it would mean something that is not computed.
 */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "loader.h"

/* ---- one tensor -------------------------------------------------------------------------------------------------- */

static const struct gguf_tensor *take(struct loader *l, const char *name)
{
    const struct gguf_tensor *t = gguf_tensor_find(l->g, name);
    uint64_t values = 1;

    if (!t)
        return NULL;
    l->taken[t - l->g->tensors] = true;
    if (t->type < LOADER_TYPES)
        l->bytes[t->type] += t->bytes;
    for (uint32_t i = 0; i < t->n_dims; i++)
        values *= t->dims[i];
    l->m->info.n_params += values;
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
    DBE_TRY(llm_matrix_load_rows(l->g, t, 0, (size_t)rows, &l->how, out, l->diag));
    l->m->info.weights_bytes += llm_matrix_bytes(out);
    return DBE_OK;
}

/* Matrices of the same width whose rows one tensor holds, one after the other. */
struct fused {
    struct llm_matrix *m[3];
    uint64_t rows[3];
    size_t count;
};

static dbe_err load_fused(struct loader *l, const char *name, uint64_t columns, const struct fused *f)
{
    const struct gguf_tensor *t = take(l, name);
    uint64_t rows = 0;

    for (size_t i = 0; i < f->count; i++)
        rows += f->rows[i];
    DBE_TRY(expect_dims(l, t, name, columns, rows));
    rows = 0;
    for (size_t i = 0; i < f->count; i++) {
        DBE_TRY(llm_matrix_load_rows(l->g, t, (size_t)rows, (size_t)f->rows[i], &l->how, f->m[i], l->diag));
        l->m->info.weights_bytes += llm_matrix_bytes(f->m[i]);
        rows += f->rows[i];
    }
    return DBE_OK;
}

static dbe_err read_vector(struct loader *l, const char *name, uint64_t count, float *out)
{
    const struct gguf_tensor *t = take(l, name);

    DBE_TRY(expect_dims(l, t, name, count, 1));
    if (t->type != GGUF_TENSOR_F32)
        return dbe_fail(l->diag, DBE_E_MODEL, "model", (size_t)t->offset, "tensor %s: is %s, F32 expected", name,
                        gguf_type_name(t->type));
    DBE_TRY(gguf_read(l->g, t, 0, out, (size_t)t->bytes, l->diag));
    for (size_t i = 0; i < count; i++)
        if (!isfinite(out[i]))
            return dbe_fail(l->diag, DBE_E_MODEL, "model", (size_t)t->offset, "tensor %s: value %zu is not finite",
                            name, i);
    l->m->info.weights_bytes += t->bytes;
    return DBE_OK;
}

static dbe_err load_vector(struct loader *l, const char *name, uint64_t count, float **ret)
{
    *ret = base_alloc((size_t)count, sizeof(float));
    if (!*ret)
        return dbe_fail(l->diag, DBE_E_NOMEM, "model", 0, "tensor %s: no memory", name);
    return read_vector(l, name, count, *ret);
}

static bool exists(const struct loader *l, const char *name)
{
    return gguf_tensor_find(l->g, name) != NULL;
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

struct layer_name {
    char text[GGUF_NAME_MAX + 1];
};

static const char *name_of(struct layer_name *n, uint32_t layer, const char *part)
{
    snprintf(n->text, sizeof n->text, "blk.%u.%s", layer, part);
    return n->text;
}

/* Vectors of a layer; those without `flag` are always there. */
static dbe_err load_vectors(struct loader *l, uint32_t index)
{
    const struct llm_shape *s = &l->m->shape;
    struct llm_layer *y = &l->m->layers[index];
    const struct {
        const char *part;
        uint64_t count;
        float **vector;
        unsigned flag; /* of families that have it */
        bool optional;
    } all[] = {
        {"attn_norm.weight", s->n_embd, &y->attn_norm, 0, false},
        {"attn_q_norm.weight", s->head_dim, &y->q_norm, LLM_ARCH_QK_NORM, false},
        {"attn_k_norm.weight", s->head_dim, &y->k_norm, LLM_ARCH_QK_NORM, false},
        {"post_attention_norm.weight", s->n_embd, &y->attn_post_norm, LLM_ARCH_POST_NORM, false},
        {"ffn_norm.weight", s->n_embd, &y->ffn_norm, 0, false},
        {"post_ffw_norm.weight", s->n_embd, &y->ffn_post_norm, LLM_ARCH_POST_NORM, false},
        {"attn_output.bias", s->n_embd, &y->o_bias, LLM_ARCH_BLOCK_BIAS, true},
        {"ffn_gate.bias", s->n_ff, &y->gate_bias, LLM_ARCH_BLOCK_BIAS, true},
        {"ffn_up.bias", s->n_ff, &y->up_bias, LLM_ARCH_BLOCK_BIAS, true},
        {"ffn_down.bias", s->n_embd, &y->down_bias, LLM_ARCH_BLOCK_BIAS, true},
    };
    struct layer_name n;

    for (size_t i = 0; i < BASE_ARRAY_LEN(all); i++) {
        name_of(&n, index, all[i].part);
        if ((all[i].flag && !(l->m->arch->flags & all[i].flag)) || (all[i].optional && !exists(l, n.text)))
            continue;
        DBE_TRY(load_vector(l, n.text, all[i].count, all[i].vector));
    }
    return DBE_OK;
}

/* Biases of queries, keys and values, in one tensor or in three of which any may be missing. */
static dbe_err load_qkv_bias(struct loader *l, uint32_t index, const uint64_t rows[3])
{
    static const char *const parts[3] = {"attn_q.bias", "attn_k.bias", "attn_v.bias"};
    float **bias = &l->m->layers[index].qkv_bias;
    const uint64_t sum = rows[0] + rows[1] + rows[2];
    struct layer_name n;
    uint64_t at = 0;

    if (exists(l, name_of(&n, index, "attn_qkv.bias")))
        return load_vector(l, n.text, sum, bias);
    for (size_t i = 0; i < BASE_ARRAY_LEN(parts); at += rows[i++]) {
        if (!exists(l, name_of(&n, index, parts[i])))
            continue;
        if (!*bias)
            *bias = base_alloc((size_t)sum, sizeof(float));
        if (!*bias)
            return dbe_fail(l->diag, DBE_E_NOMEM, "model", 0, "tensor %s: no memory", n.text);
        DBE_TRY(read_vector(l, n.text, rows[i], *bias + at));
    }
    return DBE_OK;
}

static dbe_err load_attention(struct loader *l, uint32_t index)
{
    static const char *const parts[3] = {"attn_q.weight", "attn_k.weight", "attn_v.weight"};
    const struct llm_shape *s = &l->m->shape;
    struct llm_layer *y = &l->m->layers[index];
    const uint64_t heads = (uint64_t)s->n_heads * s->head_dim, kv = (uint64_t)s->n_kv_heads * s->head_dim;
    const struct fused qkv = {{&y->q, &y->k, &y->v}, {heads, kv, kv}, 3};
    struct layer_name n;

    if (exists(l, name_of(&n, index, "attn_qkv.weight")))
        DBE_TRY(load_fused(l, n.text, s->n_embd, &qkv));
    else
        for (size_t i = 0; i < BASE_ARRAY_LEN(parts); i++)
            DBE_TRY(load_matrix(l, name_of(&n, index, parts[i]), s->n_embd, qkv.rows[i], qkv.m[i]));
    DBE_TRY(load_qkv_bias(l, index, qkv.rows));
    return load_matrix(l, name_of(&n, index, "attn_output.weight"), heads, s->n_embd, &y->o);
}

static dbe_err load_ffn(struct loader *l, uint32_t index)
{
    const struct llm_shape *s = &l->m->shape;
    struct llm_layer *y = &l->m->layers[index];
    struct layer_name n;

    if (l->m->arch->flags & LLM_ARCH_FUSED_FFN) {
        const struct fused both = {{&y->gate, &y->up}, {s->n_ff, s->n_ff}, 2};
        DBE_TRY(load_fused(l, name_of(&n, index, "ffn_up.weight"), s->n_embd, &both));
    } else {
        DBE_TRY(load_matrix(l, name_of(&n, index, "ffn_gate.weight"), s->n_embd, s->n_ff, &y->gate));
        DBE_TRY(load_matrix(l, name_of(&n, index, "ffn_up.weight"), s->n_embd, s->n_ff, &y->up));
    }
    return load_matrix(l, name_of(&n, index, "ffn_down.weight"), s->n_ff, s->n_embd, &y->down);
}

void llm_layer_free(struct llm_layer *y)
{
    struct llm_matrix *matrices[] = {&y->q, &y->k, &y->v, &y->o, &y->gate, &y->up, &y->down};
    float *vectors[] = {y->attn_norm, y->ffn_norm, y->q_norm,    y->k_norm,  y->attn_post_norm, y->ffn_post_norm,
                        y->qkv_bias,  y->o_bias,   y->gate_bias, y->up_bias, y->down_bias};

    for (size_t k = 0; k < BASE_ARRAY_LEN(matrices); k++)
        llm_matrix_free(matrices[k]);
    for (size_t k = 0; k < BASE_ARRAY_LEN(vectors); k++)
        base_free(vectors[k]);
    *y = (struct llm_layer){0};
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

/* Longrope's factors: one set for contexts as long as the first, one for longer ones. Both are read, one is used. */
static dbe_err load_rope_factors(struct loader *l, uint32_t half, float **ret)
{
    static const char *const names[] = {"rope_factors_short.weight", "rope_factors_long.weight"};
    bool is_long;

    if (!exists(l, names[0]) && !exists(l, names[1]))
        return DBE_OK;
    DBE_TRY(llm_load_rope_is_long(l, &is_long));
    for (size_t i = 0; i < BASE_ARRAY_LEN(names); i++) {
        BASE_AUTO_FREE float *factors = NULL;
        DBE_TRY(load_vector(l, names[i], half, &factors));
        if (is_long == (i == 1)) {
            *ret = factors;
            factors = NULL;
        }
    }
    return DBE_OK;
}

static dbe_err load_rope(struct loader *l)
{
    const uint32_t half = l->m->rope.dims / 2;
    BASE_AUTO_FREE float *divide = NULL;
    struct llm_rope_scaling how = {0};

    DBE_TRY(llm_load_rope_scaling(l, &how));
    if ((l->m->arch->flags & LLM_ARCH_ROPE_FREQS) && exists(l, "rope_freqs.weight"))
        DBE_TRY(load_vector(l, "rope_freqs.weight", half, &divide));
    else if (l->m->arch->flags & LLM_ARCH_ROPE_FACTORS)
        DBE_TRY(load_rope_factors(l, half, &divide));
    how.divide = divide;
    return llm_rope_init(&l->m->rope, &how, l->diag);
}

static dbe_err refuse_unused(struct loader *l)
{
    for (size_t i = 0; i < l->g->tensor_count; i++)
        if (!l->taken[i])
            return dbe_fail(l->diag, DBE_E_MODEL, "model", 0, "tensor %s: unknown for this architecture",
                            l->g->tensors[i].name);
    return DBE_OK;
}

dbe_err llm_expect_weights(struct loader *l)
{
    const struct llm_shape *s = &l->m->shape;
    const struct {
        const char *name;
        uint64_t columns, rows;
    } largest[] = {{"token_embd.weight", s->n_embd, s->n_vocab},
                   {"blk.0.attn_output.weight", (uint64_t)s->n_heads * s->head_dim, s->n_embd},
                   {"blk.0.ffn_down.weight", s->n_ff, s->n_embd}};

    for (size_t i = 0; i < BASE_ARRAY_LEN(largest); i++)
        DBE_TRY(expect_dims(l, gguf_tensor_find(l->g, largest[i].name), largest[i].name, largest[i].columns,
                            largest[i].rows));
    return DBE_OK;
}

/* What all matrices of the file take when packed, but for what is lost where one tensor holds several. */
static size_t packed_bytes(const struct loader *l)
{
    const size_t high = l->m->kernels->rows;
    size_t sum = 0;

    for (size_t i = 0; i < l->g->tensor_count; i++) {
        const struct gguf_tensor *t = &l->g->tensors[i];
        if (t->dims[1] > 1)
            sum += ((size_t)t->dims[1] + high - 1) / high * panel_bytes(t->type, high, (size_t)t->dims[0]);
    }
    return sum;
}

static dbe_err load_matrices(struct loader *l)
{
    struct llm_model *m = l->m;
    const struct llm_shape *s = &m->shape;

    DBE_TRY(load_matrix(l, "token_embd.weight", s->n_embd, s->n_vocab, &m->embd));
    for (uint32_t i = 0; i < s->n_layers; i++) {
        DBE_TRY(load_attention(l, i));
        DBE_TRY(load_ffn(l, i));
    }
    if (!(m->arch->flags & LLM_ARCH_TIED) && exists(l, "output.weight"))
        DBE_TRY(load_matrix(l, "output.weight", s->n_embd, s->n_vocab, &m->output));
    return DBE_OK;
}

dbe_err llm_load_weights(struct loader *l)
{
    struct llm_model *m = l->m;
    const struct llm_shape *s = &m->shape;

    DBE_TRY(load_rope(l));
    DBE_TRY(load_vector(l, "output_norm.weight", s->n_embd, &m->output_norm));
    if ((m->arch->flags & LLM_ARCH_OUTPUT_BIAS) && exists(l, "output.bias"))
        DBE_TRY(load_vector(l, "output.bias", s->n_vocab, &m->output_bias));
    for (uint32_t i = 0; i < s->n_layers; i++)
        DBE_TRY(load_vectors(l, i));
    if (llm_arena_init(&m->arena, packed_bytes(l)) != DBE_OK)
        return dbe_fail(l->diag, DBE_E_NOMEM, "model", 0, "no memory for the weights");
    l->how = (struct llm_loading){.k = m->kernels, .pool = m->pool, .arena = &m->arena};
    const dbe_err err = load_matrices(l);
    llm_loading_free(&l->how);
    DBE_TRY(err);
    return refuse_unused(l);
}
