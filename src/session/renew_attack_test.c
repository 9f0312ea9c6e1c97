/* SPDX-License-Identifier: Apache-2.0
 *
 * renew_attack_test.c - what a peer or the wire may do to a handshake inside the channel (spec 7.12 to 7.16): each ends
 * in a named error or in nothing, and never in new keys.
 */
#include "session/renew_fixture.h"

/* ---- attacks --------------------------------------------------------------------------------------------------------
 * */

/* Record n of a rehandshake by the initiator is under way: messages 1 to 3, the responder's SWITCH, the initiator's.
 * Returns whom it is for. */
static int until(struct world *w, int n)
{
    world_open(w, NULL);
    OK(sess_rehandshake(w->side[I].s, two, 1, 1, to(w, I)));
    for (int k = 1; k < n; k++) {
        int side = k % 2 == 1 ? R : I;

        assert_int_equal(deliver(w, side), k < 4 ? SESS_HANDSHAKING : SESS_SWITCHED);
        flush(w, side);
    }
    return n % 2 == 1 ? R : I;
}

/* spec 5.8, 5.9: every byte of each record, changed on the wire, and nothing has moved; the right one is still taken.
 * */
static void every_byte_on_the_wire(void **state)
{
    (void)state;
    for (int n = 1; n <= 5; n++) {
        struct world w;
        int side = until(&w, n);
        struct sess *s = w.side[side].s;
        struct base_buf *in = &w.side[side].in;
        uint8_t *copy = base_alloc(in->len, 1);
        const struct sess_renew *was = s->renew;
        uint64_t next = s->recv.replay.next;

        assert_int_equal(in->data[4], n <= 3 ? SESS_REC_REHANDSHAKE : SESS_REC_SWITCH);
        for (size_t at = 5; at < in->len; at++) {
            struct sess_out out = {.event = SESS_NEED_MORE};

            memcpy(copy, in->data, in->len);
            copy[at] ^= (uint8_t)(1u << at % 8);
            ERR(DBE_E_AUTH, sess_rec_take(s, copy, in->len, &out));
            s->diag = (struct dbe_diag){0};
        }
        assert_ptr_equal(s->renew, was);
        assert_true(s->recv.replay.next == next);
        base_free(copy);
        check_talk(&w);
        assert_int_equal(w.side[I].s->stats.switches, 1);
        world_close(&w);
    }
}

/* The content of the record that is under way to `side`, which does not hear of it: to be sealed again otherwise. */
static void unseal(struct world *w, int side, struct base_buf *ret)
{
    struct sess_recv *d = &w->side[side].s->recv;
    struct base_buf *in = &w->side[side].in;
    uint8_t nonce[CRYPTO_AEAD_IV_BYTES];

    sess_nonce(d->keys.iv, d->replay.next++, nonce);
    OK(d->keys.suite->aead->open(d->keys.aead, nonce, in->data, HEAD, in->data + HEAD, in->len - HEAD,
                                 in->data + HEAD));
    base_buf_bytes(ret, in->data + HEAD, in->len - HEAD - TAG);
    base_buf_clear(in);
}

static void seal(struct world *w, int from, uint8_t type, const void *body, size_t len)
{
    uint8_t *rec = base_buf_grow(to(w, from), HEAD + len + TAG);

    assert_non_null(rec);
    OK(sess_rec_seal(w->side[from].s, type, body, len, rec));
}

/* spec 7.15, 7.16: a byte changed by a peer that seals what it likes: either it comes to nothing and both still talk,
 * or the channel ends with a named error. Never does a side switch. */
static void bytes_changed_before_the_seal(void **state)
{
    (void)state;
    for (int n = 1; n <= 3; n++) {
        size_t total = 1;

        for (size_t at = 0; at < total; at += at < HEAD + 40 ? 1 : 211) {
            struct world w;
            int hearer = until(&w, n);
            struct base_buf inner;

            base_buf_init(&inner, DBE_HANDSHAKE_MAX_BYTES);
            unseal(&w, hearer, &inner);
            total = inner.len;
            inner.data[at] ^= (uint8_t)(1u << at % 8);
            seal(&w, 1 - hearer, SESS_REC_REHANDSHAKE, inner.data, inner.len);
            base_buf_free(&inner);
            settle(&w);
            assert_int_equal(w.side[I].switched + w.side[R].switched, 0);
            if (dead(&w, I) || dead(&w, R)) {
                struct side *d = &w.side[dead(&w, I) ? I : R];
                assert_true(dbe_err_class(d->died) == DBE_CLASS_PEER || dbe_err_class(d->died) == DBE_CLASS_DROP);
                assert_true(sess_diag(d->s)->text[0] != '\0');
            } else {
                assert_true(w.side[I].refused + w.side[R].refused > 0);
                check_talk(&w);
            }
            world_close(&w);
        }
    }
}

