/* SPDX-License-Identifier: Apache-2.0
 *
 * cases.c - a message that nobody sent, to ask a policy about.
 */
#include "policy/cases.h"

#include <string.h>

#include "policy/internal.h"

enum { CASE_NOW_MS = 1000, CASE_MESSAGE_BYTES = 512 };

static const uint32_t all_compartments = (uint32_t)DBE_COMPARTMENT_ALL & ~(uint32_t)DBE_COMPARTMENT_KINETIC;

uint8_t pol_role_device(uint8_t role)
{
    static const uint8_t usual[] = {[DBE_ROLE_ROUTER] = DBE_DEV_EXTENDED_ANALYTICS,
                                    [DBE_ROLE_WORKER] = DBE_DEV_ADVANCED_AI_ML,
                                    [DBE_ROLE_AGENT] = DBE_DEV_STRATEGIC_PLANNING};

    return role < sizeof usual ? usual[role] : 0;
}

void pol_case_default(struct pol_case *ret)
{
    *ret = (struct pol_case){
        .from_role = DBE_ROLE_SHIM,
        .to_role = DBE_ROLE_ROUTER,
        .from_device = pol_role_device(DBE_ROLE_SHIM),
        .to_device = pol_role_device(DBE_ROLE_ROUTER),
        .from_classification = DBE_CLSF_EXEC,
        .to_classification = DBE_CLSF_EXEC,
        .from_compartments = all_compartments,
        .to_compartments = all_compartments,
        .type = DBE_MSG_L7_CHAT_REQ,
        .tenant = "default",
        .classification = DBE_CLSF_UNCLAS,
        .roe_level = DBE_ROE_ANALYSIS_ONLY,
        .claim = true,
        .claim_classification = DBE_CLSF_EXEC,
        .claim_roe_levels = POL_ROE_ALL,
        .claim_compartments = all_compartments,
    };
}

/* ---- asking --------------------------------------------------------------------------------------- */

static struct dbe_identity identity(uint8_t role, uint8_t device, uint8_t classification, uint32_t compartments)
{
    const struct dbe_device_row *row = dbe_reg_device(device);
    struct dbe_identity id = {
        .device = device, .role = role, .classification_max = classification, .compartments = compartments};

    id.layer = row != NULL ? row->layer : 0;
    if (role == DBE_ROLE_SHIM && id.layer == DBE_LAYER_SYSTEM)
        id.layer = DBE_LAYER_EXTENDED; /* a gateway belongs to the plane that it opens */
    return id;
}

static dbe_err message(const struct pol_case *c, uint8_t *bytes, size_t cap, struct dbe_msg *ret)
{
    struct dbe_builder b;
    size_t len;

    dbe_build_begin(&b, bytes, cap, c->type, DBE_FLAG_REPLAY_PROTECTED, 1);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, c->tenant);
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, c->compartments);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, c->classification);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, c->roe_level);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, c->from_device);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, c->to_device);
    if (c->sealed)
        dbe_build_u8(&b, DBE_TLV_SEALED_TO, pol_role_device(DBE_ROLE_WORKER));
    dbe_build_payload(&b, "", 0);
    DBE_TRY(dbe_build_end(&b, &len));
    return dbe_msg_decode(bytes, len, ret, NULL);
}

dbe_err pol_case_run(const struct pol_case *c, const struct pol_policy *policy, struct pol_verdict *ret)
{
    const struct dbe_identity from =
        identity(c->from_role, c->from_device, c->from_classification, c->from_compartments);
    const struct dbe_identity to = identity(c->to_role, c->to_device, c->to_classification, c->to_compartments);
    struct pol_claim claim = {.client = "case",
                              .roe_levels = c->claim_roe_levels,
                              .classification_max = c->claim_classification,
                              .compartments = c->claim_compartments,
                              .not_after_ms = CASE_NOW_MS + 1};
    const struct pol_subject subject = {.peer = &from, .self = &to, .claim = c->claim ? &claim : NULL};
    uint8_t bytes[CASE_MESSAGE_BYTES];
    struct dbe_msg msg;

    memcpy(claim.tenant, c->tenant, sizeof claim.tenant);
    if (message(c, bytes, sizeof bytes, &msg) != DBE_OK)
        return DBE_E_ARGUMENT;
    pol_decide(&subject, &msg, policy, CASE_NOW_MS, ret);
    return DBE_OK;
}

/* ---- the file ------------------------------------------------------------------------------------------ */

enum { UNSET = 0xFF };

static bool expect_names(const char *name, uint64_t *ret)
{
    *ret = strcmp(name, "allow") == 0;
    return *ret == 1 || strcmp(name, "deny") == 0;
}

