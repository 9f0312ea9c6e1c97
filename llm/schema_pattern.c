/* SPDX-License-Identifier: Apache-2.0
 *
 * schema_pattern.c - what a regular expression lets a string be, as an automaton.
 *
 * In:   a pattern. Out: a rule of the texts in JSON whose strings match it.
 * Not:  no reading of the pattern (schema_regex.c).
 *
 * A pattern is about the characters of a string; what comes out is about its text in JSON, so quotes, backslashes and
 * control characters are spelt as escapes, each in one way. Anchors are taken at the ends alone; where there is none,
 * anything may stand before or behind.
 */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "schema_regex.h"

enum { PATTERN_STEPS = 400 }; /* beside those of its text */

/* ---- characters -------------------------------------------------------------------------------------------------- */

/* A control character, a quote or a backslash as JSON escapes it. */
static uint32_t escaped(struct grammar_builder *b, uint32_t c, uint32_t next)
{
    static const char codes[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *known = strchr(codes, (int)c);
    char text[16];

    if (known)
        snprintf(text, sizeof text, "\\%c", letters[known - codes]);
    else
        snprintf(text, sizeof text, "\\u%04x", (unsigned)c);
    return grammar_text(b, text, strlen(text), next);
}

/* Characters of one range, NUL left out: GRAMMAR_NONE when there is none. */
static uint32_t of_range(struct grammar_builder *b, struct regex_range r, uint32_t next)
{
    static const struct regex_range raw[] = {{0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0xd7ff}, {0xe000, REGEX_CODE_MAX}};
    static const uint32_t escapes[] = {'"', '\\'};
    uint32_t all = GRAMMAR_NONE;

    for (size_t i = 0; i < BASE_ARRAY_LEN(raw); i++) {
        const uint32_t low = BASE_MAX(r.low, raw[i].low), high = BASE_MIN(r.high, raw[i].high);
        if (low <= high)
            all = grammar_either(b, all, grammar_utf8(b, low, high, next));
    }
    for (uint32_t c = BASE_MAX(r.low, 1u); c < 0x20 && c <= r.high; c++)
        all = grammar_either(b, all, escaped(b, c, next));
    for (size_t i = 0; i < 2; i++)
        if (r.low <= escapes[i] && r.high >= escapes[i])
            all = grammar_either(b, all, escaped(b, escapes[i], next));
    return all;
}

/* ---- parts ------------------------------------------------------------------------------------------------------- */

static bool may_be_empty(const struct regex *x, uint32_t at)
{
    const struct regex_part *p = &x->parts[at];

    switch (p->kind) {
    case REGEX_CLASS: return false;
    case REGEX_SEQUENCE: return may_be_empty(x, p->a) && may_be_empty(x, p->b);
    case REGEX_CHOICE: return may_be_empty(x, p->a) || may_be_empty(x, p->b);
    case REGEX_REPETITION: return p->min == 0 || may_be_empty(x, p->a);
    default: return true;
    }
}

static dbe_err build(struct regex *x, uint32_t at, uint32_t next, uint32_t *ret);

static dbe_err build_repetition(struct regex *x, const struct regex_part *p, uint32_t next, uint32_t *ret)
{
    struct grammar_builder *b = &x->s->b;
    uint32_t body = 0, hole;

    if (p->max == 0) {
        *ret = next;
        return DBE_OK;
    }
    if (p->min == 0 && p->max == 1) {
        DBE_TRY(build(x, p->a, next, &body));
        *ret = grammar_split(b, body, next);
        return DBE_OK;
    }
    if (may_be_empty(x, p->a))
        return regex_bad(x, "the pattern repeats what may be empty");
    if (p->max == GRAMMAR_MANY && p->min <= 1) {
        hole = grammar_hole(b);
        DBE_TRY(build(x, p->a, hole, &body));
        grammar_patch(b, hole, grammar_split(b, body, next));
        *ret = p->min == 1 ? body : hole;
        return DBE_OK;
    }
    DBE_TRY(build(x, p->a, GRAMMAR_END, &body));
    *ret = grammar_repeat(b, body, p->min, p->max, next);
    return DBE_OK;
}

static dbe_err build_class(struct regex *x, const struct regex_part *p, uint32_t next, uint32_t *ret)
{
    uint32_t all = GRAMMAR_NONE;

    for (uint32_t i = p->a; i < p->b; i++) {
        const uint32_t one = of_range(&x->s->b, x->ranges[i], next);
        if (one != GRAMMAR_NONE)
            all = grammar_either(&x->s->b, all, one);
    }
    if (all == GRAMMAR_NONE)
        return regex_bad(x, "the pattern needs a character that a string cannot have");
    *ret = all;
    return x->s->b.err;
}

/* The sequences nest to the left, so this is as deep as the longest of them; REGEX_PARTS_MAX bounds it. */
static dbe_err build(struct regex *x, uint32_t at, uint32_t next, uint32_t *ret)
{
    const struct regex_part *p = &x->parts[at];
    uint32_t one = 0, other = 0;

    switch (p->kind) {
    case REGEX_NOTHING: *ret = next; return DBE_OK;
    case REGEX_CLASS: return build_class(x, p, next, ret);
    case REGEX_SEQUENCE: DBE_TRY(build(x, p->b, next, &other)); return build(x, p->a, other, ret);
    case REGEX_CHOICE:
        DBE_TRY(build(x, p->a, next, &one));
        DBE_TRY(build(x, p->b, next, &other));
        *ret = grammar_split(&x->s->b, one, other);
        return DBE_OK;
    case REGEX_REPETITION: return build_repetition(x, p, next, ret);
    default: return regex_bad(x, "anchors are supported at the ends of the pattern alone");
    }
}

/* Take an anchor off the end (or beginning) of a sequence of the outermost choice. */
static bool take_anchor(struct regex *x, uint32_t at, enum regex_kind kind)
{
    struct regex_part *p = &x->parts[at];

    while (p->kind == REGEX_SEQUENCE && kind == REGEX_BEGIN && x->parts[p->a].kind == REGEX_SEQUENCE)
        p = &x->parts[p->a];
    if (p->kind != REGEX_SEQUENCE || x->parts[p->b].kind != kind)
        return false;
    x->parts[p->b].kind = REGEX_NOTHING;
    return true;
}

/* One alternative of the outermost choice; where it is not anchored, anything may stand before and behind. */
static dbe_err build_whole(struct regex *x, uint32_t at, uint32_t next, uint32_t *ret)
{
    struct grammar_builder *b = &x->s->b;
    uint32_t one = 0, other = 0, hole;

    if (x->parts[at].kind == REGEX_CHOICE) {
        DBE_TRY(build_whole(x, x->parts[at].a, next, &one));
        DBE_TRY(build_whole(x, x->parts[at].b, next, &other));
        *ret = grammar_split(b, one, other);
        return DBE_OK;
    }
    const bool begin = take_anchor(x, at, REGEX_BEGIN), end = take_anchor(x, at, REGEX_END);
    if (!end) {
        hole = grammar_hole(b);
        grammar_patch(b, hole, grammar_split(b, grammar_character(b, hole), next));
        next = hole;
    }
    DBE_TRY(build(x, at, next, ret));
    if (!begin) {
        hole = grammar_hole(b);
        grammar_patch(b, hole, grammar_split(b, grammar_character(b, hole), *ret));
        *ret = hole;
    }
    return b->err;
}

dbe_err schema_pattern(struct schema *s, const char *key, const char *pattern, size_t len, uint32_t next, uint32_t *ret)
{
    BASE_AUTO_FREE struct regex *x = base_alloc(1, sizeof *x);
    uint32_t whole = 0;

    if (!x)
        return dbe_fail(s->diag, DBE_E_NOMEM, "schema", 0, "no memory for a pattern");
    DBE_TRY(schema_spend(s, PATTERN_STEPS + len));
    x->s = s;
    x->key = key;
    x->at = (const uint8_t *)pattern;
    x->end = x->at + len;
    DBE_TRY(regex_read(x, &whole));
    return build_whole(x, whole, next, ret);
}
