/* SPDX-License-Identifier: Apache-2.0
 *
 * audit_record.c - what becomes a record of the audit log: one for each decision and security event (spec audit 1).
 *
 * In:   decisions, events    Out: records for the queue (audit.c)
 * Not:  no payload, no claim, no key: labels, names and codes alone.
 */
#include <stdio.h>
#include <string.h>

#include "runtime/audit.h"

void svc_audit_channel(struct svc_peer *sp)
{
    uint8_t k_log[32];

    if (sp->svc->audit == NULL || dbe_peer_log_key(sp->peer, k_log) != DBE_OK)
        return;
    sp->has_channel = audit_channel_id(k_log, sp->channel) == DBE_OK;
    base_wipe(k_log, sizeof k_log);
}

static struct audit_text text_of(const char *s)
{
    return (struct audit_text){s, s != NULL ? strlen(s) : 0};
}

static void of_peer(struct audit_record *r, const struct dbe_peer *peer)
{
    const struct dbe_identity *id = dbe_peer_identity(peer);
    const struct svc_peer *sp = dbe_peer_user(peer);

    r->peer = text_of(id != NULL ? id->spiffe_id : NULL);
    r->has_channel = sp != NULL && sp->has_channel;
    if (r->has_channel)
        memcpy(r->channel, sp->channel, sizeof r->channel);
}

static void of_labels(struct audit_record *r, const struct pol_labels *l)
{
    r->labelled = true;
    r->classification = l->classification;
    r->roe_level = l->roe_level;
    r->compartments = l->compartments;
    r->tenant = text_of(l->tenant);
}

static void of_request(struct audit_record *r, const struct dbe_msg *msg)
{
    const struct dbe_tlv *id = dbe_tlv_find(msg, DBE_TLV_REQUEST_ID);

    r->has_request = id != NULL;
    if (id != NULL)
        memcpy(r->request_id, id->value, sizeof r->request_id);
}

void svc_audit_decision(struct svc *svc, uint8_t kind, const struct dbe_peer *peer, const struct dbe_msg *msg,
                        const struct pol_verdict *v)
{
    struct audit_record r = {.kind = kind, .code = (uint16_t)v->code, .msg_type = msg->type, .rule = text_of(v->rule)};
    struct pol_labels carried;

    if (svc->audit == NULL || (v->code == DBE_OK && msg->type == DBE_MSG_AUDIT_RECORDS))
        return;
    of_peer(&r, peer);
    of_request(&r, msg);
    if (v->code == DBE_OK)
        of_labels(&r, &v->labels);
    else if (pol_labels_read(msg, &carried) == DBE_OK)
        of_labels(&r, &carried); /* as it claimed them: that is what was refused */
    if (v->code != DBE_OK)
        r.detail = text_of(v->reason);
    svc_audit_put(svc, &r);
}

void svc_audit_roe(struct svc *svc, const struct dbe_peer *peer, const struct dbe_msg *msg, dbe_err code,
                   const char *why)
{
    struct audit_record r = {.kind = AUDIT_ROE_TOKEN, .code = (uint16_t)code, .msg_type = msg->type};
    const struct dbe_tlv *token = dbe_tlv_find(msg, DBE_TLV_ROE_TOKEN_ID);
    char id[37], words[AUDIT_DETAIL_MAX + 1];
    struct pol_labels carried;

    if (svc->audit == NULL || token == NULL)
        return;
    base_uuid_text(token->value, id);
    (void)snprintf(words, sizeof words, "%s: %.200s", id, code == DBE_OK ? "used" : why != NULL ? why : "refused");
    r.detail = text_of(words);
    r.rule = text_of("roe-token");
    of_peer(&r, peer);
    of_request(&r, msg);
    if (pol_labels_read(msg, &carried) == DBE_OK)
        of_labels(&r, &carried);
    svc_audit_put(svc, &r);
}

void svc_audit_req(struct svc *svc, uint8_t kind, const struct svc_req *req, dbe_err code, const char *rule,
                   const char *reason)
{
    struct audit_record r = {.kind = kind,
                             .code = (uint16_t)code,
                             .msg_type = req->type,
                             .has_request = true,
                             .rule = text_of(rule != NULL ? rule : svc->dev->name),
                             .detail = text_of(reason != NULL ? reason : dbe_err_text(code))};

    if (svc->audit == NULL)
        return;
    of_peer(&r, req->peer);
    of_labels(&r, &req->labels);
    memcpy(r.request_id, req->id, sizeof r.request_id);
    svc_audit_put(svc, &r);
}

void svc_audit_event(struct svc *svc, uint8_t kind, dbe_err code, const struct dbe_peer *peer, uint32_t count,
                     const char *detail)
{
    struct audit_record r = {.kind = kind, .code = (uint16_t)code, .count = count, .detail = text_of(detail)};

    if (svc->audit == NULL)
        return;
    if (peer != NULL)
        of_peer(&r, peer);
    svc_audit_put(svc, &r);
}
