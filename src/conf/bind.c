/* SPDX-License-Identifier: Apache-2.0
 *
 * bind.c - what a tree says, held against a table and stored in a struct.
 *
 * In:   a map of the tree; rows of (key, kind, unit, range, place)
 * Out:  the struct's fields; or the place of the first thing that does not fit, what it is and what was expected
 * Not:  no defaults, no rules between keys.
 *
 * Everything runs twice, first without storing: an error leaves the struct as it was.
 */
#include "conf/conf.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_SHOWN_MAX = 40, KEYS_SHOWN_MAX = 100, NUMBER_SHOWN_MAX = 32 };

struct bind {
    const struct conf_doc *doc;
    struct dbe_diag *diag;
    bool store;
};

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit durations[] = {{"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}, {NULL, 0}};
static const struct unit sizes[] = {{"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {NULL, 0}};

/* What each kind expects, in words. */
static const char *const kind_words[] = {
    [CONF_BOOL] = "true or false",
    [CONF_UINT] = "a whole number",
    [CONF_REAL] = "a number",
    [CONF_DURATION] = "a duration such as 250ms, 2s, 5min or 1h",
    [CONF_BYTES] = "a size such as 512B, 64KiB, 16MiB or 1GiB",
    [CONF_RATE] = "a rate such as 5/s, 100/min or 5/5min",
    [CONF_TEXT] = "text",
    [CONF_NAME] = "a name",
    [CONF_FLAGS] = "a list of names",
    [CONF_SUB] = "a map",
    [CONF_ITEMS] = "a list",
    [CONF_NAMED] = "a map of names",
};

static const char *expected(const struct conf_key *key)
{
    return key->expected != NULL ? key->expected : kind_words[key->kind];
}

static dbe_err wrong(const struct bind *b, const struct conf_node *node, const struct conf_key *key)
{
    static const char *const shapes[] = {[CONF_MAP] = "a map", [CONF_LIST] = "a list"};
    const char *what = node->key != NULL ? node->key : key->key;

    if (node->shape != CONF_SCALAR)
        return conf_fail(b->doc, node, b->diag, "%s is %s; expected %s", what, shapes[node->shape], expected(key));
    return conf_fail(b->doc, node, b->diag, "%s is \"%.*s\"%s; expected %s", what, VALUE_SHOWN_MAX, node->text,
                     node->quoted ? " in quotes" : "", expected(key));
}

/* ---- numbers and units ------------------------------------------------------------------------- */

/* Digits from `*at` on, without sign or leading zeros that would look octal. */
static bool digits(const char **at, uint64_t *ret)
{
    const char *p = *at;
    uint64_t value = 0;

    if (*p < '0' || *p > '9' || (*p == '0' && p[1] >= '0' && p[1] <= '9'))
        return false;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(value, 10U, &value) || __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return false;
    *at = p;
    *ret = value;
    return true;
}

static bool unit_value(const struct unit *units, const char *name, uint64_t *ret)
{
    for (; units->name != NULL; units++)
        if (strcmp(units->name, name) == 0) {
            *ret = units->factor;
            return true;
        }
    return false;
}

/* "5min", "5 min", and a bare 0, which needs no unit. */
static bool with_unit(const struct unit *units, const char *text, uint64_t *ret)
{
    uint64_t value, factor = 1;

    if (!digits(&text, &value))
        return false;
    if (*text == ' ')
        text++;
    if (*text == '\0' ? value != 0 : !unit_value(units, text, &factor))
        return false;
    return !__builtin_mul_overflow(value, factor, ret);
}

/* "100/min", "5/5min". */
static bool rate_value(const char *text, struct conf_rate *ret)
{
    uint64_t factor, times = 1;
    struct conf_rate rate = {0};

    if (!digits(&text, &rate.count) || *text++ != '/')
        return false;
    if (*text >= '0' && *text <= '9' && !digits(&text, &times))
        return false;
    if (!unit_value(durations, text, &factor) || __builtin_mul_overflow(times, factor, &rate.window_ms) ||
        rate.window_ms == 0)
        return false;
    *ret = rate;
    return true;
}

/* A number as an operator would write it: with the largest unit that leaves no rest. */
static const char *written(enum conf_kind kind, uint64_t value, char out[NUMBER_SHOWN_MAX])
{
    const struct unit *units = kind == CONF_DURATION ? durations : kind == CONF_BYTES ? sizes : NULL;
    const struct unit *best = units;

    for (; units != NULL && units->name != NULL; units++)
        if (value != 0 && value % units->factor == 0)
            best = units;
    if (best != NULL)
        snprintf(out, NUMBER_SHOWN_MAX, "%llu%s", (unsigned long long)(value / best->factor), best->name);
    else
        snprintf(out, NUMBER_SHOWN_MAX, "%llu", (unsigned long long)value);
    return out;
}

static uint64_t field_max(const struct conf_key *key)
{
    uint64_t fits = key->size >= sizeof(uint64_t) ? UINT64_MAX : (UINT64_C(1) << (8 * key->size)) - 1;
    return key->max != 0 ? BASE_MIN(key->max, fits) : fits;
}

static dbe_err range(const struct bind *b, const struct conf_node *node, const struct conf_key *key, uint64_t value,
                     uint64_t max)
{
    char low[NUMBER_SHOWN_MAX], high[NUMBER_SHOWN_MAX];

    if (value >= key->min && value <= max)
        return DBE_OK;
    return conf_fail(b->doc, node, b->diag, "%s is %.*s; expected %s to %s%s%s",
                     node->key != NULL ? node->key : key->key, VALUE_SHOWN_MAX, node->text,
                     written(key->kind, key->min, low), written(key->kind, max, high),
                     key->expected != NULL ? ": " : "", key->expected != NULL ? key->expected : "");
}

static void put(const struct bind *b, const struct conf_key *key, uint8_t *at, uint64_t value)
{
    if (!b->store)
        return;
    switch (key->size) {
    case sizeof(uint8_t): memcpy(at, &(uint8_t){(uint8_t)value}, sizeof(uint8_t)); break;
    case sizeof(uint16_t): memcpy(at, &(uint16_t){(uint16_t)value}, sizeof(uint16_t)); break;
    case sizeof(uint32_t): memcpy(at, &(uint32_t){(uint32_t)value}, sizeof(uint32_t)); break;
    default: memcpy(at, &value, sizeof value);
    }
}

/* ---- scalars ------------------------------------------------------------------------------------ */

static dbe_err bind_number(const struct bind *b, const struct conf_node *node, const struct conf_key *key, uint8_t *at)
{
    const char *text = node->text;
    uint64_t value = 0;
    bool good;

    if (key->kind == CONF_UINT)
        good = digits(&text, &value) && *text == '\0';
    else
        good = with_unit(key->kind == CONF_DURATION ? durations : sizes, text, &value);
    if (!good || node->quoted)
        return wrong(b, node, key);
    DBE_TRY(range(b, node, key, value, field_max(key)));
    put(b, key, at, value);
    return DBE_OK;
}

static dbe_err bind_rate(const struct bind *b, const struct conf_node *node, const struct conf_key *key, uint8_t *at)
{
    char longest[NUMBER_SHOWN_MAX];
    struct conf_rate rate;

    if (node->quoted || !rate_value(node->text, &rate))
        return wrong(b, node, key);
    DBE_TRY(range(b, node, key, rate.count, key->max != 0 ? key->max : UINT64_MAX));
    if (key->window_max_ms != 0 && rate.window_ms > key->window_max_ms)
        return conf_fail(b->doc, node, b->diag, "%s is %.*s; expected a window of at most %s",
                         node->key != NULL ? node->key : key->key, VALUE_SHOWN_MAX, node->text,
                         written(CONF_DURATION, key->window_max_ms, longest));
    if (b->store)
        memcpy(at, &rate, sizeof rate);
    return DBE_OK;
}

static dbe_err bind_real(const struct bind *b, const struct conf_node *node, const struct conf_key *key, uint8_t *at)
{
    char *end = NULL;
    double value;

    value = strtod(node->text, &end);
    if (node->quoted || strspn(node->text, "0123456789+-.eE") != strlen(node->text) || end == node->text ||
        *end != '\0' || !isfinite(value))
        return wrong(b, node, key);
    if (value < key->real_min || value > key->real_max)
        return conf_fail(b->doc, node, b->diag, "%s is %.*s; expected %.15g to %.15g",
                         node->key != NULL ? node->key : key->key, VALUE_SHOWN_MAX, node->text, key->real_min,
                         key->real_max);
    if (b->store)
        memcpy(at, &value, sizeof value);
    return DBE_OK;
}

static dbe_err bind_bool(const struct bind *b, const struct conf_node *node, const struct conf_key *key, uint8_t *at)
{
    bool value = strcmp(node->text, "true") == 0;

    if (node->quoted || (!value && strcmp(node->text, "false") != 0))
        return wrong(b, node, key);
    if (b->store)
        memcpy(at, &value, sizeof value);
    return DBE_OK;
}

/* Copy `text` into a field of `size` bytes; `what` and `node` for the diagnostic. */
static dbe_err bind_text(const struct bind *b, const struct conf_node *node, const char *what, const char *text,
                         uint64_t min, uint64_t max, char *at)
{
    size_t len = strlen(text);

    for (const char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7F)
            return conf_fail(b->doc, node, b->diag, "%s holds a control character; expected one line of text", what);
    if (len < min || len > max)
        return conf_fail(b->doc, node, b->diag, "%s has %zu bytes; expected %llu to %llu", what, len,
                         (unsigned long long)min, (unsigned long long)max);
    if (b->store)
        memcpy(at, text, len + 1);
    return DBE_OK;
}

static dbe_err bind_name(const struct bind *b, const struct conf_node *node, const struct conf_key *key, uint64_t *ret)
{
    if (node->shape != CONF_SCALAR || !key->names(node->text, ret))
        return wrong(b, node, key);
    return DBE_OK;
}

static dbe_err bind_flags(const struct bind *b, const struct conf_node *node, const struct conf_key *key, uint8_t *at)
{
    uint64_t mask = 0, one = 0;

    if (node->shape != CONF_LIST)
        return wrong(b, node, key);
    if (node->count < key->min)
        return conf_fail(b->doc, node, b->diag, "%s is empty; expected %s", node->key, expected(key));
    for (const struct conf_node *item = node->first; item != NULL; item = item->next) {
        DBE_TRY(bind_name(b, item, key, &one));
        mask |= one;
    }
    put(b, key, at, mask);
    return DBE_OK;
}

static dbe_err bind_scalar(const struct bind *b, const struct conf_node *node, const struct conf_key *key, uint8_t *at)
{
    uint64_t value = 0;

    if (node->shape != CONF_SCALAR)
        return wrong(b, node, key);
    switch (key->kind) {
    case CONF_BOOL: return bind_bool(b, node, key, at);
    case CONF_REAL: return bind_real(b, node, key, at);
    case CONF_RATE: return bind_rate(b, node, key, at);
    case CONF_TEXT:
        return bind_text(b, node, node->key != NULL ? node->key : key->key, node->text, key->min,
                         key->max != 0 ? BASE_MIN(key->max, key->size - 1) : key->size - 1, (char *)at);
    case CONF_NAME:
        DBE_TRY(bind_name(b, node, key, &value));
        put(b, key, at, value);
        return DBE_OK;
    default: return bind_number(b, node, key, at);
    }
}

/* ---- maps and lists ------------------------------------------------------------------------------ */

static dbe_err bind_map(const struct bind *b, const struct conf_node *map, const struct conf_key *table, uint8_t *base);

static bool takes_scalars(const struct conf_key *table)
{
    return table->key != NULL && table->key[0] == '\0';
}

static dbe_err bind_value(const struct bind *b, const struct conf_node *node, const struct conf_key *key, uint8_t *at);

static dbe_err bind_items(const struct bind *b, const struct conf_node *node, const struct conf_key *key, uint8_t *base)
{
    const struct conf_items *list = key->items;
    const bool named = key->kind == CONF_NAMED;
    uint8_t *item = base + key->offset;

    if (node->shape != (named ? CONF_MAP : CONF_LIST))
        return wrong(b, node, key);
    if (node->count < key->min)
        return conf_fail(b->doc, node, b->diag, "%s is empty; expected %s", node->key != NULL ? node->key : key->key,
                         expected(key));
    if (node->count > list->max)
        return conf_fail(b->doc, node, b->diag, "%s has %zu entries; expected at most %zu",
                         node->key != NULL ? node->key : key->key, node->count, list->max);
    for (const struct conf_node *at = node->first; at != NULL; at = at->next, item += list->item_size) {
        if (named)
            DBE_TRY(bind_text(b, at, "the name", at->key, 1, list->name_size - 1, (char *)item + list->name_offset));
        if (takes_scalars(list->item))
            DBE_TRY(bind_value(b, at, list->item, item));
        else
            DBE_TRY(bind_map(b, at, list->item, item));
    }
    if (b->store)
        memcpy(base + list->count_offset, &node->count, sizeof node->count);
    return DBE_OK;
}

static dbe_err bind_value(const struct bind *b, const struct conf_node *node, const struct conf_key *key, uint8_t *base)
{
    switch (key->kind) {
    case CONF_FLAGS: return bind_flags(b, node, key, base + key->offset);
    case CONF_SUB: return bind_map(b, node, key->sub, base + key->offset);
    case CONF_ITEMS:
    case CONF_NAMED: return bind_items(b, node, key, base);
    default: return bind_scalar(b, node, key, base + key->offset);
    }
}

static dbe_err unknown_key(const struct bind *b, const struct conf_node *node, const struct conf_key *table)
{
    char keys[KEYS_SHOWN_MAX] = "";
    size_t len = 0;

    for (; table->kind != CONF_END && len < sizeof keys; table++)
        len += (size_t)snprintf(keys + len, sizeof keys - len, "%s%s", len > 0 ? ", " : "", table->key);
    return conf_fail_key(b->doc, node, b->diag, "unknown key \"%.*s\"; expected one of: %s%s", VALUE_SHOWN_MAX,
                         node->key, keys, len >= sizeof keys ? "..." : "");
}

static dbe_err bind_map(const struct bind *b, const struct conf_node *map, const struct conf_key *table, uint8_t *base)
{
    if (map->shape != CONF_MAP)
        return conf_fail(b->doc, map, b->diag, "expected a map of keys and values");
    for (const struct conf_node *at = map->first; at != NULL; at = at->next) {
        const struct conf_key *key = table;
        while (key->kind != CONF_END && strcmp(key->key, at->key) != 0)
            key++;
        if (key->kind == CONF_END)
            return unknown_key(b, at, table);
        DBE_TRY(bind_value(b, at, key, base));
    }
    for (; table->kind != CONF_END; table++)
        if (table->required && conf_get(map, table->key) == NULL)
            return conf_fail(b->doc, map, b->diag, "key \"%s\" is missing: %s", table->key, expected(table));
    return DBE_OK;
}

dbe_err conf_bind(const struct conf_doc *doc, const struct conf_node *map, const struct conf_key *table, void *base,
                  struct dbe_diag *diag)
{
    struct bind b = {.doc = doc, .diag = diag};

    DBE_TRY(bind_map(&b, map, table, base));
    b.store = true;
    return bind_map(&b, map, table, base);
}
