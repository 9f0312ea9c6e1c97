/* SPDX-License-Identifier: Apache-2.0
 *
 * mutate.c - messages, broken a little at random, and what the C decoder says of each, for a second decoder to compare.
 *
 * In:  COUNT SEED; the same seed gives the same messages
 * Out: on standard output, for each message: length u32, bytes, error u16, offset u32, length u8 of the clause, clause;
 *      of a good one then type u8, flags u16, correlation u64, payload_len u32, TLVs u16, and for each TLV type u16,
 *      length u16, offset of the value u32. All in network byte order.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "dbe/msg.h"

enum { ROOM = 70 * 1024, SEEDS = 6, TLVS = 80, AREA_AT = DBE_HEADER_BYTES, EDITS_MAX = 4 };

struct message {
    uint8_t bytes[ROOM];
    size_t len;
    size_t tlv[TLVS], tlvs; /* offsets of TLVs that are whole */
};

static struct message seeds[SEEDS], m;
static uint64_t state;

/* splitmix64: small, and good enough to choose bytes by. */
static uint64_t draw(void)
{
    uint64_t z = state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static size_t below(size_t n)
{
    return n > 0 ? (size_t)(draw() % n) : 0;
}

/* ---- seeds ------------ */

static void seed_end(struct dbe_builder *b, size_t at, const char *payload)
{
    dbe_build_payload(b, payload, strlen(payload));
    if (dbe_build_end(b, &seeds[at].len) != DBE_OK)
        abort();
}

static void make_seeds(void)
{
    static const uint8_t id[16] = {0x5f, 0x0c, 0x1b, 0x1e, 0x27, 0x33, 0x4d, 0x0a, 0x9b, 0x62, 0x0e, 0x6f, 1, 2, 3, 4};
    struct dbe_builder b;

    dbe_build_begin(&b, seeds[0].bytes, ROOM, DBE_MSG_L7_CHAT_REQ, DBE_FLAG_REPLAY_PROTECTED, dbe_correlation_of(id));
    dbe_build_uuid(&b, DBE_TLV_REQUEST_ID, id);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, "acme");
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, 1);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, 2);
    dbe_build_layer_path(&b, NULL, 7);
    dbe_build_timestamp_ms(&b, 1700000000000);
    dbe_build_u32(&b, DBE_TLV_TIMEOUT_MS, 60000);
    seed_end(&b, 0, "payload");
    dbe_build_begin(&b, seeds[1].bytes, ROOM, DBE_MSG_ERROR, 0, 1);
    seed_end(&b, 1, "");
    dbe_build_begin(&b, seeds[2].bytes, ROOM, DBE_MSG_L7_CHAT_RESP, DBE_FLAG_STREAMING, 2);
    dbe_build_hops(&b, NULL, &(struct dbe_hop){47, 1000, 1});
    dbe_build_text(&b, DBE_TLV_L7_PROFILE, "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80");
    dbe_build_bytes(&b, 0x7001, "keep", 4);
    dbe_build_bytes(&b, 0x0020, "", 0);
    seed_end(&b, 2, "x");
    dbe_build_begin(&b, seeds[3].bytes, ROOM, DBE_MSG_SOC_EVENT, 0, 3);
    for (uint16_t i = 0; i < DBE_TLVS_MAX; i++)
        dbe_build_bytes(&b, (uint16_t)(0x1000 + i), "abc", i % 3);
    seed_end(&b, 3, "");
    dbe_build_begin(&b, seeds[4].bytes, ROOM, DBE_MSG_L9_COA, DBE_FLAG_ALL, 4);
    dbe_build_bytes(&b, DBE_TLV_TRACE_CONTEXT, seeds[0].bytes, 26);
    dbe_build_bytes(&b, DBE_TLV_L7_CLAIM_TOKEN, seeds[0].bytes, 100);
    dbe_build_u64(&b, DBE_TLV_SEQUENCE_NUM, 7);
    dbe_build_u8(&b, DBE_TLV_ADVISORY_FLAG, 1);
    seed_end(&b, 4, "coa");
    dbe_build_begin(&b, seeds[5].bytes, ROOM, DBE_MSG_L3_EVENT, 0, 5);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, "0123456789012345678901234567890123456789012345678901234567890123");
    dbe_build_bytes(&b, DBE_TLV_TWO_PERSON_SIG_A, seeds[0].bytes, 64);
    seed_end(&b, 5, "");
}

/* ---- edits ------------ */

