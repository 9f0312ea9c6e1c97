/* SPDX-License-Identifier: Apache-2.0
 *
 * decide_rules.c - the rules that a message or an answer must pass.
 *
 * In:   what one decision looks at    Out: nothing against it, or a code and a reason for people
 * Not:  their order (decide.c); no I/O, no clock, no allocation, no log. A rule only ever refuses.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "policy/decide_impl.h"
#include "policy/roe.h"

enum { LAYER_EXECUTIVE = 9, NAME_SHOWN_MAX = 40 };

/* ---- words ----------------------------------------------------------------------------------- */

/* Out of the way of the rules, which mostly refuse nothing. */
static dbe_err refuse(const struct decide_facts *f, dbe_err code, const char *fmt, ...) DBE_PRINTF(3, 4)
    __attribute__((cold, noinline));
static dbe_err refuse(const struct decide_facts *f, dbe_err code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(f->verdict->reason, sizeof f->verdict->reason, fmt, args);
    va_end(args);
    return code;
}

static const char *classification_name(uint32_t num)
{
    const struct dbe_num_row *row = dbe_reg_classification(num);
    return row != NULL ? row->name : "unknown";
}

static const char *roe_name(uint32_t num)
{
    const struct dbe_num_row *row = dbe_reg_roe(num);
    return row != NULL ? row->name : "unknown";
}

static const char *role_name(uint8_t role)
{
    const struct dbe_role_row *row = dbe_reg_role(role);
    return row != NULL ? row->path : "node of unknown role";
}

static const char *msg_name(uint8_t type)
{
    const struct dbe_msg_row *row = dbe_reg_msg(type);
    return row != NULL ? row->name : "unknown type";
}

/* Name of the lowest compartment bit in `mask`. */
static const char *compartment_name(uint32_t mask)
{
    const struct dbe_num_row *row = dbe_reg_compartment(mask & (~mask + 1));
    return row != NULL ? row->name : "unknown";
}

