/* SPDX-License-Identifier: Apache-2.0
 *
 * svc_test.c - the life of a service: ready, well, drained, watched, and what happens when it cannot start or
 * finds no memory.
 */
#include "runtime/mesh_fixture.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void stopped(void *ctx)
{
    (*(unsigned *)ctx)++;
}

static void test_drain(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();
    unsigned stops = 0;

    router->mode = HOLD;
    ask(m, &a);
    PUMP_UNTIL(m, router->held != NULL);
    svc_drain(m->router, stopped, &stops);
    svc_drain(m->router, stopped, &stops);
    assert_int_equal(router->drains, 1);
    send_raw(m, &a); /* no new work */
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.code, DBE_E_UNAVAILABLE);
    assert_int_equal(stops, 0);
    memset(&answer, 0, sizeof answer);
    assert_int_equal(svc_reply(m->router, router->held, DBE_MSG_L7_CHAT_RESP, "x", 1, true), DBE_OK);
    PUMP_UNTIL(m, stops == 1);
    PUMP_UNTIL(m, answer.last); /* what ran was finished */
    assert_int_equal(answer.type[0], DBE_MSG_L7_CHAT_RESP);
}

static void test_drain_has_an_end(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();
    unsigned stops = 0;

    router->mode = HOLD;
    ask(m, &a);
    PUMP_UNTIL(m, router->held != NULL);
    svc_hold(m->router);
    svc_drain(m->router, stopped, &stops);
    settle(m);
    assert_int_equal(stops, 0);
    clock_ns += SVC_DRAIN_MS * (uint64_t)BASE_NS_PER_MS;
    PUMP_UNTIL(m, stops == 1);
    svc_close(m->router);
    m->router = NULL;
    PUMP_UNTIL(m, answer.last);
    assert_int_equal(answer.err, DBE_E_CLOSED);
}

static json_t *health(struct svc *svc, unsigned *ret_status)
{
    struct base_buf out;

    base_buf_init(&out, SVC_HEALTH_MAX_BYTES);
    assert_int_equal(svc_health_render(svc, &out, ret_status), DBE_OK);
    json_t *o = json_loadb((const char *)out.data, out.len, 0, NULL);
    assert_non_null(o);
    base_buf_free(&out);
    return o;
}

static void expect_health(struct svc *svc, unsigned status, const char *word)
{
    unsigned got = 0;
    json_t *o = health(svc, &got);

    assert_string_equal(json_string_value(json_object_get(o, "status")), word);
    assert_int_equal(got, status);
    assert_int_equal(json_integer_value(json_object_get(o, "device_id")), svc->dev->device_id);
    assert_int_equal(json_integer_value(json_object_get(o, "layer")), 7);
    assert_non_null(json_string_value(json_object_get(o, "last_check_timestamp")));
    assert_true(json_object_size(json_object_get(o, "checks")) >= 3);
    json_decref(o);
}

static void test_health(void **state)
{
    struct mesh *m = *state;
    unsigned stops = 0;

    expect_health(m->router, 200, "healthy");
    router->not_ready = true;
    expect_health(m->router, 503, "unhealthy");
    router->not_ready = false;
    svc_close(m->worker);
    m->worker = NULL;
    PUMP_UNTIL(m, router->link_downs == 1);
    expect_health(m->router, 200, "degraded");
    svc_drain(m->router, stopped, &stops);
    expect_health(m->router, 503, "unhealthy");
}

static void expect_settled(struct mesh *m, const struct svc_config *cfg, bool settled)
{
    svc_close(m->router);
    m->router = start(m, &router_device, cfg);
    for (int i = 0; i < 10; i++) { /* some ticks */
        clock_ns += SVC_TICK_STARTING_MS * BASE_NS_PER_MS;
        settle(m);
    }
    assert_int_equal(m->router->ready, settled);
    expect_health(m->router, settled ? 200 : 503, settled ? "degraded" : "unhealthy");
}

/* At the start a neighbour that is not there yet is waited for, but neither for ever nor where it would be in vain. */
static void test_start_waits_for_neighbours(void **state)
{
    struct mesh *m = *state;
    struct svc_config cfg = config_for(m, "router-43", "inproc:router");

    svc_close(m->worker);
    m->worker = NULL;
    snprintf(cfg.links[0], sizeof cfg.links[0], "inproc:worker");
    expect_settled(m, &cfg, true); /* with no patience at all */
    cfg.start_wait_ms = 60000;
    expect_settled(m, &cfg, false);
    clock_ns += 60 * BASE_NS_PER_S;
    PUMP_UNTIL(m, m->router->ready); /* it did not come */

    expect_settled(m, &cfg, false);
    start_worker(m);
    PUMP_UNTIL(m, m->router->ready);
    expect_health(m->router, 200, "healthy");
    svc_close(m->worker);
    m->worker = NULL;
    PUMP_UNTIL(m, router->link_downs == 1);
    expect_health(m->router, 200, "degraded"); /* it was there once */

    snprintf(cfg.links[0], sizeof cfg.links[0], "inproc:router"); /* where no worker answers, but a router */
    expect_settled(m, &cfg, true);
}

