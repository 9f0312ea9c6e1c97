/* SPDX-License-Identifier: Apache-2.0
 *
 * tool_show.c - the verbs that look at a model without generating: info, tokenize, logits.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

enum { TOKENS_MAX = 1 << 17, BEST_SHOWN = 5, JSON_MAX = 64 << 20, TEXT_BYTES_MAX = 256 << 20, NAME_SHOWN_MAX = 255 };

/* ---- info -------------------------------------------------------------------------------------------------------- */

/* The name of a token for people, on a line of its own; a file may have written anything into it. */
static void print_name(const char *name, size_t len)
{
    char text[NAME_SHOWN_MAX + 1] = "";

    memcpy(text, name, BASE_MIN(len, (size_t)NAME_SHOWN_MAX));
    base_text_mend(text);
    printf("  %s\n", text);
}

static void put_text(struct base_buf *out, const char *key, const char *value)
{
    base_buf_fmt(out, "\"%s\":", key);
    base_json_str(out, value, strlen(value));
    base_buf_u8(out, ',');
}

static int info_json(const struct llm_model_info *i)
{
    const struct {
        const char *key, *value;
    } texts[] = {{"name", i->name},
                 {"architecture", i->arch},
                 {"quantisation", i->quantisation},
                 {"chat_template", i->chat_template},
                 {"tokenizer", i->tokenizer},
                 {"kernel", i->kernel}};
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {{"threads", i->threads},
                  {"parameters", i->n_params},
                  {"context_tokens", i->n_ctx},
                  {"vocabulary", i->n_vocab},
                  {"width", i->n_embd},
                  {"layers", i->n_layers},
                  {"heads", i->n_heads},
                  {"kv_heads", i->n_kv_heads},
                  {"head_width", i->head_dim},
                  {"feed_forward", i->n_ff},
                  {"weights_bytes", i->weights_bytes},
                  {"pass_bytes", i->pass_bytes},
                  {"workspace_bytes", i->workspace_bytes},
                  {"kv_bytes_per_token", i->kv_bytes_per_token},
                  {"kv_context_bytes", i->kv_bytes_per_token * i->n_ctx},
                  {"needed_bytes", i->weights_bytes + i->workspace_bytes + i->kv_bytes_per_token * i->n_ctx}};
    struct base_buf out;

    base_buf_init(&out, JSON_MAX);
    base_buf_u8(&out, '{');
    for (size_t k = 0; k < BASE_ARRAY_LEN(texts); k++)
        put_text(&out, texts[k].key, texts[k].value);
    for (size_t k = 0; k < BASE_ARRAY_LEN(counts); k++)
        base_buf_fmt(&out, "\"%s\":%" PRIu64 ",", counts[k].key, counts[k].value);
    if (isnan(i->retention_top1))
        base_buf_str(&out, "\"retention_top1\":null}");
    else
        base_buf_fmt(&out, "\"retention_top1\":%.6f}", (double)i->retention_top1);
    return tool_print(&out);
}

static void info_print(const struct llm_model_info *i)
{
    const uint64_t kv = i->kv_bytes_per_token * i->n_ctx;

    printf("name             %s\narchitecture     %s\nparameters       %" PRIu64 "\nquantisation     %s\n", i->name,
           i->arch, i->n_params, i->quantisation);
    if (!isnan(i->retention_top1))
        printf("retention        %.2f %% of greedy choices, measured when it was quantised\n",
               100 * (double)i->retention_top1);
    printf("context          %u\nvocabulary       %u (%s)\nchat template    %s\n", i->n_ctx, i->n_vocab, i->tokenizer,
           i->chat_template);
    printf("shape            %u layers, width %u, %u heads (%u kv) of %u, feed-forward %u\n", i->n_layers, i->n_embd,
           i->n_heads, i->n_kv_heads, i->head_dim, i->n_ff);
    printf("kernel           %s, %u threads\n", i->kernel, i->threads);
    printf("weights          %" PRIu64 " bytes, %" PRIu64 " read by each pass\nworkspace        %" PRIu64 " bytes\n",
           i->weights_bytes, i->pass_bytes, i->workspace_bytes);
    printf("kv               %" PRIu64 " bytes a token, %" PRIu64 " for a whole context\n", i->kv_bytes_per_token, kv);
    printf("memory needed    %" PRIu64 " bytes with one whole context\n", i->weights_bytes + i->workspace_bytes + kv);
}

