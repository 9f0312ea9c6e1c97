/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_node.c - whole nodes on a simulated network: links that break and come back, calls with deadlines, streams,
 * cancelling, back-pressure, new keys and handshakes inside channels, revocation; minutes of virtual time in a moment.
 *
 * In:   --runs N (6), --seed N (1), --seconds N of virtual time a run (120)
 * Out:  one line; or what is not as it must be and how to repeat it, and the end
 * Does: every run is made twice and must leave the same trace: a failure can be looked at as often as one likes.
 *       Cryptography is the real one; its secrets come from base_random, which is seeded.
 * Not:  sleeping, sockets, threads.
 */
#include <ftw.h>
#include <unistd.h>

#include "base/loop.h"
#include "dbe/node.h"
#include "sim.h"
#include "transport/sim.h"

enum { NODES = 4, ROUTER = 0, REVOKED = 3, CALLS_MAX = 64, BULK_BYTES = 200000, TURNS_MAX = 20000000 };

static const char *const names[NODES] = {"router-43", "shim-a", "shim-b", "worker-47"};

struct call {
    uint64_t id, deadline_ns;
    unsigned parts;
    bool open;
};

struct member {
    struct run *run;
    size_t index;
    struct dbe_node *node;
    struct dbe_trust *trust;
    struct dbe_link *link;
    struct dbe_peer *peer; /* the latest that is up */
    struct base_timer *timer;
    struct call calls[CALLS_MAX];
    uint64_t next_id, ups, downs, answers, timeouts, closed, drained, switched;
    bool blocked;
};

struct run {
    struct dbe_loop *loop;
    struct sim_rng rng;
    uint64_t seed, end_ns, trace, revoke_at_ns;
    struct member members[NODES];
    uint64_t requests, limits;
};

static struct {
    char dir[64];
    struct dbe_credential *creds[NODES];
    uint8_t *crl;
    size_t crl_len;
    uint64_t seed;
} world;

static uint64_t now_ns;

#define MUST(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            (void)fprintf(stderr, "sim_node: %s:%d: %s\nsim_node: repeat with --runs 1 --seed %llu\n", __FILE__,       \
                          __LINE__, #cond, (unsigned long long)world.seed);                                            \
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

/* What happens goes into the trace: who, what, when, and a number. */
static void trace(struct member *m, unsigned what, uint64_t value)
{
    const uint64_t parts[] = {m->index, what, value, now_ns};

    for (size_t i = 0; i < BASE_ARRAY_LEN(parts); i++)
        m->run->trace = (m->run->trace ^ parts[i]) * UINT64_C(0x100000001b3) + (m->run->trace >> 29);
}

/* ---- what nodes say ---------------------------------------------------------------------------------------------- */

static size_t build(uint8_t *out, size_t cap, uint8_t type, uint16_t flags, uint64_t id, size_t payload_len)
{
    static uint8_t payload[BULK_BYTES];
    struct dbe_builder b;
    size_t len = 0;

    memset(payload, (int)(id & 0xff), payload_len);
    dbe_build_begin(&b, out, cap, type, flags, id);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, 43);
    dbe_build_payload(&b, payload, payload_len);
    MUST(dbe_build_end(&b, &len) == DBE_OK);
    return len;
}

static dbe_err say(struct member *m, struct dbe_peer *peer, uint8_t type, uint16_t flags, uint64_t id, size_t size)
{
    static uint8_t bytes[BULK_BYTES + 1024];
    dbe_err err = dbe_send(peer, bytes, build(bytes, sizeof bytes, type, flags, id, size));

    MUST(err == DBE_OK || err == DBE_E_CLOSED || err == DBE_E_LIMIT);
    m->run->limits += err == DBE_E_LIMIT;
    return err;
}

static void on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    struct member *m = ctx;
    size_t roll = sim_below(&m->run->rng, 100);

    trace(m, 1, msg->correlation_id);
    MUST(dbe_peer_identity(peer) != NULL);
    for (size_t i = 0; i < msg->payload_len; i++)
        MUST(msg->payload[i] == (uint8_t)(msg->correlation_id & 0xff));
    if (msg->type != DBE_MSG_L7_CHAT_REQ || roll < 5)
        return; /* one-way, or the silence that deadlines are for */
    if (roll < 8) {
        dbe_peer_close(peer, DBE_E_DENIED);
        return;
    }
    for (int part = 0; roll < 30 && part < 3; part++)
        (void)say(m, peer, DBE_MSG_L7_CHAT_RESP, DBE_FLAG_STREAMING, msg->correlation_id, 30);
    (void)say(m, peer, DBE_MSG_L7_CHAT_RESP, 0, msg->correlation_id, roll > 95 ? BULK_BYTES : 20);
}

