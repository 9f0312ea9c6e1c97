/* SPDX-License-Identifier: Apache-2.0
 *
 * schema_keys.c - the keywords of JSON schemas: which there are, which types they are about, what reading them costs.
 *
 * In:   a hostile document. Out: types; refusals, with their place.
 * Not:  what a keyword allows (schema_values.c, schema_combine.c, schema_parts.c and others).
 */
#include "schema.h"

#include <math.h>
#include <string.h>

#include "base/base.h"

/* Keywords: those that only describe, those of one type, and those that the schema as a whole is made of. */
static const struct keyword {
    const char *name;
    unsigned about; /* types; 0: all */
    bool describes;
} keywords[] = {
    {"title", 0, true},
    {"description", 0, true},
    {"default", 0, true},
    {"examples", 0, true},
    {"example", 0, true},
    {"$schema", 0, true},
    {"$id", 0, true},
    {"$comment", 0, true},
    {"$defs", 0, true},
    {"definitions", 0, true},
    {"deprecated", 0, true},
    {"readOnly", 0, true},
    {"writeOnly", 0, true},
    {"$anchor", 0, true},
    {"discriminator", 0, true}, /* of OpenAPI: which property of oneOf's schemas differs */
    {"type", 0, false},
    {"enum", 0, false},
    {"const", 0, false},
    {"anyOf", 0, false},
    {"oneOf", 0, false},
    {"allOf", 0, false},
    {"$ref", 0, false},
    {"nullable", 0, false},
    {"properties", SCHEMA_OBJECT, false},
    {"required", SCHEMA_OBJECT, false},
    {"additionalProperties", SCHEMA_OBJECT, false},
    {"items", SCHEMA_ARRAY, false},
    {"prefixItems", SCHEMA_ARRAY, false},
    {"minItems", SCHEMA_ARRAY, false},
    {"maxItems", SCHEMA_ARRAY, false},
    {"minLength", SCHEMA_STRING, false},
    {"maxLength", SCHEMA_STRING, false},
    {"pattern", SCHEMA_STRING, false},
    {"format", SCHEMA_STRING, false},
    {"minimum", SCHEMA_NUMBER, false},
    {"maximum", SCHEMA_NUMBER, false},
    {"exclusiveMinimum", SCHEMA_NUMBER, false},
    {"exclusiveMaximum", SCHEMA_NUMBER, false},
};

static const struct {
    const char *name;
    unsigned type;
} types[] = {{"object", SCHEMA_OBJECT}, {"array", SCHEMA_ARRAY},     {"string", SCHEMA_STRING},
             {"number", SCHEMA_NUMBER}, {"integer", SCHEMA_INTEGER}, {"boolean", SCHEMA_BOOLEAN},
             {"null", SCHEMA_EMPTY}};

dbe_err schema_refuse(struct schema *s, const char *key, const char *what)
{
    return dbe_fail(s->diag, DBE_E_ARGUMENT, "schema", 0, "#%s%s%.40s: %s", s->pointer, key ? "/" : "", key ? key : "",
                    what);
}

/* ---- work -------------------------------------------------------------------------------------------------------- */

dbe_err schema_spend(struct schema *s, size_t steps)
{
    s->work = steps <= SCHEMA_WORK_MAX - s->work ? s->work + steps : SCHEMA_WORK_MAX;
    return s->work < SCHEMA_WORK_MAX ? DBE_OK
                                     : dbe_fail(s->diag, DBE_E_TOO_LARGE, "schema", 0,
                                                "#%s: the schema is too much work to translate", s->pointer);
}

size_t schema_weight(const json_t *v)
{
    size_t steps = 3 + json_string_length(v) / 16, i;
    const char *name;
    json_t *part;

    json_array_foreach(v, i, part)
    {
        steps += schema_weight(part);
    }
    json_object_foreach((json_t *)(uintptr_t)v, name, part)
    {
        steps += 3 + strlen(name) / 16 + schema_weight(part);
    }
    return steps;
}

/* ---- keywords ---------------------------------------------------------------------------------------------------- */

static const struct keyword *keyword_of(const char *name)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(keywords); i++)
        if (strcmp(keywords[i].name, name) == 0)
            return &keywords[i];
    return NULL;
}

dbe_err schema_check_keywords(struct schema *s, const json_t *schema, const char *alone, const char *with)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)schema, name, value)
    {
        const struct keyword *k = keyword_of(name);
        if (!k && strncmp(name, "x-", 2) != 0)
            return schema_refuse(s, name, "this keyword is not supported");
        if (alone && k && !k->describes && strcmp(name, alone) != 0 && strcmp(name, "nullable") != 0 &&
            !(with && strcmp(name, with) == 0))
            return schema_refuse(s, name, "this keyword is not supported beside enum, const, anyOf, oneOf or $ref");
    }
    return DBE_OK;
}

dbe_err schema_count(struct schema *s, const json_t *schema, const char *key, uint32_t absent, uint32_t *ret)
{
    const json_t *v = json_object_get(schema, key);
    const double count = v ? json_number_value(v) : 0;

    if (v && (!json_is_number(v) || !(count >= 0 && count <= 1000000) || floor(count) < count))
        return schema_refuse(s, key, "must be a whole number from 0 to 1000000");
    *ret = v ? (uint32_t)count : absent;
    return DBE_OK;
}

bool schema_describes(const char *name)
{
    const struct keyword *k = keyword_of(name);

    return k && k->describes;
}

/* ---- types ------------------------------------------------------------------------------------------------------- */

static unsigned type_named(const char *name)
{
    for (size_t i = 0; name && i < BASE_ARRAY_LEN(types); i++)
        if (strcmp(types[i].name, name) == 0)
            return types[i].type;
    return 0;
}

/* Types that the schema names, or else those that its keywords are about; 0: something else is named. */
static unsigned types_said(const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type"), *one;
    const char *name;
    json_t *value;
    unsigned found = 0;
    size_t i;

    if (json_is_array(type)) {
        json_array_foreach(type, i, one)
        {
            if (type_named(json_string_value(one)) == 0)
                return 0;
            found |= type_named(json_string_value(one));
        }
        return found;
    }
    if (type)
        return type_named(json_string_value(type));
    json_object_foreach((json_t *)(uintptr_t)schema, name, value)
    {
        const struct keyword *k = keyword_of(name);
        found |= k ? k->about : 0;
    }
    return found ? found : SCHEMA_ANY & ~(unsigned)SCHEMA_INTEGER;
}

dbe_err schema_types_of(struct schema *s, const json_t *schema, unsigned *ret)
{
    unsigned found = types_said(schema);

    if (found == 0)
        return schema_refuse(s, "type", "must name types of JSON");
    if (json_is_true(json_object_get(schema, "nullable")))
        found |= SCHEMA_EMPTY;
    *ret = found & SCHEMA_NUMBER ? found & ~(unsigned)SCHEMA_INTEGER : found;
    return DBE_OK;
}

unsigned schema_types(const json_t *schema, bool nullable, bool written)
{
    unsigned found = written || json_object_get(schema, "type") ? types_said(schema) : SCHEMA_ANY;

    if (found == 0)
        found = SCHEMA_ANY;
    return found | (found & SCHEMA_NUMBER ? SCHEMA_INTEGER : 0) | (nullable ? SCHEMA_EMPTY : 0);
}
