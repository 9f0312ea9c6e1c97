/* SPDX-License-Identifier: Apache-2.0
 *
 * arena.c - see arena.h.
 */
#include "arena.h"

#include <sys/mman.h>

enum { HUGE_BYTES = 2 << 20 };

dbe_err llm_arena_init(struct llm_arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX - 2 * (size_t)HUGE_BYTES)
        return DBE_E_NOMEM;
    const size_t whole = (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
    void *raw = base_alloc(whole + HUGE_BYTES, 1);
    if (!raw)
        return DBE_E_NOMEM;
    uint8_t *at = (uint8_t *)raw + (HUGE_BYTES - (uintptr_t)raw % HUGE_BYTES) % HUGE_BYTES;
    (void)madvise(at, whole, MADV_HUGEPAGE); /* where it is refused, pages are small */
    *a = (struct llm_arena){.at = at, .left = whole, .raw = raw};
    return DBE_OK;
}

void llm_arena_free(struct llm_arena *a)
{
    base_free(a->raw);
    *a = (struct llm_arena){0};
}

uint8_t *llm_arena_take(struct llm_arena *a, size_t bytes)
{
    uint8_t *ret = a->at;

    if (bytes > a->left || a->left - bytes < (ARENA_ALIGN - bytes % ARENA_ALIGN) % ARENA_ALIGN)
        return NULL;
    bytes = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    a->at += bytes;
    a->left -= bytes;
    return ret;
}
