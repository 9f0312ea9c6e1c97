/* SPDX-License-Identifier: Apache-2.0
 *
 * due.c - deadlines of a node in one heap behind one timer: calls, handshakes, links.
 *
 * Setting and clearing never fail: room is reserved when the owner of a deadline is made.
 */
#include "node_impl.h"

static void put(struct node_dues *d, size_t slot, struct node_due *due)
{
    d->heap[slot] = due;
    due->slot = slot;
}

static void settle(struct node_dues *d, size_t slot, struct node_due *due)
{
    while (slot > 0 && d->heap[(slot - 1) / 2]->at_ns > due->at_ns) {
        put(d, slot, d->heap[(slot - 1) / 2]);
        slot = (slot - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * slot + 1;
        if (child + 1 < d->count && d->heap[child + 1]->at_ns < d->heap[child]->at_ns)
            child++;
        if (child >= d->count || d->heap[child]->at_ns >= due->at_ns)
            break;
        put(d, slot, d->heap[child]);
        slot = child;
    }
    put(d, slot, due);
}

static void arm(struct node_dues *d)
{
    uint64_t at_ns = d->count == 0 ? 0 : BASE_MAX(d->heap[0]->at_ns, UINT64_C(1));

    if (at_ns == d->armed_ns)
        return;
    d->armed_ns = at_ns;
    base_timer_set(d->timer, at_ns);
}

dbe_err dues_reserve(struct node_dues *d, struct node_due *due, void (*fn)(struct node_due *due))
{
    if (d->reserved == d->cap) {
        size_t cap = d->cap == 0 ? 16 : d->cap * 2;
        struct node_due **heap = base_realloc(d->heap, cap, sizeof(struct node_due *));
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
    struct node_due *last = d->heap[--d->count];

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
    if (due->slot == NODE_DUE_IDLE)
        return;
    take(d, due);
    arm(d);
}

void dues_run(struct node_dues *d, uint64_t now_ns)
{
    d->armed_ns = 0; /* it has fired */
    while (d->count > 0 && d->heap[0]->at_ns <= now_ns) {
        struct node_due *due = d->heap[0];
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
