/* SPDX-License-Identifier: Apache-2.0
 *
 * auth_block_test.c - which suite is chosen and with which shares, and what the auth block says: evidence, its
 * judgement, lengths that do not add up (spec 6.8, 6.10 to 6.12).
 */
#include "session/handshake_fixture.h"

/* spec 6.10: the responder's list decides, among what was offered; a default initiator offers the first suite alone. */
static void test_choice(void **state)
{
    static const struct {
        uint16_t offer[2], accept[2];
        size_t offers, accepts;
        uint16_t chosen; /* 0: none */
    } cases[] = {
        {{0}, {0}, 0, 0, 1},    {{2}, {0}, 1, 0, 2}, {{2, 1}, {0}, 2, 0, 1}, {{1, 2}, {2, 1}, 2, 2, 2},
        {{1, 2}, {2}, 2, 1, 2}, {{0}, {2}, 0, 1, 0}, {{2}, {1}, 1, 1, 0},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++) {
        struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
        struct fake_pair p;

        memcpy(ci.suites, cases[i].offer, sizeof cases[i].offer), ci.suites_count = cases[i].offers;
        memcpy(cr.suites, cases[i].accept, sizeof cases[i].accept), cr.suites_count = cases[i].accepts;
        OK(fake_pair_new(&p, &ci, &cr));
        if (cases[i].chosen == 0) {
            ERR(DBE_E_UNSUPPORTED, fake_handshake(&p));
        } else {
            OK(fake_handshake(&p));
            assert_int_equal(sess_suite(p.i)->id, cases[i].chosen);
            assert_int_equal(sess_suite(p.r)->id, cases[i].chosen);
        }
        fake_pair_free(&p);
    }
}

/* spec 6.11: X25519 values that give the secret zero. */
static void test_bad_x25519(void **state)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
    struct fake_pair p;

    (void)state;
    ci.suites[0] = CRYPTO_SUITE_2, ci.suites_count = 1;
    OK(fake_pair_new(&p, &ci, &cr));
    OK(sess_start(p.i, &p.to_r));
    memset(p.to_r.data + HEAD + SESS_MSG1_FIXED_BYTES + 4, 0, CRYPTO_X25519_BYTES);
    ERR(DBE_E_MALFORMED, feed(p.r, &p.to_r, &p.to_i));
    fake_pair_free(&p);
    OK(fake_pair_new(&p, &ci, &cr));
    OK(sess_start(p.i, &p.to_r));
    OK(feed(p.r, &p.to_r, &p.to_i));
    memset(p.to_i.data + HEAD + SESS_MSG2_FIXED_BYTES, 0, CRYPTO_X25519_BYTES);
    ERR(DBE_E_MALFORMED, feed(p.i, &p.to_i, &p.to_r));
    fake_pair_free(&p);
}

/* spec 6.8, 6.12: evidence of either side arrives whole, is bound to TH(certificate), and is judged last; none is the
 * same as an empty one. */
static void test_evidence(void **state)
{
    static uint8_t quote[SESS_EVIDENCE_MAX_BYTES];
    static const size_t sizes[] = {0, 1, 700, SESS_EVIDENCE_MAX_BYTES};
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
    struct fake_pair p;

    (void)state;
    fake_with_evidence(&ci);
    fake_with_evidence(&cr);
    quote[0] = 0x51;
    for (size_t i = 0; i < BASE_ARRAY_LEN(sizes); i++)
        for (int side = 0; side < 2; side++) {
            struct fake *prover = side == 0 ? &alice : &bob, *judge = side == 0 ? &bob : &alice;

            prover->evidence = quote, prover->evidence_len = sizes[i];
            judge->evidence_judged = 0;
            OK(fake_pair_new(&p, &ci, &cr));
            OK(fake_handshake(&p));
            assert_int_equal(judge->evidence_judged, 1);
            assert_int_equal(judge->seen_len, sizes[i]);
            assert_memory_equal(judge->seen, quote, BASE_MIN(sizes[i], sizeof judge->seen));
            assert_memory_equal(judge->th_seen, prover->th_made, CRYPTO_HASH_BYTES);
            assert_memory_not_equal(alice.th_made, bob.th_made, CRYPTO_HASH_BYTES);
            prover->evidence_len = 0;
            fake_pair_free(&p);
        }

    bob.evidence = quote, bob.evidence_len = 9; /* nobody asked for it */
    ci.auth.verify_evidence = NULL;
    OK(fake_pair_new(&p, &ci, &cr));
    OK(fake_handshake(&p));
    fake_pair_free(&p);
    bob.evidence_len = 0;
}

