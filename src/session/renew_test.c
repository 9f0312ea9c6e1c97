/* SPDX-License-Identifier: Apache-2.0
 *
 * renew_test.c - a handshake inside the channel (spec 7.12 to 7.18): under traffic in every order of delivery, begun by
 * both sides at once, refused, closed meanwhile, and failing at every point at which this host can fail.
 */
#include "session/renew_fixture.h"

/* ---- it works ---------------------------------------------------------------------------------------------------- */

static void there_and_back(void **state)
{
    struct world w;
    uint8_t before[SESS_SECRET_BYTES];

    (void)state;
    world_open(&w, NULL);
    assert_int_equal(sess_suite(w.side[I].s)->id, CRYPTO_SUITE_1);
    for (int turn = 0; turn < 6; turn++) {
        int side = turn % 2;
        const uint16_t *list = turn % 3 == 0 ? two : turn % 3 == 1 ? one : both;

        memcpy(before, w.side[I].s->secrets->send, sizeof before);
        begin(&w, side, list, list == both ? 2 : 1);
        check_talk(&w);
        /* the responder of it takes the first of its own list, which is this build's */
        assert_int_equal(sess_suite(w.side[R].s)->id, list == two ? CRYPTO_SUITE_2 : CRYPTO_SUITE_1);
        assert_memory_not_equal(before, w.side[I].s->secrets->send, sizeof before);
        assert_int_equal(w.side[R].s->stats.switches, turn + 1);
    }
    begin(&w, R, NULL, 0); /* the suite in use */
    check_talk(&w);
    assert_int_equal(sess_suite(w.side[R].s)->id, CRYPTO_SUITE_1);
    world_close(&w);
}

/* spec 7.13: a renewed certificate is taken over, that of the other side stays. */
static void certificates_are_renewed(void **state)
{
    struct world w;
    struct fake old = bob;

    (void)state;
    for (int side = 0; side < 2; side++) {
        world_open(&w, NULL);
        bob.key = bob_renewed.key;
        memcpy(bob.cert, bob_renewed.cert, sizeof bob.cert);
        assert_memory_not_equal(sess_peer(w.side[I].s)->fingerprint, bob.cert + FAKE_CERT_BYTES - CRYPTO_HASH_BYTES,
                                64);
        begin(&w, side, NULL, 0);
        check_talk(&w);
        assert_memory_equal(sess_peer(w.side[I].s)->fingerprint, bob.cert + FAKE_CERT_BYTES - CRYPTO_HASH_BYTES, 64);
        assert_int_equal(sess_peer(w.side[R].s)->device, 1);
        bob = old;
        world_close(&w);
    }
}

/* One order of delivery, chosen digit by digit; returns false when there is no next one. */
struct path {
    uint8_t digit[64], of[64];
    size_t len, at;
};

static unsigned pick(struct path *p, unsigned of)
{
    assert_true(of > 0 && p->at < sizeof p->digit);
    if (p->at == p->len) {
        p->digit[p->len] = 0;
        p->of[p->len++] = (uint8_t)of;
    }
    assert_int_equal(p->of[p->at], of); /* the same choices lead to the same place */
    return p->digit[p->at++];
}

static bool path_next(struct path *p)
{
    while (p->len > 0 && p->digit[p->len - 1] + 1 == p->of[p->len - 1])
        p->len--;
    if (p->len == 0)
        return false;
    p->digit[p->len - 1]++;
    p->at = 0;
    return true;
}

/* spec 7.12, 7.14: each order in which records can arrive while both sides say something whenever they like. */
static void every_order(int starters, unsigned says, unsigned rekeys)
{
    struct path path = {0};
    unsigned count = 0;

    do {
        struct world w;
        unsigned says_left = says, rekeys_left = rekeys;

        path.at = 0;
        world_open(&w, NULL);
        for (int side = 0; side < 2; side++)
            if ((starters & (1 << side)) != 0)
                begin(&w, side, two, 1);
        for (;;) {
            int can[6], n = 0;

            for (int side = 0; side < 2; side++) {
                if (w.side[side].in.len > 0)
                    can[n++] = side; /* deliver */
                if (says_left > 0)
                    can[n++] = 2 + side;
            }
            if (rekeys_left > 0)
                can[n++] = 4 + (int)(rekeys_left % 2);
            if (n == 0)
                break;
            int what = can[pick(&path, (unsigned)n)];
            if (what < 2) {
                (void)deliver(&w, what);
                OK(w.side[what].died);
                flush(&w, what);
            } else if (what < 4) {
                say(&w, what - 2);
                says_left--;
            } else {
                OK(sess_rekey(w.side[what - 4].s, 1, to(&w, what - 4)));
                rekeys_left--;
            }
        }
        settle(&w);
        check_agree(&w);
        assert_int_equal(w.side[I].s->stats.switches, 1);
        assert_int_equal(w.side[I].s->stats.refused + w.side[R].s->stats.refused, 0);
        assert_int_equal(sess_suite(w.side[I].s)->id, CRYPTO_SUITE_2);
        world_close(&w);
        count++;
    } while (path_next(&path));
    print_message("%u orders\n", count);
    assert_true(count > 1);
}

