/* SPDX-License-Identifier: Apache-2.0
 *
 * roe_test.c - a router whose policy wants a token of two persons for chats: verified by itself, used once, also after
 * a restart.
 */
#include "runtime/mesh_fixture.h"

#include <stdio.h>
#include <unistd.h>

#include "conf/conf.h"
#include "policy/compile.h"
#include "policy/roe.h"
#include "runtime/audit.h"

enum { ASKS = 1, APPROVES, APPROVES_TOO };

static const char policy_text[] =
    "version: 3\n"
    "roe_levels: [ANALYSIS_ONLY, SOC_ASSIST, TRAINING]\n"
    "claims: {required: [], forwarders: [router]}\n"
    "roe_tokens: {types: [L7_CHAT_REQ]}\n"
    "tenants:\n"
    "  \"*\": {classification: EXEC, compartments: [SOC, DEV, LAB, CRYPTO], roe_levels: [ANALYSIS_ONLY, SOC_ASSIST]}\n"
    "rules: [{name: all, effect: allow}]\n";

static void want_tokens(struct svc *svc)
{
    struct conf_doc *doc = NULL;

    assert_int_equal(conf_parse("p", policy_text, sizeof policy_text - 1, &doc, NULL), DBE_OK);
    assert_int_equal(pol_compile(doc, &svc->policy, NULL), DBE_OK);
    conf_free(doc);
}

static int group_with_persons(void **state)
{
    static const struct dbe_issue persons[] = {{.device = ASKS, .role = DBE_ROLE_PERSON, .name = "ann"},
                                               {.device = APPROVES, .role = DBE_ROLE_PERSON, .name = "bob"},
                                               {.device = APPROVES_TOO, .role = DBE_ROLE_PERSON, .name = "eve"}};

    if (group_up(state) != 0)
        return -1;
    for (size_t i = 0; i < BASE_ARRAY_LEN(persons); i++)
        if (dbe_keys_issue(dir, &persons[i], NULL) != DBE_OK)
            return -1;
    return 0;
}

/* ---- a chat request with a token ------------------------------------------------------------------- */

struct token {
    struct base_buf body;
    uint8_t mem[POL_ROE_BODY_MAX], id[16];
    uint8_t a[POL_ROE_APPROVAL_BYTES], b[POL_ROE_APPROVAL_BYTES];
};

static void approve(const char *name, const struct base_buf *body, uint8_t *ret)
{
    struct dbe_credential *cred = NULL;
    struct dbe_diag diag = {0};

    assert_int_equal(dbe_credential_load(dir, name, &cred, &diag), DBE_OK);
    assert_int_equal(pol_roe_approve(body->data, body->len, dbe_credential_identity(cred), cred, ret, &diag), DBE_OK);
    dbe_credential_free(cred);
}

static void make_token(struct token *t, const char *payload, const char *first, const char *second)
{
    struct pol_roe roe = {.verb = DBE_MSG_L7_CHAT_REQ,
                          .device = 43,
                          .category = POL_ROE_ADVISORY,
                          .roe_level = DBE_ROE_ANALYSIS_ONLY,
                          .classification_max = DBE_CLSF_SECRET,
                          .compartments = DBE_COMPARTMENT_SOC,
                          .not_before_ms = base_wall_ms(),
                          .not_after_ms = base_wall_ms() + 60000,
                          .requester = "spiffe://test.mesh/l0/person/1"};

    snprintf(roe.tenant, sizeof roe.tenant, "%s", ask_good().tenant);
    assert_int_equal(base_uuid(roe.id), DBE_OK);
    memcpy(t->id, roe.id, sizeof t->id);
    assert_int_equal(crypto_sha3_512(payload, strlen(payload), roe.payload_digest), DBE_OK);
    base_buf_init_fixed(&t->body, t->mem, sizeof t->mem);
    assert_int_equal(pol_roe_encode(&roe, &t->body, NULL), DBE_OK);
    approve(first, &t->body, t->a);
    approve(second, &t->body, t->b);
}

