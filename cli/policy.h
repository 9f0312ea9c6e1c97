/* SPDX-License-Identifier: Apache-2.0
 *
 * policy.h - the mesh's policy as the verbs that start or join a mesh need it.
 */
#ifndef CLI_POLICY_H
#define CLI_POLICY_H

#include "policy/policy.h"

/* The policy of a file; NULL or "": the built-in one. E_CONFIG, E_NOT_FOUND: diag says file, line and what was
 * expected. */
dbe_err cli_policy_load(const char *path, struct pol_policy *ret, struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
