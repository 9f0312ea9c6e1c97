/* SPDX-License-Identifier: Apache-2.0
 *
 * http_roe_test.c - ROE tokens over HTTP: into the message as they came, or a 400 that says what is wrong with them;
 * and the payload that persons approve.
 */
#include "shim/http_fixture.h"

enum { BODY_BYTES = 200, ROOM_BYTES = 32768 };

/* The piece as a token file has it, spoilt in the way of `what`. */
static void put_piece(struct base_buf *piece, const char *what)
{
    const int approvals = strcmp(what, "approvals") == 0 ? 1 : 2;

    base_buf_str(piece, strcmp(what, "magic") == 0 ? "DSMIL ROE 2\n" : POL_ROE_MAGIC);
    base_buf_u16(piece, BODY_BYTES);
    for (int i = 0; i < BODY_BYTES; i++)
        base_buf_u8(piece, (uint8_t)(0xF8 + i));
    base_buf_u8(piece, (uint8_t)approvals);
    for (int i = 0; i < 2 * POL_ROE_APPROVAL_BYTES; i++) /* of one approval, who asked follows */
        base_buf_u8(piece, i < POL_ROE_APPROVAL_BYTES ? 0xAA : 0xBB);
    if (strcmp(what, "cut") == 0)
        piece->len -= 5;
}

static char *token_text(const char *what, bool url)
{
    struct base_buf piece, text;

    base_buf_init(&piece, ROOM_BYTES);
    base_buf_init(&text, ROOM_BYTES);
    put_piece(&piece, what);
    base_base64(&text, piece.data, piece.len);
    if (strcmp(what, "letters") == 0)
        text.data[40] = '!';
    for (size_t i = 0; url && i < text.len; i++)
        text.data[i] = text.data[i] == '+' ? '-' : text.data[i] == '/' ? '_' : text.data[i];
    while (url && text.data[text.len - 1] == '=')
        text.len--;
    char *copy = strdup(base_buf_cstr(&text));
    assert_non_null(copy);
    base_buf_free(&piece);
    base_buf_free(&text);
    return copy;
}

static void expect_token(const struct fake_call *call)
{
    struct dbe_msg msg;

    assert_int_equal(dbe_msg_decode(call->bytes, call->len, &msg, NULL), DBE_OK);
    const struct dbe_tlv *body = dbe_tlv_find(&msg, DBE_TLV_ROE_TOKEN), *id = dbe_tlv_find(&msg, DBE_TLV_ROE_TOKEN_ID),
                         *a = dbe_tlv_find(&msg, DBE_TLV_TWO_PERSON_SIG_A),
                         *b = dbe_tlv_find(&msg, DBE_TLV_TWO_PERSON_SIG_B);
    assert_non_null(body);
    assert_non_null(id);
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(body->len, BODY_BYTES);
    assert_memory_equal(id->value, body->value + 5, 16); /* spec 16.2 */
    assert_int_equal(a->value[0], 0xAA);
    assert_int_equal(b->value[POL_ROE_APPROVAL_BYTES - 1], 0xBB);
}

static void test_token_goes_with_the_message(void **state)
{
    struct fixture *f = *state;

    for (int how = 0; how < 3; how++) { /* header in both alphabets, body */
        static char headers[ROOM_BYTES], body[ROOM_BYTES];
        struct client c;
        char *text = token_text("", how != 1);
        (void)snprintf(headers, sizeof headers, AUTH "X-Others: %01000d\r\n%s%s%s", 0,
                       how < 2 ? SHIM_ROE_HEADER ": " : "", how < 2 ? text : "", how < 2 ? "\r\n" : "");
        (void)snprintf(body, sizeof body, "%.*s,\"dsmil\":{\"roe_token\":\"%s\"}}", (int)strlen(ASK) - 1, ASK, text);
        client_open(f, &c);
        client_ask(f, &c, "POST", "/v1/chat/completions", headers, how < 2 ? ASK : body);
        struct fake_call *call = wait_call(f);
        expect_token(call);
        answer_chat(f, call, "yes", true);
        wait_answer(f, &c);
        assert_int_equal(status_of(&c), 200);
        client_close(&c);
        free(text);
    }
}

static void test_bad_tokens(void **state)
{
    static const struct {
        const char *what, *says;
    } rows[] = {{"magic", "no ROE token file"},
                {"cut", "damaged"},
                {"letters", "no base64url"},
                {"approvals", "lacks one of its two approvals"}};
    struct fixture *f = *state;

    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        static char headers[ROOM_BYTES];
        struct client c;
        char *text = token_text(rows[i].what, true);
        (void)snprintf(headers, sizeof headers, AUTH SHIM_ROE_HEADER ": %s\r\n", text);
        client_open(f, &c);
        client_ask(f, &c, "POST", "/v1/chat/completions", headers, ASK);
        wait_answer(f, &c);
        assert_int_equal(status_of(&c), 400);
        if (strstr(base_buf_cstr(&c.in), rows[i].says) == NULL ||
            strstr(base_buf_cstr(&c.in), "\"param\":\"" SHIM_ROE_HEADER "\"") == NULL)
            fail_msg("%s: %s", rows[i].what, base_buf_cstr(&c.in));
        client_close(&c);
        free(text);
    }
}

/* What is told is what would be sent. */
static void test_payload_to_approve(void **state)
{
    struct fixture *f = *state;
    struct client c;
    char body[1024];
    uint8_t payload[1024];
    struct dbe_msg msg;
    size_t len = 0;

    (void)snprintf(body, sizeof body, "%.*s,\"dsmil\":{\"payload\":true}}", (int)strlen(ASK) - 1, ASK);
    client_open(f, &c);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, body);
    wait_answer(f, &c);
    assert_int_equal(status_of(&c), 200);
    json_t *root = body_of(&c);
    assert_string_equal(json_string_value(json_object_get(root, "verb")), "L7_CHAT_REQ");
    assert_int_equal(json_integer_value(json_object_get(root, "device")), 43);
    assert_string_equal(json_string_value(json_object_get(root, "tenant")), "LOCAL_TOOL_USER");
    assert_string_equal(json_string_value(json_object_get(root, "roe_level")), "SOC_ASSIST");
    const char *text = json_string_value(json_object_get(root, "payload"));
    assert_int_equal(base_unbase64(text, strlen(text), payload, sizeof payload, &len), DBE_OK);
    assert_null(fake_call_of(&f->fake, DBE_MSG_L7_CHAT_REQ));
    json_decref(root);
    client_close(&c);

    client_open(f, &c);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, ASK);
    struct fake_call *call = wait_call(f);
    assert_int_equal(dbe_msg_decode(call->bytes, call->len, &msg, NULL), DBE_OK);
    assert_int_equal(msg.payload_len, len);
    assert_memory_equal(msg.payload, payload, len);
    answer_chat(f, call, "yes", true);
    wait_answer(f, &c);
    client_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_token_goes_with_the_message, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_tokens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_payload_to_approve, set_up, tear_down),
    };

    if (crypto_init(NULL) != DBE_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
