/* SPDX-License-Identifier: Apache-2.0
 *
 * rate_keep_test.c - accounts over a restart: the same decisions as if nobody had stopped, whatever a clock or a file
 * says never more than a limit and never less.
 */
#include "base/test.h"

#include <stdio.h>
#include <string.h>

#include "crypto/crypto.h"
#include "policy/rate.h"

enum { MINUTE_MS = 60000, STARTED_MS = 5000000 };
static const uint64_t wall_ms = UINT64_C(1800000000000);

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

/* The machine's first boot, so long after its start. */
static struct pol_rate_time at(uint64_t mono_ms)
{
    return (struct pol_rate_time){.boot = {1}, .mono_ms = mono_ms, .wall_ms = wall_ms + mono_ms};
}

static struct pol_rates *fresh(void)
{
    struct pol_rates *r = NULL;

    assert_int_equal(pol_rates_new(&r), DBE_OK);
    return r;
}

static void keep(struct pol_rates *r, const struct pol_rate_time *now, struct base_buf *out)
{
    base_buf_init(out, POL_RATE_KEPT_MAX_BYTES);
    assert_int_equal(pol_rates_keep(r, now, out), DBE_OK);
}

static struct pol_rates *taken_up(const struct base_buf *kept, const struct pol_rate_time *now)
{
    struct pol_rates *r = fresh();

    assert_int_equal(pol_rates_take_up(r, now, kept->data, kept->len, NULL), DBE_OK);
    return r;
}

/* Milliseconds until a request of the tenant is let in; 0: it was. */
static uint64_t ask(struct pol_rates *r, const char *tenant, const struct pol_limits *l, uint64_t tokens,
                    uint64_t mono_ms)
{
    struct pol_refusal why = {0};
    struct pol_ticket ticket;
    dbe_err err = pol_rate_reserve(r, tenant, l, tokens, 0, mono_ms, &ticket, &why);

    if (err == DBE_OK) {
        pol_rate_settle(r, &ticket, tokens, mono_ms);
        return 0;
    }
    assert_int_equal(err, DBE_E_LIMIT);
    assert_true(why.retry_after_ms > 0);
    return why.retry_after_ms;
}

static const struct pol_limits three = {.requests = {3, MINUTE_MS}};

/* Three requests at the start, kept a second later. */
static void keep_used_up(struct base_buf *out)
{
    struct pol_rates *r = fresh();
    const struct pol_rate_time then = at(STARTED_MS + 1000);

    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(r, "T", &three, 0, STARTED_MS), 0);
    keep(r, &then, out);
    pol_rates_free(r);
}

static uint64_t asked_after(const struct base_buf *kept, const struct pol_rate_time *now)
{
    struct pol_rates *r = taken_up(kept, now);
    uint64_t wait_ms = ask(r, "T", &three, 0, now->mono_ms);

    assert_int_equal(ask(r, "other", &three, 0, now->mono_ms), 0);
    pol_rates_free(r);
    return wait_ms;
}

static void a_used_up_minute_stays_used_up(void **state)
{
    struct pol_rate_time now = at(STARTED_MS + 21000);
    struct base_buf kept;

    (void)state;
    keep_used_up(&kept);
    assert_in_range(asked_after(&kept, &now), 39000, 39034);
    now.wall_ms -= UINT64_C(1000000000); /* the boot is the same: the wall clock has no say */
    assert_in_range(asked_after(&kept, &now), 39000, 39034);
    now.wall_ms += UINT64_C(9000000000);
    assert_in_range(asked_after(&kept, &now), 39000, 39034);
    now = at(STARTED_MS + 60034);
    assert_int_equal(asked_after(&kept, &now), 0);
    base_buf_free(&kept);
}

/* After another boot the wall clock is all there is, and it may have been set. */
static void a_clock_that_jumps(void **state)
{
    struct pol_rate_time now = {.boot = {2}, .mono_ms = 7000, .wall_ms = wall_ms + STARTED_MS + 21000};
    struct base_buf kept;

    (void)state;
    keep_used_up(&kept);
    assert_in_range(asked_after(&kept, &now), 39000, 39034);
    now.boot[0] = 0; /* nobody knows which */
    assert_in_range(asked_after(&kept, &now), 39000, 39034);
    now.wall_ms = 1; /* back: no time has passed, and waiting helps as always */
    assert_in_range(asked_after(&kept, &now), 59000, 59034);
    struct pol_rates *r = taken_up(&kept, &now);
    assert_int_equal(ask(r, "T", &three, 0, now.mono_ms + 59034), 0);
    pol_rates_free(r);
    now.wall_ms = UINT64_MAX; /* ahead: all of it is free, and not more than all */
    r = taken_up(&kept, &now);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(r, "T", &three, 0, now.mono_ms), 0);
    assert_in_range(ask(r, "T", &three, 0, now.mono_ms), 60000, 60034);
    pol_rates_free(r);
    base_buf_free(&kept);
}

