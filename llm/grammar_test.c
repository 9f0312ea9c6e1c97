/* SPDX-License-Identifier: Apache-2.0
 *
 * grammar_test.c - JSON that is accepted and that is not, masks against every token tried byte by byte, random answers
 * that a parser must read, bounds and lack of memory.
 */
#include "test_grammar.h"

#include <jansson.h>
#include <pthread.h>

#include "grammar_state.h"

static struct llm_vocab vocab;
static struct llm_trie *trie;
static struct llm_grammar *json;

static const char *const good[] = {
    "{}",
    "{\"a\":1}",
    "{\"a\": 1}",
    "{ }",
    "{\n}",
    "{\n  \"a\": [\n    1,\n    2\n  ]\n}",
    "{\"\":\"\"}",
    "{\"a\":-0}",
    "{\"a\":0.5e+10}",
    "{\"a\":1E-9}",
    "{\"a\":[]}",
    "{\"a\":[[],{}]}",
    "{\"a\":null,\"a\":true,\"b\":false}",
    "{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}",
    "{\"a\":\"\\u0041\\uD834\\udd1e\\uffff\\u0001\"}",
    "{\"\xc3\xa9\":\"\xe4\xbd\xa0\"}",
    "{\"a\":\"\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\xee\x80\x80\xed\x9f\xbf\"}",
    "{\"a\":\"\x7f\"}",
    "{\"a\":1234567890123456}",
};
static const char *const bad[] = {
    "",
    "[]",
    "1",
    "\"a\"",
    "{",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{,}",
    "{\"a\" :1}",
    "{}}",
    "{} ",
    " {}",
    "{a:1}",
    "{'a':1}",
    "{\"a\":01}",
    "{\"a\":-}",
    "{\"a\":1.}",
    "{\"a\":.5}",
    "{\"a\":+1}",
    "{\"a\":1e}",
    "{\"a\":1e+}",
    "{\"a\":0x1}",
    "{\"a\":NaN}",
    "{\"a\":Infinity}",
    "{\"a\":tru}",
    "{\"a\":True}",
    "{\"a\":[1,]}",
    "{\"a\":[,1]}",
    "{\"a\":[1 2]}",
    "{\"a\":\"\n\"}",
    "{\"a\":\"\t\"}",
    "{\"a\":\"\\x\"}",
    "{\"a\":\"\\u12\"}",
    "{\"a\":\"\\u000g\"}",
    "{\"a\":\"\\u0000\"}",
    "{\"a\":\"\\ud800\"}",
    "{\"a\":\"\\udc00\"}",
    "{\"a\":\"\\ud800\\u0041\"}",
    "{\"a\":\"\xff\"}",
    "{\"a\":\"\xc3\"}",
    "{\"a\":\"\xc0\x80\"}",
    "{\"a\":\"\xed\xa0\x80\"}",
    "{\"a\":\"\xf4\x90\x80\x80\"}",
    "{\"a\":\"\xe0\x80\x80\"}",
    "{\"a\":\"\xf0\x80\x80\x80\"}",
    "{\"a\":\"\xf5\x80\x80\x80\"}",
    "{  }",
    "{\"a\":  1}",
    "{\n\n}",
    "{\"a\":1e999}",
    "{\"a\":12345678901234567890}",
    "{\"a\":1}x",
    "{\"a\":\"b\"\"c\"}",
    "{\"a\":1\n,\"b\":2}",
    "\xef\xbb\xbf{}",
    "{\"a\":/**/1}",
};

static void accepts_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(good); i++) {
        json_t *root = json_loads(good[i], 0, NULL);
        if (!tv_accepts(json, good[i]))
            fail_msg("refused: %s", good[i]);
        assert_non_null(root);
        json_decref(root);
    }
    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++)
        if (tv_accepts(json, bad[i]))
            fail_msg("accepted: %s", bad[i]);
}

static void masks_are_exact(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++)
        tv_masks_are_exact(json, trie, 40);
}

static void random_answers_are_json(void **state)
{
    static char text[8192];
    int whole = 0;

    (void)state;
    for (int i = 0; i < 300; i++) {
        if (!tv_text(json, trie, (unsigned)i % 60, text, sizeof text))
            continue;
        json_error_t error;
        json_t *root = json_loads(text, 0, &error);
        if (!root)
            fail_msg("%s: %s", error.text, text);
        assert_true(json_is_object(root));
        json_decref(root);
        whole++;
    }
    assert_true(whole > 250);
}

static const char *const strings[] = {"{\"",
                                      "{\"a\":\"",
                                      "{\"a\":[[\"",
                                      "{\"a\":[{\"b",
                                      "{\"a",
                                      "{\"b\":\"aaa",
                                      "{\"b\":\"aaaaaaaaaa",
                                      "{\"b\":\"",
                                      "{\"b\":\"a\"",
                                      "{\"c\":[\"a",
                                      "{\"c\":[\"a\",\"b\",\"",
                                      "{\"a\":[[\"x"};

