/* SPDX-License-Identifier: Apache-2.0
 *
 * grammar_json.c - the rules of JSON, which every grammar begins with: characters of strings, numbers, values.
 *
 * In:   a grammar that is begun. Out: its rules.
 */
#include <string.h>

#include "base/base.h"
#include "grammar_build.h"

enum { INDENT_MAX = 20, DIGITS_MAX = 16, EXPONENT_DIGITS_MAX = 2 };

/* ---- characters -------------------------------------------------------------------------------------------------- */

/* All of `count` continuation bytes. */
static uint32_t tail(struct grammar_builder *b, unsigned count, uint32_t next)
{
    while (count-- > 0)
        next = grammar_range(b, 0x80, 0xbf, next);
    return next;
}

/* Continuation bytes whose bits are from `low` to `high`. */
static uint32_t tail_range(struct grammar_builder *b, unsigned count, uint32_t low, uint32_t high, uint32_t next)
{
    const unsigned shift = 6 * (count - (count > 0));
    const uint32_t all = count > 0 ? (1u << shift) - 1 : 0;
    uint32_t first = low >> shift, last = high >> shift, ret = GRAMMAR_NONE;

    if (count == 0)
        return next;
    if (first == last)
        return grammar_range(b, (uint8_t)(0x80 | first), (uint8_t)(0x80 | first),
                             tail_range(b, count - 1, low & all, high & all, next));
    if ((low & all) != 0) {
        ret = grammar_range(b, (uint8_t)(0x80 | first), (uint8_t)(0x80 | first),
                            tail_range(b, count - 1, low & all, all, next));
        first++;
    }
    if ((high & all) != all) {
        const uint32_t end = grammar_range(b, (uint8_t)(0x80 | last), (uint8_t)(0x80 | last),
                                           tail_range(b, count - 1, 0, high & all, next));
        ret = grammar_either(b, ret, end);
        last--;
    }
    if (first <= last) {
        const uint32_t middle =
            grammar_range(b, (uint8_t)(0x80 | first), (uint8_t)(0x80 | last), tail(b, count - 1, next));
        ret = grammar_either(b, ret, middle);
    }
    return ret;
}

uint32_t grammar_utf8(struct grammar_builder *b, uint32_t low, uint32_t high, uint32_t next)
{
    static const struct {
        uint32_t low, high;
        unsigned tails;
        uint8_t lead;
    } widths[] = {{0, 0x7f, 0, 0},
                  {0x80, 0x7ff, 1, 0xc0},
                  {0x800, 0xd7ff, 2, 0xe0},
                  {0xe000, 0xffff, 2, 0xe0},
                  {0x10000, 0x10ffff, 3, 0xf0}};
    uint32_t ret = GRAMMAR_NONE;

    for (size_t i = 0; i < BASE_ARRAY_LEN(widths); i++) {
        const unsigned tails = widths[i].tails, shift = 6 * tails;
        const uint32_t from = BASE_MAX(low, widths[i].low), to = BASE_MIN(high, widths[i].high);
        if (from > to)
            continue;
        if (tails == 0) {
            ret = grammar_range(b, (uint8_t)from, (uint8_t)to, next);
            continue;
        }
        for (uint32_t lead = from >> shift; lead <= to >> shift;) {
            const uint32_t all = (1u << shift) - 1, base = lead << shift;
            const uint32_t first = BASE_MAX(from, base) - base, last = BASE_MIN(to, base + all) - base;
            uint32_t same = lead;
            while (first == 0 && last == all && ((same + 1) << shift) + all <= to)
                same++; /* whole leads share their tails */
            ret = grammar_either(b, ret,
                                 grammar_range(b, (uint8_t)(widths[i].lead | lead), (uint8_t)(widths[i].lead | same),
                                               tail_range(b, tails, first, last, next)));
            lead = same + 1;
        }
    }
    return ret == GRAMMAR_NONE ? GRAMMAR_END : ret;
}

#define HEX "0123456789abcdefABCDEF"

static uint32_t hex(struct grammar_builder *b, unsigned count, uint32_t next)
{
    while (count-- > 0)
        next = grammar_chars(b, HEX, next);
    return next;
}

/* What follows "\u": any UTF-16, surrogates in pairs alone, and no NUL, which C programs could not keep. */
static uint32_t unicode_escape(struct grammar_builder *b, uint32_t next)
{
    static const char some[] = "123456789abcdefABCDEF";
    const uint32_t low =
        grammar_text(b, "\\u", 2, grammar_chars(b, "dD", grammar_chars(b, "cdefCDEF", hex(b, 2, next))));
    const uint32_t pair = grammar_chars(b, "dD", grammar_chars(b, "89abAB", hex(b, 2, low)));
    const uint32_t below = grammar_chars(b, "dD", grammar_chars(b, "01234567", hex(b, 2, next)));
    uint32_t zero = grammar_chars(b, some, next);

    zero = grammar_split(b, grammar_chars(b, "0", zero), grammar_chars(b, some, hex(b, 1, next)));
    zero = grammar_split(b, grammar_chars(b, "0", zero), grammar_chars(b, some, hex(b, 2, next)));
    return grammar_split(
        b, grammar_chars(b, "0", zero),
        grammar_split(b, grammar_chars(b, "123456789abcefABCEF", hex(b, 3, next)), grammar_split(b, pair, below)));
}

