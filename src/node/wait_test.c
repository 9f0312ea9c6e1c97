/* SPDX-License-Identifier: Apache-2.0
 *
 * wait_test.c - calls that wait, calls that are taken back aloud, deadlines by the thousand, and a loop that is driven
 * from outside.
 */
#include "node_fixture.h"

#include <poll.h>

#include "dbe/loop.h"

/* What the server was last told, kept beyond the callback. */
static struct {
    unsigned count;
    uint8_t  bytes[1024];
    struct dbe_msg msg;
} heard;

static void on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    (void)ctx, (void)peer;
    heard.count++;
    assert_in_range(msg->len, 1, sizeof heard.bytes);
    memcpy(heard.bytes, msg->bytes, msg->len);
    assert_int_equal(dbe_msg_decode(heard.bytes, msg->len, &heard.msg, NULL), DBE_OK);
}

static size_t question(uint8_t *out, size_t cap, uint64_t id)
{
    return fx_build(out, cap, DBE_MSG_L7_CHAT_REQ, 0, id, "question");
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

static void call_waits_for_its_answer(void **state)
{
    struct fx *f = *state;
    uint8_t ask[256], answer[256];
    struct dbe_msg msg;
    size_t got = 0;

    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    const uint64_t deadline_ns = fx_now_ns + BASE_NS_PER_S;
    size_t len = question(ask, sizeof ask, 7);
    assert_int_equal(dbe_call_wait(peer, ask, len, deadline_ns, answer, sizeof answer, &got), DBE_OK);
    assert_int_equal(dbe_msg_decode(answer, got, &msg, NULL), DBE_OK);
    assert_int_equal(msg.type, DBE_MSG_L7_CHAT_RESP);
    assert_int_equal(msg.correlation_id, 7);
    f->server.manner = FX_STREAM; /* the last message is the answer */
    assert_int_equal(dbe_call_wait(peer, ask, len, deadline_ns, answer, sizeof answer, &got), DBE_OK);
    assert_int_equal(dbe_msg_decode(answer, got, &msg, NULL), DBE_OK);
    assert_int_equal(msg.flags & DBE_FLAG_STREAMING, 0);
    f->server.manner = FX_REFUSE;
    assert_int_equal(dbe_call_wait(peer, ask, len, deadline_ns, answer, sizeof answer, &got), DBE_OK);
    assert_int_equal(dbe_msg_decode(answer, got, &msg, NULL), DBE_OK);
    assert_int_equal(msg.type, DBE_MSG_ERROR);
    got = 99;
    assert_int_equal(dbe_call_wait(peer, ask, len, deadline_ns, answer, 40, &got), DBE_E_TOO_LARGE);
    assert_int_equal(dbe_call_wait(peer, ask, len, fx_now_ns, answer, 40, &got), DBE_E_TIMEOUT);
    assert_int_equal(got, 99);
}

static void waiting_ends_with_the_channel(void **state)
{
    struct fx *f = *state;
    uint8_t ask[256], answer[256];
    size_t got = 99;

    f->server.manner = FX_CLOSE;
    fx_up(f);
    size_t len = question(ask, sizeof ask, 7);
    assert_int_equal(dbe_call_wait(dbe_link_peer(f->link), ask, len, fx_now_ns + BASE_NS_PER_S, answer, sizeof answer,
                                   &got),
                     DBE_E_CLOSED);
    assert_int_equal(got, 99);
}

static void waiting_ends_at_its_deadline(void **state)
{
    struct fx *f = *state;
    uint8_t ask[256], answer[256];
    size_t got = 0;

    f->server.manner = FX_SILENT;
    fx_up(f);
    base_clock_set(&(const struct base_clock_ops){.wall_ms = fx_wall}); /* somebody has to let time pass */
    size_t len = question(ask, sizeof ask, 7);
    assert_int_equal(dbe_call_wait(dbe_link_peer(f->link), ask, len, base_mono_ns() + 10 * (uint64_t)BASE_NS_PER_MS,
                                   answer, sizeof answer, &got),
                     DBE_E_TIMEOUT);
    assert_int_equal(f->client.node->call_count, 0);
}

static dbe_err waited;

static void wait_inside(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    uint8_t answer[256];
    size_t got = 0;

    (void)ctx;
    waited = dbe_call_wait(peer, msg->bytes, msg->len, UINT64_MAX, answer, sizeof answer, &got);
}

static void callbacks_may_not_wait(void **state)
{
    static const struct dbe_node_ops ops = {.on_message = wait_inside};
    struct fx *f = *state;
    struct dbe_node_config c = fx_config(&f->server, fx_world.router, fx_world.ours);

    c.ops = &ops;
    fx_member_again(f, &f->server, &c);
    assert_int_equal(dbe_node_listen(f->server.node, f->address, NULL), DBE_OK);
    assert_int_equal(dbe_node_link(f->client.node, f->address, 0, -1, &f->link), DBE_OK);
    FX_UNTIL(f, dbe_link_peer(f->link) != NULL);
    waited = DBE_OK;
    assert_int_equal(fx_send(dbe_link_peer(f->link), DBE_MSG_L7_CHAT_REQ, 0, 1), DBE_OK);
    FX_UNTIL(f, waited != DBE_OK);
    assert_int_equal(waited, DBE_E_STATE);
}

/* ---- taking back ------------------------------------------------------------------------------------------------- */

static const uint8_t request_id[16] = {0, 0, 0, 0, 0, 0, 0, 9, 0x40, 1, 0x80, 2, 3, 4, 5, 6};

static size_t labelled(uint8_t *out, size_t cap, bool with_id)
{
    struct dbe_builder b;
    size_t len = 0;

    dbe_build_begin(&b, out, cap, DBE_MSG_L7_CHAT_REQ, 0, dbe_correlation_of(request_id));
    if (with_id)
        dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, request_id, sizeof request_id);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, "acme");
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, DBE_COMPARTMENT_SOC);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, DBE_CLSF_SECRET);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, 0);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, 43);
    dbe_build_u32(&b, DBE_TLV_TIMEOUT_MS, 1000);
    dbe_build_timestamp_ms(&b, 1);
    dbe_build_payload(&b, "what is asked", 13);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    return len;
}

