/* SPDX-License-Identifier: Apache-2.0
 *
 * handshake_test.c - the handshake: that it works, and every way in which it must not.
 */
#include "session/handshake_fixture.h"

static void test_happy(void **state)
{
    struct fake_pair p;
    struct sess_stats stats;
    uint8_t a[32], b[32], la[32], lb[32];

    (void)state;
    start(&p);
    assert_null(sess_peer(p.i));
    assert_null(sess_suite(p.r));
    assert_true(sess_recv_max(p.r) <= DBE_HANDSHAKE_MAX_BYTES);
    ERR(DBE_E_STATE, sess_channel_binding(p.i, a));
    OK(sess_start(p.r, &p.to_i));
    assert_int_equal(p.to_i.len, 0);
    OK(fake_handshake(&p));
    assert_true(sess_is_up(p.i) && sess_is_up(p.r));
    assert_int_equal(sess_peer(p.i)->device, 2);
    assert_int_equal(sess_peer(p.r)->device, 1);
    assert_int_equal(sess_suite(p.i)->id, CRYPTO_SUITE_1);
    OK(sess_channel_binding(p.i, a));
    OK(sess_channel_binding(p.r, b));
    OK(sess_log_key(p.i, la));
    OK(sess_log_key(p.r, lb));
    assert_memory_equal(a, b, 32);
    assert_memory_equal(la, lb, 32);
    assert_memory_not_equal(a, la, 32);
    assert_memory_equal(p.i->secrets->send, p.r->secrets->recv, SESS_SECRET_BYTES);
    assert_memory_not_equal(p.i->secrets->send, p.i->secrets->recv, SESS_SECRET_BYTES);
    assert_true(p.i->hs == NULL && p.r->hs == NULL); /* spec 7.11: what the handshake knew is gone */
    assert_true(sess_recv_max(p.r) == DBE_RECORD_MAX_BYTES);
    sess_stats(p.r, &stats);
    assert_int_equal(stats.epoch_recv, SESS_FIRST_EPOCH);
    ERR(DBE_E_STATE, sess_start(p.i, &p.to_r));
    fake_pair_free(&p);
}

/* Who listens sees neither certificate; two channels of the same two nodes share no key. */
static void test_identities_hidden(void **state)
{
    struct fake_pair p;

    (void)state;
    for (int n = 1; n <= 3; n++) {
        struct base_buf *wire = until(&p, n);
        assert_null(memmem(wire->data, wire->len, alice.cert + 6, 64));
        assert_null(memmem(wire->data, wire->len, bob.cert + 6, 64));
        fake_pair_free(&p);
    }
    struct fake_pair q;
    start(&p);
    start(&q);
    OK(fake_handshake(&p));
    OK(fake_handshake(&q));
    assert_memory_not_equal(p.i->secrets->binding, q.i->secrets->binding, 32);
    assert_memory_not_equal(p.i->secrets->send, q.i->secrets->send, SESS_SECRET_BYTES);
    fake_pair_free(&p);
    fake_pair_free(&q);
}

/* One byte changed in message n: the side that n was for never comes up, and neither believes the other. */
static void flips_of(int n)
{
    struct fake_pair p;
    size_t total = until(&p, n)->len;

    fake_pair_free(&p);
    for (size_t at = 0; at < total; at += at < HEAD + 40 ? 1 : 7) {
        struct base_buf *wire = until(&p, n);

        wire->data[at] ^= (uint8_t)(1u << at % 8);
        dbe_err err = run(&p);
        if (err == DBE_OK) { /* a longer length: the rest never comes */
            assert_true(at < 4);
            assert_true(!sess_is_up(n == 2 ? p.i : p.r));
        }
        assert_false(sess_is_up(n == 3 ? p.r : p.i));
        assert_false(sess_is_up(p.r));
        fake_pair_free(&p);
    }
}

static void test_flips(void **state)
{
    (void)state;
    for (int n = 1; n <= 3; n++)
        flips_of(n);
}

