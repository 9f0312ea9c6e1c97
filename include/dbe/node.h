/* SPDX-License-Identifier: Apache-2.0
 *
 * node.h - one member of the mesh: listens, connects, calls, answers. Everything in one event loop.
 *
 * A channel is a sealed session over a transport; peers find each other by address and prove who they are by
 * certificate. A call is a request with a correlation id, a deadline, and one answer or a stream of them.
 *
 * Threads: every function on the loop's thread. Callbacks run there too and may call any function of this header,
 * except dbe_node_free, dbe_call_wait and what is said otherwise below.
 * Memory: messages handed to callbacks are views into the node's memory that end with the callback; messages handed to
 * the node are copied or sealed before the function returns. Handles are freed by the function named beside them.
 * Errors: every function that can fail says which errors its callers have to tell apart; others may come from the
 * layers below (E_NOMEM, E_IO, E_CRYPTO), and dbe_err_class says what to do about any of them. Outputs are untouched on
 * error. Time: deadlines are absolute, in nanoseconds of dbe_now_ns (dbe/loop.h).
 */
#ifndef DBE_NODE_H
#define DBE_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "dbe/identity.h"
#include "dbe/msg.h"
#include "dbe/policy.h"

DBE_BEGIN_DECLS

struct dbe_loop;
struct dbe_node;
struct dbe_peer; /* one channel; valid from on_up until on_down returns */

/* What a node tells its owner. `ctx` is that of the configuration. A callback may close the peer that it is told of,
 * and any other; no callback about that peer follows then but on_down, which comes before dbe_peer_close returns. */
struct dbe_node_ops {
    /* A request or one-way message, already decoded, correctly sealed; DEVICE_ID_SRC was checked against the peer by
     * nobody yet: that is policy's part. Required. */
    void (*on_message)(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg);
    /* Bytes from an authenticated peer that are no valid message; counted, the channel lives. May be NULL. */
    void (*on_malformed)(void *ctx, struct dbe_peer *peer, dbe_err err, const struct dbe_diag *diag);
    /* The handshake is done. May be NULL. */
    void (*on_up)(void *ctx, struct dbe_peer *peer);
    /* The channel ended, or a handshake failed (the peer's identity is NULL then). Calls in flight have heard of it
     * before. E_CLOSED: the other end closed or went; E_REVOKED, E_EXPIRED: its certificate no longer counts. May be
     * NULL. */
    void (*on_down)(void *ctx, struct dbe_peer *peer, dbe_err why, const struct dbe_diag *diag);
    /* A send or a call of this peer was refused with E_LIMIT because too much waited to be written, and the queue is
     * short again (DBE_SEND_QUEUE_LOW_BYTES, or a quarter of the configured maximum where that is less): it may go on.
     * Once, however often it was refused. May be NULL. */
    void (*on_drained)(void *ctx, struct dbe_peer *peer);
    /* A new handshake inside a channel is over, whichever side began it. DBE_OK: from here on dbe_peer_suite and
     * dbe_peer_identity say what was agreed; else it came to nothing, `diag` says why, and the channel goes on as it
     * was. May be NULL. */
    void (*on_switched)(void *ctx, struct dbe_peer *peer, dbe_err err, const struct dbe_diag *diag);
    /* The list of revoked certificates: DBE_OK: number `number` was adopted, from the key directory or from a peer;
     * else a list could not be read or is not the CA's, and the one before stays in force. May be NULL. */
    void (*on_revocations)(void *ctx, uint64_t number, dbe_err err, const struct dbe_diag *diag);
};

