/* SPDX-License-Identifier: Apache-2.0
 *
 * router.c - device 43, the layer 7 router: whom can it send requests to, how does it start, what does it show?
 *
 * In:   L7_CHAT_REQ, L7_AGENT_TASK (steps.c), L7_MODEL_STATUS (status.c), L7_POLICY_CHECK
 * Out:  requests to workers and agents, relayed answers, the models of all workers that are up, decisions of policy
 * Not:  no JSON, no chat payload, no policy of its own (the runtime decides before a handler runs)
 *
 * Reading order: tables at the bottom, then steps.c and walk.h, status.c, config.c.   Source: 001 section 3.1.
 * Tests: router_test.c plays the runtime; the pure parts have tests of their own.
 */
#include "devices/l7_router/router.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dbe/payload.h"
#include "dsmil.pb-c.h"

/* Neighbours that answer requests. Any of them may be left out. */
static const struct svc_neighbour neighbours[] = {
    {.name = "worker-47", .role = DBE_ROLE_WORKER, .device = 47},
    {.name = "worker-44", .role = DBE_ROLE_WORKER, .device = 44},
    {.name = "worker-45", .role = DBE_ROLE_WORKER, .device = 45},
    {.name = "worker-46", .role = DBE_ROLE_WORKER, .device = 46},
    {.name = "worker-49", .role = DBE_ROLE_WORKER, .device = 49},
    {.name = "worker-50", .role = DBE_ROLE_WORKER, .device = 50},
    {.name = "agent-48", .role = DBE_ROLE_AGENT, .device = 48},
    {0},
};

/* What each serves until it has said, unless the configuration says otherwise (001 section 3.1). */
static const char *profile_of(const struct router_config *config, const struct svc_neighbour *n)
{
    for (size_t i = 0; i < config->worker_count; i++)
        if (strcmp(config->workers[i].name, n->name) == 0)
            return config->workers[i].profile;
    return n->role == DBE_ROLE_AGENT ? ROUTER_TASK_PROFILE
           : n->device == 47         ? "llm-7b-amx"
           : n->device == 44         ? "llm-1b-npu"
                                     : "";
}

/* ---- questions to policy ---------------------------------------------------------------------------------------- */

dbe_err router_on_policy_check(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    Dsmil__L7PolicyCheck answer = DSMIL__L7_POLICY_CHECK__INIT, *question = NULL;
    struct pol_verdict verdict;
    uint8_t packed[512];

    (void)state;
    if (dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) == DBE_OK)
        question = dsmil__l7_policy_check__unpack(NULL, msg->payload_len, msg->payload);
    if (question == NULL)
        return DBE_E_MALFORMED;
    answer.msg_type = question->msg_type;
    answer.dst_device = question->dst_device;
    dsmil__l7_policy_check__free_unpacked(question, NULL);
    if (answer.msg_type > UINT8_MAX || answer.dst_device > UINT8_MAX || dbe_reg_msg((uint8_t)answer.msg_type) == NULL)
        return DBE_E_RANGE;
    svc_policy_ask(svc, req, msg, (uint8_t)answer.msg_type, (uint8_t)answer.dst_device, &verdict);
    answer.answered = true;
    answer.allowed = verdict.code == DBE_OK;
    answer.code = (uint32_t)verdict.code;
    answer.rule = (char *)(uintptr_t)verdict.rule; /* packing only reads */
    answer.reason = verdict.reason;
    if (dsmil__l7_policy_check__get_packed_size(&answer) > sizeof packed)
        return DBE_E_TOO_LARGE;
    size_t len = dsmil__l7_policy_check__pack(&answer, packed);
    return svc_reply(svc, req, DBE_MSG_L7_POLICY_CHECK, packed, len, true);
}

/* ---- configuration ---------------------------------------------------------------------------------------------- */

static void expect_profiles(struct router *r)
{
    for (size_t i = 0; i < r->worker_count; i++) {
        const struct svc_neighbour *n = neighbours;
        while (strcmp(n->name, r->workers[i].name) != 0)
            n++;
        (void)snprintf(r->workers[i].profile, sizeof r->workers[i].profile, "%s", profile_of(&r->config, n));
    }
}

/* Take what the file says now. At the start a wrong file is an error; later the old one stays in force. */
static dbe_err load_config(struct router *r, struct dbe_diag *diag)
{
    dbe_err err;

    if (!router_file_changed(&r->file))
        return DBE_OK;
    if (r->file.optional && r->file.seen[0] == 0) {
        router_config_default(&r->config);
        err = DBE_OK;
    } else {
        err = router_config_read(r->file.path, &r->config, diag);
    }
    if (err == DBE_OK)
        expect_profiles(r);
    return err;
}

