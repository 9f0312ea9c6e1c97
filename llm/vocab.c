/* SPDX-License-Identifier: Apache-2.0
 *
 * vocab.c - reads and checks tokenizer.* of a GGUF file; see vocab.h. The tokenizers are in tokenize.c, what
 * they look tokens up with in vocab_index.c.
 *
 * Names of special tokens are taken from what models use. A token that ends an answer is made a control token
 * whatever the file says, so that no text can become it; "</s>" and the like, which are markup elsewhere, only when
 * the file says that they are no ordinary tokens.
 */
#include "vocab.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#define KEY "tokenizer.ggml."

static dbe_err bad(struct dbe_diag *diag, const char *what)
{
    return dbe_fail(diag, DBE_E_MODEL, "tokenizer", 0, "%s", what);
}

static dbe_err no_memory(struct dbe_diag *diag)
{
    return dbe_fail(diag, DBE_E_NOMEM, "tokenizer", 0, "no memory for the vocabulary");
}

/* ---- names and the bytes they stand for -------------------------------------------------------------------------- */

/* GPT-2 writes bytes as printable characters: those that are printable in Latin-1 as themselves, the others from 256 on
 * in order. Inverse of that; -1: not such a character. */
static int byte_of_char(uint32_t code)
{
    if ((code >= 33 && code <= 126) || (code >= 161 && code <= 172) || (code >= 174 && code <= 255))
        return (int)code;
    if (code < 256 || code > 323)
        return -1;
    code -= 256; /* 0-32, 127-160, 173 */
    return code <= 32 ? (int)code : code <= 66 ? (int)(code - 33 + 127) : 173;
}

/* Bytes of a byte-level token; false when its name is not written that way. */
static bool text_of_bpe(const char *name, size_t len, char *out, size_t *ret_len)
{
    size_t n = 0, step;

    for (size_t at = 0; at < len; at += step) {
        const int byte = byte_of_char(llm_utf8_next(name + at, len - at, &step));
        if (byte < 0)
            return false;
        out[n++] = (char)byte;
    }
    *ret_len = n;
    return true;
}

