/* SPDX-License-Identifier: Apache-2.0
 *
 * uds.c - connections over Unix stream sockets.
 *
 * In:   connected descriptors (from uds_listen.c or connect)    Out: bytes, in order
 * Does: writes at once when the socket takes it and queues the rest; never raises SIGPIPE; survives EINTR, EAGAIN and
 *       peers that vanish; reads a bounded amount a turn, so that one busy peer cannot starve the others.
 * Does not: listen (uds_listen.c), decide whether the peer's uid is welcome (node does).
 */
#include "uds.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/io.h"
#include "dbe/limits.h"

enum {
    UDS_READS_A_TURN = 8,
    UDS_IOV_MAX = 16,
};

struct uds_conn {
    struct tp_conn base;
    int fd;
    struct base_watch *watch;
    struct base_hot hot;
    struct base_timer *linger;
    struct tp_queue queue;
    unsigned events; /* what the watch waits for  */
    unsigned depth;  /* callbacks now running     */
    bool connecting; /* on_connected is still owed                          */
    bool broken;     /* nothing can be sent any more; the loop tells why    */
    bool told;       /* on_closed was called                                */
    bool dying;      /* closed by the owner: free when no callback runs     */
    bool lingering;  /* closed by the owner, but the queue is still written */
    dbe_err why;     /* reason for on_closed when it is not E_CLOSED        */
    uint32_t uid;
    int32_t pid;
};

static struct uds_conn *uds_of(struct tp_conn *conn)
{
    return (struct uds_conn *)conn;
}

static void uds_destroy(struct uds_conn *c)
{
    if (c->depth > 0) {
        c->dying = true;
        return;
    }
    base_hot_cool(&c->hot);
    base_watch_free(c->watch);
    base_timer_free(c->linger);
    tp_queue_free(&c->queue);
    tp_in_free(&c->base);
    (void)close(c->fd);
    base_free(c);
}

dbe_err uds_cred(int fd, uint32_t *ret_uid, int32_t *ret_pid)
{
    struct ucred cred = {0};
    socklen_t len = sizeof cred;

    if (base_connect_must_fail() || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0 || len != sizeof cred)
        return DBE_E_IO;
    *ret_uid = cred.uid;
    *ret_pid = cred.pid;
    return DBE_OK;
}

dbe_err uds_conn_new(struct dbe_loop *loop, int fd, bool connecting, struct tp_conn **ret)
{
    uint32_t uid = 0;
    int32_t pid = 0;

    DBE_TRY(uds_cred(fd, &uid, &pid));
    struct uds_conn *c = base_alloc(1, sizeof *c);
    if (c == NULL)
        return DBE_E_NOMEM;
    c->base.impl = &tp_uds;
    c->base.loop = loop;
    c->fd = fd;
    c->connecting = connecting;
    c->uid = uid;
    c->pid = pid;
    *ret = &c->base;
    return DBE_OK;
}

/* ---- events ---------------------------------------------------------------------------------------------------- */

static dbe_err uds_want(struct uds_conn *c, unsigned events)
{
    if (c->watch == NULL || c->events == events)
        return DBE_OK;
    DBE_TRY(base_watch_events(c->watch, events));
    c->events = events;
    return DBE_OK;
}

/* The connection is over: tell the owner, once. */
static void uds_over(struct uds_conn *c, dbe_err why)
{
    base_hot_cool(&c->hot);
    base_watch_free(c->watch);
    c->watch = NULL;
    c->broken = true;
    if (c->lingering) {
        uds_destroy(c);
        return;
    }
    if (c->told || c->dying)
        return;
    c->told = true;
    c->base.ops->on_closed(c->base.ctx, &c->base, c->why != DBE_OK ? c->why : why);
}

