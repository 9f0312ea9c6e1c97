/* SPDX-License-Identifier: Apache-2.0
 *
 * schema_test.c - random answers that the masks of a schema allow must be read by a parser and pass a validator that
 * knows nothing of grammars; texts that a schema takes and does not; schemas that are refused, with their place.
 */
#include "test_grammar.h"

#include <jansson.h>
#include <locale.h>
#include <regex.h>
#include <stdlib.h>

static struct llm_vocab vocab;
static struct llm_trie *trie;

static struct llm_grammar *compiled(const char *schema)
{
    struct llm_grammar *g = NULL;
    struct dbe_diag diag = {0};

    if (llm_grammar_schema(schema, strlen(schema), &g, &diag) != DBE_OK)
        fail_msg("%s: %s", diag.text, schema);
    return g;
}

/* ---- a validator ------------------------------------------------------------------------------------------------- */

static bool valid(const json_t *root, const json_t *schema, const json_t *v);

static bool is_type(const char *type, const json_t *v)
{
    return strcmp(type, "object") == 0    ? json_is_object(v)
           : strcmp(type, "array") == 0   ? json_is_array(v)
           : strcmp(type, "string") == 0  ? json_is_string(v)
           : strcmp(type, "integer") == 0 ? json_is_integer(v)
           : strcmp(type, "number") == 0  ? json_is_number(v)
           : strcmp(type, "boolean") == 0 ? json_is_boolean(v)
                                          : json_is_null(v);
}

static bool type_holds(const json_t *schema, const json_t *v)
{
    const json_t *type = json_object_get(schema, "type"), *one;
    bool ok = !type || (json_is_string(type) && is_type(json_string_value(type), v)) ||
              (json_is_true(json_object_get(schema, "nullable")) && json_is_null(v));
    size_t i;

    json_array_foreach(type, i, one) ok |= is_type(json_string_value(one), v);
    return ok;
}

static bool object_holds(const json_t *root, const json_t *schema, const json_t *v)
{
    const json_t *properties = json_object_get(schema, "properties"),
                 *others = json_object_get(schema, "additionalProperties");
    const json_t *required = json_object_get(schema, "required"), *one;
    const char *name;
    json_t *value;
    size_t i;

    json_array_foreach(required, i, one) if (!json_object_get(v, json_string_value(one))) return false;
    json_object_foreach((json_t *)(uintptr_t)v, name, value)
    {
        const json_t *property = json_object_get(properties, name);
        if (!valid(root, property ? property : others, value))
            return false;
    }
    return true;
}

static bool array_holds(const json_t *root, const json_t *schema, const json_t *v)
{
    const json_t *prefix = json_object_get(schema, "prefixItems"), *items = json_object_get(schema, "items");
    const json_t *min = json_object_get(schema, "minItems"), *max = json_object_get(schema, "maxItems"), *one;
    size_t i;

    if ((min && (json_int_t)json_array_size(v) < json_integer_value(min)) ||
        (max && (json_int_t)json_array_size(v) > json_integer_value(max)))
        return false;
    json_array_foreach(
        v, i, one) if (!valid(root, i < json_array_size(prefix) ? json_array_get(prefix, i) : items, one)) return false;
    return true;
}

static bool matches(const char *pattern, const char *text)
{
    regex_t r;
    bool ok;

    assert_int_equal(regcomp(&r, pattern, REG_EXTENDED | REG_NOSUB), 0);
    ok = regexec(&r, text, 0, NULL, 0) == 0;
    regfree(&r);
    return ok;
}

static bool is_date(const char *text)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int y, m, d;

    if (!matches("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", text) || sscanf(text, "%4d-%2d-%2d", &y, &m, &d) != 3 || m < 1 ||
        m > 12)
        return false;
    const bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return d >= 1 && d <= days[m - 1] + (m == 2 && leap);
}

static bool string_holds(const json_t *schema, const char *text)
{
    const json_t *min = json_object_get(schema, "minLength"), *max = json_object_get(schema, "maxLength");
    const char *pattern = json_string_value(json_object_get(schema, "pattern"));
    const char *format = json_string_value(json_object_get(schema, "format"));
    json_int_t len = 0;

    for (const char *p = text; *p; p++)
        len += ((uint8_t)*p & 0xc0) != 0x80;
    if ((min && len < json_integer_value(min)) || (max && len > json_integer_value(max)))
        return false;
    if (format && strcmp(format, "date") == 0)
        return is_date(text);
    if (format && strcmp(format, "uuid") == 0)
        pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
    if (format && strcmp(format, "date-time") == 0)
        pattern =
            "^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]+)?(Z|[+-][0-2][0-9]:[0-5][0-9])$";
    return !pattern || matches(pattern, text);
}

