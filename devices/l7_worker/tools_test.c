/* SPDX-License-Identifier: Apache-2.0
 *
 * tools_test.c - tools and forms of answers: what the model reads of them, and what it may say then.
 */
#include "devices/l7_worker/test_request.h"

#include "llm/grammar.h"

struct tool_request {
    struct request q;
    Dsmil__Tool tools[2], *list[2];
    Dsmil__ChatMessage turns[4], *turn_list[4];
    Dsmil__ToolCall call, *calls[1];
};

/* Two functions; a question, a call, two results of it. */
static void tools_init(struct tool_request *t)
{
    static const char *const roles[] = {"user", "assistant", "tool", "tool"}, *const says[] = {"ask", "", "one", "two"};

    request_init(&t->q);
    for (size_t i = 0; i < 2; i++) {
        dsmil__tool__init(&t->tools[i]);
        t->list[i] = &t->tools[i];
    }
    t->tools[0].name = TEXT("get_weather");
    t->tools[0].description = TEXT("weather of a city");
    t->tools[0].parameters =
        TEXT("{\"$defs\":{\"u\":{\"enum\":[\"C\",\"F\"]}},\"type\":\"object\",\"properties\":{\"unit\":"
             "{\"$ref\":\"#/$defs/u\"}},\"required\":[\"unit\"],\"additionalProperties\":false}");
    t->tools[1].name = TEXT("stop");
    for (size_t i = 0; i < 4; i++) {
        dsmil__chat_message__init(&t->turns[i]);
        t->turns[i].role = TEXT(roles[i]);
        t->turns[i].content = TEXT(says[i]);
        t->turn_list[i] = &t->turns[i];
    }
    dsmil__tool_call__init(&t->call);
    t->call.id = TEXT("call_1");
    t->call.name = TEXT("get_weather");
    t->call.arguments = TEXT("{\"unit\":\"C\"}");
    t->calls[0] = &t->call;
    t->turns[1].tool_calls = t->calls;
    t->turns[1].n_tool_calls = 1;
    t->q.r.tools = t->list;
    t->q.r.n_tools = 2;
    t->q.r.messages = t->turn_list;
    t->q.r.n_messages = 4;
}

static bool accepts(const struct llm_grammar *g, const char *text)
{
    struct llm_grammar_state *s = NULL;

    assert_int_equal(llm_grammar_state_new(g, &s), DBE_OK);
    bool ok = llm_grammar_accept(s, text, strlen(text)) && llm_grammar_can_end(s);
    llm_grammar_state_free(s);
    return ok;
}

/* The model reads of the functions first, then the turns: the call between marks, both results in one message. */
static void test_tools_as_text(void **state)
{
    struct tool_request t;
    struct engine_chat chat = {0};
    const char *reason;

    (void)state;
    tools_init(&t);
    assert_int_equal(read_it(&t.q, &chat, &reason), DBE_OK);
    assert_int_equal(chat.count, 4);
    assert_string_equal(chat.messages[0].role, "system");
    assert_non_null(strstr(chat.messages[0].text, "\"name\": \"get_weather\", \"description\": \"weather of a city\""));
    assert_string_equal(chat.messages[1].text, "ask");
    assert_string_equal(chat.messages[2].text,
                        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"unit\": \"C\"}}"
                        "\n</tool_call>");
    assert_string_equal(chat.messages[3].role, "user");
    assert_string_equal(chat.messages[3].text,
                        "<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>");
    assert_string_equal(chat.call.mark, "<tool_call>");
    assert_false(chat.call.at_once);
    assert_null(chat.params.grammar);
    chat.free_owned(chat.owned);

    t.q.r.tool_choice = TEXT("none");
    assert_int_equal(read_it(&t.q, &chat, &reason), DBE_OK);
    assert_int_equal(chat.count, 3); /* nobody tells the model of functions that it may not call */
    assert_null(chat.call.mark);
    chat.free_owned(chat.owned);
}

