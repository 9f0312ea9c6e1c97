/* SPDX-License-Identifier: Apache-2.0
 *
 * http.c - a blocking HTTP/1.1 client for one exchange with our own gateway or a service's health socket.
 *
 * A general client library would bring a second OpenSSL into a process that links its own; this one speaks to loopback
 * and to Unix sockets alone: no TLS, no redirects, no proxies, no keep-alive. Answers are still not trusted: head, body
 * and time have maxima.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"

enum { HEAD_MAX = 16384, BODY_MAX = 32 * 1024 * 1024, READ_BYTES = 16384, STOP_LOOK_MS = 50 };

enum chunk_state { CHUNK_SIZE, CHUNK_DATA, CHUNK_END, CHUNK_DONE };

struct exchange {
    const struct cli_http *req;
    struct cli_http_result *res;
    struct dbe_diag *diag;
    struct base_buf in; /* read and not yet used */
    uint64_t deadline_ns;
    int fd;
    bool head_done, chunked, has_length;
    enum chunk_state chunk;
    uint64_t left; /* of this chunk, or of the body */
};

static dbe_err wait_for(struct exchange *x, short events)
{
    uint64_t now = base_mono_ns();

    if (x->req->stop != NULL && *x->req->stop != 0)
        return DBE_E_CANCELLED;
    if (now >= x->deadline_ns)
        return dbe_fail(x->diag, DBE_E_TIMEOUT, NULL, 0, "no answer within %u ms", x->req->timeout_ms);
    struct pollfd pfd = {.fd = x->fd, .events = events};
    /* A signal that comes just before poll does not end it: who may be stopped looks often. */
    uint64_t most_ms = x->req->stop != NULL ? STOP_LOOK_MS : 60000;
    int ms = (int)BASE_MIN((x->deadline_ns - now) / BASE_NS_PER_MS + 1, most_ms);

    if (poll(&pfd, 1, ms) < 0 && errno != EINTR)
        return dbe_fail(x->diag, DBE_E_IO, NULL, 0, "poll: %s", strerror(errno));
    return DBE_OK;
}

static dbe_err dial(const struct cli_http *req, int *ret_fd, struct dbe_diag *diag)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)req->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool local = req->unix_path != NULL;
    const void *addr = local ? (const void *)&un : (const void *)&in;
    socklen_t len = local ? sizeof un : sizeof in;

    if (local && (size_t)snprintf(un.sun_path, sizeof un.sun_path, "%s", req->unix_path) >= sizeof un.sun_path)
        return dbe_fail(diag, DBE_E_TOO_LARGE, NULL, 0, "%s is too long for a socket", req->unix_path);
    *ret_fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*ret_fd < 0)
        return dbe_fail(diag, DBE_E_IO, NULL, 0, "socket: %s", strerror(errno));
    if (connect(*ret_fd, addr, len) == 0)
        return DBE_OK;
    if (local)
        return dbe_fail(diag, DBE_E_UNAVAILABLE, NULL, 0, "%s: %s", req->unix_path, strerror(errno));
    return dbe_fail(diag, DBE_E_UNAVAILABLE, NULL, 0, "127.0.0.1:%u: %s", req->port, strerror(errno));
}

static dbe_err send_request(struct exchange *x)
{
    const struct cli_http *r = x->req;
    struct base_buf out;
    dbe_err err = DBE_OK;

    base_buf_init(&out, BODY_MAX);
    base_buf_fmt(&out, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", r->body != NULL ? "POST" : "GET",
                 r->path);
    if (r->bearer != NULL)
        base_buf_fmt(&out, "Authorization: Bearer %s\r\n", r->bearer);
    if (r->body != NULL)
        base_buf_fmt(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(r->body));
    base_buf_str(&out, "\r\n");
    if (r->body != NULL)
        base_buf_str(&out, r->body);
    err = out.err;
    while (err == DBE_OK && out.len > 0) {
        ssize_t n = send(x->fd, out.data, out.len, MSG_NOSIGNAL);
        if (n > 0)
            base_buf_consume(&out, (size_t)n);
        else if (errno == EAGAIN || errno == EINTR)
            err = wait_for(x, POLLOUT);
        else
            err = dbe_fail(x->diag, DBE_E_CLOSED, NULL, 0, "the gateway closed the connection: %s", strerror(errno));
    }
    base_buf_free(&out);
    return err;
}

/* Value of header `name` in the head (lines end with CRLF), or NULL. */
static const char *header(const char *head, const char *name)
{
    size_t len = strlen(name);

    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':')
            return line + 3 + len + strspn(line + 3 + len, " ");
    return NULL;
}

static dbe_err parse_head(struct exchange *x)
{
    char *head = (char *)(uintptr_t)base_buf_cstr(&x->in), *end = strstr(head, "\r\n\r\n");
    const char *value;

    if (end == NULL)
        return x->in.len > HEAD_MAX ? dbe_fail(x->diag, DBE_E_TOO_LARGE, NULL, 0, "the answer's head is too long")
                                    : DBE_OK;
    end[2] = '\0';
    if (sscanf(head, "HTTP/1.1 %d", &x->res->status) != 1)
        return dbe_fail(x->diag, DBE_E_MALFORMED, NULL, 0, "that is no HTTP/1.1 answer");
    value = header(head, "Transfer-Encoding");
    x->chunked = value != NULL && strncasecmp(value, "chunked", 7) == 0;
    value = header(head, "Content-Length");
    x->has_length = value != NULL;
    x->left = value != NULL ? strtoull(value, NULL, 10) : UINT64_MAX;
    x->head_done = true;
    base_buf_consume(&x->in, (size_t)(end - head) + 4);
    return DBE_OK;
}

