/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler.c - see sampler.h.
 *
 * Sorting a vocabulary of 150,000 for every token would cost more than a small model. So: the best of each block of
 * 64 logits are found in one pass. At least k tokens are as good as the k-th best of these, so a list of few tokens
 * holds the k best of all. A cut that goes deeper counts tokens and their weight in buckets of equal width, and only
 * the bucket in which the cut falls is put in order.
 */
#include "sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "kern_math.h"

enum { BLOCK = 64, LANES = 16, FEW = 512, BUCKETS = 2048 };

/* Less likely than the best by more than e^64: no draw of 24 bits can tell it from impossible. */
static const float DEPTH = 64;
/* Below this temperature the highest logit is taken: 1 / temperature must be a number. */
static const float COLD = 1e-6f;

/* ---- state ------------------------------------------------------------------------------------------------------- */

static dbe_err bad(struct dbe_diag *diag, const char *name, const char *range)
{
    return dbe_fail(diag, DBE_E_ARGUMENT, name, 0, "%s must be %s", name, range);
}

static dbe_err check(const struct llm_session_params *p, uint32_t n_vocab, struct dbe_diag *diag)
{
    if (!(p->temperature >= 0 && p->temperature <= 2))
        return bad(diag, "temperature", "from 0 to 2");
    if (!(p->top_p >= 0 && p->top_p <= 1))
        return bad(diag, "top_p", "from 0 to 1");
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return bad(diag, "min_p", "from 0 to 1");
    if (!(p->repetition_penalty >= 0 && p->repetition_penalty <= 2))
        return bad(diag, "repetition_penalty", "from 0 to 2");
    if (!(p->presence_penalty >= -2 && p->presence_penalty <= 2))
        return bad(diag, "presence_penalty", "from -2 to 2");
    if (!(p->frequency_penalty >= -2 && p->frequency_penalty <= 2))
        return bad(diag, "frequency_penalty", "from -2 to 2");
    if (p->logprobs > LLM_LOGPROBS_MAX)
        return bad(diag, "logprobs", "at most 21");
    if (p->bias_count > LLM_BIASES_MAX)
        return bad(diag, "logit_bias", "for at most 1024 tokens");
    for (size_t i = 0; i < p->bias_count; i++) {
        if (p->biases[i].id < 0 || (uint32_t)p->biases[i].id >= n_vocab)
            return bad(diag, "logit_bias", "for tokens of the vocabulary");
        if (!(p->biases[i].bias >= -100 && p->biases[i].bias <= 100))
            return bad(diag, "logit_bias", "from -100 to 100");
    }
    return DBE_OK;
}

/* A power of two that stays at most half full. */
static size_t slots_for(uint32_t tokens)
{
    size_t slots = 16;

    while (slots < 2 * (size_t)tokens)
        slots *= 2;
    return slots;
}

dbe_err llm_sampler_init(const struct llm_session_params *p, uint32_t n_vocab, size_t tokens_max,
                         struct llm_sampler *out, struct dbe_diag *diag)
{
    const float repetition = p->repetition_penalty > 0 ? p->repetition_penalty : 1;
    struct llm_sampler s = {p->temperature,
                            p->top_p,
                            p->min_p,
                            repetition,
                            p->presence_penalty,
                            p->frequency_penalty,
                            p->top_k,
                            p->logprobs,
                            n_vocab,
                            p->seed,
                            0,
                            NULL,
                            p->bias_count,
                            NULL,
                            NULL,
                            0,
                            0,
                            0};
    const bool counts = repetition < 1 || repetition > 1 || fabsf(s.presence) > 0 || fabsf(s.frequency) > 0;

    DBE_TRY(check(p, n_vocab, diag));
    if (counts) {
        s.seen_max = (uint32_t)BASE_MIN(tokens_max, (size_t)n_vocab);
        s.slot_mask = (uint32_t)(slots_for(s.seen_max) - 1);
        s.seen = base_alloc((size_t)s.seen_max + 1, sizeof *s.seen);
        s.slots = base_alloc((size_t)s.slot_mask + 1, sizeof *s.slots);
    }
    if (p->bias_count > 0)
        s.biases = base_alloc(p->bias_count, sizeof *s.biases);
    if ((counts && (!s.seen || !s.slots)) || (p->bias_count > 0 && !s.biases)) {
        llm_sampler_fini(&s);
        return dbe_fail(diag, DBE_E_NOMEM, "sampler", 0, "no memory for sampling");
    }
    if (p->bias_count > 0)
        memcpy(s.biases, p->biases, p->bias_count * sizeof *s.biases);
    *out = s;
    return DBE_OK;
}

