/* SPDX-License-Identifier: Apache-2.0
 *
 * claim.c - the public face of claim tokens.
 *
 * In:   dbe/claim.h's plain structures
 * Out:  what the policy room makes of them
 * Not:  no rule of its own: form, window and signature are policy/claim.c's.
 */
#include "dbe/claim.h"

#include <string.h>

#include "policy/policy.h"

_Static_assert((int)DBE_CLAIM_CLIENT_MAX_BYTES == (int)POL_CLAIM_NAME_MAX, "one length of a client's name");
_Static_assert((int)DBE_CLAIM_LIFETIME_MAX_MS == (int)POL_CLAIM_LIFETIME_MAX_MS, "one longest window");
_Static_assert((int)DBE_PUBLIC_KEY_BYTES == (int)CRYPTO_MLDSA87_PK_BYTES, "one public key");
_Static_assert((int)DBE_SIGNATURE_BYTES == (int)CRYPTO_MLDSA87_SIG_BYTES, "one signature");

dbe_err dbe_claim_issue(const struct dbe_claim *claim, const struct dbe_credential *issuer,
                        const uint8_t binding[DBE_CHANNEL_BINDING_BYTES], void *out, size_t cap, size_t *ret_len,
                        struct dbe_diag *diag)
{
    struct pol_claim c = {
        .roe_levels = claim->roe_levels,
        .classification_max = claim->classification_max,
        .exercise = claim->exercise,
        .compartments = claim->compartments,
        .not_before_ms = claim->not_before_ms,
        .not_after_ms = claim->not_after_ms,
    };

    memcpy(c.tenant, claim->tenant, sizeof c.tenant);
    memcpy(c.client, claim->client, sizeof c.client);
    memcpy(c.channel_binding, binding, sizeof c.channel_binding);
    dbe_err err = pol_claim_issue(&c, issuer, out, cap, ret_len);
    if (err == DBE_E_ARGUMENT)
        return dbe_fail(diag, err, "10.3", 0,
                        "the claim cannot stand: a name is empty or too long, a ROE level or classification is "
                        "unknown, a compartment is KINETIC or unknown, or the window is empty or above an hour");
    return err;
}

dbe_err dbe_claim_verify(const void *token, size_t len, const uint8_t issuer_pk[DBE_PUBLIC_KEY_BYTES],
                         const uint8_t binding[DBE_CHANNEL_BINDING_BYTES], uint64_t now_ms, struct dbe_claim *ret,
                         struct dbe_diag *diag)
{
    struct crypto_key *key = NULL;
    struct pol_claim c;

    DBE_TRY(crypto_key_from_public(issuer_pk, &key));
    dbe_err err = pol_claim_verify(token, len, key, binding, now_ms, &c, diag);
    crypto_key_free(key);
    DBE_TRY(err);
    memcpy(ret->tenant, c.tenant, sizeof ret->tenant);
    memcpy(ret->client, c.client, sizeof ret->client);
    ret->roe_levels = c.roe_levels;
    ret->classification_max = c.classification_max;
    ret->exercise = c.exercise;
    ret->compartments = c.compartments;
    ret->not_before_ms = c.not_before_ms;
    ret->not_after_ms = c.not_after_ms;
    return DBE_OK;
}

dbe_err dbe_signature_verify(const uint8_t pk[DBE_PUBLIC_KEY_BYTES], const char *ctx, const void *msg, size_t len,
                             const uint8_t sig[DBE_SIGNATURE_BYTES])
{
    struct crypto_key *key = NULL;

    DBE_TRY(crypto_key_from_public(pk, &key));
    dbe_err err = crypto_verify(key, ctx, msg, len, sig, DBE_SIGNATURE_BYTES);
    crypto_key_free(key);
    return err == DBE_E_MALFORMED ? DBE_E_AUTH : err;
}
