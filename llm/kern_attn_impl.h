/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_attn_impl.h - attention over a page, written once over the vector operations that the including file defines:
 *   V, V_LANES            a vector of floats, and how many
 *   V_LOAD V_STORE V_SET  from and to unaligned memory; one value in all lanes
 *   V_MUL V_FMA(a, b, c)  a * b; a * b + c
 *   V_MAX V_GREATEST      of two vectors lane by lane; of the lanes of one
 *   V_HALF V_INT8         V_LANES values of binary16 or int8 at an address, as floats
 *   ATTN_ROWS             queries whose sums fit into registers together, two vectors each
 *   KERN_TARGET           the functions' attribute
 * All loops over queries, lanes and vectors have constant bounds after inlining.
 */
#include "kern_attn.h"
#include "kern_math.h"

#define ATTN_INLINE static inline KERN_TARGET __attribute__((always_inline))

enum { PAGE = LLM_ATTN_PAGE, TILE = LLM_ATTN_TILE, LANES = LLM_ATTN_LANES };

#define ATTN_NONE (-1e30f) /* a score below all */

/* c[q][0 .. vectors) = (scale ? c * scale[q] : 0) + sum over i < steps of a[i * a_step + q * a_row] * b[i * b_step]. */
ATTN_INLINE void block(size_t rows, size_t vectors, const float *a, size_t a_row, size_t a_step, const float *b,
                       size_t b_step, size_t steps, const float *scale, float *c, size_t c_row)
{
    V sum[TILE][4];

    for (size_t q = 0; q < rows; q++)
        for (size_t v = 0; v < vectors; v++)
            sum[q][v] = scale ? V_MUL(V_LOAD(c + q * c_row + v * V_LANES), V_SET(scale[q])) : V_SET(0.0f);
    for (size_t i = 0; i < steps; i++, a += a_step, b += b_step) {
        /* variables, not an array, which the compiler would keep in memory */
        const V b0 = V_LOAD(b), b1 = vectors > 1 ? V_LOAD(b + V_LANES) : b0;
        const V b2 = vectors > 2 ? V_LOAD(b + 2 * V_LANES) : b0, b3 = vectors > 3 ? V_LOAD(b + 3 * V_LANES) : b0;
        for (size_t q = 0; q < rows; q++) {
            const V x = V_SET(a[q * a_row]);
            sum[q][0] = V_FMA(x, b0, sum[q][0]);
            if (vectors > 1)
                sum[q][1] = V_FMA(x, b1, sum[q][1]);
            if (vectors > 2)
                sum[q][2] = V_FMA(x, b2, sum[q][2]);
            if (vectors > 3)
                sum[q][3] = V_FMA(x, b3, sum[q][3]);
        }
    }
    for (size_t q = 0; q < rows; q++)
        for (size_t v = 0; v < vectors; v++)
            V_STORE(c + q * c_row + v * V_LANES, sum[q][v]);
}

/* PAGE columns for `count` queries: as many at once as there are registers for. Each sum is a chain of its own, so the
 * cut changes no result. */
ATTN_INLINE void product(size_t count, const float *a, size_t a_row, size_t a_step, const float *b, size_t b_step,
                         size_t steps, const float *scale, float *c, size_t c_row)
{
    enum { FEW = PAGE / V_LANES < 4 ? PAGE / V_LANES : 4 };

    if (count == 1) {
        for (size_t v = 0; v < PAGE; v += FEW * V_LANES)
            block(1, FEW, a, a_row, a_step, b + v, b_step, steps, scale, c + v, c_row);
    } else if (count == 2) {
        for (size_t v = 0; v < PAGE; v += 2 * V_LANES)
            block(2, 2, a, a_row, a_step, b + v, b_step, steps, scale, c + v, c_row);
    } else if (count <= 4 || ATTN_ROWS == 4) {
        for (size_t q = 0; q < count; q += 4)
            for (size_t v = 0; v < PAGE; v += 2 * V_LANES)
                block(4, 2, a + q * a_row, a_row, a_step, b + v, b_step, steps, scale ? scale + q : NULL,
                      c + q * c_row + v, c_row);
    } else {
        for (size_t v = 0; v < PAGE; v += 2 * V_LANES)
            block(TILE, 2, a, a_row, a_step, b + v, b_step, steps, scale, c + v, c_row);
    }
}

/* Functions of their own, so that constants of what stands around them take no registers from the sums. */
static KERN_TARGET __attribute__((noinline)) void scores(const struct llm_attn_page *page,
                                                         const struct llm_attn_tile *t, float *s)
{
    product(t->count, t->q, 1, TILE, page->k, PAGE, page->d, NULL, s, PAGE);
}

static KERN_TARGET __attribute__((noinline)) void gather(const struct llm_attn_page *page, const float *weights,
                                                         const float *scale, struct llm_attn_tile *t)
{
    for (size_t c = 0; c < page->width; c += PAGE)
        product(t->count, weights, PAGE, 1, page->v + c, page->width, PAGE, scale, t->o + c, page->width);
}

