/* SPDX-License-Identifier: Apache-2.0
 *
 * sealed_priv.h - what the files of sealed prompts share. Not for others.
 */
#ifndef E2E_SEALED_PRIV_H
#define E2E_SEALED_PRIV_H

#include "dbe/registry.h"
#include "e2e/sealed.h"

struct e2e_card_parts {   /* of a card whose form is right; nothing is verified */
    struct e2e_card card; /* without digest and worker */
    uint8_t device;
    const uint8_t *signature, *certificate;
    size_t certificate_len;
};
dbe_err e2e_card_read(const void *bytes, size_t len, struct e2e_card_parts *ret, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Append the card of this key and window, signed. */
dbe_err e2e_card_make(const struct dbe_credential *worker, const struct e2e_card *card,
                      struct base_buf *out) DBE_MUST_CHECK;

/* The head of what is sealed, in clear. */
struct e2e_head {
    uint8_t device;
    uint8_t key_id[E2E_KEY_ID_BYTES];
    uint64_t time_ms;
    const uint8_t *ct, *pub; /* into the bytes */
};
dbe_err e2e_head_read(const void *sealed, size_t len, struct e2e_head *ret) DBE_MUST_CHECK;

/* Opened requests within the window; a request stays until it could not be opened again for its time alone. What made
 * room is not opened again either, should the clock go back: nothing is that ends no later than what was forgotten. */
struct e2e_seen {
    struct e2e_seen_row {
        uint8_t id[16];
        uint64_t until_ms; /* 0: free */
    } rows[E2E_SEEN_MAX];
    size_t hint;       /* where the search for a free row begins */
    uint64_t floor_ms; /* the latest end of a row that was used again */
};
/* E_REPLAY: it is there. E_EXPIRED: it may have been there. E_LIMIT: no room. */
dbe_err e2e_seen_add(struct e2e_seen *seen, const uint8_t id[16], uint64_t until_ms, uint64_t now_ms) DBE_MUST_CHECK;

/* The two keys of one request. */
enum { E2E_KEYS_BYTES = 2 * CRYPTO_AEAD_KEY_BYTES };
dbe_err e2e_derive(const uint8_t kem_ss[CRYPTO_KEM_SS_BYTES], const uint8_t ecdh_ss[CRYPTO_P384_SS_BYTES],
                   const uint8_t card_digest[CRYPTO_HASH_BYTES], const uint8_t *head, uint8_t ret[E2E_KEYS_BYTES],
                   uint8_t ret_id[16]) DBE_MUST_CHECK;
/* The labels in their one form, appended. E_ARGUMENT. */
dbe_err e2e_labels_put(const struct e2e_labels *labels, struct base_buf *out) DBE_MUST_CHECK;
dbe_err e2e_talk_new(const uint8_t key[CRYPTO_AEAD_KEY_BYTES], bool seals, struct e2e_talk **ret) DBE_MUST_CHECK;

#endif
