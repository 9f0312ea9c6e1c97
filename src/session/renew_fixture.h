/* SPDX-License-Identifier: Apache-2.0
 *
 * renew_fixture.h - for the tests of handshakes inside a channel: two established sessions, what is under way between
 * them, and checks that both ends agree and that every message arrived once and in order.
 */
#ifndef RENEW_FIXTURE_H
#define RENEW_FIXTURE_H

#include "base/test.h"

#include "session/session_fake.h"

#define OK(expr) assert_int_equal((expr), DBE_OK)
#define ERR(err, expr) assert_int_equal((expr), (err))

enum { HEAD = DBE_RECORD_HEADER_BYTES, TAG = DBE_RECORD_TAG_BYTES, I = 0, R = 1 };

static const uint16_t one[] = {CRYPTO_SUITE_1}, two[] = {CRYPTO_SUITE_2}, both[] = {CRYPTO_SUITE_2, CRYPTO_SUITE_1};
static struct fake alice, bob, bob_renewed, dave; /* bob_renewed: the same node with a new certificate */

/* ---- a channel and what is under way on it --------------------------------------------------------------------- */

struct side {
    struct sess *s;
    struct base_buf in; /* what comes to it */
    uint64_t said, heard, switched, refused;
    dbe_err died;
};

struct world {
    struct side side[2];
    uint8_t binding[32], log[32];
};

static inline void world_open(struct world *w, const struct sess_config *like)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
    struct fake_pair p;

    memset(w, 0, sizeof *w);
    if (like != NULL) {
        ci.rekey_records = cr.rekey_records = like->rekey_records;
        ci.datagram = cr.datagram = like->datagram;
    }
    fake_with_evidence(&ci);
    OK(fake_pair_new(&p, &ci, &cr));
    OK(fake_handshake(&p));
    w->side[I] = (struct side){.s = p.i, .in = p.to_i};
    w->side[R] = (struct side){.s = p.r, .in = p.to_r};
    base_buf_clear(&w->side[I].in);
    base_buf_clear(&w->side[R].in);
    OK(sess_channel_binding(p.i, w->binding));
    OK(sess_log_key(p.i, w->log));
}

static inline void world_close(struct world *w)
{
    for (int side = 0; side < 2; side++) {
        sess_free(w->side[side].s);
        base_buf_free(&w->side[side].in);
    }
}

static inline struct base_buf *to(struct world *w, int from)
{
    return &w->side[1 - from].in;
}

static inline void say(struct world *w, int from)
{
    uint8_t msg[8];

    base_put_u64(msg, w->side[from].said);
    OK(sess_seal(w->side[from].s, msg, sizeof msg, 1, to(w, from)));
    w->side[from].said++;
}

/* Give `side` its next record; what it opens must be the next message. */
static inline enum sess_event deliver(struct world *w, int side)
{
    struct side *d = &w->side[side];
    enum sess_event event = SESS_NEED_MORE;
    const uint8_t *msg;
    size_t used, len;
    struct base_buf none;

    base_buf_init(&none, 1024);
    d->died = sess_feed(d->s, d->in.data, d->in.len, &used, &event, &msg, &len, &none);
    assert_int_equal(none.len, 0); /* an open channel appends nothing by itself */
    base_buf_free(&none);
    if (d->died != DBE_OK)
        return SESS_NEED_MORE;
    if (event == SESS_MESSAGE) {
        assert_int_equal(len, 8);
        assert_true(base_get_u64(msg) == d->heard);
        d->heard++;
    }
    d->switched += event == SESS_SWITCHED;
    d->refused += event == SESS_REFUSED;
    base_buf_consume(&d->in, used);
    return event;
}

static inline void flush(struct world *w, int side)
{
    OK(sess_flush(w->side[side].s, 1, to(w, side)));
    assert_false(sess_owes(w->side[side].s));
}

static inline bool dead(const struct world *w, int side)
{
    return w->side[side].s->state == SESS_DEAD;
}

/* Everything that is under way or owed, until silence or death. */
static inline void settle(struct world *w)
{
    do {
        for (int side = 0; side < 2; side++) {
            while (w->side[side].in.len > 0 && !dead(w, side))
                (void)deliver(w, side);
            if (dead(w, side))
                return;
            flush(w, side);
        }
    } while (w->side[I].in.len > 0 || w->side[R].in.len > 0);
}

/* spec 7.10: both ends agree on everything and nothing was lost; what names the channel never changes. */
static inline void check_agree(struct world *w)
{
    struct sess *i = w->side[I].s, *r = w->side[R].s;
    uint8_t now[32];

    for (int side = 0; side < 2; side++) {
        assert_true(sess_is_up(w->side[side].s));
        assert_null(w->side[side].s->renew);
        assert_int_equal(w->side[side].heard, w->side[1 - side].said);
        OK(sess_channel_binding(w->side[side].s, now));
        assert_memory_equal(now, w->binding, sizeof now);
        OK(sess_log_key(w->side[side].s, now));
        assert_memory_equal(now, w->log, sizeof now);
    }
    assert_ptr_equal(sess_suite(i), sess_suite(r));
    assert_ptr_equal(i->send.keys.suite, sess_suite(i));
    assert_ptr_equal(r->send.keys.suite, sess_suite(i));
    assert_memory_equal(i->secrets->send, r->secrets->recv, SESS_SECRET_BYTES);
    assert_memory_equal(r->secrets->send, i->secrets->recv, SESS_SECRET_BYTES);
    assert_memory_not_equal(i->secrets->send, r->secrets->send, SESS_SECRET_BYTES);
    assert_int_equal(i->send.epoch, r->recv.epoch);
    assert_int_equal(r->send.epoch, i->recv.epoch);
    assert_int_equal(i->stats.switches, r->stats.switches);
    assert_int_equal(w->side[I].switched, i->stats.switches);
}

static inline void check_talk(struct world *w)
{
    for (int side = 0; side < 2; side++) {
        say(w, side);
        say(w, side);
    }
    settle(w);
    check_agree(w);
}

static inline void begin(struct world *w, int side, const uint16_t *suites, size_t count)
{
    OK(sess_rehandshake(w->side[side].s, suites, count, 1, to(w, side)));
}

static inline int setup(void **state)
{
    (void)state;
    if (crypto_init(NULL) != DBE_OK || fake_init(&alice, 1, 1) != DBE_OK || fake_init(&bob, 2, 1) != DBE_OK ||
        fake_init(&bob_renewed, 2, 1) != DBE_OK || fake_init(&dave, 3, 1) != DBE_OK)
        return -1;
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    fake_fini(&alice);
    fake_fini(&bob);
    fake_fini(&bob_renewed);
    fake_fini(&dave);
    return 0;
}

#endif
