/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_tokenize.c - any text over any small vocabulary that has a token for each byte: what was tokenised reads as the
 * text did, byte by byte, whatever the pre-tokenizer, the merges and the user-defined tokens are.
 *
 * Input: kind and pre-tokenizer, how many tokens, the tokens, the text.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "llm/gguf.h"
#include "llm/vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { EXTRA_MAX = 64, NAME_MAX = 256, FILE_MAX = 1 << 20 };

static void require(bool cond)
{
    if (!cond)
        abort();
}

struct input {
    const uint8_t *p;
    size_t left;
};

static uint8_t take(struct input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->p++;
}

/* ---- a model file of nothing but a vocabulary -------------------------------------------------------------------- */

struct names {
    char text[256 + EXTRA_MAX][NAME_MAX];
    size_t len[256 + EXTRA_MAX];
    uint8_t type[256 + EXTRA_MAX], score[256 + EXTRA_MAX];
    uint16_t pair[EXTRA_MAX][2];
    size_t count, merges;
    bool bpe;
    const char *pre;
};

static void put(struct base_buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        base_buf_u8(b, (uint8_t)(v >> (8 * i)));
}

static void put_str(struct base_buf *b, const char *p, size_t len)
{
    put(b, len, 8);
    base_buf_bytes(b, p, len);
}

static void put_key(struct base_buf *b, const char *key, uint32_t type)
{
    put_str(b, key, strlen(key));
    put(b, type, 4);
}

static void put_array(struct base_buf *b, const char *key, uint32_t of, size_t count)
{
    put_key(b, key, GGUF_ARRAY);
    put(b, of, 4);
    put(b, count, 8);
}

static void write_file(const struct names *n, struct base_buf *b)
{
    base_buf_bytes(b, "GGUF", 4);
    put(b, 3, 4);
    put(b, 0, 8);
    put(b, 7, 8);
    put_key(b, "tokenizer.ggml.model", GGUF_STRING);
    put_str(b, n->bpe ? "gpt2" : "llama", n->bpe ? 4 : 5);
    put_key(b, "tokenizer.ggml.pre", GGUF_STRING);
    put_str(b, n->pre, strlen(n->pre));
    put_key(b, "tokenizer.ggml.add_space_prefix", GGUF_BOOL);
    put(b, 0, 1);
    put_array(b, "tokenizer.ggml.tokens", GGUF_STRING, n->count);
    for (size_t i = 0; i < n->count; i++)
        put_str(b, n->text[i], n->len[i]);
    put_array(b, "tokenizer.ggml.token_type", GGUF_I32, n->count);
    for (size_t i = 0; i < n->count; i++)
        put(b, n->type[i], 4);
    put_array(b, "tokenizer.ggml.scores", GGUF_F32, n->count);
    for (size_t i = 0; i < n->count; i++) {
        const float score = -(float)n->score[i];
        uint32_t bits;
        memcpy(&bits, &score, sizeof bits);
        put(b, bits, 4);
    }
    put_array(b, "tokenizer.ggml.merges", GGUF_STRING, n->merges);
    for (size_t i = 0; i < n->merges; i++) {
        const size_t x = n->pair[i][0], y = n->pair[i][1];
        put(b, n->len[x] + 1 + n->len[y], 8);
        base_buf_bytes(b, n->text[x], n->len[x]);
        base_buf_u8(b, ' ');
        base_buf_bytes(b, n->text[y], n->len[y]);
    }
    while (b->len % 32 != 0)
        base_buf_u8(b, 0);
}

/* As GPT-2 writes a byte. */
static void byte_name(struct names *n, unsigned byte)
{
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const unsigned code = printable ? byte : 256 + (byte <= 32 ? byte : byte <= 160 ? byte - 94 : 67);

    n->type[byte] = VOCAB_NORMAL;
    if (code < 128)
        n->text[byte][n->len[byte]++] = (char)code;
    else {
        n->text[byte][n->len[byte]++] = (char)(0xc0 | code >> 6);
        n->text[byte][n->len[byte]++] = (char)(0x80 | (code & 0x3f));
    }
}

static void merged_token(struct names *n, struct input *in)
{
    const size_t i = n->count, x = (take(in) * 2u + (take(in) & 1u)) % i, y = (take(in) * 2u + (take(in) & 1u)) % i;

    if (n->len[x] + n->len[y] > NAME_MAX)
        return;
    memcpy(n->text[i], n->text[x], n->len[x]);
    memcpy(n->text[i] + n->len[x], n->text[y], n->len[y]);
    n->len[i] = n->len[x] + n->len[y];
    n->type[i] = VOCAB_NORMAL;
    n->pair[n->merges][0] = (uint16_t)x;
    n->pair[n->merges++][1] = (uint16_t)y;
    n->count++;
}

