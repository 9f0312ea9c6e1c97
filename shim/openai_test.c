/* SPDX-License-Identifier: Apache-2.0
 *
 * openai_test.c - requests good and bad, answers, errors, models, headers and event streams, as tables.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "shim/headers.h"
#include "shim/openai.h"
#include "shim/sse.h"

#define MSGS "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define HEAD "{\"model\":\"m\"," MSGS

/* ---- requests --------------------------------------------------------------------------------------------------- */

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
        "{\"role\":\"user\",\"content\":\"b\"}],\"stop\":[\"x\",\"y\"]}";
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

/* ---- answers ---------------------------------------------------------------------------------------------------- */

static const struct shim_trace trace = {
    .request_id = "00112233-4455-4677-8899-aabbccddeeff",
    .hops = {{0, "openai-shim", 1500, NULL}, {43, "l7-router", 1200, "S"}, {47, "l7-llm-worker-47", 1000, "S"}},
    .hop_count = 3,
    .suite = "suite",
    .handshake_us = 2345,
    .classification = "SECRET",
    .roe_level = "SOC_ASSIST",
    .tenant = "LOCAL_TOOL_USER",
    .compartments = DBE_COMPARTMENT_SOC | DBE_COMPARTMENT_DEV,
};

/* Text that tries to break JSON or event framing. */
static const char hostile[] = "a\n\ndata: [DONE]\r\n\"quoted\" \\ \x01\x1f \xE2\x80\xA8 \xF0\x9F\x98\x80 \t</script>";

static const struct shim_style chat_style = {.kind = SHIM_CHAT};

static json_t *parse(const char *json)
{
    json_error_t e;
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, &e);

    if (root == NULL)
        fail_msg("%s in %s", e.text, json);
    return root;
}

static void check_trace(const json_t *dsmil)
{
    json_t *path = json_object_get(dsmil, "path"), *parts = json_object_get(dsmil, "compartments");

    assert_int_equal(json_array_size(path), 3);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(path, 1), "device")), 43);
    assert_true(json_real_value(json_object_get(json_array_get(path, 0), "elapsed_ms")) == 1.5);
    assert_true(json_is_null(json_object_get(json_array_get(path, 0), "suite")));
    assert_string_equal(json_string_value(json_object_get(json_array_get(path, 1), "suite")), "S");
    assert_string_equal(json_string_value(json_object_get(dsmil, "classification")), "SECRET");
    assert_true(json_real_value(json_object_get(dsmil, "handshake_ms")) == 2.345);
    assert_int_equal(json_array_size(parts), 2);
    assert_string_equal(json_string_value(json_array_get(parts, 1)), "DEV");
}

static void test_answer_json(void **state)
{
    struct base_buf out;
    const struct shim_choice choice_in = {
        .content = hostile, .content_len = sizeof hostile - 1, .finish_reason = "length"};
    const struct shim_answer a = {.model = "the-model",
                                  .created_unix = 1700000000,
                                  .choices = &choice_in,
                                  .choice_count = 1,
                                  .prompt_tokens = 3,
                                  .completion_tokens = 4};

    (void)state;
    base_buf_init(&out, SHIM_ANSWER_MAX_BYTES);
    shim_answer_json(&out, &chat_style, &a, &trace);
    json_t *root = parse(base_buf_cstr(&out));
    json_t *choice = json_array_get(json_object_get(root, "choices"), 0), *usage = json_object_get(root, "usage");
    assert_string_equal(json_string_value(json_object_get(root, "object")), "chat.completion");
    assert_string_equal(json_string_value(json_object_get(root, "id")),
                        "chatcmpl-00112233-4455-4677-8899-aabbccddeeff");
    assert_string_equal(json_string_value(json_object_get(json_object_get(choice, "message"), "content")), hostile);
    assert_string_equal(json_string_value(json_object_get(choice, "finish_reason")), "length");
    assert_true(json_is_null(json_object_get(choice, "logprobs")));
    assert_int_equal(json_integer_value(json_object_get(usage, "total_tokens")), 7);
    check_trace(json_object_get(root, "dsmil"));
    json_decref(root);
    base_buf_free(&out);
}

