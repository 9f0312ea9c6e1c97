/* SPDX-License-Identifier: Apache-2.0
 *
 * sim.c - a network inside one loop that is slow, late and broken in ways that a seed decides.
 *
 * In:   "sim:<name>", struct tp_sim_config of the thread    Out: the same callbacks as any transport, from timers alone
 * Does: what is sent is cut into pieces; each arrives after its delay, in order, perhaps with a bit changed, or with it
 *       the connection breaks or falls silent. With base_clock_set the time is virtual: whoever owns the loop moves the
 *       clock to the next timer, and a thousand seconds pass in one.
 * Not:  datagrams, threads, real time.
 */
#include "transport/sim.h"

#include <string.h>

#include "dbe/limits.h"
#include "tp_impl.h"

struct piece {
    struct piece *next;
    uint64_t at_ns;
    size_t off, len;
    uint8_t data[];
};

struct sim_conn {
    struct tp_conn base;
    struct sim_conn *other; /* NULL once it is closed or cut off */
    struct base_timer *timer;
    struct piece *head, *tail; /* on the way to this end */
    size_t inbox_bytes;
    uint64_t last_at_ns; /* arrival of the latest piece */
    uint64_t end_at_ns;  /* when this end hears that it is over; 0: it is not */
    unsigned depth;
    bool connecting, drained_owed, silent, told, dying;
};

struct sim_listener {
    struct tp_listener base;
    struct sim_listener *next;
    char name[TP_ADDRESS_MAX];
};

enum { MILLION = 1000000 };

static _Thread_local struct sim_listener *listeners;
static _Thread_local struct tp_sim_config net;
static _Thread_local struct tp_sim_stats stats;
static _Thread_local uint64_t rng;

/* ---- chance ------------------------------------------------------------------------------------------------------ */

