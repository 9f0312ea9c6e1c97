/* SPDX-License-Identifier: Apache-2.0
 *
 * rate_keep.c - what tenants have used, over a restart of who counts it.
 *
 * In:   accounts, or bytes that they were kept in: a file of our own, which may be damaged
 * Out:  the bytes, or the accounts
 * Not:  no file, no clock
 *
 * Network byte order: magic "DRAT", number of accounts (u32); boot (16 bytes), monotonic, wall and own time in
 * milliseconds (u64 each); the accounts: name with its length (u8), then requests and tokens: the window's length in
 * milliseconds (u64), number of slots (u16), each with its number and sum (u64 each), in rising order. At the end
 * SHA3-512 of all that precedes. Slots are numbered in the time of the accounts' own, which goes on where it was kept.
 */
#include <string.h>

#include "crypto/crypto.h"
#include "policy/rate_priv.h"

#define KEPT_MAGIC 0x44524154u /* "DRAT" */
#define TIME_MAX_MS (UINT64_C(1) << 62)

uint64_t pol_rates_changes(const struct pol_rates *rates)
{
    return rates->changes;
}

/* ---- keeping ----------------------------------------------------------------------------------------- */

static size_t used_slots(const struct window *w)
{
    size_t used = 0;

    for (uint64_t i = 0; w->sum != 0 && i < w->ring; i++)
        used += w->slots[i] != 0;
    return used;
}

/* Slots in use, oldest first; of many, several as one that leaves with the last of them. */
static void keep_window(const struct window *w, struct base_buf *out)
{
    const size_t used = used_slots(w);
    const uint64_t group =
        used <= POL_RATE_KEPT_SLOTS ? 1 : (w->ring + POL_RATE_KEPT_SLOTS - 2) / (POL_RATE_KEPT_SLOTS - 1);
    uint64_t sum = 0;
    uint16_t count = 0;

    base_buf_u64(out, w->window_ms);
    const size_t count_at = out->len;
    base_buf_u16(out, 0);
    for (uint64_t age = used > 0 ? w->ring : 0; age-- > 0;) {
        if (age > w->head)
            continue;
        const uint64_t slot = w->head - age;
        sum += w->slots[slot % w->ring];
        if (sum == 0 || (slot % group != group - 1 && age != 0))
            continue;
        base_buf_u64(out, slot);
        base_buf_u64(out, sum);
        sum = 0;
        count++;
    }
    if (out->err != DBE_OK)
        return;
    out->data[count_at] = (uint8_t)(count >> 8);
    out->data[count_at + 1] = (uint8_t)count;
}

static bool keep_account(struct account *a, uint64_t time_ms, struct base_buf *out)
{
    if (a->requests.window_ms != 0)
        rate_roll(&a->requests, time_ms);
    if (a->tokens.window_ms != 0)
        rate_roll(&a->tokens, time_ms);
    if (a->requests.sum == 0 && a->tokens.sum == 0)
        return false;
    const size_t len = strlen(a->tenant);
    base_buf_u8(out, (uint8_t)len);
    base_buf_bytes(out, a->tenant, len);
    keep_window(&a->requests, out);
    keep_window(&a->tokens, out);
    return true;
}

dbe_err pol_rates_keep(struct pol_rates *rates, const struct pol_rate_time *now, struct base_buf *out)
{
    const size_t start = out->len;
    uint8_t digest[CRYPTO_HASH_BYTES];
    uint16_t count = 0;

    _Static_assert(POL_ACCOUNTS_MAX <= UINT16_MAX && DBE_TENANT_MAX_BYTES <= UINT8_MAX, "they are written as such");
    rate_advance(rates, now->mono_ms);
    base_buf_u32(out, KEPT_MAGIC);
    const size_t count_at = out->len;
    base_buf_u32(out, 0);
    base_buf_bytes(out, now->boot, sizeof now->boot);
    base_buf_u64(out, now->mono_ms);
    base_buf_u64(out, now->wall_ms);
    base_buf_u64(out, rates->time_ms);
    for (size_t i = 0; i < POL_ACCOUNTS_MAX; i++)
        if (rates->accounts[i] != NULL)
            count = (uint16_t)(count + keep_account(rates->accounts[i], rates->time_ms, out));
    DBE_TRY(out->err);
    out->data[count_at + 2] = (uint8_t)(count >> 8);
    out->data[count_at + 3] = (uint8_t)count;
    DBE_TRY(crypto_sha3_512(out->data + start, out->len - start, digest));
    base_buf_bytes(out, digest, sizeof digest);
    return out->err;
}

/* ---- taking up --------------------------------------------------------------------------------------- */

