/* SPDX-License-Identifier: Apache-2.0
 *
 * control_test.c - the limits that a node is configured with; new keys, suites and certificates for open channels, with
 * traffic on them.
 */
#include "node_fixture.h"

enum { SUITES = 2 };

static const uint16_t best_first[SUITES] = {CRYPTO_SUITE_1, CRYPTO_SUITE_2};
static const uint16_t other_first[SUITES] = {CRYPTO_SUITE_2, CRYPTO_SUITE_1};

static struct sess_stats session_of(const struct dbe_peer *peer)
{
    struct sess_stats stats;

    sess_stats(peer->sess, &stats);
    return stats;
}

/* `count` calls, each of which must be answered. */
static void expect_answers(struct fx *f, unsigned count)
{
    static uint64_t id = 1000;
    struct fx_call call = {0};

    for (unsigned i = 0; i < count; i++)
        assert_int_equal(fx_call(dbe_link_peer(f->link), ++id, 60000, &call), DBE_OK);
    FX_UNTIL(f, call.ends == count);
    assert_int_equal(call.answers, count);
    assert_int_equal(call.err, DBE_OK);
}

/* ---- configuration ----------------------------------------------------------------------------------------------- */

static void limits_have_limits(void **state)
{
    static const uint16_t twice[] = {CRYPTO_SUITE_1, CRYPTO_SUITE_1}, unknown[] = {CRYPTO_SUITE_1, 0x7777};
    struct fx *f = *state;
    const struct dbe_node_config good = fx_config(&f->server, fx_world.router, fx_world.ours);
    struct dbe_node_config c = good;
    struct dbe_node *node = NULL;

    c.peers_max = DBE_PEERS_LIMIT + 1;
    assert_int_equal(dbe_node_new(f->loop, &c, &node), DBE_E_ARGUMENT);
    c = good, c.calls_max = DBE_CALLS_IN_FLIGHT_MAX + 1;
    assert_int_equal(dbe_node_new(f->loop, &c, &node), DBE_E_ARGUMENT);
    c = good, c.send_queue_max_bytes = (size_t)DBE_SEND_QUEUE_MAX_BYTES + 1;
    assert_int_equal(dbe_node_new(f->loop, &c, &node), DBE_E_ARGUMENT);
    c = good, c.suites_count = 1;
    assert_int_equal(dbe_node_new(f->loop, &c, &node), DBE_E_ARGUMENT);
    c = good, c.suites = best_first, c.suites_count = DBE_SUITES_MAX + 1;
    assert_int_equal(dbe_node_new(f->loop, &c, &node), DBE_E_ARGUMENT);
    c = good, c.suites = twice, c.suites_count = 2;
    assert_int_equal(dbe_node_new(f->loop, &c, &node), DBE_E_DUPLICATE);
    c = good, c.suites = unknown, c.suites_count = 2;
    assert_int_equal(dbe_node_new(f->loop, &c, &node), DBE_E_UNSUPPORTED);
    assert_null(node);
    c = good, c.peers_max = DBE_PEERS_LIMIT;
    assert_int_equal(dbe_node_new(f->loop, &c, &node), DBE_OK);
    dbe_node_free(node);
}

static void calls_in_flight_have_a_maximum(void **state)
{
    struct fx *f = *state;
    struct dbe_node_config c = fx_config(&f->client, fx_world.shim, fx_world.ours);
    struct fx_call call = {0};

    c.calls_max = 2;
    fx_member_again(f, &f->client, &c);
    f->server.manner = FX_SILENT;
    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    assert_int_equal(fx_call(peer, 1, 1000, &call), DBE_OK);
    assert_int_equal(fx_call(peer, 2, 1000, &call), DBE_OK);
    assert_int_equal(fx_call(peer, 3, 1000, &call), DBE_E_LIMIT);
    dbe_call_cancel(peer, 1);
    assert_int_equal(fx_call(peer, 3, 1000, &call), DBE_OK);
    dbe_link_close(f->link);
    assert_int_equal(call.ends, 2);
}