void llm_sampler_fini(struct llm_sampler *s)
{
    base_free(s->biases);
    base_free(s->seen);
    base_free(s->slots);
    *s = (struct llm_sampler){0};
}

void llm_sampler_note(struct llm_sampler *s, int32_t id, bool is_prompt)
{
    uint32_t at;

    if (!is_prompt)
        s->position++;
    if (!s->seen || id < 0 || (uint32_t)id >= s->n_vocab)
        return;
    at = ((uint32_t)id * 0x9e3779b1u >> 7) & s->slot_mask;
    while (s->slots[at] != 0 && s->seen[s->slots[at] - 1].id != id)
        at = (at + 1) & s->slot_mask;
    if (s->slots[at] == 0) {
        if (s->seen_count == s->seen_max)
            return;
        s->seen[s->seen_count++] = (struct sampler_seen){id, 0};
        s->slots[at] = s->seen_count;
    }
    if (!is_prompt)
        s->seen[s->slots[at] - 1].answer++;
}

dbe_err llm_sampler_scratch_init(size_t n, struct sampler_scratch *out)
{
    const size_t blocks = n / BLOCK + 1;
    struct sampler_scratch s = {n, base_alloc(blocks * BLOCK, sizeof(float)), base_alloc(blocks * BLOCK, sizeof(float)),
                                base_alloc(blocks, sizeof(float)), base_alloc(n, sizeof(struct sampler_candidate))};

    if (!s.z || !s.p || !s.tops || !s.list) {
        llm_sampler_scratch_fini(&s);
        return DBE_E_NOMEM;
    }
    *out = s;
    return DBE_OK;
}

void llm_sampler_scratch_fini(struct sampler_scratch *s)
{
    base_free(s->z);
    base_free(s->p);
    base_free(s->tops);
    base_free(s->list);
    *s = (struct sampler_scratch){0};
}

static float draw(const struct llm_sampler *s)
{
    uint64_t z = s->seed + (s->position + 1) * UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return (float)(z >> 40) * 0x1p-24f;
}

/* e^x of x <= 0; below -87: 0. */
static inline float exp_of(float x)
{
    return x >= -87.0f ? kern_exp(x) : 0;
}

/* ---- logits ------------------------------------------------------------------------------------------------------ */

static size_t blocks_of(size_t n)
{
    return (n + BLOCK - 1) / BLOCK;
}

