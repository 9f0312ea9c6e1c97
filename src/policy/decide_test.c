/* SPDX-License-Identifier: Apache-2.0
 *
 * decide_test.c - the decision as a table: each rule refuses its value and lets the neighbouring value pass;
 * and properties over all combinations where they are few.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "policy/policy.h"

enum { NOW = 1000000, NONE = -1 };

/* One message to decide about, and who is involved. -1: the label is missing. */
struct scene {
    struct dbe_identity peer, self;
    struct pol_claim claim;
    struct pol_policy policy;
    bool with_claim, roe_token, sealed;
    dbe_err claim_err;
    const char *claim_fault;
    uint8_t type;
    int64_t compartments;
    int classification, roe, src, dst;
    const char *tenant;
};

/* A chat request from the shim to the router that nothing speaks against. */
static struct scene good(void)
{
    struct scene s = {
        .peer = {.device = 0,
                 .layer = 7,
                 .role = DBE_ROLE_SHIM,
                 .classification_max = DBE_CLSF_SECRET,
                 .compartments = 0x0F},
        .self = {.device = 43,
                 .layer = 7,
                 .role = DBE_ROLE_ROUTER,
                 .classification_max = DBE_CLSF_SECRET,
                 .compartments = 0x0F},
        .claim = {.tenant = "t1",
                  .client = "c",
                  .roe_levels = 1u << DBE_ROE_SOC_ASSIST,
                  .classification_max = DBE_CLSF_SECRET,
                  .compartments = DBE_COMPARTMENT_SOC,
                  .not_before_ms = NOW - 1,
                  .not_after_ms = NOW + 1},
        .with_claim = true,
        .type = DBE_MSG_L7_CHAT_REQ,
        .compartments = DBE_COMPARTMENT_SOC,
        .classification = DBE_CLSF_SECRET,
        .roe = DBE_ROE_SOC_ASSIST,
        .src = 0,
        .dst = 43,
        .tenant = "t1",
    };
    pol_policy_default(&s.policy);
    return s;
}

static void build(const struct scene *s, uint8_t *bytes, size_t cap, struct dbe_msg *msg)
{
    struct dbe_builder b;
    size_t len;

    dbe_build_begin(&b, bytes, cap, s->type, DBE_FLAG_REPLAY_PROTECTED, 1);
    if (s->tenant != NULL)
        dbe_build_text(&b, DBE_TLV_TENANT_ID, s->tenant);
    if (s->compartments != NONE)
        dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, (uint32_t)s->compartments);
    if (s->classification != NONE)
        dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, (uint8_t)s->classification);
    if (s->roe != NONE)
        dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, (uint8_t)s->roe);
    if (s->src != NONE)
        dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, (uint8_t)s->src);
    if (s->dst != NONE)
        dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, (uint8_t)s->dst);
    if (s->roe_token)
        dbe_build_bytes(&b, DBE_TLV_ROE_TOKEN_ID, "0123456789abcdef", 16);
    if (s->sealed)
        dbe_build_u8(&b, DBE_TLV_SEALED_TO, 47);
    dbe_build_payload(&b, "", 0);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(dbe_msg_decode(bytes, len, msg, NULL), DBE_OK);
}

static struct pol_verdict judge(const struct scene *s)
{
    uint8_t bytes[512];
    struct dbe_msg msg;
    struct pol_verdict v;
    const struct pol_subject subject = {.peer = &s->peer,
                                        .self = &s->self,
                                        .claim = s->with_claim ? &s->claim : NULL,
                                        .claim_err = s->claim_err,
                                        .claim_fault = s->claim_fault};

    build(s, bytes, sizeof bytes, &msg);
    pol_decide(&subject, &msg, &s->policy, NOW, &v);
    return v;
}

