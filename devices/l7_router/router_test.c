/* SPDX-License-Identifier: Apache-2.0
 *
 * router_test.c - the walk of a chat request and the table of workers, on a runtime that this file plays.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "devices/l7_router/router.h"
#include "dsmil.pb-c.h"

/* ---- the runtime, played ---------------------------------------------------------------------------------------- */

enum { REQS = ROUTER_JOBS_MAX + 1 };

struct svc_link {
    const char *name;
};
struct svc_req { /* a request, and what became of it */
    void *user;
    void (*on_gone)(void *user, struct svc_req *req, dbe_err why);
    int relayed, ended; /* answers passed on; times it was finished */
    dbe_err refused;
    char reason[128];
    dbe_reply_fn *fn; /* of the forwarded call */
    void *ctx;
    uint64_t call_id;
};

static struct {
    struct svc_link link;
    struct svc_req reqs[REQS];
    dbe_reply_fn *ask; /* model status */
    void *ask_ctx;
    dbe_err forward_err, relay_err;
    int asked, cancelled;
    uint64_t next_id, cancelled_id;
    uint8_t reply[65536];
    size_t reply_len;
} rt;

uint64_t svc_now_ns(const struct svc *svc)
{
    (void)svc;
    return base_mono_ns();
}

void svc_log(struct svc *svc, enum svc_level level, const struct svc_req *req, const char *fmt, ...)
{
    (void)svc;
    (void)level;
    (void)req;
    (void)fmt;
}

void svc_dumpf(struct svc_dump *out, const char *fmt, ...)
{
    (void)out;
    (void)fmt;
}

void svc_observe(struct svc *svc, const char *metric, const char *labels, double value)
{
    (void)svc;
    (void)metric;
    assert_non_null(strstr(labels, "profile=\""));
    assert_true(value >= 0);
}

void svc_count(struct svc *svc, const char *metric, const char *labels, uint64_t add)
{
    (void)svc;
    (void)metric;
    assert_null(strstr(labels, "made-up")); /* a caller's words never become a label */
    assert_int_equal(add, 1);
}

struct svc_link *svc_link_named(struct svc *svc, const char *name)
{
    (void)svc;
    if (strcmp(name, "worker-47") != 0)
        return NULL;
    rt.link.name = name;
    return &rt.link;
}

const char *svc_link_name(const struct svc_link *link)
{
    return link->name;
}

void svc_req_set_user(struct svc_req *req, void *user)
{
    req->user = user;
}

void svc_req_on_gone(struct svc_req *req, void (*fn)(void *user, struct svc_req *req, dbe_err why))
{
    req->on_gone = fn;
}

void svc_refuse(struct svc *svc, struct svc_req *req, dbe_err code, const char *rule, const char *reason)
{
    (void)svc;
    (void)rule;
    req->refused = code;
    req->ended++;
    (void)snprintf(req->reason, sizeof req->reason, "%s", reason != NULL ? reason : "");
}

dbe_err svc_relay(struct svc *svc, struct svc_req *req, const struct dbe_msg *answer, bool last)
{
    (void)svc;
    assert_non_null(answer);
    if (rt.relay_err != DBE_OK)
        return rt.relay_err;
    req->relayed++;
    req->ended += last;
    return DBE_OK;
}

dbe_err svc_reply(struct svc *svc, struct svc_req *req, uint8_t type, const void *payload, size_t len, bool last)
{
    (void)svc;
    assert_int_equal(type, DBE_MSG_L7_MODEL_STATUS);
    assert_true(last && len <= sizeof rt.reply);
    memcpy(rt.reply, payload, len);
    rt.reply_len = len;
    req->ended++;
    return DBE_OK;
}

dbe_err svc_forward(struct svc *svc, struct svc_req *req, const struct dbe_msg *msg, struct svc_link *link,
                    dbe_reply_fn *fn, void *ctx, uint64_t *ret_call_id)
{
    (void)svc;
    assert_non_null(msg);
    assert_ptr_equal(link, &rt.link);
    if (rt.forward_err != DBE_OK)
        return rt.forward_err;
    req->fn = fn;
    req->ctx = ctx;
    req->call_id = *ret_call_id = ++rt.next_id;
    return DBE_OK;
}

