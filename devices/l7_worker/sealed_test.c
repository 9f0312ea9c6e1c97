/* SPDX-License-Identifier: Apache-2.0
 *
 * sealed_test.c - the worker's side of sealed prompts and receipts, on messages as the router hands them on.
 */
#include "e2e/fixture.h"

#include "devices/l7_worker/sealed.h"
#include "dsmil.pb-c.h"

enum { MAX = 65536 };

static const char prompt[] = "a packed request";
static uint64_t now;

struct sealed { /* a message that carries the prompt, and the gateway's end of the talk */
    uint8_t bytes[8192];
    struct dbe_msg msg;
    struct e2e_talk *talk;
};

static const struct pol_labels labels = {.tenant = "acme", .compartments = 1, .classification = 2, .roe_level = 1};
static const uint8_t id[16] = {7};

static int set_up(void **state)
{
    (void)mesh_setup(state);
    now = base_wall_ms() + 1000;
    return 0;
}

/* As the gateway makes it; `carry` without the TLV is a message in clear. */
static void seal(const struct mesh *m, const struct worker_keys *keys, uint8_t type, bool carry, struct sealed *ret)
{
    struct e2e_labels l = {.tenant = "acme",
                           .profile = "big",
                           .compartments = 1,
                           .classification = 2,
                           .roe_level = 1,
                           .type = type,
                           .device = 47};
    Dsmil__L7ChatRequest outer = DSMIL__L7_CHAT_REQUEST__INIT;
    struct e2e_card card;
    struct dbe_builder b;
    struct base_buf sealed;
    const uint8_t *bytes;
    size_t len;

    memcpy(l.request_id, id, sizeof id);
    e2e_key_card(keys->current, &bytes, &len);
    assert_int_equal(e2e_card_verify(bytes, len, m->trust, now, &card, NULL), DBE_OK);
    base_buf_init(&sealed, MAX);
    assert_int_equal(e2e_seal_request(&card, &l, prompt, sizeof prompt, now, &sealed, &ret->talk), DBE_OK);
    outer.sealed = (ProtobufCBinaryData){sealed.len, sealed.data};
    outer.answers = 4;
    dbe_build_begin(&b, ret->bytes, sizeof ret->bytes, type, 0, 1);
    dbe_build_text(&b, DBE_TLV_L7_PROFILE, "big");
    if (carry)
        dbe_build_u8(&b, DBE_TLV_SEALED_TO, 47);
    void *room = dbe_build_payload_room(&b, dsmil__l7_chat_request__get_packed_size(&outer));
    assert_non_null(room);
    (void)dsmil__l7_chat_request__pack(&outer, room);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(dbe_msg_decode(ret->bytes, len, &ret->msg, NULL), DBE_OK);
    base_buf_free(&sealed);
}

static dbe_err open_as(struct worker_keys *keys, const struct sealed *s, const struct pol_labels *as, uint64_t at,
                       struct worker_private *ret)
{
    const char *reason = NULL;
    struct base_buf plain;

    base_buf_init(&plain, MAX);
    dbe_err err = worker_open(keys, &s->msg, as, 47, id, at, &plain, ret, &reason);
    if (err == DBE_OK)
        assert_memory_equal(plain.data, prompt, sizeof prompt);
    else {
        assert_int_equal(plain.len, 0);
        assert_null(ret->talk);
        assert_non_null(reason);
    }
    base_buf_free(&plain);
    return err;
}

