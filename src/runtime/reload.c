/* SPDX-License-Identifier: Apache-2.0
 *
 * reload.c - SIGHUP: read the configuration again, and take over what may change while the service runs.
 *
 * In:   the same file, environment and options as at the start
 * Out:  all reloadable parameters that changed, at once, then the device's `reloaded`; or, if anything in the file is
 *       wrong, nothing at all, and a line in the log with file, line and column
 * Not:  a parameter that needs a restart keeps its value, and the log says so
 */
#include <stdio.h>
#include <string.h>

#include "runtime/audit.h"
#include "runtime/config_priv.h"

struct reload {
    struct svc *svc;
    const struct svc_config *cfg; /* as read now */
    const void *state;
    unsigned changed, waiting;
    const char *first_waiting;
};

static size_t size_of(const struct svc_param *param)
{
    return param->kind == SVC_PARAM_TEXT ? param->size : sizeof(uint64_t); /* a double has as many bytes */
}

static bool differs(const struct svc_param *param, const uint8_t *a, const uint8_t *b)
{
    if (param->kind == SVC_PARAM_TEXT)
        return strcmp((const char *)a + param->offset, (const char *)b + param->offset) != 0;
    return memcmp(a + param->offset, b + param->offset, size_of(param)) != 0;
}

static void needs_restart(struct reload *r, const char *key)
{
    svc_log(r->svc, SVC_WARN, NULL, "%s has changed; that needs a restart of this service", key);
    if (r->waiting++ == 0)
        r->first_waiting = key;
}

/* `before` is what the sources said last time: a device may have put something better into its live state. */
static void take(struct reload *r, const struct svc_param *table, void *live, void *before, const void *fresh)
{
    for (const struct svc_param *t = table; t != NULL && t->kind != SVC_PARAM_END; t++) {
        if (!differs(t, before, fresh))
            continue;
        if (!t->reload) {
            needs_restart(r, t->key);
            continue;
        }
        memcpy((uint8_t *)live + t->offset, (const uint8_t *)fresh + t->offset, size_of(t));
        memcpy((uint8_t *)before + t->offset, (const uint8_t *)fresh + t->offset, size_of(t));
        svc_log(r->svc, SVC_INFO, NULL, "%s has changed", t->key);
        r->changed++;
    }
}

static void take_links(struct reload *r)
{
    const struct svc_neighbour *n = r->svc->dev->neighbours;

    for (size_t i = 0; n != NULL && n[i].name != NULL && i < SVC_LINKS_MAX; i++)
        if (strcmp(r->svc->said->cfg.links[i], r->cfg->links[i]) != 0)
            needs_restart(r, n[i].name);
}

static void apply(struct reload *r)
{
    struct svc *svc = r->svc;

    take(r, svc_config_common, &svc->cfg, &svc->said->cfg, r->cfg);
    svc->cfg.level = r->cfg->level;
    take(r, svc->dev->params, svc->state, svc->said->state, r->state);
    take_links(r);
    if (svc->dev->reloaded != NULL)
        svc->dev->reloaded(svc, svc->state);
}

dbe_err svc_remember_config(struct svc *svc)
{
    const size_t size = BASE_MAX(svc->dev->state_size, (size_t)1);
    struct svc_said *said = base_alloc(1, sizeof *said + size);

    if (said == NULL)
        return DBE_E_NOMEM;
    said->cfg = svc->cfg;
    memcpy(said->state, svc->state, size);
    svc->said = said;
    return DBE_OK;
}

static void say(const struct reload *r, char *words, size_t cap)
{
    (void)snprintf(words, cap, "configuration read again: %u changed, %u need a restart%s%s%s", r->changed, r->waiting,
                   r->waiting > 0 ? " (" : "", r->waiting > 0 ? r->first_waiting : "",
                   r->waiting > 1   ? ", ...)"
                   : r->waiting > 0 ? ")"
                                    : "");
}

dbe_err svc_reload(struct svc *svc, char *words, size_t cap)
{
    struct dbe_diag diag = {0};
    struct svc_config *cfg = base_alloc(1, sizeof *cfg);
    void *state = base_alloc(1, BASE_MAX(svc->dev->state_size, (size_t)1));
    struct reload r = {.svc = svc, .cfg = cfg, .state = state};
    dbe_err err = cfg != NULL && state != NULL && svc->said != NULL
                      ? svc_config_load(svc->cfg.argc, svc->cfg.argv, svc->dev, cfg, state, &diag)
                      : DBE_E_NOMEM;

    svc_notify(svc, "RELOADING=1\n");
    if (err == DBE_OK) {
        apply(&r);
        say(&r, words, cap);
    } else
        (void)snprintf(words, cap, "configuration not changed: %s",
                       diag.text[0] != '\0' ? diag.text : dbe_err_text(err));
    svc_log(svc, err == DBE_OK ? SVC_INFO : SVC_ERROR, NULL, "%s", words);
    svc_audit_event(svc, AUDIT_CONFIG, err, NULL, r.changed, words);
    svc_metric_add(&svc->metrics, SVC_M_dsmil_device_reloads_total,
                   err == DBE_OK ? "status=\"ok\"" : "status=\"refused\"", 1);
    svc_notify(svc, "READY=1\n");
    base_free(state);
    base_free(cfg);
    return err;
}
