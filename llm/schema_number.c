/* SPDX-License-Identifier: Apache-2.0
 *
 * schema_number.c - numbers of a schema. Ranges are exact: an integer's digits, and for other numbers integers of the
 * range with a fraction that stays inside. Bounds are whole numbers of at most 15 digits.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "schema.h"

enum { DIGITS = 16 };
#define BOUND_MAX 999999999999999 /* what a double counts exactly, and one digit less than may be written */

static uint32_t any_digits(struct grammar_builder *b, size_t count, uint32_t next)
{
    while (count-- > 0)
        next = grammar_range(b, '0', '9', next);
    return next;
}

/* Numbers of `count` digits from `low` to `high`, digit by digit; "000" to "999" for no bound. */
static uint32_t same_length(struct grammar_builder *b, const char *low, const char *high, size_t count, uint32_t next)
{
    static const char zeros[] = "0000000000000000", nines[] = "9999999999999999";
    uint8_t first, last;
    uint32_t all = GRAMMAR_NONE;

    if (count == 0)
        return next;
    first = (uint8_t)*low;
    last = (uint8_t)*high;
    if (first == last)
        return grammar_range(b, first, last, same_length(b, low + 1, high + 1, count - 1, next));
    if (memcmp(low + 1, zeros, count - 1) != 0) {
        all = grammar_range(b, first, first, same_length(b, low + 1, nines, count - 1, next));
        first++;
    }
    if (memcmp(high + 1, nines, count - 1) != 0) {
        all = grammar_either(b, all, grammar_range(b, last, last, same_length(b, zeros, high + 1, count - 1, next)));
        last--;
    }
    if (first <= last)
        all = grammar_either(b, all, grammar_range(b, first, last, any_digits(b, count - 1, next)));
    return all;
}

/* From `low` to `high`, both at least 0, without leading zeros. */
static uint32_t digits_between(struct grammar_builder *b, int64_t low, int64_t high, uint32_t next)
{
    uint32_t all = GRAMMAR_NONE;
    int64_t least = 0, most = 9;

    for (size_t count = 1; count <= DIGITS; count++) {
        const int64_t from = BASE_MAX(low, least), to = BASE_MIN(high, most);
        char first[24], last[24];
        snprintf(first, sizeof first, "%lld", (long long)from);
        snprintf(last, sizeof last, "%lld", (long long)to);
        if (from <= to)
            all = grammar_either(b, all, same_length(b, first, last, count, next));
        least = most + 1;
        most = most * 10 + 9;
    }
    return all;
}

/* From `low` to `high`, then `next`; GRAMMAR_NONE: there is none. */
static uint32_t between(struct grammar_builder *b, int64_t low, int64_t high, uint32_t next)
{
    uint32_t all = GRAMMAR_NONE;

    if (high >= 0 && low <= high)
        all = digits_between(b, BASE_MAX(low, 0), high, next);
    if (low < 0 && low <= high) {
        const uint32_t below = digits_between(b, high < 0 ? -high : 1, -low, next);
        all = grammar_either(b, all, grammar_text(b, "-", 1, below));
    }
    return all;
}

/* The bound of one side; `strict` moves it by one. */
static dbe_err bound(struct schema *s, const json_t *schema, const char *key, bool integer, bool upper, int64_t *value,
                     bool *given)
{
    const json_t *v = json_object_get(schema, key);
    const bool strict = key[0] == 'e';
    double x = json_number_value(v);

    if (!v)
        return DBE_OK;
    if (!json_is_number(v) || !(fabs(x) < (double)BOUND_MAX))
        return schema_refuse(s, key, "must be a number of at most 15 digits");
    if (!integer && (strict || floor(x) < x))
        return schema_refuse(s, key, "for numbers only whole, inclusive bounds are supported");
    if (strict)
        x = upper ? ceil(x) - 1 : floor(x) + 1;
    x = upper ? floor(x) : ceil(x);
    *value = *given ? upper ? BASE_MIN(*value, (int64_t)x) : BASE_MAX(*value, (int64_t)x) : (int64_t)x;
    *given = true;
    return DBE_OK;
}

/* Fractions between two whole numbers of the range. */
static uint32_t fractions(struct schema *s, int64_t low, int64_t high)
{
    struct grammar_builder *b = &s->b;
    uint32_t digits = GRAMMAR_END, above = GRAMMAR_NONE, below = GRAMMAR_NONE;

    for (size_t i = 1; i < DIGITS; i++)
        digits = grammar_split(b, grammar_range(b, '0', '9', digits), GRAMMAR_END);
    digits = grammar_text(b, ".", 1, grammar_range(b, '0', '9', digits));
    if (BASE_MAX(low, 0) <= high - 1)
        above = digits_between(b, BASE_MAX(low, 0), high - 1, digits);
    if (BASE_MAX(-high, 0) <= -low - 1)
        below = grammar_text(b, "-", 1, digits_between(b, BASE_MAX(-high, 0), -low - 1, digits));
    return above == GRAMMAR_NONE ? below : below == GRAMMAR_NONE ? above : grammar_split(b, above, below);
}

dbe_err schema_number(struct schema *s, const json_t *schema, bool integer, uint32_t *ret)
{
    int64_t low = -BOUND_MAX, high = BOUND_MAX;
    bool has_low = false, has_high = false;
    uint32_t parts;

    DBE_TRY(bound(s, schema, "minimum", integer, false, &low, &has_low));
    DBE_TRY(bound(s, schema, "exclusiveMinimum", integer, false, &low, &has_low));
    DBE_TRY(bound(s, schema, "maximum", integer, true, &high, &has_high));
    DBE_TRY(bound(s, schema, "exclusiveMaximum", integer, true, &high, &has_high));
    if (!has_low && !has_high) {
        *ret = integer ? s->b.integer : s->b.number;
        return DBE_OK;
    }
    *ret = between(&s->b, low, high, GRAMMAR_END);
    if (*ret == GRAMMAR_NONE)
        return schema_refuse(s, NULL, "no number lies between the bounds");
    if (!integer) {
        parts = fractions(s, low, high);
        if (parts != GRAMMAR_NONE)
            *ret = grammar_split(&s->b, *ret, parts);
    }
    return s->b.err;
}
