/* SPDX-License-Identifier: Apache-2.0
 *
 * rate.c - see rate.h. A window is a ring of slots: what was granted in a slot leaves the sum when the whole slot is a
 * window old, so that a grant never leaves early. Refusals alone look at more than one slot.
 *
 * Tickets know the slots they were granted in; a layout number (it changes with the window's length) and a serial
 * number of the account keep a late ticket from touching what is not its own.
 */
#include "policy/rate_priv.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

dbe_err pol_rates_new(struct pol_rates **ret)
{
    struct pol_rates *rates = base_alloc(1, sizeof *rates);

    if (rates == NULL)
        return DBE_E_NOMEM;
    *ret = rates;
    return DBE_OK;
}

void pol_rates_free(struct pol_rates *rates)
{
    if (rates == NULL)
        return;
    for (size_t i = 0; i < POL_ACCOUNTS_MAX; i++)
        base_free(rates->accounts[i]);
    base_free(rates);
}

/* ---- time -------------------------------------------------------------------------------------- */

void rate_advance(struct pol_rates *r, uint64_t now_ms)
{
    if (r->started && now_ms > r->last_ms)
        r->time_ms += now_ms - r->last_ms;
    r->last_ms = now_ms;
    r->started = true;
}

/* ---- one window ---------------------------------------------------------------------------------- */

/* Slots that are a window old leave. */
void rate_roll(struct window *w, uint64_t time_ms)
{
    const uint64_t slot = time_ms / w->slot_ms;

    if (slot - w->head >= w->ring) {
        memset(w->slots, 0, sizeof w->slots);
        w->sum = 0;
        w->head = slot;
    }
    while (w->head < slot) {
        w->head++;
        w->sum -= w->slots[w->head % w->ring];
        w->slots[w->head % w->ring] = 0;
    }
}

/* Is this slot still in the window? */
bool rate_holds(const struct window *w, uint64_t slot)
{
    return slot <= w->head && w->head - slot < w->ring;
}

void rate_shape(struct window *w, uint64_t window_ms, uint64_t time_ms)
{
    memset(w, 0, sizeof *w);
    w->window_ms = window_ms;
    if (window_ms == 0)
        return;
    w->slot_ms = (window_ms + POL_RATE_SLOTS - 1) / POL_RATE_SLOTS;
    w->ring = (window_ms + w->slot_ms - 1) / w->slot_ms + 1;
    w->head = time_ms / w->slot_ms;
}

/* Take the length that the policy says now. What was granted under another counts on, as if it were new. */
static bool fit(struct window *w, const struct pol_rate *rate, uint64_t time_ms)
{
    const uint64_t window_ms = rate->count != 0 ? BASE_MIN(rate->window_ms, POL_RATE_WINDOW_MAX_MS) : 0;
    uint64_t sum;

    if (w->window_ms == window_ms) {
        if (window_ms != 0)
            rate_roll(w, time_ms);
        return false;
    }
    if (w->window_ms != 0)
        rate_roll(w, time_ms);
    sum = w->sum;
    rate_shape(w, window_ms, time_ms);
    if (window_ms == 0)
        return true;
    w->slots[w->head % w->ring] = w->sum = sum;
    return true;
}

/* When `need` more of the sum will have left. */
static uint64_t wait_ms(const struct window *w, uint64_t need, uint64_t time_ms)
{
    uint64_t left = 0;

    for (uint64_t age = w->ring; age-- > 0;) { /* oldest first */
        if (age > w->head)
            continue;
        left += w->slots[(w->head - age) % w->ring];
        if (left >= need)
            return (w->head - age + w->ring) * w->slot_ms - time_ms;
    }
    return w->window_ms; /* not reached while the sum is what the slots hold */
}

static void add(struct window *w, uint64_t amount)
{
    w->slots[w->head % w->ring] += amount;
    w->sum += amount;
}

static void change(struct window *w, uint64_t slot, uint64_t less, uint64_t more)
{
    if (w->window_ms == 0 || !rate_holds(w, slot))
        return; /* it has left already */
    w->slots[slot % w->ring] += more - less;
    w->sum += more - less;
}

/* ---- accounts --------------------------------------------------------------------------------------- */

static bool idle(struct account *a, uint64_t time_ms)
{
    if (a->requests.window_ms != 0)
        rate_roll(&a->requests, time_ms);
    if (a->tokens.window_ms != 0)
        rate_roll(&a->tokens, time_ms);
    return a->parallel == 0 && a->kv_bytes == 0 && a->requests.sum == 0 && a->tokens.sum == 0;
}

struct account *rate_account_new(struct pol_rates *r, size_t at, const char *tenant)
{
    struct account *a = r->accounts[at];

