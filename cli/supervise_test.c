/* SPDX-License-Identifier: Apache-2.0
 *
 * supervise_test.c - real children (shell one-liners): readiness, restart with back-off, logs, stop.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/supervise.h"

struct fixture {
    struct dbe_loop *loop;
    struct sup *sup;
    char dir[64], log[96];
    unsigned ready, exits, stopped;
    int last_status;
};

static void on_ready(void *ctx, struct sup_service *s)
{
    (void)s;
    ((struct fixture *)ctx)->ready++;
}

static void on_exit_(void *ctx, struct sup_service *s, int status)
{
    struct fixture *f = ctx;
    (void)s;
    f->exits++;
    f->last_status = status;
}

static void on_stopped(void *ctx)
{
    ((struct fixture *)ctx)->stopped++;
}

static void on_child(void *ctx, int signo)
{
    int status;
    (void)signo;
    while (sup_reap(((struct fixture *)ctx)->sup, &status) > 0)
        ;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const struct sup_events events = {on_ready, on_exit_, on_stopped, f};

    snprintf(f->dir, sizeof f->dir, "/tmp/dsmil-sup-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->log, sizeof f->log, "%s/log", f->dir);
    assert_int_equal(base_loop_new(&f->loop), DBE_OK);
    assert_int_equal(base_loop_signal(f->loop, SIGCHLD, on_child, f), DBE_OK);
    assert_int_equal(sup_new(f->loop, &events, &f->sup), DBE_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char older[128];

    sup_free(f->sup);
    base_loop_free(f->loop);
    snprintf(older, sizeof older, "%s.1", f->log);
    unlink(older);
    unlink(f->log);
    rmdir(f->dir);
    free(f);
    return 0;
}

/* $1 is the descriptor after --ready-fd. */
static void start(struct fixture *f, const char *script)
{
    const struct sup_spec spec = {.name = "test", .program = "/bin/sh", .log_path = f->log, .args = {"-c", script}};
    assert_int_equal(sup_start(f->sup, &spec, NULL), DBE_OK);
}

#define UNTIL(f, cond)                                                                                                 \
    do {                                                                                                               \
        for (unsigned turn_ = 0; !(cond); turn_++) {                                                                   \
            assert_true(turn_ < 3000);                                                                                 \
            assert_int_equal(base_loop_turn((f)->loop, 10), DBE_OK);                                                   \
        }                                                                                                              \
    } while (0)

static void a_service_is_ready_when_it_says_so(void **state)
{
    struct fixture *f = *state;
    struct sup_service *s;

    start(f, "echo hello >&2; eval \"echo READY >&$1\"; exec sleep 60");
    assert_false(sup_all_ready(f->sup));
    UNTIL(f, f->ready == 1);
    assert_true(sup_all_ready(f->sup));
    sup_stop(f->sup);
    UNTIL(f, f->stopped == 1);
    assert_int_equal(sup_services(f->sup, &s), 1);
    assert_int_equal(s->pid, 0);
    assert_int_equal(f->exits, 1);
}

static void a_service_that_dies_is_started_again(void **state)
{
    struct fixture *f = *state;
    struct sup_service *s;

    start(f, "exit 7");
    sup_services(f->sup, &s);
    UNTIL(f, f->exits == 3);
    assert_int_equal(WEXITSTATUS(f->last_status), 7);
    assert_int_equal(s->restarts, 2);
    assert_int_equal(s->backoff_ms, 4 * SUP_BACKOFF_MIN_MS);
    assert_int_equal(f->ready, 0);
}

static void a_killed_service_comes_back_ready(void **state)
{
    struct fixture *f = *state;
    struct sup_service *s;

    start(f, "eval \"echo READY >&$1\"; exec sleep 60");
    UNTIL(f, f->ready == 1);
    sup_services(f->sup, &s);
    kill(s->pid, SIGKILL);
    UNTIL(f, f->ready == 2);
    assert_true(WIFSIGNALED(f->last_status));
    assert_int_equal(s->restarts, 1);
}

static void what_it_prints_is_kept_and_bounded(void **state)
{
    struct fixture *f = *state;
    struct stat now, older;
    char path[128];

    /* 1.5 times the maximum, then ready: all of it was read by then or the pipe would block it */
    start(f, "head -c 12582912 /dev/zero; eval \"echo READY >&$1\"; exec sleep 60");
    UNTIL(f, f->ready == 1);
    snprintf(path, sizeof path, "%s.1", f->log);
    sup_stop(f->sup);
    UNTIL(f, f->stopped == 1);
    assert_int_equal(stat(f->log, &now), 0);
    assert_int_equal(stat(path, &older), 0);
    assert_int_equal(now.st_size + older.st_size, 12582912);
    assert_true(now.st_size <= SUP_LOG_MAX_BYTES + 16384);
    assert_int_equal(now.st_mode & 0777, 0600);
}

static void nothing_leaks_into_a_service(void **state)
{
    struct fixture *f = *state;
    char text[256] = "";
    FILE *in;

    /* descriptors 0, 1, 2, the ready pipe, and the one that ls itself opens */
    start(f, "ls /proc/self/fd | wc -l; eval \"echo READY >&$1\"; exec sleep 60");
    UNTIL(f, f->ready == 1);
    sup_stop(f->sup);
    UNTIL(f, f->stopped == 1);
    in = fopen(f->log, "r");
    assert_non_null(in);
    assert_non_null(fgets(text, sizeof text, in));
    fclose(in);
    assert_int_equal(atoi(text), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_service_is_ready_when_it_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(a_service_that_dies_is_started_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_service_comes_back_ready, setup, teardown),
        cmocka_unit_test_setup_teardown(what_it_prints_is_kept_and_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_leaks_into_a_service, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
