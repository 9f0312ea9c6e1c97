/* SPDX-License-Identifier: Apache-2.0
 *
 * shm_test.c - shared memory that is not what it must be, hostile and killed processes at the other end, threads that
 * sleep and wake. What every transport must do is in transport_test.c, the rings alone are in shm_ring_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "transport/shm.h"
#include "transport/transport.h"

enum { TURNS_MAX = 200000, RECV_MAX = 64 * 1024, SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

/* ---- the memory -------------------------------------------------------------------------------------------------- */

/* Receive a hello as it is on the wire; the descriptor, -1 if there is none. */
static int raw_receive(int fd, struct shm_hello *ret)
{
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = ret, .iov_len = sizeof *ret};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.bytes};
    int memfd = -1;

    assert_int_equal(recvmsg(fd, &msg, MSG_CMSG_CLOEXEC), sizeof *ret);
    if (CMSG_FIRSTHDR(&msg) != NULL)
        memcpy(&memfd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof memfd);
    return memfd;
}

static void raw_send(int fd, const struct shm_hello *hello, size_t len, const int *fds, size_t fd_count)
{
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof(int[2]))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)hello, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd_count > 0) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        *CMSG_FIRSTHDR(&msg) = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(fd_count * sizeof(int))};
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, fd_count * sizeof(int));
    }
    assert_int_equal(sendmsg(fd, &msg, MSG_NOSIGNAL), len);
}

