/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_transport.c - what a transport and the loop cost beside a bare blocking Unix stream socket, in one run.
 *
 * In:   bench_transport [--cpu N] [--server-cpu N] [--idle COUNT] [--only trip|rate|idle] [--by cpu]
 *       [--json FILE]; --by cpu: rates by processor time of both ends, for a machine that others use as well
 * Out:  a table: round trip of 1 KiB, messages a second with 64 in flight (64 B, 1 KiB, 64 KiB), each over the bare
 *       socket, "uds:" and "shm:"; what idle connections cost in memory and take from a busy one. Every message is
 *       sealed and opened with AES-256-GCM on both sides, whatever carries it. Ratios are what counts: the slices of
 *       all kinds alternate, so that they drift together.
 * Not:  it runs no session and no node; those have their own.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/median.h"
#include "crypto/crypto.h"
#include "dbe/limits.h"
#include "transport/transport.h"

#define MUST(expr)                                                                                                     \
    do {                                                                                                               \
        if (!(expr)) {                                                                                                 \
            fprintf(stderr, "bench_transport: %s failed (%s)\n", #expr, strerrordesc_np(errno));                       \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { SLICES = 9, TAG = CRYPTO_AEAD_TAG_BYTES, TRIPS = 4000, FRAME_MAX = 65536 + TAG, WINDOW_MAX = 64 };
enum { BUF_BYTES = FRAME_MAX * (WINDOW_MAX + 1), IDLE_SLICES = 9, CHILD_FD = 200, RECV_MAX = 1024 * 1024 };

enum kind { BARE, UDS, SHM, KINDS };
static const char *const kind_names[] = {"bare", "uds", "shm"};

/* Both directions of one end. */
struct gcm {
    struct crypto_aead_ctx *seal, *open;
    uint64_t sealed, opened;
};

static const struct crypto_aead *aead;
static int client_cpu, server_cpu;
static char dir[64];
static uint8_t plain[FRAME_MAX];
static FILE *json;
static const char *json_comma = "";
static bool by_cpu;

static void gcm_init(struct gcm *g)
{
    static const uint8_t key[CRYPTO_AEAD_KEY_BYTES] = {1, 2, 3};

    *g = (struct gcm){0};
    MUST(aead->new_ctx(key, true, &g->seal) == DBE_OK);
    MUST(aead->new_ctx(key, false, &g->open) == DBE_OK);
}

static void gcm_fini(struct gcm *g)
{
    aead->free_ctx(g->seal);
    aead->free_ctx(g->open);
}

static void put_frame(struct gcm *g, const uint8_t *in, size_t len, uint8_t *out)
{
    uint8_t iv[CRYPTO_AEAD_IV_BYTES] = {0};

    base_put_u64(iv + 4, ++g->sealed);
    MUST(aead->seal(g->seal, iv, NULL, 0, in, len, out) == DBE_OK);
}

static void get_frame(struct gcm *g, uint8_t *frame, size_t len)
{
    uint8_t iv[CRYPTO_AEAD_IV_BYTES] = {0};

    base_put_u64(iv + 4, ++g->opened);
    MUST(aead->open(g->open, iv, NULL, 0, frame, len + TAG, frame) == DBE_OK);
}

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    MUST(sched_setaffinity(0, sizeof set, &set) == 0);
}

/* ---- one end of either sort ------------------------------------------------------------------------------------ */

/* What a slice does: `count` messages of `size` bytes there and back, at most `window` under way. */
struct work {
    size_t size, count, window;
};

struct end {
    struct gcm gcm;
    struct work work;
    bool client;
    size_t sent, got;
    uint64_t began_ns, *trips; /* of each round trip, where the window is 1 */
    uint8_t *out;
    size_t out_len;
    struct dbe_loop *loop;
    struct tp_conn *conn;
};

static void client_fill(struct end *e)
{
    for (; e->sent < e->work.count && e->sent - e->got < e->work.window; e->sent++) {
        put_frame(&e->gcm, plain, e->work.size, e->out + e->out_len);
        e->out_len += e->work.size + TAG;
    }
}

/* Open what came; answer it, or count it and send more. Returns what was used. */
static size_t take(struct end *e, uint8_t *data, size_t len)
{
    const size_t frame = e->work.size + TAG;
    size_t used = 0;

    for (; len - used >= frame; used += frame) {
        get_frame(&e->gcm, data + used, e->work.size);
        if (!e->client) {
            put_frame(&e->gcm, data + used, e->work.size, e->out + e->out_len);
            e->out_len += frame;
        } else if (e->trips != NULL) {
            uint64_t now = base_mono_ns();
            e->trips[e->got] = now - e->began_ns;
            e->began_ns = now;
        }
        e->got++;
    }
    if (e->client)
        client_fill(e);
    return used;
}

static void bare_write(int fd, struct end *e)
{
    for (size_t at = 0; at < e->out_len;) {
        ssize_t n = send(fd, e->out + at, e->out_len - at, MSG_NOSIGNAL);
        if (n < 0 && !e->client)
            _exit(0);
        MUST(n >= 0);
        at += (size_t)n;
    }
    e->out_len = 0;
}

/* Until the work is done (client) or the other end is gone (server). */
static void bare_run(int fd, struct end *e)
{
    uint8_t *in = malloc(BUF_BYTES);
    size_t len = 0;

    MUST(in != NULL);
    while (!e->client || e->got < e->work.count) {
        ssize_t n = recv(fd, in + len, BASE_MAX((size_t)131072, e->work.size + TAG) - len, 0);
        if (n <= 0 && !e->client)
            _exit(0);
        MUST(n > 0);
        len += (size_t)n;
        size_t used = take(e, in, len);
        memmove(in, in + used, len - used);
        len -= used;
        bare_write(fd, e);
    }
    free(in);
}

static size_t on_data(void *ctx, struct tp_conn *conn, uint8_t *data, size_t len)
{
    struct end *e = ctx;
    size_t used = take(e, data, len);

    if (e->out_len > 0)
        MUST(tp_send(conn, e->out, e->out_len) == DBE_OK);
    e->out_len = 0;
    if (e->client && e->got == e->work.count)
        base_loop_stop(e->loop);
    return used;
}

static void on_connected(void *ctx, struct tp_conn *conn)
{
    (void)conn;
    base_loop_stop(((struct end *)ctx)->loop);
}

static void on_closed(void *ctx, struct tp_conn *conn, dbe_err why)
{
    struct end *e = ctx;

    MUST(!e->client && why == DBE_E_CLOSED);
    tp_close(conn, false);
    base_loop_stop(e->loop);
}

static const struct tp_conn_ops ops = {.on_data = on_data, .on_connected = on_connected, .on_closed = on_closed};

static void on_accept(void *ctx, struct tp_conn *conn)
{
    MUST(tp_conn_start(conn, &ops, ctx, RECV_MAX) == DBE_OK);
}

/* ---- a server in a child process ------------------------------------------------------------------------------- */

struct lane {
    enum kind kind;
    pid_t pid;
    int fd;
    struct end end;
};

static void end_init(struct end *e, const struct work *work, bool client)
{
    *e = (struct end){.work = *work, .client = client, .out = malloc(BUF_BYTES)};
    MUST(e->out != NULL);
    gcm_init(&e->gcm);
}

_Noreturn static void serve(enum kind kind, const struct work *work, const char *address, int fd, int ready)
{
    struct tp_listener *listener = NULL;
    struct end e;

    pin(server_cpu);
    end_init(&e, work, false);
    if (kind == BARE)
        bare_run(fd, &e);
    MUST(base_loop_new(&e.loop) == DBE_OK);
    MUST(tp_listen(e.loop, address, on_accept, &e, &listener, NULL) == DBE_OK);
    MUST(write(ready, "r", 1) == 1);
    MUST(base_loop_run(e.loop) == DBE_OK);
    tp_listener_free(listener);
    _exit(0);
}

static void lane_open(struct lane *l, enum kind kind, const struct work *work)
{
    static unsigned lanes;
    int sv[2], ready[2];
    char byte, address[TP_ADDRESS_MAX];

    (void)snprintf(address, sizeof address, "%s:%s/%u.sock", kind_names[kind], dir, lanes++);
    l->kind = kind;
    end_init(&l->end, work, true);
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0 && pipe(ready) == 0);
    l->pid = fork();
    MUST(l->pid >= 0);
    if (l->pid == 0) {
        /* What other lanes have open must not live on here. */
        MUST(dup2(sv[1], CHILD_FD) == CHILD_FD && dup2(ready[1], CHILD_FD + 1) == CHILD_FD + 1);
        MUST(close_range(3, CHILD_FD - 1, 0) == 0);
        serve(kind, work, address, CHILD_FD, CHILD_FD + 1);
    }
    l->fd = sv[0];
    (void)close(sv[1]);
    (void)close(ready[1]);
    if (kind != BARE) {
        MUST(read(ready[0], &byte, 1) == 1);
        MUST(base_loop_new(&l->end.loop) == DBE_OK);
        MUST(tp_connect(l->end.loop, address, &ops, &l->end, RECV_MAX, &l->end.conn, NULL) == DBE_OK);
        MUST(base_loop_run(l->end.loop) == DBE_OK);
    }
    (void)close(ready[0]);
}

static void lane_close(struct lane *l)
{
    int status;

    tp_close(l->end.conn, false);
    (void)close(l->fd);
    base_loop_free(l->end.loop);
    MUST(waitpid(l->pid, &status, 0) == l->pid && status == 0);
    gcm_fini(&l->end.gcm);
    free(l->end.out);
}

/* One slice; nanoseconds it took. */
static uint64_t lane_run(struct lane *l)
{
    struct end *e = &l->end;
    uint64_t start = base_mono_ns();

    e->sent = e->got = 0;
    e->began_ns = start;
    client_fill(e);
    if (l->kind == BARE) {
        bare_write(l->fd, e);
        bare_run(l->fd, e);
    } else {
        MUST(tp_send(e->conn, e->out, e->out_len) == DBE_OK);
        e->out_len = 0;
        MUST(base_loop_run(e->loop) == DBE_OK);
    }
    return base_mono_ns() - start;
}

/* Processor time of a process in ns: what a slice costs on a machine that others use, too. */
static uint64_t cpu_ns(pid_t pid)
{
    char path[64];
    unsigned long long ns = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/schedstat", (int)pid);
    FILE *f = fopen(path, "r");
    MUST(f != NULL && fscanf(f, "%llu", &ns) == 1);
    (void)fclose(f);
    return ns;
}

static double slice_ns(struct lane *l)
{
    uint64_t before = by_cpu ? cpu_ns(getpid()) + cpu_ns(l->pid) : 0, took = lane_run(l);

    return (double)(by_cpu ? cpu_ns(getpid()) + cpu_ns(l->pid) - before : took);
}

/* ---- figures --------------------------------------------------------------------------------------------------- */

static void report(const char *what, const char *kind, const char *unit, double value, double bare)
{
    printf("%-34s %-5s %10.2f %-7s", what, kind, value, unit);
    if (bare > 0)
        printf(" %6.3fx", value / bare);
    printf("\n");
    if (json != NULL)
        fprintf(json, "%s\n  {\"what\": \"%s\", \"kind\": \"%s\", \"unit\": \"%s\", \"value\": %.4f, \"ratio\": %.4f}",
                json_comma, what, kind, unit, value, bare > 0 ? value / bare : 0);
    json_comma = ",";
}

static void bench_trips(void)
{
    const struct work work = {.size = 1024, .count = TRIPS, .window = 1};
    static uint64_t trips[TRIPS];
    static double sorted[TRIPS], p50[KINDS][SLICES], p99[KINDS][SLICES];
    struct lane lanes[KINDS];
    double m50[KINDS];

    for (enum kind k = 0; k < KINDS; k++)
        lane_open(&lanes[k], k, &work);
    for (size_t s = 0; s < SLICES; s++) {
        for (enum kind k = 0; k < KINDS; k++) {
            lanes[k].end.trips = trips;
            (void)lane_run(&lanes[k]);
            for (size_t i = 0; i < TRIPS; i++)
                sorted[i] = (double)trips[i] / 1000;
            p50[k][s] = median(sorted, TRIPS);
            p99[k][s] = sorted[TRIPS * 99 / 100];
        }
    }
    for (enum kind k = 0; k < KINDS; k++) {
        m50[k] = median(p50[k], SLICES);
        report("1 KiB there and back, p50", kind_names[k], "us", m50[k], m50[BARE]);
    }
    for (enum kind k = 0; k < KINDS && by_cpu; k++)
        for (size_t s = 0; s < SLICES; s++)
            p50[k][s] = slice_ns(&lanes[k]) / TRIPS / 1000;
    for (enum kind k = 0; k < KINDS && by_cpu; k++)
        report("1 KiB there and back, cpu", kind_names[k], "us", median(p50[k], SLICES), median(p50[BARE], SLICES));
    for (enum kind k = 0; k < KINDS; k++)
        report("1 KiB there and back, p99 by p50", kind_names[k], "us", median(p99[k], SLICES), m50[k]);
    for (enum kind k = 0; k < KINDS; k++)
        lane_close(&lanes[k]);
}

static void bench_rate(const char *what, size_t size, size_t count, size_t window)
{
    const struct work work = {.size = size, .count = count, .window = window};
    static double rate[KINDS][SLICES];
    struct lane lanes[KINDS];
    double m[KINDS];

    for (enum kind k = 0; k < KINDS; k++)
        lane_open(&lanes[k], k, &work);
    for (size_t s = 0; s < SLICES; s++)
        for (enum kind k = 0; k < KINDS; k++)
            rate[k][s] = (double)count * 1e6 / slice_ns(&lanes[k]);
    for (enum kind k = 0; k < KINDS; k++) {
        m[k] = median(rate[k], SLICES);
        report(what, kind_names[k], "k msg/s", m[k], m[BARE]);
        lane_close(&lanes[k]);
    }
}

static void open_files_limit(size_t *idle)
{
    struct rlimit lim;

    MUST(getrlimit(RLIMIT_NOFILE, &lim) == 0);
    lim.rlim_cur = lim.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &lim);
    if (lim.rlim_cur != RLIM_INFINITY && *idle * 2 + 64 > lim.rlim_cur)
        *idle = (size_t)(lim.rlim_cur - 64) / 2;
}

