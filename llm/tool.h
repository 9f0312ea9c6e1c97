/* SPDX-License-Identifier: Apache-2.0
 *
 * tool.h - what the verbs of the command line tool share.
 */
#ifndef LLM_TOOL_H
#define LLM_TOOL_H

#include "base/base.h"
#include "llm.h"

enum { TOOL_USAGE = 2, TOOL_BIASES_MAX = 64 };

struct tool_args {
    const char *model, *prompt, *system, *tokens, *out, *kernel, *kv_type, *text, *draft, *schema, *file;
    const char *rest[4]; /* what is no option */
    size_t rest_count;
    uint32_t n, prompt_tokens, threads, ctx, kv_mib, sessions, answers;
    struct llm_session_params sampling; /* stops and biases point into this struct */
    const char *stops[LLM_STOPS_MAX];
    struct llm_logit_bias biases[TOOL_BIASES_MAX];
    double min_retention;
    bool raw, special, json, json_object, interactive;
};

/* tool_args.c: argv[0] is the verb. False after saying on stderr what was wrong. */
bool tool_parse(struct tool_args *args, int argc, char **argv);

/* tool.c */
/* Says what cannot be meant, as JSON as well where that was asked for; TOOL_USAGE. */
int tool_wrong(const char *fmt, ...) DBE_PRINTF(1, 2);
/* Says what failed on stderr. */
void tool_say(dbe_err err, const struct dbe_diag *diag);
/* The same, as JSON as well where that was asked for: once, for a verb that prints nothing else. Returns 1. */
int tool_fail(dbe_err err, const struct dbe_diag *diag);
/* For a program of its own, at its end: what was printed has arrived, or that is said. `code`, or 1. */
int tool_finish(int code);
/* Loads args->model; NULL after printing why not. */
struct llm_model *tool_load(const struct tool_args *args);
/* tool_show.c: "1,2,3". E_ARGUMENT: not such a list, or empty; E_NOMEM. */
dbe_err tool_parse_tokens(const char *text, struct llm_tokens *out) DBE_MUST_CHECK;
/* Loads args->draft, which must be given. */
dbe_err tool_load_draft(const struct tool_args *args, struct llm_model **ret, struct dbe_diag *diag) DBE_MUST_CHECK;
/* The grammar that --schema or --json-object asks for, else *ret is left. */
dbe_err tool_grammar(const struct tool_args *args, struct llm_grammar **ret, struct dbe_diag *diag);
/* Prints the buffer and a newline, and frees it. Exit status. */
int tool_print(struct base_buf *out);
/* Prints what a model said: as it is to a file or pipe, without what would steer it to a terminal. */
void tool_print_text(const char *text, size_t len);

int tool_run(const struct tool_args *args);
int tool_chat(const struct tool_args *args); /* run -i */
int tool_info(const struct tool_args *args);
int tool_embed(const struct tool_args *args);
int tool_logits(const struct tool_args *args);
int tool_tokenize(const struct tool_args *args);
int tool_quantize(const struct tool_args *args);
int tool_bench(const struct tool_args *args);
int tool_perplexity(const struct tool_args *args);

#endif
