/* SPDX-License-Identifier: Apache-2.0
 *
 * sse.c - chunks of a streamed chat or completion, framed as server-sent events.
 *
 * In:   choices, end, failure
 * Out:  "data: <one line of JSON>\n\n"; JSON escapes every control character, so no text can break the framing
 * Not:  no socket; the client's pace comes in through shim_stream_read. Events of responses: sse_responses.c
 */
#include "shim/sse.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void shim_stream_init(struct shim_stream *s, const char *request_id, uint64_t created_unix, struct shim_style *style)
{
    memset(s, 0, sizeof *s);
    base_buf_init(&s->text, style->echo ? SHIM_ANSWER_MAX_BYTES : SHIM_STREAM_PENDING_MAX_BYTES);
    base_buf_init(&s->probs, SHIM_ANSWER_MAX_BYTES);
    base_buf_init(&s->out, 2 * SHIM_ANSWER_MAX_BYTES);
    base_buf_init(&s->whole, SHIM_ANSWER_MAX_BYTES);
    base_buf_init(&s->whole_probs, SHIM_ANSWER_MAX_BYTES);
    base_buf_init(&s->done_items, SHIM_ANSWER_MAX_BYTES);
    (void)snprintf(s->request_id, sizeof s->request_id, "%s", request_id);
    s->created_unix = created_unix;
    s->style = *style;
    memset(style, 0, sizeof *style);
}

void shim_stream_free(struct shim_stream *s)
{
    struct base_buf *all[] = {&s->text, &s->probs, &s->out, &s->whole, &s->whole_probs, &s->done_items};

    for (size_t i = 0; i < BASE_ARRAY_LEN(all); i++)
        base_buf_free(all[i]);
    shim_style_free(&s->style);
    memset(s, 0, sizeof *s);
}

static bool is_chat(const struct shim_stream *s)
{
    return s->style.kind == SHIM_CHAT;
}

/* ---- chunks ----------------------------------------------------------------------------------------------------- */

/* Everything of a chunk up to its choices. */
static void chunk_begin(struct shim_stream *s)
{
    base_buf_fmt(&s->out, "data: {\"id\":\"%s-%s\",\"object\":\"%s\",\"created\":%" PRIu64 ",\"model\":",
                 is_chat(s) ? "chatcmpl" : "cmpl", s->request_id,
                 is_chat(s) ? "chat.completion.chunk" : "text_completion", s->created_unix);
    base_json_str(&s->out, s->model, strlen(s->model));
    if (s->fingerprint[0] != '\0') {
        base_buf_str(&s->out, ",\"system_fingerprint\":");
        base_json_str(&s->out, s->fingerprint, strlen(s->fingerprint));
    }
    base_buf_str(&s->out, ",\"choices\":[");
}

static void chunk_end(struct shim_stream *s)
{
    base_buf_str(&s->out, "}\n\n");
}

/* With include_usage every chunk but the last says null. */
static void no_usage_yet(struct shim_stream *s)
{
    if (s->style.include_usage)
        base_buf_str(&s->out, ",\"usage\":null");
}

/* A chunk of one choice up to its end: a chat's delta, or a completion's text, is `content` as JSON members. */
static void frame_open(struct shim_stream *s, uint32_t index, const char *content, size_t len, const char *probs,
                       const char *finish_reason)
{
    chunk_begin(s);
    base_buf_fmt(&s->out, "{\"index\":%" PRIu32 ",%s", index, is_chat(s) ? "\"delta\":{" : "\"text\":");
    base_buf_bytes(&s->out, content, len);
    base_buf_str(&s->out, is_chat(s) ? "},\"logprobs\":" : ",\"logprobs\":");
    base_buf_str(&s->out, probs != NULL ? probs : "null");
    base_buf_str(&s->out, ",\"finish_reason\":");
    if (finish_reason != NULL)
        base_json_str(&s->out, finish_reason, strlen(finish_reason));
    else
        base_buf_str(&s->out, "null");
    base_buf_str(&s->out, "}]");
    no_usage_yet(s);
}

static void frame(struct shim_stream *s, uint32_t index, const char *content, size_t len, const char *probs)
{
    frame_open(s, index, content, len, probs, NULL);
    chunk_end(s);
}

