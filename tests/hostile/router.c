/* SPDX-License-Identifier: Apache-2.0
 *
 * router.c - a router that means harm: it has the mesh's keys of a router and sits where one does, between gateway and
 * worker. What is in clear it relays faithfully; what is sealed past it, it attacks.
 *
 * In:   the arguments that `dsmil up` gives a router; the file `attack` beside the folder of keys, a word that names
 *       what to do to the next sealed request or its answer, read at each
 * Out:  READY; one line for each attack on standard error
 * Not:  no policy, no queue, one worker
 *
 * tests/scenario/r_hostile_router.py puts it into a mesh in place of dsmil-l7-router.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <dbe/gate.h>
#include <dbe/identity.h>
#include <dbe/loop.h>
#include <dbe/node.h>

enum { MESSAGE_MAX = 1 << 20, WORD_MAX = 32, CALL_S = 600, ID_BYTES = 16 };

/* Labels and what else stands around a sealed prompt, each of which it must not survive to be changed. */
static const struct change {
    const char *attack;
    uint16_t type;
} changes[] = {
    {"classification", DBE_TLV_CLASSIFICATION},
    {"compartments", DBE_TLV_COMPARTMENT_MASK},
    {"tenant", DBE_TLV_TENANT_ID},
    {"roe", DBE_TLV_ROE_LEVEL},
    {"profile", DBE_TLV_L7_PROFILE},
    {"request-id", DBE_TLV_REQUEST_ID},
    {"unmark", DBE_TLV_SEALED_TO},
};

struct kept { /* of an earlier message */
    uint8_t bytes[MESSAGE_MAX];
    size_t len;
};

struct relay {             /* one request on its way, and where its answers go */
    struct dbe_peer *from; /* NULL: gone */
    uint64_t correlation;
    uint8_t request_id[ID_BYTES], classification, roe; /* as the gateway said them */
    uint32_t compartments;
    char tenant[WORD_MAX * 2];
    bool sealed, ended;
    char attack[WORD_MAX];
    unsigned pieces;
    struct relay *next;
};

static struct hostile {
    struct dbe_loop *loop;
    struct dbe_credential *credential;
    struct dbe_trust *trust;
    struct dbe_node *node;
    struct dbe_link *worker;
    struct relay *relays;
    const char *keys;
    struct kept request, sealed_answer, clear_answer; /* the last that was relayed faithfully: whole; payloads */
    uint8_t out[MESSAGE_MAX];
} me;

static void must(dbe_err err, const struct dbe_diag *diag, const char *what)
{
    if (err == DBE_OK)
        return;
    fprintf(stderr, "%s: %s %s\n", what, dbe_err_name(err), diag != NULL ? diag->text : "");
    exit(1);
}

static void keep(struct kept *to, const void *bytes, size_t len)
{
    to->len = len <= sizeof to->bytes ? len : 0;
    memcpy(to->bytes, bytes, to->len);
}

static uint64_t wall_ms(void)
{
    struct timespec now;

    timespec_get(&now, TIME_UTC);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void read_attack(char ret[WORD_MAX])
{
    char path[4096], format[16];

    ret[0] = '\0';
    (void)snprintf(path, sizeof path, "%s/../attack", me.keys);
    (void)snprintf(format, sizeof format, "%%%ds", WORD_MAX - 1);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return;
    if (fgets(ret, WORD_MAX, f) == NULL)
        ret[0] = '\0';
    ret[strcspn(ret, "\n")] = '\0';
    (void)fclose(f);
}

static bool is(const struct relay *r, const char *attack)
{
    return strcmp(r->attack, attack) == 0;
}

/* ---- to the gateway --------------------------------------------------------------------------------------------- */

static void send_answer(const struct relay *r, const struct dbe_msg *msg, const void *payload, size_t len, bool last)
{
    static const uint16_t anew[] = {DBE_TLV_DEVICE_ID_SRC,    DBE_TLV_DEVICE_ID_DST,  DBE_TLV_TIMESTAMP,
                                    DBE_TLV_REQUEST_ID,       DBE_TLV_TENANT_ID,      DBE_TLV_ROE_LEVEL,
                                    DBE_TLV_COMPARTMENT_MASK, DBE_TLV_CLASSIFICATION, 0};
    const uint16_t flags = (uint16_t)((msg->flags & ~(unsigned)DBE_FLAG_STREAMING) | (last ? 0 : DBE_FLAG_STREAMING));
    struct dbe_builder b;
    size_t size;

    if (r->from == NULL)
        return;
    dbe_build_begin(&b, me.out, sizeof me.out, msg->type, flags, r->correlation);
    dbe_build_copy_tlvs(&b, msg, anew);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, dbe_credential_identity(me.credential)->device);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, dbe_peer_identity(r->from)->device);
    dbe_build_timestamp_ms(&b, wall_ms());
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, r->request_id, ID_BYTES);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, r->tenant); /* nobody is to see by an answer that labels were changed */
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, r->compartments);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, r->classification);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, r->roe);
    dbe_build_payload(&b, payload, len);
    if (dbe_build_end(&b, &size) != DBE_OK || dbe_send(r->from, me.out, size) != DBE_OK)
        fprintf(stderr, "an answer was not sent\n");
}

