/* SPDX-License-Identifier: Apache-2.0
 *
 * router.c - device 43, the layer 7 router: whom can it send chat requests to, and what do they serve?
 *
 * In:   L7_CHAT_REQ (steps.c), L7_MODEL_STATUS (questions of the shim; answers of workers)
 * Out:  requests to workers, relayed answers, the models of all workers that are up
 * Does: asks each worker what it serves when its link comes up and every second; keeps the table of select.c
 * Not:  no JSON, no chat payload, no policy of its own (the runtime decides before a handler runs)
 *
 * Reading order: tables at the bottom, then steps.c.   Source: 001 section 3.1.   Tests: select_test.c, router_test.c
 */
#include "devices/l7_router/router.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dbe/payload.h"
#include "dsmil.pb-c.h"

/* A worker answers from its loop whatever its model is doing: one question missed takes it off the list for new
 * requests, a second one in a row means that it has stalled. */
enum { STATUS_TIMEOUT_S = 2, STATUS_MAX_BYTES = 65536, STATUS_MISSED_MAX = 2 };

/* Neighbours that answer chat requests, and the profile each is there for (001 section 3.1). */
static const struct svc_neighbour neighbours[] = {
    {.name = "worker-47", .role = DBE_ROLE_WORKER, .device = 47, .required = true},
    {.name = "worker-44", .role = DBE_ROLE_WORKER, .device = 44},
    {0},
};
static const char *const profiles[] = {"llm-7b-amx", "llm-1b-npu"};

/* ---- what workers say ------------------------------------------------------------------------------------------- */

/* Copy a text of a peer; one that is too long is cut, it is only shown and compared. */
static void take_text(char *to, size_t cap, const char *from)
{
    (void)snprintf(to, cap, "%s", from != NULL && base_utf8_valid(from, strlen(from)) ? from : "");
}

static void take_model(struct router_model *to, const Dsmil__ModelInfo *from, uint8_t device)
{
    take_text(to->id, sizeof to->id, from->id);
    take_text(to->profile, sizeof to->profile, from->profile);
    take_text(to->architecture, sizeof to->architecture, from->architecture);
    take_text(to->quantization, sizeof to->quantization, from->quantization);
    to->parameters = from->parameters;
    to->created_unix = from->created_unix;
    to->context_tokens = from->context_tokens;
    to->device_id = device; /* from our own table, not from the message */
}

static void take_status(struct svc *svc, struct router *r, size_t row, const struct dbe_msg *msg)
{
    struct router_worker *w = &r->workers[row];
    Dsmil__L7ModelStatus *status = NULL;

    if (msg->type == DBE_MSG_L7_MODEL_STATUS && msg->payload_len <= STATUS_MAX_BYTES &&
        dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) == DBE_OK)
        status = dsmil__l7_model_status__unpack(NULL, msg->payload_len, msg->payload);
    if (status == NULL) {
        w->ready = false;
        svc_log(svc, SVC_WARN, NULL, "%s gave no valid model status", w->name);
        return;
    }
    bool was_ready = w->ready;
    w->ready = status->ready && status->n_models > 0;
    w->max_requests = status->max_requests;
    w->model_count = BASE_MIN(status->n_models, (size_t)ROUTER_MODELS_MAX);
    for (size_t i = 0; i < w->model_count; i++)
        take_model(&w->models[i], status->models[i], (uint8_t)neighbours[row].device);
    if (w->ready && !was_ready)
        svc_log(svc, SVC_INFO, NULL, "%s serves %s (profile %s), %" PRIu32 " requests at once", w->name,
                w->models[0].id, w->models[0].profile, w->max_requests);
    dsmil__l7_model_status__free_unpacked(status, NULL);
}

/* ---- asking ----------------------------------------------------------------------------------------------------- */