static void test_bad_bytes_of_a_model_stay_valid_json(void **state)
{
    static const char bytes[] = "x\xFF\xC3\x00\xED\xA0\x80y";
    struct base_buf out;
    const struct shim_choice choice = {.content = bytes, .content_len = sizeof bytes - 1, .finish_reason = "stop"};
    const struct shim_answer a = {.model = "m", .choices = &choice, .choice_count = 1};

    (void)state;
    base_buf_init(&out, SHIM_ANSWER_MAX_BYTES);
    shim_answer_json(&out, &chat_style, &a, &trace);
    json_error_t e;
    json_t *root = json_loadb(base_buf_cstr(&out), out.len, JSON_ALLOW_NUL, &e);
    assert_non_null(root);
    json_decref(root);
    base_buf_free(&out);
}

static void test_mesh_errors(void **state)
{
    static const struct {
        dbe_err err;
        int status;
        const char *code;
        uint32_t hint_ms, retry_s;
    } rows[] = {
        {DBE_E_DENIED, 403, "policy_denied", 0, 0},
        {DBE_E_KINETIC, 403, "policy_denied", 0, 0},
        {DBE_E_CLAIM_INVALID, 403, "policy_denied", 5000, 0},
        {DBE_E_PROFILE, 404, "model_not_found", 0, 0},
        {DBE_E_UNAVAILABLE, 503, "service_unavailable", 0, 1},
        {DBE_E_CLOSED, 503, "service_unavailable", 0, 1},
        {DBE_E_TIMEOUT, 504, "timeout", 0, 0},
        {DBE_E_LIMIT, 429, "rate_limit_exceeded", 2500, 3},
        {DBE_E_CONTEXT, 400, "context_length_exceeded", 0, 0},
        {DBE_E_RANGE, 400, "invalid_value", 0, 0},
        {DBE_E_MALFORMED, 502, "bad_gateway", 0, 0},
        {DBE_E_AUTH, 502, "bad_gateway", 0, 0},
        {DBE_E_STATE, 500, "internal_error", 0, 0},
        {DBE_E_IO, 500, "internal_error", 0, 0},
        {(dbe_err)4711, 500, "internal_error", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct shim_problem p;
        struct base_buf out;
        shim_problem_of_mesh(&p, rows[i].err, "why \"so\"", "kinetic", rows[i].hint_ms);
        assert_int_equal(p.status, rows[i].status);
        assert_string_equal(p.code, rows[i].code);
        assert_int_equal(p.retry_after_s, rows[i].retry_s);
        assert_int_equal(p.retry_after_ms, rows[i].retry_s != 0 ? rows[i].hint_ms : 0);
        base_buf_init(&out, 4096);
        shim_problem_json(&out, &p, trace.request_id);
        json_t *root = parse(base_buf_cstr(&out)), *error = json_object_get(root, "error");
        assert_true(json_object_get(error, "param") != NULL);
        assert_non_null(strstr(json_string_value(json_object_get(error, "message")), "why \"so\" (rule kinetic)"));
        assert_string_equal(json_string_value(json_object_get(error, "request_id")), trace.request_id);
        json_decref(root);
        base_buf_free(&out);
    }
}

/* A worker's reason names the parameter. */
static void test_mesh_names_the_parameter(void **state)
{
    static const char *const rows[][2] = {{"logit_bias: the model has no such token", "logit_bias"},
                                          {"stop[4]: more than allowed", "stop"},
                                          {"No such thing: x", ""},
                                          {"", ""}};
    struct shim_problem p;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        shim_problem_of_mesh(&p, DBE_E_RANGE, rows[i][0], NULL, 0);
        assert_string_equal(p.param, rows[i][1]);
    }
    shim_problem_of_mesh(&p, DBE_E_DENIED, "tenant: no", NULL, 0);
    assert_string_equal(p.param, "");
}

/* ---- models and headers ----------------------------------------------------------------------------------------- */

