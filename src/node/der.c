/* SPDX-License-Identifier: Apache-2.0
 *
 * der.c - elements of DER, read strictly and written.
 *
 * In:   bytes from files and peers    Out: spans, numbers and times, or a cursor that is bad
 * Does not: know any structure; crl.c does. Does not read high tag numbers or lengths above 2^32 - 1: nothing that is
 *       read here has them.
 */
#include "der.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LENGTH_LONG = 0x80, LENGTH_BYTES_MAX = 4, TAG_NUMBER = 0x1F, YEAR_MAX = 9999, UTC_YEAR_MAX = 2049 };

static struct base_cur bad_cursor(void)
{
    struct base_cur c = base_cur_of("", 0);

    c.bad = true;
    return c;
}

uint8_t der_peek(const struct base_cur *c)
{
    return c->bad || base_cur_left(c) == 0 ? 0 : *c->at;
}

/* Length octets in the one form that DER allows for each length. */
static size_t read_length(struct base_cur *c)
{
    uint8_t first = base_cur_u8(c);
    size_t len = 0;

    if (first < LENGTH_LONG)
        return first;
    unsigned n = first & 0x7FU;
    if (n == 0 || n > LENGTH_BYTES_MAX)
        c->bad = true;
    for (unsigned i = 0; i < n && !c->bad; i++)
        len = len << 8 | base_cur_u8(c);
    if (len < LENGTH_LONG || (n > 1 && len >> (8 * (n - 1)) == 0))
        c->bad = true;
    return len;
}

/* Tag and length; what is left is at least `len` bytes, or the cursor is bad. */
static size_t read_header(struct base_cur *c, uint8_t *ret_tag)
{
    *ret_tag = base_cur_u8(c);
    if ((*ret_tag & TAG_NUMBER) == TAG_NUMBER)
        c->bad = true;
    size_t len = read_length(c);
    if (c->bad || len > base_cur_left(c))
        c->bad = true;
    return c->bad ? 0 : len;
}

struct der_span der_content(struct base_cur *c, uint8_t tag)
{
    struct der_span span = {(const uint8_t *)"", 0};
    uint8_t is = 0;

    size_t len = read_header(c, &is);
    if (is != tag)
        c->bad = true;
    if (c->bad)
        return span;
    span.len = len;
    span.data = len > 0 ? base_cur_bytes(c, len) : c->at;
    return span;
}

struct base_cur der_enter(struct base_cur *c, uint8_t tag)
{
    struct der_span span = der_content(c, tag);

    return c->bad ? bad_cursor() : base_cur_of(span.data, span.len);
}

struct der_span der_whole(struct base_cur *c)
{
    const uint8_t *from = c->at;
    struct der_span span = {(const uint8_t *)"", 0};
    uint8_t tag = 0;

    size_t len = read_header(c, &tag);
    if (len > 0)
        (void)base_cur_bytes(c, len);
    if (c->bad)
        return span;
    return (struct der_span){from, (size_t)(c->at - from)};
}

struct der_span der_magnitude(struct base_cur *c)
{
    struct der_span span = der_content(c, DER_INT);

    if (c->bad || span.len == 0 || span.data[0] >= 0x80) {
        c->bad = true;
        return (struct der_span){(const uint8_t *)"", 0};
    }
    if (span.data[0] == 0 && span.len > 1) {
        if (span.data[1] < 0x80) /* a zero byte that the sign does not need */
            c->bad = true;
        span.data++;
        span.len--;
    }
    return span;
}

uint64_t der_uint(struct base_cur *c)
{
    struct der_span span = der_magnitude(c);
    uint64_t value = 0;

    if (span.len > sizeof value)
        c->bad = true;
    for (size_t i = 0; i < span.len && !c->bad; i++)
        value = value << 8 | span.data[i];
    if (value > INT64_MAX)
        c->bad = true;
    return c->bad ? 0 : value;
}

