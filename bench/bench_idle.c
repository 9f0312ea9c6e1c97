/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_idle.c - what an idle channel costs: memory on each side, and speed of a channel that is busy beside it.
 *
 * In:   --channels N (10000), --slices N (15), --calls N (20000: calls of a slice), --cpu N, --json FILE
 * Out:  bytes a channel on either side, and the rate of the busy channel beside that of one without idle neighbours;
 *       the same as JSON
 * Does: two pairs of processes on one processor. In one the client opens N channels that then say nothing, and one that
 *       is busy; in the other only the busy one. They take turns, slice by slice, so that a machine that speeds up or
 *       slows down does so for both. Memory is what malloc handed out and what is locked, and what the kernel counts as
 *       the process's own pages; the larger of the two is quoted.
 * Not:  it does not count what the kernel keeps of sockets.
 */
#include <fcntl.h>
#include <ftw.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/median.h"
#include "base/base.h"
#include "dbe/loop.h"
#include "dbe/node.h"

enum {
    PAIRS = 2, /* without idle neighbours, and with them */
    SLICES_MAX = 1000,
    WINDOW = 64,
    OPENING = 32, /* handshakes at a time */
    PAYLOAD_BYTES = 1024,
    DEADLINE_S = 600,
    SPARE_FDS = 64,
};

#define MUST(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond))                                                                                                   \
            die(#cond, __LINE__);                                                                                      \
    } while (0)

static struct {
    size_t channels, slices, calls;
    int cpu;
    const char *json;
    char dir[64];
} opt = {.channels = 10000, .slices = 15, .calls = 20000, .cpu = -1};

static _Noreturn void die(const char *what, int line)
{
    (void)fprintf(stderr, "bench_idle: line %d: %s does not hold\n", line, what);
    exit(1);
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

struct memory {
    uint64_t heap_bytes, anon_bytes;
};

static uint64_t status_bytes(const char *key)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");

    MUST(f != NULL);
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            (void)sscanf(line + strlen(key), ": %llu", &kib);
    (void)fclose(f);
    return kib * 1024;
}

static struct memory memory_now(void)
{
    (void)malloc_trim(0);
    struct mallinfo2 m = mallinfo2();

    return (struct memory){.heap_bytes = m.uordblks + m.hblkhd + status_bytes("VmLck"),
                           .anon_bytes = status_bytes("RssAnon")};
}

/* ---- one process ------------------------------------------------------------------------------------------------- */

static struct {
    struct dbe_loop *loop;
    struct dbe_credential *credential;
    struct dbe_trust *trust;
    struct dbe_node *node;
    struct dbe_peer *busy;
    size_t up, sent, got, count;
    uint64_t next_id;
    uint8_t out[PAYLOAD_BYTES + 256], payload[PAYLOAD_BYTES];
} me;

static size_t build(uint64_t id)
{
    struct dbe_builder b;
    size_t len = 0;

    dbe_build_begin(&b, me.out, sizeof me.out, DBE_MSG_L7_MODEL_STATUS, 0, id);
    dbe_build_payload(&b, me.payload, sizeof me.payload);
    MUST(dbe_build_end(&b, &len) == DBE_OK);
    return len;
}

static void on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    (void)ctx;
    MUST(dbe_send(peer, me.out, build(msg->correlation_id)) == DBE_OK);
}

static void on_up(void *ctx, struct dbe_peer *peer)
{
    (void)ctx;
    me.up++;
    me.busy = peer; /* the latest */
}

static void on_down(void *ctx, struct dbe_peer *peer, dbe_err why, const struct dbe_diag *diag)
{
    (void)ctx, (void)peer;
    (void)fprintf(stderr, "bench_idle: %s: %s\n", dbe_err_name(why), diag->text);
    exit(1);
}

static void make_node(const char *name)
{
    static const struct dbe_node_ops ops = {.on_message = on_message, .on_up = on_up, .on_down = on_down};

    MUST(dbe_loop_new(&me.loop) == DBE_OK);
    MUST(dbe_credential_load(opt.dir, name, &me.credential, NULL) == DBE_OK);
    MUST(dbe_trust_load(opt.dir, &me.trust, NULL) == DBE_OK);
    const struct dbe_node_config config = {.credential = me.credential,
                                           .trust = me.trust,
                                           .ops = &ops,
                                           .peers_max = (uint32_t)opt.channels + SPARE_FDS};
    MUST(dbe_node_new(me.loop, &config, &me.node) == DBE_OK);
}

/* Answers to commands go through a pipe; the node's loop runs meanwhile. */
struct pipes {
    int command, answer;
};

static void answer(const struct pipes *p, const void *data, size_t len)
{
    MUST(write(p->answer, data, len) == (ssize_t)len);
}

