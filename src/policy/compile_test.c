/* SPDX-License-Identifier: Apache-2.0
 *
 * compile_test.c - policies as YAML: the built-in one word for word, what a key means for a decision, what is refused
 * and where.
 */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compile.h"
#include "policy/internal.h"

static dbe_err compile_text(const char *text, struct pol_policy *ret, struct dbe_diag *diag)
{
    struct conf_doc *doc = NULL;
    dbe_err err = conf_parse("p.yaml", text, strlen(text), &doc, diag);

    if (err == DBE_OK)
        err = pol_compile(doc, ret, diag);
    conf_free(doc);
    return err;
}

/* ---- the built-in policy ------------------------------------------------------------------------ */

static void the_file_is_the_built_in_policy(void **state)
{
    const char *root = getenv("DSMIL_SOURCE_ROOT");
    static struct pol_policy built_in, from_file, sealed;
    struct conf_doc *doc = NULL;
    struct base_buf a, b;
    struct dbe_diag diag = {0};
    char path[512];

    (void)state;
    assert_non_null(root);
    snprintf(path, sizeof path, "%s/src/policy/default.yaml", root);
    assert_int_equal(conf_load(path, &doc, &diag), DBE_OK);
    assert_int_equal(pol_compile(doc, &from_file, &diag), DBE_OK);
    conf_free(doc);
    pol_policy_default(&built_in);
    base_buf_init(&a, 65536);
    base_buf_init(&b, 65536);
    pol_policy_canonical(&built_in, &a);
    pol_policy_canonical(&from_file, &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    base_buf_free(&a);
    base_buf_free(&b);
    sealed = built_in;
    assert_int_equal(pol_policy_seal(&sealed), DBE_OK);
    if (memcmp(sealed.digest, built_in.digest, sizeof sealed.digest) != 0)
        for (size_t i = 0; i < sizeof sealed.digest; i++)
            printf("0x%02X,%s", sealed.digest[i], i % 16 == 15 ? "\n" : " "); /* what tables.c must hold */
    assert_memory_equal(sealed.digest, built_in.digest, sizeof sealed.digest);
}

/* ---- what keys mean -------------------------------------------------------------------------------- */

#define HEAD                                                                                                           \
    "version: 7\n"                                                                                                     \
    "roe_levels: [ANALYSIS_ONLY, SOC_ASSIST]\n"                                                                        \
    "claims: {required: [L7_CHAT_REQ], forwarders: [router]}\n"
#define TENANTS                                                                                                        \
    "tenants:\n"                                                                                                       \
    "  BRAVO: {classification: UNCLAS, compartments: [], roe_levels: [ANALYSIS_ONLY]}\n"                               \
    "  ALPHA:\n"                                                                                                       \
    "    classification: SECRET\n"                                                                                     \
    "    compartments: [SOC, DEV]\n"                                                                                   \
    "    roe_levels: [ANALYSIS_ONLY]\n"                                                                                \
    "    limits: {requests: 100/min, tokens: 20000/min, parallel: 4, kv: 256MiB}\n"
#define RULES                                                                                                          \
    "rules:\n"                                                                                                         \
    "  - {name: a, effect: allow}\n"

/* A message from the worker to the router: type without a claim, so that tenants and rules are what decides. */
struct scene {
    const char *tenant;
    uint32_t compartments;
    uint8_t classification, roe, type;
};

static struct pol_verdict judge(const struct pol_policy *p, const struct scene *s)
{
    const struct dbe_identity worker = {
        .device = 47, .layer = 7, .role = DBE_ROLE_WORKER, .classification_max = DBE_CLSF_EXEC, .compartments = 0xFF};
    const struct dbe_identity router = {
        .device = 43, .layer = 7, .role = DBE_ROLE_ROUTER, .classification_max = DBE_CLSF_EXEC, .compartments = 0xFF};
    const struct pol_subject subject = {.peer = &worker, .self = &router};
    struct pol_verdict v;
    struct dbe_builder b;
    struct dbe_msg msg;
    uint8_t bytes[512];
    size_t len;

    dbe_build_begin(&b, bytes, sizeof bytes, s->type, DBE_FLAG_REPLAY_PROTECTED, 1);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, s->tenant);
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, s->compartments);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, s->classification);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, s->roe);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, 47);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, 43);
    dbe_build_payload(&b, "", 0);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(dbe_msg_decode(bytes, len, &msg, NULL), DBE_OK);
    pol_decide(&subject, &msg, p, 0, &v);
    return v;
}

