/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_session.c - many seeded runs of the session: chooses scenarios, counts them.
 *
 * In:   --runs N (1000), --seed N (1), --scenario NAME (all, mixed), --every-bit STRIDE (instead of runs)
 * Out:  one line; or, when something is not as it must be, what it was and how to repeat it, and the end
 * Does: run n uses seed + n and nothing else: no clock, no generator of the machine.
 */
#include "sim.h"

static const struct plan {
    const char *name;
    sim_scenario_fn *fn;
    unsigned weight; /* of 100 */
} plans[] = {
    {"stream-honest", sim_stream_honest, 25}, {"stream-attacked", sim_stream_attacked, 37},
    {"stream-fault", sim_stream_fault, 8},    {"identity", sim_identity, 9},
    {"downgrade", sim_downgrade, 6},          {"datagrams", sim_datagrams, 11},
    {"renewal", sim_renewal, 4},
};

struct args {
    uint64_t runs, seed, stride;
    const char *scenario;
};

static bool number(const char *text, uint64_t *ret)
{
    char *end = NULL;

    *ret = strtoull(text, &end, 10);
    return end != text && *end == '\0';
}

static bool parse(int argc, char **argv, struct args *a)
{
    *a = (struct args){.runs = 1000, .seed = 1};
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            return false;
        if (strcmp(argv[i], "--scenario") == 0)
            a->scenario = argv[i + 1];
        else if (!(strcmp(argv[i], "--runs") == 0 && number(argv[i + 1], &a->runs)) &&
                 !(strcmp(argv[i], "--seed") == 0 && number(argv[i + 1], &a->seed)) &&
                 !(strcmp(argv[i], "--every-bit") == 0 && number(argv[i + 1], &a->stride)))
            return false;
    }
    return true;
}

static const struct plan *choose(const struct args *a, uint64_t seed)
{
    struct sim_rng r = {seed};
    size_t roll = sim_below(&r, 100), i = 0;

    if (a->scenario == NULL) {
        while (roll >= plans[i].weight)
            roll -= plans[i++].weight;
        return &plans[i];
    }
    for (i = 0; i < BASE_ARRAY_LEN(plans); i++)
        if (strcmp(plans[i].name, a->scenario) == 0)
            return &plans[i];
    return NULL;
}

int main(int argc, char **argv)
{
    static struct sim_cred creds[SIM_CREDS];
    uint64_t counts[BASE_ARRAY_LEN(plans)] = {0};
    struct sim_rng keys = {7};
    struct args a;

    if (!parse(argc, argv, &a) || choose(&a, 1) == NULL) {
        (void)fprintf(stderr, "usage: %s [--runs N] [--seed N] [--scenario NAME] [--every-bit STRIDE]\n", argv[0]);
        return 2;
    }
    if (crypto_init(NULL) != DBE_OK)
        return 1;
    base_random_set(&(const struct base_random_ops){sim_fill_random, &keys});
    sim_creds_init(creds);
    if (a.stride > 0) {
        (void)printf("sim: %s cryptography, %llu single bits flipped\n", sim_crypto_name,
                     (unsigned long long)sim_every_bit(creds, (size_t)a.stride));
    } else {
        for (uint64_t n = 0; n < a.runs; n++) {
            const struct plan *plan = choose(&a, a.seed + n);

            plan->fn(a.seed + n, creds);
            counts[plan - plans]++;
        }
        (void)printf("sim: %s cryptography, %llu runs from seed %llu:", sim_crypto_name, (unsigned long long)a.runs,
                     (unsigned long long)a.seed);
        for (size_t i = 0; i < BASE_ARRAY_LEN(plans); i++)
            (void)printf(" %s %llu", plans[i].name, (unsigned long long)counts[i]);
        (void)printf("\n");
    }
    sim_creds_fini(creds);
    return 0;
}