static void every_order_of_one(void **state)
{
    (void)state;
    every_order(1 << I, 2, 0);
    every_order(1 << R, 1, 0);
    every_order(1 << I, 0, 1);
}

static void every_order_of_both(void **state)
{
    (void)state;
    every_order(1 << I | 1 << R, 0, 0);
    every_order(1 << I | 1 << R, 1, 0);
    every_order(1 << I | 1 << R, 0, 2);
}

/* Longer runs in seeded orders: 1 -> 2 -> 1 -> ... from both sides, with rekeys, delayed answers and traffic. */
static void seeded_orders(void **state)
{
    struct sess_config like = {.rekey_records = 7};
    uint64_t switches = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct world w;
        uint64_t x = seed * 0x9e3779b97f4a7c15u;

        world_open(&w, seed % 2 == 0 ? &like : NULL);
        for (unsigned step = 0; step < 120; step++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            int side = (int)(x >> 62 & 1);
            unsigned what = (unsigned)(x >> 40) % 16;
            dbe_err err;

            if (what < 6) {
                if (w.side[side].in.len > 0)
                    (void)deliver(&w, side);
                OK(w.side[side].died);
            } else if (what < 11) {
                say(&w, side);
            } else if (what < 13) {
                flush(&w, side);
            } else if (what < 14) {
                OK(sess_rekey(w.side[side].s, 1, to(&w, side)));
            } else {
                bool busy = w.side[side].s->renew != NULL;
                err = sess_rehandshake(w.side[side].s, what == 14 ? one : two, 1, 1, to(&w, side));
                assert_int_equal(err, busy ? DBE_E_AGAIN : DBE_OK);
            }
        }
        settle(&w);
        check_agree(&w);
        check_talk(&w);
        switches += w.side[R].s->stats.switches;
        world_close(&w);
    }
    assert_true(switches > 60);
}

/* spec 5.7: what is owed goes before a message sealed in place as before any other; its content arrives whole. */
static void owed_goes_before_what_was_gathered(void **state)
{
    struct world w;
    uint8_t msg[8] = {0};

    (void)state;
    world_open(&w, NULL);
    begin(&w, I, two, 1);
    (void)deliver(&w, R);
    assert_true(sess_owes(w.side[R].s));
    struct base_buf *out = to(&w, R);
    assert_non_null(base_buf_grow(out, HEAD));
    base_buf_bytes(out, msg, sizeof msg);
    OK(sess_seal_in_place(w.side[R].s, 0, 1, out));
    w.side[R].said++;
    assert_false(sess_owes(w.side[R].s));
    assert_int_equal(deliver(&w, I), SESS_HANDSHAKING);
    assert_int_equal(deliver(&w, I), SESS_MESSAGE);
    check_talk(&w);
    assert_int_equal(w.side[I].switched, 1);
    world_close(&w);
}

/* ---- it does not, and the channel lives ----------------------------------------------------------------------------
 * */

/* spec 7.16 */
static void no_common_suite(void **state)
{
    struct world w;

    (void)state;
    world_open(&w, NULL);
    OK(sess_set_suites(w.side[R].s, one, 1));
    begin(&w, I, two, 1);
    assert_int_equal(deliver(&w, R), SESS_REFUSED);
    assert_string_equal(sess_diag(w.side[R].s)->clause, "message 1 suites");
    flush(&w, R);
    assert_int_equal(deliver(&w, I), SESS_REFUSED);
    assert_non_null(strstr(sess_diag(w.side[I].s)->text, "E_UNSUPPORTED"));
    check_talk(&w);
    assert_int_equal(sess_diag(w.side[I].s)->text[0], '\0'); /* it was of that call */
    assert_int_equal(w.side[I].s->stats.refused, 1);
    assert_int_equal(sess_suite(w.side[I].s)->id, CRYPTO_SUITE_1);
    OK(sess_set_suites(w.side[R].s, NULL, 0)); /* and now it may */
    begin(&w, I, two, 1);
    check_talk(&w);
    assert_int_equal(sess_suite(w.side[I].s)->id, CRYPTO_SUITE_2);
    world_close(&w);
}

