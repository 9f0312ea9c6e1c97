/* SPDX-License-Identifier: Apache-2.0
 *
 * probe.c - one connection, one request, one verdict. See probe.h.
 *
 * The identity is issued in memory by the mesh's own CA (this user's key store) and is never written down.
 */
#include "cli/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "dbe/node.h"
#include "dbe/payload.h"
#include "dsmil.pb-c.h"
#include "cli/policy.h"

enum { PROBE_TIMEOUT_MS = 30000, PROBE_IDENTITY_MS = 10 * 60 * 1000, PROBE_MESSAGE_MAX = 32768 };

static const char probe_tenant[] = "LOCAL_TOOL_USER";

struct probe {
    enum probe_kind kind;
    struct dbe_loop *loop;
    struct dbe_credential *self, *forger; /* forger: of the foreign mesh */
    struct dbe_trust *trust;
    struct dbe_node *node;
    struct dbe_link *link;
    struct probe_result res;
    dbe_err err; /* the probe itself failed */
    bool done, asked;
    uint64_t start_ns;
};

/* ---- the request ------------ */

static dbe_err make_claim(const struct probe *p, const struct dbe_peer *peer, uint8_t *out, size_t cap, size_t *ret_len)
{
    uint64_t now = base_wall_ms();
    struct pol_claim claim = {.roe_levels = 1u << DBE_ROE_SOC_ASSIST,
                              .classification_max = DBE_CLSF_SECRET,
                              .compartments = DBE_COMPARTMENT_SOC,
                              .not_before_ms = now - 1000,
                              .not_after_ms = now + PROBE_TIMEOUT_MS};

    snprintf(claim.tenant, sizeof claim.tenant, "%s", probe_tenant);
    snprintf(claim.client, sizeof claim.client, "first-light");
    DBE_TRY(dbe_peer_channel_binding(peer, claim.channel_binding));
    return pol_claim_issue(&claim, p->kind == PROBE_FORGED_CLAIM ? p->forger : p->self, out, cap, ret_len);
}

static void put_payload(struct dbe_builder *b)
{
    Dsmil__ChatMessage hello = DSMIL__CHAT_MESSAGE__INIT;
    Dsmil__ChatMessage *messages[] = {&hello};
    Dsmil__L7ChatRequest req = DSMIL__L7_CHAT_REQUEST__INIT;
    uint8_t *room;

    hello.role = (char *)(uintptr_t) "user";
    hello.content = (char *)(uintptr_t) "What is DSMIL?";
    req.n_messages = 1;
    req.messages = messages;
    req.has_max_tokens_case = DSMIL__L7_CHAT_REQUEST__HAS_MAX_TOKENS_MAX_TOKENS;
    req.max_tokens = 8;
    room = dbe_build_payload_room(b, dsmil__l7_chat_request__get_packed_size(&req));
    if (room != NULL)
        dsmil__l7_chat_request__pack(&req, room);
}

static dbe_err make_request(const struct probe *p, const struct dbe_peer *peer, uint8_t *out, size_t cap,
                            size_t *ret_len)
{
    bool kinetic = p->kind == PROBE_KINETIC, exec = p->kind == PROBE_EXEC;
    uint8_t id[16], claim[DBE_CLAIM_MAX_BYTES];
    size_t claim_len;
    struct dbe_builder b;

    DBE_TRY(base_uuid(id));
    DBE_TRY(make_claim(p, peer, claim, sizeof claim, &claim_len));
    dbe_build_begin(&b, out, cap, DBE_MSG_L7_CHAT_REQ, DBE_FLAG_REPLAY_PROTECTED, dbe_correlation_of(id));
    dbe_build_text(&b, DBE_TLV_TENANT_ID, probe_tenant);
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, DBE_COMPARTMENT_SOC | (kinetic ? DBE_COMPARTMENT_KINETIC : 0));
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, exec ? DBE_CLSF_EXEC : DBE_CLSF_SECRET);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, DBE_ROE_SOC_ASSIST);
    dbe_build_layer_path(&b, NULL, 7);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, 0);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, 43);
    dbe_build_timestamp_ms(&b, base_wall_ms());
    dbe_build_text(&b, DBE_TLV_L7_PROFILE, "llm-7b-amx");
    dbe_build_bytes(&b, DBE_TLV_L7_CLAIM_TOKEN, claim, claim_len);
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, id, sizeof id);
    dbe_build_u32(&b, DBE_TLV_TIMEOUT_MS, PROBE_TIMEOUT_MS);
    put_payload(&b);
    return dbe_build_end(&b, ret_len);
}

/* ---- what comes back ------------ */

static void finish(struct probe *p, dbe_err code, const char *rule, const char *reason)
{
    if (p->done)
        return;
    p->done = true;
    p->res.code = code;
    p->res.answered = code == DBE_OK;
    p->res.ms = (double)(base_mono_ns() - p->start_ns) / 1e6;
    snprintf(p->res.rule, sizeof p->res.rule, "%s", rule != NULL ? rule : "");
    snprintf(p->res.reason, sizeof p->res.reason, "%s",
             reason != NULL && reason[0] != '\0' ? reason : dbe_err_text(code));
}

static void take_refusal(struct probe *p, const struct dbe_msg *msg)
{
    Dsmil__ErrorReply *e = NULL;

    if (dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) == DBE_OK)
        e = dsmil__error_reply__unpack(NULL, msg->payload_len, msg->payload);
    if (e == NULL) {
        p->err = DBE_E_MALFORMED;
        p->done = true;
        return;
    }
    finish(p, (dbe_err)e->code, e->rule, e->reason);
    dsmil__error_reply__free_unpacked(e, NULL);
}

