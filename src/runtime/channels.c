/* SPDX-License-Identifier: Apache-2.0
 *
 * channels.c - what an operator may see and do of a service's channels: list them, move them to new keys, to a renewed
 * certificate, to another suite. All of it under traffic, with no message lost.
 *
 * In:   a list of suites as text, orders of http_admin.c     Out: JSON, calls of the node
 * Not:  it opens and closes no channel.
 */
#include "runtime/audit.h"
#include "runtime/priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char clause[] = "suites";

/* ---- suites -------------------------------------------------------------------------------------- */

static dbe_err suite_named(const char *name, uint16_t *ret, struct dbe_diag *diag)
{
    const struct crypto_suite *const *all;
    size_t count = crypto_suites(&all);
    char *end = NULL;
    unsigned long number = strtoul(name, &end, 0);

    for (size_t i = 0; i < count; i++) {
        if (strcmp(all[i]->name, name) == 0 || (*name != '\0' && *end == '\0' && all[i]->id == number)) {
            *ret = all[i]->id;
            return DBE_OK;
        }
    }
    return dbe_fail(diag, DBE_E_CONFIG, clause, 0, "suites: this build has no suite \"%.60s\"", name);
}

dbe_err svc_suites_parse(const char *text, uint16_t ret[DBE_SUITES_MAX], size_t *ret_count, struct dbe_diag *diag)
{
    uint16_t list[DBE_SUITES_MAX] = {0};
    char copy[SVC_SUITES_TEXT_MAX], *rest = copy, *name;
    size_t count = 0;

    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy)
        return dbe_fail(diag, DBE_E_CONFIG, clause, 0, "suites: the list is longer than %zu bytes", sizeof copy - 1);
    while ((name = strtok_r(rest, ", ", &rest)) != NULL) {
        if (count == DBE_SUITES_MAX)
            return dbe_fail(diag, DBE_E_CONFIG, clause, 0, "suites: at most %d", DBE_SUITES_MAX);
        DBE_TRY(suite_named(name, &list[count], diag));
        for (size_t i = 0; i < count; i++)
            if (list[i] == list[count])
                return dbe_fail(diag, DBE_E_CONFIG, clause, 0, "suites: \"%.60s\" stands there twice", name);
        count++;
    }
    memcpy(ret, list, sizeof list);
    *ret_count = count;
    return DBE_OK;
}

/* ---- orders -------------------------------------------------------------------------------------- */

static dbe_err rekey(struct svc *svc, const char *value, struct dbe_diag *diag)
{
    (void)value, (void)diag;
    for (struct svc_peer *p = svc->peers; p != NULL; p = p->next)
        DBE_TRY(dbe_peer_rekey(p->peer));
    return DBE_OK;
}

static dbe_err renew(struct svc *svc, const char *value, struct dbe_diag *diag)
{
    struct dbe_credential *fresh = NULL;

    (void)value;
    if (svc->former_count + 2 > SVC_RENEWALS_MAX)
        return dbe_fail(diag, DBE_E_LIMIT, "renew", 0, "%d renewals: restart the service", SVC_RENEWALS_MAX);
    DBE_TRY(dbe_credential_load(svc->cfg.keys, svc->cfg.name, &fresh, diag));
    dbe_err err = dbe_node_set_credential(svc->node, fresh, true);
    if (err != DBE_OK) {
        dbe_credential_free(fresh);
        return dbe_fail(diag, err, "renew", 0, "%.60s in the key store is another node now", svc->cfg.name);
    }
    if (svc->renewed != NULL)
        svc->former[svc->former_count++] = svc->renewed;
    svc->renewed = fresh;
    return DBE_OK;
}

/* The rest of this build's suites stay acceptable: a neighbour that has not been told must be able to come back. */
static dbe_err suite(struct svc *svc, const char *value, struct dbe_diag *diag)
{
    const struct crypto_suite *const *all;
    size_t known = crypto_suites(&all), count = 0;
    uint16_t list[DBE_SUITES_MAX];

    DBE_TRY(svc_suites_parse(value, list, &count, diag));
    if (count == 0)
        return dbe_fail(diag, DBE_E_CONFIG, clause, 0, "suites: none is named");
    for (size_t i = 0; i < known && count < DBE_SUITES_MAX; i++) {
        size_t at = 0;
        while (at < count && list[at] != all[i]->id)
            at++;
        if (at == count)
            list[count++] = all[i]->id;
    }
    return dbe_node_set_suites(svc->node, list, count, true);
}

static const struct order {
    const char *name;
    dbe_err (*run)(struct svc *svc, const char *value, struct dbe_diag *diag);
} orders[] = {
    {"rekey", rekey},
    {"renew", renew},
    {"suite", suite},
};

dbe_err svc_channels_do(struct svc *svc, const char *what, const char *value, struct dbe_diag *diag)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(orders); i++) {
        if (strcmp(orders[i].name, what) != 0)
            continue;
        dbe_err err = orders[i].run(svc, value, diag);
        const struct svc_event e = {.type = "channels_order"};
        char words[128];
        snprintf(words, sizeof words, "%s %.100s", what, value);
        svc_audit_event(svc, AUDIT_ORDER, err, NULL, 0, words);
        svc_log_event(svc, err == DBE_OK ? SVC_INFO : SVC_WARN, &e, "%s %s: %s", what, value,
                      err == DBE_OK           ? "done"
                      : diag->text[0] != '\0' ? diag->text
                                              : dbe_err_text(err));
        return err;
    }
    return dbe_fail(diag, DBE_E_NOT_FOUND, "channels", 0, "there are rekey, renew and suite");
}

/* ---- list ---------------------------------------------------------------------------------------- */

dbe_err svc_channels_render(struct svc *svc, struct base_buf *out)
{
    base_buf_str(out, "{\"channels\": [");
    for (const struct svc_peer *p = svc->peers; p != NULL; p = p->next) {
        const char *who = dbe_peer_identity(p->peer)->spiffe_id, *name = dbe_peer_suite(p->peer);
        base_buf_str(out, p == svc->peers ? "{\"peer\": " : ", {\"peer\": ");
        base_json_str(out, who, strlen(who));
        base_buf_str(out, ", \"suite\": ");
        base_json_str(out, name, strlen(name));
        base_buf_fmt(out, ", \"handshake_us\": %llu, \"queued_bytes\": %zu}",
                     (unsigned long long)dbe_peer_handshake_us(p->peer), dbe_peer_queued_bytes(p->peer));
    }
    base_buf_str(out, "]}\n");
    return out->err;
}
