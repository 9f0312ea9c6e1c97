/* SPDX-License-Identifier: Apache-2.0
 *
 * transport_test.c - connections over Unix sockets and within the loop: order, back-pressure, ends, stale files.
 */
#include "transport/tp_impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"
#include "dbe/limits.h"

enum { TURNS_MAX = 20000, RECV_MAX = 64 * 1024 };

/* One end of a connection: what it was told, and how it behaves. */
struct end {
    struct tp_conn *conn;
    struct base_buf got;
    size_t unit;      /* consume multiples of this many bytes; 0: nothing */
    bool close_early; /* close inside on_data */
    unsigned connected, drained, closed;
    dbe_err why;
};

struct fixture {
    struct dbe_loop *loop;
    struct tp_listener *listener;
    struct end near, far;
    char dir[64], address[TP_ADDRESS_MAX];
    const char *path;
    bool refuse; /* close what is accepted */
    unsigned accepted;
};

static size_t on_data(void *ctx, struct tp_conn *conn, uint8_t *data, size_t len)
{
    struct end *e = ctx;

    assert_ptr_equal(e->conn, conn);
    if (e->close_early) {
        e->conn = NULL;
        tp_close(conn, false);
        return len;
    }
    size_t used = e->unit == 0 ? 0 : len - len % e->unit;
    base_buf_bytes(&e->got, data, used);
    memset(data, 0xEE, used); /* scratch belongs to us during the call */
    return used;
}

static void on_connected(void *ctx, struct tp_conn *conn)
{
    (void)conn;
    ((struct end *)ctx)->connected++;
}

static void on_drained(void *ctx, struct tp_conn *conn)
{
    assert_int_equal(tp_queued_bytes(conn), 0);
    ((struct end *)ctx)->drained++;
}

static void on_closed(void *ctx, struct tp_conn *conn, dbe_err why)
{
    struct end *e = ctx;

    e->closed++;
    e->why = why;
    e->conn = NULL;
    tp_close(conn, false);
}

static const struct tp_conn_ops ops = {on_data, on_connected, on_drained, on_closed};

static void on_accept(void *ctx, struct tp_conn *conn)
{
    struct fixture *f = ctx;

    f->accepted++;
    if (f->refuse) {
        tp_close(conn, false);
        return;
    }
    if (tp_conn_start(conn, &ops, &f->far, RECV_MAX) == DBE_OK)
        f->far.conn = conn;
    else
        tp_close(conn, false);
}

static void turn(struct fixture *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(base_loop_turn(f->loop, 0), DBE_OK);
}

#define TURN_UNTIL(f, cond)                                                                                            \
    do {                                                                                                               \
        int turns_ = 0;                                                                                                \
        while (!(cond) && turns_++ < TURNS_MAX)                                                                        \
            turn(f, 1);                                                                                                \
        assert_true(cond);                                                                                             \
    } while (0)

static void end_init(struct end *e)
{
    base_buf_init(&e->got, (size_t)DBE_SEND_QUEUE_MAX_BYTES * 2);
    e->unit = 1;
}

static int setup(void **state, const char *scheme)
{
    struct fixture *f = base_alloc(1, sizeof *f);

    assert_non_null(f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/dsmil-tp-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->address, sizeof f->address, "%s:%s/a.sock", scheme, f->dir);
    f->path = strchr(f->address, '/');
    assert_int_equal(base_loop_new(&f->loop), DBE_OK);
    end_init(&f->near);
    end_init(&f->far);
    assert_int_equal(tp_listen(f->loop, f->address, on_accept, f, &f->listener, NULL), DBE_OK);
    *state = f;
    return 0;
}

static int setup_uds(void **state)
{
    return setup(state, "uds");
}

static int setup_shm(void **state)
{
    return setup(state, "shm");
}

static int setup_inproc(void **state)
{
    return setup(state, "inproc");
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    tp_close(f->near.conn, false);
    tp_close(f->far.conn, false);
    tp_listener_free(f->listener);
    base_loop_free(f->loop);
    base_buf_free(&f->near.got);
    base_buf_free(&f->far.got);
    assert_int_equal(rmdir(f->dir), 0); /* socket and lock file are gone */
    base_free(f);
    return 0;
}