/* What a node is made of. Zero is a good value for all but the first four members. */
struct dbe_node_config {
    const struct dbe_credential *credential; /* borrowed: outlives the node, or see dbe_node_set_credential */
    struct dbe_trust            *trust;      /* borrowed; the node adopts newer revocation lists into it */
    const struct dbe_node_ops   *ops;        /* borrowed */
    void                        *ctx;
    struct dbe_policy_digest     policy_digest;        /* both ends of a channel must have the same */
    uint32_t                     peers_max;            /* channels that are up; 0: DBE_PEERS_MAX; at most
                                                          DBE_PEERS_LIMIT */
    uint32_t                     calls_max;            /* in flight to one peer; 0: DBE_CALLS_IN_FLIGHT_MAX, which is
                                                          the most */
    size_t                       send_queue_max_bytes; /* waiting for one peer; 0: DBE_SEND_QUEUE_MAX_BYTES, which is
                                                          the most */
    /* Suites, best first, by number; copied. An initiator offers these, a responder takes the first of its own that is
     * offered. None: an initiator offers the best of this build, a responder accepts all of them. */
    const uint16_t              *suites;
    size_t                       suites_count;
    /* When a direction moves to new keys by itself; 0, or more than the protocol allows: DBE_REKEY_RECORDS,
     * DBE_REKEY_BYTES, DBE_REKEY_AGE_NS. */
    uint64_t                     rekey_records, rekey_bytes, rekey_age_ns;
};

/* Make a node. It does nothing until it is told to listen or to link. The configuration is copied, what it points to is
 * borrowed. E_ARGUMENT: something required is missing, a maximum is above its limit, or a suite occurs twice.
 * E_UNSUPPORTED: this build has no such suite. E_CRYPTO, E_UNSUPPORTED: the cryptographic library is not the one. */
dbe_err dbe_node_new(struct dbe_loop *loop, const struct dbe_node_config *config, struct dbe_node **ret)
    DBE_MUST_CHECK;
/* Stop listening, close every link and channel, end open calls with E_CANCELLED, and free. Takes NULL. Not from a
 * callback of the node. */
void dbe_node_free(struct dbe_node *node);

/* Accept channels at `address`: "uds:/path/to.sock", "shm:/path/to.sock"; a node listens at 8 addresses at most. Only
 * processes of the node's own user and of root are let in. E_ARGUMENT: no such kind of address. E_EXISTS: somebody
 * listens there. E_LIMIT, E_PERMISSION, E_IO. */
