/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_fixture.c - the fake devices, the clock, and the mesh that tests of the runtime talk through.
 */
#include "runtime/mesh_fixture.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dsmil.pb-c.h"

/* ---- clock: stands still unless pumped or moved ---------------------------------------------- */

uint64_t clock_ns = 5 * BASE_NS_PER_S;

static uint64_t fake_mono(void *ctx)
{
    (void)ctx;
    return clock_ns;
}

static uint64_t wall_start_ms; /* certificates and claims are made for now */

static uint64_t fake_wall(void *ctx)
{
    (void)ctx;
    return wall_start_ms + clock_ns / BASE_NS_PER_MS;
}

/* ---- devices --------------------------------------------------------------------------------- */

struct server *router, *worker, *front;

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
    struct server *s = state;

    (void)msg;
    s->handled++;
    if (s->watch)
        return svc_watchers_add(&s->watchers, req);
    return svc_reply(svc, req, DBE_MSG_L7_MODEL_STATUS, "", 0, true);
}

static dbe_err on_check(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    struct server *s = state;

    svc_policy_ask(svc, req, msg, s->asked_type, s->asked_dst, &s->verdict);
    return svc_reply(svc, req, DBE_MSG_L7_POLICY_CHECK, "", 0, true);
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
    {DBE_MSG_L7_CHAT_REQ, on_chat}, {DBE_MSG_L7_MODEL_STATUS, on_status}, {DBE_MSG_L7_POLICY_CHECK, on_check}, {0}};
static const struct svc_neighbour front_neighbours[] = {{"router", DBE_ROLE_ROUTER, 43, true}, {0}};
static const struct svc_neighbour router_neighbours[] = {{"worker-47", DBE_ROLE_WORKER, 47, false}, {0}};

#define DEVICE_COMMON                                                                                                  \
    .layer = 7, .purpose = "be tested", .state_size = sizeof(struct server), .init = device_init, .wake = device_wake, \
    .link_up = device_link_up, .link_down = device_link_down, .ready = device_ready, .drain = device_drain,            \
    .dump = device_dump
const struct svc_device front_device = {
    .device_id = 0, .role = DBE_ROLE_SHIM, .name = "front", .neighbours = front_neighbours, DEVICE_COMMON};
const struct svc_device router_device = {.device_id = 43,
                                         .role = DBE_ROLE_ROUTER,
                                         .name = "l7-router",
                                         .routes = routes,
                                         .neighbours = router_neighbours,
                                         .counters = device_counters,
                                         DEVICE_COMMON};
const struct svc_device worker_device = {
    .device_id = 47, .role = DBE_ROLE_WORKER, .name = "worker", .routes = routes, DEVICE_COMMON};

/* ---- the mesh of a test ---------------------------------------------------------------------- */

char dir[64];
struct answer answer;

