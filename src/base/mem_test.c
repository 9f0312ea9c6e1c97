/* SPDX-License-Identifier: Apache-2.0
 *
 * mem_test.c - allocation, secret memory, randomness, clocks, errors: what a test can hold in its hand.
 */
#include "base/test.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/base.h"

static void overflow_is_no_memory(void **state)
{
    (void)state;
    assert_null(base_alloc(SIZE_MAX / 2, 3));
    assert_null(base_realloc(NULL, SIZE_MAX / 2, 3));
    assert_null(base_secret_alloc(SIZE_MAX));
}

static void the_nth_allocation_fails_once(void **state)
{
    void *a, *b, *c;

    (void)state;
    base_fail_alloc_at(2);
    a = base_alloc(1, 1);
    b = base_strdup("gone");
    c = base_secret_alloc(1);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    assert_int_equal(base_alloc_count(), 3);
    base_fail_alloc_at(0);
    base_free(a);
    base_secret_free(c, 1);
    base_secret_free(NULL, 1);
}

static void secret_memory_can_be_used(void **state)
{
    uint8_t *p = base_secret_alloc(5000);

    (void)state;
    assert_non_null(p);
    for (size_t i = 0; i < 5000; i++)
        assert_int_equal(p[i], 0);
    memset(p, 0xA5, 5000);
    base_secret_free(p, 5000);
}

static bool is_zero(const uint8_t *p, size_t len)
{
    size_t i = 0;

    while (i < len && p[i] == 0)
        i++;
    return i == len;
}

/* Slots of every size, many of them at once, freed in another order: none overlaps another, each comes zeroed. */
static void small_secrets_share_pages(void **state)
{
    enum { COUNT = 600 };
    static uint8_t *slot[COUNT];
    static size_t len[COUNT];

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            len[i] = (i * 37 + round * 11) % 1100;
            slot[i] = base_secret_alloc(len[i]);
            assert_non_null(slot[i]);
            assert_int_equal((uintptr_t)slot[i] % 64, 0);
            assert_true(is_zero(slot[i], len[i]));
            memset(slot[i], (int)(i % 255 + 1), len[i]);
        }
        for (size_t k = 0; k < COUNT; k++) {
            size_t i = k * 7 % COUNT;

            for (size_t at = 0; at < len[i]; at++)
                assert_int_equal(slot[i][at], i % 255 + 1);
            base_secret_free(slot[i], len[i]);
        }
    }
}

/* What ten thousand channels need fits into the usual limit of locked memory. */
static void ten_thousand_small_secrets(void **state)
{
    enum { COUNT = 10000, LEN = 192, PAGE = 4096 };
    static uint8_t *slot[COUNT];
    size_t pages = 0;

    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        slot[i] = base_secret_alloc(LEN);
        assert_non_null(slot[i]);
        pages += i == 0 || (uintptr_t)slot[i] / PAGE != (uintptr_t)slot[i - 1] / PAGE;
    }
    assert_true(pages * PAGE < 3 * 1024 * 1024);
    for (size_t i = 0; i < COUNT; i++)
        base_secret_free(slot[i], LEN);
}

/* A slot that is freed and taken again does not remember. */
static void secrets_are_wiped_when_freed(void **state)
{
    uint8_t *a = base_secret_alloc(100), *b;

    (void)state;
    memset(a, 0x5a, 100);
    base_secret_free(a, 100);
    b = base_secret_alloc(100);
    assert_ptr_equal(a, b);
    assert_true(is_zero(b, 100));
    base_secret_free(b, 100);
}

/* Beyond the limit of locked memory secrets can still be had, and it is counted. Whoever may lock without limit, as
 * root does, sees no failure. */
static void without_locked_memory_it_goes_on(void **state)
{
    struct rlimit was, none = {0, 0};
    uint64_t before = base_secret_unlocked_count();
    uint8_t *p;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &was), 0);
    none.rlim_max = was.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    p = base_secret_alloc(70000);
    assert_non_null(p);
    memset(p, 1, 70000);
    assert_true(mlock(&before, 1) == 0 || base_secret_unlocked_count() == before + 1);
    base_secret_free(p, 70000);
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &was), 0);
}

static void comparison_looks_at_every_byte(void **state)
{
    uint8_t a[32] = {0}, b[32] = {0};

    (void)state;
    assert_true(base_equal_ct(a, b, 32));
    for (size_t i = 0; i < 32; i++) {
        b[i] = 0x80;
        assert_false(base_equal_ct(a, b, 32));
        b[i] = 0;
    }
    assert_true(base_equal_ct(a, b, 0));
}

static void owners_free_when_the_scope_ends(void **state)
{
    int kept = -1;
    char *taken;

    (void)state;
    {
        BASE_AUTO_FREE char *text = base_strdup("text");
        BASE_AUTO_CLOSE int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        kept = fd;
        taken = BASE_TAKE(text);
        assert_null(text);
    }
    assert_string_equal(taken, "text");
    assert_int_equal(fcntl(kept, F_GETFD), -1);
    base_free(taken);
}

