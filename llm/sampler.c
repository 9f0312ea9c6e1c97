/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler.c - the draw; see sampler.h.
 *
 * In:   logits, what is allowed, what was noted. Out: a token.
 * Not:  what a request may ask for and what is noted (sampler_state.c), finding the best (sampler_best.c).
 */
#include "sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "sampler_best.h"

/* Below this temperature the highest logit is taken: 1 / temperature must be a number. */
static const float COLD = 1e-6f;

/* ---- logits ------------------------------------------------------------------------------------------------------ */

/* Copy; what is not finite becomes -INFINITY, also behind the end. */
static void take(const float *logits, size_t n, float *z)
{
    for (size_t i = 0; i < n; i++)
        z[i] = logits[i] >= -FLT_MAX && logits[i] <= FLT_MAX ? logits[i] : -INFINITY;
    for (size_t i = n; i < sampler_blocks(n) * SAMPLER_BLOCK; i++)
        z[i] = -INFINITY;
}

static void mask(const uint32_t *allowed, size_t n, float *z)
{
    for (size_t w = 0; w * 32 < n; w++) {
        if (allowed[w] == UINT32_MAX)
            continue;
        const size_t end = BASE_MIN(n, w * 32 + 32);
        for (size_t i = w * 32; i < end; i++)
            if (!(allowed[w] >> (i % 32) & 1))
                z[i] = -INFINITY;
    }
}

static void bias_and_punish(const struct llm_sampler *s, size_t n, float *z)
{
    for (size_t i = 0; i < s->bias_count; i++) {
        const struct llm_logit_bias *b = &s->biases[i];
        if ((size_t)b->id < n)
            z[b->id] = b->bias > -100 ? BASE_MIN(z[b->id] + b->bias, FLT_MAX) : -INFINITY;
    }
    for (uint32_t i = 0; i < s->seen_count; i++) {
        const struct sampler_seen *t = &s->seen[i];
        if ((size_t)t->id >= n)
            continue;
        float v = z[t->id];
        v = v > 0 ? v / s->repetition : v * s->repetition;
        if (t->answer > 0)
            v -= s->presence + s->frequency * (float)t->answer;
        z[t->id] = BASE_MIN(v, FLT_MAX);
    }
}

/* ---- draw -------------------------------------------------------------------------------------------------------- */

static float draw(const struct llm_sampler *s)
{
    uint64_t z = s->seed + (s->position + 1) * UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return (float)(z >> 40) * 0x1p-24f;
}

/* List the candidates after top-k, top-p and min-p; their number. */
static size_t candidates(const struct llm_sampler *s, struct sampler_scratch *w, size_t n, float max)
{
    const bool nucleus = s->top_p > 0 && s->top_p<1, few = s->top_k> 0 && s->top_k < n;
    const float deepest = max - SAMPLER_DEPTH * s->temperature;
    const float floor = s->min_p > 0 ? BASE_MAX(deepest, max + s->temperature * logf(s->min_p)) : deepest;
    struct sampler_cut c = {max, s->temperature, few ? s->top_k : n, DBL_MAX, 0, 0};
    size_t m;

    if (few) {
        sampler_keep_best(w, sampler_gather_best(w, n, s->top_k, deepest), &c);
        if (nucleus) {
            c.enough = (double)s->top_p * c.weight;
            sampler_keep_best(w, c.kept, &c);
        }
    } else if (nucleus) {
        c.enough = (double)s->top_p * sampler_total_weight(w, n, max, s->temperature, deepest);
        sampler_keep_best(w, sampler_gather_best(w, n, SAMPLER_FEW / 2, deepest), &c);
        if (c.weight < c.enough) /* a flat distribution */
            sampler_keep_best(w, sampler_gather(w, n, deepest), &c);
    } else {
        return sampler_gather(w, n, floor);
    }
    m = 0;
    for (size_t i = 0; i < c.kept; i++)
        if (w->list[i].z >= floor)
            w->list[m++] = w->list[i];
    return m;
}

static int32_t pick(const struct llm_sampler *s, struct sampler_scratch *w, size_t n, float max)
{
    const size_t m = candidates(s, w, n, max);
    double weight = 0, at;

    for (size_t i = 0; i < m; i++)
        w->p[i] = sampler_exp((w->list[i].z - max) / s->temperature);
    for (size_t i = 0; i < m; i++)
        weight += (double)w->p[i];
    at = (double)draw(s) * weight;
    for (size_t i = 0; i < m; i++) {
        at -= (double)w->p[i];
        if (at < 0)
            return w->list[i].id;
    }
    return w->list[m - 1].id; /* rounding only; the best is always among them */
}

static int32_t first_allowed(const uint32_t *allowed, size_t n)
{
    for (size_t i = 0; allowed && i < n; i++)
        if (allowed[i / 32] >> (i % 32) & 1)
            return (int32_t)i;
    return 0;
}

/* The likeliest by the model's own logits into out->top, one more than wanted in case one is chosen; log of the sum. */
static double likeliest(const struct llm_sampler *s, const float *logits, size_t n, struct sampler_scratch *w,
                        struct sampler_candidate top[LLM_LOGPROBS_MAX], size_t *ret_count)
{
    take(logits, n, w->z);
    const float max = sampler_find_tops(w->z, n, w->tops);
    *ret_count = 0;
    if (!(max >= -FLT_MAX))
        return 0;
    const double sum = (double)max + log(sampler_total_weight(w, n, max, 1, -FLT_MAX));
    *ret_count = sampler_best_first(w, sampler_gather_best(w, n, s->logprobs, -FLT_MAX), s->logprobs, top);
    return sum;
}

/* The probability of out->id, and those of the others; what `likeliest` found is known. */
static void tell(const struct llm_sampler *s, const float *logits, const struct sampler_candidate *top,
                 size_t top_count, double sum, struct llm_token_prob *out)
{
    const float own = logits[out->id];

    out->logprob = own >= -FLT_MAX && own <= FLT_MAX ? (float)((double)own - sum) : -INFINITY;
    for (size_t i = 0; i < top_count && out->top_count < s->logprobs - 1; i++)
        if (top[i].id != out->id)
            out->top[out->top_count++] = (struct llm_logprob){top[i].id, (float)((double)top[i].z - sum)};
}

void llm_sample(const struct llm_sampler *s, const float *logits, size_t n, const uint32_t *allowed,
                struct sampler_scratch *w, struct llm_token_prob *out)
{
    struct sampler_candidate top[LLM_LOGPROBS_MAX];
    size_t top_count = 0;
    double sum = 0;

    *out = (struct llm_token_prob){0};
    if (s->logprobs > 0)
        sum = likeliest(s, logits, n, w, top, &top_count);
    take(logits, n, w->z);
    bias_and_punish(s, n, w->z);
    if (allowed)
        mask(allowed, n, w->z);
    const float max = sampler_find_tops(w->z, n, w->tops);
    if (!(max >= -FLT_MAX))
        out->id = first_allowed(allowed, n);
    else
        out->id = s->temperature > COLD ? pick(s, w, n, max) : sampler_first_of(w, n, max);
    if (s->logprobs > 0)
        tell(s, logits, top, top_count, sum, out);
}

void llm_score(const struct llm_sampler *s, const float *logits, size_t n, int32_t id, struct sampler_scratch *w,
               struct llm_token_prob *out)
{
    struct sampler_candidate top[LLM_LOGPROBS_MAX];
    size_t top_count;
    const double sum = likeliest(s, logits, n, w, top, &top_count);

    *out = (struct llm_token_prob){.id = id};
    tell(s, logits, top, top_count, sum, out);
}
