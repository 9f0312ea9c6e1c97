/* SPDX-License-Identifier: Apache-2.0
 *
 * crash_test.c - what a dying service says: every line JSON, the cause first, then the last events in their order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/crash.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static const uint8_t id[16] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 1, 2, 3, 4, 5, 6, 7, 0xf8};

static void die_of_address(void)
{
    volatile uintptr_t nowhere = 16;

    *(volatile int *)nowhere = 1;
}

static void die_of_abort(void)
{
    abort();
}

/* Deeper than any stack: the handler needs one of its own. */
static int deepen(volatile char *above, unsigned left)
{
    volatile char here[4096];

    here[0] = above[0];
    return left == 0 ? 0 : deepen(here, left - 1) + here[0];
}

static void die_of_stack(void)
{
    volatile char first[1] = {0};

    (void)deepen(first, UINT32_MAX);
}

/* Lines of a child that notes `count` events and dies; the signal that ended it. */
static json_t *lines_of(unsigned count, void (*die)(void), int *ret_signal)
{
    static char said[131072];
    json_t *lines = json_array();
    size_t len = 0;
    int log[2], status;
    ssize_t n;

    assert_int_equal(pipe(log), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        close(log[0]);
        svc_crash_install("crash-test", log[1]);
        for (unsigned i = 0; i < count; i++)
            svc_crash_note("an event", i % 2 == 0 ? id : NULL, i);
        die();
        _exit(0);
    }
    close(log[1]);
    while ((n = read(log[0], said + len, sizeof said - 1 - len)) > 0)
        len += (size_t)n;
    close(log[0]);
    said[len] = '\0';
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    *ret_signal = WTERMSIG(status);
    for (char *save = NULL, *line = strtok_r(said, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        json_t *one = json_loads(line, 0, NULL);
        assert_non_null(one);
        json_array_append_new(lines, one);
    }
    return lines;
}

static const char *message(const json_t *lines, size_t i)
{
    return json_string_value(json_object_get(json_array_get(lines, i), "message"));
}

static void test_cause_and_events(void **state)
{
    int signo;

    (void)state;
    if (SANITIZED)
        skip();
    json_t *lines = lines_of(3, die_of_address, &signo);
    assert_int_equal(signo, SIGSEGV);
    assert_int_equal(json_array_size(lines), 4);
    assert_non_null(strstr(message(lines, 0), "SIGSEGV at address 0x10,"));
    assert_string_equal(json_string_value(json_object_get(json_array_get(lines, 0), "service")), "crash-test");
    for (size_t i = 0; i < 3; i++) {
        const json_t *line = json_array_get(lines, i + 1);
        const char *text = json_string_value(json_object_get(line, "request_id"));
        assert_int_equal(json_integer_value(json_object_get(line, "number")), i);
        assert_string_equal(message(lines, i + 1), "before: an event");
        assert_true((text != NULL) == (i % 2 == 0));
        if (text != NULL)
            assert_string_equal(text, "01234567-89ab-cdef-0102-0304050607f8");
    }
    json_decref(lines);
}

static void test_ring_keeps_the_last(void **state)
{
    int signo;

    (void)state;
    if (SANITIZED)
        skip();
    json_t *lines = lines_of(CRASH_NOTES * 2 + 5, die_of_abort, &signo);
    assert_int_equal(signo, SIGABRT);
    assert_int_equal(json_array_size(lines), CRASH_NOTES + 1);
    for (size_t i = 1; i <= CRASH_NOTES; i++)
        assert_int_equal(json_integer_value(json_object_get(json_array_get(lines, i), "number")), CRASH_NOTES + 4 + i);
    json_decref(lines);
}

static void test_stack_overflow(void **state)
{
    int signo;

    (void)state;
    if (SANITIZED)
        skip();
    json_t *lines = lines_of(1, die_of_stack, &signo);
    assert_int_equal(signo, SIGSEGV);
    assert_int_equal(json_array_size(lines), 2);
    json_decref(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cause_and_events),
        cmocka_unit_test(test_ring_keeps_the_last),
        cmocka_unit_test(test_stack_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
