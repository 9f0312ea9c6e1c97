/* SPDX-License-Identifier: Apache-2.0
 *
 * from_json.c - JSON text as a payload, by its descriptor. In: any text. Out: the bytes that protobuf-c would pack, or
 * the field and offset of what is wrong. Does not allocate: an object's names are found first, then its values are
 * written in the order of the fields' numbers.
 */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "payload/json.h"
#include "payload/wire.h"

enum { NAME_BYTES = 64, BRACKETS_MAX = 2 * DBE_PAYLOAD_DEPTH_MAX };

struct parse {
    struct json json;
    struct payload_out *out;
    const char *field; /* the field that is read, for words about an error */
    unsigned depth;
};

static dbe_err fail(const struct parse *p, dbe_err err, const char *what)
{
    return payload_json_fail(&p->json, err, p->field, what);
}

/* ---- lengths ------------ */

/* What follows belongs to a field with a length, which stands in one byte until close_length knows it. */
static size_t open_length(struct parse *p, const payload_field *f)
{
    payload_put_varint(p->out, (uint64_t)f->id << 3 | PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED);
    payload_put_u8(p->out, 0);
    return p->out->len;
}

static void close_length(struct parse *p, size_t start)
{
    struct payload_out *o = p->out;
    size_t len = o->len - start, more = 0;

    for (size_t rest = len >> 7; rest > 0; rest >>= 7)
        more++;
    if (o->len + more <= o->cap && more > 0)
        memmove(o->out + start + more, o->out + start, len);
    o->len = start - 1;
    payload_put_varint(o, len);
    o->len += len;
}

/* ---- values ------------ */

/* An integer between the two. The digits of JSON, nothing else. */
static dbe_err read_integer(struct parse *p, bool is_signed, unsigned bits, uint64_t *ret)
{
    char text[DBE_PAYLOAD_NUMBER_MAX + 1];
    uint64_t magnitude, most;
    bool negative;

    DBE_TRY(payload_json_number(&p->json, p->field, text));
    negative = text[0] == '-';
    if (strpbrk(text, ".eE") != NULL || (negative && !is_signed))
        return fail(p, DBE_E_RANGE, is_signed ? "takes an integer" : "takes an integer that is not negative");
    errno = 0;
    magnitude = strtoull(text + negative, NULL, 10);
    most = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
    if (is_signed)
        most = most / 2 + negative;
    if (errno != 0 || magnitude > most)
        return fail(p, DBE_E_RANGE, "does not fit its field");
    *ret = negative ? 0 - magnitude : magnitude;
    return DBE_OK;
}

static dbe_err read_real(struct parse *p, bool is_float, uint64_t *ret)
{
    char text[DBE_PAYLOAD_NUMBER_MAX + 1];
    locale_t was;
    double d;
    float f;
    uint32_t low;

    DBE_TRY(payload_json_number(&p->json, p->field, text));
    was = uselocale(newlocale(LC_ALL_MASK, "C", (locale_t)0)); /* the static one, see out.c */
    d = strtod(text, NULL);
    f = strtof(text, NULL);
    (void)uselocale(was);
    if (!isfinite(d) || (is_float && !isfinite(f)))
        return fail(p, DBE_E_RANGE, "does not fit its field");
    memcpy(&low, &f, sizeof low);
    *ret = low;
    if (!is_float)
        memcpy(ret, &d, sizeof *ret);
    return DBE_OK;
}

static dbe_err read_enum(struct parse *p, const payload_field *f, uint64_t *ret)
{
    char name[NAME_BYTES];
    const ProtobufCEnumValue *value;

    if (payload_json_peek(&p->json) != '"')
        return read_integer(p, true, 32, ret);
    DBE_TRY(payload_json_name(&p->json, name, sizeof name));
    value = protobuf_c_enum_descriptor_get_value_by_name(f->descriptor, name);
    if (value == NULL)
        return fail(p, DBE_E_RANGE, "has no such name");
    *ret = (uint64_t)(int64_t)value->value;
    return DBE_OK;
}

