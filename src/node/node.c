/* SPDX-License-Identifier: Apache-2.0
 *
 * node.c - the member of the mesh as a whole: made, listening, accepting, freed.
 *
 * In:   addresses to listen on, connections from the transport    Out: peers (peer.c)
 * Does: refuses strangers cheaply - another user, too many peers - and lets a flood of half-open handshakes push out
 *       its own oldest members instead of everybody else.
 */
#include "node_impl.h"

#include <string.h>
#include <unistd.h>

static const char clause[] = "node";

/* ---- entering and leaving -------------------------------------------------------------------------------------- */

void node_enter(struct dbe_node *node)
{
    if (node->depth++ == 0)
        node->now_known = false;
}

uint64_t node_now_ns(struct dbe_node *node)
{
    if (!node->now_known) {
        node->now_ns = base_mono_ns();
        node->now_known = true;
    }
    return node->now_ns;
}

static void flush_dirty(struct dbe_node *node)
{
    while (node->dirty != NULL) {
        struct dbe_peer *peer = node->dirty;
        node->dirty = peer->next_dirty;
        peer->dirty = false;
        out_flush(peer);
    }
}

static void reap(struct dbe_node *node)
{
    while (node->dead != NULL) {
        struct dbe_peer *peer = node->dead;
        node->dead = peer->next;
        peer_free(peer);
    }
    while (node->dead_links != NULL) {
        struct dbe_link *link = node->dead_links;
        node->dead_links = link->next;
        link_free(link);
    }
}

void node_leave(struct dbe_node *node)
{
    BASE_INVARIANT(node->depth > 0);
    if (node->depth == 1) {
        flush_dirty(node);
        reap(node);
    }
    node->depth--;
}

static void on_timer(void *ctx)
{
    struct dbe_node *node = ctx;

    node_enter(node);
    dues_run(&node->dues, node_now_ns(node));
    node_leave(node);
}

static void on_soon(struct node_due *due)
{
    peer_run_soon((struct dbe_node *)(void *)((char *)due - offsetof(struct dbe_node, soon_due)));
}

/* ---- lists of peers -------------------------------------------------------------------------------------------- */

void node_list_add(struct node_list *list, struct dbe_peer *p)
{
    p->list = list;
    p->next = NULL;
    p->prev = list->last;
    if (p->prev != NULL)
        p->prev->next = p;
    else
        list->first = p;
    list->last = p;
}

void node_list_remove(struct dbe_peer *p)
{
    if (p->prev != NULL)
        p->prev->next = p->next;
    else
        p->list->first = p->next;
    if (p->next != NULL)
        p->next->prev = p->prev;
    else
        p->list->last = p->prev;
    p->next = p->prev = NULL;
    p->list = NULL;
}

/* ---- accepting ------------------------------------------------------------------------------------------------- */

dbe_err node_check_cred(const struct tp_conn *conn, struct dbe_diag *diag)
{
    uint32_t uid = 0;
    int32_t pid = 0;
    dbe_err err = tp_peer_cred(conn, &uid, &pid);

    if (err == DBE_E_NOT_FOUND)
        return DBE_OK; /* this transport has no such thing; the handshake decides alone */
    if (err != DBE_OK)
        return dbe_fail(diag, err, clause, 0, "cannot tell who is at the other end");
    if (uid != geteuid() && uid != 0)
        return dbe_fail(diag, DBE_E_PERMISSION, clause, 0, "process %d at the other end belongs to user %u", pid, uid);
    return DBE_OK;
}

static dbe_err accept_one(struct dbe_node *node, struct tp_conn *conn)
{
    struct dbe_peer *peer = NULL;
    struct dbe_diag diag = {0};

    if (node->closing)
        return DBE_E_CLOSED;
    if (node->up_count >= node->peers_max)
        return DBE_E_LIMIT;
    DBE_TRY(node_check_cred(conn, NULL));
    if (node->half_open_count >= NODE_HALF_OPEN_MAX)
        peer_end(node->half_open.first, DBE_E_LIMIT,
                 (dbe_fail(&diag, DBE_E_LIMIT, clause, 0, "too many handshakes at a time"), &diag));
    DBE_TRY(peer_new(node, NULL, &peer));
    dbe_err err = tp_conn_start(conn, &peer_conn_ops, peer, DBE_RECORD_MAX_BYTES);
    if (err != DBE_OK) {
        peer_discard(peer);
        return err;
    }
    peer->conn = conn;
    return DBE_OK;
}

static void on_accept(void *ctx, struct tp_conn *conn)
{
    struct dbe_node *node = ctx;

    node_enter(node);
    if (accept_one(node, conn) != DBE_OK) {
        node->stats.handshakes_failed++;
        tp_close(conn, false);
    }
    node_leave(node);
}