/* What is running when the process dies has taken what it reserved, and holds nothing any more. */
static void what_runs_counts_as_used(void **state)
{
    const struct pol_limits l = {
        .requests = {9, MINUTE_MS}, .tokens = {1000, MINUTE_MS}, .parallel = 1, .kv_bytes = 64};
    const struct pol_rate_time now = at(STARTED_MS);
    struct pol_rates *r = fresh();
    struct pol_refusal why;
    struct pol_ticket ticket;
    struct pol_usage u;
    struct base_buf kept;

    (void)state;
    assert_int_equal(pol_rate_reserve(r, "T", &l, 700, 64, STARTED_MS, &ticket, &why), DBE_OK);
    const uint64_t changes = pol_rates_changes(r);
    keep(r, &now, &kept);
    assert_int_equal(pol_rates_changes(r), changes);
    pol_rate_settle(r, &ticket, 5, STARTED_MS);
    assert_true(pol_rates_changes(r) > changes);
    pol_rates_free(r);
    r = taken_up(&kept, &now);
    pol_rate_usage(r, "T", STARTED_MS, &u);
    assert_true(u.requests == 1 && u.tokens == 700 && u.parallel == 0 && u.kv_bytes == 0);
    pol_rate_settle(r, &ticket, 5, STARTED_MS); /* of the process before: an empty ticket */
    assert_int_equal(ask(r, "T", &l, 300, STARTED_MS), 0);
    pol_rates_free(r);
    base_buf_free(&kept);
}

/* One router that goes on and one that starts anew again and again, under the same requests. */
static void run(const struct pol_limits *l, uint64_t pause_ms)
{
    struct pol_rates *steady = fresh(), *again = fresh();
    uint64_t now_ms = STARTED_MS, refused = 0;

    for (int i = 0; i < 2000; i++) {
        now_ms += draw(pause_ms);
        if (draw(20) == 0) {
            const struct pol_rate_time then = at(now_ms), now = at(now_ms + draw(3 * pause_ms));
            struct base_buf kept;
            keep(again, &then, &kept);
            pol_rates_free(again);
            again = taken_up(&kept, &now);
            base_buf_free(&kept);
            now_ms = now.mono_ms;
        }
        const uint64_t tokens = draw(50), wait_ms = ask(steady, "T", l, tokens, now_ms);
        assert_int_equal(ask(again, "T", l, tokens, now_ms), wait_ms);
        refused += wait_ms > 0;
    }
    assert_in_range(refused, 100, 1900);
    pol_rates_free(steady);
    pol_rates_free(again);
}

static void nobody_notices_a_restart(void **state)
{
    const struct pol_limits few = {.requests = {40, MINUTE_MS}, .tokens = {900, 2 * MINUTE_MS}};

    (void)state;
    for (seed = 1; seed < 20000; seed += 997)
        run(&few, 2000);
}

/* More moments than are kept: several leave as one, with the last of them. */
static void many_slots_become_few(void **state)
{
    const struct pol_limits l = {.requests = {1800, 3600 * UINT64_C(1000)}};
    const struct pol_rate_time then = at(STARTED_MS + 1800 * 1000);
    struct pol_rates *r = fresh();
    struct pol_usage u;
    struct base_buf kept;

    (void)state;
    for (uint64_t i = 0; i < 1800; i++)
        assert_int_equal(ask(r, "T", &l, 0, STARTED_MS + i * 1000), 0);
    const uint64_t wait_ms = ask(r, "T", &l, 0, then.mono_ms);
    keep(r, &then, &kept);
    assert_true(kept.len < 16 * (POL_RATE_KEPT_SLOTS + 1) + 200);
    pol_rates_free(r);
    r = taken_up(&kept, &then);
    for (uint64_t age_s = 0; age_s < 3700; age_s += 7) { /* of what was granted none is forgotten early, or kept long */
        const uint64_t left = age_s <= 1800 ? 1800 : age_s >= 3600 ? 0 : 3600 - age_s;
        pol_rate_usage(r, "T", then.mono_ms + age_s * 1000, &u);
        assert_in_range(u.requests, left > 0 ? left - 1 : 0, left + 3600 / (POL_RATE_KEPT_SLOTS - 1) + 2);
    }
    pol_rates_free(r);
    r = taken_up(&kept, &then);
    assert_in_range(ask(r, "T", &l, 0, then.mono_ms), wait_ms, wait_ms + 3600000 / (POL_RATE_KEPT_SLOTS - 1) + 1000);
    pol_rates_free(r);
    base_buf_free(&kept);
}