static void attack_answer(struct relay *r, const struct dbe_msg *msg, bool last)
{
    static struct kept copy;

    keep(&copy, msg->payload, msg->payload_len);
    if (is(r, "answer-flip") && copy.len > 0)
        copy.bytes[copy.len - 1] ^= 1;
    if (is(r, "answer-swap"))
        copy = me.sealed_answer;
    if (is(r, "answer-clear"))
        copy = me.clear_answer;
    if (is(r, "answer-drop") && r->pieces == 1 && !last)
        return;
    if (is(r, "answer-cut"))
        last = r->ended = true;
    send_answer(r, msg, copy.bytes, copy.len, last);
    if (is(r, "answer-double") && !last)
        send_answer(r, msg, copy.bytes, copy.len, last);
}

static void on_reply(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct relay *r = ctx;

    if (msg == NULL) {
        fprintf(stderr, "a call ended: %s\n", dbe_err_name(err));
        r->ended = true;
        return;
    }
    if (r->ended)
        return;
    r->pieces++;
    if (r->sealed && strncmp(r->attack, "answer-", 7) == 0 && msg->type == DBE_MSG_L7_CHAT_RESP) {
        attack_answer(r, msg, last);
        return;
    }
    if (msg->type == DBE_MSG_L7_CHAT_RESP)
        keep(r->sealed ? &me.sealed_answer : &me.clear_answer, msg->payload, msg->payload_len);
    send_answer(r, msg, msg->payload, msg->payload_len, last);
}

/* ---- to the worker ---------------------------------------------------------------------------------------------- */

/* Something else in place of a TLV that stands there, or of one that does not. */
static void put_changed(struct dbe_builder *b, const struct dbe_msg *msg, uint16_t type)
{
    uint8_t byte = 0, id[ID_BYTES] = {0};
    uint32_t mask = 0;

    switch (type) {
    case DBE_TLV_CLASSIFICATION:
    case DBE_TLV_ROE_LEVEL:
        (void)!dbe_tlv_u8(msg, type, &byte);
        dbe_build_u8(b, type, (uint8_t)(byte + 1));
        break;
    case DBE_TLV_COMPARTMENT_MASK:
        (void)!dbe_tlv_u32(msg, type, &mask);
        dbe_build_u32(b, type, mask ^ DBE_COMPARTMENT_DEV);
        break;
    case DBE_TLV_TENANT_ID: dbe_build_text(b, type, "SOMEBODY_ELSE"); break;
    case DBE_TLV_L7_PROFILE: dbe_build_text(b, type, "another-profile"); break;
    case DBE_TLV_REQUEST_ID:
        (void)!dbe_tlv_uuid(msg, type, id);
        id[ID_BYTES - 1] ^= 1; /* the correlation id stays what it was */
        dbe_build_bytes(b, type, id, sizeof id);
        break;
    default: break; /* left out */
    }
}

/* The request as it goes on. Returns its length in me.out. */
static size_t build_request(const struct relay *r, const struct dbe_msg *msg, struct dbe_peer *to)
{
    uint16_t anew[] = {DBE_TLV_DEVICE_ID_SRC,
                       DBE_TLV_DEVICE_ID_DST,
                       DBE_TLV_TIMESTAMP,
                       DBE_TLV_L7_CLAIM_TOKEN,
                       DBE_TLV_HOP_TRACE,
                       0,
                       0};
    static struct kept payload;
    struct dbe_builder b;
    size_t len = 0;

    for (size_t i = 0; r->sealed && i < sizeof changes / sizeof changes[0]; i++)
        if (is(r, changes[i].attack))
            anew[5] = changes[i].type;
    keep(&payload, msg->payload, msg->payload_len);
    if (r->sealed && is(r, "flip"))
        payload.bytes[payload.len - 1] ^= 1;
    dbe_build_begin(&b, me.out, sizeof me.out, msg->type, msg->flags, msg->correlation_id);
    dbe_build_copy_tlvs(&b, msg, anew);
    if (anew[5] != 0)
        put_changed(&b, msg, anew[5]);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, dbe_credential_identity(me.credential)->device);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, dbe_peer_identity(to)->device);
    dbe_build_timestamp_ms(&b, wall_ms());
    dbe_build_payload(&b, payload.bytes, payload.len);
    return dbe_build_end(&b, &len) == DBE_OK ? len : 0;
}

