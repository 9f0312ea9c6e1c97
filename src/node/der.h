/* SPDX-License-Identifier: Apache-2.0
 *
 * der.h - the little of DER (Rec. ITU-T X.690, section 10) that revocation lists need, read and written. Private to
 * this folder and its tests.
 *
 * Reading goes over a base_cur: whatever is not DER (an indefinite or overlong length, an INTEGER with bytes to spare,
 * an element that ends behind its parent) sets `bad`, and everything read after that is empty. Nothing here allocates
 * but the writer's buffer, and nothing recurses.
 */
#ifndef NODE_DER_H
#define NODE_DER_H

#include "base/base.h"

enum {
    DER_BOOL = 0x01,
    DER_INT = 0x02,
    DER_BITS = 0x03,
    DER_OCTETS = 0x04,
    DER_OID = 0x06,
    DER_ENUM = 0x0A,
    DER_UTC_TIME = 0x17,
    DER_TIME = 0x18, /* GeneralizedTime */
    DER_SEQ = 0x30,
    DER_CTX_0 = 0xA0, /* [0], constructed */
    DER_TIME_MAX_BYTES = 17,
};

/* A span of bytes inside the input. */
struct der_span {
    const uint8_t *data;
    size_t         len;
};

/* The tag of the next element; 0 at the end or when `c` is bad. */
uint8_t der_peek(const struct base_cur *c);

/* Take the next element, which must have `tag`: a cursor over its content. A bad parent gives a bad, empty child. */
struct base_cur der_enter(struct base_cur *c, uint8_t tag);

/* The same, as a span. */
struct der_span der_content(struct base_cur *c, uint8_t tag);

/* The next element whole, header included, whatever its tag. */
struct der_span der_whole(struct base_cur *c);

/* An INTEGER that is not negative, in its shortest form: its magnitude without a leading zero byte (one zero byte for
 * 0). */
struct der_span der_magnitude(struct base_cur *c);

/* An INTEGER from 0 to 2^63 - 1. */
uint64_t der_uint(struct base_cur *c);

/* A Time as RFC 5280, section 4.1.2.5, wants it: UTCTime up to 2049, GeneralizedTime from 2050 on, whole seconds, Z.
 * Unix milliseconds. */
uint64_t der_time_ms(struct base_cur *c);

/* True if the spans hold the same bytes. */
bool der_same(struct der_span a, struct der_span b);

/* ---- writing ------------------------------------------------------------------------------------------------- */

/* One element. Errors stick in `out`, as everywhere with base_buf. */
void der_put(struct base_buf *out, uint8_t tag, const void *content, size_t len);
/* INTEGER from a magnitude of at least one byte. */
void der_put_magnitude(struct base_buf *out, const uint8_t *magnitude, size_t len);
void der_put_uint(struct base_buf *out, uint64_t value);
/* Milliseconds are cut off. False (and nothing written) beyond the year 9999. */
bool der_put_time_ms(struct base_buf *out, uint64_t unix_ms);

#endif
