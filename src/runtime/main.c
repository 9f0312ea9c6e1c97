/* SPDX-License-Identifier: Apache-2.0
 *
 * main.c - a service as a process: attributes, configuration, signals, exit code.
 *
 * Out:  0 ended as asked, 1 failed at run time, 2 usage or configuration, 3 keys
 * Not:  nothing of the device's work. What goes wrong before the log exists is one line of text on standard error.
 */
#include "runtime/crash.h"
#include "runtime/priv.h"
#include "runtime/sandbox.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef DSMIL_VERSION
#define DSMIL_VERSION "0.1.0"
#endif

/* Leak checking reads this very process as a debugger would, and sanitizers make system calls of their own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

struct process {
    struct dbe_loop *loop;
    struct svc *svc; /* NULL while it opens */
    bool stop_early;
};

/* Keys live in this memory: no core file, no debugger, no new privileges, no file that others may read. */
static void harden(void)
{
    const struct rlimit none = {0, 0};

    umask(077);
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!UNDER_SANITIZER)
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    signal(SIGPIPE, SIG_IGN);
}

/* True if the parent lives and we end with it. It may have died before we asked. */
static bool follow_parent(const struct svc_config *cfg)
{
    if (!cfg->parent_death)
        return true;
    if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) != 0)
        return false;
    return cfg->parent_pid != 0 ? getppid() == (pid_t)cfg->parent_pid : getppid() != 1;
}

static void stop_loop(void *ctx)
{
    struct process *p = ctx;
    base_loop_stop(p->loop);
}

static void on_stop_signal(void *ctx, int signo)
{
    struct process *p = ctx;

    (void)signo;
    if (p->svc != NULL)
        svc_drain(p->svc, stop_loop, p);
    else
        p->stop_early = true;
}

static void on_dump_signal(void *ctx, int signo)
{
    struct process *p = ctx;

    (void)signo;
    if (p->svc != NULL)
        svc_dump_state(p->svc);
}

static void on_reload_signal(void *ctx, int signo)
{
    struct process *p = ctx;
    char words[SVC_RELOAD_WORDS];

    (void)signo;
    if (p->svc == NULL)
        return;
    (void)svc_reload(p->svc, words, sizeof words); /* the log has the words */
    if (p->svc->cfg.policy[0] != '\0' && svc_policy_reload(p->svc, NULL) != DBE_OK)
        return; /* in the log as well, and nothing has changed */
}

static int complain(const struct svc_device *dev, dbe_err err, const struct dbe_diag *diag, int code)
{
    fprintf(stderr, "dsmil-%s: %s (%s)\n", dev->name, diag->text[0] != '\0' ? diag->text : dbe_err_text(err),
            dbe_err_name(err));
    return code;
}

static int print_help(const struct svc_device *dev)
{
    struct base_buf out;

    base_buf_init(&out, SVC_CONFIG_FILE_MAX);
    svc_config_help(dev, &out);
    fputs(base_buf_cstr(&out), stdout);
    base_buf_free(&out);
    return SVC_EXIT_OK;
}

/* Signals are taken over before the device starts threads, so that no thread of its own ever gets one. */
static dbe_err take_signals(struct process *p)
{
    DBE_TRY(base_loop_signal(p->loop, SIGTERM, on_stop_signal, p));
    DBE_TRY(base_loop_signal(p->loop, SIGINT, on_stop_signal, p));
    DBE_TRY(base_loop_signal(p->loop, SIGHUP, on_reload_signal, p));
    return base_loop_signal(p->loop, SIGUSR1, on_dump_signal, p);
}

/* The service stands; from here on it makes the system calls of a service and no others. Sanitizers make their own. */
static dbe_err narrow(const struct svc_config *cfg, struct svc *svc, struct dbe_diag *diag)
{
    if (!cfg->sandbox || UNDER_SANITIZER)
        return DBE_OK;
    dbe_err err = svc_sandbox_enter(diag);
    if (err == DBE_OK)
        svc_log(svc, SVC_DEBUG, NULL, "sandboxed");
    if (err != DBE_E_UNSUPPORTED)
        return err;
    svc_log(svc, SVC_WARN, NULL, "%s; going on without", diag->text);
    return DBE_OK;
}

static int serve(const struct svc_device *dev, const struct svc_config *cfg, void *state)
{
    struct process p = {0};
    struct dbe_diag diag = {0};
    enum svc_exit code = SVC_EXIT_FAILED;
    struct svc *svc = NULL;

    dbe_err err = base_loop_new(&p.loop);
    if (err == DBE_OK)
        err = take_signals(&p);
    if (err != DBE_OK) {
        base_free(state);
        base_loop_free(p.loop);
        return complain(dev, err, &diag, SVC_EXIT_FAILED);
    }
    err = svc_open(p.loop, dev, cfg, state, &svc, &code, &diag);
    if (err != DBE_OK) {
        base_loop_free(p.loop);
        return complain(dev, err, &diag, (int)code);
    }
    p.svc = svc;
    err = narrow(cfg, svc, &diag);
    if (err == DBE_OK && !p.stop_early)
        err = base_loop_run(p.loop);
    svc_close(svc);
    base_loop_free(p.loop);
    return err == DBE_OK ? SVC_EXIT_OK : complain(dev, err, &diag, SVC_EXIT_FAILED);
}

int svc_main(int argc, char *argv[], const struct svc_device *dev)
{
    struct svc_config cfg;
    struct dbe_diag diag = {0};
    void *state = base_alloc(1, dev->state_size > 0 ? dev->state_size : 1);

    harden();
    if (state == NULL)
        return complain(dev, DBE_E_NOMEM, &diag, SVC_EXIT_FAILED);
    dbe_err err = svc_config_load(argc, argv, dev, &cfg, state, &diag);
    if (err != DBE_OK || cfg.help || cfg.version || !follow_parent(&cfg)) {
        base_free(state);
        if (err != DBE_OK)
            return complain(dev, err, &diag, SVC_EXIT_USAGE);
        if (cfg.help)
            return print_help(dev);
        if (cfg.version)
            printf("dsmil-%s %s\n", dev->name, DSMIL_VERSION);
        return cfg.version ? SVC_EXIT_OK : SVC_EXIT_FAILED;
    }
    if (!UNDER_SANITIZER) { /* which have their own, better report */
        char service[64];
        snprintf(service, sizeof service, "dsmil-%s", dev->name);
        svc_crash_install(service, cfg.log_fd);
    }
    return serve(dev, &cfg, state);
}