static void refused(const struct scene *s, dbe_err code, const char *rule)
{
    struct pol_verdict v = judge(s);

    assert_string_equal(v.rule, rule);
    assert_int_equal(v.code, code);
    assert_int_equal(dbe_err_class(v.code), DBE_CLASS_DENY);
    assert_true(v.reason[0] != '\0');
    assert_string_equal(v.labels.tenant, "");
}

static void allowed(const struct scene *s)
{
    struct pol_verdict v = judge(s);

    assert_string_equal(v.reason, "");
    assert_int_equal(v.code, DBE_OK);
    assert_string_equal(v.rule, "allow");
    assert_string_equal(v.labels.tenant, s->tenant);
    assert_int_equal(v.labels.compartments, s->compartments);
    assert_int_equal(v.labels.classification, s->classification);
    assert_int_equal(v.labels.roe_level, s->roe);
}

/* spec 11.1 */
static void test_good(void **state)
{
    struct scene s = good();

    (void)state;
    allowed(&s);
}

/* spec 11.3 */
/* KINETIC with every mixture of the other bits, whoever asks and whatever the policy, certificates and claim say. */
static void test_kinetic(void **state)
{
    struct scene s = good();

    (void)state;
    s.self.compartments = s.peer.compartments = s.claim.compartments = UINT32_MAX;
    for (int mask = 0; mask < 0x100; mask++) {
        s.compartments = mask;
        s.policy.kinetic_mask = 0; /* a policy cannot allow it */
        if ((mask & DBE_COMPARTMENT_KINETIC) != 0) {
            refused(&s, DBE_E_KINETIC, "kinetic");
            assert_string_equal(judge(&s).reason, "compartment KINETIC is refused everywhere, always");
        } else if ((mask & ~DBE_COMPARTMENT_ALL) != 0) {
            refused(&s, DBE_E_COMPARTMENT, "compartment");
        } else {
            allowed(&s);
        }
    }
    s.compartments = 0x80000080;
    refused(&s, DBE_E_KINETIC, "kinetic");
    s = good();
    s.policy.kinetic_mask |= DBE_COMPARTMENT_SOC; /* a policy can refuse more */
    refused(&s, DBE_E_KINETIC, "kinetic");
}

/* spec 11.4 */
static void test_source_and_destination(void **state)
{
    struct scene s = good();

    (void)state;
    for (int device = NONE; device < 256; device++) {
        s.src = device;
        if (device == 0)
            allowed(&s);
        else
            refused(&s, DBE_E_SOURCE, "source");
    }
    s = good();
    for (int device = NONE; device < 256; device++) {
        s.dst = device;
        if (device == 43)
            allowed(&s);
        else
            refused(&s, DBE_E_DESTINATION, "destination");
    }
}

/* spec 11.5: all pairs of roles and all types: allowed exactly where the emit table has a row. */
static void test_emit(void **state)
{
    struct scene s = good();
    unsigned passed = 0;

    (void)state;
    for (unsigned src = 0; src < 8; src++)
        for (unsigned dst = 0; dst < 8; dst++)
            for (unsigned type = 1; type < 256; type++) {
                const struct dbe_msg_row *row = dbe_reg_msg((uint8_t)type);
                if (row == NULL || row->type != type)
                    continue;
                s.peer.role = (uint8_t)src;
                s.self.role = (uint8_t)dst;
                s.type = (uint8_t)type;
                if (dbe_reg_may_emit((uint8_t)src, (uint8_t)type, (uint8_t)dst)) {
                    allowed(&s);
                    passed++;
                } else {
                    refused(&s, DBE_E_EMIT, "emit");
                }
            }
    assert_true(passed > 10);
}

/* spec 11.6 */
static void test_exec(void **state)
{
    struct scene s = good();

    (void)state;
    s.classification = DBE_CLSF_EXEC;
    s.peer.classification_max = s.self.classification_max = s.claim.classification_max = DBE_CLSF_EXEC;
    for (unsigned layer = 0; layer < 12; layer++) {
        s.self.layer = (uint8_t)layer;
        if (layer != 9)
            refused(&s, DBE_E_EXEC, "exec");
        else
            refused(&s, DBE_E_ROE_TOKEN, "roe-token"); /* passes its own rule, and meets the next */
    }
    s.self.layer = 7;
    s.classification = DBE_CLSF_ATOMAL;
    allowed(&s);
}