/* As many tenants as there are accounts, each with all that can be kept of it. */
static void the_largest_fits(void **state)
{
    const struct pol_limits l = {.requests = {100000, 3600 * UINT64_C(1000)},
                                 .tokens = {1 << 30, 3600 * UINT64_C(1000)}};
    const struct pol_rate_time then = at(STARTED_MS + 400 * 1000);
    struct pol_rates *r = fresh();
    struct base_buf kept;
    char tenant[DBE_TENANT_MAX_BYTES + 1];

    (void)state;
    for (uint64_t s = 0; s < 400; s++)
        for (int t = 0; t < POL_ACCOUNTS_MAX; t++) {
            memset(tenant, 'x', sizeof tenant);
            (void)snprintf(tenant + DBE_TENANT_MAX_BYTES - 4, 5, "%04d", t);
            assert_int_equal(ask(r, tenant, &l, 10, STARTED_MS + s * 1000), 0);
        }
    keep(r, &then, &kept);
    pol_rates_free(r);
    r = taken_up(&kept, &then);
    for (int t = 0; t < POL_ACCOUNTS_MAX; t += 17) {
        struct pol_usage u;
        (void)snprintf(tenant + DBE_TENANT_MAX_BYTES - 4, 5, "%04d", t);
        pol_rate_usage(r, tenant, then.mono_ms, &u);
        assert_true(u.requests == 400 && u.tokens == 4000);
    }
    pol_rates_free(r);
    base_buf_free(&kept);
}

static void expect_refused(const struct base_buf *bytes, size_t len)
{
    const struct pol_rate_time now = at(STARTED_MS);
    struct pol_rates *r = fresh();
    struct dbe_diag diag = {0};
    struct pol_usage u;

    assert_int_equal(pol_rates_take_up(r, &now, bytes->data, len, &diag), DBE_E_MALFORMED);
    assert_true(diag.text[0] != '\0');
    pol_rate_usage(r, "T", STARTED_MS, &u);
    assert_int_equal(u.requests, 0);
    assert_int_equal(ask(r, "T", &three, 0, STARTED_MS), 0);
    pol_rates_free(r);
}

static void damage_is_seen(void **state)
{
    struct base_buf kept;

    (void)state;
    keep_used_up(&kept);
    for (size_t i = 0; i < kept.len; i++) {
        kept.data[i] ^= 0x10;
        expect_refused(&kept, kept.len);
        kept.data[i] ^= 0x10;
        expect_refused(&kept, i);
    }
    base_buf_free(&kept);
}

/* A whole file of nonsense: it is refused, or what it says keeps every promise. */
static void nonsense_is_harmless(void **state)
{
    const struct pol_rate_time now = at(STARTED_MS);
    struct base_buf kept;
    int refused = 0;

    (void)state;
    keep_used_up(&kept);
    const size_t body = kept.len - CRYPTO_HASH_BYTES;
    for (size_t i = 0; i < body; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            struct pol_rates *r = fresh();
            kept.data[i] ^= (uint8_t)(1u << bit);
            assert_int_equal(crypto_sha3_512(kept.data, body, kept.data + body), DBE_OK);
            dbe_err err = pol_rates_take_up(r, &now, kept.data, kept.len, NULL);
            assert_true(err == DBE_OK || err == DBE_E_MALFORMED);
            refused += err != DBE_OK;
            (void)ask(r, "T", &three, 0, STARTED_MS);
            assert_int_equal(ask(r, "U", &three, 0, STARTED_MS + 10 * UINT64_C(1000000000)), 0);
            kept.data[i] ^= (uint8_t)(1u << bit);
            pol_rates_free(r);
        }
    assert_true(refused > 100);
    base_buf_free(&kept);
}

static void without_memory(void **state)
{
    const struct pol_rate_time now = at(STARTED_MS);
    struct base_buf kept, none;
    struct pol_rates *r = fresh();

    (void)state;
    keep_used_up(&kept);
    base_fail_alloc_at(1);
    assert_int_equal(pol_rates_take_up(r, &now, kept.data, kept.len, NULL), DBE_E_NOMEM);
    base_fail_alloc_at(0);
    assert_int_equal(ask(r, "T", &three, 0, STARTED_MS), 0);
    base_buf_init(&none, 64);
    assert_int_equal(pol_rates_keep(r, &now, &none), DBE_E_TOO_LARGE);
    base_buf_free(&none);
    pol_rates_free(r);
    base_buf_free(&kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_used_up_minute_stays_used_up),
        cmocka_unit_test(a_clock_that_jumps),
        cmocka_unit_test(what_runs_counts_as_used),
        cmocka_unit_test(nobody_notices_a_restart),
        cmocka_unit_test(many_slots_become_few),
        cmocka_unit_test(the_largest_fits),
        cmocka_unit_test(damage_is_seen),
        cmocka_unit_test(nonsense_is_harmless),
        cmocka_unit_test(without_memory),
    };

    if (crypto_init(NULL) != DBE_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
