/* SPDX-License-Identifier: Apache-2.0
 *
 * armour.c - blocks of base64 between a BEGIN and an END line, written and read back strictly.
 *
 * In:   text of files    Out: bytes
 * Does not: skip text between blocks, nor take any of the looser forms of RFC 7468: who writes these files is us.
 */
#include "armour.h"

#include <stdio.h>
#include <string.h>

enum { LINE_CHARS = 64, LINE_BYTES = 48, MARK_MAX_BYTES = 96 };

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static size_t mark(char ret[MARK_MAX_BYTES], const char *which, const char *label)
{
    int n = snprintf(ret, MARK_MAX_BYTES, "-----%s %s-----\n", which, label);

    return n > 0 && n < MARK_MAX_BYTES ? (size_t)n : 0;
}

/* One line of up to LINE_BYTES bytes; returns its characters. */
static size_t line_of(const uint8_t *data, size_t len, char ret[LINE_CHARS])
{
    size_t n = 0;

    for (size_t i = 0; i < len; i += 3) {
        size_t have = BASE_MIN(len - i, (size_t)3);
        uint32_t v = (uint32_t)data[i] << 16 | (have > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
                     (have > 2 ? (uint32_t)data[i + 2] : 0);
        ret[n++] = digits[v >> 18];
        ret[n++] = digits[v >> 12 & 63];
        ret[n++] = have > 1 ? digits[v >> 6 & 63] : '=';
        ret[n++] = have > 2 ? digits[v & 63] : '=';
    }
    return n;
}

void armour_put(struct base_buf *out, const char *label, const void *data, size_t len)
{
    const uint8_t *at = data;
    char text[MARK_MAX_BYTES];

    base_buf_bytes(out, text, mark(text, "BEGIN", label));
    for (size_t i = 0; i < len; i += LINE_BYTES) {
        char line[LINE_CHARS];
        base_buf_bytes(out, line, line_of(at + i, BASE_MIN(len - i, (size_t)LINE_BYTES), line));
        base_buf_u8(out, '\n');
    }
    base_buf_bytes(out, text, mark(text, "END", label));
}

static bool begins(const struct base_cur *c, const char *text, size_t len)
{
    return !c->bad && base_cur_left(c) >= len && memcmp(c->at, text, len) == 0;
}

bool armour_is(const struct base_cur *c, const char *label)
{
    char text[MARK_MAX_BYTES];
    size_t len = mark(text, "BEGIN", label);

    return len > 0 && begins(c, text, len);
}

/* The characters of one line to bytes; 0: it is none. */
static size_t read_line(const uint8_t *line, size_t chars, uint8_t ret[LINE_BYTES])
{
    size_t n = 0, pad = 0;
    char again[LINE_CHARS];

    if (chars == 0 || chars > LINE_CHARS || chars % 4 != 0)
        return 0;
    while (pad < 2 && line[chars - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < chars; i += 4) {
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            bool padding = i + k >= chars - pad;
            const char *at = padding ? digits : memchr(digits, line[i + k], sizeof digits - 1);
            if (at == NULL)
                return 0;
            v = v << 6 | (uint32_t)(at - digits);
        }
        ret[n++] = (uint8_t)(v >> 16);
        ret[n++] = (uint8_t)(v >> 8);
        ret[n++] = (uint8_t)v;
    }
    n -= pad;
    /* Written again it must be the same: no bits to spare in the last character. */
    return line_of(ret, n, again) == chars && memcmp(again, line, chars) == 0 ? n : 0;
}

dbe_err armour_take(struct base_cur *c, const char *label, struct base_buf *out)
{
    char text[MARK_MAX_BYTES];
    uint8_t bytes[LINE_BYTES];
    size_t n = LINE_BYTES, len = mark(text, "BEGIN", label);

    if (len == 0 || !begins(c, text, len)) {
        c->bad = true;
        return DBE_E_MALFORMED;
    }
    (void)base_cur_bytes(c, len);
    len = mark(text, "END", label);
    while (!begins(c, text, len)) {
        const uint8_t *end = c->bad ? NULL : memchr(c->at, '\n', base_cur_left(c));
        size_t chars = end != NULL ? (size_t)(end - c->at) : 0;
        /* Every line but the last is full. */
        n = n != LINE_BYTES || chars > LINE_CHARS ? 0 : read_line(c->at, chars, bytes);
        if (n == 0) {
            c->bad = true;
            return DBE_E_MALFORMED;
        }
        base_buf_bytes(out, bytes, n);
        (void)base_cur_bytes(c, chars + 1);
    }
    (void)base_cur_bytes(c, len);
    return out->err;
}
