/* SPDX-License-Identifier: Apache-2.0
 *
 * keys.h - whom an API key stands for: the gateway's own key, or one of the file that `dsmil api-key` keeps.
 *
 * The file is looked at once a second; a change counts from then on, for requests that begin later. A file that cannot
 * be read or has an error leaves the keys as they were, and the log says why. Threads: the loop's.
 */
#ifndef SHIM_KEYS_H
#define SHIM_KEYS_H

#include <sys/stat.h>

#include "policy/api_keys.h"
#include "runtime/svc.h"
#include "shim/map_dbe.h"

struct shim_keys {
    const char *path;         /* borrowed */
    struct pol_api_key *list; /* POL_API_KEYS_MAX of them, when there is a file */
    size_t count;
    struct stat seen; /* of the file as it was read, or tried, last */
    bool was_there;
};

void shim_keys_init(struct shim_keys *keys, const char *path);
void shim_keys_free(struct shim_keys *keys); /* takes a zeroed one */
/* Read the file if it is another than last time. */
void shim_keys_watch(struct shim_keys *keys, struct svc *svc);
/* False: nobody's key. */
bool shim_keys_find(const struct shim_keys *keys, const char *key, struct shim_tenant *ret);

#endif
