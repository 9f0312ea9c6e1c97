/* SPDX-License-Identifier: Apache-2.0
 *
 * params_test.c - requests good and bad, as tables.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "shim/openai.h"

#define MSGS "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define HEAD "{\"model\":\"m\"," MSGS

static void test_good_requests(void **state)
{
    static const char *const bodies[] = {
        HEAD "}",
        "{" MSGS "}",
        HEAD ",\"temperature\":0,\"top_p\":1,\"seed\":-1,\"stop\":\"x\",\"n\":1,\"stream\":false}",
        HEAD ",\"temperature\":null,\"top_p\":null,\"max_tokens\":null,\"stop\":null,\"seed\":null,\"stream\":null}",
        HEAD ",\"max_completion_tokens\":1}",
        HEAD ",\"stop\":[\"a\",\"b\",\"c\",\"d\"]}",
        HEAD ",\"stream\":true,\"stream_options\":{\"include_usage\":true,\"include_obfuscation\":false}}",
        HEAD ",\"user\":\"u\",\"metadata\":{\"a\":\"b\"},\"store\":false,\"service_tier\":\"auto\",\"prompt_cache_"
             "key\":\"k\"}",
        HEAD ",\"frequency_penalty\":-2,\"presence_penalty\":2.0,\"logit_bias\":{},\"logprobs\":false}",
        HEAD ",\"n\":8,\"logprobs\":true,\"logit_bias\":{\"50256\":-100,\"0\":1.5}}",
        HEAD ",\"logprobs\":true,\"top_logprobs\":0}",
        HEAD ",\"tools\":[],\"tool_choice\":\"none\",\"parallel_tool_calls\":false}",
        HEAD ",\"response_format\":{\"type\":\"json_object\"},\"reasoning_effort\":\"none\",\"verbosity\":\"medium\"}",
        HEAD ",\"response_format\":{\"type\":\"text\"},\"modalities\":[\"text\"],\"tools\":null,\"safety_identifier\":"
             "\"s\"}",
        ("{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"content\":\"x\",\"refusal\":null,"
         "\"annotations\":[]}]}"),
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(bodies); i++) {
        struct shim_req req;
        struct shim_problem p = {0};
        if (shim_req_parse(SHIM_CHAT, bodies[i], strlen(bodies[i]), &req, &p) != DBE_OK)
            fail_msg("%s: %s", bodies[i], p.message);
        shim_req_free(&req);
    }
}

static void test_request_fields(void **state)
{
    static const char body[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"developer\",\"content\":\"be "
                               "brief\"},{\"role\":\"user\",\"content\":"
                               "[{\"type\":\"text\",\"text\":\"a\\n\"},{\"type\":\"text\",\"text\":\"\xC3\xA9\"}]}],"
                               "\"temperature\":1.5,\"top_p\":0.25,"
                               "\"max_tokens\":7,\"seed\":42,\"stop\":[\"x\",\"yy\"],\"stream\":true,\"stream_"
                               "options\":{\"include_usage\":true}}";
    struct shim_req req;
    struct shim_problem p;

    (void)state;
    assert_int_equal(shim_req_parse(SHIM_CHAT, body, strlen(body), &req, &p), DBE_OK);
    assert_string_equal(req.model, "m");
    assert_int_equal(req.message_count, 2);
    assert_string_equal(shim_role_name(req.messages[0].role), "system");
    assert_string_equal(req.messages[0].content, "be brief");
    assert_string_equal(shim_role_name(req.messages[1].role), "user");
    assert_string_equal(req.messages[1].content, "a\n\xC3\xA9");
    assert_true(req.has_temperature && req.has_top_p && req.has_max_tokens && req.has_seed);
    assert_true(req.temperature == 1.5 && req.top_p == 0.25);
    assert_int_equal(req.max_tokens, 7);
    assert_int_equal(req.seed, 42);
    assert_int_equal(req.stop_count, 2);
    assert_string_equal(req.stop[1], "yy");
    assert_true(req.stream && req.include_usage);
    shim_req_free(&req);
}

struct bad_row {
    const char *body, *code, *param; /* param NULL: none to name */
};

static void expect_refused(const struct bad_row *row)
{
    struct shim_req req;
    struct shim_problem p = {0};

    if (shim_req_parse(SHIM_CHAT, row->body, strlen(row->body), &req, &p) != DBE_E_ARGUMENT)
        fail_msg("accepted: %s", row->body);
    if (p.status != 400 || p.code == NULL || strcmp(p.code, row->code) != 0 ||
        strcmp(p.param, row->param != NULL ? row->param : "") != 0)
        fail_msg("%s: status %d code %s param '%s'", row->body, p.status, p.code, p.param);
    assert_string_equal(p.type, "invalid_request_error");
    assert_true(p.message[0] != '\0');
    assert_null(req.messages);
}

