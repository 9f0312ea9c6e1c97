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

struct llm_reader {
    struct llm_pool *pool;
    uint8_t *memory, *block;
    size_t bytes;
};

static dbe_err reader_new(unsigned threads, unsigned max_ms, struct llm_reader **ret)
{
    struct llm_reader *r = base_alloc(1, sizeof *r);

    if (!r)
        return DBE_E_NOMEM;
    r->bytes = block_bytes(max_ms);
    r->memory = base_alloc(r->bytes + HUGE_PAGE + AHEAD_BYTES, 1);
    if (!r->memory || llm_pool_new(threads ? threads : llm_pool_cpus(), &r->pool) != DBE_OK) {
        llm_reader_free(r);
        return DBE_E_NOMEM;
    }
    r->block = r->memory + (HUGE_PAGE - (uintptr_t)r->memory % HUGE_PAGE);
    (void)madvise(r->block, r->bytes, MADV_HUGEPAGE); /* where it is refused, pages are small and the figure is lower */
    llm_pool_run(r->pool, r->bytes / PIECE_BYTES, 2, write_pieces, &(struct reading){.data = r->block});
    *ret = r;
    return DBE_OK;
}

dbe_err llm_reader_new(unsigned threads, struct llm_reader **ret)
{
    return reader_new(threads, HASTY_MS, ret);
}

double llm_reader_run(struct llm_reader *reader, unsigned max_ms)
{
    struct reading r = {.data = reader->block};
    llm_pool_fn *read = best_reader();
    const uint64_t start = base_mono_ns();
    uint64_t best = UINT64_MAX, sum = 0;

    for (unsigned i = 0; i < TURNS_MAX && (i < 2 || base_mono_ns() - start < max_ms * (uint64_t)BASE_NS_PER_MS); i++) {
        const uint64_t at = base_mono_ns();
        r.streams = i % 2 == 0 ? 1 : 4;
        llm_pool_run(reader->pool, reader->bytes / PIECE_BYTES, 2, read, &r);
        best = BASE_MIN(best, base_mono_ns() - at);
    }
    for (size_t i = 0; i < LLM_THREADS_MAX; i++)
        sum += r.sums[i];
    /* the sums are used, so that no load is left out: the block holds ones, so they cannot be 0 */
    return sum == 0 || best == 0 ? 0 : (double)reader->bytes * 1e9 / (double)best;
}

void llm_reader_free(struct llm_reader *r)
{
    if (!r)
        return;
    llm_pool_free(r->pool);
    base_free(r->memory);
    base_free(r);
}

double llm_read_bandwidth(unsigned threads, unsigned max_ms)
{
    struct llm_reader *r;

    if (reader_new(threads, max_ms, &r) != DBE_OK)
        return 0;
    const double ret = llm_reader_run(r, max_ms);
    llm_reader_free(r);
    return ret;
}
