/* SPDX-License-Identifier: Apache-2.0
 *
 * forward.c - what goes out: links to neighbours, forwarded requests, calls of the service's own.
 *
 * In:   a request's message, a payload of our own, or a whole message of a gateway
 * Out:  one call on the neighbour's channel; its answers, each held against the labels of what was asked before
 *       the device sees it
 * Not:  no payload is decoded; no retry: the device decides what a failed call means.
 */
#include "runtime/audit.h"
#include "runtime/priv.h"

#include <stdio.h>
#include <string.h>

#include "dsmil.pb-c.h"

/* ---- links ----------------------------------------------------------------------------------- */

struct svc_link *svc_link_named(struct svc *svc, const char *name)
{
    for (size_t i = 0; i < svc->link_count; i++)
        if (strcmp(svc->links[i].neighbour->name, name) == 0)
            return &svc->links[i];
    return NULL;
}

bool svc_link_is_up(const struct svc_link *link)
{
    return link->peer != NULL;
}

const char *svc_link_name(const struct svc_link *link)
{
    return link->neighbour->name;
}

void *svc_link_user(const struct svc_link *link)
{
    return link->user;
}

void svc_link_set_user(struct svc_link *link, void *user)
{
    link->user = user;
}

struct dbe_peer *svc_link_peer(const struct svc_link *link)
{
    return link->peer;
}

/* The text lives in the link, which svc.h hands out as const: it is a memory for answers, no state. */
const char *svc_link_problem(const struct svc_link *link)
{
    struct svc_link *memory = &link->svc->links[link - link->svc->links];
    struct dbe_diag diag = {0};

    if (link->peer != NULL)
        return "";
    dbe_err err = link->link != NULL ? dbe_link_last_error(link->link, &diag) : DBE_E_UNAVAILABLE;
    snprintf(memory->problem, sizeof memory->problem, "%s",
             diag.text[0] != '\0' ? diag.text
             : err == DBE_OK      ? "not connected yet"
                                  : dbe_err_text(err));
    return memory->problem;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void call_free(struct svc_call *call)
{
    *call->prev = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
    call->svc->call_count--;
    base_free(call);
}

void svc_calls_free(struct svc *svc)
{
    while (svc->calls != NULL)
        call_free(svc->calls);
}

/* Tell the neighbour that nobody waits any more. Best effort: it has a deadline of its own. */
static void send_cancel(const struct svc_call *call)
{
    struct svc *svc = call->svc;
    const struct dbe_identity *to = dbe_peer_identity(call->peer);
    Dsmil__L7Cancel payload = DSMIL__L7_CANCEL__INIT;
    uint8_t packed[32];
    struct dbe_builder b;
    size_t len;

    if (svc->closing || !dbe_reg_may_emit(svc->dev->role, DBE_MSG_L7_CANCEL, to->role) ||
        svc_scratch(svc, 0, 64) != DBE_OK)
        return;
    payload.request_id.data = (uint8_t *)(uintptr_t)call->request_id; /* packing only reads */
    payload.request_id.len = sizeof call->request_id;
    size_t packed_len = dsmil__l7_cancel__get_packed_size(&payload);
    if (packed_len > sizeof packed)
        return;
    dsmil__l7_cancel__pack(&payload, packed);
    dbe_build_begin(&b, svc->scratch, svc->scratch_cap, DBE_MSG_L7_CANCEL, DBE_FLAG_REPLAY_PROTECTED,
                    call->correlation);
    svc_stamp(svc, &b, to->device, &call->labels);
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, call->request_id, sizeof call->request_id);
    dbe_build_payload(&b, packed, packed_len);
    dbe_err err = dbe_build_end(&b, &len);
    if (err == DBE_OK)
        err = dbe_send(call->peer, svc->scratch, len);
    if (err != DBE_OK)
        svc_count_error(svc, err);
}

/* End the call for the device with `err`; nothing follows. */
static void call_fail(struct svc_call *call, dbe_err err)
{
    struct svc *svc = call->svc;
    dbe_reply_fn *fn = call->fn;
    void *ctx = call->ctx;

    call_free(call);
    fn(ctx, NULL, true, err);
    svc_check_ready(svc);
}

