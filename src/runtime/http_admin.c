/* SPDX-License-Identifier: Apache-2.0
 *
 * http_admin.c - GET /metrics and /healthz on a Unix socket (mode 0600), on a loopback port, or on both; on the Unix
 * socket, which is the owner's alone, also GET /channels and /policy, and POST /channels/rekey, /channels/renew,
 * /channels/suite?name=LIST, /policy/reload, /reload and, what the device knows itself, /device/WHAT?value=VALUE.
 *
 * In:   HTTP requests of whoever may open the socket
 * Out:  the pages; 404 for another path, 405 for another method, 403 for another name of this host, 409 with the
 *       reason for an order that cannot be carried out
 * Not:  no request body is read, and nothing can be changed over TCP. A name check of Host keeps web pages out that
 *       resolve their own name to 127.0.0.1.
 */
#include "audit/audit.h"
#include "runtime/priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { HTTP_CONNECTIONS_MAX = 16, HTTP_TIMEOUT_S = 10, HTTP_MEMORY_BYTES = 16384, HTTP_BACKLOG = 16, HTTP_DAEMONS = 2 };

/* One daemon, and who comes in by it. */
struct door {
    struct svc *svc;
    bool owner; /* the Unix socket, which nobody but the service's own user can open */
};

struct svc_http {
    struct svc *svc;
    struct door doors[HTTP_DAEMONS];
    struct MHD_Daemon *daemons[HTTP_DAEMONS];
    struct svc_mhd *attached[HTTP_DAEMONS];
    size_t count;
    char socket_path[sizeof((struct sockaddr_un *)0)->sun_path];
};

