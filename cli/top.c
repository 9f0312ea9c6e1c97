/* SPDX-License-Identifier: Apache-2.0
 *
 * top.c - `dsmil top`: what every service of the mesh does now, from its own metrics.
 *
 * In:   mesh.json, and /healthz and /metrics of each service over its Unix socket
 * Out:  the view of top_draw.c, or one JSON document
 * Not:  it keeps nothing and asks nothing of a service that a monitoring system would not ask.
 */
#include "cli/top.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/prom.h"

/* ---- histograms ------------ */

/* Add `count` to the bucket of `bound`, made where it belongs. */
static void add_bucket(struct top_histogram *h, double bound, double count)
{
    size_t at = 0;

    while (at < h->len && h->bound[at] < bound)
        at++;
    if (at == h->len || h->bound[at] > bound) {
        if (h->len == TOP_BOUNDS_MAX)
            return;
        memmove(&h->bound[at + 1], &h->bound[at], (h->len - at) * sizeof h->bound[0]);
        memmove(&h->count[at + 1], &h->count[at], (h->len - at) * sizeof h->count[0]);
        h->bound[at] = bound;
        h->count[at] = 0;
        h->len++;
    }
    h->count[at] += count;
}

static double count_at(const struct top_histogram *now, const struct top_histogram *before, size_t i)
{
    const bool same =
        before != NULL && i < before->len && !(before->bound[i] < now->bound[i]) && !(before->bound[i] > now->bound[i]);
    return now->count[i] - (same ? before->count[i] : 0);
}

double top_quantile(const struct top_histogram *now, const struct top_histogram *before, double q)
{
    const double total = now->len > 0 ? count_at(now, before, now->len - 1) : 0;
    double below = 0, lower = 0;

    if (!(total > 0))
        return NAN;
    for (size_t i = 0; i < now->len; i++) {
        const double here = count_at(now, before, i);
        if (here >= q * total && here > below) {
            if (isinf(now->bound[i]))
                return lower;
            return lower + (now->bound[i] - lower) * fmax(q * total - below, 0) / (here - below);
        }
        below = fmax(here, below);
        lower = now->bound[i];
    }
    return lower;
}

/* ---- metrics ------------ */

/* Which sample goes where; those of one place add up. */
#define SUM(metric, field)                                                                                             \
    {                                                                                                                  \
        metric, offsetof(struct top_service, field)                                                                    \
    }
static const struct {
    const char *metric;
    size_t at;
} sums[] = {
    SUM("dsmil_device_requests_total", now.requests),
    SUM("dsmil_openai_requests_total", now.http_requests),
    SUM("dsmil_l7_tokens_generated_total", now.tokens),
    SUM("dsmil_device_errors_total", now.errors),
    SUM("dbe_policy_violations_total", now.refusals),
    SUM("dbe_peers", channels),
    SUM("dsmil_l7_worker_sessions", in_flight),
    SUM("dsmil_l7_router_in_flight", in_flight),
    SUM("dsmil_openai_in_flight", in_flight),
    SUM("dsmil_l7_worker_queued", queued),
    SUM("dsmil_l7_router_queued", queued),
    SUM("dsmil_l7_kv_used_bytes", kv_used),
    SUM("dsmil_l7_kv_limit_bytes", kv_limit),
    SUM("dsmil_system_memory_bytes", memory),
};
static const struct {
    const char *metric;
    size_t at;
} histograms[] = {
    SUM("dsmil_l7_latency_seconds_bucket", now.chat),
    SUM("dsmil_device_latency_seconds_bucket", now.device),
    SUM("dsmil_l7_first_token_seconds_bucket", now.first_token),
};
#undef SUM

struct scrape {
    struct top *top;
    struct top_service *service;
};

static void count_rule(struct top *t, const char *name, double count)
{
    size_t i = 0;

    while (i < t->rule_count && strcmp(t->rules[i].name, name) != 0)
        i++;
    if (i == t->rule_count) {
        if (t->rule_count >= TOP_RULES_MAX)
            name = "other";
        i = BASE_MIN(i, (size_t)TOP_RULES_MAX);
        t->rule_count += i == t->rule_count;
        snprintf(t->rules[i].name, sizeof t->rules[i].name, "%s", name);
    }
    t->rules[i].count += count;
}

static void on_sample(void *ctx, const struct prom_sample *s)
{
    struct scrape *scrape = ctx;
    uint8_t *service = (uint8_t *)scrape->service;
    const char *le = prom_label(s, "le");

    if (!(s->value >= 0 && s->value < 1e18)) /* nothing of what is shown is negative, and the rest is no number */
        return;
    for (size_t i = 0; i < BASE_ARRAY_LEN(sums); i++)
        if (strcmp(s->name, sums[i].metric) == 0)
            *(double *)(void *)(service + sums[i].at) += s->value;
    for (size_t i = 0; i < BASE_ARRAY_LEN(histograms) && le != NULL; i++)
        if (strcmp(s->name, histograms[i].metric) == 0) {
            const double bound = strtod(le, NULL);
            if (bound > 0)
                add_bucket((struct top_histogram *)(void *)(service + histograms[i].at), bound, s->value);
        }
    if (strcmp(s->name, "dbe_policy_violations_total") == 0 && s->value > 0) {
        const char *rule = prom_label(s, "rule");
        char name[TOP_RULE_BYTES];
        snprintf(name, sizeof name, "%s", rule != NULL ? rule : "");
        count_rule(scrape->top, name, s->value);
    }
}

