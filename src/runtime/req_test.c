/* SPDX-License-Identifier: Apache-2.0
 *
 * req_test.c - requests through whole services: answered, refused, streamed, cancelled, late, abandoned, forwarded.
 */
#include "runtime/mesh_fixture.h"

/* spec 12.2, 12.9 */
static void test_answered(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();

    ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
    assert_int_equal(answer.payload_len, 4);
    assert_int_equal(answer.hop_count, 1);
    assert_int_equal(answer.hops[0].device, 43);
    assert_true(answer.labelled);
    assert_string_equal(answer.labels.tenant, "t1");
    assert_int_equal(answer.labels.classification, DBE_CLSF_SECRET);
    assert_int_equal(answer.labels.compartments, DBE_COMPARTMENT_SOC);
    assert_int_equal(answer.labels.roe_level, DBE_ROE_SOC_ASSIST);
    assert_true(router->saw_claim);
    assert_int_equal(m->router->req_count, 0);
    assert_int_equal(m->front->call_count, 0);
    assert_int_equal(router->gone, 0);
}

/* spec 9.4, 11.15 */
static void test_refusals_reach_the_caller(void **state)
{
    struct mesh *m = *state;
    static const struct {
        dbe_err code;
        const char *rule;
    } expected[] = {
        {DBE_E_KINETIC, "kinetic"},
        {DBE_E_EXEC, "exec"},
        {DBE_E_CLAIM_MISSING, "claim"},
        {DBE_E_CLAIM_INVALID, "claim"},
        {DBE_E_CLAIM_INVALID, "claim"},
        {DBE_E_TENANT, "tenant"},
        {DBE_E_SOURCE, "source"},
        {DBE_E_DESTINATION, "destination"},
        {DBE_E_ROE_LEVEL, "roe-level"},
        {DBE_E_COMPARTMENT, "compartment"},
        {DBE_E_CLASSIFICATION, "classification"},
        {DBE_E_SIM_MIX, "sim-mix"},
        {DBE_E_EMIT, "emit"},
    };

    for (size_t i = 0; i < BASE_ARRAY_LEN(expected); i++) {
        struct ask a = ask_good();
        switch (i) {
        case 0: a.compartments = 0x81; break;
        case 1: a.classification = DBE_CLSF_EXEC; break;
        case 2: a.claim = false; break;
        case 3: a.forge = true; break;
        case 4: a.foreign_claim = true; break;
        case 5: a.tenant = "t2"; break;
        case 6: a.src = 43; break;
        case 7: a.dst = 47; break;
        case 8: a.roe = 9; break;
        case 9: a.compartments = DBE_COMPARTMENT_LAB; break; /* above the claim, within the certificates */
        case 10: a.classification = DBE_CLSF_TS; break;
        case 11: a.classification = DBE_CLSF_TS_SIM; break;
        default: a.type = DBE_MSG_L3_EVENT; break;
        }
        send_raw(m, &a);
        PUMP_UNTIL(m, answer.last);
        assert_int_equal(answer.type[0], DBE_MSG_ERROR);
        assert_string_equal(answer.rule, expected[i].rule);
        assert_int_equal(answer.code, expected[i].code);
        assert_true(answer.reason[0] != '\0');
        assert_false(answer.labelled); /* what was refused is not repeated */
        assert_int_equal(router->handled, 0);
    }
    assert_true(logged(m, "\"event_type\":\"policy_violation\""));
    assert_true(logged(m, "\"code\":\"E_KINETIC\",\"rule\":\"kinetic\",\"reason\":\"compartment KINETIC is refused "
                          "everywhere, always\""));
    assert_true(logged(m, "\"tenant\":\"t2\""));
    assert_false(logged(m, "ping")); /* no payload in the log */
}

