/* SPDX-License-Identifier: Apache-2.0
 *
 * test_gguf.h - builds tiny GGUF files in memory for the tests, and knows every weight it wrote.
 *
 * Weights come from a function of (name, row, column), so that a test's reference can compute the same ones again.
 */
#ifndef LLM_TEST_GGUF_H
#define LLM_TEST_GGUF_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "gguf.h"
#include "half.h"
#include "llm.h"

enum { TG_MAX = 64 << 20, TG_BYTES_FROM = 3, TG_FIRST_TEXT = 259 };

typedef float tg_value_fn(const void *ctx, const char *name, size_t row, size_t column);

/* Zero fields take the defaults of tg_defaults. */
struct tg_shape {
    uint32_t n_ctx, n_embd, n_layers, n_heads, n_kv_heads, n_ff;
    uint32_t type; /* of matrices */
    uint32_t version, alignment;
    bool tied, rope_freqs, no_space_prefix;
    const char *bpe_pre; /* byte-level BPE with this pre-tokenizer; NULL: SentencePiece */
    const char *chat_template;
    const char *extra_tensor; /* one more tensor of this name */
    const char *arch;
    float retention;                   /* as if measured when it was quantised; 0: not */
    uint32_t head_dim, rope_dims;      /* 0: no key, n_embd / n_heads and all of a head */
    uint32_t window, window_every;     /* 0: no key */
    uint32_t n_ctx_orig;               /* 0: no key */
    float attn_softcap, final_softcap; /* 0: no key */
    const char *rope_type;             /* NULL: no key, and none of those below */
    float rope_factor, rope_attn;      /* 0: no key */
    float beta_fast, beta_slow;        /* 0: no key */
    float yarn_ext, yarn_attn;         /* 0: no key */
    uint32_t pooling;                  /* 0: no key */
    bool biases, fused, rope_factors;  /* what the family may have; fused: attn_qkv */
    tg_value_fn *value;
    const void *value_ctx;
};

static inline struct tg_shape tg_defaults(void)
{
    return (struct tg_shape){.n_ctx = 64,
                             .n_embd = 32,
                             .n_layers = 2,
                             .n_heads = 4,
                             .n_kv_heads = 2,
                             .n_ff = 64,
                             .version = 3,
                             .alignment = 32,
                             .arch = "llama"};
}

/* ---- little-endian writing --------------------------------------------------------------------------------------- */

static inline void tg_le(struct base_buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        base_buf_u8(b, (uint8_t)(v >> (8 * i)));
}

static inline void tg_str_n(struct base_buf *b, const char *s, size_t len)
{
    tg_le(b, len, 8);
    base_buf_bytes(b, s, len);
}

static inline void tg_str(struct base_buf *b, const char *s)
{
    tg_str_n(b, s, strlen(s));
}

static inline void tg_f32(struct base_buf *b, float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    tg_le(b, bits, 4);
}

static inline void tg_kv_u32(struct base_buf *b, const char *key, uint32_t v)
{
    tg_str(b, key);
    tg_le(b, GGUF_U32, 4);
    tg_le(b, v, 4);
}

static inline void tg_kv_f32(struct base_buf *b, const char *key, float v)
{
    tg_str(b, key);
    tg_le(b, GGUF_F32, 4);
    tg_f32(b, v);
}

static inline void tg_kv_bool(struct base_buf *b, const char *key, bool v)
{
    tg_str(b, key);
    tg_le(b, GGUF_BOOL, 4);
    tg_le(b, v, 1);
}

static inline void tg_kv_str(struct base_buf *b, const char *key, const char *v)
{
    tg_str(b, key);
    tg_le(b, GGUF_STRING, 4);
    tg_str(b, v);
}

static inline void tg_kv_array(struct base_buf *b, const char *key, uint32_t type, uint64_t count)
{
    tg_str(b, key);
    tg_le(b, GGUF_ARRAY, 4);
    tg_le(b, type, 4);
    tg_le(b, count, 8);
}

/* ---- vocabularies ------------------------------------------------------------------------------------------------ */

