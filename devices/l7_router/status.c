/* SPDX-License-Identifier: Apache-2.0
 *
 * status.c - what workers serve and how they are: asked once when a link comes up, and told as it changes.
 *
 * In:   links that come and go; L7_MODEL_STATUS of workers, as a stream; the question of a gateway
 * Out:  the rows of the table that select.c chooses from; the models of all workers that are up, to those who watch:
 *       when they change, and once a second as a sign of life
 * Not:  no request of anybody (steps.c)
 *
 * A worker tells its status whenever it changes and once a second, from its loop, whatever its model is doing. One that
 * is silent for `silence` gets no request; one that is silent for twice as long has stalled, and its requests leave it.
 */
#include "devices/l7_router/router.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dbe/payload.h"
#include "dsmil.pb-c.h"

enum { WATCH_DEADLINE_S = 600, STATUS_MAX_BYTES = 65536, CARD_MAX_BYTES = 24 * 1024 };

static void tell_changed(struct svc *svc, struct router *r);

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
    to->kv_bytes_per_token = from->kv_bytes_per_token;
    to->device_id = device; /* from our own table, not from the message */
}

/* True: they are others than before. */
static bool take_models(struct router_worker *w, const Dsmil__L7ModelStatus *status, uint8_t device)
{
    const size_t count = w->tasks ? 0 : BASE_MIN(status->n_models, (size_t)ROUTER_MODELS_MAX);
    bool changed = count != w->model_count;

    for (size_t i = 0; i < count; i++) {
        struct router_model model;
        memset(&model, 0, sizeof model); /* with what lies between its fields: it is compared as bytes */
        take_model(&model, status->models[i], device);
        changed |= memcmp(&model, &w->models[i], sizeof model) != 0;
        memcpy(&w->models[i], &model, sizeof model);
    }
    w->model_count = count;
    return changed;
}

/* Keep the card as it came; who seals prompts verifies it. Most notices have none: then it is as before. True: it is
 * another than before. */
static bool take_card(struct router_worker *w, const Dsmil__L7ModelStatus *status)
{
    if (w->tasks || status->n_cards != 1 || status->cards[0].len == 0 || status->cards[0].len > CARD_MAX_BYTES)
        return false;
    const ProtobufCBinaryData *card = &status->cards[0];
    if (w->card_len == card->len && memcmp(w->card, card->data, card->len) == 0)
        return false;
    uint8_t *copy = base_alloc(1, card->len);
    if (copy == NULL)
        return false; /* it comes again in a second */
    memcpy(copy, card->data, card->len);
    base_free(w->card);
    w->card = copy;
    w->card_len = card->len;
    return true;
}

static void drop_card(struct router_worker *w)
{
    base_free(w->card);
    w->card = NULL;
    w->card_len = 0;
}

static void log_serving(struct svc *svc, const struct router_worker *w)
{
    const bool models = w->model_count > 0;

    svc_log(svc, SVC_INFO, NULL, "%s serves %s (profile %s), %" PRIu32 " requests, of these %" PRIu32 " at once",
            w->name, models ? w->models[0].id : "tasks", models ? w->models[0].profile : w->profile, w->max_requests,
            w->sessions);
}

static void take_status(struct svc *svc, struct router *r, size_t row, const struct dbe_msg *msg)
{
    struct router_worker *w = &r->workers[row];
    Dsmil__L7ModelStatus *status = NULL;

    if (msg->type == DBE_MSG_L7_MODEL_STATUS && msg->payload_len <= STATUS_MAX_BYTES &&
        dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) == DBE_OK)
        status = dsmil__l7_model_status__unpack(NULL, msg->payload_len, msg->payload);
    if (status == NULL) {
        r->changed |= w->ready;
        w->ready = false;
        svc_log(svc, SVC_WARN, NULL, "%s gave no valid model status", w->name);
        return;
    }
    bool was_ready = w->ready;
    w->ready = status->ready && (w->tasks || status->n_models > 0);
    w->max_requests = status->max_requests;
    w->sessions = status->sessions;
    w->reported = status->active_requests;
    r->changed |= w->ready != was_ready;
    r->changed |= take_models(w, status, w->device);
    r->changed |= take_card(w, status);
    if (w->ready && !was_ready)
        log_serving(svc, w);
    dsmil__l7_model_status__free_unpacked(status, NULL);
    router_dispatch(r);
}

