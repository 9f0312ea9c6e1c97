/* SPDX-License-Identifier: Apache-2.0
 *
 * http_fixture.h - for tests: the gateway over real HTTP on loopback, with the test as its client and its router. One
 * thread, one loop, no sleeping.
 */
#ifndef SHIM_HTTP_FIXTURE_H
#define SHIM_HTTP_FIXTURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "crypto/crypto.h"
#include "dsmil.pb-c.h"
#include "shim/shim.h"
#include "shim/svc_fake.h"

#define KEY "test-key-0123456789"
#define AUTH "Host: 127.0.0.1\r\nAuthorization: Bearer " KEY "\r\n"
#define ASK "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"What is it?\"}]}"
#define ASK_STREAM "{\"model\":\"tiny\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"What is it?\"}]}"

enum { TURNS_MAX = 5000 };

struct fixture {
    struct fake_svc fake;
    struct shim shim;
};

/* ---- set-up ----------------------------------------------------------------------------------------------------- */

static inline void tell_models(struct fixture *f, bool none)
{
    Dsmil__L7ModelStatus status = DSMIL__L7_MODEL_STATUS__INIT;
    Dsmil__ModelInfo info = DSMIL__MODEL_INFO__INIT, *list[] = {&info};
    char id[] = "tiny", profile[] = "llm-7b-amx";
    uint8_t packed[256];
    struct fake_call *call;

    info.id = id;
    info.profile = profile;
    info.device_id = 47;
    status.models = list;
    status.n_models = none ? 0 : 1;
    status.ready = !none;
    size_t len = dsmil__l7_model_status__pack(&status, packed);
    openai_shim_device.tick(f->shim.svc, &f->shim);
    call = fake_call_of(&f->fake, DBE_MSG_L7_MODEL_STATUS);
    assert_non_null(call);
    fake_answer(&f->fake, call, DBE_MSG_L7_MODEL_STATUS, packed, len, true);
}

static inline int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct dbe_diag diag = {0};

    if (f == NULL || base_loop_new(&f->fake.loop) != DBE_OK)
        return -1;
    f->fake.link_up = true;
    (void)setenv("DSMIL_OPENAI_API_KEY", KEY, 1);
    (void)snprintf(f->shim.tenant, sizeof f->shim.tenant, "LOCAL_TOOL_USER");
    f->shim.max_connections = 8;
    f->shim.timeout_ms = 60000;
    if (openai_shim_device.init(fake_svc_of(&f->fake), &f->shim, &diag) != DBE_OK) {
        print_error("%s\n", diag.text);
        return -1;
    }
    openai_shim_device.link_up(f->shim.svc, &f->shim, NULL);
    tell_models(f, false);
    *state = f;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;

    openai_shim_device.fini(f->shim.svc, &f->shim);
    fake_svc_clear(&f->fake);
    base_loop_free(f->fake.loop);
    int holds = f->fake.holds;
    free(f);
    return holds; /* every hold was released */
}

/* ---- a client --------------------------------------------------------------------------------------------------- */

struct client {
    int fd;
    struct base_buf in;
    bool eof;
};

static inline void client_open(struct fixture *f, struct client *c)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)f->shim.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    memset(c, 0, sizeof *c);
    base_buf_init(&c->in, 64 << 20);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(c->fd >= 0);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(fcntl(c->fd, F_SETFL, O_NONBLOCK), 0);
}

static inline void client_close(struct client *c)
{
    (void)close(c->fd);
    base_buf_free(&c->in);
}

static inline void turn(struct fixture *f)
{
    assert_int_equal(base_loop_turn(f->fake.loop, 1), DBE_OK);
}

