/* SPDX-License-Identifier: Apache-2.0
 *
 * record_test.c - the sealed channel: order, replay, rekey, limits, close, datagrams; and the replay window as a table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "session/session_fake.h"

#define OK(expr) assert_int_equal((expr), DBE_OK)
#define ERR(err, expr) assert_int_equal((expr), (err))

enum { HEAD = DBE_RECORD_HEADER_BYTES, OVERHEAD = DBE_RECORD_HEADER_BYTES + DBE_RECORD_TAG_BYTES };

static struct fake alice, bob;

static void open_pair(struct fake_pair *p, const struct sess_config *like)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);

    if (like != NULL) {
        ci.datagram = cr.datagram = like->datagram;
        ci.rekey_records = cr.rekey_records = like->rekey_records;
        ci.rekey_bytes = cr.rekey_bytes = like->rekey_bytes;
        ci.rekey_age_ns = cr.rekey_age_ns = like->rekey_age_ns;
    }
    OK(fake_pair_new(p, &ci, &cr));
    OK(fake_handshake(p));
}

/* Deliver everything in `from`; count messages and compare each with the 8-byte number that it must be. */
static uint64_t drain(struct sess *s, struct base_buf *from, uint64_t first)
{
    struct base_buf none;
    size_t at = 0, used, len;
    enum sess_event ev;
    const uint8_t *msg;
    uint64_t count = 0;

    base_buf_init(&none, 1024);
    while (at < from->len) {
        OK(sess_feed(s, from->data + at, from->len - at, &used, &ev, &msg, &len, &none));
        assert_true(used > 0);
        at += used;
        if (ev != SESS_MESSAGE)
            continue;
        assert_int_equal(len, 8);
        assert_true(base_get_u64(msg) == first + count);
        count++;
    }
    assert_int_equal(none.len, 0);
    base_buf_free(&none);
    base_buf_clear(from);
    return count;
}

static void say(struct sess *s, uint64_t number, uint64_t now_ns, struct base_buf *to)
{
    uint8_t msg[8];

    base_put_u64(msg, number);
    OK(sess_seal(s, msg, sizeof msg, now_ns, to));
}

static dbe_err hear(struct sess *s, uint8_t *rec, size_t len, enum sess_event *ret_event)
{
    struct base_buf none;
    size_t used, msg_len;
    const uint8_t *msg;
    dbe_err err;

    base_buf_init(&none, 1024);
    err = sess_feed(s, rec, len, &used, ret_event, &msg, &msg_len, &none);
    assert_int_equal(none.len, 0); /* an open channel answers nothing by itself */
    base_buf_free(&none);
    return err;
}

static void test_traffic(void **state)
{
    struct fake_pair p;
    struct sess_stats st;

    (void)state;
    open_pair(&p, NULL);
    for (uint64_t i = 0; i < 200; i++) {
        say(p.i, i, 1, &p.to_r);
        say(p.r, 1000 + i, 1, &p.to_i);
    }
    assert_int_equal(p.to_r.len, 200 * (8 + OVERHEAD));
    assert_int_equal(drain(p.r, &p.to_r, 0), 200);
    assert_int_equal(drain(p.i, &p.to_i, 1000), 200);
    sess_stats(p.r, &st);
    assert_true(st.opened == 200 && st.sealed == 200 && st.opened_bytes == 1600 && st.rekeys == 0);
    fake_pair_free(&p);
}

static void test_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 4096, 65537, DBE_MESSAGE_MAX_BYTES};
    struct fake_pair p;
    uint8_t *big = base_alloc(DBE_MESSAGE_MAX_BYTES + 1, 1);
    enum sess_event ev;
    const uint8_t *msg;
    size_t used, len;

    (void)state;
    assert_non_null(big);
    open_pair(&p, NULL);
    memset(big, 0x5a, DBE_MESSAGE_MAX_BYTES);
    for (size_t i = 0; i < BASE_ARRAY_LEN(sizes); i++) {
        OK(sess_seal(p.i, big, sizes[i], 1, &p.to_r));
        OK(sess_feed(p.r, p.to_r.data, p.to_r.len, &used, &ev, &msg, &len, &p.to_i));
        assert_int_equal(ev, SESS_MESSAGE);
        assert_int_equal(len, sizes[i]);
        assert_memory_equal(msg, big, len);
        base_buf_clear(&p.to_r);
    }
    ERR(DBE_E_TOO_LARGE, sess_seal(p.i, big, DBE_MESSAGE_MAX_BYTES + 1, 1, &p.to_r));
    assert_int_equal(p.to_r.len, 0);
    assert_true(sess_is_up(p.i)); /* a caller's mistake, not the channel's */
    say(p.i, 1, 1, &p.to_r);
    base_put_u32(p.to_r.data, DBE_MESSAGE_MAX_BYTES + DBE_RECORD_TAG_BYTES + 1);
    ERR(DBE_E_TOO_LARGE, hear(p.r, p.to_r.data, HEAD, &ev)); /* from its header */
    base_free(big);
    fake_pair_free(&p);
}

