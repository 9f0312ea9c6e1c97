/* SPDX-License-Identifier: Apache-2.0
 *
 * request_test.c - what the worker accepts as a request, and what its answers say.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/crypto.h"
#include "devices/l7_worker/answer.h"
#include "dsmil.pb-c.h"
#include "llm/grammar.h"

static const struct worker_defaults defaults = {0.5f, 0.75f};

/* A request in the form protobuf-c wants it. */
struct request {
    Dsmil__L7ChatRequest r;
    Dsmil__ChatMessage message, *messages[600];
    char role[16], content[64], *stops[8];
};

static void request_init(struct request *q)
{
    dsmil__l7_chat_request__init(&q->r);
    dsmil__chat_message__init(&q->message);
    strcpy(q->role, "user");
    strcpy(q->content, "hello");
    q->message.role = q->role;
    q->message.content = q->content;
    for (size_t i = 0; i < BASE_ARRAY_LEN(q->messages); i++)
        q->messages[i] = &q->message;
    q->r.messages = q->messages;
    q->r.n_messages = 1;
    q->r.stop = q->stops;
}

static dbe_err read_whole(const struct request *q, struct worker_request *ret, const char **reason)
{
    size_t len = dsmil__l7_chat_request__get_packed_size(&q->r);
    uint8_t *packed = test_malloc(len);

    (void)dsmil__l7_chat_request__pack(&q->r, packed);
    dbe_err err = worker_request_read(packed, len, &defaults, ret, reason);
    test_free(packed);
    return err;
}

static dbe_err read_it(const struct request *q, struct engine_chat *chat, const char **reason)
{
    struct worker_request whole = {0};
    dbe_err err = read_whole(q, &whole, reason);

    if (err == DBE_OK)
        *chat = whole.chat;
    return err;
}

static void test_defaults(void **state)
{
    struct request q;
    struct engine_chat chat = {0};
    const char *reason;

    (void)state;
    request_init(&q);
    assert_int_equal(read_it(&q, &chat, &reason), DBE_OK);
    assert_int_equal(chat.count, 1);
    assert_string_equal(chat.messages[0].role, "user");
    assert_int_equal(chat.messages[0].text_len, 5);
    assert_memory_equal(chat.messages[0].text, "hello", 5);
    assert_true(chat.params.temperature == defaults.temperature && chat.params.top_p == defaults.top_p);
    assert_int_equal(chat.params.max_tokens, 0);
    assert_int_equal(chat.params.stop_count, 0);
    assert_false(chat.stream);
    chat.free_owned(chat.owned);
}

/* Zero is a value, not absence. */
static void test_what_is_said_counts(void **state)
{
    struct request q;
    struct engine_chat chat = {0};
    const char *reason;
    char stop[] = "\n\n";

    (void)state;
    request_init(&q);
    q.r.has_temperature_case = DSMIL__L7_CHAT_REQUEST__HAS_TEMPERATURE_TEMPERATURE;
    q.r.temperature = 0.0f;
    q.r.has_seed_case = DSMIL__L7_CHAT_REQUEST__HAS_SEED_SEED;
    q.r.seed = 0;
    q.r.has_max_tokens_case = DSMIL__L7_CHAT_REQUEST__HAS_MAX_TOKENS_MAX_TOKENS;
    q.r.max_tokens = 9;
    q.stops[0] = stop;
    q.r.n_stop = 1;
    q.r.stream = 1;
    assert_int_equal(read_it(&q, &chat, &reason), DBE_OK);
    assert_true(chat.params.temperature == 0.0f);
    assert_int_equal(chat.params.seed, 0);
    assert_int_equal(chat.params.max_tokens, 9);
    assert_int_equal(chat.params.stop_count, 1);
    assert_string_equal(chat.params.stops[0], "\n\n");
    assert_true(chat.stream);
    chat.free_owned(chat.owned);
}

