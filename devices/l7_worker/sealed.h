/* SPDX-License-Identifier: Apache-2.0
 *
 * sealed.h - what a worker says past the router: prompts sealed to its key, answers sealed back, receipts.
 *
 * In:   requests with SEALED_TO, requests for a receipt; the answer as it is sent
 * Out:  what was sealed; messages sealed; receipts; the cards of the keys
 * Not:  no model. Threads: the loop's.
 */
#ifndef L7_WORKER_SEALED_H
#define L7_WORKER_SEALED_H

#include "dbe/msg.h"
#include "devices/l7_worker/answer.h"
#include "e2e/receipt.h"
#include "e2e/sealed.h"
#include "policy/policy.h"

enum {
    WORKER_KEY_ROTATE_MS = 3600 * 1000,    /* a new key at least this often */
    WORKER_KEY_OVERLAP_MS = 5 * 60 * 1000, /* and the one before still opens for this long */
};

struct worker_keys { /* zeroed to begin with */
    struct e2e_key *current, *before;
    uint64_t made_ms, last_ms; /* last: of the tick before */
};
/* Make the first key, or the next one if it is time. On error the keys are as before. */
dbe_err worker_keys_tick(struct worker_keys *keys, const struct dbe_credential *self, uint64_t now_ms) DBE_MUST_CHECK;
void worker_keys_free(struct worker_keys *keys);

/* One request's own. Zeroed; worker_private_free at its end. */
struct worker_private {
    struct e2e_talk *talk;                     /* NULL: it came in clear */
    uint32_t answers;                          /* with `talk`: the most that may be asked for */
    struct crypto_hash *answer;                /* NULL: no receipt is wanted */
    uint8_t request_digest[CRYPTO_HASH_BYTES]; /* with `answer` */
};
void worker_private_free(struct worker_private *p);

/* Does the message carry a sealed request? */
bool worker_is_sealed(const struct dbe_msg *msg);
/* Append what was sealed to `plain`. E_UNSUPPORTED, E_MALFORMED, and those of e2e_open_request; `ret_reason` says it to
 * the caller. */
dbe_err worker_open(struct worker_keys *keys, const struct dbe_msg *msg, const struct pol_labels *labels,
                    uint8_t device, const uint8_t request_id[16], uint64_t now_ms, struct base_buf *plain,
                    struct worker_private *ret, const char **ret_reason) DBE_MUST_CHECK;
/* Replace a packed answer of `type` by one that carries it sealed. With `totals` it is the last one, and the numbers of
 * tokens stand in clear beside it: limits of tenants are settled on the way. */
dbe_err worker_seal(struct worker_private *p, uint8_t type, const struct engine_result *totals,
                    struct base_buf *packed) DBE_MUST_CHECK;

/* A receipt is wanted for this request. */
dbe_err worker_receipt_begin(struct worker_private *p, const void *payload, size_t len) DBE_MUST_CHECK;
/* More of the answer's text is about to be sent. */
dbe_err worker_receipt_text(struct worker_private *p, const struct base_buf *text) DBE_MUST_CHECK;
/* The answer is complete: sign. `call` is the JSON of the call that it ends with, or empty. `r` has what the worker
 * knows of itself and of the request; the rest is filled in. */
dbe_err worker_receipt_end(struct worker_private *p, struct e2e_receipt *r, const struct engine_result *result,
                           const struct base_buf *call, const struct dbe_credential *self,
                           struct base_buf *out) DBE_MUST_CHECK;

#endif
