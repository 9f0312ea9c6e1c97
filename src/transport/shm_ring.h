/* SPDX-License-Identifier: Apache-2.0
 *
 * shm_ring.h - a ring of bytes in memory that the other process can write to at any time, and must not be trusted with.
 *
 * One writer, one reader, each in a process of its own. Each keeps its own position in private memory and only
 * publishes it; what it reads of the other's position is read once and checked before use. A position that no honest
 * peer can have ends the ring with E_PROTOCOL; nothing is ever read or written outside the ring.
 * Bytes are copied out before anybody looks at them.
 */
#ifndef TRANSPORT_SHM_RING_H
#define TRANSPORT_SHM_RING_H

#include <stdatomic.h>

#include "base/base.h"

enum { SHM_LINE_BYTES = 64 };

/*   one direction, as both processes see it (all zero at first):
 *
 *   +--------+--------------------------------+ written by
 *   | head   | bytes written so far, ever     | writer      positions only grow; place in the ring: position % size
 *   | waits  | writer waits for room          | both
 *   | tail   | bytes read so far, ever        | reader      0 <= head - tail <= size
 *   | sleeps | reader is not looking          | both
 *   | gone   | reader has closed              | reader
 *   +--------+--------------------------------+
 */
struct shm_dir {
    _Alignas(SHM_LINE_BYTES) _Atomic uint64_t head;
    _Atomic uint32_t waits;
    _Alignas(SHM_LINE_BYTES) _Atomic uint64_t tail;
    _Atomic uint32_t sleeps, gone;
};

struct shm_writer {
    struct shm_dir *dir;
    uint8_t        *data;
    size_t          size; /* a power of two */
    uint64_t        head;
    uint64_t        tail; /* last seen */
    uint64_t        clean; /* head when the pages were last given back */
};

struct shm_reader {
    struct shm_dir *dir;
    const uint8_t  *data;
    size_t          size;
    uint64_t        tail;
};

/* Copy as much as there is room for; the count may be 0. E_PROTOCOL, E_CLOSED (the reader has closed). */
dbe_err shm_write(struct shm_writer *w, const void *bytes, size_t len, size_t *ret_taken) DBE_MUST_CHECK;
/* Copy out as much as there is, at most `room`; the count may be 0. E_PROTOCOL. */
dbe_err shm_read(struct shm_reader *r, void *out, size_t room, size_t *ret_len) DBE_MUST_CHECK;

/* After a write, after a read: does the other side sleep (wait) and have to be woken? True once per sleep. */
bool shm_wake_reader(struct shm_writer *w);
bool shm_wake_writer(struct shm_reader *r);
/* Say that we sleep (wait) from now on. True if there is something to read (room to write) all the same: whoever put
 * it there may not have seen that we sleep. A wild position counts as something. */
bool shm_reader_sleeps(struct shm_reader *r);
bool shm_writer_waits(struct shm_writer *w);
/* Say that we look again. */
void shm_reader_looks(struct shm_reader *r);
/* Anything new, or wild? Costs one load. */
bool shm_readable(const struct shm_reader *r);

/* Give the pages of an empty ring back to the system, if it used more than `keep` bytes since the last time. Only the
 * writer can: nobody else writes there. */
void shm_trim(struct shm_writer *w, size_t keep);

#endif
