/* SPDX-License-Identifier: Apache-2.0
 *
 * peer.h - one way to exchange messages between two processes on one host, as the comparison of bench/mesh sees it.
 *
 * Each program here holds one or more of them. It is run as `PROGRAM NAME FOLDER`, forks its own server and obeys lines
 * on its standard input:
 *   ping BYTES COUNT          one message there and back, COUNT times    -> p50, p99 and mean in nanoseconds
 *   flood BYTES COUNT WINDOW  COUNT messages there and back, WINDOW of them in flight at any time -> seconds
 * Answers are JSON, one line each. Programs are separate so that libraries that cannot share a process need not.
 * The server answers each message with the same bytes.
 */
#ifndef BENCH_MESH_PEER_H
#define BENCH_MESH_PEER_H

#include <stddef.h>
#include <stdint.h>

enum {
    PEER_BYTES_MAX = 64 * 1024,
    PEER_COUNT_MAX = 10 * 1000 * 1000,
    PEER_WINDOW_MAX = 1024,
    PEER_PATH_MAX = 100, /* of a socket, as sockaddr_un has it */
};

struct peer {
    const char *name;
    /* In the server's process: listen under `dir`, call peer_ready, serve until killed. */
    void (*serve)(const char *dir);
    /* In the client's process. */
    void (*open)(const char *dir);
    void (*ping)(size_t bytes, size_t count, uint64_t *ret_ns);
    void (*flood)(size_t bytes, size_t count, size_t window);
};

/* Defined by each program; ends with a NULL name. */
extern const struct peer peers[];

/* The server listens: the client may open. */
void peer_ready(void);
/* The measurement cannot go on: say why and exit. */
_Noreturn void peer_die(const char *what, const char *why);
#define PEER_MUST(cond)                                                                                                \
    do {                                                                                                               \
        if (!(cond))                                                                                                   \
            peer_die(#cond, "does not hold");                                                                          \
    } while (0)

#endif
