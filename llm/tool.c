/* SPDX-License-Identifier: Apache-2.0
 *
 * tool.c - the engine from the command line: run, info, logits, tokenize, quantize; bench and perplexity are in
 * tool_bench.c. For people and scripts that look at a model; the mesh serves models through device 47.
 */
#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

enum { TOKENS_MAX = 1 << 17, ANSWER_DEFAULT = 256 };

static const char usage[] =
    "usage: dsmil llm VERB -m MODEL.gguf [options]\n"
    "  run        -p PROMPT [-n TOKENS] [--temp T] [--top-p P] [--top-k K] [--seed S] [--system TEXT] [--raw]\n"
    "  info       what the model is and what it needs\n"
    "  logits     --tokens 1,2,3 [--out FILE]   float32 after each token, to FILE; else the five best of the last\n"
    "  tokenize   TEXT [--special]\n"
    "  perplexity FILE [--ctx TOKENS]\n"
    "  bench      [-p PROMPT_TOKENS] [-n TOKENS] [--json]\n"
    "  quantize   IN.gguf OUT.gguf [--min-retention 0.95] [--text FILE] [--json]   exit 3: too little kept\n"
    "common: -t THREADS, --kernel NAME\n";

int tool_usage(void)
{
    fputs(usage, stderr);
    return 2;
}

int tool_fail(dbe_err err, const struct dbe_diag *diag)
{
    fprintf(stderr, "dsmil llm: %s: %s\n", dbe_err_name(err), diag && diag->text[0] ? diag->text : dbe_err_text(err));
    return 1;
}

struct llm_model *tool_load(const struct tool_args *args)
{
    const struct llm_model_params params = {.threads = args->threads, .kernel = args->kernel};
    struct dbe_diag diag = {0};
    struct llm_model *m;
    dbe_err err;

    if (!args->model) {
        fputs(usage, stderr);
        return NULL;
    }
    err = llm_model_load(args->model, &params, &m, &diag);
    if (err != DBE_OK) {
        tool_fail(err, &diag);
        return NULL;
    }
    return m;
}

/* ---- verbs ------------------------------------------------------------------------------------------------------- */

static dbe_err make_prompt(const struct tool_args *a, struct llm_model *m, struct llm_tokens *out,
                           struct dbe_diag *diag)
{
    struct llm_message msgs[2];
    size_t count = 0;

    if (a->raw)
        return llm_tokenize(m, a->prompt, strlen(a->prompt), LLM_TOKENIZE_BOS | (a->special ? LLM_TOKENIZE_SPECIAL : 0),
                            out);
    if (a->system)
        msgs[count++] = (struct llm_message){"system", a->system, strlen(a->system)};
    msgs[count++] = (struct llm_message){"user", a->prompt, strlen(a->prompt)};
    return llm_chat_render(m, msgs, count, out, diag);
}

static dbe_err generate(struct llm_session *s)
{
    struct llm_piece piece = {0};

    while (!piece.done) {
        DBE_TRY(llm_session_step(s, &piece));
        fwrite(piece.text, 1, piece.text_len, stdout);
        fflush(stdout);
    }
    fprintf(stderr, "\n[%u prompt tokens, %u answer tokens, finish: %s]\n", llm_session_prompt_tokens(s),
            llm_session_answer_tokens(s), piece.finish == LLM_FINISH_STOP ? "stop" : "length");
    return DBE_OK;
}

static int tool_run(const struct tool_args *a)
{
    struct dbe_diag diag = {0};
    struct llm_tokens prompt = {0};
    struct llm_session *s = NULL;
    struct llm_model *m;
    dbe_err err;

    if (!a->prompt) {
        fputs(usage, stderr);
        return 2;
    }
    m = tool_load(a);
    if (!m)
        return 1;
    err = make_prompt(a, m, &prompt, &diag);
    if (err == DBE_OK) {
        const uint32_t n_ctx = llm_model_info(m)->n_ctx;
        const uint32_t left = prompt.count < n_ctx ? n_ctx - (uint32_t)prompt.count : 0;
        const struct llm_session_params params = {.max_tokens = BASE_MIN(a->n ? a->n : ANSWER_DEFAULT, left),
                                                  .temperature = a->temperature,
                                                  .top_k = a->top_k,
                                                  .top_p = a->top_p,
                                                  .seed = a->seed};
        err = llm_session_new(m, prompt.ids, prompt.count, &params, &s, &diag);
    }
    if (err == DBE_OK)
        err = generate(s);
    llm_session_free(s);
    llm_tokens_free(&prompt);
    llm_model_free(m);
    return err == DBE_OK ? 0 : tool_fail(err, &diag);
}

