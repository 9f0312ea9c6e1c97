/* SPDX-License-Identifier: Apache-2.0
 *
 * node_impl.h - how a node holds its peers, calls and links. Private to this folder.
 *
 * Two rules keep callbacks safe. Every way in from the loop or the owner is bracketed by node_enter and node_leave;
 * the outermost node_leave seals and writes what was said and only then frees what ended, so an object outlives every
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
    NODE_LINKS_MIN = 256,                /* links of a node: as many as peers_max, and at least these          */
    NODE_HALF_OPEN_MAX = 64,             /* incoming handshakes at a time; then the oldest gives way          */
    NODE_GATHER_MSG_BYTES = 4096,        /* a larger message is sealed alone, straight from the caller's memory */
    NODE_GATHER_BYTES = 16 * 1024,       /* messages gathered in one record, at most                          */
    NODE_FLUSH_BYTES = 16 * 1024,        /* written at once even when more may follow                         */
    NODE_OUT_KEEP_BYTES = 256 * 1024,    /* a larger send buffer is given back when empty                     */
    NODE_OUT_SPARES = 4,                 /* empty send buffers that a node keeps for whichever peer sends next */
    NODE_SEAL_EXTRA_BYTES = 256,         /* a rekey notice may go before a record, its tag goes behind it     */
    NODE_LINK_FIRST_MS = 50,
    NODE_LINK_LAST_MS = 2000,
    NODE_LINK_ABSENT_MS = 100,           /* where nobody listens                                               */
    NODE_LINK_STABLE_MS = 2000,          /* a channel that lived this long resets the back-off                 */
    NODE_CALL_BUCKETS_FIRST = 16,
    NODE_CALLS_KEEP = 4096,              /* ended calls whose memory is kept for the next                      */
    NODE_TICKS_RECENT = 16,              /* a power of two: deadlines lately used, found again without search  */
    NODE_WALL_LOOK_MS = 60000,           /* the wall clock may jump: a certificate's end is looked at this often */
    NODE_SWAPS_A_TURN = 4,               /* new handshakes that a node begins at once                          */
    NODE_POLICY_GRACE_MS = 60000,        /* a peer may have the policy before; spec 6.16                       */
    NODE_SWAP_PAUSE_MS = 1,
    NODE_GOSSIP_BYTES = 1024 * 1024,     /* of revocation lists that are handed out in one turn                */
    NODE_GOSSIP_PAUSE_MS = 1,
    NODE_GOSSIP_RETRY_MS = 100,          /* a peer whose queue is full gets its list later                     */
    NODE_WATCH_LOOK_MS = 1000,           /* the key directory is looked at this often, whatever inotify says   */
};

/* ---- due.c: deadlines of one node ------------------------------------------------------------------------------ */

#define NODE_DUE_IDLE SIZE_MAX

/* Something that happens at a time; embedded in its owner. */
struct node_due {
    uint64_t at_ns;
    size_t   slot; /* in the heap, NODE_DUE_IDLE when not set */
    void (*fn)(struct node_due *due);
};

/* The time stands beside the pointer, so that finding a place touches no owner but those that move. */
struct node_due_slot {
    uint64_t         at_ns;
    struct node_due *due;
};

struct node_dues {
    struct node_due_slot *heap;
    size_t                count, cap, reserved;
    struct base_timer    *timer;
    uint64_t              armed_ns; /* when the timer fires, 0: not armed; never later than the first that is due */
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

/* The calls that end in the same millisecond: they share one place in the heap, for calls come and go a thousand times
 * faster than milliseconds. */
struct node_tick {
    struct node_due   due;
    struct dbe_node  *node;
    struct node_call *calls;
    struct node_tick *next_free;
    bool              held; /* not to be freed although empty: found in node->recent, or about to end its calls */
};

struct node_call {
    struct node_call *next; /* in its bucket; among the free ones */
    struct node_call *next_in_tick, **link_in_tick;
    struct node_tick *tick;
    struct dbe_peer  *peer;
    uint64_t          id; /* correlation id */
    dbe_reply_fn     *fn;
    void             *ctx;
    uint8_t           reply_type;
};

enum peer_state { PEER_HANDSHAKE, PEER_UP, PEER_ENDED };

#define NODE_NO_GATHER SIZE_MAX

struct node_list {
    struct dbe_peer *first, *last; /* oldest first */
};

struct dbe_peer {
    struct dbe_node  *node;
    struct dbe_peer  *next, *prev; /* in `list`; then node->dead */
    struct node_list *list;        /* node->half_open or node->peers; NULL once ended */
    struct dbe_peer  *next_dirty, *next_soon;
    struct dbe_link  *link;        /* NULL: it came to us */
    struct tp_conn   *conn;        /* NULL once ended */
    struct sess      *sess;        /* NULL until the first byte: silent strangers cost little */
    enum peer_state   state;
    bool              incoming, dirty, soon, known; /* known: was authenticated */
    bool              full;        /* a send was refused: the owner waits for on_drained */
    bool              swap_suite, swap_cert, swap_policy; /* a handshake is owed: for another suite, certificate, ... */
    uint32_t          generation;  /* of node->generation when the handshake began */
    dbe_err           doom;        /* a write failed, or the certificate does not count any more */
    struct node_due   due;         /* handshake timeout; then the end of the peer's certificate */
    struct base_buf   out;         /* sealed, not yet given to the transport; no memory between turns */
    size_t            gather_at;   /* head of the record at the end of `out` that is still gathered in the clear */

