/* SPDX-License-Identifier: Apache-2.0
 *
 * decode_test.c - every rule of the header and the TLV area as one row: bytes in, error, clause and offset out.
 */
#include "base/test.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "dbe/msg.h"

/* A message written by hand, so that the decoder is not tested with its own encoder. */
struct raw {
    uint8_t bytes[DBE_HEADER_BYTES + DBE_TLV_AREA_MAX_BYTES + 4096];
    size_t len;
};

/* Header of a chat request, `tlv_len` bytes of TLVs and `payload_len` of payload. */
static void raw_start(struct raw *m, const void *tlvs, size_t tlv_len, size_t payload_len)
{
    static const uint8_t head[] = {'D', 'S', 'M', 'I', 1, 0x41, 0x00, 0x04, 1, 2, 3, 4, 5, 6, 7, 8};

    memset(m, 0, sizeof *m);
    memcpy(m->bytes, head, sizeof head);
    base_put_u64(m->bytes + 16, payload_len);
    base_put_u32(m->bytes + 24, (uint32_t)tlv_len);
    if (tlv_len > 0)
        memcpy(m->bytes + DBE_HEADER_BYTES, tlvs, tlv_len);
    memset(m->bytes + DBE_HEADER_BYTES + tlv_len, 'p', payload_len);
    m->len = DBE_HEADER_BYTES + tlv_len + payload_len;
}

static struct raw raw;

static void expect(const struct raw *m, dbe_err err, const char *clause, size_t offset)
{
    struct dbe_msg msg, before;
    struct dbe_diag diag = {0};
    uint8_t *exact = malloc(m->len > 0 ? m->len : 1); /* so that a sanitizer sees one byte too many */

    memset(&msg, 0x5A, sizeof msg);
    before = msg;
    memcpy(exact, m->bytes, m->len);
    assert_int_equal(dbe_msg_decode(exact, m->len, &msg, NULL), err);
    assert_int_equal(dbe_msg_decode(exact, m->len, &msg, &diag), err);
    if (err != DBE_OK) {
        assert_string_equal(diag.clause, clause);
        assert_int_equal(diag.offset, offset);
        assert_true(diag.text[0] != '\0');
        assert_memory_equal(&msg, &before, sizeof msg);
    }
    free(exact);
}

/* One byte of a good header replaced. */
static void headers(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
        dbe_err err;
        const char *clause;
        size_t offset;
    } rows[] = {
        {0, 'd', DBE_E_MALFORMED, "spec 3.3", 0},    /* spec 3.3 */
        {3, 'J', DBE_E_MALFORMED, "spec 3.3", 0},    /* spec 3.3 */
        {4, 0, DBE_E_UNSUPPORTED, "spec 3.4", 4},    /* spec 3.4 */
        {4, 2, DBE_E_UNSUPPORTED, "spec 3.4", 4},    /* spec 3.4 */
        {5, 0x00, DBE_E_UNSUPPORTED, "spec 3.5", 5}, /* spec 3.5 */
        {5, 0x60, DBE_E_UNSUPPORTED, "spec 3.5", 5}, /* spec 3.5 */
        {5, 0x31, DBE_OK, NULL, 0},                  /* spec 3.5, alias */
        {5, 0xFF, DBE_OK, NULL, 0},                  /* spec 3.5 */
        {6, 0x80, DBE_E_RANGE, "spec 3.6", 6},       /* spec 3.6 */
        {7, 0x10, DBE_E_RANGE, "spec 3.6", 6},       /* spec 3.6 */
        {7, 0x0F, DBE_OK, NULL, 0},                  /* spec 3.6 */
        {15, 0xFF, DBE_OK, NULL, 0},                 /* spec 3.7 */
        {16, 0x80, DBE_E_TOO_LARGE, "spec 3.8", 16}, /* spec 3.8 */
        {20, 0x02, DBE_E_TOO_LARGE, "spec 3.8", 16}, /* spec 3.8: 32 MiB */
        {23, 11, DBE_E_MALFORMED, "spec 3.11", 16},  /* spec 3.11: one byte too few came */
        {23, 9, DBE_E_MALFORMED, "spec 3.11", 16},   /* spec 3.11: one byte too many came */
        {24, 0x80, DBE_E_TOO_LARGE, "spec 3.9", 24}, /* spec 3.9 */
        {25, 0x02, DBE_E_TOO_LARGE, "spec 3.9", 24}, /* spec 3.9: 128 KiB */
        {27, 1, DBE_E_MALFORMED, "spec 3.11", 16},   /* spec 3.11 */
        {28, 1, DBE_E_MALFORMED, "spec 3.10", 28},   /* spec 3.10 */
        {31, 1, DBE_E_MALFORMED, "spec 3.10", 28},   /* spec 3.10 */
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        raw_start(&raw, NULL, 0, 10);
        expect(&raw, DBE_OK, NULL, 0);
        raw.bytes[rows[i].at] = rows[i].value;
        expect(&raw, rows[i].err, rows[i].clause, rows[i].offset);
    }
}

