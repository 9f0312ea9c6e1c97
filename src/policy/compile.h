/* SPDX-License-Identifier: Apache-2.0
 *
 * compile.h - a site's policy as YAML into tables.
 *
 * In:   a parsed file (conf.h)
 * Out:  struct pol_policy with its digest; or file, line, column, what was found and what was expected
 * Not:  it reads no file and puts nothing in force.
 */
#ifndef POLICY_COMPILE_H
#define POLICY_COMPILE_H

#include "conf/conf.h"
#include "policy/policy.h"

/* Compile. On error `ret` is untouched. E_CONFIG, E_NOMEM, E_CRYPTO. The keys: docs/policy.md. */
dbe_err pol_compile(const struct conf_doc *doc, struct pol_policy *ret, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Names of the registries for conf.h's tables: message types, roles as bits, compartments as bits, ROE levels as bits,
 * classifications. */
bool pol_name_msg(const char *name, uint64_t *ret);
bool pol_name_role(const char *name, uint64_t *ret);
bool pol_name_role_bit(const char *name, uint64_t *ret);
bool pol_name_compartment(const char *name, uint64_t *ret);
bool pol_name_roe(const char *name, uint64_t *ret);
bool pol_name_roe_bit(const char *name, uint64_t *ret);
bool pol_name_classification(const char *name, uint64_t *ret);

#define POL_WORDS_COMPARTMENTS "a list of SOC, DEV, LAB, CRYPTO, SIGNALS, NUCLEAR"
#define POL_WORDS_ROE "ANALYSIS_ONLY, SOC_ASSIST or TRAINING"
#define POL_WORDS_CLASSIFICATION "UNCLAS, CONFIDENTIAL, SECRET, TS, ATOMAL or EXEC"
#define POL_WORDS_ROLES "shim, router, worker, agent, service or person"

#endif
