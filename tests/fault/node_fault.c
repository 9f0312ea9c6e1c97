/* SPDX-License-Identifier: Apache-2.0
 *
 * node_fault.c - two nodes, and the n-th allocation, random draw or send of them fails, for every n.
 *
 * In:   nothing   Out: one line a kind of failure; or what is not as it must be, and the end
 * Does: each time the whole life of a channel: listen, link, handshake, calls, rekey, a new handshake inside, close,
 *       connect again. Whatever fails, and whoever it fails for: calls end, by a name; nothing is delivered that was
 *       not sent; nothing leaks; and as the failure is the only one, the link is up again in the end and a call is
 *       answered.
 * Not:  the cryptographic library's own allocations; src/node's tests fail those.
 */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "dbe/node.h"
#include "sim.h"
#include "transport/sim.h"
#include "transport/transport.h"

enum { CALLS = 6, LIFE_S = 30, TURNS_MAX = 200000 };

static struct {
    char dir[64];
    struct dbe_credential *router, *shim;
    struct dbe_trust *trust[2];
    struct dbe_loop *loop;
    struct dbe_node *server, *client;
    struct dbe_link *link;
    struct dbe_peer *peer; /* of the client, when up */
    unsigned open, answered;
    uint64_t next_id;
} f;

static uint64_t now_ns, send_calls, send_fail_at;
static const char *kind;
static uint64_t nth;

#define MUST(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            (void)fprintf(stderr, "node_fault: %s:%d: %s, when %s number %llu fails\n", __FILE__, __LINE__, #cond,     \
                          kind, (unsigned long long)nth);                                                              \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static uint64_t mono(void *ctx)
{
    (void)ctx;
    return now_ns;
}

static uint64_t wall(void *ctx)
{
    (void)ctx;
    return UINT64_C(1800000000000) + now_ns / BASE_NS_PER_MS;
}

/* The linker puts this between the nodes and the transport. */
dbe_err __real_tp_send(struct tp_conn *conn, const void *data, size_t len);
dbe_err __wrap_tp_send(struct tp_conn *conn, const void *data, size_t len);
dbe_err __wrap_tp_send(struct tp_conn *conn, const void *data, size_t len)
{
    return ++send_calls == send_fail_at ? DBE_E_NOMEM : __real_tp_send(conn, data, len);
}

static void send_fail_nth(uint64_t n)
{
    send_calls = 0;
    send_fail_at = n;
}

static uint64_t send_count(void)
{
    return send_calls;
}

/* ---- what the nodes do ------------------------------------------------------------------------------------------- */

static size_t build(uint8_t *out, size_t cap, uint8_t type, uint64_t id)
{
    struct dbe_builder b;
    size_t len = 0;

    dbe_build_begin(&b, out, cap, type, 0, id);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, 43);
    dbe_build_payload(&b, "payload", 7);
    MUST(dbe_build_end(&b, &len) == DBE_OK);
    return len;
}

static void on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    uint8_t out[128];
    dbe_err err;

    (void)ctx;
    MUST(msg->payload_len == 7 && memcmp(msg->payload, "payload", 7) == 0);
    err = dbe_send(peer, out, build(out, sizeof out, DBE_MSG_L7_CHAT_RESP, msg->correlation_id));
    MUST(err == DBE_OK || err == DBE_E_NOMEM || err == DBE_E_CLOSED);
}

static void on_up(void *ctx, struct dbe_peer *peer)
{
    if (ctx != NULL)
        f.peer = peer;
}

static void on_down(void *ctx, struct dbe_peer *peer, dbe_err why, const struct dbe_diag *diag)
{
    MUST(why != DBE_OK && diag != NULL && dbe_err_name(why)[0] != '\0');
    if (ctx != NULL && f.peer == peer)
        f.peer = NULL;
}

static void on_malformed(void *ctx, struct dbe_peer *peer, dbe_err err, const struct dbe_diag *diag)
{
    (void)ctx, (void)peer, (void)diag;
    MUST(err == DBE_OK); /* nothing malformed was sent */
}

static const struct dbe_node_ops ops = {
    .on_message = on_message, .on_malformed = on_malformed, .on_up = on_up, .on_down = on_down};

static void on_reply(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    (void)ctx;
    MUST(last && f.open > 0);
    MUST(msg != NULL || err != DBE_OK);
    f.open--;
    f.answered += msg != NULL && msg->type == DBE_MSG_L7_CHAT_RESP;
}

static void call(void)
{
    uint8_t bytes[128];
    dbe_err err;

    if (f.peer == NULL)
        return;
    err = dbe_call(f.peer, bytes, build(bytes, sizeof bytes, DBE_MSG_L7_CHAT_REQ, ++f.next_id),
                   now_ns + 2 * BASE_NS_PER_S, on_reply, NULL, NULL);
    MUST(err == DBE_OK || err == DBE_E_NOMEM || err == DBE_E_CLOSED);
    f.open += err == DBE_OK;
}

/* ---- one life ---------------------------------------------------------------------------------------------------- */

