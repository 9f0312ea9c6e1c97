/* SPDX-License-Identifier: Apache-2.0
 *
 * receipt.h - what a worker signs about an answer: which model gave it, to which request, under which policy
 * (docs/spec/dbe-v1.md, section 17; docs/receipts.md).
 *
 * In:   the facts and the worker's credential; or the bytes of a receipt, the mesh's trust anchor, what is expected
 * Out:  the receipt, which carries the worker's certificate; or what it says, once nothing about it is in doubt
 * Not:  no clock: a receipt is judged at the time that it names. Nothing of the request or the answer stands in it but
 *       their digests.
 */
#ifndef E2E_RECEIPT_H
#define E2E_RECEIPT_H

#include "base/base.h"
#include "crypto/crypto.h"
#include "dbe/identity.h"

enum {
    E2E_RECEIPT_VERSION = 2,
    E2E_RECEIPT_NAME_MAX = 128, /* bytes of the model's name */
    E2E_RECEIPT_QUANT_MAX = 32,
    E2E_RECEIPT_BODY_MAX = 300 + 3 + DBE_SPIFFE_ID_MAX_BYTES + E2E_RECEIPT_NAME_MAX + E2E_RECEIPT_QUANT_MAX,
    E2E_RECEIPT_MAX_BYTES = E2E_RECEIPT_BODY_MAX + CRYPTO_MLDSA87_SIG_BYTES + 2 + DBE_CERT_MAX_BYTES,
};

enum e2e_finish { E2E_FINISH_STOP = 0, E2E_FINISH_LENGTH = 1, E2E_FINISH_TOOL = 2 };

struct e2e_receipt {
    uint8_t device;
    uint8_t finish; /* enum e2e_finish */
    uint8_t request_id[16];
    uint64_t time_ms; /* Unix: when the answer was complete */
    uint32_t prompt_tokens, cached_tokens, completion_tokens; /* cached ones are among the prompt's */
    uint8_t model_digest[CRYPTO_HASH_BYTES];                  /* SHA3-512 of the model's file */
    uint8_t policy_digest[CRYPTO_HASH_BYTES];
    uint8_t request_digest[CRYPTO_HASH_BYTES]; /* of the payload as the worker read it */
    uint8_t answer_digest[CRYPTO_HASH_BYTES];  /* of the answer's bytes: e2e_answer_end */
    char worker[DBE_SPIFFE_ID_MAX_BYTES];
    char model[E2E_RECEIPT_NAME_MAX + 1];
    char quantisation[E2E_RECEIPT_QUANT_MAX + 1];
};

/* The digest of an answer: `content` has taken the bytes of its text; `name` and `arguments` are those of the call that
 * it ends with, NULL without one. */
dbe_err e2e_answer_end(struct crypto_hash *content, const char *name, const char *arguments,
                       uint8_t ret[CRYPTO_HASH_BYTES]) DBE_MUST_CHECK;

/* Append the receipt: what it says, the signature, the certificate. `worker` and `device` are the credential's,
 * whatever `r` says. E_ARGUMENT: a field cannot stand. E_TOO_LARGE, E_NOMEM. */
dbe_err e2e_receipt_issue(const struct e2e_receipt *r, const struct dbe_credential *worker,
                          struct base_buf *out) DBE_MUST_CHECK;

/* The parts of a receipt whose form is right: pointers into the bytes read. Nothing is verified. */
struct e2e_receipt_parts {
    struct e2e_receipt says;
    size_t body_len; /* from the start: what is signed */
    const uint8_t *signature, *certificate;
    size_t certificate_len;
};
/* E_MALFORMED, E_RANGE, E_UNSUPPORTED, E_UTF8; diag->clause is the field. */
dbe_err e2e_receipt_read(const void *bytes, size_t len, struct e2e_receipt_parts *ret,
                         struct dbe_diag *diag) DBE_MUST_CHECK;

/* What a receipt has to say. NULL fields may be anything. */
struct e2e_receipt_expect {
    const char *worker, *model, *quantisation;
    const uint8_t *request_id; /* 16 bytes */
    const uint8_t *model_digest, *policy_digest, *request_digest, *answer_digest;
};

/* Read; verify the certificate against the mesh (valid when the receipt was made, not revoked since, role worker), the
 * signature, that the worker named is the certificate's, and what is expected. diag->clause names what is wrong, by the
 * field's name. E_CERT, E_REVOKED, E_EXPIRED, E_AUTH (also: not what is expected), errors of e2e_receipt_read; `ret`
 * and `ret_id` are untouched then; `ret_id` may be NULL. */
dbe_err e2e_receipt_verify(const void *bytes, size_t len, const struct dbe_trust *trust,
                           const struct e2e_receipt_expect *expect, struct e2e_receipt *ret,
                           struct dbe_identity *ret_id, struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
