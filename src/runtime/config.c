/* SPDX-License-Identifier: Apache-2.0
 *
 * config.c - parameters from a file, the environment and the command line, checked before anything starts.
 *
 * In:   a YAML file (config_file.c), DSMIL_KEY variables, --key options; the tables of the runtime and of the device
 * Out:  svc_config, the device's parameters in its state; one sentence that names option, variable or file:line
 *       when something is wrong
 * Not:  no secrets: those come from files of their own.
 *
 * Later sources override earlier ones: default, file, environment, option. '-' and '_' in keys are the same.
 */
#include "runtime/config_priv.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT(key, unit, field, doc)                                                                                    \
    {                                                                                                                  \
        key, unit, SVC_PARAM_TEXT, 0, 0, 0, "", offsetof(struct svc_config, field),                                    \
            sizeof((struct svc_config *)0)->field, doc, false                                                          \
    }

const struct svc_param svc_config_common[] = {
    TEXT("keys", "DIR", keys, "key store; default keys/ in the state directory"),
    TEXT("name", "NAME", name, "name of the credential in the key store; default role and device"),
    TEXT("audit", "ADDRESS", audit, "DBE address of the audit log, Device 14; empty: no record is kept"),
    TEXT("audit-anchor", "FILE", audit_anchor, "what this service remembers of the audit log; empty: nothing"),
    TEXT("listen", "ADDRESS", listen, "DBE address to listen on, such as uds:/run/dsmil/l7-router.sock"),
    TEXT("suites", "LIST", suites, "suites of the channels, best first, by number or name; default: this build's"),
    TEXT("policy", "FILE", policy, "policy of the mesh; default: the one that is built in"),
    TEXT("roe-used", "FILE", roe_used, "memory of used ROE tokens; default NAME.roe-used in the key store"),
    TEXT("metrics-socket", "PATH", metrics_socket, "Unix socket that serves HTTP: /metrics, /healthz, /channels"),
    {"metrics-port", "port", SVC_PARAM_UINT, 0, 0, 65535, NULL, offsetof(struct svc_config, metrics_port), 8,
     "the same on 127.0.0.1; 0: off", false},
    {"ready-fd", "descriptor", SVC_PARAM_UINT, 0, 0, 65535, NULL, offsetof(struct svc_config, ready_fd), 8,
     "where READY and a line feed are written once ready; 0: nowhere", false},
    {"start-wait", "ms", SVC_PARAM_UINT, 10000, 0, 900000, NULL, offsetof(struct svc_config, start_wait_ms), 8,
     "longest time from the start until ready that neighbours without a channel are waited for", false},
    {"log-level", "LEVEL", SVC_PARAM_TEXT, 0, 0, 0, "info", offsetof(struct svc_config, log_level),
     sizeof((struct svc_config *)0)->log_level, "least level that is written: debug, info, warn or error", true},
    {"sandbox", "on|off", SVC_PARAM_TEXT, 0, 0, 0, "on", offsetof(struct svc_config, sandbox_text),
     sizeof((struct svc_config *)0)->sandbox_text, "allow this process the system calls of a service alone (seccomp)",
     false},
    {.kind = SVC_PARAM_END},
};

static void set_defaults(const struct svc_param *table, void *base)
{
    for (; table != NULL && table->kind != SVC_PARAM_END; table++) {
        uint8_t *at = (uint8_t *)base + table->offset;
        if (table->kind == SVC_PARAM_UINT)
            memcpy(at, &(uint64_t){(uint64_t)table->def}, sizeof(uint64_t));
        else if (table->kind == SVC_PARAM_DOUBLE)
            memcpy(at, &table->def, sizeof table->def);
        else
            snprintf((char *)at, table->size, "%s", table->def_text != NULL ? table->def_text : "");
    }
}

/* ---- sources --------------------------------------------------------------------------------- */