static void on_server_command(void *ctx, int fd, unsigned events)
{
    const struct pipes *p = ctx;
    char c;

    (void)events;
    if (read(fd, &c, 1) != 1)
        exit(0);
    const struct memory m = memory_now();
    answer(p, &m, sizeof m);
}

static void address_of(int pair, char *ret, size_t cap)
{
    MUST(snprintf(ret, cap, "uds:%s/%d.sock", opt.dir, pair) < (int)cap);
}

static _Noreturn void serve(int pair, struct pipes p)
{
    struct dbe_watch *watch = NULL;
    char address[100];

    make_node("server");
    address_of(pair, address, sizeof address);
    MUST(dbe_node_listen(me.node, address, NULL) == DBE_OK);
    MUST(dbe_loop_watch(me.loop, p.command, DBE_LOOP_READ, on_server_command, &p, &watch) == DBE_OK);
    answer(&p, "r", 1);
    MUST(dbe_loop_run(me.loop) == DBE_OK);
    exit(0);
}

static void open_channels(int pair, size_t count)
{
    struct dbe_link *link = NULL;
    char address[100];
    const size_t before = me.up;

    address_of(pair, address, sizeof address);
    for (size_t asked = 0; me.up - before < count;) {
        while (asked < count && asked - (me.up - before) < OPENING) {
            MUST(dbe_node_link(me.node, address, 0, -1, &link) == DBE_OK);
            asked++;
        }
        MUST(dbe_loop_turn(me.loop, 1000) == DBE_OK);
    }
}

static void call_one(void);

static void on_reply(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    (void)ctx;
    MUST(err == DBE_OK && last && msg->payload_len == PAYLOAD_BYTES);
    me.got++;
    if (me.sent < me.count)
        call_one();
}

static void call_one(void)
{
    const uint64_t deadline_ns = dbe_now_ns() + DEADLINE_S * BASE_NS_PER_S;
    const size_t len = build(++me.next_id);

    MUST(dbe_call(me.busy, me.out, len, deadline_ns, on_reply, NULL, NULL) == DBE_OK);
    me.sent++;
}

static double flood(void)
{
    const uint64_t start = dbe_now_ns();

    me.count = opt.calls;
    me.sent = me.got = 0;
    dbe_node_cork(me.node);
    while (me.sent < WINDOW && me.sent < me.count)
        call_one();
    dbe_node_uncork(me.node);
    while (me.got < me.count)
        MUST(dbe_loop_turn(me.loop, 1000) == DBE_OK);
    return (double)me.count / ((double)(dbe_now_ns() - start) / 1e9);
}

static _Noreturn void be_client(int pair, struct pipes p)
{
    struct memory m;
    double rate;
    char c;

    make_node("client");
    while (read(p.command, &c, 1) == 1) {
        if (c == 'o')
            open_channels(pair, opt.channels);
        else if (c == 'b')
            open_channels(pair, 1);
        if (c == 'f') {
            rate = flood();
            answer(&p, &rate, sizeof rate);
        } else {
            m = memory_now();
            answer(&p, &m, sizeof m);
        }
    }
    exit(0);
}

/* ---- the controller ---------------------------------------------------------------------------------------------- */

static struct pipes spawn(int pair, void (*fn)(int pair, struct pipes p))
{
    int down[2], up[2];

    MUST(pipe(down) == 0 && pipe(up) == 0);
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close(down[1]);
        (void)close(up[0]);
        fn(pair, (struct pipes){.command = down[0], .answer = up[1]});
    }
    (void)close(down[0]);
    (void)close(up[1]);
    return (struct pipes){.command = down[1], .answer = up[0]};
}

static void ask(const struct pipes *p, char command, void *ret, size_t len)
{
    MUST(write(p->command, &command, 1) == 1);
    MUST(read(p->answer, ret, len) == (ssize_t)len);
}

static double per_channel(const struct memory *before, const struct memory *after)
{
    const uint64_t heap = after->heap_bytes - BASE_MIN(before->heap_bytes, after->heap_bytes);
    const uint64_t anon = after->anon_bytes - BASE_MIN(before->anon_bytes, after->anon_bytes);

    return (double)BASE_MAX(heap, anon) / (double)opt.channels;
}

