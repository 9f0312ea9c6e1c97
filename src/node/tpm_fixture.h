/* SPDX-License-Identifier: Apache-2.0
 *
 * tpm_fixture.h - a software TPM (swtpm) of the test's own, and registers that can be extended. Where swtpm is not
 * installed, tests skip and say so.
 */
#ifndef NODE_TPM_FIXTURE_H
#define NODE_TPM_FIXTURE_H

#include "keys_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tpm.h"

struct tf {
    char dir[64], tcti[96];
    pid_t pid; /* 0: it does not run */
};

/* Run a program to its end; its exit status, -1 if it could not be started. What it prints goes nowhere. */
static inline int tf_run(char *const argv[])
{
    extern char **environ;
    posix_spawn_file_actions_t quiet;
    pid_t pid = 0;
    int status = -1;

    assert_int_equal(posix_spawn_file_actions_init(&quiet), 0);
    (void)posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    (void)posix_spawn_file_actions_addopen(&quiet, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    int rc = posix_spawnp(&pid, argv[0], &quiet, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&quiet);
    if (rc != 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What a test that failed left running. */
static pid_t tf_running[16];

static inline void tf_at_exit(void)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(tf_running); i++)
        if (tf_running[i] > 0)
            (void)kill(tf_running[i], SIGKILL);
}

static inline void tf_note(pid_t from, pid_t to)
{
    static bool registered;

    if (!registered)
        registered = atexit(tf_at_exit) == 0;
    for (size_t i = 0; i < BASE_ARRAY_LEN(tf_running); i++) {
        if (tf_running[i] == from) {
            tf_running[i] = to;
            return;
        }
    }
}

/* swtpm as a daemon: when its parent ends, its sockets are there. False: it is not installed. */
static inline bool tf_start(struct tf *t)
{
    char state[128], server[128], ctrl[128], pid[128], pid_path[96];
    struct base_buf b;

    (void)snprintf(state, sizeof state, "dir=%s", t->dir);
    (void)snprintf(server, sizeof server, "type=unixio,path=%s/s", t->dir);
    (void)snprintf(ctrl, sizeof ctrl, "type=unixio,path=%s/s.ctrl", t->dir);
    (void)snprintf(pid_path, sizeof pid_path, "%s/pid", t->dir);
    (void)snprintf(pid, sizeof pid, "file=%s", pid_path);
    char *argv[] = {(char[]){"swtpm"}, (char[]){"socket"}, (char[]){"--tpm2"}, (char[]){"--tpmstate"}, state,
                    (char[]){"--server"}, server, (char[]){"--ctrl"}, ctrl, (char[]){"--flags"},
                    (char[]){"not-need-init,startup-clear"}, (char[]){"--pid"}, pid, (char[]){"--daemon"}, NULL};
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0); /* the daemon becomes our child */
    if (tf_run(argv) != 0)
        return false;
    base_buf_init(&b, 64);
    assert_int_equal(base_file_read(pid_path, 63, &b, NULL), DBE_OK);
    t->pid = (pid_t)strtol(base_buf_cstr(&b), NULL, 10);
    base_buf_free(&b);
    tf_note(0, t->pid);
    (void)snprintf(t->tcti, sizeof t->tcti, "swtpm:path=%s/s", t->dir);
    return true;
}

/* End it at once, as a TPM goes away, and wait for its end. */
static inline void tf_stop(struct tf *t)
{
    char path[96];

    if (t->pid <= 0)
        return;
    (void)kill(t->pid, SIGKILL);
    assert_int_equal(waitpid(t->pid, NULL, 0), t->pid);
    tf_note(t->pid, 0);
    t->pid = 0;
    (void)snprintf(path, sizeof path, "%s/s", t->dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/s.ctrl", t->dir);
    (void)unlink(path);
}

static inline bool tf_up(struct tf *t)
{
    *t = (struct tf){0};
    if (!tpm_supported()) {
        print_message("skipped: this build has no TPM (libtss2-dev)\n");
        return false;
    }
    (void)setenv("TSS2_LOG", "all+NONE", 0); /* the TSS's own words about what is refused here on purpose */
    (void)snprintf(t->dir, sizeof t->dir, "/tmp/dsmil-tpm-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    if (tf_start(t))
        return true;
    assert_int_equal(rmdir(t->dir), 0);
    t->dir[0] = '\0';
    print_message("skipped: no swtpm here (package swtpm)\n");
    return false;
}

static inline void tf_down(struct tf *t)
{
    tf_stop(t);
    if (t->dir[0] != '\0')
        assert_int_equal(nftw(t->dir, kf_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* TPM2_PCR_Extend, spoken to the socket directly. */
static inline void tf_extend(const struct tf *t, uint8_t pcr)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    uint8_t answer[256], mem[128], digest[32];
    struct base_buf b;

    memset(digest, 0x5A, sizeof digest);
    base_buf_init_fixed(&b, mem, sizeof mem);
    base_buf_u16(&b, 0x8002); /* TPM_ST_SESSIONS */
    base_buf_u32(&b, 10 + 4 + 4 + 9 + 4 + 2 + 32);
    base_buf_u32(&b, 0x00000182);
    base_buf_u32(&b, pcr);
    base_buf_u32(&b, 9);
    base_buf_u32(&b, 0x40000009); /* TPM_RS_PW, no nonce, no attributes, empty authorization */
    base_buf_u16(&b, 0);
    base_buf_u8(&b, 0);
    base_buf_u16(&b, 0);
    base_buf_u32(&b, 1);
    base_buf_u16(&b, 0x000B); /* SHA-256 */
    base_buf_bytes(&b, digest, sizeof digest);
    (void)snprintf(at.sun_path, sizeof at.sun_path, "%s/s", t->dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(write(fd, b.data, b.len), b.len);
    ssize_t n = read(fd, answer, sizeof answer);
    assert_true(n >= 10);
    assert_int_equal(base_get_u32(answer + 6), 0); /* TPM_RC_SUCCESS */
    (void)close(fd);
}

#endif
