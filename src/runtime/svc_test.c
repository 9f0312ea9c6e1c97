/* SPDX-License-Identifier: Apache-2.0
 *
 * svc_test.c - whole services in one loop: a front (the shim's role), a router and a worker, over the in-process transport, with real
 * keys, handshakes and policy; devices and clock are fake.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "dsmil.pb-c.h"
#include "runtime/priv.h"

enum { TURNS_MAX = 3000, ANSWERS_MAX = 16 };

/* ---- clock: stands still unless pumped or moved ------------------------------------------------------------------------- */

static uint64_t clock_ns = 5 * BASE_NS_PER_S;

static uint64_t fake_mono(void *ctx)
{
    (void)ctx;
    return clock_ns;
}

static uint64_t real_wall(void *ctx)
{
    (void)ctx;
    return (uint64_t)time(NULL) * 1000;
}

/* ---- devices ---------------------------------------------------------------------------------------------------------------- */

enum mode { ANSWER, STREAM, HOLD, FORWARD, FAIL, REFUSE, ANSWER_THEN_FAIL };

struct server { /* state of router and worker alike */
    enum mode       mode;
    unsigned        handled, gone, wakes, link_ups, link_downs, drains;
    dbe_err         gone_why;
    struct svc_req *held;
    struct svc     *svc;
    uint64_t        call_id, jobs;
    bool            not_ready;
    uint8_t         layer_path[DBE_LAYER_PATH_MAX];
    size_t          layer_path_len;
    bool            saw_claim, saw_timeout;
};

static struct server *router, *worker, *front; /* the running devices' states */

static void on_gone(void *user, struct svc_req *req, dbe_err why)
{
    struct server *s = user;

    assert_ptr_equal(req, s->held);
    assert_int_equal(svc_reply(s->svc, req, DBE_MSG_L7_CHAT_RESP, "", 0, true), DBE_E_CANCELLED);
    s->held = NULL;
    s->gone++;
    s->gone_why = why;
    if (s->mode == FORWARD)
        svc_call_cancel(s->svc, svc_link_named(s->svc, "worker-47"), s->call_id);
}

static void on_forwarded(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct server *s = ctx;

    if (msg == NULL)
        svc_refuse(s->svc, s->held, err == DBE_E_CLOSED ? DBE_E_UNAVAILABLE : err, NULL, NULL);
    else
        assert_int_equal(svc_relay(s->svc, s->held, msg, last), DBE_OK);
    if (last)
        s->held = NULL;
}

static dbe_err on_chat(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    struct server *s = state;
    const struct dbe_tlv *path = dbe_tlv_find(msg, DBE_TLV_LAYER_PATH);

    s->handled++;
    s->layer_path_len = path != NULL ? path->len : 0;
    if (path != NULL)
        memcpy(s->layer_path, path->value, path->len);
    s->saw_claim = dbe_tlv_find(msg, DBE_TLV_L7_CLAIM_TOKEN) != NULL;
    s->saw_timeout = dbe_tlv_find(msg, DBE_TLV_TIMEOUT_MS) != NULL;
    svc_req_set_user(req, s);
    svc_req_on_gone(req, on_gone);
    switch (s->mode) {
    case ANSWER: return svc_reply(svc, req, DBE_MSG_L7_CHAT_RESP, msg->payload, msg->payload_len, true);
    case ANSWER_THEN_FAIL:
        assert_int_equal(svc_reply(svc, req, DBE_MSG_L7_CHAT_RESP, "", 0, true), DBE_OK);
        return DBE_E_MALFORMED; /* too late: the request has ended */
    case STREAM:
        for (int i = 0; i < 3; i++)
            assert_int_equal(svc_reply(svc, req, DBE_MSG_L7_CHAT_RESP, &"abc"[i], 1, i == 2), DBE_OK);
        return DBE_OK;
    case HOLD: s->held = req; return DBE_OK;
    case FORWARD:
        s->held = req;
        dbe_err err = svc_forward(svc, req, msg, svc_link_named(svc, "worker-47"), on_forwarded, s, &s->call_id);
        if (err != DBE_OK)
            s->held = NULL;
        return err;
    case FAIL: return DBE_E_MALFORMED;
    case REFUSE: svc_refuse(svc, req, DBE_E_PROFILE, "select", "no such profile"); return DBE_OK;
    }
    return DBE_E_STATE;
}

