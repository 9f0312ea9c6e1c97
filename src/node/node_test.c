/* SPDX-License-Identifier: Apache-2.0
 *
 * node_test.c - channels: who is let in, what happens when they end, floods, failures of every allocation.
 */
#include "node_fixture.h"

#include <sys/socket.h>
#include <sys/un.h>

/* ---- coming up ------------------------------------------------------------------------------------------------- */

static void both_ends_know_each_other(void **state)
{
    struct fx *f = *state;
    uint8_t a[32] = {0}, b[32] = {1};
    struct dbe_node_stats stats;
    struct dbe_diag diag = {0};

    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    assert_string_equal(dbe_peer_identity(peer)->spiffe_id, "spiffe://ours.test/l7/router/43");
    assert_string_equal(dbe_peer_identity(f->server.peer)->spiffe_id, "spiffe://ours.test/l7/shim/0");
    assert_int_equal(dbe_peer_channel_binding(peer, a), DBE_OK);
    assert_int_equal(dbe_peer_channel_binding(f->server.peer, b), DBE_OK);
    assert_memory_equal(a, b, sizeof a);
    assert_string_equal(dbe_peer_suite(peer), dbe_peer_suite(f->server.peer));
    assert_non_null(strstr(dbe_peer_suite(peer), "MLKEM1024"));
    uint8_t sig[CRYPTO_MLDSA87_SIG_BYTES];
    struct crypto_key *key = NULL;
    assert_int_equal(dbe_credential_sign(fx_world.router, "t", "x", 1, sig), DBE_OK);
    assert_int_equal(crypto_key_from_public(dbe_peer_public_key(peer), &key), DBE_OK);
    assert_int_equal(crypto_verify(key, "t", "x", 1, sig, sizeof sig), DBE_OK);
    crypto_key_free(key);
    assert_null(dbe_peer_user(peer));
    dbe_peer_set_user(peer, f);
    assert_ptr_equal(dbe_peer_user(peer), f);
    dbe_node_stats(f->server.node, &stats);
    assert_int_equal(stats.handshakes_ok, 1);
    assert_int_equal(stats.handshakes_failed, 0);
    assert_int_equal(stats.peers, 1);
    assert_int_equal(dbe_link_last_error(f->link, &diag), DBE_OK);
}

static void bad_configuration_is_refused(void **state)
{
    struct fx *f = *state;
    struct dbe_node_config config = {.credential = fx_world.shim, .trust = fx_world.ours};
    struct dbe_node *node = NULL;
    struct dbe_link *link = NULL;
    struct dbe_diag diag = {0};

    assert_int_equal(dbe_node_new(f->loop, &config, &node), DBE_E_ARGUMENT);
    assert_int_equal(dbe_node_listen(f->server.node, "tcp:0.0.0.0:1", &diag), DBE_E_ARGUMENT);
    assert_int_equal(dbe_node_link(f->client.node, "tcp:0.0.0.0:1", 0, -1, &link), DBE_E_ARGUMENT);
    assert_null(link);
    assert_int_equal(dbe_node_listen(f->server.node, f->address, &diag), DBE_OK);
    assert_int_equal(dbe_node_listen(f->client.node, f->address, &diag), DBE_E_EXISTS);
    dbe_link_close(NULL);
    dbe_node_free(NULL);
}

/* ---- who is refused -------------------------------------------------------------------------------------------- */

/* The client fails to get in; the link says why. */
static void expect_refused(struct fx *f, uint8_t role, int device)
{
    assert_int_equal(dbe_node_listen(f->server.node, f->address, NULL), DBE_OK);
    assert_int_equal(dbe_node_link(f->client.node, f->address, role, device, &f->link), DBE_OK);
    FX_UNTIL(f, f->server.downs > 0 && f->client.downs > 0);
    assert_null(dbe_link_peer(f->link));
    assert_int_not_equal(dbe_link_last_error(f->link, NULL), DBE_OK);
}

