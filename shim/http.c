/* SPDX-License-Identifier: Apache-2.0
 *
 * http.c - the gateway's HTTP front: requests, their routes, answers.
 *
 * In:   HTTP/1.1 of local programs (libmicrohttpd parses it, inside the service's event loop)
 * Out:  JSON, event streams, /metrics and /healthz; every error in OpenAI's shape
 * Does: refuses heads that can be read in two ways, foreign Host and Origin (DNS rebinding), wrong keys, bodies above
 *       1 MiB; parks a connection while the
 *       mesh computes and notices when its client leaves
 * Not:  no sockets of its own (listen.c)
 *
 * Reading order: routes, shim_http_on_request, then up.
 */
#include "shim/server.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "shim/framing.h"
#include "shim/headers.h"

enum { DROPPED_MAX_BYTES = 16 * 1024 * 1024 };

/* ---- answers ---------------------------------------------------------------------------------------------------- */

void shim_http_respond(struct shim_http *http, unsigned status, const char *content_type, struct MHD_Response *response)
{
    static char empty[1];
    char seconds[16];

    if (http->answer != NULL) { /* the first decision stands */
        if (response != NULL)
            MHD_destroy_response(response);
        return;
    }
    if (response == NULL) {
        status = 500;
        response = MHD_create_response_from_buffer(0, empty, MHD_RESPMEM_PERSISTENT);
        if (response == NULL) { /* no memory for an empty one: the connection is closed instead */
            http->gone = true;
            return;
        }
    }
    (void)MHD_add_response_header(response, "Content-Type", content_type);
    (void)MHD_add_response_header(response, "X-Request-Id", http->chat.id_text);
    (void)MHD_add_response_header(response, "Cache-Control", "no-store");
    (void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (status == 401)
        (void)MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (http->problem.retry_after_s != 0) {
        (void)snprintf(seconds, sizeof seconds, "%" PRIu32, http->problem.retry_after_s);
        (void)MHD_add_response_header(response, "Retry-After", seconds);
    }
    if (http->problem.retry_after_ms != 0) { /* OpenAI's clients wait exactly that long */
        (void)snprintf(seconds, sizeof seconds, "%" PRIu32, http->problem.retry_after_ms);
        (void)MHD_add_response_header(response, "retry-after-ms", seconds);
    }
    http->answer = response;
    http->status = status;
}

void shim_http_answer(struct shim_http *http, unsigned status, const char *content_type, struct base_buf *body)
{
    struct MHD_Response *response = NULL;

    if (body->err == DBE_OK)
        response = MHD_create_response_from_buffer(body->len, body->data, MHD_RESPMEM_MUST_COPY);
    shim_http_respond(http, status, content_type, response);
}

void shim_http_refuse(struct shim_http *http, const struct shim_problem *p)
{
    struct base_buf out;

    http->problem = *p;
    base_buf_init(&out, SHIM_PAGE_MAX_BYTES);
    shim_problem_json(&out, p, http->chat.id_text);
    shim_http_answer(http, (unsigned)p->status, "application/json", &out);
    base_buf_free(&out);
}

/* ---- waiting for the mesh --------------------------------------------------------------------------------------- */

static void resume(struct shim_http *http)
{
    if (!http->suspended)
        return;
    http->suspended = false;
    MHD_resume_connection(http->connection);
    svc_mhd_kick(http->shim->server->attached);
}

/* The parked socket became readable: its client has left, or sends what we do not read yet. */
static void on_socket(void *ctx, int fd, unsigned events)
{
    struct shim_http *http = ctx;
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n > 0 && (events & BASE_LOOP_HANGUP) == 0) {
        if (base_watch_events(http->watch, 0) != DBE_OK) { /* a pipelined request; hang-up is still told */
            base_watch_free(http->watch);
            http->watch = NULL;
        }
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    base_watch_free(http->watch);
    http->watch = NULL;
    http->gone = true;
    http->shim->disconnects++;
    shim_chat_gone(http);
    resume(http);
}

void shim_http_moved(struct shim_http *http)
{
    http->socket->since_ns = svc_now_ns(http->shim->svc);
}

void shim_http_wait(struct shim_http *http)
{
    if (http->gone)
        return;
    if (http->watch == NULL)
        (void)!base_loop_watch(svc_loop(http->shim->svc), http->socket->fd, BASE_LOOP_READ, on_socket, http,
                               &http->watch);
    MHD_suspend_connection(http->connection);
    http->suspended = true;
}

void shim_http_continue(struct shim_http *http)
{
    resume(http);
}

/* ---- routes ----------------------------------------------------------------------------------------------------- */

static const struct route {
    const char *path; /* one that ends with '/' takes what follows as the model's id */
    const char *method, *allow;
    bool needs_key;
    dbe_err (*handler)(struct shim_http *http);
} routes[] = {
    {"/v1/chat/completions", "POST", "POST", true, shim_chat_handle},
    {"/v1/completions", "POST", "POST", true, shim_completion_handle},
    {"/v1/embeddings", "POST", "POST", true, shim_embedding_handle},
    {"/v1/responses", "POST", "POST", true, shim_response_handle},
    {"/v1/models", "GET", "GET, HEAD", true, shim_models_handle},
    {"/v1/models/", "GET", "GET, HEAD", true, shim_models_handle},
    {"/metrics", "GET", "GET, HEAD", false, shim_metrics_handle},
    {"/healthz", "GET", "GET, HEAD", false, shim_health_handle},
};

static const struct route *find_route(const char *path)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(routes); i++) {
        size_t len = strlen(routes[i].path);
        bool prefix = routes[i].path[len - 1] == '/';
        if (prefix ? strncmp(path, routes[i].path, len) == 0 && path[len] != '\0' : strcmp(path, routes[i].path) == 0)
            return &routes[i];
    }
    return NULL;
}

