/* SPDX-License-Identifier: Apache-2.0
 *
 * tpm.h - the few things that this folder asks of a TPM 2.0: keep 32 bytes, give them back, make an attestation key,
 * quote. Private to this folder and its tests. One connection belongs to one thread; every call blocks for as long as
 * the TPM takes (a hardware one: up to a second).
 */
#ifndef NODE_TPM_H
#define NODE_TPM_H

#include "base/base.h"

enum {
    TPM_BLOB_MAX_BYTES = 1024,
    TPM_PCRS = 24,
    TPM_DIGEST_BYTES = 32,  /* SHA-256 bank */
    TPM_POINT_BYTES = 65,   /* SEC 1, uncompressed, P-256 */
    TPM_ATTEST_MAX_BYTES = 512,
};

/* An object of a TPM outside of it: only this TPM can load it. TPM2B_PUBLIC and TPM2B_PRIVATE, marshalled. */
struct tpm_blob {
    uint8_t pub[TPM_BLOB_MAX_BYTES], priv[TPM_BLOB_MAX_BYTES];
    size_t  pub_len, priv_len;
};

struct tpm_quote {
    uint8_t attest[TPM_ATTEST_MAX_BYTES]; /* TPMS_ATTEST */
    size_t  attest_len;
    uint8_t r[32], s[32];                 /* ECDSA over SHA-256 of it */
    uint8_t pcrs[TPM_PCRS][TPM_DIGEST_BYTES]; /* values of the registers quoted */
};

struct tpm;
/* True if this build can use a TPM at all. */
bool tpm_supported(void);
/* Connect. `tcti` as the TSS's loader takes it ("device:/dev/tpmrm0", "swtpm:path=/run/tpm"); NULL: its own choice.
 * E_TPM: not reachable, or its libraries are not installed; E_UNSUPPORTED: not in this build. */
dbe_err tpm_open(const char *tcti, struct tpm **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
void    tpm_close(struct tpm *tpm); /* takes NULL */

/* Seal 32 bytes under the storage primary, with a policy of the present values of `pcrs` unless that is 0. */
dbe_err tpm_seal(struct tpm *tpm, uint32_t pcrs, const uint8_t secret[32], struct tpm_blob *ret,
                 struct dbe_diag *diag) DBE_MUST_CHECK;
/* E_SEALED: another TPM's, or the registers are not what they were. */
dbe_err tpm_unseal(struct tpm *tpm, uint32_t pcrs, const struct tpm_blob *blob, uint8_t secret[32],
                   struct dbe_diag *diag) DBE_MUST_CHECK;

/* An attestation key: ECDSA on P-256, restricted to what the TPM itself states, never leaves it. */
dbe_err tpm_ak_make(struct tpm *tpm, struct tpm_blob *ret, uint8_t point[TPM_POINT_BYTES], struct dbe_diag *diag)
    DBE_MUST_CHECK;
/* Quote `pcrs` (not 0) of the SHA-256 bank with `nonce`. */
dbe_err tpm_quote(struct tpm *tpm, const struct tpm_blob *ak, uint32_t pcrs, const uint8_t nonce[32],
                  struct tpm_quote *ret, struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