static bool number_holds(const json_t *schema, const json_t *v)
{
    static const char *const keys[] = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"};
    const double x = json_number_value(v);

    for (size_t i = 0; i < 4; i++) {
        const json_t *bound = json_object_get(schema, keys[i]);
        const double b = json_number_value(bound);
        if (bound && !(i == 0 ? x >= b : i == 1 ? x <= b : i == 2 ? x > b : x < b))
            return false;
    }
    return true;
}

static const json_t *target(const json_t *root, const char *ref)
{
    return strcmp(ref, "#") == 0 ? root : json_object_get(json_object_get(root, "$defs"), strrchr(ref, '/') + 1);
}

static bool choice_holds(const json_t *root, const json_t *schema, const json_t *v)
{
    const json_t *list = json_object_get(schema, "anyOf"), *all = json_object_get(schema, "allOf"), *one;
    bool ok = !list;
    size_t i;

    json_array_foreach(list, i, one) ok |= valid(root, one, v);
    list = json_object_get(schema, "oneOf");
    unsigned holding = 0;
    json_array_foreach(list, i, one) holding += valid(root, one, v);
    ok &= !list || holding == 1;
    list = json_object_get(schema, "enum");
    bool listed = !list;
    json_array_foreach(list, i, one) listed |= json_equal(one, v);
    json_array_foreach(all, i, one) listed &= valid(root, one, v);
    one = json_object_get(schema, "const");
    return ok && listed && (!one || json_equal(one, v));
}

static bool valid(const json_t *root, const json_t *schema, const json_t *v)
{
    const char *ref = json_string_value(json_object_get(schema, "$ref"));

    if (!schema || json_is_true(schema))
        return true;
    if (json_is_false(schema))
        return false;
    if (ref && !valid(root, target(root, ref), v))
        return false;
    if (!type_holds(schema, v) || !choice_holds(root, schema, v))
        return false;
    return json_is_object(v)   ? object_holds(root, schema, v)
           : json_is_array(v)  ? array_holds(root, schema, v)
           : json_is_string(v) ? string_holds(schema, json_string_value(v))
           : json_is_number(v) ? number_holds(schema, v)
                               : true;
}

/* ---- answers ----------------------------------------------------------------------------------------------------- */

#define CLOSED "\"additionalProperties\":false"
/* An object with a property `name` that must be there and be `value`, and one more that may. */
#define TAGGED(name, value, other)                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"" name "\":" value ",\"" other "\":{}},\"required\":[\"" name "\"]}"

