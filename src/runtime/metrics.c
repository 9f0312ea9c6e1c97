/* SPDX-License-Identifier: Apache-2.0
 *
 * metrics.c - counters, gauges and histograms with bounded label sets, and their text form.
 *
 * In:   observations by metric and label set; the device's own counters
 * Out:  Prometheus text format 0.0.4
 * Not:  no HTTP. A label value from outside costs one series, up to SVC_SERIES_MAX of a metric; further ones
 *       share "other".
 */
#include "runtime/priv.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct metric_row {
    const char *name;
    enum svc_metric_kind kind;
    const char *labels, *help;
};

static const struct metric_row rows[SVC_METRIC_COUNT] = {
#define METRIC(name, kind, labels, help) [SVC_M_##name] = {#name, SVC_METRIC_##kind, labels, help},
#include "runtime/metrics.def"
#undef METRIC
};

/* Upper bounds in seconds; what is above the last counts in +Inf alone. */
static const double bucket_bounds[SVC_BUCKETS] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                                  0.25,   0.5,   1,      2.5,   5,    10,    30,   60};

/* ---- label sets ------------------------------------------------------------------------------ */

/* Append `value`, escaped (backslash, quote, line feed), shortened, controls and broken UTF-8 as '?'. */
static void label_value(struct base_buf *b, const char *value)
{
    size_t len = strnlen(value, SVC_LABEL_VALUE_MAX);

    while (len > 0 && value[len] != '\0' && ((uint8_t)value[len] & 0xC0) == 0x80)
        len--; /* do not cut a character in two */
    bool valid = base_utf8_valid(value, len);
    for (size_t i = 0; i < len; i++) {
        char c = value[i];
        if (c == '\\' || c == '"')
            base_buf_u8(b, '\\');
        bool odd = (uint8_t)c < ' ' || c == 0x7F || (!valid && (uint8_t)c >= 0x80);
        base_buf_u8(b, odd ? '?' : (uint8_t)c);
    }
}

/* A value takes at most twice its bytes and four values fit; a set that does not fit all the same is empty, not cut. */
void svc_labels(char out[SVC_LABELS_MAX], ...)
{
    struct base_buf b;
    va_list args;
    const char *name;

    base_buf_init_fixed(&b, out, SVC_LABELS_MAX - 1);
    va_start(args, out);
    while ((name = va_arg(args, const char *)) != NULL) {
        const char *value = va_arg(args, const char *);
        base_buf_str(&b, b.len > 0 ? "," : "");
        base_buf_str(&b, name);
        base_buf_str(&b, "=\"");
        label_value(&b, value);
        base_buf_str(&b, "\"");
    }
    va_end(args);
    out[b.err == DBE_OK ? b.len : 0] = '\0';
}

/* The set that stands for all that found no room: our own names keep their value, every other label says "other". */
static void overflow_labels(const struct svc_metrics *m, enum svc_metric id, char out[SVC_LABELS_MAX])
{
    const char *at = rows[id].labels;
    struct base_buf b;

    base_buf_init_fixed(&b, out, SVC_LABELS_MAX - 1);
    while (*at != '\0') {
        size_t len = strcspn(at, ",");
        const char *value = strncmp(at, "device_id", len) == 0 && len == 9 ? m->device_id
                            : strncmp(at, "node", len) == 0 && len == 4    ? m->node
                                                                           : "other";
        base_buf_fmt(&b, "%s%.*s=\"%s\"", b.len > 0 ? "," : "", (int)len, at, value);
        at += len + (at[len] == ',');
    }
    out[b.err == DBE_OK ? b.len : 0] = '\0';
}

static struct svc_series *series_find(struct svc_series *series, size_t count, const char *labels)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(series[i].labels, labels) == 0)
            return &series[i];
    return NULL;
}

/* The series of `labels`, made if there is room, else "other"; NULL only without memory. */
static struct svc_series *series_of(struct svc_metrics *m, enum svc_metric id, const char *labels)
{
    char text[SVC_LABELS_MAX];
    size_t *count = &m->of[id].count, *cap = &m->of[id].cap;