/* spec 11.13, 12.1: the front's own side refuses to send what the router may not have. */
static void test_not_sent(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();

    a.compartments = 0x81;
    assert_int_equal(try_send(m, &a, NULL), DBE_E_KINETIC);
    a = ask_good();
    a.compartments = DBE_COMPARTMENT_NUCLEAR;
    assert_int_equal(try_send(m, &a, NULL), DBE_E_COMPARTMENT);
    a = ask_good();
    a.no_id = true;
    assert_int_equal(try_send(m, &a, NULL), DBE_E_ARGUMENT);
    send_raw(m, &a); /* and the router refuses a request without an identity */
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.code, DBE_E_MALFORMED);
    assert_int_equal(m->front->call_count, 0);
}

/* spec 12.4 */
static void test_stream(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();

    router->mode = STREAM;
    ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.count, 3);
    assert_memory_equal(answer.payload, "abc", 3);
    assert_int_equal(answer.hop_count, 1);
}

/* spec 9.4 */
static void test_handler_errors(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();

    router->mode = FAIL;
    ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.code, DBE_E_MALFORMED);
    assert_true(answer.labelled);
    router->mode = REFUSE;
    ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.code, DBE_E_PROFILE);
    assert_string_equal(answer.rule, "select");
    assert_string_equal(answer.reason, "no such profile");
    assert_true(
        logged(m, "\"code\":\"E_PROFILE\",\"rule\":\"select\",\"reason\":\"no such profile\",\"peer\":\"spiffe://"));
    router->mode = ANSWER_THEN_FAIL;
    ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
    settle(m);
    assert_int_equal(answer.count, 1);
    assert_int_equal(m->router->req_count, 0);
}

static void test_no_route(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();

    a.type = DBE_MSG_L7_AGENT_TASK;
    ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.code, DBE_E_UNSUPPORTED);
}

/* spec 12.7 */
static void test_cancel(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();

    router->mode = HOLD;
    uint64_t id = ask(m, &a);
    PUMP_UNTIL(m, router->held != NULL);
    svc_call_cancel(m->front, &m->front->links[0], id + 1); /* nobody's */
    settle(m);
    assert_int_equal(router->gone, 0);
    svc_call_cancel(m->front, &m->front->links[0], id);
    PUMP_UNTIL(m, router->gone == 1);
    assert_int_equal(router->gone_why, DBE_E_CANCELLED);
    settle(m);
    assert_int_equal(router->gone, 1);
    assert_int_equal(answer.count, 0);
    assert_false(answer.last);
    assert_int_equal(m->router->req_count, 0);
    assert_int_equal(m->front->call_count, 0);
}

/* spec 12.5, 12.6 */
static void test_deadline(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();

    router->mode = HOLD;
    a.timeout_ms = 200;
    send_raw(m, &a); /* its own deadline is later, so that the router's speaks */
    PUMP_UNTIL(m, router->held != NULL);
    settle(m);
    assert_int_equal(router->gone, 0);
    clock_ns += 200 * (uint64_t)BASE_NS_PER_MS;
    PUMP_UNTIL(m, router->gone == 1);
    assert_int_equal(router->gone_why, DBE_E_TIMEOUT);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.code, DBE_E_TIMEOUT);
    settle(m);
    assert_int_equal(router->gone, 1);
}

/* spec 12.6, 12.7: the caller's clock runs out first: it says so, and the request is not worked on any longer. */
static void test_caller_out_of_time(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();
    uint8_t bytes[8192];

    router->mode = HOLD;
    a.timeout_ms = 20000;
    memset(&answer, 0, sizeof answer);
    assert_int_equal(svc_call_message(m->front, &m->front->links[0], bytes, build_message(m, &a, bytes, sizeof bytes),
                                      clock_ns + BASE_NS_PER_S, on_answer, NULL, NULL),
                     DBE_OK);
    PUMP_UNTIL(m, router->held != NULL);
    clock_ns += BASE_NS_PER_S;
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.err, DBE_E_TIMEOUT);
    PUMP_UNTIL(m, router->gone == 1);
    assert_int_equal(router->gone_why, DBE_E_CANCELLED);
}