static void test_truncated(void **state)
{
    struct fake_pair p;

    (void)state;
    for (int n = 1; n <= 3; n++) {
        size_t total = until(&p, n)->len;
        fake_pair_free(&p);
        for (size_t len = 0; len < total; len += len < 60 ? 1 : 331) {
            struct base_buf *wire = until(&p, n);
            struct sess *s = n == 2 ? p.i : p.r;
            uint8_t *in = base_alloc(len + 1, 1); /* its own memory, so that a read past the end is seen */
            enum sess_event ev = SESS_MESSAGE;
            const uint8_t *msg;
            size_t used = 99, msg_len;

            memcpy(in, wire->data, len);
            OK(sess_feed(s, in, len, &used, &ev, &msg, &msg_len, n == 2 ? &p.to_r : &p.to_i)); /* only not yet whole */
            assert_int_equal(used, 0);
            assert_int_equal(ev, SESS_NEED_MORE);
            if (len >= HEAD) { /* and with a length that says that it is whole */
                base_put_u32(in, (uint32_t)(len - HEAD));
                assert_int_not_equal(DBE_OK,
                                     sess_feed(s, in, len, &used, &ev, &msg, &msg_len, n == 2 ? &p.to_r : &p.to_i));
                assert_dead(s);
            }
            base_free(in);
            fake_pair_free(&p);
        }
    }
}

static void test_trailing(void **state)
{
    struct fake_pair p;

    (void)state;
    for (int n = 1; n <= 3; n++) { /* a byte more, counted in the length */
        struct base_buf *wire = until(&p, n);
        base_buf_u8(wire, 0);
        base_put_u32(wire->data, (uint32_t)(wire->len - HEAD));
        assert_int_not_equal(run(&p), DBE_OK);
        assert_dead(n == 2 ? p.i : p.r);
        fake_pair_free(&p);
    }
}

/* Lengths that no handshake needs are refused from the header, before anything of that size could be awaited. */
static void test_too_long(void **state)
{
    struct fake_pair p;

    (void)state;
    for (int n = 1; n <= 3; n++) {
        struct base_buf *wire = until(&p, n);
        struct sess *s = n == 2 ? p.i : p.r;

        wire->len = HEAD; /* the header alone has come */
        base_put_u32(wire->data, DBE_HANDSHAKE_MAX_BYTES - HEAD + 1);
        ERR(DBE_E_TOO_LARGE, feed(s, wire, n == 2 ? &p.to_r : &p.to_i));
        assert_dead(s);
        fake_pair_free(&p);
    }
}

/* spec 6.15 */
static void test_registry(void **state)
{
    struct fake_pair p;
    struct base_buf *wire = until(&p, 1);

    (void)state;
    wire->data[HEAD + 2 + SESS_NONCE_BYTES] ^= 1;
    ERR(DBE_E_REGISTRY, feed(p.r, wire, &p.to_i));
    assert_dead(p.r);
    expect_alert(&p.to_i, p.i, &p.to_r, DBE_E_REGISTRY);
    fake_pair_free(&p);
}

/* spec 6.16 */
static void test_policy_digest(void **state)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
    const struct dbe_policy_digest ours = cr.policy_digest;
    struct fake_pair p;
    char hex[2 * sizeof ours.bytes + 1];

    (void)state;
    for (size_t at = 0; at < sizeof ours.bytes; at++) { /* every byte counts, not the first few alone */
        ci.policy_digest = ours;
        ci.policy_digest.bytes[at] ^= 1;
        cr.policy_digest_before = sess_policy_none;
        OK(fake_pair_new(&p, &ci, &cr));
        OK(sess_start(p.i, &p.to_r));
        ERR(DBE_E_POLICY, feed(p.r, &p.to_r, &p.to_i));
        base_hex(ci.policy_digest.bytes, sizeof ours.bytes, hex);
        assert_non_null(strstr(sess_diag(p.r)->text, hex));
        base_hex(ours.bytes, sizeof ours.bytes, hex);
        assert_non_null(strstr(sess_diag(p.r)->text, hex));
        fake_pair_free(&p);
        cr.policy_digest_before = ci.policy_digest; /* the one before is taken, and is what both agreed about */
        OK(fake_pair_new(&p, &ci, &cr));
        assert_true(sess_same_policy(sess_policy_digest(p.i), &sess_policy_none));
        OK(fake_handshake(&p));
        assert_memory_equal(sess_policy_digest(p.i), &ci.policy_digest, sizeof ours);
        assert_memory_equal(sess_policy_digest(p.r), &ci.policy_digest, sizeof ours);
        fake_pair_free(&p);
    }
    ci.policy_digest = sess_policy_none; /* "none" is no policy that was before */
    cr.policy_digest_before = sess_policy_none;
    OK(fake_pair_new(&p, &ci, &cr));
    OK(sess_start(p.i, &p.to_r));
    ERR(DBE_E_POLICY, feed(p.r, &p.to_r, &p.to_i));
    fake_pair_free(&p);
}

