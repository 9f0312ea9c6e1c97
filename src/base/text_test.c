/* SPDX-License-Identifier: Apache-2.0
 *
 * text_test.c - UTF-8 against an independent decoder for every sequence of up to three bytes; tables for hex, UUIDs
 * and JSON.
 */
#include "base/test.h"

#include <string.h>

#include "base/base.h"

/* Reference: decode by arithmetic, then judge the code point. */
static bool reference_valid(const uint8_t *p, size_t len)
{
    static const uint32_t least[] = {0, 1, 0x80, 0x800, 0x10000};

    for (size_t at = 0; at < len;) {
        size_t n = p[at] < 0x80             ? 1
                   : (p[at] & 0xE0) == 0xC0 ? 2
                   : (p[at] & 0xF0) == 0xE0 ? 3
                   : (p[at] & 0xF8) == 0xF0 ? 4
                                            : 0;
        uint32_t cp = n == 1 ? p[at] : n == 0 ? 0 : p[at] & (0x7FU >> n);
        if (n == 0 || at + n > len)
            return false;
        for (size_t i = 1; i < n; i++) {
            if ((p[at + i] & 0xC0) != 0x80)
                return false;
            cp = cp << 6 | (p[at + i] & 0x3FU);
        }
        if (cp < least[n] || cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
            return false;
        at += n;
    }
    return true;
}

static void utf8_agrees_with_the_reference(void **state)
{
    (void)state;
    for (uint32_t v = 0; v < 1U << 24; v += 1) {
        uint8_t p[4] = {(uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v, 0xBF};
        if (p[0] < 0x80 && p[0] != 0 && p[0] != 'a') /* one letter stands for all of ASCII */
            continue;
        if (base_utf8_valid(p, 3) != reference_valid(p, 3) || base_utf8_valid(p, 4) != reference_valid(p, 4) ||
            base_utf8_valid(p, 2) != reference_valid(p, 2))
            fail_msg("bytes %06x", v);
    }
}

static void shown_text_steers_no_terminal(void **state)
{
    static const struct {
        const char *text, *lines, *line;
    } rows[] = {
        {"plain \xC3\xA9", "plain \xC3\xA9", "plain \xC3\xA9"},
        {"a\nb\tc\r", "a\nb\tc?", "a b c?"},
        {"\x1B[2J\x7F", "?[2J?", "?[2J?"},
        {"\xC2\x9B"
         "31m\xC2\xA0",
         "?31m\xC2\xA0", "?31m\xC2\xA0"}, /* C1's CSI; a space of another kind */
        {"\xC2", "\xC2", "\xC2"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++)
        for (int lines = 0; lines < 2; lines++) {
            struct base_buf out;
            base_buf_init(&out, 64);
            base_text_shown(&out, rows[i].text, strlen(rows[i].text), lines != 0);
            assert_string_equal(base_buf_cstr(&out), lines != 0 ? rows[i].lines : rows[i].line);
            base_buf_free(&out);
        }
}

static void utf8_at_every_place_of_a_long_text(void **state)
{
    (void)state;
    for (size_t len = 1; len < 40; len++)
        for (size_t at = 0; at < len; at++) {
            char text[40];
            memset(text, 'a', sizeof text);
            assert_true(base_utf8_valid(text, len));
            text[at] = '\0';
            assert_false(base_utf8_valid(text, len));
            text[at] = '\xFF';
            assert_false(base_utf8_valid(text, len));
            if (at + 1 < len) {
                memcpy(text + at, "\xC3\xA9", 2);
                assert_true(base_utf8_valid(text, len));
            }
        }
}

static void hex_goes_there_and_back(void **state)
{
    static const char *bad[] = {"", "0", "00112", "001122ff", "00112g", "0x1122", " 01122"};
    uint8_t bytes[3] = {0x00, 0x9A, 0xFF}, back[3] = {1, 2, 3};
    char text[7];

    (void)state;
    base_hex(bytes, 3, text);
    assert_string_equal(text, "009aff");
    assert_int_equal(base_unhex("009AfF", back, 3), DBE_OK);
    assert_memory_equal(back, bytes, 3);
    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++)
        assert_int_equal(base_unhex(bad[i], back, 3), DBE_E_MALFORMED);
    assert_memory_equal(back, bytes, 3); /* untouched */
}

static void uuids_have_version_and_variant(void **state)
{
    uint8_t uuid[16];
    char text[37];

    (void)state;
    assert_int_equal(base_uuid(uuid), DBE_OK);
    base_uuid_text(uuid, text);
    assert_int_equal(strlen(text), 36);
    assert_int_equal(text[14], '4');
    assert_non_null(strchr("89ab", text[19]));
    for (uint8_t i = 0; i < 16; i++)
        uuid[i] = i;
    base_uuid_text(uuid, text);
    assert_string_equal(text, "00010203-0405-0607-0809-0a0b0c0d0e0f");
}

static void json_strings_are_always_json(void **state)
{
    static const struct {
        const char *in;
        size_t len;
        const char *out;
    } rows[] = {
        {"", 0, "\"\""},
        {"plain", 5, "\"plain\""},
        {"\"\\/\n\r\t\b", 7, "\"\\\"\\\\/\\n\\r\\t\\u0008\""},
        {"a\0b", 3, "\"a\\u0000b\""},
        {"\xC3\xA9", 2, "\"\xC3\xA9\""},
        {"x\xFFy", 3, "\"x\xEF\xBF\xBDy\""},
        {"\xC3", 1, "\"\xEF\xBF\xBD\""},
        {"\xED\xA0\x80", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct base_buf b;
        base_buf_init(&b, 256);
        base_json_str(&b, rows[i].in, rows[i].len);
        assert_string_equal(base_buf_cstr(&b), rows[i].out);
        base_buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_agrees_with_the_reference),     cmocka_unit_test(shown_text_steers_no_terminal),
        cmocka_unit_test(utf8_at_every_place_of_a_long_text), cmocka_unit_test(hex_goes_there_and_back),
        cmocka_unit_test(uuids_have_version_and_variant),     cmocka_unit_test(json_strings_are_always_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