    if (snprintf(text, sizeof text, "%s", labels != NULL ? labels : "") >= (int)sizeof text)
        overflow_labels(m, id, text);
    struct svc_series *s = series_find(m->of[id].series, *count, text);
    if (s == NULL && *count >= SVC_SERIES_MAX) {
        overflow_labels(m, id, text);
        s = series_find(m->of[id].series, *count, text);
    }
    if (s != NULL)
        return s;
    if (*count == *cap) {
        size_t cap_new = BASE_MIN(*cap + 8, (size_t)SVC_SERIES_MAX + 1);
        s = base_realloc(m->of[id].series, cap_new, sizeof *s);
        if (s == NULL)
            return NULL;
        m->of[id].series = s;
        *cap = cap_new;
    }
    s = &m->of[id].series[(*count)++];
    memset(s, 0, sizeof *s);
    memcpy(s->labels, text, sizeof text);
    return s;
}

/* ---- recording ------------------------------------------------------------------------------- */

void svc_metric_add(struct svc_metrics *m, enum svc_metric id, const char *labels, uint64_t add)
{
    struct svc_series *s = series_of(m, id, labels);

    if (s != NULL)
        s->count += add;
}

void svc_metric_set_counter(struct svc_metrics *m, enum svc_metric id, const char *labels, uint64_t value)
{
    struct svc_series *s = series_of(m, id, labels);

    if (s != NULL)
        s->count = value;
}

void svc_metric_set(struct svc_metrics *m, enum svc_metric id, const char *labels, double value)
{
    struct svc_series *s = series_of(m, id, labels);

    if (s != NULL)
        s->value = value;
}

void svc_metric_observe(struct svc_metrics *m, enum svc_metric id, const char *labels, double value)
{
    struct svc_series *s = isfinite(value) ? series_of(m, id, labels) : NULL;

    if (s == NULL)
        return;
    s->count++;
    s->value += value;
    for (size_t i = 0; i < SVC_BUCKETS; i++)
        s->buckets[i] += value <= bucket_bounds[i];
}

void svc_metrics_free(struct svc_metrics *m)
{
    for (size_t i = 0; i < SVC_METRIC_COUNT; i++)
        base_free(m->of[i].series);
    memset(m->of, 0, sizeof m->of);
}

/* A name that stands in no row, or has another kind, is a mistake of the device: it is said in the log and
 * counted nowhere. */
static bool metric_named(struct svc *svc, const char *name, bool histogram, enum svc_metric *ret)
{
    for (size_t i = 0; i < SVC_METRIC_COUNT; i++)
        if (strcmp(rows[i].name, name) == 0 && (rows[i].kind == SVC_METRIC_HISTOGRAM) == histogram) {
            *ret = (enum svc_metric)i;
            return true;
        }
    svc_log(svc, SVC_ERROR, NULL, "no %s is named %s in metrics.def", histogram ? "histogram" : "counter", name);
    return false;
}

void svc_count(struct svc *svc, const char *metric, const char *labels, uint64_t add)
{
    enum svc_metric id;

    if (!metric_named(svc, metric, false, &id))
        return;
    if (rows[id].kind == SVC_METRIC_GAUGE)
        svc_metric_set(&svc->metrics, id, labels, (double)add);
    else
        svc_metric_add(&svc->metrics, id, labels, add);
}

void svc_observe(struct svc *svc, const char *metric, const char *labels, double value)
{
    enum svc_metric id;

    if (metric_named(svc, metric, true, &id))
        svc_metric_observe(&svc->metrics, id, labels, value);
}

/* ---- text form ------------------------------------------------------------------------------- */

