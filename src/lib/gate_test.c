/* SPDX-License-Identifier: Apache-2.0
 *
 * gate_test.c - a gate at a real channel, through the installed interface alone: spec section 11.
 */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dbe/claim.h"
#include "dbe/gate.h"
#include "dbe/loop.h"

/* One end: the channel's peer as it sees it, and the gate there. */
struct end {
    struct dbe_credential *credential;
    struct dbe_trust *trust;
    struct dbe_node *node;
    struct dbe_peer *peer;
    struct dbe_gate *gate;
};

static char folder[] = "/tmp/dbe-gate-XXXXXX", keys[64], address[64];
static struct dbe_loop *loop;
static struct end shim, router;
static const uint64_t now_ms = UINT64_C(1800000000000);
static const uint8_t request_id[16] = {1, 2, 3, 4, 5, 6, 7, 8};

static void on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    (void)ctx;
    (void)peer;
    (void)msg;
}

static void on_up(void *ctx, struct dbe_peer *peer)
{
    struct end *end = ctx;

    end->peer = peer;
    assert_int_equal(dbe_gate_new(peer, end->credential, &end->gate), DBE_OK);
}

static const struct dbe_node_ops ops = {.on_message = on_message, .on_up = on_up};

static void open_end(struct end *end, const char *name)
{
    struct dbe_node_config config = {.ops = &ops, .ctx = end, .policy_digest = dbe_policy_default()};

    assert_int_equal(dbe_credential_load(keys, name, &end->credential, NULL), DBE_OK);
    assert_int_equal(dbe_trust_load(keys, &end->trust, NULL), DBE_OK);
    config.credential = end->credential;
    config.trust = end->trust;
    assert_int_equal(dbe_node_new(loop, &config, &end->node), DBE_OK);
}

static void close_end(struct end *end)
{
    dbe_gate_free(end->gate);
    dbe_node_free(end->node);
    dbe_credential_free(end->credential);
    dbe_trust_free(end->trust);
}

static int setup(void **state)
{
    const struct dbe_issue nodes[] = {{.device = 0, .role = DBE_ROLE_SHIM, .layer = 7, .name = "shim"},
                                      {.device = 43, .role = DBE_ROLE_ROUTER, .name = "router"}};
    struct dbe_link *link = NULL;

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(keys, sizeof keys, "%s/keys", folder);
    (void)snprintf(address, sizeof address, "uds:%s/s", folder);
    assert_int_equal(dbe_keys_init(keys, "gate.test", 1, NULL), DBE_OK);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(dbe_keys_issue(keys, &nodes[i], NULL), DBE_OK);
    assert_int_equal(dbe_loop_new(&loop), DBE_OK);
    open_end(&shim, "shim");
    open_end(&router, "router");
    assert_int_equal(dbe_node_listen(router.node, address, NULL), DBE_OK);
    assert_int_equal(dbe_node_link(shim.node, address, DBE_ROLE_ROUTER, 43, &link), DBE_OK);
    while (shim.gate == NULL || router.gate == NULL)
        assert_int_equal(dbe_loop_turn(loop, -1), DBE_OK);
    return 0;
}

static int teardown(void **state)
{
    char command[80];

    (void)state;
    close_end(&shim);
    close_end(&router);
    dbe_loop_free(loop);
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* What a message says; each test changes one thing. */
struct says {
    const char *tenant;
    uint32_t compartments;
    uint8_t type, classification, roe, src, dst;
    bool claim;
};

static struct says good(void)
{
    return (struct says){.tenant = "T",
                         .compartments = DBE_COMPARTMENT_SOC,
                         .type = DBE_MSG_L7_CHAT_REQ,
                         .classification = DBE_CLSF_SECRET,
                         .roe = DBE_ROE_SOC_ASSIST,
                         .src = 0,
                         .dst = 43,
                         .claim = true};
}

static size_t claim_of(uint8_t *out, size_t cap)
{
    struct dbe_claim claim = {.tenant = "T",
                              .client = "c",
                              .roe_levels = 1u << DBE_ROE_SOC_ASSIST,
                              .classification_max = DBE_CLSF_SECRET,
                              .compartments = DBE_COMPARTMENT_SOC,
                              .not_before_ms = now_ms - 1000,
                              .not_after_ms = now_ms + 1000};
    uint8_t binding[DBE_CHANNEL_BINDING_BYTES];
    size_t len = 0;

    assert_int_equal(dbe_peer_channel_binding(shim.peer, binding), DBE_OK);
    assert_int_equal(dbe_claim_issue(&claim, shim.credential, binding, out, cap, &len, NULL), DBE_OK);
    return len;
}

static void build(const struct says *s, struct dbe_msg *ret)
{
    static uint8_t out[16384];
    uint8_t token[DBE_CLAIM_TOKEN_MAX_BYTES];
    struct dbe_builder b;
    size_t len = 0;

    dbe_build_begin(&b, out, sizeof out, s->type, 0, dbe_correlation_of(request_id));
    dbe_build_text(&b, DBE_TLV_TENANT_ID, s->tenant);
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, s->compartments);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, s->classification);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, s->roe);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, s->src);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, s->dst);
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, request_id, sizeof request_id);
    if (s->claim) {
        size_t token_len = claim_of(token, sizeof token);
        dbe_build_bytes(&b, DBE_TLV_L7_CLAIM_TOKEN, token, token_len);
    }
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(dbe_msg_decode(out, len, ret, NULL), DBE_OK);
}