/* READY is written once the required link has been up and the device says so, and only then. */
static void test_ready(void **state)
{
    struct mesh *m = *state;
    struct svc_config cfg = config_for(m, "shim-0", "");
    char word[16] = "";
    int fds[2];

    svc_close(m->front);
    assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    snprintf(cfg.links[0], sizeof cfg.links[0], "inproc:router");
    cfg.ready_fd = (uint64_t)fds[1];
    m->front = start(m, &front_device, &cfg);
    front->not_ready = true;
    PUMP_UNTIL(m, front->link_ups == 1);
    settle(m);
    assert_int_equal(read(fds[0], word, sizeof word), -1);
    front->not_ready = false;
    svc_wake(m->front);
    PUMP_UNTIL(m, m->front->ready);
    assert_int_equal(read(fds[0], word, sizeof word), 6);
    assert_memory_equal(word, "READY\n", 6);
    assert_int_equal(read(fds[0], word, sizeof word), 0); /* closed */
    close(fds[0]);
}

static void *wake_thread(void *arg)
{
    for (int i = 0; i < 100; i++)
        svc_wake(arg);
    return NULL;
}

static void test_wake(void **state)
{
    struct mesh *m = *state;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, wake_thread, m->router), 0);
    pthread_join(thread, NULL);
    PUMP_UNTIL(m, router->wakes > 0);
    assert_int_equal(worker->wakes, 0);
}

