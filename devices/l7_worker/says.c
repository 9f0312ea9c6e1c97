/* SPDX-License-Identifier: Apache-2.0
 *
 * says.c - see says.h.
 */
#include "devices/l7_worker/says.h"

#include <string.h>

enum { WAITS_MAX_BYTES = 4 * 1024 * 1024 };

void engine_says_init(struct engine_says *s, const struct engine_call *call, bool wants_probs, bool all_probs)
{
    memset(s, 0, sizeof *s);
    s->call = call;
    s->wants_probs = wants_probs;
    s->all_probs = all_probs;
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

/* ---- where a call begins ---------------------------------------------------------------------------------------- */

enum found { FOUND_NOT, FOUND_PERHAPS, FOUND }; /* perhaps: the text ends too early to say */

static size_t white(const char *text, size_t len)
{
    size_t n = 0;

    while (n < len && strchr(" \t\r\n", text[n]) != NULL && text[n] != '\0')
        n++;
    return n;
}

/* The pieces one behind the other, with white space before each but the first. */
static enum found matches(const char *text, size_t len, const char *const *pieces, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const size_t space = i > 0 ? white(text, len) : 0;
        text += space;
        len -= space;
        const size_t n = strlen(pieces[i]);
        if (memcmp(text, pieces[i], BASE_MIN(n, len)) != 0)
            return FOUND_NOT;
        if (len < n)
            return FOUND_PERHAPS;
        text += n;
        len -= n;
    }
    return FOUND;
}

/* A JSON object that names one of the functions; some models say its type first. */
static enum found names_function(const char *text, size_t len, const struct engine_call *call)
{
    enum found best = FOUND_NOT;

    for (size_t i = 0; i < 2 * call->name_count && best != FOUND; i++) {
        const char *const plain[] = {"{", "\"name\"", ":", "\"", call->names[i / 2], "\""},
                          *const typed[] = {"{",        "\"type\"", ":",  "\"function\"",     ",",
                                            "\"name\"", ":",        "\"", call->names[i / 2], "\""};
        const enum found this = i % 2 == 0 ? matches(text, len, plain, BASE_ARRAY_LEN(plain))
                                           : matches(text, len, typed, BASE_ARRAY_LEN(typed));
        best = BASE_MAX(best, this);
    }
    return best;
}

/* Bytes of what is held that may be told now: all that comes before a call, and before what may be one. */
static size_t before_call(struct engine_says *s, bool done, bool *ret_call)
{
    const struct engine_call *call = s->call;
    const char *held = (const char *)s->held.data, *at;
    const size_t len = s->held.len;

    *ret_call = false;
    if (call == NULL || len == 0)
        return len;
    if (!call->first && call->mark[0] != '\0') {
        at = memmem(held, len, call->mark, strlen(call->mark));
        *ret_call = at != NULL;
        return at != NULL ? (size_t)(at - held) : done ? len : len - mark_begun(held, len, call->mark);
    }
    const size_t space = white(held, len);
    if (s->begun)
        return len;
    const enum found what = call->mark[0] != '\0' ? matches(held + space, len - space, &call->mark, 1)
                                                  : names_function(held + space, len - space, call);
    *ret_call = what == FOUND;
    s->begun = what == FOUND_NOT;
    return what == FOUND ? 0 : what == FOUND_PERHAPS && !done ? 0 : len;
}

/* ---- what is told ----------------------------------------------------------------------------------------------- */

/* Tokens whose text has been told, at the end also the one that a stop sequence cut; end tokens have no text. Where all
 * are wanted, the rest follows at the end. */
static void release_probs(struct engine_says *s, const struct llm_model *model, bool done)
{
    const size_t size = sizeof(struct llm_token_prob);
    size_t at = 0, len;
    struct llm_token_prob prob;

    for (; at + size <= s->waits.len; at += size) {
        memcpy(&prob, s->waits.data + at, size);
        (void)llm_token_bytes(model, prob.id, &len);
        len -= BASE_MIN(len, (size_t)prob.lead);
        if (done ? !s->all_probs && s->counted >= s->told : s->counted + len > s->told)
            break;
        s->counted += len;
        base_buf_bytes(&s->probs, &prob, size);
    }
    base_buf_consume(&s->waits, at);
}

dbe_err engine_says_more(struct engine_says *s, const struct llm_model *model, const struct llm_piece *piece,
                         bool *ret_call)
{
    base_buf_clear(&s->text);
    base_buf_clear(&s->probs);
    if (s->wants_probs)
        base_buf_bytes(&s->waits, piece->probs, piece->prob_count * sizeof *piece->probs);
    base_buf_bytes(&s->held, piece->text, piece->text_len);
    const size_t tell = before_call(s, piece->done, ret_call);
    base_buf_bytes(&s->text, s->held.data, tell);
    if (s->call != NULL)
        base_buf_bytes(&s->whole, s->held.data, tell);
    base_buf_consume(&s->held, tell);
    s->told += tell;
    release_probs(s, model, piece->done || *ret_call);
    const struct base_buf *all[] = {&s->whole, &s->held, &s->waits, &s->text, &s->probs};
    for (size_t i = 0; i < BASE_ARRAY_LEN(all); i++)
        DBE_TRY(all[i]->err);
    return DBE_OK;
}

dbe_err engine_mark(const struct llm_model *model, const struct engine_call *call, struct llm_tokens *out)
{
    DBE_TRY(llm_tokenize(model, call->mark, strlen(call->mark), LLM_TOKENIZE_SPECIAL, out));
    return llm_tokenize(model, call->lead, strlen(call->lead), 0, out);
}
