/* SPDX-License-Identifier: Apache-2.0
 *
 * kern_attn.c - attention over a page for any CPU, and the choice among the tables.
 */
#include <string.h>

#include "half.h"
#include "kern_attn.h"

enum { V_LANES = 4, ATTN_ROWS = 4 };
typedef float V __attribute__((vector_size(16)));

static inline V load(const float *p)
{
    V v;

    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store(float *p, V v)
{
    memcpy(p, &v, sizeof v);
}

static inline V load_half(const uint8_t *p)
{
    V v;
    uint16_t h;

    for (size_t i = 0; i < V_LANES; i++) {
        memcpy(&h, p + i * sizeof h, sizeof h);
        v[i] = half_to_f32(h);
    }
    return v;
}

static inline V load_int8(const uint8_t *p)
{
    return (V){(float)(int8_t)p[0], (float)(int8_t)p[1], (float)(int8_t)p[2], (float)(int8_t)p[3]};
}

static inline V max_of(V a, V b)
{
    for (size_t i = 0; i < V_LANES; i++)
        a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}

static inline float greatest(V v)
{
    const float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];

    return a > b ? a : b;
}

#define V_MAX(a, b) max_of((a), (b))
#define V_GREATEST(v) greatest(v)
#define V_LOAD(p) load(p)
#define V_STORE(p, v) store(p, v)
#define V_SET(x) ((V){(x), (x), (x), (x)})
#define V_MUL(a, b) ((a) * (b))
#define V_FMA(a, b, c) ((a) * (b) + (c))
#define V_HALF(p) load_half(p)
#define V_INT8(p) load_int8(p)
#define KERN_TARGET
#include "kern_attn_impl.h"

const struct llm_attn_kernels llm_attn_portable = {"portable", attn_load_f16, attn_load_int8, attn_meet};

#if defined(__x86_64__)
#include "kern_x86.h"
#endif

const struct llm_attn_kernels *llm_attn_pick(const struct llm_kernels *k)
{
    if (strcmp(k->name, "portable") == 0)
        return &llm_attn_portable;
#if defined(__x86_64__)
    const struct kern_x86_cpu cpu = kern_x86_cpu();
    if (cpu.avx512vnni && strncmp(k->name, "avx2", 4) != 0 && strcmp(k->name, "avx-vnni") != 0)
        return &llm_attn_avx512;
    if (cpu.avx2)
        return &llm_attn_avx2;
#endif
    return &llm_attn_portable;
}

void llm_attn_begin(struct llm_attn_tile *t, size_t count, size_t width)
{
    t->count = count;
    memset(t->o, 0, LLM_ATTN_TILE * width * sizeof *t->o);
    memset(t->sum, 0, sizeof t->sum);
    for (size_t i = 0; i < LLM_ATTN_TILE; i++)
        t->max[i] = ATTN_NONE;
}

float llm_attn_sum(const struct llm_attn_tile *t, size_t i)
{
    float sum = 0;

    for (size_t j = 0; j < LLM_ATTN_LANES; j++)
        sum += t->sum[i][j];
    return sum;
}
