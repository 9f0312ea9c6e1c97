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
    struct crypto_key *issuer;
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
    base_free(cache);
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
    DBE_TRY(pol_claim_verify(token, len, cache->issuer, cache->binding, now_ms, &claim, diag));
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
