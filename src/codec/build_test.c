/* SPDX-License-Identifier: Apache-2.0
 *
 * build_test.c - the builder writes what the decoder reads, refuses what it would refuse, and never leaves its memory.
 */
#include "base/test.h"

#include <string.h>

#include "base/base.h"
#include "dbe/msg.h"

static uint8_t mem[DBE_HEADER_BYTES + DBE_TLV_AREA_MAX_BYTES + 4096], mem2[sizeof mem];

static void start(struct dbe_builder *b, size_t cap)
{
    dbe_build_begin(b, mem, cap, DBE_MSG_L7_CHAT_REQ, DBE_FLAG_REPLAY_PROTECTED, 0x1122334455667788);
}

/* One of each setter. */
static dbe_err build_rich(size_t cap, size_t *ret_len)
{
    static const uint8_t id[16] = {0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88};
    struct dbe_builder b;

    start(&b, cap);
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, id, sizeof id);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, "acme");
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, DBE_COMPARTMENT_SOC);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, DBE_CLSF_SECRET);
    dbe_build_u64(&b, DBE_TLV_SEQUENCE_NUM, UINT64_MAX);
    dbe_build_timestamp_ms(&b, 1700000000000);
    dbe_build_layer_path(&b, NULL, 7);
    dbe_build_hops(&b, NULL, &(struct dbe_hop){47, 1000, 1});
    dbe_build_bytes(&b, 0x7001, "keep", 4);
    dbe_build_bytes(&b, 0x7002, NULL, 0);
    dbe_build_payload(&b, "payload", 7);
    return dbe_build_end(&b, ret_len);
}

static void what_is_built_decodes(void **state)
{
    struct dbe_msg msg;
    uint64_t u64;
    size_t len;

    (void)state;
    assert_int_equal(build_rich(sizeof mem, &len), DBE_OK);
    assert_int_equal(dbe_msg_decode(mem, len, &msg, NULL), DBE_OK);
    assert_true(msg.correlation_id == dbe_correlation_of(dbe_tlv_find(&msg, DBE_TLV_REQUEST_ID)->value)); /* spec 3.7 */
    assert_int_equal(msg.tlv_count, 10);
    assert_int_equal(dbe_tlv_u64(&msg, DBE_TLV_SEQUENCE_NUM, &u64), DBE_OK);
    assert_true(u64 == UINT64_MAX);
    assert_int_equal(dbe_tlv_timestamp_ms(&msg, &u64), DBE_OK);
    assert_true(u64 == 1700000000000);
    assert_memory_equal(msg.payload, "payload", 7);
}

/* At every capacity: it fits exactly from the full length on, and nothing beyond the capacity is touched. */
static void every_capacity(void **state)
{
    size_t full, len = 77;

    (void)state;
    assert_int_equal(build_rich(sizeof mem, &full), DBE_OK);
    for (size_t cap = 0; cap < full; cap++) {
        memset(mem, 0x5A, sizeof mem);
        assert_int_equal(build_rich(cap, &len), DBE_E_TOO_LARGE);
        assert_int_equal(len, 77);
        assert_int_equal(mem[cap], 0x5A);
    }
    assert_int_equal(build_rich(full, &len), DBE_OK);
    assert_int_equal(len, full);
}

