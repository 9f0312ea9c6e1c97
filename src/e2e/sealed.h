/* SPDX-License-Identifier: Apache-2.0
 *
 * sealed.h - prompts that a gateway seals to one worker's key, past the router, and answers that come back sealed
 * (docs/spec/dbe-v1.md, section 18; docs/sealed.md).
 *
 * In:   a worker's card (its public key, signed); labels; plaintext, or what is sealed
 * Out:  what is sealed, or plaintext; the conversation's key for the answer
 * Does: ML-KEM-1024 and ECDH P-384 together, HKDF-SHA3-512, AES-256-GCM: what suite 1 has
 * Not:  no I/O, no clock (now_ms comes in), no policy: who may send what to whom is decided elsewhere.
 *
 * Threads: objects belong to one thread.
 */
#ifndef E2E_SEALED_H
#define E2E_SEALED_H

#include "base/base.h"
#include "crypto/crypto.h"
#include "dbe/identity.h"

enum {
    E2E_SEALED_VERSION = 1,
    E2E_KEY_ID_BYTES = 8,
    E2E_CARD_BODY_BYTES = 32 + CRYPTO_MLKEM1024_EK_BYTES + CRYPTO_P384_PUB_BYTES,
    E2E_CARD_MAX_BYTES = E2E_CARD_BODY_BYTES + CRYPTO_MLDSA87_SIG_BYTES + 2 + DBE_CERT_MAX_BYTES,
    E2E_CARD_LIFE_MAX_MS = 24 * 3600 * 1000,
    E2E_SEALED_HEAD_BYTES = 24 + CRYPTO_MLKEM1024_CT_BYTES + CRYPTO_P384_PUB_BYTES,
    E2E_SEALED_OVERHEAD_BYTES = E2E_SEALED_HEAD_BYTES + CRYPTO_AEAD_TAG_BYTES,
    E2E_PIECE_OVERHEAD_BYTES = 1 + CRYPTO_AEAD_TAG_BYTES,
    E2E_WINDOW_MS = 120 * 1000, /* a sealed request is taken this long before and after the time it names */
    E2E_SEEN_MAX = 8192,        /* requests remembered within that window, a key */
    E2E_PROFILE_MAX = 64,
};

/* What a sealed request is bound to: it opens under exactly these. */
struct e2e_labels {
    const char *tenant;  /* 1 to DBE_TENANT_MAX_BYTES */
    const char *profile; /* 0 to E2E_PROFILE_MAX */
    uint32_t compartments;
    uint8_t classification, roe_level;
    uint8_t type;   /* message type of the request */
    uint8_t device; /* the worker's */
    uint8_t request_id[16];
};

/* ---- cards: a worker's key, in public --------------------------------------------------------------------------- */

struct e2e_card { /* verified */
    uint8_t id[E2E_KEY_ID_BYTES];
    uint64_t not_before_ms, not_after_ms;
    uint8_t ek[CRYPTO_MLKEM1024_EK_BYTES], pub[CRYPTO_P384_PUB_BYTES];
    uint8_t digest[CRYPTO_HASH_BYTES]; /* of what is signed: enters the keys */
    struct dbe_identity worker;
};
/* Read a card and verify it against the mesh: certificate, role worker, signature, device, window at `now_ms`.
 * E_MALFORMED, E_UNSUPPORTED, E_RANGE, E_CERT, E_REVOKED, E_EXPIRED, E_AUTH; `ret` untouched then. */
dbe_err e2e_card_verify(const void *bytes, size_t len, const struct dbe_trust *trust, uint64_t now_ms,
                        struct e2e_card *ret, struct dbe_diag *diag) DBE_MUST_CHECK;

/* ---- the worker's side ------------------------------------------------------------------------------------------ */

struct e2e_key; /* one key pair with the requests that it has opened; wiped when freed */
/* Make a key that is good from `now_ms` on for `life_ms` (at most E2E_CARD_LIFE_MAX_MS) and sign its card. E_ARGUMENT,
 * E_NOMEM, E_RANDOM. */
dbe_err e2e_key_new(const struct dbe_credential *worker, uint64_t now_ms, uint64_t life_ms,
                    struct e2e_key **ret) DBE_MUST_CHECK;
void e2e_key_free(struct e2e_key *key); /* takes NULL */
void e2e_key_card(const struct e2e_key *key, const uint8_t **ret, size_t *ret_len);
bool e2e_key_is(const struct e2e_key *key, const void *sealed, size_t len); /* is it sealed to this one? */
bool e2e_key_expired(const struct e2e_key *key, uint64_t now_ms);

struct e2e_talk; /* the answer's key and its counter: one direction, one request; wiped when freed */
void e2e_talk_free(struct e2e_talk *talk); /* takes NULL */

/* Append what was sealed to `out`. `device` and the rest of `labels` are what the message says. E_MALFORMED; E_AUTH:
 * not sealed to this key under these labels; E_EXPIRED: its time, or the key's, is over; E_REPLAY: opened before;
 * E_LIMIT: too many within the window. `out` is as before then. */
dbe_err e2e_open_request(struct e2e_key *key, const struct e2e_labels *labels, const void *sealed, size_t len,
                         uint64_t now_ms, struct base_buf *out, struct e2e_talk **ret) DBE_MUST_CHECK;
/* Append the next piece of the answer, sealed. Nothing may follow the last one: E_STATE. */
dbe_err e2e_seal_piece(struct e2e_talk *talk, const void *plain, size_t len, bool last,
                       struct base_buf *out) DBE_MUST_CHECK;

/* ---- the gateway's side ----------------------------------------------------------------------------------------- */

/* Append `plain` sealed to the card's worker, for labels->device, which must be its device (E_ARGUMENT). */
dbe_err e2e_seal_request(const struct e2e_card *card, const struct e2e_labels *labels, const void *plain, size_t len,
                         uint64_t now_ms, struct base_buf *out, struct e2e_talk **ret) DBE_MUST_CHECK;
/* Append the plaintext of the next piece. `ret_last`: it is the end. E_AUTH: not the next piece of this answer;
 * E_STATE: the end was told. */
dbe_err e2e_open_piece(struct e2e_talk *talk, const void *piece, size_t len, struct base_buf *out,
                       bool *ret_last) DBE_MUST_CHECK;

#endif
