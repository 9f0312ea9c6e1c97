/* SPDX-License-Identifier: Apache-2.0
 *
 * node.h - one member of the mesh: listens, connects, calls, answers. Everything in one event loop.
 *
 * A channel is a sealed session over a transport; peers find each other by address and prove who they are by
 * certificate. A call is a request with a correlation id, a deadline, and one answer or a stream of them.
 * Threads: every function on the loop's thread. Callbacks run there too and may call any function of this header,
 * except dbe_node_free. Messages handed to callbacks are views that end with the callback.
 */
#ifndef DBE_NODE_H
#define DBE_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "dbe/identity.h"
#include "dbe/msg.h"

DBE_BEGIN_DECLS

struct dbe_loop;
struct dbe_node;
struct dbe_peer; /* one channel; valid from on_up until on_down returns */

struct dbe_node_ops {
    /* A request or one-way message, already decoded, correctly sealed; DEVICE_ID_SRC was checked against the peer by
     * nobody yet: that is policy's part. Required. */
    void (*on_message)(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg);
    /* Bytes from an authenticated peer that are no valid message; counted, the channel lives. May be NULL. */
    void (*on_malformed)(void *ctx, struct dbe_peer *peer, dbe_err err, const struct dbe_diag *diag);
    /* The handshake is done. May be NULL. */
    void (*on_up)(void *ctx, struct dbe_peer *peer);
    /* The channel ended, or a handshake failed (the peer's identity is NULL then). May be NULL. */
    void (*on_down)(void *ctx, struct dbe_peer *peer, dbe_err why, const struct dbe_diag *diag);
    /* A send or a call of this peer was refused with E_LIMIT, and no more than DBE_SEND_QUEUE_LOW_BYTES wait now: it may
     * go on. Once for each time that it was refused, however often. May be NULL. */
    void (*on_drained)(void *ctx, struct dbe_peer *peer);
};

struct dbe_node_config {
    const struct dbe_credential *credential; /* borrowed: outlives the node */
    const struct dbe_trust      *trust;      /* borrowed */
    const struct dbe_node_ops   *ops;        /* borrowed */
    void                        *ctx;
    uint64_t                     policy_epoch;
    uint32_t                     peers_max; /* 0: DBE_PEERS_MAX */
};

dbe_err dbe_node_new(struct dbe_loop *loop, const struct dbe_node_config *config, struct dbe_node **ret)
    DBE_MUST_CHECK;
void    dbe_node_free(struct dbe_node *node); /* takes NULL; open calls end with E_CANCELLED first */

dbe_err dbe_node_listen(struct dbe_node *node, const char *address, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Keep a channel to `address` up: connects now, reconnects with back-off (50 ms doubling to 2 s, with jitter) until
 * closed. Only a peer of `role` (0: any) and `device` (-1: any) is accepted. The handle lives until dbe_link_close. */
struct dbe_link;
dbe_err dbe_node_link(struct dbe_node *node, const char *address, uint8_t role, int device, struct dbe_link **ret)
    DBE_MUST_CHECK;
void             dbe_link_close(struct dbe_link *link); /* takes NULL */
struct dbe_peer *dbe_link_peer(const struct dbe_link *link); /* NULL while it is down */
/* Why the last attempt failed; DBE_OK when up or not yet tried. */
dbe_err          dbe_link_last_error(const struct dbe_link *link, struct dbe_diag *ret_diag);

/* ---- calls ---------------------------------------------------------------------------------------------- */

/* One answer of a call. `msg` NULL: the call ended with `err` (E_TIMEOUT, E_CLOSED, E_CANCELLED); no more follows.
 * `last` is set when the message's STREAMING flag is clear or it is an ERROR; no more follows after that. An ERROR
 * message is an answer like any other: `err` is then DBE_OK. */
typedef void dbe_reply_fn(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err);

/* Send request `bytes` (a whole message) and hear its answers. `deadline_ns` is absolute, base_mono_ns. `fn` is
 * called at least once, unless this returns an error. E_LIMIT: DBE_CALLS_IN_FLIGHT_MAX or send queue; E_DUPLICATE:
 * the correlation id is in flight. */
dbe_err dbe_call(struct dbe_peer *peer, const void *bytes, size_t len, uint64_t deadline_ns, dbe_reply_fn *fn,
                 void *ctx, uint64_t *ret_call_id) DBE_MUST_CHECK;
/* Forget a call: `fn` is not called any more. Sends nothing (the caller decides about L7_CANCEL). Unknown ids are
 * ignored. */
void    dbe_call_cancel(struct dbe_peer *peer, uint64_t call_id);
/* Send a message that expects no answer, or an answer to one (same correlation id). */
dbe_err dbe_send(struct dbe_peer *peer, const void *bytes, size_t len) DBE_MUST_CHECK;

const struct dbe_identity *dbe_peer_identity(const struct dbe_peer *peer);
/* The peer's ML-DSA-87 public key from its certificate (2592 bytes): claims it issues are verified with it. */
const uint8_t *dbe_peer_public_key(const struct dbe_peer *peer);
/* 32 bytes that only the two ends of this channel know. */
dbe_err     dbe_peer_channel_binding(const struct dbe_peer *peer, uint8_t ret[32]) DBE_MUST_CHECK;
const char *dbe_peer_suite(const struct dbe_peer *peer);   /* name of the suite; "none" before it is chosen */
uint16_t    dbe_peer_suite_id(const struct dbe_peer *peer); /* its number on the wire; 0 before it is chosen */
const char *dbe_suite_name(uint16_t suite);                /* "unknown" if this build has no such suite */
uint64_t    dbe_peer_handshake_us(const struct dbe_peer *peer);
size_t      dbe_peer_queued_bytes(const struct dbe_peer *peer); /* back-pressure: what waits to be written */
void       *dbe_peer_user(const struct dbe_peer *peer);    /* the owner's pointer, NULL at first */
void        dbe_peer_set_user(struct dbe_peer *peer, void *user);
void        dbe_peer_close(struct dbe_peer *peer, dbe_err why);

struct dbe_node_stats {
    uint64_t handshakes_ok, handshakes_failed, messages_in, messages_out, bytes_in, bytes_out, malformed, peers;
    uint64_t calls_in_flight,
        calls_timed_out, answers_unmatched; /* answers to calls that were cancelled, had ended or were never made */
};
void dbe_node_stats(const struct dbe_node *node, struct dbe_node_stats *ret);

DBE_END_DECLS

#endif
