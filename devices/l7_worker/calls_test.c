/* SPDX-License-Identifier: Apache-2.0
 *
 * calls_test.c - which calls of tools stand in an answer, and what is text of it instead.
 */
#include "devices/l7_worker/test_request.h"

#include "devices/l7_worker/answer.h"

/* spec 19.4: what is a whole call is told as such, and what is none is text. */
static void test_calls_of_an_answer(void **state)
{
#define F "{\"name\": \"f\", \"arguments\": {\"a\": 1}}"
#define G "{\"name\": \"g\", \"parameters\": {}}"
    static const struct {
        const char *said, *text, *names;
        enum llm_finish finish, told;
    } rows[] = {
        {"<tool_call>\n" F "\n</tool_call>", "", "f", LLM_FINISH_STOP, LLM_FINISH_STOP},
        {"<tool_call>\n" F "\n</tool_call>\n<tool_call>\n" G "\n</tool_call>", "", "fg", LLM_FINISH_STOP,
         LLM_FINISH_STOP},
        {"<tool_call>\n" F "\n</tool_", "", "f", LLM_FINISH_LENGTH, LLM_FINISH_STOP},
        {"<tool_call>\n{\"name\": \"f\", \"arg", "<tool_call>\n{\"name\": \"f\", \"arg", "", LLM_FINISH_LENGTH,
         LLM_FINISH_LENGTH},
        {"<tool_call>\n" F "\n</tool_call>\n<too", "", "f", LLM_FINISH_LENGTH, LLM_FINISH_LENGTH},
        {"<too", "<too", "", LLM_FINISH_LENGTH, LLM_FINISH_LENGTH},
        {"<tool_call>\n" F "\n</tool_call>\n<tool_call>\n{\"na", "{\"na", "f", LLM_FINISH_LENGTH, LLM_FINISH_LENGTH},
        {G, "", "g", LLM_FINISH_STOP, LLM_FINISH_STOP},
        {"[TOOL_CALLS] [" F ", " G "]", "", "fg", LLM_FINISH_STOP, LLM_FINISH_STOP},
        {"[TOOL_CALLS] [" F ", {\"name\": 1}]", "[TOOL_CALLS] [" F ", {\"name\": 1}]", "", LLM_FINISH_STOP,
         LLM_FINISH_STOP},
        {"<tool_call>\n{\"name\": \"f\"}", "<tool_call>\n{\"name\": \"f\"}", "", LLM_FINISH_STOP, LLM_FINISH_STOP},
        {"", "", "", LLM_FINISH_LENGTH, LLM_FINISH_LENGTH},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct base_buf text, call;
        struct engine_result result = {.finish = rows[i].finish};
        struct worker_calls calls = {0};
        char names[WORKER_CALLS_MAX + 1] = "";
        size_t behind = 99;
        base_buf_init(&text, 4096);
        base_buf_init(&call, 4096);
        base_buf_str(&call, rows[i].said);
        assert_int_equal(worker_calls_settle(&text, &call, 0, &result, &behind), DBE_OK);
        assert_int_equal(behind, rows[i].names[0] != '\0' ? strlen(rows[i].text) : 0);
        assert_int_equal(worker_calls_read(base_buf_cstr(&call), call.len, &calls), DBE_OK);
        for (size_t c = 0; c < calls.count; c++)
            names[c] = calls.list[c].name[0];
        assert_string_equal(names, rows[i].names);
        assert_string_equal(base_buf_cstr(&text), rows[i].text);
        assert_int_equal(result.finish, rows[i].told);
        worker_calls_free(&calls);
        base_buf_free(&text);
        base_buf_free(&call);
    }
}

