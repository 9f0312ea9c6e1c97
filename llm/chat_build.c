/* SPDX-License-Identifier: Apache-2.0
 *
 * chat_build.c - a prompt that grows: marks of ours, texts of others.
 *
 * In:  both, in order. Out: token ids.
 * Not: no template (chat_render.c, chat_inst.c).
 *
 * A mark that is a special token of the vocabulary is inserted by its id; everything else is collected and tokenised
 * together, as it was in training, without reading control tokens in it.
 */
#include "chat_build.h"

#include <string.h>

static bool is_white(uint32_t code)
{
    return (code >= 0x1c && code <= 0x1f) || llm_unicode_class(code) == UNI_SPACE;
}

void chat_put_end(struct chat_builder *b)
{
    const char *p = (const char *)b->text.data;
    size_t n = b->text.len;

    if (b->err == DBE_OK && b->text.err != DBE_OK)
        b->err = b->text.err;
    while (b->strip && n > 0 && (*p == ' ' || (*p >= '\t' && *p <= '\r'))) {
        p++;
        n--;
    }
    if (b->err == DBE_OK && n > 0) {
        b->err = llm_vocab_tokenize(b->v, p, n, b->begin, b->out);
        b->begin = b->strip = false;
    }
    base_buf_clear(&b->text);
}

void chat_put_id(struct chat_builder *b, int32_t id)
{
    if (id < 0)
        return;
    chat_put_end(b);
    if (b->err == DBE_OK)
        b->err = llm_tokens_push(b->out, id);
    b->begin = true;
    b->strip = llm_vocab_strips(b->v, id);
}

void chat_put_text(struct chat_builder *b, const char *text, size_t len)
{
    base_buf_bytes(&b->text, text, len);
}

void chat_put_words(struct chat_builder *b, const char *words)
{
    chat_put_text(b, words, strlen(words));
}

void chat_put_mark(struct chat_builder *b, const char *mark)
{
    const int32_t id = llm_vocab_special(b->v, mark);

    if (id >= 0)
        chat_put_id(b, id);
    else
        chat_put_words(b, mark);
}

void chat_put_message(struct chat_builder *b, const struct llm_message *msg)
{
    chat_put_text(b, msg->text, msg->text_len);
}

size_t chat_trimmed_end(const char *p, size_t len)
{
    while (len > 0) {
        size_t n = 1, step;
        while (n < 4 && n < len && ((uint8_t)p[len - n] & 0xc0) == 0x80)
            n++;
        if (!is_white(llm_utf8_next(p + len - n, n, &step)) || step != n)
            break;
        len -= n;
    }
    return len;
}

void chat_put_trimmed(struct chat_builder *b, const struct llm_message *msg)
{
    const char *p = msg->text;
    size_t len = chat_trimmed_end(p, msg->text_len), step;

    while (len > 0 && is_white(llm_utf8_next(p, len, &step))) {
        p += step;
        len -= step;
    }
    chat_put_text(b, p, len);
}

bool chat_is_role(const struct llm_message *msg, const char *role)
{
    return strcmp(msg->role, role) == 0;
}

void chat_put_bos_if_asked(struct chat_builder *b)
{
    if (b->v->add_bos)
        chat_put_id(b, b->v->bos);
}

bool chat_holds(const struct chat_builder *b, const char *words)
{
    return strstr(b->v->chat_template, words) != NULL;
}
