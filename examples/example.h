/* SPDX-License-Identifier: Apache-2.0
 *
 * example.h - what the examples share: giving up with a reason, keys for three nodes, opening a node, one chat request.
 * Everything is made of calls of the installed headers; copy what you need.
 */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <dbe/claim.h>
#include <dbe/gate.h>
#include <dbe/identity.h>
#include <dbe/loop.h>
#include <dbe/node.h>
#include <dbe/payload.h>

#define SECOND_NS UINT64_C(1000000000)

/* Everything that can fail says so; an example then stops. */
static inline void must(dbe_err err, const struct dbe_diag *diag, const char *what)
{
    if (err == DBE_OK)
        return;
    fprintf(stderr, "%s: %s: %s\n", what, dbe_err_name(err),
            diag != NULL && diag->text[0] != '\0' ? diag->text : dbe_err_text(err));
    exit(1);
}

static inline uint64_t wall_ms(void)
{
    struct timespec now;

    timespec_get(&now, TIME_UTC);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A mesh of three nodes in `dir`, unless there is one: what `dsmil keys init` and `dsmil keys issue` do. */
static inline void make_keys(const char *dir)
{
    static const struct {
        uint8_t device, role, layer;
    } nodes[] = {{0, DBE_ROLE_SHIM, 7}, {43, DBE_ROLE_ROUTER, 7}, {47, DBE_ROLE_WORKER, 7}};
    struct dbe_diag diag = {0};
    dbe_err err = dbe_keys_init(dir, "example.mesh", 30, &diag);

    if (err == DBE_E_EXISTS)
        return;
    must(err, &diag, dir);
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
        struct dbe_issue what = {.device = nodes[i].device, .role = nodes[i].role, .layer = nodes[i].layer};
        must(dbe_keys_issue(dir, &what, &diag), &diag, dir);
    }
}

/* A node and what it is made of. */
struct me {
    struct dbe_loop       *loop;
    struct dbe_credential *credential;
    struct dbe_trust      *trust;
    struct dbe_node       *node;
};

static inline void open_me(struct me *me, const char *keys, const char *name, const struct dbe_node_ops *ops, void *ctx)
{
    struct dbe_node_config config = {.ops = ops, .ctx = ctx, .policy_digest = dbe_policy_default()};
    struct dbe_diag diag = {0};

    must(dbe_credential_load(keys, name, &me->credential, &diag), &diag, name);
    must(dbe_trust_load(keys, &me->trust, &diag), &diag, keys);
    must(dbe_loop_new(&me->loop), NULL, "loop");
    config.credential = me->credential;
    config.trust = me->trust;
    must(dbe_node_new(me->loop, &config, &me->node), NULL, "node");
    must(dbe_node_watch_keys(me->node, keys, &diag), &diag, keys); /* obey revocations */
}

static inline void close_me(struct me *me)
{
    dbe_node_free(me->node);
    dbe_loop_free(me->loop);
    dbe_credential_free(me->credential);
    dbe_trust_free(me->trust);
}

/* Labels, source, destination, time: what every message of one's own carries. */
static inline void stamp(struct dbe_builder *b, const struct me *me, const struct dbe_peer *peer)
{
    dbe_build_text(b, DBE_TLV_TENANT_ID, "EXAMPLE");
    dbe_build_u32(b, DBE_TLV_COMPARTMENT_MASK, DBE_COMPARTMENT_SOC);
    dbe_build_u8(b, DBE_TLV_CLASSIFICATION, DBE_CLSF_UNCLAS);
    dbe_build_u8(b, DBE_TLV_ROE_LEVEL, DBE_ROE_ANALYSIS_ONLY);
    dbe_build_u8(b, DBE_TLV_DEVICE_ID_SRC, dbe_credential_identity(me->credential)->device);
    dbe_build_u8(b, DBE_TLV_DEVICE_ID_DST, dbe_peer_identity(peer)->device);
    dbe_build_timestamp_ms(b, wall_ms());
}

/* A chat request of a shim, with a claim for this channel. Returns its length. */
static inline size_t chat_request(const struct me *me, const struct dbe_peer *peer, const char *json, uint8_t *out,
                                  size_t cap)
{
    struct dbe_claim claim = {.tenant = "EXAMPLE", .client = "example", .roe_levels = 1u << DBE_ROE_ANALYSIS_ONLY,
                              .classification_max = DBE_CLSF_UNCLAS, .compartments = DBE_COMPARTMENT_SOC};
    uint8_t binding[32], request_id[16], token[DBE_CLAIM_TOKEN_MAX_BYTES], payload[4096];
    size_t token_len, payload_len, len;
    struct dbe_builder b;
    struct dbe_diag diag = {0};

    claim.not_before_ms = wall_ms();
    claim.not_after_ms = claim.not_before_ms + 60000;
    must(dbe_peer_channel_binding(peer, binding), NULL, "channel");
    must(dbe_claim_issue(&claim, me->credential, binding, token, sizeof token, &token_len, &diag), &diag, "claim");
    must(dbe_payload_from_json(DBE_MSG_L7_CHAT_REQ, json, strlen(json), payload, sizeof payload, &payload_len, &diag),
         &diag, "payload");
    if (getentropy(request_id, sizeof request_id) != 0)
        exit(1);
    dbe_build_begin(&b, out, cap, DBE_MSG_L7_CHAT_REQ, DBE_FLAG_REPLAY_PROTECTED, dbe_correlation_of(request_id));
    stamp(&b, me, peer);
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, request_id, sizeof request_id);
    dbe_build_bytes(&b, DBE_TLV_L7_CLAIM_TOKEN, token, token_len);
    dbe_build_payload(&b, payload, payload_len);
    must(dbe_build_end(&b, &len), NULL, "request");
    return len;
}

/* A message's payload as one line of JSON. */
static inline void print_payload(const struct dbe_msg *msg)
{
    char json[8192];
    size_t len;
    struct dbe_diag diag = {0};

    must(dbe_payload_to_json(msg->type, msg->payload, msg->payload_len, json, sizeof json, &len, &diag), &diag,
         "answer");
    printf("%.*s\n", (int)len, json);
}

/* Run the loop until the link is up. */
static inline struct dbe_peer *wait_for(struct me *me, struct dbe_link *link)
{
    struct dbe_diag diag = {0};
    uint64_t end_ns = dbe_now_ns() + 5 * SECOND_NS;

    while (dbe_link_peer(link) == NULL && dbe_now_ns() < end_ns)
        must(dbe_loop_turn(me->loop, 100), NULL, "loop");
    if (dbe_link_peer(link) == NULL) {
        dbe_err err = dbe_link_last_error(link, &diag);
        must(err != DBE_OK ? err : DBE_E_TIMEOUT, &diag, "link");
    }
    return dbe_link_peer(link);
}

#endif
