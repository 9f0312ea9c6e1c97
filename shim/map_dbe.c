/* SPDX-License-Identifier: Apache-2.0
 *
 * map_dbe.c - requests out; the claim tokens that speak for tenants; the models. Answers come in by map_answers.c.
 *
 * In:   struct shim_req
 * Out:  messages to the router
 * Not:  no HTTP, no JSON; of the policy only which tenants' prompts must be sealed
 */
#include "shim/map_dbe.h"

#include <stdio.h>
#include <string.h>

#include "dbe/payload.h"
#include "dsmil.pb-c.h"
#include "shim/payloads.h"

enum {
    ROUTER_DEVICE = 43,
    REQUEST_TLV_ROOM_BYTES = 1024, /* all TLVs but claim and ROE token */
    MODELS_WATCH_S = 600,
    MODELS_MAX_BYTES = 256 * 1024,
};

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
    claim.roe_levels = 1u << SHIM_ROE_LEVEL;
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
    mesh->asking = false; /* the question ended with its channel */
    if (svc_link_is_up(mesh->router))
        shim_mesh_follow_models(mesh);
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
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, SHIM_ROE_LEVEL);
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

/* Answers to all prompts together. */
static uint32_t answers_of(const struct shim_req *req)
{
    const size_t prompts = req->kind == SHIM_COMPLETION ? req->message_count + req->token_count : 1;

    return req->n * (uint32_t)BASE_MAX(prompts, (size_t)1);
}

/* There is no way back from here to a message in clear. */
static dbe_err send_sealed(struct shim_mesh *mesh, struct shim_chat *chat, uint32_t answers,
                           const struct base_buf *plain, const char *profile, const char **reason)
{
    const struct e2e_card *card = NULL;
    const uint64_t now_ms = base_wall_ms();
    struct e2e_labels labels = {.tenant = chat->tenant.name,
                                .profile = profile,
                                .compartments = chat->tenant.compartments,
                                .classification = chat->tenant.classification,
                                .roe_level = SHIM_ROE_LEVEL,
                                .type = request_type(chat),
                                .device = worker_of(&mesh->known, profile)};
    struct base_buf sealed;

    memcpy(labels.request_id, chat->id, sizeof labels.request_id);
    DBE_TRY(shim_cards_find(&mesh->cards, labels.device, &labels, svc_trust(mesh->svc), now_ms, &card, reason));
    base_buf_init(&sealed, DBE_PAYLOAD_MAX_BYTES);
    const struct payload payload = {.packed = &sealed, .sealed_to = labels.device};
    dbe_err err = shim_seal(card, &labels, answers, plain, now_ms, &sealed, &chat->talk);
    if (err == DBE_OK)
        err = send_message(mesh, chat, labels.type, profile, &payload, shim_chat_on_reply);
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
        err = sealed ? send_sealed(mesh, chat, answers_of(req), &chat->request, profile, reason)
                     : send_message(mesh, chat, request_type(chat), profile, &payload, shim_chat_on_reply);
    shim_packing_free(p);
    if (err != DBE_OK)
        shim_chat_let_go(chat);
    else if (!chat->receipt)
        base_buf_free(&chat->request);
    return err;
}

dbe_err shim_chat_payload(const struct shim_tenant *tenant, const struct shim_req *req, struct base_buf *out)
{
    const uint8_t type = req->kind == SHIM_EMBEDDING ? DBE_MSG_L7_EMBED_REQ : DBE_MSG_L7_CHAT_REQ;
    const struct dbe_num_row *level = dbe_reg_classification(tenant->classification);
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
        base_buf_fmt(out, ",\"classification\":\"%s\",\"compartments\":", level != NULL ? level->name : "");
        shim_compartments_json(out, tenant->compartments);
        base_buf_fmt(out, ",\"roe_level\":\"%s\",\"sha3_512\":\"%s\",\"payload\":\"", dbe_reg_roe(SHIM_ROE_LEVEL)->name,
                     hex);
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
    shim_chat_let_go(chat);
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

    (void)err;
    if (last)
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
    mesh->settled |= status->ready != 0;
    take_cards(mesh, status);
    mesh->told_ns = svc_now_ns(mesh->svc);
    dsmil__l7_model_status__free_unpacked(status, NULL);
}

/* A router tells once a second. One that has stopped doing so may have lost the question. */
static bool is_silent(const struct shim_mesh *mesh)
{
    const uint64_t since_ns = svc_now_ns(mesh->svc) - BASE_MAX(mesh->told_ns, mesh->asked_ns);

    return since_ns > SHIM_MODELS_FRESH_MS * (uint64_t)BASE_NS_PER_MS;
}

void shim_mesh_follow_models(struct shim_mesh *mesh)
{
    const uint64_t now_ns = svc_now_ns(mesh->svc);
    Dsmil__L7ModelStatus question = DSMIL__L7_MODEL_STATUS__INIT;
    uint8_t packed[16];

    if (!svc_link_is_up(mesh->router))
        return;
    if (mesh->asking && is_silent(mesh))
        shim_mesh_forget_models(mesh);
    if (mesh->asking)
        return;
    question.watch = true;
    size_t len = dsmil__l7_model_status__pack(&question, packed); /* two bytes */
    mesh->asking = true;
    mesh->asked_ns = now_ns;
    if (svc_call(mesh->svc, mesh->router, DBE_MSG_L7_MODEL_STATUS, packed, len, now_ns + MODELS_WATCH_S * BASE_NS_PER_S,
                 on_models, mesh, &mesh->models_call) != DBE_OK)
        mesh->asking = false;
}

void shim_mesh_forget_models(struct shim_mesh *mesh)
{
    if (!mesh->asking)
        return;
    mesh->asking = false;
    svc_call_cancel(mesh->svc, mesh->router, mesh->models_call);
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
    return mesh->settled && mesh->known.count > 0 && svc_link_is_up(mesh->router);
}

void shim_mesh_init(struct shim_mesh *mesh, struct svc *svc, uint64_t timeout_ms)
{
    mesh->svc = svc;
    mesh->timeout_ms = timeout_ms;
    mesh->router = svc_link_named(svc, "router");
}
