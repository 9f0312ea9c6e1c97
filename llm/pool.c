/* SPDX-License-Identifier: Apache-2.0
 *
 * pool.c - see pool.h.
 *
 * The ticket holds the job's number (high half) and the next piece (low half): a thread takes a piece by moving the
 * ticket on with a compare-and-swap, so one that comes late, holding an old job's number, takes nothing. The caller
 * therefore never waits for a thread that has not woken up, only for pieces taken and not finished.
 * A job's fields change only while the ticket carries a number of its own with no piece left: whoever has read fields
 * that are no longer, or not yet, those of one job finds that its number is gone.
 */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { SPIN_TURNS = 2000, POOL_MAX = 64 };

struct worker {
    struct llm_pool *pool;
    pthread_t id;
    unsigned index;
};

struct llm_pool {
    _Atomic uint64_t ticket;
    _Atomic(llm_pool_fn *) fn;
    _Atomic(void *) ctx;
    _Atomic size_t items, grain;
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

static uint32_t job_of(uint64_t ticket)
{
    return (uint32_t)(ticket >> 32);
}

/* Take and run pieces of job `job` until none is left or another job has begun. */
static void work(struct llm_pool *p, uint32_t job, unsigned thread)
{
    llm_pool_fn *fn = atomic_load(&p->fn);
    void *ctx = atomic_load(&p->ctx);
    const size_t items = atomic_load(&p->items), grain = atomic_load(&p->grain);

    for (;;) {
        uint64_t t = atomic_load(&p->ticket);
        const size_t begin = (size_t)(uint32_t)t * grain;
        if (job_of(t) != job || begin >= items)
            return;
        if (!atomic_compare_exchange_weak(&p->ticket, &t, t + 1))
            continue;
        fn(ctx, begin, BASE_MIN(begin + grain, items), thread);
        atomic_fetch_add(&p->done, 1);
    }
}

static void sleep_until_job(struct llm_pool *p, uint32_t seen)
{
    for (int i = 0; i < SPIN_TURNS; i++) {
        if (job_of(atomic_load(&p->ticket)) != seen || atomic_load(&p->stop))
            return;
        relax();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (job_of(atomic_load(&p->ticket)) == seen && !atomic_load(&p->stop))
        pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct llm_pool *p = w->pool;
    uint32_t seen = 0;

    for (;;) {
        sleep_until_job(p, seen);
        if (atomic_load(&p->stop))
            return NULL;
        seen = job_of(atomic_load(&p->ticket));
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
    const uint32_t pieces = (uint32_t)((items + grain - 1) / grain);
    const uint32_t closed = job_of(atomic_load(&p->ticket)) + 1, job = closed + 1;
    atomic_store(&p->ticket, (uint64_t)closed << 32 | UINT32_MAX);
    atomic_store(&p->done, 0);
    atomic_store(&p->fn, fn);
    atomic_store(&p->ctx, ctx);
    atomic_store(&p->items, items);
    atomic_store(&p->grain, grain);
    atomic_store(&p->ticket, (uint64_t)job << 32);
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

dbe_err llm_pool_new(unsigned threads, struct llm_pool **ret)
{
    struct llm_pool *p = base_alloc(1, sizeof *p);

    if (!p)
        return DBE_E_NOMEM;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    atomic_store(&p->grain, 1); /* with 0, the closed ticket before the first job would stand for item 0 */
    p->threads = BASE_MIN(BASE_MAX(threads, 1U), (unsigned)POOL_MAX);
    for (unsigned i = 1; i < p->threads; i++) {
        p->workers[i] = (struct worker){.pool = p, .index = i};
        if (pthread_create(&p->workers[i].id, NULL, worker_main, &p->workers[i]) != 0) {
            llm_pool_free(p);
            return DBE_E_IO;
        }
        p->started++;
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
