/* SPDX-License-Identifier: Apache-2.0
 *
 * payload.h - payloads as JSON and back, for every message type, and what their schema asks of them.
 *
 * A payload is one protobuf message (docs/spec/dbe-v1.md, clause 3.13; schema/proto/dsmil.proto); these functions read
 * its descriptors, so a type that is added to the schema needs no code here. Nothing here allocates. Thread rule: pure
 * functions, callable from any thread at once; what is passed in belongs to the caller.
 *
 * The JSON form (RFC 8259, UTF-8):
 *   - field names as in the schema; a field that may be absent (a oneof of one there) stands under its own name
 *   - numbers and booleans are numbers and booleans; 64-bit integers are written with all their digits, a float with as
 *     few digits as bring the same value back, and always with a point or an exponent
 *   - bytes are base64 (RFC 4648 section 4, with padding); enums are their names, or their numbers where they have none
 *   - repeated fields are arrays, maps are objects, nested messages are objects
 *   - what is absent is left out: a oneof of one, a nested message, an empty text, empty bytes. Numbers, booleans,
 *     arrays and maps always stand there, for a receiver cannot tell zero from absent.
 * Reading takes fields in any order, and null for "absent".
 */
#ifndef DBE_PAYLOAD_H
#define DBE_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "dbe/err.h"
#include "dbe/limits.h"

DBE_BEGIN_DECLS

enum {
    DBE_PAYLOAD_DEPTH_MAX = 16,    /* messages within messages, and brackets within brackets of JSON */
    DBE_PAYLOAD_MAP_MAX = 1024,    /* entries of the maps of one message */
    DBE_PAYLOAD_KEY_MAX = 256,     /* bytes of a map's key */
    DBE_PAYLOAD_ELEMENTS_MAX = 65536, /* of repeated fields, in the whole payload: memory that two bytes can ask for */
    DBE_PAYLOAD_NUMBER_MAX = 128,  /* characters of one number in JSON */
    DBE_PAYLOAD_JSON_MAX_BYTES = 8 * DBE_PAYLOAD_MAX_BYTES, /* every byte of a text escaped takes six */
};

/* The payload of a message of `msg_type` as JSON, without white space, into `out`.
 *
 * *ret_len is the length of the text; a NUL follows it where `cap` has room for one. E_TOO_LARGE when `cap` is less
 * than that length: *ret_len is then what is needed, and what `out` (which may be NULL when `cap` is 0) holds is of no
 * use. On every other error *ret_len is untouched.
 *
 * E_UNSUPPORTED: no such message type. E_MALFORMED: no valid protobuf encoding of the type's message (spec 3.13).
 * E_UTF8, E_DUPLICATE, E_RANGE (a float that is no number), E_TOO_LARGE with *ret_len untouched (depth, elements,
 * entries of maps): the form that clause 3.14 asks for is broken. `diag` (may be NULL) names the field by its path and
 * the offset in the payload. */
dbe_err dbe_payload_to_json(uint8_t msg_type, const void *payload, size_t len, char *out, size_t cap, size_t *ret_len,
                            struct dbe_diag *diag) DBE_MUST_CHECK;

/* JSON text of `len` bytes (no NUL needed) as the payload of a message of `msg_type`, into `out`: fields in the order
 * of their numbers, zeros left out, byte for byte what protobuf-c packs. *ret_len and E_TOO_LARGE as above.
 *
 * E_UNSUPPORTED: no such message type. E_MALFORMED: not JSON. E_RANGE: a field that the message does not have, a value
 * that is not of the field's kind or does not fit it. E_DUPLICATE: a name twice in one object. E_UTF8: text that is
 * not UTF-8, half a surrogate pair, or U+0000. E_TOO_LARGE with *ret_len untouched: depth, entries of a map, or the
 * text itself. `diag` (may be NULL) names the field and the offset in the text.
 *
 * It checks form alone; dbe_payload_check tells whether the values are those that the schema permits. */
dbe_err dbe_payload_from_json(uint8_t msg_type, const char *json, size_t len, void *out, size_t cap, size_t *ret_len,
                              struct dbe_diag *diag) DBE_MUST_CHECK;

/* Ask this before a payload from a peer is unpacked: protobuf-c takes tens of bytes for each element, and a payload of
 * nothing but elements would cost a hundred times its size.
 *
 * Does the payload have its form (as dbe_payload_to_json demands) and its values the ranges that the schema states
 * (clause 3.15)? Errors as dbe_payload_to_json, and E_RANGE for a value outside its range. */
dbe_err dbe_payload_check(uint8_t msg_type, const void *payload, size_t len, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Messages, one after the other as a DATA record holds them, or whole records, explained for people: every field with
 * its offset, its bytes and what it means by the registries; for what is broken the error, clause and offset, and what
 * was understood up to there. This is what `dsmil dump` prints. Takes any bytes; the text is bounded, and its strings
 * are escaped, so that nothing from outside reaches a terminal raw. It shows what it is given: a message explained is a
 * message disclosed.
 *
 * *ret_len and E_TOO_LARGE as dbe_payload_to_json; there is no other error. */
dbe_err dbe_msg_explain(const void *bytes, size_t len, char *out, size_t cap, size_t *ret_len) DBE_MUST_CHECK;

DBE_END_DECLS

#endif