static void named_token(struct names *n, struct input *in)
{
    static const uint8_t types[] = {VOCAB_NORMAL, VOCAB_NORMAL, VOCAB_USER, VOCAB_CONTROL};
    const uint8_t first = take(in);
    const size_t i = n->count++, len = 1 + first % 8;

    n->type[i] = types[first >> 6];
    n->score[i] = take(in);
    for (size_t k = 0; k < len; k++) {
        const uint8_t c = take(in);
        if (c == ' ' && n->type[i] == VOCAB_NORMAL && n->len[i] + 3 <= NAME_MAX) {
            memcpy(n->text[i] + n->len[i], "\xe2\x96\x81", 3);
            n->len[i] += 3;
        } else {
            n->text[i][n->len[i]++] = (char)c;
        }
    }
}

static void read_names(struct names *n, struct input *in)
{
    static const char *const pres[] = {"default", "gpt-2",  "llama-bpe", "qwen2",  "qwen35",
                                       "smollm",  "tekken", "gpt-4o",    "falcon", "deepseek-coder"};
    const uint8_t head = take(in);
    const size_t extra = take(in) % (EXTRA_MAX + 1);

    n->bpe = head & 1;
    n->pre = pres[(head >> 1) % BASE_ARRAY_LEN(pres)];
    for (unsigned i = 0; i < 256; i++)
        if (n->bpe) {
            byte_name(n, i);
        } else {
            n->len[i] = (size_t)snprintf(n->text[i], NAME_MAX, "<0x%02X>", i);
            n->type[i] = VOCAB_BYTE;
        }
    n->count = 256;
    for (size_t i = 0; i < extra; i++)
        if (n->bpe && !(take(in) & 0x80))
            merged_token(n, in);
        else
            named_token(n, in);
}

/* ---- the check --------------------------------------------------------------------------------------------------- */

/* SentencePiece writes a space as U+2581 and reads it back as a space; the two are one here. */
static size_t fold(const char *p, size_t len, bool spm, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        if (spm && len - i >= 3 && memcmp(p + i, "\xe2\x96\x81", 3) == 0) {
            out[n++] = ' ';
            i += 2;
        } else {
            out[n++] = p[i];
        }
    }
    return n;
}

static void check(const struct llm_vocab *v, const char *text, size_t len)
{
    struct llm_tokens t = {0};
    struct base_buf back;
    char *a = base_alloc(len + 1, 1), *b;

    require(a && llm_vocab_tokenize(v, text, len, true, &t) == DBE_OK);
    base_buf_init(&back, 4 * len + 64);
    for (size_t i = 0; i < t.count; i++) {
        require(t.ids[i] >= 0 && (size_t)t.ids[i] < v->count && v->tokens[t.ids[i]].type != VOCAB_CONTROL);
        base_buf_bytes(&back, v->tokens[t.ids[i]].text, v->tokens[t.ids[i]].text_len);
    }
    b = base_alloc(back.len + 1, 1);
    require(b && back.err == DBE_OK);
    const size_t n = fold(text, len, v->kind == VOCAB_SPM, a);
    require(fold((const char *)back.data, back.len, v->kind == VOCAB_SPM, b) == n && memcmp(a, b, n) == 0);
    t.count = 0;
    require(llm_vocab_tokenize_flags(v, text, len, LLM_TOKENIZE_SPECIAL | LLM_TOKENIZE_BOS, &t) == DBE_OK);
    for (size_t i = 0; i < t.count; i++)
        require(t.ids[i] >= 0 && (size_t)t.ids[i] < v->count);
    llm_tokens_free(&t);
    base_buf_free(&back);
    base_free(a);
    base_free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct names *n = base_alloc(1, sizeof *n);
    struct input in = {data, size};
    struct base_buf file;
    struct gguf *g = NULL;
    struct llm_vocab v = {0};
    struct dbe_diag diag = {0};

    require(n != NULL);
    read_names(n, &in);
    base_buf_init(&file, FILE_MAX);
    write_file(n, &file);
    require(file.err == DBE_OK);
    if (gguf_open_mem(file.data, file.len, &g, &diag) == DBE_OK) {
        if (llm_vocab_load(g, &v, &diag) == DBE_OK)
            check(&v, (const char *)in.p, in.left);
        else
            require(diag.text[0] != '\0');
        llm_vocab_free(&v);
        gguf_close(g);
    }
    base_buf_free(&file);
    base_free(n);
    return 0;
}
