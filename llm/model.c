/* SPDX-License-Identifier: Apache-2.0
 *
 * model.c - from a checked GGUF container to a model that can run: family and shape (shape.c), tensors (weights.c),
 * vocabulary, threads; and the vocabulary's public face.
 */
#include "batch.h"

#include <stdio.h>
#include <string.h>

#include "chat.h"
#include "loader.h"

static void fill_info(struct loader *l, const struct llm_model_params *params)
{
    struct llm_model_info *i = &l->m->info;
    const struct llm_shape *s = &l->m->shape;
    uint32_t most = 0;
    const char *name;
    size_t len;

    for (uint32_t t = 0; t < LOADER_TYPES; t++)
        most = l->bytes[t] > l->bytes[most] ? t : most;
    snprintf(i->arch, sizeof i->arch, "%s", l->m->arch->name);
    snprintf(i->quantisation, sizeof i->quantisation, "%s", gguf_type_name(most));
    snprintf(i->chat_template, sizeof i->chat_template, "%s", llm_chat_name(llm_chat_detect(&l->m->vocab)));
    snprintf(i->tokenizer, sizeof i->tokenizer, "%s", l->m->vocab.kind == VOCAB_SPM ? "llama" : "gpt2");
    snprintf(i->kernel, sizeof i->kernel, "%s", l->m->kernels->name);
    if (gguf_get_str_or_null(l->g, "general.name", &name, &len, NULL) == DBE_OK && name && len < sizeof i->name &&
        base_utf8_valid(name, len))
        base_text_mend(memcpy(i->name, name, len));
    i->threads = llm_pool_threads(l->m->pool);
    i->n_ctx = s->n_ctx;
    i->n_vocab = s->n_vocab;
    i->n_embd = s->n_embd;
    i->n_layers = s->n_layers;
    i->n_heads = s->n_heads;
    i->n_kv_heads = s->n_kv_heads;
    i->head_dim = s->head_dim;
    i->n_ff = s->n_ff;
    i->kv_budget_bytes = llm_kv_budget(params);
    i->workspace_bytes = llm_workspace_bytes(l->m);
    i->pass_bytes = i->weights_bytes - (l->m->output.data ? llm_matrix_bytes(&l->m->embd) : 0);
    i->retention_top1 = llm_retention_of(l->g);
}

static dbe_err load_tensors(struct loader *l)
{
    BASE_AUTO_FREE bool *taken = base_alloc(l->g->tensor_count + 1, sizeof *taken);
    struct llm_model *m = l->m;

    m->layers = base_alloc(m->shape.n_layers, sizeof *m->layers);
    if (!m->layers || !taken)
        return dbe_fail(l->diag, DBE_E_NOMEM, "model", 0, "no memory");
    l->taken = taken;
    DBE_TRY(llm_load_windows(l));
    return llm_load_weights(l);
}

static dbe_err load_all(const struct gguf *g, const struct llm_model_params *params, struct llm_model *m,
                        struct dbe_diag *diag)
{
    struct loader l = {.g = g, .m = m, .diag = diag};

    m->kernels = llm_kernels_pick(params->kernel);
    if (!m->kernels)
        return dbe_fail(diag, DBE_E_ARGUMENT, "kernel", 0, "kernel \"%.40s\" is not one of this machine",
                        params->kernel);
    m->attn = llm_attn_pick(m->kernels);
    if (params->threads > LLM_THREADS_MAX)
        return dbe_fail(diag, DBE_E_ARGUMENT, "threads", 0, "%u threads, at most %d", params->threads, LLM_THREADS_MAX);
    DBE_TRY(llm_load_arch(&l));
    DBE_TRY(llm_vocab_load(g, &m->vocab, diag));
    DBE_TRY(llm_load_shape(&l, params->n_ctx_max));
    DBE_TRY(llm_expect_weights(&l));
    dbe_err err = llm_pool_new(params->threads ? params->threads : llm_pool_cpus(), &m->pool);
    if (err == DBE_OK)
        err = llm_work_init(m);
    if (err == DBE_OK)
        err = llm_batch_new(m, &m->batch);
    if (err != DBE_OK)
        return dbe_fail(diag, err, "model", 0, "no memory or threads to run the model");
    DBE_TRY(llm_budget_check(m, g, params, diag));
    DBE_TRY(load_tensors(&l));
    fill_info(&l, params);
    DBE_TRY(llm_kv_pool_init(m, params, diag));
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

dbe_err llm_model_load_fd(int fd, const struct llm_model_params *params, struct llm_model **ret, struct dbe_diag *diag)
{
    struct gguf *g;

    DBE_TRY(gguf_open_fd(fd, &g, diag));
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
    for (uint32_t i = 0; m->layers && i < m->shape.n_layers; i++)
        llm_layer_free(&m->layers[i]);
    base_free(m->layers);
    base_free(m->output_norm);
    base_free(m->output_bias);
    base_free(m->rope.inv_freq);
    llm_matrix_free(&m->embd);
    llm_matrix_free(&m->output);
    llm_arena_free(&m->arena);
    llm_batch_free(m->batch);
    llm_work_free(&m->work);
    llm_kv_pool_free(&m->kv_pool);
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
    return atomic_load(&m->kv_pool.used) * m->kv_pool.page_bytes;
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