static void on_up(void *ctx, struct dbe_peer *peer)
{
    struct member *m = ctx;

    m->ups++;
    m->peer = peer;
    trace(m, 2, m->ups);
}

static void on_down(void *ctx, struct dbe_peer *peer, dbe_err why, const struct dbe_diag *diag)
{
    struct member *m = ctx;

    m->downs++;
    if (m->peer == peer)
        m->peer = NULL;
    m->blocked = false;
    MUST(why != DBE_OK && diag != NULL);
    trace(m, 3, (uint64_t)why);
}

static void on_drained(void *ctx, struct dbe_peer *peer)
{
    struct member *m = ctx;

    MUST(peer == m->peer || m->index == ROUTER);
    m->drained++;
    m->blocked = false;
    trace(m, 4, m->drained);
}

static void on_switched(void *ctx, struct dbe_peer *peer, dbe_err err, const struct dbe_diag *diag)
{
    struct member *m = ctx;

    (void)diag;
    m->switched += err == DBE_OK;
    trace(m, 5, dbe_peer_suite_id(peer));
}

static const struct dbe_node_ops ops = {
    .on_message = on_message, .on_up = on_up, .on_down = on_down, .on_drained = on_drained, .on_switched = on_switched};

/* ---- calls ------------------------------------------------------------------------------------------------------- */

static void on_reply(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct call *c = ctx;

    MUST(c->open && (msg != NULL || last));
    MUST(msg == NULL || (msg->correlation_id == c->id && err == DBE_OK));
    /* a deadline is kept to the millisecond */
    MUST(now_ns <= c->deadline_ns + 2 * BASE_NS_PER_MS);
    MUST(msg != NULL || err == DBE_E_TIMEOUT || err == DBE_E_CLOSED || err == DBE_E_CANCELLED);
    MUST(err != DBE_E_TIMEOUT || now_ns >= c->deadline_ns - BASE_NS_PER_MS);
    c->parts += msg != NULL;
    MUST(c->parts <= 4);
    c->open = !last;
}

static void call(struct member *m)
{
    uint8_t bytes[512];
    struct call *c = NULL;
    dbe_err err;

    for (size_t i = 0; i < CALLS_MAX && c == NULL; i++)
        if (!m->calls[i].open)
            c = &m->calls[i];
    if (c == NULL || m->peer == NULL)
        return;
    *c = (struct call){.id = ++m->next_id << 8 | m->index, .open = true};
    c->deadline_ns = now_ns + (100 + sim_below(&m->run->rng, 3000)) * BASE_NS_PER_MS;
    err = dbe_call(m->peer, bytes, build(bytes, sizeof bytes, DBE_MSG_L7_CHAT_REQ, 0, c->id, 60), c->deadline_ns,
                   on_reply, c, NULL);
    MUST(err == DBE_OK || err == DBE_E_LIMIT || err == DBE_E_CLOSED);
    c->open = err == DBE_OK;
    m->run->requests += err == DBE_OK;
    trace(m, 6, (uint64_t)err);
}

static void cancel_one(struct member *m)
{
    for (size_t i = 0; i < CALLS_MAX && m->peer != NULL; i++)
        if (m->calls[i].open) {
            dbe_call_cancel(m->peer, m->calls[i].id);
            m->calls[i].open = false;
            return;
        }
}

/* Much at once, until it is refused; then not again until told. */
static void flood(struct member *m)
{
    for (int i = 0; i < 40 && m->peer != NULL && !m->blocked; i++)
        m->blocked = say(m, m->peer, DBE_MSG_L7_CANCEL, 0, ++m->next_id << 8 | m->index, BULK_BYTES) == DBE_E_LIMIT;
}

static void renew(struct member *m)
{
    static const uint16_t suites[2] = {CRYPTO_SUITE_1, CRYPTO_SUITE_2};
    dbe_err err;

    if (m->peer == NULL)
        return;
    err = dbe_peer_rehandshake(m->peer, &suites[sim_below(&m->run->rng, 2)], 1);
    MUST(err == DBE_OK || err == DBE_E_AGAIN || err == DBE_E_CLOSED || err == DBE_E_LIMIT);
    trace(m, 7, (uint64_t)err);
}

