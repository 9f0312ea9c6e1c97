/* SPDX-License-Identifier: Apache-2.0
 *
 * sealed_test.c - the gateway's side of sealed prompts: cards that a router relays or makes up, and answers that do
 * not open.
 */
#include "e2e/fixture.h"

#include "dsmil.pb-c.h"
#include "shim/sealed.h"

enum { LIFE_MS = 3600 * 1000, MAX = 65536 };

static uint64_t now;

static int set_up(void **state)
{
    (void)mesh_setup(state);
    now = base_wall_ms() + 1000;
    return 0;
}

static struct e2e_labels sample(void)
{
    return (struct e2e_labels){.tenant = "acme",
                               .profile = "big",
                               .compartments = DBE_COMPARTMENT_SOC,
                               .classification = DBE_CLSF_SECRET,
                               .roe_level = DBE_ROE_SOC_ASSIST,
                               .type = DBE_MSG_L7_CHAT_REQ,
                               .device = 47};
}

static dbe_err take(struct shim_cards *cards, const struct mesh *m, const struct e2e_key *key)
{
    struct dbe_diag diag = {0};
    const uint8_t *card;
    size_t len;

    e2e_key_card(key, &card, &len);
    return shim_cards_take(cards, card, len, m->trust, now, &diag);
}

/* spec 18.3: the router's own card, or an altered one, is none; without one nothing is sealed, and so nothing sent */
static void test_cards(void **state)
{
    const struct mesh *m = *state;
    struct e2e_key *key = NULL, *forged = NULL;
    struct shim_cards cards = {0};
    struct e2e_labels l = sample();
    const struct e2e_card *found = NULL;
    const char *reason = NULL;
    uint8_t altered[E2E_CARD_MAX_BYTES];
    const uint8_t *card;
    size_t len;

    assert_int_equal(e2e_key_new(m->worker, now, LIFE_MS, &key), DBE_OK);
    assert_int_equal(e2e_key_new(m->router, now, LIFE_MS, &forged), DBE_OK);
    assert_int_equal(take(&cards, m, forged), DBE_E_CERT);
    e2e_key_card(key, &card, &len);
    memcpy(altered, card, len);
    altered[100] ^= 1; /* another public key */
    assert_int_not_equal(shim_cards_take(&cards, altered, len, m->trust, now, NULL), DBE_OK);
    assert_int_equal(cards.count, 0);
    assert_int_equal(shim_cards_find(&cards, 47, &l, m->trust, now, &found, &reason), DBE_E_UNAVAILABLE);
    assert_non_null(strstr(reason, "not sent in clear"));
    assert_int_equal(take(&cards, m, key), DBE_OK);
    assert_int_equal(take(&cards, m, key), DBE_OK); /* the same again takes no room */
    assert_int_equal(cards.count, 1);
    assert_int_equal(shim_cards_find(&cards, 47, &l, m->trust, now, &found, &reason), DBE_OK);
    assert_int_equal(found->worker.device, 47);
    assert_int_equal(shim_cards_find(&cards, 44, &l, m->trust, now, &found, &reason), DBE_E_UNAVAILABLE);
    assert_int_equal(shim_cards_find(&cards, 47, &l, m->trust, now + LIFE_MS, &found, &reason), DBE_E_UNAVAILABLE);
    l.classification = DBE_CLSF_TS;
    assert_int_equal(shim_cards_find(&cards, 47, &l, m->trust, now, &found, &reason), DBE_E_CLASSIFICATION);
    e2e_key_free(key);
    /* a new key takes the place of the old one */
    assert_int_equal(e2e_key_new(m->worker, now, LIFE_MS, &key), DBE_OK);
    assert_int_equal(take(&cards, m, key), DBE_OK);
    assert_int_equal(cards.count, 1);
    e2e_key_free(key);
    e2e_key_free(forged);
}

/* One message of an answer: what is in it, sealed or in clear. */
static struct dbe_msg message(struct e2e_talk *talk, const char *text, bool last, uint8_t *bytes, size_t cap)
{
    Dsmil__L7ChatResponse outer = DSMIL__L7_CHAT_RESPONSE__INIT;
    struct base_buf piece;
    struct dbe_msg msg = {.type = DBE_MSG_L7_CHAT_RESP, .payload = bytes};

    base_buf_init(&piece, MAX);
    if (talk != NULL) {
        assert_int_equal(e2e_seal_piece(talk, text, strlen(text), last, &piece), DBE_OK);
        outer.sealed = (ProtobufCBinaryData){piece.len, piece.data};
    } else
        outer.model = (char *)(uintptr_t)text;
    assert_true(dsmil__l7_chat_response__get_packed_size(&outer) <= cap);
    msg.payload_len = dsmil__l7_chat_response__pack(&outer, bytes);
    base_buf_free(&piece);
    return msg;
}

