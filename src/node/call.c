/* SPDX-License-Identifier: Apache-2.0
 *
 * call.c - requests in flight: a table by correlation id for each peer, deadlines, streamed answers.
 *
 * In:   requests of the owner, messages from the peer    Out: answers to whoever asked
 * Does: tells answers from requests by correlation id and type together, so that a peer cannot pass a request off as an
 *       answer or the other way round. Deadlines are kept by the millisecond, rounded up: calls of the same millisecond
 *       share a tick, and only ticks stand in the heap. A call that is answered in time allocates nothing.
 * Does not: retry, nor tell the other side of a cancelled call.
 */
#include "node_impl.h"

#include <string.h>

/* ---- table ----------------------------------------------------------------------------------------------------- */

static struct node_call **bucket_of(const struct dbe_peer *p, uint64_t id)
{
    /* Fibonacci hashing over a secret: ids may come from a peer whose request we forward. */
    uint64_t h = (id ^ p->node->hash_seed) * UINT64_C(0x9E3779B97F4A7C15);

    return &p->buckets[(h >> 32) & (p->bucket_count - 1)];
}

static struct node_call **find(const struct dbe_peer *p, uint64_t id)
{
    if (p->bucket_count == 0)
        return NULL;
    for (struct node_call **at = bucket_of(p, id); *at != NULL; at = &(*at)->next)
        if ((*at)->id == id)
            return at;
    return NULL;
}

/* Double the table when it is full; a full table that cannot grow still works. */
static dbe_err make_room(struct dbe_peer *p)
{
    if (p->call_count < p->bucket_count)
        return DBE_OK;
    size_t count = p->bucket_count == 0 ? (size_t)NODE_CALL_BUCKETS_FIRST : p->bucket_count * 2;
    struct node_call **buckets = base_alloc(count, sizeof(struct node_call *)), **old = p->buckets;
    if (buckets == NULL)
        return p->bucket_count == 0 ? DBE_E_NOMEM : DBE_OK;
    size_t old_count = p->bucket_count;
    p->buckets = buckets;
    p->bucket_count = count;
    for (size_t i = 0; i < old_count; i++) {
        while (old[i] != NULL) {
            struct node_call *call = old[i], **at = bucket_of(p, call->id);
            old[i] = call->next;
            call->next = *at;
            *at = call;
        }
    }
    base_free(old);
    return DBE_OK;
}

/* ---- deadlines ------------------------------------------------------------------------------------------------- */

static struct node_tick **recent_of(struct dbe_node *node, uint64_t at_ns)
{
    return &node->recent[at_ns / BASE_NS_PER_MS % NODE_TICKS_RECENT];
}

static void tick_free(struct node_tick *tick)
{
    dues_clear(&tick->node->dues, &tick->due);
    tick->next_free = tick->node->free_ticks;
    tick->node->free_ticks = tick;
}

/* It has neither calls nor anybody who may find it: its place is for another millisecond. */
static void tick_free_if_idle(struct node_tick *tick)
{
    if (tick->calls == NULL && !tick->held)
        tick_free(tick);
}

static void call_end(struct node_call **at, dbe_err why);

static void on_tick(struct node_due *due)
{
    struct node_tick *tick = (struct node_tick *)(void *)((char *)due - offsetof(struct node_tick, due));
    struct node_tick **recent = recent_of(tick->node, due->at_ns);

    if (*recent == tick)
        *recent = NULL;
    tick->held = true; /* callbacks may cancel the calls that are left */
    while (tick->calls != NULL) {
        struct node_call **at = find(tick->calls->peer, tick->calls->id);
        BASE_INVARIANT(at != NULL && *at == tick->calls);
        tick->node->stats.calls_timed_out++;
        call_end(at, DBE_E_TIMEOUT);
    }
    tick->held = false;
    tick_free(tick);
}

