/* SPDX-License-Identifier: Apache-2.0
 *
 * base64_test.c - RFC 4648's vectors, every length there and back, and what is not the strict spelling.
 */
#include <stddef.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>

#include "base/base.h"

static void vectors(void **state)
{
    static const char *const rows[][2] = {{"", ""},
                                          {"f", "Zg=="},
                                          {"fo", "Zm8="},
                                          {"foo", "Zm9v"},
                                          {"foob", "Zm9vYg=="},
                                          {"fooba", "Zm9vYmE="},
                                          {"foobar", "Zm9vYmFy"}};
    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct base_buf b;
        uint8_t back[16];
        size_t len = 99;
        base_buf_init(&b, 64);
        base_base64(&b, rows[i][0], strlen(rows[i][0]));
        assert_string_equal(base_buf_cstr(&b), rows[i][1]);
        assert_int_equal(base_unbase64(rows[i][1], strlen(rows[i][1]), back, sizeof back, &len), DBE_OK);
        assert_int_equal(len, strlen(rows[i][0]));
        assert_memory_equal(back, rows[i][0], len);
        base_buf_free(&b);
    }
}

static void there_and_back(void **state)
{
    uint8_t in[97], out[97];

    (void)state;
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)(i * 37 + 250);
    for (size_t len = 0; len <= sizeof in; len++) {
        struct base_buf b;
        size_t got = 0;
        base_buf_init(&b, 256);
        base_base64(&b, in, len);
        assert_int_equal(base_unbase64((char *)b.data, b.len, out, sizeof out, &got), DBE_OK);
        assert_int_equal(got, len);
        assert_memory_equal(in, out, len);
        base_buf_free(&b);
    }
}

static void refuses(void **state)
{
    static const char *const bad[] = {
        "a", "ab", "abc", "a===", "aGl=", "aR==", "aG=k", "=AAA", "aG k", "aGk\n", "====", "aGk=aGk="};
    uint8_t out[16];
    size_t len = 77;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++)
        assert_int_equal(base_unbase64(bad[i], strlen(bad[i]), out, sizeof out, &len), DBE_E_MALFORMED);
    assert_int_equal(base_unbase64("AAAA", 4, out, 2, &len), DBE_E_TOO_LARGE);
    assert_int_equal(len, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
