/* SPDX-License-Identifier: Apache-2.0
 *
 * router_wait_test.c - what happens to requests whose worker fails, and to those that find no place.
 */
#include "devices/l7_router/router_fixture.h"

/* ---- another worker --------------------------------------------------------------------------------------------- */

static void test_least_loaded(void **state)
{
    (void)state;
    tell(SECOND, &(struct says){true, 4, 0, 2, 1, BIG}); /* others keep it busy */
    for (size_t i = 0; i < 4; i++)
        assert_ptr_equal(chat(i, NULL)->link, &rt.links[i < 3 ? FIRST : SECOND]);
    for (size_t i = 0; i < 4; i++)
        answer(&rt.reqs[i], DBE_MSG_L7_CHAT_RESP, true);
}

static void test_failover_before_the_first_token(void **state)
{
    struct svc_req *waits = chat(0, NULL);

    (void)state;
    assert_ptr_equal(waits->link, &rt.links[FIRST]);
    down(FIRST);
    assert_ptr_equal(waits->link, &rt.links[SECOND]);
    assert_int_equal(waits->forwarded, 2);
    assert_int_equal(router->failovers, 1);
    answer(waits, DBE_MSG_L7_CHAT_RESP, true);
    assert_int_equal(waits->ended, 1);
    assert_int_equal(waits->refused, DBE_OK);
}

/* spec 18.10: what is sealed to one worker goes there, and to no other when that fails */
static void test_sealed_goes_to_its_worker_alone(void **state)
{
    (void)state;
    rt.sealed_to = router->workers[SECOND].device;
    for (size_t i = 0; i < 3; i++) /* however idle the other is */
        assert_ptr_equal(chat(i, NULL)->link, &rt.links[SECOND]);
    assert_int_equal(router->kept_bytes, 0);
    down(SECOND);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(rt.reqs[i].forwarded, 1);
        assert_int_equal(rt.reqs[i].refused, DBE_E_UNAVAILABLE);
        assert_int_equal(rt.reqs[i].ended, 1);
    }
    assert_int_equal(router->failovers, 0);
    assert_int_equal(chat(3, NULL)->refused, DBE_E_UNAVAILABLE);
    assert_string_equal(rt.reqs[3].reason, "the worker that the prompt is sealed to is not up");
    rt.sealed_to = 99;
    assert_int_equal(chat(4, NULL)->refused, DBE_E_UNAVAILABLE);
    rt.sealed_to = 0;
    assert_ptr_equal(chat(5, NULL)->link, &rt.links[FIRST]);
    answer(&rt.reqs[5], DBE_MSG_L7_CHAT_RESP, true);
}

/* spec 18.9: cards are relayed as they came, kept while notices have none, and gone with their worker */
static void test_cards_are_relayed(void **state)
{
    uint8_t bytes[64];
    struct dbe_msg msg = message(bytes, sizeof bytes, DBE_MSG_L7_MODEL_STATUS, NULL, "", 0);
    const char *const want[] = {"first's card", "second's card"};

    (void)state;
    rt.card = want[0];
    tell(FIRST, &(struct says){true, 4, 0, 0, 1, BIG});
    rt.card = want[1];
    tell(SECOND, &(struct says){true, 4, 0, 0, 1, BIG});
    rt.card = NULL;
    tell(FIRST, &(struct says){true, 4, 0, 0, 1, BIG});
    for (size_t left = 2; left > 0; left--) {
        rt.reply_len = 0;
        assert_int_equal(router_on_model_status(NULL, router, &rt.reqs[0], &msg), DBE_OK);
        Dsmil__L7ModelStatus *status = dsmil__l7_model_status__unpack(NULL, rt.reply_len, rt.reply);
        assert_non_null(status);
        assert_int_equal(status->n_cards, left);
        for (size_t i = 0; i < left; i++) {
            assert_int_equal(status->cards[i].len, strlen(want[i]));
            assert_memory_equal(status->cards[i].data, want[i], strlen(want[i]));
        }
        dsmil__l7_model_status__free_unpacked(status, NULL);
        down(SECOND);
    }
    up(SECOND);
    tell(SECOND, &(struct says){true, 4, 0, 0, 1, BIG});
    assert_null(router->workers[SECOND].card);
}

