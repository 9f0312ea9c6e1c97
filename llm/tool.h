/* SPDX-License-Identifier: Apache-2.0
 *
 * tool.h - what the verbs of the command line tool share.
 */
#ifndef LLM_TOOL_H
#define LLM_TOOL_H

#include "llm.h"

struct tool_args {
    const char *model, *prompt, *system, *tokens, *out, *kernel, *text;
    const char *rest[4]; /* what is no option */
    size_t rest_count;
    uint32_t n, prompt_tokens, threads, top_k, ctx;
    float temperature, top_p;
    double min_retention;
    uint64_t seed;
    bool raw, special, json;
};

/* Prints the diag and returns 1. */
int tool_fail(dbe_err err, const struct dbe_diag *diag);
/* Loads args->model; NULL after printing why not. */
struct llm_model *tool_load(const struct tool_args *args);

/* Prints the usage and returns 2. */
int tool_usage(void);

int tool_quantize(const struct tool_args *args);
int tool_bench(const struct tool_args *args);
int tool_perplexity(const struct tool_args *args);

#endif
