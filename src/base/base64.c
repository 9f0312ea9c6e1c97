/* SPDX-License-Identifier: Apache-2.0
 *
 * base64.c - bytes as base64 (RFC 4648, section 4) and back, in its one strict spelling: no line feeds, no missing
 * padding, no bits beyond the last byte.
 */
#include "base/base.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base_base64(struct base_buf *b, const void *data, size_t len)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i += 3) {
        size_t have = BASE_MIN(len - i, (size_t)3);
        uint32_t v = (uint32_t)p[i] << 16 | (have > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (have > 2 ? p[i + 2] : 0U);
        const char four[4] = {digits[v >> 18], digits[v >> 12 & 63], have > 1 ? digits[v >> 6 & 63] : '=',
                              have > 2 ? digits[v & 63] : '='};
        base_buf_bytes(b, four, sizeof four);
    }
}

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

dbe_err base_unbase64(const char *text, size_t len, uint8_t *out, size_t cap, size_t *ret_len)
{
    size_t pad = len > 0 && text[len - 1] == '=' ? 1 : 0;
    size_t at = 0;

    if (len % 4 != 0)
        return DBE_E_MALFORMED;
    pad += pad == 1 && text[len - 2] == '=' ? 1 : 0;
    size_t bytes = len / 4 * 3 - pad;
    if (bytes > cap)
        return DBE_E_TOO_LARGE;
    for (size_t i = 0; i < len; i += 4) {
        size_t some = i + 4 == len ? 4 - pad : 4;
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            int d = k < some ? value_of(text[i + k]) : 0;
            if (d < 0)
                return DBE_E_MALFORMED;
            v = v << 6 | (uint32_t)d;
        }
        if ((some == 3 && (v & 0xFF) != 0) || (some == 2 && (v & 0xFFFF) != 0))
            return DBE_E_MALFORMED;
        for (size_t k = 0; k + 1 < some; k++)
            out[at++] = (uint8_t)(v >> (16 - 8 * k));
    }
    *ret_len = bytes;
    return DBE_OK;
}