static void test_flips(void **state)
{
    enum sess_event ev = SESS_MESSAGE;

    (void)state;
    for (size_t bit = 0; bit < 8 * (8 + OVERHEAD); bit += bit < 8 * HEAD ? 1 : 5) {
        struct fake_pair p;

        open_pair(&p, NULL);
        say(p.i, 1, 1, &p.to_r);
        p.to_r.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        dbe_err err = hear(p.r, p.to_r.data, p.to_r.len, &ev);
        if (err == DBE_OK)
            assert_true(bit < 32 && ev == SESS_NEED_MORE); /* a longer length */
        else
            assert_int_equal(p.r->state, SESS_DEAD);
        fake_pair_free(&p);
    }
}

static void test_replay(void **state)
{
    struct fake_pair p;
    uint8_t copy[8 + OVERHEAD];
    enum sess_event ev;

    (void)state;
    open_pair(&p, NULL);
    say(p.i, 0, 1, &p.to_r);
    memcpy(copy, p.to_r.data, sizeof copy);
    assert_int_equal(drain(p.r, &p.to_r, 0), 1);
    ERR(DBE_E_REPLAY, hear(p.r, copy, sizeof copy, &ev));
    assert_int_equal(p.r->stats.replays_refused, 1);
    assert_int_equal(p.r->state, SESS_DEAD);
    fake_pair_free(&p);
}

static void test_reordered(void **state)
{
    struct fake_pair p;
    enum sess_event ev;

    (void)state;
    open_pair(&p, NULL);
    say(p.i, 0, 1, &p.to_r);
    say(p.i, 1, 1, &p.to_r);
    ERR(DBE_E_REPLAY, hear(p.r, p.to_r.data + 8 + OVERHEAD, 8 + OVERHEAD, &ev));
    fake_pair_free(&p);

    open_pair(&p, NULL); /* to the sender itself */
    say(p.i, 0, 1, &p.to_r);
    ERR(DBE_E_AUTH, hear(p.i, p.to_r.data, p.to_r.len, &ev));
    fake_pair_free(&p);

    open_pair(&p, NULL); /* a record of before a rekey, after it */
    say(p.i, 0, 1, &p.to_r);
    uint8_t copy[8 + OVERHEAD];
    memcpy(copy, p.to_r.data, sizeof copy);
    OK(sess_rekey(p.i, 1, &p.to_r));
    assert_int_equal(drain(p.r, &p.to_r, 0), 1);
    ERR(DBE_E_AUTH, hear(p.r, copy, sizeof copy, &ev));
    fake_pair_free(&p);

    open_pair(&p, NULL); /* handshake records are over */
    say(p.i, 0, 1, &p.to_r);
    p.to_r.data[4] = SESS_REC_MSG_3;
    ERR(DBE_E_PROTOCOL, hear(p.r, p.to_r.data, p.to_r.len, &ev));
    fake_pair_free(&p);
}

static void test_alert_late(void **state)
{
    uint8_t alert[HEAD + SESS_ALERT_BYTES] = {0, 0, 0, 2, SESS_REC_ALERT, [HEAD + 1] = DBE_E_CERT};
    struct fake_pair p;
    enum sess_event ev;

    (void)state;
    open_pair(&p, NULL); /* the responder never believes one when it is up */
    ERR(DBE_E_PROTOCOL, hear(p.r, alert, sizeof alert, &ev));
    fake_pair_free(&p);
    open_pair(&p, NULL); /* nor the initiator once the responder has spoken */
    say(p.r, 0, 1, &p.to_i);
    assert_int_equal(drain(p.i, &p.to_i, 0), 1);
    ERR(DBE_E_PROTOCOL, hear(p.i, alert, sizeof alert, &ev));
    fake_pair_free(&p);
    open_pair(&p, NULL); /* a number that only this host could have as an error */
    alert[HEAD + 1] = DBE_E_NOMEM;
    ERR(DBE_E_PROTOCOL, hear(p.i, alert, sizeof alert, &ev));
    fake_pair_free(&p);
}