/* spec 6.12: evidence that the owner refuses costs the channel; evidence that cannot be made or is too long, too. */
static void test_evidence_refused(void **state)
{
    static const uint8_t quote[SESS_EVIDENCE_MAX_BYTES + 1] = {0};
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
    struct fake_pair p;

    (void)state;
    fake_with_evidence(&ci);
    fake_with_evidence(&cr);
    alice.evidence_verdict = DBE_E_AUTH;
    OK(fake_pair_new(&p, &ci, &cr));
    ERR(DBE_E_AUTH, fake_handshake(&p));
    assert_dead(p.i);
    assert_string_equal(sess_diag(p.i)->clause, "evidence");
    assert_null(sess_peer(p.i));
    fake_pair_free(&p);
    alice.evidence_verdict = DBE_OK;

    bob.evidence = quote, bob.evidence_len = sizeof quote;
    OK(fake_pair_new(&p, &ci, &cr));
    ERR(DBE_E_TOO_LARGE, fake_handshake(&p));
    expect_alert(&p.to_i, p.i, &p.to_r, DBE_E_CLOSED);
    fake_pair_free(&p);
    bob.evidence_len = 0;
    bob.evidence_err = DBE_E_UNAVAILABLE;
    OK(fake_pair_new(&p, &ci, &cr));
    ERR(DBE_E_UNAVAILABLE, fake_handshake(&p));
    expect_alert(&p.to_i, p.i, &p.to_r, DBE_E_CLOSED);
    fake_pair_free(&p);
    bob.evidence_err = DBE_OK;
}

/* spec 6.8: lengths of an auth block that do not add up, sealed by somebody who has the keys. */
static void test_block_lengths(void **state)
{
    enum { CERT = 100, BLOCK = SESS_AUTH_FIXED_BYTES + CERT };
    static const struct {
        uint16_t cert, evidence;
    } bad[] = {{0, CERT}, {CERT, 1}, {CERT + 1, 0}, {CERT - 1, 0}, {0, 0}, {0xffff, 0}, {CERT, 0xffff}};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++) {
        struct fake_pair p;
        const struct sess *with = (until(&p, 3), p.r); /* it holds the handshake keys of both directions */
        const struct crypto_aead *aead = with->suite->aead;
        struct crypto_aead_ctx *ctx = NULL;
        uint8_t rec[HEAD + BLOCK + DBE_RECORD_TAG_BYTES] = {0};
        struct sess_rec_head head = {.length = sizeof rec - HEAD, .type = SESS_REC_MSG_3};

        sess_rec_head_put(rec, &head);
        base_put_u16(rec + HEAD, bad[i].cert);
        base_put_u16(rec + HEAD + 2 + CERT, bad[i].evidence);
        OK(aead->new_ctx(with->hs->secrets->key[0], true, &ctx));
        OK(aead->seal(ctx, with->hs->secrets->iv[0], rec, HEAD, rec + HEAD, BLOCK, rec + HEAD));
        aead->free_ctx(ctx);
        base_buf_clear(&p.to_r);
        base_buf_bytes(&p.to_r, rec, sizeof rec);
        ERR(DBE_E_MALFORMED, feed(p.r, &p.to_r, &p.to_i));
        assert_string_equal(sess_diag(p.r)->clause, "auth block");
        assert_dead(p.r);
        fake_pair_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),           cmocka_unit_test(test_bad_x25519),    cmocka_unit_test(test_evidence),
        cmocka_unit_test(test_evidence_refused), cmocka_unit_test(test_block_lengths),
    };
    return cmocka_run_group_tests_name("auth-block", tests, setup, teardown);
}
