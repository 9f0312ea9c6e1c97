/* SPDX-License-Identifier: Apache-2.0
 *
 * breaker_test.c - the breaker in virtual time: every transition, and any sequence of events against what must hold.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "devices/l7_router/breaker.h"

#define MS BASE_NS_PER_MS

static const struct breaker_config config = {.failures = 3, .open_ms = 100, .open_max_ms = 350, .probes = 2};

static void once(struct breaker *b, enum breaker_outcome outcome, uint64_t now_ns)
{
    breaker_end(b, &config, breaker_begin(b, &config, now_ns), outcome, now_ns);
}

static struct breaker opened(uint64_t now_ns)
{
    struct breaker b = {0};

    for (int i = 0; i < 3; i++)
        once(&b, BREAKER_FAILED, now_ns);
    assert_int_equal(b.state, BREAKER_OPEN);
    return b;
}

static void test_opens_after_failures_in_a_row(void **state)
{
    struct breaker b = {0};

    (void)state;
    once(&b, BREAKER_FAILED, 0);
    once(&b, BREAKER_FAILED, 0);
    once(&b, BREAKER_OK, 0); /* not in a row any more */
    once(&b, BREAKER_FAILED, 0);
    once(&b, BREAKER_UNKNOWN, 0); /* neither */
    once(&b, BREAKER_FAILED, 0);
    assert_true(breaker_allows(&b, &config, 0));
    once(&b, BREAKER_FAILED, 0);
    assert_false(breaker_allows(&b, &config, 0));
    assert_string_equal(breaker_state_name(b.state), "open");
    assert_int_equal(b.opened, 1);
}

static void test_half_open_lets_probes_pass(void **state)
{
    struct breaker b = opened(0);

    (void)state;
    assert_false(breaker_allows(&b, &config, 100 * MS - 1));
    assert_true(breaker_allows(&b, &config, 100 * MS));
    uint64_t first = breaker_begin(&b, &config, 100 * MS), second = breaker_begin(&b, &config, 100 * MS);
    assert_int_equal(b.state, BREAKER_HALF_OPEN);
    assert_false(breaker_allows(&b, &config, 100 * MS)); /* two probes are on their way */
    breaker_end(&b, &config, first, BREAKER_UNKNOWN, 101 * MS);
    assert_true(breaker_allows(&b, &config, 101 * MS)); /* it said nothing: another may go */
    breaker_end(&b, &config, second, BREAKER_OK, 102 * MS);
    assert_int_equal(b.state, BREAKER_CLOSED);
}

static void test_a_failed_probe_waits_longer_each_time(void **state)
{
    static const uint64_t waits_ms[] = {100, 200, 350, 350};
    struct breaker b = opened(0);
    uint64_t now = 0;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(waits_ms); i++) {
        assert_int_equal(b.open_for_ms, waits_ms[i]);
        assert_false(breaker_allows(&b, &config, now + waits_ms[i] * MS - 1));
        now += waits_ms[i] * MS;
        once(&b, BREAKER_FAILED, now);
    }
    now += 350 * MS;
    once(&b, BREAKER_OK, now);
    assert_int_equal(b.state, BREAKER_CLOSED);
    for (int i = 0; i < 3; i++)
        once(&b, BREAKER_FAILED, now);
    assert_int_equal(b.open_for_ms, 100); /* forgotten */
}

/* What was sent before the state changed says nothing about what came after. */
static void test_stale_ends_count_for_nothing(void **state)
{
    struct breaker b = {0};
    uint64_t tickets[8];

    (void)state;
    for (size_t i = 0; i < 8; i++)
        tickets[i] = breaker_begin(&b, &config, 0);
    for (size_t i = 0; i < 4; i++)
        breaker_end(&b, &config, tickets[i], BREAKER_FAILED, 0);
    assert_int_equal(b.opened, 1);
    breaker_end(&b, &config, tickets[4], BREAKER_OK, 0);
    assert_int_equal(b.state, BREAKER_OPEN);
    uint64_t probe = breaker_begin(&b, &config, 100 * MS);
    breaker_end(&b, &config, tickets[5], BREAKER_OK, 100 * MS);
    breaker_end(&b, &config, tickets[6], BREAKER_FAILED, 100 * MS);
    assert_int_equal(b.state, BREAKER_HALF_OPEN);
    breaker_end(&b, &config, probe, BREAKER_OK, 100 * MS);
    breaker_end(&b, &config, tickets[7], BREAKER_FAILED, 100 * MS);
    assert_int_equal(b.failures, 0);
}

static void test_failures_of_no_request(void **state)
{
    struct breaker b = {0};

    (void)state;
    for (int i = 0; i < 3; i++)
        breaker_fail(&b, &config, 0);
    assert_int_equal(b.state, BREAKER_OPEN);
    breaker_fail(&b, &config, 50 * MS); /* open already: it does not stay open longer */
    assert_true(breaker_allows(&b, &config, 100 * MS));
    (void)breaker_begin(&b, &config, 100 * MS);
    breaker_fail(&b, &config, 100 * MS);
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_int_equal(b.open_for_ms, 200);
}

/* Random events: never more probes than allowed, never open for longer than the maximum, and it always heals. */
static void test_any_sequence(void **state)
{
    uint64_t x = 88172645463325252u, tickets[16] = {0}, now = 0;
    struct breaker b = {0};
    size_t open = 0;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        now += (x >> 8) % (20 * MS);
        if (x % 3 == 0 && open < 16 && breaker_allows(&b, &config, now))
            tickets[open++] = breaker_begin(&b, &config, now);
        else if (open > 0)
            breaker_end(&b, &config, tickets[--open], (enum breaker_outcome)((x >> 40) % 3), now);
        assert_true(b.probing <= config.probes);
        assert_true(b.state == BREAKER_HALF_OPEN || b.probing == 0);
        assert_true(b.failures < config.failures);
        if (b.state == BREAKER_OPEN)
            assert_true(b.until_ns <= now + config.open_max_ms * MS);
    }
    while (open > 0)
        breaker_end(&b, &config, tickets[--open], BREAKER_UNKNOWN, now);
    assert_true(breaker_allows(&b, &config, now + config.open_max_ms * MS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_after_failures_in_a_row),
        cmocka_unit_test(test_half_open_lets_probes_pass),
        cmocka_unit_test(test_a_failed_probe_waits_longer_each_time),
        cmocka_unit_test(test_stale_ends_count_for_nothing),
        cmocka_unit_test(test_failures_of_no_request),
        cmocka_unit_test(test_any_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