/* spec 19.3: a call keeps to the schema of the function it names; a named function is the only one. */
static void test_calls_are_constrained(void **state)
{
    struct tool_request t;
    struct engine_chat chat = {0};
    const char *reason;

    (void)state;
    tools_init(&t);
    t.q.r.tool_choice = TEXT("required");
    assert_int_equal(read_it(&t.q, &chat, &reason), DBE_OK);
    assert_true(chat.call.at_once);
    assert_true(accepts(chat.call.grammar, "{\"name\":\"get_weather\",\"arguments\":{\"unit\":\"F\"}}\n</tool_call>"));
    assert_true(accepts(chat.call.grammar, "{\"name\":\"stop\",\"arguments\":{}}\n</tool_call>"));
    assert_false(accepts(chat.call.grammar, "{\"name\":\"get_weather\",\"arguments\":{\"unit\":\"K\"}}\n</tool_call>"));
    assert_false(accepts(chat.call.grammar, "{\"name\":\"get_weather\",\"arguments\":{}}\n</tool_call>"));
    assert_false(accepts(chat.call.grammar, "{\"name\":\"other\",\"arguments\":{}}\n</tool_call>"));
    chat.free_owned(chat.owned);

    t.q.r.tool_choice = TEXT("function");
    t.q.r.tool_name = TEXT("get_weather");
    assert_int_equal(read_it(&t.q, &chat, &reason), DBE_OK);
    assert_true(accepts(chat.call.grammar, "{\"name\":\"get_weather\",\"arguments\":{\"unit\":\"C\"}}\n</tool_call>"));
    assert_false(accepts(chat.call.grammar, "{\"name\":\"stop\",\"arguments\":{}}\n</tool_call>"));
    chat.free_owned(chat.owned);
}

