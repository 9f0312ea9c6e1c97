/* SPDX-License-Identifier: Apache-2.0
 *
 * unicode.c - characters of UTF-8, and the classes of them that pre-tokenizers tell apart.
 *
 * In:  bytes, code points. Out: code points, classes.
 * Not: the table itself (unicode_table.c, which is generated); no case, no composition.
 */
#include "pretoken.h"
#include "unicode_table.h"

uint32_t llm_utf8_next(const char *text, size_t len, size_t *ret_len)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t n = 0;
    uint32_t code = 0;

    *ret_len = 1;
    if (p[0] < 0x80)
        return p[0];
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        n = 2;
        code = p[0] & 0x1fu;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        n = 3;
        code = p[0] & 0x0fu;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n = 4;
        code = p[0] & 0x07u;
    }
    if (n == 0 || n > len)
        return UINT32_MAX;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return UINT32_MAX;
        code = code << 6 | (p[i] & 0x3fu);
    }
    if ((n == 3 && code < 0x800) || (n == 4 && (code < 0x10000 || code > 0x10ffff)) ||
        (code >= 0xd800 && code < 0xe000))
        return UINT32_MAX;
    *ret_len = n;
    return code;
}

enum unicode_class llm_unicode_class(uint32_t code)
{
    size_t low = 0, high = llm_unicode_runs_count;

    if (code < 0x80)
        return unicode_ascii_class(code);
    if (code > 0x10ffff)
        return UNI_OTHER;
    while (high - low > 1) { /* the last run that begins at or before code */
        const size_t mid = low + (high - low) / 2;
        if (llm_unicode_runs[mid] >> 4 <= code)
            low = mid;
        else
            high = mid;
    }
    return (enum unicode_class)(llm_unicode_runs[low] & 15u);
}
