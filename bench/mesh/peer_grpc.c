/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_grpc.c - gRPC (its C core) over a Unix socket with mutual TLS: one bidirectional stream, and a unary call for
 * each message. Certificate and key are those that the TLS peer left in the folder.
 */
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "peer.h"

enum { PEM_MAX = 16384, OPS_MAX = 6, WAITING_MAX = PEER_WINDOW_MAX };

/* A completion's tag: what goes on when it is there. */
struct step {
    void (*fn)(struct step *step, bool ok);
    void *ctx;
};

static grpc_completion_queue *cq;
static char cert[PEM_MAX], key[PEM_MAX];

static void read_pem(const char *dir, const char *name, char *ret)
{
    char path[PEER_PATH_MAX + 20];

    PEER_MUST(snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path);
    FILE *f = fopen(path, "r");
    PEER_MUST(f != NULL);
    ret[fread(ret, 1, PEM_MAX - 1, f)] = '\0';
    (void)fclose(f);
}

static void begin(const char *dir)
{
    read_pem(dir, "cert.pem", cert);
    read_pem(dir, "key.pem", key);
    grpc_init();
    cq = grpc_completion_queue_create_for_next(NULL);
}

static void address_of(const char *dir, const char *name, char *ret, size_t cap)
{
    PEER_MUST(snprintf(ret, cap, "unix:%s/%s.sock", dir, name) < (int)cap);
}

static void turn(void)
{
    grpc_event ev = grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    struct step *step = ev.tag;

    PEER_MUST(ev.type == GRPC_OP_COMPLETE);
    step->fn(step, ev.success != 0);
}

static void batch(grpc_call *call, const grpc_op *ops, size_t count, struct step *step)
{
    PEER_MUST(grpc_call_start_batch(call, ops, count, step, NULL) == GRPC_CALL_OK);
}

/* ---- server ---------------------------------------------------------------------------------------------------- */

struct served {
    struct step accepted, opened, received, sent, ended;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_byte_buffer *msg;
    int cancelled;
    bool stream;
};

static grpc_server *server;
static bool server_streams;

static void receive(struct served *s)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &s->msg};

    batch(s->call, &op, 1, &s->received);
}

static void served_free(struct served *s)
{
    grpc_call_details_destroy(&s->details);
    grpc_metadata_array_destroy(&s->metadata);
    grpc_call_unref(s->call);
    base_free(s);
}

static void on_ended(struct step *step, bool ok)
{
    (void)ok;
    served_free(step->ctx);
}

static void on_sent(struct step *step, bool ok)
{
    struct served *s = step->ctx;

    PEER_MUST(ok);
    receive(s);
}

static void answer_unary(struct served *s)
{
    grpc_op ops[OPS_MAX] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = s->msg},
        {.op = GRPC_OP_SEND_STATUS_FROM_SERVER, .data.send_status_from_server.status = GRPC_STATUS_OK},
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER, .data.recv_close_on_server.cancelled = &s->cancelled},
    };

    batch(s->call, ops, 4, &s->ended);
    grpc_byte_buffer_destroy(s->msg);
}

static void on_received(struct step *step, bool ok)
{
    struct served *s = step->ctx;

    if (!ok || s->msg == NULL) /* the client is gone, and the measurement over */
        exit(0);
    if (!s->stream) {
        answer_unary(s);
        return;
    }
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = s->msg};
    batch(s->call, &op, 1, &s->sent);
    grpc_byte_buffer_destroy(s->msg);
}

static void on_opened(struct step *step, bool ok)
{
    PEER_MUST(ok);
    receive(step->ctx);
}

static void accept_next(void);

static void on_accepted(struct step *step, bool ok)
{
    struct served *s = step->ctx;

    PEER_MUST(ok);
    accept_next();
    if (!s->stream) {
        receive(s);
        return;
    }
    grpc_op op = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    batch(s->call, &op, 1, &s->opened);
}