/* Copy; what is not finite becomes -INFINITY, also behind the end. */
static void take(const float *logits, size_t n, float *z)
{
    for (size_t i = 0; i < n; i++)
        z[i] = logits[i] >= -FLT_MAX && logits[i] <= FLT_MAX ? logits[i] : -INFINITY;
    for (size_t i = n; i < blocks_of(n) * BLOCK; i++)
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

/* The best of each block into `tops`, the best of all returned. */
static float find_tops(const float *z, size_t n, float *tops)
{
    float best = -INFINITY;

    for (size_t b = 0; b < blocks_of(n); b++) {
        const float *x = z + b * BLOCK;
        float lane[LANES], top;
        for (size_t j = 0; j < LANES; j++)
            lane[j] = x[j];
        for (size_t i = LANES; i < BLOCK; i += LANES)
            for (size_t j = 0; j < LANES; j++)
                lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
        top = lane[0];
        for (size_t j = 1; j < LANES; j++)
            top = lane[j] > top ? lane[j] : top;
        tops[b] = top;
        best = top > best ? top : best;
    }
    return best;
}

static int32_t first_of(const struct sampler_scratch *w, size_t n, float max)
{
    for (size_t b = 0; b < blocks_of(n); b++)
        for (size_t i = b * BLOCK; w->tops[b] >= max && i < n; i++)
            if (w->z[i] >= max)
                return (int32_t)i;
    return 0;
}

/* Sum of e^((z - max) / t) over what is at least `floor`. */
static double total_weight(struct sampler_scratch *w, size_t n, float max, float t, float floor)
{
    const float scale = 1 / t;
    double sum = 0;

    for (size_t i = 0; i < blocks_of(n) * BLOCK; i++)
        w->p[i] = exp_of((w->z[i] - max) * scale);
    for (size_t b = 0; b < blocks_of(n); b++) {
        const float *x = w->z + b * BLOCK, *p = w->p + b * BLOCK;
        float lane[LANES] = {0}, part = 0;
        for (size_t i = 0; i < BLOCK; i += LANES)
            for (size_t j = 0; j < LANES; j++)
                lane[j] += x[i + j] >= floor ? p[i + j] : 0;
        for (size_t j = 0; j < LANES; j++)
            part += lane[j];
        sum += (double)part;
    }
    return sum;
}

/* ---- the best of them -------------------------------------------------------------------------------------------- */

static bool above(const struct sampler_candidate *a, const struct sampler_candidate *b)
{
    return a->z > b->z || (a->z >= b->z && a->id < b->id);
}

static void sift_down(struct sampler_candidate *heap, size_t count, size_t i)
{
    const struct sampler_candidate moved = heap[i];

    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= count)
            break;
        if (child + 1 < count && above(&heap[child + 1], &heap[child]))
            child++;
        if (!above(&heap[child], &moved))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
}

/* The k-th highest of `count` numbers, k <= FEW and k <= count: the root of a heap of the k highest, lowest on top. */
static float kth(const float *x, size_t count, size_t k)
{
    struct sampler_candidate heap[FEW];

    for (size_t i = 0; i < k; i++)
        heap[i] = (struct sampler_candidate){-x[i], 0};
    for (size_t i = k / 2; i-- > 0;)
        sift_down(heap, k, i);
    for (size_t i = k; i < count; i++)
        if (-x[i] < heap[0].z) {
            heap[0].z = -x[i];
            sift_down(heap, k, 0);
        }
    return -heap[0].z;
}

/* List what is at least `floor`, in the order of ids. */
static size_t gather(struct sampler_scratch *w, size_t n, float floor)
{
    size_t m = 0;

    for (size_t b = 0; b < blocks_of(n); b++) {
        if (!(w->tops[b] >= floor))
            continue;
        const size_t end = BASE_MIN(n, (b + 1) * BLOCK);
        for (size_t i = b * BLOCK; i < end; i++)
            if (w->z[i] >= floor)
                w->list[m++] = (struct sampler_candidate){w->z[i], (int32_t)i};
    }
    return m;
}

/* What may be among the `want` best, and maybe more: only what is at least `floor`. */
static size_t gather_best(struct sampler_scratch *w, size_t n, size_t want, float floor)
{
    if (want <= FEW && want <= blocks_of(n)) {
        const float least = kth(w->tops, blocks_of(n), want);
        return gather(w, n, BASE_MAX(least, floor));
    }
    return gather(w, n, floor);
}

struct cut {
    float max, t;  /* highest logit and temperature */
    size_t most;   /* keep this many at most */
    double enough; /* or until their weight is this */
    size_t kept;
    double weight;
};

static size_t bucket_of(const struct cut *c, float z)
{
    const float at = (c->max - z) / c->t * ((float)BUCKETS / DEPTH);

    return at < (float)(BUCKETS - 1) ? (size_t)at : BUCKETS - 1;
}

/* Move what lies in better buckets than the one of the cut to the front of the list, then that one's; forget others. */
static size_t narrow(struct sampler_scratch *w, size_t m, struct cut *c)
{
    uint32_t count[BUCKETS] = {0};
    double weight[BUCKETS] = {0};
    size_t at = 0, sure = 0, in = 0;

    for (size_t i = 0; i < m; i++)
        w->p[i] = exp_of((w->list[i].z - c->max) / c->t);
    for (size_t i = 0; i < m; i++) {
        const size_t b = bucket_of(c, w->list[i].z);
        count[b]++;
        weight[b] += (double)w->p[i];
    }
    while (at < BUCKETS - 1 && c->kept + count[at] < c->most && c->weight + weight[at] < c->enough) {
        c->kept += count[at];
        c->weight += weight[at++];
    }
    for (size_t i = 0; i < m; i++) {
        const struct sampler_candidate x = w->list[i];
        const size_t b = bucket_of(c, x.z);
        if (b > at)
            continue;
        w->list[sure + in] = x;
        if (b < at) {
            w->list[sure + in] = w->list[sure];
            w->list[sure++] = x;
        } else {
            in++;
        }
    }
    return sure + in;
}