dbe_err dbe_node_listen(struct dbe_node *node, const char *address, struct dbe_diag *diag)
{
    if (node->listener_count == NODE_LISTENERS_MAX)
        return dbe_fail(diag, DBE_E_LIMIT, clause, 0, "a node listens on at most %d addresses", NODE_LISTENERS_MAX);
    DBE_TRY(tp_listen(node->loop, address, on_accept, node, &node->listeners[node->listener_count], diag));
    node->listener_count++;
    return DBE_OK;
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

/* A type that some request names as its reply and that asks for nothing itself can only be an answer. */
static void find_answer_types(bool answer_only[256])
{
    for (unsigned t = 0; t < 256; t++) {
        const struct dbe_msg_row *row = dbe_reg_msg((uint8_t)t);
        if (row == NULL || row->reply == 0)
            continue;
        const struct dbe_msg_row *reply = dbe_reg_msg(row->reply);
        if (reply != NULL && reply->reply == 0)
            answer_only[reply->type] = true;
    }
    answer_only[DBE_MSG_ERROR] = true;
}

static dbe_err check_config(const struct dbe_node_config *c)
{
    if (c->credential == NULL || c->trust == NULL || c->ops == NULL || c->ops->on_message == NULL)
        return DBE_E_ARGUMENT;
    if (c->peers_max > DBE_PEERS_LIMIT || c->calls_max > DBE_CALLS_IN_FLIGHT_MAX ||
        c->send_queue_max_bytes > DBE_SEND_QUEUE_MAX_BYTES)
        return DBE_E_ARGUMENT;
    return DBE_OK;
}

static void take_config(struct dbe_node *node, const struct dbe_node_config *c)
{
    node->config = *c;
    node->config.suites = NULL; /* borrowed no longer than this */
    node->suites_count = c->suites_count;
    if (c->suites_count > 0)
        memcpy(node->suites, c->suites, c->suites_count * sizeof node->suites[0]);
    node->peers_max = c->peers_max == 0 ? (uint32_t)DBE_PEERS_MAX : c->peers_max;
    node->links_max = BASE_MAX(node->peers_max, (uint32_t)NODE_LINKS_MIN);
    node->calls_max = c->calls_max == 0 ? (uint32_t)DBE_CALLS_IN_FLIGHT_MAX : c->calls_max;
    node->queue_max = c->send_queue_max_bytes == 0 ? (size_t)DBE_SEND_QUEUE_MAX_BYTES : c->send_queue_max_bytes;
    node->queue_low = BASE_MIN((size_t)DBE_SEND_QUEUE_LOW_BYTES, node->queue_max / 4);
    dbe_trust_revocations(c->trust, NULL, NULL, &node->list_number);
}

dbe_err dbe_node_new(struct dbe_loop *loop, const struct dbe_node_config *config, struct dbe_node **ret)
{
    DBE_TRY(check_config(config));
    DBE_TRY(crypto_init(NULL));
    DBE_TRY(control_check_suites(config->suites, config->suites_count));
    struct dbe_node *node = base_alloc(1, sizeof *node);
    if (node == NULL)
        return DBE_E_NOMEM;
    node->loop = loop;
    take_config(node, config);
    find_answer_types(node->answer_only);
    dbe_err err = base_random(&node->hash_seed, sizeof node->hash_seed);
    if (err == DBE_OK)
        err = base_loop_timer(loop, on_timer, node, &node->dues.timer);
    if (err == DBE_OK)
        err = dues_reserve(&node->dues, &node->soon_due, on_soon);
    if (err == DBE_OK)
        err = dues_reserve(&node->dues, &node->swap_due, control_swap_due);
    if (err == DBE_OK)
        err = dues_reserve(&node->dues, &node->gossip_due, gossip_due);
    if (err == DBE_OK)
        err = dues_reserve(&node->dues, &node->policy_due, control_policy_due);
    if (err != DBE_OK) {
        dues_fini(&node->dues);
        base_free(node);
        return err;
    }
    *ret = node;
    return DBE_OK;
}

void dbe_node_free(struct dbe_node *node)
{
    if (node == NULL)
        return;
    BASE_INVARIANT(node->depth == 0); /* not from a callback: dbe/node.h */
    node_enter(node);
    node->closing = true;
    for (size_t i = 0; i < node->listener_count; i++)
        tp_listener_free(node->listeners[i]);
    while (node->links != NULL)
        dbe_link_close(node->links);
    while (node->peers.first != NULL)
        dbe_peer_close(node->peers.first, DBE_E_CANCELLED);
    while (node->half_open.first != NULL)
        dbe_peer_close(node->half_open.first, DBE_E_CANCELLED);
    node_leave(node);
    watch_free(node);
    call_fini(node);
    for (size_t i = 0; i < node->spare_count; i++)
        base_buf_free(&node->spares[i]);
    dues_fini(&node->dues);
    base_free(node);
}

void dbe_node_cork(struct dbe_node *node)
{
    node_enter(node);
}

void dbe_node_uncork(struct dbe_node *node)
{
    node_leave(node);
}

void dbe_node_stats(const struct dbe_node *node, struct dbe_node_stats *ret)
{
    *ret = node->stats;
    ret->peers = node->up_count;
    ret->calls_in_flight = node->call_count;
    dbe_trust_revocations(node->config.trust, NULL, NULL, &ret->revoked_number);
}
