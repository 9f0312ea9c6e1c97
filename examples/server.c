/* SPDX-License-Identifier: Apache-2.0
 *
 * server.c - a router that answers chat requests: whole, or word by word where the request asks for a stream.
 *
 *     server KEYS SOCKET     makes a mesh in KEYS if there is none; ends on Ctrl-C or end of standard input
 */
#include "example.h"

/* What is kept of each channel: the gate at which its messages are judged. */
static void on_up(void *ctx, struct dbe_peer *peer)
{
    const struct me *me = ctx;
    struct dbe_gate *gate = NULL;

    must(dbe_gate_new(peer, me->credential, &gate), NULL, "gate");
    dbe_peer_set_user(peer, gate);
    printf("up: %s over %s\n", dbe_peer_identity(peer)->spiffe_id, dbe_peer_suite(peer));
}

static void on_down(void *ctx, struct dbe_peer *peer, dbe_err why, const struct dbe_diag *diag)
{
    (void)ctx;
    printf("down: %s\n", diag != NULL && diag->text[0] != '\0' ? diag->text : dbe_err_text(why));
    dbe_gate_free(dbe_peer_user(peer));
    dbe_peer_set_user(peer, NULL);
}

/* One answer to `msg`: the same correlation id and labels, to whoever asked. */
static void answer(const struct me *me, struct dbe_peer *peer, const struct dbe_msg *msg, uint8_t type, uint16_t flags,
                   const char *json)
{
    static const uint16_t anew[] = {DBE_TLV_DEVICE_ID_SRC, DBE_TLV_DEVICE_ID_DST, DBE_TLV_TIMESTAMP,
                                    DBE_TLV_L7_CLAIM_TOKEN, DBE_TLV_TIMEOUT_MS, 0};
    uint8_t payload[1024], out[4096];
    size_t payload_len, len;
    struct dbe_builder b;
    struct dbe_diag diag = {0};

    must(dbe_payload_from_json(type, json, strlen(json), payload, sizeof payload, &payload_len, &diag), &diag,
         "answer");
    dbe_build_begin(&b, out, sizeof out, type, DBE_FLAG_REPLAY_PROTECTED | flags, msg->correlation_id);
    if (type != DBE_MSG_ERROR)
        dbe_build_copy_tlvs(&b, msg, anew);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, dbe_credential_identity(me->credential)->device);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, dbe_peer_identity(peer)->device);
    dbe_build_timestamp_ms(&b, wall_ms());
    dbe_build_payload(&b, payload, payload_len);
    must(dbe_build_end(&b, &len), NULL, "answer");
    if (dbe_send(peer, out, len) != DBE_OK)
        fprintf(stderr, "an answer was not sent\n");
}

static void chat(const struct me *me, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    static const char *const words[] = {"Everything ", "here ", "is ", "sealed."};
    char json[4096], text[256];
    size_t len;

    if (dbe_payload_to_json(msg->type, msg->payload, msg->payload_len, json, sizeof json - 1, &len, NULL) != DBE_OK) {
        answer(me, peer, msg, DBE_MSG_ERROR, 0, "{\"code\":1,\"name\":\"E_MALFORMED\"}");
        return;
    }
    json[len] = '\0';
    printf("asked: %s\n", json);
    if (strstr(json, "\"stream\":true") == NULL) {
        answer(me, peer, msg, DBE_MSG_L7_CHAT_RESP, 0,
               "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"Everything here is sealed.\"},"
               "\"finish_reason\":\"stop\"}]}");
        return;
    }
    for (size_t i = 0; i < 4; i++) {
        snprintf(text, sizeof text, "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"%s\"}}]}",
                 words[i]);
        answer(me, peer, msg, DBE_MSG_L7_CHAT_RESP, i < 3 ? DBE_FLAG_STREAMING : 0, text);
    }
}

static void on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    const struct me *me = ctx;
    struct dbe_verdict verdict;
    char json[512];

    if (dbe_gate_message(dbe_peer_user(peer), msg, wall_ms(), &verdict) != DBE_OK) {
        printf("refused: %s\n", verdict.reason);
        snprintf(json, sizeof json, "{\"code\":%d,\"name\":\"%s\",\"rule\":\"%s\",\"reason\":\"refused\"}",
                 (int)verdict.code, dbe_err_name(verdict.code), verdict.rule);
        answer(me, peer, msg, DBE_MSG_ERROR, 0, json);
    } else if (msg->type == DBE_MSG_L7_CHAT_REQ) {
        chat(me, peer, msg);
    } else {
        printf("heard: %s\n", dbe_reg_msg(msg->type)->name); /* one-way: nobody waits for an answer */
    }
}

static void on_input(void *ctx, int fd, unsigned events)
{
    char byte;

    (void)events;
    if (read(fd, &byte, 1) <= 0)
        dbe_loop_stop(((struct me *)ctx)->loop);
}

int main(int argc, char **argv)
{
    static const struct dbe_node_ops ops = {.on_message = on_message, .on_up = on_up, .on_down = on_down};
    struct me me = {0};
    struct dbe_watch *input = NULL;
    struct dbe_diag diag = {0};
    char address[256];

    if (argc != 3)
        return fprintf(stderr, "usage: server KEYS SOCKET\n"), 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    make_keys(argv[1]);
    open_me(&me, argv[1], "router-43", &ops, &me);
    snprintf(address, sizeof address, "uds:%s", argv[2]);
    must(dbe_node_listen(me.node, address, &diag), &diag, address);
    must(dbe_loop_watch(me.loop, STDIN_FILENO, DBE_LOOP_READ, on_input, &me, &input), NULL, "standard input");
    printf("listening\n");
    must(dbe_loop_run(me.loop), NULL, "loop");
    dbe_watch_free(input);
    close_me(&me);
    return 0;
}
