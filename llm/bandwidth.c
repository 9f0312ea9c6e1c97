/* SPDX-License-Identifier: Apache-2.0
 *
 * bandwidth.c - how fast this machine's memory can be read: what decoding is held against.
 *
 * In:   threads, a time limit. Out: bytes a second, the best pass of several.
 * Does: wide loads of many accumulators, one and four streams a thread with prefetch, over a block of huge pages that
 *       is twice the last cache, each part written by the thread pool first. A figure that is too low would flatter the
 *       engine, so whatever reads fastest counts.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/base.h"
#include "llm.h"
#include "pool.h"

enum {
    PIECE_BYTES = 1 << 20,
    HUGE_PAGE = 2 << 20,
    BLOCK_MIN = 128 << 20,
    BLOCK_MAX = 1 << 30,
    BLOCK_HASTY = 256 << 20, /* at most, where time is short: writing it first takes most of the time */
    HASTY_MS = 500,
    AHEAD_BYTES = 2048, /* prefetch distance */
    TURNS_MAX = 12,
    LANES = 8
};

typedef uint64_t wide __attribute__((vector_size(64), aligned(64)));

struct reading {
    uint8_t *data;
    unsigned streams;
    uint64_t sums[LLM_THREADS_MAX];
};

/* Sums of a piece in `streams` parts at once, so that several pages are under way. The compiler makes of `wide` what
 * the target has. */
static inline __attribute__((always_inline)) uint64_t read_piece(const uint8_t *at, unsigned streams)
{
    const size_t part = PIECE_BYTES / streams, step = LANES / streams * sizeof(wide);
    wide sum[LANES] = {{0}};
    uint64_t total = 0;

    for (size_t i = 0; i < part; i += step)
        for (unsigned s = 0; s < streams; s++) {
            const uint8_t *from = at + s * part + i;
            for (size_t j = 0; j < LANES / streams; j++) {
                __builtin_prefetch(from + AHEAD_BYTES + j * sizeof(wide), 0, 0);
                sum[s * (LANES / streams) + j] += *(const wide *)(const void *)(from + j * sizeof(wide));
            }
        }
    for (size_t j = 0; j < LANES; j++)
        for (size_t k = 0; k < sizeof(wide) / sizeof(uint64_t); k++)
            total += sum[j][k];
    return total;
}

#define READ_PIECES(name, attribute)                                                                                   \
    attribute static void name(void *ctx, size_t begin, size_t end, unsigned thread)                                   \
    {                                                                                                                  \
        struct reading *r = ctx;                                                                                       \
                                                                                                                       \
        for (size_t i = begin; i < end; i++)                                                                           \
            r->sums[thread] +=                                                                                         \
                r->streams == 1 ? read_piece(r->data + i * PIECE_BYTES, 1) : read_piece(r->data + i * PIECE_BYTES, 4); \
    }

READ_PIECES(read_plain, )
#if defined(__x86_64__)
READ_PIECES(read_avx2, __attribute__((target("avx2"))))
READ_PIECES(read_avx512, __attribute__((target("avx512f"))))
#endif

static llm_pool_fn *best_reader(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        return read_avx512;
    if (__builtin_cpu_supports("avx2"))
        return read_avx2;
#endif
    return read_plain;
}

/* Pages that were never written would all be the one zero page. */
static void write_pieces(void *ctx, size_t begin, size_t end, unsigned thread)
{
    struct reading *r = ctx;

    (void)thread;
    memset(r->data + begin * PIECE_BYTES, 1, (end - begin) * PIECE_BYTES);
}

static size_t block_bytes(unsigned max_ms)
{
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const size_t most = max_ms < HASTY_MS ? BLOCK_HASTY : BLOCK_MAX;
    const size_t twice = cache > 0 ? BASE_MIN((size_t)cache, most) * 2 : 0;
    const size_t bytes = BASE_MIN(BASE_MAX(twice, (size_t)BLOCK_MIN), most);

    return bytes / HUGE_PAGE * HUGE_PAGE;
}

static double measure(struct llm_pool *pool, uint8_t *block, size_t bytes, unsigned max_ms)
{
    struct reading r = {.data = block};
    llm_pool_fn *reader = best_reader();
    const uint64_t start = base_mono_ns();
    uint64_t best = UINT64_MAX, sum = 0;

    (void)madvise(block, bytes, MADV_HUGEPAGE); /* where it is refused, pages are small and the figure is lower */
    llm_pool_run(pool, bytes / PIECE_BYTES, 2, write_pieces, &r);
    for (unsigned i = 0; i < TURNS_MAX && (i < 2 || base_mono_ns() - start < max_ms * (uint64_t)BASE_NS_PER_MS); i++) {
        const uint64_t at = base_mono_ns();
        r.streams = i % 2 == 0 ? 1 : 4;
        llm_pool_run(pool, bytes / PIECE_BYTES, 2, reader, &r);
        best = BASE_MIN(best, base_mono_ns() - at);
    }
    for (size_t i = 0; i < LLM_THREADS_MAX; i++)
        sum += r.sums[i];
    /* the sums are used, so that no load is left out: the block holds ones, so they cannot be 0 */
    return sum == 0 || best == 0 ? 0 : (double)bytes * 1e9 / (double)best;
}

double llm_read_bandwidth(unsigned threads, unsigned max_ms)
{
    const size_t bytes = block_bytes(max_ms);
    struct llm_pool *pool;
    double ret = 0;
    uint8_t *memory = base_alloc(bytes + HUGE_PAGE + AHEAD_BYTES, 1);

    if (memory && llm_pool_new(threads ? threads : llm_pool_cpus(), &pool) == DBE_OK) {
        ret = measure(pool, memory + (HUGE_PAGE - (uintptr_t)memory % HUGE_PAGE), bytes, max_ms);
        llm_pool_free(pool);
    }
    base_free(memory);
    return ret;
}