static inline void client_send(struct fixture *f, struct client *c, const char *data, size_t len)
{
    for (size_t sent = 0; sent < len;) {
        ssize_t n = send(c->fd, data + sent, len - sent, MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        else if (errno != EAGAIN)
            return; /* refused early: the answer says why */
        turn(f);
    }
}

static inline void client_ask(struct fixture *f, struct client *c, const char *method, const char *path,
                              const char *headers, const char *body)
{
    static char head[32768];
    int n = body == NULL ? snprintf(head, sizeof head, "%s %s HTTP/1.1\r\n%s\r\n", method, path, headers)
                         : snprintf(head, sizeof head, "%s %s HTTP/1.1\r\n%sContent-Length: %zu\r\n\r\n", method, path,
                                    headers, strlen(body));

    assert_true(n > 0 && (size_t)n < sizeof head);
    client_send(f, c, head, (size_t)n);
    if (body != NULL)
        client_send(f, c, body, strlen(body));
}

static inline void client_read(struct client *c)
{
    char piece[16384];
    ssize_t n;

    while ((n = recv(c->fd, piece, sizeof piece, 0)) > 0)
        base_buf_bytes(&c->in, piece, (size_t)n);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        c->eof = true;
}

/* Turn the loop until the client's input holds `text`. */
static inline void wait_text(struct fixture *f, struct client *c, const char *text)
{
    for (int i = 0; i < TURNS_MAX; i++) {
        client_read(c);
        if (strstr(base_buf_cstr(&c->in), text) != NULL)
            return;
        if (c->eof)
            break;
        turn(f);
    }
    fail_msg("never came: %s; got: %s", text, base_buf_cstr(&c->in));
}

static inline void wait_eof(struct fixture *f, struct client *c)
{
    for (int i = 0; i < TURNS_MAX && !c->eof; i++) {
        client_read(c);
        turn(f);
    }
    assert_true(c->eof);
}

/* Whole answer with its Content-Length. */
static inline void wait_answer(struct fixture *f, struct client *c)
{
    wait_text(f, c, "\r\n\r\n");
    const char *length = strstr(base_buf_cstr(&c->in), "Content-Length: ");
    assert_non_null(length);
    size_t need = (size_t)strtoull(length + 16, NULL, 10) +
                  (size_t)(strstr(base_buf_cstr(&c->in), "\r\n\r\n") + 4 - base_buf_cstr(&c->in));
    for (int i = 0; i < TURNS_MAX && c->in.len < need; i++) {
        turn(f);
        client_read(c);
    }
    assert_true(c->in.len >= need);
}

static inline struct fake_call *wait_call(struct fixture *f)
{
    for (int i = 0; i < TURNS_MAX; i++) {
        struct fake_call *call = fake_call_of(&f->fake, DBE_MSG_L7_CHAT_REQ);
        if (call != NULL)
            return call;
        turn(f);
    }
    fail_msg("no chat request reached the router");
    return NULL;
}

static inline int status_of(struct client *c)
{
    const char *text = base_buf_cstr(&c->in);

    assert_memory_equal(text, "HTTP/1.1 ", 9);
    return (int)strtol(text + 9, NULL, 10);
}

static inline json_t *body_of(struct client *c)
{
    const char *body = strstr(base_buf_cstr(&c->in), "\r\n\r\n");
    json_error_t e;

    assert_non_null(body);
    json_t *root = json_loads(body + 4, 0, &e);
    if (root == NULL)
        fail_msg("%s: %s", e.text, body);
    return root;
}

static inline void expect_error(struct client *c, int status, const char *code)
{
    json_t *root = body_of(c), *error = json_object_get(root, "error");

    if (status_of(c) != status || strcmp(json_string_value(json_object_get(error, "code")), code) != 0)
        fail_msg("wanted %d %s: %s", status, code, base_buf_cstr(&c->in));
    assert_non_null(json_string_value(json_object_get(error, "message")));
    assert_non_null(json_string_value(json_object_get(error, "type")));
    assert_non_null(json_object_get(error, "param"));
    json_decref(root);
}

/* ---- the router's answers --------------------------------------------------------------------------------------- */

static inline void answer_chat(struct fixture *f, struct fake_call *call, const char *text, bool last)
{
    Dsmil__L7ChatResponse r = DSMIL__L7_CHAT_RESPONSE__INIT;
    Dsmil__Choice choice = DSMIL__CHOICE__INIT, *choices[] = {&choice};
    Dsmil__ChatMessage message = DSMIL__CHAT_MESSAGE__INIT;
    Dsmil__Usage usage = DSMIL__USAGE__INIT;
    char model[] = "tiny", role[] = "assistant", stop[] = "stop";

    message.role = role;
    message.content = (char *)(uintptr_t)text;
    choice.message = &message;
    r.choices = choices;
    r.n_choices = 1;
    r.model = model;
    if (last) {
        choice.finish_reason = stop;
        usage.prompt_tokens = 5;
        usage.completion_tokens = 2;
        r.usage = &usage;
    }
    size_t len = dsmil__l7_chat_response__get_packed_size(&r);
    uint8_t *packed = test_malloc(len);
    (void)dsmil__l7_chat_response__pack(&r, packed);
    fake_answer(&f->fake, call, DBE_MSG_L7_CHAT_RESP, packed, len, last);
    test_free(packed);
}

static inline void answer_error(struct fixture *f, struct fake_call *call, dbe_err code, const char *rule)
{
    Dsmil__ErrorReply e = DSMIL__ERROR_REPLY__INIT;
    char reason[] = "because";
    uint8_t packed[256];

    e.code = (uint32_t)code;
    e.reason = reason;
    e.rule = (char *)(uintptr_t)rule;
    size_t len = dsmil__error_reply__pack(&e, packed);
    fake_answer(&f->fake, call, DBE_MSG_ERROR, packed, len, true);
}

#endif