/* spec 7.13: whoever answers must still be the node that it was. */
static void another_node(void **state)
{
    struct fake was = bob;

    (void)state;
    for (int side = 0; side < 2; side++) {
        struct world w;

        world_open(&w, NULL);
        bob.key = dave.key;
        memcpy(bob.cert, dave.cert, sizeof bob.cert);
        begin(&w, side, NULL, 0);
        settle(&w);
        bob = was;
        assert_true(dead(&w, I));
        ERR(DBE_E_AUTH, w.side[I].died);
        assert_string_equal(sess_diag(w.side[I].s)->clause, "identity");
        assert_int_equal(w.side[R].switched, 0);
        world_close(&w);
    }
}

static void distrust_ends_the_channel(void **state)
{
    static const dbe_err verdicts[] = {DBE_E_REVOKED, DBE_E_EXPIRED, DBE_E_CERT, DBE_E_DENIED, DBE_E_STATE};

    (void)state;
    for (size_t k = 0; k < BASE_ARRAY_LEN(verdicts); k++)
        for (int side = 0; side < 2; side++) {
            struct world w;

            world_open(&w, NULL);
            bob.verify_err = verdicts[k];
            begin(&w, side, two, 1);
            settle(&w);
            bob.verify_err = DBE_OK;
            assert_true(dead(&w, R));
            ERR(verdicts[k], w.side[R].died);
            assert_int_equal(w.side[I].switched + w.side[R].switched, 0);
            world_close(&w);
        }
    struct world w; /* evidence that is no longer believed */
    world_open(&w, NULL);
    alice.evidence_verdict = DBE_E_AUTH;
    begin(&w, R, two, 1);
    settle(&w);
    alice.evidence_verdict = DBE_OK;
    assert_true(dead(&w, I));
    assert_string_equal(sess_diag(w.side[I].s)->clause, "evidence");
    world_close(&w);
}

/* What an authentic peer may not say, and when. */
static void out_of_place(void **state)
{
    enum { NONE, WAIT_3, READY, SENT };
    static const struct {
        int at;        /* where the responder of the channel stands */
        uint8_t type;  /* of the sealed record */
        uint8_t inner; /* type of what is in it */
        size_t len;
        dbe_err want;
    } cases[] = {
        {NONE, SESS_REC_SWITCH, 2, 1, DBE_E_PROTOCOL},
        {NONE, SESS_REC_REHANDSHAKE, SESS_REC_MSG_2, 64, DBE_E_PROTOCOL},
        {NONE, SESS_REC_REHANDSHAKE, SESS_REC_MSG_3, 64, DBE_E_PROTOCOL},
        {NONE, SESS_REC_REHANDSHAKE, SESS_REC_ALERT, SESS_ALERT_RECORD_BYTES, DBE_E_PROTOCOL},
        {NONE, SESS_REC_REHANDSHAKE, SESS_REC_DATA, 64, DBE_E_PROTOCOL},
        {NONE, SESS_REC_REHANDSHAKE, SESS_REC_REHANDSHAKE, 64, DBE_E_PROTOCOL},
        {NONE, SESS_REC_REHANDSHAKE, 0, SESS_ALERT_RECORD_BYTES - 1, DBE_E_MALFORMED},
        {NONE, SESS_REC_REHANDSHAKE, 0, DBE_HANDSHAKE_MAX_BYTES + 1, DBE_E_TOO_LARGE},
        {NONE, SESS_REC_REHANDSHAKE, SESS_REC_MSG_1, 200, DBE_E_MALFORMED},
        {WAIT_3, SESS_REC_SWITCH, 2, 1, DBE_E_PROTOCOL},
        {WAIT_3, SESS_REC_REHANDSHAKE, SESS_REC_MSG_1, 200, DBE_E_PROTOCOL},
        {WAIT_3, SESS_REC_REHANDSHAKE, SESS_REC_ALERT, SESS_ALERT_RECORD_BYTES + 1, DBE_E_MALFORMED},
        {SENT, SESS_REC_REHANDSHAKE, SESS_REC_ALERT, SESS_ALERT_RECORD_BYTES, DBE_E_PROTOCOL},
        {SENT, SESS_REC_REHANDSHAKE, SESS_REC_MSG_1, 200, DBE_E_PROTOCOL},
        {SENT, SESS_REC_SWITCH, 3, 1, DBE_E_MALFORMED},
        {READY, SESS_REC_SWITCH, 2, 1, DBE_E_PROTOCOL},
    };
    static uint8_t body[DBE_HANDSHAKE_MAX_BYTES + 1];

    (void)state;
    for (size_t k = 0; k < BASE_ARRAY_LEN(cases); k++) {
        struct world w;

        (void)until(&w, 1);
        if (cases[k].at == NONE) {
            world_close(&w);
            world_open(&w, NULL);
        } else {
            (void)deliver(&w, R), flush(&w, R);
            if (cases[k].at >= READY)
                (void)deliver(&w, I), flush(&w, I), (void)deliver(&w, R);
            if (cases[k].at == SENT)
                flush(&w, R);
        }
        memset(body, 0, sizeof body);
        if (cases[k].len > HEAD)
            base_put_u32(body, cases[k].inner == SESS_REC_ALERT ? SESS_ALERT_BYTES : (uint32_t)(cases[k].len - HEAD));
        body[cases[k].type == SESS_REC_SWITCH ? 0 : 4] = cases[k].inner;
        seal(&w, I, cases[k].type, body, cases[k].len);
        while (w.side[R].in.len > 0 && !dead(&w, R))
            (void)deliver(&w, R);
        if (w.side[R].died != cases[k].want)
            print_error("case %zu: %s\n", k, dbe_err_name(w.side[R].died));
        ERR(cases[k].want, w.side[R].died);
        assert_null(w.side[R].s->renew);
        world_close(&w);
    }
}

