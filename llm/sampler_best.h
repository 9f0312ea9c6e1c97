/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler_best.h - the best of many logits without sorting them all: between sampler_best.c and sampler.c.
 *
 * `z` are logits in whole blocks, -INFINITY behind the end and where there is none; `n` is how many there are.
 */
#ifndef LLM_SAMPLER_BEST_H
#define LLM_SAMPLER_BEST_H

#include "kern_math.h"
#include "sampler.h"

enum {
    SAMPLER_BLOCK = 64,
    SAMPLER_FEW = 512 /* candidates that are put in order as they are */
};

/* Less likely than the best by more than e^64: no draw of 24 bits can tell it from impossible. */
#define SAMPLER_DEPTH 64.0f

static inline size_t sampler_blocks(size_t n)
{
    return (n + SAMPLER_BLOCK - 1) / SAMPLER_BLOCK;
}

/* e^x of x <= 0; below -87: 0. */
static inline float sampler_exp(float x)
{
    return x >= -87.0f ? kern_exp(x) : 0;
}

/* The best of each block into `tops`; the best of all is returned. */
float sampler_find_tops(const float *z, size_t n, float *tops);
/* The first that is at least `max`, given the tops. */
int32_t sampler_first_of(const struct sampler_scratch *w, size_t n, float max);
/* Sum of e^((z - max) / t) over what is at least `floor`. */
double sampler_total_weight(struct sampler_scratch *w, size_t n, float max, float t, float floor);

/* Given the tops, list what is at least `floor`, in the order of ids; how many. */
size_t sampler_gather(struct sampler_scratch *w, size_t n, float floor);
/* What may be among the `want` best, and maybe more: only what is at least `floor`. */
size_t sampler_gather_best(struct sampler_scratch *w, size_t n, size_t want, float floor);

struct sampler_cut {
    float max, t;  /* highest logit and temperature */
    size_t most;   /* keep this many at most */
    double enough; /* or until their weight is this */
    size_t kept;
    double weight;
};
/* Keep the best of the list's m: c->most of them, or fewer that weigh c->enough. */
void sampler_keep_best(struct sampler_scratch *w, size_t m, struct sampler_cut *c);
/* The `want` best of the list's m into `out`, best first; how many. The list is used up. */
size_t sampler_best_first(struct sampler_scratch *w, size_t m, size_t want, struct sampler_candidate *out);

#endif
