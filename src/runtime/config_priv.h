/* SPDX-License-Identifier: Apache-2.0
 *
 * config_priv.h - what the files of the configuration share: one value by its key (config_value.c), all of a file
 * (config_file.c), all sources in their order (config.c).
 */
#ifndef RUNTIME_CONFIG_PRIV_H
#define RUNTIME_CONFIG_PRIV_H

#include "runtime/priv.h"

struct svc_parse {
    const struct svc_device *dev;
    struct svc_config *cfg;
    void *state; /* of the device, or a stand-in of the same size */
    struct dbe_diag *diag;
};

extern const struct svc_param svc_config_common[]; /* every service's parameters; their offsets are in svc_config */

/* Set the parameter or link `key`; '-' and '_' are the same. `where` says where it stands, for people. E_NOT_FOUND if
 * there is no such key (no diag then), E_CONFIG if it does not take `text`. */
dbe_err svc_config_set(const struct svc_parse *p, const char *where, const char *key, const char *text) DBE_MUST_CHECK;
bool svc_config_known(const struct svc_parse *p, const char *key);
bool svc_config_is_link(const struct svc_parse *p, const char *key);
dbe_err svc_config_text(const struct svc_parse *p, const char *where, const char *key, char *dst, size_t cap,
                        const char *text) DBE_MUST_CHECK;
/* Everything that the YAML file at `path` sets. */
dbe_err svc_config_file(const struct svc_parse *p, const char *path) DBE_MUST_CHECK;

#endif
