/* SPDX-License-Identifier: Apache-2.0
 *
 * wire.c - protobuf's wire format, field by field, with what the descriptors say of it. In: hostile bytes. Takes and
 * refuses what protobuf-c takes and refuses (and field number 0, which protobuf forbids). Does not judge values.
 */
#include "payload/wire.h"

#include <string.h>

enum { WIRE_TAG_MAX_BYTES = 5, WIRE_VARINT_MAX_BYTES = 10, WIRE_BITS = 7 };

/* A varint of at most `max` bytes at r->at. */
static dbe_err varint(struct payload_reader *r, size_t max, uint64_t *ret)
{
    uint64_t v = 0;

    for (size_t i = 0; i < max && i < r->end - r->at; i++) {
        uint8_t byte = r->bytes[r->at + i];
        v |= (uint64_t)(byte & 0x7FU) << (i * WIRE_BITS); /* the tenth byte's upper bits go, as in protobuf */
        if ((byte & 0x80U) == 0) {
            r->at += i + 1;
            *ret = v;
            return DBE_OK;
        }
    }
    return DBE_E_MALFORMED;
}

dbe_err payload_varint(struct payload_reader *r, uint64_t *ret)
{
    return varint(r, WIRE_VARINT_MAX_BYTES, ret);
}

/* `len` bytes, least significant first. */
static uint64_t little(const uint8_t *p, size_t len)
{
    uint64_t v = 0;

    for (size_t i = len; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

static dbe_err bad(const char **why, const char *text)
{
    if (why != NULL)
        *why = text;
    return DBE_E_MALFORMED;
}

/* The value of `item`, whose tag was read. */
static dbe_err next_value(struct payload_reader *r, struct payload_item *item, const char **why)
{
    uint64_t len = 0;

    item->data = r->at;
    switch (item->wire) {
    case PROTOBUF_C_WIRE_TYPE_VARINT:
        if (payload_varint(r, &item->num) != DBE_OK)
            return bad(why, "a number does not end");
        item->len = r->at - item->data;
        return DBE_OK;
    case PROTOBUF_C_WIRE_TYPE_32BIT: len = 4; break;
    case PROTOBUF_C_WIRE_TYPE_64BIT: len = 8; break;
    case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
        if (varint(r, WIRE_TAG_MAX_BYTES, &len) != DBE_OK)
            return bad(why, "a length does not end");
        item->data = r->at;
        break;
    default: return bad(why, "a wire type that protobuf does not have");
    }
    if (len > r->end - r->at)
        return bad(why, "a value ends beyond its message");
    item->len = (size_t)len;
    if (item->wire != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
        item->num = little(r->bytes + r->at, item->len);
    r->at += item->len;
    return DBE_OK;
}

dbe_err payload_next(struct payload_reader *r, struct payload_item *ret, const char **why)
{
    struct payload_reader at = *r;
    struct payload_item item = {.at = r->at};
    uint64_t tag = 0;

    if (varint(&at, WIRE_TAG_MAX_BYTES, &tag) != DBE_OK)
        return bad(why, "a tag does not end");
    item.wire = tag & 7U;
    item.id = (uint32_t)(tag >> 3); /* of 32 bits, as in protobuf-c; protobuf gives out 29 of them */
    if (item.id == 0)
        return bad(why, "field number 0");
    DBE_TRY(next_value(&at, &item, why));
    *r = at;
    *ret = item;
    return DBE_OK;
}

const payload_field *payload_find(const payload_desc *desc, uint32_t id, size_t *ret_index)
{
    size_t i = id - 1; /* numbers usually run without a gap */

    if (i >= desc->n_fields || desc->fields[i].id != id)
        for (i = 0; i < desc->n_fields && desc->fields[i].id != id; i++)
            continue;
    if (i == desc->n_fields)
        return NULL;
    *ret_index = i;
    return &desc->fields[i];
}

uint8_t payload_wire_of(const payload_field *f)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT: return PROTOBUF_C_WIRE_TYPE_32BIT;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return PROTOBUF_C_WIRE_TYPE_64BIT;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE: return PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
    default: return PROTOBUF_C_WIRE_TYPE_VARINT;
    }
}

bool payload_is_packed(const payload_field *f, const struct payload_item *item)
{
    return f->label == PROTOBUF_C_LABEL_REPEATED && item->wire == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED &&
           payload_wire_of(f) != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
}

bool payload_element(const payload_field *f, struct payload_reader *r, uint64_t *ret)
{
    uint8_t wire = payload_wire_of(f);
    size_t len = wire == PROTOBUF_C_WIRE_TYPE_32BIT ? 4 : 8;

    if (wire == PROTOBUF_C_WIRE_TYPE_VARINT)
        return payload_varint(r, ret) == DBE_OK;
    if (len > r->end - r->at)
        return false;
    *ret = little(r->bytes + r->at, len);
    r->at += len;
    return true;
}

bool payload_is_map(const payload_field *f)
{
    const payload_desc *entry = f->descriptor;
    size_t len;

    if (f->type != PROTOBUF_C_TYPE_MESSAGE || f->label != PROTOBUF_C_LABEL_REPEATED || entry->n_fields != 2)
        return false;
    len = strlen(entry->short_name); /* protoc names the message of a map's entries so */
    return len > 5 && strcmp(entry->short_name + len - 5, "Entry") == 0 && entry->fields[0].id == 1 &&
           entry->fields[1].id == 2 && strcmp(entry->fields[0].name, "key") == 0 &&
           strcmp(entry->fields[1].name, "value") == 0;
}

bool payload_is_implicit(const payload_field *f)
{
    return f->label == PROTOBUF_C_LABEL_NONE && (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0 &&
           f->type != PROTOBUF_C_TYPE_MESSAGE;
}

const char *payload_enum_name(const payload_field *f, int32_t value)
{
    const ProtobufCEnumDescriptor *desc = f->descriptor;

    for (unsigned i = 0; i < desc->n_values; i++)
        if (desc->values[i].value == value)
            return desc->values[i].name;
    return NULL;
}

bool payload_is_signed(const payload_field *f)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_ENUM: return true;
    default: return false;
    }
}

int64_t payload_signed(const payload_field *f, uint64_t bits)
{
    uint64_t unzigzag = (bits >> 1) ^ (0 - (bits & 1));

    switch (f->type) {
    case PROTOBUF_C_TYPE_SINT32:
        return (int32_t)(uint32_t)((bits & UINT32_MAX) >> 1 ^ (0 - (bits & 1)));
    case PROTOBUF_C_TYPE_SINT64: return (int64_t)unzigzag;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_ENUM: return (int32_t)(uint32_t)bits;
    default: return (int64_t)bits;
    }
}