/* spec 18.9: a relabelled message does not open, the same one does, once */
static void test_relabelled_and_replayed(void **state)
{
    const struct mesh *m = *state;
    struct worker_keys keys = {0};
    struct worker_private p = {0}, again = {0};
    struct pol_labels other[4] = {labels, labels, labels, labels};
    struct sealed s;

    assert_int_equal(worker_keys_tick(&keys, m->worker, now), DBE_OK);
    seal(m, &keys, DBE_MSG_L7_CHAT_REQ, true, &s);
    assert_true(worker_is_sealed(&s.msg));
    (void)snprintf(other[0].tenant, sizeof other[0].tenant, "acmf");
    other[1].compartments = 3;
    other[2].classification = 1;
    other[3].roe_level = 2;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(open_as(&keys, &s, &other[i], now, &p), DBE_E_AUTH);
    assert_int_equal(open_as(&keys, &s, &labels, now, &p), DBE_OK);
    assert_int_equal(p.answers, 4);
    assert_int_equal(open_as(&keys, &s, &labels, now, &again), DBE_E_REPLAY);
    worker_private_free(&p);
    e2e_talk_free(s.talk);
    seal(m, &keys, DBE_MSG_L7_EMBED_REQ, true, &s);
    assert_int_equal(open_as(&keys, &s, &labels, now, &p), DBE_OK); /* field 41 of both types */
    worker_private_free(&p);
    e2e_talk_free(s.talk);
    seal(m, &keys, DBE_MSG_L7_CHAT_REQ, true, &s);
    s.msg.type = DBE_MSG_L7_EMBED_REQ; /* the type is a label, too */
    assert_int_equal(open_as(&keys, &s, &labels, now, &p), DBE_E_AUTH);
    s.msg.type = DBE_MSG_L7_AGENT_TASK;
    assert_int_equal(open_as(&keys, &s, &labels, now, &p), DBE_E_UNSUPPORTED);
    e2e_talk_free(s.talk);
    seal(m, &keys, DBE_MSG_L7_CHAT_REQ, false, &s); /* without the TLV it is a chat without messages */
    assert_false(worker_is_sealed(&s.msg));
    e2e_talk_free(s.talk);
    worker_keys_free(&keys);
}

/* The key before opens for a few minutes after a new one is made, then nobody has it. spec 18.7 */
static void test_rotation(void **state)
{
    const struct mesh *m = *state;
    const uint64_t begin = now;
    struct worker_keys keys = {0};
    struct worker_private p = {0};
    struct sealed s;

    assert_int_equal(worker_keys_tick(&keys, m->worker, now), DBE_OK);
    struct e2e_key *first = keys.current;
    assert_int_equal(worker_keys_tick(&keys, m->worker, now + WORKER_KEY_ROTATE_MS - 1), DBE_OK);
    assert_ptr_equal(keys.current, first);
    now += WORKER_KEY_ROTATE_MS;
    seal(m, &keys, DBE_MSG_L7_CHAT_REQ, true, &s);
    assert_int_equal(worker_keys_tick(&keys, m->worker, now), DBE_OK);
    assert_ptr_not_equal(keys.current, first);
    assert_ptr_equal(keys.before, first);
    assert_int_equal(open_as(&keys, &s, &labels, now + 1, &p), DBE_OK);
    worker_private_free(&p);
    e2e_talk_free(s.talk);
    assert_int_equal(worker_keys_tick(&keys, m->worker, now + WORKER_KEY_OVERLAP_MS), DBE_OK);
    assert_null(keys.before);
    assert_int_equal(worker_keys_tick(&keys, m->worker, begin - 1),
                     DBE_OK); /* the clock went back: a card that holds */
    assert_int_equal(keys.made_ms, begin - 1);
    assert_int_equal(worker_keys_tick(&keys, m->worker, begin + 600000), DBE_OK);
    assert_int_equal(keys.made_ms, begin - 1);
    assert_int_equal(worker_keys_tick(&keys, m->worker, begin + 599000), DBE_OK); /* a second is nothing */
    assert_int_equal(keys.made_ms, begin - 1);
    assert_int_equal(worker_keys_tick(&keys, m->worker, begin + 300000), DBE_OK); /* what was seen by then is old */
    assert_int_equal(keys.made_ms, begin + 300000);
    worker_keys_free(&keys);
    now = begin;
}

