/* SPDX-License-Identifier: Apache-2.0
 *
 * sse.c - chunks of a streamed answer, framed as server-sent events.
 *
 * In:   deltas, end, failure
 * Out:  "data: <one line of JSON>\n\n"; JSON escapes every control character, so no text can break the framing
 * Not:  no socket; the client's pace comes in through shim_stream_read
 */
#include "shim/sse.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void shim_stream_init(struct shim_stream *s, const char *request_id, uint64_t created_unix, bool include_usage)
{
    memset(s, 0, sizeof *s);
    base_buf_init(&s->text, SHIM_STREAM_PENDING_MAX_BYTES);
    base_buf_init(&s->out, SHIM_ANSWER_MAX_BYTES);
    (void)snprintf(s->request_id, sizeof s->request_id, "%s", request_id);
    s->created_unix = created_unix;
    s->include_usage = include_usage;
}

void shim_stream_free(struct shim_stream *s)
{
    base_buf_free(&s->text);
    base_buf_free(&s->out);
    memset(s, 0, sizeof *s);
}

/* Everything of a chunk up to its choices. */
static void chunk_begin(struct shim_stream *s)
{
    base_buf_fmt(&s->out,
                 "data: {\"id\":\"chatcmpl-%s\",\"object\":\"chat.completion.chunk\",\"created\":%" PRIu64
                 ",\"model\":",
                 s->request_id, s->created_unix);
    base_json_str(&s->out, s->model, strlen(s->model));
    base_buf_str(&s->out, ",\"choices\":[");
}

static void chunk_end(struct shim_stream *s)
{
    base_buf_str(&s->out, "}\n\n");
}

/* With include_usage every chunk but the last says null. */
static void no_usage_yet(struct shim_stream *s)
{
    if (s->include_usage)
        base_buf_str(&s->out, ",\"usage\":null");
}

static void frame_role(struct shim_stream *s)
{
    if (s->role_sent)
        return;
    chunk_begin(s);
    base_buf_str(&s->out,
                 "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},\"logprobs\":null,"
                 "\"finish_reason\":null}]");
    no_usage_yet(s);
    chunk_end(s);
    s->role_sent = true;
}

static void frame_text(struct shim_stream *s)
{
    if (s->text.len == 0)
        return;
    chunk_begin(s);
    base_buf_str(&s->out, "{\"index\":0,\"delta\":{\"content\":");
    base_json_str(&s->out, (const char *)s->text.data, s->text.len);
    base_buf_str(&s->out, "},\"logprobs\":null,\"finish_reason\":null}]");
    no_usage_yet(s);
    chunk_end(s);
    base_buf_clear(&s->text);
}

dbe_err shim_stream_delta(struct shim_stream *s, const char *model, const char *text, size_t len)
{
    if (s->ended)
        return DBE_E_STATE;
    if (s->model[0] == '\0')
        (void)snprintf(s->model, sizeof s->model, "%s", model);
    if (s->text.len + len > SHIM_STREAM_PENDING_MAX_BYTES)
        return DBE_E_LIMIT;
    frame_role(s);
    base_buf_bytes(&s->text, text, len);
    return s->text.err != DBE_OK ? s->text.err : s->out.err;
}

void shim_stream_finish(struct shim_stream *s, const char *finish_reason, uint32_t prompt_tokens,
                        uint32_t completion_tokens, const struct shim_trace *trace)
{
    if (s->ended)
        return;
    frame_role(s);
    frame_text(s);
    chunk_begin(s);
    base_buf_str(&s->out, "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":");
    base_json_str(&s->out, finish_reason, strlen(finish_reason));
    base_buf_str(&s->out, "}]");
    if (s->include_usage) {
        no_usage_yet(s);
        chunk_end(s);
        chunk_begin(s);
        base_buf_str(&s->out, "],\"usage\":");
        shim_usage_json(&s->out, prompt_tokens, completion_tokens);
    }
    base_buf_str(&s->out, ",\"dsmil\":");
    shim_trace_json(&s->out, trace);
    chunk_end(s);
    base_buf_str(&s->out, "data: [DONE]\n\n");
    s->ended = true;
}

void shim_stream_fail(struct shim_stream *s, const struct shim_problem *p)
{
    if (s->ended)
        return;
    frame_text(s);
    base_buf_str(&s->out, "data: ");
    shim_problem_json(&s->out, p, s->request_id);
    base_buf_str(&s->out, "\n\n");
    s->ended = true;
}

size_t shim_stream_read(struct shim_stream *s, char *buf, size_t cap)
{
    if (s->out.len == 0)
        frame_text(s);
    size_t n = BASE_MIN(cap, s->out.len);
    if (n == 0)
        return 0;
    memcpy(buf, s->out.data, n);
    base_buf_consume(&s->out, n);
    return n;
}

bool shim_stream_at_end(const struct shim_stream *s)
{
    return s->ended && s->out.len == 0 && s->text.len == 0;
}
