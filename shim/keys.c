/* SPDX-License-Identifier: Apache-2.0
 *
 * keys.c - see keys.h.
 */
#include "shim/keys.h"

#include <string.h>

void shim_keys_init(struct shim_keys *keys, const char *path)
{
    memset(keys, 0, sizeof *keys);
    keys->path = path;
}

void shim_keys_free(struct shim_keys *keys)
{
    base_free(keys->list);
    memset(keys, 0, sizeof *keys);
}

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* All rows, or those of before. */
static dbe_err read_file(struct shim_keys *keys, struct dbe_diag *diag)
{
    struct pol_api_key *list = base_alloc(POL_API_KEYS_MAX, sizeof *list);
    struct base_buf text;
    size_t count = 0;

    if (list == NULL)
        return DBE_E_NOMEM;
    base_buf_init(&text, POL_API_KEYS_FILE_MAX);
    dbe_err err = base_file_read_private(keys->path, POL_API_KEYS_FILE_MAX, &text, diag);
    if (err == DBE_OK)
        err = pol_api_keys_read((const char *)text.data, text.len, list, POL_API_KEYS_MAX, &count, diag);
    base_buf_free(&text);
    if (err != DBE_OK) {
        base_free(list);
        return err;
    }
    base_free(keys->list);
    keys->list = list;
    keys->count = count;
    return DBE_OK;
}

void shim_keys_watch(struct shim_keys *keys, struct svc *svc)
{
    struct stat now;
    struct dbe_diag diag = {0};

    if (keys->path[0] == '\0')
        return;
    if (stat(keys->path, &now) != 0) {
        if (keys->was_there)
            svc_log(svc, SVC_WARN, NULL, "the file of API keys is gone; only the gateway's own key is taken now");
        keys->was_there = false;
        keys->count = 0;
        return;
    }
    if (keys->was_there && same(&now, &keys->seen))
        return;
    keys->was_there = true;
    keys->seen = now;
    dbe_err err = read_file(keys, &diag);
    if (err == DBE_OK)
        svc_log(svc, SVC_INFO, NULL, "%zu API keys in %.200s", keys->count, keys->path);
    else
        svc_log(svc, SVC_ERROR, NULL, "API keys stay as they were: %.200s: %s", keys->path,
                diag.text[0] != '\0' ? diag.text : dbe_err_text(err));
}

bool shim_keys_find(const struct shim_keys *keys, const char *key, struct shim_tenant *ret)
{
    const struct pol_api_key *row = keys->count > 0 ? pol_api_keys_find(keys->list, keys->count, key) : NULL;

    if (row == NULL)
        return false;
    memset(ret, 0, sizeof *ret); /* compared as a whole */
    memcpy(ret->name, row->tenant, sizeof ret->name);
    ret->classification = row->classification;
    ret->compartments = row->compartments;
    return true;
}
