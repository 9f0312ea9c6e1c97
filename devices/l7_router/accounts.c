/* SPDX-License-Identifier: Apache-2.0
 *
 * accounts.c - see accounts.h.
 */
#include "devices/l7_router/accounts.h"

#include <stdio.h>
#include <string.h>

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

/* "1b4e28ba-2fa1-11d2-883f-0016d3cca427", or nothing where it is hidden: then the wall clock has to do. */
static void read_boot(uint8_t ret[16])
{
    struct base_buf text = {0};
    size_t digits = 0;

    memset(ret, 0, 16);
    if (base_file_read(BOOT_ID_PATH, 64, &text, NULL) != DBE_OK)
        return;
    for (size_t i = 0; i < text.len && digits < 32; i++) {
        const char *hex = "0123456789abcdef", *at = text.data[i] != '\0' ? strchr(hex, text.data[i]) : NULL;
        if (at == NULL)
            continue;
        ret[digits / 2] = (uint8_t)(ret[digits / 2] << 4 | (at - hex));
        digits++;
    }
    if (digits != 32)
        memset(ret, 0, 16);
    base_buf_free(&text);
}

static struct pol_rate_time time_now(const struct svc *svc, const struct router_accounts *a)
{
    struct pol_rate_time now = {.mono_ms = svc_now_ns(svc) / BASE_NS_PER_MS, .wall_ms = base_wall_ms()};

    memcpy(now.boot, a->boot, sizeof now.boot);
    return now;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static void put_aside(struct svc *svc, const struct router_accounts *a, const struct dbe_diag *diag)
{
    char aside[ROUTER_ACCOUNTS_PATH_MAX + sizeof ".damaged"];

    (void)snprintf(aside, sizeof aside, "%s.damaged", a->path);
    const bool kept = rename(a->path, aside) == 0;
    svc_log(svc, SVC_WARN, NULL, "what tenants had used is lost: %s: %s; every tenant has its full allowance%s%s",
            a->path, diag->text, kept ? "; the file is now " : "", kept ? aside : "");
}

dbe_err router_accounts_open(struct svc *svc, struct router_accounts *a, struct pol_rates *rates)
{
    struct base_buf bytes;
    struct dbe_diag diag = {0};

    if (a->path[0] == '\0')
        return DBE_OK;
    read_boot(a->boot);
    base_buf_init(&bytes, POL_RATE_KEPT_MAX_BYTES);
    const struct pol_rate_time now = time_now(svc, a);
    dbe_err err = base_file_read_private(a->path, POL_RATE_KEPT_MAX_BYTES, &bytes, &diag);
    if (err == DBE_OK)
        err = pol_rates_take_up(rates, &now, bytes.data, bytes.len, &diag);
    base_buf_free(&bytes);
    if (err == DBE_E_NOMEM)
        return err;
    if (err != DBE_OK && err != DBE_E_NOT_FOUND)
        put_aside(svc, a, &diag);
    a->kept_changes = pol_rates_changes(rates);
    a->open = true;
    return DBE_OK;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static dbe_err keep(struct svc *svc, const struct router_accounts *a, struct pol_rates *rates, bool durable,
                    struct dbe_diag *diag)
{
    const struct pol_rate_time now = time_now(svc, a);
    struct base_buf bytes;

    base_buf_init(&bytes, POL_RATE_KEPT_MAX_BYTES);
    dbe_err err = pol_rates_keep(rates, &now, &bytes);
    if (err == DBE_OK)
        err = durable ? base_file_write(a->path, bytes.data, bytes.len, 0600, diag)
                      : base_file_replace(a->path, bytes.data, bytes.len, 0600, diag);
    base_buf_free(&bytes);
    return err;
}

/* Told once, not each second; counted each time. */
static void write_out(struct svc *svc, struct router_accounts *a, struct pol_rates *rates, bool durable)
{
    const uint64_t changes = pol_rates_changes(rates);
    struct dbe_diag diag = {0};

    if (!a->open || changes == a->kept_changes)
        return;
    a->kept_ns = svc_now_ns(svc);
    dbe_err err = keep(svc, a, rates, durable, &diag);
    if (err == DBE_OK) {
        a->kept_changes = changes;
        if (a->failing)
            svc_log(svc, SVC_INFO, NULL, "what tenants have used is kept again");
        a->failing = false;
        return;
    }
    a->failures++;
    if (!a->failing)
        svc_log(svc, SVC_WARN, NULL, "what tenants have used cannot be kept over a restart: %s",
                diag.text[0] != '\0' ? diag.text : dbe_err_text(err));
    a->failing = true;
}

void router_accounts_tick(struct svc *svc, struct router_accounts *a, struct pol_rates *rates)
{
    if (svc_now_ns(svc) - a->kept_ns >= ROUTER_ACCOUNTS_EVERY_MS * (uint64_t)BASE_NS_PER_MS)
        write_out(svc, a, rates, false);
}

void router_accounts_close(struct svc *svc, struct router_accounts *a, struct pol_rates *rates)
{
    write_out(svc, a, rates, true);
    a->open = false;
}