static void test_wrong_types_and_ranges(void **state)
{
    static const struct bad_row rows[] = {
        {"{\"model\":1," MSGS "}", "invalid_type", "model"},
        {"{\"model\":null," MSGS "}", "invalid_type", "model"},
        {"{\"model\":\"\"," MSGS "}", "invalid_value", "model"},
        {"{\"model\":\"m\"}", "missing_required_parameter", "messages"},
        {"{\"messages\":null}", "invalid_type", "messages"},
        {"{\"messages\":\"hi\"}", "invalid_type", "messages"},
        {"{\"messages\":[]}", "empty_array", "messages"},
        {"{\"messages\":[1]}", "invalid_type", "messages[0]"},
        {"{\"messages\":[{}]}", "missing_required_parameter", "messages[0].role"},
        {"{\"messages\":[{\"role\":\"user\"}]}", "missing_required_parameter", "messages[0].content"},
        {"{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "missing_required_parameter",
         "messages[0].tool_call_id"},
        {"{\"messages\":[{\"role\":\"tool\",\"content\":\"x\",\"tool_call_id\":\"c\"}]}", "invalid_value",
         "messages[0].tool_call_id"},
        {"{\"messages\":[{\"role\":\"root\",\"content\":\"x\"}]}", "invalid_value", "messages[0].role"},
        {"{\"messages\":[{\"role\":7,\"content\":\"x\"}]}", "invalid_type", "messages[0].role"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":null}]}", "invalid_type", "messages[0].content"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[]}]}", "invalid_value", "messages[0].content"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[\"x\"]}]}", "invalid_type", "messages[0].content[0]"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{}}]}]}",
         "unsupported_value", "messages[0].content[0]"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}", "invalid_value",
         "messages[0].content[0]"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"name\":\"bob\"}]}", "unsupported_parameter",
         "messages[0].name"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"colour\":1}]}", "unknown_parameter",
         "messages[0].colour"},
        {HEAD ",\"temperature\":\"1\"}", "invalid_type", "temperature"},
        {HEAD ",\"temperature\":true}", "invalid_type", "temperature"},
        {HEAD ",\"temperature\":2.1}", "invalid_value", "temperature"},
        {HEAD ",\"temperature\":-0.1}", "invalid_value", "temperature"},
        {HEAD ",\"top_p\":1.01}", "invalid_value", "top_p"},
        {HEAD ",\"max_tokens\":0}", "invalid_value", "max_tokens"},
        {HEAD ",\"max_tokens\":1.0}", "invalid_type", "max_tokens"},
        {HEAD ",\"max_tokens\":4294967296}", "invalid_value", "max_tokens"},
        {HEAD ",\"max_completion_tokens\":-1}", "invalid_value", "max_completion_tokens"},
        {HEAD ",\"max_tokens\":1,\"max_completion_tokens\":1}", "invalid_parameter_combination",
         "max_completion_tokens"},
        {HEAD ",\"seed\":1.5}", "invalid_type", "seed"},
        {HEAD ",\"stop\":1}", "invalid_type", "stop"},
        {HEAD ",\"stop\":\"\"}", "invalid_value", "stop"},
        {HEAD ",\"stop\":[]}", "invalid_value", "stop"},
        {HEAD ",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\"]}", "invalid_value", "stop"},
        {HEAD ",\"stop\":[\"1\",2]}", "invalid_type", "stop[1]"},
        {HEAD ",\"stream\":1}", "invalid_type", "stream"},
        {HEAD ",\"stream\":true,\"stream_options\":[]}", "invalid_type", "stream_options"},
        {HEAD ",\"stream\":true,\"stream_options\":{\"x\":1}}", "unknown_parameter", "stream_options.x"},
        {HEAD ",\"stream\":true,\"stream_options\":{\"include_usage\":1}}", "invalid_type",
         "stream_options.include_usage"},
        {HEAD ",\"stream\":true,\"stream_options\":{\"include_obfuscation\":true}}", "unsupported_parameter",
         "stream_options.include_obfuscation"},
        {HEAD ",\"stream_options\":{}}", "invalid_parameter_combination", "stream_options"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++)
        expect_refused(&rows[i]);
}

