/* SPDX-License-Identifier: Apache-2.0
 *
 * pretoken.c - how byte-level BPE cuts text into pieces before it merges, written out as scanners.
 *
 * GPT-2:   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * LLaMA 3: (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
 *          \s+(?!\S)|\s+
 * Alternatives are tried in that order, each greedy, as the regular expressions would be.
 */
#include "vocab.h"

#include "unicode_table.h"

uint32_t llm_utf8_next(const char *text, size_t len, size_t *ret_len)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t n = 0;
    uint32_t code = 0;

    *ret_len = 1;
    if (p[0] < 0x80)
        return p[0];
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        n = 2;
        code = p[0] & 0x1fu;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        n = 3;
        code = p[0] & 0x0fu;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n = 4;
        code = p[0] & 0x07u;
    }
    if (n == 0 || n > len)
        return UINT32_MAX;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return UINT32_MAX;
        code = code << 6 | (p[i] & 0x3fu);
    }
    if ((n == 3 && code < 0x800) || (n == 4 && (code < 0x10000 || code > 0x10ffff)) ||
        (code >= 0xd800 && code < 0xe000))
        return UINT32_MAX;
    *ret_len = n;
    return code;
}

enum unicode_class llm_unicode_class(uint32_t code)
{
    size_t low = 0, high = llm_unicode_runs_count;

    if (code > 0x10ffff)
        return UNI_OTHER;
    while (high - low > 1) { /* the last run that begins at or before code */
        const size_t mid = low + (high - low) / 2;
        if (llm_unicode_runs[mid] >> 2 <= code)
            low = mid;
        else
            high = mid;
    }
    return (enum unicode_class)(llm_unicode_runs[low] & 3u);
}

/* ---- scanning ---------------------------------------------------------------------------------------------------- */

struct text {
    const char *p;
    size_t len;
};

/* Class and length of the character at `at`; at the end: -1 and 0. */
static int class_at(const struct text *t, size_t at, size_t *ret_len)
{
    if (at >= t->len) {
        *ret_len = 0;
        return -1;
    }
    return (int)llm_unicode_class(llm_utf8_next(t->p + at, t->len - at, ret_len));
}

/* End of the run of characters of `class` from `at`, of at most `max` characters. */
static size_t run_end(const struct text *t, size_t at, int class, size_t max)
{
    size_t n;

    while (max-- > 0 && class_at(t, at, &n) == class)
        at += n;
    return at;
}

static bool is_newline(char c)
{
    return c == '\r' || c == '\n';
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* 's 't 're 've 'm 'll 'd: length, or 0. U+017F folds to s where case is ignored. */
static size_t contraction(const struct text *t, bool fold)
{
    if (t->len < 2 || t->p[0] != '\'')
        return 0;
    if (fold && t->len >= 3 && t->p[1] == '\xc5' && t->p[2] == '\xbf')
        return 3;
    const char a = fold ? lower(t->p[1]) : t->p[1];
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if (t->len < 3)
        return 0;
    const char b = fold ? lower(t->p[2]) : t->p[2];
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+ at a space. */
static size_t spaces(const struct text *t)
{
    size_t at = 0, last = 0, n;

    while (class_at(t, at, &n) == UNI_SPACE) {
        last = at;
        at += n;
    }
    return at < t->len && last > 0 ? last : at; /* leave the last one to the word that follows */
}

static size_t pretoken_gpt2(const struct text *t)
{
    size_t n, skip = contraction(t, false);
    int class;

    if (skip > 0)
        return skip;
    skip = t->p[0] == ' ' ? 1 : 0;
    class = class_at(t, skip, &n);
    if (class == UNI_LETTER || class == UNI_NUMBER || class == UNI_OTHER)
        return run_end(t, skip, class, SIZE_MAX);
    return spaces(t);
}

static size_t last_newline_end(const struct text *t)
{
    size_t at = 0, end = 0, n;

    while (class_at(t, at, &n) == UNI_SPACE) {
        if (is_newline(t->p[at]))
            end = at + 1;
        at += n;
    }
    return end;
}

static size_t pretoken_llama3(const struct text *t)
{
    size_t n, m, at = contraction(t, true);
    const int first = class_at(t, 0, &n);

    if (at > 0)
        return at;
    if (first == UNI_LETTER)
        return run_end(t, 0, UNI_LETTER, SIZE_MAX);
    if (first != UNI_NUMBER && !is_newline(t->p[0]) && class_at(t, n, &m) == UNI_LETTER)
        return run_end(t, n, UNI_LETTER, SIZE_MAX);
    if (first == UNI_NUMBER)
        return run_end(t, 0, UNI_NUMBER, 3);
    at = t->p[0] == ' ' ? 1 : 0;
    if (class_at(t, at, &m) == UNI_OTHER) {
        at = run_end(t, at, UNI_OTHER, SIZE_MAX);
        while (at < t->len && is_newline(t->p[at]))
            at++;
        return at;
    }
    at = last_newline_end(t);
    return at > 0 ? at : spaces(t);
}

size_t llm_pretoken(enum vocab_pre pre, const char *text, size_t len)
{
    const struct text t = {text, len};

    return pre == VOCAB_PRE_LLAMA3 ? pretoken_llama3(&t) : pretoken_gpt2(&t);
}