    if (a == NULL)
        a = base_alloc(1, sizeof *a);
    if (a == NULL)
        return NULL;
    memset(a, 0, sizeof *a);
    snprintf(a->tenant, sizeof a->tenant, "%s", tenant);
    a->serial = ++r->next_serial;
    r->accounts[at] = a;
    return a;
}

static struct account *find(const struct pol_rates *r, const char *tenant, size_t *ret_at)
{
    for (size_t i = 0; i < POL_ACCOUNTS_MAX; i++)
        if (r->accounts[i] != NULL && strcmp(r->accounts[i]->tenant, tenant) == 0) {
            *ret_at = i;
            return r->accounts[i];
        }
    return NULL;
}

/* A place of nobody, or of one who has nothing in use. POL_ACCOUNTS_MAX: there is none. */
static size_t free_place(struct pol_rates *r)
{
    size_t at = 0;

    while (at < POL_ACCOUNTS_MAX && r->accounts[at] != NULL)
        at++;
    for (size_t i = 0; at == POL_ACCOUNTS_MAX && i < POL_ACCOUNTS_MAX; i++)
        if (idle(r->accounts[i], r->time_ms))
            at = i;
    return at;
}

static dbe_err refuse(struct pol_refusal *why, const char *limit, uint64_t retry_after_ms, const char *fmt, ...)
    DBE_PRINTF(4, 5);
static dbe_err refuse(struct pol_refusal *why, const char *limit, uint64_t retry_after_ms, const char *fmt, ...)
{
    va_list args;

    why->limit = limit;
    why->retry_after_ms = retry_after_ms;
    va_start(args, fmt);
    vsnprintf(why->reason, sizeof why->reason, fmt, args);
    va_end(args);
    return DBE_E_LIMIT;
}

static dbe_err account(struct pol_rates *r, const char *tenant, size_t *ret_at, struct pol_refusal *why)
{
    size_t at;
    struct account *a = find(r, tenant, &at);

    if (a == NULL) {
        at = free_place(r);
        if (at == POL_ACCOUNTS_MAX)
            return refuse(why, "tenants", POL_RATE_UNIT_MS, "%d other tenants are at work", POL_ACCOUNTS_MAX);
        if (rate_account_new(r, at, tenant) == NULL)
            return DBE_E_NOMEM;
    }
    *ret_at = at;
    return DBE_OK;
}

/* ---- asking ------------------------------------------------------------------------------------------ */

static bool unlimited(const struct pol_limits *l)
{
    return l->requests.count == 0 && l->tokens.count == 0 && l->parallel == 0 && l->kv_bytes == 0;
}

static dbe_err check_window(const struct window *w, const struct pol_rate *rate, uint64_t amount, const char *limit,
                            uint64_t time_ms, struct pol_refusal *why)
{
    if (rate->count == 0 || (amount <= rate->count && w->sum <= rate->count - amount))
        return DBE_OK;
    if (amount > rate->count)
        return refuse(why, limit, 0,
                      "%" PRIu64 " %s in one request; the tenant may use %" PRIu64 " within %" PRIu64 " s", amount,
                      limit, rate->count, rate->window_ms / 1000);
    return refuse(why, limit, wait_ms(w, w->sum - (rate->count - amount), time_ms),
                  "the tenant has used %" PRIu64 " of %" PRIu64 " %s within %" PRIu64 " s", w->sum, rate->count, limit,
                  rate->window_ms / 1000);
}

static dbe_err check_held(const struct account *a, const struct pol_limits *l, uint64_t kv_bytes,
                          struct pol_refusal *why)
{
    if (l->kv_bytes != 0 && kv_bytes > l->kv_bytes)
        return refuse(why, "kv", 0, "%" PRIu64 " bytes of KV cache in one request; the tenant may hold %" PRIu64,
                      kv_bytes, l->kv_bytes);
    if (l->parallel != 0 && a->parallel >= l->parallel)
        return refuse(why, "parallel", POL_RATE_UNIT_MS, "the tenant has %" PRIu32 " of %" PRIu32 " requests at once",
                      a->parallel, l->parallel);
    if (l->kv_bytes != 0 && a->kv_bytes > l->kv_bytes - kv_bytes)
        return refuse(why, "kv", POL_RATE_UNIT_MS, "the tenant holds %" PRIu64 " of %" PRIu64 " bytes of KV cache",
                      a->kv_bytes, l->kv_bytes);
    return DBE_OK;
}

