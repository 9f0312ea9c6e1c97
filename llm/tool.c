/* SPDX-License-Identifier: Apache-2.0
 *
 * tool.c - the engine from the command line: the table of verbs and what they share. For people and scripts that look
 * at a model; the mesh serves models through device 47.
 */
#include "tool.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "grammar.h"

enum { JSON_ERROR_MAX = 4096 };

static const char usage[] =
    "usage: dsmil llm VERB -m MODEL.gguf [options]\n"
    "  run        -p PROMPT [-n TOKENS] [--system TEXT] [--raw] [--special] [--json]\n"
    "             [--temp T] [--top-k K] [--top-p P] [--min-p P] [--seed S] [--stop TEXT] ...\n"
    "             [--repeat-penalty R] [--presence P] [--frequency F] [--logit-bias ID=VALUE] ... [--lookup TOKENS]\n"
    "             [--logprobs N] [--echo] [--n ANSWERS] [--json-object | --schema FILE]\n"
    "             [--draft MODEL [--draft-tokens N]]\n"
    "             or -i: a conversation, line by line; Ctrl-C stops an answer, Ctrl-D ends\n"
    "  info       [--json]   what the model is and what memory it needs\n"
    "  logits     --tokens 1,2,3 [--out FILE | --json]   float32 after each token to FILE, else the best of the last\n"
    "  embed      -p TEXT [--special] [--json]   a vector of length 1\n"
    "  tokenize   TEXT | --file FILE [--special] [--json]\n"
    "  perplexity FILE [--ctx TOKENS] [--json]\n"
    "  bench      [-p PROMPT_TOKENS | --tokens 1,2,3] [-n TOKENS] [--sessions N] [--lookup TOKENS]\n"
    "             [--draft MODEL [--draft-tokens N]] [--echo --logprobs N] [--json]\n"
    "  quantize   IN.gguf OUT.gguf [--min-retention 0.95] [--text FILE] [--json]   exit 3: too little kept\n"
    "common: -t THREADS, --kernel NAME, --kv-type f16|int8, --kv-mib MIB\n";

static bool json_asked; /* by the command line, whatever else stands there */

/* One document where JSON was asked for, also when there is nothing else to tell. */
static void print_error(dbe_err err, const char *why)
{
    struct base_buf out;

    if (!json_asked)
        return;
    base_buf_init(&out, JSON_ERROR_MAX);
    base_buf_fmt(&out, "{\"error\":{\"code\":\"%s\",\"message\":", dbe_err_name(err));
    base_json_str(&out, why, strlen(why));
    base_buf_str(&out, "}}\n");
    fwrite(out.data, 1, out.len, stdout);
    base_buf_free(&out);
}

int tool_wrong(const char *fmt, ...)
{
    struct dbe_diag diag = {0};
    va_list args;

    va_start(args, fmt);
    vsnprintf(diag.text, sizeof diag.text, fmt, args);
    va_end(args);
    fprintf(stderr, "dsmil: llm: %s; `dsmil llm --help` tells how\n", diag.text);
    print_error(DBE_E_ARGUMENT, diag.text);
    return TOOL_USAGE;
}

static const char *words_of(dbe_err err, const struct dbe_diag *diag)
{
    return diag && diag->text[0] ? diag->text : dbe_err_text(err);
}

void tool_say(dbe_err err, const struct dbe_diag *diag)
{
    fprintf(stderr, "dsmil: llm: %s (%s)\n", words_of(err, diag), dbe_err_name(err));
}

int tool_fail(dbe_err err, const struct dbe_diag *diag)
{
    tool_say(err, diag);
    print_error(err, words_of(err, diag));
    return 1;
}

int tool_finish(int code)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return code;
    tool_say(DBE_E_IO, &(struct dbe_diag){.text = "what was to be printed is not whole"});
    return code != 0 ? code : 1;
}

struct llm_model *tool_load(const struct tool_args *args)
{
    const struct llm_model_params params = {.threads = args->threads,
                                            .kernel = args->kernel,
                                            .kv_type = args->kv_type,
                                            .kv_budget_bytes = (size_t)args->kv_mib << 20};
    struct dbe_diag diag = {0}, named = {0};
    struct llm_model *m;
    dbe_err err;

    err = llm_model_load(args->model, &params, &m, &diag);
    if (err != DBE_OK) {
        if (strstr(words_of(err, &diag), args->model) == NULL)
            (void)snprintf(named.text, sizeof named.text, "%.90s: %.95s", args->model, words_of(err, &diag));
        tool_fail(err, named.text[0] != '\0' ? &named : &diag);
        return NULL;
    }
    return m;
}

dbe_err tool_load_draft(const struct tool_args *args, struct llm_model **ret, struct dbe_diag *diag)
{
    const struct llm_model_params params = {.threads = args->threads, .kernel = args->kernel};

    return llm_model_load(args->draft, &params, ret, diag);
}

dbe_err tool_grammar(const struct tool_args *a, struct llm_grammar **ret, struct dbe_diag *diag)
{
    struct base_buf text = {0};
    dbe_err err;

    if (!a->schema)
        return a->json_object ? llm_grammar_json(ret, diag) : DBE_OK;
    err = base_file_read(a->schema, LLM_SCHEMA_BYTES_MAX, &text, diag);
    if (err == DBE_OK)
        err = llm_grammar_schema((const char *)text.data, text.len, ret, diag);
    base_buf_free(&text);
    return err;
}

int tool_print(struct base_buf *out)
{
    const dbe_err err = out->err;

    if (err == DBE_OK) {
        fwrite(out->data, 1, out->len, stdout);
        fputc('\n', stdout);
    }
    base_buf_free(out);
    return err == DBE_OK ? 0 : tool_fail(err, NULL);
}

void tool_print_text(const char *text, size_t len)
{
    struct base_buf shown;

    if (isatty(STDOUT_FILENO) != 1) {
        fwrite(text, 1, len, stdout);
        return;
    }
    base_buf_init(&shown, len + 1);
    base_text_shown(&shown, text, len, true);
    fwrite(shown.data, 1, shown.len, stdout);
    base_buf_free(&shown);
}

int llm_tool_main(int argc, char **argv)
{
    static const struct {
        const char *verb;
        int (*run)(const struct tool_args *);
    } verbs[] = {{"run", tool_run},           {"info", tool_info},
                 {"logits", tool_logits},     {"embed", tool_embed},
                 {"tokenize", tool_tokenize}, {"bench", tool_bench},
                 {"quantize", tool_quantize}, {"perplexity", tool_perplexity}};
    struct tool_args a = {.min_retention = LLM_RETENTION_MIN};

    json_asked = false;
    for (int i = 0; i < argc; i++) {
        json_asked = json_asked || strcmp(argv[i], "--json") == 0;
        if (i <= 1 && (strcmp(argv[i], "--help") == 0 || (i == 0 && strcmp(argv[i], "help") == 0))) {
            fputs(usage, stdout);
            return 0;
        }
    }
    if (argc < 1)
        return tool_wrong("which verb?");
    for (size_t i = 0; i < BASE_ARRAY_LEN(verbs); i++) {
        if (strcmp(argv[0], verbs[i].verb) != 0)
            continue;
        if (!tool_parse(&a, argc, argv))
            return TOOL_USAGE;
        if (!a.model && verbs[i].run != tool_quantize)
            return tool_wrong("%s needs -m MODEL.gguf", argv[0]);
        return verbs[i].run(&a);
    }
    return tool_wrong("no verb \"%s\"", argv[0]);
}
