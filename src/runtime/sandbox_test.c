/* SPDX-License-Identifier: Apache-2.0
 *
 * sandbox_test.c - what a sandboxed process can still do, what answers EPERM, and what ends it. Each case in a child.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/sandbox.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* Wait status of a child that enters the sandbox and runs fn; exit code 99: it could not enter. */
static int status_of(int (*fn)(void))
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct dbe_diag diag = {0};
        signal(SIGSYS, SIG_DFL); /* the test library's handler would report it and go on */
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        dbe_err err = svc_sandbox_enter(&diag);
        if (err != DBE_OK)
            _exit(err == DBE_E_UNSUPPORTED ? 98 : 99);
        _exit(fn());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 98)
        skip();
    return status;
}

#define EXPECT_EXIT(fn, code)                                                                                          \
    do {                                                                                                               \
        int status_ = status_of(fn);                                                                                   \
        assert_true(WIFEXITED(status_));                                                                               \
        assert_int_equal(WEXITSTATUS(status_), code);                                                                  \
    } while (0)

#define EXPECT_KILLED(fn)                                                                                              \
    do {                                                                                                               \
        int status_ = status_of(fn);                                                                                   \
        assert_true(WIFSIGNALED(status_));                                                                             \
        assert_int_equal(WTERMSIG(status_), SIGSYS);                                                                   \
    } while (0)

static void *thread_main(void *arg)
{
    return arg;
}

static int ordinary_work(void)
{
    pthread_t thread;
    char path[64];
    int pair[2], bad = 0;

    snprintf(path, sizeof path, "/tmp/dsmil-sandbox-%d", (int)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    bad += fd < 0 || write(fd, "x", 1) != 1 || fsync(fd) != 0 || close(fd) != 0 || unlink(path) != 0;
    bad += socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0;
    bad += pthread_create(&thread, NULL, thread_main, NULL) != 0 || pthread_join(thread, NULL) != 0;
    void *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bad += memory == MAP_FAILED || mprotect(memory, 1 << 20, PROT_READ) != 0 || munmap(memory, 1 << 20) != 0;
    return bad;
}

static int network(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) == -1 && errno == EPERM && socket(AF_INET6, SOCK_DGRAM, 0) == -1 &&
                   errno == EPERM
               ? 7
               : 0;
}

static int writable_code(void)
{
    void *both = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *data = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return both == MAP_FAILED && errno == EPERM && mprotect(data, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == -1 ? 7
                                                                                                                  : 0;
}

static int start_program(void)
{
    char *argv[] = {(char *)(uintptr_t) "true", NULL};

    execv("/bin/true", argv);
    return 0;
}

static int fork_process(void)
{
    return fork() == 0 ? 0 : 1;
}

static int trace(void)
{
    return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static void *in_thread(void *arg)
{
    int *go = arg;
    char byte;

    return (void *)(intptr_t)(read(go[0], &byte, 1) == 1 && socket(AF_INET, SOCK_STREAM, 0) == -1 ? 7 : 0);
}

/* A thread that ran before the sandbox was entered is in it as well. */
static void test_threads_before(void **state)
{
    int status;

    (void)state;
    if (SANITIZED)
        skip();
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        void *result = NULL;
        int go[2];
        signal(SIGSYS, SIG_DFL);
        if (pipe2(go, O_CLOEXEC) != 0 || pthread_create(&thread, NULL, in_thread, go) != 0)
            _exit(1);
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        dbe_err err = svc_sandbox_enter(NULL);
        if (err != DBE_OK)
            _exit(err == DBE_E_UNSUPPORTED ? 98 : 99);
        if (write(go[1], "x", 1) != 1 || pthread_join(thread, &result) != 0)
            _exit(2);
        _exit((int)(intptr_t)result);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 98)
        skip();
    assert_int_equal(WEXITSTATUS(status), 7);
}

static void test_work_goes_on(void **state)
{
    (void)state;
    if (SANITIZED)
        skip();
    EXPECT_EXIT(ordinary_work, 0);
}

static void test_refused(void **state)
{
    (void)state;
    if (SANITIZED)
        skip();
    EXPECT_EXIT(network, 7);
    EXPECT_EXIT(writable_code, 7);
}

static void test_deadly(void **state)
{
    (void)state;
    if (SANITIZED)
        skip();
    EXPECT_KILLED(start_program);
    EXPECT_KILLED(fork_process);
    EXPECT_KILLED(trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_work_goes_on),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_deadly),
        cmocka_unit_test(test_threads_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