/* Every parameter that OpenAI knows and we do not obey is refused by name; so is any other. */
static void test_unsupported_parameters(void **state)
{
    static const struct {
        const char *name, *value, *code;
    } rows[] = {
        {"n", "0", "invalid_value"},
        {"n", "9", "invalid_value"},
        {"n", "\"1\"", "invalid_type"},
        {"frequency_penalty", "2.5", "invalid_value"},
        {"presence_penalty", "\"1\"", "invalid_type"},
        {"logit_bias", "[]", "invalid_type"},
        {"logprobs", "2", "invalid_type"},
        {"top_logprobs", "2", "invalid_parameter_combination"}, /* without logprobs it would say nothing */
        {"top_logprobs", "21", "invalid_value"},
        {"response_format", "\"json\"", "invalid_type"},
        {"tools", "{}", "invalid_type"},
        {"tool_choice", "\"required\"", "invalid_parameter_combination"},
        {"tool_choice", "\"maybe\"", "invalid_value"},
        {"parallel_tool_calls", "1", "invalid_type"},
        {"prompt_cache_key", "\"\"", "invalid_value"},
        {"functions", "[]", "unsupported_parameter"},
        {"function_call", "\"none\"", "unsupported_parameter"},
        {"modalities", "[\"audio\"]", "unsupported_parameter"},
        {"audio", "{}", "unsupported_parameter"},
        {"prediction", "{}", "unsupported_parameter"},
        {"reasoning_effort", "\"low\"", "unsupported_parameter"},
        {"verbosity", "\"low\"", "unsupported_parameter"},
        {"web_search_options", "{}", "unsupported_parameter"},
        {"moderation", "{}", "unsupported_parameter"},
        {"prompt_cache_retention", "\"24h\"", "unsupported_parameter"},
        {"prompt_cache_options", "{}", "unsupported_parameter"},
        {"service_tier", "\"priority\"", "unsupported_parameter"},
        {"store", "true", "unsupported_parameter"},
        {"store", "1", "invalid_type"},
        {"user", "1", "invalid_type"},
        {"metadata", "{\"a\":1}", "invalid_type"},
        {"top_k", "5", "unknown_parameter"},
        {"Temperature", "1", "unknown_parameter"},
        {"", "1", "unknown_parameter"},
    };
    char body[512];

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        (void)snprintf(body, sizeof body, HEAD ",\"%s\":%s}", rows[i].name, rows[i].value);
        expect_refused(&(struct bad_row){body, rows[i].code, rows[i].name});
    }
}

#define F(name) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"
#define R(name) "{\"type\":\"function\",\"name\":\"" name "\"}"
#define CHAT_TOOLS(choice) HEAD ",\"tool_choice\":" choice ",\"tools\":[" F("a") "," F("b") "," F("c") "]}"
#define RESPONSE_TOOLS(choice)                                                                                         \
    "{\"model\":\"m\",\"input\":\"x\",\"tool_choice\":" choice ",\"tools\":[" R("a") "," R("b") "," R("c") "]}"
#define MODE_AND_TOOLS(mode, tools) "\"mode\":\"" mode "\",\"tools\":[" tools "]}"
#define ALLOWED(mode, tools) "{\"type\":\"allowed_tools\",\"allowed_tools\":{" MODE_AND_TOOLS(mode, tools) "}"
#define ALLOWED_FLAT(mode, tools) "{\"type\":\"allowed_tools\"," MODE_AND_TOOLS(mode, tools)

