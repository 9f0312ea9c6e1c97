/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_router.c - what the router costs: the time it adds to a message, and how many it passes on one core.
 *
 * Three processes over Unix sockets: this one asks as a gateway would, with one claim token for all requests; the
 * router is the program itself; the worker answers at once. Beside it, in the same run, the same requests go over a
 * direct channel from gateway to worker; and, where the audit log's program is named, through a second router that
 * tells that log of every decision, in turns with the first: what the audit costs is the ratio of both.
 *
 * Out: latencies of single requests both ways and the difference, requests a second with many in flight, the router's
 *      CPU time for one; `--json FILE` writes the same as JSON.
 *
 * usage: bench_router ROUTER_PROGRAM [--audit AUDIT_PROGRAM] [--json FILE]
 */
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/loop.h"
#include "bench/median.h"
#include "dbe/node.h"
#include "policy/policy.h"

enum {
    ROUTER = 43,
    WORKER = 47,
    AUDIT = 14,
    PAYLOAD = 64,
    SINGLES = 4000, /* requests one after the other, each way, in turns */
    TURN = 200,     /* of one way before it is the other's turn */
    WINDOW = 256,   /* requests in flight */
    BURST_S = 3,
    SLICES = 3,
    PACED_EACH_MS = 40, /* requests; slower than the log writes, so that it is not its loss that is measured */
    PACED_MS = 1000,
    PACED_SLICES = 9,
    DEADLINE_S = 30,
};

#define MUST(what) ((what) ? (void)0 : die(#what, __LINE__))

static char dir[] = "/tmp/dsmil-bench-router-XXXXXX";

static _Noreturn void die(const char *what, int line)
{
    (void)fprintf(stderr, "bench_router: line %d: %s\n", line, what);
    exit(1);
}

/* ---- a node --------------------------------------------------------------------------------------------------- */

struct node {
    struct dbe_loop *loop;
    struct dbe_credential *credential;
    struct dbe_trust *trust;
    struct dbe_node *node;
};

static void open_node(struct node *n, const char *name, const struct dbe_node_ops *ops, void *ctx)
{
    static struct pol_policy policy;
    struct dbe_node_config config = {.ops = ops, .ctx = ctx};

    pol_policy_default(&policy);
    MUST(dbe_trust_load(dir, &n->trust, NULL) == DBE_OK);
    MUST(dbe_credential_load(dir, name, &n->credential, NULL) == DBE_OK);
    MUST(base_loop_new(&n->loop) == DBE_OK);
    config.credential = n->credential;
    config.trust = n->trust;
    config.policy_digest = pol_policy_digest(&policy);
    MUST(dbe_node_new(n->loop, &config, &n->node) == DBE_OK);
}

static const char *address(const char *name)
{
    static char text[128];

    (void)snprintf(text, sizeof text, "uds:%s/%s.sock", dir, name);
    return text;
}

/* ---- the worker ------------------------------------------------------------------------------------------------ */

/* ready; one model with profile llm-7b-amx; 10000 requests at once: the fields of an L7ModelStatus */
static const uint8_t status[] = {0x0a, 0x11, 0x0a, 0x01, 'm', 0x12, 0x0a, 'l',  'l',  'm',  '-',  '7',
                                 'b',  '-',  'a',  'm',  'x', 0x40, 0x2f, 0x18, 0x90, 0x4e, 0x30, 0x01};

static void on_worker_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    static uint8_t out[4096];
    static const uint16_t rewritten[] = {DBE_TLV_DEVICE_ID_SRC, DBE_TLV_DEVICE_ID_DST,  DBE_TLV_TIMEOUT_MS,
                                         DBE_TLV_LAYER_PATH,    DBE_TLV_L7_CLAIM_TOKEN, 0};
    bool asked = msg->type == DBE_MSG_L7_MODEL_STATUS;
    struct dbe_builder b;
    size_t len;

    (void)ctx;
    if (msg->type != DBE_MSG_L7_CHAT_REQ && !asked)
        return;
    /* A status that says it is the last: the router asks anew every second. */
    dbe_build_begin(&b, out, sizeof out, asked ? DBE_MSG_L7_MODEL_STATUS : DBE_MSG_L7_CHAT_RESP,
                    DBE_FLAG_REPLAY_PROTECTED, msg->correlation_id);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, WORKER);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, dbe_peer_identity(peer)->device);
    dbe_build_copy_tlvs(&b, msg, rewritten);
    dbe_build_payload(&b, asked ? status : msg->payload, asked ? sizeof status : msg->payload_len);
    MUST(dbe_build_end(&b, &len) == DBE_OK);
    MUST(dbe_send(peer, out, len) == DBE_OK);
}

