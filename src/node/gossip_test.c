/* SPDX-License-Identifier: Apache-2.0
 *
 * gossip_test.c - certificates that stop counting: revoked on the spot, over several nodes, and expired; lists that are
 * no lists; every failure on the way.
 */
#include "node_fixture.h"

/* A mesh of its own, for a list cannot be taken back: nodes A - B - C in a row, each with a trust anchor of its own. */
enum { A, B, C, NODES };

struct mesh {
    struct dbe_loop *loop;
    char dir[64];
    struct fx_member m[NODES];
    struct dbe_trust *trust[NODES];
    struct dbe_credential *credential[NODES];
    struct dbe_link *b_to_a, *c_to_b;
};

static const char *const names[NODES] = {"router-43", "worker-47", "shim-0"};

static dbe_err start(struct mesh *w, int i)
{
    const struct dbe_node_config config = fx_config(&w->m[i], w->credential[i], w->trust[i]);

    return dbe_node_new(w->loop, &config, &w->m[i].node);
}

static int mesh_up(void **state)
{
    struct mesh *w = calloc(1, sizeof *w);
    const struct dbe_issue issues[NODES] = {{.device = 43, .role = DBE_ROLE_ROUTER},
                                            {.device = 47, .role = DBE_ROLE_WORKER},
                                            {.device = 0, .role = DBE_ROLE_SHIM}};

    assert_non_null(w);
    base_clock_set(&(const struct base_clock_ops){fx_mono, fx_wall, NULL});
    fx_now_ns = UINT64_C(1000) * BASE_NS_PER_S;
    (void)snprintf(w->dir, sizeof w->dir, "/tmp/dsmil-gossip-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    assert_int_equal(base_loop_new(&w->loop), DBE_OK);
    assert_int_equal(dbe_keys_init(w->dir, "gossip.test", 0, NULL), DBE_OK);
    for (int i = 0; i < NODES; i++) {
        assert_int_equal(dbe_keys_issue(w->dir, &issues[i], NULL), DBE_OK);
        assert_int_equal(dbe_credential_load(w->dir, names[i], &w->credential[i], NULL), DBE_OK);
        assert_int_equal(dbe_trust_load(w->dir, &w->trust[i], NULL), DBE_OK);
        assert_int_equal(start(w, i), DBE_OK);
    }
    *state = w;
    return 0;
}

static int mesh_down(void **state)
{
    struct mesh *w = *state;

    for (int i = NODES - 1; i >= 0; i--)
        dbe_node_free(w->m[i].node);
    for (int i = 0; i < 3; i++)
        assert_int_equal(base_loop_turn(w->loop, 0), DBE_OK);
    base_loop_free(w->loop);
    for (int i = 0; i < NODES; i++) {
        dbe_credential_free(w->credential[i]);
        dbe_trust_free(w->trust[i]);
    }
    assert_int_equal(nftw(w->dir, fx_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
    base_clock_set(NULL);
    free(w);
    return 0;
}

#define MESH_UNTIL(w, cond)                                                                                            \
    do {                                                                                                               \
        for (int turns_ = 0; !(cond) && turns_ < FX_TURNS_MAX; turns_++)                                               \
            assert_int_equal(base_loop_turn((w)->loop, 0), DBE_OK);                                                    \
        assert_true(cond);                                                                                             \
    } while (0)

static void turns(struct mesh *w, int count)
{
    for (int i = 0; i < count; i++)
        assert_int_equal(base_loop_turn(w->loop, 0), DBE_OK);
}

static void link_up(struct mesh *w, int from, int to, struct dbe_link **ret)
{
    char address[TP_ADDRESS_MAX];

    (void)snprintf(address, sizeof address, "uds:%s/%d.sock", w->dir, to);
    if (w->m[to].node->listener_count == 0)
        assert_int_equal(dbe_node_listen(w->m[to].node, address, NULL), DBE_OK);
    assert_int_equal(dbe_node_link(w->m[from].node, address, 0, -1, ret), DBE_OK);
    MESH_UNTIL(w, dbe_link_peer(*ret) != NULL);
}

static void all_up(struct mesh *w)
{
    link_up(w, B, A, &w->b_to_a);
    link_up(w, C, B, &w->c_to_b);
    MESH_UNTIL(w, w->m[A].ups == 1 && w->m[B].ups == 2);
}

static void take_back(const struct mesh *w, const char *name)
{
    assert_int_equal(dbe_keys_revoke(w->dir, name, DBE_REVOKE_KEY_COMPROMISE, NULL), DBE_OK);
}

static uint64_t number_at(const struct mesh *w, int i)
{
    struct dbe_node_stats stats;

    dbe_node_stats(w->m[i].node, &stats);
    return stats.revoked_number;
}

/* ---- the key directory
 * --------------------------------------------------------------------------------------------- */

/* spec 8.11, 12.13: a list that is written is obeyed, without any time passing; calls in flight end. */
static void revoked_live_peer_is_dropped(void **state)
{
    struct mesh *w = *state;
    struct fx_call call = {0}, back = {0};
    struct dbe_node_stats stats;

    all_up(w);
    w->m[A].manner = FX_SILENT;
    assert_int_equal(dbe_node_watch_keys(w->m[A].node, w->dir, NULL), DBE_OK);
    assert_int_equal(w->m[A].lists, 0);
    assert_int_equal(fx_call(dbe_link_peer(w->b_to_a), 1, 1000, &call), DBE_OK);
    MESH_UNTIL(w, w->m[A].messages == 1);
    w->m[B].manner = FX_SILENT;
    assert_int_equal(fx_call(w->m[A].peer, 2, 1000, &back), DBE_OK);
    take_back(w, names[B]);
    MESH_UNTIL(w, w->m[A].downs == 1);
    assert_int_equal(w->m[A].why, DBE_E_REVOKED);
    assert_non_null(strstr(w->m[A].text, "revoked"));
    assert_true(w->m[A].knew_peer);
    assert_int_equal(w->m[A].lists, 1);
    assert_int_equal(back.ends, 1);
    assert_int_equal(back.err, DBE_E_CLOSED);
    MESH_UNTIL(w, call.ends == 1);
    assert_int_equal(call.err, DBE_E_CLOSED);
    dbe_node_stats(w->m[A].node, &stats);
    assert_int_equal(stats.peers_revoked, 1);
    assert_int_equal(stats.revoked_number, 1);
    for (int i = 0; i < 5; i++) { /* and it does not come back: spec 8.11 */
        fx_pass_ms(NODE_LINK_LAST_MS);
        turns(w, 30);
    }
    assert_int_equal(w->m[A].ups, 1);
    assert_int_equal(w->m[A].why, DBE_E_REVOKED);
}

/* Where inotify sees nothing - here the directory was replaced - the look every second finds it. */
static void list_is_found_without_inotify(void **state)
{
    struct mesh *w = *state;
    char aside[80];

    all_up(w);
    assert_int_equal(dbe_node_watch_keys(w->m[A].node, w->dir, NULL), DBE_OK);
    (void)snprintf(aside, sizeof aside, "%s-aside", w->dir);
    assert_int_equal(rename(w->dir, aside), 0);
    assert_int_equal(dbe_keys_revoke(aside, names[B], DBE_REVOKE_UNSPECIFIED, NULL), DBE_OK);
    turns(w, 5);
    assert_int_equal(w->m[A].downs, 0);
    assert_int_equal(rename(aside, w->dir), 0);
    fx_pass_ms(2000 - 1); /* within two seconds */
    MESH_UNTIL(w, w->m[A].downs == 1);
    assert_int_equal(w->m[A].why, DBE_E_REVOKED);
}

static void bad_list_leaves_the_old_one_in_force(void **state)
{
    struct mesh *w = *state;
    char path[96];
    struct dbe_diag diag = {0};

    assert_int_equal(dbe_node_watch_keys(w->m[A].node, "/nonexistent", &diag), DBE_E_NOT_FOUND);
    take_back(w, names[C]);
    assert_int_equal(dbe_node_watch_keys(w->m[A].node, w->dir, NULL), DBE_OK);
    assert_int_equal(dbe_node_watch_keys(w->m[A].node, w->dir, NULL), DBE_E_STATE);
    assert_int_equal(w->m[A].lists, 1);
    assert_int_equal(w->m[A].list_number, 1);
    link_up(w, B, A, &w->b_to_a);
    (void)snprintf(path, sizeof path, "%s/ca.crl", w->dir);
    assert_int_equal(base_file_write(path, "rubbish", 7, 0644, NULL), DBE_OK);
    MESH_UNTIL(w, w->m[A].list_err != DBE_OK);
    w->m[A].list_err = DBE_OK;
    fx_pass_ms(5000);
    turns(w, 20);
    assert_int_equal(w->m[A].list_err, DBE_OK); /* told once */
    assert_int_equal(number_at(w, A), 1);
    assert_int_equal(w->m[A].downs, 0);
    assert_int_equal(unlink(path), 0);
    fx_pass_ms(1000);
    turns(w, 20);
    assert_int_equal(number_at(w, A), 1);
}

/* ---- from node to node
 * --------------------------------------------------------------------------------------------- */

/* spec 8.14, 12.13: what A learns reaches C over B, and C's certificate ends C's channel at B. */
static void lists_travel_over_nodes(void **state)
{
    struct mesh *w = *state;

    all_up(w);
    assert_int_equal(dbe_node_watch_keys(w->m[A].node, w->dir, NULL), DBE_OK);
    take_back(w, "worker-47"); /* B itself hears of it from nobody: A drops it */
    MESH_UNTIL(w, w->m[A].downs == 1);
    assert_int_equal(number_at(w, B), 0);
    assert_int_equal(dbe_keys_renew(w->dir, names[B], NULL, NULL), DBE_OK);
    dbe_link_close(w->c_to_b);
    dbe_node_free(w->m[B].node);
    dbe_credential_free(w->credential[B]);
    memset(&w->m[B], 0, sizeof w->m[B]);
    assert_int_equal(dbe_credential_load(w->dir, names[B], &w->credential[B], NULL), DBE_OK);
    assert_int_equal(start(w, B), DBE_OK);
    link_up(w, C, B, &w->c_to_b);
    link_up(w, B, A, &w->b_to_a); /* spec 12.13: a channel that comes up brings the list, and B tells C */
    MESH_UNTIL(w, number_at(w, C) == 1);
    assert_int_equal(number_at(w, B), 1);
    take_back(w, names[C]);
    MESH_UNTIL(w, w->m[B].downs == 1);
    assert_int_equal(w->m[B].why, DBE_E_REVOKED);
    assert_int_equal(number_at(w, B), 2);
    assert_int_equal(w->m[A].malformed + w->m[B].malformed + w->m[C].malformed, 0);
    assert_int_equal(w->m[B].messages, 0); /* policy never sees them */
}

static void list_from_a_peer_is_kept_in_the_directory(void **state)
{
    struct mesh *w = *state;
    char dir[64] = "/tmp/dsmil-gossip-XXXXXX", path[96], from[96];
    struct base_buf ca = {0};
    struct dbe_trust *later = NULL;
    uint64_t number = 0;

    assert_non_null(mkdtemp(dir));
    (void)snprintf(from, sizeof from, "%s/ca.crt", w->dir);
    (void)snprintf(path, sizeof path, "%s/ca.crt", dir);
    assert_int_equal(base_file_read(from, 65536, &ca, NULL), DBE_OK);
    assert_int_equal(base_file_write(path, ca.data, ca.len, 0644, NULL), DBE_OK);
    base_buf_free(&ca);
    assert_int_equal(dbe_node_watch_keys(w->m[B].node, dir, NULL), DBE_OK);
    assert_int_equal(dbe_node_watch_keys(w->m[A].node, w->dir, NULL), DBE_OK);
    all_up(w);
    take_back(w, names[C]);
    MESH_UNTIL(w, number_at(w, B) == 1);
    MESH_UNTIL(w, w->m[B].downs == 1);
    assert_int_equal(dbe_trust_load(dir, &later, NULL), DBE_OK);
    dbe_trust_revocations(later, NULL, NULL, &number);
    assert_int_equal(number, 1);
    dbe_trust_free(later);
    dbe_node_free(w->m[B].node);
    w->m[B].node = NULL;
    assert_int_equal(nftw(dir, fx_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static size_t put_list(uint8_t *msg, size_t cap, const void *payload, size_t len)
{
    struct dbe_builder b;
    size_t ret = 0;

    dbe_build_begin(&b, msg, cap, DBE_MSG_REVOCATIONS, 0, 0);
    dbe_build_payload(&b, payload, len);
    assert_int_equal(dbe_build_end(&b, &ret), DBE_OK);
    return ret;
}

/* spec 12.13: what is no list, or another CA's, is counted, and the channel lives. */
static void forged_lists_are_counted(void **state)
{
    struct mesh *w = *state;
    uint8_t msg[32 * 1024], payload[16 * 1024] = {0x0A, 0x03, 'a', 'b', 'c'};
    char other[96];
    struct dbe_trust *theirs = NULL;
    const uint8_t *der = NULL;
    size_t der_len = 0;

    all_up(w);
    struct dbe_peer *peer = dbe_link_peer(w->b_to_a);
    assert_int_equal(dbe_send(peer, msg, put_list(msg, sizeof msg, payload, 5)), DBE_OK);
    assert_int_equal(dbe_send(peer, msg, put_list(msg, sizeof msg, payload, 4)), DBE_OK);
    assert_int_equal(dbe_send(peer, msg, put_list(msg, sizeof msg, payload, 0)), DBE_OK);
    (void)snprintf(other, sizeof other, "%s/other", w->dir);
    assert_int_equal(dbe_keys_init(other, "gossip.test", 0, NULL), DBE_OK); /* of the same name even */
    assert_int_equal(dbe_keys_issue(other, &(struct dbe_issue){.device = 0, .role = DBE_ROLE_SHIM}, NULL), DBE_OK);
    assert_int_equal(dbe_keys_revoke(other, "shim-0", DBE_REVOKE_UNSPECIFIED, NULL), DBE_OK);
    assert_int_equal(dbe_trust_load(other, &theirs, NULL), DBE_OK);
    dbe_trust_revocations(theirs, &der, &der_len, NULL);
    assert_in_range(der_len, 0x80, 0x3FFF);
    payload[1] = (uint8_t)(der_len & 0x7F) | 0x80;
    payload[2] = (uint8_t)(der_len >> 7);
    memcpy(payload + 3, der, der_len);
    assert_int_equal(dbe_send(peer, msg, put_list(msg, sizeof msg, payload, der_len + 3)), DBE_OK);
    MESH_UNTIL(w, w->m[A].malformed == 4);
    dbe_trust_free(theirs);
    assert_int_equal(number_at(w, A), 0);
    assert_int_equal(w->m[A].downs, 0);
    assert_int_equal(w->m[A].messages, 0);
    struct dbe_node_stats stats;
    dbe_node_stats(w->m[A].node, &stats);
    assert_int_equal(stats.revocations_in, 4);
}

/* spec 8.14: an older list changes nothing and is no fault. */
static void older_list_is_ignored(void **state)
{
    struct mesh *w = *state;
    const uint8_t *der = NULL;
    size_t len = 0;
    uint8_t old[16 * 1024];

    take_back(w, names[C]);
    assert_int_equal(dbe_trust_load_revocations(w->trust[B], w->dir, NULL), DBE_OK);
    dbe_trust_revocations(w->trust[B], &der, &len, NULL);
    assert_in_range(len, 1, sizeof old);
    memcpy(old, der, len);
    take_back(w, names[A]);
    assert_int_equal(dbe_trust_load_revocations(w->trust[A], w->dir, NULL), DBE_OK);
    assert_int_equal(dbe_trust_set_revocations(w->trust[A], old, len, NULL), DBE_E_EXISTS);
    assert_int_equal(number_at(w, A), 2);
}

/* ---- the payload
 * ----------------------------------------------------------------------------------------------------- */

static void payload_is_protobuf(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        dbe_err err;
        const char *der;
    } rows[] = {
        {"\x0A\x03xyz", 5, DBE_OK, "xyz"},
        {"\x0A\x03xyz\x0A\x02uv", 9, DBE_OK, "uv"},                   /* the last one counts */
        {"\x10\x85\x01\x0A\x01z", 6, DBE_OK, "z"},                    /* unknown fields are ignored, spec 3.13 */
        {"\x19" "12345678\x0A\x01z\x25" "1234", 17, DBE_OK, "z"},
        {"\x12\x02hi\x0A\x01z", 7, DBE_OK, "z"},
        {"", 0, DBE_E_MALFORMED, NULL},
        {"\x0A\x00", 2, DBE_E_MALFORMED, NULL},                       /* a list of nothing is none */
        {"\x0A\x04xyz", 5, DBE_E_MALFORMED, NULL},
        {"\x0A", 1, DBE_E_MALFORMED, NULL},
        {"\x0A\x03xyz\x10", 6, DBE_E_MALFORMED, NULL},
        {"\x0B\x03xyz", 5, DBE_E_MALFORMED, NULL},                    /* groups are no longer */
        {"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01z", 12, DBE_E_MALFORMED, NULL},
        {"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 12, DBE_E_MALFORMED, NULL},
    };
    const uint8_t *der = NULL;
    size_t len = 0;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        assert_int_equal(gossip_read(rows[i].bytes, rows[i].len, &der, &len), rows[i].err);
        if (rows[i].err != DBE_OK)
            continue;
        assert_int_equal(len, strlen(rows[i].der));
        assert_memory_equal(der, rows[i].der, len);
    }
}

/* ---- time
 * ---------------------------------------------------------------------------------------------------------- */

/* spec 8.9, 8.11: at the moment that the certificate ends, the channel does. */
static void channel_ends_with_the_certificate(void **state)
{
    struct mesh *w = *state;
    const uint64_t before = fx_now_ns;
    struct dbe_node_stats stats;

    dbe_credential_free(w->credential[C]);
    assert_int_equal(dbe_keys_issue_ephemeral(w->dir, &(struct dbe_issue){.device = 0, .role = DBE_ROLE_SHIM}, 150000,
                                              &w->credential[C], NULL),
                     DBE_OK);
    const uint64_t left_ms = dbe_credential_identity(w->credential[C])->not_after_ms - base_wall_ms();
    dbe_node_free(w->m[C].node);
    memset(&w->m[C], 0, sizeof w->m[C]);
    assert_int_equal(start(w, C), DBE_OK);
    link_up(w, C, B, &w->c_to_b);
    MESH_UNTIL(w, w->m[B].ups == 1);
    for (uint64_t ms = 1000; ms < left_ms; ms += 1000) {
        fx_pass_ms(1000);
        turns(w, 2);
        assert_int_equal(w->m[B].downs, 0);
    }
    fx_pass_ms(1001);
    MESH_UNTIL(w, w->m[B].downs == 1);
    assert_int_equal(w->m[B].why, DBE_E_EXPIRED);
    dbe_node_stats(w->m[B].node, &stats);
    assert_int_equal(stats.peers_expired, 1);
    fx_now_ns = before;
}

/* ---- failures
 * -------------------------------------------------------------------------------------------------------- */

/* Revocation with the n-th allocation failing, from the file to the last node. True if nothing was left to fail. */
static bool try_failing(void **state, uint64_t n)
{
    struct mesh *w;

    assert_int_equal(mesh_up(state), 0);
    w = *state;
    all_up(w);
    take_back(w, names[C]);
    base_fail_alloc_at(n);
    dbe_err err = dbe_node_watch_keys(w->m[A].node, w->dir, NULL);
    for (int i = 0; i < 60; i++) {
        fx_pass_ms(NODE_GOSSIP_RETRY_MS);
        if (base_loop_turn(w->loop, 0) != DBE_OK)
            break;
    }
    const bool failed = base_alloc_count() >= n;
    base_fail_alloc_at(0);
    for (int i = 0; i < 200; i++) { /* what failed is tried again, or the channel ends and comes back */
        fx_pass_ms(50);
        turns(w, 1);
    }
    if (err == DBE_OK && w->m[A].list_err == DBE_OK && w->m[B].malformed == 0) {
        assert_int_equal(number_at(w, B), 1);
        assert_int_equal(w->m[B].why, DBE_E_REVOKED);
    } else {
        assert_true(failed);
    }
    assert_int_equal(mesh_down(state), 0);
    return !failed;
}

static void every_allocation_may_fail(void **state)
{
    uint64_t n = 1;

    while (n < 1000 && !try_failing(state, n))
        n += n < 12 ? 1 : 13; /* later ones lie in reading the list, which crl_test.c makes fail one by one */
    assert_in_range(n, 4, 999);
}

#define MESH(test) cmocka_unit_test_setup_teardown(test, mesh_up, mesh_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MESH(revoked_live_peer_is_dropped),
        MESH(list_is_found_without_inotify),
        MESH(bad_list_leaves_the_old_one_in_force),
        MESH(lists_travel_over_nodes),
        MESH(list_from_a_peer_is_kept_in_the_directory),
        MESH(forged_lists_are_counted),
        MESH(older_list_is_ignored),
        cmocka_unit_test(payload_is_protobuf),
        MESH(channel_ends_with_the_certificate),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("gossip", tests, NULL, NULL);
}