/* spec 6.17 */
static void test_version(void **state)
{
    struct fake_pair p;

    (void)state;
    for (int n = 1; n <= 2; n++) {
        struct base_buf *wire = until(&p, n);
        wire->data[HEAD] = 2;
        ERR(DBE_E_UNSUPPORTED, feed(n == 1 ? p.r : p.i, wire, n == 1 ? &p.to_i : &p.to_r));
        fake_pair_free(&p);
    }
}

/* Insert `len` zero bytes as an offered suite `id` in front of the others, or of share length 0. */
static void insert_offer(struct base_buf *wire, uint16_t id, size_t share)
{
    uint8_t copy[4096];
    size_t fixed = HEAD + SESS_MSG1_FIXED_BYTES, rest = wire->len - fixed;

    assert_true(rest <= sizeof copy);
    memcpy(copy, wire->data + fixed, rest);
    assert_non_null(base_buf_grow(wire, 4 + share));
    base_put_u16(wire->data + fixed, id);
    base_put_u16(wire->data + fixed + 2, (uint16_t)share);
    memset(wire->data + fixed + 4, 0, share);
    memcpy(wire->data + fixed + 4 + share, copy, rest);
    wire->data[HEAD + 1]++;
    base_put_u32(wire->data, (uint32_t)(wire->len - HEAD));
}

/* spec 6.10 */
static void test_downgrade(void **state)
{
    struct fake_pair p;
    struct base_buf *wire = until(&p, 2);

    (void)state;
    base_put_u16(wire->data + HEAD + 1, 0x0002); /* a choice that was not offered */
    ERR(DBE_E_PROTOCOL, feed(p.i, wire, &p.to_r));
    assert_dead(p.i);
    fake_pair_free(&p);

    wire = until(&p, 1); /* the list was changed under way: an unknown suite is skipped, but not forgotten */
    insert_offer(wire, 0x7777, 10);
    OK(feed(p.r, wire, &p.to_i));
    ERR(DBE_E_AUTH, feed(p.i, &p.to_i, &p.to_r));
    assert_dead(p.i);
    fake_pair_free(&p);

    wire = until(&p, 1); /* twice the same */
    insert_offer(wire, CRYPTO_SUITE_1, 0);
    ERR(DBE_E_DUPLICATE, feed(p.r, wire, &p.to_i));
    fake_pair_free(&p);

    wire = until(&p, 1); /* spec 6.10: a share of another length than its suite's */
    base_put_u16(wire->data + HEAD + SESS_MSG1_FIXED_BYTES, CRYPTO_SUITE_2);
    ERR(DBE_E_MALFORMED, feed(p.r, wire, &p.to_i));
    assert_string_equal(sess_diag(p.r)->clause, "message 1 share");
    fake_pair_free(&p);

    wire = until(&p, 1); /* nothing in common */
    base_put_u16(wire->data + HEAD + SESS_MSG1_FIXED_BYTES, 0x7777);
    ERR(DBE_E_UNSUPPORTED, feed(p.r, wire, &p.to_i));
    expect_alert(&p.to_i, p.i, &p.to_r, DBE_E_UNSUPPORTED);
    fake_pair_free(&p);
}

