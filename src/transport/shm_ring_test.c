/* SPDX-License-Identifier: Apache-2.0
 *
 * shm_ring_test.c - a ring at every size and place, full, asleep, and with every position that no honest peer has.
 */
#include "base/test.h"

#include <string.h>

#include "transport/shm_ring.h"

enum { SMALL = 64 };

struct ring {
    struct shm_dir dir;
    uint8_t guard_before[SMALL], data[SMALL], guard_after[SMALL];
    struct shm_writer w;
    struct shm_reader r;
};

static void ring_init(struct ring *ring, uint64_t at)
{
    memset(ring, 0, sizeof *ring);
    memset(ring->guard_before, 0xA5, SMALL);
    memset(ring->guard_after, 0xA5, SMALL);
    ring->w = (struct shm_writer){.dir = &ring->dir, .data = ring->data, .size = SMALL, .head = at, .tail = at};
    ring->r = (struct shm_reader){.dir = &ring->dir, .data = ring->data, .size = SMALL, .tail = at};
    atomic_store(&ring->dir.head, at);
    atomic_store(&ring->dir.tail, at);
}

static void guards_are_whole(const struct ring *ring)
{
    for (size_t i = 0; i < SMALL; i++)
        assert_true(ring->guard_before[i] == 0xA5 && ring->guard_after[i] == 0xA5);
}

/* Every size at every place, over the end of the ring and over the end of the positions. */
static void bytes_wrap_around_at_every_size(void **state)
{
    (void)state;
    for (size_t size = 1; size <= SMALL; size++) {
        for (uint64_t start = 0; start < SMALL; start++) {
            struct ring ring;
            uint8_t in[SMALL], out[SMALL];
            size_t n = 0;
            ring_init(&ring, UINT64_MAX - SMALL - 5 + start);
            for (unsigned round = 0; round < 5; round++) {
                for (size_t i = 0; i < size; i++)
                    in[i] = (uint8_t)(round * 31 + i + size);
                assert_int_equal(shm_write(&ring.w, in, size, &n), DBE_OK);
                assert_int_equal(n, size);
                assert_int_equal(shm_read(&ring.r, out, sizeof out, &n), DBE_OK);
                assert_int_equal(n, size);
                assert_memory_equal(in, out, size);
            }
            guards_are_whole(&ring);
        }
    }
}

static void a_full_ring_takes_nothing_and_says_when_there_is_room(void **state)
{
    struct ring ring;
    uint8_t bytes[SMALL * 2] = {0};
    size_t n = 0;

    (void)state;
    ring_init(&ring, 7);
    assert_int_equal(shm_write(&ring.w, bytes, sizeof bytes, &n), DBE_OK);
    assert_int_equal(n, SMALL);
    assert_int_equal(shm_write(&ring.w, bytes, 1, &n), DBE_OK);
    assert_int_equal(n, 0);
    assert_false(shm_writer_waits(&ring.w));
    assert_int_equal(shm_read(&ring.r, bytes, 3, &n), DBE_OK);
    assert_int_equal(n, 3);
    assert_true(shm_wake_writer(&ring.r));
    assert_false(shm_wake_writer(&ring.r)); /* once */
    assert_true(shm_writer_waits(&ring.w)); /* there is room: do not wait */
    assert_int_equal(shm_write(&ring.w, bytes, SMALL, &n), DBE_OK);
    assert_int_equal(n, 3);
}

static void who_sleeps_is_woken_once(void **state)
{
    struct ring ring;
    uint8_t byte = 1;
    size_t n = 0;

    (void)state;
    ring_init(&ring, 0);
    assert_false(shm_wake_reader(&ring.w)); /* it is awake */
    assert_false(shm_reader_sleeps(&ring.r));
    assert_int_equal(shm_write(&ring.w, &byte, 1, &n), DBE_OK);
    assert_true(shm_wake_reader(&ring.w));
    assert_false(shm_wake_reader(&ring.w));
    assert_true(shm_reader_sleeps(&ring.r)); /* there is something: do not sleep */
    shm_reader_looks(&ring.r);
    assert_false(shm_wake_reader(&ring.w));
    atomic_store(&ring.dir.gone, 1);
    assert_int_equal(shm_write(&ring.w, &byte, 1, &n), DBE_E_CLOSED);
}

static void a_wild_position_is_an_error_and_moves_nothing(void **state)
{
    static const uint64_t starts[] = {0, 1, SMALL - 1, SMALL, 1000, UINT64_MAX - 10, UINT64_MAX};
    static const uint64_t off[] = {
        SMALL + 1, SMALL * 2, 1 << 20, UINT64_C(1) << 63, UINT64_MAX - 1, UINT64_MAX - SMALL};

    (void)state;
    for (size_t s = 0; s < BASE_ARRAY_LEN(starts); s++) {
        for (size_t i = 0; i < BASE_ARRAY_LEN(off); i++) {
            struct ring ring;
            uint8_t bytes[SMALL + 1] = {0};
            size_t n = 99;
            ring_init(&ring, starts[s]);
            atomic_store(&ring.dir.head, starts[s] + off[i]);
            assert_int_equal(shm_read(&ring.r, bytes, sizeof bytes, &n), DBE_E_PROTOCOL);
            assert_true(shm_readable(&ring.r)); /* so that somebody looks, and sees that it is wild */
            assert_int_equal(n, 99);
            assert_true(ring.r.tail == starts[s]);

            if (off[i] == UINT64_MAX - 1)
                continue; /* two bytes before the head: an honest reader can be there */
            ring_init(&ring, starts[s]);
            assert_int_equal(shm_write(&ring.w, bytes, 10, &n), DBE_OK);
            atomic_store(&ring.dir.tail, starts[s] + 10 + off[i]);
            assert_int_equal(shm_write(&ring.w, bytes, SMALL, &n), DBE_E_PROTOCOL);
            assert_true(shm_writer_waits(&ring.w));
            assert_true(ring.w.head == starts[s] + 10);
            guards_are_whole(&ring);
        }
    }
}

static void a_position_that_goes_back_is_wild(void **state)
{
    struct ring ring;
    uint8_t bytes[SMALL] = {0};
    size_t n = 0;

    (void)state;
    ring_init(&ring, 100);
    assert_int_equal(shm_write(&ring.w, bytes, SMALL, &n), DBE_OK);
    atomic_store(&ring.dir.tail, 110);
    assert_int_equal(shm_write(&ring.w, bytes, SMALL, &n), DBE_OK);
    assert_int_equal(n, 10);
    atomic_store(&ring.dir.tail, 111);
    assert_int_equal(shm_write(&ring.w, bytes, SMALL, &n), DBE_OK);
    atomic_store(&ring.dir.tail, 110); /* still within a ring's length of the head, but it was further */
    assert_int_equal(shm_write(&ring.w, bytes, SMALL, &n), DBE_E_PROTOCOL);
    ring.r.tail = 111;
    assert_int_equal(shm_read(&ring.r, bytes, 20, &n), DBE_OK);
    atomic_store(&ring.dir.head, 120);
    assert_int_equal(shm_read(&ring.r, bytes, 20, &n), DBE_E_PROTOCOL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_wrap_around_at_every_size),
        cmocka_unit_test(a_full_ring_takes_nothing_and_says_when_there_is_room),
        cmocka_unit_test(who_sleeps_is_woken_once),
        cmocka_unit_test(a_wild_position_is_an_error_and_moves_nothing),
        cmocka_unit_test(a_position_that_goes_back_is_wild),
    };
    return cmocka_run_group_tests_name("transport-shm-ring", tests, NULL, NULL);
}
