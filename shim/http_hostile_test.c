/* SPDX-License-Identifier: Apache-2.0
 *
 * http_hostile_test.c - requests whose end, host or owner two programs could read differently, bodies of nothing, and
 * all connections at once.
 */
#include "shim/http_fixture.h"

#define POST "POST /v1/chat/completions HTTP/1.1\r\n"
#define CHUNK "2\r\n{}\r\n0\r\n\r\n"
#define NEXT "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

struct row {
    const char *bytes;
    size_t len;
    int status;
    const char *code, *param;
};

#define ROW(bytes, status, code, param)                                                                                \
    {                                                                                                                  \
        bytes, sizeof bytes - 1, status, code, param                                                                   \
    }

static void expect_param(struct client *c, const char *param)
{
    json_t *root = body_of(c);
    const char *got = json_string_value(json_object_get(json_object_get(root, "error"), "param"));

    if (param == NULL)
        assert_null(got);
    else
        assert_string_equal(got, param);
    json_decref(root);
}

/* Nobody knows where such a request ends, so it is the last one on its connection. */
static void test_ambiguous_heads_end_the_connection(void **state)
{
    static const struct row rows[] = {
        ROW(POST AUTH "Content-Length: 2\r\nContent-Length: 45\r\n\r\n{}" NEXT, 400, "invalid_header",
            "Content-Length"),
        ROW(POST AUTH "Content-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n" CHUNK NEXT, 400, "invalid_header",
            "Transfer-Encoding"),
        ROW(POST AUTH "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" CHUNK NEXT, 400,
            "invalid_header", "Transfer-Encoding"),
        ROW(POST AUTH "Transfer-Encoding: gzip, chunked\r\n\r\n" CHUNK NEXT, 400, "unsupported_value",
            "Transfer-Encoding"),
        ROW(POST AUTH "Transfer-Encoding: xchunked\r\n\r\n" CHUNK NEXT, 400, "unsupported_value", "Transfer-Encoding"),
        ROW(POST AUTH "Transfer-Encoding : chunked\r\n\r\n" CHUNK NEXT, 400, "invalid_header", NULL),
        ROW("POST /v1/chat/completions HTTP/1.0\r\n" AUTH "Transfer-Encoding: chunked\r\n\r\n" CHUNK, 400,
            "invalid_header", "Transfer-Encoding"),
        ROW("GET /v1/models HTTP/1.1\r\n" AUTH "X Y: x\r\n\r\n" NEXT, 400, "invalid_header", NULL),
        ROW("GET /v1/models HTTP/1.1\r\n" AUTH "Host: evil.example\r\n\r\n" NEXT, 400, "invalid_header", "Host"),
        ROW("GET /v1/models HTTP/1.1\r\n" AUTH "Authorization: Bearer x\r\n\r\n" NEXT, 400, "invalid_header",
            "Authorization"),
        ROW("GET /v1/models HTTP/1.1\r\n" AUTH "Origin: http://localhost\r\nOrigin: http://evil.example\r\n\r\n" NEXT,
            400, "invalid_header", "Origin"),
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct client c;
        client_open(f, &c);
        client_send(f, &c, rows[i].bytes, rows[i].len);
        wait_answer(f, &c);
        wait_eof(f, &c);
        expect_error(&c, rows[i].status, rows[i].code);
        expect_param(&c, rows[i].param);
        assert_null(strstr(base_buf_cstr(&c.in), "\"fake\""));
        client_close(&c);
    }
    assert_null(fake_call_of(&f->fake, DBE_MSG_L7_CHAT_REQ));
    assert_int_equal(f->shim.answers_4xx, BASE_ARRAY_LEN(rows));
}

/* What follows a NUL is not lost: a name with one is another name. */
static void test_a_nul_in_a_path_does_not_end_it(void **state)
{
    static const struct {
        const char *path, *code;
    } rows[] = {
        {"/healthz%00", "unknown_url"},
        {"/v1/models%00/tiny", "unknown_url"},
        {"/v1/models/tiny%00x", "model_not_found"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct client c;
        client_open(f, &c);
        client_ask(f, &c, "GET", rows[i].path, AUTH, NULL);
        wait_answer(f, &c);
        expect_error(&c, 404, rows[i].code);
        client_close(&c);
    }
    struct client c;
    client_open(f, &c);
    client_ask(f, &c, "GET", "/v1/models/%74iny", AUTH, NULL); /* other escapes are read */
    wait_answer(f, &c);
    assert_int_equal(status_of(&c), 200);
    client_close(&c);
}

/* Such a request ends where it says: the whole of a large body is taken, so that its client gets to read why. */
static void test_compressed_bodies(void **state)
{
    struct fixture *f = *state;
    struct client c;
    static char body[100001];

    memset(body, 'z', sizeof body - 1);
    client_open(f, &c);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH "Content-Encoding: gzip\r\n", body);
    wait_answer(f, &c);
    expect_error(&c, 415, "unsupported_value");
    expect_param(&c, "Content-Encoding");
    base_buf_clear(&c.in);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH "Content-Encoding: identity\r\n", ASK);
    answer_chat(f, wait_call(f), "yes", true);
    wait_answer(f, &c);
    assert_int_equal(status_of(&c), 200);
    client_close(&c);
}

