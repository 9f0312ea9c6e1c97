/* SPDX-License-Identifier: Apache-2.0
 *
 * node_impl.h - how a node holds its peers, calls and links. Private to this folder.
 *
 * Two rules keep callbacks safe. Every way in from the loop or the owner is bracketed by node_enter and node_leave;
 * the outermost node_leave flushes what was sealed and only then frees what ended, so an object outlives every
 * callback that might hold it. And sending never calls back: a channel that breaks while being written is ended from
 * the node's timer.
 */
#ifndef NODE_NODE_IMPL_H
#define NODE_NODE_IMPL_H

#include "base/loop.h"
#include "crypto/crypto.h"
#include "dbe/node.h"
#include "session/session.h"
#include "transport/transport.h"

enum {
    NODE_LISTENERS_MAX = 8,
    NODE_LINKS_MAX = 256,
    NODE_HALF_OPEN_MAX = 64,             /* incoming handshakes at a time; then the oldest gives way          */
    NODE_FLUSH_BYTES = 256 * 1024,       /* written at once even when more may follow                         */
    NODE_OUT_KEEP_BYTES = 1024 * 1024,   /* a larger send buffer is given back when empty                     */
    NODE_SEAL_EXTRA_BYTES = 256,         /* a rekey notice may go before a record                             */
    NODE_LINK_FIRST_MS = 50,
    NODE_LINK_LAST_MS = 2000,
    NODE_LINK_STABLE_MS = 2000,          /* a channel that lived this long resets the back-off                 */
    NODE_CALL_BUCKETS_FIRST = 16,
};

/* ---- due.c: deadlines of one node ------------------------------------------------------------------------------ */

#define NODE_DUE_IDLE SIZE_MAX

/* Something that happens at a time; embedded in its owner. */
struct node_due {
    uint64_t at_ns;
    size_t   slot; /* in the heap, NODE_DUE_IDLE when not set */
    void (*fn)(struct node_due *due);
};

struct node_dues {
    struct node_due  **heap;
    size_t             count, cap, reserved;
    struct base_timer *timer;
    uint64_t           armed_ns;
};

/* Room for one more, so that setting it cannot fail. Pairs with dues_release. */
dbe_err dues_reserve(struct node_dues *d, struct node_due *due, void (*fn)(struct node_due *due)) DBE_MUST_CHECK;
void    dues_release(struct node_dues *d, struct node_due *due);
void    dues_set(struct node_dues *d, struct node_due *due, uint64_t at_ns);
void    dues_clear(struct node_dues *d, struct node_due *due);
/* Run what is due at `now_ns`. */
void dues_run(struct node_dues *d, uint64_t now_ns);
void dues_fini(struct node_dues *d);

/* ---- objects --------------------------------------------------------------------------------------------------- */

struct node_call {
    struct node_call *next; /* in its bucket */
    struct dbe_peer  *peer;
    uint64_t          id; /* correlation id */
    uint8_t           reply_type;
    dbe_reply_fn     *fn;
    void             *ctx;
    struct node_due   due;
};

enum peer_state { PEER_HANDSHAKE, PEER_UP, PEER_ENDED };

struct dbe_peer {
    struct dbe_node *node;
    struct dbe_peer *next, *prev; /* node->peers, oldest first; then node->dead */
    struct dbe_peer *next_dirty;
    struct dbe_link *link;        /* NULL: it came to us */
    struct tp_conn  *conn;        /* NULL once ended */
    struct sess     *sess;        /* NULL until the first byte: silent strangers cost little */
    enum peer_state  state;
    bool             incoming, dirty, known; /* known: was authenticated */
    dbe_err          doom;        /* a write failed: the timer ends the channel with this */
    struct node_due  due;         /* handshake timeout, or doom */
    struct base_buf  out;         /* sealed, not yet given to the transport */

    struct node_call **buckets;
    size_t             bucket_count, call_count;

    uint64_t            began_ns, up_ns, handshake_us;
    struct dbe_identity id;
    uint8_t             pk[CRYPTO_MLDSA87_PK_BYTES];
    void               *user;
};

struct dbe_link {
    struct dbe_node *node;
    struct dbe_link *next, *prev; /* node->links; then node->dead_links */
    struct dbe_peer *peer;
    uint8_t          role;
    int              device;
    uint64_t         delay_ms;
    struct node_due  due;
    bool             closed;
    dbe_err          last;
    struct dbe_diag  diag;
    char             address[TP_ADDRESS_MAX];
};

struct dbe_node {
    struct dbe_loop      *loop;
    struct dbe_node_config config;
    struct tp_listener    *listeners[NODE_LISTENERS_MAX];
    size_t                 listener_count;
    struct dbe_peer       *peers, *peers_last, *dead, *dirty;
    struct dbe_link       *links, *dead_links;
    size_t                 link_count;
    uint32_t               up_count, half_open, peers_max;
    unsigned               depth;
    bool                   closing;
    struct node_dues       dues;
    uint64_t               hash_seed;
    bool                   answer_only[256]; /* types that are nothing but answers */
    struct dbe_node_stats  stats;
};

/* ---- node.c ---------------------------------------------------------------------------------------------------- */

void node_enter(struct dbe_node *node);
void node_leave(struct dbe_node *node);
/* Only our own user and root may be at the other end of a local socket. */
dbe_err node_check_cred(const struct tp_conn *conn, struct dbe_diag *diag) DBE_MUST_CHECK;

/* ---- peer.c ---------------------------------------------------------------------------------------------------- */

extern const struct tp_conn_ops peer_conn_ops;

/* A peer in its handshake, without a connection yet. */
dbe_err peer_new(struct dbe_node *node, struct dbe_link *link, struct dbe_peer **ret) DBE_MUST_CHECK;
/* End the channel: calls, owner, link hear of it; freed when no callback runs. `diag` may be NULL. Nothing twice. */
void peer_end(struct dbe_peer *peer, dbe_err why, const struct dbe_diag *diag);
/* Undo peer_new before anybody has heard of the peer. Inside node_enter. */
void peer_discard(struct dbe_peer *peer);
/* Give what is sealed to the transport. Never calls back. */
void peer_flush(struct dbe_peer *peer);
void peer_free(struct dbe_peer *peer);

/* ---- call.c ---------------------------------------------------------------------------------------------------- */

/* True if `msg` was an answer to one of our calls; the call's owner has then heard it. */
bool call_take(struct dbe_peer *peer, const struct dbe_msg *msg);
/* Every call of the peer ends with `why`. */
void call_end_all(struct dbe_peer *peer, dbe_err why);

/* ---- link.c ---------------------------------------------------------------------------------------------------- */

/* The link's channel is gone: remember why, try again later. */
void link_peer_gone(struct dbe_link *link, dbe_err why, const struct dbe_diag *diag);
void link_peer_up(struct dbe_link *link);
/* Is this the node the link wants? E_CERT. */
dbe_err link_accepts(const struct dbe_link *link, const struct dbe_identity *id, struct dbe_diag *diag) DBE_MUST_CHECK;
void    link_free(struct dbe_link *link);

#endif
