/* SPDX-License-Identifier: Apache-2.0
 *
 * router_quota_test.c - a tenant's limits on the walk of a request: what is reserved, what comes back, what is told.
 */
#include "devices/l7_router/router_fixture.h"

static void limit(struct pol_limits limits)
{
    pol_policy_default(&rt.policy);
    rt.policy.any.limits = limits;
}

static struct pol_usage usage(void)
{
    struct pol_usage u;

    pol_rate_usage(router->rates, "t", rt.now_ns / BASE_NS_PER_MS, &u);
    return u;
}

/* A whole answer of so many tokens. */
static void answer_tokens(struct svc_req *req, uint32_t prompt, uint32_t completion)
{
    Dsmil__L7ChatResponse r = DSMIL__L7_CHAT_RESPONSE__INIT;
    Dsmil__Usage u = DSMIL__USAGE__INIT;
    uint8_t packed[64];

    u.prompt_tokens = prompt;
    u.completion_tokens = completion;
    u.total_tokens = prompt + completion;
    r.usage = &u;
    answer_with(req, DBE_MSG_L7_CHAT_RESP, packed, dsmil__l7_chat_response__pack(&r, packed), true);
}

/* A chat request that asks for at most `max_tokens`. */
static struct svc_req *chat_for(size_t slot, uint32_t max_tokens)
{
    Dsmil__L7ChatRequest c = DSMIL__L7_CHAT_REQUEST__INIT;
    Dsmil__ChatMessage m = DSMIL__CHAT_MESSAGE__INIT, *messages[] = {&m};
    uint8_t packed[128];

    m.role = (char *)(uintptr_t) "user";
    m.content = (char *)(uintptr_t) "hello";
    c.messages = messages;
    c.n_messages = 1;
    c.has_max_tokens_case = DSMIL__L7_CHAT_REQUEST__HAS_MAX_TOKENS_MAX_TOKENS;
    c.max_tokens = max_tokens;
    return request_with(slot, DBE_MSG_L7_CHAT_REQ, NULL, packed, dsmil__l7_chat_request__pack(&c, packed));
}

static void requests_within_a_minute(void **state)
{
    (void)state;
    limit((struct pol_limits){.requests = {2, 60000}});
    answer(chat(0, NULL), DBE_MSG_L7_CHAT_RESP, true);
    answer(chat(1, NULL), DBE_MSG_L7_CHAT_RESP, true);
    assert_int_equal(chat(2, NULL)->refused, DBE_E_LIMIT);
    assert_in_range(rt.reqs[2].retry_ms, 60000, 60034);
    assert_non_null(strstr(rt.reqs[2].reason, "2 of 2 requests"));
    assert_int_equal(rt.limits_audited, 1); /* the one that was refused */
    rt.tenant = "other";                    /* has an account of its own */
    assert_int_equal(chat(3, NULL)->refused, DBE_OK);
    answer(&rt.reqs[3], DBE_MSG_L7_CHAT_RESP, true);
    rt.tenant = NULL;
    rt.now_ns += (uint64_t)rt.reqs[2].retry_ms * BASE_NS_PER_MS;
    tell_status(true, 4, 1);
    assert_int_equal(chat(4, NULL)->refused, DBE_OK);
    answer(&rt.reqs[4], DBE_MSG_L7_CHAT_RESP, true);
}

/* Texts to embed are reserved by their bytes, and settled by the worker's count. */
static void embedded_tokens_are_settled(void **state)
{
    Dsmil__L7EmbedRequest ask = DSMIL__L7_EMBED_REQUEST__INIT;
    Dsmil__L7EmbedResponse r = DSMIL__L7_EMBED_RESPONSE__INIT;
    Dsmil__Usage u = DSMIL__USAGE__INIT;
    char *texts[] = {(char *)(uintptr_t) "one text of several words"};
    uint8_t packed[128];

    (void)state;
    limit((struct pol_limits){.tokens = {1000, 60000}});
    ask.input = texts;
    ask.n_input = 1;
    struct svc_req *req =
        request_with(0, DBE_MSG_L7_EMBED_REQ, NULL, packed, dsmil__l7_embed_request__pack(&ask, packed));
    assert_int_equal(req->refused, DBE_OK);
    assert_in_range(usage().tokens, strlen(texts[0]), sizeof packed);
    u.prompt_tokens = u.total_tokens = 6;
    r.usage = &u;
    answer_with(req, DBE_MSG_L7_EMBED_RESP, packed, dsmil__l7_embed_response__pack(&r, packed), true);
    assert_int_equal(usage().tokens, 6);
}