static void replace_client(struct fx *f, const struct dbe_credential *cred, struct dbe_trust *trust)
{
    dbe_node_free(f->client.node);
    memset(&f->client, 0, sizeof f->client);
    assert_int_equal(fx_member_init(f, &f->client, cred, trust), DBE_OK);
}

/* spec 8.10 */
static void wrong_role_or_device_is_refused(void **state)
{
    struct fx *f = *state;
    struct dbe_diag diag = {0};

    expect_refused(f, DBE_ROLE_WORKER, -1);
    assert_int_equal(f->client.ups, 0);
    assert_int_equal(f->server.ups, 0);
    assert_int_equal(dbe_link_last_error(f->link, &diag), DBE_E_CERT);
    assert_non_null(strstr(diag.text, "spiffe://ours.test/l7/router/43"));
    assert_non_null(strstr(diag.text, "worker"));
    dbe_link_close(f->link);
    f->client.downs = 0;
    assert_int_equal(dbe_node_link(f->client.node, f->address, DBE_ROLE_ROUTER, 44, &f->link), DBE_OK);
    FX_UNTIL(f, f->client.downs > 0);
    assert_int_equal(dbe_link_last_error(f->link, &diag), DBE_E_CERT);
    assert_non_null(strstr(diag.text, "device 44"));
}

/* spec 6.12, 8.10 */
static void client_refuses_a_foreign_mesh(void **state)
{
    struct fx *f = *state;

    replace_client(f, fx_world.foreign, fx_world.theirs);
    expect_refused(f, DBE_ROLE_ROUTER, 43);
    assert_int_equal(f->client.why, DBE_E_CERT);
    assert_int_equal(f->client.ups, 0);
    assert_int_equal(f->server.ups, 0);
    assert_false(f->server.knew_peer);
}

/* spec 6.12, 8.10 */
static void server_refuses_a_foreign_mesh(void **state)
{
    struct fx *f = *state;
    struct dbe_node_stats stats;

    replace_client(f, fx_world.foreign, fx_world.ours); /* it trusts us; we do not trust it */
    expect_refused(f, DBE_ROLE_ROUTER, 43);
    assert_int_equal(f->server.why, DBE_E_CERT);
    assert_int_equal(f->server.ups, 0);
    assert_false(f->server.knew_peer);
    dbe_node_stats(f->server.node, &stats);
    assert_int_equal(stats.handshakes_ok, 0);
    assert_true(stats.handshakes_failed >= 1);
    assert_int_equal(stats.peers, 0);
}

static void expired_certificate_is_refused(void **state)
{
    struct fx *f = *state;
    const uint64_t before = fx_now_ns;

    fx_pass_ms(2 * 60000);
    replace_client(f, fx_world.brief, fx_world.ours);
    expect_refused(f, DBE_ROLE_ROUTER, 43);
    assert_int_equal(f->server.why, DBE_E_EXPIRED);
    fx_now_ns = before;
}

/* spec 6.16 */
static void other_policy_is_refused(void **state)
{
    struct fx *f = *state;
    const struct dbe_node_config config = {.credential = fx_world.shim,
                                           .trust = fx_world.ours,
                                           .ops = &fx_ops,
                                           .ctx = &f->client,
                                           .policy_digest = fx_policy_like};

    dbe_node_free(f->client.node);
    assert_int_equal(dbe_node_new(f->loop, &config, &f->client.node), DBE_OK);
    expect_refused(f, DBE_ROLE_ROUTER, 43);
    assert_int_equal(f->server.ups, 0);
}

/* spec 13.2 */
static void peers_have_a_maximum(void **state)
{
    struct fx *f = *state;
    const struct dbe_node_config config = {.credential = fx_world.router,
                                           .trust = fx_world.ours,
                                           .ops = &fx_ops,
                                           .ctx = &f->server,
                                           .policy_digest = fx_policy,
                                           .peers_max = 2};
    struct dbe_link *links[4];

    dbe_node_free(f->server.node);
    assert_int_equal(dbe_node_new(f->loop, &config, &f->server.node), DBE_OK);
    assert_int_equal(dbe_node_listen(f->server.node, f->address, NULL), DBE_OK);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(dbe_node_link(f->client.node, f->address, 0, -1, &links[i]), DBE_OK);
    FX_UNTIL(f, f->server.ups == 2 && f->client.downs >= 2);
    fx_turn(f, 50);
    assert_int_equal(f->server.ups, 2);
    struct dbe_node_stats stats;
    dbe_node_stats(f->server.node, &stats);
    assert_int_equal(stats.peers, 2);
}

