/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_shm.c - a ring in shared memory whose other side writes anything into its control block at any moment. The
 * first byte of each step says what happens next: the peer sets a position or flag, we write, we read, sleep or look.
 * What was written honestly is read as it was; nothing outside the ring is touched; a wild position is E_PROTOCOL.
 */
#include <stdlib.h>
#include <string.h>

#include "transport/shm_ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RING_BYTES = 256, STEPS_MAX = 4096 };

struct rig {
    struct shm_dir in, out; /* control blocks, ours to read from and to write to */
    uint8_t *in_data, *out_data;
    struct shm_reader r;
    struct shm_writer w;
};

static void do_read(struct rig *rig, size_t room)
{
    uint8_t *copy = malloc(room + 1); /* exactly as large: the sanitizer sees one byte more */
    const uint64_t tail = rig->r.tail, head = atomic_load(&rig->in.head);
    size_t n = 0;

    BASE_INVARIANT(copy != NULL);
    dbe_err err = shm_read(&rig->r, copy, room, &n);
    BASE_INVARIANT(err == (head - tail > RING_BYTES ? DBE_E_PROTOCOL : DBE_OK));
    BASE_INVARIANT(n <= room && rig->r.tail == tail + n && atomic_load(&rig->in.tail) == rig->r.tail);
    for (size_t i = 0; i < n; i++)
        BASE_INVARIANT(copy[i] == rig->in_data[(tail + i) % RING_BYTES]);
    free(copy);
    (void)shm_wake_writer(&rig->r);
}

static void do_write(struct rig *rig, size_t len)
{
    uint8_t *bytes = malloc(len + 1);
    const uint64_t head = rig->w.head;
    size_t n = 0;

    BASE_INVARIANT(bytes != NULL);
    memset(bytes, (int)len, len);
    dbe_err err = shm_write(&rig->w, bytes, len, &n);
    BASE_INVARIANT(err == DBE_OK || err == DBE_E_PROTOCOL || err == DBE_E_CLOSED);
    BASE_INVARIANT(n <= len && n <= RING_BYTES && rig->w.head == head + n);
    BASE_INVARIANT(rig->w.head - rig->w.tail <= RING_BYTES);
    for (size_t i = 0; i < n; i++)
        BASE_INVARIANT(rig->out_data[(head + i) % RING_BYTES] == (uint8_t)len);
    free(bytes);
    (void)shm_wake_reader(&rig->w);
}

/* What the peer may do: a position relative to where we are, which is where wild ones matter, or absolute; flags. */
static void peer(struct rig *rig, uint8_t what, uint64_t value)
{
    const uint64_t near = (uint64_t)((int64_t)(value & 1023) - 512);

    switch (what % 7) {
    case 0: atomic_store(&rig->in.head, rig->r.tail + near); break;
    case 1: atomic_store(&rig->out.tail, rig->w.head + near); break;
    case 2: atomic_store(&rig->in.head, value); break;
    case 3: atomic_store(&rig->out.tail, value); break;
    case 4: atomic_store(&rig->in.waits, (uint32_t)value); break;
    case 5: atomic_store(&rig->out.sleeps, (uint32_t)value); break;
    default: atomic_store(&rig->out.gone, (uint32_t)(value & 1)); break;
    }
}

static void step(struct rig *rig, uint8_t op, uint64_t value)
{
    switch (op & 7) {
    case 0:
    case 1: do_read(rig, (size_t)(value % (RING_BYTES * 2))); break;
    case 2:
    case 3: do_write(rig, (size_t)(value % (RING_BYTES * 2))); break;
    case 4: BASE_INVARIANT(shm_reader_sleeps(&rig->r) == (atomic_load(&rig->in.head) != rig->r.tail)); break;
    case 5:
        (void)shm_writer_waits(&rig->w);
        shm_reader_looks(&rig->r);
        break;
    default: peer(rig, (uint8_t)(op >> 3), value); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct base_cur c = base_cur_of(data, size);
    struct rig rig = {.in_data = malloc(RING_BYTES), .out_data = malloc(RING_BYTES)};
    const uint64_t start = base_cur_u64(&c);

    BASE_INVARIANT(rig.in_data != NULL && rig.out_data != NULL);
    for (size_t i = 0; i < RING_BYTES; i++)
        rig.in_data[i] = (uint8_t)(i * 3);
    rig.r = (struct shm_reader){.dir = &rig.in, .data = rig.in_data, .size = RING_BYTES, .tail = start};
    rig.w = (struct shm_writer){
        .dir = &rig.out, .data = rig.out_data, .size = RING_BYTES, .head = start, .tail = start, .clean = start};
    atomic_store(&rig.in.head, start);
    atomic_store(&rig.in.tail, start);
    atomic_store(&rig.out.head, start);
    atomic_store(&rig.out.tail, start);
    for (size_t i = 0; i < STEPS_MAX && base_cur_left(&c) > 0; i++) {
        uint8_t op = base_cur_u8(&c);
        uint64_t value = (op & 6) == 6 && (op >> 3) % 7 >= 2 ? base_cur_u64(&c) : base_cur_u16(&c);
        step(&rig, op, value);
    }
    free(rig.in_data);
    free(rig.out_data);
    return 0;
}
