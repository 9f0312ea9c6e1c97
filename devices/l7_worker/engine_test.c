/* SPDX-License-Identifier: Apache-2.0
 *
 * engine_test.c - the computing thread on a tiny model: turns, queue, budget, pause, cancel, end.
 */
#include <errno.h>
#include <semaphore.h>
#include <time.h>

#include "llm/test_gguf.h"

#include "devices/l7_worker/engine.h"
#include "devices/l7_worker/says.h"
#include "llm/grammar.h"

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

static void on_wake(void *ctx)
{
    (void)sem_post(&((struct fixture *)ctx)->news);
}

static void start_ctx(struct fixture *f, uint32_t sessions, uint32_t queue, uint32_t pause, size_t kv_bytes,
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

static void start(struct fixture *f, uint32_t sessions, uint32_t queue, uint32_t pause, size_t kv_bytes)
{
    start_ctx(f, sessions, queue, pause, kv_bytes, 512);
}

static void stop(struct fixture *f)
{
    engine_free(f->engine);
    llm_model_free(f->model);
    (void)sem_destroy(&f->news);
    assert_int_equal(f->freed, f->owned);
}

static void give_back(void *owned)
{
    __atomic_fetch_add(&((struct fixture *)owned)->freed, 1, __ATOMIC_SEQ_CST); /* either thread */
}

static const struct llm_message hello = {"user", "hello", 5};

static struct engine_chat chat_of(struct fixture *f, uint32_t tokens, uint64_t seed, bool stream)
{
    return (struct engine_chat){
        .messages = &hello,
        .count = 1,
        .params = {.max_tokens = tokens, .temperature = 1.0f, .top_p = 1.0f, .seed = seed, .ignore_eos = true},
        .stream = stream,
        .owned = f,
        .free_owned = give_back};
}

static struct engine_job *submit(struct fixture *f, uint32_t tokens, uint64_t seed, bool stream, struct outcome *o)
{
    struct engine_chat chat = chat_of(f, tokens, seed, stream);
    struct engine_job *job = NULL;

    memset(o, 0, sizeof *o);
    assert_int_equal(engine_submit(f->engine, &chat, o, &job), DBE_OK);
    f->owned++;
    return job;
}

static void fetch(struct engine_job *job)
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
static void wait_news(struct fixture *f)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    while (sem_timedwait(&f->news, &until) != 0)
        if (errno != EINTR)
            fail_msg("the engine is silent");
}

static void run_until_ended(struct fixture *f, struct outcome *o)
{
    while (!o->ended) {
        struct engine_job *job = engine_news(f->engine);
        if (job != NULL)
            fetch(job);
        else
            wait_news(f);
    }
}

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

/* ---- marks, probabilities, vectors ------------------------------------------------------------------------------ */

struct says { /* pieces in, and what may be told after each */
    const char *piece, *text;
    bool done, call;
};

static void say_all(const struct llm_model *model, const struct says *rows, size_t count)
{
    struct engine_says s;
    bool call;

    engine_says_init(&s, "<tool_call>", false);
    for (size_t i = 0; i < count; i++) {
        const struct llm_piece piece = {.text = rows[i].piece, .text_len = strlen(rows[i].piece), .done = rows[i].done};
        assert_int_equal(engine_says_more(&s, model, &piece, &call), DBE_OK);
        assert_string_equal(base_buf_cstr(&s.text), rows[i].text);
        assert_int_equal(call, rows[i].call);
    }
    engine_says_free(&s);
}

/* What may begin the mark is held until it is clear; nothing of the mark is told, and nothing is lost without one. */
static void test_mark_across_pieces(void **state)
{
    static const struct says found[] = {
        {"a <to", "a ", false, false}, {"ol_cal", "", false, false}, {"l>\n{", "", false, true}};
    static const struct says not_found[] = {{"x<tool_", "x", false, false},
                                            {"kit> <", "<tool_kit> ", false, false},
                                            {"<", "<", false, false},
                                            {"", "<", true, false}};
    static const struct says at_once[] = {{"<tool_call>", "", true, true}};

    (void)state;
    say_all(NULL, found, BASE_ARRAY_LEN(found));
    say_all(NULL, not_found, BASE_ARRAY_LEN(not_found));
    say_all(NULL, at_once, BASE_ARRAY_LEN(at_once));
}

