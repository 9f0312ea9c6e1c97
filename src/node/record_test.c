/* SPDX-License-Identifier: Apache-2.0
 *
 * record_test.c - messages and the records that carry them: gathered, split, spoiled; back-pressure; what an idle
 * channel keeps.
 */
#include "node_fixture.h"

enum { BLOB_MAX = 4096 };

/* A record of its own with exactly these bytes: what is not one whole message is sealed as it is. */
static void send_record(struct dbe_peer *peer, const uint8_t *blob, size_t len)
{
    size_t first = 0;

    assert_true(len < DBE_HEADER_BYTES || dbe_msg_peek_len(blob, &first) != DBE_OK || first != len);
    assert_int_equal(dbe_send(peer, blob, len), DBE_OK);
}

static uint64_t records_sealed(const struct dbe_peer *peer)
{
    struct sess_stats stats;

    sess_stats(peer->sess, &stats);
    return stats.sealed;
}

static size_t put(uint8_t *blob, size_t at, uint64_t id, const char *payload)
{
    return at + fx_build(blob + at, BLOB_MAX - at, DBE_MSG_L7_CHAT_REQ, 0, id, payload);
}

static struct dbe_peer *silent_server(struct fx *f)
{
    f->server.manner = FX_SILENT;
    fx_up(f);
    return dbe_link_peer(f->link);
}

/* ---- splitting ------------------------------------------------------------------------------------------------- */

/* spec 5.11, spec 2.3: one record, several messages, in order. */
static void record_may_hold_several_messages(void **state)
{
    struct fx *f = *state;
    struct dbe_peer *peer = silent_server(f);
    uint8_t blob[BLOB_MAX];
    size_t len = 0;

    for (uint64_t id = 1; id <= 5; id++)
        len = put(blob, len, id, id % 2 == 0 ? "" : "some payload");
    send_record(peer, blob, len);
    FX_UNTIL(f, f->server.messages == 5);
    assert_int_equal(f->server.last_id, 5);
    assert_int_equal(records_sealed(peer), 1);
    assert_int_equal(f->server.malformed, 0);
}

/* spec 5.11: what follows a message and announces no length ends the record, not the channel. */
static void rubbish_after_a_message_ends_the_record(void **state)
{
    struct fx *f = *state;
    struct dbe_peer *peer = silent_server(f);
    struct dbe_node_stats stats = {0};
    uint8_t blob[BLOB_MAX];
    size_t len = put(blob, 0, 1, "good");

    memset(blob + len, 'r', 40);
    len = put(blob, len + 40, 2, "never read");
    send_record(peer, blob, len);
    assert_int_equal(fx_send(peer, DBE_MSG_L7_CANCEL, 0, 3), DBE_OK);
    FX_UNTIL(f, f->server.last_id == 3);
    assert_int_equal(f->server.messages, 2);
    assert_int_equal(f->server.malformed, 1);
    dbe_node_stats(f->server.node, &stats);
    assert_int_equal(stats.malformed, 1);
    assert_int_equal(f->server.downs, 0);
}

/* spec 5.11: a message that ends outside the record is none, wherever it is cut. */
static void cut_message_inside_a_record_is_none(void **state)
{
    struct fx *f = *state;
    struct dbe_peer *peer = silent_server(f);
    uint8_t blob[BLOB_MAX];
    const size_t first = put(blob, 0, 1, "whole"), len = put(blob, first, 2, "cut");

    for (size_t cut = first + 1; cut < len; cut++)
        send_record(peer, blob, cut);
    FX_UNTIL(f, f->server.malformed == len - first - 1);
    assert_int_equal(f->server.messages, len - first - 1);
    assert_int_equal(f->server.last_id, 1);
    assert_int_equal(f->server.downs, 0);
}

/* spec 5.11: one whose end is known is passed over alone; its neighbours arrive. */
static void broken_message_costs_only_itself(void **state)
{
    struct fx *f = *state;
    struct dbe_peer *peer = silent_server(f);
    uint8_t blob[BLOB_MAX];
    const size_t first = put(blob, 0, 1, "a"), second = put(blob, first, 2, "b"), len = put(blob, second, 3, "c");

    blob[first + DBE_HEADER_BYTES] = 0x80; /* an unknown critical TLV, spec 4.8 */
    blob[first + DBE_HEADER_BYTES + 1] = 0x77;
    send_record(peer, blob, len);
    FX_UNTIL(f, f->server.messages == 2);
    assert_int_equal(f->server.last_id, 3);
    assert_int_equal(f->server.malformed, 1);
    send_record(peer, blob, 0); /* a record of nothing */
    FX_UNTIL(f, f->server.malformed == 2);
    assert_int_equal(f->server.downs, 0);
}

/* ---- gathering ------------------------------------------------------------------------------------------------- */

/* spec 5.11: the messages of one turn share a record, as far as they are small and it is not full. */
static void messages_of_a_turn_share_a_record(void **state)
{
    struct fx *f = *state;
    struct dbe_peer *peer = silent_server(f);

    node_enter(f->client.node);
    for (uint64_t id = 1; id <= 64; id++)
        assert_int_equal(fx_send(peer, DBE_MSG_L7_CANCEL, 0, id), DBE_OK);
    assert_int_equal(records_sealed(peer), 0); /* nothing is sealed before the turn ends */
    assert_true(dbe_peer_queued_bytes(peer) > 64 * (size_t)DBE_HEADER_BYTES);
    node_leave(f->client.node);
    assert_int_equal(records_sealed(peer), 1);
    FX_UNTIL(f, f->server.messages == 64);
    assert_int_equal(f->server.last_id, 64);
    assert_int_equal(fx_send(peer, DBE_MSG_L7_CANCEL, 0, 65), DBE_OK); /* a turn of its own */
    assert_int_equal(records_sealed(peer), 2);
}

