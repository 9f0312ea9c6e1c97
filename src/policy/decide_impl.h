/* SPDX-License-Identifier: Apache-2.0
 *
 * decide_impl.h - between decide.c, which asks the rules in their order, and decide_rules.c, which has them.
 */
#ifndef POLICY_DECIDE_IMPL_H
#define POLICY_DECIDE_IMPL_H

#include "policy/internal.h"

/* What one decision looks at: labels of the message, read once. */
struct decide_facts {
    const struct pol_subject *subject;
    const struct dbe_msg *msg;
    const struct pol_policy *policy;
    const struct pol_claim *claim;   /* NULL also when the claim it carried was refused */
    const struct pol_labels *bound;  /* answers: labels of the request */
    const struct pol_tenant *tenant; /* row of the policy; NULL: none, or no policy is asked */
    uint64_t now_ms;
    struct pol_labels labels;
    uint8_t src, dst;
    bool has_tenant, has_compartments, has_classification, has_roe, has_src, has_dst;
    struct pol_verdict *verdict;
};

/* A rule: DBE_OK, or why the message is refused, with a reason in the verdict. */
typedef dbe_err decide_fn(const struct decide_facts *f);

/* Rules of messages, and those of answers, which the request binds. */
decide_fn decide_kinetic, decide_source, decide_destination, decide_emit, decide_exec, decide_sim_mix, decide_roe_level,
    decide_claim, decide_tenant, decide_compartment, decide_classification, decide_roe_token, decide_sealed,
    decide_site;
decide_fn decide_answer_tenant, decide_answer_roe, decide_answer_compartment, decide_answer_classification;

#endif
