/* SPDX-License-Identifier: Apache-2.0
 *
 * shim.h - state of the OpenAI gateway, shared by shim.c (the service), http.c (connections) and chat.c (one chat).
 */
#ifndef SHIM_SHIM_H
#define SHIM_SHIM_H

#include <microhttpd.h>

#include "runtime/admin.h"
#include "shim/keys.h"
#include "shim/map_dbe.h"
#include "shim/sse.h"

enum {
    SHIM_API_KEY_MIN_BYTES = 8,
    SHIM_API_KEY_MAX_BYTES = 256,
    SHIM_CONNECTION_MEMORY_BYTES = 16 * 1024, /* headers and socket buffers of one connection; all of it is touched */
    SHIM_IDLE_TIMEOUT_S = 30,                 /* a connection on which nothing moves */
    SHIM_RECEIVE_TIMEOUT_S = 30,              /* from the first byte of a request to its last, however busy */
    SHIM_STILL_S = 2, /* where no more connections are let in: after it, one on which nothing moves makes room */
    SHIM_SEND_BUFFER_BYTES = 128 * 1024, /* the kernel's for a client; it would keep 4 MiB for one that does not read */
    SHIM_LISTEN_BACKLOG = 128,
};

struct shim_server;

struct shim {
    /* parameters */
    uint64_t port, max_connections, timeout_ms;
    char sealed_tenants[512];
    char api_key_file[1024], api_keys_file[1024], tenant[DBE_TENANT_MAX_BYTES + 1];
    /* state */
    char api_key[SHIM_API_KEY_MAX_BYTES + 1];
    struct shim_tenant local; /* whom that key stands for */
    struct shim_keys keys;
    struct svc *svc;
    struct shim_mesh mesh;
    bool draining;
    struct shim_server *server;
    /* counters */
    uint64_t sent[SHIM_RESPONSE + 1]; /* to the router, by enum shim_kind */
    uint64_t requests, answers_2xx, answers_4xx, answers_5xx, streams, slow, disconnects, connections, in_flight;
};

/* ---- http.c ----------------------------------------------------------------------------------------------------- */

/* One HTTP request, from its headers until its answer has left or its connection is gone. */
struct shim_http {
    struct shim *shim;
    struct MHD_Connection *connection;
    struct shim_socket *socket;
    const char *route; /* for the log; static, never what the client sent */
    dbe_err (*handler)(struct shim_http *http);
    const char *model_id; /* GET /v1/models/{id}: into `body` */
    struct base_buf body;
    size_t dropped_bytes; /* body beyond the limit */
    bool refused;         /* an answer was decided by the headers alone */
    struct shim_problem problem;
    bool suspended, gone, streaming;
    struct MHD_Response *answer; /* to be queued when the connection runs again */
    unsigned status;
    struct base_watch *watch; /* sees the client leave while we wait for the mesh */
    uint64_t begin_ns;
    bool counted; /* in in_flight */
    bool slow;    /* counted in `slow` */
    /* chat.c */
    struct shim_chat chat;
    struct shim_stream stream;
    struct shim_style style;
    bool wants_stream, base64;
};

dbe_err shim_http_start(struct shim *shim, struct dbe_diag *diag) DBE_MUST_CHECK;
void shim_http_quiesce(struct shim *shim); /* take no new connections */
void shim_http_stop(struct shim *shim);    /* idempotent */
void shim_http_tick(struct shim *shim);    /* once a second: requests that take too long to arrive */

/* Decide the answer: JSON in `body` (its error becomes a 500), a problem, or a response made elsewhere (NULL: 500). */
void shim_http_answer(struct shim_http *http, unsigned status, const char *content_type, struct base_buf *body);
void shim_http_refuse(struct shim_http *http, const struct shim_problem *p);
void shim_http_respond(struct shim_http *http, unsigned status, const char *content_type,
                       struct MHD_Response *response);
const char *shim_http_header(struct shim_http *http, const char *name); /* of the request; NULL: absent */
/* The answer comes later: park the connection and watch for the client's leaving. */
void shim_http_wait(struct shim_http *http);
void shim_http_moved(struct shim_http *http); /* its client took something, or waits from now on */
void shim_http_continue(struct shim_http *http);
void shim_http_slow(struct shim_http *http); /* its answer is ended since the client takes too little of it: count it */

/* ---- shim.c ----------------------------------------------------------------------------------------------------- */

extern const struct svc_device openai_shim_device;

/* ---- chat.c ----------------------------------------------------------------------------------------------------- */

dbe_err shim_chat_handle(struct shim_http *http);       /* POST /v1/chat/completions */
dbe_err shim_completion_handle(struct shim_http *http); /* POST /v1/completions */
dbe_err shim_embedding_handle(struct shim_http *http);  /* POST /v1/embeddings */
dbe_err shim_response_handle(struct shim_http *http);   /* POST /v1/responses */
void shim_chat_gone(struct shim_http *http);            /* the client left, or the request is over */

#endif
