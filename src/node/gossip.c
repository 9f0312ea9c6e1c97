/* SPDX-License-Identifier: Apache-2.0
 *
 * gossip.c - lists of revoked certificates between nodes (spec 8.13, 8.14, 12.13): taken, obeyed, passed on.
 *
 * In:   REVOCATIONS messages, lists that the key directory brought    Out: the same to every peer that has not got it
 * Does: closes channels that rest on a revoked certificate at once; hands lists out a part at a time, so that ten
 *       thousand peers and a large list neither stop the messages nor fill the memory.
 * Does not: judge a list: the trust anchor does. The payload is one field of protobuf, read and written here, for this
 *           room knows no payloads.
 */
#include "node_impl.h"

#include <string.h>

enum {
    CRL_TAG = 0x0A, /* RevocationList.crl: field 1, length-delimited */
    WIRE_VARINT = 0,
    WIRE_I64 = 1,
    WIRE_LEN = 2,
    WIRE_I32 = 5,
    VARINT_MAX_BYTES = 10,
};

/* ---- the payload ----------------------------------------------------------------------------------------------- */

static uint64_t read_varint(struct base_cur *c)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < VARINT_MAX_BYTES; i++) {
        const uint8_t byte = base_cur_u8(c);
        v |= (uint64_t)(byte & 0x7F) << (7 * i);
        if ((byte & 0x80) == 0)
            return v;
    }
    c->bad = true;
    return 0;
}

static const uint8_t *read_bytes(struct base_cur *c, size_t *ret_len)
{
    const uint64_t len = read_varint(c);

    *ret_len = len <= base_cur_left(c) ? (size_t)len : SIZE_MAX;
    return base_cur_bytes(c, *ret_len);
}

static void skip_field(struct base_cur *c, uint64_t tag)
{
    size_t len = 0;

    switch (tag & 7) {
    case WIRE_VARINT: (void)read_varint(c); break;
    case WIRE_I64: (void)base_cur_bytes(c, 8); break;
    case WIRE_LEN: (void)read_bytes(c, &len); break;
    case WIRE_I32: (void)base_cur_bytes(c, 4); break;
    default: c->bad = true;
    }
}

dbe_err gossip_read(const void *payload, size_t len, const uint8_t **ret_der, size_t *ret_len)
{
    struct base_cur c = base_cur_of(payload, len);
    const uint8_t *der = NULL;
    size_t der_len = 0;

    while (base_cur_ok(&c) && base_cur_left(&c) > 0) {
        const uint64_t tag = read_varint(&c);
        if (tag == CRL_TAG)
            der = read_bytes(&c, &der_len); /* the last one counts, as protobuf has it */
        else
            skip_field(&c, tag);
    }
    DBE_TRY(base_cur_end(&c));
    if (der == NULL || der_len == 0)
        return DBE_E_MALFORMED;
    *ret_der = der;
    *ret_len = der_len;
    return DBE_OK;
}

/* A whole message with the list in it; free with base_free. NULL: no memory. */
static uint8_t *build(const uint8_t *der, size_t len, size_t *ret_len)
{
    const size_t cap = DBE_HEADER_BYTES + 1 + VARINT_MAX_BYTES + len;
    uint8_t *msg = base_alloc(cap, 1), head[1 + VARINT_MAX_BYTES] = {CRL_TAG}, *payload;
    struct dbe_builder b;
    size_t head_len = 1;

    if (msg == NULL)
        return NULL;
    for (size_t left = len; left > 0 || head_len == 1; left >>= 7)
        head[head_len++] = (uint8_t)((left & 0x7F) | (left > 0x7F ? 0x80 : 0));
    dbe_build_begin(&b, msg, cap, DBE_MSG_REVOCATIONS, DBE_FLAG_REPLAY_PROTECTED, 0);
    payload = dbe_build_payload_room(&b, head_len + len);
    if (payload != NULL) {
        memcpy(payload, head, head_len);
        memcpy(payload + head_len, der, len);
    }
    if (dbe_build_end(&b, ret_len) != DBE_OK) {
        base_free(msg);
        return NULL;
    }
    return msg;
}

/* ---- handing out ----------------------------------------------------------------------------------------------- */