enum bad {
    BAD_NO_MESSAGE,
    BAD_MANY_MESSAGES,
    BAD_ROLE,
    BAD_CONTENT,
    BAD_HOT,
    BAD_COLD,
    BAD_NAN,
    BAD_TOP_P,
    BAD_TOP_P_HIGH,
    BAD_MAX,
    BAD_STOPS,
    BAD_STOP_EMPTY,
    BAD_STOP_LONG,
    BAD_STOP_UTF8,
    BAD_COUNT
};

static void spoil(struct request *q, enum bad how, char *text)
{
    static const float temperatures[] = {[BAD_HOT] = 2.5f, [BAD_COLD] = -1.0f, [BAD_NAN] = NAN};

    q->stops[0] = q->stops[1] = q->stops[2] = q->stops[3] = q->stops[4] = text;
    switch (how) {
    case BAD_NO_MESSAGE: q->r.n_messages = 0; break;
    case BAD_MANY_MESSAGES: q->r.n_messages = WORKER_MESSAGES_MAX + 1; break;
    case BAD_ROLE: strcpy(q->role, "root"); break;
    case BAD_CONTENT: strcpy(q->content, "a\xFF"); break;
    case BAD_HOT:
    case BAD_COLD:
    case BAD_NAN:
        q->r.has_temperature_case = DSMIL__L7_CHAT_REQUEST__HAS_TEMPERATURE_TEMPERATURE;
        q->r.temperature = temperatures[how];
        break;
    case BAD_TOP_P:
    case BAD_TOP_P_HIGH:
        q->r.has_top_p_case = DSMIL__L7_CHAT_REQUEST__HAS_TOP_P_TOP_P;
        q->r.top_p = how == BAD_TOP_P ? 0.0f : 1.5f;
        break;
    case BAD_MAX: q->r.has_max_tokens_case = DSMIL__L7_CHAT_REQUEST__HAS_MAX_TOKENS_MAX_TOKENS; break;
    case BAD_STOPS:
        strcpy(text, "x");
        q->r.n_stop = 5;
        break;
    case BAD_STOP_EMPTY:
        text[0] = '\0';
        q->r.n_stop = 1;
        break;
    case BAD_STOP_LONG:
        memset(text, 'x', LLM_STOP_BYTES_MAX + 1);
        text[LLM_STOP_BYTES_MAX + 1] = '\0';
        q->r.n_stop = 1;
        break;
    case BAD_STOP_UTF8:
        strcpy(text, "\xC3");
        q->r.n_stop = 1;
        break;
    case BAD_COUNT: break;
    }
}

static void test_bad_requests(void **state)
{
    char text[LLM_STOP_BYTES_MAX + 2];

    (void)state;
    for (int how = 0; how < BAD_COUNT; how++) {
        struct request q;
        struct engine_chat chat = {0};
        const char *reason = NULL;
        request_init(&q);
        spoil(&q, (enum bad)how, text);
        dbe_err err = read_it(&q, &chat, &reason);
        if (err != DBE_E_RANGE && err != DBE_E_UTF8)
            fail_msg("case %d: %s", how, dbe_err_name(err));
        assert_non_null(reason);
        assert_null(chat.owned);
    }
}

static void test_bytes_that_are_no_request(void **state)
{
    static const uint8_t bytes[] = {0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F};
    struct worker_request chat = {0};
    const char *reason;

    (void)state;
    assert_int_equal(worker_request_read(bytes, sizeof bytes, &defaults, &chat, &reason), DBE_E_MALFORMED);
    assert_int_equal(worker_request_read(bytes, WORKER_REQUEST_MAX_BYTES + 1, &defaults, &chat, &reason),
                     DBE_E_TOO_LARGE);
    assert_int_equal(worker_request_read("", 0, &defaults, &chat, &reason), DBE_E_RANGE); /* no message in it */
}

