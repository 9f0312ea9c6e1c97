/* SPDX-License-Identifier: Apache-2.0
 *
 * says.c - see says.h.
 */
#include "devices/l7_worker/says.h"

#include <string.h>

enum { WAITS_MAX_BYTES = 4 * 1024 * 1024 };

void engine_says_init(struct engine_says *s, const char *mark, bool wants_probs)
{
    memset(s, 0, sizeof *s);
    s->mark = mark;
    s->wants_probs = wants_probs;
    base_buf_init(&s->whole, LLM_TEXT_BYTES_MAX);
    base_buf_init(&s->held, LLM_TEXT_BYTES_MAX);
    base_buf_init(&s->waits, WAITS_MAX_BYTES);
    base_buf_init(&s->text, LLM_TEXT_BYTES_MAX);
    base_buf_init(&s->probs, WAITS_MAX_BYTES);
}

void engine_says_free(struct engine_says *s)
{
    struct base_buf *all[] = {&s->whole, &s->held, &s->waits, &s->text, &s->probs};

    for (size_t i = 0; i < BASE_ARRAY_LEN(all); i++)
        base_buf_free(all[i]);
}

/* Bytes at the end of `text` that are a beginning of the mark. */
static size_t mark_begun(const char *text, size_t len, const char *mark)
{
    size_t n = BASE_MIN(strlen(mark) - 1, len);

    while (n > 0 && memcmp(text + len - n, mark, n) != 0)
        n--;
    return n;
}

/* Tokens whose text has been told, at the end also the one that a stop sequence cut; end tokens have no text. */
static void release_probs(struct engine_says *s, const struct llm_model *model, bool done)
{
    const size_t size = sizeof(struct llm_token_prob);
    size_t at = 0, len;
    struct llm_token_prob prob;

    for (; at + size <= s->waits.len; at += size) {
        memcpy(&prob, s->waits.data + at, size);
        (void)llm_token_bytes(model, prob.id, &len);
        if (done ? s->counted >= s->told : s->counted + len > s->told)
            break;
        s->counted += len;
        base_buf_bytes(&s->probs, &prob, size);
    }
    base_buf_consume(&s->waits, at);
}

dbe_err engine_says_more(struct engine_says *s, const struct llm_model *model, const struct llm_piece *piece,
                         bool *ret_call)
{
    const char *found = NULL;
    size_t keep = 0;

    *ret_call = false;
    base_buf_clear(&s->text);
    base_buf_clear(&s->probs);
    if (s->wants_probs)
        base_buf_bytes(&s->waits, piece->probs, piece->prob_count * sizeof *piece->probs);
    base_buf_bytes(&s->held, piece->text, piece->text_len);
    if (s->held.err == DBE_OK && s->held.len > 0 && s->mark != NULL) {
        const char *held = (const char *)s->held.data;
        found = memmem(held, s->held.len, s->mark, strlen(s->mark));
        keep = found != NULL ? s->held.len - (size_t)(found - held)
               : piece->done ? 0
                             : mark_begun(held, s->held.len, s->mark);
    }
    const size_t tell = s->held.len - keep;
    base_buf_bytes(&s->text, s->held.data, tell);
    if (s->mark != NULL)
        base_buf_bytes(&s->whole, s->held.data, tell);
    base_buf_consume(&s->held, tell);
    s->told += tell;
    release_probs(s, model, piece->done || found != NULL);
    *ret_call = found != NULL;
    const struct base_buf *all[] = {&s->whole, &s->held, &s->waits, &s->text, &s->probs};
    for (size_t i = 0; i < BASE_ARRAY_LEN(all); i++)
        DBE_TRY(all[i]->err);
    return DBE_OK;
}

dbe_err engine_mark(const struct llm_model *model, const char *mark, struct llm_tokens *out)
{
    DBE_TRY(llm_tokenize(model, mark, strlen(mark), LLM_TOKENIZE_SPECIAL, out));
    return llm_tokenize(model, "\n", 1, 0, out);
}