/* ---- ends and returns ------------------------------------------------------------------------------------------ */

static void link_comes_back_when_the_listener_does(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};

    fx_up(f);
    dbe_node_free(f->server.node);
    f->server.node = NULL;
    FX_UNTIL(f, f->client.downs == 1);
    assert_null(dbe_link_peer(f->link));
    for (int i = 0; i < 10; i++) { /* nobody there: it tries, waits, tries */
        fx_pass_ms(NODE_LINK_LAST_MS);
        fx_turn(f, 3);
    }
    assert_int_equal(dbe_link_last_error(f->link, NULL), DBE_E_UNAVAILABLE);
    assert_int_equal(f->client.downs, 1); /* an attempt that met nobody is no channel that ended */
    assert_int_equal(fx_member_init(f, &f->server, fx_world.router, fx_world.ours), DBE_OK);
    assert_int_equal(dbe_node_listen(f->server.node, f->address, NULL), DBE_OK);
    fx_pass_ms(NODE_LINK_LAST_MS);
    FX_UNTIL(f, f->client.ups == 2 && f->server.ups == 2);
    assert_int_equal(dbe_link_last_error(f->link, NULL), DBE_OK);
    assert_int_equal(fx_call(dbe_link_peer(f->link), 1, 1000, &call), DBE_OK);
    FX_UNTIL(f, call.ends == 1);
    assert_int_equal(call.answers, 1);
}

struct tries {
    unsigned count;
    uint64_t shortest_late_ms, longest_ms; /* late: after the eighth */
};

/* Attempts of the link over 20 s of virtual time, in steps of 5 ms. */
static struct tries tries_of(struct fx *f)
{
    struct tries t = {.shortest_late_ms = UINT64_MAX};
    uint64_t last = fx_now_ns, due = f->link->due.at_ns;

    for (int i = 0; i < 4000; i++) {
        fx_pass_ms(5);
        fx_turn(f, 3);
        if (f->link->due.at_ns == due || f->link->due.at_ns <= fx_now_ns)
            continue; /* an attempt has no due time while it runs */
        const uint64_t took_ms = (fx_now_ns - last) / BASE_NS_PER_MS;
        if (++t.count > 8)
            t.shortest_late_ms = BASE_MIN(t.shortest_late_ms, took_ms);
        t.longest_ms = BASE_MAX(t.longest_ms, took_ms);
        last = fx_now_ns;
        due = f->link->due.at_ns;
    }
    return t;
}

static void back_off_doubles_and_stays_below_its_limit(void **state)
{
    struct fx *f = *state;

    /* Somebody listens, and is never who is expected. */
    assert_int_equal(dbe_node_listen(f->server.node, f->address, NULL), DBE_OK);
    assert_int_equal(dbe_node_link(f->client.node, f->address, DBE_ROLE_AUDIT, -1, &f->link), DBE_OK);
    const struct tries t = tries_of(f);
    assert_int_equal(dbe_link_last_error(f->link, NULL), DBE_E_CERT);
    assert_in_range(t.count, 12, 40);
    assert_in_range(t.shortest_late_ms, NODE_LINK_LAST_MS / 2 - 5, NODE_LINK_LAST_MS + 5);
}

static void who_begins_to_listen_is_found_soon(void **state)
{
    struct fx *f = *state;

    assert_int_equal(dbe_node_link(f->client.node, f->address, 0, -1, &f->link), DBE_OK);
    const struct tries t = tries_of(f);
    assert_int_equal(dbe_link_last_error(f->link, NULL), DBE_E_UNAVAILABLE);
    assert_in_range(t.longest_ms, 1, NODE_LINK_ABSENT_MS + 5);
    assert_in_range(t.shortest_late_ms, NODE_LINK_ABSENT_MS / 2 - 5, NODE_LINK_ABSENT_MS);
}

