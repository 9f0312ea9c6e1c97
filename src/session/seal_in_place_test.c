/* SPDX-License-Identifier: Apache-2.0
 *
 * seal_in_place_test.c - records sealed where their content was gathered: they open as any others do, a rekey that is
 * due goes before them, and what cannot be sealed is not left lying about.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "session/two_fixture.h"

#define OK(expr) assert_int_equal((expr), DBE_OK)
#define ERR(err, expr) assert_int_equal((expr), (err))

static void open_pair(struct fake_pair *p, uint64_t rekey_records)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);

    ci.rekey_records = rekey_records;
    OK(fake_pair_new(p, &ci, &cr));
    OK(fake_handshake(p));
    base_buf_clear(&p->to_r);
}

/* Room for a header and `len` bytes of `fill` behind whatever `out` holds; returns where the header begins. */
static size_t gather(struct base_buf *out, size_t len, uint8_t fill)
{
    const size_t at = out->len;
    uint8_t *room = base_buf_grow(out, DBE_RECORD_HEADER_BYTES + len);

    assert_non_null(room);
    memset(room + DBE_RECORD_HEADER_BYTES, fill, len);
    return at;
}

/* Everything in `from`, which must be records of `len` bytes of first, first + 1, ...; returns how many. */
static unsigned drain(struct sess *s, struct base_buf *from, size_t len, uint8_t first)
{
    struct base_buf none;
    unsigned count = 0;
    size_t at = 0, used, got;
    enum sess_event ev;
    const uint8_t *msg;

    base_buf_init(&none, 1024);
    for (; at < from->len; at += used) {
        OK(sess_feed(s, from->data + at, from->len - at, &used, &ev, &msg, &got, &none));
        assert_true(used > 0);
        if (ev != SESS_MESSAGE)
            continue;
        assert_int_equal(got, len);
        for (size_t i = 0; i < len; i++)
            assert_int_equal(msg[i], (uint8_t)(first + count));
        count++;
    }
    assert_int_equal(at, from->len);
    base_buf_clear(from);
    return count;
}

/* spec 5.5: the same record whichever way it was sealed; and records of both kinds follow each other. */
static void opens_like_any_record(void **state)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 1000, 16384, 70000};
    struct fake_pair p;
    uint8_t text[1000];

    (void)state;
    open_pair(&p, 0);
    for (size_t i = 0; i < BASE_ARRAY_LEN(sizes); i++) {
        OK(sess_seal_in_place(p.i, gather(&p.to_r, sizes[i], 9), 1, &p.to_r));
        assert_int_equal(p.to_r.len, DBE_RECORD_HEADER_BYTES + sizes[i] + DBE_RECORD_TAG_BYTES);
        assert_int_equal(drain(p.r, &p.to_r, sizes[i], 9), 1);
    }
    memset(text, 1, sizeof text);
    OK(sess_seal_in_place(p.i, gather(&p.to_r, sizeof text, 0), 1, &p.to_r));
    OK(sess_seal(p.i, text, sizeof text, 1, &p.to_r));
    OK(sess_seal_in_place(p.i, gather(&p.to_r, sizeof text, 2), 1, &p.to_r));
    assert_int_equal(drain(p.r, &p.to_r, sizeof text, 0), 3);
    struct sess_stats stats;
    sess_stats(p.i, &stats);
    assert_int_equal(stats.sealed, BASE_ARRAY_LEN(sizes) + 3);
    fake_pair_free(&p);
}

/* spec 7.8, 7.10: the notice goes before the record that is due for new keys, and nothing is lost. */
static void rekey_goes_before(void **state)
{
    struct fake_pair p;
    struct sess_stats stats;
    uint8_t sent = 0;

    (void)state;
    open_pair(&p, 3);
    for (unsigned round = 0; round < 5; round++) {
        const uint8_t first = sent;
        for (unsigned i = 0; i < 10; i++)
            OK(sess_seal_in_place(p.i, gather(&p.to_r, 300, sent++), 1, &p.to_r));
        assert_int_equal(drain(p.r, &p.to_r, 300, first), 10);
    }
    sess_stats(p.i, &stats);
    assert_true(stats.rekeys >= 20);
    fake_pair_free(&p);
}