/* What the last chunk of a stream says beside: what the request wants repeated, and the way of the answer. */
static void frame_trace(struct shim_stream *s, const struct shim_trace *trace)
{
    if (s->style.said != NULL)
        base_buf_str(&s->out, s->style.said);
    base_buf_str(&s->out, ",\"dsmil\":");
    shim_trace_json(&s->out, trace);
}

/* The last chunk of a choice waits for what comes next: if that is the end of the stream, it carries the trace. */
static void frame_finish(struct shim_stream *s, const struct shim_trace *trace)
{
    if (s->finish_reason == NULL || s->style.kind == SHIM_RESPONSE)
        return;
    frame_open(s, s->finished, is_chat(s) ? "" : "\"\"", is_chat(s) ? 0 : 2, NULL, s->finish_reason);
    if (trace != NULL)
        frame_trace(s, trace);
    chunk_end(s);
    s->finish_reason = NULL;
}

/* The first chunk of a chat's choice: the role. */
static void frame_first(struct shim_stream *s, uint32_t index)
{
    static const char role[] = "\"role\":\"assistant\",\"content\":\"\",\"refusal\":null";
    const uint32_t bit = 1u << index;

    if ((s->begun & bit) != 0)
        return;
    s->begun |= bit;
    if (is_chat(s))
        frame(s, index, role, sizeof role - 1, NULL);
}

static void frame_text(struct shim_stream *s)
{
    struct base_buf delta;

    if (s->text.len == 0 && s->probs.len == 0)
        return;
    if (s->style.kind == SHIM_RESPONSE) {
        shim_events_text(s);
    } else {
        base_buf_init(&delta, SHIM_ANSWER_MAX_BYTES);
        base_buf_str(&delta, is_chat(s) ? "\"content\":" : "");
        base_json_str(&delta, (const char *)s->text.data, s->text.len);
        if (is_chat(s) && s->style.logprobs) /* words behind calls have none */
            base_buf_str(&s->probs, s->probs.len > 0 ? "],\"refusal\":null}" : "{\"content\":[],\"refusal\":null}");
        frame(s, s->index, (const char *)delta.data, delta.len, s->style.logprobs ? base_buf_cstr(&s->probs) : NULL);
        if (delta.err != DBE_OK || s->probs.err != DBE_OK)
            s->out.err = delta.err != DBE_OK ? delta.err : s->probs.err;
        base_buf_free(&delta);
    }
    base_buf_clear(&s->text);
    base_buf_clear(&s->probs);
}

/* ---- choices ---------------------------------------------------------------------------------------------------- */

/* JSON of the tokens that wait. A completion's object cannot be joined with another: it is framed at once. */
static void take_probs(struct shim_stream *s, const struct shim_choice *c)
{
    const struct shim_style *style = &s->style;

    if (style->kind == SHIM_COMPLETION) {
        shim_completion_probs_json(&s->probs, c->probs, c->prob_count, style->top_logprobs, s->offsets[c->index]);
        for (size_t i = 0; i < c->prob_count; i++) /* a token may come after a part of its text */
            s->offsets[c->index] += (uint32_t)shim_characters(c->probs[i].token, c->probs[i].len);
        return;
    }
    for (size_t i = 0; i < c->prob_count; i++) {
        if (s->probs.len == 0 && style->kind == SHIM_CHAT)
            base_buf_str(&s->probs, "{\"content\":[");
        else if (s->probs.len > 0)
            base_buf_u8(&s->probs, ',');
        shim_prob_json(&s->probs, &c->probs[i], style->top_logprobs);
    }
}

static void take_text(struct shim_stream *s, const struct shim_choice *c)
{
    if (s->index != c->index)
        frame_text(s);
    s->index = c->index;
    base_buf_bytes(&s->text, c->content, c->content_len);
    if (s->style.logprobs && (c->prob_count > 0 || (s->style.kind == SHIM_COMPLETION && c->content_len > 0)))
        take_probs(s, c);
    if (s->style.kind == SHIM_COMPLETION && s->style.logprobs)
        frame_text(s);
}

/* A chunk each: there are clients that look at the first call of a chunk alone. A completion has no place for calls,
 * and is not broken by a router that sends it some. */