static void offered_suites_are_those_configured(void **state)
{
    struct fx *f = *state;
    struct dbe_node_config c = fx_config(&f->client, fx_world.shim, fx_world.ours);
    uint16_t list[SUITES];

    memcpy(list, other_first, sizeof list);
    c.suites = list;
    c.suites_count = 1;
    fx_member_again(f, &f->client, &c);
    memset(list, 0, sizeof list); /* it was copied */
    fx_up(f);
    assert_int_equal(dbe_peer_suite_id(dbe_link_peer(f->link)), CRYPTO_SUITE_2);
    assert_string_equal(dbe_suite_name(CRYPTO_SUITE_2), dbe_peer_suite(f->server.peer));
}

/* spec 7.8, 7.10: by count, as configured; nothing is lost. */
static void keys_move_on_as_configured(void **state)
{
    struct fx *f = *state;
    struct dbe_node_config c = fx_config(&f->client, fx_world.shim, fx_world.ours);

    c.rekey_records = 4;
    fx_member_again(f, &f->client, &c);
    fx_up(f);
    for (unsigned i = 0; i < 20; i++)
        expect_answers(f, 3);
    assert_true(session_of(dbe_link_peer(f->link)).rekeys >= 4);
    assert_int_equal(session_of(f->server.peer).rekeys, 0);
}

/* spec 7.9: by age, with the first record after it. */
static void keys_grow_old(void **state)
{
    struct fx *f = *state;
    struct dbe_node_config c = fx_config(&f->client, fx_world.shim, fx_world.ours);

    c.rekey_age_ns = 10 * BASE_NS_PER_S;
    fx_member_again(f, &f->client, &c);
    fx_up(f);
    expect_answers(f, 1);
    fx_pass_ms(9000);
    expect_answers(f, 1);
    assert_int_equal(session_of(dbe_link_peer(f->link)).rekeys, 0);
    fx_pass_ms(1001);
    expect_answers(f, 1);
    assert_int_equal(session_of(dbe_link_peer(f->link)).rekeys, 1);
}

/* ---- back-pressure ----------------------------------------------------------------------------------------------- */

enum { SMALL_QUEUE = 512 * 1024, BULK = 60000 };

static size_t bulk(uint8_t *msg, size_t cap)
{
    static uint8_t text[BULK];
    struct dbe_builder b;
    size_t len = 0;

    dbe_build_begin(&b, msg, cap, DBE_MSG_L7_CHAT_REQ, 0, 1);
    dbe_build_payload(&b, text, sizeof text);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    return len;
}

/* The queue fills, the owner is refused, the peer reads, the owner hears so, once; round after round. */
static void refused_owner_hears_when_to_go_on(void **state)
{
    struct fx *f = *state;
    struct dbe_node_config c = fx_config(&f->client, fx_world.shim, fx_world.ours);
    uint8_t msg[BULK + 100];
    const size_t len = bulk(msg, sizeof msg);
    unsigned sent = 0;

    c.send_queue_max_bytes = SMALL_QUEUE;
    fx_member_again(f, &f->client, &c);
    f->server.manner = FX_SILENT;
    fx_up(f);
    for (unsigned round = 1; round <= 5; round++) {
        struct dbe_peer *peer = dbe_link_peer(f->link);
        dbe_err err;
        while ((err = dbe_send(peer, msg, len)) == DBE_OK)
            sent++;
        assert_int_equal(err, DBE_E_LIMIT);
        assert_int_equal(dbe_send(peer, msg, len), DBE_E_LIMIT); /* twice refused, once told */
        assert_true(dbe_peer_queued_bytes(peer) <= SMALL_QUEUE);
        assert_int_equal(f->client.drained, round - 1);
        FX_UNTIL(f, f->client.drained == round);
        assert_true(dbe_peer_queued_bytes(peer) <= SMALL_QUEUE / 4);
        FX_UNTIL(f, f->server.messages == sent);
    }
    fx_turn(f, 20);
    assert_int_equal(f->client.drained, 5);
    assert_int_equal(f->client.downs, 0);
}

