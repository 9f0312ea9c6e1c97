/* SPDX-License-Identifier: Apache-2.0
 *
 * shm.c - connections through memory that both processes share.
 *
 * In:   "shm:/path": a Unix socket to meet on (uds_listen.c)    Out: bytes, in order
 * Does: moves bytes through two rings (shm_ring.h) without a system call while both sides are awake; a side that goes
 *       to sleep says so in the ring, and is woken by a byte on the socket, a knock. The socket also tells when the
 *       other process ends, however it ends: what it wrote before is still delivered.
 * Does not: trust the other side (shm_ring.h), share one descriptor for two connections, cross hosts.
 */
#include "shm.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "dbe/limits.h"
#include "uds.h"

enum {
    SHM_READS_A_TURN = 8,
    SHM_KNOCKS_BYTES = 256,       /* taken from the socket at a time                                         */
    SHM_TRIM_BYTES = 8 * 1024,    /* a ring that used more gives its pages back                              */
    SHM_IDLE_MS = 1000,           /* when it was idle for as long                                            */
    SHM_SPIN_NS = 100 * 1000,     /* the loop may yield this long for us: longer than waking the peer takes  */
};

struct shm_conn {
    struct tp_conn base;
    int fd;
    struct base_watch *watch;
    struct base_hot hot;
    struct base_timer *timer; /* a knock at our own door, giving pages back, the end of lingering */
    uint64_t timer_ns;        /* when it is set for; 0: not                */
    uint64_t linger_ns;       /* when lingering ends                       */
    uint64_t idle_head;       /* what was written when the timer was set   */
    struct tp_queue queue;
    struct shm_area area;     /* none until the listening side sent it     */
    struct shm_writer w;
    struct shm_reader r;
    unsigned depth;           /* callbacks now running                     */
    bool connecting;          /* the connecting side, without an area yet  */
    bool listening;           /* the listening side                        */
    bool asleep;              /* the other side must knock                 */
    bool broken, told, dying, lingering; /* as in uds.c */
    dbe_err why;
    uint32_t uid;
    int32_t pid;
};

static struct shm_conn *shm_of(struct tp_conn *conn)
{
    return (struct shm_conn *)conn;
}

static bool is_open(const struct shm_conn *c)
{
    return c->area.map != NULL && !c->dying && !c->told;
}

static void shm_destroy(struct shm_conn *c)
{
    if (c->depth > 0) {
        c->dying = true;
        return;
    }
    base_hot_cool(&c->hot);
    base_watch_free(c->watch);
    base_timer_free(c->timer);
    tp_queue_free(&c->queue);
    tp_in_free(&c->base);
    if (c->area.map != NULL)
        atomic_store_explicit(&c->r.dir->gone, 1, memory_order_release);
    shm_area_free(&c->area);
    (void)close(c->fd);
    base_free(c);
}

/* The connection is over: tell the owner, once. */
static void shm_over(struct shm_conn *c, dbe_err why)
{
    base_hot_cool(&c->hot);
    base_watch_free(c->watch);
    c->watch = NULL;
    c->broken = true;
    if (c->lingering) {
        shm_destroy(c);
        return;
    }
    if (c->told || c->dying)
        return;
    c->told = true;
    base_timer_set(c->timer, 0);
    c->base.ops->on_closed(c->base.ctx, &c->base, c->why != DBE_OK ? c->why : why);
}

/* Nothing can be sent any more. The loop reports the end: sending never calls back. */
static dbe_err shm_break(struct shm_conn *c, dbe_err why)
{
    c->broken = true;
    c->why = why;
    (void)shutdown(c->fd, SHUT_RDWR);
    return why;
}

/* A full socket holds knocks enough; one whose other end is gone hangs up by itself. */
static void knock(const struct shm_conn *c)
{
    ssize_t n = send(c->fd, "k", 1, MSG_NOSIGNAL | MSG_DONTWAIT);

    (void)n;
}

static void timer_at(struct shm_conn *c, uint64_t at_ns)
{
    if (c->timer_ns != 0 && c->timer_ns <= at_ns)
        return;
    c->timer_ns = at_ns;
    base_timer_set(c->timer, at_ns);
}

/* Look into the rings in the loop's next turn: a moment long past is due at once. */
static void look_soon(struct shm_conn *c)
{
    timer_at(c, 1);
}

/* ---- moving bytes ------------------------------------------------------------------------------------------------ */

/* From the queue into the ring. True if any went, or the connection ended. */
static bool flush_queue(struct shm_conn *c)
{
    size_t moved = 0;

    while (c->queue.bytes > 0) {
        const struct tp_chunk *chunk = c->queue.head;
        size_t n = 0;
        dbe_err err = shm_write(&c->w, chunk->data + chunk->off, chunk->len - chunk->off, &n);
        if (err != DBE_OK) {
            shm_over(c, err);
            return true;
        }
        tp_queue_consume(&c->queue, n);
        moved += n;
        if (n == 0 && !shm_writer_waits(&c->w))
            break;
    }
    if (moved > 0 && shm_wake_reader(&c->w))
        knock(c);
    if (c->queue.bytes > 0 || moved == 0)
        return moved > 0;
    if (c->lingering)
        shm_over(c, DBE_E_CLOSED);
    else if (c->base.ops->on_drained != NULL)
        c->base.ops->on_drained(c->base.ctx, &c->base);
    return true;
}

