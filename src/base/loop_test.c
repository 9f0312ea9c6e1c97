/* SPDX-License-Identifier: Apache-2.0
 *
 * loop_test.c - the loop over pipes, signals, threads and a clock that the test moves.
 */
#include "base/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"

static uint64_t now_ns = 1000;

static uint64_t test_clock(void *ctx)
{
    (void)ctx;
    return now_ns;
}

static struct dbe_loop *loop;
static int pipes[2][2];

static int setup(void **state)
{
    static const struct base_clock_ops ops = {.mono_ns = test_clock};

    (void)state;
    base_clock_set(&ops);
    return base_loop_new(&loop) == DBE_OK && pipe2(pipes[0], O_CLOEXEC | O_NONBLOCK) == 0 &&
                   pipe2(pipes[1], O_CLOEXEC | O_NONBLOCK) == 0
               ? 0
               : -1;
}

static int teardown(void **state)
{
    (void)state;
    base_loop_free(loop);
    base_clock_set(NULL);
    for (size_t i = 0; i < 4; i++)
        base_close_p(&pipes[i / 2][i % 2]);
    return 0;
}

struct seen {
    unsigned calls, events;
    char byte;
    struct base_watch *self, *other; /* to free when called */
};

static void on_fd(void *ctx, int fd, unsigned events)
{
    struct seen *s = ctx;

    s->calls++;
    s->events = events;
    if (events & BASE_LOOP_READ)
        assert_int_equal(read(fd, &s->byte, 1) >= 0, 1);
    base_watch_free(s->other);
    s->other = NULL;
    base_watch_free(s->self);
    s->self = NULL;
}

static void put(int fd)
{
    assert_int_equal(write(fd, "x", 1), 1);
}

static void a_pipe_is_seen(void **state)
{
    struct seen s = {0};
    struct base_watch *w, *again;

    (void)state;
    assert_int_equal(base_loop_watch(loop, pipes[0][0], BASE_LOOP_READ, on_fd, &s, &w), DBE_OK);
    assert_int_equal(base_loop_watch(loop, pipes[0][0], BASE_LOOP_READ, on_fd, &s, &again), DBE_E_EXISTS);
    assert_int_equal(base_loop_watch(loop, -1, BASE_LOOP_READ, on_fd, &s, &again), DBE_E_ARGUMENT);
    assert_int_equal(base_loop_turn(loop, 0), DBE_OK);
    assert_int_equal(s.calls, 0);
    put(pipes[0][1]);
    assert_int_equal(base_loop_turn(loop, -1), DBE_OK);
    assert_int_equal(s.calls, 1);
    assert_int_equal(s.byte, 'x');
    assert_int_equal(base_watch_events(w, 0), DBE_OK);
    put(pipes[0][1]);
    assert_int_equal(base_loop_turn(loop, 0), DBE_OK);
    assert_int_equal(s.calls, 1); /* not asked for */
    base_close_p(&pipes[0][1]);
    pipes[0][1] = -1;
    assert_int_equal(base_loop_turn(loop, 0), DBE_OK);
    assert_int_equal(s.events, BASE_LOOP_HANGUP); /* always reported */
    base_watch_free(w);
    assert_int_equal(base_loop_turn(loop, 0), DBE_OK);
    assert_int_equal(s.calls, 2);
}

static void a_freed_watch_is_never_called(void **state)
{
    struct seen a = {0}, b = {0};

    (void)state;
    assert_int_equal(base_loop_watch(loop, pipes[0][0], BASE_LOOP_READ, on_fd, &a, &a.self), DBE_OK);
    assert_int_equal(base_loop_watch(loop, pipes[1][0], BASE_LOOP_READ, on_fd, &b, &b.self), DBE_OK);
    a.other = b.self;
    b.other = a.self;
    put(pipes[0][1]);
    put(pipes[1][1]); /* both are in one batch; whichever comes first frees both */
    if (base_loop_turn(loop, 0) != DBE_OK)
        fail();
    assert_int_equal(a.calls + b.calls, 1);
    assert_int_equal(base_loop_turn(loop, 0), DBE_OK);
    assert_int_equal(a.calls + b.calls, 1);
}