/* spec 11.7: eight mixtures of exercise and real parties, with exercise and real content. */
static void test_sim_mix(void **state)
{
    (void)state;
    for (int mix = 0; mix < 16; mix++) {
        struct scene s = good();
        s.peer.exercise = (mix & 1) != 0;
        s.self.exercise = (mix & 2) != 0;
        s.claim.exercise = (mix & 4) != 0;
        s.classification = (mix & 8) != 0 ? DBE_CLSF_TS_SIM : DBE_CLSF_UNCLAS;
        if (mix == 0 || mix == 15)
            allowed(&s);
        else
            refused(&s, DBE_E_SIM_MIX, "sim-mix");
    }
    struct scene s = good(); /* without a claim the two certificates decide */
    s.type = DBE_MSG_L7_MODEL_STATUS;
    s.with_claim = false;
    s.peer.exercise = s.self.exercise = true;
    refused(&s, DBE_E_SIM_MIX, "sim-mix");
    s.classification = DBE_CLSF_TS_SIM;
    allowed(&s);
    s.classification = NONE;
    refused(&s, DBE_E_SIM_MIX, "sim-mix");
}

/* spec 11.8 */
static void test_roe_level(void **state)
{
    (void)state;
    for (int level = NONE; level < 256; level++)
        for (unsigned mine = 0; mine < 16; mine += 2)
            for (unsigned claim = 0; claim < 16; claim += 2) {
                struct scene s = good();
                s.roe = level;
                s.policy.roe_levels = (uint8_t)mine;
                s.claim.roe_levels = (uint8_t)claim;
                if (level >= 1 && level <= 3 && (mine & claim & (1u << level)) != 0)
                    allowed(&s);
                else
                    refused(&s, DBE_E_ROE_LEVEL, "roe-level");
            }
}

/* spec 11.9 */
static void test_claim(void **state)
{
    static const dbe_err errs[] = {DBE_E_CLAIM_INVALID, DBE_E_CLAIM_EXPIRED};
    struct scene s = good();

    (void)state;
    s.with_claim = false;
    refused(&s, DBE_E_CLAIM_MISSING, "claim");
    s.peer.role = DBE_ROLE_AGENT; /* may ask the router, but not without a claim either */
    refused(&s, DBE_E_CLAIM_MISSING, "claim");
    s.peer.role = DBE_ROLE_ROUTER; /* forwards: the claim stayed where it was checked */
    s.self.role = DBE_ROLE_WORKER;
    allowed(&s);
    s.policy.claim_forwarders = 0;
    refused(&s, DBE_E_CLAIM_MISSING, "claim");
    s = good(); /* a status question needs none */
    s.with_claim = false;
    s.type = DBE_MSG_L7_MODEL_STATUS;
    allowed(&s);
    for (size_t i = 0; i < BASE_ARRAY_LEN(errs); i++) { /* but a bad one is refused also where none is needed */
        s.claim_err = errs[i];
        refused(&s, errs[i], "claim");
        s.with_claim = true;
        refused(&s, errs[i], "claim");
    }
    s.claim_fault = "the claim token has expired";
    assert_string_equal(judge(&s).reason, "the claim token has expired");
    s = good();
    s.claim.not_after_ms = NOW;
    refused(&s, DBE_E_CLAIM_EXPIRED, "claim");
    s.claim.not_after_ms = NOW + 1;
    allowed(&s);
    s.claim.not_before_ms = NOW + 1;
    refused(&s, DBE_E_CLAIM_EXPIRED, "claim");
}

