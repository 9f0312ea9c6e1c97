/* SPDX-License-Identifier: Apache-2.0
 *
 * answers_test.c - shapes of answers beyond a plain chat: probabilities, calls, several choices, completions, vectors,
 * responses and their events.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "shim/sse.h"

static const struct shim_trace trace = {.request_id = "00112233-4455-4677-8899-aabbccddeeff"};

/* "A" was chosen though "B" was likelier; the second token is half a character. */
static const struct shim_prob tops[] = {{.token = "B", .len = 1, .logprob = -0.25f},
                                        {.token = "A", .len = 1, .logprob = -1.5f},
                                        {.token = "C", .len = 1, .logprob = -9999.0f}};
static const struct shim_prob probs[] = {
    {.token = "A", .len = 1, .logprob = -1.5f, .top = tops, .top_count = 3},
    {.token = "\xC3", .len = 1, .logprob = -0.5f, .top = tops, .top_count = 3},
    {.token = "\xA9", .len = 1, .logprob = -0.5f, .top = tops, .top_count = 3},
};
static const struct shim_call call = {(char *)(uintptr_t) "call_1", (char *)(uintptr_t) "f",
                                      (char *)(uintptr_t) "{\"a\":\"\\n\"}"};

static const struct shim_call two_calls[] = {
    {(char *)(uintptr_t) "call_1", (char *)(uintptr_t) "f", (char *)(uintptr_t) "{}"},
    {(char *)(uintptr_t) "call_2", (char *)(uintptr_t) "g", (char *)(uintptr_t) "{\"b\":2}"},
};

static json_t *parse(const char *json)
{
    json_error_t e;
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, &e);

    if (root == NULL)
        fail_msg("%s in %s", e.text, json);
    return root;
}

/* Member by path: "choices.0.message". NULL: absent. */
static json_t *at(json_t *v, const char *path)
{
    char part[64];

    for (const char *p = path; v != NULL && *p != '\0';) {
        size_t len = strcspn(p, ".");
        (void)snprintf(part, sizeof part, "%.*s", (int)len, p);
        v = json_is_array(v) ? json_array_get(v, (size_t)strtoul(part, NULL, 10)) : json_object_get(v, part);
        p += len + (p[len] == '.');
    }
    return v;
}

static const char *text_at(json_t *v, const char *path)
{
    const char *text = json_string_value(at(v, path));

    if (text == NULL)
        fail_msg("no text at %s", path);
    return text;
}

static json_t *answer_of(const struct shim_style *style, const struct shim_choice *choices, size_t count)
{
    const struct shim_answer a = {.model = "m",
                                  .fingerprint = "fp_1",
                                  .created_unix = 1,
                                  .choices = choices,
                                  .choice_count = count,
                                  .prompt_tokens = 7,
                                  .cached_tokens = 5,
                                  .completion_tokens = 2};
    struct base_buf out;

    base_buf_init(&out, 1 << 20);
    shim_answer_json(&out, style, &a, &trace);
    assert_int_equal(out.err, DBE_OK);
    json_t *root = parse(base_buf_cstr(&out));
    base_buf_free(&out);
    return root;
}

/* A chat's probabilities have the chat's shape (vllm-project/vllm#3179), and exactly as many alternatives as were asked
 * for, none without (#4795). */