/* DSMIL_KEY of one key; unset variables change nothing. */
static dbe_err load_variable(const struct svc_parse *p, const char *key)
{
    char name[96];

    int n = snprintf(name, sizeof name, "DSMIL_%s", key);
    if (n < 0 || (size_t)n >= sizeof name)
        return DBE_OK;
    for (char *c = name; *c != '\0'; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    const char *value = getenv(name);
    return value != NULL ? svc_config_set(p, name, key, value) : DBE_OK;
}

static dbe_err load_environment(const struct svc_parse *p)
{
    char key[80];

    for (const struct svc_param *c = svc_config_common; c->kind != SVC_PARAM_END; c++)
        DBE_TRY(load_variable(p, c->key));
    for (const struct svc_param *c = p->dev->params; c != NULL && c->kind != SVC_PARAM_END; c++)
        DBE_TRY(load_variable(p, c->key));
    for (const struct svc_neighbour *n = p->dev->neighbours; n != NULL && n->name != NULL; n++) {
        snprintf(key, sizeof key, "link-%s", n->name);
        DBE_TRY(load_variable(p, key));
    }
    return DBE_OK;
}

static bool all_digits(const char *text)
{
    return text != NULL && text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

/* Options that are no parameters. Returns how many arguments were taken, 0 if `arg` is none of them. */
static int take_flag(const struct svc_parse *p, const char *arg, const char *next)
{
    if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
        p->cfg->help = true;
        return 1;
    }
    if (strcmp(arg, "--version") == 0) {
        p->cfg->version = true;
        return 1;
    }
    if (strcmp(arg, "--parent-pid") == 0) {
        p->cfg->parent_death = true;
        p->cfg->parent_pid = all_digits(next) ? strtoll(next, NULL, 10) : 0;
        return all_digits(next) ? 2 : 1;
    }
    return 0;
}

/* One pass over the options: `config_only` looks for --config alone, as the file comes before the rest. */
static dbe_err load_options(const struct svc_parse *p, int argc, char *const argv[], bool config_only)
{
    for (int i = 1; i < argc;) {
        char key[80];
        const char *arg = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;
        int taken = take_flag(p, arg, next);
        if (taken > 0) {
            i += taken;
            continue;
        }
        size_t len = strcspn(arg, "=");
        if (strncmp(arg, "--", 2) != 0 || len <= 2 || len - 2 >= sizeof key)
            return dbe_fail(p->diag, DBE_E_CONFIG, NULL, 0, "\"%.60s\" is no option; --help lists them", arg);
        memcpy(key, arg + 2, len - 2);
        key[len - 2] = '\0';
        const char *value = arg[len] == '=' ? arg + len + 1 : next;
        bool is_config = strcmp(key, "config") == 0;
        if (!is_config && !svc_config_known(p, key))
            return dbe_fail(p->diag, DBE_E_CONFIG, NULL, 0, "there is no option --%s; --help lists them", key);
        if (value == NULL)
            return dbe_fail(p->diag, DBE_E_CONFIG, NULL, 0, "--%s takes a value", key);
        if (is_config && config_only)
            DBE_TRY(svc_config_text(p, "--config", "config", p->cfg->config_file, sizeof p->cfg->config_file, value));
        if (!is_config && !config_only)
            DBE_TRY(svc_config_set(p, "command line", key, value));
        i += arg[len] == '=' ? 1 : 2;
    }
    return DBE_OK;
}

/* ---- what the parts say together ------------------------------------------------------------- */

static dbe_err resolve_level(const struct svc_parse *p)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};

    for (size_t i = 0; i < BASE_ARRAY_LEN(names); i++)
        if (strcmp(p->cfg->log_level, names[i]) == 0) {
            p->cfg->level = (enum svc_level)i;
            return DBE_OK;
        }
    return dbe_fail(p->diag, DBE_E_CONFIG, "log-level", 0, "log-level must be debug, info, warn or error, not \"%s\"",
                    p->cfg->log_level);
}

static dbe_err resolve_sandbox(const struct svc_parse *p)
{
    p->cfg->sandbox = strcmp(p->cfg->sandbox_text, "on") == 0;
    if (!p->cfg->sandbox && strcmp(p->cfg->sandbox_text, "off") != 0)
        return dbe_fail(p->diag, DBE_E_CONFIG, "sandbox", 0, "sandbox must be on or off, not \"%s\"",
                        p->cfg->sandbox_text);
    return DBE_OK;
}

