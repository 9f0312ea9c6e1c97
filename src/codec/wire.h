/* SPDX-License-Identifier: Apache-2.0
 *
 * wire.h - what the files of the codec share: offsets of the header, loads that inline, the rules of one header and of
 * one TLV. Private to this room; everybody else uses dbe/msg.h.
 */
#ifndef CODEC_WIRE_H
#define CODEC_WIRE_H

#include <string.h>

#include "base/base.h"
#include "dbe/msg.h"

/* Offsets into the header, spec 3.2. */
enum {
    CODEC_AT_MAGIC = 0,
    CODEC_AT_VERSION = 4,
    CODEC_AT_TYPE = 5,
    CODEC_AT_FLAGS = 6,
    CODEC_AT_CORRELATION = 8,
    CODEC_AT_PAYLOAD_LEN = 16,
    CODEC_AT_TLV_LEN = 24,
    CODEC_AT_RESERVED = 28,
};

/* Types below this are looked up by index; DBE_TLV_TYPE_LAST stays below it. */
enum { CODEC_INDEXED_TYPES = 32 };
#define CODEC_CRITICAL_BIT 0x8000U

static inline uint16_t codec_u16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof v);
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap16(v) : v;
}

static inline uint32_t codec_u32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap32(v) : v;
}

static inline uint64_t codec_u64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap64(v) : v;
}

/* A header whose own fields keep the rules of spec section 3. */
struct codec_header {
    uint8_t type; /* alias resolved */
    uint16_t flags;
    uint64_t correlation_id;
    uint32_t tlv_len, payload_len;
};

/* Read 32 bytes; `framing` leaves type and flags unchecked, which only the receiver of the whole message judges. */
dbe_err codec_header_read(const uint8_t *p, bool framing, struct codec_header *ret,
                          struct dbe_diag *diag) DBE_MUST_CHECK;
/* Write a header with both lengths zero. E_RANGE: the type has no row, or a flag has no meaning. */
dbe_err codec_header_write(uint8_t *p, uint8_t type, uint16_t flags, uint64_t correlation_id) DBE_MUST_CHECK;

/* Does the value keep the rules of its type (spec 4.5 to 4.7)? `row` NULL: an unknown type, whose value is opaque.
 * On error *ret_clause names the clause. Inline: it runs for every TLV of every message. */
static inline DBE_MUST_CHECK dbe_err codec_tlv_check(const struct dbe_tlv_row *row, const uint8_t *value, size_t len,
                                                     const char **ret_clause)
{
    if (row == NULL)
        return DBE_OK;
    if (len < row->min_bytes || len > row->max_bytes) {
        *ret_clause = "spec 4.5";
        return DBE_E_RANGE;
    }
    if (row->kind == DBE_TLV_KIND_TEXT && !base_utf8_valid(value, len)) {
        *ret_clause = "spec 4.6";
        return DBE_E_UTF8;
    }
    if (row->kind == DBE_TLV_KIND_HOPS && len % DBE_HOP_BYTES != 0) {
        *ret_clause = "spec 4.7";
        return DBE_E_RANGE;
    }
    return DBE_OK;
}

#endif