static _Noreturn void be_worker(void)
{
    static const struct dbe_node_ops ops = {.on_message = on_worker_message};
    struct node n = {0};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    open_node(&n, "worker-47", &ops, NULL);
    MUST(dbe_node_listen(n.node, address("worker"), NULL) == DBE_OK);
    MUST(base_loop_run(n.loop) == DBE_OK);
    _exit(0);
}

static _Noreturn void be_router(const char *program, const char *name, bool audited)
{
    char listen_at[160], link_to[160], log_at[160];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)snprintf(listen_at, sizeof listen_at, "%s", address(name));
    (void)snprintf(log_at, sizeof log_at, "%s", address("log"));
    (void)snprintf(link_to, sizeof link_to, "%s", address("worker"));
    MUST(freopen("/dev/null", "w", stderr) != NULL);
    execl(program, program, "--keys", dir, "--listen", listen_at, "--link-worker-47", link_to,
          audited ? "--audit" : (char *)NULL, log_at, (char *)NULL);
    _exit(127);
}

static _Noreturn void be_log(const char *program)
{
    char listen_at[160], log_in[160];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)snprintf(listen_at, sizeof listen_at, "%s", address("log"));
    (void)snprintf(log_in, sizeof log_in, "%s/log", dir);
    MUST(freopen("/dev/null", "w", stderr) != NULL);
    execl(program, program, "--keys", dir, "--listen", listen_at, "--audit-dir", log_in, (char *)NULL);
    _exit(127);
}

/* ---- the gateway ----------------------------------------------------------------------------------------------- */

struct gateway {
    struct node node;
    struct way { /* to the router, straight to the worker, and to the router that is audited */
        struct gateway *gateway;
        struct dbe_link *link;
        struct dbe_peer *peer;
        uint8_t device, claim[DBE_CLAIM_MAX_BYTES];
        size_t claim_len;
    } ways[3];
    uint64_t sent, answered, failed, next_id;
    bool refill;
};

static void on_gateway_up(void *ctx, struct dbe_peer *peer)
{
    struct gateway *g = ctx;
    struct way *w = &g->ways[dbe_peer_identity(peer)->device == WORKER ? 1 : (g->ways[0].peer == NULL ? 0 : 2)];
    uint64_t now = base_wall_ms();
    struct pol_claim claim = {.tenant = "bench",
                              .client = "bench",
                              .roe_levels = 1u << DBE_ROE_SOC_ASSIST,
                              .classification_max = DBE_CLSF_SECRET,
                              .compartments = DBE_COMPARTMENT_SOC,
                              .not_before_ms = now - 1000,
                              .not_after_ms = now + 600000};

    w->device = dbe_peer_identity(peer)->device;
    MUST(dbe_peer_channel_binding(peer, claim.channel_binding) == DBE_OK);
    MUST(pol_claim_issue(&claim, g->node.credential, w->claim, sizeof w->claim, &w->claim_len) == DBE_OK);
    w->peer = peer;
}

static void on_gateway_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    (void)ctx, (void)peer, (void)msg;
}

static void ask(struct way *w);

static void on_answer(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    struct way *w = ctx;
    struct gateway *g = w->gateway;

    MUST(last && err == DBE_OK);
    g->answered++;
    g->failed += msg->type != DBE_MSG_L7_CHAT_RESP;
    if (g->refill)
        ask(w);
}