/* spec 12.8 */
static void test_caller_gone(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();

    router->mode = HOLD;
    ask(m, &a);
    PUMP_UNTIL(m, router->held != NULL);
    svc_close(m->front);
    m->front = NULL;
    assert_true(answer.last); /* the call ended before the front did */
    assert_int_equal(answer.err, DBE_E_CANCELLED);
    PUMP_UNTIL(m, router->gone == 1);
    assert_int_equal(router->gone_why, DBE_E_CLOSED);
    settle(m);
    assert_int_equal(router->gone, 1);
    start_front(m); /* and the next one is served */
    router->mode = ANSWER;
    ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
}

/* spec 10.8, 11.14, 12.9 to 12.11 */
static void test_forward_and_relay(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();

    router->mode = FORWARD;
    ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
    assert_int_equal(answer.payload[0], 'p');
    assert_int_equal(answer.payload_len, 4);
    assert_int_equal(answer.hop_count, 2);
    assert_int_equal(answer.hops[0].device, 47);
    assert_int_equal(answer.hops[1].device, 43);
    assert_string_equal(answer.labels.tenant, "t1");
    assert_false(worker->saw_claim); /* bound to the channel it came by */
    assert_true(worker->saw_timeout);
    assert_int_equal(worker->layer_path_len, 1);
    assert_int_equal(worker->layer_path[0], 7);
    worker->mode = STREAM;
    ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.count, 3);
    worker->mode = REFUSE; /* an ERROR is an answer like any other */
    ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.code, DBE_E_PROFILE);
    assert_int_equal(answer.hop_count, 2);
    assert_int_equal(m->router->call_count, 0);
    assert_true(logged(m, "\"status\":\"E_PROFILE\""));
}

/* spec 12.7 */
static void test_cancel_travels(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();

    router->mode = FORWARD;
    worker->mode = HOLD;
    uint64_t id = ask(m, &a);
    PUMP_UNTIL(m, worker->held != NULL);
    svc_call_cancel(m->front, &m->front->links[0], id);
    PUMP_UNTIL(m, worker->gone == 1);
    assert_int_equal(router->gone, 1);
    assert_int_equal(worker->gone_why, DBE_E_CANCELLED);
    assert_int_equal(m->router->call_count, 0);
}

/* spec 12.8 */
static void test_worker_down(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();

    router->mode = FORWARD;
    worker->mode = HOLD;
    ask(m, &a);
    PUMP_UNTIL(m, worker->held != NULL);
    svc_close(m->worker); /* mid-answer */
    m->worker = NULL;
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.code, DBE_E_UNAVAILABLE);
    PUMP_UNTIL(m, router->link_downs == 1);
    assert_true(svc_link_problem(&m->router->links[0])[0] != '\0');
    ask(m, &a); /* while it is down */
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.code, DBE_E_UNAVAILABLE);
    start_worker(m); /* and back */
    clock_ns += 3 * BASE_NS_PER_S;
    PUMP_UNTIL(m, router->link_ups == 2);
    ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
    assert_string_equal(svc_link_problem(&m->router->links[0]), "");
}

/* A node in the worker's place that lies in its answers. */
static struct {
    uint8_t classification, src;
    unsigned cancels;
} liar_says;

static void liar_on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    const struct dbe_tlv *id = dbe_tlv_find(msg, DBE_TLV_REQUEST_ID);
    uint8_t out[512];
    struct dbe_builder b;
    size_t len;

    (void)ctx;
    liar_says.cancels += msg->type == DBE_MSG_L7_CANCEL;
    if (msg->type != DBE_MSG_L7_CHAT_REQ)
        return;
    dbe_build_begin(&b, out, sizeof out, DBE_MSG_L7_CHAT_RESP, DBE_FLAG_REPLAY_PROTECTED | DBE_FLAG_STREAMING,
                    msg->correlation_id);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, liar_says.src);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, 43);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, "t1");
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, DBE_COMPARTMENT_SOC);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, liar_says.classification);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, DBE_ROE_SOC_ASSIST);
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, id->value, id->len);
    dbe_build_payload(&b, "x", 1);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(dbe_send(peer, out, len), DBE_OK);
}

