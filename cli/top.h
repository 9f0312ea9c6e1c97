/* SPDX-License-Identifier: Apache-2.0
 *
 * top.h - what `dsmil top` knows of a mesh between two looks at it, and its two ways to show that.
 */
#ifndef CLI_TOP_H
#define CLI_TOP_H

#include "cli/cli.h"

enum {
    TOP_SERVICES_MAX = 64,
    TOP_RULES_MAX = 32, /* rules that refused; further ones count together */
    TOP_RULE_BYTES = 48,
    TOP_NAME_BYTES = 64,
    TOP_BOUNDS_MAX = 32, /* of a histogram */
    TOP_WINDOW = 60      /* looks over which a live view takes percentiles */
};

/* Cumulative counts at or below each bound, bounds ascending. */
struct top_histogram {
    double bound[TOP_BOUNDS_MAX], count[TOP_BOUNDS_MAX];
    size_t len;
};

/* What only grows while a service lives. */
struct top_counts {
    uint64_t at_ns;
    double requests, http_requests, tokens, errors, refusals;
    struct top_histogram chat, device, first_token;
};

struct top_service {
    char name[TOP_NAME_BYTES], state[16], health[32];
    int device, pid, restarts;
    double up_s;
    bool seen, scraped; /* in the mesh's list; its metrics were read this time */
    struct top_counts now, before[TOP_WINDOW];
    size_t before_count, before_next;
    double channels, in_flight, queued, kv_used, kv_limit, memory;                           /* now */
    double requests_s, tokens_s, latency_p50, latency_p99, first_token_p50, first_token_p99; /* NAN: nothing to tell */
};

struct top {
    struct cli_paths paths;
    dbe_err down; /* why it is not up, with words */
    struct dbe_diag why;
    bool up, whole; /* whole: percentiles since the services started, not over the window */
    char mesh[128], model[256];
    unsigned port;
    struct top_service *services;
    size_t count;
    struct top_rule {
        char name[TOP_RULE_BYTES];
        double count;
    } rules[TOP_RULES_MAX + 1];
    size_t rule_count;
};

/* top.c: look at every service once, and work out what happened since the last look. */
void top_look(struct top *t);
/* The q-quantile of what `now` counted beyond `before` (NULL: nothing), as Prometheus' histogram_quantile takes it. NAN
 * if that is nothing. Pure. */
double top_quantile(const struct top_histogram *now, const struct top_histogram *before, double q);

/* top_draw.c: the view as lines of at most `columns` characters and at most `rows` of them (0: as many as there are).
 */
void top_text(const struct top *t, size_t columns, size_t rows, bool colour, struct base_buf *out);
/* Show it on the terminal, again every second, until q or a signal. */
int top_live(struct top *t);

#endif