/* spec 11.9 */
static void test_tenant(void **state)
{
    struct scene s = good();

    (void)state;
    s.tenant = NULL;
    refused(&s, DBE_E_TENANT, "tenant");
    s.tenant = "t2";
    refused(&s, DBE_E_TENANT, "tenant");
    assert_string_equal(judge(&s).reason, "tenant \"t2\" is not the claim's tenant");
    s.tenant = "t11";
    refused(&s, DBE_E_TENANT, "tenant");
    s.tenant = "T1";
    refused(&s, DBE_E_TENANT, "tenant");
    s.tenant = "evil\n{\"x\":1}\xC3\xA9"; /* what is said of it stays on one line */
    refused(&s, DBE_E_TENANT, "tenant");
    assert_null(strpbrk(judge(&s).reason, "\n\xC3\xA9"));
    s = good();
    s.type = DBE_MSG_L7_MODEL_STATUS;
    s.with_claim = false;
    s.tenant = "system";
    allowed(&s);
    s.tenant = NULL;
    refused(&s, DBE_E_TENANT, "tenant");
}

/* spec 10.7, 11.10 */
/* One bit, and every mixture of who may carry it: allowed only if claim, sender and receiver all may. */
static void test_compartment_ceilings(void **state)
{
    (void)state;
    for (uint32_t bit = 1; bit < 0x80; bit <<= 1)
        for (int who = 0; who < 8; who++) {
            struct scene s = good();
            if ((bit & DBE_COMPARTMENT_ALL) == 0)
                continue;
            s.compartments = bit;
            s.claim.compartments = (who & 1) != 0 ? bit : 0x7F & ~bit;
            s.peer.compartments = (who & 2) != 0 ? bit : 0x7F & ~bit;
            s.self.compartments = (who & 4) != 0 ? bit : 0x7F & ~bit;
            if (who == 7)
                allowed(&s);
            else
                refused(&s, DBE_E_COMPARTMENT, "compartment");
        }
    struct scene s = good();
    s.compartments = NONE;
    refused(&s, DBE_E_COMPARTMENT, "compartment");
    s.compartments = 0; /* content of no compartment is below every ceiling */
    allowed(&s);
    s.compartments = 0x100;
    refused(&s, DBE_E_COMPARTMENT, "compartment");
    s = good();
    s.compartments = DBE_COMPARTMENT_SIGNALS;
    s.claim.compartments = 0x7F;
    assert_string_equal(judge(&s).reason, "compartment SIGNALS is above the ceiling of the sender's certificate");
}

/* spec 10.7, 11.10 */
static void test_classification_ceilings(void **state)
{
    (void)state;
    for (int level = 0; level < 256; level++)
        for (uint8_t ceiling = 0; ceiling < DBE_CLSF_EXEC; ceiling++)
            for (int who = 0; who < 3; who++) {
                struct scene s = good();
                if (level == DBE_CLSF_EXEC || level == DBE_CLSF_TS_SIM)
                    continue; /* rules of their own */
                s.classification = level;
                s.claim.classification_max = who == 0 ? ceiling : DBE_CLSF_EXEC;
                s.peer.classification_max = who == 1 ? ceiling : DBE_CLSF_EXEC;
                s.self.classification_max = who == 2 ? ceiling : DBE_CLSF_EXEC;
                if (level <= ceiling)
                    allowed(&s);
                else
                    refused(&s, DBE_E_CLASSIFICATION, "classification");
            }
    struct scene s = good();
    s.classification = NONE;
    refused(&s, DBE_E_CLASSIFICATION, "classification");
    s = good();
    s.type = DBE_MSG_L7_MODEL_STATUS; /* bounded without a claim too */
    s.with_claim = false;
    s.classification = DBE_CLSF_TS;
    refused(&s, DBE_E_CLASSIFICATION, "classification");
}

