/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler.c - see sampler.h. Candidates are a heap, of which only as many are taken as top-k and top-p keep: sorting
 * a vocabulary of 128,000 for every token would cost more than a small model.
 */
#include "sampler.h"

#include <math.h>
#include <stdbool.h>

static float draw(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return (float)(z >> 40) * 0x1p-24f;
}

static int32_t greedy(const float *logits, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        if (logits[i] > logits[best] || (isnan(logits[best]) && !isnan(logits[i])))
            best = i;
    return (int32_t)best;
}

static bool above(const struct sampler_candidate *a, const struct sampler_candidate *b)
{
    return a->p > b->p || (a->p >= b->p && a->id < b->id);
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

/* Softmax at the temperature; what is not a number gets 0. Returns the sum. */
static double weigh(const struct llm_sampler *s, const float *logits, size_t n, struct sampler_candidate *out)
{
    const float max = logits[greedy(logits, n)];
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        const float p = logits[i] >= max ? 1.0f : expf((logits[i] - max) / s->temperature);
        out[i] = (struct sampler_candidate){isnan(p) ? 0 : p, (int32_t)i};
        sum += (double)out[i].p;
    }
    return sum;
}

int32_t llm_sample(struct llm_sampler *s, const float *logits, size_t n, struct sampler_candidate *scratch)
{
    const float r = draw(&s->state); /* also when greedy: the state depends on the number of tokens alone */
    size_t left = n, kept = 0;
    double mass = 0;

    if (!(s->temperature > 0))
        return greedy(logits, n);
    const double sum = weigh(s, logits, n, scratch);
    const bool nucleus = s->top_p > 0 && s->top_p < 1;
    const size_t most = s->top_k > 0 && s->top_k < n ? s->top_k : n;
    for (size_t i = n / 2; i-- > 0;)
        sift_down(scratch, n, i);
    if (!nucleus && most == n) {
        mass = sum;
        kept = 0;
    } else {
        /* popped candidates gather at the end of the array, the best one last */
        while (kept < most) {
            const struct sampler_candidate top = scratch[0];
            scratch[0] = scratch[--left];
            scratch[left] = top;
            if (left > 0)
                sift_down(scratch, left, 0);
            kept++;
            mass += (double)top.p;
            if (nucleus && mass >= (double)s->top_p * sum)
                break;
        }
    }
    double at = (double)r * mass;
    const size_t count = kept > 0 ? kept : n;
    const int32_t first = kept > 0 ? scratch[n - 1].id : scratch[0].id;
    for (size_t i = 0; i < count; i++) {
        const struct sampler_candidate *c = kept > 0 ? &scratch[n - 1 - i] : &scratch[i];
        at -= (double)c->p;
        if (at < 0)
            return c->id;
    }
    return first; /* rounding only */
}
