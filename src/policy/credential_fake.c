/* SPDX-License-Identifier: Apache-2.0
 *
 * credential_fake.c - signs with the fake credential's key. Linked into tests instead of the key store, never
 * into a program.
 */
#include "policy/credential_fake.h"

dbe_err dbe_credential_sign(const struct dbe_credential *cred, const char *ctx, const void *msg, size_t len,
                            uint8_t *sig)
{
    return crypto_sign(cred->key, ctx, msg, len, sig);
}
