/* SPDX-License-Identifier: Apache-2.0
 *
 * loop_timer.c - timers of a loop: a binary heap by deadline. In: base_mono_ns. Out: callbacks of timers that are due.
 * Arming and disarming are O(log n), never allocate and never fail. Does not repeat a timer by itself.
 */
#include "base/loop_priv.h"

enum { TIMERS_FIRST = 16 };
#define TIMER_IDLE SIZE_MAX

struct base_timer {
    struct loop_timers *owner;
    struct base_timer *next, **link;
    base_timer_fn *fn;
    void *ctx;
    uint64_t deadline_ns;
    size_t slot; /* index into the heap, TIMER_IDLE when not armed */
};

static void heap_put(struct loop_timers *t, size_t slot, struct base_timer *timer)
{
    t->heap[slot] = timer;
    timer->slot = slot;
}

/* Move `timer`, whose place is `slot`, up or down to where it belongs. */
static void heap_settle(struct loop_timers *t, size_t slot, struct base_timer *timer)
{
    while (slot > 0 && t->heap[(slot - 1) / 2]->deadline_ns > timer->deadline_ns) {
        heap_put(t, slot, t->heap[(slot - 1) / 2]);
        slot = (slot - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * slot + 1;
        if (child + 1 < t->armed && t->heap[child + 1]->deadline_ns < t->heap[child]->deadline_ns)
            child++;
        if (child >= t->armed || t->heap[child]->deadline_ns >= timer->deadline_ns)
            break;
        heap_put(t, slot, t->heap[child]);
        slot = child;
    }
    heap_put(t, slot, timer);
}

static void disarm(struct loop_timers *t, struct base_timer *timer)
{
    size_t slot = timer->slot;

    if (slot == TIMER_IDLE)
        return;
    timer->slot = TIMER_IDLE;
    t->armed--;
    if (slot < t->armed)
        heap_settle(t, slot, t->heap[t->armed]);
}

dbe_err loop_timer_new(struct loop_timers *t, base_timer_fn *fn, void *ctx, struct base_timer **ret)
{
    struct base_timer *timer;

    if (fn == NULL)
        return DBE_E_ARGUMENT;
    if (t->count >= BASE_LOOP_TIMERS_MAX)
        return DBE_E_LIMIT;
    if (t->count == t->cap) {
        size_t cap = t->cap > 0 ? t->cap * 2 : TIMERS_FIRST;
        struct base_timer **heap = base_realloc(t->heap, cap, sizeof(struct base_timer *));
        if (heap == NULL)
            return DBE_E_NOMEM;
        t->heap = heap;
        t->cap = cap;
    }
    timer = base_alloc(1, sizeof *timer);
    if (timer == NULL)
        return DBE_E_NOMEM;
    *timer = (struct base_timer){.owner = t, .next = t->all, .link = &t->all, .fn = fn, .ctx = ctx, .slot = TIMER_IDLE};
    if (timer->next != NULL)
        timer->next->link = &timer->next;
    t->all = timer;
    t->count++;
    *ret = timer;
    return DBE_OK;
}

void base_timer_set(struct base_timer *timer, uint64_t deadline_mono_ns)
{
    struct loop_timers *t = timer->owner;

    disarm(t, timer);
    timer->deadline_ns = deadline_mono_ns;
    if (deadline_mono_ns != 0) {
        t->armed++;
        heap_settle(t, t->armed - 1, timer);
    }
}

void base_timer_free(struct base_timer *timer)
{
    if (timer == NULL)
        return;
    disarm(timer->owner, timer);
    *timer->link = timer->next;
    if (timer->next != NULL)
        timer->next->link = timer->link;
    timer->owner->count--;
    base_free(timer);
}

/* A callback may arm its own timer for the past again: no more fire in one turn than were armed when it began, so that
 * descriptors get their turn as well. */
void loop_timers_fire(struct loop_timers *t, uint64_t now_ns)
{
    for (size_t left = t->armed; left > 0 && t->armed > 0 && t->heap[0]->deadline_ns <= now_ns; left--) {
        struct base_timer *timer = t->heap[0];
        disarm(t, timer);
        timer->fn(timer->ctx); /* may free the timer */
    }
}

uint64_t loop_timers_next_ns(const struct loop_timers *t, uint64_t now_ns)
{
    if (t->armed == 0)
        return UINT64_MAX;
    return t->heap[0]->deadline_ns > now_ns ? t->heap[0]->deadline_ns - now_ns : 0;
}

void loop_timers_fini(struct loop_timers *t)
{
    while (t->all != NULL)
        base_timer_free(t->all);
    base_free(t->heap);
    *t = (struct loop_timers){0};
}
