/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_dbe.c - DBE as a program sees it: two nodes with certificates of one mesh, calls and answers.
 *
 * dbe-uds and dbe-shm carry the bytes as a payload, over a Unix socket or shared memory; dbe-labels does the same with
 * the eight TLVs of a labelled request and with the policy's decision at both ends.
 */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "base/loop.h"
#include "dbe/node.h"
#include "peer.h"
#include "policy/policy.h"

enum { CLIENT_DEVICE = 43, SERVER_DEVICE = 47, DEADLINE_S = 60 };

static struct {
    const char *scheme;
    bool labels;
    struct dbe_loop *loop;
    struct dbe_credential *credential;
    struct dbe_trust *trust;
    struct dbe_node *node;
    struct dbe_peer *peer;
    struct pol_policy policy;
    struct pol_labels asked;
    uint8_t *out, request_id[16];
    uint64_t next_id, timestamp_ms;
    size_t bytes, got, sent, count, window;
} me;

static void must(dbe_err err, const struct dbe_diag *diag)
{
    if (err != DBE_OK)
        peer_die(dbe_err_name(err), diag != NULL && diag->text[0] != '\0' ? diag->text : dbe_err_text(err));
}

/* A message with `len` payload bytes in me.out. `payload` NULL: the bytes stand where they are sent from already, as
 * those of the other peers do. */
static size_t build(uint64_t id, const void *payload, size_t len, uint8_t src, uint8_t dst)
{
    struct dbe_builder b;
    size_t ret = 0;

    dbe_build_begin(&b, me.out, DBE_MESSAGE_MAX_BYTES, DBE_MSG_L7_MODEL_STATUS, 0, id);
    if (me.labels) {
        dbe_build_text(&b, DBE_TLV_TENANT_ID, "SOC_TEAM_ALPHA");
        dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, DBE_COMPARTMENT_SOC);
        dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, DBE_CLSF_CONFIDENTIAL);
        dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, DBE_ROE_SOC_ASSIST);
        dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, src);
        dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, dst);
        dbe_build_timestamp_ms(&b, me.timestamp_ms);
        base_put_u64(me.request_id, id);
        dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, me.request_id, sizeof me.request_id);
    }
    if (payload != NULL)
        dbe_build_payload(&b, payload, len);
    else
        (void)dbe_build_payload_room(&b, len);
    must(dbe_build_end(&b, &ret), NULL);
    return ret;
}

/* ---- server ---------------------------------------------------------------------------------------------------- */

static void on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    (void)ctx;
    if (me.labels) {
        struct pol_subject subject = {.peer = dbe_peer_identity(peer), .self = dbe_credential_identity(me.credential)};
        struct pol_verdict verdict;
        pol_decide(&subject, msg, &me.policy, me.timestamp_ms, &verdict);
        must(verdict.code, NULL);
    }
    size_t len = build(msg->correlation_id, msg->payload, msg->payload_len, SERVER_DEVICE, CLIENT_DEVICE);
    must(dbe_send(peer, me.out, len), NULL);
}

static void make_node(const char *dir, const char *name, const struct dbe_node_ops *ops)
{
    struct dbe_diag diag = {0};

    must(base_loop_new(&me.loop), NULL);
    must(dbe_credential_load(dir, name, &me.credential, &diag), &diag);
    must(dbe_trust_load(dir, &me.trust, &diag), &diag);
    const struct dbe_node_config config = {.credential = me.credential, .trust = me.trust, .ops = ops};
    must(dbe_node_new(me.loop, &config, &me.node), NULL);
    me.out = base_alloc(DBE_MESSAGE_MAX_BYTES, 1);
    PEER_MUST(me.out != NULL);
    me.timestamp_ms = base_wall_ms();
    pol_policy_default(&me.policy);
}

static void keys_of(const char *dir, char *ret, size_t cap)
{
    PEER_MUST(snprintf(ret, cap, "%s/%s%s", dir, me.scheme, me.labels ? "-labels" : "") < (int)cap);
}

