/* SPDX-License-Identifier: Apache-2.0
 *
 * shm_ring.c - the ring of shm_ring.h: copies in, copies out, who must be woken. In: bytes, untrusted positions. Out:
 * bytes, E_PROTOCOL. Does not map memory, wait or wake (shm.c does).
 *
 * Sleeping. A reader stores `sleeps`, then looks at `head`; a writer stores `head`, then looks at `sleeps`; a full
 * barrier lies between on both sides. So at least one of the two sees the other's store, and no byte waits unseen.
 */
#include "shm_ring.h"

#include <string.h>
#include <sys/mman.h>

#include "base/io.h"

/* ---- the writer ------------------------------------------------------------------------------------------------ */

/* Room in the ring. The reader's position is read once and must lie where an honest reader can be. */
static dbe_err writer_room(struct shm_writer *w, size_t wanted, size_t *ret_room)
{
    if (w->size - (size_t)(w->head - w->tail) < wanted) {
        uint64_t tail = atomic_load_explicit(&w->dir->tail, memory_order_acquire);
        if (w->head - tail > w->size || tail - w->tail > w->size)
            return DBE_E_PROTOCOL; /* before what was read, or after what was written */
        w->tail = tail;
    }
    *ret_room = w->size - (size_t)(w->head - w->tail);
    return DBE_OK;
}

/* A test may make a write take nothing, one byte, or find nobody there. */
static dbe_err injected(size_t *len)
{
    enum base_fail_how how;

    if (!base_send_must_fail(&how))
        return DBE_OK;
    if (how == BASE_FAIL_GONE)
        return DBE_E_CLOSED;
    *len = how == BASE_FAIL_PARTIAL ? BASE_MIN(*len, (size_t)1) : 0;
    return DBE_OK;
}

dbe_err shm_write(struct shm_writer *w, const void *bytes, size_t len, size_t *ret_taken)
{
    size_t room, at, first;

    DBE_TRY(injected(&len));
    if (atomic_load_explicit(&w->dir->gone, memory_order_relaxed) != 0)
        return DBE_E_CLOSED;
    DBE_TRY(writer_room(w, len, &room));
    len = BASE_MIN(len, room);
    at = (size_t)(w->head & (w->size - 1));
    first = BASE_MIN(len, w->size - at);
    if (len > 0) {
        memcpy(w->data + at, bytes, first);
        memcpy(w->data, (const uint8_t *)bytes + first, len - first);
        w->head += len;
        atomic_store_explicit(&w->dir->head, w->head, memory_order_release);
    }
    *ret_taken = len;
    return DBE_OK;
}

/* Look at a flag of the other side's after a store of our own, and clear it if it is set. */
static bool take_flag(_Atomic uint32_t *flag)
{
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load_explicit(flag, memory_order_relaxed) != 0 &&
           atomic_exchange_explicit(flag, 0, memory_order_acq_rel) != 0;
}

bool shm_wake_reader(struct shm_writer *w)
{
    return take_flag(&w->dir->sleeps);
}

bool shm_writer_waits(struct shm_writer *w)
{
    size_t room = 0;

    atomic_store_explicit(&w->dir->waits, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    return writer_room(w, w->size, &room) != DBE_OK || room > 0;
}

void shm_trim(struct shm_writer *w, size_t keep)
{
    size_t room = 0;

    if (w->head - w->clean <= keep || writer_room(w, w->size, &room) != DBE_OK || room < w->size)
        return;
    if (madvise(w->data, w->size, MADV_REMOVE) == 0)
        w->clean = w->head;
}

/* ---- the reader ------------------------------------------------------------------------------------------------ */

dbe_err shm_read(struct shm_reader *r, void *out, size_t room, size_t *ret_len)
{
    uint64_t head = atomic_load_explicit(&r->dir->head, memory_order_acquire);
    size_t len, at, first;

    if (head - r->tail > r->size)
        return DBE_E_PROTOCOL; /* more than the ring holds, or before what was read */
    len = BASE_MIN((size_t)(head - r->tail), room);
    at = (size_t)(r->tail & (r->size - 1));
    first = BASE_MIN(len, r->size - at);
    if (len > 0) {
        memcpy(out, r->data + at, first);
        memcpy((uint8_t *)out + first, r->data, len - first);
        r->tail += len;
        atomic_store_explicit(&r->dir->tail, r->tail, memory_order_release);
    }
    *ret_len = len;
    return DBE_OK;
}

bool shm_wake_writer(struct shm_reader *r)
{
    return take_flag(&r->dir->waits);
}

bool shm_readable(const struct shm_reader *r)
{
    return atomic_load_explicit(&r->dir->head, memory_order_relaxed) != r->tail;
}

bool shm_reader_sleeps(struct shm_reader *r)
{
    atomic_store_explicit(&r->dir->sleeps, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    return shm_readable(r);
}

void shm_reader_looks(struct shm_reader *r)
{
    atomic_store_explicit(&r->dir->sleeps, 0, memory_order_relaxed);
}
