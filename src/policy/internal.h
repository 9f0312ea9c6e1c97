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

/* What the site's rules look at. */
struct pol_flow {
    uint8_t type;
    const struct dbe_identity *from, *to;
    uint64_t tenant; /* bit of its row; 0: it has none */
    const struct pol_labels *labels;
};
/* The first rule that denies, else the first that allows, else NULL. */
const struct pol_rule *pol_rules_match(const struct pol_policy *policy, const struct pol_flow *flow);
/* The bit that a tenant's row has in pol_rule.tenants; 0 for `any` and NULL. */
uint64_t pol_policy_tenant_bit(const struct pol_policy *policy, const struct pol_tenant *tenant);
/* The canonical form that the digest is over. */
void pol_policy_canonical(const struct pol_policy *policy, struct base_buf *out);

/* E_CLAIM_EXPIRED outside [not_before, not_after). */
dbe_err pol_claim_window(const struct pol_claim *claim, uint64_t now_ms, struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
