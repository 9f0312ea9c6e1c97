/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_http.c - bodies and header values of HTTP clients, and model text on its way out.
 *
 * In:   input: first byte chooses a body, header values, or text of an answer
 * Finds: reads beyond the input; a refusal without status or message; JSON or event framing that text can break
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "shim/headers.h"
#include "shim/openai.h"
#include "shim/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void must_be_json(const char *text, size_t len)
{
    json_error_t e;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);

    must(root != NULL);
    json_decref(root);
}

static void fuzz_body(enum shim_kind kind, const char *body, size_t len)
{
    struct shim_req req;
    struct shim_problem p = {0};
    struct base_buf out;

    if (shim_req_parse(kind, body, len, &req, &p) == DBE_OK) {
        must(req.message_count + req.input_count + req.token_count >= 1 && req.message_count <= SHIM_MESSAGES_MAX &&
             req.input_count <= SHIM_INPUTS_MAX && req.token_count <= SHIM_INPUTS_MAX &&
             req.stop_count <= SHIM_STOP_MAX);
        for (size_t i = 0; i < req.message_count; i++)
            must(base_utf8_valid(req.messages[i].content, strlen(req.messages[i].content)));
        shim_req_free(&req);
        return;
    }
    must(p.status >= 400 && p.status < 600 && p.code != NULL && p.message[0] != '\0');
    base_buf_init(&out, 65536);
    shim_problem_json(&out, &p, "id");
    must(out.err == DBE_OK);
    must_be_json((const char *)out.data, out.len);
    base_buf_free(&out);
}

static void fuzz_headers(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    must(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    if (shim_host_is_local(text))
        must(strlen(text) <= sizeof "127.0.0.1:65535");
    (void)shim_origin_is_local(text);
    if (shim_bearer_matches(text, "the-key-of-this-test"))
        must(strstr(text, "the-key-of-this-test") != NULL);
    free(text);
}

static dbe_err say(struct shim_stream *s, const char *text, size_t len, const char *finish_reason)
{
    const struct shim_prob prob = {.token = text, .len = BASE_MIN(len, (size_t)8)};
    const struct shim_call call = {(char *)(uintptr_t) "id", (char *)(uintptr_t) "f", (char *)(uintptr_t) "{}"};
    const struct shim_choice c = {.content = text,
                                  .content_len = len,
                                  .behind_len = len % 3,
                                  .finish_reason = finish_reason,
                                  .probs = &prob,
                                  .prob_count = 1,
                                  .calls = &call,
                                  .call_count = len % 5 == 0};

    return shim_stream_choice(s, "model", "fp", &c);
}

/* The JSON of one event, of those that are named and those that are not. */
static void must_be_event(const char *event, size_t len)
{
    if (len > 7 && memcmp(event, "event: ", 7) == 0) {
        const char *data = memchr(event, '\n', len);
        must(data != NULL);
        len -= (size_t)(data + 1 - event);
        event = data + 1;
    }
    must(len > 6 && memcmp(event, "data: ", 6) == 0);
    must(memchr(event, '\n', len) == NULL && memchr(event, '\r', len) == NULL);
    if (len != sizeof "data: [DONE]" - 1 || memcmp(event, "data: [DONE]", len) != 0)
        must_be_json(event + 6, len - 6);
}

static void fuzz_text(enum shim_kind kind, const char *text, size_t len)
{
    static const struct shim_trace trace = {.request_id = "id"};
    static const struct shim_answer end = {.prompt_tokens = 1, .completion_tokens = 2};
    static char events[1 << 20];
    struct shim_style style = {.kind = kind, .include_usage = true, .logprobs = len % 2 != 0, .echo = len % 3 == 0};
    struct shim_stream s;
    size_t n = 0, got;

    if (len > 4096)
        return;
    shim_stream_init(&s, "id", 1, &style);
    must(say(&s, text, len / 2, NULL) == DBE_OK);
    got = shim_stream_read(&s, events, 64);
    n += got;
    must(say(&s, text + len / 2, len - len / 2, "stop") == DBE_OK);
    shim_stream_finish(&s, &end, &trace);
    while ((got = shim_stream_read(&s, events + n, sizeof events - n)) > 0)
        n += got;
    must(shim_stream_at_end(&s));
    for (size_t at = 0; at < n;) {
        char *stop = memmem(events + at, n - at, "\n\n", 2);
        must(stop != NULL);
        must_be_event(events + at, (size_t)(stop - events) - at);
        at = (size_t)(stop - events) + 2;
    }
    shim_stream_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const enum shim_kind kind = (enum shim_kind)(data[0] / 3 % 4);
    switch (data[0] % 3) {
    case 0: fuzz_body(kind, (const char *)data + 1, size - 1); break;
    case 1: fuzz_headers(data + 1, size - 1); break;
    default: fuzz_text(kind == SHIM_EMBEDDING ? SHIM_CHAT : kind, (const char *)data + 1, size - 1); break;
    }
    return 0;
}