/* spec 11.11 */
static void test_roe_token(void **state)
{
    (void)state;
    for (int token = 0; token < 2; token++) {
        struct scene s = good();
        s.roe_token = token;
        allowed(&s);
        s.self.layer = 9;
        refused(&s, DBE_E_ROE_TOKEN, "roe-token");
        s.self.layer = 8;
        allowed(&s);
        s.self.device = DBE_DEV_NC3_INTEGRATION;
        s.dst = 61;
        refused(&s, DBE_E_ROE_TOKEN, "roe-token");
        s.self.device = 60;
        s.dst = 60;
        allowed(&s);
    }
}

/* spec 11.11: a type that the policy names needs its token where it comes in; a forwarder's word is enough behind. */
static void test_roe_token_of_a_type(void **state)
{
    (void)state;
    struct scene s = good();
    s.policy.claim_forwarders = 0;
    pol_set_add(&s.policy.token_types, s.type);
    refused(&s, DBE_E_ROE_TOKEN, "roe-token");
    s.policy.claim_forwarders = 1u << s.peer.role;
    allowed(&s);
    pol_set_add(&s.policy.token_devices, s.self.device); /* this very node: whoever sends it */
    refused(&s, DBE_E_ROE_TOKEN, "roe-token");
}

/* spec 15.6: at the gateway's hop and at the router's, and nothing else that carries what a tenant asks passes. */
static void test_sealed(void **state)
{
    static const uint8_t prompts[] = {DBE_MSG_L7_CHAT_REQ, DBE_MSG_L7_EMBED_REQ};

    (void)state;
    for (int hop = 0; hop < 4; hop++)
        for (int must = 0; must < 2; must++) {
            struct scene s = good();
            s.type = prompts[hop / 2];
            if (hop % 2 == 1) {
                s.peer = s.self;
                s.self.role = DBE_ROLE_WORKER;
                s.src = s.peer.device;
                s.self.device = 47;
                s.dst = 47;
                s.with_claim = false;
            }
            s.policy.any.sealed = must != 0;
            s.sealed = true;
            allowed(&s);
            s.sealed = false;
            if (must == 0)
                allowed(&s);
            else
                refused(&s, DBE_E_DENIED, "sealed");
        }
    for (int marked = 0; marked < 2; marked++) {
        struct scene s = good();
        s.type = DBE_MSG_L7_AGENT_TASK;
        s.sealed = marked != 0; /* the mark alone seals nothing */
        allowed(&s);
        s.policy.any.sealed = true;
        refused(&s, DBE_E_DENIED, "sealed");
    }
    struct scene s = good(); /* what carries no prompt passes */
    s.type = DBE_MSG_L7_MODEL_STATUS;
    s.with_claim = false;
    s.policy.any.sealed = true;
    allowed(&s);
}

/* spec 11.10 */
/* Content that is refused stays refused when it carries more: another compartment, or the next classification. */
static void test_labels_only_restrict(void **state)
{
    struct scene s = good();

    (void)state;
    s.claim.classification_max = DBE_CLSF_TS;
    s.peer.classification_max = DBE_CLSF_SECRET;
    s.self.classification_max = DBE_CLSF_ATOMAL;
    s.claim.compartments = 0x35;
    s.self.compartments = 0x1F;
    for (int mask = 0; mask < 0x200; mask++)
        for (int level = 0; level <= DBE_CLSF_EXEC; level++) {
            s.compartments = mask;
            s.classification = level;
            if (judge(&s).code == DBE_OK)
                continue;
            for (int bit = 1; bit < 0x200; bit <<= 1) {
                s.compartments = mask | bit;
                assert_int_not_equal(judge(&s).code, DBE_OK);
            }
            s.compartments = mask;
            for (int higher = level; higher <= DBE_CLSF_EXEC; higher++) {
                s.classification = higher;
                assert_int_not_equal(judge(&s).code, DBE_OK);
            }
        }
}