dbe_err svc_call(struct svc *svc, struct svc_link *link, uint8_t type, const void *payload, size_t len,
                 uint64_t deadline_ns, dbe_reply_fn *fn, void *ctx, uint64_t *ret_call_id)
{
    (void)svc;
    (void)link;
    (void)payload;
    (void)deadline_ns;
    assert_int_equal(type, DBE_MSG_L7_MODEL_STATUS);
    assert_int_equal(len, 0);
    rt.ask = fn;
    rt.ask_ctx = ctx;
    rt.asked++;
    *ret_call_id = ++rt.next_id;
    return DBE_OK;
}

void svc_call_cancel(struct svc *svc, struct svc_link *link, uint64_t call_id)
{
    (void)svc;
    (void)link;
    rt.cancelled++;
    rt.cancelled_id = call_id;
}

/* ---- helpers ---------------------------------------------------------------------------------------------------- */

static struct router *router;

static struct dbe_msg message(uint8_t *bytes, size_t cap, uint8_t type, const char *profile, const void *payload,
                              size_t len)
{
    struct dbe_builder b;
    struct dbe_msg msg;
    size_t n = 0;

    dbe_build_begin(&b, bytes, cap, type, 0, 1);
    if (profile != NULL)
        dbe_build_text(&b, DBE_TLV_L7_PROFILE, profile);
    dbe_build_payload(&b, payload, len);
    assert_int_equal(dbe_build_end(&b, &n), DBE_OK);
    assert_int_equal(dbe_msg_decode(bytes, n, &msg, NULL), DBE_OK);
    return msg;
}

static void tell_status(bool ready, uint32_t max, size_t models)
{
    Dsmil__L7ModelStatus status = DSMIL__L7_MODEL_STATUS__INIT;
    Dsmil__ModelInfo info = DSMIL__MODEL_INFO__INIT, *list[ROUTER_MODELS_MAX + 4];
    char id[] = "tiny", profile[] = "llm-7b-amx";
    uint8_t payload[1024], bytes[2048];
    dbe_reply_fn *fn = rt.ask;

    info.id = id;
    info.profile = profile;
    for (size_t i = 0; i < models; i++)
        list[i] = &info;
    status.ready = ready;
    status.max_requests = max;
    status.n_models = models;
    status.models = list;
    size_t len = dsmil__l7_model_status__pack(&status, payload);
    struct dbe_msg msg = message(bytes, sizeof bytes, DBE_MSG_L7_MODEL_STATUS, NULL, payload, len);
    rt.ask = NULL;
    fn(rt.ask_ctx, &msg, true, DBE_OK);
}

static struct svc_req *chat(size_t slot, const char *profile)
{
    uint8_t bytes[512];
    struct dbe_msg msg = message(bytes, sizeof bytes, DBE_MSG_L7_CHAT_REQ, profile, "chat", 4);

    memset(&rt.reqs[slot], 0, sizeof rt.reqs[slot]);
    dbe_err err = router_on_chat(NULL, router, &rt.reqs[slot], &msg);
    if (err != DBE_OK) { /* as the runtime does */
        rt.reqs[slot].refused = err;
        rt.reqs[slot].ended++;
    }
    return &rt.reqs[slot];
}

static void answer(struct svc_req *req, uint8_t type, bool last)
{
    uint8_t bytes[512];
    struct dbe_msg msg = message(bytes, sizeof bytes, type, NULL, "answer", 6);

    req->fn(req->ctx, &msg, last, DBE_OK);
}

static int set_up(void **state)
{
    (void)state;
    memset(&rt, 0, sizeof rt);
    router = calloc(1, sizeof *router);
    (void)strcpy(router->default_profile, "llm-7b-amx");
    if (l7_router_device.init(NULL, router, NULL) != DBE_OK)
        return -1;
    l7_router_device.link_up(NULL, router, &rt.link);
    tell_status(true, 4, 1);
    return 0;
}

