/* SPDX-License-Identifier: Apache-2.0
 *
 * admin.h - what a service shows of itself over HTTP, for its own admin socket and for front ends with a daemon
 * of their own.
 *
 * In:   a running service; a libmicrohttpd daemon that somebody else started
 * Out:  /metrics in Prometheus text format 0.0.4, /healthz as JSON; a daemon that runs inside the service's event loop
 * Not:  no routing and no authentication: who may ask is decided by whoever owns the daemon (socket mode, loopback).
 * Threads: everything on the loop's thread.
 */
#ifndef RUNTIME_ADMIN_H
#define RUNTIME_ADMIN_H

#include "base/base.h"
#include "base/loop.h"

struct MHD_Daemon;
struct svc;

#define SVC_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define SVC_HEALTH_CONTENT_TYPE  "application/json"
enum { SVC_METRICS_MAX_BYTES = 1024 * 1024, SVC_HEALTH_MAX_BYTES = 16384 };

/* Append every metric of the service to `out`: the runtime's, the device's counters, what svc_count and
 * svc_observe recorded. Give `out` a maximum of SVC_METRICS_MAX_BYTES. E_TOO_LARGE, E_NOMEM. */
dbe_err svc_metrics_render(struct svc *svc, struct base_buf *out) DBE_MUST_CHECK;

/* Append the health object {status, device_id, layer, service, checks, last_check_timestamp} to `out`.
 * `ret_http_status` is 200 for healthy and degraded, 503 for unhealthy (not ready, or draining). E_TOO_LARGE,
 * E_NOMEM. */
dbe_err svc_health_render(struct svc *svc, struct base_buf *out, unsigned *ret_http_status) DBE_MUST_CHECK;

/* A daemon in a base_loop. Start the daemon with MHD_USE_EPOLL, without MHD_USE_INTERNAL_POLLING_THREAD (add
 * MHD_ALLOW_SUSPEND_RESUME if connections are suspended); then attach it: its epoll descriptor is watched and
 * its timeouts are kept. The daemon stays the caller's: free the attachment first, stop the daemon after. */
struct svc_mhd;
dbe_err svc_mhd_attach(struct dbe_loop *loop, struct MHD_Daemon *daemon, struct svc_mhd **ret) DBE_MUST_CHECK;
void    svc_mhd_free(struct svc_mhd *mhd); /* takes NULL */
/* Let the daemon run in the loop's next turn: call after MHD_resume_connection, and when a response has new
 * data to give. */
void    svc_mhd_kick(struct svc_mhd *mhd);

#endif
