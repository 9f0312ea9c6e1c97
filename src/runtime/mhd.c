/* SPDX-License-Identifier: Apache-2.0
 *
 * mhd.c - a libmicrohttpd daemon inside a base_loop: its epoll descriptor is one watch, its timeouts are one timer.
 *
 * Not:  the daemon's owner; it neither starts nor stops it.
 */
#include "runtime/admin.h"

#include <microhttpd.h>

struct svc_mhd {
    struct MHD_Daemon *daemon;
    struct base_watch *watch;
    struct base_timer *timer;
    unsigned connections; /* after the last run */
};

/* The daemon takes its listener out of its epoll set at the start of a run in which it is full, and puts it back at the
 * start of one in which it is not. After a run that ended connections one more has to follow: if these were all,
 * nothing is left that would wake the daemon, and nobody would be let in again. */
static bool has_made_room(struct svc_mhd *mhd)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(mhd->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    const unsigned before = mhd->connections;

    mhd->connections = info != NULL ? info->num_connections : 0;
    return mhd->connections < before;
}

static void run(struct svc_mhd *mhd)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms = 0;

    MHD_run(mhd->daemon);
    if (has_made_room(mhd))
        svc_mhd_kick(mhd);
    else if (MHD_get_timeout(mhd->daemon, &timeout_ms) != MHD_YES)
        base_timer_set(mhd->timer, 0);
    else
        base_timer_set(mhd->timer, base_mono_ns() + (uint64_t)timeout_ms * BASE_NS_PER_MS);
}

static void on_ready(void *ctx, int fd, unsigned events)
{
    (void)fd;
    (void)events;
    run(ctx);
}

static void on_timeout(void *ctx)
{
    run(ctx);
}

dbe_err svc_mhd_attach(struct dbe_loop *loop, struct MHD_Daemon *daemon, struct svc_mhd **ret)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct svc_mhd *mhd;
    dbe_err err;

    if (info == NULL || info->epoll_fd < 0)
        return DBE_E_ARGUMENT; /* not started with MHD_USE_EPOLL */
    mhd = base_alloc(1, sizeof *mhd);
    if (mhd == NULL)
        return DBE_E_NOMEM;
    mhd->daemon = daemon;
    err = base_loop_timer(loop, on_timeout, mhd, &mhd->timer);
    if (err == DBE_OK)
        err = base_loop_watch(loop, info->epoll_fd, BASE_LOOP_READ, on_ready, mhd, &mhd->watch);
    if (err != DBE_OK) {
        svc_mhd_free(mhd);
        return err;
    }
    svc_mhd_kick(mhd);
    *ret = mhd;
    return DBE_OK;
}

void svc_mhd_free(struct svc_mhd *mhd)
{
    if (mhd == NULL)
        return;
    base_watch_free(mhd->watch);
    base_timer_free(mhd->timer);
    base_free(mhd);
}

void svc_mhd_kick(struct svc_mhd *mhd)
{
    base_timer_set(mhd->timer, BASE_MAX(base_mono_ns(), (uint64_t)1)); /* 0 would disarm */
}
