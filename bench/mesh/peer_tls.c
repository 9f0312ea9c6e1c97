/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_tls.c - OpenSSL's TLS 1.3 on the same Unix socket: TLS_AES_256_GCM_SHA384, a P-256 certificate, no client
 * authentication, which costs nothing once the channel stands. Messages have their length before them; those that wait
 * go into one record of up to 16 KiB.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "sock.h"

enum { LENGTH = 4, ONE_DAY_S = 86400 };

/* One end of a TLS connection in the middle of its work. */
struct tls {
    SSL *ssl;
    int fd;
    uint8_t *in, *out;
    size_t in_len, out_off, out_len;
};

static EVP_PKEY *key;
static X509 *cert;
static struct tls ends[2];

static void add_ext(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    PEER_MUST(ext != NULL && X509_add_ext(x, ext, -1) == 1);
    X509_EXTENSION_free(ext);
}

static void make_cert(void)
{
    key = EVP_EC_gen("P-256");
    cert = X509_new();
    PEER_MUST(key != NULL && cert != NULL && X509_set_version(cert, X509_VERSION_3) == 1);
    PEER_MUST(ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) == 1);
    X509_NAME *name = X509_get_subject_name(cert);
    PEER_MUST(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"bench", -1, -1, 0) == 1);
    PEER_MUST(X509_set_issuer_name(cert, name) == 1 && X509_set_pubkey(cert, key) == 1);
    PEER_MUST(X509_gmtime_adj(X509_getm_notBefore(cert), 0) && X509_gmtime_adj(X509_getm_notAfter(cert), ONE_DAY_S));
    add_ext(cert, NID_basic_constraints, "critical,CA:TRUE");
    add_ext(cert, NID_subject_alt_name, "DNS:bench");
    PEER_MUST(X509_sign(cert, key, EVP_sha256()) > 0);
}

/* For the peers whose library is another OpenSSL and who cannot make one here. */
static void write_pem(const char *dir)
{
    char path[PEER_PATH_MAX + 20];

    PEER_MUST(snprintf(path, sizeof path, "%s/cert.pem", dir) < (int)sizeof path);
    FILE *f = fopen(path, "w");
    PEER_MUST(f != NULL && PEM_write_X509(f, cert) == 1 && fclose(f) == 0);
    PEER_MUST(snprintf(path, sizeof path, "%s/key.pem", dir) < (int)sizeof path);
    f = fopen(path, "w");
    PEER_MUST(f != NULL && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(f) == 0);
}

static SSL_CTX *context(bool server)
{
    SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

    PEER_MUST(ctx != NULL && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1);
    PEER_MUST(SSL_CTX_set_ciphersuites(ctx, "TLS_AES_256_GCM_SHA384") == 1);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    (void)SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_read_ahead(ctx, 1);
    if (server)
        PEER_MUST(SSL_CTX_use_certificate(ctx, cert) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1);
    return ctx;
}

static void tls_begin(struct tls *t, int fd, bool server, char mode)
{
    t->fd = fd;
    t->in = base_alloc(SOCK_IN_BYTES, 1);
    t->out = base_alloc(SOCK_OUT_BYTES, 1);
    t->ssl = SSL_new(context(server));
    PEER_MUST(t->in != NULL && t->out != NULL && t->ssl != NULL && SSL_set_fd(t->ssl, fd) == 1);
    PEER_MUST((server ? SSL_accept(t->ssl) : SSL_connect(t->ssl)) == 1);
    if (mode == 'f')
        PEER_MUST(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
}

static bool again(struct tls *t, int n)
{
    int err = SSL_get_error(t->ssl, n);

    return err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE;
}

static void tls_write(struct tls *t)
{
    while (t->out_off < t->out_len) {
        int n = SSL_write(t->ssl, t->out + t->out_off, (int)(t->out_len - t->out_off));
        if (n <= 0 && again(t, n))
            break;
        PEER_MUST(n > 0);
        t->out_off += (size_t)n;
    }
    if (t->out_off < t->out_len && t->out_off < SOCK_OUT_BYTES / 4)
        return;
    t->out_len -= t->out_off;
    memmove(t->out, t->out + t->out_off, t->out_len);
    t->out_off = 0;
}

/* Something is in t->in that was not there. False: the other end is gone. */
static bool tls_read(struct tls *t)
{
    for (;;) {
        int n = SSL_read(t->ssl, t->in + t->in_len, (int)(SOCK_IN_BYTES - t->in_len));
        if (n > 0) {
            t->in_len += (size_t)n;
            if (SSL_pending(t->ssl) > 0 && t->in_len < SOCK_IN_BYTES)
                continue;
            return true;
        }
        if (!again(t, n))
            return false;
        struct pollfd p = {.fd = t->fd, .events = (short)(POLLIN | (t->out_len > 0 ? POLLOUT : 0))};
        PEER_MUST(poll(&p, 1, -1) == 1);
        if ((p.revents & POLLOUT) != 0)
            tls_write(t);
    }
}

static void put(struct tls *t, const uint8_t *msg, size_t len)
{
    base_put_u32(t->out + t->out_len, (uint32_t)len);
    memcpy(t->out + t->out_len + LENGTH, msg, len);
    t->out_len += LENGTH + len;
}

static size_t take(struct tls *t, bool echo)
{
    size_t off = 0, count = 0;

    while (t->in_len - off >= LENGTH && t->in_len - off - LENGTH >= base_get_u32(t->in + off)) {
        size_t len = base_get_u32(t->in + off);
        if (echo)
            put(t, t->in + off + LENGTH, len);
        off += LENGTH + len;
        count++;
    }
    t->in_len -= off;
    memmove(t->in, t->in + off, t->in_len);
    return count;
}

static void handle(int fd, char mode)
{
    struct tls t = {0};

    tls_begin(&t, fd, true, mode);
    while (tls_read(&t)) {
        (void)take(&t, true);
        tls_write(&t);
        while (t.out_len - t.out_off > SOCK_OUT_BYTES / 4) { /* the other end must read first */
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            PEER_MUST(poll(&p, 1, -1) == 1);
            tls_write(&t);
        }
    }
}

static void serve(const char *dir)
{
    make_cert();
    write_pem(dir);
    sock_serve(dir, "tls", handle);
}

static void open_tls(const char *dir)
{
    for (size_t i = 0; i < 2; i++)
        tls_begin(&ends[i], sock_connect(dir, "tls", "pf"[i]), false, "pf"[i]);
}

static void ping(size_t bytes, size_t count, uint64_t *ret_ns)
{
    static uint8_t msg[PEER_BYTES_MAX];

    for (size_t i = 0; i < count; i++) {
        uint64_t start = base_mono_ns();
        put(&ends[0], msg, bytes);
        tls_write(&ends[0]);
        do
            PEER_MUST(tls_read(&ends[0]));
        while (take(&ends[0], false) == 0);
        ret_ns[i] = base_mono_ns() - start;
    }
}

static void flood(size_t bytes, size_t count, size_t window)
{
    static uint8_t msg[PEER_BYTES_MAX];
    size_t sent = 0, got = 0;

    while (got < count) {
        while (sent < count && sent - got < window) {
            put(&ends[1], msg, bytes);
            sent++;
        }
        tls_write(&ends[1]);
        PEER_MUST(tls_read(&ends[1]));
        got += take(&ends[1], false);
    }
}

const struct peer peers[] = {{"tls1.3", serve, open_tls, ping, flood}, {0}};
