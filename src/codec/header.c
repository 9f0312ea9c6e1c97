/* SPDX-License-Identifier: Apache-2.0
 *
 * header.c - the fixed header, read and written (docs/spec/dbe-v1.md, section 3). In: 32 bytes from anywhere. Does not
 * look at TLVs or payload.
 */
#include "codec/wire.h"

#include <inttypes.h>

static dbe_err header_fail(struct dbe_diag *diag, dbe_err err, const char *clause, size_t at, const char *what,
                           uint64_t value)
{
    return dbe_fail(diag, err, clause, at, "%s 0x%" PRIx64, what, value);
}

dbe_err codec_header_read(const uint8_t *p, bool framing, struct codec_header *ret, struct dbe_diag *diag)
{
    struct codec_header h = {.type = p[CODEC_AT_TYPE],
                             .flags = codec_u16(p + CODEC_AT_FLAGS),
                             .correlation_id = codec_u64(p + CODEC_AT_CORRELATION),
                             .tlv_len = codec_u32(p + CODEC_AT_TLV_LEN)};
    uint64_t payload_len = codec_u64(p + CODEC_AT_PAYLOAD_LEN);
    uint32_t magic = codec_u32(p + CODEC_AT_MAGIC), reserved = codec_u32(p + CODEC_AT_RESERVED);
    const struct dbe_msg_row *row;

    if (magic != DBE_MAGIC)
        return header_fail(diag, DBE_E_MALFORMED, "spec 3.3", CODEC_AT_MAGIC, "magic is", magic);
    if (p[CODEC_AT_VERSION] != DBE_VERSION)
        return header_fail(diag, DBE_E_UNSUPPORTED, "spec 3.4", CODEC_AT_VERSION, "version is", p[CODEC_AT_VERSION]);
    if (reserved != 0)
        return header_fail(diag, DBE_E_MALFORMED, "spec 3.10", CODEC_AT_RESERVED, "reserved bytes are", reserved);
    if (payload_len > DBE_PAYLOAD_MAX_BYTES)
        return header_fail(diag, DBE_E_TOO_LARGE, "spec 3.8", CODEC_AT_PAYLOAD_LEN, "payload_len is", payload_len);
    if (h.tlv_len > DBE_TLV_AREA_MAX_BYTES)
        return header_fail(diag, DBE_E_TOO_LARGE, "spec 3.9", CODEC_AT_TLV_LEN, "tlv_len is", h.tlv_len);
    if (!framing) {
        row = dbe_reg_msg(h.type);
        if (row == NULL)
            return header_fail(diag, DBE_E_UNSUPPORTED, "spec 3.5", CODEC_AT_TYPE, "unknown msg_type", h.type);
        if ((h.flags & ~(unsigned)DBE_FLAG_ALL) != 0)
            return header_fail(diag, DBE_E_RANGE, "spec 3.6", CODEC_AT_FLAGS, "flags without meaning in", h.flags);
        h.type = row->type;
    }
    h.payload_len = (uint32_t)payload_len;
    *ret = h;
    return DBE_OK;
}

dbe_err codec_header_write(uint8_t *p, uint8_t type, uint16_t flags, uint64_t correlation_id)
{
    const struct dbe_msg_row *row = dbe_reg_msg(type);

    if (row == NULL || (flags & ~(unsigned)DBE_FLAG_ALL) != 0)
        return DBE_E_RANGE;
    memset(p, 0, DBE_HEADER_BYTES);
    codec_put_u32(p + CODEC_AT_MAGIC, DBE_MAGIC);
    p[CODEC_AT_VERSION] = DBE_VERSION;
    p[CODEC_AT_TYPE] = row->type; /* an alias is never written, spec 3.5 */
    codec_put_u16(p + CODEC_AT_FLAGS, flags);
    codec_put_u64(p + CODEC_AT_CORRELATION, correlation_id);
    return DBE_OK;
}

dbe_err dbe_msg_peek_len(const uint8_t header[DBE_HEADER_BYTES], size_t *ret_len)
{
    struct codec_header h = {0};

    DBE_TRY(codec_header_read(header, true, &h, NULL));
    *ret_len = DBE_HEADER_BYTES + (size_t)h.tlv_len + h.payload_len;
    return DBE_OK;
}

uint64_t dbe_correlation_of(const uint8_t request_id[16])
{
    return codec_u64(request_id);
}
