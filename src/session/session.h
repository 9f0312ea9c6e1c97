/* SPDX-License-Identifier: Apache-2.0
 *
 * session.h - one sealed channel: handshake, key schedule, record layer. Bytes in, bytes out; no I/O, no clock of
 * its own, no knowledge of sockets (docs/spec/dbe-v1.md, sections 5 to 7; architecture: 000 section 3).
 *
 * Mutual handshake in 1.5 round trips, states and allowed moves in one table:
 *   1 initiator -> responder   offered suites, nonce, ECDH share, ML-KEM ek, registry hash, policy digest  (clear)
 *   2 responder -> initiator   chosen suite, nonce, ECDH share, ML-KEM ct (clear); certificate, evidence, signature,
 *                              key confirmation (sealed under handshake keys)
 *   3 initiator -> responder   certificate, evidence, signature, key confirmation (sealed)
 * Identities are hidden from a passive listener. Keys are separate per direction. Both sides sign the transcript.
 *
 * A live channel changes suite, keys and certificates without losing a message: the same three messages travel sealed
 * inside it (sess_rehandshake), then each direction moves to the new keys at a record of its own.
 *
 * Threads: one session belongs to one thread.
 */
#ifndef SESSION_SESSION_H
#define SESSION_SESSION_H

#include "base/base.h"
#include "crypto/crypto.h"
#include "dbe/identity.h"
#include "dbe/limits.h"
#include "dbe/policy.h"

struct sess;

enum sess_role { SESS_INITIATOR, SESS_RESPONDER };

/* What the session asks of its owner: credentials and the check of the peer's. The node fills this in with
 * dbe_credential and dbe_trust; tests with fakes. */
struct sess_auth_ops {
    /* Own certificate (DER); valid and the same until the handshake that asked is over (SESS_ESTABLISHED,
     * SESS_SWITCHED, SESS_REFUSED or an error); a later handshake of the session may be given another. */
    void (*own_cert)(void *ctx, const uint8_t **ret_der, size_t *ret_len);
    /* Sign the transcript with the own ML-DSA-87 key. */
    dbe_err (*sign)(void *ctx, const char *sig_ctx, const void *msg, size_t len, uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES]);
    /* Verify the peer's certificate, and apply whom the owner wants to talk to (expected id, revocation). */
    dbe_err (*verify_cert)(void *ctx, const uint8_t *der, size_t len, struct dbe_identity *ret,
                           uint8_t ret_pk[CRYPTO_MLDSA87_PK_BYTES], struct dbe_diag *diag);
    /* Optional. Proof of more than the key, such as a TPM quote, over `th` = TH(own certificate), spec 6.8: appended to
     * `out`, which is empty and takes at most SESS_EVIDENCE_MAX_BYTES. NULL: there is none. */
    dbe_err (*evidence)(void *ctx, const uint8_t th[CRYPTO_HASH_BYTES], struct base_buf *out);
    /* Optional. Judge the peer's, which may be empty: called when certificate and signature have been verified, so it
     * is the peer's own. NULL: whatever it is, it counts for nothing. */
    dbe_err (*verify_evidence)(void *ctx, const struct dbe_identity *peer, const uint8_t th[CRYPTO_HASH_BYTES],
                               const uint8_t *bytes, size_t len, struct dbe_diag *diag);
    void *ctx;
};

enum { SESS_EVIDENCE_MAX_BYTES = 4096 };

struct sess_config {
    enum sess_role           role;
    struct sess_auth_ops     auth;
    uint16_t                 suites[DBE_SUITES_MAX]; /* best first; count 0: the first (initiator), all (responder) */
    size_t                   suites_count;
    struct dbe_policy_digest policy_digest;          /* enters the transcript; both sides must agree about it */
    struct dbe_policy_digest policy_digest_before;   /* a responder takes this one as well, unless it is none */
    bool                     datagram;               /* sliding replay window instead of strict order */
    /* When the own direction moves to new keys by itself; 0 or more than dbe/limits.h allows: the limit there. */
    uint64_t                 rekey_records, rekey_bytes, rekey_age_ns;
};