static void without_room_all_is_as_it_was(void **state)
{
    struct fake_pair p;
    uint8_t mem[DBE_RECORD_HEADER_BYTES + 64 + DBE_RECORD_TAG_BYTES - 1];
    struct base_buf small;

    (void)state;
    open_pair(&p, 0);
    base_buf_init_fixed(&small, mem, sizeof mem);
    const size_t at = gather(&small, 64, 7);
    ERR(DBE_E_TOO_LARGE, sess_seal_in_place(p.i, at, 1, &small));
    assert_int_equal(small.len, DBE_RECORD_HEADER_BYTES + 64);
    assert_int_equal(small.err, DBE_OK);
    assert_int_equal(mem[DBE_RECORD_HEADER_BYTES], 7);
    small.len -= 1;
    OK(sess_seal_in_place(p.i, at, 1, &small)); /* no number was spent */
    assert_int_equal(drain(p.r, &small, 63, 7), 1);
    base_buf_bytes(&p.to_r, mem, DBE_RECORD_HEADER_BYTES - 1);
    ERR(DBE_E_ARGUMENT, sess_seal_in_place(p.i, 0, 1, &p.to_r));
    ERR(DBE_E_ARGUMENT, sess_seal_in_place(p.i, 100, 1, &p.to_r));
    fake_pair_free(&p);
}

/* An allocation fails in the middle of a rekey: the session is over, and what was gathered is not left in the clear. */
static void failure_leaves_nothing_in_the_clear(void **state)
{
    unsigned died = 0;

    (void)state;
    for (uint64_t n = 1; n < 100; n++) {
        struct fake_pair p;
        bool failed;

        open_pair(&p, 2);
        OK(sess_seal_in_place(p.i, gather(&p.to_r, 8, 0), 1, &p.to_r));
        void *room = base_buf_grow(&p.to_r, 512);
        assert_non_null(room);
        p.to_r.len -= 512;
        const size_t at = gather(&p.to_r, 64, 0xAB);
        base_fail_alloc_at(n);
        dbe_err err = sess_seal_in_place(p.i, at, 1, &p.to_r);
        failed = base_alloc_count() >= n;
        base_fail_alloc_at(0);
        if (err != DBE_OK) {
            died++;
            assert_true(failed);
            assert_int_equal(p.to_r.len, at);
            for (size_t i = 0; i < 64; i++)
                assert_int_not_equal(p.to_r.data[at + DBE_RECORD_HEADER_BYTES + i], 0xAB);
            ERR(DBE_E_STATE, sess_seal_in_place(p.i, at - DBE_RECORD_HEADER_BYTES, 1, &p.to_r));
        }
        fake_pair_free(&p);
        if (!failed)
            break;
    }
    assert_true(died > 0);
}

static void states_that_seal_nothing(void **state)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);
    struct fake_pair p;

    (void)state;
    OK(fake_pair_new(&p, &ci, &cr));
    ERR(DBE_E_STATE, sess_seal_in_place(p.i, gather(&p.to_r, 8, 0), 1, &p.to_r));
    base_buf_clear(&p.to_r);
    OK(fake_handshake(&p));
    base_buf_clear(&p.to_r);
    OK(sess_close(p.i, &p.to_r));
    ERR(DBE_E_CLOSED, sess_seal_in_place(p.i, gather(&p.to_r, 8, 0), 1, &p.to_r));
    fake_pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_like_any_record),
        cmocka_unit_test(rekey_goes_before),
        cmocka_unit_test(without_room_all_is_as_it_was),
        cmocka_unit_test(failure_leaves_nothing_in_the_clear),
        cmocka_unit_test(states_that_seal_nothing),
    };
    return cmocka_run_group_tests_name("seal in place", tests, setup, teardown);
}