static void test_chat_probabilities(void **state)
{
    const struct shim_choice c = {
        .content = "A\xC3\xA9", .content_len = 3, .finish_reason = "stop", .probs = probs, .prob_count = 3};

    (void)state;
    for (uint32_t top = 0; top <= 2; top++) {
        const struct shim_style style = {.kind = SHIM_CHAT, .logprobs = true, .top_logprobs = top};
        json_t *root = answer_of(&style, &c, 1), *tokens = at(root, "choices.0.logprobs.content");
        assert_int_equal(json_array_size(tokens), 3);
        assert_true(json_is_null(at(root, "choices.0.logprobs.refusal")));
        assert_string_equal(text_at(tokens, "0.token"), "A");
        assert_true(json_real_value(at(tokens, "0.logprob")) == -1.5);
        assert_int_equal(json_integer_value(at(tokens, "1.bytes.0")), 0xC3);
        assert_string_equal(text_at(tokens, "1.token"), "\xEF\xBF\xBD");
        assert_int_equal(json_array_size(at(tokens, "0.top_logprobs")), top);
        if (top > 0)
            assert_string_equal(text_at(tokens, "0.top_logprobs.0.token"), "B");
        assert_string_equal(text_at(root, "system_fingerprint"), "fp_1");
        assert_int_equal(json_integer_value(at(root, "usage.prompt_tokens_details.cached_tokens")), 5);
        json_decref(root);
    }
}

/* A completion's 0 asks for the chosen tokens' (vllm-project/vllm#3707); the chosen one is always among the likeliest;
 * offsets count characters. */
static void test_completion_probabilities(void **state)
{
    const struct shim_choice c = {
        .content = "A\xC3\xA9", .content_len = 3, .finish_reason = "stop", .probs = probs, .prob_count = 3};

    (void)state;
    for (uint32_t top = 0; top <= 1; top++) {
        const struct shim_style style = {.kind = SHIM_COMPLETION, .logprobs = true, .top_logprobs = top};
        json_t *root = answer_of(&style, &c, 1), *told = at(root, "choices.0.logprobs");
        assert_string_equal(text_at(root, "object"), "text_completion");
        assert_string_equal(text_at(root, "choices.0.text"), "A\xC3\xA9");
        assert_int_equal(json_array_size(at(told, "tokens")), 3);
        assert_int_equal(json_array_size(at(told, "token_logprobs")), 3);
        assert_int_equal(json_object_size(at(told, "top_logprobs.0")), top + 1);
        assert_true(json_real_value(at(told, "top_logprobs.0.A")) == -1.5);
        assert_int_equal(json_integer_value(at(told, "text_offset.0")), 0);
        assert_int_equal(json_integer_value(at(told, "text_offset.1")), 1);
        assert_int_equal(json_integer_value(at(told, "text_offset.2")), 2);
        json_decref(root);
    }
}

/* The first token of a prompt that is told has no probability: null, as OpenAI's. */
static void test_first_of_a_prompt(void **state)
{
    const struct shim_prob told[] = {{.token = "\xC3\xA9", .len = 2, .first = true},
                                     {.token = "A", .len = 1, .logprob = -1.5f, .top = tops, .top_count = 3}};
    const struct shim_style style = {.kind = SHIM_COMPLETION, .logprobs = true, .top_logprobs = 1, .echo = true};
    const struct shim_choice c = {
        .content = "\xC3\xA9\x41", .content_len = 3, .finish_reason = "length", .probs = told, .prob_count = 2};
    json_t *root = answer_of(&style, &c, 1), *probs_told = at(root, "choices.0.logprobs");

    (void)state;
    assert_true(json_is_null(at(probs_told, "token_logprobs.0")) && json_is_null(at(probs_told, "top_logprobs.0")));
    assert_true(json_real_value(at(probs_told, "token_logprobs.1")) == -1.5);
    assert_int_equal(json_object_size(at(probs_told, "top_logprobs.1")), 2);
    assert_int_equal(json_integer_value(at(probs_told, "text_offset.1")), 1);
    json_decref(root);
}

