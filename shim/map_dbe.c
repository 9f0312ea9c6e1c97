/* SPDX-License-Identifier: Apache-2.0
 *
 * map_dbe.c - requests out, answers and ERROR in; the claim tokens that speak for tenants; the models.
 *
 * In:   struct shim_req; messages of the router
 * Out:  messages to the router; callbacks with answers in OpenAI's terms
 * Not:  no HTTP, no JSON; of the policy only which tenants' prompts must be sealed
 */
#include "shim/map_dbe.h"

#include <stdio.h>
#include <string.h>

#include "audit/audit.h"
#include "dbe/payload.h"
#include "dsmil.pb-c.h"
#include "shim/payloads.h"

enum {
    SHIM_DEVICE = 0,
    ROUTER_DEVICE = 43,
    REQUEST_TLV_ROOM_BYTES = 1024, /* all TLVs but claim and ROE token */
    MODELS_TIMEOUT_S = 2,
    MODELS_MAX_BYTES = 256 * 1024,
};

enum { SHIM_ROE = DBE_ROE_SOC_ASSIST }; /* 001 section 3.3: what the shim says on behalf of local tools */
#define SHIM_CLIENT "openai_shim"

/* ---- claim ------------------------------------------------------------------------------------------------------ */

/* The place of a tenant's claim: its own, an empty one, or that of the tenant who has not asked for longest. */
static struct shim_claim *claim_place(struct shim_mesh *mesh, const struct shim_tenant *tenant)
{
    struct shim_claim *place = &mesh->claims[0];

    for (size_t i = 0; i < SHIM_CLAIMS_MAX; i++) {
        struct shim_claim *c = &mesh->claims[i];
        if (c->len > 0 && strcmp(c->tenant.name, tenant->name) == 0 &&
            c->tenant.classification == tenant->classification && c->tenant.compartments == tenant->compartments)
            return c;
        if (c->used < place->used)
            place = c;
    }
    base_wipe(place, sizeof *place);
    return place;
}

/* A claim holds on one channel: signed when the channel is new, again before it runs out, not for every message. */
static dbe_err claim_for(struct shim_mesh *mesh, const struct shim_tenant *tenant, const struct shim_claim **ret)
{
    struct dbe_peer *peer = svc_link_peer(mesh->router);
    struct shim_claim *c = claim_place(mesh, tenant);
    uint64_t now_ms = base_wall_ms();
    struct pol_claim claim = {0};

    c->used = ++mesh->clock;
    *ret = c;
    if (c->len > 0 && now_ms < c->renew_ms && now_ms >= c->not_before_ms)
        return DBE_OK;
    if (peer == NULL)
        return DBE_E_UNAVAILABLE;
    (void)snprintf(claim.tenant, sizeof claim.tenant, "%s", tenant->name);
    (void)snprintf(claim.client, sizeof claim.client, "%s", SHIM_CLIENT);
    claim.roe_levels = 1u << SHIM_ROE;
    claim.classification_max = tenant->classification;
    claim.compartments = tenant->compartments;
    claim.not_before_ms = now_ms;
    claim.not_after_ms = now_ms + SHIM_CLAIM_LIFETIME_MS;
    DBE_TRY(dbe_peer_channel_binding(peer, claim.channel_binding));
    DBE_TRY(pol_claim_issue(&claim, svc_credential(mesh->svc), c->bytes, sizeof c->bytes, &c->len));
    c->tenant = *tenant;
    c->not_before_ms = now_ms;
    c->renew_ms = now_ms + SHIM_CLAIM_LIFETIME_MS / 4 * 3;
    return DBE_OK;
}

void shim_mesh_link_changed(struct shim_mesh *mesh)
{
    base_wipe(mesh->claims, sizeof mesh->claims);
    mesh->asking = false;
    if (svc_link_is_up(mesh->router))
        shim_mesh_ask_models(mesh);
}

/* ---- request ---------------------------------------------------------------------------------------------------- */

