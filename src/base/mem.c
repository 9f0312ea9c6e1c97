/* SPDX-License-Identifier: Apache-2.0
 *
 * mem.c - memory: plain, secret, wiped, compared in constant time. The only place that calls the allocator, so that
 * a test can make the n-th allocation fail. Does not pool and does not account by owner.
 */
#include "base/base.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic uint64_t alloc_calls, alloc_fail_at;

void base_fail_alloc_at(uint64_t nth)
{
    atomic_store(&alloc_calls, 0);
    atomic_store(&alloc_fail_at, nth);
}

uint64_t base_alloc_count(void)
{
    return atomic_load(&alloc_calls);
}

/* Count one allocation; true if it is the one that a test wants to fail. */
bool base_alloc_fails(void)
{
    uint64_t call = atomic_fetch_add_explicit(&alloc_calls, 1, memory_order_relaxed) + 1;

    return call == atomic_load_explicit(&alloc_fail_at, memory_order_relaxed);
}

void *base_alloc(size_t count, size_t size)
{
    size_t total;

    if (base_alloc_fails() || __builtin_mul_overflow(count, size, &total))
        return NULL;
    return calloc(1, total > 0 ? total : 1);
}

void *base_realloc(void *ptr, size_t count, size_t size)
{
    size_t total;

    if (base_alloc_fails() || __builtin_mul_overflow(count, size, &total))
        return NULL;
    return realloc(ptr, total > 0 ? total : 1); /* realloc(ptr, 0) may free */
}

char *base_strdup(const char *text)
{
    size_t len = strlen(text) + 1;
    char *copy = base_alloc(len, 1);

    if (copy != NULL)
        memcpy(copy, text, len);
    return copy;
}

void base_free(void *ptr)
{
    free(ptr);
}

void base_wipe(void *ptr, size_t len)
{
    if (len > 0)
        explicit_bzero(ptr, len);
}

/* Bytes of whole pages that hold `len`; 0 on overflow. */
static size_t secret_pages(size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), padded;

    if (__builtin_add_overflow(len > 0 ? len : 1, page - 1, &padded))
        return 0;
    return padded / page * page;
}

void *base_secret_alloc(size_t len)
{
    size_t total = secret_pages(len);
    void *mem;

    if (base_alloc_fails() || total == 0)
        return NULL;
    mem = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED)
        return NULL;
    /* Best effort both: RLIMIT_MEMLOCK may be small and the kernel old; the secret is still wiped when freed. */
    (void)mlock(mem, total);
    (void)madvise(mem, total, MADV_DONTDUMP);
    return mem;
}

void base_secret_free(void *ptr, size_t len)
{
    if (ptr == NULL)
        return;
    base_wipe(ptr, len);
    (void)munmap(ptr, secret_pages(len)); /* unlocks as well */
}

bool base_equal_ct(const void *a, const void *b, size_t len)
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t diff = 0;

    for (size_t i = 0; i < len; i++)
        diff = (uint8_t)(diff | (x[i] ^ y[i]));
    return diff == 0;
}

void base_free_p(void *pp)
{
    void *ptr;

    memcpy(&ptr, pp, sizeof ptr); /* pp is the address of a pointer of any type */
    base_free(ptr);
}

void base_close_p(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}