const char *shim_http_header(struct shim_http *http, const char *name)
{
    return MHD_lookup_connection_value(http->connection, MHD_HEADER_KIND, name);
}

/* What the client says its body takes; 0 if it does not. */
static unsigned long long declared_bytes(struct shim_http *http)
{
    const char *length = shim_http_header(http, "Content-Length");

    return length != NULL ? strtoull(length, NULL, 10) : 0;
}

/* Whose key is it? The request is that tenant's then. */
static bool knows_key(struct shim_http *http, const char *authorization)
{
    const char *key = shim_bearer(authorization);

    if (shim_bearer_matches(authorization, http->shim->api_key)) {
        http->chat.tenant = http->shim->local;
        return true;
    }
    return key != NULL && strlen(key) <= SHIM_API_KEY_MAX_BYTES &&
           shim_keys_find(&http->shim->keys, key, &http->chat.tenant);
}

/* What the headers alone decide; DBE_OK: the body is wanted. */
static dbe_err check_headers(struct shim_http *http, const char *path, const char *method,
                             const struct route **ret_route, struct shim_problem *p)
{
    if (!shim_host_is_local(shim_http_header(http, "Host")))
        return shim_problem_set(p, 403, "host_not_allowed", NULL,
                                "This service answers to localhost and 127.0.0.1 alone.");
    if (!shim_origin_is_local(shim_http_header(http, "Origin")))
        return shim_problem_set(p, 403, "origin_not_allowed", NULL, "Pages of other hosts may not use this service.");
    const struct route *route = find_route(path);
    if (route == NULL)
        return shim_problem_set(p, 404, "unknown_url", NULL, "Invalid URL: there is no such endpoint.");
    http->route = route->path;
    *ret_route = route;
    if (strcmp(method, route->method) != 0 && !(strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0))
        return shim_problem_set(p, 405, "method_not_allowed", NULL, "This endpoint takes %s.", route->allow);
    if (route->needs_key && !knows_key(http, shim_http_header(http, "Authorization")))
        return shim_problem_set(p, 401, "invalid_api_key", NULL,
                                "The API key is missing or wrong: send 'Authorization: Bearer <key>'.");
    const char *coding = shim_http_header(http, MHD_HTTP_HEADER_CONTENT_ENCODING);
    if (coding != NULL && strcasecmp(coding, "identity") != 0)
        return shim_problem_set(p, 415, "unsupported_value", MHD_HTTP_HEADER_CONTENT_ENCODING,
                                "Invalid 'Content-Encoding': bodies are taken as they are, without compression.");
    if (declared_bytes(http) > SHIM_BODY_MAX_BYTES)
        return shim_problem_set(p, 413, "request_too_large", NULL, "The body is larger than %d bytes.",
                                SHIM_BODY_MAX_BYTES);
    return DBE_OK;
}

/* ---- one request ------------------------------------------------------------------------------------------------ */

static enum MHD_Result queue_answer(struct shim_http *http, const struct route *route)
{
    if (http->gone || http->answer == NULL)
        return MHD_NO;
    if (http->status == 405 && route != NULL)
        (void)MHD_add_response_header(http->answer, "Allow", route->allow);
    enum MHD_Result ok = MHD_queue_response(http->connection, http->status, http->answer);
    MHD_destroy_response(http->answer);
    http->answer = NULL;
    return ok;
}

