/* SPDX-License-Identifier: Apache-2.0
 *
 * config_file.c - the configuration as a YAML file: one map of parameters, addresses of neighbours under `links`.
 *
 * In:   a file of at most CONF_FILE_MAX_BYTES; the tables of the runtime and of the device
 * Out:  parameters set, or one sentence with file, line and column of what is wrong and what was expected
 */
#include "runtime/config_priv.h"

#include <stdio.h>
#include <string.h>

#include "conf/conf.h"

static dbe_err set_scalar(const struct svc_parse *p, const struct conf_doc *doc, const struct conf_node *node,
                          const char *key, const char *what)
{
    char where[SVC_PATH_MAX];

    if (node->shape != CONF_SCALAR)
        return conf_fail(doc, node, p->diag, "%.40s is a %s; expected one value", node->key,
                         node->shape == CONF_MAP ? "map" : "list");
    snprintf(where, sizeof where, "%s:%u:%u", conf_name(doc), node->line, node->column);
    dbe_err err = svc_config_set(p, where, key, node->text);
    if (err == DBE_E_NOT_FOUND)
        return conf_fail_key(doc, node, p->diag, "there is no %s \"%.40s\"; --help lists them", what, node->key);
    return err;
}

static dbe_err set_links(const struct svc_parse *p, const struct conf_doc *doc, const struct conf_node *links)
{
    char key[CONF_KEY_MAX_BYTES + 8];

    if (links->shape != CONF_MAP)
        return conf_fail(doc, links, p->diag, "links is no map; expected NAME: ADDRESS lines");
    for (const struct conf_node *n = links->first; n != NULL; n = n->next) {
        snprintf(key, sizeof key, "link-%s", n->key);
        DBE_TRY(set_scalar(p, doc, n, key, "neighbour"));
    }
    return DBE_OK;
}

dbe_err svc_config_file(const struct svc_parse *p, const char *path)
{
    struct conf_doc *doc = NULL;
    dbe_err err;

    DBE_TRY(conf_load(path, &doc, p->diag));
    err = DBE_OK;
    for (const struct conf_node *n = conf_root(doc)->first; err == DBE_OK && n != NULL; n = n->next) {
        if (strcmp(n->key, "links") == 0)
            err = set_links(p, doc, n);
        else if (p->dev->config_section != NULL && strcmp(n->key, p->dev->config_section) == 0)
            continue;                           /* the device's */
        else if (svc_config_is_link(p, n->key)) /* one place for an address, so that two cannot disagree */
            err =
                conf_fail_key(doc, n, p->diag, "\"%.40s\" is an address of a neighbour; expected under links:", n->key);
        else
            err = set_scalar(p, doc, n, n->key, "parameter");
    }
    conf_free(doc);
    return err;
}