static struct relay *new_relay(struct dbe_peer *from, const struct dbe_msg *msg)
{
    struct relay *r = calloc(1, sizeof *r);
    uint8_t device;

    must(r != NULL ? DBE_OK : DBE_E_NOMEM, NULL, "relay");
    r->from = from;
    r->correlation = msg->correlation_id;
    r->sealed = dbe_tlv_u8(msg, DBE_TLV_SEALED_TO, &device) == DBE_OK;
    (void)!dbe_tlv_uuid(msg, DBE_TLV_REQUEST_ID, r->request_id);
    (void)!dbe_tlv_text(msg, DBE_TLV_TENANT_ID, r->tenant, sizeof r->tenant);
    (void)!dbe_tlv_u32(msg, DBE_TLV_COMPARTMENT_MASK, &r->compartments);
    (void)!dbe_tlv_u8(msg, DBE_TLV_CLASSIFICATION, &r->classification);
    (void)!dbe_tlv_u8(msg, DBE_TLV_ROE_LEVEL, &r->roe);
    if (r->sealed)
        read_attack(r->attack);
    r->next = me.relays;
    me.relays = r;
    return r;
}

static void on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    const uint64_t deadline_ns = dbe_now_ns() + CALL_S * UINT64_C(1000000000);
    struct dbe_peer *worker = dbe_link_peer(me.worker);

    (void)ctx;
    if (worker == NULL || (msg->type != DBE_MSG_L7_CHAT_REQ && msg->type != DBE_MSG_L7_MODEL_STATUS))
        return;
    struct relay *r = new_relay(peer, msg);
    size_t len = build_request(r, msg, worker);
    const void *bytes = me.out;
    if (r->sealed && r->attack[0] != '\0')
        fprintf(stderr, "attack: %s\n", r->attack);
    if (r->sealed && r->attack[0] == '\0')
        keep(&me.request, me.out, len);
    if (r->sealed && is(r, "replay")) {
        bytes = me.request.bytes;
        len = me.request.len;
    }
    const dbe_err err = dbe_call(worker, bytes, len, deadline_ns, on_reply, r, NULL);
    if (err != DBE_OK)
        fprintf(stderr, "not sent on: %s\n", dbe_err_name(err));
}

static void on_down(void *ctx, struct dbe_peer *peer, dbe_err why, const struct dbe_diag *diag)
{
    (void)ctx;
    fprintf(stderr, "down: %s %s\n", dbe_err_name(why), diag != NULL ? diag->text : "");
    for (struct relay *r = me.relays; r != NULL; r = r->next)
        if (r->from == peer)
            r->from = NULL;
}

static const char *argument(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    fprintf(stderr, "%s is required\n", name);
    exit(2);
}

static void on_signal(int number)
{
    (void)number;
    _exit(0);
}

int main(int argc, char **argv)
{
    static const struct dbe_node_ops ops = {.on_message = on_message, .on_down = on_down};
    struct dbe_node_config config = {.ops = &ops, .policy_digest = dbe_policy_default()};
    struct dbe_diag diag = {0};

    (void)signal(SIGTERM, on_signal);
    me.keys = argument(argc, argv, "--keys");
    must(dbe_credential_load(me.keys, argument(argc, argv, "--name"), &me.credential, &diag), &diag, "credential");
    must(dbe_trust_load(me.keys, &me.trust, &diag), &diag, "trust");
    must(dbe_loop_new(&me.loop), NULL, "loop");
    config.credential = me.credential;
    config.trust = me.trust;
    must(dbe_node_new(me.loop, &config, &me.node), NULL, "node");
    must(dbe_node_listen(me.node, argument(argc, argv, "--listen"), &diag), &diag, "listen");
    must(dbe_node_link(me.node, argument(argc, argv, "--link-worker-47"), DBE_ROLE_WORKER, 47, &me.worker), NULL,
         "worker");
    if (write(atoi(argument(argc, argv, "--ready-fd")), "READY\n", 6) != 6)
        return 1;
    must(dbe_loop_run(me.loop), NULL, "loop");
    return 0;
}
