/* SPDX-License-Identifier: Apache-2.0
 *
 * msg.h - DBE messages: decode into a view, read TLVs by type, build.
 *
 * A message is a 32-byte header, a TLV area and a payload (docs/spec/dbe-v1.md, sections 3 and 4; layout of
 * text 000 section 2). Decoding copies nothing: a view points into the caller's bytes and is valid as long as
 * they are. No function here allocates. Thread rule: pure functions; a view or builder belongs to one thread.
 */
#ifndef DBE_MSG_H
#define DBE_MSG_H

#include <stdbool.h>
#include <stdint.h>

#include "dbe/err.h"
#include "dbe/limits.h"

DBE_BEGIN_DECLS

/* One TLV inside a decoded message. `value` points into the message. */
struct dbe_tlv {
    uint16_t       type;
    uint16_t       len;
    const uint8_t *value;
};

/* A decoded message: header fields and where everything lies. */
struct dbe_msg {
    uint8_t        type;           /* enum dbe_msg_type, aliases already resolved */
    uint16_t       flags;          /* enum dbe_flag                               */
    uint64_t       correlation_id; /* pairs answers with requests                 */
    const uint8_t *bytes;          /* the whole message, `len` bytes              */
    size_t         len;
    const uint8_t *payload;
    size_t         payload_len;
    const uint8_t *tlv_area;
    uint32_t       tlv_area_len;
    uint16_t       tlv_count;
    struct dbe_tlv tlvs[DBE_TLVS_MAX]; /* in wire order; validated: width, UTF-8, no duplicates */
    uint8_t        by_type[32];        /* known types below 32: index + 1 into tlvs, 0 absent    */
};

/* Decode exactly `len` bytes, from anywhere: nothing in them is trusted. `ret` points into `bytes`, which have to stay
 * and stay the same while it is used. On error `ret` is untouched and diag (may be NULL) names clause and byte offset.
 * E_MALFORMED, E_UNSUPPORTED (version, type), E_RANGE, E_UTF8, E_DUPLICATE, E_CRITICAL_TLV, E_TOO_LARGE. */
dbe_err dbe_msg_decode(const void *bytes, size_t len, struct dbe_msg *ret, struct dbe_diag *diag) DBE_MUST_CHECK;

/* Length of the message that starts with these 32 bytes: header + tlv_len + payload_len. E_MALFORMED, E_UNSUPPORTED
 * (version) and E_TOO_LARGE where no message can start so; type and flags are left to dbe_msg_decode.
 *
 * This is how a record is split into its messages (spec 5.11): at offset `at`, 32 bytes or more must be left, and the
 * length that this answers must not exceed what is left; then dbe_msg_decode takes exactly that many bytes, and the
 * next message begins after them. Anything else ends the reading of the record. */
dbe_err dbe_msg_peek_len(const uint8_t header[DBE_HEADER_BYTES], size_t *ret_len) DBE_MUST_CHECK;

/* The TLV of `type`, NULL if absent. */
const struct dbe_tlv *dbe_tlv_find(const struct dbe_msg *msg, uint16_t type);

/* Typed access. Absent: E_NOT_FOUND, `ret` untouched. Widths were checked when the message was decoded. */
dbe_err dbe_tlv_u8(const struct dbe_msg *msg, uint16_t type, uint8_t *ret) DBE_MUST_CHECK;
dbe_err dbe_tlv_u16(const struct dbe_msg *msg, uint16_t type, uint16_t *ret) DBE_MUST_CHECK;
dbe_err dbe_tlv_u32(const struct dbe_msg *msg, uint16_t type, uint32_t *ret) DBE_MUST_CHECK;
dbe_err dbe_tlv_u64(const struct dbe_msg *msg, uint16_t type, uint64_t *ret) DBE_MUST_CHECK;
dbe_err dbe_tlv_uuid(const struct dbe_msg *msg, uint16_t type, uint8_t ret[16]) DBE_MUST_CHECK;
/* The value as it stands in the message, whatever its kind; valid as long as the message's bytes are. */
dbe_err dbe_tlv_bytes(const struct dbe_msg *msg, uint16_t type, const uint8_t **ret, size_t *ret_len) DBE_MUST_CHECK;
/* Copies NUL-terminated text; E_TOO_LARGE if it does not fit into `cap` with its NUL. */
dbe_err dbe_tlv_text(const struct dbe_msg *msg, uint16_t type, char *ret, size_t cap) DBE_MUST_CHECK;
/* Unix milliseconds of a TIMESTAMP TLV. */
dbe_err dbe_tlv_timestamp_ms(const struct dbe_msg *msg, uint64_t *ret_ms) DBE_MUST_CHECK;

/* Layers that the message has passed, oldest first; returns how many were written (0 when absent). */
size_t dbe_msg_layers(const struct dbe_msg *msg, uint8_t ret[DBE_LAYER_PATH_MAX]);

