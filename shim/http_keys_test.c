/* SPDX-License-Identifier: Apache-2.0
 *
 * http_keys_test.c - the gateway over real HTTP on loopback: keys of tenants, vectors, limits.
 */
#include "shim/http_fixture.h"

/* ---- keys of tenants -------------------------------------------------------------------------------------------- */

static void ask_with_key(struct fixture *f, struct client *c, const char *key)
{
    char head[512];

    (void)snprintf(head, sizeof head, "Host: 127.0.0.1\r\nAuthorization: Bearer %s\r\n", key);
    base_buf_clear(&c->in);
    client_ask(f, c, "POST", "/v1/chat/completions", head, ASK);
}

static void write_keys(const char *path, const struct pol_api_key *keys, size_t count)
{
    struct base_buf text;
    struct dbe_diag diag;

    base_buf_init(&text, 65536);
    pol_api_keys_write(keys, count, &text);
    assert_int_equal(base_file_write(path, text.data, text.len, 0600, &diag), DBE_OK);
    base_buf_free(&text);
}

/* Another key is another tenant, with its own labels and claim; a key that is taken out is nobody's a second later; a
 * file with an error changes nothing. */
static void test_keys_of_tenants(void **state)
{
    struct fixture *f = *state;
    char path[] = "/tmp/shim-keys-XXXXXX", text[128], key[2][POL_API_KEY_TEXT_BYTES];
    struct pol_api_key keys[2] = {
        {.tenant = "ALPHA", .classification = DBE_CLSF_SECRET, .compartments = DBE_COMPARTMENT_DEV},
        {.tenant = "BETA", .classification = DBE_CLSF_SECRET, .compartments = DBE_COMPARTMENT_SOC}};
    struct client c;
    struct dbe_msg msg;
    uint32_t mask = 0;
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(crypto_init(NULL), DBE_OK);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pol_api_key_new(key[i], &keys[i]), DBE_OK);
    write_keys(path, keys, 2);
    shim_keys_init(&f->shim.keys, path);
    openai_shim_device.tick(f->shim.svc, &f->shim);
    client_open(f, &c);
    for (size_t i = 0; i < 2; i++) {
        ask_with_key(f, &c, key[i]);
        struct fake_call *call = wait_call(f);
        assert_int_equal(dbe_msg_decode(call->bytes, call->len, &msg, NULL), DBE_OK);
        assert_int_equal(dbe_tlv_text(&msg, DBE_TLV_TENANT_ID, text, sizeof text), DBE_OK);
        assert_string_equal(text, keys[i].tenant);
        assert_int_equal(dbe_tlv_u32(&msg, DBE_TLV_COMPARTMENT_MASK, &mask), DBE_OK);
        assert_int_equal(mask, keys[i].compartments);
        answer_chat(f, call, "x", true);
        wait_answer(f, &c);
        assert_int_equal(status_of(&c), 200);
        assert_non_null(strstr(base_buf_cstr(&c.in), keys[i].tenant)); /* the answer's trace says for whom */
    }
    assert_int_equal(f->fake.claims, 2);

    write_keys(path, &keys[1], 1);
    openai_shim_device.tick(f->shim.svc, &f->shim);
    ask_with_key(f, &c, key[0]);
    wait_answer(f, &c);
    expect_error(&c, 401, "invalid_api_key");

    struct dbe_diag diag;
    assert_int_equal(base_file_write(path, "rubbish", 7, 0600, &diag), DBE_OK);
    openai_shim_device.tick(f->shim.svc, &f->shim);
    ask_with_key(f, &c, key[1]);
    answer_chat(f, wait_call(f), "x", true);
    wait_answer(f, &c);
    assert_int_equal(status_of(&c), 200);

    (void)unlink(path);
    openai_shim_device.tick(f->shim.svc, &f->shim);
    ask_with_key(f, &c, key[1]);
    wait_answer(f, &c);
    expect_error(&c, 401, "invalid_api_key");
    client_close(&c);
}

/* ---- other endpoints -------------------------------------------------------------------------------------------- */

static void test_vectors(void **state)
{
    static const float values[2] = {1.0f, -0.5f};
    Dsmil__L7EmbedResponse r = DSMIL__L7_EMBED_RESPONSE__INIT;
    Dsmil__Embedding one = DSMIL__EMBEDDING__INIT, *list[] = {&one, &one};
    struct fixture *f = *state;
    struct fake_call *call = NULL;
    struct client c;
    char model[] = "tiny";
    uint8_t packed[256];

    one.values = (ProtobufCBinaryData){sizeof values, (uint8_t *)(uintptr_t)values};
    r.data = list;
    r.n_data = 2;
    r.model = model;
    size_t len = dsmil__l7_embed_response__pack(&r, packed);
    client_open(f, &c);
    for (int base64 = 0; base64 < 2; base64++) {
        base_buf_clear(&c.in);
        client_ask(f, &c, "POST", "/v1/embeddings", AUTH,
                   base64 ? "{\"model\":\"tiny\",\"input\":[\"a\",\"b\"],\"encoding_format\":\"base64\"}"
                          : "{\"model\":\"tiny\",\"input\":[\"a\",\"b\"]}");
        for (int i = 0; i < TURNS_MAX && (call = fake_call_of(&f->fake, DBE_MSG_L7_EMBED_REQ)) == NULL; i++)
            turn(f);
        assert_non_null(call);
        fake_answer(&f->fake, call, DBE_MSG_L7_EMBED_RESP, packed, len, true);
        wait_answer(f, &c);
        assert_int_equal(status_of(&c), 200);
        assert_non_null(strstr(base_buf_cstr(&c.in), base64 ? "\"index\":1,\"embedding\":\"AACAPwAAAL8=\"}"
                                                            : "\"index\":1,\"embedding\":[1,-0.5]}"));
    }
    client_close(&c);
}

/* How long to wait comes from the one who refused, in both spellings that clients know. */
static void test_rate_limit_says_how_long(void **state)
{
    Dsmil__ErrorReply e = DSMIL__ERROR_REPLY__INIT;
    struct fixture *f = *state;
    struct client c;
    char reason[] = "too many requests", rule[] = "rate";
    uint8_t packed[256];

    e.code = DBE_E_LIMIT;
    e.reason = reason;
    e.rule = rule;
    e.retry_after_ms = 1500;
    size_t len = dsmil__error_reply__pack(&e, packed);
    client_open(f, &c);
    client_ask(f, &c, "POST", "/v1/chat/completions", AUTH, ASK);
    fake_answer(&f->fake, wait_call(f), DBE_MSG_ERROR, packed, len, true);
    wait_answer(f, &c);
    expect_error(&c, 429, "rate_limit_exceeded");
    assert_non_null(strstr(base_buf_cstr(&c.in), "Retry-After: 2\r\n"));
    assert_non_null(strstr(base_buf_cstr(&c.in), "retry-after-ms: 1500\r\n"));
    client_close(&c);
}

int main(void)
{
#define WITH_SHIM(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_SHIM(test_keys_of_tenants),
        WITH_SHIM(test_vectors),
        WITH_SHIM(test_rate_limit_says_how_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
