/* SPDX-License-Identifier: Apache-2.0
 *
 * roe.h - ROE tokens: two persons permit one message, and nothing else (docs/spec/dbe-v1.md, section 16).
 *
 * In:   what is asked for; who signs it; a message that carries a token
 * Out:  a body to be signed; an approval; the token, once nothing about it is in doubt
 * Not:  no clock, no file. That a token is used once is the receiver's memory (runtime/roe.c).
 *
 * A token says who asked, for which verb to which device, with which labels and which payload, and when. The message
 * that it travels with must be that message: the receiver holds the body against it, and both signatures against the
 * certificates of enrolled persons (role person), who are two and neither of whom asked. That who is named did ask is
 * for the approvers to see, by a signature beside the token: one of them who is honest is enough.
 */
#ifndef POLICY_ROE_H
#define POLICY_ROE_H

#include "policy/policy.h"

enum {
    POL_ROE_VERSION = 2,
    POL_ROE_LIFETIME_MAX_MS = 24 * 3600 * 1000,
    POL_ROE_BODY_MAX = 512,
    POL_ROE_APPROVAL_BYTES = 64 + CRYPTO_MLDSA87_SIG_BYTES, /* fingerprint of the certificate, signature */
};

/* What kind of act it is: NC3 for device 61 and nothing else. */
enum pol_roe_category { POL_ROE_ADVISORY = 1, POL_ROE_NC3 = 2 };

struct pol_roe {
    uint8_t  id[16]; /* random, used once: ROE_TOKEN_ID */
    uint8_t  verb;   /* message type */
    uint8_t  device; /* that receives it */
    uint8_t  category, classification_max;
    uint8_t  roe_level; /* the message has this one */
    uint32_t compartments;
    uint64_t not_before_ms, not_after_ms; /* Unix */
    uint8_t  payload_digest[64];          /* SHA3-512 */
    char     tenant[DBE_TENANT_MAX_BYTES + 1];
    char     requester[DBE_SPIFFE_ID_MAX_BYTES]; /* SPIFFE id of who asked */
};

/* The one encoding of a token's body. E_ARGUMENT: such a token cannot stand (diag says why). */
dbe_err pol_roe_encode(const struct pol_roe *roe, struct base_buf *out, struct dbe_diag *diag) DBE_MUST_CHECK;
/* E_ROE_TOKEN with words. */
dbe_err pol_roe_decode(const uint8_t *body, size_t len, struct pol_roe *ret, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Sign a body as who asked for it, a person. E_ROE_TOKEN: `who` is none, the body names somebody else, or is none. */
dbe_err pol_roe_ask(const uint8_t *body, size_t len, const struct dbe_identity *who, const struct dbe_credential *cred,
                    uint8_t ret[POL_ROE_APPROVAL_BYTES], struct dbe_diag *diag) DBE_MUST_CHECK;

/* Sign a body as `who`, whose key `cred` holds. E_ROE_TOKEN: who asked may not approve, only a person may, or the body
 * is none. */
dbe_err pol_roe_approve(const uint8_t *body, size_t len, const struct dbe_identity *who,
                        const struct dbe_credential *cred, uint8_t ret[POL_ROE_APPROVAL_BYTES],
                        struct dbe_diag *diag) DBE_MUST_CHECK;

/* Find the certificate with this fingerprint among those of the mesh: valid now, not revoked. False: there is none. */
typedef bool pol_person_fn(void *ctx, const uint8_t fingerprint[64], struct dbe_identity *ret_id,
                           uint8_t ret_pk[CRYPTO_MLDSA87_PK_BYTES]);

/* Did the person that the body names ask for it? E_ROE_TOKEN with words. */
dbe_err pol_roe_check_asked(const uint8_t *body, size_t len, const uint8_t proof[POL_ROE_APPROVAL_BYTES],
                            pol_person_fn *person, void *ctx, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Is this approval one of an enrolled person over this body? E_ROE_TOKEN with words. */
dbe_err pol_roe_check_approval(const uint8_t *body, size_t len, const uint8_t *approval, size_t approval_len,
                               pol_person_fn *person, void *ctx, struct dbe_identity *ret_who,
                               struct dbe_diag *diag) DBE_MUST_CHECK;

/* Two approvals by different persons, neither of whom asked. `ret_who`: both. E_ROE_TOKEN with words. */
dbe_err pol_roe_check_both(const uint8_t *body, size_t len, const struct dbe_tlv *a, const struct dbe_tlv *b,
                           pol_person_fn *person, void *ctx, struct dbe_identity ret_who[2],
                           struct dbe_diag *diag) DBE_MUST_CHECK;

/* Does this message carry a token that permits it, here and now? Cheap checks first. E_ROE_TOKEN with words; E_NOMEM,
 * E_CRYPTO. Does not know whether it was used before. */
dbe_err pol_roe_verify(const struct dbe_msg *msg, uint8_t self_device, uint64_t now_ms, pol_person_fn *person,
                       void *ctx, struct pol_roe *ret, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Must this message of `peer` (NULL: of somebody) carry one here? What a forwarder sends on was checked where it came
 * in, unless the policy names this very node. */
bool pol_roe_needed(const struct pol_policy *policy, const struct dbe_identity *self, const struct dbe_identity *peer,
                    uint8_t type);

/* A token in one piece, as files and gateways carry it: the magic, length of the body (u16), the body, number of
 * approvals (u8), the approvals; and while one is missing, what proves who asked (pol_roe_ask). */
#define POL_ROE_MAGIC "DSMIL ROE 1\n"
enum {
    POL_ROE_APPROVALS_MAX = 2,
    POL_ROE_ID_BYTES = 16,
    POL_ROE_PIECE_MAX = 12 + 2 + POL_ROE_BODY_MAX + 1 + POL_ROE_APPROVALS_MAX * POL_ROE_APPROVAL_BYTES,
};
struct pol_roe_parts { /* into the piece; nothing is verified */
    const uint8_t *body, *id, *approvals[POL_ROE_APPROVALS_MAX]; /* id: POL_ROE_ID_BYTES */
    const uint8_t *asked;                                        /* NULL: both approvals are there */
    size_t body_len, count;
};
/* E_MALFORMED: it is no such piece, or a damaged one; `ret_reason` says which, for behind its name. */
dbe_err pol_roe_parts_read(const uint8_t *piece, size_t len, struct pol_roe_parts *ret,
                           const char **ret_reason) DBE_MUST_CHECK;

#endif
