/* SPDX-License-Identifier: Apache-2.0
 *
 * oneway.c - a worker that tells its router how busy it is, COUNT times, and waits for no answer. When more waits to be
 * written than may, it goes on once on_drained says so.
 *
 *     oneway KEYS SOCKET COUNT
 */
#include "example.h"

struct publisher {
    struct me me;
    struct dbe_peer *peer;
    long left;
};

static void on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    (void)ctx, (void)peer, (void)msg;
}

static size_t status(const struct publisher *p, uint8_t *out, size_t cap)
{
    static const char json[] = "{\"active_requests\":1,\"max_requests\":4,\"ready\":true}";
    uint8_t payload[256];
    size_t payload_len, len;
    struct dbe_builder b;

    must(dbe_payload_from_json(DBE_MSG_L7_MODEL_STATUS, json, sizeof json - 1, payload, sizeof payload, &payload_len,
                               NULL), NULL, "payload");
    dbe_build_begin(&b, out, cap, DBE_MSG_L7_MODEL_STATUS, DBE_FLAG_REPLAY_PROTECTED, 0);
    stamp(&b, &p->me, p->peer);
    dbe_build_u64(&b, DBE_TLV_SEQUENCE_NUM, (uint64_t)p->left);
    dbe_build_payload(&b, payload, payload_len);
    must(dbe_build_end(&b, &len), NULL, "status");
    return len;
}

static void publish(void *ctx, struct dbe_peer *peer)
{
    struct publisher *p = ctx;
    uint8_t out[1024];

    (void)peer;
    for (; p->left > 0; p->left--) {
        dbe_err err = dbe_send(p->peer, out, status(p, out, sizeof out));
        if (err == DBE_E_LIMIT)
            return; /* on_drained calls again */
        must(err, NULL, "send");
    }
}

int main(int argc, char **argv)
{
    static const struct dbe_node_ops ops = {.on_message = on_message, .on_drained = publish};
    struct publisher p = {.left = argc == 4 ? strtol(argv[3], NULL, 10) : 0};
    struct dbe_link *link = NULL;
    char address[256];

    if (p.left <= 0)
        return fprintf(stderr, "usage: oneway KEYS SOCKET COUNT\n"), 2;
    open_me(&p.me, argv[1], "worker-47", &ops, &p);
    snprintf(address, sizeof address, "uds:%s", argv[2]);
    must(dbe_node_link(p.me.node, address, DBE_ROLE_ROUTER, 43, &link), NULL, address);
    p.peer = wait_for(&p.me, link);
    publish(&p, p.peer);
    while (p.left > 0 || dbe_peer_queued_bytes(p.peer) > 0)
        must(dbe_loop_turn(p.me.loop, 100), NULL, "loop");
    close_me(&p.me);
    return 0;
}