static void a_write_end_is_ready(void **state)
{
    struct seen s = {0};
    struct base_watch *w;

    (void)state;
    assert_int_equal(base_loop_watch(loop, pipes[0][1], BASE_LOOP_WRITE, on_fd, &s, &w), DBE_OK);
    assert_int_equal(base_loop_turn(loop, -1), DBE_OK);
    assert_int_equal(s.events, BASE_LOOP_WRITE);
}

enum { TIMERS = 200 };

struct fired {
    struct base_timer *timer;
    unsigned *order, place, times;
    uint64_t again_at; /* arm again, once */
    bool free_it;
};

static void on_timer(void *ctx)
{
    struct fired *f = ctx;

    f->times++;
    if (f->order != NULL)
        f->place = ++*f->order;
    if (f->again_at != 0)
        base_timer_set(f->timer, f->again_at);
    if (f->free_it) {
        base_timer_free(f->timer);
        f->timer = NULL;
    }
}

static void timers_fire_in_order(void **state)
{
    struct fired f[TIMERS] = {0};
    unsigned order = 0, seed = 1;
    uint64_t at[TIMERS];

    (void)state;
    assert_true(base_loop_next_ns(loop) == UINT64_MAX);
    for (size_t i = 0; i < TIMERS; i++) {
        seed = seed * 1103515245U + 12345U;
        at[i] = now_ns + 1 + seed % 10000;
        f[i] = (struct fired){.order = &order, .free_it = i % 3 == 0};
        assert_int_equal(base_loop_timer(loop, on_timer, &f[i], &f[i].timer), DBE_OK);
        base_timer_set(f[i].timer, at[i] + 5000);
        base_timer_set(f[i].timer, at[i]); /* moved */
    }
    base_timer_set(f[1].timer, 0);
    now_ns += 20000;
    assert_int_equal(base_loop_next_ns(loop), 0);
    assert_int_equal(base_loop_turn(loop, -1), DBE_OK); /* does not wait: they are due */
    for (size_t i = 0; i < TIMERS; i++) {
        assert_int_equal(f[i].times, i == 1 ? 0 : 1);
        for (size_t j = 0; j < TIMERS; j++)
            if (i != 1 && j != 1 && at[i] < at[j])
                assert_true(f[i].place < f[j].place);
    }
    assert_true(base_loop_next_ns(loop) == UINT64_MAX);
}

static void a_timer_armed_for_the_past_waits_its_turn(void **state)
{
    struct fired f = {.again_at = 1}, later = {0};

    (void)state;
    assert_int_equal(base_loop_timer(loop, on_timer, &f, &f.timer), DBE_OK);
    assert_int_equal(base_loop_timer(loop, on_timer, &later, &later.timer), DBE_OK);
    base_timer_set(f.timer, now_ns);
    base_timer_set(later.timer, now_ns + 5000);
    assert_int_equal(base_loop_turn(loop, 0), DBE_OK);
    assert_true(f.times >= 1 && f.times <= 2); /* it ends, and later.timer does not fire early */
    assert_int_equal(later.times, 0);
    base_timer_free(f.timer);
    assert_true(base_loop_next_ns(loop) == 5000);
    base_timer_free(NULL);
}

static void on_signal(void *ctx, int signo)
{
    *(int *)ctx = signo;
    base_loop_stop(loop);
}

static void a_signal_comes_through_the_loop(void **state)
{
    int usr1 = 0, usr2 = 0;

    (void)state;
    assert_int_equal(base_loop_signal(loop, SIGUSR1, on_signal, &usr1), DBE_OK);
    assert_int_equal(base_loop_signal(loop, SIGUSR2, on_signal, &usr2), DBE_OK);
    assert_int_equal(base_loop_signal(loop, 0, on_signal, &usr2), DBE_E_ARGUMENT);
    assert_int_equal(raise(SIGUSR2), 0);
    assert_int_equal(base_loop_run(loop), DBE_OK);
    assert_int_equal(usr1, 0);
    assert_int_equal(usr2, SIGUSR2);
}

static void on_wake(void *ctx)
{
    ++*(unsigned *)ctx;
    base_loop_stop(loop);
}

