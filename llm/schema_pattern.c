/* SPDX-License-Identifier: Apache-2.0
 *
 * schema_pattern.c - strings of a schema: lengths, formats, and regular expressions as far as they are regular:
 * literals, classes, groups, alternatives, repetitions, anchors at the ends. Back references, look-around, word
 * boundaries and properties of Unicode are refused.
 *
 * A pattern is about the characters of a string; what comes out is about its text in JSON, so quotes, backslashes and
 * control characters are spelt as escapes, each in one way.
 */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "schema.h"
#include "vocab.h"

enum { PARTS_MAX = 2048, RANGES_MAX = 4096, CLASS_MAX = 128, NESTED_MAX = 32, COUNT_MAX = 10000, CODE_MAX = 0x10ffff };
enum { PATTERN_STEPS = 400 }; /* beside those of its text */

/* ---- characters -------------------------------------------------------------------------------------------------- */

struct range {
    uint32_t low, high;
};

struct class
{
    struct range ranges[CLASS_MAX];
    size_t count;
};

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
static uint32_t of_range(struct grammar_builder *b, struct range r, uint32_t next)
{
    static const struct range raw[] = {{0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0xd7ff}, {0xe000, CODE_MAX}};
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

static int by_low(const void *a, const void *b)
{
    const struct range *x = a, *y = b;

    return x->low < y->low ? -1 : x->low > y->low;
}

/* Sort and join; all others when `negated`. */
static void normalise(struct class *c, bool negated)
{
    struct class out = {.count = 0};
    uint32_t at = 0;

    qsort(c->ranges, c->count, sizeof *c->ranges, by_low);
    for (size_t i = 0; i < c->count; i++) {
        struct range *last = out.count > 0 ? &out.ranges[out.count - 1] : NULL;
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
            c->ranges[c->count++] = (struct range){at, out.ranges[i].low - 1};
        at = out.ranges[i].high + 1;
    }
    if (at <= CODE_MAX && c->count < CLASS_MAX)
        c->ranges[c->count++] = (struct range){at, CODE_MAX};
}

/* ---- reading a pattern ------------------------------------------------------------------------------------------- */

enum kind { NOTHING, CLASS, SEQUENCE, CHOICE, REPETITION, BEGIN, END };

struct part {
    enum kind kind;
    uint32_t a, b; /* parts; CLASS: ranges[a..b) */
    uint32_t min, max;
};

struct regex {
    struct schema *s;
    const char *key;
    const uint8_t *at, *end;
    struct part parts[PARTS_MAX];
    uint32_t part_count;
    struct range ranges[RANGES_MAX];
    uint32_t range_count;
    unsigned nested;
};

static dbe_err bad(struct regex *x, const char *what)
{
    return schema_refuse(x->s, x->key, what);
}

static dbe_err add_part(struct regex *x, struct part p, uint32_t *ret)
{
    if (x->part_count == PARTS_MAX)
        return bad(x, "the pattern is too large");
    x->parts[x->part_count] = p;
    *ret = x->part_count++;
    return DBE_OK;
}

static dbe_err add_class(struct regex *x, const struct class *c, uint32_t *ret)
{
    const uint32_t from = x->range_count;

    if (c->count > RANGES_MAX - from)
        return bad(x, "the pattern is too large");
    memcpy(&x->ranges[from], c->ranges, c->count * sizeof *c->ranges);
    x->range_count += (uint32_t)c->count;
    return add_part(x, (struct part){.kind = CLASS, .a = from, .b = x->range_count}, ret);
}

static dbe_err add_range(struct regex *x, struct class *c, uint32_t low, uint32_t high)
{
    if (c->count == CLASS_MAX - 1)
        return bad(x, "a class of the pattern is too large");
    c->ranges[c->count++] = (struct range){low, high};
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
            return bad(x, "an escape of the pattern is not complete");
        v = v * 16 + (uint32_t)(hit - all);
        x->at++;
    }
    *ret = v;
    return DBE_OK;
}

/* Behind a backslash: a class such as \d is added to `c`, a character too. *ret_single: the character, or
 * GRAMMAR_NONE. */
static dbe_err escape(struct regex *x, struct class *c, uint32_t *ret_single)
{
    static const struct range digits[] = {{'0', '9'}}, words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const struct range spaces[] = {{'\t', '\r'}, {' ', ' '}, {0xa0, 0xa0}, {0x2028, 0x2029}};
    static const char letters[] = "nrtfv", codes[] = "\n\r\t\f\v";
    const uint32_t letter = x->at < x->end ? take_char(x) : 0;
    const struct range *list = letter == 'd' || letter == 'D'   ? digits
                               : letter == 'w' || letter == 'W' ? words
                                                                : spaces;
    const size_t count = list == digits ? 1 : 4;
    const char *known = letter > 0 && letter < 128 ? strchr(letters, (int)letter) : NULL;
    struct class named = {.count = 0};

    *ret_single = GRAMMAR_NONE;
    if (letter > 0 && letter < 128 && strchr("dDwWsS", (int)letter)) {
        memcpy(named.ranges, list, count * sizeof *list);
        named.count = count;
        normalise(&named, letter < 'a');
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
        return bad(x, "an escape of the pattern is not supported");
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
            return bad(x, "a range of the pattern is wrong");
        DBE_TRY(add_range(x, &c, low, high));
    }
    if (!next_is(x, "]"))
        return bad(x, "a class of the pattern has no end");
    normalise(&c, negated);
    if (c.count == 0)
        return bad(x, "a class of the pattern is empty");
    return add_class(x, &c, ret);
}

