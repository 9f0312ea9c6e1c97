/* SPDX-License-Identifier: Apache-2.0
 *
 * prefix.c - see prefix.h. The entries are the pages themselves, so that nothing here allocates, and putting in never
 * fails.
 *
 * A page's key is its parent (the page before it, by identity: that stands for the whole text before, and for the first
 * page there is none and the salt is compared) and its own tokens. The order of use keeps parents nearer to the newest
 * end than their children, for a text is touched from its end to its beginning; and who holds a page holds its parents.
 * So the first page from the oldest end that nobody holds has no children left.
 */
#include "prefix.h"

#include <string.h>

#include "model.h"

/* ---- order of use ------------------------------------------------------------------------------------------------ */

static void unlink_page(struct llm_kv_pool *p, struct llm_kv_page *page)
{
    *(page->newer ? &page->newer->older : &p->newest) = page->older;
    *(page->older ? &page->older->newer : &p->oldest) = page->newer;
    page->newer = page->older = NULL;
}

static void link_newest(struct llm_kv_pool *p, struct llm_kv_page *page)
{
    page->older = p->newest;
    page->newer = NULL;
    *(p->newest ? &p->newest->newer : &p->oldest) = page;
    p->newest = page;
}

/* The page and those before it become the newest, the first of them the very newest. */
static void touch(struct llm_kv_pool *p, struct llm_kv_page *page)
{
    for (; page; page = page->parent) {
        unlink_page(p, page);
        link_newest(p, page);
    }
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

/* Keyed by the salt, which others do not know, so that nobody else can choose texts that share a bucket. */
static uint64_t page_hash(const struct llm_kv_page *parent, const uint8_t *salt, const int32_t *tokens)
{
    uint64_t h = parent ? parent->hash : 0, word;

    for (size_t i = 0; i < LLM_SALT_BYTES; i += sizeof word) {
        memcpy(&word, salt + i, sizeof word);
        h = mix(h, word);
    }
    for (size_t i = 0; i < LLM_KV_PAGE; i++)
        h = mix(h, (uint32_t)tokens[i]);
    return h;
}

static struct llm_kv_page **bucket(const struct llm_kv_pool *p, uint64_t hash)
{
    return &p->buckets[hash & (p->bucket_count - 1)];
}

static struct llm_kv_page *find(const struct llm_kv_pool *p, const struct llm_kv_page *parent, const uint8_t *salt,
                                const int32_t *tokens)
{
    const uint64_t hash = page_hash(parent, salt, tokens);

    for (struct llm_kv_page *e = *bucket(p, hash); e; e = e->chain)
        if (e->hash == hash && e->parent == parent && base_equal_ct(e->salt, salt, LLM_SALT_BYTES) &&
            memcmp(e->tokens, tokens, sizeof e->tokens) == 0)
            return e;
    return NULL;
}

static void add(struct llm_kv_pool *p, struct llm_kv_page *page, struct llm_kv_page *parent, const uint8_t *salt,
                const int32_t *tokens)
{
    page->hash = page_hash(parent, salt, tokens);
    page->parent = parent;
    memcpy(page->tokens, tokens, sizeof page->tokens);
    memcpy(page->salt, salt, sizeof page->salt);
    page->cached = true;
    page->chain = *bucket(p, page->hash);
    *bucket(p, page->hash) = page;
    link_newest(p, page);
    p->cached++;
}

struct llm_kv_page *llm_prefix_evict(struct llm_kv_pool *p)
{
    struct llm_kv_page *page = p->oldest, **at;

    while (page && page->refs > 0)
        page = page->newer;
    if (!page)
        return NULL;
    for (at = bucket(p, page->hash); *at != page;)
        at = &(*at)->chain;
    *at = page->chain;
    unlink_page(p, page);
    base_wipe(page->tokens, sizeof page->tokens);
    base_wipe(page->salt, sizeof page->salt);
    page->parent = page->chain = NULL;
    page->hash = 0;
    page->cached = false;
    p->idle--;
    p->cached--;
    p->stats.evictions++;
    return page;
}

/* ---- sequences --------------------------------------------------------------------------------------------------- */

/* One more sequence holds a cached page. */
static void hold(struct llm_kv_pool *p, struct llm_kv_page *page)
{
    if (page->refs++ == 0) {
        p->idle--;
        atomic_fetch_add(&p->used, 1);
    }
}

/* The longest cached chain of full pages, within the first count - 1 tokens; `last`: its last page. */
static uint32_t longest(const struct llm_kv_pool *p, const uint8_t *salt, const int32_t *tokens, size_t count,
                        struct llm_kv_page **last)
{
    uint32_t n = 0;

    *last = NULL;
    while (((size_t)n + 1) * LLM_KV_PAGE < count) {
        struct llm_kv_page *page = find(p, *last, salt, tokens + (size_t)n * LLM_KV_PAGE);
        if (!page)
            break;
        *last = page;
        n++;
    }
    return n;
}

dbe_err llm_prefix_admit(struct llm_model *m, const uint8_t *salt, const int32_t *tokens, size_t count,
                         uint32_t capacity, struct llm_kv *out, uint32_t *ret_reused, struct dbe_diag *diag)
{
    struct llm_kv_pool *p = &m->kv_pool;
    struct llm_kv kv = {.capacity = capacity, .page_count = capacity / LLM_KV_PAGE + (capacity % LLM_KV_PAGE != 0)};
    struct llm_kv_page *last;
    dbe_err err;

    kv.pages = base_alloc(kv.page_count, sizeof(struct llm_kv_page *));
    if (!kv.pages)
        return dbe_fail(diag, DBE_E_NOMEM, "kv budget", 0, "no memory for %u pages of KV cache", kv.page_count);
    if (salt && p->idle_max > 0 && count <= capacity) {
        pthread_mutex_lock(&p->lock);
        kv.shared = longest(p, salt, tokens, count, &last);
        for (uint32_t i = kv.shared; i > 0; i--, last = last->parent) {
            kv.pages[i - 1] = last;
            hold(p, last);
        }
        if (kv.shared > 0)
            touch(p, kv.pages[kv.shared - 1]);
        p->stats.lookups++;
        pthread_mutex_unlock(&p->lock);
    }
    const uint32_t reused = kv.shared * LLM_KV_PAGE;
    err = llm_kv_fill(m, &kv, diag);
    if (err != DBE_OK) {
        llm_kv_free(m, &kv);
        return err;
    }
    if (reused > 0) {
        pthread_mutex_lock(&p->lock);
        p->stats.hits++;
        p->stats.reused_tokens += reused;
        pthread_mutex_unlock(&p->lock);
    }
    *out = kv;
    *ret_reused = reused;
    return DBE_OK;
}

/* Put a cached page in the place of the sequence's own. */
static void replace(struct llm_kv_pool *p, struct llm_kv *kv, uint32_t i, struct llm_kv_page *page,
                    struct llm_kv_page **gone)
{
    if (kv->pages[i] == page)
        return;
    hold(p, page);
    llm_kv_unref(p, kv->pages[i], gone);
    kv->pages[i] = page;
}

uint32_t llm_prefix_take(struct llm_model *m, const uint8_t *salt, const int32_t *tokens, size_t count, uint32_t done,
                         struct llm_kv *kv)
{
    struct llm_kv_pool *p = &m->kv_pool;
    struct llm_kv_page *gone = NULL, *page;
    uint32_t n;

    if (!salt || p->idle_max == 0 || count > kv->capacity)
        return done;
    pthread_mutex_lock(&p->lock);
    n = longest(p, salt, tokens, count, &page);
    if (n * LLM_KV_PAGE > done && n > kv->shared) {
        touch(p, page);
        for (uint32_t i = n; i > 0; i--, page = page->parent)
            replace(p, kv, i - 1, page, &gone);
        p->stats.hits += done == 0;
        p->stats.reused_tokens += n * LLM_KV_PAGE - done;
        kv->shared = n;
        done = n * LLM_KV_PAGE;
    }
    pthread_mutex_unlock(&p->lock);
    llm_kv_give_back(p, gone, true);
    return done;
}

void llm_prefix_put(struct llm_model *m, const uint8_t *salt, const int32_t *tokens, uint32_t done, struct llm_kv *kv)
{
    struct llm_kv_pool *p = &m->kv_pool;
    const uint32_t full = BASE_MIN(done / LLM_KV_PAGE, kv->page_count);
    struct llm_kv_page *gone = NULL;

    if (!salt || p->idle_max == 0 || full <= kv->shared)
        return;
    pthread_mutex_lock(&p->lock);
    for (uint32_t i = kv->shared; i < full; i++) {
        struct llm_kv_page *parent = i > 0 ? kv->pages[i - 1] : NULL;
        struct llm_kv_page *known = find(p, parent, salt, tokens + (size_t)i * LLM_KV_PAGE);
        if (known)
            replace(p, kv, i, known, &gone);
        else
            add(p, kv->pages[i], parent, salt, tokens + (size_t)i * LLM_KV_PAGE);
    }
    kv->shared = full;
    touch(p, kv->pages[full - 1]);
    pthread_mutex_unlock(&p->lock);
    llm_kv_give_back(p, gone, true);
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

void llm_prefix_clear(struct llm_model *m)
{
    struct llm_kv_pool *p = &m->kv_pool;
    struct llm_kv_page *gone = NULL, *page;

    pthread_mutex_lock(&p->lock);
    while ((page = llm_prefix_evict(p)) != NULL) {
        page->next = gone;
        gone = page;
    }
    pthread_mutex_unlock(&p->lock);
    llm_kv_give_back(p, gone, false);
}

struct llm_prefix_stats llm_prefix_stats(struct llm_model *m)
{
    struct llm_kv_pool *p = &m->kv_pool;
    struct llm_prefix_stats stats;

    pthread_mutex_lock(&p->lock);
    stats = p->stats;
    stats.cached_bytes = p->cached * p->page_bytes;
    pthread_mutex_unlock(&p->lock);
    return stats;
}
