/* SPDX-License-Identifier: Apache-2.0
 *
 * handshake.pml - finite-state model of the handshake (docs/spec/dbe-v1.md, section 6) for spin.
 *
 * In:   three sessions of two honest nodes: A begins, B answers, and one more of either, begun or answered. The network is
 *       the attacker, E, who is a member of the mesh as well. Each session may be a first handshake or one inside a
 *       channel with E.
 * Out:  asserted and in LTL: agreement on peer, suite and transcript both ways; secrecy of the key unless both ephemeral
 *       secrets are given away; no downgrade; no data before authentication; the initiator's identity is shown to its
 *       peer alone; a handshake inside a channel keeps the peer.
 * Not:  computation. A key is known or it is not; a signature is of a key and over what it covers. See README.md.
 *
 * Cryptography, symbolically. A session's view of the transcript is (offer, initiator's share, choice, responder's share,
 * channel around it). A sealed block opens for who has the same view and the secret of the two shares. The share of
 * session k is named k; the attacker's is EX. The secret of a pair of shares is known to him if one is his, if both the
 * ECDH and the KEM secret were given away (chosen at the start of a run), or if the suite is 2, which is taken as broken
 * so that there is something to downgrade to.
 *
 * What a session receives is whatever the attacker can make at that moment: a share that was seen or EX, any offer and
 * choice, any sealed block that was sent, verbatim, or one of his own under a key that he knows, which can carry a
 * signature that he got by opening another block.
 *
 * -D NO_SUITES, NO_SHARES, NO_SIG_3, NO_SIG_2, KEM_ONLY, DATA_EARLY, NESTED_FREE plant a fault each; every one must be
 * found. -D REACH asserts the opposite of what an honest run reaches.
 */
#define A 1
#define B 2
#define E 3

#define INITIATORS 2
#define SESSIONS 5
#define EX 6 /* the attacker's share */

typedef session {
    byte who;
    byte off, ei, ch, er, outer; /* the view */
    byte peer;
    bool sent_share, sent_block, up, dead, data
};
session s[6]; /* 1, 2 are A's that begin; 3, 5 are B's and 4 is A's that answer */

bool leak_ecdh, leak_kem;

#define INITIATES(k) ((k) <= INITIATORS)

/* What the key of the sealed blocks depends on, and what the signature covers. */
#ifdef NO_SUITES
#define SAME_OFFER(j, k) true
#else
#define SAME_OFFER(j, k) (s[j].off == s[k].off)
#endif
#ifdef NO_SHARES
#define SAME_SHARES(j, k) true
#else
#define SAME_SHARES(j, k) (s[j].ei == s[k].ei && s[j].er == s[k].er)
#endif
#ifdef NESTED_FREE
#define SAME_OUTER(j, k) true
#else
#define SAME_OUTER(j, k) (s[j].outer == s[k].outer)
#endif
#define SAME_KEY(j, k) \
    (SAME_OFFER(j, k) && s[j].ei == s[k].ei && s[j].er == s[k].er && s[j].ch == s[k].ch && SAME_OUTER(j, k))
#define SIG_FITS(j, k) (SAME_OFFER(j, k) && SAME_SHARES(j, k) && s[j].ch == s[k].ch && SAME_OUTER(j, k))

#ifdef KEM_ONLY
#define GIVEN_AWAY leak_kem
#else
#define GIVEN_AWAY (leak_ecdh && leak_kem)
#endif
#define KNOWS(k) (s[k].ei == EX || s[k].er == EX || s[k].ch == 2 || GIVEN_AWAY)

/* The other end of k's transcript, if an honest session has it. */
#define SAME_VIEW(j, k) \
    (s[j].off == s[k].off && s[j].ei == s[k].ei && s[j].er == s[k].er && s[j].ch == s[k].ch && s[j].outer == s[k].outer)

/* Does the sealed block that the attacker gives to k pass? `ret_peer` is who it says. */
inline take_block(k, ret_peer, check_sig)
{
    byte from, id, sig;

    from = 0; id = 0; sig = 0;
    /* verbatim, from any session; or his own (from == 0) */
    if
    :: from = 0
    :: select(from : 1 .. SESSIONS)
    fi;
    if
    :: from != 0 ->
        if
        :: s[from].sent_block && INITIATES(from) != INITIATES(k) && SAME_KEY(from, k) &&
           s[from].who != s[k].who && (INITIATES(k) || s[from].peer == s[k].who) && SIG_FITS(from, k) ->
            ret_peer = s[from].who
        :: else -> ret_peer = 0
        fi
    :: else ->
        select(id : A .. E);
        select(sig : 1 .. SESSIONS);
        if
        :: !KNOWS(k) || id == s[k].who -> ret_peer = 0
        :: else ->
            if
            :: id == E || !(check_sig) -> ret_peer = id
            :: else ->
                /* a signature of `id` in the right role, got out of a block that he could open */
                if
                :: s[sig].who == id && s[sig].sent_block && KNOWS(sig) && INITIATES(sig) != INITIATES(k) &&
                   SIG_FITS(sig, k) && (INITIATES(k) || s[sig].peer == s[k].who) ->
                    ret_peer = id
                :: else -> ret_peer = 0
                fi
            fi
        fi
    fi;
    from = 0; id = 0; sig = 0
}

