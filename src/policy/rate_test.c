/* SPDX-License-Identifier: Apache-2.0
 *
 * rate_test.c - limits of tenants: random sequences against a log that keeps everything, and what gateways got wrong.
 *
 * The model is as simple as can be: every grant with its time. From it follow how much any window holds, the earliest
 * moment at which a refused request fits, and what is in use.
 */
#include "base/test.h"

#include <stdio.h>
#include <string.h>

#include "policy/rate.h"

/* ---- the model ------------------------------------------------------------------------------------ */

enum { GRANTS_MAX = 4096, OPEN_MAX = 32, STEPS = 3000, SEEDS = 60 };

struct grant {
    uint64_t time_ms, requests, tokens, kv_bytes;
    bool open;
    struct pol_ticket ticket;
};

static struct model {
    struct grant grants[GRANTS_MAX];
    size_t count;
    uint64_t clock_ms, time_ms; /* what the machine is told, and what passed */
    uint64_t seed;
} m;

static uint64_t draw(uint64_t below)
{
    m.seed ^= m.seed << 13;
    m.seed ^= m.seed >> 7;
    m.seed ^= m.seed << 17;
    return m.seed % below;
}

/* What was granted within the window that ends at `time_ms` and still counts. */
static uint64_t within(uint64_t window_ms, uint64_t time_ms, bool tokens)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < m.count; i++)
        if (m.grants[i].time_ms + window_ms > time_ms)
            sum += tokens ? m.grants[i].tokens : m.grants[i].requests;
    return sum;
}

static uint64_t slack_ms(uint64_t window_ms)
{
    return 2 * ((window_ms + POL_RATE_SLOTS - 1) / POL_RATE_SLOTS);
}

static void in_use(uint32_t *ret_parallel, uint64_t *ret_kv)
{
    *ret_parallel = 0;
    *ret_kv = 0;
    for (size_t i = 0; i < m.count; i++)
        if (m.grants[i].open) {
            (*ret_parallel)++;
            *ret_kv += m.grants[i].kv_bytes;
        }
}

/* ---- random sequences -------------------------------------------------------------------------------- */

static void pass(int64_t ms)
{
    m.clock_ms = (uint64_t)((int64_t)m.clock_ms + ms);
    if (ms > 0)
        m.time_ms += (uint64_t)ms;
}

static void step_time(void)
{
    switch (draw(20)) {
    case 0: pass(-(int64_t)draw(100000)); break; /* the clock is set back */
    case 1: pass((int64_t)draw(200000)); break;  /* or leaps */
    case 2: break;
    default: pass((int64_t)draw(400));
    }
}

/* A refusal by time: it is neither early nor late, by the model alone. */
static void check_refusal(const struct pol_limits *l, uint64_t tokens, const struct pol_refusal *why)
{
    const bool by_tokens = strcmp(why->limit, "tokens") == 0;
    const struct pol_rate *rate = by_tokens ? &l->tokens : &l->requests;
    const uint64_t amount = by_tokens ? tokens : 1, at = m.time_ms + why->retry_after_ms;

    if (amount > rate->count) {
        assert_int_equal(why->retry_after_ms, 0);
        return;
    }
    assert_true(why->retry_after_ms > 0);
    assert_true(within(rate->window_ms, at, by_tokens) + amount <= rate->count);
    if (why->retry_after_ms > slack_ms(rate->window_ms)) /* a slot earlier it did not fit yet */
        assert_true(within(rate->window_ms, at - slack_ms(rate->window_ms), by_tokens) + amount > rate->count);
}

static void check_grant(const struct pol_limits *l)
{
    uint32_t parallel;
    uint64_t kv;

    in_use(&parallel, &kv);
    assert_true(l->requests.count == 0 || within(l->requests.window_ms, m.time_ms, false) <= l->requests.count);
    assert_true(l->tokens.count == 0 || within(l->tokens.window_ms, m.time_ms, true) <= l->tokens.count);
    assert_true(l->parallel == 0 || parallel <= l->parallel);
    assert_true(l->kv_bytes == 0 || kv <= l->kv_bytes);
}

