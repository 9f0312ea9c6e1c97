/* SPDX-License-Identifier: Apache-2.0
 *
 * sealed.h - prompts sealed to a worker's key, past the router (spec section 18): the cards that the router relays, and
 * what becomes of a request and of its answer.
 *
 * In:   cards; packed requests with their labels; messages of the answer
 * Out:  requests that carry nothing but what is sealed; the answer's payloads
 * Not:  no fallback: what cannot be sealed is not sent. Threads: the loop's.
 */
#ifndef SHIM_SEALED_H
#define SHIM_SEALED_H

#include "dbe/msg.h"
#include "e2e/sealed.h"
#include "shim/openai.h"

enum { SHIM_CARDS_MAX = 8 };

struct shim_cards { /* verified when they came */
    struct shim_card {
        struct e2e_card card;
        uint8_t seen[CRYPTO_HASH_BYTES]; /* of the bytes, so that the same card is not verified every second */
    } list[SHIM_CARDS_MAX];
    size_t count;
};

/* Take a card as it was relayed; one that does not hold is left out. `diag` says why. */
dbe_err shim_cards_take(struct shim_cards *cards, const void *bytes, size_t len, const struct dbe_trust *trust,
                        uint64_t now_ms, struct dbe_diag *diag) DBE_MUST_CHECK;
/* The newest card of this worker that holds now, whose certificate may take these labels. E_UNAVAILABLE: none is known,
 * else what is wrong; `ret_reason` is static. */
dbe_err shim_cards_find(const struct shim_cards *cards, uint8_t device, const struct e2e_labels *labels,
                        const struct dbe_trust *trust, uint64_t now_ms, const struct e2e_card **ret,
                        const char **ret_reason) DBE_MUST_CHECK;

/* Append the request of labels->type that carries `plain` sealed. */
dbe_err shim_seal(const struct e2e_card *card, const struct e2e_labels *labels, uint32_t answers,
                  const struct base_buf *plain, uint64_t now_ms, struct base_buf *out,
                  struct e2e_talk **ret) DBE_MUST_CHECK;
/* Append what a sealed answer carries. E_AUTH: it is not sealed, not the next piece, or ends elsewhere than the
 * message says. */
dbe_err shim_open(struct e2e_talk *talk, const struct dbe_msg *msg, bool last, struct base_buf *out) DBE_MUST_CHECK;

#endif
