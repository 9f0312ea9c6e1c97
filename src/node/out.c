/* SPDX-License-Identifier: Apache-2.0
 *
 * out.c - what a peer is told: gathered, sealed, written; and what happens when it does not read.
 *
 * In:   messages of the owner    Out: records for the transport
 * Does: gathers the small messages of a turn into one record, which is sealed where it stands when the turn ends, when
 *       it is full, or before the session says something of its own; seals large ones straight from the caller's
 *       memory. Bounds what waits, here and in the transport together.
 * Does not: call back while sending: a write that fails ends the channel from the node's timer.
 */
#include "node_impl.h"

#include <string.h>

/* ---- the buffer ------------------------------------------------------------------------------------------------ */

/* A peer has memory for its output only while it has output: ten thousand idle ones share what a few need. */
static void take_spare(struct dbe_peer *p)
{
    struct dbe_node *node = p->node;

    if (p->out.cap == 0 && node->spare_count > 0)
        p->out = node->spares[--node->spare_count];
}

static void give_back(struct dbe_peer *p)
{
    struct dbe_node *node = p->node;

    p->gather_at = NODE_NO_GATHER;
    base_buf_clear(&p->out);
    if (p->out.cap > NODE_OUT_KEEP_BYTES || node->spare_count == NODE_OUT_SPARES) {
        base_buf_free(&p->out);
    } else if (p->out.cap > 0) {
        node->spares[node->spare_count++] = p->out;
        base_buf_init(&p->out, DBE_SEND_QUEUE_MAX_BYTES);
    }
}

dbe_err out_reserve(struct dbe_peer *p, size_t len)
{
    take_spare(p);
    if (p->out.cap - p->out.len >= len)
        return DBE_OK;
    if (base_buf_grow(&p->out, len) == NULL) {
        dbe_err err = p->out.err;
        p->out.err = DBE_OK;
        return err;
    }
    p->out.len -= len;
    return DBE_OK;
}

void out_free(struct dbe_peer *p)
{
    base_buf_free(&p->out);
}

void out_dirty(struct dbe_peer *p)
{
    if (p->dirty || p->out.len == 0)
        return;
    p->dirty = true;
    p->next_dirty = p->node->dirty;
    p->node->dirty = p;
}

/* ---- records --------------------------------------------------------------------------------------------------- */

dbe_err out_seal(struct dbe_peer *p)
{
    const size_t at = p->gather_at;

    if (at == NODE_NO_GATHER)
        return DBE_OK;
    p->gather_at = NODE_NO_GATHER;
    dbe_err err = sess_seal_in_place(p->sess, at, node_now_ns(p->node), &p->out);
    if (err != DBE_OK) { /* what was not sealed is not sent */
        base_wipe(p->out.data + at, p->out.len - BASE_MIN(at, p->out.len));
        p->out.len = at;
    }
    return err;
}

static dbe_err gather(struct dbe_peer *p, const void *bytes, size_t len)
{
    if (p->gather_at != NODE_NO_GATHER && p->out.len - p->gather_at + len > NODE_GATHER_BYTES)
        DBE_TRY(out_seal(p));
    DBE_TRY(out_reserve(p, DBE_RECORD_HEADER_BYTES + len + NODE_SEAL_EXTRA_BYTES));
    if (p->gather_at == NODE_NO_GATHER) {
        p->gather_at = p->out.len;
        p->out.len += DBE_RECORD_HEADER_BYTES;
    }
    memcpy(p->out.data + p->out.len, bytes, len);
    p->out.len += len;
    return DBE_OK;
}

/* Where the peer reads more slowly than we write, a large message is sealed straight into what waits. True if it was
 * tried; *ret says how it went. */
static bool seal_into_queue(struct dbe_peer *p, const void *bytes, size_t len, dbe_err *ret)
{
    const size_t record = DBE_RECORD_HEADER_BYTES + len + NODE_SEAL_EXTRA_BYTES;
    struct base_buf room;

    if (p->conn == NULL || len <= NODE_GATHER_MSG_BYTES || tp_queued_bytes(p->conn) == 0)
        return false;
    out_flush(p); /* what was said before goes before */
    void *at = p->doom == DBE_OK ? tp_send_room(p->conn, record) : NULL;
    if (at == NULL)
        return false;
    base_buf_init_fixed(&room, at, record);
    *ret = sess_seal(p->sess, bytes, len, node_now_ns(p->node), &room);
    if (*ret == DBE_OK)
        tp_send_room_used(p->conn, room.len);
    return *ret != DBE_E_TOO_LARGE; /* more is owed than the room was made for: it is still owed */
}

