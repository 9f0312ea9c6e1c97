/* SPDX-License-Identifier: Apache-2.0
 *
 * stream.c - a question whose answer comes in pieces, printed as they come.
 *
 *     stream KEYS SOCKET
 */
#include "example.h"

static void on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    (void)ctx, (void)peer, (void)msg;
}

/* Called for each piece. `msg` NULL: the call ended without one, `err` says why. */
static void on_reply(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct me *me = ctx;

    must(err, NULL, "call");
    print_payload(msg);
    if (last)
        dbe_loop_stop(me->loop);
}

int main(int argc, char **argv)
{
    static const struct dbe_node_ops ops = {.on_message = on_message};
    static const char json[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"What is here?\"}],\"stream\":true}";
    static uint8_t request[16384];
    struct me me = {0};
    struct dbe_link *link = NULL;
    char address[256];

    if (argc != 3)
        return fprintf(stderr, "usage: stream KEYS SOCKET\n"), 2;
    open_me(&me, argv[1], "shim-0", &ops, &me);
    snprintf(address, sizeof address, "uds:%s", argv[2]);
    must(dbe_node_link(me.node, address, DBE_ROLE_ROUTER, 43, &link), NULL, address);
    struct dbe_peer *peer = wait_for(&me, link);
    size_t len = chat_request(&me, peer, json, request, sizeof request);
    must(dbe_call(peer, request, len, dbe_now_ns() + 5 * SECOND_NS, on_reply, &me, NULL), NULL, "call");
    must(dbe_loop_run(me.loop), NULL, "loop");
    close_me(&me);
    return 0;
}