ATTN_INLINE float cap_score(float s, float cap, float inverse)
{
    /* tanh(x) = 1 - 2 / (e^2x + 1) */
    return cap * (1.0f - 2.0f / (kern_exp(2.0f * (s * inverse)) + 1.0f));
}

/* Hide what the query does not see; the greatest score that is left. */
ATTN_INLINE float mask_max(float *s, int lo, int hi)
{
    V top;

    if (lo > 0 || hi < PAGE - 1)
        for (int t = 0; t < PAGE; t++)
            s[t] = t >= lo && t <= hi ? s[t] : ATTN_NONE;
    top = V_LOAD(s);
    for (size_t i = V_LANES; i < PAGE; i += V_LANES)
        top = V_MAX(top, V_LOAD(s + i));
    return V_GREATEST(top);
}

/* Scores become weights against the new maximum; the sum of weights is brought to that maximum, too. */
ATTN_INLINE void weigh(float *s, int lo, int hi, float max, float scale, float *sum)
{
    for (size_t t = 0; t < PAGE; t++)
        s[t] = kern_exp(s[t] - max);
    if (lo > 0 || hi < PAGE - 1) /* the exponential of what is hidden is small, but not 0 */
        for (int t = 0; t < PAGE; t++)
            s[t] = t >= lo && t <= hi ? s[t] : 0.0f;
    for (size_t j = 0; j < LANES; j++)
        sum[j] = sum[j] * scale + (s[j] + s[j + LANES]);
}

static KERN_TARGET void attn_meet(const struct llm_attn_page *page, float softcap, struct llm_attn_tile *t)
{
    float s[TILE * PAGE], max[TILE], scale[TILE];
    const size_t n = t->count;

    scores(page, t, s);
    if (softcap > 0)
        for (size_t i = 0; i < n * PAGE; i++)
            s[i] = cap_score(s[i], softcap, 1.0f / softcap);
    for (size_t i = 0; i < TILE; i++)
        max[i] = t->max[i];
    for (size_t i = 0; i < n; i++) {
        const float top = mask_max(s + i * PAGE, t->lo[i], t->hi[i]);
        max[i] = top > max[i] ? top : max[i];
    }
    for (size_t i = 0; i < TILE; i++) {
        scale[i] = kern_exp(t->max[i] - max[i]);
        t->max[i] = max[i];
    }
    for (size_t i = 0; i < n; i++)
        weigh(s + i * PAGE, t->lo[i], t->hi[i], max[i], scale[i], t->sum[i]);
    for (size_t i = n * PAGE; i < sizeof s / sizeof *s; i++)
        s[i] = 0;
    gather(page, s, scale, t);
}

static KERN_TARGET void attn_load_f16(const uint8_t *head, struct llm_attn_page *out)
{
    const size_t d = out->d, width = out->width;
    const uint8_t *v = head + d * PAGE * sizeof(uint16_t);
    float *keys = out->k, *values = out->v;
    size_t c;

    for (size_t i = 0; i < d * PAGE; i += V_LANES)
        V_STORE(keys + i, V_HALF(head + i * sizeof(uint16_t)));
    for (size_t t = 0; t < PAGE; t++, v += d * sizeof(uint16_t)) {
        float *to = values + t * width;
        for (c = 0; c + V_LANES <= d; c += V_LANES)
            V_STORE(to + c, V_HALF(v + c * sizeof(uint16_t)));
        for (; c < d; c++) {
            uint16_t h;
            memcpy(&h, v + c * sizeof h, sizeof h);
            to[c] = half_to_f32(h);
        }
        for (; c < width; c++)
            to[c] = 0;
    }
}

static KERN_TARGET void attn_load_int8(const uint8_t *head, struct llm_attn_page *out)
{
    const size_t d = out->d, width = out->width;
    const uint8_t *v = head + d * PAGE;
    float scales[2 * PAGE], *keys = out->k, *values = out->v;
    size_t c;

    memcpy(scales, head + 2 * d * PAGE, sizeof scales);
    for (size_t i = 0; i < d; i++)
        for (size_t t = 0; t < PAGE; t += V_LANES)
            V_STORE(keys + i * PAGE + t, V_MUL(V_INT8(head + i * PAGE + t), V_LOAD(scales + t)));
    for (size_t t = 0; t < PAGE; t++, v += d) {
        const float scale = scales[PAGE + t];
        float *to = values + t * width;
        for (c = 0; c + V_LANES <= d; c += V_LANES)
            V_STORE(to + c, V_MUL(V_INT8(v + c), V_SET(scale)));
        for (; c < d; c++)
            to[c] = (float)(int8_t)v[c] * scale;
        for (; c < width; c++)
            to[c] = 0;
    }
}