    struct node_call **buckets;
    size_t             bucket_count, call_count;

    uint64_t                     began_ns, up_ns, handshake_us;
    const struct dbe_credential *credential; /* ours, in the handshake that is under way; NULL between handshakes */
    uint8_t                     *pk, *pk_next; /* the peer's; the one of the handshake that is under way */
    uint64_t                     list_sent;    /* number of the revocation list that it was given */
    void                        *user;
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
    struct dbe_loop       *loop;
    struct dbe_node_config config;
    struct tp_listener    *listeners[NODE_LISTENERS_MAX];
    size_t                 listener_count;
    struct node_list       peers, half_open; /* half_open: incoming handshakes */
    struct dbe_peer       *dead, *dirty, *soon;
    struct dbe_link       *links, *dead_links;
    size_t                 link_count;
    uint32_t               up_count, half_open_count, peers_max, links_max, calls_max;
    size_t                 queue_max, queue_low;
    uint16_t               suites[DBE_SUITES_MAX];
    size_t                 suites_count;
    uint32_t               generation; /* of suites and credential */
    bool                   swap_suites, swap_certs; /* the last change was meant for open channels as well */
    struct dbe_policy_digest policy_digest_before;  /* taken from peers until policy_due; then none */
    unsigned               depth;
    bool                   closing, now_known;
    uint64_t               now_ns; /* of this turn, once somebody asked */
    struct node_dues       dues;
    struct node_due        soon_due, swap_due, gossip_due, policy_due;
    struct node_watch     *watch;       /* of the key directory; NULL: none */
    uint64_t               list_number; /* of the revocation list by which the peers were judged */
    uint64_t               hash_seed;
    struct base_buf        spares[NODE_OUT_SPARES];
    size_t                 spare_count;
    struct node_call      *free_calls;
    size_t                 free_call_count, call_count;
    struct node_tick      *recent[NODE_TICKS_RECENT], *free_ticks;
    bool                   answer_only[256]; /* types that are nothing but answers */
    struct dbe_node_stats  stats;
};

/* ---- node.c ---------------------------------------------------------------------------------------------------- */

void node_enter(struct dbe_node *node);
void node_leave(struct dbe_node *node);
/* Inside node_enter: the time, read once a turn. Good enough to age keys and to judge deadlines. */
uint64_t node_now_ns(struct dbe_node *node);
void     node_list_add(struct node_list *list, struct dbe_peer *peer);
void     node_list_remove(struct dbe_peer *peer);
/* Only our own user and root may be at the other end of a local socket. */
dbe_err node_check_cred(const struct tp_conn *conn, struct dbe_diag *diag) DBE_MUST_CHECK;

/* ---- peer_auth.c ----------------------------------------------------------------------------------------------- */

/* A session of this peer, by what the node has now. */
dbe_err peer_make_session(struct dbe_peer *peer) DBE_MUST_CHECK;
/* A handshake is over; `ok`: what it said of the peer counts from now on. */
void peer_end_handshake(struct dbe_peer *peer, bool ok);

/* ---- peer.c ---------------------------------------------------------------------------------------------------- */

extern const struct tp_conn_ops peer_conn_ops;

/* A peer in its handshake, without a connection yet. */
dbe_err peer_new(struct dbe_node *node, struct dbe_link *link, struct dbe_peer **ret) DBE_MUST_CHECK;
/* End the channel: calls, owner, link hear of it; freed when no callback runs. `diag` may be NULL. Nothing twice. */
void peer_end(struct dbe_peer *peer, dbe_err why, const struct dbe_diag *diag);
/* Undo peer_new before anybody has heard of the peer. Inside node_enter. */
void peer_discard(struct dbe_peer *peer);
/* Is its certificate still good? If not, it is doomed: peer_run_soon ends it. */
void peer_judge(struct dbe_peer *peer);
/* What the peer needs is done from the node's timer, where calling back is safe: its doom, on_drained. */
void peer_soon(struct dbe_peer *peer);
void peer_run_soon(struct dbe_node *node);
void peer_free(struct dbe_peer *peer);

/* ---- out.c ----------------------------------------------------------------------------------------------------- */

/* Send a message; `framed`: its header announces exactly `len` bytes, so that it may share a record with others.
 * Inside node_enter. Never calls back. */
dbe_err out_message(struct dbe_peer *peer, const void *bytes, size_t len, bool framed) DBE_MUST_CHECK;
/* Close the record that is being gathered: from here on the session may append to peer->out. Never calls back. */
dbe_err out_seal(struct dbe_peer *peer) DBE_MUST_CHECK;
/* Room for `len` more bytes in peer->out, so that the session's appending cannot fail for want of memory. */
dbe_err out_reserve(struct dbe_peer *peer, size_t len) DBE_MUST_CHECK;
/* What a call into the session said, which appended to peer->out: it goes out when the turn ends, and a session that
 * died takes its channel with it. Returns `err`. Never calls back. */
dbe_err out_result(struct dbe_peer *peer, dbe_err err);
/* Append what the session owes the peer. Never calls back. */
void out_owed(struct dbe_peer *peer);
/* Something was appended to peer->out: it goes out when the turn ends. */
void out_dirty(struct dbe_peer *peer);
/* Give everything to the transport now. Never calls back. */
void out_flush(struct dbe_peer *peer);
/* If the owner waits for it and the queue is short again, it hears so. Calls back. */
void out_tell_drained(struct dbe_peer *peer);
void out_free(struct dbe_peer *peer);

/* ---- call.c ---------------------------------------------------------------------------------------------------- */

/* Is it in flight? */
bool call_known(const struct dbe_peer *peer, uint64_t id);
/* True if `msg` was an answer to one of our calls; the call's owner has then heard it. */
bool call_take(struct dbe_peer *peer, const struct dbe_msg *msg);
/* Every call of the peer ends with `why`. */
void call_end_all(struct dbe_peer *peer, dbe_err why);
/* Free what was kept of calls that ended. */
void call_fini(struct dbe_node *node);

/* ---- control.c: new keys, suites and certificates for open channels ---------------------------------------------- */

/* E_ARGUMENT, E_DUPLICATE, E_UNSUPPORTED: no list of suites. */
dbe_err control_check_suites(const uint16_t *suites, size_t count) DBE_MUST_CHECK;
void    control_swap_due(struct node_due *due);
void    control_policy_due(struct node_due *due);
/* The handshake began before the node's suites or credential were changed: see that the channel follows. */
void control_peer_up(struct dbe_peer *peer);
/* A new handshake inside the channel is over, or came to nothing (`err`). Calls back. */
void control_switched(struct dbe_peer *peer, dbe_err err);

/* ---- gossip.c: revocation lists between nodes
 * --------------------------------------------------------------------- */

void gossip_due(struct node_due *due);
/* The list in the payload of a REVOCATIONS message; points into it. E_MALFORMED. */
dbe_err gossip_read(const void *payload, size_t len, const uint8_t **ret_der, size_t *ret_len) DBE_MUST_CHECK;
/* The channel is up: give it the list that we have. */
void gossip_peer_up(struct dbe_peer *peer);
/* A REVOCATIONS message. Calls back. */
void gossip_take(struct dbe_peer *peer, const struct dbe_msg *msg);
/* The trust anchor may hold another list than before, from `from` (NULL: not from a peer): judge every peer, tell them.
 * Calls back. */
void gossip_adopted(struct dbe_node *node, struct dbe_peer *from);

/* ---- watch.c: the key directory ---------------------------------------------------------------------------------- */

const char *watch_dir(const struct dbe_node *node); /* NULL: none is watched */
void        watch_free(struct dbe_node *node);

/* ---- link.c ---------------------------------------------------------------------------------------------------- */

/* The link's channel is gone: remember why, try again later. */
void link_peer_gone(struct dbe_link *link, dbe_err why, const struct dbe_diag *diag);
void link_peer_up(struct dbe_link *link);
/* Is this the node the link wants? E_CERT. */
dbe_err link_accepts(const struct dbe_link *link, const struct dbe_identity *id, struct dbe_diag *diag) DBE_MUST_CHECK;
void    link_free(struct dbe_link *link);

#endif
