/* SPDX-License-Identifier: Apache-2.0
 *
 * config_value.c - one value of the configuration: which key, which type, unit and range. See config_priv.h.
 */
#include "runtime/config_priv.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct target { /* where one key leads */
    const struct svc_param *param;
    void *base;
};

/* ---- keys ------------------------------------------------------------------------------------ */

static bool key_equal(const char *a, const char *b)
{
    for (; *a != '\0' && *b != '\0'; a++, b++)
        if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b))
            return false;
    return *a == *b;
}

static const struct svc_param *param_in(const struct svc_param *table, const char *key)
{
    for (; table != NULL && table->kind != SVC_PARAM_END; table++)
        if (key_equal(table->key, key))
            return table;
    return NULL;
}

static bool key_find(const struct svc_parse *p, const char *key, struct target *ret)
{
    const struct svc_param *param = param_in(svc_config_common, key);

    if (param != NULL) {
        *ret = (struct target){param, p->cfg};
        return true;
    }
    param = param_in(p->dev->params, key);
    if (param == NULL)
        return false;
    *ret = (struct target){param, p->state};
    return true;
}

/* Index of the neighbour that "link-NAME" names, -1 if none. */
static int link_find(const struct svc_device *dev, const char *key)
{
    if (strncmp(key, "link-", 5) != 0 && strncmp(key, "link_", 5) != 0)
        return -1;
    for (int i = 0; dev->neighbours != NULL && dev->neighbours[i].name != NULL; i++)
        if (key_equal(dev->neighbours[i].name, key + 5))
            return i;
    return -1;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Units that a whole number may be written with where the parameter's own unit is one of the same measure. */
static const struct unit {
    const char *name;
    uint64_t factor; /* in the measure's smallest */
    bool bytes;      /* of memory; else of time */
} units[] = {
    {"ms", 1, false}, {"s", 1000, false},  {"min", 60000, false},  {"h", 3600000, false},
    {"B", 1, true},   {"KiB", 1024, true}, {"MiB", 1048576, true}, {"GiB", 1073741824, true},
};

static const struct unit *unit_named(const char *name)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(units); i++)
        if (name != NULL && strcmp(units[i].name, name) == 0)
            return &units[i];
    return NULL;
}

/* What `n` written with the unit `suffix` is in the parameter's own; false if that is no whole number of them. */
static bool in_own_unit(const struct svc_param *param, const char *suffix, uint64_t *n)
{
    const struct unit *own = unit_named(param->unit), *said = unit_named(suffix);
    uint64_t value;

    if (own == NULL || said == NULL || own->bytes != said->bytes || __builtin_mul_overflow(*n, said->factor, &value) ||
        value % own->factor != 0)
        return false;
    *n = value / own->factor;
    return true;
}

static dbe_err out_of_range(const struct svc_parse *p, const struct svc_param *param, const char *where,
                            const char *text)
{
    return dbe_fail(p->diag, DBE_E_CONFIG, param->key, 0, "%s: %s must lie between %.15g and %.15g %s, not %.40s",
                    where, param->key, param->min, param->max, param->unit != NULL ? param->unit : "", text);
}

static dbe_err set_uint(const struct svc_parse *p, const struct target *t, const char *where, const char *text)
{
    const struct svc_param *param = t->param;
    const struct unit *own = unit_named(param->unit);
    char *end = NULL;

    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || errno != 0 || (*end != '\0' && !in_own_unit(param, end, &n))) {
        if (own != NULL)
            return dbe_fail(p->diag, DBE_E_CONFIG, param->key, 0, "%s: %s takes a whole number of %s%s, not \"%.40s\"",
                            where, param->key, param->unit,
                            own->bytes ? ", or one with B, KiB, MiB or GiB" : ", or one with ms, s, min or h", text);
        return dbe_fail(p->diag, DBE_E_CONFIG, param->key, 0, "%s: %s takes a whole number, not \"%.40s\"", where,
                        param->key, text);
    }
    if ((double)n < param->min || (double)n > param->max)
        return out_of_range(p, param, where, text);
    memcpy((uint8_t *)t->base + param->offset, &n, sizeof n);
    return DBE_OK;
}

static dbe_err set_double(const struct svc_parse *p, const struct target *t, const char *where, const char *text)
{
    const struct svc_param *param = t->param;
    char *end = NULL;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' || !isfinite(value))
        return dbe_fail(p->diag, DBE_E_CONFIG, param->key, 0, "%s: %s takes a number, not \"%.40s\"", where, param->key,
                        text);
    if (value < param->min || value > param->max)
        return out_of_range(p, param, where, text);
    memcpy((uint8_t *)t->base + param->offset, &value, sizeof value);
    return DBE_OK;
}

dbe_err svc_config_text(const struct svc_parse *p, const char *where, const char *key, char *dst, size_t cap,
                        const char *text)
{
    size_t len = strlen(text);

    if (len >= cap)
        return dbe_fail(p->diag, DBE_E_CONFIG, NULL, 0, "%s: %s takes at most %zu bytes", where, key, cap - 1);
    if (!base_utf8_valid(text, len))
        return dbe_fail(p->diag, DBE_E_CONFIG, NULL, 0, "%s: %s is not UTF-8 text", where, key);
    memcpy(dst, text, len + 1);
    return DBE_OK;
}

dbe_err svc_config_set(const struct svc_parse *p, const char *where, const char *key, const char *text)
{
    struct target t;
    int link = link_find(p->dev, key);

    if (link >= 0 && link < SVC_LINKS_MAX)
        return svc_config_text(p, where, key, p->cfg->links[link], sizeof p->cfg->links[link], text);
    if (!key_find(p, key, &t))
        return DBE_E_NOT_FOUND;
    if (t.param->kind == SVC_PARAM_TEXT)
        return svc_config_text(p, where, t.param->key, (char *)t.base + t.param->offset, t.param->size, text);
    return t.param->kind == SVC_PARAM_UINT ? set_uint(p, &t, where, text) : set_double(p, &t, where, text);
}

bool svc_config_is_link(const struct svc_parse *p, const char *key)
{
    return link_find(p->dev, key) >= 0;
}

bool svc_config_known(const struct svc_parse *p, const char *key)
{
    return key_find(p, key, &(struct target){0}) || link_find(p->dev, key) >= 0;
}
