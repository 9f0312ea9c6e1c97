/* SPDX-License-Identifier: Apache-2.0
 *
 * uds_listen.c - makes Unix stream connections: listens, accepts, connects.
 *
 * In:   paths    Out: connected descriptors, handed to uds.c
 * Does: replaces a socket file only when nobody answers behind it and while holding <path>.lock, so that two services
 *       started together cannot unlink each other; makes the file with mode 0600 from its first moment; rests for a
 *       while when the process is out of descriptors instead of spinning.
 * Does not: remove a file that is not a socket, or a socket that another process answers on.
 */
#include "uds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"

enum {
    UDS_ACCEPTS_A_TURN = 16,
    UDS_REST_MS = 100, /* after EMFILE and the like */
    UDS_LOCK_TRIES = 8,
    UDS_LOCK_PATH_BYTES = sizeof(((struct sockaddr_un *)0)->sun_path) + 8,
};

struct uds_listener {
    struct tp_listener base;
    uds_wrap_fn *wrap;
    int fd, lock_fd;
    struct base_watch *watch;
    struct base_timer *rest;
    unsigned depth;
    bool dying, bound;
    dev_t dev; /* of the socket file made here: only that one is unlinked */
    ino_t ino;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    char lock_path[UDS_LOCK_PATH_BYTES];
};

static dbe_err uds_addr(const char *path, struct sockaddr_un *ret, struct dbe_diag *diag)
{
    size_t len = strlen(path);

    if (path[0] != '/')
        return dbe_fail(diag, DBE_E_ARGUMENT, "address", 0, "the socket path %.120s is not absolute", path);
    if (len >= sizeof ret->sun_path)
        return dbe_fail(diag, DBE_E_ARGUMENT, "address", 0,
                        "the socket path has %zu bytes and the system allows %zu: use a shorter state directory", len,
                        sizeof ret->sun_path - 1);
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret->sun_path, path, len + 1);
    return DBE_OK;
}