static void *waker(void *ctx)
{
    (void)ctx;
    base_loop_wake(loop);
    return NULL;
}

static void another_thread_wakes_the_loop(void **state)
{
    unsigned woken = 0;
    pthread_t thread;

    (void)state;
    base_loop_on_wake(loop, on_wake, &woken);
    assert_int_equal(pthread_create(&thread, NULL, waker, NULL), 0);
    assert_int_equal(base_loop_run(loop), DBE_OK);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(woken, 1);
    base_loop_wake(loop);
    base_loop_wake(loop);
    assert_int_equal(base_loop_turn(loop, -1), DBE_OK);
    assert_int_equal(base_loop_turn(loop, 0), DBE_OK);
    assert_int_equal(woken, 2); /* they coalesce */
}

/* ---- hot sources ------------------------------------------------------------------------------------------------ */

struct source {
    struct base_hot hot;
    unsigned left, polls, rests; /* left: so often there is something */
    struct base_hot *cool;       /* to cool when asked */
};

static bool source_poll(void *ctx)
{
    struct source *s = ctx;

    s->polls++;
    if (s->cool != NULL)
        base_hot_cool(s->cool);
    s->cool = NULL;
    if (s->left == 0)
        return false;
    s->left--;
    return true;
}

static void source_rest(void *ctx)
{
    ((struct source *)ctx)->rests++;
}

static struct source source_of(unsigned left)
{
    return (struct source){.hot = {.poll = source_poll, .rest = source_rest}, .left = left};
}

static void make_hot(struct source *s)
{
    s->hot.ctx = s;
    base_loop_hot(loop, &s->hot);
}

static void a_hot_source_is_asked_instead_of_the_kernel(void **state)
{
    struct source s = source_of(3);

    (void)state;
    make_hot(&s);
    make_hot(&s); /* is hot already */
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(base_loop_turn(loop, -1), DBE_OK); /* would wait for ever otherwise */
        assert_int_equal(s.polls, i);
        assert_int_equal(s.rests, 0);
    }
    assert_int_equal(base_loop_turn(loop, 1), DBE_OK); /* nothing more: it is put to rest, then the loop sleeps */
    assert_int_equal(s.rests, 1);
    assert_null(s.hot.loop);
    s.left = 1;
    assert_int_equal(base_loop_turn(loop, 0), DBE_OK);
    assert_int_equal(s.left, 1); /* and not asked any more */
}

static void a_turn_that_may_not_wait_leaves_nothing_hot(void **state)
{
    struct source s = source_of(5), t = source_of(5);

    (void)state;
    make_hot(&s);
    assert_int_equal(base_loop_turn(loop, 0), DBE_OK);
    assert_int_equal(s.rests, 1);
    make_hot(&s);
    assert_true(base_loop_fd(loop) >= 0); /* from now on the caller may sleep on the descriptor */
    assert_int_equal(s.rests, 2);
    make_hot(&t);
    assert_int_equal(base_loop_turn(loop, 1), DBE_OK);
    assert_int_equal(t.rests, 1);
    assert_int_equal(t.left, 4);
}

static void a_busy_source_starves_nobody(void **state)
{
    struct source s = source_of(1000);
    struct seen seen = {0};
    struct base_watch *w;
    unsigned turns = 0;

    (void)state;
    assert_int_equal(base_loop_watch(loop, pipes[0][0], BASE_LOOP_READ, on_fd, &seen, &w), DBE_OK);
    make_hot(&s);
    put(pipes[0][1]);
    while (seen.calls == 0 && turns++ < 100)
        assert_int_equal(base_loop_turn(loop, -1), DBE_OK);
    assert_int_equal(turns, 64);
    base_hot_cool(&s.hot);
}

