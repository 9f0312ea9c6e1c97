/* SPDX-License-Identifier: Apache-2.0
 *
 * listen.c - the listener on loopback, its connections and their limits.
 *
 * In:   connections of local programs     Out: requests (http.c)
 * Does: ends requests that arrive too slowly; stops taking connections, and stops
 * Not:  no TLS and no other address than 127.0.0.1
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shim/framing.h"

enum { OTHER_DESCRIPTORS = 64 };

/* ---- connections ------------------------------------------------------------------------------------------------ */

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct shim *shim = cls;
    struct shim_socket *s = *socket_context;

    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (s == NULL)
            return;
        *s->prev = s->next;
        if (s->next != NULL)
            s->next->prev = s->prev;
        base_free(s);
        *socket_context = NULL;
        shim->connections--;
        return;
    }
    s = base_alloc(1, sizeof *s);
    if (s == NULL)
        return; /* its requests find no context and are closed */
    s->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    s->receiving = true;
    s->since_ns = svc_now_ns(shim->svc);
    s->next = shim->server->sockets;
    s->prev = &shim->server->sockets;
    if (s->next != NULL)
        s->next->prev = &s->next;
    shim->server->sockets = s;
    *socket_context = s;
    shim->connections++;
}

/* Nobody waits for this connection's owner to go on: between requests, or with a stream of which nothing is taken. */
static bool is_still(const struct shim_socket *s)
{
    return s->receiving || (s->http != NULL && s->http->streaming && shim_stream_waits(&s->http->stream));
}

/* One byte a second keeps a connection busy for ever; it does not keep it open for ever. And where no more connections
 * would be let in, those on which nothing moves make room: who works does not wait for who does not. */
void shim_http_tick(struct shim *shim)
{
    const uint64_t now_ns = svc_now_ns(shim->svc);
    const bool full = shim->connections >= shim->max_connections;

    for (struct shim_socket *s = shim->server->sockets; s != NULL; s = s->next) {
        const uint64_t still_ns = is_still(s) ? now_ns - s->since_ns : 0;
        if ((s->receiving && still_ns > SHIM_RECEIVE_TIMEOUT_S * BASE_NS_PER_S) ||
            (full && still_ns > SHIM_STILL_S * BASE_NS_PER_S)) {
            if (!s->receiving)
                shim_http_slow(s->http);
            s->since_ns = now_ns; /* once */
            (void)shutdown(s->fd, SHUT_RDWR);
        }
    }
}

/* ---- the listener ----------------------------------------------------------------------------------------------- */

static dbe_err open_listener(struct shim *shim, int *ret_fd, struct dbe_diag *diag)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)shim->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int on = 1, send_bytes = SHIM_SEND_BUFFER_BYTES,
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return dbe_fail(diag, DBE_E_IO, "port", 0, "cannot make a socket: %s", strerror(errno));
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof send_bytes); /* connections have it from here */
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, SHIM_LISTEN_BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
        int why = errno;
        (void)close(fd);
        return dbe_fail(diag, why == EADDRINUSE ? DBE_E_CONFIG : DBE_E_IO, "port", 0,
                        "cannot listen on 127.0.0.1:%" PRIu64 ": %s; choose another port with --port", shim->port,
                        strerror(why));
    }
    shim->port = ntohs(at.sin_port);
    *ret_fd = fd;
    return DBE_OK;
}

/* A descriptor a connection, and some for everything else. */
static dbe_err allow_descriptors(const struct shim *shim, struct dbe_diag *diag)
{
    const rlim_t need = (rlim_t)shim->max_connections + OTHER_DESCRIPTORS;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need)
        return DBE_OK;
    if (limit.rlim_max < need)
        return dbe_fail(diag, DBE_E_CONFIG, "max-connections", 0,
                        "%" PRIu64 " connections need %llu descriptors, and the limit is %llu (ulimit -Hn)",
                        shim->max_connections, (unsigned long long)need, (unsigned long long)limit.rlim_max);
    limit.rlim_cur = need;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0
               ? DBE_OK
               : dbe_fail(diag, DBE_E_CONFIG, "max-connections", 0, "cannot raise the limit of descriptors: %s",
                          strerror(errno));
}

dbe_err shim_http_start(struct shim *shim, struct dbe_diag *diag)
{
    int fd = -1;

    DBE_TRY(allow_descriptors(shim, diag));
    DBE_TRY(open_listener(shim, &fd, diag));
    struct shim_server *server = base_alloc(1, sizeof *server);
    if (server == NULL) {
        (void)close(fd);
        return DBE_E_NOMEM;
    }
    server->listener = -1;
    shim->server = server;
    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, shim_http_on_request, shim, MHD_OPTION_LISTEN_SOCKET,
        fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)shim->max_connections, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)SHIM_CONNECTION_MEMORY_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SHIM_IDLE_TIMEOUT_S,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_UNESCAPE_CALLBACK, shim_unescape, NULL, MHD_OPTION_NOTIFY_COMPLETED,
        shim_http_on_completed, NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, shim, MHD_OPTION_END);
    if (server->daemon == NULL) {
        (void)close(fd);
        shim_http_stop(shim);
        return dbe_fail(diag, DBE_E_IO, "port", 0, "the HTTP library refused to start");
    }
    dbe_err err = svc_mhd_attach(svc_loop(shim->svc), server->daemon, &server->attached);
    if (err != DBE_OK)
        shim_http_stop(shim);
    return err;
}

void shim_http_quiesce(struct shim *shim)
{
    if (shim->server == NULL || shim->server->daemon == NULL || shim->server->listener >= 0)
        return;
    shim->server->listener = MHD_quiesce_daemon(shim->server->daemon);
}

void shim_http_stop(struct shim *shim)
{
    struct shim_server *server = shim->server;

    if (server == NULL)
        return;
    for (struct shim_socket *s = server->sockets; s != NULL; s = s->next) {
        if (s->http == NULL || !s->http->suspended)
            continue;
        s->http->gone = true; /* the library stops no daemon with parked connections */
        shim_http_continue(s->http);
    }
    svc_mhd_free(server->attached);
    if (server->daemon != NULL)
        MHD_stop_daemon(server->daemon); /* tells every request that it is over */
    if (server->listener >= 0)
        (void)close(server->listener);
    base_free(server);
    shim->server = NULL;
}
