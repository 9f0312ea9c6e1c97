/* SPDX-License-Identifier: Apache-2.0
 *
 * inproc.c - both ends of a connection inside one loop, for tests and for services that share a process.
 *
 * In:   "inproc:<name>"    Out: the same callbacks as any transport, always from the loop, never from within tp_send
 * Does: hands bytes over in the loop's next turn; same send queue limit as the others.
 * Does not: cross threads; names are known on the thread that listens.
 */
#include "tp_impl.h"

#include <string.h>

#include "dbe/limits.h"

struct inproc_conn {
    struct tp_conn base;
    struct inproc_conn *other; /* NULL once it closed */
    struct base_timer *timer;
    struct tp_queue inbox; /* sent by the other end, not yet offered here */
    unsigned depth;
    bool connecting, drained_owed, ended, told, dying;
};

struct inproc_listener {
    struct tp_listener base;
    struct inproc_listener *next;
    char name[TP_ADDRESS_MAX];
};

static _Thread_local struct inproc_listener *listeners;

static struct inproc_conn *inproc_of(struct tp_conn *conn)
{
    return (struct inproc_conn *)conn;
}

static struct inproc_listener *inproc_find(const struct dbe_loop *loop, const char *name)
{
    for (struct inproc_listener *l = listeners; l != NULL; l = l->next)
        if (l->base.loop == loop && strcmp(l->name, name) == 0)
            return l;
    return NULL;
}

static void inproc_kick(struct inproc_conn *c)
{
    base_timer_set(c->timer, BASE_MAX(base_mono_ns(), UINT64_C(1)));
}

static void inproc_destroy(struct inproc_conn *c)
{
    if (c->depth > 0) {
        c->dying = true;
        return;
    }
    base_timer_free(c->timer);
    tp_queue_free(&c->inbox);
    tp_in_free(&c->base);
    base_free(c);
}

static void inproc_over(struct inproc_conn *c, dbe_err why)
{
    if (c->told || c->dying)
        return;
    c->told = true;
    c->base.ops->on_closed(c->base.ctx, &c->base, why);
}

/* Move the inbox to the owner, as much at a time as the receive buffer takes. */
static void inproc_deliver(struct inproc_conn *c)
{
    while (c->inbox.bytes > 0 && !c->dying && !c->told) {
        struct tp_chunk *chunk = c->inbox.head;
        size_t room = 0;
        dbe_err err = tp_in_room(&c->base, &room);
        if (err != DBE_OK) {
            inproc_over(c, err);
            return;
        }
        size_t n = BASE_MIN(room, chunk->len - chunk->off);
        memcpy(c->base.in.data + c->base.in.len, chunk->data + chunk->off, n);
        c->base.in.len += n;
        tp_queue_consume(&c->inbox, n);
        tp_in_offer(&c->base);
    }
    if (!c->dying)
        tp_in_trim(&c->base);
    if (!c->dying && c->inbox.bytes == 0 && c->other != NULL && c->other->drained_owed)
        inproc_kick(c->other);
}

static void inproc_on_timer(void *ctx)
{
    struct inproc_conn *c = ctx;

    if (c->base.ops == NULL)
        return; /* start kicks again */
    c->depth++;
    if (c->connecting) {
        c->connecting = false;
        if (c->base.ops->on_connected != NULL)
            c->base.ops->on_connected(c->base.ctx, &c->base);
    }
    inproc_deliver(c);
    if (c->drained_owed && !c->dying && !c->told && c->other != NULL && c->other->inbox.bytes == 0) {
        c->drained_owed = false;
        if (c->base.ops->on_drained != NULL)
            c->base.ops->on_drained(c->base.ctx, &c->base);
    }
    if (c->ended && !c->dying)
        inproc_over(c, DBE_E_CLOSED);
    c->depth--;
    if (c->dying)
        inproc_destroy(c);
}

/* ---- the ops --------------------------------------------------------------------------------------------------- */

