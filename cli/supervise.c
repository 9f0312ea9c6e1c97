/* SPDX-License-Identifier: Apache-2.0
 *
 * supervise.c - children, their readiness, their logs and their second chances. See supervise.h.
 */
#include "cli/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct sup {
    struct dbe_loop *loop;
    struct sup_events events;
    struct sup_service services[SUP_SERVICES_MAX];
    size_t count;
    bool stopping;
    pid_t self;
    struct base_timer *kill_timer;
};

/* ---- logs ------------ */

static void log_open(struct sup_service *s)
{
    struct stat st;

    s->log_out = open(s->spec.log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    s->log_bytes = s->log_out >= 0 && fstat(s->log_out, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* One older file is kept: a service that logs without end cannot fill the disk. */
static void log_rotate(struct sup_service *s)
{
    char older[4096];

    if (s->log_bytes < SUP_LOG_MAX_BYTES)
        return;
    snprintf(older, sizeof older, "%s.1", s->spec.log_path);
    rename(s->spec.log_path, older);
    if (s->log_out >= 0)
        close(s->log_out);
    log_open(s);
}

static void log_end(struct sup_service *s)
{
    base_watch_free(s->log_watch);
    s->log_watch = NULL;
    if (s->log_in >= 0)
        close(s->log_in);
    if (s->log_out >= 0)
        close(s->log_out);
    s->log_in = s->log_out = -1;
}

/* Move what the service wrote into its file; false when its end of the pipe is closed. */
static bool log_drain(struct sup_service *s)
{
    char piece[16384];
    ssize_t n;

    while ((n = read(s->log_in, piece, sizeof piece)) > 0) {
        log_rotate(s);
        /* A full disk costs log lines, never the service. */
        ssize_t done = s->log_out >= 0 ? write(s->log_out, piece, (size_t)n) : 0;
        s->log_bytes += done > 0 ? (uint64_t)done : 0;
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static void on_log(void *ctx, int fd, unsigned events)
{
    struct sup_service *s = ctx;

    (void)fd, (void)events;
    if (!log_drain(s))
        log_end(s);
}

/* ---- readiness ------------ */

static void ready_end(struct sup_service *s)
{
    base_watch_free(s->ready_watch);
    s->ready_watch = NULL;
    if (s->ready_fd >= 0)
        close(s->ready_fd);
    s->ready_fd = -1;
}

static void on_ready(void *ctx, int fd, unsigned events)
{
    struct sup_service *s = ctx;
    char word[8];
    ssize_t n = read(fd, word, sizeof word);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    ready_end(s); /* READY, or closed by a service that died: its exit says the rest */
    if (n >= 5 && memcmp(word, "READY", 5) == 0) {
        s->state = SUP_READY;
        s->sup->events.on_ready(s->sup->events.ctx, s);
    }
}

/* ---- starting ------------ */

/* In the child: nothing of the supervisor's may leak into the service but the two descriptors it is meant to have. */
static _Noreturn void child(const struct sup_service *s, int ready_out, int log_in)
{
    const char *argv[SUP_ARGS_MAX + 4];
    char fd_text[12];
    size_t n = 0;
    sigset_t none;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != s->sup->self)
        _exit(127); /* it died before the line above: no signal would come */
    if (null >= 0)
        dup2(null, STDIN_FILENO);
    dup2(log_in, STDOUT_FILENO);
    dup2(log_in, STDERR_FILENO);
    /* What the supervisor itself inherited is not the service's either. */
    if (ready_out > 3)
        close_range(3, (unsigned)ready_out - 1, 0);
    close_range((unsigned)ready_out + 1, ~0u, 0);
    fcntl(ready_out, F_SETFD, 0);
    snprintf(fd_text, sizeof fd_text, "%d", ready_out);
    argv[n++] = s->spec.program;
    for (size_t i = 0; s->spec.args[i] != NULL; i++)
        argv[n++] = s->spec.args[i];
    argv[n++] = "--ready-fd";
    argv[n++] = fd_text;
    argv[n] = NULL;
    execv(s->spec.program, (char *const *)(uintptr_t)argv);
    fprintf(stderr, "{\"level\":\"error\",\"message\":\"cannot run %s: %s\"}\n", s->spec.program, strerror(errno));
    _exit(127);
}

static dbe_err spawn(struct sup_service *s)
{
    int ready[2], log[2];

    if (pipe2(ready, O_CLOEXEC) != 0)
        return DBE_E_IO;
    if (pipe2(log, O_CLOEXEC) != 0) {
        close(ready[0]), close(ready[1]);
        return DBE_E_IO;
    }
    s->pid = fork();
    if (s->pid == 0)
        child(s, ready[1], log[1]);
    close(ready[1]), close(log[1]);
    if (s->pid < 0) {
        close(ready[0]), close(log[0]);
        s->pid = 0;
        return DBE_E_IO;
    }
    fcntl(ready[0], F_SETFL, O_NONBLOCK);
    fcntl(log[0], F_SETFL, O_NONBLOCK);
    s->ready_fd = ready[0];
    s->log_in = log[0];
    s->state = SUP_STARTING;
    s->started_ns = base_mono_ns();
    s->started_wall_ms = base_wall_ms();
    log_open(s);
    s->log_start = s->log_bytes;
    DBE_TRY(base_loop_watch(s->sup->loop, s->ready_fd, BASE_LOOP_READ, on_ready, s, &s->ready_watch));
    return base_loop_watch(s->sup->loop, s->log_in, BASE_LOOP_READ, on_log, s, &s->log_watch);
}

static void schedule(struct sup_service *s)
{
    bool steady = base_mono_ns() - s->started_ns > SUP_STEADY_S * BASE_NS_PER_S;

    s->backoff_ms = steady || s->backoff_ms == 0 ? SUP_BACKOFF_MIN_MS : BASE_MIN(s->backoff_ms * 2, SUP_BACKOFF_MAX_MS);
    s->state = SUP_WAITING;
    base_timer_set(s->restart_timer, base_mono_ns() + s->backoff_ms * (uint64_t)BASE_NS_PER_MS);
}

static void on_restart(void *ctx)
{
    struct sup_service *s = ctx;

    if (s->sup->stopping)
        return;
    s->restarts++;
    if (spawn(s) != DBE_OK && s->pid == 0)
        schedule(s);
}

dbe_err sup_start(struct sup *sup, const struct sup_spec *spec, struct dbe_diag *diag)
{
    struct sup_service *s = &sup->services[sup->count];

    if (sup->count == SUP_SERVICES_MAX)
        return DBE_E_LIMIT;
    memset(s, 0, sizeof *s);
    s->spec = *spec;
    s->sup = sup;
    s->ready_fd = s->log_in = s->log_out = -1;
    DBE_TRY(base_loop_timer(sup->loop, on_restart, s, &s->restart_timer));
    sup->count++;
    dbe_err err = spawn(s);
    return err == DBE_OK ? DBE_OK : dbe_fail(diag, err, NULL, 0, "cannot start %s: %s", spec->name, strerror(errno));
}

/* ---- the end of a child, and of all ------------ */

static struct sup_service *by_pid(struct sup *sup, pid_t pid)
{
    for (size_t i = 0; i < sup->count; i++)
        if (sup->services[i].pid == pid)
            return &sup->services[i];
    return NULL;
}

static void ended(struct sup_service *s, int status)
{
    s->pid = 0;
    s->last_exit = status;
    s->state = SUP_STOPPED;
    ready_end(s);
    if (s->log_in >= 0) {
        log_drain(s);
        log_end(s);
    }
    s->sup->events.on_exit(s->sup->events.ctx, s, status);
    if (!s->sup->stopping)
        schedule(s);
}

static bool all_gone(const struct sup *sup)
{
    for (size_t i = 0; i < sup->count; i++)
        if (sup->services[i].pid != 0)
            return false;
    return true;
}

pid_t sup_reap(struct sup *sup, int *ret_status)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct sup_service *s = by_pid(sup, pid);
        if (s == NULL) {
            *ret_status = status;
            return pid;
        }
        ended(s, status);
    }
    if (sup->stopping && all_gone(sup))
        sup->events.on_stopped(sup->events.ctx);
    return 0;
}

static void signal_all(struct sup *sup, int signo)
{
    for (size_t i = sup->count; i-- > 0;)
        if (sup->services[i].pid != 0)
            kill(sup->services[i].pid, signo);
}

static void on_kill(void *ctx)
{
    signal_all(ctx, SIGKILL);
}

void sup_stop(struct sup *sup)
{
    if (sup->stopping)
        return;
    sup->stopping = true;
    for (size_t i = 0; i < sup->count; i++)
        base_timer_set(sup->services[i].restart_timer, 0);
    signal_all(sup, SIGTERM);
    base_timer_set(sup->kill_timer, base_mono_ns() + SUP_STOP_MS * (uint64_t)BASE_NS_PER_MS);
    if (all_gone(sup))
        sup->events.on_stopped(sup->events.ctx);
}

dbe_err sup_new(struct dbe_loop *loop, const struct sup_events *events, struct sup **ret)
{
    struct sup *sup = base_alloc(1, sizeof *sup);
    dbe_err err;

    if (sup == NULL)
        return DBE_E_NOMEM;
    sup->loop = loop;
    sup->self = getpid();
    sup->events = *events;
    err = base_loop_timer(loop, on_kill, sup, &sup->kill_timer);
    if (err != DBE_OK) {
        base_free(sup);
        return err;
    }
    *ret = sup;
    return DBE_OK;
}

void sup_free(struct sup *sup)
{
    if (sup == NULL)
        return;
    signal_all(sup, SIGKILL);
    for (size_t i = 0; i < sup->count; i++) {
        ready_end(&sup->services[i]);
        log_end(&sup->services[i]);
        base_timer_free(sup->services[i].restart_timer);
    }
    base_timer_free(sup->kill_timer);
    base_free(sup);
}

size_t sup_services(struct sup *sup, struct sup_service **ret)
{
    *ret = sup->services;
    return sup->count;
}

bool sup_all_ready(const struct sup *sup)
{
    for (size_t i = 0; i < sup->count; i++)
        if (sup->services[i].state != SUP_READY)
            return false;
    return sup->count > 0;
}

void sup_status_text(int status, char *ret, size_t cap)
{
    if (WIFSIGNALED(status))
        snprintf(ret, cap, "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(ret, cap, "exit code %d", WEXITSTATUS(status));
}