struct payload { /* a message, or its bytes */
    const ProtobufCMessage *message;
    const struct base_buf *packed;
    uint8_t sealed_to; /* 0: in clear */
};

/* Send a message of this type. */
static dbe_err send_message(struct shim_mesh *mesh, struct shim_chat *chat, uint8_t type, const char *profile,
                            const struct payload *payload, dbe_reply_fn *on_reply_fn)
{
    const struct shim_claim *claim = NULL;
    const size_t payload_len =
        payload->message != NULL ? protobuf_c_message_get_packed_size(payload->message) : payload->packed->len;
    struct dbe_builder b;
    size_t len = 0;

    DBE_TRY(claim_for(mesh, &chat->tenant, &claim));
    const size_t cap = DBE_HEADER_BYTES + REQUEST_TLV_ROOM_BYTES + claim->len + shim_roe_room(chat->roe) + payload_len;
    uint8_t *bytes = base_alloc(1, cap);
    if (bytes == NULL)
        return DBE_E_NOMEM;
    dbe_build_begin(&b, bytes, cap, type, DBE_FLAG_REPLAY_PROTECTED, dbe_correlation_of(chat->id));
    dbe_build_text(&b, DBE_TLV_TENANT_ID, chat->tenant.name);
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, chat->tenant.compartments);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, chat->tenant.classification);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, SHIM_ROE);
    dbe_build_layer_path(&b, NULL, DBE_LAYER_EXTENDED);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, SHIM_DEVICE);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, ROUTER_DEVICE);
    dbe_build_timestamp_ms(&b, base_wall_ms());
    dbe_build_bytes(&b, DBE_TLV_L7_CLAIM_TOKEN, claim->bytes, claim->len);
    dbe_build_text(&b, DBE_TLV_L7_PROFILE, profile);
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, chat->id, sizeof chat->id);
    dbe_build_u32(&b, DBE_TLV_TIMEOUT_MS, (uint32_t)mesh->timeout_ms);
    if (payload->sealed_to != 0)
        dbe_build_u8(&b, DBE_TLV_SEALED_TO, payload->sealed_to);
    if (chat->roe != NULL)
        shim_roe_build(&b, chat->roe);
    void *room = dbe_build_payload_room(&b, payload_len);
    if (room != NULL && payload->message != NULL)
        (void)protobuf_c_message_pack(payload->message, room);
    else if (room != NULL)
        memcpy(room, payload->packed->data, payload_len);
    dbe_err err = dbe_build_end(&b, &len);
    if (err == DBE_OK)
        err = svc_call_message(mesh->svc, mesh->router, bytes, len,
                               chat->begin_ns + mesh->timeout_ms * (uint64_t)BASE_NS_PER_MS, on_reply_fn, chat,
                               &chat->call_id);
    base_wipe(bytes, cap);
    base_free(bytes);
    return err;
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

/* Names of the devices on a chat's way; others are called by their row of the registry. */
static const char *device_name(uint8_t device)
{
    static const struct {
        uint8_t device;
        const char *name;
    } names[] = {{0, "openai-shim"}, {43, "l7-router"}, {44, "l7-llm-worker-npu"}, {47, "l7-llm-worker-47"}};
    const struct dbe_device_row *row = dbe_reg_device(device);

    for (size_t i = 0; i < BASE_ARRAY_LEN(names); i++)
        if (names[i].device == device)
            return names[i].name;
    return row != NULL ? row->title : "unknown";
}

static const char *name_or_null(const struct dbe_num_row *row)
{
    return row != NULL ? row->name : NULL;
}

