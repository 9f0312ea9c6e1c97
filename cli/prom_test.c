/* SPDX-License-Identifier: Apache-2.0
 *
 * prom_test.c - what the reader of metrics takes, what it refuses, and that its maxima hold.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/test.h"
#include "cli/prom.h"

struct seen {
    unsigned count;
    struct prom_sample last;
};

static void on_sample(void *ctx, const struct prom_sample *s)
{
    struct seen *seen = ctx;

    seen->count++;
    seen->last = *s;
}

static dbe_err parse(const char *text, struct seen *seen)
{
    struct dbe_diag diag = {0};

    memset(seen, 0, sizeof *seen);
    return prom_parse(text, strlen(text), on_sample, seen, &diag);
}

static void good_lines(void **state)
{
    static const struct {
        const char *text, *name, *label, *value;
        double number;
    } rows[] = {
        {"a 1", "a", NULL, NULL, 1},
        {"a:b_c9\t-2.5e3\n", "a:b_c9", NULL, NULL, -2500},
        {"a{} 3 1700000000000", "a", NULL, NULL, 3},
        {" a { x = \"1\" , } 4 ", "a", "x", "1", 4},
        {"a{x=\"q\\\"b\\\\n\\n\",y=\"\"} 5", "a", "x", "q\"b\\n\n", 5},
        {"a{x=\"\",y=\"z}# \"} 6\n", "a", "y", "z}# ", 6},
    };
    struct seen seen;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        assert_int_equal(parse(rows[i].text, &seen), DBE_OK);
        assert_int_equal(seen.count, 1);
        assert_string_equal(seen.last.name, rows[i].name);
        assert_true(fabs(seen.last.value - rows[i].number) < 1e-9);
        if (rows[i].label != NULL)
            assert_string_equal(prom_label(&seen.last, rows[i].label), rows[i].value);
        assert_null(prom_label(&seen.last, "none"));
    }
    assert_int_equal(parse("h_bucket{le=\"+Inf\"} +Inf", &seen), DBE_OK);
    assert_true(isinf(seen.last.value));
    assert_int_equal(parse("# HELP a b\n# TYPE a gauge\n\n \na NaN\nb -Inf\n", &seen), DBE_OK);
    assert_int_equal(seen.count, 2);
    assert_int_equal(parse("", &seen), DBE_OK);
}

static void bad_lines(void **state)
{
    static const char *const rows[] = {
        "a",
        "a ",
        "9a 1",
        "a{ 1",
        "a{x} 1",
        "a{x=1} 1",
        "a{x=\"1} 1",
        "a{x=\"\\t\"} 1",
        "a{x=\"1\"",
        "a{x=\"1\" y=\"2\"} 1",
        "a{,} 1",
        "a{x=\"1\",x=\"2\"} 1",
        "a 0x10",
        "a infinity",
        "a nan(1)",
        "a 1 x",
        "a 1 2 3",
        "a 1e",
        "a{a:b=\"\"} 1",
        "{x=\"1\"} 1",
        "a 1\r",
        "a --1",
    };
    struct seen seen;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++)
        if (parse(rows[i], &seen) != DBE_E_MALFORMED || seen.count != 0)
            fail_msg("taken: %s", rows[i]);
    struct dbe_diag diag = {0};
    const char two[] = "a 1\n\nb x\n";
    assert_int_equal(prom_parse(two, sizeof two - 1, on_sample, &seen, &diag), DBE_E_MALFORMED);
    assert_non_null(strstr(diag.text, "line 3"));
    assert_int_equal(prom_parse("a{x=\"\0\"} 1", 11, on_sample, &seen, NULL), DBE_E_MALFORMED);
}

/* `count` times `piece` between `head` and `tail`. */
static dbe_err repeated(const char *head, const char *piece, size_t count, const char *tail, struct seen *seen)
{
    struct base_buf b;

    base_buf_init(&b, PROM_TEXT_MAX_BYTES + 4096);
    base_buf_str(&b, head);
    for (size_t i = 0; i < count; i++)
        base_buf_str(&b, piece);
    base_buf_str(&b, tail);
    dbe_err err = parse(base_buf_cstr(&b), seen);
    base_buf_free(&b);
    return err;
}

static void maxima(void **state)
{
    char labels[1024];
    struct seen seen;
    size_t len = 0;

    (void)state;
    assert_int_equal(repeated("", "n", PROM_NAME_BYTES - 1, " 1", &seen), DBE_OK);
    assert_int_equal(repeated("", "n", PROM_NAME_BYTES, " 1", &seen), DBE_E_TOO_LARGE);
    assert_int_equal(repeated("a{x=\"", "\\n", PROM_VALUE_BYTES - 1, "\"} 1", &seen), DBE_OK);
    assert_int_equal(repeated("a{x=\"", "\\n", PROM_VALUE_BYTES, "\"} 1", &seen), DBE_E_TOO_LARGE);
    assert_int_equal(repeated("", "a 1\n", PROM_SAMPLES_MAX, "", &seen), DBE_OK);
    assert_int_equal(repeated("", "a 1\n", PROM_SAMPLES_MAX + 1, "", &seen), DBE_E_TOO_LARGE);
    assert_int_equal(repeated("", "# comment\n", PROM_TEXT_MAX_BYTES / 10 + 1, "", &seen), DBE_E_TOO_LARGE);
    assert_int_equal(repeated("a ", "1", 64, "", &seen), DBE_E_MALFORMED);
    for (int n = 0; n <= PROM_LABELS_MAX; n++)
        len += (size_t)snprintf(labels + len, sizeof labels - len, "l%d=\"\",", n);
    assert_int_equal(repeated("a{", labels, 1, "} 1", &seen), DBE_E_TOO_LARGE);
    labels[strstr(labels, "l16") - labels] = '\0';
    assert_int_equal(repeated("a{", labels, 1, "} 1", &seen), DBE_OK);
    assert_int_equal(seen.last.label_count, PROM_LABELS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(good_lines), cmocka_unit_test(bad_lines),
                                       cmocka_unit_test(maxima)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