/* spec 12.7: correlation id, REQUEST_ID twice, the request's labels; not its deadline, nor its payload. */
static void call_is_taken_back_aloud(void **state)
{
    static const struct dbe_node_ops ops = {.on_message = on_message};
    struct fx *f = *state;
    struct dbe_node_config c = fx_config(&f->server, fx_world.router, fx_world.ours);
    struct fx_call call = {0};
    uint8_t ask[512], device = 0;
    const uint64_t id = dbe_correlation_of(request_id);
    char tenant[16];

    c.ops = &ops;
    fx_member_again(f, &f->server, &c);
    memset(&heard, 0, sizeof heard);
    assert_int_equal(dbe_node_listen(f->server.node, f->address, NULL), DBE_OK);
    assert_int_equal(dbe_node_link(f->client.node, f->address, 0, -1, &f->link), DBE_OK);
    FX_UNTIL(f, dbe_link_peer(f->link) != NULL);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    size_t len = labelled(ask, sizeof ask, true);
    assert_int_equal(dbe_call_abort(peer, id, ask, len), DBE_E_NOT_FOUND);
    assert_int_equal(dbe_call(peer, ask, len, fx_now_ns + BASE_NS_PER_S, fx_on_reply, &call, NULL), DBE_OK);
    assert_int_equal(dbe_call_abort(peer, id, ask, len), DBE_OK);
    assert_int_equal(dbe_call_abort(peer, id, ask, len), DBE_E_NOT_FOUND);
    FX_UNTIL(f, heard.count == 2);
    assert_int_equal(heard.msg.type, DBE_MSG_L7_CANCEL);
    assert_true(heard.msg.correlation_id == id);
    assert_int_equal(heard.msg.payload_len, 18);
    assert_memory_equal(heard.msg.payload, "\x0A\x10", 2);
    assert_memory_equal(heard.msg.payload + 2, request_id, sizeof request_id);
    assert_memory_equal(dbe_tlv_find(&heard.msg, DBE_TLV_REQUEST_ID)->value, request_id, sizeof request_id);
    assert_int_equal(dbe_tlv_text(&heard.msg, DBE_TLV_TENANT_ID, tenant, sizeof tenant), DBE_OK);
    assert_string_equal(tenant, "acme");
    assert_int_equal(dbe_tlv_u8(&heard.msg, DBE_TLV_DEVICE_ID_DST, &device), DBE_OK);
    assert_int_equal(device, 43);
    assert_null(dbe_tlv_find(&heard.msg, DBE_TLV_TIMEOUT_MS));
    assert_int_equal(call.ends, 0);
    len = labelled(ask, sizeof ask, false); /* nothing to name it by: forgotten, and said so */
    assert_int_equal(dbe_call(peer, ask, len, fx_now_ns + BASE_NS_PER_S, fx_on_reply, &call, NULL), DBE_OK);
    assert_int_equal(dbe_call_abort(peer, id, ask, len), DBE_E_MALFORMED);
    assert_int_equal(f->client.node->call_count, 0);
}