int tool_info(const struct tool_args *a)
{
    struct llm_model *m = tool_load(a);
    int status = 0;

    if (!m)
        return 1;
    if (a->json)
        status = info_json(llm_model_info(m));
    else
        info_print(llm_model_info(m));
    llm_model_free(m);
    return status;
}

/* ---- logits ------------------------------------------------------------------------------------------------------ */

dbe_err tool_parse_tokens(const char *text, struct llm_tokens *out)
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

static int print_best(const struct llm_model *m, const float *logits, bool json)
{
    const uint32_t n = llm_model_info(m)->n_vocab;
    int32_t shown[BEST_SHOWN];
    struct base_buf out;

    base_buf_init(&out, JSON_MAX);
    base_buf_str(&out, "{\"best\":[");

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
        if (!json) {
            printf("%8d  %12.6f", best, (double)logits[best]);
            print_name(name, len);
            continue;
        }
        base_buf_fmt(&out, "%s{\"token\":%d,\"logit\":", k > 0 ? "," : "", best);
        base_buf_fmt(&out, isfinite(logits[best]) ? "%.6f,\"text\":" : "null,\"text\":", (double)logits[best]);
        base_json_str(&out, name, len);
        base_buf_u8(&out, '}');
    }
    if (json) {
        base_buf_str(&out, "]}");
        return tool_print(&out);
    }
    base_buf_free(&out);
    return 0;
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
    return print_best(m, logits + (t->count - 1) * n, a->json) == 0 ? DBE_OK : DBE_E_IO;
}

int tool_logits(const struct tool_args *a)
{
    struct dbe_diag diag = {0};
    struct llm_tokens tokens = {0};
    struct llm_model *m;
    dbe_err err = a->tokens ? tool_parse_tokens(a->tokens, &tokens) : DBE_E_ARGUMENT;

    if (err != DBE_OK) {
        llm_tokens_free(&tokens);
        return tool_wrong("logits needs --tokens with numbers and commas between");
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

/* ---- tokenize ---------------------------------------------------------------------------------------------------- */

/* Written as it is made: a long text has many tokens. */
static int tokens_json(const struct llm_model *m, const struct llm_tokens *t)
{
    struct base_buf out;
    dbe_err err = DBE_OK;

    base_buf_init(&out, JSON_MAX);
    fputs("{\"tokens\":[", stdout);
    for (size_t i = 0; i < t->count && err == DBE_OK; i++) {
        size_t len;
        const char *name = llm_token_name(m, t->ids[i], &len);
        base_buf_clear(&out);
        base_buf_fmt(&out, "%s{\"id\":%d,\"name\":", i ? "," : "", t->ids[i]);
        base_json_str(&out, name, len);
        base_buf_u8(&out, '}');
        err = out.err;
        fwrite(out.data, 1, out.len, stdout);
    }
    base_buf_free(&out);
    fputs("]}\n", stdout);
    return err == DBE_OK ? 0 : tool_fail(err, NULL);
}

static void tokens_print(const struct llm_model *m, const struct llm_tokens *t)
{
    for (size_t i = 0; i < t->count; i++) {
        size_t len;
        const char *name = llm_token_name(m, t->ids[i], &len);
        printf("%8d", t->ids[i]);
        print_name(name, len);
    }
}

static dbe_err tokenize(const struct tool_args *a, const struct llm_model *m, struct llm_tokens *out,
                        struct dbe_diag *diag)
{
    const unsigned flags = LLM_TOKENIZE_BOS | (a->special ? LLM_TOKENIZE_SPECIAL : 0);
    struct base_buf text = {0};
    dbe_err err;

    if (!a->file)
        return llm_tokenize(m, a->rest[0], strlen(a->rest[0]), flags, out);
    err = base_file_read(a->file, TEXT_BYTES_MAX, &text, diag);
    if (err == DBE_OK)
        err = llm_tokenize(m, base_buf_cstr(&text), text.len, flags, out);
    base_buf_free(&text);
    return err;
}

int tool_tokenize(const struct tool_args *a)
{
    struct llm_tokens t = {0};
    struct dbe_diag diag = {0};
    struct llm_model *m;
    int status = 0;

    if (a->rest_count != (a->file ? 0 : 1))
        return tool_wrong("tokenize needs a TEXT or --file FILE, and one of them");
    m = tool_load(a);
    if (!m)
        return 1;
    const dbe_err err = tokenize(a, m, &t, &diag);
    if (err != DBE_OK)
        status = tool_fail(err, &diag);
    else if (a->json)
        status = tokens_json(m, &t);
    else
        tokens_print(m, &t);
    llm_tokens_free(&t);
    llm_model_free(m);
    return status;
}
