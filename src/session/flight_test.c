/* SPDX-License-Identifier: Apache-2.0
 *
 * flight_test.c - handshakes over datagrams that are lost, doubled, overtaken and invented (spec 6.18 to 6.20): they
 * come up all the same, with the same bytes and no second signature, and what is kept for it is bounded.
 */
#include "base/test.h"

#include "session/two_fixture.h"

#define OK(expr) assert_int_equal((expr), DBE_OK)
#define ERR(err, expr) assert_int_equal((expr), (err))

enum { HEAD = DBE_RECORD_HEADER_BYTES };

static void start(struct fake_pair *p, bool datagram)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);

    ci.datagram = cr.datagram = datagram;
    alice.verified = alice.signatures = bob.verified = bob.signatures = 0;
    OK(fake_pair_new(p, &ci, &cr));
    OK(sess_start(p->i, &p->to_r));
}

/* Feed a copy: a datagram may come again. */
static dbe_err hear(struct sess *s, const uint8_t *rec, size_t len, enum sess_event *ret_event, struct base_buf *answer)
{
    uint8_t *copy = base_alloc(len + 1, 1);
    const uint8_t *msg;
    size_t used, msg_len;
    dbe_err err;

    assert_non_null(copy);
    memcpy(copy, rec, len);
    err = sess_feed(s, copy, len, &used, ret_event, &msg, &msg_len, answer);
    if (err == DBE_OK)
        assert_int_equal(used, len);
    base_free(copy);
    return err;
}

static enum sess_event hear_ok(struct sess *s, const struct base_buf *rec, struct base_buf *answer)
{
    enum sess_event ev = SESS_NEED_MORE;

    OK(hear(s, rec->data, rec->len, &ev, answer));
    return ev;
}

static void assert_same(const struct base_buf *a, const struct base_buf *b)
{
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->data, b->data, a->len);
}

/* spec 6.18: each message, repeated: the same answer, no second signature, no second verification. */
static void repetitions_have_the_same_answer(void **state)
{
    struct fake_pair p;
    struct base_buf again, three;

    (void)state;
    base_buf_init(&again, 1 << 16);
    base_buf_init(&three, 1 << 16);
    start(&p, true);
    OK(sess_resend(p.i, &again)); /* message 1 was lost */
    assert_same(&again, &p.to_r);
    assert_int_equal(hear_ok(p.r, &p.to_r, &p.to_i), SESS_HANDSHAKING);
    for (int k = 0; k < 3; k++) { /* message 2 was lost */
        base_buf_clear(&again);
        assert_int_equal(hear_ok(p.r, &p.to_r, &again), SESS_HANDSHAKING);
        assert_same(&again, &p.to_i);
        base_buf_clear(&again);
        OK(sess_resend(p.r, &again));
        assert_same(&again, &p.to_i);
    }
    assert_int_equal(hear_ok(p.i, &p.to_i, &three), SESS_ESTABLISHED);
    for (int k = 0; k < 3; k++) { /* message 3 was lost: the responder repeats message 2 */
        base_buf_clear(&again);
        assert_int_equal(hear_ok(p.i, &p.to_i, &again), SESS_HANDSHAKING);
        assert_int_equal(again.len, 0); /* an open channel appends nothing by itself */
        assert_true(sess_owes(p.i));
        OK(sess_flush(p.i, 1, &again));
        assert_same(&again, &three);
        assert_false(sess_owes(p.i));
        base_buf_clear(&again);
        OK(sess_resend(p.i, &again));
        assert_same(&again, &three);
    }
    assert_int_equal(hear_ok(p.r, &three, &again), SESS_ESTABLISHED);
    assert_int_equal(hear_ok(p.r, &three, &again), SESS_DROPPED); /* nobody waits for an answer */
    assert_int_equal(hear_ok(p.r, &p.to_r, &again), SESS_DROPPED);
    assert_true(alice.signatures == 1 && bob.signatures == 1 && alice.verified == 1 && bob.verified == 1);

    assert_null(p.r->flight); /* what is kept, and how long */
    assert_non_null(p.i->flight);
    base_buf_clear(&again);
    OK(sess_seal(p.r, "x", 1, 1, &again));
    assert_int_equal(hear_ok(p.i, &again, &p.to_r), SESS_MESSAGE);
    assert_null(p.i->flight);
    base_buf_clear(&again);
    assert_int_equal(hear_ok(p.i, &p.to_i, &again), SESS_DROPPED);
    OK(sess_resend(p.i, &again));
    OK(sess_resend(p.r, &again));
    assert_int_equal(again.len, 0);
    assert_int_equal(p.i->stats.flights_resent, 7);
    assert_int_equal(p.r->stats.flights_resent, 6);
    base_buf_free(&again);
    base_buf_free(&three);
    fake_pair_free(&p);
}