/* Write what is queued, many chunks a call. E_AGAIN: the socket is full. */
static dbe_err uds_write_queue(struct uds_conn *c)
{
    while (c->queue.bytes > 0) {
        struct iovec iov[UDS_IOV_MAX];
        struct msghdr msg = {.msg_iov = iov};

        for (struct tp_chunk *k = c->queue.head; k != NULL && msg.msg_iovlen < UDS_IOV_MAX; k = k->next)
            iov[msg.msg_iovlen++] = (struct iovec){.iov_base = k->data + k->off, .iov_len = k->len - k->off};
        ssize_t n = base_sendmsg(c->fd, &msg);
        if (n < 0)
            return errno == EAGAIN || errno == ENOBUFS ? DBE_E_AGAIN : DBE_E_CLOSED;
        tp_queue_consume(&c->queue, (size_t)n);
    }
    return DBE_OK;
}

static void uds_on_writable(struct uds_conn *c)
{
    dbe_err err = uds_write_queue(c);

    if (err == DBE_E_AGAIN)
        return;
    if (err == DBE_OK && c->lingering)
        err = DBE_E_CLOSED;
    else if (err == DBE_OK)
        err = uds_want(c, BASE_LOOP_READ);
    if (err != DBE_OK) {
        uds_over(c, err);
        return;
    }
    if (c->base.ops->on_drained != NULL)
        c->base.ops->on_drained(c->base.ctx, &c->base);
}

/* Read until the socket is empty, the turn's share is used or the owner closes. True if there was something: bytes, or
 * the end. */
static bool uds_on_readable(struct uds_conn *c)
{
    bool any = false;

    for (int i = 0; i < UDS_READS_A_TURN && !c->dying && !c->told && !c->lingering; i++) {
        size_t room = 0;
        dbe_err err = tp_in_room(&c->base, &room);
        if (err != DBE_OK) {
            uds_over(c, err);
            return true;
        }
        ssize_t n = recv(c->fd, c->base.in.data + c->base.in.len, room, MSG_DONTWAIT);
        if (n > 0) {
            any = true;
            c->base.in.len += (size_t)n;
            tp_in_offer(&c->base);
            if ((size_t)n < room)
                break; /* the socket is empty; level-triggered watching reports what comes next */
        } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
            uds_over(c, DBE_E_CLOSED);
            return true;
        } else if (errno == EAGAIN) {
            break;
        }
    }
    if (c->dying)
        return any;
    tp_in_trim(&c->base);
    if (any && !c->told && !c->lingering)
        base_loop_hot(c->base.loop, &c->hot);
    return any;
}

/* The loop asks, before it sleeps, whether more came. */
static bool uds_poll(void *ctx)
{
    struct uds_conn *c = ctx;
    bool any;

    c->depth++;
    any = uds_on_readable(c);
    c->depth--;
    if (c->dying && c->depth == 0)
        uds_destroy(c);
    return any;
}

static void uds_on_event(void *ctx, int fd, unsigned events)
{
    struct uds_conn *c = ctx;

    (void)fd;
    c->depth++;
    if (c->connecting) {
        c->connecting = false;
        dbe_err err = uds_want(c, c->queue.bytes > 0 ? BASE_LOOP_READ | BASE_LOOP_WRITE : BASE_LOOP_READ);
        if (err != DBE_OK)
            uds_over(c, err);
        else if (c->base.ops->on_connected != NULL)
            c->base.ops->on_connected(c->base.ctx, &c->base);
    }
    if ((events & BASE_LOOP_WRITE) != 0 && c->queue.bytes > 0 && !c->dying && !c->told)
        uds_on_writable(c);
    if ((events & (BASE_LOOP_READ | BASE_LOOP_HANGUP)) != 0 && !c->dying && !c->told) {
        if (!c->lingering)
            (void)uds_on_readable(c);
        else if ((events & BASE_LOOP_HANGUP) != 0)
            uds_over(c, DBE_E_CLOSED);
    }
    c->depth--;
    if (c->dying && c->depth == 0)
        uds_destroy(c);
}

/* ---- the ops --------------------------------------------------------------------------------------------------- */

static dbe_err uds_start(struct tp_conn *conn)
{
    struct uds_conn *c = uds_of(conn);
    unsigned events = c->connecting ? BASE_LOOP_READ | BASE_LOOP_WRITE : BASE_LOOP_READ;

    DBE_TRY(base_loop_watch(conn->loop, c->fd, events, uds_on_event, c, &c->watch));
    c->events = events;
    c->hot = (struct base_hot){.poll = uds_poll, .ctx = c};
    return DBE_OK;
}

