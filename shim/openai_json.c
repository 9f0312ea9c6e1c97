/* SPDX-License-Identifier: Apache-2.0
 *
 * openai_json.c - answers, model lists and errors as OpenAI's JSON.
 *
 * In:   structs of openai.h
 * Out:  JSON text appended to a base_buf (its error sticks; the caller checks once)
 * Not:  no parsing; text that is not UTF-8 becomes U+FFFD, so the output is valid JSON whatever a model said
 */
#include "shim/openai.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void text(struct base_buf *out, const char *s)
{
    base_json_str(out, s, strlen(s));
}

static void text_or_null(struct base_buf *out, const char *s)
{
    if (s == NULL || s[0] == '\0')
        base_buf_str(out, "null");
    else
        text(out, s);
}

/* ---- errors ----------------------------------------------------------------------------------------------------- */

static const char *type_of_status(int status)
{
    switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 429: return "rate_limit_error";
    default: return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

dbe_err shim_problem_set(struct shim_problem *p, int status, const char *code, const char *param, const char *fmt, ...)
{
    va_list args;

    memset(p, 0, sizeof *p);
    p->status = status;
    p->type = type_of_status(status);
    p->code = code;
    (void)snprintf(p->param, sizeof p->param, "%s", param != NULL ? param : "");
    va_start(args, fmt);
    (void)vsnprintf(p->message, sizeof p->message, fmt, args);
    va_end(args);
    return DBE_E_ARGUMENT;
}

/* Errors with a meaning of their own over HTTP; the rest follow from their class. */
static const struct mesh_row {
    dbe_err err;
    int status;
    const char *code;
    uint32_t retry_after_s;
} mesh_rows[] = {
    {DBE_E_UNAVAILABLE, 503, "service_unavailable", 1},
    {DBE_E_CLOSED, 503, "service_unavailable", 1},
    {DBE_E_AGAIN, 503, "service_unavailable", 1},
    {DBE_E_NOMEM, 503, "out_of_memory", 1},
    {DBE_E_CANCELLED, 503, "cancelled", 1},
    {DBE_E_TIMEOUT, 504, "timeout", 0},
    {DBE_E_CONTEXT, 400, "context_length_exceeded", 0},
    {DBE_E_TOO_LARGE, 413, "request_too_large", 0},
    {DBE_E_PROFILE, 404, "model_not_found", 0},
    {DBE_E_RANGE, 400, "invalid_value", 0},
    {DBE_E_UTF8, 400, "invalid_value", 0},
    {DBE_E_ARGUMENT, 400, "invalid_value", 0},
    {DBE_E_LIMIT, 429, "rate_limit_exceeded", 1},
};

static struct mesh_row mesh_row_of(dbe_err err)
{
    for (size_t i = 0; i < BASE_ARRAY_LEN(mesh_rows); i++)
        if (mesh_rows[i].err == err)
            return mesh_rows[i];
    switch (dbe_err_class(err)) {
    case DBE_CLASS_DENY: return (struct mesh_row){err, 403, "policy_denied", 0};
    case DBE_CLASS_LIMIT: return (struct mesh_row){err, 429, "rate_limit_exceeded", 1};
    case DBE_CLASS_RETRY: return (struct mesh_row){err, 503, "service_unavailable", 1};
    case DBE_CLASS_DROP:
    case DBE_CLASS_PEER: return (struct mesh_row){err, 502, "bad_gateway", 0};
    default: return (struct mesh_row){err, 500, "internal_error", 0};
    }
}

/* A worker's reason begins with the field that it does not like: "logit_bias: the model has no such token". */
static void name_param(struct shim_problem *p, const char *reason)
{
    size_t len = strspn(reason, "abcdefghijklmnopqrstuvwxyz_");

    if (len > 0 && (reason[len] == ':' || reason[len] == '[') && len < sizeof p->param) {
        memcpy(p->param, reason, len);
        p->param[len] = '\0';
    }
}

void shim_problem_of_mesh(struct shim_problem *p, dbe_err err, const char *reason, const char *rule,
                          uint32_t retry_after_ms)
{
    struct mesh_row row = mesh_row_of(err);
    const char *why = reason != NULL && reason[0] != '\0' ? reason : dbe_err_text(err);

    if (rule != NULL && rule[0] != '\0')
        (void)shim_problem_set(p, row.status, row.code, NULL, "%s: %.160s (rule %.40s)", dbe_err_name(err), why, rule);
    else
        (void)shim_problem_set(p, row.status, row.code, NULL, "%s: %.160s", dbe_err_name(err), why);
    if (err == DBE_E_PROFILE)
        (void)snprintf(p->param, sizeof p->param, "model");
    else if (row.status == 400)
        name_param(p, why);
    p->retry_after_s = row.retry_after_s;
    if (row.retry_after_s != 0 && retry_after_ms != 0) {
        p->retry_after_ms = BASE_MIN(retry_after_ms, 3600000u);
        p->retry_after_s = (p->retry_after_ms - 1) / 1000 + 1;
    }
}

void shim_problem_json(struct base_buf *out, const struct shim_problem *p, const char *request_id)
{
    base_buf_str(out, "{\"error\":{\"message\":");
    text(out, p->message);
    base_buf_str(out, ",\"type\":");
    text(out, p->type);
    base_buf_str(out, ",\"param\":");
    text_or_null(out, p->param);
    base_buf_str(out, ",\"code\":");
    text_or_null(out, p->code);
    if (request_id != NULL && request_id[0] != '\0') {
        base_buf_str(out, ",\"request_id\":");
        text(out, request_id);
    }
    base_buf_str(out, "}}");
}

/* ---- models ----------------------------------------------------------------------------------------------------- */

void shim_model_json(struct base_buf *out, const struct shim_model *model)
{
    base_buf_str(out, "{\"id\":");
    text(out, model->id);
    base_buf_fmt(out, ",\"object\":\"model\",\"created\":%" PRIu64 ",\"owned_by\":\"dsmil\",\"dsmil\":{\"profile\":",
                 model->created_unix);
    text(out, model->profile);
    base_buf_fmt(out, ",\"device\":%" PRIu32 ",\"context_tokens\":%" PRIu32 "}}", model->device_id,
                 model->context_tokens);
}

void shim_models_json(struct base_buf *out, const struct shim_models *models)
{
    base_buf_str(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < models->count; i++) {
        if (i > 0)
            base_buf_u8(out, ',');
        shim_model_json(out, &models->list[i]);
    }
    base_buf_str(out, "]}");
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

void shim_usage_json(struct base_buf *out, enum shim_kind kind, const struct shim_answer *a)
{
    const uint64_t total = (uint64_t)a->prompt_tokens + a->completion_tokens;

    if (kind == SHIM_RESPONSE)
        base_buf_fmt(out,
                     "{\"input_tokens\":%" PRIu32 ",\"input_tokens_details\":{\"cached_tokens\":%" PRIu32
                     ",\"cache_write_tokens\":0}"
                     ",\"output_tokens\":%" PRIu32
                     ",\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":%" PRIu64 "}",
                     a->prompt_tokens, a->cached_tokens, a->completion_tokens, total);
    else
        base_buf_fmt(out,
                     "{\"prompt_tokens\":%" PRIu32 ",\"completion_tokens\":%" PRIu32 ",\"total_tokens\":%" PRIu64
                     ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRIu32 "}}",
                     a->prompt_tokens, a->completion_tokens, total, a->cached_tokens);
}

void shim_compartments_json(struct base_buf *out, uint32_t mask)
{
    bool first = true;

    base_buf_u8(out, '[');
    for (uint32_t bit = 1; bit != 0; bit <<= 1) {
        const struct dbe_num_row *row = (mask & bit) != 0 ? dbe_reg_compartment(bit) : NULL;
        if (row == NULL)
            continue;
        if (!first)
            base_buf_u8(out, ',');
        text(out, row->name);
        first = false;
    }
    base_buf_u8(out, ']');
}

void shim_trace_json(struct base_buf *out, const struct shim_trace *trace)
{
    base_buf_str(out, "{\"request_id\":");
    text(out, trace->request_id);
    base_buf_str(out, ",\"path\":[");
    for (size_t i = 0; i < trace->hop_count; i++) {
        base_buf_fmt(out, "%s{\"device\":%" PRIu32 ",\"name\":", i > 0 ? "," : "", trace->hops[i].device);
        text_or_null(out, trace->hops[i].name);
        base_buf_fmt(out, ",\"elapsed_ms\":%" PRIu32 ".%03" PRIu32 ",\"suite\":", trace->hops[i].elapsed_us / 1000,
                     trace->hops[i].elapsed_us % 1000);
        text_or_null(out, trace->hops[i].suite);
        base_buf_u8(out, '}');
    }
    base_buf_str(out, "],\"suite\":");
    text_or_null(out, trace->suite);
    base_buf_fmt(out, ",\"handshake_ms\":%" PRIu64 ".%03" PRIu64 ",\"classification\":", trace->handshake_us / 1000,
                 trace->handshake_us % 1000);
    text_or_null(out, trace->classification);
    base_buf_str(out, ",\"compartments\":");
    shim_compartments_json(out, trace->compartments);
    base_buf_str(out, ",\"roe_level\":");
    text_or_null(out, trace->roe_level);
    base_buf_str(out, ",\"tenant\":");
    text_or_null(out, trace->tenant);
    base_buf_str(out, trace->sealed ? ",\"sealed\":true" : "");
    if (trace->receipt != NULL) {
        base_buf_str(out, ",\"receipt\":\"");
        base_base64(out, trace->receipt, trace->receipt_len);
        base_buf_str(out, "\",\"receipt_request\":\"");
        base_base64(out, trace->receipt_request, trace->receipt_request_len);
        base_buf_u8(out, '"');
    }
    base_buf_u8(out, '}');
}