static void pass_ms(uint64_t ms)
{
    uint64_t end = now_ns + ms * BASE_NS_PER_MS;

    for (unsigned turns = 0; now_ns < end; turns++) {
        uint64_t next;

        MUST(turns < TURNS_MAX && base_loop_turn(f.loop, 0) == DBE_OK);
        next = base_loop_next_ns(f.loop);
        if (next > 0)
            now_ns += BASE_MIN(next, end - now_ns);
    }
}

static bool node(struct dbe_node **ret, const struct dbe_credential *cred, struct dbe_trust *trust, void *ctx)
{
    const struct dbe_node_config config = {
        .credential = cred, .trust = trust, .ops = &ops, .ctx = ctx, .policy_digest = {{7}}};
    dbe_err err = dbe_node_new(f.loop, &config, ret);

    MUST(err == DBE_OK || err == DBE_E_NOMEM || err == DBE_E_RANDOM);
    return err == DBE_OK;
}

/* What a caller does who is refused for want of memory: the same again. */
static void ready(void)
{
    dbe_err err;

    while (base_loop_new(&f.loop) != DBE_OK)
        ;
    while (!node(&f.server, f.router, f.trust[0], NULL))
        ;
    while (!node(&f.client, f.shim, f.trust[1], &f))
        ;
    while ((err = dbe_node_listen(f.server, "sim:fault", NULL)) != DBE_OK)
        MUST(err == DBE_E_NOMEM);
    while ((err = dbe_node_link(f.client, "sim:fault", DBE_ROLE_ROUTER, 43, &f.link)) != DBE_OK)
        MUST(err == DBE_E_NOMEM);
}

static void may(dbe_err err)
{
    MUST(err == DBE_OK || err == DBE_E_NOMEM || err == DBE_E_RANDOM || err == DBE_E_AGAIN || err == DBE_E_CLOSED);
}

static void life(void)
{
    static const uint16_t suite = CRYPTO_SUITE_2;

    f.open = f.answered = 0;
    f.peer = NULL;
    ready();
    pass_ms(100);
    for (int i = 0; i < CALLS; i++) {
        call();
        if (i == 1 && f.peer != NULL)
            may(dbe_peer_rekey(f.peer));
        if (i == 2 && f.peer != NULL)
            may(dbe_peer_rehandshake(f.peer, &suite, 1));
        pass_ms(20);
    }
    if (f.peer != NULL)
        dbe_peer_close(f.peer, DBE_E_CANCELLED);
    pass_ms(LIFE_S * 1000); /* time enough for every deadline and back-off */
    MUST(f.open == 0 && f.peer != NULL);
    f.answered = 0;
    call();
    pass_ms(3000);
    MUST(f.open == 0);
    if (f.answered == 0) { /* the failure waited for this very call */
        pass_ms(LIFE_S * 1000);
        call();
        pass_ms(3000);
        MUST(f.answered == 1);
    }
    dbe_node_free(f.client);
    dbe_node_free(f.server);
    pass_ms(1);
    base_loop_free(f.loop);
}

static void every(const char *what, void (*fail_at)(uint64_t), uint64_t (*count)(void), uint64_t stride)
{
    uint64_t total;

    kind = what;
    nth = 0;
    fail_at(0);
    life();
    total = count();
    MUST(total > 5);
    for (nth = 1; nth <= total; nth += stride) {
        int64_t before = sim_mem_live();

        fail_at(nth);
        life();
        fail_at(0);
        MUST(sim_mem_live() == before);
    }
    (void)printf("node_fault: each of %llu %ss failed in turn\n", (unsigned long long)total, what);
}

/* ---- the mesh ---------------------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

int main(int argc, char **argv)
{
    const struct dbe_issue router = {.device = 43, .role = DBE_ROLE_ROUTER}, shim = {.role = DBE_ROLE_SHIM};
    uint64_t stride = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    now_ns = 1000 * BASE_NS_PER_S;
    base_clock_set(&(const struct base_clock_ops){mono, wall, NULL});
    tp_sim_set(NULL);
    (void)snprintf(f.dir, sizeof f.dir, "/tmp/dsmil-fault-XXXXXX");
    MUST(mkdtemp(f.dir) != NULL && dbe_keys_init(f.dir, "fault.test", 0, NULL) == DBE_OK);
    MUST(dbe_keys_issue_ephemeral(f.dir, &router, UINT64_C(8640000000), &f.router, NULL) == DBE_OK);
    MUST(dbe_keys_issue_ephemeral(f.dir, &shim, UINT64_C(8640000000), &f.shim, NULL) == DBE_OK);
    for (size_t i = 0; i < 2; i++)
        MUST(dbe_trust_load(f.dir, &f.trust[i], NULL) == DBE_OK);
    every("allocation", base_fail_alloc_at, base_alloc_count, stride);
    every("random draw", base_fail_random_at, base_random_count, 1);
    every("send", send_fail_nth, send_count, 1);
    dbe_credential_free(f.router);
    dbe_credential_free(f.shim);
    for (size_t i = 0; i < 2; i++)
        dbe_trust_free(f.trust[i]);
    MUST(nftw(f.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
    return 0;
}
