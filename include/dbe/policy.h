/* SPDX-License-Identifier: Apache-2.0
 *
 * policy.h - which policy is in force, as both ends of a channel say it to each other (docs/spec/dbe-v1.md, 6.16).
 */
#ifndef DBE_POLICY_H
#define DBE_POLICY_H

#include <stdint.h>

enum { DBE_POLICY_DIGEST_BYTES = 32 };

/* The first 32 bytes of the SHA3-512 digest of a policy's canonical form (spec 15.2). All zeros: none, which no policy
 * has. Plain data; copy freely. */
struct dbe_policy_digest {
    uint8_t bytes[DBE_POLICY_DIGEST_BYTES];
};

#endif
