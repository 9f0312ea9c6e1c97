/* SPDX-License-Identifier: Apache-2.0
 *
 * fair.c - see fair.h. Pure; every call but fair_push and fair_next, which look for a tenant, takes constant time.
 */
#include "devices/l7_router/fair.h"

#include <stdio.h>
#include <string.h>

static struct fair_tenant *find_tenant(struct fair_queue *q, const char *name)
{
    struct fair_tenant *t = q->turn;

    if (t == NULL)
        return NULL;
    do {
        if (strcmp(t->name, name) == 0)
            return t;
        t = t->next;
    } while (t != q->turn);
    return NULL;
}

/* A new tenant stands at the circle's end: before the one whose turn it is. */
static struct fair_tenant *join(struct fair_queue *q, const char *name)
{
    struct fair_tenant *t = NULL;

    for (size_t i = 0; i < FAIR_TENANTS_MAX && t == NULL; i++)
        if (q->tenants[i].count == 0)
            t = &q->tenants[i];
    if (t == NULL)
        return NULL;
    (void)snprintf(t->name, sizeof t->name, "%s", name);
    if (q->turn == NULL) {
        t->next = t->prev = t;
        q->turn = t;
    } else {
        t->next = q->turn;
        t->prev = q->turn->prev;
        t->prev->next = t;
        t->next->prev = t;
    }
    return t;
}

static void leave(struct fair_queue *q, struct fair_tenant *t)
{
    if (t->next == t) {
        q->turn = NULL;
        return;
    }
    t->next->prev = t->prev;
    t->prev->next = t->next;
    if (q->turn == t)
        q->turn = t->next;
}

static struct fair_tenant *longest(struct fair_queue *q)
{
    struct fair_tenant *most = q->turn;

    for (struct fair_tenant *t = q->turn->next; t != q->turn; t = t->next)
        if (t->count > most->count)
            most = t;
    return most;
}

static void append(struct fair_queue *q, struct fair_tenant *t, struct fair_entry *e)
{
    *e = (struct fair_entry){.tenant = t, .prev = t->tail, .older = q->youngest};
    if (t->tail != NULL)
        t->tail->next = e;
    else
        t->head = e;
    t->tail = e;
    if (q->youngest != NULL)
        q->youngest->younger = e;
    else
        q->oldest = e;
    q->youngest = e;
    t->count++;
    q->count++;
}

void fair_remove(struct fair_queue *q, struct fair_entry *e)
{
    struct fair_tenant *t = e->tenant;

    *(e->prev != NULL ? &e->prev->next : &t->head) = e->next;
    *(e->next != NULL ? &e->next->prev : &t->tail) = e->prev;
    *(e->older != NULL ? &e->older->younger : &q->oldest) = e->younger;
    *(e->younger != NULL ? &e->younger->older : &q->youngest) = e->older;
    t->count--;
    q->count--;
    if (t->count == 0)
        leave(q, t);
    *e = (struct fair_entry){0};
}

dbe_err fair_push(struct fair_queue *q, size_t max, const char *tenant, struct fair_entry *entry,
                  struct fair_entry **ret_evicted)
{
    struct fair_tenant *t = find_tenant(q, tenant);
    struct fair_entry *evicted = NULL;

    if (q->count >= max) {
        struct fair_tenant *most = q->turn != NULL ? longest(q) : NULL;
        if (most == NULL || most->count <= (t != NULL ? t->count : 0) + 1)
            return DBE_E_LIMIT;
        evicted = most->tail;
    }
    if (t == NULL)
        t = join(q, tenant);
    if (t == NULL)
        return DBE_E_LIMIT;
    append(q, t, entry);
    if (evicted != NULL)
        fair_remove(q, evicted);
    *ret_evicted = evicted;
    return DBE_OK;
}

struct fair_entry *fair_next(const struct fair_queue *q, fair_may_fn *may, const void *ctx)
{
    const struct fair_tenant *t = q->turn;

    if (t == NULL)
        return NULL;
    do {
        if (may(ctx, t->name))
            return t->head;
        t = t->next;
    } while (t != q->turn);
    return NULL;
}

void fair_take(struct fair_queue *q, struct fair_entry *e)
{
    q->turn = e->tenant->next;
    fair_remove(q, e);
}
