/* SPDX-License-Identifier: Apache-2.0
 *
 * session_priv.h - what the files of the session share. Included by src/session and its tests alone.
 *
 * Reading order: session.c (states, feed) -> msg1.c msg2.c msg3.c (one handshake message each, made and taken) ->
 * auth_block.c (certificate, evidence, signature, confirmation) -> key_schedule.c -> record.c -> rekey.c, replay.c ->
 * send.c (what is sealed, and what goes before it) -> renew.c (a handshake inside the channel), flight.c (datagrams).
 *
 * Handshake bodies, after the record header (network byte order, nothing may follow):
 *   1  version u8 | count u8 | nonce 32 | registry hash 32 | policy digest 32 |
 *      count x { suite u16 | share length u16 | ECDH public value | ML-KEM ek }
 *   2  version u8 | suite u16 | nonce 32 | ECDH public value | ML-KEM ct | sealed auth block
 *   3  sealed auth block
 *   auth block  length u16 | certificate | length u16 | evidence | signature 4627 | confirmation 64
 *   alert       error number u16, in the clear, believed by nobody
 */
#ifndef SESSION_PRIV_H
#define SESSION_PRIV_H

#include "session/session.h"

enum sess_state {
    SESS_I_NEW,    /* initiator before sess_start */
    SESS_I_WAIT_2, /* message 1 is out */
    SESS_R_WAIT_1,
    SESS_R_WAIT_3, /* message 2 is out */
    SESS_UP,
    SESS_CLOSING, /* we said goodbye; the peer may still speak */
    SESS_CLOSED,  /* the peer said goodbye */
    SESS_DEAD,    /* after an error */
    SESS_STATES
};

/* Record types on the wire. */
enum sess_rec {
    SESS_REC_MSG_1 = 0x01,
    SESS_REC_MSG_2 = 0x02,
    SESS_REC_MSG_3 = 0x03,
    SESS_REC_DATA = 0x10,
    SESS_REC_REKEY = 0x11, /* one byte, the epoch that follows */
    SESS_REC_CLOSE = 0x12, /* empty */
    SESS_REC_REHANDSHAKE = 0x13, /* one whole record of a handshake inside the channel */
    SESS_REC_SWITCH = 0x14, /* one byte, the epoch that follows; its keys are those of that handshake */
    SESS_REC_ALERT = 0x20,
};

enum {
    SESS_HS_VERSION = 1,
    SESS_NONCE_BYTES = 32,
    SESS_REGISTRY_BYTES = 32,
    SESS_SECRET_BYTES = CRYPTO_HASH_BYTES,
    SESS_MSG1_FIXED_BYTES = 1 + 1 + SESS_NONCE_BYTES + SESS_REGISTRY_BYTES + DBE_POLICY_DIGEST_BYTES,
    SESS_MSG2_FIXED_BYTES = 1 + 2 + SESS_NONCE_BYTES,
    SESS_AUTH_FIXED_BYTES = 2 + 2 + CRYPTO_MLDSA87_SIG_BYTES + CRYPTO_HASH_BYTES,
    SESS_ALERT_BYTES = 2,
    SESS_ALERT_RECORD_BYTES = DBE_RECORD_HEADER_BYTES + SESS_ALERT_BYTES,
    SESS_FIRST_EPOCH = 1, /* handshake records say 0 */
    SESS_REPLAY_WORDS = DBE_REPLAY_WINDOW / 64 + 1,
};

#define SESS_PROTOCOL_ID "DSMIL-DBE v1"
#define SESS_RENEW_ID " rehandshake" /* behind it, and then the channel binding */

struct sess_rec_head {
    uint32_t length; /* bytes after the header */
    uint8_t type, epoch;
    uint16_t reserved;
    uint64_t seq;
};

/* Which sequence numbers were taken. */
struct sess_replay {
    uint64_t next; /* highest taken + 1 */
    uint64_t bits[SESS_REPLAY_WORDS];
    bool window; /* else strict order */
};

/* Keys of one direction and epoch, and the suite that they are for: while a channel switches, its directions differ. */
struct sess_keys {
    const struct crypto_suite *suite;
    struct crypto_aead_ctx *aead;
    uint8_t iv[CRYPTO_AEAD_IV_BYTES];
};