/* TLV areas, as bytes; offsets of the diagnostic count from the start of the message. */
#define AREA(...) {__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})
static void areas(void **state)
{
    static const struct {
        uint8_t area[16];
        size_t len;
        dbe_err err;
        const char *clause;
        size_t offset;
    } rows[] = {
        {AREA(0, 3, 0, 1, 2), DBE_OK, NULL, 0},
        /* spec 4.1: a TLV is whole and ends inside the area */
        {AREA(0), DBE_E_MALFORMED, "spec 4.1", 32},
        {AREA(0, 3, 0), DBE_E_MALFORMED, "spec 4.1", 32},
        {AREA(0, 3, 0, 1), DBE_E_MALFORMED, "spec 4.1", 32},
        {AREA(0, 3, 0, 1, 2, 0), DBE_E_MALFORMED, "spec 4.1", 37},
        {AREA(0, 3, 0, 1, 2, 0, 6, 0, 2, 1), DBE_E_MALFORMED, "spec 4.1", 37},
        {AREA(0, 1, 0xFF, 0xFF, 'a'), DBE_E_MALFORMED, "spec 4.1", 32},
        /* spec 4.3: type 0 */
        {AREA(0, 0, 0, 0), DBE_E_MALFORMED, "spec 4.3", 32},
        /* spec 4.4: once */
        {AREA(0, 3, 0, 1, 2, 0, 3, 0, 1, 2), DBE_E_DUPLICATE, "spec 4.4", 37},
        {AREA(0x40, 3, 0, 0, 0, 3, 0, 1, 2, 0x40, 3, 0, 0), DBE_E_DUPLICATE, "spec 4.4", 41},
        {AREA(0, 31, 0, 0, 0, 31, 0, 0), DBE_E_DUPLICATE, "spec 4.4", 36},
        {AREA(0, 31, 0, 0, 0, 32, 0, 0), DBE_OK, NULL, 0},
        {AREA(0, 32, 0, 0, 0, 32, 0, 0), DBE_E_DUPLICATE, "spec 4.4", 36},
        {AREA(0x10, 0x00, 0, 0, 0x00, 0x41, 0, 0), DBE_OK, NULL, 0}, /* one hint, two types */
        /* spec 4.5: widths */
        {AREA(0, 2, 0, 3, 0, 0, 1), DBE_E_RANGE, "spec 4.5", 32},
        {AREA(0, 2, 0, 5, 0, 0, 0, 0, 1), DBE_E_RANGE, "spec 4.5", 32},
        {AREA(0, 2, 0, 4, 0, 0, 0, 1), DBE_OK, NULL, 0},
        {AREA(0, 3, 0, 0), DBE_E_RANGE, "spec 4.5", 32},
        {AREA(0, 1, 0, 0), DBE_E_RANGE, "spec 4.5", 32},
        {AREA(0, 8, 0, 7, 0, 0, 0, 0, 0, 0, 0), DBE_E_RANGE, "spec 4.5", 32},
        {AREA(0, 5, 0, 1, 9), DBE_E_RANGE, "spec 4.5", 32},
        {AREA(0, 15, 0, 1, 9), DBE_E_RANGE, "spec 4.5", 32},
        /* spec 4.6: text */
        {AREA(0, 1, 0, 2, 0xC3, 0xA9), DBE_OK, NULL, 0},
        {AREA(0, 1, 0, 1, 0xC3), DBE_E_UTF8, "spec 4.6", 32},
        {AREA(0, 1, 0, 2, 'a', 0), DBE_E_UTF8, "spec 4.6", 32},
        {AREA(0, 13, 0, 3, 0xED, 0xA0, 0x80), DBE_E_UTF8, "spec 4.6", 32},
        {AREA(0, 13, 0, 2, 0xC0, 0x80), DBE_E_UTF8, "spec 4.6", 32},
        /* spec 4.7: hop records are whole */
        {AREA(0, 17, 0, 7, 43, 0, 0, 0, 9, 0, 1), DBE_OK, NULL, 0},
        {AREA(0, 17, 0, 8, 43, 0, 0, 0, 9, 0, 1, 47), DBE_E_RANGE, "spec 4.7", 32},
        /* spec 4.8 and 4.9: unknown types */
        {AREA(0x80, 0, 0, 0), DBE_E_CRITICAL_TLV, "spec 4.8", 32},
        {AREA(0xFF, 0xFF, 0, 1, 0), DBE_E_CRITICAL_TLV, "spec 4.8", 32},
        {AREA(0x7F, 0xFF, 0, 1, 0), DBE_OK, NULL, 0},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        raw_start(&raw, rows[i].area, rows[i].len, i % 2);
        expect(&raw, rows[i].err, rows[i].clause, rows[i].offset);
    }
}

