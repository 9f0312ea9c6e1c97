/* SPDX-License-Identifier: Apache-2.0
 *
 * transport.h - bytes between two ends; what carries them is behind ops. Framing and sealing live above, once.
 *
 * Addresses: "uds:/path/to.sock" (stream socket, mode 0600, peer's uid checked), "shm:/path/to.sock" (shared
 * memory, met for on such a socket), "inproc:name" and "sim:name" (tests).
 * Threads: on the loop's thread.
 */
#ifndef TRANSPORT_TRANSPORT_H
#define TRANSPORT_TRANSPORT_H

#include "base/base.h"
#include "base/loop.h"

enum { TP_ADDRESS_MAX = 200, TP_BACKLOG = 4096 };

struct tp_conn;     /* one connection */
struct tp_listener;

/* What the owner of a connection is told. Callbacks may close the connection. */
struct tp_conn_ops {
    /* Bytes arrived. `data` is writable scratch, valid during the call. Return how many were consumed; the rest is
     * offered again with what follows. */
    size_t (*on_data)(void *ctx, struct tp_conn *conn, uint8_t *data, size_t len);
    void (*on_connected)(void *ctx, struct tp_conn *conn);         /* outgoing connection is up; may be NULL */
    void (*on_drained)(void *ctx, struct tp_conn *conn);           /* the send queue is empty again; may be NULL */
    void (*on_closed)(void *ctx, struct tp_conn *conn, dbe_err why); /* last callback; the owner then calls tp_close */
};

typedef void tp_accept_fn(void *ctx, struct tp_conn *conn); /* owner must call tp_conn_start or tp_close */

dbe_err tp_listen(struct dbe_loop *loop, const char *address, tp_accept_fn *fn, void *ctx, struct tp_listener **ret,
                  struct dbe_diag *diag) DBE_MUST_CHECK;
void    tp_listener_free(struct tp_listener *l); /* takes NULL; unlinks the socket it made */
dbe_err tp_connect(struct dbe_loop *loop, const char *address, const struct tp_conn_ops *ops, void *ctx,
                   size_t recv_max_bytes, struct tp_conn **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
/* For an accepted connection: who is told, and the largest unconsumed input. */
dbe_err tp_conn_start(struct tp_conn *conn, const struct tp_conn_ops *ops, void *ctx, size_t recv_max_bytes)
    DBE_MUST_CHECK;

/* Queue bytes; written now or when the peer reads. E_LIMIT beyond DBE_SEND_QUEUE_MAX_BYTES (nothing queued),
 * E_CLOSED. */
dbe_err tp_send(struct tp_conn *conn, const void *data, size_t len) DBE_MUST_CHECK;
size_t  tp_queued_bytes(const struct tp_conn *conn);
/* Where bytes wait already, what follows them may be written behind them in place instead of being copied there: room
 * for `len` bytes in one piece, until anything else is done with `conn`. NULL: nothing waits, there is no memory, or
 * this transport keeps no queue; then tp_send is the way. The caller keeps DBE_SEND_QUEUE_MAX_BYTES. */
void *tp_send_room(struct tp_conn *conn, size_t len);
/* So many bytes of that room were written and are to be sent. */
void tp_send_room_used(struct tp_conn *conn, size_t len);
/* Close at once, or after the queue is written. Frees; no callback follows. Takes NULL. */
void    tp_close(struct tp_conn *conn, bool after_drain);
/* uid and pid of the process at the other end (SO_PEERCRED). E_NOT_FOUND where the transport has none. */
dbe_err tp_peer_cred(const struct tp_conn *conn, uint32_t *ret_uid, int32_t *ret_pid) DBE_MUST_CHECK;

#endif
