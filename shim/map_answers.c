/* SPDX-License-Identifier: Apache-2.0
 *
 * map_answers.c - answers and ERROR of the router, in OpenAI's terms: which way they came, how long that took, and
 * what was sealed.
 *
 * In:   messages of the router (hostile)     Out: a chat's callbacks
 * Not:  no HTTP, no JSON
 */
#include <stdio.h>
#include <string.h>

#include "audit/audit.h"
#include "dbe/payload.h"
#include "dsmil.pb-c.h"
#include "shim/map_dbe.h"
#include "shim/payloads.h"

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
    uint8_t classification = chat->tenant.classification, roe = SHIM_ROE_LEVEL;
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
void shim_chat_let_go(struct shim_chat *chat)
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
    shim_chat_let_go(chat);
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
    shim_chat_let_go(chat);
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

void shim_chat_on_reply(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
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
