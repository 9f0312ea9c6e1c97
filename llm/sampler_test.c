/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler_test.c - what is kept and how often it is drawn, against a reference that sorts; penalties, masks, logits
 * that are not numbers.
 */
#include "sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/test.h"

enum { WIDE = 5000, DRAWS = 12000 };

static uint64_t seed = 1;

static uint32_t next_random(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33);
}

static float gauss(float width)
{
    float sum = 0;

    for (int i = 0; i < 12; i++)
        sum += (float)next_random() * 0x1p-31f - 0.5f;
    return sum * width;
}

/* Sample `draws` times, each at the next position; counts[id]. */
static void count_draws(const struct llm_session_params *p, const float *logits, size_t n, const uint32_t *allowed,
                        unsigned draws, unsigned *counts)
{
    struct llm_sampler s;
    struct sampler_scratch w;
    struct llm_token_prob out;

    assert_int_equal(llm_sampler_init(p, (uint32_t)n, 16, &s, NULL), DBE_OK);
    assert_int_equal(llm_sampler_scratch_init(n, &w), DBE_OK);
    memset(counts, 0, n * sizeof *counts);
    for (unsigned i = 0; i < draws; i++) {
        s.position = i;
        llm_sample(&s, logits, n, allowed, &w, &out);
        assert_in_range(out.id, 0, n - 1);
        counts[out.id]++;
    }
    llm_sampler_scratch_fini(&w);
    llm_sampler_fini(&s);
}

static int32_t greedy(const struct llm_session_params *p, const float *logits, size_t n, const uint32_t *allowed)
{
    unsigned *counts = calloc(n, sizeof *counts);
    int32_t id = 0;

    assert_non_null(counts);
    count_draws(p, logits, n, allowed, 1, counts);
    while (counts[id] == 0)
        id++;
    free(counts);
    return id;
}

static void follows_the_distribution(void **state)
{
    static const float logits[] = {0.0f, 1.0986123f, -INFINITY, NAN, 0.6931472f, 1.7917595f}; /* 1 3 0 0 2 6 of 12 */
    static const float nothing[] = {NAN, -INFINITY, INFINITY};
    static const float infinite[] = {INFINITY, 1, NAN};
    unsigned c[6];

    (void)state;
    count_draws(&(struct llm_session_params){.temperature = 1}, logits, 6, NULL, DRAWS, c);
    assert_in_range(c[0], 850, 1150);
    assert_in_range(c[1], 2800, 3200);
    assert_in_range(c[4], 1800, 2200);
    assert_in_range(c[5], 5800, 6200);
    assert_int_equal(c[2] + c[3], 0);
    count_draws(&(struct llm_session_params){.temperature = 1, .top_k = 2}, logits, 6, NULL, 9000, c);
    assert_int_equal(c[1] + c[5], 9000);
    assert_in_range(c[5], 5800, 6200);
    /* 6 + 3 = 9 of 12 is less than 0.8, 11 of 12 is enough */
    count_draws(&(struct llm_session_params){.temperature = 1, .top_p = 0.8f}, logits, 6, NULL, 11000, c);
    assert_int_equal(c[5] + c[1] + c[4], 11000);
    assert_in_range(c[4], 1800, 2200);
    /* top-p counts what top-k left: 6 of 9 is enough */
    count_draws(&(struct llm_session_params){.temperature = 1, .top_k = 2, .top_p = 0.6f}, logits, 6, NULL, 100, c);
    assert_int_equal(c[5], 100);
    /* a third of 6: 2 stays, 1 goes */
    count_draws(&(struct llm_session_params){.temperature = 1, .min_p = 0.3f}, logits, 6, NULL, 11000, c);
    assert_int_equal(c[5] + c[1] + c[4], 11000);
    assert_in_range(c[4], 1800, 2200);
    assert_int_equal(greedy(&(struct llm_session_params){0}, logits, 6, NULL), 5);
    for (float t = 0; t < 2; t++) {
        const struct llm_session_params p = {.temperature = t, .top_p = 0.5f};
        assert_in_range(greedy(&p, nothing, 3, NULL), 0, 2);
        assert_int_equal(greedy(&p, nothing, 3, &(uint32_t){4}), 2);
        assert_int_equal(greedy(&p, infinite, 3, NULL), 1);
        assert_int_equal(greedy(&(struct llm_session_params){.temperature = 1e-40f}, infinite, 3, NULL), 1);
    }
}

