/* SPDX-License-Identifier: Apache-2.0
 *
 * test_random.h - numbers for tests of kernels: the same in every run.
 */
#ifndef LLM_TEST_RANDOM_H
#define LLM_TEST_RANDOM_H

#include <stdint.h>

static uint64_t random_state = 1;

/* 31 bits. */
static inline uint32_t random_u32(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33);
}

/* From -1 to 1. */
static inline float random_f32(void)
{
    return (float)random_u32() * 0x1p-30f - 1.0f;
}

#endif
