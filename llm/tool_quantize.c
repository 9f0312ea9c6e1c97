/* SPDX-License-Identifier: Apache-2.0
 *
 * tool_quantize.c - the verb quantize: says what the new file kept of the old, or why there is none.
 */
#include <math.h>
#include <stdio.h>

#include "base/base.h"
#include "tool.h"

enum { REFUSED = 3 }; /* exit status: it works, but too little was kept */

/* JSON knows no infinity: a model that quantisation broke may well have one. */
static void put_number(const char *key, double value)
{
    if (isfinite(value))
        printf(",\"%s\":%.6g", key, value);
    else
        printf(",\"%s\":null", key);
}

static void print_json(const struct llm_retention *kept, bool refused)
{
    printf("{\"refused\":%s,\"tokens\":%zu", refused ? "true" : "false", kept->tokens);
    put_number("top1", kept->top1);
    put_number("kl", kept->kl);
    put_number("ppl_original", kept->ppl_original);
    put_number("ppl_ratio", kept->ppl_ratio);
    puts("}");
}

static void print(const struct tool_args *a, const struct llm_retention *kept, bool refused)
{
    if (a->json)
        print_json(kept, refused);
    else if (kept->tokens == 0)
        printf("quantised already: nothing was measured\n");
    else if (!refused)
        printf("kept %.2f %% of the greedy choices over %zu tokens; KL %.4f; perplexity %.4f, times %.4f\n",
               100 * kept->top1, kept->tokens, kept->kl, kept->ppl_original, kept->ppl_ratio);
}

int tool_quantize(const struct tool_args *a)
{
    struct llm_quantize_params params = {.min_top1 = a->min_retention, .threads = a->threads};
    struct llm_retention kept = {0};
    struct dbe_diag diag = {0};
    struct base_buf text;
    dbe_err err = DBE_OK;

    if (a->rest_count != 2)
        return tool_wrong("quantize needs IN.gguf and OUT.gguf");
    base_buf_init(&text, LLM_TEXT_BYTES_MAX);
    if (a->text)
        err = base_file_read(a->text, LLM_TEXT_BYTES_MAX, &text, &diag);
    if (err == DBE_OK) {
        params.text = a->text ? (const char *)text.data : NULL;
        params.text_len = text.len;
        err = llm_quantize_file(a->rest[0], a->rest[1], &params, &kept, &diag);
    }
    base_buf_free(&text);
    if (err == DBE_OK || err == DBE_E_RANGE)
        print(a, &kept, err != DBE_OK);
    if (err == DBE_E_RANGE) /* which what was printed says as well */
        tool_say(err, &diag);
    return err == DBE_OK ? 0 : err == DBE_E_RANGE ? REFUSED : tool_fail(err, &diag);
}
