/* SPDX-License-Identifier: Apache-2.0
 *
 * schema_apart.c - oneOf: may a value be of two alternatives? A grammar can choose one of several, but cannot count how
 * many hold. So alternatives must exclude each other in a way that can be seen: by type, by values (const, enum), by
 * ranges and lengths, or by a required property. Then oneOf and anyOf are the same.
 *
 * In:   two alternatives. Of one, what its grammar writes; of the other, what it takes by the letter of JSON Schema,
 *       which is more: without `type` a schema takes all types that its keywords are not about, and an object that
 *       does not say additionalProperties may have any others.
 * Out:  whether it is certain that there is nothing in common. What cannot be seen counts as common.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "schema.h"

/* DEEP_MAX: calls below a pair. Looks: steps of comparing one pair. */
enum { DEEP_MIN = 3, DEEP_MAX = 12, PAIR_LOOKS_MAX = 1 << 14 };
/* Of the work that a schema may be: to look at another one, and at each of its keywords where it names no
 * type. */
enum { SCHEMA_STEPS = 12, KEYWORD_STEPS = 5 };

struct apart {
    struct schema *s;
    unsigned looks, deep; /* that are left */
};

/* A schema, and whether the values are those that its grammar writes. */
struct side {
    const json_t *schema;
    bool written;
};

static bool are_apart(struct apart *a, struct side one, struct side other);
static bool refutes(struct apart *a, struct side side, const json_t *v);

static bool may_look(struct apart *a, size_t steps)
{
    return a->looks > 0 && a->looks-- > 0 && schema_spend(a->s, steps) == DBE_OK;
}

static size_t text_steps(const char *text)
{
    return 1 + strlen(text) / 16;
}

