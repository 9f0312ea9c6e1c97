/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_stream.c - runs over a stream: two that talk undisturbed, two with somebody between them, two short of memory.
 */
#include "sim.h"

enum { STEPS_MIN = 20, STEPS_MORE = 120 };

/* Sessions with limits small enough to be reached, and offers of every length. */
static void open_any(struct sim *w)
{
    struct sess_config c[2] = {sim_config(w, SESS_INITIATOR), sim_config(w, SESS_RESPONDER)};
    uint16_t ids[DBE_SUITES_MAX];
    size_t known = sim_suite_ids(ids);

    for (size_t k = 0; k < 2; k++) {
        if (sim_chance(&w->rng, 25))
            c[k].rekey_records = 2 + sim_below(&w->rng, 20);
        if (sim_chance(&w->rng, 15))
            c[k].rekey_bytes = 500 + sim_below(&w->rng, 4000);
        if (sim_chance(&w->rng, 15))
            c[k].rekey_age_ns = BASE_NS_PER_S * (1 + sim_below(&w->rng, 10));
    }
    if (sim_chance(&w->rng, 50)) { /* the initiator offers one, the responder knows all */
        c[0].suites[0] = ids[sim_below(&w->rng, known)];
        c[0].suites_count = 1;
    }
    sim_open(w, &c[0], &c[1]);
}

static void step(struct sim *w, bool may_close)
{
    size_t side = sim_below(&w->rng, 2), roll = sim_below(&w->rng, 100);

    if (roll < 50)
        sim_deliver(w, side, sim_chance(&w->rng, 60) ? SIZE_MAX : 1 + sim_below(&w->rng, 600));
    else if (roll < 84)
        sim_say(w, side);
    else if (roll < 88)
        sim_rekey(w, side);
    else if (roll < 90)
        sim_rekey(w, 0), sim_rekey(w, 1);
    else if (roll < 92)
        sim_rehandshake(w, side);
    else if (roll < 93)
        sim_rehandshake(w, 0), sim_rehandshake(w, 1);
    else if (roll < 95)
        sim_flush(w, side);
    else if (roll < 98)
        w->now_ns += BASE_NS_PER_S * sim_below(&w->rng, 5);
    else if (may_close)
        sim_close(w, side);
    sim_invariants(w);
}

void sim_stream_honest(uint64_t seed, const struct sim_cred *creds)
{
    static struct sim w;
    bool may_close;

    sim_begin(&w, seed, "stream-honest", creds);
    may_close = sim_chance(&w.rng, 30);
    open_any(&w);
    sim_start(&w);
    for (size_t left = STEPS_MIN + sim_below(&w.rng, STEPS_MORE); left > 0; left--)
        step(&w, may_close);
    sim_drain(&w);
    sim_settled(&w);
    sim_end(&w);
}

/* Whoever was given what does not belong died of it by name, or waits for bytes that never come. */
static void judge(struct sim *w)
{
    bool touched = w->side[0].poisoned || w->side[1].poisoned;

    for (size_t k = 0; k < 2; k++) {
        const struct sim_side *d = &w->side[k];

        if (d->poisoned)
            SIM_CHECK(w, d->died != DBE_OK || d->stalled || d->closed);
        if (d->died == DBE_OK)
            continue;
        SIM_CHECK(w, touched);
        SIM_CHECK(w, dbe_err_class(d->died) == DBE_CLASS_PEER || dbe_err_class(d->died) == DBE_CLASS_DROP ||
                         d->died == DBE_E_TOO_LARGE);
    }
}

void sim_stream_attacked(uint64_t seed, const struct sim_cred *creds)
{
    static struct sim w;
    size_t steps, when;

    sim_begin(&w, seed, "stream-attacked", creds);
    w.attack = (enum sim_attack)(SIM_NONE + 1 + (int)sim_below(&w.rng, SIM_ATTACKS - 1));
    if (w.attack == SIM_SPLICE)
        sim_other_channel(&w);
    open_any(&w);
    sim_start(&w);
    steps = STEPS_MIN + sim_below(&w.rng, STEPS_MORE);
    when = sim_chance(&w.rng, 40) ? sim_below(&w.rng, 8) : sim_below(&w.rng, steps);
    for (size_t i = 0; i < steps; i++) {
        if (i >= when && !w.attacked)
            w.attacked = sim_strike(&w, sim_below(&w.rng, 2));
        step(&w, false);
    }
    sim_drain(&w);
    if (w.attacked)
        judge(&w);
    else
        sim_settled(&w);
    sim_end(&w);
}

/* The n-th allocation or draw fails: whoever it hits refuses once or dies; nobody delivers what is wrong. */
void sim_stream_fault(uint64_t seed, const struct sim_cred *creds)
{
    static struct sim w;
    void (*fail_at)(uint64_t);

    sim_begin(&w, seed, "stream-fault", creds);
    w.fault = true;
    fail_at = sim_chance(&w.rng, 80) ? base_fail_alloc_at : base_fail_random_at;
    fail_at(1 + sim_below(&w.rng, fail_at == base_fail_alloc_at ? 120 : 12));
    open_any(&w);
    sim_start(&w);
    for (size_t left = STEPS_MIN + sim_below(&w.rng, STEPS_MORE); left > 0; left--)
        step(&w, true);
    sim_drain(&w);
    fail_at(0);
    sim_end(&w);
}