static void scrape_service(struct top *t, struct top_service *s, const json_t *row)
{
    struct scrape scrape = {.top = t, .service = s};
    struct base_buf text = {0};
    struct dbe_diag diag = {0};

    s->now = (struct top_counts){.at_ns = base_mono_ns()};
    s->channels = s->in_flight = s->queued = s->kv_used = s->kv_limit = s->memory = 0;
    s->scraped = cli_service_ask(row, "/metrics", false, &text, &diag) == DBE_OK &&
                 prom_parse((const char *)text.data, text.len, on_sample, &scrape, &diag) == DBE_OK;
    base_buf_free(&text);
}

/* ---- what happened since ------------ */

static double rate(double now, double before, uint64_t ns)
{
    return ns > 0 ? (now - before) / ((double)ns / 1e9) : 0;
}

static void work_out(const struct top *t, struct top_service *s)
{
    const struct top_counts zero = {0};
    const struct top_counts *last = &zero, *first = &zero;

    s->requests_s = s->tokens_s = NAN;
    if (s->before_count > 0) {
        last = &s->before[(s->before_next + TOP_WINDOW - 1) % TOP_WINDOW];
        first = &s->before[(s->before_next + TOP_WINDOW - s->before_count) % TOP_WINDOW];
        const uint64_t ns = s->now.at_ns - last->at_ns;
        s->requests_s = rate(s->now.requests + s->now.http_requests, last->requests + last->http_requests, ns);
        s->tokens_s = rate(s->now.tokens, last->tokens, ns);
    }
    if (t->whole)
        first = &zero;
    const bool chat = s->now.chat.len > 0;
    const struct top_histogram *now = chat ? &s->now.chat : &s->now.device;
    const struct top_histogram *old = chat ? &first->chat : &first->device;
    s->latency_p50 = 1e3 * top_quantile(now, old, 0.5);
    s->latency_p99 = 1e3 * top_quantile(now, old, 0.99);
    s->first_token_p50 = 1e3 * top_quantile(&s->now.first_token, &first->first_token, 0.5);
    s->first_token_p99 = 1e3 * top_quantile(&s->now.first_token, &first->first_token, 0.99);
}

static void remember(struct top_service *s)
{
    s->before[s->before_next] = s->now;
    s->before_next = (s->before_next + 1) % TOP_WINDOW;
    s->before_count = BASE_MIN(s->before_count + 1, (size_t)TOP_WINDOW);
}

static struct top_service *service_named(struct top *t, const char *name)
{
    for (size_t i = 0; i < t->count; i++)
        if (strcmp(t->services[i].name, name) == 0)
            return &t->services[i];
    if (t->count == TOP_SERVICES_MAX)
        return NULL;
    struct top_service *s = &t->services[t->count++];
    memset(s, 0, sizeof *s);
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

static void look_at(struct top *t, const json_t *row)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    const char *state = json_string_value(json_object_get(row, "state"));
    const json_int_t since = json_integer_value(json_object_get(row, "started_unix"));
    const int pid = (int)json_integer_value(json_object_get(row, "pid"));
    struct top_service *s = name != NULL && strlen(name) < TOP_NAME_BYTES ? service_named(t, name) : NULL;

    if (s == NULL)
        return;
    if (s->pid != pid)
        s->before_count = 0; /* another process counts from 0 again */
    s->seen = true;
    s->pid = pid;
    s->device = (int)json_integer_value(json_object_get(row, "device"));
    s->restarts = (int)json_integer_value(json_object_get(row, "restarts"));
    s->up_s = since > 0 ? (double)base_wall_ms() / 1e3 - (double)since : 0;
    snprintf(s->state, sizeof s->state, "%s", state != NULL ? state : "?");
    cli_service_health(row, t->port, s->health, sizeof s->health);
    scrape_service(t, s, row);
    work_out(t, s);
    if (s->scraped)
        remember(s);
}