/* A queue that only ever holds what one turn gathers: nothing waits in the transport, and it is told all the same. */
static void queue_smaller_than_a_turn_drains_too(void **state)
{
    struct fx *f = *state;
    struct dbe_node_config c = fx_config(&f->client, fx_world.shim, fx_world.ours);
    uint8_t msg[BULK + 100];

    c.send_queue_max_bytes = 4096;
    fx_member_again(f, &f->client, &c);
    f->server.manner = FX_SILENT;
    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    assert_int_equal(dbe_send(peer, msg, bulk(msg, sizeof msg)), DBE_E_TOO_LARGE); /* it would wait for ever */
    dbe_node_cork(f->client.node);
    unsigned sent = 0;
    dbe_err err;
    while ((err = fx_send(peer, DBE_MSG_L7_CANCEL, 0, sent + 1)) == DBE_OK)
        sent++;
    assert_int_equal(err, DBE_E_LIMIT);
    dbe_node_uncork(f->client.node);
    assert_int_equal(f->client.drained, 0); /* sending never calls back */
    FX_UNTIL(f, f->client.drained == 1 && f->server.messages == sent);
    fx_turn(f, 5);
    assert_int_equal(f->client.drained, 1);
}

/* ---- keys on command --------------------------------------------------------------------------------------------- */

/* spec 7.8, 7.10: both directions, in the middle of everything. */
static void rekey_on_command_loses_nothing(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};
    unsigned calls = 0;

    f->server.manner = FX_STREAM;
    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    for (unsigned round = 0; round < 30; round++) {
        dbe_node_cork(f->client.node);
        assert_int_equal(fx_call(peer, ++calls, 60000, &call), DBE_OK);
        assert_int_equal(dbe_peer_rekey(peer), DBE_OK);
        assert_int_equal(fx_call(peer, ++calls, 60000, &call), DBE_OK);
        dbe_node_uncork(f->client.node);
        if (round % 3 == 0)
            assert_int_equal(dbe_peer_rekey(f->server.peer), DBE_OK);
        fx_turn(f, round % 4);
    }
    FX_UNTIL(f, call.ends == calls);
    assert_int_equal(call.answers, 5 * calls);
    assert_int_equal(session_of(peer).rekeys, 30);
    assert_int_equal(session_of(f->server.peer).rekeys, 10);
    dbe_peer_close(f->server.peer, DBE_E_CLOSED);
    FX_UNTIL(f, f->client.downs == 1);
}

static void channel_switches_under_traffic(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};
    struct dbe_node_stats stats;
    uint8_t before[32], after[32];
    unsigned calls = 0;

    f->server.manner = FX_STREAM;
    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    const uint16_t to = dbe_peer_suite_id(peer) == CRYPTO_SUITE_1 ? CRYPTO_SUITE_2 : CRYPTO_SUITE_1;
    assert_int_equal(dbe_peer_channel_binding(peer, before), DBE_OK);
    assert_int_equal(fx_call(peer, ++calls, 60000, &call), DBE_OK);
    assert_int_equal(dbe_peer_rehandshake(peer, &to, 1), DBE_OK);
    assert_int_equal(dbe_peer_rehandshake(peer, &to, 1), DBE_E_AGAIN);
    while (f->client.switched == 0 || f->server.switched == 0) {
        assert_int_equal(fx_call(peer, ++calls, 60000, &call), DBE_OK);
        fx_turn(f, 1);
        assert_in_range(calls, 1, 2000);
    }
    FX_UNTIL(f, call.ends == calls);
    assert_int_equal(call.answers, 5 * calls);
    assert_int_equal(dbe_peer_suite_id(peer), to);
    assert_int_equal(dbe_peer_suite_id(f->server.peer), to);
    assert_int_equal(dbe_peer_channel_binding(peer, after), DBE_OK);
    assert_memory_equal(before, after, sizeof before);
    dbe_node_stats(f->client.node, &stats);
    assert_int_equal(stats.switches, 1);
    assert_int_equal(stats.switches_refused, 0);
}

static void unwanted_suite_is_refused_and_the_channel_lives(void **state)
{
    struct fx *f = *state;
    struct dbe_node_config c = fx_config(&f->server, fx_world.router, fx_world.ours);
    struct dbe_node_stats stats;
    const uint16_t unknown = 0x7777;

    c.suites = best_first;
    c.suites_count = 1;
    fx_member_again(f, &f->server, &c);
    c = fx_config(&f->client, fx_world.shim, fx_world.ours);
    c.suites = best_first;
    c.suites_count = 1;
    fx_member_again(f, &f->client, &c);
    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    assert_int_equal(dbe_peer_rehandshake(peer, &unknown, 1), DBE_E_UNSUPPORTED);
    assert_int_equal(dbe_peer_rehandshake(peer, &best_first[1], 1), DBE_OK);
    FX_UNTIL(f, f->client.refused == 1);
    assert_int_equal(dbe_peer_suite_id(peer), CRYPTO_SUITE_1);
    expect_answers(f, 10);
    dbe_node_stats(f->client.node, &stats);
    assert_int_equal(stats.switches_refused, 1);
    assert_int_equal(dbe_peer_rehandshake(peer, best_first, 1), DBE_OK); /* the next one may go through */
    FX_UNTIL(f, f->client.switched == 1 && f->server.switched == 1);
    dbe_link_close(f->link);
    assert_int_equal(f->client.downs, 1);
}