/* spec 11.2: the order: everything is wrong, and one thing after the other is mended. */
static void test_first_refusal_wins(void **state)
{
    struct scene s = good(), g = good();

    (void)state;
    s.compartments = DBE_COMPARTMENT_KINETIC | DBE_COMPARTMENT_SIGNALS;
    s.src = s.dst = 12;
    s.peer.role = DBE_ROLE_WORKER;
    s.classification = DBE_CLSF_EXEC;
    s.peer.exercise = true;
    s.roe = 9;
    s.claim_err = DBE_E_CLAIM_INVALID;
    s.tenant = "t2";
    refused(&s, DBE_E_KINETIC, "kinetic");
    s.compartments = DBE_COMPARTMENT_SIGNALS;
    refused(&s, DBE_E_SOURCE, "source");
    s.src = g.src;
    refused(&s, DBE_E_DESTINATION, "destination");
    s.dst = g.dst;
    refused(&s, DBE_E_EMIT, "emit");
    s.peer.role = g.peer.role;
    refused(&s, DBE_E_EXEC, "exec");
    s.classification = DBE_CLSF_TS;
    refused(&s, DBE_E_SIM_MIX, "sim-mix");
    s.peer.exercise = false;
    refused(&s, DBE_E_ROE_LEVEL, "roe-level");
    s.roe = g.roe;
    refused(&s, DBE_E_CLAIM_INVALID, "claim");
    s.claim_err = DBE_OK;
    refused(&s, DBE_E_TENANT, "tenant");
    s.tenant = g.tenant;
    refused(&s, DBE_E_COMPARTMENT, "compartment");
    s.compartments = g.compartments;
    refused(&s, DBE_E_CLASSIFICATION, "classification");
    s.classification = g.classification;
    allowed(&s);
}

/* ---- answers and sends ----------------------------------------------------------------------- */

static struct pol_verdict judge_answer(const struct scene *s, const struct pol_labels *request)
{
    uint8_t bytes[512];
    struct dbe_msg msg;
    struct pol_verdict v;

    build(s, bytes, sizeof bytes, &msg);
    pol_decide_answer(&s->peer, &s->self, request, &msg, &v);
    return v;
}

/* spec 11.12 */
static void test_answers(void **state)
{
    const struct pol_labels request = {
        .tenant = "t1", .compartments = 0x03, .classification = DBE_CLSF_SECRET, .roe_level = DBE_ROE_SOC_ASSIST};
    struct scene base = good(), s;

    (void)state;
    base.peer = (struct dbe_identity){.device = 47, .layer = 7, .role = DBE_ROLE_WORKER};
    base.src = 47;
    base.type = DBE_MSG_L7_CHAT_RESP;
    base.compartments = 0x03;
    assert_int_equal(judge_answer(&base, &request).code, DBE_OK);
#define CHANGE(field, value, expected)                                                                                 \
    s = base;                                                                                                          \
    s.field = value;                                                                                                   \
    assert_int_equal(judge_answer(&s, &request).code, expected)
    CHANGE(compartments, 0x01, DBE_OK);
    CHANGE(compartments, 0x00, DBE_OK);
    CHANGE(compartments, 0x04, DBE_E_COMPARTMENT);
    CHANGE(compartments, 0x83, DBE_E_KINETIC);
    CHANGE(compartments, NONE, DBE_E_COMPARTMENT);
    CHANGE(classification, DBE_CLSF_UNCLAS, DBE_OK);
    CHANGE(classification, DBE_CLSF_TS, DBE_E_CLASSIFICATION);
    CHANGE(classification, DBE_CLSF_TS_SIM, DBE_E_SIM_MIX);
    CHANGE(classification, NONE, DBE_E_CLASSIFICATION);
    CHANGE(roe, DBE_ROE_TRAINING, DBE_E_ROE_LEVEL);
    CHANGE(roe, NONE, DBE_E_ROE_LEVEL);
    CHANGE(tenant, "t2", DBE_E_TENANT);
    CHANGE(tenant, NULL, DBE_E_TENANT);
    CHANGE(src, 46, DBE_E_SOURCE);
    CHANGE(dst, 0, DBE_E_DESTINATION);
    CHANGE(type, DBE_MSG_L7_CHAT_REQ, DBE_E_EMIT);
    /* an ERROR may travel without labels, but not with higher ones */
    base.type = DBE_MSG_ERROR;
    base.tenant = NULL;
    base.compartments = base.classification = base.roe = NONE;
    assert_int_equal(judge_answer(&base, &request).code, DBE_OK);
    CHANGE(classification, DBE_CLSF_TS, DBE_E_CLASSIFICATION);
    CHANGE(src, NONE, DBE_E_SOURCE);
#undef CHANGE
}

