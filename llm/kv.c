/* SPDX-License-Identifier: Apache-2.0
 *
 * kv.c - the KV cache of a sequence: memory taken from the model's budget, wiped before it is given back.
 */
#include "model.h"

dbe_err llm_kv_init(struct llm_model *m, uint32_t capacity, struct llm_kv *out, struct dbe_diag *diag)
{
    const uint64_t bytes = llm_session_kv_bytes(m, capacity);
    uint64_t used = atomic_load(&m->kv_used);

    do {
        if (bytes > m->info.kv_budget_bytes - used)
            return dbe_fail(diag, DBE_E_LIMIT, "kv budget", 0,
                            "%u tokens need %llu bytes of KV cache, %llu of %llu are free", capacity,
                            (unsigned long long)bytes, (unsigned long long)(m->info.kv_budget_bytes - used),
                            (unsigned long long)m->info.kv_budget_bytes);
    } while (!atomic_compare_exchange_weak(&m->kv_used, &used, used + bytes));
    struct llm_kv kv = {.capacity = capacity, .bytes = bytes};
    kv.k = base_alloc((size_t)bytes / 2, 1);
    kv.v = base_alloc((size_t)bytes / 2, 1);
    if (!kv.k || !kv.v) {
        llm_kv_free(m, &kv);
        return dbe_fail(diag, DBE_E_NOMEM, "kv budget", 0, "no memory for %llu bytes of KV cache",
                        (unsigned long long)bytes);
    }
    *out = kv;
    return DBE_OK;
}

void llm_kv_free(struct llm_model *m, struct llm_kv *kv)
{
    if (kv->k)
        base_wipe(kv->k, (size_t)kv->bytes / 2);
    if (kv->v)
        base_wipe(kv->v, (size_t)kv->bytes / 2);
    base_free(kv->k);
    base_free(kv->v);
    atomic_fetch_sub(&m->kv_used, kv->bytes);
    *kv = (struct llm_kv){0};
}