/* spec 6.16: one whose digest differs behind the eighth byte is another policy, and the one before is good. */
static void other_policy(void **state)
{
    struct world w;

    (void)state;
    world_open(&w, NULL);
    for (size_t at = 8; at < DBE_POLICY_DIGEST_BYTES; at++) {
        const struct dbe_policy_digest before = *sess_policy_digest(w.side[R].s);
        struct dbe_policy_digest now = before;
        now.bytes[at] ^= 1;
        sess_set_policy_digest(w.side[I].s, &now, &before);
        begin(&w, I, NULL, 0);
        assert_int_equal(deliver(&w, R), SESS_REFUSED);
        assert_string_equal(sess_diag(w.side[R].s)->clause, "message 1 policy digest");
        flush(&w, R);
        assert_int_equal(deliver(&w, I), SESS_REFUSED);
        assert_non_null(strstr(sess_diag(w.side[I].s)->text, "E_POLICY"));
        check_talk(&w);
        assert_memory_equal(sess_policy_digest(w.side[I].s), &before, sizeof before);
        begin(&w, R, NULL, 0); /* who has not followed yet offers the one before */
        check_talk(&w);
        assert_memory_equal(sess_policy_digest(w.side[I].s), &before, sizeof before);
        sess_set_policy_digest(w.side[R].s, &now, &before);
        begin(&w, R, NULL, 0);
        check_talk(&w);
        for (int side = 0; side < 2; side++)
            assert_memory_equal(sess_policy_digest(w.side[side].s), &now, sizeof now);
    }
    world_close(&w);
}

static void calls_that_are_refused(void **state)
{
    static const uint16_t unknown[] = {0x7777}, twice[] = {1, 1};
    struct sess_config like = {.datagram = true};
    struct world w;

    (void)state;
    world_open(&w, NULL);
    ERR(DBE_E_UNSUPPORTED, sess_rehandshake(w.side[I].s, unknown, 1, 1, to(&w, I)));
    ERR(DBE_E_DUPLICATE, sess_rehandshake(w.side[I].s, twice, 2, 1, to(&w, I)));
    ERR(DBE_E_ARGUMENT, sess_rehandshake(w.side[I].s, unknown, DBE_SUITES_MAX + 1, 1, to(&w, I)));
    ERR(DBE_E_UNSUPPORTED, sess_set_suites(w.side[I].s, unknown, 1));
    assert_int_equal(to(&w, I)->len, 0);
    begin(&w, I, two, 1);
    ERR(DBE_E_AGAIN, sess_rehandshake(w.side[I].s, two, 1, 1, to(&w, I)));
    check_talk(&w);
    OK(sess_close(w.side[I].s, to(&w, I)));
    ERR(DBE_E_CLOSED, sess_rehandshake(w.side[I].s, two, 1, 1, to(&w, I)));
    ERR(DBE_E_CLOSED, sess_flush(w.side[I].s, 1, to(&w, I)));
    world_close(&w);

    world_open(&w, &like); /* spec 7.12: not on datagrams */
    ERR(DBE_E_STATE, sess_rehandshake(w.side[I].s, two, 1, 1, to(&w, I)));
    uint8_t inner[SESS_ALERT_RECORD_BYTES] = {0}, rec[HEAD + sizeof inner + TAG];
    OK(sess_rec_seal(w.side[I].s, SESS_REC_REHANDSHAKE, inner, sizeof inner, rec));
    base_buf_bytes(to(&w, I), rec, sizeof rec);
    assert_int_equal(deliver(&w, R), SESS_DROPPED);
    world_close(&w);
}

/* spec 7.16: whatever this host lacks, at any point, costs the renewal and not the channel. */
static void fail_everywhere(void (*fail_at)(uint64_t), uint64_t (*calls)(void), dbe_err want)
{
    unsigned refused = 0;
    bool done = false;

    for (uint64_t n = 1; !done; n++) {
        struct world w;

        assert_true(n < 500);
        world_open(&w, NULL);
        fail_at(n);
        dbe_err err = sess_rehandshake(w.side[n % 2].s, two, 1, 1, to(&w, (int)(n % 2)));
        assert_true(err == DBE_OK || err == want);
        for (int turn = 0; turn < 8; turn++)
            for (int side = 0; side < 2; side++) {
                if (w.side[side].in.len > 0)
                    (void)deliver(&w, side);
                OK(w.side[side].died);
                err = sess_flush(w.side[side].s, 1, to(&w, side));
                assert_true(err == DBE_OK || err == want);
            }
        done = calls() < n;
        fail_at(0);
        settle(&w);
        check_talk(&w);
        refused += w.side[I].s->stats.refused > 0 || w.side[R].s->stats.refused > 0;
        assert_int_equal(w.side[I].s->stats.refused, w.side[R].s->stats.refused);
        if (done)
            assert_int_equal(w.side[I].s->stats.switches, 1);
        begin(&w, I, two, 1); /* and nothing is left behind that would hinder the next */
        check_talk(&w);
        assert_int_equal(sess_suite(w.side[I].s)->id, CRYPTO_SUITE_2);
        world_close(&w);
    }
    assert_true(refused > 3);
}