/* Keep the best of the list's m: c->most of them, or fewer that weigh c->enough. Those put in order stand last, the
 * best of them behind. */
static void keep_best(struct sampler_scratch *w, size_t m, struct cut *c)
{
    c->kept = 0;
    c->weight = 0;
    if (m > FEW)
        m = narrow(w, m, c);
    const size_t sure = c->kept;
    struct sampler_candidate *heap = w->list + sure;
    size_t left = m - sure;
    for (size_t i = left / 2; i-- > 0;)
        sift_down(heap, left, i);
    while (left > 0 && c->kept < c->most && c->weight < c->enough) {
        const struct sampler_candidate top = heap[0];
        heap[0] = heap[--left];
        heap[left] = top;
        if (left > 0)
            sift_down(heap, left, 0);
        c->kept++;
        c->weight += (double)exp_of((top.z - c->max) / c->t);
    }
    memmove(heap, heap + left, (c->kept - sure) * sizeof *heap);
}

/* ---- draw -------------------------------------------------------------------------------------------------------- */

/* List the candidates after top-k, top-p and min-p; their number. */
static size_t candidates(const struct llm_sampler *s, struct sampler_scratch *w, size_t n, float max)
{
    const bool nucleus = s->top_p > 0 && s->top_p<1, few = s->top_k> 0 && s->top_k < n;
    const float deepest = max - DEPTH * s->temperature;
    const float floor = s->min_p > 0 ? BASE_MAX(deepest, max + s->temperature * logf(s->min_p)) : deepest;
    struct cut c = {max, s->temperature, few ? s->top_k : n, DBL_MAX, 0, 0};
    size_t m;

    if (few) {
        keep_best(w, gather_best(w, n, s->top_k, deepest), &c);
        if (nucleus) {
            c.enough = (double)s->top_p * c.weight;
            keep_best(w, c.kept, &c);
        }
    } else if (nucleus) {
        c.enough = (double)s->top_p * total_weight(w, n, max, s->temperature, deepest);
        keep_best(w, gather_best(w, n, FEW / 2, deepest), &c);
        if (c.weight < c.enough) /* a flat distribution */
            keep_best(w, gather(w, n, deepest), &c);
    } else {
        return gather(w, n, floor);
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
        w->p[i] = exp_of((w->list[i].z - max) / s->temperature);
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
    const float max = find_tops(w->z, n, w->tops);
    *ret_count = 0;
    if (!(max >= -FLT_MAX))
        return 0;
    const double sum = (double)max + log(total_weight(w, n, max, 1, -FLT_MAX));
    size_t m = gather_best(w, n, s->logprobs, -FLT_MAX);
    for (size_t i = m / 2; i-- > 0;)
        sift_down(w->list, m, i);
    for (; m > 0 && *ret_count < s->logprobs; (*ret_count)++) {
        top[*ret_count] = w->list[0];
        w->list[0] = w->list[--m];
        if (m > 0)
            sift_down(w->list, m, 0);
    }
    return sum;
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
    const float max = find_tops(w->z, n, w->tops);
    if (!(max >= -FLT_MAX))
        out->id = first_allowed(allowed, n);
    else
        out->id = s->temperature > COLD ? pick(s, w, n, max) : first_of(w, n, max);
    if (s->logprobs == 0)
        return;
    const float own = logits[out->id];
    out->logprob = own >= -FLT_MAX && own <= FLT_MAX ? (float)((double)own - sum) : -INFINITY;
    for (size_t i = 0; i < top_count && out->top_count < s->logprobs - 1; i++)
        if (top[i].id != out->id)
            out->top[out->top_count++] = (struct llm_logprob){top[i].id, (float)((double)top[i].z - sum)};
}
