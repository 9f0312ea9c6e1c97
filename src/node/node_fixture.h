/* SPDX-License-Identifier: Apache-2.0
 *
 * node_fixture.h - for node tests: two meshes with real keys, members that record what they are told, a virtual clock.
 */
#ifndef NODE_NODE_FIXTURE_H
#define NODE_NODE_FIXTURE_H

#include <stddef.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node_impl.h"

enum { FX_TURNS_MAX = 20000, FX_NAMES_MAX = 128 };

/* What a member does with a request. */
enum fx_manner { FX_ANSWER, FX_STREAM, FX_SILENT, FX_REFUSE, FX_CLOSE };

struct fx_member {
    struct dbe_node *node;
    struct dbe_peer *peer; /* the latest that came up and is not down */
    enum fx_manner manner;
    unsigned ups, downs, messages, malformed, drained, switched, refused, lists;
    dbe_err why, list_err;
    uint64_t list_number;
    char text[192];
    bool knew_peer; /* at on_down */
    uint64_t last_id;
    uint8_t last_type;
    size_t last_payload;
};

/* What a caller heard. */
struct fx_call {
    unsigned answers, ends;
    dbe_err err;
    uint8_t type;
    bool last;
};

struct fx {
    struct dbe_loop *loop;
    char dir[64], address[TP_ADDRESS_MAX];
    struct fx_member server, client;
    struct dbe_link *link;
};

/* Made once: keys are the slow part. */
struct fx_world {
    char dir[64];
    struct dbe_trust *ours, *theirs;
    struct dbe_credential *router, *shim, *worker, *foreign, *brief;
};

static struct fx_world fx_world;
static uint64_t fx_now_ns;

static uint64_t fx_mono(void *ctx)
{
    (void)ctx;
    return fx_now_ns;
}

static uint64_t fx_wall(void *ctx)
{
    (void)ctx;
    return UINT64_C(1800000000000) + fx_now_ns / BASE_NS_PER_MS;
}

static inline void fx_pass_ms(uint64_t ms)
{
    fx_now_ns += ms * BASE_NS_PER_MS;
}

/* ---- messages -------------------------------------------------------------------------------------------------- */

static inline size_t fx_build(uint8_t *out, size_t cap, uint8_t type, uint16_t flags, uint64_t id, const char *payload)
{
    struct dbe_builder b;
    size_t len = 0;

    dbe_build_begin(&b, out, cap, type, flags, id);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, 43);
    dbe_build_payload(&b, payload, strlen(payload));
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    return len;
}

static inline dbe_err fx_send(struct dbe_peer *peer, uint8_t type, uint16_t flags, uint64_t id)
{
    uint8_t msg[256];
    size_t len = fx_build(msg, sizeof msg, type, flags, id, "payload");

    return dbe_send(peer, msg, len);
}

static void fx_on_reply(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct fx_call *c = ctx;

    c->answers += msg != NULL;
    c->ends += last;
    c->err = err;
    c->last = last;
    c->type = msg != NULL ? msg->type : 0;
    assert_true(msg != NULL || last);
}

static inline dbe_err fx_call(struct dbe_peer *peer, uint64_t id, uint64_t timeout_ms, struct fx_call *call)
{
    uint8_t msg[256];
    size_t len = fx_build(msg, sizeof msg, DBE_MSG_L7_CHAT_REQ, 0, id, "question");

    return dbe_call(peer, msg, len, fx_now_ns + timeout_ms * BASE_NS_PER_MS, fx_on_reply, call, NULL);
}

/* ---- members --------------------------------------------------------------------------------------------------- */

static void fx_on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    struct fx_member *m = ctx;
    dbe_err err = DBE_OK;

    m->messages++;
    m->last_id = msg->correlation_id;
    m->last_type = msg->type;
    m->last_payload = msg->payload_len;
    switch (m->manner) {
    case FX_ANSWER: err = fx_send(peer, DBE_MSG_L7_CHAT_RESP, 0, msg->correlation_id); break;
    case FX_STREAM:
        for (int i = 0; i < 5 && err == DBE_OK; i++)
            err = fx_send(peer, DBE_MSG_L7_CHAT_RESP, i < 4 ? DBE_FLAG_STREAMING : 0, msg->correlation_id);
        break;
    case FX_REFUSE: err = fx_send(peer, DBE_MSG_ERROR, 0, msg->correlation_id); break;
    case FX_CLOSE: dbe_peer_close(peer, DBE_E_DENIED); break;
    case FX_SILENT: break;
    }
    (void)err; /* tests that make sending fail look at the outcome */
}

