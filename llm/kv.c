/* SPDX-License-Identifier: Apache-2.0
 *
 * kv.c - see kv.h: pages taken from the model's budget, wiped before they are given back.
 *
 * Every page is in one of these states: held by sequences (refs > 0, counted in `used`), cached and held by none
 * (counted in `idle`), free (all zero, in the free list), or on its way to the free list.
 */
#include "kv.h"

#include <string.h>

#include "model.h"
#include "prefix.h"

enum {
    FREE_SHARE = 4,    /* free pages up to this part of the budget are kept for the next sequence */
    FREE_AT_LEAST = 4, /* pages */
    BUCKETS_MAX = 1 << 16,
    IDLE_PERCENT = 50
};

/* ---- the pool ---------------------------------------------------------------------------------------------------- */

static dbe_err pool_type(const struct llm_model_params *params, enum llm_kv_type *ret, struct dbe_diag *diag)
{
    const char *name = params->kv_type ? params->kv_type : "f16";

    if (strcmp(name, "f16") != 0 && strcmp(name, "int8") != 0)
        return dbe_fail(diag, DBE_E_ARGUMENT, "kv type", 0, "KV cache type \"%.40s\": it is f16 or int8", name);
    if (params->prefix_percent > 100)
        return dbe_fail(diag, DBE_E_ARGUMENT, "prefix percent", 0, "%d %% of the KV budget for cached prefixes",
                        params->prefix_percent);
    *ret = strcmp(name, "f16") == 0 ? LLM_KV_F16 : LLM_KV_INT8;
    return DBE_OK;
}

dbe_err llm_kv_pool_init(struct llm_model *m, const struct llm_model_params *params, struct dbe_diag *diag)
{
    const struct llm_shape *s = &m->shape;
    struct llm_kv_pool *p = &m->kv_pool;
    const size_t values = (size_t)s->head_dim * LLM_KV_PAGE * 2;

    DBE_TRY(pool_type(params, &p->type, diag));
    p->head_bytes = p->type == LLM_KV_F16 ? values * sizeof(uint16_t) : values + 2 * LLM_KV_PAGE * sizeof(float);
    p->page_bytes = p->head_bytes * s->n_layers * s->n_kv_heads;
    p->budget = m->info.kv_budget_bytes / p->page_bytes;
    m->info.kv_bytes_per_token = p->page_bytes / LLM_KV_PAGE;
    if (params->prefix_percent >= 0)
        p->idle_max = p->budget * (unsigned)(params->prefix_percent ? params->prefix_percent : IDLE_PERCENT) / 100;
    for (p->bucket_count = 64; p->bucket_count < BUCKETS_MAX && p->bucket_count < p->budget;)
        p->bucket_count *= 2;
    p->buckets = base_alloc(p->bucket_count, sizeof(struct llm_kv_page *));
    if (!p->buckets)
        return dbe_fail(diag, DBE_E_NOMEM, "kv budget", 0, "no memory for the prefix cache");
    pthread_mutex_init(&p->lock, NULL);
    p->ready = true;
    return DBE_OK;
}

static void page_free(struct llm_kv_page *page)
{
    void *memory = page;

    base_free(memory);
}

void llm_kv_pool_free(struct llm_kv_pool *p)
{
    struct llm_kv_page *gone = NULL, *page;

    if (!p->ready)
        return;
    while ((page = llm_prefix_evict(p)) != NULL) {
        page->next = gone;
        gone = page;
    }
    llm_kv_give_back(p, gone, false);
    while ((page = p->free) != NULL) {
        p->free = page->next;
        page_free(page);
    }
    base_free(p->buckets);
    pthread_mutex_destroy(&p->lock);
    *p = (struct llm_kv_pool){0};
}

uint64_t llm_kv_bytes(const struct llm_kv_pool *p, size_t n_tokens)
{
    return ((uint64_t)n_tokens + LLM_KV_PAGE - 1) / LLM_KV_PAGE * p->page_bytes;
}

/* ---- pages ------------------------------------------------------------------------------------------------------- */

static struct llm_kv_page *page_new(const struct llm_kv_pool *p)
{
    struct llm_kv_page *page = base_alloc(1, sizeof *page + LLM_KV_ALIGN + p->page_bytes);

    if (!page)
        return NULL;
    const uintptr_t data = ((uintptr_t)(page + 1) + LLM_KV_ALIGN - 1) / LLM_KV_ALIGN * LLM_KV_ALIGN;
    page->data = (uint8_t *)page + (data - (uintptr_t)page);
    return page;
}

/* A free page, or new memory. */
static struct llm_kv_page *page_take(struct llm_kv_pool *p)
{
    struct llm_kv_page *page;