static void test_a_body_of_nothing_has_no_place(void **state)
{
    struct fixture *f = *state;
    struct client c;

    client_open(f, &c);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, "");
    wait_answer(f, &c);
    expect_error(&c, 400, "invalid_json");
    assert_non_null(strstr(base_buf_cstr(&c.in), "The body is empty."));
    client_close(&c);
}

static void test_a_key_given_twice_is_named_whole(void **state)
{
    struct fixture *f = *state;
    struct client c;

    client_open(f, &c);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, "{\"model\":\"tiny\",\"model\":\"tiny\"}");
    wait_answer(f, &c);
    expect_error(&c, 400, "duplicate_parameter");
    expect_param(&c, "model");
    base_buf_clear(&c.in);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, "{\"model\":\"tiny\",\"mode\\u006c\":\"tiny\"}");
    wait_answer(f, &c);
    expect_error(&c, 400, "duplicate_parameter");
    expect_param(&c, NULL); /* not "mode" */
    client_close(&c);
}

/* The library leaves its listener alone while it is full. All who filled it leaving at once leave nothing behind that
 * would wake it up to look again. */
static void test_full_house_leaves_at_once(void **state)
{
    struct fixture *f = *state;
    struct client full[8], next;

    assert_int_equal(f->shim.max_connections, BASE_ARRAY_LEN(full));
    for (size_t i = 0; i < BASE_ARRAY_LEN(full); i++)
        client_open(f, &full[i]);
    for (int i = 0; i < TURNS_MAX && f->shim.connections < BASE_ARRAY_LEN(full); i++)
        turn(f);
    assert_int_equal(f->shim.connections, BASE_ARRAY_LEN(full));
    client_open(f, &next); /* connected, and not accepted yet */
    client_ask(f, &next, "GET", "/v1/models", AUTH, NULL);
    turn(f);
    assert_int_equal(f->shim.connections, BASE_ARRAY_LEN(full));
    for (size_t i = 0; i < BASE_ARRAY_LEN(full); i++)
        client_close(&full[i]);
    wait_answer(f, &next);
    assert_int_equal(status_of(&next), 200);
    client_close(&next);
}

/* An answer with a call, of which `behind` bytes of the words are said to stand behind it. */
static void answer_words_behind(struct fixture *f, struct fake_call *call, const char *words, uint32_t behind)
{
    Dsmil__L7ChatResponse r = DSMIL__L7_CHAT_RESPONSE__INIT;
    Dsmil__Choice choice = DSMIL__CHOICE__INIT, *choices[] = {&choice};
    Dsmil__ChatMessage message = DSMIL__CHAT_MESSAGE__INIT;
    Dsmil__ToolCall tool = DSMIL__TOOL_CALL__INIT, *tools[] = {&tool};
    char model[] = "tiny", name[] = "f", id[] = "call_1", arguments[] = "{}", length[] = "length";
    uint8_t packed[256];

    tool.id = id;
    tool.name = name;
    tool.arguments = arguments;
    message.content = (char *)(uintptr_t)words;
    message.tool_calls = tools;
    message.n_tool_calls = 1;
    choice.message = &message;
    choice.finish_reason = length;
    choice.behind_calls = behind;
    r.choices = choices;
    r.n_choices = 1;
    r.model = model;
    fake_answer(&f->fake, call, DBE_MSG_L7_CHAT_RESP, packed, dsmil__l7_chat_response__pack(&r, packed), true);
}

/* spec 19.4: more than there is, or half a character, cannot stand behind calls. */
static void test_words_that_cannot_stand_behind_calls(void **state)
{
    static const struct {
        const char *words;
        uint32_t behind;
        int status;
        const char *last; /* of the items */
    } rows[] = {
        {"\xC3\xA9", 0, 200, "function_call"},
        {"\xC3\xA9", 2, 200, "message"},
        {"\xC3\xA9", 1, 502, NULL},
        {"\xC3\xA9", 3, 502, NULL},
        {"", UINT32_MAX, 502, NULL},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct client c;
        client_open(f, &c);
        client_ask(f, &c, "POST", "/v1/responses", AUTH, "{\"model\":\"tiny\",\"input\":\"x\"}");
        answer_words_behind(f, wait_call(f), rows[i].words, rows[i].behind);
        wait_answer(f, &c);
        assert_int_equal(status_of(&c), rows[i].status);
        if (rows[i].last != NULL) {
            json_t *root = body_of(&c), *items = json_object_get(root, "output");
            assert_int_equal(json_array_size(items), 2);
            assert_string_equal(json_string_value(json_object_get(json_array_get(items, 1), "type")), rows[i].last);
            json_decref(root);
        }
        client_close(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ambiguous_heads_end_the_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_nul_in_a_path_does_not_end_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_house_leaves_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_compressed_bodies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_body_of_nothing_has_no_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_words_that_cannot_stand_behind_calls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_key_given_twice_is_named_whole, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
