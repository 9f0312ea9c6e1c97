/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_msg.c - dbe_msg_decode over any bytes. What decodes is built again and must decode to the same; the length that
 * framing reads from the header is the length that decoding accepts.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "dbe/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const struct dbe_msg *a, const struct dbe_msg *b)
{
    BASE_INVARIANT(a->type == b->type && a->flags == b->flags && a->correlation_id == b->correlation_id);
    BASE_INVARIANT(a->tlv_count == b->tlv_count && memcmp(a->by_type, b->by_type, sizeof a->by_type) == 0);
    for (size_t i = 0; i < a->tlv_count; i++) {
        const struct dbe_tlv *x = &a->tlvs[i], *y = &b->tlvs[i];
        BASE_INVARIANT(x->type == y->type && x->len == y->len && memcmp(x->value, y->value, x->len) == 0);
        BASE_INVARIANT(dbe_tlv_find(b, x->type) == y);
    }
    BASE_INVARIANT(a->payload_len == b->payload_len && memcmp(a->payload, b->payload, a->payload_len) == 0);
}

/* Every reader over every type; what they return is checked by the sanitizers alone. */
static void read_all(const struct dbe_msg *msg)
{
    struct dbe_hop hops[DBE_HOPS_MAX];
    char text[DBE_TENANT_MAX_BYTES + 1];
    uint8_t layers[DBE_LAYER_PATH_MAX], uuid[16];
    const uint8_t *bytes;
    size_t len;
    uint64_t u64;
    uint32_t u32;
    uint16_t u16;
    uint8_t u8;

    BASE_INVARIANT(dbe_msg_hops(msg, hops) <= DBE_HOPS_MAX);
    BASE_INVARIANT(dbe_msg_layers(msg, layers) <= DBE_LAYER_PATH_MAX);
    (void)(dbe_tlv_timestamp_ms(msg, &u64) == DBE_OK);
    for (uint16_t type = 0; type <= DBE_TLV_TYPE_LAST; type++) {
        (void)(dbe_tlv_u8(msg, type, &u8) == DBE_OK);
        (void)(dbe_tlv_u16(msg, type, &u16) == DBE_OK);
        (void)(dbe_tlv_u32(msg, type, &u32) == DBE_OK);
        (void)(dbe_tlv_uuid(msg, type, uuid) == DBE_OK);
        if (dbe_tlv_bytes(msg, type, &bytes, &len) == DBE_OK)
            BASE_INVARIANT(bytes >= msg->tlv_area && bytes + len <= msg->payload);
        (void)(dbe_tlv_u64(msg, type, &u64) == DBE_OK);
        if (dbe_tlv_text(msg, type, text, sizeof text) == DBE_OK)
            BASE_INVARIANT(strlen(text) < sizeof text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dbe_msg msg, again;
    struct dbe_diag diag = {0};
    struct dbe_builder b;
    uint8_t *copy;
    size_t len = 0, peeked = 0;
    dbe_err err = dbe_msg_decode(data, size, &msg, &diag);

    if (err != DBE_OK) {
        BASE_INVARIANT(diag.clause != NULL && diag.text[0] != '\0' && diag.offset <= size);
        return 0;
    }
    BASE_INVARIANT(dbe_msg_peek_len(data, &peeked) == DBE_OK && peeked == size);
    read_all(&msg);
    copy = malloc(size);
    if (copy == NULL)
        return 0;
    dbe_build_begin(&b, copy, size, msg.type, msg.flags, msg.correlation_id);
    dbe_build_copy_tlvs(&b, &msg, NULL);
    dbe_build_payload(&b, msg.payload, msg.payload_len);
    BASE_INVARIANT(dbe_build_end(&b, &len) == DBE_OK && len == size);
    BASE_INVARIANT(dbe_msg_decode(copy, len, &again, NULL) == DBE_OK);
    same(&msg, &again);
    free(copy);
    return 0;
}
