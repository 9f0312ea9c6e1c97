/* SPDX-License-Identifier: Apache-2.0
 *
 * router_test.c - the walk of a request and the table of workers.
 */
#include "devices/l7_router/router_fixture.h"

/* ---- tests ------------------------------------------------------------------------------------------------------ */

static void test_answer_in_one(void **state)
{
    struct svc_req *req = chat(0, NULL);

    (void)state;
    assert_int_equal(router->workers[0].in_flight, 1);
    assert_int_equal(req->ended, 0);
    answer(req, DBE_MSG_L7_CHAT_RESP, true);
    assert_int_equal(req->relayed, 1);
    assert_int_equal(req->ended, 1);
    assert_int_equal(rt.cancelled, 0);
}

static void test_streamed_answer(void **state)
{
    struct svc_req *req = chat(0, "llm-7b-amx");

    (void)state;
    for (int i = 0; i < 5; i++)
        answer(req, DBE_MSG_L7_CHAT_RESP, false);
    assert_int_equal(req->ended, 0);
    answer(req, DBE_MSG_L7_CHAT_RESP, true);
    assert_int_equal(req->relayed, 6);
    assert_int_equal(req->ended, 1);
}

static void test_refusal_of_the_worker_is_passed_on(void **state)
{
    struct svc_req *req = chat(0, NULL);

    (void)state;
    answer(req, DBE_MSG_L7_CHAT_RESP, false);
    answer(req, DBE_MSG_ERROR, true);
    assert_int_equal(req->relayed, 2);
    assert_int_equal(req->ended, 1);
    assert_int_equal(req->refused, DBE_OK);
}

static void test_no_worker_for_it(void **state)
{
    (void)state;
    assert_int_equal(chat(0, "made-up")->refused, DBE_E_PROFILE);
    assert_int_equal(chat(1, "llm-1b-npu")->refused, DBE_E_UNAVAILABLE); /* configured, and not there */
    down(FIRST);
    assert_int_equal(chat(2, NULL)->refused, DBE_E_UNAVAILABLE);
    assert_int_equal(chat(3, "made-up")->refused, DBE_E_PROFILE);
    assert_false(l7_router_device.ready(NULL, router));
    up(FIRST);
    assert_int_equal(chat(4, NULL)->refused, DBE_E_UNAVAILABLE); /* up, and has not said yet that it is ready */
    tell_status(true, 4, 1);
    assert_true(l7_router_device.ready(NULL, router));
    answer(chat(5, NULL), DBE_MSG_L7_CHAT_RESP, true);
    assert_int_equal(rt.reqs[5].relayed, 1);
}

static void test_worker_that_is_full(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(chat(i, NULL)->refused, DBE_OK);
    assert_int_equal(chat(4, NULL)->refused, DBE_E_LIMIT);
    answer(&rt.reqs[0], DBE_MSG_L7_CHAT_RESP, true);
    assert_int_equal(chat(5, NULL)->refused, DBE_OK);
    for (size_t i = 1; i < 6; i++)
        if (rt.reqs[i].ended == 0)
            answer(&rt.reqs[i], DBE_MSG_L7_CHAT_RESP, true);
}

static void test_calls_that_end_badly(void **state)
{
    static const struct {
        dbe_err why, told;
    } rows[] = {
        {DBE_E_CLOSED, DBE_E_UNAVAILABLE}, {DBE_E_TIMEOUT, DBE_E_TIMEOUT}, {DBE_E_CANCELLED, DBE_E_UNAVAILABLE}};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        tell_status(true, 4, 1);
        struct svc_req *req = chat(i, NULL);
        answer(req, DBE_MSG_L7_CHAT_RESP, false); /* in the middle of an answer */
        req->fn(req->ctx, NULL, true, rows[i].why);
        assert_int_equal(req->refused, rows[i].told);
        assert_int_equal(req->ended, 1);
    }
    assert_int_equal(rt.cancelled, 0); /* there was nothing left to cancel */
}

