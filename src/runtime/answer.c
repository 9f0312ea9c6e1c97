/* SPDX-License-Identifier: Apache-2.0
 *
 * answer.c - what a device does with a request: look at it, answer, refuse, pass an answer on.
 *
 * Out:  answers with the request's labels, own DEVICE_ID_SRC, REQUEST_ID, TIMESTAMP; the last one with HOP_TRACE
 * Not:  no payload is decoded but that of an ERROR passed on, whose code is counted.
 */
#include "runtime/audit.h"
#include "runtime/priv.h"

#include "dbe/payload.h"
#include "dsmil.pb-c.h"

const struct pol_labels *svc_req_labels(const struct svc_req *req)
{
    return &req->labels;
}

const uint8_t *svc_req_id(const struct svc_req *req)
{
    return req->id;
}

uint64_t svc_req_deadline_ns(const struct svc_req *req)
{
    return req->deadline_ns;
}

uint64_t svc_req_elapsed_us(const struct svc_req *req)
{
    return (base_mono_ns() - req->received_ns) / BASE_NS_PER_US;
}

size_t svc_req_queued_bytes(const struct svc_req *req)
{
    return dbe_peer_queued_bytes(req->peer);
}

const struct dbe_peer *svc_req_peer(const struct svc_req *req)
{
    return req->peer;
}

void *svc_req_user(const struct svc_req *req)
{
    return req->user;
}

void svc_req_set_user(struct svc_req *req, void *user)
{
    req->user = user;
}

void svc_req_on_gone(struct svc_req *req, void (*fn)(void *user, struct svc_req *req, dbe_err why))
{
    req->on_gone = fn;
}

static uint32_t elapsed_u32(const struct svc_req *req)
{
    uint64_t us = svc_req_elapsed_us(req);
    return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

/* Begin an answer to `req` in the scratch memory. */
static void answer_begin(struct svc *svc, struct svc_req *req, struct dbe_builder *b, uint8_t type, bool last)
{
    uint16_t flags = (uint16_t)(DBE_FLAG_REPLAY_PROTECTED | (last ? 0 : DBE_FLAG_STREAMING));

    dbe_build_begin(b, svc->scratch, svc->scratch_cap, type, flags, req->correlation);
    svc_stamp(svc, b, req->src_device, &req->labels);
    dbe_build_bytes(b, DBE_TLV_REQUEST_ID, req->id, sizeof req->id);
}

static dbe_err answer_send(struct svc *svc, struct svc_req *req, struct dbe_builder *b, bool last, dbe_err status)
{
    size_t len;

    DBE_TRY(dbe_build_end(b, &len));
    DBE_TRY(dbe_send(req->peer, svc->scratch, len));
    svc_scratch_release(svc);
    if (last)
        svc_req_end(req, status, NULL);
    return DBE_OK;
}

/* How a request ended whose last answer this is. */
static dbe_err status_of(const struct dbe_msg *answer)
{
    dbe_err code = DBE_E_UNAVAILABLE; /* an ERROR that does not say which */

    if (answer->type != DBE_MSG_ERROR)
        return DBE_OK;
    Dsmil__ErrorReply *e = NULL;
    if (dbe_payload_check(answer->type, answer->payload, answer->payload_len, NULL) == DBE_OK)
        e = dsmil__error_reply__unpack(NULL, answer->payload_len, answer->payload);
    if (e == NULL)
        return code;
    const struct dbe_err_row *row = e->code <= INT32_MAX ? dbe_reg_err((int)e->code) : NULL;
    if (row != NULL && row->err != DBE_OK)
        code = (dbe_err)row->err;
    dsmil__error_reply__free_unpacked(e, NULL);
    return code;
}

/* The trace of `answer` (may be NULL) and ourselves: the last message of an answer says which way it came. */
static void add_hop(struct dbe_builder *b, const struct dbe_msg *answer, const struct svc_req *req)
{
    const struct dbe_hop hop = {req->svc->dev->device_id, elapsed_u32(req), dbe_peer_suite_id(req->peer)};

    dbe_build_hops(b, answer, &hop);
}

/* An answer to a message that waits for none: nothing is sent, and the last one still ends the request. */
static dbe_err swallow(struct svc_req *req, bool last)
{
    if (last)
        svc_req_end(req, DBE_OK, NULL);
    return DBE_OK;
}

dbe_err svc_reply(struct svc *svc, struct svc_req *req, uint8_t type, const void *payload, size_t len, bool last)
{
    struct dbe_builder b;

    if (req->gone || svc->closing)
        return DBE_E_CANCELLED;
    if (!req->answers)
        return swallow(req, last);
    DBE_TRY(svc_scratch(svc, 0, len));
    answer_begin(svc, req, &b, type, last);
    if (last)
        add_hop(&b, NULL, req);
    dbe_build_payload(&b, payload, len);
    return answer_send(svc, req, &b, last, DBE_OK);
}

dbe_err svc_relay(struct svc *svc, struct svc_req *req, const struct dbe_msg *answer, bool last)
{
    static const uint16_t rewritten[] = {DBE_TLV_DEVICE_ID_SRC,  DBE_TLV_DEVICE_ID_DST,    DBE_TLV_TIMESTAMP,
                                         DBE_TLV_TENANT_ID,      DBE_TLV_COMPARTMENT_MASK, DBE_TLV_CLASSIFICATION,
                                         DBE_TLV_ROE_LEVEL,      DBE_TLV_REQUEST_ID,       DBE_TLV_HOP_TRACE,
                                         DBE_TLV_L7_CLAIM_TOKEN, DBE_TLV_TIMEOUT_MS,       0};
    struct dbe_builder b;

    if (req->gone || svc->closing)
        return DBE_E_CANCELLED;
    if (!req->answers)
        return swallow(req, last);
    DBE_TRY(svc_scratch(svc, answer->tlv_area_len, answer->payload_len));
    answer_begin(svc, req, &b, answer->type, last);
    dbe_build_copy_tlvs(&b, answer, rewritten);
    if (last)
        add_hop(&b, answer, req);
    dbe_build_payload(&b, answer->payload, answer->payload_len);
    return answer_send(svc, req, &b, last, last ? status_of(answer) : DBE_OK);
}

void svc_refuse(struct svc *svc, struct svc_req *req, dbe_err code, const char *rule, const char *reason)
{
    svc_refuse_for(svc, req, code, rule, reason, 0);
}

void svc_refuse_for(struct svc *svc, struct svc_req *req, dbe_err code, const char *rule, const char *reason,
                    uint32_t retry_after_ms)
{
    const struct svc_refusal refusal = {code, rule, reason, retry_after_ms};
    uint32_t elapsed_us = elapsed_u32(req);

    if (req->gone)
        return;
    if (req->answers && !svc->closing) {
        dbe_err err = svc_send_error(svc, req->peer, req->correlation, req->id, &req->labels, &refusal, &elapsed_us);
        if (err != DBE_OK)
            svc_count_error(svc, err);
    }
    if (dbe_err_class(code) == DBE_CLASS_DENY) { /* a device's own rule denied it */
        const struct svc_denied d = {.peer = dbe_peer_identity(req->peer),
                                     .type = req->type,
                                     .request_id = req->id,
                                     .tenant = req->labels.tenant,
                                     .what = svc_msg_name(req->type)};
        svc_audit_req(svc, AUDIT_DECISION, req, code, rule, reason);
        svc_audit_deny(svc, &d, code, rule != NULL ? rule : svc->dev->name,
                       reason != NULL ? reason : dbe_err_text(code));
    }
    svc_req_end(req, code, reason);
}