static const char *const schemas[] = {
    "{}",
    "true",
    "{\"type\":\"object\"}",
    "{\"type\":\"string\"}",
    "{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}",
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":\"integer\"},\"ok\":{"
    "\"type\":\"boolean\"}},"
    "\"required\":[\"name\",\"ok\"]," CLOSED "}",
    "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{\"type\":\"null\"},\"c\":{\"type\":[\"string\",\"null\"]}}}",
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"number\"},\"na\":{\"type\":\"null\"},\"\xc3\xa9\\\"\":{"
    "\"type\":\"null\"}},"
    "\"additionalProperties\":{\"type\":\"boolean\"}}",
    "{\"type\":\"object\",\"properties\":{\"\":{\"type\":\"null\"}},\"required\":[\"\"],\"additionalProperties\":true}",
    "{\"type\":\"object\",\"additionalProperties\":{\"enum\":[1,2.5,\"x\\n\",null,[1],{\"a\":\"b\"}]}}",
    "{\"type\":\"object\"," CLOSED "}",
    "{\"type\":\"array\",\"minItems\":2,\"maxItems\":4,\"items\":{\"type\":\"boolean\"}}",
    "{\"type\":\"array\",\"maxItems\":0}",
    "{\"type\":\"array\",\"minItems\":3}",
    "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\"},{\"const\":1},{\"type\":\"null\"}],\"items\":false,"
    "\"minItems\":1}",
    "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"null\"},{\"type\":\"null\"}],\"items\":{\"type\":\"boolean\"},"
    "\"minItems\":3,\"maxItems\":5}",
    "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"null\"},{\"type\":\"boolean\"}],\"maxItems\":1}",
    "{\"type\":\"string\",\"minLength\":2,\"maxLength\":5}",
    "{\"type\":\"string\",\"minLength\":3}",
    "{\"type\":\"string\",\"maxLength\":300}",
    "{\"type\":\"string\",\"maxLength\":0}",
    "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":24}}",
    "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":18},\"maxItems\":20}",
    "{\"type\":\"string\",\"format\":\"date\"}",
    "{\"type\":\"string\",\"format\":\"date-time\"}",
    "{\"type\":\"string\",\"format\":\"uuid\"}",
    "{\"type\":\"string\",\"pattern\":\"^[a-z]{2,4}-[0-9]+$\"}",
    "{\"type\":\"string\",\"pattern\":\"^(ab|a)*b?$\"}",
    "{\"type\":\"string\",\"pattern\":\"ab|^n[^a-y]|x$\"}",
    "{\"type\":\"string\",\"pattern\":\"^.(a|b{3}){2,3}[\xc3\xa0\xe4\xbd\xa0]?\"}",
    "{\"type\":\"string\",\"pattern\":\"^[\\\"n]+$\"}",
    "{\"type\":\"integer\",\"minimum\":7,\"maximum\":1203}",
    "{\"type\":\"integer\",\"minimum\":-15,\"maximum\":3}",
    "{\"type\":\"integer\",\"exclusiveMinimum\":-1000,\"exclusiveMaximum\":-99.5}",
    "{\"type\":\"integer\",\"minimum\":100}",
    "{\"type\":\"integer\",\"maximum\":-1}",
    "{\"type\":\"number\",\"minimum\":0}",
    "{\"type\":\"number\",\"minimum\":-2,\"maximum\":11}",
    "{\"type\":\"number\",\"minimum\":5,\"maximum\":5}",
    "{\"type\":\"number\",\"maximum\":-3}",
    "{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"array\",\"items\":{\"type\":\"null\"}},{\"const\":\"a\"}]}",
    "{\"oneOf\":[{\"type\":\"null\"},{\"enum\":[\"a\",1]},{\"type\":\"integer\",\"minimum\":2},{\"const\":\"b\"}]}",
    "{\"oneOf\":[" TAGGED("k", "{\"const\":\"a\"}", "x") "," TAGGED("k", "{\"enum\":[\"b\",\"c\"]}", "y") "]}",
    "{\"oneOf\":[" TAGGED("a", "{}", "x") "," TAGGED("b", "{}", "y") "],\"discriminator\":{\"propertyName\":\"a\"}}",
    "{\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"l\":{\"$ref\":\"#/$defs/n\"},\"op\":{\"const\":\"not\"}},"
    "\"required\":[\"l\",\"op\"]},\"v\":{\"type\":\"object\",\"properties\":{\"l\":{\"$ref\":\"#/$defs/"
    "n\"},\"op\":{\"const\":\"id\"}},"
    "\"required\":[\"op\"]},\"n\":{\"oneOf\":[{\"$ref\":\"#/$defs/t\"},{\"$ref\":\"#/$defs/v\"},{\"type\":\"null\"}]}},"
    "\"$ref\":\"#/$defs/n\"}",
    "{\"enum\":[\"a\",\"ab\",\"\xc3\xa9\",1,true,null],\"type\":[\"string\",\"boolean\"]}",
    "{\"type\":\"string\",\"nullable\":true,\"maxLength\":3}",
    "{\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},\"next\":{\"anyOf\":[{\"$"
    "ref\":\"#/$defs/node\"},"
    "{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"]," CLOSED "}},\"$ref\":\"#/$defs/node\"}",
    "{\"type\":\"object\",\"properties\":{\"children\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}},\"required\":["
    "\"children\"]," CLOSED "}",
    "{\"$defs\":{\"a\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"}},\"required\":[\"a\"]}},"
    "\"allOf\":[{\"$ref\":\"#/$defs/a\"},{\"properties\":{\"b\":{\"type\":\"boolean\"}},\"required\":[\"b\"]}]}",
    "{\"title\":\"t\",\"description\":\"d\",\"default\":3,\"examples\":[1],\"$schema\":\"s\",\"$id\":\"i\",\"x-order\":"
    "1,\"minimum\":1,\"maximum\":9}",
};

static void random_answers_are_valid(void **state)
{
    static char text[16384];

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(schemas); i++) {
        struct llm_grammar *g = compiled(schemas[i]);
        json_t *root = json_loads(schemas[i], JSON_DECODE_ANY, NULL);
        unsigned whole = 0;
        for (unsigned n = 0; n < 60; n++) {
            json_error_t error;
            if (!tv_text(g, trie, n, text, sizeof text))
                continue;
            json_t *v = json_loads(text, JSON_DECODE_ANY, &error);
            if (!v)
                fail_msg("%s: %s: %s", error.text, schemas[i], text);
            if (!valid(root, root, v))
                fail_msg("%s does not take %s", schemas[i], text);
            json_decref(v);
            whole++;
        }
        if (whole < 30)
            fail_msg("only %u answers of %s came to an end", whole, schemas[i]);
        json_decref(root);
        llm_grammar_free(g);
    }
}

static void masks_are_exact(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(schemas); i++) {
        struct llm_grammar *g = compiled(schemas[i]);
        for (int n = 0; n < 3; n++)
            tv_masks_are_exact(g, trie, 20);
        llm_grammar_free(g);
    }
}