/* Hops come answering side first; the trace tells them in the order the request took. */
static void make_trace(const struct shim_chat *chat, const struct dbe_msg *msg, struct shim_trace *ret)
{
    const struct shim_mesh *mesh = chat->mesh;
    struct dbe_peer *peer = svc_link_peer(mesh->router);
    struct dbe_hop hops[DBE_HOPS_MAX];
    size_t count = dbe_msg_hops(msg, hops);
    uint8_t classification = chat->tenant.classification, roe = SHIM_ROE;
    uint64_t elapsed_us = (svc_now_ns(mesh->svc) - chat->begin_ns) / BASE_NS_PER_US;

    memset(ret, 0, sizeof *ret);
    memcpy(ret->request_id, chat->id_text, sizeof ret->request_id);
    ret->hops[ret->hop_count++] = (struct shim_hop){SHIM_DEVICE, device_name(SHIM_DEVICE), (uint32_t)elapsed_us, NULL};
    for (size_t i = count; i > 0 && ret->hop_count < SHIM_HOPS_MAX; i--)
        ret->hops[ret->hop_count++] = (struct shim_hop){hops[i - 1].device, device_name(hops[i - 1].device),
                                                        hops[i - 1].elapsed_us, dbe_suite_name(hops[i - 1].suite)};
    ret->suite = peer != NULL ? dbe_peer_suite(peer) : NULL;
    ret->handshake_us = peer != NULL ? dbe_peer_handshake_us(peer) : 0;
    if (dbe_tlv_u32(msg, DBE_TLV_COMPARTMENT_MASK, &ret->compartments) != DBE_OK)
        ret->compartments = chat->tenant.compartments;
    if (dbe_tlv_u8(msg, DBE_TLV_CLASSIFICATION, &classification) == DBE_OK)
        ret->classification = name_or_null(dbe_reg_classification(classification));
    if (dbe_tlv_u8(msg, DBE_TLV_ROE_LEVEL, &roe) == DBE_OK)
        ret->roe_level = name_or_null(dbe_reg_roe(roe));
    ret->tenant = chat->tenant.name;
}

/* What a chat keeps until its end. */
static void let_go(struct shim_chat *chat)
{
    e2e_talk_free(chat->talk);
    chat->talk = NULL;
    base_buf_free(&chat->request);
}

/* Tell that it failed; the chat may be gone afterwards. */
static void fail(struct shim_chat *chat, dbe_err err, const char *reason, const char *rule, uint32_t retry_after_ms)
{
    struct shim_problem p;

    shim_problem_of_mesh(&p, err, reason, rule, retry_after_ms);
    chat->open = false;
    let_go(chat);
    chat->ops->failed(chat, &p);
}

static void take_error(struct shim_chat *chat, const struct dbe_msg *msg)
{
    Dsmil__ErrorReply *e = NULL;

    if (dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) == DBE_OK)
        e = dsmil__error_reply__unpack(NULL, msg->payload_len, msg->payload);
    if (e == NULL) {
        fail(chat, DBE_E_MALFORMED, "the router sent an error that cannot be read", NULL, 0);
        return;
    }
    bool utf8 = base_utf8_valid(e->reason, strlen(e->reason)) && base_utf8_valid(e->rule, strlen(e->rule));
    fail(chat, e->code != 0 && e->code < 256 ? (dbe_err)e->code : DBE_E_STATE, utf8 ? e->reason : NULL,
         utf8 ? e->rule : NULL, e->retry_after_ms);
    dsmil__error_reply__free_unpacked(e, NULL);
}

/* It failed while more may come. */
static void fail_open(struct shim_chat *chat, bool last, dbe_err err, const char *reason)
{
    if (!last)
        svc_call_cancel(chat->mesh->svc, chat->mesh->router, chat->call_id);
    fail(chat, err, reason, NULL, 0);
}

/* The trace's part of receipts, out of what the chat keeps. */
static void add_receipt(const struct shim_chat *chat, const struct shim_taken *taken, struct shim_trace *trace)
{
    trace->sealed = chat->talk != NULL;
    if (!chat->receipt || taken->response == NULL || taken->response->receipt.len == 0)
        return;
    trace->receipt = taken->response->receipt.data;
    trace->receipt_len = taken->response->receipt.len;
    trace->receipt_request = chat->request.data;
    trace->receipt_request_len = chat->request.len;
}

/* How long the client waited: to the first piece where it is told in pieces, and to the end. The profile's name is the
 * router's word: what could end a label is left out of it. */