/* HELP text: backslash and line feed are escaped, nothing else. */
static void write_head(struct base_buf *out, const char *name, const char *help, const char *type)
{
    base_buf_fmt(out, "# HELP %s ", name);
    for (const char *p = help; *p != '\0'; p++) {
        if (*p == '\\' || *p == '\n')
            base_buf_str(out, *p == '\n' ? "\\n" : "\\\\");
        else
            base_buf_u8(out, (uint8_t)*p);
    }
    base_buf_fmt(out, "\n# TYPE %s %s\n", name, type);
}

static void write_uint(struct base_buf *out, const char *name, const char *labels, uint64_t value)
{
    bool bare = labels == NULL || labels[0] == '\0';
    base_buf_fmt(out, bare ? "%s%s %llu\n" : "%s{%s} %llu\n", name, bare ? "" : labels, (unsigned long long)value);
}

static void write_double(struct base_buf *out, const char *name, const char *labels, double value)
{
    base_buf_fmt(out, labels[0] == '\0' ? "%s%s %.17g\n" : "%s{%s} %.17g\n", name, labels, value);
}

static void write_histogram(struct base_buf *out, const char *name, const struct svc_series *s)
{
    char full[SVC_LABELS_MAX];
    const char *sep = s->labels[0] == '\0' ? "" : ",";

    for (size_t i = 0; i < SVC_BUCKETS; i++)
        base_buf_fmt(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, s->labels, sep, bucket_bounds[i],
                     (unsigned long long)s->buckets[i]);
    base_buf_fmt(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, s->labels, sep, (unsigned long long)s->count);
    snprintf(full, sizeof full, "%s_sum", name);
    write_double(out, full, s->labels, s->value);
    snprintf(full, sizeof full, "%s_count", name);
    write_uint(out, full, s->labels, s->count);
}

static uint64_t counter_value(const struct svc_counter *c, const void *state)
{
    uint64_t value;

    memcpy(&value, (const uint8_t *)state + c->offset, sizeof value);
    return value;
}

/* Samples of every device counter called `name`; one family may have several label sets. */
static void write_counters(struct base_buf *out, const struct svc_counter *counters, const void *state,
                           const char *name)
{
    for (const struct svc_counter *c = counters; c != NULL && c->name != NULL; c++)
        if (strcmp(c->name, name) == 0)
            write_uint(out, c->name, c->labels, counter_value(c, state));
}

static const struct svc_counter *counter_first(const struct svc_counter *counters, const char *name)
{
    for (const struct svc_counter *c = counters; c != NULL && c->name != NULL; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

static bool is_registered(const char *name)
{
    for (size_t i = 0; i < SVC_METRIC_COUNT; i++)
        if (strcmp(rows[i].name, name) == 0)
            return true;
    return false;
}

static void write_family(const struct svc_metrics *m, enum svc_metric id, struct base_buf *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    const struct metric_row *row = &rows[id];

    write_head(out, row->name, row->help, types[row->kind]);
    for (size_t i = 0; i < m->of[id].count; i++) {
        const struct svc_series *s = &m->of[id].series[i];
        if (row->kind == SVC_METRIC_HISTOGRAM)
            write_histogram(out, row->name, s);
        else if (row->kind == SVC_METRIC_GAUGE)
            write_double(out, row->name, s->labels, s->value);
        else
            write_uint(out, row->name, s->labels, s->count);
    }
}

void svc_metrics_write(const struct svc_metrics *m, const struct svc_counter *counters, const void *state,
                       struct base_buf *out)
{
    for (size_t i = 0; i < SVC_METRIC_COUNT; i++) {
        if (m->of[i].count == 0 && counter_first(counters, rows[i].name) == NULL)
            continue;
        write_family(m, (enum svc_metric)i, out);
        write_counters(out, counters, state, rows[i].name);
    }
    for (const struct svc_counter *c = counters; c != NULL && c->name != NULL; c++) {
        if (is_registered(c->name) || counter_first(counters, c->name) != c)
            continue;
        write_head(out, c->name, c->doc, c->kind == SVC_GAUGE ? "gauge" : "counter");
        write_counters(out, counters, state, c->name);
    }
}
