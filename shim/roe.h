/* SPDX-License-Identifier: Apache-2.0
 *
 * roe.h - an ROE token that came over HTTP, for the message that it permits (docs/policy.md).
 *
 * In:   the token's file as base64url or base64     Out: its parts as TLVs
 * Not:  nothing is verified: the receiver does that, and only it counts
 */
#ifndef SHIM_ROE_H
#define SHIM_ROE_H

#include "dbe/msg.h"
#include "policy/roe.h"
#include "shim/openai.h"

#define SHIM_ROE_HEADER "DSMIL-ROE-Token"

struct shim_roe {
    uint8_t piece[POL_ROE_PIECE_MAX];
    struct pol_roe_parts parts; /* into it */
};

/* E_ARGUMENT: `p` says what is wrong with `param`; E_NOMEM. */
dbe_err shim_roe_read(const char *text, const char *param, struct shim_roe **ret,
                      struct shim_problem *p) DBE_MUST_CHECK;
/* Bytes that its TLVs take at most. */
size_t shim_roe_room(const struct shim_roe *roe); /* takes NULL */
void shim_roe_build(struct dbe_builder *b, const struct shim_roe *roe);

#endif
