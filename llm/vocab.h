/* SPDX-License-Identifier: Apache-2.0
 *
 * vocab.h - the vocabulary of a model and the two tokenizers over it: SentencePiece BPE ("llama") and byte-level BPE
 * ("gpt2").
 */
#ifndef LLM_VOCAB_H
#define LLM_VOCAB_H

#include "gguf.h"
#include "llm.h"

enum {
    VOCAB_TOKEN_BYTES_MAX = 4096,
    VOCAB_SPECIAL_BYTES_MAX = 256, /* a control or user-defined token, which is looked for everywhere in a text */
    VOCAB_MERGES_MAX = 1 << 22,
    VOCAB_EOG_MAX = 32,
    PRETOKEN_STAGES_MAX = 6
};

#define VOCAB_SPACE "\xe2\x96\x81" /* U+2581, how SentencePiece writes a space */

/* Numbers as in the file (tokenizer.ggml.token_type). */
enum vocab_type {
    VOCAB_NORMAL = 1,
    VOCAB_UNKNOWN = 2,
    VOCAB_CONTROL = 3,
    VOCAB_USER = 4,
    VOCAB_UNUSED = 5,
    VOCAB_BYTE = 6
};

enum vocab_kind { VOCAB_SPM, VOCAB_BPE };
/* How text is cut before byte-level BPE merges: families of tokenizer.ggml.pre. */
enum vocab_pre {
    VOCAB_PRE_DEFAULT, /* the file says nothing */
    VOCAB_PRE_GPT2,
    VOCAB_PRE_LLAMA3,
    VOCAB_PRE_QWEN2,
    VOCAB_PRE_QWEN35,
    VOCAB_PRE_SMOLLM,
    VOCAB_PRE_TEKKEN,
    VOCAB_PRE_GPT4O,
    VOCAB_PRE_FALCON,
    VOCAB_PRE_DEEPSEEK_CODER,
    VOCAB_PRE_DEEPSEEK_LLM,
    VOCAB_PRE_COUNT
};

struct vocab_token {
    const char *name; /* as in the file, in text_pool */
    const char *text; /* bytes that it stands for, in text_pool */
    uint32_t name_len, text_len;
    float score;
    uint8_t type; /* enum vocab_type */
};

struct vocab_merge {
    uint64_t pair; /* left id << 32 | right id */
    uint32_t rank;
    int32_t merged;
};

struct llm_vocab {
    enum vocab_kind kind;
    enum vocab_pre pre;
    bool add_bos, add_eos, add_space_prefix;
    bool ignore_merges;    /* a whole piece that is a token is taken as it is */
    bool strip_after;      /* white space after special tokens is not text (llm_vocab_strips) */
    int32_t bos, eos, unk; /* -1: none */
    int32_t eog[VOCAB_EOG_MAX];
    size_t eog_count;
    struct vocab_token *tokens;
    size_t count;
    char *text_pool;
    int32_t *texts; /* hash table of ids that text may become; -1: free */
    size_t texts_mask, text_max;
    bool words_apart; /* no such text goes on with a space after something else */
    int32_t *crowded; /* those that found no place in it, sorted by their bytes */
    size_t crowded_count;
    struct vocab_merge *merges; /* hash table; merged -1: free */
    size_t merges_mask;
    struct vocab_merge *crowded_merges; /* sorted by pair */
    size_t crowded_merges_count;
    int32_t *specials; /* control, user-defined and unknown tokens, sorted by name */
    size_t specials_count, users_count;
    uint32_t specials_from[257]; /* where names of each first byte begin */
    int32_t byte_ids[256];       /* tokens of single bytes; -1: none */
    char *chat_template;         /* NUL-terminated, "" when there is none */
};

/* Read tokenizer.* of a file. E_MODEL names the key; E_NOMEM. On error `out` must still be freed. */
dbe_err llm_vocab_load(const struct gguf *g, struct llm_vocab *out, struct dbe_diag *diag) DBE_MUST_CHECK;
void llm_vocab_free(struct llm_vocab *v);