uint32_t grammar_plain_but(struct grammar_builder *b, uint32_t next, uint32_t close, const struct grammar_arm *more,
                           size_t count)
{
    const uint32_t one = tail(b, 1, next), two = tail(b, 2, next), three = tail(b, 3, next);
    const struct grammar_arm arms[] = {
        {0x20, 0x7f, next},
        {'"', '"', close},
        {'\\', '\\', GRAMMAR_NONE},
        {0xc2, 0xdf, one},
        {0xe1, 0xef, two},
        {0xe0, 0xe0, grammar_range(b, 0xa0, 0xbf, one)},
        {0xed, 0xed, grammar_range(b, 0x80, 0x9f, one)},
        {0xf1, 0xf3, three},
        {0xf0, 0xf0, grammar_range(b, 0x90, 0xbf, two)},
        {0xf4, 0xf4, grammar_range(b, 0x80, 0x8f, two)},
    };

    return grammar_table(b, arms, BASE_ARRAY_LEN(arms), more, count);
}

uint32_t grammar_plain(struct grammar_builder *b, uint32_t next, uint32_t close)
{
    return grammar_plain_but(b, next, close, NULL, 0);
}

/* Any character of a string, one table, because most of a JSON text is strings. */
static uint32_t character(struct grammar_builder *b, uint32_t next, uint32_t close)
{
    const uint32_t escape =
        grammar_split(b, grammar_chars(b, "\"\\/bfnrt", next), grammar_chars(b, "u", unicode_escape(b, next)));
    const struct grammar_arm arm = {'\\', '\\', escape};

    return grammar_plain_but(b, next, close, &arm, 1);
}

uint32_t grammar_character(struct grammar_builder *b, uint32_t next)
{
    return character(b, next, GRAMMAR_NONE);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

/* At most `most` bytes of the set, each optional. */
static uint32_t up_to(struct grammar_builder *b, const char *chars, unsigned most, uint32_t next)
{
    uint32_t node = next;

    while (most-- > 0)
        node = grammar_split(b, grammar_chars(b, chars, node), next);
    return node;
}

static void make_numbers(struct grammar_builder *b)
{
    static const char digits[] = "0123456789";
    const uint32_t power = grammar_chars(b, digits, up_to(b, digits, EXPONENT_DIGITS_MAX - 1, GRAMMAR_END));
    const uint32_t exponent =
        grammar_split(b, grammar_chars(b, "eE", grammar_split(b, grammar_chars(b, "+-", power), power)), GRAMMAR_END);
    const uint32_t fraction = grammar_split(
        b, grammar_chars(b, ".", grammar_chars(b, digits, up_to(b, digits, DIGITS_MAX - 1, exponent))), exponent);
    const uint32_t ends[] = {fraction, GRAMMAR_END};
    uint32_t rules[2];

    for (size_t i = 0; i < 2; i++) {
        const uint32_t whole = grammar_split(b, grammar_chars(b, "0", ends[i]),
                                             grammar_chars(b, "123456789", up_to(b, digits, DIGITS_MAX - 1, ends[i])));
        rules[i] = grammar_split(b, grammar_chars(b, "-", whole), whole);
    }
    b->number = rules[0];
    b->integer = rules[1];
}

static void make_strings(struct grammar_builder *b)
{
    const uint32_t loop = grammar_hole(b);
    const uint32_t body = character(b, loop, GRAMMAR_END);

    grammar_patch(b, loop, body);
    b->string = grammar_chars(b, "\"", body);
    b->character = grammar_character(b, GRAMMAR_END);
    b->quote = grammar_chars(b, "\"", GRAMMAR_END);
}

static void make_values(struct grammar_builder *b)
{
    const uint32_t value = grammar_hole(b), members = grammar_hole(b), items = grammar_hole(b);
    uint32_t after, any;

    after = grammar_split(b, grammar_chars(b, ",", grammar_space(b, members)),
                          grammar_space(b, grammar_chars(b, "}", GRAMMAR_END)));
    after = grammar_chars(b, ":", grammar_space(b, grammar_call(b, value, after)));
    grammar_patch(b, members, grammar_call(b, b->string, after));
    b->object = grammar_chars(b, "{", grammar_space(b, grammar_split(b, grammar_chars(b, "}", GRAMMAR_END), members)));
    after = grammar_split(b, grammar_chars(b, ",", grammar_space(b, items)),
                          grammar_space(b, grammar_chars(b, "]", GRAMMAR_END)));
    grammar_patch(b, items, grammar_call(b, value, after));
    b->array = grammar_chars(b, "[", grammar_space(b, grammar_split(b, grammar_chars(b, "]", GRAMMAR_END), items)));
    any = grammar_split(b, b->number, grammar_split(b, b->object, b->array));
    any = grammar_split(b, any, grammar_text(b, "true", 4, GRAMMAR_END));
    any = grammar_split(b, any, grammar_text(b, "false", 5, GRAMMAR_END));
    any = grammar_split(b, any, grammar_text(b, "null", 4, GRAMMAR_END));
    /* called, not entered: nodes inside a string are then the same whatever surrounds it, and so is what follows */
    grammar_patch(b, value, grammar_split(b, grammar_call(b, b->string, GRAMMAR_END), any));
    b->value = value;
}

void grammar_json(struct grammar_builder *b)
{
    b->space = grammar_split(b, grammar_chars(b, " ", GRAMMAR_END),
                             grammar_chars(b, "\n", up_to(b, " \t", INDENT_MAX, GRAMMAR_END)));
    make_numbers(b);
    make_strings(b);
    make_values(b);
}