static void dial(struct fixture *f)
{
    struct dbe_diag diag = {0};

    assert_int_equal(tp_connect(f->loop, f->address, &ops, &f->near, RECV_MAX, &f->near.conn, &diag), DBE_OK);
    assert_int_equal(f->near.connected, 0); /* never from within tp_connect */
    TURN_UNTIL(f, f->near.connected == 1 && f->far.conn != NULL);
}

/* ---- cases for every transport --------------------------------------------------------------------------------- */

/* spec 5.1 */
static void bytes_arrive_in_order_and_in_units(void **state)
{
    struct fixture *f = *state;
    uint8_t data[1000];

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7);
    dial(f);
    f->far.unit = 64; /* leaves a rest that is offered again with what follows */
    for (size_t at = 0; at < sizeof data; at += 10) {
        assert_int_equal(tp_send(f->near.conn, data + at, 10), DBE_OK);
        turn(f, 1);
    }
    TURN_UNTIL(f, f->far.got.len >= 960);
    assert_int_equal(f->far.got.len, 960);
    assert_memory_equal(f->far.got.data, data, 960);
    f->far.unit = 1;
    assert_int_equal(tp_send(f->near.conn, data, 1), DBE_OK);
    TURN_UNTIL(f, f->far.got.len == 1001);
    assert_memory_equal(f->far.got.data + 960, data + 960, 40);
    assert_int_equal(tp_send(f->far.conn, "back", 4), DBE_OK); /* and the other way */
    TURN_UNTIL(f, f->near.got.len == 4);
    assert_memory_equal(f->near.got.data, "back", 4);
    assert_int_equal(tp_send(f->near.conn, NULL, 0), DBE_OK);
}

static void an_idle_connection_holds_no_buffer(void **state)
{
    struct fixture *f = *state;
    uint8_t data[20000] = {0};

    dial(f);
    assert_null(f->far.conn->in.data);
    f->far.unit = 1000;
    assert_int_equal(tp_send(f->near.conn, data, 1010), DBE_OK);
    TURN_UNTIL(f, f->far.got.len == 1000);
    turn(f, 1);
    assert_int_equal(f->far.conn->in.cap, 10); /* the beginning of something, and no more than that */
    f->far.unit = 20000;
    assert_int_equal(tp_send(f->near.conn, data, 9990), DBE_OK);
    TURN_UNTIL(f, f->far.conn->in.len == 10000);
    assert_int_equal(tp_send(f->near.conn, data, 10000), DBE_OK);
    TURN_UNTIL(f, f->far.got.len == 21000);
    turn(f, 1);
    assert_null(f->far.conn->in.data);
}

static void slow_reader_fills_the_queue_and_no_more(void **state)
{
    struct fixture *f = *state;
    const size_t piece = 1024 * 1024;
    uint8_t *data = malloc(piece);
    size_t sent = 0;
    dbe_err err;

    assert_non_null(data);
    dial(f);
    do {
        for (size_t i = 0; i < piece; i += 4)
            base_put_u32(data + i, (uint32_t)(sent + i));
        err = tp_send(f->near.conn, data, piece);
        sent += err == DBE_OK ? piece : 0;
    } while (err == DBE_OK);
    assert_int_equal(err, DBE_E_LIMIT);
    assert_true(tp_queued_bytes(f->near.conn) <= DBE_SEND_QUEUE_MAX_BYTES);
    assert_true(tp_queued_bytes(f->near.conn) > DBE_SEND_QUEUE_MAX_BYTES - piece);
    TURN_UNTIL(f, f->far.got.len == sent);
    TURN_UNTIL(f, f->near.drained > 0);
    for (size_t i = 0; i < sent; i += 4)
        if (base_get_u32(f->far.got.data + i) != (uint32_t)i)
            fail_msg("byte %zu is not what was sent", i);
    assert_int_equal(tp_send(f->near.conn, data, piece), DBE_OK);
    TURN_UNTIL(f, f->far.got.len == sent + piece);
    free(data);
}

