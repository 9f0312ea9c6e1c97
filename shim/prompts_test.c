/* SPDX-License-Identifier: Apache-2.0
 *
 * prompts_test.c - several prompts of a completion, and tokens where texts may stand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "shim/openai.h"

static dbe_err parse(enum shim_kind kind, const char *body, struct shim_req *ret, struct shim_problem *p)
{
    return shim_req_parse(kind, body, strlen(body), ret, p);
}

static void test_prompts(void **state)
{
    static const struct {
        const char *body;
        size_t texts, lists;
    } rows[] = {
        {"{\"prompt\":\"a\"}", 1, 0},
        {"{\"prompt\":[\"a\"]}", 1, 0},
        {"{\"prompt\":[\"a\",\"b\"],\"n\":8}", 2, 0},
        {"{\"prompt\":[1,2,3]}", 0, 1},
        {"{\"prompt\":[[1,2],[3]],\"n\":2}", 0, 2},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct shim_req req;
        struct shim_problem p = {0};
        if (parse(SHIM_COMPLETION, rows[i].body, &req, &p) != DBE_OK)
            fail_msg("%s: %s", rows[i].body, p.message);
        assert_int_equal(req.message_count, rows[i].texts);
        assert_int_equal(req.token_count, rows[i].lists);
        if (rows[i].lists == 2) {
            assert_int_equal(req.tokens[0].count, 2);
            assert_int_equal(req.tokens[0].ids[1], 2);
            assert_int_equal(req.tokens[1].ids[0], 3);
        }
        shim_req_free(&req);
    }
}

static void test_bad_prompts(void **state)
{
    static const struct {
        enum shim_kind kind;
        const char *body, *param, *code;
    } rows[] = {
        {SHIM_COMPLETION, "{\"prompt\":[]}", "prompt", "empty_array"},
        {SHIM_COMPLETION, "{\"prompt\":5}", "prompt", "invalid_type"},
        {SHIM_COMPLETION, "{\"prompt\":[\"a\",1]}", "prompt[1]", "invalid_type"},
        {SHIM_COMPLETION, "{\"prompt\":[1,\"a\"]}", "prompt[1]", "invalid_type"},
        {SHIM_COMPLETION, "{\"prompt\":[1,-1]}", "prompt[1]", "invalid_value"},
        {SHIM_COMPLETION, "{\"prompt\":[1.5]}", "prompt[0]", "invalid_type"},
        {SHIM_COMPLETION, "{\"prompt\":[[1],[]]}", "prompt[1]", "empty_array"},
        {SHIM_COMPLETION, "{\"prompt\":[[1],2]}", "prompt[1]", "invalid_type"},
        {SHIM_COMPLETION, "{\"prompt\":[[1],[\"a\"]]}", "prompt[1][0]", "invalid_type"},
        {SHIM_COMPLETION, "{\"prompt\":[\"a\",\"b\",\"c\",\"d\",\"e\"],\"n\":8}", "prompt", "array_above_max_length"},
        {SHIM_COMPLETION, "{\"prompt\":[1],\"max_tokens\":0}", "max_tokens", "invalid_value"},
        {SHIM_COMPLETION, "{\"prompt\":\"a\",\"max_tokens\":0,\"echo\":false}", "max_tokens", "invalid_value"},
        {SHIM_EMBEDDING, "{\"input\":[]}", "input", "invalid_value"},
        {SHIM_EMBEDDING, "{\"input\":[[]]}", "input[0]", "empty_array"},
        {SHIM_EMBEDDING, "{\"input\":[\"a\",[1]]}", "input[1]", "invalid_type"},
        {SHIM_EMBEDDING, "{\"input\":[4294967296]}", "input[0]", "invalid_value"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct shim_req req;
        struct shim_problem p = {0};
        if (parse(rows[i].kind, rows[i].body, &req, &p) == DBE_OK || strcmp(p.param, rows[i].param) != 0 ||
            strcmp(p.code, rows[i].code) != 0)
            fail_msg("%s: %s, %s, %s", rows[i].body, p.param, p.code != NULL ? p.code : "none", p.message);
        assert_int_equal(p.status, 400);
    }
}

static void test_inputs_as_tokens(void **state)
{
    struct shim_req req;
    struct shim_problem p = {0};

    (void)state;
    assert_int_equal(parse(SHIM_EMBEDDING, "{\"input\":[[5,6],[7]]}", &req, &p), DBE_OK);
    assert_int_equal(req.input_count, 0);
    assert_int_equal(req.token_count, 2);
    assert_int_equal(req.tokens[0].ids[1], 6);
    shim_req_free(&req);
}

/* What an evaluation asks for: the prompt's probabilities, and no answer or one token. */
static void test_echo(void **state)
{
    static const char *const bodies[] = {
        "{\"prompt\":[\"a\",\"b\"],\"n\":2,\"echo\":true,\"logprobs\":1,\"max_tokens\":0}",
        "{\"prompt\":[[1,2],[3]],\"n\":2,\"echo\":true,\"logprobs\":1,\"max_tokens\":1}",
    };
    struct shim_problem p = {0};
    struct shim_style style;
    struct shim_req req;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(bodies); i++) {
        assert_int_equal(parse(SHIM_COMPLETION, bodies[i], &req, &p), DBE_OK);
        assert_true(req.echo && req.logprobs && req.top_logprobs == 1);
        assert_true(req.has_max_tokens && req.max_tokens == i);
        shim_style_of(&req, &style);
        assert_true(style.echo && style.logprobs);
        shim_style_free(&style);
        shim_req_free(&req);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_bad_prompts),
        cmocka_unit_test(test_inputs_as_tokens),
        cmocka_unit_test(test_echo),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
