/* SPDX-License-Identifier: Apache-2.0
 *
 * schema.c - a JSON schema as a grammar. What constrains and is not understood is refused with its place, never left
 * out; what only describes is skipped.
 *
 * Differences from the letter of JSON Schema, all of which allow less: without `type`, the types are those that the
 * other keywords are about; an object with `properties` has no others unless additionalProperties says so. oneOf is
 * taken where its schemas can be seen to exclude each other.
 */
#include "schema.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

enum {
    OBJECT = SCHEMA_OBJECT,
    ARRAY = SCHEMA_ARRAY,
    STRING = SCHEMA_STRING,
    NUMBER = SCHEMA_NUMBER,
    INTEGER = SCHEMA_INTEGER,
    BOOLEAN = SCHEMA_BOOLEAN,
    EMPTY = SCHEMA_EMPTY,
    ANY = SCHEMA_ANY & ~INTEGER
};

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
    {"properties", OBJECT, false},
    {"required", OBJECT, false},
    {"additionalProperties", OBJECT, false},
    {"items", ARRAY, false},
    {"prefixItems", ARRAY, false},
    {"minItems", ARRAY, false},
    {"maxItems", ARRAY, false},
    {"minLength", STRING, false},
    {"maxLength", STRING, false},
    {"pattern", STRING, false},
    {"format", STRING, false},
    {"minimum", NUMBER, false},
    {"maximum", NUMBER, false},
    {"exclusiveMinimum", NUMBER, false},
    {"exclusiveMaximum", NUMBER, false},
};

static const struct {
    const char *name;
    unsigned type;
} types[] = {{"object", OBJECT},   {"array", ARRAY},     {"string", STRING}, {"number", NUMBER},
             {"integer", INTEGER}, {"boolean", BOOLEAN}, {"null", EMPTY}};

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

enum { KEYWORD_STEPS = 5 }; /* to look one up in the table */

/* ---- keywords ---------------------------------------------------------------------------------------------------- */

static const struct keyword *keyword_of(const char *name)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(keywords); i++)
        if (strcmp(keywords[i].name, name) == 0)
            return &keywords[i];
    return NULL;
}

/* Every keyword is known; those that constrain, but for `alone` and `with` (may be NULL), are refused when `alone` is
 * set. */
static dbe_err check_keywords(struct schema *s, const json_t *schema, const char *alone, const char *with)
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
    return found ? found : ANY;
}

static dbe_err types_of(struct schema *s, const json_t *schema, unsigned *ret)
{
    unsigned found = types_said(schema);

    if (found == 0)
        return schema_refuse(s, "type", "must name types of JSON");
    if (json_is_true(json_object_get(schema, "nullable")))
        found |= EMPTY;
    *ret = found & NUMBER ? found & ~(unsigned)INTEGER : found;
    return DBE_OK;
}

unsigned schema_types(const json_t *schema, bool nullable, bool written)
{
    unsigned found = written || json_object_get(schema, "type") ? types_said(schema) : SCHEMA_ANY;

    if (found == 0)
        found = SCHEMA_ANY;
    return found | (found & NUMBER ? INTEGER : 0) | (nullable ? EMPTY : 0);
}

