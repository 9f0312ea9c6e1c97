/* SPDX-License-Identifier: Apache-2.0
 *
 * chat.h - which chat template a model was trained with, and prompts in it.
 */
#ifndef LLM_CHAT_H
#define LLM_CHAT_H

#include "vocab.h"

enum chat_kind {
    CHAT_PLAIN,
    CHAT_CHATML,
    CHAT_IM_SEP, /* chatml with <|im_sep|>: Phi-4 */
    CHAT_LLAMA2,
    CHAT_LLAMA3,
    CHAT_ZEPHYR,
    CHAT_MISTRAL, /* the first: no spaces but inside [INST] */
    CHAT_MISTRAL_V1,
    CHAT_MISTRAL_V3,
    CHAT_MISTRAL_TEKKEN,
    CHAT_MISTRAL_V7,
    CHAT_GEMMA,
    CHAT_PHI3,
    CHAT_DEEPSEEK,
    CHAT_KINDS
};

enum { CHAT_BYTES_MAX = LLM_TEXT_BYTES_MAX };

#define CHAT_DEEPSEEK_USER "<\xef\xbd\x9cUser\xef\xbd\x9c>"
#define CHAT_DEEPSEEK_ASSISTANT                                                                                        \
    "<\xef\xbd\x9c"                                                                                                    \
    "Assistant\xef\xbd\x9c>"

/* Recognised by the marks in the file's template; the template itself, a program of strangers, is never run. */
enum chat_kind llm_chat_detect(const struct llm_vocab *v);
const char *llm_chat_name(enum chat_kind kind);

enum llm_tools llm_chat_tools_of(const struct llm_vocab *v);
/* The system message that a template writes itself when a chat brings none; NULL: none. */
const char *llm_chat_default_system(const struct llm_vocab *v, size_t *ret_len);

/* Append the prompt of messages that have been checked, at least one. On error `out` may hold a part of it. */
dbe_err llm_chat_write(enum chat_kind kind, const struct llm_vocab *v, const struct llm_message *msgs, size_t count,
                       struct llm_tokens *out) DBE_MUST_CHECK;

#endif
