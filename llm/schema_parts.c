/* SPDX-License-Identifier: Apache-2.0
 *
 * schema_parts.c - objects and arrays of a schema. Properties come in the schema's order, optional ones may be left
 * out, others follow behind them.
 */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "schema.h"

/* ---- names that are not those of properties ---------------------------------------------------------------------- */

/* Rest of a string after its quote, without escapes: so no name can be written in two ways. */
static uint32_t plain_rest(struct grammar_builder *b)
{
    const uint32_t loop = grammar_hole(b);
    const uint32_t rest = grammar_plain(b, loop, GRAMMAR_END);

    grammar_patch(b, loop, rest);
    return rest;
}

/* Names that begin as names[from..to) do up to `at`, and are none of these. A first byte of several that is also one of
 * a property's name is left out, which is fewer names than could be. `names` is sorted. */
static uint32_t other_names(struct grammar_builder *b, const char *const *names, size_t from, size_t to, size_t at,
                            uint32_t rest)
{
    struct grammar_arm arms[SCHEMA_PROPERTIES_MAX + 1];
    const bool whole = from < to && names[from][at] == '\0';
    size_t count = 0;

    if (from == to)
        return rest;
    for (size_t i = from + whole; i < to;) {
        const uint8_t byte = (uint8_t)names[i][at];
        size_t end = i;
        while (end < to && (uint8_t)names[end][at] == byte)
            end++;
        /* a quote, a backslash and control characters are written as escapes, which there are none of here */
        if (byte >= 0x20 && byte != '"' && byte != '\\')
            arms[count++] = (struct grammar_arm){
                byte, byte, byte < 0x80 ? other_names(b, names, i, end, at + 1, rest) : GRAMMAR_NONE};
        i = end;
    }
    return grammar_plain_but(b, rest, whole ? GRAMMAR_NONE : GRAMMAR_END, arms, count);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static dbe_err other_name_rule(struct schema *s, const json_t *properties, uint32_t *ret)
{
    const char *names[SCHEMA_PROPERTIES_MAX], *name;
    json_t *value;
    size_t count = 0;

    json_object_foreach((json_t *)(uintptr_t)properties, name, value)
    {
        if (strlen(name) > 200) /* one table a byte, and a call deeper */
            return schema_refuse(s, "additionalProperties", "is not supported beside names of more than 200 bytes");
        names[count++] = name;
    }
    if (count > 1)
        qsort(names, count, sizeof *names, by_name);
    const uint32_t rest = plain_rest(&s->b);
    *ret = grammar_chars(&s->b, "\"", other_names(&s->b, names, 0, count, 0, rest));
    return s->b.err;
}

/* ---- objects ----------------------------------------------------------------------------------------------------- */

static bool is_required(const json_t *required, const char *name)
{
    const json_t *one;
    size_t i;

    json_array_foreach(required, i, one)
    {
        if (json_is_string(one) && strcmp(json_string_value(one), name) == 0)
            return true;
    }
    return false;
}

static dbe_err check_object(struct schema *s, const json_t *schema)
{
    const json_t *properties = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
    const json_t *others = json_object_get(schema, "additionalProperties"), *one;
    size_t i;

    if (properties && !json_is_object(properties))
        return schema_refuse(s, "properties", "must be an object of schemas");
    if (json_object_size(properties) > SCHEMA_PROPERTIES_MAX)
        return schema_refuse(s, "properties", "has more than 256 properties");
    if (required && !json_is_array(required))
        return schema_refuse(s, "required", "must be a list of names");
    if (others && !json_is_boolean(others) && !json_is_object(others))
        return schema_refuse(s, "additionalProperties", "must be true, false or a schema");
    DBE_TRY(schema_spend(s, required ? schema_weight(required) : 0));
    json_array_foreach(required, i, one)
    {
        if (!json_is_string(one) || !json_object_get(properties, json_string_value(one)))
            return schema_refuse(s, "required", "must be a list of names that properties has");
    }
    return DBE_OK;
}

/* `"name": value`, then next. */
static dbe_err member(struct schema *s, const char *name, const json_t *schema, uint32_t next, uint32_t *ret)
{
    json_t *text = json_string(name);
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
    uint32_t rule = GRAMMAR_END;
    dbe_err err;

    json_decref(text);
    if (!quoted)
        return dbe_fail(s->diag, DBE_E_NOMEM, "schema", 0, "no memory for the schema");
    err = schema_rule(s, schema, "properties", name, &rule);
    if (err == DBE_OK) {
        const uint32_t value = grammar_space(&s->b, grammar_call(&s->b, rule, next));
        *ret = grammar_text(&s->b, quoted, strlen(quoted), grammar_chars(&s->b, ":", value));
    }
    free(quoted);
    return err;
}

/* Members of other names: any number of them, each behind a comma, then `close`. *ret_first: the first without one. */
static dbe_err other_members(struct schema *s, const json_t *schema, const json_t *properties, uint32_t close,
                             uint32_t *ret_first, uint32_t *ret)
{
    const json_t *others = json_object_get(schema, "additionalProperties");
    uint32_t name = GRAMMAR_END, rule = s->b.value;

    if (json_is_object(others))
        DBE_TRY(schema_rule(s, others, "additionalProperties", NULL, &rule));
    DBE_TRY(other_name_rule(s, properties, &name));
    const uint32_t first = grammar_hole(&s->b);
    *ret = grammar_split(&s->b, grammar_chars(&s->b, ",", grammar_space(&s->b, first)), close);
    const uint32_t value = grammar_space(&s->b, grammar_call(&s->b, rule, *ret));
    grammar_patch(&s->b, first, grammar_call(&s->b, name, grammar_chars(&s->b, ":", value)));
    *ret_first = first;
    return s->b.err;
}

dbe_err schema_object(struct schema *s, const json_t *schema, uint32_t *ret)
{
    const json_t *properties = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
    const json_t *others = json_object_get(schema, "additionalProperties");
    const uint32_t empty = grammar_chars(&s->b, "}", GRAMMAR_END), close = grammar_space(&s->b, empty);
    const char *names[SCHEMA_PROPERTIES_MAX], *name;
    uint32_t first = empty, after = close; /* what may come where none came yet, and behind another */
    json_t *value;
    size_t count = 0;

    DBE_TRY(check_object(s, schema));
    if (!properties && (!others || json_is_true(others))) {
        *ret = s->b.object;
        return DBE_OK;
    }
    if (others && !json_is_false(others)) {
        DBE_TRY(other_members(s, schema, properties, close, &first, &after));
        first = grammar_split(&s->b, first, empty);
    }
    json_object_foreach((json_t *)(uintptr_t)properties, name, value) names[count++] = name;
    while (count-- > 0) {
        uint32_t one = GRAMMAR_END;
        DBE_TRY(schema_spend(s, 1 + json_array_size(required) / 2));
        DBE_TRY(member(s, names[count], json_object_get(properties, names[count]), after, &one));
        const uint32_t another = grammar_chars(&s->b, ",", grammar_space(&s->b, one));
        const bool must = is_required(required, names[count]);
        first = must ? one : grammar_split(&s->b, one, first);
        after = must ? another : grammar_split(&s->b, another, after);
    }
    *ret = grammar_chars(&s->b, "{", grammar_space(&s->b, first));
    return s->b.err;
}

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

static uint32_t next_item(struct schema *s, uint32_t rule, uint32_t next)
{
    return grammar_chars(&s->b, ",", grammar_space(&s->b, grammar_call(&s->b, rule, next)));
}

/* Rule of an item behind those of prefixItems; GRAMMAR_NONE: there may be none. */
static dbe_err further_items(struct schema *s, const json_t *schema, uint32_t *ret)
{
    const json_t *items = json_object_get(schema, "items");

    *ret = s->b.value;
    if (json_is_false(items))
        *ret = GRAMMAR_NONE;
    else if (items)
        DBE_TRY(schema_rule(s, items, "items", NULL, ret));
    return DBE_OK;
}

dbe_err schema_array(struct schema *s, const json_t *schema, uint32_t *ret)
{
    const json_t *prefix = json_object_get(schema, "prefixItems");
    const size_t fixed = json_array_size(prefix);
    uint32_t rules[SCHEMA_PREFIX_MAX + 1] = {0}, min = 0, max = 0;
    char name[24];

    DBE_TRY(schema_count(s, schema, "minItems", 0, &min));
    DBE_TRY(schema_count(s, schema, "maxItems", GRAMMAR_MANY, &max));
    if ((prefix && !json_is_array(prefix)) || fixed > SCHEMA_PREFIX_MAX)
        return schema_refuse(s, "prefixItems", "must be a list of at most 256 schemas");
    for (size_t i = 0; i < fixed; i++) {
        snprintf(name, sizeof name, "%zu", i);
        DBE_TRY(schema_rule(s, json_array_get(prefix, i), "prefixItems", name, &rules[i]));
    }
    DBE_TRY(further_items(s, schema, &rules[fixed]));
    if (rules[fixed] == GRAMMAR_NONE)
        max = (uint32_t)BASE_MIN((size_t)max, fixed);
    if (min > max)
        return schema_refuse(s, "minItems", "there cannot be as many items");
    const uint32_t empty = grammar_chars(&s->b, "]", GRAMMAR_END), close = grammar_space(&s->b, empty);
    const uint32_t had = (uint32_t)BASE_MAX(BASE_MIN(fixed, (size_t)max), (size_t)1); /* before the repetition */
    uint32_t after = close;
    if (max > had) {
        const uint32_t left = max == GRAMMAR_MANY ? max : max - had;
        after = grammar_repeat(&s->b, next_item(s, rules[fixed], GRAMMAR_END), min > had ? min - had : 0, left, close);
    }
    for (uint32_t i = had; i-- > 1;) {
        const uint32_t another = next_item(s, rules[i], after);
        after = i >= min ? grammar_split(&s->b, another, close) : another;
    }
    uint32_t first = max > 0 ? grammar_call(&s->b, rules[0], after) : empty;
    if (min == 0 && max > 0)
        first = grammar_split(&s->b, first, empty);
    *ret = grammar_chars(&s->b, "[", grammar_space(&s->b, first));
    return s->b.err;
}