/* Both sides move at once, again and again, with traffic under way; the epoch's byte wraps. */
static void test_rekey_both(void **state)
{
    struct fake_pair p;
    uint8_t before[SESS_SECRET_BYTES];

    (void)state;
    open_pair(&p, NULL);
    for (uint64_t i = 0; i < 600; i++) {
        memcpy(before, p.i->secrets->send, sizeof before);
        say(p.i, 2 * i, i, &p.to_r);
        say(p.r, 2 * i, i, &p.to_i);
        OK(sess_rekey(p.i, i, &p.to_r));
        OK(sess_rekey(p.r, i, &p.to_i));
        say(p.i, 2 * i + 1, i, &p.to_r);
        say(p.r, 2 * i + 1, i, &p.to_i);
        assert_memory_not_equal(before, p.i->secrets->send, sizeof before); /* the old secret is gone */
        assert_int_equal(drain(p.r, &p.to_r, 2 * i), 2);
        assert_int_equal(drain(p.i, &p.to_i, 2 * i), 2);
    }
    assert_int_equal(p.i->send.epoch, (uint8_t)(SESS_FIRST_EPOCH + 600));
    assert_int_equal(p.i->send.epoch, p.r->recv.epoch);
    assert_int_equal(p.i->stats.rekeys, 600);
    fake_pair_free(&p);
}

static void test_rekey_limits(void **state)
{
    struct sess_config like = {.rekey_records = 10};
    struct fake_pair p;

    (void)state;
    open_pair(&p, &like); /* by count: at most ten records an epoch, the notice among them */
    for (uint64_t i = 0; i < 100; i++) {
        say(p.i, i, 1, &p.to_r);
        assert_true(p.i->send.epoch_records <= 10);
    }
    assert_int_equal(p.i->stats.rekeys, 11);
    assert_int_equal(drain(p.r, &p.to_r, 0), 100);
    fake_pair_free(&p);

    like = (struct sess_config){.rekey_bytes = 80};
    open_pair(&p, &like);
    for (uint64_t i = 0; i < 100; i++)
        say(p.i, i, 1, &p.to_r);
    assert_int_equal(p.i->stats.rekeys, 9);
    assert_int_equal(drain(p.r, &p.to_r, 0), 100);
    fake_pair_free(&p);

    like = (struct sess_config){.rekey_age_ns = 1000};
    open_pair(&p, &like);
    for (uint64_t i = 0; i < 100; i++)
        say(p.i, i, 5000 + 100 * i, &p.to_r);
    assert_int_equal(p.i->stats.rekeys, 9);
    assert_int_equal(drain(p.r, &p.to_r, 0), 100);
    fake_pair_free(&p);

    like = (struct sess_config){.rekey_records = 1}; /* the least there is */
    open_pair(&p, &like);
    for (uint64_t i = 0; i < 5; i++)
        say(p.i, i, 1, &p.to_r);
    assert_int_equal(p.i->stats.rekeys, 4);
    assert_int_equal(drain(p.r, &p.to_r, 0), 5);
    fake_pair_free(&p);
}

static void test_nonce_invariant(void **state)
{
    struct fake_pair p;

    (void)state;
    open_pair(&p, NULL);
    say(p.i, 0, 1, &p.to_r);
    p.i->send.next_seq = 0; /* what must never happen */
    ERR(DBE_E_STATE, sess_seal(p.i, "x", 1, 1, &p.to_r));
    assert_int_equal(p.i->state, SESS_DEAD);
    fake_pair_free(&p);

    open_pair(&p, NULL);
    p.i->send.next_seq = UINT64_MAX; /* the end of the numbers */
    size_t before = p.to_r.len;
    ERR(DBE_E_LIMIT, sess_seal(p.i, "x", 1, 1, &p.to_r));
    assert_int_equal(p.to_r.len, before);
    assert_int_equal(p.i->state, SESS_DEAD);
    ERR(DBE_E_STATE, sess_seal(p.i, "x", 1, 1, &p.to_r));
    fake_pair_free(&p);

    open_pair(&p, NULL); /* spec 5.7: not even for a goodbye, nor for what a rehandshake owes */
    p.i->send.next_seq = UINT64_MAX;
    before = p.to_r.len;
    ERR(DBE_E_LIMIT, sess_close(p.i, &p.to_r));
    assert_int_equal(p.to_r.len, before);
    assert_int_equal(p.i->state, SESS_DEAD);
    fake_pair_free(&p);
    open_pair(&p, NULL);
    p.i->send.next_seq = UINT64_MAX;
    ERR(DBE_E_LIMIT, sess_rehandshake(p.i, NULL, 0, 1, &p.to_r));
    assert_int_equal(p.i->state, SESS_DEAD);
    assert_null(p.i->renew);
    fake_pair_free(&p);
}

