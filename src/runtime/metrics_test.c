/* SPDX-License-Identifier: Apache-2.0
 *
 * metrics_test.c - the text form is what Prometheus parses, and hostile label values cost a bounded number of series.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/priv.h"

struct counters {
    uint64_t tokens, odd_a, odd_b;
};

static const struct svc_counter device_counters[] = {
    {"dsmil_l7_tokens_generated_total", "tokens", "device_id=\"47\"", SVC_COUNTER, offsetof(struct counters, tokens)},
    {"dsmil_x_odd", "one \\ two\nthree", "kind=\"a\"", SVC_GAUGE, offsetof(struct counters, odd_a)},
    {"dsmil_x_odd", "not printed", "kind=\"b\"", SVC_GAUGE, offsetof(struct counters, odd_b)},
    {0},
};
static const struct counters device_state = {.tokens = 7, .odd_a = 1, .odd_b = 2};

static struct svc_metrics fresh(void)
{
    return (struct svc_metrics){.device_id = "43", .node = "router-43"};
}

static const char *written(const struct svc_metrics *m, const struct svc_counter *counters, struct base_buf *out)
{
    base_buf_init(out, SVC_METRICS_MAX_BYTES);
    svc_metrics_write(m, counters, &device_state, out);
    assert_int_equal(out->err, DBE_OK);
    return base_buf_cstr(out);
}

static size_t count_of(const char *text, const char *needle)
{
    size_t n = 0;
    for (const char *p = strstr(text, needle); p != NULL; p = strstr(p + 1, needle))
        n++;
    return n;
}

/* A strict reader of one sample line: name, label pairs, a number. */
static bool sample_ok(const char *line, size_t len)
{
    const char *p = line, *end = line + len;

    while (p < end && (isalnum((unsigned char)*p) || *p == '_' || *p == ':'))
        p++;
    if (p == line)
        return false;
    if (p < end && *p == '{') {
        do {
            const char *name = ++p;
            while (p < end && (isalnum((unsigned char)*p) || *p == '_'))
                p++;
            if (p == name || end - p < 2 || p[0] != '=' || p[1] != '"')
                return false;
            for (p += 2; p < end && *p != '"'; p++)
                if (*p == '\\' && (++p == end || strchr("\\\"n", *p) == NULL))
                    return false;
            if (p++ == end)
                return false;
        } while (p < end && *p == ',');
        if (p == end || *p++ != '}')
            return false;
    }
    char *number_end;
    if (p == end || *p++ != ' ')
        return false;
    double value = strtod(p, &number_end);
    return number_end == end && isfinite(value);
}

static void check_format(const char *text)
{
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        assert_int_equal(text[len], '\n');
        if (strncmp(text, "# HELP ", 7) != 0 && strncmp(text, "# TYPE ", 7) != 0 && !sample_ok(text, len))
            fail_msg("not a sample: %.*s", (int)len, text);
        assert_true(base_utf8_valid(text, len));
        text += len + 1;
    }
}

static void test_text_form(void **state)
{
    struct svc_metrics m = fresh();
    struct base_buf out;

    (void)state;
    svc_metric_add(&m, SVC_M_dsmil_device_errors_total, "device_id=\"43\",error_type=\"E_KINETIC\"", 3);
    svc_metric_add(&m, SVC_M_dsmil_device_errors_total, "device_id=\"43\",error_type=\"E_KINETIC\"", 1);
    svc_metric_set(&m, SVC_M_dsmil_system_uptime_seconds, "", 1.5);
    const char *text = written(&m, NULL, &out);
    assert_string_equal(text, "# HELP dsmil_system_uptime_seconds time since this service started\n"
                              "# TYPE dsmil_system_uptime_seconds gauge\n"
                              "dsmil_system_uptime_seconds 1.5\n"
                              "# HELP dsmil_device_errors_total requests that failed, by the error's name\n"
                              "# TYPE dsmil_device_errors_total counter\n"
                              "dsmil_device_errors_total{device_id=\"43\",error_type=\"E_KINETIC\"} 4\n");
    check_format(text);
    base_buf_free(&out);
    svc_metrics_free(&m);
}

static void test_histogram(void **state)
{
    struct svc_metrics m = fresh();
    struct base_buf out;
    const char *labels = "device_id=\"43\",profile=\"p\"";

    (void)state;
    svc_metric_observe(&m, SVC_M_dsmil_l7_latency_seconds, labels, 0.001); /* a bound belongs to its bucket */
    svc_metric_observe(&m, SVC_M_dsmil_l7_latency_seconds, labels, 0.5);
    svc_metric_observe(&m, SVC_M_dsmil_l7_latency_seconds, labels, 61);
    svc_metric_observe(&m, SVC_M_dsmil_l7_latency_seconds, labels, (double)NAN);
    svc_metric_observe(&m, SVC_M_dsmil_l7_latency_seconds, labels, (double)INFINITY);
    const char *text = written(&m, NULL, &out);
    check_format(text);
#define HAS(line) assert_non_null(strstr(text, line))
    HAS("dsmil_l7_latency_seconds_bucket{device_id=\"43\",profile=\"p\",le=\"0.0005\"} 0\n");
    HAS("dsmil_l7_latency_seconds_bucket{device_id=\"43\",profile=\"p\",le=\"0.001\"} 1\n");
    HAS("dsmil_l7_latency_seconds_bucket{device_id=\"43\",profile=\"p\",le=\"0.5\"} 2\n");
    HAS("dsmil_l7_latency_seconds_bucket{device_id=\"43\",profile=\"p\",le=\"60\"} 2\n");
    HAS("dsmil_l7_latency_seconds_bucket{device_id=\"43\",profile=\"p\",le=\"+Inf\"} 3\n");
    HAS("dsmil_l7_latency_seconds_count{device_id=\"43\",profile=\"p\"} 3\n");
    HAS("dsmil_l7_latency_seconds_sum{device_id=\"43\",profile=\"p\"} 61.50");
    base_buf_free(&out);
    svc_metrics_free(&m);
}

