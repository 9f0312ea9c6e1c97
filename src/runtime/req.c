/* SPDX-License-Identifier: Apache-2.0
 *
 * req.c - what comes in: policy first, then the device's handler.
 *
 * In:   decoded messages of authenticated peers
 * Out:  handler calls, ERROR messages; one log line and the counters for each refusal
 * Not:  no payload is decoded here but L7_CANCEL's.
 *
 * Reading order: svc_on_message, handle. How a request ends stands in req_life.c, what devices call in answer.c.
 */
#include "runtime/crash.h"
#include "runtime/audit.h"
#include "runtime/priv.h"

#include <stdio.h>
#include <string.h>

#include "dbe/payload.h"
#include "dsmil.pb-c.h"
#include "policy/roe.h"

/* ---- counters -------------------------------------------------------------------------------- */

void svc_count_error(struct svc *svc, dbe_err code)
{
    char labels[SVC_LABELS_MAX];

    svc_labels(labels, "node", svc->node_name, "device_id", svc->metrics.device_id, "error_type", dbe_err_name(code),
               NULL);
    svc_metric_add(&svc->metrics, SVC_M_dbe_errors_total, labels, 1);
}

static void count_message(struct svc *svc, uint8_t type, const char *tenant)
{
    char labels[SVC_LABELS_MAX];

    svc_labels(labels, "node", svc->node_name, "device_id", svc->metrics.device_id, "msg_type", svc_msg_name(type),
               "tenant_id", tenant, NULL);
    svc_metric_add(&svc->metrics, SVC_M_dbe_messages_total, labels, 1);
}

/* ---- refusals by policy ---------------------------------------------------------------------- */

void svc_audit_deny(struct svc *svc, const struct svc_denied *d, dbe_err code, const char *rule, const char *reason)
{
    const struct svc_field fields[] = {
        {.key = "code", .text = dbe_err_name(code)},
        {.key = "rule", .text = rule},
        {.key = "reason", .text = reason},
        {.key = "peer", .text = d->peer->spiffe_id},
        {.key = "msg_type", .text = svc_msg_name(d->type)},
    };
    const struct svc_event e = {.type = "policy_violation",
                                .request_id = d->request_id,
                                .tenant = d->tenant,
                                .fields = fields,
                                .field_count = BASE_ARRAY_LEN(fields)};
    char labels[SVC_LABELS_MAX];

    svc_log_event(svc, SVC_WARN, &e, "%s refused: %s", d->what, reason);
    svc_labels(labels, "node", svc->node_name, "device_id", svc->metrics.device_id, "rule", rule, NULL);
    svc_metric_add(&svc->metrics, SVC_M_dbe_policy_violations_total, labels, 1);
    svc_labels(labels, "device_id", svc->metrics.device_id, NULL);
    svc_metric_add(&svc->metrics, SVC_M_dsmil_security_policy_violations_total, labels, 1);
    if (code == DBE_E_CLAIM_INVALID)
        svc_metric_add(&svc->metrics, SVC_M_dsmil_security_auth_failures_total, labels, 1);
}

void svc_audit_message(struct svc *svc, const struct dbe_identity *peer, const struct dbe_msg *msg, const char *what,
                       const struct pol_verdict *v)
{
    char tenant[DBE_TENANT_MAX_BYTES + 1] = "";
    const struct dbe_tlv *id = dbe_tlv_find(msg, DBE_TLV_REQUEST_ID);
    const struct svc_denied d = {
        .peer = peer, .type = msg->type, .request_id = id != NULL ? id->value : NULL, .tenant = tenant, .what = what};

    if (dbe_tlv_text(msg, DBE_TLV_TENANT_ID, tenant, sizeof tenant) != DBE_OK)
        tenant[0] = '\0';
    svc_audit_deny(svc, &d, v->code, v->rule, v->reason);
    svc_count_error(svc, v->code);
}

/* Does whoever sent this wait for an answer? Types without an answer of their own, such as L7_MODEL_STATUS, say
 * so with TIMEOUT_MS. What itself only answers never gets one: two services would refuse each other's refusals
 * for ever. */
