/* SPDX-License-Identifier: Apache-2.0
 *
 * up.c - `dsmil up`: keys, services, first light, and then watching over them until told to stop.
 *
 * Everything runs on embedded defaults; all state lies under the state folder. First light runs as a process of its
 * own, so that the supervisor keeps reading logs and restarting services meanwhile. `--check` does the same, prints
 * one JSON summary on stdout and stops.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/up.h"

enum { START_NOTICE_S = 10, START_TIMEOUT_S = 900, SUMMARY_MAX = 1024 * 1024, TAIL_BYTES = 2000 };

/* What people read: stdout, but stderr when stdout carries the summary. */
static FILE *words(const struct up *u)
{
    return u->check ? stderr : stdout;
}

static void say(const struct up *u, const char *label, const char *fmt, ...) DBE_PRINTF(3, 4);
static void say(const struct up *u, const char *label, const char *fmt, ...)
{
    FILE *out = words(u);
    va_list ap;

    fprintf(out, "%-8s", label);
    va_start(ap, fmt);
    vfprintf(out, fmt, ap);
    va_end(ap);
    fputc('\n', out);
    fflush(out);
}

static void stop(struct up *u, int code)
{
    if (u->stopping)
        return;
    u->stopping = true;
    u->code = code;
    base_timer_set(u->start_timer, 0);
    if (u->light_pid != 0)
        kill(u->light_pid, SIGTERM);
    sup_stop(u->sup);
}

/* ---- what stands in mesh.json, for `dsmil status` ------------ */

static json_t *service_json(const struct sup_service *s)
{
    static const char *const states[] = {"stopped", "starting", "ready", "waiting"};

    return json_pack("{s:s,s:i,s:s,s:i,s:i,s:i,s:s*,s:s}", "name", s->spec.name, "device", s->spec.device, "state",
                     states[s->state], "pid", (int)s->pid, "restarts", (int)s->restarts, "started_unix",
                     (int)(s->started_wall_ms / 1000), "metrics_socket", s->spec.metrics_socket, "log",
                     s->spec.log_path);
}

static void write_mesh(struct up *u)
{
    struct sup_service *s;
    size_t n = sup_services(u->sup, &s);
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, service_json(&s[i]));
    json_t *mesh = json_pack("{s:s,s:i,s:i,s:s,s:s,s:s,s:b,s:o}", "mesh", u->mesh, "pid", (int)getpid(), "port",
                             (int)u->port, "model", u->model, "model_44", u->model_44, "state", u->paths.state, "ready",
                             u->all_ready, "services", list);
    char *text = json_dumps(mesh, CLI_JSON_FLAGS);
    struct dbe_diag diag = {0};

    if (text != NULL && base_file_write(u->paths.mesh_json, text, strlen(text), 0600, &diag) != DBE_OK)
        say(u, "warning", "%s", diag.text);
    free(text);
    json_decref(mesh);
}

/* ---- first light ------------ */