static void on_timer(void *ctx)
{
    struct member *m = ctx;
    size_t roll = sim_below(&m->run->rng, 1000);

    if (roll < 700)
        call(m);
    else if (roll < 760)
        cancel_one(m);
    else if (roll < 800)
        flood(m);
    else if (roll < 805)
        renew(m);
    else if (roll < 830 && m->peer != NULL)
        MUST(dbe_peer_rekey(m->peer) == DBE_OK);
    else if (roll < 833 && m->peer != NULL)
        dbe_peer_close(m->peer, DBE_E_CANCELLED);
    if (now_ns + 10 * BASE_NS_PER_S < m->run->end_ns)
        base_timer_set(m->timer, now_ns + (1 + sim_below(&m->run->rng, 400)) * BASE_NS_PER_MS);
}

/* ---- a run ------------------------------------------------------------------------------------------------------- */

static void network(struct run *r)
{
    struct tp_sim_config c = {.seed = r->seed, .delay_min_ns = 100 * BASE_NS_PER_US, .piece_max_bytes = 20000};

    c.delay_max_ns = c.delay_min_ns + sim_below(&r->rng, 50) * BASE_NS_PER_MS;
    c.bytes_per_s = sim_chance(&r->rng, 60) ? 500000 + sim_below(&r->rng, 20000000) : 0;
    c.flip_ppm = sim_chance(&r->rng, 50) ? (uint32_t)sim_below(&r->rng, 3000) : 0;
    c.cut_ppm = sim_chance(&r->rng, 50) ? (uint32_t)sim_below(&r->rng, 8000) : 0;
    c.half_open_ppm = sim_chance(&r->rng, 40) ? (uint32_t)sim_below(&r->rng, 2000) : 0;
    c.half_open_ns = BASE_NS_PER_S * (1 + sim_below(&r->rng, 20));
    c.refuse_ppm = sim_chance(&r->rng, 30) ? 100000 : 0;
    tp_sim_set(&c);
}

static void member_begin(struct run *r, size_t i)
{
    struct member *m = &r->members[i];
    struct dbe_node_config config = {.credential = world.creds[i], .ops = &ops, .ctx = m, .policy_digest = {{7}}};

    m->run = r;
    m->index = i;
    MUST(dbe_trust_load(world.dir, &m->trust, NULL) == DBE_OK);
    config.trust = m->trust;
    config.send_queue_max_bytes = 2 * 1024 * 1024;
    config.rekey_records = sim_chance(&r->rng, 50) ? 20 + sim_below(&r->rng, 200) : 0;
    MUST(dbe_node_new(r->loop, &config, &m->node) == DBE_OK);
    if (i == ROUTER) {
        MUST(dbe_node_listen(m->node, "sim:router", NULL) == DBE_OK);
        return;
    }
    MUST(dbe_node_link(m->node, "sim:router", DBE_ROLE_ROUTER, 43, &m->link) == DBE_OK);
    MUST(base_loop_timer(r->loop, on_timer, m, &m->timer) == DBE_OK);
    base_timer_set(m->timer, now_ns + BASE_NS_PER_MS);
}

/* The CA's list reaches the router, which tells the others and drops whom it names. */
static void revoke_one(struct run *r)
{
    struct member *m = &r->members[ROUTER];

    r->revoke_at_ns = 0;
    MUST(dbe_trust_set_revocations(m->trust, world.crl, world.crl_len, NULL) == DBE_OK);
    dbe_node_recheck(m->node);
}

/* Run until `end`: the clock moves to whatever is next. */
static void pass(struct run *r, uint64_t end)
{
    for (uint64_t turns = 0; now_ns < end; turns++) {
        uint64_t next;

        MUST(turns < TURNS_MAX);
        MUST(base_loop_turn(r->loop, 0) == DBE_OK);
        next = base_loop_next_ns(r->loop);
        if (next > 0)
            now_ns += BASE_MIN(next, end - now_ns);
    }
}

static void check_end(struct run *r, bool revoked)
{
    for (size_t i = 0; i < NODES; i++) {
        struct member *m = &r->members[i];
        struct dbe_node_stats stats;

        dbe_node_stats(m->node, &stats);
        MUST(stats.malformed == 0); /* nothing that was changed on the way was ever taken for a message */
        MUST(stats.calls_in_flight == 0);
        for (size_t c = 0; c < CALLS_MAX; c++)
            MUST(!m->calls[c].open);
        trace(m, 8, stats.messages_in);
    }
    if (revoked)
        MUST(r->members[REVOKED].peer == NULL);
}