static bool wants_answer(const struct svc *svc, const struct dbe_msg *msg)
{
    const struct dbe_msg_row *row = dbe_reg_msg(msg->type);

    if (svc->is_answer[msg->type] || msg->type == DBE_MSG_L7_CANCEL || row == NULL)
        return false;
    return row->reply != 0 || dbe_tlv_find(msg, DBE_TLV_TIMEOUT_MS) != NULL;
}

static void refuse_message(struct svc *svc, struct dbe_peer *peer, const struct dbe_msg *msg, dbe_err code,
                           const char *rule, const char *reason)
{
    const struct dbe_tlv *id = dbe_tlv_find(msg, DBE_TLV_REQUEST_ID);

    if (!wants_answer(svc, msg))
        return;
    /* No labels: a refused message's are not to be repeated. */
    dbe_err err = svc_send_error(svc, peer, msg->correlation_id, id != NULL ? id->value : NULL, NULL,
                                 &(struct svc_refusal){.code = code, .rule = rule, .reason = reason}, NULL);
    if (err != DBE_OK)
        svc_count_error(svc, err);
}

/* ---- admission ------------------------------------------------------------------------------- */

/* Verify the claim, if the message carries one. `diag` must live as long as `subject`. */
static void check_claim(struct svc_peer *sp, const struct dbe_msg *msg, struct pol_subject *subject,
                        struct dbe_diag *diag)
{
    const struct dbe_tlv *token = dbe_tlv_find(msg, DBE_TLV_L7_CLAIM_TOKEN);
    uint8_t binding[32];
    dbe_err err = DBE_OK;

    if (token == NULL)
        return;
    if (sp->cache == NULL) {
        err = dbe_peer_channel_binding(sp->peer, binding);
        if (err == DBE_OK)
            err = pol_claim_cache_new(dbe_peer_public_key(sp->peer), binding, &sp->cache);
    }
    if (err == DBE_OK)
        err = pol_claim_cached(sp->cache, token->value, token->len, base_wall_ms(), &subject->claim, NULL, diag);
    subject->claim_err = err;
    subject->claim_fault = diag->text[0] != '\0' ? diag->text : NULL;
}

/* Where the question leads on from here: the neighbour's own rules, asked on its behalf. */
static void ask_neighbour(struct svc *svc, uint8_t type, uint8_t dst_device, struct pol_verdict *ret)
{
    const struct pol_labels labels = ret->labels;
    const struct svc_link *link = NULL;

    for (size_t i = 0; i < svc->link_count && link == NULL; i++)
        if (svc->links[i].neighbour->device == dst_device)
            link = &svc->links[i];
    if (link == NULL) {
        *ret = (struct pol_verdict){.code = DBE_E_DESTINATION, .rule = "destination"};
        (void)snprintf(ret->reason, sizeof ret->reason, "device %u is no neighbour of this device", dst_device);
    } else if (!dbe_reg_may_emit(svc->dev->role, type, link->neighbour->role)) {
        *ret = (struct pol_verdict){.code = DBE_E_EMIT, .rule = "emit"};
        (void)snprintf(ret->reason, sizeof ret->reason, "this device may not send %s to device %u", svc_msg_name(type),
                       dst_device);
    } else if (link->peer != NULL) {
        pol_decide_send(dbe_peer_identity(link->peer), &labels, ret);
    }
}

void svc_policy_ask(struct svc *svc, const struct svc_req *req, const struct dbe_msg *msg, uint8_t type,
                    uint8_t dst_device, struct pol_verdict *ret)
{
    struct pol_subject subject = {.peer = dbe_peer_identity(req->peer), .self = svc_identity(svc)};
    struct dbe_diag diag = {0};
    struct dbe_msg asked = *msg;

    asked.type = type;
    check_claim(dbe_peer_user(req->peer), msg, &subject, &diag);
    pol_decide(&subject, &asked, &svc->policy, base_wall_ms(), ret);
    if (ret->code == DBE_OK && dst_device != svc->dev->device_id)
        ask_neighbour(svc, type, dst_device, ret);
}