static dbe_err choice(struct regex *x, uint32_t *ret);

static dbe_err group(struct regex *x, uint32_t *ret)
{
    if (!next_is(x, "?:") && x->at < x->end && *x->at == '?')
        return bad(x, "only plain groups of the pattern are supported");
    if (++x->nested > NESTED_MAX)
        return bad(x, "the pattern is too deep");
    DBE_TRY(choice(x, ret));
    x->nested--;
    return next_is(x, ")") ? DBE_OK : bad(x, "a group of the pattern has no end");
}

static dbe_err atom(struct regex *x, uint32_t *ret)
{
    static const struct range line_ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
    struct class c = {.count = 0};
    const uint32_t letter = take_char(x);
    uint32_t single = 0;

    switch (letter) {
    case '^':
    case '$': return add_part(x, (struct part){.kind = letter == '^' ? BEGIN : END}, ret);
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
    case UINT32_MAX: return bad(x, "the pattern repeats nothing, or is no UTF-8");
    default: DBE_TRY(add_range(x, &c, letter, letter)); return add_class(x, &c, ret);
    }
}

static dbe_err number(struct regex *x, uint32_t *ret)
{
    uint32_t v = 0;

    if (x->at == x->end || *x->at < '0' || *x->at > '9')
        return bad(x, "a count of the pattern is wrong");
    for (; x->at < x->end && *x->at >= '0' && *x->at <= '9'; x->at++)
        v = BASE_MIN(v * 10 + (uint32_t)(*x->at - '0'), (uint32_t)COUNT_MAX + 1);
    *ret = v;
    return v <= COUNT_MAX ? DBE_OK : bad(x, "a count of the pattern is too large");
}

static bool is_assertion(const struct regex *x, uint32_t part)
{
    return x->parts[part].kind == BEGIN || x->parts[part].kind == END;
}

static dbe_err repetition(struct regex *x, uint32_t *ret)
{
    struct part p = {.kind = REPETITION, .min = 0, .max = GRAMMAR_MANY};

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
            return bad(x, "a count of the pattern is wrong");
    } else {
        *ret = p.a;
        return DBE_OK;
    }
    if (is_assertion(x, p.a))
        return bad(x, "the pattern repeats an anchor");
    (void)next_is(x, "?"); /* as few as possible: the same texts */
    return add_part(x, p, ret);
}

static dbe_err sequence(struct regex *x, uint32_t *ret)
{
    uint32_t all = 0, one = 0;

    DBE_TRY(add_part(x, (struct part){.kind = NOTHING}, &all));
    while (x->at < x->end && *x->at != '|' && *x->at != ')') {
        DBE_TRY(repetition(x, &one));
        DBE_TRY(add_part(x, (struct part){.kind = SEQUENCE, .a = all, .b = one}, &all));
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
        DBE_TRY(add_part(x, (struct part){.kind = CHOICE, .a = all, .b = one}, &all));
    }
    *ret = all;
    return DBE_OK;
}

/* ---- building ---------------------------------------------------------------------------------------------------- */

static bool may_be_empty(const struct regex *x, uint32_t at)
{
    const struct part *p = &x->parts[at];

    switch (p->kind) {
    case CLASS: return false;
    case SEQUENCE: return may_be_empty(x, p->a) && may_be_empty(x, p->b);
    case CHOICE: return may_be_empty(x, p->a) || may_be_empty(x, p->b);
    case REPETITION: return p->min == 0 || may_be_empty(x, p->a);
    default: return true;
    }
}

static dbe_err build(struct regex *x, uint32_t at, uint32_t next, uint32_t *ret);

static dbe_err build_repetition(struct regex *x, const struct part *p, uint32_t next, uint32_t *ret)
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
        return bad(x, "the pattern repeats what may be empty");
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

static dbe_err build_class(struct regex *x, const struct part *p, uint32_t next, uint32_t *ret)
{
    uint32_t all = GRAMMAR_NONE;

    for (uint32_t i = p->a; i < p->b; i++) {
        const uint32_t one = of_range(&x->s->b, x->ranges[i], next);
        if (one != GRAMMAR_NONE)
            all = grammar_either(&x->s->b, all, one);
    }
    if (all == GRAMMAR_NONE)
        return bad(x, "the pattern needs a character that a string cannot have");
    *ret = all;
    return x->s->b.err;
}