static void make_unknown_type(struct dbe_builder *b)
{
    dbe_build_begin(b, mem, sizeof mem, 0x99, 0, 0);
}
static void make_unknown_flag(struct dbe_builder *b)
{
    dbe_build_begin(b, mem, sizeof mem, DBE_MSG_ERROR, 0x8000, 0);
}
static void make_duplicate(struct dbe_builder *b)
{
    dbe_build_u8(b, DBE_TLV_ROE_LEVEL, 1);
    dbe_build_u8(b, DBE_TLV_ROE_LEVEL, 1);
}
static void make_unknown_duplicate(struct dbe_builder *b)
{
    dbe_build_u8(b, 0x7001, 1);
    dbe_build_u8(b, DBE_TLV_ROE_LEVEL, 1);
    dbe_build_u8(b, 0x7001, 1);
}
static void make_wrong_width(struct dbe_builder *b)
{
    dbe_build_u8(b, DBE_TLV_COMPARTMENT_MASK, 1);
}
static void make_type_zero(struct dbe_builder *b)
{
    dbe_build_u8(b, 0, 1);
}
static void make_bad_text(struct dbe_builder *b)
{
    dbe_build_text(b, DBE_TLV_TENANT_ID, "\xFF");
}
static void make_empty_text(struct dbe_builder *b)
{
    dbe_build_text(b, DBE_TLV_TENANT_ID, "");
}
static void make_late_tlv(struct dbe_builder *b)
{
    dbe_build_payload(b, "x", 1);
    dbe_build_u8(b, DBE_TLV_ROE_LEVEL, 1);
}
static void make_two_payloads(struct dbe_builder *b)
{
    dbe_build_payload(b, "x", 1);
    dbe_build_payload(b, "x", 1);
}
static void make_late_date(struct dbe_builder *b)
{
    dbe_build_timestamp_ms(b, UINT64_C(1) << 48);
}
static void make_many_tlvs(struct dbe_builder *b)
{
    for (uint16_t i = 0; i <= DBE_TLVS_MAX; i++)
        dbe_build_u8(b, (uint16_t)(0x7000 + i), 1);
}
static void make_large_area(struct dbe_builder *b)
{
    dbe_build_bytes(b, 0x7000, mem2, UINT16_MAX);
    dbe_build_u8(b, 0x7001, 1);
}
static void make_large_tlv(struct dbe_builder *b)
{
    dbe_build_bytes(b, 0x7000, mem2, UINT16_MAX + 1);
}
static void make_large_payload(struct dbe_builder *b)
{
    b->cap = SIZE_MAX; /* nothing is written, for it is refused first */
    assert_null(dbe_build_payload_room(b, DBE_PAYLOAD_MAX_BYTES + 1));
}

/* An error sticks: the good TLV that follows each bad step does not hide it. */
static void bad_steps_are_refused(void **state)
{
    static const struct {
        void (*make)(struct dbe_builder *b);
        dbe_err err;
    } rows[] = {
        {make_unknown_type, DBE_E_RANGE},      {make_unknown_flag, DBE_E_RANGE},
        {make_duplicate, DBE_E_DUPLICATE},     {make_unknown_duplicate, DBE_E_DUPLICATE},
        {make_wrong_width, DBE_E_RANGE},       {make_type_zero, DBE_E_RANGE},
        {make_bad_text, DBE_E_UTF8},           {make_empty_text, DBE_E_RANGE},
        {make_late_tlv, DBE_E_STATE},          {make_two_payloads, DBE_E_STATE},
        {make_late_date, DBE_E_RANGE},         {make_many_tlvs, DBE_E_TOO_LARGE},
        {make_large_area, DBE_E_TOO_LARGE},    {make_large_tlv, DBE_E_TOO_LARGE},
        {make_large_payload, DBE_E_TOO_LARGE},
    };

    (void)state;
    for (size_t i = 0; i < BASE_ARRAY_LEN(rows); i++) {
        struct dbe_builder b;
        size_t len = 77;
        start(&b, sizeof mem);
        rows[i].make(&b);
        dbe_build_u8(&b, DBE_TLV_ADVISORY_FLAG, 1);
        assert_int_equal(dbe_build_end(&b, &len), rows[i].err);
        assert_int_equal(len, 77);
    }
}

/* spec 3.5: an alias is read and never written. */
static void an_alias_becomes_its_type(void **state)
{
    struct dbe_builder b;
    size_t len;

    (void)state;
    dbe_build_begin(&b, mem, sizeof mem, 0x31, 0, 1);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(len, DBE_HEADER_BYTES);
    assert_int_equal(mem[5], DBE_MSG_L7_CHAT_RESP);
}