/* After <unk>, <s>, </s> and 256 byte tokens; '_' is written as U+2581. Longer ones score higher, as merges would. */
static const char *const tg_spm[] = {"<|im_start|>",
                                     "<|im_end|>",
                                     "_",
                                     "a",
                                     "b",
                                     "c",
                                     "d",
                                     "e",
                                     "h",
                                     "i",
                                     "l",
                                     "n",
                                     "o",
                                     "r",
                                     "s",
                                     "t",
                                     "u",
                                     "w",
                                     "\n",
                                     "he",
                                     "ll",
                                     "llo",
                                     "hello",
                                     "_w",
                                     "or",
                                     "_wor",
                                     "ld",
                                     "_world",
                                     "_he",
                                     "_hello",
                                     "_t",
                                     "he_",
                                     "us",
                                     "er",
                                     "user",
                                     "\xe4\xbd\xa0",
                                     "STOP",
                                     "ST"};
enum { TG_IM_START = TG_FIRST_TEXT, TG_IM_END, TG_SPM_COUNT = TG_FIRST_TEXT + sizeof tg_spm / sizeof tg_spm[0] };

/* Id of a token of tg_spm by its name there. */
static inline int32_t tg_id(const char *name)
{
    for (size_t i = 0; i < sizeof tg_spm / sizeof tg_spm[0]; i++)
        if (strcmp(tg_spm[i], name) == 0)
            return (int32_t)(TG_FIRST_TEXT + i);
    fail_msg("no token %s", name);
    return -1;
}

static inline void tg_spm_name(size_t id, char out[64])
{
    static const char *const first[] = {"<unk>", "<s>", "</s>"};
    size_t n = 0;

    if (id < TG_BYTES_FROM) {
        snprintf(out, 64, "%s", first[id]);
        return;
    }
    if (id < TG_FIRST_TEXT) {
        snprintf(out, 64, "<0x%02X>", (unsigned)(id - TG_BYTES_FROM));
        return;
    }
    const char *name = tg_spm[id - TG_FIRST_TEXT];
    for (size_t i = 0; name[i]; i++)
        n += (size_t)snprintf(out + n, 64 - n, name[i] == '_' && name[0] != '<' ? "\xe2\x96\x81" : "%c", name[i]);
}

static inline void tg_vocab_spm(struct base_buf *b, uint32_t *count)
{
    char name[64];

    tg_kv_str(b, "tokenizer.ggml.model", "llama");
    tg_kv_array(b, "tokenizer.ggml.tokens", GGUF_STRING, TG_SPM_COUNT);
    for (size_t i = 0; i < TG_SPM_COUNT; i++) {
        tg_spm_name(i, name);
        tg_str(b, name);
    }
    tg_kv_array(b, "tokenizer.ggml.scores", GGUF_F32, TG_SPM_COUNT);
    for (size_t i = 0; i < TG_SPM_COUNT; i++)
        tg_f32(b, i < TG_FIRST_TEXT ? 0.0f : -(float)i);
    tg_kv_array(b, "tokenizer.ggml.token_type", GGUF_I32, TG_SPM_COUNT);
    for (size_t i = 0; i < TG_SPM_COUNT; i++)
        tg_le(b,
              i == 0                                                    ? 2
              : i < TG_BYTES_FROM || i == TG_IM_START || i == TG_IM_END ? 3
              : i < TG_FIRST_TEXT                                       ? 6
                                                                        : 1,
              4);
    tg_kv_u32(b, "tokenizer.ggml.bos_token_id", 1);
    tg_kv_u32(b, "tokenizer.ggml.eos_token_id", 2);
    *count += 6;
}

/* GPT-2's way to write a byte as a character, as UTF-8. */
static inline void tg_byte_char(uint8_t byte, char out[3])
{
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    unsigned code = byte;

    if (!printable)
        code = 256 + (byte <= 32 ? byte : byte <= 160 ? 33U + byte - 127U : 67U);
    if (code < 128) {
        out[0] = (char)code;
        out[1] = '\0';
    } else {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        out[2] = '\0';
    }
}

/* Byte-level BPE: ids 0-255 are the bytes, then what the merges make, then control tokens. */
static const char *const tg_merges[][2] = {{"h", "e"},        {"l", "l"}, {"he", "ll"}, {"hell", "o"},
                                           {"\xc4\xa0", "w"}, {"o", "r"}, {"l", "d"},   {"\xc4\xa0w", "or"}};
