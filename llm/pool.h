/* SPDX-License-Identifier: Apache-2.0
 *
 * pool.h - a few threads that share out the items of one job at a time.
 *
 * Which thread takes which items is left open, so a job's items must not depend on each other; then results do not
 * depend on the number of threads. One caller at a time.
 */
#ifndef LLM_POOL_H
#define LLM_POOL_H

#include "base/base.h"

struct llm_pool;

/* Items [begin, end); `thread` < threads of the pool is for scratch memory. */
typedef void llm_pool_fn(void *ctx, size_t begin, size_t end, unsigned thread);

/* `threads` counts the caller, so 1 starts none. E_NOMEM, E_IO (the system starts no more threads). */
dbe_err llm_pool_new(unsigned threads, struct llm_pool **ret) DBE_MUST_CHECK;
void llm_pool_free(struct llm_pool *pool);
unsigned llm_pool_threads(const struct llm_pool *pool);
/* Runs all `items`, in pieces of `grain` (at least 1); returns when all are done. The caller works too. */
void llm_pool_run(struct llm_pool *pool, size_t items, size_t grain, llm_pool_fn *fn, void *ctx);
/* What thread `thread` is going to read in a later job: while it has nothing to do it brings `bytes` from `at` on into
 * its cache. A hint, which changes no result; NULL takes it back. */
void llm_pool_expect(struct llm_pool *pool, unsigned thread, const void *at, size_t bytes);
/* CPUs that this process may run on, at least 1. */
unsigned llm_pool_cpus(void);

#endif
