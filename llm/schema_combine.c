/* SPDX-License-Identifier: Apache-2.0
 *
 * schema_combine.c - schemas that are made of others: anyOf, oneOf, allOf and $ref.
 *
 * In:   a schema that has one of these, in a hostile document. Out: its rule.
 * Not:  whether the schemas of oneOf exclude each other (schema_apart.c).
 */
#include "schema.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"

enum { KEYWORD_STEPS = 5 }; /* to look one up in the table */

dbe_err schema_any_of(struct schema *s, const json_t *schema, const char *key, uint32_t *ret)
{
    const json_t *list = json_object_get(schema, key), *one;
    uint32_t all = GRAMMAR_NONE, rule = 0;
    char name[24];
    size_t i;

    DBE_TRY(schema_check_keywords(s, schema, key, NULL));
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

dbe_err schema_reference(struct schema *s, const json_t *schema, uint32_t *ret)
{
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    const json_t *target = schema_target(s, ref);
    uint32_t rule = 0;
    size_t at = 0;

    DBE_TRY(schema_check_keywords(s, schema, "$ref", NULL));
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
        json_t *there = json_object_get(into, name);
        int bad = 0;
        if (schema_describes(name))
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
        DBE_TRY(schema_check_keywords(s, part, NULL, NULL));
        DBE_TRY(merge(s, all, part));
    }
    return DBE_OK;
}

/* Pointers lead into the document, never into the merged schema, which goes when its rule is made. */
dbe_err schema_all_of(struct schema *s, const json_t *schema, uint32_t *ret)
{
    json_t *all = json_object();
    dbe_err err;

    if (!all)
        return dbe_fail(s->diag, DBE_E_NOMEM, "schema", 0, "no memory for the schema");
    err = merge_all(s, schema, all);
    if (err == DBE_OK)
        err = schema_dispatch(s, all, ret);
    json_decref(all);
    return err;
}
