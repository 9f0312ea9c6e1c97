/* SPDX-License-Identifier: Apache-2.0
 *
 * cursor.c - reading big-endian bytes with one bounds check, and the plain loads and stores. In: any bytes. Never reads
 * past the end; a short read is remembered. Does not allocate.
 */
#include "base/base.h"

#include <string.h>

void base_put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

void base_put_u32(uint8_t *p, uint32_t v)
{
    base_put_u16(p, (uint16_t)(v >> 16));
    base_put_u16(p + 2, (uint16_t)v);
}

void base_put_u64(uint8_t *p, uint64_t v)
{
    base_put_u32(p, (uint32_t)(v >> 32));
    base_put_u32(p + 4, (uint32_t)v);
}

uint16_t base_get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

uint32_t base_get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

uint64_t base_get_u64(const uint8_t *p)
{
    return (uint64_t)base_get_u32(p) << 32 | base_get_u32(p + 4);
}

struct base_cur base_cur_of(const void *data, size_t len)
{
    static const uint8_t nothing[1]; /* so that no pointer below is NULL and arithmetic on it stays defined */
    const uint8_t *at = data != NULL ? data : nothing;

    return (struct base_cur){.at = at, .end = at + (data != NULL ? len : 0), .start = at, .bad = false};
}

const uint8_t *base_cur_bytes(struct base_cur *c, size_t len)
{
    const uint8_t *at = c->at;

    if (c->bad || len > (size_t)(c->end - at)) {
        c->bad = true;
        return NULL;
    }
    c->at += len;
    return at;
}

uint8_t base_cur_u8(struct base_cur *c)
{
    const uint8_t *p = base_cur_bytes(c, 1);

    return p != NULL ? p[0] : 0;
}

uint16_t base_cur_u16(struct base_cur *c)
{
    const uint8_t *p = base_cur_bytes(c, 2);

    return p != NULL ? base_get_u16(p) : 0;
}

uint32_t base_cur_u32(struct base_cur *c)
{
    const uint8_t *p = base_cur_bytes(c, 4);

    return p != NULL ? base_get_u32(p) : 0;
}

uint64_t base_cur_u48(struct base_cur *c)
{
    const uint8_t *p = base_cur_bytes(c, 6);

    return p != NULL ? (uint64_t)base_get_u16(p) << 32 | base_get_u32(p + 2) : 0;
}

uint64_t base_cur_u64(struct base_cur *c)
{
    const uint8_t *p = base_cur_bytes(c, 8);

    return p != NULL ? base_get_u64(p) : 0;
}

void base_cur_copy(struct base_cur *c, void *dst, size_t len)
{
    const uint8_t *p = base_cur_bytes(c, len);

    if (len == 0)
        return;
    if (p != NULL)
        memcpy(dst, p, len);
    else
        memset(dst, 0, len);
}

bool base_cur_name(struct base_cur *c, char *ret, size_t max)
{
    const size_t len = base_cur_u8(c);

    ret[0] = '\0';
    if (len > max)
        return false;
    base_cur_copy(c, ret, len);
    ret[len] = '\0';
    return base_cur_ok(c) && strlen(ret) == len;
}

size_t base_cur_left(const struct base_cur *c)
{
    return (size_t)(c->end - c->at);
}

size_t base_cur_offset(const struct base_cur *c)
{
    return (size_t)(c->at - c->start);
}

bool base_cur_ok(const struct base_cur *c)
{
    return !c->bad;
}

dbe_err base_cur_end(const struct base_cur *c)
{
    return !c->bad && c->at == c->end ? DBE_OK : DBE_E_MALFORMED;
}
