/* SPDX-License-Identifier: Apache-2.0
 *
 * tree.c - YAML text into a tree, bounded in bytes, depth and nodes.
 *
 * In:   bytes of a file; libyaml's events
 * Out:  conf_doc; or a diagnostic with the place
 * Not:  no meaning: bind.c knows kinds and units. What YAML has beyond maps, lists and scalars is refused by name.
 */
#include "conf/conf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

enum { NAME_SHOWN_MAX_BYTES = 80 };

struct conf_doc {
    struct conf_node *root;
    struct slot *all; /* every node, to be freed without a walk */
    char *name;
};

struct slot { /* a node, its text and key behind it */
    struct slot *next;
    struct conf_node node;
    char text[];
};

struct parse {
    yaml_parser_t yaml;
    struct conf_doc *doc;
    size_t nodes, depth;
    struct dbe_diag *diag;
};

/* ---- words ------------------------------------------------------------------------------------- */

/* The end of a long path says more than its beginning. */
static const char *shown(const char *name)
{
    size_t len = strlen(name);
    return len > NAME_SHOWN_MAX_BYTES ? name + len - NAME_SHOWN_MAX_BYTES : name;
}

static dbe_err fail_at(const char *name, uint32_t line, uint32_t column, struct dbe_diag *diag, const char *fmt,
                       va_list args) __attribute__((format(printf, 5, 0)));
static dbe_err fail_at(const char *name, uint32_t line, uint32_t column, struct dbe_diag *diag, const char *fmt,
                       va_list args)
{
    char text[sizeof diag->text];

    vsnprintf(text, sizeof text, fmt, args);
    return dbe_fail(diag, DBE_E_CONFIG, NULL, 0, "%s:%u:%u: %s", shown(name), line, column, text);
}

dbe_err conf_fail(const struct conf_doc *doc, const struct conf_node *node, struct dbe_diag *diag, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    dbe_err err = fail_at(doc->name, node->line, node->column, diag, fmt, args);
    va_end(args);
    return err;
}

dbe_err conf_fail_key(const struct conf_doc *doc, const struct conf_node *node, struct dbe_diag *diag, const char *fmt,
                      ...)
{
    bool has_key = node->key != NULL;
    va_list args;

    va_start(args, fmt);
    dbe_err err = fail_at(doc->name, has_key ? node->key_line : node->line, has_key ? node->key_column : node->column,
                          diag, fmt, args);
    va_end(args);
    return err;
}

static uint32_t place(size_t zero_based)
{
    return zero_based < UINT32_MAX ? (uint32_t)zero_based + 1 : UINT32_MAX;
}

static dbe_err mark_fail(const struct parse *p, const yaml_mark_t *mark, const char *fmt, ...) DBE_PRINTF(3, 4);
static dbe_err mark_fail(const struct parse *p, const yaml_mark_t *mark, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    dbe_err err = fail_at(p->doc->name, place(mark->line), place(mark->column), p->diag, fmt, args);
    va_end(args);
    return err;
}

/* ---- events ------------------------------------------------------------------------------------ */

static dbe_err next_event(struct parse *p, yaml_event_t *ret)
{
    const yaml_parser_t *y = &p->yaml;

    if (yaml_parser_parse(&p->yaml, ret) == 1)
        return DBE_OK;
    if (y->error == YAML_MEMORY_ERROR)
        return dbe_fail(p->diag, DBE_E_NOMEM, NULL, 0, "no memory to read %s", shown(p->doc->name));
    if (y->error == YAML_READER_ERROR)
        return dbe_fail(p->diag, DBE_E_CONFIG, NULL, y->problem_offset, "%s: byte %zu: %s", shown(p->doc->name),
                        y->problem_offset, y->problem != NULL ? y->problem : "not UTF-8 text");
    return mark_fail(p, &y->problem_mark, "this is not YAML: %s", y->problem != NULL ? y->problem : "unreadable");
}

/* What we do not take, by name. */
static dbe_err event_refuse(const struct parse *p, const yaml_event_t *e)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;

    if (e->type == YAML_ALIAS_EVENT)
        return mark_fail(p, &e->start_mark, "an alias (*name) is not taken here: write the value out");
    if (e->type == YAML_SCALAR_EVENT) {
        anchor = e->data.scalar.anchor;
        tag = e->data.scalar.tag;
    } else if (e->type == YAML_MAPPING_START_EVENT) {
        anchor = e->data.mapping_start.anchor;
        tag = e->data.mapping_start.tag;
    } else if (e->type == YAML_SEQUENCE_START_EVENT) {
        anchor = e->data.sequence_start.anchor;
        tag = e->data.sequence_start.tag;
    }
    if (anchor != NULL)
        return mark_fail(p, &e->start_mark, "an anchor (&name) is not taken here");
    if (tag != NULL)
        return mark_fail(p, &e->start_mark, "a tag (!name) is not taken here");
    return DBE_OK;
}