static void test_bad_notice(void **state)
{
    struct fake_pair p;
    uint8_t rec[SESS_REKEY_NOTICE_BYTES], epoch = SESS_FIRST_EPOCH + 2;
    enum sess_event ev;

    (void)state;
    open_pair(&p, NULL);
    OK(sess_rec_seal(p.i, SESS_REC_REKEY, &epoch, 1, rec)); /* an authentic peer that leaves an epoch out */
    ERR(DBE_E_MALFORMED, hear(p.r, rec, sizeof rec, &ev));
    assert_int_equal(p.r->state, SESS_DEAD);
    fake_pair_free(&p);
}

static void test_close(void **state)
{
    struct fake_pair p;
    enum sess_event ev;
    uint8_t key[32];

    (void)state;
    open_pair(&p, NULL);
    say(p.r, 0, 1, &p.to_i); /* under way when the other says goodbye */
    OK(sess_close(p.i, &p.to_r));
    ERR(DBE_E_CLOSED, sess_seal(p.i, "x", 1, 1, &p.to_r));
    ERR(DBE_E_CLOSED, sess_close(p.i, &p.to_r));
    assert_false(sess_is_up(p.i));
    assert_int_equal(drain(p.i, &p.to_i, 0), 1); /* still heard */
    OK(hear(p.r, p.to_r.data, p.to_r.len, &ev));
    assert_int_equal(ev, SESS_PEER_CLOSED);
    ERR(DBE_E_CLOSED, sess_seal(p.r, "x", 1, 1, &p.to_i));
    ERR(DBE_E_CLOSED, hear(p.r, p.to_r.data, p.to_r.len, &ev));
    ERR(DBE_E_STATE, sess_channel_binding(p.r, key));
    assert_non_null(sess_peer(p.r));
    fake_pair_free(&p);

    open_pair(&p, NULL); /* both at once */
    OK(sess_close(p.i, &p.to_r));
    OK(sess_close(p.r, &p.to_i));
    OK(hear(p.r, p.to_r.data, p.to_r.len, &ev));
    OK(hear(p.i, p.to_i.data, p.to_i.len, &ev));
    assert_int_equal(ev, SESS_PEER_CLOSED);
    fake_pair_free(&p);
}

/* `out` that is full or for which there is no memory costs the caller its call, not the channel. */
static void test_no_room(void **state)
{
    struct sess_config like = {.rekey_records = 2};
    struct fake_pair p;
    struct base_buf small;

    (void)state;
    open_pair(&p, &like);
    say(p.i, 0, 1, &p.to_r);
    base_buf_init(&small, OVERHEAD + 8 + SESS_REKEY_NOTICE_BYTES - 1); /* now the notice is due as well */
    uint8_t msg[8] = {0};
    ERR(DBE_E_TOO_LARGE, sess_seal(p.i, msg, sizeof msg, 1, &small));
    assert_int_equal(small.len, 0);
    base_buf_free(&small);
    base_buf_init(&small, 4096);
    base_fail_alloc_at(1);
    ERR(DBE_E_NOMEM, sess_seal(p.i, msg, sizeof msg, 1, &small));
    base_fail_alloc_at(0);
    base_buf_free(&small);
    say(p.i, 1, 1, &p.to_r);
    assert_int_equal(drain(p.r, &p.to_r, 0), 2);
    fake_pair_free(&p);
}

