/* SPDX-License-Identifier: Apache-2.0
 *
 * main_test.c - a service as a process: exit codes, readiness, signals, the parent's death, and what the
 * process gives up at its start.
 *
 * Waiting is reading from pipes: what a service holds open ends when it does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/priv.h"

static char dir[64];

static dbe_err init(struct svc *svc, void *state, struct dbe_diag *diag)
{
    (void)svc;
    (void)state;
    return getenv("TEST_INIT_FAILS") != NULL ? dbe_fail(diag, DBE_E_MODEL, NULL, 0, "no model here") : DBE_OK;
}

static void fini(struct svc *svc, void *state)
{
    (void)svc;
    (void)state;
    if (getenv("TEST_INIT_FAILS") != NULL)
        fputs("given back\n", stderr);
}

static void dump(const void *state, struct svc_dump *out)
{
    (void)state;
    svc_dumpf(out, "dumped");
}

static const struct svc_device device = {.device_id = 47,
                                         .layer = 7,
                                         .role = DBE_ROLE_WORKER,
                                         .name = "main-test",
                                         .purpose = "be tested",
                                         .init = init,
                                         .dump = dump,
                                         .fini = fini};

struct process {
    pid_t pid;
    int ready_fd, log_fd; /* what it writes: read ends */
};