static void test_calls_and_choices(void **state)
{
    const struct shim_style style = {.kind = SHIM_CHAT};
    const struct shim_choice choices[] = {
        {.index = 0, .content = "", .finish_reason = "tool_calls", .calls = &call, .call_count = 1},
        {.index = 1, .content = "x", .content_len = 1, .finish_reason = "length"},
    };
    json_t *root = answer_of(&style, choices, 2);

    (void)state;
    assert_true(json_is_null(at(root, "choices.0.message.content")));
    assert_string_equal(text_at(root, "choices.0.finish_reason"), "tool_calls");
    assert_string_equal(text_at(root, "choices.0.message.tool_calls.0.id"), "call_1");
    assert_string_equal(text_at(root, "choices.0.message.tool_calls.0.function.arguments"), "{\"a\":\"\\n\"}");
    assert_null(at(root, "choices.0.message.tool_calls.0.index")); /* of streams alone */
    assert_string_equal(text_at(root, "choices.1.message.content"), "x");
    assert_null(at(root, "choices.1.message.tool_calls"));
    json_decref(root);
}

static void test_vectors(void **state)
{
    static const float values[3] = {0.5f, -1.0f, 3.0e-8f};
    const uint8_t *const data[] = {(const uint8_t *)values};
    const size_t bytes[] = {sizeof values};
    const struct shim_vectors v = {.model = "m", .values = data, .bytes = bytes, .count = 1, .prompt_tokens = 4};
    struct base_buf out;

    (void)state;
    for (int base64 = 0; base64 < 2; base64++) {
        base_buf_init(&out, 4096);
        shim_vectors_json(&out, &v, base64 == 1, &trace);
        json_t *root = parse(base_buf_cstr(&out));
        if (base64)
            assert_string_equal(text_at(root, "data.0.embedding"), "AAAAPwAAgL9Z2QAz");
        else
            assert_true((float)json_real_value(at(root, "data.0.embedding.2")) == 3.0e-8f);
        assert_int_equal(json_integer_value(at(root, "usage.total_tokens")), 4);
        json_decref(root);
        base_buf_free(&out);
    }
}

static void test_response_object(void **state)
{
    char said[] = ",\"metadata\":{\"k\":\"v\"}";
    const struct shim_style style = {.kind = SHIM_RESPONSE, .said = said};
    const struct shim_choice c = {
        .content = "hi", .content_len = 2, .finish_reason = "length", .calls = &call, .call_count = 1};
    json_t *root = answer_of(&style, &c, 1);

    (void)state;
    assert_string_equal(text_at(root, "status"), "incomplete");
    assert_string_equal(text_at(root, "incomplete_details.reason"), "max_output_tokens");
    assert_string_equal(text_at(root, "metadata.k"), "v");
    assert_string_equal(text_at(root, "output.0.content.0.text"), "hi");
    assert_string_equal(text_at(root, "output.1.type"), "function_call");
    assert_string_equal(text_at(root, "output.1.call_id"), "call_1");
    assert_int_equal(json_integer_value(at(root, "usage.input_tokens_details.cached_tokens")), 5);
    json_decref(root);
}

/* spec 19.4: what stands behind the calls is a message behind them, with the tokens that begin in it. */
static void test_response_object_with_words_behind_calls(void **state)
{
    static const char *const types[] = {"message", "function_call", "function_call", "message"};
    const struct shim_style style = {.kind = SHIM_RESPONSE, .logprobs = true};
    const struct shim_choice c = {.content = "AB\xC3\xA9",
                                  .content_len = 4,
                                  .behind_len = 2,
                                  .finish_reason = "length",
                                  .probs = (const struct shim_prob[]){probs[0], {.token = "B", .len = 1}, probs[1]},
                                  .prob_count = 3,
                                  .calls = two_calls,
                                  .call_count = 2};
    json_t *root = answer_of(&style, &c, 1), *items = at(root, "output");

    (void)state;
    assert_int_equal(json_array_size(items), BASE_ARRAY_LEN(types));
    for (size_t i = 0; i < BASE_ARRAY_LEN(types); i++)
        assert_string_equal(text_at(json_array_get(items, i), "type"), types[i]);
    assert_string_equal(text_at(items, "0.content.0.text"), "AB");
    assert_string_equal(text_at(items, "0.status"), "completed");
    assert_int_equal(json_array_size(at(items, "0.content.0.logprobs")), 2);
    assert_string_equal(text_at(items, "3.content.0.text"), "\xC3\xA9");
    assert_string_equal(text_at(items, "3.status"), "incomplete");
    assert_int_equal(json_array_size(at(items, "3.content.0.logprobs")), 1);
    assert_string_not_equal(text_at(items, "0.id"), text_at(items, "3.id"));
    json_decref(root);
}