static void send_with(struct mesh *m, const struct token *t, const char *payload)
{
    static uint8_t bytes[20000];
    struct dbe_builder b;
    uint8_t id[16];
    size_t len;

    memset(&answer, 0, sizeof answer);
    assert_int_equal(base_uuid(id), DBE_OK);
    dbe_build_begin(&b, bytes, sizeof bytes, DBE_MSG_L7_CHAT_REQ, DBE_FLAG_REPLAY_PROTECTED, dbe_correlation_of(id));
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, 0);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, 43);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, ask_good().tenant);
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, DBE_COMPARTMENT_SOC);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, DBE_CLSF_UNCLAS);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, DBE_ROE_ANALYSIS_ONLY);
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, id, sizeof id);
    dbe_build_u32(&b, DBE_TLV_TIMEOUT_MS, 60000);
    if (t != NULL) {
        dbe_build_bytes(&b, DBE_TLV_ROE_TOKEN, t->body.data, t->body.len);
        dbe_build_bytes(&b, DBE_TLV_ROE_TOKEN_ID, t->id, sizeof t->id);
        dbe_build_bytes(&b, DBE_TLV_TWO_PERSON_SIG_A, t->a, sizeof t->a);
        dbe_build_bytes(&b, DBE_TLV_TWO_PERSON_SIG_B, t->b, sizeof t->b);
    }
    dbe_build_payload(&b, payload, strlen(payload));
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(svc_call_message(m->front, &m->front->links[0], bytes, len, clock_ns + 60 * BASE_NS_PER_S,
                                      on_answer, NULL, NULL),
                     DBE_OK);
    PUMP_UNTIL(m, answer.last);
}

static void refused(const char *words)
{
    assert_int_equal(answer.type[0], DBE_MSG_ERROR);
    assert_int_equal(answer.code, DBE_E_ROE_TOKEN);
    assert_string_equal(answer.rule, "roe-token");
    if (strstr(answer.reason, words) == NULL)
        fail_msg("said \"%s\", expected \"%s\"", answer.reason, words);
}

/* ---- what the audit log is told ---------------------------------------------------------------------- */

static struct {
    unsigned used, refused;
    uint64_t next, acknowledged;
    char detail[256]; /* of the last */
} told;

static dbe_err on_records(void *ctx, const uint8_t run[8], const void *records, size_t len)
{
    const uint8_t *at = records, *end = at + len;
    struct audit_record r;
    size_t one;

    (void)ctx, (void)run;
    for (; at < end; at += one) {
        assert_int_equal(audit_record_get(at, (size_t)(end - at), &r, &one), DBE_OK);
        told.next = r.seq + 1;
        if (r.kind != AUDIT_ROE_TOKEN)
            continue;
        told.used += r.code == DBE_OK;
        told.refused += r.code != DBE_OK;
        assert_true(r.has_request && r.labelled);
        assert_int_equal(r.msg_type, DBE_MSG_L7_CHAT_REQ);
        snprintf(told.detail, sizeof told.detail, "%.*s", (int)r.detail.len, r.detail.at);
    }
    return DBE_OK;
}

/* Acknowledge what came; has a record of a token come? */
static bool heard(struct mesh *m)
{
    if (told.next > told.acknowledged) {
        told.acknowledged = told.next;
        svc_audit_stored(m->router, told.next);
    }
    return told.used + told.refused > 0;
}

/* The one record of a token since the last time is this. */
static void expect_record(struct mesh *m, const struct token *t, bool used, const char *words)
{
    char id[37];

    PUMP_UNTIL(m, heard(m));
    base_uuid_text(t->id, id);
    assert_int_equal(strncmp(told.detail, id, strlen(id)), 0);
    assert_non_null(strstr(told.detail, words));
    assert_int_equal(told.used, used ? 1 : 0);
    assert_int_equal(told.refused, used ? 0 : 1);
    told.used = told.refused = 0;
}

/* spec audit 1.1: a token that is used, and each that is refused, by its identifier */
static void tokens_are_audited(void **state)
{
    struct mesh *m = *state;
    struct token t;

    want_tokens(m->router);
    memset(&told, 0, sizeof told);
    assert_int_equal(svc_audit_open(m->router), DBE_OK);
    svc_audit_set_sink(m->router, on_records, NULL);
    make_token(&t, "do this", "bob", "eve");
    send_with(m, &t, "do thaT");
    expect_record(m, &t, false, "another payload");
    send_with(m, &t, "do this");
    expect_record(m, &t, true, "used");
    send_with(m, &t, "do this");
    expect_record(m, &t, false, "used already");
}

/* spec 16.5, 16.6 */
static void a_token_permits_one_message_once(void **state)
{
    struct mesh *m = *state;
    struct token t;

    want_tokens(m->router);
    send_with(m, NULL, "do this");
    refused("needs an ROE token and carries none");
    make_token(&t, "do this", "bob", "eve");
    send_with(m, &t, "do thaT");
    refused("was approved for another payload");
    send_with(m, &t, "do this"); /* a refusal did not spend it */
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
    assert_int_equal(router->handled, 1);
    send_with(m, &t, "do this");
    refused("was used already");
    assert_int_equal(router->handled, 1);
}

