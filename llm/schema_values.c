/* SPDX-License-Identifier: Apache-2.0
 *
 * schema_values.c - schemas that list their values: enum and const.
 *
 * In:   values of a hostile document. Out: the one text that each may be written as.
 */
#include "schema.h"

#include <string.h>

#include "base/base.h"

bool schema_is_of(const json_t *v, unsigned types_allowed)
{
    const unsigned type = json_is_object(v)    ? SCHEMA_OBJECT
                          : json_is_array(v)   ? SCHEMA_ARRAY
                          : json_is_string(v)  ? SCHEMA_STRING
                          : json_is_real(v)    ? SCHEMA_NUMBER
                          : json_is_integer(v) ? SCHEMA_NUMBER | SCHEMA_INTEGER
                          : json_is_boolean(v) ? SCHEMA_BOOLEAN
                                               : SCHEMA_EMPTY;
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

dbe_err schema_constants(struct schema *s, const json_t *schema, const char *key, uint32_t *ret)
{
    const json_t *list = json_object_get(schema, key), *one;
    const bool is_const = strcmp(key, "const") == 0;
    uint32_t all = GRAMMAR_NONE, rule = 0;
    unsigned allowed = SCHEMA_ANY;
    size_t i;

    DBE_TRY(schema_check_keywords(s, schema, key, "type"));
    if (json_object_get(schema, "type"))
        DBE_TRY(schema_types_of(s, schema, &allowed));
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