static void closing_ends_both_sides(void **state)
{
    struct fx *f = *state;

    fx_up(f);
    dbe_peer_close(f->server.peer, DBE_E_DENIED);
    assert_int_equal(f->server.downs, 1);
    assert_int_equal(f->server.why, DBE_E_DENIED);
    assert_true(f->server.knew_peer);
    FX_UNTIL(f, f->client.downs == 1);
    assert_int_equal(f->client.why, DBE_E_CLOSED);
    fx_pass_ms(NODE_LINK_FIRST_MS); /* and a link stays a link */
    FX_UNTIL(f, f->client.ups == 2);
    dbe_link_close(f->link);
    assert_int_equal(f->client.downs, 2);
    FX_UNTIL(f, f->server.downs == 2);
    fx_pass_ms(10000);
    fx_turn(f, 10);
    assert_int_equal(f->client.ups, 2);
}

static void close_inside_callbacks(void **state)
{
    struct fx *f = *state;
    struct fx_call call = {0};

    f->server.manner = FX_CLOSE;
    fx_up(f);
    struct dbe_peer *peer = dbe_link_peer(f->link);
    assert_int_equal(fx_call(peer, 1, 1000, &call), DBE_OK);
    assert_int_equal(fx_call(peer, 2, 1000, &call), DBE_OK); /* same batch: not delivered after the close */
    FX_UNTIL(f, f->client.downs == 1);
    assert_int_equal(f->server.messages, 1);
    assert_int_equal(call.ends, 2);
    assert_int_equal(call.err, DBE_E_CLOSED);
}

/* ---- strangers ------------------------------------------------------------------------------------------------- */

static int raw_connect(const struct fx *f)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    (void)snprintf(addr.sun_path, sizeof addr.sun_path, "%s", f->address + 4);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

static void half_open_flood_is_bounded(void **state)
{
    enum { FLOOD = 200 };
    struct fx *f = *state;
    int fds[FLOOD];
    struct dbe_node_stats stats;

    assert_int_equal(dbe_node_listen(f->server.node, f->address, NULL), DBE_OK);
    for (size_t i = 0; i < FLOOD; i++) {
        fds[i] = raw_connect(f);
        fx_turn(f, 1);
        assert_true(f->server.node->half_open_count <= NODE_HALF_OPEN_MAX);
    }
    FX_UNTIL(f, f->server.downs == FLOOD - NODE_HALF_OPEN_MAX);
    assert_int_equal(f->server.node->half_open_count, NODE_HALF_OPEN_MAX);
    for (const struct dbe_peer *p = f->server.node->half_open.first; p != NULL; p = p->next)
        assert_null(p->sess); /* who says nothing costs no keys */
    assert_int_equal(dbe_node_link(f->client.node, f->address, 0, -1, &f->link), DBE_OK);
    FX_UNTIL(f, dbe_link_peer(f->link) != NULL && f->server.ups == 1); /* a member still gets in */
    fx_pass_ms(DBE_HANDSHAKE_TIMEOUT_MS + 1);
    FX_UNTIL(f, f->server.node->half_open_count == 0);
    assert_int_equal(f->server.why, DBE_E_TIMEOUT);
    dbe_node_stats(f->server.node, &stats);
    assert_int_equal(stats.handshakes_failed, FLOOD);
    assert_int_equal(stats.peers, 1);
    for (size_t i = 0; i < FLOOD; i++)
        (void)close(fds[i]);
}

