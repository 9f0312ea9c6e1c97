/* SPDX-License-Identifier: Apache-2.0
 *
 * router_fixture.c - see router_fixture.h.
 */
#include "devices/l7_router/router_fixture.h"

#include "audit/audit.h"

/* ---- the runtime, played ---------------------------------------------------------------------------------------- */

struct played rt;
struct router *router;

uint64_t svc_now_ns(const struct svc *svc)
{
    (void)svc;
    return rt.now_ns;
}

struct dbe_loop *svc_loop(struct svc *svc)
{
    (void)svc;
    return rt.loop;
}

const char *svc_config_path(const struct svc *svc)
{
    (void)svc;
    return "";
}

bool svc_links_settled(const struct svc *svc)
{
    (void)svc;
    return !rt.starting;
}

const struct pol_policy *svc_policy(const struct svc *svc)
{
    (void)svc;
    return &rt.policy;
}

const struct pol_labels *svc_req_labels(const struct svc_req *req)
{
    return &req->labels;
}

uint64_t svc_req_deadline_ns(const struct svc_req *req)
{
    return req->deadline_ns;
}

void svc_policy_ask(struct svc *svc, const struct svc_req *req, const struct dbe_msg *msg, uint8_t type,
                    uint8_t dst_device, struct pol_verdict *ret)
{
    (void)svc;
    (void)req;
    assert_int_equal(msg->type, DBE_MSG_L7_POLICY_CHECK);
    assert_int_equal(type, DBE_MSG_L7_CHAT_REQ);
    assert_int_equal(dst_device, 47);
    *ret = rt.verdict;
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
    assert_null(strstr(labels, "made-up")); /* a caller's words never become a label */
    if (strcmp(metric, "dsmil_l7_requests_total") == 0)
        assert_int_equal(add, 1);
}

struct svc_link *svc_link_named(struct svc *svc, const char *name)
{
    (void)svc;
    for (size_t i = 0; i < rt.link_count; i++)
        if (strcmp(name, rt.links[i].name) == 0)
            return &rt.links[i];
    return NULL;
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

void svc_refuse_for(struct svc *svc, struct svc_req *req, dbe_err code, const char *rule, const char *reason,
                    uint32_t retry_after_ms)
{
    (void)svc;
    (void)rule;
    req->retry_ms = retry_after_ms;
    req->refused = code;
    req->ended++;
    (void)snprintf(req->reason, sizeof req->reason, "%s", reason != NULL ? reason : "");
}

void svc_refuse(struct svc *svc, struct svc_req *req, dbe_err code, const char *rule, const char *reason)
{
    svc_refuse_for(svc, req, code, rule, reason, 0);
}

void svc_audit_req(struct svc *svc, uint8_t kind, const struct svc_req *req, dbe_err code, const char *rule,
                   const char *reason)
{
    (void)svc;
    (void)req;
    assert_int_equal(kind, AUDIT_LIMIT);
    assert_int_not_equal(code, DBE_OK);
    assert_string_equal(rule, "tenant-limits");
    assert_non_null(reason);
    rt.limits_audited++;
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
    assert_true(type == DBE_MSG_L7_MODEL_STATUS || type == DBE_MSG_L7_POLICY_CHECK);
    assert_true(len <= sizeof rt.reply);
    memcpy(rt.reply, payload, len);
    rt.reply_len = len;
    req->replied++;
    req->ended += last;
    return DBE_OK;
}

dbe_err svc_forward(struct svc *svc, struct svc_req *req, const struct dbe_msg *msg, struct svc_link *link,
                    dbe_reply_fn *fn, void *ctx, uint64_t *ret_call_id)
{
    (void)svc;
    assert_non_null(msg);
    assert_int_equal(msg->payload_len, req->payload_len); /* the same however often it is sent */
    assert_memory_equal(msg->payload, req->payload, req->payload_len);
    if (rt.forward_err != DBE_OK)
        return rt.forward_err;
    req->link = link;
    req->forwarded++;
    req->fn = fn;
    req->ctx = ctx;
    req->call_id = *ret_call_id = ++rt.next_id;
    return DBE_OK;
}

dbe_err svc_call(struct svc *svc, struct svc_link *link, uint8_t type, const void *payload, size_t len,
                 uint64_t deadline_ns, dbe_reply_fn *fn, void *ctx, uint64_t *ret_call_id)
{
    (void)svc;
    assert_int_equal(type, DBE_MSG_L7_MODEL_STATUS);
    assert_true(deadline_ns > rt.now_ns);
    Dsmil__L7ModelStatus *question = dsmil__l7_model_status__unpack(NULL, len, payload);
    assert_true(question != NULL && question->watch);
    dsmil__l7_model_status__free_unpacked(question, NULL);
    assert_null(link->ask); /* one question at a time */
    link->ask = fn;
    link->ask_ctx = ctx;
    rt.asked++;
    link->ask_id = *ret_call_id = ++rt.next_id;
    return DBE_OK;
}

void svc_call_cancel(struct svc *svc, struct svc_link *link, uint64_t call_id)
{
    (void)svc;
    if (link->ask != NULL && link->ask_id == call_id) {
        link->ask = NULL;
        return;
    }
    rt.cancelled++;
    rt.cancelled_id = call_id;
}

/* ---- helpers ---------------------------------------------------------------------------------------------------- */

struct dbe_msg message(uint8_t *bytes, size_t cap, uint8_t type, const char *profile, const void *payload, size_t len)
{
    struct dbe_builder b;
    struct dbe_msg msg;
    size_t n = 0;