/* A node with room for `text_len` bytes of text and `key_len` of key, each ended by NUL. */
static dbe_err node_new(struct parse *p, const yaml_mark_t *at, const char *text, size_t text_len, const char *key,
                        size_t key_len, struct conf_node **ret)
{
    struct slot *slot;

    if (++p->nodes > CONF_NODES_MAX)
        return mark_fail(p, at, "more than %d values in one file", CONF_NODES_MAX);
    slot = base_alloc(1, sizeof *slot + text_len + key_len + 2);
    if (slot == NULL)
        return dbe_fail(p->diag, DBE_E_NOMEM, NULL, 0, "no memory to read %s", shown(p->doc->name));
    slot->next = p->doc->all;
    p->doc->all = slot;
    slot->node.line = place(at->line);
    slot->node.column = place(at->column);
    if (text != NULL) {
        memcpy(slot->text, text, text_len);
        slot->node.text = slot->text;
    }
    if (key != NULL) {
        memcpy(slot->text + text_len + 1, key, key_len);
        slot->node.key = slot->text + text_len + 1;
    }
    *ret = &slot->node;
    return DBE_OK;
}

/* ---- nodes ------------------------------------------------------------------------------------- */

struct key { /* of the value that comes next; text NULL: none */
    char text[CONF_KEY_MAX_BYTES + 1];
    size_t len;
    yaml_mark_t mark;
};

static dbe_err read_node(struct parse *p, const yaml_event_t *e, const struct key *key, struct conf_node **ret);

static dbe_err read_scalar(struct parse *p, const yaml_event_t *e, const struct key *key, struct conf_node **ret)
{
    const char *text = (const char *)e->data.scalar.value;
    size_t len = e->data.scalar.length;
    bool quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;

    if (len > CONF_SCALAR_MAX_BYTES)
        return mark_fail(p, &e->start_mark, "a value of %zu bytes; at most %d are taken", len, CONF_SCALAR_MAX_BYTES);
    if (!base_utf8_valid(text, len))
        return mark_fail(p, &e->start_mark, "a value that is not UTF-8 text without NUL");
    if (len == 0 && !quoted)
        return mark_fail(p, &e->start_mark, "no value; expected one (\"\" for empty text)");
    DBE_TRY(node_new(p, &e->start_mark, text, len, key->len > 0 ? key->text : NULL, key->len, ret));
    (*ret)->shape = CONF_SCALAR;
    (*ret)->quoted = quoted;
    return DBE_OK;
}

static dbe_err read_key(struct parse *p, const yaml_event_t *e, const struct conf_node *map, struct key *ret)
{
    const struct conf_node *twin;

    if (e->type != YAML_SCALAR_EVENT)
        return mark_fail(p, &e->start_mark, "a key must be a word, not a map or a list");
    DBE_TRY(event_refuse(p, e));
    ret->len = e->data.scalar.length;
    ret->mark = e->start_mark;
    if (ret->len == 0 || ret->len > CONF_KEY_MAX_BYTES || !base_utf8_valid(e->data.scalar.value, ret->len))
        return mark_fail(p, &e->start_mark, "a key must be UTF-8 text of 1 to %d bytes", CONF_KEY_MAX_BYTES);
    memcpy(ret->text, e->data.scalar.value, ret->len);
    ret->text[ret->len] = '\0';
    if (map->count >= CONF_KEYS_MAX)
        return mark_fail(p, &e->start_mark, "more than %d keys in one map", CONF_KEYS_MAX);
    twin = conf_get(map, ret->text);
    if (twin != NULL)
        return mark_fail(p, &e->start_mark, "key \"%s\" a second time; it stands in line %u already", ret->text,
                         twin->key_line);
    return DBE_OK;
}

/* One child of a map or a list; `*ret_end` when there is no further one. */
static dbe_err read_child(struct parse *p, struct conf_node *parent, struct conf_node **ret, bool *ret_end)
{
    bool map = parent->shape == CONF_MAP;
    struct key key = {0};
    yaml_event_t e;
    dbe_err err;

    DBE_TRY(next_event(p, &e));
    *ret_end = e.type == (map ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT);
    if (!*ret_end && map) {
        err = read_key(p, &e, parent, &key);
        yaml_event_delete(&e);
        DBE_TRY(err);
        DBE_TRY(next_event(p, &e));
    }
    err = *ret_end ? DBE_OK : read_node(p, &e, &key, ret);
    yaml_event_delete(&e);
    return err;
}

static dbe_err read_children(struct parse *p, struct conf_node *parent)
{
    struct conf_node **tail = &parent->first, *child = NULL;
    bool end = false;

    if (++p->depth > CONF_DEPTH_MAX)
        return conf_fail(p->doc, parent, p->diag, "maps and lists more than %d deep", CONF_DEPTH_MAX);
    for (;;) {
        DBE_TRY(read_child(p, parent, &child, &end));
        if (end)
            break;
        *tail = child;
        tail = &child->next;
        parent->count++;
    }
    p->depth--;
    return DBE_OK;
}

