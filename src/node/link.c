/* SPDX-License-Identifier: Apache-2.0
 *
 * link.c - a channel that is kept up: connects, reconnects with back-off and jitter.
 *
 * In:   an address and whom to expect there    Out: peers (peer.c)
 * Does: waits longer after each failure, up to a limit; only a channel that lived for a while resets the wait, so
 *       that a peer that accepts and refuses at once is not hammered. Where nobody listens an attempt costs one system
 *       call and nobody else anything: there the wait stays short, and who begins to listen is found at once.
 */
#include "node_impl.h"

#include <string.h>

static const char clause[] = "link";

static uint64_t jittered_ms(uint64_t delay_ms)
{
    uint32_t r = 0;

    if (base_random(&r, sizeof r) != DBE_OK)
        return delay_ms;
    return delay_ms / 2 + r % (delay_ms / 2 + 1);
}

static void try_later(struct dbe_link *link)
{
    dues_set(&link->node->dues, &link->due, base_mono_ns() + jittered_ms(link->delay_ms) * BASE_NS_PER_MS);
    link->delay_ms = BASE_MIN(link->delay_ms * 2, (uint64_t)NODE_LINK_LAST_MS);
}

static void failed(struct dbe_link *link, dbe_err why, const struct dbe_diag *diag)
{
    link->last = why;
    link->diag = *diag;
}

void link_peer_gone(struct dbe_link *link, dbe_err why, const struct dbe_diag *diag)
{
    const struct dbe_peer *p = link->peer;

    if (p->known && base_mono_ns() - p->up_ns >= (uint64_t)NODE_LINK_STABLE_MS * BASE_NS_PER_MS)
        link->delay_ms = NODE_LINK_FIRST_MS;
    link->peer = NULL;
    failed(link, why, diag);
    try_later(link);
}

void link_peer_up(struct dbe_link *link)
{
    link->last = DBE_OK;
    link->diag = (struct dbe_diag){0};
}

dbe_err link_accepts(const struct dbe_link *link, const struct dbe_identity *id, struct dbe_diag *diag)
{
    if (link->role != 0 && link->role != id->role) {
        const struct dbe_role_row *row = dbe_reg_role(link->role);
        return dbe_fail(diag, DBE_E_CERT, clause, 0, "%.100s answered where a %s was expected", id->spiffe_id,
                        row != NULL ? row->path : "node of another role");
    }
    if (link->device >= 0 && link->device != id->device)
        return dbe_fail(diag, DBE_E_CERT, clause, 0, "%.100s answered where device %d was expected", id->spiffe_id,
                        link->device);
    return DBE_OK;
}

/* One attempt. On success the peer's callbacks tell how it goes on. */
static dbe_err attempt(struct dbe_link *link, struct dbe_diag *diag)
{
    struct dbe_node *node = link->node;
    struct dbe_peer *peer = NULL;

    dbe_err err = peer_new(node, link, &peer);
    if (err != DBE_OK)
        return dbe_fail(diag, err, clause, 0, "no memory for a channel");
    err = tp_connect(node->loop, link->address, &peer_conn_ops, peer, DBE_RECORD_MAX_BYTES, &peer->conn, diag);
    if (err == DBE_OK)
        err = node_check_cred(peer->conn, diag);
    if (err == DBE_OK) {
        link->peer = peer;
        return DBE_OK;
    }
    peer_discard(peer);
    return err;
}

static void connect_now(struct dbe_link *link)
{
    struct dbe_diag diag = {0};
    const uint64_t delay_ms = link->delay_ms;
    dbe_err err = attempt(link, &diag);

    if (err == DBE_OK)
        return;
    failed(link, err, &diag);
    if (err == DBE_E_UNAVAILABLE)
        link->delay_ms = NODE_LINK_ABSENT_MS;
    try_later(link);
    if (err == DBE_E_UNAVAILABLE)
        link->delay_ms = delay_ms; /* one that refused, went and came back is no better for it */
}

static void on_due(struct node_due *due)
{
    connect_now((struct dbe_link *)(void *)((char *)due - offsetof(struct dbe_link, due)));
}

dbe_err dbe_node_link(struct dbe_node *node, const char *address, uint8_t role, int device, struct dbe_link **ret)
{
    if (node->closing)
        return DBE_E_CLOSED;
    if (strlen(address) >= TP_ADDRESS_MAX)
        return DBE_E_ARGUMENT;
    if (node->link_count >= node->links_max)
        return DBE_E_LIMIT;
    struct dbe_link *link = base_alloc(1, sizeof *link);
    if (link == NULL)
        return DBE_E_NOMEM;
    dbe_err err = dues_reserve(&node->dues, &link->due, on_due);
    if (err != DBE_OK) {
        base_free(link);
        return err;
    }
    link->node = node;
    link->role = role;
    link->device = device;
    link->delay_ms = NODE_LINK_FIRST_MS;
    memcpy(link->address, address, strlen(address) + 1);
    link->next = node->links;
    if (link->next != NULL)
        link->next->prev = link;
    node->links = link;
    node->link_count++;
    node_enter(node);
    connect_now(link);
    err = link->last == DBE_E_ARGUMENT ? DBE_E_ARGUMENT : DBE_OK; /* no address: trying again cannot help */
    if (err != DBE_OK)
        dbe_link_close(link);
    else
        *ret = link;
    node_leave(node);
    return err;
}

void dbe_link_close(struct dbe_link *link)
{
    if (link == NULL || link->closed) /* a callback on the way down may close it again */
        return;
    link->closed = true;
    struct dbe_node *node = link->node;
    struct dbe_peer *peer = link->peer;

    node_enter(node);
    if (link->prev != NULL)
        link->prev->next = link->next;
    else
        node->links = link->next;
    if (link->next != NULL)
        link->next->prev = link->prev;
    node->link_count--;
    link->next = node->dead_links;
    node->dead_links = link;
    link->peer = NULL;
    dues_clear(&node->dues, &link->due);
    if (peer != NULL) {
        peer->link = NULL;
        dbe_peer_close(peer, node->closing ? DBE_E_CANCELLED : DBE_E_CLOSED);
    }
    node_leave(node);
}

void link_free(struct dbe_link *link)
{
    dues_release(&link->node->dues, &link->due);
    base_free(link);
}

struct dbe_peer *dbe_link_peer(const struct dbe_link *link)
{
    return link->peer != NULL && link->peer->state == PEER_UP ? link->peer : NULL;
}

dbe_err dbe_link_last_error(const struct dbe_link *link, struct dbe_diag *ret_diag)
{
    if (ret_diag != NULL)
        *ret_diag = link->diag;
    return link->last;
}
