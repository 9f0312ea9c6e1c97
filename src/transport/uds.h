/* SPDX-License-Identifier: Apache-2.0
 *
 * uds.h - what the two halves of the Unix socket transport share: uds.c moves bytes, uds_listen.c makes connections.
 */
#ifndef TRANSPORT_UDS_H
#define TRANSPORT_UDS_H

#include "tp_impl.h"

/* Wrap a connected, non-blocking descriptor. Takes `fd` over on success only. */
dbe_err uds_conn_new(struct dbe_loop *loop, int fd, bool connecting, struct tp_conn **ret) DBE_MUST_CHECK;

dbe_err uds_listen(struct dbe_loop *loop, const char *path, tp_accept_fn *fn, void *ctx, struct tp_listener **ret,
                   struct dbe_diag *diag) DBE_MUST_CHECK;
void    uds_listener_free(struct tp_listener *l);
dbe_err uds_connect(struct dbe_loop *loop, const char *path, struct tp_conn **ret, struct dbe_diag *diag)
    DBE_MUST_CHECK;

#endif
