/* SPDX-License-Identifier: Apache-2.0
 *
 * config.c - see config.h.
 */
#include "devices/l7_router/config.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "conf/conf.h"

#define INHERIT UINT64_MAX /* a profile that does not say takes what holds for all */

static bool overload_named(const char *name, uint64_t *ret)
{
    bool wait = strcmp(name, "wait") == 0;

    *ret = wait ? ROUTER_OVERLOAD_WAIT : ROUTER_OVERLOAD_REJECT;
    return wait || strcmp(name, "reject") == 0;
}

/* ---- the file's keys (docs/l7.md tells the same in words) ------------------------------------------------------- */

static const struct conf_key limit_keys[] = {
    {"overload", CONF_NAME, CONF_FIELD(struct router_limits, overload), .names = overload_named,
     .expected = "wait or reject"},
    {"max", CONF_UINT, CONF_FIELD(struct router_limits, max), .min = 0, .max = ROUTER_QUEUE_MAX},
    {"wait", CONF_DURATION, CONF_FIELD(struct router_limits, wait_ms), .min = 1, .max = 600000},
    {.kind = CONF_END},
};
static const struct conf_key profile_keys[] = {
    {"queue", CONF_SUB, .offset = offsetof(struct router_profile_limits, queue), .sub = limit_keys},
    {.kind = CONF_END},
};
static const struct conf_items profile_items = {
    .item = profile_keys,
    .item_size = sizeof(struct router_profile_limits),
    .max = ROUTER_PROFILES_MAX,
    .count_offset = offsetof(struct router_config, profile_count),
    .name_offset = offsetof(struct router_profile_limits, name),
    .name_size = ROUTER_PROFILE_MAX_BYTES + 1,
};
static const struct conf_key worker_keys[] = {
    {"profile", CONF_TEXT, .required = true, CONF_FIELD(struct router_expected, profile), .min = 1},
    {.kind = CONF_END},
};
static const struct conf_items worker_items = {
    .item = worker_keys,
    .item_size = sizeof(struct router_expected),
    .max = ROUTER_WORKERS_MAX,
    .count_offset = offsetof(struct router_config, worker_count),
    .name_offset = offsetof(struct router_expected, name),
    .name_size = ROUTER_PROFILE_MAX_BYTES + 1,
};
static const struct conf_key breaker_keys[] = {
    {"failures", CONF_UINT, CONF_FIELD(struct breaker_config, failures), .min = 1, .max = 1000},
    {"open", CONF_DURATION, CONF_FIELD(struct breaker_config, open_ms), .min = 1, .max = 3600000},
    {"open-max", CONF_DURATION, CONF_FIELD(struct breaker_config, open_max_ms), .min = 1, .max = 3600000},
    {"probes", CONF_UINT, CONF_FIELD(struct breaker_config, probes), .min = 1, .max = 100},
    {.kind = CONF_END},
};
static const struct conf_key keys[] = {
    {"default-profile", CONF_TEXT, CONF_FIELD(struct router_config, default_profile), .min = 1},
    {"queue", CONF_SUB, .offset = offsetof(struct router_config, queue), .sub = limit_keys},
    {"profiles", CONF_NAMED, .offset = offsetof(struct router_config, profiles), .items = &profile_items},
    {"workers", CONF_NAMED, .offset = offsetof(struct router_config, workers), .items = &worker_items},
    {"breaker", CONF_SUB, .offset = offsetof(struct router_config, breaker), .sub = breaker_keys},
    {"attempts", CONF_UINT, CONF_FIELD(struct router_config, attempts), .min = 1, .max = ROUTER_WORKERS_MAX},
    {"ahead", CONF_UINT, CONF_FIELD(struct router_config, ahead), .min = 0, .max = 1024},
    {"reserve", CONF_UINT, CONF_FIELD(struct router_config, reserve_percent), .min = 0, .max = 90},
    {"silence", CONF_DURATION, CONF_FIELD(struct router_config, silence_ms), .min = 1500, .max = 60000},
    {.kind = CONF_END},
};

void router_config_default(struct router_config *ret)
{
    *ret = (struct router_config){
        .default_profile = "llm-7b-amx",
        .queue = {.overload = ROUTER_OVERLOAD_WAIT, .max = 256, .wait_ms = 2000},
        .breaker = {.failures = 3, .open_ms = 1000, .open_max_ms = 30000, .probes = 1},
        .attempts = 3,
        .ahead = 8,
        .reserve_percent = 12,
        .silence_ms = 2500,
    };
    for (size_t i = 0; i < ROUTER_PROFILES_MAX; i++)
        ret->profiles[i].queue = (struct router_limits){INHERIT, INHERIT, INHERIT};
}

static void inherit(struct router_config *config)
{
    const struct router_limits *all = &config->queue;

    for (size_t i = 0; i < config->profile_count; i++) {
        struct router_limits *own = &config->profiles[i].queue;
        own->overload = own->overload != INHERIT ? own->overload : all->overload;
        own->max = own->max != INHERIT ? own->max : all->max;
        own->wait_ms = own->wait_ms != INHERIT ? own->wait_ms : all->wait_ms;
    }
}

dbe_err router_config_read(const char *path, struct router_config *ret, struct dbe_diag *diag)
{
    struct router_config config;
    const struct conf_node *section = NULL;
    struct conf_doc *doc = NULL;

    router_config_default(&config);
    dbe_err err = conf_load(path, &doc, diag);
    if (err == DBE_OK && (section = conf_get(conf_root(doc), ROUTER_CONFIG_SECTION)) != NULL)
        err = conf_bind(doc, section, keys, &config, diag);
    if (err == DBE_OK && config.breaker.open_max_ms < config.breaker.open_ms)
        err = conf_fail(doc, conf_get(section, "breaker"), diag, "open-max must not be below open");
    conf_free(doc);
    if (err != DBE_OK)
        return err;
    inherit(&config);
    *ret = config;
    return DBE_OK;
}

const struct router_limits *router_config_limits(const struct router_config *config, const char *profile)
{
    for (size_t i = 0; i < config->profile_count; i++)
        if (strcmp(config->profiles[i].name, profile) == 0)
            return &config->profiles[i].queue;
    return &config->queue;
}

/* ---- the file --------------------------------------------------------------------------------------------------- */

bool router_file_changed(struct router_file *file)
{
    uint64_t now[BASE_ARRAY_LEN(file->seen)] = {0};
    struct stat st;

    if (file->path[0] == '\0')
        return false;
    if (stat(file->path, &st) == 0) {
        now[0] = (uint64_t)st.st_ino;
        now[1] = (uint64_t)st.st_size;
        now[2] = (uint64_t)st.st_mtim.tv_sec;
        now[3] = (uint64_t)st.st_mtim.tv_nsec;
    }
    if (memcmp(now, file->seen, sizeof now) == 0)
        return false;
    memcpy(file->seen, now, sizeof now);
    return true;
}