static dbe_err inproc_listen(struct dbe_loop *loop, const char *name, tp_accept_fn *fn, void *ctx,
                             struct tp_listener **ret, struct dbe_diag *diag)
{
    if (inproc_find(loop, name) != NULL)
        return dbe_fail(diag, DBE_E_EXISTS, "address", 0, "inproc:%.120s is taken", name);
    struct inproc_listener *l = base_alloc(1, sizeof *l);
    if (l == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, "address", 0, "no memory to listen on inproc:%.120s", name);
    l->base = (struct tp_listener){.impl = &tp_inproc, .loop = loop, .fn = fn, .ctx = ctx};
    memcpy(l->name, name, strlen(name) + 1); /* shorter than TP_ADDRESS_MAX: transport.c checked the whole address */
    l->next = listeners;
    listeners = l;
    *ret = &l->base;
    return DBE_OK;
}

static void inproc_listener_free(struct tp_listener *base)
{
    for (struct inproc_listener **at = &listeners; *at != NULL; at = &(*at)->next) {
        if (&(*at)->base == base) {
            *at = (*at)->next;
            break;
        }
    }
    base_free(base);
}

static dbe_err inproc_new(struct dbe_loop *loop, struct inproc_conn **ret)
{
    struct inproc_conn *c = base_alloc(1, sizeof *c);

    if (c == NULL)
        return DBE_E_NOMEM;
    c->base.impl = &tp_inproc;
    c->base.loop = loop;
    dbe_err err = base_loop_timer(loop, inproc_on_timer, c, &c->timer);
    if (err != DBE_OK) {
        base_free(c);
        return err;
    }
    *ret = c;
    return DBE_OK;
}

static dbe_err inproc_connect(struct dbe_loop *loop, const char *name, struct tp_conn **ret, struct dbe_diag *diag)
{
    struct inproc_listener *l = inproc_find(loop, name);
    struct inproc_conn *near = NULL, *far = NULL;

    if (l == NULL)
        return dbe_fail(diag, DBE_E_UNAVAILABLE, "address", 0, "nobody listens on inproc:%.120s", name);
    dbe_err err = inproc_new(loop, &near);
    if (err == DBE_OK)
        err = inproc_new(loop, &far);
    if (err != DBE_OK) {
        if (near != NULL)
            inproc_destroy(near);
        return dbe_fail(diag, err, "address", 0, "no memory to connect to inproc:%.120s", name);
    }
    near->connecting = true;
    near->other = far;
    far->other = near;
    *ret = &near->base;
    l->base.fn(l->base.ctx, &far->base);
    return DBE_OK;
}

static dbe_err inproc_start(struct tp_conn *conn)
{
    inproc_kick(inproc_of(conn));
    return DBE_OK;
}

static dbe_err inproc_send(struct tp_conn *conn, const void *data, size_t len)
{
    struct inproc_conn *c = inproc_of(conn);

    if (c->other == NULL || c->told)
        return DBE_E_CLOSED;
    if (len > DBE_SEND_QUEUE_MAX_BYTES - BASE_MIN(c->other->inbox.bytes, (size_t)DBE_SEND_QUEUE_MAX_BYTES))
        return DBE_E_LIMIT;
    DBE_TRY(tp_queue_add(&c->other->inbox, data, len));
    c->drained_owed = true;
    inproc_kick(c->other);
    return DBE_OK;
}

static size_t inproc_queued_bytes(const struct tp_conn *conn)
{
    const struct inproc_conn *c = (const struct inproc_conn *)conn;

    return c->other == NULL ? 0 : c->other->inbox.bytes;
}

/* What was sent stays in the other end's inbox and is delivered before it hears of the end, as with a socket. */
static void inproc_close(struct tp_conn *conn, bool after_drain)
{
    struct inproc_conn *c = inproc_of(conn);

    (void)after_drain;
    if (c->other != NULL) {
        c->other->other = NULL;
        c->other->ended = true;
        inproc_kick(c->other);
        c->other = NULL;
    }
    inproc_destroy(c);
}

static dbe_err inproc_peer_cred(const struct tp_conn *conn, uint32_t *ret_uid, int32_t *ret_pid)
{
    (void)conn;
    (void)ret_uid;
    (void)ret_pid;
    return DBE_E_NOT_FOUND;
}

const struct tp_impl tp_inproc = {
    .scheme = "inproc:",
    .listen = inproc_listen,
    .listener_free = inproc_listener_free,
    .connect = inproc_connect,
    .start = inproc_start,
    .send = inproc_send,
    .queued_bytes = inproc_queued_bytes,
    .close = inproc_close,
    .peer_cred = inproc_peer_cred,
};
