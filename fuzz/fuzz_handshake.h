/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_handshake.h - the two sessions of fuzz_handshake.c, and of gen_handshake_seeds.c, which writes what they said.
 *
 * All randomness is a counter, and the registry hash a constant: what is in the corpus stays good when a table gets a
 * row. A handshake inside the channel still has the build's own.
 */
#ifndef FUZZ_HANDSHAKE_H
#define FUZZ_HANDSHAKE_H

#include <stdlib.h>
#include <string.h>

#include "session/session_fake.h"

#define MUST(cond)                                                                                                     \
    do {                                                                                                               \
        if (!(cond))                                                                                                   \
            __builtin_trap();                                                                                          \
    } while (0)

enum { HEAD = DBE_RECORD_HEADER_BYTES };

static struct fake alice, bob;
static uint64_t random_state;

static inline dbe_err counted_random(void *ctx, void *buf, size_t len)
{
    uint8_t *at = buf;

    (void)ctx;
    for (size_t i = 0; i < len; i++) { /* SplitMix64, a byte a step */
        uint64_t z = random_state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        at[i] = (uint8_t)(z >> 56);
    }
    return DBE_OK;
}

static inline void fuzz_init(void)
{
    static const struct base_random_ops ops = {.fill = counted_random};

    base_random_set(&ops);
    MUST(crypto_init(NULL) == DBE_OK && fake_init(&alice, 1, 1) == DBE_OK && fake_init(&bob, 2, 1) == DBE_OK);
}

/* An initiator and a responder that have said nothing yet. */
static inline void fuzz_pair(struct fake_pair *p, uint64_t random, bool datagram)
{
    struct sess_config ci = fake_config(SESS_INITIATOR, &alice), cr = fake_config(SESS_RESPONDER, &bob);

    random_state = random;
    ci.datagram = cr.datagram = datagram;
    fake_with_evidence(&ci);
    fake_with_evidence(&cr);
    MUST(fake_pair_new(p, &ci, &cr) == DBE_OK);
    memset(p->i->hs->registry, 0x4e, sizeof p->i->hs->registry);
    memset(p->r->hs->registry, 0x4e, sizeof p->r->hs->registry);
}

#endif