    dbe_build_begin(&b, bytes, cap, type, 0, 1);
    if (profile != NULL)
        dbe_build_text(&b, DBE_TLV_L7_PROFILE, profile);
    if (rt.sealed_to != 0)
        dbe_build_u8(&b, DBE_TLV_SEALED_TO, rt.sealed_to);
    dbe_build_payload(&b, payload, len);
    assert_int_equal(dbe_build_end(&b, &n), DBE_OK);
    assert_int_equal(dbe_msg_decode(bytes, n, &msg, NULL), DBE_OK);
    return msg;
}

void tell(size_t link, const struct says *says)
{
    Dsmil__L7ModelStatus status = DSMIL__L7_MODEL_STATUS__INIT;
    Dsmil__ModelInfo info = DSMIL__MODEL_INFO__INIT, *list[ROUTER_MODELS_MAX + 4];
    char id[] = "tiny";
    uint8_t payload[1024], bytes[2048];

    info.id = id;
    info.profile = (char *)(uintptr_t)says->profile;
    for (size_t i = 0; i < says->models; i++)
        list[i] = &info;
    status.ready = says->ready;
    status.max_requests = says->max;
    status.sessions = says->sessions;
    status.active_requests = says->active;
    status.n_models = says->models;
    status.models = list;
    ProtobufCBinaryData card = {0};
    if (rt.card != NULL) {
        card = (ProtobufCBinaryData){strlen(rt.card), (uint8_t *)(uintptr_t)rt.card};
        status.cards = &card;
        status.n_cards = 1;
    }
    size_t len = dsmil__l7_model_status__pack(&status, payload);
    struct dbe_msg msg = message(bytes, sizeof bytes, DBE_MSG_L7_MODEL_STATUS, NULL, payload, len);
    assert_non_null(rt.links[link].ask);
    rt.links[link].ask(rt.links[link].ask_ctx, &msg, false, DBE_OK);
}

void tell_status(bool ready, uint32_t max, size_t models)
{
    tell(FIRST, &(struct says){ready, max, 0, 0, models, BIG});
}

void up(size_t link)
{
    l7_router_device.link_up(NULL, router, &rt.links[link]);
}

void down(size_t link)
{
    dbe_reply_fn *ask = rt.links[link].ask;

    rt.links[link].ask = NULL;
    for (size_t i = 0; i < REQS; i++) {
        struct svc_req *req = &rt.reqs[i];
        if (req->link != &rt.links[link] || req->ended > 0)
            continue;
        req->link = NULL;
        req->fn(req->ctx, NULL, true, DBE_E_CLOSED);
    }
    if (ask != NULL)
        ask(rt.links[link].ask_ctx, NULL, true, DBE_E_CLOSED);
    l7_router_device.link_down(NULL, router, &rt.links[link]);
}

void tick_after(uint64_t ms)
{
    rt.now_ns += ms * BASE_NS_PER_MS;
    l7_router_device.tick(NULL, router);
}

struct svc_req *request_with(size_t slot, uint8_t type, const char *profile, const void *payload, size_t len)
{
    uint8_t bytes[512];
    struct dbe_msg msg = message(bytes, sizeof bytes, type, profile, payload, len);
    struct svc_req *req = &rt.reqs[slot];

