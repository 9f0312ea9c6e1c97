/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_attack.c - what somebody who holds the wire can do to it, once in a run, at any moment of it.
 *
 * A record that does not belong where it lies is marked: from its first byte on, whoever is given it may deliver
 * nothing any more (sim_world.c checks) and, on a stream, must die of it or wait for ever.
 */
#include "sim.h"

/* First record on the way to `side` of which nothing was delivered yet. */
static size_t first_whole(const struct sim_side *d)
{
    return d->in_off > 0 ? 1 : 0;
}

static void mark_from(struct sim *w, size_t side, size_t at)
{
    struct sim_side *d = &w->side[side];

    if (at < d->in_count)
        d->in[at].bad = true;
    else
        d->gap = true;
}

static void flip(struct sim *w, struct sim_rec *rec)
{
    size_t bit = sim_below(&w->rng, rec->len * 8);

    if (sim_chance(&w->rng, 20)) /* headers are small and would seldom be hit */
        bit = sim_below(&w->rng, (size_t)DBE_RECORD_HEADER_BYTES * 8);
    rec->data[bit / 8] = (uint8_t)(rec->data[bit / 8] ^ 1u << bit % 8);
    rec->bad = true;
}

static void truncate(struct sim *w, size_t side, size_t at)
{
    struct sim_side *d = &w->side[side];

    while (d->in_count > at + 1)
        sim_take_out(w, side, d->in_count - 1);
    d->in[at].len = sim_below(&w->rng, d->in[at].len);
    if (d->in[at].len == 0)
        sim_take_out(w, side, at);
    d->cut = true;
}

static void swap(struct sim_side *d, size_t at)
{
    struct sim_rec first = d->in[at];

    d->in[at] = d->in[at + 1];
    d->in[at + 1] = first;
    d->in[at].bad = d->in[at + 1].bad = true;
}

static void garbage(struct sim *w, size_t side, size_t at)
{
    uint8_t noise[80];
    size_t len = 1 + sim_below(&w->rng, sizeof noise);

    for (size_t i = 0; i < len; i++)
        noise[i] = (uint8_t)sim_u64(&w->rng);
    if (len >= DBE_RECORD_HEADER_BYTES && sim_chance(&w->rng, 70)) { /* a plausible header */
        static const uint8_t types[] = {0x01, 0x02, 0x03, 0x10, 0x11, 0x12, 0x13, 0x14, 0x20};
        struct sess_rec_head head = {.length = (uint32_t)(len - DBE_RECORD_HEADER_BYTES),
                                     .type = types[sim_below(&w->rng, sizeof types)]};

        head.epoch = head.type < 0x10 || head.type == 0x20 ? 0 : (uint8_t)sim_below(&w->rng, 3);
        head.seq = head.epoch == 0 ? 0 : sim_below(&w->rng, 8);
        sess_rec_head_put(noise, &head);
    }
    sim_put(w, side, at, noise, len, true);
}

/* Something that the sender said and that was delivered already. */
static bool replay(struct sim *w, size_t side, size_t at)
{
    const struct sim_side *from = &w->side[1 - side];
    size_t waiting = w->side[side].in_count, pick;

    if (from->history_count <= waiting)
        return false;
    pick = sim_below(&w->rng, from->history_count - waiting);
    if (from->history_count - pick > SIM_HISTORY_MAX)
        return false;
    sim_put(w, side, at, from->history[pick % SIM_HISTORY_MAX].data, from->history[pick % SIM_HISTORY_MAX].len, true);
    return true;
}

static bool reflect(struct sim *w, size_t side, size_t at)
{
    const struct sim_side *own = &w->side[side];
    size_t kept = BASE_MIN(own->history_count, (size_t)SIM_HISTORY_MAX);

    if (kept == 0)
        return false;
    const struct sim_rec *rec = &own->history[sim_below(&w->rng, kept)];
    sim_put(w, side, at, rec->data, rec->len, true);
    return true;
}

bool sim_strike(struct sim *w, size_t side)
{
    struct sim_side *d = &w->side[side];
    size_t first = first_whole(d), at = first + sim_below(&w->rng, d->in_count - BASE_MIN(first, d->in_count) + 1);
    bool there = at < d->in_count;

    if (!sim_lives(d) || at > d->in_count)
        return false;
    switch (w->attack) {
    case SIM_FLIP:
        if (there)
            flip(w, &d->in[at]);
        return there;
    case SIM_DROP:
        if (there)
            sim_take_out(w, side, at), mark_from(w, side, at);
        return there;
    case SIM_TWICE:
        if (there)
            sim_put(w, side, at + 1, d->in[at].data, d->in[at].len, true);
        return there;
    case SIM_SWAP:
        if (at + 1 >= d->in_count)
            return false;
        swap(d, at);
        return true;
    case SIM_REPLAY: return replay(w, side, at);
    case SIM_REFLECT: return reflect(w, side, at);
    case SIM_SPLICE:
        if (w->splice_count == 0)
            return false;
        const struct sim_rec *rec = &w->splice[sim_below(&w->rng, w->splice_count)];
        if (there && sim_chance(&w->rng, 50))
            sim_take_out(w, side, at);
        sim_put(w, side, at, rec->data, rec->len, true);
        return true;
    case SIM_TRUNCATE:
        if (there)
            truncate(w, side, at);
        return there;
    case SIM_GARBAGE: garbage(w, side, at); return true;
    case SIM_NONE:
    case SIM_ATTACKS: break;
    }
    return false;
}

void sim_other_channel(struct sim *w)
{
    struct sim *o = calloc(1, sizeof *o);

    BASE_INVARIANT(o != NULL);
    sim_begin(o, ~w->seed, w->scenario, w->creds);
    sim_open(o, NULL, NULL);
    sim_start(o);
    sim_drain(o);
    for (int i = 0; i < 4; i++) {
        sim_say(o, (size_t)i % 2);
        if (i == 1)
            sim_rekey(o, 0), sim_rekey(o, 1);
        if (i == 2)
            sim_rehandshake(o, 1), sim_rehandshake(o, 0);
    }
    sim_drain(o);
    sim_close(o, 0);
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < o->side[k].history_count && w->splice_count < SIM_SPLICE_MAX; i++) {
            struct sim_rec *rec = &o->side[k].history[i];

            w->splice[w->splice_count++] = (struct sim_rec){.data = rec->data, .len = rec->len};
            rec->data = NULL;
        }
    sim_end(o);
    base_random_set(&(const struct base_random_ops){sim_fill_random, &w->fill});
    free(o);
}