/* A rekey for which there is no memory: the sender dies cleanly, with nothing half said. */
static void test_rekey_nth_alloc(void **state)
{
    bool done = false;

    (void)state;
    for (uint64_t n = 1; !done; n++) {
        struct fake_pair p;

        open_pair(&p, NULL);
        base_fail_alloc_at(n);
        dbe_err err = sess_rekey(p.i, 1, &p.to_r);
        if (err == DBE_OK) {
            enum sess_event ev;
            err = hear(p.r, p.to_r.data, p.to_r.len, &ev);
        }
        done = base_alloc_count() < n;
        base_fail_alloc_at(0);
        ERR(done ? DBE_OK : DBE_E_NOMEM, err);
        assert_true(n < 50);
        fake_pair_free(&p);
    }
}

/* ---- datagrams ----------------------------------------------------------------------------------------------- */

static enum sess_event datagram(struct sess *s, const uint8_t *rec, size_t len)
{
    uint8_t copy[256];
    enum sess_event ev = SESS_NEED_MORE;

    assert_true(len <= sizeof copy);
    memcpy(copy, rec, len);
    OK(hear(s, copy, len, &ev));
    return ev;
}

/* spec 5.10 */
static void test_datagrams(void **state)
{
    struct sess_config like = {.datagram = true};
    struct fake_pair p;
    enum { REC = 8 + OVERHEAD, COUNT = 100 };

    (void)state;
    open_pair(&p, &like);
    for (uint64_t i = 0; i < COUNT; i++)
        say(p.i, i, 1, &p.to_r);
    for (size_t i = 0; i < COUNT; i++) { /* in another order, each twice */
        const uint8_t *rec = p.to_r.data + i * 37 % COUNT * REC;

        assert_int_equal(datagram(p.r, rec, REC), SESS_MESSAGE);
        assert_int_equal(datagram(p.r, rec, REC), SESS_DROPPED);
    }
    assert_int_equal(p.r->stats.replays_refused, COUNT);
    base_buf_clear(&p.to_r);

    say(p.i, 1, 1, &p.to_r); /* noise costs nothing */
    for (size_t bit = 0; bit < 8 * REC; bit++) {
        p.to_r.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(datagram(p.r, p.to_r.data, REC), SESS_DROPPED);
        p.to_r.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t len = 1; len < REC; len++)
        assert_int_equal(datagram(p.r, p.to_r.data, len), SESS_DROPPED);
    uint8_t alert[HEAD + SESS_ALERT_BYTES] = {0, 0, 0, 2, SESS_REC_ALERT, [HEAD + 1] = DBE_E_CERT};
    assert_int_equal(datagram(p.i, alert, sizeof alert), SESS_DROPPED);
    assert_int_equal(datagram(p.r, p.to_r.data, REC), SESS_MESSAGE);
    fake_pair_free(&p);
}

/* spec 5.10: a rekey that is overtaken in both directions, or whose notice is lost, loses no message. */
static void test_datagram_rekey(void **state)
{
    struct sess_config like = {.datagram = true};
    struct fake_pair p;
    enum { REC = 8 + OVERHEAD };

    (void)state;
    for (int lost = 0; lost < 2; lost++) {
        open_pair(&p, &like);
        say(p.i, 0, 1, &p.to_r);
        OK(sess_rekey(p.i, 1, &p.to_r));
        say(p.i, 1, 1, &p.to_r);
        const uint8_t *old = p.to_r.data, *notice = old + REC, *new = notice + SESS_REKEY_NOTICE_BYTES;
        assert_int_equal(datagram(p.r, new, REC), SESS_MESSAGE);
        assert_int_equal(p.r->recv.epoch, SESS_FIRST_EPOCH + 1);
        if (lost == 0)
            assert_int_equal(datagram(p.r, notice, SESS_REKEY_NOTICE_BYTES), SESS_REKEYED);
        assert_int_equal(datagram(p.r, old, REC), SESS_MESSAGE);
        assert_int_equal(datagram(p.r, old, REC), SESS_DROPPED);
        assert_int_equal(datagram(p.r, new, REC), SESS_DROPPED);
        assert_int_equal(p.r->recv.epoch, SESS_FIRST_EPOCH + 1);
        base_buf_clear(&p.to_r);
        OK(sess_rekey(p.i, 1, &p.to_r)); /* and on */
        say(p.i, 2, 1, &p.to_r);
        assert_int_equal(datagram(p.r, p.to_r.data, SESS_REKEY_NOTICE_BYTES), SESS_REKEYED);
        assert_int_equal(datagram(p.r, p.to_r.data + SESS_REKEY_NOTICE_BYTES, REC), SESS_MESSAGE);
        fake_pair_free(&p);
    }
}

