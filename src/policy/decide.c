/* SPDX-License-Identifier: Apache-2.0
 *
 * decide.c - the decision: may this message pass here, may these labels go there, may this answer stand?
 *
 * In:   the channel's identities, the verified claim, a decoded message, the policy, the time
 * Out:  allow, or deny with code, rule and a reason for people
 * Not:  no I/O, no clock, no allocation, no log. It checks no signature: claims arrive verified. What each
 *       rule says is in decide_rules.c.
 *
 * A rule only ever refuses; what no rule refuses and the emit table lists is allowed.
 */
#include "policy/decide_impl.h"

struct rule {
    const char *name;
    decide_fn *check;
};

/* Every message passes here twice: its labels are read by the decoder's index, whose widths are checked (spec 4.5). */
static inline bool read_u8(const struct dbe_msg *msg, unsigned type, uint8_t *ret)
{
    const uint8_t at = msg->by_type[type];

    *ret = at != 0 ? msg->tlvs[at - 1].value[0] : 0;
    return at != 0;
}

static void facts_read(struct decide_facts *f, const struct dbe_msg *msg)
{
    const uint8_t mask_at = msg->by_type[DBE_TLV_COMPARTMENT_MASK];

    f->msg = msg;
    f->has_tenant = dbe_tlv_text(msg, DBE_TLV_TENANT_ID, f->labels.tenant, sizeof f->labels.tenant) == DBE_OK;
    f->has_compartments = mask_at != 0;
    f->labels.compartments = mask_at != 0 ? base_get_u32(msg->tlvs[mask_at - 1].value) : 0;
    f->has_classification = read_u8(msg, DBE_TLV_CLASSIFICATION, &f->labels.classification);
    f->has_roe = read_u8(msg, DBE_TLV_ROE_LEVEL, &f->labels.roe_level);
    f->has_src = read_u8(msg, DBE_TLV_DEVICE_ID_SRC, &f->src);
    f->has_dst = read_u8(msg, DBE_TLV_DEVICE_ID_DST, &f->dst);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static const struct rule message_rules[] = {
    {"kinetic", decide_kinetic},
    {"source", decide_source},
    {"destination", decide_destination},
    {"emit", decide_emit},
    {"exec", decide_exec},
    {"sim-mix", decide_sim_mix},
    {"roe-level", decide_roe_level},
    {"claim", decide_claim},
    {"tenant", decide_tenant},
    {"compartment", decide_compartment},
    {"classification", decide_classification},
    {"roe-token", decide_roe_token},
    {"sealed", decide_sealed},
    {NULL, decide_site}, /* the last: what it lets pass is allowed in its name */
};

static const struct rule answer_rules[] = {
    {"kinetic", decide_kinetic},
    {"source", decide_source},
    {"destination", decide_destination},
    {"emit", decide_emit},
    {"answer-tenant", decide_answer_tenant},
    {"answer-roe-level", decide_answer_roe},
    {"answer-compartment", decide_answer_compartment},
    {"answer-classification", decide_answer_classification},
};

static const struct rule send_rules[] = {
    {"kinetic", decide_kinetic},
    {"exec", decide_exec},
    {"sim-mix", decide_sim_mix},
    {"compartment", decide_compartment},
    {"classification", decide_classification},
};

static void decide(struct decide_facts *f, const struct rule *rules, size_t count, struct pol_verdict *ret)
{
    f->verdict = ret;
    ret->code = DBE_OK;
    ret->rule = "allow";
    ret->reason[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        dbe_err code = rules[i].check(f);
        if (code != DBE_OK) {
            ret->code = code;
            ret->rule = rules[i].name != NULL ? rules[i].name : ret->rule;
            ret->labels = (struct pol_labels){0};
            return;
        }
    }
    ret->labels = f->labels;
}

/* ---- the three questions --------------------------------------------------------------------- */

void pol_decide(const struct pol_subject *subject, const struct dbe_msg *msg, const struct pol_policy *policy,
                uint64_t now_ms, struct pol_verdict *ret)
{
    struct decide_facts f = {.subject = subject, .policy = policy, .now_ms = now_ms};

    f.claim = subject->claim_err == DBE_OK ? subject->claim : NULL;
    facts_read(&f, msg);
    f.tenant = pol_policy_tenant(policy, f.labels.tenant);
    decide(&f, message_rules, BASE_ARRAY_LEN(message_rules), ret);
}

void pol_decide_answer(const struct dbe_identity *peer, const struct dbe_identity *self,
                       const struct pol_labels *request, const struct dbe_msg *answer, struct pol_verdict *ret)
{
    const struct pol_subject subject = {.peer = peer, .self = self};
    struct decide_facts f = {.subject = &subject, .bound = request};

    facts_read(&f, answer);
    decide(&f, answer_rules, BASE_ARRAY_LEN(answer_rules), ret);
}

/* The receiver's rules, asked on its behalf: the sender's own side was decided when the content came in. */
void pol_decide_send(const struct dbe_identity *to, const struct pol_labels *labels, struct pol_verdict *ret)
{
    const struct pol_subject subject = {.peer = to, .self = to};
    struct decide_facts f = {.subject = &subject, .labels = *labels};

    f.has_tenant = f.has_compartments = f.has_classification = f.has_roe = true;
    decide(&f, send_rules, BASE_ARRAY_LEN(send_rules), ret);
}

dbe_err pol_labels_read(const struct dbe_msg *msg, struct pol_labels *ret)
{
    struct decide_facts f = {0};

    facts_read(&f, msg);
    if (!f.has_tenant || !f.has_compartments || !f.has_classification || !f.has_roe)
        return DBE_E_NOT_FOUND;
    *ret = f.labels;
    return DBE_OK;
}