static void fx_on_malformed(void *ctx, struct dbe_peer *peer, dbe_err err, const struct dbe_diag *diag)
{
    (void)peer;
    assert_int_not_equal(err, DBE_OK);
    assert_non_null(diag);
    ((struct fx_member *)ctx)->malformed++;
}

static void fx_on_up(void *ctx, struct dbe_peer *peer)
{
    struct fx_member *m = ctx;

    m->ups++;
    m->peer = peer;
    assert_non_null(dbe_peer_identity(peer));
}

static void fx_on_down(void *ctx, struct dbe_peer *peer, dbe_err why, const struct dbe_diag *diag)
{
    struct fx_member *m = ctx;

    m->downs++;
    m->why = why;
    m->knew_peer = dbe_peer_identity(peer) != NULL;
    (void)snprintf(m->text, sizeof m->text, "%s", diag->text);
    if (m->peer == peer)
        m->peer = NULL;
    assert_int_equal(fx_send(peer, DBE_MSG_L7_CANCEL, 0, 1), DBE_E_CLOSED);
}

static void fx_on_drained(void *ctx, struct dbe_peer *peer)
{
    (void)peer;
    ((struct fx_member *)ctx)->drained++;
}

static void fx_on_switched(void *ctx, struct dbe_peer *peer, dbe_err err, const struct dbe_diag *diag)
{
    struct fx_member *m = ctx;

    assert_non_null(dbe_peer_identity(peer));
    assert_non_null(diag);
    m->switched += err == DBE_OK;
    m->refused += err != DBE_OK;
}

static void fx_on_revocations(void *ctx, uint64_t number, dbe_err err, const struct dbe_diag *diag)
{
    struct fx_member *m = ctx;

    assert_non_null(diag);
    m->lists += err == DBE_OK;
    m->list_err = err;
    m->list_number = number;
}

static const struct dbe_node_ops fx_ops = {.on_message = fx_on_message,
                                           .on_malformed = fx_on_malformed,
                                           .on_up = fx_on_up,
                                           .on_down = fx_on_down,
                                           .on_drained = fx_on_drained,
                                           .on_switched = fx_on_switched,
                                           .on_revocations = fx_on_revocations};

/* Of two policies: their digests begin alike (spec 6.16). */
static const struct dbe_policy_digest fx_policy = {{7}}, fx_policy_like = {{7, [8] = 1}};

static inline struct dbe_node_config fx_config(struct fx_member *m, const struct dbe_credential *cred,
                                               struct dbe_trust *trust)
{
    return (struct dbe_node_config){
        .credential = cred, .trust = trust, .ops = &fx_ops, .ctx = m, .policy_digest = fx_policy};
}

static inline dbe_err fx_member_init(struct fx *f, struct fx_member *m, const struct dbe_credential *cred,
                                     struct dbe_trust *trust)
{
    const struct dbe_node_config config = fx_config(m, cred, trust);

    return dbe_node_new(f->loop, &config, &m->node);
}

/* The member anew, otherwise configured. */
static inline void fx_member_again(struct fx *f, struct fx_member *m, const struct dbe_node_config *config)
{
    dbe_node_free(m->node);
    memset(m, 0, sizeof *m);
    assert_int_equal(dbe_node_new(f->loop, config, &m->node), DBE_OK);
}

static inline void fx_turn(struct fx *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(base_loop_turn(f->loop, 0), DBE_OK);
}

#define FX_UNTIL(f, cond)                                                                                              \
    do {                                                                                                               \
        int turns_ = 0;                                                                                                \
        while (!(cond) && turns_++ < FX_TURNS_MAX)                                                                     \
            fx_turn(f, 1);                                                                                             \
        assert_true(cond);                                                                                             \
    } while (0)

/* Server listens, client links, both are up. */
static inline void fx_up(struct fx *f)
{
    assert_int_equal(dbe_node_listen(f->server.node, f->address, NULL), DBE_OK);
    assert_int_equal(dbe_node_link(f->client.node, f->address, DBE_ROLE_ROUTER, 43, &f->link), DBE_OK);
    FX_UNTIL(f, f->server.peer != NULL && dbe_link_peer(f->link) != NULL);
}