/* A type without an answer of its own: answered when the sender waits, silent when not. */
static dbe_err on_status(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    (void)msg;
    ((struct server *)state)->handled++;
    return svc_reply(svc, req, DBE_MSG_L7_MODEL_STATUS, "", 0, true);
}

static dbe_err device_init(struct svc *svc, void *state, struct dbe_diag *diag)
{
    struct server *s = state;

    (void)diag;
    s->svc = svc;
    *(svc->dev->role == DBE_ROLE_ROUTER ? &router : svc->dev->role == DBE_ROLE_WORKER ? &worker : &front) = s;
    return DBE_OK;
}

static void device_wake(struct svc *svc, void *state)
{
    (void)svc;
    ((struct server *)state)->wakes++;
}

static void device_link_up(struct svc *svc, void *state, struct svc_link *link)
{
    assert_true(svc_link_is_up(link));
    assert_ptr_equal(svc_link_named(svc, svc_link_name(link)), link);
    ((struct server *)state)->link_ups++;
}

static void device_link_down(struct svc *svc, void *state, struct svc_link *link)
{
    (void)svc;
    assert_false(svc_link_is_up(link));
    ((struct server *)state)->link_downs++;
}

static bool device_ready(const struct svc *svc, const void *state)
{
    (void)svc;
    return !((const struct server *)state)->not_ready;
}

static void device_drain(struct svc *svc, void *state)
{
    (void)svc;
    ((struct server *)state)->drains++;
}

static void device_dump(const void *state, struct svc_dump *out)
{
    svc_dumpf(out, "handled=%u", ((const struct server *)state)->handled);
}

static const struct svc_counter device_counters[] = {
    {"dsmil_test_jobs_total", "jobs", "device_id=\"43\"", SVC_COUNTER, offsetof(struct server, jobs)}, {0}};
static const struct svc_route routes[] = {
    {DBE_MSG_L7_CHAT_REQ, on_chat}, {DBE_MSG_L7_MODEL_STATUS, on_status}, {0, NULL}};
static const struct svc_neighbour front_neighbours[] = {{"router", DBE_ROLE_ROUTER, 43, true}, {0}};
static const struct svc_neighbour router_neighbours[] = {{"worker-47", DBE_ROLE_WORKER, 47, false}, {0}};

#define DEVICE_COMMON                                                                                                  \
    .layer = 7, .purpose = "be tested", .state_size = sizeof(struct server), .init = device_init, .wake = device_wake,        \
    .link_up = device_link_up, .link_down = device_link_down, .ready = device_ready, .drain = device_drain, .dump = device_dump
static const struct svc_device front_device = {
    .device_id = 0, .role = DBE_ROLE_SHIM, .name = "front", .neighbours = front_neighbours, DEVICE_COMMON};
static const struct svc_device router_device = {.device_id = 43, .role = DBE_ROLE_ROUTER, .name = "l7-router", .routes = routes,
                                                .neighbours = router_neighbours, .counters = device_counters, DEVICE_COMMON};
static const struct svc_device worker_device = {
    .device_id = 47, .role = DBE_ROLE_WORKER, .name = "worker", .routes = routes, DEVICE_COMMON};

/* ---- the mesh of a test ------------------------------------------------------------------------------------------------------ */

static char dir[64];

struct mesh {
    struct base_loop *loop;
    struct svc       *front, *router, *worker;
    int               log_fd;
};

/* What came back for the last request. */
static struct {
    unsigned count;
    bool     last;
    dbe_err  err;
    uint8_t  type[ANSWERS_MAX], payload[ANSWERS_MAX];
    size_t   payload_len;
    struct dbe_hop hops[DBE_HOPS_MAX];
    size_t   hop_count;
    uint32_t code;
    char     rule[64], reason[128];
    struct pol_labels labels;
    bool     labelled;
} answer;