static dbe_err judged(const struct says *s, uint64_t when_ms, struct dbe_verdict *ret)
{
    struct dbe_msg msg;

    build(s, &msg);
    dbe_err err = dbe_gate_message(router.gate, &msg, when_ms, ret);
    assert_int_equal(err, ret->code);
    return err;
}

/* spec 11.3 to 11.10, one refusal of each */
static void test_messages(void **state)
{
    struct dbe_verdict v;
    struct says s = good();

    (void)state;
    assert_int_equal(judged(&s, now_ms, &v), DBE_OK);
    assert_string_equal(v.labels.tenant, "T");
    assert_int_equal(v.labels.classification, DBE_CLSF_SECRET);
    assert_int_equal(judged(&s, now_ms + 1000, &v), DBE_E_CLAIM_EXPIRED);
    s.compartments |= DBE_COMPARTMENT_KINETIC;
    assert_int_equal(judged(&s, now_ms, &v), DBE_E_KINETIC);
    assert_string_equal(v.rule, "kinetic");
    assert_true(v.reason[0] != '\0');
    s = good();
    s.src = 12;
    assert_int_equal(judged(&s, now_ms, &v), DBE_E_SOURCE);
    s = good();
    s.dst = 47;
    assert_int_equal(judged(&s, now_ms, &v), DBE_E_DESTINATION);
    s = good();
    s.type = DBE_MSG_L8_ALERT;
    assert_int_equal(judged(&s, now_ms, &v), DBE_E_EMIT);
    s = good();
    s.claim = false;
    assert_int_equal(judged(&s, now_ms, &v), DBE_E_CLAIM_MISSING);
    s = good();
    s.tenant = "U";
    assert_int_equal(judged(&s, now_ms, &v), DBE_E_TENANT);
    s = good();
    s.classification = DBE_CLSF_TS;
    assert_int_equal(judged(&s, now_ms, &v), DBE_E_CLASSIFICATION);
    s = good();
    s.roe = DBE_ROE_TRAINING;
    assert_int_equal(judged(&s, now_ms, &v), DBE_E_ROE_LEVEL);
}

/* spec 11.12 and 11.13 */
static void test_answers_and_sending(void **state)
{
    struct says s = good();
    struct dbe_labels labels;
    struct dbe_verdict v;
    struct dbe_msg msg;

    (void)state;
    build(&s, &msg);
    assert_int_equal(dbe_labels_read(&msg, &labels), DBE_OK);
    assert_int_equal(dbe_gate_send(shim.gate, &labels, &v), DBE_OK);
    labels.compartments |= DBE_COMPARTMENT_KINETIC;
    assert_int_equal(dbe_gate_send(shim.gate, &labels, &v), DBE_E_KINETIC);
    labels.compartments = DBE_COMPARTMENT_SOC;
    s = (struct says){.tenant = "T",
                      .compartments = DBE_COMPARTMENT_SOC,
                      .type = DBE_MSG_L7_CHAT_RESP,
                      .classification = DBE_CLSF_SECRET,
                      .roe = DBE_ROE_SOC_ASSIST,
                      .src = 43,
                      .dst = 0};
    build(&s, &msg);
    assert_int_equal(dbe_gate_answer(shim.gate, &labels, &msg, &v), DBE_OK);
    s.classification = DBE_CLSF_TS;
    build(&s, &msg);
    assert_int_equal(dbe_gate_answer(shim.gate, &labels, &msg, &v), DBE_E_CLASSIFICATION);
    memset(labels.tenant, 'x', sizeof labels.tenant); /* no end: read no further than the member */
    assert_int_equal(dbe_gate_answer(shim.gate, &labels, &msg, &v), DBE_E_TENANT);
}

static void test_labels_missing(void **state)
{
    uint8_t out[64];
    struct dbe_labels labels = {.roe_level = 9};
    struct dbe_builder b;
    struct dbe_msg msg;
    size_t len = 0;

    (void)state;
    dbe_build_begin(&b, out, sizeof out, DBE_MSG_ERROR, 0, 1);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, "T");
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(dbe_msg_decode(out, len, &msg, NULL), DBE_OK);
    assert_int_equal(dbe_labels_read(&msg, &labels), DBE_E_NOT_FOUND);
    assert_int_equal(labels.roe_level, 9);
    dbe_gate_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_answers_and_sending),
        cmocka_unit_test(test_labels_missing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