/* A handshake inside a channel keeps the peer of that channel, and here that is E. */
#ifdef NESTED_FREE
#define PEER_ALLOWED(k, p) ((p) != 0)
#else
#define PEER_ALLOWED(k, p) ((p) != 0 && (s[k].outer == 0 || (p) == E))
#endif

#ifdef NO_SIG_2
#define CHECK_2 false
#else
#define CHECK_2 true
#endif
#ifdef NO_SIG_3
#define CHECK_3 false
#else
#define CHECK_3 true
#endif

/* Message 1, which anybody may wait with or throw away. */
inline offer(k)
{
    s[k].who = A;
    s[k].ei = k;
    if
    :: s[k].off = 3 /* bit 0: suite 1, bit 1: suite 2 */
    :: s[k].off = 2
    :: s[k].off = 1
    fi;
    if
    :: s[k].outer = 0
    :: s[k].outer = k /* inside A's channel with E */
    fi;
    s[k].sent_share = true
}

proctype initiator(byte k)
{
    byte p, share;

    /* message 2 */
    atomic {
        select(share : 1 .. EX);
        if
        :: share == EX || s[share].sent_share -> s[k].er = share
        :: else -> s[k].er = EX
        fi;
        if
        :: s[k].ch = 1
        :: s[k].ch = 2
        fi;
        p = 0;
        if
        :: (s[k].off & s[k].ch) != 0 && s[k].er != k -> take_block(k, p, CHECK_2)
        :: else
        fi;
        if
        :: PEER_ALLOWED(k, p) -> /* it takes any member; who is choosier takes fewer runs */
            s[k].peer = p;
            s[k].sent_block = true;
            s[k].up = true;
            s[k].data = true;
            /* properties of a channel that is up on the side that began it */
            if
            :: p == B ->
                assert((s[3].sent_block && SAME_VIEW(3, k)) || (s[5].sent_block && SAME_VIEW(5, k)));
                assert(s[k].ch == 2 || !KNOWS(k) || (leak_ecdh && leak_kem));
                assert((s[k].off & 1) == 0 || s[k].ch == 1);
                assert(s[k].outer == 0)
            :: else -> assert(p == E)
            fi
        :: else ->
            s[k].dead = true;
            s[k].er = 0; s[k].ch = 0 /* it sent nothing that depends on them */
        fi;
        p = 0; share = 0
    }
}

proctype responder(byte k; byte self)
{
    byte p, share;

    atomic {
        s[k].who = self;
        s[k].er = k;
        if
        :: s[k].outer = 0
        :: s[k].outer = 3 /* inside a channel with E; not the ones of the initiators */
        fi;
        /* message 1: any offer with any share */
        select(share : 1 .. EX);
        if
        :: share == EX || s[share].sent_share -> s[k].ei = share
        :: else -> s[k].ei = EX
        fi;
        select(share : 1 .. 3);
        s[k].off = share;
        s[k].ch = ((share & 1) != 0 -> 1 : 2); /* its own list: 1 before 2 */
        s[k].sent_share = true;
        s[k].sent_block = true;
        share = 0
    }
#ifdef DATA_EARLY
    s[k].data = true;
#endif
    /* message 3 */
    atomic {
        p = 0;
        take_block(k, p, CHECK_3);
        if
        :: PEER_ALLOWED(k, p) ->
            s[k].peer = p;
            s[k].up = true;
            s[k].data = true;
            if
            :: p == A ->
                assert((s[1].up && s[1].peer == self && SAME_VIEW(1, k)) ||
                       (s[2].up && s[2].peer == self && SAME_VIEW(2, k)));
                assert(s[k].ch == 2 || !KNOWS(k) || (leak_ecdh && leak_kem));
                assert(s[k].outer == 0)
            :: else -> assert(p == E)
            fi
        :: else -> s[k].dead = true
        fi;
        p = 0
    }
}

/* Whatever the attacker opened of an initiator's block shows who that is: he must be its peer, or have been given the
 * key. */
#define SHOWN(k) (s[k].sent_block && KNOWS(k) && s[k].peer != E && s[k].ch == 1 && !(leak_ecdh && leak_kem))

init {
    atomic {
        /* of the two secrets none, one or both; which one is the same to everything here */
        if
        :: leak_kem = true
        :: leak_kem = true; leak_ecdh = true
        :: true
        fi;
        offer(1);
        run initiator(1);
        run responder(3, B);
        /* and one more of any kind */
        if
        :: offer(2); run initiator(2)
        :: run responder(4, A)
        :: run responder(5, B)
        fi
    }
#ifdef REACH
    _nr_pr == 1;
    assert(!(s[1].up && s[1].peer == B && s[1].ch == 1 && s[3].up && s[3].peer == A && SAME_VIEW(1, 3)))
#endif
}

ltl data_after_authentication { [] (((s[3].data) -> s[3].up) && ((s[4].data) -> s[4].up) && ((s[1].data) -> s[1].up)) }
ltl identity_hidden { [] (!SHOWN(1) && !SHOWN(2)) }
ltl up_is_for_good { [] (s[3].up -> [] (s[3].up && !s[3].dead)) }