dbe_err dbe_node_listen(struct dbe_node *node, const char *address, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Keep a channel to `address` up: connects now, reconnects with back-off (50 ms doubling to 2 s, with jitter) until
 * closed. Only a peer of `role` (0: any) and `device` (-1: any) is accepted. Nobody there is no error: the link tries
 * again. E_ARGUMENT: no such kind of address. E_LIMIT: a node has at most as many links as peers_max, and 256 at least.
 * The handle lives until dbe_link_close. */
struct dbe_link;
dbe_err dbe_node_link(struct dbe_node *node, const char *address, uint8_t role, int device, struct dbe_link **ret)
    DBE_MUST_CHECK;
void             dbe_link_close(struct dbe_link *link); /* takes NULL; closes its channel, on_down comes from within */
struct dbe_peer *dbe_link_peer(const struct dbe_link *link); /* NULL while it is down */
/* Why the last attempt failed; DBE_OK when up or not yet tried. `ret_diag` may be NULL. */
dbe_err          dbe_link_last_error(const struct dbe_link *link, struct dbe_diag *ret_diag);

/* Between these two, messages are gathered instead of sent: whoever sends many outside of the node's callbacks saves a
 * seal and a system call each. Inside callbacks it is always so. Pairs may stand inside each other; a node that is
 * corked must not be given back to the loop. */
void dbe_node_cork(struct dbe_node *node);
void dbe_node_uncork(struct dbe_node *node);

/* ---- messages ------------------------------------------------------------------------------------------------ */

/* Send a message that expects no answer, or an answer to one (same correlation id): `len` bytes, whole, as
 * dbe_build_end left them. The bytes may be changed or freed as soon as it returns. Small messages of one turn travel
 * together. E_CLOSED: the channel is not up. E_LIMIT: too much waits already; on_drained says when to go on.
 * E_TOO_LARGE: no message may be as large, or the configured queue could never take it. Never calls back. */
dbe_err dbe_send(struct dbe_peer *peer, const void *bytes, size_t len) DBE_MUST_CHECK;

/* One answer of a call. `msg` NULL: the call ended with `err` (E_TIMEOUT, E_CLOSED, E_CANCELLED); no more follows.
 * `last` is set when the message's STREAMING flag is clear or it is an ERROR; no more follows after that. An ERROR
 * message is an answer like any other: `err` is then DBE_OK. */
typedef void dbe_reply_fn(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err);

/* Send request `bytes` (a whole message, as for dbe_send) and hear its answers. The deadline is kept to the millisecond
 * and at most an hour away; an answer that comes later is dropped and counted. `fn` is called at least once, unless
 * this returns an error or the call is cancelled; never before this returns. `ret_call_id` (may be NULL) takes the
 * correlation id.
 * E_LIMIT: the maximum of calls in flight, or of bytes that wait; E_DUPLICATE: the correlation id is in flight;
 * E_TIMEOUT: the deadline has passed; E_MALFORMED, E_UNSUPPORTED: the header is not that of a message of `len` bytes;
 * E_CLOSED. */
dbe_err dbe_call(struct dbe_peer *peer, const void *bytes, size_t len, uint64_t deadline_ns, dbe_reply_fn *fn,
                 void *ctx, uint64_t *ret_call_id) DBE_MUST_CHECK;
/* Forget a call: `fn` is not called any more. Tells the other side nothing. Unknown ids are ignored. */
void dbe_call_cancel(struct dbe_peer *peer, uint64_t call_id);
/* Forget a call and tell the other side that nobody waits (L7_CANCEL, spec 12.7), with the labels and the REQUEST_ID of
 * `request`, the message that the call was made with. E_NOT_FOUND: no such call, nothing is sent. E_MALFORMED:
 * `request` is not the call's request or has no REQUEST_ID; the call is forgotten all the same, as after any error of
 * dbe_send. */
dbe_err dbe_call_abort(struct dbe_peer *peer, uint64_t call_id, const void *request, size_t len) DBE_MUST_CHECK;

/* Make a call and wait for its answer, for programs that do one thing at a time. The loop runs meanwhile, with all its
 * timers, watches and callbacks. Of a streamed answer the last message counts. It is copied to `out`, as it came;
 * decode it with dbe_msg_decode. An ERROR message is an answer too.
 * E_TOO_LARGE: the answer has more than `cap` bytes. E_TIMEOUT, E_CLOSED, E_CANCELLED: there was none; `peer` may be
 * gone. E_STATE: called from a callback of the node. Otherwise as dbe_call. */
dbe_err dbe_call_wait(struct dbe_peer *peer, const void *bytes, size_t len, uint64_t deadline_ns, void *out, size_t cap,
                      size_t *ret_len) DBE_MUST_CHECK;

/* ---- channels ------------------------------------------------------------------------------------------------- */

/* What the peer's certificate says; NULL before the handshake is done. Lives as long as the peer, and is written anew
 * when the channel switches to a renewed certificate (on_switched). */
const struct dbe_identity *dbe_peer_identity(const struct dbe_peer *peer);
/* The peer's ML-DSA-87 public key from its certificate (2592 bytes): claims it issues are verified with it. NULL before
 * the handshake is done; lives until the channel switches or ends. */
const uint8_t *dbe_peer_public_key(const struct dbe_peer *peer);
/* 32 bytes that only the two ends of this channel know, the same for its whole life. E_CLOSED when it is not up. */
dbe_err     dbe_peer_channel_binding(const struct dbe_peer *peer, uint8_t ret[32]) DBE_MUST_CHECK;
/* K_log (spec 7.5): 32 bytes to bind audit records to this channel. A secret: wipe it. E_CLOSED when it is not up. */
dbe_err     dbe_peer_log_key(const struct dbe_peer *peer, uint8_t ret[32]) DBE_MUST_CHECK;
const char *dbe_peer_suite(const struct dbe_peer *peer);   /* name of the suite; "none" before it is chosen */
uint16_t    dbe_peer_suite_id(const struct dbe_peer *peer); /* its number on the wire; 0 before it is chosen */
const char *dbe_suite_name(uint16_t suite);                /* "unknown" if this build has no such suite */
uint64_t    dbe_peer_handshake_us(const struct dbe_peer *peer);
size_t      dbe_peer_queued_bytes(const struct dbe_peer *peer); /* back-pressure: what waits to be written */
void       *dbe_peer_user(const struct dbe_peer *peer);    /* the owner's pointer, NULL at first */
void        dbe_peer_set_user(struct dbe_peer *peer, void *user);
/* End the channel, after what was sent so far: the other side hears E_CLOSED, on_down says `why`. Its link, if it has
 * one, connects again. Calls back before it returns. */
void        dbe_peer_close(struct dbe_peer *peer, dbe_err why);

/* Move the own direction to the keys of the next epoch now (spec 7.8). Nothing is lost or delayed. E_CLOSED. */
dbe_err dbe_peer_rekey(struct dbe_peer *peer) DBE_MUST_CHECK;
/* Begin a new handshake inside the channel: new keys and, where they were renewed, certificates, under one of `suites`
 * (count 0: the suite in use): the one that comes first in the peer's list. Messages flow on meanwhile and none is
 * lost; on_switched tells how it ended. E_CLOSED; E_AGAIN: one is in progress; E_STATE: this transport carries
 * datagrams; E_UNSUPPORTED, E_DUPLICATE, E_ARGUMENT: the list is wrong. */
dbe_err dbe_peer_rehandshake(struct dbe_peer *peer, const uint16_t *suites, size_t count) DBE_MUST_CHECK;

/* ---- the node as a whole ---------------------------------------------------------------------------------------- */

/* This node's policy changed. Handshakes offer `digest` from now on, and every open channel begins one, a few at a
 * time, without a message lost. For 60 s peers may still have the policy before, so that a whole mesh can follow one
 * after the other; whoever has another after that is refused, and its channel ends with E_POLICY. What a message may do
 * is judged by the receiver's own policy all the time: the digest says that both ends have the same. */
void dbe_node_set_policy_digest(struct dbe_node *node, const struct dbe_policy_digest *digest);

/* Offer and accept these suites from now on (count 0: those of this build). `now`: channels that use another than the
 * first of them begin a new handshake for that one, a few at a time, without a message lost; a peer that does not have
 * it keeps what it uses. E_ARGUMENT, E_DUPLICATE,
 * E_UNSUPPORTED: the list is wrong, nothing changed. */
dbe_err dbe_node_set_suites(struct dbe_node *node, const uint16_t *suites, size_t count, bool now) DBE_MUST_CHECK;

/* Use this credential, of the same SPIFFE id, in handshakes from now on: after dbe_keys_renew. `now`: open channels
 * begin a new handshake with it, a few at a time. The former one must live as long as the node, for a handshake may be
 * using it. E_ARGUMENT: it is somebody else's. */
dbe_err dbe_node_set_credential(struct dbe_node *node, const struct dbe_credential *credential, bool now)
    DBE_MUST_CHECK;

/* Judge every peer again: one whose certificate was revoked or has expired is closed (on_down with E_REVOKED,
 * E_EXPIRED, before this returns). A node does so by itself when it adopts a list of revoked certificates, and when a
 * certificate expires; this is for an owner who changed the trust anchor's list. */
void dbe_node_recheck(struct dbe_node *node);

/* Adopt <dir>/ca.crl whenever it changes (inotify(7), and a look every second), close the peers that it names, and pass
 * it on to the others, as with lists that come from peers; those are kept in `dir` as well. Reads the file now.
 * Once for a node: E_STATE. E_NOT_FOUND: no such directory. A missing list is no error. */
dbe_err dbe_node_watch_keys(struct dbe_node *node, const char *dir, struct dbe_diag *diag) DBE_MUST_CHECK;

struct dbe_node_stats {
    uint64_t handshakes_ok, handshakes_failed, messages_in, messages_out, bytes_in, bytes_out, malformed, peers;
    uint64_t calls_in_flight,
        calls_timed_out, answers_unmatched; /* answers to calls that were cancelled, had ended or were never made */
    uint64_t switches, switches_refused;    /* new handshakes inside channels */
    uint64_t revocations_in;                /* lists that came from peers, adopted or not */
    uint64_t revoked_number;                /* of the list in force; 0: none */
    uint64_t peers_revoked, peers_expired;  /* channels that ended for this */
};
void dbe_node_stats(const struct dbe_node *node, struct dbe_node_stats *ret);

DBE_END_DECLS

#endif
