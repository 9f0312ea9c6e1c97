/* SPDX-License-Identifier: Apache-2.0
 *
 * sock.c - the loops of the socket baselines: as few system calls as the socket allows, writes batched.
 */
#include "sock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"

static struct sockaddr_un address_of(const char *dir, const char *name)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    PEER_MUST(snprintf(un.sun_path, sizeof un.sun_path, "%s/%s.sock", dir, name) < (int)sizeof un.sun_path);
    return un;
}

int sock_connect(const char *dir, const char *name, char mode)
{
    struct sockaddr_un un = address_of(dir, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    PEER_MUST(fd >= 0 && connect(fd, (struct sockaddr *)&un, sizeof un) == 0);
    PEER_MUST(send(fd, &mode, 1, 0) == 1);
    return fd;
}

void sock_serve(const char *dir, const char *name, void (*handle)(int fd, char mode))
{
    struct sockaddr_un un = address_of(dir, name);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char mode = 0;

    PEER_MUST(listener >= 0 && bind(listener, (struct sockaddr *)&un, sizeof un) == 0 && listen(listener, 4) == 0);
    (void)signal(SIGCHLD, SIG_IGN);
    peer_ready();
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        PEER_MUST(fd >= 0);
        if (fork() == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            PEER_MUST(recv(fd, &mode, 1, 0) == 1);
            handle(fd, mode);
            _exit(0);
        }
        (void)close(fd);
    }
}

/* One end of a connection in the middle of its work. */
struct end {
    int fd;
    uint8_t *in, *out;
    size_t in_len, out_off, out_len;
};

static void end_init(struct end *e, int fd)
{
    *e = (struct end){.fd = fd, .in = base_alloc(SOCK_IN_BYTES, 1), .out = base_alloc(SOCK_OUT_BYTES, 1)};
    PEER_MUST(e->in != NULL && e->out != NULL);
}

static void end_fini(struct end *e)
{
    base_free(e->in);
    base_free(e->out);
}

/* Write what goes in without waiting. */
static void end_write(struct end *e)
{
    while (e->out_off < e->out_len) {
        ssize_t n = send(e->fd, e->out + e->out_off, e->out_len - e->out_off, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        PEER_MUST(n > 0);
        e->out_off += (size_t)n;
    }
    if (e->out_off < e->out_len && e->out_off < SOCK_OUT_BYTES / 4)
        return;
    e->out_len -= e->out_off;
    memmove(e->out, e->out + e->out_off, e->out_len);
    e->out_off = 0;
}

/* Wait until there is something to read, writing meanwhile what waits to be written. False: the other end is gone. */
static bool end_read(struct end *e)
{
    while (e->out_len > 0) {
        struct pollfd p = {.fd = e->fd, .events = POLLIN | POLLOUT};
        PEER_MUST(poll(&p, 1, -1) == 1);
        if ((p.revents & POLLOUT) != 0)
            end_write(e);
        if ((p.revents & (POLLIN | POLLHUP)) != 0)
            break;
    }
    ssize_t n = recv(e->fd, e->in + e->in_len, SOCK_IN_BYTES - e->in_len, 0);
    if (n <= 0)
        return false;
    e->in_len += (size_t)n;
    return true;
}

/* Messages that are whole go to `fn`; what is left moves to the front. */
static size_t end_take(struct end *e, const struct sock_codec *codec, void *state, bool echo)
{
    size_t off = 0, used, len, count = 0;
    uint8_t *msg;

    while ((used = codec->take(state, e->in + off, e->in_len - off, &msg, &len)) > 0) {
        off += used;
        count++;
        if (echo)
            e->out_len += codec->put(state, msg, len, e->out + e->out_len);
    }
    e->in_len -= off;
    memmove(e->in, e->in + off, e->in_len);
    return count;
}

void sock_echo(int fd, const struct sock_codec *codec)
{
    void *state = codec->state_new(false);
    struct end e;

    end_init(&e, fd);
    while (end_read(&e)) {
        (void)end_take(&e, codec, state, true);
        end_write(&e);
        while (e.out_len - e.out_off > SOCK_OUT_BYTES / 4) { /* the other end must read first */
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            PEER_MUST(poll(&p, 1, -1) == 1);
            end_write(&e);
        }
    }
    end_fini(&e);
}

void sock_ping(int fd, const struct sock_codec *codec, void *state, size_t bytes, size_t count, uint64_t *ret_ns)
{
    static uint8_t msg[PEER_BYTES_MAX];
    struct end e;

    end_init(&e, fd);
    for (size_t i = 0; i < count; i++) {
        uint64_t start = base_mono_ns();
        e.out_len += codec->put(state, msg, bytes, e.out);
        end_write(&e);
        do
            PEER_MUST(end_read(&e));
        while (end_take(&e, codec, state, false) == 0);
        ret_ns[i] = base_mono_ns() - start;
    }
    end_fini(&e);
}

void sock_flood(int fd, const struct sock_codec *codec, void *state, size_t bytes, size_t count, size_t window)
{
    static uint8_t msg[PEER_BYTES_MAX];
    size_t sent = 0, got = 0;
    struct end e;

    end_init(&e, fd);
    while (got < count) {
        while (sent < count && sent - got < window) {
            e.out_len += codec->put(state, msg, bytes, e.out + e.out_len);
            sent++;
        }
        end_write(&e);
        PEER_MUST(end_read(&e));
        got += end_take(&e, codec, state, false);
    }
    end_fini(&e);
}
