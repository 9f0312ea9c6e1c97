/* SPDX-License-Identifier: Apache-2.0
 *
 * answers.c - whole answers as OpenAI's JSON: chat.completion, text_completion, lists of embeddings.
 *
 * In:   structs of openai.h
 * Out:  JSON text appended to a base_buf (its error sticks; the caller checks once)
 * Not:  the response object of /v1/responses (responses_out.c), no events (sse.c)
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "shim/openai.h"

static void text(struct base_buf *out, const char *s)
{
    base_json_str(out, s, strlen(s));
}

/* ---- probabilities ---------------------------------------------------------------------------------------------- */

static void number(struct base_buf *out, float v)
{
    base_buf_fmt(out, "%.6f", (double)v);
}

static void token_json(struct base_buf *out, const struct shim_prob *p)
{
    base_buf_str(out, "\"token\":");
    base_json_str(out, p->token, p->len);
    base_buf_str(out, ",\"logprob\":");
    number(out, p->logprob);
    base_buf_str(out, ",\"bytes\":[");
    for (size_t i = 0; i < p->len; i++)
        base_buf_fmt(out, "%s%u", i > 0 ? "," : "", (unsigned)(uint8_t)p->token[i]);
    base_buf_u8(out, ']');
}

void shim_prob_json(struct base_buf *out, const struct shim_prob *prob, uint32_t top)
{
    base_buf_u8(out, '{');
    token_json(out, prob);
    base_buf_str(out, ",\"top_logprobs\":[");
    for (size_t i = 0; i < prob->top_count && i < top; i++) {
        base_buf_str(out, i > 0 ? ",{" : "{");
        token_json(out, &prob->top[i]);
        base_buf_u8(out, '}');
    }
    base_buf_str(out, "]}");
}

static void chat_probs_json(struct base_buf *out, const struct shim_style *style, const struct shim_choice *c)
{
    if (!style->logprobs) {
        base_buf_str(out, "null");
        return;
    }
    base_buf_str(out, "{\"content\":[");
    for (size_t i = 0; i < c->prob_count; i++) {
        if (i > 0)
            base_buf_u8(out, ',');
        shim_prob_json(out, &c->probs[i], style->top_logprobs);
    }
    base_buf_str(out, "],\"refusal\":null}");
}

/* {"token": logprob} of the likeliest and of the chosen one. Two tokens of the same text stand once. */
static void tops_json(struct base_buf *out, const struct shim_prob *p, uint32_t top)
{
    bool told = false;

    base_buf_u8(out, '{');
    for (size_t i = 0; i < p->top_count; i++) {
        const struct shim_prob *t = &p->top[i];
        bool chosen = t->len == p->len && memcmp(t->token, p->token, t->len) == 0;
        bool again = false;
        for (size_t k = 0; k < i && !again; k++)
            again = p->top[k].len == t->len && memcmp(p->top[k].token, t->token, t->len) == 0;
        if (again || (i >= top && !chosen))
            continue;
        base_buf_str(out, told ? "," : "");
        base_json_str(out, t->token, t->len);
        base_buf_u8(out, ':');
        number(out, t->logprob);
        told = true;
    }
    base_buf_u8(out, '}');
}

size_t shim_characters(const char *bytes, size_t len)
{
    size_t count = 0;

    for (size_t i = 0; i < len; i++)
        count += ((uint8_t)bytes[i] & 0xC0) != 0x80;
    return count;
}