/* A record was cut in two and its rest cannot be kept: the stream is useless. The loop reports the end. */
static dbe_err uds_break(struct uds_conn *c, dbe_err why)
{
    c->broken = true;
    c->why = why;
    (void)shutdown(c->fd, SHUT_RDWR);
    return why;
}

static dbe_err uds_send(struct tp_conn *conn, const void *data, size_t len)
{
    struct uds_conn *c = uds_of(conn);
    const uint8_t *at = data;
    size_t sent = 0;

    if (c->broken || c->lingering)
        return DBE_E_CLOSED;
    if (len > DBE_SEND_QUEUE_MAX_BYTES - BASE_MIN(c->queue.bytes, (size_t)DBE_SEND_QUEUE_MAX_BYTES))
        return DBE_E_LIMIT;
    while (c->queue.bytes == 0 && sent < len) {
        ssize_t n = base_send(c->fd, at + sent, len - sent);
        if (n >= 0)
            sent += (size_t)n;
        else if (errno == EAGAIN || errno == ENOBUFS)
            break;
        else
            return uds_break(c, DBE_E_CLOSED);
    }
    if (sent == len)
        return DBE_OK;
    dbe_err err = tp_queue_add(&c->queue, at + sent, len - sent);
    if (err == DBE_OK)
        err = uds_want(c, BASE_LOOP_READ | BASE_LOOP_WRITE);
    if (err != DBE_OK)
        return uds_break(c, err);
    return DBE_OK;
}

static struct tp_queue *uds_queue(struct tp_conn *conn)
{
    struct uds_conn *c = uds_of(conn);

    return c->queue.bytes > 0 && !c->broken && !c->lingering ? &c->queue : NULL;
}

static size_t uds_queued_bytes(const struct tp_conn *conn)
{
    return ((const struct uds_conn *)conn)->queue.bytes;
}

static void uds_linger_over(void *ctx)
{
    uds_destroy(ctx);
}

static void uds_close(struct tp_conn *conn, bool after_drain)
{
    struct uds_conn *c = uds_of(conn);

    if (c->lingering)
        return;
    if (!after_drain || c->broken || c->queue.bytes == 0 || c->watch == NULL ||
        base_loop_timer(conn->loop, uds_linger_over, c, &c->linger) != DBE_OK ||
        uds_want(c, BASE_LOOP_WRITE) != DBE_OK) {
        uds_destroy(c);
        return;
    }
    c->lingering = true;
    base_hot_cool(&c->hot);
    base_timer_set(c->linger, base_mono_ns() + (uint64_t)TP_LINGER_MS * BASE_NS_PER_MS);
}

static dbe_err uds_peer_cred(const struct tp_conn *conn, uint32_t *ret_uid, int32_t *ret_pid)
{
    const struct uds_conn *c = (const struct uds_conn *)conn;

    *ret_uid = c->uid;
    *ret_pid = c->pid;
    return DBE_OK;
}

static const struct uds_kind plain = {.impl = &tp_uds, .wrap = uds_conn_new};

static dbe_err uds_listen(struct dbe_loop *loop, const char *path, tp_accept_fn *fn, void *ctx,
                          struct tp_listener **ret, struct dbe_diag *diag)
{
    return uds_listen_as(&plain, loop, path, fn, ctx, ret, diag);
}

static dbe_err uds_connect(struct dbe_loop *loop, const char *path, struct tp_conn **ret, struct dbe_diag *diag)
{
    return uds_connect_as(&plain, loop, path, ret, diag);
}

const struct tp_impl tp_uds = {
    .scheme = "uds:",
    .listen = uds_listen,
    .listener_free = uds_listener_free,
    .connect = uds_connect,
    .start = uds_start,
    .send = uds_send,
    .queued_bytes = uds_queued_bytes,
    .queue = uds_queue,
    .close = uds_close,
    .peer_cred = uds_peer_cred,
};
