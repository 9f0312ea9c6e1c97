/* SPDX-License-Identifier: Apache-2.0
 *
 * replay.c - which sequence numbers may still come: the next one alone (streams) or any unseen one at most
 * DBE_REPLAY_WINDOW behind the highest (datagrams; after RFC 6479: a ring of words, so that moving on never shifts).
 *
 * Called after the record was opened: an unauthenticated record never moves the window.
 */
#include "session/session_priv.h"

enum { WORD_BITS = 64 };

static uint64_t *word_of(struct sess_replay *r, uint64_t seq)
{
    return &r->bits[seq / WORD_BITS % SESS_REPLAY_WORDS];
}

/* One word of the ring is being filled: the ring has a word more than the window. */
dbe_err sess_replay_check(const struct sess_replay *r, uint64_t seq)
{
    if (seq == UINT64_MAX)
        return DBE_E_REPLAY; /* nobody seals it: `next` could not move past it */
    if (!r->window)
        return seq == r->next ? DBE_OK : DBE_E_REPLAY;
    if (seq >= r->next)
        return DBE_OK;
    if (r->next - 1 - seq > DBE_REPLAY_WINDOW)
        return DBE_E_REPLAY;
    return (r->bits[seq / WORD_BITS % SESS_REPLAY_WORDS] >> (seq % WORD_BITS) & 1) == 0 ? DBE_OK : DBE_E_REPLAY;
}

void sess_replay_commit(struct sess_replay *r, uint64_t seq)
{
    if (seq >= r->next) {
        uint64_t from = r->next == 0 ? 0 : (r->next - 1) / WORD_BITS + 1; /* first word that is new */
        uint64_t to = seq / WORD_BITS;

        if (to >= from && to - from >= SESS_REPLAY_WORDS)
            from = to - SESS_REPLAY_WORDS + 1; /* a jump past the whole ring */
        for (uint64_t w = from; w <= to; w++)
            r->bits[w % SESS_REPLAY_WORDS] = 0;
        r->next = seq + 1;
    }
    *word_of(r, seq) |= UINT64_C(1) << (seq % WORD_BITS);
}