static void test_models(void **state)
{
    static const struct {
        const char *name, *profile; /* NULL: unknown */
    } rows[] = {
        {"dsmil-tiny", "llm-7b-amx"},
        {"llama-7b-int8-amx", "llm-7b-amx"},
        {"mistral-7b-int8-amx", "llm-7b-amx"},
        {"gpt-4", "llm-7b-amx"},
        {"gpt-3.5-turbo", "llm-7b-amx"},
        {"llm-1b-npu", "llm-1b-npu"},
        {"", "llm-7b-amx"},
        {"gpt-5", NULL},
        {"DSMIL-TINY", NULL},
    };
    static struct shim_models models = {.list = {{"dsmil-tiny", "llm-7b-amx", 1, 512, 47}}, .count = 1};
    struct shim_problem p;
    const char *profile;
    struct base_buf out;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        dbe_err err = shim_models_resolve(&models, rows[i].name, &profile, &p);
        if (rows[i].profile != NULL) {
            assert_int_equal(err, DBE_OK);
            assert_string_equal(profile, rows[i].profile);
        } else {
            assert_int_equal(err, DBE_E_ARGUMENT);
            assert_int_equal(p.status, 404);
            assert_string_equal(p.code, "model_not_found");
            assert_string_equal(p.param, "model");
        }
    }
    base_buf_init(&out, 65536);
    shim_models_json(&out, &models);
    json_t *root = parse(base_buf_cstr(&out)), *data = json_object_get(root, "data");
    assert_int_equal(json_array_size(data), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(data, 0), "id")), "dsmil-tiny");
    json_decref(root);
    base_buf_free(&out);

    models.count = 2; /* no name, and no single model that it could mean */
    assert_int_equal(shim_models_resolve(&models, "", &profile, &p), DBE_E_ARGUMENT);
    assert_int_equal(p.status, 400);
    assert_string_equal(p.param, "model");
    models.count = 1;
}

static void test_headers(void **state)
{
    static const char *const local[] = {"localhost",   "LocalHost:8001", "127.0.0.1",
                                        "127.0.0.1:1", "[::1]",          "[::1]:8001"};
    static const char *const foreign[] = {
        "",           "evil.example",     "localhost.evil.example", "127.0.0.1.evil.example",
        "localhost:", "localhost:123456", "localhost:80a",          "127.0.0.1@evil.example",
        "[::1]evil"};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(local); i++)
        assert_true(shim_host_is_local(local[i]));
    for (size_t i = 0; i < BASE_ARRAY_LEN(foreign); i++)
        assert_false(shim_host_is_local(foreign[i]));
    assert_false(shim_host_is_local(NULL));
    assert_true(shim_origin_is_local(NULL));
    assert_true(shim_origin_is_local("http://localhost:3000"));
    assert_true(shim_origin_is_local("https://127.0.0.1"));
    assert_false(shim_origin_is_local("null"));
    assert_false(shim_origin_is_local("http://evil.example"));
    assert_false(shim_origin_is_local("http://localhost.evil.example"));
    assert_false(shim_origin_is_local("file://localhost"));

    assert_true(shim_bearer_matches("Bearer k1", "k1"));
    assert_true(shim_bearer_matches("bearer  k1", "k1"));
    assert_false(shim_bearer_matches("Bearer k", "k1"));
    assert_false(shim_bearer_matches("Bearer k12", "k1"));
    assert_false(shim_bearer_matches("Bearer k2", "k1"));
    assert_false(shim_bearer_matches("Basic k1", "k1"));
    assert_false(shim_bearer_matches("Bearer ", ""));
    assert_false(shim_bearer_matches(NULL, "k1"));
}

/* ---- streams ---------------------------------------------------------------------------------------------------- */

/* Read everything, a few bytes at a time, as a slow client does. */
static char *drain(struct shim_stream *s, struct base_buf *all)
{
    char piece[7];
    size_t n;

    while ((n = shim_stream_read(s, piece, sizeof piece)) > 0)
        base_buf_bytes(all, piece, n);
    return (char *)(uintptr_t)base_buf_cstr(all);
}

/* Next event of an event stream; checks the framing. NULL at the end. */
static char *next_event(char **at)
{
    char *event = *at, *end;

    if (*event == '\0')
        return NULL;
    assert_memory_equal(event, "data: ", 6);
    end = strstr(event, "\n\n");
    assert_non_null(end);
    *end = '\0';
    *at = end + 2;
    assert_null(strpbrk(event, "\r\n"));
    return event + 6;
}

static void begin(struct shim_stream *s, bool include_usage)
{
    struct shim_style style = {.kind = SHIM_CHAT, .include_usage = include_usage};

    shim_stream_init(s, trace.request_id, 1700000000, &style);
}

static dbe_err say(struct shim_stream *s, const char *text, size_t len, const char *finish_reason)
{
    const struct shim_choice c = {.content = text, .content_len = len, .finish_reason = finish_reason};

    return shim_stream_choice(s, "m", "", &c);
}

static const char *delta_text(const json_t *chunk)
{
    const json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0);

    return json_string_value(json_object_get(json_object_get(choice, "delta"), "content"));
}

