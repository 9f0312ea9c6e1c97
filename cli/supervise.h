/* SPDX-License-Identifier: Apache-2.0
 *
 * supervise.h - start services, hear when they are ready, keep their logs, start them again with back-off.
 *
 * Threads: one; everything on the loop. The supervisor knows no protocol: it runs programs.
 */
#ifndef CLI_SUPERVISE_H
#define CLI_SUPERVISE_H

#include <sys/types.h>

#include "base/base.h"
#include "base/loop.h"

enum {
    SUP_SERVICES_MAX = 16,
    SUP_ARGS_MAX = 40,
    SUP_BACKOFF_MIN_MS = 100,
    SUP_BACKOFF_MAX_MS = 10000,
    SUP_STEADY_S = 30,                   /* running that long, a service's back-off starts again at its minimum */
    SUP_STOP_MS = 8000,                  /* then SIGKILL */
    SUP_LOG_MAX_BYTES = 8 * 1024 * 1024, /* of one log file; one older is kept */
};

enum sup_state { SUP_STOPPED, SUP_STARTING, SUP_READY, SUP_WAITING };

/* What to run. Strings are borrowed and outlive the supervisor. */
struct sup_spec {
    const char *name;    /* "dsmil-l7-router" */
    const char *program; /* full path */
    const char *log_path;
    int device;
    const char *metrics_socket;     /* NULL: none */
    const char *args[SUP_ARGS_MAX]; /* without argv[0]; NULL-terminated; --ready-fd N is added */
};

struct sup;

struct sup_service {
    struct sup_spec spec;
    struct sup *sup;
    enum sup_state state;
    pid_t pid;
    int ready_fd, log_in, log_out;
    struct base_watch *ready_watch, *log_watch;
    struct base_timer *restart_timer;
    uint64_t started_ns, started_wall_ms;
    uint64_t log_bytes, log_start; /* size of the log now, and when this process started */
    unsigned restarts, backoff_ms;
    int last_exit; /* wait status of the last end, 0 if none */
};

struct sup_events {
    void (*on_ready)(void *ctx, struct sup_service *s);
    void (*on_exit)(void *ctx, struct sup_service *s, int wait_status); /* it will be started again, unless stopping */
    void (*on_stopped)(void *ctx);                                      /* all are gone after sup_stop */
    void *ctx;
};

dbe_err sup_new(struct dbe_loop *loop, const struct sup_events *events, struct sup **ret) DBE_MUST_CHECK;
void sup_free(struct sup *sup);
dbe_err sup_start(struct sup *sup, const struct sup_spec *spec, struct dbe_diag *diag) DBE_MUST_CHECK;
void sup_stop(struct sup *sup); /* SIGTERM to all, SIGKILL after SUP_STOP_MS */
size_t sup_services(struct sup *sup, struct sup_service **ret);
bool sup_all_ready(const struct sup *sup);
/* Call on SIGCHLD for each child that is not the supervisor's; returns its pid and status, 0 when there is none. */
pid_t sup_reap(struct sup *sup, int *ret_status);
/* What a wait status means, in words. */
void sup_status_text(int wait_status, char *ret, size_t cap);

#endif
