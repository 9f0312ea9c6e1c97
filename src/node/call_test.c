/* SPDX-License-Identifier: Apache-2.0
 *
 * call_test.c - requests and their answers: one, streamed, many, late, cancelled, never.
 */
#include "node_fixture.h"

/* ---- answers --------------------------------------------------------------------------------------------------- */

/* spec 12.2 */
static void one_answer(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};
    struct dbe_node_stats stats;

    fx_up(f);
    assert_int_equal(fx_call(dbe_link_peer(f->link), 77, 1000, &call), DBE_OK);
    assert_int_equal(call.answers, 0); /* never from within dbe_call */
    FX_UNTIL(f, call.ends == 1);
    assert_int_equal(call.answers, 1);
    assert_int_equal(call.err, DBE_OK);
    assert_int_equal(call.type, DBE_MSG_L7_CHAT_RESP);
    assert_int_equal(f->server.last_id, 77);
    assert_int_equal(f->server.last_payload, strlen("question"));
    dbe_node_stats(f->client.node, &stats);
    assert_int_equal(stats.calls_in_flight, 0);
    assert_int_equal(stats.messages_out, 1);
    assert_int_equal(stats.messages_in, 1);
    fx_pass_ms(5000); /* its deadline is gone with it */
    fx_turn(f, 3);
    assert_int_equal(call.ends, 1);
}

/* spec 12.4 */
static void streamed_answer(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};

    f->server.manner = FX_STREAM;
    fx_up(f);
    assert_int_equal(fx_call(dbe_link_peer(f->link), 1, 1000, &call), DBE_OK);
    FX_UNTIL(f, call.ends == 1);
    assert_int_equal(call.answers, 5);
    assert_true(call.last);
}

/* spec 9.6, 12.2 */
static void refusal_is_an_answer(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};

    f->server.manner = FX_REFUSE;
    fx_up(f);
    assert_int_equal(fx_call(dbe_link_peer(f->link), 1, 1000, &call), DBE_OK);
    FX_UNTIL(f, call.ends == 1);
    assert_int_equal(call.answers, 1);
    assert_int_equal(call.err, DBE_OK);
    assert_int_equal(call.type, DBE_MSG_ERROR);
    f->server.manner = FX_SILENT; /* and ends a stream, whatever its flag says */
    call = (struct fx_call){0};
    assert_int_equal(fx_call(dbe_link_peer(f->link), 2, 1000, &call), DBE_OK);
    FX_UNTIL(f, f->server.messages == 2);
    assert_int_equal(fx_send(f->server.peer, DBE_MSG_L7_CHAT_RESP, DBE_FLAG_STREAMING, 2), DBE_OK);
    assert_int_equal(fx_send(f->server.peer, DBE_MSG_ERROR, DBE_FLAG_STREAMING, 2), DBE_OK);
    FX_UNTIL(f, call.ends == 1);
    assert_int_equal(call.answers, 2);
}

/* spec 13.2 */
static void many_in_flight_answered_backwards(void **state)
{
    struct fx *f = *state;
    struct fx_call *calls = calloc(DBE_CALLS_IN_FLIGHT_MAX, sizeof *calls), extra = {0};

    assert_non_null(calls);
    f->server.manner = FX_SILENT;
    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    for (uint64_t i = 0; i < DBE_CALLS_IN_FLIGHT_MAX; i++)
        assert_int_equal(fx_call(peer, i * UINT64_C(0x100000000), 100000 - i, &calls[i]), DBE_OK);
    assert_int_equal(fx_call(peer, 1, 1000, &extra), DBE_E_LIMIT);
    FX_UNTIL(f, f->server.messages == DBE_CALLS_IN_FLIGHT_MAX);
    for (uint64_t i = DBE_CALLS_IN_FLIGHT_MAX; i-- > 0;)
        assert_int_equal(fx_send(f->server.peer, DBE_MSG_L7_CHAT_RESP, 0, i * UINT64_C(0x100000000)), DBE_OK);
    FX_UNTIL(f, calls[0].ends == 1);
    for (size_t i = 0; i < DBE_CALLS_IN_FLIGHT_MAX; i++) {
        assert_int_equal(calls[i].answers, 1);
        assert_int_equal(calls[i].ends, 1);
    }
    assert_int_equal(extra.ends, 0);
    free(calls);
}

