/* SPDX-License-Identifier: Apache-2.0
 *
 * loop_hot.c - sources that a loop asks before it sleeps, and the receive buffers that they share.
 *
 * In:   sources that were busy just now    Out: their poll and rest
 * Does: yields the processor, so that the other end of a conversation on the same one can answer without either end
 *       going to sleep; stops when that does not pay: the next tries are 2, 4 ... 64 sleeps away, and after a yield
 *       so long that a system call saved is nothing beside it, 1024: somebody computes on this processor, and a
 *       sleeper gets it back sooner than one who yields.
 * Does not: wait in the kernel (loop.c).
 */
#include "base/loop_priv.h"

#include <sched.h>

enum {
    HOT_TURNS = 64,            /* at most so many turns without a look at the watched descriptors */
    HOT_DRY = 8,               /* a source that costs a system call is dropped after so many       */
    HOT_DRY_CHEAP = 4096,
    HOT_SKIP_SHIFT = 6,
    HOT_SKIP_SLOW = 1024,
    HOT_YIELD_MIN_NS = 50,     /* bounds the number of yields where a test's clock stands still    */
};
#define HOT_GLANCE_NS UINT64_C(200000)
#define HOT_SLOW_NS UINT64_C(100000)

/* ---- the list ---------------------------------------------------------------------------------------------------- */

void base_loop_hot(struct dbe_loop *loop, struct base_hot *hot)
{
    struct loop_hots *h = loop_hots_of(loop);

    hot->dry = 0;
    if (hot->loop != NULL)
        return;
    if (h->count == BASE_LOOP_HOTS_MAX) {
        if (hot->rest != NULL)
            hot->rest(hot->ctx);
        return;
    }
    hot->loop = loop;
    h->list[h->count++] = hot;
}

void base_hot_cool(struct base_hot *hot)
{
    struct loop_hots *h;

    if (hot->loop == NULL)
        return;
    h = loop_hots_of(hot->loop);
    for (size_t i = 0; i < h->count; i++) {
        if (h->list[i] == hot) {
            h->list[i] = h->list[--h->count];
            break;
        }
    }
    hot->loop = NULL;
}

static void put_to_rest(struct base_hot *hot)
{
    base_hot_cool(hot);
    if (hot->rest != NULL)
        hot->rest(hot->ctx);
}

void loop_hots_rest(struct loop_hots *h)
{
    while (h->count > 0)
        put_to_rest(h->list[h->count - 1]);
    h->turns = 0;
}

void base_loop_spin(struct dbe_loop *loop, uint64_t max_ns)
{
    loop_hots_of(loop)->spin_ns = max_ns;
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

/* Ask each source once; from the last to the first, because one that goes makes place by moving the last. */
static bool ask_each(struct loop_hots *h, bool cheap_only)
{
    bool any = false;

    for (size_t i = h->count; i-- > 0;) {
        struct base_hot *hot = i < h->count ? h->list[i] : NULL;
        if (hot == NULL || (cheap_only && !hot->cheap))
            continue;
        hot->dry++;
        if (hot->poll(hot->ctx)) /* it may be gone now */
            any = true;
        else if (hot->dry > (hot->cheap ? (unsigned)HOT_DRY_CHEAP : (unsigned)HOT_DRY))
            put_to_rest(hot);
    }
    return any;
}

static uint64_t spin_limit(const struct loop_hots *h)
{
    uint64_t most = h->spin_ns;

    for (size_t i = 0; i < h->count; i++)
        most = BASE_MAX(most, h->list[i]->spin_ns);
    return most;
}

/* Yield and ask until something came or the time is over. */
static bool spin(struct loop_hots *h, uint64_t limit_ns, uint64_t *now_ns, bool *ret_slow)
{
    const uint64_t start = *now_ns, rounds = limit_ns / HOT_YIELD_MIN_NS;

    for (uint64_t i = 0;; i++) {
        uint64_t before = *now_ns;
        (void)sched_yield();
        *now_ns = base_mono_ns();
        *ret_slow = *now_ns - before > HOT_SLOW_NS;
        if (ask_each(h, false))
            return true;
        if (h->count == 0 || i >= rounds || *now_ns - start >= limit_ns || *ret_slow)
            return false;
    }
}

static void note(struct loop_hots *h, bool found, bool slow)
{
    h->misses = found ? 0 : BASE_MIN(h->misses + 1, (unsigned)HOT_SKIP_SHIFT);
    h->skip = slow ? (unsigned)HOT_SKIP_SLOW : found ? 0 : 1U << h->misses;
}

enum loop_hot_next loop_hots_ask(struct loop_hots *h, uint64_t max_ns, uint64_t *now_ns)
{
    const uint64_t start = *now_ns, limit = BASE_MIN(spin_limit(h), max_ns);
    bool slow = false, found = ask_each(h, true);

    if (!found && h->skip > 0) {
        h->skip--;
        return LOOP_HOT_SLEEP;
    }
    if (!found) {
        found = spin(h, limit, now_ns, &slow);
        note(h, found, slow);
    }
    if (!found)
        return LOOP_HOT_SLEEP;
    if (h->turns++ == 0)
        h->asked_ns = start;
    if (h->turns < HOT_TURNS && *now_ns - h->asked_ns < HOT_GLANCE_NS)
        return LOOP_HOT_DONE;
    h->turns = 0;
    return LOOP_HOT_GLANCE;
}

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

void *base_loop_buf_take(struct dbe_loop *loop)
{
    struct loop_bufs *b = loop_bufs_of(loop);

    return b->count > 0 ? b->kept[--b->count] : base_realloc(NULL, BASE_LOOP_BUF_BYTES, 1);
}

void base_loop_buf_give(struct dbe_loop *loop, void *buf)
{
    struct loop_bufs *b = loop_bufs_of(loop);

    if (buf != NULL && b->count < BASE_LOOP_BUFS_KEPT)
        b->kept[b->count++] = buf;
    else
        base_free(buf);
}

void loop_bufs_fini(struct loop_bufs *b)
{
    while (b->count > 0)
        base_free(b->kept[--b->count]);
}