static const struct scene good = {.tenant = "ALPHA",
                                  .compartments = DBE_COMPARTMENT_DEV,
                                  .classification = DBE_CLSF_SECRET,
                                  .roe = DBE_ROE_ANALYSIS_ONLY,
                                  .type = DBE_MSG_L7_MODEL_STATUS};

static void expect(const struct pol_policy *p, struct scene s, dbe_err code, const char *rule)
{
    struct pol_verdict v = judge(p, &s);

    if (v.code != code || strcmp(v.rule, rule) != 0)
        fail_msg("%s by %s (%s); expected %s by %s", dbe_err_name(v.code), v.rule, v.reason, dbe_err_name(code), rule);
}

/* spec 15.3, 15.1 */
static void tenants_have_ceilings(void **state)
{
    static struct pol_policy p;
    struct scene s;

    (void)state;
    assert_int_equal(compile_text(HEAD TENANTS RULES, &p, NULL), DBE_OK);
    expect(&p, good, DBE_OK, "a");
    s = good, s.classification = DBE_CLSF_TS;
    expect(&p, s, DBE_E_CLASSIFICATION, "classification");
    s = good, s.compartments = DBE_COMPARTMENT_CRYPTO;
    expect(&p, s, DBE_E_COMPARTMENT, "compartment");
    s = good, s.roe = DBE_ROE_SOC_ASSIST; /* the mesh accepts it, the tenant's is lower */
    expect(&p, s, DBE_E_ROE_LEVEL, "roe-level");
    s = good, s.tenant = "BRAVO", s.classification = DBE_CLSF_UNCLAS, s.compartments = 0;
    expect(&p, s, DBE_OK, "a");
    s.compartments = DBE_COMPARTMENT_SOC;
    expect(&p, s, DBE_E_COMPARTMENT, "compartment");
    s = good, s.tenant = "CHARLIE";
    expect(&p, s, DBE_E_TENANT, "tenant");
}

/* Lists that name what is needed may be empty; lists that a rule asks about may not. */
static void nothing_may_need_a_claim_or_a_token(void **state)
{
    static struct pol_policy p;
    struct dbe_diag diag = {0};
    dbe_err err = compile_text("version: 7\nroe_levels: [ANALYSIS_ONLY]\nclaims: {required: [], forwarders: []}\n"
                               "roe_tokens: {types: [], layers: [], devices: []}\n" TENANTS RULES,
                               &p, &diag);

    (void)state;
    assert_string_equal(diag.text, "");
    assert_int_equal(err, DBE_OK);
    expect(&p, good, DBE_OK, "a");
}

static void limits_are_kept_by_tenant(void **state)
{
    static struct pol_policy p;
    const struct pol_tenant *t;

    (void)state;
    assert_int_equal(compile_text(HEAD TENANTS "  \"*\": {classification: UNCLAS, compartments: [SOC], roe_levels: "
                                               "[ANALYSIS_ONLY], limits: {requests: 5/5min}}\n" RULES,
                                  &p, NULL),
                     DBE_OK);
    t = pol_policy_tenant(&p, "ALPHA");
    assert_int_equal(t->limits.requests.count, 100);
    assert_int_equal(t->limits.requests.window_ms, 60000);
    assert_int_equal(t->limits.tokens.count, 20000);
    assert_int_equal(t->limits.parallel, 4);
    assert_int_equal(t->limits.kv_bytes, 256 << 20);
    t = pol_policy_tenant(&p, "BRAVO");
    assert_int_equal(t->limits.requests.count, 0);
    t = pol_policy_tenant(&p, "CHARLIE"); /* "*" */
    assert_int_equal(t->limits.requests.count, 5);
    assert_int_equal(t->limits.requests.window_ms, 300000);
}

/* spec 15.6 */
static void a_tenant_may_demand_that_prompts_are_sealed(void **state)
{
    static const char *const must = "tenants:\n  A: {classification: TS, compartments: [], roe_levels: "
                                    "[ANALYSIS_ONLY], sealed: %s}\n  B: {classification: TS, compartments: [], "
                                    "roe_levels: [ANALYSIS_ONLY]}\n";
    static struct pol_policy p, optional;
    char tenants[512], text[1024];

    (void)state;
    snprintf(tenants, sizeof tenants, must, "optional");
    snprintf(text, sizeof text, HEAD "%s" RULES, tenants);
    assert_int_equal(compile_text(text, &optional, NULL), DBE_OK);
    assert_false(pol_policy_tenant(&optional, "A")->sealed);
    snprintf(tenants, sizeof tenants, must, "required");
    snprintf(text, sizeof text, HEAD "%s" RULES, tenants);
    assert_int_equal(compile_text(text, &p, NULL), DBE_OK);
    assert_true(pol_policy_tenant(&p, "A")->sealed);
    assert_false(pol_policy_tenant(&p, "B")->sealed);
    assert_memory_not_equal(p.digest, optional.digest, sizeof p.digest); /* services that disagree do not talk */
}