struct sess_send {
    struct sess_keys keys;
    uint8_t epoch;
    bool aged;     /* epoch_start_ns is set */
    bool any; /* last_seq is set: the invariant that no sequence number, and with it no nonce, is ever used twice */
    uint64_t next_seq, last_seq;
    uint64_t epoch_records, epoch_bytes, epoch_start_ns;
};

struct sess_recv {
    struct sess_keys keys, prev; /* prev: datagrams that were overtaken by a rekey; never in strict order */
    uint8_t epoch;
    bool any; /* something was opened under application keys */
    struct sess_replay replay;
};

/* Secret memory, for the channel's life. */
struct sess_secrets {
    uint8_t send[SESS_SECRET_BYTES], recv[SESS_SECRET_BYTES]; /* of the present epoch */
    uint8_t k_log[32], binding[32];
};

/* Secret memory, for the handshake alone. */
struct sess_hs_secrets {
    uint8_t ikm[CRYPTO_ECDH_SS_MAX_BYTES + CRYPTO_KEM_SS_BYTES];
    uint8_t prk[SESS_SECRET_BYTES], master[SESS_SECRET_BYTES];
    uint8_t key[2][CRYPTO_AEAD_KEY_BYTES], iv[2][CRYPTO_AEAD_IV_BYTES]; /* by role of the sender */
    uint8_t k_mac[2][SESS_SECRET_BYTES];
};

/* What exists during the handshake alone. */
struct sess_hs {
    struct sess_hs_secrets *secrets;
    struct crypto_hash *transcript;
    struct crypto_ecdh_key *ecdh[DBE_SUITES_MAX]; /* initiator: one for each offered suite */
    struct crypto_kem_key *kem[DBE_SUITES_MAX];
    uint8_t ecdh_pub[DBE_SUITES_MAX][CRYPTO_ECDH_PUB_MAX_BYTES]; /* own, to know a reflection */
    uint8_t nonce[SESS_NONCE_BYTES];
    uint8_t registry[SESS_REGISTRY_BYTES]; /* our own registry hash */
};

/* A handshake inside the channel. */
enum sess_renew_state {
    SESS_RENEW_WAIT_2, /* we began: message 1 is sealed */
    SESS_RENEW_WAIT_3, /* the peer began: message 2 is owed or sealed */
    SESS_RENEW_READY,  /* the new keys exist, no direction uses them; message 3, or our SWITCH, is owed or sealed */
    SESS_RENEW_SENT,   /* the peer began, our direction has switched; its SWITCH is to come */
    SESS_RENEW_TAKEN,  /* we began, the peer's direction has switched; our SWITCH is owed */
    SESS_RENEW_STATES
};

struct sess_renew {
    enum sess_renew_state state;
    struct sess *inner;  /* a session of its own, whose records travel in ours and whose keys become ours */
    struct base_buf say; /* its record that is owed to the peer, framed and not yet sealed */
    bool ignored;        /* the peer's message 1 that collided with ours was passed over; there can be but one */
};

/* Datagrams: our last handshake record, until the peer is known to have it. */
struct sess_flight {
    struct base_buf bytes;
    uint8_t answers[CRYPTO_HASH_BYTES]; /* SHA3-512 of the record that it answers; zeros: none */
    bool due;                           /* the channel is up, and the peer asked for it again */
};

struct sess {
    struct sess_config config;
    enum sess_state state;
    const struct crypto_suite *suites[DBE_SUITES_MAX]; /* for the handshake */
    size_t suites_count;
    const struct crypto_suite *suite;
    struct sess_hs *hs;        /* NULL when over */
    struct sess_renew *renew;  /* NULL: no handshake inside the channel is in progress */
    struct sess_flight *flight; /* NULL: nothing to repeat; always on streams */
    uint16_t owed_alert;       /* error number of a handshake inside the channel that we gave up, not told yet; or 0 */
    bool diag_old;             /* diag is of something that did not end the session, and lasts until the next call */
    struct sess_secrets *secrets;
    struct sess_send send;
    struct sess_recv recv;
    struct dbe_identity peer;
    bool peer_known;
    struct dbe_policy_digest policy_digest; /* of message 1, whoever sent it */
    struct sess_stats stats;
    struct dbe_diag diag;
};