/* keys/ in DSMIL_STATE, else in the user's XDG state directory. */
static dbe_err resolve_keys(const struct svc_parse *p)
{
    const char *state = getenv("DSMIL_STATE"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n;

    if (p->cfg->keys[0] != '\0')
        return DBE_OK;
    if (state != NULL && state[0] != '\0')
        n = snprintf(p->cfg->keys, sizeof p->cfg->keys, "%s/keys", state);
    else if (xdg != NULL && xdg[0] == '/')
        n = snprintf(p->cfg->keys, sizeof p->cfg->keys, "%s/dsmil/keys", xdg);
    else if (home != NULL && home[0] == '/')
        n = snprintf(p->cfg->keys, sizeof p->cfg->keys, "%s/.local/state/dsmil/keys", home);
    else
        return dbe_fail(p->diag, DBE_E_CONFIG, "keys", 0, "say where the key store is: --keys DIR");
    if (n < 0 || (size_t)n >= sizeof p->cfg->keys)
        return dbe_fail(p->diag, DBE_E_CONFIG, "keys", 0, "the path of the key store is too long");
    return DBE_OK;
}

static dbe_err resolve(const struct svc_parse *p)
{
    const struct dbe_role_row *role = dbe_reg_role(p->dev->role);

    DBE_TRY(resolve_level(p));
    DBE_TRY(resolve_sandbox(p));
    DBE_TRY(resolve_keys(p));
    if (p->cfg->name[0] == '\0')
        snprintf(p->cfg->name, sizeof p->cfg->name, "%s-%u", role != NULL ? role->path : "node", p->dev->device_id);
    for (size_t i = 0; p->dev->neighbours != NULL && p->dev->neighbours[i].name != NULL; i++)
        if (p->dev->neighbours[i].required && p->cfg->links[i][0] == '\0')
            return dbe_fail(p->diag, DBE_E_CONFIG, NULL, 0, "say where the neighbour is: --link-%s ADDRESS",
                            p->dev->neighbours[i].name);
    return DBE_OK;
}

dbe_err svc_config_load(int argc, char *const argv[], const struct svc_device *dev, struct svc_config *cfg, void *state,
                        struct dbe_diag *diag)
{
    struct svc_parse p = {.dev = dev, .cfg = cfg, .state = state, .diag = diag};

    *cfg = (struct svc_config){.log_fd = STDERR_FILENO, .argc = argc, .argv = argv};
    set_defaults(svc_config_common, cfg);
    set_defaults(dev->params, state);
    DBE_TRY(load_options(&p, argc, argv, true));
    if (cfg->help || cfg->version)
        return DBE_OK;
    if (cfg->config_file[0] == '\0' && dev->config_default != NULL && access(dev->config_default, R_OK) == 0)
        snprintf(cfg->config_file, sizeof cfg->config_file, "%s", dev->config_default);
    if (cfg->config_file[0] != '\0')
        DBE_TRY(svc_config_file(&p, cfg->config_file));
    DBE_TRY(load_environment(&p));
    DBE_TRY(load_options(&p, argc, argv, false));
    return resolve(&p);
}

/* ---- help ------------------------------------------------------------------------------------ */

static void help_param(const struct svc_param *t, struct base_buf *out)
{
    char head[96];
    const char *unit = t->unit != NULL && t->unit[0] != '\0' ? t->unit : t->kind == SVC_PARAM_TEXT ? "TEXT" : "N";

    snprintf(head, sizeof head, "--%s %s", t->key, unit);
    base_buf_fmt(out, "  %-34s %s", head, t->doc);
    if (t->kind != SVC_PARAM_TEXT)
        base_buf_fmt(out, " (default %.15g, %.15g to %.15g)", t->def, t->min, t->max);
    else if (t->def_text != NULL && t->def_text[0] != '\0')
        base_buf_fmt(out, " (default %s)", t->def_text);
    base_buf_str(out, t->reload ? "; reloadable\n" : "\n");
}

void svc_config_help(const struct svc_device *dev, struct base_buf *out)
{
    char head[96];

    base_buf_fmt(out, "dsmil-%s, device %u: %s\n\nUsage: dsmil-%s [options]\n\n", dev->name, dev->device_id,
                 dev->purpose, dev->name);
    for (const struct svc_param *t = svc_config_common; t->kind != SVC_PARAM_END; t++)
        help_param(t, out);
    for (const struct svc_neighbour *n = dev->neighbours; n != NULL && n->name != NULL; n++) {
        snprintf(head, sizeof head, "--link-%.40s ADDRESS", n->name);
        base_buf_fmt(out, "  %-34s address of %s, such as uds:/run/dsmil/%s.sock%s\n", head, n->name, n->name,
                     n->required ? " (required)" : "");
    }
    for (const struct svc_param *t = dev->params; t != NULL && t->kind != SVC_PARAM_END; t++)
        help_param(t, out);
    base_buf_str(
        out,
        "  --config FILE                      YAML with the same keys, addresses under links:; variables and options\n"
        "                                     override it; SIGHUP reads it again\n"
        "  --parent-pid [PID]                 end when the parent process ends\n"
        "  --help, --version\n\n"
        "Each key is also a variable: --log-level is DSMIL_LOG_LEVEL.\n"
        "SIGTERM and SIGINT finish what runs and exit; SIGHUP reads the configuration again;\n"
        "SIGUSR1 writes the state to the log.\n"
        "Exit codes: 0 ok, 1 failed at run time, 2 usage or configuration, 3 keys.\n");
}
