/* SPDX-License-Identifier: Apache-2.0
 *
 * pool.c - see pool.h.
 *
 * A job's pieces are shared out evenly: each thread has a run of neighbouring ones, which it takes from the front, so
 * that it reads memory as one stream and the same part of a matrix each time. Who is done takes from the back of the
 * others' runs.
 *
 * The run of a thread is one word: the job's number, the next piece, the end. A piece is taken by a compare-and-swap:
 * a thread that comes late, holding an old job's number, takes nothing. The caller therefore never waits for a thread
 * that has not woken up, only for pieces taken and not finished.
 * A job's fields change only while all runs carry a number of its own and are empty: whoever has read fields that are
 * no longer, or not yet, those of one job finds that its number is gone.
 */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

enum { SPIN_TURNS = 4000, POOL_MAX = 64, CACHE_LINE = 64, AHEAD_LINES = 4, PIECES_MAX = UINT16_MAX };

/* The run of a thread: number << 32 | next << 16 | end. */
struct run {
    _Atomic uint64_t word;
    _Atomic(const uint8_t *) ahead; /* what its thread is going to read */
    _Atomic size_t ahead_bytes;
    uint8_t apart[CACHE_LINE - 3 * sizeof(uint64_t)]; /* what one thread writes, no other reads in passing */
};

struct worker {
    struct llm_pool *pool;
    pthread_t id;
    unsigned index;
};

