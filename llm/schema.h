/* SPDX-License-Identifier: Apache-2.0
 *
 * schema.h - parts of the translation of JSON schemas into grammars: schema.c has the whole, schema_keys.c
 * what the keywords are, schema_values.c enum and const, schema_combine.c schemas of schemas, schema_apart.c whether
 * alternatives exclude each other, schema_parts.c objects and arrays, schema_string.c strings, schema_pattern.c regular
 * expressions, which schema_regex.c reads, schema_number.c ranges.
 */
#ifndef LLM_SCHEMA_H
#define LLM_SCHEMA_H

#include <jansson.h>

#include "grammar_build.h"

enum {
    SCHEMA_DEPTH_MAX = 64,
    SCHEMA_PARTS_MAX = 10000, /* schemas in a schema */
    SCHEMA_REFS_MAX = 512,
    SCHEMA_PROPERTIES_MAX = 256, /* of one object */
    SCHEMA_PREFIX_MAX = 256,     /* items of their own schema in one array */
    SCHEMA_POINTER_MAX = 120,
    SCHEMA_WORK_MAX = 1 << 22 /* steps of some 25 ns that one schema may take: a tenth of a second */
};

/* Types, as bits. */
enum {
    SCHEMA_OBJECT = 1,
    SCHEMA_ARRAY = 2,
    SCHEMA_STRING = 4,
    SCHEMA_NUMBER = 8,
    SCHEMA_INTEGER = 16,
    SCHEMA_BOOLEAN = 32,
    SCHEMA_EMPTY = 64,
    SCHEMA_ANY = 127
};

struct schema_ref {
    const json_t *target;
    uint32_t hole;
};

struct schema {
    struct grammar_builder b;
    json_t *root;
    struct dbe_diag *diag;
    struct schema_ref refs[SCHEMA_REFS_MAX];
    size_t ref_count, parts;
    size_t work; /* steps taken, see schema_spend */
    unsigned depth;
    char pointer[SCHEMA_POINTER_MAX]; /* of the schema that is being read; cut short where it is longer */
    size_t pointer_len;
};

/* Fail with a sentence about `key` (NULL: the schema itself) at the pointer. */
dbe_err schema_refuse(struct schema *s, const char *key, const char *what) DBE_MUST_CHECK;
/* Take so many steps. E_TOO_LARGE: no more may be taken. Everything is counted that can be made to take long with few
 * nodes: what is copied, compared, looked up again and again. */
dbe_err schema_spend(struct schema *s, size_t steps) DBE_MUST_CHECK;
/* Steps to copy a value, or to compare it. */
size_t schema_weight(const json_t *v);
/* Every keyword is known; those that constrain, but for `alone` and `with` (may be NULL), are refused when `alone` is
 * set. */
dbe_err schema_check_keywords(struct schema *s, const json_t *schema, const char *alone,
                              const char *with) DBE_MUST_CHECK;
bool schema_describes(const char *keyword); /* and constrains nothing */

/* Rule of the schema `part` that stands under `key` and `name` (may be NULL) of the present one. */
dbe_err schema_rule(struct schema *s, const json_t *part, const char *key, const char *name,
                    uint32_t *ret) DBE_MUST_CHECK;
/* Rule of a schema without alternatives, given all that it says. */
dbe_err schema_object(struct schema *s, const json_t *schema, uint32_t *ret) DBE_MUST_CHECK;
dbe_err schema_array(struct schema *s, const json_t *schema, uint32_t *ret) DBE_MUST_CHECK;
dbe_err schema_string(struct schema *s, const json_t *schema, uint32_t *ret) DBE_MUST_CHECK;
dbe_err schema_number(struct schema *s, const json_t *schema, bool integer, uint32_t *ret) DBE_MUST_CHECK;
/* Rule of the schema that stands here already. */
dbe_err schema_dispatch(struct schema *s, const json_t *schema, uint32_t *ret) DBE_MUST_CHECK;
/* Rules of schemas that have `key`: enum or const; anyOf or oneOf; $ref; allOf. */
dbe_err schema_constants(struct schema *s, const json_t *schema, const char *key, uint32_t *ret) DBE_MUST_CHECK;
dbe_err schema_any_of(struct schema *s, const json_t *schema, const char *key, uint32_t *ret) DBE_MUST_CHECK;
dbe_err schema_reference(struct schema *s, const json_t *schema, uint32_t *ret) DBE_MUST_CHECK;
dbe_err schema_all_of(struct schema *s, const json_t *schema, uint32_t *ret) DBE_MUST_CHECK;
/* A bound that must be a whole number from 0 on. */
dbe_err schema_count(struct schema *s, const json_t *schema, const char *key, uint32_t absent,
                     uint32_t *ret) DBE_MUST_CHECK;

/* What a string's text must match, by a regular expression, as it stands in JSON, then `next`. */
dbe_err schema_pattern(struct schema *s, const char *key, const char *pattern, size_t len, uint32_t next,
                       uint32_t *ret) DBE_MUST_CHECK;

/* No value can be of two of these alternatives; E_ARGUMENT where that cannot be seen. */
dbe_err schema_check_apart(struct schema *s, const json_t *list) DBE_MUST_CHECK;
/* Types that a schema says or means, a number without an integer. */
dbe_err schema_types_of(struct schema *s, const json_t *schema, unsigned *ret) DBE_MUST_CHECK;
/* Types that a schema takes, a number also being an integer. Where it has no `type`: `written` asks for those of which
 * its grammar writes, else it is all. */
unsigned schema_types(const json_t *schema, bool nullable, bool written);
bool schema_is_of(const json_t *v, unsigned types);
/* What "#/a/b" points to; NULL: nothing. */
const json_t *schema_target(const struct schema *s, const char *ref);

#endif