static void test_caller_leaves(void **state)
{
    struct svc_req *req = chat(0, NULL);

    (void)state;
    answer(req, DBE_MSG_L7_CHAT_RESP, false);
    req->on_gone(req->user, req, DBE_E_CANCELLED);
    assert_int_equal(rt.cancelled, 1);
    assert_int_equal(rt.cancelled_id, req->call_id);
    assert_int_equal(req->ended, 0); /* nobody to tell */
}

static void test_caller_that_reads_too_slowly(void **state)
{
    struct svc_req *req = chat(0, NULL);

    (void)state;
    rt.relay_err = DBE_E_LIMIT;
    answer(req, DBE_MSG_L7_CHAT_RESP, false);
    assert_int_equal(req->refused, DBE_E_LIMIT);
    assert_int_equal(rt.cancelled, 1);
    req = chat(1, NULL); /* the last message does not fit either: the call is over, nothing to cancel */
    answer(req, DBE_MSG_L7_CHAT_RESP, true);
    assert_int_equal(req->refused, DBE_E_LIMIT);
    assert_int_equal(rt.cancelled, 1);
}

static void test_forwarding_fails(void **state)
{
    static const struct {
        dbe_err err, told;
    } rows[] = {{DBE_E_LIMIT, DBE_E_LIMIT},
                {DBE_E_CLASSIFICATION, DBE_E_CLASSIFICATION},
                {DBE_E_CLOSED, DBE_E_UNAVAILABLE},
                {DBE_E_UNAVAILABLE, DBE_E_UNAVAILABLE}};

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        rt.forward_err = rows[i].err;
        assert_int_equal(chat(i, NULL)->refused, rows[i].told);
    }
    assert_int_equal(rt.cancelled, 0);
}

static void test_jobs_are_bounded(void **state)
{
    (void)state;
    tell_status(true, 0, 1); /* a worker that names no maximum */
    for (size_t i = 0; i < ROUTER_JOBS_MAX; i++)
        assert_int_equal(chat(i, NULL)->refused, DBE_OK);
    assert_int_equal(chat(ROUTER_JOBS_MAX, NULL)->refused, DBE_E_LIMIT);
    for (size_t i = 0; i < ROUTER_JOBS_MAX; i++)
        answer(&rt.reqs[i], DBE_MSG_L7_CHAT_RESP, true);
}

/* What the router said last. */
static Dsmil__L7ModelStatus *said(void)
{
    Dsmil__L7ModelStatus *status = dsmil__l7_model_status__unpack(NULL, rt.reply_len, rt.reply);

    assert_non_null(status);
    return status;
}

static Dsmil__L7ModelStatus *ask_router(void)
{
    uint8_t bytes[256];
    struct dbe_msg msg = message(bytes, sizeof bytes, DBE_MSG_L7_MODEL_STATUS, NULL, "", 0);

    assert_int_equal(router_on_model_status(NULL, router, &rt.reqs[0], &msg), DBE_OK);
    assert_true(rt.reqs[0].ended > 0);
    return said();
}

/* A request that stays open in slot 0. */
static struct svc_req *watch_router(void)
{
    Dsmil__L7ModelStatus question = DSMIL__L7_MODEL_STATUS__INIT;
    uint8_t bytes[256], packed[16];
    struct svc_req *req = &rt.reqs[0];

    question.watch = true;
    size_t len = dsmil__l7_model_status__pack(&question, packed);
    struct dbe_msg msg = message(bytes, sizeof bytes, DBE_MSG_L7_MODEL_STATUS, NULL, packed, len);
    memset(req, 0, sizeof *req);
    req->deadline_ns = rt.now_ns + 60 * BASE_NS_PER_S;
    assert_int_equal(router_on_model_status(NULL, router, req, &msg), DBE_OK);
    assert_true(req->replied == 1 && req->ended == 0);
    return req;
}