static void observe(struct shim_chat *chat, bool last)
{
    struct svc *svc = chat->mesh->svc;
    const double seconds = (double)(svc_now_ns(svc) - chat->begin_ns) / (double)BASE_NS_PER_S;
    char profile[sizeof chat->profile], labels[sizeof profile + 32];
    size_t len = 0;

    if (chat->embed)
        return;
    if (chat->stream && !chat->began)
        svc_observe(svc, "dsmil_l7_first_token_seconds", "device_id=\"0\"", seconds);
    chat->began = true;
    if (!last)
        return;
    for (const char *at = chat->profile; *at != '\0'; at++)
        if (*at >= ' ' && *at != '"' && *at != '\\')
            profile[len++] = *at;
    (void)snprintf(labels, sizeof labels, "device_id=\"0\",profile=\"%.*s\"", (int)len, profile);
    svc_observe(svc, "dsmil_l7_latency_seconds", labels, seconds);
}

static void tell_answer(struct shim_chat *chat, const struct dbe_msg *msg, struct shim_taken *taken, bool last)
{
    struct shim_trace trace;

    observe(chat, last);
    taken->answer.created_unix = chat->created_unix;
    if (!last) {
        chat->ops->delta(chat, &taken->answer);
        return;
    }
    make_trace(chat, msg, &trace);
    add_receipt(chat, taken, &trace);
    struct base_buf request = chat->request; /* the chat may be gone when it was told */
    chat->request = (struct base_buf){0};
    let_go(chat);
    chat->open = false;
    if (chat->embed)
        chat->ops->vectors(chat, &taken->vectors, &trace);
    else
        chat->ops->done(chat, &taken->answer, &trace);
    base_buf_free(&request);
}

/* An answer that was changed, swapped or cut between the worker and here. */
static void note_unopened(const struct shim_chat *chat, dbe_err err)
{
    struct shim_mesh *mesh = chat->mesh;
    char detail[160];

    mesh->unopened++;
    (void)snprintf(detail, sizeof detail, "request %s of %.64s: the sealed answer does not open", chat->id_text,
                   chat->tenant.name);
    svc_audit_event(mesh->svc, AUDIT_SEALED, err, svc_link_peer(mesh->router), 0, detail);
}

static void take_answer(struct shim_chat *chat, const struct dbe_msg *msg, bool last)
{
    struct shim_taken *taken = NULL;
    struct dbe_msg inner = *msg;
    struct base_buf plain;
    dbe_err err = DBE_OK;

    base_buf_init(&plain, DBE_PAYLOAD_MAX_BYTES);
    if (chat->talk != NULL) {
        err = shim_open(chat->talk, msg, last, &plain);
        if (err != DBE_OK)
            note_unopened(chat, err);
        inner.payload = plain.data;
        inner.payload_len = plain.len;
    }
    if (err == DBE_OK)
        err = shim_take(&inner, &taken);
    if (err == DBE_OK && chat->embed && !last)
        err = DBE_E_PROTOCOL;
    if (err != DBE_OK)
        fail_open(chat, last, err,
                  chat->talk != NULL ? "the sealed answer does not open" : "the answer cannot be read");
    else
        tell_answer(chat, msg, taken, last);
    shim_taken_free(taken);
    base_buf_free(&plain);
}

static void on_reply(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct shim_chat *chat = ctx;

    if (msg == NULL)
        fail(chat, err == DBE_E_TIMEOUT ? err : DBE_E_UNAVAILABLE, err == DBE_E_TIMEOUT ? NULL : "the router went away",
             NULL, 0);
    else if (msg->type == DBE_MSG_ERROR)
        take_error(chat, msg);
    else if (msg->type == (chat->embed ? DBE_MSG_L7_EMBED_RESP : DBE_MSG_L7_CHAT_RESP))
        take_answer(chat, msg, last);
    else
        fail_open(chat, last, DBE_E_PROTOCOL, "the router sent something else than an answer");
}

/* ---- sending ---------------------------------------------------------------------------------------------------- */

