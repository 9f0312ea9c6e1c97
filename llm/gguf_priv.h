/* SPDX-License-Identifier: Apache-2.0
 *
 * gguf_priv.h - what the files of the GGUF reader share.
 */
#ifndef LLM_GGUF_PRIV_H
#define LLM_GGUF_PRIV_H

#include "gguf.h"

#define CLAUSE "gguf"

static inline uint32_t le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t le64(const uint8_t *p)
{
    return (uint64_t)le32(p) | (uint64_t)le32(p + 4) << 32;
}

/* Check the entries, each of which is sound, against each other: names once, the alignment, tensors' data inside the
 * file and apart. Offsets become absolute. `table_end`: where the entries end. E_MODEL, E_NOMEM. */
dbe_err gguf_check(struct gguf *g, size_t table_end, struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
