/* SPDX-License-Identifier: Apache-2.0
 *
 * wire.h - what the files of this room share: protobuf's wire format read by descriptor, and writers that count what
 * does not fit. Private to this room; everybody else uses dbe/payload.h.
 */
#ifndef PAYLOAD_WIRE_H
#define PAYLOAD_WIRE_H

#include <protobuf-c/protobuf-c.h>

#include "base/base.h"
#include "dbe/payload.h"

/* Fields of one message; a test holds the schema to it. */
enum { PAYLOAD_FIELDS_MAX = 32 };

typedef ProtobufCMessageDescriptor payload_desc;
typedef ProtobufCFieldDescriptor payload_field;

/* Descriptor of the message type's payload (generated from schema/msg_types.def), NULL if there is no such type. */
const payload_desc *payload_desc_of(uint8_t msg_type);

/* ---- reading protobuf ------------ */

/* One field as it stands in the bytes. Offsets count from the start of the payload. */
struct payload_item {
    uint32_t id;
    uint8_t wire; /* ProtobufCWireType */
    size_t at;    /* of the tag */
    size_t data;  /* of the value; of its first byte where it has a length */
    size_t len;   /* bytes of the value */
    uint64_t num; /* a varint, or 4 or 8 bytes */
};

/* Fields in `bytes` from `at` to `end`. */
struct payload_reader {
    const uint8_t *bytes;
    size_t at, end;
};
/* The next field. E_MALFORMED: what stands at r->at is none; `why` (may be NULL) says what is wrong. */
dbe_err payload_next(struct payload_reader *r, struct payload_item *ret, const char **why) DBE_MUST_CHECK;
/* One varint inside the reader's bytes: elements of a packed field. */
dbe_err payload_varint(struct payload_reader *r, uint64_t *ret) DBE_MUST_CHECK;

/* Field of `desc` with this number, its place in desc->fields by *ret_index; NULL if there is none. */
const payload_field *payload_find(const payload_desc *desc, uint32_t id, size_t *ret_index);
/* Wire type of one element of a field. */
uint8_t payload_wire_of(const payload_field *f);
/* Does an item hold many elements, packed? Only repeated numbers can. */
bool payload_is_packed(const payload_field *f, const struct payload_item *item);
/* Next element of a packed item; `r` stands on it. False at the end. What payload_form took never fails. */
bool payload_element(const payload_field *f, struct payload_reader *r, uint64_t *ret);
/* A map is a repeated message with a key and a value. Keys are strings: a test holds the schema to it. */
bool payload_is_map(const payload_field *f);
/* Does a zero of this field mean "absent or zero", so that it need not be written? */
bool payload_is_implicit(const payload_field *f);
const char *payload_enum_name(const payload_field *f, int32_t value); /* NULL: a number without a name */

/* Values of the wire's 64 bits. */
static inline float payload_float(uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    float v;

    __builtin_memcpy(&v, &low, sizeof v);
    return v;
}

static inline double payload_double(uint64_t bits)
{
    double v;

    __builtin_memcpy(&v, &bits, sizeof v);
    return v;
}

/* The integer that a varint or fixed field of a signed type means. */
int64_t payload_signed(const payload_field *f, uint64_t bits);
bool payload_is_signed(const payload_field *f);

/* ---- form.c ------------ */

/* Form of a whole payload (spec 3.13, 3.14), and with `rules` the ranges of its values (spec 3.15). */
dbe_err payload_form(const payload_desc *desc, const void *payload, size_t len, bool rules,
                     struct dbe_diag *diag) DBE_MUST_CHECK;

/* What the schema says of one field's values. */
enum payload_rule_kind {
    PAYLOAD_RULE_CLOSED, /* min to max */
    PAYLOAD_RULE_OPEN,   /* above min, to max */
    PAYLOAD_RULE_COUNT,  /* at most max elements */
    PAYLOAD_RULE_BYTES,  /* exactly max bytes */
    PAYLOAD_RULE_TRUE,
};
struct payload_rule {
    const char *message, *field;
    enum payload_rule_kind kind;
    double min, max;
};
/* All rules; returns their count. */
size_t payload_rules(const struct payload_rule **ret);

/* ---- writing ------------ */

/* Caller's memory and how much was asked for; bytes beyond `cap` are counted and left out. */
struct payload_out {
    uint8_t *out;
    size_t cap, len;
};
void payload_put(struct payload_out *o, const void *data, size_t len);
void payload_put_u8(struct payload_out *o, uint8_t v);
void payload_put_text(struct payload_out *o, const char *text);
void payload_put_varint(struct payload_out *o, uint64_t v);
/* `len` bytes of UTF-8 as a JSON string with its quotes; what is no UTF-8 becomes U+FFFD. */
void payload_put_string(struct payload_out *o, const void *text, size_t len);
void payload_put_base64(struct payload_out *o, const void *data, size_t len);
void payload_put_u64(struct payload_out *o, uint64_t v);
void payload_put_i64(struct payload_out *o, int64_t v);
/* Shortest text that reads back as `v`, which is finite. */
void payload_put_float(struct payload_out *o, float v);
void payload_put_double(struct payload_out *o, double v);
/* One element of a field whose form was found good: a number, a text, bytes, an enum; no message. */
void payload_put_value(struct payload_out *o, const payload_field *f, const uint8_t *bytes,
                       const struct payload_item *item);
void payload_put_number(struct payload_out *o, const payload_field *f, uint64_t bits);

/* The common end of both directions: E_TOO_LARGE if it did not fit, *ret_len in either case. */
dbe_err payload_finish(struct payload_out *o, const char *what, size_t *ret_len, struct dbe_diag *diag) DBE_MUST_CHECK;

/* The message of `desc` in `payload` (whose form was found good) as JSON; for tests with schemas of their own. */
void payload_print(struct payload_out *o, const payload_desc *desc, const uint8_t *payload, size_t len);
/* JSON text as a message of `desc`. */
dbe_err payload_parse(struct payload_out *o, const payload_desc *desc, const char *json, size_t len,
                      struct dbe_diag *diag) DBE_MUST_CHECK;

#endif