static void unconsumed_input_is_bounded(void **state)
{
    struct fixture *f = *state;
    uint8_t *data = calloc(1, RECV_MAX * 2);

    assert_non_null(data);
    dial(f);
    f->far.unit = 0;
    assert_int_equal(tp_send(f->near.conn, data, (size_t)RECV_MAX * 2), DBE_OK);
    TURN_UNTIL(f, f->far.closed == 1);
    assert_int_equal(f->far.why, DBE_E_TOO_LARGE);
    TURN_UNTIL(f, f->near.closed == 1);
    assert_int_equal(f->near.why, DBE_E_CLOSED);
    free(data);
}

static void peer_that_vanishes_is_noticed_once(void **state)
{
    struct fixture *f = *state;

    dial(f);
    assert_int_equal(tp_send(f->far.conn, "unread", 6), DBE_OK);
    tp_close(f->near.conn, false);
    f->near.conn = NULL;
    assert_int_equal(tp_send(f->far.conn, "lost", 4), DBE_E_CLOSED); /* and no SIGPIPE */
    TURN_UNTIL(f, f->far.closed == 1);
    turn(f, 3);
    assert_int_equal(f->far.closed, 1);
    assert_int_equal(f->far.why, DBE_E_CLOSED);
}

static void what_was_sent_before_the_end_arrives(void **state)
{
    struct fixture *f = *state;
    const size_t len = 4 * 1024 * 1024;
    uint8_t *data = calloc(1, len);

    assert_non_null(data);
    dial(f);
    assert_int_equal(tp_send(f->near.conn, data, len), DBE_OK);
    assert_true(tp_queued_bytes(f->near.conn) > 0);
    tp_close(f->near.conn, true);
    f->near.conn = NULL;
    TURN_UNTIL(f, f->far.closed == 1);
    assert_int_equal(f->far.got.len, len);
    assert_int_equal(f->near.closed, 0); /* no callback after tp_close */
    free(data);
}

static void owner_may_close_inside_a_callback(void **state)
{
    struct fixture *f = *state;

    dial(f);
    f->far.close_early = true;
    assert_int_equal(tp_send(f->near.conn, "x", 1), DBE_OK);
    TURN_UNTIL(f, f->near.closed == 1);
    assert_null(f->far.conn);
    assert_int_equal(f->far.closed, 0);
}

static void refused_connection_ends(void **state)
{
    struct fixture *f = *state;

    f->refuse = true;
    assert_int_equal(tp_connect(f->loop, f->address, &ops, &f->near, RECV_MAX, &f->near.conn, NULL), DBE_OK);
    TURN_UNTIL(f, f->near.closed == 1);
}

static void nobody_listens(void **state)
{
    struct fixture *f = *state;
    struct dbe_diag diag = {0};

    tp_listener_free(f->listener);
    f->listener = NULL;
    assert_int_equal(tp_connect(f->loop, f->address, &ops, &f->near, RECV_MAX, &f->near.conn, &diag),
                     DBE_E_UNAVAILABLE);
    assert_non_null(strstr(diag.text, "nobody listens"));
}

static void second_listener_is_refused(void **state)
{
    struct fixture *f = *state;
    struct tp_listener *second = NULL;
    struct dbe_diag diag = {0};

    assert_int_equal(tp_listen(f->loop, f->address, on_accept, f, &second, &diag), DBE_E_EXISTS);
    assert_null(second);
    dial(f); /* the first one is unharmed */
}