    memset(req, 0, sizeof *req);
    assert_true(len <= sizeof req->payload);
    memcpy(req->payload, payload, len);
    req->payload_len = len;
    req->deadline_ns = rt.now_ns + 60 * BASE_NS_PER_S;
    (void)snprintf(req->labels.tenant, sizeof req->labels.tenant, "%s", rt.tenant != NULL ? rt.tenant : "t");
    dbe_err err = router_on_request(NULL, router, req, &msg);
    if (err != DBE_OK) { /* as the runtime does */
        req->refused = err;
        req->ended++;
    }
    memset(bytes, 0xEE, sizeof bytes); /* the message was borrowed */
    return req;
}

struct svc_req *request(size_t slot, uint8_t type, const char *profile)
{
    return request_with(slot, type, profile, "chat", 4);
}

struct svc_req *chat(size_t slot, const char *profile)
{
    return request(slot, DBE_MSG_L7_CHAT_REQ, profile);
}

void answer_with(struct svc_req *req, uint8_t type, const void *payload, size_t len, bool last)
{
    uint8_t bytes[512];
    struct dbe_msg msg = message(bytes, sizeof bytes, type, NULL, payload, len);

    req->fn(req->ctx, &msg, last, DBE_OK);
}

void answer(struct svc_req *req, uint8_t type, bool last)
{
    answer_with(req, type, "answer", 6, last);
}

void answer_error(struct svc_req *req, dbe_err code)
{
    Dsmil__ErrorReply e = DSMIL__ERROR_REPLY__INIT;
    uint8_t payload[64];

    e.code = (uint32_t)code;
    answer_with(req, DBE_MSG_ERROR, payload, dsmil__error_reply__pack(&e, payload), true);
}

int set_up(void **state)
{
    static const char *const names[LINKS] = {"worker-47", "worker-44", "agent-48"};

    (void)state;
    memset(&rt, 0, sizeof rt);
    for (size_t i = 0; i < LINKS; i++)
        rt.links[i].name = names[i];
    rt.link_count = LINKS;
    rt.now_ns = 1000 * BASE_NS_PER_S;
    router = calloc(1, sizeof *router);
    if (router == NULL || base_loop_new(&rt.loop) != DBE_OK ||
        l7_router_device.init(NULL, router, &(struct dbe_diag){0}) != DBE_OK)
        return -1;
    router->config.queue.overload = ROUTER_OVERLOAD_REJECT; /* where a test says nothing else */
    up(FIRST);
    tell_status(true, 4, 1);
    return 0;
}

int set_up_two(void **state)
{
    int err = set_up(state);

    up(SECOND);
    tell(SECOND, &(struct says){true, 4, 0, 0, 1, BIG});
    return err;
}

int set_up_queue(void **state)
{
    int err = set_up(state);

    router->config.queue = (struct router_limits){ROUTER_OVERLOAD_WAIT, 8, 2000};
    return err;
}

int tear_down(void **state)
{
    int left = 0;

    (void)state;
    for (size_t i = 0; i < ROUTER_JOBS_MAX; i++)
        left += router->jobs[i].used;
    for (size_t i = 0; i < router->worker_count; i++)
        left += (int)router->workers[i].in_flight;
    left += (int)router->in_flight + (int)router->queued + (int)router->kept_bytes;
    l7_router_device.fini(NULL, router);
    base_loop_free(rt.loop);
    free(router);
    return left; /* no job stays behind, and nothing of one */
}