/* Every integer around the bounds of every range. */
static void ranges_are_exact(void **state)
{
    static const int edges[] = {-1001, -1000, -999, -101, -99, -10, -9, -1, 0, 1, 9, 10, 11, 99, 100, 105, 999, 1000};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(edges); i++)
        for (size_t j = i; j < BASE_ARRAY_LEN(edges); j++) {
            char schema[96], text[32];
            snprintf(schema, sizeof schema, "{\"type\":\"integer\",\"minimum\":%d,\"maximum\":%d}", edges[i], edges[j]);
            struct llm_grammar *g = compiled(schema);
            for (int v = -1100; v <= 1100; v++) {
                snprintf(text, sizeof text, "%d", v);
                assert_int_equal(tv_accepts(g, text), v >= edges[i] && v <= edges[j]);
            }
            assert_false(tv_accepts(g, "-0") && edges[i] > 0);
            assert_false(tv_accepts(g, "01"));
            llm_grammar_free(g);
        }
}

static void texts_are_taken(void **state)
{
    static const struct {
        const char *schema, *good[4], *bad[6];
    } cases[] = {
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"integer\"},\"c\":{"
         "\"type\":\"integer\"}},"
         "\"required\":[\"b\"]}",
         {"{\"b\":1}", "{\"a\":1,\"b\":2,\"c\":3}", "{\n  \"b\": 1,\n  \"c\": 2\n}", "{\"a\": 1, \"b\": 2}"},
         {"{}", "{\"a\":1}", "{\"b\":1,\"a\":2}", "{\"b\":1,\"d\":2}", "{\"b\":1,}", "{\"b\":1,\"b\":2}"}},
        {"{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"null\"}},\"additionalProperties\":{\"type\":"
         "\"integer\"}}",
         {"{\"ab\":null,\"a\":1}", "{\"abc\":1,\"b\":2}", "{\"\":1}", "{\"ab\":null}"},
         {"{\"ab\":1}", "{\"\\u0061b\":1}", "{\"a\":null}", "{\"a\":1,\"ab\":null}", "{\"ab\":null,\"ab\":1}",
          "{\"a\":1,}"}},
        {"{\"type\":\"string\",\"format\":\"date\"}",
         {"\"2024-02-29\"", "\"1999-12-31\"", "\"2000-02-29\"", "\"2023-04-30\""},
         {"\"2023-02-29\"", "\"1900-02-29\"", "\"2023-04-31\"", "\"2023-13-01\"", "\"2023-1-1\"", "\"2023-01-00\""}},
        {"{\"type\":\"string\",\"format\":\"time\"}",
         {"\"00:00:00Z\"", "\"23:59:59.123+05:30\"", "\"12:00:00-00:00\"", "\"01:02:03.1Z\""},
         {"\"24:00:00Z\"", "\"12:60:00Z\"", "\"12:00:00\"", "\"1:00:00Z\"", "\"12:00Z\"", "\"\""}},
        {"{\"type\":\"string\",\"format\":\"ipv4\"}",
         {"\"0.0.0.0\"", "\"255.255.255.255\"", "\"10.20.30.40\"", "\"199.9.0.1\""},
         {"\"256.0.0.0\"", "\"1.2.3\"", "\"1.2.3.4.5\"", "\"01.2.3.4\"", "\"a\"", "\"\""}},
        {"{\"type\":\"string\",\"pattern\":\"^\\\\d{3}(?:-\\\\w)?\\\\.\\\\x41\\\\u00e9\\\\\\\\$\"}",
         {"\"123.A\xc3\xa9\\\\\"", "\"000-_.A\xc3\xa9\\\\\"", "\"999-z.A\xc3\xa9\\\\\"", "\"999-Z.A\xc3\xa9\\\\\""},
         {"\"12.A\xc3\xa9\\\\\"", "\"123A\xc3\xa9\\\\\"", "\"123--.A\xc3\xa9\\\\\"", "\"123.A\xc3\xa9\"", "\"\"",
          "\"123.B\xc3\xa9\\\\\""}},
        {"{\"type\":\"string\",\"pattern\":\"^\\\\s\\\\S\\\\D[^\\\\d\\\\s]$\"}",
         {"\" a-x\"", "\"\\naxx\"", "\"\\t\\\"\\\\z\"", "\"\xc2\xa0xx\xc3\xa9\""},
         {"\"aaaa\"", "\"  xx\"", "\" a1x\"", "\" axx1\"", "\" ax \"", "\" ax\""}},
        /* all of ECMA-262's white space */
        {"{\"type\":\"string\",\"pattern\":\"^\\\\s$\"}",
         {"\"\xe3\x80\x80\"", "\"\xef\xbb\xbf\"", "\"\xe2\x80\x8a\"", "\"\xe1\x9a\x80\""},
         {"\"\xe2\x80\x8b\"", "\"\xc2\x85\"", "\"\xe1\xa0\x8e\"", "\"\xe3\x80\x81\"", "\"a\"", "\"\""}},
        {"{\"type\":\"string\",\"pattern\":\"^\\\\S$\"}",
         {"\"\xe2\x80\x8b\"", "\"\xc2\x85\"", "\"\xe1\xa0\x8e\"", "\"a\""},
         {"\"\xe3\x80\x80\"", "\"\xef\xbb\xbf\"", "\"\xe2\x80\x80\"", "\"\xe2\x80\xaf\"", "\"\xe2\x81\x9f\"",
          "\"\xe1\x9a\x80\""}},
        {"{\"type\":\"number\",\"minimum\":-2,\"maximum\":3}",
         {"-1.5", "2.999", "3", "0.0"},
         {"3.1", "-2.5", "-3", "4", "1e1", "-"}},
        {"{\"const\":{\"b\":[1,0.1,\"\\u00e9\\\"\"]}}",
         {"{\"b\":[1,0.10000000000000001,\"\xc3\xa9\\\"\"]}", "{\"b\":[1,0.10000000000000001,\"\xc3\xa9\\\"\"]}",
          "{\"b\":[1,0.10000000000000001,\"\xc3\xa9\\\"\"]}", "{\"b\":[1,0.10000000000000001,\"\xc3\xa9\\\"\"]}"},
         {"{}", "{\"b\":[1]}", "1", "[]", "{\"b\":1}", ""}},
        {"{\"enum\":[0.1,-3,1e20,\"\"]}", {"0.1", "-3", "1e20", "\"\""}, {"0", "3", "-", "0.2", "1e2", "\""}},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++) {
        struct llm_grammar *g = compiled(cases[i].schema);
        for (size_t k = 0; k < 4; k++)
            if (!tv_accepts(g, cases[i].good[k]))
                fail_msg("%s refuses %s", cases[i].schema, cases[i].good[k]);
        for (size_t k = 0; k < 6; k++)
            if (tv_accepts(g, cases[i].bad[k]))
                fail_msg("%s takes %s", cases[i].schema, cases[i].bad[k]);
        llm_grammar_free(g);
    }
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