static dbe_err step_reserve(struct pol_rates *r, const struct pol_limits *l, uint64_t tokens, uint64_t kv_bytes)
{
    struct grant *g = &m.grants[m.count];
    struct pol_refusal why = {0};
    uint32_t parallel;
    uint64_t kv;
    dbe_err err;

    assert_true(m.count < GRANTS_MAX);
    *g = (struct grant){.time_ms = m.time_ms, .requests = 1, .tokens = tokens, .kv_bytes = kv_bytes, .open = true};
    err = pol_rate_reserve(r, "T", l, tokens, kv_bytes, m.clock_ms, &g->ticket, &why);
    if (err == DBE_OK) {
        m.count++;
        check_grant(l);
        return err;
    }
    assert_int_equal(err, DBE_E_LIMIT);
    assert_true(why.reason[0] != '\0');
    in_use(&parallel, &kv);
    if (strcmp(why.limit, "parallel") == 0)
        assert_int_equal(parallel, l->parallel);
    else if (strcmp(why.limit, "kv") == 0)
        assert_true(kv + kv_bytes > l->kv_bytes);
    else
        check_refusal(l, tokens, &why);
    /* come back when told, with nobody else meanwhile: it is let in, unless others must end first */
    if (why.retry_after_ms == 0 || draw(3) != 0 || (l->parallel != 0 && parallel >= l->parallel) ||
        (l->kv_bytes != 0 && kv + kv_bytes > l->kv_bytes))
        return err;
    pass((int64_t)why.retry_after_ms);
    g->time_ms = m.time_ms;
    assert_int_equal(pol_rate_reserve(r, "T", l, tokens, kv_bytes, m.clock_ms, &g->ticket, &why), DBE_OK);
    m.count++;
    check_grant(l);
    return DBE_OK;
}

static void step_end(struct pol_rates *r)
{
    struct grant *g = &m.grants[m.count > 0 ? draw(m.count) : 0];

    if (m.count == 0 || !g->open)
        return;
    g->open = false;
    if (draw(4) == 0) {
        g->requests = g->tokens = 0;
        pol_rate_refund(r, &g->ticket, m.clock_ms);
    } else {
        g->tokens = draw(g->tokens + 1);
        pol_rate_settle(r, &g->ticket, g->tokens, m.clock_ms);
    }
    if (draw(3) == 0) /* a second time: nothing */
        pol_rate_refund(r, &g->ticket, m.clock_ms);
}

static void check_usage(struct pol_rates *r, const struct pol_limits *l)
{
    struct pol_usage u;
    uint32_t parallel;
    uint64_t kv;

    in_use(&parallel, &kv);
    pol_rate_usage(r, "T", m.clock_ms, &u);
    assert_int_equal(u.parallel, parallel);
    assert_int_equal(u.kv_bytes, kv);
    if (l->tokens.count != 0) { /* between the exact sum and that of a slot before */
        const uint64_t window = l->tokens.window_ms;
        assert_true(u.tokens >= within(window, m.time_ms, true));
        assert_true(u.tokens <= within(window + slack_ms(window), m.time_ms, true));
    }
}

static void run(uint64_t seed, const struct pol_limits *l)
{
    struct pol_rates *r = NULL;
    struct pol_usage u;

    memset(&m, 0, sizeof m);
    m.seed = seed * 0x9E3779B97F4A7C15u + 1;
    m.clock_ms = m.time_ms = 10000000;
    assert_int_equal(pol_rates_new(&r), DBE_OK);
    for (int i = 0; i < STEPS; i++) {
        step_time();
        if (draw(2) == 0)
            (void)step_reserve(r, l, draw(l->tokens.count != 0 ? l->tokens.count / 4 + 2 : 100), draw(64));
        else
            step_end(r);
        check_usage(r, l);
    }
    for (size_t i = 0; i < m.count; i++)
        if (m.grants[i].open)
            pol_rate_settle(r, &m.grants[i].ticket, m.grants[i].tokens, m.clock_ms);
    m.clock_ms += 2 * BASE_MAX(l->requests.window_ms, l->tokens.window_ms) + 1; /* and then nothing is left of it */
    pol_rate_usage(r, "T", m.clock_ms, &u);
    assert_int_equal(u.requests + u.tokens + u.kv_bytes + u.parallel, 0);
    pol_rates_free(r);
}

static void random_sequences_agree_with_the_model(void **state)
{
    static const struct pol_limits limits[] = {
        {.requests = {10, 1000}},
        {.requests = {100, 60000}, .tokens = {20000, 60000}, .parallel = 4, .kv_bytes = 256},
        {.tokens = {500, 3000}},
        {.requests = {5, 300000}, .parallel = 2},
        {.requests = {7, 7001}, .tokens = {90, 100003}, .kv_bytes = 100},
        {.parallel = 3},
    };

    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run(seed, &limits[seed % BASE_ARRAY_LEN(limits)]);
}