/* spec 15.4 */
static void a_deny_overrides_and_nothing_is_allowed_by_itself(void **state)
{
    static struct pol_policy p;

    (void)state;
    assert_int_equal(compile_text(HEAD TENANTS "rules:\n"
                                               "  - {name: chats, effect: allow, types: [L7_CHAT_RESP]}\n",
                                  &p, NULL),
                     DBE_OK);
    expect(&p, good, DBE_E_DENIED, "default-deny");
    assert_int_equal(compile_text(HEAD TENANTS "rules:\n"
                                               "  - {name: all, effect: allow}\n"
                                               "  - {name: not-dev, effect: deny, compartments: [DEV, LAB]}\n",
                                  &p, NULL),
                     DBE_OK);
    expect(&p, good, DBE_E_DENIED, "not-dev");
    struct scene s = good;
    s.compartments = DBE_COMPARTMENT_SOC;
    expect(&p, s, DBE_OK, "all");
    assert_int_equal(compile_text(HEAD TENANTS "rules: []\n", &p, NULL), DBE_OK);
    expect(&p, good, DBE_E_DENIED, "default-deny");
}

/* Each condition of a rule: one value that matches the message above, one that does not. */
static void every_condition_of_a_rule(void **state)
{
    static const char *const conditions[][2] = {
        {"types: [L7_CHAT_REQ, L7_MODEL_STATUS]", "types: [L7_CHAT_REQ]"},
        {"from_roles: [worker]", "from_roles: [router, shim]"},
        {"to_roles: [router]", "to_roles: [worker]"},
        {"from_layers: [7, 8]", "from_layers: [6, 8]"},
        {"to_layers: [7]", "to_layers: [9]"},
        {"from_devices: [47]", "from_devices: [48]"},
        {"to_devices: [43]", "to_devices: [47]"},
        {"tenants: [ALPHA]", "tenants: [BRAVO]"},
        {"roe_levels: [ANALYSIS_ONLY]", "roe_levels: [SOC_ASSIST, TRAINING]"},
        {"compartments: [DEV]", "compartments: [SOC]"},
        {"classification_from: SECRET", "classification_from: TS"},
    };
    static struct pol_policy p;
    char text[1024];

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(conditions); i++)
        for (size_t hit = 0; hit < 2; hit++) {
            snprintf(text, sizeof text,
                     HEAD TENANTS "rules:\n  - {name: c, effect: deny, %s}\n  - {name: a, effect: "
                                  "allow}\n",
                     conditions[i][1 - hit]);
            assert_int_equal(compile_text(text, &p, NULL), DBE_OK);
            expect(&p, good, hit == 1 ? DBE_E_DENIED : DBE_OK, hit == 1 ? "c" : "a");
        }
}

/* spec 15.2 */
static void the_digest_follows_the_meaning_alone(void **state)
{
    static struct pol_policy a, b;

    (void)state;
    assert_int_equal(compile_text(HEAD TENANTS RULES, &a, NULL), DBE_OK);
    assert_int_equal(compile_text("# other words\n" RULES TENANTS HEAD, &b, NULL), DBE_OK);
    assert_memory_equal(a.digest, b.digest, sizeof a.digest);
    assert_memory_equal(pol_policy_digest(&a).bytes, a.digest, DBE_POLICY_DIGEST_BYTES);
    assert_int_equal(compile_text(HEAD TENANTS "rules:\n  - {name: b, effect: allow}\n", &b, NULL), DBE_OK);
    assert_memory_not_equal(a.digest, b.digest, sizeof a.digest);
}

/* ---- what is refused ----------------------------------------------------------------------------------- */