static void on_status(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct router_ask *ask = ctx;
    struct router *r = ask->router;
    size_t row = (size_t)(ask - r->asks);

    (void)last;
    ask->open = false;
    if (msg != NULL) {
        ask->missed = 0;
        take_status(ask->svc, r, row, msg);
        return;
    }
    if (r->workers[row].ready && err != DBE_E_CANCELLED)
        svc_log(ask->svc, SVC_WARN, NULL, "%s does not answer: %s", r->workers[row].name, dbe_err_name(err));
    r->workers[row].ready = false;
    if (err == DBE_E_TIMEOUT && ++ask->missed >= STATUS_MISSED_MAX)
        router_abandon(r, row);
}

static void ask_worker(struct svc *svc, struct router *r, size_t row)
{
    uint64_t call_id;

    if (r->asks[row].open || !r->workers[row].up)
        return;
    uint64_t deadline_ns = svc_now_ns(svc) + STATUS_TIMEOUT_S * BASE_NS_PER_S;
    r->asks[row] = (struct router_ask){svc, r, true, r->asks[row].missed};
    if (svc_call(svc, r->links[row], DBE_MSG_L7_MODEL_STATUS, "", 0, deadline_ns, on_status, &r->asks[row], &call_id) !=
        DBE_OK)
        r->asks[row].open = false;
}

static void router_tick(struct svc *svc, void *state)
{
    struct router *r = state;

    for (size_t i = 0; i < r->worker_count; i++)
        ask_worker(svc, r, i);
}

static void router_link_up(struct svc *svc, void *state, struct svc_link *link)
{
    struct router *r = state;

    for (size_t i = 0; i < r->worker_count; i++) {
        if (strcmp(svc_link_name(link), r->workers[i].name) != 0)
            continue;
        r->links[i] = link;
        r->workers[i].up = true;
        ask_worker(svc, r, i);
    }
}

static void router_link_down(struct svc *svc, void *state, struct svc_link *link)
{
    struct router *r = state;

    (void)svc;
    for (size_t i = 0; i < r->worker_count; i++) {
        if (r->links[i] != link)
            continue;
        r->workers[i].up = false;
        r->workers[i].ready = false;
    }
}

/* ---- what we say ------------------------------------------------------------------------------------------------ */

static void give_model(Dsmil__ModelInfo *to, struct router_model *from)
{
    dsmil__model_info__init(to);
    to->id = from->id;
    to->profile = from->profile;
    to->architecture = from->architecture;
    to->quantization = from->quantization;
    to->parameters = from->parameters;
    to->context_tokens = from->context_tokens;
    to->created_unix = from->created_unix;
    to->device_id = from->device_id;
}

static bool is_listed(Dsmil__ModelInfo *const *list, size_t count, const struct router_model *model)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i]->id, model->id) == 0 && strcmp(list[i]->profile, model->profile) == 0)
            return true;
    return false;
}

