/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_zmq.c - ZeroMQ over ipc, as it comes and with CURVE: DEALER sockets at both ends, one I/O thread each.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#include "base/base.h"
#include "peer.h"

enum { Z85_KEY = 41, HIGH_WATER = 2048 };

static void *sock;

static void address_of(const char *dir, const char *name, char *ret, size_t cap)
{
    PEER_MUST(snprintf(ret, cap, "ipc://%s/%s.sock", dir, name) < (int)cap);
}

static void *make(void)
{
    void *s = zmq_socket(zmq_ctx_new(), ZMQ_DEALER);
    int mark = HIGH_WATER;

    PEER_MUST(s != NULL);
    PEER_MUST(zmq_setsockopt(s, ZMQ_SNDHWM, &mark, sizeof mark) == 0);
    PEER_MUST(zmq_setsockopt(s, ZMQ_RCVHWM, &mark, sizeof mark) == 0);
    return s;
}

static void echo_forever(void *s)
{
    zmq_msg_t msg;

    peer_ready();
    PEER_MUST(zmq_msg_init(&msg) == 0);
    for (;;) {
        PEER_MUST(zmq_msg_recv(&msg, s, 0) >= 0);
        PEER_MUST(zmq_msg_send(&msg, s, 0) >= 0);
    }
}

static void serve_plain(const char *dir)
{
    char address[PEER_PATH_MAX + 20];
    void *s = make();

    address_of(dir, "zmq", address, sizeof address);
    PEER_MUST(zmq_bind(s, address) == 0);
    echo_forever(s);
}

/* The client must know the server's public key: it lies in the folder. */
static void serve_curve(const char *dir)
{
    char address[PEER_PATH_MAX + 20], path[PEER_PATH_MAX + 20], public[Z85_KEY], secret[Z85_KEY];
    void *s = make();
    int yes = 1;

    PEER_MUST(zmq_curve_keypair(public, secret) == 0);
    PEER_MUST(snprintf(path, sizeof path, "%s/zmq.pub", dir) < (int)sizeof path);
    FILE *f = fopen(path, "w");
    PEER_MUST(f != NULL && fwrite(public, Z85_KEY, 1, f) == 1 && fclose(f) == 0);
    PEER_MUST(zmq_setsockopt(s, ZMQ_CURVE_SERVER, &yes, sizeof yes) == 0);
    PEER_MUST(zmq_setsockopt(s, ZMQ_CURVE_SECRETKEY, secret, Z85_KEY) == 0);
    address_of(dir, "zmqc", address, sizeof address);
    PEER_MUST(zmq_bind(s, address) == 0);
    echo_forever(s);
}

static void open_plain(const char *dir)
{
    char address[PEER_PATH_MAX + 20];

    sock = make();
    address_of(dir, "zmq", address, sizeof address);
    PEER_MUST(zmq_connect(sock, address) == 0);
}

static void open_curve(const char *dir)
{
    char address[PEER_PATH_MAX + 20], path[PEER_PATH_MAX + 20], public[Z85_KEY], secret[Z85_KEY], server[Z85_KEY];

    sock = make();
    PEER_MUST(snprintf(path, sizeof path, "%s/zmq.pub", dir) < (int)sizeof path);
    FILE *f = fopen(path, "r");
    PEER_MUST(f != NULL && fread(server, Z85_KEY, 1, f) == 1 && fclose(f) == 0);
    PEER_MUST(zmq_curve_keypair(public, secret) == 0);
    PEER_MUST(zmq_setsockopt(sock, ZMQ_CURVE_SERVERKEY, server, Z85_KEY) == 0);
    PEER_MUST(zmq_setsockopt(sock, ZMQ_CURVE_PUBLICKEY, public, Z85_KEY) == 0);
    PEER_MUST(zmq_setsockopt(sock, ZMQ_CURVE_SECRETKEY, secret, Z85_KEY) == 0);
    address_of(dir, "zmqc", address, sizeof address);
    PEER_MUST(zmq_connect(sock, address) == 0);
}

static void ping(size_t bytes, size_t count, uint64_t *ret_ns)
{
    static uint8_t msg[PEER_BYTES_MAX];

    for (size_t i = 0; i < count; i++) {
        uint64_t start = base_mono_ns();
        PEER_MUST(zmq_send(sock, msg, bytes, 0) == (int)bytes);
        PEER_MUST(zmq_recv(sock, msg, sizeof msg, 0) == (int)bytes);
        ret_ns[i] = base_mono_ns() - start;
    }
}

static void flood(size_t bytes, size_t count, size_t window)
{
    static uint8_t msg[PEER_BYTES_MAX];
    size_t sent = 0, got = 0;

    while (got < count) {
        while (sent < count && sent - got < window) {
            PEER_MUST(zmq_send(sock, msg, bytes, 0) == (int)bytes);
            sent++;
        }
        PEER_MUST(zmq_recv(sock, msg, sizeof msg, 0) == (int)bytes);
        got++;
        while (got < sent && zmq_recv(sock, msg, sizeof msg, ZMQ_DONTWAIT) >= 0)
            got++;
    }
}

const struct peer peers[] = {
    {"zeromq", serve_plain, open_plain, ping, flood},
    {"zeromq-curve", serve_curve, open_curve, ping, flood},
    {0},
};