static void random_differs_and_can_fail(void **state)
{
    uint8_t a[32] = {0}, b[32] = {0}, zero[32] = {0}, uuid[16] = {7};

    (void)state;
    assert_int_equal(base_random(a, sizeof a), DBE_OK);
    assert_int_equal(base_random(b, sizeof b), DBE_OK);
    assert_memory_not_equal(a, b, sizeof a); /* fails by chance once in 2^256 runs */
    base_fail_random_at(1);
    assert_int_equal(base_random(a, sizeof a), DBE_E_RANDOM);
    assert_memory_equal(a, zero, sizeof a);
    base_fail_random_at(1);
    assert_int_equal(base_uuid(uuid), DBE_E_RANDOM);
    assert_int_equal(base_random_count(), 1);
    base_fail_random_at(0);
}

static uint64_t forty_two(void *ctx)
{
    return 42 + *(uint64_t *)ctx;
}

static void clocks_can_be_replaced(void **state)
{
    uint64_t plus = 1;
    struct base_clock_ops ops = {.mono_ns = forty_two, .ctx = &plus};
    uint64_t before = base_mono_ns();

    (void)state;
    assert_true(base_mono_ns() >= before);
    base_clock_set(&ops);
    assert_int_equal(base_mono_ns(), 43);
    assert_true(base_wall_ms() > UINT64_C(1600000000000)); /* that one was left alone */
    base_clock_set(NULL);
    assert_true(base_mono_ns() >= before);
}

static void errors_have_names_and_classes(void **state)
{
    struct dbe_diag diag;

    (void)state;
    assert_string_equal(dbe_err_name(DBE_E_MALFORMED), "E_MALFORMED");
    assert_int_equal(dbe_err_class(DBE_E_KINETIC), DBE_CLASS_DENY);
    assert_string_equal(dbe_err_name((dbe_err)9999), "E_UNKNOWN");
    assert_int_equal(dbe_err_class((dbe_err)9999), DBE_CLASS_FATAL);
    assert_non_null(dbe_err_text((dbe_err)9999));
    assert_int_equal(dbe_fail(NULL, DBE_E_RANGE, NULL, 0, "x"), DBE_E_RANGE);
    assert_int_equal(dbe_fail(&diag, DBE_E_RANGE, "spec 1", 5, "%300d", 1), DBE_E_RANGE);
    assert_int_equal(strlen(diag.text), sizeof diag.text - 1);
    assert_int_equal(diag.offset, 5);
}

/* A diagnostic goes into messages, which take UTF-8 alone, and to terminals, whatever of others stands in it. */
static void diagnostics_are_a_line_of_text(void **state)
{
    static const struct {
        int cut;
        const char *text, *want;
    } cases[] = {
        {200, "caf\xc3\xa9", "caf\xc3\xa9"},
        {4, "caf\xc3\xa9", "caf?"},
        {200, "\xff\x80 \xf0\x9f\x98\x80\xed\xa0\x80", "?? \xf0\x9f\x98\x80???"},
        {200, "x\xe2\x82", "x??"},
        {200, "a\x1b[2J\r\n\x7f", "a?[2J???"},
        {200, "\xc2\x9b[0m\xc2\xa0", "??[0m\xc2\xa0"},
    };
    struct dbe_diag diag;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++) {
        assert_int_equal(dbe_fail(&diag, DBE_E_RANGE, NULL, 0, "%.*s", cases[i].cut, cases[i].text), DBE_E_RANGE);
        assert_string_equal(diag.text, cases[i].want);
    }
    for (int before = 180; before < 192; before++) { /* cut by the end of the diagnostic */
        assert_int_equal(dbe_fail(&diag, DBE_E_RANGE, NULL, 0, "%*s\xf0\x9f\x98\x80\xc3\xa9", before, ""), DBE_E_RANGE);
        assert_true(base_utf8_valid(diag.text, strlen(diag.text)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overflow_is_no_memory),
        cmocka_unit_test(the_nth_allocation_fails_once),
        cmocka_unit_test(secret_memory_can_be_used),
        cmocka_unit_test(comparison_looks_at_every_byte),
        cmocka_unit_test(owners_free_when_the_scope_ends),
        cmocka_unit_test(random_differs_and_can_fail),
        cmocka_unit_test(clocks_can_be_replaced),
        cmocka_unit_test(errors_have_names_and_classes),
        cmocka_unit_test(diagnostics_are_a_line_of_text),
        cmocka_unit_test(small_secrets_share_pages),
        cmocka_unit_test(ten_thousand_small_secrets),
        cmocka_unit_test(secrets_are_wiped_when_freed),
        cmocka_unit_test(without_locked_memory_it_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