/* A chat has one place for words: before and behind, nothing is lost, and the end says that it was cut. */
static void test_chat_with_words_behind_calls(void **state)
{
    const struct shim_style style = {.kind = SHIM_CHAT};
    const struct shim_choice c = {.content = "A{\"na",
                                  .content_len = 5,
                                  .behind_len = 4,
                                  .finish_reason = "length",
                                  .calls = two_calls,
                                  .call_count = 2};
    json_t *root = answer_of(&style, &c, 1);

    (void)state;
    assert_string_equal(text_at(root, "choices.0.message.content"), "A{\"na");
    assert_int_equal(json_array_size(at(root, "choices.0.message.tool_calls")), 2);
    assert_string_equal(text_at(root, "choices.0.finish_reason"), "length");
    json_decref(root);
}

/* ---- streams ---------------------------------------------------------------------------------------------------- */

struct events {
    struct base_buf text;
    char *at;
};

static void run_stream(struct events *e, const struct shim_style *style, const struct shim_choice *parts, size_t count)
{
    const struct shim_answer end = {.model = "m", .prompt_tokens = 1, .completion_tokens = 2};
    struct shim_style copy = *style;
    struct shim_stream s;
    char piece[64];
    size_t n;

    base_buf_init(&e->text, 1 << 20);
    shim_stream_init(&s, trace.request_id, 1, &copy);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(shim_stream_choice(&s, "m", "fp_1", &parts[i]), DBE_OK);
        while ((n = shim_stream_read(&s, piece, sizeof piece)) > 0)
            base_buf_bytes(&e->text, piece, n);
    }
    shim_stream_finish(&s, &end, &trace);
    while ((n = shim_stream_read(&s, piece, sizeof piece)) > 0)
        base_buf_bytes(&e->text, piece, n);
    assert_true(shim_stream_at_end(&s));
    shim_stream_free(&s);
    e->at = (char *)(uintptr_t)base_buf_cstr(&e->text);
}

/* The next event's JSON; NULL at [DONE] or the end. A named event's type is its name. */
static json_t *next_event(struct events *e)
{
    char *event = e->at, *end = strstr(event, "\n\n"), *name = NULL;

    if (end == NULL)
        return NULL;
    *end = '\0';
    e->at = end + 2;
    if (strncmp(event, "event: ", 7) == 0) {
        name = event + 7;
        event = strchr(event, '\n');
        *event++ = '\0';
    }
    assert_memory_equal(event, "data: ", 6);
    if (strcmp(event + 6, "[DONE]") == 0)
        return NULL;
    json_t *root = parse(event + 6);
    if (name != NULL)
        assert_string_equal(text_at(root, "type"), name);
    return root;
}