/* ---- against a sort ---------------------------------------------------------------------------------------------- */

static const float *sorted_by;

static int by_logit(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;

    return sorted_by[x] > sorted_by[y] ? -1 : sorted_by[x] < sorted_by[y] ? 1 : x - y;
}

/* How many of the sorted tokens are kept, in doubles; `slack` widens what is summed, for what rounding may decide. */
static size_t kept(const struct llm_session_params *p, const float *logits, const int *order, size_t n, double slack)
{
    const size_t k = p->top_k > 0 && p->top_k < n ? p->top_k : n;
    const double max = (double)logits[order[0]], t = (double)p->temperature;
    double total = 0, sum = 0;
    size_t count = 0;

    for (size_t i = 0; i < k; i++)
        total += exp(((double)logits[order[i]] - max) / t);
    if (!(p->top_p > 0 && p->top_p < 1))
        count = k;
    while (count < k && sum < ((double)p->top_p + slack) * total)
        sum += exp(((double)logits[order[count++]] - max) / t);
    while (p->min_p > 0 && exp(((double)logits[order[count - 1]] - max) / t) < (double)p->min_p * (1 - slack))
        count--;
    return count;
}

static void keeps_what_a_sort_keeps(void **state)
{
    static float logits[WIDE];
    static int order[WIDE];
    static unsigned counts[WIDE];

    (void)state;
    for (int round = 0; round < 60; round++) {
        const size_t n = 1 + next_random() % WIDE;
        const float width = (float[]){0.01f, 1, 4, 20}[round % 4];
        const struct llm_session_params p = {.temperature = (float)(1 + next_random() % 19) / 10,
                                             .top_k = round % 3 ? 0 : 1 + next_random() % 600,
                                             .top_p = round % 5 ? (float)(next_random() % 100) / 100 : 0,
                                             .min_p = round % 2 ? 0 : 0.05f,
                                             .seed = next_random()};
        for (size_t i = 0; i < n; i++) {
            logits[i] = round % 7 ? gauss(width) : (float)(next_random() % 3); /* also many equals */
            order[i] = (int)i;
        }
        sorted_by = logits;
        qsort(order, n, sizeof *order, by_logit);
        const size_t least = kept(&p, logits, order, n, -1e-4), most = kept(&p, logits, order, n, 1e-4);
        count_draws(&p, logits, n, NULL, 400, counts);
        for (size_t i = most; i < n; i++)
            assert_int_equal(counts[order[i]], 0);
        if (least <= 4 && width < 2) /* few and alike: each is drawn */
            for (size_t i = 0; i < least; i++)
                assert_true(counts[order[i]] > 0);
    }
}

/* The best is drawn as often as its share says, on the path of few, of buckets and without any cut. */
static void shares_are_right(void **state)
{
    static float logits[WIDE];
    static unsigned counts[WIDE];
    const struct llm_session_params cases[] = {{.temperature = 1},
                                               {.temperature = 1, .top_k = 50},
                                               {.temperature = 1, .top_k = 3000},
                                               {.temperature = 1, .top_p = 0.999f},
                                               {.temperature = 1, .top_p = 0.4f},
                                               {.temperature = 1, .min_p = 0.0001f}};

    (void)state;
    for (size_t c = 0; c < BASE_ARRAY_LEN(cases); c++) {
        /* one token of half the weight, the others alike: more than a half where a cut leaves fewer of them */
        for (size_t i = 0; i < WIDE; i++)
            logits[i] = 0;
        logits[777] = logf(WIDE - 1);
        const double others = cases[c].top_k > 0      ? cases[c].top_k - 1
                              : cases[c].top_p > 0.5f ? 0.998 * (WIDE - 1)
                              : cases[c].top_p > 0    ? 0
                                                      : WIDE - 1;
        const double share = (WIDE - 1) / (WIDE - 1 + others);
        count_draws(&cases[c], logits, WIDE, NULL, 4000, counts);
        assert_true(fabs(counts[777] / 4000.0 - share) < 0.03);
    }
}

/* ---- biases, penalties, masks ------------------------------------------------------------------------------------ */