/* Result of one record for sess_feed. */
struct sess_out {
    enum sess_event event;
    const uint8_t *msg;
    size_t msg_len;
    struct base_buf *buf;
};

/* Take back what was appended to `buf` behind `start`, and its error. */
static inline void sess_cut(struct base_buf *buf, size_t start)
{
    if (buf->len > start)
        base_wipe(buf->data + start, buf->len - start);
    buf->len = start;
    buf->err = DBE_OK;
}

/* ---- session.c */
/* Suites of a list, best first; count 0: what `role` offers or accepts by default. */
dbe_err sess_suites_of(const uint16_t *ids, size_t count, enum sess_role role,
                       const struct crypto_suite *ret[DBE_SUITES_MAX], size_t *ret_count) DBE_MUST_CHECK;
void sess_fresh_diag(struct sess *s); /* at the beginning of a call */
/* The number that an alert says for `err`: what went wrong on this host is none of the peer's business. */
uint16_t sess_alert_code(dbe_err err);
void sess_alert_put(uint16_t code, uint8_t dst[SESS_ALERT_RECORD_BYTES]);
void sess_move(struct sess *s, enum sess_state next); /* invariant: the move is in the table */
void sess_end_handshake(struct sess *s);              /* frees s->hs, wiping the handshake's secrets */
/* The session dies of `err`: every key is gone. Returns err. */
dbe_err sess_kill(struct sess *s, dbe_err err);

/* Add a record's header to the transcript with zeros for its length, which is known only when the block behind it is
 * made and which the seal of that block covers. */
dbe_err sess_auth_hash_head(struct sess *s, const uint8_t rec_head[DBE_RECORD_HEADER_BYTES]) DBE_MUST_CHECK;

/* ---- msg1.c msg2.c msg3.c: `make` appends to buf and leaves it as it was on error; `take` gets a whole record with
 * its header */
dbe_err sess_msg1_make(struct sess *s, struct base_buf *buf) DBE_MUST_CHECK;
dbe_err sess_msg1_take(struct sess *s, uint8_t *rec, size_t len, struct sess_out *out) DBE_MUST_CHECK;
dbe_err sess_msg2_make(struct sess *s, const uint8_t *peer_pub, const uint8_t *peer_ek,
                       struct base_buf *buf) DBE_MUST_CHECK;
dbe_err sess_msg2_take(struct sess *s, uint8_t *rec, size_t len, struct sess_out *out) DBE_MUST_CHECK;
dbe_err sess_msg3_make(struct sess *s, struct base_buf *buf) DBE_MUST_CHECK;
dbe_err sess_msg3_take(struct sess *s, uint8_t *rec, size_t len, struct sess_out *out) DBE_MUST_CHECK;

/* ---- auth_block.c */
/* Append the own block, sealed under the handshake keys, to the record that begins at `start` of b, and set that
 * record's length. On error the caller wipes and cuts what was appended. */
dbe_err sess_auth_make(struct sess *s, size_t start, struct base_buf *b) DBE_MUST_CHECK;
/* Open and verify the peer's; commits nothing but the transcript. */
dbe_err sess_auth_take(struct sess *s, const uint8_t *rec_head, uint8_t *sealed, size_t len,
                       struct dbe_identity *ret_peer) DBE_MUST_CHECK;

/* ---- key_schedule.c */
dbe_err sess_ks_handshake(struct sess *s) DBE_MUST_CHECK;   /* from secrets->ikm and the transcript so far */
dbe_err sess_ks_application(struct sess *s) DBE_MUST_CHECK; /* from the whole transcript; installs both directions */
/* Next secret of a direction, and the keys of a secret. */
dbe_err sess_ks_next(const uint8_t secret[SESS_SECRET_BYTES], uint8_t next[SESS_SECRET_BYTES]) DBE_MUST_CHECK;
dbe_err sess_ks_keys(const struct crypto_suite *suite, const uint8_t secret[SESS_SECRET_BYTES], bool seal,
                     struct sess_keys *ret) DBE_MUST_CHECK;
void sess_keys_free(struct sess_keys *keys); /* wipes; takes a zeroed one */