/* Two answers that grow in turns: each has its role first and its end last, and none has the other's words. */
static void test_stream_of_choices(void **state)
{
    static const struct shim_choice parts[] = {
        {.index = 0, .content = "a", .content_len = 1},
        {.index = 1, .content = "x", .content_len = 1},
        {.index = 0, .content = "b", .content_len = 1, .finish_reason = "stop"},
        {.index = 1, .content = "", .finish_reason = "tool_calls", .calls = &call, .call_count = 1},
    };
    const struct shim_style style = {.kind = SHIM_CHAT};
    struct events e;
    char words[2][8] = {"", ""};
    int roles[2] = {0}, ends[2] = {0}, calls = 0, traces = 0;
    json_t *chunk;

    (void)state;
    run_stream(&e, &style, parts, BASE_ARRAY_LEN(parts));
    while ((chunk = next_event(&e)) != NULL) {
        const json_t *text = at(chunk, "choices.0.delta.content");
        assert_int_equal(json_array_size(at(chunk, "choices")), 1);
        size_t i = (size_t)json_integer_value(at(chunk, "choices.0.index"));
        assert_true(i < 2 && ends[i] == 0);
        roles[i] += at(chunk, "choices.0.delta.role") != NULL;
        ends[i] += json_is_string(at(chunk, "choices.0.finish_reason"));
        if (json_is_string(text) && strlen(words[i]) + json_string_length(text) < sizeof words[i])
            (void)strncat(words[i], json_string_value(text), 4);
        if (at(chunk, "choices.0.delta.tool_calls") != NULL) {
            assert_int_equal(json_integer_value(at(chunk, "choices.0.delta.tool_calls.0.index")), 0);
            calls++;
        }
        traces += at(chunk, "dsmil") != NULL;
        json_decref(chunk);
    }
    assert_string_equal(words[0], "ab");
    assert_string_equal(words[1], "x");
    assert_true(roles[0] == 1 && roles[1] == 1 && ends[0] == 1 && ends[1] == 1 && calls == 1 && traces == 1);
    base_buf_free(&e.text);
}

/* A token may come after a part of its text: offsets of a stream are those of a whole answer. */
static void test_offsets_of_a_stream(void **state)
{
    static const struct shim_prob late = {.token = "ab", .len = 2, .logprob = -1}, next = {.token = "c", .len = 1};
    static const struct shim_choice parts[] = {
        {.content = "a", .content_len = 1},
        {.content = "b", .content_len = 1, .probs = &late, .prob_count = 1},
        {.content = "c", .content_len = 1, .probs = &next, .prob_count = 1, .finish_reason = "stop"},
    };
    const struct shim_style style = {.kind = SHIM_COMPLETION, .logprobs = true};
    struct events e;
    json_t *chunk;
    json_int_t offsets[2] = {-1, -1};
    size_t count = 0;

    (void)state;
    run_stream(&e, &style, parts, BASE_ARRAY_LEN(parts));
    while ((chunk = next_event(&e)) != NULL) {
        const json_t *offset = at(chunk, "choices.0.logprobs.text_offset.0");
        if (offset != NULL && count < 2)
            offsets[count++] = json_integer_value(offset);
        json_decref(chunk);
    }
    assert_int_equal(offsets[0], 0);
    assert_int_equal(offsets[1], 2);
    base_buf_free(&e.text);
}

/* Each call comes in a chunk of its own, under its number in the answer; of a response they are items of their own. */
static void test_several_calls(void **state)
{
    static const struct shim_choice part = {
        .content = "", .finish_reason = "tool_calls", .calls = two_calls, .call_count = 2};
    const struct shim_style chat = {.kind = SHIM_CHAT}, response = {.kind = SHIM_RESPONSE};
    struct events e;
    json_t *event;
    size_t seen = 0, items = 0;

    (void)state;
    run_stream(&e, &chat, &part, 1);
    while ((event = next_event(&e)) != NULL) {
        json_t *calls = at(event, "choices.0.delta.tool_calls");
        if (calls != NULL) {
            assert_int_equal(json_array_size(calls), 1);
            assert_int_equal(json_integer_value(at(calls, "0.index")), seen);
            assert_string_equal(text_at(calls, "0.id"), two_calls[seen].id);
            assert_string_equal(text_at(calls, "0.function.arguments"), two_calls[seen].arguments);
            seen++;
        }
        json_decref(event);
    }
    assert_int_equal(seen, 2);
    base_buf_free(&e.text);
    run_stream(&e, &response, &part, 1);
    while ((event = next_event(&e)) != NULL) {
        if (strcmp(text_at(event, "type"), "response.output_item.done") == 0) {
            assert_int_equal(json_integer_value(at(event, "output_index")), items);
            assert_string_equal(text_at(event, "item.call_id"), two_calls[items++].id);
        }
        if (strcmp(text_at(event, "type"), "response.completed") == 0) {
            assert_int_equal(json_array_size(at(event, "response.output")), 2);
            assert_string_equal(text_at(event, "response.output.0.name"), "f");
            assert_string_equal(text_at(event, "response.output.1.name"), "g");
            assert_string_not_equal(text_at(event, "response.output.0.id"), text_at(event, "response.output.1.id"));
        }
        json_decref(event);
    }
    assert_int_equal(items, 2);
    base_buf_free(&e.text);
}