static void every_allocation_may_fail(void **state)
{
    struct fixture *f = *state;
    const size_t len = 1024 * 1024;
    uint8_t *data = calloc(1, len);
    unsigned fine = 0;

    assert_non_null(data);
    f->far.unit = f->near.unit = 1;
    for (uint64_t n = 1; fine == 0 && n < 200; n++) {
        f->near.closed = f->far.closed = f->near.connected = 0;
        base_fail_alloc_at(n);
        dbe_err err = tp_connect(f->loop, f->address, &ops, &f->near, RECV_MAX, &f->near.conn, NULL);
        if (err == DBE_OK)
            turn(f, 3);
        if (f->near.conn != NULL)
            err = tp_send(f->near.conn, data, len);
        bool failed = base_alloc_count() >= n;
        turn(f, 200);
        failed = failed || base_alloc_count() >= n;
        base_fail_alloc_at(0);
        fine += !failed && err == DBE_OK;
        tp_close(f->near.conn, false);
        f->near.conn = NULL;
        turn(f, 5);
        tp_close(f->far.conn, false);
        f->far.conn = NULL;
        base_buf_free(&f->far.got);
        end_init(&f->far);
    }
    assert_int_equal(fine, 1); /* the loop ended because nothing was left to fail */
    free(data);
}

/* Both ways, in pieces, with the n-th write failing: what a write may do without the peer being gone costs no byte. */
static bool talk_with_a_failing_write(struct fixture *f, const uint8_t *data, size_t len, uint64_t nth,
                                      enum base_fail_how how)
{
    struct end *ends[2] = {&f->near, &f->far};
    bool refused = false;

    f->near.closed = f->far.closed = 0;
    base_fail_send_at(nth, how);
    dbe_err err = tp_connect(f->loop, f->address, &ops, &f->near, RECV_MAX, &f->near.conn, NULL);
    turn(f, 3);
    for (size_t i = 0; err == DBE_OK && i < 2; i++) {
        for (size_t at = 0; at < len && ends[i]->conn != NULL && !refused; at += len / 4)
            refused = tp_send(ends[i]->conn, data + at, len / 4) != DBE_OK;
        turn(f, 3);
    }
    for (unsigned i = 0; i < 500 && (f->near.got.len < len || f->far.got.len < len); i++)
        turn(f, 1);
    bool failed = base_send_count() >= nth;
    base_fail_send_at(0, how);
    assert_int_equal(err, DBE_OK);
    for (size_t i = 0; i < 2; i++) {
        assert_true(ends[i]->got.len <= len); /* what did arrive is what was sent */
        assert_memory_equal(ends[i]->got.data, data, ends[i]->got.len);
        bool whole = ends[i]->got.len == len;
        assert_true(whole || refused || f->near.closed + f->far.closed > 0);
        tp_close(ends[i]->conn, false);
        ends[i]->conn = NULL;
        base_buf_free(&ends[i]->got);
        end_init(ends[i]);
    }
    assert_true(how == BASE_FAIL_GONE || !refused);
    turn(f, 3);
    tp_close(f->far.conn, false);
    f->far.conn = NULL;
    return failed;
}

static void every_write_may_fail(void **state)
{
    struct fixture *f = *state;
    const size_t len = 1024 * 1024;
    uint8_t *data = malloc(len);

    assert_non_null(data);
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    for (enum base_fail_how how = BASE_FAIL_AGAIN; how <= BASE_FAIL_GONE; how++) {
        uint64_t n = 1;
        while (talk_with_a_failing_write(f, data, len, n, how))
            assert_true(n++ < 500);
        assert_true(n > 8); /* there was something to fail */
    }
    free(data);
}

/* ---- Unix sockets alone ---------------------------------------------------------------------------------------- */