static dbe_err read_node(struct parse *p, const yaml_event_t *e, const struct key *key, struct conf_node **ret)
{
    struct conf_node *node = NULL;

    DBE_TRY(event_refuse(p, e));
    if (e->type == YAML_SCALAR_EVENT) {
        DBE_TRY(read_scalar(p, e, key, &node));
    } else {
        DBE_TRY(node_new(p, &e->start_mark, NULL, 0, key->len > 0 ? key->text : NULL, key->len, &node));
        node->shape = e->type == YAML_MAPPING_START_EVENT ? CONF_MAP : CONF_LIST;
    }
    if (node->key != NULL) {
        node->key_line = place(key->mark.line);
        node->key_column = place(key->mark.column);
    }
    *ret = node;
    return node->shape == CONF_SCALAR ? DBE_OK : read_children(p, node);
}

/* ---- the document ------------------------------------------------------------------------------ */

static dbe_err expect(struct parse *p, yaml_event_type_t type, const char *wanted)
{
    yaml_event_t e;
    dbe_err err = DBE_OK;

    DBE_TRY(next_event(p, &e));
    if (e.type != type)
        err = mark_fail(p, &e.start_mark, "expected %s", wanted);
    else if (type == YAML_DOCUMENT_START_EVENT &&
             (e.data.document_start.version_directive != NULL ||
              e.data.document_start.tag_directives.start != e.data.document_start.tag_directives.end))
        err = mark_fail(p, &e.start_mark, "a directive (%%...) is not taken here");
    yaml_event_delete(&e);
    return err;
}

static dbe_err read_document(struct parse *p)
{
    yaml_event_t e;
    dbe_err err;

    DBE_TRY(expect(p, YAML_STREAM_START_EVENT, "YAML"));
    DBE_TRY(expect(p, YAML_DOCUMENT_START_EVENT, "a map of keys and values; there is nothing"));
    DBE_TRY(next_event(p, &e));
    if (e.type != YAML_MAPPING_START_EVENT)
        err = mark_fail(p, &e.start_mark, "expected a map of keys and values");
    else
        err = read_node(p, &e, &(struct key){0}, &p->doc->root);
    yaml_event_delete(&e);
    DBE_TRY(err);
    DBE_TRY(expect(p, YAML_DOCUMENT_END_EVENT, "the end of the map"));
    return expect(p, YAML_STREAM_END_EVENT, "the end of the file; one document is taken");
}

dbe_err conf_parse(const char *name, const void *text, size_t len, struct conf_doc **ret, struct dbe_diag *diag)
{
    struct parse p = {.diag = diag};
    dbe_err err;

    if (len > CONF_FILE_MAX_BYTES)
        return dbe_fail(diag, DBE_E_TOO_LARGE, NULL, 0, "%s is larger than the permitted %d bytes", shown(name),
                        CONF_FILE_MAX_BYTES);
    p.doc = base_alloc(1, sizeof *p.doc);
    if (p.doc == NULL || (p.doc->name = base_strdup(name)) == NULL || yaml_parser_initialize(&p.yaml) != 1) {
        conf_free(p.doc);
        return dbe_fail(diag, DBE_E_NOMEM, NULL, 0, "no memory to read %s", shown(name));
    }
    yaml_parser_set_encoding(&p.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&p.yaml, len > 0 ? text : (const unsigned char *)"", len);
    err = read_document(&p);
    yaml_parser_delete(&p.yaml);
    if (err != DBE_OK) {
        conf_free(p.doc);
        return err;
    }
    *ret = p.doc;
    return DBE_OK;
}

dbe_err conf_load(const char *path, struct conf_doc **ret, struct dbe_diag *diag)
{
    struct base_buf text = {0};
    dbe_err err = base_file_read(path, CONF_FILE_MAX_BYTES, &text, diag);

    if (err == DBE_OK)
        err = conf_parse(path, text.data, text.len, ret, diag);
    base_buf_free(&text);
    return err;
}

void conf_free(struct conf_doc *doc)
{
    if (doc == NULL)
        return;
    while (doc->all != NULL) {
        struct slot *next = doc->all->next;
        base_free(doc->all);
        doc->all = next;
    }
    base_free(doc->name);
    base_free(doc);
}

const struct conf_node *conf_root(const struct conf_doc *doc)
{
    return doc->root;
}

const char *conf_name(const struct conf_doc *doc)
{
    return doc->name;
}

const struct conf_node *conf_get(const struct conf_node *map, const char *key)
{
    const struct conf_node *at = map->shape == CONF_MAP ? map->first : NULL;

    while (at != NULL && strcmp(at->key, key) != 0)
        at = at->next;
    return at;
}