    pthread_mutex_lock(&p->lock);
    page = p->free;
    if (page) {
        p->free = page->next;
        p->free_count--;
    }
    pthread_mutex_unlock(&p->lock);
    if (!page)
        page = page_new(p);
    if (page) {
        page->next = NULL;
        page->refs = 1;
    }
    return page;
}

void llm_kv_give_back(struct llm_kv_pool *p, struct llm_kv_page *gone, bool counted)
{
    const uint64_t keep = BASE_MAX(p->budget / FREE_SHARE, (uint64_t)FREE_AT_LEAST);

    while (gone) {
        struct llm_kv_page *page = gone;
        gone = page->next;
        if (page->written)
            base_wipe(page->data, p->page_bytes);
        page->written = false;
        pthread_mutex_lock(&p->lock);
        if (counted)
            atomic_fetch_sub(&p->used, 1);
        const bool kept = p->free_count < keep;
        if (kept) {
            page->next = p->free;
            p->free = page;
            p->free_count++;
        }
        pthread_mutex_unlock(&p->lock);
        if (!kept)
            page_free(page);
    }
}

void llm_kv_unref(struct llm_kv_pool *p, struct llm_kv_page *page, struct llm_kv_page **gone)
{
    if (--page->refs > 0)
        return;
    if (page->cached) {
        atomic_fetch_sub(&p->used, 1);
        p->idle++;
        return;
    }
    page->next = *gone;
    *gone = page;
}

/* ---- sequences --------------------------------------------------------------------------------------------------- */

/* Count `need` pages, dropping cached ones that stand in the way. */
static bool reserve(struct llm_kv_pool *p, uint64_t need, uint64_t *ret_free)
{
    struct llm_kv_page *gone = NULL, *page;
    bool fits;

    pthread_mutex_lock(&p->lock);
    const uint64_t used = atomic_load(&p->used);
    fits = need <= p->budget - used;
    *ret_free = p->budget - used;
    while (fits && used + p->idle + need > p->budget && (page = llm_prefix_evict(p)) != NULL) {
        page->next = gone;
        gone = page;
    }
    if (fits)
        atomic_fetch_add(&p->used, need);
    pthread_mutex_unlock(&p->lock);
    llm_kv_give_back(p, gone, false);
    return fits;
}

dbe_err llm_kv_fill(struct llm_model *m, struct llm_kv *kv, struct dbe_diag *diag)
{
    struct llm_kv_pool *p = &m->kv_pool;
    const uint64_t need = kv->page_count - kv->shared;
    uint64_t left;

    if (!reserve(p, need, &left)) {
        kv->page_count = kv->shared;
        return dbe_fail(diag, DBE_E_LIMIT, "kv budget", 0,
                        "%u tokens need %llu bytes of KV cache, %llu of %llu are free", kv->capacity,
                        (unsigned long long)(need * p->page_bytes), (unsigned long long)(left * p->page_bytes),
                        (unsigned long long)m->info.kv_budget_bytes);
    }
    for (uint32_t i = kv->shared; i < kv->page_count; i++) {
        kv->pages[i] = page_take(p);
        if (kv->pages[i])
            continue;
        atomic_fetch_sub(&p->used, kv->page_count - i); /* those never had; the others are counted until freed */
        kv->page_count = i;
        return dbe_fail(diag, DBE_E_NOMEM, "kv budget", 0, "no memory for %llu bytes of KV cache",
                        (unsigned long long)(need * p->page_bytes));
    }
    return DBE_OK;
}

dbe_err llm_kv_init(struct llm_model *m, uint32_t capacity, struct llm_kv *out, struct dbe_diag *diag)
{
    uint32_t reused;

    return llm_prefix_admit(m, NULL, NULL, 0, capacity, out, &reused, diag);
}

void llm_kv_free(struct llm_model *m, struct llm_kv *kv)
{
    struct llm_kv_pool *p = &m->kv_pool;
    struct llm_kv_page *gone = NULL, *evicted = NULL, *page;

    if (!kv->pages)
        return;
    pthread_mutex_lock(&p->lock);
    for (uint32_t i = 0; i < kv->page_count; i++)
        llm_kv_unref(p, kv->pages[i], &gone);
    while (p->idle > p->idle_max && (page = llm_prefix_evict(p)) != NULL) {
        page->next = evicted;
        evicted = page;
    }
    pthread_mutex_unlock(&p->lock);
    llm_kv_give_back(p, gone, true);
    llm_kv_give_back(p, evicted, false);
    base_free(kv->pages);
    *kv = (struct llm_kv){0};
}