/* Who watches is told at once what is there and what no longer is, and once a second that all is as it was. */
static void test_watching(void **state)
{
    struct svc_req *req = watch_router();
    Dsmil__L7ModelStatus *status;

    (void)state;
    tell_status(true, 4, 1);
    assert_int_equal(req->replied, 1); /* nothing new */
    tick_after(1000);
    assert_int_equal(req->replied, 2);
    tell_status(true, 4, 0);
    assert_int_equal(req->replied, 3);
    status = said();
    assert_true(!status->ready && status->n_models == 0);
    dsmil__l7_model_status__free_unpacked(status, NULL);
    tell_status(true, 4, 1);
    rt.card = "a card";
    tell_status(true, 4, 1);
    assert_int_equal(req->replied, 5);
    status = said();
    assert_true(status->ready && status->n_models == 1 && status->n_cards == 1);
    dsmil__l7_model_status__free_unpacked(status, NULL);
    down(FIRST);
    assert_int_equal(req->replied, 6);
    assert_int_equal(req->ended, 0);
    l7_router_device.drain(NULL, router);
    assert_true(req->replied == 7 && req->ended == 1);
    tick_after(1000);
    assert_int_equal(req->replied, 7);
}

/* A watch ends with an answer before its deadline would end it with an error; one whose caller left is forgotten. */
static void test_watches_end(void **state)
{
    struct svc_req *req = watch_router();

    (void)state;
    req->deadline_ns = rt.now_ns + 2500 * (uint64_t)BASE_NS_PER_MS;
    tell_status(true, 4, 1);
    tick_after(1000);
    assert_true(req->replied == 2 && req->ended == 1);
    req = watch_router();
    req->on_gone(req->user, req, DBE_E_CLOSED);
    tick_after(1000);
    assert_int_equal(req->replied, 1);
}

/* At the start the router is ready when every worker that is there has said how it is, and nobody is waited for. */
static void test_start(void **state)
{
    Dsmil__L7ModelStatus *status;

    (void)state;
    router->settled = false;
    rt.starting = true;
    tell_status(true, 4, 1);
    assert_false(l7_router_device.ready(NULL, router));
    status = ask_router();
    assert_true(!status->ready && status->n_models == 1); /* one that asks may have an answer nevertheless */
    dsmil__l7_model_status__free_unpacked(status, NULL);
    up(SECOND);
    rt.starting = false;
    tick_after(100);
    assert_false(l7_router_device.ready(NULL, router)); /* the second has not said anything */
    struct svc_req *req = watch_router();
    tell(SECOND, &(struct says){true, 4, 0, 0, 1, "llm-1b-npu"});
    assert_true(l7_router_device.ready(NULL, router));
    assert_int_equal(req->replied, 2);
    status = said();
    assert_true(status->ready && status->n_models == 2);
    dsmil__l7_model_status__free_unpacked(status, NULL);
    down(SECOND); /* one is enough from now on, and one that comes back is not waited for */
    assert_true(l7_router_device.ready(NULL, router));
    up(SECOND);
    assert_true(l7_router_device.ready(NULL, router));
    down(FIRST);
    assert_false(l7_router_device.ready(NULL, router));
    router_status_drain(NULL, router);
}

/* A worker whose channel stands and which says nothing is not waited for longer than for a sign of life. */
static void test_start_with_a_mute_worker(void **state)
{
    (void)state;
    router->settled = false;
    up(SECOND);
    tick_after(100);
    tell_status(true, 4, 1);
    assert_false(l7_router_device.ready(NULL, router));
    for (int i = 0; i < 3; i++) {
        tick_after(1000);
        tell_status(true, 4, 1);
    }
    assert_true(l7_router_device.ready(NULL, router));
}

static void test_models(void **state)
{
    (void)state;
    Dsmil__L7ModelStatus *status = ask_router();
    assert_int_equal(status->n_models, 1);
    assert_true(status->ready);
    assert_string_equal(status->models[0]->id, "tiny");
    assert_int_equal(status->models[0]->device_id, 47); /* whatever the worker says it is */
    dsmil__l7_model_status__free_unpacked(status, NULL);

    tell_status(true, 4, ROUTER_MODELS_MAX + 4); /* more than there is room for, all the same */
    status = ask_router();
    assert_int_equal(status->n_models, 1);
    dsmil__l7_model_status__free_unpacked(status, NULL);

    down(FIRST);
    status = ask_router();
    assert_int_equal(status->n_models, 0);
    assert_false(status->ready);
    dsmil__l7_model_status__free_unpacked(status, NULL);
}