/* Models of all workers that are up, each once. */
static dbe_err on_model_status(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    enum { ALL = ROUTER_WORKERS_MAX * ROUTER_MODELS_MAX };
    struct router *r = state;
    Dsmil__ModelInfo infos[ALL], *list[ALL];
    Dsmil__L7ModelStatus status = DSMIL__L7_MODEL_STATUS__INIT;
    uint8_t *packed;

    (void)msg;
    status.models = list;
    for (size_t i = 0; i < r->worker_count; i++) {
        struct router_worker *w = &r->workers[i];
        if (!w->up || !w->ready)
            continue;
        status.ready = 1;
        status.active_requests += w->in_flight;
        status.max_requests += w->max_requests;
        for (size_t m = 0; m < w->model_count; m++) {
            if (is_listed(list, status.n_models, &w->models[m]))
                continue;
            list[status.n_models] = &infos[status.n_models];
            give_model(&infos[status.n_models++], &w->models[m]);
        }
    }
    size_t len = dsmil__l7_model_status__get_packed_size(&status);
    packed = base_alloc(len + 1, 1);
    if (packed == NULL)
        return DBE_E_NOMEM;
    (void)dsmil__l7_model_status__pack(&status, packed);
    dbe_err err = svc_reply(svc, req, DBE_MSG_L7_MODEL_STATUS, packed, len, true);
    base_free(packed);
    return err;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static dbe_err router_init(struct svc *svc, void *state, struct dbe_diag *diag)
{
    struct router *r = state;

    (void)diag;
    _Static_assert(BASE_ARRAY_LEN(profiles) + 1 == BASE_ARRAY_LEN(neighbours), "one profile a neighbour");
    for (size_t i = 0; neighbours[i].name != NULL; i++) {
        r->links[i] = svc_link_named(svc, neighbours[i].name);
        r->workers[i].name = neighbours[i].name;
        r->workers[i].profile = profiles[i];
        r->worker_count++;
    }
    return DBE_OK;
}

static bool router_ready(const struct svc *svc, const void *state)
{
    const struct router *r = state;

    (void)svc;
    for (size_t i = 0; i < r->worker_count; i++)
        if (r->workers[i].ready)
            return true;
    return false;
}

static void router_dump(const void *state, struct svc_dump *out)
{
    const struct router *r = state;

    for (size_t i = 0; i < r->worker_count; i++) {
        const struct router_worker *w = &r->workers[i];
        svc_dumpf(out, "worker %s up=%d ready=%d in_flight=%" PRIu32 "/%" PRIu32 " models=%zu", w->name, w->up,
                  w->ready, w->in_flight, w->max_requests, w->model_count);
    }
    for (size_t i = 0; i < ROUTER_JOBS_MAX; i++)
        if (r->jobs[i].used)
            svc_dumpf(out, "job %zu step=%s profile=%s worker=%zu", i, router_step_name(r->jobs[i].step),
                      r->jobs[i].profile, r->jobs[i].worker);
}

/* ---- the device, declared --------------------------------------------------------------------------------------- */

static const struct svc_route routes[] = {
    {DBE_MSG_L7_CHAT_REQ, router_on_chat},
    {DBE_MSG_L7_MODEL_STATUS, on_model_status},
    {DBE_MSG_L7_EMBED_REQ, router_on_chat},
    {0, NULL},
};

#define FIELD(f) offsetof(struct router, f)
static const struct svc_param params[] = {
    {.key = "default-profile",
     .unit = "profile",
     .kind = SVC_PARAM_TEXT,
     .def_text = "llm-7b-amx",
     .offset = FIELD(default_profile),
     .size = ROUTER_PROFILE_MAX_BYTES + 1,
     .doc = "profile of a request that names none"},
    {0},
};
static const struct svc_counter counters[] = {
    {"dsmil_l7_router_chat_total", "chat requests that policy allowed", "device_id=\"43\"", SVC_COUNTER,
     FIELD(requests)},
    {"dsmil_l7_router_refused_total", "of these, refused for want of a worker or an answer", "device_id=\"43\"",
     SVC_COUNTER, FIELD(refused)},
    {"dsmil_l7_router_cancelled_total", "of these, left by their caller", "device_id=\"43\"", SVC_COUNTER,
     FIELD(cancelled)},
    {"dsmil_l7_router_in_flight", "chat requests at workers now", "device_id=\"43\"", SVC_GAUGE, FIELD(in_flight)},
    {0},
};

const struct svc_device l7_router_device = {
    .device_id = 43,
    .layer = 7,
    .role = DBE_ROLE_ROUTER,
    .name = "l7-router",
    .purpose = "send chat requests that policy allows to a worker of their profile, and the answers back",
    .state_size = sizeof(struct router),
    .routes = routes,
    .neighbours = neighbours,
    .params = params,
    .counters = counters,
    .init = router_init,
    .tick = router_tick,
    .link_up = router_link_up,
    .link_down = router_link_down,
    .ready = router_ready,
    .dump = router_dump,
};

#ifndef DSMIL_TEST
SVC_MAIN(l7_router_device)
#endif
