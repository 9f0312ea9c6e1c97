/* SPDX-License-Identifier: Apache-2.0
 *
 * gate.c - the public face of the policy decision, at one channel.
 *
 * In:   messages of the channel's peer
 * Out:  verdicts of policy/decide.c under the built-in policy
 * Not:  no rule of its own, no I/O.
 */
#include "dbe/gate.h"

#include <string.h>

#include "dbe/claim.h"
#include "policy/policy.h"

struct dbe_gate {
    struct dbe_identity peer, self;
    struct pol_policy policy;
    struct pol_claim_cache *claims;
};

_Static_assert(sizeof(struct dbe_labels) == sizeof(struct pol_labels), "the same labels under two names");

static void labels_to(const struct pol_labels *from, struct dbe_labels *to)
{
    memcpy(to->tenant, from->tenant, sizeof to->tenant);
    to->compartments = from->compartments;
    to->classification = from->classification;
    to->roe_level = from->roe_level;
}

static struct pol_labels labels_of(const struct dbe_labels *from)
{
    struct pol_labels to = {
        .compartments = from->compartments, .classification = from->classification, .roe_level = from->roe_level};

    memcpy(to.tenant, from->tenant, sizeof to.tenant);
    to.tenant[sizeof to.tenant - 1] = '\0';
    return to;
}

static dbe_err verdict_to(const struct pol_verdict *from, struct dbe_verdict *to)
{
    to->code = from->code;
    to->rule = from->rule;
    memcpy(to->reason, from->reason, sizeof to->reason);
    labels_to(&from->labels, &to->labels);
    return from->code;
}

struct dbe_policy_digest dbe_policy_default(void)
{
    struct pol_policy policy;

    pol_policy_default(&policy);
    return pol_policy_digest(&policy);
}

dbe_err dbe_gate_new(const struct dbe_peer *peer, const struct dbe_credential *self, struct dbe_gate **ret)
{
    const struct dbe_identity *id = dbe_peer_identity(peer);
    uint8_t binding[DBE_CHANNEL_BINDING_BYTES];
    struct dbe_gate *gate;

    if (id == NULL)
        return DBE_E_ARGUMENT;
    DBE_TRY(dbe_peer_channel_binding(peer, binding));
    gate = base_alloc(1, sizeof *gate);
    if (gate == NULL)
        return DBE_E_NOMEM;
    dbe_err err = pol_claim_cache_new(dbe_peer_public_key(peer), binding, &gate->claims);
    if (err != DBE_OK) {
        base_free(gate);
        return err;
    }
    gate->peer = *id;
    gate->self = *dbe_credential_identity(self);
    pol_policy_default(&gate->policy);
    *ret = gate;
    return DBE_OK;
}

void dbe_gate_free(struct dbe_gate *gate)
{
    if (gate == NULL)
        return;
    pol_claim_cache_free(gate->claims);
    base_free(gate);
}

dbe_err dbe_gate_message(struct dbe_gate *gate, const struct dbe_msg *msg, uint64_t now_ms, struct dbe_verdict *ret)
{
    const struct dbe_tlv *token = dbe_tlv_find(msg, DBE_TLV_L7_CLAIM_TOKEN);
    struct pol_subject subject = {.peer = &gate->peer, .self = &gate->self};
    struct pol_verdict verdict;
    struct dbe_diag diag = {0};

    if (token != NULL) {
        subject.claim_err =
            pol_claim_cached(gate->claims, token->value, token->len, now_ms, &subject.claim, NULL, &diag);
        subject.claim_fault = diag.text[0] != '\0' ? diag.text : NULL;
    }
    pol_decide(&subject, msg, &gate->policy, now_ms, &verdict);
    return verdict_to(&verdict, ret);
}

dbe_err dbe_gate_answer(const struct dbe_gate *gate, const struct dbe_labels *request, const struct dbe_msg *answer,
                        struct dbe_verdict *ret)
{
    const struct pol_labels labels = labels_of(request);
    struct pol_verdict verdict;

    pol_decide_answer(&gate->peer, &gate->self, &labels, answer, &verdict);
    return verdict_to(&verdict, ret);
}

dbe_err dbe_gate_send(const struct dbe_gate *gate, const struct dbe_labels *labels, struct dbe_verdict *ret)
{
    const struct pol_labels inner = labels_of(labels);
    struct pol_verdict verdict;

    pol_decide_send(&gate->peer, &inner, &verdict);
    return verdict_to(&verdict, ret);
}

dbe_err dbe_labels_read(const struct dbe_msg *msg, struct dbe_labels *ret)
{
    struct pol_labels labels;

    DBE_TRY(pol_labels_read(msg, &labels));
    labels_to(&labels, ret);
    return DBE_OK;
}