static dbe_err by_type(struct schema *s, const json_t *schema, uint32_t *ret)
{
    struct grammar_builder *b = &s->b;
    uint32_t rule = 0, all = GRAMMAR_NONE;
    unsigned found = 0;

    DBE_TRY(check_keywords(s, schema, NULL, NULL));
    DBE_TRY(types_of(s, schema, &found));
    if (found & OBJECT) {
        DBE_TRY(schema_object(s, schema, &rule));
        all = grammar_either(b, all, rule);
    }
    if (found & ARRAY) {
        DBE_TRY(schema_array(s, schema, &rule));
        all = grammar_either(b, all, rule);
    }
    if (found & STRING) {
        DBE_TRY(schema_string(s, schema, &rule));
        all = grammar_either(b, all, rule);
    }
    if (found & (NUMBER | INTEGER)) {
        DBE_TRY(schema_number(s, schema, !(found & NUMBER), &rule));
        all = grammar_either(b, all, rule);
    }
    if (found & BOOLEAN)
        all = grammar_either(
            b, all,
            grammar_split(b, grammar_text(b, "true", 4, GRAMMAR_END), grammar_text(b, "false", 5, GRAMMAR_END)));
    if (found & EMPTY)
        all = grammar_either(b, all, grammar_text(b, "null", 4, GRAMMAR_END));
    *ret = all;
    return DBE_OK;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

bool schema_is_of(const json_t *v, unsigned types_allowed)
{
    const unsigned type = json_is_object(v)    ? OBJECT
                          : json_is_array(v)   ? ARRAY
                          : json_is_string(v)  ? STRING
                          : json_is_real(v)    ? NUMBER
                          : json_is_integer(v) ? NUMBER | INTEGER
                          : json_is_boolean(v) ? BOOLEAN
                                               : EMPTY;
    return (type & types_allowed) != 0;
}

enum { REAL_STEPS = 400 }; /* to find the shortest text of a number */

/* The shortest text that reads back as the same number, and everything else as it is written most tightly. */
static char *text_of(const json_t *v)
{
    for (unsigned digits = 1; json_is_real(v) && digits < 17; digits++) {
        char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
        json_t *back = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
        const bool same =
            back && !(json_number_value(back) < json_real_value(v)) && !(json_number_value(back) > json_real_value(v));
        json_decref(back);
        if (same)
            return text;
        free(text);
    }
    return json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
}

static dbe_err constant(struct schema *s, const json_t *v, uint32_t *ret)
{
    DBE_TRY(schema_spend(s, json_is_real(v) ? REAL_STEPS : schema_weight(v)));
    char *text = text_of(v);

    if (!text)
        return dbe_fail(s->diag, DBE_E_NOMEM, "schema", 0, "no memory for a value of the schema");
    *ret = grammar_text(&s->b, text, strlen(text), GRAMMAR_END);
    free(text);
    return DBE_OK;
}

static dbe_err constants(struct schema *s, const json_t *schema, const char *key, uint32_t *ret)
{
    const json_t *list = json_object_get(schema, key), *one;
    const bool is_const = strcmp(key, "const") == 0;
    uint32_t all = GRAMMAR_NONE, rule = 0;
    unsigned allowed = ANY | INTEGER;
    size_t i;

    DBE_TRY(check_keywords(s, schema, key, "type"));
    if (json_object_get(schema, "type"))
        DBE_TRY(types_of(s, schema, &allowed));
    if (is_const) {
        if (!schema_is_of(list, allowed))
            return schema_refuse(s, key, "is not of the schema's type");
        return constant(s, list, ret);
    }
    json_array_foreach(list, i, one)
    {
        if (!schema_is_of(one, allowed))
            continue;
        DBE_TRY(constant(s, one, &rule));
        all = grammar_either(&s->b, all, rule);
    }
    if (all == GRAMMAR_NONE)
        return schema_refuse(s, key, "must be a list with a value of the schema's type");
    *ret = all;
    return DBE_OK;
}

/* ---- schemas of schemas ------------------------------------------------------------------------------------------ */

static dbe_err any_of(struct schema *s, const json_t *schema, const char *key, uint32_t *ret)
{
    const json_t *list = json_object_get(schema, key), *one;
    uint32_t all = GRAMMAR_NONE, rule = 0;
    char name[24];
    size_t i;

    DBE_TRY(check_keywords(s, schema, key, NULL));
    json_array_foreach(list, i, one)
    {
        snprintf(name, sizeof name, "%zu", i);
        DBE_TRY(schema_rule(s, one, key, name, &rule));
        all = grammar_either(&s->b, all, rule);
    }
    if (all == GRAMMAR_NONE)
        return schema_refuse(s, key, "must be a list of schemas");
    if (strcmp(key, "oneOf") == 0)
        DBE_TRY(schema_check_apart(s, list));
    if (json_is_true(json_object_get(schema, "nullable")))
        all = grammar_split(&s->b, all, grammar_text(&s->b, "null", 4, GRAMMAR_END));
    *ret = all;
    return DBE_OK;
}

const json_t *schema_target(const struct schema *s, const char *ref)
{
    const json_t *at = s->root;
    char name[256];

    if (!ref || *ref++ != '#')
        return NULL;
    while (at && *ref) {
        size_t n = 0;
        if (*ref++ != '/')
            return NULL;
        for (; *ref && *ref != '/'; ref++) {
            if (n + 1 >= sizeof name || (*ref == '~' && ref[1] != '0' && ref[1] != '1') || *ref == '%')
                return NULL;
            name[n++] = *ref != '~' ? *ref : *++ref == '0' ? '~' : '/';
        }
        name[n] = '\0';
        at = json_object_get(at, name);
    }
    return at;
}

static dbe_err reference(struct schema *s, const json_t *schema, uint32_t *ret)
{
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    const json_t *target = schema_target(s, ref);
    uint32_t rule = 0;
    size_t at = 0;

    DBE_TRY(check_keywords(s, schema, "$ref", NULL));
    if (!target)
        return schema_refuse(s, "$ref", "must point to a schema in this document (\"#/$defs/NAME\")");
    while (at < s->ref_count && s->refs[at].target != target)
        at++;
    if (at == s->ref_count) {
        if (at == SCHEMA_REFS_MAX)
            return dbe_fail(s->diag, DBE_E_TOO_LARGE, "schema", 0, "too many definitions");
        const uint32_t hole = grammar_hole(&s->b);
        s->refs[s->ref_count++] = (struct schema_ref){target, hole};
        DBE_TRY(schema_rule(s, target, "$ref", NULL, &rule));
        grammar_patch(&s->b, hole, rule);
    }
    *ret = s->refs[at].hole;
    if (json_is_true(json_object_get(schema, "nullable")))
        *ret = grammar_split(&s->b, *ret, grammar_text(&s->b, "null", 4, GRAMMAR_END));
    return DBE_OK;
}

/* Add the properties of one object schema to another's; each keyword once or the same. */
static dbe_err merge(struct schema *s, json_t *into, const json_t *part)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)part, name, value)
    {
        const struct keyword *k = keyword_of(name);
        json_t *there = json_object_get(into, name);
        int bad = 0;
        if (k && k->describes)
            continue;
        DBE_TRY(schema_spend(s, schema_weight(value)));
        if (!there)
            bad = json_object_set_new(into, name, json_deep_copy(value));
        else if (strcmp(name, "required") == 0 && json_is_array(value) && json_is_array(there))
            bad = json_array_extend(there, value);
        else if (strcmp(name, "properties") == 0 && json_is_object(value) && json_is_object(there)) {
            const char *property;
            json_t *schema;
            json_object_foreach(value, property, schema)
            {
                json_t *other = json_object_get(there, property);
                if (other && !json_equal(other, schema))
                    return schema_refuse(s, "allOf", "schemas that say different things about one property");
                bad |= other ? 0 : json_object_set_new(there, property, json_deep_copy(schema));
            }
        } else if (!json_equal(there, value))
            return schema_refuse(s, "allOf", "schemas that say different things about one keyword");
        if (bad)
            return dbe_fail(s->diag, DBE_E_NOMEM, "schema", 0, "no memory for the schema");
    }
    return DBE_OK;
}