void shim_completion_probs_json(struct base_buf *out, const struct shim_prob *probs, size_t count, uint32_t top,
                                size_t offset)
{
    base_buf_str(out, "{\"tokens\":[");
    for (size_t i = 0; i < count; i++) {
        base_buf_str(out, i > 0 ? "," : "");
        base_json_str(out, probs[i].token, probs[i].len);
    }
    base_buf_str(out, "],\"token_logprobs\":[");
    for (size_t i = 0; i < count; i++) {
        base_buf_str(out, i > 0 ? "," : "");
        if (probs[i].first)
            base_buf_str(out, "null");
        else
            number(out, probs[i].logprob);
    }
    base_buf_str(out, "],\"top_logprobs\":[");
    for (size_t i = 0; i < count; i++) {
        base_buf_str(out, i > 0 ? "," : "");
        if (probs[i].first)
            base_buf_str(out, "null");
        else
            tops_json(out, &probs[i], top);
    }
    base_buf_str(out, "],\"text_offset\":[");
    for (size_t i = 0; i < count; i++) {
        base_buf_fmt(out, "%s%zu", i > 0 ? "," : "", offset);
        offset += shim_characters(probs[i].token, probs[i].len);
    }
    base_buf_str(out, "]}");
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

static void call_json(struct base_buf *out, const struct shim_call *call)
{
    base_buf_str(out, "\"id\":");
    text(out, call->id);
    base_buf_str(out, ",\"type\":\"function\",\"function\":{\"name\":");
    text(out, call->name);
    base_buf_str(out, ",\"arguments\":");
    text(out, call->arguments);
    base_buf_str(out, "}}");
}

static void calls_json(struct base_buf *out, const struct shim_call *calls, size_t count)
{
    base_buf_u8(out, '[');
    for (size_t i = 0; i < count; i++) {
        base_buf_str(out, i > 0 ? ",{" : "{");
        call_json(out, &calls[i]);
    }
    base_buf_u8(out, ']');
}

void shim_call_delta_json(struct base_buf *out, const struct shim_call *call, size_t index)
{
    base_buf_fmt(out, "[{\"index\":%zu,", index);
    call_json(out, call);
    base_buf_u8(out, ']');
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

void shim_choice_split(const struct shim_choice *c, struct shim_choice *ret_before, struct shim_choice *ret_behind)
{
    const size_t len = c->call_count > 0 ? c->content_len - BASE_MIN(c->behind_len, c->content_len) : c->content_len;
    size_t tokens = 0;

    for (size_t at = 0; tokens < c->prob_count && (len == c->content_len || at < len); tokens++)
        at += c->probs[tokens].len;
    *ret_before = (struct shim_choice){
        .index = c->index, .content = c->content, .content_len = len, .probs = c->probs, .prob_count = tokens};
    *ret_behind = (struct shim_choice){.index = c->index,
                                       .content = c->content + len,
                                       .content_len = c->content_len - len,
                                       .probs = tokens < c->prob_count ? c->probs + tokens : NULL,
                                       .prob_count = c->prob_count - tokens};
}

static void chat_choice(struct base_buf *out, const struct shim_style *style, const struct shim_choice *c)
{
    base_buf_fmt(out, "{\"index\":%" PRIu32 ",\"message\":{\"role\":\"assistant\",\"content\":", c->index);
    if (c->call_count > 0 && c->content_len == 0)
        base_buf_str(out, "null");
    else
        base_json_str(out, c->content, c->content_len);
    base_buf_str(out, ",\"refusal\":null");
    if (c->call_count > 0) {
        base_buf_str(out, ",\"tool_calls\":");
        calls_json(out, c->calls, c->call_count);
    }
    base_buf_str(out, "},\"logprobs\":");
    chat_probs_json(out, style, c);
}

static void completion_choice(struct base_buf *out, const struct shim_style *style, const struct shim_choice *c)
{
    base_buf_fmt(out, "{\"index\":%" PRIu32 ",\"text\":", c->index);
    base_json_str(out, c->content, c->content_len);
    base_buf_str(out, ",\"logprobs\":");
    if (style->logprobs)
        shim_completion_probs_json(out, c->probs, c->prob_count, style->top_logprobs, 0);
    else
        base_buf_str(out, "null");
}

void shim_answer_json(struct base_buf *out, const struct shim_style *style, const struct shim_answer *a,
                      const struct shim_trace *trace)
{
    const bool chat = style->kind == SHIM_CHAT;

    if (style->kind == SHIM_RESPONSE) {
        base_buf_u8(out, '{');
        shim_response_json(out, style, trace, a->model, a->created_unix,
                           shim_response_status(a->choices[0].finish_reason), a);
        base_buf_u8(out, '}');
        return;
    }
    base_buf_str(out, chat ? "{\"id\":\"chatcmpl-" : "{\"id\":\"cmpl-");
    base_buf_str(out, trace->request_id);
    base_buf_fmt(out, "\",\"object\":\"%s\",\"created\":%" PRIu64 ",\"model\":",
                 chat ? "chat.completion" : "text_completion", a->created_unix);
    text(out, a->model);
    if (a->fingerprint != NULL && a->fingerprint[0] != '\0') {
        base_buf_str(out, ",\"system_fingerprint\":");
        text(out, a->fingerprint);
    }
    if (style->said != NULL)
        base_buf_str(out, style->said);
    base_buf_str(out, ",\"choices\":[");
    for (size_t i = 0; i < a->choice_count; i++) {
        base_buf_str(out, i > 0 ? "," : "");
        if (chat)
            chat_choice(out, style, &a->choices[i]);
        else
            completion_choice(out, style, &a->choices[i]);
        base_buf_str(out, ",\"finish_reason\":");
        text(out, a->choices[i].finish_reason != NULL ? a->choices[i].finish_reason : "stop");
        base_buf_u8(out, '}');
    }
    base_buf_str(out, "],\"usage\":");
    shim_usage_json(out, style->kind, a);
    base_buf_str(out, ",\"dsmil\":");
    shim_trace_json(out, trace);
    base_buf_u8(out, '}');
}

/* ---- vectors ---------------------------------------------------------------------------------------------------- */

static void floats(struct base_buf *out, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i + 4 <= len; i += 4) {
        const uint32_t bits =
            (uint32_t)data[i] | (uint32_t)data[i + 1] << 8 | (uint32_t)data[i + 2] << 16 | (uint32_t)data[i + 3] << 24;
        float v;
        memcpy(&v, &bits, sizeof v);
        base_buf_fmt(out, "%s%.9g", i > 0 ? "," : "", isfinite(v) ? (double)v : 0.0);
    }
}

void shim_vectors_json(struct base_buf *out, const struct shim_vectors *v, bool as_base64,
                       const struct shim_trace *trace)
{
    base_buf_str(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < v->count; i++) {
        base_buf_fmt(out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":%c", i > 0 ? "," : "", i,
                     as_base64 ? '"' : '[');
        if (as_base64)
            base_base64(out, v->values[i], v->bytes[i]);
        else
            floats(out, v->values[i], v->bytes[i]);
        base_buf_str(out, as_base64 ? "\"}" : "]}");
    }
    base_buf_str(out, "],\"model\":");
    text(out, v->model);
    base_buf_fmt(out,
                 ",\"usage\":{\"prompt_tokens\":%" PRIu32 ",\"total_tokens\":%" PRIu32 "},\"dsmil\":", v->prompt_tokens,
                 v->prompt_tokens);
    shim_trace_json(out, trace);
    base_buf_u8(out, '}');
}