static int32_t after(const struct llm_session_params *p, const float *logits, size_t n, const char *notes)
{
    struct llm_sampler s;
    struct sampler_scratch w;
    struct llm_token_prob out;

    assert_int_equal(llm_sampler_init(p, (uint32_t)n, 8, &s, NULL), DBE_OK);
    assert_int_equal(llm_sampler_scratch_init(n, &w), DBE_OK);
    for (; *notes; notes += 2)
        llm_sampler_note(&s, notes[1] - '0', notes[0] == 'p');
    llm_sample(&s, logits, n, NULL, &w, &out);
    llm_sampler_scratch_fini(&w);
    llm_sampler_fini(&s);
    return out.id;
}

static void penalties(void **state)
{
    static const float logits[] = {2.0f, 1.9f, 1.0f, -1.0f};
    static const float negative[] = {-2.0f, -2.1f, -9.0f, -9.0f};

    (void)state;
#define P(...) &(struct llm_session_params){__VA_ARGS__}
    assert_int_equal(after(P(.presence_penalty = 0.2f), logits, 4, ""), 0);
    assert_int_equal(after(P(.presence_penalty = 0.2f), logits, 4, "a0"), 1);
    assert_int_equal(after(P(.presence_penalty = 0.2f), logits, 4, "a0a0a0a1"), 0); /* once, however often */
    assert_int_equal(after(P(.presence_penalty = 0.2f), logits, 4, "p0"), 0);       /* the prompt does not count */
    assert_int_equal(after(P(.frequency_penalty = 0.06f), logits, 4, "a0"), 0);
    assert_int_equal(after(P(.frequency_penalty = 0.06f), logits, 4, "a0a0"), 1);
    assert_int_equal(after(P(.frequency_penalty = -2), logits, 4, "a3a3"), 3);
    assert_int_equal(after(P(.repetition_penalty = 1.1f), logits, 4, "p0"), 1);
    assert_int_equal(after(P(.repetition_penalty = 1.1f), logits, 4, "p0p1"), 0);
    assert_int_equal(after(P(.repetition_penalty = 1.1f), negative, 4, "p0"), 1); /* more negative, not less */
    assert_int_equal(after(P(.repetition_penalty = 1e-30f), logits, 4, "p2"), 2);
    assert_int_equal(after(P(.presence_penalty = 2), logits, 4, "p0p1p2p3a0a1a2a3a0a1a2a3"), 0);
    const struct llm_logit_bias biases[] = {{0, -100}, {1, -100}, {3, 1.5f}};
    assert_int_equal(after(P(.biases = biases, .bias_count = 2), logits, 4, ""), 2);
    assert_int_equal(after(P(.biases = biases, .bias_count = 3), logits, 4, ""), 2);
    assert_int_equal(greedy(P(.biases = biases, .bias_count = 3), logits, 4, &(uint32_t){8}), 3);
#undef P
}

static void masks_hold(void **state)
{
    static float logits[WIDE];
    static unsigned counts[WIDE];
    static uint32_t allowed[WIDE / 32 + 1];

    (void)state;
    for (size_t i = 0; i < WIDE; i++)
        logits[i] = gauss(3);
    for (size_t i = 0; i < WIDE; i += 37)
        allowed[i / 32] |= 1u << (i % 32);
    for (int c = 0; c < 4; c++) {
        const struct llm_session_params p = {.temperature = 1, .top_k = c & 1 ? 90 : 0, .top_p = c & 2 ? 0.9f : 0};
        count_draws(&p, logits, WIDE, allowed, 500, counts);
        for (size_t i = 0; i < WIDE; i++)
            assert_true(counts[i] == 0 || i % 37 == 0);
    }
}

static void log_probabilities(void **state)
{
    static const float logits[] = {0.0f, 1.0986123f, NAN, 0.6931472f, 1.7917595f}; /* 1 3 - 2 6 of 12 */
    const struct llm_logit_bias bias = {1, 100};
    const struct llm_session_params p = {.logprobs = 3, .biases = &bias, .bias_count = 1};
    struct llm_sampler s;
    struct sampler_scratch w;
    struct llm_token_prob out;

    (void)state;
    assert_int_equal(llm_sampler_init(&p, 5, 0, &s, NULL), DBE_OK);
    assert_int_equal(llm_sampler_scratch_init(5, &w), DBE_OK);
    llm_sample(&s, logits, 5, NULL, &w, &out);
    assert_int_equal(out.id, 1); /* by the bias, but the numbers are the model's own */
    assert_true(fabsf(out.logprob - logf(3.0f / 12)) < 1e-5f);
    assert_int_equal(out.top_count, 2);
    assert_int_equal(out.top[0].id, 4);
    assert_true(fabsf(out.top[0].logprob - logf(6.0f / 12)) < 1e-5f);
    assert_int_equal(out.top[1].id, 3);
    assert_true(fabsf(out.top[1].logprob - logf(2.0f / 12)) < 1e-5f);
    llm_sample(&s, logits, 5, &(uint32_t){4}, &w, &out);
    assert_int_equal(out.id, 2);
    assert_true(isinf(out.logprob) && out.logprob < 0);
    llm_sampler_scratch_fini(&w);
    llm_sampler_fini(&s);
}

