/* SPDX-License-Identifier: Apache-2.0
 *
 * http_test.c - the gateway over real HTTP on loopback: requests, answers, streams, clients that misbehave.
 */
#include "shim/http_fixture.h"

/* ---- tests ------------------------------------------------------------------------------------------------------ */

static void test_refused_by_headers(void **state)
{
    static const struct {
        const char *method, *path, *headers, *body;
        int status;
        const char *code;
    } rows[] = {
        {"GET", "/v1/models", "Host: localhost\r\n", NULL, 401, "invalid_api_key"},
        {"GET", "/v1/models", "Host: localhost\r\nAuthorization: Bearer wrong\r\n", NULL, 401, "invalid_api_key"},
        {"POST", "/v1/chat/completions", "Host: localhost\r\n", ASK, 401, "invalid_api_key"},
        {"GET", "/v1/models", "Host: evil.example\r\nAuthorization: Bearer " KEY "\r\n", NULL, 403, "host_not_allowed"},
        {"GET", "/healthz", "Host: evil.example\r\n", NULL, 403, "host_not_allowed"},
        {"POST", "/v1/chat/completions", AUTH "Origin: http://evil.example\r\n", ASK, 403, "origin_not_allowed"},
        {"GET", "/", AUTH, NULL, 404, "unknown_url"},
        {"POST", "/v1/audio/speech", AUTH, ASK, 404, "unknown_url"},
        {"GET", "/v1/modelsx", AUTH, NULL, 404, "unknown_url"},
        {"GET", "/v1/models/", AUTH, NULL, 404, "unknown_url"},
        {"GET", "/v1/chat/completions", AUTH, NULL, 405, "method_not_allowed"},
        {"DELETE", "/v1/models", AUTH, NULL, 405, "method_not_allowed"},
        {"OPTIONS", "/v1/chat/completions", AUTH, NULL, 405, "method_not_allowed"},
        {"POST", "/v1/chat/completions", AUTH "Content-Length: 99999999999999\r\n", NULL, 413, "request_too_large"},
        {"GET", "/v1/models/other", AUTH, NULL, 404, "model_not_found"},
        {"POST", "/v1/chat/completions", AUTH, "{", 400, "invalid_json"},
        {"POST", "/v1/chat/completions", AUTH,
         "{\"model\":\"nope\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", 404, "model_not_found"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct client c;
        client_open(f, &c);
        client_ask(f, &c, rows[i].method, rows[i].path, rows[i].headers, rows[i].body);
        wait_answer(f, &c);
        expect_error(&c, rows[i].status, rows[i].code);
        if (rows[i].status == 405)
            assert_non_null(strstr(base_buf_cstr(&c.in), "Allow: "));
        assert_non_null(strstr(base_buf_cstr(&c.in), "X-Request-Id: "));
        client_close(&c);
    }
    assert_null(fake_call_of(&f->fake, DBE_MSG_L7_CHAT_REQ));
}

static void test_models(void **state)
{
    struct fixture *f = *state;
    struct client c;

    client_open(f, &c);
    client_ask(f, &c, "GET", "/v1/models", AUTH, NULL);
    wait_answer(f, &c);
    assert_int_equal(status_of(&c), 200);
    json_t *root = body_of(&c);
    json_t *model = json_array_get(json_object_get(root, "data"), 0);
    assert_string_equal(json_string_value(json_object_get(model, "id")), "tiny");
    json_decref(root);
    base_buf_clear(&c.in); /* the same connection goes on */
    client_ask(f, &c, "GET", "/v1/models/tiny", AUTH, NULL);
    wait_answer(f, &c);
    assert_int_equal(status_of(&c), 200);
    base_buf_clear(&c.in);
    f->fake.link_up = false;
    client_ask(f, &c, "GET", "/v1/models", AUTH, NULL);
    wait_answer(f, &c);
    expect_error(&c, 503, "service_unavailable");
    assert_non_null(strstr(base_buf_cstr(&c.in), "Retry-After: 1"));
    client_close(&c);
}

static void test_metrics_and_health_need_no_key(void **state)
{
    struct fixture *f = *state;
    struct client c;

    client_open(f, &c);
    client_ask(f, &c, "GET", "/metrics", "Host: localhost\r\n", NULL);
    wait_text(f, &c, "fake_metric 1");
    assert_int_equal(status_of(&c), 200);
    base_buf_clear(&c.in);
    client_ask(f, &c, "GET", "/healthz", "Host: localhost\r\n", NULL);
    wait_text(f, &c, "fake\"}");
    assert_int_equal(status_of(&c), 200);
    client_close(&c);
}

/* What goes to the router: labels of the local user, a claim, the profile, and the request itself. */
static void check_request(const struct fake_call *call)
{
    struct dbe_msg msg;
    char text[128];
    uint32_t u32 = 0;
    uint8_t u8 = 0;

    assert_int_equal(dbe_msg_decode(call->bytes, call->len, &msg, NULL), DBE_OK);
    assert_int_equal(dbe_tlv_text(&msg, DBE_TLV_TENANT_ID, text, sizeof text), DBE_OK);
    assert_string_equal(text, "LOCAL_TOOL_USER");
    assert_int_equal(dbe_tlv_text(&msg, DBE_TLV_L7_PROFILE, text, sizeof text), DBE_OK);
    assert_string_equal(text, "llm-7b-amx");
    assert_int_equal(dbe_tlv_u32(&msg, DBE_TLV_COMPARTMENT_MASK, &u32), DBE_OK);
    assert_int_equal(u32, DBE_COMPARTMENT_SOC);
    assert_int_equal(dbe_tlv_u8(&msg, DBE_TLV_CLASSIFICATION, &u8), DBE_OK);
    assert_int_equal(u8, DBE_CLSF_SECRET);
    assert_int_equal(dbe_tlv_u8(&msg, DBE_TLV_ROE_LEVEL, &u8), DBE_OK);
    assert_int_equal(u8, DBE_ROE_SOC_ASSIST);
    assert_int_equal(dbe_tlv_u8(&msg, DBE_TLV_DEVICE_ID_DST, &u8), DBE_OK);
    assert_int_equal(u8, 43);
    const struct dbe_tlv *claim = dbe_tlv_find(&msg, DBE_TLV_L7_CLAIM_TOKEN),
                         *id = dbe_tlv_find(&msg, DBE_TLV_REQUEST_ID);
    assert_non_null(claim);
    assert_non_null(id);
    assert_int_equal(msg.correlation_id, dbe_correlation_of(id->value));
    Dsmil__L7ChatRequest *r = dsmil__l7_chat_request__unpack(NULL, msg.payload_len, msg.payload);
    assert_non_null(r);
    assert_int_equal(r->n_messages, 1);
    assert_string_equal(r->messages[0]->content, "What is it?");
    assert_int_equal(r->has_temperature_case, 0);
    dsmil__l7_chat_request__free_unpacked(r, NULL);
}

static void test_chat(void **state)
{
    struct fixture *f = *state;
    struct client c;

    client_open(f, &c);
    for (int i = 0; i < 2; i++) { /* twice on one connection, with one claim */
        base_buf_clear(&c.in);
        client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, ASK);
        struct fake_call *call = wait_call(f);
        check_request(call);
        answer_chat(f, call, "A \"mesh\".\n", true);
        wait_answer(f, &c);
        assert_int_equal(status_of(&c), 200);
        json_t *root = body_of(&c), *choice = json_array_get(json_object_get(root, "choices"), 0);
        json_t *dsmil = json_object_get(root, "dsmil"), *path = json_object_get(dsmil, "path");
        assert_string_equal(json_string_value(json_object_get(json_object_get(choice, "message"), "content")),
                            "A \"mesh\".\n");
        assert_string_equal(json_string_value(json_object_get(root, "model")), "tiny");
        assert_int_equal(json_array_size(path), 3);
        assert_int_equal(json_integer_value(json_object_get(json_array_get(path, 0), "device")), 0);
        assert_int_equal(json_integer_value(json_object_get(json_array_get(path, 1), "device")), 43);
        assert_int_equal(json_integer_value(json_object_get(json_array_get(path, 2), "device")), 47);
        assert_string_equal(json_string_value(json_object_get(dsmil, "suite")), "fake-suite");
        assert_non_null(strstr(base_buf_cstr(&c.in), json_string_value(json_object_get(dsmil, "request_id"))));
        json_decref(root);
    }
    assert_int_equal(f->fake.claims, 1);
    assert_int_equal(f->fake.latencies, 2);
    assert_int_equal(f->fake.first_tokens, 0); /* whole answers have none to tell */
    for (int i = 0; i < TURNS_MAX && f->shim.in_flight > 0; i++)
        turn(f);
    assert_int_equal(f->shim.in_flight, 0);
    client_close(&c);
}

