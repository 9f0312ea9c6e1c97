/* SPDX-License-Identifier: Apache-2.0
 *
 * responses_out.c - the response object of POST /v1/responses and its output items.
 *
 * In:   an answer, what the request said     Out: JSON text appended to a base_buf
 * Not:  no events (sse_responses.c)
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "shim/openai.h"

static void text(struct base_buf *out, const char *s)
{
    base_json_str(out, s, strlen(s));
}

const char *shim_response_status(const char *finish_reason)
{
    return finish_reason != NULL && strcmp(finish_reason, "length") == 0 ? "incomplete" : "completed";
}

void shim_response_message_id(char ret[SHIM_MESSAGE_ID_BYTES], const char *request_id, bool first, size_t item)
{
    if (first)
        (void)snprintf(ret, SHIM_MESSAGE_ID_BYTES, "%s", request_id);
    else
        (void)snprintf(ret, SHIM_MESSAGE_ID_BYTES, "%s_%zu", request_id, item);
}

void shim_response_message_json(struct base_buf *out, const char *message_id, const char *status, const char *words,
                                size_t len, const char *probs_json)
{
    base_buf_fmt(out, "{\"id\":\"msg_%s\",\"type\":\"message\",\"role\":\"assistant\",\"status\":\"%s\",\"content\":[",
                 message_id, status);
    if (words != NULL) {
        base_buf_str(out, "{\"type\":\"output_text\",\"text\":");
        base_json_str(out, words, len);
        base_buf_str(out, ",\"annotations\":[],\"logprobs\":[");
        base_buf_str(out, probs_json);
        base_buf_str(out, "]}");
    }
    base_buf_str(out, "]}");
}

void shim_response_call_json(struct base_buf *out, const char *request_id, size_t index, const char *status,
                             const struct shim_call *call, bool with_arguments)
{
    base_buf_fmt(out, "{\"id\":\"fc_%s_%zu\",\"type\":\"function_call\",\"status\":\"%s\",\"call_id\":", request_id,
                 index, status);
    text(out, call->id);
    base_buf_str(out, ",\"name\":");
    text(out, call->name);
    base_buf_str(out, ",\"arguments\":");
    text(out, with_arguments ? call->arguments : "");
    base_buf_u8(out, '}');
}

static void words_json(struct base_buf *out, const struct shim_style *style, const char *message_id, const char *status,
                       const struct shim_choice *words)
{
    struct base_buf probs;

    base_buf_init(&probs, SHIM_ANSWER_MAX_BYTES);
    for (size_t i = 0; style->logprobs && i < words->prob_count; i++) {
        base_buf_str(&probs, i > 0 ? "," : "");
        shim_prob_json(&probs, &words->probs[i], style->top_logprobs);
    }
    shim_response_message_json(out, message_id, status, words->content, words->content_len, base_buf_cstr(&probs));
    if (probs.err != DBE_OK)
        out->err = probs.err;
    base_buf_free(&probs);
}

/* In the order in which they were said: words, if there are any or no calls; calls; words that stand behind them. */
static void output_json(struct base_buf *out, const struct shim_style *style, const struct shim_trace *trace,
                        const char *status, const struct shim_choice *c)
{
    struct shim_choice before, behind;
    char message_id[SHIM_MESSAGE_ID_BYTES];
    size_t items = 0;

    shim_choice_split(c, &before, &behind);
    if (before.content_len > 0 || c->call_count == 0) {
        shim_response_message_id(message_id, trace->request_id, true, items++);
        words_json(out, style, message_id, c->call_count > 0 ? "completed" : status, &before);
    }
    for (size_t i = 0; i < c->call_count; i++) {
        base_buf_str(out, items++ > 0 ? "," : "");
        shim_response_call_json(out, trace->request_id, i, "completed", &c->calls[i], true);
    }
    if (behind.content_len > 0) {
        base_buf_u8(out, ',');
        shim_response_message_id(message_id, trace->request_id, before.content_len == 0, items);
        words_json(out, style, message_id, status, &behind);
    }
}

void shim_response_items_json(struct base_buf *out, const struct shim_style *style, const struct shim_trace *trace,
                              const char *model, uint64_t created_unix, const char *status, const char *items,
                              const struct shim_answer *a)
{
    const bool incomplete = strcmp(status, "incomplete") == 0;

    base_buf_fmt(out,
                 "\"id\":\"resp_%s\",\"object\":\"response\",\"created_at\":%" PRIu64 ",\"status\":\"%s\",\"model\":",
                 trace->request_id, created_unix, status);
    text(out, model);
    base_buf_str(out, ",\"error\":null,\"incomplete_details\":");
    base_buf_str(out, incomplete ? "{\"reason\":\"max_output_tokens\"}" : "null");
    if (style->said != NULL)
        base_buf_str(out, style->said);
    base_buf_str(out, ",\"output\":[");
    base_buf_str(out, items);
    base_buf_u8(out, ']');
    if (a == NULL) /* nobody knows the usage yet */
        return;
    base_buf_str(out, ",\"usage\":");
    shim_usage_json(out, SHIM_RESPONSE, a);
    base_buf_str(out, ",\"dsmil\":");
    shim_trace_json(out, trace);
}

void shim_response_json(struct base_buf *out, const struct shim_style *style, const struct shim_trace *trace,
                        const char *model, uint64_t created_unix, const char *status, const struct shim_answer *a)
{
    struct base_buf items;

    base_buf_init(&items, 2 * SHIM_ANSWER_MAX_BYTES);
    if (a != NULL)
        output_json(&items, style, trace, status, &a->choices[0]);
    shim_response_items_json(out, style, trace, model, created_unix, status, base_buf_cstr(&items), a);
    if (items.err != DBE_OK)
        out->err = items.err;
    base_buf_free(&items);
}
