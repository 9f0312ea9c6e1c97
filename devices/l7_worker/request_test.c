/* SPDX-License-Identifier: Apache-2.0
 *
 * request_test.c - what the worker accepts as a request.
 */
#include "devices/l7_worker/test_request.h"

#include <math.h>

#include "crypto/crypto.h"
#include "dbe/payload.h"

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

/* spec 18: a prompt that is sealed does not come as one in clear. */
static void test_sealed_is_not_clear(void **state)
{
    struct request q;
    struct engine_chat chat = {0};
    const char *reason = NULL;
    uint8_t bytes[] = {1, 2, 3};

    (void)state;
    request_init(&q);
    q.r.sealed = (ProtobufCBinaryData){sizeof bytes, bytes};
    assert_int_equal(read_it(&q, &chat, &reason), DBE_E_AUTH);
    assert_non_null(strstr(reason, "sealed"));
    assert_null(chat.owned);
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
    q.r.n = WORKER_N_MAX + 1;
    assert_int_equal(read_whole(&q, &whole, &reason), DBE_E_RANGE);
}

/* spec 19.8: a prompt is told where a text is continued, and then there may be no answer. */
static void test_echo(void **state)
{
    struct request q;
    struct engine_chat chat = {0};
    const char *reason;

    (void)state;
    request_init(&q);
    q.r.echo = 1;
    assert_int_equal(read_it(&q, &chat, &reason), DBE_E_RANGE);
    assert_memory_equal(reason, "echo:", 5);
    q.r.raw = 1;
    q.r.has_max_tokens_case = DSMIL__L7_CHAT_REQUEST__HAS_MAX_TOKENS_MAX_TOKENS;
    q.r.max_tokens = 0;
    assert_int_equal(read_it(&q, &chat, &reason), DBE_OK);
    assert_true(chat.echo && chat.params.prompt_only);
    chat.free_owned(chat.owned);
    q.r.max_tokens = 1;
    assert_int_equal(read_it(&q, &chat, &reason), DBE_OK);
    assert_true(chat.echo && !chat.params.prompt_only);
    chat.free_owned(chat.owned);
    q.r.echo = 0;
    q.r.max_tokens = 0;
    assert_int_equal(read_it(&q, &chat, &reason), DBE_E_RANGE);
    assert_memory_equal(reason, "max_tokens:", 11);
}

/* What finds no room in one answer is refused before it is computed; a stream has room. */
static void test_echo_of_much(void **state)
{
    enum { MOST = DBE_PAYLOAD_ELEMENTS_MAX / 3 };
    static uint32_t ids[MOST + 1];
    Dsmil__TokenList tokens = DSMIL__TOKEN_LIST__INIT, *list[] = {&tokens};
    struct request q;
    struct engine_chat chat = {0};
    const char *reason;

    (void)state;
    request_init(&q);
    q.r.n_messages = 0;
    q.r.raw = q.r.echo = 1;
    q.r.logprobs = 2;
    q.r.prompts = list;
    q.r.n_prompts = 1;
    tokens.ids = ids;
    tokens.n_ids = MOST;
    assert_int_equal(read_it(&q, &chat, &reason), DBE_OK);
    chat.free_owned(chat.owned);
    tokens.n_ids++;
    assert_int_equal(read_it(&q, &chat, &reason), DBE_E_TOO_LARGE);
    assert_memory_equal(reason, "logprobs:", 9);
    q.r.stream = 1;
    assert_int_equal(read_it(&q, &chat, &reason), DBE_OK);
    chat.free_owned(chat.owned);
}

/* spec 19.1: answers to several prompts stand prompt by prompt. */
static void test_several_prompts(void **state)
{
    struct request q;
    struct worker_request whole = {0};
    uint32_t ids[] = {5, 99};
    Dsmil__TokenList lists[3], *list[3];
    const char *reason;

    (void)state;
    request_init(&q);
    q.r.raw = 1;
    q.r.n_messages = 2;
    q.r.n = 3;
    q.r.has_seed_case = DSMIL__L7_CHAT_REQUEST__HAS_SEED_SEED;
    q.r.seed = 7;
    assert_int_equal(read_whole(&q, &whole, &reason), DBE_OK);
    assert_int_equal(whole.count, 6);
    for (uint32_t i = 0; i < 6; i++) {
        struct engine_chat one = whole.chat;
        worker_request_prompt(&one, i, whole.n);
        assert_int_equal(one.count, 1);
        assert_ptr_equal(one.messages, &whole.chat.messages[i / 3]);
        assert_int_equal(one.params.seed, 7 + i % 3);
    }
    whole.chat.free_owned(whole.chat.owned);

    for (size_t i = 0; i < 3; i++) {
        dsmil__token_list__init(&lists[i]);
        lists[i].ids = ids;
        lists[i].n_ids = 1 + i % 2;
        list[i] = &lists[i];
    }
    q.r.prompts = list;
    q.r.n_prompts = 3;
    assert_int_equal(read_whole(&q, &whole, &reason), DBE_E_RANGE); /* beside texts */
    q.r.n_messages = 0;
    assert_int_equal(read_whole(&q, &whole, &reason), DBE_E_RANGE);
    assert_string_equal(reason, "prompt: token 99 is not in the model's vocabulary of 99");
    ids[1] = 98;
    assert_int_equal(read_whole(&q, &whole, &reason), DBE_OK);
    struct engine_chat last = whole.chat;
    worker_request_prompt(&last, 5, whole.n);
    assert_int_equal(last.tokens->count, 2);
    assert_int_equal(last.tokens->ids[1], 98);
    whole.chat.free_owned(whole.chat.owned);
    lists[1].n_ids = 0;
    assert_int_equal(read_whole(&q, &whole, &reason), DBE_E_RANGE);
    q.r.raw = 0;
    assert_int_equal(read_whole(&q, &whole, &reason), DBE_E_RANGE);
    request_init(&q);
    q.r.raw = 1;
    q.r.n_messages = 5;
    q.r.n = 7; /* 35 answers */
    assert_int_equal(read_whole(&q, &whole, &reason), DBE_E_RANGE);
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
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_what_is_said_counts),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_bytes_that_are_no_request),
        cmocka_unit_test(test_sealed_is_not_clear),
        cmocka_unit_test(test_allocation_and_randomness_fail),
        cmocka_unit_test(test_answers_share_their_request),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_echo_of_much),
        cmocka_unit_test(test_several_prompts),
        cmocka_unit_test(test_who_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