static void on_answer(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct svc_call *call = ctx;
    struct svc *svc = call->svc;
    struct pol_verdict verdict;
    dbe_reply_fn *fn = call->fn;
    void *fn_ctx = call->ctx;

    if (msg == NULL) {
        if (err == DBE_E_TIMEOUT)
            send_cancel(call); /* the neighbour's clock may say otherwise */
        call_fail(call, err);
        return;
    }
    const struct dbe_identity *peer = dbe_peer_identity(call->peer);
    pol_decide_answer(peer, svc_identity(svc), &call->labels, msg, &verdict);
    if (verdict.code != DBE_OK) {
        svc_audit_message(svc, peer, msg, "answer", &verdict);
        svc_audit_decision(svc, AUDIT_ANSWER, call->peer, msg, &verdict);
        if (!last) {
            dbe_call_cancel(call->peer, call->node_call_id);
            send_cancel(call);
        }
        call_fail(call, verdict.code);
        return;
    }
    if (last)
        call_free(call);
    fn(fn_ctx, msg, last, DBE_OK);
    svc_check_ready(svc); /* what a neighbour says may be what the device waited for */
}

/* What a call is made of; `labels` and `request_id` bind its answers and its cancellation. */
struct outgoing {
    const void *bytes;
    size_t len;
    uint64_t correlation, deadline_ns;
    struct pol_labels labels;
    uint8_t request_id[16];
};

/* May the neighbour be sent this? E_UNAVAILABLE while it is down; what its certificate may not hold stays here. */
static dbe_err may_send(struct svc *svc, const struct svc_link *link, const struct pol_labels *labels)
{
    struct pol_verdict verdict;

    if (link->peer == NULL || svc->closing)
        return DBE_E_UNAVAILABLE;
    if (svc->call_count >= SVC_CALLS_MAX)
        return DBE_E_LIMIT;
    pol_decide_send(dbe_peer_identity(link->peer), labels, &verdict);
    if (verdict.code != DBE_OK)
        svc_log(svc, SVC_WARN, NULL, "not sent to %s: %s", link->neighbour->name, verdict.reason);
    return verdict.code;
}

static dbe_err call_start(struct svc *svc, struct svc_link *link, const struct outgoing *out, dbe_reply_fn *fn,
                          void *ctx, uint64_t *ret_call_id)
{
    struct svc_call *call = base_alloc(1, sizeof *call);
    uint64_t id = ++svc->next_call_id;

    if (call == NULL)
        return DBE_E_NOMEM;
    call->svc = svc;
    call->link = link;
    call->peer = link->peer;
    call->id = id;
    call->correlation = out->correlation;
    call->labels = out->labels;
    memcpy(call->request_id, out->request_id, sizeof call->request_id);
    call->fn = fn;
    call->ctx = ctx;
    call->next = svc->calls;
    call->prev = &svc->calls;
    if (call->next != NULL)
        call->next->prev = &call->next;
    svc->calls = call;
    svc->call_count++;
    dbe_err err = dbe_call(link->peer, out->bytes, out->len, out->deadline_ns, on_answer, call, &call->node_call_id);
    if (err != DBE_OK) {
        call_free(call);
        return err == DBE_E_CLOSED ? DBE_E_UNAVAILABLE : err;
    }
    if (ret_call_id != NULL)
        *ret_call_id = id;
    return DBE_OK;
}

/* Milliseconds until the deadline, as TIMEOUT_MS carries them. */
static uint32_t timeout_left_ms(uint64_t deadline_ns)
{
    uint64_t now = base_mono_ns(), left = deadline_ns > now ? (deadline_ns - now) / BASE_NS_PER_MS : 0;
    return (uint32_t)BASE_MIN(left, (uint64_t)DBE_CALL_TIMEOUT_MAX_MS);
}

