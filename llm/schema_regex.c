/* SPDX-License-Identifier: Apache-2.0
 *
 * schema_regex.c - reads regular expressions as far as they are regular: literals, classes, groups, alternatives,
 * repetitions, anchors. Back references, look-around, word boundaries and properties of Unicode are refused.
 *
 * In:   a hostile pattern. Out: a tree of parts.
 * Not:  what the tree allows, nor where an anchor may stand (schema_pattern.c).
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "schema_regex.h"
#include "vocab.h"

enum { CLASS_MAX = 128, NESTED_MAX = 32, COUNT_MAX = 10000 };

/* ---- classes ----------------------------------------------------------------------------------------------------- */

struct class
{
    struct regex_range ranges[CLASS_MAX];
    size_t count;
};

static int by_low(const void *a, const void *b)
{
    const struct regex_range *x = a, *y = b;

    return x->low < y->low ? -1 : x->low > y->low;
}

/* Sort and join; all others when `negated`. */
static void normalise(struct class *c, bool negated)
{
    struct class out = {.count = 0};
    uint32_t at = 0;

    qsort(c->ranges, c->count, sizeof *c->ranges, by_low);
    for (size_t i = 0; i < c->count; i++) {
        struct regex_range *last = out.count > 0 ? &out.ranges[out.count - 1] : NULL;
        if (last && c->ranges[i].low <= last->high + 1)
            last->high = BASE_MAX(last->high, c->ranges[i].high);
        else
            out.ranges[out.count++] = c->ranges[i];
    }
    *c = out;
    if (!negated)
        return;
    c->count = 0;
    for (size_t i = 0; i < out.count; i++) {
        if (out.ranges[i].low > at)
            c->ranges[c->count++] = (struct regex_range){at, out.ranges[i].low - 1};
        at = out.ranges[i].high + 1;
    }
    if (at <= REGEX_CODE_MAX && c->count < CLASS_MAX)
        c->ranges[c->count++] = (struct regex_range){at, REGEX_CODE_MAX};
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

dbe_err regex_bad(struct regex *x, const char *what)
{
    return schema_refuse(x->s, x->key, what);
}

static dbe_err add_part(struct regex *x, struct regex_part p, uint32_t *ret)
{
    if (x->part_count == REGEX_PARTS_MAX)
        return regex_bad(x, "the pattern is too large");
    x->parts[x->part_count] = p;
    *ret = x->part_count++;
    return DBE_OK;
}

static dbe_err add_class(struct regex *x, const struct class *c, uint32_t *ret)
{
    const uint32_t from = x->range_count;

    if (c->count > REGEX_RANGES_MAX - from)
        return regex_bad(x, "the pattern is too large");
    memcpy(&x->ranges[from], c->ranges, c->count * sizeof *c->ranges);
    x->range_count += (uint32_t)c->count;
    return add_part(x, (struct regex_part){.kind = REGEX_CLASS, .a = from, .b = x->range_count}, ret);
}

static dbe_err add_range(struct regex *x, struct class *c, uint32_t low, uint32_t high)
{
    if (c->count == CLASS_MAX - 1)
        return regex_bad(x, "a class of the pattern is too large");
    c->ranges[c->count++] = (struct regex_range){low, high};
    return DBE_OK;
}

static bool next_is(struct regex *x, const char *text)
{
    const size_t len = strlen(text);

    if ((size_t)(x->end - x->at) < len || memcmp(x->at, text, len) != 0)
        return false;
    x->at += len;
    return true;
}

static uint32_t take_char(struct regex *x)
{
    size_t n;
    const uint32_t c = llm_utf8_next((const char *)x->at, (size_t)(x->end - x->at), &n);

    x->at += n;
    return c;
}

static dbe_err hex(struct regex *x, unsigned digits, uint32_t *ret)
{
    uint32_t v = 0;

    for (; digits > 0; digits--) {
        const char *all = "0123456789abcdef", *hit = NULL;
        if (x->at < x->end)
            hit = memchr(all, *x->at >= 'A' && *x->at <= 'F' ? *x->at + 32 : *x->at, 16);
        if (!hit)
            return regex_bad(x, "an escape of the pattern is not complete");
        v = v * 16 + (uint32_t)(hit - all);
        x->at++;
    }
    *ret = v;
    return DBE_OK;
}

/* The class that \d, \w or \s stands for, or of a capital letter all others. False: there is none of this letter. */
static bool named_class(uint32_t letter, struct class *out)
{
    static const struct regex_range digits[] = {{'0', '9'}}, words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    /* ECMA-262's WhiteSpace and LineTerminator */
    static const struct regex_range spaces[] = {{'\t', '\r'},     {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680},
                                                {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f},
                                                {0x3000, 0x3000}, {0xfeff, 0xfeff}};
    static const struct {
        char small;
        const struct regex_range *ranges;
        size_t count;
    } classes[] = {{'d', digits, BASE_ARRAY_LEN(digits)},
                   {'w', words, BASE_ARRAY_LEN(words)},
                   {'s', spaces, BASE_ARRAY_LEN(spaces)}};

    for (size_t i = 0; i < BASE_ARRAY_LEN(classes); i++) {
        const uint32_t small = (uint8_t)classes[i].small, capital = small - 'a' + 'A';
        if (letter != small && letter != capital)
            continue;
        memcpy(out->ranges, classes[i].ranges, classes[i].count * sizeof *out->ranges);
        out->count = classes[i].count;
        normalise(out, letter == capital);
        return true;
    }
    return false;
}

/* Behind a backslash: a class such as \d is added to `c`, a character too. *ret_single: the character, or
 * GRAMMAR_NONE. */
static dbe_err escape(struct regex *x, struct class *c, uint32_t *ret_single)
{
    static const char letters[] = "nrtfv", codes[] = "\n\r\t\f\v";
    const uint32_t letter = x->at < x->end ? take_char(x) : 0;
    const char *known = letter > 0 && letter < 128 ? strchr(letters, (int)letter) : NULL;
    struct class named = {.count = 0};

    *ret_single = GRAMMAR_NONE;
    if (named_class(letter, &named)) {
        for (size_t i = 0; i < named.count; i++)
            DBE_TRY(add_range(x, c, named.ranges[i].low, named.ranges[i].high));
        return DBE_OK;
    }
    if (known)
        *ret_single = (uint8_t)codes[known - letters];
    else if (letter == 'x')
        DBE_TRY(hex(x, 2, ret_single));
    else if (letter == 'u')
        DBE_TRY(hex(x, 4, ret_single));
    else if (letter == 0 || letter > 127 || (letter >= '0' && letter <= '9') || (letter >= 'A' && letter <= 'Z') ||
             (letter >= 'a' && letter <= 'z'))
        return regex_bad(x, "an escape of the pattern is not supported");
    else
        *ret_single = letter;
    return add_range(x, c, *ret_single, *ret_single);
}

/* Behind "[". */
static dbe_err bracket(struct regex *x, uint32_t *ret)
{
    struct class c = {.count = 0};
    const bool negated = next_is(x, "^");

    while (x->at < x->end && *x->at != ']') {
        uint32_t low = take_char(x), high = 0;
        struct class ignored = {.count = 0};
        if (low == '\\')
            DBE_TRY(escape(x, &c, &low));
        else
            DBE_TRY(add_range(x, &c, low, low));
        if (low == UINT32_MAX || x->end - x->at < 2 || x->at[0] != '-' || x->at[1] == ']')
            continue;
        x->at++;
        high = take_char(x);
        if (high == '\\')
            DBE_TRY(escape(x, &ignored, &high));
        if (high == GRAMMAR_NONE || high < low)
            return regex_bad(x, "a range of the pattern is wrong");
        DBE_TRY(add_range(x, &c, low, high));
    }
    if (!next_is(x, "]"))
        return regex_bad(x, "a class of the pattern has no end");
    normalise(&c, negated);
    if (c.count == 0)
        return regex_bad(x, "a class of the pattern is empty");
    return add_class(x, &c, ret);
}

static dbe_err choice(struct regex *x, uint32_t *ret);

static dbe_err group(struct regex *x, uint32_t *ret)
{
    if (!next_is(x, "?:") && x->at < x->end && *x->at == '?')
        return regex_bad(x, "only plain groups of the pattern are supported");
    if (++x->nested > NESTED_MAX)
        return regex_bad(x, "the pattern is too deep");
    DBE_TRY(choice(x, ret));
    x->nested--;
    return next_is(x, ")") ? DBE_OK : regex_bad(x, "a group of the pattern has no end");
}

static dbe_err atom(struct regex *x, uint32_t *ret)
{
    static const struct regex_range line_ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
    struct class c = {.count = 0};
    const uint32_t letter = take_char(x);
    uint32_t single = 0;

    switch (letter) {
    case '^':
    case '$': return add_part(x, (struct regex_part){.kind = letter == '^' ? REGEX_BEGIN : REGEX_END}, ret);
    case '(': return group(x, ret);
    case '[': return bracket(x, ret);
    case '.':
        memcpy(c.ranges, line_ends, sizeof line_ends);
        c.count = BASE_ARRAY_LEN(line_ends);
        normalise(&c, true);
        return add_class(x, &c, ret);
    case '\\':
        DBE_TRY(escape(x, &c, &single));
        normalise(&c, false);
        return add_class(x, &c, ret);
    case '*':
    case '+':
    case '?':
    case '{':
    case UINT32_MAX: return regex_bad(x, "the pattern repeats nothing, or is no UTF-8");
    default: DBE_TRY(add_range(x, &c, letter, letter)); return add_class(x, &c, ret);
    }
}

static dbe_err number(struct regex *x, uint32_t *ret)
{
    uint32_t v = 0;

    if (x->at == x->end || *x->at < '0' || *x->at > '9')
        return regex_bad(x, "a count of the pattern is wrong");
    for (; x->at < x->end && *x->at >= '0' && *x->at <= '9'; x->at++)
        v = BASE_MIN(v * 10 + (uint32_t)(*x->at - '0'), (uint32_t)COUNT_MAX + 1);
    *ret = v;
    return v <= COUNT_MAX ? DBE_OK : regex_bad(x, "a count of the pattern is too large");
}

static bool is_assertion(const struct regex *x, uint32_t part)
{
    return x->parts[part].kind == REGEX_BEGIN || x->parts[part].kind == REGEX_END;
}

static dbe_err repetition(struct regex *x, uint32_t *ret)
{
    struct regex_part p = {.kind = REGEX_REPETITION, .min = 0, .max = GRAMMAR_MANY};

    DBE_TRY(atom(x, &p.a));
    if (next_is(x, "*")) {
    } else if (next_is(x, "+")) {
        p.min = 1;
    } else if (next_is(x, "?")) {
        p.max = 1;
    } else if (next_is(x, "{")) {
        DBE_TRY(number(x, &p.min));
        p.max = p.min;
        if (next_is(x, ",")) {
            p.max = GRAMMAR_MANY;
            if (x->at < x->end && *x->at != '}')
                DBE_TRY(number(x, &p.max));
        }
        if (!next_is(x, "}") || p.max < p.min)
            return regex_bad(x, "a count of the pattern is wrong");
    } else {
        *ret = p.a;
        return DBE_OK;
    }
    if (is_assertion(x, p.a))
        return regex_bad(x, "the pattern repeats an anchor");
    (void)next_is(x, "?"); /* as few as possible: the same texts */
    return add_part(x, p, ret);
}

static dbe_err sequence(struct regex *x, uint32_t *ret)
{
    uint32_t all = 0, one = 0;

    DBE_TRY(add_part(x, (struct regex_part){.kind = REGEX_NOTHING}, &all));
    while (x->at < x->end && *x->at != '|' && *x->at != ')') {
        DBE_TRY(repetition(x, &one));
        DBE_TRY(add_part(x, (struct regex_part){.kind = REGEX_SEQUENCE, .a = all, .b = one}, &all));
    }
    *ret = all;
    return DBE_OK;
}

static dbe_err choice(struct regex *x, uint32_t *ret)
{
    uint32_t all = 0, one = 0;

    DBE_TRY(sequence(x, &all));
    while (next_is(x, "|")) {
        DBE_TRY(sequence(x, &one));
        DBE_TRY(add_part(x, (struct regex_part){.kind = REGEX_CHOICE, .a = all, .b = one}, &all));
    }
    *ret = all;
    return DBE_OK;
}

dbe_err regex_read(struct regex *x, uint32_t *ret)
{
    DBE_TRY(choice(x, ret));
    return x->at == x->end ? DBE_OK : regex_bad(x, "the pattern has a closing parenthesis too many");
}
