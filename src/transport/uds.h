/* SPDX-License-Identifier: Apache-2.0
 *
 * uds.h - what the Unix socket transports share: uds.c and shm.c move bytes, uds_listen.c makes connections.
 */
#ifndef TRANSPORT_UDS_H
#define TRANSPORT_UDS_H

#include "tp_impl.h"

/* Wrap a connected, non-blocking descriptor. Takes `fd` over on success only. */
typedef dbe_err uds_wrap_fn(struct dbe_loop *loop, int fd, bool connecting, struct tp_conn **ret);
uds_wrap_fn uds_conn_new;

/* What connects by a Unix socket: plain (uds.c) or with memory shared through it (shm.c). */
struct uds_kind {
    const struct tp_impl *impl;
    uds_wrap_fn          *wrap;
};

/* Who is at the other end. E_IO. */
dbe_err uds_cred(int fd, uint32_t *ret_uid, int32_t *ret_pid) DBE_MUST_CHECK;

dbe_err uds_listen_as(const struct uds_kind *kind, struct dbe_loop *loop, const char *path, tp_accept_fn *fn, void *ctx,
                      struct tp_listener **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
void    uds_listener_free(struct tp_listener *l);
dbe_err uds_connect_as(const struct uds_kind *kind, struct dbe_loop *loop, const char *path, struct tp_conn **ret,
                       struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