static void hot_sources_have_a_maximum_and_may_go_in_any_order(void **state)
{
    struct source s[BASE_LOOP_HOTS_MAX + 1];

    (void)state;
    for (size_t i = 0; i <= BASE_LOOP_HOTS_MAX; i++) {
        s[i] = source_of(1);
        make_hot(&s[i]);
    }
    assert_int_equal(s[BASE_LOOP_HOTS_MAX].rests, 1);
    assert_int_equal(s[0].rests, 0);
    s[7].cool = &s[7].hot;
    s[5].cool = &s[0].hot;
    s[3].cool = &s[15].hot;
    assert_int_equal(base_loop_turn(loop, -1), DBE_OK);
    for (size_t i = 0; i < BASE_LOOP_HOTS_MAX; i++)
        assert_true(s[i].polls >= 1 || i == 0);
    assert_null(s[0].hot.loop);
    assert_null(s[7].hot.loop);
    assert_null(s[15].hot.loop);
    assert_non_null(s[1].hot.loop);
    assert_int_equal(base_loop_turn(loop, 1), DBE_OK);
    for (size_t i = 1; i < BASE_LOOP_HOTS_MAX; i++)
        assert_int_equal(s[i].rests, i == 7 || i == 15 ? 0 : 1);
    base_hot_cool(&s[1].hot); /* nothing */
}

static void spinning_ends_where_the_clock_stands_still(void **state)
{
    struct source s = source_of(0);

    (void)state;
    base_loop_spin(loop, 10000);
    s.hot.cheap = true;
    make_hot(&s);
    assert_int_equal(base_loop_turn(loop, 1), DBE_OK);
    assert_true(s.polls > 2); /* it did spin */
    assert_int_equal(s.rests, 1);
    s.polls = 0;
    make_hot(&s);
    assert_int_equal(base_loop_turn(loop, 1), DBE_OK);
    assert_int_equal(s.polls, 1); /* it did not pay: not at once again */
}

static void buffers_are_lent_and_some_are_kept(void **state)
{
    void *bufs[BASE_LOOP_BUFS_KEPT + 1];

    (void)state;
    for (size_t i = 0; i <= BASE_LOOP_BUFS_KEPT; i++) {
        bufs[i] = base_loop_buf_take(loop);
        assert_non_null(bufs[i]);
        memset(bufs[i], 1, BASE_LOOP_BUF_BYTES);
    }
    for (size_t i = 0; i <= BASE_LOOP_BUFS_KEPT; i++)
        base_loop_buf_give(loop, bufs[i]);
    base_loop_buf_give(loop, NULL);
    base_fail_alloc_at(1);
    for (size_t i = 0; i < BASE_LOOP_BUFS_KEPT; i++)
        bufs[i] = base_loop_buf_take(loop);
    assert_int_equal(base_alloc_count(), 0);
    assert_null(base_loop_buf_take(loop));
    base_fail_alloc_at(0);
    for (size_t i = 0; i < BASE_LOOP_BUFS_KEPT; i++)
        base_loop_buf_give(loop, bufs[i]);
}

static void every_failed_allocation_is_reported(void **state)
{
    dbe_err err = DBE_E_NOMEM;

    (void)state;
    for (uint64_t nth = 1; err != DBE_OK; nth++) {
        struct dbe_loop *l = NULL;
        struct base_timer *t;
        base_fail_alloc_at(nth);
        err = base_loop_new(&l);
        if (err == DBE_OK)
            err = base_loop_timer(l, on_timer, NULL, &t);
        base_fail_alloc_at(0);
        assert_true(err == DBE_OK || err == DBE_E_NOMEM);
        base_loop_free(l);
        assert_true(nth < 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_pipe_is_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(a_freed_watch_is_never_called, setup, teardown),
        cmocka_unit_test_setup_teardown(a_write_end_is_ready, setup, teardown),
        cmocka_unit_test_setup_teardown(timers_fire_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_timer_armed_for_the_past_waits_its_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(a_signal_comes_through_the_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(another_thread_wakes_the_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(a_hot_source_is_asked_instead_of_the_kernel, setup, teardown),
        cmocka_unit_test_setup_teardown(a_turn_that_may_not_wait_leaves_nothing_hot, setup, teardown),
        cmocka_unit_test_setup_teardown(a_busy_source_starves_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(hot_sources_have_a_maximum_and_may_go_in_any_order, setup, teardown),
        cmocka_unit_test_setup_teardown(spinning_ends_where_the_clock_stands_still, setup, teardown),
        cmocka_unit_test_setup_teardown(buffers_are_lent_and_some_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(every_failed_allocation_is_reported, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