/* ---- following -------------------------------------------------------------------------------------------------- */

static void on_status(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct router_watch *watch = ctx;
    struct router *r = watch->router;
    size_t row = (size_t)(watch - r->watches);

    if (last)
        watch->open = false;
    watch->told = true;
    if (msg != NULL) {
        watch->heard_ns = svc_now_ns(watch->svc);
        watch->stalled = false;
        take_status(watch->svc, r, row, msg);
        tell_changed(watch->svc, r);
        return;
    }
    if (r->workers[row].ready && err != DBE_E_CANCELLED && err != DBE_E_TIMEOUT)
        svc_log(watch->svc, SVC_WARN, NULL, "%s tells no more how it is: %s", r->workers[row].name, dbe_err_name(err));
    if (err == DBE_E_TIMEOUT) /* of the question; the worker may be well, and is asked again */
        return;
    r->changed |= r->workers[row].ready;
    r->workers[row].ready = false;
    tell_changed(watch->svc, r);
}

static void follow(struct svc *svc, struct router *r, size_t row)
{
    struct router_watch *watch = &r->watches[row];
    Dsmil__L7ModelStatus question = DSMIL__L7_MODEL_STATUS__INIT;
    uint8_t packed[16];

    if (watch->open || !r->workers[row].up)
        return;
    question.watch = true;
    size_t len = dsmil__l7_model_status__pack(&question, packed); /* two bytes */
    uint64_t deadline_ns = svc_now_ns(svc) + WATCH_DEADLINE_S * BASE_NS_PER_S;
    watch->svc = svc;
    watch->router = r;
    watch->open = true;
    if (svc_call(svc, r->links[row], DBE_MSG_L7_MODEL_STATUS, packed, len, deadline_ns, on_status, watch,
                 &watch->call_id) != DBE_OK)
        watch->open = false;
}

static void unfollow(struct svc *svc, struct router *r, size_t row)
{
    if (!r->watches[row].open)
        return;
    r->watches[row].open = false;
    svc_call_cancel(svc, r->links[row], r->watches[row].call_id);
}

/* A worker that says nothing. */
static void look_after(struct svc *svc, struct router *r, size_t row)
{
    struct router_worker *w = &r->workers[row];
    struct router_watch *watch = &r->watches[row];
    const uint64_t silence_ns = r->config.silence_ms * BASE_NS_PER_MS, now = svc_now_ns(svc);
    const uint64_t silent_ns = now > watch->heard_ns ? now - watch->heard_ns : 0;

    if (!w->up || silent_ns < silence_ns)
        return;
    if (w->ready)
        svc_log(svc, SVC_WARN, NULL, "%s has said nothing for %" PRIu64 " ms", w->name, silent_ns / BASE_NS_PER_MS);
    r->changed |= w->ready;
    w->ready = false;
    watch->told = true; /* in vain waited for */
    if (silent_ns < 2 * silence_ns || watch->stalled)
        return;
    watch->stalled = true;
    unfollow(svc, r, row);
    router_abandon(r, row);
}

void router_status_tick(struct svc *svc, struct router *r)
{
    for (size_t i = 0; i < r->worker_count; i++) {
        look_after(svc, r, i);
        follow(svc, r, i);
    }
    r->changed = true; /* a sign of life for those who watch */
    tell_changed(svc, r);
}