static void on_answer(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    (void)ctx;
    assert_false(answer.last); /* nothing follows the end */
    answer.last = last;
    answer.err = err;
    if (msg == NULL)
        return;
    assert_true(answer.count < ANSWERS_MAX);
    answer.type[answer.count] = msg->type;
    answer.payload[answer.count++] = msg->payload_len > 0 ? msg->payload[0] : 0;
    answer.payload_len = msg->payload_len;
    answer.hop_count = dbe_msg_hops(msg, answer.hops);
    answer.labelled = pol_labels_read(msg, &answer.labels) == DBE_OK;
    if (msg->type != DBE_MSG_ERROR)
        return;
    Dsmil__ErrorReply *e = dsmil__error_reply__unpack(NULL, msg->payload_len, msg->payload);
    assert_non_null(e);
    answer.code = e->code;
    assert_string_equal(e->name, dbe_err_name((dbe_err)e->code));
    snprintf(answer.rule, sizeof answer.rule, "%s", e->rule);
    snprintf(answer.reason, sizeof answer.reason, "%s", e->reason);
    dsmil__error_reply__free_unpacked(e, NULL);
}

static void turn(struct mesh *m)
{
    assert_int_equal(base_loop_turn(m->loop, 0), DBE_OK);
    clock_ns += 100 * BASE_NS_PER_US;
}

#define PUMP_UNTIL(m, cond)                                                                                            \
    do {                                                                                                               \
        for (int turns_ = 0; !(cond) && turns_ < TURNS_MAX; turns_++)                                                  \
            turn(m);                                                                                                   \
        assert_true(cond);                                                                                             \
    } while (0)

/* Turns in which something could still arrive, when the point is that nothing does. */
static void settle(struct mesh *m)
{
    for (int i = 0; i < 50; i++)
        turn(m);
}

static struct svc_config config_for(const struct mesh *m, const char *name, const char *listen)
{
    struct svc_config cfg = {.log_fd = m->log_fd, .level = SVC_DEBUG};

    snprintf(cfg.keys, sizeof cfg.keys, "%s", dir);
    snprintf(cfg.name, sizeof cfg.name, "%s", name);
    snprintf(cfg.listen, sizeof cfg.listen, "%s", listen);
    return cfg;
}

static struct svc *start(struct mesh *m, const struct svc_device *dev, const struct svc_config *cfg)
{
    struct svc *svc = NULL;
    struct dbe_diag diag = {0};
    enum svc_exit code;

    dbe_err err = svc_open(m->loop, dev, cfg, base_alloc(1, dev->state_size), &svc, &code, &diag);
    if (err != DBE_OK)
        fail_msg("%s: %s", dbe_err_name(err), diag.text);
    return svc;
}

static void start_worker(struct mesh *m)
{
    struct svc_config cfg = config_for(m, "worker-47", "inproc:worker");
    m->worker = start(m, &worker_device, &cfg);
}

static void start_front(struct mesh *m)
{
    struct svc_config cfg = config_for(m, "shim-0", "");
    snprintf(cfg.links[0], sizeof cfg.links[0], "inproc:router");
    m->front = start(m, &front_device, &cfg);
    PUMP_UNTIL(m, svc_link_is_up(&m->front->links[0]));
}

static int mesh_up(void **state)
{
    struct mesh *m = calloc(1, sizeof *m);
    struct svc_config cfg;

    memset(&answer, 0, sizeof answer);
    m->log_fd = memfd_create("log", MFD_CLOEXEC);
    assert_int_equal(base_loop_new(&m->loop), DBE_OK);
    start_worker(m);
    cfg = config_for(m, "router-43", "inproc:router");
    snprintf(cfg.links[0], sizeof cfg.links[0], "inproc:worker");
    m->router = start(m, &router_device, &cfg);
    start_front(m);
    PUMP_UNTIL(m, svc_link_is_up(&m->router->links[0]));
    *state = m;
    return 0;
}

