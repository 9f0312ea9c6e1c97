/* SPDX-License-Identifier: Apache-2.0
 *
 * sealed_test.c - sealed prompts: what was sealed to a worker opens there under its labels, once, and nowhere else; the
 * answer's pieces open in their order alone.
 */
#include "e2e/fixture.h"
#include "e2e/sealed_priv.h"

enum { LIFE_MS = 3600 * 1000, OUT_MAX = 65536 };

static const char prompt[] = "what the router must not read";

static uint64_t now; /* within the certificates' validity */

static struct e2e_labels sample(void)
{
    struct e2e_labels l = {.tenant = "acme",
                           .profile = "llm-7b-amx",
                           .compartments = DBE_COMPARTMENT_SOC,
                           .classification = DBE_CLSF_SECRET,
                           .roe_level = DBE_ROE_SOC_ASSIST,
                           .type = DBE_MSG_L7_CHAT_REQ,
                           .device = 47};

    memset(l.request_id, 0x42, sizeof l.request_id);
    return l;
}

struct both { /* a worker's key and what the gateway knows of it */
    struct e2e_key *key;
    struct e2e_card card;
};

static int both_setup(void **state)
{
    (void)mesh_setup(state);
    now = base_wall_ms() + 1000;
    return 0;
}

static struct both make(const struct mesh *m)
{
    struct both b = {0};
    const uint8_t *card;
    size_t len;

    assert_int_equal(e2e_key_new(m->worker, now, LIFE_MS, &b.key), DBE_OK);
    e2e_key_card(b.key, &card, &len);
    assert_int_equal(e2e_card_verify(card, len, m->trust, now, &b.card, NULL), DBE_OK);
    return b;
}

static struct e2e_talk *seal(const struct e2e_card *card, const struct e2e_labels *l, uint64_t at, struct base_buf *out)
{
    struct e2e_talk *talk = NULL;

    base_buf_init(out, OUT_MAX);
    assert_int_equal(e2e_seal_request(card, l, prompt, sizeof prompt, at, out, &talk), DBE_OK);
    return talk;
}

/* Opens or not; checks that nothing is left behind when not. */
static dbe_err open_one(struct e2e_key *key, const struct e2e_labels *l, const void *sealed, size_t len, uint64_t at)
{
    struct e2e_talk *talk = NULL;
    struct base_buf out;

    base_buf_init(&out, OUT_MAX);
    dbe_err err = e2e_open_request(key, l, sealed, len, at, &out, &talk);
    if (err != DBE_OK) {
        assert_null(talk);
        assert_int_equal(out.len, 0);
    } else {
        assert_int_equal(out.len, sizeof prompt);
        assert_memory_equal(out.data, prompt, sizeof prompt);
    }
    e2e_talk_free(talk);
    base_buf_free(&out);
    return err;
}

/* spec 18.1, 18.4 and 18.8 */
static void test_there_and_back(void **state)
{
    const struct mesh *m = *state;
    struct both b = make(m);
    const struct e2e_labels l = sample();
    struct e2e_talk *ask = NULL, *answer = NULL;
    struct base_buf sealed, plain, piece;
    bool last = true;

    assert_string_equal(b.card.worker.spiffe_id, dbe_credential_identity(m->worker)->spiffe_id);
    ask = seal(&b.card, &l, now, &sealed);
    assert_int_equal(sealed.len, E2E_SEALED_OVERHEAD_BYTES + sizeof prompt);
    assert_null(memmem(sealed.data, sealed.len, "router", 6));
    base_buf_init(&plain, OUT_MAX);
    base_buf_init(&piece, OUT_MAX);
    assert_int_equal(e2e_open_request(b.key, &l, sealed.data, sealed.len, now, &plain, &answer), DBE_OK);
    assert_int_equal(plain.len, sizeof prompt);
    assert_memory_equal(plain.data, prompt, sizeof prompt);
    static const char *const said[] = {"one", "", "three"};
    for (size_t i = 0; i < 3; i++) {
        base_buf_clear(&piece);
        base_buf_clear(&plain);
        assert_int_equal(e2e_seal_piece(answer, said[i], strlen(said[i]), i == 2, &piece), DBE_OK);
        assert_int_equal(e2e_open_piece(ask, piece.data, piece.len, &plain, &last), DBE_OK);
        assert_int_equal(last, i == 2);
        assert_string_equal(base_buf_cstr(&plain), said[i]);
    }
    assert_int_equal(e2e_seal_piece(answer, "x", 1, false, &piece), DBE_E_STATE);
    assert_int_equal(e2e_open_piece(ask, piece.data, piece.len, &plain, &last), DBE_E_STATE);
    e2e_talk_free(ask);
    e2e_talk_free(answer);
    base_buf_free(&sealed);
    base_buf_free(&plain);
    base_buf_free(&piece);
    e2e_key_free(b.key);
}

