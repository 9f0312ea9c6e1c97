/* SPDX-License-Identifier: Apache-2.0
 *
 * config_test.c - values come from the right source, and what is wrong is said with its place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/priv.h"

struct params {
    uint64_t threads, wait_ms, room;
    double share;
    char model[16];
};

#define P(f) offsetof(struct params, f)
static const struct svc_param params[] = {
    {"threads", "threads", SVC_PARAM_UINT, 2, 1, 64, NULL, P(threads), 8, "computing threads", false},
    {"kv-share", "0..1", SVC_PARAM_DOUBLE, 0.5, 0.1, 0.9, NULL, P(share), 8, "share of memory", false},
    {"model", "FILE", SVC_PARAM_TEXT, 0, 0, 0, "none", P(model), 16, "model file", false},
    {"wait-ms", "ms", SVC_PARAM_UINT, 10, 1, 600000, NULL, P(wait_ms), 8, "time to wait", true},
    {"room", "MiB", SVC_PARAM_UINT, 1, 1, 4096, NULL, P(room), 8, "room to take", false},
    {.kind = SVC_PARAM_END},
};
static const struct svc_neighbour neighbours[] = {
    {"router", DBE_ROLE_ROUTER, 43, true}, {"worker-47", DBE_ROLE_WORKER, 47, false}, {0}};
static char fallback[64] = "/nonexistent/dsmil.yaml";
static const struct svc_device device = {.device_id = 0,
                                         .config_default = fallback,
                                         .config_section = "own",
                                         .layer = 7,
                                         .role = DBE_ROLE_SHIM,
                                         .name = "test",
                                         .purpose = "be tested",
                                         .params = params,
                                         .neighbours = neighbours};

static struct svc_config cfg;
static struct params got;
static struct dbe_diag diag;
static char file[64];

/* Load with these options (separated by spaces) and this file's text (NULL: no file). */
static dbe_err load(const char *options, const char *text)
{
    char line[512], *argv[32] = {(char *)(uintptr_t) "test"}, *save = NULL;
    int argc = 1;

    if (text != NULL) {
        FILE *f = fopen(file, "w");
        assert_non_null(f);
        fputs(text, f);
        fclose(f);
    }
    snprintf(line, sizeof line, "%s%s %s", text != NULL ? "--config " : "", text != NULL ? file : "", options);
    for (char *word = strtok_r(line, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    memset(&got, 0, sizeof got);
    memset(&diag, 0, sizeof diag);
    return svc_config_load(argc, argv, &device, &cfg, &got, &diag);
}

static void loads(const char *options, const char *text)
{
    if (load(options, text) != DBE_OK)
        fail_msg("%s", diag.text);
}

static void fails(const char *options, const char *text, const char *said)
{
    assert_int_equal(load(options, text), DBE_E_CONFIG);
    if (strstr(diag.text, said) == NULL)
        fail_msg("said \"%s\", not \"%s\"", diag.text, said);
}

static void test_defaults(void **state)
{
    (void)state;
    setenv("DSMIL_STATE", "/var/lib/x", 1);
    loads("--link-router uds:/r", NULL);
    assert_int_equal(got.threads, 2);
    assert_true(got.share == 0.5);
    assert_string_equal(got.model, "none");
    assert_string_equal(cfg.name, "shim-0");
    assert_string_equal(cfg.keys, "/var/lib/x/keys");
    assert_string_equal(cfg.links[0], "uds:/r");
    assert_string_equal(cfg.links[1], "");
    assert_int_equal(cfg.level, SVC_INFO);
    assert_int_equal(cfg.ready_fd, 0);
    assert_false(cfg.parent_death);
}

/* A device may read a part of the file itself, and have a file that is read where none is named. */
static void test_section_and_default_file(void **state)
{
    (void)state;
    loads("--link-router uds:/r", "threads: 5\nown:\n  anything: [at, all]\n");
    assert_int_equal(got.threads, 5);
    (void)snprintf(fallback, sizeof fallback, "%s", file);
    loads("--link-router uds:/r", NULL);
    assert_int_equal(got.threads, 5);
    assert_string_equal(cfg.config_file, file);
    (void)snprintf(fallback, sizeof fallback, "/nonexistent/dsmil.yaml");
    loads("--link-router uds:/r", NULL);
    assert_int_equal(got.threads, 2);
    assert_string_equal(cfg.config_file, "");
}

/* default < file < environment < option */
static void test_precedence(void **state)
{
    (void)state;
    loads("--link-router uds:/r", "# comment\n\nthreads: 3\nlog_level: debug\nlinks:\n  worker-47: uds:/w\n");
    assert_int_equal(got.threads, 3);
    assert_int_equal(cfg.level, SVC_DEBUG);
    assert_string_equal(cfg.links[1], "uds:/w");
    setenv("DSMIL_THREADS", "4", 1);
    setenv("DSMIL_LINK_WORKER_47", "uds:/w2", 1);
    loads("--link-router uds:/r", "threads: 3\n");
    assert_int_equal(got.threads, 4);
    assert_string_equal(cfg.links[1], "uds:/w2");
    loads("--link-router uds:/r --threads=5", "threads: 3");
    assert_int_equal(got.threads, 5);
    unsetenv("DSMIL_THREADS");
    unsetenv("DSMIL_LINK_WORKER_47");
}

static void test_file_errors_name_their_line(void **state)
{
    char where[160];

    (void)state;
    snprintf(where, sizeof where, "%s:3:10: threads must lie between 1 and 64 threads, not 65", file);
    fails("--link-router x", "# one\n\nthreads: 65\n", where);
    snprintf(where, sizeof where, "%s:2:1: there is no parameter \"thread\"", file);
    fails("--link-router x", "\nthread: 1", where);
    snprintf(where, sizeof where, "%s:1:", file);
    fails("--link-router x", "threads", where);
    fails("--link-router x", "threads = 3\n", where);
    fails("--link-router x", "threads: 3\nthreads: 4\n", file);
    snprintf(where, sizeof where, "%s:1:8: model takes at most 15 bytes", file);
    fails("--link-router x", "model: 0123456789abcdef\n", where);
    snprintf(where, sizeof where, "%s:1:10: threads takes a whole number, not \"3x\"", file);
    fails("--link-router x", "threads: 3x\n", where);
    snprintf(where, sizeof where, "%s:1:10: threads is a list; expected one value", file);
    fails("--link-router x", "threads: [3]\n", where);
    snprintf(where, sizeof where, "%s:2:3: there is no neighbour \"nobody\"", file);
    fails("--link-router x", "links:\n  nobody: uds:/n\n", where);
    snprintf(where, sizeof where, "%s:1:1: \"link-router\" is an address of a neighbour; expected under links:", file);
    fails("", "link-router: uds:/r\n", where);
    assert_int_equal(load("--config /nonexistent/x", NULL), DBE_E_NOT_FOUND);
    assert_non_null(strstr(diag.text, "/nonexistent/x"));
}

static void test_values(void **state)
{
    static const char *const bad[] = {"--threads 0",     "--threads -1",     "--threads 65",
                                      "--threads 1.5",   "--threads x",      "--threads 99999999999999999999999",
                                      "--kv-share 0.09", "--kv-share nan",   "--kv-share inf",
                                      "--kv-share 0.5x", "--log-level loud", "--metrics-port 65536",
                                      "--model \xFF"};
    char options[128];

    (void)state;
    loads("--link-router x --threads 1 --kv-share 0.1", NULL);
    loads("--link-router x --threads 64 --kv_share 0.9", NULL);
    for (size_t i = 0; i < BASE_ARRAY_LEN(bad); i++) {
        snprintf(options, sizeof options, "--link-router x %s", bad[i]);
        fails(options, NULL, "");
        assert_true(diag.text[0] != '\0');
    }
    setenv("DSMIL_THREADS", "many", 1);
    fails("--link-router x", NULL, "DSMIL_THREADS: threads takes a whole number");
    unsetenv("DSMIL_THREADS");
}

/* A number may come with another unit of the same measure, if a whole number of the parameter's own results. */
static void test_units(void **state)
{
    (void)state;
    loads("--link-router x", "wait-ms: 250");
    assert_int_equal(got.wait_ms, 250);
    loads("--link-router x", "wait-ms: 2s");
    assert_int_equal(got.wait_ms, 2000);
    loads("--link-router x --wait-ms 1min", NULL);
    assert_int_equal(got.wait_ms, 60000);
    loads("--link-router x", "room: 2GiB");
    assert_int_equal(got.room, 2048);
    fails("--link-router x", "room: 100KiB", "room takes a whole number of MiB, or one with B, KiB, MiB or GiB");
    fails("--link-router x", "room: 5s", "room takes a whole number of MiB");
    fails("--link-router x", "wait-ms: 5MiB", "wait-ms takes a whole number of ms, or one with ms, s, min or h");
    fails("--link-router x", "wait-ms: 2h", "wait-ms must lie between 1 and 600000 ms, not 2h");
    fails("--link-router x", "wait-ms: 18446744073709551615h", "wait-ms takes a whole number");
    fails("--link-router x", "threads: 3s", "threads takes a whole number, not");
}

static void test_options(void **state)
{
    (void)state;
    fails("", NULL, "--link-router ADDRESS");
    fails("--link-router", NULL, "--link-router takes a value");
    fails("--bogus", NULL, "there is no option --bogus");
    fails("--link-nobody x", NULL, "there is no option --link-nobody");
    fails("stray", NULL, "\"stray\" is no option");
    fails("--", NULL, "is no option");
    loads("--parent-pid --link-router x", NULL);
    assert_true(cfg.parent_death);
    assert_int_equal(cfg.parent_pid, 0);
    loads("--parent-pid 12 --link-router x", NULL);
    assert_int_equal(cfg.parent_pid, 12);
    loads("--help", NULL); /* help needs nothing else */
    assert_true(cfg.help);
    loads("--version", NULL);
    assert_true(cfg.version);
}

/* Every parameter stands in the help with its range. */
static void test_help(void **state)
{
    struct base_buf out;

    (void)state;
    base_buf_init(&out, 65536);
    svc_config_help(&device, &out);
    const char *text = base_buf_cstr(&out);
    assert_non_null(strstr(text, "--threads threads"));
    assert_non_null(strstr(text, "computing threads (default 2, 1 to 64)"));
    assert_non_null(strstr(text, "share of memory (default 0.5, 0.1 to 0.9)"));
    assert_non_null(strstr(text, "model file (default none)"));
    assert_non_null(strstr(text, "--link-router"));
    assert_non_null(strstr(text, "--metrics-socket"));
    base_buf_free(&out);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(file, sizeof file, "/tmp/dsmil-config-test-%d.conf", (int)getpid());
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(file);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_section_and_default_file),
        cmocka_unit_test(test_file_errors_name_their_line),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