/* U+2581 stands for a space. */
static size_t text_of_spm(const char *name, size_t len, char *out)
{
    size_t n = 0;

    for (size_t at = 0; at < len;) {
        if (len - at >= 3 && memcmp(name + at, "\xe2\x96\x81", 3) == 0) {
            out[n++] = ' ';
            at += 3;
        } else {
            out[n++] = name[at++];
        }
    }
    return n;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* "<0x0A>" -> 10; -1: something else. */
static int byte_of_name(const char *name, size_t len)
{
    if (len != 6 || memcmp(name, "<0x", 3) != 0 || name[5] != '>' || hex_digit(name[3]) < 0 || hex_digit(name[4]) < 0)
        return -1;
    return hex_digit(name[3]) * 16 + hex_digit(name[4]);
}

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

/* Marks of calls are a model's word to whoever runs its functions, so they are told even where they are control tokens:
 * then no text of a user becomes one. */
static bool is_told(const struct vocab_token *t)
{
    static const char *const marks[] = {"[TOOL_CALLS]", "<tool_call>", "</tool_call>"};

    for (size_t i = 0; t->type == VOCAB_CONTROL && i < BASE_ARRAY_LEN(marks); i++)
        if (t->name_len == strlen(marks[i]) && memcmp(t->name, marks[i], t->name_len) == 0)
            return true;
    return false;
}

static dbe_err fill_token(struct llm_vocab *v, struct vocab_token *t, size_t id, char *text, struct dbe_diag *diag)
{
    size_t len = 0;

    t->text = text;
    if (t->type == VOCAB_BYTE) {
        const int byte = byte_of_name(t->name, t->name_len);
        if (byte < 0)
            return dbe_fail(diag, DBE_E_MODEL, "tokenizer", 0, "token %zu: of type byte but not named <0xNN>", id);
        text[0] = (char)byte;
        len = 1;
        if (v->byte_ids[byte] < 0)
            v->byte_ids[byte] = (int32_t)id;
    } else if (t->type == VOCAB_USER || is_told(t)) {
        memcpy(text, t->name, t->name_len);
        len = t->name_len;
    } else if (t->type != VOCAB_NORMAL) {
        len = 0;
    } else if (v->kind == VOCAB_SPM) {
        len = text_of_spm(t->name, t->name_len, text);
    } else if (!text_of_bpe(t->name, t->name_len, text, &len)) {
        memcpy(text, t->name, t->name_len); /* an added token, printed as it is and never read from text */
        len = t->name_len;
        t->type = VOCAB_UNUSED;
    }
    t->text_len = (uint32_t)len;
    return DBE_OK;
}

static dbe_err load_types(const struct gguf *g, struct llm_vocab *v, struct dbe_diag *diag)
{
    const struct gguf_kv *types, *scores;

    DBE_TRY(gguf_get_array(g, KEY "token_type", GGUF_I32, false, &types, diag));
    DBE_TRY(gguf_get_array(g, KEY "scores", GGUF_F32, false, &scores, diag));
    if ((types && types->count != v->count) || (scores && scores->count != v->count))
        return bad(diag, "token_type and scores must be as long as tokens");
    if (!scores && v->kind == VOCAB_SPM)
        return bad(diag, "key " KEY "scores: missing");
    for (size_t i = 0; i < v->count; i++) {
        struct vocab_token *t = &v->tokens[i];
        const uint32_t type = types ? gguf_array_u32(g, types, i) : VOCAB_NORMAL;
        if (type < VOCAB_NORMAL || type > VOCAB_BYTE)
            return dbe_fail(diag, DBE_E_MODEL, "tokenizer", 0, "token %zu: unknown type %u", i, type);
        t->type = (uint8_t)type;
        if (!types && v->kind == VOCAB_SPM && byte_of_name(t->name, t->name_len) >= 0)
            t->type = VOCAB_BYTE;
        t->score = scores ? gguf_array_f32(g, scores, i) : 0;
        if (isnan(t->score))
            return dbe_fail(diag, DBE_E_MODEL, "tokenizer", 0, "token %zu: its score is not a number", i);
    }
    return DBE_OK;
}

/* Names and texts are copied: the file's metadata go away after loading. A text is never longer than its name. */
static dbe_err load_tokens(const struct gguf *g, struct llm_vocab *v, struct dbe_diag *diag)
{
    const struct gguf_kv *names;
    size_t at, len;

    DBE_TRY(gguf_get_array(g, KEY "tokens", GGUF_STRING, true, &names, diag));
    if (names->count == 0 || names->count > 1 << 20)
        return dbe_fail(diag, DBE_E_MODEL, "tokenizer", names->value_at, "key " KEY "tokens: %llu tokens",
                        (unsigned long long)names->count);
    v->count = (size_t)names->count;
    v->tokens = base_alloc(v->count, sizeof *v->tokens);
    v->text_pool = base_alloc(2, names->value_len + 1);
    if (!v->tokens || !v->text_pool)
        return no_memory(diag);
    char *pool = v->text_pool;
    at = names->value_at;
    for (size_t i = 0; i < v->count; i++) {
        const char *name = gguf_next_str(g, &at, &len);
        if (len > VOCAB_TOKEN_BYTES_MAX)
            return dbe_fail(diag, DBE_E_MODEL, "tokenizer", at, "token %zu: a name of %zu bytes", i, len);
        memcpy(pool, name, len);
        v->tokens[i].name = pool;
        v->tokens[i].name_len = (uint32_t)len;
        pool += len;
    }
    DBE_TRY(load_types(g, v, diag));
    for (size_t i = 0; i < v->count; i++) {
        DBE_TRY(fill_token(v, &v->tokens[i], i, pool, diag));
        pool += v->tokens[i].text_len;
    }
    return DBE_OK;
}

/* ---- special tokens ---------------------------------------------------------------------------------------------- */

static dbe_err get_id(const struct gguf *g, const struct llm_vocab *v, const char *key, int32_t *ret,
                      struct dbe_diag *diag)
{
    uint32_t id;

    *ret = -1;
    if (!gguf_find(g, key))
        return DBE_OK;
    DBE_TRY(gguf_get_u32(g, key, &id, diag));
    if (id >= v->count)
        return dbe_fail(diag, DBE_E_MODEL, "tokenizer", 0, "key %s: token %u is not in the vocabulary of %zu", key, id,
                        v->count);
    *ret = (int32_t)id;
    return DBE_OK;
}

static void add_eog(struct llm_vocab *v, int32_t id)
{
    if (id >= 0 && v->eog_count < VOCAB_EOG_MAX && !llm_vocab_is_eog(v, id))
        v->eog[v->eog_count++] = id;
}

/* Tokens that frame a text must never come out of text, whatever type the file gives them. */
static void make_control(struct llm_vocab *v, int32_t id)
{
    if (id < 0)
        return;
    for (size_t i = 0; i < BASE_ARRAY_LEN(v->byte_ids); i++)
        if (v->byte_ids[i] == id)
            v->byte_ids[i] = -1;
    v->tokens[id].type = VOCAB_CONTROL;
    v->tokens[id].text_len = 0;
}

static bool is_one_of(const struct vocab_token *t, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (t->name_len == strlen(names[i]) && memcmp(t->name, names[i], t->name_len) == 0)
            return true;
    return false;
}

static void find_ends(struct llm_vocab *v)
{
    static const char *const ends[] = {"<|im_end|>",
                                       "<|eot_id|>",
                                       "<|eom_id|>",
                                       "<|end|>",
                                       "<end_of_turn>",
                                       "<|endoftext|>",
                                       "<|end_of_text|>",
                                       "<EOT>",
                                       ("<\xef\xbd\x9c"
                                        "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"),
                                       "<|fim_pad|>",
                                       "<|repo_name|>",
                                       "<|file_sep|>"};
    static const char *const weak[] = {"</s>", "<eos>", "\xe2\x96\x81<EOT>"};

    for (size_t i = 0; i < v->count; i++) {
        const struct vocab_token *t = &v->tokens[i];
        if (is_one_of(t, ends, BASE_ARRAY_LEN(ends)) ||
            ((t->type == VOCAB_CONTROL || t->type == VOCAB_USER) && is_one_of(t, weak, BASE_ARRAY_LEN(weak))))
            add_eog(v, (int32_t)i);
    }
}

static dbe_err load_special(const struct gguf *g, struct llm_vocab *v, struct dbe_diag *diag)
{
    int32_t eot, eom;

    DBE_TRY(get_id(g, v, KEY "bos_token_id", &v->bos, diag));
    DBE_TRY(get_id(g, v, KEY "eos_token_id", &v->eos, diag));
    DBE_TRY(get_id(g, v, KEY "unknown_token_id", &v->unk, diag));
    DBE_TRY(get_id(g, v, KEY "eot_token_id", &eot, diag));
    DBE_TRY(get_id(g, v, KEY "eom_token_id", &eom, diag));
    add_eog(v, v->eos);
    add_eog(v, eot);
    add_eog(v, eom);
    find_ends(v);
    make_control(v, v->bos);
    for (size_t i = 0; i < v->eog_count; i++)
        make_control(v, v->eog[i]);
    if (v->unk >= 0 && v->tokens[v->unk].type != VOCAB_UNKNOWN && v->tokens[v->unk].type != VOCAB_NORMAL)
        v->unk = -1;
    return DBE_OK;
}

bool llm_vocab_is_eog(const struct llm_vocab *v, int32_t id)
{
    for (size_t i = 0; i < v->eog_count; i++)
        if (v->eog[i] == id)
            return true;
    return false;
}

/* ---- merges ------------------------------------------------------------------------------------------------------ */

/* "A B" -> ids; a merge of something that the vocabulary lacks can never end in a token and is left out. */
static bool parse_merge(const struct llm_vocab *v, const char *text, size_t len, char *buf, struct vocab_merge *out)
{
    const char *gap = len > 1 ? memchr(text + 1, ' ', len - 1) : NULL;
    size_t left, right;

    if (!gap || len > VOCAB_TOKEN_BYTES_MAX || !text_of_bpe(text, (size_t)(gap - text), buf, &left) ||
        !text_of_bpe(gap + 1, len - (size_t)(gap + 1 - text), buf + left, &right))
        return false;
    const int32_t a = llm_vocab_find(v, buf, left), b = llm_vocab_find(v, buf + left, right);
    out->merged = llm_vocab_find(v, buf, left + right);
    out->pair = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
    return a >= 0 && b >= 0 && out->merged >= 0;
}

static dbe_err load_merges(const struct gguf *g, struct llm_vocab *v, struct dbe_diag *diag)
{
    const struct gguf_kv *kv;
    struct vocab_merge merge = {0};
    char buf[VOCAB_TOKEN_BYTES_MAX + 1];
    size_t at, len;

    DBE_TRY(gguf_get_array(g, KEY "merges", GGUF_STRING, true, &kv, diag));
    if (kv->count > VOCAB_MERGES_MAX)
        return dbe_fail(diag, DBE_E_MODEL, "tokenizer", kv->value_at, "key " KEY "merges: %llu merges, at most %d",
                        (unsigned long long)kv->count, VOCAB_MERGES_MAX);
    if (llm_vocab_index_merges(v, (size_t)kv->count) != DBE_OK)
        return no_memory(diag);
    at = kv->value_at;
    for (uint64_t i = 0; i < kv->count; i++) {
        const char *text = gguf_next_str(g, &at, &len);
        merge.rank = (uint32_t)i;
        if (parse_merge(v, text, len, buf, &merge))
            llm_vocab_add_merge(v, &merge);
    }
    llm_vocab_sort_merges(v);
    return DBE_OK;
}

/* The token of each single byte. */
static void find_bytes(struct llm_vocab *v)
{
    for (unsigned i = 0; i < 256; i++) {
        const char byte = (char)i;
        v->byte_ids[i] = llm_vocab_find(v, &byte, 1);
    }
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static bool str_is(const char *p, size_t len, const char *want)
{
    return p && len == strlen(want) && memcmp(p, want, len) == 0;
}

static dbe_err load_kind(const struct gguf *g, struct llm_vocab *v, struct dbe_diag *diag)
{
    const char *model, *pre;
    size_t len, pre_len;

    DBE_TRY(gguf_get_str_or_null(g, KEY "model", &model, &len, diag));
    DBE_TRY(gguf_get_str_or_null(g, KEY "pre", &pre, &pre_len, diag));
    if (!model)
        return bad(diag, "key " KEY "model: missing");
    if (str_is(model, len, "llama")) {
        v->kind = VOCAB_SPM;
        return DBE_OK;
    }
    if (!str_is(model, len, "gpt2"))
        return dbe_fail(diag, DBE_E_MODEL, "tokenizer", 0,
                        "key " KEY "model: \"%.*s\" is not supported; llama and gpt2 are", (int)BASE_MIN(len, 32U),
                        model);
    v->kind = VOCAB_BPE;
    v->pre = VOCAB_PRE_DEFAULT;
    if (pre && !llm_pretoken_by_name(pre, pre_len, &v->pre))
        return dbe_fail(diag, DBE_E_MODEL, "tokenizer", 0,
                        "key " KEY "pre: \"%.*s\" is not a known way to cut text into words",
                        (int)BASE_MIN(pre_len, 32U), pre);
    /* these take a whole word that is a token without merging, and begin with a token of their own */
    v->ignore_merges = (v->pre == VOCAB_PRE_LLAMA3 || v->pre == VOCAB_PRE_TEKKEN) && !str_is(pre, pre_len, "dbrx") &&
                       !str_is(pre, pre_len, "smaug-bpe");
    return DBE_OK;
}

/* Phi-3's special tokens swallow the white space after them; a file tells that only by the model's name. */
static dbe_err load_strip(const struct gguf *g, struct llm_vocab *v, struct dbe_diag *diag)
{
    const char *name;
    size_t len;

    DBE_TRY(gguf_get_str_or_null(g, "general.name", &name, &len, diag));
    for (size_t i = 0; name && i + 4 <= len; i++)
        if (strncasecmp(name + i, "phi3", 4) == 0 || (i + 5 <= len && strncasecmp(name + i, "phi-3", 5) == 0))
            v->strip_after = true;
    return DBE_OK;
}

bool llm_vocab_strips(const struct llm_vocab *v, int32_t id)
{
    static const char *const keeps[] = {"<unk>", "<s>", "<|endoftext|>"};

    return v->strip_after && !is_one_of(&v->tokens[id], keeps, BASE_ARRAY_LEN(keeps));
}

dbe_err llm_vocab_load(const struct gguf *g, struct llm_vocab *v, struct dbe_diag *diag)
{
    const char *text;
    size_t len;

    *v = (struct llm_vocab){.bos = -1, .eos = -1, .unk = -1};
    for (size_t i = 0; i < BASE_ARRAY_LEN(v->byte_ids); i++)
        v->byte_ids[i] = -1;
    DBE_TRY(load_kind(g, v, diag));
    DBE_TRY(load_tokens(g, v, diag));
    DBE_TRY(load_special(g, v, diag));
    DBE_TRY(load_strip(g, v, diag));
    DBE_TRY(llm_vocab_index(v, diag));
    if (v->kind == VOCAB_BPE) {
        DBE_TRY(load_merges(g, v, diag));
        find_bytes(v);
    }
    const bool bos = v->kind == VOCAB_SPM || v->ignore_merges;
    DBE_TRY(gguf_get_bool_or(g, KEY "add_bos_token", bos, &v->add_bos, diag));
    DBE_TRY(gguf_get_bool_or(g, KEY "add_eos_token", false, &v->add_eos, diag));
    DBE_TRY(gguf_get_bool_or(g, KEY "add_space_prefix", v->kind == VOCAB_SPM, &v->add_space_prefix, diag));
    DBE_TRY(gguf_get_str_or_null(g, "tokenizer.chat_template", &text, &len, diag));
    v->chat_template = base_alloc(len + 1, 1);
    if (!v->chat_template)
        return no_memory(diag);
    if (len > 0)
        memcpy(v->chat_template, text, len);
    return DBE_OK;
}

void llm_vocab_free(struct llm_vocab *v)
{
    base_free(v->tokens);
    base_free(v->text_pool);
    base_free(v->texts);
    base_free(v->crowded);
    base_free(v->merges);
    base_free(v->crowded_merges);
    base_free(v->specials);
    base_free(v->chat_template);
    *v = (struct llm_vocab){0};
}