void top_look(struct top *t)
{
    json_t *mesh = NULL, *row;

    t->why = (struct dbe_diag){0};
    t->down = cli_mesh_read(&t->paths, &mesh, &t->why);
    const char *model = json_string_value(json_object_get(mesh, "model"));
    const char *name = json_string_value(json_object_get(mesh, "mesh"));
    size_t i;

    t->up = mesh != NULL;
    t->rule_count = 0;
    memset(t->rules, 0, sizeof t->rules);
    t->port = (unsigned)json_integer_value(json_object_get(mesh, "port"));
    snprintf(t->mesh, sizeof t->mesh, "%s", name != NULL ? name : "?");
    snprintf(t->model, sizeof t->model, "%s",
             model != NULL && strrchr(model, '/') != NULL ? strrchr(model, '/') + 1
             : model != NULL                              ? model
                                                          : "?");
    for (i = 0; i < t->count; i++)
        t->services[i].seen = false;
    json_array_foreach(json_object_get(mesh, "services"), i, row) look_at(t, row);
    json_decref(mesh);
}

/* ---- JSON ------------ */

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *service_json(const struct top_service *s)
{
    json_t *o =
        json_pack("{s:s,s:i,s:s,s:s,s:i,s:f,s:i,s:b}", "name", s->name, "device", s->device, "state", s->state,
                  "health", s->health, "pid", s->pid, "up_s", s->up_s, "restarts", s->restarts, "metrics", s->scraped);
    const struct {
        const char *key;
        double value;
    } counts[] = {{"channels", s->channels},
                  {"in_flight", s->in_flight},
                  {"queued", s->queued},
                  {"kv_used_bytes", s->kv_used},
                  {"kv_limit_bytes", s->kv_limit},
                  {"memory_bytes", s->memory},
                  {"requests_total", s->now.requests + s->now.http_requests},
                  {"tokens_total", s->now.tokens},
                  {"errors_total", s->now.errors},
                  {"refusals_total", s->now.refusals}};

    for (size_t i = 0; i < BASE_ARRAY_LEN(counts); i++)
        json_object_set_new(o, counts[i].key, json_integer((json_int_t)counts[i].value));
    json_object_set_new(o, "requests_per_s", number(s->requests_s));
    json_object_set_new(o, "tokens_per_s", number(s->tokens_s));
    json_object_set_new(o, "latency_ms",
                        json_pack("{s:o,s:o}", "p50", number(s->latency_p50), "p99", number(s->latency_p99)));
    json_object_set_new(o, "first_token_ms",
                        json_pack("{s:o,s:o}", "p50", number(s->first_token_p50), "p99", number(s->first_token_p99)));
    return o;
}

static int print_json(const struct top *t)
{
    json_t *services = json_array(), *refusals = json_object();

    for (size_t i = 0; i < t->count; i++)
        if (t->services[i].seen)
            json_array_append_new(services, service_json(&t->services[i]));
    for (size_t i = 0; i < t->rule_count; i++)
        json_object_set_new(refusals, t->rules[i].name, json_integer((json_int_t)t->rules[i].count));
    return cli_print_json(json_pack("{s:b,s:s,s:i,s:s,s:o,s:o}", "up", 1, "mesh", t->mesh, "port", (int)t->port,
                                    "model", t->model, "services", services, "refusals_by_rule", refusals));
}

/* ---- command line ------------ */

static int once(struct top *t, bool json)
{
    const struct timespec second = {.tv_sec = 1};
    struct base_buf text;

    t->whole = true;
    top_look(t);
    if (t->up) {
        nanosleep(&second, NULL); /* rates need two looks */
        top_look(t);
    }
    if (!t->up && t->down != DBE_E_UNAVAILABLE)
        (void)cli_fail(CLI_NOT_UP, "top", t->down, &t->why);
    else if (!t->up && !json)
        fprintf(stderr, "dsmil: %s\n", t->why.text);
    if (!t->up)
        return json ? cli_print_down() : CLI_NOT_UP;
    if (json)
        return print_json(t);
    base_buf_init(&text, 1 << 20);
    top_text(t, SIZE_MAX, 0, cli_colour(STDOUT_FILENO), &text);
    fwrite(text.data, 1, text.len, stdout);
    base_buf_free(&text);
    return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

static int usage(FILE *out, int code)
{
    fputs("usage: dsmil top [--once] [--json]      what every service does, again each second\n\n"
          "  --once   look for one second, print, end; what happens where standard output is no terminal\n"
          "  --json   the same as one JSON object\n\n"
          "Percentiles are of the last minute, with --once of all since the service started. q ends.\n",
          out);
    return code;
}

int cli_top(int argc, char **argv)
{
    static struct top t;
    struct dbe_diag diag = {0};
    bool json = false, one = isatty(STDOUT_FILENO) != 1;
    dbe_err err;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--once") == 0)
            one = true;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return usage(stdout, CLI_OK);
        else
            return cli_wrong("top", "it takes no \"%s\"", argv[i]);
    }
    if ((err = cli_paths_init(&t.paths, &diag)) != DBE_OK)
        return cli_fail(CLI_USAGE, "state", err, &diag);
    t.services = base_alloc(TOP_SERVICES_MAX, sizeof *t.services);
    if (t.services == NULL)
        return cli_fail(CLI_FAILED, "top", DBE_E_NOMEM, NULL);
    int code = one || json ? once(&t, json) : top_live(&t);
    base_free(t.services);
    return code;
}
