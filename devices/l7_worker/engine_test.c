/* SPDX-License-Identifier: Apache-2.0
 *
 * engine_test.c - the computing thread on a tiny model: turns, queue, budget, pause, cancel, end.
 */
#include <sched.h>

#include "devices/l7_worker/test_engine.h"

static void test_one_chat(void **state)
{
    struct fixture f;
    struct outcome whole, streamed;

    (void)state;
    start(&f, 2, 2, 0, 0);
    (void)submit(&f, 20, 7, false, &whole);
    run_until_ended(&f, &whole);
    assert_int_equal(whole.result.err, DBE_OK);
    assert_int_equal(whole.result.finish, LLM_FINISH_LENGTH);
    assert_int_equal(whole.result.answer_tokens, 20);
    assert_int_equal(whole.result.passes, 19); /* the prompt's pass gives the first token */
    assert_true(whole.result.prompt_tokens > 5);
    assert_true(whole.result.first_token_ns > 0 && whole.result.first_token_ns <= whole.result.total_ns);
    assert_true(whole.len > 0 && whole.pieces == 1);
    (void)submit(&f, 20, 7, true, &streamed);
    run_until_ended(&f, &streamed);
    assert_int_equal(streamed.len, whole.len);
    assert_memory_equal(streamed.text, whole.text, whole.len);
    stop(&f);
}

/* Taking turns changes nothing in what each says; more chats than sessions wait for their turn. */
static void test_many_chats(void **state)
{
    struct fixture f;
    struct outcome alone[JOBS_MAX], together[JOBS_MAX];

    (void)state;
    start(&f, 3, JOBS_MAX, 0, 0);
    for (uint32_t i = 0; i < JOBS_MAX; i++) {
        (void)submit(&f, 10 + i, i, false, &alone[i]);
        run_until_ended(&f, &alone[i]);
    }
    for (uint32_t i = 0; i < JOBS_MAX; i++)
        (void)submit(&f, 10 + i, i, i % 2 == 0, &together[i]);
    for (uint32_t i = 0; i < JOBS_MAX; i++) {
        run_until_ended(&f, &together[i]);
        assert_int_equal(together[i].result.answer_tokens, 10 + i);
        assert_int_equal(together[i].len, alone[i].len);
        assert_memory_equal(together[i].text, alone[i].text, alone[i].len);
    }
    stop(&f);
}

static void test_queue_is_bounded(void **state)
{
    struct fixture f;
    struct outcome o[4];
    struct engine_job *jobs[4];
    struct engine_chat chat;
    struct engine_job *none = NULL;

    (void)state;
    start(&f, 1, 2, 1, 0); /* the first pauses at once, as nobody fetches its text */
    for (int i = 0; i < 3; i++)
        jobs[i] = submit(&f, 100, 1, true, &o[i]);
    chat = chat_of(&f, 100, 1, true);
    assert_int_equal(engine_submit(f.engine, &chat, NULL, &none), DBE_E_LIMIT);
    assert_null(none);
    struct engine_load load = engine_load(f.engine);
    assert_int_equal(load.running + load.queued, 3);
    engine_cancel(jobs[1]);
    jobs[3] = submit(&f, 2, 1, false, &o[3]); /* room again */
    engine_cancel(jobs[0]);
    engine_cancel(jobs[2]);
    run_until_ended(&f, &o[3]);
    assert_int_equal(o[3].result.answer_tokens, 2);
    stop(&f);
}

/* Also one that is just being taken out of the queue has its place. */
static void test_queue_is_bounded_at_every_moment(void **state)
{
    struct fixture f;

    (void)state;
    start(&f, 1, 0, 1, 0);
    for (int round = 0; round < 50; round++) {
        struct outcome o;
        struct engine_job *none = NULL, *job = submit(&f, 100, 1, true, &o);
        struct engine_chat chat = chat_of(&f, 100, 1, true);
        while (engine_news(f.engine) == NULL) { /* until it has said something, and pauses */
            struct engine_load load = engine_load(f.engine);
            assert_int_equal(load.running + load.queued, 1);
            assert_int_equal(engine_submit(f.engine, &chat, NULL, &none), DBE_E_LIMIT);
        }
        engine_cancel(job);
        while (engine_load(f.engine).running + engine_load(f.engine).queued > 0)
            sched_yield();
    }
    stop(&f);
}

