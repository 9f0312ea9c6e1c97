/* SPDX-License-Identifier: Apache-2.0
 *
 * senders.c - the running numbers of senders: a record that comes twice is known again, one that never came is missed.
 *
 * A run is one life of one service. The table is bounded; the run that was silent longest gives way.
 */
#include <stdlib.h>
#include <string.h>

#include "audit/log.h"

struct run {
    char sender[AUDIT_PEER_MAX + 1];
    uint8_t run[AUDIT_RUN_BYTES];
    uint64_t next, durable, used;
};

struct audit_senders {
    size_t count;
    bool late; /* the log's beginning is elsewhere: a run that is not known may have begun there */
    uint64_t clock;
    struct run runs[AUDIT_SENDERS_MAX];
};

dbe_err audit_senders_new(struct audit_senders **ret)
{
    struct audit_senders *s = base_alloc(1, sizeof *s);

    if (s == NULL)
        return DBE_E_NOMEM;
    *ret = s;
    return DBE_OK;
}

void audit_senders_free(struct audit_senders *s)
{
    base_free(s);
}

static const struct run *find(const struct audit_senders *s, struct audit_text sender, const uint8_t *run)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct run *r = &s->runs[i];
        if (memcmp(r->run, run, AUDIT_RUN_BYTES) == 0 && strlen(r->sender) == sender.len &&
            memcmp(r->sender, sender.at, sender.len) == 0)
            return r;
    }
    return NULL;
}

static struct run *find_or_make(struct audit_senders *s, struct audit_text sender, const uint8_t *run)
{
    const struct run *known = find(s, sender, run);
    size_t at = 0;

    if (known != NULL)
        return &s->runs[known - s->runs];
    if (s->count < AUDIT_SENDERS_MAX)
        at = s->count++;
    else
        for (size_t i = 1; i < s->count; i++)
            at = s->runs[i].used < s->runs[at].used ? i : at;
    struct run *r = &s->runs[at];
    size_t len = BASE_MIN(sender.len, (size_t)AUDIT_PEER_MAX);
    *r = (struct run){0};
    memcpy(r->sender, sender.at, len);
    memcpy(r->run, run, AUDIT_RUN_BYTES);
    return r;
}

enum audit_seen audit_senders_judge(struct audit_senders *s, struct audit_text sender,
                                    const uint8_t run[AUDIT_RUN_BYTES], uint8_t kind, uint64_t seq, uint64_t count,
                                    uint64_t *ret_missing)
{
    struct run *r = find_or_make(s, sender, run);
    bool unknown = s->late && r->used == 0;
    uint64_t first = kind == AUDIT_GAP && count > 0 && count <= seq + 1 ? seq - count + 1 : seq;

    r->used = ++s->clock;
    *ret_missing = 0;
    if (seq < r->next || seq == UINT64_MAX)
        return AUDIT_AGAIN;
    *ret_missing = first > r->next && !unknown ? first - r->next : 0;
    r->next = seq + 1;
    return AUDIT_NEW;
}

void audit_senders_commit(struct audit_senders *s)
{
    for (size_t i = 0; i < s->count; i++)
        s->runs[i].durable = s->runs[i].next;
}

void audit_senders_rollback(struct audit_senders *s)
{
    for (size_t i = 0; i < s->count; i++)
        s->runs[i].next = s->runs[i].durable;
}

uint64_t audit_senders_next(const struct audit_senders *s, const char *sender, const uint8_t run[AUDIT_RUN_BYTES])
{
    const struct run *r = find(s, (struct audit_text){sender, strlen(sender)}, run);

    return r != NULL ? r->durable : 0;
}

/* ---- kept, and taken up again -------------------------------------------------------------------------------- */

void audit_senders_set_late(struct audit_senders *s)
{
    s->late = true;
}

bool audit_senders_late(const struct audit_senders *s)
{
    return s->late;
}

static int by_use(const void *a, const void *b)
{
    const struct run *const *x = a, *const *y = b;

    return (*x)->used != (*y)->used ? ((*x)->used < (*y)->used ? -1 : 1) : 0;
}

void audit_senders_put(const struct audit_senders *s, struct base_buf *out)
{
    const struct run *order[AUDIT_SENDERS_MAX];
    char hex[2 * AUDIT_RUN_BYTES + 1];
    size_t count = 0;

    for (size_t i = 0; i < s->count; i++)
        if (s->runs[i].durable > 0)
            order[count++] = &s->runs[i];
    if (count > 1)
        qsort(order, count, sizeof *order, by_use);
    for (size_t i = 0; i < count; i++) {
        base_hex(order[i]->run, AUDIT_RUN_BYTES, hex);
        base_buf_fmt(out, "run %s %llu %s\n", hex, (unsigned long long)order[i]->durable, order[i]->sender);
    }
}

void audit_senders_restore(struct audit_senders *s, struct audit_text sender, const uint8_t run[AUDIT_RUN_BYTES],
                           uint64_t next)
{
    struct run *r = find_or_make(s, sender, run);

    r->next = r->durable = next;
    r->used = ++s->clock;
}