/* Is `tenant` one of those whose prompts are sealed always? The policy in force now says so, or our own option. */
static bool always_sealed(const struct shim_mesh *mesh, const char *tenant)
{
    const struct pol_tenant *row = pol_policy_tenant(svc_policy(mesh->svc), tenant);
    const char *list = mesh->sealed_tenants;
    const size_t len = strlen(tenant);

    if (row != NULL && row->sealed)
        return true;
    if (list == NULL)
        return false;
    for (const char *at = list; *at != '\0';) {
        const size_t n = strcspn(at, ",");
        if ((n == 1 && at[0] == '*') || (n == len && memcmp(at, tenant, n) == 0))
            return true;
        at += n + (at[n] == ',');
    }
    return false;
}

static uint8_t worker_of(const struct shim_models *models, const char *profile)
{
    for (size_t i = 0; i < models->count; i++)
        if (strcmp(models->list[i].profile, profile) == 0)
            return (uint8_t)models->list[i].device_id;
    return 0;
}

static uint8_t request_type(const struct shim_chat *chat)
{
    return chat->embed ? DBE_MSG_L7_EMBED_REQ : DBE_MSG_L7_CHAT_REQ;
}

/* There is no way back from here to a message in clear. */
static dbe_err send_sealed(struct shim_mesh *mesh, struct shim_chat *chat, const struct base_buf *plain,
                           const char *profile, const char **reason)
{
    const struct e2e_card *card = NULL;
    const uint64_t now_ms = base_wall_ms();
    struct e2e_labels labels = {.tenant = chat->tenant.name,
                                .profile = profile,
                                .compartments = chat->tenant.compartments,
                                .classification = chat->tenant.classification,
                                .roe_level = SHIM_ROE,
                                .type = request_type(chat),
                                .device = worker_of(&mesh->known, profile)};
    struct base_buf sealed;

    memcpy(labels.request_id, chat->id, sizeof labels.request_id);
    DBE_TRY(shim_cards_find(&mesh->cards, labels.device, &labels, svc_trust(mesh->svc), now_ms, &card, reason));
    base_buf_init(&sealed, DBE_PAYLOAD_MAX_BYTES);
    const struct payload payload = {.packed = &sealed, .sealed_to = labels.device};
    dbe_err err = shim_seal(card, &labels, plain, now_ms, &sealed, &chat->talk);
    if (err == DBE_OK)
        err = send_message(mesh, chat, labels.type, profile, &payload, on_reply);
    base_buf_free(&sealed);
    return err;
}

static dbe_err send_request(struct shim_mesh *mesh, struct shim_chat *chat, const struct shim_req *req,
                            const char *profile, const char **reason)
{
    const bool sealed = req->sealed || always_sealed(mesh, chat->tenant.name);
    struct shim_packing *p = NULL;
    struct payload payload = {0};

    *reason =
        "dsmil: a sealed prompt carries no ROE token: its receiver, who verifies what was approved, cannot read it";
    if (sealed && chat->roe != NULL)
        return DBE_E_RANGE;
    *reason = NULL;
    DBE_TRY(shim_pack(req, &p, &payload.message));
    dbe_err err = DBE_OK;
    if (sealed || chat->receipt) {
        void *room = base_buf_grow(&chat->request, protobuf_c_message_get_packed_size(payload.message));
        if (room != NULL)
            (void)protobuf_c_message_pack(payload.message, room);
        err = chat->request.err;
    }
    if (err == DBE_OK)
        err = sealed ? send_sealed(mesh, chat, &chat->request, profile, reason)
                     : send_message(mesh, chat, request_type(chat), profile, &payload, on_reply);
    shim_packing_free(p);
    if (err != DBE_OK)
        let_go(chat);
    else if (!chat->receipt)
        base_buf_free(&chat->request);
    return err;
}