enum {
    TG_MERGES = sizeof tg_merges / sizeof tg_merges[0],
    TG_BPE_WORD = 256 + TG_MERGES, /* "zebra", which no merge makes */
    TG_BPE_BEGIN,
    TG_BPE_START,
    TG_BPE_STOP,
    TG_BPE_EOT,
    TG_BPE_COUNT
};

static inline void tg_vocab_bpe(struct base_buf *b, const struct tg_shape *s, uint32_t *count)
{
    static const char *const last[] = {"zebra", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                                       "<|eot_id|>"};
    char name[64];

    tg_kv_str(b, "tokenizer.ggml.model", "gpt2");
    tg_kv_str(b, "tokenizer.ggml.pre", s->bpe_pre);
    tg_kv_array(b, "tokenizer.ggml.tokens", GGUF_STRING, TG_BPE_COUNT);
    for (unsigned i = 0; i < TG_BPE_COUNT; i++) {
        if (i < 256)
            tg_byte_char((uint8_t)i, name);
        else if (i < TG_BPE_WORD)
            snprintf(name, sizeof name, "%s%s", tg_merges[i - 256][0], tg_merges[i - 256][1]);
        else
            snprintf(name, sizeof name, "%s", last[i - TG_BPE_WORD]);
        tg_str(b, name);
    }
    tg_kv_array(b, "tokenizer.ggml.token_type", GGUF_I32, TG_BPE_COUNT);
    for (unsigned i = 0; i < TG_BPE_COUNT; i++)
        tg_le(b, i > TG_BPE_WORD ? 3 : 1, 4);
    tg_kv_array(b, "tokenizer.ggml.merges", GGUF_STRING, TG_MERGES);
    for (size_t i = 0; i < TG_MERGES; i++) {
        snprintf(name, sizeof name, "%s %s", tg_merges[i][0], tg_merges[i][1]);
        tg_str(b, name);
    }
    tg_kv_u32(b, "tokenizer.ggml.bos_token_id", TG_BPE_BEGIN);
    tg_kv_u32(b, "tokenizer.ggml.eos_token_id", TG_BPE_EOT);
    *count += 7;
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

static inline float tg_random(const void *ctx, const char *name, size_t row, size_t column)
{
    uint64_t h = UINT64_C(1469598103934665603);

    (void)ctx;
    for (const char *p = name; *p; p++)
        h = (h ^ (uint8_t)*p) * UINT64_C(1099511628211);
    h += row * UINT64_C(0x9e3779b97f4a7c15) + column * UINT64_C(0xbf58476d1ce4e5b9);
    h ^= h >> 31;
    h *= UINT64_C(0x94d049bb133111eb);
    h ^= h >> 29;
    const float u = (float)(h >> 40) * 0x1p-23f - 1.0f; /* [-1, 1) */
    if (strstr(name, "norm"))
        return 1.0f + 0.25f * u;
    if (strncmp(name, "rope_f", 6) == 0) /* rope_freqs, rope_factors_... */
        return 1.0f + 3.0f * (u + 1.0f);
    return u * (strstr(name, "embd") ? 1.0f : 0.3f);
}

/* One block of Q8_0 as the format defines it. */
static inline void tg_q8_block(const float *x, uint8_t out[GGUF_Q8_0_BYTES])
{
    float amax = 0;

    for (int i = 0; i < GGUF_Q8_0_VALUES; i++)
        amax = fmaxf(amax, fabsf(x[i]));
    const float d = amax / 127.0f;
    const uint16_t h = half_from_f32(d);
    out[0] = (uint8_t)h;
    out[1] = (uint8_t)(h >> 8);
    for (int i = 0; i < GGUF_Q8_0_VALUES; i++)
        out[2 + i] = (uint8_t)(int8_t)(d > 0 ? roundf(x[i] * (1.0f / d)) : 0.0f);
}

struct tg_tensor {
    char name[64];
    uint64_t columns, rows; /* rows 0: one dimension */
    uint32_t type;
    uint64_t offset;
};

static inline uint64_t tg_tensor_bytes(const struct tg_tensor *t)
{
    const uint64_t n = t->columns * (t->rows ? t->rows : 1);

    return t->type == GGUF_TENSOR_F32                                  ? n * 4
           : t->type == GGUF_TENSOR_F16 || t->type == GGUF_TENSOR_BF16 ? n * 2
                                                                       : n / 32 * 34;
}

static inline void tg_put_tensor(struct base_buf *b, const struct tg_shape *s, const struct tg_tensor *t)
{
    tg_value_fn *value = s->value ? s->value : tg_random;

    for (uint64_t r = 0; r < (t->rows ? t->rows : 1); r++)
        for (uint64_t c = 0; c < t->columns; c++) {
            const float f = value(s->value_ctx, t->name, r, c);
            if (t->type == GGUF_TENSOR_F32) {
                tg_f32(b, f);
            } else if (t->type == GGUF_TENSOR_BF16) {
                uint32_t bits;
                memcpy(&bits, &f, sizeof bits);
                tg_le(b, bits >> 16, 2);
            } else if (t->type == GGUF_TENSOR_F16) {
                tg_le(b, half_from_f32(f), 2);
            } else if (c % 32 == 0) {
                float x[32];
                uint8_t block[GGUF_Q8_0_BYTES];
                for (uint64_t i = 0; i < 32; i++)
                    x[i] = value(s->value_ctx, t->name, r, c + i);
                tg_q8_block(x, block);
                base_buf_bytes(b, block, sizeof block);
            }
        }
}

static inline uint32_t tg_head_dim(const struct tg_shape *s)
{
    return s->head_dim ? s->head_dim : s->n_embd / s->n_heads;
}

static inline uint32_t tg_rope_dims(const struct tg_shape *s)
{
    return s->rope_dims ? s->rope_dims : tg_head_dim(s);
}

static inline bool tg_is(const struct tg_shape *s, const char *arch)
{
    return strcmp(s->arch, arch) == 0;
}

static inline void tg_add(struct tg_tensor *out, size_t *n, uint32_t type, uint64_t columns, uint64_t rows,
                          const char *fmt, ...)
{
    va_list args;

    out[*n] = (struct tg_tensor){.columns = columns, .rows = rows, .type = rows ? type : GGUF_TENSOR_F32};
    va_start(args, fmt);
    vsnprintf(out[*n].name, sizeof out->name, fmt, args);
    va_end(args);
    ++*n;
}

static inline void tg_layer_attention(const struct tg_shape *s, uint32_t i, struct tg_tensor *out, size_t *n)
{
    const uint64_t d = s->n_embd, hd = tg_head_dim(s), q = hd * s->n_heads, kv = hd * s->n_kv_heads;

    tg_add(out, n, 0, d, 0, "blk.%u.attn_norm.weight", i);
    if (s->fused) {
        tg_add(out, n, s->type, d, q + 2 * kv, "blk.%u.attn_qkv.weight", i);
    } else {
        tg_add(out, n, s->type, d, q, "blk.%u.attn_q.weight", i);
        tg_add(out, n, s->type, d, kv, "blk.%u.attn_k.weight", i);
        tg_add(out, n, s->type, d, kv, "blk.%u.attn_v.weight", i);
    }
    if (s->biases && s->fused) {
        tg_add(out, n, 0, q + 2 * kv, 0, "blk.%u.attn_qkv.bias", i);
    } else if (s->biases) {
        tg_add(out, n, 0, q, 0, "blk.%u.attn_q.bias", i);
        tg_add(out, n, 0, kv, 0, "blk.%u.attn_k.bias", i);
        tg_add(out, n, 0, kv, 0, "blk.%u.attn_v.bias", i);
    }
    if (tg_is(s, "qwen3")) {
        tg_add(out, n, 0, hd, 0, "blk.%u.attn_q_norm.weight", i);
        tg_add(out, n, 0, hd, 0, "blk.%u.attn_k_norm.weight", i);
    }
    tg_add(out, n, s->type, q, d, "blk.%u.attn_output.weight", i);
    if (tg_is(s, "gemma2"))
        tg_add(out, n, 0, d, 0, "blk.%u.post_attention_norm.weight", i);
}

static inline void tg_layer_ffn(const struct tg_shape *s, uint32_t i, struct tg_tensor *out, size_t *n)
{
    const uint64_t d = s->n_embd;

    tg_add(out, n, 0, d, 0, "blk.%u.ffn_norm.weight", i);
    if (!tg_is(s, "phi3"))
        tg_add(out, n, s->type, d, s->n_ff, "blk.%u.ffn_gate.weight", i);
    tg_add(out, n, s->type, d, tg_is(s, "phi3") ? 2 * s->n_ff : s->n_ff, "blk.%u.ffn_up.weight", i);
    tg_add(out, n, s->type, s->n_ff, d, "blk.%u.ffn_down.weight", i);
    if (tg_is(s, "gemma2"))
        tg_add(out, n, 0, d, 0, "blk.%u.post_ffw_norm.weight", i);
    if (s->biases && tg_is(s, "llama")) {
        tg_add(out, n, 0, d, 0, "blk.%u.attn_output.bias", i);
        tg_add(out, n, 0, s->n_ff, 0, "blk.%u.ffn_gate.bias", i);
        tg_add(out, n, 0, s->n_ff, 0, "blk.%u.ffn_up.bias", i);
        tg_add(out, n, 0, d, 0, "blk.%u.ffn_down.bias", i);
    }
}

static inline size_t tg_tensors(const struct tg_shape *s, uint32_t n_vocab, struct tg_tensor *out)
{
    const uint64_t d = s->n_embd;
    size_t n = 0;

    tg_add(out, &n, s->type, d, n_vocab, "token_embd.weight");
    if (!s->tied)
        tg_add(out, &n, s->type, d, n_vocab, "output.weight");
    if (s->biases && tg_is(s, "qwen2"))
        tg_add(out, &n, 0, n_vocab, 0, "output.bias");
    tg_add(out, &n, 0, d, 0, "output_norm.weight");
    if (s->rope_freqs)
        tg_add(out, &n, 0, tg_rope_dims(s) / 2, 0, "rope_freqs.weight");
    if (s->rope_factors) {
        tg_add(out, &n, 0, tg_rope_dims(s) / 2, 0, "rope_factors_long.weight");
        tg_add(out, &n, 0, tg_rope_dims(s) / 2, 0, "rope_factors_short.weight");
    }
    if (s->extra_tensor)
        tg_add(out, &n, 0, d, 0, "%s", s->extra_tensor);
    for (uint32_t i = 0; i < s->n_layers; i++) {
        tg_layer_attention(s, i, out, &n);
        tg_layer_ffn(s, i, out, &n);
    }
    return n;
}

/* A key of the family. */
static inline void tg_u32(struct base_buf *b, const struct tg_shape *s, const char *name, uint32_t v, uint32_t *count)
{
    char key[128];

    snprintf(key, sizeof key, "%s.%s", s->arch, name);
    tg_kv_u32(b, key, v);
    ++*count;
}

static inline void tg_float(struct base_buf *b, const struct tg_shape *s, const char *name, float v, uint32_t *count)
{
    char key[128];

    snprintf(key, sizeof key, "%s.%s", s->arch, name);
    tg_kv_f32(b, key, v);
    ++*count;
}

static inline void tg_optional_kvs(struct base_buf *b, const struct tg_shape *s, uint32_t *count)
{
    const struct {
        const char *name;
        uint32_t v;
    } numbers[] = {{"attention.key_length", s->head_dim},
                   {"attention.value_length", s->head_dim},
                   {"rope.dimension_count", s->rope_dims},
                   {"pooling_type", s->pooling},
                   {"attention.sliding_window", s->window},
                   {"attention.sliding_window_pattern", s->window_every},
                   {"rope.scaling.original_context_length", s->n_ctx_orig}};
    const struct {
        const char *name;
        float v;
    } floats[] = {{"attn_logit_softcapping", s->attn_softcap},   {"final_logit_softcapping", s->final_softcap},
                  {"rope.scaling.factor", s->rope_factor},       {"rope.scaling.attn_factor", s->rope_attn},
                  {"rope.scaling.yarn_beta_fast", s->beta_fast}, {"rope.scaling.yarn_beta_slow", s->beta_slow},
                  {"rope.scaling.yarn_ext_factor", s->yarn_ext}, {"rope.scaling.yarn_attn_factor", s->yarn_attn}};
    char key[128];

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i].v)
            tg_u32(b, s, numbers[i].name, numbers[i].v, count);
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++)
        if (floats[i].v > 0)
            tg_float(b, s, floats[i].name, floats[i].v, count);
    if (s->rope_type) {
        snprintf(key, sizeof key, "%s.rope.scaling.type", s->arch);
        tg_kv_str(b, key, s->rope_type);
        ++*count;
    }
}