static void on_reply(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct probe *p = ctx;

    (void)last;
    if (msg == NULL) {
        /* The channel's end says more than the call's; on_down follows. */
        if (err != DBE_E_CLOSED)
            finish(p, err, NULL, NULL);
        return;
    }
    if (msg->type == DBE_MSG_ERROR)
        take_refusal(p, msg);
    else
        finish(p, DBE_OK, NULL, "answered");
}

static void on_up(void *ctx, struct dbe_peer *peer)
{
    struct probe *p = ctx;
    static uint8_t bytes[PROBE_MESSAGE_MAX]; /* too large for the stack; one probe runs at a time */
    static size_t len;
    uint64_t call, deadline = base_mono_ns() + PROBE_TIMEOUT_MS * (uint64_t)BASE_NS_PER_MS;

    if (p->asked)
        return;
    p->asked = true;
    p->err = make_request(p, peer, bytes, sizeof bytes, &len);
    if (p->err == DBE_OK)
        p->err = dbe_call(peer, bytes, len, deadline, on_reply, p, &call);
    p->done = p->done || p->err != DBE_OK;
}

static void on_down(void *ctx, struct dbe_peer *peer, dbe_err why, const struct dbe_diag *diag)
{
    struct probe *p = ctx;

    (void)peer;
    if (!p->done) {
        p->res.at_handshake = true;
        finish(p, why, "handshake", diag != NULL ? diag->text : NULL);
    }
}

static void on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    (void)ctx, (void)peer, (void)msg; /* nobody asks a probe anything */
}

/* ---- set-up ------------ */

/* A mesh of our own making in a folder that is gone before anybody else could use it. */
static dbe_err foreign_credential(const struct cli_paths *paths, const struct dbe_issue *what,
                                  struct dbe_credential **ret, struct dbe_diag *diag)
{
    static const char *const files[] = {"ca.key", "ca.crt"};
    char dir[CLI_PATH_MAX + 32], file[CLI_PATH_MAX + 64];
    dbe_err err;

    snprintf(dir, sizeof dir, "%s/foreign-XXXXXX", paths->run);
    if (mkdtemp(dir) == NULL)
        return dbe_fail(diag, DBE_E_IO, NULL, 0, "cannot make a folder in %s", paths->run);
    err = dbe_keys_init(dir, "foreign.example", 1, diag);
    if (err == DBE_OK)
        err = dbe_keys_issue_ephemeral(dir, what, PROBE_IDENTITY_MS, ret, diag);
    for (size_t i = 0; i < BASE_ARRAY_LEN(files); i++) {
        snprintf(file, sizeof file, "%s/%s", dir, files[i]);
        unlink(file);
    }
    rmdir(dir);
    return err;
}

static dbe_err prepare(struct probe *p, const struct cli_paths *paths, const struct dbe_node_ops *ops,
                       struct dbe_diag *diag)
{
    const struct dbe_issue what = {.device = 0, .role = DBE_ROLE_SHIM, .layer = 7};
    struct dbe_node_config config = {.ops = ops, .ctx = p};
    char address[CLI_PATH_MAX + 32];
    static struct pol_policy policy;

    DBE_TRY(cli_policy_load(paths->policy, &policy, diag));
    DBE_TRY(base_loop_new(&p->loop));
    DBE_TRY(dbe_trust_load(paths->keys, &p->trust, diag));
    DBE_TRY(dbe_keys_issue_ephemeral(paths->keys, &what, PROBE_IDENTITY_MS, &p->self, diag));
    if (p->kind == PROBE_FORGED_CLAIM || p->kind == PROBE_FOREIGN_MESH)
        DBE_TRY(foreign_credential(paths, &what, &p->forger, diag));
    config.credential = p->kind == PROBE_FOREIGN_MESH ? p->forger : p->self;
    config.trust = p->trust;
    config.policy_digest = pol_policy_digest(&policy);
    DBE_TRY(dbe_node_new(p->loop, &config, &p->node));
    snprintf(address, sizeof address, "uds:%s/l7-router.sock", paths->run);
    p->start_ns = base_mono_ns();
    return dbe_node_link(p->node, address, DBE_ROLE_ROUTER, 43, &p->link);
}

static dbe_err run(struct probe *p)
{
    uint64_t deadline = base_mono_ns() + PROBE_TIMEOUT_MS * (uint64_t)BASE_NS_PER_MS;

    while (!p->done) {
        if (base_mono_ns() > deadline)
            return DBE_E_TIMEOUT;
        DBE_TRY(base_loop_turn(p->loop, 100));
    }
    return p->err;
}

dbe_err probe_run(const struct cli_paths *paths, enum probe_kind kind, struct probe_result *ret, struct dbe_diag *diag)
{
    static const struct dbe_node_ops ops = {.on_message = on_message, .on_up = on_up, .on_down = on_down};
    struct probe p = {.kind = kind};
    dbe_err err = prepare(&p, paths, &ops, diag);

    if (err == DBE_OK)
        err = run(&p);
    p.done = true; /* what closing brings is not a verdict */
    dbe_link_close(p.link);
    dbe_node_free(p.node);
    dbe_credential_free(p.self);
    dbe_credential_free(p.forger);
    dbe_trust_free(p.trust);
    base_loop_free(p.loop);
    if (err == DBE_OK)
        *ret = p.res;
    return err;
}