/* ---- answers and requests told apart --------------------------------------------------------------------------- */

/* spec 12.2 */
static void request_with_the_id_of_a_call_is_a_request(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};

    f->server.manner = FX_SILENT;
    f->client.manner = FX_SILENT;
    fx_up(f);
    assert_int_equal(fx_call(dbe_link_peer(f->link), 5, 1000, &call), DBE_OK);
    FX_UNTIL(f, f->server.messages == 1);
    assert_int_equal(fx_send(f->server.peer, DBE_MSG_L7_CHAT_REQ, 0, 5), DBE_OK);
    FX_UNTIL(f, f->client.messages == 1);
    assert_int_equal(f->client.last_type, DBE_MSG_L7_CHAT_REQ);
    assert_int_equal(call.answers, 0);
    assert_int_equal(fx_send(f->server.peer, DBE_MSG_L7_AGENT_RESULT, 0, 5), DBE_OK); /* answer of another kind */
    assert_int_equal(fx_send(f->server.peer, DBE_MSG_L7_CHAT_RESP, 0, 5), DBE_OK);
    FX_UNTIL(f, call.ends == 1);
    assert_int_equal(call.answers, 1);
    assert_int_equal(call.type, DBE_MSG_L7_CHAT_RESP);
}

/* spec 9.5 */
static void answers_to_nothing_are_dropped_and_counted(void **state)
{
    struct fx *f = *state;
    struct dbe_node_stats stats = {0};

    fx_up(f);
    assert_int_equal(fx_send(f->server.peer, DBE_MSG_L7_CHAT_RESP, 0, 123), DBE_OK);
    assert_int_equal(fx_send(f->server.peer, DBE_MSG_ERROR, 0, 124), DBE_OK);
    assert_int_equal(fx_send(f->server.peer, DBE_MSG_L7_MODEL_STATUS, 0, 125), DBE_OK); /* may be a request */
    FX_UNTIL(f, f->client.messages == 1);
    assert_int_equal(f->client.last_type, DBE_MSG_L7_MODEL_STATUS);
    dbe_node_stats(f->client.node, &stats);
    assert_int_equal(stats.answers_unmatched, 2);
}

/* spec 12.2 */
static void type_without_a_reply_answers_with_itself(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};
    uint8_t msg[256];
    size_t len = fx_build(msg, sizeof msg, DBE_MSG_L7_MODEL_STATUS, 0, 9, "");

    f->server.manner = FX_SILENT;
    fx_up(f);
    assert_int_equal(dbe_call(dbe_link_peer(f->link), msg, len, fx_now_ns + BASE_NS_PER_S, fx_on_reply, &call, NULL),
                     DBE_OK);
    FX_UNTIL(f, f->server.messages == 1);
    assert_int_equal(fx_send(f->server.peer, DBE_MSG_L7_MODEL_STATUS, 0, 9), DBE_OK);
    FX_UNTIL(f, call.ends == 1);
    assert_int_equal(call.answers, 1);
    assert_int_equal(f->client.messages, 0);
}

/* spec 12.3 */
static void id_in_flight_is_not_taken_twice(void **state)
{
    struct fx *f = *state;
    struct fx_call a = {0}, b = {0};

    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    assert_int_equal(fx_call(peer, 1, 1000, &a), DBE_OK);
    assert_int_equal(fx_call(peer, 1, 1000, &b), DBE_E_DUPLICATE);
    FX_UNTIL(f, a.ends == 1);
    assert_int_equal(fx_call(peer, 1, 1000, &b), DBE_OK); /* free again */
    FX_UNTIL(f, b.ends == 1);
}