/* spec 19.3 */
static void test_bad_tools_and_forms(void **state)
{
    static const struct {
        const char *name, *parameters, *choice, *format, *schema, *says;
    } rows[] = {
        {"a b", "", "", "", "", "tools: a name"},
        {"", "", "", "", "", "tools: a name"},
        {"stop", "[1]", "", "", "", "tools: the parameters of stop"},
        {"stop", "{", "", "", "", "tools: the parameters of stop"},
        {"stop", "{\"minProperties\":1}", "", "", "", "minProperties"},
        {"stop", "{\"$ref\":\"#/$defs/no\"}", "", "", "", "tools: #"},
        {"stop", "", "often", "", "", "tool_choice"},
        {"stop", "", "function", "", "", "tool_choice"},
        {"stop", "", "", "json_schema", "{\"uniqueItems\":true}", "response_format: #/uniqueItems"},
        {"stop", "", "none", "yaml", "", "response_format"},
        {"stop", "", "none", "json_schema", "{\"uniqueItems\":true}", "response_format: #/uniqueItems"},
        {"stop", "", "none", "json_schema", "", "response_format"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct tool_request t;
        struct engine_chat chat = {0};
        const char *reason = NULL;
        tools_init(&t);
        t.tools[1].name = TEXT(rows[i].name);
        t.tools[1].parameters = TEXT(rows[i].parameters);
        t.q.r.tool_choice = TEXT(rows[i].choice);
        t.q.r.tool_name = TEXT("unheard_of");
        t.q.r.format = TEXT(rows[i].format);
        t.q.r.schema = TEXT(rows[i].schema);
        assert_int_equal(read_it(&t.q, &chat, &reason), DBE_E_RANGE);
        if (reason == NULL || strstr(reason, rows[i].says) == NULL)
            fail_msg("row %zu: %s", i, reason != NULL ? reason : "no reason");
    }
}

static void test_forms(void **state)
{
    struct request q;
    struct engine_chat chat = {0};
    const char *reason;

    (void)state;
    request_init(&q);
    q.r.format = TEXT("json_object");
    assert_int_equal(read_it(&q, &chat, &reason), DBE_OK);
    assert_true(accepts(chat.params.grammar, "{\"a\":[1]}"));
    assert_false(accepts(chat.params.grammar, "[1]"));
    chat.free_owned(chat.owned);
    q.r.format = TEXT("json_schema");
    q.r.schema = TEXT("{\"type\":\"integer\"}");
    assert_int_equal(read_it(&q, &chat, &reason), DBE_OK);
    assert_true(accepts(chat.params.grammar, "12"));
    assert_false(accepts(chat.params.grammar, "{}"));
    chat.free_owned(chat.owned);
}

/* ---- families --------------------------------------------------------------------------------------------------- */

static void read_as(enum llm_tools form, struct tool_request *t, struct engine_chat *ret)
{
    const char *reason = "none";

    defaults.tools.form = form;
    if (read_it(&t->q, ret, &reason) != DBE_OK)
        fail_msg("refused: %s", reason);
    defaults.tools = (struct worker_tool_style){0};
}

static void expect_message(const struct engine_chat *chat, size_t i, const char *role, const char *text)
{
    assert_true(i < chat->count);
    assert_string_equal(chat->messages[i].role, role);
    assert_string_equal(chat->messages[i].text, text);
}

/* Where the template has a system message of its own, the functions stand behind it. */
static void test_system_of_the_template(void **state)
{
    struct tool_request t;
    struct engine_chat chat = {0};

    (void)state;
    tools_init(&t);
    defaults.tools = (struct worker_tool_style){LLM_TOOLS_TEXT, "You are Q.xx", 10};
    const char *reason;
    assert_int_equal(read_it(&t.q, &chat, &reason), DBE_OK);
    defaults.tools = (struct worker_tool_style){0};
    assert_memory_equal(chat.messages[0].text, "You are Q.\n\n# Tools\n\n", 21);
    chat.free_owned(chat.owned);
}

static void test_llama3(void **state)
{
    struct tool_request t;
    struct engine_chat chat = {0};

    (void)state;
    tools_init(&t);
    read_as(LLM_TOOLS_LLAMA3, &t, &chat);
    assert_int_equal(chat.count, 5);
    expect_message(&chat, 0, "tools", "");
    assert_string_equal(chat.messages[1].role, "user");
    assert_non_null(strstr(chat.messages[1].text, "\n\n{\n    \"type\": \"function\",\n    \"function\": {\n        "
                                                  "\"name\": \"stop\",\n        \"parameters\": {"));
    assert_string_equal(chat.messages[1].text + chat.messages[1].text_len - 6, "}\n\nask");
    expect_message(&chat, 2, "assistant", "{\"name\": \"get_weather\", \"parameters\": {\"unit\": \"C\"}}");
    expect_message(&chat, 3, "tool", "\"one\"");
    assert_string_equal(chat.call.mark, "");
    assert_int_equal(chat.call.name_count, 2);
    assert_string_equal(chat.call.names[1], "stop");
    assert_true(accepts(chat.call.grammar, "{\"name\": \"stop\", \"parameters\": {}}"));
    assert_false(accepts(chat.call.grammar, "{\"name\": \"stop\", \"arguments\": {}}"));
    chat.free_owned(chat.owned);
    /* JSON that is the answer and JSON that is a call would be the same to us */
    t.q.r.format = TEXT("json_object");
    read_as(LLM_TOOLS_LLAMA3, &t, &chat);
    assert_string_equal(chat.call.mark, "<tool_call>");
    chat.free_owned(chat.owned);
    t.q.r.tool_choice = TEXT("required");
    read_as(LLM_TOOLS_LLAMA3, &t, &chat);
    assert_string_equal(chat.call.mark, "");
    chat.free_owned(chat.owned);
}

static void test_mistral(void **state)
{
    struct tool_request t;
    struct engine_chat chat = {0};

    (void)state;
    tools_init(&t);
    t.turns[2].content = TEXT("{\"a\":1}");
    t.turns[2].tool_call_id = TEXT("abcDEF123");
    t.turns[3].tool_call_id = TEXT("call_1");
    read_as(LLM_TOOLS_MISTRAL_SPACED, &t, &chat);
    assert_int_equal(chat.count, 5);
    assert_string_equal(chat.messages[0].role, "tools");
    assert_memory_equal(chat.messages[0].text, "[{\"type\": \"function\", \"function\": {\"name\": \"get_weather\"",
                        56);
    expect_message(&chat, 1, "user", "ask");
    assert_string_equal(chat.messages[2].role, "calls");
    const char *call = "[{\"name\": \"get_weather\", \"arguments\": {\"unit\": \"C\"}, \"id\": \"";
    assert_memory_equal(chat.messages[2].text, call, strlen(call));
    expect_message(&chat, 3, "tool", "{\"content\": {\"a\": 1}, \"call_id\": \"abcDEF123\"}");
    /* the same id where it was called and where it was answered, in nine characters */
    const char *id = chat.messages[2].text + strlen(call), *back = strstr(chat.messages[4].text, "\"call_id\": \"");
    assert_non_null(back);
    assert_memory_equal(back + 12, id, 11);
    assert_string_equal(id + 9, "\"}]");
    assert_memory_equal(chat.messages[4].text, "{\"content\": \"two\", ", 19);
    assert_string_equal(chat.call.mark, "[TOOL_CALLS]");
    assert_true(accepts(chat.call.grammar, " [{\"name\": \"stop\", \"arguments\": {}}, "
                                           "{\"name\": \"stop\", \"arguments\": {}}]"));
    assert_false(accepts(chat.call.grammar, " []"));
    chat.free_owned(chat.owned);
    t.q.r.single_call = 1;
    read_as(LLM_TOOLS_MISTRAL, &t, &chat);
    assert_true(accepts(chat.call.grammar, "[{\"name\": \"stop\", \"arguments\": {}}]"));
    assert_false(accepts(chat.call.grammar, "[{\"name\": \"stop\", \"arguments\": {}}, "
                                            "{\"name\": \"stop\", \"arguments\": {}}]"));
    chat.free_owned(chat.owned);
}

/* spec 19.3: several calls of an answer, or one where the request says so. */
static void test_how_many_calls(void **state)
{
#define CALL "{\"name\": \"stop\", \"arguments\": {}}\n</tool_call>"
    struct tool_request t;
    struct engine_chat chat = {0};

    (void)state;
    for (int how = 0; how < 3; how++) {
        tools_init(&t);
        t.q.r.single_call = how == 1;
        t.q.r.receipt = how == 2;
        read_as(LLM_TOOLS_TEXT, &t, &chat);
        assert_true(accepts(chat.call.grammar, CALL));
        assert_int_equal(accepts(chat.call.grammar, CALL "\n<tool_call>\n" CALL "\n<tool_call>\n" CALL), how == 0);
        assert_false(accepts(chat.call.grammar, CALL CALL));
        chat.free_owned(chat.owned);
    }
}

/* spec 19.3: with a form the answer is JSON of that form, or begins a call, and nothing else. */
static void test_a_form_beside_tools(void **state)
{
    struct tool_request t;
    struct engine_chat chat = {0};

    (void)state;
    tools_init(&t);
    t.q.r.format = TEXT("json_schema");
    t.q.r.schema = TEXT("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]}");
    read_as(LLM_TOOLS_TEXT, &t, &chat);
    assert_true(accepts(chat.params.grammar, "{\"a\":1}"));
    assert_true(accepts(chat.params.grammar, "<tool_call>"));
    assert_false(accepts(chat.params.grammar, "{\"b\":1}"));
    assert_false(accepts(chat.params.grammar, "so"));
    assert_true(chat.call.first);
    chat.free_owned(chat.owned);
    t.q.r.tool_choice = TEXT("none");
    read_as(LLM_TOOLS_TEXT, &t, &chat);
    assert_false(accepts(chat.params.grammar, "<tool_call>"));
    chat.free_owned(chat.owned);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tools_as_text),
        cmocka_unit_test(test_calls_are_constrained),
        cmocka_unit_test(test_bad_tools_and_forms),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_system_of_the_template),
        cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_mistral),
        cmocka_unit_test(test_how_many_calls),
        cmocka_unit_test(test_a_form_beside_tools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