/* spec 18.8: what the worker seals, the gateway opens; a message of a request in clear stays as it is */
static void test_answer(void **state)
{
    const struct mesh *m = *state;
    struct worker_keys keys = {0};
    struct worker_private p = {0}, clear = {0};
    struct base_buf packed, plain;
    struct sealed s;
    bool last = false;

    assert_int_equal(worker_keys_tick(&keys, m->worker, now), DBE_OK);
    seal(m, &keys, DBE_MSG_L7_CHAT_REQ, true, &s);
    assert_int_equal(open_as(&keys, &s, &labels, now, &p), DBE_OK);
    base_buf_init(&packed, MAX);
    base_buf_init(&plain, MAX);
    base_buf_str(&packed, "an answer in words");
    const struct engine_result totals = {.prompt_tokens = 5, .answer_tokens = 3};
    assert_int_equal(worker_seal(&clear, DBE_MSG_L7_CHAT_RESP, &totals, &packed), DBE_OK);
    assert_string_equal(base_buf_cstr(&packed), "an answer in words");
    assert_int_equal(worker_seal(&p, DBE_MSG_L7_CHAT_RESP, &totals, &packed), DBE_OK);
    assert_null(memmem(packed.data, packed.len, "words", 5));
    Dsmil__L7ChatResponse *outer = dsmil__l7_chat_response__unpack(NULL, packed.len, packed.data);
    assert_non_null(outer);
    assert_int_equal(outer->n_choices, 0);
    assert_int_equal(outer->usage->total_tokens, 8); /* for limits on the way */
    assert_int_equal(e2e_open_piece(s.talk, outer->sealed.data, outer->sealed.len, &plain, &last), DBE_OK);
    assert_true(last);
    assert_string_equal(base_buf_cstr(&plain), "an answer in words");
    dsmil__l7_chat_response__free_unpacked(outer, NULL);
    base_buf_free(&packed);
    base_buf_free(&plain);
    e2e_talk_free(s.talk);
    worker_private_free(&p);
    worker_keys_free(&keys);
}

/* spec 17.1: over what was asked and what was sent, NULs left out as they are in the answer */
static void test_receipt(void **state)
{
    static const char said[] = "on\0e tw\0o";
    const struct mesh *m = *state;
    const struct e2e_receipt_expect any = {0};
    const struct engine_result result = {
        .finish = LLM_FINISH_LENGTH, .prompt_tokens = 5, .cached_tokens = 2, .answer_tokens = 3};
    struct e2e_receipt r = {.time_ms = now, .model = "tiny", .quantisation = "Q8_0"}, got;
    struct worker_private p = {0};
    struct base_buf text, call = {0}, out;
    uint8_t want[CRYPTO_HASH_BYTES];

    base_buf_init(&text, MAX);
    base_buf_init(&out, E2E_RECEIPT_MAX_BYTES);
    assert_int_equal(worker_receipt_begin(&p, prompt, sizeof prompt), DBE_OK);
    base_buf_bytes(&text, said, 5);
    assert_int_equal(worker_receipt_text(&p, &text), DBE_OK);
    base_buf_clear(&text);
    base_buf_bytes(&text, said + 5, sizeof said - 1 - 5);
    assert_int_equal(worker_receipt_text(&p, &text), DBE_OK);
    assert_int_equal(worker_receipt_end(&p, &r, &result, &call, m->worker, &out), DBE_OK);
    assert_int_equal(e2e_receipt_verify(out.data, out.len, m->trust, &any, &got, NULL, NULL), DBE_OK);
    assert_int_equal(got.finish, E2E_FINISH_LENGTH);
    assert_int_equal(got.prompt_tokens, 5);
    assert_int_equal(got.cached_tokens, 2);
    assert_int_equal(got.completion_tokens, 3);
    assert_int_equal(crypto_sha3_512("one two", 7, want), DBE_OK);
    assert_memory_equal(got.answer_digest, want, sizeof want);
    assert_int_equal(crypto_sha3_512(prompt, sizeof prompt, want), DBE_OK);
    assert_memory_equal(got.request_digest, want, sizeof want);
    worker_private_free(&p);
    base_buf_clear(&out);
    assert_int_equal(worker_receipt_text(&p, &text), DBE_OK); /* none was asked for */
    assert_int_equal(worker_receipt_end(&p, &r, &result, &call, m->worker, &out), DBE_OK);
    assert_int_equal(out.len, 0);
    base_buf_free(&text);
    base_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_relabelled_and_replayed),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_receipt),
    };

    return cmocka_run_group_tests_name("worker, past the router", tests, set_up, mesh_teardown);
}