/* One HTTP exchange over the admin socket, the client in the same loop. */
static void http_get(struct mesh *m, const char *path, const char *request, char *out, size_t cap)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = 0;
    ssize_t n = -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    memcpy(addr.sun_path, path, strlen(path) + 1);
    assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(write(fd, request, strlen(request)), (ssize_t)strlen(request));
    for (int i = 0; n != 0 && i < TURNS_MAX; i++) {
        turn(m);
        n = read(fd, out + len, cap - 1 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    assert_int_equal(n, 0);
    out[len] = '\0';
    close(fd);
}

static dbe_err obey(struct svc *svc, void *state, const char *what, const char *value, struct base_buf *said,
                    struct dbe_diag *diag)
{
    (void)svc, (void)state;
    if (strcmp(what, "polish") != 0)
        return dbe_fail(diag, DBE_E_STATE, NULL, 0, "it is no time for that");
    base_buf_fmt(said, "polished %s", value);
    return DBE_OK;
}

/* An order of the device's own reaches it over the owner's socket, and its words come back. */
static void test_device_orders(void **state)
{
    struct mesh *m = *state;
    struct svc_config cfg = config_for(m, "worker-47", "inproc:other");
    struct svc_device obedient = worker_device;
    static char page[4096];
    char path[80];

    snprintf(path, sizeof path, "%s/admin.sock", dir);
    snprintf(cfg.metrics_socket, sizeof cfg.metrics_socket, "%s", path);
    svc_close(m->worker);
    m->worker = start(m, &worker_device, &cfg); /* it knows none */
    http_get(m, path, "POST /device/polish?value=brass HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", page,
             sizeof page);
    assert_memory_equal(page, "HTTP/1.1 404 ", 13);
    svc_close(m->worker);
    obedient.order = obey;
    m->worker = start(m, &obedient, &cfg);
    http_get(m, path, "POST /device/polish?value=brass HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", page,
             sizeof page);
    assert_memory_equal(page, "HTTP/1.1 200 ", 13);
    assert_non_null(strstr(page, "\r\n\r\npolished brass\n"));
    http_get(m, path, "POST /device/rest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", page, sizeof page);
    assert_memory_equal(page, "HTTP/1.1 409 ", 13);
    assert_non_null(strstr(page, "it is no time for that"));
    http_get(m, path, "GET /device/polish HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", page, sizeof page);
    assert_memory_equal(page, "HTTP/1.1 404 ", 13);
    svc_close(m->worker);
    m->worker = NULL;
}

static void test_admin_pages(void **state)
{
    struct mesh *m = *state;
    struct svc_config cfg = config_for(m, "worker-47", "inproc:other");
    char path[80];
    static char page[SVC_METRICS_MAX_BYTES];
    struct ask a = ask_good();
    struct stat st;

    snprintf(path, sizeof path, "%s/admin.sock", dir);
    svc_close(m->worker);
    snprintf(cfg.metrics_socket, sizeof cfg.metrics_socket, "%s", path);
    m->worker = start(m, &worker_device, &cfg);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    http_get(m, path, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", page, sizeof page);
    assert_memory_equal(page, "HTTP/1.1 200 ", 13);
    assert_non_null(strstr(page, "\"status\":\"healthy\""));
    http_get(m, path, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", page, sizeof page);
    assert_memory_equal(page, "HTTP/1.1 200 ", 13);
    assert_non_null(strstr(page, "Content-Type: text/plain; version=0.0.4"));
    assert_non_null(strstr(page, "\ndsmil_device_status{device_id=\"47\",device_name=\"Advanced AI/ML\"} 1\n"));
    http_get(m, path, "GET /secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", page, sizeof page);
    assert_memory_equal(page, "HTTP/1.1 404 ", 13);
    http_get(m, path, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", page,
             sizeof page);
    assert_memory_equal(page, "HTTP/1.1 405 ", 13);
    /* What is no HTTP gets a 400 or, from newer libraries, nothing; the next one is served either way. */
    http_get(m, path, "\x01\x02 nonsense\r\n\r\n", page, sizeof page);
    assert_true(page[0] == '\0' || memcmp(page, "HTTP/1.1 400 ", 13) == 0);
    http_get(m, path, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", page, sizeof page);
    assert_memory_equal(page, "HTTP/1.1 200 ", 13);
    svc_close(m->worker);
    m->worker = NULL;
    assert_int_equal(stat(path, &st), -1); /* its file goes with it */

    ask(m, &a); /* counters of the router after one answer and one refusal */
    PUMP_UNTIL(m, answer.last);
    a.compartments = 0x80;
    send_raw(m, &a);
    PUMP_UNTIL(m, answer.last);
    struct base_buf out;
    base_buf_init(&out, SVC_METRICS_MAX_BYTES);
    assert_int_equal(svc_metrics_render(m->router, &out), DBE_OK);
    const char *text = base_buf_cstr(&out);
#define HAS(line) assert_non_null(strstr(text, line))
    HAS("\ndbe_messages_total{node=\"router-43\",device_id=\"43\",msg_type=\"L7_CHAT_REQ\",tenant_id=\"t1\"} 1\n");
    HAS("\ndbe_messages_total{node=\"router-43\",device_id=\"43\",msg_type=\"L7_CHAT_REQ\",tenant_id=\"none\"} 1\n");
    HAS("\ndbe_policy_violations_total{node=\"router-43\",device_id=\"43\",rule=\"kinetic\"} 1\n");
    HAS("\ndsmil_security_policy_violations_total{device_id=\"43\"} 1\n");
    HAS("\ndbe_errors_total{node=\"router-43\",device_id=\"43\",error_type=\"E_KINETIC\"} 1\n");
    HAS("\npqc_handshakes_total{node=\"router-43\",peer_node=\"shim-0\",status=\"ok\"} 1\n");
    HAS("\ndsmil_device_requests_total{device_id=\"43\",status=\"ok\"} 1\n");
    HAS("\ndsmil_test_jobs_total{device_id=\"43\"} 0\n");
    base_buf_free(&out);
}

static void never(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    (void)ctx;
    (void)peer;
    fail_msg("a message %u came from a mesh that is not this one", msg->type);
}

/* A node of another mesh: refused, counted, said. */
static void test_foreign_mesh(void **state)
{
    static const struct dbe_node_ops ops = {.on_message = never};
    struct mesh *m = *state;
    char foreign[96];
    struct dbe_credential *credential = NULL;
    struct dbe_trust *trust = NULL;
    struct dbe_node *node = NULL;
    struct dbe_link *link = NULL;
    const struct dbe_issue what = {.device = 0, .role = DBE_ROLE_SHIM, .layer = 7};

    snprintf(foreign, sizeof foreign, "%s/foreign", dir);
    assert_int_equal(dbe_keys_init(foreign, "test.mesh", 10, NULL), DBE_OK);
    assert_int_equal(dbe_keys_issue(foreign, &what, NULL), DBE_OK);
    assert_int_equal(dbe_trust_load(foreign, &trust, NULL), DBE_OK);
    assert_int_equal(dbe_credential_load(foreign, "shim-0", &credential, NULL), DBE_OK);
    const struct dbe_node_config config = {
        .credential = credential, .trust = trust, .ops = &ops, .policy_digest = pol_policy_digest(&m->router->policy)};
    assert_int_equal(dbe_node_new(m->loop, &config, &node), DBE_OK);
    assert_int_equal(dbe_node_link(node, "inproc:router", 0, -1, &link), DBE_OK);
    PUMP_UNTIL(m, dbe_link_last_error(link, NULL) != DBE_OK);
    assert_null(dbe_link_peer(link));
    dbe_link_close(link);
    dbe_node_free(node);
    dbe_credential_free(credential);
    dbe_trust_free(trust);
    settle(m);
    assert_int_equal(router->handled, 0);
}

static void test_dump(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();

    router->mode = HOLD;
    ask(m, &a);
    PUMP_UNTIL(m, router->held != NULL);
    svc_dump_state(m->router);
    assert_true(logged(m, "\"message\":\"handled=1\""));
    assert_true(logged(m, "L7_CHAT_REQ from device 0"));
    assert_true(logged(m, "peer shim-0 suite="));
}

static void test_open_failures(void **state)
{
    struct mesh *m = *state;
    struct svc_config cfg = config_for(m, "nobody-9", "inproc:x");
    struct svc *svc = NULL;
    struct dbe_diag diag = {0};
    enum svc_exit code = SVC_EXIT_OK;

    assert_int_not_equal(
        svc_open(m->loop, &worker_device, &cfg, base_alloc(1, sizeof(struct server)), &svc, &code, &diag), DBE_OK);
    assert_int_equal(code, SVC_EXIT_KEYS);
    assert_non_null(strstr(diag.text, "nobody-9"));
    cfg = config_for(m, "router-43", "inproc:x"); /* somebody else's credential */
    assert_int_equal(svc_open(m->loop, &worker_device, &cfg, base_alloc(1, sizeof(struct server)), &svc, &code, &diag),
                     DBE_E_CERT);
    assert_int_equal(code, SVC_EXIT_KEYS);
    assert_non_null(strstr(diag.text, "router-43"));
    cfg = config_for(m, "worker-47", "nonsense:x");
    assert_int_not_equal(
        svc_open(m->loop, &worker_device, &cfg, base_alloc(1, sizeof(struct server)), &svc, &code, &diag), DBE_OK);
    assert_int_equal(code, SVC_EXIT_USAGE);
    assert_null(svc);
}

/* Both links are up, again where one was lost: its back-off takes up to two seconds of this clock. */
static void links_up(struct mesh *m)
{
    for (int i = 0; i < 100 && !(svc_link_is_up(&m->front->links[0]) && svc_link_is_up(&m->router->links[0])); i++) {
        clock_ns += 50 * (uint64_t)BASE_NS_PER_MS;
        settle(m);
    }
    assert_true(svc_link_is_up(&m->front->links[0]) && svc_link_is_up(&m->router->links[0]));
}

/* Every allocation of a forwarded request fails once, one after the other: the request ends in one way or the
 * other, and the next one is served. */
static void test_no_memory(void **state)
{
    struct mesh *m = *state;
    struct ask a = ask_good();
    unsigned answered = 0, failed = 0;

    router->mode = FORWARD;
    ask(m, &a); /* tables and buffers of the first time */
    PUMP_UNTIL(m, answer.last);
    for (uint64_t nth = 1; answered < 3; nth++) {
        base_fail_alloc_at(nth);
        dbe_err err = try_send(m, &a, NULL);
        for (int i = 0; i < 200 && err == DBE_OK && !answer.last; i++)
            turn(m);
        base_fail_alloc_at(0);
        if (err == DBE_OK && !answer.last) /* the answer itself was lost: the deadline ends it */
            clock_ns += 11 * BASE_NS_PER_S;
        if (err == DBE_OK)
            PUMP_UNTIL(m, answer.last);
        bool good = err == DBE_OK && answer.count == 1 && answer.type[0] == DBE_MSG_L7_CHAT_RESP;
        answered += good;
        failed += !good;
        settle(m);
        links_up(m);
        assert_true(nth < 500);
    }
    assert_true(failed > 0);
    PUMP_UNTIL(m, m->router->req_count == 0 && m->worker->req_count == 0);
    assert_int_equal(m->router->call_count, 0);
    assert_int_equal(m->front->call_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MESH_TEST(test_drain),         MESH_TEST(test_drain_has_an_end),
        MESH_TEST(test_health),        MESH_TEST(test_start_waits_for_neighbours),
        MESH_TEST(test_ready),         MESH_TEST(test_wake),
        MESH_TEST(test_admin_pages),   MESH_TEST(test_device_orders),
        MESH_TEST(test_foreign_mesh),  MESH_TEST(test_dump),
        MESH_TEST(test_open_failures), MESH_TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, group_up, group_down);
}