/* ---- no answer ------------------------------------------------------------------------------------------------- */

/* spec 12.6 */
static void deadline_ends_a_call(void **state)
{
    struct fx *f = *state;
    struct fx_call early = {0}, late = {0}, never = {0};
    struct dbe_node_stats stats = {0};

    f->server.manner = FX_SILENT;
    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    assert_int_equal(fx_call(peer, 1, 0, &never), DBE_E_TIMEOUT);
    assert_int_equal(fx_call(peer, 2, 2000, &late), DBE_OK);
    assert_int_equal(fx_call(peer, 3, 1000, &early), DBE_OK);
    fx_pass_ms(999);
    fx_turn(f, 3);
    assert_int_equal(early.ends, 0);
    fx_pass_ms(1);
    fx_turn(f, 2);
    assert_int_equal(early.ends, 1);
    assert_int_equal(early.err, DBE_E_TIMEOUT);
    assert_int_equal(late.ends, 0);
    assert_int_equal(fx_send(f->server.peer, DBE_MSG_L7_CHAT_RESP, 0, 3), DBE_OK); /* too late */
    fx_pass_ms(1000);
    FX_UNTIL(f, late.ends == 1);
    fx_turn(f, 3);
    assert_int_equal(early.ends, 1);
    assert_int_equal(never.ends, 0);
    dbe_node_stats(f->client.node, &stats);
    assert_int_equal(stats.calls_timed_out, 2);
    assert_int_equal(stats.answers_unmatched, 1);
}

static void stream_ends_at_its_deadline_too(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};

    f->server.manner = FX_SILENT;
    fx_up(f);
    assert_int_equal(fx_call(dbe_link_peer(f->link), 3, 1000, &call), DBE_OK);
    FX_UNTIL(f, f->server.messages == 1);
    assert_int_equal(fx_send(f->server.peer, DBE_MSG_L7_CHAT_RESP, DBE_FLAG_STREAMING, 3), DBE_OK);
    FX_UNTIL(f, call.answers == 1);
    assert_int_equal(call.ends, 0);
    fx_pass_ms(1000);
    FX_UNTIL(f, call.ends == 1);
    assert_int_equal(call.err, DBE_E_TIMEOUT);
}

static void cancelled_call_is_forgotten(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};
    struct dbe_node_stats stats = {0};

    f->server.manner = FX_SILENT;
    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    assert_int_equal(fx_call(peer, 1, 1000, &call), DBE_OK);
    FX_UNTIL(f, f->server.messages == 1);
    dbe_call_cancel(peer, 1);
    dbe_call_cancel(peer, 1);
    dbe_call_cancel(peer, 999);
    assert_int_equal(fx_send(f->server.peer, DBE_MSG_L7_CHAT_RESP, 0, 1), DBE_OK);
    fx_pass_ms(2000);
    fx_turn(f, 10);
    assert_int_equal(call.answers, 0);
    assert_int_equal(call.ends, 0);
    dbe_node_stats(f->client.node, &stats);
    assert_int_equal(stats.answers_unmatched, 1);
    assert_int_equal(stats.calls_in_flight, 0);
}

/* spec 12.8 */
static void peer_that_dies_ends_its_calls(void **state)
{
    struct fx *f = *state;
    struct fx_call a = {0}, b = {0};

    f->server.manner = FX_SILENT;
    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    assert_int_equal(fx_call(peer, 1, 1000, &a), DBE_OK);
    assert_int_equal(fx_call(peer, 2, 1000, &b), DBE_OK);
    FX_UNTIL(f, f->server.messages == 2);
    tp_close(f->server.peer->conn, false); /* as when its process is killed: no goodbye */
    f->server.peer->conn = NULL;
    FX_UNTIL(f, f->client.downs == 1);
    assert_int_equal(a.ends, 1);
    assert_int_equal(a.err, DBE_E_CLOSED);
    assert_int_equal(b.ends, 1);
    assert_int_equal(b.err, DBE_E_CLOSED);
    assert_null(dbe_link_peer(f->link));
}