static uint64_t deadline_of(const struct dbe_msg *msg, uint64_t now_ns)
{
    uint32_t timeout_ms;

    if (dbe_tlv_u32(msg, DBE_TLV_TIMEOUT_MS, &timeout_ms) != DBE_OK)
        timeout_ms = DBE_CALL_TIMEOUT_DEFAULT_MS;
    timeout_ms = BASE_MIN(timeout_ms, (uint32_t)DBE_CALL_TIMEOUT_MAX_MS);
    return now_ns + (uint64_t)timeout_ms * BASE_NS_PER_MS;
}

static const struct svc_req *req_find(const struct svc *svc, const struct dbe_peer *peer, uint64_t correlation)
{
    for (const struct svc_req *r = svc->reqs; r != NULL; r = r->next)
        if (r->peer == peer && r->correlation == correlation)
            return r;
    return NULL;
}

static svc_handler_fn *handler_of(const struct svc *svc, uint8_t type)
{
    for (const struct svc_route *r = svc->dev->routes; r != NULL && r->type != 0; r++)
        if (r->type == type)
            return r->handler;
    return NULL;
}

/* What must hold beside policy. A reason for people, NULL when all is well. */
static dbe_err admissible(const struct svc *svc, struct dbe_peer *peer, const struct dbe_msg *msg,
                          const char **ret_reason)
{
    const struct dbe_tlv *id = dbe_tlv_find(msg, DBE_TLV_REQUEST_ID);

    *ret_reason = NULL;
    if (handler_of(svc, msg->type) == NULL)
        return DBE_E_UNSUPPORTED;
    if (svc->draining && msg->type != DBE_MSG_AUDIT_RECORDS) { /* the last records of others are still on their way */
        *ret_reason = "this service is stopping";
        return DBE_E_UNAVAILABLE;
    }
    if (svc->req_count >= SVC_REQS_MAX) {
        *ret_reason = "too many requests are being served";
        return DBE_E_LIMIT;
    }
    if (!wants_answer(svc, msg))
        return DBE_OK;
    if (id == NULL || dbe_correlation_of(id->value) != msg->correlation_id) {
        *ret_reason = "REQUEST_ID is missing or is not the correlation id's";
        return DBE_E_MALFORMED;
    }
    return req_find(svc, peer, msg->correlation_id) == NULL ? DBE_OK : DBE_E_DUPLICATE;
}

static struct svc_req *req_new(struct svc *svc, struct dbe_peer *peer, const struct dbe_msg *msg,
                               const struct pol_labels *labels)
{
    const struct dbe_tlv *id = dbe_tlv_find(msg, DBE_TLV_REQUEST_ID);
    struct svc_req *req = base_alloc(1, sizeof *req);

    if (req == NULL)
        return NULL;
    req->svc = svc;
    req->peer = peer;
    req->type = msg->type;
    req->src_device = dbe_peer_identity(peer)->device;
    req->answers = wants_answer(svc, msg);
    req->correlation = msg->correlation_id;
    req->received_ns = base_mono_ns();
    req->deadline_ns = deadline_of(msg, req->received_ns);
    req->labels = *labels;
    if (id != NULL)
        memcpy(req->id, id->value, sizeof req->id);
    return req;
}

static void handle(struct svc *svc, struct dbe_peer *peer, const struct dbe_msg *msg, const struct pol_labels *labels)
{
    const char *reason = NULL;
    dbe_err err = admissible(svc, peer, msg, &reason);
    struct svc_req *req = err == DBE_OK ? req_new(svc, peer, msg, labels) : NULL;

    if (err == DBE_OK && req == NULL)
        err = DBE_E_NOMEM;
    if (err != DBE_OK) {
        svc_count_error(svc, err);
        refuse_message(svc, peer, msg, err, NULL, reason);
        return;
    }
    svc_req_link(svc, req);
    svc_crash_note("a request began; number: its type", req->id, msg->type);
    svc->handling = req; /* svc_req_end clears it: then the handler has finished the request itself */
    err = handler_of(svc, msg->type)(svc, svc->state, req, msg);
    if (err != DBE_OK && svc->handling == req)
        svc_refuse(svc, req, err, NULL, NULL);
    svc->handling = NULL;
}