/* Behind references; NULL: lost. */
static const json_t *behind(struct apart *a, const json_t *schema, bool *nullable)
{
    unsigned hops = 0;

    while (json_object_get(schema, "$ref")) {
        const json_t *ref = json_object_get(schema, "$ref");
        *nullable = *nullable || json_is_true(json_object_get(schema, "nullable"));
        schema = schema_target(a->s, json_string_value(ref));
        if (++hops > SCHEMA_DEPTH_MAX || schema_spend(a->s, 4 + json_string_length(ref)) != DBE_OK)
            return NULL;
    }
    *nullable = *nullable || json_is_true(json_object_get(schema, "nullable"));
    return schema;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* Exact also of whole numbers of 64 bits. */
static long double number_of(const json_t *v)
{
    return json_is_integer(v) ? (long double)json_integer_value(v) : (long double)json_number_value(v);
}

/* Equal, or too long to find out. */
static bool same(struct apart *a, const json_t *one, const json_t *other)
{
    const char *name;
    json_t *value;
    size_t i;

    if (!may_look(a, 1 + json_string_length(one) / 16))
        return true;
    if (json_is_number(one) && json_is_number(other)) /* 1 and 1.0 are one number */
        return !(number_of(one) < number_of(other)) && !(number_of(one) > number_of(other));
    if (json_typeof(one) != json_typeof(other) || json_array_size(one) != json_array_size(other) ||
        json_object_size(one) != json_object_size(other))
        return false;
    if (json_is_array(one)) {
        json_array_foreach(one, i, value)
        {
            if (!same(a, value, json_array_get(other, i)))
                return false;
        }
        return true;
    }
    json_object_foreach((json_t *)(uintptr_t)one, name, value)
    {
        const json_t *there = json_object_get(other, name);
        if (!there || !same(a, value, there))
            return false;
    }
    return json_is_object(one) || json_equal(one, other);
}

static long double bound(const json_t *schema, const char *key, long double absent)
{
    const json_t *v = json_object_get(schema, key);

    return json_is_number(v) ? number_of(v) : absent;
}

/* Certainly outside of the ranges that the schema names? */
static bool is_outside(const json_t *schema, const json_t *v)
{
    long double n = 0;

    if (json_is_number(v)) {
        n = number_of(v);
        return n < bound(schema, "minimum", n) || n > bound(schema, "maximum", n) ||
               n <= bound(schema, "exclusiveMinimum", -HUGE_VALL) || n >= bound(schema, "exclusiveMaximum", HUGE_VALL);
    }
    if (json_is_string(v)) {
        for (const char *p = json_string_value(v); *p; p++)
            n += ((uint8_t)*p & 0xc0) != 0x80;
        return n < bound(schema, "minLength", n) || n > bound(schema, "maxLength", n);
    }
    n = (long double)json_array_size(v);
    return json_is_array(v) && (n < bound(schema, "minItems", n) || n > bound(schema, "maxItems", n));
}

static const json_t *item_of(const json_t *schema, size_t i)
{
    const json_t *own = json_array_get(json_object_get(schema, "prefixItems"), i);

    return own ? own : json_object_get(schema, "items");
}

/* What a property must be; *ret_never: it cannot be there. */
static const json_t *property_of(struct side side, const char *name, bool *ret_never)
{
    const json_t *own = json_object_get(json_object_get(side.schema, "properties"), name);
    const json_t *others = json_object_get(side.schema, "additionalProperties");

    *ret_never =
        !own && (json_is_false(others) || (side.written && !others && json_object_get(side.schema, "properties")));
    return own ? own : json_is_object(others) ? others : NULL;
}

static bool has_bad_part(struct apart *a, struct side side, const json_t *v)
{
    const char *name;
    json_t *value;
    bool never;
    size_t i;

    json_array_foreach(v, i, value)
    {
        if (refutes(a, (struct side){item_of(side.schema, i), side.written}, value))
            return true;
    }
    json_object_foreach((json_t *)(uintptr_t)v, name, value)
    {
        const json_t *property = property_of(side, name, &never);
        if (!may_look(a, text_steps(name)))
            return false;
        if (never || (property && refutes(a, (struct side){property, side.written}, value)))
            return true;
    }
    if (!json_is_object(v))
        return false;
    json_array_foreach(json_object_get(side.schema, "required"), i, value)
    {
        if (json_is_string(value) && may_look(a, 1 + json_string_length(value) / 16) &&
            !json_object_get(v, json_string_value(value)))
            return true;
    }
    return false;
}

/* Certainly none of a list of schemas, or of values. */
static bool none_takes(struct apart *a, struct side side, const char *key, const json_t *v)
{
    const json_t *list = json_object_get(side.schema, key);
    json_t *one;
    size_t i;

    json_array_foreach(list, i, one)
    {
        if (strcmp(key, "enum") == 0 ? same(a, one, v) : !refutes(a, (struct side){one, side.written}, v))
            return false;
    }
    return list != NULL;
}

static bool has_type(struct side side, bool nullable, const json_t *v)
{
    const unsigned types = schema_types(side.schema, nullable, side.written);
    const bool whole = json_is_real(v) && floorl(number_of(v)) >= number_of(v); /* 1.0 is an integer */

    return schema_is_of(v, types) || (whole && types & SCHEMA_INTEGER);
}

/* To look at a schema, and at a text whose length it may be about. */
static size_t steps_of(const json_t *schema, const json_t *v)
{
    const size_t keywords = json_object_get(schema, "type") ? 0 : KEYWORD_STEPS * json_object_size(schema);

    return SCHEMA_STEPS + keywords + json_string_length(v) / 16;
}

/* Is the value certainly not of the schema? */
static bool refutes(struct apart *a, struct side side, const json_t *v)
{
    bool nullable = false, yes = false;
    json_t *part;
    size_t i;

    side.schema = behind(a, side.schema, &nullable);
    if (!json_is_object(side.schema) || a->deep == 0 || !may_look(a, steps_of(side.schema, v)) ||
        (nullable && json_is_null(v)))
        return false;
    a->deep--;
    const json_t *value = json_object_get(side.schema, "const");
    yes = (value && !same(a, value, v)) || none_takes(a, side, "enum", v) || none_takes(a, side, "anyOf", v) ||
          none_takes(a, side, "oneOf", v) || !has_type(side, nullable, v) || is_outside(side.schema, v) ||
          has_bad_part(a, (struct side){side.schema, side.written && !json_object_get(side.schema, "allOf")}, v);
    json_array_foreach(json_object_get(side.schema, "allOf"), i, part)
    {
        yes = yes || refutes(a, (struct side){part, false}, v);
    }
    a->deep++;
    return yes;
}

/* ---- schemas ----------------------------------------------------------------------------------------------------- */

/* All that `one` has under `key` is apart from `other`; also null, where it may be. */
static bool all_apart(struct apart *a, struct side one, const char *key, bool nullable, struct side other)
{
    const json_t *list = json_object_get(one.schema, key);
    json_t *part;
    size_t i;

    json_array_foreach(list, i, part)
    {
        const bool apart =
            strcmp(key, "enum") == 0 ? refutes(a, other, part) : are_apart(a, (struct side){part, one.written}, other);
        if (!apart)
            return false;
    }
    return list && (!nullable || refutes(a, other, json_null()));
}

static bool some_apart(struct apart *a, struct side one, struct side other)
{
    json_t *part;
    size_t i;

    json_array_foreach(json_object_get(one.schema, "allOf"), i, part)
    {
        if (are_apart(a, (struct side){part, false}, other))
            return true;
    }
    return false;
}

/* Do two ranges, each from the key `low` to `high`, have nothing in common? Open ends meet nobody. */
static bool ranges_apart(const json_t *one, const json_t *other, const char *low, const char *high)
{
    return bound(one, low, -HUGE_VALL) > bound(other, high, HUGE_VALL) ||
           bound(other, low, -HUGE_VALL) > bound(one, high, HUGE_VALL);
}

static bool numbers_apart(const json_t *one, const json_t *other)
{
    const json_t *const both[] = {one, other};

    for (size_t i = 0; i < 2; i++) {
        const json_t *low = both[i], *high = both[1 - i];
        if (bound(low, "exclusiveMinimum", -HUGE_VALL) >= bound(high, "maximum", HUGE_VALL) ||
            bound(low, "exclusiveMinimum", -HUGE_VALL) >= bound(high, "exclusiveMaximum", HUGE_VALL) ||
            bound(low, "minimum", -HUGE_VALL) >= bound(high, "exclusiveMaximum", HUGE_VALL))
            return true;
    }
    return ranges_apart(one, other, "minimum", "maximum");
}

static bool arrays_apart(struct apart *a, struct side one, struct side other)
{
    const long double least = BASE_MAX(bound(one.schema, "minItems", 0), bound(other.schema, "minItems", 0));
    const size_t own = BASE_MAX(json_array_size(json_object_get(one.schema, "prefixItems")),
                                json_array_size(json_object_get(other.schema, "prefixItems")));

    if (ranges_apart(one.schema, other.schema, "minItems", "maxItems"))
        return true;
    for (size_t i = 0; i <= own && (long double)i < least; i++)
        if (are_apart(a, (struct side){item_of(one.schema, i), one.written},
                      (struct side){item_of(other.schema, i), other.written}))
            return true;
    return false;
}

/* Is there a property that the first demands, and that cannot be of both? */
static bool demands_apart(struct apart *a, struct side one, struct side other)
{
    const json_t *name;
    size_t i;

    json_array_foreach(json_object_get(one.schema, "required"), i, name)
    {
        bool never_one, never;
        const char *text = json_string_value(name);
        if (!text || !may_look(a, text_steps(text)))
            return false;
        const json_t *mine = property_of(one, text, &never_one), *theirs = property_of(other, text, &never);
        if (never || are_apart(a, (struct side){mine, one.written}, (struct side){theirs, other.written}))
            return true;
    }
    return false;
}

/* Schemas that say what values are by their types. */
static bool types_apart(struct apart *a, struct side one, bool one_null, struct side other, bool other_null)
{
    const unsigned common =
        schema_types(one.schema, one_null, one.written) & schema_types(other.schema, other_null, other.written);

    if (common & (SCHEMA_BOOLEAN | SCHEMA_EMPTY))
        return false;
    if (common & (SCHEMA_NUMBER | SCHEMA_INTEGER) && !numbers_apart(one.schema, other.schema))
        return false;
    if (common & SCHEMA_STRING && !ranges_apart(one.schema, other.schema, "minLength", "maxLength"))
        return false;
    if (common & SCHEMA_ARRAY && !arrays_apart(a, one, other))
        return false;
    return !(common & SCHEMA_OBJECT) || demands_apart(a, one, other) || demands_apart(a, other, one);
}

static bool look(struct apart *a, struct side one, bool one_null, struct side other, bool other_null)
{
    static const char *const lists[] = {"enum", "anyOf", "oneOf"};

    for (unsigned turn = 0; turn < 2; turn++) {
        const json_t *value = json_object_get(one.schema, "const");
        if (value && refutes(a, other, value) && (!one_null || refutes(a, other, json_null())))
            return true;
        for (size_t i = 0; i < BASE_ARRAY_LEN(lists); i++)
            if (all_apart(a, one, lists[i], one_null, other))
                return true;
        if (some_apart(a, one, other))
            return true;
        const struct side swapped = one;
        const bool swapped_null = one_null;
        one = other, one_null = other_null;
        other = swapped, other_null = swapped_null;
    }
    /* what allOf writes is more than what stands beside it */
    one.written = one.written && !json_object_get(one.schema, "allOf");
    other.written = other.written && !json_object_get(other.schema, "allOf");
    return types_apart(a, one, one_null, other, other_null);
}

static bool are_apart(struct apart *a, struct side one, struct side other)
{
    bool one_null = false, other_null = false, yes;

    one.schema = behind(a, one.schema, &one_null);
    other.schema = behind(a, other.schema, &other_null);
    if (!json_is_object(one.schema) || !json_is_object(other.schema) || a->deep == 0 ||
        !may_look(a, steps_of(one.schema, NULL) + steps_of(other.schema, NULL)))
        return false;
    a->deep--;
    yes = look(a, one, one_null, other, other_null);
    a->deep++;
    return yes;
}

/* Nothing that is written for one may be of the other. Deep looks come after shallow ones, which mostly do. */
static bool pair_apart(struct schema *s, const json_t *one, const json_t *other)
{
    bool yes = false;

    for (unsigned deep = DEEP_MIN; deep <= DEEP_MAX && !yes; deep *= 2) {
        struct apart a = {s, PAIR_LOOKS_MAX, deep};
        yes = are_apart(&a, (struct side){one, true}, (struct side){other, false}) &&
              are_apart(&a, (struct side){other, true}, (struct side){one, false});
    }
    return yes;
}

dbe_err schema_check_apart(struct schema *s, const json_t *list)
{
    char text[160];

    for (size_t i = 1; i < json_array_size(list); i++)
        for (size_t k = 0; k < i; k++) {
            const bool apart = pair_apart(s, json_array_get(list, k), json_array_get(list, i));
            DBE_TRY(schema_spend(s, 0)); /* else nothing was seen for want of steps */
            if (apart)
                continue;
            snprintf(text, sizeof text,
                     "alternatives %zu and %zu may both hold; tell them apart by type, const or a "
                     "required property, or say anyOf",
                     k, i);
            return schema_refuse(s, "oneOf", text);
        }
    return DBE_OK;
}