static void reload_config(struct svc *svc, struct router *r)
{
    struct router_file before = r->file;
    struct dbe_diag diag = {0};
    dbe_err err = load_config(r, &diag);

    if (memcmp(before.seen, r->file.seen, sizeof before.seen) == 0)
        return;
    r->reloads += err == DBE_OK;
    r->reloads_refused += err != DBE_OK;
    if (err == DBE_OK)
        svc_log(svc, SVC_INFO, NULL, "%s is in force",
                r->file.seen[0] != 0 ? r->file.path : "the built-in configuration");
    else
        svc_log(svc, SVC_ERROR, NULL, "%s; the configuration before stays in force",
                diag.text[0] != '\0' ? diag.text : dbe_err_text(err));
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static void add_worker(struct svc *svc, struct router *r, const struct svc_neighbour *n)
{
    struct svc_link *link = svc_link_named(svc, n->name);

    if (link == NULL) /* no address: there is none such here */
        return;
    r->links[r->worker_count] = link;
    r->workers[r->worker_count].name = n->name;
    r->workers[r->worker_count].device = (uint8_t)n->device;
    r->workers[r->worker_count].tasks = n->role == DBE_ROLE_AGENT;
    r->worker_count++;
}

static dbe_err router_init(struct svc *svc, void *state, struct dbe_diag *diag)
{
    struct router *r = state;
    const char *path = svc_config_path(svc);

    _Static_assert(BASE_ARRAY_LEN(neighbours) - 1 <= ROUTER_WORKERS_MAX, "a row a neighbour");
    for (const struct svc_neighbour *n = neighbours; n->name != NULL; n++)
        add_worker(svc, r, n);
    if (r->worker_count == 0)
        return dbe_fail(diag, DBE_E_CONFIG, NULL, 0, "say where a worker is, such as --link-worker-47 ADDRESS");
    r->file.optional = path[0] == '\0';
    (void)snprintf(r->file.path, sizeof r->file.path, "%s", path[0] != '\0' ? path : ROUTER_CONFIG_PATH);
    base_buf_init(&r->packed, ROUTER_STATUS_MAX_BYTES);
    router_config_default(&r->config);
    expect_profiles(r);
    DBE_TRY(load_config(r, diag));
    if (!r->file.optional && r->file.seen[0] == 0)
        return dbe_fail(diag, DBE_E_CONFIG, NULL, 0, "cannot read %.150s", path);
    r->jobs = base_alloc(ROUTER_JOBS_MAX, sizeof *r->jobs);
    if (r->jobs == NULL)
        return DBE_E_NOMEM;
    DBE_TRY(pol_rates_new(&r->rates));
    DBE_TRY(router_accounts_open(svc, &r->accounts, r->rates));
    return base_loop_timer(svc_loop(svc), router_on_queue_timer, r, &r->queue_timer);
}

static void gauge_workers(struct svc *svc, const struct router *r)
{
    char labels[96];

    for (size_t i = 0; i < r->worker_count; i++) {
        const struct router_worker *w = &r->workers[i];
        bool healthy = w->up && w->ready && w->breaker.state == BREAKER_CLOSED;
        (void)snprintf(labels, sizeof labels, "device_id=\"43\",worker=\"%s\"", w->name);
        svc_count(svc, "dsmil_l7_router_worker_healthy", labels, healthy);
        svc_count(svc, "dsmil_l7_router_worker_in_flight", labels, w->in_flight);
        svc_count(svc, "dsmil_l7_router_worker_breaker", labels, (uint64_t)w->breaker.state);
    }
}

static void router_tick(struct svc *svc, void *state)
{
    struct router *r = state;

    reload_config(svc, r);
    router_status_tick(svc, r);
    router_dispatch(r); /* a breaker may be half open by now */
    gauge_workers(svc, r);
    router_accounts_tick(svc, &r->accounts, r->rates);
}

static void router_reloaded(struct svc *svc, void *state)
{
    reload_config(svc, state);
}

static void router_link_up(struct svc *svc, void *state, struct svc_link *link)
{
    router_status_link(svc, state, link, true);
}

static void router_link_down(struct svc *svc, void *state, struct svc_link *link)
{
    router_status_link(svc, state, link, false);
}

static bool router_ready(const struct svc *svc, const void *state)
{
    const struct router *r = state;

    (void)svc;
    return router_status_ready(r);
}

static void router_drain(struct svc *svc, void *state)
{
    router_status_drain(svc, state);
}

static void router_fini(struct svc *svc, void *state)
{
    struct router *r = state;

    if (r->rates != NULL)
        router_accounts_close(svc, &r->accounts, r->rates);
    base_timer_free(r->queue_timer);
    r->queue_timer = NULL;
    base_free(r->jobs);
    r->jobs = NULL;
    pol_rates_free(r->rates);
    r->rates = NULL;
    router_status_free(r);
}

static void router_dump(const void *state, struct svc_dump *out)
{
    const struct router *r = state;

    for (size_t i = 0; i < r->worker_count; i++) {
        const struct router_worker *w = &r->workers[i];
        svc_dumpf(out,
                  "worker %s up=%d ready=%d breaker=%s in_flight=%" PRIu32 "/%" PRIu32 " reported=%" PRIu32
                  " models=%zu",
                  w->name, w->up, w->ready, breaker_state_name(w->breaker.state), w->in_flight, w->max_requests,
                  w->reported, w->model_count);
    }
    for (size_t i = 0; i < r->profile_count; i++)
        svc_dumpf(out, "profile %s waiting=%zu mean_ms=%.1f", r->profiles[i].name, r->profiles[i].queue.count,
                  r->profiles[i].pace.mean_ms);
    for (size_t i = 0; i < r->jobs_begun; i++)
        if (r->jobs[i].used)
            svc_dumpf(out, "job %zu step=%s profile=%s worker=%zu attempts=%" PRIu32, i,
                      router_step_name(r->jobs[i].step), r->jobs[i].profile != NULL ? r->jobs[i].profile->name : "",
                      r->jobs[i].worker, r->jobs[i].attempts);
}

/* ---- the device, declared --------------------------------------------------------------------------------------- */

static const struct svc_route routes[] = {
    {DBE_MSG_L7_CHAT_REQ, router_on_request},          {DBE_MSG_L7_EMBED_REQ, router_on_request},
    {DBE_MSG_L7_AGENT_TASK, router_on_request},        {DBE_MSG_L7_MODEL_STATUS, router_on_model_status},
    {DBE_MSG_L7_POLICY_CHECK, router_on_policy_check}, {0, NULL},
};

static const struct svc_param params[] = {
    {.key = "accounts",
     .unit = "FILE",
     .kind = SVC_PARAM_TEXT,
     .offset = offsetof(struct router, accounts.path),
     .size = ROUTER_ACCOUNTS_PATH_MAX,
     .doc = "what tenants have used of their limits, over a restart; empty: forgotten"},
    {.kind = SVC_PARAM_END},
};

#define LABELLED(metric, words, labels, how, f)                                                                        \
    {                                                                                                                  \
        metric, words, "device_id=\"43\"" labels, how, offsetof(struct router, f)                                      \
    }
#define COUNTER(metric, words, how, f) LABELLED(metric, words, "", how, f)
#define BY_KIND(name, f)                                                                                               \
    LABELLED("dsmil_l7_router_requests_total", "requests that policy allowed, by kind", ",kind=\"" name "\"",          \
             SVC_COUNTER, f)
static const struct svc_counter counters[] = {
    BY_KIND("chat", chats),
    BY_KIND("embedding", embeddings),
    BY_KIND("task", tasks),
    COUNTER("dsmil_l7_router_refused_total", "of these, refused for want of a worker or an answer", SVC_COUNTER,
            refused),
    COUNTER("dsmil_l7_router_cancelled_total", "of these, left by their caller", SVC_COUNTER, cancelled),
    COUNTER("dsmil_l7_router_in_flight", "requests at workers now", SVC_GAUGE, in_flight),
    COUNTER("dsmil_l7_router_queued", "requests that wait for a place", SVC_GAUGE, queued),
    COUNTER("dsmil_l7_router_rejected_total", "requests refused because the queue was full or off", SVC_COUNTER,
            rejected),
    COUNTER("dsmil_l7_router_expired_total", "requests that waited too long", SVC_COUNTER, expired),
    COUNTER("dsmil_l7_router_failovers_total", "requests sent to another worker after one had failed", SVC_COUNTER,
            failovers),
    COUNTER("dsmil_l7_router_not_kept_total", "requests without a second try, for want of memory", SVC_COUNTER,
            not_kept),
    COUNTER("dsmil_l7_router_accounts_failures_total", "times that what tenants have used could not be kept",
            SVC_COUNTER, accounts.failures),
    COUNTER("dsmil_l7_router_reloads_total", "configurations put in force while running", SVC_COUNTER, reloads),
    COUNTER("dsmil_l7_router_reloads_refused_total", "configurations that were wrong", SVC_COUNTER, reloads_refused),
    {0},
};

const struct svc_device l7_router_device = {
    .device_id = 43,
    .layer = 7,
    .role = DBE_ROLE_ROUTER,
    .name = "l7-router",
    .purpose = "send requests that policy allows to a worker of their profile, and the answers back",
    .config_default = ROUTER_CONFIG_PATH,
    .config_section = ROUTER_CONFIG_SECTION,
    .state_size = sizeof(struct router),
    .routes = routes,
    .neighbours = neighbours,
    .params = params,
    .counters = counters,
    .init = router_init,
    .tick = router_tick,
    .link_up = router_link_up,
    .link_down = router_link_down,
    .reloaded = router_reloaded,
    .ready = router_ready,
    .drain = router_drain,
    .dump = router_dump,
    .fini = router_fini,
};

#ifndef DSMIL_TEST
SVC_MAIN(l7_router_device)
#endif