static void run_stream(bool include_usage, bool slow)
{
    struct shim_stream s;
    struct base_buf all, said;
    size_t events = 0;
    bool done = false;

    base_buf_init(&all, 1 << 20);
    base_buf_init(&said, 4096);
    begin(&s, include_usage);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(say(&s, hostile, sizeof hostile - 1, NULL), DBE_OK);
        if (!slow)
            (void)drain(&s, &all);
        assert_false(shim_stream_at_end(&s));
    }
    const struct shim_answer end = {.prompt_tokens = 5, .completion_tokens = 6};
    assert_int_equal(say(&s, "", 0, "stop"), DBE_OK);
    shim_stream_finish(&s, &end, &trace);
    shim_stream_finish(&s, &end, &trace); /* changes nothing */
    char *at = drain(&s, &all), *event;
    assert_true(shim_stream_at_end(&s));
    while ((event = next_event(&at)) != NULL) {
        assert_false(done);
        if (strcmp(event, "[DONE]") == 0) {
            done = true;
            continue;
        }
        json_t *chunk = parse(event);
        const char *words = delta_text(chunk);
        bool last = *at == 'd' && strncmp(at, "data: [DONE]", 12) == 0;
        if (words != NULL)
            base_buf_str(&said, words);
        assert_string_equal(json_string_value(json_object_get(chunk, "model")), "m");
        assert_int_equal(json_object_get(chunk, "dsmil") != NULL, last);
        assert_int_equal(json_object_get(chunk, "usage") != NULL, include_usage);
        assert_int_equal(json_is_object(json_object_get(chunk, "usage")), include_usage && last);
        if (last)
            check_trace(json_object_get(chunk, "dsmil"));
        json_decref(chunk);
        events++;
    }
    assert_true(done);
    assert_int_equal(events, 1U + (slow ? 1 : 3) + 1U + (include_usage ? 1 : 0)); /* role, text, finish, usage */
    assert_int_equal(said.len, 3 * (sizeof hostile - 1));
    assert_memory_equal(said.data, hostile, sizeof hostile - 1);
    base_buf_free(&all);
    base_buf_free(&said);
    shim_stream_free(&s);
}

static void test_streams(void **state)
{
    (void)state;
    run_stream(false, false);
    run_stream(false, true);
    run_stream(true, false);
    run_stream(true, true);
}

static void test_stream_that_breaks_off(void **state)
{
    struct shim_stream s;
    struct base_buf all;
    struct shim_problem p;
    bool failed = false;

    (void)state;
    base_buf_init(&all, 1 << 20);
    begin(&s, false);
    assert_int_equal(say(&s, "half an ans", 11, NULL), DBE_OK);
    shim_problem_of_mesh(&p, DBE_E_UNAVAILABLE, NULL, NULL, 0);
    shim_stream_fail(&s, &p);
    assert_int_equal(say(&s, "x", 1, NULL), DBE_E_STATE);
    char *at = drain(&s, &all), *event;
    while ((event = next_event(&at)) != NULL) {
        assert_string_not_equal(event, "[DONE]");
        json_t *chunk = parse(event);
        assert_false(failed); /* the error is the last event */
        failed = json_object_get(chunk, "error") != NULL;
        json_decref(chunk);
    }
    assert_true(failed);
    assert_true(shim_stream_at_end(&s));
    base_buf_free(&all);
    shim_stream_free(&s);
}

static void test_stream_that_nobody_reads_is_bounded(void **state)
{
    static char text[1024];
    struct shim_stream s;
    dbe_err err = DBE_OK;
    size_t n = 0;

    (void)state;
    memset(text, 'x', sizeof text);
    begin(&s, false);
    for (n = 0; n < 10000 && err == DBE_OK; n++)
        err = say(&s, text, sizeof text, NULL);
    assert_int_equal(err, DBE_E_LIMIT);
    assert_true(s.text.len + s.out.len <= SHIM_STREAM_PENDING_MAX_BYTES + 4096);
    shim_stream_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_requests),
        cmocka_unit_test(test_request_fields),
        cmocka_unit_test(test_wrong_types_and_ranges),
        cmocka_unit_test(test_unsupported_parameters),
        cmocka_unit_test(test_hostile_bodies),
        cmocka_unit_test(test_refusal_does_not_quote),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_answer_json),
        cmocka_unit_test(test_bad_bytes_of_a_model_stay_valid_json),
        cmocka_unit_test(test_mesh_errors),
        cmocka_unit_test(test_mesh_names_the_parameter),
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_stream_that_breaks_off),
        cmocka_unit_test(test_stream_that_nobody_reads_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
