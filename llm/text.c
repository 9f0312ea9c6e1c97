/* SPDX-License-Identifier: Apache-2.0
 *
 * text.c - see text.h.
 */
#include "text.h"

#include <string.h>

#include "vocab.h"

/* Out goes a prompt that is told, too, maybe at once; a byte that is no character becomes three. */
enum { HELD_BYTES_MAX = 1 << 20, OUT_BYTES_MAX = HELD_BYTES_MAX + 3 * LLM_TEXT_BYTES_MAX };

dbe_err llm_text_init(const char *const *stops, size_t stop_count, struct llm_text *out, struct dbe_diag *diag)
{
    if (stop_count > LLM_STOPS_MAX)
        return dbe_fail(diag, DBE_E_ARGUMENT, "stop", 0, "%zu stop strings, at most %d", stop_count, LLM_STOPS_MAX);
    for (size_t i = 0; i < stop_count; i++) {
        const size_t len = strlen(stops[i]);
        if (len == 0 || len > LLM_STOP_BYTES_MAX || !base_utf8_valid(stops[i], len))
            return dbe_fail(diag, DBE_E_ARGUMENT, "stop", i, "stop string %zu must be UTF-8 of 1 to %d bytes", i,
                            LLM_STOP_BYTES_MAX);
    }
    for (size_t i = 0; i < stop_count; i++) {
        out->stops[i].len = strlen(stops[i]);
        memcpy(out->stops[i].bytes, stops[i], out->stops[i].len);
    }
    out->stop_count = stop_count;
    base_buf_init(&out->held, HELD_BYTES_MAX);
    base_buf_init(&out->out, OUT_BYTES_MAX);
    return DBE_OK;
}

void llm_text_fini(struct llm_text *t)
{
    base_buf_free(&t->held);
    base_buf_free(&t->out);
}

/* Offset of the first stop string in the held bytes; SIZE_MAX: none. */
static size_t find_stop(const struct llm_text *t)
{
    size_t first = SIZE_MAX;

    for (size_t i = 0; i < t->stop_count && t->held.len > 0; i++) {
        const uint8_t *hit = memmem(t->held.data, t->held.len, t->stops[i].bytes, t->stops[i].len);
        if (hit && (size_t)(hit - t->held.data) < first)
            first = (size_t)(hit - t->held.data);
    }
    return first;
}

/* Bytes at the end of the held ones that are the beginning of a stop string: the most of any. */
static size_t stop_prefix(const struct llm_text *t)
{
    size_t most = 0;

    for (size_t i = 0; i < t->stop_count; i++)
        for (size_t n = BASE_MIN(t->stops[i].len - 1, t->held.len); n > most; n--)
            if (memcmp(t->held.data + t->held.len - n, t->stops[i].bytes, n) == 0)
                most = n;
    return most;
}

/* Could these bytes, fewer than a character has, become one with more to come? */
static bool unfinished(const uint8_t *p, size_t len)
{
    const size_t want = p[0] >= 0xf0 && p[0] <= 0xf4   ? 4
                        : p[0] >= 0xe0 && p[0] <= 0xef ? 3
                        : p[0] >= 0xc2 && p[0] <= 0xdf ? 2
                                                       : 0;

    if (len >= want)
        return false;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return false;
    return true;
}

/* Move up to `limit` held bytes out as whole characters; bytes that are none become U+FFFD. What is unfinished at the
 * end stays, or is dropped when nothing follows. */
static void release(struct llm_text *t, size_t limit, bool last)
{
    size_t at = 0, n;

    while (at < limit) {
        const char *p = (const char *)t->held.data + at;
        const uint32_t code = llm_utf8_next(p, limit - at, &n);
        if (code == UINT32_MAX && unfinished(t->held.data + at, limit - at))
            break;
        if (code == UINT32_MAX || code == 0)
            base_buf_str(&t->out, "\xef\xbf\xbd");
        else
            base_buf_bytes(&t->out, p, n);
        at += n;
    }
    base_buf_consume(&t->held, last ? t->held.len : at);
}

bool llm_text_add(struct llm_text *t, const char *bytes, size_t len)
{
    base_buf_bytes(&t->held, bytes, len);
    const size_t stop = find_stop(t);

    if (stop != SIZE_MAX) {
        release(t, stop, true);
        return true;
    }
    release(t, t->held.len - stop_prefix(t), false);
    return false;
}

void llm_text_echo(struct llm_text *t, const char *bytes, size_t len)
{
    base_buf_bytes(&t->held, bytes, len);
    release(t, t->held.len, false);
}

void llm_text_end(struct llm_text *t)
{
    release(t, t->held.len, true);
}

dbe_err llm_text_error(const struct llm_text *t)
{
    return t->held.err != DBE_OK ? t->held.err : t->out.err;
}