/* ---- the node as a whole ----------------------------------------------------------------------------------------- */

static void every_channel_follows_the_node(void **state)
{
    enum { LINKS = 6 };
    struct fx *f = *state;
    struct dbe_link *links[LINKS];
    struct fx_call call = {0};

    f->server.manner = FX_ANSWER;
    fx_up(f);
    for (size_t i = 0; i < LINKS; i++)
        assert_int_equal(dbe_node_link(f->client.node, f->address, 0, -1, &links[i]), DBE_OK);
    FX_UNTIL(f, f->client.ups == LINKS + 1 && f->server.ups == LINKS + 1);
    const uint16_t *list = dbe_peer_suite_id(f->server.peer) == CRYPTO_SUITE_1 ? other_first : best_first;
    assert_int_equal(dbe_node_set_suites(f->server.node, list, DBE_SUITES_MAX + 1, true), DBE_E_ARGUMENT);
    assert_int_equal(dbe_node_set_suites(f->server.node, list, SUITES, true), DBE_OK);
    for (uint64_t id = 1; f->client.switched < LINKS + 1 || f->server.switched < LINKS + 1; id++) {
        for (size_t i = 0; i < LINKS; i++)
            assert_int_equal(fx_call(dbe_link_peer(links[i]), id, 60000, &call), DBE_OK);
        fx_pass_ms(1);
        fx_turn(f, 1);
        FX_UNTIL(f, call.ends == id * LINKS);
        assert_in_range(id, 1, 2000);
    }
    assert_int_equal(call.answers, call.ends);
    for (size_t i = 0; i < LINKS; i++)
        assert_int_equal(dbe_peer_suite_id(dbe_link_peer(links[i])), list[0]);
    fx_pass_ms(1000);
    fx_turn(f, 50);
    assert_int_equal(f->server.switched, LINKS + 1); /* and that is that */
    assert_int_equal(f->server.downs, 0);
}

/* Both ends at once: one handshake serves both. */
static void both_ends_may_change_at_once(void **state)
{
    struct fx *f = *state;

    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    const uint16_t *list = dbe_peer_suite_id(peer) == CRYPTO_SUITE_1 ? other_first : best_first;
    assert_int_equal(dbe_node_set_suites(f->server.node, list, SUITES, true), DBE_OK);
    assert_int_equal(dbe_node_set_suites(f->client.node, list, SUITES, true), DBE_OK);
    FX_UNTIL(f, f->client.switched > 0 && f->server.switched > 0);
    expect_answers(f, 20);
    fx_pass_ms(1000);
    fx_turn(f, 50);
    assert_int_equal(dbe_peer_suite_id(peer), list[0]);
    assert_int_equal(dbe_peer_suite_id(f->server.peer), list[0]);
    assert_int_equal(f->server.downs, 0);
}

/* A channel whose handshake began under the old list follows as well. */
static void late_comers_follow_the_node(void **state)
{
    struct fx *f = *state;
    struct dbe_node_config c = fx_config(&f->client, fx_world.shim, fx_world.ours);

    c.suites = best_first;
    c.suites_count = 1;
    fx_member_again(f, &f->client, &c);
    assert_int_equal(dbe_node_listen(f->server.node, f->address, NULL), DBE_OK);
    assert_int_equal(dbe_node_link(f->client.node, f->address, 0, -1, &f->link), DBE_OK);
    FX_UNTIL(f, f->client.node->peers.first->sess != NULL); /* message 1 is on its way */
    assert_int_equal(dbe_node_set_suites(f->client.node, other_first, SUITES, true), DBE_OK);
    FX_UNTIL(f, f->client.ups == 1);
    FX_UNTIL(f, f->client.switched == 1 && f->server.switched == 1);
    assert_int_equal(dbe_peer_suite_id(dbe_link_peer(f->link)), CRYPTO_SUITE_2);
    expect_answers(f, 5);
}

