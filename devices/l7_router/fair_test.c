/* SPDX-License-Identifier: Apache-2.0
 *
 * fair_test.c - turns between tenants, bounds, and random use against a plain model; shares and the pace beside it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "devices/l7_router/fair.h"
#include "devices/l7_router/pace.h"
#include "devices/l7_router/share.h"

enum { ENTRIES = 32 };

static struct fair_queue q;
static struct fair_entry e[ENTRIES];

static int set_up(void **state)
{
    (void)state;
    memset(&q, 0, sizeof q);
    memset(e, 0, sizeof e);
    return 0;
}

static dbe_err push(size_t max, const char *tenant, size_t i, struct fair_entry **evicted)
{
    struct fair_entry *gone = NULL;
    dbe_err err = fair_push(&q, max, tenant, &e[i], &gone);

    if (evicted != NULL)
        *evicted = gone;
    else
        assert_null(gone);
    return err;
}

static bool everybody(const void *ctx, const char *tenant)
{
    (void)ctx;
    return tenant[0] != '\0';
}

static bool all_but(const void *ctx, const char *tenant)
{
    return strcmp(ctx, tenant) != 0;
}

static struct fair_entry *pop_but(const char *tenant)
{
    struct fair_entry *next = fair_next(&q, tenant != NULL ? all_but : everybody, tenant);

    if (next != NULL)
        fair_take(&q, next);
    return next;
}

static struct fair_entry *pop(void)
{
    return pop_but(NULL);
}

static void test_turns(void **state)
{
    static const size_t order[] = {0, 3, 5, 1, 4, 2};

    (void)state;
    assert_null(pop());
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(push(9, "many", i, NULL), DBE_OK);
    for (size_t i = 3; i < 5; i++)
        assert_int_equal(push(9, "two", i, NULL), DBE_OK);
    assert_int_equal(push(9, "one", 5, NULL), DBE_OK);
    assert_ptr_equal(q.oldest, &e[0]);
    for (size_t i = 0; i < BASE_ARRAY_LEN(order); i++)
        assert_ptr_equal(pop(), &e[order[i]]);
    assert_null(pop());
    assert_int_equal(q.count, 0);
}

/* A tenant that fills the queue does not keep others out of it: its newest goes. */
static void test_full(void **state)
{
    struct fair_entry *evicted;

    (void)state;
    assert_int_equal(push(0, "a", 0, NULL), DBE_E_LIMIT);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(push(4, "a", i, NULL), DBE_OK);
    assert_int_equal(push(4, "a", 4, &evicted), DBE_E_LIMIT); /* the newest is the one that comes */
    assert_int_equal(push(4, "b", 5, &evicted), DBE_OK);
    assert_ptr_equal(evicted, &e[3]);
    assert_int_equal(push(4, "b", 6, &evicted), DBE_OK);
    assert_ptr_equal(evicted, &e[2]);
    assert_int_equal(push(4, "b", 7, &evicted), DBE_E_LIMIT); /* two each: that is fair */
    assert_int_equal(push(4, "c", 8, &evicted), DBE_OK);
    assert_non_null(evicted);
    assert_int_equal(q.count, 4);
}

static void test_tenants_are_bounded(void **state)
{
    static struct fair_entry many[FAIR_TENANTS_MAX + 1];
    struct fair_entry *evicted;
    char name[16];

    (void)state;
    for (size_t i = 0; i < FAIR_TENANTS_MAX; i++) {
        (void)snprintf(name, sizeof name, "t%zu", i);
        assert_int_equal(fair_push(&q, 1000, name, &many[i], &evicted), DBE_OK);
    }
    assert_int_equal(fair_push(&q, 1000, "one more", &many[FAIR_TENANTS_MAX], &evicted), DBE_E_LIMIT);
    fair_remove(&q, &many[7]);
    assert_int_equal(fair_push(&q, 1000, "one more", &many[FAIR_TENANTS_MAX], &evicted), DBE_OK);
    for (size_t i = 0; i < FAIR_TENANTS_MAX; i++)
        assert_non_null(pop());
    assert_null(pop());
}

