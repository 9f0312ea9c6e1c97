/* SPDX-License-Identifier: Apache-2.0
 *
 * peer.c - one channel: handshake, messages in, messages out, end.
 *
 * In:   bytes from the transport    Out: messages to the owner; what the session says, to out.c
 * Does not: judge messages: that is policy's part, in the owner. Nor send them: out.c. Nor prove who is
 *           who: peer_auth.c.
 */
#include "node_impl.h"

static const char clause[] = "channel";

/* ---- certificates that end ------------------------------------------------------------------------------------- */

/* Look again when the certificate ends, or in a while: the wall clock may jump. */
static void watch_expiry(struct dbe_peer *p)
{
    const uint64_t now_ms = base_wall_ms(), end_ms = sess_peer(p->sess)->not_after_ms;
    const uint64_t left_ms = end_ms >= now_ms ? end_ms - now_ms + 1 : 1; /* it is good at not_after itself */

    dues_set(&p->node->dues, &p->due, base_mono_ns() + BASE_MIN(left_ms, (uint64_t)NODE_WALL_LOOK_MS) * BASE_NS_PER_MS);
}

void peer_judge(struct dbe_peer *p)
{
    if (p->state != PEER_UP || p->doom != DBE_OK)
        return;
    p->doom = dbe_trust_check(p->node->config.trust, sess_peer(p->sess), base_wall_ms(), NULL);
    if (p->doom != DBE_OK)
        peer_soon(p);
}

/* The end that was decided, with words for it. */
static void meet_doom(struct dbe_peer *p)
{
    struct dbe_diag diag = {0};

    if (p->state == PEER_UP) {
        dbe_err err = dbe_trust_check(p->node->config.trust, sess_peer(p->sess), base_wall_ms(), &diag);
        if (err != p->doom)
            diag = (struct dbe_diag){0};
    }
    p->node->stats.peers_revoked += p->doom == DBE_E_REVOKED;
    p->node->stats.peers_expired += p->doom == DBE_E_EXPIRED;
    peer_end(p, p->doom, &diag);
}

/* ---- from the node's timer ------------------------------------------------------------------------------------- */

void peer_soon(struct dbe_peer *p)
{
    struct dbe_node *node = p->node;

    if (p->soon)
        return;
    p->soon = true;
    p->next_soon = node->soon;
    node->soon = p;
    dues_set(&node->dues, &node->soon_due, base_mono_ns());
}

static void forget_soon(struct dbe_peer *p)
{
    struct dbe_peer **at = &p->node->soon;

    if (!p->soon)
        return;
    while (*at != p)
        at = &(*at)->next_soon;
    *at = p->next_soon;
    p->soon = false;
}

void peer_run_soon(struct dbe_node *node)
{
    size_t left = 0;

    for (const struct dbe_peer *p = node->soon; p != NULL; p = p->next_soon)
        left++;
    /* An owner who fills the queue again in on_drained gets another turn, not this one for ever: peer_soon armed it. */
    while (node->soon != NULL && left-- > 0) {
        struct dbe_peer *p = node->soon;
        forget_soon(p);
        if (p->doom != DBE_OK)
            meet_doom(p);
        else
            out_tell_drained(p);
    }
}

/* ---- receiving ------------------------------------------------------------------------------------------------- */

static void peer_up(struct dbe_peer *p)
{
    struct dbe_node *node = p->node;

    if (node->up_count >= node->peers_max) {
        peer_end(p, DBE_E_LIMIT, NULL);
        return;
    }
    p->state = PEER_UP;
    p->known = true;
    p->up_ns = base_mono_ns();
    p->handshake_us = (p->up_ns - p->began_ns) / BASE_NS_PER_US;
    peer_end_handshake(p, true);
    watch_expiry(p);
    node->up_count++;
    if (p->incoming) {
        node->half_open_count--;
        node_list_remove(p);
        node_list_add(&node->peers, p);
    }
    node->stats.handshakes_ok++;
    if (p->link != NULL)
        link_peer_up(p->link);
    control_peer_up(p);
    gossip_peer_up(p);
    if (node->config.ops->on_up != NULL)
        node->config.ops->on_up(node->config.ctx, p);
}

