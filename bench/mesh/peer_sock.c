/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_sock.c - the floor: a Unix stream socket with a length before each message, bare, and with one AES-256-GCM a
 * message from the backend that is chosen (DSMIL_CRYPTO), its context kept and its nonce counted.
 */
#include <string.h>

#include "crypto/crypto.h"
#include "sock.h"

enum { LENGTH = 4 };

struct gcm {
    const struct crypto_aead *aead;
    struct crypto_aead_ctx *seal, *open;
    uint8_t seal_iv[CRYPTO_AEAD_IV_BYTES], open_iv[CRYPTO_AEAD_IV_BYTES];
    uint64_t sealed, opened;
};

static void *bare_new(bool client)
{
    (void)client;
    return NULL;
}

static size_t bare_put(void *state, const uint8_t *msg, size_t len, uint8_t *out)
{
    (void)state;
    base_put_u32(out, (uint32_t)len);
    memcpy(out + LENGTH, msg, len);
    return LENGTH + len;
}

static size_t bare_take(void *state, uint8_t *in, size_t len, uint8_t **ret_msg, size_t *ret_len)
{
    (void)state;
    if (len < LENGTH)
        return 0;
    size_t body = base_get_u32(in);
    if (len - LENGTH < body)
        return 0;
    *ret_msg = in + LENGTH;
    *ret_len = body;
    return LENGTH + body;
}

static void *gcm_new(bool client)
{
    const uint8_t keys[2][CRYPTO_AEAD_KEY_BYTES] = {{1}, {2}};
    struct gcm *g = base_alloc(1, sizeof *g);

    PEER_MUST(g != NULL && crypto_init(NULL) == DBE_OK);
    g->aead = crypto_suite(CRYPTO_SUITE_1)->aead;
    PEER_MUST(g->aead->new_ctx(keys[client], true, &g->seal) == DBE_OK);
    PEER_MUST(g->aead->new_ctx(keys[!client], false, &g->open) == DBE_OK);
    return g;
}

static size_t gcm_put(void *state, const uint8_t *msg, size_t len, uint8_t *out)
{
    struct gcm *g = state;

    base_put_u32(out, (uint32_t)(len + CRYPTO_AEAD_TAG_BYTES));
    base_put_u64(g->seal_iv + 4, g->sealed++);
    PEER_MUST(g->aead->seal(g->seal, g->seal_iv, out, LENGTH, msg, len, out + LENGTH) == DBE_OK);
    return LENGTH + len + CRYPTO_AEAD_TAG_BYTES;
}

static size_t gcm_take(void *state, uint8_t *in, size_t len, uint8_t **ret_msg, size_t *ret_len)
{
    struct gcm *g = state;
    size_t used = bare_take(NULL, in, len, ret_msg, ret_len);

    if (used == 0)
        return 0;
    base_put_u64(g->open_iv + 4, g->opened++);
    PEER_MUST(g->aead->open(g->open, g->open_iv, in, LENGTH, in + LENGTH, *ret_len, in + LENGTH) == DBE_OK);
    *ret_len -= CRYPTO_AEAD_TAG_BYTES;
    return used;
}

static const struct sock_codec bare = {bare_put, bare_take, bare_new};
static const struct sock_codec gcm = {gcm_put, gcm_take, gcm_new};

static const struct sock_codec *codec;
static int fds[2];
static void *states[2];

static void handle(int fd, char mode)
{
    (void)mode;
    sock_echo(fd, codec);
}

static void serve_bare(const char *dir)
{
    codec = &bare;
    sock_serve(dir, "bare", handle);
}

static void serve_gcm(const char *dir)
{
    codec = &gcm;
    sock_serve(dir, "gcm", handle);
}

static void open_as(const char *dir, const char *name, const struct sock_codec *c)
{
    codec = c;
    for (size_t i = 0; i < 2; i++) {
        fds[i] = sock_connect(dir, name, "pf"[i]);
        states[i] = c->state_new(true);
    }
}

static void open_bare(const char *dir)
{
    open_as(dir, "bare", &bare);
}

static void open_gcm(const char *dir)
{
    open_as(dir, "gcm", &gcm);
}

static void ping(size_t bytes, size_t count, uint64_t *ret_ns)
{
    sock_ping(fds[0], codec, states[0], bytes, count, ret_ns);
}

static void flood(size_t bytes, size_t count, size_t window)
{
    sock_flood(fds[1], codec, states[1], bytes, count, window);
}

const struct peer peers[] = {
    {"socket", serve_bare, open_bare, ping, flood},
    {"socket+gcm", serve_gcm, open_gcm, ping, flood},
    {0},
};