/* spec 4.9: a forwarder keeps what it does not know, adds its layer, and replaces what is its own. */
static void forwarding_keeps_unknown_tlvs(void **state)
{
    static const uint16_t own[] = {DBE_TLV_LAYER_PATH, DBE_TLV_HOP_TRACE, DBE_TLV_CLASSIFICATION, 0};
    struct dbe_builder b;
    struct dbe_msg in, out;
    struct dbe_hop hops[DBE_HOPS_MAX];
    size_t len;

    (void)state;
    assert_int_equal(build_rich(sizeof mem, &len), DBE_OK);
    assert_int_equal(dbe_msg_decode(mem, len, &in, NULL), DBE_OK);
    dbe_build_begin(&b, mem2, sizeof mem2, in.type, in.flags, in.correlation_id);
    dbe_build_copy_tlvs(&b, &in, own);
    dbe_build_layer_path(&b, &in, 8);
    dbe_build_hops(&b, &in, &(struct dbe_hop){43, 5, 2});
    dbe_build_payload(&b, in.payload, in.payload_len);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(dbe_msg_decode(mem2, len, &out, NULL), DBE_OK);
    assert_int_equal(out.tlv_count, in.tlv_count - 1);
    assert_null(dbe_tlv_find(&out, DBE_TLV_CLASSIFICATION));
    assert_memory_equal(dbe_tlv_find(&out, 0x7001)->value, "keep", 4);
    assert_int_equal(dbe_tlv_find(&out, 0x7002)->len, 0);
    assert_memory_equal(dbe_tlv_find(&out, DBE_TLV_LAYER_PATH)->value, "\x07\x08", 2);
    assert_int_equal(dbe_msg_hops(&out, hops), 2);
    assert_int_equal(hops[0].device, 47); /* spec 12.9: answering side first */
    assert_int_equal(hops[0].suite, 1);
    assert_int_equal(hops[1].device, 43);
    assert_int_equal(hops[1].suite, 2);
}

/* Each kind written is read back as its kind. */
static void every_kind_has_its_reader(void **state)
{
    static const uint8_t id[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    uint8_t layers[DBE_LAYER_PATH_MAX], uuid[16] = {0};
    struct dbe_builder b;
    struct dbe_msg msg;
    const uint8_t *bytes = NULL;
    uint16_t u16 = 99;
    size_t len = 0;

    (void)state;
    start(&b, sizeof mem);
    dbe_build_u16(&b, 0x7003, 0xABCD);
    dbe_build_uuid(&b, DBE_TLV_REQUEST_ID, id);
    dbe_build_bytes(&b, DBE_TLV_LAYER_PATH, "\x07\x08", 2);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(dbe_msg_decode(mem, len, &msg, NULL), DBE_OK);
    assert_int_equal(dbe_tlv_u16(&msg, 0x7003, &u16), DBE_OK);
    assert_int_equal(u16, 0xABCD);
    assert_int_equal(dbe_tlv_u16(&msg, 0x7004, &u16), DBE_E_NOT_FOUND);
    assert_int_equal(dbe_tlv_u16(&msg, DBE_TLV_REQUEST_ID, &u16), DBE_E_RANGE);
    assert_int_equal(dbe_tlv_uuid(&msg, DBE_TLV_REQUEST_ID, uuid), DBE_OK);
    assert_memory_equal(uuid, id, sizeof id);
    assert_int_equal(dbe_tlv_uuid(&msg, DBE_TLV_LAYER_PATH, uuid), DBE_E_RANGE);
    assert_int_equal(dbe_tlv_bytes(&msg, DBE_TLV_REQUEST_ID, &bytes, &len), DBE_OK);
    assert_true(len == 16 && bytes == dbe_tlv_find(&msg, DBE_TLV_REQUEST_ID)->value);
    assert_int_equal(dbe_tlv_bytes(&msg, DBE_TLV_TENANT_ID, &bytes, &len), DBE_E_NOT_FOUND);
    assert_int_equal(dbe_msg_layers(&msg, layers), 2);
    assert_memory_equal(layers, "\x07\x08", 2);
    assert_int_equal(build_rich(sizeof mem, &len), DBE_OK);
    dbe_build_begin(&b, mem, sizeof mem, DBE_MSG_ERROR, 0, 0);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(dbe_msg_decode(mem, len, &msg, NULL), DBE_OK);
    assert_int_equal(dbe_msg_layers(&msg, layers), 0);
}

/* Neither direction allocates. */
static void nothing_is_allocated(void **state)
{
    struct dbe_msg msg;
    size_t len = 0;

    (void)state;
    base_fail_alloc_at(1);
    assert_int_equal(build_rich(sizeof mem, &len), DBE_OK);
    assert_int_equal(dbe_msg_decode(mem, len, &msg, NULL), DBE_OK);
    assert_int_equal(base_alloc_count(), 0);
    base_fail_alloc_at(0);
}

/* Two types above the index that share their hint are still two. */
static void hints_are_only_hints(void **state)
{
    struct dbe_builder b;
    struct dbe_msg msg;
    size_t len = 0;

    (void)state;
    start(&b, sizeof mem);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, 1);
    dbe_build_u8(&b, 0x1000, 1);
    dbe_build_u8(&b, 0x0041, 1);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(dbe_msg_decode(mem, len, &msg, NULL), DBE_OK);
    assert_non_null(dbe_tlv_find(&msg, 0x0041));
    start(&b, sizeof mem);
    dbe_build_u8(&b, 0x1000, 1);
    dbe_build_u8(&b, 0x0041, 1);
    dbe_build_u8(&b, 0x0041, 1);
    assert_int_equal(dbe_build_end(&b, &len), DBE_E_DUPLICATE);
    assert_int_equal(b.err_type, 0x0041);
}