static void test_session_pauses_when_nobody_fetches(void **state)
{
    struct fixture f;
    struct outcome slow, quick, reference;
    struct base_buf text;
    struct engine_job *job;

    (void)state;
    start(&f, 2, 2, 4, 0);
    (void)submit(&f, 200, 3, false, &reference);
    run_until_ended(&f, &reference);
    job = submit(&f, 200, 3, true, &slow);
    (void)submit(&f, 100, 5, false, &quick);
    while (!quick.ended) { /* what the slow one has to tell is put off */
        struct engine_job *news = engine_news(f.engine);
        if (news == job)
            engine_postpone(news);
        else if (news != NULL)
            fetch(news);
        else
            wait_news(&f);
    }
    base_buf_init_fixed(&text, slow.text, sizeof slow.text);
    engine_postponed(f.engine);
    assert_ptr_equal(engine_news(f.engine), job);
    assert_false(engine_take(job, &text, NULL, &slow.result));
    slow.len = text.len;
    assert_true(slow.len < reference.len);
    run_until_ended(&f, &slow);
    assert_int_equal(slow.len, reference.len);
    assert_memory_equal(slow.text, reference.text, reference.len);
    stop(&f);
}

static void test_too_long_for_the_context(void **state)
{
    struct fixture f;
    struct outcome o;

    (void)state;
    start(&f, 1, 1, 0, 0);
    (void)submit(&f, 1000, 1, false, &o);
    run_until_ended(&f, &o);
    assert_int_equal(o.result.err, DBE_E_CONTEXT);
    assert_true(o.result.reason[0] != '\0');
    assert_int_equal(o.len, 0);
    stop(&f);
}

/* The budget holds one of them: the other waits for it to end, and is not refused. */
static void test_memory_budget(void **state)
{
    struct fixture f;
    struct outcome first, second, open_end;
    struct tg_shape shape = tg_defaults();
    struct llm_model *probe = tg_load(&shape, NULL);
    size_t per_token = llm_model_info(probe)->kv_bytes_per_token;

    (void)state;
    llm_model_free(probe);
    start(&f, 2, 4, 0, per_token * 256);
    (void)submit(&f, 150, 1, false, &first);
    (void)submit(&f, 150, 2, false, &second);
    (void)submit(&f, 0, 3, false, &open_end); /* as many as there is memory for */
    run_until_ended(&f, &first);
    run_until_ended(&f, &second);
    run_until_ended(&f, &open_end);
    assert_int_equal(first.result.err, DBE_OK);
    assert_int_equal(second.result.err, DBE_OK);
    assert_int_equal(second.result.answer_tokens, 150);
    assert_int_equal(open_end.result.err, DBE_OK);
    assert_in_range(open_end.result.answer_tokens, 100, 256);
    stop(&f);
}

static void test_cancel_in_every_state(void **state)
{
    struct fixture f;
    struct outcome o[3], last;
    struct engine_job *jobs[3];

    (void)state;
    start(&f, 1, 4, 0, 0);
    jobs[0] = submit(&f, 400, 1, true, &o[0]); /* running, once it has said something */
    jobs[1] = submit(&f, 400, 2, true, &o[1]); /* queued */
    while (o[0].len == 0) {
        wait_news(&f);
        struct engine_job *job = engine_news(f.engine);
        if (job != NULL)
            fetch(job);
    }
    engine_cancel(jobs[1]);
    if (!o[0].ended)
        engine_cancel(jobs[0]);
    jobs[2] = submit(&f, 1, 3, false, &o[2]); /* ended and never fetched */
    while (engine_news(f.engine) != jobs[2])
        wait_news(&f);
    engine_postpone(jobs[2]);
    engine_cancel(jobs[2]);
    engine_postponed(f.engine);
    assert_null(engine_news(f.engine));
    (void)submit(&f, 3, 4, false, &last); /* and the engine goes on */
    run_until_ended(&f, &last);
    assert_int_equal(last.result.answer_tokens, 3);
    stop(&f);
}

static void test_stop_with_work_left(void **state)
{
    struct fixture f;
    struct outcome o[5];

    (void)state;
    start(&f, 2, 4, 0, 0);
    for (int i = 0; i < 5; i++)
        (void)submit(&f, 400, 1, i % 2 == 0, &o[i]);
    wait_news(&f);
    stop(&f); /* every chat is given back */
}

