/* SPDX-License-Identifier: Apache-2.0
 *
 * retention.c - the original's logits over a text, then the quantised model's over the same tokens, compared.
 *
 * Top-1: share of positions at which both would choose the same token. KL: mean of KL(original || quantised) in nats.
 * Perplexity ratio: of the quantised to the original, over the tokens that follow. Both run as they would serve, with
 * the same kernels, so that the rounding of activations counts as well.
 */
#include "retention.h"

#include <math.h>
#include <string.h>

#include "base/base.h"

struct text_run { /* the tokens, and the first model's logits after each */
    struct llm_tokens tokens;
    size_t count, window, n_vocab;
    float *logits;
};

struct sums {
    double agree, kl, surprise[2]; /* surprise: of the original, of the quantised */
    size_t positions, followed;
};

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

static size_t best_of(const float *logits, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* log(sum(exp(logits))), NaN if any of them is. */
static double log_sum(const float *logits, size_t n, size_t best)
{
    const double max = (double)logits[best];
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - max);
    return max + log(sum);
}

/* `next` < 0: nothing follows in this window. */
static void compare(const float *a, const float *b, size_t n, int32_t next, struct sums *sums)
{
    const size_t best_a = best_of(a, n), best_b = best_of(b, n);
    const double sum_a = log_sum(a, n, best_a), sum_b = log_sum(b, n, best_b);
    double kl = 0;

    for (size_t i = 0; i < n; i++) {
        const double log_a = (double)a[i] - sum_a, log_b = (double)b[i] - sum_b;
        kl += exp(log_a) * (log_a - log_b);
    }
    sums->agree += best_a == best_b && isfinite(sum_b);
    sums->kl += kl;
    sums->positions++;
    if (next >= 0) {
        sums->surprise[0] += sum_a - (double)a[next];
        sums->surprise[1] += sum_b - (double)b[next];
        sums->followed++;
    }
}

/* ---- the two models ---------------------------------------------------------------------------------------------- */

static dbe_err load(const char *path, const struct llm_quantize_params *params, struct llm_model **ret,
                    struct dbe_diag *diag)
{
    const struct llm_model_params p = {.threads = params->threads, .n_ctx_max = RETENTION_WINDOW};

    return llm_model_load(path, &p, ret, diag);
}

static dbe_err read_text(const struct llm_model *m, const struct llm_quantize_params *params, struct text_run *run,
                         struct dbe_diag *diag)
{
    const char *text = params->text ? params->text : llm_retention_text;
    const size_t len = params->text ? params->text_len : strlen(text);
    const struct llm_model_info *info = llm_model_info(m);

    DBE_TRY(llm_tokenize(m, text, len, LLM_TOKENIZE_BOS, &run->tokens));
    run->n_vocab = info->n_vocab;
    run->window = info->n_ctx;
    run->count = BASE_MIN(run->tokens.count, (size_t)RETENTION_TOKENS_MAX);
    run->count = BASE_MIN(run->count, RETENTION_LOGITS_BYTES_MAX / (run->n_vocab * sizeof(float)));
    if (run->count < 2)
        return dbe_fail(diag, DBE_E_ARGUMENT, "text", 0, "the text has too few tokens to measure on");
    return DBE_OK;
}

static dbe_err run_original(const char *path, const struct llm_quantize_params *params, struct text_run *run,
                            struct dbe_diag *diag)
{
    struct llm_model *m;

    DBE_TRY(load(path, params, &m, diag));
    dbe_err err = read_text(m, params, run, diag);
    if (err == DBE_OK) {
        run->logits = base_alloc(run->count * run->n_vocab, sizeof(float));
        err = run->logits ? DBE_OK : dbe_fail(diag, DBE_E_NOMEM, "retention", 0, "no memory for logits");
    }
    for (size_t at = 0; err == DBE_OK && at < run->count; at += run->window)
        err = llm_logits(m, run->tokens.ids + at, BASE_MIN(run->window, run->count - at),
                         run->logits + at * run->n_vocab, diag);
    llm_model_free(m);
    return err;
}

static dbe_err run_quantised(const char *path, const struct llm_quantize_params *params, const struct text_run *run,
                             struct sums *sums, struct dbe_diag *diag)
{
    BASE_AUTO_FREE float *logits = base_alloc(run->window * run->n_vocab, sizeof(float));
    struct llm_model *m;
    dbe_err err = DBE_OK;

    if (!logits)
        return dbe_fail(diag, DBE_E_NOMEM, "retention", 0, "no memory for logits");
    DBE_TRY(load(path, params, &m, diag));
    if (llm_model_info(m)->n_vocab != run->n_vocab || llm_model_info(m)->n_ctx != run->window)
        err = dbe_fail(diag, DBE_E_MODEL, "retention", 0, "the two models are not of one shape");
    for (size_t at = 0; err == DBE_OK && at < run->count; at += run->window) {
        const size_t window = BASE_MIN(run->window, run->count - at);
        err = llm_logits(m, run->tokens.ids + at, window, logits, diag);
        for (size_t i = 0; err == DBE_OK && i < window; i++)
            compare(run->logits + (at + i) * run->n_vocab, logits + i * run->n_vocab, run->n_vocab,
                    i + 1 < window ? run->tokens.ids[at + i + 1] : -1, sums);
    }
    llm_model_free(m);
    return err;
}

dbe_err llm_retention_measure(const char *original, const char *quantised, const struct llm_quantize_params *params,
                              struct llm_retention *ret, struct dbe_diag *diag)
{
    struct text_run run = {0};
    struct sums sums = {0};
    dbe_err err = run_original(original, params, &run, diag);

    if (err == DBE_OK)
        err = run_quantised(quantised, params, &run, &sums, diag);
    if (err == DBE_OK) {
        const double followed = (double)BASE_MAX(sums.followed, (size_t)1);
        *ret = (struct llm_retention){.tokens = sums.positions,
                                      .top1 = sums.agree / (double)sums.positions,
                                      .kl = sums.kl / (double)sums.positions,
                                      .ppl_original = exp(sums.surprise[0] / followed),
                                      .ppl_ratio = exp((sums.surprise[1] - sums.surprise[0]) / followed)};
    }
    llm_tokens_free(&run.tokens);
    base_free(run.logits);
    return err;
}