static void accept_next(void)
{
    struct served *s = base_alloc(1, sizeof *s);

    PEER_MUST(s != NULL);
    s->accepted = (struct step){on_accepted, s};
    s->opened = (struct step){on_opened, s};
    s->received = (struct step){on_received, s};
    s->sent = (struct step){on_sent, s};
    s->ended = (struct step){on_ended, s};
    s->stream = server_streams;
    grpc_call_details_init(&s->details);
    grpc_metadata_array_init(&s->metadata);
    PEER_MUST(grpc_server_request_call(server, &s->call, &s->details, &s->metadata, cq, cq, &s->accepted) ==
              GRPC_CALL_OK);
}

static void serve(const char *dir, const char *name, bool stream)
{
    char address[PEER_PATH_MAX + 20];

    begin(dir);
    server_streams = stream;
    grpc_ssl_pem_key_cert_pair pair = {.private_key = key, .cert_chain = cert};
    grpc_server_credentials *creds = grpc_ssl_server_credentials_create_ex(
        cert, &pair, 1, GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, NULL);
    server = grpc_server_create(NULL, NULL);
    grpc_server_register_completion_queue(server, cq, NULL);
    address_of(dir, name, address, sizeof address);
    PEER_MUST(grpc_server_add_http2_port(server, address, creds) != 0);
    grpc_server_start(server);
    for (size_t i = 0; i < (stream ? 1 : WAITING_MAX); i++)
        accept_next();
    peer_ready();
    for (;;)
        turn();
}

static void serve_stream(const char *dir)
{
    serve(dir, "grpcs", true);
}

static void serve_unary(const char *dir)
{
    serve(dir, "grpcu", false);
}

/* ---- client ---------------------------------------------------------------------------------------------------- */

static grpc_channel *channel;
static grpc_call *stream_call;
static grpc_byte_buffer *got_msg;
static bool sending;
static size_t sent, got, wanted, window, message_bytes;
static uint8_t payload[PEER_BYTES_MAX];

static void connect_to(const char *dir, const char *name)
{
    char address[PEER_PATH_MAX + 20];
    grpc_arg arg = {.type = GRPC_ARG_STRING, .key = (char *)GRPC_SSL_TARGET_NAME_OVERRIDE_ARG,
                    .value.string = (char *)"bench"};
    grpc_channel_args args = {1, &arg};

    begin(dir);
    grpc_ssl_pem_key_cert_pair pair = {.private_key = key, .cert_chain = cert};
    grpc_channel_credentials *creds = grpc_ssl_credentials_create(cert, &pair, NULL, NULL);
    address_of(dir, name, address, sizeof address);
    channel = grpc_channel_create(address, creds, &args);
    PEER_MUST(channel != NULL);
}

static grpc_call *new_call(const char *method)
{
    grpc_call *call =
        grpc_channel_create_call(channel, NULL, GRPC_PROPAGATE_DEFAULTS, cq, grpc_slice_from_static_string(method),
                                 NULL, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);

    PEER_MUST(call != NULL);
    return call;
}

static grpc_byte_buffer *message(void)
{
    grpc_slice slice = grpc_slice_from_static_buffer(payload, message_bytes);
    grpc_byte_buffer *ret = grpc_raw_byte_buffer_create(&slice, 1);

    grpc_slice_unref(slice);
    return ret;
}

static void on_stream_sent(struct step *step, bool ok);
static void on_stream_got(struct step *step, bool ok);
static struct step stream_sent = {on_stream_sent, NULL}, stream_got = {on_stream_got, NULL};

/* One message of a stream may be on its way into the library at a time. */
static void send_on_stream(void)
{
    if (sending || sent >= wanted || sent - got >= window)
        return;
    grpc_byte_buffer *msg = message();
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = msg};
    sending = true;
    sent++;
    batch(stream_call, &op, 1, &stream_sent);
    grpc_byte_buffer_destroy(msg);
}

static void on_stream_sent(struct step *step, bool ok)
{
    (void)step;
    PEER_MUST(ok);
    sending = false;
    send_on_stream();
}