/* L7_CANCEL: of this peer's own requests only. Nothing is answered, the caller has forgotten the call. */
static void cancel(struct svc *svc, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    Dsmil__L7Cancel *payload = NULL;

    if (dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) == DBE_OK)
        payload = dsmil__l7_cancel__unpack(NULL, msg->payload_len, msg->payload);
    for (struct svc_req *r = svc->reqs; payload != NULL && r != NULL; r = r->next)
        if (r->peer == peer && !r->gone && payload->request_id.len == sizeof r->id &&
            memcmp(r->id, payload->request_id.data, sizeof r->id) == 0) {
            svc_req_gone(r, DBE_E_CANCELLED);
            break;
        }
    if (payload == NULL)
        svc_count_error(svc, DBE_E_MALFORMED);
    else
        dsmil__l7_cancel__free_unpacked(payload, NULL);
    svc_reqs_arm(svc);
}

/* A message that cannot be taken in does not use its token (spec 16.6): it may come again. */
static void spend_token(struct svc *svc, struct dbe_peer *peer, const struct dbe_msg *msg, const struct pol_roe *roe,
                        struct pol_verdict *verdict)
{
    const char *reason;

    if (msg->type != DBE_MSG_L7_CANCEL && admissible(svc, peer, msg, &reason) != DBE_OK)
        return;
    svc_roe_spend(svc, roe, verdict);
    svc_audit_roe(svc, peer, msg, verdict->code, verdict->reason);
}

void svc_on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    struct svc *svc = ctx;
    struct svc_peer *sp = dbe_peer_user(peer);
    struct pol_subject subject = {.peer = dbe_peer_identity(peer), .self = svc_identity(svc)};
    struct pol_verdict verdict;
    struct dbe_diag diag = {0}, roe_diag = {0};
    struct pol_roe roe;

    if (sp == NULL || svc->closing)
        return;
    check_claim(sp, msg, &subject, &diag);
    svc_roe_check(svc, msg, &subject, &roe, &roe_diag);
    pol_decide(&subject, msg, &svc->policy, base_wall_ms(), &verdict);
    if (verdict.code == DBE_OK && subject.roe_verified)
        spend_token(svc, peer, msg, &roe, &verdict);
    else if (subject.roe_err != DBE_OK)
        svc_audit_roe(svc, peer, msg, subject.roe_err, subject.roe_fault);
    svc_audit_decision(svc, AUDIT_DECISION, peer, msg, &verdict);
    count_message(svc, msg->type, verdict.code == DBE_OK ? verdict.labels.tenant : "none");
    if (verdict.code != DBE_OK) {
        svc_audit_message(svc, subject.peer, msg, svc_msg_name(msg->type), &verdict);
        refuse_message(svc, peer, msg, verdict.code, verdict.rule, verdict.reason);
    } else if (msg->type == DBE_MSG_L7_CANCEL) {
        cancel(svc, peer, msg);
    } else if (svc->is_answer[msg->type]) {
        svc_log(svc, SVC_DEBUG, NULL, "%s from %s came too late", svc_msg_name(msg->type), sp->node);
    } else {
        handle(svc, peer, msg, &verdict.labels);
    }
    svc_check_ready(svc);
}

void svc_on_malformed(void *ctx, struct dbe_peer *peer, dbe_err err, const struct dbe_diag *diag)
{
    struct svc *svc = ctx;
    const struct svc_field fields[] = {
        {.key = "code", .text = dbe_err_name(err)},
        {.key = "peer", .text = dbe_peer_identity(peer)->spiffe_id},
        {.key = "clause", .text = diag != NULL && diag->clause != NULL ? diag->clause : ""},
        {.key = "offset", .number = diag != NULL ? diag->offset : 0},
    };
    const struct svc_event e = {.type = "malformed", .fields = fields, .field_count = BASE_ARRAY_LEN(fields)};

    svc_audit_event(svc, AUDIT_MALFORMED, err, peer, 0, diag != NULL ? diag->text : dbe_err_text(err));
    svc_count_error(svc, err);
    svc_log_event(svc, SVC_WARN, &e, "a message was dropped: %s", diag != NULL ? diag->text : dbe_err_text(err));
}