static void test_arguments(void **state)
{
    struct engine_params p = {.sessions_max = 0, .queue_max = 1};
    struct engine *e = NULL;

    (void)state;
    assert_int_equal(engine_new(&p, &e), DBE_E_ARGUMENT);
    p.sessions_max = ENGINE_SESSIONS_MAX + 1;
    assert_int_equal(engine_new(&p, &e), DBE_E_ARGUMENT);
    assert_null(e);
    engine_free(NULL);
}

/* A pass takes a token of each answer and a chunk of a prompt: a long prompt holds nobody up. */
static void test_long_prompt_beside_an_answer(void **state)
{
    static char words[2401];
    struct fixture f;
    struct outcome answer, prompt;
    struct llm_model_stats before, after;
    struct llm_message message = {"user", words, sizeof words - 1};

    (void)state;
    memset(words, 'x', sizeof words - 1);
    start_ctx(&f, 2, 2, 0, 0, 4096);
    (void)submit(&f, 1500, 3, true, &answer);
    while (answer.len == 0) {
        struct engine_job *job = engine_news(f.engine);
        if (job != NULL)
            fetch(job);
        else
            wait_news(&f);
    }
    llm_model_stats(f.model, &before);
    struct engine_chat chat = chat_of(&f, 2, 1, false);
    struct engine_job *job = NULL;
    chat.messages = &message;
    memset(&prompt, 0, sizeof prompt);
    assert_int_equal(engine_submit(f.engine, &chat, &prompt, &job), DBE_OK);
    f.owned++;
    run_until_ended(&f, &prompt);
    run_until_ended(&f, &answer);
    llm_model_stats(f.model, &after);
    assert_int_equal(answer.result.err, DBE_OK);
    assert_int_equal(prompt.result.err, DBE_OK);
    assert_true(prompt.result.prompt_tokens > 300);
    /* every token of the one was a pass, and the other's prompt took part in those */
    assert_in_range(after.passes - before.passes, 1, 1500 + 1);
    assert_int_equal(after.prefill_rows - before.prefill_rows, prompt.result.prompt_tokens);
    stop(&f);
}

/* Chats that share: the second finds what the first has computed. */
static void test_shared_prompts(void **state)
{
    static char words[1201];
    struct fixture f;
    struct outcome o[3];
    uint64_t rows[3];
    struct llm_message message = {"user", words, sizeof words - 1};

    (void)state;
    memset(words, 'y', sizeof words - 1);
    start_ctx(&f, 2, 2, 0, 0, 4096);
    for (size_t i = 0; i < 3; i++) {
        struct engine_chat chat = chat_of(&f, 4, 9, false);
        struct engine_job *job = NULL;
        struct llm_model_stats before, after;
        chat.messages = &message;
        chat.shares = true;
        memset(chat.salt, i == 2 ? 2 : 1, sizeof chat.salt);
        memset(&o[i], 0, sizeof o[i]);
        llm_model_stats(f.model, &before);
        assert_int_equal(engine_submit(f.engine, &chat, &o[i], &job), DBE_OK);
        f.owned++;
        run_until_ended(&f, &o[i]);
        llm_model_stats(f.model, &after);
        rows[i] = after.prefill_rows - before.prefill_rows;
        assert_int_equal(o[i].len, o[0].len);
        assert_memory_equal(o[i].text, o[0].text, o[0].len);
    }
    assert_int_equal(rows[0], o[0].result.prompt_tokens);
    assert_true(rows[1] <= 32);
    assert_int_equal(rows[2], rows[0]); /* another salt */
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_chat),
        cmocka_unit_test(test_many_chats),
        cmocka_unit_test(test_queue_is_bounded),
        cmocka_unit_test(test_queue_is_bounded_at_every_moment),
        cmocka_unit_test(test_session_pauses_when_nobody_fetches),
        cmocka_unit_test(test_too_long_for_the_context),
        cmocka_unit_test(test_memory_budget),
        cmocka_unit_test(test_cancel_in_every_state),
        cmocka_unit_test(test_stop_with_work_left),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_long_prompt_beside_an_answer),
        cmocka_unit_test(test_shared_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