/* Probabilities of every token whose text was told; a whole answer's and a stream's are the same. */
static void test_probs_go_with_the_text(void **state)
{
    struct fixture f;
    size_t lens[2] = {0};

    (void)state;
    start(&f, 2, 2, 0, 1 << 22);
    for (int stream = 0; stream < 2; stream++) {
        struct outcome o = {0};
        struct engine_chat chat = chat_of(&f, 12, 3, stream == 1);
        struct engine_job *job = NULL;
        struct base_buf text, probs;
        const struct engine_extras extras = {&probs, NULL};
        struct llm_token_prob prob;
        base_buf_init(&text, 4096);
        base_buf_init(&probs, 1 << 20);
        chat.params.logprobs = 3;
        assert_int_equal(engine_submit(f.engine, &chat, &o, &job), DBE_OK);
        f.owned++;
        while (!o.ended) {
            while (engine_news(f.engine) == NULL)
                wait_news(&f);
            o.ended = engine_take(job, &text, &extras, &o.result);
        }
        assert_int_equal(probs.len % sizeof prob, 0);
        for (size_t at = 0; at < probs.len; at += sizeof prob) {
            memcpy(&prob, probs.data + at, sizeof prob);
            assert_true(prob.logprob <= 0 && prob.top_count == 2);
        }
        assert_int_equal(probs.len, 12 * sizeof prob);
        lens[stream] = probs.len;
        base_buf_free(&text);
        base_buf_free(&probs);
    }
    assert_int_equal(lens[0], lens[1]);
    stop(&f);
}

static void test_vectors(void **state)
{
    static const char *const inputs[] = {"hello", "hello", "world"};
    struct fixture f;
    struct outcome o = {0};
    struct engine_job *job = NULL;

    (void)state;
    start(&f, 2, 2, 0, 1 << 22);
    const uint32_t n = llm_model_info(f.model)->n_embd;
    struct engine_chat chat = {.inputs = inputs, .input_count = 3, .owned = &f, .free_owned = give_back};
    assert_int_equal(engine_submit(f.engine, &chat, &o, &job), DBE_OK);
    f.owned++;
    run_until_ended(&f, &o);
    assert_int_equal(o.result.err, DBE_OK);
    assert_int_equal(o.len, 3 * n * sizeof(float));
    assert_memory_equal(o.text, o.text + n * sizeof(float), n * sizeof(float));
    assert_memory_not_equal(o.text, o.text + 2 * n * sizeof(float), n * sizeof(float));
    assert_true(o.result.prompt_tokens >= 3 && o.result.answer_tokens == 0);

    chat.inputs = inputs; /* and one that nobody waits for is freed */
    assert_int_equal(engine_submit(f.engine, &chat, &o, &job), DBE_OK);
    f.owned++;
    engine_cancel(job);
    stop(&f);
}

/* The end of a job that calls: text, call and result. */
static void run_call(struct fixture *f, const struct engine_chat *chat, struct outcome *o, struct base_buf *text,
                     struct base_buf *call)
{
    const struct engine_extras extras = {NULL, call};
    struct engine_job *job = NULL;

    memset(o, 0, sizeof *o);
    base_buf_init(text, 4096);
    base_buf_init(call, 4096);
    assert_int_equal(engine_submit(f->engine, chat, o, &job), DBE_OK);
    f->owned++;
    while (!o->ended) {
        while (engine_news(f->engine) == NULL)
            wait_news(f);
        o->ended = engine_take(job, text, &extras, &o->result);
    }
}

static struct llm_grammar *grammar_of(const char *schema)
{
    struct llm_grammar *grammar = NULL;
    struct dbe_diag diag;

