/* SPDX-License-Identifier: Apache-2.0
 *
 * schema_regex.h - a regular expression that was read: between schema_regex.c and schema_pattern.c.
 */
#ifndef LLM_SCHEMA_REGEX_H
#define LLM_SCHEMA_REGEX_H

#include "schema.h"

enum { REGEX_PARTS_MAX = 2048, REGEX_RANGES_MAX = 4096, REGEX_CODE_MAX = 0x10ffff };

/* Characters. */
struct regex_range {
    uint32_t low, high;
};

enum regex_kind { REGEX_NOTHING, REGEX_CLASS, REGEX_SEQUENCE, REGEX_CHOICE, REGEX_REPETITION, REGEX_BEGIN, REGEX_END };

struct regex_part {
    enum regex_kind kind;
    uint32_t a, b; /* parts; REGEX_CLASS: ranges[a..b) */
    uint32_t min, max;
};

struct regex {
    struct schema *s;
    const char *key;
    const uint8_t *at, *end;
    struct regex_part parts[REGEX_PARTS_MAX];
    uint32_t part_count;
    struct regex_range ranges[REGEX_RANGES_MAX];
    uint32_t range_count;
    unsigned nested;
};

/* Fail with a sentence about the pattern. */
dbe_err regex_bad(struct regex *x, const char *what) DBE_MUST_CHECK;
/* Read all from x->at to x->end; *ret: the part that is the whole. */
dbe_err regex_read(struct regex *x, uint32_t *ret) DBE_MUST_CHECK;

#endif