/* spec 11.12 */
static void test_answers_are_checked(void **state)
{
    static const struct dbe_node_ops ops = {.on_message = liar_on_message};
    struct mesh *m = *state;
    struct ask a = ask_good();
    struct dbe_credential *credential = NULL;
    struct dbe_trust *trust = NULL;
    struct dbe_node *liar = NULL;

    svc_close(m->worker);
    m->worker = NULL;
    PUMP_UNTIL(m, router->link_downs == 1);
    assert_int_equal(dbe_trust_load(dir, &trust, NULL), DBE_OK);
    assert_int_equal(dbe_credential_load(dir, "worker-47", &credential, NULL), DBE_OK);
    const struct dbe_node_config config = {
        .credential = credential, .trust = trust, .ops = &ops, .policy_digest = pol_policy_digest(&m->router->policy)};
    assert_int_equal(dbe_node_new(m->loop, &config, &liar), DBE_OK);
    assert_int_equal(dbe_node_listen(liar, "inproc:worker", NULL), DBE_OK);
    clock_ns += 3 * BASE_NS_PER_S;
    PUMP_UNTIL(m, router->link_ups == 2);
    router->mode = FORWARD;
    liar_says.src = 47;
    liar_says.classification = DBE_CLSF_TS;
    ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.type[0], DBE_MSG_ERROR);
    assert_int_equal(answer.code, DBE_E_CLASSIFICATION);
    PUMP_UNTIL(m, liar_says.cancels == 1); /* the stream it began is not wanted any more */
    liar_says.src = 46;
    liar_says.classification = DBE_CLSF_SECRET;
    ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.code, DBE_E_SOURCE);
    dbe_node_free(liar);
    dbe_credential_free(credential);
    dbe_trust_free(trust);
}

static void on_own_answer(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    assert_int_equal(err, DBE_OK);
    assert_true(last);
    assert_int_equal(msg->type, DBE_MSG_L7_MODEL_STATUS);
    (*(unsigned *)ctx)++;
}

static void test_own_call(void **state)
{
    struct mesh *m = *state;
    unsigned answers = 0;

    assert_int_equal(svc_call(m->router, &m->router->links[0], DBE_MSG_L7_MODEL_STATUS, "", 0, clock_ns + BASE_NS_PER_S,
                              on_own_answer, &answers, NULL),
                     DBE_OK);
    PUMP_UNTIL(m, answers == 1);
    assert_int_equal(worker->handled, 1);
}

static void on_told(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    unsigned *told = ctx;

    assert_int_equal(err, DBE_OK);
    assert_int_equal(msg->type, DBE_MSG_L7_MODEL_STATUS);
    told[0]++;
    told[1] += last;
}

static void test_watchers(void **state)
{
    struct mesh *m = *state;
    unsigned told[SVC_WATCHERS_MAX + 1][2] = {{0}};

    worker->watch = true;
    for (unsigned i = 0; i < SVC_WATCHERS_MAX; i++)
        assert_int_equal(svc_call(m->router, &m->router->links[0], DBE_MSG_L7_MODEL_STATUS, "", 0,
                                  clock_ns + (i == 0 ? 1 : 60) * BASE_NS_PER_S, on_told, told[i], NULL),
                         DBE_OK);
    PUMP_UNTIL(m, worker->handled == SVC_WATCHERS_MAX);
    svc_watchers_tell(worker->svc, &worker->watchers, DBE_MSG_L7_MODEL_STATUS, "", 0, false);
    PUMP_UNTIL(m, told[SVC_WATCHERS_MAX - 1][0] == 1);
    assert_int_equal(told[0][1], 1); /* its deadline is near: it was ended, and asks anew */
    assert_int_equal(told[1][1], 0);
    assert_null(worker->watchers.reqs[0]);
    svc_watchers_tell(worker->svc, &worker->watchers, DBE_MSG_L7_MODEL_STATUS, "", 0, true);
    PUMP_UNTIL(m, told[SVC_WATCHERS_MAX - 1][1] == 1);
    for (unsigned i = 1; i < SVC_WATCHERS_MAX; i++)
        assert_true(told[i][0] == 2 && told[i][1] == 1 && worker->watchers.reqs[i] == NULL);
    assert_int_equal(m->worker->req_count, 0); /* nothing that a drain would wait for */
}