static void freeing_the_node_cancels(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};

    f->server.manner = FX_SILENT;
    fx_up(f);
    assert_int_equal(fx_call(dbe_link_peer(f->link), 1, 1000, &call), DBE_OK);
    dbe_node_free(f->client.node);
    f->client.node = NULL;
    assert_int_equal(call.ends, 1);
    assert_int_equal(call.err, DBE_E_CANCELLED);
    assert_int_equal(f->client.downs, 1);
    FX_UNTIL(f, f->server.downs == 1);
}

/* ---- callbacks that do everything ------------------------------------------------------------------------------ */

struct wild {
    struct fx *f;
    struct dbe_peer *peer;
    unsigned calls;
    dbe_err again;
};

static void close_link_on_reply(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct wild *w = ctx;

    (void)msg, (void)last, (void)err;
    w->calls++;
    dbe_link_close(w->f->link); /* ends the channel whose message this is */
    w->f->link = NULL;
}

static void call_again_on_end(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct wild *w = ctx;
    struct fx_call call = {0};

    (void)msg, (void)last, (void)err;
    w->calls++;
    w->again = fx_call(w->peer, 50, 1000, &call);
    dbe_call_cancel(w->peer, 2); /* a neighbour that is about to end as well */
    dbe_peer_close(w->peer, DBE_E_CLOSED);
}

static void callbacks_may_close_call_and_cancel(void **state)
{
    struct fx *f = *state;
    struct wild w = {.f = f, .again = DBE_OK};
    uint8_t msg[256];

    f->server.manner = FX_STREAM;
    fx_up(f);
    w.peer = dbe_link_peer(f->link);
    size_t len = fx_build(msg, sizeof msg, DBE_MSG_L7_CHAT_REQ, 0, 1, "q");
    assert_int_equal(dbe_call(w.peer, msg, len, fx_now_ns + BASE_NS_PER_S, close_link_on_reply, &w, NULL), DBE_OK);
    FX_UNTIL(f, f->server.downs == 1);
    assert_int_equal(w.calls, 2); /* the first piece, and the end */

    f->server.manner = FX_CLOSE;
    w.calls = 0;
    assert_int_equal(dbe_node_link(f->client.node, f->address, 0, -1, &f->link), DBE_OK);
    FX_UNTIL(f, f->client.ups == 2 && f->server.ups == 2);
    w.peer = dbe_link_peer(f->link);
    for (uint64_t id = 1; id <= 3; id++) {
        len = fx_build(msg, sizeof msg, DBE_MSG_L7_CHAT_REQ, 0, id, "q");
        assert_int_equal(dbe_call(w.peer, msg, len, fx_now_ns + BASE_NS_PER_S, call_again_on_end, &w, NULL), DBE_OK);
    }
    FX_UNTIL(f, f->client.downs == 2);
    assert_in_range(w.calls, 2, 3); /* the second is cancelled if it was not first */
    assert_int_equal(w.again, DBE_E_CLOSED);
}

/* ---- bytes ----------------------------------------------------------------------------------------------------- */

static void malformed_messages_cost_only_themselves(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};
    struct dbe_node_stats stats = {0};
    uint8_t msg[256];

    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    size_t len = fx_build(msg, sizeof msg, DBE_MSG_L7_CHAT_REQ, 0, 1, "q");
    for (size_t i = 0; i < len; i++)
        assert_int_equal(dbe_send(peer, msg, i), DBE_OK); /* every way of being cut short */
    msg[0] ^= 0xFF;
    assert_int_equal(dbe_send(peer, msg, len), DBE_OK);
    assert_int_equal(dbe_call(peer, msg, len, fx_now_ns + 1000, fx_on_reply, &call, NULL), DBE_E_MALFORMED);
    assert_int_equal(fx_call(peer, 2, 1000, &call), DBE_OK);
    FX_UNTIL(f, call.ends == 1);
    assert_int_equal(call.answers, 1);
    dbe_node_stats(f->server.node, &stats);
    assert_int_equal(stats.malformed, len + 1);
    assert_int_equal(f->server.malformed, len + 1);
    assert_int_equal(f->server.messages, 1);
    assert_int_equal(f->server.downs, 0);
}