/* spec 15.6: from the moment that the policy says so nothing goes out in clear; here no worker's key is known. */
static void test_policy_demands_sealed_prompts(void **state)
{
    static const struct {
        const char *path, *body;
        int status;
    } asks[] = {{"/v1/chat/completions", ASK, 503},
                {"/v1/chat/completions", ASK_STREAM, 503},
                {"/v1/embeddings", "{\"model\":\"tiny\",\"input\":\"a\"}", 503}};
    struct fixture *f = *state;
    struct client c;

    f->fake.policy.any_tenant = true;
    f->fake.policy.any = (struct pol_tenant){.name = "LOCAL_TOOL_USER", .sealed = true};
    for (size_t i = 0; i < BASE_ARRAY_LEN(asks); i++) {
        client_open(f, &c);
        client_ask(f, &c, "POST", asks[i].path, AUTH, asks[i].body);
        wait_answer(f, &c);
        assert_int_equal(status_of(&c), asks[i].status);
        assert_non_null(strstr(base_buf_cstr(&c.in), "not sent in clear"));
        assert_null(fake_call_of(&f->fake, DBE_MSG_L7_CHAT_REQ));
        assert_null(fake_call_of(&f->fake, DBE_MSG_L7_EMBED_REQ));
        client_close(&c);
    }
    f->fake.policy.any.sealed = false;
    client_open(f, &c);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, ASK);
    struct fake_call *call = wait_call(f);
    check_request(call);
    answer_chat(f, call, "x", true);
    wait_answer(f, &c);
    assert_int_equal(status_of(&c), 200);
    client_close(&c);
}