static void test_policy_ask(void **state)
{
    static const struct {
        uint8_t type, dst;
        dbe_err code;
        const char *rule;
    } rows[] = {
        {DBE_MSG_L7_CHAT_REQ, 43, DBE_OK, "allow"},
        {DBE_MSG_L7_CHAT_REQ, 47, DBE_OK, "allow"},
        {DBE_MSG_L3_EVENT, 43, DBE_E_EMIT, "emit"},
        {DBE_MSG_L7_POLICY_CHECK, 47, DBE_E_EMIT,
         "emit"}, /* the front may say it to the router, the router to no worker */
        {DBE_MSG_L7_CHAT_REQ, 99, DBE_E_DESTINATION, "destination"},
    };
    struct mesh *m = *state;

    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct ask a = ask_good();
        a.type = DBE_MSG_L7_POLICY_CHECK;
        router->asked_type = rows[i].type;
        router->asked_dst = rows[i].dst;
        ask(m, &a);
        PUMP_UNTIL(m, answer.last);
        assert_int_equal(router->verdict.code, rows[i].code);
        assert_string_equal(router->verdict.rule, rows[i].rule);
    }
    assert_false(logged(m, "policy_violation")); /* a question is no violation */
}

/* spec 9.5: what nobody waits for is handled or dropped, and never answered. */
static void test_one_way(void **state)
{
    struct mesh *m = *state;
    struct dbe_peer *peer = svc_link_peer(&m->front->links[0]);
    struct dbe_node_stats before, after;
    uint8_t bytes[1024];
    struct dbe_builder b;
    size_t len;

    static const uint8_t types[] = {DBE_MSG_L7_MODEL_STATUS, DBE_MSG_L7_CANCEL, DBE_MSG_ERROR, DBE_MSG_L7_CHAT_RESP};

    settle(m);
    dbe_node_stats(m->router->node, &before);
    for (size_t i = 0; i < BASE_ARRAY_LEN(types); i++) {
        dbe_build_begin(&b, bytes, sizeof bytes, types[i], DBE_FLAG_REPLAY_PROTECTED, 99);
        svc_stamp(m->front, &b, 43,
                  &(struct pol_labels){.tenant = "t1", .compartments = 1, .classification = 0, .roe_level = 1});
        dbe_build_payload(&b, "\xFF\xFF", 2); /* no protobuf either */
        assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
        assert_int_equal(dbe_send(peer, bytes, len), DBE_OK);
    }
    settle(m);
    dbe_node_stats(m->router->node, &after);
    assert_int_equal(after.messages_in - before.messages_in, BASE_ARRAY_LEN(types));
    assert_int_equal(after.messages_out, before.messages_out);
    assert_int_equal(router->handled, 1);
    assert_int_equal(m->router->req_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MESH_TEST(test_answered),
        MESH_TEST(test_refusals_reach_the_caller),
        MESH_TEST(test_not_sent),
        MESH_TEST(test_stream),
        MESH_TEST(test_handler_errors),
        MESH_TEST(test_no_route),
        MESH_TEST(test_cancel),
        MESH_TEST(test_deadline),
        MESH_TEST(test_caller_out_of_time),
        MESH_TEST(test_caller_gone),
        MESH_TEST(test_forward_and_relay),
        MESH_TEST(test_cancel_travels),
        MESH_TEST(test_worker_down),
        MESH_TEST(test_answers_are_checked),
        MESH_TEST(test_own_call),
        MESH_TEST(test_watchers),
        MESH_TEST(test_policy_ask),
        MESH_TEST(test_one_way),
    };
    return cmocka_run_group_tests(tests, group_up, group_down);
}
