/* SPDX-License-Identifier: Apache-2.0
 *
 * tool_args.c - the tool's options, by table; ranges are those of llm.h, checked here so that the message names the
 * option.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static bool number(const char *text, double min, double max, double *ret)
{
    char *end;

    errno = 0;
    *ret = strtod(text, &end);
    return errno == 0 && end != text && !*end && *ret >= min && *ret <= max;
}

/* "ID=VALUE" */
static bool set_bias(struct tool_args *a, const char *value)
{
    const char *equals = strchr(value, '=');
    double v;
    char *end;

    if (!equals || a->sampling.bias_count == TOOL_BIASES_MAX)
        return false;
    errno = 0;
    const long id = strtol(value, &end, 10);
    if (errno != 0 || end != equals || id < 0 || id > INT32_MAX || !number(equals + 1, -100, 100, &v))
        return false;
    a->biases[a->sampling.bias_count++] = (struct llm_logit_bias){(int32_t)id, (float)v};
    a->sampling.biases = a->biases;
    return true;
}

static bool set_stop(struct tool_args *a, const char *value)
{
    if (a->sampling.stop_count == LLM_STOPS_MAX)
        return false;
    a->stops[a->sampling.stop_count++] = value;
    a->sampling.stops = a->stops;
    return true;
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

static bool set_seed(struct tool_args *a, const char *value)
{
    char *end;

    errno = 0;
    a->sampling.seed = strtoull(value, &end, 10);
    return errno == 0 && end != value && !*end && value[0] != '-';
}

static bool set_text(struct tool_args *a, const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **to;
    } texts[] = {{"-m", &a->model},        {"--model", &a->model},   {"--system", &a->system},
                 {"--tokens", &a->tokens}, {"--out", &a->out},       {"--kernel", &a->kernel},
                 {"--prompt", &a->prompt}, {"--text", &a->text},     {"--kv-type", &a->kv_type},
                 {"--draft", &a->draft},   {"--schema", &a->schema}, {"--file", &a->file}};

    for (size_t i = 0; i < BASE_ARRAY_LEN(texts); i++)
        if (strcmp(name, texts[i].name) == 0) {
            *texts[i].to = value;
            return true;
        }
    return false;
}

static bool set_number(struct tool_args *a, const char *name, const char *value)
{
    struct llm_session_params *s = &a->sampling;
    const struct {
        const char *name;
        double min, max;
        uint32_t *count;
        float *real;
        double *wide;
    } numbers[] = {
        {"-n", 0, 1e9, &a->n, NULL, NULL},
        {"-t", 0, LLM_THREADS_MAX, &a->threads, NULL, NULL},
        {"--n", 1, LLM_SESSIONS_MAX, &a->answers, NULL, NULL},
        {"--draft-tokens", 0, LLM_DRAFTS_MAX, &s->draft_tokens, NULL, NULL},
        {"--sessions", 1, LLM_SESSIONS_MAX, &a->sessions, NULL, NULL},
        {"--logprobs", 0, LLM_LOGPROBS_MAX, &s->logprobs, NULL, NULL},
        {"--kv-mib", 1, 1 << 30, &a->kv_mib, NULL, NULL},
        {"--ctx", 2, 1e9, &a->ctx, NULL, NULL},
        {"--top-k", 0, 1e9, &s->top_k, NULL, NULL},
        {"--lookup", 0, LLM_DRAFTS_MAX, &s->lookup_tokens, NULL, NULL},
        {"--temp", 0, 2, NULL, &s->temperature, NULL},
        {"--top-p", 0, 1, NULL, &s->top_p, NULL},
        {"--min-p", 0, 1, NULL, &s->min_p, NULL},
        {"--repeat-penalty", 0, 2, NULL, &s->repetition_penalty, NULL},
        {"--presence", -2, 2, NULL, &s->presence_penalty, NULL},
        {"--frequency", -2, 2, NULL, &s->frequency_penalty, NULL},
        {"--min-retention", 0, 1, NULL, NULL, &a->min_retention},
    };
    double v;

    for (size_t i = 0; i < BASE_ARRAY_LEN(numbers); i++) {
        if (strcmp(name, numbers[i].name) != 0 || !number(value, numbers[i].min, numbers[i].max, &v))
            continue;
        if (numbers[i].count)
            *numbers[i].count = (uint32_t)v;
        else if (numbers[i].real)
            *numbers[i].real = (float)v;
        else
            *numbers[i].wide = v;
        return true;
    }
    return false;
}

/* One option with its value into `a`; false: unknown or out of range. */
static bool set_option(struct tool_args *a, const char *verb, const char *name, const char *value)
{
    if (strcmp(name, "-p") == 0)
        return set_prompt(a, verb, value);
    if (strcmp(name, "--seed") == 0)
        return set_seed(a, value);
    if (strcmp(name, "--stop") == 0)
        return set_stop(a, value);
    if (strcmp(name, "--logit-bias") == 0)
        return set_bias(a, value);
    return set_text(a, name, value) || set_number(a, name, value);
}

static bool set_flag(struct tool_args *a, const char *name)
{
    const struct {
        const char *name;
        bool *to;
    } flags[] = {{"--raw", &a->raw},
                 {"--special", &a->special},
                 {"--json", &a->json},
                 {"--json-object", &a->json_object},
                 {"-i", &a->interactive}};

    if (strcmp(name, "--echo") == 0) {
        a->sampling.echo = LLM_ECHO_TOKENS;
        return true;
    }
    for (size_t i = 0; i < BASE_ARRAY_LEN(flags); i++)
        if (strcmp(name, flags[i].name) == 0) {
            *flags[i].to = true;
            return true;
        }
    return false;
}

bool tool_parse(struct tool_args *a, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (set_flag(a, argv[i]))
            continue;
        if (argv[i][0] == '-' && argv[i][1] != '\0') {
            if (i + 1 >= argc || !set_option(a, argv[0], argv[i], argv[i + 1])) {
                tool_wrong("option %s: unknown, or its value is missing or out of range", argv[i]);
                return false;
            }
            i++;
        } else if (a->rest_count < BASE_ARRAY_LEN(a->rest)) {
            a->rest[a->rest_count++] = argv[i];
        } else {
            tool_wrong("\"%s\" is one word too many", argv[i]);
            return false;
        }
    }
    return true;
}