dbe_err shim_chat_payload(const struct shim_tenant *tenant, const struct shim_req *req, struct base_buf *out)
{
    const uint8_t type = req->kind == SHIM_EMBEDDING ? DBE_MSG_L7_EMBED_REQ : DBE_MSG_L7_CHAT_REQ;
    const ProtobufCMessage *message = NULL;
    struct shim_packing *p = NULL;
    struct base_buf packed;
    uint8_t digest[CRYPTO_HASH_BYTES];
    char hex[2 * sizeof digest + 1];

    DBE_TRY(shim_pack(req, &p, &message));
    base_buf_init(&packed, DBE_PAYLOAD_MAX_BYTES);
    void *room = base_buf_grow(&packed, protobuf_c_message_get_packed_size(message));
    if (room != NULL)
        (void)protobuf_c_message_pack(message, room);
    dbe_err err = room == NULL ? packed.err : crypto_sha3_512(packed.data, packed.len, digest);
    if (err == DBE_OK) {
        base_hex(digest, sizeof digest, hex);
        base_buf_fmt(out,
                     "{\"object\":\"dsmil.payload\",\"verb\":\"%s\",\"device\":%d,\"tenant\":", dbe_reg_msg(type)->name,
                     ROUTER_DEVICE);
        base_json_str(out, tenant->name, strlen(tenant->name));
        base_buf_fmt(out, ",\"classification\":\"%s\",\"compartments\":",
                     name_or_null(dbe_reg_classification(tenant->classification)));
        shim_compartments_json(out, tenant->compartments);
        base_buf_fmt(out, ",\"roe_level\":\"%s\",\"sha3_512\":\"%s\",\"payload\":\"", dbe_reg_roe(SHIM_ROE)->name, hex);
        base_base64(out, packed.data, packed.len);
        base_buf_str(out, "\"}");
    }
    base_buf_free(&packed); /* wiped */
    shim_packing_free(p);
    return err;
}

dbe_err shim_chat_start(struct shim_mesh *mesh, struct shim_chat *chat, const struct shim_chat_ops *ops,
                        const struct shim_req *req, struct shim_problem *p)
{
    const char *profile;

    chat->mesh = mesh;
    chat->ops = ops;
    chat->embed = req->kind == SHIM_EMBEDDING;
    chat->receipt = req->receipt;
    chat->stream = req->stream;
    chat->began = false;
    base_buf_init(&chat->request, DBE_PAYLOAD_MAX_BYTES);
    chat->begin_ns = svc_now_ns(mesh->svc);
    chat->created_unix = base_wall_ms() / 1000;
    base_uuid_text(chat->id, chat->id_text);
    if (!svc_link_is_up(mesh->router)) {
        shim_problem_of_mesh(p, DBE_E_UNAVAILABLE, svc_link_problem(mesh->router), NULL, 0);
        return DBE_E_UNAVAILABLE;
    }
    if (mesh->known.count == 0) { /* an unknown name could be a known one that nobody has told us of yet */
        shim_problem_of_mesh(p, DBE_E_UNAVAILABLE, "no model is served yet", NULL, 0);
        return DBE_E_UNAVAILABLE;
    }
    DBE_TRY(shim_models_resolve(&mesh->known, req->model, &profile, p));
    (void)snprintf(chat->profile, sizeof chat->profile, "%s", profile);
    const char *reason = NULL;
    dbe_err err = send_request(mesh, chat, req, profile, &reason);
    if (err != DBE_OK)
        shim_problem_of_mesh(p, dbe_err_class(err) == DBE_CLASS_PEER ? DBE_E_UNAVAILABLE : err, reason, NULL, 0);
    chat->open = err == DBE_OK;
    return err;
}

void shim_chat_cancel(struct shim_chat *chat)
{
    if (!chat->open)
        return;
    chat->open = false;
    let_go(chat);
    svc_call_cancel(chat->mesh->svc, chat->mesh->router, chat->call_id);
}

/* ---- models ----------------------------------------------------------------------------------------------------- */

static bool take_text(char *to, size_t cap, const char *from)
{
    size_t len = strlen(from);

    if (len == 0 || len >= cap || !base_utf8_valid(from, len))
        return false;
    memcpy(to, from, len + 1);
    return true;
}