static dbe_err tick_new(struct dbe_node *node, struct node_tick **ret)
{
    struct node_tick *tick = node->free_ticks;

    if (tick != NULL) {
        node->free_ticks = tick->next_free;
    } else {
        tick = base_alloc(1, sizeof *tick);
        if (tick == NULL)
            return DBE_E_NOMEM;
        dbe_err err = dues_reserve(&node->dues, &tick->due, on_tick);
        if (err != DBE_OK) {
            base_free(tick);
            return err;
        }
        tick->node = node;
    }
    *ret = tick;
    return DBE_OK;
}

/* The tick of a deadline: the next whole millisecond, so that no call ends early. */
static dbe_err tick_at(struct dbe_node *node, uint64_t deadline_ns, struct node_tick **ret)
{
    const uint64_t at_ns = (deadline_ns + BASE_NS_PER_MS - 1) / BASE_NS_PER_MS * BASE_NS_PER_MS;
    struct node_tick **recent = recent_of(node, at_ns), *tick = *recent;

    if (tick == NULL || tick->due.at_ns != at_ns) {
        DBE_TRY(tick_new(node, &tick));
        tick->held = true;
        dues_set(&node->dues, &tick->due, at_ns);
        if (*recent != NULL) {
            (*recent)->held = false;
            tick_free_if_idle(*recent);
        }
        *recent = tick;
    }
    *ret = tick;
    return DBE_OK;
}

static void tick_add(struct node_tick *tick, struct node_call *call)
{
    call->tick = tick;
    call->next_in_tick = tick->calls;
    call->link_in_tick = &tick->calls;
    if (call->next_in_tick != NULL)
        call->next_in_tick->link_in_tick = &call->next_in_tick;
    tick->calls = call;
}

static void tick_remove(struct node_call *call)
{
    *call->link_in_tick = call->next_in_tick;
    if (call->next_in_tick != NULL)
        call->next_in_tick->link_in_tick = call->link_in_tick;
    tick_free_if_idle(call->tick);
}

/* ---- calls come and go ----------------------------------------------------------------------------------------- */

static struct node_call *call_alloc(struct dbe_node *node)
{
    struct node_call *call = node->free_calls;

    if (call == NULL)
        return base_alloc(1, sizeof *call);
    node->free_calls = call->next;
    node->free_call_count--;
    return call;
}

static void call_keep(struct dbe_node *node, struct node_call *call)
{
    if (node->free_call_count >= NODE_CALLS_KEEP) {
        base_free(call);
        return;
    }
    call->next = node->free_calls;
    node->free_calls = call;
    node->free_call_count++;
}

/* Out of the table and of its tick, and gone. */
static void call_remove(struct node_call **at)
{
    struct node_call *call = *at;
    struct dbe_peer *p = call->peer;

    *at = call->next;
    p->call_count--;
    p->node->call_count--;
    tick_remove(call);
    call_keep(p->node, call);
}

/* The call is over without an answer. It is gone before its owner hears, who may call again. */
static void call_end(struct node_call **at, dbe_err why)
{
    dbe_reply_fn *fn = (*at)->fn;
    void *ctx = (*at)->ctx;

    call_remove(at);
    fn(ctx, NULL, true, why);
}

void call_fini(struct dbe_node *node)
{
    for (size_t i = 0; i < NODE_TICKS_RECENT; i++)
        base_free(node->recent[i]); /* every call has ended: none is anywhere else */
    while (node->free_ticks != NULL) {
        struct node_tick *tick = node->free_ticks;
        node->free_ticks = tick->next_free;
        base_free(tick);
    }
    while (node->free_calls != NULL) {
        struct node_call *call = node->free_calls;
        node->free_calls = call->next;
        base_free(call);
    }
}

/* ---- answers --------------------------------------------------------------------------------------------------- */

bool call_take(struct dbe_peer *p, const struct dbe_msg *msg)
{
    struct node_call **at = find(p, msg->correlation_id);

    if (at == NULL || (msg->type != (*at)->reply_type && msg->type != DBE_MSG_ERROR))
        return false;
    const bool last = (msg->flags & DBE_FLAG_STREAMING) == 0 || msg->type == DBE_MSG_ERROR; /* spec 12.2 */
    dbe_reply_fn *fn = (*at)->fn;
    void *ctx = (*at)->ctx;
    if (last)
        call_remove(at);
    fn(ctx, msg, last, DBE_OK); /* the owner may have cancelled, called again or closed the peer in there */
    return true;
}

