/* SPDX-License-Identifier: Apache-2.0
 *
 * secret.c - the heap for private material (secret.h).
 *
 * A block is 16 bytes of head and what was asked for, rounded up to one of four sizes an octave; freed blocks of a size
 * form a list. A chunk of pages is cut from the front; what is left of it when the next block does not fit is cut into
 * smaller free blocks. One lock: nothing on a message's path allocates.
 */
#include "crypto/secret.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#ifdef CRYPTO_OPENSSL_PRIVATE
#include <openssl/crypto.h>
#endif

enum {
    HEAD_BYTES = 16,
    UNIT_BYTES = 16,
    LINEAR_CLASSES = 4,                       /* 16, 32, 48, 64 */
    LINEAR_MAX = LINEAR_CLASSES * UNIT_BYTES, /* from here on four steps an octave */
    OCTAVES = 12,                             /* up to 64 << 12 */
    CLASSES = LINEAR_CLASSES + 4 * OCTAVES,
    LARGE = CLASSES, /* pages of its own */
};
_Static_assert(LINEAR_MAX << OCTAVES == CRYPTO_SECRET_BLOCK_MAX, "the last class is the largest block");

/* Stands directly before the bytes that the caller has. */
struct head {
    uint32_t class;
    uint32_t back; /* from the caller's bytes to the start of the block */
    uint64_t live; /* the bytes asked for, plus one; 0 when free */
};
_Static_assert(sizeof(struct head) == HEAD_BYTES, "keeps the alignment");

struct free_block {
    struct free_block *next;
};

static struct {
    pthread_mutex_t lock;
    pthread_once_t once;
    struct free_block *free[CLASSES];
    uint8_t *chunk;
    size_t chunk_left;
    struct crypto_secret_stats stats;
    uint64_t calls, fail_at; /* of crypto_secret_malloc */
} heap = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT};

/* ---- sizes ------------------------------------------------------------------------------------------------------ */

static size_t class_bytes(unsigned class)
{
    if (class < LINEAR_CLASSES)
        return (class + 1) * (size_t)UNIT_BYTES;
    class -= LINEAR_CLASSES;
    return (size_t)(5 + class % 4) << (class / 4 + 4);
}

/* The smallest class of at least `bytes`, which is not 0 and at most CRYPTO_SECRET_BLOCK_MAX. */
static unsigned class_up(size_t bytes)
{
    if (bytes <= LINEAR_MAX)
        return (unsigned)((bytes + UNIT_BYTES - 1) / UNIT_BYTES) - 1;

    unsigned top = 63 - (unsigned)__builtin_clzll(bytes - 1); /* 2^top < bytes <= 2^(top + 1) */
    size_t quarter = ((bytes - 1) >> (top - 2)) & 3;

    return LINEAR_CLASSES + 4 * (top - 6) + (unsigned)quarter;
}

/* ---- pages ------------------------------------------------------------------------------------------------------ */

static void before_fork(void)
{
    (void)pthread_mutex_lock(&heap.lock);
}

static void after_fork(void)
{
    (void)pthread_mutex_unlock(&heap.lock);
}

static void set_up(void)
{
    (void)pthread_atfork(before_fork, after_fork, after_fork);
}

/* Best effort both, as base_secret_alloc: RLIMIT_MEMLOCK may be small and the kernel old. */
static uint8_t *pages(size_t bytes)
{
    void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mem == MAP_FAILED)
        return NULL;
    (void)mlock(mem, bytes);
    (void)madvise(mem, bytes, MADV_DONTDUMP);
    heap.stats.mapped_bytes += bytes;
    return mem;
}

static void push(uint8_t *block, unsigned class)
{
    struct free_block *b = (struct free_block *)(void *)block;

    b->next = heap.free[class];
    heap.free[class] = b;
}

/* Cut what is left of the chunk into free blocks, the largest first, and begin another. */
static bool new_chunk(void)
{
    uint8_t *mem = pages(CRYPTO_SECRET_CHUNK_BYTES);

    if (mem == NULL)
        return false;
    while (heap.chunk_left > 0) { /* multiples of the unit, and each of the first classes is one */
        unsigned class = class_up(heap.chunk_left);

        if (class_bytes(class) > heap.chunk_left)
            class --;
        push(heap.chunk, class);
        heap.chunk += class_bytes(class);
        heap.chunk_left -= class_bytes(class);
    }
    heap.chunk = mem;
    heap.chunk_left = CRYPTO_SECRET_CHUNK_BYTES;
    return true;
}

static uint8_t *take(unsigned class)
{
    size_t bytes = class_bytes(class);
    struct free_block *b = heap.free[class];
    uint8_t *block;

    if (b != NULL) {
        heap.free[class] = b->next;
        b->next = NULL;
        return (uint8_t *)b;
    }
    if (heap.chunk_left < bytes && !new_chunk())
        return NULL;
    block = heap.chunk;
    heap.chunk += bytes;
    heap.chunk_left -= bytes;
    return block;
}

/* ---- blocks ----------------------------------------------------------------------------------------------------- */

static struct head *head_of(void *ptr)
{
    struct head *h = (struct head *)(void *)((uint8_t *)ptr - HEAD_BYTES);

    BASE_INVARIANT(h->live != 0 && h->class <= LARGE);
    return h;
}

static size_t large_bytes(size_t need)
{
    return (need + 4095) / 4096 * 4096;
}