static void test_no_failover_after_it(void **state)
{
    struct svc_req *begun = chat(0, NULL);

    (void)state;
    answer(begun, DBE_MSG_L7_CHAT_RESP, false);
    assert_int_equal(router->kept_bytes, 0); /* what can no longer be sent is not kept */
    down(FIRST);
    assert_int_equal(begun->forwarded, 1);
    assert_int_equal(begun->refused, DBE_E_UNAVAILABLE);
    assert_int_equal(begun->ended, 1);
    assert_int_equal(router->failovers, 0);
}

static void test_failover_is_bounded(void **state)
{
    struct svc_req *req = chat(0, NULL);

    (void)state;
    down(FIRST);
    down(SECOND);
    assert_int_equal(req->forwarded, 2);
    assert_int_equal(req->refused, DBE_E_UNAVAILABLE);
}

/* A request whose worker dies with it, whichever that is, is not tried for ever. */
static void test_a_request_that_kills(void **state)
{
    (void)state;
    router->config.queue = (struct router_limits){ROUTER_OVERLOAD_WAIT, 8, 2000};
    router->config.breaker.failures = 100;
    struct svc_req *req = chat(0, NULL);
    for (int i = 0; i < 10 && req->ended == 0; i++) {
        size_t at = req->link == &rt.links[FIRST] ? FIRST : SECOND;
        down(at);
        up(at);
        tell(at, &(struct says){true, 4, 0, 0, 1, BIG});
    }
    assert_int_equal(req->ended, 1);
    assert_int_equal(req->forwarded, 2); /* each worker once */
}

static void test_a_worker_that_cannot_is_no_answer(void **state)
{
    static const dbe_err own[] = {DBE_E_LIMIT, DBE_E_UNAVAILABLE, DBE_E_NOMEM, DBE_E_STATE, DBE_E_IO};
    static const dbe_err of_request[] = {DBE_E_CONTEXT, DBE_E_RANGE, DBE_E_TENANT, DBE_E_TIMEOUT};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(own); i++) {
        struct svc_req *req = chat(0, NULL);
        struct svc_link *first = req->link;
        answer_error(req, own[i]);
        assert_ptr_not_equal(req->link, first);
        answer_error(req, own[i]); /* the second cannot either: its words are passed on */
        assert_true(req->relayed == 1 && req->ended == 1 && req->forwarded == 2);
        router->workers[FIRST].breaker = router->workers[SECOND].breaker = (struct breaker){0};
    }
    for (size_t i = 0; i < BASE_ARRAY_LEN(of_request); i++) {
        struct svc_req *req = chat(0, NULL);
        answer_error(req, of_request[i]);
        assert_true(req->relayed == 1 && req->ended == 1 && req->forwarded == 1);
    }
}

static void test_stalled_worker_loses_its_requests_to_another(void **state)
{
    struct svc_req *req = chat(0, NULL);

    (void)state;
    for (int i = 0; i < 6; i++) { /* the second goes on talking */
        tick_after(1000);
        tell(SECOND, &(struct says){true, 4, 0, 0, 1, BIG});
    }
    assert_ptr_equal(req->link, &rt.links[SECOND]);
    assert_int_equal(rt.cancelled, 1); /* the first need not go on, should it wake up */
    answer(req, DBE_MSG_L7_CHAT_RESP, true);
}

static void test_out_of_time_is_told_and_not_tried_again(void **state)
{
    struct svc_req *req = chat(0, NULL);

    (void)state;
    req->deadline_ns = rt.now_ns;
    down(FIRST);
    assert_int_equal(req->forwarded, 1);
    assert_int_equal(req->ended, 1);
}