static void socket_is_private(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    uint32_t uid = 12345;
    int32_t pid = 0;

    assert_int_equal(lstat(f->path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0600);
    dial(f);
    assert_int_equal(tp_peer_cred(f->far.conn, &uid, &pid), DBE_OK);
    assert_int_equal(uid, geteuid());
    assert_int_equal(pid, getpid());
    assert_int_equal(tp_peer_cred(f->near.conn, &uid, &pid), DBE_OK);
    assert_int_equal(uid, geteuid());
}

static void bad_addresses_say_what_is_wrong(void **state)
{
    struct fixture *f = *state;
    struct tp_listener *l = NULL;
    struct dbe_diag diag = {0};
    char longer[TP_ADDRESS_MAX + 50];

    (void)snprintf(longer, sizeof longer, "uds:/%0*d", 150, 0);
    assert_int_equal(tp_listen(f->loop, longer, on_accept, f, &l, &diag), DBE_E_ARGUMENT);
    assert_non_null(strstr(diag.text, "107"));
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(tp_listen(f->loop, longer, on_accept, f, &l, &diag), DBE_E_ARGUMENT);
    assert_int_equal(tp_listen(f->loop, "uds:", on_accept, f, &l, &diag), DBE_E_ARGUMENT);
    assert_int_equal(tp_listen(f->loop, "uds:relative", on_accept, f, &l, &diag), DBE_E_ARGUMENT);
    assert_int_equal(tp_listen(f->loop, "tcp:1.2.3.4:5", on_accept, f, &l, &diag), DBE_E_ARGUMENT);
    assert_int_equal(tp_listen(f->loop, "uds:/nowhere/at/all", on_accept, f, &l, &diag), DBE_E_IO);
    assert_non_null(strstr(diag.text, "/nowhere/at/all"));
    assert_null(l);
}

/* Leave a socket file without an owner, as a killed process does. */
static void leave_stale(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    (void)snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(close(fd), 0);
}

static void stale_socket_is_replaced(void **state)
{
    struct fixture *f = *state;

    tp_listener_free(f->listener);
    f->listener = NULL;
    leave_stale(f->path);
    assert_int_equal(tp_listen(f->loop, f->address, on_accept, f, &f->listener, NULL), DBE_OK);
    dial(f);
}

static void live_socket_without_our_lock_is_left_alone(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct dbe_diag diag = {0};

    tp_listener_free(f->listener);
    f->listener = NULL;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)snprintf(addr.sun_path, sizeof addr.sun_path, "%s", f->path);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(tp_listen(f->loop, f->address, on_accept, f, &f->listener, &diag), DBE_E_EXISTS);
    assert_non_null(strstr(diag.text, "already listens"));
    assert_int_equal(access(f->path, F_OK), 0);
    (void)close(fd);
    assert_int_equal(unlink(f->path), 0);
}