static void serve(const char *dir)
{
    static const struct dbe_node_ops ops = {.on_message = on_message};
    const struct dbe_issue client = {.name = "client", .device = CLIENT_DEVICE, .role = DBE_ROLE_ROUTER};
    const struct dbe_issue server = {.name = "server", .device = SERVER_DEVICE, .role = DBE_ROLE_WORKER};
    char keys[PEER_PATH_MAX + 20], address[PEER_PATH_MAX + 40];
    struct dbe_diag diag = {0};

    keys_of(dir, keys, sizeof keys);
    must(dbe_keys_init(keys, "bench", 1, &diag), &diag);
    must(dbe_keys_issue(keys, &client, &diag), &diag);
    must(dbe_keys_issue(keys, &server, &diag), &diag);
    make_node(keys, "server", &ops);
    PEER_MUST(snprintf(address, sizeof address, "%s:%s/s", me.scheme, keys) < (int)sizeof address);
    must(dbe_node_listen(me.node, address, &diag), &diag);
    peer_ready();
    must(base_loop_run(me.loop), NULL);
}

/* ---- client ---------------------------------------------------------------------------------------------------- */

static void on_up(void *ctx, struct dbe_peer *peer)
{
    (void)ctx;
    me.peer = peer;
}

static void on_down(void *ctx, struct dbe_peer *peer, dbe_err why, const struct dbe_diag *diag)
{
    (void)ctx, (void)peer;
    must(why, diag);
}

static void on_stray(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    (void)ctx, (void)peer, (void)msg;
    peer_die("client", "a message that nobody asked for");
}

static void open_node(const char *dir)
{
    static const struct dbe_node_ops ops = {.on_message = on_stray, .on_up = on_up, .on_down = on_down};
    char keys[PEER_PATH_MAX + 20], address[PEER_PATH_MAX + 40];
    struct dbe_link *link = NULL;

    keys_of(dir, keys, sizeof keys);
    make_node(keys, "client", &ops);
    PEER_MUST(snprintf(address, sizeof address, "%s:%s/s", me.scheme, keys) < (int)sizeof address);
    must(dbe_node_link(me.node, address, DBE_ROLE_WORKER, SERVER_DEVICE, &link), NULL);
    while (me.peer == NULL)
        must(base_loop_turn(me.loop, 1000), NULL);
}

static void on_reply(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err);

static void call_one(void)
{
    uint64_t deadline_ns = base_mono_ns() + DEADLINE_S * BASE_NS_PER_S;
    size_t len = build(++me.next_id, NULL, me.bytes, CLIENT_DEVICE, SERVER_DEVICE);

    must(dbe_call(me.peer, me.out, len, deadline_ns, on_reply, NULL, NULL), NULL);
    me.sent++;
}

static void on_reply(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    (void)ctx;
    must(err, NULL);
    PEER_MUST(last && msg->payload_len == me.bytes);
    if (me.labels) {
        struct pol_verdict verdict;
        pol_decide_answer(dbe_peer_identity(me.peer), dbe_credential_identity(me.credential), &me.asked, msg, &verdict);
        must(verdict.code, NULL);
    }
    me.got++;
    if (me.sent < me.count)
        call_one();
}

static void run(size_t bytes, size_t count, size_t window)
{
    me.bytes = bytes;
    me.count = count;
    me.got = me.sent = 0;
    while (me.sent < window && me.sent < count)
        call_one();
    while (me.got < count)
        must(base_loop_turn(me.loop, 1000), NULL);
}

static void ping(size_t bytes, size_t count, uint64_t *ret_ns)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t start = base_mono_ns();
        run(bytes, 1, 1);
        ret_ns[i] = base_mono_ns() - start;
    }
}

/* ---- table ----------------------------------------------------------------------------------------------------- */

static void choose(const char *scheme, bool labels)
{
    me.scheme = scheme;
    me.labels = labels;
    me.asked = (struct pol_labels){.tenant = "SOC_TEAM_ALPHA", .compartments = DBE_COMPARTMENT_SOC,
                                   .classification = DBE_CLSF_CONFIDENTIAL,
                                   .roe_level = DBE_ROE_SOC_ASSIST};
}

static void serve_uds(const char *dir)
{
    choose("uds", false);
    serve(dir);
}

static void serve_shm(const char *dir)
{
    choose("shm", false);
    serve(dir);
}

static void serve_labels(const char *dir)
{
    choose("uds", true);
    serve(dir);
}

static void open_uds(const char *dir)
{
    choose("uds", false);
    open_node(dir);
}

static void open_shm(const char *dir)
{
    choose("shm", false);
    open_node(dir);
}

static void open_labels(const char *dir)
{
    choose("uds", true);
    open_node(dir);
}

const struct peer peers[] = {
    {"dbe-uds", serve_uds, open_uds, ping, run},
    {"dbe-shm", serve_shm, open_shm, ping, run},
    {"dbe-labels", serve_labels, open_labels, ping, run},
    {0},
};