static _Noreturn void light_child(int out, bool json)
{
    char self[CLI_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (out >= 0)
        dup2(out, STDOUT_FILENO);
    if (n > 0) {
        self[n] = '\0';
        execl(self, "dsmil", "first-light", json ? "--json" : NULL, NULL);
    }
    _exit(127);
}

static void on_summary(void *ctx, int fd, unsigned events)
{
    struct up *u = ctx;
    char piece[4096];
    ssize_t n;

    (void)events;
    while ((n = read(fd, piece, sizeof piece)) > 0)
        base_buf_bytes(&u->summary, piece, (size_t)n);
    if (n == 0) {
        base_watch_free(u->summary_watch);
        u->summary_watch = NULL;
    }
}

static dbe_err start_light(struct up *u)
{
    int out[2] = {-1, -1};

    if (u->check && pipe2(out, O_CLOEXEC) != 0)
        return DBE_E_IO;
    fflush(stdout);
    u->light_pid = fork();
    if (u->light_pid == 0)
        light_child(out[1], u->check);
    if (u->light_pid < 0) {
        u->light_pid = 0;
        return DBE_E_IO;
    }
    if (!u->check)
        return DBE_OK;
    close(out[1]);
    u->summary_fd = out[0];
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    return base_loop_watch(u->loop, out[0], BASE_LOOP_READ, on_summary, u, &u->summary_watch);
}

static void print_summary(struct up *u)
{
    json_t *light = json_loadb((const char *)u->summary.data, u->summary.len, 0, NULL);
    json_t *all = json_pack("{s:b,s:s,s:i,s:s,s:f,s:o?}", "ok", u->code == CLI_OK, "mesh", u->mesh, "port",
                            (int)u->port, "model", u->model, "start_ms", u->start_ms, "first_light", light);

    if (cli_print_json(all) != CLI_OK)
        u->code = CLI_FAILED;
}

static void invite(struct up *u)
{
    printf("\nThe mesh is up and stays up; Ctrl-C or `%s down` ends it. Try it:\n\n"
           "  curl -N http://127.0.0.1:%u/v1/chat/completions -H \"Authorization: Bearer $(cat %s)\" \\\n"
           "    -H 'Content-Type: application/json' \\\n"
           "    -d '{\"model\": \"dsmil\", \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"What "
           "is DSMIL?\"}]}'\n\n"
           "  %s ask --path \"What does the router do?\"\n"
           "  %s status\n"
           "  any OpenAI client: base URL http://127.0.0.1:%u/v1, key in %s\n\n",
           cli_self, u->port, u->paths.api_key, cli_self, cli_self, u->port, u->paths.api_key);
    fflush(stdout);
}

static void light_ended(struct up *u, int status)
{
    bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;

    u->light_pid = 0;
    if (u->summary_watch != NULL)
        on_summary(u, u->summary_fd, BASE_LOOP_READ);
    if (u->stopping)
        return;
    if (u->check) {
        stop(u, good ? CLI_OK : CLI_FAILED);
        return;
    }
    if (!good)
        say(u, "warning", "first light is not as it must be; the logs lie in %s", u->paths.log);
    invite(u);
}

/* ---- what the supervisor tells ------------ */

static void on_ready(void *ctx, struct sup_service *s)
{
    struct up *u = ctx;

    say(u, s->restarts > 0 ? "again" : "ready", "%-24s device %-3d pid %-7d %.2f s", s->spec.name, s->spec.device,
        (int)s->pid, (double)(base_mono_ns() - s->started_ns) / 1e9);
    if (!u->all_ready && sup_all_ready(u->sup)) {
        u->all_ready = true;
        u->start_ms = (double)(base_mono_ns() - u->begin_ns) / 1e6;
        base_timer_set(u->start_timer, 0);
        write_mesh(u);
        if (u->no_light)
            invite(u);
        else if (start_light(u) != DBE_OK)
            stop(u, CLI_FAILED);
        return;
    }
    write_mesh(u);
}

/* What a service that could not start said to people: the lines of its end that are no log records. */
static void show_log_tail(const struct up *u, const struct sup_service *s)
{
    struct base_buf log;

    base_buf_init(&log, 2 * SUP_LOG_MAX_BYTES);
    if (base_file_read(s->spec.log_path, 2 * SUP_LOG_MAX_BYTES, &log, NULL) == DBE_OK) {
        size_t from = BASE_MAX(s->log_start, log.len > TAIL_BYTES ? log.len - TAIL_BYTES : 0);
        const char *tail = base_buf_cstr(&log) + BASE_MIN(from, log.len);
        for (const char *line = tail; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
            line += *line == '\n';
            if (*line != '{' && *line != '\0' && *line != '\n')
                say(u, "", "%.*s", (int)strcspn(line, "\n"), line);
        }
    }
    base_buf_free(&log);
}

static void on_exit_(void *ctx, struct sup_service *s, int status)
{
    struct up *u = ctx;
    char why[96];
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;

    write_mesh(u);
    if (u->stopping)
        return;
    sup_status_text(status, why, sizeof why);
    /* Usage and key errors do not heal by themselves, and a mesh that was never up has nothing to keep. */
    if (!u->all_ready && (code == 1 || code == 2 || code == 3 || code == 127)) {
        say(u, "failed", "%s: %s (log: %s)", s->spec.name, why, s->spec.log_path);
        show_log_tail(u, s);
        stop(u, CLI_FAILED);
        return;
    }
    say(u, "ended", "%s: %s; starting it again (log: %s)", s->spec.name, why, s->spec.log_path);
}

static void on_stopped(void *ctx)
{
    base_loop_stop(((struct up *)ctx)->loop);
}

/* A large model takes its time to load: say what is waited for, and give up late. */
static void on_start_timer(void *ctx)
{
    struct up *u = ctx;
    struct sup_service *s;
    size_t n = sup_services(u->sup, &s);
    uint64_t waited_s = (base_mono_ns() - u->begin_ns) / BASE_NS_PER_S;

    for (size_t i = 0; i < n; i++)
        if (s[i].state != SUP_READY)
            say(u, "waiting", "%s is not ready yet, after %" PRIu64 " s (log: %s)", s[i].spec.name, waited_s,
                s[i].spec.log_path);
    if (waited_s < START_TIMEOUT_S) {
        base_timer_set(u->start_timer, base_mono_ns() + START_NOTICE_S * BASE_NS_PER_S);
        return;
    }
    say(u, "failed", "not every service was ready within %d s", START_TIMEOUT_S);
    stop(u, CLI_FAILED);
}

static void on_signal(void *ctx, int signo)
{
    struct up *u = ctx;
    int status;
    pid_t pid;

    if (signo == SIGCHLD) {
        while ((pid = sup_reap(u->sup, &status)) > 0)
            if (pid == u->light_pid)
                light_ended(u, status);
        return;
    }
    if (!u->stopping)
        say(u, "stop", "%s: finishing what runs", signo == SIGINT ? "interrupted" : "asked to");
    stop(u, u->all_ready && !u->check ? CLI_OK : CLI_FAILED);
}

/* ---- the verb ------------ */

static dbe_err watch(struct up *u)
{
    static const int signals[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP};
    const struct sup_events events = {on_ready, on_exit_, on_stopped, u};

    DBE_TRY(base_loop_new(&u->loop));
    for (size_t i = 0; i < BASE_ARRAY_LEN(signals); i++)
        DBE_TRY(base_loop_signal(u->loop, signals[i], on_signal, u));
    DBE_TRY(base_loop_timer(u->loop, on_start_timer, u, &u->start_timer));
    base_timer_set(u->start_timer, base_mono_ns() + START_NOTICE_S * BASE_NS_PER_S);
    return sup_new(u->loop, &events, &u->sup);
}

static int supervise(struct up *u)
{
    struct dbe_diag diag = {0};
    dbe_err err = watch(u);

    if (err != DBE_OK)
        return cli_fail(CLI_FAILED, "up", err, NULL);
    for (size_t i = 0; i < u->spec_count && err == DBE_OK; i++)
        err = sup_start(u->sup, &u->specs[i], &diag);
    if (err != DBE_OK) {
        cli_fail(CLI_FAILED, "up", err, &diag);
        stop(u, CLI_FAILED);
    }
    write_mesh(u);
    err = base_loop_run(u->loop);
    if (u->check)
        print_summary(u);
    else
        say(u, "down", "all services have ended");
    sup_free(u->sup);
    base_loop_free(u->loop);
    return err == DBE_OK ? u->code : CLI_FAILED;
}

static int usage(FILE *out, int code)
{
    fputs("usage: dsmil up [OPTIONS]\n\n"
          "  --model FILE       a GGUF file for worker 47 (default: the model that comes with the project)\n"
          "  --model-44 FILE    one for worker 44; where it is the smaller of two with one vocabulary, it guesses\n"
          "                     tokens ahead for worker 47, too (default: the model that comes with the project)\n"
          "  --profile-44 NAME  what worker 44 serves (default llm-1b-npu)\n"
          "  --port N           the gateway's port on 127.0.0.1 (default 8001; 0 takes a free one)\n"
          "  --threads N        compute threads of each worker (default: one a CPU)\n"
          "  --no-first-light   start and stay up, ask nothing\n"
          "  --prepare          make or renew keys and the gateway's key, start nothing (for a service manager)\n"
          "  --check            start, run first light, print one JSON summary, stop; exit code 0 if all is well\n",
          out);
    return code;
}

static int parse(int argc, char **argv, struct up *u)
{
    const char *v;

    u->port = CLI_PORT_DEFAULT;
    for (int i = 1; i < argc; i++) {
        char *end = NULL;
        if (strcmp(argv[i], "--help") == 0)
            return usage(stdout, -1);
        if (strcmp(argv[i], "--check") == 0)
            u->check = true;
        else if (strcmp(argv[i], "--prepare") == 0)
            u->prepare_only = true;
        else if (strcmp(argv[i], "--no-first-light") == 0)
            u->no_light = true;
        else if ((v = cli_opt(argc, argv, &i, "--model")) != NULL)
            u->model_arg = v;
        else if ((v = cli_opt(argc, argv, &i, "--model-44")) != NULL)
            u->model_44_arg = v;
        else if ((v = cli_opt(argc, argv, &i, "--profile-44")) != NULL)
            u->profile_44 = v;
        else if ((v = cli_opt(argc, argv, &i, "--threads")) != NULL)
            u->threads = v;
        else if ((v = cli_opt(argc, argv, &i, "--port")) != NULL) {
            unsigned long port = strtoul(v, &end, 10);
            if (*v == '\0' || *end != '\0' || port > 65535)
                return cli_wrong("up", "--port takes 0 to 65535, not \"%s\"", v);
            u->port = (unsigned)port;
        } else
            return cli_wrong("up", "\"%s\" is no option, or its value is missing", argv[i]);
    }
    return CLI_OK;
}

/* What is there already, and a disk that is full, is nothing that another command line or configuration would heal. */
static int failure(dbe_err err)
{
    return err == DBE_E_EXISTS || err == DBE_E_IO || err == DBE_E_NOMEM ? CLI_FAILED : CLI_USAGE;
}

/* Keys alone: services that another supervisor starts find them, and running ones see renewed certificates. */
static int prepare_only(struct up *u)
{
    struct dbe_diag diag = {0};
    dbe_err err = up_prepare_keys(u, &diag);

    if (err != DBE_OK)
        return cli_fail(failure(err), "up", err, &diag);
    say(u, "state", "%s", u->paths.state);
    say(u, "keys", "%s", u->keys_words);
    up_release(u);
    return CLI_OK;
}

int cli_up(int argc, char **argv)
{
    static struct up u;
    struct dbe_diag diag = {0};
    int code = parse(argc, argv, &u);
    dbe_err err;

    if (code != CLI_OK)
        return code < 0 ? CLI_OK : code;
    if (u.prepare_only)
        return prepare_only(&u);
    u.begin_ns = base_mono_ns();
    u.summary_fd = -1;
    base_buf_init(&u.summary, SUMMARY_MAX);
    if ((err = up_prepare(&u, &diag)) != DBE_OK) {
        code = cli_fail(failure(err), "up", err, &diag);
        return u.check ? cli_json_failure(code) : code;
    }
    say(&u, "DSMIL", "%s, %s", DSMIL_VERSION, u.backend);
    say(&u, "state", "%s", u.paths.state);
    say(&u, "keys", "%s", u.keys_words);
    say(&u, "policy", "%s", u.paths.policy[0] != '\0' ? u.paths.policy : "built in");
    say(&u, "model", "%s", u.model);
    code = supervise(&u);
    up_release(&u);
    base_buf_free(&u.summary);
    return code;
}
