/* SPDX-License-Identifier: Apache-2.0
 *
 * state.c - where a user's mesh lies on disk, and who supervises it.
 *
 * The supervisor holds a record lock on <state>/lock; the kernel tells its pid and drops the lock with the process, so
 * that a crash leaves nothing stale.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "crypto/crypto.h"

enum { STATE_PATH_MAX = 3800, SOCKET_DIR_MAX = 76 }; /* sun_path has 108 bytes; the longest socket name here takes 31 */

static const char model_name[] = "dsmil-small-q8_0.gguf";

dbe_err cli_join(char *ret, size_t cap, const char *dir, const char *file)
{
    int n = snprintf(ret, cap, "%s/%s", dir, file);
    return n > 0 && (size_t)n < cap ? DBE_OK : DBE_E_TOO_LARGE;
}

dbe_err cli_state_dir(char *ret, size_t cap, struct dbe_diag *diag)
{
    const char *state = getenv("DSMIL_STATE"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char tail[CLI_PATH_MAX];

    if (state != NULL && state[0] != '\0') {
        if (state[0] == '/')
            return (size_t)snprintf(ret, cap, "%s", state) < cap ? DBE_OK : DBE_E_TOO_LARGE;
        /* A relative path would mean another place for each service. */
        if (getcwd(tail, sizeof tail) == NULL)
            return dbe_fail(diag, DBE_E_IO, NULL, 0, "cannot tell the current folder: %s", strerror(errno));
        return cli_join(ret, cap, tail, state);
    }
    if (xdg != NULL && xdg[0] == '/')
        return cli_join(ret, cap, xdg, "dsmil");
    if (home == NULL || home[0] != '/')
        return dbe_fail(diag, DBE_E_CONFIG, NULL, 0, "neither DSMIL_STATE nor HOME says where state may lie");
    return cli_join(ret, cap, home, ".local/state/dsmil");
}

/* A folder that is ours alone: made 0700, refused if it belongs to somebody else. */
static dbe_err private_dir(const char *path, struct dbe_diag *diag)
{
    struct stat st;

    struct dbe_diag why = {0};

    if (base_mkdirs(path, 0700, &why) != DBE_OK)
        return dbe_fail(diag, DBE_E_CONFIG, NULL, 0, "%.130s; DSMIL_STATE names another place", why.text);
    if (lstat(path, &st) != 0)
        return dbe_fail(diag, DBE_E_IO, NULL, 0, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return dbe_fail(diag, DBE_E_PERMISSION, NULL, 0,
                        "%s is not a folder of yours; set DSMIL_STATE to another place", path);
    if ((st.st_mode & 077) != 0 && chmod(path, 0700) != 0)
        return dbe_fail(diag, DBE_E_IO, NULL, 0, "%s: %s", path, strerror(errno));
    return DBE_OK;
}

/* Sockets lie in <state>/run, or in a private folder under /tmp when that path is too long for a socket. */
static dbe_err run_dir(struct cli_paths *p, struct dbe_diag *diag)
{
    uint8_t digest[CRYPTO_HASH_BYTES];
    char hex[17];

    DBE_TRY(cli_join(p->run, sizeof p->run, p->state, "run"));
    if (strlen(p->run) > SOCKET_DIR_MAX) {
        DBE_TRY(crypto_sha3_512(p->state, strlen(p->state), digest));
        base_hex(digest, 8, hex);
        snprintf(p->run, sizeof p->run, "/tmp/dsmil-%u-%s", (unsigned)geteuid(), hex);
    }
    return private_dir(p->run, diag);
}

static dbe_err policy_path(struct cli_paths *p)
{
    const char *named = getenv("DSMIL_POLICY");

    if (named != NULL && named[0] != '\0')
        return snprintf(p->policy, sizeof p->policy, "%s", named) < (int)sizeof p->policy ? DBE_OK : DBE_E_TOO_LARGE;
    DBE_TRY(cli_join(p->policy, sizeof p->policy, p->state, "policy.yaml"));
    if (access(p->policy, F_OK) != 0)
        p->policy[0] = '\0';
    return DBE_OK;
}

dbe_err cli_paths_init(struct cli_paths *ret, struct dbe_diag *diag)
{
    static struct cli_paths p; /* too large for a stack frame of a small verb */
    const char *keys = getenv("DSMIL_KEYS");

    memset(&p, 0, sizeof p);
    DBE_TRY(crypto_init(diag));
    dbe_err err = cli_state_dir(p.state, sizeof p.state, diag);
    if (err == DBE_E_TOO_LARGE || strlen(p.state) > STATE_PATH_MAX)
        return dbe_fail(diag, DBE_E_TOO_LARGE, NULL, 0,
                        "the state folder's path has more than %d bytes; DSMIL_STATE names another place",
                        STATE_PATH_MAX);
    DBE_TRY(err);
    if (!base_utf8_valid(p.state, strlen(p.state))) /* paths stand in logs and in mesh.json, which are text */
        return dbe_fail(diag, DBE_E_CONFIG, NULL, 0, "the state folder's path is not UTF-8; set DSMIL_STATE");
    DBE_TRY(private_dir(p.state, diag));
    if (keys != NULL && keys[0] != '\0')
        snprintf(p.keys, sizeof p.keys, "%s", keys);
    else
        DBE_TRY(cli_join(p.keys, sizeof p.keys, p.state, "keys"));
    DBE_TRY(policy_path(&p));
    DBE_TRY(cli_join(p.log, sizeof p.log, p.state, "log"));
    DBE_TRY(cli_join(p.api_key, sizeof p.api_key, p.state, "api-key"));
    DBE_TRY(cli_join(p.lock, sizeof p.lock, p.state, "lock"));
    DBE_TRY(cli_join(p.mesh_json, sizeof p.mesh_json, p.state, "mesh.json"));
    DBE_TRY(private_dir(p.log, diag));
    DBE_TRY(run_dir(&p, diag));
    *ret = p;
    return DBE_OK;
}

/* Folder of this executable. */
static dbe_err own_dir(char *ret, size_t cap)
{
    ssize_t n = readlink("/proc/self/exe", ret, cap - 1);

    if (n <= 0)
        return DBE_E_IO;
    ret[n] = '\0';
    *strrchr(ret, '/') = '\0';
    return DBE_OK;
}

/* First file that matches one of `patterns` (relative to our own folder) with `name` at the end. */
static dbe_err find(const char *const *patterns, const char *name, int mode, char *ret, size_t cap)
{
    char dir[CLI_PATH_MAX / 2], path[CLI_PATH_MAX], real[PATH_MAX];
    dbe_err err = DBE_E_NOT_FOUND;

    DBE_TRY(own_dir(dir, sizeof dir));
    for (; *patterns != NULL && err == DBE_E_NOT_FOUND; patterns++) {
        glob_t found = {0};
        snprintf(path, sizeof path, "%s/%s/%s", dir, *patterns, name);
        if (glob(path, GLOB_NOSORT, NULL, &found) == 0 && access(found.gl_pathv[0], mode) == 0 &&
            realpath(found.gl_pathv[0], real) != NULL)
            err = (size_t)snprintf(ret, cap, "%s", real) < cap ? DBE_OK : DBE_E_TOO_LARGE;
        globfree(&found);
    }
    return err;
}

dbe_err cli_find_program(const char *name, char *ret, size_t cap)
{
    /* build tree first: a program runs with the services it was built with */
    static const char *const places[] = {"../devices/*", "../shim", "../libexec/dsmil/*", NULL};
    return find(places, name, X_OK, ret, cap);
}

dbe_err cli_find_model(char *ret, size_t cap)
{
    static const char *const places[] = {"../../models", "../share/dsmil/models", NULL};
    return find(places, model_name, R_OK, ret, cap);
}

int cli_supervisor_pid(const struct cli_paths *paths)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(paths->lock, O_RDWR | O_CLOEXEC), pid = 0;

    if (fd < 0)
        return 0;
    if (fcntl(fd, F_GETLK, &fl) == 0 && fl.l_type != F_UNLCK)
        pid = fl.l_pid;
    close(fd);
    return pid;
}