/* spec 3.12: everything is wrong, and one thing after the other is mended. */
static void the_first_broken_rule_counts(void **state)
{
    static const struct {
        size_t at;
        uint8_t mended;
        dbe_err err;
        const char *clause;
    } rows[] = {
        {0, 'D', DBE_E_MALFORMED, "spec 3.3"},    {4, 1, DBE_E_UNSUPPORTED, "spec 3.4"},
        {28, 0, DBE_E_MALFORMED, "spec 3.10"},    {16, 0, DBE_E_TOO_LARGE, "spec 3.8"},
        {24, 0, DBE_E_TOO_LARGE, "spec 3.9"},     {5, 0x41, DBE_E_UNSUPPORTED, "spec 3.5"},
        {6, 0, DBE_E_RANGE, "spec 3.6"},          {23, 0, DBE_E_MALFORMED, "spec 3.11"},
        {27, 4, DBE_E_MALFORMED, "spec 3.11"},    {33, 3, DBE_E_MALFORMED, "spec 4.3"},
    };
    struct dbe_msg msg;
    struct dbe_diag diag = {0};

    (void)state;
    raw_start(&raw, "\0\0\0\0", 4, 0);
    raw.bytes[0] = raw.bytes[4] = raw.bytes[5] = raw.bytes[16] = raw.bytes[24] = raw.bytes[28] = 0x99;
    raw.bytes[6] = 0x80;
    raw.bytes[23] = raw.bytes[27] = 9;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        assert_int_equal(dbe_msg_decode(raw.bytes, raw.len, &msg, &diag), rows[i].err);
        assert_string_equal(diag.clause, rows[i].clause);
        raw.bytes[rows[i].at] = rows[i].mended;
    }
    assert_int_equal(dbe_msg_decode(raw.bytes, raw.len, &msg, &diag), DBE_E_RANGE); /* CLASSIFICATION of no bytes */
    assert_string_equal(diag.clause, "spec 4.5");
}

/* spec 4.12: what a value means is not judged here. */
static void meaning_is_not_judged(void **state)
{
    static const uint8_t area[] = {0, 3, 0, 1, 99, 0, 2, 0, 4, 0xFF, 0xFF, 0xFF, 0xFF, 0, 6, 0, 1, 250, 0, 14, 0, 1, 0};

    (void)state;
    raw_start(&raw, area, sizeof area, 0);
    expect(&raw, DBE_OK, NULL, 0);
}

/* Every known type at its shortest, its longest, and one byte beyond both (spec 4.5). */
static void every_type_at_its_edges(void **state)
{
    static uint8_t area[DBE_TLV_HEADER_BYTES + 20000];

    (void)state;
    for (uint32_t type = 1; type <= 0xFFFF; type++) {
        const struct dbe_tlv_row *row = dbe_reg_tlv((uint16_t)type);
        size_t lens[4];
        if (row == NULL)
            continue;
        lens[0] = row->min_bytes;
        lens[1] = row->max_bytes;
        lens[2] = row->min_bytes - 1U;
        lens[3] = row->max_bytes + 1U;
        memset(area, 'a', sizeof area);
        base_put_u16(area, (uint16_t)type);
        for (size_t i = 0; i < 4; i++) {
            base_put_u16(area + 2, (uint16_t)lens[i]);
            raw_start(&raw, area, DBE_TLV_HEADER_BYTES + lens[i], 0);
            expect(&raw, i < 2 ? DBE_OK : DBE_E_RANGE, "spec 4.5", 32);
        }
    }
}