static void ask(struct way *w)
{
    static uint8_t out[DBE_CLAIM_MAX_BYTES + 4096], payload[PAYLOAD];
    struct gateway *g = w->gateway;
    struct dbe_builder b;
    uint8_t id[16] = {0};
    size_t len;

    g->next_id++;
    memcpy(id, &g->next_id, sizeof g->next_id);
    dbe_build_begin(&b, out, sizeof out, DBE_MSG_L7_CHAT_REQ, DBE_FLAG_REPLAY_PROTECTED, dbe_correlation_of(id));
    dbe_build_text(&b, DBE_TLV_TENANT_ID, "bench");
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, DBE_COMPARTMENT_SOC);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, DBE_CLSF_SECRET);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, DBE_ROE_SOC_ASSIST);
    dbe_build_layer_path(&b, NULL, DBE_LAYER_EXTENDED);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, 0);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, w->device);
    dbe_build_timestamp_ms(&b, base_wall_ms());
    dbe_build_bytes(&b, DBE_TLV_L7_CLAIM_TOKEN, w->claim, w->claim_len);
    dbe_build_text(&b, DBE_TLV_L7_PROFILE, "llm-7b-amx");
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, id, sizeof id);
    dbe_build_u32(&b, DBE_TLV_TIMEOUT_MS, DEADLINE_S * 1000);
    dbe_build_payload(&b, payload, sizeof payload);
    MUST(dbe_build_end(&b, &len) == DBE_OK);
    MUST(dbe_call(w->peer, out, len, base_mono_ns() + DEADLINE_S * BASE_NS_PER_S, on_answer, w, NULL) == DBE_OK);
    g->sent++;
}

static void turn_until(struct gateway *g, uint64_t answered)
{
    uint64_t end = base_mono_ns() + DEADLINE_S * BASE_NS_PER_S;

    while (g->answered < answered) {
        MUST(base_loop_turn(g->node.loop, 1000) == DBE_OK);
        MUST(base_mono_ns() < end);
    }
}

/* Ask until the router knows its worker. */
static void until_it_answers(struct gateway *g, size_t way)
{
    for (int i = 0; i < 100; i++) {
        g->failed = 0;
        ask(&g->ways[way]);
        turn_until(g, g->sent);
        if (g->failed == 0)
            return;
        usleep(100000);
    }
    die("the router never answered", __LINE__);
}

static void open_way(struct gateway *g, size_t way, const char *name, uint8_t role, int device)
{
    g->ways[way].gateway = g;
    MUST(dbe_node_link(g->node.node, address(name), role, device, &g->ways[way].link) == DBE_OK);
    for (int i = 0; i < 200 && g->ways[way].peer == NULL; i++)
        MUST(base_loop_turn(g->node.loop, 100) == DBE_OK);
    MUST(g->ways[way].peer != NULL);
}

static void open_gateway(struct gateway *g, bool audited)
{
    static const struct dbe_node_ops ops = {.on_message = on_gateway_message, .on_up = on_gateway_up};

    open_node(&g->node, "shim-0", &ops, g);
    open_way(g, 0, "router", DBE_ROLE_ROUTER, ROUTER);
    open_way(g, 1, "worker", DBE_ROLE_WORKER, WORKER);
    until_it_answers(g, 0);
    if (!audited)
        return;
    open_way(g, 2, "audited", DBE_ROLE_ROUTER, ROUTER);
    until_it_answers(g, 2);
}

/* ---- measuring ------------------------------------------------------------------------------------------------- */

static void singles(struct gateway *g, double *us[2])
{
    for (size_t n = 0; n < SINGLES; n += TURN)
        for (size_t way = 0; way < 2; way++)
            for (size_t i = 0; i < TURN; i++) {
                uint64_t start = base_mono_ns();
                ask(&g->ways[way]);
                turn_until(g, g->sent);
                us[way][n + i] = (double)(base_mono_ns() - start) / 1e3;
            }
    for (size_t way = 0; way < 2; way++)
        qsort(us[way], SINGLES, sizeof(double), median_by_value);
}

struct burst {
    double per_s, cpu_us;
};