static void test_questions_to_workers(void **state)
{
    uint8_t bytes[256];
    struct dbe_msg bad = message(bytes, sizeof bytes, DBE_MSG_L7_MODEL_STATUS, NULL, "\xFF\xFF", 2);
    dbe_reply_fn *ask = rt.links[FIRST].ask;

    (void)state;
    assert_int_equal(rt.asked, 1);
    tick_after(1000); /* the question stays open */
    assert_int_equal(rt.asked, 1);
    ask(rt.links[FIRST].ask_ctx, &bad, false, DBE_OK);
    assert_false(router->workers[FIRST].ready);
    tell_status(true, 4, 1);
    assert_true(router->workers[FIRST].ready);
    rt.links[FIRST].ask = NULL;
    ask(rt.links[FIRST].ask_ctx, NULL, true, DBE_E_TIMEOUT); /* its deadline; the worker is well */
    assert_true(router->workers[FIRST].ready);
    tick_after(1000);
    assert_int_equal(rt.asked, 2);
    tell_status(true, 4, 0); /* ready without a model is not ready */
    assert_false(router->workers[FIRST].ready);
    tell_status(true, 4, 1);
    ask = rt.links[FIRST].ask;
    rt.links[FIRST].ask = NULL;
    ask(rt.links[FIRST].ask_ctx, NULL, true, DBE_E_UNSUPPORTED); /* it will not say */
    assert_false(router->workers[FIRST].ready);
    tick_after(1000);
    l7_router_device.drain(NULL, router);
    assert_null(rt.links[FIRST].ask); /* nothing that would hold a drain up */
}

/* Silence may be bad luck; twice as long ends what waits for the worker. */
static void test_worker_that_stalls(void **state)
{
    struct svc_req *req = chat(0, NULL);

    (void)state;
    answer(req, DBE_MSG_L7_CHAT_RESP, false);
    tick_after(2600);
    assert_int_equal(req->ended, 0);
    assert_int_equal(chat(1, NULL)->refused, DBE_E_UNAVAILABLE); /* nothing new for it */
    tell_status(true, 4, 1);                                     /* it was bad luck: counted anew */
    tick_after(2600);
    assert_int_equal(req->ended, 0);
    tick_after(2500);
    assert_int_equal(req->ended, 1);
    assert_int_equal(req->refused, DBE_E_UNAVAILABLE);
    assert_int_equal(rt.cancelled, 1);
    assert_int_equal(rt.cancelled_id, req->call_id);
}

/* ---- tasks, questions to policy --------------------------------------------------------------------------------- */

static void test_tasks(void **state)
{
    (void)state;
    assert_int_equal(request(0, DBE_MSG_L7_AGENT_TASK, NULL)->refused, DBE_E_UNAVAILABLE);
    up(AGENT);
    tell(AGENT, &(struct says){true, 2, 2, 0, 0, ""});
    struct svc_req *task = request(1, DBE_MSG_L7_AGENT_TASK, BIG); /* the profile is for the agent's own calls */
    assert_ptr_equal(task->link, &rt.links[AGENT]);
    assert_int_equal(chat(2, ROUTER_TASK_PROFILE)->refused, DBE_E_PROFILE); /* a chat is no task */
    answer(task, DBE_MSG_L7_AGENT_RESULT, true);
    assert_int_equal(task->relayed, 1);
}

static uint64_t counted(const char *labels)
{
    for (const struct svc_counter *c = l7_router_device.counters; c->name != NULL; c++)
        if (strcmp(c->name, "dsmil_l7_router_requests_total") == 0 && strcmp(c->labels, labels) == 0)
            return *(const uint64_t *)(const void *)((const uint8_t *)router + c->offset);
    return UINT64_MAX;
}

