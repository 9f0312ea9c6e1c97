/* SPDX-License-Identifier: Apache-2.0
 *
 * channel.pml - finite-state model of an established stream channel (docs/spec/dbe-v1.md, sections 5 and 7): rekey and
 * handshakes inside the channel, with messages under way in both directions.
 *
 * In:   two sides that say messages, move to new epochs and begin handshakes whenever they like, a few times each. The
 *       attacker holds both wires: once in a run he drops, doubles, replays or swaps a record.
 * Out:  asserted: every record that opens is the next one, of the epoch and generation of keys that its receiver has;
 *       messages come out in order, once; both sides take every SWITCH for the same generation; a collision of two
 *       handshakes leaves the channel's initiator's; without an attack nobody dies, and at the end both have the same
 *       generations and epochs in each direction and nothing is owed. With one, whoever gets what does not belong dies.
 * Not:  what is inside the handshake messages (handshake.pml), datagrams, giving up for want of memory, CLOSE.
 *
 * -D NO_ORDER, BOTH_GO, EARLY_SWITCH, STALE_SENDER plant a fault each; every one must be found.
 */
#define SAYS 2     /* messages of a side */
#define REKEYS 1   /* of a side */
#define BEGINS 1   /* handshakes begun by a side */
#define WIRE 6

mtype = { DATA, REKEY, HS1, HS2, HS3, SWITCH };

/* type, generation of keys, epoch, sequence; content: number of a message, epoch that follows, or who began */
chan wire[2] = [WIRE] of { mtype, byte, byte, byte, byte }; /* towards side 0, the channel's initiator, and side 1 */

typedef side {
    byte gen, epoch, seq;    /* of what it sends */
    byte rgen, repoch, rseq; /* of what it takes */
    byte said, heard, rekeys, begun;
    byte hs;                 /* state of a handshake inside the channel */
    byte owes;               /* HS2, HS3 and SWITCH that are to be sent before anything else */
    byte next;               /* generation that it will have */
    bool ignored, dead
};
side e[2];
byte attack; /* 0: not yet; 1: done */
bool honest;

/* hs */
#define IDLE 0
#define WAIT_2 1
#define WAIT_3 2
#define READY_BEGAN 3    /* message 3 owed or sent, waits for the peer's SWITCH */
#define READY_ANSWERED 4 /* owes its SWITCH */
#define SENT 5           /* has switched, waits for the peer's */
#define TAKEN 6          /* the peer has switched, owes its own */

#define OWES_HS2 1
#define OWES_HS3 2
#define OWES_SWITCH 4

#define OTHER(k) (1 - (k))

inline put(k, type, content)
{
    wire[OTHER(k)] ! type, e[k].gen, e[k].epoch, e[k].seq, content;
    e[k].seq++
}

inline switch_send(k)
{
    put(k, SWITCH, e[k].epoch + 1);
    e[k].gen = e[k].next;
    e[k].epoch++
}

/* What is owed goes before whatever is sealed next, or by itself. */
inline flush(k)
{
    if
    :: (e[k].owes & OWES_HS2) != 0 -> put(k, HS2, 0)
    :: else
    fi;
    if
    :: (e[k].owes & OWES_HS3) != 0 -> put(k, HS3, 0)
    :: else
    fi;
    if
    :: (e[k].owes & OWES_SWITCH) != 0 ->
        switch_send(k);
        if
        :: e[k].hs == READY_ANSWERED -> e[k].hs = SENT
        :: else -> assert(e[k].hs == TAKEN); e[k].hs = IDLE
        fi
    :: else
    fi;
    e[k].owes = 0
}

#ifdef NO_ORDER
#define IN_ORDER(q, k) true
#else
#define IN_ORDER(q, k) ((q) == e[k].rseq)
#endif
#define OPENS(g, p, k) ((g) == e[k].rgen && (p) == e[k].repoch)
#define FOLLOWS(c, k) ((c) == e[k].repoch + 1)

/* Message 1 inside the channel. The generation is named by who began and how often: both ends derive the same keys. */
inline take_1(k, c)
{
    if
    :: e[k].hs == WAIT_2 && k == 0 ->
#ifdef BOTH_GO
        e[k].hs = WAIT_3; e[k].next = c; e[k].owes = e[k].owes | OWES_HS2
#else
        if
        :: e[k].ignored -> e[k].dead = true
        :: else -> e[k].ignored = true
        fi
#endif
    :: e[k].hs == IDLE || (e[k].hs == WAIT_2 && k == 1) ->
        e[k].hs = WAIT_3; e[k].next = c; e[k].owes = e[k].owes | OWES_HS2
    :: else -> e[k].dead = true
    fi
}

inline take_switch(k, c)
{
    if
    :: (e[k].hs == SENT || (e[k].hs == READY_BEGAN && (e[k].owes & OWES_HS3) == 0)) && FOLLOWS(c, k) ->
        assert(e[OTHER(k)].gen == e[k].next); /* both have the same keys in mind */
        e[k].rgen = e[k].next;
        e[k].repoch = c;
        if
        :: e[k].hs == READY_BEGAN -> e[k].hs = TAKEN; e[k].owes = OWES_SWITCH
        :: else -> e[k].hs = IDLE
        fi
    :: else -> e[k].dead = true
    fi
}