/* Text from outside, fit to stand in a reason: short, printable ASCII, '?' for the rest. */
static const char *shown(const char *text, char out[NAME_SHOWN_MAX + 1])
{
    size_t len = strnlen(text, NAME_SHOWN_MAX);

    for (size_t i = 0; i < len; i++)
        out[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    out[len] = '\0';
    return out;
}

/* ---- rules, in the order of the table -------------------------------------------------------- */

/* The mask of a policy may refuse more, never less: KINETIC is refused whatever it says. */
dbe_err decide_kinetic(const struct decide_facts *f)
{
    uint32_t extra = f->policy != NULL ? f->policy->kinetic_mask : 0;

    if (!f->has_compartments)
        return DBE_OK;
    if ((f->labels.compartments & DBE_COMPARTMENT_KINETIC) != 0)
        return refuse(f, DBE_E_KINETIC, "compartment KINETIC is refused everywhere, always");
    if ((f->labels.compartments & extra) != 0)
        return refuse(f, DBE_E_KINETIC, "compartment %s is refused here, always",
                      compartment_name(f->labels.compartments & extra));
    return DBE_OK;
}

dbe_err decide_source(const struct decide_facts *f)
{
    if (!f->has_src)
        return refuse(f, DBE_E_SOURCE, "DEVICE_ID_SRC is missing");
    if (f->src != f->subject->peer->device)
        return refuse(f, DBE_E_SOURCE, "DEVICE_ID_SRC says device %u, the sender's certificate says device %u", f->src,
                      f->subject->peer->device);
    return DBE_OK;
}

dbe_err decide_destination(const struct decide_facts *f)
{
    if (!f->has_dst)
        return refuse(f, DBE_E_DESTINATION, "DEVICE_ID_DST is missing");
    if (f->dst != f->subject->self->device)
        return refuse(f, DBE_E_DESTINATION, "DEVICE_ID_DST says device %u, this is device %u", f->dst,
                      f->subject->self->device);
    return DBE_OK;
}

dbe_err decide_emit(const struct decide_facts *f)
{
    const struct dbe_identity *peer = f->subject->peer, *self = f->subject->self;

    if (!dbe_reg_may_emit(peer->role, f->msg->type, self->role))
        return refuse(f, DBE_E_EMIT, "a %s may not send %s to a %s", role_name(peer->role), msg_name(f->msg->type),
                      role_name(self->role));
    return DBE_OK;
}

dbe_err decide_exec(const struct decide_facts *f)
{
    if (f->has_classification && f->labels.classification == DBE_CLSF_EXEC &&
        f->subject->self->layer != LAYER_EXECUTIVE)
        return refuse(f, DBE_E_EXEC, "classification EXEC may only go to layer 9, this is layer %u",
                      f->subject->self->layer);
    return DBE_OK;
}

/* Which party of the message does not fit; DBE_OK if all are of the exercise. */
static dbe_err sim_mix_refuse(const struct decide_facts *f, bool sim)
{
    const struct {
        const char *who;
        bool exercise;
    } parties[] = {
        {"the sender", f->subject->peer->exercise},
        {"the receiver", f->subject->self->exercise},
        {"the claim", f->claim != NULL ? f->claim->exercise : sim},
    };

    for (size_t i = 0; i < BASE_ARRAY_LEN(parties); i++) {
        if (sim && !parties[i].exercise)
            return refuse(f, DBE_E_SIM_MIX, "classification TS_SIM is exercise data, %s is not of an exercise",
                          parties[i].who);
        if (!sim && parties[i].exercise)
            return refuse(f, DBE_E_SIM_MIX, "%s is of an exercise and carries TS_SIM only, not %s", parties[i].who,
                          f->has_classification ? classification_name(f->labels.classification) : "unlabelled content");
    }
    return DBE_OK;
}

/* Exercise data moves between exercise nodes under an exercise claim; those carry nothing else. */
dbe_err decide_sim_mix(const struct decide_facts *f)
{
    const bool sim = f->has_classification && f->labels.classification == DBE_CLSF_TS_SIM;

    if (!sim && !f->subject->peer->exercise && !f->subject->self->exercise && (f->claim == NULL || !f->claim->exercise))
        return DBE_OK; /* nearly always */
    return sim_mix_refuse(f, sim);
}

dbe_err decide_roe_level(const struct decide_facts *f)
{
    if (!f->has_roe)
        return refuse(f, DBE_E_ROE_LEVEL, "ROE_LEVEL is missing");
    if (dbe_reg_roe(f->labels.roe_level) == NULL)
        return refuse(f, DBE_E_ROE_LEVEL, "ROE level %u is unknown", f->labels.roe_level);
    unsigned bit = 1u << f->labels.roe_level; /* known levels are below 8 */
    if ((f->policy->roe_levels & bit) == 0)
        return refuse(f, DBE_E_ROE_LEVEL, "ROE level %s is not accepted here", roe_name(f->labels.roe_level));
    if (f->claim != NULL && (f->claim->roe_levels & bit) == 0)
        return refuse(f, DBE_E_ROE_LEVEL, "ROE level %s is not one of the claim", roe_name(f->labels.roe_level));
    if (f->tenant != NULL && (f->tenant->roe_levels & bit) == 0)
        return refuse(f, DBE_E_ROE_LEVEL, "ROE level %s is not one of the tenant", roe_name(f->labels.roe_level));
    return DBE_OK;
}

dbe_err decide_claim(const struct decide_facts *f)
{
    dbe_err claim_err = f->subject->claim_err;

    if (claim_err != DBE_OK)
        return refuse(f, claim_err, "%s",
                      f->subject->claim_fault != NULL ? f->subject->claim_fault : dbe_err_text(claim_err));
    if (f->claim != NULL) {
        dbe_err err = pol_claim_window(f->claim, f->now_ms, NULL);
        return err == DBE_OK ? DBE_OK : refuse(f, err, "%s", dbe_err_text(err));
    }
    uint8_t role = f->subject->peer->role;
    bool forwarder = role < 32 && (f->policy->claim_forwarders >> role & 1) != 0;
    if (pol_set_has(&f->policy->claim_required, f->msg->type) && !forwarder)
        return refuse(f, DBE_E_CLAIM_MISSING, "%s from a %s must carry a claim token", msg_name(f->msg->type),
                      role_name(role));
    return DBE_OK;
}

dbe_err decide_tenant(const struct decide_facts *f)
{
    char name[NAME_SHOWN_MAX + 1];

    if (!f->has_tenant || f->labels.tenant[0] == '\0')
        return refuse(f, DBE_E_TENANT, "TENANT_ID is missing");
    if (f->claim != NULL && strcmp(f->labels.tenant, f->claim->tenant) != 0)
        return refuse(f, DBE_E_TENANT, "tenant \"%s\" is not the claim's tenant", shown(f->labels.tenant, name));
    if (f->tenant == NULL)
        return refuse(f, DBE_E_TENANT, "tenant \"%s\" is none of the policy's", shown(f->labels.tenant, name));
    return DBE_OK;
}

/* Ceilings that bind a message: claim (if there is one), tenant (where a policy is asked), the sender's certificate,
 * our own. */
enum { CEILINGS_MAX = 4 };
struct ceiling {
    const char *of;
    uint32_t compartments;
    uint8_t classification;
};

static size_t ceilings(const struct decide_facts *f, struct ceiling out[CEILINGS_MAX])
{
    const struct dbe_identity *peer = f->subject->peer, *self = f->subject->self;
    size_t n = 0;

    if (f->claim != NULL)
        out[n++] = (struct ceiling){"the claim", f->claim->compartments, f->claim->classification_max};
    if (f->tenant != NULL)
        out[n++] = (struct ceiling){"the tenant", f->tenant->compartments, f->tenant->classification_max};
    out[n++] = (struct ceiling){"the sender's certificate", peer->compartments, peer->classification_max};
    out[n++] = (struct ceiling){"the receiver's certificate", self->compartments, self->classification_max};
    return n;
}

/* Why it is not within all ceilings. */
static dbe_err compartment_refuse(const struct decide_facts *f, uint32_t mask)
{
    struct ceiling c[CEILINGS_MAX];
    size_t n = ceilings(f, c);

    if (!f->has_compartments)
        return refuse(f, DBE_E_COMPARTMENT, "COMPARTMENT_MASK is missing");
    if ((mask & ~(uint32_t)DBE_COMPARTMENT_ALL) != 0)
        return refuse(f, DBE_E_COMPARTMENT, "compartment bits 0x%x are unknown", mask & ~(uint32_t)DBE_COMPARTMENT_ALL);
    for (size_t i = 0; i < n; i++)
        if ((mask & ~c[i].compartments) != 0)
            return refuse(f, DBE_E_COMPARTMENT, "compartment %s is above the ceiling of %s",
                          compartment_name(mask & ~c[i].compartments), c[i].of);
    return DBE_E_COMPARTMENT; /* fail closed, should the two ever disagree */
}

dbe_err decide_compartment(const struct decide_facts *f)
{
    const uint32_t mask = f->labels.compartments;
    const uint32_t within = f->subject->peer->compartments & f->subject->self->compartments &
                            (f->claim != NULL ? f->claim->compartments : UINT32_MAX) &
                            (f->tenant != NULL ? f->tenant->compartments : UINT32_MAX) & (uint32_t)DBE_COMPARTMENT_ALL;

    if (f->has_compartments && (mask & ~within) == 0)
        return DBE_OK;
    return compartment_refuse(f, mask);
}

/* Whose ceiling it is above. */
static dbe_err classification_refuse(const struct decide_facts *f, uint8_t level)
{
    struct ceiling c[CEILINGS_MAX];
    size_t n = ceilings(f, c);

    for (size_t i = 0; i < n; i++)
        if (level > c[i].classification)
            return refuse(f, DBE_E_CLASSIFICATION, "classification %s is above %s, the ceiling of %s",
                          classification_name(level), classification_name(c[i].classification), c[i].of);
    return DBE_E_CLASSIFICATION; /* fail closed, as above */
}

dbe_err decide_classification(const struct decide_facts *f)
{
    const uint8_t level = f->labels.classification;

    if (!f->has_classification)
        return refuse(f, DBE_E_CLASSIFICATION, "CLASSIFICATION is missing");
    if (dbe_reg_classification(level) == NULL)
        return refuse(f, DBE_E_CLASSIFICATION, "classification %u is unknown", level);
    if (level == DBE_CLSF_TS_SIM)
        return DBE_OK; /* compares with nothing but itself: rule sim-mix has decided */
    if (level <= f->subject->peer->classification_max && level <= f->subject->self->classification_max &&
        (f->claim == NULL || level <= f->claim->classification_max) &&
        (f->tenant == NULL || level <= f->tenant->classification_max))
        return DBE_OK;
    return classification_refuse(f, level);
}

/* Layer 9 and device 61 need a token whatever the policy says; a policy may add to them. A token that was not verified
 * earns nothing. */
dbe_err decide_roe_token(const struct decide_facts *f)
{
    const struct dbe_identity *self = f->subject->self;

    if (!pol_roe_needed(f->policy, self, f->subject->peer, f->msg->type) || f->subject->roe_verified)
        return DBE_OK;
    if (f->subject->roe_err != DBE_OK && f->subject->roe_fault != NULL)
        return refuse(f, DBE_E_ROE_TOKEN, "%s", f->subject->roe_fault);
    if (dbe_tlv_find(f->msg, DBE_TLV_ROE_TOKEN_ID) == NULL)
        return refuse(f, DBE_E_ROE_TOKEN, "%s for device %u of layer %u needs an ROE token and carries none",
                      msg_name(f->msg->type), self->device, self->layer);
    return refuse(f, DBE_E_ROE_TOKEN, "the ROE token for device %u of layer %u cannot be verified here", self->device,
                  self->layer);
}

/* Chats and texts to embed say so by SEALED_TO, and a worker takes them from what is sealed alone (spec 18.9); an
 * agent's task cannot be sealed. */
dbe_err decide_sealed(const struct decide_facts *f)
{
    const uint8_t type = f->msg->type;

    if (f->tenant == NULL || !f->tenant->sealed)
        return DBE_OK;
    if (type == DBE_MSG_L7_AGENT_TASK)
        return refuse(f, DBE_E_DENIED, "the tenant's prompts must be sealed, and %s cannot be", msg_name(type));
    if ((type == DBE_MSG_L7_CHAT_REQ || type == DBE_MSG_L7_EMBED_REQ) &&
        dbe_tlv_find(f->msg, DBE_TLV_SEALED_TO) == NULL)
        return refuse(f, DBE_E_DENIED, "the tenant's prompts must be sealed, and this one is in clear");
    return DBE_OK;
}

/* The site's rules. This one names itself: the verdict's rule is the site's. */
dbe_err decide_site(const struct decide_facts *f)
{
    const struct dbe_identity *peer = f->subject->peer, *self = f->subject->self;
    const struct pol_flow flow = {
        .type = f->msg->type,
        .from = peer,
        .to = self,
        .tenant = pol_policy_tenant_bit(f->policy, f->tenant),
        .labels = &f->labels,
    };
    const struct pol_rule *rule = pol_rules_match(f->policy, &flow);

    f->verdict->rule = rule != NULL ? rule->name : "default-deny";
    if (rule == NULL)
        return refuse(f, DBE_E_DENIED, "no rule of the policy allows %s from a %s", msg_name(f->msg->type),
                      role_name(peer->role));
    if (rule->deny)
        return refuse(f, DBE_E_DENIED, "rule \"%s\" of the policy denies %s", rule->name, msg_name(f->msg->type));
    return DBE_OK;
}

/* ---- rules of answers: bound by the request -------------------------------------------------- */

static bool may_omit_labels(const struct decide_facts *f)
{
    return f->msg->type == DBE_MSG_ERROR;
}

dbe_err decide_answer_tenant(const struct decide_facts *f)
{
    char name[NAME_SHOWN_MAX + 1];

    if (!f->has_tenant)
        return may_omit_labels(f) ? DBE_OK : refuse(f, DBE_E_TENANT, "the answer's TENANT_ID is missing");
    if (strcmp(f->labels.tenant, f->bound->tenant) != 0)
        return refuse(f, DBE_E_TENANT, "the answer's tenant \"%s\" is not the request's",
                      shown(f->labels.tenant, name));
    return DBE_OK;
}

dbe_err decide_answer_roe(const struct decide_facts *f)
{
    if (!f->has_roe)
        return may_omit_labels(f) ? DBE_OK : refuse(f, DBE_E_ROE_LEVEL, "the answer's ROE_LEVEL is missing");
    if (f->labels.roe_level != f->bound->roe_level)
        return refuse(f, DBE_E_ROE_LEVEL, "the answer's ROE level %s is not the request's",
                      roe_name(f->labels.roe_level));
    return DBE_OK;
}

dbe_err decide_answer_compartment(const struct decide_facts *f)
{
    uint32_t above = f->labels.compartments & ~f->bound->compartments;

    if (!f->has_compartments)
        return may_omit_labels(f) ? DBE_OK : refuse(f, DBE_E_COMPARTMENT, "the answer's COMPARTMENT_MASK is missing");
    if (above != 0)
        return refuse(f, DBE_E_COMPARTMENT, "the answer's compartment %s is not one of the request",
                      compartment_name(above));
    return DBE_OK;
}

dbe_err decide_answer_classification(const struct decide_facts *f)
{
    uint8_t level = f->labels.classification, request = f->bound->classification;

    if (!f->has_classification)
        return may_omit_labels(f) ? DBE_OK : refuse(f, DBE_E_CLASSIFICATION, "the answer's CLASSIFICATION is missing");
    if ((level == DBE_CLSF_TS_SIM) != (request == DBE_CLSF_TS_SIM))
        return refuse(f, DBE_E_SIM_MIX, "the answer is %s, the request was %s", classification_name(level),
                      classification_name(request));
    if (dbe_reg_classification(level) == NULL || level > request)
        return refuse(f, DBE_E_CLASSIFICATION, "the answer's classification %s is above the request's %s",
                      classification_name(level), classification_name(request));
    return DBE_OK;
}