static void test_allocation_and_randomness_fail(void **state)
{
    struct request q;
    struct engine_chat chat = {0};
    const char *reason;

    (void)state;
    request_init(&q);
    base_fail_alloc_at(1);
    assert_int_equal(read_it(&q, &chat, &reason), DBE_E_NOMEM);
    base_fail_alloc_at(0);
    base_fail_random_at(1);
    assert_int_equal(read_it(&q, &chat, &reason), DBE_E_RANDOM);
    base_fail_random_at(0);
    assert_null(chat.owned);
}

static Dsmil__L7ChatResponse *answer(const char *text, size_t len, const struct engine_result *result)
{
    struct base_buf words, out;
    struct worker_choice choice = {.text = &words, .result = result};
    struct worker_answer a = {
        .choices = &choice, .count = 1, .totals = result, .model = "tiny", .fingerprint = "fp_1", .device = 47};

    base_buf_init(&words, 4096);
    base_buf_init(&out, 4096);
    base_buf_bytes(&words, text, len);
    assert_int_equal(worker_answer_pack(&a, &out), DBE_OK);
    Dsmil__L7ChatResponse *r = dsmil__l7_chat_response__unpack(NULL, out.len, out.data);
    assert_non_null(r);
    assert_int_equal(r->n_choices, 1);
    assert_string_equal(r->model, "tiny");
    assert_string_equal(r->fingerprint, "fp_1");
    assert_int_equal(r->device_id, 47);
    base_buf_free(&words);
    base_buf_free(&out);
    return r;
}

/* spec 19.2: usage stands where nothing follows. */
static void test_answers(void **state)
{
    struct engine_result result = {.finish = LLM_FINISH_LENGTH,
                                   .prompt_tokens = 3,
                                   .answer_tokens = 4,
                                   .first_token_ns = 2 * BASE_NS_PER_MS,
                                   .total_ns = 5 * BASE_NS_PER_MS};
    Dsmil__L7ChatResponse *r = answer("a\0b", 3, NULL);

    (void)state;
    assert_string_equal(r->choices[0]->message->content, "ab");
    assert_string_equal(r->choices[0]->message->role, "assistant");
    assert_string_equal(r->choices[0]->finish_reason, "");
    assert_null(r->usage);
    dsmil__l7_chat_response__free_unpacked(r, NULL);

    r = answer("", 0, &result);
    assert_string_equal(r->choices[0]->message->content, "");
    assert_string_equal(r->choices[0]->finish_reason, "length");
    assert_int_equal(r->usage->prompt_tokens, 3);
    assert_int_equal(r->usage->total_tokens, 7);
    assert_true(r->ttft_ms == 2.0f && r->latency_ms == 5.0f);
    dsmil__l7_chat_response__free_unpacked(r, NULL);
}

/* ---- tools ------------------------------------------------------------------------------------------------------ */

struct tool_request {
    struct request q;
    Dsmil__Tool tools[2], *list[2];
    Dsmil__ChatMessage turns[4], *turn_list[4];
    Dsmil__ToolCall call, *calls[1];
};

#define TEXT(s) ((char *)(uintptr_t)(s))

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
                        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"unit\":\"C\"}}"
                        "\n</tool_call>");
    assert_string_equal(chat.messages[3].role, "user");
    assert_string_equal(chat.messages[3].text,
                        "<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>");
    assert_string_equal(chat.call_mark, "<tool_call>");
    assert_false(chat.call_at_once);
    assert_null(chat.params.grammar);
    chat.free_owned(chat.owned);

    t.q.r.tool_choice = TEXT("none");
    assert_int_equal(read_it(&t.q, &chat, &reason), DBE_OK);
    assert_int_equal(chat.count, 3); /* nobody tells the model of functions that it may not call */
    assert_null(chat.call_mark);
    chat.free_owned(chat.owned);
}