static void values_in_a_frame(void **state)
{
    static const struct llm_grammar_frame frame = {"<", ";", ">", 3, "no"};
    static const struct {
        const char *text;
        bool ok;
    } rows[] = {{"<1>", true}, {"<1;2;3>", true}, {"no", true}, {"<1;2;3;4>", false}, {"<>", false},
                {"1", false},  {"<1;>", false},   {"", false},  {"<1>no", false}};
    struct llm_grammar *g = NULL;
    struct dbe_diag diag = {0};

    (void)state;
    assert_int_equal(llm_grammar_framed("{\"type\":\"integer\"}", 18, &frame, &g, &diag), DBE_OK);
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++)
        if (tv_accepts(g, rows[i].text) != rows[i].ok)
            fail_msg("%s", rows[i].text);
    llm_grammar_free(g);
    assert_int_equal(llm_grammar_framed(NULL, 0, &frame, &g, &diag), DBE_OK); /* any object */
    assert_true(tv_accepts(g, "<{\"a\":[]};{}>"));
    assert_false(tv_accepts(g, "<[]>"));
    llm_grammar_free(g);
}

static void what_is_not_supported_is_refused(void **state)
{
    static const struct {
        const char *schema, *place;
    } cases[] = {
        {"", "JSON"},
        {"{", "JSON"},
        {"{\"type\":\"string\",\"type\":\"null\"}", "JSON"},
        {"3", "#:"},
        {"false", "#:"},
        {"{\"type\":\"any\"}", "#/type"},
        {"{\"type\":[\"string\",1]}", "#/type"},
        {"{\"type\":\"object\",\"patternProperties\":{}}", "#/patternProperties"},
        {"{\"type\":\"array\",\"uniqueItems\":true}", "#/uniqueItems"},
        {"{\"not\":{}}", "#/not"},
        {"{\"if\":{}}", "#/if"},
        {"{\"type\":\"integer\",\"multipleOf\":2}", "#/multipleOf"},
        {"{\"properties\":{\"a/~b\":{\"type\":\"array\",\"items\":{\"contains\":1}}}}",
         "#/properties/a~1~0b/items/contains"},
        {"{\"anyOf\":[{},{\"minProperties\":1}]}", "#/anyOf/1/minProperties"},
        {"{\"anyOf\":[{}],\"type\":\"object\",\"required\":[]}", "beside"},
        {"{\"anyOf\":[]}", "#/anyOf"},
        {"{\"enum\":[]}", "#/enum"},
        {"{\"enum\":[1],\"type\":\"string\"}", "#/enum"},
        {"{\"const\":1,\"type\":\"string\"}", "#/const"},
        {"{\"$ref\":\"#/$defs/a\"}", "#/$ref"},
        {"{\"$ref\":\"http://a/b\"}", "#/$ref"},
        {"{\"$ref\":1}", "#/$ref"},
        {"{\"$ref\":\"#\"}", "never be completed"},
        {"{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", "nothing but itself"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", "never be completed"},
        {"{\"required\":[\"a\"]}", "#/required"},
        {"{\"type\":\"object\",\"properties\":[]}", "#/properties"},
        {"{\"type\":\"object\",\"additionalProperties\":3}", "#/additionalProperties"},
        {"{\"type\":\"array\",\"minItems\":2,\"maxItems\":1}", "#/minItems"},
        {"{\"type\":\"array\",\"minItems\":-1}", "#/minItems"},
        {"{\"type\":\"array\",\"minItems\":1.5}", "#/minItems"},
        {"{\"type\":\"array\",\"maxItems\":1e300}", "#/maxItems"},
        {"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", "#/maxLength"},
        {"{\"type\":\"string\",\"format\":\"email\"}", "#/format"},
        {"{\"type\":\"string\",\"pattern\":\"a\",\"maxLength\":2}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"(\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\")\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"[a\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"[]\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"[z-a]\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"*\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"a{2,1}\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"a{99999}\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"(a*)*\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"(a)\\\\1\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"(?=a)b\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"\\\\bword\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"\\\\p{L}\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"a^b\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"\\\\u12\"}", "#/pattern"},
        {"{\"type\":\"string\",\"pattern\":\"\\\\\"}", "#/pattern"},
        {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", "#:"},
        {"{\"type\":\"integer\",\"minimum\":1e30}", "#/minimum"},
        {"{\"type\":\"integer\",\"minimum\":\"1\"}", "#/minimum"},
        {"{\"type\":\"number\",\"exclusiveMinimum\":0}", "#/exclusiveMinimum"},
        {"{\"type\":\"number\",\"minimum\":0.5}", "#/minimum"},
        {"{\"allOf\":[]}", "#/allOf"},
        {"{\"allOf\":[{\"anyOf\":[{}]}]}", "#/allOf"},
        {"{\"allOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "#/allOf"},
        {"{\"nullable\":1}", "#/nullable"},
        {"{\"oneOf\":[{\"not\":{}}]}", "#/oneOf/0/not"},
        {"{\"properties\":{\"a\":{\"oneOf\":[{\"type\":\"null\"},{\"type\":\"integer\"},{\"type\":\"number\"}]}}}",
         "#/properties/a/oneOf: alternatives 1 and 2"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++) {
        struct llm_grammar *g = NULL;
        struct dbe_diag diag = {0};
        const dbe_err err = llm_grammar_schema(cases[i].schema, strlen(cases[i].schema), &g, &diag);
        if (err != DBE_E_ARGUMENT || !strstr(diag.text, cases[i].place) || g)
            fail_msg("%s: error %d, %s", cases[i].schema, err, diag.text);
    }
}

/* Names of any length and any character stand in the place; where they are cut, what is left is still text. */
static void places_are_text(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 4; shift++)
        for (int deep = 0; deep < 2; deep++) {
            char name[400], schema[900];
            struct llm_grammar *g = NULL;
            struct dbe_diag diag = {0};
            size_t n = 0;
            while (n < shift)
                name[n++] = 'a';
            for (; n + 4 < sizeof name; n += 4)
                memcpy(name + n, "\xf0\x9f\x98\x80", 4);
            name[n] = '\0';
            snprintf(schema, sizeof schema, deep ? "{\"properties\":{\"%s\":{\"not\":{}}}}" : "{\"%s\":1}", name);
            assert_int_equal(llm_grammar_schema(schema, strlen(schema), &g, &diag), DBE_E_ARGUMENT);
            assert_true(base_utf8_valid(diag.text, strlen(diag.text)));
            assert_non_null(strstr(diag.text, "is not supported"));
        }
}

/* oneOf of two schemas, and whether it is seen that no value is of both. */
static void alternatives_exclude_each_other(void **state)
{
    static const struct {
        const char *one, *other;
        bool apart;
    } cases[] = {
        {"{\"type\":\"string\"}", "{\"type\":\"null\"}", true},
        {"{\"type\":[\"string\",\"null\"]}", "{\"type\":\"null\"}", false},
        {"{\"type\":\"string\",\"nullable\":true}", "{\"type\":\"null\"}", false},
        {"{\"type\":\"integer\"}", "{\"type\":\"number\"}", false},
        {"{\"type\":\"integer\",\"maximum\":3}", "{\"type\":\"number\",\"minimum\":4}", true},
        {"{\"type\":\"integer\",\"maximum\":3}", "{\"type\":\"integer\",\"minimum\":3}", false},
        {"{\"type\":\"integer\",\"maximum\":3}", "{\"type\":\"integer\",\"exclusiveMinimum\":3}", true},
        {"{\"const\":1}", "{\"const\":1.0}", false},
        {"{\"const\":[1]}", "{\"const\":[1.0]}", false},
        {"{\"const\":1.0}", "{\"type\":\"integer\"}", false},
        {"{\"const\":1.5}", "{\"type\":\"integer\"}", true},
        {"{\"const\":9007199254740993}", "{\"const\":9007199254740992}", true},
        {"{\"enum\":[1,2]}", "{\"enum\":[3,2]}", false},
        {"{\"enum\":[1,2]}", "{\"enum\":[3,\"2\"]}", true},
        {"{\"enum\":[\"a\"]}", "{\"type\":\"string\",\"minLength\":2}", true},
        {"{\"enum\":[\"a\"]}", "{\"type\":\"string\",\"maxLength\":2}", false},
        {"{\"const\":{\"a\":1}}", "{\"type\":\"object\",\"properties\":{\"b\":{}},\"required\":[\"b\"]}", true},
        {"{\"const\":{\"a\":1}}", "{\"type\":\"object\",\"properties\":{\"b\":{}}}", false},
        {"{\"const\":{\"a\":1}}", "{\"type\":\"object\",\"properties\":{\"b\":{}}," CLOSED "}", true},
        {"{\"const\":{\"a\":1}}", "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}}}", true},
        {"{\"const\":{\"a\":1}}", "{}", false},
        {"{\"type\":\"string\",\"maxLength\":2}", "{\"type\":\"string\",\"minLength\":3}", true},
        {"{\"type\":\"string\",\"pattern\":\"^a$\"}", "{\"type\":\"string\",\"pattern\":\"^b$\"}", false},
        {"{\"type\":\"array\",\"maxItems\":1}", "{\"type\":\"array\",\"minItems\":2}", true},
        {"{\"type\":\"array\",\"items\":{\"type\":\"null\"}}", "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}",
         false}, /* [] */
        {"{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":1}",
         "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}", true},
        {TAGGED("k", "{\"const\":1}", "x"), TAGGED("k", "{\"const\":2}", "x"), true},
        {TAGGED("k", "{\"const\":1}", "x"), TAGGED("k", "{\"const\":1}", "y"), false},
        {TAGGED("x", "{}", "k"), TAGGED("x", "{}", "k"), false},
        /* what may be left out tells nothing apart, but for a name that only one of them may have, and must */
        {"{\"type\":\"object\",\"properties\":{\"k\":{\"const\":1}}}",
         "{\"type\":\"object\",\"properties\":{\"k\":{\"const\":2}}}", false},
        {TAGGED("a", "{}", "x"), TAGGED("b", "{}", "x"), true},
        {TAGGED("a", "{}", "x"), "{\"type\":\"object\",\"properties\":{\"x\":{}}}", false}, /* {"a":1} is of both */
        {TAGGED("a", "{}", "x"), "{\"type\":\"object\",\"properties\":{\"x\":{}}," CLOSED "}", true},
        {TAGGED("a", "{\"type\":\"string\"}", "x"),
         "{\"type\":\"object\",\"properties\":{\"x\":{}},\"additionalProperties\":{\"type\":\"null\"}}", true},
        /* by the letter, keywords about objects do not forbid a string */
        {"{\"properties\":{\"a\":{}},\"required\":[\"a\"]}", "{\"type\":\"string\"}", false},
        {"{\"properties\":{\"a\":{\"const\":1}},\"required\":[\"a\"]}",
         "{\"properties\":{\"a\":{\"const\":2}},\"required\":[\"a\"]}", true},
        {"{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"string\"}]}", "{\"type\":\"boolean\"}", true},
        {"{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"string\"}]}", "{\"const\":\"a\"}", false},
        {"{\"oneOf\":[{\"type\":\"null\"},{\"type\":\"string\"}],\"nullable\":true}",
         "{\"type\":\"boolean\",\"nullable\":true}", false},
        {"{\"allOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":1}},\"required\":[\"k\"]}]}",
         TAGGED("k", "{\"const\":2}", "x"), true},
        {"{\"allOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":1}},\"required\":[\"k\"]}]}",
         "{\"type\":\"object\",\"properties\":{\"b\":{}},\"required\":[\"b\"]}", false},
        {"true", "{\"type\":\"string\"}", false},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++)
        for (unsigned turn = 0; turn < 2; turn++) {
            char text[1024];
            struct llm_grammar *g = NULL;
            struct dbe_diag diag = {0};
            const int len = snprintf(text, sizeof text, "{\"oneOf\":[%s,%s]}", turn ? cases[i].other : cases[i].one,
                                     turn ? cases[i].one : cases[i].other);
            const dbe_err err = llm_grammar_schema(text, (size_t)len, &g, &diag);
            if (err != (cases[i].apart ? DBE_OK : DBE_E_ARGUMENT) ||
                (err != DBE_OK && !strstr(diag.text, "#/oneOf: alternatives 0 and 1")))
                fail_msg("%s: error %d, %s", text, err, diag.text);
            llm_grammar_free(g);
        }
}

