/* SPDX-License-Identifier: Apache-2.0
 *
 * answer_test.c - what the worker's answers say: text, usage, vectors, calls of tools.
 */
#include "devices/l7_worker/test_request.h"

#include "dbe/payload.h"
#include "devices/l7_worker/answer.h"
#include "llm/test_gguf.h"

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
    assert_int_equal(worker_request_read_embed(packed, 0, &defaults, &chat, &reason), DBE_E_RANGE);
    r.input = inputs;
    r.n_input = 2;
    size_t len = dsmil__l7_embed_request__pack(&r, packed);
    assert_int_equal(worker_request_read_embed(packed, len, &defaults, &chat, &reason), DBE_OK);
    assert_int_equal(chat.input_count, 2);
    assert_string_equal(chat.inputs[1], "b");
    chat.free_owned(chat.owned);
    uint32_t ids[] = {3, 4};
    Dsmil__TokenList tokens = DSMIL__TOKEN_LIST__INIT, *list[] = {&tokens};
    tokens.ids = ids;
    tokens.n_ids = 2;
    r.tokens = list;
    r.n_tokens = 1;
    len = dsmil__l7_embed_request__pack(&r, packed);
    assert_int_equal(worker_request_read_embed(packed, len, &defaults, &chat, &reason), DBE_E_RANGE); /* both */
    r.n_input = 0;
    len = dsmil__l7_embed_request__pack(&r, packed);
    assert_int_equal(worker_request_read_embed(packed, len, &defaults, &chat, &reason), DBE_OK);
    assert_int_equal(chat.input_count, 1);
    assert_int_equal(chat.tokens[0].ids[1], 4);
    chat.free_owned(chat.owned);
    ids[1] = 99;
    len = dsmil__l7_embed_request__pack(&r, packed);
    assert_int_equal(worker_request_read_embed(packed, len, &defaults, &chat, &reason), DBE_E_RANGE);
    assert_string_equal(reason, "input: token 99 is not in the model's vocabulary of 99");
    r.sealed = (ProtobufCBinaryData){2, (uint8_t *)ids}; /* without the mark in the header */
    len = dsmil__l7_embed_request__pack(&r, packed);
    assert_int_equal(worker_request_read_embed(packed, len, &defaults, &chat, &reason), DBE_E_AUTH);
    r.sealed = (ProtobufCBinaryData){0};
    r.n_input = 2;
    r.n_tokens = 0;
    inputs[1] = TEXT("");
    len = dsmil__l7_embed_request__pack(&r, packed);
    assert_int_equal(worker_request_read_embed(packed, len, &defaults, &chat, &reason), DBE_E_RANGE);

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

/* spec 19.8: a first token has no probability, and a space that tokenising put before a text is not told. */
static void test_first_of_a_prompt(void **state)
{
    const struct tg_shape shape = tg_defaults();
    struct llm_model *m = tg_load(&shape, NULL);
    struct llm_token_prob list[2] = {{.id = tg_id("_hello"), .logprob = NAN, .lead = 1},
                                     {.id = tg_id("_world"), .logprob = -1, .lead = 1, .top_count = 1}};
    struct base_buf text, probs, out;
    size_t called = 0;
    const struct worker_choice choice = {.text = &text, .probs = &probs, .called = &called};
    const struct worker_answer a = {.choices = &choice, .count = 1, .model = "tiny", .llm = m};

    (void)state;
    list[1].top[0] = (struct llm_logprob){tg_id("a"), -0.5f};
    base_buf_init(&text, 64);
    base_buf_init(&probs, 4096);
    base_buf_init(&out, 4096);
    base_buf_bytes(&probs, list, sizeof list);
    assert_int_equal(worker_answer_pack(&a, &out), DBE_OK);
    Dsmil__L7ChatResponse *r = dsmil__l7_chat_response__unpack(NULL, out.len, out.data);
    assert_non_null(r);
    assert_int_equal(r->choices[0]->n_logprobs, 2);
    Dsmil__TokenLogprob **told = r->choices[0]->logprobs;
    assert_true(told[0]->first && told[0]->n_top == 0 && told[0]->logprob == 0.0f);
    assert_int_equal(told[0]->token.len, 5);
    assert_memory_equal(told[0]->token.data, "hello", 5);
    assert_true(!told[1]->first && told[1]->n_top == 2);
    assert_memory_equal(told[1]->top[0]->token.data, "a", 1);
    assert_int_equal(told[1]->top[1]->token.len, 5); /* the chosen one, as the text has it */
    dsmil__l7_chat_response__free_unpacked(r, NULL);
    base_buf_free(&text);
    base_buf_free(&probs);
    base_buf_free(&out);
    llm_model_free(m);
}