/* The builder says which TLV its error is about. */
static void the_first_error_has_its_type(void **state)
{
    struct dbe_builder b;
    size_t len = 0;

    (void)state;
    start(&b, sizeof mem);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, 1);
    dbe_build_text(&b, DBE_TLV_L7_PROFILE, "\xFF");
    dbe_build_u8(&b, DBE_TLV_COMPARTMENT_MASK, 1);
    assert_int_equal(dbe_build_end(&b, &len), DBE_E_UTF8);
    assert_int_equal(b.err_type, DBE_TLV_L7_PROFILE);
    start(&b, sizeof mem);
    dbe_build_timestamp_ms(&b, UINT64_MAX);
    assert_int_equal(b.err_type, DBE_TLV_TIMESTAMP);
}

/* spec 5.11: how a record is split. */
static void messages_back_to_back(void **state)
{
    size_t one, at = 0, len = 0;
    struct dbe_msg msg;

    (void)state;
    assert_int_equal(build_rich(sizeof mem, &one), DBE_OK);
    memcpy(mem + one, mem, one);
    memcpy(mem + 2 * one, mem, one);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(dbe_msg_peek_len(mem + at, &len), DBE_OK);
        assert_int_equal(len, one);
        assert_int_equal(dbe_msg_decode(mem + at, len, &msg, NULL), DBE_OK);
        at += len;
    }
    mem[at] = 'x';
    len = 77;
    assert_int_equal(dbe_msg_peek_len(mem + at, &len), DBE_E_MALFORMED);
    assert_int_equal(len, 77);
}

/* A message in a circle stops when its path is full. */
static void a_full_path_is_refused(void **state)
{
    uint8_t path[DBE_LAYER_PATH_MAX] = {7}, trace[DBE_HOPS_MAX * DBE_HOP_BYTES] = {43};
    struct dbe_builder b;
    struct dbe_msg msg;
    size_t len;

    (void)state;
    start(&b, sizeof mem);
    dbe_build_bytes(&b, DBE_TLV_LAYER_PATH, path, sizeof path);
    dbe_build_bytes(&b, DBE_TLV_HOP_TRACE, trace, sizeof trace);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    assert_int_equal(dbe_msg_decode(mem, len, &msg, NULL), DBE_OK);
    for (int hops = 0; hops < 2; hops++) {
        dbe_build_begin(&b, mem2, sizeof mem2, msg.type, 0, 0);
        if (hops)
            dbe_build_hops(&b, &msg, &(struct dbe_hop){1, 1, 1});
        else
            dbe_build_layer_path(&b, &msg, 1);
        assert_int_equal(dbe_build_end(&b, &len), DBE_E_TOO_LARGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_built_decodes),         cmocka_unit_test(every_capacity),
        cmocka_unit_test(bad_steps_are_refused),         cmocka_unit_test(an_alias_becomes_its_type),
        cmocka_unit_test(forwarding_keeps_unknown_tlvs), cmocka_unit_test(a_full_path_is_refused),
        cmocka_unit_test(every_kind_has_its_reader),     cmocka_unit_test(the_first_error_has_its_type),
        cmocka_unit_test(messages_back_to_back),         cmocka_unit_test(hints_are_only_hints),
        cmocka_unit_test(nothing_is_allocated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