/* From the ring to the owner, `reads` times at most. True if any came, or the connection ended. */
static bool receive(struct shm_conn *c, int reads)
{
    bool any = false;

    while (reads-- > 0 && is_open(c) && !c->lingering && shm_readable(&c->r)) {
        size_t room = 0, n = 0;
        dbe_err err = tp_in_room(&c->base, &room);
        if (err == DBE_OK)
            err = shm_read(&c->r, c->base.in.data + c->base.in.len, room, &n);
        if (err != DBE_OK) {
            shm_over(c, err);
            return true;
        }
        any = true;
        c->base.in.len += n;
        tp_in_offer(&c->base);
    }
    if (!any || !is_open(c))
        return any;
    if (shm_wake_writer(&c->r))
        knock(c);
    tp_in_trim(&c->base);
    return true;
}

/* Whoever calls this makes the connection hot afterwards: that is what puts it to sleep again. */
static bool look(struct shm_conn *c)
{
    bool any = false;

    if (c->asleep)
        shm_reader_looks(&c->r);
    c->asleep = false;
    if (c->queue.bytes > 0)
        any = flush_queue(c);
    if (is_open(c) && !c->lingering && receive(c, SHM_READS_A_TURN))
        any = true;
    return any;
}

static void stay_hot(struct shm_conn *c)
{
    if (is_open(c))
        base_loop_hot(c->base.loop, &c->hot);
}

static void leave(struct shm_conn *c)
{
    c->depth--;
    if (c->dying && c->depth == 0)
        shm_destroy(c);
}

/* ---- what the loop calls ----------------------------------------------------------------------------------------- */

static bool shm_poll(void *ctx)
{
    struct shm_conn *c = ctx;

    if (c->queue.bytes == 0 && !shm_readable(&c->r))
        return false;
    c->depth++;
    bool any = look(c);
    if (any)
        stay_hot(c);
    any = any || c->dying;
    leave(c);
    return any;
}

static void shm_rest(void *ctx)
{
    struct shm_conn *c = ctx;

    c->asleep = true;
    if (shm_reader_sleeps(&c->r)) {
        look_soon(c);
    } else if (c->w.head - c->w.clean > SHM_TRIM_BYTES && c->w.head != c->idle_head && c->timer_ns == 0) {
        c->idle_head = c->w.head;
        timer_at(c, base_mono_ns() + (uint64_t)SHM_IDLE_MS * BASE_NS_PER_MS);
    }
}

static void on_timer(void *ctx)
{
    struct shm_conn *c = ctx;
    const bool over = c->lingering && base_mono_ns() >= c->linger_ns;

    c->timer_ns = 0;
    c->depth++;
    if (over)
        shm_over(c, DBE_E_TIMEOUT);
    else if (is_open(c) && c->w.head == c->idle_head)
        shm_trim(&c->w, SHM_TRIM_BYTES);
    if (is_open(c))
        (void)look(c);
    if (c->lingering && !c->dying)
        timer_at(c, c->linger_ns);
    stay_hot(c);
    leave(c);
}

static void open_area(struct shm_conn *c)
{
    shm_area_ends(&c->area, c->listening, &c->w, &c->r);
    c->idle_head = UINT64_MAX;
}

/* The first bytes on the socket of the connecting side. */
static void on_hello(struct shm_conn *c)
{
    dbe_err err = shm_area_take(c->fd, &c->area);

    if (err == DBE_E_AGAIN)
        return;
    if (err != DBE_OK) {
        shm_over(c, err);
        return;
    }
    c->connecting = false;
    open_area(c);
    if (!c->lingering && c->base.ops->on_connected != NULL)
        c->base.ops->on_connected(c->base.ctx, &c->base);
    if (is_open(c))
        (void)look(c);
    stay_hot(c);
}

