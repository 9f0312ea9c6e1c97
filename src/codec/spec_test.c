/* SPDX-License-Identifier: Apache-2.0
 *
 * spec_test.c - annex A of docs/spec/dbe-v1.md is the message that the builder writes, and its table is true of every
 * byte. `test_codec_spec --print` prints both as they must stand in the annex. In: DSMIL_SOURCE_ROOT.
 */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "dbe/msg.h"
#include "dsmil.pb-c.h"

enum { SPEC_MAX_BYTES = 1 << 20, ROW_BYTES = 16, EXAMPLE_MAX = 512 };

static const uint8_t request_id[16] = {0x5f, 0x0c, 0x1b, 0x1e, 0x27, 0x33, 0x4d, 0x0a,
                                       0x9b, 0x62, 0x0e, 0x6f, 0x3a, 0x51, 0xc4, 0xd7};

/* The example: the shim asks the router. Payload by protobuf-c, everything else by the builder. */
static size_t example(uint8_t out[EXAMPLE_MAX])
{
    Dsmil__ChatMessage said = DSMIL__CHAT_MESSAGE__INIT, *messages[] = {&said};
    Dsmil__L7ChatRequest request = DSMIL__L7_CHAT_REQUEST__INIT;
    struct dbe_builder b;
    void *room;
    size_t len = 0;

    said.role = (char *)"user";
    said.content = (char *)"What is DSMIL?";
    request.messages = messages;
    request.n_messages = 1;
    dbe_build_begin(&b, out, EXAMPLE_MAX, DBE_MSG_L7_CHAT_REQ, DBE_FLAG_REPLAY_PROTECTED,
                    dbe_correlation_of(request_id));
    dbe_build_bytes(&b, DBE_TLV_REQUEST_ID, request_id, sizeof request_id);
    dbe_build_text(&b, DBE_TLV_TENANT_ID, "acme");
    dbe_build_u32(&b, DBE_TLV_COMPARTMENT_MASK, DBE_COMPARTMENT_SOC);
    dbe_build_u8(&b, DBE_TLV_CLASSIFICATION, DBE_CLSF_SECRET);
    dbe_build_u8(&b, DBE_TLV_ROE_LEVEL, DBE_ROE_ANALYSIS_ONLY);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_SRC, 0);
    dbe_build_u8(&b, DBE_TLV_DEVICE_ID_DST, 43);
    dbe_build_layer_path(&b, NULL, 7);
    dbe_build_timestamp_ms(&b, 1700000000000);
    dbe_build_u32(&b, DBE_TLV_TIMEOUT_MS, 60000);
    room = dbe_build_payload_room(&b, dsmil__l7_chat_request__get_packed_size(&request));
    assert_non_null(room);
    dsmil__l7_chat_request__pack(&request, room);
    assert_int_equal(dbe_build_end(&b, &len), DBE_OK);
    return len;
}

static void print_bytes(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        printf("%02X%s", p[i], i + 1 == len ? "" : " ");
}

static void print_annex(void)
{
    static const struct {
        size_t at, len;
        const char *name;
    } header[] = {{0, 4, "magic"},          {4, 1, "version"},      {5, 1, "msg_type"}, {6, 2, "flags"},
                  {8, 8, "correlation_id"}, {16, 8, "payload_len"}, {24, 4, "tlv_len"}, {28, 4, "reserved"}};
    uint8_t out[EXAMPLE_MAX];
    size_t len = example(out);
    struct dbe_msg msg;

    assert_int_equal(dbe_msg_decode(out, len, &msg, NULL), DBE_OK);
    printf("```\n");
    for (size_t at = 0; at < len; at += ROW_BYTES) {
        print_bytes(out + at, BASE_MIN(len - at, (size_t)ROW_BYTES));
        printf("\n");
    }
    printf("```\n\n| offset | bytes | field |\n|---|---|---|\n");
    for (size_t i = 0; i < BASE_ARRAY_LEN(header); i++) {
        printf("| %zu | `", header[i].at);
        print_bytes(out + header[i].at, header[i].len);
        printf("` | %s |\n", header[i].name);
    }
    for (size_t i = 0; i < msg.tlv_count; i++) {
        const uint8_t *p = msg.tlvs[i].value - DBE_TLV_HEADER_BYTES;
        printf("| %zu | `", (size_t)(p - out));
        print_bytes(p, DBE_TLV_HEADER_BYTES + (size_t)msg.tlvs[i].len);
        printf("` | TLV %s |\n", dbe_reg_tlv(msg.tlvs[i].type)->name);
    }
    printf("| %zu | `", (size_t)(msg.payload - out));
    print_bytes(msg.payload, msg.payload_len);
    printf("` | payload |\n");
}

