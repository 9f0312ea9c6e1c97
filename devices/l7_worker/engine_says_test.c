/* SPDX-License-Identifier: Apache-2.0
 *
 * engine_says_test.c - what the engine tells beside plain text: marks, calls of tools, probabilities, vectors.
 */
#include "devices/l7_worker/test_engine.h"

#include "devices/l7_worker/says.h"
#include "llm/grammar.h"

struct says { /* pieces in, and what may be told after each */
    const char *piece, *text;
    bool done, call;
};

static void say_all(const struct llm_model *model, const struct engine_call *how, const struct says *rows, size_t count)
{
    struct engine_says s;
    bool call;

    engine_says_init(&s, how, false, false);
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

    static const struct engine_call marked = {.mark = "<tool_call>"};

    (void)state;
    say_all(NULL, &marked, found, BASE_ARRAY_LEN(found));
    say_all(NULL, &marked, not_found, BASE_ARRAY_LEN(not_found));
    say_all(NULL, &marked, at_once, BASE_ARRAY_LEN(at_once));
}

/* Calls without a mark begin an answer and name a function; marks that count at the beginning alone. */
static void test_calls_that_begin_an_answer(void **state)
{
    static const char *const names[] = {"f", "get_weather"};
    static const struct engine_call named = {.mark = "", .names = names, .name_count = 2},
                                    first = {.mark = "<tool_call>", .first = true};
    static const struct says found[] = {
        {" {", "", false, false}, {"\"name\" : \"get_", "", false, false}, {"weather\"", "", false, true}};
    static const struct says typed[] = {{"{\"type\": \"function\", \"name\": \"f\",", "", false, true}};
    static const struct says another[] = {{"{\"name\": \"Al", "{\"name\": \"Al", false, false},
                                          {"{\"name\": \"f\"", "{\"name\": \"f\"", false, false}};
    static const struct says short_one[] = {{"{\"na", "", false, false}, {"", "{\"na", true, false}};
    static const struct says later[] = {{"\n", "", false, false}, {"{<tool_call>", "\n{<tool_call>", false, false}};
    static const struct says at_first[] = {{"\n<tool_", "", false, false}, {"call>", "", false, true}};

    (void)state;
    say_all(NULL, &named, found, BASE_ARRAY_LEN(found));
    say_all(NULL, &named, typed, BASE_ARRAY_LEN(typed));
    say_all(NULL, &named, another, BASE_ARRAY_LEN(another));
    say_all(NULL, &named, short_one, BASE_ARRAY_LEN(short_one));
    say_all(NULL, &first, later, BASE_ARRAY_LEN(later));
    say_all(NULL, &first, at_first, BASE_ARRAY_LEN(at_first));
}

/* spec 19.8: with echo each token of prompt and answer is told, whether the text has something of it or not; a whole
 * answer's and a stream's are the same. The answer to a prompt alone is the prompt. */
static void test_probs_of_an_echo(void **state)
{
    static const struct llm_message text = {"user", "hello world", 11};
    struct fixture f;

    (void)state;
    start(&f, 2, 2, 0, 1 << 22);
    for (int how = 0; how < 4; how++) {
        const bool stream = how % 2 == 1, alone = how >= 2;
        struct outcome o = {0};
        struct engine_chat chat = chat_of(&f, alone ? 0 : 9, 3, stream);
        struct engine_job *job = NULL;
        struct base_buf said, probs;
        const struct engine_extras extras = {&probs, NULL};
        struct llm_token_prob prob;
        size_t bytes = 0, len;
        base_buf_init(&said, 4096);
        base_buf_init(&probs, 1 << 20);
        chat.messages = &text;
        chat.raw = chat.echo = true;
        chat.params.logprobs = 3;
        chat.params.prompt_only = alone;
        chat.params.prefill_chunk = 2;
        assert_int_equal(engine_submit(f.engine, &chat, &o, &job), DBE_OK);
        f.owned++;
        while (!o.ended) {
            while (engine_news(f.engine) == NULL)
                wait_news(&f);
            o.ended = engine_take(job, &said, &extras, &o.result);
        }
        assert_int_equal(o.result.err, DBE_OK);
        assert_int_equal(o.result.finish, LLM_FINISH_LENGTH);
        assert_int_equal(o.result.answer_tokens, alone ? 0 : 9);
        assert_int_equal(probs.len, (o.result.prompt_tokens + o.result.answer_tokens) * sizeof prob);
        assert_true(said.len >= text.text_len && memcmp(said.data, text.text, text.text_len) == 0);
        for (uint32_t i = 0; i < o.result.prompt_tokens; i++) {
            memcpy(&prob, probs.data + i * sizeof prob, sizeof prob);
            assert_true(i == 0 ? isnan(prob.logprob) : prob.logprob <= 0 && prob.top_count == 2);
            (void)llm_token_bytes(f.model, prob.id, &len);
            bytes += len - prob.lead;
        }
        assert_int_equal(bytes, text.text_len);
        base_buf_free(&said);
        base_buf_free(&probs);
    }
    stop(&f);
}

