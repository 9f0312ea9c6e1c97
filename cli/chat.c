/* SPDX-License-Identifier: Apache-2.0
 *
 * chat.c - one question or conversation to the gateway, whole or streamed, as any OpenAI client would ask it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "dbe/limits.h"

enum { CHAT_TIMEOUT_MS = 300000, API_KEY_MAX = 512 };

/* What a stream has given so far. */
struct stream {
    const struct cli_chat *chat;
    struct cli_answer *ans;
    uint64_t start_ns;
};

static void copy_text(char *dst, size_t cap, const json_t *text)
{
    snprintf(dst, cap, "%s", json_is_string(text) ? json_string_value(text) : "");
}

static double ms_since(uint64_t start_ns)
{
    return (double)(base_mono_ns() - start_ns) / 1e6;
}

/* Keep what ends an answer: usage, our own object, the reason, or an error. */
static void take_tail(struct cli_answer *a, const json_t *obj)
{
    json_t *error = json_object_get(obj, "error"), *dsmil = json_object_get(obj, "dsmil");
    json_t *usage = json_object_get(obj, "usage");
    json_t *choice = json_array_get(json_object_get(obj, "choices"), 0);

    if (json_is_object(error)) {
        const json_t *code = json_object_get(error, "code");
        copy_text(a->error_code, sizeof a->error_code, code != NULL ? code : json_object_get(error, "type"));
        copy_text(a->error_text, sizeof a->error_text, json_object_get(error, "message"));
    }
    if (json_is_object(dsmil)) {
        json_decref(a->dsmil);
        a->dsmil = json_incref(dsmil);
    }
    if (json_is_object(usage)) {
        json_decref(a->usage);
        a->usage = json_incref(usage);
    }
    if (json_is_string(json_object_get(obj, "model")))
        copy_text(a->model, sizeof a->model, json_object_get(obj, "model"));
    if (json_is_string(json_object_get(choice, "finish_reason")))
        copy_text(a->finish_reason, sizeof a->finish_reason, json_object_get(choice, "finish_reason"));
}

static void on_event(void *ctx, const char *text, size_t len)
{
    struct stream *s = ctx;
    json_t *obj = json_loadb(text, len, 0, NULL);
    const char *delta = json_string_value(
        json_object_get(json_object_get(json_array_get(json_object_get(obj, "choices"), 0), "delta"), "content"));

    if (delta != NULL && delta[0] != '\0') {
        if (s->ans->pieces++ == 0)
            s->ans->first_ms = ms_since(s->start_ns);
        base_buf_str(&s->ans->text, delta);
        if (s->chat->on_text != NULL)
            s->chat->on_text(s->chat->ctx, delta);
    }
    take_tail(s->ans, obj);
    json_decref(obj);
}

static char *request_body(const struct cli_chat *c)
{
    json_t *messages = json_array(), *body = json_object();
    char *text;

    if (c->system != NULL)
        json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "system", "content", c->system));
    if (c->messages != NULL)
        json_array_extend(messages, (json_t *)(uintptr_t)c->messages);
    else
        json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "user", "content", c->question));
    json_object_set_new(body, "messages", messages);
    json_object_set_new(body, "model", json_string(c->model != NULL ? c->model : "dsmil"));
    if (c->temperature >= 0)
        json_object_set_new(body, "temperature", json_real(c->temperature));
    if (c->max_tokens > 0)
        json_object_set_new(body, "max_tokens", json_integer(c->max_tokens));
    if (c->seed_set)
        json_object_set_new(body, "seed", json_integer((json_int_t)c->seed));
    if (c->receipt || c->sealed)
        json_object_set_new(body, "dsmil", json_pack("{s:b,s:b}", "receipt", c->receipt, "sealed", c->sealed));
    if (c->stream) {
        json_object_set_new(body, "stream", json_true());
        json_object_set_new(body, "stream_options", json_pack("{s:b}", "include_usage", 1));
    }
    text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    return text;
}

/* The whole answer, or the error in its place. */
static void take_whole(struct cli_answer *a, struct base_buf *body)
{
    json_t *obj = json_loadb((const char *)body->data, body->len, 0, NULL);
    const char *text = json_string_value(
        json_object_get(json_object_get(json_array_get(json_object_get(obj, "choices"), 0), "message"), "content"));

    take_tail(a, obj);
    if (text != NULL)
        base_buf_str(&a->text, text);
    json_decref(obj);
}