/* What is owed goes before a message that is sealed, as a datagram of its own. */
static void a_repetition_goes_before_a_message(void **state)
{
    struct fake_pair p;
    struct base_buf three;

    (void)state;
    base_buf_init(&three, 1 << 16);
    start(&p, true);
    (void)hear_ok(p.r, &p.to_r, &p.to_i);
    (void)hear_ok(p.i, &p.to_i, &three);
    (void)hear_ok(p.i, &p.to_i, &three);
    base_buf_clear(&p.to_r);
    OK(sess_seal(p.i, "hello", 5, 1, &p.to_r));
    assert_int_equal(p.to_r.len, three.len + HEAD + 5 + DBE_RECORD_TAG_BYTES);
    assert_memory_equal(p.to_r.data, three.data, three.len);
    enum sess_event ev = SESS_NEED_MORE;
    OK(hear(p.r, p.to_r.data, three.len, &ev, &p.to_i));
    assert_int_equal(ev, SESS_ESTABLISHED);
    OK(hear(p.r, p.to_r.data + three.len, p.to_r.len - three.len, &ev, &p.to_i));
    assert_int_equal(ev, SESS_MESSAGE);
    base_buf_free(&three);
    fake_pair_free(&p);
}

/* spec 6.19: what is no record of the handshake, comes out of turn or is another message of the same kind, changes
 * nothing. */
static void noise_is_dropped(void **state)
{
    static const uint8_t types[] = {0, 1, 2, 3, 0x10, 0x11, 0x12, 0x13, 0x14, 0xff};
    struct fake_pair p, q;

    (void)state;
    start(&p, true);
    start(&q, true);
    struct base_buf first = p.to_r, none;
    base_buf_init(&none, 1 << 16);
    for (int n = 1; n <= 3; n++) {
        struct sess *s = n == 2 ? p.i : p.r;
        uint8_t due = (uint8_t)n, noise[64] = {[3] = 64 - HEAD};
        enum sess_event ev = SESS_NEED_MORE;

        if (n == 2)
            assert_int_equal(hear_ok(p.r, &first, &p.to_i), SESS_HANDSHAKING);
        for (size_t len = 1; len <= HEAD; len++) {
            OK(hear(s, noise, len, &ev, &none));
            assert_int_equal(ev, SESS_DROPPED);
        }
        for (size_t t = 0; t < sizeof types; t++) {
            noise[4] = types[t];
            if (types[t] == due && n != 3)
                base_put_u32(noise, 1); /* the one that is due, too short */
            else
                base_put_u32(noise, 64 - HEAD);
            OK(hear(s, noise, sizeof noise, &ev, &none));
            assert_int_equal(ev, SESS_DROPPED);
        }
        if (n == 3) /* somebody else's message 1 */
            assert_int_equal(hear_ok(s, &q.to_r, &none), SESS_DROPPED);
    }
    assert_int_equal(none.len, 0);
    assert_int_equal(hear_ok(p.i, &p.to_i, &none), SESS_ESTABLISHED);
    assert_int_equal(hear_ok(p.r, &none, &p.to_i), SESS_ESTABLISHED);
    base_buf_free(&none);
    fake_pair_free(&p);
    fake_pair_free(&q);
}

static void where_there_is_nothing_to_resend(void **state)
{
    struct sess_config c = fake_config(SESS_INITIATOR, &alice);
    struct fake_pair p;
    struct base_buf none;
    struct sess *s = NULL;

    (void)state;
    base_buf_init(&none, 100);
    start(&p, false); /* a stream */
    ERR(DBE_E_STATE, sess_resend(p.i, &none));
    assert_null(p.i->flight);
    fake_pair_free(&p);
    c.datagram = true;
    OK(sess_new(&c, &s));
    ERR(DBE_E_STATE, sess_resend(s, &none));
    sess_free(s);
    start(&p, true);
    ERR(DBE_E_STATE, sess_resend(p.r, &none));
    ERR(DBE_E_TOO_LARGE, sess_resend(p.i, &none));
    assert_int_equal(none.len, 0);
    enum sess_event ev;
    OK(hear(p.r, p.to_r.data, p.to_r.len, &ev, &p.to_i));
    OK(hear(p.r, p.to_r.data, p.to_r.len, &ev, &none)); /* no room for the answer: as if it were lost */
    assert_int_equal(none.len, 0);
    OK(none.err);
    p.to_i.data[p.to_i.len - 1] ^= 1;
    ERR(DBE_E_AUTH, hear(p.i, p.to_i.data, p.to_i.len, &ev, &p.to_r));
    ERR(DBE_E_STATE, sess_resend(p.i, &none));
    assert_null(p.i->flight);
    fake_pair_free(&p);
    base_buf_free(&none);
}