/* spec 3.14: no answer is sent that its receiver would have to refuse. */
static void test_too_many_probabilities(void **state)
{
    enum { MOST = (DBE_PAYLOAD_ELEMENTS_MAX - 1) / 2 }; /* a token and itself among its alternatives; one choice */
    const struct tg_shape shape = tg_defaults();
    struct llm_model *m = tg_load(&shape, NULL);
    const struct llm_token_prob prob = {.id = tg_id("a"), .logprob = -1};
    struct base_buf text, probs, out;
    size_t called = 0;
    const struct worker_choice choice = {.text = &text, .probs = &probs, .called = &called};
    const struct worker_answer a = {.choices = &choice, .count = 1, .model = "tiny", .llm = m};

    (void)state;
    base_buf_init(&text, 64);
    base_buf_init(&probs, (MOST + 1) * sizeof prob);
    base_buf_init(&out, DBE_PAYLOAD_MAX_BYTES);
    for (size_t i = 0; i < MOST; i++)
        base_buf_bytes(&probs, &prob, sizeof prob);
    assert_int_equal(worker_answer_pack(&a, &out), DBE_OK);
    assert_int_equal(dbe_payload_check(DBE_MSG_L7_CHAT_RESP, out.data, out.len, NULL), DBE_OK);
    base_buf_bytes(&probs, &prob, sizeof prob);
    base_buf_clear(&out);
    assert_int_equal(worker_answer_pack(&a, &out), DBE_E_TOO_LARGE);
    base_buf_free(&text);
    base_buf_free(&probs);
    base_buf_free(&out);
    llm_model_free(m);
}

/* spec 19.4 */
static void test_call_in_answer(void **state)
{
    static const struct {
        const char *call, *finish;
    } rows[] = {
        {"{\"name\":\"f\", \"arguments\": {\"a\": 1}}", "tool_calls"},
        {"{\"name\":\"f\", \"argum", "length"}, /* cut: text, and the end says why */
        {"", "length"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct engine_result result = {.finish = LLM_FINISH_LENGTH};
        struct base_buf text, call, out;
        size_t called = 0;
        struct worker_choice choice = {.text = &text, .call = &call, .called = &called, .result = &result};
        struct worker_answer a = {.choices = &choice, .count = 1, .model = "m", .fingerprint = ""};
        base_buf_init(&text, 64);
        base_buf_init(&call, 64);
        base_buf_init(&out, 512);
        base_buf_str(&call, rows[i].call);
        assert_int_equal(worker_calls_settle(&text, &call, 0, &result, &choice.behind), DBE_OK);
        assert_int_equal(worker_answer_pack(&a, &out), DBE_OK);
        Dsmil__L7ChatResponse *r = dsmil__l7_chat_response__unpack(NULL, out.len, out.data);
        assert_non_null(r);
        assert_string_equal(r->choices[0]->finish_reason, rows[i].finish);
        assert_string_equal(r->choices[0]->message->content, i == 1 ? rows[i].call : "");
        assert_int_equal(r->choices[0]->message->n_tool_calls, i == 0);
        assert_int_equal(r->choices[0]->behind_calls, 0); /* there is no call that it could stand behind */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),           cmocka_unit_test(test_embed),
        cmocka_unit_test(test_first_of_a_prompt), cmocka_unit_test(test_too_many_probabilities),
        cmocka_unit_test(test_call_in_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
