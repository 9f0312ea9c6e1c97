/* SPDX-License-Identifier: Apache-2.0
 *
 * test_engine.h - for tests: an engine over a tiny model, and what its jobs told.
 */
#ifndef L7_WORKER_TEST_ENGINE_H
#define L7_WORKER_TEST_ENGINE_H

#include <errno.h>
#include <semaphore.h>
#include <time.h>

#include "llm/test_gguf.h"

#include "devices/l7_worker/engine.h"

enum { WAIT_S = 60, JOBS_MAX = 8 };

struct fixture {
    struct llm_model *model;
    struct engine *engine;
    sem_t news;
    int owned, freed; /* chats handed over, chats given back */
};

struct outcome { /* of one job; its user pointer */
    char text[4096];
    size_t len;
    bool ended;
    int pieces;
    struct engine_result result;
};

static inline void on_wake(void *ctx)
{
    (void)sem_post(&((struct fixture *)ctx)->news);
}

static inline void start_ctx(struct fixture *f, uint32_t sessions, uint32_t queue, uint32_t pause, size_t kv_bytes,
                             uint32_t n_ctx)
{
    struct tg_shape shape = tg_defaults();
    struct llm_model_params params = {.threads = 1, .kv_budget_bytes = kv_bytes, .kernel = "portable"};
    struct engine_params e = {
        .sessions_max = sessions, .queue_max = queue, .pause_bytes = pause, .wake = on_wake, .ctx = f};

    memset(f, 0, sizeof *f);
    shape.n_ctx = n_ctx;
    f->model = tg_load(&shape, &params);
    assert_int_equal(sem_init(&f->news, 0, 0), 0);
    e.model = f->model;
    assert_int_equal(engine_new(&e, &f->engine), DBE_OK);
}

static inline void start(struct fixture *f, uint32_t sessions, uint32_t queue, uint32_t pause, size_t kv_bytes)
{
    start_ctx(f, sessions, queue, pause, kv_bytes, 512);
}

static inline void stop(struct fixture *f)
{
    engine_free(f->engine);
    llm_model_free(f->model);
    (void)sem_destroy(&f->news);
    assert_int_equal(f->freed, f->owned);
}

static inline void give_back(void *owned)
{
    __atomic_fetch_add(&((struct fixture *)owned)->freed, 1, __ATOMIC_SEQ_CST); /* either thread */
}

static const struct llm_message hello = {"user", "hello", 5};

static inline struct engine_chat chat_of(struct fixture *f, uint32_t tokens, uint64_t seed, bool stream)
{
    return (struct engine_chat){
        .messages = &hello,
        .count = 1,
        .params = {.max_tokens = tokens, .temperature = 1.0f, .top_p = 1.0f, .seed = seed, .ignore_eos = true},
        .stream = stream,
        .owned = f,
        .free_owned = give_back};
}

static inline struct engine_job *submit(struct fixture *f, uint32_t tokens, uint64_t seed, bool stream,
                                        struct outcome *o)
{
    struct engine_chat chat = chat_of(f, tokens, seed, stream);
    struct engine_job *job = NULL;

    memset(o, 0, sizeof *o);
    assert_int_equal(engine_submit(f->engine, &chat, o, &job), DBE_OK);
    f->owned++;
    return job;
}

static inline void fetch(struct engine_job *job)
{
    struct outcome *o = engine_job_user(job);
    struct base_buf text;

    base_buf_init_fixed(&text, o->text + o->len, sizeof o->text - o->len);
    o->ended = engine_take(job, &text, NULL, &o->result);
    assert_int_equal(text.err, DBE_OK);
    o->pieces += text.len > 0;
    o->len += text.len;
}

/* Wait for the engine's thread to say that there is news. */
static inline void wait_news(struct fixture *f)
{
    const struct timespec until = {.tv_sec = (time_t)(base_wall_ms() / 1000 + WAIT_S)};

    while (sem_timedwait(&f->news, &until) != 0)
        if (errno != EINTR)
            fail_msg("the engine is silent");
}

static inline void run_until_ended(struct fixture *f, struct outcome *o)
{
    while (!o->ended) {
        struct engine_job *job = engine_news(f->engine);
        if (job != NULL)
            fetch(job);
        else
            wait_news(f);
    }
}

#endif
