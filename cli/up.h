/* SPDX-License-Identifier: Apache-2.0
 *
 * up.h - what `dsmil up` holds while it runs, and the part of it that prepares: lock, keys, port, arguments of
 * services.
 */
#ifndef CLI_UP_H
#define CLI_UP_H

#include "cli/cli.h"
#include "cli/supervise.h"

/* In the order they are started in. */
enum { UP_WORKER_47, UP_WORKER_44, UP_AGENT, UP_ROUTER, UP_SHIM, UP_AUDIT, UP_SERVICES };

struct up {
    /* options */
    const char *model_arg, *model_44_arg, *profile_44, *threads;
    unsigned port;
    bool check, no_light, prepare_only;

    /* prepared */
    struct cli_paths paths;
    char mesh[128], model[CLI_PATH_MAX], model_44[CLI_PATH_MAX], routing[CLI_PATH_MAX], accounts[CLI_PATH_MAX];
    char keys_words[256], port_text[8];
    char audit_dir[CLI_PATH_MAX];
    const char *backend;
    int lock_fd;
    struct sup_spec specs[UP_SERVICES];
    size_t spec_count;
    struct {
        char program[CLI_PATH_MAX], log[CLI_PATH_MAX], metrics[CLI_PATH_MAX], listen[CLI_PATH_MAX + 8],
            anchor[CLI_PATH_MAX];
    } at[UP_SERVICES];

    /* running */
    struct dbe_loop *loop;
    struct sup *sup;
    struct base_timer *start_timer;
    struct base_watch *summary_watch;
    struct base_buf summary;
    int summary_fd, code;
    pid_t light_pid;
    bool all_ready, stopping;
    uint64_t begin_ns;
    double start_ms;
};

/* Take the lock, make what is missing of keys, API key and folders, choose the port, fill in specs. E_EXISTS: up
 * already. */
dbe_err up_prepare(struct up *u, struct dbe_diag *diag) DBE_MUST_CHECK;
/* The lock and the keys alone; up_release afterwards. */
dbe_err up_prepare_keys(struct up *u, struct dbe_diag *diag) DBE_MUST_CHECK;
void up_release(struct up *u);

#endif