static int mesh_down(void **state)
{
    struct mesh *m = *state;

    svc_close(m->front);
    svc_close(m->router);
    svc_close(m->worker);
    base_loop_free(m->loop);
    close(m->log_fd);
    free(m);
    return 0;
}

static bool logged(const struct mesh *m, const char *text)
{
    static char all[1 << 20];
    ssize_t n = pread(m->log_fd, all, sizeof all - 1, 0);

    assert_true(n >= 0);
    all[n] = '\0';
    return strstr(all, text) != NULL;
}

/* ---- requests ------------------------------------------------------------------------------------------------------------------ */

struct ask { /* what the front sends; zero fields are fine as ask_good() gives them */
    uint8_t     type, src, dst, classification, roe;
    uint32_t    compartments, timeout_ms;
    const char *tenant;
    bool        claim, forge, foreign_claim, no_id;
    const char *payload;
};

static struct ask ask_good(void)
{
    return (struct ask){.type = DBE_MSG_L7_CHAT_REQ, .src = 0, .dst = 43, .classification = DBE_CLSF_SECRET,
                        .roe = DBE_ROE_SOC_ASSIST, .compartments = DBE_COMPARTMENT_SOC, .timeout_ms = 10000, .tenant = "t1",
                        .claim = true, .payload = "ping"};
}

static size_t make_claim(struct mesh *m, const struct ask *a, uint8_t *token, size_t cap)
{
    struct pol_claim claim = {.tenant = "t1", .client = "test", .roe_levels = 1u << DBE_ROE_SOC_ASSIST,
                              .classification_max = DBE_CLSF_SECRET, .compartments = DBE_COMPARTMENT_SOC | DBE_COMPARTMENT_DEV};
    const struct svc *signer = a->foreign_claim ? m->worker : m->front;
    size_t len = 0;

    claim.not_before_ms = base_wall_ms() - 1000;
    claim.not_after_ms = claim.not_before_ms + 600000;
    assert_int_equal(dbe_peer_channel_binding(svc_link_peer(&m->front->links[0]), claim.channel_binding), DBE_OK);
    assert_int_equal(pol_claim_issue(&claim, svc_credential(signer), token, cap, &len), DBE_OK);
    token[len - 1] ^= a->forge;
    return len;
}

static size_t build(struct mesh *m, const struct ask *a, uint8_t *out, size_t cap)
{
    static uint8_t token[DBE_CLAIM_MAX_BYTES];
    struct dbe_builder b;
    uint8_t id[16];
    size_t len = 0;

    assert_int_equal(base_uuid(id), DBE_OK);
    dbe_build_begin(&b, out, cap, a->type, DBE_FLAG_REPLAY_PROTECTED, dbe_correlation_of(id));
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, a->src);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, a->dst);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, a->tenant);
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, a->compartments);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, a->classification);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, a->roe);
    if (!a->no_id)
        dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, id, sizeof id);
    dbe_build_u32(&b, DBE_TLV_TIMEOUT_MS, a->timeout_ms);
    if (a->claim)
        dbe_build_bytes(&b, DBE_TLV_L7_CLAIM_TOKEN, token, make_claim(m, a, token, sizeof token));
    dbe_build_bytes(&b, 0x0777, "kept", 4); /* a TLV that this build does not know */
    dbe_build_payload(&b, a->payload, strlen(a->payload));
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    return len;
}

/* As the shim sends: checked on its own side first. */
static dbe_err try_send(struct mesh *m, const struct ask *a, uint64_t *ret_id)
{
    uint8_t bytes[8192];

    memset(&answer, 0, sizeof answer);
    return svc_call_message(m->front, &m->front->links[0], bytes, build(m, a, bytes, sizeof bytes),
                            clock_ns + (uint64_t)a->timeout_ms * BASE_NS_PER_MS, on_answer, NULL, ret_id);
}