/* Of two refusals by time the later one counts: coming at the earlier would be in vain. "Never" outlasts all. */
static dbe_err check(const struct account *a, const struct pol_limits *l, uint64_t tokens, uint64_t kv_bytes,
                     uint64_t time_ms, struct pol_refusal *why)
{
    struct pol_refusal by[3] = {0};
    const dbe_err errs[] = {
        check_window(&a->requests, &l->requests, 1, "requests", time_ms, &by[0]),
        check_window(&a->tokens, &l->tokens, tokens, "tokens", time_ms, &by[1]),
        check_held(a, l, kv_bytes, &by[2]),
    };
    const struct pol_refusal *worst = NULL;

    for (size_t i = 0; i < BASE_ARRAY_LEN(errs); i++)
        if (errs[i] != DBE_OK && (worst == NULL || by[i].retry_after_ms == 0 ||
                                  (worst->retry_after_ms != 0 && by[i].retry_after_ms > worst->retry_after_ms)))
            worst = &by[i];
    if (worst == NULL)
        return DBE_OK;
    *why = *worst;
    return DBE_E_LIMIT;
}

dbe_err pol_rate_reserve(struct pol_rates *rates, const char *tenant, const struct pol_limits *limits, uint64_t tokens,
                         uint64_t kv_bytes, uint64_t now_ms, struct pol_ticket *ret, struct pol_refusal *why)
{
    struct account *a;
    size_t at = 0;

    tokens = BASE_MIN(tokens, AMOUNT_MAX);
    kv_bytes = BASE_MIN(kv_bytes, AMOUNT_MAX);
    rate_advance(rates, now_ms);
    if (unlimited(limits)) {
        *ret = (struct pol_ticket){0};
        return DBE_OK;
    }
    DBE_TRY(account(rates, tenant, &at, why));
    a = rates->accounts[at];
    bool changed = fit(&a->requests, &limits->requests, rates->time_ms);
    changed |= fit(&a->tokens, &limits->tokens, rates->time_ms);
    a->layout += changed;
    DBE_TRY(check(a, limits, tokens, kv_bytes, rates->time_ms, why));
    if (a->requests.window_ms != 0)
        add(&a->requests, 1);
    if (a->tokens.window_ms != 0)
        add(&a->tokens, tokens);
    rates->changes++;
    a->parallel++;
    a->kv_bytes += kv_bytes;
    *ret = (struct pol_ticket){.account = (uint16_t)(at + 1),
                               .layout = a->layout,
                               .serial = a->serial,
                               .request_slot = a->requests.head,
                               .token_slot = a->tokens.head,
                               .tokens = tokens,
                               .kv_bytes = kv_bytes};
    return DBE_OK;
}

/* ---- giving back --------------------------------------------------------------------------------------- */

static void give_back(struct pol_rates *r, struct pol_ticket *ticket, uint64_t requests, uint64_t tokens,
                      uint64_t now_ms)
{
    const struct pol_ticket t = *ticket;

    *ticket = (struct pol_ticket){0};
    rate_advance(r, now_ms);
    if (t.account == 0 || t.account > POL_ACCOUNTS_MAX)
        return;
    struct account *a = r->accounts[t.account - 1];
    if (a == NULL || a->serial != t.serial)
        return; /* never while it is in use: an account with an open ticket is not idle */
    r->changes++;
    a->parallel--;
    a->kv_bytes -= t.kv_bytes;
    if (a->requests.window_ms != 0)
        rate_roll(&a->requests, r->time_ms);
    if (a->tokens.window_ms != 0)
        rate_roll(&a->tokens, r->time_ms);
    if (a->layout != t.layout)
        return; /* the policy changed the windows under it: what it was granted counts to the end */
    change(&a->requests, t.request_slot, 1, requests);
    change(&a->tokens, t.token_slot, t.tokens, tokens);
}

void pol_rate_settle(struct pol_rates *rates, struct pol_ticket *ticket, uint64_t tokens, uint64_t now_ms)
{
    give_back(rates, ticket, 1, BASE_MIN(tokens, AMOUNT_MAX), now_ms);
}

void pol_rate_refund(struct pol_rates *rates, struct pol_ticket *ticket, uint64_t now_ms)
{
    give_back(rates, ticket, 0, 0, now_ms);
}

void pol_rate_usage(struct pol_rates *rates, const char *tenant, uint64_t now_ms, struct pol_usage *ret)
{
    size_t at;
    struct account *a = find(rates, tenant, &at);

    rate_advance(rates, now_ms);
    *ret = (struct pol_usage){0};
    if (a == NULL)
        return;
    (void)idle(a, rates->time_ms); /* rolls */
    *ret = (struct pol_usage){
        .requests = a->requests.sum, .tokens = a->tokens.sum, .kv_bytes = a->kv_bytes, .parallel = a->parallel};
}