static uint32_t area_len(void)
{
    return m.len >= DBE_HEADER_BYTES ? base_get_u32(m.bytes + 24) : 0;
}

/* TLVs that lie in the area and in the message. */
static void find_tlvs(void)
{
    size_t at = AREA_AT, end = BASE_MIN(m.len, AREA_AT + (size_t)area_len());

    for (m.tlvs = 0; m.tlvs < TLVS && at + 4 <= end; m.tlvs++) {
        m.tlv[m.tlvs] = at;
        at += 4 + (size_t)base_get_u16(m.bytes + at + 2);
        if (at > end)
            break;
    }
}

static size_t tlv_end(size_t at)
{
    return BASE_MIN(m.len, at + 4 + base_get_u16(m.bytes + at + 2));
}

/* Room of `len` bytes at `at`, and the header told, if it is a TLV's. */
static bool open_gap(size_t at, size_t len, bool in_area)
{
    if (m.len + len > ROOM || m.len < DBE_HEADER_BYTES)
        return false;
    memmove(m.bytes + at + len, m.bytes + at, m.len - at);
    m.len += len;
    if (in_area)
        base_put_u32(m.bytes + 24, area_len() + (uint32_t)len);
    return true;
}

static uint16_t some_type(void)
{
    static const uint16_t odd[] = {0, 0x14, 0x1F, 0x20, 0x3F, 0x40, 0x7000, 0x7001, 0x7FFF, 0x8000, 0x8001, 0xFFFF};

    return (uint16_t)(below(3) > 0 ? 1 + below(0x13) : odd[below(BASE_ARRAY_LEN(odd))]);
}

static size_t some_len(uint16_t type)
{
    const struct dbe_tlv_row *row = dbe_reg_tlv(type);

    if (row == NULL || row->max_bytes > 300 || below(4) == 0)
        return below(20);
    switch (below(4)) {
    case 0: return row->min_bytes;
    case 1: return row->max_bytes;
    case 2: return row->min_bytes - 1U;
    default: return row->max_bytes + 1U;
    }
}

static void edit_bit(void)
{
    if (m.len > 0)
        m.bytes[below(m.len)] ^= (uint8_t)(1U << below(8));
}
static void edit_byte(void)
{
    static const uint8_t odd[] = {0, 1, 0x7F, 0x80, 0xC0, 0xED, 0xF4, 0xFF};

    if (m.len > 0)
        m.bytes[below(m.len)] = odd[below(sizeof odd)];
}
static void edit_header(void)
{
    if (m.len >= DBE_HEADER_BYTES)
        m.bytes[below(DBE_HEADER_BYTES)] ^= (uint8_t)(1U << below(8));
}
static void edit_type(void)
{
    if (m.len > 5)
        m.bytes[5] = (uint8_t)(below(2) ? 0x30 + below(2) : draw());
}
static void edit_lengths(void)
{
    static const uint32_t area[] = {0, 1, 4, 65535, 65536, 65537, UINT32_MAX};
    static const uint64_t payload[] = {0, 1, 16777215, 16777216, 16777217, UINT32_MAX, UINT64_MAX};

    if (m.len < DBE_HEADER_BYTES)
        return;
    if (below(2))
        base_put_u32(m.bytes + 24, area[below(BASE_ARRAY_LEN(area))]);
    else
        base_put_u64(m.bytes + 16, payload[below(BASE_ARRAY_LEN(payload))]);
}
static void edit_cut(void)
{
    m.len = below(m.len + 1);
}
static void edit_append(void)
{
    for (size_t n = 1 + below(8); n > 0 && m.len < ROOM; n--)
        m.bytes[m.len++] = (uint8_t)draw();
}
static void edit_tlv_type(void)
{
    if (m.tlvs > 0)
        base_put_u16(m.bytes + m.tlv[below(m.tlvs)], some_type());
}
static void edit_tlv_len(void)
{
    if (m.tlvs > 0) {
        size_t at = m.tlv[below(m.tlvs)];
        base_put_u16(m.bytes + at + 2, (uint16_t)(below(2) ? base_get_u16(m.bytes + at + 2) + below(5) - 2 : draw()));
    }
}
static void edit_tlv_insert(void)
{
    uint16_t type = some_type();
    size_t len = some_len(type), at = m.tlvs > 0 ? m.tlv[below(m.tlvs)] : AREA_AT;

    if (!open_gap(at, 4 + len, true))
        return;
    base_put_u16(m.bytes + at, type);
    base_put_u16(m.bytes + at + 2, (uint16_t)len);
    for (size_t i = 0; i < len; i++)
        m.bytes[at + 4 + i] = (uint8_t)('a' + below(26));
}
static void edit_tlv_remove(void)
{
    size_t at, end;

    if (m.tlvs == 0)
        return;
    at = m.tlv[below(m.tlvs)];
    end = tlv_end(at);
    memmove(m.bytes + at, m.bytes + end, m.len - end);
    m.len -= end - at;
    base_put_u32(m.bytes + 24, area_len() - (uint32_t)(end - at));
}
static void edit_tlv_twice(void)
{
    size_t at, len;

    if (m.tlvs == 0)
        return;
    at = m.tlv[below(m.tlvs)];
    len = tlv_end(at) - at;
    if (open_gap(at, len, true))
        memcpy(m.bytes + at, m.bytes + at + len, len);
}
/* Bytes that UTF-8 does not take, into a value. */
static void edit_text(void)
{
    static const char *const odd[] = {"\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82", "\x80", "\xC3\xA9",
                                      "\xF0\x8F\xBF\xBF", "\xEF\xBF\xBF", "\xED\x9F\xBF", "\xF5"};
    const char *text = odd[below(BASE_ARRAY_LEN(odd))];
    size_t at, len = strlen(text), value;

    if (m.tlvs == 0)
        return;
    at = m.tlv[below(m.tlvs)];
    value = tlv_end(at) - at - BASE_MIN(tlv_end(at) - at, (size_t)4);
    if (value >= len)
        memcpy(m.bytes + at + 4 + below(value - len + 1), text, len);
    else if (value > 0)
        m.bytes[at + 4 + below(value)] = 0;
}
/* The header agrees with the length again: what follows is looked at. */
static void edit_agree(void)
{
    if (m.len < DBE_HEADER_BYTES)
        return;
    if (area_len() > m.len - DBE_HEADER_BYTES)
        base_put_u32(m.bytes + 24, (uint32_t)below(m.len - DBE_HEADER_BYTES + 1));
    base_put_u64(m.bytes + 16, m.len - DBE_HEADER_BYTES - area_len());
}