/* spec 18.8 and 18.11: an answer in clear, cut short or lengthened is no answer */
static void test_answers(void **state)
{
    const struct mesh *m = *state;
    const struct e2e_labels l = sample();
    struct e2e_key *key = NULL;
    struct shim_cards cards = {0};
    const struct e2e_card *card = NULL;
    const char *reason = NULL;
    struct base_buf plain, out, opened;
    uint8_t bytes[256];

    assert_int_equal(e2e_key_new(m->worker, now, LIFE_MS, &key), DBE_OK);
    assert_int_equal(take(&cards, m, key), DBE_OK);
    assert_int_equal(shim_cards_find(&cards, 47, &l, m->trust, now, &card, &reason), DBE_OK);
    base_buf_init(&plain, MAX);
    base_buf_str(&plain, "the question");
    for (int turn = 0; turn < 4; turn++) {
        struct e2e_talk *ask = NULL, *answer = NULL;
        base_buf_init(&out, MAX);
        base_buf_init(&opened, MAX);
        assert_int_equal(shim_seal(card, &l, 3, &plain, now, &out, &ask), DBE_OK);
        assert_null(memmem(out.data, out.len, "question", 8));
        Dsmil__L7ChatRequest *outer = dsmil__l7_chat_request__unpack(NULL, out.len, out.data);
        assert_non_null(outer);
        assert_int_equal(outer->n_messages, 0);
        assert_int_equal(outer->answers, 3);
        assert_int_equal(e2e_open_request(key, &l, outer->sealed.data, outer->sealed.len, now, &opened, &answer),
                         DBE_OK);
        assert_string_equal(base_buf_cstr(&opened), "the question");
        dsmil__l7_chat_request__free_unpacked(outer, NULL);
        base_buf_clear(&opened);
        const bool last = turn == 1 || turn == 3;
        struct dbe_msg msg = message(turn == 0 ? NULL : answer, "words", last, bytes, sizeof bytes);
        const dbe_err want[] = {DBE_E_AUTH, DBE_OK, DBE_E_AUTH, DBE_E_AUTH}; /* clear; whole; cut; lengthened */
        assert_int_equal(shim_open(ask, &msg, turn == 1 || turn == 2, &opened), want[turn]);
        e2e_talk_free(ask);
        e2e_talk_free(answer);
        base_buf_free(&out);
        base_buf_free(&opened);
    }
    base_buf_free(&plain);
    e2e_key_free(key);
}

/* spec 18.9, 18.11: texts to embed and their vectors go the same way, in messages of their own types */
static void test_vectors(void **state)
{
    const struct mesh *m = *state;
    struct e2e_labels l = sample();
    struct e2e_key *key = NULL;
    struct shim_cards cards = {0};
    const struct e2e_card *card = NULL;
    const char *reason = NULL;
    struct base_buf plain, out, opened, piece;
    struct e2e_talk *ask = NULL, *answer = NULL;
    Dsmil__L7EmbedResponse response = DSMIL__L7_EMBED_RESPONSE__INIT;
    uint8_t bytes[256];

    l.type = DBE_MSG_L7_EMBED_REQ;
    assert_int_equal(e2e_key_new(m->worker, now, LIFE_MS, &key), DBE_OK);
    assert_int_equal(take(&cards, m, key), DBE_OK);
    assert_int_equal(shim_cards_find(&cards, 47, &l, m->trust, now, &card, &reason), DBE_OK);
    base_buf_init(&plain, MAX);
    base_buf_init(&out, MAX);
    base_buf_init(&opened, MAX);
    base_buf_init(&piece, MAX);
    base_buf_str(&plain, "the text");
    assert_int_equal(shim_seal(card, &l, 3, &plain, now, &out, &ask), DBE_OK);
    Dsmil__L7EmbedRequest *outer = dsmil__l7_embed_request__unpack(NULL, out.len, out.data);
    assert_non_null(outer);
    assert_int_equal(outer->n_input, 0);
    assert_int_equal(e2e_open_request(key, &l, outer->sealed.data, outer->sealed.len, now, &opened, &answer), DBE_OK);
    dsmil__l7_embed_request__free_unpacked(outer, NULL);
    base_buf_clear(&opened);
    assert_int_equal(e2e_seal_piece(answer, "vectors", 7, true, &piece), DBE_OK);
    struct dbe_msg msg = {.type = DBE_MSG_L7_EMBED_RESP, .payload = bytes};
    msg.payload_len = dsmil__l7_embed_response__pack(&response, bytes);
    assert_int_equal(shim_open(ask, &msg, true, &opened), DBE_E_AUTH); /* in clear */
    response.sealed = (ProtobufCBinaryData){piece.len, piece.data};
    assert_true(dsmil__l7_embed_response__get_packed_size(&response) <= sizeof bytes);
    msg.payload_len = dsmil__l7_embed_response__pack(&response, bytes);
    assert_int_equal(shim_open(ask, &msg, true, &opened), DBE_OK);
    assert_string_equal(base_buf_cstr(&opened), "vectors");
    struct base_buf *const all[] = {&plain, &out, &opened, &piece};
    for (size_t i = 0; i < BASE_ARRAY_LEN(all); i++)
        base_buf_free(all[i]);
    e2e_talk_free(ask);
    e2e_talk_free(answer);
    e2e_key_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cards), cmocka_unit_test(test_answers),
                                       cmocka_unit_test(test_vectors)};

    return cmocka_run_group_tests_name("gateway, past the router", tests, set_up, mesh_teardown);
}