struct llm_pool {
    struct run runs[POOL_MAX];
    _Atomic(llm_pool_fn *) fn;
    _Atomic(void *) ctx;
    _Atomic size_t items, grain;
    uint8_t apart[CACHE_LINE];
    _Atomic uint32_t done; /* pieces */
    _Atomic unsigned sleepers;
    _Atomic bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    unsigned threads, started;
    struct worker workers[POOL_MAX];
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint64_t run_of(uint32_t job, uint32_t next, uint32_t end)
{
    return (uint64_t)job << 32 | next << 16 | end;
}

static uint32_t job_of(uint64_t run)
{
    return (uint32_t)(run >> 32);
}

static uint32_t next_of(uint64_t run)
{
    return (uint32_t)(run >> 16) & UINT16_MAX;
}

static uint32_t end_of(uint64_t run)
{
    return (uint32_t)run & UINT16_MAX;
}

/* Take a piece of job `job` from the front or the back of a run. False: there is none. */
static bool take(struct run *r, uint32_t job, bool front, uint32_t *ret_piece)
{
    uint64_t word = atomic_load(&r->word);

    while (job_of(word) == job && next_of(word) < end_of(word)) {
        const uint32_t next = next_of(word), end = end_of(word);
        *ret_piece = front ? next : end - 1;
        if (atomic_compare_exchange_weak(&r->word, &word,
                                         front ? run_of(job, next + 1, end) : run_of(job, next, end - 1)))
            return true;
    }
    return false;
}

/* Take and run pieces of job `job` until none is left or another job has begun. */
static void work(struct llm_pool *p, uint32_t job, unsigned thread)
{
    llm_pool_fn *fn = atomic_load(&p->fn);
    void *ctx = atomic_load(&p->ctx);
    const size_t items = atomic_load(&p->items), grain = atomic_load(&p->grain);
    uint32_t piece;

    for (unsigned i = 0; i < p->threads; i++) {
        while (take(&p->runs[(thread + i) % p->threads], job, i == 0, &piece)) {
            fn(ctx, piece * grain, BASE_MIN((piece + 1) * grain, items), thread);
            atomic_fetch_add(&p->done, 1);
        }
    }
}

/* How far a thread has got with what it is going to read. */
struct ahead {
    const uint8_t *from;
    size_t at;
};

/* A little of it, into the second-level cache; the address need not be one. False: there is nothing left. */
static bool fetch_ahead(const struct run *own, struct ahead *a)
{
    const uint8_t *from = atomic_load_explicit(&own->ahead, memory_order_relaxed);

    if (from != a->from)
        *a = (struct ahead){from, 0};
    if (!from || a->at >= atomic_load_explicit(&own->ahead_bytes, memory_order_relaxed))
        return false;
    for (size_t i = 0; i < AHEAD_LINES; i++, a->at += CACHE_LINE)
        __builtin_prefetch(from + a->at, 0, 2);
    return true;
}

static void sleep_until_job(struct llm_pool *p, const struct run *own, uint32_t seen, struct ahead *a)
{
    for (int i = 0; i < SPIN_TURNS; i++) {
        if (job_of(atomic_load(&own->word)) != seen || atomic_load(&p->stop))
            return;
        if (!fetch_ahead(own, a))
            relax();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (job_of(atomic_load(&own->word)) == seen && !atomic_load(&p->stop))
        pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct llm_pool *p = w->pool;
    const struct run *own = &p->runs[w->index];
    struct ahead ahead = {0};
    uint32_t seen = 0;

    for (;;) {
        sleep_until_job(p, own, seen, &ahead);
        if (atomic_load(&p->stop))
            return NULL;
        seen = job_of(atomic_load(&own->word));
        work(p, seen, w->index);
    }
}

void llm_pool_run(struct llm_pool *p, size_t items, size_t grain, llm_pool_fn *fn, void *ctx)
{
    grain = BASE_MAX(grain, (size_t)1);
    if (items == 0)
        return;
    if (p->threads == 1 || items <= grain) {
        fn(ctx, 0, items, 0);
        return;
    }
    grain = BASE_MAX(grain, (items + PIECES_MAX - 1) / PIECES_MAX);
    const uint32_t pieces = (uint32_t)((items + grain - 1) / grain);
    const uint32_t closed = job_of(atomic_load(&p->runs[0].word)) + 1, job = closed + 1;
    for (unsigned i = 0; i < p->threads; i++)
        atomic_store(&p->runs[i].word, run_of(closed, 0, 0));
    atomic_store(&p->done, 0);
    atomic_store(&p->fn, fn);
    atomic_store(&p->ctx, ctx);
    atomic_store(&p->items, items);
    atomic_store(&p->grain, grain);
    for (unsigned i = p->threads; i-- > 0;)
        atomic_store(&p->runs[i].word, run_of(job, pieces * i / p->threads, pieces * (i + 1) / p->threads));
    if (atomic_load(&p->sleepers) > 0) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
    work(p, job, 0);
    for (int turn = 0; atomic_load(&p->done) != pieces; turn++) {
        if (turn < SPIN_TURNS)
            relax();
        else
            sched_yield();
    }
}

void llm_pool_expect(struct llm_pool *p, unsigned thread, const void *at, size_t bytes)
{
    atomic_store_explicit(&p->runs[thread].ahead_bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&p->runs[thread].ahead, at, memory_order_relaxed);
}

/* Signals are the program's own threads' business: one that a worker took would not end the wait it was meant for. */
static bool start_workers(struct llm_pool *p)
{
    sigset_t all, before;
    bool good = true;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 1; i < p->threads && good; i++) {
        p->workers[i] = (struct worker){.pool = p, .index = i};
        good = pthread_create(&p->workers[i].id, NULL, worker_main, &p->workers[i]) == 0;
        p->started += good;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return good;
}

dbe_err llm_pool_new(unsigned threads, struct llm_pool **ret)
{
    struct llm_pool *p = base_alloc(1, sizeof *p);

    if (!p)
        return DBE_E_NOMEM;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->threads = BASE_MIN(BASE_MAX(threads, 1U), (unsigned)POOL_MAX);
    if (!start_workers(p)) {
        llm_pool_free(p);
        return DBE_E_IO;
    }
    *ret = p;
    return DBE_OK;
}

void llm_pool_free(struct llm_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->stop, true);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 1; i <= p->started; i++)
        pthread_join(p->workers[i].id, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    base_free(p);
}

unsigned llm_pool_threads(const struct llm_pool *p)
{
    return p->threads;
}

unsigned llm_pool_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 1)
        return 1;
    return (unsigned)CPU_COUNT(&set);
}
