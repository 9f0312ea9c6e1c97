/* SPDX-License-Identifier: Apache-2.0
 *
 * call.c - requests in flight: a table by correlation id for each peer, deadlines, streamed answers.
 *
 * In:   requests of the owner, messages from the peer    Out: answers to whoever asked
 * Does: tells answers from requests by correlation id and type together, so that a peer cannot pass a request off as an
 *       answer or the other way round.
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

/* Out of the table; the caller frees it. */
static struct node_call *take(struct dbe_peer *p, struct node_call **at)
{
    struct node_call *call = *at;

    *at = call->next;
    p->call_count--;
    return call;
}

static void call_free(struct node_call *call)
{
    dues_release(&call->peer->node->dues, &call->due);
    base_free(call);
}

/* The call is over without an answer. It is out of the table before its owner hears, who may call again. */
static void call_end(struct node_call **at, dbe_err why)
{
    struct node_call *call = take((*at)->peer, at);
    dbe_reply_fn *fn = call->fn;
    void *ctx = call->ctx;

    call_free(call);
    fn(ctx, NULL, true, why);
}

static void on_deadline(struct node_due *due)
{
    struct node_call *call = (struct node_call *)(void *)((char *)due - offsetof(struct node_call, due));
    struct node_call **at = find(call->peer, call->id);

    BASE_INVARIANT(at != NULL && *at == call);
    call->peer->node->stats.calls_timed_out++;
    call_end(at, DBE_E_TIMEOUT);
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
        call_free(take(p, at));
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

static dbe_err call_new(struct dbe_peer *p, const struct dbe_msg *msg, dbe_reply_fn *fn, void *ctx,
                        struct node_call **ret)
{
    const struct dbe_msg_row *row = dbe_reg_msg(msg->type);

    if (row == NULL)
        return DBE_E_UNSUPPORTED;
    if (p->call_count >= DBE_CALLS_IN_FLIGHT_MAX)
        return DBE_E_LIMIT;
    if (find(p, msg->correlation_id) != NULL)
        return DBE_E_DUPLICATE;
    DBE_TRY(make_room(p));
    struct node_call *call = base_alloc(1, sizeof *call);
    if (call == NULL)
        return DBE_E_NOMEM;
    call->peer = p;
    call->id = msg->correlation_id;
    call->reply_type = row->reply != 0 ? row->reply : row->type; /* a type without a reply type answers with itself */
    call->fn = fn;
    call->ctx = ctx;
    dbe_err err = dues_reserve(&p->node->dues, &call->due, on_deadline);
    if (err != DBE_OK) {
        base_free(call);
        return err;
    }
    *ret = call;
    return DBE_OK;
}

dbe_err dbe_call(struct dbe_peer *p, const void *bytes, size_t len, uint64_t deadline_ns, dbe_reply_fn *fn, void *ctx,
                 uint64_t *ret_call_id)
{
    const uint64_t now_ns = base_mono_ns();
    const uint64_t latest_ns = now_ns + (uint64_t)DBE_CALL_TIMEOUT_MAX_MS * BASE_NS_PER_MS;
    struct node_call *call = NULL;
    struct dbe_msg msg;

    if (p->state != PEER_UP || p->doom != DBE_OK)
        return DBE_E_CLOSED;
    if (deadline_ns <= now_ns)
        return DBE_E_TIMEOUT;
    DBE_TRY(dbe_msg_decode(bytes, len, &msg, NULL));
    DBE_TRY(call_new(p, &msg, fn, ctx, &call));
    dbe_err err = dbe_send(p, bytes, len);
    if (err != DBE_OK) {
        call_free(call);
        return err;
    }
    struct node_call **at = bucket_of(p, call->id);
    call->next = *at;
    *at = call;
    p->call_count++;
    dues_set(&p->node->dues, &call->due, BASE_MIN(deadline_ns, latest_ns));
    if (ret_call_id != NULL)
        *ret_call_id = call->id;
    return DBE_OK;
}

void dbe_call_cancel(struct dbe_peer *p, uint64_t call_id)
{
    struct node_call **at = find(p, call_id);

    if (at != NULL)
        call_free(take(p, at));
}