static uint64_t draw(void)
{
    uint64_t z = rng += 0x9e3779b97f4a7c15u; /* SplitMix64 */

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static bool happens(uint32_t ppm)
{
    return ppm > 0 && draw() % MILLION < ppm;
}

static uint64_t delay_ns(void)
{
    return net.delay_max_ns > net.delay_min_ns ? net.delay_min_ns + draw() % (net.delay_max_ns - net.delay_min_ns + 1)
                                               : net.delay_min_ns;
}

void tp_sim_set(const struct tp_sim_config *config)
{
    net = config != NULL ? *config : (struct tp_sim_config){0};
    rng = net.seed;
    stats = (struct tp_sim_stats){0};
}

void tp_sim_stats(struct tp_sim_stats *ret)
{
    *ret = stats;
}

/* ---- one end ----------------------------------------------------------------------------------------------------- */

static struct sim_conn *sim_of(struct tp_conn *conn)
{
    return (struct sim_conn *)conn;
}

static void pieces_free(struct sim_conn *c)
{
    while (c->head != NULL) {
        struct piece *p = c->head;

        c->head = p->next;
        base_free(p);
    }
    c->tail = NULL;
    c->inbox_bytes = 0;
}

/* When there is something to do for this end: the next piece, or the end. */
static void arm(struct sim_conn *c, bool now)
{
    uint64_t at = UINT64_MAX;

    if (c->base.ops == NULL)
        return; /* start arms */
    if (now || c->connecting || (c->drained_owed && c->other != NULL && c->other->inbox_bytes == 0))
        at = base_mono_ns();
    if (c->head != NULL)
        at = BASE_MIN(at, c->head->at_ns);
    else if (c->end_at_ns != 0)
        at = BASE_MIN(at, c->end_at_ns);
    base_timer_set(c->timer, at == UINT64_MAX ? 0 : BASE_MAX(at, UINT64_C(1)));
}

static void destroy(struct sim_conn *c)
{
    if (c->depth > 0) {
        c->dying = true;
        return;
    }
    base_timer_free(c->timer);
    pieces_free(c);
    tp_in_free(&c->base);
    base_free(c);
}

static void over(struct sim_conn *c, dbe_err why)
{
    if (c->told || c->dying)
        return;
    c->told = true;
    c->base.ops->on_closed(c->base.ctx, &c->base, why);
}

/* Hand the owner as much of the first piece as its buffer takes. False: the connection is over. */
static bool deliver(struct sim_conn *c)
{
    struct piece *p = c->head;
    size_t room = 0, n;
    dbe_err err = tp_in_room(&c->base, &room);

    if (err != DBE_OK) {
        over(c, err);
        return false;
    }
    n = BASE_MIN(room, p->len - p->off);
    memcpy(c->base.in.data + c->base.in.len, p->data + p->off, n);
    c->base.in.len += n;
    c->inbox_bytes -= n;
    p->off += n;
    if (p->off == p->len) {
        c->head = p->next;
        if (c->head == NULL)
            c->tail = NULL;
        base_free(p);
    }
    tp_in_offer(&c->base);
    return !c->dying && !c->told;
}

static void tell_connected(struct sim_conn *c)
{
    if (!c->connecting)
        return;
    c->connecting = false;
    if (c->base.ops->on_connected != NULL)
        c->base.ops->on_connected(c->base.ctx, &c->base);
}

static void tell_drained(struct sim_conn *c)
{
    if (!c->drained_owed || c->dying || c->told || c->other == NULL || c->other->inbox_bytes > 0)
        return;
    c->drained_owed = false;
    if (c->base.ops->on_drained != NULL)
        c->base.ops->on_drained(c->base.ctx, &c->base);
}

static void on_timer(void *ctx)
{
    struct sim_conn *c = ctx;
    uint64_t now = base_mono_ns();

    c->depth++;
    tell_connected(c);
    while (!c->dying && !c->told && c->head != NULL && c->head->at_ns <= now && deliver(c))
        ;
    if (!c->dying && !c->told) {
        tp_in_trim(&c->base);
        if (c->inbox_bytes == 0 && c->other != NULL && c->other->drained_owed)
            arm(c->other, false);
    }
    tell_drained(c);
    if (!c->dying && c->head == NULL && c->end_at_ns != 0 && c->end_at_ns <= now)
        over(c, DBE_E_CLOSED);
    c->depth--;
    if (c->dying)
        destroy(c);
    else if (!c->told)
        arm(c, false);
}

/* ---- what goes wrong --------------------------------------------------------------------------------------------- */

/* This end hears nothing more of the other, and of the end itself after `ns`. */
static void sever(struct sim_conn *c, uint64_t ns)
{
    c->other = NULL;
    c->end_at_ns = BASE_MAX(base_mono_ns() + ns, c->last_at_ns);
    arm(c, false);
}

/* The connection breaks or falls silent. False: it lives on. */
static bool misfortune(struct sim_conn *c)
{
    struct sim_conn *other = c->other;
    uint64_t late = 0;

    if (happens(net.cut_ppm))
        stats.cuts++;
    else if (happens(net.half_open_ppm))
        stats.half_opens++, late = net.half_open_ns;
    else
        return false;
    sever(other, late + delay_ns());
    sever(c, late + delay_ns());
    c->silent = other->silent = late > 0;
    return true;
}

/* ---- the ops ----------------------------------------------------------------------------------------------------- */

static struct sim_listener *find(const struct dbe_loop *loop, const char *name)
{
    for (struct sim_listener *l = listeners; l != NULL; l = l->next)
        if (l->base.loop == loop && strcmp(l->name, name) == 0)
            return l;
    return NULL;
}

static dbe_err sim_listen(struct dbe_loop *loop, const char *name, tp_accept_fn *fn, void *ctx,
                          struct tp_listener **ret, struct dbe_diag *diag)
{
    struct sim_listener *l;

    if (find(loop, name) != NULL)
        return dbe_fail(diag, DBE_E_EXISTS, "address", 0, "sim:%.120s is taken", name);
    l = base_alloc(1, sizeof *l);
    if (l == NULL)
        return dbe_fail(diag, DBE_E_NOMEM, "address", 0, "no memory to listen on sim:%.120s", name);
    l->base = (struct tp_listener){.impl = &tp_sim, .loop = loop, .fn = fn, .ctx = ctx};
    memcpy(l->name, name, strlen(name) + 1); /* shorter than TP_ADDRESS_MAX: transport.c checked the whole address */
    l->next = listeners;
    listeners = l;
    *ret = &l->base;
    return DBE_OK;
}

static void sim_listener_free(struct tp_listener *base)
{
    struct sim_listener **at = &listeners;

    while (*at != NULL && &(*at)->base != base)
        at = &(*at)->next;
    if (*at != NULL)
        *at = (*at)->next;
    base_free(base);
}

static dbe_err conn_new(struct dbe_loop *loop, struct sim_conn **ret)
{
    struct sim_conn *c = base_alloc(1, sizeof *c);
    dbe_err err;

    if (c == NULL)
        return DBE_E_NOMEM;
    c->base.impl = &tp_sim;
    c->base.loop = loop;
    err = base_loop_timer(loop, on_timer, c, &c->timer);
    if (err != DBE_OK) {
        base_free(c);
        return err;
    }
    *ret = c;
    return DBE_OK;
}

static dbe_err sim_connect(struct dbe_loop *loop, const char *name, struct tp_conn **ret, struct dbe_diag *diag)
{
    struct sim_listener *l = find(loop, name);
    struct sim_conn *near = NULL, *far = NULL;
    dbe_err err;

    if (l == NULL || happens(net.refuse_ppm)) {
        stats.refusals++;
        return dbe_fail(diag, DBE_E_UNAVAILABLE, "address", 0, "nobody listens on sim:%.120s", name);
    }
    err = conn_new(loop, &near);
    if (err == DBE_OK)
        err = conn_new(loop, &far);
    if (err != DBE_OK) {
        if (near != NULL)
            destroy(near);
        return dbe_fail(diag, err, "address", 0, "no memory to connect to sim:%.120s", name);
    }
    stats.connects++;
    near->connecting = true;
    near->other = far;
    far->other = near;
    *ret = &near->base;
    l->base.fn(l->base.ctx, &far->base);
    return DBE_OK;
}

static dbe_err sim_start(struct tp_conn *conn)
{
    arm(sim_of(conn), true);
    return DBE_OK;
}

/* One piece sets off; it arrives after all that set off before it. */
static dbe_err set_off(struct sim_conn *to, const uint8_t *data, size_t len)
{
    uint64_t late = delay_ns(), at = BASE_MAX(base_mono_ns() + late, to->last_at_ns);
    struct piece *p = base_alloc(1, sizeof *p + len);

    if (p == NULL)
        return DBE_E_NOMEM;
    p->len = len;
    memcpy(p->data, data, len);
    if (happens(net.flip_ppm)) {
        uint64_t bit = draw() % (len * 8);

        p->data[bit / 8] = (uint8_t)(p->data[bit / 8] ^ 1u << bit % 8);
        stats.flips++;
    }
    if (net.bytes_per_s > 0)
        at += len * BASE_NS_PER_S / net.bytes_per_s;
    p->at_ns = to->last_at_ns = at;
    if (to->tail != NULL)
        to->tail->next = p;
    else
        to->head = p;
    to->tail = p;
    to->inbox_bytes += len;
    stats.pieces++;
    stats.bytes += len;
    return DBE_OK;
}

static dbe_err sim_send(struct tp_conn *conn, const void *data, size_t len)
{
    struct sim_conn *c = sim_of(conn), *other = c->other;

    if (c->silent && !c->told)
        return DBE_OK; /* it looks sent, and nobody will ever have it */
    if (other == NULL || c->told)
        return DBE_E_CLOSED;
    if (len > DBE_SEND_QUEUE_MAX_BYTES - BASE_MIN(other->inbox_bytes, (size_t)DBE_SEND_QUEUE_MAX_BYTES))
        return DBE_E_LIMIT;
    for (size_t at = 0, n; at < len; at += n) {
        size_t most = net.piece_max_bytes > 0 ? 1 + draw() % net.piece_max_bytes : len;

        n = BASE_MIN(len - at, most);
        if (misfortune(c))
            return c->silent ? DBE_OK : DBE_E_CLOSED;
        if (set_off(other, (const uint8_t *)data + at, n) != DBE_OK) {
            sever(other, 0); /* half of it is under way: nothing else would make sense of the rest */
            sever(c, 0);
            return DBE_E_CLOSED;
        }
    }
    c->drained_owed = true;
    arm(other, false);
    return DBE_OK;
}

static size_t sim_queued_bytes(const struct tp_conn *conn)
{
    const struct sim_conn *c = (const struct sim_conn *)conn;

    return c->other == NULL ? 0 : c->other->inbox_bytes;
}

/* What set off arrives before the other end hears of the end, as with a socket. */
static void sim_close(struct tp_conn *conn, bool after_drain)
{
    struct sim_conn *c = sim_of(conn);

    (void)after_drain;
    if (c->other != NULL)
        sever(c->other, delay_ns());
    c->other = NULL;
    destroy(c);
}

static dbe_err sim_peer_cred(const struct tp_conn *conn, uint32_t *ret_uid, int32_t *ret_pid)
{
    (void)conn;
    (void)ret_uid;
    (void)ret_pid;
    return DBE_E_NOT_FOUND;
}

const struct tp_impl tp_sim = {
    .scheme = "sim:",
    .listen = sim_listen,
    .listener_free = sim_listener_free,
    .connect = sim_connect,
    .start = sim_start,
    .send = sim_send,
    .queued_bytes = sim_queued_bytes,
    .close = sim_close,
    .peer_cred = sim_peer_cred,
};