static void again_in(struct dbe_node *node, uint64_t ms)
{
    dues_set(&node->dues, &node->gossip_due, base_mono_ns() + ms * BASE_NS_PER_MS);
}

/* Give `msg` to every peer that has an older list. Returns in how many milliseconds to go on; 0: all have it. */
static uint64_t hand_out(struct dbe_node *node, const uint8_t *msg, size_t len, uint64_t number)
{
    size_t given = 0;
    uint64_t again_ms = 0;

    for (struct dbe_peer *p = node->peers.first; p != NULL; p = p->next) {
        if (p->state != PEER_UP || p->doom != DBE_OK || p->list_sent >= number)
            continue;
        if (given >= NODE_GOSSIP_BYTES)
            return NODE_GOSSIP_PAUSE_MS;
        dbe_err err = dbe_peer_queued_bytes(p) > node->queue_low ? DBE_E_LIMIT : out_message(p, msg, len, true);
        if (err == DBE_OK)
            p->list_sent = number;
        else if (err != DBE_E_TOO_LARGE) /* a queue that never takes it: the peer learns it from others */
            again_ms = NODE_GOSSIP_RETRY_MS;
        given += len;
    }
    return again_ms;
}

void gossip_due(struct node_due *due)
{
    struct dbe_node *node = (struct dbe_node *)(void *)((char *)due - offsetof(struct dbe_node, gossip_due));
    const uint8_t *der = NULL;
    size_t der_len = 0, len = 0;
    uint64_t number = 0;

    dbe_trust_revocations(node->config.trust, &der, &der_len, &number);
    if (number == 0)
        return;
    uint8_t *msg = build(der, der_len, &len);
    const uint64_t again_ms = msg == NULL ? NODE_GOSSIP_RETRY_MS : hand_out(node, msg, len, number);
    base_free(msg);
    if (again_ms > 0)
        again_in(node, again_ms);
}

void gossip_peer_up(struct dbe_peer *p)
{
    uint64_t number = 0;

    dbe_trust_revocations(p->node->config.trust, NULL, NULL, &number);
    if (number > 0)
        again_in(p->node, 0);
}

/* ---- taking ---------------------------------------------------------------------------------------------------- */

void dbe_node_recheck(struct dbe_node *node)
{
    node_enter(node);
    for (struct dbe_peer *p = node->peers.first; p != NULL; p = p->next)
        peer_judge(p);
    peer_run_soon(node); /* nothing more is heard of those that are revoked */
    node_leave(node);
}

void gossip_adopted(struct dbe_node *node, struct dbe_peer *from)
{
    const struct dbe_node_ops *ops = node->config.ops;
    const struct dbe_diag none = {0};
    uint64_t number = 0;

    dbe_trust_revocations(node->config.trust, NULL, NULL, &number);
    if (from != NULL)
        from->list_sent = BASE_MAX(from->list_sent, number);
    if (number == node->list_number)
        return;
    node->list_number = number;
    again_in(node, 0);
    if (ops->on_revocations != NULL)
        ops->on_revocations(node->config.ctx, number, DBE_OK, &none);
    dbe_node_recheck(node);
}

void gossip_take(struct dbe_peer *p, const struct dbe_msg *msg)
{
    struct dbe_node *node = p->node;
    const struct dbe_node_ops *ops = node->config.ops;
    const uint8_t *der = NULL;
    size_t len = 0;
    struct dbe_diag diag = {0};
    dbe_err err = gossip_read(msg->payload, msg->payload_len, &der, &len);

    node->stats.revocations_in++;
    if (err == DBE_OK)
        err = dbe_trust_set_revocations(node->config.trust, der, len, &diag);
    else
        (void)dbe_fail(&diag, err, "spec 12.13", 0, "the payload is no RevocationList");
    if (err == DBE_OK && watch_dir(node) != NULL) {
        dbe_err saved = dbe_keys_save_revocations(watch_dir(node), der, len, NULL);
        (void)saved; /* it counts all the same; whoever starts later gets it from a peer, too */
    }
    if (err == DBE_OK || err == DBE_E_EXISTS) { /* another node of this process may have adopted it before us */
        gossip_adopted(node, err == DBE_OK ? p : NULL);
        return;
    }
    node->stats.malformed++;
    if (ops->on_malformed != NULL)
        ops->on_malformed(node->config.ctx, p, err, &diag);
}
