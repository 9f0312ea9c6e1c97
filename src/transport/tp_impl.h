/* SPDX-License-Identifier: Apache-2.0
 *
 * tp_impl.h - what a transport gives to transport.c. Private to this folder.
 *
 * A backend embeds struct tp_conn and struct tp_listener as the first member of its own. Its callbacks into the
 * owner go through tp_conn.ops; freeing while one of them runs is the backend's to defer.
 */
#ifndef TRANSPORT_TP_IMPL_H
#define TRANSPORT_TP_IMPL_H

#include "transport/transport.h"

enum {
    TP_RECV_REST_BYTES = 8 * 1024,    /* input that waits for its rest and is no longer gets memory of its size */
    TP_LINGER_MS = 5000,              /* how long a closed connection may still write what was queued            */
};

struct tp_queue;

struct tp_impl {
    const char *scheme; /* "uds:", with the colon */
    dbe_err (*listen)(struct dbe_loop *loop, const char *rest, tp_accept_fn *fn, void *ctx, struct tp_listener **ret,
                      struct dbe_diag *diag);
    void (*listener_free)(struct tp_listener *l);
    dbe_err (*connect)(struct dbe_loop *loop, const char *rest, struct tp_conn **ret, struct dbe_diag *diag);
    /* Begin to deliver: ops, ctx and recv_max_bytes of `conn` are set. */
    dbe_err (*start)(struct tp_conn *conn);
    dbe_err (*send)(struct tp_conn *conn, const void *data, size_t len);
    size_t (*queued_bytes)(const struct tp_conn *conn);
    /* The queue that will be written by itself because something is in it, else NULL. The slot may be NULL. */
    struct tp_queue *(*queue)(struct tp_conn *conn);
    void (*close)(struct tp_conn *conn, bool after_drain);
    dbe_err (*peer_cred)(const struct tp_conn *conn, uint32_t *ret_uid, int32_t *ret_pid);
};

/* Unconsumed input of a connection. While bytes come the buffer is one that the loop lends; one of the connection's
 * own holds what is larger, and the beginning of something whose rest has not come. An idle connection has none. */
struct tp_in {
    uint8_t *data;
    size_t   len, cap;
    bool     lent; /* data is the loop's */
};

struct tp_conn {
    const struct tp_impl     *impl;
    struct dbe_loop         *loop;
    const struct tp_conn_ops *ops; /* NULL until started */
    void                     *ctx;
    size_t                    recv_max_bytes;
    struct tp_in              in;
};

struct tp_listener {
    const struct tp_impl *impl;
    struct dbe_loop     *loop;
    tp_accept_fn         *fn;
    void                 *ctx;
};

extern const struct tp_impl tp_uds;
extern const struct tp_impl tp_shm;
extern const struct tp_impl tp_inproc;
extern const struct tp_impl tp_sim;

/* Make room for more input. E_TOO_LARGE when the owner left recv_max_bytes unconsumed, E_NOMEM. */
dbe_err tp_in_room(struct tp_conn *conn, size_t *ret_room) DBE_MUST_CHECK;
/* Offer what is there to the owner and drop what it consumed. Afterwards the owner may have closed `conn`. */
void tp_in_offer(struct tp_conn *conn);
/* Before the connection waits: give an empty buffer back, and a lent one that holds little. */
void tp_in_trim(struct tp_conn *conn);
void tp_in_free(struct tp_conn *conn);

/* Send queue: a list of chunks, so that a long queue costs no copy when it grows. */
struct tp_chunk {
    struct tp_chunk *next;
    size_t           off, len, cap; /* unsent bytes lie at [off, len) */
    uint8_t          data[];
};
struct tp_queue {
    struct tp_chunk *head, *tail;
    size_t           bytes;
};
dbe_err tp_queue_add(struct tp_queue *q, const uint8_t *data, size_t len) DBE_MUST_CHECK; /* all or nothing */
/* Room for `len` bytes in one piece at the end, and how many of them were used. NULL: no memory. */
void   *tp_queue_room(struct tp_queue *q, size_t len);
void    tp_queue_used(struct tp_queue *q, size_t len);
void    tp_queue_consume(struct tp_queue *q, size_t len);
void    tp_queue_free(struct tp_queue *q);

#endif