static void test_requests_are_counted_by_their_kind(void **state)
{
    (void)state;
    answer(chat(0, BIG), DBE_MSG_L7_CHAT_RESP, true);
    answer(chat(1, BIG), DBE_MSG_L7_CHAT_RESP, true);
    answer(request(2, DBE_MSG_L7_EMBED_REQ, BIG), DBE_MSG_L7_EMBED_RESP, true);
    assert_int_equal(request(3, DBE_MSG_L7_AGENT_TASK, NULL)->refused, DBE_E_UNAVAILABLE); /* no agent is up */
    assert_int_equal(counted("device_id=\"43\",kind=\"chat\""), 2);
    assert_int_equal(counted("device_id=\"43\",kind=\"embedding\""), 1);
    assert_int_equal(counted("device_id=\"43\",kind=\"task\""), 1);
}

static void test_policy_check(void **state)
{
    Dsmil__L7PolicyCheck question = DSMIL__L7_POLICY_CHECK__INIT;
    uint8_t payload[64], bytes[256];

    (void)state;
    question.msg_type = DBE_MSG_L7_CHAT_REQ;
    question.dst_device = 47;
    size_t len = dsmil__l7_policy_check__pack(&question, payload);
    struct dbe_msg msg = message(bytes, sizeof bytes, DBE_MSG_L7_POLICY_CHECK, NULL, payload, len);
    rt.verdict = (struct pol_verdict){.code = DBE_E_COMPARTMENT, .rule = "compartment", .reason = "too high"};
    assert_int_equal(router_on_policy_check(NULL, router, &rt.reqs[0], &msg), DBE_OK);
    Dsmil__L7PolicyCheck *said = dsmil__l7_policy_check__unpack(NULL, rt.reply_len, rt.reply);
    assert_true(said != NULL && said->answered && !said->allowed && said->code == DBE_E_COMPARTMENT);
    assert_string_equal(said->rule, "compartment");
    assert_string_equal(said->reason, "too high");
    dsmil__l7_policy_check__free_unpacked(said, NULL);
    msg = message(bytes, sizeof bytes, DBE_MSG_L7_POLICY_CHECK, NULL, "\xFF", 1);
    assert_int_equal(router_on_policy_check(NULL, router, &rt.reqs[0], &msg), DBE_E_MALFORMED);
    question.msg_type = 0x1141;
    len = dsmil__l7_policy_check__pack(&question, payload);
    msg = message(bytes, sizeof bytes, DBE_MSG_L7_POLICY_CHECK, NULL, payload, len);
    assert_int_equal(router_on_policy_check(NULL, router, &rt.reqs[0], &msg), DBE_E_RANGE);
}

static void test_needs_a_worker(void **state)
{
    struct router *alone = calloc(1, sizeof *alone);
    struct dbe_diag diag = {0};

    (void)state;
    rt.link_count = 0;
    assert_int_equal(l7_router_device.init(NULL, alone, &diag), DBE_E_CONFIG);
    assert_non_null(strstr(diag.text, "--link-worker-47"));
    free(alone);
}

int main(void)
{
#define WITH_ROUTER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_ROUTER(test_answer_in_one),
        WITH_ROUTER(test_streamed_answer),
        WITH_ROUTER(test_refusal_of_the_worker_is_passed_on),
        WITH_ROUTER(test_no_worker_for_it),
        WITH_ROUTER(test_worker_that_is_full),
        WITH_ROUTER(test_calls_that_end_badly),
        WITH_ROUTER(test_caller_leaves),
        WITH_ROUTER(test_caller_that_reads_too_slowly),
        WITH_ROUTER(test_forwarding_fails),
        WITH_ROUTER(test_jobs_are_bounded),
        WITH_ROUTER(test_models),
        WITH_ROUTER(test_watching),
        WITH_ROUTER(test_watches_end),
        WITH_ROUTER(test_start),
        WITH_ROUTER(test_start_with_a_mute_worker),
        WITH_ROUTER(test_questions_to_workers),
        WITH_ROUTER(test_worker_that_stalls),
        WITH_ROUTER(test_tasks),
        WITH_ROUTER(test_requests_are_counted_by_their_kind),
        WITH_ROUTER(test_policy_check),
        WITH_ROUTER(test_needs_a_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
