/* SPDX-License-Identifier: Apache-2.0
 *
 * loop.c - the event loop: epoll for descriptors, a heap for timers (loop_timer.c), signalfd, eventfd for wake-ups.
 * In: readiness from the kernel. Out: callbacks on the loop's thread. Owns no descriptor but its own four. Does not
 * read or write the descriptors that it watches.
 *
 * A watch freed while its event waits in the current batch is only marked dead and freed when the outermost turn ends,
 * so that no event reaches a freed watch, whichever callback freed it.
 */
#include "base/loop_priv.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { LOOP_BATCH = 64, LOOP_SIGNALS = 65 };

struct base_watch {
    struct dbe_loop *loop;
    struct base_watch *next, **link; /* in loop->watches, or in loop->dead */
    base_watch_fn *fn;
    void *ctx;
    int fd;
    bool dead;
};

struct loop_signal {
    base_signal_fn *fn;
    void *ctx;
};

struct dbe_loop {
    struct loop_timers timers;
    struct loop_hots hots;
    struct loop_bufs bufs;
    int epoll_fd, wake_fd, signal_fd;
    unsigned depth; /* turns inside each other */
    bool stop;
    bool shared; /* somebody else may wait for epoll_fd */
    struct base_watch *watches, *dead;
    size_t watch_count;
    struct base_watch *wake_watch, *signal_watch;
    base_timer_fn *wake_fn;
    void *wake_ctx;
    sigset_t signal_mask;
    struct loop_signal signals[LOOP_SIGNALS];
};

/* ---- watches -------------------------------------------------------------------------------------------- */

static uint32_t to_epoll(unsigned events)
{
    return (events & BASE_LOOP_READ ? (uint32_t)EPOLLIN : 0) | (events & BASE_LOOP_WRITE ? (uint32_t)EPOLLOUT : 0);
}

static unsigned from_epoll(uint32_t events)
{
    return (events & EPOLLIN ? (unsigned)BASE_LOOP_READ : 0U) | (events & EPOLLOUT ? (unsigned)BASE_LOOP_WRITE : 0U) |
           (events & (EPOLLHUP | EPOLLERR) ? (unsigned)BASE_LOOP_HANGUP : 0U);
}

static void watch_push(struct base_watch **head, struct base_watch *w)
{
    w->next = *head;
    w->link = head;
    if (w->next != NULL)
        w->next->link = &w->next;
    *head = w;
}

static void watch_unlink(struct base_watch *w)
{
    *w->link = w->next;
    if (w->next != NULL)
        w->next->link = w->link;
}

dbe_err base_loop_watch(struct dbe_loop *loop, int fd, unsigned events, base_watch_fn *fn, void *ctx,
                        struct base_watch **ret)
{
    struct epoll_event ev = {.events = to_epoll(events)};
    struct base_watch *w;

    if (fd < 0 || fn == NULL)
        return DBE_E_ARGUMENT;
    if (loop->watch_count >= BASE_LOOP_WATCHES_MAX)
        return DBE_E_LIMIT;
    w = base_alloc(1, sizeof *w);
    if (w == NULL)
        return DBE_E_NOMEM;
    *w = (struct base_watch){.loop = loop, .fn = fn, .ctx = ctx, .fd = fd};
    ev.data.ptr = w;
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0) {
        int code = errno;
        base_free(w);
        return code == EEXIST ? DBE_E_EXISTS : code == ENOSPC ? DBE_E_LIMIT : code == ENOMEM ? DBE_E_NOMEM : DBE_E_IO;
    }
    watch_push(&loop->watches, w);
    loop->watch_count++;
    *ret = w;
    return DBE_OK;
}

dbe_err base_watch_events(struct base_watch *watch, unsigned events)
{
    struct epoll_event ev = {.events = to_epoll(events), .data.ptr = watch};

    return epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &ev) == 0 ? DBE_OK : DBE_E_IO;
}

void base_watch_free(struct base_watch *watch)
{
    struct dbe_loop *loop;

    if (watch == NULL)
        return;
    loop = watch->loop;
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL); /* a closed descriptor is gone already */
    watch_unlink(watch);
    loop->watch_count--;
    if (loop->depth == 0) {
        base_free(watch);
        return;
    }
    watch->dead = true;
    watch_push(&loop->dead, watch);
}