void router_status_link(struct svc *svc, struct router *r, const struct svc_link *link, bool up)
{
    for (size_t i = 0; i < r->worker_count; i++) {
        if (r->links[i] != link)
            continue;
        r->workers[i].up = up;
        if (up) {
            r->watches[i].heard_ns = svc_now_ns(svc);
            follow(svc, r, i);
            continue;
        }
        r->changed |= r->workers[i].ready;
        r->workers[i].ready = false;
        r->workers[i].reported = 0;
        drop_card(&r->workers[i]); /* it comes back with another key */
        breaker_fail(&r->workers[i].breaker, &r->config.breaker, svc_now_ns(svc));
    }
    tell_changed(svc, r);
    router_dispatch(r);
}

void router_status_free(struct router *r)
{
    for (size_t i = 0; i < r->worker_count; i++)
        drop_card(&r->workers[i]);
    base_buf_free(&r->packed);
}

/* ---- are we ready ----------------------------------------------------------------------------------------------- */

static void settle(struct svc *svc, struct router *r)
{
    if (r->settled || !svc_links_settled(svc))
        return;
    for (size_t i = 0; i < r->worker_count; i++)
        if (r->workers[i].up && !r->watches[i].told)
            return;
    r->settled = r->changed = true;
}

bool router_status_ready(const struct router *r)
{
    for (size_t i = 0; r->settled && i < r->worker_count; i++)
        if (r->workers[i].ready && !r->workers[i].tasks)
            return true;
    return false;
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
    to->kv_bytes_per_token = from->kv_bytes_per_token;
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

/* Models of all workers that are up, each once, into `packed`. */
static dbe_err pack_serving(struct router *r)
{
    enum { ALL = ROUTER_WORKERS_MAX * ROUTER_MODELS_MAX };
    Dsmil__ModelInfo infos[ALL], *list[ALL];
    Dsmil__L7ModelStatus status = DSMIL__L7_MODEL_STATUS__INIT;
    ProtobufCBinaryData cards[ROUTER_WORKERS_MAX];

    status.ready = router_status_ready(r);
    status.models = list;
    status.cards = cards;
    for (size_t i = 0; i < r->worker_count; i++) {
        struct router_worker *w = &r->workers[i];
        if (!w->up || !w->ready || w->tasks)
            continue;
        status.active_requests += w->in_flight;
        status.max_requests += w->max_requests;
        status.sessions += w->sessions;
        if (w->card != NULL)
            cards[status.n_cards++] = (ProtobufCBinaryData){w->card_len, w->card};
        for (size_t m = 0; m < w->model_count; m++) {
            if (is_listed(list, status.n_models, &w->models[m]))
                continue;
            list[status.n_models] = &infos[status.n_models];
            give_model(&infos[status.n_models++], &w->models[m]);
        }
    }
    base_buf_clear(&r->packed);
    void *room = base_buf_grow(&r->packed, dsmil__l7_model_status__get_packed_size(&status));
    if (room == NULL)
        return r->packed.err;
    (void)dsmil__l7_model_status__pack(&status, room);
    return DBE_OK;
}

static void tell(struct svc *svc, struct router *r, bool last)
{
    if (pack_serving(r) == DBE_OK)
        svc_watchers_tell(svc, &r->watchers, DBE_MSG_L7_MODEL_STATUS, r->packed.data, r->packed.len, last);
}

/* At once, so that nobody asks for what is gone or misses what has come. */
static void tell_changed(struct svc *svc, struct router *r)
{
    settle(svc, r);
    if (!r->changed)
        return;
    r->changed = false;
    tell(svc, r, false);
}

void router_status_drain(struct svc *svc, struct router *r)
{
    for (size_t i = 0; i < r->worker_count; i++)
        unfollow(svc, r, i);
    tell(svc, r, true);
}

dbe_err router_on_model_status(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{
    struct router *r = state;

    DBE_TRY(pack_serving(r));
    return svc_watchers_answer(svc, &r->watchers, req, msg, r->packed.data, r->packed.len);
}