static double cpu_s(pid_t pid)
{
    char path[64];
    unsigned long long ns = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/schedstat", (int)pid);
    FILE *file = fopen(path, "r");
    MUST(file != NULL && fscanf(file, "%llu", &ns) == 1);
    (void)fclose(file);
    return (double)ns / 1e9;
}

static struct burst burst(struct gateway *g, size_t way, pid_t router)
{
    uint64_t begin = g->answered, start = base_mono_ns(), end = start + BURST_S * BASE_NS_PER_S;
    double cpu = cpu_s(router);

    g->refill = true;
    dbe_node_cork(g->node.node);
    for (size_t i = 0; i < WINDOW; i++)
        ask(&g->ways[way]);
    dbe_node_uncork(g->node.node);
    while (base_mono_ns() < end)
        MUST(base_loop_turn(g->node.loop, 100) == DBE_OK);
    double count = (double)(g->answered - begin), took_s = (double)(base_mono_ns() - start) / 1e9;
    cpu = cpu_s(router) - cpu;
    g->refill = false;
    turn_until(g, g->sent);
    return (struct burst){count / took_s, cpu * 1e6 / count};
}

/* A steady 40,000 requests a second; the router's CPU time for one, in microseconds. */
static double paced(struct gateway *g, size_t way, pid_t router)
{
    const uint64_t begin = g->answered, start = base_mono_ns();
    double cpu = cpu_s(router);

    for (uint64_t ms = 0; ms < PACED_MS; ms++) {
        dbe_node_cork(g->node.node);
        for (size_t i = 0; i < PACED_EACH_MS; i++)
            ask(&g->ways[way]);
        dbe_node_uncork(g->node.node);
        do
            MUST(base_loop_turn(g->node.loop, 1) == DBE_OK);
        while (base_mono_ns() < start + (ms + 1) * BASE_NS_PER_MS);
    }
    turn_until(g, g->sent);
    return (cpu_s(router) - cpu) * 1e6 / (double)(g->answered - begin);
}

/* In turns; medians of both, and of the ratio of two slices that stand side by side. */
static void audit_costs(struct gateway *g, const pid_t pids[3], double ret_us[2], double *ret_ratio)
{
    double plain[PACED_SLICES], audited[PACED_SLICES], ratio[PACED_SLICES];

    for (size_t i = 0; i < PACED_SLICES; i++) {
        plain[i] = paced(g, 0, pids[0]);
        audited[i] = paced(g, 2, pids[2]);
        ratio[i] = audited[i] / plain[i];
    }
    ret_us[0] = median(plain, PACED_SLICES);
    ret_us[1] = median(audited, PACED_SLICES);
    *ret_ratio = median(ratio, PACED_SLICES);
}

static void report(const double *via, const double *direct, const struct burst *routed, const struct burst *straight,
                   const double audit_us[2], double audit_ratio, const char *json)
{
    const size_t p50 = SINGLES / 2, p99 = SINGLES * 99 / 100;
    const double on_core = 1e6 / routed->cpu_us;

    printf("one request at a time, microseconds     p50      p99\n");
    printf("  direct channel                   %8.1f %8.1f\n", direct[p50], direct[p99]);
    printf("  through the router               %8.1f %8.1f\n", via[p50], via[p99]);
    printf("  the router adds                  %8.1f %8.1f\n", via[p50] - direct[p50], via[p99] - direct[p99]);
    printf("%d in flight, requests a second\n", WINDOW);
    printf("  direct channel                   %8.0f\n", straight->per_s);
    printf("  through the router               %8.0f (%.2f of it, with the same CPUs for one process more)\n",
           routed->per_s, routed->per_s / straight->per_s);
    printf("  the router's CPU time            %8.2f us a request: %.0f requests, %.0f messages a second on one core\n",
           routed->cpu_us, on_core, 2 * on_core);
    if (audit_ratio > 0)
        printf("%d requests a second, the router's CPU time\n"
               "  without an audit log             %8.2f us a request\n"
               "  with one                         %8.2f us a request: %.3f of it\n",
               PACED_EACH_MS * 1000, audit_us[0], audit_us[1], audit_ratio);
    if (json == NULL)
        return;
    FILE *out = fopen(json, "w");
    MUST(out != NULL);
    (void)fprintf(
        out,
        "{\"bench\": \"router\", \"direct_us\": {\"p50\": %.1f, \"p99\": %.1f}, \"router_us\": {\"p50\": %.1f, "
        "\"p99\": %.1f}, \"added_us\": {\"p50\": %.1f, \"p99\": %.1f}, \"direct_per_s\": %.0f, "
        "\"router_per_s\": %.0f, \"router_cpu_us\": %.2f, \"messages_per_s_one_core\": %.0f, "
        "\"audit_ratio\": %.3f}\n",
        direct[p50], direct[p99], via[p50], via[p99], via[p50] - direct[p50], via[p99] - direct[p99], straight->per_s,
        routed->per_s, routed->cpu_us, 2 * on_core, audit_ratio);
    MUST(fclose(out) == 0);
}