static void test_claim_is_renewed_on_a_new_channel(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 2; i++) {
        struct client c;
        client_open(f, &c);
        client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, ASK);
        answer_chat(f, wait_call(f), "x", true);
        wait_answer(f, &c);
        client_close(&c);
        openai_shim_device.link_down(f->shim.svc, &f->shim, NULL);
        openai_shim_device.link_up(f->shim.svc, &f->shim, NULL);
    }
    assert_int_equal(f->fake.claims, 2);
}

static void test_body_in_pieces(void **state)
{
    struct fixture *f = *state;
    struct client c;
    const char *request = "POST /v1/chat/completions HTTP/1.1\r\n" AUTH "Transfer-Encoding: chunked\r\n\r\n";
    char chunk[32];

    client_open(f, &c);
    for (size_t i = 0; i < strlen(request); i += 5)
        client_send(f, &c, request + i, BASE_MIN((size_t)5, strlen(request) - i));
    for (size_t i = 0; i < strlen(ASK); i++) {
        int n = snprintf(chunk, sizeof chunk, "1\r\n%c\r\n", ASK[i]);
        client_send(f, &c, chunk, (size_t)n);
    }
    client_send(f, &c, "0\r\n\r\n", 5);
    struct fake_call *call = wait_call(f);
    check_request(call);
    answer_chat(f, call, "yes", true);
    wait_answer(f, &c);
    assert_int_equal(status_of(&c), 200);
    client_close(&c);
}

