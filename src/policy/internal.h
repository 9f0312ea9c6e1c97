/* SPDX-License-Identifier: Apache-2.0
 *
 * internal.h - what the files of this room share and nobody else includes: sizes of claim tokens, the window check.
 */
#ifndef POLICY_INTERNAL_H
#define POLICY_INTERNAL_H

#include "policy/policy.h"

enum {
    POL_CLAIM_BODY_FIXED = 60, /* magic to channel binding */
    POL_CLAIM_BODY_MAX = POL_CLAIM_BODY_FIXED + 1 + DBE_TENANT_MAX_BYTES + 1 + POL_CLAIM_NAME_MAX,
    POL_CLAIM_TOKEN_MAX = POL_CLAIM_BODY_MAX + CRYPTO_MLDSA87_SIG_BYTES,
    POL_ROE_ALL = (1 << DBE_ROE_ANALYSIS_ONLY) | (1 << DBE_ROE_SOC_ASSIST) | (1 << DBE_ROE_TRAINING),
};
_Static_assert((int)POL_CLAIM_TOKEN_MAX <= (int)DBE_CLAIM_MAX_BYTES, "a claim token must fit its TLV");

/* E_CLAIM_EXPIRED outside [not_before, not_after). */
dbe_err pol_claim_window(const struct pol_claim *claim, uint64_t now_ms, struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
