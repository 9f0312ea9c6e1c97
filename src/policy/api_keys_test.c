/* SPDX-License-Identifier: Apache-2.0
 *
 * api_keys_test.c - files of keys, good and bad; finding a key.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "dbe/registry.h"
#include "policy/api_keys.h"

#define HASH                                                                                                           \
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff00112233445566"   \
    "778899aabbccddeeff"
#define HEAD "dsmil-api-keys 1\n"

static dbe_err read_text(const char *text, struct pol_api_key *keys, size_t cap, size_t *count, struct dbe_diag *diag)
{
    memset(diag, 0, sizeof *diag);
    return pol_api_keys_read(text, strlen(text), keys, cap, count, diag);
}

static void test_good_file(void **state)
{
    static const char text[] =
        HEAD "# people\n\nk1 " HASH " ALPHA SECRET SOC+DEV 1700000000 the build robot\nk2 " HASH " beta SECRET SOC 5\n";
    struct pol_api_key keys[4], again[4];
    struct dbe_diag diag;
    struct base_buf out;
    size_t count = 0, back = 0;

    (void)state;
    assert_int_equal(read_text(text, keys, 4, &count, &diag), DBE_OK);
    assert_int_equal(count, 2);
    assert_string_equal(keys[0].tenant, "ALPHA");
    assert_int_equal(keys[0].compartments, DBE_COMPARTMENT_SOC | DBE_COMPARTMENT_DEV);
    assert_int_equal(keys[0].classification, DBE_CLSF_SECRET);
    assert_int_equal(keys[0].created_unix, 1700000000);
    assert_string_equal(keys[0].comment, "the build robot");
    assert_string_equal(keys[1].comment, "");
    assert_int_equal(keys[0].hash[1], 0x11);

    base_buf_init(&out, 4096);
    pol_api_keys_write(keys, count, &out);
    assert_int_equal(read_text(base_buf_cstr(&out), again, 4, &back, &diag), DBE_OK);
    assert_int_equal(back, 2);
    assert_memory_equal(again[0].hash, keys[0].hash, sizeof keys[0].hash);
    assert_string_equal(again[0].comment, keys[0].comment);
    assert_int_equal(again[0].compartments, keys[0].compartments);
    base_buf_free(&out);
}

static void test_bad_files(void **state)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"", "line 1"},
        {"dsmil-api-keys 2\n", "line 1"},
        {HEAD "k1\n", "line 2: expected id"},
        {HEAD "k1  " HASH " A SECRET SOC 1\n", "line 2: expected id"},
        {HEAD "k1 " HASH "0 A SECRET SOC 1\n", "SHA3-512"},
        {HEAD "k1 0" HASH " A SECRET SOC 1\n", "SHA3-512"},
        {HEAD "k-1 " HASH " A SECRET SOC 1\n", "an id"},
        {HEAD "k1234567890123456 " HASH " A SECRET SOC 1\n", "an id"},
        {HEAD "k1 " HASH " A/B SECRET SOC 1\n", "a tenant"},
        {HEAD "k1 " HASH " A MOST_SECRET SOC 1\n", "classification"},
        {HEAD "k1 " HASH " A SECRET SOC+ 1\n", "compartments"},
        {HEAD "k1 " HASH " A SECRET SOC+KINETIC 1\n", "KINETIC"},
        {HEAD "k1 " HASH " A SECRET NONE 1\n", "compartments"},
        {HEAD "k1 " HASH " A SECRET SOC -1\n", "time"},
        {HEAD "k1 " HASH " A SECRET SOC 1 x\ty\n", "comment"},
        {HEAD "k1 " HASH " A SECRET SOC 1 \xFF\n", "comment"},
        {HEAD "k1 " HASH " A SECRET SOC 1\n\nk1 " HASH " B SECRET SOC 1\n", "line 4: the id k1 stands twice"},
    };
    struct pol_api_key keys[2];
    struct dbe_diag diag;
    size_t count = 7;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        assert_int_equal(read_text(rows[i].text, keys, 2, &count, &diag), DBE_E_CONFIG);
        if (strstr(diag.text, rows[i].says) == NULL)
            fail_msg("row %zu: %s", i, diag.text);
        assert_int_equal(count, 7); /* untouched */
    }
    assert_int_equal(pol_api_keys_read(HEAD "\0", sizeof HEAD, keys, 2, &count, &diag), DBE_E_CONFIG);
    assert_int_equal(read_text(HEAD "k1 " HASH " A SECRET SOC 1\nk2 " HASH " A SECRET SOC 1\n", keys, 1, &count, &diag),
                     DBE_E_TOO_LARGE);
    assert_int_equal(pol_api_keys_read(HEAD, POL_API_KEYS_FILE_MAX + 1, keys, 1, &count, &diag), DBE_E_TOO_LARGE);
}

static void test_new_keys_are_found(void **state)
{
    struct pol_api_key keys[3] = {0};
    char text[3][POL_API_KEY_TEXT_BYTES];

    (void)state;
    assert_int_equal(crypto_init(NULL), DBE_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pol_api_key_new(text[i], &keys[i]), DBE_OK);
    assert_string_not_equal(text[0], text[1]);
    for (size_t i = 0; i < 3; i++)
        assert_ptr_equal(pol_api_keys_find(keys, 3, text[i]), &keys[i]);
    assert_null(pol_api_keys_find(keys, 2, text[2]));
    text[0][10] ^= 1;
    assert_null(pol_api_keys_find(keys, 3, text[0]));
    assert_null(pol_api_keys_find(keys, 3, ""));
    base_fail_random_at(2);
    assert_int_equal(pol_api_key_new(text[0], &keys[0]), DBE_E_RANDOM);
    base_fail_random_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_file),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_new_keys_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
