/* SPDX-License-Identifier: Apache-2.0
 *
 * schema_hostile_test.c - schemas that mean harm: too deep, too large, and small ones that would be much work.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "grammar.h"

/* `count` times `text` between `before` and `after`. */
static dbe_err repeated(const char *before, const char *text, size_t count, const char *after)
{
    struct base_buf b;
    struct llm_grammar *g = NULL;
    dbe_err err;

    base_buf_init(&b, 8 << 20);
    base_buf_str(&b, before);
    for (size_t i = 0; i < count; i++)
        base_buf_str(&b, text);
    base_buf_str(&b, after);
    assert_int_equal(b.err, DBE_OK);
    err = llm_grammar_schema((const char *)b.data, b.len, &g, NULL);
    llm_grammar_free(g);
    base_buf_free(&b);
    return err;
}

static void hostile_schemas_end(void **state)
{
    (void)state;
    assert_int_equal(repeated("", "[", 100000, ""), DBE_E_ARGUMENT);
    assert_int_equal(repeated("{\"x\":\"", "a", LLM_SCHEMA_BYTES_MAX, "\"}"), DBE_E_TOO_LARGE);
    assert_int_equal(repeated("", "{\"items\":", 100, "{}"), DBE_E_ARGUMENT); /* not closed */
    assert_int_equal(repeated("{\"const\":\"", "a", 100000, "\"}"), DBE_E_TOO_LARGE);
    assert_int_equal(repeated("{\"anyOf\":[{}", ",{}", 20000, "]}"), DBE_E_TOO_LARGE);
    assert_int_equal(repeated("{\"oneOf\":[true", ",true", 9000, "]}"), DBE_E_ARGUMENT);
    assert_int_equal(repeated("{\"oneOf\":[{\"const\":1}", ",{\"const\":[1,1]}", 5000, "]}"), DBE_E_ARGUMENT);
    assert_int_equal(repeated("{\"$defs\":{\"a\":{\"oneOf\":[{\"items\":{\"$ref\":\"#/$defs/a\"},\"minItems\":1}",
                              ",{\"items\":{\"$ref\":\"#/$defs/a\"},\"minItems\":1}", 50,
                              "]}},\"$ref\":\"#/$defs/a\"}"),
                     DBE_E_ARGUMENT);
    assert_int_equal(repeated("{\"pattern\":\"", "(", 10000, "\"}"), DBE_E_ARGUMENT);
    assert_int_equal(repeated("{\"pattern\":\"", "a", 10000, "\"}"), DBE_E_ARGUMENT);
    assert_int_equal(repeated("{\"pattern\":\"^", "[^a]", 900, "$\"}"), DBE_E_TOO_LARGE);
    assert_int_equal(repeated("{\"pattern\":\"^", "(a{1000}){1000}", 1, "$\"}"), DBE_OK); /* counted, not written out */
    assert_int_equal(repeated("{\"pattern\":\"^", "[^ab]{9999}", 20, "$\"}"), DBE_OK);
}

/* ---- work -------------------------------------------------------------------------------------------------------- */

/* A schema put together: `count` parts, each with its number for "%", between a beginning and an end. */
struct heap {
    const char *name, *before, *filling;
    size_t filled;
    const char *between, *part;
    size_t count;
    const char *after;
};

static void numbered(struct base_buf *b, const char *text, size_t number)
{
    char digits[24];

    (void)snprintf(digits, sizeof digits, "%05zu", number);
    for (; *text; text++)
        if (*text == '%')
            base_buf_str(b, digits);
        else
            base_buf_u8(b, (uint8_t)*text);
}

static dbe_err heaped(const struct heap *h, struct dbe_diag *diag)
{
    struct base_buf b;
    struct llm_grammar *g = NULL;

    base_buf_init(&b, LLM_SCHEMA_BYTES_MAX);
    base_buf_str(&b, h->before);
    for (size_t i = 0; i < h->filled; i++)
        base_buf_str(&b, h->filling);
    base_buf_str(&b, h->between);
    for (size_t i = 0; i < h->count; i++)
        numbered(&b, h->part, i);
    base_buf_str(&b, h->after);
    assert_int_equal(b.err, DBE_OK); /* it is within the bounds of size */
    dbe_err err = llm_grammar_schema((const char *)b.data, b.len, &g, diag);
    llm_grammar_free(g);
    base_buf_free(&b);
    return err;
}

