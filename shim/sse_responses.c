/* SPDX-License-Identifier: Apache-2.0
 *
 * sse_responses.c - the events of a streamed response: numbered, and each with the name of its type.
 *
 *   created, in_progress, (output_item.added, content_part.added, output_text.delta..., output_text.done,
 *   content_part.done, output_item.done), (output_item.added, function_call_arguments.delta and .done,
 *   output_item.done)..., completed or incomplete; or error, at any time, as the last
 *
 * In:   what sse.c tells     Out: framed bytes in its buffer
 */
#include <inttypes.h>
#include <string.h>

#include "shim/sse.h"

static void event(struct shim_stream *s, const char *type)
{
    base_buf_fmt(&s->out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%" PRIu32, type, type, s->sequence++);
}

static void end(struct shim_stream *s)
{
    base_buf_str(&s->out, "}\n\n");
}

static void response(struct shim_stream *s, const char *type, const char *status)
{
    struct shim_trace none = {0};

    memcpy(none.request_id, s->request_id, sizeof none.request_id);
    event(s, type);
    base_buf_str(&s->out, ",\"response\":{");
    shim_response_json(&s->out, &s->style, &none, s->model, s->created_unix, status, NULL);
    base_buf_u8(&s->out, '}');
    end(s);
}

void shim_events_begin(struct shim_stream *s)
{
    if (s->created)
        return;
    s->created = true;
    response(s, "response.created", "in_progress");
    response(s, "response.in_progress", "in_progress");
}

/* ---- the message ------------------------------------------------------------------------------------------------ */

static void message_place(struct shim_stream *s)
{
    base_buf_fmt(&s->out, ",\"item_id\":\"msg_%s\",\"output_index\":%" PRIu32 ",\"content_index\":0", s->message_id,
                 s->message_at);
}

static void part(struct shim_stream *s, const char *type, bool whole)
{
    event(s, type);
    message_place(s);
    base_buf_str(&s->out, ",\"part\":{\"type\":\"output_text\",\"text\":");
    base_json_str(&s->out, (const char *)s->whole.data, whole ? s->whole.len : 0);
    base_buf_str(&s->out, ",\"annotations\":[],\"logprobs\":[");
    base_buf_str(&s->out, whole ? base_buf_cstr(&s->whole_probs) : "");
    base_buf_str(&s->out, "]}");
    end(s);
}

/* The first message has the number of the request; a later one, of words that were no call in the end, another. */
static void open_message(struct shim_stream *s)
{
    if (s->message_open)
        return;
    s->message_open = true;
    s->message_at = s->items++;
    shim_response_message_id(s->message_id, s->request_id, s->messages++ == 0, s->message_at);
    base_buf_clear(&s->whole);
    base_buf_clear(&s->whole_probs);
    event(s, "response.output_item.added");
    base_buf_fmt(&s->out, ",\"output_index\":%" PRIu32 ",\"item\":", s->message_at);
    shim_response_message_json(&s->out, s->message_id, "in_progress", NULL, 0, "");
    end(s);
    part(s, "response.content_part.added", false);
}

void shim_events_text(struct shim_stream *s)
{
    open_message(s);
    event(s, "response.output_text.delta");
    message_place(s);
    base_buf_str(&s->out, ",\"delta\":");
    base_json_str(&s->out, (const char *)s->text.data, s->text.len);
    base_buf_str(&s->out, ",\"logprobs\":[");
    base_buf_bytes(&s->out, s->probs.data, s->probs.len);
    base_buf_u8(&s->out, ']');
    end(s);
    base_buf_bytes(&s->whole, s->text.data, s->text.len);
    if (s->whole_probs.len > 0 && s->probs.len > 0)
        base_buf_u8(&s->whole_probs, ',');
    base_buf_bytes(&s->whole_probs, s->probs.data, s->probs.len);
    if (s->whole.err != DBE_OK || s->whole_probs.err != DBE_OK)
        s->out.err = DBE_E_TOO_LARGE;
}

static void close_message(struct shim_stream *s, const char *status)
{
    if (!s->message_open)
        return;
    event(s, "response.output_text.done");
    message_place(s);
    base_buf_str(&s->out, ",\"text\":");
    base_json_str(&s->out, (const char *)s->whole.data, s->whole.len);
    base_buf_str(&s->out, ",\"logprobs\":[");
    base_buf_str(&s->out, base_buf_cstr(&s->whole_probs));
    base_buf_u8(&s->out, ']');
    end(s);
    part(s, "response.content_part.done", true);
    base_buf_str(&s->done_items, s->done_items.len > 0 ? "," : "");
    const size_t from = s->done_items.len;
    shim_response_message_json(&s->done_items, s->message_id, status,
                               s->whole.len > 0 ? (const char *)s->whole.data : "", s->whole.len,
                               base_buf_cstr(&s->whole_probs));
    event(s, "response.output_item.done");
    base_buf_fmt(&s->out, ",\"output_index\":%" PRIu32 ",\"item\":", s->message_at);
    base_buf_bytes(&s->out, s->done_items.data + from, s->done_items.len - from);
    end(s);
    s->message_open = false;
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

static void call_item(struct shim_stream *s, const char *type, size_t i, const struct shim_call *call, bool whole)
{
    event(s, type);
    base_buf_fmt(&s->out, ",\"output_index\":%" PRIu32 ",\"item\":", s->items);
    shim_response_call_json(&s->out, s->request_id, i, whole ? "completed" : "in_progress", call, whole);
    end(s);
}

static void call_arguments(struct shim_stream *s, const char *type, size_t i, const struct shim_call *call, bool whole)
{
    event(s, type);
    base_buf_fmt(&s->out, ",\"item_id\":\"fc_%s_%zu\",\"output_index\":%" PRIu32 ",", s->request_id, i, s->items);
    if (whole) {
        base_buf_str(&s->out, "\"name\":");
        base_json_str(&s->out, call->name, strlen(call->name));
        base_buf_u8(&s->out, ',');
    }
    base_buf_str(&s->out, whole ? "\"arguments\":" : "\"delta\":");
    base_json_str(&s->out, call->arguments, strlen(call->arguments));
    end(s);
}

static void tell_call(struct shim_stream *s, size_t i, const struct shim_call *call)
{
    call_item(s, "response.output_item.added", i, call, false);
    call_arguments(s, "response.function_call_arguments.delta", i, call, false);
    call_arguments(s, "response.function_call_arguments.done", i, call, true);
    call_item(s, "response.output_item.done", i, call, true);
    if (s->done_items.len > 0)
        base_buf_u8(&s->done_items, ',');
    shim_response_call_json(&s->done_items, s->request_id, i, "completed", call, true);
    s->items++;
}

void shim_events_calls(struct shim_stream *s, const struct shim_choice *c)
{
    close_message(s, "completed"); /* a call ends the words before it */
    for (size_t i = 0; i < c->call_count; i++)
        tell_call(s, s->calls[0]++, &c->calls[i]);
}

void shim_events_end_of_choice(struct shim_stream *s, const struct shim_choice *c)
{
    if (s->items == 0)
        open_message(s); /* also for an answer without a word */
    close_message(s, shim_response_status(c->finish_reason));
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

void shim_events_finish(struct shim_stream *s, const struct shim_answer *answer, const struct shim_trace *trace)
{
    const char *status = shim_response_status(s->finish_reason);

    event(s, strcmp(status, "incomplete") == 0 ? "response.incomplete" : "response.completed");
    base_buf_str(&s->out, ",\"response\":{");
    shim_response_items_json(&s->out, &s->style, trace, s->model, s->created_unix, status,
                             base_buf_cstr(&s->done_items), answer);
    base_buf_u8(&s->out, '}');
    end(s);
}

void shim_events_fail(struct shim_stream *s, const struct shim_problem *p)
{
    event(s, "error");
    base_buf_str(&s->out, ",\"code\":");
    base_json_str(&s->out, p->code != NULL ? p->code : "server_error",
                  strlen(p->code != NULL ? p->code : "server_error"));
    base_buf_str(&s->out, ",\"message\":");
    base_json_str(&s->out, p->message, strlen(p->message));
    base_buf_str(&s->out, ",\"param\":null");
    end(s);
}