/* As a front sends that checks nothing. */
static void send_raw(struct mesh *m, const struct ask *a)
{
    uint8_t bytes[8192];

    memset(&answer, 0, sizeof answer);
    assert_int_equal(dbe_call(svc_link_peer(&m->front->links[0]), bytes, build(m, a, bytes, sizeof bytes),
                              clock_ns + 10 * BASE_NS_PER_S, on_answer, NULL, NULL),
                     DBE_OK);
}

static uint64_t ask(struct mesh *m, const struct ask *a)
{
    uint64_t id = 0;
    assert_int_equal(try_send(m, a, &id), DBE_OK);
    return id;
}

/* ---- tests ------------------------------------------------------------------------------------------------------------------------ */

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

static void test_refusals_reach_the_caller(void **state)
{
    struct mesh *m = *state;
    static const struct {
        dbe_err     code;
        const char *rule;
    } expected[] = {
        {DBE_E_KINETIC, "kinetic"},         {DBE_E_EXEC, "exec"},           {DBE_E_CLAIM_MISSING, "claim"},
        {DBE_E_CLAIM_INVALID, "claim"},     {DBE_E_CLAIM_INVALID, "claim"}, {DBE_E_TENANT, "tenant"},
        {DBE_E_SOURCE, "source"},           {DBE_E_DESTINATION, "destination"}, {DBE_E_ROE_LEVEL, "roe-level"},
        {DBE_E_COMPARTMENT, "compartment"}, {DBE_E_CLASSIFICATION, "classification"}, {DBE_E_SIM_MIX, "sim-mix"},
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
        default: a.type = DBE_MSG_L7_AGENT_TASK; break;
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
    assert_true(logged(m, "\"code\":\"E_KINETIC\",\"rule\":\"kinetic\",\"reason\":\"compartment KINETIC is refused everywhere, always\""));
    assert_true(logged(m, "\"tenant\":\"t2\""));
    assert_false(logged(m, "ping")); /* no payload in the log */
}

/* The front's own side refuses to send what the router may not have. */
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

    a.type = DBE_MSG_L7_POLICY_CHECK;
    ask(m, &a);
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.code, DBE_E_UNSUPPORTED);
}

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
    uint8_t  classification, src;
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
    const struct dbe_node_config config = {.credential = credential, .trust = trust, .ops = &ops,
                                           .policy_epoch = m->router->policy.epoch};
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

/* What nobody waits for is handled or dropped, and never answered. */
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

static void stopped(void *ctx)
{
    (*(unsigned *)ctx)++;
}

static void test_drain(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();
    unsigned stops = 0;

    router->mode = HOLD;
    ask(m, &a);
    PUMP_UNTIL(m, router->held != NULL);
    svc_drain(m->router, stopped, &stops);
    svc_drain(m->router, stopped, &stops);
    assert_int_equal(router->drains, 1);
    send_raw(m, &a); /* no new work */
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.code, DBE_E_UNAVAILABLE);
    assert_int_equal(stops, 0);
    memset(&answer, 0, sizeof answer);
    assert_int_equal(svc_reply(m->router, router->held, DBE_MSG_L7_CHAT_RESP, "x", 1, true), DBE_OK);
    PUMP_UNTIL(m, stops == 1);
    PUMP_UNTIL(m, answer.last); /* what ran was finished */
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
}

static void test_drain_has_an_end(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();
    unsigned stops = 0;

    router->mode = HOLD;
    ask(m, &a);
    PUMP_UNTIL(m, router->held != NULL);
    svc_hold(m->router);
    svc_drain(m->router, stopped, &stops);
    settle(m);
    assert_int_equal(stops, 0);
    clock_ns += SVC_DRAIN_MS * (uint64_t)BASE_NS_PER_MS;
    PUMP_UNTIL(m, stops == 1);
    svc_close(m->router);
    m->router = NULL;
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.err, DBE_E_CLOSED);
}