static void other_file_in_the_way_is_left_alone(void **state)
{
    struct fixture *f = *state;
    struct dbe_diag diag = {0};

    tp_listener_free(f->listener);
    f->listener = NULL;
    int fd = open(f->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(tp_listen(f->loop, f->address, on_accept, f, &f->listener, &diag), DBE_E_EXISTS);
    assert_non_null(strstr(diag.text, "not a socket"));
    assert_int_equal(unlink(f->path), 0);
}

static void replaced_socket_file_is_not_unlinked(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(unlink(f->path), 0);
    leave_stale(f->path); /* somebody else's now */
    tp_listener_free(f->listener);
    f->listener = NULL;
    assert_int_equal(unlink(f->path), 0);
}

static uint64_t virtual_ns = 1000000000;

static uint64_t virtual_mono(void *ctx)
{
    (void)ctx;
    return virtual_ns;
}

static uint64_t virtual_wall(void *ctx)
{
    (void)ctx;
    return virtual_ns / BASE_NS_PER_MS;
}

static const struct base_clock_ops virtual_clock = {virtual_mono, virtual_wall, NULL};

static void out_of_descriptors_rests_and_recovers(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, none;
    const char *preloaded = getenv("LD_PRELOAD");

    if (preloaded != NULL && strstr(preloaded, "vgpreload") != NULL)
        skip(); /* memcheck keeps descriptors for itself, so the limit means another thing to it */
    base_clock_set(&virtual_clock);
    assert_int_equal(tp_connect(f->loop, f->address, &ops, &f->near, RECV_MAX, &f->near.conn, NULL), DBE_OK);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3; /* whatever is open stays open; nothing more opens */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct tp_conn *more = NULL;
    struct dbe_diag diag = {0};
    assert_int_equal(tp_connect(f->loop, f->address, &ops, &f->near, RECV_MAX, &more, &diag), DBE_E_LIMIT);
    turn(f, 5);
    assert_int_equal(f->accepted, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    turn(f, 5);
    assert_int_equal(f->accepted, 0); /* it rests, it does not spin */
    virtual_ns += UINT64_C(200) * BASE_NS_PER_MS;
    TURN_UNTIL(f, f->accepted == 1);
    base_clock_set(NULL);
}

/* No descriptor, no memory, no answer at the n-th step of a connection. */
static void every_step_of_a_connection_may_fail(void **state)
{
    struct fixture *f = *state;
    bool failed = true;

    base_clock_set(&virtual_clock);
    for (uint64_t n = 1; failed; n++) {
        assert_true(n < 20);
        f->near.closed = f->near.connected = 0;
        base_fail_connect_at(n);
        dbe_err err = tp_connect(f->loop, f->address, &ops, &f->near, RECV_MAX, &f->near.conn, NULL);
        turn(f, 5);
        virtual_ns += UINT64_C(200) * BASE_NS_PER_MS; /* a listener that rests comes back */
        turn(f, 5);
        failed = base_connect_count() >= n;
        base_fail_connect_at(0);
        if (err == DBE_OK)
            TURN_UNTIL(f, f->near.closed == 1 || (f->near.connected == 1 && f->far.conn != NULL));
        assert_true(failed || (err == DBE_OK && f->near.closed == 0));
        tp_close(f->near.conn, false);
        tp_close(f->far.conn, false);
        f->near.conn = f->far.conn = NULL;
        turn(f, 2);
    }
    f->near.connected = 0;
    dial(f);
    base_clock_set(NULL);
}

static void lingering_ends_when_nobody_reads(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    uint8_t *data = calloc(1, 4 * 1024 * 1024);
    char byte[4096];
    ssize_t n;

    assert_non_null(data);
    base_clock_set(&virtual_clock);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)snprintf(addr.sun_path, sizeof addr.sun_path, "%s", f->path);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    TURN_UNTIL(f, f->far.conn != NULL);
    assert_int_equal(tp_send(f->far.conn, data, 4 * 1024 * 1024), DBE_OK);
    tp_close(f->far.conn, true);
    f->far.conn = NULL;
    turn(f, 5);
    virtual_ns += UINT64_C(6000) * BASE_NS_PER_MS;
    turn(f, 2); /* gives up and frees: the leak checker and the end of file tell */
    while ((n = read(fd, byte, sizeof byte)) > 0)
        ;
    assert_int_equal(n, 0);
    (void)close(fd);
    base_clock_set(NULL);
    free(data);
}

#define UDS(test) cmocka_unit_test_setup_teardown(test, setup_uds, teardown)
#define SHM(test) cmocka_unit_test_setup_teardown(test, setup_shm, teardown)
#define SOCKETS(test) UDS(test), SHM(test)
#define ALL(test) SOCKETS(test), cmocka_unit_test_setup_teardown(test, setup_inproc, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(bytes_arrive_in_order_and_in_units),
        ALL(an_idle_connection_holds_no_buffer),
        ALL(slow_reader_fills_the_queue_and_no_more),
        ALL(unconsumed_input_is_bounded),
        ALL(peer_that_vanishes_is_noticed_once),
        ALL(what_was_sent_before_the_end_arrives),
        ALL(owner_may_close_inside_a_callback),
        ALL(refused_connection_ends),
        ALL(nobody_listens),
        ALL(second_listener_is_refused),
        ALL(every_allocation_may_fail),
        SOCKETS(every_write_may_fail),
        SOCKETS(every_step_of_a_connection_may_fail),
        SOCKETS(socket_is_private),
        SOCKETS(bad_addresses_say_what_is_wrong),
        SOCKETS(stale_socket_is_replaced),
        SOCKETS(live_socket_without_our_lock_is_left_alone),
        SOCKETS(other_file_in_the_way_is_left_alone),
        SOCKETS(replaced_socket_file_is_not_unlinked),
        SOCKETS(out_of_descriptors_rests_and_recovers),
        SOCKETS(lingering_ends_when_nobody_reads),
    };
    return cmocka_run_group_tests_name("transport", tests, NULL, NULL);
}
