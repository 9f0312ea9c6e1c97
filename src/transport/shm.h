/* SPDX-License-Identifier: Apache-2.0
 *
 * shm.h - the memory that two processes share for a connection, and how it gets from one to the other. Private to this
 * folder: shm_area.c makes it, shm.c moves bytes through it.
 */
#ifndef TRANSPORT_SHM_H
#define TRANSPORT_SHM_H

#include "shm_ring.h"

enum {
    SHM_RING_BYTES = 256 * 1024, /* of either direction; a power of two. A larger one leaves the cache sooner */
    SHM_CONTROL_BYTES = 4096,
    SHM_AREA_BYTES = SHM_CONTROL_BYTES + 2 * SHM_RING_BYTES,
};

/* What the listening side sends as the first bytes of the Unix socket, together with the descriptor of the memory. All
 * in the byte order of the host: both ends are on it. Afterwards every byte on the socket is a knock: look into the
 * rings. */
struct shm_hello {
    uint32_t magic, version;
    uint64_t ring_bytes;
};
#define SHM_MAGIC 0x44534d53u /* "DSMS" */
enum { SHM_VERSION = 1 };

/* The memory: a page with both directions' positions, then the ring to the connecting side, then the one to the
 * listening side. */
struct shm_area {
    uint8_t *map; /* NULL: none */
};

/* Make the memory, sealed against growing and shrinking, and send it over `fd`. E_NOMEM, E_LIMIT, E_IO, E_CLOSED. */
dbe_err shm_area_offer(int fd, struct shm_area *ret) DBE_MUST_CHECK;
/* Take what the other end offered. E_AGAIN: it has not yet. E_CLOSED; E_PROTOCOL: it is not what it must be (a file
 * that could shrink under our feet, a size of its own, no descriptor at all); E_NOMEM. */
dbe_err shm_area_take(int fd, struct shm_area *ret) DBE_MUST_CHECK;
void    shm_area_free(struct shm_area *area);
/* One side's view: the ring it writes and the one it reads. */
void    shm_area_ends(const struct shm_area *area, bool listening, struct shm_writer *ret_w, struct shm_reader *ret_r);

#endif
