/* SPDX-License-Identifier: Apache-2.0
 *
 * sock.h - Unix stream sockets for the baselines: connect, accept with a process for each connection, and the two
 * loops that the baselines share. What becomes of the bytes is a codec's business.
 *
 * A connection begins with one byte that says what it is for: 'p' for ping (blocking), 'f' for flood (both ends read
 * while they have something to write, or large windows would lock up).
 */
#ifndef BENCH_MESH_SOCK_H
#define BENCH_MESH_SOCK_H

#include <stdbool.h>

#include "peer.h"

enum { SOCK_IN_BYTES = 512 * 1024, SOCK_OUT_BYTES = 8 * 1024 * 1024 };

/* How messages stand in the stream. */
struct sock_codec {
    /* Append one message to `out`; returns its bytes there. */
    size_t (*put)(void *state, const uint8_t *msg, size_t len, uint8_t *out);
    /* Take one whole message from `in`: *ret_msg and *ret_len are the message, the return value what it took of `in`;
     * 0: not a whole one yet. `in` may be changed. */
    size_t (*take)(void *state, uint8_t *in, size_t len, uint8_t **ret_msg, size_t *ret_len);
    void *(*state_new)(bool client);
};

int  sock_connect(const char *dir, const char *name, char mode);
void sock_serve(const char *dir, const char *name, void (*handle)(int fd, char mode));

void sock_echo(int fd, const struct sock_codec *codec);
void sock_ping(int fd, const struct sock_codec *codec, void *state, size_t bytes, size_t count, uint64_t *ret_ns);
void sock_flood(int fd, const struct sock_codec *codec, void *state, size_t bytes, size_t count, size_t window);

#endif
