/* SPDX-License-Identifier: Apache-2.0
 *
 * text.c - UTF-8, hex, UUIDs, JSON strings. In: bytes from anywhere. Does not normalise, fold case or know locales.
 */
#include "base/base.h"

#include <string.h>

static bool in_range(uint8_t v, uint8_t low, uint8_t high)
{
    return v >= low && v <= high;
}

/* Length of the well-formed UTF-8 sequence at `p` (RFC 3629, section 4), 0 if there is none. `left` > 0. */
static size_t utf8_step(const uint8_t *p, size_t left)
{
    uint8_t low = 0x80, high = 0xBF; /* what the second byte may be */
    size_t len;

    if (p[0] < 0x80)
        return 1;
    if (in_range(p[0], 0xC2, 0xDF))
        len = 2;
    else if (in_range(p[0], 0xE0, 0xEF))
        len = 3;
    else if (in_range(p[0], 0xF0, 0xF4))
        len = 4;
    else
        return 0;
    if (p[0] == 0xE0)
        low = 0xA0; /* no overlong form */
    else if (p[0] == 0xED)
        high = 0x9F; /* no surrogate */
    else if (p[0] == 0xF0)
        low = 0x90;
    else if (p[0] == 0xF4)
        high = 0x8F; /* nothing above U+10FFFF */
    if (left < len || !in_range(p[1], low, high))
        return 0;
    for (size_t i = 2; i < len; i++)
        if (!in_range(p[i], 0x80, 0xBF))
            return 0;
    return len;
}

/* True if none of the 8 bytes at `p` is NUL or above 0x7F: the usual text in one comparison. */
static bool ascii_8(const uint8_t *p)
{
    const uint64_t high = UINT64_C(0x8080808080808080), ones = UINT64_C(0x0101010101010101);
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return ((v | (v - ones)) & high) == 0;
}

bool base_utf8_valid(const void *text, size_t len)
{
    const uint8_t *p = text;
    size_t at = 0;

    while (at + 8 <= len && ascii_8(p + at))
        at += 8;
    if (len >= 8 && len - at < 8 && ascii_8(p + len - 8)) /* the rest, with some bytes looked at twice */
        return true;
    while (at < len) {
        size_t step = p[at] < 0x80 ? p[at] != '\0' : utf8_step(p + at, len - at);
        if (step == 0)
            return false;
        at += step;
    }
    return true;
}

/* C0, DEL and C1, which terminals obey. */
static bool is_control(const uint8_t *p, size_t left)
{
    return p[0] < 0x20 || p[0] == 0x7f || (p[0] == 0xc2 && left > 1 && p[1] < 0xa0);
}

void base_text_mend(char *text)
{
    size_t len = strlen(text);

    while (len > 0) {
        const uint8_t *p = (const uint8_t *)text;
        const size_t step = is_control(p, len) ? 0 : utf8_step(p, len);
        if (step == 0)
            *text = '?';
        text += step > 0 ? step : 1;
        len -= step > 0 ? step : 1;
    }
}

void base_text_shown(struct base_buf *out, const char *text, size_t len, bool lines)
{
    for (size_t i = 0; i < len; i++) {
        const uint8_t *p = (const uint8_t *)text + i;
        const bool blank = *p == '\n' || *p == '\t';
        if (!is_control(p, len - i) || (lines && blank))
            base_buf_u8(out, *p);
        else
            base_buf_u8(out, blank ? ' ' : '?');
        i += *p == 0xc2 && is_control(p, len - i) ? 1 : 0; /* C1 takes two bytes */
    }
}

void base_hex(const void *data, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * len] = '\0';
}

/* Value of a hex digit, 16 for anything else. */
static uint8_t hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return (uint8_t)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (uint8_t)(c - 'a' + 10);
    if (c >= 'A' && c <= 'F')
        return (uint8_t)(c - 'A' + 10);
    return 16;
}

dbe_err base_unhex(const char *hex, void *out, size_t len)
{
    uint8_t *bytes = out;

    for (size_t i = 0; i < 2 * len; i++)
        if (hex_digit(hex[i]) > 15) /* stops at the NUL of a short text as well */
            return DBE_E_MALFORMED;
    if (hex[2 * len] != '\0')
        return DBE_E_MALFORMED;
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
    return DBE_OK;
}

dbe_err base_uuid(uint8_t out[16])
{
    DBE_TRY(base_random(out, 16));
    out[6] = (uint8_t)((out[6] & 0x0F) | 0x40); /* RFC 9562 section 5.4: version 4, variant 10 */
    out[8] = (uint8_t)((out[8] & 0x3F) | 0x80);
    return DBE_OK;
}

void base_uuid_text(const uint8_t uuid[16], char out[37])
{
    static const uint8_t groups[] = {4, 2, 2, 2, 6};
    size_t from = 0, to = 0;

    for (size_t g = 0; g < sizeof groups; g++) {
        base_hex(uuid + from, groups[g], out + to);
        from += groups[g];
        to += 2U * groups[g];
        out[to++] = '-';
    }
    out[36] = '\0'; /* over the last hyphen */
}

/* The two-character escape of `c`, NULL if it has none. */
static const char *json_short(uint8_t c)
{
    switch (c) {
    case '"': return "\\\"";
    case '\\': return "\\\\";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: return NULL;
    }
}

void base_json_str(struct base_buf *b, const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t at = 0;

    base_buf_u8(b, '"');
    while (at < len && b->err == DBE_OK) {
        size_t run = at, step = 1;
        while (run < len && p[run] >= 0x20 && p[run] != '"' && p[run] != '\\' &&
               (step = utf8_step(p + run, len - run)) > 0)
            run += step;
        base_buf_bytes(b, p + at, run - at);
        at = run;
        if (at == len)
            break;
        if (step == 0)
            base_buf_str(b, "\xEF\xBF\xBD"); /* U+FFFD, one for each bad byte */
        else if (json_short(p[at]) != NULL)
            base_buf_str(b, json_short(p[at]));
        else
            base_buf_fmt(b, "\\u%04x", (unsigned)p[at]);
        at++;
    }
    base_buf_u8(b, '"');
}