/* Id of the token that stands for these bytes and may come from text; -1: none. */
int32_t llm_vocab_find(const struct llm_vocab *v, const char *text, size_t len);
/* Id of the control, user-defined or unknown token of this name; -1: none. */
int32_t llm_vocab_special(const struct llm_vocab *v, const char *name);
/* The same, of control tokens alone: those that no text of a user becomes. */
int32_t llm_vocab_control(const struct llm_vocab *v, const char *name);
bool llm_vocab_is_eog(const struct llm_vocab *v, int32_t id);
/* Is white space after this special token dropped? */
bool llm_vocab_strips(const struct llm_vocab *v, int32_t id);
/* The first special token in text[from..len), the longest of those that start there: its position and id; `len` and -1:
 * none. User-defined tokens alone unless `all`. */
size_t llm_vocab_next_special(const struct llm_vocab *v, const char *text, size_t from, size_t len, bool all,
                              int32_t *ret_id);

/* Build the indexes over tokens that have been read; merges are added one by one, best rank first, then sorted. */
dbe_err llm_vocab_index(struct llm_vocab *v, struct dbe_diag *diag) DBE_MUST_CHECK;
dbe_err llm_vocab_index_merges(struct llm_vocab *v, size_t max) DBE_MUST_CHECK;
void llm_vocab_add_merge(struct llm_vocab *v, const struct vocab_merge *merge);
void llm_vocab_sort_merges(struct llm_vocab *v);
const struct vocab_merge *llm_vocab_find_merge(const struct llm_vocab *v, int32_t left, int32_t right);

dbe_err llm_tokens_push(struct llm_tokens *t, int32_t id) DBE_MUST_CHECK;

/* Tokens of text whose control tokens are to stay text; user-defined ones are read. `begin` says that it stands at the
 * start or after a special token, where SentencePiece puts a space in front. */
dbe_err llm_vocab_tokenize(const struct llm_vocab *v, const char *text, size_t len, bool begin,
                           struct llm_tokens *out) DBE_MUST_CHECK;
/* The same, reading control tokens; `flags` as llm_tokenize. */
dbe_err llm_vocab_tokenize_flags(const struct llm_vocab *v, const char *text, size_t len, unsigned flags,
                                 struct llm_tokens *out) DBE_MUST_CHECK;

/* Byte-level BPE's pre-tokenizer. */
struct pretokens {
    enum vocab_pre pre;
    const char *text;
    size_t len, at;
    size_t ends[PRETOKEN_STAGES_MAX]; /* of the piece of each stage that `at` is in */
};
void llm_pretokens_init(struct pretokens *it, enum vocab_pre pre, const char *text, size_t len);
/* Length of the next piece, which begins where the last one ended; 0: no more. */
size_t llm_pretokens_next(struct pretokens *it);
/* One of DeepSeek LLM's letters. */
bool llm_pretoken_is_cased(uint32_t code);

/* A value of tokenizer.ggml.pre; false: not known. */
bool llm_pretoken_by_name(const char *name, size_t len, enum vocab_pre *ret);

/* Decode one character; a byte that is not UTF-8 gives 0xFFFFFFFF and length 1. */
uint32_t llm_utf8_next(const char *text, size_t len, size_t *ret_len);

/* As in unicode_table.c. */
enum unicode_class {
    UNI_OTHER,  /* control, format, unassigned; not a character */
    UNI_UPPER,  /* Lu, Lt */
    UNI_LOWER,  /* Ll */
    UNI_LETTER, /* Lm, Lo */
    UNI_MARK,
    UNI_NUMBER,
    UNI_PUNCT,
    UNI_SYMBOL,
    UNI_SPACE /* White_Space */
};
enum unicode_class llm_unicode_class(uint32_t code);

#endif