/* Make a session in its first state. */
dbe_err sess_new(const struct sess_config *config, struct sess **ret) DBE_MUST_CHECK;
void    sess_free(struct sess *s); /* takes NULL; wipes every key */

/* Bytes to send now (framed records) are appended to `out`. For the initiator the first call, with no input,
 * produces message 1. */
dbe_err sess_start(struct sess *s, struct base_buf *out) DBE_MUST_CHECK;

/* What came out of sess_feed. */
enum sess_event {
    SESS_NEED_MORE,   /* not a whole record yet */
    SESS_HANDSHAKING, /* consumed a handshake record; maybe appended an answer to `out`, or owes one (sess_flush) */
    SESS_ESTABLISHED, /* the channel is up: sess_peer and sess_seal may be used */
    SESS_MESSAGE,     /* *ret_msg is one opened DBE message (or other application bytes), valid until the next call */
    SESS_REKEYED,     /* the peer moved to a new epoch; nothing to deliver */
    SESS_PEER_CLOSED, /* authenticated end of the channel */
    SESS_DROPPED,     /* datagram only: a record that did not open or was seen before; counted, the channel lives */
    SESS_SWITCHED,    /* what the peer seals from here on is under a rehandshake's keys; sess_suite and sess_peer may
                         have been renewed (the SPIFFE id is the same); a record is owed (sess_flush) */
    SESS_REFUSED,     /* a rehandshake came to nothing, for want of a common suite or of means on either side: sess_diag
                         says why until the next call; the channel goes on as it was; a record may be owed */
};

/* Take at most one record from `in`; *ret_used says how many bytes it was (0 with SESS_NEED_MORE). Opens in place:
 * `in` is modified. An error is final: the session is dead, its keys wiped, only sess_free and sess_diag remain. A
 * peer whose handshake fails learns only an alert code: that record is appended to `out` beside the error; send it,
 * then close. Once the channel is up nothing is ever appended to `out`: what a rehandshake has to answer is owed, and
 * goes before whatever is sealed next, or with sess_flush. */
dbe_err sess_feed(struct sess *s, uint8_t *in, size_t len, size_t *ret_used, enum sess_event *ret_event,
                  const uint8_t **ret_msg, size_t *ret_msg_len, struct base_buf *out) DBE_MUST_CHECK;

/* Largest record that the present state accepts, header included: what a receive buffer need hold at most. Small until
 * the peer is authenticated. */
size_t sess_recv_max(const struct sess *s);

/* Seal one message; the record is appended to `out`, which must not hold `msg`; on error `out` is unchanged. E_STATE
 * before the channel is up; rekeys by itself at the limits of dbe/limits.h (the notice goes first, into the same
 * buffer), `now_ns` ages the epoch. */
dbe_err sess_seal(struct sess *s, const void *msg, size_t len, uint64_t now_ns, struct base_buf *out) DBE_MUST_CHECK;

/* The same for content that was gathered in `out` itself: the room of the record's header (DBE_RECORD_HEADER_BYTES)
 * begins at `head_at` of `out`, what is to be sealed lies behind it, up to the end of `out`. Seals there and appends
 * the tag. Nothing else may be sealed by this session between the first byte of the gathering and this call. E_NOMEM
 * and E_TOO_LARGE leave all as it was; other errors are final and the gathered content is gone. */
dbe_err sess_seal_in_place(struct sess *s, size_t head_at, uint64_t now_ns, struct base_buf *out) DBE_MUST_CHECK;

/* Move the own direction to the next epoch now. */
dbe_err sess_rekey(struct sess *s, uint64_t now_ns, struct base_buf *out) DBE_MUST_CHECK;