/* spec 16.6 */
static void a_restart_does_not_forget(void **state)
{
    struct mesh *m = *state;
    struct token t, next;

    want_tokens(m->router);
    make_token(&t, "x", "bob", "eve");
    send_with(m, &t, "x");
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
    svc_roe_free(m->router); /* what a restart leaves is the file */
    send_with(m, &t, "x");
    refused("was used already");
    make_token(&next, "x", "eve", "bob");
    send_with(m, &next, "x");
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
}

/* spec 16.4 */
static void the_router_judges_persons_itself(void **state)
{
    struct mesh *m = *state;
    struct token t;

    want_tokens(m->router);
    make_token(&t, "x", "bob", "bob");
    send_with(m, &t, "x");
    refused("approved twice");
}

/* spec 16.4 */
static void a_revoked_person_approves_nothing(void **state)
{
    struct mesh *m = *state;
    struct token t;
    struct dbe_diag diag = {0};
    const struct dbe_issue zoe = {.device = 9, .role = DBE_ROLE_PERSON, .name = "zoe"};

    want_tokens(m->router);
    assert_int_equal(dbe_keys_issue(dir, &zoe, NULL), DBE_OK);
    make_token(&t, "x", "bob", "zoe");
    assert_int_equal(dbe_keys_revoke(dir, "zoe", DBE_REVOKE_KEY_COMPROMISE, &diag), DBE_OK);
    PUMP_UNTIL(m, logged(m, "of revoked certificates is in force"));
    send_with(m, &t, "x");
    refused("nobody who is enrolled here");
}

/* A memory that cannot be written, or is none, lets nothing pass. */
static void no_memory_no_token(void **state)
{
    struct mesh *m = *state;
    struct token t;

    want_tokens(m->router);
    svc_roe_free(m->router);
    snprintf(m->router->cfg.roe_used, sizeof m->router->cfg.roe_used, "%s/nowhere/used", dir);
    make_token(&t, "x", "bob", "eve");
    send_with(m, &t, "x");
    refused("nowhere/used");
    snprintf(m->router->cfg.roe_used, sizeof m->router->cfg.roe_used, "%s/broken", dir);
    assert_int_equal(base_file_write(m->router->cfg.roe_used, "not 24 bytes", 12, 0600, NULL), DBE_OK);
    send_with(m, &t, "x");
    refused("is no whole memory of used ROE tokens");
    unlink(m->router->cfg.roe_used);
    send_with(m, &t, "x");
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
}

/* A memory of which the end is missing would bring tokens to life. */
static void a_memory_that_was_cut_lets_nothing_pass(void **state)
{
    struct mesh *m = *state;
    struct base_buf bytes = {0};
    struct token t[2], next;

    want_tokens(m->router);
    snprintf(m->router->cfg.roe_used, sizeof m->router->cfg.roe_used, "%s/cut", dir);
    for (size_t i = 0; i < BASE_ARRAY_LEN(t); i++) {
        make_token(&t[i], "x", "bob", "eve");
        send_with(m, &t[i], "x");
        assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
    }
    make_token(&next, "x", "bob", "eve");
    assert_int_equal(base_file_read(m->router->cfg.roe_used, 65536, &bytes, NULL), DBE_OK);
    for (size_t len = 0; len < bytes.len; len += 8) { /* a record has 24 */
        assert_int_equal(base_file_write(m->router->cfg.roe_used, bytes.data, len, 0600, NULL), DBE_OK);
        svc_roe_free(m->router); /* a restart */
        send_with(m, &next, "x");
        refused("is no whole memory of used ROE tokens");
    }
    bytes.data[30] ^= 1; /* in the first token's id */
    assert_int_equal(base_file_write(m->router->cfg.roe_used, bytes.data, bytes.len, 0600, NULL), DBE_OK);
    svc_roe_free(m->router);
    send_with(m, &next, "x");
    refused("is no whole memory of used ROE tokens");
    base_buf_free(&bytes);
}

