/* SPDX-License-Identifier: Apache-2.0
 *
 * tool_embed.c - the verb embed: a text as a vector of length one, for search and comparison.
 */
#include <stdio.h>
#include <string.h>

#include "tool.h"

enum { JSON_MAX = 16 << 20 };

static int print(const struct tool_args *a, const float *v, uint32_t n, size_t tokens)
{
    struct base_buf out;

    base_buf_init(&out, JSON_MAX);
    if (a->json)
        base_buf_fmt(&out, "{\"tokens\":%zu,\"embedding\":[", tokens);
    for (uint32_t i = 0; i < n; i++)
        base_buf_fmt(&out, "%s%.8g", i == 0 ? "" : a->json ? "," : " ", (double)v[i]);
    if (a->json)
        base_buf_str(&out, "]}");
    return tool_print(&out);
}

static int embed(const struct tool_args *a, struct llm_model *m)
{
    const uint32_t n = llm_model_info(m)->n_embd;
    BASE_AUTO_FREE float *v = base_alloc(n, sizeof *v);
    struct llm_tokens t = {0};
    struct dbe_diag diag = {0};
    const unsigned flags = LLM_TOKENIZE_BOS | (a->special ? LLM_TOKENIZE_SPECIAL : 0);
    dbe_err err = v ? llm_tokenize(m, a->prompt, strlen(a->prompt), flags, &t) : DBE_E_NOMEM;

    if (err == DBE_OK)
        err = llm_embed(m, t.ids, t.count, v, &diag);
    const size_t count = t.count;
    llm_tokens_free(&t);
    return err == DBE_OK ? print(a, v, n, count) : tool_fail(err, &diag);
}

int tool_embed(const struct tool_args *a)
{
    struct llm_model *m;

    if (!a->prompt)
        return tool_wrong("embed needs -p TEXT");
    m = tool_load(a);
    if (!m)
        return 1;
    const int status = embed(a, m);
    llm_model_free(m);
    return status;
}
