/* SPDX-License-Identifier: Apache-2.0
 *
 * out.c - writing into the caller's memory while counting what does not fit: varints, JSON strings, base64, numbers in
 * their shortest form. Knows no schema. Independent of the locale.
 */
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "payload/wire.h"

enum {
    OUT_FLOAT_DIGITS_MIN = 6, /* every float of so many digits comes back */
    OUT_FLOAT_DIGITS_MAX = 9, /* so many digits bring every float back */
    OUT_DOUBLE_DIGITS_MIN = 15,
    OUT_DOUBLE_DIGITS_MAX = 17,
    OUT_NUMBER_BYTES = 40,
};

void payload_put(struct payload_out *o, const void *data, size_t len)
{
    size_t room = o->len < o->cap ? o->cap - o->len : 0;

    if (len > 0 && room > 0)
        memcpy(o->out + o->len, data, BASE_MIN(len, room));
    o->len += len;
}

void payload_put_u8(struct payload_out *o, uint8_t v)
{
    if (o->len < o->cap)
        o->out[o->len] = v;
    o->len++;
}

void payload_put_text(struct payload_out *o, const char *text)
{
    payload_put(o, text, strlen(text));
}

void payload_put_varint(struct payload_out *o, uint64_t v)
{
    for (; v > 0x7F; v >>= 7)
        payload_put_u8(o, (uint8_t)(v | 0x80U));
    payload_put_u8(o, (uint8_t)v);
}

/* One byte of a string that JSON does not take as it is. */
static void put_escape(struct payload_out *o, uint8_t c)
{
    char text[8];

    switch (c) {
    case '"': payload_put_text(o, "\\\""); return;
    case '\\': payload_put_text(o, "\\\\"); return;
    case '\n': payload_put_text(o, "\\n"); return;
    case '\r': payload_put_text(o, "\\r"); return;
    case '\t': payload_put_text(o, "\\t"); return;
    default: break;
    }
    (void)snprintf(text, sizeof text, "\\u%04x", (unsigned)c);
    payload_put_text(o, text);
}

void payload_put_string(struct payload_out *o, const void *text, size_t len)
{
    const uint8_t *p = text;
    size_t at = 0, run = 0;

    payload_put_u8(o, '"');
    for (; at < len; at++) {
        if (p[at] >= 0x20 && p[at] != '"' && p[at] != '\\')
            continue;
        payload_put(o, p + run, at - run);
        put_escape(o, p[at]);
        run = at + 1;
    }
    payload_put(o, p + run, at - run);
    payload_put_u8(o, '"');
}

void payload_put_base64(struct payload_out *o, const void *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = data;

    payload_put_u8(o, '"');
    for (size_t at = 0; at < len; at += 3) {
        size_t left = len - at;
        uint32_t v = (uint32_t)p[at] << 16 | (left > 1 ? (uint32_t)p[at + 1] << 8 : 0) | (left > 2 ? p[at + 2] : 0U);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=',
                        left > 2 ? digits[v & 63] : '='};
        payload_put(o, four, sizeof four);
    }
    payload_put_u8(o, '"');
}

void payload_put_u64(struct payload_out *o, uint64_t v)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%llu", (unsigned long long)v);

    payload_put(o, text, (size_t)len);
}

void payload_put_i64(struct payload_out *o, int64_t v)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%lld", (long long)v);

    payload_put(o, text, (size_t)len);
}

/* The digits of %g are a JSON number already, but for a point where there is neither that nor an exponent. */
static void put_real(struct payload_out *o, const char *text)
{
    payload_put_text(o, text);
    if (strpbrk(text, ".e") == NULL)
        payload_put_text(o, ".0");
}

/* glibc and musl hand out one static "C" locale: nothing is allocated, and none has to be freed. */
static locale_t c_locale(void)
{
    return newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

void payload_put_float(struct payload_out *o, float v)
{
    char text[OUT_NUMBER_BYTES];
    locale_t was = uselocale(c_locale());

    /* a subnormal number has fewer bits, and may need fewer digits than those that always suffice */
    for (int digits = fabsf(v) < FLT_MIN ? 1 : OUT_FLOAT_DIGITS_MIN; digits <= OUT_FLOAT_DIGITS_MAX; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v)
            break;
    }
    (void)uselocale(was);
    put_real(o, text);
}

void payload_put_double(struct payload_out *o, double v)
{
    char text[OUT_NUMBER_BYTES];
    locale_t was = uselocale(c_locale());

    for (int digits = fabs(v) < DBL_MIN ? 1 : OUT_DOUBLE_DIGITS_MIN; digits <= OUT_DOUBLE_DIGITS_MAX; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    (void)uselocale(was);
    put_real(o, text);
}

void payload_put_number(struct payload_out *o, const payload_field *f, uint64_t bits)
{
    const char *name;

    switch (f->type) {
    case PROTOBUF_C_TYPE_FLOAT: payload_put_float(o, payload_float(bits)); return;
    case PROTOBUF_C_TYPE_DOUBLE: payload_put_double(o, payload_double(bits)); return;
    case PROTOBUF_C_TYPE_BOOL: payload_put_text(o, bits != 0 ? "true" : "false"); return;
    case PROTOBUF_C_TYPE_ENUM:
        name = payload_enum_name(f, (int32_t)payload_signed(f, bits));
        if (name != NULL) {
            payload_put_string(o, name, strlen(name));
            return;
        }
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: bits &= UINT32_MAX; break;
    default: break;
    }
    if (payload_is_signed(f))
        payload_put_i64(o, payload_signed(f, bits));
    else
        payload_put_u64(o, bits);
}

void payload_put_value(struct payload_out *o, const payload_field *f, const uint8_t *bytes,
                       const struct payload_item *item)
{
    if (f->type == PROTOBUF_C_TYPE_STRING)
        payload_put_string(o, bytes + item->data, item->len);
    else if (f->type == PROTOBUF_C_TYPE_BYTES)
        payload_put_base64(o, bytes + item->data, item->len);
    else
        payload_put_number(o, f, item->num);
}

dbe_err payload_finish(struct payload_out *o, const char *what, size_t *ret_len, struct dbe_diag *diag)
{
    *ret_len = o->len;
    if (o->len > o->cap)
        return dbe_fail(diag, DBE_E_TOO_LARGE, NULL, 0, "%s takes %zu bytes, there is room for %zu", what, o->len,
                        o->cap);
    return DBE_OK;
}