static inline void tg_shape_kvs(struct base_buf *b, const struct tg_shape *s, uint32_t *count)
{
    tg_kv_str(b, "general.architecture", s->arch);
    tg_kv_str(b, "general.name", "tiny");
    tg_kv_u32(b, "general.alignment", s->alignment);
    *count += 3;
    tg_u32(b, s, "context_length", s->n_ctx, count);
    tg_u32(b, s, "embedding_length", s->n_embd, count);
    tg_u32(b, s, "block_count", s->n_layers, count);
    tg_u32(b, s, "feed_forward_length", s->n_ff, count);
    tg_u32(b, s, "attention.head_count", s->n_heads, count);
    tg_u32(b, s, "attention.head_count_kv", s->n_kv_heads, count);
    tg_float(b, s, "attention.layer_norm_rms_epsilon", 1e-5f, count);
    tg_float(b, s, "rope.freq_base", 10000.0f, count);
    tg_optional_kvs(b, s, count);
    if (s->no_space_prefix) {
        tg_kv_bool(b, "tokenizer.ggml.add_space_prefix", false);
        ++*count;
    }
    if (s->retention != 0) {
        tg_kv_f32(b, "dsmil.retention.top1", s->retention);
        ++*count;
    }
    if (s->chat_template) {
        tg_kv_str(b, "tokenizer.chat_template", s->chat_template);
        ++*count;
    }
}