static const struct {
    const char *text, *said;
} refusals[] = {
    {"version: 0\n", "p.yaml:1:10: version is 0; expected 1 to "},
    {"version: 9223372036854775808\n", "expected 1 to 9223372036854775807"}, /* JSON shows it signed */
    {"version: 1\n", "p.yaml:1:1: key \"roe_levels\" is missing"},
    {HEAD "tenants: {A: {classification: TOP, compartments: [], roe_levels: []}}\n" RULES,
     "p.yaml:4:31: classification is \"TOP\"; expected UNCLAS, CONFIDENTIAL, SECRET, TS, ATOMAL or EXEC"},
    {HEAD "tenants: {A: {classification: TS_SIM, compartments: [], roe_levels: []}}\n" RULES, "is \"TS_SIM\""},
    {HEAD "tenants: {A: {classification: TS, compartments: [KINETIC], roe_levels: []}}\n" RULES,
     "compartment KINETIC is refused everywhere, always"},
    {HEAD "tenants: {A: {classification: TS, compartments: [], roe_levels: [], limits: {requests: 10}}}\n" RULES,
     "requests is \"10\"; expected a rate such as 5/s, 100/min or 5/5min"},
    {HEAD "tenants: {A: {classification: TS, compartments: [], roe_levels: [], limits: {requests: 5/745h}}}\n" RULES,
     "requests is 5/745h; expected a window of at most 744h"},
    {HEAD "tenants: {A: {classification: TS, compartments: [], roe_levels: [], limits: {tokens: "
          "5/18446744073709551615ms}}}\n" RULES,
     "expected a window of at most 744h"},
    {HEAD "tenants: {A: {classification: TS, compartments: [], roe_levels: [], limits: {kv: 2TiB}}}\n" RULES,
     "kv is \"2TiB\"; expected a size"},
    {HEAD "tenants: {A: {classification: TS, compartments: [], roe_levels: [], sealed: true}}\n" RULES,
     "sealed is \"true\"; expected required or optional"},
    {HEAD TENANTS "rules:\n  - {name: a, effect: permit}\n",
     "p.yaml:12:23: effect is \"permit\"; expected allow or deny"},
    {HEAD TENANTS "rules:\n  - {name: a, effect: deny, types: [FIRE]}\n",
     "expected a message type such as L7_CHAT_REQ"},
    {HEAD TENANTS "rules:\n  - {name: a, effect: deny, types: []}\n", "types is empty"},
    {HEAD TENANTS "rules:\n  - {name: a, effect: deny, from_roles: []}\n", "from_roles is empty"},
    {HEAD TENANTS "rules:\n  - {name: a, effect: deny, to_devices: [104]}\n", "expected 0 to 103"},
    {HEAD TENANTS "rules:\n  - {name: a, effect: deny, tenants: [CHARLIE]}\n",
     "p.yaml:12:39: \"CHARLIE\" is no tenant; expected one that stands under tenants by name"},
    {HEAD TENANTS "rules:\n  - {name: a, effect: deny}\n  - {name: a, effect: allow}\n",
     "p.yaml:13:12: name \"a\" is rule 1's already"},
    {HEAD TENANTS "rules:\n  - {name: a, efect: deny}\n", "unknown key \"efect\""},
    {HEAD TENANTS RULES "kinetic: allow\n", "unknown key \"kinetic\""},
};

static void refusals_say_where_and_leave_the_policy(void **state)
{
    static struct pol_policy p, before;

    (void)state;
    pol_policy_default(&p);
    before = p;
    for (size_t i = 0; i < BASE_ARRAY_LEN(refusals); i++) {
        struct dbe_diag diag = {0};
        if (compile_text(refusals[i].text, &p, &diag) != DBE_E_CONFIG || strstr(diag.text, refusals[i].said) == NULL)
            fail_msg("%zu: %s\n said:     %s\n expected: %s", i, refusals[i].text, diag.text, refusals[i].said);
        assert_memory_equal(&p, &before, sizeof p);
    }
}

static void every_allocation_may_fail(void **state)
{
    static struct pol_policy p;
    dbe_err err = DBE_E_NOMEM;
    uint64_t nth = 1;

    (void)state;
    for (; err != DBE_OK && nth < 500; nth++) {
        base_fail_alloc_at(nth);
        err = compile_text(HEAD TENANTS RULES, &p, NULL);
        assert_true(err == DBE_OK || err == DBE_E_NOMEM || err == DBE_E_CRYPTO);
    }
    base_fail_alloc_at(0);
    assert_int_equal(err, DBE_OK);
    assert_true(nth > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_is_the_built_in_policy),
        cmocka_unit_test(tenants_have_ceilings),
        cmocka_unit_test(nothing_may_need_a_claim_or_a_token),
        cmocka_unit_test(limits_are_kept_by_tenant),
        cmocka_unit_test(a_tenant_may_demand_that_prompts_are_sealed),
        cmocka_unit_test(a_deny_overrides_and_nothing_is_allowed_by_itself),
        cmocka_unit_test(every_condition_of_a_rule),
        cmocka_unit_test(the_digest_follows_the_meaning_alone),
        cmocka_unit_test(refusals_say_where_and_leave_the_policy),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return crypto_init(NULL) == DBE_OK ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