/* spec 6.16 */
/* The whole mesh gets another policy, one node after the other, under calls: none is lost, and both ends agree. */
static void policy_reaches_open_channels(void **state)
{
    struct fx *f = *state;

    f->server.manner = FX_ANSWER;
    fx_up(f);
    dbe_node_set_policy_digest(f->server.node, &fx_policy_like);
    FX_UNTIL(f, f->server.refused == 1 && f->client.refused == 1); /* the client has not followed yet */
    expect_answers(f, 10);
    dbe_node_set_policy_digest(f->client.node, &fx_policy_like);
    FX_UNTIL(f, f->server.switched == 1 && f->client.switched == 1);
    expect_answers(f, 10);
    assert_true(sess_same_policy(sess_policy_digest(f->server.peer->sess), &fx_policy_like));
    assert_true(sess_same_policy(sess_policy_digest(dbe_link_peer(f->link)->sess), &fx_policy_like));
    fx_pass_ms(2 * NODE_POLICY_GRACE_MS); /* and nothing comes after */
    fx_turn(f, 50);
    expect_answers(f, 1);
    assert_int_equal(f->server.downs, 0);
    assert_int_equal(f->client.downs, 0);
}

/* spec 6.16 */
static void policy_may_change_at_both_ends_at_once(void **state)
{
    struct fx *f = *state;

    f->server.manner = FX_ANSWER;
    fx_up(f);
    dbe_node_set_policy_digest(f->server.node, &fx_policy_like);
    dbe_node_set_policy_digest(f->client.node, &fx_policy_like);
    FX_UNTIL(f, f->server.switched == 1 && f->client.switched == 1);
    expect_answers(f, 10);
    assert_true(sess_same_policy(sess_policy_digest(f->server.peer->sess), &fx_policy_like));
    assert_int_equal(f->server.downs, 0);
}

/* spec 6.16 */
static void whoever_does_not_follow_the_policy_is_left(void **state)
{
    struct fx *f = *state;

    f->server.manner = FX_ANSWER;
    fx_up(f);
    dbe_node_set_policy_digest(f->server.node, &fx_policy_like);
    FX_UNTIL(f, f->server.refused == 1);
    fx_pass_ms(NODE_POLICY_GRACE_MS - 1000);
    fx_turn(f, 20);
    expect_answers(f, 5); /* in its time the channel is good */
    assert_int_equal(f->server.downs, 0);
    fx_pass_ms(2000);
    FX_UNTIL(f, f->server.downs == 1 && f->client.downs > 0);
    fx_pass_ms(5000);
    fx_turn(f, 50);
    assert_null(dbe_link_peer(f->link)); /* nor does it come back */
    assert_int_equal(dbe_link_last_error(f->link, NULL), DBE_E_POLICY);
    dbe_node_set_policy_digest(f->client.node, &fx_policy_like); /* until it follows */
    for (int i = 0; i < 20 && dbe_link_peer(f->link) == NULL; i++) {
        fx_pass_ms(1000);
        fx_turn(f, 50);
    }
    assert_non_null(dbe_link_peer(f->link));
}

/* spec 6.16 */
/* A channel that begins between the two is taken with the policy before, and follows. */
static void new_channels_may_have_the_policy_before(void **state)
{
    struct fx *f = *state;

    f->server.manner = FX_ANSWER;
    dbe_node_set_policy_digest(f->server.node, &fx_policy_like);
    fx_up(f);
    assert_true(sess_same_policy(sess_policy_digest(f->server.peer->sess), &fx_policy));
    dbe_node_set_policy_digest(f->client.node, &fx_policy_like);
    FX_UNTIL(f, f->server.switched == 1 && f->client.switched == 1);
    assert_true(sess_same_policy(sess_policy_digest(f->server.peer->sess), &fx_policy_like));
    expect_answers(f, 5);
}