inline take(k)
{
    mtype t;
    byte g, p, q, c;

    wire[k] ? t, g, p, q, c;
    if
    :: !(OPENS(g, p, k) && IN_ORDER(q, k)) -> e[k].dead = true
    :: else ->
        e[k].rseq++;
        if
        :: t == DATA ->
            assert(c == e[k].heard); /* the next message, and none twice */
            assert(g == e[k].rgen && p == e[k].repoch);
            e[k].heard++
        :: t == REKEY ->
            if
            :: FOLLOWS(c, k) -> e[k].repoch = c
            :: else -> e[k].dead = true
            fi
        :: t == HS1 -> take_1(k, c)
        :: t == HS2 ->
            if
            :: e[k].hs == WAIT_2 ->
                e[k].hs = READY_BEGAN;
                e[k].owes = e[k].owes | OWES_HS3
#ifdef EARLY_SWITCH
                ; e[k].owes = e[k].owes | OWES_SWITCH; e[k].hs = TAKEN
#endif
            :: else -> e[k].dead = true
            fi
        :: t == HS3 ->
            if
            :: e[k].hs == WAIT_3 -> e[k].hs = READY_ANSWERED; e[k].owes = e[k].owes | OWES_SWITCH
            :: else -> e[k].dead = true
            fi
        :: t == SWITCH -> take_switch(k, c)
        fi
    fi;
    t = 0; g = 0; p = 0; q = 0; c = 0;
    assert(!e[k].dead || !honest)
}

proctype end(byte k)
{
    do
    :: atomic { !e[k].dead && nempty(wire[k]) -> take(k) }
    :: atomic { !e[k].dead && e[k].owes != 0 && len(wire[OTHER(k)]) <= WIRE - 3 -> flush(k) }
    :: atomic { !e[k].dead && e[k].said < SAYS && len(wire[OTHER(k)]) <= WIRE - 4 ->
        flush(k); put(k, DATA, e[k].said); e[k].said++ }
    :: atomic { !e[k].dead && e[k].rekeys < REKEYS && len(wire[OTHER(k)]) <= WIRE - 4 ->
        put(k, REKEY, e[k].epoch + 1);
#ifndef STALE_SENDER
        e[k].epoch++;
#endif
        e[k].rekeys++;
        flush(k) }
    :: atomic { !e[k].dead && e[k].begun < BEGINS && e[k].hs == IDLE && len(wire[OTHER(k)]) <= WIRE - 4 ->
        flush(k);
        e[k].begun++;
        e[k].hs = WAIT_2;
        e[k].ignored = false;
        e[k].next = 10 * (k + 1) + e[k].begun; /* no two handshakes share a name */
        put(k, HS1, e[k].next) }
    :: e[k].dead -> break
    :: timeout ->
        /* nothing moves any more */
        if
        :: honest ->
            assert(empty(wire[0]) && empty(wire[1]));
            assert(e[0].hs == IDLE && e[1].hs == IDLE);
            assert(e[0].owes == 0 && e[1].owes == 0);
            assert(e[0].gen == e[1].rgen && e[1].gen == e[0].rgen);
            assert(e[0].epoch == e[1].repoch && e[1].epoch == e[0].repoch);
            assert(e[0].gen == e[1].gen);
            assert(e[0].heard == SAYS && e[1].heard == SAYS)
        :: else
        fi;
        break
    od
}

/* Once, to one of the wires. */
proctype attacker()
{
    mtype t, t2;
    byte g, p, q, c, g2, p2, q2, c2;

    if
    :: atomic { nempty(wire[0]) -> wire[0] ? t, g, p, q, c; attack = 1 } /* drop */
    :: atomic { nempty(wire[1]) -> wire[1] ? t, g, p, q, c; attack = 1 }
    :: atomic { nempty(wire[1]) && nfull(wire[1]) -> /* double, now or much later */
        wire[1] ? <t, g, p, q, c>; attack = 1 };
        atomic { nfull(wire[1]) -> wire[1] ! t, g, p, q, c }
    :: atomic { len(wire[1]) == 2 -> /* swap */
        wire[1] ? t, g, p, q, c; wire[1] ? t2, g2, p2, q2, c2;
        wire[1] ! t2, g2, p2, q2, c2; wire[1] ! t, g, p, q, c; attack = 1 }
    :: atomic { nempty(wire[0]) && nfull(wire[1]) -> /* reflect: keys differ by direction, modelled by generation 99 */
        wire[0] ? <t, g, p, q, c>; wire[1] ! t, 99, p, q, c; attack = 1 }
    :: atomic { timeout -> attack = 1 }
    fi
}

init {
    atomic {
        if
        :: honest = true
        :: honest = false; run attacker()
        fi;
        run end(0);
        run end(1)
    }
}
