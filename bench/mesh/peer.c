/* SPDX-License-Identifier: Apache-2.0
 *
 * peer.c - what the programs of bench/mesh share: the server's process, the commands, the statistics.
 */
#include "peer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"

static int ready_fd = -1;

void peer_die(const char *what, const char *why)
{
    (void)fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

void peer_ready(void)
{
    PEER_MUST(write(ready_fd, "r", 1) == 1);
    (void)close(ready_fd);
}

static void start_server(const struct peer *p, const char *dir)
{
    int fds[2];
    char c;

    PEER_MUST(pipe(fds) == 0);
    pid_t pid = fork();
    PEER_MUST(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close(fds[0]);
        (void)close(STDIN_FILENO);
        ready_fd = fds[1];
        p->serve(dir);
        exit(0);
    }
    (void)close(fds[1]);
    PEER_MUST(read(fds[0], &c, 1) == 1);
    (void)close(fds[0]);
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void do_ping(const struct peer *p, size_t bytes, size_t count)
{
    uint64_t *ns = base_alloc(count, sizeof *ns), sum = 0;

    PEER_MUST(ns != NULL);
    p->ping(bytes, count, ns);
    for (size_t i = 0; i < count; i++)
        sum += ns[i];
    qsort(ns, count, sizeof *ns, by_value);
    printf("{\"p50_ns\": %llu, \"p99_ns\": %llu, \"mean_ns\": %.1f}\n", (unsigned long long)ns[count / 2],
           (unsigned long long)ns[count * 99 / 100], (double)sum / (double)count);
    base_free(ns);
}

static void do_flood(const struct peer *p, size_t bytes, size_t count, size_t window)
{
    uint64_t start = base_mono_ns();

    p->flood(bytes, count, window);
    printf("{\"seconds\": %.9f}\n", (double)(base_mono_ns() - start) / 1e9);
}

static void obey(const struct peer *p, const char *line)
{
    size_t bytes = 0, count = 0, window = 0;

    if (sscanf(line, "ping %zu %zu", &bytes, &count) == 2 && bytes <= PEER_BYTES_MAX && count > 0 &&
        count <= PEER_COUNT_MAX)
        do_ping(p, bytes, count);
    else if (sscanf(line, "flood %zu %zu %zu", &bytes, &count, &window) == 3 && bytes <= PEER_BYTES_MAX && count > 0 &&
             count <= PEER_COUNT_MAX && window > 0 && window <= PEER_WINDOW_MAX)
        do_flood(p, bytes, count, window);
    else
        peer_die("no such command", line);
    (void)fflush(stdout);
}

int main(int argc, char *argv[])
{
    const struct peer *p = peers;
    char line[128];

    if (argc != 3) {
        for (; p->name != NULL; p++)
            puts(p->name);
        return 0;
    }
    while (p->name != NULL && strcmp(p->name, argv[1]) != 0)
        p++;
    if (p->name == NULL || strlen(argv[2]) > PEER_PATH_MAX - 20)
        peer_die(argv[1], "no such peer, or the folder's path is too long");
    (void)signal(SIGPIPE, SIG_IGN);
    start_server(p, argv[2]);
    p->open(argv[2]);
    puts("{\"ready\": true}");
    (void)fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL)
        obey(p, line);
    return 0;
}