dbe_err svc_forward(struct svc *svc, struct svc_req *req, const struct dbe_msg *msg, struct svc_link *link,
                    dbe_reply_fn *fn, void *ctx, uint64_t *ret_call_id)
{
    static const uint16_t rewritten[] = {DBE_TLV_DEVICE_ID_SRC,  DBE_TLV_DEVICE_ID_DST,    DBE_TLV_TIMESTAMP,
                                         DBE_TLV_TENANT_ID,      DBE_TLV_COMPARTMENT_MASK, DBE_TLV_CLASSIFICATION,
                                         DBE_TLV_ROE_LEVEL,      DBE_TLV_LAYER_PATH,       DBE_TLV_TIMEOUT_MS,
                                         DBE_TLV_L7_CLAIM_TOKEN, DBE_TLV_HOP_TRACE,        0};
    struct outgoing out = {.correlation = req->correlation, .deadline_ns = req->deadline_ns, .labels = req->labels};
    struct dbe_builder b;

    DBE_TRY(may_send(svc, link, &req->labels));
    DBE_TRY(svc_scratch(svc, msg->tlv_area_len, msg->payload_len));
    uint16_t flags = (uint16_t)(DBE_FLAG_REPLAY_PROTECTED | (msg->flags & DBE_FLAG_PRIORITY_HIGH));
    dbe_build_begin(&b, svc->scratch, svc->scratch_cap, msg->type, flags, req->correlation);
    svc_stamp(svc, &b, dbe_peer_identity(link->peer)->device, &req->labels);
    dbe_build_u32(&b, DBE_TLV_TIMEOUT_MS, timeout_left_ms(req->deadline_ns));
    dbe_build_layer_path(&b, msg, svc->dev->layer);
    dbe_build_copy_tlvs(&b, msg, rewritten);
    dbe_build_payload(&b, msg->payload, msg->payload_len);
    DBE_TRY(dbe_build_end(&b, &out.len));
    out.bytes = svc->scratch;
    memcpy(out.request_id, req->id, sizeof out.request_id);
    dbe_err err = call_start(svc, link, &out, fn, ctx, ret_call_id);
    svc_scratch_release(svc);
    return err;
}

/* Labels of what the service asks on nobody's behalf; an exercise node carries exercise data only. */
static void own_labels(const struct svc *svc, struct pol_labels *ret)
{
    *ret = (struct pol_labels){
        .compartments = DBE_COMPARTMENT_SOC,
        .classification = svc_identity(svc)->exercise ? DBE_CLSF_TS_SIM : DBE_CLSF_UNCLAS,
        .roe_level = DBE_ROE_ANALYSIS_ONLY,
    };
    memcpy(ret->tenant, "system", sizeof "system");
}

dbe_err svc_call(struct svc *svc, struct svc_link *link, uint8_t type, const void *payload, size_t len,
                 uint64_t deadline_ns, dbe_reply_fn *fn, void *ctx, uint64_t *ret_call_id)
{
    struct outgoing out = {.deadline_ns = deadline_ns};
    struct dbe_builder b;

    own_labels(svc, &out.labels);
    DBE_TRY(may_send(svc, link, &out.labels));
    DBE_TRY(base_uuid(out.request_id));
    DBE_TRY(svc_scratch(svc, 0, len));
    out.correlation = dbe_correlation_of(out.request_id);
    dbe_build_begin(&b, svc->scratch, svc->scratch_cap, type, DBE_FLAG_REPLAY_PROTECTED, out.correlation);
    svc_stamp(svc, &b, dbe_peer_identity(link->peer)->device, &out.labels);
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, out.request_id, sizeof out.request_id);
    dbe_build_u32(&b, DBE_TLV_TIMEOUT_MS, timeout_left_ms(deadline_ns));
    dbe_build_payload(&b, payload, len);
    DBE_TRY(dbe_build_end(&b, &out.len));
    out.bytes = svc->scratch;
    dbe_err err = call_start(svc, link, &out, fn, ctx, ret_call_id);
    svc_scratch_release(svc);
    return err;
}

dbe_err svc_call_message(struct svc *svc, struct svc_link *link, const void *bytes, size_t len, uint64_t deadline_ns,
                         dbe_reply_fn *fn, void *ctx, uint64_t *ret_call_id)
{
    struct outgoing out = {.bytes = bytes, .len = len, .deadline_ns = deadline_ns};
    struct dbe_msg msg;

    DBE_TRY(dbe_msg_decode(bytes, len, &msg, NULL));
    const struct dbe_tlv *id = dbe_tlv_find(&msg, DBE_TLV_REQUEST_ID);
    if (id == NULL || pol_labels_read(&msg, &out.labels) != DBE_OK)
        return DBE_E_ARGUMENT;
    memcpy(out.request_id, id->value, sizeof out.request_id);
    out.correlation = msg.correlation_id;
    DBE_TRY(may_send(svc, link, &out.labels));
    return call_start(svc, link, &out, fn, ctx, ret_call_id);
}

void svc_call_cancel(struct svc *svc, struct svc_link *link, uint64_t call_id)
{
    (void)link; /* the call knows its channel, also when the link has another one by now */
    for (struct svc_call *call = svc->calls; call != NULL; call = call->next)
        if (call->id == call_id) {
            dbe_call_cancel(call->peer, call->node_call_id);
            send_cancel(call);
            call_free(call);
            return;
        }
}