/* Strings of all kinds, so that texts of `strings` come to what grammars share and to what is their own. */
static struct llm_grammar *string_grammar(void)
{
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{\"type\":\"string\","
                                 "\"minLength\":5,\"maxLength\":30},\"c\":{"
                                 "\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":20},\"maxItems\":9}},"
                                 "\"additionalProperties\":true}";
    struct llm_grammar *g = NULL;

    assert_int_equal(llm_grammar_schema(schema, sizeof schema - 1, &g, NULL), DBE_OK);
    return g;
}

static void mask_after(const struct llm_grammar *g, const struct llm_trie *t, const char *text, uint32_t *allowed)
{
    struct llm_grammar_state *s;

    assert_int_equal(llm_grammar_state_new(g, &s), DBE_OK);
    if (llm_grammar_accept(s, text, strlen(text)))
        assert_int_equal(llm_grammar_mask(s, t, TV_COUNT, allowed), DBE_OK);
    llm_grammar_state_free(s);
}

/* What was kept for a node, by whatever session and grammar, is what is found without it, in whatever order. */
static void kept_masks_are_the_same(void **state)
{
    struct llm_grammar *g[] = {json, string_grammar()};
    struct llm_grammar_state *kept[2];

    (void)state;
    for (size_t k = 0; k < 2; k++)
        assert_int_equal(llm_grammar_state_new(g[k], &kept[k]), DBE_OK);
    for (size_t i = 0; i < 2 * BASE_ARRAY_LEN(strings); i++) {
        const char *text = strings[i / 2];
        uint32_t a[TV_MASK_WORDS] = {0}, b[TV_MASK_WORDS] = {0}, c[TV_MASK_WORDS] = {0};
        struct llm_grammar_state *s;
        struct llm_trie *fresh = NULL;
        assert_int_equal(llm_trie_new(&vocab, &fresh), DBE_OK);
        assert_int_equal(llm_grammar_state_new(g[i % 2], &s), DBE_OK);
        if (llm_grammar_accept(s, text, strlen(text))) {
            assert_int_equal(llm_grammar_state_copy(kept[i % 2], s), DBE_OK);
            assert_int_equal(llm_grammar_mask(kept[i % 2], trie, TV_COUNT, a), DBE_OK);
        }
        mask_after(g[i % 2], trie, text, b);
        mask_after(g[i % 2], fresh, text, c);
        assert_memory_equal(a, b, sizeof a);
        assert_memory_equal(a, c, sizeof a);
        llm_grammar_state_free(s);
        llm_trie_free(fresh);
    }
    for (size_t k = 0; k < 2; k++)
        llm_grammar_state_free(kept[k]);
    llm_grammar_free(g[1]);
}

struct reader {
    const struct llm_grammar *g;
    const struct llm_trie *trie;
    uint32_t masks[BASE_ARRAY_LEN(strings)][TV_MASK_WORDS];
};

static void *read_masks(void *ctx)
{
    struct reader *r = ctx;

    for (unsigned round = 0; round < 20; round++)
        for (size_t i = 0; i < BASE_ARRAY_LEN(strings); i++)
            mask_after(r->g, r->trie, strings[i], r->masks[i]);
    return NULL;
}