/* Who may not go on is passed over, keeps its place in its own order, and does not stop the others. */
static void test_passed_over(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(push(9, "holds much", i, NULL), DBE_OK);
    assert_int_equal(push(9, "few", 3, NULL), DBE_OK);
    assert_int_equal(push(9, "few", 4, NULL), DBE_OK);
    assert_ptr_equal(pop_but("holds much"), &e[3]);
    assert_ptr_equal(pop_but("holds much"), &e[4]);
    assert_null(pop_but("holds much"));
    assert_int_equal(q.count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_ptr_equal(pop(), &e[i]);
}

static void test_shares(void **state)
{
    static struct share_table t;
    struct share *held[SHARE_TENANTS_MAX + 2];
    char name[16];

    (void)state;
    assert_int_equal(share_limit(32, 12), 29);
    assert_int_equal(share_limit(9, 12), 8);
    assert_int_equal(share_limit(8, 12), UINT64_MAX); /* less than one to keep */
    assert_int_equal(share_limit(0, 90), UINT64_MAX);
    assert_int_equal(share_limit(32, 0), UINT64_MAX);
    assert_int_equal(share_limit(2, 90), 1); /* never none */
    assert_true(share_limit(UINT64_MAX, 90) < UINT64_MAX / 9);
    assert_int_equal(share_held(&t, "t0"), 0);
    for (size_t i = 0; i < BASE_ARRAY_LEN(held); i++) {
        (void)snprintf(name, sizeof name, "t%zu", i);
        held[i] = share_take(&t, name);
    }
    assert_ptr_equal(share_take(&t, "t3"), held[3]);
    assert_int_equal(share_held(&t, "t3"), 2);
    assert_int_equal(share_held(&t, "t4"), 1);
    assert_ptr_equal(held[SHARE_TENANTS_MAX], held[SHARE_TENANTS_MAX + 1]); /* the rest is one tenant more */
    assert_int_equal(share_held(&t, "whoever else"), 2);
    share_give_back(held[3]);
    for (size_t i = 0; i < BASE_ARRAY_LEN(held); i++)
        share_give_back(held[i]);
    assert_int_equal(share_held(&t, "t3"), 0);
    assert_int_equal(share_held(&t, "whoever else"), 0);
}

/* Count what a walk through all lists finds; they must agree. */
static void check(const bool waits[ENTRIES])
{
    size_t expected = 0, by_age = 0, by_tenant = 0;

    for (size_t i = 0; i < ENTRIES; i++) {
        assert_int_equal(e[i].tenant != NULL, waits[i]);
        expected += waits[i];
    }
    for (const struct fair_entry *at = q.oldest; at != NULL; at = at->younger)
        by_age++;
    const struct fair_tenant *t = q.turn;
    do {
        for (const struct fair_entry *at = t != NULL ? t->head : NULL; at != NULL; at = at->next) {
            assert_ptr_equal(at->tenant, t);
            by_tenant++;
        }
        t = t != NULL ? t->next : NULL;
    } while (t != q.turn);
    assert_int_equal(by_age, expected);
    assert_int_equal(by_tenant, expected);
    assert_int_equal(q.count, expected);
}

static void test_any_sequence(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    uint64_t x = 88172645463325252u;
    bool waits[ENTRIES] = {false};

    (void)state;
    for (int n = 0; n < 100000; n++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        size_t i = (size_t)(x >> 20) % ENTRIES;
        struct fair_entry *evicted = NULL, *popped = NULL;
        if (x % 4 == 0 && waits[i]) {
            fair_remove(&q, &e[i]);
            waits[i] = false;
        } else if (x % 4 == 1 && (popped = pop()) != NULL) {
            waits[popped - e] = false;
        } else if (!waits[i] && fair_push(&q, 12, names[(x >> 40) % 5], &e[i], &evicted) == DBE_OK) {
            waits[i] = true;
            if (evicted != NULL)
                waits[evicted - e] = false;
        }
        assert_true(q.count <= 12);
        check(waits);
    }
}

/* Whoever waits with few is served as often as whoever waits with many. */
static void test_shares_are_equal(void **state)
{
    size_t served[2] = {0};

    (void)state;
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(push(99, "many", i, NULL), DBE_OK);
    assert_int_equal(push(99, "few", 16, NULL), DBE_OK);
    for (int round = 0; round < 20; round++) {
        struct fair_entry *next = pop();
        bool few = next == &e[16];
        served[few]++;
        assert_int_equal(push(99, few ? "few" : "many", (size_t)(next - e), NULL), DBE_OK); /* it asks again at once */
    }
    assert_int_equal(served[0], served[1]);
}

static void test_pace(void **state)
{
    struct pace p = {0};

    (void)state;
    assert_int_equal(pace_retry_ms(&p, 5, 2), PACE_RETRY_UNKNOWN_MS);
    pace_note(&p, -1); /* no time at all is no measurement */
    assert_int_equal(pace_retry_ms(&p, 5, 2), PACE_RETRY_UNKNOWN_MS);
    pace_note(&p, 400);
    assert_int_equal(pace_retry_ms(&p, 0, 1), 400);
    assert_int_equal(pace_retry_ms(&p, 3, 4), 400);
    assert_int_equal(pace_retry_ms(&p, 3, 0), 1600); /* nobody serves: as if one did */
    assert_int_equal(pace_retry_ms(&p, 0, 100), PACE_RETRY_MIN_MS);
    assert_int_equal(pace_retry_ms(&p, SIZE_MAX, 1), PACE_RETRY_MAX_MS);
    for (int i = 0; i < 100; i++)
        pace_note(&p, 1000);
    assert_in_range(pace_retry_ms(&p, 0, 1), 999, 1000); /* the newest weigh most */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_turns, set_up),
        cmocka_unit_test_setup(test_full, set_up),
        cmocka_unit_test_setup(test_tenants_are_bounded, set_up),
        cmocka_unit_test_setup(test_passed_over, set_up),
        cmocka_unit_test_setup(test_any_sequence, set_up),
        cmocka_unit_test_setup(test_shares_are_equal, set_up),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_pace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