static void free_dead(struct dbe_loop *loop)
{
    struct base_watch *next;

    for (struct base_watch *w = loop->dead; w != NULL; w = next) {
        next = w->next;
        base_free(w);
    }
    loop->dead = NULL;
}

/* ---- wake-ups and signals ------------------------------------------------------------------------------- */

static void on_wake_fd(void *ctx, int fd, unsigned events)
{
    struct dbe_loop *loop = ctx;
    uint64_t count;

    (void)events;
    if (read(fd, &count, sizeof count) == (ssize_t)sizeof count && loop->wake_fn != NULL)
        loop->wake_fn(loop->wake_ctx);
}

void base_loop_wake(struct dbe_loop *loop)
{
    uint64_t one = 1;
    ssize_t done = write(loop->wake_fd, &one, sizeof one); /* EAGAIN: it is pending already, which is enough */

    (void)done;
}

void base_loop_on_wake(struct dbe_loop *loop, base_timer_fn *fn, void *ctx)
{
    loop->wake_fn = fn;
    loop->wake_ctx = ctx;
}

static void on_signal_fd(void *ctx, int fd, unsigned events)
{
    struct dbe_loop *loop = ctx;
    struct signalfd_siginfo info;

    (void)events;
    while (read(fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo < LOOP_SIGNALS && loop->signals[info.ssi_signo].fn != NULL)
            loop->signals[info.ssi_signo].fn(loop->signals[info.ssi_signo].ctx, (int)info.ssi_signo);
    }
}