static void sessions_share_what_is_kept(void **state)
{
    static struct reader readers[4];
    struct llm_grammar *g = string_grammar();
    struct llm_trie *fresh = NULL;
    pthread_t threads[4];

    (void)state;
    assert_int_equal(llm_trie_new(&vocab, &fresh), DBE_OK);
    for (size_t i = 0; i < 4; i++) {
        readers[i] = (struct reader){.g = i % 2 ? g : json, .trie = fresh};
        assert_int_equal(pthread_create(&threads[i], NULL, read_masks, &readers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < BASE_ARRAY_LEN(strings); i++)
        for (size_t k = 0; k < 2; k++) {
            uint32_t alone[TV_MASK_WORDS] = {0};
            mask_after(k ? g : json, trie, strings[i], alone);
            assert_memory_equal(readers[k].masks[i], alone, sizeof alone);
            assert_memory_equal(readers[k + 2].masks[i], alone, sizeof alone);
        }
    llm_trie_free(fresh);
    llm_grammar_free(g);
}

static void refusal_changes_nothing(void **state)
{
    struct llm_grammar_state *s;

    (void)state;
    assert_int_equal(llm_grammar_state_new(json, &s), DBE_OK);
    assert_true(llm_grammar_accept(s, "{\"a\":[", 6));
    assert_false(llm_grammar_accept(s, "1,2}", 4));
    assert_true(llm_grammar_accept(s, "", 0));
    assert_false(llm_grammar_can_end(s));
    assert_true(llm_grammar_accept(s, "1,2]}", 5));
    assert_true(llm_grammar_is_over(s));
    assert_false(llm_grammar_accept(s, "}", 1));
    llm_grammar_state_free(s);
}

/* Deeper than the bound nothing opens, but all can be closed; the mask knows. And frames do not run out. */
static void depth_is_bounded(void **state)
{
    struct llm_grammar_state *s;
    uint32_t allowed[TV_MASK_WORDS];
    int depth = 0;

    (void)state;
    assert_int_equal(llm_grammar_state_new(json, &s), DBE_OK);
    assert_true(llm_grammar_accept(s, "{\"a\":", 5));
    while (llm_grammar_accept(s, "[", 1)) {
        depth++;
        assert_int_equal(llm_grammar_mask(s, trie, TV_COUNT, allowed), DBE_OK);
        assert_true(tv_allowed(allowed, ']'));
    }
    assert_in_range(depth, 100, LLM_GRAMMAR_DEPTH_MAX);
    assert_false(tv_allowed(allowed, '['));
    while (depth-- > 0)
        assert_true(llm_grammar_accept(s, "]", 1));
    for (int i = 0; i < 20000; i++)
        assert_true(llm_grammar_accept(s, ",\"a\":[{\"b\":[{}]}]", 17));
    assert_true(llm_grammar_accept(s, "}", 1));
    assert_true(llm_grammar_is_over(s));
    llm_grammar_state_free(s);
}

static void characters_by_range(void **state)
{
    static const uint32_t edges[] = {0,      1,      0x7f,   0x80,    0x7ff,   0x800,   0xfff,   0x1000,  0x3fff,
                                     0xd7ff, 0xe000, 0xffff, 0x10000, 0x1ffff, 0x40000, 0xfffff, 0x10ffff};
    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(edges); i++)
        for (size_t j = i; j < BASE_ARRAY_LEN(edges); j++) {
            struct grammar_builder b;
            struct llm_grammar *g;
            assert_int_equal(grammar_begin(&b, NULL), DBE_OK);
            assert_int_equal(grammar_finish(&b, grammar_utf8(&b, edges[i], edges[j], GRAMMAR_END), &g), DBE_OK);
            for (size_t k = 1; k < BASE_ARRAY_LEN(edges); k++)
                for (uint32_t c = edges[k] - 1; c <= edges[k] + 1; c++) {
                    const char text[5] = {(char)(c < 0x80      ? c
                                                 : c < 0x800   ? 0xc0 | c >> 6
                                                 : c < 0x10000 ? 0xe0 | c >> 12
                                                               : 0xf0 | c >> 18),
                                          (char)(c < 0x80 ? 0
                                                          : 0x80 | (c >> (c < 0x800     ? 0
                                                                          : c < 0x10000 ? 6
                                                                                        : 12) &
                                                                    0x3f)),
                                          (char)(c < 0x800 ? 0 : 0x80 | (c >> (c < 0x10000 ? 0 : 6) & 0x3f)),
                                          (char)(c < 0x10000 ? 0 : 0x80 | (c & 0x3f)), 0};
                    const bool inside = c >= edges[i] && c <= edges[j] && (c < 0xd800 || c > 0xdfff) && c <= 0x10ffff;
                    if (c > 0)
                        assert_int_equal(tv_accepts(g, text), inside);
                }
            llm_grammar_free(g);
        }
}

static void no_memory_is_an_answer(void **state)
{
    dbe_err err = DBE_E_NOMEM;
    uint64_t nth = 0;

    (void)state;
    while (err != DBE_OK) {
        struct llm_grammar *g = NULL;
        struct llm_grammar_state *s = NULL;
        struct llm_trie *t = NULL;
        uint32_t allowed[TV_MASK_WORDS];
        base_fail_alloc_at(++nth);
        err = llm_grammar_json(&g, NULL);
        if (err == DBE_OK)
            err = llm_trie_new(&vocab, &t);
        if (err == DBE_OK)
            err = llm_grammar_state_new(g, &s);
        if (err == DBE_OK)
            err = llm_grammar_accept(s, "{\"", 2) ? llm_grammar_mask(s, t, TV_COUNT, allowed) : DBE_E_STATE;
        assert_true(err == DBE_OK || err == DBE_E_NOMEM);
        llm_grammar_state_free(s);
        llm_trie_free(t);
        llm_grammar_free(g);
    }
    base_fail_alloc_at(0);
    assert_true(nth > 10);
}

/* A state grows with what is open, and what it held it holds: so far down, a copy of it and one that came there byte by
 * byte go on alike, and come up again. Without memory to grow nothing is said to be whole, and the mask says why. */
static void states_grow(void **state)
{
    enum { DEEP = 200 };
    char text[2 * DEEP + 6];
    bool grew = false;

    (void)state;
    (void)snprintf(text, sizeof text, "{\"\":");
    memset(text + 4, '[', DEEP);
    memset(text + 4 + DEEP, ']', DEEP);
    text[4 + 2 * DEEP] = '}';
    text[5 + 2 * DEEP] = '\0';
    for (uint64_t nth = 0; !grew; nth++) {
        struct llm_grammar_state *s, *copy;
        uint32_t a[TV_MASK_WORDS], b[TV_MASK_WORDS];
        assert_int_equal(llm_grammar_state_new(json, &s), DBE_OK);
        assert_int_equal(llm_grammar_state_new(json, &copy), DBE_OK);
        base_fail_alloc_at(nth);
        assert_true(llm_grammar_accept(s, text, 4 + DEEP));
        dbe_err err = llm_grammar_mask(s, trie, TV_COUNT, a);
        if (llm_grammar_state_err(s) != DBE_OK) {
            assert_int_equal(err, DBE_E_NOMEM);
            assert_true(llm_grammar_accept(s, text + 4 + DEEP, DEEP + 1));
            assert_false(llm_grammar_can_end(s) || llm_grammar_is_over(s));
        } else {
            if (err == DBE_OK)
                err = llm_grammar_state_copy(copy, s);
            assert_true(err == DBE_OK || err == DBE_E_NOMEM);
            grew = nth > 0 && err == DBE_OK && base_alloc_count() < nth; /* it was not reached */
        }
        base_fail_alloc_at(0);
        if (grew) {
            struct llm_grammar_state *slow;
            assert_int_equal(llm_grammar_state_new(json, &slow), DBE_OK);
            for (size_t i = 0; i < 4 + DEEP; i++)
                assert_true(llm_grammar_accept(slow, text + i, 1));
            assert_int_equal(llm_grammar_mask(slow, trie, TV_COUNT, b), DBE_OK);
            assert_memory_equal(a, b, sizeof a);
            llm_grammar_state_free(slow);
            assert_int_equal(llm_grammar_mask(copy, trie, TV_COUNT, b), DBE_OK);
            assert_memory_equal(a, b, sizeof a);
            assert_true(llm_grammar_accept(copy, text + 4 + DEEP, DEEP + 1) && llm_grammar_is_over(copy));
            assert_true(nth > 3);
        }
        llm_grammar_state_free(s);
        llm_grammar_state_free(copy);
    }
}

/* A grammar that is made so that there are ever more ways: in the end it is not followed any further. Nothing is said
 * to be whole then, and masks say why; until then they are what they are. */
static void too_many_ways_are_an_error(void **state)
{
    static const char schema[] = "{\"pattern\":\"^(?:(?:.{1,90}){1,90}){1,90}$\"}";
    struct llm_grammar *g = NULL;
    struct llm_grammar_state *s;
    uint32_t allowed[TV_MASK_WORDS];
    dbe_err err = DBE_OK;

    (void)state;
    assert_int_equal(llm_grammar_schema(schema, sizeof schema - 1, &g, NULL), DBE_OK);
    assert_int_equal(llm_grammar_state_new(g, &s), DBE_OK);
    assert_true(llm_grammar_accept(s, "\"", 1));
    for (unsigned n = 0; n < 10000 && err == DBE_OK; n++) {
        err = llm_grammar_mask(s, trie, TV_COUNT, allowed);
        if (err == DBE_OK)
            assert_true(tv_allowed(allowed, 'a') && llm_grammar_accept(s, "a", 1));
    }
    assert_int_equal(err, DBE_E_TOO_LARGE);
    assert_true(llm_grammar_accept(s, "\"", 1) && !llm_grammar_can_end(s) && !llm_grammar_is_over(s));
    assert_int_equal(llm_grammar_mask(s, trie, TV_COUNT, allowed), DBE_E_TOO_LARGE);
    assert_int_equal(llm_grammar_state_err(s), DBE_E_TOO_LARGE);
    llm_grammar_state_free(s);
    llm_grammar_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_json),
        cmocka_unit_test(masks_are_exact),
        cmocka_unit_test(random_answers_are_json),
        cmocka_unit_test(kept_masks_are_the_same),
        cmocka_unit_test(sessions_share_what_is_kept),
        cmocka_unit_test(refusal_changes_nothing),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(characters_by_range),
        cmocka_unit_test(no_memory_is_an_answer),
        cmocka_unit_test(states_grow),
        cmocka_unit_test(too_many_ways_are_an_error),
    };
    int failed;

    vocab = tv_vocab();
    if (llm_trie_new(&vocab, &trie) != DBE_OK || llm_grammar_json(&json, NULL) != DBE_OK)
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    llm_trie_free(trie);
    llm_grammar_free(json);
    return failed;
}