static dbe_err deliver(struct exchange *x, size_t len)
{
    if (x->req->on_data != NULL && x->res->status == 200)
        x->req->on_data(x->req->ctx, (const char *)x->in.data, len);
    else
        base_buf_bytes(&x->res->body, x->in.data, len);
    base_buf_consume(&x->in, len);
    return x->res->body.err;
}

/* One step over chunked framing (RFC 9112 section 7.1); *ret_moved says whether there was enough for it. */
static dbe_err chunk_step(struct exchange *x, bool *ret_moved)
{
    *ret_moved = false;
    if (x->chunk == CHUNK_DATA && x->in.len > 0) {
        size_t n = (size_t)BASE_MIN(x->left, (uint64_t)x->in.len);
        DBE_TRY(deliver(x, n));
        x->left -= n;
        x->chunk = x->left == 0 ? CHUNK_END : CHUNK_DATA;
        *ret_moved = true;
    } else if (x->chunk == CHUNK_END && x->in.len >= 2) {
        base_buf_consume(&x->in, 2);
        x->chunk = CHUNK_SIZE;
        *ret_moved = true;
    } else if (x->chunk == CHUNK_SIZE) {
        const char *text = base_buf_cstr(&x->in), *eol = strstr(text, "\r\n");
        if (eol == NULL)
            return x->in.len > 64 ? dbe_fail(x->diag, DBE_E_MALFORMED, NULL, 0, "broken chunk size") : DBE_OK;
        x->left = strtoull(text, NULL, 16);
        x->chunk = x->left == 0 ? CHUNK_DONE : CHUNK_DATA;
        base_buf_consume(&x->in, (size_t)(eol - text) + 2);
        *ret_moved = true;
    }
    return DBE_OK;
}

static dbe_err parse_body(struct exchange *x, bool *ret_done)
{
    bool moved = true;

    while (x->chunked && x->chunk != CHUNK_DONE && moved)
        DBE_TRY(chunk_step(x, &moved));
    if (!x->chunked && x->in.len > 0) {
        size_t n = (size_t)BASE_MIN(x->left, (uint64_t)x->in.len);
        DBE_TRY(deliver(x, n));
        x->left -= x->has_length ? n : 0;
    }
    *ret_done = x->chunked ? x->chunk == CHUNK_DONE : x->has_length && x->left == 0;
    return DBE_OK;
}

static dbe_err receive(struct exchange *x)
{
    bool done = false;

    while (!done) {
        DBE_TRY(wait_for(x, POLLIN));
        size_t had = x->in.len;
        void *room = base_buf_grow(&x->in, READ_BYTES);
        if (room == NULL)
            return x->in.err;
        ssize_t n = recv(x->fd, room, READ_BYTES, MSG_DONTWAIT);
        x->in.len = had + (n > 0 ? (size_t)n : 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0) /* the end of a body without a length is the end of the connection */
            return x->head_done && !x->chunked && !x->has_length
                       ? DBE_OK
                       : dbe_fail(x->diag, DBE_E_CLOSED, NULL, 0, "the connection ended before the answer did");
        if (!x->head_done)
            DBE_TRY(parse_head(x));
        if (x->head_done)
            DBE_TRY(parse_body(x, &done));
    }
    return DBE_OK;
}

dbe_err cli_http_fd(const struct cli_http *req, int fd, struct cli_http_result *ret, struct dbe_diag *diag)
{
    struct cli_http_result res = {0};
    struct exchange x = {.req = req,
                         .res = &res,
                         .diag = diag,
                         .fd = fd,
                         .deadline_ns = base_mono_ns() + req->timeout_ms * (uint64_t)BASE_NS_PER_MS};
    dbe_err err;

    base_buf_init(&res.body, BODY_MAX);
    base_buf_init(&x.in, BODY_MAX);
    err = send_request(&x);
    if (err == DBE_OK)
        err = receive(&x);
    base_buf_free(&x.in);
    if (err != DBE_OK)
        base_buf_free(&res.body);
    else
        *ret = res;
    return err;
}

dbe_err cli_http(const struct cli_http *req, struct cli_http_result *ret, struct dbe_diag *diag)
{
    BASE_AUTO_CLOSE int fd = -1;

    DBE_TRY(dial(req, &fd, diag));
    return cli_http_fd(req, fd, ret, diag);
}

/* ---- event streams ------------ */

void cli_sse_init(struct cli_sse *sse, void (*on_event)(void *, const char *, size_t), void *ctx)
{
    base_buf_init(&sse->line, BODY_MAX);
    sse->on_event = on_event;
    sse->ctx = ctx;
}

void cli_sse_feed(void *arg, const char *data, size_t len)
{
    struct cli_sse *sse = arg;

    for (size_t i = 0; i < len; i++) {
        if (data[i] != '\n') {
            base_buf_u8(&sse->line, (uint8_t)data[i]);
            continue;
        }
        const char *line = base_buf_cstr(&sse->line);
        size_t n = strcspn(line, "\r");
        if (strncmp(line, "data: ", 6) == 0 && n > 6 && strncmp(line + 6, "[DONE]", 6) != 0)
            sse->on_event(sse->ctx, line + 6, n - 6);
        base_buf_clear(&sse->line);
    }
}

void cli_sse_free(struct cli_sse *sse)
{
    base_buf_free(&sse->line);
}