/* Take the knocks that wait. False: nobody is there any more. */
static bool take_knocks(const struct shm_conn *c)
{
    uint8_t knocks[SHM_KNOCKS_BYTES];
    ssize_t n = recv(c->fd, knocks, sizeof knocks, MSG_DONTWAIT);

    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* What the other side wrote before it ended is in the ring: at most a ring full, however much a hostile one adds. */
static void on_hangup(struct shm_conn *c)
{
    const uint64_t end = c->r.tail + c->r.size;

    while (is_open(c) && !c->lingering && end - c->r.tail <= c->r.size && c->r.tail != end && receive(c, 1))
        ;
    if (!c->dying)
        shm_over(c, DBE_E_CLOSED);
}

static void on_event(void *ctx, int fd, unsigned events)
{
    struct shm_conn *c = ctx;

    (void)fd;
    c->depth++;
    if (c->connecting) {
        on_hello(c);
    } else {
        bool there = take_knocks(c) && !c->broken && (events & BASE_LOOP_HANGUP) == 0;
        if (there)
            (void)look(c);
        else
            on_hangup(c);
        stay_hot(c);
    }
    leave(c);
}

/* ---- the ops ----------------------------------------------------------------------------------------------------- */

static dbe_err shm_wrap(struct dbe_loop *loop, int fd, bool connecting, struct tp_conn **ret)
{
    uint32_t uid = 0;
    int32_t pid = 0;

    DBE_TRY(uds_cred(fd, &uid, &pid));
    struct shm_conn *c = base_alloc(1, sizeof *c);
    if (c == NULL)
        return DBE_E_NOMEM;
    dbe_err err = base_loop_timer(loop, on_timer, c, &c->timer);
    if (err != DBE_OK) {
        base_free(c);
        return err;
    }
    c->base.impl = &tp_shm;
    c->base.loop = loop;
    c->fd = fd;
    c->connecting = connecting;
    c->listening = !connecting;
    c->uid = uid;
    c->pid = pid;
    c->hot = (struct base_hot){.poll = shm_poll, .rest = shm_rest, .ctx = c, .spin_ns = SHM_SPIN_NS, .cheap = true};
    *ret = &c->base;
    return DBE_OK;
}

static dbe_err shm_start(struct tp_conn *conn)
{
    struct shm_conn *c = shm_of(conn);

    if (c->listening) {
        DBE_TRY(shm_area_offer(c->fd, &c->area));
        open_area(c);
    }
    DBE_TRY(base_loop_watch(conn->loop, c->fd, BASE_LOOP_READ, on_event, c, &c->watch));
    stay_hot(c);
    return DBE_OK;
}

static dbe_err shm_send(struct tp_conn *conn, const void *data, size_t len)
{
    struct shm_conn *c = shm_of(conn);
    size_t sent = 0;

    if (c->broken || c->lingering)
        return DBE_E_CLOSED;
    if (len > DBE_SEND_QUEUE_MAX_BYTES - BASE_MIN(c->queue.bytes, (size_t)DBE_SEND_QUEUE_MAX_BYTES))
        return DBE_E_LIMIT;
    if (c->queue.bytes == 0 && is_open(c)) {
        dbe_err err = shm_write(&c->w, data, len, &sent);
        if (err != DBE_OK)
            return shm_break(c, err);
        if (sent > 0 && shm_wake_reader(&c->w))
            knock(c);
    }
    if (sent == len)
        return DBE_OK;
    dbe_err err = tp_queue_add(&c->queue, (const uint8_t *)data + sent, len - sent);
    if (err != DBE_OK)
        return shm_break(c, err);
    if (is_open(c) && shm_writer_waits(&c->w))
        look_soon(c);
    return DBE_OK;
}

static struct tp_queue *shm_queue(struct tp_conn *conn)
{
    struct shm_conn *c = shm_of(conn);

    return c->queue.bytes > 0 && !c->broken && !c->lingering ? &c->queue : NULL;
}

static size_t shm_queued_bytes(const struct tp_conn *conn)
{
    return ((const struct shm_conn *)conn)->queue.bytes;
}

static void shm_close(struct tp_conn *conn, bool after_drain)
{
    struct shm_conn *c = shm_of(conn);

    if (c->lingering)
        return;
    if (!after_drain || c->broken || c->queue.bytes == 0 || c->watch == NULL) {
        shm_destroy(c);
        return;
    }
    c->lingering = true;
    c->linger_ns = base_mono_ns() + (uint64_t)TP_LINGER_MS * BASE_NS_PER_MS;
    timer_at(c, c->linger_ns);
}

static dbe_err shm_peer_cred(const struct tp_conn *conn, uint32_t *ret_uid, int32_t *ret_pid)
{
    const struct shm_conn *c = (const struct shm_conn *)conn;

    *ret_uid = c->uid;
    *ret_pid = c->pid;
    return DBE_OK;
}

static const struct uds_kind shared = {.impl = &tp_shm, .wrap = shm_wrap};

static dbe_err shm_listen(struct dbe_loop *loop, const char *path, tp_accept_fn *fn, void *ctx,
                          struct tp_listener **ret, struct dbe_diag *diag)
{
    return uds_listen_as(&shared, loop, path, fn, ctx, ret, diag);
}

static dbe_err shm_connect(struct dbe_loop *loop, const char *path, struct tp_conn **ret, struct dbe_diag *diag)
{
    return uds_connect_as(&shared, loop, path, ret, diag);
}

const struct tp_impl tp_shm = {
    .scheme = "shm:",
    .listen = shm_listen,
    .listener_free = uds_listener_free,
    .connect = shm_connect,
    .start = shm_start,
    .send = shm_send,
    .queued_bytes = shm_queued_bytes,
    .queue = shm_queue,
    .close = shm_close,
    .peer_cred = shm_peer_cred,
};
