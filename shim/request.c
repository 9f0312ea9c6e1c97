/* SPDX-License-Identifier: Apache-2.0
 *
 * request.c - the life of a parsed request: its end, and what of it outlives it for the writer of the answer.
 *
 * In:   struct shim_req     Out: struct shim_style
 * Not:  no parsing (params.c)
 */
#include <string.h>

#include "shim/read.h"

static void free_text(char *text)
{
    if (text != NULL)
        base_wipe(text, strlen(text));
    base_free(text);
}

static void free_message(struct shim_message *m)
{
    free_text(m->content);
    free_text(m->call_id);
    for (size_t i = 0; i < m->call_count; i++) {
        free_text(m->calls[i].id);
        free_text(m->calls[i].name);
        free_text(m->calls[i].arguments);
    }
    base_free(m->calls);
}

void shim_tool_free(struct shim_tool *tool)
{
    free_text(tool->name);
    free_text(tool->description);
    free_text(tool->parameters);
    memset(tool, 0, sizeof *tool);
}

void shim_req_free(struct shim_req *req)
{
    char *const texts[] = {req->schema,       req->user, req->safety_identifier, req->format_note,
                           req->instructions, req->said, req->roe_token};

    for (size_t i = 0; i < req->message_count; i++)
        free_message(&req->messages[i]);
    for (size_t i = 0; i < req->tool_count; i++)
        shim_tool_free(&req->tools[i]);
    for (size_t i = 0; i < req->allowed_count; i++)
        free_text(req->allowed[i]);
    for (size_t i = 0; i < req->stop_count; i++)
        free_text(req->stop[i]);
    for (size_t i = 0; i < req->input_count; i++)
        free_text(req->inputs[i]);
    for (size_t i = 0; i < BASE_ARRAY_LEN(texts); i++)
        free_text(texts[i]);
    for (size_t i = 0; i < req->token_count; i++)
        base_free(req->tokens[i].ids);
    base_free(req->tokens);
    base_free(req->messages);
    base_free(req->tools);
    base_free(req->allowed);
    base_free(req->inputs);
    base_free(req->biases);
    memset(req, 0, sizeof *req);
}

void shim_style_of(struct shim_req *req, struct shim_style *ret)
{
    *ret = (struct shim_style){.kind = req->kind,
                               .logprobs = req->logprobs,
                               .include_usage = req->include_usage,
                               .top_logprobs = req->top_logprobs,
                               .echo = req->echo,
                               .said = req->said};
    req->said = NULL;
}

void shim_style_free(struct shim_style *style)
{
    free_text(style->said);
    memset(style, 0, sizeof *style);
}