/* ---- the window alone ------------------------------------------------------------------------------------------ */

/* spec 5.10 */
static void test_window_table(void **state)
{
    enum { W = DBE_REPLAY_WINDOW };
    static const struct {
        uint64_t seq;
        dbe_err want;
    } steps[] = {
        {0, DBE_OK},
        {0, DBE_E_REPLAY},
        {1, DBE_OK},
        {9, DBE_OK},
        {8, DBE_OK},
        {7, DBE_OK},
        {9, DBE_E_REPLAY},
        {8, DBE_E_REPLAY},
        {W, DBE_OK},
        {W - 1, DBE_OK},
        {W - 1, DBE_E_REPLAY},
        {W - 2, DBE_OK},
        {2, DBE_OK},
        {2, DBE_E_REPLAY},
        {W + 16, DBE_OK},
        {3, DBE_E_REPLAY},
        {W + 16, DBE_E_REPLAY},
        {15, DBE_E_REPLAY},
        {16, DBE_OK},
        {20 * (uint64_t)W, DBE_OK},
        {20 * (uint64_t)W - W - 1, DBE_E_REPLAY},
        {20 * (uint64_t)W - W, DBE_OK},
        {UINT64_MAX - 1, DBE_OK},
        {UINT64_MAX - 1, DBE_E_REPLAY},
        {UINT64_MAX, DBE_E_REPLAY},
        {UINT64_MAX - 2, DBE_OK},
        {0, DBE_E_REPLAY},
    };
    struct sess_replay r = {.window = true};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(steps); i++) {
        dbe_err got = sess_replay_check(&r, steps[i].seq);
        if (got != steps[i].want)
            print_error("step %zu: seq %llu\n", i, (unsigned long long)steps[i].seq);
        assert_int_equal(got, steps[i].want);
        if (got == DBE_OK)
            sess_replay_commit(&r, steps[i].seq);
    }
}

/* Against the plain definition: a set, and a distance from the highest. */
static void test_window_model(void **state)
{
    enum { N = 6000 };
    struct sess_replay r = {.window = true};
    static bool seen[N];
    uint64_t top = 0, x = 12345;

    (void)state;
    for (unsigned i = 0; i < 40000; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        uint64_t base = (uint64_t)i * (N - 1400) / 40000, seq = base + (x >> 33) % 1400;
        bool fresh = !seen[seq] && (seq >= top || top - 1 - seq <= DBE_REPLAY_WINDOW);

        assert_int_equal(sess_replay_check(&r, seq) == DBE_OK, fresh);
        if (!fresh)
            continue;
        sess_replay_commit(&r, seq);
        seen[seq] = true;
        top = seq + 1 > top ? seq + 1 : top;
    }
}

static void test_strict(void **state)
{
    struct sess_replay r = {.window = false};

    (void)state;
    ERR(DBE_E_REPLAY, sess_replay_check(&r, 1));
    OK(sess_replay_check(&r, 0));
    sess_replay_commit(&r, 0);
    ERR(DBE_E_REPLAY, sess_replay_check(&r, 0));
    ERR(DBE_E_REPLAY, sess_replay_check(&r, 2));
    OK(sess_replay_check(&r, 1));
}

static int setup(void **state)
{
    struct dbe_diag diag = {0};

    (void)state;
    return crypto_init(&diag) == DBE_OK && fake_init(&alice, 1, 1) == DBE_OK && fake_init(&bob, 2, 1) == DBE_OK ? 0
                                                                                                                : -1;
}

static int teardown(void **state)
{
    (void)state;
    fake_fini(&alice);
    fake_fini(&bob);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_traffic),         cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_flips),           cmocka_unit_test(test_replay),
        cmocka_unit_test(test_reordered),       cmocka_unit_test(test_alert_late),
        cmocka_unit_test(test_rekey_both),      cmocka_unit_test(test_rekey_limits),
        cmocka_unit_test(test_nonce_invariant), cmocka_unit_test(test_bad_notice),
        cmocka_unit_test(test_close),           cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_rekey_nth_alloc), cmocka_unit_test(test_datagrams),
        cmocka_unit_test(test_datagram_rekey),  cmocka_unit_test(test_window_table),
        cmocka_unit_test(test_window_model),    cmocka_unit_test(test_strict),
    };
    return cmocka_run_group_tests_name("records", tests, setup, teardown);
}