/* A message with a bit of everything. */
static void raw_rich(struct raw *m)
{
    static const uint8_t area[] = {
        0,    1,    0, 4,  'a',  'c',  'm',  'e',                           /* TENANT_ID */
        0,    2,    0, 4,  0,    0,    0,    3,                             /* COMPARTMENT_MASK */
        0x12, 0x34, 0, 2,  0xAB, 0xCD,                                      /* unknown */
        0,    3,    0, 1,  2,                                               /* CLASSIFICATION */
        0,    4,    0, 2,  7,    8,                                         /* LAYER_PATH */
        0,    8,    0, 8,  0x01, 0x8B, 0xCF, 0xE5, 0x68, 0,  0x80, 0,       /* TIMESTAMP, and a half */
        0,    12,   0, 8,  0,    0,    0,    1,    0,    0,  0,    2,       /* SEQUENCE_NUM */
        0,    17,   0, 14, 47,   0,    0,    1,    0,    0,  1,             /* HOP_TRACE */
        43,   0,    0, 0,  9,    1,    2,                                   /* its second record */
    };

    raw_start(m, area, sizeof area, 5);
}

static void values_are_read(void **state)
{
    struct dbe_msg msg;
    struct dbe_hop hops[DBE_HOPS_MAX];
    char text[8] = "before";
    uint8_t u8 = 99;
    uint32_t u32 = 99;
    uint64_t u64 = 99;

    (void)state;
    raw_rich(&raw);
    assert_int_equal(dbe_msg_decode(raw.bytes, raw.len, &msg, NULL), DBE_OK);
    assert_int_equal(msg.type, DBE_MSG_L7_CHAT_REQ);
    assert_int_equal(msg.flags, DBE_FLAG_REPLAY_PROTECTED);
    assert_true(msg.correlation_id == 0x0102030405060708);
    assert_int_equal(msg.tlv_count, 8);
    assert_memory_equal(msg.payload, "ppppp", msg.payload_len);
    assert_ptr_equal(msg.payload + msg.payload_len, raw.bytes + raw.len);
    assert_int_equal(dbe_tlv_text(&msg, DBE_TLV_TENANT_ID, text, 4), DBE_E_TOO_LARGE);
    assert_string_equal(text, "before");
    assert_int_equal(dbe_tlv_text(&msg, DBE_TLV_TENANT_ID, text, 5), DBE_OK);
    assert_string_equal(text, "acme");
    assert_int_equal(dbe_tlv_text(&msg, DBE_TLV_COMPARTMENT_MASK, text, sizeof text), DBE_E_UTF8);
    assert_int_equal(dbe_tlv_u32(&msg, DBE_TLV_COMPARTMENT_MASK, &u32), DBE_OK);
    assert_int_equal(u32, DBE_COMPARTMENT_SOC | DBE_COMPARTMENT_DEV);
    assert_int_equal(dbe_tlv_u8(&msg, DBE_TLV_ROE_LEVEL, &u8), DBE_E_NOT_FOUND);
    assert_int_equal(dbe_tlv_u8(&msg, 0x1234, &u8), DBE_E_RANGE); /* its width is not known */
    assert_int_equal(u8, 99);
    assert_int_equal(dbe_tlv_u8(&msg, DBE_TLV_CLASSIFICATION, &u8), DBE_OK);
    assert_int_equal(u8, DBE_CLSF_SECRET);
    assert_int_equal(dbe_tlv_u64(&msg, DBE_TLV_SEQUENCE_NUM, &u64), DBE_OK);
    assert_true(u64 == 0x0000000100000002);
    assert_int_equal(dbe_tlv_timestamp_ms(&msg, &u64), DBE_OK);
    assert_true(u64 == 1700000000000); /* spec 4.10: the half millisecond goes */
    assert_int_equal(dbe_msg_hops(&msg, hops), 2);
    assert_int_equal(hops[0].device, 47);
    assert_int_equal(hops[0].elapsed_us, 256);
    assert_int_equal(hops[0].suite, 1);
    assert_int_equal(hops[1].elapsed_us, 9);
    assert_int_equal(hops[1].suite, 0x0102);
    assert_int_equal(dbe_tlv_find(&msg, 0x1234)->len, 2);
    assert_null(dbe_tlv_find(&msg, 0x1235));
    assert_null(dbe_tlv_find(&msg, 0));
}