/* spec 18.5: each bit of each label */
static void test_relabelled(void **state)
{
    struct both b = make(*state);
    const struct e2e_labels l = sample();
    struct base_buf sealed;

    e2e_talk_free(seal(&b.card, &l, now, &sealed));
    for (unsigned bit = 0; bit < 32; bit++) {
        struct e2e_labels x = l;
        x.compartments ^= 1u << bit;
        assert_int_equal(open_one(b.key, &x, sealed.data, sealed.len, now), DBE_E_AUTH);
    }
    for (unsigned bit = 0; bit < 8; bit++) {
        struct e2e_labels x[4] = {l, l, l, l};
        x[0].classification ^= (uint8_t)(1u << bit);
        x[1].roe_level ^= (uint8_t)(1u << bit);
        x[2].type ^= (uint8_t)(1u << bit);
        x[3].device ^= (uint8_t)(1u << bit);
        for (size_t i = 0; i < 4; i++)
            assert_int_equal(open_one(b.key, &x[i], sealed.data, sealed.len, now), DBE_E_AUTH);
    }
    for (unsigned bit = 0; bit < 128; bit++) {
        struct e2e_labels x = l;
        x.request_id[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(open_one(b.key, &x, sealed.data, sealed.len, now), DBE_E_AUTH);
    }
    char text[16];
    for (unsigned bit = 0; bit < 8 * 4; bit++) {
        struct e2e_labels x = l;
        (void)snprintf(text, sizeof text, "%s", l.tenant);
        text[bit / 8] ^= (char)(1u << bit % 8);
        x.tenant = text;
        assert_int_equal(open_one(b.key, &x, sealed.data, sealed.len, now), DBE_E_AUTH);
    }
    /* a byte moved from one text into the other is no other form of the same */
    struct e2e_labels x = l;
    x.tenant = "acm";
    x.profile = "ellm-7b-amx";
    assert_int_equal(open_one(b.key, &x, sealed.data, sealed.len, now), DBE_E_AUTH);
    x.profile = "";
    x.tenant = l.tenant;
    assert_int_equal(open_one(b.key, &x, sealed.data, sealed.len, now), DBE_E_AUTH);
    x.tenant = "";
    assert_int_equal(open_one(b.key, &x, sealed.data, sealed.len, now), DBE_E_ARGUMENT);
    assert_int_equal(open_one(b.key, &l, sealed.data, sealed.len, now), DBE_OK); /* none of these used it up */
    base_buf_free(&sealed);
    e2e_key_free(b.key);
}

/* spec 18.4: every byte counts, and every length */
static void test_altered_and_truncated(void **state)
{
    struct both b = make(*state);
    const struct e2e_labels l = sample();
    struct base_buf sealed;

    e2e_talk_free(seal(&b.card, &l, now, &sealed));
    for (size_t at = 0; at < sealed.len; at += at < 24 || at >= E2E_SEALED_HEAD_BYTES ? 1 : 53) {
        sealed.data[at] ^= 1;
        assert_int_not_equal(open_one(b.key, &l, sealed.data, sealed.len, now), DBE_OK);
        sealed.data[at] ^= 1;
    }
    for (size_t len = 0; len < sealed.len; len += len + 60 < sealed.len ? 59 : 1)
        assert_int_not_equal(open_one(b.key, &l, sealed.data, len, now), DBE_OK);
    assert_int_equal(open_one(b.key, &l, sealed.data, sealed.len, now), DBE_OK);
    base_buf_free(&sealed);
    e2e_key_free(b.key);
}

/* spec 18.6: once, and near its time alone */
static void test_replay(void **state)
{
    struct both b = make(*state);
    const struct e2e_labels l = sample();
    struct base_buf sealed;

    e2e_talk_free(seal(&b.card, &l, now + 500000, &sealed));
    assert_int_equal(open_one(b.key, &l, sealed.data, sealed.len, now + 500000 - E2E_WINDOW_MS), DBE_E_EXPIRED);
    assert_int_equal(open_one(b.key, &l, sealed.data, sealed.len, now + 500000 + E2E_WINDOW_MS), DBE_E_EXPIRED);
    assert_int_equal(open_one(b.key, &l, sealed.data, sealed.len, now + 500000 - E2E_WINDOW_MS + 1), DBE_OK);
    for (uint64_t ms = 0; ms < 2 * E2E_WINDOW_MS - 1; ms += 9973)
        assert_int_equal(open_one(b.key, &l, sealed.data, sealed.len, now + 500001 - E2E_WINDOW_MS + ms), DBE_E_REPLAY);
    assert_int_equal(open_one(b.key, &l, sealed.data, sealed.len, now + 500000 + E2E_WINDOW_MS - 1), DBE_E_REPLAY);
    base_buf_free(&sealed);
    e2e_key_free(b.key);
}

/* spec 18.6: a clock that goes back brings nothing to life that made room */
static void test_seen_when_the_clock_goes_back(void **state)
{
    struct e2e_seen *seen = calloc(1, sizeof *seen);
    uint8_t first[16] = {0xF1}, id[16] = {0};

    (void)state;
    assert_non_null(seen);
    assert_int_equal(e2e_seen_add(seen, first, 1000, 500), DBE_OK);
    for (uint32_t i = 0; i < E2E_SEEN_MAX; i++) { /* later; the last takes the place of the first */
        base_put_u32(id, i);
        assert_int_equal(e2e_seen_add(seen, id, 9000, 8000), DBE_OK);
    }
    assert_int_equal(e2e_seen_add(seen, first, 1000, 500), DBE_E_EXPIRED);
    free(seen);
}

/* spec 18.6: what was seen is bounded, and a full memory refuses instead of forgetting */
static void test_seen_is_bounded(void **state)
{
    struct e2e_seen *seen = calloc(1, sizeof *seen);
    uint8_t id[16] = {0};

    (void)state;
    assert_non_null(seen);
    for (uint32_t i = 0; i < E2E_SEEN_MAX; i++) {
        base_put_u32(id, i);
        assert_int_equal(e2e_seen_add(seen, id, 1000 + i, 500), DBE_OK);
    }
    base_put_u32(id, E2E_SEEN_MAX);
    assert_int_equal(e2e_seen_add(seen, id, 5000000, 500), DBE_E_LIMIT);
    base_put_u32(id, 17);
    assert_int_equal(e2e_seen_add(seen, id, 5000000, 500), DBE_E_REPLAY);
    base_put_u32(id, E2E_SEEN_MAX);
    assert_int_equal(e2e_seen_add(seen, id, 5000000, 1000), DBE_OK); /* the first one's time is over */
    base_put_u32(id, E2E_SEEN_MAX + 1);
    assert_int_equal(e2e_seen_add(seen, id, 5000000, 1000), DBE_E_LIMIT);
    free(seen);
}

/* spec 18.8: pieces are opened in their order, whole, once; the end is told */
static void test_pieces(void **state)
{
    struct both b = make(*state);
    const struct e2e_labels l = sample();
    struct e2e_talk *ask, *answer = NULL;
    struct base_buf sealed, plain, p[3];
    bool last = false;

    ask = seal(&b.card, &l, now, &sealed);
    base_buf_init(&plain, OUT_MAX);
    assert_int_equal(e2e_open_request(b.key, &l, sealed.data, sealed.len, now, &plain, &answer), DBE_OK);
    base_buf_clear(&plain);
    for (size_t i = 0; i < 3; i++) {
        base_buf_init(&p[i], OUT_MAX);
        assert_int_equal(e2e_seal_piece(answer, "abc", 3, i == 2, &p[i]), DBE_OK);
    }
    assert_int_equal(e2e_open_piece(ask, p[1].data, p[1].len, &plain, &last), DBE_E_AUTH); /* not its turn */
    assert_int_equal(e2e_open_piece(ask, p[0].data, p[0].len, &plain, &last), DBE_OK);
    assert_int_equal(e2e_open_piece(ask, p[0].data, p[0].len, &plain, &last), DBE_E_AUTH); /* again */
    assert_int_equal(e2e_open_piece(ask, p[2].data, p[2].len, &plain, &last), DBE_E_AUTH); /* one is missing */
    p[1].data[0] = 1;                                                                      /* an end that is none */
    assert_int_equal(e2e_open_piece(ask, p[1].data, p[1].len, &plain, &last), DBE_E_AUTH);
    p[1].data[0] = 2;
    assert_int_equal(e2e_open_piece(ask, p[1].data, p[1].len, &plain, &last), DBE_E_MALFORMED);
    p[1].data[0] = 0;
    assert_int_equal(e2e_open_piece(ask, p[1].data, p[1].len - 1, &plain, &last), DBE_E_AUTH);
    assert_int_equal(e2e_open_piece(ask, p[1].data, 5, &plain, &last), DBE_E_MALFORMED);
    assert_false(last);
    assert_int_equal(plain.len, 3);
    assert_int_equal(e2e_open_piece(ask, p[1].data, p[1].len, &plain, &last), DBE_OK);
    p[2].data[0] = 0; /* the end, hidden */
    assert_int_equal(e2e_open_piece(ask, p[2].data, p[2].len, &plain, &last), DBE_E_AUTH);
    p[2].data[0] = 1;
    assert_int_equal(e2e_open_piece(ask, p[2].data, p[2].len, &plain, &last), DBE_OK);
    assert_true(last);
    for (size_t i = 0; i < 3; i++)
        base_buf_free(&p[i]);
    e2e_talk_free(ask);
    e2e_talk_free(answer);
    base_buf_free(&sealed);
    base_buf_free(&plain);
    e2e_key_free(b.key);
}

/* spec 18.7: a key that is over opens nothing; another key does not either, however alike its card */
static void test_other_keys(void **state)
{
    const struct mesh *m = *state;
    struct both b = make(m), c = make(m);
    struct e2e_labels l = sample();
    struct e2e_talk *talk = NULL;
    struct base_buf sealed;

    e2e_talk_free(seal(&b.card, &l, now, &sealed));
    assert_true(e2e_key_is(b.key, sealed.data, sealed.len));
    assert_false(e2e_key_is(c.key, sealed.data, sealed.len));
    assert_int_equal(open_one(c.key, &l, sealed.data, sealed.len, now), DBE_E_AUTH);
    memcpy(sealed.data + 8, c.card.id, sizeof c.card.id); /* told that it is its own */
    assert_int_equal(open_one(c.key, &l, sealed.data, sealed.len, now), DBE_E_AUTH);
    base_buf_free(&sealed);
    e2e_talk_free(seal(&b.card, &l, now + LIFE_MS - 1, &sealed));
    assert_true(e2e_key_expired(b.key, now + LIFE_MS));
    assert_int_equal(open_one(b.key, &l, sealed.data, sealed.len, now + LIFE_MS), DBE_E_EXPIRED);
    assert_int_equal(open_one(b.key, &l, sealed.data, sealed.len, now + LIFE_MS - 1), DBE_OK);
    l.device = 44;
    assert_int_equal(e2e_seal_request(&b.card, &l, prompt, sizeof prompt, now, &sealed, &talk), DBE_E_ARGUMENT);
    base_buf_free(&sealed);
    e2e_key_free(b.key);
    e2e_key_free(c.key);
}

static dbe_err verify(const struct mesh *m, const struct base_buf *b, uint64_t at)
{
    struct e2e_card card = {.not_before_ms = 99};
    struct dbe_diag diag = {0};
    dbe_err err = e2e_card_verify(b->data, b->len, m->trust, at, &card, &diag);

    if (err != DBE_OK) {
        assert_int_equal(card.not_before_ms, 99);
        assert_true(diag.text[0] != '\0');
    }
    return err;
}

/* spec 18.2 and 18.3: nobody but the worker makes its card */
static void test_cards(void **state)
{
    const struct mesh *m = *state;
    struct e2e_key *key = NULL;
    struct base_buf b;
    const uint8_t *card;
    size_t len;

    assert_int_equal(e2e_key_new(m->worker, now, LIFE_MS, &key), DBE_OK);
    e2e_key_card(key, &card, &len);
    base_buf_init(&b, E2E_CARD_MAX_BYTES + 1);
    base_buf_bytes(&b, card, len);
    assert_int_equal(verify(m, &b, now), DBE_OK);
    assert_int_equal(verify(m, &b, now - E2E_WINDOW_MS), DBE_OK); /* clocks differ a little */
    assert_int_equal(verify(m, &b, now + LIFE_MS), DBE_E_EXPIRED);
    for (size_t at = 0; at < b.len; at += at < 64 ? 1 : 101) {
        b.data[at] ^= 1;
        assert_int_not_equal(verify(m, &b, now), DBE_OK);
        b.data[at] ^= 1;
    }
    for (b.len = 0; b.len < len; b.len += 211)
        assert_int_not_equal(verify(m, &b, now), DBE_OK);
    b.len = len;
    base_buf_u8(&b, 0);
    assert_int_equal(verify(m, &b, now), DBE_E_MALFORMED);
    e2e_key_free(key);
    /* the router's own: genuine, of the mesh, and of no worker */
    assert_int_equal(e2e_key_new(m->router, now, LIFE_MS, &key), DBE_OK);
    e2e_key_card(key, &card, &len);
    base_buf_clear(&b);
    base_buf_bytes(&b, card, len);
    assert_int_equal(verify(m, &b, now), DBE_E_CERT);
    base_buf_free(&b);
    e2e_key_free(key);
    assert_int_equal(e2e_key_new(m->worker, now, 0, &key), DBE_E_ARGUMENT);
    assert_int_equal(e2e_key_new(m->worker, now, E2E_CARD_LIFE_MAX_MS + 1, &key), DBE_E_ARGUMENT);
}

/* Every allocation and every random draw fails once: an error comes, nothing leaks, nothing opens halfway. */
static void test_failures(void **state)
{
    const struct mesh *m = *state;
    const struct e2e_labels l = sample();
    unsigned failed = 0;

    for (int draws = 0; draws < 2; draws++)
        for (uint64_t n = 1;; n++) {
            struct both b = {0};
            struct e2e_talk *ask = NULL, *answer = NULL;
            struct base_buf sealed, plain;
            const uint8_t *card;
            size_t len;
            base_buf_init(&sealed, OUT_MAX);
            base_buf_init(&plain, OUT_MAX);
            if (draws)
                base_fail_random_at(n);
            else
                base_fail_alloc_at(n);
            dbe_err err = e2e_key_new(m->worker, now, LIFE_MS, &b.key);
            if (err == DBE_OK) {
                e2e_key_card(b.key, &card, &len);
                err = e2e_card_verify(card, len, m->trust, now, &b.card, NULL);
            }
            if (err == DBE_OK)
                err = e2e_seal_request(&b.card, &l, prompt, sizeof prompt, now, &sealed, &ask);
            if (err == DBE_OK)
                err = e2e_open_request(b.key, &l, sealed.data, sealed.len, now, &plain, &answer);
            const uint64_t count = draws ? base_random_count() : base_alloc_count();
            base_fail_random_at(0);
            base_fail_alloc_at(0);
            failed += err != DBE_OK;
            if (err != DBE_OK)
                assert_int_equal(plain.len, 0);
            e2e_talk_free(ask);
            e2e_talk_free(answer);
            e2e_key_free(b.key);
            base_buf_free(&sealed);
            base_buf_free(&plain);
            if (count < n) {
                assert_int_equal(err, DBE_OK);
                break;
            }
        }
    assert_true(failed > 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_relabelled),
        cmocka_unit_test(test_altered_and_truncated),
        cmocka_unit_test(test_replay),
        cmocka_unit_test(test_seen_is_bounded),
        cmocka_unit_test(test_seen_when_the_clock_goes_back),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_other_keys),
        cmocka_unit_test(test_cards),
        cmocka_unit_test(test_failures),
    };

    return cmocka_run_group_tests_name("sealed prompts", tests, both_setup, mesh_teardown);
}