static void junk_is_no_handshake(void **state)
{
    static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    struct fx *f = *state;
    struct fx_call call = {0};
    uint8_t junk[4096];

    fx_up(f);
    for (unsigned i = 0; i < 64; i++) {
        int fd = raw_connect(f);
        for (size_t k = 0; k < sizeof junk; k++)
            junk[k] = (uint8_t)(i < 32 ? i * 8 : k * i + i);
        if (i == 0)
            assert_true(send(fd, http, sizeof http, MSG_NOSIGNAL) > 0);
        else
            assert_true(send(fd, junk, sizeof junk, MSG_NOSIGNAL) > 0);
        fx_turn(f, 3);
        (void)close(fd);
        FX_UNTIL(f, f->server.downs == i + 1);
    }
    assert_int_equal(f->server.ups, 1);
    assert_int_equal(fx_call(dbe_link_peer(f->link), 1, 1000, &call), DBE_OK); /* nobody else noticed */
    FX_UNTIL(f, call.ends == 1);
    assert_int_equal(call.answers, 1);
}

/* ---- failures -------------------------------------------------------------------------------------------------- */

/* Connect and call with the n-th allocation (or random draw) failing. True if nothing was left to fail. */
static bool try_failing(struct fx *f, uint64_t n, void (*fail_at)(uint64_t), uint64_t (*count)(void))
{
    struct fx_call call = {0};
    dbe_err err;

    memset(&f->server, 0, sizeof f->server);
    memset(&f->client, 0, sizeof f->client);
    fail_at(n);
    err = fx_member_init(f, &f->server, fx_world.router, fx_world.ours);
    if (err == DBE_OK)
        err = fx_member_init(f, &f->client, fx_world.shim, fx_world.ours);
    if (err == DBE_OK)
        err = dbe_node_listen(f->server.node, f->address, NULL);
    if (err == DBE_OK)
        err = dbe_node_link(f->client.node, f->address, 0, -1, &f->link);
    for (int i = 0; err == DBE_OK && i < 400 && call.ends == 0; i++) {
        fx_pass_ms(20); /* links that failed come back */
        if (base_loop_turn(f->loop, 0) != DBE_OK)
            break;
        struct dbe_peer *peer = dbe_link_peer(f->link);
        if (peer != NULL && peer->call_count == 0 && fx_call(peer, 1, 500, &call) != DBE_OK)
            call.ends = 0;
    }
    const bool failed = count() >= n;
    fail_at(0);
    if (err == DBE_OK && call.ends == 0 && failed == false)
        fail_msg("no answer although nothing failed");
    dbe_node_free(f->client.node);
    dbe_node_free(f->server.node);
    f->client.node = f->server.node = NULL;
    fx_turn(f, 3);
    return !failed;
}

static void every_allocation_may_fail(void **state)
{
    struct fx *f = *state;
    uint64_t n = 1;

    dbe_node_free(f->client.node);
    dbe_node_free(f->server.node);
    while (n < 2000 && !try_failing(f, n, base_fail_alloc_at, base_alloc_count))
        n++;
    assert_in_range(n, 20, 1999); /* it did fail often, and it came to an end */
}

static void every_random_draw_may_fail(void **state)
{
    struct fx *f = *state;
    uint64_t n = 1;

    dbe_node_free(f->client.node);
    dbe_node_free(f->server.node);
    while (n < 200 && !try_failing(f, n, base_fail_random_at, base_random_count))
        n++;
    assert_in_range(n, 4, 199);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FX_BOTH(both_ends_know_each_other),
        FX_BOTH(bad_configuration_is_refused),
        FX_BOTH(wrong_role_or_device_is_refused),
        FX_BOTH(client_refuses_a_foreign_mesh),
        FX_BOTH(server_refuses_a_foreign_mesh),
        FX_BOTH(expired_certificate_is_refused),
        FX_BOTH(other_policy_is_refused),
        FX_BOTH(peers_have_a_maximum),
        FX_BOTH(link_comes_back_when_the_listener_does),
        FX_BOTH(back_off_doubles_and_stays_below_its_limit),
        FX_BOTH(who_begins_to_listen_is_found_soon),
        FX_BOTH(closing_ends_both_sides),
        FX_BOTH(close_inside_callbacks),
        FX_UDS(half_open_flood_is_bounded),
        FX_UDS(junk_is_no_handshake),
        FX_BOTH(every_allocation_may_fail),
        FX_BOTH(every_random_draw_may_fail),
    };
    return cmocka_run_group_tests_name("node", tests, fx_world_up, fx_world_down);
}