static int tool_info(const struct tool_args *a)
{
    struct llm_model *m = tool_load(a);

    if (!m)
        return 1;
    const struct llm_model_info *i = llm_model_info(m);
    printf("name             %s\narchitecture     %s\nparameters       %" PRIu64 "\nquantisation     %s\n", i->name,
           i->arch, i->n_params, i->quantisation);
    printf("context          %u\nvocabulary       %u (%s)\nchat template    %s\n", i->n_ctx, i->n_vocab, i->tokenizer,
           i->chat_template);
    printf("shape            %u layers, width %u, %u heads (%u kv) of %u, feed-forward %u\n", i->n_layers, i->n_embd,
           i->n_heads, i->n_kv_heads, i->head_dim, i->n_ff);
    printf("weights          %" PRIu64 " bytes\nkv per token     %" PRIu64 " bytes\nkernel           %s, %u threads\n",
           i->weights_bytes, i->kv_bytes_per_token, i->kernel, i->threads);
    llm_model_free(m);
    return 0;
}

static dbe_err parse_tokens(const char *text, struct llm_tokens *out)
{
    BASE_AUTO_FREE int32_t *ids = base_alloc(TOKENS_MAX, sizeof *ids);

    if (!ids)
        return DBE_E_NOMEM;
    while (*text && out->count < TOKENS_MAX) {
        char *end;
        const long v = strtol(text, &end, 10);
        if (end == text || v < 0 || v > INT32_MAX || (*end && *end != ','))
            return DBE_E_ARGUMENT;
        ids[out->count++] = (int32_t)v;
        text = *end ? end + 1 : end;
    }
    out->ids = BASE_TAKE(ids);
    return out->count > 0 && !*text ? DBE_OK : DBE_E_ARGUMENT;
}

static void print_best(const struct llm_model *m, const float *logits)
{
    const uint32_t n = llm_model_info(m)->n_vocab;
    int32_t shown[5];

    for (size_t k = 0; k < BASE_ARRAY_LEN(shown) && k < n; k++) {
        int32_t best = -1;
        for (uint32_t i = 0; i < n; i++) {
            bool seen = false;
            for (size_t j = 0; j < k; j++)
                seen = seen || shown[j] == (int32_t)i;
            if (!seen && (best < 0 || logits[i] > logits[best]))
                best = (int32_t)i;
        }
        size_t len;
        const char *name = llm_token_name(m, best, &len);
        shown[k] = best;
        printf("%8d  %12.6f  %.*s\n", best, (double)logits[best], (int)len, name);
    }
}

static dbe_err write_logits(const struct tool_args *a, struct llm_model *m, const struct llm_tokens *t,
                            struct dbe_diag *diag)
{
    const size_t n = llm_model_info(m)->n_vocab;
    BASE_AUTO_FREE float *logits = base_alloc(t->count, n * sizeof *logits);

    if (!logits)
        return DBE_E_NOMEM;
    DBE_TRY(llm_logits(m, t->ids, t->count, logits, diag));
    if (a->out)
        return base_file_write(a->out, logits, t->count * n * sizeof *logits, 0644, diag);
    print_best(m, logits + (t->count - 1) * n);
    return DBE_OK;
}

static int tool_logits(const struct tool_args *a)
{
    struct dbe_diag diag = {0};
    struct llm_tokens tokens = {0};
    struct llm_model *m;
    dbe_err err = a->tokens ? parse_tokens(a->tokens, &tokens) : DBE_E_ARGUMENT;

    if (err != DBE_OK) {
        llm_tokens_free(&tokens);
        fputs(usage, stderr);
        return 2;
    }
    m = tool_load(a);
    if (m) {
        err = write_logits(a, m, &tokens, &diag);
        if (err != DBE_OK)
            tool_fail(err, &diag);
    }
    llm_tokens_free(&tokens);
    llm_model_free(m);
    return m && err == DBE_OK ? 0 : 1;
}

static int tool_tokenize(const struct tool_args *a)
{
    struct llm_tokens t = {0};
    struct llm_model *m;
    dbe_err err;

    if (a->rest_count != 1) {
        fputs(usage, stderr);
        return 2;
    }
    m = tool_load(a);
    if (!m)
        return 1;
    err =
        llm_tokenize(m, a->rest[0], strlen(a->rest[0]), LLM_TOKENIZE_BOS | (a->special ? LLM_TOKENIZE_SPECIAL : 0), &t);
    for (size_t i = 0; err == DBE_OK && i < t.count; i++) {
        size_t len;
        const char *name = llm_token_name(m, t.ids[i], &len);
        printf("%8d  %.*s\n", t.ids[i], (int)len, name);
    }
    llm_tokens_free(&t);
    llm_model_free(m);
    return err == DBE_OK ? 0 : tool_fail(err, NULL);
}

