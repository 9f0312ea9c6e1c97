/* SPDX-License-Identifier: Apache-2.0
 *
 * test_vocab.h - vocabularies made by tests: GGUF files of nothing but tokenizer.* keys.
 */
#ifndef LLM_TEST_VOCAB_H
#define LLM_TEST_VOCAB_H

#include "test_gguf.h"
#include "vocab.h"

struct tv_token {
    char name[48];
    int type; /* enum vocab_type */
    float score;
};

struct tv_spec {
    const char *model, *pre, *name, *chat_template; /* NULL: no such key but the model */
    const struct tv_token *tokens;
    size_t count;
    const char (*merges)[64]; /* "a b" */
    size_t merges_count;
    bool no_space_prefix;
    uint32_t bos, eos; /* 0: not said */
};

/* 0 to below - 1 */
static inline uint32_t tv_random(uint64_t *seed, uint32_t below)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33) % below;
}

static inline void tv_keys(struct base_buf *b, const struct tv_spec *s, uint32_t *count)
{
    tg_kv_str(b, "general.architecture", "llama");
    tg_kv_str(b, "general.name", s->name ? s->name : "tiny");
    tg_kv_str(b, "tokenizer.ggml.model", s->model);
    tg_kv_bool(b, "tokenizer.ggml.add_space_prefix", !s->no_space_prefix && strcmp(s->model, "llama") == 0);
    tg_kv_array(b, "tokenizer.ggml.tokens", GGUF_STRING, s->count);
    for (size_t i = 0; i < s->count; i++)
        tg_str(b, s->tokens[i].name);
    tg_kv_array(b, "tokenizer.ggml.token_type", GGUF_I32, s->count);
    for (size_t i = 0; i < s->count; i++)
        tg_le(b, (uint64_t)s->tokens[i].type, 4);
    tg_kv_array(b, "tokenizer.ggml.scores", GGUF_F32, s->count);
    for (size_t i = 0; i < s->count; i++)
        tg_f32(b, s->tokens[i].score);
    *count = 7;
    if (strcmp(s->model, "gpt2") == 0) {
        tg_kv_array(b, "tokenizer.ggml.merges", GGUF_STRING, s->merges_count);
        for (size_t i = 0; i < s->merges_count; i++)
            tg_str(b, s->merges[i]);
        ++*count;
    }
    if (s->bos) {
        tg_kv_u32(b, "tokenizer.ggml.bos_token_id", s->bos);
        tg_kv_u32(b, "tokenizer.ggml.eos_token_id", s->eos);
        *count += 2;
    }
    if (s->pre) {
        tg_kv_str(b, "tokenizer.ggml.pre", s->pre);
        ++*count;
    }
    if (s->chat_template) {
        tg_kv_str(b, "tokenizer.chat_template", s->chat_template);
        ++*count;
    }
}

static inline dbe_err tv_try(const struct tv_spec *s, struct llm_vocab *out, struct dbe_diag *diag)
{
    struct base_buf kvs, file;
    struct gguf *g = NULL;
    uint32_t count;

    base_buf_init(&kvs, TG_MAX);
    base_buf_init(&file, TG_MAX);
    tv_keys(&kvs, s, &count);
    base_buf_bytes(&file, "GGUF", 4);
    tg_le(&file, 3, 4);
    tg_le(&file, 0, 8);
    tg_le(&file, count, 8);
    base_buf_bytes(&file, kvs.data, kvs.len);
    tg_pad(&file, 32);
    assert_int_equal(file.err, DBE_OK);
    if (gguf_open_mem(file.data, file.len, &g, diag) != DBE_OK)
        fail_msg("%s", diag->text);
    const dbe_err err = llm_vocab_load(g, out, diag);
    gguf_close(g);
    base_buf_free(&kvs);
    base_buf_free(&file);
    return err;
}

static inline void tv_load(const struct tv_spec *s, struct llm_vocab *out)
{
    struct dbe_diag diag = {0};

    if (tv_try(s, out, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
}

/* Ids of `want`, written as numbers and spaces. */
static inline void tv_expect(const struct llm_tokens *t, const char *want, const char *what)
{
    char got[2048] = "";
    size_t n = 0;

    for (size_t i = 0; i < t->count && n + 16 < sizeof got; i++)
        n += (size_t)snprintf(got + n, sizeof got - n, i ? " %d" : "%d", t->ids[i]);
    if (strcmp(got, want) != 0)
        fail_msg("\"%s\" became %s, not %s", what, got, want);
}

#endif