/* spec 7.14: one colliding message 1 is passed over, a second is a breach. */
static void second_beginning(void **state)
{
    struct world w;
    uint8_t body[100] = {[3] = 100 - HEAD, [4] = SESS_REC_MSG_1};

    (void)state;
    world_open(&w, NULL);
    begin(&w, I, two, 1);
    for (int k = 0; k < 2; k++)
        seal(&w, R, SESS_REC_REHANDSHAKE, body, sizeof body);
    assert_int_equal(deliver(&w, I), SESS_HANDSHAKING);
    (void)deliver(&w, I);
    ERR(DBE_E_PROTOCOL, w.side[I].died);
    world_close(&w);
}

/* spec 7.12: a rehandshake of one channel is worth nothing in another one of the same two nodes. */
static void bound_to_its_channel(void **state)
{
    struct world w, v;

    (void)state;
    world_open(&w, NULL);
    world_open(&v, NULL);
    begin(&w, I, two, 1);
    begin(&v, I, two, 1);
    (void)deliver(&w, R);
    (void)deliver(&v, R);
    base_buf_clear(&v.side[R].s->renew->say); /* the answer of w in v, by a responder that seals what it likes */
    base_buf_bytes(&v.side[R].s->renew->say, w.side[R].s->renew->say.data, w.side[R].s->renew->say.len);
    flush(&v, R);
    (void)deliver(&v, I);
    ERR(DBE_E_AUTH, v.side[I].died);
    world_close(&w);
    world_close(&v);
}

/* spec 5.6: no sequence number comes back, new keys or not. */
static void nonce_invariant(void **state)
{
    struct world w;

    (void)state;
    world_open(&w, NULL);
    begin(&w, I, two, 1);
    check_talk(&w);
    w.side[I].s->send.next_seq = 0;
    ERR(DBE_E_STATE, sess_seal(w.side[I].s, "x", 1, 1, to(&w, I)));
    assert_true(dead(&w, I));
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_on_the_wire), cmocka_unit_test(bytes_changed_before_the_seal),
        cmocka_unit_test(another_node),           cmocka_unit_test(distrust_ends_the_channel),
        cmocka_unit_test(out_of_place),           cmocka_unit_test(second_beginning),
        cmocka_unit_test(bound_to_its_channel),   cmocka_unit_test(nonce_invariant),
    };
    return cmocka_run_group_tests_name("renew-attacks", tests, setup, teardown);
}
