/* SPDX-License-Identifier: Apache-2.0
 *
 * http_test.c - the loopback HTTP client against answers whole, in single bytes, cut short and wrong.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/cli.h"

struct server {
    int fd;
    const char *answer;
    size_t len, piece;
};

/* Read the request's head, write the answer in pieces, close. */
static void *serve(void *arg)
{
    struct server *s = arg;
    char head[4096] = "";
    size_t have = 0;

    while (strstr(head, "\r\n\r\n") == NULL && have < sizeof head - 1) {
        ssize_t n = read(s->fd, head + have, sizeof head - 1 - have);
        if (n <= 0)
            break;
        have += (size_t)n;
        head[have] = '\0';
    }
    for (size_t at = 0; at < s->len; at += s->piece)
        if (send(s->fd, s->answer + at, BASE_MIN(s->piece, s->len - at), MSG_NOSIGNAL) < 0)
            break;
    close(s->fd);
    return NULL;
}

static dbe_err exchange(const char *answer, size_t len, size_t piece, struct cli_http_result *ret,
                        void (*on_data)(void *, const char *, size_t), void *ctx)
{
    struct cli_http req = {.path = "/x", .timeout_ms = 10000, .on_data = on_data, .ctx = ctx};
    struct server server = {.answer = answer, .len = len, .piece = piece};
    int pair[2];
    pthread_t thread;
    dbe_err err;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    server.fd = pair[1];
    assert_int_equal(pthread_create(&thread, NULL, serve, &server), 0);
    err = cli_http_fd(&req, pair[0], ret, NULL);
    close(pair[0]);
    pthread_join(thread, NULL);
    return err;
}

static const char whole[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
static const char chunked[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
static const char until_close[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello";

static void every_framing_gives_the_same_body(void **state)
{
    static const struct {
        const char *text;
        size_t len;
    } answers[] = {
        {whole, sizeof whole - 1},
        {chunked, sizeof chunked - 1},
        {until_close, sizeof until_close - 1},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(answers); i++)
        for (size_t piece = 1; piece < 80; piece += 13) {
            struct cli_http_result res;
            assert_int_equal(exchange(answers[i].text, answers[i].len, piece, &res, NULL, NULL), DBE_OK);
            assert_int_equal(res.status, 200);
            assert_string_equal(base_buf_cstr(&res.body), "hello");
            base_buf_free(&res.body);
        }
}

static void a_cut_answer_is_an_error(void **state)
{
    struct cli_http_result res;

    (void)state;
    for (size_t len = 0; len < sizeof whole - 1; len++)
        assert_int_equal(exchange(whole, len, 7, &res, NULL, NULL), DBE_E_CLOSED);
    /* chunked: the last chunk says that it is whole; what follows it may be missing */
    for (size_t len = 0; len < sizeof chunked - 1 - 2; len++)
        assert_int_equal(exchange(chunked, len, 7, &res, NULL, NULL), DBE_E_CLOSED);
}

static void what_is_no_http_is_refused(void **state)
{
    static const char junk[] = "SSH-2.0-OpenSSH\r\n\r\n",
                      bad_chunk[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                    "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";
    struct cli_http_result res;

    (void)state;
    assert_int_equal(exchange(junk, sizeof junk - 1, 5, &res, NULL, NULL), DBE_E_MALFORMED);
    assert_int_equal(exchange(bad_chunk, sizeof bad_chunk - 1, 80, &res, NULL, NULL), DBE_E_MALFORMED);
}

static void collect(void *ctx, const char *json, size_t len)
{
    base_buf_bytes(ctx, json, len);
    base_buf_str(ctx, "|");
}

static void events_survive_any_cut(void **state)
{
    static const char text[] = "data: {\"a\":1}\n\n: comment\ndata: {\"b\":2}\r\n\r\ndata: [DONE]\n\n";

    (void)state;
    for (size_t piece = 1; piece < sizeof text; piece++) {
        struct base_buf seen;
        struct cli_sse sse;
        base_buf_init(&seen, 1024);
        cli_sse_init(&sse, collect, &seen);
        for (size_t at = 0; at < sizeof text - 1; at += piece)
            cli_sse_feed(&sse, text + at, BASE_MIN(piece, sizeof text - 1 - at));
        assert_string_equal(base_buf_cstr(&seen), "{\"a\":1}|{\"b\":2}|");
        cli_sse_free(&sse);
        base_buf_free(&seen);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_framing_gives_the_same_body),
        cmocka_unit_test(a_cut_answer_is_an_error),
        cmocka_unit_test(what_is_no_http_is_refused),
        cmocka_unit_test(events_survive_any_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
