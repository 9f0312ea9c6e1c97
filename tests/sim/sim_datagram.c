/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_datagram.c - runs over a network that loses, doubles, delays, reorders and changes datagrams.
 *
 * What comes out was sent, unchanged, and comes out once; nothing that anybody can do to a datagram ends the channel.
 */
#include "sim.h"

enum { STEPS_MIN = 40, STEPS_MORE = 300 };

static void feed_datagram(struct sim *w, size_t side, const uint8_t *data, size_t len)
{
    struct sim_side *d = &w->side[side];

    if (!sim_lives(d))
        return;
    base_buf_clear(&d->partial);
    base_buf_bytes(&d->partial, data, len);
    while (sim_feed(w, side))
        ;
    SIM_CHECK(w, d->partial.len == 0); /* a datagram is taken whole or dropped whole */
    sim_invariants(w);
}

/* The network gives one of the datagrams on the way, or something like it, to `side`. */
static void give(struct sim *w, size_t side)
{
    struct sim_side *d = &w->side[side];
    size_t at = sim_below(&w->rng, d->in_count), roll = sim_below(&w->rng, 100), len;
    uint8_t *copy;

    if (d->in_count == 0)
        return;
    len = d->in[at].len;
    copy = malloc(len);
    SIM_CHECK(w, copy != NULL);
    memcpy(copy, d->in[at].data, len);
    if (roll < 15) {
        sim_take_out(w, side, at); /* lost */
    } else if (roll < 25) {
        feed_datagram(w, side, copy, len); /* and it stays: it comes again */
    } else if (roll < 32) {
        copy[sim_below(&w->rng, len)] ^= (uint8_t)(1u << sim_below(&w->rng, 8));
        feed_datagram(w, side, copy, len);
    } else if (roll < 35) {
        feed_datagram(w, side, copy, 1 + sim_below(&w->rng, len - 1));
    } else if (roll < 38) {
        for (size_t i = 0; i < len && i < 64; i++)
            copy[i] = (uint8_t)sim_u64(&w->rng);
        feed_datagram(w, side, copy, BASE_MIN(len, (size_t)64));
    } else {
        sim_take_out(w, side, at);
        feed_datagram(w, side, copy, len);
    }
    free(copy);
}

/* Something old, of either side, or of another channel. */
static void give_old(struct sim *w, size_t side)
{
    const struct sim_side *from = &w->side[sim_below(&w->rng, 2)];
    size_t kept = BASE_MIN(from->history_count, (size_t)SIM_HISTORY_MAX);
    const struct sim_rec *rec = NULL;

    if (kept > 0)
        rec = &from->history[sim_below(&w->rng, kept)];
    if (w->splice_count > 0 && sim_chance(&w->rng, 30))
        rec = &w->splice[sim_below(&w->rng, w->splice_count)];
    if (rec != NULL)
        feed_datagram(w, side, rec->data, rec->len);
}

static bool may_rekey(const struct sim *w, size_t side)
{
    const struct sess *s = w->side[side].s, *other = w->side[1 - side].s;

    /* two epochs that nobody heard of cannot be caught up with: the owner of a lossy channel rekeys seldom */
    return s->send.epoch == other->recv.epoch;
}

/* One datagram of a handshake is lost, comes twice, or comes before or after others. */
static void give_handshake(struct sim *w, size_t side, unsigned loss)
{
    struct sim_side *d = &w->side[side];
    size_t at = sim_below(&w->rng, d->in_count);
    bool again = sim_chance(&w->rng, 20);
    struct sim_rec rec;

    if (d->in_count == 0)
        return;
    rec = d->in[at];
    rec.data = malloc(rec.len);
    SIM_CHECK(w, rec.data != NULL);
    memcpy(rec.data, d->in[at].data, rec.len);
    if (!again)
        sim_take_out(w, side, at);
    if (!sim_chance(&w->rng, loss))
        feed_datagram(w, side, rec.data, rec.len);
    free(rec.data);
}

/* Both come up, however unlucky: what is lost is said again. */
static void handshake(struct sim *w)
{
    unsigned loss = (unsigned)sim_below(&w->rng, 60);
    size_t steps = 0;

    sim_start(w);
    while (!w->side[0].up_once || !w->side[1].up_once) {
        size_t side = sim_below(&w->rng, 2);

        SIM_CHECK(w, steps++ < 5000);
        if (sim_chance(&w->rng, 80))
            give_handshake(w, side, loss);
        else if (w->side[1 - side].in_count < SIM_WIRE_MAX / 2)
            sim_resend(w, side);
        if (sim_chance(&w->rng, 5))
            sim_say(w, SESS_INITIATOR);
    }
}

static void deliver_all(struct sim *w)
{
    for (size_t k = 0; k < 2; k++)
        while (w->side[k].in_count > 0 && sim_lives(&w->side[k])) {
            struct sim_rec rec = w->side[k].in[0];

            w->side[k].in[0].data = malloc(1);
            sim_take_out(w, k, 0);
            feed_datagram(w, k, rec.data, rec.len);
            free(rec.data);
        }
}

void sim_datagrams(uint64_t seed, const struct sim_cred *creds)
{
    static struct sim w;
    uint64_t got[2];

    sim_begin(&w, seed, "datagrams", creds);
    w.datagram = true;
    if (sim_chance(&w.rng, 30))
        sim_other_channel(&w);
    sim_open(&w, NULL, NULL);
    handshake(&w);
    for (size_t left = STEPS_MIN + sim_below(&w.rng, STEPS_MORE); left > 0; left--) {
        size_t side = sim_below(&w.rng, 2), roll = sim_below(&w.rng, 100);

        if (roll < 50)
            give(&w, side);
        else if (roll < 92)
            sim_say(&w, side);
        else if (roll < 95)
            give_old(&w, side);
        else if (roll < 96)
            sim_resend(&w, side);
        else if (may_rekey(&w, side))
            sim_rekey(&w, side);
    }
    deliver_all(&w);
    for (size_t k = 0; k < 2; k++) { /* what is sent over a network that has calmed down arrives */
        got[k] = w.side[k].got;
        sim_say(&w, 1 - k);
    }
    deliver_all(&w);
    for (size_t k = 0; k < 2; k++)
        SIM_CHECK(&w, w.side[k].died == DBE_OK && w.side[k].got == got[k] + 1);
    sim_settled(&w);
    sim_end(&w);
}