/* Of the tools, those that may be called, in their order: the others are not there. */
static void test_allowed_tools(void **state)
{
    static const struct {
        enum shim_kind kind;
        const char *body, *choice, *left;
    } rows[] = {
        {SHIM_CHAT, CHAT_TOOLS("\"auto\""), "auto", "abc"},
        {SHIM_CHAT, CHAT_TOOLS(ALLOWED("auto", F("b"))), "auto", "b"},
        {SHIM_CHAT, CHAT_TOOLS(ALLOWED("required", F("c") "," F("a") "," F("a"))), "required", "ac"},
        {SHIM_RESPONSE, RESPONSE_TOOLS(ALLOWED_FLAT("required", R("b") "," R("c"))), "required", "bc"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct shim_req req;
        struct shim_problem p = {0};
        if (shim_req_parse(rows[i].kind, rows[i].body, strlen(rows[i].body), &req, &p) != DBE_OK)
            fail_msg("%s: %s", rows[i].body, p.message);
        assert_string_equal(req.tool_choice, rows[i].choice);
        assert_int_equal(req.tool_count, strlen(rows[i].left));
        for (size_t k = 0; k < req.tool_count; k++)
            assert_int_equal(req.tools[k].name[0], rows[i].left[k]);
        shim_req_free(&req);
    }
}

static void test_allowed_tools_that_are_none(void **state)
{
    static const struct bad_row rows[] = {
        {CHAT_TOOLS(ALLOWED("auto", F("d"))), "invalid_parameter_combination", "tool_choice"},
        {CHAT_TOOLS(ALLOWED("none", F("a"))), "invalid_value", "tool_choice.allowed_tools.mode"},
        {CHAT_TOOLS(ALLOWED("auto", "")), "invalid_type", "tool_choice.allowed_tools.tools"},
        {CHAT_TOOLS(ALLOWED("auto", R("a"))), "missing_required_parameter", "tool_choice.allowed_tools.tools[0].name"},
        {CHAT_TOOLS(ALLOWED("auto", F("a") ",1")), "invalid_type", "tool_choice.allowed_tools.tools[1]"},
        {CHAT_TOOLS(ALLOWED("auto", "{\"type\":\"mcp\",\"function\":{\"name\":\"a\"}}")), "unsupported_value",
         "tool_choice.allowed_tools.tools[0].type"},
        {CHAT_TOOLS(ALLOWED_FLAT("auto", F("a"))), "unknown_parameter", "tool_choice"},
        {CHAT_TOOLS("{\"type\":\"allowed_tools\",\"allowed_tools\":1}"), "invalid_type", "tool_choice.allowed_tools"},
        {HEAD ",\"tool_choice\":" ALLOWED("auto", F("a")) "}", "invalid_parameter_combination", "tool_choice"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++)
        expect_refused(&rows[i]);
}

static void test_hostile_bodies(void **state)
{
    static const struct bad_row rows[] = {
        {"", "invalid_json", NULL},
        {"null", "invalid_json", NULL},
        {"[]", "invalid_type", NULL},
        {"{", "invalid_json", NULL},
        {HEAD "} x", "invalid_json", NULL},
        {HEAD ",\"seed\":99999999999999999999}", "invalid_json", NULL},
        {HEAD ",\"temperature\":1e999}", "invalid_json", NULL},
        {HEAD ",\"temperature\":NaN}", "invalid_json", NULL},
        {HEAD ",\"model\":\"m\"}", "duplicate_parameter", "model"},
        {"{\"messages\":[{\"role\":\"user\",\"role\":\"user\",\"content\":\"x\"}]}", "duplicate_parameter", "role"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"\\u0000\"}]}", "invalid_json", NULL},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"\\ud800\"}]}", "invalid_json", NULL},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"\xC0\xAF\"}]}", "invalid_utf8", NULL},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\nb\"}]}", "invalid_json", NULL},
    };
    struct shim_req req;
    struct shim_problem p;
    char deep[4096];

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++)
        expect_refused(&rows[i]);
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    expect_refused(&(struct bad_row){deep, "invalid_json", NULL});
    assert_int_equal(shim_req_parse(SHIM_CHAT, "{\0}", 3, &req, &p), DBE_E_ARGUMENT);

    size_t len = SHIM_BODY_MAX_BYTES + 1;
    char *large = test_malloc(len);
    memset(large, ' ', len);
    assert_int_equal(shim_req_parse(SHIM_CHAT, large, len, &req, &p), DBE_E_ARGUMENT);
    assert_int_equal(p.status, 413);
    test_free(large);
}

/* A message about bad JSON says where, and never quotes what stands there. */
static void test_refusal_does_not_quote(void **state)
{
    static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"secret words\" oops}]}";
    struct shim_req req;
    struct shim_problem p;

    (void)state;
    assert_int_equal(shim_req_parse(SHIM_CHAT, body, strlen(body), &req, &p), DBE_E_ARGUMENT);
    assert_null(strstr(p.message, "secret"));
    assert_null(strstr(p.message, "oops"));
}

static void test_allocation_failures(void **state)
{
    static const char body[] =
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]},"
        "{\"role\":\"user\",\"content\":\"b\"}],\"stop\":[\"x\",\"y\"],\"tools\":[" F("a") "," F(
            "b") "],"
                 "\"tool_choice\":" ALLOWED("auto", F("b")) "}";
    uint64_t n = 0;

    (void)state;
    for (n = 1; n < 64; n++) {
        struct shim_req req;
        struct shim_problem p = {0};
        base_fail_alloc_at(n);
        dbe_err err = shim_req_parse(SHIM_CHAT, body, strlen(body), &req, &p);
        base_fail_alloc_at(0);
        if (err == DBE_OK) {
            shim_req_free(&req);
            break;
        }
        assert_int_equal(err, DBE_E_NOMEM);
        assert_int_equal(p.status, 503);
        assert_null(req.messages);
    }
    assert_in_range(n, 4, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_requests),          cmocka_unit_test(test_request_fields),
        cmocka_unit_test(test_wrong_types_and_ranges), cmocka_unit_test(test_unsupported_parameters),
        cmocka_unit_test(test_allowed_tools),          cmocka_unit_test(test_allowed_tools_that_are_none),
        cmocka_unit_test(test_hostile_bodies),         cmocka_unit_test(test_refusal_does_not_quote),
        cmocka_unit_test(test_allocation_failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