/* The device's counters: beside the registry's series of the same family, or as families of their own, each
 * with one head. */
static void test_device_counters(void **state)
{
    struct svc_metrics m = fresh();
    struct base_buf out;

    (void)state;
    svc_metric_add(&m, SVC_M_dsmil_l7_tokens_generated_total, "device_id=\"43\"", 1);
    const char *text = written(&m, device_counters, &out);
    check_format(text);
    assert_int_equal(count_of(text, "# TYPE dsmil_l7_tokens_generated_total counter\n"), 1);
    HAS("dsmil_l7_tokens_generated_total{device_id=\"43\"} 1\ndsmil_l7_tokens_generated_total{device_id=\"47\"} 7\n");
    HAS("# HELP dsmil_x_odd one \\\\ two\\nthree\n# TYPE dsmil_x_odd gauge\ndsmil_x_odd{kind=\"a\"} "
        "1\ndsmil_x_odd{kind=\"b\"} 2\n");
    assert_int_equal(count_of(text, "# TYPE dsmil_x_odd"), 1);
    base_buf_free(&out);
    svc_metrics_free(&m);
}

static void test_labels_are_escaped(void **state)
{
    char labels[SVC_LABELS_MAX], longer[300];

    (void)state;
    svc_labels(labels, "a", "x\"y\\z\n\t\x7F", "b", "\xFF\xFE", "c", "\xC3\xA9", NULL);
    assert_string_equal(labels, "a=\"x\\\"y\\\\z???\",b=\"??\",c=\"\xC3\xA9\"");
    memset(longer, 'x', sizeof longer);
    longer[299] = '\0';
    svc_labels(labels, "a", longer, NULL);
    assert_int_equal(strlen(labels), 4 + SVC_LABEL_VALUE_MAX);
    for (size_t i = 0; i + 1 < sizeof longer; i += 2)
        memcpy(longer + i, "\xC3\xA9", 2);
    longer[299] = '\0';
    svc_labels(labels, "ab", longer + 1, NULL); /* starts in the middle of a character: not UTF-8 */
    assert_true(base_utf8_valid(labels, strlen(labels)));
    memmove(longer + 1, longer, 298); /* one byte, then characters: the limit falls into one */
    longer[0] = 'x';
    svc_labels(labels, "a", longer, NULL);
    assert_true(base_utf8_valid(labels, strlen(labels)));
    assert_int_equal(strlen(labels), 4 + SVC_LABEL_VALUE_MAX - 1);
    memset(longer, '"', sizeof longer - 1);
    svc_labels(labels, "a", longer, "b", longer, "c", longer, NULL); /* does not fit: empty, not cut */
    assert_string_equal(labels, "");
}

static void test_series_are_bounded(void **state)
{
    struct svc_metrics m = fresh();
    struct base_buf out;
    char labels[SVC_LABELS_MAX], tenant[32];

    (void)state;
    for (int i = 0; i < 10000; i++) {
        snprintf(tenant, sizeof tenant, "tenant-%d", i);
        svc_labels(labels, "node", "router-43", "device_id", "43", "msg_type", "L7_CHAT_REQ", "tenant_id", tenant,
                   NULL);
        svc_metric_add(&m, SVC_M_dbe_messages_total, labels, 1);
    }
    const char *text = written(&m, NULL, &out);
    check_format(text);
    assert_int_equal(count_of(text, "\ndbe_messages_total{"), SVC_SERIES_MAX + 1);
    snprintf(labels, sizeof labels,
             "dbe_messages_total{node=\"router-43\",device_id=\"43\",msg_type=\"other\",tenant_id=\"other\"} %d\n",
             10000 - SVC_SERIES_MAX);
    HAS(labels);
    base_buf_free(&out);
    svc_metrics_free(&m);
}

static void test_no_memory_is_no_crash(void **state)
{
    struct svc_metrics m = fresh();

    (void)state;
    base_fail_alloc_at(1);
    svc_metric_add(&m, SVC_M_dbe_messages_total, "a=\"b\"", 1);
    base_fail_alloc_at(0);
    assert_int_equal(m.of[SVC_M_dbe_messages_total].count, 0);
    svc_metric_add(&m, SVC_M_dbe_messages_total, "a=\"b\"", 1);
    assert_int_equal(m.of[SVC_M_dbe_messages_total].count, 1);
    svc_metrics_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_form),          cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_device_counters),    cmocka_unit_test(test_labels_are_escaped),
        cmocka_unit_test(test_series_are_bounded), cmocka_unit_test(test_no_memory_is_no_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
