/* SPDX-License-Identifier: Apache-2.0
 *
 * pretoken_runs.c - stages of one kind of character, for families that cut a text in several.
 *
 * In:  a text. Out: how much of its start the stage matches; 0: nothing.
 */
#include "pretoken.h"

/* \p{N} */
size_t pretoken_digit(const struct text *t)
{
    return run_end(t, 0, DIGITS, 1);
}

/* \p{N}+ */
size_t pretoken_number(const struct text *t)
{
    return run_end(t, 0, DIGITS, SIZE_MAX);
}

/* [0-9][0-9][0-9] */
size_t pretoken_three_digits(const struct text *t)
{
    for (size_t i = 0; i < 3; i++)
        if (i >= t->len || t->p[i] < '0' || t->p[i] > '9')
            return 0;
    return 3;
}

static size_t punctuation(const struct text *t, const char *symbols)
{
    size_t at = 0, n;

    while ((class_at(t, at, &n) & BIT(UNI_PUNCT)) || (n == 1 && t->p[at] != '\0' && strchr(symbols, t->p[at])))
        at += n;
    return at;
}

/* [\p{P}\$\+<=>\^~\|]+ */
size_t pretoken_marks(const struct text *t)
{
    return punctuation(t, "$+<=>^~|");
}

/* The same with a backquote. */
size_t pretoken_falcon_marks(const struct text *t)
{
    return punctuation(t, "$+<=>^~|`");
}

/* [\r\n] */
size_t pretoken_newline(const struct text *t)
{
    return is_newline(t->p[0]) ? 1 : 0;
}

/* \s?[classes]+ */
static size_t spaced_run(const struct text *t, unsigned classes)
{
    size_t n;
    const size_t skip = class_at(t, 0, &n) == SPACES ? n : 0, end = run_end(t, skip, classes, SIZE_MAX);

    return end > skip ? end : 0;
}

size_t pretoken_spaced_letters(const struct text *t)
{
    return spaced_run(t, LETTERS);
}

size_t pretoken_spaced_marks(const struct text *t)
{
    return spaced_run(t, BIT(UNI_PUNCT));
}

typedef bool member_fn(uint32_t code);

static size_t members_end(const struct text *t, size_t at, member_fn *is_member)
{
    size_t n;

    while (at < t->len && is_member(llm_utf8_next(t->p + at, t->len - at, &n)))
        at += n;
    return at;
}

/* \s?[members]+; a space may be a member, too. */
static size_t spaced_members(const struct text *t, member_fn *is_member)
{
    size_t n;
    const size_t skip = class_at(t, 0, &n) == SPACES ? n : 0, end = members_end(t, skip, is_member);

    return end > skip || skip == 0 ? end : members_end(t, 0, is_member);
}

size_t pretoken_spaced_cased(const struct text *t)
{
    return spaced_members(t, llm_pretoken_is_cased);
}

/* [!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]: its letters went with the stage before. */
static bool is_deepseek_mark(uint32_t code)
{
    return (code >= '!' && code <= '/') || (code >= ':' && code <= '~') || (code >= 0xff01 && code <= 0xff0f) ||
           (code >= 0xff1a && code <= 0xff5e) || (code >= 0x2018 && code <= 0x201f) ||
           (code >= 0x3000 && code <= 0x3002);
}

size_t pretoken_spaced_deepseek_marks(const struct text *t)
{
    return spaced_members(t, is_deepseek_mark);
}

/* \s+$ */
size_t pretoken_last_spaces(const struct text *t)
{
    const size_t end = run_end(t, 0, SPACES, SIZE_MAX);

    return end == t->len ? end : 0;
}

/* A run of U+0800 to U+9FA5 and Hangul. */
size_t pretoken_cjk(const struct text *t)
{
    size_t at = 0, n;

    while (at < t->len) {
        const uint32_t code = llm_utf8_next(t->p + at, t->len - at, &n);
        if (!(code >= 0x800 && code <= 0x9fa5) && !(code >= 0xac00 && code <= 0xd7ff))
            break;
        at += n;
    }
    return at;
}