dbe_err base_loop_signal(struct dbe_loop *loop, int signo, base_signal_fn *fn, void *ctx)
{
    sigset_t mask = loop->signal_mask;
    int fd;

    if (signo <= 0 || signo >= LOOP_SIGNALS || fn == NULL || sigaddset(&mask, signo) != 0)
        return DBE_E_ARGUMENT;
    if (pthread_sigmask(SIG_BLOCK, &mask, NULL) != 0)
        return DBE_E_IO;
    fd = signalfd(loop->signal_fd, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return DBE_E_IO;
    loop->signal_fd = fd;
    if (loop->signal_watch == NULL)
        DBE_TRY(base_loop_watch(loop, fd, BASE_LOOP_READ, on_signal_fd, loop, &loop->signal_watch));
    loop->signal_mask = mask;
    loop->signals[signo] = (struct loop_signal){.fn = fn, .ctx = ctx};
    return DBE_OK;
}

/* ---- running -------------------------------------------------------------------------------------------- */

/* Nanoseconds that a turn may wait: until the next timer, or less. */
static uint64_t wait_ns(const struct dbe_loop *loop, int timeout_ms, uint64_t now_ns)
{
    uint64_t most = timeout_ms < 0 ? UINT64_MAX : (uint64_t)timeout_ms * BASE_NS_PER_MS;

    return BASE_MIN(loop_timers_next_ns(&loop->timers, now_ns), most);
}

/* The same for epoll, rounded up, so that the timer is due when it returns. */
static int to_ms(uint64_t ns)
{
    uint64_t ms = ns / BASE_NS_PER_MS + (ns % BASE_NS_PER_MS != 0 ? 1 : 0);

    return ns == UINT64_MAX ? -1 : ms < INT_MAX ? (int)ms : INT_MAX;
}

static void dispatch(const struct epoll_event *evs, int count)
{
    for (int i = 0; i < count; i++) {
        struct base_watch *w = evs[i].data.ptr;
        if (!w->dead)
            w->fn(w->ctx, w->fd, from_epoll(evs[i].events));
    }
}

static dbe_err ask_kernel(struct dbe_loop *loop, int timeout_ms)
{
    struct epoll_event evs[LOOP_BATCH];
    int count = epoll_wait(loop->epoll_fd, evs, LOOP_BATCH, timeout_ms);

    if (count < 0 && errno != EINTR)
        return DBE_E_IO;
    dispatch(evs, count);
    return DBE_OK;
}

/* Wait and run what came. Inside another turn, or when there is no time to wait, hot sources only report through their
 * descriptors: whoever waits next may not be this loop. */
static dbe_err wait_and_dispatch(struct dbe_loop *loop, int timeout_ms, uint64_t *now_ns)
{
    uint64_t ns = wait_ns(loop, timeout_ms, *now_ns);
    enum loop_hot_next next = LOOP_HOT_SLEEP;

    if (loop->hots.count > 0 && loop->depth == 1 && ns > 0)
        next = loop_hots_ask(&loop->hots, ns, now_ns);
    if (next == LOOP_HOT_DONE)
        return DBE_OK;
    if (next == LOOP_HOT_GLANCE)
        return ask_kernel(loop, 0);
    if (loop->hots.count > 0) {
        loop_hots_rest(&loop->hots); /* may find that something came, and set a timer for it */
        ns = wait_ns(loop, timeout_ms, *now_ns);
    }
    return ask_kernel(loop, to_ms(ns));
}

dbe_err base_loop_turn(struct dbe_loop *loop, int timeout_ms)
{
    const bool timed = loop->timers.armed > 0 || loop->hots.count > 0;
    uint64_t now_ns = timed ? base_mono_ns() : 0;
    dbe_err err;

    loop->depth++;
    err = wait_and_dispatch(loop, timeout_ms, &now_ns);
    if (err == DBE_OK && loop->timers.armed > 0)
        loop_timers_fire(&loop->timers, base_mono_ns());
    if (timeout_ms == 0 || loop->shared)
        loop_hots_rest(&loop->hots);
    if (--loop->depth == 0)
        free_dead(loop);
    return err;
}

dbe_err base_loop_run(struct dbe_loop *loop)
{
    dbe_err err = DBE_OK;

    while (err == DBE_OK && !loop->stop)
        err = base_loop_turn(loop, -1);
    loop->stop = false; /* a stop before the run counts; the next run starts afresh */
    return err;
}

void base_loop_stop(struct dbe_loop *loop)
{
    loop->stop = true;
}

int base_loop_fd(struct dbe_loop *loop)
{
    loop->shared = true;
    loop_hots_rest(&loop->hots);
    return loop->epoll_fd;
}

uint64_t base_loop_next_ns(const struct dbe_loop *loop)
{
    return loop->timers.armed == 0 ? UINT64_MAX : loop_timers_next_ns(&loop->timers, base_mono_ns());
}

/* ---- making and freeing --------------------------------------------------------------------------------- */

dbe_err base_loop_new(struct dbe_loop **ret)
{
    struct dbe_loop *loop = base_alloc(1, sizeof *loop);
    dbe_err err = DBE_E_IO;

    if (loop == NULL)
        return DBE_E_NOMEM;
    loop->signal_fd = -1;
    (void)sigemptyset(&loop->signal_mask);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll_fd >= 0 && loop->wake_fd >= 0)
        err = base_loop_watch(loop, loop->wake_fd, BASE_LOOP_READ, on_wake_fd, loop, &loop->wake_watch);
    if (err != DBE_OK) {
        base_loop_free(loop);
        return err;
    }
    *ret = loop;
    return DBE_OK;
}

void base_loop_free(struct dbe_loop *loop)
{
    if (loop == NULL)
        return;
    BASE_INVARIANT(loop->depth == 0);
    while (loop->watches != NULL)
        base_watch_free(loop->watches);
    loop_timers_fini(&loop->timers);
    loop_bufs_fini(&loop->bufs);
    base_close_p(&loop->signal_fd);
    base_close_p(&loop->wake_fd);
    base_close_p(&loop->epoll_fd);
    base_free(loop);
}

dbe_err base_loop_timer(struct dbe_loop *loop, base_timer_fn *fn, void *ctx, struct base_timer **ret)
{
    return loop_timer_new(&loop->timers, fn, ctx, ret);
}

struct loop_hots *loop_hots_of(struct dbe_loop *loop)
{
    return &loop->hots;
}

struct loop_bufs *loop_bufs_of(struct dbe_loop *loop)
{
    return &loop->bufs;
}