static uint64_t passed_ms(const struct pol_rate_time *then, const struct pol_rate_time *now)
{
    static const uint8_t unknown[sizeof now->boot];
    const bool same_boot =
        memcmp(now->boot, then->boot, sizeof now->boot) == 0 && memcmp(now->boot, unknown, sizeof unknown) != 0;
    const uint64_t from = same_boot ? then->mono_ms : then->wall_ms, to = same_boot ? now->mono_ms : now->wall_ms;

    return to > from ? BASE_MIN(to - from, TIME_MAX_MS) : 0;
}

static bool take_window(struct base_cur *c, uint64_t time_ms, struct window *w)
{
    const uint64_t window_ms = base_cur_u64(c);
    const uint16_t count = base_cur_u16(c);
    uint64_t before = 0;

    if (window_ms > POL_RATE_WINDOW_MAX_MS || count > POL_RATE_KEPT_SLOTS || (window_ms == 0 && count > 0))
        return false;
    rate_shape(w, window_ms, time_ms);
    for (uint16_t i = 0; i < count; i++) {
        const uint64_t slot = base_cur_u64(c), sum = base_cur_u64(c);
        if (!base_cur_ok(c) || !rate_holds(w, slot) || (i > 0 && slot <= before) || sum > UINT64_MAX / 2 - w->sum)
            return false;
        w->slots[slot % w->ring] = sum;
        w->sum += sum;
        before = slot;
    }
    return base_cur_ok(c);
}

static bool is_known(const struct pol_rates *r, size_t count, const char *tenant)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(r->accounts[i]->tenant, tenant) == 0)
            return true;
    return false;
}

static dbe_err take_account(struct pol_rates *r, size_t at, struct base_cur *c, uint64_t time_ms)
{
    char tenant[DBE_TENANT_MAX_BYTES + 1] = "";
    const size_t len = base_cur_u8(c);

    if (len == 0 || len > DBE_TENANT_MAX_BYTES)
        return DBE_E_MALFORMED;
    base_cur_copy(c, tenant, len);
    if (!base_cur_ok(c) || strlen(tenant) != len || is_known(r, at, tenant))
        return DBE_E_MALFORMED;
    struct account *a = rate_account_new(r, at, tenant);
    if (a == NULL)
        return DBE_E_NOMEM;
    return take_window(c, time_ms, &a->requests) && take_window(c, time_ms, &a->tokens) ? DBE_OK : DBE_E_MALFORMED;
}

static dbe_err take_all(struct pol_rates *r, const struct pol_rate_time *now, struct base_cur *c)
{
    struct pol_rate_time then = {0};

    if (base_cur_u32(c) != KEPT_MAGIC)
        return DBE_E_MALFORMED;
    const uint32_t count = base_cur_u32(c);
    base_cur_copy(c, then.boot, sizeof then.boot);
    then.mono_ms = base_cur_u64(c);
    then.wall_ms = base_cur_u64(c);
    const uint64_t time_ms = base_cur_u64(c);
    if (!base_cur_ok(c) || count > POL_ACCOUNTS_MAX || time_ms > TIME_MAX_MS)
        return DBE_E_MALFORMED;
    for (size_t i = 0; i < count; i++)
        DBE_TRY(take_account(r, i, c, time_ms));
    DBE_TRY(base_cur_end(c));
    r->time_ms = time_ms + passed_ms(&then, now);
    r->last_ms = now->mono_ms;
    r->started = true;
    return DBE_OK;
}

dbe_err pol_rates_take_up(struct pol_rates *rates, const struct pol_rate_time *now, const void *bytes, size_t len,
                          struct dbe_diag *diag)
{
    const size_t body = len < CRYPTO_HASH_BYTES ? 0 : len - CRYPTO_HASH_BYTES;
    struct base_cur c = base_cur_of(bytes, body);
    uint8_t digest[CRYPTO_HASH_BYTES];

    DBE_TRY(crypto_sha3_512(bytes, body, digest));
    const bool whole = body > 0 && memcmp(digest, (const uint8_t *)bytes + body, sizeof digest) == 0;
    dbe_err err = whole ? take_all(rates, now, &c) : DBE_E_MALFORMED;
    if (err == DBE_OK)
        return DBE_OK;
    for (size_t i = 0; i < POL_ACCOUNTS_MAX; i++) {
        base_free(rates->accounts[i]);
        rates->accounts[i] = NULL;
    }
    if (err == DBE_E_NOMEM)
        return err;
    return dbe_fail(diag, err, "accounts", 0, "%s", whole ? "what it says of tenants cannot be" : "it is not whole");
}