/* Words behind calls have no probabilities; beside those that have, a chat's chunk says so and is JSON all the same. */
static void test_words_without_probabilities(void **state)
{
    static const struct shim_choice parts[] = {
        {.content = "A", .content_len = 1, .probs = probs, .prob_count = 1},
        {.content = "{", .content_len = 1, .behind_len = 1, .finish_reason = "length", .calls = &call, .call_count = 1},
    };
    const struct shim_style style = {.kind = SHIM_CHAT, .logprobs = true};
    struct events e;
    json_t *chunk;
    size_t tokens = 0, texts = 0;

    (void)state;
    run_stream(&e, &style, parts, BASE_ARRAY_LEN(parts));
    while ((chunk = next_event(&e)) != NULL) {
        const json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0);
        const char *text = json_string_value(json_object_get(json_object_get(choice, "delta"), "content"));
        texts += text != NULL && text[0] != '\0';
        tokens += json_array_size(json_object_get(json_object_get(choice, "logprobs"), "content"));
        json_decref(chunk);
    }
    assert_int_equal(texts, 2);
    assert_int_equal(tokens, 1);
    base_buf_free(&e.text);
}

/* Calls in a completion, which only a broken router sends, break nothing: its events are JSON, and its words stay. */
static void test_calls_in_a_completion(void **state)
{
    static const struct shim_choice parts[] = {
        {.content = "A", .content_len = 1, .calls = two_calls, .call_count = 2},
        {.content = "BC", .content_len = 2, .behind_len = 1, .finish_reason = "stop", .calls = &call, .call_count = 1},
    };
    const struct shim_style style = {.kind = SHIM_COMPLETION};
    struct events e;
    json_t *chunk;
    char text[8] = "";

    (void)state;
    run_stream(&e, &style, parts, BASE_ARRAY_LEN(parts));
    while ((chunk = next_event(&e)) != NULL) {
        if (json_array_size(json_object_get(chunk, "choices")) > 0)
            (void)strncat(text, text_at(chunk, "choices.0.text"), sizeof text - strlen(text) - 1);
        json_decref(chunk);
    }
    assert_string_equal(text, "ABC");
    base_buf_free(&e.text);
}

/* Words that were no call in the end are a message of their own behind the calls that were told before. */
static void test_words_behind_calls(void **state)
{
    static const struct shim_choice parts[] = {
        {.content = "A", .content_len = 1},
        {.content = "", .calls = two_calls, .call_count = 1},
        {.content = "{\"na", .content_len = 4, .finish_reason = "length"},
    };
    static const char *const items[] = {"message", "function_call", "message"};
    const struct shim_style style = {.kind = SHIM_RESPONSE};
    struct events e;
    json_t *event;
    size_t done = 0;

    (void)state;
    run_stream(&e, &style, parts, BASE_ARRAY_LEN(parts));
    while ((event = next_event(&e)) != NULL) {
        if (strcmp(text_at(event, "type"), "response.output_item.done") == 0) {
            assert_int_equal(json_integer_value(at(event, "output_index")), done);
            assert_true(done < 3);
            assert_string_equal(text_at(event, "item.type"), items[done++]);
        }
        if (strcmp(text_at(event, "type"), "response.incomplete") == 0) {
            assert_int_equal(json_array_size(at(event, "response.output")), 3);
            assert_string_equal(text_at(event, "response.output.2.content.0.text"), "{\"na");
            assert_string_not_equal(text_at(event, "response.output.0.id"), text_at(event, "response.output.2.id"));
            done += 10;
        }
        json_decref(event);
    }
    assert_int_equal(done, 13);
    base_buf_free(&e.text);
}