static bool accepts(const struct llm_grammar *g, const char *text)
{
    struct llm_grammar_state *s = NULL;

    assert_int_equal(llm_grammar_state_new(g, &s), DBE_OK);
    bool ok = llm_grammar_accept(s, text, strlen(text)) && llm_grammar_can_end(s);
    llm_grammar_state_free(s);
    return ok;
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
    assert_true(chat.call_at_once);
    assert_true(accepts(chat.call_grammar, "{\"name\":\"get_weather\",\"arguments\":{\"unit\":\"F\"}}"));
    assert_true(accepts(chat.call_grammar, "{\"name\":\"stop\",\"arguments\":{}}"));
    assert_false(accepts(chat.call_grammar, "{\"name\":\"get_weather\",\"arguments\":{\"unit\":\"K\"}}"));
    assert_false(accepts(chat.call_grammar, "{\"name\":\"get_weather\",\"arguments\":{}}"));
    assert_false(accepts(chat.call_grammar, "{\"name\":\"other\",\"arguments\":{}}"));
    chat.free_owned(chat.owned);

    t.q.r.tool_choice = TEXT("function");
    t.q.r.tool_name = TEXT("get_weather");
    assert_int_equal(read_it(&t.q, &chat, &reason), DBE_OK);
    assert_true(accepts(chat.call_grammar, "{\"name\":\"get_weather\",\"arguments\":{\"unit\":\"C\"}}"));
    assert_false(accepts(chat.call_grammar, "{\"name\":\"stop\",\"arguments\":{}}"));
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
        {"stop", "", "", "json_object", "", "response_format"},
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

/* spec 19.1. Several answers share what was decoded; the last one that goes frees it (a leak or a double free would
 * show). */
static void test_answers_share_their_request(void **state)
{
    struct request q;
    struct worker_request whole = {0};
    const char *reason;

    (void)state;
    request_init(&q);
    q.r.n = 3;
    q.r.cache_key = TEXT("k");
    assert_int_equal(read_whole(&q, &whole, &reason), DBE_OK);
    assert_int_equal(whole.n, 3);
    assert_string_equal(whole.cache_key, "k");
    worker_request_hold(&whole.chat);
    whole.chat.free_owned(whole.chat.owned);
    assert_string_equal(whole.chat.messages[0].text, "hello");
    whole.chat.free_owned(whole.chat.owned);
    q.r.n = WORKER_ANSWERS_MAX + 1;
    assert_int_equal(read_whole(&q, &whole, &reason), DBE_E_RANGE);
}

/* ---- texts to embed --------------------------------------------------------------------------------------------- */

/* spec 19.7 */
static void test_embed(void **state)
{
    Dsmil__L7EmbedRequest r = DSMIL__L7_EMBED_REQUEST__INIT;
    struct engine_chat chat = {0};
    struct base_buf vectors, out;
    const float values[4] = {1, 2, 3, 4};
    struct engine_result result = {.prompt_tokens = 5};
    struct worker_answer a = {.totals = &result, .model = "tiny", .device = 47};
    char *inputs[] = {TEXT("a"), TEXT("b")};
    uint8_t packed[64] = {0};
    const char *reason;

    (void)state;
    assert_int_equal(worker_request_read_embed(packed, 0, &chat, &reason), DBE_E_RANGE);
    r.input = inputs;
    r.n_input = 2;
    size_t len = dsmil__l7_embed_request__pack(&r, packed);
    assert_int_equal(worker_request_read_embed(packed, len, &chat, &reason), DBE_OK);
    assert_int_equal(chat.input_count, 2);
    assert_string_equal(chat.inputs[1], "b");
    chat.free_owned(chat.owned);
    inputs[1] = TEXT("");
    len = dsmil__l7_embed_request__pack(&r, packed);
    assert_int_equal(worker_request_read_embed(packed, len, &chat, &reason), DBE_E_RANGE);

    base_buf_init(&vectors, 64);
    base_buf_init(&out, 256);
    base_buf_bytes(&vectors, values, sizeof values);
    assert_int_equal(worker_answer_pack_embed(&a, &vectors, 2, &out), DBE_OK);
    Dsmil__L7EmbedResponse *back = dsmil__l7_embed_response__unpack(NULL, out.len, out.data);
    assert_non_null(back);
    assert_int_equal(back->n_data, 2);
    assert_int_equal(back->data[1]->values.len, 2 * sizeof(float));
    assert_memory_equal(back->data[1]->values.data, &values[2], 2 * sizeof(float));
    assert_int_equal(back->usage->total_tokens, 5);
    dsmil__l7_embed_response__free_unpacked(back, NULL);
    base_buf_free(&vectors);
    base_buf_free(&out);
}

/* ---- calls in answers ------------------------------------------------------------------------------------------- */

/* spec 19.4 */
static void test_call_in_answer(void **state)
{
    static const struct {
        const char *call, *finish;
    } rows[] = {
        {"{\"name\":\"f\", \"arguments\": {\"a\": 1}}", "tool_calls"},
        {"{\"name\":\"f\", \"argum", "length"}, /* cut: no call, and the end says why */
        {"", "length"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct engine_result result = {.finish = LLM_FINISH_LENGTH};
        struct base_buf text, call, out;
        struct worker_choice choice = {.text = &text, .call = &call, .result = &result};
        struct worker_answer a = {.choices = &choice, .count = 1, .model = "m", .fingerprint = ""};
        base_buf_init(&text, 64);
        base_buf_init(&call, 64);
        base_buf_init(&out, 512);
        base_buf_str(&call, rows[i].call);
        assert_int_equal(worker_answer_pack(&a, &out), DBE_OK);
        Dsmil__L7ChatResponse *r = dsmil__l7_chat_response__unpack(NULL, out.len, out.data);
        assert_non_null(r);
        assert_string_equal(r->choices[0]->finish_reason, rows[i].finish);
        assert_int_equal(r->choices[0]->message->n_tool_calls, i == 0);
        if (i == 0) {
            assert_string_equal(r->choices[0]->message->tool_calls[0]->name, "f");
            assert_string_equal(r->choices[0]->message->tool_calls[0]->arguments, "{\"a\":1}");
            assert_memory_equal(r->choices[0]->message->tool_calls[0]->id, "call_", 5);
        }
        dsmil__l7_chat_response__free_unpacked(r, NULL);
        base_buf_free(&text);
        base_buf_free(&call);
        base_buf_free(&out);
    }
}

/* spec 19.6: only the same tenant with the same labels has the same salt; an unknown tenant has none. */
static void test_who_shares(void **state)
{
    static const struct worker_share all[] = {
        {"alpha", 3, 1, NULL}, {"alpha", 3, 2, NULL},  {"alpha", 1, 1, NULL}, {"alpha", 259, 1, NULL},
        {"alphb", 3, 1, NULL}, {"alpha2", 3, 1, NULL}, {"alpha", 3, 1, "k"},  {"alpha", 3, 1, "kk"},
    };
    struct engine_chat chats[BASE_ARRAY_LEN(all)] = {{0}}, again = {0};

    (void)state;
    assert_int_equal(crypto_init(NULL), DBE_OK);
    for (size_t i = 0; i < BASE_ARRAY_LEN(all); i++) {
        assert_int_equal(worker_request_share(&all[i], &chats[i]), DBE_OK);
        assert_true(chats[i].shares);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(chats[i].salt, chats[j].salt, LLM_SALT_BYTES);
    }
    assert_int_equal(worker_request_share(&all[0], &again), DBE_OK);
    assert_memory_equal(again.salt, chats[0].salt, LLM_SALT_BYTES);
    assert_int_equal(worker_request_share(&(struct worker_share){"", 3, 1, NULL}, &again), DBE_OK);
    assert_false(again.shares);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_shares),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_what_is_said_counts),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_bytes_that_are_no_request),
        cmocka_unit_test(test_allocation_and_randomness_fail),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_tools_as_text),
        cmocka_unit_test(test_calls_are_constrained),
        cmocka_unit_test(test_bad_tools_and_forms),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_answers_share_their_request),
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_call_in_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
