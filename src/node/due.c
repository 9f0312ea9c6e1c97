/* SPDX-License-Identifier: Apache-2.0
 *
 * due.c - deadlines of a node in one heap behind one timer: ticks of calls, handshakes, links, certificates.
 *
 * Setting and clearing never fail: room is reserved when the owner of a deadline is made. The timer is moved only to an
 * earlier time; one that fires for a deadline that was cleared meanwhile finds nothing to do and is armed anew. That is
 * cheaper than moving it with every deadline that comes and goes.
 */
#include "node_impl.h"

static void put(struct node_dues *d, size_t slot, struct node_due *due)
{
    d->heap[slot] = (struct node_due_slot){.at_ns = due->at_ns, .due = due};
    due->slot = slot;
}

static void settle(struct node_dues *d, size_t slot, struct node_due *due)
{
    while (slot > 0 && d->heap[(slot - 1) / 2].at_ns > due->at_ns) {
        put(d, slot, d->heap[(slot - 1) / 2].due);
        slot = (slot - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * slot + 1;
        if (child + 1 < d->count && d->heap[child + 1].at_ns < d->heap[child].at_ns)
            child++;
        if (child >= d->count || d->heap[child].at_ns >= due->at_ns)
            break;
        put(d, slot, d->heap[child].due);
        slot = child;
    }
    put(d, slot, due);
}

static void arm(struct node_dues *d)
{
    if (d->count == 0)
        return;
    const uint64_t at_ns = BASE_MAX(d->heap[0].at_ns, UINT64_C(1));
    if (d->armed_ns != 0 && d->armed_ns <= at_ns)
        return;
    d->armed_ns = at_ns;
    base_timer_set(d->timer, at_ns);
}

dbe_err dues_reserve(struct node_dues *d, struct node_due *due, void (*fn)(struct node_due *due))
{
    if (d->reserved == d->cap) {
        size_t cap = d->cap == 0 ? 16 : d->cap * 2;
        struct node_due_slot *heap = base_realloc(d->heap, cap, sizeof *heap);
        if (heap == NULL)
            return DBE_E_NOMEM;
        d->heap = heap;
        d->cap = cap;
    }
    d->reserved++;
    due->slot = NODE_DUE_IDLE;
    due->fn = fn;
    return DBE_OK;
}

void dues_release(struct node_dues *d, struct node_due *due)
{
    if (due->fn == NULL)
        return; /* was never reserved */
    dues_clear(d, due);
    due->fn = NULL;
    d->reserved--;
}

static void take(struct node_dues *d, struct node_due *due)
{
    size_t slot = due->slot;
    struct node_due *last = d->heap[--d->count].due;

    due->slot = NODE_DUE_IDLE;
    if (last != due)
        settle(d, slot, last);
}

void dues_set(struct node_dues *d, struct node_due *due, uint64_t at_ns)
{
    if (due->slot != NODE_DUE_IDLE)
        take(d, due);
    due->at_ns = at_ns;
    settle(d, d->count++, due);
    arm(d);
}

void dues_clear(struct node_dues *d, struct node_due *due)
{
    if (due->slot != NODE_DUE_IDLE)
        take(d, due);
}

void dues_run(struct node_dues *d, uint64_t now_ns)
{
    d->armed_ns = 0; /* it has fired */
    while (d->count > 0 && d->heap[0].at_ns <= now_ns) {
        struct node_due *due = d->heap[0].due;
        take(d, due);
        due->fn(due);
    }
    arm(d);
}

void dues_fini(struct node_dues *d)
{
    base_timer_free(d->timer);
    base_free(d->heap);
    *d = (struct node_dues){0};
}
