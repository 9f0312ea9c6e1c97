/* SPDX-License-Identifier: Apache-2.0
 *
 * cursor_test.c - the cursor reads big-endian and never past the end, at every length of input.
 */
#include "base/test.h"

#include "base/base.h"

static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 0xAA, 0xBB};

static void reads_in_order(void **state)
{
    struct base_cur c = base_cur_of(bytes, sizeof bytes);
    uint8_t two[2];

    (void)state;
    assert_int_equal(base_cur_u8(&c), 1);
    assert_int_equal(base_cur_u16(&c), 0x0203);
    assert_int_equal(base_cur_u32(&c), 0x04050607);
    assert_true(base_cur_u48(&c) == 0x08090A0B0C0D);
    assert_true(base_cur_u64(&c) == 0x0E0F101112131415);
    assert_int_equal(base_cur_left(&c), 2);
    assert_int_equal(base_cur_offset(&c), 21);
    assert_int_equal(base_cur_end(&c), DBE_E_MALFORMED); /* not everything was consumed */
    base_cur_copy(&c, two, 2);
    assert_int_equal(two[1], 0xBB);
    assert_int_equal(base_cur_end(&c), DBE_OK);
}

static void a_short_read_sticks(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof bytes; len++) {
        struct base_cur c = base_cur_of(len > 0 ? bytes : NULL, len);
        uint8_t rest[sizeof bytes];
        assert_null(base_cur_bytes(&c, len + 1));
        assert_false(base_cur_ok(&c));
        assert_int_equal(base_cur_offset(&c), 0);
        assert_int_equal(base_cur_u8(&c), 0); /* would fit, but what it means is lost */
        rest[0] = 9;
        base_cur_copy(&c, rest, sizeof rest);
        assert_int_equal(rest[0], 0);
        assert_int_equal(base_cur_end(&c), DBE_E_MALFORMED);
    }
}

static void a_name_ends_where_its_length_says(void **state)
{
    static const char good[] = "\003abc", nul[] = "\003a\0c", cut[] = "\004abc", empty[] = "\0";
    struct base_cur c = base_cur_of(good, 4);
    char name[4] = "zzz";

    (void)state;
    assert_true(base_cur_name(&c, name, 3));
    assert_string_equal(name, "abc");
    assert_int_equal(base_cur_end(&c), DBE_OK);
    c = base_cur_of(good, 4), assert_false(base_cur_name(&c, name, 2));
    c = base_cur_of(nul, 4), assert_false(base_cur_name(&c, name, 3));
    c = base_cur_of(cut, 4), assert_false(base_cur_name(&c, name, 3));
    c = base_cur_of(cut, 0), assert_false(base_cur_name(&c, name, 3));
    c = base_cur_of(empty, 1), assert_true(base_cur_name(&c, name, 3));
    assert_string_equal(name, "");
}

static void nothing_is_a_valid_input(void **state)
{
    struct base_cur c = base_cur_of(NULL, 0);

    (void)state;
    assert_non_null(base_cur_bytes(&c, 0));
    assert_int_equal(base_cur_end(&c), DBE_OK);
    assert_null(base_cur_bytes(&c, SIZE_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_ends_where_its_length_says),
        cmocka_unit_test(reads_in_order),
        cmocka_unit_test(a_short_read_sticks),
        cmocka_unit_test(nothing_is_a_valid_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