static json_t *health(struct svc *svc, unsigned *ret_status)
{
    struct base_buf out;

    base_buf_init(&out, SVC_HEALTH_MAX_BYTES);
    assert_int_equal(svc_health_render(svc, &out, ret_status), DBE_OK);
    json_t *o = json_loadb((const char *)out.data, out.len, 0, NULL);
    assert_non_null(o);
    base_buf_free(&out);
    return o;
}

static void expect_health(struct svc *svc, unsigned status, const char *word)
{
    unsigned got = 0;
    json_t *o = health(svc, &got);

    assert_string_equal(json_string_value(json_object_get(o, "status")), word);
    assert_int_equal(got, status);
    assert_int_equal(json_integer_value(json_object_get(o, "device_id")), svc->dev->device_id);
    assert_int_equal(json_integer_value(json_object_get(o, "layer")), 7);
    assert_non_null(json_string_value(json_object_get(o, "last_check_timestamp")));
    assert_true(json_object_size(json_object_get(o, "checks")) >= 3);
    json_decref(o);
}

static void test_health(void **state)
{
    struct mesh *m = *state;
    unsigned stops = 0;

    expect_health(m->router, 200, "healthy");
    router->not_ready = true;
    expect_health(m->router, 503, "unhealthy");
    router->not_ready = false;
    svc_close(m->worker);
    m->worker = NULL;
    PUMP_UNTIL(m, router->link_downs == 1);
    expect_health(m->router, 200, "degraded");
    svc_drain(m->router, stopped, &stops);
    expect_health(m->router, 503, "unhealthy");
}

/* READY is written once the required link has been up and the device says so, and only then. */
static void test_ready(void **state)
{
    struct mesh *m = *state;
    struct svc_config cfg = config_for(m, "shim-0", "");
    char word[16] = "";
    int fds[2];

    svc_close(m->front);
    assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    snprintf(cfg.links[0], sizeof cfg.links[0], "inproc:router");
    cfg.ready_fd = (uint64_t)fds[1];
    m->front = start(m, &front_device, &cfg);
    front->not_ready = true;
    PUMP_UNTIL(m, front->link_ups == 1);
    settle(m);
    assert_int_equal(read(fds[0], word, sizeof word), -1);
    front->not_ready = false;
    svc_wake(m->front);
    PUMP_UNTIL(m, m->front->ready);
    assert_int_equal(read(fds[0], word, sizeof word), 6);
    assert_memory_equal(word, "READY\n", 6);
    assert_int_equal(read(fds[0], word, sizeof word), 0); /* closed */
    close(fds[0]);
}

static void *wake_thread(void *arg)
{
    for (int i = 0; i < 100; i++)
        svc_wake(arg);
    return NULL;
}

static void test_wake(void **state)
{
    struct mesh *m = *state;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, wake_thread, m->router), 0);
    pthread_join(thread, NULL);
    PUMP_UNTIL(m, router->wakes > 0);
    assert_int_equal(worker->wakes, 0);
}