/* Each would take seconds to hours if it were let: nodes are few, and the work is done again and again. */
static void work_is_bounded(void **state)
{
    static const struct heap heaps[] = {
        {"a large part that allOf copies", "{\"$defs\":{\"big\":{\"type\":\"null\",\"x-a\":[1", ",1", 60000,
         "]}},\"anyOf\":[{}", ",{\"allOf\":[{\"$ref\":\"#/$defs/big\"}]}", 2500, "]}"},
        {"a large part that allOf compares", "{\"$defs\":{\"big\":{\"type\":\"null\",\"x-a\":[1", ",1", 60000,
         "]}},\"allOf\":[{}", ",{\"$ref\":\"#/$defs/big\"}", 5000, "]}"},
        {"lists that allOf joins", "{\"$defs\":{\"big\":{\"required\":[\"a\"", ",\"a\"", 20000,
         "]}},\"properties\":{\"a\":{}},\"allOf\":[{}", ",{\"$ref\":\"#/$defs/big\"}", 5000, "]}"},
        {"names that are demanded again and again", "{\"type\":\"object\",\"required\":[\"a\"", ",\"a\"", 60000,
         "],\"properties\":{\"a\":{}", ",\"b%\":{}", 250, "}}"},
        {"a long text, and lengths of which it may be", "{\"$defs\":{\"long\":{\"const\":\"", "x", 40000,
         "\"},\"any\":{\"anyOf\":[{\"type\":\"null\"}", ",{\"type\":\"string\",\"minLength\":1%}", 4000,
         "]}},\"oneOf\":[{\"$ref\":\"#/$defs/long\"},{\"$ref\":\"#/$defs/any\"}]}"},
        {"keywords that say nothing, looked through each time", "{\"$defs\":{\"odd\":{\"minLength\":3", "", 0, "",
         ",\"x-%\":0", 10000,
         "}},\"oneOf\":[{\"$ref\":\"#/$defs/odd\"},{\"enum\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,"
         "23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,"
         "59,60,61,62,63,64,65,66,67,68,69,70,71,72,73,74,75,76,77,78,79,80,81,82,83,84,85,86,87,88,89,90]}]}"},
        {"numbers whose shortest text is long", "{\"enum\":[0", "", 0, "", ",0.1234567890%1", 11000, "]}"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(heaps); i++) {
        struct dbe_diag diag = {0};
        const dbe_err err = heaped(&heaps[i], &diag);
        if (err != DBE_E_TOO_LARGE || !strstr(diag.text, "too much work") || diag.text[0] != '#')
            fail_msg("%s: %s, %s", heaps[i].name, dbe_err_name(err), diag.text);
    }
}

/* What is written by people and machines that mean well is far from the bound. */
static void much_is_not_too_much(void **state)
{
    static const struct heap heaps[] = {
        {"events told apart by the last of many names", "{\"oneOf\":[{\"type\":\"null\"}", "", 0, "",
         ",{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"type\":\"string\"},"
         "\"c\":{\"type\":\"integer\"},\"kind\":{\"const\":\"event%\"}},"
         "\"required\":[\"a\",\"b\",\"c\",\"kind\"]}",
         100, "]}"},
        {"a long list of names", "{\"enum\":[\"none\"", "", 0, "", ",\"n%\"", 4000, "]}"},
        {"a wide object", "{\"type\":\"object\",\"properties\":{\"a\":{}", "", 0, "",
         ",\"property_%\":{\"type\":\"string\",\"pattern\":\"^[a-z]{1,20}$\"}", 255, "}}"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(heaps); i++) {
        struct dbe_diag diag = {0};
        const dbe_err err = heaped(&heaps[i], &diag);
        if (err != DBE_OK)
            fail_msg("%s: %s, %s", heaps[i].name, dbe_err_name(err), diag.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_schemas_end),
        cmocka_unit_test(work_is_bounded),
        cmocka_unit_test(much_is_not_too_much),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