/* ---- setting up ------------------------------------------------------------------------------------------------ */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void make_keys(void)
{
    static const struct dbe_issue nodes[] = {{.device = 0, .role = DBE_ROLE_SHIM},
                                             {.device = ROUTER, .role = DBE_ROLE_ROUTER},
                                             {.device = WORKER, .role = DBE_ROLE_WORKER},
                                             {.device = AUDIT, .role = DBE_ROLE_AUDIT}};

    MUST(mkdtemp(dir) != NULL);
    MUST(dbe_keys_init(dir, "bench", 1, NULL) == DBE_OK);
    for (size_t i = 0; i < BASE_ARRAY_LEN(nodes); i++)
        MUST(dbe_keys_issue(dir, &nodes[i], NULL) == DBE_OK);
}

/* Slices in turns, so that what disturbs one way disturbs the others as well; medians. `pids`: of the routers. */
static void bursts(struct gateway *g, const pid_t pids[3], struct burst ret[2])
{
    double rates[2][SLICES], cpus[2][SLICES];

    for (size_t i = 0; i < SLICES; i++)
        for (size_t way = 0; way < 2; way++) {
            struct burst one = burst(g, way, pids[way]);
            rates[way][i] = one.per_s;
            cpus[way][i] = one.cpu_us;
        }
    for (size_t way = 0; way < 2; way++)
        ret[way] = (struct burst){median(rates[way], SLICES), median(cpus[way], SLICES)};
}

int main(int argc, char *argv[])
{
    static double us[2][SINGLES];
    static struct gateway g;
    double *both[2] = {us[0], us[1]};
    const char *json = NULL, *log_program = NULL;
    struct burst found[2];
    double audit_us[2] = {0}, audit_ratio = 0;
    pid_t worker, routers[3], log = 0;

    MUST(argc >= 2);
    for (int i = 2; i + 1 < argc; i += 2)
        *(strcmp(argv[i], "--json") == 0 ? &json : &log_program) = argv[i + 1];
    make_keys();
    if ((worker = fork()) == 0)
        be_worker();
    if (log_program != NULL && (log = fork()) == 0)
        be_log(log_program);
    if ((routers[0] = fork()) == 0)
        be_router(argv[1], "router", false);
    if ((routers[2] = log_program != NULL ? fork() : routers[0]) == 0)
        be_router(argv[1], "audited", true);
    routers[1] = routers[0]; /* nobody's time */
    MUST(worker > 0 && routers[0] > 0 && routers[2] > 0);
    open_gateway(&g, log_program != NULL);
    singles(&g, both);
    bursts(&g, routers, found);
    if (log_program != NULL)
        audit_costs(&g, routers, audit_us, &audit_ratio);
    report(us[0], us[1], &found[0], &found[1], audit_us, audit_ratio, json);
    MUST(g.failed == 0);
    kill(worker, SIGKILL);
    kill(routers[0], SIGTERM);
    kill(routers[2], SIGTERM);
    (void)waitpid(worker, NULL, 0);
    (void)waitpid(routers[0], NULL, 0);
    if (log > 0) {
        (void)waitpid(routers[2], NULL, 0); /* its last records */
        kill(log, SIGTERM);
        (void)waitpid(log, NULL, 0);
    }
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 ? 0 : 1;
}
