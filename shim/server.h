/* SPDX-License-Identifier: Apache-2.0
 *
 * server.h - the HTTP front from the inside: http.c has requests and their answers, listen.c the listener and its
 * connections, pages.c what is told without the mesh.
 */
#ifndef SHIM_SERVER_H
#define SHIM_SERVER_H

#include "shim/shim.h"

enum { SHIM_PAGE_MAX_BYTES = 65536 };

struct shim_socket { /* one connection */
    int fd;
    bool receiving; /* between requests or inside one */
    uint64_t since_ns;
    struct shim_http *http; /* the request on it, or NULL */
    struct shim_socket *next, **prev;
};

struct shim_server {
    struct MHD_Daemon *daemon;
    struct svc_mhd *attached;
    int listener; /* ours again after quiesce, else -1 */
    struct shim_socket *sockets;
};

/* ---- http.c: the HTTP library's callbacks ----------------------------------------------------------------------- */

enum MHD_Result shim_http_on_request(void *cls, struct MHD_Connection *connection, const char *path, const char *method,
                                     const char *version, const char *data, size_t *len, void **con_cls);
/* The answer has left, or the connection is gone. */
void shim_http_on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                            enum MHD_RequestTerminationCode why);

/* ---- pages.c ---------------------------------------------------------------------------------------------------- */

dbe_err shim_models_handle(struct shim_http *http);  /* GET /v1/models, /v1/models/{id} */
dbe_err shim_metrics_handle(struct shim_http *http); /* GET /metrics */
dbe_err shim_health_handle(struct shim_http *http);  /* GET /healthz */

#endif