static uint32_t draw(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Messages of every size, in turns of every length, with rekeys between: all arrive, in order, whole. */
static void any_mixture_arrives_in_order(void **state)
{
    enum { COUNT = 3000, CAP = 40000 };
    struct fx *f = *state;
    struct dbe_peer *peer = silent_server(f);
    uint8_t *msg = malloc(CAP), *text = malloc(CAP);
    uint32_t seed = 20261121;
    uint64_t id = 0;

    assert_non_null(msg);
    assert_non_null(text);
    memset(text, 't', CAP);
    while (id < COUNT) {
        const uint32_t turn = draw(&seed) % 100 + 1;
        node_enter(f->client.node);
        for (uint32_t i = 0; i < turn; i++) {
            const size_t payload = draw(&seed) % 50 == 0 ? draw(&seed) % (CAP - 100) : draw(&seed) % 300;
            struct dbe_builder b;
            size_t len = 0;
            dbe_build_begin(&b, msg, CAP, DBE_MSG_L7_CHAT_REQ, 0, ++id);
            dbe_build_payload(&b, text, payload);
            assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
            assert_int_equal(dbe_send(peer, msg, len), DBE_OK);
        }
        node_leave(f->client.node);
        FX_UNTIL(f, f->server.last_id == id);
        assert_int_equal(f->server.messages, id);
    }
    assert_int_equal(f->server.malformed, 0);
    assert_true(records_sealed(peer) < id / 4);
    free(msg);
    free(text);
}

static unsigned in_order, sizes_seen;

/* Message n has n as its id, and n in every byte of its payload. */
static void expect_next(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    (void)ctx, (void)peer;
    assert_int_equal(msg->correlation_id, ++in_order);
    for (size_t i = 0; i < msg->payload_len; i++)
        if (msg->payload[i] != (uint8_t)in_order)
            fail_msg("message %u was changed", in_order);
    sizes_seen += (unsigned)msg->payload_len;
}

/* Large ones are sealed straight into what waits for a slow peer, small ones are gathered: order and bytes stay. */
static void what_waits_keeps_its_order(void **state)
{
    enum { COUNT = 400, CAP = 90000 };
    static const struct dbe_node_ops ops = {.on_message = expect_next};
    struct fx *f = *state;
    struct dbe_node_config c = fx_config(&f->server, fx_world.router, fx_world.ours);
    uint8_t *msg = malloc(CAP);
    uint32_t seed = 11;
    unsigned sent = 0;

    assert_non_null(msg);
    c.ops = &ops;
    fx_member_again(f, &f->server, &c);
    c = fx_config(&f->client, fx_world.shim, fx_world.ours);
    c.rekey_records = 50; /* notices among them */
    fx_member_again(f, &f->client, &c);
    assert_int_equal(dbe_node_listen(f->server.node, f->address, NULL), DBE_OK);
    assert_int_equal(dbe_node_link(f->client.node, f->address, 0, -1, &f->link), DBE_OK);
    FX_UNTIL(f, dbe_link_peer(f->link) != NULL);
    in_order = sizes_seen = 0;
    for (unsigned n = 1; n <= COUNT; n++) {
        const size_t payload = n % 3 == 0 ? draw(&seed) % 200 : draw(&seed) % (CAP - 100);
        struct dbe_builder b;
        size_t len = 0;
        dbe_build_begin(&b, msg, CAP, DBE_MSG_L7_CHAT_REQ, 0, n);
        memset(dbe_build_payload_room(&b, payload), (int)(n & 0xFF), payload);
        assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
        assert_int_equal(dbe_send(dbe_link_peer(f->link), msg, len), DBE_OK);
        sent += (unsigned)payload;
        if (n % 100 == 99)
            assert_true(dbe_peer_queued_bytes(dbe_link_peer(f->link)) > 0);
        if (n % 100 == 0)
            fx_turn(f, 1); /* the peer reads a little */
    }
    FX_UNTIL(f, in_order == COUNT);
    assert_int_equal(sizes_seen, sent);
    assert_int_equal(dbe_peer_queued_bytes(dbe_link_peer(f->link)), 0);
    free(msg);
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

/* Between turns a channel holds no buffer; the node keeps a few for whoever speaks next. */
static void idle_channel_keeps_no_buffer(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};

    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    for (uint64_t id = 1; id <= 10; id++) {
        assert_int_equal(fx_call(peer, id, 1000, &call), DBE_OK);
        FX_UNTIL(f, call.ends == id);
    }
    assert_null(peer->out.data);
    assert_null(f->server.peer->out.data);
    assert_in_range(f->client.node->spare_count, 1, NODE_OUT_SPARES);
    assert_in_range(f->server.node->spare_count, 1, NODE_OUT_SPARES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FX_BOTH(record_may_hold_several_messages),
        FX_BOTH(rubbish_after_a_message_ends_the_record),
        FX_BOTH(cut_message_inside_a_record_is_none),
        FX_BOTH(broken_message_costs_only_itself),
        FX_BOTH(messages_of_a_turn_share_a_record),
        FX_BOTH(any_mixture_arrives_in_order),
        FX_BOTH(what_waits_keeps_its_order),
        FX_BOTH(idle_channel_keeps_no_buffer),
    };
    return cmocka_run_group_tests_name("records of a node", tests, fx_world_up, fx_world_down);
}