/* ---- a wire that loses, doubles and reorders -------------------------------------------------------------------- */

struct wire {
    struct base_buf rec[64];
    size_t count;
};

static void put(struct wire *w, struct base_buf *from)
{
    size_t at = 0;

    while (at < from->len) { /* a record is a datagram */
        size_t len = HEAD + base_get_u32(from->data + at);

        if (w->count < BASE_ARRAY_LEN(w->rec)) {
            base_buf_init(&w->rec[w->count], 1 << 16);
            base_buf_bytes(&w->rec[w->count++], from->data + at, len);
        }
        at += len;
    }
    base_buf_clear(from);
}

/* spec 6.18: the handshake comes up however many datagrams are lost, as long as the owner's timer goes on. */
static void lossy_wires(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct wire wire[2] = {0};
        struct fake_pair p;
        uint64_t x = seed;
        unsigned step = 0;

        start(&p, true);
        put(&wire[1], &p.to_r);
        for (; step < 2000 && !(sess_is_up(p.i) && sess_is_up(p.r)); step++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            int side = (int)(x >> 63);
            struct sess *s = side == 0 ? p.i : p.r;
            struct base_buf *out = side == 0 ? &p.to_r : &p.to_i;
            struct wire *in = &wire[side];
            size_t k = in->count > 0 ? (size_t)(x >> 33) % in->count : 0;
            unsigned what = (unsigned)(x >> 20) % 8;

            if (what == 0) { /* the timer */
                dbe_err err = sess_resend(s, out);
                assert_true(err == DBE_OK || (side == 1 && s->state == SESS_R_WAIT_1));
            } else if (in->count > 0) {
                if (what > 3) {
                    (void)hear_ok(s, &in->rec[k], out);
                    if (sess_owes(s))
                        OK(sess_flush(s, 1, out));
                }
                if (what != 4) { /* lost, or delivered for good; 4: it comes once more */
                    base_buf_free(&in->rec[k]);
                    in->rec[k] = in->rec[--in->count];
                }
            }
            put(&wire[1 - side], out);
        }
        assert_true(sess_is_up(p.i) && sess_is_up(p.r));
        assert_memory_equal(p.i->secrets->send, p.r->secrets->recv, SESS_SECRET_BYTES);
        assert_true(alice.signatures == 1 && bob.signatures == 1);
        for (int side = 0; side < 2; side++)
            while (wire[side].count > 0)
                base_buf_free(&wire[side].rec[--wire[side].count]);
        fake_pair_free(&p);
    }
}

/* spec 6.18: the n-th allocation of a handshake over datagrams fails: the side it fails on ends, with nothing half
 * said. */
static void nth_allocation(void **state)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
    bool done = false;

    (void)state;
    ci.datagram = cr.datagram = true;
    for (uint64_t n = 1; !done; n++) {
        struct fake_pair p;

        assert_true(n < 500);
        base_fail_alloc_at(n);
        dbe_err err = fake_pair_new(&p, &ci, &cr);
        if (err == DBE_OK)
            err = fake_handshake(&p);
        done = base_alloc_count() < n;
        base_fail_alloc_at(0);
        ERR(done ? DBE_OK : DBE_E_NOMEM, err);
        for (int side = 0; side < 2; side++) {
            struct sess *s = side == 0 ? p.i : p.r;
            if (s != NULL && s->state == SESS_DEAD)
                assert_null(s->flight);
        }
        fake_pair_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repetitions_have_the_same_answer),
        cmocka_unit_test(a_repetition_goes_before_a_message),
        cmocka_unit_test(noise_is_dropped),
        cmocka_unit_test(where_there_is_nothing_to_resend),
        cmocka_unit_test(lossy_wires),
        cmocka_unit_test(nth_allocation),
    };
    return cmocka_run_group_tests_name("flights", tests, setup, teardown);
}