/* ---- arguments --------------------------------------------------------------------------------------------------- */

static bool number(const char *text, double min, double max, double *ret)
{
    char *end;

    errno = 0;
    *ret = strtod(text, &end);
    return errno == 0 && end != text && !*end && *ret >= min && *ret <= max;
}

/* One option with its value into `a`; false: unknown or out of range. */
static bool set_option(struct tool_args *a, const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **to;
    } texts[] = {{"-m", &a->model},  {"--model", &a->model},   {"--system", &a->system}, {"--tokens", &a->tokens},
                 {"--out", &a->out}, {"--kernel", &a->kernel}, {"--prompt", &a->prompt}, {"--text", &a->text}};
    const struct {
        const char *name;
        uint32_t *to;
    } counts[] = {{"-n", &a->n}, {"-t", &a->threads}, {"--top-k", &a->top_k}, {"--ctx", &a->ctx}};
    double v;

    for (size_t i = 0; i < BASE_ARRAY_LEN(texts); i++)
        if (strcmp(name, texts[i].name) == 0) {
            *texts[i].to = value;
            return true;
        }
    for (size_t i = 0; i < BASE_ARRAY_LEN(counts); i++)
        if (strcmp(name, counts[i].name) == 0 && number(value, 0, 1e9, &v)) {
            *counts[i].to = (uint32_t)v;
            return true;
        }
    if (strcmp(name, "--seed") == 0) {
        char *end;
        a->seed = strtoull(value, &end, 10);
        return end != value && !*end;
    }
    if (strcmp(name, "--temp") == 0 && number(value, 0, 2, &v))
        a->temperature = (float)v;
    else if (strcmp(name, "--top-p") == 0 && number(value, 0, 1, &v))
        a->top_p = (float)v;
    else if (strcmp(name, "--min-retention") == 0 && number(value, 0, 1, &v))
        a->min_retention = v;
    else
        return false;
    return true;
}

static bool set_flag(struct tool_args *a, const char *name)
{
    const struct {
        const char *name;
        bool *to;
    } flags[] = {{"--raw", &a->raw}, {"--special", &a->special}, {"--json", &a->json}};

    for (size_t i = 0; i < BASE_ARRAY_LEN(flags); i++)
        if (strcmp(name, flags[i].name) == 0) {
            *flags[i].to = true;
            return true;
        }
    return false;
}

/* `-p` is the prompt's text for run and its length for bench. */
static bool set_prompt(struct tool_args *a, const char *verb, const char *value)
{
    double v;

    if (strcmp(verb, "bench") != 0) {
        a->prompt = value;
        return true;
    }
    if (!number(value, 1, 1e6, &v))
        return false;
    a->prompt_tokens = (uint32_t)v;
    return true;
}

static bool parse_args(struct tool_args *a, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (set_flag(a, argv[i]))
            continue;
        if (argv[i][0] == '-' && argv[i][1] != '\0') {
            if (i + 1 >= argc || !(strcmp(argv[i], "-p") == 0 ? set_prompt(a, argv[0], argv[i + 1])
                                                              : set_option(a, argv[i], argv[i + 1]))) {
                fprintf(stderr, "dsmil llm: option %s: unknown, or its value is missing or out of range\n", argv[i]);
                return false;
            }
            i++;
        } else if (a->rest_count < BASE_ARRAY_LEN(a->rest)) {
            a->rest[a->rest_count++] = argv[i];
        } else {
            return false;
        }
    }
    return true;
}

int llm_tool_main(int argc, char **argv)
{
    static const struct {
        const char *verb;
        int (*run)(const struct tool_args *);
    } verbs[] = {
        {"run", tool_run},     {"info", tool_info},         {"logits", tool_logits},        {"tokenize", tool_tokenize},
        {"bench", tool_bench}, {"quantize", tool_quantize}, {"perplexity", tool_perplexity}};
    struct tool_args a = {.min_retention = LLM_RETENTION_MIN};

    for (size_t i = 0; argc > 0 && i < BASE_ARRAY_LEN(verbs); i++)
        if (strcmp(argv[0], verbs[i].verb) == 0)
            return parse_args(&a, argc, argv) ? verbs[i].run(&a) : (fputs(usage, stderr), 2);
    fputs(usage, stderr);
    return argc > 0 && strcmp(argv[0], "help") == 0 ? 0 : 2;
}