static void largest_message_passes(void **state)
{
    struct fx *f = *state;
    const size_t cap = DBE_HEADER_BYTES + 16 + (size_t)DBE_PAYLOAD_MAX_BYTES;
    uint8_t *msg = malloc(cap);
    struct dbe_builder b;
    size_t len = 0;

    assert_non_null(msg);
    f->server.manner = FX_SILENT;
    fx_up(f);
    dbe_build_begin(&b, msg, cap, DBE_MSG_L7_CHAT_REQ, 0, 1);
    void *room = dbe_build_payload_room(&b, DBE_PAYLOAD_MAX_BYTES);
    assert_non_null(room);
    memset(room, 'x', DBE_PAYLOAD_MAX_BYTES);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(dbe_send(dbe_link_peer(f->link), msg, len), DBE_OK);
    FX_UNTIL(f, f->server.messages == 1);
    assert_int_equal(f->server.last_payload, DBE_PAYLOAD_MAX_BYTES);
    free(msg);
}

static void slow_peer_pushes_back(void **state)
{
    struct fx *f = *state;
    const size_t cap = 4 * 1024 * 1024;
    uint8_t *msg = malloc(cap);
    struct dbe_builder b;
    size_t len = 0;
    unsigned sent = 0;
    dbe_err err;

    assert_non_null(msg);
    f->server.manner = FX_SILENT;
    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    dbe_build_begin(&b, msg, cap, DBE_MSG_L7_CHAT_REQ, 0, 1);
    memset(dbe_build_payload_room(&b, cap - 64), 'x', cap - 64);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    while ((err = dbe_send(peer, msg, len)) == DBE_OK)
        sent++;
    assert_int_equal(err, DBE_E_LIMIT);
    assert_in_range(sent, 14, 20); /* the queue, and what the socket holds */
    assert_true(dbe_peer_queued_bytes(peer) <= DBE_SEND_QUEUE_MAX_BYTES);
    FX_UNTIL(f, f->server.messages == sent);
    assert_int_equal(f->server.downs, 0);
    FX_UNTIL(f, dbe_peer_queued_bytes(peer) == 0);
    assert_int_equal(dbe_send(peer, msg, len), DBE_OK);
    FX_UNTIL(f, f->server.messages == sent + 1);
    assert_int_equal(dbe_send(peer, msg, (size_t)DBE_MESSAGE_MAX_BYTES + 1), DBE_E_TOO_LARGE);
    free(msg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FX_BOTH(one_answer),
        FX_BOTH(streamed_answer),
        FX_BOTH(refusal_is_an_answer),
        FX_BOTH(many_in_flight_answered_backwards),
        FX_BOTH(request_with_the_id_of_a_call_is_a_request),
        FX_BOTH(answers_to_nothing_are_dropped_and_counted),
        FX_BOTH(type_without_a_reply_answers_with_itself),
        FX_BOTH(id_in_flight_is_not_taken_twice),
        FX_BOTH(deadline_ends_a_call),
        FX_BOTH(stream_ends_at_its_deadline_too),
        FX_BOTH(cancelled_call_is_forgotten),
        FX_BOTH(peer_that_dies_ends_its_calls),
        FX_BOTH(freeing_the_node_cancels),
        FX_BOTH(callbacks_may_close_call_and_cancel),
        FX_BOTH(malformed_messages_cost_only_themselves),
        FX_BOTH(largest_message_passes),
        FX_BOTH(slow_peer_pushes_back),
    };
    return cmocka_run_group_tests_name("call", tests, fx_world_up, fx_world_down);
}
