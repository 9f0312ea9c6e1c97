/* SPDX-License-Identifier: Apache-2.0
 *
 * tlv.c - the rules of one TLV and typed reading out of a decoded message (docs/spec/dbe-v1.md, section 4). In: a view
 * that dbe_msg_decode filled. Does not judge what a value means: that is policy (section 11).
 */
#include "codec/wire.h"

enum { TIMESTAMP_MS_BYTES = 6 };

/* A type above the index lands on 0, which is no type and never looked up. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
#define TLV(name, type, kind, min, max, doc)                                                                           \
    [(type) < CODEC_INDEXED_TYPES ? (type) : 0] = {(min), (max), 1, DBE_TLV_KIND_##kind},
const struct codec_rule codec_rules[CODEC_INDEXED_TYPES] = {
#include "schema/tlvs.def"
};
#undef TLV
#pragma GCC diagnostic pop

const struct dbe_tlv *dbe_tlv_find(const struct dbe_msg *msg, uint16_t type)
{
    if (type < CODEC_INDEXED_TYPES)
        return msg->by_type[type] != 0 ? &msg->tlvs[msg->by_type[type] - 1] : NULL;
    for (size_t i = 0; i < msg->tlv_count; i++)
        if (msg->tlvs[i].type == type)
            return &msg->tlvs[i];
    return NULL;
}

/* Value of `type` if it has exactly `len` bytes: an unknown type may have any width. */
static dbe_err fixed(const struct dbe_msg *msg, uint16_t type, size_t len, const uint8_t **ret)
{
    const struct dbe_tlv *tlv = dbe_tlv_find(msg, type);

    if (tlv == NULL)
        return DBE_E_NOT_FOUND;
    if (tlv->len != len)
        return DBE_E_RANGE;
    *ret = tlv->value;
    return DBE_OK;
}

dbe_err dbe_tlv_u8(const struct dbe_msg *msg, uint16_t type, uint8_t *ret)
{
    const uint8_t *p;

    DBE_TRY(fixed(msg, type, 1, &p));
    *ret = *p;
    return DBE_OK;
}

dbe_err dbe_tlv_u16(const struct dbe_msg *msg, uint16_t type, uint16_t *ret)
{
    const uint8_t *p;

    DBE_TRY(fixed(msg, type, 2, &p));
    *ret = codec_u16(p);
    return DBE_OK;
}

dbe_err dbe_tlv_u32(const struct dbe_msg *msg, uint16_t type, uint32_t *ret)
{
    const uint8_t *p;

    DBE_TRY(fixed(msg, type, 4, &p));
    *ret = codec_u32(p);
    return DBE_OK;
}

dbe_err dbe_tlv_u64(const struct dbe_msg *msg, uint16_t type, uint64_t *ret)
{
    const uint8_t *p;

    DBE_TRY(fixed(msg, type, 8, &p));
    *ret = codec_u64(p);
    return DBE_OK;
}

dbe_err dbe_tlv_uuid(const struct dbe_msg *msg, uint16_t type, uint8_t ret[16])
{
    const uint8_t *p;

    DBE_TRY(fixed(msg, type, 16, &p));
    memcpy(ret, p, 16);
    return DBE_OK;
}

dbe_err dbe_tlv_bytes(const struct dbe_msg *msg, uint16_t type, const uint8_t **ret, size_t *ret_len)
{
    const struct dbe_tlv *tlv = dbe_tlv_find(msg, type);

    if (tlv == NULL)
        return DBE_E_NOT_FOUND;
    *ret = tlv->value;
    *ret_len = tlv->len;
    return DBE_OK;
}

dbe_err dbe_tlv_text(const struct dbe_msg *msg, uint16_t type, char *ret, size_t cap)
{
    const struct dbe_tlv *tlv = dbe_tlv_find(msg, type);

    if (tlv == NULL)
        return DBE_E_NOT_FOUND;
    if ((size_t)tlv->len >= cap)
        return DBE_E_TOO_LARGE;
    if (memchr(tlv->value, 0, tlv->len) != NULL) /* only a type that is not TEXT can hold one */
        return DBE_E_UTF8;
    memcpy(ret, tlv->value, tlv->len);
    ret[tlv->len] = '\0';
    return DBE_OK;
}

dbe_err dbe_tlv_timestamp_ms(const struct dbe_msg *msg, uint64_t *ret_ms)
{
    const uint8_t *p;

    DBE_TRY(fixed(msg, DBE_TLV_TIMESTAMP, TIMESTAMP_MS_BYTES + 2, &p));
    *ret_ms = codec_u64(p) >> 16; /* the fraction goes */
    return DBE_OK;
}

size_t dbe_msg_layers(const struct dbe_msg *msg, uint8_t ret[DBE_LAYER_PATH_MAX])
{
    const struct dbe_tlv *tlv = dbe_tlv_find(msg, DBE_TLV_LAYER_PATH);

    if (tlv == NULL)
        return 0;
    memcpy(ret, tlv->value, tlv->len); /* the decoder has checked its maximum */
    return tlv->len;
}

size_t dbe_msg_hops(const struct dbe_msg *msg, struct dbe_hop ret[DBE_HOPS_MAX])
{
    const struct dbe_tlv *tlv = dbe_tlv_find(msg, DBE_TLV_HOP_TRACE);
    size_t count = tlv != NULL ? tlv->len / DBE_HOP_BYTES : 0;

    for (size_t i = 0; i < count; i++) {
        const uint8_t *p = tlv->value + i * DBE_HOP_BYTES;
        ret[i] = (struct dbe_hop){.device = p[0], .elapsed_us = codec_u32(p + 1), .suite = base_get_u16(p + 5)};
    }
    return count;
}
