/* SPDX-License-Identifier: Apache-2.0
 *
 * aside_test.c - work beside the loop: turns, bounds, cancel in every state, errors with their words.
 */
#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "devices/l7_worker/aside.h"

enum { WAIT_S = 60, ORDER_MAX = 64 };

struct fixture {
    struct aside *aside;
    sem_t news, begun, go;
    char order[ORDER_MAX]; /* names of the pieces in the order they were done; written by the other thread alone */
    size_t done;
    int dropped;
};

struct piece {
    struct fixture *f;
    char name;
    bool held; /* it says that it has begun and waits for `go` */
    dbe_err err;
};

static void wait_for(sem_t *sem)
{
    const struct timespec until = {.tv_sec = (time_t)(base_wall_ms() / 1000 + WAIT_S)};

    while (sem_timedwait(sem, &until) != 0)
        if (errno != EINTR)
            fail_msg("nothing comes");
}

static dbe_err run(void *arg, struct dbe_diag *diag)
{
    struct piece *p = arg;

    if (p->held) {
        (void)sem_post(&p->f->begun);
        (void)sem_wait(&p->f->go);
    }
    p->f->order[p->f->done++] = p->name;
    return p->err == DBE_OK ? DBE_OK : dbe_fail(diag, p->err, NULL, 0, "piece %c is bad", p->name);
}

static void drop(void *arg)
{
    struct piece *p = arg;

    __atomic_fetch_add(&p->f->dropped, 1, __ATOMIC_SEQ_CST);
}

static void on_wake(void *ctx)
{
    (void)sem_post(&((struct fixture *)ctx)->news);
}

static void start(struct fixture *f, uint32_t queue_max)
{
    const struct aside_params params = {queue_max, on_wake, f};

    memset(f, 0, sizeof *f);
    assert_int_equal(sem_init(&f->news, 0, 0) | sem_init(&f->begun, 0, 0) | sem_init(&f->go, 0, 0), 0);
    assert_int_equal(aside_new(&params, &f->aside), DBE_OK);
}

static void stop(struct fixture *f)
{
    aside_free(f->aside);
    (void)sem_destroy(&f->news);
    (void)sem_destroy(&f->begun);
    (void)sem_destroy(&f->go);
}

static dbe_err submit(struct fixture *f, struct piece *p, const char *who, struct aside_job **ret)
{
    const struct aside_work work = {run, drop, p, who};

    p->f = f;
    return aside_submit(f->aside, &work, p, ret);
}

static dbe_err take_next(struct fixture *f, struct piece **ret, struct dbe_diag *diag)
{
    struct aside_job *job;
    void *arg = NULL;

    while ((job = aside_news(f->aside)) == NULL)
        wait_for(&f->news);
    *ret = aside_job_user(job);
    const dbe_err err = aside_take(job, &arg, diag);
    assert_ptr_equal(arg, *ret);
    return err;
}

/* Whoever brings many waits for nobody longer, and who brings one waits for one of each. */
static void test_turns(void **state)
{
    static const char *const who = "maaaabbbc";
    struct piece pieces[9];
    struct fixture f;
    struct piece *done;

    (void)state;
    start(&f, 32);
    for (size_t i = 0; i < 9; i++) {
        const char name[2] = {who[i], '\0'};
        struct aside_job *job;
        pieces[i] = (struct piece){.name = who[i], .held = i == 0};
        assert_int_equal(submit(&f, &pieces[i], name, &job), DBE_OK);
        if (i == 0)
            wait_for(&f.begun); /* the others queue up behind it */
    }
    assert_int_equal(aside_count(f.aside), 9);
    (void)sem_post(&f.go);
    for (size_t i = 0; i < 9; i++)
        assert_int_equal(take_next(&f, &done, NULL), DBE_OK);
    assert_int_equal(aside_count(f.aside), 0);
    assert_memory_equal(f.order, "mabcababa", 9);
    assert_int_equal(f.dropped, 0);
    stop(&f);
}