/* A stream of probabilities that nobody fetches pauses before there are more than a message may have, and says so: also
 * where its tokens have no text. */
static void run_probs_pause(int32_t token)
{
    enum { PROMPT = 4000, CHUNK = 64, OTHER = 2 * PROMPT / CHUNK };
    static int32_t ids[PROMPT];
    const struct llm_tokens tokens = {.ids = ids, .count = PROMPT};
    struct fixture f;
    struct outcome told = {0}, other;
    struct engine_job *job;
    struct base_buf text, probs;
    const struct engine_extras extras = {&probs, NULL};
    size_t most = 0, all = 0;

    start_ctx(&f, 2, 2, 1 << 20, 1 << 26, PROMPT);
    for (size_t i = 0; i < PROMPT; i++)
        ids[i] = token;
    struct engine_chat chat = chat_of(&f, 0, 1, true);
    chat.tokens = &tokens;
    chat.raw = chat.echo = chat.params.prompt_only = true;
    chat.params.logprobs = 1;
    chat.params.prefill_chunk = CHUNK;
    base_buf_init(&text, 1 << 20);
    base_buf_init(&probs, 1 << 22);
    assert_int_equal(engine_submit(f.engine, &chat, &told, &job), DBE_OK);
    f.owned++;
    (void)submit(&f, OTHER, 1, false, &other); /* takes part in more passes than the prompt needs */
    while (!other.ended) {
        struct engine_job *news = engine_news(f.engine);
        if (news != NULL && engine_job_user(news) == &other)
            fetch(news);
        else if (news == NULL)
            wait_news(&f);
    }
    while (!told.ended) {
        told.ended = engine_take(job, &text, &extras, &told.result);
        most = BASE_MAX(most, probs.len);
        all += probs.len;
        base_buf_clear(&probs);
        while (!told.ended && engine_news(f.engine) == NULL)
            wait_news(&f);
    }
    assert_true(most >= ENGINE_PROBS_PAUSE_BYTES);
    assert_true(most <= ENGINE_PROBS_PAUSE_BYTES + (CHUNK + 1) * sizeof(struct llm_token_prob));
    assert_int_equal(all, PROMPT * sizeof(struct llm_token_prob));
    base_buf_free(&text);
    base_buf_free(&probs);
    stop(&f);
}

static void test_probs_pause(void **state)
{
    (void)state;
    run_probs_pause(tg_id("a"));
    run_probs_pause(1); /* <s> */
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
        chat.call =
            (struct engine_call){.mark = "<tool_call>", .lead = "\n", .grammar = call_grammar, .at_once = how == 0};
        run_call(&f, &chat, &o, &text, &call);
        assert_int_equal(o.result.err, DBE_OK);
        assert_string_equal(base_buf_cstr(&text), how == 0 ? "" : "\"so ");
        assert_string_equal(base_buf_cstr(&call), "<tool_call>\n\"a\"");
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
        chat.call = (struct engine_call){.mark = "<tool_call>", .lead = "\n", .grammar = call_grammar};
        run_call(&f, &chat, &o, &text, &call);
        assert_int_equal(o.result.err, DBE_OK);
        assert_true(o.result.answer_tokens <= room);
        if (o.result.finish == LLM_FINISH_STOP)
            assert_string_equal(base_buf_cstr(&call), "<tool_call>\n[1,2,3,4]");
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

/* A schema with ever more ways to read one text ends its own answer, with a reason, and no other. */
static void test_too_many_ways(void **state)
{
    struct llm_grammar *ambiguous = grammar_of("{\"pattern\":\"^(?:(?:[^b]{1,90}){1,90}){90,99}$\"}");
    struct fixture f;
    struct outcome bad, good;
    struct engine_job *job = NULL;

    (void)state;
    start(&f, 2, 2, 0, 1 << 22);
    struct engine_chat chat = chat_of(&f, 400, 3, false);
    chat.params.grammar = ambiguous;
    memset(&bad, 0, sizeof bad);
    assert_int_equal(engine_submit(f.engine, &chat, &bad, &job), DBE_OK);
    f.owned++;
    (void)submit(&f, 30, 1, false, &good);
    run_until_ended(&f, &bad);
    run_until_ended(&f, &good);
    assert_int_equal(bad.result.err, DBE_E_RANGE);
    assert_non_null(strstr(bad.result.reason, "too many ways"));
    assert_int_equal(good.result.err, DBE_OK);
    assert_int_equal(good.result.answer_tokens, 30);
    stop(&f);
    llm_grammar_free(ambiguous);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mark_across_pieces),
        cmocka_unit_test(test_calls_that_begin_an_answer),
        cmocka_unit_test(test_probs_go_with_the_text),
        cmocka_unit_test(test_probs_of_an_echo),
        cmocka_unit_test(test_probs_pause),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_call_without_room),
        cmocka_unit_test(test_too_many_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