/* Of a growing answer each call is told once, when it is whole, however the pieces were cut. */
static void test_calls_one_by_one(void **state)
{
    static const char said[] = "<tool_call>\n" F "\n</tool_call>\n<tool_call>\n" G "\n</tool_call>";
    struct base_buf text, call, out;
    struct worker_choice choice = {.text = &text, .call = &call};
    struct worker_answer a = {.choices = &choice, .count = 1, .model = "m", .fingerprint = ""};
    struct engine_result result = {.finish = LLM_FINISH_STOP};
    size_t called = 0;
    char names[4] = "";

    (void)state;
    base_buf_init(&text, 4096);
    base_buf_init(&call, 4096);
    base_buf_init(&out, 4096);
    choice.called = &called;
    for (size_t i = 0; i + 1 < sizeof said; i++) {
        base_buf_u8(&call, (uint8_t)said[i]);
        base_buf_clear(&out);
        if (i + 2 == sizeof said) {
            choice.result = &result;
            assert_int_equal(worker_calls_settle(&text, &call, called, &result, &choice.behind), DBE_OK);
            assert_int_equal(choice.behind, 0);
        }
        assert_int_equal(worker_answer_pack(&a, &out), DBE_OK);
        Dsmil__L7ChatResponse *r = dsmil__l7_chat_response__unpack(NULL, out.len, out.data);
        assert_non_null(r);
        const Dsmil__ChatMessage *m = r->choices[0]->message;
        if (m->n_tool_calls > 1 || m->content[0] != '\0')
            fail_msg("after %zu bytes: %zu calls, \"%s\"", i + 1, m->n_tool_calls, m->content);
        if (m->n_tool_calls == 1 && strlen(names) < 2)
            (void)strncat(names, m->tool_calls[0]->name, 1);
        assert_string_equal(r->choices[0]->finish_reason, choice.result != NULL ? "tool_calls" : "");
        dsmil__l7_chat_response__free_unpacked(r, NULL);
    }
    assert_string_equal(names, "fg");
    base_buf_free(&text);
    base_buf_free(&call);
    base_buf_free(&out);
}

/* spec 19.4: where calls were told before the end, what follows them is behind them all the same; words that nobody has
 * sent yet stand before. */
static void test_cut_behind_calls_that_were_told(void **state)
{
    static const char first[] = "<tool_call>\n" F "\n</tool_call>\n", rest[] = "<tool_call>\n{\"na";

    (void)state;
    for (size_t told = 0; told < 2; told++) {
        struct engine_result result = {.finish = LLM_FINISH_LENGTH};
        struct base_buf text, call, out;
        size_t called = told == 1 ? sizeof first - 1 : 0;
        struct worker_choice choice = {.text = &text, .call = &call, .called = &called, .result = &result};
        struct worker_answer a = {.choices = &choice, .count = 1, .model = "m", .fingerprint = ""};
        base_buf_init(&text, 64);
        base_buf_init(&call, 256);
        base_buf_init(&out, 512);
        base_buf_bytes(&text, "A\0B", 3);
        base_buf_str(&call, first);
        base_buf_str(&call, rest);
        assert_int_equal(worker_calls_settle(&text, &call, called, &result, &choice.behind), DBE_OK);
        assert_int_equal(worker_answer_pack(&a, &out), DBE_OK);
        Dsmil__L7ChatResponse *r = dsmil__l7_chat_response__unpack(NULL, out.len, out.data);
        assert_non_null(r);
        assert_string_equal(r->choices[0]->message->content, "AB{\"na");
        assert_int_equal(r->choices[0]->behind_calls, 4);
        assert_int_equal(r->choices[0]->message->n_tool_calls, 1 - told);
        assert_string_equal(r->choices[0]->finish_reason, "length");
        dsmil__l7_chat_response__free_unpacked(r, NULL);
        base_buf_free(&text);
        base_buf_free(&call);
        base_buf_free(&out);
    }
}

/* However many a model says: no more than fit are calls, and each has an id of its own. */
static void test_many_calls(void **state)
{
    struct base_buf said;
    struct worker_calls calls = {0};

    (void)state;
    base_buf_init(&said, 1 << 16);
    for (size_t i = 0; i <= WORKER_CALLS_MAX; i++)
        base_buf_str(&said, F "\n");
    assert_int_equal(worker_calls_read(base_buf_cstr(&said), said.len, &calls), DBE_OK);
    assert_int_equal(calls.count, WORKER_CALLS_MAX);
    assert_int_equal(said.len - calls.end, strlen(F) + 1);
    assert_string_not_equal(calls.list[0].id, calls.list[1].id);
    worker_calls_free(&calls);
    base_buf_free(&said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_of_an_answer),
        cmocka_unit_test(test_calls_one_by_one),
        cmocka_unit_test(test_cut_behind_calls_that_were_told),
        cmocka_unit_test(test_many_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