static enum MHD_Result reply(struct MHD_Connection *c, unsigned status, const char *type, const void *data, size_t len)
{
    /* MHD copies; its parameter is not const for the sake of its other modes. */
    struct MHD_Response *r = MHD_create_response_from_buffer(len, (void *)(uintptr_t)data, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result ok;

    if (r == NULL)
        return MHD_NO;
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(r, "Cache-Control", "no-store");
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    ok = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result reply_text(struct MHD_Connection *c, unsigned status, const char *text)
{
    return reply(c, status, "text/plain", text, strlen(text));
}

static dbe_err render_metrics(struct svc *svc, struct base_buf *out, unsigned *ret_status)
{
    (void)ret_status;
    return svc_metrics_render(svc, out);
}

static dbe_err render_channels(struct svc *svc, struct base_buf *out, unsigned *ret_status)
{
    (void)ret_status;
    return svc_channels_render(svc, out);
}

static dbe_err render_policy(struct svc *svc, struct base_buf *out, unsigned *ret_status)
{
    (void)ret_status;
    return svc_policy_render(svc, out);
}

static const struct page {
    const char *path, *type;
    size_t max_bytes;
    bool owner_only; /* not over TCP */
    dbe_err (*render)(struct svc *svc, struct base_buf *out, unsigned *ret_status);
} pages[] = {
    {"/metrics", SVC_METRICS_CONTENT_TYPE, SVC_METRICS_MAX_BYTES, false, render_metrics},
    {"/healthz", SVC_HEALTH_CONTENT_TYPE, SVC_HEALTH_MAX_BYTES, false, svc_health_render},
    {"/channels", SVC_HEALTH_CONTENT_TYPE, SVC_METRICS_MAX_BYTES, true, render_channels},
    {"/policy", SVC_HEALTH_CONTENT_TYPE, SVC_HEALTH_MAX_BYTES, true, render_policy},
};

static enum MHD_Result reply_page(struct svc *svc, struct MHD_Connection *c, const struct page *page)
{
    struct base_buf out;
    unsigned status = 200;
    enum MHD_Result ok;
    dbe_err err;

    base_buf_init(&out, page->max_bytes);
    err = page->render(svc, &out, &status);
    if (err != DBE_OK)
        ok = reply_text(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory\n");
    else
        ok = reply(c, status, page->type, out.data, out.len);
    base_buf_free(&out);
    return ok;
}

/* An order to the channels; NULL: to load the policy again. */
static enum MHD_Result obey(struct svc *svc, struct MHD_Connection *c, const char *what)
{
    const char *value = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "name");
    struct dbe_diag diag = {0};
    dbe_err err =
        what == NULL ? svc_policy_reload(svc, &diag) : svc_channels_do(svc, what, value != NULL ? value : "", &diag);
    char text[sizeof diag.text + 2];

    if (err == DBE_OK)
        return reply_text(c, MHD_HTTP_OK, "done\n");
    (void)snprintf(text, sizeof text, "%s\n", diag.text[0] != '\0' ? diag.text : dbe_err_text(err));
    return reply_text(c, err == DBE_E_NOT_FOUND ? MHD_HTTP_NOT_FOUND : MHD_HTTP_CONFLICT, text);
}

static enum MHD_Result reload(struct svc *svc, struct MHD_Connection *c)
{
    char words[SVC_RELOAD_WORDS + 1];
    dbe_err err = svc_reload(svc, words, sizeof words - 1);

    (void)snprintf(words + strlen(words), 2, "\n");
    return reply_text(c, err == DBE_OK ? MHD_HTTP_OK : MHD_HTTP_CONFLICT, words);
}

/* An order that the device alone understands. */
static enum MHD_Result order(struct svc *svc, struct MHD_Connection *c, const char *what)
{
    const char *value = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "value");
    struct dbe_diag diag = {0};
    struct base_buf said;
    char words[160];

    base_buf_init(&said, SVC_RELOAD_WORDS);
    dbe_err err = svc->dev->order != NULL
                      ? svc->dev->order(svc, svc->state, what, value != NULL ? value : "", &said, &diag)
                      : DBE_E_NOT_FOUND;
    (void)snprintf(words, sizeof words, "%.40s %.100s", what, value != NULL ? value : "");
    svc_audit_event(svc, AUDIT_ORDER, err, NULL, 0, words);
    if (err != DBE_OK) {
        base_buf_clear(&said);
        base_buf_str(&said, diag.text[0] != '\0' ? diag.text : dbe_err_text(err));
    }
    base_buf_str(&said, "\n");
    enum MHD_Result ok =
        reply_text(c, err == DBE_OK ? MHD_HTTP_OK : (err == DBE_E_NOT_FOUND ? MHD_HTTP_NOT_FOUND : MHD_HTTP_CONFLICT),
                   base_buf_cstr(&said));
    base_buf_free(&said);
    return ok;
}

/* Host must be a name of the loopback interface. */
static bool host_ok(struct MHD_Connection *c)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);

    for (size_t i = 0; host != NULL && i < BASE_ARRAY_LEN(names); i++) {
        size_t len = strlen(names[i]);
        if (strncasecmp(host, names[i], len) == 0 && (host[len] == '\0' || host[len] == ':'))
            return true;
    }
    return false;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **connection_ctx)
{
    static char seen; /* its address marks a request whose headers were announced already */
    static const char orders[] = "/channels/", device[] = "/device/";
    const struct door *door = ctx;
    const bool post = strcmp(method, MHD_HTTP_METHOD_POST) == 0;

    (void)version;
    (void)upload;
    if (*connection_ctx == NULL) {
        *connection_ctx = &seen;
        return MHD_YES;
    }
    if (*upload_size > 0) { /* a body has no meaning here */
        *upload_size = 0;
        return MHD_YES;
    }
    if (post && door->owner && strncmp(url, orders, sizeof orders - 1) == 0)
        return obey(door->svc, c, url + sizeof orders - 1);
    if (post && door->owner && strncmp(url, device, sizeof device - 1) == 0)
        return order(door->svc, c, url + sizeof device - 1);
    if (post && door->owner && strcmp(url, "/reload") == 0)
        return reload(door->svc, c);
    if (post && door->owner && strcmp(url, "/policy/reload") == 0)
        return obey(door->svc, c, NULL);
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return reply_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, "GET only\n");
    if (!door->owner && !host_ok(c)) /* over the Unix socket clients say what they like */
        return reply_text(c, MHD_HTTP_FORBIDDEN, "this host is called localhost\n");
    for (size_t i = 0; i < BASE_ARRAY_LEN(pages); i++)
        if (strcmp(url, pages[i].path) == 0 && (door->owner || !pages[i].owner_only))
            return reply_page(door->svc, c, &pages[i]);
    return reply_text(c, MHD_HTTP_NOT_FOUND,
                      door->owner ? "there are /metrics, /healthz, /channels and /policy\n"
                                  : "there are /metrics and /healthz\n");
}

