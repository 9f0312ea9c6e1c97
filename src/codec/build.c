/* SPDX-License-Identifier: Apache-2.0
 *
 * build.c - writing one message into the caller's memory (docs/spec/dbe-v1.md, sections 3 and 4). In: values from our
 * own code and TLVs of a decoded message. Out: bytes that dbe_msg_decode takes, or an error that sticks. Does not
 * encode payloads.
 */
#include "codec/wire.h"

enum { TIMESTAMP_FRACTION_BITS = 16 };
#define TIMESTAMP_MS_MAX ((UINT64_C(1) << 48) - 1)

void dbe_build_begin(struct dbe_builder *b, void *out, size_t cap, uint8_t type, uint16_t flags,
                     uint64_t correlation_id)
{
    *b = (struct dbe_builder){.out = out, .cap = cap};
    if (cap < DBE_HEADER_BYTES) {
        b->err = DBE_E_TOO_LARGE;
        return;
    }
    b->err = codec_header_write(b->out, type, flags, correlation_id);
    b->len = DBE_HEADER_BYTES;
}

/* Was `type` written already? */
static bool build_has(const struct dbe_builder *b, uint16_t type)
{
    size_t at = DBE_HEADER_BYTES;

    if (type < CODEC_INDEXED_TYPES)
        return (b->seen & (UINT32_C(1) << type)) != 0;
    while (at < b->len) {
        if (codec_u16(b->out + at) == type)
            return true;
        at += DBE_TLV_HEADER_BYTES + (size_t)codec_u16(b->out + at + 2);
    }
    return false;
}

/* Everything that forbids this TLV here. */
static dbe_err build_judge(const struct dbe_builder *b, uint16_t type, const uint8_t *value, size_t len)
{
    const char *clause;
    size_t room = BASE_MIN(b->cap, (size_t)DBE_HEADER_BYTES + DBE_TLV_AREA_MAX_BYTES) - b->len;

    if (b->payload_done)
        return DBE_E_STATE;
    if (type == 0)
        return DBE_E_RANGE;
    if (len > UINT16_MAX || len + DBE_TLV_HEADER_BYTES > room || b->tlv_count == DBE_TLVS_MAX)
        return DBE_E_TOO_LARGE;
    if (build_has(b, type))
        return DBE_E_DUPLICATE;
    return codec_tlv_check(dbe_reg_tlv(type), value, len, &clause);
}

void dbe_build_bytes(struct dbe_builder *b, uint16_t type, const void *data, size_t len)
{
    uint8_t *p;

    if (b->err == DBE_OK)
        b->err = build_judge(b, type, data, len);
    if (b->err != DBE_OK)
        return;
    p = b->out + b->len;
    base_put_u16(p, type);
    base_put_u16(p + 2, (uint16_t)len);
    if (len > 0)
        memcpy(p + DBE_TLV_HEADER_BYTES, data, len);
    b->len += DBE_TLV_HEADER_BYTES + len;
    b->tlv_count++;
    if (type < CODEC_INDEXED_TYPES)
        b->seen |= UINT32_C(1) << type;
}

void dbe_build_u8(struct dbe_builder *b, uint16_t type, uint8_t v)
{
    dbe_build_bytes(b, type, &v, sizeof v);
}

void dbe_build_u32(struct dbe_builder *b, uint16_t type, uint32_t v)
{
    uint8_t be[4];

    base_put_u32(be, v);
    dbe_build_bytes(b, type, be, sizeof be);
}

void dbe_build_u64(struct dbe_builder *b, uint16_t type, uint64_t v)
{
    uint8_t be[8];

    base_put_u64(be, v);
    dbe_build_bytes(b, type, be, sizeof be);
}

void dbe_build_text(struct dbe_builder *b, uint16_t type, const char *text)
{
    dbe_build_bytes(b, type, text, strlen(text));
}

void dbe_build_timestamp_ms(struct dbe_builder *b, uint64_t unix_ms)
{
    if (b->err == DBE_OK && unix_ms > TIMESTAMP_MS_MAX)
        b->err = DBE_E_RANGE;
    dbe_build_u64(b, DBE_TLV_TIMESTAMP, unix_ms << TIMESTAMP_FRACTION_BITS);
}

static bool listed(const uint16_t *list, uint16_t type)
{
    for (; list != NULL && *list != 0; list++)
        if (*list == type)
            return true;
    return false;
}

void dbe_build_copy_tlvs(struct dbe_builder *b, const struct dbe_msg *msg, const uint16_t *except)
{
    for (size_t i = 0; i < msg->tlv_count; i++)
        if (!listed(except, msg->tlvs[i].type))
            dbe_build_bytes(b, msg->tlvs[i].type, msg->tlvs[i].value, msg->tlvs[i].len);
}

/* The array TLV `type` of `msg` plus one more element of `len` bytes. */
static void build_appended(struct dbe_builder *b, const struct dbe_msg *msg, uint16_t type, const uint8_t *element,
                           size_t len)
{
    const struct dbe_tlv *old = msg != NULL ? dbe_tlv_find(msg, type) : NULL;
    uint8_t all[(DBE_HOPS_MAX + 1) * DBE_HOP_BYTES];
    size_t old_len = old != NULL ? old->len : 0;

    _Static_assert(DBE_LAYER_PATH_MAX <= DBE_HOPS_MAX * DBE_HOP_BYTES, "a layer path fits as well");
    if (old_len > 0)
        memcpy(all, old->value, old_len); /* the decoder has checked its maximum */
    memcpy(all + old_len, element, len);
    if (b->err == DBE_OK && old_len + len > dbe_reg_tlv(type)->max_bytes)
        b->err = DBE_E_TOO_LARGE; /* a message that goes round in circles ends here */
    dbe_build_bytes(b, type, all, old_len + len);
}

void dbe_build_hops(struct dbe_builder *b, const struct dbe_msg *msg, const struct dbe_hop *hop)
{
    uint8_t record[DBE_HOP_BYTES] = {hop->device};

    base_put_u32(record + 1, hop->elapsed_us);
    base_put_u16(record + 5, hop->suite);
    build_appended(b, msg, DBE_TLV_HOP_TRACE, record, sizeof record);
}

void dbe_build_layer_path(struct dbe_builder *b, const struct dbe_msg *msg, uint8_t layer)
{
    build_appended(b, msg, DBE_TLV_LAYER_PATH, &layer, 1);
}

void *dbe_build_payload_room(struct dbe_builder *b, size_t len)
{
    uint8_t *room;

    if (b->err == DBE_OK && b->payload_done)
        b->err = DBE_E_STATE;
    if (b->err == DBE_OK && (len > DBE_PAYLOAD_MAX_BYTES || len > b->cap - b->len))
        b->err = DBE_E_TOO_LARGE;
    if (b->err != DBE_OK)
        return NULL;
    room = b->out + b->len;
    base_put_u32(b->out + CODEC_AT_TLV_LEN, (uint32_t)(b->len - DBE_HEADER_BYTES));
    base_put_u64(b->out + CODEC_AT_PAYLOAD_LEN, len);
    b->len += len;
    b->payload_done = true;
    return room;
}

void dbe_build_payload(struct dbe_builder *b, const void *data, size_t len)
{
    void *room = dbe_build_payload_room(b, len);

    if (room != NULL && len > 0)
        memcpy(room, data, len);
}

dbe_err dbe_build_end(struct dbe_builder *b, size_t *ret_len)
{
    if (b->err == DBE_OK && !b->payload_done)
        (void)dbe_build_payload_room(b, 0);
    if (b->err != DBE_OK)
        return b->err;
    *ret_len = b->len;
    return DBE_OK;
}
