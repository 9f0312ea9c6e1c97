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

static inline void codec_put_u16(uint8_t *p, uint16_t v)
{
    v = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap16(v) : v;
    memcpy(p, &v, sizeof v);
}

static inline void codec_put_u32(uint8_t *p, uint32_t v)
{
    v = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap32(v) : v;
    memcpy(p, &v, sizeof v);
}

static inline void codec_put_u64(uint8_t *p, uint64_t v)
{
    v = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap64(v) : v;
    memcpy(p, &v, sizeof v);
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

/* What the registry says of a type, in the six bytes that every TLV of every message needs. */
struct codec_rule {
    uint16_t min_bytes, max_bytes;
    uint8_t known, kind; /* enum dbe_tlv_kind */
};
extern const struct codec_rule codec_rules[CODEC_INDEXED_TYPES];

static inline struct codec_rule codec_rule_of(uint16_t type)
{
    const struct dbe_tlv_row *row;

    if (type < CODEC_INDEXED_TYPES)
        return codec_rules[type];
    row = dbe_reg_tlv(type);
    return row == NULL ? (struct codec_rule){.max_bytes = UINT16_MAX}
                       : (struct codec_rule){row->min_bytes, row->max_bytes, 1, (uint8_t)row->kind};
}

/* One bit of 64 for a type, to know cheaply that a type was not seen before. */
static inline uint64_t codec_bit_of(uint16_t type)
{
    return UINT64_C(1) << ((type ^ type >> 6) & 63);
}

/* Does the value keep the rules of its type (spec 4.5 to 4.7)? An unknown type's value is opaque. On error *ret_clause
 * names the clause. Inline: it runs for every TLV of every message. */
static inline DBE_MUST_CHECK dbe_err codec_tlv_check(struct codec_rule rule, const uint8_t *value, size_t len,
                                                     const char **ret_clause)
{
    if (!rule.known)
        return DBE_OK;
    if (len < rule.min_bytes || len > rule.max_bytes) {
        *ret_clause = "spec 4.5";
        return DBE_E_RANGE;
    }
    if (rule.kind == DBE_TLV_KIND_TEXT && !base_utf8_valid(value, len)) {
        *ret_clause = "spec 4.6";
        return DBE_E_UTF8;
    }
    if (rule.kind == DBE_TLV_KIND_HOPS && len % DBE_HOP_BYTES != 0) {
        *ret_clause = "spec 4.7";
        return DBE_E_RANGE;
    }
    return DBE_OK;
}

#endif
