/* SPDX-License-Identifier: Apache-2.0
 *
 * client.c - one question and its answer, for a program that does one thing at a time.
 *
 *     client KEYS SOCKET TEXT     TEXT without quotes or backslashes, for it goes into JSON as it is
 */
#include "example.h"

static void on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    (void)ctx, (void)peer, (void)msg; /* nobody asks a client anything */
}

int main(int argc, char **argv)
{
    static const struct dbe_node_ops ops = {.on_message = on_message};
    static uint8_t request[16384], reply[65536];
    struct me me = {0};
    struct dbe_link *link = NULL;
    struct dbe_diag diag = {0};
    struct dbe_msg msg;
    char address[256], json[2048];
    size_t len;

    if (argc != 4)
        return fprintf(stderr, "usage: client KEYS SOCKET TEXT\n"), 2;
    open_me(&me, argv[1], "shim-0", &ops, NULL);
    snprintf(address, sizeof address, "uds:%s", argv[2]);
    must(dbe_node_link(me.node, address, DBE_ROLE_ROUTER, 43, &link), NULL, address);
    struct dbe_peer *peer = wait_for(&me, link);

    snprintf(json, sizeof json, "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}", argv[3]);
    len = chat_request(&me, peer, json, request, sizeof request);
    must(dbe_call_wait(peer, request, len, dbe_now_ns() + 5 * SECOND_NS, reply, sizeof reply, &len), NULL, "call");
    must(dbe_msg_decode(reply, len, &msg, &diag), &diag, "answer");
    print_payload(&msg);
    close_me(&me);
    return msg.type == DBE_MSG_L7_CHAT_RESP ? 0 : 1;
}
