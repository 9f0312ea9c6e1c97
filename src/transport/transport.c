/* SPDX-License-Identifier: Apache-2.0
 *
 * transport.c - picks the backend of an address; input buffer and send queue that all backends share.
 *
 * In:   addresses, bytes from backends    Out: the owner's callbacks
 * Does not: frame, seal or look into the bytes.
 */
#include "tp_impl.h"

#include <string.h>

#include "dbe/limits.h"

enum { QUEUE_CHUNK_BYTES = 64 * 1024 };

static const struct tp_impl *const impls[] = {&tp_uds, &tp_shm, &tp_inproc, &tp_sim};

static const struct tp_impl *impl_of(const char *address, const char **ret_rest, struct dbe_diag *diag)
{
    if (strlen(address) >= TP_ADDRESS_MAX) {
        (void)dbe_fail(diag, DBE_E_ARGUMENT, "address", 0, "the address is longer than %d bytes", TP_ADDRESS_MAX - 1);
        return NULL;
    }
    for (size_t i = 0; i < BASE_ARRAY_LEN(impls); i++) {
        size_t n = strlen(impls[i]->scheme);
        if (strncmp(address, impls[i]->scheme, n) == 0 && address[n] != '\0') {
            *ret_rest = address + n;
            return impls[i];
        }
    }
    (void)dbe_fail(diag, DBE_E_ARGUMENT, "address", 0, "\"%.80s\" is no address: write uds:/path/to.sock", address);
    return NULL;
}

/* ---- input ----------------------------------------------------------------------------------------------------- */

/* Put the input into `data`, which has room for it, and let go of the old buffer. */
static void in_move(struct tp_conn *conn, uint8_t *data, size_t cap, bool lent)
{
    struct tp_in *in = &conn->in;
    size_t len = in->len;

    if (len > 0)
        memcpy(data, in->data, len);
    tp_in_free(conn);
    *in = (struct tp_in){.data = data, .len = len, .cap = cap, .lent = lent};
}

dbe_err tp_in_room(struct tp_conn *conn, size_t *ret_room)
{
    struct tp_in *in = &conn->in;

    if (in->len >= conn->recv_max_bytes)
        return DBE_E_TOO_LARGE;
    if (!in->lent && in->len <= TP_RECV_REST_BYTES && in->cap <= TP_RECV_REST_BYTES) {
        uint8_t *data = base_loop_buf_take(conn->loop);
        if (data == NULL)
            return DBE_E_NOMEM;
        in_move(conn, data, BASE_LOOP_BUF_BYTES, true);
    } else if (in->len == in->cap) {
        size_t cap = BASE_MIN(in->cap * 2, conn->recv_max_bytes);
        uint8_t *data = in->lent ? base_realloc(NULL, cap, 1) : base_realloc(in->data, cap, 1);
        if (data == NULL)
            return DBE_E_NOMEM;
        if (in->lent)
            in_move(conn, data, cap, false);
        else
            *in = (struct tp_in){.data = data, .len = in->len, .cap = cap};
    }
    *ret_room = BASE_MIN(in->cap, conn->recv_max_bytes) - in->len;
    return DBE_OK;
}

void tp_in_offer(struct tp_conn *conn)
{
    struct tp_in *in = &conn->in;
    size_t used = conn->ops->on_data(conn->ctx, conn, in->data, in->len);

    BASE_INVARIANT(used <= in->len);
    if (used > 0 && used < in->len)
        memmove(in->data, in->data + used, in->len - used);
    in->len -= used;
}

void tp_in_trim(struct tp_conn *conn)
{
    struct tp_in *in = &conn->in;

    if (in->len == 0) {
        tp_in_free(conn);
    } else if (in->lent && in->len <= TP_RECV_REST_BYTES) {
        uint8_t *own = base_realloc(NULL, in->len, 1);
        if (own != NULL)
            in_move(conn, own, in->len, false);
    }
}

void tp_in_free(struct tp_conn *conn)
{
    if (conn->in.lent)
        base_loop_buf_give(conn->loop, conn->in.data);
    else
        base_free(conn->in.data);
    conn->in = (struct tp_in){0};
}

/* ---- send queue ------------------------------------------------------------------------------------------------ */

/* An empty chunk for at least `len` bytes, the last of the queue. NULL: no memory. */
static struct tp_chunk *queue_grow(struct tp_queue *q, size_t len)
{
    size_t cap = BASE_MAX(len, (size_t)QUEUE_CHUNK_BYTES);
    struct tp_chunk *chunk = base_realloc(NULL, 1, sizeof *chunk + cap); /* not zeroed: it is written at once */

    if (chunk == NULL)
        return NULL;
    *chunk = (struct tp_chunk){.cap = cap};
    if (q->tail == NULL)
        q->head = chunk;
    else
        q->tail->next = chunk;
    q->tail = chunk;
    return chunk;
}

