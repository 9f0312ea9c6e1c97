/* SPDX-License-Identifier: Apache-2.0
 *
 * conf.h - configuration files: YAML into a checked tree, and tables that say what may stand in it.
 *
 * In:   text of one YAML document, from an operator; hostile until checked
 * Out:  a tree of maps, lists and scalars that knows the place of each; or the fields of a struct, as a table of keys
 *       says. Whatever is wrong is told as "file:line:column: what was found; what was expected"
 * Not:  no anchors, aliases, tags, directives, merge keys, second documents or implicit nulls; it sets no defaults and
 *       watches no file.
 * Threads: a document is read-only once parsed and may be shared; nothing else has state.
 * Source: YAML 1.1 as libyaml reads it, less what is refused above.
 */
#ifndef CONF_CONF_H
#define CONF_CONF_H

#include "base/base.h"

enum {
    CONF_FILE_MAX_BYTES = 256 * 1024,
    CONF_DEPTH_MAX = 16,    /* maps and lists within each other */
    CONF_NODES_MAX = 16384, /* of one document */
    CONF_KEYS_MAX = 1024,   /* of one map: they are held against each other */
    CONF_KEY_MAX_BYTES = 64,
    CONF_SCALAR_MAX_BYTES = 4096,
};

/* ---- the tree ---------------------------------------------------------------------------------- */

enum conf_shape { CONF_SCALAR, CONF_MAP, CONF_LIST };

struct conf_node {
    enum conf_shape shape;
    uint32_t line, column;          /* where it begins; the first is 1 */
    const char *key;                /* in a map: its key, else NULL */
    uint32_t key_line, key_column;  /* where that stands */
    const char *text;               /* scalar: NUL-terminated UTF-8 without NUL; else NULL */
    bool quoted;                    /* scalar in quotes, or a block: text whatever it looks like */
    struct conf_node *first, *next; /* children in their order; the neighbour in the parent */
    size_t count;                   /* children */
};

struct conf_doc;

/* Parse `len` bytes; `name` is what diagnostics call the file, copied. E_CONFIG (diag says where), E_TOO_LARGE,
 * E_NOMEM. Free with conf_free. */
dbe_err conf_parse(const char *name, const void *text, size_t len, struct conf_doc **ret,
                   struct dbe_diag *diag) DBE_MUST_CHECK;
/* The same from a regular file. Also E_NOT_FOUND, E_IO. */
dbe_err conf_load(const char *path, struct conf_doc **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
void conf_free(struct conf_doc *doc); /* takes NULL */

/* The outermost map; valid as long as `doc`. */
const struct conf_node *conf_root(const struct conf_doc *doc);
const char *conf_name(const struct conf_doc *doc);
/* The value of `key` in a map; NULL when it is not there or `map` is no map. */
const struct conf_node *conf_get(const struct conf_node *map, const char *key);

/* E_CONFIG with "name:line:column: " before the sentence; place of the value, or of its key with conf_fail_key. */
dbe_err conf_fail(const struct conf_doc *doc, const struct conf_node *node, struct dbe_diag *diag, const char *fmt, ...)
    DBE_PRINTF(4, 5);
dbe_err conf_fail_key(const struct conf_doc *doc, const struct conf_node *node, struct dbe_diag *diag, const char *fmt,
                      ...) DBE_PRINTF(4, 5);

/* ---- binding: a table says which keys a map takes and where their values go ---------------------- */

/* Written like this, stored like that. The unit is part of a value: a bare number is no duration. */
enum conf_kind {
    CONF_END,      /* the last row */
    CONF_BOOL,     /* true or false                                     bool                 */
    CONF_UINT,     /* 1024, without sign, decimal                       uint8_t to uint64_t  */
    CONF_REAL,     /* 0.25                                              double               */
    CONF_DURATION, /* 250ms 2s 5min 1h                                  uint64_t, ms         */
    CONF_BYTES,    /* 512B 64KiB 16MiB 1GiB                             uint64_t             */
    CONF_RATE,     /* 100/min, 5/s, 1000/h, 5/5min                      struct conf_rate     */
    CONF_TEXT,     /* one line of UTF-8 without control characters      char[size]           */
    CONF_NAME,     /* one of `names`                                    uint8_t to uint64_t  */
    CONF_FLAGS,    /* a list of `names`: their values together          uint8_t to uint64_t  */
    CONF_SUB,      /* a map with a table of its own, in the same struct or one inside it     */
    CONF_ITEMS,    /* a list: an array in the struct, and its count                          */
    CONF_NAMED,    /* a map whose keys are names: the same, and each item's name             */
};

struct conf_rate {
    uint64_t count, window_ms; /* so many within each window */
};

/* Value of a name; false if there is none such. */
typedef bool conf_names_fn(const char *name, uint64_t *ret);

struct conf_key;

/* Where the items of a list go: `item_size` bytes each from the key's offset on. A table whose only row has the key ""
 * takes scalars: `- value`. */
struct conf_items {
    const struct conf_key *item;
    size_t item_size, max, count_offset; /* count: a size_t */
    size_t name_offset, name_size;       /* CONF_NAMED: char[], in the item */
};

struct conf_key {
    const char *key;
    enum conf_kind kind;
    bool required;
    size_t offset, size; /* of the field; size 0 for sub-tables and items */
    /* In the stored unit; TEXT: bytes; RATE: the count; max 0: whatever fits. Lists: min 1 refuses an empty one. */
    uint64_t min, max;
    uint64_t window_max_ms; /* RATE: the longest window; 0: any */
    double real_min, real_max; /* CONF_REAL */
    conf_names_fn *names;
    const char *expected;       /* NAME, FLAGS: the names for people; others: NULL or a better phrase */
    const struct conf_key *sub; /* CONF_SUB; its offsets count from this key's offset */
    const struct conf_items *items;
};

#define CONF_FIELD(type, field) .offset = offsetof(type, field), .size = sizeof(((type *)0)->field)

/* Hold a map against a table and store what it says at `base`; keys that are absent leave their fields alone, so
 * defaults stand there before. E_CONFIG: an unknown or missing key, a wrong shape, unit, name or range; nothing was
 * stored then. */
dbe_err conf_bind(const struct conf_doc *doc, const struct conf_node *map, const struct conf_key *table, void *base,
                  struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
