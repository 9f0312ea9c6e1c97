/* SPDX-License-Identifier: Apache-2.0
 *
 * buf.c - writing bytes into a buffer that knows its maximum. Old memory is wiped when a buffer moves or is freed, for
 * any of them may have held a secret. Does not shrink.
 */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { BUF_FIRST_BYTES = 256, BUF_FMT_STACK_BYTES = 256 };

void base_buf_init(struct base_buf *b, size_t max)
{
    *b = (struct base_buf){.max = max};
}

void base_buf_init_fixed(struct base_buf *b, void *mem, size_t cap)
{
    *b = (struct base_buf){.data = mem, .cap = cap, .max = cap, .fixed = true};
}

void base_buf_free(struct base_buf *b)
{
    if (!b->fixed && b->data != NULL) {
        base_wipe(b->data, b->cap);
        base_free(b->data);
    }
    *b = (struct base_buf){.max = b->max};
}

void base_buf_clear(struct base_buf *b)
{
    b->len = 0;
    b->err = DBE_OK;
}

/* Make room for `need` bytes in all. The caller has compared with the maximum. */
static bool buf_reserve(struct base_buf *b, size_t need)
{
    size_t cap = b->cap > 0 ? b->cap : BUF_FIRST_BYTES;
    uint8_t *data;

    if (need <= b->cap)
        return true;
    if (b->fixed) {
        b->err = DBE_E_TOO_LARGE;
        return false;
    }
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    if (cap > b->max)
        cap = BASE_MAX(b->max, need);
    data = base_realloc(NULL, cap, 1);
    if (data == NULL) {
        b->err = DBE_E_NOMEM;
        return false;
    }
    if (b->data != NULL) {
        memcpy(data, b->data, b->len);
        base_wipe(b->data, b->cap);
        base_free(b->data);
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void *base_buf_grow(struct base_buf *b, size_t len)
{
    uint8_t *at;

    if (b->err != DBE_OK)
        return NULL;
    if (len > b->max - b->len) {
        b->err = DBE_E_TOO_LARGE;
        return NULL;
    }
    if (!buf_reserve(b, BASE_MAX(b->len + len, 1))) /* an empty growth still returns a pointer */
        return NULL;
    at = b->data + b->len;
    b->len += len;
    return at;
}

void base_buf_consume(struct base_buf *b, size_t len)
{
    if (len >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->data, b->data + len, b->len - len);
    b->len -= len;
}

void base_buf_bytes(struct base_buf *b, const void *data, size_t len)
{
    void *at;

    if (len == 0)
        return;
    at = base_buf_grow(b, len);
    if (at != NULL)
        memcpy(at, data, len);
}

void base_buf_u8(struct base_buf *b, uint8_t v)
{
    base_buf_bytes(b, &v, 1);
}

void base_buf_u16(struct base_buf *b, uint16_t v)
{
    uint8_t be[2];

    base_put_u16(be, v);
    base_buf_bytes(b, be, sizeof be);
}

void base_buf_u32(struct base_buf *b, uint32_t v)
{
    uint8_t be[4];

    base_put_u32(be, v);
    base_buf_bytes(b, be, sizeof be);
}

void base_buf_u48(struct base_buf *b, uint64_t v)
{
    uint8_t be[8];

    base_put_u64(be, v);
    base_buf_bytes(b, be + 2, 6);
}

void base_buf_u64(struct base_buf *b, uint64_t v)
{
    uint8_t be[8];

    base_put_u64(be, v);
    base_buf_bytes(b, be, sizeof be);
}

void base_buf_str(struct base_buf *b, const char *text)
{
    base_buf_bytes(b, text, strlen(text));
}

void base_buf_name(struct base_buf *b, const char *name)
{
    const size_t len = strlen(name);

    if (len > UINT8_MAX && b->err == DBE_OK)
        b->err = DBE_E_TOO_LARGE;
    base_buf_u8(b, (uint8_t)len);
    base_buf_bytes(b, name, len);
}

/* Text longer than the stack buffer takes one allocation of its own: vsnprintf needs room for a NUL that the
 * buffer's maximum may not have. */
__attribute__((format(printf, 3, 0))) static void buf_fmt_long(struct base_buf *b, size_t len, const char *fmt,
                                                               va_list args)
{
    char *text = base_alloc(len + 1, 1);

    if (text == NULL) {
        b->err = DBE_E_NOMEM;
        return;
    }
    (void)vsnprintf(text, len + 1, fmt, args);
    base_buf_bytes(b, text, len);
    base_wipe(text, len);
    base_free(text);
}

void base_buf_fmt(struct base_buf *b, const char *fmt, ...)
{
    char text[BUF_FMT_STACK_BYTES];
    va_list args;
    int len;

    if (b->err != DBE_OK)
        return;
    va_start(args, fmt);
    len = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (len < 0) {
        b->err = DBE_E_ARGUMENT;
    } else if ((size_t)len > b->max - b->len) {
        b->err = DBE_E_TOO_LARGE;
    } else if ((size_t)len < sizeof text) {
        base_buf_bytes(b, text, (size_t)len);
    } else {
        va_start(args, fmt);
        buf_fmt_long(b, (size_t)len, fmt, args);
        va_end(args);
    }
}

const char *base_buf_cstr(struct base_buf *b)
{
    if (b->err != DBE_OK || !buf_reserve(b, b->len + 1))
        return "";
    b->data[b->len] = '\0';
    return (const char *)b->data;
}
