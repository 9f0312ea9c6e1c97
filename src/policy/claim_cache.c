/* SPDX-License-Identifier: Apache-2.0
 *
 * claim_cache.c - claim tokens of one channel that were verified already.
 *
 * In:   tokens as they come with messages
 * Out:  the claim; a signature is checked once for each token, the window on every use
 * Not:  shared between channels: a token is bound to one, and so is this cache. Refused tokens are not
 *       remembered; a peer that sends forgeries pays with its own channel's time.
 */
#include "policy/policy.h"

#include <string.h>

#include "policy/internal.h"

struct cache_entry {
    struct pol_claim claim;
    size_t len; /* 0: free */
    uint8_t token[POL_CLAIM_TOKEN_MAX];
};

struct pol_claim_cache {
    struct crypto_key *issuer, *former; /* former: of the certificate before the channel's last switch, or NULL */
    uint8_t binding[32];
    size_t next; /* the entry that gives way: the oldest, as they are filled in turn */
    struct cache_entry entries[POL_CLAIM_CACHE];
};

dbe_err pol_claim_cache_new(const uint8_t issuer_pk[CRYPTO_MLDSA87_PK_BYTES], const uint8_t binding[32],
                            struct pol_claim_cache **ret)
{
    struct pol_claim_cache *cache = base_alloc(1, sizeof *cache);

    if (cache == NULL)
        return DBE_E_NOMEM;
    dbe_err err = crypto_key_from_public(issuer_pk, &cache->issuer);
    if (err != DBE_OK) {
        base_free(cache);
        return err;
    }
    memcpy(cache->binding, binding, sizeof cache->binding);
    *ret = cache;
    return DBE_OK;
}

void pol_claim_cache_free(struct pol_claim_cache *cache)
{
    if (cache == NULL)
        return;
    crypto_key_free(cache->issuer);
    crypto_key_free(cache->former);
    base_free(cache);
}

dbe_err pol_claim_cache_renew(struct pol_claim_cache *cache, const uint8_t issuer_pk[CRYPTO_MLDSA87_PK_BYTES])
{
    struct crypto_key *fresh = NULL;

    DBE_TRY(crypto_key_from_public(issuer_pk, &fresh));
    crypto_key_free(cache->former);
    cache->former = cache->issuer;
    cache->issuer = fresh;
    return DBE_OK;
}

/* By the present key, else by the one before: the peer may have signed just before it changed. */
static dbe_err cache_verify(const struct pol_claim_cache *cache, const uint8_t *token, size_t len, uint64_t now_ms,
                            struct pol_claim *ret, struct dbe_diag *diag)
{
    dbe_err err = pol_claim_verify(token, len, cache->issuer, cache->binding, now_ms, ret, diag);

    if (err != DBE_E_CLAIM_INVALID || cache->former == NULL)
        return err;
    return pol_claim_verify(token, len, cache->former, cache->binding, now_ms, ret, diag);
}

static struct cache_entry *cache_find(struct pol_claim_cache *cache, const uint8_t *token, size_t len)
{
    for (size_t i = 0; i < POL_CLAIM_CACHE; i++)
        if (cache->entries[i].len == len && memcmp(cache->entries[i].token, token, len) == 0)
            return &cache->entries[i];
    return NULL;
}

dbe_err pol_claim_cached(struct pol_claim_cache *cache, const uint8_t *token, size_t len, uint64_t now_ms,
                         const struct pol_claim **ret, bool *ret_hit, struct dbe_diag *diag)
{
    struct pol_claim claim;
    struct cache_entry *e = len > 0 ? cache_find(cache, token, len) : NULL;

    if (e != NULL) {
        DBE_TRY(pol_claim_window(&e->claim, now_ms, diag));
        *ret = &e->claim;
        if (ret_hit != NULL)
            *ret_hit = true;
        return DBE_OK;
    }
    DBE_TRY(cache_verify(cache, token, len, now_ms, &claim, diag));
    e = &cache->entries[cache->next];
    cache->next = (cache->next + 1) % POL_CLAIM_CACHE;
    e->claim = claim;
    e->len = len; /* at most POL_CLAIM_TOKEN_MAX: pol_claim_verify refuses longer ones */
    memcpy(e->token, token, len);
    *ret = &e->claim;
    if (ret_hit != NULL)
        *ret_hit = false;
    return DBE_OK;
}
