/* SPDX-License-Identifier: Apache-2.0
 *
 * schema.c - a JSON schema as a grammar. What constrains and is not understood is refused with its place, never left
 * out; what only describes is skipped.
 *
 * In:   the document's text. Out: a grammar, or what is wrong and where, as a JSON pointer.
 * Not:  single keywords: schema.h says which file has which.
 *
 * Differences from the letter of JSON Schema, all of which allow less: without `type`, the types are those that the
 * other keywords are about; an object with `properties` has no others unless additionalProperties says so. oneOf is
 * taken where its schemas can be seen to exclude each other.
 */
#include "schema.h"

#include <string.h>

#include "base/base.h"

static dbe_err by_type(struct schema *s, const json_t *schema, uint32_t *ret)
{
    struct grammar_builder *b = &s->b;
    uint32_t rule = 0, all = GRAMMAR_NONE;
    unsigned found = 0;

    DBE_TRY(schema_check_keywords(s, schema, NULL, NULL));
    DBE_TRY(schema_types_of(s, schema, &found));
    if (found & SCHEMA_OBJECT) {
        DBE_TRY(schema_object(s, schema, &rule));
        all = grammar_either(b, all, rule);
    }
    if (found & SCHEMA_ARRAY) {
        DBE_TRY(schema_array(s, schema, &rule));
        all = grammar_either(b, all, rule);
    }
    if (found & SCHEMA_STRING) {
        DBE_TRY(schema_string(s, schema, &rule));
        all = grammar_either(b, all, rule);
    }
    if (found & (SCHEMA_NUMBER | SCHEMA_INTEGER)) {
        DBE_TRY(schema_number(s, schema, !(found & SCHEMA_NUMBER), &rule));
        all = grammar_either(b, all, rule);
    }
    if (found & SCHEMA_BOOLEAN)
        all = grammar_either(
            b, all,
            grammar_split(b, grammar_text(b, "true", 4, GRAMMAR_END), grammar_text(b, "false", 5, GRAMMAR_END)));
    if (found & SCHEMA_EMPTY)
        all = grammar_either(b, all, grammar_text(b, "null", 4, GRAMMAR_END));
    *ret = all;
    return DBE_OK;
}

dbe_err schema_dispatch(struct schema *s, const json_t *schema, uint32_t *ret)
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
        return schema_reference(s, schema, ret);
    if (json_object_get(schema, "allOf"))
        return schema_all_of(s, schema, ret);
    for (size_t i = 0; i < 2; i++) {
        if (json_object_get(schema, lists[i]))
            return schema_any_of(s, schema, lists[i], ret);
        if (json_object_get(schema, values[i]))
            return schema_constants(s, schema, values[i], ret);
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
    err = schema_dispatch(s, part, ret);
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
