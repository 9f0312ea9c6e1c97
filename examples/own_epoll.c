/* SPDX-License-Identifier: Apache-2.0
 *
 * own_epoll.c - the library inside a program's own epoll loop, beside a timer of the program's: a question every
 * 100 ms.
 *
 *     own_epoll KEYS SOCKET COUNT
 *
 * The library gives one descriptor and the time of its next timer; the program gives it a turn when either is due.
 */
#include "example.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>

static long answers_left;

static void on_message(void *ctx, struct dbe_peer *peer, const struct dbe_msg *msg)
{
    (void)ctx, (void)peer, (void)msg;
}

static void on_reply(void *ctx, const struct dbe_msg *msg, bool last, dbe_err err)
{
    (void)ctx;
    must(err, NULL, "call");
    print_payload(msg);
    answers_left -= last;
}

static void ask(const struct me *me, struct dbe_peer *peer)
{
    static const char json[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"Still there?\"}]}";
    static uint8_t request[16384];

    if (peer != NULL)
        must(dbe_call(peer, request, chat_request(me, peer, json, request, sizeof request),
                      dbe_now_ns() + 5 * SECOND_NS, on_reply, NULL, NULL), NULL, "call");
}

/* Milliseconds until the library wants its turn, for epoll_wait. */
static int wait_ms(const struct dbe_loop *loop)
{
    uint64_t ns = dbe_loop_next_ns(loop);

    return ns == UINT64_MAX ? -1 : ns > 60 * SECOND_NS ? 60000 : (int)((ns + 999999) / 1000000);
}

int main(int argc, char **argv)
{
    static const struct dbe_node_ops ops = {.on_message = on_message};
    const struct itimerspec every = {.it_interval = {0, 100000000}, .it_value = {0, 100000000}};
    struct epoll_event event = {.events = EPOLLIN};
    struct me me = {0};
    struct dbe_link *link = NULL;
    char address[256];
    uint64_t ticks;

    if (argc != 4 || (answers_left = strtol(argv[3], NULL, 10)) <= 0)
        return fprintf(stderr, "usage: own_epoll KEYS SOCKET COUNT\n"), 2;
    open_me(&me, argv[1], "shim-0", &ops, NULL);
    snprintf(address, sizeof address, "uds:%s", argv[2]);
    must(dbe_node_link(me.node, address, DBE_ROLE_ROUTER, 43, &link), NULL, address);

    int own = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    event.data.fd = dbe_loop_fd(me.loop);
    if (own < 0 || timer < 0 || timerfd_settime(timer, 0, &every, NULL) != 0 ||
        epoll_ctl(own, EPOLL_CTL_ADD, event.data.fd, &event) != 0)
        return perror("epoll"), 1;
    event.data.fd = timer;
    if (epoll_ctl(own, EPOLL_CTL_ADD, timer, &event) != 0)
        return perror("epoll"), 1;
    while (answers_left > 0) {
        int n = epoll_wait(own, &event, 1, wait_ms(me.loop));
        if (n == 1 && event.data.fd == timer && read(timer, &ticks, sizeof ticks) == sizeof ticks)
            ask(&me, dbe_link_peer(link));
        must(dbe_loop_turn(me.loop, 0), NULL, "loop");
    }
    close(timer);
    close(own);
    close_me(&me);
    return 0;
}