static void test_chunked_body_that_is_too_large(void **state)
{
    struct fixture *f = *state;
    struct client c;
    static char block[65536 + 16];
    int head = snprintf(block, sizeof block, "10000\r\n");

    memset(block + head, ' ', 65536);
    memcpy(block + head + 65536, "\r\n", 2);
    client_open(f, &c);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH "Transfer-Encoding: chunked\r\n", NULL);
    for (int i = 0; i < 20; i++)
        client_send(f, &c, block, (size_t)head + 65536 + 2);
    client_send(f, &c, "0\r\n\r\n", 5);
    wait_answer(f, &c);
    expect_error(&c, 413, "request_too_large");
    client_close(&c);
}

static void test_stream(void **state)
{
    struct fixture *f = *state;
    struct client c;

    client_open(f, &c);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, ASK_STREAM);
    struct fake_call *call = wait_call(f);
    answer_chat(f, call, "first", false);
    wait_text(f, &c, "\"content\":\"first\"");
    assert_int_equal(status_of(&c), 200);
    assert_non_null(strstr(base_buf_cstr(&c.in), "Content-Type: text/event-stream"));
    assert_null(strstr(base_buf_cstr(&c.in), "[DONE]"));
    assert_int_equal(f->fake.first_tokens, 1);
    assert_int_equal(f->fake.latencies, 0);
    answer_chat(f, call, "second", false);
    wait_text(f, &c, "\"content\":\"second\"");
    answer_chat(f, call, "third", true);
    wait_text(f, &c, "data: [DONE]\n\n");
    assert_int_equal(f->fake.first_tokens, 1);
    assert_int_equal(f->fake.latencies, 1);
    const char *text = base_buf_cstr(&c.in);
    assert_true(strstr(text, "third") < strstr(text, "\"finish_reason\":\"stop\""));
    assert_true(strstr(text, "\"finish_reason\":\"stop\"") < strstr(text, "\"dsmil\":{"));
    base_buf_clear(&c.in); /* the connection is good for another request */
    client_ask(f, &c, "GET", "/v1/models", AUTH, NULL);
    wait_text(f, &c, "\"tiny\"");
    client_close(&c);
}

static void test_stream_breaks_off(void **state)
{
    struct fixture *f = *state;
    struct client c;

    client_open(f, &c);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, ASK_STREAM);
    struct fake_call *call = wait_call(f);
    answer_chat(f, call, "half", false);
    wait_text(f, &c, "half");
    answer_error(f, call, DBE_E_UNAVAILABLE, "");
    wait_text(f, &c, "data: {\"error\":");
    wait_text(f, &c, "service_unavailable");
    wait_text(f, &c, "0\r\n\r\n"); /* the body ends */
    assert_null(strstr(base_buf_cstr(&c.in), "[DONE]"));
    assert_int_equal(f->fake.latencies, 0); /* it had no end */
    client_close(&c);
}

static void test_refusals_of_the_mesh(void **state)
{
    static const struct {
        dbe_err err;
        int status;
        const char *code;
    } rows[] = {
        {DBE_E_KINETIC, 403, "policy_denied"},           {DBE_E_PROFILE, 404, "model_not_found"},
        {DBE_E_UNAVAILABLE, 503, "service_unavailable"}, {DBE_E_LIMIT, 429, "rate_limit_exceeded"},
        {DBE_E_CONTEXT, 400, "context_length_exceeded"}, {DBE_E_STATE, 500, "internal_error"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < 2 * BASE_ARRAY_LEN(rows); i++) { /* as a stream, too: a refusal keeps its status */
        struct client c;
        client_open(f, &c);
        client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, i % 2 == 0 ? ASK : ASK_STREAM);
        answer_error(f, wait_call(f), rows[i / 2].err, "a-rule");
        wait_answer(f, &c);
        expect_error(&c, rows[i / 2].status, rows[i / 2].code);
        client_close(&c);
    }
}