/* 64 bits as the wire has them before their encoding. */
static dbe_err read_bits(struct parse *p, const payload_field *f, uint64_t *ret)
{
    bool is_true = false;

    switch (f->type) {
    case PROTOBUF_C_TYPE_FLOAT: return read_real(p, true, ret);
    case PROTOBUF_C_TYPE_DOUBLE: return read_real(p, false, ret);
    case PROTOBUF_C_TYPE_ENUM: return read_enum(p, f, ret);
    case PROTOBUF_C_TYPE_BOOL:
        if (!payload_json_bool(&p->json, &is_true))
            return fail(p, DBE_E_RANGE, "takes true or false");
        *ret = is_true;
        return DBE_OK;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: return read_integer(p, false, 32, ret);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: return read_integer(p, false, 64, ret);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32: return read_integer(p, true, 32, ret);
    default: return read_integer(p, true, 64, ret);
    }
}

static void put_bits(struct payload_out *o, const payload_field *f, uint64_t bits)
{
    uint8_t bytes[8];
    size_t len = payload_wire_of(f) == PROTOBUF_C_WIRE_TYPE_32BIT ? 4 : 8;

    if (payload_wire_of(f) != PROTOBUF_C_WIRE_TYPE_VARINT) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)(bits >> (8 * i));
        payload_put(o, bytes, len);
        return;
    }
    if (f->type == PROTOBUF_C_TYPE_SINT32)
        bits = (bits << 1 ^ (0 - (bits >> 63))) & UINT32_MAX;
    else if (f->type == PROTOBUF_C_TYPE_SINT64)
        bits = bits << 1 ^ (0 - (bits >> 63));
    payload_put_varint(o, bits);
}

/* Is it what a field without presence has anyway? A negative zero is, for protobuf-c. */
static bool is_zero(const payload_field *f, uint64_t bits)
{
    if (f->type == PROTOBUF_C_TYPE_FLOAT)
        return payload_float(bits) == 0;
    if (f->type == PROTOBUF_C_TYPE_DOUBLE)
        return payload_double(bits) == 0;
    return bits == 0;
}

static dbe_err parse_message(struct parse *p, const payload_desc *desc);

/* One value with its tag; `keep_zero` where a zero says something. */
static dbe_err parse_value(struct parse *p, const payload_field *f, bool keep_zero)
{
    uint64_t bits = 0;
    size_t before = p->out->len, start;

    p->field = f->name;
    if (payload_wire_of(f) != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED) {
        DBE_TRY(read_bits(p, f, &bits));
        if (keep_zero || !is_zero(f, bits)) {
            payload_put_varint(p->out, (uint64_t)f->id << 3 | payload_wire_of(f));
            put_bits(p->out, f, bits);
        }
        return DBE_OK;
    }
    start = open_length(p, f);
    if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        DBE_TRY(parse_message(p, f->descriptor));
    else if (f->type == PROTOBUF_C_TYPE_STRING)
        DBE_TRY(payload_json_string(&p->json, f->name, p->out));
    else
        DBE_TRY(payload_json_base64(&p->json, f->name, p->out));
    if (p->out->len == start && !keep_zero && f->type != PROTOBUF_C_TYPE_MESSAGE)
        p->out->len = before; /* an empty text is as good as absent */
    else
        close_length(p, start);
    return DBE_OK;
}

/* After payload_json_more has said that there is no more. */
static dbe_err closed(const struct parse *p)
{
    return p->json.broken ? fail(p, DBE_E_MALFORMED, "a comma or a bracket is missing") : DBE_OK;
}

static dbe_err parse_array(struct parse *p, const payload_field *f)
{
    bool packed = (f->flags & PROTOBUF_C_FIELD_FLAG_PACKED) != 0;
    size_t before = p->out->len, start = 0;
    uint64_t bits;

    if (!payload_json_take(&p->json, '['))
        return fail(p, DBE_E_RANGE, "takes an array");
    if (packed)
        start = open_length(p, f);
    for (bool first = true; payload_json_more(&p->json, ']', &first);) {
        if (packed) {
            DBE_TRY(read_bits(p, f, &bits));
            put_bits(p->out, f, bits);
        } else {
            DBE_TRY(parse_value(p, f, true));
        }
        p->field = f->name;
    }
    if (packed && p->out->len == start)
        p->out->len = before; /* no elements, no field */
    else if (packed)
        close_length(p, start);
    return closed(p);
}