static uint64_t one_run(uint64_t seed, uint64_t seconds, struct run *ret)
{
    static struct run r;
    int64_t before = sim_mem_live();
    struct sim_rng fill = {~seed};
    bool revoked;

    memset(&r, 0, sizeof r);
    world.seed = r.seed = seed;
    r.rng.state = seed;
    now_ns = 1000 * BASE_NS_PER_S;
    r.end_ns = now_ns + seconds * BASE_NS_PER_S;
    base_random_set(&(const struct base_random_ops){sim_fill_random, &fill});
    network(&r);
    MUST(base_loop_new(&r.loop) == DBE_OK);
    for (size_t i = 0; i < NODES; i++)
        member_begin(&r, i);
    revoked = sim_chance(&r.rng, 50);
    pass(&r, now_ns + seconds * BASE_NS_PER_S / 2);
    if (revoked)
        revoke_one(&r);
    pass(&r, r.end_ns);
    check_end(&r, revoked);
    for (size_t i = NODES; i-- > 0;) {
        base_timer_free(r.members[i].timer);
        dbe_node_free(r.members[i].node);
        dbe_trust_free(r.members[i].trust);
    }
    pass(&r, now_ns + 60 * BASE_NS_PER_S);
    base_loop_free(r.loop);
    base_random_set(NULL);
    MUST(sim_mem_live() == before);
    *ret = r;
    return r.trace;
}

/* ---- the mesh ---------------------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void world_up(void)
{
    static const struct dbe_issue issues[NODES] = {{.name = "router-43", .device = 43, .role = DBE_ROLE_ROUTER},
                                                   {.name = "shim-a", .device = 0, .role = DBE_ROLE_SHIM},
                                                   {.name = "shim-b", .device = 0, .role = DBE_ROLE_SHIM},
                                                   {.name = "worker-47", .device = 47, .role = DBE_ROLE_WORKER}};
    char path[128];
    struct base_buf crl = {0};

    now_ns = 1000 * BASE_NS_PER_S;
    base_clock_set(&(const struct base_clock_ops){mono, wall, NULL});
    (void)snprintf(world.dir, sizeof world.dir, "/tmp/dsmil-sim-XXXXXX");
    MUST(mkdtemp(world.dir) != NULL);
    MUST(dbe_keys_init(world.dir, "sim.test", 0, NULL) == DBE_OK);
    for (size_t i = 0; i < NODES; i++) {
        MUST(dbe_keys_issue(world.dir, &issues[i], NULL) == DBE_OK || i > 0);
        MUST(dbe_credential_load(world.dir, names[i], &world.creds[i], NULL) == DBE_OK);
    }
    MUST(dbe_keys_revoke(world.dir, names[REVOKED], DBE_REVOKE_KEY_COMPROMISE, NULL) == DBE_OK);
    (void)snprintf(path, sizeof path, "%s/ca.crl", world.dir);
    MUST(base_file_read(path, DBE_CRL_MAX_BYTES, &crl, NULL) == DBE_OK);
    world.crl = crl.data;
    world.crl_len = crl.len;
    MUST(remove(path) == 0); /* nobody knows of it when a run begins */
}

static void world_down(void)
{
    for (size_t i = 0; i < NODES; i++)
        dbe_credential_free(world.creds[i]);
    base_free(world.crl);
    MUST(nftw(world.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

int main(int argc, char **argv)
{
    uint64_t runs = 6, seed = 1, seconds = 120, requests = 0, ups = 0, switched = 0, limits = 0;

    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t value = strtoull(argv[i + 1], NULL, 10);

        if (strcmp(argv[i], "--runs") == 0)
            runs = value;
        else if (strcmp(argv[i], "--seed") == 0)
            seed = value;
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = value;
    }
    world_up();
    for (uint64_t n = 0; n < runs; n++) {
        struct run first, again;
        uint64_t traced = one_run(seed + n, seconds, &first);

        MUST(one_run(seed + n, seconds, &again) == traced);
        requests += first.requests;
        limits += first.limits;
        for (size_t i = 0; i < NODES; i++)
            ups += first.members[i].ups, switched += first.members[i].switched;
    }
    MUST(runs < 4 || (requests > 0 && switched > 0 && limits > 0 && ups > runs * 2 * (NODES - 1)));
    (void)printf("sim_node: %llu runs of %llu s, twice each, the same: %llu calls, %llu channels, %llu switches, %llu "
                 "refusals for want of room\n",
                 (unsigned long long)runs, (unsigned long long)seconds, (unsigned long long)requests,
                 (unsigned long long)ups, (unsigned long long)switched, (unsigned long long)limits);
    world_down();
    return 0;
}
