/* SPDX-License-Identifier: Apache-2.0
 *
 * kv.h - the KV caches: pages of LLM_KV_PAGE positions, the pool that they come from, and the sequences that hold them.
 *
 * A page holds keys and values of all layers and kv heads of its positions. Within a page and head, keys stand
 * transposed, so that the inner loops of attention run along positions (keys) and along values without sums across a
 * register:
 *   f16   keys [head_dim][32] binary16, values [32][head_dim] binary16
 *   int8  keys [head_dim][32] int8, values [32][head_dim] int8, scales of keys [32] float, of values [32] float
 *
 * Admission reserves all pages that a sequence can need and takes their memory, so that an admitted one never fails
 * for want of memory. (The system backs memory that was never written by nothing, so this costs little until used.)
 * A page that was written is wiped before it goes back to the pool; the pool's free pages are all zero.
 *
 * Threads: everything here takes the pool's own lock; one sequence belongs to one thread at a time.
 */
#ifndef LLM_KV_H
#define LLM_KV_H

#include <pthread.h>
#include <stdatomic.h>

#include "llm.h"

enum { LLM_KV_PAGE = 32, LLM_KV_ALIGN = 64 };

enum llm_kv_type { LLM_KV_F16, LLM_KV_INT8 };

/* A page's head; its data follow. The prefix cache's fields are in use while `cached` is set (prefix.h). */
struct llm_kv_page {
    uint8_t *data;            /* aligned to LLM_KV_ALIGN */
    struct llm_kv_page *next; /* in the free list, or a list of pages that are given back */
    uint32_t refs;            /* sequences that hold it */
    bool written;             /* since it was wiped */

    bool cached;
    uint64_t hash;
    struct llm_kv_page *parent, *chain; /* the page before it in its text; the next of its bucket */
    struct llm_kv_page *newer, *older;  /* order of use */
    int32_t tokens[LLM_KV_PAGE];
    uint8_t salt[LLM_SALT_BYTES];
};

/* What the prefix cache did so far. */
struct llm_prefix_stats {
    uint64_t lookups, hits; /* prompts asked for, prompts that shared at least one page */
    uint64_t reused_tokens; /* not computed again */
    uint64_t evictions;     /* pages dropped for want of room */
    uint64_t cached_bytes;  /* of pages in the cache, used ones too */
};

struct llm_kv_pool {
    pthread_mutex_t lock;
    bool ready; /* lock and table exist */
    enum llm_kv_type type;
    size_t head_bytes;     /* of one layer's kv head in a page */
    size_t page_bytes;     /* of a page's data */
    uint64_t budget;       /* pages */
    _Atomic uint64_t used; /* pages that sequences hold, each counted once */
    uint64_t idle;         /* cached pages that no sequence holds */
    uint64_t idle_max;     /* 0: no prefix cache */
    struct llm_kv_page *free;
    uint64_t free_count;

    struct llm_kv_page **buckets; /* prefix cache, see prefix.c */
    size_t bucket_count;          /* a power of two */
    struct llm_kv_page *newest, *oldest;
    uint64_t cached; /* pages */
    struct llm_prefix_stats stats;
};

/* A sequence. */
struct llm_kv {
    struct llm_kv_page **pages;
    uint32_t page_count;
    uint32_t shared;   /* leading pages that others may read too: never written */
    uint32_t capacity; /* tokens */
};

/* `model`: shape and info.kv_budget_bytes are set. Sets info.kv_bytes_per_token. E_ARGUMENT: kv_type; E_NOMEM. */
dbe_err llm_kv_pool_init(struct llm_model *model, const struct llm_model_params *params,
                         struct dbe_diag *diag) DBE_MUST_CHECK;
/* No sequence is left. Takes a pool that was never made. */
void llm_kv_pool_free(struct llm_kv_pool *pool);

/* Reserve and take the memory of `capacity` tokens. E_LIMIT: over the model's budget, the diag says the numbers.
 * E_NOMEM. */
dbe_err llm_kv_init(struct llm_model *model, uint32_t capacity, struct llm_kv *out,
                    struct dbe_diag *diag) DBE_MUST_CHECK;
void llm_kv_free(struct llm_model *model, struct llm_kv *kv);

/* Bytes of the pages that `n_tokens` take. */
uint64_t llm_kv_bytes(const struct llm_kv_pool *pool, size_t n_tokens);

/* ---- for prefix.c; with the pool's lock held --------------------------------------------------------------------- */

/* One sequence less holds the page: it stays in the prefix cache, or joins the list `gone`. */
void llm_kv_unref(struct llm_kv_pool *pool, struct llm_kv_page *page, struct llm_kv_page **gone);
/* Take the page that was used least lately, and is used by none, out of the cache; NULL: there is none. */
struct llm_kv_page *llm_prefix_evict(struct llm_kv_pool *pool);
/* Without the lock: wipe pages and give them back to the pool. */
void llm_kv_give_back(struct llm_kv_pool *pool, struct llm_kv_page *gone, bool counted);
/* llm_kv_init, where the first `shared` pages of out->pages stand already, held by the caller. */
dbe_err llm_kv_fill(struct llm_model *model, struct llm_kv *kv, struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
