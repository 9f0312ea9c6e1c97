/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_session_fake.c - two sessions on the fake cryptography and a fuzzer that holds the wires between them: both
 * roles of the handshake, records, rekey, handshakes inside the channel and repeated datagrams, thousands of steps a
 * second.
 *
 * In:   byte 0: bit 0 datagrams, bits 1 and 2 what is offered; then steps: what to do and to whom in one byte, for some
 *       of them an argument of two bytes
 * Out:  a trap where something changed is delivered, a message comes out of order or twice, a side is up without the
 *       other one's transcript, memory is not given back or a nonce is used twice (tests/sim/sim_world.c checks)
 * Not:  what only real cryptography does: fuzz_handshake.c.
 */
#include "sim.h"

static struct sim_cred creds[SIM_CREDS];

enum step {
    DELIVER,
    DELIVER_SOME,
    SAY,
    REKEY,
    REHANDSHAKE,
    FLUSH,
    RESEND,
    AGE,
    FLIP,
    DROP,
    TWICE,
    SWAP,
    INJECT,
    OLD,
    CLOSE,
    DRAIN,
    STEPS
};

/* A datagram is given whole, from any place on the way. */
static void give(struct sim *w, size_t side, size_t at)
{
    struct sim_side *d = &w->side[side];

    if (d->in_count == 0 || !sim_lives(d))
        return;
    at %= d->in_count;
    base_buf_clear(&d->partial);
    base_buf_bytes(&d->partial, d->in[at].data, d->in[at].len);
    sim_take_out(w, side, at);
    while (sim_feed(w, side))
        ;
    sim_invariants(w);
}

static void deliver(struct sim *w, size_t side, size_t arg, bool some)
{
    if (w->datagram)
        give(w, side, some ? arg : 0);
    else
        sim_deliver(w, side, some ? arg : SIZE_MAX);
}

/* What somebody on the wire does with record `arg` of those of which nothing was delivered. Nothing is marked as not
 * belonging, for two changes may undo each other; what comes out must be in order all the same. */
static void meddle(struct sim *w, size_t side, enum step what, size_t arg)
{
    struct sim_side *d = &w->side[side];
    size_t first = d->in_off > 0 ? 1 : 0, at = first;

    if (d->in_count <= first || d->in_count >= SIM_WIRE_MAX - 8)
        return;
    at += arg % BASE_MIN(d->in_count - first, (size_t)4);
    if (what == FLIP) {
        size_t bit = (arg >> 2) % (d->in[at].len * 8);

        d->in[at].data[bit / 8] = (uint8_t)(d->in[at].data[bit / 8] ^ 1u << bit % 8);
    } else if (what == DROP) {
        sim_take_out(w, side, at);
    } else if (what == TWICE) {
        sim_put(w, side, at + 1, d->in[at].data, d->in[at].len, false);
    } else if (what == SWAP && at + 1 < d->in_count) {
        struct sim_rec rec = d->in[at];

        d->in[at] = d->in[at + 1];
        d->in[at + 1] = rec;
    }
}

/* Something that either side said, long ago or just now. */
static void old(struct sim *w, size_t side, size_t arg)
{
    const struct sim_side *from = &w->side[arg & 1];
    struct sim_side *d = &w->side[side];
    size_t kept = BASE_MIN(from->history_count, (size_t)SIM_HISTORY_MAX), at = d->in_off > 0 ? 1 : 0;
    const struct sim_rec *rec;

    if (kept == 0 || d->in_count >= SIM_WIRE_MAX - 8 || d->in_count < at)
        return;
    rec = &from->history[(arg >> 1) % kept];
    sim_put(w, side, at, rec->data, rec->len, false);
}

static void step(struct sim *w, enum step what, size_t side, size_t arg, const uint8_t **data, size_t *left)
{
    switch (what) {
    case DELIVER: deliver(w, side, arg, false); break;
    case DELIVER_SOME: deliver(w, side, arg, true); break;
    case SAY: sim_say(w, side); break;
    case REKEY:
        if (!w->datagram || w->side[side].s->send.epoch == w->side[1 - side].s->recv.epoch)
            sim_rekey(w, side);
        break;
    case REHANDSHAKE:
        if (!w->datagram)
            sim_rehandshake(w, side);
        break;
    case FLUSH: sim_flush(w, side); break;
    case RESEND:
        if (w->datagram && w->side[1 - side].in_count < SIM_WIRE_MAX - 8)
            sim_resend(w, side);
        break;
    case AGE: w->now_ns += arg * (BASE_NS_PER_S / 8); break;
    case FLIP:
    case DROP:
    case TWICE:
    case SWAP: meddle(w, side, what, arg); break;
    case INJECT: {
        size_t len = BASE_MIN(arg % 512 + 1, *left);

        if (len > 0 && w->side[side].in_off == 0 && w->side[side].in_count < SIM_WIRE_MAX - 8)
            sim_put(w, side, 0, *data, len, false);
        *data += len;
        *left -= len;
        break;
    }
    case OLD: old(w, side, arg); break;
    case CLOSE: sim_close(w, side); break;
    case DRAIN:
        if (!w->datagram)
            sim_drain(w);
        break;
    case STEPS: break;
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct sim_rng keys = {7};

    (void)argc, (void)argv;
    base_random_set(&(const struct base_random_ops){sim_fill_random, &keys});
    sim_creds_init(creds);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sim w;
    struct sess_config ci;
    uint16_t ids[DBE_SUITES_MAX];
    uint8_t shape;

    if (size == 0 || size > 8192)
        return 0;
    shape = *data++, size--;
    sim_begin(&w, 1, "fuzz", creds);
    w.datagram = (shape & 1) != 0;
    ci = sim_config(&w, SESS_INITIATOR);
    ci.suites_count = BASE_MIN((size_t)(shape >> 1 & 3), sim_suite_ids(ids));
    memcpy(ci.suites, ids, sizeof ids[0] * ci.suites_count);
    ci.rekey_records = (shape & 0x10) != 0 ? 3 : 0;
    sim_open(&w, &ci, NULL);
    sim_start(&w);
    for (int steps = 0; size > 0 && steps < 600; steps++) {
        enum step what = (enum step)(*data % STEPS);
        size_t side = *data >> 7, arg = 0;

        data++, size--;
        if (what != DELIVER && what != SAY && what != FLUSH && what != REKEY && size >= 2)
            arg = base_get_u16(data), data += 2, size -= 2;
        step(&w, what, side, arg, &data, &size);
    }
    sim_end(&w);
    return 0;
}
