/* SPDX-License-Identifier: Apache-2.0
 *
 * pretoken.h - what the files of the pre-tokenizer share: a text that is scanned, and the stages of the families.
 * pretoken.c has the families, pretoken_words.c the stages that know words, pretoken_runs.c those of one kind of
 * character.
 */
#ifndef LLM_PRETOKEN_H
#define LLM_PRETOKEN_H

#include <string.h>

#include "vocab.h"

#define BIT(class) (1u << (class))
#define LETTERS (BIT(UNI_UPPER) | BIT(UNI_LOWER) | BIT(UNI_LETTER))
#define DIGITS BIT(UNI_NUMBER)
#define SPACES BIT(UNI_SPACE)

/* Class of an ASCII character. */
static inline enum unicode_class unicode_ascii_class(uint32_t code)
{
    if (code >= 'a' && code <= 'z')
        return UNI_LOWER;
    if (code >= 'A' && code <= 'Z')
        return UNI_UPPER;
    if (code >= '0' && code <= '9')
        return UNI_NUMBER;
    if (code == ' ' || (code >= '\t' && code <= '\r'))
        return UNI_SPACE;
    if (code < ' ' || code == 0x7f)
        return UNI_OTHER;
    return strchr("$+<=>^`|~", (int)code) ? UNI_SYMBOL : UNI_PUNCT;
}

struct text {
    const char *p;
    size_t len;
};

/* The bit of the class of the character at `at`, and its length; at the end 0 and 0. */
static inline unsigned class_at(const struct text *t, size_t at, size_t *ret_len)
{
    if (at >= t->len) {
        *ret_len = 0;
        return 0;
    }
    if ((uint8_t)t->p[at] < 0x80) {
        *ret_len = 1;
        return BIT(unicode_ascii_class((uint8_t)t->p[at]));
    }
    return BIT(llm_unicode_class(llm_utf8_next(t->p + at, t->len - at, ret_len)));
}

/* End of the run of characters of `classes` from `at`, of at most `max` characters. */
static inline size_t run_end(const struct text *t, size_t at, unsigned classes, size_t max)
{
    size_t n;

    while (max-- > 0 && (class_at(t, at, &n) & classes))
        at += n;
    return at;
}

static inline bool is_newline(char c)
{
    return c == '\r' || c == '\n';
}

/* A stage: how many bytes of a text, which is not empty, it matches at the start; 0: none. */
typedef size_t pretoken_match_fn(const struct text *t);
pretoken_match_fn pretoken_gpt2, pretoken_llama3, pretoken_qwen2, pretoken_qwen35, pretoken_tekken, pretoken_gpt4o;
pretoken_match_fn pretoken_digit, pretoken_number, pretoken_three_digits, pretoken_marks, pretoken_falcon_marks,
    pretoken_newline, pretoken_spaced_letters, pretoken_spaced_marks, pretoken_spaced_cased,
    pretoken_spaced_deepseek_marks, pretoken_last_spaces, pretoken_cjk;

#endif
