/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler_best.c - the best of many logits.
 *
 * In:   logits of a vocabulary. Out: the highest, their weight, lists of the best.
 *
 * Sorting a vocabulary of 150,000 for every token would cost more than a small model. So: the best of each block of
 * 64 logits are found in one pass. At least k tokens are as good as the k-th best of these, so a list of few tokens
 * holds the k best of all. A cut that goes deeper counts tokens and their weight in buckets of equal width, and only
 * the bucket in which the cut falls is put in order.
 */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "sampler_best.h"

enum { LANES = 16, BUCKETS = 2048 };

float sampler_find_tops(const float *z, size_t n, float *tops)
{
    float best = -INFINITY;

    for (size_t b = 0; b < sampler_blocks(n); b++) {
        const float *x = z + b * SAMPLER_BLOCK;
        float lane[LANES], top;
        for (size_t j = 0; j < LANES; j++)
            lane[j] = x[j];
        for (size_t i = LANES; i < SAMPLER_BLOCK; i += LANES)
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

int32_t sampler_first_of(const struct sampler_scratch *w, size_t n, float max)
{
    for (size_t b = 0; b < sampler_blocks(n); b++)
        for (size_t i = b * SAMPLER_BLOCK; w->tops[b] >= max && i < n; i++)
            if (w->z[i] >= max)
                return (int32_t)i;
    return 0;
}

double sampler_total_weight(struct sampler_scratch *w, size_t n, float max, float t, float floor)
{
    const float scale = 1 / t;
    double sum = 0;

    for (size_t i = 0; i < sampler_blocks(n) * SAMPLER_BLOCK; i++)
        w->p[i] = sampler_exp((w->z[i] - max) * scale);
    for (size_t b = 0; b < sampler_blocks(n); b++) {
        const float *x = w->z + b * SAMPLER_BLOCK, *p = w->p + b * SAMPLER_BLOCK;
        float lane[LANES] = {0}, part = 0;
        for (size_t i = 0; i < SAMPLER_BLOCK; i += LANES)
            for (size_t j = 0; j < LANES; j++)
                lane[j] += x[i + j] >= floor ? p[i + j] : 0;
        for (size_t j = 0; j < LANES; j++)
            part += lane[j];
        sum += (double)part;
    }
    return sum;
}

/* ---- lists ------------------------------------------------------------------------------------------------------- */

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

/* The k-th highest of `count` numbers, k <= SAMPLER_FEW and k <= count: the root of a heap of the k highest, lowest on
 * top. */
static float kth(const float *x, size_t count, size_t k)
{
    struct sampler_candidate heap[SAMPLER_FEW];

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

size_t sampler_gather(struct sampler_scratch *w, size_t n, float floor)
{
    size_t m = 0;

    for (size_t b = 0; b < sampler_blocks(n); b++) {
        if (!(w->tops[b] >= floor))
            continue;
        const size_t end = BASE_MIN(n, (b + 1) * SAMPLER_BLOCK);
        for (size_t i = b * SAMPLER_BLOCK; i < end; i++)
            if (w->z[i] >= floor)
                w->list[m++] = (struct sampler_candidate){w->z[i], (int32_t)i};
    }
    return m;
}

size_t sampler_gather_best(struct sampler_scratch *w, size_t n, size_t want, float floor)
{
    if (want <= SAMPLER_FEW && want <= sampler_blocks(n)) {
        const float least = kth(w->tops, sampler_blocks(n), want);
        return sampler_gather(w, n, BASE_MAX(least, floor));
    }
    return sampler_gather(w, n, floor);
}

static size_t bucket_of(const struct sampler_cut *c, float z)
{
    const float at = (c->max - z) / c->t * ((float)BUCKETS / SAMPLER_DEPTH);

    return at < (float)(BUCKETS - 1) ? (size_t)at : BUCKETS - 1;
}

/* Move what lies in better buckets than the one of the cut to the front of the list, then that one's; forget others. */
static size_t narrow(struct sampler_scratch *w, size_t m, struct sampler_cut *c)
{
    uint32_t count[BUCKETS] = {0};
    double weight[BUCKETS] = {0};
    size_t at = 0, sure = 0, in = 0;

    for (size_t i = 0; i < m; i++)
        w->p[i] = sampler_exp((w->list[i].z - c->max) / c->t);
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

/* Those put in order stand last, the best of them behind. */
void sampler_keep_best(struct sampler_scratch *w, size_t m, struct sampler_cut *c)
{
    c->kept = 0;
    c->weight = 0;
    if (m > SAMPLER_FEW)
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
        c->weight += (double)sampler_exp((top.z - c->max) / c->t);
    }
    memmove(heap, heap + left, (c->kept - sure) * sizeof *heap);
}

size_t sampler_best_first(struct sampler_scratch *w, size_t m, size_t want, struct sampler_candidate *out)
{
    size_t count = 0;

    for (size_t i = m / 2; i-- > 0;)
        sift_down(w->list, m, i);
    while (m > 0 && count < want) {
        out[count++] = w->list[0];
        w->list[0] = w->list[--m];
        if (m > 0)
            sift_down(w->list, m, 0);
    }
    return count;
}