/* ---- what gateways got wrong, one by one ---------------------------------------------------------------- */

struct desk {
    struct pol_rates *r;
    struct pol_refusal why;
    uint64_t now_ms;
};

static int desk_open(void **state)
{
    static struct desk d;

    d = (struct desk){.now_ms = 5000};
    *state = &d;
    return pol_rates_new(&d.r) == DBE_OK ? 0 : -1;
}

static int desk_close(void **state)
{
    pol_rates_free(((struct desk *)*state)->r);
    return 0;
}

static dbe_err come(struct desk *d, const char *tenant, const struct pol_limits *l, uint64_t tokens,
                    struct pol_ticket *ret)
{
    return pol_rate_reserve(d->r, tenant, l, tokens, 0, d->now_ms, ret, &d->why);
}

/* BerriAI/litellm#26378: a team's requests per minute were ignored. The account is the tenant's: whichever of its
 * clients asks, the same counter answers, and another tenant's does not. */
static void every_client_of_a_tenant_counts(void **state)
{
    const struct pol_limits l = {.requests = {4, 60000}};
    struct pol_ticket t;

    for (int i = 0; i < 4; i++)
        assert_int_equal(come(*state, "team", &l, 1, &t), DBE_OK);
    assert_int_equal(come(*state, "team", &l, 1, &t), DBE_E_LIMIT);
    assert_int_equal(come(*state, "other", &l, 1, &t), DBE_OK);
}

/* BerriAI/litellm#39713: a changed limit did nothing once the key was cached. */
static void a_changed_limit_binds_the_next_request(void **state)
{
    struct desk *d = *state;
    struct pol_limits l = {.requests = {100, 60000}};
    struct pol_ticket t;

    for (int i = 0; i < 10; i++)
        assert_int_equal(come(d, "T", &l, 1, &t), DBE_OK);
    l.requests.count = 10;
    assert_int_equal(come(d, "T", &l, 1, &t), DBE_E_LIMIT);
    l.requests.count = 11;
    assert_int_equal(come(d, "T", &l, 1, &t), DBE_OK);
    l.requests = (struct pol_rate){12, 120000}; /* another window: what was used counts on */
    assert_int_equal(come(d, "T", &l, 1, &t), DBE_OK);
    assert_int_equal(come(d, "T", &l, 1, &t), DBE_E_LIMIT);
    l.requests.count = 0; /* no limit any more */
    assert_int_equal(come(d, "T", &l, 1, &t), DBE_OK);
}

/* BerriAI/litellm#24677, #18953: requests and tokens shared one counter and one window, so that tenants were throttled
 * at 60 to 70 % of either. All of both is there at once. */
static void requests_and_tokens_are_counted_apart(void **state)
{
    const struct pol_limits l = {.requests = {100, 60000}, .tokens = {100000, 60000}};
    struct pol_ticket t;

    for (int i = 0; i < 100; i++)
        assert_int_equal(come(*state, "T", &l, 1000, &t), DBE_OK);
    assert_int_equal(come(*state, "T", &l, 0, &t), DBE_E_LIMIT);
    assert_string_equal(((struct desk *)*state)->why.limit, "requests");
}

/* BerriAI/litellm#4829: one request beyond the tokens per minute passed, for it was counted when it had ended. */
static void one_request_beyond_the_limit_is_refused(void **state)
{
    struct desk *d = *state;
    const struct pol_limits l = {.tokens = {1000, 60000}};
    struct pol_ticket t;

    assert_int_equal(come(d, "T", &l, 1001, &t), DBE_E_LIMIT);
    assert_string_equal(d->why.limit, "tokens");
    assert_int_equal(d->why.retry_after_ms, 0); /* coming again is no use */
    assert_int_equal(come(d, "T", &l, 1000, &t), DBE_OK);
}

/* BerriAI/litellm#13854 and its like: limits were checked first and counted later, so that whoever came together passed
 * together. A grant is a reservation. */