dbe_err cli_chat(const struct cli_chat *chat, struct cli_answer *ret, struct dbe_diag *diag)
{
    struct cli_answer ans = {0};
    struct cli_http_result res = {0};
    struct stream stream = {.chat = chat, .ans = &ans, .start_ns = base_mono_ns()};
    struct cli_sse sse;
    char *body = request_body(chat);
    dbe_err err;

    if (body == NULL)
        return dbe_fail(diag, DBE_E_UTF8, NULL, 0, "the question is not well-formed UTF-8");
    base_buf_init(&ans.text, DBE_PAYLOAD_MAX_BYTES);
    cli_sse_init(&sse, on_event, &stream);
    const struct cli_http req = {.port = chat->port,
                                 .path = "/v1/chat/completions",
                                 .bearer = chat->api_key,
                                 .body = body,
                                 .timeout_ms = CHAT_TIMEOUT_MS,
                                 .on_data = chat->stream ? cli_sse_feed : NULL,
                                 .ctx = &sse,
                                 .stop = chat->stop};
    err = cli_http(&req, &res, diag);
    free(body);
    cli_sse_free(&sse);
    if (err == DBE_E_CANCELLED) {
        res.status = 200;
        snprintf(ans.finish_reason, sizeof ans.finish_reason, "stopped");
        err = DBE_OK;
    }
    if (err != DBE_OK) {
        cli_answer_free(&ans);
        return err;
    }
    ans.status = res.status;
    ans.total_ms = ms_since(stream.start_ns);
    if ((!chat->stream || res.status != 200) && res.body.len > 0)
        take_whole(&ans, &res.body);
    base_buf_free(&res.body);
    *ret = ans;
    return DBE_OK;
}

void cli_answer_free(struct cli_answer *a)
{
    base_buf_free(&a->text);
    json_decref(a->dsmil);
    json_decref(a->usage);
    a->dsmil = a->usage = NULL;
}

/* Hops come outermost first, each with the time of those behind it: what a hop itself took is the difference. */
void cli_path_text(const json_t *dsmil, struct base_buf *out)
{
    const json_t *path = json_object_get(dsmil, "path");
    json_t *hop;
    size_t i;

    json_array_foreach(path, i, hop)
    {
        const char *name = json_string_value(json_object_get(hop, "name"));
        const json_t *inner = json_array_get(path, i + 1);
        double own_ms = json_number_value(json_object_get(hop, "elapsed_ms")) -
                        json_number_value(json_object_get(inner, "elapsed_ms"));
        base_buf_fmt(out, "%s%s (device %d) %.2f ms", i > 0 ? " -> " : "", name != NULL ? name : "?",
                     (int)json_integer_value(json_object_get(hop, "device")), own_ms);
    }
}

void cli_suites_text(const json_t *dsmil, struct base_buf *out)
{
    const json_t *path = json_object_get(dsmil, "path");
    const char *first = json_string_value(json_object_get(json_array_get(path, 1), "suite"));
    bool same = first != NULL;
    json_t *hop;
    size_t i;

    json_array_foreach(path, i, hop)
    {
        const char *suite = json_string_value(json_object_get(hop, "suite"));
        same = same && (i == 0 || (suite != NULL && strcmp(suite, first) == 0));
    }
    if (same) {
        base_buf_fmt(out, "%s on %zu of %zu channels", first, json_array_size(path) - 1, json_array_size(path) - 1);
        return;
    }
    json_array_foreach(path, i, hop)
    {
        const char *suite = json_string_value(json_object_get(hop, "suite"));
        if (i > 0)
            base_buf_fmt(out, "%s%s", i > 1 ? ", " : "", suite != NULL ? suite : "none");
    }
}

dbe_err cli_gateway(const struct cli_paths *paths, unsigned *ret_port, struct base_buf *ret_key, struct dbe_diag *diag)
{
    json_t *mesh;
    unsigned port;

    DBE_TRY(cli_mesh_read(paths, &mesh, diag));
    port = (unsigned)json_integer_value(json_object_get(mesh, "port"));
    /* written before every service is ready, and by a supervisor before this one */
    if (!json_is_true(json_object_get(mesh, "ready")) ||
        json_integer_value(json_object_get(mesh, "pid")) != cli_supervisor_pid(paths))
        port = 0;
    json_decref(mesh);
    if (port == 0)
        return dbe_fail(diag, DBE_E_AGAIN, NULL, 0, "the mesh is still starting; try again in a moment");
    if (access(paths->api_key, F_OK) != 0)
        return dbe_fail(diag, DBE_E_NOT_FOUND, NULL, 0, "%.100s is missing; `dsmil down` and `dsmil up` make one",
                        paths->api_key);
    DBE_TRY(base_file_read_private(paths->api_key, API_KEY_MAX, ret_key, diag));
    while (ret_key->len > 0 && ret_key->data[ret_key->len - 1] == '\n')
        ret_key->len--;
    *ret_port = port;
    return DBE_OK;
}

/* ---- options ------------ */

enum cli_given cli_chat_option(int argc, char **argv, int *i, struct cli_chat *chat)
{
    uint64_t n = 0;
    const char *v;
    bool good = true;

    if ((v = cli_opt(argc, argv, i, "--model")) != NULL)
        chat->model = v;
    else if ((v = cli_opt(argc, argv, i, "--max-tokens")) != NULL)
        good = cli_count(v, 1, UINT32_MAX, &n), chat->max_tokens = (unsigned)n;
    else if ((v = cli_opt(argc, argv, i, "--temperature")) != NULL)
        good = cli_number(v, 2, &chat->temperature);
    else if ((v = cli_opt(argc, argv, i, "--seed")) != NULL)
        good = chat->seed_set = cli_count(v, 0, INT64_MAX, &chat->seed);
    else
        return CLI_GIVEN_NONE;
    return good ? CLI_GIVEN : CLI_GIVEN_WRONG;
}