static enum MHD_Result begin_request(struct shim *shim, struct MHD_Connection *connection, const char *path,
                                     const char *method, const char *version, void **con_cls)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    const struct route *route = NULL;
    struct shim_http *http = base_alloc(1, sizeof *http);

    if (http == NULL || info == NULL || info->socket_context == NULL || base_uuid(http->chat.id) != DBE_OK) {
        base_free(http);
        return MHD_NO;
    }
    base_uuid_text(http->chat.id, http->chat.id_text);
    http->shim = shim;
    http->connection = connection;
    http->socket = info->socket_context;
    http->socket->http = http;
    http->route = "unknown";
    http->begin_ns = svc_now_ns(shim->svc);
    base_buf_init(&http->body, SHIM_BODY_MAX_BYTES);
    *con_cls = http;
    shim->requests++;
    svc_hold(shim->svc);
    const bool ambiguous = shim_framing_check(connection, version, &http->problem) != DBE_OK;
    http->refused = ambiguous || check_headers(http, path, method, &route, &http->problem) != DBE_OK;
    if (route != NULL)
        http->handler = route->handler;
    if (!http->refused && route != NULL && route->path[strlen(route->path) - 1] == '/') {
        base_buf_str(&http->body, path + strlen(route->path));
        http->model_id = base_buf_cstr(&http->body);
    }
    /* A client that waits for "100 Continue", or has far too much to say, hears the answer now. Others hear it after
     * their body: most clients read nothing before they have written all, and would see a broken pipe. */
    if (http->refused &&
        (ambiguous || declared_bytes(http) > DROPPED_MAX_BYTES || shim_http_header(http, "Expect") != NULL)) {
        shim_http_refuse(http, &http->problem);
        if (ambiguous && http->answer != NULL) /* where the next request begins, nobody knows */
            (void)MHD_add_response_header(http->answer, MHD_HTTP_HEADER_CONNECTION, "close");
        return queue_answer(http, route);
    }
    return MHD_YES;
}

/* Part of a body. What is refused anyway is read and dropped, to a limit, so that the client gets to read why. */
static enum MHD_Result take_body(struct shim_http *http, const char *data, size_t *len)
{
    if (!http->refused && http->model_id == NULL) {
        base_buf_bytes(&http->body, data, *len);
        if (http->body.err != DBE_OK) {
            http->refused = true;
            if (http->body.err == DBE_E_TOO_LARGE)
                (void)shim_problem_set(&http->problem, 413, "request_too_large", NULL,
                                       "The body is larger than %d bytes.", SHIM_BODY_MAX_BYTES);
            else
                shim_problem_of_mesh(&http->problem, DBE_E_NOMEM, NULL, NULL, 0);
            base_buf_free(&http->body);
        }
    } else {
        http->dropped_bytes += *len;
    }
    *len = 0;
    return http->dropped_bytes <= DROPPED_MAX_BYTES ? MHD_YES : MHD_NO;
}

enum MHD_Result shim_http_on_request(void *cls, struct MHD_Connection *connection, const char *path, const char *method,
                                     const char *version, const char *data, size_t *len, void **con_cls)
{
    struct shim_http *http = *con_cls;

    if (http == NULL)
        return begin_request(cls, connection, path, method, version, con_cls);
    if (*len > 0)
        return take_body(http, data, len);
    if (http->answer == NULL && !http->gone) { /* the request is complete */
        struct shim_problem internal;
        http->socket->receiving = false;
        if (http->refused)
            shim_http_refuse(http, &http->problem);
        else if (http->handler(http) != DBE_OK) {
            shim_problem_of_mesh(&internal, DBE_E_NOMEM, NULL, NULL, 0);
            shim_http_refuse(http, &internal);
        }
        if (http->suspended)
            return MHD_YES;
    }
    return queue_answer(http, find_route(path));
}

static void count_answer(struct shim_http *http)
{
    struct shim *shim = http->shim;
    uint64_t us = (svc_now_ns(shim->svc) - http->begin_ns) / BASE_NS_PER_US;

    shim->answers_2xx += http->status >= 200 && http->status < 300;
    shim->answers_4xx += http->status >= 400 && http->status < 500;
    shim->answers_5xx += http->status >= 500;
    bool probe =
        http->handler == shim_health_handle || http->handler == shim_metrics_handle; /* every few seconds, all day */
    svc_log(shim->svc,
            probe                 ? SVC_DEBUG
            : http->status >= 500 ? SVC_WARN
                                  : SVC_INFO,
            NULL, "http route=%s status=%u code=%s elapsed_ms=%" PRIu64 ".%03" PRIu64 " http_request=%s%s", http->route,
            http->status, http->problem.code != NULL ? http->problem.code : "-", us / 1000, us % 1000,
            http->chat.id_text, http->gone ? " client_gone=1" : "");
}

void shim_http_slow(struct shim_http *http)
{
    http->shim->slow += !http->slow;
    http->slow = true;
}

void shim_http_on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                            enum MHD_RequestTerminationCode why)
{
    struct shim_http *http = *con_cls;

    (void)cls;
    (void)connection;
    if (http == NULL)
        return;
    *con_cls = NULL;
    if (why == MHD_REQUEST_TERMINATED_TIMEOUT_REACHED && (http->streaming || http->status != 0))
        shim_http_slow(http); /* nothing was taken of what there was */
    if (http->counted)
        http->shim->in_flight--;
    shim_chat_gone(http);
    count_answer(http);
    base_watch_free(http->watch);
    if (http->answer != NULL)
        MHD_destroy_response(http->answer);
    base_buf_free(&http->body);
    shim_stream_free(&http->stream);
    shim_style_free(&http->style);
    http->socket->http = NULL;
    http->socket->receiving = true;
    http->socket->since_ns = svc_now_ns(http->shim->svc);
    svc_release(http->shim->svc);
    base_free(http);
}
