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
    VOCAB_EOG_MAX = 16,
    VOCAB_CONTROL_MAX = 8192 /* tokens that only LLM_TOKENIZE_SPECIAL finds */
};

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
enum vocab_pre { VOCAB_PRE_GPT2, VOCAB_PRE_LLAMA3 };

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
    int32_t bos, eos, unk; /* -1: none */
    int32_t eog[VOCAB_EOG_MAX];
    size_t eog_count;
    struct vocab_token *tokens;
    size_t count;
    char *text_pool;
    int32_t *by_text; /* ids that text may become, sorted by their bytes */
    size_t by_text_count;
    int32_t *controls; /* ids found by LLM_TOKENIZE_SPECIAL, longest name first */
    size_t controls_count;
    int32_t byte_ids[256];      /* -1: none */
    struct vocab_merge *merges; /* sorted by pair */
    size_t merges_count;
    char *chat_template; /* NUL-terminated, "" when there is none */
};

/* Read tokenizer.* of a file. E_MODEL names the key; E_NOMEM. On error `out` must still be freed. */
dbe_err llm_vocab_load(const struct gguf *g, struct llm_vocab *out, struct dbe_diag *diag) DBE_MUST_CHECK;
void llm_vocab_free(struct llm_vocab *v);

/* Id of the token that stands for these bytes and may come from text; -1: none. */
int32_t llm_vocab_find(const struct llm_vocab *v, const char *text, size_t len);
/* Id of the control or user-defined token of this name; -1: none. */
int32_t llm_vocab_control(const struct llm_vocab *v, const char *name);
bool llm_vocab_is_eog(const struct llm_vocab *v, int32_t id);

dbe_err llm_tokens_push(struct llm_tokens *t, int32_t id) DBE_MUST_CHECK;

/* Tokens of text that holds no control tokens (or whose control tokens are to stay text). `begin` says that it stands
 * at the start or after a control token, where SentencePiece puts a space in front. */
dbe_err llm_vocab_tokenize(const struct llm_vocab *v, const char *text, size_t len, bool begin,
                           struct llm_tokens *out) DBE_MUST_CHECK;
/* The same, reading control tokens; `flags` as llm_tokenize. */
dbe_err llm_vocab_tokenize_flags(const struct llm_vocab *v, const char *text, size_t len, unsigned flags,
                                 struct llm_tokens *out) DBE_MUST_CHECK;

/* Byte-level BPE's pre-tokenizer: length in bytes of the first piece of text[0..len), len > 0. */
size_t llm_pretoken(enum vocab_pre pre, const char *text, size_t len);

/* Decode one character; a byte that is not UTF-8 gives 0xFFFFFFFF and length 1. */
uint32_t llm_utf8_next(const char *text, size_t len, size_t *ret_len);

enum unicode_class { UNI_OTHER = 0, UNI_LETTER = 1, UNI_NUMBER = 2, UNI_SPACE = 3 };
enum unicode_class llm_unicode_class(uint32_t code);

#endif