/* Annex A of the specification as text; free with base_buf_free. */
static const char *annex_a(struct base_buf *spec)
{
    char path[4096];
    const char *root = getenv("DSMIL_SOURCE_ROOT"), *text;
    struct dbe_diag diag = {0};
    char *end;

    snprintf(path, sizeof path, "%s/docs/spec/dbe-v1.md", root != NULL ? root : ".");
    if (base_file_read(path, SPEC_MAX_BYTES, spec, &diag) != DBE_OK)
        fail_msg("%s", diag.text);
    text = strstr(base_buf_cstr(spec), "\n## Annex A");
    assert_non_null(text);
    end = strstr(text, "\n## Annex B");
    assert_non_null(end);
    *end = '\0';
    return text;
}

/* Hex bytes from `text` until something that is neither hex nor blank. */
static size_t read_hex(const char *text, uint8_t *out, size_t cap)
{
    size_t len = 0;
    char pair[3] = "";

    for (;;) {
        text += strspn(text, " \n");
        memcpy(pair, text, strnlen(text, 2));
        if (len == cap || base_unhex(pair, out + len, 1) != DBE_OK)
            return len;
        len++;
        text += 2;
    }
}

static void the_hex_is_the_message(void **state)
{
    struct base_buf spec = {0};
    uint8_t built[EXAMPLE_MAX], printed[EXAMPLE_MAX];
    const char *fence = strstr(annex_a(&spec), "\n```\n");
    size_t len = example(built);
    struct dbe_msg msg;
    uint32_t u32 = 0;
    uint8_t u8 = 0;
    char tenant[DBE_TENANT_MAX_BYTES + 1];

    (void)state;
    assert_non_null(fence);
    assert_int_equal(read_hex(fence + 5, printed, sizeof printed), len);
    assert_memory_equal(printed, built, len);
    assert_int_equal(dbe_msg_decode(printed, len, &msg, NULL), DBE_OK);
    assert_true(msg.correlation_id == 0x5f0c1b1e27334d0a); /* spec 3.7 */
    assert_int_equal(dbe_tlv_text(&msg, DBE_TLV_TENANT_ID, tenant, sizeof tenant), DBE_OK);
    assert_string_equal(tenant, "acme");
    assert_int_equal(dbe_tlv_u32(&msg, DBE_TLV_TIMEOUT_MS, &u32), DBE_OK);
    assert_int_equal(u32, 60000);
    assert_int_equal(dbe_tlv_u8(&msg, DBE_TLV_DEVICE_ID_DST, &u8), DBE_OK);
    assert_int_equal(u8, 43);
    base_buf_free(&spec);
}

/* Rows follow each other without a gap and end where the message ends. */
static void the_table_covers_every_byte(void **state)
{
    struct base_buf spec = {0};
    uint8_t built[EXAMPLE_MAX], row[EXAMPLE_MAX];
    size_t len = example(built), at = 0;

    (void)state;
    for (const char *p = strstr(annex_a(&spec), "\n| 0 | `"); p != NULL && p[1] == '|'; p = strchr(p + 1, '\n')) {
        const char *hex = strchr(p, '`');
        size_t got;
        assert_int_equal(strtoul(p + 3, NULL, 10), at);
        assert_non_null(hex);
        got = read_hex(hex + 1, row, sizeof row);
        assert_true(got > 0 && got <= len - at);
        assert_memory_equal(row, built + at, got);
        at += got;
    }
    assert_int_equal(at, len);
    base_buf_free(&spec);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hex_is_the_message),
        cmocka_unit_test(the_table_covers_every_byte),
    };

    if (argc > 1 && strcmp(argv[1], "--print") == 0) {
        print_annex();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