    assert_int_equal(llm_grammar_schema(schema, strlen(schema), &grammar, &diag), DBE_OK);
    return grammar;
}

/* A call keeps to its grammar and is no text: when it is asked for, and when the answer comes to it by itself (which
 * another grammar makes this one do). What there is to say before it is said, and the mark is not. */
static void test_calls(void **state)
{
    struct llm_grammar *call_grammar = grammar_of("{\"enum\":[\"a\"]}"),
                       *says_mark = grammar_of("{\"const\":\"so <tool_call> and more\"}");
    struct fixture f;

    (void)state;
    start(&f, 2, 2, 0, 1 << 22);
    for (int how = 0; how < 3; how++) { /* at once; by the mark, whole and streamed */
        struct outcome o;
        struct base_buf text, call;
        struct engine_chat chat = chat_of(&f, 90, 3, how == 2);
        chat.params.ignore_eos = false;
        chat.params.grammar = how == 0 ? NULL : says_mark;
        chat.call_mark = "<tool_call>";
        chat.call_grammar = call_grammar;
        chat.call_at_once = how == 0;
        run_call(&f, &chat, &o, &text, &call);
        assert_int_equal(o.result.err, DBE_OK);
        assert_string_equal(base_buf_cstr(&text), how == 0 ? "" : "\"so ");
        assert_string_equal(base_buf_cstr(&call), "\"a\"");
        assert_int_equal(o.result.finish, LLM_FINISH_STOP);
        assert_true(o.result.answer_tokens >= (how == 0 ? 3U : 12U) && o.result.prompt_tokens > 0);
        base_buf_free(&text);
        base_buf_free(&call);
    }
    stop(&f);
    llm_grammar_free(call_grammar);
    llm_grammar_free(says_mark);
}

/* However little room there is: no more tokens than asked for, and a call that is whole, or an end that says why. */
static void test_call_without_room(void **state)
{
    struct llm_grammar *says_mark = grammar_of("{\"const\":\"<tool_call>\"}"),
                       *call_grammar = grammar_of("{\"const\":[1,2,3,4]}");
    struct fixture f;
    uint32_t whole = 0, cut = 0;

    (void)state;
    start(&f, 2, 2, 0, 1 << 22);
    for (uint32_t room = 1; room <= 40; room++) {
        struct outcome o;
        struct base_buf text, call;
        struct engine_chat chat = chat_of(&f, room, 3, false);
        chat.params.ignore_eos = false;
        chat.params.grammar = says_mark;
        chat.call_mark = "<tool_call>";
        chat.call_grammar = call_grammar;
        run_call(&f, &chat, &o, &text, &call);
        assert_int_equal(o.result.err, DBE_OK);
        assert_true(o.result.answer_tokens <= room);
        if (o.result.finish == LLM_FINISH_STOP)
            assert_string_equal(base_buf_cstr(&call), "[1,2,3,4]");
        whole += o.result.finish == LLM_FINISH_STOP;
        cut += o.result.finish == LLM_FINISH_LENGTH;
        base_buf_free(&text);
        base_buf_free(&call);
    }
    assert_true(whole > 0 && cut > 0 && whole + cut == 40);
    stop(&f);
    llm_grammar_free(call_grammar);
    llm_grammar_free(says_mark);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mark_across_pieces),
        cmocka_unit_test(test_probs_go_with_the_text),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_call_without_room),
        cmocka_unit_test(test_one_chat),
        cmocka_unit_test(test_many_chats),
        cmocka_unit_test(test_queue_is_bounded),
        cmocka_unit_test(test_session_pauses_when_nobody_fetches),
        cmocka_unit_test(test_too_long_for_the_context),
        cmocka_unit_test(test_memory_budget),
        cmocka_unit_test(test_cancel_in_every_state),
        cmocka_unit_test(test_stop_with_work_left),
        cmocka_unit_test(test_long_prompt_beside_an_answer),
        cmocka_unit_test(test_shared_prompts),
        cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