static void test_errors_have_words(void **state)
{
    struct piece piece = {.name = 'x', .err = DBE_E_RANGE};
    struct fixture f;
    struct aside_job *job;
    struct dbe_diag diag = {0};
    struct piece *done;

    (void)state;
    start(&f, 4);
    assert_null(aside_news(f.aside));
    assert_int_equal(submit(&f, &piece, "a", &job), DBE_OK);
    assert_int_equal(take_next(&f, &done, &diag), DBE_E_RANGE);
    assert_string_equal(diag.text, "piece x is bad");
    assert_null(aside_news(f.aside));
    stop(&f);
}

/* All places, and those of one. What is done but not fetched takes none. */
static void test_bounds(void **state)
{
    struct piece held = {.name = 'h', .held = true}, more[10];
    struct aside_job *job;
    struct fixture f;
    size_t a = 0, others = 0;

    (void)state;
    start(&f, 8);
    assert_int_equal(submit(&f, &held, "h", &job), DBE_OK);
    wait_for(&f.begun);
    for (size_t i = 0; i < 3; i++) {
        more[i] = (struct piece){.name = 'a'};
        a += submit(&f, &more[i], "a", &job) == DBE_OK;
    }
    assert_int_equal(a, 2); /* a quarter */
    for (size_t i = 3; i < 10; i++) {
        const char who[2] = {(char)('b' + (char)i), '\0'};
        more[i] = (struct piece){.name = 'o'};
        others += submit(&f, &more[i], who, &job) == DBE_OK;
    }
    assert_int_equal(others, 5);
    (void)sem_post(&f.go);
    while (aside_count(f.aside) > 0)
        wait_for(&f.news);
    more[2] = (struct piece){.name = 'z'};
    assert_int_equal(submit(&f, &more[2], "a", &job), DBE_OK);
    stop(&f);
    assert_int_equal(f.dropped, 9); /* each that was taken in; a refused one stays the caller's */
}

static void test_cancel_in_every_state(void **state)
{
    struct piece held = {.name = 'h', .held = true}, waits = {.name = 'w'}, done = {.name = 'd'};
    struct aside_job *running, *waiting, *ended;
    struct fixture f;

    (void)state;
    start(&f, 16);
    assert_int_equal(submit(&f, &done, "d", &ended), DBE_OK);
    wait_for(&f.news);
    assert_ptr_equal(aside_news(f.aside), ended);
    aside_cancel(ended);
    assert_int_equal(f.dropped, 1);
    assert_null(aside_news(f.aside));

    assert_int_equal(submit(&f, &held, "h", &running), DBE_OK);
    wait_for(&f.begun);
    assert_int_equal(submit(&f, &waits, "w", &waiting), DBE_OK);
    aside_cancel(waiting);
    assert_int_equal(f.dropped, 2);
    aside_cancel(running); /* it still runs, and nobody hears of it */
    assert_int_equal(f.dropped, 2);
    assert_int_equal(aside_count(f.aside), 0);
    (void)sem_post(&f.go);
    assert_int_equal(submit(&f, &waits, "w", &waiting), DBE_OK);
    wait_for(&f.news);
    assert_ptr_equal(aside_news(f.aside), waiting);
    assert_int_equal(f.dropped, 3);
    stop(&f);
    assert_int_equal(f.dropped, 4);
    assert_memory_equal(f.order, "dhw", 3);
}

static void test_no_memory(void **state)
{
    const struct aside_params bad = {0, on_wake, NULL}, many = {ASIDE_QUEUE_MAX + 1, on_wake, NULL};
    struct piece piece = {.name = 'p'};
    struct aside *none = NULL;
    struct aside_job *job = NULL;
    struct fixture f;

    (void)state;
    assert_int_equal(aside_new(&bad, &none), DBE_E_ARGUMENT);
    assert_int_equal(aside_new(&many, &none), DBE_E_ARGUMENT);
    aside_free(NULL);
    start(&f, 4);
    base_fail_alloc_at(1);
    assert_int_equal(submit(&f, &piece, "p", &job), DBE_E_NOMEM);
    base_fail_alloc_at(0);
    assert_null(job);
    stop(&f);
    assert_int_equal(f.dropped, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),     cmocka_unit_test(test_errors_have_words),
        cmocka_unit_test(test_bounds),    cmocka_unit_test(test_cancel_in_every_state),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
