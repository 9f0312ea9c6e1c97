/* SPDX-License-Identifier: Apache-2.0
 *
 * cases.h - a message that nobody sent, to ask a policy about: what `dsmil policy explain` and `dsmil policy test` run.
 *
 * In:   who says what to whom with which labels
 * Out:  the decision of decide.c over a real message with these labels
 * Not:  no rule of its own, no I/O.
 */
#ifndef POLICY_CASES_H
#define POLICY_CASES_H

#include "policy/compile.h"

enum { POL_CASES_MAX = 256, POL_CASE_NAME_MAX = 96, POL_PATH_MAX = 1024 };

struct pol_case {
    char name[POL_CASE_NAME_MAX + 1];
    uint8_t from_role, to_role, from_device, to_device; /* layers follow from the devices */
    uint8_t from_classification, to_classification;     /* ceilings of the certificates */
    uint32_t from_compartments, to_compartments;
    uint8_t type;
    char tenant[DBE_TENANT_MAX_BYTES + 1];
    uint8_t classification, roe_level;
    uint32_t compartments;
    bool sealed; /* to the worker */
    bool claim;  /* it carries a valid claim of this tenant, with these ceilings: */
    uint8_t claim_classification, claim_roe_levels;
    uint32_t claim_compartments;
    bool allow;                  /* what is expected */
    char rule[POL_NAME_MAX + 1]; /* by which rule; "": whichever */
};

/* A chat request of the shim to the router: UNCLAS, no compartment, ANALYSIS_ONLY, with a claim; certificates and claim
 * without ceilings that bind. */
void pol_case_default(struct pol_case *ret);
/* The usual device of a role (shim 0, router 43, worker 47, agent 48), 0 for others. */
uint8_t pol_role_device(uint8_t role);
/* Decide it. E_ARGUMENT: no such message can be built. */
dbe_err pol_case_run(const struct pol_case *c, const struct pol_policy *policy, struct pol_verdict *ret) DBE_MUST_CHECK;

struct pol_cases {
    char policy[POL_PATH_MAX]; /* path of the policy, as the file says it; "": the built-in one */
    struct pol_case cases[POL_CASES_MAX];
    size_t count;
};
/* The file of `dsmil policy test`. On error `ret` is untouched. */
dbe_err pol_cases_read(const struct conf_doc *doc, struct pol_cases *ret, struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