/* Run svc_main with options separated by spaces, in a child. */
static struct process spawn(const char *options)
{
    struct process p;
    int ready[2], log[2];
    char line[512], fd[32];

    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(log), 0);
    snprintf(fd, sizeof fd, "--ready-fd %d", ready[1]);
    snprintf(line, sizeof line, "%s %s", fd, options);
    p.pid = fork();
    assert_true(p.pid >= 0);
    if (p.pid == 0) {
        char *argv[24] = {(char *)(uintptr_t) "main-test"}, *save = NULL;
        int argc = 1;
        close(ready[0]);
        close(log[0]);
        dup2(log[1], STDOUT_FILENO);
        dup2(log[1], STDERR_FILENO);
        close(log[1]);
        for (char *word = strtok_r(line, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
            argv[argc++] = word;
        int code = svc_main(argc, argv, &device);
        fflush(stdout);
        _exit(code);
    }
    close(ready[1]);
    close(log[1]);
    p.ready_fd = ready[0];
    p.log_fd = log[0];
    return p;
}

static void read_all(int fd, char *out, size_t cap)
{
    size_t len = 0;
    ssize_t n;

    while ((n = read(fd, out + len, cap - 1 - len)) > 0)
        len += (size_t)n;
    out[len] = '\0';
}

/* Until it ends: what it said, and its exit code. */
static int finish(struct process *p, char *said, size_t cap)
{
    int status;

    read_all(p->log_fd, said, cap);
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    close(p->log_fd);
    close(p->ready_fd);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void wait_ready(struct process *p)
{
    char word[16] = "";

    read_all(p->ready_fd, word, sizeof word);
    assert_string_equal(word, "READY\n");
}

static int run(const char *options, char *said, size_t cap)
{
    struct process p = spawn(options);
    return finish(&p, said, cap);
}

static void good_options(char *out, size_t cap)
{
    snprintf(out, cap, "--keys %s --listen uds:%s/w.sock", dir, dir);
}

static void test_exit_codes(void **state)
{
    char said[8192], options[256];

    (void)state;
    assert_int_equal(run("--help", said, sizeof said), 0);
    assert_non_null(strstr(said, "Usage: dsmil-main-test"));
    assert_int_equal(run("--version", said, sizeof said), 0);
    assert_memory_equal(said, "dsmil-main-test ", 16);
    assert_int_equal(run("--nonsense 1", said, sizeof said), 2);
    assert_non_null(strstr(said, "there is no option --nonsense"));
    assert_int_equal(run("--keys /nonexistent", said, sizeof said), 3);
    assert_non_null(strstr(said, "/nonexistent"));
    good_options(options, sizeof options);
    setenv("TEST_INIT_FAILS", "1", 1);
    assert_int_equal(run(options, said, sizeof said), 1);
    assert_non_null(strstr(said, "no model here"));
    assert_non_null(strstr(said, "given back")); /* what it had begun to hold */
    unsetenv("TEST_INIT_FAILS");
}

static void test_signals(void **state)
{
    static const int signals[] = {SIGTERM, SIGINT};
    char said[65536], options[256];

    (void)state;
    good_options(options, sizeof options);
    for (size_t i = 0; i < BASE_ARRAY_LEN(signals); i++) {
        struct process p = spawn(options);
        wait_ready(&p);
        kill(p.pid, SIGUSR1);
        kill(p.pid, signals[i]);
        assert_int_equal(finish(&p, said, sizeof said), 0);
        assert_non_null(strstr(said, "\"message\":\"dumped\""));
        assert_non_null(strstr(said, "\"message\":\"draining\""));
    }
}

/* The value after "Name:" in the process's status file, which everybody may read. */
static void status_line(pid_t pid, const char *name, char *out, size_t cap)
{
    char path[64], line[256];

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    out[0] = '\0';
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            snprintf(out, cap, "%s", line + strlen(name));
    fclose(f);
}

static void test_hardening(void **state)
{
    char said[65536], options[256], value[64];

    (void)state;
    good_options(options, sizeof options);
    struct process p = spawn(options);
    wait_ready(&p);
    status_line(p.pid, "NoNewPrivs:\t", value, sizeof value);
    assert_string_equal(value, "1\n");
    status_line(p.pid, "Umask:\t", value, sizeof value);
    assert_string_equal(value, "0077\n");
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    status_line(p.pid, "Seccomp:\t", value, sizeof value);
    assert_string_equal(value, "2\n"); /* by a filter */
#endif
    kill(p.pid, SIGTERM);
    assert_int_equal(finish(&p, said, sizeof said), 0);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* Read the log until `text` stands in it. */
static void read_until(int fd, const char *text)
{
    static char said[65536];
    size_t len = 0;

    for (;;) {
        ssize_t n = read(fd, said + len, sizeof said - 1 - len);
        if (n <= 0)
            fail_msg("the log ended without \"%s\": %s", text, said);
        len += (size_t)n;
        said[len] = '\0';
        if (strstr(said, text) != NULL && said[len - 1] == '\n')
            return;
    }
}

/* SIGHUP takes over what may change, says what may not, and keeps everything when the file is wrong. */
static void test_reload(void **state)
{
    char options[400], path[96], where[160];

    (void)state;
    snprintf(path, sizeof path, "%s/service.yaml", dir);
    snprintf(where, sizeof where, "configuration not changed: %s:1:12: ", path);
    write_file(path, "log-level: info\n");
    snprintf(options, sizeof options, "--keys %s --listen uds:%s/w.sock --config %s", dir, dir, path);
    struct process p = spawn(options);
    wait_ready(&p);
    write_file(path, "log-level: debug\nmetrics-port: 1\n");
    kill(p.pid, SIGHUP);
    read_until(p.log_fd, "configuration read again: 1 changed, 1 need a restart");
    write_file(path, "log-level: [loud]\n");
    kill(p.pid, SIGHUP);
    read_until(p.log_fd, where);
    write_file(path, "log-level: debug\n");
    kill(p.pid, SIGHUP);
    read_until(p.log_fd, "configuration read again: 0 changed, 0 need a restart"); /* debug has stayed */
    kill(p.pid, SIGTERM);
    assert_int_equal(finish(&p, options, sizeof options), 0);
}

/* The service's parent dies without a word; the log pipe ends when the service does. */
static void test_parent_death(void **state)
{
    char said[65536], options[300], word[16] = "";
    int out[2];

    (void)state;
    snprintf(options, sizeof options, "--keys %s --listen uds:%s/w.sock --parent-pid", dir, dir);
    assert_int_equal(pipe(out), 0);
    pid_t parent = fork();
    assert_true(parent >= 0);
    if (parent == 0) {
        struct process p = spawn(options);
        read_all(p.ready_fd, word, sizeof word);
        char byte = word[0];
        (void)!write(out[1], &byte, 1);
        pause();
    }
    close(out[1]);
    assert_int_equal(read(out[0], word, 1), 1);
    assert_int_equal(word[0], 'R');
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    read_all(out[0], said, sizeof said); /* ends: the service, which inherited it, is gone too */
    close(out[0]);
}

static void test_notify_socket(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char said[65536], options[256], got[128] = "";
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)state;
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s/notify", dir);
    assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof addr), 0);
    setenv("NOTIFY_SOCKET", addr.sun_path, 1);
    good_options(options, sizeof options);
    struct process p = spawn(options);
    unsetenv("NOTIFY_SOCKET");
    assert_true(read(fd, got, sizeof got - 1) > 0);
    assert_memory_equal(got, "READY=1\n", 8);
    kill(p.pid, SIGTERM);
    assert_int_equal(finish(&p, said, sizeof said), 0);
    memset(got, 0, sizeof got);
    assert_true(read(fd, got, sizeof got - 1) > 0);
    assert_memory_equal(got, "STOPPING=1\n", 11);
    close(fd);
}

static int set_up(void **state)
{
    const struct dbe_issue what = {.device = 47, .role = DBE_ROLE_WORKER};

    (void)state;
    snprintf(dir, sizeof dir, "/tmp/dsmil-main-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(crypto_init(NULL), DBE_OK);
    assert_int_equal(dbe_keys_init(dir, "test.mesh", 10, NULL), DBE_OK);
    assert_int_equal(dbe_keys_issue(dir, &what, NULL), DBE_OK);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exit_codes), cmocka_unit_test(test_signals),      cmocka_unit_test(test_hardening),
        cmocka_unit_test(test_reload),     cmocka_unit_test(test_parent_death), cmocka_unit_test(test_notify_socket),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