/* ---- deadlines by the thousand
 * ------------------------------------------------------------------------------------- */

struct timed {
    uint64_t deadline_ns, ended_ns;
    dbe_err  err;
};

static void on_timed(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct timed *t = ctx;

    assert_null(msg);
    assert_true(last);
    t->ended_ns = fx_now_ns;
    t->err = err;
}

/* Calls with deadlines all over, some cancelled: each ends in its millisecond, none early, none twice. */
static void deadlines_are_kept_to_the_millisecond(void **state)
{
    enum { COUNT = DBE_CALLS_IN_FLIGHT_MAX, SPREAD_US = 300000 };
    struct fx *f = *state;
    struct timed *all = calloc(COUNT, sizeof *all);
    uint32_t seed = 7;
    uint8_t ask[256];

    assert_non_null(all);
    f->server.manner = FX_SILENT;
    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    for (uint64_t i = 0; i < COUNT; i++) {
        seed = seed * 1664525u + 1013904223u;
        all[i].deadline_ns = fx_now_ns + (1 + (seed >> 8) % SPREAD_US) * (uint64_t)BASE_NS_PER_US;
        assert_int_equal(dbe_call(peer, ask, question(ask, sizeof ask, i), all[i].deadline_ns, on_timed, &all[i], NULL),
                         DBE_OK);
    }
    for (uint64_t i = 0; i < COUNT; i += 3)
        dbe_call_cancel(peer, i);
    for (unsigned ms = 0; ms <= SPREAD_US / 1000 + 1; ms++) {
        fx_pass_ms(1);
        fx_turn(f, 2);
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        if (i % 3 == 0) {
            assert_int_equal(all[i].ended_ns, 0);
            continue;
        }
        assert_int_equal(all[i].err, DBE_E_TIMEOUT);
        assert_true(all[i].ended_ns >= all[i].deadline_ns);
        assert_true(all[i].ended_ns - all[i].deadline_ns < (uint64_t)BASE_NS_PER_MS);
    }
    assert_int_equal(f->client.node->call_count, 0);
    free(all);
}

/* Answered calls leave nothing behind that grows. */
static void answered_calls_allocate_nothing(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};

    fx_up(f);
    for (unsigned round = 0; round < 50; round++) {
        if (round == 40)
            base_fail_alloc_at(0); /* counts from here */
        for (uint64_t id = 1; id <= 32; id++)
            assert_int_equal(fx_call(dbe_link_peer(f->link), id, 1000, &call), DBE_OK);
        FX_UNTIL(f, call.ends == 32 * (round + 1));
        fx_pass_ms(1);
    }
    assert_in_range(base_alloc_count(), 0, 20); /* not one a call: the transport may take a buffer now and then */
}

/* ---- driven from outside
 * ------------------------------------------------------------------------------------------- */

static void count_up(void *ctx)
{
    ++*(unsigned *)ctx;
}

static void count_ready(void *ctx, int fd, unsigned events)
{
    char byte;

    assert_int_equal(events & DBE_LOOP_READ, DBE_LOOP_READ);
    assert_int_equal(read(fd, &byte, 1), 1);
    ++*(unsigned *)ctx;
}