static dbe_err parse_map(struct parse *p, const payload_field *f)
{
    const payload_desc *entry = f->descriptor;
    size_t start, text, count = 0;

    if (!payload_json_take(&p->json, '{'))
        return fail(p, DBE_E_RANGE, "takes an object");
    for (bool first = true; payload_json_more(&p->json, '}', &first);) {
        if (count++ == DBE_PAYLOAD_MAP_MAX)
            return fail(p, DBE_E_TOO_LARGE, "has more entries than a map may have");
        start = open_length(p, f);
        text = open_length(p, &entry->fields[0]);
        DBE_TRY(payload_json_string(&p->json, f->name, p->out));
        if (p->out->len == text)
            p->out->len = start; /* an empty key is not written, as any empty text */
        else
            close_length(p, text);
        if (!payload_json_take(&p->json, ':'))
            return fail(p, DBE_E_MALFORMED, "has a name without a value");
        DBE_TRY(parse_value(p, &entry->fields[1], false));
        p->field = f->name;
        close_length(p, start);
    }
    return closed(p);
}

static dbe_err parse_field(struct parse *p, const payload_field *f)
{
    p->field = f->name;
    if (payload_json_null(&p->json))
        return DBE_OK;
    if (payload_is_map(f))
        return parse_map(p, f);
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return parse_array(p, f);
    return parse_value(p, f, !payload_is_implicit(f));
}

/* Where the value of each field stands; 0: nowhere, for an object's brace comes first. */
static dbe_err find_fields(struct parse *p, const payload_desc *desc, size_t values[PAYLOAD_FIELDS_MAX])
{
    char name[NAME_BYTES];

    memset(values, 0, PAYLOAD_FIELDS_MAX * sizeof values[0]);
    if (!payload_json_take(&p->json, '{'))
        return fail(p, DBE_E_RANGE, "takes an object");
    for (bool first = true; payload_json_more(&p->json, '}', &first);) {
        const payload_field *f;
        size_t at = p->json.at;
        DBE_TRY(payload_json_name(&p->json, name, sizeof name));
        f = protobuf_c_message_descriptor_get_field_by_name(desc, name);
        if (f == NULL)
            return dbe_fail(p->json.diag, DBE_E_RANGE, NULL, at, "%s has no field \"%s\"", desc->short_name, name);
        p->field = f->name;
        if (values[f - desc->fields] != 0)
            return fail(p, DBE_E_DUPLICATE, "stands twice");
        if (!payload_json_take(&p->json, ':'))
            return fail(p, DBE_E_MALFORMED, "has no value");
        payload_json_space(&p->json);
        values[f - desc->fields] = p->json.at;
        DBE_TRY(payload_json_skip(&p->json, BRACKETS_MAX));
    }
    return closed(p);
}

static dbe_err parse_message(struct parse *p, const payload_desc *desc)
{
    size_t values[PAYLOAD_FIELDS_MAX], end;

    if (++p->depth > DBE_PAYLOAD_DEPTH_MAX)
        return fail(p, DBE_E_TOO_LARGE, "is nested too deeply");
    DBE_TRY(find_fields(p, desc, values));
    end = p->json.at;
    for (unsigned i = 0; i < desc->n_fields; i++) {
        if (values[i] == 0)
            continue;
        p->json.at = values[i];
        DBE_TRY(parse_field(p, &desc->fields[i]));
    }
    p->json.at = end;
    p->depth--;
    return DBE_OK;
}

dbe_err payload_parse(struct payload_out *o, const payload_desc *desc, const char *json, size_t len,
                      struct dbe_diag *diag)
{
    struct parse p = {.json = {.text = (const uint8_t *)json, .len = len, .diag = diag}, .out = o};

    DBE_TRY(payload_json_begin(&p.json));
    DBE_TRY(parse_message(&p, desc));
    payload_json_space(&p.json);
    p.field = NULL;
    if (p.json.at != p.json.len)
        return fail(&p, DBE_E_MALFORMED, "something follows the object");
    if (o->len > DBE_PAYLOAD_MAX_BYTES)
        return fail(&p, DBE_E_TOO_LARGE, "the payload would exceed its maximum");
    if (o->len > o->cap)
        return DBE_OK; /* payload_finish says how much room it takes */
    return payload_form(desc, o->out, o->len, false, diag); /* a map's key that stands twice */
}