/* The router relays cards, and could relay anything: each is verified. */
static void take_cards(struct shim_mesh *mesh, const Dsmil__L7ModelStatus *status)
{
    const struct dbe_trust *trust = svc_trust(mesh->svc);
    struct dbe_diag diag = {0};

    for (size_t i = 0; trust != NULL && i < BASE_MIN(status->n_cards, (size_t)SHIM_CARDS_MAX); i++)
        if (shim_cards_take(&mesh->cards, status->cards[i].data, status->cards[i].len, trust, base_wall_ms(), &diag) !=
            DBE_OK)
            svc_log(mesh->svc, SVC_WARN, NULL, "a card of a worker's key is refused: %s", diag.text);
}

static void on_models(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct shim_mesh *mesh = ctx;
    Dsmil__L7ModelStatus *status = NULL;

    (void)last;
    (void)err;
    mesh->asking = false;
    if (msg != NULL && msg->type == DBE_MSG_L7_MODEL_STATUS && msg->payload_len <= MODELS_MAX_BYTES &&
        dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) == DBE_OK)
        status = dsmil__l7_model_status__unpack(NULL, msg->payload_len, msg->payload);
    if (status == NULL)
        return;
    mesh->serving.count = 0;
    for (size_t i = 0; i < status->n_models && mesh->serving.count < SHIM_MODELS_MAX; i++) {
        const Dsmil__ModelInfo *from = status->models[i];
        struct shim_model *to = &mesh->serving.list[mesh->serving.count];
        if (!take_text(to->id, sizeof to->id, from->id) || !take_text(to->profile, sizeof to->profile, from->profile))
            continue;
        to->created_unix = from->created_unix;
        to->context_tokens = from->context_tokens;
        to->device_id = from->device_id;
        mesh->serving.count++;
    }
    if (mesh->serving.count > 0)
        mesh->known = mesh->serving;
    take_cards(mesh, status);
    mesh->told_ns = svc_now_ns(mesh->svc);
    dsmil__l7_model_status__free_unpacked(status, NULL);
}

void shim_mesh_ask_models(struct shim_mesh *mesh)
{
    uint64_t call_id, deadline_ns = svc_now_ns(mesh->svc) + MODELS_TIMEOUT_S * BASE_NS_PER_S;

    if (mesh->asking || !svc_link_is_up(mesh->router))
        return;
    mesh->asking = true;
    if (svc_call(mesh->svc, mesh->router, DBE_MSG_L7_MODEL_STATUS, "", 0, deadline_ns, on_models, mesh, &call_id) !=
        DBE_OK)
        mesh->asking = false;
}

dbe_err shim_mesh_models(const struct shim_mesh *mesh, const struct shim_models **ret, struct shim_problem *p)
{
    uint64_t age_ns = svc_now_ns(mesh->svc) - mesh->told_ns;

    if (!svc_link_is_up(mesh->router)) {
        shim_problem_of_mesh(p, DBE_E_UNAVAILABLE, svc_link_problem(mesh->router), NULL, 0);
        return DBE_E_UNAVAILABLE;
    }
    if (mesh->told_ns == 0 || age_ns > SHIM_MODELS_FRESH_MS * (uint64_t)BASE_NS_PER_MS) {
        shim_problem_of_mesh(p, DBE_E_UNAVAILABLE, "the router has not said lately which models it serves", NULL, 0);
        return DBE_E_UNAVAILABLE;
    }
    *ret = &mesh->serving;
    return DBE_OK;
}

bool shim_mesh_is_ready(const struct shim_mesh *mesh)
{
    return mesh->known.count > 0 && svc_link_is_up(mesh->router);
}

void shim_mesh_init(struct shim_mesh *mesh, struct svc *svc, uint64_t timeout_ms)
{
    mesh->svc = svc;
    mesh->timeout_ms = timeout_ms;
    mesh->router = svc_link_named(svc, "router");
}