static void test_breaker(void **state)
{
    (void)state;
    down(SECOND);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(chat(i, NULL)->refused, DBE_OK);
        answer_error(&rt.reqs[i], DBE_E_STATE);
    }
    assert_int_equal(router->workers[FIRST].breaker.state, BREAKER_OPEN);
    assert_int_equal(chat(3, NULL)->refused, DBE_E_UNAVAILABLE);
    tick_after(1000);
    tell_status(true, 4, 1);
    struct svc_req *probe = chat(4, NULL);
    assert_int_equal(chat(5, NULL)->refused, DBE_E_UNAVAILABLE); /* one at a time */
    probe->on_gone(probe->user, probe, DBE_E_CANCELLED);         /* it said nothing */
    probe = chat(6, NULL);
    answer(probe, DBE_MSG_L7_CHAT_RESP, true);
    assert_int_equal(router->workers[FIRST].breaker.state, BREAKER_CLOSED);
}

/* ---- waiting ---------------------------------------------------------------------------------------------------- */

static void fill(size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(chat(i, NULL)->refused, DBE_OK);
}

static void finish(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (rt.reqs[i].ended == 0)
            answer(&rt.reqs[i], DBE_MSG_L7_CHAT_RESP, true);
}

static void test_wait_for_a_place(void **state)
{
    (void)state;
    fill(6);
    assert_int_equal(router->queued, 2);
    assert_int_equal(rt.reqs[4].forwarded, 0);
    answer(&rt.reqs[0], DBE_MSG_L7_CHAT_RESP, true);
    assert_int_equal(rt.reqs[4].forwarded, 1);
    assert_int_equal(rt.reqs[5].forwarded, 0);
    rt.reqs[1].on_gone(rt.reqs[1].user, &rt.reqs[1], DBE_E_CANCELLED);
    rt.reqs[1].ended++; /* the runtime has forgotten it */
    assert_int_equal(rt.reqs[5].forwarded, 1);
    finish(0, 6);
}

static void test_wait_too_long(void **state)
{
    (void)state;
    fill(4);
    rt.now_ns += 100 * BASE_NS_PER_MS;
    answer(&rt.reqs[0], DBE_MSG_L7_CHAT_RESP, true); /* took 100 ms */
    assert_int_equal(chat(4, NULL)->refused, DBE_OK);
    assert_int_equal(chat(5, NULL)->refused, DBE_OK);
    rt.now_ns += 1999 * BASE_NS_PER_MS;
    router_on_queue_timer(router);
    assert_int_equal(rt.reqs[5].ended, 0);
    rt.now_ns += BASE_NS_PER_MS;
    router_on_queue_timer(router);
    assert_int_equal(rt.reqs[5].refused, DBE_E_LIMIT);
    assert_int_equal(rt.reqs[5].retry_ms, PACE_RETRY_MIN_MS); /* 100 ms, four at once */
    assert_int_equal(router->expired, 1);
    finish(1, 5);
}

static void test_queue_is_bounded_and_fair(void **state)
{
    (void)state;
    rt.tenant = "greedy";
    fill(12);
    assert_int_equal(chat(12, NULL)->refused, DBE_E_LIMIT);
    rt.tenant = "modest";
    struct svc_req *modest = chat(13, NULL);
    assert_int_equal(modest->ended, 0);
    assert_int_equal(rt.reqs[11].refused, DBE_E_LIMIT); /* the newest of whoever waits with most */
    answer(&rt.reqs[0], DBE_MSG_L7_CHAT_RESP, true);
    answer(&rt.reqs[1], DBE_MSG_L7_CHAT_RESP, true);
    assert_int_equal(modest->forwarded, 1); /* second in turns, not ninth */
    for (int round = 0; round < 3; round++)
        finish(2, 14);
}