static void test_ends_without_an_answer(void **state)
{
    static const struct {
        dbe_err err;
        int status;
    } rows[] = {{DBE_E_TIMEOUT, 504}, {DBE_E_CLOSED, 503}, {DBE_E_CANCELLED, 503}};
    struct fixture *f = *state;
    struct client c;

    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        client_open(f, &c);
        client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, ASK);
        fake_end(&f->fake, wait_call(f), rows[i].err);
        wait_answer(f, &c);
        assert_int_equal(status_of(&c), rows[i].status);
        client_close(&c);
    }
    f->fake.call_err = DBE_E_LIMIT; /* not even sent */
    client_open(f, &c);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, ASK);
    wait_answer(f, &c);
    expect_error(&c, 429, "rate_limit_exceeded");
    client_close(&c);
    f->fake.link_up = false;
    client_open(f, &c);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, ASK);
    wait_answer(f, &c);
    expect_error(&c, 503, "service_unavailable");
    client_close(&c);
}

/* A worker that stops takes its model off the list; its name does not become unknown, it is unavailable. */
static void test_known_model_without_worker(void **state)
{
    struct fixture *f = *state;
    struct client c;

    tell_models(f, true);
    client_open(f, &c);
    client_ask(f, &c, "GET", "/v1/models", AUTH, NULL);
    wait_text(f, &c, "\"data\":[]");
    base_buf_clear(&c.in);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, ASK);
    answer_error(f, wait_call(f), DBE_E_UNAVAILABLE, "");
    wait_answer(f, &c);
    expect_error(&c, 503, "service_unavailable");
    client_close(&c);
}

static void test_client_leaves(void **state)
{
    struct fixture *f = *state;

    for (int streamed = 0; streamed < 2; streamed++) {
        struct client c;
        client_open(f, &c);
        client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, streamed ? ASK_STREAM : ASK);
        struct fake_call *call = wait_call(f);
        if (streamed) {
            answer_chat(f, call, "half", false);
            wait_text(f, &c, "half");
        }
        client_close(&c);
        for (int i = 0; i < TURNS_MAX && f->shim.connections > 0; i++)
            turn(f);
        assert_int_equal(f->fake.cancelled, streamed + 1);
        assert_int_equal(f->shim.connections, 0);
        assert_int_equal(f->shim.in_flight, 0);
    }
}

static void test_client_that_does_not_read(void **state)
{
    struct fixture *f = *state;
    struct client c;
    static char text[32 * 1024];

    memset(text, 'x', sizeof text - 1);
    client_open(f, &c);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, ASK_STREAM);
    struct fake_call *call = wait_call(f);
    for (int i = 0; i < 2000 && f->fake.cancelled == 0; i++) {
        answer_chat(f, call, text, false);
        turn(f);
    }
    assert_int_equal(f->fake.cancelled, 1);
    wait_text(f, &c, "the client reads too slowly"); /* what it gets to read when it reads at last */
    client_close(&c);
}

static void test_request_that_never_ends(void **state)
{
    struct fixture *f = *state;
    struct client c;

    client_open(f, &c);
    client_send(f, &c, "GET /v1/models HTTP/1.1\r\nHost: 127", 34);
    for (int i = 0; i < TURNS_MAX && f->shim.connections == 0; i++)
        turn(f);
    openai_shim_device.tick(f->shim.svc, &f->shim);
    turn(f);
    client_read(&c);
    assert_false(c.eof);
    f->fake.clock_ahead_ns = (SHIM_RECEIVE_TIMEOUT_S + 1) * BASE_NS_PER_S;
    openai_shim_device.tick(f->shim.svc, &f->shim);
    wait_eof(f, &c);
    client_close(&c);
}