static size_t resident_bytes(void)
{
    unsigned long total, resident;
    FILE *f = fopen("/proc/self/statm", "r");

    MUST(f != NULL && fscanf(f, "%lu %lu", &total, &resident) == 2);
    (void)fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static size_t idle_data(void *ctx, struct tp_conn *conn, uint8_t *data, size_t len)
{
    (void)ctx;
    (void)conn;
    (void)data;
    return len;
}

static void idle_closed(void *ctx, struct tp_conn *conn, dbe_err why)
{
    (void)ctx;
    (void)why;
    tp_close(conn, false);
}

static const struct tp_conn_ops idle_ops = {.on_data = idle_data, .on_closed = idle_closed};
static size_t idle_accepted;
static struct tp_conn **idle_conns;

static void idle_accept(void *ctx, struct tp_conn *conn)
{
    (void)ctx;
    MUST(tp_conn_start(conn, &idle_ops, NULL, RECV_MAX) == DBE_OK);
    idle_conns[idle_accepted++] = conn;
}

/* `idle` connections on a loop, both ends, which have spoken once. */
static void idle_open(struct dbe_loop *loop, const char *address, size_t idle, struct tp_conn **near,
                      struct tp_listener **ret)
{
    MUST(tp_listen(loop, address, idle_accept, NULL, ret, NULL) == DBE_OK);
    for (size_t i = 0; i < idle; i++) {
        MUST(tp_connect(loop, address, &idle_ops, NULL, RECV_MAX, &near[i], NULL) == DBE_OK);
        MUST(tp_send(near[i], "hello", 5) == DBE_OK);
        while (idle_accepted <= i)
            MUST(base_loop_turn(loop, 0) == DBE_OK);
        MUST(tp_send(idle_conns[i], "hello", 5) == DBE_OK);
        MUST(base_loop_turn(loop, 0) == DBE_OK);
    }
}

/* Two lanes in turn: one alone on its loop, and one whose loop has the idle connections, too. */
static void bench_idle(enum kind kind, size_t idle)
{
    const struct work work = {.size = 1024, .count = TRIPS, .window = 1};
    struct tp_conn **near = calloc(idle, sizeof(struct tp_conn *));
    struct tp_listener *listener = NULL;
    double us[2][IDLE_SLICES];
    char address[TP_ADDRESS_MAX], what[64];
    struct lane lanes[2];

    idle_conns = calloc(idle, sizeof(struct tp_conn *));
    idle_accepted = 0;
    MUST(near != NULL && idle_conns != NULL);
    for (size_t i = 0; i < 2; i++) {
        lane_open(&lanes[i], kind, &work);
        (void)lane_run(&lanes[i]);
    }
    (void)snprintf(address, sizeof address, "%s:%s/idle.sock", kind_names[kind], dir);
    size_t bytes = resident_bytes();
    idle_open(lanes[1].end.loop, address, idle, near, &listener);
    bytes = resident_bytes() - bytes;
    for (size_t s = 0; s < IDLE_SLICES; s++)
        for (size_t i = 0; i < 2; i++)
            us[i][s] = slice_ns(&lanes[i]) / TRIPS / 1000;
    (void)snprintf(what, sizeof what, "1 KiB trip beside %zu idle, mean", idle);
    report(what, kind_names[kind], "us", median(us[1], IDLE_SLICES), median(us[0], IDLE_SLICES));
    report("memory of an idle end", kind_names[kind], "bytes", (double)bytes / (double)idle / 2, 0);
    for (size_t i = 0; i < idle; i++) {
        tp_close(near[i], false);
        tp_close(idle_conns[i], false);
    }
    tp_listener_free(listener);
    for (size_t i = 0; i < 2; i++)
        lane_close(&lanes[i]);
    free(near);
    free(idle_conns);
}

int main(int argc, char **argv)
{
    size_t idle = 10000;
    const char *json_path = NULL, *only = "trip rate idle";

    client_cpu = server_cpu = (int)sysconf(_SC_NPROCESSORS_ONLN) - 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--json") == 0)
            json_path = argv[i + 1];
        else if (strcmp(argv[i], "--cpu") == 0)
            client_cpu = server_cpu = (int)strtol(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--server-cpu") == 0)
            server_cpu = (int)strtol(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--by") == 0)
            by_cpu = strcmp(argv[i + 1], "cpu") == 0;
        else if (strcmp(argv[i], "--only") == 0)
            only = argv[i + 1];
        else if (strcmp(argv[i], "--idle") == 0)
            idle = strtoul(argv[i + 1], NULL, 10);
    }
    MUST(crypto_init(NULL) == DBE_OK);
    aead = crypto_suite(CRYPTO_SUITE_1)->aead;
    (void)snprintf(dir, sizeof dir, "/tmp/dsmil-bench-XXXXXX");
    MUST(mkdtemp(dir) != NULL);
    json = json_path == NULL ? NULL : fopen(json_path, "w");
    MUST(json_path == NULL || json != NULL);
    if (json != NULL)
        fputs("{\"bench\": \"transport\", \"rows\": [", json);
    pin(client_cpu);
    if (strstr(only, "trip") != NULL)
        bench_trips();
    if (strstr(only, "rate") != NULL) {
        bench_rate("64 B, 64 in flight", 64, 256000, 64);
        bench_rate("1 KiB, 64 in flight", 1024, 128000, 64);
        bench_rate("64 KiB, 2 in flight", 65536, 2000, 2); /* more, and both ends of the bare one block in send */
    }
    open_files_limit(&idle);
    for (enum kind k = UDS; k < KINDS; k++)
        if (idle > 0 && strstr(only, "idle") != NULL)
            bench_idle(k, idle);
    if (json != NULL)
        fputs("\n]}\n", json);
    MUST(json == NULL || fclose(json) == 0);
    MUST(rmdir(dir) == 0);
    return 0;
}