static void nth_allocation(void **state)
{
    (void)state;
    fail_everywhere(base_fail_alloc_at, base_alloc_count, DBE_E_NOMEM);
}

static void nth_random(void **state)
{
    (void)state;
    fail_everywhere(base_fail_random_at, base_random_count, DBE_E_RANDOM);
}

/* The answer of the last message is refused for want of something: both go on, on the old keys. */
static void last_message_fails(void **state)
{
    struct world w;

    (void)state;
    world_open(&w, NULL);
    begin(&w, I, two, 1);
    (void)deliver(&w, R), flush(&w, R);
    (void)deliver(&w, I), flush(&w, I);
    bob.verify_err = DBE_E_IO;
    assert_int_equal(deliver(&w, R), SESS_REFUSED);
    bob.verify_err = DBE_OK;
    begin(&w, R, two, 1); /* at once again: the alert goes first */
    assert_int_equal(deliver(&w, I), SESS_REFUSED);
    check_talk(&w);
    assert_int_equal(w.side[I].s->stats.switches, 1);
    world_close(&w);
}

/* A full buffer costs nothing: what is owed stays owed. */
static void no_room(void **state)
{
    struct world w;
    uint8_t mem[HEAD + 8 + TAG + 4], msg[8] = {0};
    struct base_buf small;

    (void)state;
    world_open(&w, NULL);
    base_buf_init_fixed(&small, mem, sizeof mem);
    ERR(DBE_E_TOO_LARGE, sess_rehandshake(w.side[I].s, two, 1, 1, &small));
    assert_null(w.side[I].s->renew);
    begin(&w, I, two, 1);
    (void)deliver(&w, R);
    ERR(DBE_E_TOO_LARGE, sess_seal(w.side[R].s, msg, sizeof msg, 1, &small));
    ERR(DBE_E_TOO_LARGE, sess_flush(w.side[R].s, 1, &small));
    assert_int_equal(small.len, 0);
    assert_true(sess_owes(w.side[R].s));
    check_talk(&w);
    assert_int_equal(w.side[I].s->stats.switches, 1);
    world_close(&w);
}

/* Goodbye at every point: what is under way is heard, and the other side ends in order. */
static void closed_at_every_point(void **state)
{
    (void)state;
    for (int who = 0; who < 2; who++)
        for (unsigned stop = 0; stop < 6; stop++) {
            struct world w;

            world_open(&w, NULL);
            begin(&w, I, two, 1);
            for (unsigned step = 0; step < stop; step++) {
                (void)deliver(&w, (step + 1) % 2 == 1 ? R : I);
                flush(&w, (step + 1) % 2 == 1 ? R : I);
                say(&w, I), say(&w, R);
                while (w.side[I].in.len > 8 + HEAD + TAG && w.side[I].in.data[4] == SESS_REC_DATA)
                    (void)deliver(&w, I);
                while (w.side[R].in.len > 8 + HEAD + TAG && w.side[R].in.data[4] == SESS_REC_DATA)
                    (void)deliver(&w, R);
            }
            say(&w, 1 - who);
            OK(sess_close(w.side[who].s, to(&w, who)));
            enum sess_event ev = SESS_NEED_MORE;
            while (w.side[1 - who].in.len > 0 && ev != SESS_PEER_CLOSED) {
                ev = deliver(&w, 1 - who);
                OK(w.side[1 - who].died);
                if (ev != SESS_PEER_CLOSED)
                    flush(&w, 1 - who);
            }
            assert_int_equal(ev, SESS_PEER_CLOSED);
            while (w.side[who].in.len > 0) {
                (void)deliver(&w, who);
                OK(w.side[who].died);
            }
            assert_int_equal(w.side[who].heard, w.side[1 - who].said);
            assert_int_equal(w.side[1 - who].heard, w.side[who].said);
            world_close(&w);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(certificates_are_renewed),
        cmocka_unit_test(every_order_of_one),
        cmocka_unit_test(every_order_of_both),
        cmocka_unit_test(seeded_orders),
        cmocka_unit_test(owed_goes_before_what_was_gathered),
        cmocka_unit_test(no_common_suite),
        cmocka_unit_test(other_policy),
        cmocka_unit_test(calls_that_are_refused),
        cmocka_unit_test(nth_allocation),
        cmocka_unit_test(nth_random),
        cmocka_unit_test(last_message_fails),
        cmocka_unit_test(no_room),
        cmocka_unit_test(closed_at_every_point),
    };
    return cmocka_run_group_tests_name("renew", tests, setup, teardown);
}