/* Output of the last event of a streamed response. The caller gives it back. */
static json_t *streamed_output(const struct shim_style *style, const struct shim_choice *parts, size_t count)
{
    struct events e;
    json_t *event, *output = NULL;

    run_stream(&e, style, parts, count);
    while ((event = next_event(&e)) != NULL) {
        json_t *items = at(event, "response.output");
        if (items != NULL) {
            json_decref(output);
            output = json_incref(items);
        }
        json_decref(event);
    }
    base_buf_free(&e.text);
    return output;
}

/* However an answer comes, in one message or in several, streamed or not: its items are the same, down to their ids. */
static void test_a_stream_says_what_a_whole_answer_says(void **state)
{
    const struct shim_style style = {.kind = SHIM_RESPONSE, .logprobs = true};
    static const struct shim_choice rows[] = {
        {.content = "A\xC3\xA9{\"na", .content_len = 7, .behind_len = 4, .finish_reason = "length", .call_count = 2},
        {.content = "{ ", .content_len = 2, .behind_len = 2, .finish_reason = "length", .call_count = 2},
        {.content = "A\xC3\xA9", .content_len = 3, .finish_reason = "tool_calls", .call_count = 2},
        {.content = "A\xC3\xA9", .content_len = 3, .finish_reason = "length", .call_count = 1},
        {.content = "", .finish_reason = "length", .call_count = 1},
        {.content = "A\xC3\xA9", .content_len = 3, .finish_reason = "length"},
        {.content = "", .finish_reason = "stop"},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct shim_choice c = rows[i], parts[4];
        const size_t before = c.content_len - c.behind_len;
        size_t count = 0;
        c.calls = two_calls;
        if (before > 0) {
            c.probs = probs;
            c.prob_count = 3;
            parts[count++] =
                (struct shim_choice){.content = c.content, .content_len = before, .probs = probs, .prob_count = 3};
        }
        for (size_t k = 0; k < c.call_count; k++)
            parts[count++] = (struct shim_choice){.content = "", .calls = &two_calls[k], .call_count = 1};
        parts[count++] = (struct shim_choice){.content = c.content + before,
                                              .content_len = c.behind_len,
                                              .behind_len = c.behind_len,
                                              .finish_reason = c.finish_reason};
        json_t *whole = answer_of(&style, &c, 1), *at_once = streamed_output(&style, &c, 1),
               *by_parts = streamed_output(&style, parts, count);
        if (!json_equal(at(whole, "output"), at_once) || !json_equal(at(whole, "output"), by_parts))
            fail_msg("row %zu: %s, %s, %s", i, json_dumps(at(whole, "output"), 0), json_dumps(at_once, 0),
                     json_dumps(by_parts, 0));
        json_decref(whole);
        json_decref(at_once);
        json_decref(by_parts);
    }
}

/* A chat's stream tells in the order in which it was said, also what came in one message. */
static void test_chunks_in_the_order_of_the_answer(void **state)
{
    static const struct shim_choice part = {.content = "A{\"na",
                                            .content_len = 5,
                                            .behind_len = 4,
                                            .finish_reason = "length",
                                            .calls = two_calls,
                                            .call_count = 1};
    const struct shim_style style = {.kind = SHIM_CHAT};
    struct events e;
    json_t *chunk;
    char order[32] = "";

    (void)state;
    run_stream(&e, &style, &part, 1);
    while ((chunk = next_event(&e)) != NULL) {
        const json_t *text = at(chunk, "choices.0.delta.content");
        (void)strncat(order, json_is_string(text) ? json_string_value(text) : "", 8);
        (void)strncat(order, at(chunk, "choices.0.delta.tool_calls") != NULL ? "+call+" : "", 8);
        json_decref(chunk);
    }
    assert_string_equal(order, "A+call+{\"na");
    base_buf_free(&e.text);
}