/* Begin a new handshake inside the channel, by either side: new keys and, where they were renewed, new certificates,
 * under the first of `suites` (best first; count 0: the suite in use) that the peer takes. Its first record is appended
 * to `out`. Messages flow on meanwhile and none is lost; SESS_SWITCHED says that it is done, SESS_REFUSED that it came
 * to nothing. If both sides begin one, the channel's initiator's goes through and serves both. A peer that fails in it
 * (another SPIFFE id, a bad signature, a revoked certificate) loses the channel. Channel binding and K_log stay.
 * E_STATE on datagrams and before the channel is up; E_AGAIN while one is in progress; E_UNSUPPORTED, E_DUPLICATE,
 * E_ARGUMENT for the list; on any error but those of sess_seal nothing has changed. */
dbe_err sess_rehandshake(struct sess *s, const uint16_t *suites, size_t count, uint64_t now_ns,
                         struct base_buf *out) DBE_MUST_CHECK;

/* Which suites later handshakes inside this channel may choose when the peer begins them; count 0: all of this build.
 * Does not touch what is in use or in progress. */
dbe_err sess_set_suites(struct sess *s, const uint16_t *suites, size_t count) DBE_MUST_CHECK;

/* Our policy changed: later handshakes inside this channel offer `digest`; from the peer `before` is taken as well,
 * unless it is none. One that offers another is refused, and the channel goes on (SESS_REFUSED, E_POLICY). */
void sess_set_policy_digest(struct sess *s, const struct dbe_policy_digest *digest,
                            const struct dbe_policy_digest *before);
/* The digest that both ends signed in the handshake whose keys the peer uses; none before message 1. */
const struct dbe_policy_digest *sess_policy_digest(const struct sess *s);
extern const struct dbe_policy_digest sess_policy_none; /* all zeros */
/* Digests are public: that the time it takes tells where they differ does no harm. */
bool sess_same_policy(const struct dbe_policy_digest *a, const struct dbe_policy_digest *b);

/* Records that are owed to the peer after SESS_HANDSHAKING, SESS_SWITCHED or SESS_REFUSED on a channel that is up,
 * sealed and appended to `out`; nothing if nothing is owed. Errors as sess_seal; after E_NOMEM and E_TOO_LARGE they are
 * still owed. Every call that seals does this first. */
dbe_err sess_flush(struct sess *s, uint64_t now_ns, struct base_buf *out) DBE_MUST_CHECK;
bool    sess_owes(const struct sess *s);

/* Datagrams: append the last handshake record once more, the same bytes; the owner calls it when its timer finds the
 * handshake unfinished. Appends nothing when the peer is known to have it. The peer's repetitions are answered by
 * sess_feed itself (on a channel that is up: owed). E_STATE on streams and for a session that is over or has not begun;
 * E_NOMEM and E_TOO_LARGE leave all as it was. */
dbe_err sess_resend(struct sess *s, struct base_buf *out) DBE_MUST_CHECK;

/* Say goodbye: sealed close record. */
dbe_err sess_close(struct sess *s, struct base_buf *out) DBE_MUST_CHECK;

bool                       sess_is_up(const struct sess *s);
const struct dbe_identity *sess_peer(const struct sess *s);  /* NULL before it is authenticated */
const struct crypto_suite *sess_suite(const struct sess *s); /* NULL before it is chosen */
const struct dbe_diag     *sess_diag(const struct sess *s);  /* why it died, or why a rehandshake was refused */
/* 32 bytes that both ends know and nobody else: binds claims and audit records to the channel, for its whole life.
 * E_STATE before it is up and after it ended. */
dbe_err sess_channel_binding(const struct sess *s, uint8_t ret[32]) DBE_MUST_CHECK;
dbe_err sess_log_key(const struct sess *s, uint8_t ret[32]) DBE_MUST_CHECK; /* K_log */

struct sess_stats {
    uint64_t sealed, opened, sealed_bytes, opened_bytes, rekeys, replays_refused;
    uint64_t switches;       /* rehandshakes whose keys the peer uses */
    uint64_t refused;        /* rehandshakes that came to nothing */
    uint64_t flights_resent; /* datagrams: times that handshake records were repeated */
    uint64_t handshake_ns; /* filled in by the owner, who has a clock */
    uint8_t  epoch_send, epoch_recv;
};
void sess_stats(const struct sess *s, struct sess_stats *ret);

#endif