static void renewed_certificate_reaches_open_channels(void **state)
{
    struct fx *f = *state;
    const struct dbe_issue shim = {.device = 0, .role = DBE_ROLE_SHIM};
    char ours[FX_NAMES_MAX];
    struct dbe_credential *fresh = NULL;
    uint8_t pk[CRYPTO_MLDSA87_PK_BYTES], serial[sizeof dbe_credential_identity(fresh)->serial];

    (void)snprintf(ours, sizeof ours, "%s/ours", fx_world.dir);
    assert_int_equal(dbe_keys_issue_ephemeral(ours, &shim, 86400000, &fresh, NULL), DBE_OK);
    fx_up(f);
    memcpy(pk, dbe_peer_public_key(f->server.peer), sizeof pk);
    memcpy(serial, dbe_peer_identity(f->server.peer)->serial, sizeof serial);
    assert_int_equal(dbe_node_set_credential(f->client.node, fx_world.worker, true), DBE_E_ARGUMENT);
    assert_int_equal(dbe_node_set_credential(f->client.node, fresh, true), DBE_OK);
    FX_UNTIL(f, f->server.switched == 1 && f->client.switched == 1);
    assert_memory_equal(dbe_peer_identity(f->server.peer)->serial, dbe_credential_identity(fresh)->serial,
                        sizeof serial);
    assert_memory_not_equal(dbe_peer_identity(f->server.peer)->serial, serial, sizeof serial);
    assert_memory_not_equal(dbe_peer_public_key(f->server.peer), pk, sizeof pk);
    expect_answers(f, 10);
    dbe_node_free(f->client.node);
    f->client.node = NULL;
    dbe_credential_free(fresh);
}

/* ---- failures
 * ------------------------------------------------------------------------------------------------------ */

/* Switch with the n-th allocation failing: it switches, or says that it did not, or the channel ends; every call is
 * answered or ends. True if nothing was left to fail. */
static bool try_failing(struct fx *f, uint64_t n)
{
    struct fx_call call = {0};
    unsigned calls = 0;

    FX_UNTIL(f, dbe_link_peer(f->link) != NULL && f->server.peer != NULL);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    const unsigned downs = f->client.downs;
    const uint16_t to = dbe_peer_suite_id(peer) == CRYPTO_SUITE_1 ? CRYPTO_SUITE_2 : CRYPTO_SUITE_1;
    base_fail_alloc_at(n);
    dbe_err err = dbe_peer_rehandshake(peer, &to, 1);
    for (uint64_t id = 1; id <= 8; id++) {
        if (f->client.downs == downs && fx_call(peer, id, 60000, &call) == DBE_OK)
            calls++;
        fx_turn(f, 4);
    }
    const bool failed = base_alloc_count() >= n;
    base_fail_alloc_at(0);
    FX_UNTIL(f, call.ends == calls);
    if (!failed) {
        assert_int_equal(err, DBE_OK);
        assert_int_equal(call.answers, 8);
        FX_UNTIL(f, dbe_peer_suite_id(peer) == to);
    }
    for (int i = 0; i < 40 && dbe_link_peer(f->link) == NULL; i++) { /* a channel that ended comes back */
        fx_pass_ms(NODE_LINK_LAST_MS);
        fx_turn(f, 10);
    }
    return !failed;
}

static void every_allocation_of_a_switch_may_fail(void **state)
{
    struct fx *f = *state;
    uint64_t n = 1;

    fx_up(f);
    while (n < 500 && !try_failing(f, n))
        n++;
    assert_in_range(n, 5, 499);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FX_BOTH(limits_have_limits),
        FX_BOTH(calls_in_flight_have_a_maximum),
        FX_BOTH(offered_suites_are_those_configured),
        FX_BOTH(keys_move_on_as_configured),
        FX_BOTH(keys_grow_old),
        FX_BOTH(refused_owner_hears_when_to_go_on),
        FX_BOTH(queue_smaller_than_a_turn_drains_too),
        FX_BOTH(rekey_on_command_loses_nothing),
        FX_BOTH(channel_switches_under_traffic),
        FX_BOTH(unwanted_suite_is_refused_and_the_channel_lives),
        FX_BOTH(every_channel_follows_the_node),
        FX_BOTH(both_ends_may_change_at_once),
        FX_BOTH(late_comers_follow_the_node),
        FX_BOTH(renewed_certificate_reaches_open_channels),
        FX_BOTH(policy_reaches_open_channels),
        FX_BOTH(policy_may_change_at_both_ends_at_once),
        FX_BOTH(whoever_does_not_follow_the_policy_is_left),
        FX_BOTH(new_channels_may_have_the_policy_before),
        FX_UDS(every_allocation_of_a_switch_may_fail),
    };
    return cmocka_run_group_tests_name("control", tests, fx_world_up, fx_world_down);
}