/* spec 6.11 */
static void test_bad_shares(void **state)
{
    struct fake_pair p;
    struct base_buf *wire = until(&p, 1);

    (void)state;
    wire->data[HEAD + SESS_MSG1_FIXED_BYTES + 4] = 2; /* compressed point */
    ERR(DBE_E_MALFORMED, feed(p.r, wire, &p.to_i));
    fake_pair_free(&p);
    wire = until(&p, 1);
    memset(wire->data + HEAD + SESS_MSG1_FIXED_BYTES + 4 + CRYPTO_P384_PUB_BYTES, 0xff, 3); /* ek not reduced */
    ERR(DBE_E_MALFORMED, feed(p.r, wire, &p.to_i));
    assert_dead(p.r);
    fake_pair_free(&p);
    wire = until(&p, 2);
    wire->data[HEAD + SESS_MSG2_FIXED_BYTES + 5] ^= 1; /* not on the curve */
    ERR(DBE_E_MALFORMED, feed(p.i, wire, &p.to_r));
    fake_pair_free(&p);
    wire = until(&p, 2);
    wire->data[HEAD + SESS_MSG2_FIXED_BYTES + CRYPTO_P384_PUB_BYTES + 5] ^= 1; /* another ML-KEM secret, silently */
    ERR(DBE_E_AUTH, feed(p.i, wire, &p.to_r));
    fake_pair_free(&p);
}

/* spec 6.13 */
static void test_reflection(void **state)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &alice);
    struct fake_pair p;
    struct base_buf *wire;

    (void)state;
    until(&p, 1); /* our message back */
    ERR(DBE_E_PROTOCOL, feed(p.i, &p.to_r, &p.to_i));
    assert_dead(p.i);
    fake_pair_free(&p);

    OK(fake_pair_new(&p, &ci, &cr)); /* ourselves at the other end */
    OK(sess_start(p.i, &p.to_r));
    OK(feed(p.r, &p.to_r, &p.to_i));
    alice.verified = 0;
    ERR(DBE_E_AUTH, feed(p.i, &p.to_i, &p.to_r));
    assert_string_equal(sess_diag(p.i)->clause, "identity");
    assert_int_equal(alice.verified, 0);
    assert_dead(p.i);
    fake_pair_free(&p);

    wire = until(&p, 2); /* our share, our nonce */
    memcpy(wire->data + HEAD + SESS_MSG2_FIXED_BYTES, p.i->hs->ecdh_pub[0], CRYPTO_P384_PUB_BYTES);
    ERR(DBE_E_AUTH, feed(p.i, wire, &p.to_r));
    assert_string_equal(sess_diag(p.i)->clause, "message 2 share");
    fake_pair_free(&p);
    wire = until(&p, 2);
    memcpy(wire->data + HEAD + 3, p.i->hs->nonce, SESS_NONCE_BYTES);
    ERR(DBE_E_AUTH, feed(p.i, wire, &p.to_r));
    assert_string_equal(sess_diag(p.i)->clause, "message 2 nonce");
    fake_pair_free(&p);
}

/* A recorded message of another run of the same two nodes. */
static void test_recorded(void **state)
{
    struct fake_pair p, old;

    (void)state;
    for (int n = 2; n <= 3; n++) {
        struct base_buf *was = until(&old, n), *wire = until(&p, n);

        base_buf_clear(wire);
        base_buf_bytes(wire, was->data, was->len);
        ERR(DBE_E_AUTH, feed(n == 2 ? p.i : p.r, wire, n == 2 ? &p.to_r : &p.to_i));
        fake_pair_free(&p);
        fake_pair_free(&old);
    }
}