/* spec 11.13 */
static void test_send(void **state)
{
    const struct dbe_identity to = {
        .layer = 7, .role = DBE_ROLE_WORKER, .device = 47, .compartments = 0x03, .classification_max = DBE_CLSF_SECRET};
    struct dbe_identity sim = to;
    struct pol_labels l = {.tenant = "t", .compartments = 0x03, .classification = DBE_CLSF_SECRET, .roe_level = 2};
    struct pol_verdict v;

    (void)state;
    pol_decide_send(&to, &l, &v);
    assert_int_equal(v.code, DBE_OK);
    assert_string_equal(v.labels.tenant, "t");
    sim.exercise = true;
    pol_decide_send(&sim, &l, &v);
    assert_int_equal(v.code, DBE_E_SIM_MIX);
    l.classification = DBE_CLSF_TS_SIM;
    pol_decide_send(&sim, &l, &v);
    assert_int_equal(v.code, DBE_OK);
    pol_decide_send(&to, &l, &v);
    assert_int_equal(v.code, DBE_E_SIM_MIX);
    l.classification = DBE_CLSF_TS;
    pol_decide_send(&to, &l, &v);
    assert_int_equal(v.code, DBE_E_CLASSIFICATION);
    l.classification = DBE_CLSF_EXEC;
    pol_decide_send(&to, &l, &v);
    assert_int_equal(v.code, DBE_E_EXEC);
    l.classification = DBE_CLSF_UNCLAS;
    l.compartments = 0x04;
    pol_decide_send(&to, &l, &v);
    assert_int_equal(v.code, DBE_E_COMPARTMENT);
    l.compartments = 0x80;
    pol_decide_send(&to, &l, &v);
    assert_int_equal(v.code, DBE_E_KINETIC);
}

static void test_labels_read(void **state)
{
    struct scene s = good();
    uint8_t bytes[512];
    struct dbe_msg msg;
    struct pol_labels l = {.roe_level = 77};

    (void)state;
    s.roe = NONE;
    build(&s, bytes, sizeof bytes, &msg);
    assert_int_equal(pol_labels_read(&msg, &l), DBE_E_NOT_FOUND);
    assert_int_equal(l.roe_level, 77);
    s = good();
    build(&s, bytes, sizeof bytes, &msg);
    assert_int_equal(pol_labels_read(&msg, &l), DBE_OK);
    assert_string_equal(l.tenant, "t1");
    assert_int_equal(l.roe_level, DBE_ROE_SOC_ASSIST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_kinetic),
        cmocka_unit_test(test_source_and_destination),
        cmocka_unit_test(test_emit),
        cmocka_unit_test(test_exec),
        cmocka_unit_test(test_sim_mix),
        cmocka_unit_test(test_roe_level),
        cmocka_unit_test(test_claim),
        cmocka_unit_test(test_tenant),
        cmocka_unit_test(test_compartment_ceilings),
        cmocka_unit_test(test_classification_ceilings),
        cmocka_unit_test(test_roe_token),
        cmocka_unit_test(test_roe_token_of_a_type),
        cmocka_unit_test(test_sealed),
        cmocka_unit_test(test_labels_only_restrict),
        cmocka_unit_test(test_first_refusal_wins),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_send),
        cmocka_unit_test(test_labels_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
