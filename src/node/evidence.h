/* SPDX-License-Identifier: Apache-2.0
 *
 * evidence.h - what a node shows of its state in a handshake: a quote of its TPM's registers, bound to the handshake
 * and to its certificate, and what a verifier wants to see (docs/spec/dbe-v1.md, clauses 8.15 to 8.18). Private to the
 * node layer and its tests.
 */
#ifndef NODE_EVIDENCE_H
#define NODE_EVIDENCE_H

#include "base/base.h"
#include "crypto/crypto.h"
#include "dbe/identity.h"
#include "tpm.h"

enum {
    EVIDENCE_VERSION = 1,
    EVIDENCE_NONCE_BYTES = 32, /* the first of the transcript's hash */
    EVIDENCE_PCRS_DEFAULT = 0xFF, /* 0 to 7: firmware, its configuration, boot loader, secure boot */
    PCR_POLICY_LINES_MAX = 256,
    PCR_POLICY_MAX_BYTES = 64 * 1024,
};

/* ---- for the session's owner ---------------------------------------------------------------------------------------
 *
 * Both fit the optional slots of sess_auth_ops. */

/* Append the evidence of `cred` over `th`; nothing if it has no attestation key. Asks the TPM: it may block for a
 * second. E_TPM, E_SEALED (the key is another TPM's), E_NOMEM. */
dbe_err node_evidence_make(const struct dbe_credential *cred, const uint8_t th[CRYPTO_HASH_BYTES],
                           struct base_buf *out, struct dbe_diag *diag) DBE_MUST_CHECK;
/* Judge the evidence of `peer`, whose certificate and signature were verified; `len` may be 0. E_EVIDENCE. */
dbe_err node_evidence_check(const struct dbe_trust *trust, const struct dbe_identity *peer,
                            const uint8_t th[CRYPTO_HASH_BYTES], const uint8_t *bytes, size_t len,
                            struct dbe_diag *diag) DBE_MUST_CHECK;

/* ---- parts, for tests and fuzzing -------------------------------------------------------------------------------- */

/* Evidence as read; spans into the input. */
struct evidence {
    const uint8_t *point;  /* TPM_POINT_BYTES */
    const uint8_t *attest; /* TPMS_ATTEST, what is signed */
    size_t         attest_len;
    const uint8_t *r, *s;  /* 32 bytes each */
    uint32_t       pcrs;   /* registers shown */
    const uint8_t *values; /* TPM_DIGEST_BYTES each, ascending */
};
/* What a TPM states in a quote. */
struct quote {
    const uint8_t *nonce; /* qualifyingData, EVIDENCE_NONCE_BYTES */
    uint32_t       pcrs;
    const uint8_t *digest; /* over the values of those registers */
};
/* E_EVIDENCE with the byte that is wrong. */
dbe_err evidence_parse(const uint8_t *bytes, size_t len, struct evidence *ret, struct dbe_diag *diag) DBE_MUST_CHECK;
dbe_err quote_parse(const uint8_t *attest, size_t len, struct quote *ret, struct dbe_diag *diag) DBE_MUST_CHECK;
void    evidence_put(struct base_buf *out, const uint8_t point[TPM_POINT_BYTES], uint32_t pcrs,
                     const struct tpm_quote *quote);
dbe_err evidence_sha256(const void *data, size_t len, uint8_t ret[32]) DBE_MUST_CHECK;

/* ---- policy ------------------------------------------------------------------------------------------------------ */

struct pcr_policy;
/* Lines `who quote` or `who register = sha256`, where `who` is a role's path, a device's number or `*`; `#` begins a
 * comment. E_CONFIG names the line. */
dbe_err pcr_policy_parse(const char *text, size_t len, struct pcr_policy **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
void    pcr_policy_free(struct pcr_policy *policy); /* takes NULL */
/* Must this node show a quote? */
bool    pcr_policy_wants(const struct pcr_policy *policy, const struct dbe_identity *id);
/* Do the values shown satisfy each line for this node? Of several lines for one register, one must hold. E_EVIDENCE. */
dbe_err pcr_policy_check(const struct pcr_policy *policy, const struct dbe_identity *id, uint32_t pcrs,
                         const uint8_t *values, struct dbe_diag *diag) DBE_MUST_CHECK;

/* ---- attestation key in the store: <dir>/<name>.ak --------------------------------------------------------------- */

struct node_ak {
    uint32_t        pcrs; /* what it quotes */
    struct tpm_blob blob;
    uint8_t         point[TPM_POINT_BYTES];
};
dbe_err ak_parse(const uint8_t *bytes, size_t len, struct node_ak *ret) DBE_MUST_CHECK;
/* E_NOT_FOUND: there is none. E_CONFIG: damaged. */
dbe_err ak_read(const char *dir, const char *name, struct node_ak *ret, struct dbe_diag *diag) DBE_MUST_CHECK;
/* The one that is there, or a new one, written before it is used. */
dbe_err ak_of(const char *dir, const char *name, uint32_t pcrs, struct node_ak *ret, struct dbe_diag *diag)
    DBE_MUST_CHECK;

#endif