/* One HTTP exchange over the admin socket, the client in the same loop. */
static void http_get(struct mesh *m, const char *path, const char *request, char *out, size_t cap)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = 0;
    ssize_t n = -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    memcpy(addr.sun_path, path, strlen(path) + 1);
    assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(write(fd, request, strlen(request)), (ssize_t)strlen(request));
    for (int i = 0; n != 0 && i < TURNS_MAX; i++) {
        turn(m);
        n = read(fd, out + len, cap - 1 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    assert_int_equal(n, 0);
    out[len] = '\0';
    close(fd);
}

static void test_admin_pages(void **state)
{
    struct mesh *m = *state;
    struct svc_config cfg = config_for(m, "worker-47", "inproc:other");
    char path[80];
    static char page[SVC_METRICS_MAX_BYTES];
    struct ask a = ask_good();
    struct stat st;

    snprintf(path, sizeof path, "%s/admin.sock", dir);
    svc_close(m->worker);
    snprintf(cfg.metrics_socket, sizeof cfg.metrics_socket, "%s", path);
    m->worker = start(m, &worker_device, &cfg);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    http_get(m, path, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", page, sizeof page);
    assert_memory_equal(page, "HTTP/1.1 200 ", 13);
    assert_non_null(strstr(page, "\"status\":\"healthy\""));
    http_get(m, path, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", page, sizeof page);
    assert_memory_equal(page, "HTTP/1.1 200 ", 13);
    assert_non_null(strstr(page, "Content-Type: text/plain; version=0.0.4"));
    assert_non_null(strstr(page, "\ndsmil_device_status{device_id=\"47\",device_name=\"Advanced AI/ML\"} 1\n"));
    http_get(m, path, "GET /secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", page, sizeof page);
    assert_memory_equal(page, "HTTP/1.1 404 ", 13);
    http_get(m, path, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", page, sizeof page);
    assert_memory_equal(page, "HTTP/1.1 405 ", 13);
    http_get(m, path, "\x01\x02 nonsense\r\n\r\n", page, sizeof page);
    assert_memory_equal(page, "HTTP/1.", 7);
    svc_close(m->worker);
    m->worker = NULL;
    assert_int_equal(stat(path, &st), -1); /* its file goes with it */

    ask(m, &a); /* counters of the router after one answer and one refusal */
    PUMP_UNTIL(m, answer.last);
    a.compartments = 0x80;
    send_raw(m, &a);
    PUMP_UNTIL(m, answer.last);
    struct base_buf out;
    base_buf_init(&out, SVC_METRICS_MAX_BYTES);
    assert_int_equal(svc_metrics_render(m->router, &out), DBE_OK);
    const char *text = base_buf_cstr(&out);
#define HAS(line) assert_non_null(strstr(text, line))
    HAS("\ndbe_messages_total{node=\"router-43\",device_id=\"43\",msg_type=\"L7_CHAT_REQ\",tenant_id=\"t1\"} 1\n");
    HAS("\ndbe_messages_total{node=\"router-43\",device_id=\"43\",msg_type=\"L7_CHAT_REQ\",tenant_id=\"none\"} 1\n");
    HAS("\ndbe_policy_violations_total{node=\"router-43\",device_id=\"43\",rule=\"kinetic\"} 1\n");
    HAS("\ndsmil_security_policy_violations_total{device_id=\"43\"} 1\n");
    HAS("\ndbe_errors_total{node=\"router-43\",device_id=\"43\",error_type=\"E_KINETIC\"} 1\n");
    HAS("\npqc_handshakes_total{node=\"router-43\",peer_node=\"shim-0\",status=\"ok\"} 1\n");
    HAS("\ndsmil_device_requests_total{device_id=\"43\",status=\"ok\"} 1\n");
    HAS("\ndsmil_test_jobs_total{device_id=\"43\"} 0\n");
    base_buf_free(&out);
}

/* A node of another mesh: refused, counted, said. */
static void test_foreign_mesh(void **state)
{
    static const struct dbe_node_ops ops = {.on_message = liar_on_message};
    struct mesh *m = *state;
    char foreign[96];
    struct dbe_credential *credential = NULL;
    struct dbe_trust *trust = NULL;
    struct dbe_node *node = NULL;
    struct dbe_link *link = NULL;
    const struct dbe_issue what = {.device = 0, .role = DBE_ROLE_SHIM, .layer = 7};

    snprintf(foreign, sizeof foreign, "%s/foreign", dir);
    assert_int_equal(dbe_keys_init(foreign, "test.mesh", 10, NULL), DBE_OK);
    assert_int_equal(dbe_keys_issue(foreign, &what, NULL), DBE_OK);
    assert_int_equal(dbe_trust_load(foreign, &trust, NULL), DBE_OK);
    assert_int_equal(dbe_credential_load(foreign, "shim-0", &credential, NULL), DBE_OK);
    const struct dbe_node_config config = {.credential = credential, .trust = trust, .ops = &ops,
                                           .policy_epoch = m->router->policy.epoch};
    assert_int_equal(dbe_node_new(m->loop, &config, &node), DBE_OK);
    assert_int_equal(dbe_node_link(node, "inproc:router", 0, -1, &link), DBE_OK);
    PUMP_UNTIL(m, dbe_link_last_error(link, NULL) != DBE_OK);
    assert_null(dbe_link_peer(link));
    dbe_link_close(link);
    dbe_node_free(node);
    dbe_credential_free(credential);
    dbe_trust_free(trust);
    settle(m);
    assert_int_equal(router->handled, 0);
}

static void test_dump(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();

    router->mode = HOLD;
    ask(m, &a);
    PUMP_UNTIL(m, router->held != NULL);
    svc_dump_state(m->router);
    assert_true(logged(m, "\"message\":\"handled=1\""));
    assert_true(logged(m, "L7_CHAT_REQ from device 0"));
    assert_true(logged(m, "peer shim-0 suite="));
}

static void test_open_failures(void **state)
{
    struct mesh *m = *state;
    struct svc_config cfg = config_for(m, "nobody-9", "inproc:x");
    struct svc *svc = NULL;
    struct dbe_diag diag = {0};
    enum svc_exit code = SVC_EXIT_OK;

    assert_int_not_equal(svc_open(m->loop, &worker_device, &cfg, base_alloc(1, sizeof(struct server)), &svc, &code, &diag), DBE_OK);
    assert_int_equal(code, SVC_EXIT_KEYS);
    assert_non_null(strstr(diag.text, "nobody-9"));
    cfg = config_for(m, "router-43", "inproc:x"); /* somebody else's credential */
    assert_int_equal(svc_open(m->loop, &worker_device, &cfg, base_alloc(1, sizeof(struct server)), &svc, &code, &diag), DBE_E_CERT);
    assert_int_equal(code, SVC_EXIT_KEYS);
    assert_non_null(strstr(diag.text, "router-43"));
    cfg = config_for(m, "worker-47", "nonsense:x");
    assert_int_not_equal(svc_open(m->loop, &worker_device, &cfg, base_alloc(1, sizeof(struct server)), &svc, &code, &diag), DBE_OK);
    assert_int_equal(code, SVC_EXIT_USAGE);
    assert_null(svc);
}

static int group_up(void **state)
{
    static const struct base_clock_ops clock = {.mono_ns = fake_mono, .wall_ms = real_wall};
    static const struct dbe_issue issues[] = {{.device = 0, .role = DBE_ROLE_SHIM, .layer = 7},
                                              {.device = 43, .role = DBE_ROLE_ROUTER},
                                              {.device = 47, .role = DBE_ROLE_WORKER}};
    struct dbe_diag diag = {0};

    (void)state;
    base_clock_set(&clock);
    snprintf(dir, sizeof dir, "/tmp/dsmil-svc-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(crypto_init(NULL), DBE_OK);
    assert_int_equal(dbe_keys_init(dir, "test.mesh", 10, &diag), DBE_OK);
    for (size_t i = 0; i < BASE_ARRAY_LEN(issues); i++)
        if (dbe_keys_issue(dir, &issues[i], &diag) != DBE_OK)
            fail_msg("%s", diag.text);
    return 0;
}

static int group_down(void **state)
{
    char command[96];

    (void)state;
    base_clock_set(NULL);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

#define MESH_TEST(fn) cmocka_unit_test_setup_teardown(fn, mesh_up, mesh_down)

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
        MESH_TEST(test_caller_gone),
        MESH_TEST(test_forward_and_relay),
        MESH_TEST(test_cancel_travels),
        MESH_TEST(test_worker_down),
        MESH_TEST(test_answers_are_checked),
        MESH_TEST(test_own_call),
        MESH_TEST(test_one_way),
        MESH_TEST(test_drain),
        MESH_TEST(test_drain_has_an_end),
        MESH_TEST(test_health),
        MESH_TEST(test_ready),
        MESH_TEST(test_wake),
        MESH_TEST(test_admin_pages),
        MESH_TEST(test_foreign_mesh),
        MESH_TEST(test_dump),
        MESH_TEST(test_open_failures),
    };
    return cmocka_run_group_tests(tests, group_up, group_down);
}