static int make_memfd(size_t bytes, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void the_memory_cannot_shrink_and_idle_pages_go_back(void **state)
{
    struct shm_area area = {0};
    struct shm_hello hello;
    struct shm_writer w;
    struct shm_reader r;
    struct stat st;
    uint8_t bytes[4096] = {1};
    size_t n = 0;
    int sv[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    assert_int_equal(shm_area_offer(sv[0], &area), DBE_OK);
    int memfd = raw_receive(sv[1], &hello);
    assert_true(memfd >= 0);
    assert_int_equal(ftruncate(memfd, 4096), -1);
    assert_int_equal(ftruncate(memfd, SHM_AREA_BYTES * 2), -1);
    shm_area_ends(&area, true, &w, &r);
    r = (struct shm_reader){.dir = w.dir, .data = w.data, .size = w.size}; /* of the same ring */
    for (int i = 0; i < 100; i++) {
        assert_int_equal(shm_write(&w, bytes, sizeof bytes, &n), DBE_OK);
        shm_trim(&w, 0); /* does nothing: the ring is not empty */
        assert_int_equal(shm_read(&r, bytes, sizeof bytes, &n), DBE_OK);
        assert_int_equal(bytes[0], 1);
    }
    assert_int_equal(fstat(memfd, &st), 0);
    assert_true(st.st_blocks * 512 >= SHM_RING_BYTES);
    shm_trim(&w, SHM_RING_BYTES * 4); /* not so much was used */
    assert_int_equal(fstat(memfd, &st), 0);
    assert_true(st.st_blocks * 512 >= SHM_RING_BYTES);
    shm_trim(&w, 8192);
    assert_int_equal(fstat(memfd, &st), 0);
    assert_true(st.st_blocks * 512 <= 2 * SHM_CONTROL_BYTES);
    assert_int_equal(shm_write(&w, bytes, 10, &n), DBE_OK);
    assert_int_equal(shm_read(&r, bytes, sizeof bytes, &n), DBE_OK);
    assert_int_equal(n, 10);
    shm_area_free(&area);
    (void)close(memfd);
    (void)close(sv[0]);
    (void)close(sv[1]);
}

static void every_failed_step_of_an_offer_is_reported(void **state)
{
    dbe_err err = DBE_E_IO;

    (void)state;
    for (uint64_t n = 1; err != DBE_OK; n++) {
        struct shm_area area = {0};
        int sv[2];
        assert_true(n < 10);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
        base_fail_connect_at(n);
        err = shm_area_offer(sv[0], &area);
        if (err == DBE_OK)
            err = shm_area_take(sv[1], &area);
        base_fail_connect_at(0);
        assert_true(n > 1 || err != DBE_OK);
        shm_area_free(&area);
        (void)close(sv[0]);
        (void)close(sv[1]);
    }
}

/* ---- connections ------------------------------------------------------------------------------------------------- */

struct end {
    struct tp_conn *conn;
    size_t got;
    unsigned connected, drained, closed;
    dbe_err why;
};

static size_t on_data(void *ctx, struct tp_conn *conn, uint8_t *data, size_t len)
{
    struct end *e = ctx;

    (void)conn;
    for (size_t i = 0; i < len; i++)
        if (data[i] != (uint8_t)((e->got + i) * 7))
            fail_msg("byte %zu is not what was sent", e->got + i);
    e->got += len;
    return len;
}

static void on_connected(void *ctx, struct tp_conn *conn)
{
    (void)conn;
    ((struct end *)ctx)->connected++;
}

static void on_drained(void *ctx, struct tp_conn *conn)
{
    (void)conn;
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

struct fixture {
    struct dbe_loop *loop;
    struct tp_listener *listener; /* ours, or */
    int raw_listener;             /* a hostile one */
    struct end near, far;
    char dir[64], address[TP_ADDRESS_MAX];
};

static void on_accept(void *ctx, struct tp_conn *conn)
{
    struct fixture *f = ctx;

    assert_int_equal(tp_conn_start(conn, &ops, &f->far, RECV_MAX), DBE_OK);
    f->far.conn = conn;
}

static void until_count(struct fixture *f, const unsigned *count, unsigned wanted)
{
    for (int i = 0; i < TURNS_MAX && *count < wanted; i++)
        assert_int_equal(base_loop_turn(f->loop, 1), DBE_OK);
    assert_int_equal(*count, wanted);
}

static void until_got(struct fixture *f, const size_t *got, size_t bytes)
{
    for (int i = 0; i < TURNS_MAX && *got < bytes; i++)
        assert_int_equal(base_loop_turn(f->loop, 1), DBE_OK);
    assert_int_equal(*got, bytes);
}

static int setup(void **state, bool hostile)
{
    struct fixture *f = base_alloc(1, sizeof *f);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    assert_non_null(f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/dsmil-shm-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->address, sizeof f->address, "shm:%s/a.sock", f->dir);
    (void)snprintf(addr.sun_path, sizeof addr.sun_path, "%s/a.sock", f->dir);
    assert_int_equal(base_loop_new(&f->loop), DBE_OK);
    f->raw_listener = -1;
    if (hostile) {
        f->raw_listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(f->raw_listener, (struct sockaddr *)&addr, sizeof addr), 0);
        assert_int_equal(listen(f->raw_listener, 8), 0);
    } else {
        assert_int_equal(tp_listen(f->loop, f->address, on_accept, f, &f->listener, NULL), DBE_OK);
    }
    *state = f;
    return 0;
}

static int setup_honest(void **state)
{
    return setup(state, false);
}

static int setup_hostile(void **state)
{
    return setup(state, true);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    tp_close(f->near.conn, false);
    tp_close(f->far.conn, false);
    tp_listener_free(f->listener);
    base_loop_free(f->loop);
    if (f->raw_listener >= 0) {
        (void)close(f->raw_listener);
        assert_int_equal(unlink(strchr(f->address, '/')), 0);
    }
    assert_int_equal(rmdir(f->dir), 0);
    base_free(f);
    return 0;
}

static void dial(struct fixture *f)
{
    assert_int_equal(tp_connect(f->loop, f->address, &ops, &f->near, RECV_MAX, &f->near.conn, NULL), DBE_OK);
}

/* Connect to the hostile listener; its end of the socket. */
static int dial_raw(struct fixture *f)
{
    f->near = (struct end){0};
    dial(f);
    int fd = accept4(f->raw_listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static uint8_t *numbered(size_t from, size_t len)
{
    uint8_t *bytes = malloc(len);

    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)((from + i) * 7);
    return bytes;
}

static void an_offer_that_is_not_what_it_must_be_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct shm_hello good = {.magic = SHM_MAGIC, .version = SHM_VERSION, .ring_bytes = SHM_RING_BYTES};
    struct shm_hello magic = good, version = good, size = good;
    int file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int pipes[2];

    assert_true(file >= 0 && ftruncate(file, SHM_AREA_BYTES) == 0 && pipe2(pipes, O_CLOEXEC) == 0);
    magic.magic++;
    version.version++;
    size.ring_bytes *= 2;
    int whole = make_memfd(SHM_AREA_BYTES, SEALS);
    const struct {
        const struct shm_hello *hello;
        size_t len;
        int fds[2];
        size_t fd_count;
    } cases[] = {
        {&good, sizeof good, {-1}, 0},
        {&good, sizeof good - 1, {whole}, 1},
        {&good, 1, {-1}, 0},
        {&magic, sizeof good, {whole}, 1},
        {&version, sizeof good, {whole}, 1},
        {&size, sizeof good, {whole}, 1},
        {&good, sizeof good, {whole, whole}, 2},
        {&good, sizeof good, {file}, 1},
        {&good, sizeof good, {pipes[0]}, 1},
        {&good, sizeof good, {make_memfd(SHM_AREA_BYTES, 0)}, 1},
        {&good, sizeof good, {make_memfd(SHM_AREA_BYTES, F_SEAL_SHRINK | F_SEAL_SEAL)}, 1},
        {&good, sizeof good, {make_memfd(SHM_AREA_BYTES, F_SEAL_SHRINK | F_SEAL_GROW)}, 1},
        {&good, sizeof good, {make_memfd(SHM_AREA_BYTES - 4096, SEALS)}, 1},
        {&good, sizeof good, {make_memfd(SHM_AREA_BYTES + 4096, SEALS)}, 1},
        {&good, sizeof good, {make_memfd(0, SEALS)}, 1},
    };
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++) {
        int fd = dial_raw(f);
        raw_send(fd, cases[i].hello, cases[i].len, cases[i].fds, cases[i].fd_count);
        until_count(f, &f->near.closed, 1);
        assert_int_equal(f->near.why, DBE_E_PROTOCOL);
        assert_int_equal(f->near.connected, 0);
        (void)close(fd);
        if (i >= 7 && i != 8)
            (void)close(cases[i].fds[0]);
    }
    int sealed = make_memfd(SHM_AREA_BYTES, SEALS | F_SEAL_WRITE), fd = dial_raw(f);
    raw_send(fd, &good, sizeof good, &sealed, 1);
    until_count(f, &f->near.closed, 1);
    assert_int_equal(f->near.why, DBE_E_NOMEM); /* it cannot be mapped */
    (void)close(fd);
    fd = dial_raw(f);
    (void)close(fd);
    until_count(f, &f->near.closed, 1);
    assert_int_equal(f->near.why, DBE_E_CLOSED);
    (void)close(sealed);
    (void)close(whole);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
}

/* A hostile listener that offered good memory: our end's connection, its socket and its view. */
struct hostile {
    int fd;
    struct shm_area area;
    struct shm_writer w;
    struct shm_reader r;
};

static void hostile_open(struct fixture *f, struct hostile *h)
{
    const struct shm_hello good = {.magic = SHM_MAGIC, .version = SHM_VERSION, .ring_bytes = SHM_RING_BYTES};
    int memfd = make_memfd(SHM_AREA_BYTES, SEALS);

    h->fd = dial_raw(f);
    h->area.map = mmap(NULL, SHM_AREA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    assert_ptr_not_equal(h->area.map, MAP_FAILED);
    shm_area_ends(&h->area, true, &h->w, &h->r);
    raw_send(h->fd, &good, sizeof good, &memfd, 1);
    (void)close(memfd);
    until_count(f, &f->near.connected, 1);
}

static void hostile_close(struct hostile *h)
{
    shm_area_free(&h->area);
    (void)close(h->fd);
}

static void a_wild_head_ends_the_connection(void **state)
{
    static const uint64_t heads[] = {SHM_RING_BYTES + 1, UINT64_MAX, UINT64_C(1) << 63};
    struct fixture *f = *state;

    for (size_t i = 0; i < BASE_ARRAY_LEN(heads); i++) {
        struct hostile h;
        hostile_open(f, &h);
        atomic_store(&h.w.dir->head, heads[i]);
        assert_int_equal(send(h.fd, "k", 1, MSG_NOSIGNAL), 1);
        until_count(f, &f->near.closed, 1);
        assert_int_equal(f->near.why, DBE_E_PROTOCOL);
        assert_int_equal(f->near.got, 0);
        hostile_close(&h);
    }
}

static void a_wild_tail_ends_the_connection(void **state)
{
    struct fixture *f = *state;
    uint8_t *bytes = numbered(0, SHM_RING_BYTES);
    struct hostile h;

    hostile_open(f, &h);
    assert_int_equal(tp_send(f->near.conn, bytes, 1000), DBE_OK);
    atomic_store(&h.r.dir->tail, 1001); /* more than was ever written */
    assert_int_equal(tp_send(f->near.conn, bytes, SHM_RING_BYTES), DBE_E_PROTOCOL);
    assert_int_equal(tp_send(f->near.conn, bytes, 1), DBE_E_CLOSED);
    until_count(f, &f->near.closed, 1);
    assert_int_equal(f->near.why, DBE_E_PROTOCOL);
    hostile_close(&h);

    hostile_open(f, &h); /* the same while bytes wait in the queue */
    assert_int_equal(tp_send(f->near.conn, bytes, SHM_RING_BYTES), DBE_OK);
    assert_int_equal(tp_send(f->near.conn, bytes, 1000), DBE_OK);
    assert_int_equal(tp_queued_bytes(f->near.conn), 1000);
    atomic_store(&h.r.dir->tail, UINT64_MAX);
    assert_int_equal(send(h.fd, "k", 1, MSG_NOSIGNAL), 1);
    until_count(f, &f->near.closed, 1);
    assert_int_equal(f->near.why, DBE_E_PROTOCOL);
    hostile_close(&h);
    free(bytes);
}

/* Flags that lie, knocks without end, descriptors nobody asked for: nothing but work for the one who sends them. */
static void noise_does_no_harm(void **state)
{
    const struct shm_hello good = {.magic = SHM_MAGIC, .version = SHM_VERSION, .ring_bytes = SHM_RING_BYTES};
    struct fixture *f = *state;
    uint8_t *bytes = numbered(0, 100000);
    char knocks[4096] = {0};
    struct hostile h;
    size_t n = 0;

    hostile_open(f, &h);
    int memfd = make_memfd(SHM_AREA_BYTES, SEALS);
    for (int i = 0; i < 100; i++) {
        (void)send(h.fd, knocks, sizeof knocks, MSG_NOSIGNAL | MSG_DONTWAIT);
        atomic_store(&h.r.dir->sleeps, (uint32_t)i);
        atomic_store(&h.w.dir->waits, 77);
        atomic_store(&h.w.dir->sleeps, 0);
        assert_int_equal(tp_send(f->near.conn, bytes, 100), DBE_OK);
        assert_int_equal(base_loop_turn(f->loop, 0), DBE_OK);
        while (recv(h.fd, knocks, sizeof knocks, MSG_DONTWAIT) > 0)
            ;
    }
    for (int i = 0; i < 3000; i++) /* its knocks are taken, some at a time */
        assert_int_equal(base_loop_turn(f->loop, 0), DBE_OK);
    raw_send(h.fd, &good, sizeof good, &memfd, 1); /* once more: knocks, as any byte */
    assert_int_equal(shm_write(&h.w, bytes, 100000, &n), DBE_OK);
    (void)send(h.fd, "k", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    until_got(f, &f->near.got, 100000);
    assert_int_equal(f->near.closed, 0);
    (void)close(memfd);
    hostile_close(&h);
    until_count(f, &f->near.closed, 1);
    assert_int_equal(f->near.why, DBE_E_CLOSED);
    free(bytes);
}

/* A process that wrote and was killed before anybody read, and one that was killed while it was written to. */
static void a_killed_process_is_noticed_and_what_it_wrote_arrives(void **state)
{
    struct fixture *f = *state;
    uint8_t *bytes = numbered(0, 200000);
    int ready[2], status;
    char byte;

    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* whatever becomes of this test */
        struct dbe_loop *loop = NULL;
        struct end e = {0};
        bool fine = base_loop_new(&loop) == DBE_OK &&
                    tp_connect(loop, f->address, &ops, &e, RECV_MAX, &e.conn, NULL) == DBE_OK;
        while (fine && e.connected == 0)
            fine = base_loop_turn(loop, -1) == DBE_OK;
        fine = fine && tp_send(e.conn, bytes, 200000) == DBE_OK && write(ready[1], "r", 1) == 1;
        (void)raise(SIGKILL);
    }
    for (int i = 0; i < TURNS_MAX && f->far.conn == NULL; i++)
        assert_int_equal(base_loop_turn(f->loop, 1), DBE_OK);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    until_count(f, &f->far.closed, 1);
    assert_int_equal(f->far.got, 200000);
    assert_int_equal(f->far.why, DBE_E_CLOSED);
    (void)close(ready[0]);
    (void)close(ready[1]);
    free(bytes);
}

static void a_process_killed_while_the_ring_is_full_is_noticed(void **state)
{
    struct fixture *f = *state;
    uint8_t *bytes = numbered(0, SHM_RING_BYTES * 2);
    int ready[2], status;
    char byte;

    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* whatever becomes of this test */
        struct dbe_loop *loop = NULL;
        struct end e = {0};
        bool fine = base_loop_new(&loop) == DBE_OK &&
                    tp_connect(loop, f->address, &ops, &e, RECV_MAX, &e.conn, NULL) == DBE_OK;
        while (fine && e.connected == 0)
            fine = base_loop_turn(loop, -1) == DBE_OK;
        fine = fine && write(ready[1], "r", 1) == 1;
        for (;;)
            (void)pause(); /* connected, and never reads */
    }
    for (int i = 0; i < TURNS_MAX && f->far.conn == NULL; i++)
        assert_int_equal(base_loop_turn(f->loop, 1), DBE_OK);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(tp_send(f->far.conn, bytes, SHM_RING_BYTES * 2), DBE_OK);
    for (int i = 0; i < 10; i++)
        assert_int_equal(base_loop_turn(f->loop, 0), DBE_OK);
    assert_int_equal(tp_queued_bytes(f->far.conn), SHM_RING_BYTES);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    until_count(f, &f->far.closed, 1);
    assert_int_equal(f->far.why, DBE_E_CLOSED);
    (void)close(ready[0]);
    (void)close(ready[1]);
    free(bytes);
}

static void many_connections_share_a_loop(void **state)
{
    enum { MANY = 200 };
    struct fixture *f = *state;
    struct end *near = calloc(MANY, sizeof *near), *far = calloc(MANY, sizeof *far);
    uint8_t *bytes = numbered(0, 3000);

    assert_true(near != NULL && far != NULL);
    for (size_t i = 0; i < MANY; i++) {
        f->far.conn = NULL;
        assert_int_equal(tp_connect(f->loop, f->address, &ops, &near[i], RECV_MAX, &near[i].conn, NULL), DBE_OK);
        until_count(f, &near[i].connected, 1);
        far[i].conn = f->far.conn;
        assert_non_null(far[i].conn);
    }
    for (size_t round = 0; round < 3; round++) {
        f->far.got = 0;
        for (size_t i = 0; i < MANY; i++)
            assert_int_equal(tp_send(far[i].conn, bytes + round * 1000, 1000), DBE_OK);
        for (size_t i = 0; i < MANY; i++)
            until_got(f, &near[i].got, (round + 1) * 1000);
    }
    for (size_t i = 0; i < MANY; i++) {
        tp_close(near[i].conn, false);
        tp_close(far[i].conn, false);
    }
    f->far.conn = NULL;
    free(near);
    free(far);
    free(bytes);
}

/* ---- two threads ------------------------------------------------------------------------------------------------- */

/* Both ends send and receive for themselves, in pieces of all sizes; every lost wake-up would stop them for good. */
enum { STREAM_BYTES = 12 * 1024 * 1024, PIECE_MAX = 40000, QUEUE_HIGH = 300000 };

struct streamer {
    struct end end; /* first: the callbacks' context */
    struct dbe_loop *loop;
    size_t sent, limit;
    unsigned seed;
    const char *address;
    bool listens;
};

static void stream_send(struct streamer *s)
{
    while (s->sent < s->limit && tp_queued_bytes(s->end.conn) < QUEUE_HIGH) {
        s->seed = s->seed * 1103515245U + 12345U;
        size_t len = BASE_MIN((size_t)(s->seed >> 8) % PIECE_MAX + 1, s->limit - s->sent);
        uint8_t *bytes = numbered(s->sent, len);
        assert_int_equal(tp_send(s->end.conn, bytes, len), DBE_OK);
        free(bytes);
        s->sent += len;
        if ((s->seed >> 28) == 0)
            return; /* and sleep for once */
    }
}

static void stream_accept(void *ctx, struct tp_conn *conn)
{
    struct streamer *s = ctx;

    assert_int_equal(tp_conn_start(conn, &ops, &s->end, RECV_MAX), DBE_OK);
    s->end.conn = conn;
    s->end.connected = 1;
}

/* Echo of progress: an end sends while the other's bytes come, so each turn may send again. */
static void *stream_run(void *arg)
{
    struct streamer *s = arg;

    while (s->end.connected == 0)
        assert_int_equal(base_loop_turn(s->loop, -1), DBE_OK);
    while (s->end.got < s->limit || s->sent < s->limit || tp_queued_bytes(s->end.conn) > 0) {
        stream_send(s);
        if (s->end.got < s->limit || tp_queued_bytes(s->end.conn) > 0)
            assert_int_equal(base_loop_turn(s->loop, s->sent < s->limit ? 0 : -1), DBE_OK);
    }
    return NULL;
}

static void two_threads_stream_both_ways(void **state)
{
    struct fixture *f = *state;
    char address[TP_ADDRESS_MAX];
    struct streamer a = {.limit = STREAM_BYTES, .seed = 1, .listens = true}, b = {.limit = STREAM_BYTES, .seed = 2};
    struct tp_listener *listener = NULL;
    pthread_t thread;

    (void)snprintf(address, sizeof address, "shm:%s/b.sock", f->dir);
    assert_int_equal(base_loop_new(&a.loop), DBE_OK);
    assert_int_equal(base_loop_new(&b.loop), DBE_OK);
    assert_int_equal(tp_listen(a.loop, address, stream_accept, &a, &listener, NULL), DBE_OK);
    assert_int_equal(tp_connect(b.loop, address, &ops, &b.end, RECV_MAX, &b.end.conn, NULL), DBE_OK);
    assert_int_equal(pthread_create(&thread, NULL, stream_run, &a), 0);
    (void)stream_run(&b);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(a.end.got, STREAM_BYTES);
    assert_int_equal(b.end.got, STREAM_BYTES);
    tp_close(a.end.conn, false);
    tp_close(b.end.conn, false);
    tp_listener_free(listener);
    base_loop_free(a.loop);
    base_loop_free(b.loop);
}

/* One byte there and back, both ends asleep in between: the wake-up is all there is. */
static void *answer_run(void *arg)
{
    struct streamer *s = arg;

    while (s->end.connected == 0)
        assert_int_equal(base_loop_turn(s->loop, -1), DBE_OK);
    for (size_t i = 0; i < s->limit; i++) {
        uint8_t byte = (uint8_t)(i * 7);
        if (!s->listens)
            assert_int_equal(tp_send(s->end.conn, &byte, 1), DBE_OK);
        while (s->end.got <= i)
            assert_int_equal(base_loop_turn(s->loop, -1), DBE_OK);
        if (s->listens)
            assert_int_equal(tp_send(s->end.conn, &byte, 1), DBE_OK);
    }
    return NULL;
}

static void no_wake_up_is_lost(void **state)
{
    struct fixture *f = *state;
    char address[TP_ADDRESS_MAX];
    struct streamer a = {.limit = 5000, .listens = true}, b = {.limit = 5000};
    struct tp_listener *listener = NULL;
    pthread_t thread;

    (void)snprintf(address, sizeof address, "shm:%s/b.sock", f->dir);
    assert_int_equal(base_loop_new(&a.loop), DBE_OK);
    assert_int_equal(base_loop_new(&b.loop), DBE_OK);
    assert_true(base_loop_fd(a.loop) >= 0); /* this one is at rest after every turn */
    assert_int_equal(tp_listen(a.loop, address, stream_accept, &a, &listener, NULL), DBE_OK);
    assert_int_equal(tp_connect(b.loop, address, &ops, &b.end, RECV_MAX, &b.end.conn, NULL), DBE_OK);
    assert_int_equal(pthread_create(&thread, NULL, answer_run, &a), 0);
    (void)answer_run(&b);
    assert_int_equal(pthread_join(thread, NULL), 0);
    tp_close(a.end.conn, false);
    tp_close(b.end.conn, false);
    tp_listener_free(listener);
    base_loop_free(a.loop);
    base_loop_free(b.loop);
}

#define HONEST(test) cmocka_unit_test_setup_teardown(test, setup_honest, teardown)
#define HOSTILE(test) cmocka_unit_test_setup_teardown(test, setup_hostile, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_memory_cannot_shrink_and_idle_pages_go_back),
        cmocka_unit_test(every_failed_step_of_an_offer_is_reported),
        HOSTILE(an_offer_that_is_not_what_it_must_be_is_refused),
        HOSTILE(a_wild_head_ends_the_connection),
        HOSTILE(a_wild_tail_ends_the_connection),
        HOSTILE(noise_does_no_harm),
        HONEST(a_killed_process_is_noticed_and_what_it_wrote_arrives),
        HONEST(a_process_killed_while_the_ring_is_full_is_noticed),
        HONEST(many_connections_share_a_loop),
        HONEST(two_threads_stream_both_ways),
        HONEST(no_wake_up_is_lost),
    };
    return cmocka_run_group_tests_name("transport-shm", tests, NULL, NULL);
}