static void report(double client_bytes, double server_bytes, double alone, double beside, double slower)
{
    printf("%zu idle channels: %.1f KiB each at the client, %.1f KiB at the server\n", opt.channels,
           client_bytes / 1024, server_bytes / 1024);
    printf("a busy channel (1 KiB, %d in flight): %.0f k calls/s alone, %.0f k beside them, %+.1f %% time a call\n",
           WINDOW, alone / 1e3, beside / 1e3, slower * 100);
    if (opt.json == NULL)
        return;
    FILE *f = fopen(opt.json, "w");
    MUST(f != NULL);
    (void)fprintf(f,
                  "{\"bench\": \"idle\", \"channels\": %zu, \"client_bytes\": %.0f, \"server_bytes\": %.0f, "
                  "\"alone_per_s\": %.1f, \"beside_per_s\": %.1f, \"slower\": %.4f}\n",
                  opt.channels, client_bytes, server_bytes, alone, beside, slower);
    MUST(fclose(f) == 0);
}

static void measure(void)
{
    static double rates[PAIRS][SLICES_MAX], slower[SLICES_MAX];
    struct pipes servers[PAIRS], clients[PAIRS];
    struct memory c[2], s[2], ignored;
    char ready;

    for (int i = 0; i < PAIRS; i++) {
        servers[i] = spawn(i, serve);
        MUST(read(servers[i].answer, &ready, 1) == 1);
        clients[i] = spawn(i, be_client);
    }
    ask(&clients[1], 'b', &c[0], sizeof c[0]); /* what comes with the first channel does not count */
    ask(&servers[1], 'm', &s[0], sizeof s[0]);
    ask(&clients[1], 'o', &c[1], sizeof c[1]);
    ask(&servers[1], 'm', &s[1], sizeof s[1]);
    for (int i = 0; i < PAIRS; i++)
        ask(&clients[i], 'b', &ignored, sizeof ignored);
    for (size_t n = 0; n <= opt.slices; n++) /* the first one warms up and does not count */
        for (int i = 0; i < PAIRS; i++)
            ask(&clients[i], 'f', &rates[i][n == 0 ? 0 : n - 1], sizeof rates[i][0]);
    for (size_t n = 0; n < opt.slices; n++)
        slower[n] = rates[0][n] / rates[1][n] - 1;
    const double typical = median(slower, opt.slices);
    report(per_channel(&c[0], &c[1]), per_channel(&s[0], &s[1]), median(rates[0], opt.slices),
           median(rates[1], opt.slices), typical);
}

/* ---- setting up -------------------------------------------------------------------------------------------------- */

static void read_options(int argc, char *argv[])
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--channels") == 0)
            opt.channels = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--slices") == 0)
            opt.slices = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--calls") == 0)
            opt.calls = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--cpu") == 0)
            opt.cpu = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--json") == 0)
            opt.json = argv[i + 1];
        else
            die(argv[i], __LINE__);
    }
    MUST(argc % 2 == 1 && opt.channels > 0 && opt.channels <= DBE_PEERS_LIMIT - 2 * SPARE_FDS && opt.slices > 0 &&
         opt.slices <= SLICES_MAX && opt.calls > 0);
}

/* As many descriptors as channels; fewer channels where the system gives fewer. */
static void raise_limits(void)
{
    struct rlimit files;

    MUST(getrlimit(RLIMIT_NOFILE, &files) == 0);
    files.rlim_cur = files.rlim_max;
    MUST(setrlimit(RLIMIT_NOFILE, &files) == 0);
    if (opt.channels + SPARE_FDS > files.rlim_cur) {
        opt.channels = files.rlim_cur - SPARE_FDS;
        (void)fprintf(stderr, "bench_idle: %zu channels, for want of descriptors\n", opt.channels);
    }
}

static void pin(void)
{
    cpu_set_t set;

    MUST(sched_getaffinity(0, sizeof set, &set) == 0);
    for (size_t i = 0; i < CPU_SETSIZE && opt.cpu < 0; i++)
        if (CPU_ISSET(i, &set))
            opt.cpu = (int)i;
    CPU_ZERO(&set);
    CPU_SET((size_t)opt.cpu, &set);
    MUST(sched_setaffinity(0, sizeof set, &set) == 0);
}

static void make_keys(void)
{
    const struct dbe_issue client = {.name = "client", .device = 43, .role = DBE_ROLE_ROUTER};
    const struct dbe_issue server = {.name = "server", .device = 47, .role = DBE_ROLE_WORKER};

    (void)snprintf(opt.dir, sizeof opt.dir, "/tmp/dsmil-idle-XXXXXX");
    MUST(mkdtemp(opt.dir) != NULL);
    MUST(dbe_keys_init(opt.dir, "bench", 1, NULL) == DBE_OK);
    MUST(dbe_keys_issue(opt.dir, &client, NULL) == DBE_OK);
    MUST(dbe_keys_issue(opt.dir, &server, NULL) == DBE_OK);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

int main(int argc, char *argv[])
{
    read_options(argc, argv);
    raise_limits();
    pin();
    make_keys();
    measure();
    return nftw(opt.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 ? 0 : 1;
}