static int tear_down(void **state)
{
    int left = 0;

    (void)state;
    for (size_t i = 0; i < ROUTER_JOBS_MAX; i++)
        left += router->jobs[i].used;
    left += (int)router->in_flight + (int)router->workers[0].in_flight;
    free(router);
    return left; /* no job stays behind */
}

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
    l7_router_device.link_down(NULL, router, &rt.link);
    assert_int_equal(chat(2, NULL)->refused, DBE_E_UNAVAILABLE);
    assert_int_equal(chat(3, "made-up")->refused, DBE_E_PROFILE);
    assert_false(l7_router_device.ready(NULL, router));
    l7_router_device.link_up(NULL, router, &rt.link);
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
    l7_router_device.tick(NULL, router);
    tell_status(true, 0, 1); /* a worker that names no maximum */
    for (size_t i = 0; i < ROUTER_JOBS_MAX; i++)
        assert_int_equal(chat(i, NULL)->refused, DBE_OK);
    assert_int_equal(chat(ROUTER_JOBS_MAX, NULL)->refused, DBE_E_LIMIT);
    for (size_t i = 0; i < ROUTER_JOBS_MAX; i++)
        answer(&rt.reqs[i], DBE_MSG_L7_CHAT_RESP, true);
}

static Dsmil__L7ModelStatus *ask_router(void)
{
    uint8_t bytes[256];
    struct dbe_msg msg = message(bytes, sizeof bytes, DBE_MSG_L7_MODEL_STATUS, NULL, "", 0);

    assert_int_equal(l7_router_device.routes[1].type, DBE_MSG_L7_MODEL_STATUS);
    assert_int_equal(l7_router_device.routes[1].handler(NULL, router, &rt.reqs[0], &msg), DBE_OK);
    Dsmil__L7ModelStatus *status = dsmil__l7_model_status__unpack(NULL, rt.reply_len, rt.reply);
    assert_non_null(status);
    return status;
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

    l7_router_device.tick(NULL, router);
    tell_status(true, 4, ROUTER_MODELS_MAX + 4); /* more than there is room for, all the same */
    status = ask_router();
    assert_int_equal(status->n_models, 1);
    dsmil__l7_model_status__free_unpacked(status, NULL);

    l7_router_device.link_down(NULL, router, &rt.link);
    status = ask_router();
    assert_int_equal(status->n_models, 0);
    assert_false(status->ready);
    dsmil__l7_model_status__free_unpacked(status, NULL);
}

static void test_questions_to_workers(void **state)
{
    uint8_t bytes[256];
    struct dbe_msg bad = message(bytes, sizeof bytes, DBE_MSG_L7_MODEL_STATUS, NULL, "\xFF\xFF", 2);

    (void)state;
    assert_int_equal(rt.asked, 1);
    l7_router_device.tick(NULL, router);
    l7_router_device.tick(NULL, router); /* one question at a time */
    assert_int_equal(rt.asked, 2);
    rt.ask(rt.ask_ctx, &bad, true, DBE_OK);
    assert_false(router->workers[0].ready);
    l7_router_device.tick(NULL, router);
    assert_int_equal(rt.asked, 3);
    rt.ask(rt.ask_ctx, NULL, true, DBE_E_TIMEOUT);
    assert_false(router->workers[0].ready);
    l7_router_device.tick(NULL, router);
    tell_status(true, 4, 0); /* ready without a model is not ready */
    assert_false(router->workers[0].ready);
}

static void miss_status(void)
{
    l7_router_device.tick(NULL, router);
    rt.ask(rt.ask_ctx, NULL, true, DBE_E_TIMEOUT);
}

/* One question missed may be bad luck; a second in a row ends what waits for the worker. */
static void test_worker_that_stalls(void **state)
{
    struct svc_req *req = chat(0, NULL);

    (void)state;
    answer(req, DBE_MSG_L7_CHAT_RESP, false);
    miss_status();
    assert_int_equal(req->ended, 0);
    l7_router_device.tick(NULL, router);
    tell_status(true, 4, 1); /* it was bad luck: counted anew */
    miss_status();
    assert_int_equal(req->ended, 0);
    miss_status();
    assert_int_equal(req->ended, 1);
    assert_int_equal(req->refused, DBE_E_UNAVAILABLE);
    assert_int_equal(rt.cancelled, 1);
    assert_int_equal(rt.cancelled_id, req->call_id);
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
        WITH_ROUTER(test_questions_to_workers),
        WITH_ROUTER(test_worker_that_stalls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
