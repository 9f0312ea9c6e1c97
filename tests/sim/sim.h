/* SPDX-License-Identifier: Apache-2.0
 *
 * sim.h - two sessions, the wires between them, and everything that may happen on a wire; seeded, on virtual time.
 *
 * A run is a pure function of its seed. What both ends say is numbered and can be made again from its number, so that
 * whatever is delivered is compared with what was sent without being kept.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/session_fake.h"

/* ---- chance ------------------------------------------------------------------------------------------------------ */

struct sim_rng {
    uint64_t state;
};

static inline uint64_t sim_u64(struct sim_rng *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u; /* SplitMix64 */

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline size_t sim_below(struct sim_rng *r, size_t n)
{
    return n == 0 ? 0 : (size_t)(sim_u64(r) % n);
}

static inline bool sim_chance(struct sim_rng *r, unsigned percent)
{
    return sim_below(r, 100) < percent;
}

/* ---- what a run is ----------------------------------------------------------------------------------------------- */

enum { SIM_WIRE_MAX = 1024, SIM_HISTORY_MAX = 48, SIM_SPLICE_MAX = 24 };

struct sim_rec {
    uint8_t *data;
    size_t len;
    bool bad; /* not what belongs here: from it on nothing may be delivered */
};

/* Who one side is, and whom it wants at the other end. `fake` first: it is the context of the session's callbacks. */
struct sim_cred {
    struct fake fake;
    int want_device;        /* -1: anybody of the mesh */
    struct sess *spoil_mac; /* whose confirmation keys are changed before they are used */
};

struct sim_side {
    struct sess *s;
    struct sim_cred *cred;
    struct sim_rec in[SIM_WIRE_MAX]; /* on the way to this side, first to last */
    size_t in_count, in_off;         /* in_off: bytes of in[0] that are there already */
    struct base_buf partial;         /* there, not yet taken */
    struct sim_rec history[SIM_HISTORY_MAX]; /* what this side said, for replay, reflection and splicing */
    size_t history_count;
    struct base_buf hs_said, hs_heard; /* handshake records in the clear, as sent and as taken; repetitions once */
    unsigned hs_said_types, hs_heard_types;
    uint8_t device; /* who it was when the channel was opened */
    uint64_t sent, got;
    uint8_t *seen; /* datagrams: which numbers were delivered */
    dbe_err died;
    uint64_t switched, refused;
    uint8_t binding[32];
    bool bound;
    bool up_once, closing, closed, poisoned, gap, cut, stalled;
};

enum sim_attack {
    SIM_NONE,
    SIM_FLIP,
    SIM_DROP,
    SIM_TWICE,
    SIM_SWAP,
    SIM_REPLAY,
    SIM_SPLICE,
    SIM_REFLECT,
    SIM_TRUNCATE,
    SIM_GARBAGE,
    SIM_ATTACKS
};

struct sim {
    uint64_t seed;
    const char *scenario;
    struct sim_rng rng, fill; /* fill: what base_random gives */
    uint64_t now_ns;
    bool datagram;
    struct sim_cred creds[2];
    struct sim_side side[2]; /* SESS_INITIATOR, SESS_RESPONDER */
    struct sim_rec splice[SIM_SPLICE_MAX];
    size_t splice_count;
    enum sim_attack attack;
    bool attacked, fault;
    int64_t mem_before;
};

/* Print seed, scenario and condition, and end the program. */
_Noreturn void sim_fail(const struct sim *w, const char *cond, const char *file, int line);
#define SIM_CHECK(w, cond)                                                                                             \
    do {                                                                                                               \
        if (!(cond))                                                                                                   \
            sim_fail((w), #cond, __FILE__, __LINE__);                                                                  \
    } while (0)

/* ---- sim_world.c: two ends and their wires ----------------------------------------------------------------------- */

/* base_random, from the seed of a run; `ctx` is a struct sim_rng. */
dbe_err sim_fill_random(void *ctx, void *buf, size_t len);
/* Made once, for keys are the slow part with real cryptography: three members of one mesh, one of another, and the
 * renewed certificates of the first two. */
enum { SIM_ALICE, SIM_BOB, SIM_CAROL, SIM_EVE, SIM_ALICE_NEW, SIM_BOB_NEW, SIM_CREDS };
void sim_creds_init(struct sim_cred creds[SIM_CREDS]);
void sim_creds_fini(struct sim_cred creds[SIM_CREDS]);
/* Alice is the initiator, Bob the responder, unless a scenario changes w->creds before sim_open. */
void sim_begin(struct sim *w, uint64_t seed, const char *scenario, const struct sim_cred *creds);
/* Sessions of both sides by these configurations; NULL: sim_config. */
void sim_open(struct sim *w, const struct sess_config *ci, const struct sess_config *cr);
struct sess_config sim_config(struct sim *w, enum sess_role role);
/* Free all, then check that nothing is left: memory, objects of the cryptography, a nonce used twice. */
void sim_end(struct sim *w);

/* Put what `from` said onto the other's wire, record by record; clears `out`. */
void sim_post(struct sim *w, size_t from, struct base_buf *out);
void sim_put(struct sim *w, size_t to, size_t at, const uint8_t *data, size_t len, bool bad);
void sim_take_out(struct sim *w, size_t to, size_t at);
/* Message `number` of `side`, made from its number; returns its length. */
size_t sim_message(uint64_t seed, size_t side, uint64_t number, uint8_t *out);
enum { SIM_MESSAGE_MAX = 40000, SIM_DATAGRAMS_MAX = 4096 };

void sim_start(struct sim *w);
void sim_say(struct sim *w, size_t side);
void sim_rekey(struct sim *w, size_t side);
void sim_rehandshake(struct sim *w, size_t side); /* under a suite of this build, or the one in use */
void sim_flush(struct sim *w, size_t side);       /* what it owes */
void sim_resend(struct sim *w, size_t side); /* the timer of a handshake over datagrams */
void sim_close(struct sim *w, size_t side);
/* Deliver `len` bytes of a stream to `side` and let it take them. */
void sim_deliver(struct sim *w, size_t side, size_t len);
/* Let `side` take one record of what is there. False: it wants more, or takes nothing any more. */
bool sim_feed(struct sim *w, size_t side);
/* Deliver all that is under way until nothing moves. */
void sim_drain(struct sim *w);
/* What is true after every step. */
void sim_invariants(struct sim *w);
/* What is true of two that nobody disturbed, when nothing is under way. */
void sim_settled(struct sim *w);
bool sim_lives(const struct sim_side *d);

/* ---- sim_attack.c ------------------------------------------------------------------------------------------------ */

/* Do the run's attack to what is under way to `side`. False: not possible now. */
bool sim_strike(struct sim *w, size_t side);
/* Records of another channel of the same two members, for SIM_SPLICE. */
void sim_other_channel(struct sim *w);

/* ---- scenarios: each one whole run ------------------------------------------------------------------------------- */

typedef void sim_scenario_fn(uint64_t seed, const struct sim_cred *creds);
/* sim_stream.c, sim_handshake.c, sim_datagram.c */
sim_scenario_fn sim_stream_honest, sim_stream_attacked, sim_stream_fault;
sim_scenario_fn sim_identity, sim_renewal, sim_downgrade;
sim_scenario_fn sim_datagrams;
/* A flip of every bit of the three handshake messages and of one record of each kind. Returns how many. */
uint64_t sim_every_bit(const struct sim_cred *creds, size_t stride);

/* sim_mem.c: what was allocated by base_alloc and its like and not freed */
int64_t sim_mem_live(void);

/* sim_fake.c and sim_real.c: what a program knows about the cryptography that it is linked with. */
extern const char sim_crypto_name[];
void sim_crypto_reset(void);
/* Nothing was made and not freed since the reset, no nonce used twice under a key. */
bool sim_crypto_clean(void);
size_t sim_suite_ids(uint16_t out[DBE_SUITES_MAX]);

#endif
