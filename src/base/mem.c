/* SPDX-License-Identifier: Apache-2.0
 *
 * mem.c - memory: plain, secret, wiped, compared in constant time. The only place that calls the allocator, so that
 * a test can make the n-th allocation fail. Pools small secrets, and nothing else; does not account by owner.
 */
#include "base/base.h"

#include <pthread.h>
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

/* ---- secrets ---------------------------------------------------------------------------------------------------- */

/* Small secrets share pages, for locked pages count against RLIMIT_MEMLOCK, which is 8 MiB as a rule, and ten thousand
 * channels have a secret each. A slab is one page: this head, then slots of one size. Slabs with a free slot are in the
 * list of their size; any slab is found by the address of its slots. */
struct slab {
    struct slab *next, *prev;
    uint64_t used; /* bit by bit, the first slot lowest */
    size_t size;   /* index into slot_bytes */
};

static const size_t slot_bytes[] = {64, 128, 192, 256, 384, 512, 1024};
enum { SLAB_HEAD_BYTES = 64, SLAB_SLOTS_MAX = 64 };
_Static_assert(sizeof(struct slab) <= SLAB_HEAD_BYTES, "slots begin behind the head");

static pthread_mutex_t slabs_lock = PTHREAD_MUTEX_INITIALIZER;
static struct slab *slabs[BASE_ARRAY_LEN(slot_bytes)];
static _Atomic uint64_t lock_failures;

uint64_t base_secret_unlocked_count(void)
{
    return atomic_load_explicit(&lock_failures, memory_order_relaxed);
}

/* Bytes of whole pages that hold `len`; 0 on overflow. */
static size_t secret_pages(size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), padded;

    if (__builtin_add_overflow(len > 0 ? len : 1, page - 1, &padded))
        return 0;
    return padded / page * page;
}

static void *pages_new(size_t total)
{
    void *mem = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mem == MAP_FAILED)
        return NULL;
    /* Best effort both: the kernel may be old, and the limit small. Then the pages may reach swap, which is better than
     * to refuse a channel; it is counted, so that an operator can be told. */
    (void)madvise(mem, total, MADV_DONTDUMP);
    if (mlock(mem, total) != 0)
        atomic_fetch_add_explicit(&lock_failures, 1, memory_order_relaxed);
    return mem;
}

static unsigned slab_slots(size_t size)
{
    return (unsigned)BASE_MIN((secret_pages(1) - SLAB_HEAD_BYTES) / slot_bytes[size], (size_t)SLAB_SLOTS_MAX);
}

static uint64_t slab_full(size_t size)
{
    return UINT64_MAX >> (SLAB_SLOTS_MAX - slab_slots(size));
}

static void slab_link(struct slab *b)
{
    b->prev = NULL;
    b->next = slabs[b->size];
    if (b->next != NULL)
        b->next->prev = b;
    slabs[b->size] = b;
}

static void slab_unlink(struct slab *b)
{
    if (b->prev != NULL)
        b->prev->next = b->next;
    else
        slabs[b->size] = b->next;
    if (b->next != NULL)
        b->next->prev = b->prev;
}

static void *slot_take(size_t size)
{
    struct slab *b = slabs[size];

    if (b == NULL) {
        b = pages_new(secret_pages(1));
        if (b == NULL)
            return NULL;
        b->size = size;
        slab_link(b);
    }
    unsigned slot = (unsigned)__builtin_ctzll(~b->used);
    b->used |= UINT64_C(1) << slot;
    if (b->used == slab_full(size))
        slab_unlink(b);
    return (uint8_t *)b + SLAB_HEAD_BYTES + slot * slot_bytes[size];
}

/* The last empty slab of a size stays, so that one channel coming and going asks the kernel for nothing. */
static void slot_give(void *ptr)
{
    size_t page = secret_pages(1);
    struct slab *b = (struct slab *)((uintptr_t)ptr & ~(uintptr_t)(page - 1));
    size_t slot = ((uintptr_t)ptr - (uintptr_t)b - SLAB_HEAD_BYTES) / slot_bytes[b->size];

    BASE_INVARIANT((b->used >> slot & 1) != 0);
    if (b->used == slab_full(b->size))
        slab_link(b);
    b->used &= ~(UINT64_C(1) << slot);
    if (b->used == 0 && (b->next != NULL || b->prev != NULL)) {
        slab_unlink(b);
        (void)munmap(b, page);
    }
}

/* The size of slot for `len` bytes; BASE_ARRAY_LEN(slot_bytes): pages of its own. */
static size_t slot_size(size_t len)
{
    size_t size = 0;

    while (size < BASE_ARRAY_LEN(slot_bytes) && slot_bytes[size] < len)
        size++;
    return size;
}

void *base_secret_alloc(size_t len)
{
    size_t size = slot_size(len), total = secret_pages(len);
    void *mem;

    if (base_alloc_fails() || total == 0)
        return NULL;
    if (size == BASE_ARRAY_LEN(slot_bytes))
        return pages_new(total);
    pthread_mutex_lock(&slabs_lock);
    mem = slot_take(size);
    pthread_mutex_unlock(&slabs_lock);
    return mem;
}

void base_secret_free(void *ptr, size_t len)
{
    if (ptr == NULL)
        return;
    base_wipe(ptr, len);
    if (slot_size(len) == BASE_ARRAY_LEN(slot_bytes)) {
        (void)munmap(ptr, secret_pages(len)); /* unlocks as well */
        return;
    }
    pthread_mutex_lock(&slabs_lock);
    slot_give(ptr);
    pthread_mutex_unlock(&slabs_lock);
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
