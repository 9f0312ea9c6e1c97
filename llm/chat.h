/* SPDX-License-Identifier: Apache-2.0
 *
 * chat.h - which chat template a model was trained with, and prompts in it.
 */
#ifndef LLM_CHAT_H
#define LLM_CHAT_H

#include "vocab.h"

enum chat_kind { CHAT_PLAIN, CHAT_CHATML, CHAT_LLAMA2, CHAT_LLAMA3, CHAT_ZEPHYR };

/* Recognised by the markers in the file's template; the template itself, a program of strangers, is never run. */
enum chat_kind llm_chat_detect(const struct llm_vocab *v);
const char *llm_chat_name(enum chat_kind kind);

#endif
