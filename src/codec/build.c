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

/* memcpy for values, most of which are short: without a call for those of 16 bytes and less. */
static inline void copy_value(uint8_t *to, const uint8_t *from, size_t len)
{
    uint64_t a, b;
    uint32_t c, d;

    if (len > 16) {
        memcpy(to, from, len);
    } else if (len >= 8) { /* the first eight and the last eight, which may overlap */
        memcpy(&a, from, 8);
        memcpy(&b, from + len - 8, 8);
        memcpy(to, &a, 8);
        memcpy(to + len - 8, &b, 8);
    } else if (len >= 4) {
        memcpy(&c, from, 4);
        memcpy(&d, from + len - 4, 4);
        memcpy(to, &c, 4);
        memcpy(to + len - 4, &d, 4);
    } else {
        for (size_t i = 0; i < len; i++)
            to[i] = from[i];
    }
}

/* Was `type`, which lies above the index, written already? */
static bool build_has(const struct dbe_builder *b, uint16_t type)
{
    size_t at = DBE_HEADER_BYTES;

    if ((b->others & codec_bit_of(type)) == 0)
        return false;
    while (at < b->len) {
        if (codec_u16(b->out + at) == type)
            return true;
        at += DBE_TLV_HEADER_BYTES + (size_t)codec_u16(b->out + at + 2);
    }
    return false;
}

/* Everything that forbids this TLV here. */
static inline dbe_err build_judge(const struct dbe_builder *b, uint16_t type, const uint8_t *value, size_t len)
{
    const char *clause;
    size_t room = BASE_MIN(b->cap, (size_t)DBE_HEADER_BYTES + DBE_TLV_AREA_MAX_BYTES) - b->len;

    if (b->payload_done)
        return DBE_E_STATE;
    if (type == 0)
        return DBE_E_RANGE;
    if (len > UINT16_MAX || len + DBE_TLV_HEADER_BYTES > room || b->tlv_count == DBE_TLVS_MAX)
        return DBE_E_TOO_LARGE;
    if (type < CODEC_INDEXED_TYPES ? (b->seen >> type & 1) != 0 : build_has(b, type))
        return DBE_E_DUPLICATE;
    return codec_tlv_check(codec_rule_of(type), value, len, &clause);
}

/* Inline, so that each setter's width is a constant in it. */
static inline void build_tlv(struct dbe_builder *b, uint16_t type, const void *value, size_t len)
{
    uint8_t *p;

    if (b->err != DBE_OK)
        return;
    b->err = build_judge(b, type, value, len);
    if (b->err != DBE_OK) {
        b->err_type = type;
        return;
    }
    p = b->out + b->len;
    codec_put_u16(p, type);
    codec_put_u16(p + 2, (uint16_t)len);
    copy_value(p + DBE_TLV_HEADER_BYTES, value, len);
    b->len += DBE_TLV_HEADER_BYTES + len;
    b->tlv_count++;
    if (type < CODEC_INDEXED_TYPES)
        b->seen |= UINT32_C(1) << type;
    else
        b->others |= codec_bit_of(type);
}

void dbe_build_bytes(struct dbe_builder *b, uint16_t type, const void *data, size_t len)
{
    build_tlv(b, type, data, len);
}

void dbe_build_u8(struct dbe_builder *b, uint16_t type, uint8_t v)
{
    build_tlv(b, type, &v, sizeof v);
}

void dbe_build_u16(struct dbe_builder *b, uint16_t type, uint16_t v)
{
    uint8_t be[2];

    codec_put_u16(be, v);
    build_tlv(b, type, be, sizeof be);
}

void dbe_build_u32(struct dbe_builder *b, uint16_t type, uint32_t v)
{
    uint8_t be[4];

    codec_put_u32(be, v);
    build_tlv(b, type, be, sizeof be);
}

void dbe_build_u64(struct dbe_builder *b, uint16_t type, uint64_t v)
{
    uint8_t be[8];

    codec_put_u64(be, v);
    build_tlv(b, type, be, sizeof be);
}

void dbe_build_uuid(struct dbe_builder *b, uint16_t type, const uint8_t uuid[16])
{
    build_tlv(b, type, uuid, 16);
}

void dbe_build_text(struct dbe_builder *b, uint16_t type, const char *text)
{
    dbe_build_bytes(b, type, text, strlen(text));
}

void dbe_build_timestamp_ms(struct dbe_builder *b, uint64_t unix_ms)
{
    if (b->err == DBE_OK && unix_ms > TIMESTAMP_MS_MAX) {
        b->err = DBE_E_RANGE;
        b->err_type = DBE_TLV_TIMESTAMP;
    }
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

    _Static_assert(DBE_LAYER_PATH_MAX <= DBE_HOPS_MAX * DBE_HOP_BYTES, "a layer path fits as well");
    if (old == NULL) {
        build_tlv(b, type, element, len);
        return;
    }
    memcpy(all, old->value, old->len); /* the decoder has checked its maximum */
    memcpy(all + old->len, element, len);
    if (b->err == DBE_OK && old->len + len > codec_rules[type].max_bytes) {
        b->err = DBE_E_TOO_LARGE; /* a message that goes round in circles ends here */
        b->err_type = type;
    }
    build_tlv(b, type, all, old->len + len);
}

void dbe_build_hops(struct dbe_builder *b, const struct dbe_msg *msg, const struct dbe_hop *hop)
{
    uint8_t record[DBE_HOP_BYTES] = {hop->device};

    codec_put_u32(record + 1, hop->elapsed_us);
    codec_put_u16(record + 5, hop->suite);
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
    codec_put_u32(b->out + CODEC_AT_TLV_LEN, (uint32_t)(b->len - DBE_HEADER_BYTES));
    codec_put_u64(b->out + CODEC_AT_PAYLOAD_LEN, len);
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