static void frame_calls(struct shim_stream *s, const struct shim_choice *c)
{
    struct base_buf delta;

    if (!is_chat(s))
        return;
    base_buf_init(&delta, SHIM_ANSWER_MAX_BYTES);
    for (size_t i = 0; i < c->call_count; i++) {
        base_buf_clear(&delta);
        base_buf_str(&delta, "\"tool_calls\":");
        shim_call_delta_json(&delta, &c->calls[i], s->calls[c->index]++);
        frame(s, c->index, (const char *)delta.data, delta.len, NULL);
    }
    if (delta.err != DBE_OK)
        s->out.err = delta.err;
    base_buf_free(&delta);
}

static const char *finish_word(const char *finish_reason)
{
    static const char *const words[] = {"stop", "length", "tool_calls"};

    for (size_t i = 1; i < BASE_ARRAY_LEN(words); i++)
        if (strcmp(finish_reason, words[i]) == 0)
            return words[i];
    return words[0];
}

dbe_err shim_stream_choice(struct shim_stream *s, const char *model, const char *fingerprint,
                           const struct shim_choice *c)
{
    struct shim_choice before, behind;

    if (s->ended)
        return DBE_E_STATE;
    if (c->index >= SHIM_CHOICES_MAX)
        return DBE_E_RANGE;
    if (s->model[0] == '\0') {
        (void)snprintf(s->model, sizeof s->model, "%s", model);
        (void)snprintf(s->fingerprint, sizeof s->fingerprint, "%s", fingerprint != NULL ? fingerprint : "");
    }
    /* a prompt comes faster than any answer, and many of its tokens at once */
    if (s->text.len + s->out.len + s->probs.len + c->content_len >
        (s->style.echo ? (size_t)SHIM_ANSWER_MAX_BYTES : (size_t)SHIM_STREAM_PENDING_MAX_BYTES))
        return DBE_E_LIMIT;
    frame_finish(s, NULL);
    if (s->style.kind == SHIM_RESPONSE)
        shim_events_begin(s);
    else
        frame_first(s, c->index);
    shim_choice_split(c, &before, &behind);
    take_text(s, &before);
    if (c->call_count > 0) {
        frame_text(s);
        if (s->style.kind == SHIM_RESPONSE)
            shim_events_calls(s, c);
        else
            frame_calls(s, c);
        take_text(s, &behind);
    }
    if (c->finish_reason != NULL) {
        frame_text(s);
        if (s->style.kind == SHIM_RESPONSE)
            shim_events_end_of_choice(s, c);
        s->finish_reason = finish_word(c->finish_reason);
        s->finished = c->index;
    }
    return s->text.err != DBE_OK ? s->text.err : s->probs.err != DBE_OK ? s->probs.err : s->out.err;
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

void shim_stream_finish(struct shim_stream *s, const struct shim_answer *answer, const struct shim_trace *trace)
{
    if (s->ended)
        return;
    frame_text(s);
    s->ended = true;
    if (s->style.kind == SHIM_RESPONSE) {
        shim_events_finish(s, answer, trace);
        return;
    }
    frame_finish(s, s->style.include_usage ? NULL : trace);
    if (s->style.include_usage) {
        chunk_begin(s);
        base_buf_str(&s->out, "],\"usage\":");
        shim_usage_json(&s->out, s->style.kind, answer);
        frame_trace(s, trace);
        chunk_end(s);
    }
    base_buf_str(&s->out, "data: [DONE]\n\n");
}

void shim_stream_fail(struct shim_stream *s, const struct shim_problem *p)
{
    if (s->ended)
        return;
    frame_text(s);
    frame_finish(s, NULL);
    s->ended = true;
    if (s->style.kind == SHIM_RESPONSE) {
        shim_events_fail(s, p);
        return;
    }
    base_buf_str(&s->out, "data: ");
    shim_problem_json(&s->out, p, s->request_id);
    base_buf_str(&s->out, "\n\n");
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

bool shim_stream_waits(const struct shim_stream *s)
{
    return s->out.len > 0 || s->text.len > 0;
}

bool shim_stream_at_end(const struct shim_stream *s)
{
    return s->ended && s->out.len == 0 && s->text.len == 0;
}