static dbe_err seal_alone(struct dbe_peer *p, const void *bytes, size_t len)
{
    dbe_err err = DBE_OK;

    DBE_TRY(out_seal(p));
    if (seal_into_queue(p, bytes, len, &err))
        return err;
    DBE_TRY(out_reserve(p, DBE_RECORD_HEADER_BYTES + len + NODE_SEAL_EXTRA_BYTES));
    return sess_seal(p->sess, bytes, len, node_now_ns(p->node), &p->out);
}

/* ---- sending --------------------------------------------------------------------------------------------------- */

static void doom(struct dbe_peer *p, dbe_err why)
{
    if (p->doom != DBE_OK || p->state == PEER_ENDED)
        return;
    p->doom = why;
    peer_soon(p);
}

void out_flush(struct dbe_peer *p)
{
    if (p->conn == NULL || p->out.len == 0)
        return;
    dbe_err sealed = out_seal(p);
    dbe_err err = p->doom == DBE_OK && p->out.len > 0 ? tp_send(p->conn, p->out.data, p->out.len) : DBE_OK;
    give_back(p);
    if (sealed != DBE_OK || err != DBE_OK)
        doom(p, sealed != DBE_OK ? sealed : err);
    if (p->full)
        peer_soon(p); /* the transport took all of it: nobody else would say so */
}

dbe_err out_result(struct dbe_peer *p, dbe_err err)
{
    if (err != DBE_OK && !sess_is_up(p->sess))
        doom(p, err); /* it died of this: keys or the library failed */
    out_dirty(p);
    return err;
}

void out_owed(struct dbe_peer *p)
{
    dbe_err err = out_seal(p);

    if (err == DBE_OK) {
        take_spare(p);
        err = sess_flush(p->sess, node_now_ns(p->node), &p->out);
        p->out.err = DBE_OK;
    }
    if (err != DBE_OK)
        doom(p, err);
    out_dirty(p);
}

dbe_err out_message(struct dbe_peer *p, const void *bytes, size_t len, bool framed)
{
    const size_t record = DBE_RECORD_HEADER_BYTES + len + DBE_RECORD_TAG_BYTES + NODE_SEAL_EXTRA_BYTES;

    if (p->state != PEER_UP || p->doom != DBE_OK)
        return DBE_E_CLOSED;
    if (len > DBE_MESSAGE_MAX_BYTES)
        return DBE_E_TOO_LARGE;
    if (record > p->node->queue_max)
        return DBE_E_TOO_LARGE;
    if (dbe_peer_queued_bytes(p) + record > p->node->queue_max) {
        p->full = true;
        return DBE_E_LIMIT;
    }
    DBE_TRY(out_result(p, framed && len <= NODE_GATHER_MSG_BYTES ? gather(p, bytes, len) : seal_alone(p, bytes, len)));
    p->node->stats.messages_out++;
    p->node->stats.bytes_out += len;
    if (p->out.len >= NODE_FLUSH_BYTES)
        out_flush(p);
    return DBE_OK;
}

dbe_err dbe_send(struct dbe_peer *p, const void *bytes, size_t len)
{
    size_t announced = 0;
    /* What is no message shares no record: it spoils the reading of nothing but itself. */
    bool framed = len >= DBE_HEADER_BYTES && dbe_msg_peek_len(bytes, &announced) == DBE_OK && announced == len;

    node_enter(p->node);
    dbe_err err = out_message(p, bytes, len, framed);
    node_leave(p->node);
    return err;
}

size_t dbe_peer_queued_bytes(const struct dbe_peer *p)
{
    return p->out.len + (p->conn == NULL ? 0 : tp_queued_bytes(p->conn));
}

void out_tell_drained(struct dbe_peer *p)
{
    const struct dbe_node_ops *ops = p->node->config.ops;

    if (!p->full || p->state != PEER_UP || dbe_peer_queued_bytes(p) > p->node->queue_low)
        return;
    p->full = false;
    if (ops->on_drained != NULL)
        ops->on_drained(p->node->config.ctx, p);
}
