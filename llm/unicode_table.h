/* SPDX-License-Identifier: Apache-2.0
 *
 * unicode_table.h - runs of code points of one class, sorted: first code point << 4 | enum unicode_class.
 */
#ifndef LLM_UNICODE_TABLE_H
#define LLM_UNICODE_TABLE_H

#include <stddef.h>
#include <stdint.h>

extern const size_t llm_unicode_runs_count;
extern const uint32_t llm_unicode_runs[];

#endif
