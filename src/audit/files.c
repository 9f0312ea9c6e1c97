/* SPDX-License-Identifier: Apache-2.0
 *
 * files.c - which files a log has, in its directory and in its archive, in the order of their first entries.
 *
 * In:   one or two directories    Out: names; a number that stands in both is the log's own
 * Not:  it opens none of them.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audit/log.h"

static const char *const suffixes[] = {
    [AUDIT_FILE_LOG] = ".log", [AUDIT_FILE_BASE] = ".base", [AUDIT_FILE_NOTES] = ".checkpoints"};

void audit_file_name(enum audit_file kind, uint64_t first, char ret[AUDIT_NAME_MAX])
{
    (void)snprintf(ret, AUDIT_NAME_MAX, "%020" PRIu64 "%s", first, suffixes[kind]);
}

dbe_err audit_file_path(const char *dir, enum audit_file kind, uint64_t first, char ret[AUDIT_PATH_MAX])
{
    char name[AUDIT_NAME_MAX];

    audit_file_name(kind, first, name);
    return snprintf(ret, AUDIT_PATH_MAX, "%s/%s", dir, name) < AUDIT_PATH_MAX ? DBE_OK : DBE_E_TOO_LARGE;
}

static bool is_file(const char *name, enum audit_file kind, uint64_t *ret_first)
{
    char *end;

    if (strspn(name, "0123456789") != 20 || strcmp(name + 20, suffixes[kind]) != 0)
        return false;
    errno = 0;
    *ret_first = strtoull(name, &end, 10);
    return errno == 0;
}

static dbe_err add(struct audit_list *list, uint64_t first, const char *dir, struct dbe_diag *diag)
{
    if (list->count == list->cap) {
        size_t cap = list->cap == 0 ? 64 : list->cap * 2;
        struct audit_listed *more = cap <= AUDIT_FILES_MAX ? base_realloc(list->files, cap, sizeof *more) : NULL;
        if (more == NULL)
            return dbe_fail(diag, DBE_E_NOMEM, "audit 4", 0, "no memory for %zu files of the log", cap);
        list->files = more;
        list->cap = cap;
    }
    list->files[list->count++] = (struct audit_listed){first, dir};
    return DBE_OK;
}

static dbe_err list_dir(const char *dir, enum audit_file kind, struct audit_list *list, struct dbe_diag *diag)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    uint64_t first;
    dbe_err err = DBE_OK;

    if (d == NULL)
        return dbe_fail(diag, errno == ENOENT ? DBE_E_NOT_FOUND : DBE_E_IO, "audit 4", 0, "%.120s: %s", dir,
                        strerror(errno));
    while (err == DBE_OK && (e = readdir(d)) != NULL)
        if (is_file(e->d_name, kind, &first))
            err = add(list, first, dir, diag);
    closedir(d);
    return err;
}

static int by_first(const void *a, const void *b)
{
    const struct audit_listed *x = a, *y = b;

    return x->first != y->first ? (x->first < y->first ? -1 : 1) : 0;
}

/* One that is in both places was not quite moved: the log's own counts. */
static void drop_doubles(struct audit_list *list, const char *own)
{
    size_t kept = 0;

    for (size_t i = 0; i < list->count; i++) {
        if (kept > 0 && list->files[kept - 1].first == list->files[i].first) {
            list->files[kept - 1].dir = own;
            continue;
        }
        list->files[kept++] = list->files[i];
    }
    list->count = kept;
}

dbe_err audit_list(const struct audit_place *place, enum audit_file kind, struct audit_list *ret, struct dbe_diag *diag)
{
    struct audit_list list = {0};
    dbe_err err = list_dir(place->dir, kind, &list, diag);

    if (err == DBE_OK && place->archive != NULL)
        err = list_dir(place->archive, kind, &list, diag);
    if (err != DBE_OK) {
        audit_list_free(&list);
        return err;
    }
    if (list.count > 1)
        qsort(list.files, list.count, sizeof *list.files, by_first);
    drop_doubles(&list, place->dir);
    *ret = list;
    return DBE_OK;
}

void audit_list_free(struct audit_list *list)
{
    base_free(list->files);
    *list = (struct audit_list){0};
}

const char *audit_find_archive(const char *dir, char path[AUDIT_PATH_MAX])
{
    bool fits = snprintf(path, AUDIT_PATH_MAX, "%s/" AUDIT_ARCHIVE, dir) < AUDIT_PATH_MAX;

    return fits && access(path, R_OK | X_OK) == 0 ? path : NULL;
}