dbe_err tp_queue_add(struct tp_queue *q, const uint8_t *data, size_t len)
{
    struct tp_chunk *tail = q->tail;
    size_t fits = tail == NULL ? 0 : BASE_MIN(tail->cap - tail->len, len);
    size_t rest = len - fits;

    if (rest > 0) {
        struct tp_chunk *chunk = queue_grow(q, rest);
        if (chunk == NULL)
            return DBE_E_NOMEM;
        memcpy(chunk->data, data + fits, rest);
        chunk->len = rest;
    }
    if (fits > 0) {
        memcpy(tail->data + tail->len, data, fits);
        tail->len += fits;
    }
    q->bytes += len;
    return DBE_OK;
}

void *tp_queue_room(struct tp_queue *q, size_t len)
{
    struct tp_chunk *tail = q->tail;

    if (tail == NULL || tail->cap - tail->len < len)
        tail = queue_grow(q, len);
    return tail == NULL ? NULL : tail->data + tail->len;
}

void tp_queue_used(struct tp_queue *q, size_t len)
{
    BASE_INVARIANT(q->tail != NULL && len <= q->tail->cap - q->tail->len);
    q->tail->len += len;
    q->bytes += len;
}

void tp_queue_consume(struct tp_queue *q, size_t len)
{
    BASE_INVARIANT(len <= q->bytes);
    q->bytes -= len;
    while (q->head != NULL) {
        struct tp_chunk *chunk = q->head;
        size_t take = BASE_MIN(len, chunk->len - chunk->off);
        chunk->off += take;
        len -= take;
        if (chunk->off < chunk->len)
            return;
        q->head = chunk->next;
        if (q->head == NULL)
            q->tail = NULL;
        base_free(chunk);
    }
}

void tp_queue_free(struct tp_queue *q)
{
    tp_queue_consume(q, q->bytes);
}

/* ---- dispatch -------------------------------------------------------------------------------------------------- */

dbe_err tp_listen(struct dbe_loop *loop, const char *address, tp_accept_fn *fn, void *ctx, struct tp_listener **ret,
                  struct dbe_diag *diag)
{
    const char *rest = NULL;
    const struct tp_impl *impl = impl_of(address, &rest, diag);

    return impl == NULL ? DBE_E_ARGUMENT : impl->listen(loop, rest, fn, ctx, ret, diag);
}

void tp_listener_free(struct tp_listener *l)
{
    if (l != NULL)
        l->impl->listener_free(l);
}

dbe_err tp_connect(struct dbe_loop *loop, const char *address, const struct tp_conn_ops *ops, void *ctx,
                   size_t recv_max_bytes, struct tp_conn **ret, struct dbe_diag *diag)
{
    const char *rest = NULL;
    const struct tp_impl *impl = impl_of(address, &rest, diag);
    struct tp_conn *conn = NULL;

    if (impl == NULL)
        return DBE_E_ARGUMENT;
    DBE_TRY(impl->connect(loop, rest, &conn, diag));
    dbe_err err = tp_conn_start(conn, ops, ctx, recv_max_bytes);
    if (err != DBE_OK) {
        tp_close(conn, false);
        return dbe_fail(diag, err, "connect", 0, "cannot watch the connection to %.120s", address);
    }
    *ret = conn;
    return DBE_OK;
}

dbe_err tp_conn_start(struct tp_conn *conn, const struct tp_conn_ops *ops, void *ctx, size_t recv_max_bytes)
{
    if (conn->ops != NULL || recv_max_bytes == 0)
        return DBE_E_STATE;
    conn->ops = ops;
    conn->ctx = ctx;
    conn->recv_max_bytes = recv_max_bytes;
    return conn->impl->start(conn);
}

dbe_err tp_send(struct tp_conn *conn, const void *data, size_t len)
{
    return len == 0 ? DBE_OK : conn->impl->send(conn, data, len);
}

void *tp_send_room(struct tp_conn *conn, size_t len)
{
    struct tp_queue *q = conn->impl->queue != NULL ? conn->impl->queue(conn) : NULL;

    return q == NULL ? NULL : tp_queue_room(q, len);
}

void tp_send_room_used(struct tp_conn *conn, size_t len)
{
    tp_queue_used(conn->impl->queue(conn), len);
}

size_t tp_queued_bytes(const struct tp_conn *conn)
{
    return conn->impl->queued_bytes(conn);
}

void tp_close(struct tp_conn *conn, bool after_drain)
{
    if (conn != NULL)
        conn->impl->close(conn, after_drain);
}

dbe_err tp_peer_cred(const struct tp_conn *conn, uint32_t *ret_uid, int32_t *ret_pid)
{
    return conn->impl->peer_cred(conn, ret_uid, ret_pid);
}
