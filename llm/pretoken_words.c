/* SPDX-License-Identifier: Apache-2.0
 *
 * pretoken_words.c - stages that cut a whole text: words with what belongs to them, numbers, marks, spaces. Their
 * regular expressions stand in pretoken.c.
 *
 * In:  a text. Out: length of the piece at its start.
 */
#include "pretoken.h"

#define UPPERS (BIT(UNI_UPPER) | BIT(UNI_LETTER) | BIT(UNI_MARK))
#define LOWERS (BIT(UNI_LOWER) | BIT(UNI_LETTER) | BIT(UNI_MARK))
#define OTHERS (BIT(UNI_OTHER) | BIT(UNI_MARK) | BIT(UNI_PUNCT) | BIT(UNI_SYMBOL))

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* 's 't 're 've 'm 'll 'd at `at`: length, or 0. U+017F folds to s where case is ignored. */
static size_t contraction(const struct text *t, size_t at, bool fold)
{
    const char *p = t->p + at;
    const size_t len = t->len - at;

    if (len < 2 || p[0] != '\'')
        return 0;
    if (fold && len >= 3 && p[1] == '\xc5' && p[2] == '\xbf')
        return 3;
    const char a = fold ? lower(p[1]) : p[1];
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if (len < 3)
        return 0;
    const char b = fold ? lower(p[2]) : p[2];
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+ at a space. */
static size_t spaces(const struct text *t)
{
    size_t at = 0, last = 0, n;

    while (class_at(t, at, &n) == SPACES) {
        last = at;
        at += n;
    }
    return at < t->len && last > 0 ? last : at; /* leave the last one to the word that follows */
}

static size_t last_newline_end(const struct text *t)
{
    size_t at = 0, end = 0, n;

    while (class_at(t, at, &n) == SPACES) {
        if (is_newline(t->p[at]))
            end = at + 1;
        at += n;
    }
    return end;
}

/* ---- GPT-2 ------------------------------------------------------------------------------------------------------- */

size_t pretoken_gpt2(const struct text *t)
{
    static const unsigned kinds[] = {LETTERS, DIGITS, OTHERS};
    size_t n, skip = contraction(t, 0, false);

    if (skip > 0)
        return skip;
    skip = t->p[0] == ' ' ? 1 : 0;
    const unsigned class = class_at(t, skip, &n);
    for (size_t i = 0; i < BASE_ARRAY_LEN(kinds); i++)
        if (class & kinds[i])
            return run_end(t, skip, kinds[i], SIZE_MAX);
    return spaces(t);
}

/* ---- LLaMA 3 and those made after it ----------------------------------------------------------------------------- */

struct words {
    bool cased;       /* a word is capitals, then small letters */
    bool suffix;      /* a contraction belongs to the word before it, not to itself */
    size_t digits;    /* at most this many in one piece */
    unsigned letters; /* what a word is made of, where case does not matter */
    const char *tail; /* what may follow a run of marks */
};

/* [capitals]*[small]+ from `at`; 0: none. Letters without case count as both, so the last of a run of capitals may be
 * the one small letter. */
static size_t small_word(const struct text *t, size_t at)
{
    size_t n, end = 0;
    unsigned class;

    while ((class = class_at(t, at, &n)) & UPPERS) {
        at += n;
        if (class & LOWERS)
            end = at;
    }
    return class & LOWERS ? run_end(t, at, LOWERS, SIZE_MAX) : end;
}

static size_t cased_word(const struct text *t, const struct words *w)
{
    size_t n, end = 0, starts[2], count = 0;
    const unsigned first = class_at(t, 0, &n);

    if (!(first & (LETTERS | DIGITS)) && !is_newline(t->p[0]))
        starts[count++] = n;
    starts[count++] = 0;
    for (size_t i = 0; i < count && end == 0; i++)
        end = small_word(t, starts[i]);
    for (size_t i = 0; i < count && end == 0; i++) {
        const size_t capitals = run_end(t, starts[i], UPPERS, SIZE_MAX);
        end = capitals > starts[i] ? capitals : 0;
    }
    return end > 0 && w->suffix ? end + contraction(t, end, true) : end;
}

static size_t plain_word(const struct text *t, const struct words *w)
{
    size_t n, m;
    const unsigned first = class_at(t, 0, &n);

    if (first & w->letters)
        return run_end(t, 0, w->letters, SIZE_MAX);
    if (!(first & DIGITS) && !is_newline(t->p[0]) && (class_at(t, n, &m) & w->letters))
        return run_end(t, n, w->letters, SIZE_MAX);
    return 0;
}

static size_t match_words(const struct text *t, const struct words *w)
{
    size_t n, at = w->cased ? 0 : contraction(t, 0, true);

    if (at == 0)
        at = w->cased ? cased_word(t, w) : plain_word(t, w);
    if (at > 0)
        return at;
    if (class_at(t, 0, &n) == DIGITS)
        return run_end(t, 0, DIGITS, w->digits);
    at = t->p[0] == ' ' ? 1 : 0;
    if (class_at(t, at, &n) & OTHERS & ~w->letters) {
        at = run_end(t, at, OTHERS & ~w->letters, SIZE_MAX);
        while (at < t->len && t->p[at] != '\0' && strchr(w->tail, t->p[at]))
            at++;
        return at;
    }
    at = last_newline_end(t);
    return at > 0 ? at : spaces(t);
}

size_t pretoken_llama3(const struct text *t)
{
    static const struct words w = {.digits = 3, .letters = LETTERS, .tail = "\r\n"};

    return match_words(t, &w);
}

size_t pretoken_qwen2(const struct text *t)
{
    static const struct words w = {.digits = 1, .letters = LETTERS, .tail = "\r\n"};

    return match_words(t, &w);
}

size_t pretoken_qwen35(const struct text *t)
{
    static const struct words w = {.digits = 1, .letters = LETTERS | BIT(UNI_MARK), .tail = "\r\n"};

    return match_words(t, &w);
}

size_t pretoken_tekken(const struct text *t)
{
    static const struct words w = {.cased = true, .digits = 1, .tail = "\r\n/"};

    return match_words(t, &w);
}

size_t pretoken_gpt4o(const struct text *t)
{
    static const struct words w = {.cased = true, .suffix = true, .digits = 3, .tail = "\r\n/"};

    return match_words(t, &w);
}