/* ---- record.c */
void sess_rec_head_put(uint8_t p[DBE_RECORD_HEADER_BYTES], const struct sess_rec_head *h);
void sess_rec_head_get(const uint8_t p[DBE_RECORD_HEADER_BYTES], struct sess_rec_head *h);
void sess_nonce(const uint8_t iv[CRYPTO_AEAD_IV_BYTES], uint64_t seq, uint8_t nonce[CRYPTO_AEAD_IV_BYTES]);
/* Seal into dst, which takes header + len + tag bytes. */
dbe_err sess_rec_seal(struct sess *s, uint8_t type, const void *msg, size_t len, uint8_t *dst) DBE_MUST_CHECK;
/* Open an application record in place, then replay, then what its type says. */
dbe_err sess_rec_take(struct sess *s, uint8_t *rec, size_t len, struct sess_out *out) DBE_MUST_CHECK;

/* ---- rekey.c */
/* Before `records` more of together `len` bytes. */
bool sess_rekey_due(const struct sess *s, uint64_t records, size_t len, uint64_t now_ns);
/* The own direction moves to `fresh`, which is emptied, and `secret` for its next epoch. */
void sess_send_install(struct sess *s, struct sess_keys *fresh, const uint8_t secret[SESS_SECRET_BYTES],
                       uint64_t now_ns);
enum { SESS_REKEY_NOTICE_BYTES = DBE_RECORD_HEADER_BYTES + 1 + DBE_RECORD_TAG_BYTES };
dbe_err sess_rekey_send(struct sess *s, uint64_t now_ns, uint8_t dst[SESS_REKEY_NOTICE_BYTES]) DBE_MUST_CHECK;
dbe_err sess_rekey_take(struct sess *s, uint8_t epoch) DBE_MUST_CHECK;

/* ---- send.c */
/* What goes before a record that is about to be sealed: the notice of a rekey, and all that is owed. Bytes, and the
 * bytes themselves; an error of the latter is the session's end, for sequence numbers are spent. */
size_t sess_before_bytes(const struct sess *s, bool rekey);
dbe_err sess_before_put(struct sess *s, bool rekey, uint64_t now_ns, uint8_t *dst) DBE_MUST_CHECK;
dbe_err sess_may_send(const struct sess *s) DBE_MUST_CHECK;
/* Is a rekey due before one more record of `len` bytes? Starts the epoch's age with the first record. */
bool sess_ages(struct sess *s, size_t len, uint64_t now_ns);

/* ---- renew.c */
/* The content of a REHANDSHAKE, and a SWITCH. */
dbe_err sess_renew_take(struct sess *s, uint8_t *rec, size_t len, struct sess_out *out) DBE_MUST_CHECK;
dbe_err sess_renew_switch(struct sess *s, uint8_t epoch, struct sess_out *out) DBE_MUST_CHECK;
/* Records and bytes that are owed; and all of them sealed into dst. */
struct sess_owed {
    uint64_t records;
    size_t bytes;
};
struct sess_owed sess_owed(const struct sess *s);
dbe_err sess_owed_put(struct sess *s, uint64_t now_ns, uint8_t *dst) DBE_MUST_CHECK;
void sess_renew_closing(struct sess *s); /* we say goodbye: only a SWITCH of the peer may still matter */
void sess_renew_free(struct sess *s);    /* takes one without */
bool sess_renew_holds(const struct sess *s); /* its invariant */

/* ---- flight.c */
void sess_flight_free(struct sess *s); /* takes one without */
/* Keep a copy of our handshake record, in the place of the one before; len 0: of none. On error the handshake ends. */
dbe_err sess_flight_keep(struct sess *s, const uint8_t *rec, size_t len,
                         const uint8_t answers[CRYPTO_HASH_BYTES]) DBE_MUST_CHECK;
/* Is it a repetition of what was answered? Then answer it the same way. */
bool sess_flight_repeat(struct sess *s, const uint8_t *in, size_t len, struct sess_out *out);

/* ---- replay.c */
dbe_err sess_replay_check(const struct sess_replay *r, uint64_t seq) DBE_MUST_CHECK; /* E_REPLAY */
void sess_replay_commit(struct sess_replay *r, uint64_t seq);

#endif