/* Does a part of allOf forbid properties that others have? */
static bool is_closed(const json_t *schema)
{
    const json_t *others = json_object_get(schema, "additionalProperties");

    return others && !json_is_true(others);
}

static dbe_err merge_all(struct schema *s, const json_t *schema, json_t *all)
{
    const json_t *list = json_object_get(schema, "allOf"), *one;
    const char *name;
    json_t *value;
    size_t i;

    json_object_foreach((json_t *)(uintptr_t)schema, name, value)
    {
        if (strcmp(name, "allOf") != 0 && json_object_set(all, name, value) != 0)
            return dbe_fail(s->diag, DBE_E_NOMEM, "schema", 0, "no memory for the schema");
    }
    if (json_array_size(list) == 0)
        return schema_refuse(s, "allOf", "must be a list of schemas");
    DBE_TRY(schema_spend(s, schema_weight(all))); /* its parts are copied */
    if (json_object_get(all, "properties"))
        json_object_set_new(all, "properties", json_deep_copy(json_object_get(all, "properties")));
    if (json_object_get(all, "required"))
        json_object_set_new(all, "required", json_deep_copy(json_object_get(all, "required")));
    json_array_foreach(list, i, one)
    {
        const char *ref = json_string_value(json_object_get(one, "$ref"));
        const json_t *part = ref && json_object_size(one) == 1 ? schema_target(s, ref) : one;
        if (!json_is_object(part) || json_object_get(part, "$ref") || json_object_get(part, "allOf") ||
            json_object_get(part, "anyOf") || json_object_get(part, "oneOf"))
            return schema_refuse(s, "allOf", "only plain schemas can be merged");
        if ((is_closed(part) || is_closed(all)) && (json_array_size(list) > 1 || json_object_get(all, "properties")))
            return schema_refuse(s, "allOf", "schemas with additionalProperties cannot be merged");
        DBE_TRY(schema_spend(s, KEYWORD_STEPS * json_object_size(part)));
        DBE_TRY(check_keywords(s, part, NULL, NULL));
        DBE_TRY(merge(s, all, part));
    }
    return DBE_OK;
}

static dbe_err dispatch(struct schema *s, const json_t *schema, uint32_t *ret);

/* The merged schema stays in the document, as others' parts may be pointed to. */
static dbe_err all_of(struct schema *s, const json_t *schema, uint32_t *ret)
{
    json_t *all = json_object();
    dbe_err err;

    if (!all)
        return dbe_fail(s->diag, DBE_E_NOMEM, "schema", 0, "no memory for the schema");
    err = merge_all(s, schema, all);
    if (err == DBE_OK)
        err = dispatch(s, all, ret);
    json_decref(all);
    return err;
}

/* ---- one schema -------------------------------------------------------------------------------------------------- */