/* Make the socket's file ours: a dead one of an earlier run gives way, anything else does not. */
static int listen_unix(const char *path, struct dbe_diag *diag)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct stat st;

    if (strlen(path) >= sizeof addr.sun_path) {
        (void)dbe_fail(diag, DBE_E_CONFIG, "metrics-socket", 0, "metrics-socket: the path is longer than %zu bytes",
                       sizeof addr.sun_path - 1);
        return -1;
    }
    memcpy(addr.sun_path, path, strlen(path) + 1);
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t before = umask(0177);
    bool ok = fd >= 0 && bind(fd, (const struct sockaddr *)&addr, sizeof addr) == 0 && listen(fd, HTTP_BACKLOG) == 0;
    umask(before);
    if (!ok) {
        (void)dbe_fail(diag, DBE_E_IO, "metrics-socket", 0, "metrics-socket %.100s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

static int listen_loopback(uint16_t port, struct dbe_diag *diag)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
              bind(fd, (const struct sockaddr *)&addr, sizeof addr) == 0 && listen(fd, HTTP_BACKLOG) == 0;

    if (ok)
        return fd;
    (void)dbe_fail(diag, DBE_E_IO, "metrics-port", 0, "metrics-port %u: %s", port, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* The daemon owns `fd` from here on, also on error. */
static dbe_err add_daemon(struct svc_http *http, int fd, bool owner, struct dbe_diag *diag)
{
    struct door *door = &http->doors[http->count];

    *door = (struct door){http->svc, owner};
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_ITC, 0, NULL, NULL, on_request, door, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)HTTP_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_MEMORY_BYTES, MHD_OPTION_END);

    if (daemon == NULL) {
        close(fd);
        return dbe_fail(diag, DBE_E_IO, NULL, 0, "the HTTP daemon of /metrics does not start");
    }
    http->daemons[http->count] = daemon;
    return svc_mhd_attach(http->svc->loop, daemon, &http->attached[http->count++]);
}

static dbe_err open_all(struct svc_http *http, const struct svc_config *cfg, struct dbe_diag *diag)
{
    int fd;

    if (cfg->metrics_socket[0] != '\0') {
        fd = listen_unix(cfg->metrics_socket, diag);
        if (fd < 0)
            return DBE_E_CONFIG;
        snprintf(http->socket_path, sizeof http->socket_path, "%s", cfg->metrics_socket);
        DBE_TRY(add_daemon(http, fd, true, diag));
    }
    if (cfg->metrics_port != 0) {
        fd = listen_loopback((uint16_t)cfg->metrics_port, diag);
        if (fd < 0)
            return DBE_E_CONFIG;
        DBE_TRY(add_daemon(http, fd, false, diag));
    }
    return DBE_OK;
}

dbe_err svc_http_open(struct svc *svc, struct svc_http **ret, struct dbe_diag *diag)
{
    struct svc_http *http = base_alloc(1, sizeof *http);

    if (http == NULL)
        return DBE_E_NOMEM;
    http->svc = svc;
    dbe_err err = open_all(http, &svc->cfg, diag);
    if (err != DBE_OK) {
        svc_http_free(http);
        return err;
    }
    *ret = http;
    return DBE_OK;
}

void svc_http_free(struct svc_http *http)
{
    if (http == NULL)
        return;
    for (size_t i = 0; i < http->count; i++) {
        svc_mhd_free(http->attached[i]);
        MHD_stop_daemon(http->daemons[i]);
    }
    if (http->socket_path[0] != '\0')
        unlink(http->socket_path);
    base_free(http);
}