static inline int fx_setup(void **state, bool uds)
{
    struct fx *f = calloc(1, sizeof *f);

    assert_non_null(f);
    base_clock_set(&(const struct base_clock_ops){fx_mono, fx_wall, NULL});
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/dsmil-node-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->address, sizeof f->address, uds ? "uds:%s/a.sock" : "inproc:%s", f->dir);
    assert_int_equal(base_loop_new(&f->loop), DBE_OK);
    assert_int_equal(fx_member_init(f, &f->server, fx_world.router, fx_world.ours), DBE_OK);
    assert_int_equal(fx_member_init(f, &f->client, fx_world.shim, fx_world.ours), DBE_OK);
    *state = f;
    return 0;
}

static inline int fx_setup_uds(void **state)
{
    return fx_setup(state, true);
}

static inline int fx_setup_inproc(void **state)
{
    return fx_setup(state, false);
}

static inline int fx_teardown(void **state)
{
    struct fx *f = *state;

    dbe_node_free(f->client.node);
    dbe_node_free(f->server.node);
    fx_turn(f, 3);
    base_loop_free(f->loop);
    assert_int_equal(rmdir(f->dir), 0);
    base_clock_set(NULL);
    free(f);
    return 0;
}

/* ---- the two meshes -------------------------------------------------------------------------------------------- */

static int fx_remove(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static inline int fx_world_up(void **state)
{
    struct fx_world *w = &fx_world;
    const struct dbe_issue router = {.device = 43, .role = DBE_ROLE_ROUTER};
    const struct dbe_issue shim = {.device = 0, .role = DBE_ROLE_SHIM};
    const struct dbe_issue worker = {.device = 47, .role = DBE_ROLE_WORKER};
    const uint64_t day = 86400000, minute = 60000;
    char ours[FX_NAMES_MAX], theirs[FX_NAMES_MAX];

    (void)state;
    fx_now_ns = UINT64_C(1000) * BASE_NS_PER_S;
    base_clock_set(&(const struct base_clock_ops){fx_mono, fx_wall, NULL});
    (void)snprintf(w->dir, sizeof w->dir, "/tmp/dsmil-world-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    (void)snprintf(ours, sizeof ours, "%s/ours", w->dir);
    (void)snprintf(theirs, sizeof theirs, "%s/theirs", w->dir);
    assert_int_equal(dbe_keys_init(ours, "ours.test", 0, NULL), DBE_OK);
    assert_int_equal(dbe_keys_init(theirs, "theirs.test", 0, NULL), DBE_OK);
    assert_int_equal(dbe_trust_load(ours, &w->ours, NULL), DBE_OK);
    assert_int_equal(dbe_trust_load(theirs, &w->theirs, NULL), DBE_OK);
    assert_int_equal(dbe_keys_issue_ephemeral(ours, &router, day, &w->router, NULL), DBE_OK);
    assert_int_equal(dbe_keys_issue_ephemeral(ours, &shim, day, &w->shim, NULL), DBE_OK);
    assert_int_equal(dbe_keys_issue_ephemeral(ours, &worker, day, &w->worker, NULL), DBE_OK);
    assert_int_equal(dbe_keys_issue_ephemeral(ours, &shim, minute, &w->brief, NULL), DBE_OK);
    assert_int_equal(dbe_keys_issue_ephemeral(theirs, &shim, day, &w->foreign, NULL), DBE_OK);
    return 0;
}

static inline int fx_world_down(void **state)
{
    struct fx_world *w = &fx_world;

    (void)state;
    dbe_credential_free(w->router);
    dbe_credential_free(w->shim);
    dbe_credential_free(w->worker);
    dbe_credential_free(w->foreign);
    dbe_credential_free(w->brief);
    dbe_trust_free(w->ours);
    dbe_trust_free(w->theirs);
    assert_int_equal(nftw(w->dir, fx_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
    return 0;
}

#define FX_BOTH(test)                                                                                                  \
    cmocka_unit_test_setup_teardown(test, fx_setup_uds, fx_teardown),                                                  \
        cmocka_unit_test_setup_teardown(test, fx_setup_inproc, fx_teardown)
#define FX_UDS(test) cmocka_unit_test_setup_teardown(test, fx_setup_uds, fx_teardown)

#endif
