/* SPDX-License-Identifier: Apache-2.0
 *
 * credential_fake.h - a credential that is nothing but a key, for tests and fuzzing of this room: issuing a
 * claim needs no certificate.
 */
#ifndef POLICY_CREDENTIAL_FAKE_H
#define POLICY_CREDENTIAL_FAKE_H

#include "policy/policy.h"

struct dbe_credential {
    struct crypto_key *key;
};

#endif
