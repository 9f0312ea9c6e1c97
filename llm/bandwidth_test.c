/* SPDX-License-Identifier: Apache-2.0
 *
 * bandwidth_test.c - the figure is there with any number of threads, and no memory is no crash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/base.h"
#include "llm.h"

static void any_threads(void **state)
{
    (void)state;
    assert_true(llm_read_bandwidth(1, 1) > 1e6);
    assert_true(llm_read_bandwidth(3, 1) > 1e6);
}

static void again_and_again(void **state)
{
    struct llm_reader *r;

    (void)state;
    assert_int_equal(llm_reader_new(2, &r), DBE_OK);
    for (int i = 0; i < 3; i++)
        assert_true(llm_reader_run(r, 0) > 1e6);
    llm_reader_free(r);
    llm_reader_free(NULL);
}

static void no_memory(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 4; n++) {
        base_fail_alloc_at(n);
        assert_true(llm_read_bandwidth(2, 1) == 0);
    }
    base_fail_alloc_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_threads), cmocka_unit_test(again_and_again),
                                       cmocka_unit_test(no_memory)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