/* Go deeper as long as the grammar lets, then on by masks: the text must close, be JSON and of the schema. */
static void deep_texts_close(const char *schema, const char *down, unsigned wander)
{
    static char text[65536];
    struct llm_grammar *g = compiled(schema);
    struct llm_grammar_state *s;
    json_t *root = json_loads(schema, JSON_DECODE_ANY, NULL);
    uint32_t allowed[TV_MASK_WORDS];
    size_t len = 0;
    int32_t id = -1;

    assert_int_equal(llm_grammar_state_new(g, &s), DBE_OK);
    for (; llm_grammar_accept(s, down, strlen(down)); len += strlen(down))
        memcpy(text + len, down, strlen(down));
    assert_true(len > 30 * strlen(down)); /* it is as deep as it gets */
    for (unsigned n = 0; id != TV_END; n++) {
        assert_int_equal(llm_grammar_mask(s, trie, TV_COUNT, allowed), DBE_OK);
        id = tv_pick(allowed, n >= wander);
        const struct vocab_token *t = &tv_tokens[id];
        if (id == TV_END ? !llm_grammar_can_end(s) : !llm_grammar_accept(s, t->text, t->text_len))
            fail_msg("%s: cut off behind %.*s", schema, (int)len, text);
        assert_true(len + t->text_len < sizeof text);
        memcpy(text + len, t->text, t->text_len);
        len += t->text_len;
    }
    json_t *v = json_loadb(text, len, JSON_DECODE_ANY, NULL);
    if (!v || !valid(root, root, v))
        fail_msg("%s: %.*s", schema, (int)len, text);
    json_decref(v);
    json_decref(root);
    llm_grammar_state_free(s);
    llm_grammar_free(g);
}