static void test_wrong_mesh(void **state)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &eve);
    struct fake_pair p;

    (void)state;
    OK(fake_pair_new(&p, &ci, &cr)); /* a foreign responder: we said nothing of ourselves */
    OK(sess_start(p.i, &p.to_r));
    OK(feed(p.r, &p.to_r, &p.to_i));
    ERR(DBE_E_CERT, feed(p.i, &p.to_i, &p.to_r));
    assert_null(sess_peer(p.i));
    expect_alert(&p.to_r, p.r, &p.to_i, DBE_E_CERT);
    fake_pair_free(&p);

    ci = fake_config(SESS_INITIATOR, &eve);
    cr = fake_config(SESS_RESPONDER, &bob);
    eve.any_mesh = true; /* a foreign initiator that takes whoever answers */
    OK(fake_pair_new(&p, &ci, &cr));
    OK(sess_start(p.i, &p.to_r));
    OK(feed(p.r, &p.to_r, &p.to_i));
    OK(feed(p.i, &p.to_i, &p.to_r));
    eve.any_mesh = false;
    ERR(DBE_E_CERT, feed(p.r, &p.to_r, &p.to_i));
    assert_null(sess_peer(p.r));
    assert_dead(p.r);
    expect_alert(&p.to_i, p.i, &p.to_r, DBE_E_CERT);
    fake_pair_free(&p);
}

/* spec 6.14: the owner's rule refuses the peer; the initiator, up already, learns of it by the alert. */
static void test_refused(void **state)
{
    struct fake_pair p;

    (void)state;
    until(&p, 3);
    assert_true(sess_is_up(p.i));
    bob.verify_err = DBE_E_REVOKED;
    ERR(DBE_E_REVOKED, feed(p.r, &p.to_r, &p.to_i));
    bob.verify_err = DBE_OK;
    assert_dead(p.r);
    assert_null(sess_peer(p.r));
    expect_alert(&p.to_i, p.i, &p.to_r, DBE_E_REVOKED);
    fake_pair_free(&p);

    until(&p, 2);
    alice.verify_err = DBE_E_NOMEM; /* a trouble of our own is not the peer's to know */
    ERR(DBE_E_NOMEM, feed(p.i, &p.to_i, &p.to_r));
    alice.verify_err = DBE_OK;
    expect_alert(&p.to_r, p.r, &p.to_i, DBE_E_CLOSED);
    fake_pair_free(&p);
}

/* spec 6.12 */
static void test_wrong_signature(void **state)
{
    struct fake_pair p;

    (void)state;
    bob.sign_with = eve.key; /* a certificate that is not one's own */
    until(&p, 2);
    bob.sign_with = NULL;
    ERR(DBE_E_AUTH, feed(p.i, &p.to_i, &p.to_r));
    assert_string_equal(sess_diag(p.i)->clause, "signature");
    fake_pair_free(&p);

    alice.sign_with = eve.key;
    until(&p, 3);
    alice.sign_with = NULL;
    ERR(DBE_E_AUTH, feed(p.r, &p.to_r, &p.to_i));
    assert_string_equal(sess_diag(p.r)->clause, "signature");
    assert_dead(p.r);
    fake_pair_free(&p);

    bob.sign_ctx = "DSMIL-DBE v1 initiator"; /* a signature of the other role */
    until(&p, 2);
    bob.sign_ctx = NULL;
    ERR(DBE_E_AUTH, feed(p.i, &p.to_i, &p.to_r));
    fake_pair_free(&p);
}

/* spec 6.12 */
static void test_wrong_confirmation(void **state)
{
    struct fake_pair p;

    (void)state;
    start(&p);
    OK(sess_start(p.i, &p.to_r));
    bob.break_mac = p.r;
    alice.verified = 0;
    OK(feed(p.r, &p.to_r, &p.to_i));
    bob.break_mac = NULL;
    ERR(DBE_E_AUTH, feed(p.i, &p.to_i, &p.to_r));
    assert_string_equal(sess_diag(p.i)->clause, "key confirmation");
    assert_int_equal(alice.verified, 0); /* cheap checks first */
    fake_pair_free(&p);
}

