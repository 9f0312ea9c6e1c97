/* SPDX-License-Identifier: Apache-2.0
 *
 * config_test.c - l7_router.yaml: what it says, what is wrong with it, and when it is another.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "devices/l7_router/config.h"

static char path[] = "/tmp/dsmil-router-XXXXXX";

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

/* The section alone, its lines indented. */
static void write_routing(const char *text)
{
    char all[4096] = "log-level: info\nrouting:\n  ";
    size_t n = strlen(all);

    for (; *text != '\0'; text++) {
        all[n++] = *text;
        if (*text == '\n' && text[1] != '\0')
            all[n++] = ' ', all[n++] = ' ';
    }
    all[n] = '\0';
    write_file(all);
}

static int group_up(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int group_down(void **state)
{
    (void)state;
    return unlink(path);
}

static void test_all_keys(void **state)
{
    struct router_config c;

    (void)state;
    write_routing("default-profile: llm-1b-npu\n"
                  "queue: {overload: reject, max: 10, wait: 5s}\n"
                  "profiles:\n"
                  "  llm-7b-amx:\n"
                  "    queue: {overload: wait, wait: 1min}\n"
                  "workers:\n"
                  "  worker-44: {profile: llm-7b-amx}\n"
                  "breaker: {failures: 5, open: 250ms, open-max: 10s, probes: 2}\n"
                  "attempts: 2\n"
                  "ahead: 4\n"
                  "reserve: 25\n"
                  "silence: 3s\n");
    assert_int_equal(router_config_read(path, &c, NULL), DBE_OK);
    assert_string_equal(c.default_profile, "llm-1b-npu");
    const struct router_limits *all = router_config_limits(&c, "other"), *own = router_config_limits(&c, "llm-7b-amx");
    assert_true(all->overload == ROUTER_OVERLOAD_REJECT && all->max == 10 && all->wait_ms == 5000);
    assert_true(own->overload == ROUTER_OVERLOAD_WAIT && own->max == 10 && own->wait_ms == 60000);
    assert_int_equal(c.worker_count, 1);
    assert_string_equal(c.workers[0].name, "worker-44");
    assert_string_equal(c.workers[0].profile, "llm-7b-amx");
    assert_true(c.breaker.failures == 5 && c.breaker.open_ms == 250 && c.breaker.open_max_ms == 10000 &&
                c.breaker.probes == 2);
    assert_true(c.attempts == 2 && c.ahead == 4 && c.reserve_percent == 25 && c.silence_ms == 3000);
}

static void test_what_it_leaves_out_stays_as_it_is(void **state)
{
    struct router_config c, defaults;

    (void)state;
    router_config_default(&defaults);
    write_routing("ahead: 1\n");
    assert_int_equal(router_config_read(path, &c, NULL), DBE_OK);
    assert_int_equal(c.ahead, 1);
    defaults.ahead = 1;
    assert_memory_equal(&c, &defaults, sizeof c);
}

static void test_no_section(void **state)
{
    struct router_config c, defaults;

    (void)state;
    router_config_default(&defaults);
    write_file("log-level: info\n");
    assert_int_equal(router_config_read(path, &c, NULL), DBE_OK);
    assert_memory_equal(&c, &defaults, sizeof c);
}

static void test_faults(void **state)
{
    static const struct {
        const char *text, *where, *what;
    } rows[] = {
        {"ahed: 1\n", ":3:3", "ahed"},
        {"queue:\n  overload: drop\n", ":4:15", "wait or reject"},
        {"queue:\n  wait: 5\n", ":4:11", "5"},
        {"queue: {max: 100000}\n", ":3:16", "100000"},
        {"workers:\n  worker-44: {}\n", ":4", "profile"},
        {"breaker: {failures: 0}\n", ":3:23", "0"},
        {"breaker: {open: 10s, open-max: 1s}\n", ":3:12", "open-max"},
        {"silence: 10ms\n", ":3:12", "10ms"},
        {"reserve: 91\n", ":3:12", "91"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct router_config c = {.ahead = 77};
        struct dbe_diag diag = {0};
        write_routing(rows[i].text);
        assert_int_equal(router_config_read(path, &c, &diag), DBE_E_CONFIG);
        if (strstr(diag.text, rows[i].where) == NULL || strstr(diag.text, rows[i].what) == NULL)
            fail_msg("row %zu: %s", i, diag.text);
        assert_int_equal(c.ahead, 77); /* untouched */
    }
}

static void test_file_that_changes(void **state)
{
    struct router_file file = {.optional = true};

    (void)state;
    assert_false(router_file_changed(&file)); /* none */
    (void)snprintf(file.path, sizeof file.path, "%s", path);
    write_file("ahead: 1\n");
    assert_true(router_file_changed(&file));
    assert_false(router_file_changed(&file));
    write_file("ahead: 10\n");
    assert_true(router_file_changed(&file));
    (void)snprintf(file.path, sizeof file.path, "%s.gone", path);
    assert_true(router_file_changed(&file));
    assert_int_equal(file.seen[0], 0);
    assert_false(router_file_changed(&file));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_keys),          cmocka_unit_test(test_what_it_leaves_out_stays_as_it_is),
        cmocka_unit_test(test_no_section),        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_file_that_changes),
    };
    return cmocka_run_group_tests(tests, group_up, group_down);
}
