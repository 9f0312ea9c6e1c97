/* SPDX-License-Identifier: Apache-2.0
 *
 * tile_emulated.h - for tests: the tile instructions of AMX that kern_amx.c uses, as a state machine in C, one a thread
 * as in hardware. What the processor answers with a fault is remembered instead (the first one, of any thread), and the
 * instruction does nothing.
 */
#ifndef LLM_TILE_EMULATED_H
#define LLM_TILE_EMULATED_H

#include <stddef.h>
#include <stdint.h>

void tile_emulated_config(const void *config); /* 64 bytes */
void tile_emulated_release(void);
void tile_emulated_zero(unsigned t);
void tile_emulated_load(unsigned t, const void *p, size_t stride);
void tile_emulated_store(unsigned t, void *p, size_t stride);
void tile_emulated_dot_bf16(unsigned c, unsigned a, unsigned b);
/* Why an instruction faulted since the last call, or NULL. */
const char *tile_emulated_fault(void);
/* Is this thread's unit configured? */
int tile_emulated_live(void);

/* Rounds to nearest even; subnormal numbers are zero, as in the processor's conversions. */
uint16_t tile_emulated_bf16(float f);

#define KERN_TILE_CONFIG(config) tile_emulated_config(config)
#define KERN_TILE_RELEASE() tile_emulated_release()
#define KERN_TILE_ZERO(t) tile_emulated_zero(t)
#define KERN_TILE_LOAD(t, p, stride) tile_emulated_load((t), (p), (stride))
#define KERN_TILE_STREAM(t, p, stride) tile_emulated_load((t), (p), (stride))
#define KERN_TILE_STORE(t, p, stride) tile_emulated_store((t), (p), (stride))
#define KERN_TILE_DOT(c, a, b) tile_emulated_dot_bf16((c), (a), (b))

#endif