/* spec 6.1: every record type in every state of the handshake in which it is not the one that is due. */
static void test_out_of_state(void **state)
{
    static const uint8_t types[] = {
        0, SESS_REC_MSG_1, SESS_REC_MSG_2, SESS_REC_MSG_3, SESS_REC_DATA, SESS_REC_REKEY, SESS_REC_CLOSE, 0x7f, 0xff};
    struct fake_pair p;

    (void)state;
    for (int n = 1; n <= 3; n++)
        for (size_t t = 0; t < sizeof types; t++) {
            struct base_buf *wire = until(&p, n);
            struct sess *s = n == 2 ? p.i : p.r;

            if (types[t] != n) {
                wire->data[4] = types[t];
                ERR(DBE_E_PROTOCOL, feed(s, wire, n == 2 ? &p.to_r : &p.to_i));
                assert_dead(s);
            }
            fake_pair_free(&p);
        }
    struct fake_pair q;
    start(&q); /* before sess_start an initiator hears nothing */
    base_buf_bytes(&q.to_i, types, 1);
    ERR(DBE_E_STATE, feed(q.i, &q.to_i, &q.to_r));
    ERR(DBE_E_STATE, sess_seal(q.i, "x", 1, 1, &q.to_r));
    fake_pair_free(&q);
}

static void test_config(void **state)
{
    struct sess_config c = fake_config(SESS_INITIATOR, &alice);
    struct sess *s = NULL;

    (void)state;
    c.suites[0] = 0x7777, c.suites_count = 1;
    ERR(DBE_E_UNSUPPORTED, sess_new(&c, &s));
    c.suites[0] = c.suites[1] = CRYPTO_SUITE_1, c.suites_count = 2;
    ERR(DBE_E_DUPLICATE, sess_new(&c, &s));
    c.suites_count = DBE_SUITES_MAX + 1;
    ERR(DBE_E_ARGUMENT, sess_new(&c, &s));
    c.suites_count = 1;
    OK(sess_new(&c, &s));
    sess_free(s);
    s = NULL;
    c.auth.sign = NULL;
    ERR(DBE_E_ARGUMENT, sess_new(&c, &s));
    assert_null(s);
    sess_free(NULL);
}

/* Fail the n-th of something, for all n, over the life of two sessions. */
static void fail_all(void (*fail_at)(uint64_t), uint64_t (*count)(void), dbe_err want)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
    bool done = false;

    for (uint64_t n = 1; !done; n++) {
        struct fake_pair p;

        assert_true(n < 500);
        fail_at(n);
        dbe_err err = fake_pair_new(&p, &ci, &cr);
        if (err == DBE_OK)
            err = fake_handshake(&p);
        done = count() < n;
        fail_at(0);
        if (!done) {
            ERR(want, err);
            for (int side = 0; side < 2; side++) {
                struct sess *s = side == 0 ? p.i : p.r;
                if (s != NULL && s->state == SESS_DEAD)
                    assert_dead(s);
            }
            assert_false(p.r != NULL && sess_is_up(p.r));
        } else {
            OK(err);
            assert_true(n > 5);
        }
        fake_pair_free(&p);
    }
}

static void test_nth_alloc(void **state)
{
    (void)state;
    fail_all(base_fail_alloc_at, base_alloc_count, DBE_E_NOMEM);
}

static void test_nth_random(void **state)
{
    (void)state;
    fail_all(base_fail_random_at, base_random_count, DBE_E_RANDOM);
}

static void test_sign_fails(void **state)
{
    struct fake_pair p;

    (void)state;
    bob.sign_err = DBE_E_CRYPTO;
    start(&p);
    OK(sess_start(p.i, &p.to_r));
    ERR(DBE_E_CRYPTO, feed(p.r, &p.to_r, &p.to_i));
    bob.sign_err = DBE_OK;
    expect_alert(&p.to_i, p.i, &p.to_r, DBE_E_CLOSED); /* and nothing of a half message before it */
    fake_pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_happy),
        cmocka_unit_test(test_identities_hidden),
        cmocka_unit_test(test_flips),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_trailing),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_registry),
        cmocka_unit_test(test_policy_digest),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_downgrade),
        cmocka_unit_test(test_bad_shares),
        cmocka_unit_test(test_reflection),
        cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_wrong_mesh),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_wrong_signature),
        cmocka_unit_test(test_wrong_confirmation),
        cmocka_unit_test(test_out_of_state),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_nth_alloc),
        cmocka_unit_test(test_nth_random),
        cmocka_unit_test(test_sign_fails),
    };
    return cmocka_run_group_tests_name("handshake", tests, setup, teardown);
}