/* `align` is a power of two from 16 to 4096. */
static void *get(size_t len, size_t align)
{
    size_t need;
    uint8_t *block, *ptr;
    unsigned class = LARGE;

    if (__builtin_add_overflow(len, HEAD_BYTES + align - UNIT_BYTES, &need) || need > SIZE_MAX / 2)
        return NULL;
    (void)pthread_once(&heap.once, set_up);
    if (need <= CRYPTO_SECRET_BLOCK_MAX)
        class = class_up(need);
    (void)pthread_mutex_lock(&heap.lock);
    block = class == LARGE ? pages(large_bytes(need)) : take(class);
    if (block != NULL) {
        heap.stats.live_bytes += len;
        heap.stats.live_count++;
        heap.stats.held_bytes += class == LARGE ? large_bytes(need) : class_bytes(class);
    }
    (void)pthread_mutex_unlock(&heap.lock);
    if (block == NULL)
        return NULL;
    ptr = block + HEAD_BYTES;
    ptr += (align - (uintptr_t)ptr % align) % align;

    struct head *h = (struct head *)(void *)(ptr - HEAD_BYTES);

    h->class = class;
    h->back = (uint32_t)(ptr - block);
    h->live = len + UINT64_C(1);
    return ptr;
}

static void put(void *ptr)
{
    struct head *h = head_of(ptr);
    unsigned class = h->class;
    size_t len = (size_t)(h->live - 1);
    uint8_t *block = (uint8_t *)ptr - h->back;
    size_t whole = large_bytes(len + h->back);

    base_wipe(ptr, len);
    base_wipe(h, sizeof *h);
    (void)pthread_mutex_lock(&heap.lock);
    heap.stats.live_bytes -= len;
    heap.stats.live_count--;
    heap.stats.held_bytes -= class == LARGE ? whole : class_bytes(class);
    if (class == LARGE)
        heap.stats.mapped_bytes -= whole;
    else
        push(block, class);
    (void)pthread_mutex_unlock(&heap.lock);
    if (class == LARGE)
        (void)munmap(block, whole);
}

/* ---- for us ----------------------------------------------------------------------------------------------------- */

void *crypto_secret_alloc(size_t len)
{
    void *ptr = base_alloc_fails() ? NULL : get(len, CRYPTO_SECRET_ALIGN);

    if (ptr != NULL)
        memset(ptr, 0, len); /* the link of a free block lay in it */
    return ptr;
}

void crypto_secret_free(void *ptr)
{
    if (ptr != NULL)
        put(ptr);
}

struct crypto_secret_stats crypto_secret_stats(void)
{
    struct crypto_secret_stats stats;

    (void)pthread_mutex_lock(&heap.lock);
    stats = heap.stats;
    (void)pthread_mutex_unlock(&heap.lock);
    return stats;
}

/* ---- for OpenSSL ------------------------------------------------------------------------------------------------ */

void crypto_secret_fail_at(uint64_t nth)
{
    (void)pthread_mutex_lock(&heap.lock);
    heap.calls = 0;
    heap.fail_at = nth;
    (void)pthread_mutex_unlock(&heap.lock);
}

uint64_t crypto_secret_count(void)
{
    uint64_t calls;

    (void)pthread_mutex_lock(&heap.lock);
    calls = heap.calls;
    (void)pthread_mutex_unlock(&heap.lock);
    return calls;
}

void *crypto_secret_malloc(size_t len, const char *file, int line)
{
    bool fail;

    (void)file, (void)line;
    (void)pthread_mutex_lock(&heap.lock);
    fail = ++heap.calls == heap.fail_at;
    (void)pthread_mutex_unlock(&heap.lock);
    return fail ? NULL : get(len, UNIT_BYTES);
}

void crypto_secret_release(void *ptr, const char *file, int line)
{
    (void)file, (void)line;
    crypto_secret_free(ptr);
}

/* A larger size moves, unless the block has room; so does what has pages of its own. */
void *crypto_secret_realloc(void *ptr, size_t len, const char *file, int line)
{
    struct head *h;
    size_t old;
    void *moved;

    if (ptr == NULL)
        return crypto_secret_malloc(len, file, line);
    if (len == 0) {
        crypto_secret_free(ptr);
        return NULL;
    }
    h = head_of(ptr);
    old = (size_t)(h->live - 1);
    if (h->class != LARGE && len <= class_bytes(h->class) - h->back) {
        if (len < old)
            base_wipe((uint8_t *)ptr + len, old - len);
        h->live = len + UINT64_C(1);
        (void)pthread_mutex_lock(&heap.lock);
        heap.stats.live_bytes += len - old; /* may wrap around and back */
        (void)pthread_mutex_unlock(&heap.lock);
        return ptr;
    }
    moved = crypto_secret_malloc(len, file, line);
    if (moved == NULL)
        return NULL;
    memcpy(moved, ptr, BASE_MIN(old, len));
    crypto_secret_free(ptr);
    return moved;
}

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif

bool crypto_secret_serve_openssl(void)
{
#if defined(CRYPTO_OPENSSL_PRIVATE) && !defined(UNDER_ASAN)
    if (!heap.stats.openssl)
        heap.stats.openssl =
            CRYPTO_set_mem_functions(crypto_secret_malloc, crypto_secret_realloc, crypto_secret_release) == 1;
#endif
    return heap.stats.openssl;
}