void on_answer(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
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

void turn(struct mesh *m)
{
    assert_int_equal(base_loop_turn(m->loop, 0), DBE_OK);
    clock_ns += 100 * BASE_NS_PER_US;
}

void settle(struct mesh *m)
{
    for (int i = 0; i < 50; i++)
        turn(m);
}

struct svc_config config_for(const struct mesh *m, const char *name, const char *listen)
{
    struct svc_config cfg = {.log_fd = m->log_fd, .level = SVC_DEBUG};

    snprintf(cfg.keys, sizeof cfg.keys, "%s", dir);
    snprintf(cfg.name, sizeof cfg.name, "%s", name);
    snprintf(cfg.listen, sizeof cfg.listen, "%s", listen);
    return cfg;
}

struct svc *start(struct mesh *m, const struct svc_device *dev, const struct svc_config *cfg)
{
    struct svc *svc = NULL;
    struct dbe_diag diag = {0};
    enum svc_exit code;

    dbe_err err = svc_open(m->loop, dev, cfg, base_alloc(1, dev->state_size), &svc, &code, &diag);
    if (err != DBE_OK)
        fail_msg("%s: %s", dbe_err_name(err), diag.text);
    return svc;
}

void start_worker(struct mesh *m)
{
    struct svc_config cfg = config_for(m, "worker-47", "inproc:worker");
    m->worker = start(m, &worker_device, &cfg);
}

void start_front(struct mesh *m)
{
    struct svc_config cfg = config_for(m, "shim-0", "");
    snprintf(cfg.links[0], sizeof cfg.links[0], "inproc:router");
    m->front = start(m, &front_device, &cfg);
    PUMP_UNTIL(m, svc_link_is_up(&m->front->links[0]));
}

int mesh_up(void **state)
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

int mesh_down(void **state)
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

bool logged(const struct mesh *m, const char *text)
{
    static char all[1 << 20];
    ssize_t n = pread(m->log_fd, all, sizeof all - 1, 0);

    assert_true(n >= 0);
    all[n] = '\0';
    return strstr(all, text) != NULL;
}

/* ---- requests -------------------------------------------------------------------------------- */

struct ask ask_good(void)
{
    return (struct ask){.type = DBE_MSG_L7_CHAT_REQ,
                        .src = 0,
                        .dst = 43,
                        .classification = DBE_CLSF_SECRET,
                        .roe = DBE_ROE_SOC_ASSIST,
                        .compartments = DBE_COMPARTMENT_SOC,
                        .timeout_ms = 10000,
                        .tenant = "t1",
                        .claim = true,
                        .payload = "ping"};
}

static size_t make_claim(struct mesh *m, const struct ask *a, uint8_t *token, size_t cap)
{
    struct pol_claim claim = {.tenant = "t1",
                              .client = "test",
                              .roe_levels = 1u << DBE_ROE_SOC_ASSIST,
                              .classification_max = DBE_CLSF_SECRET,
                              .compartments = DBE_COMPARTMENT_SOC | DBE_COMPARTMENT_DEV};
    const struct svc *signer = a->foreign_claim ? m->worker : m->front;
    size_t len = 0;

    claim.not_before_ms = base_wall_ms() - 1000;
    claim.not_after_ms = claim.not_before_ms + 600000;
    assert_int_equal(dbe_peer_channel_binding(svc_link_peer(&m->front->links[0]), claim.channel_binding), DBE_OK);
    assert_int_equal(pol_claim_issue(&claim, svc_credential(signer), token, cap, &len), DBE_OK);
    token[len - 1] ^= a->forge;
    return len;
}

size_t build_message(struct mesh *m, const struct ask *a, uint8_t *out, size_t cap)
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

dbe_err try_send(struct mesh *m, const struct ask *a, uint64_t *ret_id)
{
    uint8_t bytes[8192];

    memset(&answer, 0, sizeof answer);
    return svc_call_message(m->front, &m->front->links[0], bytes, build_message(m, a, bytes, sizeof bytes),
                            clock_ns + (uint64_t)a->timeout_ms * BASE_NS_PER_MS, on_answer, NULL, ret_id);
}

void send_raw(struct mesh *m, const struct ask *a)
{
    uint8_t bytes[8192];

    memset(&answer, 0, sizeof answer);
    assert_int_equal(dbe_call(svc_link_peer(&m->front->links[0]), bytes, build_message(m, a, bytes, sizeof bytes),
                              clock_ns + 10 * BASE_NS_PER_S, on_answer, NULL, NULL),
                     DBE_OK);
}

uint64_t ask(struct mesh *m, const struct ask *a)
{
    uint64_t id = 0;
    assert_int_equal(try_send(m, a, &id), DBE_OK);
    return id;
}

/* ---- keys ------------------------------------------------------------------------------------ */

int group_up(void **state)
{
    static const struct base_clock_ops clock = {.mono_ns = fake_mono, .wall_ms = fake_wall};
    static const struct dbe_issue issues[] = {{.device = 0, .role = DBE_ROLE_SHIM, .layer = 7},
                                              {.device = 43, .role = DBE_ROLE_ROUTER},
                                              {.device = 47, .role = DBE_ROLE_WORKER}};
    struct dbe_diag diag = {0};

    (void)state;
    wall_start_ms = base_wall_ms();
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

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

void remove_tree(const char *path)
{
    assert_int_equal(nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

int group_down(void **state)
{
    (void)state;
    base_clock_set(NULL);
    remove_tree(dir);
    return 0;
}