static dbe_err dispatch(struct schema *s, const json_t *schema, uint32_t *ret)
{
    static const char *const lists[] = {"anyOf", "oneOf"}, *const values[] = {"enum", "const"};
    const json_t *nullable = json_object_get(schema, "nullable");

    if (json_is_true(schema)) {
        *ret = s->b.value;
        return DBE_OK;
    }
    if (!json_is_object(schema))
        return schema_refuse(s, NULL, "must be a schema that something can satisfy");
    if (nullable && !json_is_boolean(nullable))
        return schema_refuse(s, "nullable", "must be true or false");
    if (json_object_get(schema, "$ref"))
        return reference(s, schema, ret);
    if (json_object_get(schema, "allOf"))
        return all_of(s, schema, ret);
    for (size_t i = 0; i < 2; i++) {
        if (json_object_get(schema, lists[i]))
            return any_of(s, schema, lists[i], ret);
        if (json_object_get(schema, values[i]))
            return constants(s, schema, values[i], ret);
    }
    return by_type(s, schema, ret);
}

/* Append "/name", as a JSON pointer writes it, where it fits. */
static void enter(struct schema *s, const char *name)
{
    const size_t before = s->pointer_len;
    size_t n = before;

    if (!name)
        return;
    s->pointer[n++] = '/';
    for (; *name && n + 3 < SCHEMA_POINTER_MAX; name++) {
        if (*name == '~' || *name == '/') {
            s->pointer[n++] = '~';
            s->pointer[n++] = *name == '~' ? '0' : '1';
        } else {
            s->pointer[n++] = *name;
        }
    }
    s->pointer[n] = '\0';
    s->pointer_len = n;
}

dbe_err schema_rule(struct schema *s, const json_t *part, const char *key, const char *name, uint32_t *ret)
{
    const size_t before = s->pointer_len;
    dbe_err err;

    if (s->depth == SCHEMA_DEPTH_MAX || ++s->parts > SCHEMA_PARTS_MAX)
        return dbe_fail(s->diag, DBE_E_TOO_LARGE, "schema", 0, "#%s: the schema is too %s", s->pointer,
                        s->depth == SCHEMA_DEPTH_MAX ? "deep" : "large");
    s->depth++;
    if (before + 8 < SCHEMA_POINTER_MAX)
        enter(s, key);
    if (s->pointer_len + 8 < SCHEMA_POINTER_MAX)
        enter(s, name);
    err = dispatch(s, part, ret);
    s->depth--;
    if (err == DBE_OK) {
        s->pointer_len = before;
        s->pointer[before] = '\0';
    }
    return err == DBE_OK ? s->b.err : err;
}

/* Text around the values of a rule. */
static uint32_t put_frame(struct grammar_builder *b, const struct llm_grammar_frame *f, uint32_t value)
{
    uint32_t next = grammar_text(b, f->after, strlen(f->after), GRAMMAR_END);

    if (f->max > 1) {
        const uint32_t more = grammar_text(b, f->between, strlen(f->between), grammar_call(b, value, GRAMMAR_END));
        next = grammar_repeat(b, more, 0, f->max - 1, next);
    }
    next = grammar_text(b, f->before, strlen(f->before), grammar_call(b, value, next));
    return f->instead ? grammar_split(b, next, grammar_text(b, f->instead, strlen(f->instead), GRAMMAR_END)) : next;
}

dbe_err llm_grammar_framed(const char *text, size_t len, const struct llm_grammar_frame *frame,
                           struct llm_grammar **ret, struct dbe_diag *diag)
{
    BASE_AUTO_FREE struct schema *s = base_alloc(1, sizeof *s);
    json_error_t error;
    uint32_t start = GRAMMAR_END;
    dbe_err err;

    if (!s)
        return dbe_fail(diag, DBE_E_NOMEM, "schema", 0, "no memory for a schema");
    if (len > LLM_SCHEMA_BYTES_MAX)
        return dbe_fail(diag, DBE_E_TOO_LARGE, "schema", 0, "a schema has at most %d bytes", LLM_SCHEMA_BYTES_MAX);
    s->root = text ? json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error) : NULL;
    if (text && !s->root)
        return dbe_fail(diag, DBE_E_ARGUMENT, "schema", (size_t)error.position, "the schema is no JSON: %s",
                        error.text);
    s->diag = diag;
    err = grammar_begin(&s->b, diag);
    if (err == DBE_OK) {
        start = s->b.object;
        if (s->root)
            err = schema_rule(s, s->root, NULL, NULL, &start);
        if (err != DBE_OK && s->b.err == DBE_OK)
            s->b.err = err; /* grammar_finish then releases it all */
        err = grammar_finish(&s->b, frame ? put_frame(&s->b, frame, start) : start, ret);
    }
    json_decref(s->root);
    return err;
}

dbe_err llm_grammar_schema(const char *text, size_t len, struct llm_grammar **ret, struct dbe_diag *diag)
{
    return llm_grammar_framed(text ? text : "", len, NULL, ret, diag);
}
