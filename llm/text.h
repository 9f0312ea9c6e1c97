/* SPDX-License-Identifier: Apache-2.0
 *
 * text.h - from bytes of tokens to text that never breaks a character nor shows a stop string.
 *
 * In:   bytes, as tokens have them. Out: whole UTF-8 characters.
 * Bytes gather in `held`. What could still become a stop string or is an unfinished character stays there; the rest
 * goes to `out`. Both have a maximum; their errors stick.
 */
#ifndef LLM_TEXT_H
#define LLM_TEXT_H

#include "base/base.h"
#include "llm.h"

struct text_stop {
    char bytes[LLM_STOP_BYTES_MAX];
    size_t len;
};

struct llm_text {
    struct text_stop stops[LLM_STOPS_MAX];
    size_t stop_count;
    struct base_buf held, out;
};

/* Checks and copies the stop strings. E_ARGUMENT. */
dbe_err llm_text_init(const char *const *stops, size_t stop_count, struct llm_text *out,
                      struct dbe_diag *diag) DBE_MUST_CHECK;
void llm_text_fini(struct llm_text *text);
/* Take the bytes of one more token in. True: a stop string has come; nothing more goes out. */
bool llm_text_add(struct llm_text *text, const char *bytes, size_t len);
/* The same of a token of the prompt: no stop string is looked for, nothing is held but an unfinished character. */
void llm_text_echo(struct llm_text *text, const char *bytes, size_t len);
/* Nothing follows: what is held goes out, but for an unfinished character. */
void llm_text_end(struct llm_text *text);
dbe_err llm_text_error(const struct llm_text *text);

#endif