static void stream_receive(void)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &got_msg};

    batch(stream_call, &op, 1, &stream_got);
}

static void on_stream_got(struct step *step, bool ok)
{
    (void)step;
    PEER_MUST(ok && got_msg != NULL && grpc_byte_buffer_length(got_msg) == message_bytes);
    grpc_byte_buffer_destroy(got_msg);
    got++;
    stream_receive();
    send_on_stream();
}

static void on_stream_open(struct step *step, bool ok)
{
    PEER_MUST(ok);
    *(bool *)step->ctx = true;
}

static void open_stream(const char *dir)
{
    static grpc_metadata_array first;
    bool is_open = false;
    struct step opened = {on_stream_open, &is_open};

    connect_to(dir, "grpcs");
    stream_call = new_call("/bench/stream");
    grpc_metadata_array_init(&first);
    grpc_op ops[2] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_RECV_INITIAL_METADATA, .data.recv_initial_metadata.recv_initial_metadata = &first},
    };
    batch(stream_call, ops, 2, &opened);
    while (!is_open)
        turn();
    stream_receive();
}

static void flood_stream(size_t bytes, size_t count, size_t in_flight)
{
    message_bytes = bytes;
    sent = got = 0;
    wanted = count;
    window = in_flight;
    send_on_stream();
    while (got < count || sending)
        turn();
}

struct unary {
    struct step done;
    grpc_call *call;
    grpc_metadata_array first, last;
    grpc_byte_buffer *msg;
    grpc_status_code status;
    grpc_slice details;
};

static void start_unary(struct unary *u)
{
    grpc_byte_buffer *msg = message();
    grpc_op ops[OPS_MAX] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = msg},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA, .data.recv_initial_metadata.recv_initial_metadata = &u->first},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &u->msg},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
         .data.recv_status_on_client = {.trailing_metadata = &u->last, .status = &u->status,
                                        .status_details = &u->details}},
    };

    grpc_metadata_array_init(&u->first);
    grpc_metadata_array_init(&u->last);
    u->call = new_call("/bench/unary");
    batch(u->call, ops, OPS_MAX, &u->done);
    grpc_byte_buffer_destroy(msg);
    sent++;
}

static void on_unary_done(struct step *step, bool ok)
{
    struct unary *u = step->ctx;

    PEER_MUST(ok && u->status == GRPC_STATUS_OK && u->msg != NULL);
    grpc_byte_buffer_destroy(u->msg);
    grpc_metadata_array_destroy(&u->first);
    grpc_metadata_array_destroy(&u->last);
    grpc_slice_unref(u->details);
    grpc_call_unref(u->call);
    got++;
    if (sent < wanted)
        start_unary(u);
}

static void open_unary(const char *dir)
{
    connect_to(dir, "grpcu");
}

static void flood_unary(size_t bytes, size_t count, size_t in_flight)
{
    static struct unary calls[PEER_WINDOW_MAX];

    message_bytes = bytes;
    sent = got = 0;
    wanted = count;
    for (size_t i = 0; i < in_flight && sent < wanted; i++) {
        calls[i].done = (struct step){on_unary_done, &calls[i]};
        start_unary(&calls[i]);
    }
    while (got < wanted)
        turn();
}

static void ping_with(void (*flood)(size_t, size_t, size_t), size_t bytes, size_t count, uint64_t *ret_ns)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t start = base_mono_ns();
        flood(bytes, 1, 1);
        ret_ns[i] = base_mono_ns() - start;
    }
}

static void ping_stream(size_t bytes, size_t count, uint64_t *ret_ns)
{
    ping_with(flood_stream, bytes, count, ret_ns);
}

static void ping_unary(size_t bytes, size_t count, uint64_t *ret_ns)
{
    ping_with(flood_unary, bytes, count, ret_ns);
}

const struct peer peers[] = {
    {"grpc-stream", serve_stream, open_stream, ping_stream, flood_stream},
    {"grpc-unary", serve_unary, open_unary, ping_unary, flood_unary},
    {0},
};