static void who_comes_together_is_counted_together(void **state)
{
    struct desk *d = *state;
    const struct pol_limits l = {.tokens = {1000, 60000}};
    struct pol_ticket t[3];

    assert_int_equal(come(d, "T", &l, 400, &t[0]), DBE_OK);
    assert_int_equal(come(d, "T", &l, 400, &t[1]), DBE_OK);
    assert_int_equal(come(d, "T", &l, 400, &t[2]), DBE_E_LIMIT);
    pol_rate_settle(d->r, &t[0], 150, d->now_ms); /* what was not used is there for the next */
    assert_int_equal(come(d, "T", &l, 400, &t[2]), DBE_OK);
}

/* mostlygeek/llama-swap#653: no limit of requests at once for a key. A request that fails gives its place back. */
static void requests_at_once_come_back_however_they_end(void **state)
{
    struct desk *d = *state;
    const struct pol_limits l = {.parallel = 2};
    struct pol_ticket a, b, c;

    assert_int_equal(come(d, "T", &l, 1, &a), DBE_OK);
    assert_int_equal(come(d, "T", &l, 1, &b), DBE_OK);
    assert_int_equal(come(d, "T", &l, 1, &c), DBE_E_LIMIT);
    assert_string_equal(d->why.limit, "parallel");
    assert_int_equal(d->why.retry_after_ms, POL_RATE_UNIT_MS);
    pol_rate_refund(d->r, &a, d->now_ms);
    pol_rate_refund(d->r, &a, d->now_ms); /* twice gives one place */
    assert_int_equal(come(d, "T", &l, 1, &a), DBE_OK);
    assert_int_equal(come(d, "T", &l, 1, &c), DBE_E_LIMIT);
}

/* Counters that start anew each minute let twice the limit pass around its end. */
static void a_window_slides(void **state)
{
    struct desk *d = *state;
    const struct pol_limits l = {.requests = {10, 60000}};
    struct pol_ticket t;

    d->now_ms = 119000;
    for (int i = 0; i < 10; i++)
        assert_int_equal(come(d, "T", &l, 1, &t), DBE_OK);
    d->now_ms = 121000; /* another minute of the clock */
    assert_int_equal(come(d, "T", &l, 1, &t), DBE_E_LIMIT);
    assert_in_range(d->why.retry_after_ms, 58000, 58000 + 34);
    d->now_ms += d->why.retry_after_ms - 1;
    assert_int_equal(come(d, "T", &l, 1, &t), DBE_E_LIMIT);
    d->now_ms++;
    assert_int_equal(come(d, "T", &l, 1, &t), DBE_OK);
}

static void the_later_of_two_limits_is_told(void **state)
{
    struct desk *d = *state;
    const struct pol_limits l = {.requests = {1, 1000}, .tokens = {10, 60000}};
    struct pol_ticket t;

    assert_int_equal(come(d, "T", &l, 10, &t), DBE_OK);
    assert_int_equal(come(d, "T", &l, 10, &t), DBE_E_LIMIT);
    assert_string_equal(d->why.limit, "tokens");
    assert_true(d->why.retry_after_ms >= 60000);
}

static void more_than_reserved_counts_as_well(void **state)
{
    struct desk *d = *state;
    const struct pol_limits l = {.tokens = {100, 60000}};
    struct pol_ticket t;
    struct pol_usage u;

    assert_int_equal(come(d, "T", &l, 10, &t), DBE_OK);
    pol_rate_settle(d->r, &t, 130, d->now_ms);
    pol_rate_usage(d->r, "T", d->now_ms, &u);
    assert_int_equal(u.tokens, 130);
    assert_int_equal(come(d, "T", &l, 1, &t), DBE_E_LIMIT);
    assert_true(d->why.retry_after_ms >= 60000);
}

/* A ticket that comes back after its window, or after its account went to another, touches nothing. */
static void late_tickets_touch_nothing(void **state)
{
    struct desk *d = *state;
    struct pol_limits l = {.requests = {10, 1000}, .tokens = {100, 1000}};
    struct pol_ticket late, t;
    struct pol_usage u;

    assert_int_equal(come(d, "T", &l, 60, &late), DBE_OK);
    d->now_ms += 100000;
    assert_int_equal(come(d, "T", &l, 60, &t), DBE_OK);
    pol_rate_refund(d->r, &late, d->now_ms);
    pol_rate_usage(d->r, "T", d->now_ms, &u);
    assert_int_equal(u.tokens, 60);
    assert_int_equal(u.parallel, 1);
    l.tokens.window_ms = 2000;
    assert_int_equal(come(d, "T", &l, 1, &late), DBE_OK);
    pol_rate_refund(d->r, &t, d->now_ms); /* granted under another window: it counts to its end */
    pol_rate_usage(d->r, "T", d->now_ms, &u);
    assert_int_equal(u.tokens, 61);
    assert_int_equal(u.parallel, 1);
}

