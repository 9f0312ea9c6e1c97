/* SPDX-License-Identifier: Apache-2.0
 *
 * tpm_none.c - a build without tpm2-tss: every request says so.
 */
#include "tpm.h"

static dbe_err none(struct dbe_diag *diag)
{
    return dbe_fail(diag, DBE_E_UNSUPPORTED, "TPM", 0,
                    "this build cannot use a TPM: install libtss2-dev and build again");
}

bool tpm_supported(void)
{
    return false;
}

dbe_err tpm_open(const char *tcti, struct tpm **ret, struct dbe_diag *diag)
{
    (void)tcti, (void)ret;
    return none(diag);
}

void tpm_close(struct tpm *tpm)
{
    (void)tpm;
}

dbe_err tpm_seal(struct tpm *tpm, uint32_t pcrs, const uint8_t secret[32], struct tpm_blob *ret,
                 struct dbe_diag *diag)
{
    (void)tpm, (void)pcrs, (void)secret, (void)ret;
    return none(diag);
}

dbe_err tpm_unseal(struct tpm *tpm, uint32_t pcrs, const struct tpm_blob *blob, uint8_t secret[32],
                   struct dbe_diag *diag)
{
    (void)tpm, (void)pcrs, (void)blob, (void)secret;
    return none(diag);
}

dbe_err tpm_ak_make(struct tpm *tpm, struct tpm_blob *ret, uint8_t point[TPM_POINT_BYTES], struct dbe_diag *diag)
{
    (void)tpm, (void)ret, (void)point;
    return none(diag);
}

dbe_err tpm_quote(struct tpm *tpm, const struct tpm_blob *ak, uint32_t pcrs, const uint8_t nonce[32],
                  struct tpm_quote *ret, struct dbe_diag *diag)
{
    (void)tpm, (void)ak, (void)pcrs, (void)nonce, (void)ret;
    return none(diag);
}
