/* SPDX-License-Identifier: Apache-2.0
 *
 * chat.c - one chat, completion, response or embedding over HTTP: body to mesh, mesh to body or to an event stream.
 *
 * In:   a complete request body; what map_dbe.c tells
 * Out:  an answer, or a stream that ends with [DONE] or with an error event
 * Does: sends the status only when the first answer is there, so that a refusal has its own status and not 200
 * Not:  no JSON rules (params.c, answers.c, sse.c), no sockets (http.c)
 */
#include "shim/shim.h"

#include <stdio.h>
#include <string.h>

#include "crypto/crypto.h"

enum { STREAM_BLOCK_BYTES = 16 * 1024, END_USER_BYTES = 8 };

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
    shim_http_moved(http);
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
    shim_stream_init(&http->stream, http->chat.id_text, http->chat.created_unix, &http->style);
    shim_http_respond(http, 200, "text/event-stream; charset=utf-8",
                      MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, read_stream, http, NULL));
}

/* ---- what the mesh tells ---------------------------------------------------------------------------------------- */

static void on_failed(struct shim_chat *chat, const struct shim_problem *p)
{
    struct shim_http *http = http_of(chat);
    struct shim_problem told = *p;

    if (http->style.kind == SHIM_RESPONSE && strcmp(told.param, "response_format") == 0)
        (void)snprintf(told.param, sizeof told.param, "text.format"); /* as this client spelled it */
    if (http->streaming)
        shim_stream_fail(&http->stream, &told);
    else
        shim_http_refuse(http, &told);
    shim_http_continue(http);
}

/* More waits for the client than we keep: the answer ends here, for this client alone. */
static void give_up(struct shim_http *http, dbe_err err)
{
    struct shim_problem p;

    shim_chat_cancel(&http->chat);
    shim_problem_of_mesh(&p, err, err == DBE_E_LIMIT ? "the client reads too slowly" : NULL, NULL, 0);
    if (err == DBE_E_LIMIT)
        shim_http_slow(http);
    shim_stream_fail(&http->stream, &p);
}

static void take_part(struct shim_http *http, const struct shim_answer *part)
{
    dbe_err err = DBE_OK;

    begin_stream(http);
    if (!shim_stream_waits(&http->stream))
        shim_http_moved(http);
    for (size_t i = 0; i < part->choice_count && err == DBE_OK; i++)
        err = shim_stream_choice(&http->stream, part->model, part->fingerprint, &part->choices[i]);
    if (err != DBE_OK)
        give_up(http, err);
}

static void on_delta(struct shim_chat *chat, const struct shim_answer *part)
{
    struct shim_http *http = http_of(chat);

    if (!http->wants_stream) { /* nobody asked for chunks */
        struct shim_problem p;
        shim_chat_cancel(chat);
        shim_problem_of_mesh(&p, DBE_E_PROTOCOL, "chunks came where a whole answer was asked for", NULL, 0);
        on_failed(chat, &p);
        return;
    }
    take_part(http, part);
    shim_http_continue(http);
}

/* Probabilities of long prompts, many at once. */
static void refuse_large(struct shim_http *http)
{
    char reason[96];
    struct shim_problem p;

    (void)snprintf(reason, sizeof reason, "the answer is larger than %d MiB; ask about fewer prompts at once",
                   2 * SHIM_ANSWER_MAX_BYTES >> 20);
    shim_problem_of_mesh(&p, DBE_E_TOO_LARGE, reason, NULL, 0);
    shim_http_refuse(http, &p);
}

static void on_done(struct shim_chat *chat, const struct shim_answer *answer, const struct shim_trace *trace)
{
    struct shim_http *http = http_of(chat);
    struct base_buf out;

    if (http->wants_stream) {
        take_part(http, answer);
        shim_stream_finish(&http->stream, answer, trace);
    } else {
        base_buf_init(&out, 2 * SHIM_ANSWER_MAX_BYTES);
        shim_answer_json(&out, &http->style, answer, trace);
        if (out.err == DBE_E_TOO_LARGE)
            refuse_large(http);
        else
            shim_http_answer(http, 200, "application/json", &out);
        base_buf_free(&out);
    }
    shim_http_continue(http);
}

static void on_vectors(struct shim_chat *chat, const struct shim_vectors *vectors, const struct shim_trace *trace)
{
    struct shim_http *http = http_of(chat);
    struct base_buf out;

    base_buf_init(&out, SHIM_VECTORS_ANSWER_MAX_BYTES);
    shim_vectors_json(&out, vectors, http->base64, trace);
    shim_http_answer(http, 200, "application/json", &out);
    base_buf_free(&out);
    shim_http_continue(http);
}