/* Numbered from 0 without a gap; deltas, done and the final object say the same. */
static void test_events_of_a_response(void **state)
{
    static const char *const expected[] = {
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    };
    static const struct shim_choice parts[] = {
        {.content = "A", .content_len = 1, .probs = probs, .prob_count = 1},
        {.content = "B", .content_len = 1, .finish_reason = "tool_calls", .calls = &call, .call_count = 1},
    };
    const struct shim_style style = {.kind = SHIM_RESPONSE, .logprobs = true};
    struct events e;
    size_t n = 0;
    json_t *event;

    (void)state;
    run_stream(&e, &style, parts, BASE_ARRAY_LEN(parts));
    for (; (event = next_event(&e)) != NULL; n++) {
        assert_true(n < BASE_ARRAY_LEN(expected));
        assert_string_equal(text_at(event, "type"), expected[n]);
        assert_int_equal(json_integer_value(at(event, "sequence_number")), n);
        if (n == 6)
            assert_string_equal(text_at(event, "text"), "AB");
        if (n == 11)
            assert_int_equal(json_integer_value(at(event, "output_index")), 1);
        if (n + 1 == BASE_ARRAY_LEN(expected)) {
            assert_string_equal(text_at(event, "response.output.0.content.0.text"), "AB");
            assert_int_equal(json_array_size(at(event, "response.output.0.content.0.logprobs")), 1);
            assert_string_equal(text_at(event, "response.output.1.arguments"), "{\"a\":\"\\n\"}");
            assert_int_equal(json_integer_value(at(event, "response.usage.output_tokens")), 2);
        }
        json_decref(event);
    }
    assert_int_equal(n, BASE_ARRAY_LEN(expected));
    base_buf_free(&e.text);
}

static void test_response_that_breaks_off(void **state)
{
    const struct shim_choice c = {.content = "half", .content_len = 4};
    struct shim_style style = {.kind = SHIM_RESPONSE};
    struct shim_stream s;
    struct shim_problem p;
    char text[8192];

    (void)state;
    shim_stream_init(&s, trace.request_id, 1, &style);
    assert_int_equal(shim_stream_choice(&s, "m", "", &c), DBE_OK);
    shim_problem_of_mesh(&p, DBE_E_UNAVAILABLE, NULL, NULL, 0);
    shim_stream_fail(&s, &p);
    size_t n = shim_stream_read(&s, text, sizeof text - 1);
    text[n] = '\0';
    assert_true(shim_stream_at_end(&s));
    assert_non_null(strstr(text, "event: error\ndata: {\"type\":\"error\",\"sequence_number\":5,"));
    assert_null(strstr(text, "response.completed"));
    shim_stream_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_probabilities),
        cmocka_unit_test(test_completion_probabilities),
        cmocka_unit_test(test_first_of_a_prompt),
        cmocka_unit_test(test_offsets_of_a_stream),
        cmocka_unit_test(test_calls_and_choices),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_response_object),
        cmocka_unit_test(test_response_object_with_words_behind_calls),
        cmocka_unit_test(test_chat_with_words_behind_calls),
        cmocka_unit_test(test_stream_of_choices),
        cmocka_unit_test(test_words_without_probabilities),
        cmocka_unit_test(test_calls_in_a_completion),
        cmocka_unit_test(test_words_behind_calls),
        cmocka_unit_test(test_a_stream_says_what_a_whole_answer_says),
        cmocka_unit_test(test_chunks_in_the_order_of_the_answer),
        cmocka_unit_test(test_several_calls),
        cmocka_unit_test(test_events_of_a_response),
        cmocka_unit_test(test_response_that_breaks_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