/* A tenant with long answers does not keep out those who come later. */
static void test_places_are_kept_for_others(void **state)
{
    (void)state;
    router->config.reserve_percent = 25; /* one of four */
    rt.tenant = "greedy";
    fill(5);
    assert_int_equal(router->in_flight, 3);
    rt.tenant = "modest";
    assert_int_equal(chat(5, NULL)->forwarded, 1); /* past those who may not go on */
    assert_int_equal(chat(6, NULL)->forwarded, 0);
    answer(&rt.reqs[5], DBE_MSG_L7_CHAT_RESP, true);
    assert_int_equal(rt.reqs[6].forwarded, 1);
    assert_int_equal(rt.reqs[3].forwarded, 0);
    answer(&rt.reqs[0], DBE_MSG_L7_CHAT_RESP, true); /* now greedy holds two */
    assert_int_equal(rt.reqs[3].forwarded, 1);
    assert_int_equal(rt.reqs[4].forwarded, 0);
    router->config.queue.overload = ROUTER_OVERLOAD_REJECT;
    rt.tenant = "greedy";
    assert_int_equal(chat(7, NULL)->refused, DBE_E_LIMIT);
    assert_string_equal(rt.reqs[7].reason, "your tenant holds all places that one tenant may hold");
    for (int round = 0; round < 2; round++)
        finish(0, 7);
    assert_int_equal(share_held(&router->profiles[0].shares, "greedy"), 0);
    assert_int_equal(share_held(&router->profiles[0].shares, "modest"), 0);
}

static void test_those_who_wait_are_told(void **state)
{
    (void)state;
    fill(6);
    struct svc_req *left = &rt.reqs[4];
    left->on_gone(left->user, left, DBE_E_TIMEOUT);
    left->ended++;
    assert_int_equal(router->queued, 1);
    down(FIRST); /* four lose their worker, and the fifth waits on */
    assert_int_equal(rt.reqs[5].ended, 0);
    up(FIRST);
    tell_status(true, 4, 1);
    assert_int_equal(rt.reqs[5].forwarded, 1);
    finish(0, 6);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(rt.reqs[i].ended, 1);
}

static void test_nobody_overtakes(void **state)
{
    (void)state;
    fill(5);
    tell_status(true, 4, 1);
    assert_int_equal(chat(5, NULL)->forwarded, 0);
    tell_status(true, 6, 1); /* two more places */
    assert_true(rt.reqs[4].forwarded == 1 && rt.reqs[5].forwarded == 1);
    finish(0, 6);
}

static void test_sessions_and_ahead(void **state)
{
    (void)state;
    router->config.ahead = 1;
    tell(FIRST, &(struct says){true, 100, 2, 0, 1, BIG});
    fill(5);
    assert_int_equal(router->in_flight, 3); /* the rest waits here, where turns are fair */
    for (int round = 0; round < 2; round++)
        finish(0, 5);
}

int main(void)
{
#define WITH_TWO(test) cmocka_unit_test_setup_teardown(test, set_up_two, tear_down)
#define WITH_QUEUE(test) cmocka_unit_test_setup_teardown(test, set_up_queue, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_TWO(test_least_loaded),
        WITH_TWO(test_failover_before_the_first_token),
        WITH_TWO(test_sealed_goes_to_its_worker_alone),
        WITH_TWO(test_cards_are_relayed),
        WITH_TWO(test_no_failover_after_it),
        WITH_TWO(test_failover_is_bounded),
        WITH_TWO(test_a_request_that_kills),
        WITH_TWO(test_a_worker_that_cannot_is_no_answer),
        WITH_TWO(test_stalled_worker_loses_its_requests_to_another),
        WITH_TWO(test_out_of_time_is_told_and_not_tried_again),
        WITH_TWO(test_breaker),
        WITH_QUEUE(test_wait_for_a_place),
        WITH_QUEUE(test_wait_too_long),
        WITH_QUEUE(test_queue_is_bounded_and_fair),
        WITH_QUEUE(test_places_are_kept_for_others),
        WITH_QUEUE(test_those_who_wait_are_told),
        WITH_QUEUE(test_nobody_overtakes),
        WITH_QUEUE(test_sessions_and_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
