/* SPDX-License-Identifier: Apache-2.0
 *
 * buf_test.c - buffers keep their maximum, survive a failed allocation at every place, and never run over fixed memory.
 */
#include "base/test.h"

#include <string.h>

#include "base/base.h"

static void writes_are_big_endian(void **state)
{
    static const uint8_t want[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 'a', 'b'};
    struct base_buf b;

    (void)state;
    base_buf_init(&b, 64);
    base_buf_u8(&b, 1);
    base_buf_u16(&b, 0x0203);
    base_buf_u32(&b, 0x04050607);
    base_buf_u48(&b, 0x08090A0B0C0D);
    base_buf_u64(&b, 0x0E0F101112131415);
    base_buf_str(&b, "ab");
    assert_int_equal(b.err, DBE_OK);
    assert_int_equal(b.len, sizeof want);
    assert_memory_equal(b.data, want, sizeof want);
    base_buf_consume(&b, 20);
    assert_string_equal(base_buf_cstr(&b), "\x15"
                                           "ab");
    base_buf_consume(&b, 99);
    assert_int_equal(b.len, 0);
    base_buf_free(&b);
    assert_null(b.data);
}

static void the_maximum_holds(void **state)
{
    struct base_buf b;

    (void)state;
    base_buf_init(&b, 1000);
    assert_non_null(base_buf_grow(&b, 999));
    base_buf_u16(&b, 1);
    assert_int_equal(b.err, DBE_E_TOO_LARGE);
    assert_int_equal(b.len, 999);
    base_buf_u8(&b, 1); /* it would fit, but the error sticks */
    assert_int_equal(b.len, 999);
    assert_string_equal(base_buf_cstr(&b), "");
    base_buf_clear(&b);
    assert_non_null(base_buf_grow(&b, 1000));
    b.data[999] = 'x';
    assert_int_equal(strlen(base_buf_cstr(&b) + 999), 1); /* the NUL is not counted */
    assert_null(base_buf_grow(&b, SIZE_MAX));
    base_buf_free(&b);
}

static void a_name_has_its_length_in_front(void **state)
{
    char name[257];
    struct base_buf b;

    (void)state;
    base_buf_init(&b, 1000);
    base_buf_name(&b, "ab");
    base_buf_name(&b, "");
    assert_int_equal(b.len, 4);
    assert_memory_equal(b.data, "\002ab\0", 4);
    memset(name, 'n', sizeof name);
    name[256] = '\0'; /* one more than a length can say */
    base_buf_name(&b, name);
    assert_int_equal(b.err, DBE_E_TOO_LARGE);
    assert_int_equal(b.len, 4);
    base_buf_clear(&b);
    name[255] = '\0';
    base_buf_name(&b, name);
    assert_int_equal(b.err, DBE_OK);
    assert_int_equal(b.len, 256);
    base_buf_free(&b);
}

static void fixed_memory_is_not_left(void **state)
{
    char mem[8] = "zzzzzzz";
    struct base_buf b;

    (void)state;
    base_buf_init_fixed(&b, mem, 4);
    base_buf_fmt(&b, "%s", "abcd"); /* exactly full: no room for a NUL, and none is written */
    assert_int_equal(b.err, DBE_OK);
    assert_memory_equal(mem, "abcdzzz", 8);
    assert_string_equal(base_buf_cstr(&b), "");
    assert_int_equal(b.err, DBE_E_TOO_LARGE);
    base_buf_clear(&b);
    base_buf_fmt(&b, "%d", 12345);
    assert_int_equal(b.err, DBE_E_TOO_LARGE);
    base_buf_free(&b);
    assert_memory_equal(mem, "abcdzzz", 8);
}

static void long_formats_are_whole(void **state)
{
    char text[1024];
    struct base_buf b;

    (void)state;
    memset(text, 'q', sizeof text);
    text[sizeof text - 1] = '\0';
    base_buf_init(&b, 2048);
    base_buf_fmt(&b, "<%s>", text);
    assert_int_equal(b.len, 1025);
    assert_int_equal(b.data[1024], '>');
    base_buf_fmt(&b, "%s", text);
    assert_int_equal(b.len, 2048);
    base_buf_fmt(&b, "%s", text);
    assert_int_equal(b.err, DBE_E_TOO_LARGE);
    assert_int_equal(b.len, 2048);
    base_buf_free(&b);
}

/* One small work that allocates several times. */
static dbe_err some_work(struct base_buf *b)
{
    char text[600];

    memset(text, 'w', sizeof text);
    text[sizeof text - 1] = '\0';
    base_buf_u32(b, 7);
    base_buf_bytes(b, text, 300);
    base_buf_fmt(b, "%s", text);
    base_json_str(b, text, 10);
    return b->err;
}

static void every_failed_allocation_is_reported(void **state)
{
    uint64_t nth = 0;
    dbe_err err;

    (void)state;
    do {
        struct base_buf b;
        base_buf_init(&b, 4096);
        base_fail_alloc_at(++nth);
        err = some_work(&b);
        base_fail_alloc_at(0);
        assert_true(err == DBE_OK || err == DBE_E_NOMEM);
        base_buf_free(&b);
    } while (err != DBE_OK);
    assert_true(nth > 3); /* it did fail at several places */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_are_big_endian),  cmocka_unit_test(a_name_has_its_length_in_front),
        cmocka_unit_test(the_maximum_holds),      cmocka_unit_test(fixed_memory_is_not_left),
        cmocka_unit_test(long_formats_are_whole), cmocka_unit_test(every_failed_allocation_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