static void test_stop_while_a_chat_waits(void **state)
{
    struct fixture *f = *state;
    struct client c;

    client_open(f, &c);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, ASK);
    (void)wait_call(f);
    openai_shim_device.drain(f->shim.svc, &f->shim);
    shim_http_stop(&f->shim);
    assert_int_equal(f->fake.cancelled, 1);
    client_close(&c);
}

/* Whichever allocation fails, the client gets an answer or a closed connection, and nothing stays behind. */
static void test_allocations_fail(void **state)
{
    struct fixture *f = *state;
    int answered = 0;

    for (uint64_t n = 1; n < 80; n++) {
        struct client c;
        client_open(f, &c);
        assert_non_null(base_buf_grow(&c.in, 65536)); /* the client's own memory is there before */
        base_buf_clear(&c.in);
        base_fail_alloc_at(n);
        client_ask(f, &c, "POST", "/v1/chat/completions", AUTH "Connection: close\r\n", n % 2 == 0 ? ASK : ASK_STREAM);
        for (int i = 0; i < TURNS_MAX && !c.eof; i++) {
            struct fake_call *call = fake_call_of(&f->fake, DBE_MSG_L7_CHAT_REQ);
            if (call != NULL)
                answer_chat(f, call, "yes", true);
            turn(f);
            client_read(&c);
        }
        base_fail_alloc_at(0);
        assert_true(c.eof);
        answered += strncmp(base_buf_cstr(&c.in), "HTTP/1.1 200", 12) == 0;
        client_close(&c);
    }
    assert_in_range(answered, 1, 78); /* some failed, and some n lie beyond the last allocation */
    assert_int_equal(f->shim.in_flight, 0);
}

static void test_bad_keys(void **state)
{
    static const char *const bad[] = {"", "short", "has space in it", "has\ttab-in-it"};
    static struct shim shim;
    struct fixture *f = *state;
    struct dbe_diag diag;

    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++) {
        memset(&shim, 0, sizeof shim);
        (void)setenv("DSMIL_OPENAI_API_KEY", bad[i], 1);
        assert_int_equal(openai_shim_device.init(fake_svc_of(&f->fake), &shim, &diag), DBE_E_CONFIG);
        openai_shim_device.fini(fake_svc_of(&f->fake), &shim);
    }
    (void)setenv("DSMIL_OPENAI_API_KEY", KEY, 1);
    shim.port = f->shim.port; /* taken */
    assert_int_equal(openai_shim_device.init(fake_svc_of(&f->fake), &shim, &diag), DBE_E_CONFIG);
    assert_non_null(strstr(diag.text, "--port"));
    openai_shim_device.fini(fake_svc_of(&f->fake), &shim);
}

int main(void)
{
#define WITH_SHIM(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_SHIM(test_refused_by_headers),
        WITH_SHIM(test_models),
        WITH_SHIM(test_metrics_and_health_need_no_key),
        WITH_SHIM(test_chat),
        WITH_SHIM(test_policy_demands_sealed_prompts),
        WITH_SHIM(test_claim_is_renewed_on_a_new_channel),
        WITH_SHIM(test_body_in_pieces),
        WITH_SHIM(test_chunked_body_that_is_too_large),
        WITH_SHIM(test_stream),
        WITH_SHIM(test_stream_breaks_off),
        WITH_SHIM(test_refusals_of_the_mesh),
        WITH_SHIM(test_ends_without_an_answer),
        WITH_SHIM(test_known_model_without_worker),
        WITH_SHIM(test_client_leaves),
        WITH_SHIM(test_client_that_does_not_read),
        WITH_SHIM(test_request_that_never_ends),
        WITH_SHIM(test_stop_while_a_chat_waits),
        WITH_SHIM(test_allocations_fail),
        WITH_SHIM(test_bad_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