/* dbe/loop.h as its first lines show it: poll, then turn. */
static void loop_turns_inside_another(void **state)
{
    struct dbe_loop *loop = NULL;
    struct dbe_timer *timer = NULL;
    struct dbe_watch *watch = NULL;
    unsigned fired = 0, ready = 0, woken = 0;
    int fds[2];

    (void)state;
    base_clock_set(NULL);
    assert_int_equal(dbe_loop_new(&loop), DBE_OK);
    assert_true(dbe_loop_next_ns(loop) == UINT64_MAX);
    assert_int_equal(dbe_loop_timer(loop, count_up, &fired, &timer), DBE_OK);
    dbe_timer_set(timer, dbe_now_ns() + (uint64_t)BASE_NS_PER_MS);
    assert_true(dbe_loop_next_ns(loop) <= (uint64_t)BASE_NS_PER_MS);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(dbe_loop_watch(loop, fds[0], DBE_LOOP_READ, count_ready, &ready, &watch), DBE_OK);
    assert_int_equal(dbe_loop_watch(loop, fds[0], DBE_LOOP_READ, count_ready, &ready, &watch), DBE_E_EXISTS);
    dbe_loop_on_wake(loop, count_up, &woken);
    assert_int_equal(write(fds[1], "ab", 2), 2);
    dbe_loop_wake(loop);
    while (fired == 0 || ready < 2 || woken == 0) {
        struct pollfd p = {.fd = dbe_loop_fd(loop), .events = POLLIN};
        const uint64_t ns = dbe_loop_next_ns(loop);
        assert_true(poll(&p, 1, ns == UINT64_MAX ? -1 : (int)((ns + 999999) / 1000000)) >= 0);
        assert_int_equal(dbe_loop_turn(loop, 0), DBE_OK);
    }
    assert_int_equal(dbe_watch_events(watch, DBE_LOOP_READ), DBE_OK);
    dbe_watch_free(watch);
    dbe_timer_free(timer);
    dbe_loop_spin(loop, 0);
    dbe_loop_stop(loop);
    assert_int_equal(dbe_loop_run(loop), DBE_OK); /* a stop before the run counts */
    dbe_loop_free(loop);
    dbe_loop_free(NULL);
    close(fds[0]);
    close(fds[1]);
}

/* Two nodes in a loop that somebody else polls, as a program with a loop of its own does. */
static void nodes_live_in_a_loop_that_is_driven(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};
    uint64_t id = 0;

    assert_int_equal(dbe_node_listen(f->server.node, f->address, NULL), DBE_OK);
    assert_int_equal(dbe_node_link(f->client.node, f->address, 0, -1, &f->link), DBE_OK);
    while (call.ends < 200) {
        struct pollfd p = {.fd = dbe_loop_fd(f->loop), .events = POLLIN};
        const uint64_t ns = dbe_loop_next_ns(f->loop);
        struct dbe_peer *peer = dbe_link_peer(f->link);
        if (peer != NULL && call.ends == id)
            assert_int_equal(fx_call(peer, ++id, 60000, &call), DBE_OK);
        assert_true(poll(&p, 1, ns == 0 ? 0 : 10000) > 0 || ns == 0); /* nothing is forgotten while it sleeps */
        assert_int_equal(dbe_loop_turn(f->loop, 0), DBE_OK);
    }
    assert_int_equal(call.answers, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FX_BOTH(call_waits_for_its_answer),
        FX_BOTH(waiting_ends_with_the_channel),
        FX_UDS(waiting_ends_at_its_deadline),
        FX_BOTH(callbacks_may_not_wait),
        FX_BOTH(call_is_taken_back_aloud),
        FX_BOTH(deadlines_are_kept_to_the_millisecond),
        FX_BOTH(answered_calls_allocate_nothing),
        cmocka_unit_test(loop_turns_inside_another),
        FX_UDS(nodes_live_in_a_loop_that_is_driven),
    };
    return cmocka_run_group_tests_name("waiting", tests, fx_world_up, fx_world_down);
}