/* A memory that is lost brings no token to life: after the restart, those of the time before are not taken. */
static void a_memory_that_is_lost_brings_none_to_life(void **state)
{
    struct mesh *m = *state;
    struct token t, next;

    want_tokens(m->router);
    snprintf(m->router->cfg.roe_used, sizeof m->router->cfg.roe_used, "%s/lost", dir);
    make_token(&t, "x", "bob", "eve");
    send_with(m, &t, "x");
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
    svc_roe_free(m->router);
    unlink(m->router->cfg.roe_used);
    clock_ns += BASE_NS_PER_S;
    m->router->started_wall_ms = base_wall_ms(); /* a restart */
    svc_roe_open(m->router);
    send_with(m, &t, "x");
    refused("begins before this node's memory");
    svc_roe_free(m->router);
    m->router->started_wall_ms = 0; /* the file remembers it */
    send_with(m, &t, "x");
    refused("begins before this node's memory");
    make_token(&next, "x", "bob", "eve");
    send_with(m, &next, "x");
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
}

/* A clock that was ahead when the memory began does not refuse everything until that time comes. */
static void a_memory_from_the_future_is_not_for_ever(void **state)
{
    struct mesh *m = *state;
    struct token t, next;

    want_tokens(m->router);
    snprintf(m->router->cfg.roe_used, sizeof m->router->cfg.roe_used, "%s/ahead", dir);
    m->router->started_wall_ms = base_wall_ms() + 3600 * 1000;
    svc_roe_free(m->router);
    svc_roe_open(m->router);
    make_token(&t, "x", "bob", "eve");
    clock_ns += BASE_NS_PER_S;
    send_with(m, &t, "x");
    refused("begins before this node's memory");
    make_token(&next, "x", "bob", "eve");
    send_with(m, &next, "x");
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
}

/* Two processes with one memory would let a token pass twice. */
static void one_process_keeps_a_memory(void **state)
{
    struct mesh *m = *state;
    struct token t;
    struct svc *other = m->front;
    struct pol_verdict v = {.code = DBE_OK};
    struct pol_roe roe;

    want_tokens(m->router);
    snprintf(m->router->cfg.roe_used, sizeof m->router->cfg.roe_used, "%s/shared", dir);
    snprintf(other->cfg.roe_used, sizeof other->cfg.roe_used, "%s/shared", dir);
    make_token(&t, "x", "bob", "eve");
    send_with(m, &t, "x");
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
    assert_int_equal(pol_roe_decode(t.body.data, t.body.len, &roe, NULL), DBE_OK);
    svc_roe_spend(other, &roe, &v);
    assert_int_equal(v.code, DBE_E_ROE_TOKEN);
    assert_non_null(strstr(v.reason, "another process keeps"));
}

/* spec 16.6: refused for another reason than the token, which stays good */
static void a_message_that_is_not_taken_in_spends_nothing(void **state)
{
    struct mesh *m = *state;
    struct token t;

    want_tokens(m->router);
    make_token(&t, "x", "bob", "eve");
    m->router->draining = true;
    send_with(m, &t, "x");
    assert_int_equal(answer.code, DBE_E_UNAVAILABLE);
    m->router->draining = false;
    send_with(m, &t, "x");
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
}

/* The n-th allocation fails: the token is not used twice, whatever happened the first time. */
static void an_allocation_may_fail_anywhere(void **state)
{
    struct mesh *m = *state;
    unsigned passed = 0;
    struct token t;

    want_tokens(m->router);
    make_token(&t, "x", "bob", "eve");
    for (uint64_t nth = 1; nth < 40; nth++) {
        struct pol_verdict v = {.code = DBE_OK};
        struct pol_roe roe;

        base_fail_alloc_at(nth);
        assert_int_equal(pol_roe_decode(t.body.data, t.body.len, &roe, NULL), DBE_OK);
        svc_roe_spend(m->router, &roe, &v);
        base_fail_alloc_at(0);
        passed += v.code == DBE_OK;
        assert_true(v.code == DBE_OK || v.reason[0] != '\0');
    }
    assert_int_equal(passed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MESH_TEST(a_memory_that_was_cut_lets_nothing_pass),
        MESH_TEST(a_memory_that_is_lost_brings_none_to_life),
        MESH_TEST(a_memory_from_the_future_is_not_for_ever),
        MESH_TEST(one_process_keeps_a_memory),
        MESH_TEST(a_message_that_is_not_taken_in_spends_nothing),
        MESH_TEST(a_token_permits_one_message_once),
        MESH_TEST(a_restart_does_not_forget),
        MESH_TEST(the_router_judges_persons_itself),
        MESH_TEST(a_revoked_person_approves_nothing),
        MESH_TEST(tokens_are_audited),
        MESH_TEST(no_memory_no_token),
        MESH_TEST(an_allocation_may_fail_anywhere),
    };
    return cmocka_run_group_tests(tests, group_with_persons, group_down);
}