static void peer_switched(struct dbe_peer *p, dbe_err err)
{
    peer_end_handshake(p, err == DBE_OK);
    if (err == DBE_OK)
        watch_expiry(p);
    control_switched(p, err);
}

/* One message. What it says is checked here; what it may ask is not. */
static void take_message(struct dbe_peer *p, const uint8_t *bytes, size_t len)
{
    struct dbe_node *node = p->node;
    struct dbe_msg msg;
    dbe_err err = dbe_msg_decode(bytes, len, &msg, NULL);

    node->stats.messages_in++;
    node->stats.bytes_in += len;
    if (err != DBE_OK) {
        struct dbe_diag diag = {0};
        err = dbe_msg_decode(bytes, len, &msg, &diag); /* once more for the words, which a good message does not pay */
        node->stats.malformed++;
        if (node->config.ops->on_malformed != NULL)
            node->config.ops->on_malformed(node->config.ctx, p, err, &diag);
        return;
    }
    if (call_take(p, &msg))
        return;
    if (msg.type == DBE_MSG_REVOCATIONS)
        gossip_take(p, &msg);
    else if (node->answer_only[msg.type])
        node->stats.answers_unmatched++; /* the call was cancelled, ended, or never made */
    else
        node->config.ops->on_message(node->config.ctx, p, &msg);
}

/* What one DATA record held: messages back to back (spec 5.11). Where no length can be told, the reading ends. */
static void take_data(struct dbe_peer *p, const uint8_t *bytes, size_t len)
{
    bool more = true;

    while (more && p->state == PEER_UP) {
        size_t n = len;
        more = len >= DBE_HEADER_BYTES && dbe_msg_peek_len(bytes, &n) == DBE_OK && n < len;
        n = BASE_MIN(n, len);
        take_message(p, bytes, n);
        bytes += n;
        len -= n;
    }
}

/* What sess_feed may append to the send buffer must not land in a record that is still gathered. */
static dbe_err make_way(struct dbe_peer *p, const uint8_t *data, size_t len)
{
    const bool data_record = len > DBE_RECORD_TYPE_AT && data[DBE_RECORD_TYPE_AT] == DBE_RECORD_TYPE_DATA;

    return data_record ? DBE_OK : out_seal(p);
}

/* One record. False: not a whole one, or the channel ended. */
static bool take_record(struct dbe_peer *p, uint8_t *data, size_t len, size_t *ret_used)
{
    enum sess_event event = SESS_NEED_MORE;
    const uint8_t *msg = NULL;
    size_t msg_len = 0;
    dbe_err err = make_way(p, data, len);

    if (err == DBE_OK)
        err = sess_feed(p->sess, data, len, ret_used, &event, &msg, &msg_len, &p->out);
    if (err != DBE_OK) {
        out_dirty(p);
        peer_end(p, err, sess_diag(p->sess));
        return false;
    }
    switch (event) {
    case SESS_NEED_MORE: return false;
    case SESS_ESTABLISHED: peer_up(p); break;
    case SESS_MESSAGE: take_data(p, msg, msg_len); break;
    case SESS_PEER_CLOSED: peer_end(p, DBE_E_CLOSED, NULL); break;
    case SESS_SWITCHED: peer_switched(p, DBE_OK); break;
    case SESS_REFUSED: peer_switched(p, DBE_E_UNSUPPORTED); break;
    case SESS_HANDSHAKING:
    case SESS_REKEYED:
    case SESS_DROPPED: break;
    }
    if (p->state == PEER_UP && sess_owes(p->sess))
        out_owed(p);
    out_dirty(p);
    return p->state != PEER_ENDED;
}

