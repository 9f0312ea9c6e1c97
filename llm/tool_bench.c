/* SPDX-License-Identifier: Apache-2.0
 *
 * tool_bench.c - measures: speed against the memory's read bandwidth in the same run, and perplexity of a text.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "pool.h"
#include "tool.h"

enum {
    READ_BYTES = 512 << 20,
    READ_PIECE = 1 << 20,
    READ_TURNS = 5,
    BENCH_PROMPT = 512,
    BENCH_ANSWER = 128,
    PERPLEXITY_CTX = 512,
    TEXT_MAX = LLM_TEXT_BYTES_MAX
};

/* ---- read bandwidth ---------------------------------------------------------------------------------------------- */

struct reading {
    const uint64_t *data;
    uint64_t sums[LLM_THREADS_MAX];
};

static void read_pieces(void *ctx, size_t begin, size_t end, unsigned thread)
{
    struct reading *r = ctx;
    const size_t words = READ_PIECE / sizeof(uint64_t);
    uint64_t sum[8] = {0};

    for (size_t i = begin * words; i < end * words; i += 8)
        for (size_t j = 0; j < 8; j++)
            sum[j] += r->data[i + j];
    for (size_t j = 0; j < 8; j++)
        r->sums[thread] += sum[j];
}

/* Best of a few passes of plain loads over a block far larger than the caches, in bytes a second; 0: no memory. */
static double read_bandwidth(unsigned threads)
{
    struct reading r = {0};
    struct llm_pool *pool;
    uint64_t best = UINT64_MAX;
    uint64_t *data = base_alloc(READ_BYTES, 1);

    if (!data || llm_pool_new(threads, &pool) != DBE_OK) {
        base_free(data);
        return 0;
    }
    memset(data, 1, READ_BYTES); /* pages that were never written would all be the one zero page */
    r.data = data;
    for (int i = 0; i < READ_TURNS; i++) {
        const uint64_t start = base_mono_ns();
        llm_pool_run(pool, READ_BYTES / READ_PIECE, 4, read_pieces, &r);
        best = BASE_MIN(best, base_mono_ns() - start);
    }
    llm_pool_free(pool);
    base_free(data);
    /* the sums are used, so that the loads are not removed */
    return r.sums[0] == 1 ? 0 : (double)READ_BYTES / ((double)best / 1e9);
}

/* ---- bench ------------------------------------------------------------------------------------------------------- */

struct bench_result {
    double prefill_s, decode_s, read_bytes_per_s;
};

static dbe_err bench_run(struct llm_model *m, uint32_t prompt, uint32_t answer, struct bench_result *out,
                         struct dbe_diag *diag)
{
    const struct llm_session_params params = {.max_tokens = answer + 1, .ignore_eos = true};
    BASE_AUTO_FREE int32_t *ids = base_alloc(prompt, sizeof *ids);
    struct llm_session *s;
    struct llm_piece piece = {0};
    dbe_err err = DBE_OK;

    if (!ids)
        return DBE_E_NOMEM;
    for (uint32_t i = 0; i < prompt; i++)
        ids[i] = (int32_t)(i * 7919u % llm_model_info(m)->n_vocab);
    DBE_TRY(llm_session_new(m, ids, prompt, &params, &s, diag));
    const uint64_t start = base_mono_ns();
    while (err == DBE_OK && llm_session_answer_tokens(s) == 0)
        err = llm_session_step(s, &piece);
    const uint64_t prefilled = base_mono_ns();
    while (err == DBE_OK && !piece.done)
        err = llm_session_step(s, &piece);
    out->prefill_s = (double)(prefilled - start) / 1e9;
    out->decode_s = (double)(base_mono_ns() - prefilled) / 1e9;
    llm_session_free(s);
    return err;
}

