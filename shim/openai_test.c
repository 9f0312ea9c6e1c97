/* SPDX-License-Identifier: Apache-2.0
 *
 * openai_test.c - answers, errors, models, headers and event streams, as tables.
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
