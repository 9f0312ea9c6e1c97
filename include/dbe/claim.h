/* SPDX-License-Identifier: Apache-2.0
 *
 * claim.h - claim tokens: on whose behalf a message travels, signed for one channel (docs/spec/dbe-v1.md, section 10).
 *
 * The node that knows the client issues one for the channel by which it sends and puts it into the TLV L7_CLAIM_TOKEN;
 * the node at the other end verifies it with the public key of the certificate it knows its peer by. On any other
 * channel the token is worth nothing. A claim takes rights away and gives none: what it says counts only below the
 * ceilings of both certificates.
 *
 * Threads: pure functions; a credential may be used by several threads at once. Nothing here is kept or allocated
 * beyond the call.
 */
#ifndef DBE_CLAIM_H
#define DBE_CLAIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dbe/err.h"
#include "dbe/identity.h"
#include "dbe/limits.h"

DBE_BEGIN_DECLS

enum {
    DBE_CLAIM_CLIENT_MAX_BYTES = 64,
    DBE_CLAIM_LIFETIME_MAX_MS = 3600 * 1000,
    DBE_CLAIM_TOKEN_MAX_BYTES = 4817, /* by its form, spec 13.1 */
    DBE_CHANNEL_BINDING_BYTES = 32,
    DBE_PUBLIC_KEY_BYTES = 2592, /* ML-DSA-87, FIPS 204 table 2 */
    DBE_SIGNATURE_BYTES = 4627,
};

/* What a claim says. Plain data. Texts are UTF-8, NUL-terminated, not empty. */
struct dbe_claim {
    char     tenant[DBE_TENANT_MAX_BYTES + 1];
    char     client[DBE_CLAIM_CLIENT_MAX_BYTES + 1];
    uint8_t  roe_levels;         /* bit (1 << enum dbe_roe_level) for each level it may use; at least one */
    uint8_t  classification_max; /* enum dbe_classification, UNCLAS to EXEC */
    bool     exercise;           /* of an exercise: carries TS_SIM and nothing else */
    uint32_t compartments;       /* mask of enum dbe_compartment; never KINETIC */
    uint64_t not_before_ms, not_after_ms; /* Unix; at most DBE_CLAIM_LIFETIME_MAX_MS apart */
};

/* Encode and sign a claim for the channel with this binding (dbe_peer_channel_binding), as the value of the TLV
 * L7_CLAIM_TOKEN, into `out`; DBE_CLAIM_TOKEN_MAX_BYTES always suffice. `issuer` is the sender's own credential.
 * E_ARGUMENT: the claim cannot stand (spec 10.3; diag, which may be NULL, says what). E_TOO_LARGE: `cap`. E_CRYPTO. */
dbe_err dbe_claim_issue(const struct dbe_claim *claim, const struct dbe_credential *issuer,
                        const uint8_t binding[DBE_CHANNEL_BINDING_BYTES], void *out, size_t cap, size_t *ret_len,
                        struct dbe_diag *diag) DBE_MUST_CHECK;

/* Verify form, channel binding, signature and window at `now_ms` (Unix), in this order. `issuer_pk` is that of the peer
 * who sent the token (dbe_peer_public_key). E_CLAIM_INVALID; E_CLAIM_EXPIRED, said only of a genuine token. `ret` is
 * untouched on error. */
dbe_err dbe_claim_verify(const void *token, size_t len, const uint8_t issuer_pk[DBE_PUBLIC_KEY_BYTES],
                         const uint8_t binding[DBE_CHANNEL_BINDING_BYTES], uint64_t now_ms, struct dbe_claim *ret,
                         struct dbe_diag *diag) DBE_MUST_CHECK;

/* Does `sig` stand under `msg` for the context string `ctx`, as dbe_credential_sign made it (pure ML-DSA-87, FIPS 204
 * algorithm 3)? `pk` comes from dbe_trust_verify. E_AUTH: no. */
dbe_err dbe_signature_verify(const uint8_t pk[DBE_PUBLIC_KEY_BYTES], const char *ctx, const void *msg, size_t len,
                             const uint8_t sig[DBE_SIGNATURE_BYTES]) DBE_MUST_CHECK;

DBE_END_DECLS

#endif
