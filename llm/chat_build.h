/* SPDX-License-Identifier: Apache-2.0
 *
 * chat_build.h - how the chat templates put a prompt together (chat_build.c), and the templates that have a file of
 * their own.
 */
#ifndef LLM_CHAT_BUILD_H
#define LLM_CHAT_BUILD_H

#include "chat.h"

struct chat_builder {
    const struct llm_vocab *v;
    struct base_buf text; /* not tokenised yet */
    bool begin;           /* it stands at the start or after a special token */
    bool strip;           /* and white space after that token is dropped */
    struct llm_tokens *out;
    dbe_err err; /* the first; nothing is added after it */
};

/* A special token; -1: none. */
void chat_put_id(struct chat_builder *b, int32_t id);
void chat_put_bos_if_asked(struct chat_builder *b);
/* Ours: "<|im_end|>", by its id where the vocabulary has it. */
void chat_put_mark(struct chat_builder *b, const char *mark);
void chat_put_words(struct chat_builder *b, const char *words);
/* Of others. */
void chat_put_text(struct chat_builder *b, const char *text, size_t len);
void chat_put_message(struct chat_builder *b, const struct llm_message *msg);
/* Without white space at its ends. */
void chat_put_trimmed(struct chat_builder *b, const struct llm_message *msg);
/* Tokenise what is left. */
void chat_put_end(struct chat_builder *b);

/* Length of the text without white space at its end. */
size_t chat_trimmed_end(const char *p, size_t len);
bool chat_is_role(const struct llm_message *msg, const char *role);
/* Are these words in the file's template? */
bool chat_holds(const struct chat_builder *b, const char *words);

typedef void chat_render_fn(struct chat_builder *b, const struct llm_message *msgs, size_t count);
chat_render_fn chat_render_llama2, chat_render_mistral_v0, chat_render_mistral_v1, chat_render_mistral_v3,
    chat_render_mistral_tekken, chat_render_mistral_v7;

#endif