/* The sequences nest to the left, so this is as deep as the longest of them; PARTS_MAX bounds it. */
static dbe_err build(struct regex *x, uint32_t at, uint32_t next, uint32_t *ret)
{
    const struct part *p = &x->parts[at];
    uint32_t one = 0, other = 0;

    switch (p->kind) {
    case NOTHING: *ret = next; return DBE_OK;
    case CLASS: return build_class(x, p, next, ret);
    case SEQUENCE: DBE_TRY(build(x, p->b, next, &other)); return build(x, p->a, other, ret);
    case CHOICE:
        DBE_TRY(build(x, p->a, next, &one));
        DBE_TRY(build(x, p->b, next, &other));
        *ret = grammar_split(&x->s->b, one, other);
        return DBE_OK;
    case REPETITION: return build_repetition(x, p, next, ret);
    default: return bad(x, "anchors are supported at the ends of the pattern alone");
    }
}

/* Take an anchor off the end (or beginning) of a sequence of the outermost choice. */
static bool take_anchor(struct regex *x, uint32_t at, enum kind kind)
{
    struct part *p = &x->parts[at];

    while (p->kind == SEQUENCE && kind == BEGIN && x->parts[p->a].kind == SEQUENCE)
        p = &x->parts[p->a];
    if (p->kind != SEQUENCE || x->parts[p->b].kind != kind)
        return false;
    x->parts[p->b].kind = NOTHING;
    return true;
}

/* One alternative of the outermost choice; where it is not anchored, anything may stand before and behind. */
static dbe_err build_whole(struct regex *x, uint32_t at, uint32_t next, uint32_t *ret)
{
    struct grammar_builder *b = &x->s->b;
    uint32_t one = 0, other = 0, hole;

    if (x->parts[at].kind == CHOICE) {
        DBE_TRY(build_whole(x, x->parts[at].a, next, &one));
        DBE_TRY(build_whole(x, x->parts[at].b, next, &other));
        *ret = grammar_split(b, one, other);
        return DBE_OK;
    }
    const bool begin = take_anchor(x, at, BEGIN), end = take_anchor(x, at, END);
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
    DBE_TRY(choice(x, &whole));
    if (x->at < x->end)
        return bad(x, "the pattern has a closing parenthesis too many");
    return build_whole(x, whole, next, ret);
}

/* ---- strings ----------------------------------------------------------------------------------------------------- */

#define MONTH_DAY                                                                                                      \
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))"
#define LEAP_YEAR "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
#define DATE "(?:\\d{4}-" MONTH_DAY "|" LEAP_YEAR "-02-29)"
#define HOUR_MINUTE "(?:[01]\\d|2[0-3]):[0-5]\\d"
#define TIME HOUR_MINUTE ":[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-]" HOUR_MINUTE ")"
#define HEX4 "[0-9a-f]{4}"
#define OCTET "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"uuid", "^" HEX4 HEX4 "-" HEX4 "-" HEX4 "-" HEX4 "-" HEX4 HEX4 HEX4 "$"},
    {"ipv4", "^" OCTET "(?:\\." OCTET "){3}$"},
};

dbe_err schema_string(struct schema *s, const json_t *schema, uint32_t *ret)
{
    const json_t *pattern = json_object_get(schema, "pattern"), *format = json_object_get(schema, "format");
    const uint32_t close = s->b.quote;
    uint32_t min = 0, max = 0, body = 0;
    size_t i = 0;

    DBE_TRY(schema_count(s, schema, "minLength", 0, &min));
    DBE_TRY(schema_count(s, schema, "maxLength", GRAMMAR_MANY, &max));
    const bool length = json_object_get(schema, "minLength") || json_object_get(schema, "maxLength");
    if ((pattern != NULL) + (format != NULL) + length > 1)
        return schema_refuse(s, pattern ? "pattern" : "format", "is not supported beside another limit of the string");
    if (max < min)
        return schema_refuse(s, "maxLength", "must not be less than minLength");
    if (pattern && !json_is_string(pattern))
        return schema_refuse(s, "pattern", "must be a string");
    while (format && i < BASE_ARRAY_LEN(formats) &&
           (!json_is_string(format) || strcmp(formats[i].name, json_string_value(format)) != 0))
        i++;
    if (i == BASE_ARRAY_LEN(formats))
        return schema_refuse(s, "format", "only date, time, date-time, uuid and ipv4 are supported");
    if (pattern)
        DBE_TRY(schema_pattern(s, "pattern", json_string_value(pattern), json_string_length(pattern), close, &body));
    else if (format)
        DBE_TRY(schema_pattern(s, "format", formats[i].pattern, strlen(formats[i].pattern), close, &body));
    else if (length)
        body = grammar_repeat(&s->b, s->b.character, min, max, close);
    else
        body = GRAMMAR_END;
    *ret = body == GRAMMAR_END ? grammar_call(&s->b, s->b.string, GRAMMAR_END) : grammar_chars(&s->b, "\"", body);
    return s->b.err;
}