static void (*const edits[])(void) = {
    edit_bit,      edit_byte,    edit_header,   edit_type,       edit_lengths,    edit_cut,       edit_append,
    edit_tlv_type, edit_tlv_len, edit_tlv_insert, edit_tlv_remove, edit_tlv_twice, edit_text, edit_agree,
};

static void mutate(void)
{
    const struct message *seed = &seeds[below(SEEDS)];

    memcpy(m.bytes, seed->bytes, seed->len);
    m.len = seed->len;
    for (size_t n = below(EDITS_MAX + 1); n > 0; n--) {
        find_tlvs();
        edits[below(BASE_ARRAY_LEN(edits))]();
    }
    if (below(2))
        edit_agree();
}

/* ---- verdict ------------ */

static void put_u16(uint16_t v)
{
    uint8_t be[2];

    base_put_u16(be, v);
    (void)fwrite(be, 1, sizeof be, stdout);
}

static void put_u32(uint32_t v)
{
    uint8_t be[4];

    base_put_u32(be, v);
    (void)fwrite(be, 1, sizeof be, stdout);
}

static void put_view(const struct dbe_msg *msg)
{
    putchar(msg->type);
    put_u16(msg->flags);
    put_u32((uint32_t)(msg->correlation_id >> 32));
    put_u32((uint32_t)msg->correlation_id);
    put_u32((uint32_t)msg->payload_len);
    put_u16(msg->tlv_count);
    for (size_t i = 0; i < msg->tlv_count; i++) {
        put_u16(msg->tlvs[i].type);
        put_u16(msg->tlvs[i].len);
        put_u32((uint32_t)(msg->tlvs[i].value - msg->bytes));
    }
}

static void put_verdict(void)
{
    struct dbe_msg msg;
    struct dbe_diag diag = {0};
    dbe_err err = dbe_msg_decode(m.bytes, m.len, &msg, &diag);
    const char *clause = err != DBE_OK ? diag.clause : "";

    put_u32((uint32_t)m.len);
    (void)fwrite(m.bytes, 1, m.len, stdout);
    put_u16((uint16_t)err);
    put_u32((uint32_t)diag.offset);
    putchar((int)strlen(clause));
    fputs(clause, stdout);
    if (err == DBE_OK)
        put_view(&msg);
}

int main(int argc, char **argv)
{
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    make_seeds();
    for (uint64_t i = 0; i < count && !ferror(stdout); i++) {
        mutate();
        put_verdict();
    }
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