static inline void tg_pad(struct base_buf *b, uint32_t alignment)
{
    while (b->len % alignment != 0)
        base_buf_u8(b, 0);
}

/* The file with the vocabulary above. `ret_meta` (may be NULL): where the tensors' data begin. */
static inline void tg_build(const struct tg_shape *s, struct base_buf *out, size_t *ret_meta)
{
    struct tg_tensor t[768];
    struct base_buf kvs;
    uint32_t count = 0;
    uint64_t offset = 0;

    base_buf_init(&kvs, TG_MAX);
    base_buf_init(out, TG_MAX);
    tg_shape_kvs(&kvs, s, &count);
    if (s->bpe_pre)
        tg_vocab_bpe(&kvs, s, &count);
    else
        tg_vocab_spm(&kvs, &count);
    const size_t n = tg_tensors(s, s->bpe_pre ? TG_BPE_COUNT : TG_SPM_COUNT, t);
    base_buf_bytes(out, "GGUF", 4);
    tg_le(out, s->version, 4);
    tg_le(out, n, 8);
    tg_le(out, count, 8);
    base_buf_bytes(out, kvs.data, kvs.len);
    base_buf_free(&kvs);
    for (size_t i = 0; i < n; i++) {
        t[i].offset = offset;
        offset = (offset + tg_tensor_bytes(&t[i]) + s->alignment - 1) / s->alignment * s->alignment;
        tg_str(out, t[i].name);
        tg_le(out, t[i].rows ? 2 : 1, 4);
        tg_le(out, t[i].columns, 8);
        if (t[i].rows)
            tg_le(out, t[i].rows, 8);
        tg_le(out, t[i].type, 4);
        tg_le(out, t[i].offset, 8);
    }
    tg_pad(out, s->alignment);
    if (ret_meta)
        *ret_meta = out->len;
    for (size_t i = 0; i < n; i++) {
        tg_put_tensor(out, s, &t[i]);
        tg_pad(out, s->alignment);
    }
    assert_int_equal(out->err, DBE_OK);
}

/* The model loaded, or the test failed. */
static inline struct llm_model *tg_load(const struct tg_shape *s, const struct llm_model_params *params)
{
    static const struct llm_model_params one = {.threads = 1};
    struct base_buf file;
    struct llm_model *m = NULL;
    struct dbe_diag diag = {0};

    tg_build(s, &file, NULL);
    if (llm_model_load_mem(file.data, file.len, params ? params : &one, &m, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    base_buf_free(&file);
    return m;
}

#endif