/* Two digits at `at`, or a bad cursor. */
static int two_digits(const uint8_t *at, struct base_cur *c)
{
    if (at[0] < '0' || at[0] > '9' || at[1] < '0' || at[1] > '9')
        c->bad = true;
    return (at[0] - '0') * 10 + (at[1] - '0');
}

uint64_t der_time_ms(struct base_cur *c)
{
    uint8_t tag = der_peek(c), again[DER_TIME_MAX_BYTES];
    struct der_span span = der_content(c, tag == DER_TIME ? DER_TIME : DER_UTC_TIME);
    const size_t want = tag == DER_TIME ? 15 : 13; /* YYYYMMDDHHMMSSZ, YYMMDDHHMMSSZ */
    struct base_buf b;
    struct tm tm = {0};

    if (c->bad || span.len != want || span.data[want - 1] != 'Z') {
        c->bad = true;
        return 0;
    }
    const uint8_t *at = span.data;
    int year = two_digits(at, c);
    if (tag == DER_TIME)
        year = year * 100 + two_digits(at += 2, c);
    else
        year += year < 50 ? 2000 : 1900;
    tm.tm_year = year - 1900;
    tm.tm_mon = two_digits(at + 2, c) - 1;
    tm.tm_mday = two_digits(at + 4, c);
    tm.tm_hour = two_digits(at + 6, c);
    tm.tm_min = two_digits(at + 8, c);
    tm.tm_sec = two_digits(at + 10, c);
    time_t s = timegm(&tm);
    /* Written again it must be the same: no 31st of February, no other form for this year. */
    base_buf_init_fixed(&b, again, sizeof again);
    if (c->bad || s < 0 || !der_put_time_ms(&b, (uint64_t)s * 1000) || b.err != DBE_OK || b.len != want + 2 ||
        memcmp(again + 2, span.data, want) != 0 || again[0] != tag) {
        c->bad = true;
        return 0;
    }
    return (uint64_t)s * 1000;
}

bool der_same(struct der_span a, struct der_span b)
{
    return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

void der_put(struct base_buf *out, uint8_t tag, const void *content, size_t len)
{
    base_buf_u8(out, tag);
    if (len < LENGTH_LONG) {
        base_buf_u8(out, (uint8_t)len);
    } else {
        unsigned n = 1;
        while (n < LENGTH_BYTES_MAX && len >> (8 * n) != 0)
            n++;
        base_buf_u8(out, (uint8_t)(LENGTH_LONG | n));
        for (unsigned i = n; i > 0; i--)
            base_buf_u8(out, (uint8_t)(len >> (8 * (i - 1))));
    }
    base_buf_bytes(out, content, len);
}

void der_put_magnitude(struct base_buf *out, const uint8_t *magnitude, size_t len)
{
    uint8_t with_sign[33] = {0};

    while (len > 1 && magnitude[0] == 0)
        magnitude++, len--;
    if (len >= sizeof with_sign) {
        out->err = DBE_E_TOO_LARGE;
        return;
    }
    memcpy(with_sign + 1, magnitude, len);
    if (magnitude[0] >= 0x80)
        der_put(out, DER_INT, with_sign, len + 1);
    else
        der_put(out, DER_INT, magnitude, len);
}

void der_put_uint(struct base_buf *out, uint64_t value)
{
    uint8_t be[8];

    base_put_u64(be, value);
    der_put_magnitude(out, be, sizeof be);
}

bool der_put_time_ms(struct base_buf *out, uint64_t unix_ms)
{
    time_t t = (time_t)(unix_ms / 1000);
    struct tm tm;
    char text[64];

    if (gmtime_r(&t, &tm) == NULL || tm.tm_year + 1900 > YEAR_MAX)
        return false;
    int year = tm.tm_year + 1900;
    bool utc = year <= UTC_YEAR_MAX;
    int n = snprintf(text, sizeof text, "%0*d%02d%02d%02d%02d%02dZ", utc ? 2 : 4, utc ? year % 100 : year,
                     tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    der_put(out, utc ? DER_UTC_TIME : DER_TIME, text, (size_t)n);
    return true;
}