static const struct conf_key case_keys[] = {
    {"name", CONF_TEXT, .required = true, CONF_FIELD(struct pol_case, name), .min = 1},
    {"type", CONF_NAME, CONF_FIELD(struct pol_case, type), .names = pol_name_msg,
     .expected = "a message type such as L7_CHAT_REQ"},
    {"from", CONF_NAME, CONF_FIELD(struct pol_case, from_role), .names = pol_name_role, .expected = POL_WORDS_ROLES},
    {"to", CONF_NAME, CONF_FIELD(struct pol_case, to_role), .names = pol_name_role, .expected = POL_WORDS_ROLES},
    {"from_device", CONF_UINT, CONF_FIELD(struct pol_case, from_device), .max = DBE_DEVICE_COUNT - 1},
    {"to_device", CONF_UINT, CONF_FIELD(struct pol_case, to_device), .max = DBE_DEVICE_COUNT - 1},
    {"from_classification", CONF_NAME, CONF_FIELD(struct pol_case, from_classification),
     .names = pol_name_classification, .expected = POL_WORDS_CLASSIFICATION},
    {"to_classification", CONF_NAME, CONF_FIELD(struct pol_case, to_classification), .names = pol_name_classification,
     .expected = POL_WORDS_CLASSIFICATION},
    {"from_compartments", CONF_FLAGS, CONF_FIELD(struct pol_case, from_compartments), .names = pol_name_compartment,
     .expected = POL_WORDS_COMPARTMENTS},
    {"to_compartments", CONF_FLAGS, CONF_FIELD(struct pol_case, to_compartments), .names = pol_name_compartment,
     .expected = POL_WORDS_COMPARTMENTS},
    {"tenant", CONF_TEXT, CONF_FIELD(struct pol_case, tenant)},
    {"classification", CONF_NAME, CONF_FIELD(struct pol_case, classification), .names = pol_name_classification,
     .expected = POL_WORDS_CLASSIFICATION},
    {"compartments", CONF_FLAGS, CONF_FIELD(struct pol_case, compartments), .names = pol_name_compartment,
     .expected = POL_WORDS_COMPARTMENTS},
    {"roe_level", CONF_NAME, CONF_FIELD(struct pol_case, roe_level), .names = pol_name_roe, .expected = POL_WORDS_ROE},
    {"sealed", CONF_BOOL, CONF_FIELD(struct pol_case, sealed)},
    {"claim", CONF_BOOL, CONF_FIELD(struct pol_case, claim)},
    {"claim_classification", CONF_NAME, CONF_FIELD(struct pol_case, claim_classification),
     .names = pol_name_classification, .expected = POL_WORDS_CLASSIFICATION},
    {"claim_compartments", CONF_FLAGS, CONF_FIELD(struct pol_case, claim_compartments), .names = pol_name_compartment,
     .expected = POL_WORDS_COMPARTMENTS},
    {"claim_roe_levels", CONF_FLAGS, CONF_FIELD(struct pol_case, claim_roe_levels), .names = pol_name_roe_bit,
     .expected = "a list of " POL_WORDS_ROE},
    {"expect", CONF_NAME, .required = true, CONF_FIELD(struct pol_case, allow), .names = expect_names,
     .expected = "allow or deny"},
    {"rule", CONF_TEXT, CONF_FIELD(struct pol_case, rule)},
    {.kind = CONF_END},
};
static const struct conf_items case_list = {.item = case_keys,
                                            .item_size = sizeof(struct pol_case),
                                            .max = POL_CASES_MAX,
                                            .count_offset = offsetof(struct pol_cases, count)};
static const struct conf_key file_keys[] = {
    {"policy", CONF_TEXT, CONF_FIELD(struct pol_cases, policy)},
    {"cases", CONF_ITEMS, .required = true, .min = 1, .offset = offsetof(struct pol_cases, cases), .items = &case_list},
    {.kind = CONF_END},
};

dbe_err pol_cases_read(const struct conf_doc *doc, struct pol_cases *ret, struct dbe_diag *diag)
{
    struct pol_cases *made = base_alloc(1, sizeof *made);
    dbe_err err;

    if (made == NULL)
        return DBE_E_NOMEM;
    for (size_t i = 0; i < POL_CASES_MAX; i++) {
        pol_case_default(&made->cases[i]);
        made->cases[i].from_device = made->cases[i].to_device = UNSET;
    }
    err = conf_bind(doc, conf_root(doc), file_keys, made, diag);
    for (size_t i = 0; err == DBE_OK && i < made->count; i++) {
        struct pol_case *c = &made->cases[i];
        if (c->from_device == UNSET)
            c->from_device = pol_role_device(c->from_role);
        if (c->to_device == UNSET)
            c->to_device = pol_role_device(c->to_role);
    }
    if (err == DBE_OK)
        *ret = *made;
    base_free(made);
    return err;
}