/* One record of HOP_TRACE: what a hop spent between receiving the request and sending the answer, and the suite of the
 * channel that it sent the answer by. */
struct dbe_hop {
    uint8_t  device;
    uint32_t elapsed_us;
    uint16_t suite; /* dbe_suite_name of dbe/node.h names it */
};
/* Hops of the message, oldest first; returns how many were written (0 when absent). */
size_t dbe_msg_hops(const struct dbe_msg *msg, struct dbe_hop ret[DBE_HOPS_MAX]);

/* ---- building ------------------------------------------------------------------------------------------ */

/* Writes one message into caller's memory: dbe_build_begin, TLVs in any order, a payload, dbe_build_end. Nothing is
 * allocated, and nothing beyond `cap` is touched. Errors stick: the first one is kept, later calls do nothing, and it
 * is enough to ask once, at dbe_build_end. What was built up to an error is of no use. A builder needs no release; it
 * may be begun again. Its fields are read-only for callers. */
struct dbe_builder {
    uint8_t *out;
    size_t   cap, len;
    uint16_t tlv_count;
    bool     payload_done;
    dbe_err  err;
    uint16_t err_type; /* the TLV that `err` is about; 0: the header or the payload */
    uint32_t seen;     /* types below 32 already written: a type occurs once */
    uint64_t others;   /* a hint of which types above that were */
};
/* Begin a message of `type` in the `cap` bytes at `out`, which stay the caller's. An alias is written as the type that
 * it stands for (spec 3.5). For a request, `correlation_id` is dbe_correlation_of its REQUEST_ID (spec 3.7); an answer
 * repeats that of its request. E_TOO_LARGE: not even a header fits. E_RANGE: no such type, or a flag that has no
 * meaning. */
void dbe_build_begin(struct dbe_builder *b, void *out, size_t cap, uint8_t type, uint16_t flags,
                     uint64_t correlation_id);
/* Add one TLV. What the decoder would refuse is refused here: E_RANGE (type 0, a length that the type does not have, a
 * date after the year 10889), E_UTF8 (dbe_build_text and any TEXT), E_DUPLICATE (the type stands there already),
 * E_TOO_LARGE (room, 64 TLVs, 65536 bytes of TLVs), E_STATE (after the payload). Types that the registry does not have
 * take any value. Values are copied at once. */
void dbe_build_u8(struct dbe_builder *b, uint16_t type, uint8_t v);
void dbe_build_u16(struct dbe_builder *b, uint16_t type, uint16_t v);
void dbe_build_u32(struct dbe_builder *b, uint16_t type, uint32_t v);
void dbe_build_u64(struct dbe_builder *b, uint16_t type, uint64_t v);
void dbe_build_uuid(struct dbe_builder *b, uint16_t type, const uint8_t uuid[16]);
void dbe_build_text(struct dbe_builder *b, uint16_t type, const char *text);
void dbe_build_bytes(struct dbe_builder *b, uint16_t type, const void *data, size_t len);
void dbe_build_timestamp_ms(struct dbe_builder *b, uint64_t unix_ms);
/* Copy every TLV of `msg` except the listed types (0-terminated; NULL: copy all). Unknown non-critical TLVs are
 * kept, as spec section 4 demands of forwarders. */
void dbe_build_copy_tlvs(struct dbe_builder *b, const struct dbe_msg *msg, const uint16_t *except);
/* HOP_TRACE of `msg` (may be NULL) plus one hop. E_TOO_LARGE: it is full (spec 12.9). */
void dbe_build_hops(struct dbe_builder *b, const struct dbe_msg *msg, const struct dbe_hop *hop);
/* LAYER_PATH of `msg` (may be NULL) plus one layer. E_TOO_LARGE: it is full, which ends a circle (spec 12.10). */
void dbe_build_layer_path(struct dbe_builder *b, const struct dbe_msg *msg, uint8_t layer);
/* The payload, of at most 16 MiB; after it no TLV can be added, and there is only one (E_STATE). A message without one
 * has an empty payload. */
void dbe_build_payload(struct dbe_builder *b, const void *data, size_t len);
/* Room for a payload of `len` bytes that the caller then writes (protobuf packs straight into it); NULL on error. */
void *dbe_build_payload_room(struct dbe_builder *b, size_t len);
/* Finish: fills in tlv_len and payload_len. E_TOO_LARGE (cap or a limit), E_DUPLICATE, E_RANGE, E_UTF8. */
dbe_err dbe_build_end(struct dbe_builder *b, size_t *ret_len) DBE_MUST_CHECK;

/* First 8 bytes of a REQUEST_ID as the correlation id (spec section 3). */
uint64_t dbe_correlation_of(const uint8_t request_id[16]);

DBE_END_DECLS

#endif