static size_t on_data(void *ctx, struct tp_conn *conn, uint8_t *data, size_t len)
{
    struct dbe_peer *p = ctx;
    struct dbe_node *node = p->node;
    size_t used = 0, n = 0;
    dbe_err err = p->sess == NULL ? peer_make_session(p) : DBE_OK;

    (void)conn;
    node_enter(node);
    if (err != DBE_OK)
        peer_end(p, err, NULL);
    while (p->state != PEER_ENDED && used < len && take_record(p, data + used, len - used, &n)) {
        used += n;
        n = 0;
    }
    if (p->state != PEER_ENDED && len - used >= sess_recv_max(p->sess))
        peer_end(p, DBE_E_TOO_LARGE, NULL);
    if (p->state == PEER_ENDED)
        used = len;
    node_leave(node);
    return used;
}

static void on_connected(void *ctx, struct tp_conn *conn)
{
    struct dbe_peer *p = ctx;
    struct dbe_node *node = p->node;

    (void)conn;
    node_enter(node);
    dbe_err err = peer_make_session(p);
    if (err == DBE_OK)
        err = sess_start(p->sess, &p->out);
    if (err == DBE_OK)
        out_dirty(p);
    else
        peer_end(p, err, NULL);
    node_leave(node);
}

static void on_drained(void *ctx, struct tp_conn *conn)
{
    struct dbe_peer *p = ctx;

    (void)conn;
    node_enter(p->node);
    out_tell_drained(p);
    node_leave(p->node);
}

static void on_closed(void *ctx, struct tp_conn *conn, dbe_err why)
{
    struct dbe_peer *p = ctx;
    struct dbe_node *node = p->node;

    (void)conn;
    node_enter(node);
    peer_end(p, why, NULL);
    node_leave(node);
}

const struct tp_conn_ops peer_conn_ops = {
    .on_data = on_data, .on_connected = on_connected, .on_drained = on_drained, .on_closed = on_closed};

/* ---- life ------------------------------------------------------------------------------------------------------ */

static void on_due(struct node_due *due)
{
    struct dbe_peer *p = (struct dbe_peer *)(void *)((char *)due - offsetof(struct dbe_peer, due));
    struct dbe_diag diag = {0};

    if (p->state == PEER_UP) {
        peer_judge(p);
        if (p->doom == DBE_OK)
            watch_expiry(p);
        return;
    }
    (void)dbe_fail(&diag, DBE_E_TIMEOUT, clause, 0, "the handshake took longer than %d ms", DBE_HANDSHAKE_TIMEOUT_MS);
    peer_end(p, DBE_E_TIMEOUT, &diag);
}

dbe_err peer_new(struct dbe_node *node, struct dbe_link *link, struct dbe_peer **ret)
{
    struct dbe_peer *p = base_alloc(1, sizeof *p);

    if (p == NULL)
        return DBE_E_NOMEM;
    dbe_err err = dues_reserve(&node->dues, &p->due, on_due);
    if (err != DBE_OK) {
        base_free(p);
        return err;
    }
    p->node = node;
    p->link = link;
    p->incoming = link == NULL;
    p->gather_at = NODE_NO_GATHER;
    base_buf_init(&p->out, DBE_SEND_QUEUE_MAX_BYTES);
    node_list_add(p->incoming ? &node->half_open : &node->peers, p);
    node->half_open_count += p->incoming;
    dues_set(&node->dues, &p->due, base_mono_ns() + (uint64_t)DBE_HANDSHAKE_TIMEOUT_MS * BASE_NS_PER_MS);
    *ret = p;
    return DBE_OK;
}

static void unlink_peer(struct dbe_peer *p)
{
    struct dbe_node *node = p->node;

    node->half_open_count -= p->list == &node->half_open;
    node_list_remove(p);
    forget_soon(p);
    p->next = node->dead;
    node->dead = p;
}

/* Hand over what is sealed - a goodbye, an alert - and let go of the connection. */
static void close_conn(struct dbe_peer *p, bool was_up)
{
    if (p->conn == NULL)
        return;
    out_flush(p);
    tp_close(p->conn, was_up && tp_queued_bytes(p->conn) > 0);
    p->conn = NULL;
}