/* socket(2) for a Unix stream, or the failure that a test asked for. */
static int uds_socket(void)
{
    if (base_connect_must_fail()) {
        errno = EMFILE;
        return -1;
    }
    return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int uds_accept(int fd)
{
    if (base_connect_must_fail()) {
        errno = EMFILE;
        return -1;
    }
    return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static dbe_err os_fail(struct dbe_diag *diag, const char *what, const char *path)
{
    int e = errno;
    dbe_err err = e == EMFILE || e == ENFILE    ? DBE_E_LIMIT
                  : e == ENOMEM || e == ENOBUFS ? DBE_E_NOMEM
                  : e == EACCES || e == EPERM   ? DBE_E_PERMISSION
                                                : DBE_E_IO;

    return dbe_fail(diag, err, "socket", 0, "%s %.110s: %s", what, path, strerrordesc_np(e));
}

/* ---- connecting ------------------------------------------------------------------------------------------------ */

/* Connect without waiting. E_UNAVAILABLE: nobody listens there; E_AGAIN: somebody does, with a full backlog. */
static dbe_err uds_dial(const char *path, int *ret_fd, struct dbe_diag *diag)
{
    struct sockaddr_un addr;
    int rc;

    DBE_TRY(uds_addr(path, &addr, diag));
    BASE_AUTO_CLOSE int fd = uds_socket();
    if (fd < 0)
        return os_fail(diag, "no socket for", path);
    do
        rc = connect(fd, (const struct sockaddr *)&addr, sizeof addr);
    while (rc != 0 && errno == EINTR);
    if (rc != 0 && (errno == ENOENT || errno == ECONNREFUSED))
        return dbe_fail(diag, DBE_E_UNAVAILABLE, "socket", 0, "nobody listens on %.140s", path);
    if (rc != 0 && (errno == EAGAIN || errno == EINPROGRESS))
        return dbe_fail(diag, DBE_E_AGAIN, "socket", 0, "the listener on %.120s is busy", path);
    if (rc != 0)
        return os_fail(diag, "cannot connect to", path);
    *ret_fd = fd;
    fd = -1;
    return DBE_OK;
}

dbe_err uds_connect_as(const struct uds_kind *kind, struct dbe_loop *loop, const char *path, struct tp_conn **ret,
                       struct dbe_diag *diag)
{
    BASE_AUTO_CLOSE int fd = -1;

    DBE_TRY(uds_dial(path, &fd, diag));
    dbe_err err = kind->wrap(loop, fd, true, ret);
    if (err != DBE_OK)
        return dbe_fail(diag, err, "socket", 0, "cannot set up the connection to %.120s", path);
    fd = -1; /* the connection's now */
    return DBE_OK;
}

/* ---- accepting ------------------------------------------------------------------------------------------------- */

static void uds_listener_destroy(struct uds_listener *l)
{
    struct stat st;

    if (l->depth > 0) {
        l->dying = true;
        return;
    }
    base_watch_free(l->watch);
    base_timer_free(l->rest);
    if (l->bound && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
        (void)unlink(l->path);
    if (l->fd >= 0)
        (void)close(l->fd);
    if (l->lock_fd >= 0) {
        (void)unlink(l->lock_path); /* while it is held: whoever waits for it looks again (uds_lock) */
        (void)close(l->lock_fd);
    }
    base_free(l);
}

void uds_listener_free(struct tp_listener *base)
{
    uds_listener_destroy((struct uds_listener *)base);
}

static void uds_rest_over(void *ctx)
{
    struct uds_listener *l = ctx;

    if (base_watch_events(l->watch, BASE_LOOP_READ) != DBE_OK)
        base_timer_set(l->rest, base_mono_ns() + (uint64_t)UDS_REST_MS * BASE_NS_PER_MS);
}

/* Out of descriptors or memory: the pending connection stays in the backlog and would wake us at once again. */
static void uds_rest(struct uds_listener *l)
{
    if (base_watch_events(l->watch, 0) == DBE_OK)
        base_timer_set(l->rest, base_mono_ns() + (uint64_t)UDS_REST_MS * BASE_NS_PER_MS);
}

static void uds_on_accept(void *ctx, int fd, unsigned events)
{
    struct uds_listener *l = ctx;

    (void)events;
    l->depth++;
    for (int i = 0; i < UDS_ACCEPTS_A_TURN && !l->dying; i++) {
        struct tp_conn *conn = NULL;
        int s = uds_accept(fd);
        if (s < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (s < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
            uds_rest(l);
        if (s < 0)
            break;
        if (l->wrap(l->base.loop, s, false, &conn) != DBE_OK)
            (void)close(s);
        else
            l->base.fn(l->base.ctx, conn);
    }
    l->depth--;
    if (l->dying)
        uds_listener_destroy(l);
}

/* ---- listening ------------------------------------------------------------------------------------------------- */

/* Hold <path>.lock for as long as the listener lives. A lock file that was unlinked between open and flock is not
 * the one others see: look again. */
static dbe_err uds_lock(struct uds_listener *l, struct dbe_diag *diag)
{
    (void)snprintf(l->lock_path, sizeof l->lock_path, "%s.lock", l->path);
    for (int i = 0; i < UDS_LOCK_TRIES; i++) {
        struct stat held, seen;
        BASE_AUTO_CLOSE int fd = open(l->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return os_fail(diag, "cannot make", l->lock_path);
        if (flock(fd, LOCK_EX | LOCK_NB) != 0)
            return dbe_fail(diag, DBE_E_EXISTS, "socket", 0, "another process already listens on %.110s", l->path);
        if (fstat(fd, &held) == 0 && lstat(l->lock_path, &seen) == 0 && held.st_dev == seen.st_dev &&
            held.st_ino == seen.st_ino) {
            l->lock_fd = fd;
            fd = -1;
            return DBE_OK;
        }
    }
    return dbe_fail(diag, DBE_E_AGAIN, "socket", 0, "%.120s keeps changing hands", l->lock_path);
}

/* Remove what a killed process left behind, and nothing else. */
static dbe_err uds_clear_stale(const char *path, struct dbe_diag *diag)
{
    struct stat st;
    BASE_AUTO_CLOSE int fd = -1;

    if (lstat(path, &st) != 0)
        return errno == ENOENT ? DBE_OK : os_fail(diag, "cannot look at", path);
    if (!S_ISSOCK(st.st_mode))
        return dbe_fail(diag, DBE_E_EXISTS, "socket", 0, "%.110s is in the way and is not a socket: remove it", path);
    dbe_err err = uds_dial(path, &fd, NULL);
    if (err == DBE_OK || err == DBE_E_AGAIN)
        return dbe_fail(diag, DBE_E_EXISTS, "socket", 0, "another process already listens on %.110s", path);
    if (err != DBE_E_UNAVAILABLE)
        return dbe_fail(diag, err, "socket", 0, "cannot tell whether %.110s is in use", path);
    if (unlink(path) != 0 && errno != ENOENT)
        return os_fail(diag, "cannot remove the stale socket", path);
    return DBE_OK;
}

static dbe_err uds_bind(struct uds_listener *l, struct dbe_diag *diag)
{
    struct sockaddr_un addr;
    struct stat st;

    DBE_TRY(uds_addr(l->path, &addr, diag));
    l->fd = uds_socket();
    if (l->fd < 0)
        return os_fail(diag, "no socket for", l->path);
    /* On Linux bind takes the file's mode from the socket's inode: no moment in which others could connect. */
    if (fchmod(l->fd, 0600) != 0 || bind(l->fd, (const struct sockaddr *)&addr, sizeof addr) != 0)
        return os_fail(diag, "cannot listen on", l->path);
    if (lstat(l->path, &st) != 0)
        return os_fail(diag, "cannot look at", l->path);
    l->dev = st.st_dev;
    l->ino = st.st_ino;
    l->bound = true;
    if ((st.st_mode & 077) != 0 && chmod(l->path, 0600) != 0)
        return os_fail(diag, "cannot restrict", l->path);
    if (listen(l->fd, TP_BACKLOG) != 0)
        return os_fail(diag, "cannot listen on", l->path);
    return DBE_OK;
}

static dbe_err uds_listener_open(struct uds_listener *l, struct dbe_diag *diag)
{
    DBE_TRY(uds_lock(l, diag));
    DBE_TRY(uds_clear_stale(l->path, diag));
    DBE_TRY(uds_bind(l, diag));
    dbe_err err = base_loop_timer(l->base.loop, uds_rest_over, l, &l->rest);
    if (err == DBE_OK)
        err = base_loop_watch(l->base.loop, l->fd, BASE_LOOP_READ, uds_on_accept, l, &l->watch);
    return err == DBE_OK ? DBE_OK : dbe_fail(diag, err, "socket", 0, "cannot watch %.140s", l->path);
}

dbe_err uds_listen_as(const struct uds_kind *kind, struct dbe_loop *loop, const char *path, tp_accept_fn *fn, void *ctx,
                      struct tp_listener **ret, struct dbe_diag *diag)
{
    struct sockaddr_un addr;

    DBE_TRY(uds_addr(path, &addr, diag));
    struct uds_listener *l = base_alloc(1, sizeof *l);
    if (l == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, "socket", 0, "no memory to listen on %.120s", path);
    l->base = (struct tp_listener){.impl = kind->impl, .loop = loop, .fn = fn, .ctx = ctx};
    l->wrap = kind->wrap;
    l->fd = -1;
    l->lock_fd = -1;
    memcpy(l->path, addr.sun_path, sizeof l->path);
    dbe_err err = uds_listener_open(l, diag);
    if (err != DBE_OK) {
        uds_listener_destroy(l);
        return err;
    }
    *ret = &l->base;
    return DBE_OK;
}