static const struct shim_chat_ops ops = {
    .delta = on_delta, .done = on_done, .vectors = on_vectors, .failed = on_failed};

/* ---- request ---------------------------------------------------------------------------------------------------- */

/* Who of the client's users asks, as a digest: an operator who is told of abuse can find it, and nobody can read it. */
static void log_end_user(struct shim_http *http, const struct shim_req *req)
{
    const char *user = req->user != NULL ? req->user : "",
               *safety = req->safety_identifier != NULL ? req->safety_identifier : "";
    uint8_t digest[CRYPTO_HASH_BYTES];
    char hex[2 * END_USER_BYTES + 1];
    struct base_buf both;

    if (user[0] == '\0' && safety[0] == '\0')
        return;
    base_buf_init(&both, SHIM_BODY_MAX_BYTES);
    base_buf_str(&both, http->chat.tenant.name);
    base_buf_u8(&both, 0);
    base_buf_str(&both, user);
    base_buf_u8(&both, 0);
    base_buf_str(&both, safety);
    if (both.err == DBE_OK && crypto_sha3_512(both.data, both.len, digest) == DBE_OK) {
        base_hex(digest, END_USER_BYTES, hex);
        svc_log(http->shim->svc, SVC_INFO, NULL, "asked http_request=%s tenant=%s end_user=%s", http->chat.id_text,
                http->chat.tenant.name, hex);
    }
    base_buf_free(&both);
}

/* By header, or by the body where a client cannot say one. */
static dbe_err take_roe(struct shim_http *http, const struct shim_req *req, struct shim_roe **ret,
                        struct shim_problem *p)
{
    const char *by_header = shim_http_header(http, SHIM_ROE_HEADER);

    if (by_header != NULL && req->roe_token != NULL)
        return shim_problem_set(p, 400, "invalid_parameter_combination", "dsmil.roe_token",
                                "The ROE token stands in the header " SHIM_ROE_HEADER " or in 'dsmil', not in both.");
    if (by_header != NULL)
        return shim_roe_read(by_header, SHIM_ROE_HEADER, ret, p);
    return req->roe_token != NULL ? shim_roe_read(req->roe_token, "dsmil.roe_token", ret, p) : DBE_OK;
}

/* What persons are asked to approve. */
static dbe_err tell_payload(struct shim_http *http, const struct shim_req *req)
{
    struct base_buf out;

    base_buf_init(&out, 4 * SHIM_ANSWER_MAX_BYTES);
    dbe_err err = shim_chat_payload(&http->chat.tenant, req, &out);
    if (err == DBE_OK)
        shim_http_answer(http, 200, "application/json", &out);
    base_buf_free(&out);
    return err;
}

static dbe_err send_asked(struct shim_http *http, struct shim_req *req, struct shim_problem *p)
{
    struct shim_roe *roe = NULL;

    http->wants_stream = req->stream;
    http->base64 = req->base64;
    log_end_user(http, req);
    DBE_TRY(take_roe(http, req, &roe, p));
    shim_style_of(req, &http->style);
    http->chat.roe = roe;
    dbe_err err = shim_chat_start(&http->shim->mesh, &http->chat, &ops, req, p);
    http->chat.roe = NULL;
    base_free(roe);
    return err;
}

static dbe_err start(struct shim_http *http, enum shim_kind kind)
{
    struct shim *shim = http->shim;
    struct shim_req req;
    struct shim_problem p = {0};

    dbe_err err = shim_req_parse(kind, (const char *)http->body.data, http->body.len, &req, &p);
    base_buf_free(&http->body); /* the prompt is not kept while the answer is made */
    if (err == DBE_OK && req.payload) {
        err = tell_payload(http, &req);
        shim_req_free(&req);
        return err;
    }
    if (err == DBE_OK) {
        err = send_asked(http, &req, &p);
        shim_req_free(&req);
    }
    if (err != DBE_OK) {
        shim_http_refuse(http, &p);
        return DBE_OK;
    }
    shim->sent[kind]++;
    shim->streams += http->wants_stream;
    shim->in_flight++;
    http->counted = true;
    shim_http_wait(http);
    return DBE_OK;
}

dbe_err shim_chat_handle(struct shim_http *http)
{
    return start(http, SHIM_CHAT);
}

dbe_err shim_completion_handle(struct shim_http *http)
{
    return start(http, SHIM_COMPLETION);
}

dbe_err shim_embedding_handle(struct shim_http *http)
{
    return start(http, SHIM_EMBEDDING);
}

dbe_err shim_response_handle(struct shim_http *http)
{
    return start(http, SHIM_RESPONSE);
}

void shim_chat_gone(struct shim_http *http)
{
    shim_chat_cancel(&http->chat);
}