/* spec 3.1, 3.11 and 4.1: a message that stops early is refused wherever it stops. */
static void every_truncation_is_refused(void **state)
{
    struct dbe_msg msg;

    (void)state;
    raw_rich(&raw);
    for (size_t len = 0; len < raw.len; len++) {
        uint8_t *exact = malloc(len > 0 ? len : 1);
        memcpy(exact, raw.bytes, len);
        assert_int_equal(dbe_msg_decode(exact, len, &msg, NULL), DBE_E_MALFORMED);
        if (len >= DBE_HEADER_BYTES) { /* the same with a header that agrees: only cuts between TLVs may pass */
            size_t tlv_len = len - DBE_HEADER_BYTES;
            base_put_u64(exact + 16, 0);
            base_put_u32(exact + 24, (uint32_t)tlv_len);
            dbe_err err = dbe_msg_decode(exact, len, &msg, NULL);
            assert_true(err == DBE_E_MALFORMED || (err == DBE_OK && msg.tlv_area_len == tlv_len));
        }
        free(exact);
    }
}

/* Any single bit turned either is refused or gives a message whose parts lie inside the bytes. */
static void every_flipped_bit_is_survived(void **state)
{
    struct dbe_msg msg;
    size_t refused = 0;

    (void)state;
    raw_rich(&raw);
    for (size_t bit = 0; bit < raw.len * 8; bit++) {
        raw.bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        if (dbe_msg_decode(raw.bytes, raw.len, &msg, NULL) != DBE_OK)
            refused++;
        else
            assert_true(msg.payload + msg.payload_len == raw.bytes + raw.len && msg.tlv_count <= DBE_TLVS_MAX);
        raw.bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    assert_true(refused > 32 * 8 / 2);
}

/* spec 4.2 */
static void too_many_tlvs(void **state)
{
    uint8_t area[(DBE_TLVS_MAX + 1) * DBE_TLV_HEADER_BYTES];

    (void)state;
    for (size_t i = 0; i <= DBE_TLVS_MAX; i++) {
        base_put_u16(area + i * 4, (uint16_t)(0x1000 + i));
        base_put_u16(area + i * 4 + 2, 0);
    }
    raw_start(&raw, area, sizeof area - 4, 0);
    expect(&raw, DBE_OK, NULL, 0);
    raw_start(&raw, area, sizeof area, 0);
    expect(&raw, DBE_E_TOO_LARGE, "spec 4.2", DBE_HEADER_BYTES + sizeof area - 4);
}

/* spec 3.9 and 3.8: the largest of both pass; peek agrees with decode. */
static void the_largest_message(void **state)
{
    size_t total = DBE_MESSAGE_MAX_BYTES, peeked = 0;
    uint8_t *p = calloc(1, total);
    struct dbe_msg msg;

    (void)state;
    raw_start(&raw, NULL, 0, 0);
    memcpy(p, raw.bytes, DBE_HEADER_BYTES);
    base_put_u64(p + 16, DBE_PAYLOAD_MAX_BYTES);
    base_put_u32(p + 24, DBE_TLV_AREA_MAX_BYTES);
    for (size_t i = 0; i < 2; i++) { /* two unknown TLVs fill the area */
        uint8_t *tlv = p + DBE_HEADER_BYTES + i * (DBE_TLV_AREA_MAX_BYTES / 2);
        base_put_u16(tlv, (uint16_t)(0x2000 + i));
        base_put_u16(tlv + 2, DBE_TLV_AREA_MAX_BYTES / 2 - DBE_TLV_HEADER_BYTES);
    }
    assert_int_equal(dbe_msg_peek_len(p, &peeked), DBE_OK);
    assert_int_equal(peeked, total);
    assert_int_equal(dbe_msg_decode(p, total, &msg, NULL), DBE_OK);
    assert_int_equal(msg.tlv_count, 2);
    base_put_u64(p + 16, DBE_PAYLOAD_MAX_BYTES + 1);
    assert_int_equal(dbe_msg_peek_len(p, &peeked), DBE_E_TOO_LARGE);
    assert_int_equal(peeked, total);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers),
        cmocka_unit_test(areas),
        cmocka_unit_test(the_first_broken_rule_counts),
        cmocka_unit_test(meaning_is_not_judged),
        cmocka_unit_test(every_type_at_its_edges),
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_flipped_bit_is_survived),
        cmocka_unit_test(too_many_tlvs),
        cmocka_unit_test(the_largest_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
