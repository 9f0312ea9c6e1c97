/* SPDX-License-Identifier: Apache-2.0
 *
 * chat.c - one chat completion over HTTP: body to mesh, mesh to body or to an event stream.
 *
 * In:   a complete request body; what map_dbe.c tells
 * Out:  an answer, or a stream that ends with [DONE] or with an error event
 * Does: sends the status only when the first answer is there, so that a refusal has its own status and not 200
 * Not:  no JSON rules (openai.c), no sockets (http.c)
 */
#include "shim/shim.h"

#include <stdio.h>
#include <string.h>

enum { STREAM_BLOCK_BYTES = 16 * 1024 };

static struct shim_http *http_of(struct shim_chat *chat)
{
    return (struct shim_http *)(void *)((char *)chat - offsetof(struct shim_http, chat));
}

/* ---- the stream's way to the client ----------------------------------------------------------------------------- */

/* libmicrohttpd asks for bytes. With none to give, the connection is parked until there are. */
static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t max)
{
    struct shim_http *http = cls;

    (void)pos;
    if (http->gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t n = shim_stream_read(&http->stream, buf, max);
    if (n > 0)
        return (ssize_t)n;
    if (shim_stream_at_end(&http->stream))
        return MHD_CONTENT_READER_END_OF_STREAM;
    shim_http_wait(http);
    return 0;
}

static void begin_stream(struct shim_http *http)
{
    if (http->streaming)
        return;
    http->streaming = true;
    shim_stream_init(&http->stream, http->chat.id_text, http->chat.created_unix, http->include_usage);
    shim_http_respond(http, 200, "text/event-stream; charset=utf-8",
                      MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, read_stream, http, NULL));
}

/* ---- what the mesh tells ---------------------------------------------------------------------------------------- */

static void on_failed(struct shim_chat *chat, const struct shim_problem *p)
{
    struct shim_http *http = http_of(chat);

    if (http->streaming)
        shim_stream_fail(&http->stream, p);
    else
        shim_http_refuse(http, p);
    shim_http_continue(http);
}

/* More waits for the client than we keep: the answer ends here, for this client alone. */
static void give_up(struct shim_http *http, dbe_err err)
{
    struct shim_problem p;

    shim_chat_cancel(&http->chat);
    shim_problem_of_mesh(&p, err, err == DBE_E_LIMIT ? "the client reads too slowly" : NULL, NULL, 0);
    shim_stream_fail(&http->stream, &p);
}

static void on_delta(struct shim_chat *chat, const char *model, const char *text, size_t len)
{
    struct shim_http *http = http_of(chat);

    if (!http->wants_stream) { /* nobody asked for chunks */
        struct shim_problem p;
        shim_chat_cancel(chat);
        shim_problem_of_mesh(&p, DBE_E_PROTOCOL, "chunks came where a whole answer was asked for", NULL, 0);
        on_failed(chat, &p);
        return;
    }
    begin_stream(http);
    dbe_err err = shim_stream_delta(&http->stream, model, text, len);
    if (err != DBE_OK)
        give_up(http, err);
    shim_http_continue(http);
}

static void on_done(struct shim_chat *chat, const struct shim_answer *answer, const struct shim_trace *trace)
{
    struct shim_http *http = http_of(chat);
    struct base_buf out;

    if (http->wants_stream) {
        begin_stream(http);
        dbe_err err = shim_stream_delta(&http->stream, answer->model, answer->content, answer->content_len);
        if (err != DBE_OK)
            give_up(http, err);
        shim_stream_finish(&http->stream, answer->finish_reason, answer->prompt_tokens, answer->completion_tokens,
                           trace);
    } else {
        base_buf_init(&out, SHIM_ANSWER_MAX_BYTES);
        shim_answer_json(&out, answer, trace);
        shim_http_answer(http, 200, "application/json", &out);
        base_buf_free(&out);
    }
    shim_http_continue(http);
}

static const struct shim_chat_ops ops = {.delta = on_delta, .done = on_done, .failed = on_failed};

/* ---- request ---------------------------------------------------------------------------------------------------- */

dbe_err shim_chat_handle(struct shim_http *http)
{
    struct shim *shim = http->shim;
    struct shim_chat_req req;
    struct shim_problem p = {0};

    dbe_err err = shim_chat_req_parse((const char *)http->body.data, http->body.len, &req, &p);
    if (err == DBE_OK) {
        http->wants_stream = req.stream;
        http->include_usage = req.include_usage;
        err = shim_chat_start(&shim->mesh, &http->chat, &ops, &req, &p);
        shim_chat_req_free(&req);
    }
    base_buf_free(&http->body); /* the prompt is not kept while the answer is made */
    if (err != DBE_OK) {
        shim_http_refuse(http, &p);
        return DBE_OK;
    }
    shim->chats++;
    shim->streams += http->wants_stream;
    shim->in_flight++;
    http->counted = true;
    shim_http_wait(http);
    return DBE_OK;
}

void shim_chat_gone(struct shim_http *http)
{
    shim_chat_cancel(&http->chat);
}
