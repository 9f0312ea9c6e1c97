/* SPDX-License-Identifier: Apache-2.0
 *
 * decode.c - a whole message into a view (docs/spec/dbe-v1.md, sections 3 and 4). In: hostile bytes. Out: a view whose
 * every TLV keeps its rules, or the first rule that is broken and where. Does not decode the payload.
 */
#include "codec/wire.h"

_Static_assert((int)DBE_TLV_TYPE_LAST < (int)CODEC_INDEXED_TYPES,
               "by_type holds every known type that is not critical");
_Static_assert(DBE_TLVS_MAX < UINT8_MAX, "by_type holds index + 1 in one byte");
_Static_assert(DBE_HOPS_MAX *DBE_HOP_BYTES == 224, "schema/tlvs.def gives HOP_TRACE this maximum");

/* What the walk over the TLV area collects; copied into the view once all of it was found good. */
struct walk {
    struct dbe_tlv tlvs[DBE_TLVS_MAX];
    uint8_t by_type[CODEC_INDEXED_TYPES];
    uint64_t others; /* codec_bit_of the types above the index */
    uint16_t count;
};

/* Types above the index are rare, and one bit says of most of them that they are new. */
static bool walk_has(const struct walk *w, uint16_t type)
{
    if (type < CODEC_INDEXED_TYPES)
        return w->by_type[type] != 0;
    if ((w->others & codec_bit_of(type)) == 0)
        return false;
    for (size_t i = 0; i < w->count; i++)
        if (w->tlvs[i].type == type)
            return true;
    return false;
}

/* One TLV whose bytes are all there; `at` is its offset in the message. */
static dbe_err walk_add(struct walk *w, uint16_t type, const uint8_t *value, uint16_t len, size_t at,
                        struct dbe_diag *diag)
{
    struct codec_rule rule = codec_rule_of(type);
    const char *clause = NULL;
    dbe_err err;

    if (w->count == DBE_TLVS_MAX)
        return dbe_fail(diag, DBE_E_TOO_LARGE, "spec 4.2", at, "more than %d TLVs", DBE_TLVS_MAX);
    if (type == 0)
        return dbe_fail(diag, DBE_E_MALFORMED, "spec 4.3", at, "TLV type 0");
    if (!rule.known && (type & CODEC_CRITICAL_BIT) != 0)
        return dbe_fail(diag, DBE_E_CRITICAL_TLV, "spec 4.8", at, "unknown critical TLV 0x%04x", type);
    if (walk_has(w, type))
        return dbe_fail(diag, DBE_E_DUPLICATE, "spec 4.4", at, "TLV 0x%04x occurs twice", type);
    err = codec_tlv_check(rule, value, len, &clause);
    if (err != DBE_OK)
        return dbe_fail(diag, err, clause, at, "value of %s, %u bytes, breaks its rule", dbe_reg_tlv(type)->name, len);
    w->tlvs[w->count++] = (struct dbe_tlv){.type = type, .len = len, .value = value};
    if (type < CODEC_INDEXED_TYPES)
        w->by_type[type] = (uint8_t)w->count;
    else
        w->others |= codec_bit_of(type);
    return DBE_OK;
}

static dbe_err walk_area(struct walk *w, const uint8_t *area, size_t len, struct dbe_diag *diag)
{
    size_t at = 0;

    while (at < len) {
        uint16_t type, value_len;
        if (len - at < DBE_TLV_HEADER_BYTES)
            return dbe_fail(diag, DBE_E_MALFORMED, "spec 4.1", DBE_HEADER_BYTES + at, "%zu bytes left for a TLV header",
                            len - at);
        type = codec_u16(area + at);
        value_len = codec_u16(area + at + 2);
        if (value_len > len - at - DBE_TLV_HEADER_BYTES)
            return dbe_fail(diag, DBE_E_MALFORMED, "spec 4.1", DBE_HEADER_BYTES + at,
                            "TLV 0x%04x of %u bytes ends beyond the TLV area", type, value_len);
        DBE_TRY(walk_add(w, type, area + at + DBE_TLV_HEADER_BYTES, value_len, DBE_HEADER_BYTES + at, diag));
        at += DBE_TLV_HEADER_BYTES + (size_t)value_len;
    }
    return DBE_OK;
}

dbe_err dbe_msg_decode(const void *bytes, size_t len, struct dbe_msg *ret, struct dbe_diag *diag)
{
    const uint8_t *p = bytes;
    struct codec_header h = {0};
    struct walk w; /* not zeroed as a whole: that would cost more than the walk */

    if (len < DBE_HEADER_BYTES)
        return dbe_fail(diag, DBE_E_MALFORMED, "spec 3.1", len, "%zu bytes are no header", len);
    DBE_TRY(codec_header_read(p, false, &h, diag));
    if (len != DBE_HEADER_BYTES + (size_t)h.tlv_len + h.payload_len)
        return dbe_fail(diag, DBE_E_MALFORMED, "spec 3.11", CODEC_AT_PAYLOAD_LEN,
                        "%zu bytes where the header announces %zu", len,
                        DBE_HEADER_BYTES + (size_t)h.tlv_len + h.payload_len);
    w.count = 0;
    w.others = 0;
    memset(w.by_type, 0, sizeof w.by_type);
    DBE_TRY(walk_area(&w, p + DBE_HEADER_BYTES, h.tlv_len, diag));

    ret->type = h.type;
    ret->flags = h.flags;
    ret->correlation_id = h.correlation_id;
    ret->bytes = p;
    ret->len = len;
    ret->tlv_area = p + DBE_HEADER_BYTES;
    ret->tlv_area_len = h.tlv_len;
    ret->payload = ret->tlv_area + h.tlv_len;
    ret->payload_len = h.payload_len;
    ret->tlv_count = w.count;
    memcpy(ret->tlvs, w.tlvs, w.count * sizeof w.tlvs[0]);
    memcpy(ret->by_type, w.by_type, sizeof ret->by_type);
    return DBE_OK;
}
