/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_claim.c - bytes of a claim token through the cache and the verification, and a claim of random fields
 * through a round trip.
 *
 * In:   input: first byte chooses; the rest is a token, or the fields of a claim
 * Finds: reads beyond the token, a token that verifies without the issuer's signature, a claim that does not
 *        survive its own encoding
 */
#include <stdlib.h>
#include <string.h>

#include "policy/credential_fake.h"
#include "policy/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct dbe_credential issuer;
static uint8_t issuer_pk[CRYPTO_MLDSA87_PK_BYTES];
static const uint8_t binding[32] = {1, 2, 3, 4};

static void set_up(void)
{
    if (issuer.key != NULL)
        return;
    if (crypto_init(NULL) != DBE_OK || crypto_key_generate(&issuer.key) != DBE_OK ||
        crypto_key_public(issuer.key, issuer_pk) != DBE_OK)
        abort();
}

/* A token that was not signed here cannot verify: the key is new in each run. */
static void fuzz_token(const uint8_t *token, size_t len)
{
    struct pol_claim_cache *cache = NULL;
    struct pol_claim claim;
    const struct pol_claim *cached;
    struct dbe_diag diag = {0};

    if (pol_claim_verify(token, len, issuer.key, binding, 1000, &claim, &diag) != DBE_E_CLAIM_INVALID)
        abort();
    if (pol_claim_cache_new(issuer_pk, binding, &cache) != DBE_OK)
        abort();
    if (pol_claim_cached(cache, token, len, 1000, &cached, NULL, &diag) != DBE_E_CLAIM_INVALID)
        abort();
    pol_claim_cache_free(cache);
}

/* Sign the input as a claim's body: now the form alone decides. What is accepted must encode to the same bytes. */
static void fuzz_body(const uint8_t *body, size_t len)
{
    uint8_t token[POL_CLAIM_BODY_MAX + 64 + CRYPTO_MLDSA87_SIG_BYTES], again[POL_CLAIM_TOKEN_MAX];
    struct pol_claim claim;
    size_t again_len;

    if (len > POL_CLAIM_BODY_MAX + 64)
        return;
    memcpy(token, body, len);
    if (len >= POL_CLAIM_BODY_FIXED) /* the channel is not what is looked for here */
        memcpy(token + 28, binding, sizeof binding);
    if (crypto_sign(issuer.key, "DSMIL-DBE claim v1", token, len, token + len) != DBE_OK)
        abort();
    if (len >= 20 &&
        pol_claim_verify(token, len + CRYPTO_MLDSA87_SIG_BYTES, issuer.key, binding, base_get_u64(token + 12), &claim,
                         NULL) == DBE_OK &&
        (pol_claim_issue(&claim, &issuer, again, sizeof again, &again_len) != DBE_OK ||
         again_len != len + CRYPTO_MLDSA87_SIG_BYTES || memcmp(again, token, len) != 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    set_up();
    if (size == 0)
        return 0;
    if (data[0] % 2 == 0)
        fuzz_token(data + 1, size - 1);
    else
        fuzz_body(data + 1, size - 1);
    return 0;
}
