/* SPDX-License-Identifier: Apache-2.0
 *
 * handshake_fixture.h - for the tests of the handshake: two sessions with a message under way between them, and what
 * must be true of one that failed.
 */
#ifndef HANDSHAKE_FIXTURE_H
#define HANDSHAKE_FIXTURE_H

#include "base/test.h"

#include "session/session_fake.h"

#define OK(expr) assert_int_equal((expr), DBE_OK)
#define ERR(err, expr) assert_int_equal((expr), (err))

enum { HEAD = DBE_RECORD_HEADER_BYTES };

static struct fake alice, bob, eve; /* eve is of another mesh */

static inline void start(struct fake_pair *p)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);

    OK(fake_pair_new(p, &ci, &cr));
}

static inline bool all_zero(const void *data, size_t len)
{
    const uint8_t *at = data;

    for (size_t i = 0; i < len; i++)
        if (at[i] != 0)
            return false;
    return true;
}

/* A session that failed holds nothing and does nothing. */
static inline void assert_dead(struct sess *s)
{
    struct base_buf out;
    uint8_t key[32], in[64] = {0};
    size_t used, len;
    enum sess_event ev;
    const uint8_t *msg;

    assert_int_equal(s->state, SESS_DEAD);
    assert_true(all_zero(s->secrets, sizeof *s->secrets));
    assert_null(s->hs);
    assert_null(s->send.keys.aead);
    assert_null(s->recv.keys.aead);
    assert_true(sess_diag(s)->text[0] != '\0');
    base_buf_init(&out, 1024);
    ERR(DBE_E_STATE, sess_seal(s, "x", 1, 1, &out));
    ERR(DBE_E_STATE, sess_rekey(s, 1, &out));
    ERR(DBE_E_STATE, sess_close(s, &out));
    ERR(DBE_E_STATE, sess_start(s, &out));
    ERR(DBE_E_STATE, sess_feed(s, in, sizeof in, &used, &ev, &msg, &len, &out));
    ERR(DBE_E_STATE, sess_channel_binding(s, key));
    ERR(DBE_E_STATE, sess_log_key(s, key));
    assert_int_equal(out.len, 0);
    base_buf_free(&out);
}

static inline dbe_err feed(struct sess *s, struct base_buf *from, struct base_buf *to)
{
    enum sess_event ev;
    const uint8_t *msg;
    size_t len;

    return fake_step(s, from, to, &ev, &msg, &len);
}

/* Message `n` (1 to 3) is under way: in to_r for 1 and 3, in to_i for 2. */
static inline struct base_buf *until(struct fake_pair *p, int n)
{
    start(p);
    OK(sess_start(p->i, &p->to_r));
    if (n >= 2)
        OK(feed(p->r, &p->to_r, &p->to_i));
    if (n >= 3)
        OK(feed(p->i, &p->to_i, &p->to_r));
    return n == 2 ? &p->to_i : &p->to_r;
}

/* Deliver all that is under way until an error or silence. Returns the first error. */
static inline dbe_err run(struct fake_pair *p)
{
    dbe_err first = DBE_OK;

    for (int turn = 0; turn < 6; turn++) {
        struct sess *s = turn % 2 == 0 ? p->r : p->i;
        struct base_buf *from = turn % 2 == 0 ? &p->to_r : &p->to_i, *to = turn % 2 == 0 ? &p->to_i : &p->to_r;

        if (from->len == 0 || s->state == SESS_DEAD)
            continue;
        dbe_err err = feed(s, from, to);
        if (err != DBE_OK)
            base_buf_clear(from);
        first = first != DBE_OK ? first : err;
    }
    return first;
}

/* The other side hears a number and no more. */
static inline void expect_alert(struct base_buf *wire, struct sess *hearer, struct base_buf *back, dbe_err code)
{
    size_t before = back->len;

    assert_int_equal(wire->len, HEAD + SESS_ALERT_BYTES);
    assert_int_equal(wire->data[4], SESS_REC_ALERT);
    ERR(code, feed(hearer, wire, back));
    assert_int_equal(back->len, before); /* an alert is not answered */
    assert_dead(hearer);
}

static inline int setup(void **state)
{
    struct dbe_diag diag = {0};

    (void)state;
    if (crypto_init(&diag) != DBE_OK || fake_init(&alice, 1, 1) != DBE_OK || fake_init(&bob, 2, 1) != DBE_OK ||
        fake_init(&eve, 3, 2) != DBE_OK)
        return -1;
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    fake_fini(&alice);
    fake_fini(&bob);
    fake_fini(&eve);
    return 0;
}

#endif