void peer_end(struct dbe_peer *p, dbe_err why, const struct dbe_diag *diag)
{
    struct dbe_node *node = p->node;
    struct dbe_diag mine = {.clause = clause};
    const bool was_up = p->state == PEER_UP;

    if (p->state == PEER_ENDED)
        return;
    if (diag == NULL || diag->text[0] == '\0') {
        (void)dbe_fail(&mine, why, clause, 0, "%s", dbe_err_text(why));
        diag = &mine;
    }
    node_enter(node);
    p->state = PEER_ENDED;
    close_conn(p, was_up);
    dues_clear(&node->dues, &p->due);
    unlink_peer(p);
    node->up_count -= was_up;
    node->stats.handshakes_failed += !was_up && !node->closing;
    if (p->link != NULL)
        link_peer_gone(p->link, why, diag);
    p->link = NULL;
    call_end_all(p, why == DBE_E_CANCELLED ? DBE_E_CANCELLED : DBE_E_CLOSED);
    if (node->config.ops->on_down != NULL)
        node->config.ops->on_down(node->config.ctx, p, why, diag);
    node_leave(node);
}

void peer_discard(struct dbe_peer *p)
{
    p->state = PEER_ENDED;
    p->link = NULL;
    tp_close(p->conn, false);
    p->conn = NULL;
    dues_clear(&p->node->dues, &p->due);
    unlink_peer(p);
}

void peer_free(struct dbe_peer *p)
{
    dues_release(&p->node->dues, &p->due);
    sess_free(p->sess);
    out_free(p);
    base_free(p->pk);
    base_free(p->pk_next);
    base_free(p->buckets);
    base_free(p);
}

void dbe_peer_close(struct dbe_peer *p, dbe_err why)
{
    node_enter(p->node);
    if (p->state == PEER_UP && out_seal(p) == DBE_OK && out_reserve(p, NODE_SEAL_EXTRA_BYTES) == DBE_OK) {
        dbe_err err = sess_close(p->sess, &p->out);
        (void)err; /* a courtesy: the end of the connection says the same */
    }
    peer_end(p, why, NULL);
    node_leave(p->node);
}

/* ---- what the owner may ask ------------------------------------------------------------------------------------ */

const struct dbe_identity *dbe_peer_identity(const struct dbe_peer *p)
{
    return p->known ? sess_peer(p->sess) : NULL;
}

const uint8_t *dbe_peer_public_key(const struct dbe_peer *p)
{
    return p->known ? p->pk : NULL;
}

dbe_err dbe_peer_channel_binding(const struct dbe_peer *p, uint8_t ret[32])
{
    return p->state == PEER_UP ? sess_channel_binding(p->sess, ret) : DBE_E_CLOSED;
}

dbe_err dbe_peer_log_key(const struct dbe_peer *p, uint8_t ret[32])
{
    return p->state == PEER_UP ? sess_log_key(p->sess, ret) : DBE_E_CLOSED;
}

const char *dbe_peer_suite(const struct dbe_peer *p)
{
    const struct crypto_suite *suite = p->sess == NULL ? NULL : sess_suite(p->sess);

    return suite == NULL ? "none" : suite->name;
}

uint16_t dbe_peer_suite_id(const struct dbe_peer *p)
{
    const struct crypto_suite *suite = p->sess == NULL ? NULL : sess_suite(p->sess);

    return suite == NULL ? 0 : suite->id;
}

const char *dbe_suite_name(uint16_t id)
{
    const struct crypto_suite *suite = crypto_suite(id);

    return suite == NULL ? "unknown" : suite->name;
}

uint64_t dbe_peer_handshake_us(const struct dbe_peer *p)
{
    return p->handshake_us;
}

void *dbe_peer_user(const struct dbe_peer *p)
{
    return p->user;
}

void dbe_peer_set_user(struct dbe_peer *p, void *user)
{
    p->user = user;
}