void call_end_all(struct dbe_peer *p, dbe_err why)
{
    for (size_t i = 0; i < p->bucket_count; i++)
        while (p->buckets[i] != NULL)
            call_end(&p->buckets[i], why);
}

/* ---- calls ----------------------------------------------------------------------------------------------------- */

enum { AT_TYPE = 5, AT_CORRELATION = 8 }; /* spec 3.2 */

/* What a call needs of its request. The rest of the message is its receiver's to judge, and the builder's to get right:
 * to decode it here as well would cost more than everything else a call does. */
static dbe_err read_request(const uint8_t *bytes, size_t len, uint64_t *ret_id, uint8_t *ret_reply_type)
{
    size_t announced = 0;

    if (len < DBE_HEADER_BYTES)
        return DBE_E_MALFORMED;
    DBE_TRY(dbe_msg_peek_len(bytes, &announced));
    if (announced != len)
        return DBE_E_MALFORMED;
    const struct dbe_msg_row *row = dbe_reg_msg(bytes[AT_TYPE]);
    if (row == NULL)
        return DBE_E_UNSUPPORTED;
    *ret_id = base_get_u64(bytes + AT_CORRELATION);
    *ret_reply_type = row->reply != 0 ? row->reply : row->type; /* a type without a reply type answers with itself */
    return DBE_OK;
}

static dbe_err start_call(struct dbe_peer *p, const uint8_t *bytes, size_t len, uint64_t deadline_ns,
                          const struct node_call *what)
{
    struct dbe_node *node = p->node;
    struct node_tick *tick = NULL;

    if (p->call_count >= node->calls_max)
        return DBE_E_LIMIT;
    if (find(p, what->id) != NULL)
        return DBE_E_DUPLICATE;
    DBE_TRY(make_room(p));
    struct node_call *call = call_alloc(node);
    if (call == NULL)
        return DBE_E_NOMEM;
    dbe_err err = tick_at(node, deadline_ns, &tick);
    if (err == DBE_OK)
        err = out_message(p, bytes, len, true);
    if (err != DBE_OK) {
        call_keep(node, call);
        return err;
    }
    *call = *what;
    struct node_call **at = bucket_of(p, call->id);
    call->next = *at;
    *at = call;
    tick_add(tick, call);
    p->call_count++;
    node->call_count++;
    return DBE_OK;
}

dbe_err dbe_call(struct dbe_peer *p, const void *bytes, size_t len, uint64_t deadline_ns, dbe_reply_fn *fn, void *ctx,
                 uint64_t *ret_call_id)
{
    struct node_call what = {.peer = p, .fn = fn, .ctx = ctx};

    if (p->state != PEER_UP || p->doom != DBE_OK)
        return DBE_E_CLOSED;
    node_enter(p->node);
    const uint64_t now_ns = node_now_ns(p->node);
    const uint64_t latest_ns = now_ns + (uint64_t)DBE_CALL_TIMEOUT_MAX_MS * BASE_NS_PER_MS;
    dbe_err err = deadline_ns > now_ns ? read_request(bytes, len, &what.id, &what.reply_type) : DBE_E_TIMEOUT;
    if (err == DBE_OK)
        err = start_call(p, bytes, len, BASE_MIN(deadline_ns, latest_ns), &what);
    node_leave(p->node);
    if (err == DBE_OK && ret_call_id != NULL)
        *ret_call_id = what.id;
    return err;
}

bool call_known(const struct dbe_peer *p, uint64_t id)
{
    return find(p, id) != NULL;
}

void dbe_call_cancel(struct dbe_peer *p, uint64_t call_id)
{
    struct node_call **at = find(p, call_id);

    if (at != NULL)
        call_remove(at);
}
