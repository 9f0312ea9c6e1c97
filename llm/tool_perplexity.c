/* SPDX-License-Identifier: Apache-2.0
 *
 * tool_perplexity.c - the verb perplexity: how well a model foresees a text.
 */
#include <math.h>
#include <stdio.h>

#include "tool.h"

enum { WINDOW_DEFAULT = 512 };

struct score {
    double nats;
    size_t tokens;
};

/* -ln p(next) after softmax over the logits. */
static double surprise(const float *logits, size_t n, int32_t next)
{
    double sum = 0;
    float max = logits[0];

    for (size_t i = 1; i < n; i++)
        max = logits[i] > max ? logits[i] : max;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)(logits[i] - max));
    return log(sum) - (double)(logits[next] - max);
}

/* Windows of `ctx` tokens, each from an empty cache; all tokens but a window's first are scored. */
static dbe_err score(struct llm_model *m, const struct llm_tokens *t, uint32_t ctx, struct score *out,
                     struct dbe_diag *diag)
{
    const size_t n = llm_model_info(m)->n_vocab;
    BASE_AUTO_FREE float *logits = base_alloc((size_t)ctx * n, sizeof *logits);

    if (!logits)
        return DBE_E_NOMEM;
    for (size_t at = 0; at + 1 < t->count; at += ctx) {
        const size_t window = BASE_MIN((size_t)ctx, t->count - at);
        DBE_TRY(llm_logits(m, t->ids + at, window, logits, diag));
        for (size_t i = 0; i + 1 < window; i++)
            out->nats += surprise(logits + i * n, n, t->ids[at + i + 1]);
        out->tokens += window - 1;
    }
    return DBE_OK;
}

static dbe_err perplexity(struct llm_model *m, const char *path, uint32_t ctx, struct score *out, struct dbe_diag *diag)
{
    struct base_buf text;
    struct llm_tokens t = {0};

    base_buf_init(&text, LLM_TEXT_BYTES_MAX);
    dbe_err err = base_file_read(path, LLM_TEXT_BYTES_MAX, &text, diag);
    if (err == DBE_OK)
        err = llm_tokenize(m, (const char *)text.data, text.len, LLM_TOKENIZE_BOS, &t);
    if (err == DBE_OK && t.count < 2)
        err = dbe_fail(diag, DBE_E_ARGUMENT, "text", 0, "the text has fewer than two tokens");
    if (err == DBE_OK)
        err = score(m, &t, ctx, out, diag);
    llm_tokens_free(&t);
    base_buf_free(&text);
    return err;
}

int tool_perplexity(const struct tool_args *a)
{
    struct dbe_diag diag = {0};
    struct score s = {0};
    struct llm_model *m;

    if (a->rest_count != 1)
        return tool_wrong("perplexity needs one FILE");
    m = tool_load(a);
    if (!m)
        return 1;
    const uint32_t n_ctx = llm_model_info(m)->n_ctx, ctx = BASE_MIN(a->ctx >= 2 ? a->ctx : WINDOW_DEFAULT, n_ctx);
    const dbe_err err = perplexity(m, a->rest[0], ctx, &s, &diag);
    llm_model_free(m);
    if (err != DBE_OK)
        return tool_fail(err, &diag);
    const double nats = s.nats / (double)s.tokens;
    printf(a->json ? "{\"perplexity\":%.6f,\"nats_per_token\":%.6f,\"tokens\":%zu,\"ctx\":%u}\n"
                   : "perplexity %.4f, %.4f nats a token, %zu tokens in windows of %u\n",
           exp(nats), nats, s.tokens, ctx);
    return 0;
}
