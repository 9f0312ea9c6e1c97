/* SPDX-License-Identifier: Apache-2.0
 *
 * pool_test.c - every item of every job runs once, whatever the sizes, and a job is over when llm_pool_run returns.
 */
#include "test_gguf.h"

#include <sched.h>
#include <stdatomic.h>

#include "pool.h"

enum { ITEMS_MAX = 600, JOBS = 20000 };

struct job {
    _Atomic unsigned count[ITEMS_MAX];
    size_t items;
    unsigned threads;
    atomic_bool wrong;
};

static void run(void *ctx, size_t begin, size_t end, unsigned thread)
{
    struct job *j = ctx;

    if (thread >= j->threads || end > j->items || begin >= end)
        atomic_store(&j->wrong, true);
    for (size_t i = begin; i < end && i < ITEMS_MAX; i++)
        atomic_fetch_add(&j->count[i], 1);
}

/* Two jobs in turn: a thread that is late for one must not touch the other with the wrong numbers. */
static void every_item_once(void **state)
{
    static struct job jobs[2];
    const unsigned threads = *(const unsigned *)*state;
    struct llm_pool *pool;

    assert_int_equal(llm_pool_new(threads, &pool), DBE_OK);
    assert_int_equal(llm_pool_threads(pool), threads);
    for (unsigned n = 0; n < JOBS; n++) {
        struct job *j = &jobs[n % 2];
        j->threads = threads;
        j->items = n * 31 % 7 == 0 ? ITEMS_MAX : n * 17 % 23;
        for (size_t i = 0; i < ITEMS_MAX; i++)
            atomic_store_explicit(&j->count[i], 0, memory_order_relaxed);
        llm_pool_expect(pool, n % threads, n % 3 ? jobs : NULL, n % 2 * sizeof jobs);
        llm_pool_run(pool, j->items, n % 5, run, j);
        for (size_t i = 0; i < ITEMS_MAX; i++)
            assert_int_equal(atomic_load_explicit(&j->count[i], memory_order_relaxed), i < j->items);
        assert_false(atomic_load(&j->wrong));
    }
    llm_pool_free(pool);
}

/* The first job of a pool meets threads that have seen none yet. */
static void first_jobs(void **state)
{
    enum { POOLS = 2000 };
    static struct job job;

    (void)state;
    for (unsigned n = 0; n < POOLS; n++) {
        struct llm_pool *pool;
        job.threads = 3;
        job.items = 2 + n % 20;
        for (size_t i = 0; i < ITEMS_MAX; i++)
            atomic_store(&job.count[i], 0);
        assert_int_equal(llm_pool_new(3, &pool), DBE_OK);
        for (unsigned spin = 0; spin < n % 500; spin++)
            (void)atomic_load(&job.wrong); /* meet them at different moments */
        llm_pool_run(pool, job.items, 1, run, &job);
        for (size_t i = 0; i < job.items; i++)
            assert_int_equal(atomic_load(&job.count[i]), 1);
        assert_false(atomic_load(&job.wrong));
        llm_pool_free(pool);
    }
}

static void sum_up(void *ctx, size_t begin, size_t end, unsigned thread)
{
    _Atomic uint64_t *sum = ctx;

    (void)thread;
    for (size_t i = begin; i < end; i++)
        atomic_fetch_add(sum, i);
}

/* More items than there are numbers for pieces. */
static void many_items(void **state)
{
    enum { ITEMS = 200001 };
    _Atomic uint64_t sum = 0;
    struct llm_pool *pool;

    (void)state;
    assert_int_equal(llm_pool_new(3, &pool), DBE_OK);
    llm_pool_run(pool, ITEMS, 1, sum_up, &sum);
    assert_true(atomic_load(&sum) == (uint64_t)ITEMS * (ITEMS - 1) / 2);
    llm_pool_free(pool);
}

struct slow {
    size_t which;
    _Atomic size_t done;
};

/* One item ends only when all others are done: they must not wait for its thread. */
static void run_slow(void *ctx, size_t begin, size_t end, unsigned thread)
{
    struct slow *s = ctx;

    (void)thread;
    assert_int_equal(end - begin, 1);
    while (begin == s->which && atomic_load(&s->done) != ITEMS_MAX - 1)
        sched_yield();
    atomic_fetch_add(&s->done, 1);
}

static void others_take_what_is_left(void **state)
{
    struct llm_pool *pool;

    (void)state;
    assert_int_equal(llm_pool_new(2, &pool), DBE_OK);
    for (size_t which = 0; which < ITEMS_MAX; which += 7) {
        struct slow s = {.which = which};
        llm_pool_run(pool, ITEMS_MAX, 1, run_slow, &s);
        assert_int_equal(atomic_load(&s.done), ITEMS_MAX);
    }
    llm_pool_free(pool);
}

static void no_memory_is_an_answer(void **state)
{
    struct llm_pool *pool;

    (void)state;
    base_fail_alloc_at(1);
    assert_int_equal(llm_pool_new(2, &pool), DBE_E_NOMEM);
    base_fail_alloc_at(0);
    llm_pool_free(NULL);
    assert_true(llm_pool_cpus() >= 1);
}

int main(void)
{
    static unsigned one = 1, two = 2, five = 5;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(every_item_once, &one),
        cmocka_unit_test_prestate(every_item_once, &two),
        cmocka_unit_test_prestate(every_item_once, &five),
        cmocka_unit_test(first_jobs),
        cmocka_unit_test(many_items),
        cmocka_unit_test(others_take_what_is_left),
        cmocka_unit_test(no_memory_is_an_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