/* The draw of a position does not depend on what was sampled before it. */
static void positions_repeat(void **state)
{
    const struct llm_session_params p = {.temperature = 1, .seed = 7};
    static float logits[WIDE];
    struct llm_sampler s;
    struct sampler_scratch w;
    struct llm_token_prob a[8], b;

    (void)state;
    for (size_t i = 0; i < WIDE; i++)
        logits[i] = gauss(1);
    assert_int_equal(llm_sampler_init(&p, WIDE, 0, &s, NULL), DBE_OK);
    assert_int_equal(llm_sampler_scratch_init(WIDE, &w), DBE_OK);
    for (size_t i = 0; i < 8; i++) {
        llm_sample(&s, logits, WIDE, NULL, &w, &a[i]);
        llm_sampler_note(&s, a[i].id, false);
    }
    assert_true(a[0].id != a[1].id || a[1].id != a[2].id);
    for (size_t i = 8; i-- > 0;) {
        s.position = i;
        llm_sample(&s, logits, WIDE, NULL, &w, &b);
        assert_int_equal(b.id, a[i].id);
    }
    llm_sampler_scratch_fini(&w);
    llm_sampler_fini(&s);
}

static void bad_parameters_are_refused(void **state)
{
    const struct llm_logit_bias wide = {0, 101}, beyond = {4, 1};
    const struct llm_session_params cases[] = {
        {.temperature = NAN},
        {.temperature = 2.1f},
        {.top_p = -0.1f},
        {.min_p = 1.1f},
        {.min_p = NAN},
        {.repetition_penalty = -1},
        {.presence_penalty = 2.5f},
        {.frequency_penalty = NAN},
        {.logprobs = LLM_LOGPROBS_MAX + 1},
        {.biases = &wide, .bias_count = 1},
        {.biases = &beyond, .bias_count = 1},
        {.bias_count = LLM_BIASES_MAX + 1},
    };
    struct llm_sampler s;

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(cases); i++) {
        struct dbe_diag diag = {0};
        assert_int_equal(llm_sampler_init(&cases[i], 4, 4, &s, &diag), DBE_E_ARGUMENT);
        assert_true(diag.text[0] != '\0');
    }
}

static void no_memory_is_an_answer(void **state)
{
    const struct llm_logit_bias bias = {0, 1};
    const struct llm_session_params p = {.presence_penalty = 1, .biases = &bias, .bias_count = 1};
    struct llm_sampler s;
    struct sampler_scratch w;
    dbe_err err = DBE_E_NOMEM;

    (void)state;
    for (uint64_t nth = 1; err != DBE_OK; nth++) {
        base_fail_alloc_at(nth);
        err = llm_sampler_init(&p, 4, 4, &s, NULL);
        assert_true(err == DBE_E_NOMEM ? nth <= 3 : nth == 4);
    }
    base_fail_alloc_at(0);
    llm_sampler_fini(&s);
    err = DBE_E_NOMEM;
    for (uint64_t nth = 1; err != DBE_OK; nth++) {
        base_fail_alloc_at(nth);
        err = llm_sampler_scratch_init(4, &w);
        assert_true(err == DBE_E_NOMEM ? nth <= 4 : nth == 5);
    }
    base_fail_alloc_at(0);
    llm_sampler_scratch_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_the_distribution),
        cmocka_unit_test(keeps_what_a_sort_keeps),
        cmocka_unit_test(shares_are_right),
        cmocka_unit_test(penalties),
        cmocka_unit_test(masks_hold),
        cmocka_unit_test(log_probabilities),
        cmocka_unit_test(positions_repeat),
        cmocka_unit_test(bad_parameters_are_refused),
        cmocka_unit_test(no_memory_is_an_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
