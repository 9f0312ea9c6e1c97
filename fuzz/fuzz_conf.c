/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_conf.c - any bytes as a configuration file, read into a tree and held against a table with every kind.
 *
 * In:   input: the file
 * Finds: reads and writes outside, a value outside its range, a refusal that is not said
 */
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct item {
    char name[8];
    uint16_t port;
};

struct config {
    bool a;
    double share;
    uint64_t time_ms, bytes;
    struct conf_rate rate;
    char text[8];
    uint8_t mask, ports[4];
    size_t port_count, item_count;
    struct item items[4];
};

static bool names(const char *name, uint64_t *ret)
{
    *ret = (uint64_t)name[0] & 0x7F;
    return name[0] >= 'A' && name[0] <= 'Z';
}

static const struct conf_key item_keys[] = {
    {"port", CONF_UINT, CONF_FIELD(struct item, port), .min = 3, .max = 30},
    {.kind = CONF_END},
};
static const struct conf_key port_keys[] = {{"", CONF_UINT, .size = 1, .max = 99}, {.kind = CONF_END}};
static const struct conf_items items = {item_keys,
                                        sizeof(struct item),
                                        4,
                                        offsetof(struct config, item_count),
                                        offsetof(struct item, name),
                                        sizeof(((struct item *)0)->name)};
static const struct conf_items ports = {
    .item = port_keys, .item_size = 1, .max = 4, .count_offset = offsetof(struct config, port_count)};
static const struct conf_key keys[] = {
    {"a", CONF_BOOL, CONF_FIELD(struct config, a)},
    {"share", CONF_REAL, CONF_FIELD(struct config, share), .real_max = 1},
    {"time", CONF_DURATION, CONF_FIELD(struct config, time_ms), .max = 3600000},
    {"bytes", CONF_BYTES, CONF_FIELD(struct config, bytes)},
    {"rate", CONF_RATE, CONF_FIELD(struct config, rate)},
    {"text", CONF_TEXT, CONF_FIELD(struct config, text)},
    {"mask", CONF_FLAGS, CONF_FIELD(struct config, mask), .names = names},
    {"ports", CONF_ITEMS, .offset = offsetof(struct config, ports), .items = &ports},
    {"items", CONF_NAMED, .offset = offsetof(struct config, items), .items = &items},
    {.kind = CONF_END},
};

static void check(const struct config *c)
{
    if (c->share < 0 || c->share > 1 || c->time_ms > 3600000 || c->port_count > 4 || c->item_count > 4 ||
        memchr(c->text, 0, sizeof c->text) == NULL)
        abort();
    for (size_t i = 0; i < c->item_count; i++)
        if (memchr(c->items[i].name, 0, sizeof c->items[i].name) == NULL || c->items[i].port > 30)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf_doc *doc = NULL;
    struct dbe_diag diag = {0};
    struct config config = {0};
    dbe_err err = conf_parse("fuzz", data, size, &doc, &diag);

    if (err == DBE_OK)
        err = conf_bind(doc, conf_root(doc), keys, &config, &diag);
    if (err != DBE_OK && diag.text[0] == '\0')
        abort();
    check(&config);
    conf_free(doc);
    return 0;
}