static void bench_print(const struct tool_args *a, const struct llm_model_info *i, uint32_t prompt, uint32_t answer,
                        const struct bench_result *r)
{
    const double decode = answer / r->decode_s, moved = decode * (double)i->weights_bytes;

    printf(a->json ? "{\"model\":\"%s\",\"kernel\":\"%s\",\"threads\":%u,\"prompt\":%u,\"answer\":%u,"
                     "\"prefill_tokens_per_s\":%.2f,\"decode_tokens_per_s\":%.2f,\"decode_gb_per_s\":%.2f,"
                     "\"read_gb_per_s\":%.2f}\n"
                   : "model %s, kernel %s, %u threads\nprefill of %u, decode of %u\n"
                     "prefill  %10.2f tokens/s\ndecode   %10.2f tokens/s, %.2f GB/s of weights\n"
                     "reading  %10.2f GB/s, plain loads, same threads\n",
           i->name, i->kernel, i->threads, prompt, answer, prompt / r->prefill_s, decode, moved / 1e9,
           r->read_bytes_per_s / 1e9);
}

int tool_bench(const struct tool_args *a)
{
    const uint32_t prompt = a->prompt_tokens ? a->prompt_tokens : BENCH_PROMPT, answer = a->n ? a->n : BENCH_ANSWER;
    struct dbe_diag diag = {0};
    struct bench_result r = {0};
    struct llm_model *m = tool_load(a);
    dbe_err err;

    if (!m)
        return 1;
    err = bench_run(m, prompt, answer, &r, &diag);
    if (err == DBE_OK) {
        r.read_bytes_per_s = read_bandwidth(llm_model_info(m)->threads);
        bench_print(a, llm_model_info(m), prompt, answer, &r);
    }
    llm_model_free(m);
    return err == DBE_OK ? 0 : tool_fail(err, &diag);
}

/* ---- perplexity -------------------------------------------------------------------------------------------------- */

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
static dbe_err score(struct llm_model *m, const struct llm_tokens *t, uint32_t ctx, double *total, size_t *count,
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
            *total += surprise(logits + i * n, n, t->ids[at + i + 1]);
        *count += window - 1;
    }
    return DBE_OK;
}

static dbe_err perplexity(struct llm_model *m, const char *path, uint32_t ctx, struct dbe_diag *diag)
{
    struct base_buf text;
    struct llm_tokens t = {0};
    double total = 0;
    size_t count = 0;
    dbe_err err;

    base_buf_init(&text, TEXT_MAX);
    err = base_file_read(path, TEXT_MAX, &text, diag);
    if (err == DBE_OK)
        err = llm_tokenize(m, (const char *)text.data, text.len, LLM_TOKENIZE_BOS, &t);
    if (err == DBE_OK && t.count < 2)
        err = dbe_fail(diag, DBE_E_ARGUMENT, "text", 0, "the text has fewer than two tokens");
    if (err == DBE_OK)
        err = score(m, &t, ctx, &total, &count, diag);
    if (err == DBE_OK)
        printf("perplexity %.4f, %.4f nats a token, %zu tokens in windows of %u\n", exp(total / (double)count),
               total / (double)count, count, ctx);
    llm_tokens_free(&t);
    base_buf_free(&text);
    return err;
}

int tool_perplexity(const struct tool_args *a)
{
    struct dbe_diag diag = {0};
    struct llm_model *m;
    dbe_err err;

    if (a->rest_count != 1) {
        fputs("usage: dsmil llm perplexity -m MODEL.gguf FILE [--ctx TOKENS]\n", stderr);
        return 2;
    }
    m = tool_load(a);
    if (!m)
        return 1;
    const uint32_t n_ctx = llm_model_info(m)->n_ctx;
    err = perplexity(m, a->rest[0], BASE_MIN(a->ctx >= 2 ? a->ctx : PERPLEXITY_CTX, n_ctx), &diag);
    llm_model_free(m);
    return err == DBE_OK ? 0 : tool_fail(err, &diag);
}