static void accounts_have_a_maximum_and_are_used_again(void **state)
{
    struct desk *d = *state;
    const struct pol_limits l = {.requests = {10, 1000}}, none = {0};
    static struct pol_ticket t[POL_ACCOUNTS_MAX + 1];
    char name[16];

    for (int i = 0; i < POL_ACCOUNTS_MAX; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_int_equal(come(d, name, &l, 1, &t[i]), DBE_OK);
    }
    assert_int_equal(come(d, "one more", &l, 1, &t[POL_ACCOUNTS_MAX]), DBE_E_LIMIT);
    assert_string_equal(d->why.limit, "tenants");
    assert_int_equal(come(d, "no limits", &none, 1, &t[POL_ACCOUNTS_MAX]), DBE_OK); /* needs no account */
    d->now_ms += 10000;
    assert_int_equal(come(d, "one more", &l, 1, &t[POL_ACCOUNTS_MAX]), DBE_E_LIMIT); /* all still at work */
    pol_rate_settle(d->r, &t[7], 1, d->now_ms);
    assert_int_equal(come(d, "one more", &l, 1, &t[POL_ACCOUNTS_MAX]), DBE_OK);
    pol_rate_settle(d->r, &t[7], 1, d->now_ms); /* an empty ticket: the new owner keeps its place */
    assert_int_equal(come(d, "and another", &l, 1, &t[7]), DBE_E_LIMIT);
}

/* Whatever its length: no policy has such a window, and none may end the service. */
static void no_window_is_too_long(void **state)
{
    struct desk *d = *state;
    const struct pol_limits l = {.requests = {1, UINT64_MAX}};
    struct pol_ticket t;

    assert_int_equal(come(d, "T", &l, 1, &t), DBE_OK);
    assert_int_equal(come(d, "T", &l, 1, &t), DBE_E_LIMIT);
    assert_in_range(d->why.retry_after_ms, 1, POL_RATE_WINDOW_MAX_MS + slack_ms(POL_RATE_WINDOW_MAX_MS));
    d->now_ms += UINT64_MAX / 2;
    assert_int_equal(come(d, "T", &l, 1, &t), DBE_OK);
}

/* A request that will never fit is told so at once, and not that it may come again when others have ended. */
static void never_is_told_before_later(void **state)
{
    struct desk *d = *state;
    const struct pol_limits l = {.parallel = 1, .kv_bytes = 100};
    struct pol_ticket t;

    assert_int_equal(pol_rate_reserve(d->r, "T", &l, 1, 50, d->now_ms, &t, &d->why), DBE_OK);
    assert_int_equal(pol_rate_reserve(d->r, "T", &l, 1, 101, d->now_ms, &t, &d->why), DBE_E_LIMIT);
    assert_string_equal(d->why.limit, "kv");
    assert_int_equal(d->why.retry_after_ms, 0);
}

static void a_failed_allocation_reserves_nothing(void **state)
{
    struct desk *d = *state;
    const struct pol_limits l = {.requests = {1, 1000}};
    struct pol_ticket t = {.tokens = 77};

    base_fail_alloc_at(1);
    assert_int_equal(come(d, "T", &l, 1, &t), DBE_E_NOMEM);
    base_fail_alloc_at(0);
    assert_int_equal(t.tokens, 77);
    assert_int_equal(come(d, "T", &l, 1, &t), DBE_OK);
}

#define DESK(fn) cmocka_unit_test_setup_teardown(fn, desk_open, desk_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_sequences_agree_with_the_model),
        DESK(every_client_of_a_tenant_counts),
        DESK(a_changed_limit_binds_the_next_request),
        DESK(requests_and_tokens_are_counted_apart),
        DESK(one_request_beyond_the_limit_is_refused),
        DESK(who_comes_together_is_counted_together),
        DESK(requests_at_once_come_back_however_they_end),
        DESK(a_window_slides),
        DESK(the_later_of_two_limits_is_told),
        DESK(more_than_reserved_counts_as_well),
        DESK(late_tickets_touch_nothing),
        DESK(accounts_have_a_maximum_and_are_used_again),
        DESK(no_window_is_too_long),
        DESK(never_is_told_before_later),
        DESK(a_failed_allocation_reserves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