/* A sealed prompt that asks for several answers takes as many contexts; nothing else of it counts. */
static void sealed_answers_count(void **state)
{
    const uint32_t said[] = {0, 1, 3, 32, 4000000000U}, counted[] = {1, 1, 3, 32, 32};
    Dsmil__L7ChatRequest c = DSMIL__L7_CHAT_REQUEST__INIT;
    uint8_t packed[128], sealed[16] = {1};
    uint64_t context = 0;

    (void)state;
    limit((struct pol_limits){.tokens = {1000000000, 60000}});
    c.sealed = (ProtobufCBinaryData){sizeof sealed, sealed};
    c.n = 8; /* what stands in clear beside it binds nobody */
    c.has_max_tokens_case = DSMIL__L7_CHAT_REQUEST__HAS_MAX_TOKENS_MAX_TOKENS;
    c.max_tokens = 1;
    for (size_t i = 0; i < BASE_ARRAY_LEN(said); i++) {
        const uint64_t before = usage().tokens;
        c.answers = said[i];
        (void)request_with(i, DBE_MSG_L7_CHAT_REQ, NULL, packed, dsmil__l7_chat_request__pack(&c, packed));
        context = i == 0 ? usage().tokens : context;
        assert_int_equal(usage().tokens - before, context * counted[i]);
        rt.reqs[i].on_gone(rt.reqs[i].user, &rt.reqs[i], DBE_E_CANCELLED);
        tell_status(true, 4, 1);
    }
    assert_true(context > 100);
}

static void requests_at_once(void **state)
{
    (void)state;
    limit((struct pol_limits){.parallel = 2});
    (void)chat(0, NULL);
    (void)chat(1, NULL);
    assert_int_equal(chat(2, NULL)->refused, DBE_E_LIMIT);
    rt.reqs[0].on_gone(rt.reqs[0].user, &rt.reqs[0], DBE_E_CANCELLED); /* however one ends, its place is free */
    assert_int_equal(chat(3, NULL)->refused, DBE_OK);
    answer(&rt.reqs[1], DBE_MSG_ERROR, true);
    answer(&rt.reqs[3], DBE_MSG_L7_CHAT_RESP, true);
    assert_int_equal(usage().parallel, 0);
}

static void tokens_are_reserved_and_settled(void **state)
{
    (void)state;
    limit((struct pol_limits){.tokens = {1000, 60000}});
    struct svc_req *req = chat_for(0, 400);
    assert_int_equal(req->refused, DBE_OK);
    assert_true(usage().tokens > 400 && usage().tokens < 450);
    assert_int_equal(chat_for(1, 600)->refused, DBE_E_LIMIT); /* counted together, though none has ended */
    answer_tokens(req, 7, 93);
    assert_int_equal(usage().tokens, 100);
    assert_int_equal(chat_for(2, 600)->refused, DBE_OK);
    answer_tokens(&rt.reqs[2], 7, 3);
    assert_int_equal(usage().tokens, 110);
    assert_int_equal(chat_for(3, 2000)->refused, DBE_E_TOO_LARGE); /* never fits */
    assert_int_equal(rt.reqs[3].retry_ms, 0);
}

static void what_was_never_served_comes_back(void **state)
{
    (void)state;
    limit((struct pol_limits){.requests = {10, 60000}, .tokens = {100000, 60000}});
    down(FIRST);
    assert_int_equal(chat_for(0, 50)->refused, DBE_E_UNAVAILABLE);
    assert_int_equal(usage().requests, 0);
    assert_int_equal(usage().tokens, 0);
    up(FIRST);
    tell_status(true, 4, 1);
    struct svc_req *req = chat_for(1, 50);
    answer(req, DBE_MSG_L7_CHAT_RESP, false); /* broken off in the middle: what was reserved counts */
    req->on_gone(req->user, req, DBE_E_CANCELLED);
    assert_int_equal(usage().requests, 1);
    assert_true(usage().tokens > 50);
    assert_int_equal(usage().parallel, 0);
}

static void a_changed_policy_binds_the_next_request(void **state)
{
    (void)state;
    limit((struct pol_limits){.requests = {10, 60000}});
    answer(chat(0, NULL), DBE_MSG_L7_CHAT_RESP, true);
    limit((struct pol_limits){.requests = {1, 60000}});
    assert_int_equal(chat(1, NULL)->refused, DBE_E_LIMIT);
    limit((struct pol_limits){0});
    assert_int_equal(chat(2, NULL)->refused, DBE_OK);
    answer(&rt.reqs[2], DBE_MSG_L7_CHAT_RESP, true);
}

int main(void)
{
#define ROUTER_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        ROUTER_TEST(requests_within_a_minute),
        ROUTER_TEST(requests_at_once),
        ROUTER_TEST(sealed_answers_count),
        ROUTER_TEST(embedded_tokens_are_settled),
        ROUTER_TEST(tokens_are_reserved_and_settled),
        ROUTER_TEST(what_was_never_served_comes_back),
        ROUTER_TEST(a_changed_policy_binds_the_next_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
