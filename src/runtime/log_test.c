/* SPDX-License-Identifier: Apache-2.0
 *
 * log_test.c - every line is one JSON object with the fields operators rely on, whatever text goes into it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/priv.h"

static const struct svc_device device = {.device_id = 43, .layer = 7, .name = "l7-router"};
static uint64_t fake_mono_ns;

static uint64_t mono(void *ctx)
{
    (void)ctx;
    return fake_mono_ns;
}

static uint64_t wall(void *ctx)
{
    (void)ctx;
    return 1795231566123;
}

/* A service that is nothing but a log; lines are read back through a pipe. */
struct fixture {
    struct svc svc;
    int fd;
};

static int set_up(void **state)
{
    static const struct base_clock_ops clock = {.mono_ns = mono, .wall_ms = wall};
    struct fixture *f = calloc(1, sizeof *f);
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    f->fd = fds[0];
    f->svc.dev = &device;
    f->svc.cfg.log_fd = fds[1];
    memcpy(f->svc.service, "dsmil-l7-router", sizeof "dsmil-l7-router");
    fake_mono_ns = BASE_NS_PER_S;
    base_clock_set(&clock);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    base_clock_set(NULL);
    close(f->fd);
    close(f->svc.cfg.log_fd);
    free(f);
    return 0;
}

/* The next line, parsed; the test fails if it is not exactly one valid object. */
static json_t *next_line(struct fixture *f)
{
    char line[SVC_LOG_LINE_MAX + 1];
    ssize_t n = read(f->fd, line, sizeof line - 1); /* one write, one read */

    assert_true(n > 0);
    line[n] = '\0';
    assert_ptr_equal(strchr(line, '\n'), line + n - 1);
    json_error_t error;
    json_t *object = json_loadb(line, (size_t)n, JSON_REJECT_DUPLICATES, &error);
    if (object == NULL)
        fail_msg("%s: %s", error.text, line);
    return object;
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static void test_fields(void **state)
{
    struct fixture *f = *state;
    const uint8_t id[16] = {0x12, 0x34};
    const struct svc_field fields[] = {{.key = "code", .text = "E_KINETIC"}, {.key = "elapsed_us", .number = 17}};
    const struct svc_event e = {
        .type = "policy_violation", .request_id = id, .tenant = "t1", .fields = fields, .field_count = 2};

    svc_log_event(&f->svc, SVC_WARN, &e, "refused: %s", "KINETIC");
    json_t *o = next_line(f);
    assert_string_equal(text_of(o, "timestamp"), "2026-11-21T03:26:06.123Z");
    assert_string_equal(text_of(o, "level"), "WARNING");
    assert_int_equal(json_integer_value(json_object_get(o, "device_id")), 43);
    assert_int_equal(json_integer_value(json_object_get(o, "layer")), 7);
    assert_string_equal(text_of(o, "service"), "dsmil-l7-router");
    assert_string_equal(text_of(o, "event_type"), "policy_violation");
    assert_string_equal(text_of(o, "message"), "refused: KINETIC");
    assert_string_equal(text_of(o, "request_id"), "12340000-0000-0000-0000-000000000000");
    assert_string_equal(text_of(o, "tenant"), "t1");
    assert_string_equal(text_of(json_object_get(o, "context"), "code"), "E_KINETIC");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "context"), "elapsed_us")), 17);
    json_decref(o);
    svc_log(&f->svc, SVC_ERROR, NULL, "plain");
    o = next_line(f);
    assert_string_equal(text_of(o, "level"), "ERROR");
    assert_null(json_object_get(o, "request_id"));
    assert_null(json_object_get(o, "context"));
    json_decref(o);
}

static void test_hostile_text(void **state)
{
    static const char *const hostile[] = {
        "quote \" backslash \\ slash /",
        "line\nfeed\r\ttab",
        "\x01\x02\x1F\x7F",
        "\xFF\xFE broken",
        "\xED\xA0\x80 surrogate",
        "\xF0\x9F\x98\x80 fine",
        "\",\"level\":\"ERROR",
        "%s%n%x",
        "\xC3",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < BASE_ARRAY_LEN(hostile); i++) {
        const struct svc_field field = {.key = "reason", .text = hostile[i]};
        const struct svc_event e = {.type = hostile[i], .tenant = hostile[i], .fields = &field, .field_count = 1};
        svc_log_event(&f->svc, SVC_INFO, &e, "%s", hostile[i]);
        json_t *o = next_line(f);
        assert_string_equal(text_of(o, "level"), "INFO");
        assert_non_null(text_of(o, "tenant"));
        if (base_utf8_valid(hostile[i], strlen(hostile[i])))
            assert_string_equal(text_of(o, "message"), hostile[i]);
        json_decref(o);
    }
}

static void test_long_text_is_bounded(void **state)
{
    struct fixture *f = *state;
    char longer[8000];

    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    svc_log(&f->svc, SVC_INFO, NULL, "%s", longer);
    json_t *o = next_line(f);
    assert_int_equal(strlen(text_of(o, "message")), 1023);
    json_decref(o);
    memset(longer, 1, sizeof longer - 1); /* six bytes each, once escaped */
    svc_log(&f->svc, SVC_INFO, NULL, "%s", longer);
    o = next_line(f);
    assert_string_equal(text_of(o, "message"), "(line too long)");
    json_decref(o);
}

static void test_level(void **state)
{
    struct fixture *f = *state;

    f->svc.cfg.level = SVC_WARN;
    svc_log(&f->svc, SVC_DEBUG, NULL, "no");
    svc_log(&f->svc, SVC_INFO, NULL, "no");
    svc_log(&f->svc, SVC_WARN, NULL, "yes");
    json_t *o = next_line(f);
    assert_string_equal(text_of(o, "message"), "yes");
    json_decref(o);
}

static void test_flood_is_bounded(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < SVC_LOG_LINES_PER_S; i++) {
        svc_log(&f->svc, SVC_INFO, NULL, "line %d", i);
        json_decref(next_line(f));
    }
    for (int i = 0; i < 5; i++)
        svc_log(&f->svc, SVC_INFO, NULL, "too much");
    fake_mono_ns += BASE_NS_PER_S;
    svc_log(&f->svc, SVC_INFO, NULL, "next second");
    /* two lines may come in one read: the first says what was left out */
    char lines[2 * SVC_LOG_LINE_MAX];
    ssize_t n = read(f->fd, lines, sizeof lines - 1);
    assert_true(n > 0);
    lines[n] = '\0';
    assert_non_null(strstr(lines, "\"event_type\":\"log_suppressed\""));
    assert_non_null(strstr(lines, "\"context\":{\"lines\":5}"));
    assert_non_null(strstr(lines, "next second"));
    assert_null(strstr(lines, "too much"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_text_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_level, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flood_is_bounded, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
