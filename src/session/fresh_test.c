/* SPDX-License-Identifier: Apache-2.0
 *
 * fresh_test.c - what two handshakes of the same two nodes have in common: nothing that was drawn for one of them.
 */
#include "base/test.h"

#include "session/two_fixture.h"

/* Messages 1 and 2 of a handshake, left in the pair's buffers. */
static void two_messages(struct fake_pair *p, struct base_buf *first)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
    enum sess_event ev;
    const uint8_t *msg;
    size_t len;

    assert_int_equal(fake_pair_new(p, &ci, &cr), DBE_OK);
    assert_int_equal(sess_start(p->i, &p->to_r), DBE_OK);
    base_buf_init(first, DBE_HANDSHAKE_MAX_BYTES);
    base_buf_bytes(first, p->to_r.data, p->to_r.len);
    assert_int_equal(fake_step(p->r, &p->to_r, &p->to_i, &ev, &msg, &len), DBE_OK);
}

/* spec 6.3: nonces, ECDH values, KEM keys and ciphertexts are made afresh. */
static void everything_is_fresh(void **state)
{
    static const size_t share = SESS_MSG1_FIXED_BYTES + 4, answer = SESS_MSG2_FIXED_BYTES;
    const size_t in_first[] = {2, share + 1, share + CRYPTO_P384_PUB_BYTES};
    const size_t in_second[] = {3, answer + 1, answer + CRYPTO_P384_PUB_BYTES};
    struct fake_pair p, q;
    struct base_buf a, b;

    (void)state;
    two_messages(&p, &a);
    two_messages(&q, &b);
    for (size_t i = 0; i < 3; i++) {
        assert_memory_not_equal(a.data + DBE_RECORD_HEADER_BYTES + in_first[i],
                                b.data + DBE_RECORD_HEADER_BYTES + in_first[i], 32);
        assert_memory_not_equal(p.to_i.data + DBE_RECORD_HEADER_BYTES + in_second[i],
                                q.to_i.data + DBE_RECORD_HEADER_BYTES + in_second[i], 32);
    }
    base_buf_free(&a);
    base_buf_free(&b);
    fake_pair_free(&p);
    fake_pair_free(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(everything_is_fresh)};

    return cmocka_run_group_tests(tests, setup, teardown);
}