static void recursion_closes_below_the_bound(void **state)
{
    static const struct {
        const char *schema, *down;
    } cases[] = {
        {"{}", "[["},
        {"{}", "{\"a\":"},
        {"{\"type\":\"object\",\"properties\":{\"c\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}},\"required\":["
         "\"c\"]," CLOSED "}",
         "{\"c\":["},
        {"{\"$defs\":{\"n\":{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"n\":{\"$ref\":\"#/$defs/"
         "n\"},\"v\":{\"type\":"
         "\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":1},\"minItems\":1,"
         "\"maxItems\":2}},"
         "\"required\":[\"n\",\"v\"]," CLOSED "},{\"type\":\"null\"}]}},\"$ref\":\"#/$defs/n\"}",
         "{\"n\":"},
        {"{\"type\":\"array\",\"minItems\":1,\"items\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"string\",\"minLength\":"
         "2,\"maxLength\":"
         "4}]}}",
         "["},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++)
        for (unsigned wander = 0; wander < 20; wander++)
            deep_texts_close(cases[i].schema, cases[i].down, wander);
}

static void no_memory_is_an_answer(void **state)
{
    const char *schema = schemas[7];
    dbe_err err = DBE_E_NOMEM;
    uint64_t nth = 0;

    (void)state;
    while (err != DBE_OK) {
        struct llm_grammar *g = NULL;
        base_fail_alloc_at(++nth);
        err = llm_grammar_schema(schema, strlen(schema), &g, NULL);
        assert_true(err == DBE_OK || (err == DBE_E_NOMEM && !g));
        llm_grammar_free(g);
    }
    base_fail_alloc_at(0);
    assert_true(nth > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_answers_are_valid),
        cmocka_unit_test(masks_are_exact),
        cmocka_unit_test(ranges_are_exact),
        cmocka_unit_test(texts_are_taken),
        cmocka_unit_test(values_in_a_frame),
        cmocka_unit_test(what_is_not_supported_is_refused),
        cmocka_unit_test(places_are_text),
        cmocka_unit_test(alternatives_exclude_each_other),
        cmocka_unit_test(recursion_closes_below_the_bound),
        cmocka_unit_test(no_memory_is_an_answer),
    };
    int failed;

    vocab = tv_vocab();
    if (!setlocale(LC_CTYPE, "C.UTF-8")) /* of the validator's regular expressions */
        return 1;
    if (llm_trie_new(&vocab, &trie) != DBE_OK)
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    llm_trie_free(trie);
    return failed;
}
